//! `contracts/vectors/{book,settle,register}.json`: what the ledger computes from calldata must be what this crate computes.
//!
//! `MILLSTREAM_BLESS=1` writes the files; without it they are compared.

use millstream_circuit::{Book, BookSize, Fr, Operation, RegisterStatement, Row, SettleStatement, Slot, encode_rows, field_to_word};
use millstream_types::{BillHead, ChannelId, CumulativeAmount};
use millstream_voucher::{SecretKey, VerifiedVoucher, VoucherBody};
use serde_json::{Value, json};

mod common;

use common::place;

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

fn field(element: Fr) -> String {
    hex(&field_to_word(element))
}

fn fields(elements: &[Fr]) -> Vec<String> {
    elements.iter().copied().map(field).collect()
}

fn size(slots: usize) -> BookSize {
    BookSize::new(slots).expect("a size")
}

fn uid(number: u8) -> ChannelId {
    ChannelId::from_uid(&[number.wrapping_mul(37) | 1; 31])
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_entropy(&[number + 1; 64]).expect("a secret")
}

fn open(slot: u8, amount_nanos: u64) -> Operation {
    let key_x = secret(slot).public_key().point().x;
    Operation::Open { slot: u16::from(slot), uid: uid(slot), key_x, amount_nanos }
}

fn voucher(slot: u8, cumulative_nanos: u64) -> VerifiedVoucher {
    let body = VoucherBody {
        channel: uid(slot),
        lines_total: 3,
        cumulative: CumulativeAmount::from_nanos(cumulative_nanos),
        bill_head: BillHead::from_bytes([slot ^ 0xb1; 32]),
    };
    secret(slot).sign(body).expect("a nonce")
}

fn opened(slots: usize, deposits: &[(u8, u64)]) -> Book {
    let operations: Vec<Operation> = deposits.iter().map(|(slot, amount)| open(*slot, *amount)).collect();
    RegisterStatement::new(place(), &Book::empty(size(slots)), &operations).expect("empty slots").book_after
}

/// A book with settled amounts.
fn settled(slots: usize, deposits: &[(u8, u64)], totals: &[(u8, u64)]) -> (Book, SettleStatement) {
    let before = opened(slots, deposits);
    let mut vouchers = vec![None; slots];
    for (slot, total) in totals {
        vouchers[usize::from(*slot)] = Some(voucher(*slot, *total));
    }
    let statement = SettleStatement::new(place(), &before, &vouchers).expect("good vouchers");
    (before, statement)
}

fn slots(book: &Book) -> Vec<Value> {
    book.channels()
        .map(|(slot, channel)| {
            json!({
                "slot": slot,
                "keyX": field(channel.key_x()),
                "uid": channel.uid().to_string(),
                "depositNanos": channel.deposit_nanos().to_string(),
                "settledNanos": channel.settled_nanos().to_string(),
            })
        })
        .collect()
}

fn place_fields() -> Value {
    let place = place();
    json!({
        "chainId": place.ledger.chain.to_string(),
        "ledger": place.ledger.contract.to_string(),
        "book": place.book.to_u32(),
    })
}

#[expect(clippy::disallowed_methods, reason = "blessing writes a file")]
fn compare(name: &str, stored: &str, computed: &Value) {
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        let path = format!("{}/../../contracts/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = serde_json::to_string_pretty(computed).expect("JSON") + "\n";
        std::fs::write(path, text).expect("the file is writable");
        return;
    }
    let stored: Value = serde_json::from_str(stored).expect("JSON");
    assert!(stored == *computed, "{name} differs: run again with MILLSTREAM_BLESS=1 and read the difference");
}

#[test]
fn books() {
    let empty: Vec<Value> =
        BookSize::STANDARD.iter().map(|size| json!({ "slots": size.slots(), "root": field(Book::empty_root(*size)) })).collect();
    let deposits = [(0, 1_000_000_000), (1, u64::MAX), (17, 5), (23, 42)];
    let books: Vec<Value> = [
        opened(24, &deposits),
        settled(24, &deposits, &[(1, u64::MAX), (17, 2)]).1.book_after,
        settled(48, &[(15, 9), (16, 10), (47, 11)], &[(47, 11)]).1.book_after,
    ]
    .iter()
    .map(|book| json!({ "size": book.size().slots(), "slots": slots(book), "root": field(book.root()) }))
    .collect();
    compare("book.json", include_str!("../../../contracts/vectors/book.json"), &json!({ "empty": empty, "books": books }));
}

/// Every seventh slot is empty; something is settled in every fifth. Each path is one run of words.
#[test]
fn paths() {
    let cases: [(usize, &[u16]); 6] =
        [(1, &[0]), (16, &[0, 15]), (17, &[0, 15, 16]), (24, &[0, 12, 23]), (96, &[0, 50, 95]), (384, &[0, 200, 383])];
    let instances: Vec<Value> = cases
        .iter()
        .flat_map(|(slots, shown)| {
            let held = (0..*slots).filter(|slot| slot % 7 != 3).map(|number| {
                let slot = u16::try_from(number).expect("small");
                let byte = u8::try_from(number % 251).expect("a byte");
                let mut uid = [byte ^ 0xa5; 31];
                uid[..2].copy_from_slice(&slot.to_be_bytes());
                let settled_nanos = if slot % 5 == 0 { u64::from(slot) * 1_000_003 } else { 0 };
                let deposit_nanos = if slot == 383 { u64::MAX } else { 5_000_000_000 + u64::from(slot) };
                let key_x = secret(byte).public_key().point().x;
                (slot, Slot::new(slot, ChannelId::from_uid(&uid), key_x, deposit_nanos, settled_nanos).expect("a slot"))
            });
            let book = Book::from_channels(size(*slots), held).expect("distinct channels");
            shown.iter().map(move |slot| path(&book, *slot)).collect::<Vec<_>>()
        })
        .collect();
    compare("paths.json", include_str!("../../../contracts/vectors/paths.json"), &json!({ "instances": instances }));
}

fn path(book: &Book, slot: u16) -> Value {
    let path = book.path(slot).expect("a channel");
    assert_eq!(path.root(book.size()), Some(book.root()));
    let words = |groups: &[[Fr; 16]]| hex(groups.as_flattened().iter().copied().map(field_to_word).collect::<Vec<_>>().as_flattened());
    json!({
        "slots": book.size().slots(),
        "slot": path.slot,
        "keyX": field(path.channel.key_x()),
        "uid": path.channel.uid().to_string(),
        "depositNanos": path.channel.deposit_nanos().to_string(),
        "settledNanos": path.channel.settled_nanos().to_string(),
        "staticPath": words(&path.static_path),
        "dynamicPath": words(&path.dynamic_path),
        "root": field(book.root()),
    })
}

#[test]
fn settlements() {
    let deposits = [(0, 1_000_000_000), (1, u64::MAX), (3, 77), (4, 5), (23, 42)];
    let cases: [&[(u8, u64)]; 3] = [
        // Slot 3 straddles the first two words.
        &[(0, 999_999_999), (1, u64::MAX), (3, 77), (23, 1)],
        &[(3, 1)],
        &[],
    ];
    let instances: Vec<Value> = cases
        .iter()
        .map(|totals| {
            let (before, statement) = settled(24, &deposits, totals);
            json!({
                "place": place_fields(),
                "size": 24,
                "slotsBefore": slots(&before),
                "slotsAfter": slots(&statement.book_after),
                "oldRoot": field(statement.old_root),
                "newRoot": field(statement.new_root),
                "totalNanos": statement.total_nanos.to_string(),
                "deltas": hex(&statement.deltas),
                "data": fields(&statement.data()),
                "commitment": field(statement.public.commitment),
                "r": field(statement.public.point),
                "y": field(statement.public.value),
            })
        })
        .collect();
    compare("settle.json", include_str!("../../../contracts/vectors/settle.json"), &json!({ "instances": instances }));
}

fn row(row: &Row) -> Value {
    json!({
        "slot": row.slot,
        "flags": row.flags(),
        "deltaNanos": row.delta_nanos().to_string(),
        "refundNanos": row.refund_nanos().to_string(),
        "uid": row.uid.to_string(),
        "keyX": field(row.key_x()),
    })
}

#[test]
fn registrations() {
    let (_, history) = settled(24, &[(0, 1_000), (1, 2_000), (2, 3_000), (9, 1)], &[(0, 400), (1, 2_000)]);
    let before = history.book_after;
    let top_up = |slot: u8, amount_nanos: u64| Operation::TopUp { uid: uid(slot), amount_nanos };
    let close = |slot: u8| Operation::Close { uid: uid(slot) };
    let arrives = |slot: u16, number: u8, deposit, settled| {
        let channel = Slot::new(slot, uid(number), secret(number).public_key().point().x, deposit, settled).expect("a channel");
        Operation::MoveIn { slot, channel }
    };
    let leaves = |slot: u8| Operation::MoveOut { uid: uid(slot) };
    let cases: [(Book, Vec<Operation>); 4] = [
        (before.clone(), vec![open(3, 5), top_up(2, u64::MAX - 3_000), close(0), open(23, 9), top_up(3, 6), close(1), close(23)]),
        (Book::empty(size(24)), vec![open(0, u64::MAX)]),
        (before.clone(), vec![leaves(0), leaves(1), arrives(5, 40, u64::MAX, u64::MAX), arrives(22, 41, 7, 0)]),
        (before, vec![]),
    ];
    let instances: Vec<Value> = cases
        .iter()
        .map(|(before, operations)| {
            let statement = RegisterStatement::new(place(), before, operations).expect("can be served");
            json!({
                "place": place_fields(),
                "size": 24,
                "slotsBefore": slots(before),
                "slotsAfter": slots(&statement.book_after),
                "oldRoot": field(statement.old_root),
                "newRoot": field(statement.new_root),
                "rows": statement.rows.iter().map(row).collect::<Vec<_>>(),
                "encodedRows": hex(&encode_rows(&statement.rows)),
                "data": fields(&statement.data()),
                "commitment": field(statement.public.commitment),
                "r": field(statement.public.point),
                "y": field(statement.public.value),
            })
        })
        .collect();
    compare("register.json", include_str!("../../../contracts/vectors/register.json"), &json!({ "instances": instances }));
}
