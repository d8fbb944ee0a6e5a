//! What the chain says, applied: the part of the state that is a function of the ledger's logs.

use millstream_types::{Amount, BookId, ChannelId, EpochId, Hash256, Timestamp};

use crate::channel::Location;
use crate::channels::Edit;
use crate::engine::Engine;
use crate::input::{ChainCursor, ChainFact, Effect};
use crate::queue::{Request, RequestKind};
use crate::record::{Key, Record};
use crate::{Channel, ChannelStatus, Fault, OpenEpoch};

impl Engine {
    /// Applies what the ledger's logs say.
    pub(crate) fn chain_fact(&mut self, now: Timestamp, fact: ChainFact, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        match fact {
            ChainFact::Opened { channel: id, payer, key_x, deposit, request, at } => {
                self.opened(Channel::opened(id, payer, key_x, nanos(id, deposit)?))?;
                self.enqueue(request, Request { kind: RequestKind::Open, channel: id, amount: deposit, requested_at: at }, effects);
                self.changed(id)
            }
            ChainFact::ToppedUp { channel: id, amount, request, at } => {
                let mut channel = self.known(id)?;
                channel.deposit = channel.deposit.checked_add(nanos(id, amount)?).ok_or(Fault::Overflow { channel: id })?;
                drop(channel);
                self.enqueue(request, Request { kind: RequestKind::TopUp, channel: id, amount, requested_at: at }, effects);
                self.changed(id)
            }
            ChainFact::CloseRequested { channel: id, request, at } => {
                self.known(id)?.status = ChannelStatus::Closing;
                let close = Request { kind: RequestKind::Close, channel: id, amount: Amount::ZERO, requested_at: at };
                self.enqueue(request, close, effects);
                self.changed(id)
            }
            ChainFact::Included { channel: id, book, slot } => {
                self.known(id)?.location = Some(Location { book, slot });
                self.books.entry(book).or_default().insert(slot, id);
                self.changed(id)
            }
            ChainFact::MovedOut { channel: id, book } => self.moved_out(id, book),
            ChainFact::MovedIn { channel: id, book, slot } => self.moved_in(id, Location { book, slot }),
            ChainFact::Closed { channel: id, refund } => self.closed(id, refund),
            ChainFact::QueueServed { head } => self.queue_served(head, effects),
            ChainFact::Settled { book, deltas } => self.settled(book, &deltas),
            ChainFact::EpochAnchored { epoch, root } => self.epoch_anchored(now, epoch, root, effects),
            ChainFact::Reset => {
                self.reset(effects);
                Ok(())
            }
        }
    }

    /// A new channel, or one that the chain tells again after a [`ChainFact::Reset`].
    fn opened(&mut self, new: Channel) -> Result<(), Fault> {
        let id = new.id;
        if let Some(mut known) = self.channels.edit(&id) {
            if known.status != ChannelStatus::Frozen || known.deposit != 0 {
                return Err(Fault::OpenedTwice { channel: id });
            }
            known.deposit = new.deposit;
            return Ok(());
        }
        self.channels.insert(new);
        Ok(())
    }

    /// The channel is in no slot until [`ChainFact::MovedIn`] says which.
    fn moved_out(&mut self, id: ChannelId, book: BookId) -> Result<(), Fault> {
        let mut channel = self.known(id)?;
        let Some(location) = channel.location.filter(|location| location.book == book) else {
            return Err(Fault::Moved { channel: id, book });
        };
        channel.location = None;
        drop(channel);
        if let Some(slots) = self.books.get_mut(&book) {
            slots.remove(&location.slot);
        }
        self.changed(id)
    }

    fn moved_in(&mut self, id: ChannelId, to: Location) -> Result<(), Fault> {
        if let Some(held_by) = self.books.get(&to.book).and_then(|slots| slots.get(&to.slot)) {
            return Err(Fault::SlotTaken { book: to.book, slot: to.slot, held_by: *held_by });
        }
        let mut channel = self.known(id)?;
        if channel.location.is_some() || channel.status == ChannelStatus::Closed {
            return Err(Fault::Moved { channel: id, book: to.book });
        }
        channel.location = Some(to);
        drop(channel);
        self.books.entry(to.book).or_default().insert(to.slot, id);
        self.changed(id)
    }

    fn closed(&mut self, id: ChannelId, refund: Amount) -> Result<(), Fault> {
        let mut channel = self.known(id)?;
        let (settled, deposit) = (channel.settled(), channel.deposit());
        if settled.as_amount().checked_add(refund) != Ok(deposit) {
            return Err(Fault::Refund { channel: id, settled, refund, deposit });
        }
        channel.status = ChannelStatus::Closed;
        channel.refunded = nanos(id, refund)?;
        let location = channel.location.take();
        drop(channel);
        if let Some(slots) = location.and_then(|location| self.books.get_mut(&location.book)) {
            slots.retain(|_, occupant| *occupant != id);
        }
        self.changed(id)
    }

    fn queue_served(&mut self, head: u64, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let unserved = self.queue.requests.split_off(&head);
        for (index, request) in core::mem::replace(&mut self.queue.requests, unserved) {
            effects.push(Effect::Delete(Key::Request(index)));
            let amount = nanos(request.channel, request.amount)?;
            let mut channel = self.known(request.channel)?;
            channel.registered = channel.registered.checked_add(amount).ok_or(Fault::Overflow { channel: request.channel })?;
            drop(channel);
            self.changed(request.channel)?;
        }
        Ok(())
    }

    fn settled(&mut self, book: BookId, deltas: &[Amount]) -> Result<(), Fault> {
        for (slot, delta) in deltas.iter().enumerate().filter(|(_, delta)| !delta.is_zero()) {
            let occupant = u16::try_from(slot).ok().and_then(|slot| self.books.get(&book)?.get(&slot).copied());
            let id = occupant.ok_or(Fault::EmptySlot { book, slot })?;
            let mut channel = self.known(id)?;
            channel.settled = channel.settled.checked_add(nanos(id, *delta)?).ok_or(Fault::Overflow { channel: id })?;
            if channel.settled > channel.charged {
                // The chain has a later voucher than we do: our records are behind, and the payer must show us its last one first.
                channel.status = ChannelStatus::Frozen;
            }
            drop(channel);
            self.changed(id)?;
        }
        Ok(())
    }

    fn epoch_anchored(&mut self, now: Timestamp, epoch: EpochId, root: Hash256, effects: &mut Vec<Effect>) -> Result<(), Fault> {
        let mismatch = Fault::Anchored { epoch, anchored: root };
        match self.epochs.get_mut(&epoch) {
            Some(record) => {
                if record.header(self.config.ledger).is_some_and(|header| header.root() != root) {
                    return Err(mismatch);
                }
                record.anchored_at = Some(now);
                effects.push(Effect::Put(Record::Epoch(*record)));
                self.unanchored.remove(&epoch);
                self.wake_to_prune(now, effects);
            }
            // Anchored by a node whose records are gone: carry on after it.
            None if self.open_epoch.id <= epoch => {
                if self.open_epoch.frames > 0 {
                    return Err(mismatch);
                }
                self.open_epoch = OpenEpoch::starting(epoch.next());
                self.open_epoch_changed = true;
            }
            None => {}
        }
        Ok(())
    }

    fn reset(&mut self, effects: &mut Vec<Effect>) {
        self.channels.edit_each(|channel| {
            channel.status = ChannelStatus::Frozen;
            channel.deposit = 0;
            channel.registered = 0;
            channel.location = None;
            channel.settled = 0;
            channel.refunded = 0;
        });
        self.changed_channels.extend(self.channels.iter().map(|channel| channel.id));
        self.books.clear();
        effects.extend(self.queue.requests.keys().map(|index| Effect::Delete(Key::Request(*index))));
        self.queue.requests.clear();
        // What the chain holds of our anchors it will tell again as well; the others have to be sent again.
        for epoch in self.epochs.values_mut().filter(|epoch| epoch.anchored_at.is_some()) {
            epoch.anchored_at = None;
            self.unanchored.insert(epoch.id);
            effects.push(Effect::Put(Record::Epoch(*epoch)));
        }
        if let Some(cursor) = self.cursor.take() {
            let until = self.retelling.map_or(cursor.block, |until| until.max(cursor.block));
            self.retelling = Some(until);
            effects.push(Effect::Put(Record::Retelling(until)));
        }
        effects.push(Effect::Delete(Key::Cursor));
    }

    pub(crate) fn chain_seen(&mut self, cursor: ChainCursor, effects: &mut Vec<Effect>) {
        if self.retelling.is_some_and(|until| cursor.block >= until) {
            self.retelling = None;
            effects.push(Effect::Delete(Key::Retelling));
            let thawed = &mut self.changed_channels;
            self.channels.edit_each(|channel| {
                if channel.may_thaw() {
                    channel.status = ChannelStatus::Open;
                    thawed.insert(channel.id);
                }
            });
        }
        self.cursor = Some(cursor.clone());
        effects.push(Effect::Put(Record::Cursor(cursor)));
    }

    fn known(&mut self, id: ChannelId) -> Result<Edit<'_>, Fault> {
        self.channels.edit(&id).ok_or(Fault::UnknownChannel { channel: id })
    }

    /// Marks a channel for [`Engine::end_tick`], and thaws it when its totals are in order again.
    fn changed(&mut self, id: ChannelId) -> Result<(), Fault> {
        let told = self.retelling.is_none();
        let mut channel = self.known(id)?;
        if told && channel.may_thaw() {
            channel.status = ChannelStatus::Open;
        }
        drop(channel);
        self.changed_channels.insert(id);
        Ok(())
    }

    fn enqueue(&mut self, index: u64, request: Request, effects: &mut Vec<Effect>) {
        self.queue.requests.insert(index, request);
        effects.push(Effect::Put(Record::Request(index, request)));
    }
}

/// The ledger's amounts fit 64 bits.
fn nanos(channel: ChannelId, amount: Amount) -> Result<u64, Fault> {
    amount.to_u64().map_err(|_| Fault::Overflow { channel })
}
