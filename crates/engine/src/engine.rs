//! The one entry: inputs in, effects out.

use std::collections::{BTreeMap, BTreeSet};

use millstream_billing::{EPOCH_FRAMES_MAX, EpochHeader};
use millstream_types::{Amount, BlockNumber, BookId, ChannelId, EpochId, LedgerId, Timestamp};

use crate::input::{Ack, Answer, ChainCursor, Effect, FrameInput, Input, ReplyId, Snapshot};
use crate::queue::RequestQueue;
use crate::record::{LeafRecord, Record};
use crate::{Channel, ChannelStatus, EpochRecord, Fault, OpenEpoch, Rejection};

/// What the operator decides.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// The ledger served.
    pub ledger: LedgerId,
    /// An epoch is cut when it has this many frames; at most [`EPOCH_FRAMES_MAX`].
    pub epoch_frames_max: u32,
    /// And when its first frame is this old.
    pub epoch_millis_max: u64,
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
    pub(crate) channels: BTreeMap<ChannelId, Channel>,
    pub(crate) books: BTreeMap<BookId, BTreeMap<u16, ChannelId>>,
    pub(crate) queue: RequestQueue,
    pub(crate) cursor: Option<ChainCursor>,
    /// Set by a [`crate::ChainFact::Reset`]: the block up to which the chain tells everything again. Until then frozen channels stay frozen.
    pub(crate) retelling: Option<BlockNumber>,
    pub(crate) open_epoch: OpenEpoch,
    /// Epochs that were cut.
    pub(crate) epochs: BTreeMap<EpochId, EpochRecord>,
    pub(crate) changed_channels: BTreeSet<ChannelId>,
    pub(crate) open_epoch_changed: bool,
}

impl Engine {
    /// An engine with the state that `records` describe: none for a new ledger, what the store holds at start-up.
    /// Epochs that were cut and never sealed come out as effects.
    #[must_use]
    pub fn restore(config: EngineConfig, records: impl IntoIterator<Item = Record>, effects: &mut Vec<Effect>) -> Self {
        let mut engine = Self {
            config,
            channels: BTreeMap::new(),
            books: BTreeMap::new(),
            queue: RequestQueue::default(),
            cursor: None,
            retelling: None,
            open_epoch: OpenEpoch::starting(EpochId::new(0)),
            epochs: BTreeMap::new(),
            changed_channels: BTreeSet::new(),
            open_epoch_changed: false,
        };
        for record in records {
            match record {
                Record::Cursor(cursor) => engine.cursor = Some(cursor),
                Record::Retelling(until) => engine.retelling = Some(until),
                Record::OpenEpoch(epoch) => engine.open_epoch = epoch,
                Record::Channel(channel) => {
                    if let Some(location) = channel.location {
                        engine.books.entry(location.book).or_default().insert(location.slot, channel.id);
                    }
                    engine.channels.insert(channel.id, *channel);
                }
                Record::Epoch(epoch) => {
                    if epoch.top.is_none() {
                        effects.push(Effect::SealEpoch { epoch: epoch.id, frames: epoch.frames });
                    }
                    engine.epochs.insert(epoch.id, epoch);
                }
                Record::Request(index, request) => {
                    engine.queue.requests.insert(index, request);
                }
                Record::Leaf(_) => {}
            }
        }
        if let Some(at) = engine.open_epoch.first_frame_at {
            effects.push(Effect::WakeAt(at.plus_millis(config.epoch_millis_max)));
        }
        engine
    }

    /// Applies one input. Effects are appended; the caller drains them all, and ends the tick with [`Engine::end_tick`].
    ///
    /// # Errors
    /// [`Fault`]: the caller must stop without answering anything of this tick.
    pub fn apply(&mut self, now: Timestamp, input: Input, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        match input {
            Input::Attach { reply, channel } => self.attach(reply, channel, effects),
            Input::Frame(frame) => return self.frame(now, frame, effects),
            Input::Chain(fact) => return self.chain_fact(fact, effects),
            Input::ChainSeen(cursor) => self.chain_seen(cursor, effects),
            Input::Tick => {
                if let Some(at) = self.open_epoch.first_frame_at {
                    let due = at.plus_millis(self.config.epoch_millis_max);
                    if now >= due {
                        self.cut_epoch(effects);
                    } else {
                        effects.push(Effect::WakeAt(due));
                    }
                }
            }
            Input::CutEpoch => self.cut_epoch(effects),
            Input::EpochSealed(header) => return self.epoch_sealed(&header, effects),
        }
        Ok(())
    }

    /// Ends a tick: emits one record for each channel that changed, however many frames changed it.
    pub fn end_tick(&mut self, effects: &mut Vec<Effect>) {
        for id in core::mem::take(&mut self.changed_channels) {
            if let Some(channel) = self.channels.get(&id) {
                effects.push(Effect::Put(Record::Channel(Box::new(channel.clone()))));
            }
        }
        if core::mem::take(&mut self.open_epoch_changed) {
            effects.push(Effect::Put(Record::OpenEpoch(self.open_epoch)));
        }
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

    /// All channels, by id.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    /// The channels of each book, by slot.
    pub fn books(&self) -> impl Iterator<Item = (BookId, impl Iterator<Item = (u16, &Channel)>)> {
        self.books
            .iter()
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
        self.epochs.values().filter(|epoch| !epoch.anchored)
    }

    /// Figures over all channels.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let add = |total: Amount, amount: Amount| Amount::from_units(total.units().saturating_add(amount.units()));
        self.channels.values().fold(Summary::default(), |sum, channel| Summary {
            channels: sum.channels.saturating_add(1),
            open: sum.open.saturating_add(u64::from(channel.status == ChannelStatus::Open)),
            frozen: sum.frozen.saturating_add(u64::from(channel.status == ChannelStatus::Frozen)),
            lines: sum.lines.saturating_add(channel.lines_total()),
            deposited: add(sum.deposited, channel.deposit),
            accepted: add(sum.accepted, channel.accepted_total().as_amount()),
            settled: add(sum.settled, channel.settled.as_amount()),
            refunded: add(sum.refunded, channel.refunded),
        })
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
        let Some(channel) = self.channels.get_mut(&id) else {
            let answer = Answer::Reject { rejection: Rejection::UnknownChannel, lines_total, snapshot: None };
            effects.push(Effect::Answer { reply: frame.reply, answer });
            return Ok(());
        };
        let leaf = match channel.judge(&frame) {
            Ok(leaf) => leaf,
            Err(rejection) => {
                let answer = Answer::Reject { rejection, lines_total, snapshot: Some(Box::new(snapshot(channel))) };
                effects.push(Effect::Answer { reply: frame.reply, answer });
                return Ok(());
            }
        };
        let mut cut = false;
        if let Some(leaf) = leaf {
            channel.accepted = Some(frame.voucher);
            // A streamed line is delivered by being accepted, so it is charged at once.
            channel.charged = channel.accepted_total();
            if !channel.is_ordered() {
                return Err(Fault::Totals { channel: id });
            }
            self.changed_channels.insert(id);
            let epoch = &mut self.open_epoch;
            if epoch.first_frame_at.is_none() {
                epoch.first_frame_at = Some(now);
                effects.push(Effect::WakeAt(now.plus_millis(self.config.epoch_millis_max)));
            }
            let place = LeafRecord { epoch: epoch.id, index: epoch.frames, leaf };
            effects.push(Effect::Put(Record::Leaf(place)));
            effects.push(Effect::PutFrame { leaf, epoch: place.epoch, index: place.index, bytes: frame.bytes });
            epoch.frames = epoch.frames.saturating_add(1);
            self.open_epoch_changed = true;
            cut = epoch.frames >= self.config.epoch_frames_max
                || usize::try_from(epoch.frames).map_or(true, |frames| frames >= EPOCH_FRAMES_MAX);
        }
        let ack = Ack { lines_total: channel.lines_total(), cumulative: channel.accepted_total(), epoch: self.open_epoch.id };
        effects.push(Effect::Answer { reply: frame.reply, answer: Answer::Ack(ack) });
        if cut {
            self.cut_epoch(effects);
        }
        Ok(())
    }

    fn cut_epoch(&mut self, effects: &mut Vec<Effect>) {
        let OpenEpoch { id, frames, .. } = self.open_epoch;
        if frames == 0 {
            return;
        }
        let record = EpochRecord { id, frames, top: None, anchored: false };
        self.epochs.insert(id, record);
        self.open_epoch = OpenEpoch::starting(id.next());
        self.open_epoch_changed = true;
        effects.push(Effect::Put(Record::Epoch(record)));
        effects.push(Effect::SealEpoch { epoch: id, frames });
    }

    fn epoch_sealed(&mut self, header: &EpochHeader, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let fault = Fault::Sealed { epoch: header.epoch };
        let record = self.epochs.get_mut(&header.epoch).ok_or_else(|| fault.clone())?;
        if u64::from(record.frames) != header.leaf_count || header.ledger != self.config.ledger {
            return Err(fault);
        }
        record.top = Some(header.top);
        effects.push(Effect::Put(Record::Epoch(*record)));
        Ok(())
    }
}

fn snapshot(channel: &Channel) -> Snapshot {
    Snapshot {
        channel: channel.id,
        key_x: channel.key_x,
        status: channel.status,
        deposit: channel.deposit,
        accepted: channel.accepted.as_ref().map(|voucher| *voucher.signed()),
        charged: channel.charged,
        settled: channel.settled,
    }
}
