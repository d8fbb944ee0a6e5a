//! Epoch trees and line proofs: what holds, what does not, and the vectors for other implementations.

#![allow(clippy::disallowed_methods, reason = "a test may read and write its vectors")]

use std::path::Path;

use millstream_billing::{EpochTree, FrameLeaf, FrameTree, Line, LineProof, ProofError, SumNode, genesis_head, next_head};
use millstream_types::{Address, Amount, BillHead, ChainId, ChannelId, EpochId, Hash256, LedgerId, Reference};

fn ledger() -> LedgerId {
    LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([0x11; 20]) }
}

fn channel(number: u8) -> ChannelId {
    ChannelId::from_uid(&[number; 31])
}

fn line(seed: u64) -> Line {
    let mut reference = [0; 16];
    reference[8..].copy_from_slice(&seed.to_be_bytes());
    let digest = seed.is_multiple_of(5).then(|| Hash256::from_bytes([0x44; 32]));
    Line { amount: Amount::from_nanos(seed + 1), reference: Reference::from_bytes(reference), digest }
}

/// Frames of `sizes` lines on one channel, from its beginning.
fn frames(channel: ChannelId, sizes: &[usize]) -> Vec<(FrameLeaf, Vec<Line>)> {
    let (mut head, mut lines_total, mut cumulative) = (genesis_head(&channel), 0, 0);
    let mut frames = Vec::new();
    for size in sizes {
        let lines: Vec<Line> = (0..*size as u64).map(|index| line(lines_total + index)).collect();
        let paid: u64 = lines.iter().map(|line| line.amount.to_u64().expect("small")).sum();
        let root = FrameTree::new(&lines).expect("within the limits").root();
        let (lines_before, cumulative_before) = (lines_total, cumulative);
        lines_total += *size as u64;
        cumulative += paid;
        head = next_head(&head, &root, lines_total, cumulative);
        let leaf = FrameLeaf {
            channel,
            lines_before,
            lines_after: lines_total,
            cumulative_before,
            cumulative_after: cumulative,
            bill_head: head,
            frame_root: root,
        };
        frames.push((leaf, lines));
    }
    frames
}

fn epoch(frames: &[(FrameLeaf, Vec<Line>)]) -> EpochTree {
    let leaves: Vec<FrameLeaf> = frames.iter().map(|(leaf, _)| *leaf).collect();
    EpochTree::new(ledger(), EpochId::new(7), &leaves).expect("within the limits")
}

#[test]
fn every_line_of_an_epoch_is_proved_and_the_sums_add_up() {
    for sizes in [&[1][..], &[3, 1], &[5, 64, 2], &[1, 1, 1, 1, 7]] {
        let frames = frames(channel(1), sizes);
        let epoch = epoch(&frames);
        let root = epoch.header().root();
        let total: u128 = frames.iter().flat_map(|(_, lines)| lines).map(|line| line.amount.units()).sum();
        assert_eq!(epoch.header().top.sum.units(), total);
        for (frame_index, (leaf, lines)) in frames.iter().enumerate() {
            for line_index in 0..lines.len() {
                let proof = LineProof::new(&epoch, frame_index, *leaf, lines, line_index).expect("there");
                assert_eq!(proof.verify(&root), Ok(()));
                let json = serde_json::to_string(&proof).expect("plain data");
                assert_eq!(serde_json::from_str::<LineProof>(&json).expect("its own JSON"), proof);
            }
        }
    }
}

#[test]
fn a_proof_with_anything_changed_does_not_hold() {
    let frames = frames(channel(1), &[3, 6, 2]);
    let epoch = epoch(&frames);
    let root = epoch.header().root();
    let good = LineProof::new(&epoch, 1, frames[1].0, &frames[1].1, 5).expect("there");
    let check = |name: &str, change: &dyn Fn(&mut LineProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        assert!(proof.verify(&root).is_err(), "{name}");
    };
    let zero = Hash256::from_bytes([0; 32]);
    check("chain", &|proof| proof.chain_id += 1);
    check("ledger", &|proof| proof.ledger = Address::from_bytes([0x12; 20]));
    check("epoch", &|proof| proof.epoch += 1);
    check("frame count", &|proof| proof.frame_count += 1);
    check("frame index", &|proof| proof.frame_index = 0);
    check("frame index out of range", &|proof| proof.frame_index = 3);
    check("channel", &|proof| proof.frame.channel = channel(2));
    check("lines before", &|proof| proof.frame.lines_before -= 1);
    check("lines after", &|proof| proof.frame.lines_after = u64::MAX);
    check("lines out of order", &|proof| proof.frame.lines_after = 0);
    check("cumulative before", &|proof| proof.frame.cumulative_before += 1);
    check("cumulative after", &|proof| proof.frame.cumulative_after = 0);
    check("bill head", &|proof| proof.frame.bill_head = BillHead::from_bytes([0; 32]));
    check("frame root", &|proof| proof.frame.frame_root = zero);
    check("frame path", &|proof| proof.frame_path[0].hash = zero);
    check("frame path sum", &|proof| proof.frame_path[1].sum = Amount::from_nanos(1));
    check("frame path sum overflow", &|proof| proof.frame_path[0].sum = Amount::from_units(u128::MAX));
    check("frame path short", &|proof| proof.frame_path.truncate(1));
    check("frame path long", &|proof| proof.frame_path.push(SumNode { hash: zero, sum: Amount::ZERO }));
    check("line index", &|proof| proof.line_index = 4);
    check("line index in the padding", &|proof| proof.line_index = 6);
    check("amount", &|proof| proof.line.amount = Amount::from_nanos(1_000));
    check("amount too wide", &|proof| proof.line.amount = Amount::from_units(1 << 64));
    check("reference", &|proof| proof.line.reference = Reference::from_bytes([9; 16]));
    check("digest", &|proof| proof.line.digest = Some(zero));
    check("line path", &|proof| proof.line_path[0] = zero);
    check("line path short", &|proof| proof.line_path.truncate(2));
    check("line path long", &|proof| proof.line_path.push(zero));
    assert!(matches!(good.verify(&zero), Err(ProofError::EpochRoot { .. })));
}

#[test]
fn an_inner_node_is_not_a_line() {
    // Claim that the frame has half of its lines, each an inner node: the leaf's first byte says otherwise.
    let frames = frames(channel(1), &[4]);
    let epoch = epoch(&frames);
    let mut proof = LineProof::new(&epoch, 0, frames[0].0, &frames[0].1, 0).expect("there");
    proof.frame.lines_after = 2;
    proof.line_path.remove(0);
    assert!(proof.verify(&epoch.header().root()).is_err());
}

#[test]
fn records_that_do_not_hold_the_line_make_no_proof() {
    let frames = frames(channel(1), &[3, 2]);
    let epoch = epoch(&frames);
    assert_eq!(LineProof::new(&epoch, 0, frames[0].0, &frames[0].1, 3), Err(ProofError::NotThere));
    assert_eq!(LineProof::new(&epoch, 2, frames[0].0, &frames[0].1, 0), Err(ProofError::NotThere));
    assert!(LineProof::new(&epoch, 0, frames[0].0, &frames[1].1, 0).is_err());
}

#[test]
fn vectors_are_current() {
    let frames = frames(channel(1), &[1, 3, 64]);
    let epoch = epoch(&frames);
    let proof = LineProof::new(&epoch, 2, frames[2].0, &frames[2].1, 10).expect("there");
    let vectors = serde_json::json!({
        "about": "Frames of 1, 3 and 64 lines on one channel, in one epoch; see docs/spec/billing-tree.md.",
        "channel": channel(1),
        "genesis_head": genesis_head(&channel(1)),
        "frames": frames.iter().map(|(leaf, lines)| serde_json::json!({ "leaf": leaf, "lines": lines })).collect::<Vec<_>>(),
        "epoch_sum": epoch.header().top.sum,
        "epoch_hash": epoch.header().top.hash,
        "epoch_root": epoch.header().root(),
        "proof": proof,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/vectors/billing.json");
    let text = serde_json::to_string_pretty(&vectors).expect("plain data") + "\n";
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(&path, &text).expect("the vectors can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("contracts/vectors/billing.json is there");
    assert_eq!(committed, text, "run with MILLSTREAM_BLESS=1 to accept");
}
