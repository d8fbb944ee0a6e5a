//! Logs: on standard error, through `RUST_LOG`; text on a terminal, JSON lines otherwise.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Libraries that name an endpoint's whole address, and with it the key that it may hold. Whatever `RUST_LOG` asks for, they say nothing.
const TELLTALES: [&str; 1] = ["alloy_transport_http"];

/// Starts logging at `default`, such as `warn`, unless `RUST_LOG` says otherwise. The first call in a process counts.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let filter = filter.and(filter_fn(|metadata| !TELLTALES.iter().any(|target| metadata.target().starts_with(target))));
    let layer = fmt::layer().with_writer(io::stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> =
        if io::stderr().is_terminal() { layer.boxed() } else { layer.json().flatten_event(true).boxed() };
    // A second call finds the first one's subscriber in place: that one stays.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
