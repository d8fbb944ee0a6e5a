//! Replaying `register` from its events: the requests between two heads of the queue, in the books that the events name (L-16 … L-20), or
//! the moves that they tell (L-30, L-31).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_chain::{ChainEvent, EventPosition, LedgerEvent};
use millstream_circuit::{Operation, Slot, field_from_word};
use millstream_types::{Amount, BookId, ChannelId};

use super::{Asked, ChannelPlace, RebuiltChannel, RebuiltLedger, RebuiltRequest, ServedAt, check_root, contradiction};
use crate::error::RebuildError;

impl RebuiltLedger {
    /// Applies one call of `register`: its events begin here. Returns how many they are.
    pub(super) fn register(&mut self, events: &[ChainEvent]) -> Result<usize, RebuildError> {
        let call = RegisterCall::read(events)?;
        if call.is_of_moves() {
            return self.replay_moves(&call);
        }
        let (at, head) = (call.at, call.queue_head);
        let waits = self.queue_tail().saturating_sub(self.queue_head);
        let count = head.checked_sub(self.queue_head).filter(|count| (1..=waits).contains(count));
        let count = count.ok_or_else(|| {
            contradiction(at, format!("the head of the queue went from {} to {head}, its tail is {}", self.queue_head, self.queue_tail()))
        })?;
        let served: Vec<RebuiltRequest> = self.queue().iter().take(usize::try_from(count).unwrap_or(usize::MAX)).copied().collect();
        let mut operations: Vec<Vec<Operation>> = vec![Vec::new(); call.parts.len()];
        for request in &served {
            if self.is_void(request) != call.voided.contains(&request.index) {
                return Err(contradiction(at, format!("request {} is void, or is not, against its events", request.index)));
            }
            if self.is_void(request) {
                continue;
            }
            let part = call.part_of(request, self.channels.get(&request.channel));
            let part = part.ok_or_else(|| contradiction(at, format!("request {} was served in no book", request.index)))?;
            let operation = self.operation(at, request, &call.parts[part])?;
            operations[part].push(operation);
        }
        for (number, (part, operations)) in call.parts.iter().zip(&operations).enumerate() {
            let is_last_of_book = call.parts[number + 1..].iter().all(|later| later.book != part.book);
            self.register_book(at, part, operations, is_last_of_book)?;
        }
        self.queue_head = head;
        let served_at = ServedAt { block: at.block, time: at.block_time, transaction: at.transaction };
        for request in served {
            if let Some(request) = usize::try_from(request.index).ok().and_then(|index| self.requests.get_mut(index)) {
                request.served = Some(served_at);
            }
        }
        Ok(call.events)
    }

    /// Applies a call that moves channels. Each event of a channel that comes takes the oldest one of a channel that went (L-31).
    fn replay_moves(&mut self, call: &RegisterCall) -> Result<usize, RebuildError> {
        let at = call.at;
        if call.queue_head != self.queue_head {
            let told = call.queue_head;
            return Err(contradiction(at, format!("a move left the head of the queue at {told}, it is {}", self.queue_head)));
        }
        let mut on_the_way: VecDeque<Slot> = VecDeque::new();
        for part in &call.parts {
            let id = part.book;
            let wrong = |detail: String| contradiction(at, format!("book {id}: {detail}"));
            let mut book = self.book(id).ok_or_else(|| wrong("is of no tier".to_owned()))?;
            let mut operations = Vec::with_capacity(part.moves.len());
            for end in &part.moves {
                operations.push(match *end {
                    MoveEnd::Out(uid) => {
                        let channel = book.find(&uid).and_then(|slot| book.slot(slot)).copied();
                        on_the_way.push_back(channel.ok_or_else(|| wrong(format!("channel {uid} was moved out and is not there")))?);
                        Operation::MoveOut { uid }
                    }
                    MoveEnd::In(uid, slot) => {
                        let channel = on_the_way.pop_front().filter(|channel| channel.uid() == uid);
                        let channel = channel.ok_or_else(|| wrong(format!("channel {uid} was moved in out of its turn")))?;
                        Operation::MoveIn { slot, channel }
                    }
                });
            }
            let rows = book.rows_for(&operations).map_err(|error| wrong(error.to_string()))?;
            book.apply_rows(&rows).map_err(|error| wrong(error.to_string()))?;
            check_root(at, id, &book, part.new_root)?;
            for operation in operations {
                if let Operation::MoveIn { slot, channel } = operation
                    && let Some(moved) = self.channels.get_mut(&channel.uid())
                {
                    moved.place = ChannelPlace::Booked { book: id, slot };
                }
            }
            self.books.insert(id, book);
        }
        match on_the_way.front() {
            Some(lost) => Err(contradiction(at, format!("channel {} was moved out and came nowhere", lost.uid()))),
            None => Ok(call.events),
        }
    }

    fn operation(&self, at: EventPosition, request: &RebuiltRequest, part: &Part) -> Result<Operation, RebuildError> {
        let uid = request.channel;
        let amount_nanos = request.asked.amount().to_u64().map_err(|error| contradiction(at, error))?;
        Ok(match request.asked {
            Asked::Open { .. } => {
                let key_x = self.channels.get(&uid).and_then(|channel| field_from_word(&channel.key_x));
                let key_x = key_x.ok_or_else(|| contradiction(at, format!("the key of channel {uid} is no field element")))?;
                let slot = part.included.get(&uid).copied();
                let slot = slot.ok_or_else(|| contradiction(at, format!("channel {uid} was served without a slot")))?;
                Operation::Open { slot, uid, key_x, amount_nanos }
            }
            Asked::TopUp { .. } => Operation::TopUp { uid, amount_nanos },
            Asked::Close => Operation::Close { uid },
        })
    }

    /// Applies what one registration does to its book. When a call changes a book more than once, which of them a top-up was in is not told;
    /// only the last root is known to be of everything.
    fn register_book(
        &mut self,
        at: EventPosition,
        part: &Part,
        operations: &[Operation],
        is_last_of_book: bool,
    ) -> Result<(), RebuildError> {
        let id = part.book;
        let wrong = |detail: String| contradiction(at, format!("book {id}: {detail}"));
        let mut book = self.book(id).ok_or_else(|| wrong("is of no tier".to_owned()))?;
        let rows = book.rows_for(operations).map_err(|error| wrong(error.to_string()))?;
        book.apply_rows(&rows).map_err(|error| wrong(error.to_string()))?;
        let opened = rows.iter().filter(|row| row.opened_key().is_some()).map(|row| (row.uid, row.slot)).collect::<BTreeMap<_, _>>();
        let closed = rows.iter().filter_map(|row| row.closing_refund_nanos().map(|refund| (row.uid, Amount::from_nanos(refund))));
        let closed = closed.collect::<BTreeMap<_, _>>();
        if opened != part.included {
            return Err(wrong("its openings are not those of its events".to_owned()));
        }
        if closed != part.closed {
            return Err(wrong("its refunds are not those of its events".to_owned()));
        }
        if is_last_of_book {
            check_root(at, id, &book, part.new_root)?;
        }
        for (uid, slot) in opened {
            if let Some(channel) = self.channels.get_mut(&uid) {
                channel.place = ChannelPlace::Booked { book: id, slot };
            }
        }
        for (uid, refund) in closed {
            let channel = self.channels.get_mut(&uid).ok_or_else(|| wrong(format!("channel {uid} was never opened")))?;
            (channel.place, channel.refunded) = (ChannelPlace::Closed, refund);
            let payer = channel.payer;
            self.add_credit(at, payer, refund)?;
        }
        self.books.insert(id, book);
        Ok(())
    }
}

/// The events of one call of `register`.
struct RegisterCall {
    at: EventPosition,
    queue_head: u64,
    /// The requests that were passed over (L-24).
    voided: BTreeSet<u64>,
    parts: Vec<Part>,
    /// How many events they are.
    events: usize,
}

/// What the events say of one registration.
struct Part {
    book: BookId,
    new_root: [u8; 32],
    included: BTreeMap<ChannelId, u16>,
    closed: BTreeMap<ChannelId, Amount>,
    /// In their order; then there is nothing else.
    moves: Vec<MoveEnd>,
}

/// One end of a move.
#[derive(Clone, Copy)]
enum MoveEnd {
    Out(ChannelId),
    In(ChannelId, u16),
}

impl RegisterCall {
    /// Whether the call moves channels; one that serves requests moves none.
    fn is_of_moves(&self) -> bool {
        self.parts.first().is_some_and(|part| !part.moves.is_empty())
    }

    /// Reads the first call. Its void requests come first; its registrations all tell the same head of the queue, and every call moves the head
    /// but one that moves channels, whose registrations tell nothing else. A call that serves nothing but void requests tells their numbers
    /// alone.
    fn read(events: &[ChainEvent]) -> Result<Self, RebuildError> {
        let Some(first) = events.first() else { return Err(RebuildError::LateStart) };
        let mut call = Self { at: first.position, queue_head: 0, voided: BTreeSet::new(), parts: Vec::new(), events: 0 };
        let (mut included, mut closed, mut voided, mut moves) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new(), Vec::new());
        let of_transaction = |event: &&ChainEvent| event.position.transaction == first.position.transaction;
        for (index, event) in events.iter().take_while(of_transaction).enumerate() {
            match &event.event {
                LedgerEvent::Included { channel, book: _, slot } => {
                    included.insert(*channel, *slot);
                }
                LedgerEvent::Closed { channel, book: _, refund } => {
                    closed.insert(*channel, *refund);
                }
                LedgerEvent::MovedOut { channel, book: _ } => moves.push(MoveEnd::Out(*channel)),
                LedgerEvent::MovedIn { channel, book: _, slot } => moves.push(MoveEnd::In(*channel, *slot)),
                LedgerEvent::RequestVoided { channel: _, request_index } => {
                    voided.insert(*request_index);
                }
                LedgerEvent::Registered { book, new_root, queue_head } => {
                    if !call.parts.is_empty() && (*queue_head != call.queue_head || moves.is_empty() == call.is_of_moves()) {
                        break;
                    }
                    let asks = !(included.is_empty() && closed.is_empty() && voided.is_empty());
                    if asks && !moves.is_empty() {
                        return Err(contradiction(event.position, format!("book {book} was changed by requests and moves at once")));
                    }
                    call.queue_head = *queue_head;
                    call.voided.append(&mut voided);
                    let (included, closed) = (core::mem::take(&mut included), core::mem::take(&mut closed));
                    let moves = core::mem::take(&mut moves);
                    call.parts.push(Part { book: *book, new_root: *new_root, included, closed, moves });
                    call.events = index + 1;
                }
                _ => break,
            }
        }
        if call.parts.is_empty() {
            let last = voided.last().copied().filter(|_| included.is_empty() && closed.is_empty() && moves.is_empty());
            let last = last.ok_or_else(|| contradiction(call.at, "a channel was included, closed or moved without a registration"))?;
            (call.queue_head, call.events, call.voided) = (last.saturating_add(1), voided.len(), voided);
        }
        Ok(call)
    }

    /// The registration that served a request.
    fn part_of(&self, request: &RebuiltRequest, channel: Option<&RebuiltChannel>) -> Option<usize> {
        let included = || self.parts.iter().position(|part| part.included.contains_key(&request.channel));
        let closed = || self.parts.iter().position(|part| part.closed.contains_key(&request.channel));
        let booked = || match channel?.place {
            ChannelPlace::Booked { book, .. } => self.parts.iter().rposition(|part| part.book == book),
            ChannelPlace::Queued | ChannelPlace::Closed | ChannelPlace::Cancelled => None,
        };
        match request.asked {
            Asked::Open { .. } => included(),
            Asked::TopUp { .. } => closed().or_else(included).or_else(booked),
            Asked::Close => closed(),
        }
    }
}
