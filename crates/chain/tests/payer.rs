//! Deployment, reads and everything a payer sends, on a real anvil.

mod common;

use millstream_chain::{
    ChainError, ContractRole, ErrorKind, KeyProvenance, Ledger, OpenAuthorization, Payer, QueueBounds, TokenChoice, deploy, token_balance,
};
use millstream_testkit::{AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Address, Amount, BookId, ChainId, ChannelId, EpochId, Timestamp};

use common::{
    BYSTANDER, EMPTY_ROOT, OPERATOR, PAYER, RESPONSE_WINDOW_SECS, SLOTS, anvil, connect, key, open_request, plan, submitter, voucher_key,
    world, world_with,
};

const FAR: Timestamp = Timestamp::from_millis(4_000_000_000_000);

fn refused<T: std::fmt::Debug>(result: Result<T, ChainError>, name: &str) {
    let error = result.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Rejection, "{error}");
    assert_eq!(error.revert().and_then(|revert| revert.name()), Some(name), "{error}");
}

#[tokio::test]
async fn a_new_ledger_reads_as_it_was_planned() {
    let world = world().await;
    let config = world.ledger.config();
    assert_eq!(world.ledger.chain(), ChainId::new(31_337));
    assert_eq!((config.provider, config.token), (DEV_ACCOUNTS[OPERATOR].address, world.deployment.token));
    assert_eq!((config.unit.decimals(), config.response_window_secs), (6, RESPONSE_WINDOW_SECS));
    assert_eq!(config.tiers.len(), 1);
    assert_eq!((config.tiers[0].slots, config.tiers[0].empty_root), (SLOTS, EMPTY_ROOT));
    assert_eq!((config.tiers[0].settle_verifier, config.tiers[0].register_verifier), world.deployment.verifiers[0]);
    // One key for both: one hash.
    assert_eq!(config.tiers[0].settle_key, config.tiers[0].register_key);

    let ledger = &world.ledger;
    assert_eq!(ledger.operator().await, Ok(DEV_ACCOUNTS[OPERATOR].address));
    assert_eq!(ledger.book_root(BookId::from_u32(5)).await, Ok(EMPTY_ROOT));
    refused(ledger.book_root(BookId::from_u32(0x0100_0000)).await, "UnknownTier");
    assert_eq!(ledger.queue().await, Ok(QueueBounds { head: 0, tail: 0 }));
    assert_eq!(ledger.request(0).await, Ok(None));
    assert_eq!(ledger.channel(ChannelId::from_uid(&[3; 31])).await, Ok(None));
    assert_eq!(ledger.credit(DEV_ACCOUNTS[PAYER].address).await, Ok(Amount::ZERO));
    assert_eq!((ledger.next_epoch().await, ledger.epoch_root(EpochId::new(0)).await), (Ok(EpochId::new(0)), Ok(None)));
}

#[tokio::test]
async fn what_is_no_ledger_is_not_attached() {
    let world = world().await;
    let nobody = Address::from_bytes([9; 20]);
    assert!(matches!(Ledger::attach(world.rpc.clone(), nobody).await, Err(ChainError::NoContract { address, .. }) if address == nobody));
    assert!(Ledger::attach(world.rpc.clone(), world.deployment.token).await.is_err());
}

#[tokio::test]
async fn insecure_and_degenerate_keys_are_refused() {
    let anvil = anvil(&AnvilOptions::default().with_chain_id(8_453));
    let rpc = connect(&anvil).await;
    let deployer = submitter(&rpc, OPERATOR);
    let insecure = plan(TokenChoice::TestUsdc);
    assert_eq!(deploy(&deployer, &insecure).await, Err(ChainError::InsecureKeys { chain: ChainId::new(8_453) }));

    let mut degenerate = insecure;
    degenerate.provenance = KeyProvenance::Ceremony;
    let gamma: [[u8; 32]; 4] = degenerate.tiers[0].settle_key[6..10].try_into().expect("four words");
    degenerate.tiers[0].settle_key[10..14].copy_from_slice(&gamma);
    let role = ContractRole::SettleVerifier { slots: SLOTS };
    assert_eq!(deploy(&deployer, &degenerate).await, Err(ChainError::DegenerateKey { role, reason: "gamma equals delta" }));
}

#[tokio::test]
async fn a_channel_is_opened_topped_up_and_asked_to_close() {
    let world = world().await;
    let (payer, account) = (world.payer(), DEV_ACCOUNTS[PAYER].address);
    let request = open_request(1, 2_500_000);
    let before = payer.balance().await.expect("a balance");
    let opening = payer.open(&request).await.expect("opened");
    assert_eq!(world.ledger.channel_id(account, request.key.x, request.salt).await, Ok(opening.channel));
    assert_eq!((opening.deposit, opening.request_index), (Amount::from_nanos(2_500_000_000), 0));
    assert_eq!(payer.balance().await, Ok(before - 2_500_000));
    refused(payer.open(&request).await, "ChannelExists");

    // Anyone may fund a channel; only its payer may close it.
    let bystander = world.payer_of(BYSTANDER);
    let (deposit, _) = bystander.top_up(opening.channel, 500_000).await.expect("topped up");
    assert_eq!(deposit, Amount::from_nanos(3_000_000_000));
    refused(bystander.request_close(opening.channel).await, "NotPayer");
    payer.request_close(opening.channel).await.expect("asked");
    refused(payer.request_close(opening.channel).await, "ChannelClosing");
    refused(payer.top_up(opening.channel, 1).await, "ChannelClosing");

    let channel = world.ledger.channel(opening.channel).await.expect("read").expect("there");
    assert_eq!((channel.payer, channel.deposit), (account, deposit));
    assert_eq!((channel.included, channel.close_requested, channel.closed), (false, true, false));
    assert_eq!(world.ledger.queue().await, Ok(QueueBounds { head: 0, tail: 3 }));
    let queued = world.ledger.request(2).await.expect("read").expect("queued");
    assert!(queued.requested_at.as_secs_down() > 0 && queued.digest != [0; 27]);
    assert_eq!(token_balance(&world.rpc, world.deployment.token, world.deployment.ledger).await, Ok(3_000_000));
    refused(payer.withdraw(account).await, "NothingToWithdraw");
    refused(payer.withdraw_to(DEV_ACCOUNTS[BYSTANDER].address).await, "NothingToWithdraw");
}

#[tokio::test]
async fn an_opening_that_the_ledger_forbids_says_why() {
    let world = world().await;
    let payer = world.payer();
    refused(payer.open(&open_request(1, 0)).await, "ZeroAmount");
    let mut request = open_request(1, 1);
    request.key.qx = voucher_key(1).qx;
    refused(payer.open(&request).await, "InvalidKey");
    refused(payer.top_up(ChannelId::from_uid(&[7; 31]), 1).await, "ChannelUnknown");
    refused(payer.open(&open_request(1, 1_000_000_000_001)).await, "ERC20InsufficientBalance");
    // 2^64 nanos are more than a channel holds.
    refused(payer.open(&open_request(1, 18_446_744_073_709_552)).await, "DepositTooLarge");
}

#[tokio::test]
async fn a_deposit_below_the_minimum_is_refused() {
    let world = world().await;
    let deployer = submitter(&world.rpc, OPERATOR);
    let mut plan = plan(TokenChoice::Existing(world.deployment.token));
    plan.deposit_min = Amount::from_nanos(2_000_000);
    let deployment = deploy(&deployer, &plan).await.expect("deployed");
    let ledger = Ledger::attach(world.rpc.clone(), deployment.ledger).await.expect("attached");
    assert_eq!((world.ledger.config().deposit_min, ledger.config().deposit_min), (Amount::ZERO, plan.deposit_min));

    let payer = Payer::new(ledger, submitter(&world.rpc, PAYER));
    refused(payer.open(&open_request(1, 1_999)).await, "DepositTooSmall");
    let opening = payer.open(&open_request(1, 2_000)).await.expect("opened");
    refused(payer.top_up(opening.channel, 1_999).await, "DepositTooSmall");
    payer.top_up(opening.channel, 2_000).await.expect("topped up");

    plan.deposit_min = Amount::from_units(1 << 64);
    assert!(matches!(deploy(&deployer, &plan).await, Err(ChainError::InvalidInput { .. })));
}

#[tokio::test]
async fn a_token_without_return_values_and_with_stubborn_allowances_works() {
    let world = world_with(TokenChoice::TestUsdt).await;
    let payer = world.payer();
    // Leaves an allowance that is neither zero nor enough.
    millstream_chain::approve(&submitter(&world.rpc, PAYER), world.deployment.token, world.deployment.ledger, 10)
        .await
        .expect("approved");
    let opening = payer.open(&open_request(1, 1_000_000)).await.expect("opened");
    let (deposit, _) = payer.top_up(opening.channel, 1_000_000).await.expect("topped up");
    assert_eq!(deposit, Amount::from_nanos(2_000_000_000));
}

#[tokio::test]
async fn a_signed_opening_is_relayed_by_another_account() {
    let world = world().await;
    let relayer = submitter(&world.rpc, BYSTANDER);
    let request = open_request(4, 1_000_000);
    let authorization = OpenAuthorization::sign(&world.ledger, &key(PAYER), request, FAR).await.expect("signed");
    let coins = millstream_chain::coin_balance(&world.rpc, DEV_ACCOUNTS[PAYER].address).await.expect("a balance");
    let opening = authorization.relay(&world.ledger, &relayer).await.expect("relayed");
    let channel = world.ledger.channel(opening.channel).await.expect("read").expect("there");
    assert_eq!((channel.payer, channel.deposit), (DEV_ACCOUNTS[PAYER].address, Amount::from_nanos(1_000_000_000)));
    assert_eq!(millstream_chain::coin_balance(&world.rpc, DEV_ACCOUNTS[PAYER].address).await, Ok(coins));
    assert_eq!(token_balance(&world.rpc, world.deployment.token, DEV_ACCOUNTS[BYSTANDER].address).await, Ok(1_000_000_000_000));
    refused(authorization.relay(&world.ledger, &relayer).await, "ChannelExists");
}

#[tokio::test]
async fn a_signed_opening_that_was_tampered_with_is_refused() {
    let world = world().await;
    let relayer = submitter(&world.rpc, BYSTANDER);
    let good = OpenAuthorization::sign(&world.ledger, &key(PAYER), open_request(4, 1_000_000), FAR).await.expect("signed");
    let check = async |change: fn(&mut OpenAuthorization), name: &str| {
        let mut bad = good.clone();
        change(&mut bad);
        refused(bad.relay(&world.ledger, &relayer).await, name);
    };
    check(|bad| bad.payer = DEV_ACCOUNTS[BYSTANDER].address, "ERC3009InvalidSignature").await;
    check(|bad| bad.request.deposit_base_units += 1, "ERC3009InvalidSignature").await;
    check(|bad| bad.request.salt = [5; 32], "ERC3009InvalidSignature").await;
    check(|bad| bad.request.key = voucher_key(1), "ERC3009InvalidSignature").await;
    check(|bad| bad.valid_before_secs += 1, "ERC3009InvalidSignature").await;
    check(|bad| bad.signature[10] ^= 1, "ERC3009InvalidSignature").await;
    let late = OpenAuthorization::sign(&world.ledger, &key(PAYER), open_request(4, 1_000_000), Timestamp::from_millis(1_000)).await;
    refused(late.expect("signed").relay(&world.ledger, &relayer).await, "ERC3009InvalidAuthorizationTime");
    good.relay(&world.ledger, &relayer).await.expect("the untouched one still works");
}
