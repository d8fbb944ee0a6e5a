//! What the tests over the public interface share.

use millstream_circuit::Place;
use millstream_types::{Address, BookId, ChainId, LedgerId, Tier};

/// The ledger and the book of every vector.
pub fn place() -> Place {
    let contract = Address::from_bytes(*b"\x5f\xbd\xb2\x31\x56\x78\xaf\xec\xb3\x67\xf0\x32\xd9\x3f\x64\x2f\x64\x18\x0a\xa3");
    let book = BookId::new(Tier::new(1), 5).expect("24 bits");
    Place { ledger: LedgerId { chain: ChainId::new(31_337), contract }, book }
}
