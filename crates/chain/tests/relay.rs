//! Every way in that another account pays the gas for, on a real anvil.

mod common;

use millstream_chain::{
    ChainError, DepositPurpose, ErrorKind, PERMIT2, Relayed, RelayedDeposit, SignedDeposit, coin_balance, place_development_permit2,
    token_balance,
};
use millstream_testkit::{AnvilOptions, DEV_ACCOUNTS};
use millstream_types::{Amount, ChannelId, Timestamp};

use common::{BYSTANDER, PAYER, World, anvil, connect, key, open_request, submitter, voucher_key, world};

const FAR: Timestamp = Timestamp::from_millis(4_000_000_000_000);

#[derive(Clone, Copy, Debug)]
enum Way {
    Authorization,
    Permit,
    Permit2,
}

const WAYS: [Way; 3] = [Way::Authorization, Way::Permit, Way::Permit2];

async fn sign(world: &World, way: Way, purpose: DepositPurpose, nonce: u8, until: Timestamp) -> RelayedDeposit {
    let (ledger, key) = (&world.ledger, key(PAYER));
    let signed = match way {
        Way::Authorization => RelayedDeposit::authorize(ledger, &key, purpose, until).await,
        Way::Permit => RelayedDeposit::permit(ledger, &key, purpose, until).await,
        Way::Permit2 => RelayedDeposit::permit2(ledger, &key, purpose, [nonce; 32], until).await,
    };
    signed.expect("signed")
}

/// A ledger on a chain with Permit2, which may pull the payer's tokens.
async fn world_with_permit2() -> World {
    let world = world().await;
    assert_eq!(place_development_permit2(&world.rpc).await, Ok(true));
    assert_eq!(place_development_permit2(&world.rpc).await, Ok(false));
    world.payer().approve_permit2(u128::from(u64::MAX)).await.expect("approved");
    world
}

fn refused<T: std::fmt::Debug>(result: Result<T, ChainError>, name: &str, what: &str) {
    let error = result.expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Rejection, "{what}: {error}");
    assert_eq!(error.revert().and_then(|revert| revert.name()), Some(name), "{what}: {error}");
}

#[tokio::test]
async fn every_way_opens_and_tops_up_at_the_relayers_cost() {
    let world = world_with_permit2().await;
    let (relayer, account) = (submitter(&world.rpc, BYSTANDER), DEV_ACCOUNTS[PAYER].address);
    let coins = coin_balance(&world.rpc, account).await.expect("a balance");
    let tokens = token_balance(&world.rpc, world.deployment.token, account).await.expect("a balance");
    for (number, way) in (0u8..).zip(WAYS) {
        let open = DepositPurpose::Open(open_request(number, 1_000_000));
        let deposit = sign(&world, way, open, number, FAR).await;
        let Relayed::Opened(opening) = deposit.relay(&world.ledger, &relayer).await.expect("relayed") else { panic!("{way:?}") };
        assert_eq!(world.ledger.channel_id(account, voucher_key(0).x, [number; 32]).await, Ok(opening.channel));
        let channel = world.ledger.channel(opening.channel).await.expect("read").expect("there");
        assert_eq!((channel.payer, channel.deposit), (account, Amount::from_nanos(1_000_000_000)));

        let top_up = DepositPurpose::TopUp { channel: opening.channel, base_units: 500_000, salt: [number; 32] };
        let deposit = sign(&world, way, top_up, number + 100, FAR).await;
        match deposit.relay(&world.ledger, &relayer).await.expect("relayed") {
            Relayed::ToppedUp { deposit, .. } => assert_eq!(deposit, Amount::from_nanos(1_500_000_000)),
            Relayed::Opened(opening) => panic!("{way:?}: {opening:?}"),
        }
        // Once.
        let name = match way {
            Way::Authorization => "ERC3009UsedAuthorization",
            Way::Permit => "ConsentUsed",
            Way::Permit2 => "InvalidNonce",
        };
        refused(deposit.relay(&world.ledger, &relayer).await, name, "a second time");
    }
    assert_eq!(coin_balance(&world.rpc, account).await, Ok(coins));
    assert_eq!(token_balance(&world.rpc, world.deployment.token, account).await, Ok(tokens - 4_500_000));
}

#[tokio::test]
async fn nothing_of_a_relayed_deposit_can_be_changed() {
    let world = world_with_permit2().await;
    // None of those who are named as funders: these need no consent.
    let relayer = submitter(&world.rpc, 4);
    let other = world.payer_of(BYSTANDER).open(&open_request(9, 1_000_000)).await.expect("opened").channel;
    let purposes =
        [DepositPurpose::Open(open_request(1, 1_000_000)), DepositPurpose::TopUp { channel: other, base_units: 1_000_000, salt: [1; 32] }];
    for way in WAYS {
        let name = match way {
            Way::Authorization => "ERC3009InvalidSignature",
            Way::Permit => "ConsentInvalid",
            Way::Permit2 => "InvalidSigner",
        };
        for purpose in purposes {
            let good = sign(&world, way, purpose, 1, FAR).await;
            let check = async |change: fn(&mut RelayedDeposit), what: &str| {
                let mut bad = good.clone();
                change(&mut bad);
                refused(bad.relay(&world.ledger, &relayer).await, name, &format!("{way:?}, {what}"));
            };
            check(|bad| bad.funder = DEV_ACCOUNTS[BYSTANDER].address, "another funder").await;
            check(
                |bad| match &mut bad.purpose {
                    DepositPurpose::Open(request) => request.deposit_base_units += 1,
                    DepositPurpose::TopUp { base_units, .. } => *base_units += 1,
                },
                "another amount",
            )
            .await;
            check(
                |bad| match &mut bad.signed {
                    SignedDeposit::Authorization { valid_before_secs: secs, .. }
                    | SignedDeposit::Permit { deadline_secs: secs, .. }
                    | SignedDeposit::Permit2 { deadline_secs: secs, .. } => *secs += 1,
                },
                "another time",
            )
            .await;
            check(
                |bad| match &mut bad.signed {
                    SignedDeposit::Authorization { signature, .. }
                    | SignedDeposit::Permit { consent: signature, .. }
                    | SignedDeposit::Permit2 { signature, .. } => signature[10] ^= 1,
                },
                "another signature",
            )
            .await;
            if let DepositPurpose::Open(_) = purpose {
                let salt = |bad: &mut RelayedDeposit| {
                    if let DepositPurpose::Open(request) = &mut bad.purpose {
                        request.salt = [5; 32];
                    }
                };
                check(salt, "another salt").await;
            }
        }
        let late = sign(&world, way, purposes[0], 2, Timestamp::from_millis(1_000)).await;
        let name = match way {
            Way::Authorization => "ERC3009InvalidAuthorizationTime",
            Way::Permit => "ConsentExpired",
            Way::Permit2 => "SignatureExpired",
        };
        refused(late.relay(&world.ledger, &relayer).await, name, "too late");
    }
}

#[tokio::test]
async fn a_permit_that_was_presented_before_does_not_stand_in_the_way() {
    let world = world().await;
    let relayer = submitter(&world.rpc, BYSTANDER);
    let open = DepositPurpose::Open(open_request(1, 1_000_000));
    let mut deposit = sign(&world, Way::Permit, open, 0, FAR).await;
    let SignedDeposit::Permit { permit, .. } = &mut deposit.signed else { panic!("a permit") };
    *permit = [0; 65];
    refused(deposit.relay(&world.ledger, &relayer).await, "ERC20InsufficientAllowance", "no allowance");
    // As if someone had: the allowance stands.
    millstream_chain::approve(&submitter(&world.rpc, PAYER), world.deployment.token, world.deployment.ledger, 1_000_000)
        .await
        .expect("approved");
    deposit.relay(&world.ledger, &relayer).await.expect("relayed");
}

#[tokio::test]
async fn a_channel_may_be_paid_for_by_another() {
    let world = world().await;
    let (account, funder) = (DEV_ACCOUNTS[PAYER].address, world.payer_of(BYSTANDER));
    let request = open_request(1, 1_000_000);
    let opening = funder.open_for(account, &request).await.expect("opened");
    assert_eq!(world.ledger.channel(opening.channel).await.expect("read").expect("there").payer, account);
    // The payer's own channel under that salt is another.
    let own = world.payer().open(&request).await.expect("opened");
    assert_ne!(own.channel, opening.channel);
    refused(funder.request_close(opening.channel).await, "NotPayer", "the funder");
    world.payer().request_close(opening.channel).await.expect("asked");
    refused(funder.open_for(millstream_types::Address::from_bytes([0; 20]), &request).await, "InvalidPayer", "nobody");
    refused(world.payer().top_up(ChannelId::from_uid(&[7; 31]), 1).await, "ChannelUnknown", "unknown");
}

#[tokio::test]
async fn permit2_is_placed_on_development_chains_only() {
    let anvil = anvil(&AnvilOptions::default().with_chain_id(8_453));
    let rpc = connect(&anvil).await;
    assert!(matches!(place_development_permit2(&rpc).await, Err(ChainError::InvalidInput { what: "chain", .. })));
    assert_eq!(PERMIT2.to_string(), "0x000000000022d473030f116ddee9f6b43ac78ba3");
}
