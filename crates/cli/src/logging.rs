//! Logs: on standard error, through `RUST_LOG`; text on a terminal, JSON lines otherwise.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts logging at `default`, such as `warn`, unless `RUST_LOG` says otherwise. The first call in a process counts.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call finds the first one's subscriber in place: that one stays.
    let _ = if io::stderr().is_terminal() { builder.try_init() } else { builder.json().flatten_event(true).try_init() };
}
