//! A ledger as its events and calldata tell it: books, channels, the queue, credits. No I/O.

mod register;
mod types;

use std::collections::BTreeMap;

use millstream_chain::{ChainEvent, EventPosition, LedgerConfig, LedgerEvent};
use millstream_circuit::{Book, BookSize, field_to_word};
use millstream_types::{Address, Amount, AssetUnit, BookId, ChannelId, CumulativeAmount, Hash256, LedgerId, Timestamp};
use millstream_voucher::ChannelTerms;
use sha3::{Digest, Keccak256};

pub use self::types::{AnchoredEpoch, Asked, ChannelPlace, RebuiltChannel, RebuiltRequest, ServedAt};
use crate::error::RebuildError;

/// A ledger as far as it was read.
#[derive(Clone, Debug)]
pub struct RebuiltLedger {
    id: LedgerId,
    provider: Address,
    unit: AssetUnit,
    response_window_secs: u64,
    halt_window_secs: u64,
    halted: Option<ServedAt>,
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
            halt_window_secs: config.halt_window_secs,
            halted: None,
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

    /// The moment after which anyone may halt the ledger when the request still waits (L-25).
    #[must_use]
    pub const fn halt_deadline(&self, request: &RebuiltRequest) -> Timestamp {
        request.requested_at.plus_millis(self.halt_window_secs.saturating_mul(1_000))
    }

    /// Whether a request asks for nothing any more: its channel's opening was cancelled before it was served (L-24).
    #[must_use]
    pub fn is_void(&self, request: &RebuiltRequest) -> bool {
        self.channels.get(&request.channel).is_some_and(|channel| channel.place == ChannelPlace::Cancelled)
    }

    /// When the ledger was halted, if it was.
    #[must_use]
    pub const fn halted(&self) -> Option<ServedAt> {
        self.halted
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
                LedgerEvent::Included { .. }
                | LedgerEvent::Closed { .. }
                | LedgerEvent::MovedOut { .. }
                | LedgerEvent::MovedIn { .. }
                | LedgerEvent::RequestVoided { .. }
                | LedgerEvent::Registered { .. } => self.register(rest)?,
                LedgerEvent::OpenCancelled { channel, refund } => {
                    self.cancel(at, *channel, *refund)?;
                    1
                }
                LedgerEvent::Left { channel, book, refund } => {
                    self.leave(at, *channel, *book, *refund)?;
                    1
                }
                LedgerEvent::Halted { request_index } => {
                    self.halt(at, *request_index)?;
                    1
                }
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

    /// A channel's opening is taken back, with everything deposited (L-24).
    fn cancel(&mut self, at: EventPosition, id: ChannelId, refund: Amount) -> Result<(), RebuildError> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| contradiction(at, format!("channel {id} was never opened")))?;
        if channel.place != ChannelPlace::Queued || channel.deposited != refund {
            return Err(contradiction(at, format!("channel {id} was cancelled for {refund} nanos; its deposit is {}", channel.deposited)));
        }
        (channel.place, channel.refunded) = (ChannelPlace::Cancelled, refund);
        let payer = channel.payer;
        self.add_credit(at, payer, refund)
    }

    /// A channel leaves the halted ledger with what was deposited and not settled; its slot stays as it is (L-26).
    fn leave(&mut self, at: EventPosition, id: ChannelId, left: BookId, refund: Amount) -> Result<(), RebuildError> {
        let channel = self.channels.get_mut(&id).ok_or_else(|| contradiction(at, format!("channel {id} was never opened")))?;
        let is_there = matches!(channel.place, ChannelPlace::Booked { book, .. } if book == left);
        if !is_there || self.halted.is_none() || channel.held() != refund {
            let held = channel.held();
            return Err(contradiction(at, format!("channel {id} left book {left} with {refund} nanos; the ledger held {held} for it")));
        }
        (channel.place, channel.refunded) = (ChannelPlace::Closed, refund);
        let payer = channel.payer;
        self.add_credit(at, payer, refund)
    }

    fn halt(&mut self, at: EventPosition, request: u64) -> Result<(), RebuildError> {
        if self.halted.is_some() || request != self.queue_head {
            return Err(contradiction(at, format!("the ledger was halted for request {request}; the oldest is {}", self.queue_head)));
        }
        self.halted = Some(ServedAt { block: at.block, time: at.block_time, transaction: at.transaction });
        Ok(())
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
