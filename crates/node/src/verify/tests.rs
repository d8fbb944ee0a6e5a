use millstream_types::{BillHead, ChannelId, CumulativeAmount};
use millstream_voucher::{ScalarChecker, SecretKey, VoucherBody};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::*;
use crate::core_tests::Random;

/// Vouchers of one payer in order, and what the exact check says to each.
struct Payer {
    key: Arc<CheckingKey>,
    vouchers: Vec<(SignedVoucher, Verdict)>,
}

impl Payer {
    /// A payer whose every third voucher is bad, each in its own way.
    fn new(number: u8) -> Self {
        let secret = SecretKey::from_entropy(&[number + 1; 64]).expect("a key");
        let other = SecretKey::from_entropy(&[number + 101; 64]).expect("a key");
        let (key, channel) = (Arc::new(CheckingKey::new(&secret.public_key())), ChannelId::from_uid(&[number + 1; 31]));
        let body = |line: u64| VoucherBody {
            channel,
            lines_total: line,
            cumulative: CumulativeAmount::from_nanos(line * 3),
            bill_head: BillHead::from_bytes([number; 32]),
        };
        let sign = |secret: &SecretKey, line| *secret.sign(body(line)).expect("64 bits").signed();
        let voucher = |line| {
            let good = sign(&secret, line);
            let (voucher, is_good) = match line % 9 {
                1 => (sign(&other, line), false),
                4 => (SignedVoucher::new(body(line + 1), *good.signature()).expect("64 bits"), false),
                // A response of zero.
                7 => (SignedVoucher::from_bytes(channel, &core::array::from_fn(|_| 0)), false),
                _ => (good, true),
            };
            let verdict = voucher.verify_with(&key);
            assert_eq!(verdict.is_ok(), is_good, "line {line}");
            (voucher, verdict)
        };
        let vouchers = (1..=20).map(voucher).collect();
        Self { key, vouchers }
    }

    /// So many vouchers from a place on, and the answers to them.
    fn some(&self, from: usize, count: usize) -> (Vec<SignedVoucher>, Vec<Verdict>) {
        self.vouchers.iter().cycle().skip(from).take(count).copied().unzip()
    }
}

/// The exact check as if it were a fast one of eight lanes, so that calls of fewer vouchers queue on any processor. Sees every batch first.
struct Wide<F>(F);

impl<F: Fn(usize) + Send + Sync> VoucherChecker for Wide<F> {
    fn check(&self, batch: &[(SignedVoucher, &CheckingKey)]) -> Vec<Verdict> {
        (self.0)(batch.len());
        ScalarChecker.check(batch)
    }

    fn name(&self) -> &'static str {
        "wide"
    }

    fn lanes(&self) -> usize {
        8
    }
}

/// A verifier with a [`Wide`] checker, and its metrics.
fn wide(sees: impl Fn(usize) + Send + Sync + 'static) -> (Arc<Verifier>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    (Arc::new(Verifier::with_checker(Box::leak(Box::new(Wide(sees))), Arc::clone(&metrics))), metrics)
}

fn under_way(verifier: &Verifier) -> usize {
    verifier.inner.under_way.load(Ordering::Relaxed)
}

/// Many tasks with calls of all sizes, of which they give some up: each gets its own answers.
async fn check_many(verifier: &Arc<Verifier>, seed: u64) {
    let payers: Arc<Vec<_>> = Arc::new((0..6).map(Payer::new).collect());
    let task = |number: usize| {
        let (verifier, payers, mut random) = (Arc::clone(verifier), Arc::clone(&payers), Random(seed + number as u64));
        tokio::spawn(async move {
            for round in 0..12 {
                let payer = &payers[number % payers.len()];
                let (vouchers, expected) = payer.some(random.below(20), [1, 3, 8, 20][random.below(4)]);
                let check = verifier.check(&payer.key, vouchers);
                if random.below(4) == 0 {
                    tokio::select! {
                        biased;
                        verdicts = check => assert_eq!(verdicts, expected, "task {number}, round {round}"),
                        () = yield_now() => {}
                    }
                } else {
                    assert_eq!(check.await, expected, "task {number}, round {round}");
                }
            }
        })
    };
    for task in (0..16).map(task).collect::<Vec<_>>() {
        task.await.expect("its own answers");
    }
    assert_eq!(under_way(verifier), 0);
    assert!(verifier.tasks.iter().all(|task| !task.is_finished()), "a checking task has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_gets_the_answers_to_their_own_vouchers() {
    let metrics = Arc::new(Metrics::new());
    check_many(&Arc::new(Verifier::start(Arc::clone(&metrics))), 1).await;
    assert_eq!(metrics.check_disagreements.get(), 0);
    let (verifier, metrics) = wide(|_| {});
    check_many(&verifier, 2).await;
    assert_eq!(metrics.check_disagreements.get(), 0);
}

#[tokio::test]
async fn what_has_gathered_is_checked_together() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let (seen, payers) = (Arc::clone(&sizes), [Payer::new(0), Payer::new(1)]);
    let (verifier, _) = wide(move |size| seen.lock().expect("no panic").push(size));
    let place = Place::take(&verifier.inner.under_way);
    let sessions: Vec<_> = (0..40)
        .map(|number| {
            let (payer, verifier) = (&payers[number % 2], Arc::clone(&verifier));
            let (key, (vouchers, expected)) = (Arc::clone(&payer.key), payer.some(number, 3));
            tokio::spawn(async move { assert_eq!(verifier.check(&key, vouchers).await, expected, "session {number}") })
        })
        .collect();
    for _ in 0..100 {
        yield_now().await;
    }
    for session in sessions {
        assert!(session.is_finished(), "nobody looks after the rest of the queue");
        session.await.expect("its own answers");
    }
    assert_eq!(*sizes.lock().expect("no panic"), [33, 33, 33, 21]);

    // Who has enough vouchers, or is alone, waits for nobody.
    check_at_once(&verifier, &payers[0], 8).await;
    drop(place);
    assert_eq!(under_way(&verifier), 0);
    check_at_once(&verifier, &payers[1], 1).await;
    assert_eq!(*sizes.lock().expect("no panic"), [33, 33, 33, 21, 8, 1]);
    assert_eq!(under_way(&verifier), 0);
}

/// Checks this many vouchers without waiting for a task.
async fn check_at_once(verifier: &Verifier, payer: &Payer, count: usize) {
    let (vouchers, expected) = payer.some(0, count);
    tokio::select! {
        biased;
        verdicts = verifier.check(&payer.key, vouchers) => assert_eq!(verdicts, expected),
        () = core::future::ready(()) => panic!("{count} vouchers wait"),
    }
}

/// Polls a call of this many vouchers until it waits in the queue, and drops it there.
async fn give_up(verifier: &Verifier, payer: &Payer, count: usize) {
    let before = under_way(verifier);
    tokio::select! {
        biased;
        _ = verifier.check(&payer.key, payer.some(0, count).0) => panic!("did not wait"),
        () = async { assert_eq!(under_way(verifier), before + 1) } => {}
    }
    assert_eq!(under_way(verifier), before);
}

#[tokio::test]
async fn a_call_that_is_given_up_in_the_queue_disturbs_nobody() {
    let (verifier, _) = wide(|_| {});
    let (gone, payer) = (Payer::new(0), Payer::new(1));
    let place = Place::take(&verifier.inner.under_way);
    for count in [1, 3, 7] {
        give_up(&verifier, &gone, count).await;
        let (vouchers, expected) = payer.some(count, 3);
        let ((), verdicts, ()) =
            tokio::join!(give_up(&verifier, &gone, count), verifier.check(&payer.key, vouchers), give_up(&verifier, &gone, count));
        assert_eq!(verdicts, expected);
    }
    drop(place);
    assert_eq!(under_way(&verifier), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_while_it_is_checked_disturbs_nobody() {
    let (entered, mut batches) = mpsc::unbounded_channel();
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (verifier, _) = wide(move |size| {
        entered.send(size).expect("is listened to");
        // Ends when the sender is dropped.
        let _ = gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
    });
    let payers = [Payer::new(0), Payer::new(1)];
    let place = Place::take(&verifier.inner.under_way);
    let call = |payer: &Payer, count| {
        let (verifier, key, (vouchers, expected)) = (Arc::clone(&verifier), Arc::clone(&payer.key), payer.some(0, count));
        tokio::spawn(async move { assert_eq!(verifier.check(&key, vouchers).await, expected) })
    };
    let given_up = call(&payers[0], 3);
    assert_eq!(batches.recv().await, Some(3));
    // Its batch holds up one of two workers; the other one ends the call.
    given_up.abort();
    assert!(given_up.await.expect_err("given up").is_cancelled());
    assert_eq!(under_way(&verifier), 1);
    let stays = call(&payers[1], 5);
    drop(open);
    stays.await.expect("its own answers");
    assert_eq!(batches.recv().await, Some(5));
    drop(place);
    assert_eq!(under_way(&verifier), 0);
}

#[tokio::test]
async fn a_checker_that_panics_is_asked_no_more() {
    let payer = Payer::new(0);
    for good_calls in 0..3 {
        for is_queued in [true, false] {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let (verifier, metrics) = wide(move |_| {
                if counted.fetch_add(1, Ordering::Relaxed) >= good_calls {
                    // Unlike `panic!`, prints nothing.
                    std::panic::resume_unwind(Box::new("the checker"));
                }
            });
            let place = is_queued.then(|| Place::take(&verifier.inner.under_way));
            for call in 0..5 {
                let at = format!("call {call} of {good_calls} good ones, queued: {is_queued}");
                let (vouchers, expected) = payer.some(call, 3);
                assert_eq!(verifier.check(&payer.key, vouchers).await, expected, "{at}");
                assert_eq!(metrics.check_disagreements.get(), i64::from(call >= good_calls), "{at}");
                assert!(verifier.tasks.iter().all(|task| !task.is_finished()), "{at}: a checking task has ended");
            }
            assert_eq!(calls.load(Ordering::Relaxed), good_calls + 1);
            drop(place);
            assert_eq!(under_way(&verifier), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_checker_that_panics_among_many_calls_stops_nobody() {
    for good_calls in [0, 7, 40] {
        let calls = AtomicUsize::new(0);
        let (verifier, metrics) = wide(move |_| {
            if calls.fetch_add(1, Ordering::Relaxed) >= good_calls {
                std::panic::resume_unwind(Box::new("the checker"));
            }
        });
        check_many(&verifier, 3).await;
        assert!(metrics.check_disagreements.get() > 0);
    }
}
