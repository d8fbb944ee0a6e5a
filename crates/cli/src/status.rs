//! `millstream status`: what the provider's node is and does.

use millstream_types::Amount;
use serde::Serialize;

use crate::admin::{AnyStatus, NodeStatus, RelayState};
use crate::context::{self, Context};
use crate::error::CliResult;
use crate::output::{View, pairs};

/// The result: the node's own document.
#[derive(Serialize)]
#[serde(transparent)]
struct StatusView(AnyStatus);

/// Runs the command.
///
/// # Errors
/// The node does not answer.
pub async fn run(context: &Context) -> CliResult<()> {
    let status = context::admin(&context.profile()?)?.any_status().await?;
    context.output.show(&StatusView(status))
}

impl View for StatusView {
    fn table(&self) -> String {
        match &self.0 {
            AnyStatus::Ledger(status) => of_a_ledger(status),
            AnyStatus::NoLedger(status) => pairs([
                ("version", status.version.clone()),
                ("up", duration(status.uptime_secs)),
                ("chain", status.chain_id.to_string()),
                ("ledger", "none: payments of HTTP 402 only".to_owned()),
                ("operator", status.operator.to_string()),
                ("commit", status.commit.to_string()),
            ]),
        }
    }
}

fn of_a_ledger(status: &NodeStatus) -> String {
    let channels = &status.channels;
    let unsettled = channels.accepted.checked_sub(channels.settled).unwrap_or(Amount::ZERO);
    let settlement = match (status.settlement.running, &status.settlement.last) {
        (true, _) => "running".to_owned(),
        (false, Some(last)) => {
            format!("idle; the last took {} from {} channels", last.settled_total.to_tokens(), last.channels_settled)
        }
        (false, None) => "idle; none since the start".to_owned(),
    };
    pairs([
        ("version", status.version.clone()),
        ("up", duration(status.uptime_secs)),
        ("listens", status.listen.clone()),
        ("certificate", status.certificate_sha256.clone()),
        ("chain", format!("{}, block {}", status.chain_id, status.chain.block)),
        ("ledger", status.ledger.to_string()),
        ("provider", status.provider.to_string()),
        ("operator", status.operator.to_string()),
        ("token", status.token.to_string()),
        ("channels", format!("{}: {} open, {} frozen", channels.channels, channels.open, channels.frozen)),
        ("payments", channels.lines.to_string()),
        ("deposited", channels.deposited.to_tokens()),
        ("accepted", channels.accepted.to_tokens()),
        ("settled", channels.settled.to_tokens()),
        ("unsettled", unsettled.to_tokens()),
        ("refunded", channels.refunded.to_tokens()),
        ("commit", status.commit.to_string()),
        ("open epoch", format!("{}, {} frames", status.open_epoch.id, status.open_epoch.frames)),
        ("unanchored", format!("{} epochs", status.unanchored_epochs.len())),
        ("requests", format!("{} unserved", status.queue.unserved)),
        ("settlement", settlement),
        ("relaying", status.relay.as_ref().map_or_else(|| "-".to_owned(), relaying)),
    ])
}

/// What is left for others' gas, in coins of the chain.
fn relaying(relay: &RelayState) -> String {
    if !relay.enabled {
        return "off".to_owned();
    }
    // A gwei is to a coin what a nano is to a token.
    let coins = |gwei: u64| Amount::from_nanos(gwei).to_tokens();
    let left = |max: u64, spent: u64| format!("{} of {}", coins(max.saturating_sub(spent)), coins(max));
    let (hour, day) = (left(relay.hour_gwei_max, relay.hour_gwei), left(relay.day_gwei_max, relay.day_gwei));
    let counts = format!("{} in a day, {} reverted, {} pending", relay.day_relays, relay.day_reverted, relay.pending);
    format!("{hour} coins left this hour, {day} today; {counts}")
}

fn duration(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::BareStatus;
    use crate::output::{Format, render};

    const ANSWER: &str = include_str!("../tests/snapshots/status.json");

    #[test]
    fn the_table_is_as_it_was() {
        let status = serde_json::from_str(ANSWER).expect("the documented answer");
        let text = render(&StatusView(AnyStatus::Ledger(status)), Format::Table).expect("text");
        assert_eq!(text, include_str!("../tests/snapshots/status.txt").trim_end());
    }

    #[test]
    fn a_node_without_a_ledger_has_a_table_of_its_own() {
        let answer = include_str!("../tests/snapshots/status_bare.json");
        let status: BareStatus = serde_json::from_str(answer).expect("the documented answer");
        let view = StatusView(AnyStatus::NoLedger(status));
        assert_eq!(view.table(), include_str!("../tests/snapshots/status_bare.txt").trim_end());
        assert_eq!(render(&view, Format::Json).expect("text"), answer.trim_end());
    }

    #[test]
    fn the_json_is_the_nodes() {
        let status = serde_json::from_str(ANSWER).expect("the documented answer");
        assert_eq!(render(&StatusView(AnyStatus::Ledger(status)), Format::Json).expect("text"), ANSWER.trim_end());
    }

    #[test]
    fn durations_are_short() {
        let check = |secs, expected: &str| assert_eq!(duration(secs), expected);
        check(59, "59 s");
        check(61, "1 min 1 s");
        check(7_260, "2 h 1 min");
        check(200_000, "2 d 7 h");
    }
}
