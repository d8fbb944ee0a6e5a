//! Reads the channels of escrow contracts into the engine.
//!
//! What comes from the chain is states, not events: channels as they are at the end of a block of the confirmation depth. Facts are the
//! difference between what the engine was told and that state, and they go into the engine together with the cursor. So nothing is told
//! twice or left out, whoever changed the channel and however often.
//!
//! **Invariants.** All that the engine is told of a contract comes from this one task, and is true at the block of the cursor that comes with
//! it. After a reorganisation below the depth everything is told anew, in one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_chain::x402::{ChannelState, EscrowPoll, EscrowReader, PendingWithdrawal};
use millstream_chain::{ChainError, Cursor, ErrorKind, Head, Submitter};
use millstream_engine::ChainCursor;
use millstream_engine::escrow::{EscrowFact, EscrowId, EscrowTerms, Exit};
use millstream_node::ChainClock;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use crate::board::{Board, OnChain, now};
use crate::metrics::EscrowMetrics;
use crate::terms::read_x402_config;

/// The longest pause between two tries of an endpoint that does not answer.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// Channels that are looked at in one go.
const LOOK_CHANNELS_MAX: usize = 1_000;
/// Looks that wait, at most: beyond it whoever asks waits.
pub(crate) const LOOKS_QUEUED_MAX: usize = 1_024;
/// Seconds by which the chain's clock may be ahead of ours, or our idea of it be off, before an exit is told anew.
const CLOCK_MILLIS_MAX: u64 = 2_000;

/// Asks the follower to look at a channel, and to follow it if there is something.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) terms: EscrowTerms,
    /// Follow it whatever is there: a deposit was announced.
    pub(crate) announced: bool,
    /// The engine has to know everything up to this block.
    pub(crate) block: u64,
    pub(crate) done: oneshot::Sender<()>,
}

/// What the engine was told of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    is_opened: bool,
    deposit: Amount,
    settled: CumulativeAmount,
    exit: Option<Exit>,
}

/// A channel that is followed.
#[derive(Clone, Debug)]
struct Known {
    terms: EscrowTerms,
    withdraw_delay_millis: u64,
    withdrawal: Option<PendingWithdrawal>,
    told: Told,
}

/// Reads the channels of one contract and token.
pub(crate) struct Follower {
    board: Arc<Board>,
    metrics: Arc<EscrowMetrics>,
    reader: EscrowReader,
    escrow: EscrowId,
    token: Address,
    poll_interval: Duration,
    full_look: Duration,
    looks: mpsc::Receiver<Look>,
    clock: ChainClock,
    submitter: Submitter,
    stopping: watch::Receiver<bool>,
    known: BTreeMap<EscrowChannelId, Known>,
    followed: BTreeSet<EscrowChannelId>,
    cursor: Option<Cursor>,
    /// Looks that are not answered yet.
    asked: Vec<Look>,
    /// Where the look at all channels is, and when it began.
    look_after: Option<EscrowChannelId>,
    looked_at: Instant,
    /// The chain's clock less ours, in milliseconds, if it is ahead.
    ahead_millis: u64,
    /// Something was claimed that the engine does not know to be swept.
    is_due: bool,
}

/// What a follower is made with.
pub(crate) struct FollowerParts {
    pub(crate) board: Arc<Board>,
    pub(crate) metrics: Arc<EscrowMetrics>,
    pub(crate) reader: EscrowReader,
    pub(crate) escrow: EscrowId,
    pub(crate) token: Address,
    pub(crate) poll_interval: Duration,
    pub(crate) full_look: Duration,
    pub(crate) looks: mpsc::Receiver<Look>,
    pub(crate) clock: ChainClock,
    pub(crate) submitter: Submitter,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Follower {
    /// Reads what the engine knows, and tells it how its channels are now.
    ///
    /// # Errors
    /// The endpoint cannot be read, or the core has stopped.
    pub(crate) async fn start(parts: FollowerParts) -> anyhow::Result<Self> {
        let FollowerParts { board, metrics, reader, escrow, token, poll_interval, full_look, looks, clock, submitter, stopping } = parts;
        let read = board.payments.read(move |engine| {
            let channels = engine.escrow_channels(escrow);
            let channels = channels.map(|channel| {
                let totals = channel.totals();
                let told = Told { is_opened: true, deposit: totals.deposit, settled: totals.settled, exit: channel.exit() };
                (channel.terms().clone(), told)
            });
            (channels.collect::<Vec<_>>(), engine.escrow_cursor(escrow).map(|cursor| cursor.block.height()))
        });
        let (channels, read_to) = read.await?;
        let mut follower = Self {
            board,
            metrics,
            reader,
            escrow,
            token,
            poll_interval,
            full_look,
            looks,
            clock,
            submitter,
            stopping,
            known: BTreeMap::new(),
            followed: BTreeSet::new(),
            cursor: None,
            asked: Vec::new(),
            look_after: None,
            looked_at: Instant::now(),
            ahead_millis: 0,
            is_due: true,
        };
        for (terms, told) in channels {
            follower.follow(terms, told)?;
        }
        follower.tell_all(false, read_to.unwrap_or(0)).await?;
        while follower.step().await? {}
        Ok(follower)
    }

    /// Follows until the rail stops, or the chain says what cannot be.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let mut pause = self.poll_interval;
        loop {
            match self.step().await {
                // There may be more to read at once.
                Ok(true) => continue,
                Ok(false) => pause = self.poll_interval,
                Err(failure) => match failure.downcast_ref::<ChainError>() {
                    // Whatever an endpoint answers may be another one tomorrow; only a chain that contradicts itself ends the rail.
                    Some(chain) if chain.kind() != ErrorKind::Fault => {
                        self.metrics.chain_errors.inc();
                        pause = pause.saturating_mul(2).min(RETRY_PAUSE_MAX);
                        warn!(%chain, retry_in_millis = pause.as_millis(), "the escrow cannot be read now");
                    }
                    _ => {
                        error!(fault = format!("{failure:#}"), "the escrow cannot be followed");
                        return Err(failure);
                    }
                },
            }
            tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stopping| *stopping) => return Ok(()),
                look = self.looks.recv() => match look {
                    Some(look) => self.asked.push(look),
                    // The desk is gone, and so is the rail.
                    None => return Ok(()),
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn follow(&mut self, terms: EscrowTerms, told: Told) -> anyhow::Result<()> {
        let config = read_x402_config(&terms.config)?;
        self.followed.insert(terms.channel);
        let withdraw_delay_millis = config.withdraw_delay_secs.saturating_mul(1_000);
        self.known.insert(terms.channel, Known { terms, withdraw_delay_millis, withdrawal: None, told });
        Ok(())
    }

    /// One look at the chain; whether there was something.
    async fn step(&mut self) -> anyhow::Result<bool> {
        while let Ok(look) = self.looks.try_recv() {
            self.asked.push(look);
        }
        let Some(cursor) = self.cursor.clone() else {
            self.tell_all(true, 0).await?;
            return Ok(true);
        };
        let asked_at = now();
        match self.reader.poll(&cursor, &self.followed).await? {
            EscrowPoll::Idle(head) => {
                self.see_clock(asked_at, &head);
                self.tell_exits().await?;
                self.answer_looks(&cursor).await?;
                self.look_on(&cursor).await?;
                self.tell_sweeps(&cursor).await?;
                self.board.caught_up(asked_at);
                Ok(false)
            }
            EscrowPoll::Batch(batch) => {
                self.see_clock(asked_at, &batch.head);
                if !self.tell(&batch.seen.states, Some(&batch.cursor)).await? {
                    return self.start_over("a claimed total fell").await;
                }
                self.cursor = Some(batch.cursor);
                Ok(true)
            }
            EscrowPoll::Reorg(reorg) => {
                error!(lost = %reorg.lost.hash, found = %reorg.found, "the chain was reorganised below the confirmation depth");
                self.start_over("reorganised").await
            }
        }
    }

    async fn start_over(&mut self, why: &'static str) -> anyhow::Result<bool> {
        error!(why, "whatever the chain had said of the escrow is void until it says it again");
        self.metrics.reorganisations.inc();
        // Nonces may have been taken back too.
        self.submitter.resynchronise().await;
        self.cursor = None;
        self.tell_all(true, 0).await?;
        Ok(true)
    }

    /// Tells how all channels are at the newest block that is deep enough; after a reset, when what was told is void.
    async fn tell_all(&mut self, reset: bool, read_to: u64) -> anyhow::Result<()> {
        let cursor = self.reader.start().await?;
        let at = cursor.last();
        if at.number.height() < read_to {
            // A node that lags, or a chain that was cut shorter and did not grow again.
            let (head, cursor) = (at.number, millstream_types::BlockNumber::new(read_to));
            return Err(ChainError::Behind { head, cursor }.into());
        }
        let channels: Vec<EscrowChannelId> = self.followed.iter().copied().collect();
        let states = self.reader.contract().states_at(&channels, at.hash).await?;
        if reset {
            self.forget_told();
            // One batch: nobody sees the channels without what is told of them.
            let mut facts = vec![EscrowFact::Reset { escrow: self.escrow }];
            facts.extend(self.differences(&states).unwrap_or_default());
            self.commit(facts, &states, Some(&cursor)).await?;
        } else if !self.tell(&states, Some(&cursor)).await? {
            // Taken back while the node was away.
            return Box::pin(self.tell_all(true, 0)).await;
        }
        self.cursor = Some(cursor);
        Ok(())
    }

    fn forget_told(&mut self) {
        for known in self.known.values_mut() {
            known.told = Told { is_opened: known.told.is_opened, ..Told::default() };
        }
        self.is_due = true;
    }

    /// Tells what changed; `false` when a total fell that never falls, which only a reorganisation does.
    async fn tell(&mut self, states: &[ChannelState], cursor: Option<&Cursor>) -> anyhow::Result<bool> {
        let Some(facts) = self.differences(states) else { return Ok(false) };
        self.commit(facts, states, cursor).await?;
        Ok(true)
    }

    fn differences(&self, states: &[ChannelState]) -> Option<Vec<EscrowFact>> {
        let mut facts = Vec::new();
        for state in states {
            if let Some(known) = self.known.get(&state.channel) {
                let told = known.told_by(state, self.ahead_millis);
                facts.extend(difference(&known.terms, &known.told, &told)?);
            }
        }
        Some(facts)
    }

    async fn commit(&mut self, mut facts: Vec<EscrowFact>, states: &[ChannelState], cursor: Option<&Cursor>) -> anyhow::Result<()> {
        let told = facts.len();
        if let Some(cursor) = cursor {
            let at = ChainCursor { block: cursor.last().number, state: cursor.to_bytes() };
            facts.push(EscrowFact::Seen { escrow: self.escrow, cursor: at });
            self.metrics.block.set(i64::try_from(cursor.last().number.height()).unwrap_or(i64::MAX));
        }
        self.is_due |= facts.iter().any(|fact| matches!(fact, EscrowFact::Claimed { .. }));
        // Before the engine: a payer that is told of the engine's totals is told of these.
        self.board.seen(states.iter().map(|state| (state.channel, on_chain(state))));
        if !facts.is_empty() {
            self.board.payments.facts(facts).await?;
        }
        let mut changed = Vec::new();
        for state in states {
            if let Some(known) = self.known.get_mut(&state.channel) {
                known.told = known.told_by(state, self.ahead_millis);
                known.withdrawal = state.withdrawal;
                changed.push(state.channel);
            }
        }
        if told > 0 {
            info!(channels = changed.len(), facts = told, "channels followed");
            self.board.refresh(&changed).await.map_err(anyhow::Error::from)?;
        }
        Ok(())
    }

    fn see_clock(&mut self, asked_at: Timestamp, head: &Head) {
        self.clock.saw(head.timestamp);
        let ahead = head.timestamp.millis_since(asked_at);
        if ahead.abs_diff(self.ahead_millis) > CLOCK_MILLIS_MAX {
            self.ahead_millis = if ahead > CLOCK_MILLIS_MAX { ahead } else { 0 };
        }
        if let Some(cursor) = &self.cursor {
            let behind = head.number.height().saturating_sub(cursor.last().number.height());
            self.metrics.behind_blocks.set(i64::try_from(behind).unwrap_or(i64::MAX));
        }
    }

    /// Exits end by the chain's clock, and the engine goes by ours: when the chain's is ahead, they end earlier.
    async fn tell_exits(&mut self) -> anyhow::Result<()> {
        let mut facts = Vec::new();
        for (channel, known) in self.known.iter_mut().filter(|(_, known)| known.withdrawal.is_some()) {
            let exit = known.exit(known.withdrawal, self.ahead_millis);
            if let Some(exit) = exit.filter(|exit| Some(*exit) != known.told.exit) {
                known.told.exit = Some(exit);
                facts.push(EscrowFact::ExitRequested { channel: *channel, exit });
            }
        }
        if !facts.is_empty() {
            self.board.payments.facts(facts).await?;
        }
        Ok(())
    }

    /// Looks at the channels that somebody asks for, as they are at the cursor.
    async fn answer_looks(&mut self, cursor: &Cursor) -> anyhow::Result<()> {
        if self.asked.is_empty() {
            return Ok(());
        }
        let at = cursor.last();
        let new: BTreeSet<EscrowChannelId> =
            self.asked.iter().map(|look| look.terms.channel).filter(|channel| !self.known.contains_key(channel)).collect();
        let new: Vec<EscrowChannelId> = new.into_iter().collect();
        let states = self.reader.contract().states_at(&new, at.hash).await?;
        let there: BTreeSet<EscrowChannelId> = states.iter().filter(|state| is_something(state)).map(|state| state.channel).collect();
        let wanted: Vec<(EscrowTerms, bool)> = self.asked.iter().map(|look| (look.terms.clone(), look.announced)).collect();
        for (terms, announced) in wanted {
            if (announced || there.contains(&terms.channel)) && !self.known.contains_key(&terms.channel) {
                // One that was announced is open in the engine; told again, that changes nothing.
                self.follow(terms, Told::default())?;
            }
        }
        let known: Vec<ChannelState> = states.into_iter().filter(|state| self.known.contains_key(&state.channel)).collect();
        if !known.is_empty() {
            self.tell(&known, None).await?;
        }
        let block = at.number.height();
        let (done, later): (Vec<Look>, Vec<Look>) = self.asked.drain(..).partition(|look| look.block <= block);
        self.asked = later;
        for look in done {
            // Whoever asked may be gone.
            let _ = look.done.send(());
        }
        Ok(())
    }

    /// Goes on with the look at all channels: what an endpoint left out of its logs is learned by it.
    async fn look_on(&mut self, cursor: &Cursor) -> anyhow::Result<()> {
        if self.look_after.is_none() && self.looked_at.elapsed() < self.full_look {
            return Ok(());
        }
        let from = self.look_after.map_or(core::ops::Bound::Unbounded, core::ops::Bound::Excluded);
        let some: Vec<EscrowChannelId> =
            self.followed.range((from, core::ops::Bound::Unbounded)).take(LOOK_CHANNELS_MAX).copied().collect();
        if self.look_after.is_none() {
            self.looked_at = Instant::now();
        }
        let states = self.reader.contract().states_at(&some, cursor.last().hash).await?;
        self.look_after = if some.len() < LOOK_CHANNELS_MAX { None } else { some.last().copied() };
        self.tell(&states, None).await?;
        Ok(())
    }

    /// Tells what was paid out to receivers, whoever had it paid out. What is due there and not claimed on a channel of ours is none of ours to
    /// count.
    async fn tell_sweeps(&mut self, cursor: &Cursor) -> anyhow::Result<()> {
        if !self.is_due {
            return Ok(());
        }
        let escrow = self.escrow;
        let due = self.board.payments.read(move |engine| {
            let due = engine.sweeps().filter(|(of, _, sweep)| *of == escrow && !sweep.due().is_zero());
            due.map(|(_, receiver, sweep)| (receiver, sweep.due())).collect::<Vec<_>>()
        });
        let due = due.await?;
        self.is_due = !due.is_empty();
        let mut facts = Vec::new();
        for (receiver, due) in due {
            let there = self.reader.contract().receiver_at(receiver, self.token, cursor.last().hash).await?.due();
            if let Ok(amount) = due.checked_sub(there)
                && !amount.is_zero()
            {
                facts.push(EscrowFact::Swept { escrow, receiver, amount });
            }
        }
        if !facts.is_empty() {
            self.board.payments.facts(facts).await?;
        }
        Ok(())
    }
}

impl Known {
    fn exit(&self, withdrawal: Option<PendingWithdrawal>, ahead_millis: u64) -> Option<Exit> {
        withdrawal.map(|PendingWithdrawal { amount, initiated_at }| {
            let at = initiated_at.as_millis().saturating_add(self.withdraw_delay_millis).saturating_sub(ahead_millis);
            Exit { amount: Some(amount), finalises_at: Timestamp::from_millis(at) }
        })
    }

    /// What the engine has been told once it was told this state.
    fn told_by(&self, state: &ChannelState, ahead_millis: u64) -> Told {
        Told { is_opened: true, deposit: state.balance, settled: state.claimed, exit: self.exit(state.withdrawal, ahead_millis) }
    }
}

/// Whether the contract has ever had anything on the channel that still shows.
fn is_something(state: &ChannelState) -> bool {
    !state.balance.is_zero() || state.claimed > CumulativeAmount::ZERO
}

fn on_chain(state: &ChannelState) -> OnChain {
    OnChain {
        withdraw_requested_at_secs: state.withdrawal.map(|withdrawal| withdrawal.initiated_at.as_millis() / 1_000),
        refund_nonce: state.refund_nonce.to_u64().unwrap_or(u64::MAX),
    }
}

/// The facts that lead from one state to another. `None` when a claimed total falls.
///
/// A deposit that grows comes before the claims that it covers, one that falls after those that were made before it fell.
fn difference(terms: &EscrowTerms, before: &Told, after: &Told) -> Option<Vec<EscrowFact>> {
    let channel = terms.channel;
    let mut facts = Vec::new();
    if after.settled < before.settled {
        return None;
    }
    if !before.is_opened {
        facts.push(EscrowFact::Opened(terms.clone()));
    }
    let deposited = (after.deposit != before.deposit).then_some(EscrowFact::Deposited { channel, deposit: after.deposit });
    let claimed = (after.settled != before.settled).then_some(EscrowFact::Claimed { channel, total: after.settled });
    if after.deposit > before.deposit {
        facts.extend([deposited, claimed].into_iter().flatten());
    } else {
        facts.extend([claimed, deposited].into_iter().flatten());
    }
    match (before.exit, after.exit) {
        (before, after) if before == after => {}
        (_, Some(exit)) => facts.push(EscrowFact::ExitRequested { channel, exit }),
        (_, None) => facts.push(EscrowFact::ExitCancelled { channel }),
    }
    Some(facts)
}
