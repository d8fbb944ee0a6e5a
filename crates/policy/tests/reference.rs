//! Random histories against a reference that keeps no sums: it looks through everything that ever happened, each time.

mod world;

use std::collections::BTreeMap;

use millstream_policy::{CounterKey, Ended, ReasonKind, Subject, Verdict, Window};
use millstream_types::{Amount, Hash256, Timestamp};
use proptest::prelude::*;
use world::{ASSET, World, ask};

const RULES: &str = "
    payment_max = ['0.000090 USDC']
    approval_above = ['0.000060 USDC']
    approval_secs = 300
    [[budget]]
    name = 'minute'
    max = '0.000100 USDC'
    window = 'minute'
    per = ['payee']
    [[budget]]
    name = 'hour'
    max = '0.000400 USDC'
    window = 'hour'
    [[budget]]
    name = 'day'
    max = '0.000900 USDC'
    window = 'day'
    per = ['agent', 'route']
    [[budget]]
    name = 'total'
    max = '0.002000 USDC'
    window = 'total'
    when.agent = ['a*']
    [[rate]]
    name = 'many'
    in_flight_max = 4
    per = ['agent']";

#[derive(Clone, Debug)]
enum Action {
    Ask { id: u8, agent: u8, payee: u8, route: u8, units: u128 },
    Settle { id: u8, units: u128 },
    End { id: u8 },
    Approve { pick: usize },
    Deny { pick: usize },
    Wait { millis: u64 },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (0..12u8, 0..3u8, 0..2u8, 0..2u8, 0..100u128)
            .prop_map(|(id, agent, payee, route, units)| Action::Ask { id, agent, payee, route, units }),
        4 => (0..12u8, 0..100u128).prop_map(|(id, units)| Action::Settle { id, units }),
        4 => (0..12u8).prop_map(|id| Action::End { id }),
        2 => (0..4usize).prop_map(|pick| Action::Approve { pick }),
        1 => (0..4usize).prop_map(|pick| Action::Deny { pick }),
        3 => prop_oneof![0..90_000u64, 0..7_200_000u64, 0..90_000_000u64].prop_map(|millis| Action::Wait { millis }),
        1 => Just(Action::Restart),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    UnderWay,
    Waiting(u64),
    Approved(u64),
    Denied(u64),
    Over,
}

/// A part that was held at a time, and what of it was spent or is still held.
#[derive(Clone, Debug)]
struct Part {
    at: u64,
    held: u128,
    spent: u128,
}

#[derive(Clone, Debug)]
struct Event {
    id: u8,
    names: (String, String, String),
    price: u128,
    approved: Option<u128>,
    number: u64,
    phase: Phase,
    parts: Vec<Part>,
}

#[derive(Default)]
struct Reference {
    events: Vec<Event>,
}

fn start(window: Window, at: u64) -> u64 {
    window.start(Timestamp::from_millis(at)).as_millis()
}

impl Reference {
    fn expire(&mut self, now: u64) {
        for event in &mut self.events {
            if let Phase::Waiting(end) | Phase::Approved(end) | Phase::Denied(end) = event.phase
                && end <= now
            {
                event.phase = Phase::Over;
                event.parts.iter_mut().for_each(|part| part.held = 0);
            }
        }
    }

    fn used(&self, window: Window, now: u64, of: impl Fn(&Event) -> bool) -> u128 {
        let parts = self.events.iter().filter(|event| of(event)).flat_map(|event| &event.parts);
        parts.filter(|part| start(window, part.at) == start(window, now)).map(|part| part.held + part.spent).sum()
    }

    fn budgets(&self, now: u64, (agent, payee, route): &(String, String, String), adds: u128) -> bool {
        let minute = self.used(Window::Minute, now, |event| event.names.1 == *payee) + adds <= 100;
        let hour = self.used(Window::Hour, now, |_| true) + adds <= 400;
        let day = self.used(Window::Day, now, |event| event.names.0 == *agent && event.names.2 == *route) + adds <= 900;
        let total = !agent.starts_with('a') || self.used(Window::Total, now, |event| event.names.0.starts_with('a')) + adds <= 2_000;
        minute && hour && day && total
    }

    /// What the reference says, and what becomes of it.
    fn ask(&mut self, now: u64, id: u8, names: &(String, String, String), units: u128, number: u64) -> &'static str {
        self.expire(now);
        let live = |event: &&mut Event| event.phase != Phase::Over && event.id == id;
        if let Some(event) = self.events.iter().position(|event| event.phase != Phase::Over && event.id == id) {
            let found = self.events[event].clone();
            let same = found.names == *names;
            match found.phase {
                Phase::UnderWay => {
                    let approved = found.approved.is_some_and(|approved| units <= approved);
                    if units > 90 || !self.budgets(now, names, units) || (units > 60 && !approved) {
                        return "refuse";
                    }
                    self.events[event].parts.push(Part { at: now, held: units, spent: 0 });
                    // The names of the request are those it began with; what it adds is counted for those it says.
                    return "allow";
                }
                Phase::Waiting(_) if same && units <= found.price => return "wait",
                Phase::Denied(_) if same && units <= found.price => return "refuse",
                Phase::Approved(_) if same && units <= found.price => {
                    let event = &mut self.events[event];
                    event.phase = Phase::UnderWay;
                    event.approved = Some(found.price);
                    let mut left = units;
                    for part in &mut event.parts {
                        part.held = part.held.min(left);
                        left -= part.held;
                    }
                    return "allow";
                }
                _ => {}
            }
            if same {
                let event = &mut self.events[event];
                event.phase = Phase::Over;
                event.parts.iter_mut().for_each(|part| part.held = 0);
            }
        }
        let running = self.events.iter().filter(|event| event.phase == Phase::UnderWay && event.names.0 == names.0).count();
        if units > 90 || !self.budgets(now, names, units) || running >= 4 {
            return "refuse";
        }
        if let Some(old) = self.events.iter_mut().find(live) {
            old.phase = Phase::Over;
            old.parts.iter_mut().for_each(|part| part.held = 0);
        }
        let phase = if units > 60 { Phase::Waiting(now + 300_000) } else { Phase::UnderWay };
        let parts = vec![Part { at: now, held: units, spent: 0 }];
        self.events.push(Event { id, names: names.clone(), price: units, approved: None, number, phase, parts });
        if units > 60 { "wait" } else { "allow" }
    }

    fn under_way(&mut self, id: u8) -> Option<&mut Event> {
        self.events.iter_mut().find(|event| event.id == id && event.phase == Phase::UnderWay)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// G-2 to G-11 and G-22 to G-24: every verdict and every sum is the reference's, and no budget is ever exceeded.
    #[test]
    fn every_history_is_decided_as_by_looking_through_all_of_it(actions in prop::collection::vec(action(), 1..160)) {
        let (mut world, mut reference) = (World::new(RULES), Reference::default());
        let mut names_of: BTreeMap<u8, Subject> = BTreeMap::new();
        for action in actions {
            match action {
                Action::Ask { id, agent, payee, route, units } => {
                    let mut asked = ask(id, units);
                    asked.subject.agent = ["a1", "a2", "b"][usize::from(agent)].to_owned();
                    asked.subject.payee = format!("0x{payee}");
                    asked.subject.route = format!("r{route}");
                    // A request that is under way keeps its names: it is one request.
                    if reference.under_way(id).is_some() {
                        asked.subject = names_of[&id].clone();
                    }
                    names_of.insert(id, asked.subject.clone());
                    let names = (asked.subject.agent.clone(), asked.subject.payee.clone(), asked.subject.route.clone());
                    let decision = world.decide(&asked);
                    let expected = reference.ask(world.now, id, &names, units, decision.number);
                    let verdict = match &decision.verdict {
                        Verdict::Allow => "allow",
                        Verdict::Wait { .. } => "wait",
                        Verdict::Refuse(reason) => {
                            prop_assert!(reason.kind != ReasonKind::UnknownAsset);
                            "refuse"
                        }
                    };
                    prop_assert_eq!(verdict, expected, "{:?}", decision);
                }
                Action::Settle { id, units } => {
                    let result = world.ledger.settle(Hash256::from_bytes([id; 32]), Amount::from_units(units));
                    let event = reference.under_way(id);
                    let held = event.as_ref().map(|event| event.parts.iter().map(|part| part.held).sum::<u128>());
                    prop_assert_eq!(result.is_ok(), held.is_some_and(|held| units <= held));
                    if let (Ok(changes), Some(event)) = (result, event) {
                        let mut left = units;
                        for part in &mut event.parts {
                            let used = part.held.min(left);
                            (part.held, part.spent, left) = (part.held - used, part.spent + used, left - used);
                        }
                        world.commit(changes);
                    }
                }
                Action::End { id } => {
                    // A request that waits may be given up, too.
                    let live = reference.events.iter_mut().find(|event| event.id == id && event.phase != Phase::Over);
                    if let Some(event) = live {
                        event.phase = Phase::Over;
                        event.parts.iter_mut().for_each(|part| part.held = 0);
                    }
                    world.end(id, Ended::Delivered);
                }
                Action::Approve { pick } | Action::Deny { pick } => {
                    let now = world.now;
                    reference.expire(now);
                    let waiting: Vec<usize> =
                        (0..reference.events.len()).filter(|at| matches!(reference.events[*at].phase, Phase::Waiting(_))).collect();
                    let Some(at) = waiting.get(pick).copied() else { continue };
                    let event = &mut reference.events[at];
                    let number = event.number;
                    if matches!(action, Action::Approve { .. }) {
                        event.phase = Phase::Approved(now + 300_000);
                        world.order(|ledger, policy, now| ledger.approve(policy, now, number)).expect("it waits");
                    } else {
                        let Phase::Waiting(end) = event.phase else { continue };
                        event.phase = Phase::Denied(end);
                        event.parts.iter_mut().for_each(|part| part.held = 0);
                        world.order(|ledger, _, now| ledger.deny(now, number)).expect("it waits");
                    }
                }
                Action::Wait { millis } => world.now += millis,
                Action::Restart => world.ledger = millstream_policy::Ledger::from_records(world.store.clone()).expect("read"),
            }
            let now = world.now;
            for (rule, window, max) in
                [("minute", Window::Minute, 100), ("hour", Window::Hour, 400), ("day", Window::Day, 900), ("total", Window::Total, 2_000)]
            {
                for (key, counted) in world.ledger.counters().filter(|(key, _)| key.rule == rule) {
                    prop_assert!(counted.spent.units() + counted.held.units() <= max, "{:?} {:?}", key, counted);
                }
                let key = CounterKey { rule: rule.to_owned(), of: "all".to_owned(), asset: Some(ASSET), start: window.start(world.at(0)) };
                if rule == "hour" {
                    let counted = world.ledger.counted(&key);
                    let used = counted.spent.units() + counted.held.units();
                    // What ended by itself is freed when somebody asks.
                    prop_assert!(used >= reference.used(window, now, |_| true));
                    let spent: u128 = reference.events.iter().flat_map(|event| &event.parts).filter(|part| start(window, part.at) == start(window, now)).map(|part| part.spent).sum();
                    prop_assert_eq!(counted.spent.units(), spent);
                }
            }
        }
    }
}
