//! From a book and served requests to everything that a registration needs: rows, roots, public inputs, witness.

use ark_bn254::Fr;
use ark_ff::AdditiveGroup;

use super::circuit::{RegisterInputs, RegisterSlot, register};
use crate::binding::{Place, PublicInputs, Transcript, encode_rows, keccak};
use crate::book::Book;
use crate::cs::{Values, Witness};
use crate::error::CircuitError;
use crate::rows::{Operation, Row};

/// The keccak of this is the type hash of a registration's `r` (L-11).
const DOMAIN: &str = "MillstreamRegister/1";

/// A registration that is ready to be proved.
#[derive(Clone, Debug)]
pub struct RegisterStatement {
    /// Where it is valid.
    pub place: Place,
    /// The book once the ledger has accepted it.
    pub book_after: Book,
    /// The rows, slots strictly ascending.
    pub rows: Vec<Row>,
    /// The root before.
    pub old_root: Fr,
    /// The root after.
    pub new_root: Fr,
    /// `(C, r, y)`.
    pub public: PublicInputs,
    inputs: RegisterInputs,
}

impl RegisterStatement {
    /// Serves requests in the order of the queue; those of one channel meet in one row.
    ///
    /// # Errors
    /// As [`Book::rows_for`]; the first operation that cannot be served decides.
    pub fn new(place: Place, book: &Book, operations: &[Operation]) -> Result<Self, CircuitError> {
        let rows = book.rows_for(operations)?;
        let mut book_after = book.clone();
        book_after.apply_rows(&rows)?;
        let (old_root, new_root) = (book.root(), book_after.root());

        let row_of_slot = row_of_slot(book, &rows);
        let data = data(old_root, new_root, &row_of_slot);
        let data_hash = keccak(&encode_rows(&rows));
        let public = Transcript { domain: DOMAIN, place, old_root, new_root, total_nanos: 0, data_hash }.bind(&data);

        let slots = book.fields().zip(&row_of_slot).map(|(before, row)| RegisterSlot::new(before, *row)).collect();
        Ok(Self { place, book_after, rows, old_root, new_root, public, inputs: RegisterInputs { public, slots } })
    }

    /// The private data `D` that `C` commits to.
    #[must_use]
    pub fn data(&self) -> Vec<Fr> {
        data(self.old_root, self.new_root, &row_of_slot(&self.book_after, &self.rows))
    }

    /// The full assignment of `register-N` and its products with A and B; the slots are computed in parallel.
    #[must_use]
    pub fn witness(&self) -> Witness {
        let mut cs = Values::new();
        register(&mut cs, &self.inputs);
        cs.into_witness()
    }

    /// The private data of the proof, for tests that corrupt it.
    #[cfg(test)]
    pub(crate) const fn inputs_mut(&mut self) -> &mut RegisterInputs {
        &mut self.inputs
    }
}

/// The row of each slot of the book. The rows are of this book.
fn row_of_slot<'a>(book: &Book, rows: &'a [Row]) -> Vec<Option<&'a Row>> {
    let mut row_of_slot = vec![None; book.size().to_usize()];
    for row in rows {
        row_of_slot[usize::from(row.slot)] = Some(row);
    }
    row_of_slot
}

fn data(old_root: Fr, new_root: Fr, row_of_slot: &[Option<&Row>]) -> Vec<Fr> {
    let mut data = vec![old_root, new_root];
    data.extend(row_of_slot.iter().flat_map(|row| row.map_or([Fr::ZERO; 3], Row::words)));
    data
}
