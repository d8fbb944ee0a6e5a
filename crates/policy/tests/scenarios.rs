//! Rules of `docs/spec/policy.md`, a few lines each.

mod world;

use millstream_policy::{Ended, GrantOrder, LedgerError, Pattern, ReasonKind, Scope, Verdict};
use millstream_types::Amount;
use world::{ASSET, OTHER_ASSET, World, ask};

const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;

/// G-1: a token that is not listed is refused, in shadow mode too.
#[test]
fn an_unknown_token_is_refused_in_every_mode() {
    for rules in ["", "mode = 'shadow'"] {
        let mut world = World::new(rules);
        let mut other = ask(1, 1);
        other.asset = OTHER_ASSET;
        assert_eq!(world.refused(&other), Some(ReasonKind::UnknownAsset), "{rules}");
        assert_eq!(world.refused(&ask(2, 1)), None);
    }
}

/// G-3: the first rule that refuses is the reason, and what refuses changes no sum.
#[test]
fn caps_and_lists_refuse_and_change_no_sum() {
    let rules = "
        payment_max = ['0.1 USDC']
        deny.payee = ['0xBAD*']
        allow.route = ['*.example', 'local']
        [[category]]
        name = 'search'
        route = ['search.*']
        [[budget]]
        name = 'search-total'
        max = '0.05 USDC'
        window = 'total'
        when.category = ['search']";
    let check = |edit: fn(&mut millstream_policy::Ask), units: u128, expected: Option<ReasonKind>| {
        let mut world = World::new(rules);
        let mut asked = ask(1, units);
        asked.subject.route = "api.example".to_owned();
        edit(&mut asked);
        assert_eq!(world.refused(&asked), expected, "{asked:?}");
        if expected.is_some() {
            assert_eq!(world.ledger.counters().count(), 0);
            assert!(world.ledger.hold(asked.id).is_none());
        }
    };
    check(|_| (), 100_000, None);
    check(|_| (), 100_001, Some(ReasonKind::PaymentMax));
    check(|ask| ask.subject.payee = "0xbad1".to_owned(), 1, Some(ReasonKind::Denied));
    check(|ask| ask.subject.route = "evil".to_owned(), 1, Some(ReasonKind::NotAllowed));
    check(|ask| ask.subject.route = "search.example".to_owned(), 50_000, None);
    check(|ask| ask.subject.route = "search.example".to_owned(), 50_001, Some(ReasonKind::Budget));
    check(|ask| ask.subject.agent = "a\nb".to_owned(), 1, Some(ReasonKind::BadName));
    check(|ask| ask.subject.agent = "x".repeat(513), 1, Some(ReasonKind::BadName));
}

/// G-10, G-11: each window begins anew where the clock says, each name has its own sum.
#[test]
fn budgets_are_kept_by_name_and_window() {
    for (window, length) in [("minute", MINUTE), ("hour", 60 * MINUTE), ("day", DAY), ("month", 31 * DAY), ("total", u64::MAX)] {
        let mut world = World::new(&format!("[[budget]]\nname = 'b'\nmax = '0.00001 USDC'\nwindow = '{window}'\nper = ['agent', 'payee']"));
        assert_eq!(world.refused(&ask(1, 10)), None);
        assert_eq!(world.refused(&ask(2, 1)), Some(ReasonKind::Budget), "{window}");
        let mut other = ask(3, 10);
        other.subject.payee = "0x02".to_owned();
        assert_eq!(world.refused(&other), None, "{window}: another payee");
        world.now = world.now.saturating_add(length);
        assert_eq!(world.refused(&ask(4, 10)), (length == u64::MAX).then_some(ReasonKind::Budget), "{window}");
    }
}

/// G-4, G-5: a capture takes what was used, of what is held; a void frees all.
#[test]
fn what_is_held_is_settled_or_freed_exactly() {
    let mut world = World::new("[[budget]]\nname = 'day'\nmax = '0.0001 USDC'\nwindow = 'day'");
    assert_eq!(world.refused(&ask(1, 60)), None);
    assert_eq!(world.refused(&ask(2, 41)), Some(ReasonKind::Budget));
    assert_eq!(world.ledger.settle(ask(1, 0).id, Amount::from_units(61)).err(), Some(world::above(60, 61)));
    world.settle(1, 25);
    assert_eq!(world.day(), (25, 35));
    world.end(1, Ended::Delivered);
    assert_eq!(world.day(), (25, 0));
    assert_eq!(world.refused(&ask(2, 75)), None);
    world.end(2, Ended::Failed);
    assert_eq!(world.day(), (25, 0));
    assert_eq!(world.ledger.settle(ask(2, 0).id, Amount::ZERO).err(), Some(LedgerError::UnknownHold));
}

/// G-6: the same id asks for more; it is settled over the windows that it was held in.
#[test]
fn more_is_held_under_the_same_id() {
    let mut world = World::new("payment_max = ['0.0001 USDC']\n[[budget]]\nname = 'day'\nmax = '0.0001 USDC'\nwindow = 'day'");
    assert_eq!(world.refused(&ask(1, 40)), None);
    let mut more = ask(1, 20);
    more.price = Amount::from_units(60);
    world.now += DAY;
    assert_eq!(world.refused(&more), None);
    more.price = Amount::from_units(101);
    assert_eq!(world.refused(&more), Some(ReasonKind::PaymentMax));
    world.settle(1, 50);
    assert_eq!(world.day(), (10, 10));
    world.end(1, Ended::Delivered);
    assert_eq!(world.day(), (10, 0));
}

/// G-13: counts in a moving window, and at once.
#[test]
fn rates_and_concurrency_hold() {
    let mut world = World::new("[[rate]]\nname = 'r'\nrequests_max = 3\nin_flight_max = 2\nper = ['agent']");
    assert_eq!(world.refused(&ask(1, 1)), None);
    assert_eq!(world.refused(&ask(2, 1)), None);
    assert_eq!(world.refused(&ask(3, 1)), Some(ReasonKind::InFlight));
    world.end(1, Ended::Delivered);
    assert_eq!(world.refused(&ask(3, 1)), None);
    world.end(2, Ended::Delivered);
    assert_eq!(world.refused(&ask(4, 1)), Some(ReasonKind::Rate));
    let mut other = ask(5, 1);
    other.subject.agent = "other".to_owned();
    assert_eq!(world.refused(&other), None);
    world.now += 62_000;
    assert_eq!(world.refused(&ask(4, 1)), None);
}

/// G-22, G-23, G-24: above the threshold it is held and waits; approved, it goes on with what is held, once.
#[test]
fn an_approval_holds_and_goes_on_when_the_request_comes_again() {
    let rules = "approval_above = ['0.00005 USDC']\napproval_secs = 60\n[[budget]]\nname = 'day'\nmax = '0.0001 USDC'\nwindow = 'day'";
    let mut world = World::new(rules);
    assert_eq!(world.refused(&ask(1, 50)), None);
    world.end(1, Ended::Unknown);
    let number = world.waits(&ask(2, 60)).expect("it waits");
    assert_eq!(world.day(), (0, 60));
    // The money is held: others have what is left.
    assert_eq!(world.refused(&ask(3, 41)), Some(ReasonKind::Budget));
    assert_eq!(world.waits(&ask(2, 60)), Some(number));
    // Under another name it is the same request.
    let mut again = ask(4, 60);
    again.fingerprint = ask(2, 0).fingerprint;
    assert_eq!(world.waits(&again), Some(number));
    assert!(world.ledger.settle(ask(2, 0).id, Amount::ZERO).is_err());
    world.order(|ledger, policy, now| ledger.approve(policy, now, number)).expect("approved");
    assert!(matches!(world.order(|ledger, policy, now| ledger.approve(policy, now, number)), Err(LedgerError::NotWaiting { .. })));
    // A dearer one is another one.
    let mut dearer = again.clone();
    (dearer.adds, dearer.price) = (Amount::from_units(61), Amount::from_units(61));
    let mut copy = world.clone();
    assert_ne!(copy.waits(&dearer), Some(number));
    assert_eq!(world.verdict(&again), Verdict::Allow);
    assert_eq!(world.day(), (0, 60));
    world.settle(4, 60);
    world.end(4, Ended::Delivered);
    assert_eq!(world.day(), (60, 0));
    assert_eq!(world.refused(&again), Some(ReasonKind::Budget));
}

#[test]
fn an_approval_ends_by_itself_or_is_denied() {
    let mut world = World::new("approval_above = ['0.00005 USDC']\napproval_secs = 60\nwaiting_max = 1");
    let number = world.waits(&ask(1, 60)).expect("it waits");
    assert_eq!(world.refused(&ask(2, 60)), Some(ReasonKind::ApprovalNeeded));
    world.order(|ledger, _, now| ledger.deny(now, number)).expect("denied");
    assert_eq!(world.refused(&ask(1, 60)), Some(ReasonKind::ApprovalDenied));
    world.now += 60_000;
    let again = world.waits(&ask(1, 60)).expect("it waits anew");
    assert!(again > number);
    world.now += 60_000;
    assert!(matches!(world.order(|ledger, policy, now| ledger.approve(policy, now, again)), Err(LedgerError::NotWaiting { .. })));
    assert_eq!(world.ledger.approvals().count(), 0);
    // An approved one that does not come again is freed, too.
    let third = world.waits(&ask(1, 60)).expect("it waits");
    world.order(|ledger, policy, now| ledger.approve(policy, now, third)).expect("approved");
    world.now += 60_000;
    assert!(world.waits(&ask(1, 60)).is_some());
}

/// G-30 to G-35: each breaker trips at its bound and not below, pauses what it names, and is resumed by one order.
#[test]
fn each_breaker_trips_at_its_bound_and_not_below() {
    struct Case {
        rules: &'static str,
        /// Requests that pass.
        below: fn(u8) -> millstream_policy::Ask,
        count: u8,
        /// The one that trips it.
        above: fn(u8) -> millstream_policy::Ask,
        kind: ReasonKind,
        scope: &'static str,
    }
    fn equal(id: u8) -> millstream_policy::Ask {
        millstream_policy::Ask { fingerprint: ask(0, 0).fingerprint, ..ask(id, 10) }
    }
    fn to_payee(id: u8) -> millstream_policy::Ask {
        let mut ask = ask(id, 10);
        ask.subject.payee = format!("0x{id}");
        ask
    }
    fn dear(id: u8) -> millstream_policy::Ask {
        millstream_policy::Ask { price: Amount::from_units(16), ..equal(id) }
    }
    fn listed(id: u8) -> millstream_policy::Ask {
        millstream_policy::Ask { listed: Some(Amount::from_units(6)), ..ask(id, 10) }
    }
    let cases = [
        Case {
            rules: "velocity = { requests_max = 5, within_secs = 10 }",
            below: |id| ask(id, 10),
            count: 5,
            above: |id| ask(id, 10),
            kind: ReasonKind::Velocity,
            scope: "agent=a",
        },
        Case {
            rules: "velocity = { amount_max = '0.00005 USDC', within_secs = 10 }",
            below: |id| ask(id, 10),
            count: 5,
            above: |id| ask(id, 1),
            kind: ReasonKind::Velocity,
            scope: "agent=a",
        },
        Case {
            rules: "loop = { equal_max = 4, within_secs = 10 }",
            below: equal,
            count: 4,
            above: equal,
            kind: ReasonKind::Loop,
            scope: "agent=a",
        },
        Case {
            rules: "payees = { new_max = 3, within_secs = 10 }",
            below: to_payee,
            count: 3,
            above: to_payee,
            kind: ReasonKind::NewPayee,
            scope: "agent=a",
        },
        Case {
            rules: "price = { above_percent = 50 }",
            below: equal,
            count: 2,
            above: dear,
            kind: ReasonKind::PriceDrift,
            scope: "payee=0x01",
        },
        Case {
            rules: "price = { above_percent = 50 }",
            below: |id| ask(id, 10),
            count: 2,
            above: listed,
            kind: ReasonKind::PriceDrift,
            scope: "payee=0x01",
        },
    ];
    for case in cases {
        let name = case.rules;
        let mut world = World::new(&format!("breaker.{name}"));
        for id in 0..case.count {
            assert_eq!(world.refused(&(case.below)(id + 1)), None, "{name}: {id}");
        }
        assert_eq!(world.refused(&(case.above)(99)), Some(case.kind), "{name}");
        let scope = Scope::parse(case.scope).expect("a scope");
        let pause = world.ledger.pauses().find(|(paused, _)| **paused == scope).map(|(_, pause)| pause.clone()).expect("it is paused");
        assert_eq!(pause.breaker.as_deref(), Some(case.kind.name()), "{name}");
        assert!(!pause.why.is_empty());
        assert_eq!(world.refused(&(case.below)(98)), Some(ReasonKind::Paused), "{name}");
        world.order(|ledger, _, _| ledger.resume(&scope)).expect("resumed");
        assert!(matches!(world.order(|ledger, _, _| ledger.resume(&scope)), Err(LedgerError::NotPaused { .. })));
        assert_eq!(world.refused(&(case.below)(97)), None, "{name}: after it was resumed");
    }
}

/// G-31: slow enough, none of them trips.
#[test]
fn breakers_forget_what_is_past() {
    let mut world =
        World::new("breaker.velocity = { requests_max = 2, within_secs = 10 }\nbreaker.loop = { equal_max = 1, within_secs = 10 }");
    for id in 1..50 {
        let mut equal = ask(id, 10);
        equal.fingerprint = ask(0, 0).fingerprint;
        assert_eq!(world.refused(&equal), None, "{id}");
        world.now += 10_200;
    }
}

/// G-35: a payee whose answers fail is not paid any more.
#[test]
fn failures_trip_when_there_are_enough_of_them() {
    let mut world = World::new("breaker.errors = { failed_percent = 50, requests_min = 4, within_secs = 60 }");
    let run = |world: &mut World, id: u8, ended: Ended| {
        assert_eq!(world.refused(&ask(id, 1)), None, "{id}");
        world.end(id, ended);
    };
    for (id, ended) in [(1, Ended::Failed), (2, Ended::Failed), (3, Ended::Delivered), (4, Ended::Delivered), (5, Ended::Unknown)] {
        run(&mut world, id, ended);
    }
    assert_eq!(world.ledger.pauses().count(), 0);
    run(&mut world, 6, Ended::Failed);
    assert_eq!(world.refused(&ask(7, 1)), Some(ReasonKind::Paused));
    world.order(|ledger, _, _| ledger.resume(&Scope::parse("payee=0x01").expect("a scope"))).expect("resumed");
    run(&mut world, 7, Ended::Failed);
}

/// G-36: a pause of anything, by hand.
#[test]
fn whatever_is_paused_is_refused_until_it_is_resumed() {
    for (scope, hit) in [("all", true), ("agent=a", true), ("payee=0x01", true), ("route=api", true), ("agent=b", false)] {
        let mut world = World::new("");
        let scope = Scope::parse(scope).expect("a scope");
        world.order(|ledger, _, now| Ok::<_, LedgerError>(ledger.pause(now, scope.clone(), "runaway"))).expect("paused");
        assert_eq!(world.refused(&ask(1, 1)), hit.then_some(ReasonKind::Paused), "{scope}");
        world.order(|ledger, _, _| ledger.resume(&scope)).expect("resumed");
        assert_eq!(world.refused(&ask(2, 1)), None, "{scope}");
    }
}

/// G-40 to G-43: what a parent gives is capped, scoped, ends, can be taken back, and counts in the parent's budgets.
#[test]
fn sub_budgets_are_parts_of_what_their_giver_has() {
    let mut world = World::new("[[budget]]\nname = 'agent-day'\nmax = '0.0001 USDC'\nwindow = 'day'\nper = ['agent']");
    let order = |parent: &str, child: &str, max: u128| GrantOrder {
        parent: parent.to_owned(),
        child: child.to_owned(),
        asset: ASSET,
        max: Amount::from_units(max),
        payees: Vec::new(),
        categories: Vec::new(),
        routes: vec![Pattern::new("api*")],
        expires_at: None,
    };
    let by = |id: u8, units: u128, agent: &str| {
        let mut ask = ask(id, units);
        ask.subject.agent = agent.to_owned();
        ask
    };
    let first = world.grant(order("boss", "child", 50)).expect("given");
    assert_eq!(world.refused(&by(1, 51, "child")), Some(ReasonKind::SubBudget));
    let mut elsewhere = by(1, 1, "child");
    elsewhere.subject.route = "other".to_owned();
    assert_eq!(world.refused(&elsewhere), Some(ReasonKind::SubBudget));
    assert_eq!(world.refused(&by(1, 30, "child")), None);
    world.settle(1, 20);
    world.end(1, Ended::Delivered);
    assert_eq!(world.ledger.grants().next().map(|grant| (grant.spent.units(), grant.held.units())), Some((20, 0)));
    // The giver has spent it, too.
    assert_eq!(world.refused(&by(2, 81, "boss")), Some(ReasonKind::Budget));
    assert_eq!(world.refused(&by(2, 80, "boss")), None);
    assert_eq!(world.refused(&by(3, 1, "child")), Some(ReasonKind::Budget));
    world.end(2, Ended::Unknown);
    // Of a part a part.
    let below = world.grant(order("child", "grandchild", 1_000)).expect("given");
    assert_eq!(world.refused(&by(4, 31, "grandchild")), Some(ReasonKind::SubBudget));
    assert_eq!(world.refused(&by(4, 30, "grandchild")), None);
    world.order(|ledger, _, now| ledger.revoke(now, first)).expect("revoked");
    assert!(world.order(|ledger, _, now| ledger.revoke(now, first)).is_err());
    assert_eq!(world.refused(&by(5, 1, "grandchild")), Some(ReasonKind::SubBudget));
    // What was promised is kept.
    world.settle(4, 30);
    world.end(4, Ended::Delivered);
    assert_eq!(world.ledger.grants().map(|grant| grant.spent.units()).collect::<Vec<_>>(), [50, 30]);
    let ending = GrantOrder { expires_at: Some(world.at(1_000)), ..order("boss", "child", 10) };
    world.grant(ending).expect("given");
    assert_eq!(world.refused(&by(6, 1, "child")), None);
    world.now += 1_000;
    assert_eq!(world.refused(&by(7, 1, "child")), Some(ReasonKind::SubBudget));
    assert_ne!(first, below);
    for (parent, child) in [("other", "child"), ("grandchild", "boss"), ("boss", "boss"), ("", "x"), ("x", "a\nb")] {
        assert!(matches!(world.grant(order(parent, child, 1)), Err(LedgerError::Grant(_))), "{parent} {child}");
    }
    // A pause of the giver holds for those who spend its money.
    world
        .order(|ledger, _, now| Ok::<_, LedgerError>(ledger.pause(now, Scope::parse("agent=boss").expect("a scope"), "stop")))
        .expect("paused");
    assert_eq!(world.refused(&by(8, 1, "grandchild")), Some(ReasonKind::Paused));
}

#[test]
fn sub_budgets_have_eight_levels_at_most() {
    let mut world = World::new("");
    let order = |parent: u32, child: u32| GrantOrder {
        parent: format!("agent-{parent}"),
        child: format!("agent-{child}"),
        asset: ASSET,
        max: Amount::from_units(1),
        payees: Vec::new(),
        categories: Vec::new(),
        routes: Vec::new(),
        expires_at: None,
    };
    for level in 1..8 {
        world.grant(order(level, level + 1)).expect("given");
    }
    assert!(world.grant(order(8, 9)).is_err());
    assert!(world.grant(order(0, 1)).is_err());
}

/// G-7: in shadow mode everything is counted and noted, and nothing but an unknown token and a pause refuses.
#[test]
fn a_shadow_says_what_it_would_have_refused() {
    let rules = "
        mode = 'shadow'
        payment_max = ['0.00001 USDC']
        approval_above = ['0.00001 USDC']
        deny.payee = ['0x01']
        breaker.loop = { equal_max = 1, within_secs = 60 }
        [[budget]]
        name = 'day'
        max = '0.00001 USDC'
        window = 'day'
        [[rate]]
        name = 'r'
        requests_max = 1";
    let mut world = World::new(rules);
    let mut kinds = Vec::new();
    for id in 1..3 {
        let mut asked = ask(id, 11);
        asked.fingerprint = ask(0, 0).fingerprint;
        let decision = world.decide(&asked);
        assert_eq!(decision.verdict, Verdict::Allow);
        kinds = decision.shadowed.iter().map(|reason| reason.kind).collect();
    }
    let expected =
        [ReasonKind::Denied, ReasonKind::PaymentMax, ReasonKind::Budget, ReasonKind::Rate, ReasonKind::Loop, ReasonKind::ApprovalNeeded];
    assert_eq!(kinds, expected);
    assert_eq!(world.day(), (0, 22));
    assert_eq!(world.ledger.pauses().count(), 0);
}

/// G-8: each decision can be explained, by its number and by its request, as long as it is kept.
#[test]
fn decisions_are_kept_with_what_was_compared() {
    let mut world = World::new("decisions_kept = 3\n[[budget]]\nname = 'day'\nmax = '0.00001 USDC'\nwindow = 'day'\nper = ['agent']");
    for id in 1..=4 {
        world.refused(&ask(id, 4));
    }
    let last = world.ledger.decision_on(ask(4, 0).id).expect("kept");
    let reason = last.refusal().expect("refused");
    assert_eq!(reason.to_string(), "budget day (agent=a, day) is 10, and 12 would be reached");
    let check = last.checks.last().expect("compared");
    assert_eq!((check.before.units(), check.after.units(), check.max.units()), (8, 12, 10));
    assert_eq!(world.ledger.decision(last.number), Some(last));
    assert!(world.ledger.decision_on(ask(1, 0).id).is_none());
    assert_eq!(world.ledger.decisions().map(|decision| decision.number).collect::<Vec<_>>(), [4, 3, 2]);
}

/// A preview says what would be decided, and changes nothing.
#[test]
fn a_preview_is_the_decision_without_its_effects() {
    let mut world = World::new("approval_above = ['0.00005 USDC']\n[[budget]]\nname = 'day'\nmax = '0.0001 USDC'\nwindow = 'day'");
    for (id, units) in [(1, 10), (2, 60), (3, 31), (2, 60), (4, 30)] {
        let before = world.ledger.clone();
        let preview = world.ledger.preview(&world.policy, world.at(0), &ask(id, units));
        assert_eq!(before, world.ledger);
        assert_eq!(preview.verdict, world.verdict(&ask(id, units)), "{id}");
    }
}

/// Sums of windows that are over are forgotten, whoever they were of; what is held keeps its own.
#[test]
fn a_sweep_forgets_what_is_over_and_nothing_else() {
    let mut world = World::new(
        "[[budget]]\nname = 'day'\nmax = '0.001 USDC'\nwindow = 'day'\nper = ['route']\n[[budget]]\nname = 'all'\nmax = '0.001 USDC'\nwindow = 'total'",
    );
    for id in 1..=3 {
        let mut asked = ask(id, 10);
        asked.subject.route = format!("host-{id}");
        assert_eq!(world.refused(&asked), None);
    }
    for id in 1..=2 {
        world.settle(id, 10);
        world.end(id, Ended::Delivered);
    }
    world.now += DAY;
    world.order(|ledger, policy, now| Ok::<_, LedgerError>(ledger.sweep(policy, now))).expect("swept");
    let kept: Vec<_> =
        world.ledger.counters().map(|(key, counted)| (key.of.clone(), counted.spent.units(), counted.held.units())).collect();
    assert_eq!(kept, [("all".to_owned(), 20, 10), ("route=host-3".to_owned(), 0, 10)]);
    world.settle(3, 10);
    world.end(3, Ended::Delivered);
    assert_eq!(world.ledger.counters().count(), 2, "what is spent in a window that is over stays until it is swept");
    world.order(|ledger, policy, now| Ok::<_, LedgerError>(ledger.sweep(policy, now))).expect("swept");
    assert_eq!(world.ledger.counters().count(), 1);
}

/// G-9: what was under way when everything stopped is freed at the next start, what waits goes on waiting.
#[test]
fn a_start_frees_what_was_under_way() {
    let mut world = World::new("approval_above = ['0.00005 USDC']\n[[rate]]\nname = 'r'\nin_flight_max = 1");
    assert_eq!(world.refused(&ask(1, 10)), None);
    let number = world.waits(&ask(2, 60));
    assert_eq!(number, None, "one is under way");
    world.end(1, Ended::Unknown);
    let number = world.waits(&ask(2, 60));
    assert!(number.is_some());
    assert_eq!(world.refused(&ask(3, 10)), None);
    world.order(|ledger, _, _| Ok::<_, LedgerError>(ledger.end_all())).expect("ended");
    assert_eq!(world.refused(&ask(4, 10)), None);
    assert_eq!(world.ledger.approvals().count(), 1);
}

/// What is written wrongly is said, and nothing of it holds.
#[test]
fn rules_that_cannot_be_are_refused() {
    for rules in [
        "payment_max = ['5']",
        "payment_max = ['5 DAI']",
        "payment_max = ['0.0000001 USDC']",
        "payment_max = ['1e3 USDC']",
        "unknown = 1",
        "approval_secs = 0",
        "[[rate]]\nname = 'r'",
        "[[rate]]\nname = 'r'\nrequests_max = 1\nwithin_secs = 0",
        "[[rate]]\nname = 'a b'\nrequests_max = 1",
        "[[budget]]\nname = 'b'\nmax = '1 USDC'\nwindow = 'week'",
        "[[budget]]\nname = 'b'\nmax = '1 USDC'\nwindow = 'day'\n[[budget]]\nname = 'b'\nmax = '1 USDC'\nwindow = 'day'",
        "[[budget]]\nname = 'b'\nmax = '1 USDC'\nwindow = 'day'\nper = ['team']",
        "breaker.velocity = { within_secs = 1 }",
        "breaker.errors = { failed_percent = 101, requests_min = 1, within_secs = 1 }",
        "[[category]]\nname = 'c'",
    ] {
        assert!(world::policy(rules).is_err(), "{rules}");
    }
}
