//! One replay from beginning to end.

use core::num::NonZeroU32;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::{Client, Event, Observer, PayOptions, StateDb};
use millstream_transport::CHANNELS_PER_CONNECTION;
use millstream_types::{Amount, ChannelId};
use tokio::task::JoinSet;

use super::drive::{Lane, drive};
use super::prepare::{Prepared, Ready, joined, prepare};
use super::progress::ReplayProgress;
use super::report::ReplayReport;
use super::settlement::{settle_and_check, sum};
use super::workload::Workload;
use crate::admin::Admin;
use crate::context;
use crate::error::{CliError, CliResult};
use crate::payer;
use crate::profile::Profile;
use crate::wallet::Wallet;

/// How long the node may take to see the openings at its confirmation depth.
const CONFIRM_MAX: Duration = Duration::from_secs(900);

/// What a replay pays, and how.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// The payments.
    pub workload: Arc<Workload>,
    /// Thousandths of real time; `None` pays as fast as the node takes it.
    pub speed: Option<NonZeroU32>,
    /// Payments under one signature, 1 to 1,024.
    pub lines_per_signature: usize,
    /// Whether to settle afterwards and check the result.
    pub settle: bool,
}

/// What a replay works with: the payer's account and state, the node, and the provider's admin listener when it is to settle.
pub struct ReplaySession {
    profile: Profile,
    wallet: Arc<Wallet>,
    state: StateDb,
    admin: Option<Admin>,
}

impl ReplaySession {
    /// What the profile names; the admin listener only where it is needed.
    ///
    /// # Errors
    /// The profile misses something, or the chain does not answer.
    pub async fn open(profile: &Profile, settles: bool) -> CliResult<Self> {
        let admin = if settles { Some(context::admin(profile)?) } else { None };
        let wallet = Arc::new(context::wallet(profile).await?);
        Ok(Self { profile: profile.clone(), wallet, state: payer::open_state(profile)?, admin })
    }
}

/// Opens what channels are missing, pays what is not paid yet, waits for the last ack, and settles where that is asked for. It prints nothing;
/// `progress` is kept up to date.
///
/// A replay that was stopped goes on where it stopped when it is run again with the same workload, account and ledger.
///
/// # Errors
/// What stopped it. Differing totals are no error here: see [`ReplayReport::require_holds`].
pub async fn run(session: &ReplaySession, options: &ReplayOptions, progress: &Arc<ReplayProgress>) -> CliResult<ReplayReport> {
    if options.settle && session.admin.is_none() {
        return Err(CliError::usage("admin_needed", "a replay that settles needs the node's admin listener"));
    }
    let workload = &options.workload;
    let Prepared { channels, opened } = prepare(&session.wallet, &session.state, workload).await?;
    let ids: BTreeSet<ChannelId> = channels.iter().map(|ready| ready.channel).collect();
    let (clients, lanes) = attach_all(session, channels, options.lines_per_signature, progress).await?;
    let payments_before = lanes.iter().map(|lane| lane.before.lines_total).sum();
    progress.start(payments_before);
    drive(workload, &clients, &lanes, options.speed, progress).await?;
    progress.finish();
    let done = progress.snapshot();

    let ends: Vec<_> = lanes.iter().map(|lane| (lane, lane.handle.position().acked)).collect();
    let voucher_total = sum(ends.iter().map(|(_, acked)| acked.cumulative.as_amount()))?;
    let expected_total = sum(ends.iter().map(|(lane, _)| expected(workload, lane)))?;
    let payments = ends.iter().map(|(_, acked)| acked.lines_total).sum::<u64>().saturating_sub(payments_before);
    close(clients, lanes).await;
    let settlement = match &session.admin {
        Some(admin) if options.settle => Some(settle_and_check(admin, session.wallet.ledger(), &ids, expected_total).await?),
        Some(_) | None => None,
    };
    Ok(ReplayReport {
        payments,
        payments_before,
        channels: ids.len(),
        channels_opened: opened,
        seconds: done.seconds,
        payments_per_second: if done.seconds > 0.0 { payments as f64 / done.seconds } else { 0.0 },
        ack_p50_ms: done.ack_p50_ms,
        ack_p99_ms: done.ack_p99_ms,
        ack_p999_ms: done.ack_p999_ms,
        voucher_total,
        expected_total,
        priced_total: workload.total,
        context_payments: workload.context_payments,
        generated_payments: workload.generated_payments,
        reconnects: done.reconnects,
        resent_frames: done.resent_frames,
        lines_per_signature: options.lines_per_signature,
        settlement,
    })
}

/// What a channel must have paid in the end: what the workload costs there, or more when an earlier, longer run had paid more.
fn expected(workload: &Workload, lane: &Lane) -> Amount {
    let plan = workload.paying().find(|plan| plan.index == lane.index);
    let price = plan.map_or(0, |plan| plan.total_nanos);
    Amount::from_nanos(price).max(lane.before.cumulative.as_amount())
}

/// Connects as often as the channels need, and attaches them all at once.
async fn attach_all(
    session: &ReplaySession,
    channels: Vec<Ready>,
    lines_per_signature: usize,
    progress: &Arc<ReplayProgress>,
) -> CliResult<(Vec<Client>, Vec<Lane>)> {
    let options = PayOptions { frame_lines: lines_per_signature, ..PayOptions::default() };
    let per_client = usize::try_from(CHANNELS_PER_CONNECTION).unwrap_or(usize::MAX);
    let (mut clients, mut attaches) = (Vec::new(), JoinSet::new());
    for (position, Ready { index, channel, key, deposit }) in channels.into_iter().enumerate() {
        if position % per_client == 0 {
            clients.push(payer::connect(&session.profile, session.state.clone(), Some(observer(progress))).await?);
        }
        let Some(client) = clients.last().cloned() else { continue };
        attaches.spawn(async move {
            let handle = payer::attach(&client, channel, Some(key), options, CONFIRM_MAX).await?;
            payer::await_deposit(&handle, deposit, CONFIRM_MAX).await?;
            let before = handle.position().signed;
            CliResult::Ok(Lane { handle, index, before })
        });
    }
    let mut lanes = Vec::new();
    while let Some(attached) = attaches.join_next().await {
        lanes.push(joined(attached)??);
    }
    lanes.sort_by_key(|lane| lane.index);
    Ok((clients, lanes))
}

fn observer(progress: &Arc<ReplayProgress>) -> Observer {
    let progress = Arc::clone(progress);
    Arc::new(move |event| {
        if let Event::FrameAcked(frame) = event
            // Frames of an earlier run are not this run's payments.
            && frame.since_signed.is_some()
        {
            progress.acked(frame.lines.into(), frame.since_sent);
        }
    })
}

/// Gives the channels and connections up in order; everything is acked by now.
async fn close(clients: Vec<Client>, lanes: Vec<Lane>) {
    for lane in lanes {
        if let Err(error) = lane.handle.close().await {
            tracing::warn!(%error, "a channel did not close in order");
        }
    }
    for client in clients {
        client.close().await;
    }
}
