use millstream_billing::{Line, frame_root, next_head};
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, LedgerId, Reference};
use millstream_wire::FrameMessage;

use super::*;

fn secret() -> SecretKey {
    SecretKey::from_entropy(&[9; 64]).expect("a key")
}

fn terms(salt: u8) -> ChannelTerms {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([2; 20]) };
    ChannelTerms { ledger, payer: Address::from_bytes([3; 20]), key_x: secret().public_key().x(), salt: [salt; 32] }
}

/// The next frame of one line on top of `before`: its voucher and the whole message.
fn frame(before: &VoucherBody) -> (SignedVoucher, Bytes) {
    let line = Line { amount: Amount::from_nanos(5), reference: Reference::from_bytes([1; 16]), digest: None };
    let (lines_total, nanos) = (before.lines_total + 1, before.cumulative.to_u64().expect("64 bits") + 5);
    let bill_head = next_head(&before.bill_head, &frame_root(&[line]).expect("one"), lines_total, nanos);
    let cumulative = CumulativeAmount::from_nanos(nanos);
    let body = VoucherBody { channel: before.channel, lines_total, cumulative, bill_head };
    let voucher = *secret().sign(body).expect("signs").signed();
    let mut bytes = bytes::BytesMut::new();
    FrameMessage::write(&mut bytes, &voucher, &[line]).expect("a frame");
    (voucher, bytes.freeze())
}

/// Writes frames and waits until each is released; returns the vouchers.
fn write(state: &StateDb, channel: ChannelId, count: usize, acked: &Arc<Mutex<VoucherBody>>) -> Vec<SignedVoucher> {
    let mut body = match state.channels().expect("reads").iter().find(|found| found.terms.uid() == channel) {
        Some(ChannelSummary { signed: Some(signed), .. }) => *signed.body(),
        _ => genesis(channel),
    };
    let (sender, released) = mpsc();
    let mut vouchers = Vec::new();
    for _ in 0..count {
        let (voucher, bytes) = frame(&body);
        body = *voucher.body();
        vouchers.push(voucher);
        let (sender, acked) = (sender.clone(), Arc::clone(acked));
        let release = Box::new(move |result| sender.send((voucher, result)).expect("listens"));
        state.writes().put(Put { voucher, frame: Some(bytes), acked, release }).expect("queued");
    }
    for voucher in &vouchers {
        let (released, result) = released.recv().expect("released");
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(released, *voucher, "in the order of the queue");
    }
    vouchers
}

type Released = (SignedVoucher, Result<(), StateError>);

fn mpsc() -> (std::sync::mpsc::Sender<Released>, std::sync::mpsc::Receiver<Released>) {
    std::sync::mpsc::channel()
}

fn state(directory: &tempfile::TempDir) -> StateDb {
    StateDb::open(&directory.path().join("payer.redb")).expect("opens")
}

#[test]
fn what_was_released_is_there_after_a_restart_and_what_was_acked_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = state(&directory);
    let (one, two) = (terms(1), terms(2));
    for terms in [&one, &two] {
        opened.add_channel(terms, &StoredKey::Stored(secret())).expect("added");
    }
    let acked = Arc::new(Mutex::new(genesis(one.uid())));
    let first = write(&opened, one.uid(), 5, &acked);
    let other = write(&opened, two.uid(), 1, &Arc::new(Mutex::new(genesis(two.uid()))));
    *lock(&acked) = *first[2].body();
    let more = write(&opened, one.uid(), 1, &acked);
    drop(opened);

    let opened = state(&directory);
    let mut channels = opened.channels().expect("reads");
    channels.sort_by_key(|found| found.terms.salt);
    assert_eq!(channels.iter().map(|found| found.terms).collect::<Vec<_>>(), [one, two]);
    assert_eq!((channels[0].signed, channels[0].acked), (Some(more[0]), *first[2].body()));
    assert_eq!((channels[0].unacked_frames, channels[1].unacked_frames), (3, 1));
    assert_eq!(channels[1].signed, Some(other[0]));
    let frames = opened.unacked_frames(one.uid()).expect("reads");
    let last: Vec<u8> = frame(first[4].body()).1.to_vec();
    assert_eq!(frames[2], last, "byte for byte");

    let loaded = opened.take(one.uid(), None).expect("taken");
    assert_eq!((loaded.signed, loaded.acked, loaded.frames), (Some(more[0]), *first[2].body(), frames));
}

#[test]
fn the_file_and_each_channel_have_one_owner() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = state(&directory);
    let again = StateDb::open(opened.path());
    assert!(matches!(again, Err(StateError::InUse { .. })), "{again:?}");
    let channel = opened.add_channel(&terms(1), &StoredKey::Stored(secret())).expect("added");
    let loaded = opened.take(channel, None).expect("taken");
    assert!(matches!(opened.take(channel, None), Err(StateError::ChannelInUse { .. })));
    drop(loaded);
    assert!(opened.take(channel, None).is_ok());

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(opened.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    drop(opened);
    assert!(StateDb::open(&directory.path().join("payer.redb")).is_ok());
}

#[test]
fn a_key_that_is_not_the_channels_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let opened = state(&directory);
    let stranger = SecretKey::from_entropy(&[1; 64]).expect("a key");
    let refused = opened.add_channel(&terms(1), &StoredKey::Stored(stranger.clone()));
    assert!(matches!(refused, Err(StateError::WrongKey { .. })));
    let channel = terms(1).uid();
    assert!(matches!(opened.take(channel, None), Err(StateError::UnknownChannel { .. })));
    opened.add_channel(&terms(1), &StoredKey::Supplied).expect("added");
    assert!(matches!(opened.take(channel, None), Err(StateError::KeyNeeded { .. })));
    assert!(matches!(opened.take(channel, Some(stranger)), Err(StateError::WrongKey { .. })));
    assert!(opened.take(channel, Some(secret())).is_ok());
    assert!(!opened.channels().expect("reads")[0].key_stored);
}

#[test]
fn a_state_that_does_not_add_up_is_refused() {
    let check = |what: &str, put: fn(&StateDb, ChannelId)| {
        let directory = tempfile::tempdir().expect("a directory");
        let opened = state(&directory);
        let channel = opened.add_channel(&terms(1), &StoredKey::Stored(secret())).expect("added");
        write(&opened, channel, 2, &Arc::new(Mutex::new(genesis(channel))));
        put(&opened, channel);
        let taken = opened.take(channel, None);
        assert!(matches!(taken, Err(StateError::Damaged { .. })), "{what}");
    };
    check("a frame is missing", |state, channel| {
        let transaction = state.inner.database.begin_write().expect("begins");
        transaction.open_table(FRAMES).expect("opens").remove(&frame_key(channel, 1)).expect("removes");
        transaction.commit().expect("commits");
    });
    check("a frame is cut short", |state, channel| {
        let transaction = state.inner.database.begin_write().expect("begins");
        transaction.open_table(FRAMES).expect("opens").insert(&frame_key(channel, 2), &[0u8; 3][..]).expect("inserts");
        transaction.commit().expect("commits");
    });
    check("the totals are of another version", |state, channel| {
        let transaction = state.inner.database.begin_write().expect("begins");
        transaction.open_table(TOTALS).expect("opens").insert(channel.as_bytes(), &[2u8; 146][..]).expect("inserts");
        transaction.commit().expect("commits");
    });
}
