//! The payer's own channels: what its state knows, and what the ledger says of them when it can be asked.

use millstream_chain::{ChannelRecord, Ledger};
use millstream_client::ChannelSummary;
use millstream_types::{Address, Amount, ChannelId, CumulativeAmount};
use serde::Serialize;
use tokio::task::JoinSet;

use super::pick::{ChannelPick, shown};
use crate::context::{self, Context};
use crate::error::{CliError, CliResult};
use crate::output::{View, columns, pairs};
use crate::payer;
use crate::profile::Profile;

/// One channel of the payer. Amounts in nanos.
#[derive(Clone, Debug, Serialize)]
struct OwnChannel {
    channel: ChannelId,
    chain_id: u64,
    ledger: Address,
    payer: Address,
    /// `open`, `closing`, `closed`, or `unknown` to the ledger; nothing when the ledger was not asked.
    status: Option<&'static str>,
    /// On the ledger; nothing when the ledger was not asked.
    deposit: Option<Amount>,
    /// Payments under a signature.
    lines: u64,
    /// What they come to.
    signed: CumulativeAmount,
    /// What the node is known to have made durable of that.
    acked: CumulativeAmount,
    /// What can still be paid; nothing when the ledger was not asked.
    available: Option<Amount>,
    unacked_frames: usize,
    /// Where the voucher key is: `stored` in the state, or `derived` from the account.
    key: &'static str,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ListView(Vec<OwnChannel>);

#[derive(Serialize)]
#[serde(transparent)]
struct ShowView(OwnChannel);

pub(super) async fn list(context: &Context) -> CliResult<()> {
    let profile = context.profile()?;
    let known = payer::open_state(&profile)?.channels()?;
    let channels = describe(context, &profile, known).await?;
    context.output.show(&ListView(channels))
}

pub(super) async fn show(context: &Context, pick: &ChannelPick) -> CliResult<()> {
    let profile = context.profile()?;
    let known = payer::open_state(&profile)?.channels()?;
    let channel = pick.among(known.iter().map(|channel| channel.terms.uid()))?;
    let known = known.into_iter().filter(|known| known.terms.uid() == channel).collect();
    match describe(context, &profile, known).await?.pop() {
        Some(found) => context.output.show(&ShowView(found)),
        None => Err(CliError::usage("channel_unknown", format!("channel {channel} is not in the state"))),
    }
}

/// Asks the profile's ledger about its channels; one that does not answer leaves its part out.
async fn describe(context: &Context, profile: &Profile, known: Vec<ChannelSummary>) -> CliResult<Vec<OwnChannel>> {
    if known.is_empty() {
        return Ok(Vec::new());
    }
    let ledger = match context::ledger(profile).await {
        Ok(ledger) => Some(ledger),
        Err(error) => {
            context.output.note(&format!("deposits are left out: {}", error.message));
            None
        }
    };
    let mut looks = JoinSet::new();
    for summary in known {
        let ledger = ledger.clone().filter(|ledger| ledger.id() == summary.terms.ledger);
        looks.spawn(async move { look(ledger, &summary).await });
    }
    let mut channels = Vec::new();
    while let Some(looked) = looks.join_next().await {
        channels.push(looked.map_err(|error| CliError::failed("internal", error.to_string()))??);
    }
    channels.sort_by_key(|channel| channel.channel);
    Ok(channels)
}

async fn look(ledger: Option<Ledger>, summary: &ChannelSummary) -> CliResult<OwnChannel> {
    let record = match ledger {
        Some(ledger) => Some(ledger.channel(summary.terms.uid()).await?),
        None => None,
    };
    Ok(own_channel(summary, record))
}

/// `record`: nothing when the ledger was not asked, nothing inside when it does not know the channel.
fn own_channel(summary: &ChannelSummary, record: Option<Option<ChannelRecord>>) -> OwnChannel {
    let signed = summary.signed.map_or(summary.acked.cumulative, |voucher| voucher.body().cumulative);
    let lines = summary.signed.map_or(summary.acked.lines_total, |voucher| voucher.body().lines_total);
    let status = record.map(|record| match record {
        None => "unknown",
        Some(ChannelRecord { closed: true, .. }) => "closed",
        Some(ChannelRecord { close_requested: true, .. }) => "closing",
        Some(_) => "open",
    });
    let deposit = record.map(|record| record.map_or(Amount::ZERO, |record| record.deposit));
    let available = match (status, deposit) {
        (Some("open"), Some(deposit)) => Some(deposit.checked_sub(signed.as_amount()).unwrap_or(Amount::ZERO)),
        (Some(_), _) => Some(Amount::ZERO),
        (None, _) => None,
    };
    OwnChannel {
        channel: summary.terms.uid(),
        chain_id: summary.terms.ledger.chain.get(),
        ledger: summary.terms.ledger.contract,
        payer: summary.terms.payer,
        status,
        deposit,
        lines,
        signed,
        acked: summary.acked.cumulative,
        available,
        unacked_frames: summary.unacked_frames,
        key: if summary.key_stored { "stored" } else { "derived" },
    }
}

fn or_dash(amount: Option<Amount>) -> String {
    amount.map_or_else(|| "-".to_owned(), Amount::to_tokens)
}

impl View for ListView {
    fn table(&self) -> String {
        if self.0.is_empty() {
            return "no channels; open one with `millstream channel open --deposit AMOUNT`".to_owned();
        }
        let rows = self.0.iter().map(|row| {
            vec![
                shown(row.channel),
                row.status.unwrap_or("-").to_owned(),
                row.lines.to_string(),
                or_dash(row.deposit),
                row.signed.as_amount().to_tokens(),
                or_dash(row.available),
                row.unacked_frames.to_string(),
            ]
        });
        columns(&["channel", "status", "payments", "deposit", "paid", "available", "unacked"], &[2, 3, 4, 5, 6], rows)
    }
}

impl View for ShowView {
    fn table(&self) -> String {
        let Self(row) = self;
        pairs([
            ("channel", row.channel.to_string()),
            ("status", row.status.unwrap_or("-").to_owned()),
            ("ledger", format!("{} on chain {}", row.ledger, row.chain_id)),
            ("payer", row.payer.to_string()),
            ("deposit", or_dash(row.deposit)),
            ("payments", row.lines.to_string()),
            ("paid", row.signed.as_amount().to_tokens()),
            ("acked", row.acked.as_amount().to_tokens()),
            ("available", or_dash(row.available)),
            ("unacked", format!("{} frames", row.unacked_frames)),
            ("voucher key", row.key.to_owned()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use millstream_billing::genesis_head;
    use millstream_types::{ChainId, LedgerId};
    use millstream_voucher::{ChannelTerms, VoucherBody};

    use super::*;
    use crate::output::{Format, render};

    fn summary(salt: u8, acked: u64) -> ChannelSummary {
        let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0xa1; 20]) };
        let terms = ChannelTerms { ledger, payer: Address::from_bytes([0xb2; 20]), key_x: [1; 32], salt: [salt; 32] };
        let (channel, cumulative) = (terms.uid(), CumulativeAmount::from_nanos(acked));
        let acked = VoucherBody { channel, lines_total: acked / 150, cumulative, bill_head: genesis_head(&channel) };
        ChannelSummary { terms, key_stored: true, signed: None, acked, unacked_frames: 0 }
    }

    fn record(closed: bool) -> ChannelRecord {
        let (payer, deposit) = (Address::from_bytes([0xb2; 20]), Amount::from_nanos(1_000_000_000));
        ChannelRecord { payer, deposit, included: true, close_requested: closed, closed }
    }

    #[test]
    fn the_list_is_as_it_was() {
        let mut channels = vec![
            own_channel(&summary(1, 60_000), Some(Some(record(false)))),
            own_channel(&summary(2, 0), Some(None)),
            own_channel(&summary(3, 150), None),
            own_channel(&summary(4, 150), Some(Some(record(true)))),
        ];
        channels.sort_by_key(|channel| channel.channel);
        let view = ListView(channels);
        assert_eq!(view.table(), include_str!("../../tests/snapshots/own_channels.txt").trim_end());
        assert_eq!(render(&view, Format::Json).expect("text"), include_str!("../../tests/snapshots/own_channels.json").trim_end());
        assert!(ListView(Vec::new()).table().starts_with("no channels"));
    }
}
