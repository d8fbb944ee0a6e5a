//! What `register` does to a book (L-16 … L-18): rows, and how requests become rows.

use ark_bn254::Fr;
use ark_ff::AdditiveGroup;
use millstream_types::ChannelId;

use crate::book::{Book, Slot};
use crate::error::{CircuitError, RowField};
use crate::tree::uid_to_field;

/// One served request, in nanos. The caller picks the slot of an `open`; the others are found by uid.
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
}

/// What happens to one slot: the ABI's `Row`. `open` and `close` are an `Option` each, so a key without `open`, or a refund without
/// `close`, cannot be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The slot.
    pub slot: u16,
    /// The channel.
    pub uid: ChannelId,
    /// `open`: the key.
    pub opened_key: Option<Fr>,
    /// What the deposit grows by, in nanos.
    pub delta_nanos: u64,
    /// `close`: the refund, in nanos.
    pub closing_refund_nanos: Option<u64>,
}

impl Row {
    /// Bit of [`Row::flags`]: the slot is touched. Set in every row.
    pub const TOUCHED: u8 = 1;
    /// Bit of [`Row::flags`]: `open`.
    pub const OPEN: u8 = 2;
    /// Bit of [`Row::flags`]: `close`.
    pub const CLOSE: u8 = 4;

    /// A row from the fields of the ABI's `Row`; `key_x` below `p`.
    ///
    /// # Errors
    /// [`CircuitError::BadRow`] for flags the ledger does not accept, a key without `open`, or a refund without `close`.
    pub fn from_abi(slot: u16, flags: u8, delta_nanos: u64, refund_nanos: u64, uid: ChannelId, key_x: Fr) -> Result<Self, CircuitError> {
        let bad = |field| CircuitError::BadRow { slot, field };
        if flags & Self::TOUCHED == 0 || flags & !(Self::TOUCHED | Self::OPEN | Self::CLOSE) != 0 {
            return Err(bad(RowField::Flags));
        }
        let opened_key = (flags & Self::OPEN != 0).then_some(key_x);
        if opened_key.is_none() && key_x != Fr::ZERO {
            return Err(bad(RowField::Key));
        }
        let closing_refund_nanos = (flags & Self::CLOSE != 0).then_some(refund_nanos);
        if closing_refund_nanos.is_none() && refund_nanos != 0 {
            return Err(bad(RowField::Refund));
        }
        Ok(Self { slot, uid, opened_key, delta_nanos, closing_refund_nanos })
    }

    /// The flags: 1 touched, 2 open, 4 close.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        let open = if self.opened_key.is_some() { Self::OPEN } else { 0 };
        let close = if self.closing_refund_nanos.is_some() { Self::CLOSE } else { 0 };
        Self::TOUCHED | open | close
    }

    /// The refund in nanos, 0 when the channel stays.
    #[must_use]
    pub fn refund_nanos(&self) -> u64 {
        self.closing_refund_nanos.unwrap_or(0)
    }

    /// The key word: the key of an `open`, else 0.
    #[must_use]
    pub fn key_x(&self) -> Fr {
        self.opened_key.unwrap_or(Fr::ZERO)
    }

    /// The three data words `(packed, uidWord, keyWord)` (spec, section register-N).
    pub(crate) fn words(&self) -> [Fr; 3] {
        let packed = [u64::from(self.flags()), self.delta_nanos, self.refund_nanos()];
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
        let mut channel = match row.opened_key {
            Some(key_x) => self.newly_opened(row.slot, row.uid, key_x)?,
            None => {
                let held = *self.slot_or_error(row.slot)?;
                if held.uid != row.uid {
                    return Err(CircuitError::BadRow { slot: row.slot, field: RowField::Uid });
                }
                held
            }
        };
        channel.deposit_nanos = raised(row.slot, channel.deposit_nanos, row.delta_nanos)?;
        match row.closing_refund_nanos {
            Some(refund) if channel.deposit_nanos.checked_sub(channel.settled_nanos) != Some(refund) => {
                Err(CircuitError::BadRow { slot: row.slot, field: RowField::Refund })
            }
            Some(_) => {
                self.set(row.slot, None);
                Ok(())
            }
            None => {
                self.set(row.slot, Some(channel));
                Ok(())
            }
        }
    }

    /// Merges served requests into one row a channel, slots ascending (spec, section register-N).
    ///
    /// # Errors
    /// [`CircuitError::UnknownUid`], [`CircuitError::NoSuchSlot`], [`CircuitError::SlotOccupied`], [`CircuitError::AlreadyOpen`],
    /// [`CircuitError::AlreadyClosed`], [`CircuitError::ZeroIdentity`], [`CircuitError::DepositOverflow`].
    pub fn rows_for(&self, operations: &[Operation]) -> Result<Vec<Row>, CircuitError> {
        let mut after = self.clone();
        let mut rows: Vec<Row> = Vec::new();
        for operation in operations {
            match *operation {
                Operation::Open { slot, uid, key_x, amount_nanos } => {
                    // A slot closed earlier in this batch is not empty on the chain yet: `open` needs the old slot empty (L-16).
                    let held_by = self.slot(slot).map(|held| held.uid);
                    let used_by = rows.iter().find(|row| row.slot == slot).map(|row| row.uid);
                    if let Some(held_by) = held_by.or(used_by) {
                        return Err(CircuitError::SlotOccupied { slot, held_by });
                    }
                    if rows.iter().any(|row| row.uid == uid && row.closing_refund_nanos.is_some()) {
                        return Err(CircuitError::AlreadyClosed { uid });
                    }
                    let channel = Slot { deposit_nanos: amount_nanos, ..after.newly_opened(slot, uid, key_x)? };
                    after.set(slot, Some(channel));
                    rows.push(Row { slot, uid, opened_key: Some(key_x), delta_nanos: amount_nanos, closing_refund_nanos: None });
                }
                Operation::TopUp { uid, amount_nanos } => {
                    let (slot, mut channel) = after.open_channel(&uid, &rows)?;
                    channel.deposit_nanos = raised(slot, channel.deposit_nanos, amount_nanos)?;
                    after.set(slot, Some(channel));
                    let row = row_of(&mut rows, slot, uid);
                    row.delta_nanos = raised(slot, row.delta_nanos, amount_nanos)?;
                }
                Operation::Close { uid } => {
                    let (slot, channel) = after.open_channel(&uid, &rows)?;
                    // `settled ≤ deposit` is an invariant of a slot.
                    row_of(&mut rows, slot, uid).closing_refund_nanos = Some(channel.deposit_nanos - channel.settled_nanos);
                    after.set(slot, None);
                }
            }
        }
        rows.sort_by_key(|row| row.slot);
        Ok(rows)
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
        if rows.iter().any(|row| row.uid == *uid && row.closing_refund_nanos.is_some()) {
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

fn row_of(rows: &mut Vec<Row>, slot: u16, uid: ChannelId) -> &mut Row {
    let position = rows.iter().position(|row| row.slot == slot).unwrap_or_else(|| {
        rows.push(Row { slot, uid, opened_key: None, delta_nanos: 0, closing_refund_nanos: None });
        rows.len() - 1
    });
    &mut rows[position]
}

fn raised(slot: u16, deposit_nanos: u64, delta_nanos: u64) -> Result<u64, CircuitError> {
    deposit_nanos.checked_add(delta_nanos).ok_or(CircuitError::DepositOverflow { slot, deposit_nanos, delta_nanos })
}
