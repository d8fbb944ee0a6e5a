//! A policy on a disk that crashes at each of its commits: a budget has spent exactly what was charged, and nothing is held that nobody delivers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::escrow::{
    Charge, ChargesRecord, ClaimRule, Escrow, EscrowAnswer, EscrowFact, EscrowId, EscrowInput, EscrowTerms, Fingerprint, Meter,
    OptimisticLimit, RequestId, Reserve, StepRule,
};
use millstream_engine::{Input, Table};
use millstream_policy::{
    Ask, AssetKey, AssetRules, Budget, CounterView, Dimension, Mode, Policy, PolicyOrder, PolicyReply, ReasonKind, Subject, Verdict, When,
    Window,
};
use millstream_store::{CrashDisk, Fault, KeyRange};
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey};

use crate::bill_tests::{House, config};
use crate::core::{Guarded, Stopped, store_table};
use crate::payments::Payments;

const CHANNEL: EscrowChannelId = EscrowChannelId::from_bytes([5; 32]);
const ASSET: AssetKey = AssetKey { chain: ChainId::new(31_337), token: Address::from_bytes([8; 20]) };
/// What one customer may spend.
const MAX: u128 = 450;
/// What each request holds.
const CEILING: u128 = 100;
/// What it costs.
const COST: u128 = 70;

fn domain() -> EscrowDomain {
    EscrowDomain::new(EscrowScheme::EvmSession, ChainId::new(31_337), Address::from_bytes([9; 20]))
}

fn key() -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[0x22; 32]).expect("a key")
}

fn policy() -> Policy {
    let rules = AssetRules {
        symbol: "T".to_owned(),
        decimals: 0,
        payment_max: Vec::new(),
        approval_above: Some((Amount::from_units(CEILING), Mode::Enforce)),
    };
    let mut policy = Policy::of_assets([(ASSET, rules)]);
    let budget = Budget {
        name: "customer".to_owned(),
        max: BTreeMap::from([(ASSET, Amount::from_units(MAX))]),
        per: vec![Dimension::Agent],
        when: When::default(),
        window: Window::Total,
        mode: Mode::Enforce,
    };
    policy.add_budget(budget).expect("a name");
    policy
}

fn ask(number: u8, ceiling: u128) -> Ask {
    let subject = Subject { agent: "customer".to_owned(), route: "/v1".to_owned(), ..Subject::default() };
    let amount = Amount::from_units(ceiling);
    let id = Hash256::from_bytes([number; 32]);
    Ask { id, subject, asset: ASSET, adds: amount, price: amount, fingerprint: id, listed: None }
}

struct Life {
    house: House,
    payments: Payments,
    fault: Option<(usize, Fault)>,
}

impl Life {
    fn start(disk: &CrashDisk, fault: Option<(usize, Fault)>) -> Self {
        let house = House::start_guarded(config(), Some(policy()), disk);
        let payments = Payments::new(house.core.clone(), Arc::clone(&house.reader));
        Self { house, payments, fault }
    }

    fn count(&mut self) {
        if let Some((commits, fault)) = &mut self.fault {
            if *commits == 0 {
                self.house.disk.inject(*fault);
            }
            *commits = commits.wrapping_sub(1);
        }
    }

    async fn open(&mut self) -> Result<(), Stopped> {
        let (separator, token) = (*domain().separator(), ASSET.token);
        let (step, claim) = (StepRule::Monotone { min_delta: Amount::from_units(1) }, ClaimRule::Whole);
        let escrow = Escrow { id: EscrowId(1), separator, token, step, claim, optimistic: OptimisticLimit::default() };
        self.count();
        self.payments.apply(EscrowInput::Serve(escrow)).await?;
        let terms = EscrowTerms {
            channel: CHANNEL,
            escrow: EscrowId(1),
            payer: Address::from_bytes([2; 20]),
            signer: key().account(),
            receiver: Address::from_bytes([3; 20]),
            config: Bytes::from_static(b"config"),
        };
        for fact in [EscrowFact::Opened(terms), EscrowFact::Deposited { channel: CHANNEL, deposit: Amount::from_units(10_000) }] {
            self.count();
            self.house.core.inputs(vec![Input::EscrowFact(fact)]).await?;
        }
        Ok(())
    }

    async fn reserve(&mut self, number: u8, ceiling: u128) -> Result<Guarded, Stopped> {
        let statement = EscrowVoucher { channel: CHANNEL, cumulative: CumulativeAmount::from_units(5_000) };
        let reserve = Reserve {
            channel: CHANNEL,
            request: RequestId::from_bytes([number; 32]),
            fingerprint: Fingerprint::from_bytes([number; 16]),
            ceiling: Amount::from_units(ceiling),
            at_least: Amount::from_units(ceiling),
            voucher: Some(key().sign(statement, &domain()).expect("signs")),
            stored: None,
        };
        self.count();
        self.payments.reserve_guarded(reserve, ask(number, ceiling)).await
    }

    async fn mark(&mut self, number: u8, cost: u128) -> Result<(), Stopped> {
        self.count();
        let request = RequestId::from_bytes([number; 32]);
        self.payments.mark(request, Cost::whole(Amount::from_units(cost)), Meter::default()).await.map(|_| ())
    }

    async fn capture(&mut self, number: u8, cost: u128) -> Result<(), Stopped> {
        self.count();
        let request = RequestId::from_bytes([number; 32]);
        self.payments.capture(request, Cost::whole(Amount::from_units(cost)), Meter::default()).await.map(|_| ())
    }

    async fn void(&mut self, number: u8) -> Result<(), Stopped> {
        self.count();
        self.payments.void(RequestId::from_bytes([number; 32])).await.map(|_| ())
    }

    async fn order(&mut self, order: PolicyOrder) -> PolicyReply {
        self.payments.policy(order).await.expect("runs").expect("a policy").expect("carried out")
    }

    /// Spent and held of the customer's budget.
    async fn customer(&mut self) -> (u128, u128) {
        let PolicyReply::Policy(view) = self.order(PolicyOrder::Show).await else { panic!("a view") };
        let row = |row: &CounterView| (row.spent.units(), row.held.units());
        view.counters.iter().find(|row| row.rule == "customer").map(row).unwrap_or_default()
    }

    /// What was charged, by the durable charges.
    fn charged(&self) -> u128 {
        let mut charges: Vec<Charge> = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            charges.extend(ChargesRecord::decode(key, value).expect("a record").charges);
            ControlFlow::Continue(())
        };
        self.house.reader.scan(store_table(Table::Charges), &KeyRange::all(), visit).expect("scans");
        charges.iter().map(|charge| charge.amount.units()).sum()
    }

    /// Requests until the budget refuses; every third is void, every fourth marked before it is captured.
    async fn live(&mut self) -> Result<(), Stopped> {
        for number in 1..40 {
            match self.reserve(number, CEILING).await? {
                Guarded::Refused(decision) => {
                    assert_eq!(decision.refusal().map(|reason| reason.kind), Some(ReasonKind::Budget));
                    return Ok(());
                }
                Guarded::Answered(EscrowAnswer::Reserved { .. }) => {}
                // It was charged in an earlier life.
                Guarded::Answered(EscrowAnswer::Charged { .. }) => continue,
                Guarded::Answered(other) => panic!("{other:?}"),
            }
            if number % 4 == 0 {
                self.mark(number, COST / 2).await?;
            }
            if number % 3 == 0 { self.void(number).await? } else { self.capture(number, COST).await? }
        }
        panic!("the budget has an end")
    }

    async fn check(&mut self) {
        let (spent, held) = self.customer().await;
        assert_eq!((spent, held), (self.charged(), 0));
        assert!(spent <= MAX, "{spent}");
        let reservations = self.payments.read(|engine| engine.escrow_summary().reservations).await.expect("runs");
        assert_eq!(reservations, 0);
    }
}

#[tokio::test]
async fn a_budget_has_spent_what_was_charged_whatever_crashes() {
    let mut crashes = 0;
    for fault in [Fault::FailedWrite, Fault::FailedSyncKept, Fault::TornBatch(40), Fault::CrashBeforeAck] {
        for commits in 0.. {
            let disk = CrashDisk::new();
            let mut life = Life::start(&disk, Some((commits, fault)));
            let lived = async {
                life.open().await?;
                life.live().await
            };
            if lived.await.is_ok() {
                life.check().await;
                life.house.stop().await.expect("stops");
                break;
            }
            assert!(life.house.stop().await.is_err(), "{fault:?} after {commits}");
            crashes += 1;
            disk.crash();
            let mut life = Life::start(&disk, None);
            life.check().await;
            life.open().await.expect("goes on");
            life.live().await.expect("goes on");
            life.check().await;
            life.house.stop().await.expect("stops");
        }
    }
    assert!(crashes > 40, "{crashes} crashes");
}

#[tokio::test]
async fn requests_at_once_hold_no_more_than_the_budget_and_a_restart_frees_them() {
    let disk = CrashDisk::new();
    let mut life = Life::start(&disk, None);
    life.open().await.expect("opens");
    let mut held = 0;
    for number in 1..=6 {
        match life.reserve(number, CEILING).await.expect("runs") {
            Guarded::Answered(EscrowAnswer::Reserved { .. }) => held += 1,
            Guarded::Refused(decision) => assert_eq!(decision.refusal().map(|reason| reason.kind), Some(ReasonKind::Budget)),
            Guarded::Answered(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((held, life.customer().await), (4, (0, 400)));
    // The same again is under way, and asks for nothing.
    assert!(matches!(life.reserve(1, CEILING).await.expect("runs"), Guarded::Answered(EscrowAnswer::UnderWay { .. })));
    // More than is left is not held; less is.
    let request = RequestId::from_bytes([1; 32]);
    let extended = |ceiling: u128| life.payments.extend_guarded(request, Amount::from_units(ceiling));
    assert!(matches!(extended(151).await.expect("runs"), Guarded::Refused(_)));
    assert!(matches!(extended(100).await.expect("runs"), Guarded::Answered(EscrowAnswer::Reserved { .. })));
    life.mark(2, 33).await.expect("runs");
    life.house.stop().await.expect("stops");
    let mut life = Life::start(&disk, None);
    assert_eq!(life.customer().await, (33, 0), "what was marked was charged");
    life.check().await;
    life.house.stop().await.expect("stops");
}

#[tokio::test]
async fn an_approval_holds_the_budget_and_the_same_request_goes_on() {
    let disk = CrashDisk::new();
    let mut life = Life::start(&disk, None);
    life.open().await.expect("opens");
    let Guarded::Refused(decision) = life.reserve(1, 200).await.expect("runs") else { panic!("it waits") };
    let Verdict::Wait { approval, .. } = decision.verdict else { panic!("{decision:?}") };
    assert_eq!(life.customer().await, (0, 200));
    life.house.stop().await.expect("stops");
    let mut life = Life::start(&disk, None);
    assert_eq!(life.customer().await, (0, 200), "a restart keeps what waits");
    life.order(PolicyOrder::Approve { number: approval }).await;
    assert!(matches!(life.reserve(1, 200).await.expect("runs"), Guarded::Answered(EscrowAnswer::Reserved { .. })));
    life.capture(1, 150).await.expect("runs");
    assert_eq!(life.customer().await, (150, 0));
    life.order(PolicyOrder::Pause { scope: "all".to_owned(), why: "stop".to_owned() }).await;
    assert!(matches!(life.reserve(2, 10).await.expect("runs"), Guarded::Refused(_)));
    life.check().await;
    life.house.stop().await.expect("stops");
}
