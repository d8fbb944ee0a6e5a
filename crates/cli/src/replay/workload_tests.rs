//! Dealing, pricing and resuming workloads.

use millstream_billing::Line;
use millstream_types::Amount;

use super::price::Prices;
use super::trace::Trace;
use super::workload::{ChannelPlan, Source, Workload, WorkloadError, WorkloadOptions};

const TRACE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
    2023-11-16 18:15:46,374,2\n\
    2023-11-16 18:15:47,0,3\n\
    2023-11-16 18:15:48,10,0\n\
    2023-11-16 18:15:49,1,1\n";

fn options(channels: u32, payments_max: Option<u64>) -> WorkloadOptions {
    WorkloadOptions {
        source: Source::Trace(Trace::read(TRACE.as_bytes()).expect("a trace")),
        seed: 0,
        channels,
        prices: Prices::per_million("0.15", "0.60").expect("exact"),
        payments_max,
    }
}

fn generated(seed: u64, payments: u64) -> Workload {
    let options = WorkloadOptions { source: Source::Generated, seed, payments_max: Some(payments), ..options(3, None) };
    Workload::new(&options).expect("a workload")
}

fn all(plan: &ChannelPlan, skip: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    plan.lines_from(skip).take_due(u64::MAX, usize::MAX, &mut lines);
    lines
}

#[test]
fn a_request_pays_for_its_context_and_for_each_generated_token() {
    let workload = Workload::new(&options(2, None)).expect("a workload");
    let amounts = |index: usize| all(&workload.channels[index], 0).iter().map(|line| line.amount.units()).collect::<Vec<_>>();
    assert_eq!(amounts(0), [56_100, 600, 600, 1_500]);
    assert_eq!(amounts(1), [600, 600, 600, 150, 600]);
    assert_eq!((workload.context_payments, workload.generated_payments, workload.payments()), (3, 6, 9));
    // 385 context tokens at 150 nanos, 6 generated at 600.
    assert_eq!(workload.total, Amount::from_nanos(385 * 150 + 6 * 600));
    assert_eq!(workload.channels[0].total_nanos + workload.channels[1].total_nanos, 61_350);
}

#[test]
fn totals_are_those_of_one_large_charge_whatever_the_price() {
    let prices = Prices::per_million("0.000123457", "0.001").expect("exact");
    let workload = Workload::new(&WorkloadOptions { prices, ..options(1, None) }).expect("a workload");
    let (context, _) = prices.context_down(385, 0).expect("small");
    assert_eq!(workload.total, Amount::from_nanos(context + 6));
    assert_eq!(workload.channels[0].lines, all(&workload.channels[0], 0).len() as u64);
}

#[test]
fn a_replay_resumes_at_any_line() {
    for plan in &Workload::new(&options(2, None)).expect("a workload").channels {
        let whole = all(plan, 0);
        assert_eq!(whole.len() as u64, plan.lines);
        assert_eq!(whole.iter().map(|line| line.amount.units()).sum::<u128>(), plan.total_nanos.into());
        for skip in 0..=plan.lines + 2 {
            let rest = all(plan, skip);
            let rest_nanos = rest.iter().map(|line| line.amount.units()).sum::<u128>();
            assert_eq!(u128::from(plan.cost_of(skip)) + rest_nanos, plan.total_nanos.into(), "from {skip}");
            assert_eq!(rest, whole.iter().skip(usize::try_from(skip).expect("small")).copied().collect::<Vec<_>>(), "from {skip}");
            assert_eq!(plan.lines_from(skip).due_nanos().is_some(), skip < plan.lines);
        }
    }
}

#[test]
fn slices_of_any_size_make_the_same_sequence() {
    let workload = generated(5, 2_000);
    for plan in workload.paying() {
        let (whole, mut sliced, mut lines, mut cost) = (all(plan, 0), Vec::new(), plan.lines_from(0), 0);
        while lines.due_nanos().is_some() {
            cost += lines.take_due(u64::MAX, 7, &mut sliced);
        }
        assert_eq!((sliced, cost, lines.position()), (whole, plan.total_nanos, plan.lines));
    }
}

#[test]
fn lines_wait_until_they_are_due() {
    let workload = Workload::new(&options(2, None)).expect("a workload");
    let mut lines = workload.channels[0].lines_from(0);
    let mut due = Vec::new();
    assert_eq!(lines.due_nanos(), Some(0));
    assert_eq!(lines.take_due(0, 100, &mut due), 57_300);
    assert_eq!((due.len(), lines.due_nanos()), (3, Some(2_000_000_000)));
    assert_eq!(lines.take_due(1_999_999_999, 100, &mut due), 0);
    assert_eq!(lines.take_due(2_000_000_000, 100, &mut due), 1_500);
    assert_eq!(lines.due_nanos(), None);
}

#[test]
fn a_longer_replay_begins_with_the_shorter_one() {
    let (short, long) = (generated(5, 1_000), generated(5, 3_000));
    assert_eq!((short.payments(), long.payments(), short.id), (1_000, 3_000, long.id));
    for (short, long) in short.channels.iter().zip(&long.channels) {
        assert!(all(long, 0).starts_with(&all(short, 0)));
    }
}

#[test]
fn everything_that_changes_the_sequence_changes_the_name() {
    let id = |options: WorkloadOptions| Workload::new(&options).expect("a workload").id;
    let first = id(options(2, None));
    assert_eq!(first, id(options(2, Some(4))));
    assert_ne!(first, id(options(3, None)));
    assert_ne!(first, id(WorkloadOptions { seed: 1, ..options(2, None) }));
    assert_ne!(first, id(WorkloadOptions { prices: Prices::per_million("0.15", "0.61").expect("exact"), ..options(2, None) }));
    assert_ne!(first, generated(0, 4).id);
}

#[test]
fn references_and_keys_are_never_used_twice() {
    let workload = generated(9, 5_000);
    let mut references: Vec<_> = workload.channels.iter().flat_map(|plan| all(plan, 0)).map(|line| line.reference).collect();
    references.sort_unstable();
    references.dedup();
    assert_eq!(references.len(), 5_000);
    assert_ne!(workload.key_index(0), workload.key_index(1));
    assert_ne!(workload.key_index(0), generated(8, 10).key_index(0));
}

#[test]
fn what_is_no_workload_is_refused() {
    assert_eq!(Workload::new(&options(0, None)).err(), Some(WorkloadError::Channels { channels: 0 }));
    assert_eq!(Workload::new(&options(1, Some(0))).err(), Some(WorkloadError::Empty));
    let endless = WorkloadOptions { source: Source::Generated, ..options(1, None) };
    assert_eq!(Workload::new(&endless).err(), Some(WorkloadError::Endless));
    let dear = WorkloadOptions { prices: Prices::per_million("0.15", "18446744073.709").expect("fits"), ..options(1, None) };
    assert!(matches!(Workload::new(&dear).err(), None | Some(WorkloadError::TooLarge(_))));
}
