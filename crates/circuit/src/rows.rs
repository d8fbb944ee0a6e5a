//! What `register` does to a book (L-16 … L-18, L-30): rows, and how requests and moves become rows.

use ark_bn254::Fr;
use ark_ff::AdditiveGroup;
use millstream_types::ChannelId;

use crate::book::{Book, Slot};
use crate::error::{CircuitError, RowField};
use crate::tree::uid_to_field;

/// One served request, or one end of a move, in nanos. The caller picks the slot that is filled; the others are found by uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens a channel in an empty slot with its first deposit.
    Open {
        /// The slot.
        slot: u16,
        /// The channel.
        uid: ChannelId,
        /// The payer's key, as the ledger checked it (V-5).
        key_x: Fr,
        /// The first deposit, in nanos.
        amount_nanos: u64,
    },
    /// Raises a deposit.
    TopUp {
        /// The channel.
        uid: ChannelId,
        /// What is added, in nanos.
        amount_nanos: u64,
    },
    /// Closes a channel and refunds its balance.
    Close {
        /// The channel.
        uid: ChannelId,
    },
    /// Takes a channel out of its slot, for another (L-30). No request asks for it.
    MoveOut {
        /// The channel.
        uid: ChannelId,
    },
    /// Puts a channel that was taken out elsewhere into an empty slot, as it is (L-30). No request asks for it.
    MoveIn {
        /// The slot.
        slot: u16,
        /// What the other slot held.
        channel: Slot,
    },
}

/// What happens to one slot: the ABI's `Row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The slot.
    pub slot: u16,
    /// The channel.
    pub uid: ChannelId,
    /// What happens to it.
    pub change: Change,
}

/// What a row does. A key without `open`, a refund without `close`, or a move that serves a request cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Requests are served.
    Served {
        /// `open`: the key.
        opened_key: Option<Fr>,
        /// What the deposit grows by, in nanos.
        delta_nanos: u64,
        /// `close`: the refund, in nanos.
        closing_refund_nanos: Option<u64>,
    },
    /// `out`: the slot is emptied, and held this.
    Out(Held),
    /// `in`: the slot was empty, and holds this.
    In(Held),
}

/// What a slot holds besides the channel's uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The payer's key.
    pub key_x: Fr,
    /// Deposited, in nanos.
    pub deposit_nanos: u64,
    /// Taken by the provider, in nanos.
    pub settled_nanos: u64,
}

impl From<&Slot> for Held {
    fn from(slot: &Slot) -> Self {
        Self { key_x: slot.key_x, deposit_nanos: slot.deposit_nanos, settled_nanos: slot.settled_nanos }
    }
}

impl Row {
    /// Bit of [`Row::flags`]: the slot is touched. Set in every row.
    pub const TOUCHED: u8 = 1;
    /// Bit of [`Row::flags`]: `open`.
    pub const OPEN: u8 = 2;
    /// Bit of [`Row::flags`]: `close`.
    pub const CLOSE: u8 = 4;
    /// Bit of [`Row::flags`]: `out`. With [`Row::TOUCHED`] alone.
    pub const OUT: u8 = 8;
    /// Bit of [`Row::flags`]: `in`. With [`Row::TOUCHED`] alone.
    pub const IN: u8 = 16;

    /// A row from the fields of the ABI's `Row`; `key_x` below `p`.
    ///
    /// # Errors
    /// [`CircuitError::BadRow`] for flags the ledger does not accept, a key without `open` or a move, or a refund without `close` or a move.
    pub fn from_abi(slot: u16, flags: u8, delta_nanos: u64, refund_nanos: u64, uid: ChannelId, key_x: Fr) -> Result<Self, CircuitError> {
        const OUT: u8 = Row::TOUCHED | Row::OUT;
        const IN: u8 = Row::TOUCHED | Row::IN;
        let bad = |field| CircuitError::BadRow { slot, field };
        let held = Held { key_x, deposit_nanos: delta_nanos, settled_nanos: refund_nanos };
        let change = match flags {
            OUT => Change::Out(held),
            IN => Change::In(held),
            _ if flags & Self::TOUCHED == 0 || flags & !(Self::TOUCHED | Self::OPEN | Self::CLOSE) != 0 => {
                return Err(bad(RowField::Flags));
            }
            _ => {
                let opened_key = (flags & Self::OPEN != 0).then_some(key_x);
                if opened_key.is_none() && key_x != Fr::ZERO {
                    return Err(bad(RowField::Key));
                }
                let closing_refund_nanos = (flags & Self::CLOSE != 0).then_some(refund_nanos);
                if closing_refund_nanos.is_none() && refund_nanos != 0 {
                    return Err(bad(RowField::Refund));
                }
                Change::Served { opened_key, delta_nanos, closing_refund_nanos }
            }
        };
        Ok(Self { slot, uid, change })
    }

    /// The flags: 1 touched, 2 open, 4 close, 8 out, 16 in.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        match self.change {
            Change::Served { opened_key, closing_refund_nanos, .. } => {
                let open = if opened_key.is_some() { Self::OPEN } else { 0 };
                let close = if closing_refund_nanos.is_some() { Self::CLOSE } else { 0 };
                Self::TOUCHED | open | close
            }
            Change::Out(_) => Self::TOUCHED | Self::OUT,
            Change::In(_) => Self::TOUCHED | Self::IN,
        }
    }

    /// The delta in nanos: what the deposit grows by, or of a move the deposit.
    #[must_use]
    pub const fn delta_nanos(&self) -> u64 {
        match self.change {
            Change::Served { delta_nanos, .. } => delta_nanos,
            Change::Out(held) | Change::In(held) => held.deposit_nanos,
        }
    }

    /// The refund in nanos, 0 when the channel stays; of a move, what is settled.
    #[must_use]
    pub fn refund_nanos(&self) -> u64 {
        match self.change {
            Change::Served { closing_refund_nanos, .. } => closing_refund_nanos.unwrap_or(0),
            Change::Out(held) | Change::In(held) => held.settled_nanos,
        }
    }

    /// The key word: the key of an `open` or a move, else 0.
    #[must_use]
    pub fn key_x(&self) -> Fr {
        match self.change {
            Change::Served { opened_key, .. } => opened_key.unwrap_or(Fr::ZERO),
            Change::Out(held) | Change::In(held) => held.key_x,
        }
    }

    /// The key, when the row opens the channel.
    #[must_use]
    pub const fn opened_key(&self) -> Option<Fr> {
        match self.change {
            Change::Served { opened_key, .. } => opened_key,
            Change::Out(_) | Change::In(_) => None,
        }
    }

    /// The refund in nanos, when the row closes the channel.
    #[must_use]
    pub const fn closing_refund_nanos(&self) -> Option<u64> {
        match self.change {
            Change::Served { closing_refund_nanos, .. } => closing_refund_nanos,
            Change::Out(_) | Change::In(_) => None,
        }
    }

    /// The three data words `(packed, uidWord, keyWord)` (spec, section register-N).
    pub(crate) fn words(&self) -> [Fr; 3] {
        let packed = [u64::from(self.flags()), self.delta_nanos(), self.refund_nanos()];
        let shift = Fr::from(1u128 << 64);
        [packed.into_iter().fold(Fr::ZERO, |sum, part| sum * shift + Fr::from(part)), uid_to_field(&self.uid), self.key_x()]
    }
}

impl Book {
    /// Applies the rows of a `register` that the ledger has accepted. The book is unchanged on an error.
    ///
    /// # Errors
    /// Rows out of order, beyond the book, on the wrong channel, with the wrong refund, or with a deposit of 2^64 nanos or more.
    pub fn apply_rows(&mut self, rows: &[Row]) -> Result<(), CircuitError> {
        let mut after = self.clone();
        let mut lowest = 0u32;
        for row in rows {
            if u32::from(row.slot) < lowest {
                return Err(CircuitError::RowsOutOfOrder { slot: row.slot });
            }
            lowest = u32::from(row.slot) + 1;
            after.apply_row(row)?;
        }
        *self = after;
        Ok(())
    }

    fn apply_row(&mut self, row: &Row) -> Result<(), CircuitError> {
        match row.change {
            Change::Served { opened_key, delta_nanos, closing_refund_nanos } => {
                let mut channel = match opened_key {
                    Some(key_x) => self.newly_opened(row.slot, row.uid, key_x)?,
                    None => *self.held_by(row)?,
                };
                channel.deposit_nanos = raised(row.slot, channel.deposit_nanos, delta_nanos)?;
                if closing_refund_nanos.is_some_and(|refund| channel.deposit_nanos.checked_sub(channel.settled_nanos) != Some(refund)) {
                    return Err(CircuitError::BadRow { slot: row.slot, field: RowField::Refund });
                }
                self.set(row.slot, closing_refund_nanos.is_none().then_some(channel));
            }
            Change::Out(held) => {
                if Held::from(self.held_by(row)?) != held {
                    return Err(CircuitError::BadRow { slot: row.slot, field: RowField::Content });
                }
                self.set(row.slot, None);
            }
            Change::In(held) => {
                self.check_vacant(row.slot, &row.uid)?;
                self.set(row.slot, Some(Slot::new(row.slot, row.uid, held.key_x, held.deposit_nanos, held.settled_nanos)?));
            }
        }
        Ok(())
    }

    /// The channel of a row that is in its slot already.
    fn held_by(&self, row: &Row) -> Result<&Slot, CircuitError> {
        let held = self.slot_or_error(row.slot)?;
        if held.uid == row.uid { Ok(held) } else { Err(CircuitError::BadRow { slot: row.slot, field: RowField::Uid }) }
    }

    /// Merges served requests into one row a channel, slots ascending (spec, section register-N). A move is a row of its own.
    ///
    /// # Errors
    /// [`CircuitError::UnknownUid`], [`CircuitError::NoSuchSlot`], [`CircuitError::SlotOccupied`], [`CircuitError::AlreadyOpen`],
    /// [`CircuitError::AlreadyClosed`], [`CircuitError::AlreadyMoved`], [`CircuitError::ZeroIdentity`], [`CircuitError::DepositOverflow`].
    pub fn rows_for(&self, operations: &[Operation]) -> Result<Vec<Row>, CircuitError> {
        let mut after = self.clone();
        let mut rows: Vec<Row> = Vec::new();
        for operation in operations {
            match *operation {
                Operation::Open { slot, uid, key_x, amount_nanos } => {
                    self.check_untouched(slot, &rows)?;
                    if rows.iter().any(|row| row.uid == uid && row.closing_refund_nanos().is_some()) {
                        return Err(CircuitError::AlreadyClosed { uid });
                    }
                    let channel = Slot { deposit_nanos: amount_nanos, ..after.newly_opened(slot, uid, key_x)? };
                    after.set(slot, Some(channel));
                    let change = Change::Served { opened_key: Some(key_x), delta_nanos: amount_nanos, closing_refund_nanos: None };
                    rows.push(Row { slot, uid, change });
                }
                Operation::TopUp { uid, amount_nanos } => {
                    let (slot, mut channel) = after.open_channel(&uid, &rows)?;
                    channel.deposit_nanos = raised(slot, channel.deposit_nanos, amount_nanos)?;
                    after.set(slot, Some(channel));
                    let (delta_nanos, _) = served_row(&mut rows, slot, uid)?;
                    *delta_nanos = raised(slot, *delta_nanos, amount_nanos)?;
                }
                Operation::Close { uid } => {
                    let (slot, channel) = after.open_channel(&uid, &rows)?;
                    let (_, closing_refund_nanos) = served_row(&mut rows, slot, uid)?;
                    // `settled ≤ deposit` is an invariant of a slot.
                    *closing_refund_nanos = Some(channel.deposit_nanos - channel.settled_nanos);
                    after.set(slot, None);
                }
                Operation::MoveOut { uid } => {
                    let (slot, channel) = after.open_channel(&uid, &rows)?;
                    if rows.iter().any(|row| row.slot == slot) {
                        return Err(CircuitError::AlreadyMoved { uid });
                    }
                    rows.push(Row { slot, uid, change: Change::Out(Held::from(&channel)) });
                    after.set(slot, None);
                }
                Operation::MoveIn { slot, channel } => {
                    self.check_untouched(slot, &rows)?;
                    after.check_vacant(slot, &channel.uid)?;
                    rows.push(Row { slot, uid: channel.uid, change: Change::In(Held::from(&channel)) });
                    after.set(slot, Some(channel));
                }
            }
        }
        rows.sort_by_key(|row| row.slot);
        Ok(rows)
    }

    /// A slot that is emptied in this batch is not empty on the chain yet: what fills it needs the old slot empty (L-16, L-30).
    fn check_untouched(&self, slot: u16, rows: &[Row]) -> Result<(), CircuitError> {
        let held_by = self.slot(slot).map(|held| held.uid);
        let used_by = rows.iter().find(|row| row.slot == slot).map(|row| row.uid);
        held_by.or(used_by).map_or(Ok(()), |held_by| Err(CircuitError::SlotOccupied { slot, held_by }))
    }

    fn newly_opened(&self, slot: u16, uid: ChannelId, key_x: Fr) -> Result<Slot, CircuitError> {
        self.check_vacant(slot, &uid)?;
        Slot::new(slot, uid, key_x, 0, 0)
    }

    pub(crate) fn check_vacant(&self, slot: u16, uid: &ChannelId) -> Result<(), CircuitError> {
        self.check_slot(slot)?;
        if let Some(held) = self.slot(slot) {
            return Err(CircuitError::SlotOccupied { slot, held_by: held.uid });
        }
        match self.find(uid) {
            Some(slot) => Err(CircuitError::AlreadyOpen { uid: *uid, slot }),
            None => Ok(()),
        }
    }

    fn open_channel(&self, uid: &ChannelId, rows: &[Row]) -> Result<(u16, Slot), CircuitError> {
        if rows.iter().any(|row| row.uid == *uid && row.closing_refund_nanos().is_some()) {
            return Err(CircuitError::AlreadyClosed { uid: *uid });
        }
        let slot = self.find(uid).ok_or(CircuitError::UnknownUid { uid: *uid })?;
        Ok((slot, *self.slot_or_error(slot)?))
    }

    pub(crate) fn check_slot(&self, slot: u16) -> Result<(), CircuitError> {
        if slot < self.size().slots() {
            Ok(())
        } else {
            Err(CircuitError::NoSuchSlot { slot: usize::from(slot), slots: self.size().to_usize() })
        }
    }

    pub(crate) fn slot_or_error(&self, slot: u16) -> Result<&Slot, CircuitError> {
        self.check_slot(slot)?;
        self.slot(slot).ok_or(CircuitError::EmptySlot { slot })
    }

    pub(crate) fn set(&mut self, number: u16, channel: Option<Slot>) {
        let Some(slot) = self.slots.get_mut(usize::from(number)) else { return };
        if let Some(old) = slot.take() {
            self.index.remove(&old.uid);
        }
        if let Some(new) = &channel {
            self.index.insert(new.uid, number);
        }
        *slot = channel;
    }
}

/// Delta and refund of the row that serves the requests of a channel, in nanos; a new one if there is none yet.
fn served_row(rows: &mut Vec<Row>, slot: u16, uid: ChannelId) -> Result<(&mut u64, &mut Option<u64>), CircuitError> {
    let position = rows.iter().position(|row| row.slot == slot).unwrap_or_else(|| {
        rows.push(Row { slot, uid, change: Change::Served { opened_key: None, delta_nanos: 0, closing_refund_nanos: None } });
        rows.len() - 1
    });
    match &mut rows[position].change {
        Change::Served { delta_nanos, closing_refund_nanos, .. } => Ok((delta_nanos, closing_refund_nanos)),
        Change::Out(_) | Change::In(_) => Err(CircuitError::AlreadyMoved { uid }),
    }
}

fn raised(slot: u16, deposit_nanos: u64, delta_nanos: u64) -> Result<u64, CircuitError> {
    deposit_nanos.checked_add(delta_nanos).ok_or(CircuitError::DepositOverflow { slot, deposit_nanos, delta_nanos })
}
