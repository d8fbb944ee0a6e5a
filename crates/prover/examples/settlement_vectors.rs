//! Writes `contracts/vectors/settlements.json`: one settlement of a book of 96 slots and six of books of 384, every slot active, with real
//! proofs under development keys. The contracts' tests measure what they cost.
//!
//! ```text
//! cargo run -p millstream-prover --example settlement_vectors
//! ```
//!
//! Everything is derived from constants, so the file never changes by chance. It takes minutes and 5 GB of memory. To be run again when a
//! circuit, the development keys, or the binding (L-9 … L-11) change; not when the contracts do.

use std::error::Error;
use std::path::Path;

use millstream_circuit::{Book, BookSize, Place, SettleStatement, Slot, field_from_word, field_to_word};
use millstream_prover::{Blinding, CircuitId, InsecureDevKeys, Prover};
use millstream_types::{Address, BillHead, BookId, ChainId, ChannelId, CumulativeAmount, LedgerId, Tier};
use millstream_voucher::{SecretKey, VerifiedVoucher, VoucherBody};
use serde_json::{Value, json};

/// Where the ledger has to be: proofs are bound to the chain and the address.
const CHAIN: u64 = 31_337;
const LEDGER: [u8; 20] = *b"\x5f\xbd\xb2\x31\x56\x78\xaf\xec\xb3\x67\xf0\x32\xd9\x3f\x64\x2f\x64\x18\x0a\xa3";

/// Slots, and how many books of them; the index is the tier.
const TIERS: [(usize, u32); 2] = [(96, 1), (384, 6)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut keys = Vec::new();
    let mut settlements = Vec::new();
    for (tier, (slots, books)) in (0..).zip(TIERS) {
        let size = BookSize::new(slots)?;
        let circuit = CircuitId::settle(size);
        let made = InsecureDevKeys::generate(circuit)?;
        let words = made.verifying_key().words();
        eprintln!("{circuit}: key {}", made.verifying_key().key_hash());
        keys.push(json!({ "slots": slots, "keyHash": made.verifying_key().key_hash().to_string(), "words": hex(words.as_flattened()) }));
        let prover = Prover::insecure_dev([made]);
        for number in 0..books {
            let book = BookId::new(Tier::new(tier), number)?;
            settlements.push(settlement(&prover, size, book)?);
            eprintln!("{circuit}: book {number} of {books}");
        }
    }
    let ledger = Address::from_bytes(LEDGER).to_string();
    let file = json!({ "chainId": CHAIN.to_string(), "ledger": ledger, "keys": keys, "settlements": settlements });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/vectors/settlements.json");
    std::fs::write(path, serde_json::to_string_pretty(&file)? + "\n")?;
    Ok(())
}

fn settlement(prover: &Prover, size: BookSize, book_id: BookId) -> Result<Value, Box<dyn Error>> {
    let contract = Address::from_bytes(LEDGER);
    let place = Place { ledger: LedgerId { chain: ChainId::new(CHAIN), contract }, book: book_id };
    let channels = (0..size.slots()).map(|slot| channel(book_id, slot)).collect::<Result<Vec<_>, _>>()?;
    let held = channels.iter().map(|channel| (channel.slot, channel.held));
    let book = Book::from_channels(size, held)?;
    let vouchers: Vec<Option<VerifiedVoucher>> = channels.into_iter().map(|channel| Some(channel.voucher)).collect();
    let statement = SettleStatement::new(place, &book, &vouchers)?;
    let mut entropy = [0; 128];
    blake3::Hasher::new_derive_key("millstream 2026 settlement vector blinding")
        .update(&book_id.to_u32().to_be_bytes())
        .finalize_xof()
        .fill(&mut entropy);
    let proof = prover.prove_settle(&statement, &Blinding::from_entropy(&entropy))?;
    Ok(json!({
        "slots": size.slots(),
        "book": book_id.to_u32(),
        "oldRoot": hex(&field_to_word(statement.old_root)),
        "newRoot": hex(&field_to_word(statement.new_root)),
        "totalNanos": statement.total_nanos.to_string(),
        "commitment": hex(&field_to_word(statement.public.commitment)),
        "proof": hex(proof.words().as_flattened()),
        "deltas": hex(&statement.deltas),
    }))
}

struct Channel {
    slot: u16,
    held: Slot,
    voucher: VerifiedVoucher,
}

/// A channel of which something was settled before, and a voucher over a delta of five bytes more. All deltas are different.
fn channel(book: BookId, slot: u16) -> Result<Channel, Box<dyn Error>> {
    let mut stream = blake3::Hasher::new_derive_key("millstream 2026 settlement vector channel")
        .update(&book.to_u32().to_be_bytes())
        .update(&slot.to_be_bytes())
        .finalize_xof();
    let (mut entropy, mut uid, mut delta) = ([0; 64], [0; 31], [0; 8]);
    stream.fill(&mut entropy);
    stream.fill(&mut uid);
    stream.fill(&mut delta[3..]);
    delta[3] |= 1;
    let delta_nanos = u64::from_be_bytes(delta);
    let settled_nanos = 1_000_000_007 * (u64::from(slot) + 1);
    let deposit_nanos = 5_000_000_000_000;

    let secret = SecretKey::from_entropy(&entropy)?;
    let channel = ChannelId::from_uid(&uid);
    let key_x = field_from_word(&secret.public_key().x()).ok_or("a key is below the order")?;
    let held = Slot::new(slot, channel, key_x, deposit_nanos, settled_nanos)?;
    let cumulative = CumulativeAmount::from_nanos(settled_nanos + delta_nanos);
    let body = VoucherBody { channel, lines_total: u64::from(slot), cumulative, bill_head: BillHead::from_bytes([delta[7]; 32]) };
    Ok(Channel { slot, held, voucher: secret.sign(body)? })
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}
