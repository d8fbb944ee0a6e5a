//! What a receiver does with channels of x402's `batch-settlement` contract, on a real anvil.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_chain::x402::{
    BatchOperator, BatchSettlement, CLAIM_ROWS_MAX, ClaimRow, DepositAuthorization, ERC3009_DEPOSIT_COLLECTOR, EscrowPoll, EscrowReader,
    ExactTransfer, place_development_x402,
};
use millstream_chain::{ChainError, ErrorKind, IndexerOptions, IntentId, Rpc, RpcOptions, Submitter, ask_contract, token_balance};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, EscrowVoucher, EvmSecretKey, EvmSignature, TokenDomain, TransferAuthorization, TransferKind, deposit_nonce,
};
use serde_json::{Value, json};

use common::proxy::{Reply, proxy};
use common::{BYSTANDER, OPERATOR, PAYER, World, submitter, world};

const DELAY_SECS: u64 = 900;
const FAR: u64 = 4_000_000_000;

struct Escrow {
    world: World,
    contract: BatchSettlement,
    operator: BatchOperator,
    token: TokenDomain,
}

fn secret(account: usize) -> EvmSecretKey {
    EvmSecretKey::from_bytes(&DEV_ACCOUNTS[account].secret).expect("a key")
}

fn intent(number: u8) -> IntentId {
    IntentId::from_bytes([number; 32])
}

const fn units(units: u128) -> Amount {
    Amount::from_units(units)
}

const fn total(units: u128) -> CumulativeAmount {
    CumulativeAmount::from_units(units)
}

async fn escrow() -> Escrow {
    let world = world().await;
    let missing = BatchSettlement::attach(world.rpc.clone()).await.expect_err("nothing is there");
    assert!(matches!(missing, ChainError::NoContract { .. }), "{missing}");
    assert_eq!(place_development_x402(&world.rpc).await, Ok(true));
    let contract = BatchSettlement::attach(world.rpc.clone()).await.expect("placed");
    let operator = BatchOperator::new(contract.clone(), submitter(&world.rpc, OPERATOR));
    let token = TokenDomain::new("USD Coin", "2", world.rpc.chain(), world.deployment.token);
    Escrow { world, contract, operator, token }
}

impl Escrow {
    /// The terms of the payer's channel with a number. Its vouchers are signed by the payer's key itself.
    fn terms(&self, number: u8) -> ChannelConfig {
        ChannelConfig {
            payer: DEV_ACCOUNTS[PAYER].address,
            payer_authorizer: DEV_ACCOUNTS[PAYER].address,
            receiver: DEV_ACCOUNTS[BYSTANDER].address,
            receiver_authorizer: self.operator.account(),
            token: self.token.token(),
            withdraw_delay_secs: DELAY_SECS,
            salt: Hash256::from_bytes([number; 32]),
        }
    }

    fn id(&self, terms: &ChannelConfig) -> EscrowChannelId {
        terms.channel_id(self.contract.domain()).expect("40 bits")
    }

    fn authorization(&self, terms: &ChannelConfig, amount: Amount, salt: u64) -> DepositAuthorization {
        let (valid_after, valid_before, salt) = (Uint256::ZERO, Uint256::from(FAR), Uint256::from(salt));
        let transfer = TransferAuthorization {
            kind: TransferKind::Receive,
            from: terms.payer,
            to: ERC3009_DEPOSIT_COLLECTOR,
            value: amount,
            valid_after,
            valid_before,
            nonce: deposit_nonce(&self.id(terms), salt),
        };
        let signed = secret(PAYER).sign(transfer, &self.token).expect("in range");
        DepositAuthorization::Erc3009 { valid_after, valid_before, salt, signature: signed.signature().clone() }
    }

    async fn deposit(&self, number: u8, amount: u128) -> ChannelConfig {
        let terms = self.terms(number);
        let authorization = self.authorization(&terms, units(amount), 1);
        self.operator.deposit(intent(number), &terms, units(amount), &authorization).await.expect("deposited");
        terms
    }

    fn row(&self, terms: &ChannelConfig, ceiling: u128, charged: u128) -> ClaimRow {
        let channel = self.id(terms);
        let voucher = EscrowVoucher { channel, cumulative: total(ceiling) };
        let signed = secret(PAYER).sign(voucher, self.contract.domain()).expect("128 bits");
        let signature = signed.signature().clone();
        ClaimRow { channel, config: *terms, ceiling: total(ceiling), signature, total: total(charged) }
    }

    async fn balance(&self, account: Address) -> u128 {
        token_balance(&self.world.rpc, self.token.token(), account).await.expect("a balance")
    }

    fn payer(&self) -> BatchOperator {
        BatchOperator::new(self.contract.clone(), submitter(&self.world.rpc, PAYER))
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ChainError>, name: &str) {
    let error = result.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Rejection, "{error}");
    assert_eq!(error.revert().and_then(|revert| revert.name()), Some(name), "{error}");
}

#[tokio::test]
async fn what_was_charged_is_claimed_swept_and_the_rest_refunded() {
    let escrow = escrow().await;
    let (receiver, token) = (DEV_ACCOUNTS[BYSTANDER].address, escrow.token.token());
    let before = [escrow.balance(DEV_ACCOUNTS[PAYER].address).await, escrow.balance(receiver).await];
    let terms = escrow.deposit(1, 10_000).await;
    let id = escrow.id(&terms);
    let state = escrow.contract.newest_state(id).await.expect("read");
    assert_eq!((state.balance, state.claimed, state.withdrawal), (units(10_000), total(0), None));
    assert_eq!(escrow.operator.sweep(intent(90), receiver, token).await.expect("nothing is due").map(|sweep| sweep.amount), None);

    // The ceiling allows 5,000; 4,200 were charged.
    let claimed = escrow.operator.claim(intent(2), &[escrow.row(&terms, 5_000, 4_200)]).await.expect("claimed");
    assert_eq!(claimed.totals, [(id, total(4_200))]);
    assert_eq!(escrow.contract.receiver(receiver, token).await.expect("read").due(), units(4_200));
    assert_eq!(escrow.balance(receiver).await, before[1], "a claim moves nothing");
    // Again, it changes nothing and is no error.
    let again = escrow.operator.claim(intent(3), &[escrow.row(&terms, 5_000, 4_200)]).await.expect("nothing new");
    assert_eq!(again.totals, []);

    let sweep = escrow.operator.sweep(intent(4), receiver, token).await.expect("swept").expect("something was due");
    assert_eq!((sweep.amount, escrow.balance(receiver).await), (units(4_200), before[1] + 4_200));

    // The last charge and a refund of what is left, in one transaction.
    let row = escrow.row(&terms, 5_000, 5_000);
    let (_, refunded) = escrow.operator.refund(intent(5), &terms, units(10_000), Some(&row)).await.expect("refunded");
    assert_eq!(refunded, units(5_000));
    let sweep = escrow.operator.sweep(intent(6), receiver, token).await.expect("swept").expect("something was due");
    assert_eq!(sweep.amount, units(800));
    let after = [escrow.balance(DEV_ACCOUNTS[PAYER].address).await, escrow.balance(receiver).await];
    assert_eq!(after, [before[0] - 5_000, before[1] + 5_000]);
}

#[tokio::test]
async fn a_bad_row_does_not_delay_the_others() {
    let escrow = escrow().await;
    let mut rows = Vec::new();
    for number in 1..=9 {
        let terms = escrow.deposit(number, 1_000).await;
        rows.push(escrow.row(&terms, 500, 400));
    }
    let good = escrow.operator.sort_out(&rows).await.expect("simulated");
    assert_eq!((good.good.len(), good.bad.len()), (9, 0));
    // A signature of somebody else, a total above the ceiling, and a ceiling above the balance.
    rows[2].signature = EvmSignature::new([27; 65]).expect("short");
    rows[5].total = total(501);
    rows[8] = escrow.row(&rows[8].config, 5_000, 5_000);
    refused(escrow.operator.claim(intent(20), &rows).await, "InvalidSignature");
    let sorted = escrow.operator.sort_out(&rows).await.expect("simulated");
    assert_eq!(sorted.good, [0, 1, 3, 4, 6, 7]);
    let bad: Vec<_> = sorted.bad.iter().map(|bad| (bad.row, bad.revert.name())).collect();
    assert_eq!(bad, [(2, Some("InvalidSignature")), (5, Some("ClaimExceedsCeiling")), (8, Some("ClaimExceedsBalance"))]);
    let rows: Vec<ClaimRow> = sorted.good.iter().map(|place| rows[*place].clone()).collect();
    let claimed = escrow.operator.claim(intent(21), &rows).await.expect("claimed");
    assert_eq!(claimed.totals.len(), 6);
    assert!(rows.len() <= CLAIM_ROWS_MAX);
    // A channel that names another authorizer is not this account's to claim from.
    let foreign = ChannelConfig { receiver_authorizer: DEV_ACCOUNTS[3].address, ..escrow.terms(9) };
    let sorted = escrow.operator.sort_out(&[escrow.row(&foreign, 1, 1)]).await.expect("simulated");
    assert_eq!(sorted.bad[0].revert.name(), Some("NotAuthorizedToClaim"));
}

#[tokio::test]
async fn a_claim_in_time_is_safe_from_a_withdrawal() {
    let escrow = escrow().await;
    let terms = escrow.deposit(1, 1_000).await;
    let id = escrow.id(&terms);
    let payer = escrow.payer();
    payer.begin_withdrawal(&terms, units(1_000)).await.expect("asked");
    let state = escrow.contract.newest_state(id).await.expect("read");
    assert_eq!(state.withdrawal.map(|withdrawal| withdrawal.amount), Some(units(1_000)));
    refused(payer.finish_withdrawal(&terms).await, "WithdrawDelayNotElapsed");
    escrow.operator.claim(intent(2), &[escrow.row(&terms, 700, 600)]).await.expect("in time");
    escrow.world.pass(DELAY_SECS + 1);
    let before = escrow.balance(terms.payer).await;
    payer.finish_withdrawal(&terms).await.expect("the rest");
    assert_eq!(escrow.balance(terms.payer).await, before + 400);
    let state = escrow.contract.newest_state(id).await.expect("read");
    assert_eq!((state.balance, state.claimed, state.claimable(), state.withdrawal), (units(600), total(600), units(0), None));
    // What was not claimed by then is gone, and spoils a batch.
    let sorted = escrow.operator.sort_out(&[escrow.row(&terms, 700, 700)]).await.expect("simulated");
    assert_eq!(sorted.bad[0].revert.name(), Some("ClaimExceedsBalance"));
}

#[tokio::test]
async fn channels_are_followed_at_a_depth_and_through_a_reorganisation() {
    let escrow = escrow().await;
    let reader = EscrowReader::new(escrow.contract.clone(), IndexerOptions { confirmations: 3, ..IndexerOptions::default() });
    escrow.world.anvil.mine(3).expect("mined");
    let start = reader.start().await.expect("read");
    let terms = [escrow.terms(1), escrow.terms(2)];
    let followed: BTreeSet<EscrowChannelId> = terms.iter().map(|terms| escrow.id(terms)).collect();
    escrow.deposit(1, 1_000).await;
    // One that nobody follows.
    escrow.deposit(3, 1_000).await;
    let not_deep = reader.look(&followed).await.expect("read");
    assert!(not_deep.states.iter().all(|state| state.balance.is_zero()), "not deep enough to count");
    escrow.world.anvil.mine(2).expect("mined");

    let mut cursor = start.clone();
    let mut seen = Vec::new();
    while let EscrowPoll::Batch(batch) = reader.poll(&cursor, &followed).await.expect("read") {
        seen.extend(batch.seen.states.iter().map(|state| (state.channel, state.balance)));
        cursor = batch.cursor;
    }
    assert_eq!(seen, [(escrow.id(&terms[0]), units(1_000))]);
    let looked = reader.look(&followed).await.expect("read");
    let balances: BTreeSet<u128> = looked.states.iter().map(|state| state.balance.units()).collect();
    assert_eq!((looked.states.len(), balances), (2, BTreeSet::from([0, 1_000])));

    // Both deposits are undone.
    escrow.world.anvil.reorg(5).expect("reorganised");
    escrow.world.anvil.mine(6).expect("mined");
    let EscrowPoll::Reorg(reorg) = reader.poll(&cursor, &followed).await.expect("read") else { panic!("the chain has forked") };
    let resume = reorg.resume.expect("the first checkpoint is older than the fork");
    assert!(resume.last().number <= start.last().number);
    let looked = reader.look(&followed).await.expect("read");
    assert!(looked.states.iter().all(|state| state.balance.is_zero()), "{looked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_channels_are_followed_by_one_question_a_range() {
    let escrow = escrow().await;
    escrow.world.anvil.mine(3).expect("mined");
    let start = EscrowReader::new(escrow.contract.clone(), IndexerOptions::default()).start().await.expect("read");
    let touched = [escrow.terms(1), escrow.terms(2)].map(|terms| escrow.id(&terms));
    // And one that nobody follows.
    for number in 1..=3 {
        escrow.deposit(number, 1_000).await;
    }
    let Escrow { world: World { anvil, .. }, .. } = escrow;
    let (anvil, questions) = (Arc::new(anvil), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&questions);
    let count = move |method: &str, params: &Value| {
        if method == "eth_getLogs" {
            counted.fetch_add(1, Ordering::SeqCst);
            let named = params[0]["topics"][1].as_array().map_or(0, Vec::len);
            assert!(named <= 256, "a filter that names {named} channels");
        }
        Reply::Pass
    };
    let rpc = Rpc::connect(&proxy(anvil, count).await, RpcOptions::default()).await.expect("the proxy answers");
    let contract = BatchSettlement::attach(rpc).await.expect("placed");
    for others in [254, 255, 1_500, 5_000] {
        let mut followed: BTreeSet<EscrowChannelId> = touched.into_iter().collect();
        followed.extend((0..others).map(|number: u32| {
            let mut id = [0xee; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            EscrowChannelId::from_bytes(id)
        }));
        let reader = EscrowReader::new(contract.clone(), IndexerOptions::default());
        questions.store(0, Ordering::SeqCst);
        let (mut cursor, mut ranges, mut seen) = (start.clone(), 0, Vec::new());
        while let EscrowPoll::Batch(batch) = reader.poll(&cursor, &followed).await.expect("read") {
            seen.extend(batch.seen.states.iter().map(|state| (state.channel, state.balance)));
            (cursor, ranges) = (batch.cursor, ranges + 1);
        }
        let mut expected = touched.map(|channel| (channel, units(1_000)));
        expected.sort();
        assert_eq!((seen.as_slice(), questions.load(Ordering::SeqCst)), (&expected[..], ranges), "{others}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payer_finds_its_channels_in_the_logs() {
    let escrow = escrow().await;
    let from = escrow.contract.rpc().head_height().await.expect("read");
    let mut expected = Vec::new();
    for number in [1, 2] {
        let terms = escrow.deposit(number, 1_000).await;
        expected.push((escrow.id(&terms), terms));
        escrow.world.anvil.mine(40).expect("mined");
    }
    expected.sort_by_key(|(channel, _)| *channel);
    // After a second deposit each is found once.
    let authorization = escrow.authorization(&expected[0].1, units(500), 2);
    escrow.operator.deposit(intent(9), &expected[0].1, units(500), &authorization).await.expect("deposited");
    let (payer, other) = (DEV_ACCOUNTS[PAYER].address, DEV_ACCOUNTS[BYSTANDER].address);
    assert_eq!(escrow.contract.channels_of(payer, from).await.expect("read"), expected);
    assert_eq!(escrow.contract.channels_of(other, from).await, Ok(Vec::new()));
    let newest = escrow.contract.rpc().head_height().await.expect("read");
    assert_eq!(escrow.contract.channels_of(payer, newest).await, Ok(Vec::new()));
    // Through an endpoint that answers for a few blocks at a time.
    let Escrow { world: World { anvil, .. }, .. } = escrow;
    let narrow = |method: &str, params: &Value| {
        let height = |name: &str| common::number(&params[0][name]);
        let is_wide = method == "eth_getLogs" && height("toBlock") - height("fromBlock") >= 16;
        if is_wide { Reply::Error(-32_005, "too many blocks at once") } else { Reply::Pass }
    };
    let rpc = Rpc::connect(&proxy(Arc::new(anvil), narrow).await, RpcOptions::default()).await.expect("the proxy answers");
    let contract = BatchSettlement::attach(rpc).await.expect("placed");
    assert_eq!(contract.channels_of(payer, from).await.expect("read"), expected);
}

#[tokio::test]
async fn single_payments_are_submitted_once() {
    let escrow = escrow().await;
    let sender: Submitter = submitter(&escrow.world.rpc, OPERATOR);
    let (from, to) = (DEV_ACCOUNTS[PAYER].address, DEV_ACCOUNTS[BYSTANDER].address);
    let (valid_after, valid_before, nonce) = (Uint256::ZERO, Uint256::from(FAR), Hash256::from_bytes([9; 32]));
    let transfer = TransferAuthorization { kind: TransferKind::Transfer, from, to, value: units(77), valid_after, valid_before, nonce };
    let signature = secret(PAYER).sign(transfer, &escrow.token).expect("in range").signature().clone();
    let payment = ExactTransfer { token: escrow.token.token(), from, to, amount: units(77), valid_after, valid_before, nonce, signature };
    let before = escrow.balance(to).await;
    payment.simulate(&sender).await.expect("it would be taken");
    assert_eq!(payment.is_used(&escrow.world.rpc).await, Ok(false));
    payment.submit(&sender, intent(1)).await.expect("paid");
    assert_eq!((payment.is_used(&escrow.world.rpc).await, escrow.balance(to).await), (Ok(true), before + 77));
    let twice = payment.submit(&sender, intent(2)).await.expect_err("once");
    assert_eq!(twice.kind(), ErrorKind::Rejection, "{twice}");
    let altered = ExactTransfer { amount: units(78), nonce: Hash256::from_bytes([8; 32]), ..payment };
    assert_eq!(altered.simulate(&sender).await.expect_err("another amount was signed").kind(), ErrorKind::Rejection);
    assert_eq!(escrow.balance(to).await, before + 77);
}

#[tokio::test]
async fn a_contract_is_asked_whether_it_signed() {
    let escrow = escrow().await;
    let rpc = &escrow.world.rpc;
    let (digest, signature) = (Hash256::from_bytes([1; 32]), EvmSignature::new([2; 65]).expect("short"));
    let wallet = DEV_ACCOUNTS[5].address;
    let answer = async || ask_contract(rpc, wallet, digest, &signature).await.expect("answered").returned;
    assert_eq!((rpc.is_contract(wallet).await, answer().await), (Ok(false), None));
    let set = |code: &str| escrow.world.call("anvil_setCode", json!([wallet.to_string(), code]));
    // PUSH4 0x1626ba7e, PUSH1 224, SHL, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN: yes to everything.
    set("0x631626ba7e60e01b5f5260205ff3");
    assert_eq!((rpc.is_contract(wallet).await, answer().await), (Ok(true), Some([0x16, 0x26, 0xba, 0x7e])));
    // PUSH0, PUSH0, REVERT.
    set("0x5f5ffd");
    assert_eq!(answer().await, None);
    // Four bytes where a word belongs.
    set("0x631626ba7e60e01b5f5260045ff3");
    assert_eq!(answer().await, None);
}
