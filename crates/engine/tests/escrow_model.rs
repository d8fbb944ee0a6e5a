//! Escrow channels against a naive ledger: random payers, honest and not, deliveries that end in every way, random chain facts, crashes at
//! any step.

mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_engine::escrow::{ClaimRow, EscrowAnswer, EscrowFact, EscrowId, EscrowInput, EscrowStatus, Exit, Meter};
use millstream_tariff::Cost;
use millstream_types::{Amount, CumulativeAmount, Timestamp};
use proptest::prelude::*;

use world::{
    CLAIM_MILLIS, EXACT, MIN_DELTA, MONOTONE, OUTCOME_MILLIS, RESERVATION_MILLIS, World, channel, escrow_of, request, short, terms, voucher,
};

const NAMES: [&str; 4] = ["x", "x2", "m", "m2"];
const REQUESTS: u8 = 6;

#[derive(Clone, Copy, Debug)]
enum Signed {
    Nothing,
    /// What the rule wants, and this much more or less.
    Off(i8),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Deposit {
        channel: usize,
        amount: u8,
    },
    Reserve {
        channel: usize,
        request: u8,
        ceiling: u8,
        signed: Signed,
    },
    Extend {
        request: u8,
        by: u8,
        signed: Signed,
    },
    Mark {
        request: u8,
        part: u8,
    },
    Capture {
        request: u8,
        part: u8,
    },
    Void {
        request: u8,
    },
    Voucher {
        channel: usize,
        cumulative: u8,
    },
    Exit {
        channel: usize,
        part: u8,
        millis: u16,
    },
    Stay {
        channel: usize,
    },
    /// The payer takes what it asked for, as much of it as is there.
    Withdraw {
        channel: usize,
    },
    /// The provider gives back what is not charged or reserved.
    Refund {
        channel: usize,
    },
    /// Everything claimable is claimed in one transaction, which lands, or fails with its first row to blame.
    Claim {
        escrow: EscrowId,
        lands: bool,
    },
    Release {
        channel: usize,
    },
    Wait {
        millis: u8,
    },
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    let signed = prop_oneof![1 => Just(Signed::Nothing), 6 => Just(Signed::Off(0)), 2 => (-12i8..40).prop_map(Signed::Off)];
    let (channel, request) = (0..NAMES.len(), 0..REQUESTS);
    prop_oneof![
        2 => (channel.clone(), 1u8..).prop_map(|(channel, amount)| Action::Deposit { channel, amount }),
        10 => (channel.clone(), request.clone(), 0u8..60, signed.clone())
            .prop_map(|(channel, request, ceiling, signed)| Action::Reserve { channel, request, ceiling, signed }),
        2 => (request.clone(), 0u8..30, signed).prop_map(|(request, by, signed)| Action::Extend { request, by, signed }),
        4 => (request.clone(), 0u8..=110).prop_map(|(request, part)| Action::Mark { request, part }),
        6 => (request.clone(), 0u8..=110).prop_map(|(request, part)| Action::Capture { request, part }),
        3 => request.prop_map(|request| Action::Void { request }),
        2 => (channel.clone(), 0u8..).prop_map(|(channel, cumulative)| Action::Voucher { channel, cumulative }),
        1 => (channel.clone(), 0u8..=120, 0u16..900).prop_map(|(channel, part, millis)| Action::Exit { channel, part, millis }),
        1 => channel.clone().prop_map(|channel| Action::Stay { channel }),
        1 => channel.clone().prop_map(|channel| Action::Withdraw { channel }),
        1 => channel.clone().prop_map(|channel| Action::Refund { channel }),
        2 => (prop_oneof![Just(EXACT), Just(MONOTONE)], prop::bool::weighted(0.8)).prop_map(|(escrow, lands)| Action::Claim { escrow, lands }),
        1 => channel.prop_map(|channel| Action::Release { channel }),
        2 => (0u8..=255).prop_map(|millis| Action::Wait { millis }),
        2 => Just(Action::Crash),
    ]
}

/// A channel, naively: numbers.
#[derive(Clone, Debug, Default)]
struct Naive {
    opened: bool,
    deposit: u128,
    settled: u128,
    accepted: u128,
    charged: u128,
    exit: Option<(u128, u64)>,
    quarantined: bool,
}

/// A request, naively.
#[derive(Clone, Copy, Debug)]
enum Known {
    Open { channel: usize, ceiling: u128, delivered: u128, expires_at: u64 },
    Charged { channel: usize, amount: u128, after: u128 },
}

struct Ledger {
    world: World,
    channels: Vec<Naive>,
    requests: BTreeMap<u8, Known>,
}

fn id_of(request: u8) -> String {
    format!("r{request}")
}

impl Ledger {
    fn new() -> Self {
        Self { world: World::new(0), channels: vec![Naive::default(); NAMES.len()], requests: BTreeMap::new() }
    }

    fn open_on(&self, channel: usize) -> impl Iterator<Item = (u128, u128)> {
        self.requests.values().filter_map(move |known| match known {
            Known::Open { channel: on, ceiling, delivered, .. } if *on == channel => Some((*ceiling, *delivered)),
            _ => None,
        })
    }

    fn owed(&self, channel: usize) -> u128 {
        self.channels[channel].charged + self.open_on(channel).map(|(ceiling, _)| ceiling).sum::<u128>()
    }

    fn is_frozen(&self, channel: usize) -> bool {
        self.owed(channel) > self.channels[channel].deposit
    }

    /// After the chain or a capture changed something: an authorisation that the deposit does not cover any more is void.
    fn settle_down(&mut self, channel: usize) {
        let owed = self.owed(channel);
        let naive = &mut self.channels[channel];
        if owed <= naive.deposit && naive.accepted > naive.deposit {
            naive.accepted = owed;
        }
    }

    /// What a voucher makes of the accepted total, or that the payment is refused.
    fn may_pay(&self, channel: usize, total: u128, more: u128, is_new: bool, signed: Option<u128>) -> Option<u128> {
        let naive = &self.channels[channel];
        if !naive.opened || self.is_frozen(channel) || naive.quarantined {
            return None;
        }
        let accepted = if escrow_of(NAMES[channel]) == EXACT {
            if (is_new && self.open_on(channel).next().is_some()) || signed != Some(naive.charged + total) {
                return None;
            }
            naive.accepted.max(naive.charged + total)
        } else {
            match signed {
                Some(signed) if signed > naive.accepted && signed < naive.accepted + MIN_DELTA => return None,
                Some(signed) => naive.accepted.max(signed),
                None => naive.accepted,
            }
        };
        let limit = match naive.exit {
            Some((amount, at)) if self.world.now + RESERVATION_MILLIS + CLAIM_MILLIS >= at => naive.deposit.saturating_sub(amount),
            _ => naive.deposit,
        };
        let owed = self.owed(channel) + more;
        (owed <= accepted && (accepted == naive.accepted || accepted <= limit) && (more == 0 || owed <= limit)).then_some(accepted)
    }

    fn signed(&self, channel: usize, total: u128, more: u128, signed: Signed) -> Option<u128> {
        let Signed::Off(by) = signed else { return None };
        let naive = &self.channels[channel];
        let wanted = if escrow_of(NAMES[channel]) == EXACT { naive.charged + total } else { naive.accepted.max(self.owed(channel) + more) };
        Some(wanted.saturating_add_signed(by.into()))
    }

    fn charge(&mut self, request: u8, amount: u128) -> String {
        let Some(Known::Open { channel, .. }) = self.requests.remove(&request) else { panic!("is under way") };
        self.channels[channel].charged += amount;
        let after = self.channels[channel].charged;
        self.requests.insert(request, Known::Charged { channel, amount, after });
        self.settle_down(channel);
        format!("charged {amount} ={after}")
    }

    /// What the rule for deliveries without an end makes of one.
    fn resolve(&mut self, request: u8) -> String {
        match self.requests[&request] {
            Known::Open { delivered: 0, channel, .. } => {
                self.requests.remove(&request);
                self.settle_down(channel);
                "voided".into()
            }
            Known::Open { delivered, .. } => self.charge(request, delivered),
            Known::Charged { .. } => panic!("is under way"),
        }
    }

    /// Resolves what expires by then, in that order.
    fn resolve_until(&mut self, until: u64) {
        let expiry = |(request, known): (&u8, &Known)| match known {
            Known::Open { expires_at, .. } if *expires_at <= until => Some((*expires_at, *request)),
            Known::Open { .. } | Known::Charged { .. } => None,
        };
        let mut over: Vec<_> = self.requests.iter().filter_map(expiry).collect();
        over.sort_unstable();
        for (_, request) in over {
            self.resolve(request);
        }
    }

    /// Not for so long that outcomes are forgotten.
    fn wait(&mut self, millis: u64) {
        if self.world.now + millis < OUTCOME_MILLIS {
            self.world.wait(millis);
            self.resolve_until(self.world.now);
        }
    }

    fn ended(&self, request: u8) -> String {
        match self.requests.get(&request) {
            Some(Known::Charged { amount, after, .. }) => format!("charged {amount} ={after} again"),
            _ => "!UnknownRequest".into(),
        }
    }

    fn step(&mut self, action: Action) {
        let part_of = |whole: u128, part: u8| whole * u128::from(part) / 100;
        match action {
            Action::Deposit { channel: index, amount } => {
                let naive = &mut self.channels[index];
                naive.deposit += u128::from(amount);
                let deposit = Amount::from_units(naive.deposit);
                if !core::mem::replace(&mut naive.opened, true) {
                    self.world.fact(EscrowFact::Opened(terms(NAMES[index])));
                }
                self.world.fact(EscrowFact::Deposited { channel: channel(NAMES[index]), deposit });
                self.settle_down(index);
            }
            Action::Reserve { channel: index, request: id, ceiling, signed } => {
                let ceiling = u128::from(ceiling);
                let signed = self.signed(index, ceiling, ceiling, signed);
                let answer = short(&self.world.reserve(NAMES[index], &id_of(id), 1, ceiling, signed));
                let expected = match self.requests.get(&id).copied() {
                    _ if !self.channels[index].opened => "!UnknownChannel".into(),
                    Some(Known::Open { channel, ceiling, delivered, .. }) if channel == index => format!("under way {ceiling} {delivered}"),
                    Some(Known::Charged { channel, .. }) if channel == index => self.ended(id),
                    Some(_) => "!Conflict".into(),
                    None => match self.may_pay(index, ceiling, ceiling, true, signed) {
                        Some(accepted) => {
                            self.channels[index].accepted = accepted;
                            let expires_at = self.world.now + RESERVATION_MILLIS;
                            self.requests.insert(id, Known::Open { channel: index, ceiling, delivered: 0, expires_at });
                            format!("reserved {ceiling}")
                        }
                        None => "!".into(),
                    },
                };
                assert!(answer == expected || (expected == "!" && answer.starts_with('!')), "{answer} is not {expected}");
            }
            Action::Extend { request: id, by, signed } => {
                let Some(Known::Open { channel: index, ceiling, delivered, expires_at }) = self.requests.get(&id).copied() else { return };
                let (more, total) = (u128::from(by), ceiling + u128::from(by));
                let signed = self.signed(index, total, more, signed);
                let input = EscrowInput::Extend {
                    request: request(&id_of(id)),
                    ceiling: Amount::from_units(total),
                    at_least: Amount::from_units(total),
                    voucher: signed.map(|signed| voucher(NAMES[index], signed)),
                };
                let is_taken = matches!(self.world.input(input), EscrowAnswer::Reserved { .. });
                let accepted = self.may_pay(index, total, more, false, signed);
                assert_eq!(is_taken, accepted.is_some());
                if let Some(accepted) = accepted {
                    self.channels[index].accepted = accepted;
                    self.requests.insert(id, Known::Open { channel: index, ceiling: total, delivered, expires_at });
                }
            }
            Action::Mark { request: id, part } => {
                let Some(Known::Open { channel, ceiling, delivered, expires_at }) = self.requests.get(&id).copied() else { return };
                let mark = part_of(ceiling, part);
                let delivered_now = Cost::whole(Amount::from_units(mark));
                let answer =
                    self.world.input(EscrowInput::Mark { request: request(&id_of(id)), delivered: delivered_now, meter: Meter::default() });
                if mark > ceiling {
                    assert_eq!(short(&answer), "!BeyondReserved");
                } else {
                    let delivered = delivered.max(mark);
                    assert_eq!(short(&answer), format!("marked {delivered}"));
                    self.requests.insert(id, Known::Open { channel, ceiling, delivered, expires_at });
                }
            }
            Action::Capture { request: id, part } => {
                let known = self.requests.get(&id).copied();
                let ceiling = if let Some(Known::Open { ceiling, .. }) = known { ceiling } else { 0 };
                let amount = part_of(ceiling, part);
                let (units, meter) = (Amount::from_units(amount), Meter { price_version: 1, units: Bytes::new() });
                let input = EscrowInput::Capture { request: request(&id_of(id)), cost: Cost::whole(units), meter, stored: None };
                let answer = short(&self.world.input(input));
                let expected = match known {
                    Some(Known::Open { ceiling, .. }) if amount > ceiling => "!BeyondReserved".into(),
                    Some(Known::Open { delivered, .. }) if amount < delivered => "!BelowDelivered".into(),
                    Some(Known::Open { .. }) => self.charge(id, amount),
                    Some(Known::Charged { .. }) | None => self.ended(id),
                };
                assert_eq!(answer, expected);
            }
            Action::Void { request: id } => {
                let answer = short(&self.world.input(EscrowInput::Void { request: request(&id_of(id)), stored: None }));
                let is_open = matches!(self.requests.get(&id), Some(Known::Open { .. }));
                let expected = if is_open { self.resolve(id) } else { self.ended(id) };
                assert_eq!(answer, expected);
            }
            Action::Voucher { channel: index, cumulative } => {
                let cumulative = self.channels[index].accepted.saturating_sub(20) + u128::from(cumulative);
                let answer = self.world.input(EscrowInput::Voucher { voucher: voucher(NAMES[index], cumulative) });
                let accepted = self.may_pay(index, 0, 0, false, Some(cumulative));
                assert_eq!(matches!(answer, EscrowAnswer::Channel(_)), accepted.is_some(), "{answer:?}");
                if let Some(accepted) = accepted {
                    self.channels[index].accepted = accepted;
                }
            }
            Action::Exit { channel: index, part, millis } => {
                if self.channels[index].opened {
                    let amount = part_of(self.channels[index].deposit, part);
                    let at = self.world.now + u64::from(millis);
                    let exit = Exit { amount: Some(Amount::from_units(amount)), finalises_at: Timestamp::from_millis(at) };
                    self.world.fact(EscrowFact::ExitRequested { channel: channel(NAMES[index]), exit });
                    self.channels[index].exit = Some((amount, at));
                }
            }
            Action::Stay { channel: index } => {
                if self.channels[index].exit.take().is_some() {
                    self.world.fact(EscrowFact::ExitCancelled { channel: channel(NAMES[index]) });
                }
            }
            Action::Withdraw { channel: index } => {
                if let Some((amount, _)) = self.channels[index].exit.take() {
                    let naive = &mut self.channels[index];
                    let amount = amount.min(naive.deposit - naive.settled);
                    naive.deposit -= amount;
                    self.world.fact(EscrowFact::Withdrawn { channel: channel(NAMES[index]), amount: Amount::from_units(amount) });
                    self.settle_down(index);
                }
            }
            Action::Refund { channel: index } => {
                let amount = self.channels[index].deposit.saturating_sub(self.owed(index));
                if amount > 0 {
                    self.channels[index].deposit -= amount;
                    self.channels[index].exit = None;
                    let (channel, amount) = (channel(NAMES[index]), Amount::from_units(amount));
                    self.world.fact(EscrowFact::Refunded { channel, amount, exit: None });
                    self.settle_down(index);
                }
            }
            Action::Claim { escrow, lands } => {
                let claimable = self.world.engine.claimable(escrow, None);
                let rows: Vec<_> = claimable.map(|row| ClaimRow { channel: row.terms.channel, total: row.total }).collect();
                let transaction = Bytes::from_static(b"tx");
                let answer = self.world.input(EscrowInput::ClaimSubmitted { escrow, rows: rows.clone(), transaction });
                let EscrowAnswer::Claim(claim) = answer else {
                    assert!(rows.is_empty(), "{answer:?}");
                    return;
                };
                self.world.restart();
                if !lands {
                    let input = EscrowInput::ClaimFailed { claim, row: Some(rows[0].channel), reason: "no".into() };
                    assert_eq!(self.world.input(input), EscrowAnswer::Done);
                }
                for ClaimRow { channel: id, total } in rows {
                    let index = NAMES.iter().position(|name| channel(name) == id).expect("known");
                    if lands {
                        self.world.fact(EscrowFact::Claimed { channel: id, total });
                        self.channels[index].settled = total.units();
                    } else if self.world.engine.escrow_channel(&id).is_some_and(|known| known.quarantined().is_some()) {
                        self.channels[index].quarantined = true;
                    }
                }
                assert_eq!(self.world.engine.escrow_claims().count(), 0);
            }
            Action::Release { channel: index } => {
                if core::mem::take(&mut self.channels[index].quarantined) {
                    self.world.input(EscrowInput::Release { channel: channel(NAMES[index]) });
                }
            }
            Action::Wait { millis } => self.wait(millis.into()),
            Action::Crash => {
                self.world.crash();
                self.resolve_until(u64::MAX);
            }
        }
    }

    fn check(&self) {
        self.world.check();
        for (index, naive) in self.channels.iter().enumerate() {
            let Some(known) = self.world.engine.escrow_channel(&channel(NAMES[index])) else {
                assert!(!naive.opened);
                continue;
            };
            let totals = known.totals();
            let units = |total: CumulativeAmount| total.units();
            let engine = (totals.deposit.units(), units(totals.settled), units(totals.accepted), units(totals.charged));
            assert_eq!(engine, (naive.deposit, naive.settled, naive.accepted, naive.charged), "{}", NAMES[index]);
            assert_eq!(totals.charged.units() + totals.reserved.units(), self.owed(index));
            assert_eq!(known.status() != EscrowStatus::Open, self.is_frozen(index));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn escrows_do_what_a_naive_ledger_does(actions in prop::collection::vec(action(), 1..60)) {
        let mut ledger = Ledger::new();
        for action in actions {
            ledger.step(action);
            ledger.check();
        }
    }
}
