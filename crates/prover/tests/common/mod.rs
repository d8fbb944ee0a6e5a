//! Books and statements to prove.

use millstream_circuit::{Book, BookSize, Operation, Place, RegisterStatement, SettleStatement, field_from_word};
use millstream_types::{Address, BillHead, BookId, ChainId, ChannelId, CumulativeAmount, LedgerId, Tier};
use millstream_voucher::{SecretKey, VoucherBody};

pub fn place(chain: u64) -> Place {
    let ledger = LedgerId { chain: ChainId::new(chain), contract: Address::from_bytes([0x11; 20]) };
    Place { ledger, book: BookId::new(Tier::new(0), 7).expect("small") }
}

pub fn size(slots: usize) -> BookSize {
    BookSize::new(slots).expect("in range")
}

fn secret(slot: u16) -> SecretKey {
    let [high, low] = slot.to_be_bytes();
    let mut entropy = [7; 64];
    entropy[..2].copy_from_slice(&[high, low]);
    SecretKey::from_entropy(&entropy).expect("not zero")
}

fn uid(slot: u16) -> ChannelId {
    let [high, low] = slot.to_be_bytes();
    let mut bytes = [9; 31];
    bytes[..2].copy_from_slice(&[high, low]);
    ChannelId::from_uid(&bytes)
}

/// Opens a channel of 1,000 nanos in each even slot.
fn opens(size: BookSize) -> Vec<Operation> {
    let open = |slot| {
        let key_x = field_from_word(&secret(slot).public_key().x()).expect("below the order");
        Operation::Open { slot, uid: uid(slot), key_x, amount_nanos: 1_000 }
    };
    (0..size.slots()).step_by(2).map(open).collect()
}

/// The first registration of an empty book: channels in the even slots.
pub fn registration(size: BookSize, place: Place) -> RegisterStatement {
    RegisterStatement::new(place, &Book::empty(size), &opens(size)).expect("requests that can be served")
}

/// A settlement of every channel of that book: slot `i` pays `i + 1` nanos.
pub fn settlement(size: BookSize, place: Place) -> SettleStatement {
    let book = registration(size, place).book_after;
    let voucher = |slot: u16| {
        let nanos = u64::from(slot) + 1;
        let bill_head = BillHead::from_bytes([0xb1; 32]);
        let cumulative = CumulativeAmount::from_nanos(nanos);
        let body = VoucherBody { channel: uid(slot), lines_total: 1, cumulative, bill_head };
        secret(slot).sign(body).expect("fits")
    };
    let vouchers: Vec<_> = (0..size.slots()).map(|slot| book.slot(slot).map(|_| voucher(slot))).collect();
    SettleStatement::new(place, &book, &vouchers).expect("vouchers that settle")
}
