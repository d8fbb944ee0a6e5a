//! What both sides do with channels of the session escrow, on a real anvil.

mod common;

use std::collections::BTreeSet;

use millstream_chain::session_escrow::{
    BadVoucher, PayeeAuthorization, SETTLE_ROWS_MAX, SessionEscrow, SessionFunding, SessionOpening, SessionOperator, SessionPayer,
    SessionPhase, SessionPoll, SessionReader, SessionTopUp, VoucherRow, deploy_session_escrow,
};
use millstream_chain::{ChainError, ErrorKind, IndexerOptions, IntentId, PERMIT2, place_development_permit2, token_balance, token_domain};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    CloseAuthorization, EscrowVoucher, EvmSecretKey, EvmSignature, Permit2Domain, Permit2Transfer, SessionTerms, SettleAuthorization,
    TokenDomain, TokenPermissions, TransferAuthorization, TransferKind, TransferWitness, top_up_nonce,
};
use serde_json::json;

use common::{BYSTANDER, OPERATOR, PAYER, World, submitter, world};

const FAR: u64 = 4_000_000_000;
const GRACE_SECS: u64 = 900;

struct Escrow {
    world: World,
    contract: SessionEscrow,
    operator: SessionOperator,
    payer: SessionPayer,
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

const fn salt(byte: u8) -> Hash256 {
    Hash256::from_bytes([byte; 32])
}

async fn escrow() -> Escrow {
    let world = world().await;
    place_development_permit2(&world.rpc).await.expect("placed");
    let address = deploy_session_escrow(&submitter(&world.rpc, OPERATOR)).await.expect("deployed");
    let contract = SessionEscrow::attach(world.rpc.clone(), address).await.expect("attached");
    let operator = SessionOperator::new(contract.clone(), submitter(&world.rpc, OPERATOR));
    let payer = SessionPayer::new(contract.clone(), submitter(&world.rpc, PAYER));
    let token = token_domain(&world.rpc, world.deployment.token).await.expect("a domain");
    assert_eq!(token, TokenDomain::new("USD Coin", "2", world.rpc.chain(), world.deployment.token));
    Escrow { world, contract, operator, payer, token }
}

impl Escrow {
    /// The terms of the payer's channel with a number: the operator is the payee, the payer signs vouchers itself.
    fn terms(&self, number: u8) -> SessionTerms {
        SessionTerms {
            payer: DEV_ACCOUNTS[PAYER].address,
            payee: self.operator.account(),
            token: self.token.token(),
            salt: salt(number),
            authorized_signer: Address::ZERO,
        }
    }

    fn id(&self, terms: &SessionTerms) -> EscrowChannelId {
        terms.channel_id(self.contract.domain())
    }

    fn erc3009(&self, from: usize, amount: u128, nonce: Hash256) -> SessionFunding {
        let (valid_after, valid_before) = (Uint256::ZERO, Uint256::from(FAR));
        let transfer = TransferAuthorization {
            kind: TransferKind::Receive,
            from: DEV_ACCOUNTS[from].address,
            to: self.contract.address(),
            value: units(amount),
            valid_after,
            valid_before,
            nonce,
        };
        let signed = secret(from).sign(transfer, &self.token).expect("in range");
        SessionFunding::Erc3009 { valid_after, valid_before, signature: signed.signature().clone() }
    }

    fn permit2(&self, from: usize, amount: u128, nonce: u64, witness: TransferWitness) -> SessionFunding {
        let (nonce, deadline) = (Uint256::from(nonce), Uint256::from(FAR));
        let permitted = vec![TokenPermissions { token: self.token.token(), amount: units(amount) }];
        let transfer = Permit2Transfer { permitted, spender: self.contract.address(), nonce, deadline, witness };
        let domain = Permit2Domain::new(self.world.rpc.chain(), PERMIT2);
        let signature = secret(from).sign(transfer, &domain).expect("in range").signature().clone();
        SessionFunding::Permit2 { nonce, deadline, signature }
    }

    fn opening(&self, terms: SessionTerms, deposit: u128) -> SessionOpening {
        SessionOpening { terms, deposit: units(deposit), funding: self.erc3009(PAYER, deposit, terms.open_nonce()) }
    }

    async fn open(&self, number: u8, deposit: u128) -> SessionTerms {
        let terms = self.terms(number);
        self.operator.open(intent(number), &self.opening(terms, deposit)).await.expect("opened");
        terms
    }

    fn top_up(&self, terms: &SessionTerms, from: usize, additional: u128) -> SessionTopUp {
        let (channel, from_address) = (self.id(terms), DEV_ACCOUNTS[from].address);
        let nonce = top_up_nonce(&channel, units(additional), &from_address, &salt(0x70));
        let funding = self.erc3009(from, additional, nonce);
        SessionTopUp { channel, from: from_address, additional: units(additional), salt: salt(0x70), funding }
    }

    fn voucher(&self, terms: &SessionTerms, cumulative: u128) -> VoucherRow {
        let channel = self.id(terms);
        let voucher = EscrowVoucher { channel, cumulative: total(cumulative) };
        let signed = secret(PAYER).sign(voucher, self.contract.domain()).expect("128 bits");
        VoucherRow { channel, cumulative: total(cumulative), signature: signed.signature().clone() }
    }

    async fn balance(&self, account: Address) -> u128 {
        token_balance(&self.world.rpc, self.token.token(), account).await.expect("a balance")
    }

    /// Of the payer, the payee and the escrow.
    async fn balances(&self) -> [u128; 3] {
        let [payer, payee] = [PAYER, OPERATOR].map(|account| DEV_ACCOUNTS[account].address);
        [self.balance(payer).await, self.balance(payee).await, self.balance(self.contract.address()).await]
    }

    /// Deposit, settled and phase in the newest block.
    async fn state(&self, terms: &SessionTerms) -> (u128, u128, SessionPhase) {
        let state = self.contract.newest_state(self.id(terms)).await.expect("read");
        assert!(state.parties.is_none_or(|parties| parties.are_of(terms)));
        (state.deposit.units(), state.settled.units(), state.phase)
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, ChainError>, name: &str) {
    let error = result.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Rejection, "{error}");
    assert_eq!(error.revert().and_then(|revert| revert.name()), Some(name), "{error}");
}

fn reasons(bad: &[BadVoucher]) -> Vec<(usize, Option<&str>)> {
    bad.iter().map(|bad| (bad.row, bad.revert.name())).collect()
}

// E-31.
#[tokio::test]
async fn only_a_session_escrow_of_this_chain_is_one() {
    let escrow = escrow().await;
    assert_eq!((escrow.contract.grace_secs(), escrow.contract.domain().contract()), (GRACE_SECS, escrow.contract.address()));
    let attach = async |at| SessionEscrow::attach(escrow.world.rpc.clone(), at).await;
    let nothing = attach(DEV_ACCOUNTS[9].address).await.expect_err("nothing is there");
    assert!(matches!(nothing, ChainError::NoContract { .. }), "{nothing}");
    let token = attach(escrow.token.token()).await.expect_err("a token is none");
    assert!(matches!(token, ChainError::InvalidInput { what: "session escrow", .. }), "{token}");
    // One that answers everything with the same word.
    let liar = DEV_ACCOUNTS[8].address;
    escrow.world.call("anvil_setCode", json!([liar.to_string(), "0x600160005260206000f3"]));
    let liar = attach(liar).await.expect_err("another domain");
    assert!(liar.to_string().contains("another domain"), "{liar}");
}

#[tokio::test]
async fn a_channel_is_opened_settled_topped_up_and_closed() {
    let escrow = escrow().await;
    let before = escrow.balances().await;
    let terms = escrow.terms(1);
    assert_eq!(escrow.state(&terms).await, (0, 0, SessionPhase::Absent));
    let opening = escrow.opening(terms, 1_000);
    escrow.operator.try_open(&opening).await.expect("it would be taken");
    // What was signed fixes the terms and the amount.
    let others = [
        SessionOpening { deposit: units(1_001), ..opening.clone() },
        SessionOpening { terms: SessionTerms { salt: salt(2), ..terms }, ..opening.clone() },
        SessionOpening { terms: SessionTerms { payee: DEV_ACCOUNTS[BYSTANDER].address, ..terms }, ..opening.clone() },
    ];
    for other in others {
        assert_eq!(escrow.operator.try_open(&other).await.expect_err("not signed").kind(), ErrorKind::Rejection);
    }
    let receipt = escrow.operator.open(intent(1), &opening).await.expect("opened");
    assert_eq!(escrow.state(&terms).await, (1_000, 0, SessionPhase::Open));
    refused(escrow.operator.try_open(&opening).await, "ChannelAlreadyExists");
    let sent = escrow.contract.deposit_in(receipt.transaction, escrow.id(&terms)).await.expect("read").expect("mined");
    assert_eq!((sent.amount, sent.opened, sent.block), (units(1_000), true, receipt.block));

    let (_, row) = escrow.operator.settle(intent(2), &escrow.voucher(&terms, 400)).await.expect("settled");
    assert_eq!((row.total, row.paid), (total(400), units(400)));
    refused(escrow.operator.settle(intent(3), &escrow.voucher(&terms, 400)).await, "AmountNotIncreasing");
    refused(escrow.operator.settle(intent(3), &escrow.voucher(&terms, 1_001)).await, "AmountExceedsDeposit");

    // By Permit2, which has to be approved once.
    escrow.payer.approve_permit2(escrow.token.token(), units(10_000)).await.expect("approved");
    let channel = escrow.id(&terms);
    let funding = escrow.permit2(PAYER, 500, 7, TransferWitness::ChannelTopUp { channel });
    let top_up = SessionTopUp { channel, from: terms.payer, additional: units(500), salt: Hash256::from_bytes([0; 32]), funding };
    escrow.operator.try_top_up(&top_up).await.expect("it would be taken");
    let receipt = escrow.operator.top_up(intent(4), &top_up).await.expect("topped up");
    let sent = escrow.contract.deposit_in(receipt.transaction, channel).await.expect("read").expect("mined");
    assert_eq!((sent.amount, sent.opened), (units(500), false));
    assert_eq!(escrow.operator.try_top_up(&top_up).await.expect_err("once").kind(), ErrorKind::Rejection);

    let last = escrow.voucher(&terms, 1_234);
    refused(
        SessionOperator::new(escrow.contract.clone(), submitter(&escrow.world.rpc, BYSTANDER))
            .try_close(channel, Some(&last))
            .await,
        "NotPayee",
    );
    escrow.operator.try_close(channel, Some(&last)).await.expect("it would be taken");
    let closed = escrow.operator.close(intent(5), channel, Some(&last)).await.expect("closed");
    assert_eq!((closed.settled, closed.refunded), (total(1_234), units(266)));
    assert_eq!(escrow.state(&terms).await, (1_500, 1_234, SessionPhase::Closed));
    assert_eq!(escrow.contract.newest_state(channel).await.expect("read").unsettled(), units(0));
    assert_eq!(escrow.balances().await, [before[0] - 1_234, before[1] + 1_234, before[2]]);
    refused(escrow.operator.close(intent(6), channel, Some(&last)).await, "ChannelFinalized");
    refused(escrow.operator.try_open(&opening).await, "ChannelAlreadyExists");
}

#[tokio::test]
async fn a_channel_is_opened_by_permit2_with_its_own_signer_and_closed_over_nothing() {
    let escrow = escrow().await;
    escrow.payer.approve_permit2(escrow.token.token(), units(10_000)).await.expect("approved");
    let before = escrow.balances().await;
    let signer = secret(5);
    let terms = SessionTerms { authorized_signer: signer.account(), ..escrow.terms(1) };
    let witness = TransferWitness::ChannelOpen { payee: terms.payee, salt: terms.salt, authorized_signer: terms.authorized_signer };
    let funding = escrow.permit2(PAYER, 900, 1, witness);
    escrow.operator.open(intent(1), &SessionOpening { terms, deposit: units(900), funding }).await.expect("opened");
    // The payer's own signature is not the signer's.
    refused(escrow.operator.settle(intent(2), &escrow.voucher(&terms, 10)).await, "InvalidSignature");
    let voucher = EscrowVoucher { channel: escrow.id(&terms), cumulative: total(10) };
    let signature = signer.sign(voucher, escrow.contract.domain()).expect("128 bits").signature().clone();
    let row = VoucherRow { channel: voucher.channel, cumulative: total(10), signature };
    escrow.operator.settle(intent(3), &row).await.expect("settled");
    // A close needs a voucher of its own channel, or none.
    let foreign = VoucherRow { channel: EscrowChannelId::from_bytes([3; 32]), ..row };
    let error = escrow.operator.close(intent(4), voucher.channel, Some(&foreign)).await.expect_err("another channel");
    assert!(matches!(error, ChainError::InvalidInput { what: "voucher", .. }), "{error}");
    let closed = escrow.operator.close(intent(4), voucher.channel, None).await.expect("closed");
    assert_eq!((closed.settled, closed.refunded), (total(10), units(890)));
    assert_eq!(escrow.balances().await, [before[0] - 10, before[1] + 10, before[2]]);
}

#[tokio::test]
async fn a_bad_voucher_stops_no_other() {
    let escrow = escrow().await;
    let mut rows = Vec::new();
    for number in 1..=6 {
        let terms = escrow.open(number, 1_000).await;
        rows.push(escrow.voucher(&terms, 100 + u128::from(number)));
    }
    // A signature of nobody, more than the deposit, a channel that is none, and one that is another payee's.
    rows[1].signature = EvmSignature::new([27; 65]).expect("short");
    rows[2] = escrow.voucher(&escrow.terms(3), 1_001);
    rows[4] = escrow.voucher(&escrow.terms(50), 10);
    let foreign = SessionTerms { payee: DEV_ACCOUNTS[BYSTANDER].address, ..escrow.terms(7) };
    escrow.operator.open(intent(7), &escrow.opening(foreign, 1_000)).await.expect("opened");
    rows.push(escrow.voucher(&foreign, 5));
    let expected = [(1, Some("InvalidSignature")), (2, Some("AmountExceedsDeposit")), (4, Some("ChannelNotFound")), (6, Some("NotPayee"))];
    assert_eq!(reasons(&escrow.operator.bad_vouchers(&rows).await.expect("simulated")), expected);
    assert!(rows.len() <= SETTLE_ROWS_MAX);
    let before = escrow.balances().await;
    let done = escrow.operator.settle_many(intent(20), escrow.token.token(), &rows).await.expect("settled");
    assert_eq!(reasons(&done.skipped), expected);
    let settled: Vec<_> = done.settled.iter().map(|row| (row.channel, row.total.units(), row.paid.units())).collect();
    let good = [(0, 101), (3, 104), (5, 106)].map(|(row, units): (usize, u128)| (rows[row].channel, units, units));
    assert_eq!(settled, good);
    let after = escrow.balances().await;
    assert_eq!(after, [before[0], before[1] + 311, before[2] - 311]);
    // Again, all of it is passed over and nothing is paid.
    let again = escrow.operator.settle_many(intent(21), escrow.token.token(), &rows).await.expect("nothing new");
    assert_eq!((again.settled.len(), again.skipped.len(), escrow.balances().await), (0, 7, after));
    refused(escrow.operator.settle_many(intent(22), escrow.token.token(), &[]).await, "EmptyBatch");
}

#[tokio::test]
async fn a_settlement_in_time_is_safe_from_a_requested_close() {
    let escrow = escrow().await;
    let terms = escrow.terms(1);
    let channel = escrow.id(&terms);
    let other = SessionTerms { payer: DEV_ACCOUNTS[BYSTANDER].address, ..terms };
    assert!(matches!(escrow.payer.open(&other, units(1)).await, Err(ChainError::InvalidInput { what: "payer", .. })));
    let receipt = escrow.payer.open(&terms, units(1_000)).await.expect("opened");
    let sent = escrow.contract.deposit_in(receipt.transaction, channel).await.expect("read").expect("mined");
    assert_eq!((sent.amount, sent.opened), (units(1_000), true));
    // A transaction that has nothing to do with the channel, one that failed, and one that is not there.
    let foreign = escrow.contract.deposit_in(receipt.transaction, EscrowChannelId::from_bytes([9; 32])).await.expect_err("of another");
    assert!(matches!(foreign, ChainError::InvalidInput { what: "transaction", .. }), "{foreign}");
    assert_eq!(escrow.contract.deposit_in(Hash256::from_bytes([7; 32]), channel).await, Ok(None));

    refused(escrow.payer.withdraw(channel).await, "CloseNotReady");
    escrow.payer.request_close(channel).await.expect("asked");
    let (_, _, phase) = escrow.state(&terms).await;
    assert!(matches!(phase, SessionPhase::Closing { .. }), "{phase:?}");
    // A top-up of somebody else's leaves the request; one of the payer's takes it back.
    escrow.operator.top_up(intent(2), &escrow.top_up(&terms, BYSTANDER, 50)).await.expect("topped up");
    assert_eq!(escrow.state(&terms).await, (1_050, 0, phase));
    escrow.payer.top_up(channel, terms.token, units(150)).await.expect("topped up");
    assert_eq!(escrow.state(&terms).await, (1_200, 0, SessionPhase::Open));
    escrow.payer.request_close(channel).await.expect("asked again");

    escrow.world.pass(GRACE_SECS - 60);
    refused(escrow.payer.withdraw(channel).await, "CloseNotReady");
    let (_, row) = escrow.operator.settle(intent(3), &escrow.voucher(&terms, 700)).await.expect("in time");
    assert_eq!(row.paid, units(700));
    escrow.world.pass(61);
    let (_, refunded) = escrow.payer.withdraw(channel).await.expect("the rest");
    assert_eq!(refunded, units(500));
    assert_eq!(escrow.state(&terms).await, (1_200, 700, SessionPhase::Closed));
    refused(escrow.operator.settle(intent(4), &escrow.voucher(&terms, 800)).await, "ChannelFinalized");
}

#[tokio::test]
async fn a_payee_that_sends_nothing_signs() {
    let escrow = escrow().await;
    let payee = secret(BYSTANDER);
    let terms = SessionTerms { payee: payee.account(), ..escrow.terms(1) };
    let channel = escrow.id(&terms);
    escrow.operator.open(intent(1), &escrow.opening(terms, 1_000)).await.expect("opened");
    let before = escrow.balance(payee.account()).await;
    let (nonce, deadline) = (Uint256::from(1_u64), Uint256::from(FAR));
    let settle = SettleAuthorization { channel, cumulative: total(300), nonce, deadline };
    let signature = payee.sign(settle, escrow.contract.domain()).expect("in range").signature().clone();
    let by_payee = PayeeAuthorization { nonce, deadline, signature };
    // The payee signed this total and no other.
    refused(escrow.operator.settle_signed(intent(2), &escrow.voucher(&terms, 301), &by_payee).await, "InvalidSignature");
    let (_, row) = escrow.operator.settle_signed(intent(2), &escrow.voucher(&terms, 300), &by_payee).await.expect("settled");
    assert_eq!((row.paid, escrow.balance(payee.account()).await), (units(300), before + 300));
    refused(escrow.operator.settle_signed(intent(3), &escrow.voucher(&terms, 300), &by_payee).await, "NonceAlreadyUsed");

    let nonce = Uint256::from(2_u64);
    let close = CloseAuthorization { channel, cumulative: total(450), nonce, deadline };
    let signature = payee.sign(close, escrow.contract.domain()).expect("in range").signature().clone();
    let by_payee = PayeeAuthorization { nonce, deadline, signature };
    let closed = escrow.operator.close_signed(intent(4), channel, Some(&escrow.voucher(&terms, 450)), &by_payee).await.expect("closed");
    assert_eq!((closed.settled, closed.refunded, escrow.balance(payee.account()).await), (total(450), units(550), before + 450));
}

#[tokio::test]
async fn what_a_token_refuses_to_pay_is_withdrawn_later() {
    let escrow = escrow().await;
    let (terms, token) = (escrow.open(1, 1_000).await, escrow.token.token());
    let before = escrow.balances().await;
    let code = escrow.world.call("eth_getCode", json!([token.to_string(), "latest"]));
    // PUSH0, PUSH0, REVERT.
    escrow.world.call("anvil_setCode", json!([token.to_string(), "0x5f5ffd"]));
    let closed = escrow.operator.close(intent(2), escrow.id(&terms), Some(&escrow.voucher(&terms, 600))).await.expect("closed");
    assert_eq!((closed.settled, closed.refunded), (total(600), units(400)));
    escrow.world.call("anvil_setCode", json!([token.to_string(), code]));
    assert_eq!(escrow.balances().await, before);
    assert_eq!(escrow.contract.credit(terms.payee, token).await, Ok(units(600)));
    let (_, amount) = escrow.operator.withdraw_credit(token, terms.payee).await.expect("paid");
    assert_eq!(amount, units(600));
    let (_, amount) = escrow.payer.withdraw_credit(token, terms.payer).await.expect("paid");
    assert_eq!(amount, units(400));
    refused(escrow.payer.withdraw_credit(token, terms.payer).await, "NothingToWithdraw");
    assert_eq!(escrow.balances().await, [before[0] + 400, before[1] + 600, before[2] - 1_000]);
}

#[tokio::test]
async fn channels_are_followed_at_a_depth_and_through_a_reorganisation() {
    let escrow = escrow().await;
    let reader = SessionReader::new(escrow.contract.clone(), IndexerOptions { confirmations: 3, ..IndexerOptions::default() });
    escrow.world.anvil.mine(3).expect("mined");
    let start = reader.start().await.expect("read");
    let terms = [escrow.terms(1), escrow.terms(2)];
    let followed: BTreeSet<EscrowChannelId> = terms.iter().map(|terms| escrow.id(terms)).collect();
    escrow.open(1, 1_000).await;
    // One that nobody follows.
    escrow.open(3, 1_000).await;
    let not_deep = reader.look(&followed).await.expect("read");
    assert!(not_deep.states.iter().all(|state| state.phase == SessionPhase::Absent), "not deep enough to count");
    escrow.world.anvil.mine(2).expect("mined");

    let mut cursor = start.clone();
    let mut seen = Vec::new();
    while let SessionPoll::Batch(batch) = reader.poll(&cursor, &followed).await.expect("read") {
        seen.extend(batch.seen.states.iter().map(|state| (state.channel, state.deposit, state.phase)));
        cursor = batch.cursor;
    }
    assert_eq!(seen, [(escrow.id(&terms[0]), units(1_000), SessionPhase::Open)]);
    // Each further thing that happens to it is seen.
    escrow.operator.settle(intent(10), &escrow.voucher(&terms[0], 400)).await.expect("settled");
    escrow.payer.request_close(escrow.id(&terms[0])).await.expect("asked");
    escrow.world.anvil.mine(2).expect("mined");
    let SessionPoll::Batch(batch) = reader.poll(&cursor, &followed).await.expect("read") else { panic!("there are new blocks") };
    let state = batch.seen.states[0];
    assert_eq!((batch.seen.states.len(), state.settled, state.unsettled()), (1, total(400), units(600)));
    assert!(matches!(state.phase, SessionPhase::Closing { .. }), "{state:?}");
    cursor = batch.cursor;

    // All of it is undone.
    escrow.world.anvil.reorg(8).expect("reorganised");
    escrow.world.anvil.mine(9).expect("mined");
    let SessionPoll::Reorg(reorg) = reader.poll(&cursor, &followed).await.expect("read") else { panic!("the chain has forked") };
    let resume = reorg.resume.expect("the first checkpoint is older than the fork");
    assert!(resume.last().number <= start.last().number);
    let looked = reader.look(&followed).await.expect("read");
    assert!(looked.states.iter().all(|state| state.parties.is_none()), "{looked:?}");
}

#[tokio::test]
async fn a_payer_finds_its_sessions_in_the_logs() {
    let escrow = escrow().await;
    let from = escrow.contract.rpc().head_height().await.expect("read");
    // By its own transaction, by what it signed for the token, and by Permit2.
    let own = escrow.terms(1);
    escrow.payer.open(&own, units(1_000)).await.expect("opened");
    let relayed = escrow.open(2, 1_000).await;
    let permitted = escrow.terms(3);
    let witness =
        TransferWitness::ChannelOpen { payee: permitted.payee, salt: permitted.salt, authorized_signer: permitted.authorized_signer };
    escrow.payer.approve_permit2(permitted.token, units(1_000)).await.expect("approved");
    let opening = SessionOpening { terms: permitted, deposit: units(1_000), funding: escrow.permit2(PAYER, 1_000, 1, witness) };
    escrow.operator.open(intent(3), &opening).await.expect("opened");
    escrow.operator.close(intent(4), escrow.id(&relayed), None).await.expect("closed");

    let found = escrow.contract.opened_for(DEV_ACCOUNTS[PAYER].address, from).await.expect("read");
    let terms: Vec<SessionTerms> = found
        .iter()
        .map(|opened| opened.terms(escrow.contract.domain(), opened.salt.expect("it called the escrow")).expect("the channel's"))
        .collect();
    assert_eq!(terms, [own, relayed, permitted]);
    assert_eq!(
        found.iter().map(|opened| opened.channel).collect::<Vec<_>>(),
        terms.iter().map(|terms| escrow.id(terms)).collect::<Vec<_>>()
    );
    assert_eq!(found[0].terms(escrow.contract.domain(), salt(9)), None, "another salt");
    assert_eq!(escrow.contract.opened_for(DEV_ACCOUNTS[BYSTANDER].address, from).await, Ok(Vec::new()));
    let states = escrow.contract.newest_states(&[escrow.id(&own), escrow.id(&relayed)]).await.expect("read");
    assert_eq!(states.iter().map(|state| state.phase).collect::<Vec<_>>(), [SessionPhase::Open, SessionPhase::Closed]);
}
