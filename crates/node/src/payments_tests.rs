//! Payments of HTTP 402 on a disk that crashes at each of its commits: nothing acknowledged is lost, nothing is charged twice.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use millstream_billing::{AccountOf, Statement};
use millstream_engine::escrow::{
    AuthorizationId, Charge, ChargesRecord, ClaimRow, ClaimRule, Escrow, EscrowAnswer, EscrowFact, EscrowId, EscrowInput, EscrowTerms,
    Fingerprint, Meter, OptimisticLimit, RequestId, Reserve, ReserveOnce, StepRule, Subject,
};
use millstream_engine::{Input, Table};
use millstream_store::{CrashDisk, Fault, KeyRange};
use millstream_tariff::Cost;
use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey};
use tokio::sync::mpsc;

use crate::bill_tests::{House, config};
use crate::books::Books;
use crate::books_tests::{assert_every_alteration_is_found, books, checked_statement, paid, tallied};
use crate::core::{Core, Stopped, now, store_table};
use crate::metrics::Metrics;
use crate::payments::Payments;

const EXACT: u32 = 1;
const MONOTONE: u32 = 2;

fn domain(escrow: u32) -> EscrowDomain {
    let scheme = if escrow == EXACT { EscrowScheme::X402Batch } else { EscrowScheme::EvmSession };
    EscrowDomain::new(scheme, ChainId::new(31_337), Address::from_bytes([9; 20]))
}

fn channel(escrow: u32) -> EscrowChannelId {
    EscrowChannelId::from_bytes([u8::try_from(escrow).expect("small"); 32])
}

fn request(number: u8) -> RequestId {
    RequestId::from_bytes([number; 32])
}

fn key() -> EvmSecretKey {
    EvmSecretKey::from_bytes(&[0x22; 32]).expect("a key")
}

fn served(number: u32) -> Escrow {
    let (step, claim) = match number {
        EXACT => (StepRule::Exact, ClaimRule::UpTo),
        _ => (StepRule::Monotone { min_delta: Amount::from_units(1) }, ClaimRule::Whole),
    };
    let (separator, token) = (*domain(number).separator(), Address::from_bytes([8; 20]));
    Escrow { id: EscrowId(number), separator, token, step, claim, optimistic: OptimisticLimit::default() }
}

/// What payers were told, over all lives of the node.
#[derive(Default)]
struct Told {
    /// Charged, by request.
    charged: BTreeMap<u8, u128>,
    /// Marked as delivered, by request.
    marked: BTreeMap<u8, u128>,
}

/// One life of the node, and what crashes it.
struct Life<'a> {
    house: House,
    payments: Payments,
    told: &'a mut Told,
    fault: Option<(usize, Fault)>,
}

impl<'a> Life<'a> {
    fn start(disk: &CrashDisk, told: &'a mut Told, fault: Option<(usize, Fault)>) -> Self {
        let house = House::start_with(config(), disk);
        let payments = Payments::new(house.core.clone(), Arc::clone(&house.reader));
        Self { house, payments, told, fault }
    }

    fn count(&mut self) {
        if let Some((commits, fault)) = &mut self.fault {
            if *commits == 0 {
                self.house.disk.inject(*fault);
            }
            *commits = commits.wrapping_sub(1);
        }
    }

    async fn input(&mut self, input: EscrowInput) -> Result<EscrowAnswer, Stopped> {
        self.count();
        self.payments.apply(input).await
    }

    async fn fact(&mut self, fact: EscrowFact) -> Result<(), Stopped> {
        self.count();
        self.house.core.inputs(vec![Input::EscrowFact(fact)]).await
    }

    async fn charged(&self, escrow: u32) -> u128 {
        let read = self
            .payments
            .read(move |engine| engine.escrow_channel(&channel(escrow)).map(|channel| channel.totals().charged.units()));
        read.await.ok().flatten().unwrap_or(0)
    }

    /// One request, as a payer makes it that does not know what became of it: the same id, whatever was answered before.
    async fn pay(&mut self, escrow: u32, number: u8, mark: u128, amount: u128) -> Result<(), Stopped> {
        let cumulative = CumulativeAmount::from_units(self.charged(escrow).await + 100);
        let voucher = key().sign(EscrowVoucher { channel: channel(escrow), cumulative }, &domain(escrow)).expect("signs");
        let reserve = Reserve {
            channel: channel(escrow),
            request: request(number),
            fingerprint: Fingerprint::from_bytes([number; 16]),
            ceiling: Amount::from_units(100),
            at_least: Amount::from_units(100),
            voucher: Some(voucher),
            stored: None,
        };
        let answer = self.input(EscrowInput::Reserve(reserve)).await?;
        self.deliver(answer, number, mark, amount).await
    }

    async fn pay_once(&mut self, number: u8) -> Result<(), Stopped> {
        let reserve = ReserveOnce {
            authorization: AuthorizationId::from_bytes([number; 32]),
            escrow: EscrowId(EXACT),
            payer: Address::from_bytes([2; 20]),
            receiver: Address::from_bytes([3; 20]),
            amount: Amount::from_units(100),
            valid_until: Timestamp::from_millis(now().as_millis() + 60_000),
            transfer: Bytes::from_static(b"signed"),
            request: request(number),
            fingerprint: Fingerprint::from_bytes([number; 16]),
            stored: None,
        };
        let answer = self.input(EscrowInput::ReserveOnce(reserve)).await?;
        self.deliver(answer, number, 0, 100).await
    }

    async fn deliver(&mut self, answer: EscrowAnswer, number: u8, mark: u128, amount: u128) -> Result<(), Stopped> {
        let known = (self.told.charged.get(&number).copied(), self.told.marked.get(&number).copied().unwrap_or(0));
        match answer {
            EscrowAnswer::Charged { outcome, is_repeated: true, .. } => {
                let charged = outcome.amount.units();
                assert!(known.0.is_none_or(|told| told == charged) && known.1 <= charged, "{number}: {charged} after {known:?}");
                self.told.charged.insert(number, charged);
                return Ok(());
            }
            EscrowAnswer::Reserved { .. } => assert_eq!(known, (None, 0), "{number}: what was promised is known"),
            other => panic!("{number}: {other:?}"),
        }
        if mark > 0 {
            let (delivered, meter) =
                (Cost::whole(Amount::from_units(mark)), Meter { price_version: 1, units: Bytes::from_static(b"half") });
            let answer = self.input(EscrowInput::Mark { request: request(number), delivered, meter }).await?;
            assert_eq!(answer, EscrowAnswer::Marked { delivered });
            self.told.marked.insert(number, mark);
        }
        let (units, meter) = (Amount::from_units(amount), Meter { price_version: 1, units: Bytes::from_static(b"all") });
        let input = EscrowInput::Capture { request: request(number), cost: Cost::whole(units), meter, stored: None };
        match self.input(input).await? {
            EscrowAnswer::Charged { outcome, is_repeated: false, .. } => assert_eq!(outcome.amount, units),
            other => panic!("{number}: {other:?}"),
        }
        self.told.charged.insert(number, amount);
        Ok(())
    }

    /// Everything that a life has, from where the state is.
    async fn live(&mut self) -> Result<(), Stopped> {
        for escrow in [EXACT, MONOTONE] {
            assert_eq!(self.input(EscrowInput::Serve(served(escrow))).await?, EscrowAnswer::Done);
            let terms = EscrowTerms {
                channel: channel(escrow),
                escrow: EscrowId(escrow),
                payer: Address::from_bytes([2; 20]),
                signer: key().account(),
                receiver: Address::from_bytes([3; 20]),
                config: Bytes::from_static(b"config"),
            };
            self.fact(EscrowFact::Opened(terms)).await?;
            self.fact(EscrowFact::Deposited { channel: channel(escrow), deposit: Amount::from_units(10_000) }).await?;
        }
        for round in 0..3 {
            self.pay(EXACT, 10 + round, 0, 70).await?;
            self.pay(MONOTONE, 20 + round, 30, 60 + u128::from(round)).await?;
        }
        self.pay_once(30).await?;
        self.claim().await
    }

    /// Claims once, unless a claim is under way: then the chain is seen to have confirmed it.
    async fn claim(&mut self) -> Result<(), Stopped> {
        let read = |engine: &millstream_engine::Engine| {
            let claims = engine.escrow_claims().flat_map(|claim| claim.rows.clone()).collect::<Vec<_>>();
            let rows = engine.claimable(EscrowId(EXACT), None).map(|row| ClaimRow { channel: row.terms.channel, total: row.total });
            (claims, rows.collect::<Vec<_>>())
        };
        let (mut under_way, rows) = self.payments.read(read).await?;
        if under_way.is_empty() && !rows.is_empty() {
            let transaction = Bytes::from_static(b"tx");
            let input = EscrowInput::ClaimSubmitted { escrow: EscrowId(EXACT), rows: rows.clone(), transaction };
            assert!(matches!(self.input(input).await?, EscrowAnswer::Claim(_)));
            under_way = rows;
        }
        for row in under_way {
            self.fact(EscrowFact::Claimed { channel: row.channel, total: row.total }).await?;
        }
        Ok(())
    }

    /// Both escrows and the single payment are on the payer's statement, to the base unit, and in the tallies.
    async fn check_books(&self, charges: &[Charge]) {
        let statement = self.statement().await;
        let total: u128 = charges.iter().map(|charge| charge.amount.units()).sum();
        assert_eq!((paid(&statement.accounts), statement.accounts.len()), (total, 3));
        for account in &statement.accounts {
            let expected = match account.of {
                AccountOf::Escrow(id) => {
                    let number = if id == channel(EXACT) { EXACT } else { MONOTONE };
                    self.charged(number).await
                }
                AccountOf::Ledger(_) | AccountOf::Payments(_) => 100,
            };
            assert_eq!((account.opening.units(), account.closing.units()), (0, expected));
        }
        let sums = tallied(&self.house);
        for span in ["hours", "days"] {
            for whose in ["all", "payers", "routes"] {
                let count = sums[&(span, whose)];
                assert_eq!((count.charges, count.amount), (charges.len() as u64, total), "{whose} by {span}");
            }
            assert_eq!(sums[&(span, "all")].voids, sums[&(span, "payers")].voids);
        }
    }

    async fn statement(&self) -> Statement {
        let name = |books: &Books| [EXACT, MONOTONE].iter().for_each(|number| books.domains().insert(EscrowId(*number), domain(*number)));
        checked_statement(&self.house, &[domain(EXACT), domain(MONOTONE)], name, Address::from_bytes([2; 20])).await
    }

    /// What the disk says is what payers were told, once.
    async fn check(&self) {
        let mut charges: Vec<Charge> = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            charges.extend(ChargesRecord::decode(key, value).expect("a record").charges);
            ControlFlow::Continue(())
        };
        self.house.reader.scan(store_table(Table::Charges), &KeyRange::all(), visit).expect("scans");
        let mut by_request = BTreeMap::new();
        for (sequence, charge) in (0..).zip(&charges) {
            assert_eq!(charge.sequence, sequence);
            assert_eq!(by_request.insert(charge.request.as_bytes()[0], charge.amount.units()), None, "charged twice");
        }
        assert_eq!(by_request, self.told.charged);
        for escrow in [EXACT, MONOTONE] {
            let own = charges.iter().filter(|charge| charge.subject == Subject::Channel(channel(escrow)));
            assert_eq!(own.map(|charge| charge.amount.units()).sum::<u128>(), self.charged(escrow).await);
        }
        self.check_books(&charges).await;
        let (reserved, claims, settled) = self
            .payments
            .read(|engine| {
                let totals = engine.escrow_channel(&channel(EXACT)).map(|channel| channel.totals());
                (
                    engine.escrow_summary().reservations,
                    engine.escrow_summary().claims,
                    totals.map(|totals| totals.settled == totals.charged),
                )
            })
            .await
            .expect("runs");
        assert_eq!((reserved, claims, settled), (0, 0, Some(true)));
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_charged_once_whatever_crashes() {
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    let mut life = Life::start(&disk, &mut told, None);
    life.live().await.expect("lives");
    life.check().await;
    let statement = life.statement().await;
    assert_every_alteration_is_found(&books(&life.house), &[domain(EXACT), domain(MONOTONE)], &statement);
    life.house.stop().await.expect("stops");
    assert_eq!(told.charged.values().sum::<u128>(), 3 * 70 + 60 + 61 + 62 + 100);

    let mut crashes = 0;
    for fault in [Fault::FailedWrite, Fault::FailedSyncKept, Fault::TornBatch(40), Fault::CrashBeforeAck] {
        for commits in 0.. {
            let (disk, mut told) = (CrashDisk::new(), Told::default());
            let mut life = Life::start(&disk, &mut told, Some((commits, fault)));
            if life.live().await.is_ok() {
                break;
            }
            assert!(life.house.stop().await.is_err(), "{fault:?} after {commits}");
            crashes += 1;
            disk.crash();
            let mut life = Life::start(&disk, &mut told, None);
            life.live().await.expect("goes on");
            life.check().await;
            life.house.stop().await.expect("stops");
        }
    }
    assert!(crashes > 90, "{crashes} crashes");
}

/// A request that costs at most 100, with a voucher for `total`.
fn reserve(number: u8, total: u128) -> Reserve {
    let statement = EscrowVoucher { channel: channel(EXACT), cumulative: CumulativeAmount::from_units(total) };
    Reserve {
        channel: channel(EXACT),
        request: request(number),
        fingerprint: Fingerprint::from_bytes([number; 16]),
        ceiling: Amount::from_units(100),
        at_least: Amount::from_units(100),
        voucher: Some(key().sign(statement, &domain(EXACT)).expect("signs")),
        stored: None,
    }
}

/// a hold is the one answer that leaves before its batch, and is lost with it; what is told on rests on a later batch, and does not leave.
#[tokio::test]
async fn a_hold_that_is_lost_has_promised_nothing() {
    for fault in [Fault::FailedWrite, Fault::TornBatch(40)] {
        let (disk, mut told) = (CrashDisk::new(), Told::default());
        let mut life = Life::start(&disk, &mut told, None);
        life.live().await.expect("lives");
        let before = life.charged(EXACT).await;
        disk.inject(fault);
        let answer = life.payments.reserve(reserve(40, before + 100)).await.expect("told before its batch");
        assert!(matches!(answer, EscrowAnswer::Reserved { .. }), "{answer:?}");
        // A stream marks that nothing was delivered before its first byte leaves: that waits, too, though it writes nothing.
        assert_eq!(life.payments.mark(request(40), Cost::ZERO, Meter::default()).await, Err(Stopped));
        assert_eq!(life.payments.capture(request(40), Cost::whole(Amount::from_units(50)), Meter::default()).await, Err(Stopped));
        assert!(life.house.stop().await.is_err(), "{fault:?}");
        disk.crash();

        let life = Life::start(&disk, &mut told, None);
        assert_eq!(life.charged(EXACT).await, before, "{fault:?}");
        let answer = life.payments.reserve(reserve(40, before + 100)).await.expect("runs");
        assert!(matches!(answer, EscrowAnswer::Reserved { .. }), "a request that nobody knows: {answer:?}");
        life.house.stop().await.expect("stops");
    }
}

async fn check_resume(fault: Fault) {
    let (disk, mut told) = (CrashDisk::new(), Told::default());
    let mut life = Life::start(&disk, &mut told, None);
    life.live().await.expect("lives");
    let before = life.charged(EXACT).await;
    let answer = life.payments.reserve(reserve(40, before + 100)).await.expect("runs");
    assert!(matches!(answer, EscrowAnswer::Reserved { .. }));
    life.payments.mark(request(40), Cost::whole(Amount::from_units(33)), Meter::default()).await.expect("runs");
    life.house.stop().await.expect("stops");

    // The next start resolves it, and crashes on the way.
    let store = disk.open().expect("opens");
    disk.inject(fault);
    let (sender, _errands) = mpsc::unbounded_channel();
    assert!(Core::start(config(), store, Arc::new(Metrics::new()), sender).is_err(), "{fault:?}");
    disk.crash();

    let life = Life::start(&disk, &mut told, None);
    assert_eq!(life.charged(EXACT).await, before + 33, "{fault:?}");
    let answer = life.payments.reserve(reserve(40, before + 100)).await.expect("runs");
    assert!(matches!(answer, EscrowAnswer::Charged { outcome, is_repeated: true, .. } if outcome.amount.units() == 33), "{answer:?}");
    let answer = life.payments.reserve(reserve(41, before + 133)).await.expect("runs");
    assert!(matches!(answer, EscrowAnswer::Reserved { .. }), "{answer:?}");
    life.house.stop().await.expect("stops");
}

#[tokio::test]
async fn what_a_crash_left_open_is_resolved_once_even_if_that_crashes() {
    for fault in [Fault::FailedWrite, Fault::FailedSyncKept, Fault::TornBatch(40), Fault::CrashBeforeAck] {
        check_resume(fault).await;
    }
}
