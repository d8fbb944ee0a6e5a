//! Claims: what can be claimed is sorted out, sent in batches and followed until the chain has it, or it failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_chain::{ChainError, ErrorKind, Pace, TxReceipt, TxWatch};
use millstream_engine::Engine;
use millstream_engine::escrow::{Claim, ClaimId, Claimable, EscrowAnswer, EscrowId, EscrowInput};
use millstream_node::Stopped;
use millstream_types::{Amount, BlockNumber, EscrowChannelId, Timestamp};
use tracing::{error, info, warn};

use super::contract::Row;
use super::kept::{Of, Sent, Versions};
use super::lane::{Lane, WorkError, ended, not_sent};
use super::plan::{Batch, Occasion, Owed, plan, row_min};
use super::{ClaimedEscrow, Report, Work, Working};
use crate::lock::lock;

/// Channels that one look at the engine sees.
const PAGE: usize = 512;

/// Claims under way that are not urgent, at most.
const UNDER_WAY_MAX: usize = 8;

/// When a round that could not send everything is made again.
const RETRY: Duration = Duration::from_secs(60);

/// How long a channel whose payer is leaving is let be after a claim, while there is time.
const LEAVING_PAUSE: Duration = Duration::from_secs(60);

/// When a claim that landed, and that the chain does not tell of, is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Where a claim is.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Its transaction is followed.
    Followed,
    /// It was mined in this block, and confirmed.
    Landed { block: BlockNumber, seen_at: Instant },
}

#[derive(Default)]
struct State {
    ways: BTreeMap<ClaimId, Way>,
    /// Channels of claims that reverted though simulation took them: in how large a batch each may be next.
    doubted: BTreeMap<EscrowChannelId, usize>,
    /// Channels whose payers are leaving that were claimed on: for which deadline, and when.
    hurried: BTreeMap<EscrowChannelId, (Timestamp, Instant)>,
    /// When the next round at the interval is due.
    next_rounds: BTreeMap<EscrowId, Instant>,
}

/// What a look at an escrow found.
#[derive(Default)]
struct Look {
    /// Unclaimed over all channels, in base units.
    unclaimed: u128,
    /// When the first payer that is leaving can take something.
    nearest: Option<Timestamp>,
    owed: Vec<Owed>,
    last: Option<EscrowChannelId>,
}

/// A claim as the engine has it.
struct Known {
    id: ClaimId,
    escrow: EscrowId,
    is_landed: bool,
    transaction: Bytes,
    /// How far the chain was read.
    read: Option<BlockNumber>,
}

/// The kind of work.
pub(super) struct Claims {
    lane: Arc<Lane>,
    escrows: Arc<[ClaimedEscrow]>,
    margin: Duration,
    state: Mutex<State>,
}

impl Claims {
    pub(super) fn new(lane: Arc<Lane>, escrows: Arc<[ClaimedEscrow]>, margin: Duration) -> Arc<Self> {
        Arc::new(Self { lane, escrows, margin, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn apply(&self, input: EscrowInput) -> Result<(), Stopped> {
        if let EscrowAnswer::Rejected { rejection, .. } = self.lane.payments.apply(input).await? {
            // Somebody was faster: what it says is true all the same.
            warn!(%rejection, "the engine does not take what became of a claim");
        }
        Ok(())
    }

    /// Follows on every claim that nobody follows: of an earlier process, or one that the chain took back.
    async fn resume_all(self: &Arc<Self>) -> Result<(), WorkError> {
        let known = |engine: &Engine| -> Vec<Known> {
            let known = |claim: &Claim| Known {
                id: claim.id,
                escrow: claim.escrow,
                is_landed: claim.is_landed,
                transaction: claim.transaction.clone(),
                read: engine.escrow_cursor(claim.escrow).map(|cursor| cursor.block),
            };
            engine.escrow_claims().map(known).collect()
        };
        let known = self.lane.payments.read(known).await?;
        self.state().ways.retain(|id, _| known.iter().any(|claim| claim.id == *id));
        for claim in known {
            let way = self.state().ways.get(&claim.id).copied();
            let is_lost = match way {
                Some(Way::Followed) => continue,
                None => false,
                // Its block was read, or taken back, and its rows are still not done.
                Some(Way::Landed { block, seen_at }) => {
                    let is_read = claim.read.is_some_and(|read| read >= block) && seen_at.elapsed() >= LOOK_AGAIN;
                    if claim.is_landed && !is_read {
                        continue;
                    }
                    true
                }
            };
            if is_lost {
                warn!(claim = claim.id.0, "a claim landed, and the chain does not tell of it: it is looked for again");
                self.lane.submitter.resynchronise().await;
            }
            self.resume(claim, is_lost).await?;
        }
        Ok(())
    }

    async fn resume(self: &Arc<Self>, claim: Known, is_counted: bool) -> Result<(), WorkError> {
        let Known { id, escrow, transaction, .. } = claim;
        let Some(served) = self.escrows.iter().find(|served| served.id == escrow) else { return Ok(()) };
        let resumed = async {
            let sent = Sent::decode(&transaction).map_err(|fault| ChainError::Inconsistent { detail: fault.to_string() })?;
            let call = served.contract.claim_call(&sent.rows)?;
            let versions = Versions::new(&self.lane, Of::Claim(escrow, Some(id)), sent.clone());
            Ok((self.lane.submitter.resume(call, &sent.versions, versions).await?, sent))
        };
        match resumed.await {
            Ok((watch, sent)) => {
                info!(claim = id.0, rows = sent.rows.len(), "a claim is followed on");
                self.follow(id, sent.rows, watch, is_counted);
                Ok(())
            }
            Err::<_, ChainError>(fault) if fault.kind() == ErrorKind::Unavailable => Err(fault.into()),
            // Of another account, or not ours: nothing can be done with it. If it is mined all the same, what was claimed is passed over.
            Err(fault) => {
                error!(claim = id.0, %fault, "a claim of an earlier process cannot be followed: its rows are claimed anew");
                Ok(self.apply(EscrowInput::ClaimFailed { claim: id, row: None, reason: fault.to_string() }).await?)
            }
        }
    }

    /// Looks at what can be claimed on an escrow, a part at a time; rows only of what the occasion concerns.
    async fn look(&self, escrow: &ClaimedEscrow, occasion: Occasion) -> Result<Look, Stopped> {
        let (id, least) = (escrow.id, row_min(&self.lane.section, escrow.unit));
        let mut look = Look::default();
        loop {
            let after = look.last.take();
            let page = move |engine: &Engine| {
                let mut page = Look::default();
                for (seen, claimable) in (1..).zip(engine.claimable(id, after)) {
                    let Claimable { gain, deadline, .. } = claimable;
                    page.unclaimed = page.unclaimed.saturating_add(gain.units());
                    page.nearest = page.nearest.into_iter().chain(deadline).min();
                    if seen == PAGE {
                        page.last = Some(claimable.terms.channel);
                    }
                    if occasion.concerns(least, gain, deadline) {
                        page.owed.push(owed(&claimable));
                    }
                    if seen == PAGE {
                        break;
                    }
                }
                page
            };
            let page = self.lane.payments.read(page).await?;
            look.unclaimed = look.unclaimed.saturating_add(page.unclaimed);
            look.nearest = look.nearest.into_iter().chain(page.nearest).min();
            look.owed.extend(page.owed);
            look.last = page.last;
            if look.last.is_none() {
                return Ok(look);
            }
        }
    }

    /// Why a round is made now, as far as the clock says.
    fn occasion(&self, escrow: EscrowId, is_asked: bool) -> Occasion {
        let is_due = || self.state().next_rounds.get(&escrow).is_none_or(|at| *at <= Instant::now());
        if is_asked {
            Occasion::Asked
        } else if self.lane.section.interval_secs > 0 && is_due() {
            Occasion::Interval
        } else {
            Occasion::Leaving
        }
    }

    async fn round_of(self: &Arc<Self>, escrow: &ClaimedEscrow, is_asked: bool, report: &mut Report) -> Result<(), WorkError> {
        let section = &self.lane.section;
        let mut occasion = self.occasion(escrow.id, is_asked);
        let mut look = self.look(escrow, occasion).await?;
        let nanos = escrow.unit.nanos_down(Amount::from_units(look.unclaimed));
        let is_risky = section.risk_max_nanos > 0 && nanos >= Amount::from_nanos(section.risk_max_nanos);
        if is_risky && matches!(occasion, Occasion::Leaving | Occasion::Interval) {
            occasion = Occasion::Risk;
            look = self.look(escrow, occasion).await?;
        }
        let left_secs = match look.nearest {
            // The chain decides when a withdrawal is final, by its own time.
            Some(nearest) => {
                let head_time = self.lane.submitter.rpc().head_time().await?;
                let left = nearest.millis_since(head_time) / 1_000;
                report.nearest_secs = report.nearest_secs.into_iter().chain(Some(left)).min();
                Some(left)
            }
            None => None,
        };
        let is_pressing = left_secs.is_some_and(|left| left <= self.margin.as_secs().saturating_mul(2));
        self.let_be(&mut look.owed, is_pressing || is_asked);
        if look.owed.is_empty() {
            self.round_ended(escrow.id, occasion, true);
            return Ok(());
        }
        let market = self.lane.market(escrow.unit).await?;
        let doubted = self.state().doubted.clone();
        let batches = plan(look.owed, occasion, section, market, |channel| doubted.get(channel).copied().unwrap_or(usize::MAX));
        let mut is_done = true;
        for batch in batches {
            if !batch.is_urgent && self.state().ways.len() >= UNDER_WAY_MAX {
                is_done = false;
                break;
            }
            is_done &= self.claim(escrow, batch, report).await?;
        }
        self.round_ended(escrow.id, occasion, is_done);
        Ok(())
    }

    /// Takes off channels whose payers are leaving and that were claimed on a moment ago, unless time presses.
    fn let_be(&self, owed: &mut Vec<Owed>, is_pressing: bool) {
        let mut state = self.state();
        state.hurried.retain(|_, (_, at)| at.elapsed() < LEAVING_PAUSE);
        let is_let_be = |owed: &Owed| {
            let hurried = state.hurried.get(&owed.row.channel);
            hurried.is_some_and(|(deadline, _)| owed.deadline.is_some_and(|now| now >= *deadline))
        };
        if !is_pressing {
            owed.retain(|owed| !is_let_be(owed));
        }
    }

    fn round_ended(&self, escrow: EscrowId, occasion: Occasion, is_done: bool) {
        let pause = match (occasion, is_done) {
            (Occasion::Leaving, _) => return,
            (_, true) => Duration::from_secs(self.lane.section.interval_secs),
            (_, false) => RETRY.min(Duration::from_secs(self.lane.section.interval_secs)),
        };
        // What is beyond the clock is never.
        if let Some(at) = Instant::now().checked_add(pause) {
            self.state().next_rounds.insert(escrow, at);
        }
    }

    /// Sorts a batch out, puts what the contract refuses into quarantine, and sends the rest. Whether all of it is dealt with.
    async fn claim(self: &Arc<Self>, escrow: &ClaimedEscrow, batch: Batch, report: &mut Report) -> Result<bool, WorkError> {
        let Batch { rows, is_urgent } = batch;
        let sorted = escrow.contract.sort_out(&rows).await?;
        for (place, reason) in sorted.bad {
            let Some(row) = rows.get(place) else { continue };
            warn!(channel = %row.channel, reason, "a channel is put into quarantine: the contract refuses the claim");
            self.apply(EscrowInput::Quarantine { channel: row.channel, reason }).await?;
            report.quarantined.push(row.channel);
        }
        let good: Vec<Row> = sorted.good.iter().filter_map(|place| rows.get(*place).cloned()).collect();
        if good.is_empty() {
            return Ok(true);
        }
        let call = escrow.contract.claim_call(&good)?;
        let of = Of::Claim(escrow.id, None);
        let versions = Versions::new(&self.lane, of, Sent { versions: Vec::new(), rows: good.clone() });
        let pace = if is_urgent { Pace::Urgent } else { Pace::AtLeisure };
        let error = match self.lane.send(call, pace, Arc::clone(&versions)).await {
            Ok(watch) => {
                let Some(claim) = versions.claim() else { return Ok(false) };
                info!(claim = claim.0, rows = good.len(), is_urgent, "a claim was sent");
                report.claims.push(claim);
                report.rows = report.rows.saturating_add(good.len());
                if is_urgent {
                    self.hurry(&good).await?;
                }
                self.follow(claim, good, watch, false);
                return Ok(true);
            }
            Err(error) => error,
        };
        // Nothing was sent, though a version may have been kept.
        if let Some(claim) = versions.claim() {
            self.apply(EscrowInput::ClaimFailed { claim, row: None, reason: error.to_string() }).await?;
        }
        not_sent("claim", &error);
        match &error {
            ChainError::Stopped { .. } => return Err(Stopped.into()),
            ChainError::GasLimit { .. } | ChainError::Reverted { .. } => self.doubt(&good),
            _ => {}
        }
        Ok(false)
    }

    /// Remembers for which deadline the channels were claimed on.
    async fn hurry(&self, rows: &[Row]) -> Result<(), Stopped> {
        let channels: Vec<EscrowChannelId> = rows.iter().map(|row| row.channel).collect();
        let deadlines = move |engine: &Engine| -> Vec<(EscrowChannelId, Timestamp)> {
            let exit = |id: &EscrowChannelId| engine.escrow_channel(id)?.exit().map(|exit| (*id, exit.finalises_at));
            channels.iter().filter_map(exit).collect()
        };
        let now = Instant::now();
        let deadlines = self.lane.payments.read(deadlines).await?;
        self.state().hurried.extend(deadlines.into_iter().map(|(channel, deadline)| (channel, (deadline, now))));
        Ok(())
    }

    /// The channels of a batch that failed as a whole are tried in halves.
    fn doubt(&self, rows: &[Row]) {
        let half = (rows.len() / 2).max(1);
        self.state().doubted.extend(rows.iter().map(|row| (row.channel, half)));
    }

    fn follow(self: &Arc<Self>, claim: ClaimId, rows: Vec<Row>, watch: TxWatch, is_counted: bool) {
        self.state().ways.insert(claim, Way::Followed);
        let claims = Arc::clone(self);
        self.lane.spawn(async move {
            let Some((outcome, fee_wei)) = ended(watch).await else { return };
            // A core that is gone leaves the claim as it was: the next start finds its end again.
            let _: Result<(), Stopped> = claims.ended(claim, &rows, outcome, fee_wei, is_counted).await;
        });
    }

    async fn ended(
        &self,
        claim: ClaimId,
        rows: &[Row],
        outcome: Result<TxReceipt, ChainError>,
        fee_wei: u128,
        is_counted: bool,
    ) -> Result<(), Stopped> {
        let metrics = &self.lane.metrics;
        let (row, reason) = match outcome {
            Ok(receipt) => {
                self.apply(EscrowInput::ClaimLanded { claim }).await?;
                let mut state = self.state();
                state.ways.insert(claim, Way::Landed { block: receipt.block, seen_at: Instant::now() });
                for row in rows {
                    state.doubted.remove(&row.channel);
                }
                drop(state);
                if !is_counted {
                    metrics.claims.inc();
                    metrics.rows.inc_by(u64::try_from(rows.len()).unwrap_or(u64::MAX));
                    metrics.spent(receipt.gas_used, receipt.fee_wei);
                }
                info!(claim = claim.0, transaction = %receipt.transaction, rows = rows.len(), gas = receipt.gas_used, "a claim landed");
                return Ok(());
            }
            Err(ChainError::Reverted { revert, .. }) => {
                metrics.spent(0, fee_wei);
                self.doubt(rows);
                let alone = match rows {
                    [row] => Some(row.channel),
                    _ => None,
                };
                (alone, revert.to_string())
            }
            // Nothing of it happened, and under this nonce nothing will.
            Err(error @ ChainError::Displaced { .. }) => (None, error.to_string()),
            Err(error) => {
                warn!(claim = claim.0, %error, "a claim cannot be followed now");
                self.state().ways.remove(&claim);
                return Ok(());
            }
        };
        metrics.failures.inc();
        warn!(claim = claim.0, reason, rows = rows.len(), "a claim failed: its rows are claimed again");
        self.apply(EscrowInput::ClaimFailed { claim, row, reason }).await?;
        // It stays among those that are followed until a look at the engine has missed it; and its rows do not wait for the next interval.
        self.state().next_rounds.clear();
        Ok(())
    }
}

impl Work for Claims {
    fn resume(self: Arc<Self>) -> Working<()> {
        Box::pin(async move { self.resume_all().await })
    }

    fn round(self: Arc<Self>, is_asked: bool) -> Working<Report> {
        Box::pin(async move {
            let mut report = Report::default();
            for escrow in self.escrows.iter() {
                self.round_of(escrow, is_asked, &mut report).await?;
            }
            self.lane.metrics.withdrawals(report.nearest_secs);
            Ok(report)
        })
    }
}

fn owed(claimable: &Claimable<'_>) -> Owed {
    let Claimable { terms, total, gain, voucher, deadline } = claimable;
    let row = Row {
        channel: terms.channel,
        config: terms.config.clone(),
        ceiling: voucher.statement().cumulative,
        total: *total,
        signature: voucher.signature().clone(),
    };
    Owed { row, gain: *gain, deadline: *deadline }
}
