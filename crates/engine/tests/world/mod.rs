//! An engine with two escrows, a store in memory and a clock that tests turn, spoken to in lines of text.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_billing::{BatchTree, genesis_link};
use millstream_engine::escrow::{
    AuthorizationId, Cause, ChargesRecord, ClaimId, ClaimRow, ClaimRule, Escrow, EscrowAnswer, EscrowConfig, EscrowFact, EscrowId,
    EscrowInput, EscrowRejection, EscrowStatus, EscrowTerms, Exit, Fingerprint, Meter, OptimisticLimit, Outcome, RequestId, Reserve,
    ReserveOnce, StepRule, Subject,
};
use millstream_engine::{
    ChainCursor, ChargeBatch, Count, Effect, Engine, EngineConfig, Fault, Input, Key, Record, ReplyId, Span, Table, Whose,
};
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, BlockNumber, ChainId, CumulativeAmount, EscrowChannelId, Hash256, LedgerId, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey, VerifiedEscrowVoucher};

pub const OUTCOME_MILLIS: u64 = 1_000;
pub const RESERVATION_MILLIS: u64 = 400;
pub const CLAIM_MILLIS: u64 = 100;

/// The exact escrow, whose channels begin with `x`; the other one's begin with `m`.
pub const EXACT: EscrowId = EscrowId(1);
pub const MONOTONE: EscrowId = EscrowId(2);
pub const MIN_DELTA: u128 = 10;

pub fn config() -> EngineConfig {
    let ledger = LedgerId { chain: ChainId::new(31_337), contract: Address::from_bytes([1; 20]) };
    let escrow = EscrowConfig {
        outcome_millis: OUTCOME_MILLIS,
        reservation_millis_max: RESERVATION_MILLIS,
        claim_margin_millis: CLAIM_MILLIS,
        payment_margin_millis: 50,
        payment_millis_max: 5_000,
    };
    EngineConfig { ledger, epoch_frames_max: 3, epoch_millis_max: 1_000, retention_millis: None, escrow }
}

pub fn domain(escrow: EscrowId) -> EscrowDomain {
    let scheme = if escrow == EXACT { EscrowScheme::X402Batch } else { EscrowScheme::EvmSession };
    EscrowDomain::new(scheme, ChainId::new(31_337), Address::from_bytes([9; 20]))
}

pub fn escrow(id: EscrowId, optimistic: u128) -> Escrow {
    let (step, claim) = match id {
        EXACT => (StepRule::Exact, ClaimRule::UpTo),
        _ => (StepRule::Monotone { min_delta: Amount::from_units(MIN_DELTA) }, ClaimRule::Whole),
    };
    let limit = Amount::from_units(optimistic);
    let optimistic = OptimisticLimit { channel_max: limit, total_max: limit };
    Escrow { id, separator: *domain(id).separator(), token: Address::from_bytes([8; 20]), step, claim, optimistic }
}

pub fn escrow_of(name: &str) -> EscrowId {
    if name.starts_with('x') { EXACT } else { MONOTONE }
}

fn named<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = [0; N];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

pub fn channel(name: &str) -> EscrowChannelId {
    EscrowChannelId::from_bytes(named(name))
}

pub fn request(name: &str) -> RequestId {
    RequestId::from_bytes(named(name))
}

pub fn authorization(name: &str) -> AuthorizationId {
    AuthorizationId::from_bytes(named(name))
}

fn key() -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[0x22; 32]).expect("a key")
}

pub fn voucher(name: &str, cumulative: u128) -> VerifiedEscrowVoucher {
    let statement = EscrowVoucher { channel: channel(name), cumulative: CumulativeAmount::from_units(cumulative) };
    key().sign(statement, &domain(escrow_of(name))).expect("signs")
}

pub fn terms(name: &str) -> EscrowTerms {
    EscrowTerms {
        channel: channel(name),
        escrow: escrow_of(name),
        payer: Address::from_bytes([2; 20]),
        signer: key().account(),
        receiver: Address::from_bytes([3; 20]),
        config: Bytes::from_static(b"what claiming needs"),
    }
}

fn name_of(bytes: &[u8; 32]) -> String {
    bytes.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

pub struct World {
    pub engine: Engine,
    pub records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    pub now: u64,
    pub timer: Option<Timestamp>,
    /// Reservations that ended without a charge.
    pub voids: u64,
}

impl World {
    pub fn new(optimistic: u128) -> Self {
        let engine = Engine::restore(config(), [], &mut Vec::new());
        let mut world = Self { engine, records: BTreeMap::new(), now: 1, timer: None, voids: 0 };
        for id in [EXACT, MONOTONE] {
            assert_eq!(world.input(EscrowInput::Serve(escrow(id, optimistic))), EscrowAnswer::Done);
        }
        world
    }

    fn take(&mut self, effects: Vec<Effect>) -> Option<EscrowAnswer> {
        let mut answer = None;
        let before = self.captures();
        let is_reservation = |key: &[u8]| key.first() == Some(&6);
        let ended = effects.iter().filter(|effect| match effect {
            Effect::Delete(key) => key.table() == Table::Escrows && is_reservation(&key.to_bytes()),
            _ => false,
        });
        self.voids += ended.count() as u64;
        for effect in effects {
            match effect {
                Effect::Put(record) => {
                    self.records.insert((record.key().table(), record.key().to_bytes()), record.encode());
                }
                Effect::Delete(key) => drop(self.records.remove(&(key.table(), key.to_bytes()))),
                Effect::ForgetOutcomesBefore(generation) => {
                    let (from, to) = Key::outcomes_before(generation);
                    self.records.retain(|(table, key), _| *table != Table::Outcomes || key[..] < from[..] || key[..] >= to[..]);
                }
                Effect::ForgetTalliesBefore(span) => {
                    let (from, to) = Key::tallies_before(span);
                    self.records.retain(|(table, key), _| *table != Table::Tallies || key[..] < from[..] || key[..] >= to[..]);
                }
                Effect::EscrowAnswer { answer: given, .. } => assert!(answer.replace(given).is_none(), "answered twice"),
                Effect::WakeAt(at) => self.timer = Some(self.timer.map_or(at, |timer| timer.min(at))),
                Effect::PutFrame { .. }
                | Effect::Answer { .. }
                | Effect::DeleteThrough(_)
                | Effect::ReclaimThrough(_)
                | Effect::SealEpoch { .. } => panic!("nothing here is about native channels"),
            }
        }
        // Every reservation ends once: with a charge, or without.
        self.voids -= self.captures() - before;
        answer
    }

    pub fn apply(&mut self, input: Input) -> Result<Option<EscrowAnswer>, Fault> {
        let mut effects = Vec::new();
        self.engine.apply(Timestamp::from_millis(self.now), input, &mut effects)?;
        self.engine.end_tick(&mut effects)?;
        Ok(self.take(effects))
    }

    /// One tick with one input, answered; what the store knows of its request is looked up first, as the node does.
    pub fn input(&mut self, mut input: EscrowInput) -> EscrowAnswer {
        if let Some(keys) = self.engine.needs_outcome(&input) {
            let found = keys.iter().find_map(|key| self.records.get(&(key.table(), key.to_bytes())));
            if let Some(bytes) = found {
                input.found(Outcome::decode(bytes).expect("its own bytes"));
            }
        }
        let answer = self.apply(Input::Escrow { reply: Some(ReplyId(0)), input: Box::new(input) });
        answer.expect("no fault").expect("is answered")
    }

    pub fn fact(&mut self, fact: EscrowFact) {
        assert_eq!(self.apply(Input::EscrowFact(fact)).expect("no fault"), None);
    }

    pub fn wait(&mut self, millis: u64) {
        let until = self.now + millis;
        while let Some(asked) = self.timer.take_if(|at| at.as_millis() <= until) {
            self.now = self.now.max(asked.as_millis());
            self.apply(Input::Tick { asked, chain_time: Timestamp::from_millis(self.now) }).expect("no fault");
        }
        self.now = until;
    }

    /// The process is gone; what was put is there, and what a start reads is read.
    pub fn restart(&mut self) {
        let is_read = |table, key: &[u8]| matches!(table, Table::Meta | Table::Tallies) || (table == Table::Escrows && key[0] < 0x80);
        let read = self.records.iter().filter(|((table, key), _)| is_read(*table, key));
        let read: Vec<_> = read.map(|((table, key), value)| Record::decode(*table, key, value).expect("its own bytes")).collect();
        for record in &read {
            assert_eq!(self.records[&(record.key().table(), record.key().to_bytes())], record.encode(), "{record:?}");
        }
        let mut effects = Vec::new();
        self.engine = Engine::restore(config(), read, &mut effects);
        self.timer = None;
        self.take(effects);
    }

    pub fn crash(&mut self) {
        self.restart();
        assert_eq!(self.input(EscrowInput::Resume), EscrowAnswer::Done);
    }

    pub fn reserve(&mut self, name: &str, id: &str, print: u8, ceiling: u128, signed: Option<u128>) -> EscrowAnswer {
        self.reserve_some(name, id, print, (ceiling, ceiling), signed)
    }

    /// Reserves the ceiling, or less, down to a bound.
    pub fn reserve_some(
        &mut self,
        name: &str,
        id: &str,
        print: u8,
        (ceiling, at_least): (u128, u128),
        signed: Option<u128>,
    ) -> EscrowAnswer {
        self.input(EscrowInput::Reserve(Reserve {
            channel: channel(name),
            request: request(id),
            fingerprint: Fingerprint::from_bytes([print; 16]),
            ceiling: Amount::from_units(ceiling),
            at_least: Amount::from_units(at_least),
            voucher: signed.map(|cumulative| voucher(name, cumulative)),
            stored: None,
        }))
    }

    pub fn charges(&self) -> Vec<millstream_engine::escrow::Charge> {
        let records = self.records.iter().filter(|((table, _), _)| *table == Table::Charges);
        records.flat_map(|((_, key), value)| ChargesRecord::decode(key, value).expect("its own bytes").charges).collect()
    }

    /// Charges that are no reversals.
    fn captures(&self) -> u64 {
        self.charges().iter().filter(|charge| charge.cause != Cause::Reversed).count() as u64
    }

    /// The journal has each charge once, in one chain, and the tallies are its sums (J-3, J-5, J-9).
    fn check_books(&self, charges: &[millstream_engine::escrow::Charge]) {
        let table = |of: Table| self.records.iter().filter(move |((table, _), _)| *table == of);
        let (first, end) = Key::charge_batches(0..u64::MAX);
        let batches = table(Table::Accounts).filter(|((_, key), _)| (&first..&end).contains(&key));
        let batches: Vec<_> = batches.map(|((_, key), value)| ChargeBatch::decode(key, value).expect("its own bytes")).collect();
        let (mut link, mut booked, mut of_payers) = (genesis_link(&config().ledger), Vec::new(), 0);
        for (number, batch) in (1..).zip(&batches) {
            assert_eq!((batch.batch.number, batch.batch.parent), (number, link));
            link = batch.batch.link();
            let key = (Table::Charges, batch.first.to_be_bytes().to_vec());
            let record = ChargesRecord::decode(&key.1, &self.records[&key]).expect("its own bytes");
            let entries = batch.entries(&record).expect("the same charges");
            let hashes = entries.iter().map(|entry| *entry.hash().as_bytes()).collect();
            assert_eq!(BatchTree::new(hashes).expect("a batch").root(), batch.batch.root);
            for payer in entries.iter().map(|entry| entry.payer).collect::<BTreeSet<_>>() {
                let (key, _) = Key::payer_batches(&payer, batch.first..u64::MAX);
                assert!(self.records.contains_key(&(Table::Accounts, key)), "{payer} is not found by its charges");
                of_payers += 1;
            }
            booked.extend(record.charges);
        }
        assert_eq!(booked, charges);
        assert_eq!((self.engine.journal().number, self.engine.journal().link), (batches.len() as u64, link));
        assert_eq!(table(Table::Accounts).count(), batches.len() + of_payers);

        let mut sums: BTreeMap<(bool, u8), Count> = BTreeMap::new();
        for ((_, key), value) in table(Table::Tallies) {
            let (key, count) = Count::decode(key, value).expect("its own bytes");
            let kind = match key.whose {
                Whose::All => 0,
                Whose::Payer(_) | Whose::OtherPayers => 1,
                Whose::Route(_) | Whose::OtherRoutes => 2,
            };
            let sum = sums.entry((matches!(key.span, Span::Day(_)), kind)).or_default();
            *sum = sum.checked_add(&count).expect("small");
        }
        let sum = |of_reversals: bool| -> u128 {
            let some = charges.iter().filter(|charge| (charge.cause == Cause::Reversed) == of_reversals);
            some.map(|charge| charge.amount.units()).sum()
        };
        let (captures, all) = (self.captures(), charges.len() as u64);
        let expected =
            Count { charges: captures, lines: 0, voids: self.voids, amount: sum(false), reversals: all - captures, reversed: sum(true) };
        let of_routes = Count { voids: 0, ..expected };
        for (of, sum) in sums {
            assert_eq!(sum, if of.1 == 2 { of_routes } else { expected }, "{of:?}");
        }
    }

    /// What has to hold after every step.
    pub fn check(&self) {
        let charges = self.charges();
        self.check_books(&charges);
        for (sequence, charge) in (0..).zip(&charges) {
            assert_eq!(charge.sequence, sequence, "charges without a gap");
        }
        assert_eq!(self.engine.escrow_summary().charges, charges.len() as u64);
        for name in ["x", "x2", "m", "m2"] {
            let Some(known) = self.engine.escrow_channel(&channel(name)) else { continue };
            let totals = known.totals();
            let own: Vec<_> = charges.iter().filter(|charge| charge.subject == Subject::Channel(channel(name))).collect();
            let sum: u128 = own.iter().map(|charge| charge.amount.units()).sum();
            assert_eq!(totals.charged.units(), known.inherited().units() + sum, "{name}: charged is the sum of its charges");
            let last = own.last().map(|charge| charge.charged_after);
            assert!(last.is_none_or(|last| last == totals.charged || known.inherited() > CumulativeAmount::ZERO), "{name}");
            assert!(totals.charged.units() + totals.reserved.units() <= totals.accepted.units(), "{name}: {totals:?}");
            if known.status() == EscrowStatus::Open {
                let backing = totals.deposit.max(known.announced().unwrap_or_default());
                assert!(totals.settled <= totals.charged && totals.accepted.units() <= backing.units(), "{name}: {totals:?}");
            }
            if known.requests() == 0 {
                assert_eq!(totals.reserved, Amount::ZERO, "{name}");
            }
        }
        for id in [EXACT, MONOTONE] {
            for claimable in self.engine.claimable(id, None) {
                let totals = self.engine.escrow_channel(&claimable.terms.channel).expect("known").totals();
                let signed = claimable.voucher.statement().cumulative;
                assert!(claimable.total <= totals.charged && claimable.total <= signed && claimable.total > totals.settled);
                assert!(id == EXACT || claimable.total == signed, "a voucher is taken whole");
                let again = claimable.voucher.signed().clone().verify(&domain(id), claimable.terms.signer);
                assert_eq!(again.as_ref(), Ok(&claimable.voucher), "what is kept still verifies");
            }
        }
    }

    fn fact_of(words: &[&str]) -> Option<EscrowFact> {
        let number = |index: usize| words[index].parse::<u128>().expect("a number");
        let at = |index: usize| Timestamp::from_millis(words[index].trim_start_matches('@').parse().expect("a time"));
        let amount = |index: usize| Amount::from_units(number(index));
        let exit = || Exit { amount: (words[2] != "all").then(|| amount(2)), finalises_at: at(3) };
        let channel = channel(words[1]);
        let escrow = escrow_of(words[1]);
        Some(match words[0] {
            "opened" => EscrowFact::Opened(terms(words[1])),
            "deposit" => EscrowFact::Deposited { channel, deposit: amount(2) },
            "claimed" => EscrowFact::Claimed { channel, total: CumulativeAmount::from_units(number(2)) },
            "exit" => EscrowFact::ExitRequested { channel, exit: exit() },
            "stay" => EscrowFact::ExitCancelled { channel },
            "withdrawn" => EscrowFact::Withdrawn { channel, amount: amount(2) },
            "refunded" => EscrowFact::Refunded { channel, amount: amount(2), exit: None },
            "closed" => EscrowFact::Closed { channel },
            "paid" => EscrowFact::Paid { authorization: authorization(words[1]) },
            "reset" => EscrowFact::Reset { escrow },
            "swept" => EscrowFact::Swept { escrow, receiver: Address::from_bytes([3; 20]), amount: amount(2) },
            "seen" => {
                let block = BlockNumber::new(words[2].parse().expect("a block"));
                EscrowFact::Seen { escrow, cursor: ChainCursor { block, state: vec![7] } }
            }
            _ => return None,
        })
    }

    /// Does what a line says; the answer in short.
    pub fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u128>().expect("a number");
        let amount = |index: usize| Amount::from_units(number(index));
        let tagged = |tag: char| words[1..].iter().find_map(|word| word.strip_prefix(tag).and_then(|rest| rest.parse::<u128>().ok()));
        let signed = |name: &str| tagged('v').map(|cumulative| voucher(name, cumulative));
        let at_least = |index: usize| tagged('l').map_or_else(|| amount(index), Amount::from_units);
        let (meter, stored) = (Meter { price_version: 3, units: Bytes::from_static(b"u") }, None);
        let answer = match words[0] {
            "wait" => {
                self.wait(words[1].parse().expect("milliseconds"));
                return "done".into();
            }
            "crash" => {
                self.crash();
                return "done".into();
            }
            "totals" => return self.totals(words[1]),
            "claimable" => return self.claimable(escrow_of(words[1])),
            "sweep" => {
                let due: Vec<_> = self.engine.sweeps().map(|(_, _, sweep)| sweep.due().to_string()).collect();
                return due.join(" ");
            }
            "payment" => return self.engine.payment(&authorization(words[1])).map_or("none".into(), |known| format!("{:?}", known.state)),
            "open" => {
                self.fact(EscrowFact::Opened(terms(words[1])));
                self.fact(EscrowFact::Deposited { channel: channel(words[1]), deposit: amount(2) });
                return "done".into();
            }
            "announce" => self.input(EscrowInput::Announce { terms: terms(words[1]), deposit: amount(2) }),
            "lost" => self.input(EscrowInput::AnnouncementFailed { channel: channel(words[1]) }),
            "voucher" => self.input(EscrowInput::Voucher { voucher: voucher(words[1], number(2)) }),
            "reserve" => {
                let (print, ceiling) = (u8::try_from(tagged('f').unwrap_or(1)).expect("small"), number(3));
                let at_least = tagged('l').unwrap_or(ceiling);
                self.reserve_some(words[1], words[2], print, (ceiling, at_least), tagged('v'))
            }
            "once" => self.input(EscrowInput::ReserveOnce(ReserveOnce {
                authorization: authorization(words[1]),
                escrow: EXACT,
                payer: Address::from_bytes([2; 20]),
                receiver: Address::from_bytes([3; 20]),
                amount: amount(3),
                valid_until: Timestamp::from_millis(words[4].trim_start_matches('@').parse().expect("a time")),
                transfer: Bytes::from_static(b"signed"),
                request: request(words[2]),
                fingerprint: Fingerprint::from_bytes([1; 16]),
                stored,
            })),
            "extend" => {
                let name = match self.engine.reservation(&request(words[1])).map(|known| known.subject) {
                    Some(Subject::Channel(id)) => name_of(id.as_bytes()),
                    _ => "x".into(),
                };
                self.input(EscrowInput::Extend {
                    request: request(words[1]),
                    ceiling: amount(2),
                    at_least: at_least(2),
                    voucher: signed(&name),
                })
            }
            "mark" => self.input(EscrowInput::Mark { request: request(words[1]), delivered: cost(words[2]), meter }),
            "capture" => self.input(EscrowInput::Capture { request: request(words[1]), cost: cost(words[2]), meter, stored }),
            "void" => self.input(EscrowInput::Void { request: request(words[1]), stored }),
            "collect" => self.input(EscrowInput::CollectOnce { request: request(words[1]), meter, transaction: Bytes::from_static(b"tx") }),
            "sent" => {
                self.input(EscrowInput::PaymentSubmitted { authorization: authorization(words[1]), transaction: Bytes::from_static(b"tx") })
            }
            "bounced" | "withheld" => self.input(EscrowInput::PaymentFailed {
                authorization: authorization(words[1]),
                reason: "reverted".into(),
                is_owed: words[0] == "bounced",
            }),
            "claim" => {
                let row = |row: &[&str]| ClaimRow {
                    channel: channel(row[0]),
                    total: CumulativeAmount::from_units(row[1].parse().expect("a number")),
                };
                let (escrow, rows) = (escrow_of(words[1]), words[1..].chunks(2).map(row).collect());
                self.input(EscrowInput::ClaimSubmitted { escrow, rows, transaction: Bytes::from_static(b"tx") })
            }
            "signed" => {
                let (claim, transaction) = (ClaimId(words[1].parse().expect("a number")), Bytes::from_static(b"tx2"));
                self.input(EscrowInput::ClaimSigned { claim, transaction })
            }
            "landed" => self.input(EscrowInput::ClaimLanded { claim: ClaimId(words[1].parse().expect("a number")) }),
            "failed" => {
                let (claim, row) = (ClaimId(words[1].parse().expect("a number")), words.get(2).map(|name| channel(name)));
                self.input(EscrowInput::ClaimFailed { claim, row, reason: "reverts".into() })
            }
            "quarantine" => self.input(EscrowInput::Quarantine { channel: channel(words[1]), reason: "refused".into() }),
            "release" => self.input(EscrowInput::Release { channel: channel(words[1]) }),
            _ => {
                self.fact(Self::fact_of(&words).unwrap_or_else(|| panic!("what is {line}?")));
                return "done".into();
            }
        };
        short(&answer)
    }

    pub fn totals(&self, name: &str) -> String {
        let Some(known) = self.engine.escrow_channel(&channel(name)) else { return "none".into() };
        let totals = known.totals();
        let status = match known.status() {
            EscrowStatus::Open => "open".into(),
            EscrowStatus::Frozen(why) => format!("{why:?}"),
            EscrowStatus::Closed => "closed".into(),
        };
        // Settled ≤ charged (+ reserved) ≤ accepted ≤ deposit.
        let (settled, charged, reserved) = (totals.settled.units(), totals.charged.units(), totals.reserved.units());
        format!("{settled} {charged}+{reserved} {} {} {status}", totals.accepted.units(), totals.deposit.units())
    }

    fn claimable(&self, escrow: EscrowId) -> String {
        let row = |row: millstream_engine::escrow::Claimable<'_>| {
            let deadline = row.deadline.map_or(String::new(), |at| format!("@{}", at.as_millis()));
            format!(
                "{}:{}/{}{deadline}",
                name_of(row.terms.channel.as_bytes()),
                row.total.units(),
                row.voucher.statement().cumulative.units()
            )
        };
        self.engine.claimable(escrow, None).map(row).collect::<Vec<_>>().join(" ")
    }
}

/// `3` or `3.25`: base units.
fn cost(text: &str) -> Cost {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let attos = format!("{part:0<18}").parse().expect("a fraction");
    Cost::new(whole.parse().expect("a number"), attos).expect("small")
}

fn plain(cost: Cost) -> String {
    let attos = format!("{:018}", cost.attos());
    format!("{}.{}", cost.down().units(), attos.trim_end_matches('0')).trim_end_matches('.').to_owned()
}

pub fn short(answer: &EscrowAnswer) -> String {
    match answer {
        EscrowAnswer::Done => "done".into(),
        EscrowAnswer::Claim(claim) => format!("claim {claim}"),
        EscrowAnswer::Channel(channel) => format!("accepted {}", channel.totals.accepted.units()),
        EscrowAnswer::Reserved { ceiling, .. } => format!("reserved {}", ceiling.units()),
        EscrowAnswer::UnderWay { ceiling, delivered } => format!("under way {} {}", ceiling.units(), plain(*delivered)),
        EscrowAnswer::Marked { delivered } => format!("marked {}", plain(*delivered)),
        EscrowAnswer::Charged { outcome, is_repeated, .. } => {
            let again = if *is_repeated { " again" } else { "" };
            format!("charged {} ={}{again}", outcome.amount.units(), outcome.charged_after.units())
        }
        EscrowAnswer::Voided => "voided".into(),
        EscrowAnswer::Rejected { rejection, .. } => reject(rejection),
    }
}

fn reject(rejection: &EscrowRejection) -> String {
    match rejection {
        EscrowRejection::WrongStep { expected, .. } => format!("!step {}", expected.units()),
        EscrowRejection::DepositExceeded { limit, .. } => format!("!deposit {}", limit.units()),
        EscrowRejection::Withdrawing { limit, .. } => format!("!withdrawing {}", limit.units()),
        EscrowRejection::Insufficient { required, .. } => format!("!insufficient {}", required.units()),
        EscrowRejection::Frozen { why } => format!("!{why:?}"),
        other => {
            let name = format!("{other:?}");
            format!("!{}", name.split([' ', '{']).next().unwrap_or_default())
        }
    }
}

/// The domain of nothing that is served.
pub fn other_domain() -> EscrowDomain {
    EscrowDomain::new(EscrowScheme::X402Batch, ChainId::new(1), Address::from_bytes([9; 20]))
}

pub fn hash(byte: u8) -> Hash256 {
    Hash256::from_bytes([byte; 32])
}
