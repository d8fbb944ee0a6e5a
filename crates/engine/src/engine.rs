//! The one entry: inputs in, effects out.

use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};

use millstream_billing::{EPOCH_FRAMES_MAX, EpochHeader, FrameLeaf};
use millstream_types::{Amount, BlockNumber, BookId, ChannelId, EpochId, LedgerId, Timestamp};

use crate::channels::Channels;
use crate::escrow::{EscrowConfig, Escrows};
use crate::input::{Ack, Answer, ChainCursor, Effect, FrameInput, Input, ReplyId, Snapshot};
use crate::journal::Journal;
use crate::queue::RequestQueue;
use crate::record::{LEAVES_PER_RECORD_MAX, LeavesRecord, Record};
use crate::{Channel, EpochRecord, Fault, IndexRecord, JournalHead, OpenEpoch, Rejection};

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// The ledger served.
    pub ledger: LedgerId,
    /// An epoch is cut when it has this many frames; at most [`EPOCH_FRAMES_MAX`].
    pub epoch_frames_max: u32,
    /// And when its first frame is this old.
    pub epoch_millis_max: u64,
    /// The bill of an epoch is deleted when the epoch was anchored for so long; `None` keeps it for ever.
    pub retention_millis: Option<u64>,
    /// What is decided about escrows.
    pub escrow: EscrowConfig,
}

/// Figures over all channels. Amounts in nanos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Channels known, closed ones included.
    pub channels: u64,
    /// Channels that take payments.
    pub open: u64,
    /// Frozen channels.
    pub frozen: u64,
    /// Lines accepted.
    pub lines: u64,
    /// Confirmed deposits.
    pub deposited: Amount,
    /// Accepted.
    pub accepted: Amount,
    /// Settled on-chain.
    pub settled: Amount,
    /// Refunded on-chain.
    pub refunded: Amount,
}

/// All channels of one ledger. See the crate's documentation.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) channels: Channels,
    pub(crate) books: BTreeMap<BookId, BTreeMap<u16, ChannelId>>,
    pub(crate) queue: RequestQueue,
    pub(crate) cursor: Option<ChainCursor>,
    /// Set by a [`crate::ChainFact::Reset`]: the block up to which the chain tells everything again. Until then frozen channels stay frozen.
    pub(crate) retelling: Option<BlockNumber>,
    pub(crate) open_epoch: OpenEpoch,
    /// Epochs that were cut.
    pub(crate) epochs: BTreeMap<EpochId, EpochRecord>,
    /// Those of them that are not anchored.
    pub(crate) unanchored: BTreeSet<EpochId>,
    /// The newest epoch that was pruned, with every one before it.
    pub(crate) pruned: Option<EpochId>,
    /// When the next [`Input::Tick`] was asked for.
    pub(crate) waking_at: Option<Timestamp>,
    /// Counts what the chain said since the start.
    pub(crate) facts: u64,
    pub(crate) changed_channels: BTreeSet<ChannelId>,
    pub(crate) open_epoch_changed: bool,
    /// Leaves of the open epoch that no effect has carried out yet; the last one is at its last position.
    new_leaves: Vec<FrameLeaf>,
    pub(crate) escrows: Escrows,
    journal: Journal,
}

/// An engine that is given its records one by one; see [`Engine::restore`].
#[derive(Debug)]
pub struct Restoring(Engine);

impl Restoring {
    /// An engine of a new ledger.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self(Engine {
            config,
            channels: Channels::default(),
            books: BTreeMap::new(),
            queue: RequestQueue::default(),
            cursor: None,
            retelling: None,
            open_epoch: OpenEpoch::starting(EpochId::new(0)),
            epochs: BTreeMap::new(),
            unanchored: BTreeSet::new(),
            pruned: None,
            waking_at: None,
            facts: 0,
            changed_channels: BTreeSet::new(),
            open_epoch_changed: false,
            new_leaves: Vec::new(),
            escrows: Escrows::default(),
            journal: Journal::starting(config.ledger),
        })
    }

    /// Takes a record, each key once: of the tallies those of the hour and the day of the journal's end, which comes before them. Leaves, index
    /// and batches are not state of the engine and are passed over.
    pub fn record(&mut self, record: Record) {
        let engine = &mut self.0;
        match record {
            Record::Cursor(cursor) => engine.cursor = Some(cursor),
            Record::Retelling(until) => engine.retelling = Some(until),
            Record::OpenEpoch(epoch) => engine.open_epoch = epoch,
            Record::Channel(channel) => {
                if let Some(location) = channel.location {
                    engine.books.entry(location.book).or_default().insert(location.slot, channel.id);
                }
                engine.channels.insert(*channel);
            }
            Record::Epoch(epoch) => {
                if epoch.anchored_at.is_none() {
                    engine.unanchored.insert(epoch.id);
                }
                engine.pruned = engine.pruned.max(epoch.pruned_at.map(|_| epoch.id));
                engine.epochs.insert(epoch.id, epoch);
            }
            Record::Request(index, request) => {
                engine.queue.requests.insert(index, request);
            }
            Record::Leaves(_) | Record::Index(_) | Record::FrameBatch(_) | Record::ChargeBatch(_) | Record::PayerBatch(..) => {}
            Record::Journal(head) => engine.journal.restore(head),
            Record::Tally(key, count) => engine.journal.restore_tally(key, count),
            Record::Escrow(record) => engine.escrows.restore(record),
        }
    }

    /// The engine. What had been begun and may not have been finished comes out as effects.
    #[must_use]
    pub fn finish(self, effects: &mut Vec<Effect>) -> Engine {
        let Self(mut engine) = self;
        let unsealed = engine.epochs.values().filter(|epoch| epoch.top.is_none());
        effects.extend(unsealed.map(|epoch| Effect::SealEpoch { epoch: epoch.id, frames: epoch.frames }));
        effects.extend(engine.pruned.map(Effect::ReclaimThrough));
        // Nothing is waited for yet, whatever the time is.
        let (beginning, config) = (Timestamp::from_millis(0), engine.config.escrow);
        if let Some(at) = engine.open_epoch.first_frame_at {
            engine.wake(beginning, at.plus_millis(engine.config.epoch_millis_max), effects);
        }
        engine.wake_to_prune(beginning, effects);
        engine.escrows.finish_restoring(&config);
        if let Some(at) = engine.escrows.wanted.take() {
            engine.wake(beginning, at, effects);
        }
        engine
    }
}

impl Engine {
    /// An engine with the state that `records` describe: none for a new ledger, what the store holds at start-up.
    /// Epochs that were cut and never sealed come out as effects.
    #[must_use]
    pub fn restore(config: EngineConfig, records: impl IntoIterator<Item = Record>, effects: &mut Vec<Effect>) -> Self {
        let mut restoring = Restoring::new(config);
        records.into_iter().for_each(|record| restoring.record(record));
        restoring.finish(effects)
    }

    /// Applies one input. Effects are appended; the caller drains them all, and ends the tick with [`Engine::end_tick`].
    ///
    /// # Errors
    /// [`Fault`]: the caller must stop without answering anything of this tick.
    pub fn apply(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.journal.see(now);
        match input {
            Input::Attach { reply, channel } => self.attach(reply, channel, effects),
            Input::Frame(frame) => return self.frame(now, frame, effects),
            Input::Chain(fact) => {
                self.facts = self.facts.wrapping_add(1);
                return self.chain_fact(now, fact, effects);
            }
            Input::ChainSeen(cursor) => self.chain_seen(cursor, effects),
            Input::Tick { asked, chain_time } => {
                // Early as it may be, because the clock was read before it came: it is the one that was waited for, and another is asked for.
                if self.waking_at == Some(asked) {
                    self.waking_at = None;
                }
                if let Some(at) = self.open_epoch.first_frame_at {
                    let due = at.plus_millis(self.config.epoch_millis_max);
                    if now >= due {
                        self.cut_epoch(effects)?;
                    } else {
                        self.wake(now, due, effects);
                    }
                }
                self.prune(now, chain_time, effects);
                self.escrow_tick(now, chain_time, effects)?;
            }
            Input::CutEpoch => self.cut_epoch(effects)?,
            Input::EpochIndexed { epoch, records } => return self.epoch_indexed(epoch, records, effects),
            Input::EpochSealed(header) => return self.epoch_sealed(now, &header, effects),
            Input::Escrow { reply, input } => return self.escrow_input(now, reply, *input, effects),
            Input::EscrowFact(fact) => return self.escrow_fact(now, fact, effects),
        }
        Ok(())
    }

    /// Ends a tick: emits one record for each channel that changed, however many frames changed it, and books its frames and charges, with one
    /// record for the leaves and one for the charges.
    ///
    /// # Errors
    /// [`Fault`]: as of [`Engine::apply`].
    pub fn end_tick(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        self.put_leaves(effects)?;
        for id in core::mem::take(&mut self.changed_channels) {
            if let Some(channel) = self.channels.get(&id) {
                effects.push(Effect::Put(Record::Channel(Box::new(channel.clone()))));
            }
        }
        if core::mem::take(&mut self.open_epoch_changed) {
            effects.push(Effect::Put(Record::OpenEpoch(self.open_epoch)));
        }
        let (charges, voids) = self.escrows.take_booked();
        self.journal.charges(&charges, &voids, effects)?;
        self.escrows.end_tick(effects);
        self.journal.end_tick(effects);
        Ok(())
    }

    /// The end of the journal.
    #[must_use]
    pub const fn journal(&self) -> &JournalHead {
        self.journal.head()
    }

    /// What the operator decided.
    #[must_use]
    pub const fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// One channel.
    #[must_use]
    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    /// All channels, in no particular order: to walk them takes long when there are many.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter()
    }

    /// The channels of each book after a book, or of each, by slot: to look at books a few at a time.
    pub fn books_after(&self, after: Option<BookId>) -> impl Iterator<Item = (BookId, impl Iterator<Item = (u16, &Channel)>)> {
        self.books
            .range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
            .map(|(book, slots)| (*book, slots.iter().filter_map(|(slot, id)| self.channels.get(id).map(|channel| (*slot, channel)))))
    }

    /// The ledger's unserved requests.
    #[must_use]
    pub const fn queue(&self) -> &RequestQueue {
        &self.queue
    }

    /// How far the chain was read.
    #[must_use]
    pub const fn cursor(&self) -> Option<&ChainCursor> {
        self.cursor.as_ref()
    }

    /// The epoch that frames are billed in now.
    #[must_use]
    pub const fn open_epoch(&self) -> &OpenEpoch {
        &self.open_epoch
    }

    /// Epochs that were cut and are not anchored yet, oldest first.
    pub fn unanchored_epochs(&self) -> impl Iterator<Item = &EpochRecord> {
        self.unanchored.iter().filter_map(|id| self.epochs.get(id))
    }

    /// How many facts of the chain were applied since the start. While it is the same, so is everything that the chain decides.
    #[must_use]
    pub const fn facts(&self) -> u64 {
        self.facts
    }

    /// Figures over all channels, kept up to date with every change.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.channels.summary()
    }

    fn attach(&self, reply: ReplyId, id: ChannelId, effects: &mut Vec<Effect>) {
        let answer = match self.channels.get(&id) {
            Some(channel) => Answer::Snapshot(Box::new(snapshot(channel))),
            None => Answer::Reject { rejection: Rejection::UnknownChannel, lines_total: 0, snapshot: None },
        };
        effects.push(Effect::Answer { reply, answer });
    }

    fn frame(&mut self, now: Timestamp, frame: FrameInput, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let (id, lines_total) = (frame.voucher.body().channel, frame.voucher.body().lines_total);
        let Some(mut channel) = self.channels.edit(&id) else {
            let answer = Answer::Reject { rejection: Rejection::UnknownChannel, lines_total, snapshot: None };
            effects.push(Effect::Answer { reply: frame.reply, answer });
            return Ok(());
        };
        let leaf = match channel.judge(&frame) {
            Ok(leaf) => leaf,
            Err(rejection) => {
                let answer = Answer::Reject { rejection, lines_total, snapshot: Some(Box::new(snapshot(&channel))) };
                effects.push(Effect::Answer { reply: frame.reply, answer });
                return Ok(());
            }
        };
        if leaf.is_some() {
            channel.accept(&frame.voucher);
            if !channel.is_ordered() {
                return Err(Fault::Totals { channel: id });
            }
        }
        let ack = Ack { lines_total: channel.lines_total(), cumulative: channel.accepted_total(), epoch: self.open_epoch.id };
        drop(channel);
        let mut cut = false;
        if let Some(leaf) = leaf {
            self.changed_channels.insert(id);
            if self.open_epoch.first_frame_at.is_none() {
                self.open_epoch.first_frame_at = Some(now);
                self.wake(now, now.plus_millis(self.config.epoch_millis_max), effects);
            }
            let epoch = &mut self.open_epoch;
            effects.push(Effect::PutFrame { leaf, epoch: epoch.id, index: epoch.frames, bytes: frame.bytes });
            self.new_leaves.push(leaf);
            epoch.frames = epoch.frames.saturating_add(1);
            self.open_epoch_changed = true;
            cut = epoch.frames >= self.config.epoch_frames_max
                || usize::try_from(epoch.frames).map_or(true, |frames| frames >= EPOCH_FRAMES_MAX);
            if self.new_leaves.len() >= LEAVES_PER_RECORD_MAX {
                self.put_leaves(effects)?;
            }
        }
        effects.push(Effect::Answer { reply: frame.reply, answer: Answer::Ack(ack) });
        if cut {
            self.cut_epoch(effects)?;
        }
        Ok(())
    }

    /// Writes the leaves that are not written yet, and books them.
    fn put_leaves(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let leaves = core::mem::take(&mut self.new_leaves);
        let Ok(count @ 1..) = u32::try_from(leaves.len()) else { return Ok(()) };
        let OpenEpoch { id: epoch, frames, .. } = self.open_epoch;
        let first = frames.saturating_sub(count);
        self.journal.frames(epoch, first, &leaves, effects)?;
        effects.push(Effect::Put(Record::Leaves(LeavesRecord { epoch, first, leaves })));
        Ok(())
    }

    fn cut_epoch(&mut self, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let OpenEpoch { id, frames, .. } = self.open_epoch;
        if frames == 0 {
            return Ok(());
        }
        self.put_leaves(effects)?;
        let record = EpochRecord { id, frames, top: None, anchored_at: None, pruned_at: None };
        self.epochs.insert(id, record);
        self.unanchored.insert(id);
        self.open_epoch = OpenEpoch::starting(id.next());
        self.open_epoch_changed = true;
        effects.push(Effect::Put(Record::Epoch(record)));
        effects.push(Effect::SealEpoch { epoch: id, frames });
        Ok(())
    }

    fn epoch_indexed(&self, epoch: EpochId, records: Vec<IndexRecord>, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        // Of a sealed epoch the index is complete, and of a pruned one it has to stay deleted.
        let is_awaited = self.epochs.get(&epoch).is_some_and(|record| record.top.is_none() && record.pruned_at.is_none());
        if !is_awaited || records.iter().any(|record| record.epoch != epoch) {
            return Err(Fault::Sealed { epoch });
        }
        effects.extend(records.into_iter().map(|record| Effect::Put(Record::Index(record))));
        Ok(())
    }

    fn epoch_sealed(&mut self, now: Timestamp, header: &EpochHeader, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let fault = Fault::Sealed { epoch: header.epoch };
        let record = self.epochs.get_mut(&header.epoch).ok_or_else(|| fault.clone())?;
        if u64::from(record.frames) != header.leaf_count || header.ledger != self.config.ledger {
            return Err(fault);
        }
        record.top = Some(header.top);
        effects.push(Effect::Put(Record::Epoch(*record)));
        self.wake_to_prune(now, effects);
        Ok(())
    }
}

fn snapshot(channel: &Channel) -> Snapshot {
    Snapshot {
        channel: channel.id,
        key_x: channel.key_x,
        status: channel.status,
        deposit: channel.deposit(),
        accepted: channel.accepted().map(Into::into),
        charged: channel.charged(),
        settled: channel.settled(),
    }
}
