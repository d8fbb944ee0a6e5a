//! `contracts/vectors/settle_calldata.json`: the calldata that this crate makes is what the ledger reads, and the other way round.
//!
//! `MILLSTREAM_BLESS=1` writes the file; without it they are compared. `contracts/test/Vectors.t.sol` makes the same calldata of the same
//! numbers, gives it to a ledger, and finds each malformed list refused.

use alloy::hex;
use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolCall;
use millstream_chain::bindings::ILedger;
use millstream_chain::{BookSettlement, pack_settlements, unpack_settlements};
use millstream_types::{Amount, BookId, Tier};
use serde_json::{Value, json};

/// Slots of the tiers of the contracts' tests.
const TIERS: [u16; 4] = [24, 96, 384, 31];

/// The order of the field, less one: the largest root and commitment.
const FIELD_MAX: [u8; 32] = hex!("30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000000");

fn slots_of(tier: Tier) -> Option<u16> {
    TIERS.get(usize::from(tier.index())).copied()
}

/// Numbers that look random.
struct Stream(B256);

impl Stream {
    fn next(&mut self) -> [u8; 32] {
        self.0 = keccak256(self.0);
        self.0.0
    }

    fn number(&mut self) -> u64 {
        u64::from_be_bytes(*self.next().first_chunk().expect("8 of 32 bytes"))
    }

    /// Below the order of the field.
    fn field(&mut self) -> [u8; 32] {
        let mut word = self.next();
        word[0] &= 0x0f;
        word
    }

    /// A delta: nothing, a small one, any, or the largest.
    fn delta(&mut self) -> u64 {
        match self.number() % 5 {
            0 => 0,
            1 => self.number() & 0xff_ffff,
            2 => u64::MAX,
            _ => self.number(),
        }
    }

    fn settlement(&mut self, book: u32) -> BookSettlement {
        let book = BookId::from_u32(book);
        let deltas: Vec<u64> = (0..slots_of(book.tier()).expect("a tier")).map(|_| self.delta()).collect();
        BookSettlement {
            book,
            new_root: self.field(),
            total: Amount::from_units(deltas.iter().copied().map(u128::from).sum()),
            commitment: self.field(),
            proof: core::array::from_fn(|_| self.next()),
            deltas,
        }
    }
}

fn instances() -> Vec<(Vec<BookSettlement>, u64)> {
    let mut stream = Stream(keccak256("millstream settle calldata"));
    let mut list = |books: &[u32]| books.iter().map(|book| stream.settlement(*book)).collect::<Vec<_>>();
    let mut largest = list(&[0x0300_0001]);
    largest[0].deltas.fill(u64::MAX);
    (largest[0].new_root, largest[0].commitment, largest[0].proof) = (FIELD_MAX, FIELD_MAX, [[0xff; 32]; 8]);
    // The ledger adds nothing up: that the deltas make the total is for the proof.
    largest[0].total = Amount::from_units((1 << 96) - 1);
    let mut smallest = list(&[0x0000_0000]);
    smallest[0].deltas.fill(0);
    // No root is zero, or a book would be an empty one.
    (smallest[0].new_root, smallest[0].commitment, smallest[0].proof) = ([1; 32], [0; 32], [[0; 32]; 8]);
    smallest[0].total = Amount::ZERO;
    vec![
        (vec![], 0),
        (vec![], 2),
        (list(&[7]), 0),
        (list(&[0x0100_0003]), 1),
        (list(&[0x02ff_ffff]), 0),
        (largest, 0),
        (smallest, 3),
        (list(&[0x00ff_ffff, 0x0300_0000, 0x0100_0000, 0x0000_0001]), 1),
        // One book more than once.
        (list(&[9, 0x0300_0000, 9, 9]), 0),
    ]
}

/// Lists that are none, and how the ledger refuses each: what it expected and how much was left, or a tier.
fn malformed() -> Vec<(Vec<u8>, [usize; 2])> {
    let packed = |list: &[BookSettlement]| pack_settlements(list, slots_of).expect("a good list");
    let mut stream = Stream(keccak256("millstream malformed settlements"));
    let (small, other) = (stream.settlement(7), stream.settlement(0x0300_0002));
    let [one, two] = [packed(std::slice::from_ref(&small)), packed(&[small, other])];
    let mut of_another_tier = one.clone();
    of_another_tier[0] = 2;
    vec![
        (vec![0], [4, 1]),
        (vec![0; 3], [4, 3]),
        (vec![0; 4], [528, 4]),
        (one[..335].to_vec(), [528, 335]),
        (one[..336].to_vec(), [528, 336]),
        (one[..527].to_vec(), [528, 527]),
        (two[..529].to_vec(), [4, 1]),
        (two[..532].to_vec(), [584, 4]),
        (two[..two.len() - 1].to_vec(), [584, 583]),
        ([&one[..], &[0; 25]].concat(), [528, 25]),
        ([&two[..], &[3, 0, 0, 0]].concat(), [584, 4]),
        (of_another_tier, [3_408, 528]),
    ]
}

fn fields(settlement: &BookSettlement) -> Value {
    json!({
        "book": settlement.book.to_u32(),
        "newRoot": hex::encode_prefixed(settlement.new_root),
        "totalNanos": settlement.total.to_string(),
        "commitment": hex::encode_prefixed(settlement.commitment),
        "proof": settlement.proof.map(hex::encode_prefixed),
        "deltas": settlement.deltas.iter().map(u64::to_string).collect::<Vec<_>>(),
    })
}

#[test]
fn calldata_is_what_the_ledger_reads() {
    let mut written = Vec::new();
    for (list, epochs) in instances() {
        let settlements = pack_settlements(&list, slots_of).expect("a good list").into();
        let root = |epoch: u64| keccak256(epoch.to_be_bytes());
        let epochs: Vec<_> = (0..epochs).map(|epoch| ILedger::EpochAnchor { epoch, root: root(epoch) }).collect();
        let roots: Vec<_> = epochs.iter().map(|anchor| anchor.root.to_string()).collect();
        let call = ILedger::settleCall { settlements, epochs };
        let calldata = call.abi_encode();
        // What is read is what was written.
        let read = ILedger::settleCall::abi_decode(&calldata).expect("our own");
        assert_eq!(unpack_settlements(&read.settlements, slots_of).as_ref(), Ok(&list));
        assert_eq!(read.epochs, call.epochs);
        written.push(json!({
            "settlements": list.iter().map(fields).collect::<Vec<_>>(),
            "epochs": roots,
            "calldata": hex::encode_prefixed(&calldata),
        }));
    }
    let mut refused = Vec::new();
    for (bytes, [expected, actual]) in malformed() {
        let error = unpack_settlements(&bytes, slots_of).expect_err("malformed").to_string();
        assert!(error.contains(&format!("has {expected} bytes, and {actual} are left")), "{error}");
        refused.push(json!({ "settlements": hex::encode_prefixed(&bytes), "expected": expected, "actual": actual }));
    }
    compare(&json!({ "tiers": TIERS, "instances": written, "malformed": refused }));
}

fn compare(computed: &Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/vectors/settle_calldata.json");
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        let text = serde_json::to_string_pretty(computed).expect("JSON") + "\n";
        std::fs::write(path, text).expect("the file is writable");
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors")).expect("JSON");
    assert!(stored == *computed, "settle_calldata.json differs: run again with MILLSTREAM_BLESS=1 and read the difference");
}

/// The six books of the price list: at most 9 bytes a channel, as `Settlements.t.sol` has it for the ledger's side.
#[test]
fn six_books_of_384_take_nine_bytes_a_channel() {
    let mut stream = Stream(keccak256("millstream six books"));
    let list: Vec<BookSettlement> = (0..6).map(|book| stream.settlement(0x0200_0000 + book)).collect();
    let settlements = pack_settlements(&list, slots_of).expect("a good list").into();
    let bytes = ILedger::settleCall { settlements, epochs: vec![] }.abi_encode().len();
    assert!(bytes <= 9 * 6 * 384, "{bytes}");
}
