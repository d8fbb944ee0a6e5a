//! A payer leaves alone: the provider dead, or running against it.

mod common;

use common::{ALICE, BOB, now, world};
use millstream_recovery::{AuditOptions, ExitError, ExitOutcome, ExitReport, ExitStep, ExitWay, Finding, HaltChoice, Severity, audit};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::Amount;

fn left(outcome: ExitOutcome) -> ExitReport {
    match outcome {
        ExitOutcome::Left(report) => report,
        waiting @ ExitOutcome::Waiting { .. } => panic!("{waiting:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_leaves_a_dead_provider_with_what_is_its_own() {
    let world = world().await;
    let mut provider = world.provider().await;
    let mine = world.open(ALICE, 1, 5_000_000).await;
    let others = world.open(BOB, 2, 1_000_000).await;
    provider.register_all().await;
    provider.settle(&[(mine, 1, 1_234_567_890), (others, 2, 1)]).await;
    // Another payer's requests are before it in the queue, and a top-up of its own by a third party.
    world.open(BOB, 3, 9).await;
    world.payer(BOB).top_up(mine, 1_000).await.expect("topped up");
    drop(provider);

    assert_eq!(world.exit(ALICE).await.channels().await.expect("read"), [mine]);
    let before = world.balance(ALICE).await;
    let mut steps = Vec::new();
    let outcome = world.exit(ALICE).await.run(mine, &mut |step| steps.push(step)).await.expect("asked");
    assert!(matches!(steps[..], [ExitStep::CloseRequested { .. }]), "{steps:?}");
    let expected = Amount::from_nanos(5_001_000_000 - 1_234_567_890);
    let ExitOutcome::Waiting { deadline, now, expected: told } = outcome else { panic!("{outcome:?}") };
    assert_eq!((told, deadline.as_secs_down() - now.as_secs_down()), (expected, common::WINDOW_SECS));
    // Asked again too early, it says the same and sends nothing.
    let again = world.exit(ALICE).await.run(mine, &mut |step| panic!("{step:?}")).await.expect("nothing to do");
    assert!(matches!(again, ExitOutcome::Waiting { .. }));
    // Nobody but its payer takes a channel out.
    let stranger = world.exit(BOB).await.run(mine, &mut |_| {}).await;
    assert!(matches!(stranger, Err(ExitError::NotPayer { .. })), "{stranger:?}");

    world.pass_the_window();
    let mut steps = Vec::new();
    let report = left(world.exit(ALICE).await.run(mine, &mut |step| steps.push(step)).await.expect("out"));
    assert!(
        matches!(steps[..], [ExitStep::Proving { requests: 3, left: 0 }, ExitStep::Registered { .. }, ExitStep::Withdrawn { .. }]),
        "{steps:?}"
    );
    assert_eq!((report.deposited, report.settled.units(), report.refunded), (Amount::from_nanos(5_001_000_000), 1_234_567_890, expected));
    assert_eq!((report.way, report.paid_base_units, report.credit_left), (ExitWay::OwnProof, 3_766_432, Amount::from_nanos(110)));
    assert_eq!(world.balance(ALICE).await, before + 3_766_432);

    // Run again, there is nothing to do; and the ledger is as good as before for the others.
    let again = left(world.exit(ALICE).await.run(mine, &mut |step| panic!("{step:?}")).await.expect("out already"));
    assert_eq!((again.paid_base_units, again.refunded, again.transactions.len()), (0, expected, 0));
    let mut provider = world.provider().await;
    provider.settle(&[(others, 2, 5)]).await;
    assert_eq!(world.ledger.credit(DEV_ACCOUNTS[common::PROVIDER].address).await.expect("read").units(), 1_234_567_895);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_never_got_into_a_book_is_left_too() {
    let world = world().await;
    let mine = world.open(ALICE, 1, 123_456).await;
    world.payer(ALICE).top_up(mine, 44).await.expect("topped up");
    let before = world.balance(ALICE).await;
    world.exit(ALICE).await.run(mine, &mut |_| {}).await.expect("asked");
    let others = world.open(BOB, 2, 77).await;
    world.pass_the_window();
    let mut steps = Vec::new();
    let report = left(world.exit(ALICE).await.run(mine, &mut |step| steps.push(step)).await.expect("out"));
    assert!(matches!(steps[..], [ExitStep::Cancelled { .. }, ExitStep::Withdrawn { .. }]), "{steps:?}");
    assert_eq!((report.way, report.paid_base_units, report.credit_left), (ExitWay::Cancelled, 123_500, Amount::ZERO));
    assert_eq!(world.balance(ALICE).await, before + 123_500);
    // Its credit is what it got, and the rebuilt ledger says the same.
    assert_eq!(world.rebuild().await.rebuilt().withdrawn(), Amount::from_nanos(123_500_000));
    // Its three requests are void: whoever serves the queue passes over them, the payer behind it too.
    world.exit(BOB).await.run(others, &mut |_| {}).await.expect("out");
    world.open(BOB, 3, 5).await;
    world.provider().await.register_all().await;
    let rebuild = world.rebuild().await;
    assert_eq!((rebuild.rebuilt().queue().len(), rebuild.rebuilt().books().len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_leaves_a_halted_ledger() {
    let world = world().await;
    let mut provider = world.provider().await;
    let mine = world.open(ALICE, 1, 5_000_000).await;
    let others = world.open(BOB, 2, 1_000_000).await;
    provider.register_all().await;
    provider.settle(&[(mine, 1, 1_234_567_890), (others, 2, 400_000_001)]).await;
    // A top-up and an opening that are never served.
    world.payer(BOB).top_up(mine, 1_000).await.expect("topped up");
    let queued = world.open(BOB, 3, 9).await;

    let nothing = |step: ExitStep| panic!("{step:?}");
    let early = world.exit(ALICE).await.leave(mine, HaltChoice::WhenPossible, &mut { nothing }).await;
    assert!(matches!(early, Err(ExitError::NotHalted { index: 2, .. })), "{early:?}");
    world.pass_the_halt_window();
    let unwanted = world.exit(ALICE).await.leave(mine, HaltChoice::Never, &mut { nothing }).await;
    assert!(matches!(unwanted, Err(ExitError::HaltNotWanted { index: 2 })), "{unwanted:?}");

    let before = [world.balance(ALICE).await, world.balance(BOB).await];
    let mut steps = Vec::new();
    let report = world.exit(ALICE).await.leave(mine, HaltChoice::WhenPossible, &mut |step| steps.push(step)).await;
    let report = left(report.expect("out"));
    assert!(matches!(steps[..], [ExitStep::Halted { .. }, ExitStep::Left { .. }, ExitStep::Withdrawn { .. }]), "{steps:?}");
    assert_eq!((report.way, report.refunded), (ExitWay::Halt, Amount::from_nanos(5_001_000_000 - 1_234_567_890)));
    // The others leave with the same command, whether they were in a book or not; `exit` comes to the same.
    let mut exit = world.exit(BOB).await;
    let mut own = exit.channels().await.expect("read");
    own.sort_by_key(|channel| *channel != others);
    assert_eq!(own, [others, queued]);
    let report = left(exit.leave(others, HaltChoice::Never, &mut |_| {}).await.expect("out"));
    assert_eq!(
        (report.way, report.refunded, report.credit_left),
        (ExitWay::Halt, Amount::from_nanos(599_999_999), Amount::from_nanos(999))
    );
    let report = left(exit.run(queued, &mut |_| {}).await.expect("out"));
    assert_eq!((report.way, report.refunded, report.paid_base_units), (ExitWay::Cancelled, Amount::from_nanos(9_000), 9));
    assert_eq!([world.balance(ALICE).await, world.balance(BOB).await], [before[0] + 3_766_432, before[1] + 599_999 + 9]);

    // Everything adds up, the provider's credit is there, and an audit says that it is over.
    let rebuild = world.rebuild().await;
    assert!(rebuild.rebuilt().halted().is_some());
    assert!(rebuild.rebuilt().channels().all(|channel| channel.held().is_zero()));
    let options = AuditOptions { rebuild: world.options(), ..AuditOptions::default() };
    let report = audit(world.ledger.clone(), &options, &mut |_| {}).await.expect("the chain answers");
    assert!(report.findings.iter().all(|finding| finding.severity() < Severity::Critical), "{:?}", report.findings);
    assert!(report.findings.iter().any(|finding| matches!(finding, Finding::Halted { .. })) && !report.is_sound());
    world.payer(common::PROVIDER).withdraw(DEV_ACCOUNTS[common::PROVIDER].address).await.expect("withdrawn");
}

/// The provider serves one request each time the payer begins to prove, so that the proof is stale when it is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_runs_ahead_only_serves_the_queue() {
    for times in [2u32, 99] {
        let world = world().await;
        let mut provider = world.provider().await;
        let mine = world.open(ALICE, 1, 1_000_000).await;
        provider.register_all().await;
        for number in 2..=4 {
            world.open(BOB, number, 1_000).await;
        }
        world.exit(ALICE).await.run(mine, &mut |_| {}).await.expect("asked");
        world.pass_the_window();
        // What comes after the close is behind it, and does not help the provider.
        world.open(BOB, 5, 1_000).await;
        let before = world.balance(ALICE).await;
        let (mut acted, mut overtaken) = (0, 0);
        let mut exit = world.exit(ALICE).await;
        let mut act = |step: ExitStep| match step {
            ExitStep::Proving { .. } if acted < times => {
                acted += 1;
                now(provider.register(1));
            }
            ExitStep::Overtaken { served } => overtaken += served,
            _ => {}
        };
        let report = left(exit.run(mine, &mut act).await.expect("out"));
        assert_eq!((report.refunded, report.paid_base_units), (Amount::from_nanos(1_000_000_000), 1_000_000));
        assert_eq!(world.balance(ALICE).await, before + 1_000_000);
        let way = if times == 2 { ExitWay::OwnProof } else { ExitWay::Others };
        // Three openings and the close: it can be ahead four times, and the fourth time it closes the channel itself.
        assert_eq!((report.way, acted, overtaken), (way, times.min(4), u64::from(times.min(4))), "{times}");
    }
}
