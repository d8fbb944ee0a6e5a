//! The x402 contracts and the session escrow on a real anvil: where they are, and that ids and digests are those of the shared vectors.

mod common;

use alloy::hex;
use alloy::primitives::{Address as EvmAddress, B256, Bytes, U256};
use alloy::sol_types::{Eip712Domain, SolCall, eip712_domain};
use millstream_chain::session_escrow::bindings::ISessionEscrow;
use millstream_chain::session_escrow::{deploy_session_escrow, session_escrow_address};
use millstream_chain::x402::bindings::{IX402BatchSettlement, IX402ExactPermit2Proxy};
use millstream_chain::x402::{
    BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, EXACT_PERMIT2_PROXY, PERMIT2_DEPOSIT_COLLECTOR, place_development_x402,
};
use millstream_chain::{ChainError, PERMIT2, place_development_permit2};
use millstream_testkit::{Anvil, AnvilOptions};
use millstream_types::Address;
use serde_json::{Value, json};

use common::{OPERATOR, anvil, connect, submitter};

alloy::sol! {
    interface ICollector {
        function SETTLEMENT() external view returns (address);
        function PERMIT2() external view returns (address);
    }
}

fn vectors(of: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../contracts/vectors/escrows.json")).expect("vectors");
    all[of].clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex")
}

fn word(value: &Value) -> B256 {
    B256::from_slice(&bytes(value))
}

fn evm(value: &Value) -> EvmAddress {
    EvmAddress::from_slice(&bytes(value))
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn address(address: Address) -> EvmAddress {
    EvmAddress::new(*address.as_bytes())
}

fn view<C: SolCall>(anvil: &Anvil, to: EvmAddress, call: &C) -> C::Return {
    let answer = anvil.call("eth_call", &json!([{ "to": to, "data": Bytes::from(call.abi_encode()) }, "latest"])).expect("answered");
    C::abi_decode_returns(&bytes(&answer)).expect("decoded")
}

fn code(anvil: &Anvil, at: EvmAddress) -> Value {
    anvil.call("eth_getCode", &json!([at, "latest"])).expect("answered")
}

/// The entries of a list that are for the chain.
fn on_chain<'a>(list: &'a Value, anvil: &'a Anvil) -> impl Iterator<Item = &'a Value> {
    list.as_array().expect("a list").iter().filter(|entry| number(&entry["chainId"]) == anvil.chain_id())
}

/// What a contract tells of its EIP-712 domain (EIP-5267).
macro_rules! domain_of {
    ($anvil:expr, $at:expr, $call:expr) => {{
        let domain = view($anvil, $at, &$call);
        assert_eq!((domain.fields.0, domain.salt, domain.extensions.len()), ([0x0f], B256::ZERO, 0));
        eip712_domain! {
            name: domain.name,
            version: domain.version,
            chain_id: u64::try_from(domain.chainId).expect("a chain id"),
            verifying_contract: domain.verifyingContract,
        }
    }};
}

#[tokio::test]
async fn the_x402_contracts_are_placed_once_at_their_addresses() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    assert_eq!(place_development_x402(&rpc).await, Ok(true));
    let all = [PERMIT2, BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR, EXACT_PERMIT2_PROXY];
    let codes = all.map(|at| code(&anvil, address(at)));
    assert!(codes.iter().all(|code| bytes(code).len() > 500));
    assert_eq!(place_development_x402(&rpc).await, Ok(false));
    assert_eq!(place_development_permit2(&rpc).await, Ok(false));
    assert_eq!(all.map(|at| code(&anvil, address(at))), codes);

    // They know each other, though each was made somewhere else.
    let (settlement, permit2) = (address(BATCH_SETTLEMENT), address(PERMIT2));
    for collector in [ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR] {
        assert_eq!(view(&anvil, address(collector), &ICollector::SETTLEMENTCall {}), settlement);
    }
    assert_eq!(view(&anvil, address(PERMIT2_DEPOSIT_COLLECTOR), &ICollector::PERMIT2Call {}), permit2);
    assert_eq!(view(&anvil, address(EXACT_PERMIT2_PROXY), &IX402ExactPermit2Proxy::PERMIT2Call {}), permit2);

    // What is there stays: the real one, on a fork.
    anvil.call("anvil_setCode", &json!([address(EXACT_PERMIT2_PROXY), "0x00"])).expect("set");
    anvil.call("anvil_setCode", &json!([address(ERC3009_DEPOSIT_COLLECTOR), "0x"])).expect("set");
    assert_eq!(place_development_x402(&rpc).await, Ok(true));
    assert_eq!(code(&anvil, address(EXACT_PERMIT2_PROXY)), json!("0x00"));
    assert_eq!(code(&anvil, address(ERC3009_DEPOSIT_COLLECTOR)), codes[2]);
}

#[tokio::test]
async fn the_x402_contracts_are_placed_on_development_chains_only() {
    let anvil = anvil(&AnvilOptions::default().with_chain_id(84_532));
    let rpc = connect(&anvil).await;
    assert!(matches!(place_development_x402(&rpc).await, Err(ChainError::InvalidInput { what: "chain", .. })));
    assert_eq!(code(&anvil, address(BATCH_SETTLEMENT)), json!("0x"));
}

#[tokio::test]
async fn the_settlement_contract_computes_the_golden_vectors() {
    let vectors = vectors("x402");
    let anvil = anvil(&AnvilOptions::default());
    place_development_x402(&connect(&anvil).await).await.expect("placed");
    let addresses = &vectors["addresses"];
    for (name, expected) in [
        ("settlement", BATCH_SETTLEMENT),
        ("erc3009Collector", ERC3009_DEPOSIT_COLLECTOR),
        ("permit2Collector", PERMIT2_DEPOSIT_COLLECTOR),
        ("exactPermit2Proxy", EXACT_PERMIT2_PROXY),
        ("permit2", PERMIT2),
    ] {
        assert_eq!(evm(&addresses[name]), address(expected), "{name}");
    }

    let settlement = address(BATCH_SETTLEMENT);
    let config = |salt: B256| IX402BatchSettlement::ChannelConfig {
        payer: evm(&vectors["config"]["payer"]),
        payerAuthorizer: evm(&vectors["config"]["payerAuthorizer"]),
        receiver: evm(&vectors["config"]["receiver"]),
        receiverAuthorizer: evm(&vectors["config"]["receiverAuthorizer"]),
        token: evm(&vectors["config"]["token"]),
        withdrawDelay: number(&vectors["config"]["withdrawDelay"]).try_into().expect("40 bits"),
        salt,
    };
    let (own, other) = (config(word(&vectors["config"]["salt"])), config(B256::with_last_byte(2)));
    let amount = |name: &str| u128::from(number(&vectors[name]));
    let row = |channel: &IX402BatchSettlement::ChannelConfig| IX402BatchSettlement::VoucherClaim {
        voucher: IX402BatchSettlement::Voucher { channel: channel.clone(), maxClaimableAmount: amount("maxClaimableAmount") },
        signature: Bytes::new(),
        totalClaimed: amount("totalClaimed"),
    };
    let batch = |rows: Vec<IX402BatchSettlement::VoucherClaim>| {
        view(&anvil, settlement, &IX402BatchSettlement::getClaimBatchDigestCall { voucherClaims: rows })
    };

    let mut entries = 0;
    for entry in on_chain(&vectors["chains"], &anvil) {
        let id = |config: &IX402BatchSettlement::ChannelConfig| {
            view(&anvil, settlement, &IX402BatchSettlement::getChannelIdCall { config: config.clone() })
        };
        let channel = id(&own);
        assert_eq!((channel, id(&other)), (word(&entry["channelId"]), word(&entry["otherChannelId"])));
        let domain: Eip712Domain = domain_of!(&anvil, settlement, IX402BatchSettlement::eip712DomainCall {});
        assert_eq!(domain.separator(), word(&entry["domainSeparator"]));
        let voucher = IX402BatchSettlement::getVoucherDigestCall { channelId: channel, maxClaimableAmount: amount("maxClaimableAmount") };
        assert_eq!(view(&anvil, settlement, &voucher), word(&entry["voucherDigest"]));
        let nonce = U256::from(number(&vectors["refundNonce"]));
        let refund = IX402BatchSettlement::getRefundDigestCall { channelId: channel, nonce, amount: amount("refundAmount") };
        assert_eq!(view(&anvil, settlement, &refund), word(&entry["refundDigest"]));
        assert_eq!(batch(vec![row(&own)]), word(&entry["claimBatchDigest"]));
        assert_eq!(batch(vec![row(&own), row(&other)]), word(&entry["claimBatchDigestOfTwo"]));
        assert_eq!(batch(vec![]), word(&entry["claimBatchDigestOfNone"]));
        entries += 1;
    }
    assert_eq!(entries, 1);
}

#[tokio::test]
async fn the_session_escrow_has_one_address_and_is_put_there_once() {
    let anvil = anvil(&AnvilOptions::default());
    let rpc = connect(&anvil).await;
    let submitter = submitter(&rpc, OPERATOR);
    let escrow = session_escrow_address().expect("an address");
    assert_eq!(code(&anvil, address(escrow)), json!("0x"));
    assert_eq!(deploy_session_escrow(&submitter).await, Ok(escrow));
    let block = anvil.call("eth_blockNumber", &json!([])).expect("answered");
    assert_eq!(deploy_session_escrow(&submitter).await, Ok(escrow));
    assert_eq!(anvil.call("eth_blockNumber", &json!([])).expect("answered"), block, "nothing was sent");
    assert_eq!(view(&anvil, address(escrow), &ISessionEscrow::CLOSE_GRACE_PERIODCall {}), 900);
}

#[tokio::test]
async fn the_session_escrow_computes_the_vectors() {
    let vectors = vectors("session");
    let anvil = anvil(&AnvilOptions::default());
    let deployed = deploy_session_escrow(&submitter(&connect(&anvil).await, OPERATOR)).await.expect("deployed");
    // Nothing of its address is in its code, so it holds at that of the vectors.
    let escrow = evm(&vectors["escrow"]);
    anvil.call("anvil_setCode", &json!([escrow, code(&anvil, address(deployed))])).expect("set");

    let cumulative = u128::from(number(&vectors["cumulativeAmount"]));
    let (nonce, deadline) = (U256::from(number(&vectors["nonce"])), U256::from(number(&vectors["deadline"])));
    let mut entries = 0;
    for entry in on_chain(&vectors["channels"], &anvil) {
        let channel = view(
            &anvil,
            escrow,
            &ISessionEscrow::computeChannelIdCall {
                payer: evm(&vectors["payer"]),
                payee: evm(&vectors["payee"]),
                token: evm(&vectors["token"]),
                salt: word(&vectors["salt"]),
                authorizedSigner: evm(&entry["authorizedSigner"]),
            },
        );
        assert_eq!(channel, word(&entry["channelId"]));
        let separator = view(&anvil, escrow, &ISessionEscrow::domainSeparatorCall {});
        assert_eq!(separator, word(&entry["domainSeparator"]));
        let domain: Eip712Domain = domain_of!(&anvil, escrow, ISessionEscrow::eip712DomainCall {});
        assert_eq!(domain.separator(), separator);
        let voucher = ISessionEscrow::getVoucherDigestCall { channelId: channel, cumulativeAmount: cumulative };
        assert_eq!(view(&anvil, escrow, &voucher), word(&entry["voucherDigest"]));
        let settle = ISessionEscrow::getSettleAuthorizationDigestCall { channelId: channel, cumulativeAmount: cumulative, nonce, deadline };
        assert_eq!(view(&anvil, escrow, &settle), word(&entry["settleAuthorizationDigest"]));
        let close = ISessionEscrow::getCloseAuthorizationDigestCall { channelId: channel, cumulativeAmount: cumulative, nonce, deadline };
        assert_eq!(view(&anvil, escrow, &close), word(&entry["closeAuthorizationDigest"]));
        entries += 1;
    }
    assert_eq!(entries, 2);
}
