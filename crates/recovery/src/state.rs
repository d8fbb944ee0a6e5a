//! A ledger as its events and calldata tell it: books, channels, the queue, credits. No I/O.

use std::collections::BTreeMap;

use millstream_chain::{ChainEvent, EventPosition, LedgerConfig, LedgerEvent};
use millstream_circuit::{Book, BookSize, Operation, field_from_word, field_to_word};
use millstream_types::{
    Address, Amount, AssetUnit, BlockNumber, BookId, ChannelId, CumulativeAmount, EpochId, Hash256, LedgerId, Timestamp,
};
use millstream_voucher::ChannelTerms;
use sha3::{Digest, Keccak256};

use crate::error::RebuildError;

/// What a payer asked of the ledger. Amounts in nanos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A channel with a first deposit.
    Open {
        /// The deposit.
        amount: Amount,
    },
    /// A larger deposit.
    TopUp {
        /// By how much.
        amount: Amount,
    },
    /// The channel's end.
    Close,
}

impl Asked {
    /// What it adds to the deposit.
    #[must_use]
    pub const fn amount(self) -> Amount {
        match self {
            Self::Open { amount } | Self::TopUp { amount } => amount,
            Self::Close => Amount::ZERO,
        }
    }

    /// The word for it: `open`, `top up`, `close`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::TopUp { .. } => "top up",
            Self::Close => "close",
        }
    }

    /// Its number in the contract (spec, section Requests).
    const fn kind(self) -> u8 {
        match self {
            Self::Open { .. } => 1,
            Self::TopUp { .. } => 2,
            Self::Close => 3,
        }
    }
}

/// When and by what a request was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServedAt {
    /// The block.
    pub block: BlockNumber,
    /// The block's time.
    pub time: Timestamp,
    /// The transaction.
    pub transaction: Hash256,
}

/// A request of the queue, served or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltRequest {
    /// Its number in the queue.
    pub index: u64,
    /// The channel.
    pub channel: ChannelId,
    /// What was asked.
    pub asked: Asked,
    /// The block it was made in.
    pub block: BlockNumber,
    /// That block's time: when the response window began.
    pub requested_at: Timestamp,
    /// When it was served, if it was.
    pub served: Option<ServedAt>,
}

/// Where a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelPlace {
    /// It waits in the queue to be put in a book.
    Queued,
    /// In a slot of a book.
    Booked {
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
    },
    /// It was closed.
    Closed,
}

/// A channel. Amounts in nanos. `deposited = settled + refunded + still in` at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuiltChannel {
    /// The channel.
    pub id: ChannelId,
    /// Who opened it and gets refunds.
    pub payer: Address,
    /// The voucher key's x-coordinate: a field element, 32 bytes.
    pub key_x: [u8; 32],
    /// The payer's salt.
    pub salt: [u8; 32],
    /// Everything deposited, in a book or waiting in the queue.
    pub deposited: Amount,
    /// Taken by the provider.
    pub settled: CumulativeAmount,
    /// Credited to the payer when it was closed.
    pub refunded: Amount,
    /// Where it is.
    pub place: ChannelPlace,
    /// The number of the request to close it, if it was made.
    pub close_request: Option<u64>,
}

impl RebuiltChannel {
    /// Deposited and neither settled nor refunded: what the ledger still holds for this channel.
    #[must_use]
    pub fn held(&self) -> Amount {
        let left = self.deposited.checked_sub(self.settled.as_amount()).and_then(|rest| rest.checked_sub(self.refunded));
        // Both were checked against the deposit when they were applied.
        left.unwrap_or(Amount::ZERO)
    }
}

/// An epoch whose billing root is on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnchoredEpoch {
    /// Its number.
    pub epoch: EpochId,
    /// The root of its billing tree.
    pub root: Hash256,
    /// The block.
    pub block: BlockNumber,
}

/// A ledger as far as it was read.
#[derive(Clone, Debug)]
pub struct RebuiltLedger {
    id: LedgerId,
    provider: Address,
    unit: AssetUnit,
    response_window_secs: u64,
    sizes: Vec<BookSize>,
    operator: Option<Address>,
    books: BTreeMap<BookId, Book>,
    channels: BTreeMap<ChannelId, RebuiltChannel>,
    requests: Vec<RebuiltRequest>,
    queue_head: u64,
    credits: BTreeMap<Address, Amount>,
    withdrawn: Amount,
    epochs: Vec<AnchoredEpoch>,
    events: u64,
}

impl RebuiltLedger {
    /// A ledger of which nothing was read.
    ///
    /// # Errors
    /// [`RebuildError::Tier`].
    pub fn new(id: LedgerId, config: &LedgerConfig) -> Result<Self, RebuildError> {
        let size = |(tier, slots): (usize, u16)| BookSize::new(usize::from(slots)).map_err(|_| RebuildError::Tier { tier, slots });
        let sizes = config.tiers.iter().map(|tier| tier.slots).enumerate().map(size).collect::<Result<_, _>>()?;
        Ok(Self {
            id,
            provider: config.provider,
            unit: config.unit,
            response_window_secs: config.response_window_secs,
            sizes,
            operator: None,
            books: BTreeMap::new(),
            channels: BTreeMap::new(),
            requests: Vec::new(),
            queue_head: 0,
            credits: BTreeMap::new(),
            withdrawn: Amount::ZERO,
            epochs: Vec::new(),
            events: 0,
        })
    }

    /// Chain and contract.
    #[must_use]
    pub const fn id(&self) -> LedgerId {
        self.id
    }

    /// The sizes of book, by tier.
    #[must_use]
    pub fn sizes(&self) -> &[BookSize] {
        &self.sizes
    }

    /// The account that may settle and register.
    #[must_use]
    pub const fn operator(&self) -> Option<Address> {
        self.operator
    }

    /// Every book that was ever written.
    #[must_use]
    pub const fn books(&self) -> &BTreeMap<BookId, Book> {
        &self.books
    }

    /// The book; empty when it was never written. `None` for a book of no tier.
    #[must_use]
    pub fn book(&self, book: BookId) -> Option<Book> {
        let size = self.sizes.get(usize::from(book.tier().index()))?;
        Some(self.books.get(&book).cloned().unwrap_or_else(|| Book::empty(*size)))
    }

    /// Every channel that was ever opened.
    pub fn channels(&self) -> impl Iterator<Item = &RebuiltChannel> {
        self.channels.values()
    }

    /// A channel.
    #[must_use]
    pub fn channel(&self, channel: &ChannelId) -> Option<&RebuiltChannel> {
        self.channels.get(channel)
    }

    /// Every request, served ones included, in the order of the queue.
    #[must_use]
    pub fn requests(&self) -> &[RebuiltRequest] {
        &self.requests
    }

    /// The requests that wait.
    #[must_use]
    pub fn queue(&self) -> &[RebuiltRequest] {
        usize::try_from(self.queue_head).ok().and_then(|head| self.requests.get(head..)).unwrap_or_default()
    }

    /// The number of the oldest request that waits.
    #[must_use]
    pub const fn queue_head(&self) -> u64 {
        self.queue_head
    }

    /// The number that the next request will get.
    #[must_use]
    pub fn queue_tail(&self) -> u64 {
        // There are not 2^64 requests.
        u64::try_from(self.requests.len()).unwrap_or(u64::MAX)
    }

    /// What accounts may withdraw, in nanos; accounts with nothing are left out.
    #[must_use]
    pub const fn credits(&self) -> &BTreeMap<Address, Amount> {
        &self.credits
    }

    /// Everything that was withdrawn, in nanos.
    #[must_use]
    pub const fn withdrawn(&self) -> Amount {
        self.withdrawn
    }

    /// The anchored epochs, from 0 without a gap.
    #[must_use]
    pub fn epochs(&self) -> &[AnchoredEpoch] {
        &self.epochs
    }

    /// How many events were applied.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The last moment at which a request counts as answered in time; after it, it is overdue (L-6).
    #[must_use]
    pub const fn deadline(&self, request: &RebuiltRequest) -> Timestamp {
        request.requested_at.plus_millis(self.response_window_secs.saturating_mul(1_000))
    }

    /// Whether a request is overdue in a block of this time (L-6).
    #[must_use]
    pub fn is_overdue(&self, request: &RebuiltRequest, block_time: Timestamp) -> bool {
        request.served.is_none() && block_time > self.deadline(request)
    }

    /// The upper 216 bits of the digest that the contract keeps of a request (L-5).
    #[must_use]
    pub fn digest(&self, request: &RebuiltRequest) -> [u8; 27] {
        let key_x = match request.asked {
            Asked::Open { .. } => self.channels.get(&request.channel).map_or([0; 32], |channel| channel.key_x),
            Asked::TopUp { .. } | Asked::Close => [0; 32],
        };
        let mut hasher = Keccak256::new();
        hasher.update([0; 24]);
        hasher.update(request.index.to_be_bytes());
        hasher.update([0; 31]);
        hasher.update([request.asked.kind()]);
        hasher.update(request.channel.as_bytes());
        hasher.update(key_x);
        hasher.update([0; 16]);
        hasher.update(request.asked.amount().units().to_be_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        let mut upper = [0; 27];
        upper.copy_from_slice(&digest[..27]);
        upper
    }

    /// Applies the events of whole transactions, in the order of the chain.
    ///
    /// # Errors
    /// [`RebuildError::LateStart`], [`RebuildError::Root`], [`RebuildError::Deltas`] and [`RebuildError::Contradiction`]. What was applied
    /// before the error stays: begin again with a new ledger.
    pub fn apply(&mut self, events: &[ChainEvent]) -> Result<(), RebuildError> {
        let mut rest = events;
        while let Some((first, after)) = rest.split_first() {
            // The constructor names the operator: that is the first event of every ledger.
            if self.events == 0 && !matches!(first.event, LedgerEvent::OperatorChanged { .. }) {
                return Err(RebuildError::LateStart);
            }
            let at = first.position;
            let taken = match &first.event {
                LedgerEvent::Included { .. } | LedgerEvent::Closed { .. } | LedgerEvent::Registered { .. } => self.register(rest)?,
                LedgerEvent::Opened { channel, payer, key_x, salt, deposit, request_index } => {
                    self.request(at, *request_index, *channel, Asked::Open { amount: *deposit })?;
                    self.open(at, *channel, *payer, *key_x, *salt, *deposit)?;
                    1
                }
                LedgerEvent::ToppedUp { channel, amount, deposit, request_index } => {
                    self.request(at, *request_index, *channel, Asked::TopUp { amount: *amount })?;
                    self.top_up(at, *channel, *amount, *deposit)?;
                    1
                }
                LedgerEvent::CloseRequested { channel, request_index } => {
                    self.request(at, *request_index, *channel, Asked::Close)?;
                    self.open_channel(at, channel)?.close_request = Some(*request_index);
                    1
                }
                LedgerEvent::Settled { book, new_root, total, deltas } => {
                    let Some(deltas) = deltas else {
                        return Err(RebuildError::Deltas { book: *book, block: at.block, transaction: at.transaction });
                    };
                    self.settle(at, *book, *new_root, *total, deltas)?;
                    1
                }
                LedgerEvent::EpochAnchored { epoch, root } => {
                    let expected = u64::try_from(self.epochs.len()).unwrap_or(u64::MAX);
                    if epoch.number() != expected {
                        return Err(contradiction(at, format!("epoch {epoch} is anchored, epoch {expected} comes next")));
                    }
                    self.epochs.push(AnchoredEpoch { epoch: *epoch, root: *root, block: at.block });
                    1
                }
                LedgerEvent::Withdrawn { account, to: _, base_units } => {
                    self.withdraw(at, *account, *base_units)?;
                    1
                }
                LedgerEvent::OperatorChanged { operator } => {
                    self.operator = Some(*operator);
                    1
                }
            };
            self.events = self.events.saturating_add(u64::try_from(taken).unwrap_or(u64::MAX));
            rest = rest.get(taken..).unwrap_or(after);
        }
        Ok(())
    }

    /// Puts a request at the end of the queue.
    fn request(&mut self, at: EventPosition, index: u64, channel: ChannelId, asked: Asked) -> Result<(), RebuildError> {
        let expected = self.queue_tail();
        if index != expected {
            return Err(contradiction(at, format!("request {index} was made, request {expected} comes next")));
        }
        self.requests.push(RebuiltRequest { index, channel, asked, block: at.block, requested_at: at.block_time, served: None });
        Ok(())
    }

    fn open(
        &mut self,
        at: EventPosition,
        id: ChannelId,
        payer: Address,
        key_x: [u8; 32],
        salt: [u8; 32],
        deposited: Amount,
    ) -> Result<(), RebuildError> {
        let uid = ChannelTerms { ledger: self.id, payer, key_x, salt }.uid();
        if uid != id {
            return Err(contradiction(at, format!("channel {id} was opened; payer, key and salt make it {uid}")));
        }
        let (settled, refunded, place) = (CumulativeAmount::ZERO, Amount::ZERO, ChannelPlace::Queued);
        let channel = RebuiltChannel { id, payer, key_x, salt, deposited, settled, refunded, place, close_request: None };
        match self.channels.insert(id, channel) {
            None => Ok(()),
            Some(_) => Err(contradiction(at, format!("channel {id} was opened twice"))),
        }
    }

    fn top_up(&mut self, at: EventPosition, id: ChannelId, amount: Amount, told: Amount) -> Result<(), RebuildError> {
        let channel = self.open_channel(at, &id)?;
        let deposited = channel.deposited.checked_add(amount).map_err(|error| contradiction(at, error))?;
        if deposited != told {
            return Err(contradiction(at, format!("channel {id} has a deposit of {deposited} nanos, the event says {told}")));
        }
        channel.deposited = deposited;
        Ok(())
    }

    /// A channel whose close was not requested.
    fn open_channel(&mut self, at: EventPosition, id: &ChannelId) -> Result<&mut RebuiltChannel, RebuildError> {
        match self.channels.get_mut(id) {
            Some(channel) if channel.close_request.is_none() => Ok(channel),
            Some(_) => Err(contradiction(at, format!("channel {id} is closing or closed"))),
            None => Err(contradiction(at, format!("channel {id} was never opened"))),
        }
    }

    fn settle(&mut self, at: EventPosition, id: BookId, new_root: [u8; 32], total: Amount, deltas: &[u64]) -> Result<(), RebuildError> {
        let mut book = self.book(id).ok_or_else(|| contradiction(at, format!("book {id} is of no tier")))?;
        let sum = book.settle(deltas).map_err(|error| contradiction(at, format!("book {id}: {error}")))?;
        if Amount::from_units(sum) != total {
            return Err(contradiction(at, format!("the deltas of book {id} add up to {sum}, the event says {total}")));
        }
        check_root(at, id, &book, new_root)?;
        for (_, slot) in book.channels() {
            if let Some(channel) = self.channels.get_mut(&slot.uid()) {
                channel.settled = CumulativeAmount::from_nanos(slot.settled_nanos());
            }
        }
        self.books.insert(id, book);
        self.add_credit(at, self.provider, total)
    }

    fn add_credit(&mut self, at: EventPosition, account: Address, amount: Amount) -> Result<(), RebuildError> {
        let credit = self.credits.get(&account).copied().unwrap_or_default();
        self.set_credit(account, credit.checked_add(amount).map_err(|error| contradiction(at, error))?);
        Ok(())
    }

    fn set_credit(&mut self, account: Address, credit: Amount) {
        if credit.is_zero() {
            self.credits.remove(&account);
        } else {
            self.credits.insert(account, credit);
        }
    }

    fn withdraw(&mut self, at: EventPosition, account: Address, base_units: u128) -> Result<(), RebuildError> {
        let credit = self.credits.get(&account).copied().unwrap_or_default();
        let (whole, rest) = self.unit.base_units_down(credit).map_err(|error| contradiction(at, error))?;
        if whole != base_units {
            return Err(contradiction(at, format!("{base_units} base units were paid to {account}, its credit was {whole}")));
        }
        let paid = credit.checked_sub(rest).and_then(|paid| self.withdrawn.checked_add(paid));
        self.withdrawn = paid.map_err(|error| contradiction(at, error))?;
        self.set_credit(account, rest);
        Ok(())
    }

    /// Applies one call of `register`: its events begin here. Returns how many they are.
    fn register(&mut self, events: &[ChainEvent]) -> Result<usize, RebuildError> {
        let call = RegisterCall::read(events)?;
        let (at, head) = (call.at, call.queue_head);
        let waits = self.queue_tail().saturating_sub(self.queue_head);
        let count = head.checked_sub(self.queue_head).filter(|count| (1..=waits).contains(count));
        let count = count.ok_or_else(|| {
            contradiction(at, format!("the head of the queue went from {} to {head}, its tail is {}", self.queue_head, self.queue_tail()))
        })?;
        let served: Vec<RebuiltRequest> = self.queue().iter().take(usize::try_from(count).unwrap_or(usize::MAX)).copied().collect();
        let mut operations: Vec<Vec<Operation>> = vec![Vec::new(); call.parts.len()];
        for request in &served {
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
        let opened = rows.iter().filter(|row| row.opened_key.is_some()).map(|row| (row.uid, row.slot)).collect::<BTreeMap<_, _>>();
        let closed = rows.iter().filter_map(|row| row.closing_refund_nanos.map(|refund| (row.uid, Amount::from_nanos(refund))));
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
}

impl RegisterCall {
    /// Reads the first call. Its registrations all tell the same head of the queue, and every call moves the head.
    fn read(events: &[ChainEvent]) -> Result<Self, RebuildError> {
        let at = events.first().map(|event| event.position);
        let mut call: Option<Self> = None;
        let (mut included, mut closed) = (BTreeMap::new(), BTreeMap::new());
        for (index, event) in events.iter().enumerate() {
            let same_transaction = at.is_some_and(|at| at.transaction == event.position.transaction);
            match &event.event {
                LedgerEvent::Included { channel, book: _, slot } if same_transaction => {
                    included.insert(*channel, *slot);
                }
                LedgerEvent::Closed { channel, book: _, refund } if same_transaction => {
                    closed.insert(*channel, *refund);
                }
                LedgerEvent::Registered { book, new_root, queue_head } if same_transaction => {
                    let call = call.get_or_insert(Self { at: event.position, queue_head: *queue_head, parts: Vec::new(), events: 0 });
                    if *queue_head != call.queue_head {
                        break;
                    }
                    let (included, closed) = (core::mem::take(&mut included), core::mem::take(&mut closed));
                    call.parts.push(Part { book: *book, new_root: *new_root, included, closed });
                    call.events = index + 1;
                }
                _ => break,
            }
        }
        match (call, at) {
            (Some(call), _) => Ok(call),
            (None, Some(at)) => Err(contradiction(at, "a channel was included or closed without a registration".to_owned())),
            (None, None) => Err(RebuildError::LateStart),
        }
    }

    /// The registration that served a request.
    fn part_of(&self, request: &RebuiltRequest, channel: Option<&RebuiltChannel>) -> Option<usize> {
        let included = || self.parts.iter().position(|part| part.included.contains_key(&request.channel));
        let closed = || self.parts.iter().position(|part| part.closed.contains_key(&request.channel));
        let booked = || match channel?.place {
            ChannelPlace::Booked { book, .. } => self.parts.iter().rposition(|part| part.book == book),
            ChannelPlace::Queued | ChannelPlace::Closed => None,
        };
        match request.asked {
            Asked::Open { .. } => included(),
            Asked::TopUp { .. } => closed().or_else(included).or_else(booked),
            Asked::Close => closed(),
        }
    }
}

fn check_root(at: EventPosition, book: BookId, rebuilt: &Book, told: [u8; 32]) -> Result<(), RebuildError> {
    let root = field_to_word(rebuilt.root());
    if root == told {
        return Ok(());
    }
    let (told, rebuilt) = (Hash256::from_bytes(told), Hash256::from_bytes(root));
    Err(RebuildError::Root { book, block: at.block, transaction: at.transaction, told, rebuilt })
}

fn contradiction(at: EventPosition, detail: impl ToString) -> RebuildError {
    RebuildError::Contradiction { block: at.block, transaction: at.transaction, detail: detail.to_string() }
}
