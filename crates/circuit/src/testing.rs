//! Books and vouchers for tests, made from small numbers.

use std::collections::BTreeSet;

use ark_bn254::Fr;
use millstream_types::{Address, BillHead, BookId, ChainId, ChannelId, CumulativeAmount, LedgerId};
use millstream_voucher::{SecretKey, VerifiedVoucher, VoucherBody};

use crate::{Book, BookSize, Operation, Place};

pub(crate) fn place() -> Place {
    let contract = Address::from_bytes([0xa5; 20]);
    Place { ledger: LedgerId { chain: ChainId::new(31337), contract }, book: BookId::from_u32(7) }
}

pub(crate) fn size(slots: usize) -> BookSize {
    BookSize::new(slots).expect("a size")
}

pub(crate) fn uid(number: u16) -> ChannelId {
    let mut uid = [0xc3; 31];
    uid[..2].copy_from_slice(&number.to_be_bytes());
    ChannelId::from_uid(&uid)
}

pub(crate) fn secret(number: u16) -> SecretKey {
    let mut entropy = [0x5e; 64];
    entropy[..2].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_entropy(&entropy).expect("a secret")
}

pub(crate) fn key_x(number: u16) -> Fr {
    secret(number).public_key().point().x
}

pub(crate) fn open(slot: u16, amount_nanos: u64) -> Operation {
    Operation::Open { slot, uid: uid(slot), key_x: key_x(slot), amount_nanos }
}

pub(crate) fn bill_head(number: u16) -> BillHead {
    BillHead::from_bytes([number.to_be_bytes()[1]; 32])
}

/// The voucher of the channel that [`open`] put into a slot.
pub(crate) fn voucher(slot: u16, cumulative_nanos: u64) -> VerifiedVoucher {
    let body = VoucherBody {
        channel: uid(slot),
        lines_total: 1,
        cumulative: CumulativeAmount::from_nanos(cumulative_nanos),
        bill_head: bill_head(slot),
    };
    secret(slot).sign(body).expect("a nonce")
}

/// A book with a channel of each deposit, from slot 0 up; a deposit of zero leaves a slot empty.
pub(crate) fn book(slots: usize, deposits: &[u64]) -> Book {
    let mut book = Book::empty(size(slots));
    let operations: Vec<Operation> =
        (0..).zip(deposits).filter(|(_, deposit)| **deposit != 0).map(|(slot, deposit)| open(slot, *deposit)).collect();
    let rows = book.rows_for(&operations).expect("empty slots");
    book.apply_rows(&rows).expect("rows of this book");
    book
}

/// The rows that a witness does not satisfy.
pub(crate) fn broken(structure: &crate::Structure, witness: &crate::Witness) -> Vec<usize> {
    structure.unsatisfied(&witness.assignment)
}

/// The public inputs with which `C` and `y` match the data that the circuit computed, at the same `r`.
///
/// The last rows of both circuits are the one for `C`, then one for each of the `data_len` words but the first.
pub(crate) fn rebound(structure: &crate::Structure, witness: &crate::Witness, data_len: usize) -> crate::PublicInputs {
    let rows = structure.constraints();
    let [_, point, value] = [1, 2, 3].map(|variable| witness.assignment[variable]);
    let (commitment_row, value_row) = (rows - data_len, rows - 1);
    let last_word = value - structure.product(crate::MatrixName::C, value_row, &witness.assignment);
    crate::PublicInputs { commitment: witness.a[commitment_row], point, value: witness.a[value_row] * witness.b[value_row] + last_word }
}

/// The variables that a lie chooses, given the assignment without it.
pub(crate) type Choice<'a> = dyn Fn(&[Fr]) -> Vec<(usize, Fr)> + 'a;

/// A circuit whose rows are looked at by group.
pub(crate) struct Groups<'a> {
    structure: &'a crate::Structure,
    rows: Vec<&'static str>,
    variables: Vec<&'static str>,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(structure: &'a crate::Structure) -> Self {
        Self { structure, rows: structure.group_of_rows(), variables: structure.group_of_variables() }
    }

    /// The names of all groups that have rows.
    pub(crate) fn of_rows(&self) -> BTreeSet<&'static str> {
        self.rows.iter().copied().collect()
    }

    /// The variables of a group, in order.
    pub(crate) fn variables(&self, group: &str) -> Vec<usize> {
        (0..self.variables.len()).filter(|variable| self.variables[*variable] == group).collect()
    }

    /// The groups that a witness breaks.
    pub(crate) fn unsatisfied(&self, witness: &crate::Witness) -> BTreeSet<&'static str> {
        broken(self.structure, witness).into_iter().map(|row| self.rows[row]).collect()
    }

    /// The groups that a witness breaks, after `C` and `y` were made to match its data.
    pub(crate) fn broken(&self, mut witness: crate::Witness, data_len: usize) -> BTreeSet<&'static str> {
        let public = rebound(self.structure, &witness, data_len);
        witness.assignment[1..4].copy_from_slice(&public.to_array());
        self.unsatisfied(&witness)
    }
}

/// The first two of some bits, least significant first, become others with the same sum.
pub(crate) fn same_sum(bits: &[usize], assignment: &[Fr]) -> Vec<(usize, Fr)> {
    vec![(bits[0], assignment[bits[0]] + Fr::from(2u64)), (bits[1], assignment[bits[1]] - Fr::from(1u64))]
}
