//! What can change while a node runs: when it settles, and what it relays. Everything else is what it was started with.
//!
//! A reload reads the whole configuration again, and takes it whole or not at all: one that is invalid, or that differs in what cannot change,
//! changes nothing, and says what.

use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Context;
use serde::Serialize;
use tokio::sync::watch;
use tracing::{error, info};

use crate::config::{NodeConfig, RelaySection, SettlementSection};

/// The keys that can change, or sections when they end with a dot.
const LIVE: [&str; 2] = ["settlement.", "relay."];
/// Keys of those sections that cannot: what plans moves is made once.
const FIXED: [&str; 1] = ["settlement.compact_within_settlements"];

/// Where the configuration is read from again.
type Source = Box<dyn Fn() -> anyhow::Result<NodeConfig> + Send + Sync>;

/// What changes.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) settlement: SettlementSection,
    pub(crate) relay: RelaySection,
}

impl Live {
    pub(crate) fn of(config: &NodeConfig) -> Self {
        Self { settlement: config.settlement.clone(), relay: config.relay.clone() }
    }
}

/// Takes changes of the configuration.
pub struct Reloads {
    running: Mutex<NodeConfig>,
    live: watch::Sender<Live>,
    source: OnceLock<Source>,
}

/// A reload that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// The keys whose values are others now.
    pub changed: Vec<String>,
}

impl Reloads {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self { running: Mutex::new(config.clone()), live: watch::Sender::new(Live::of(config)), source: OnceLock::new() }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// Says where the configuration is read from; the first call counts.
    pub fn read_from(&self, source: impl Fn() -> anyhow::Result<NodeConfig> + Send + Sync + 'static) {
        // A second source would be another configuration.
        let _ = self.source.set(Box::new(source));
    }

    /// Reads the configuration again and takes it. What happened is logged.
    ///
    /// # Errors
    /// It cannot be read, is invalid, or differs in what cannot change; everything is as it was.
    pub fn reload(&self) -> anyhow::Result<Reloaded> {
        let outcome = self.take();
        match &outcome {
            Ok(reloaded) => info!(changed = ?reloaded.changed, "configuration reloaded"),
            Err(refusal) => error!(refusal = format!("{refusal:#}"), "the configuration is not reloaded: everything is as it was"),
        }
        outcome
    }

    fn take(&self) -> anyhow::Result<Reloaded> {
        let source = self.source.get().context("this process was not started from a file")?;
        let config = source()?;
        config.check()?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = differences(&running, &config)?;
        let fixed: Vec<_> = changed.iter().filter(|key| !is_live(key)).map(String::as_str).collect();
        anyhow::ensure!(fixed.is_empty(), "{} cannot change while the node runs: restart it", fixed.join(", "));
        self.live.send_replace(Live::of(&config));
        *running = config;
        Ok(Reloaded { changed })
    }
}

fn is_live(key: &str) -> bool {
    LIVE.iter().any(|section| key.starts_with(section)) && !FIXED.contains(&key)
}

/// The dotted keys whose values differ, sorted.
fn differences(before: &NodeConfig, after: &NodeConfig) -> anyhow::Result<Vec<String>> {
    let [before, after] = [before, after].map(toml::Table::try_from);
    let (before, after) = (before?, after?);
    let mut keys: Vec<String> = Vec::new();
    for section in before.keys().chain(after.keys()) {
        let values = |table: &toml::Table| table.get(section).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let (before, after) = (values(&before), values(&after));
        let differs = |key: &&String| before.get(*key) != after.get(*key);
        keys.extend(before.keys().chain(after.keys()).filter(differs).map(|key| format!("{section}.{key}")));
    }
    keys.sort();
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[server]\ndata_dir = 'data'\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n\
                           [chain]\nrpc_url = 'http://127.0.0.1:8545'\nchain_id = 31337\nledger = '0x0000000000000000000000000000000000000001'\n\
                           operator_key_file = 'operator.key'\n";

    fn config(more: &str) -> NodeConfig {
        toml::from_str(&format!("{MINIMAL}{more}")).expect("a configuration")
    }

    #[test]
    fn what_can_change_does_and_what_cannot_changes_nothing() {
        let next = std::sync::Arc::new(Mutex::new(config("")));
        let reloads = Reloads::new(&config(""));
        assert!(reloads.reload().expect_err("no source").to_string().contains("not started from a file"));
        let source = std::sync::Arc::clone(&next);
        reloads.read_from(move || Ok(source.lock().expect("ours").clone()));
        let mut reload = |more: &str| {
            *next.lock().expect("ours") = config(more);
            reloads.reload().map(|reloaded| reloaded.changed).map_err(|refusal| refusal.to_string())
        };
        let changed = |keys: &[&str]| Ok(keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        assert_eq!(reload(""), changed(&[]));
        let both = "[settlement]\ninterval_secs = 60\n[relay]\nenabled = false\n";
        assert_eq!(reload(both), changed(&["relay.enabled", "settlement.interval_secs"]));
        assert_eq!((reloads.watch().borrow().settlement.interval_secs, reloads.watch().borrow().relay.enabled), (60, false));
        for (more, word) in [
            ("[settlement]\ninterval_secs = 7\ncompact_within_settlements = 1\n", "settlement.compact_within_settlements"),
            ("[settlement]\ninterval_secs = 7\n[limits]\nconnections_max = 1\n", "limits.connections_max"),
            ("[settlement]\ninterval_secs = 7\ngas_percent_max = 0\n", "gas_percent_max is 1 to 100"),
        ] {
            let refusal = reload(more).expect_err(more);
            assert!(refusal.contains(word), "{refusal}");
            assert_eq!(reloads.watch().borrow().settlement.interval_secs, 60);
        }
        assert_eq!(reload(""), changed(&["relay.enabled", "settlement.interval_secs"]));
    }
}
