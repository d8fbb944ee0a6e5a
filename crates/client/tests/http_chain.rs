//! The payer of HTTP 402 against everything real: gateway, node, contracts and chain.

#[path = "../../escrow/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use millstream_chain::session_escrow::SessionEscrow;
use millstream_client::http::{
    Asset, AssetId, AssetLimits, ChannelStatus, HttpPayError, HttpPayer, HttpPayerOptions, PayerAccount, Payment, PaymentBook, Recovered,
    Scheme, SpendLimits, Withdrawal,
};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::{Method, Request, StatusCode};
use support::{Chain, House, PAYER, Plan, RECEIVER, Upstream, units, until};

/// Most that a request costs where output tokens are sold at a base unit: what the gateway lets a request ask for.
const TOKENS_MAX: u128 = 4_096;

fn payer(chain: &Chain, directory: &Path) -> HttpPayer {
    payer_with(chain, directory, |_| {})
}

fn payer_with(chain: &Chain, directory: &Path, change: impl FnOnce(&mut HttpPayerOptions)) -> HttpPayer {
    let id = AssetId { chain: chain.rpc.chain(), token: chain.token.token() };
    let asset = Asset { id, symbol: "USDC".to_owned(), decimals: 6, domain: Some(("USD Coin".to_owned(), "2".to_owned())) };
    let limits = SpendLimits::default().allow(asset, AssetLimits { host_day_max: units(5_000_000), ..AssetLimits::default_of(6) });
    let mut options = HttpPayerOptions { limits, schemes: vec![Scheme::Batch], resends_max: 0, ..HttpPayerOptions::default() };
    change(&mut options);
    let account = PayerAccount::from_secret(&DEV_ACCOUNTS[PAYER].secret).expect("a key");
    let book = PaymentBook::open(&directory.join("payments.redb")).expect("opens");
    HttpPayer::new(account, book, options).expect("a client")
}

fn get(house: &House) -> Request {
    Request::new(Method::GET, house.url("/thing").parse().expect("an address"))
}

async fn buy(payer: &HttpPayer, request: Request) -> u128 {
    let response = payer.execute(request).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(response.status(), StatusCode::OK);
    let payment = response.extensions().get::<Payment>().cloned().expect("it was paid");
    response.bytes().await.expect("a body");
    let state = payment.settled().await;
    assert_eq!(state.disputed, None);
    state.charged.expect("told").units()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_requests_leave_what_they_cost_on_the_chain() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::default()).await;
    let account = DEV_ACCOUNTS[PAYER].address;
    let before = chain.balance(account).await;
    let payer = payer_with(&chain, own.path(), |options| options.deposit_multiple = 100);
    for _ in 0..200 {
        assert_eq!(buy(&payer, get(&house)).await, 1_000);
    }
    let channel = payer.book().channels().remove(0);
    assert_eq!((channel.charged.units(), channel.signed.units(), channel.pending), (200_000, 200_000, None));
    // Two deposits of a hundred prices each.
    assert_eq!(chain.state(channel.channel).await.0, 200_000);
    assert_eq!(buy(&payer, get(&house)).await, 1_000);
    assert_eq!(chain.balance(account).await, before - 300_000);
    let refunded = payer.refund(channel.channel, None).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(refunded.units(), 99_000);
    assert_eq!(chain.state(channel.channel).await, (201_000, 201_000));
    assert_eq!(chain.balance(account).await, before - 201_000);
    // The channel goes on.
    assert_eq!(buy(&payer, get(&house)).await, 1_000);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_at_once_on_one_channel_are_charged_once_each() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::default()).await;
    let payer = payer_with(&chain, own.path(), |options| options.deposit_multiple = 64);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (payer, request) = (payer.clone(), get(&house));
        tasks.spawn(async move { buy(&payer, request).await });
    }
    while let Some(cost) = tasks.join_next().await {
        assert_eq!(cost.expect("no panic"), 1_000);
    }
    let channels = payer.book().channels();
    assert_eq!((channels.len(), channels[0].charged.units(), channels[0].signed.units()), (1, 64_000, 64_000));
    payer.refund(channels[0].channel, None).await.expect_err("nothing is left");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_price_is_charged_and_a_lost_book_is_made_good_from_server_and_chain() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let plan = Plan { price: "1 USDC / 1M output_token".to_owned(), ..Plan::default() };
    let house = House::start(&chain, provider.path(), &upstream, &plan).await;
    let answer = |tokens: u32| format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":{tokens}}}}}"#);
    let first = payer(&chain, own.path());
    for tokens in [7, 100, 1] {
        upstream.then(Some(&answer(tokens)));
        assert_eq!(buy(&first, get(&house)).await, u128::from(tokens));
    }
    let known = first.book().channels().remove(0);
    assert_eq!((known.charged.units(), known.signed.units()), (108, 107 + TOKENS_MAX));
    drop(first);
    let on_chain = chain.state(known.channel).await;
    for with_endpoint in [true, false] {
        let empty = directory();
        let payer = payer_with(&chain, empty.path(), |options| {
            if with_endpoint {
                options.rpcs.insert(chain.rpc.chain(), chain.rpc.clone());
            }
        });
        upstream.then(Some(&answer(5)));
        assert_eq!(buy(&payer, get(&house)).await, 5);
        // Nothing was deposited again: what is there was found.
        assert_eq!(chain.state(known.channel).await, on_chain, "{with_endpoint}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_is_paid_once_whoever_asks_again() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::default()).await;
    let keyed = || {
        let mut request = get(&house);
        request.headers_mut().insert("idempotency-key", "order-1".parse().expect("a value"));
        request
    };
    let first = payer(&chain, own.path());
    buy(&first, get(&house)).await;
    upstream.arrival().await;
    upstream.close();
    let waiting = tokio::spawn({
        let (payer, request) = (first.clone(), keyed());
        async move { payer.execute(request).await.map(drop) }
    });
    // The request is paid for and under way when its process goes.
    upstream.arrival().await;
    waiting.abort();
    let _ = waiting.await;
    drop(first);
    upstream.open();
    let second = payer_with(&chain, own.path(), |options| options.busy_wait = Duration::from_secs(20));
    match second.execute(keyed()).await {
        // It was voided with the connection, and bought now.
        Ok(response) => assert_eq!(response.status(), StatusCode::OK),
        // It was charged.
        Err(HttpPayError::ChargedNotAnswered { signed }) => assert_eq!(signed.charged, Some(units(1_000))),
        Err(error) => panic!("{error}"),
    }
    buy(&second, get(&house)).await;
    let channel = second.book().channels().remove(0);
    assert_eq!((channel.charged.units(), channel.signed.units()), (3_000, 3_000));
    assert!(chain.balance(DEV_ACCOUNTS[RECEIVER].address).await <= 3_000);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_at_once_on_one_session_are_charged_once_each_and_the_rest_comes_back() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::sessions("0.001 USDC / call")).await;
    let account = DEV_ACCOUNTS[PAYER].address;
    let before = chain.balance(account).await;
    let payer = payer_with(&chain, own.path(), |options| options.schemes = vec![Scheme::Session]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (payer, request) = (payer.clone(), get(&house));
        tasks.spawn(async move { buy(&payer, request).await });
    }
    while let Some(cost) = tasks.join_next().await {
        assert_eq!(cost.expect("no panic"), 1_000);
    }
    let channel = payer.book().channels().remove(0);
    assert_eq!((channel.charged.units(), channel.signed.units(), channel.pending), (64_000, 64_000, None));
    // Ten prices at a time, by themselves.
    assert_eq!(chain.balance(account).await, before - channel.deposit.units());
    let refunded = payer.refund(channel.channel, None).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(refunded.units(), channel.deposit.units() - 64_000);
    assert_eq!(chain.balance(account).await, before - 64_000);
    // A closed session is for ever: the next request opens another.
    assert_eq!(buy(&payer, get(&house)).await, 1_000);
    assert_eq!(payer.book().channels().len(), 2);
    house.stop().await;
}

/// A payer that knows the chain, of sessions or of channels.
fn knowing(chain: &Chain, directory: &Path, scheme: Scheme) -> HttpPayer {
    payer_with(chain, directory, |options| {
        options.schemes = vec![scheme];
        options.rpcs.insert(chain.rpc.chain(), chain.rpc.clone());
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_lost_its_book_goes_on_with_its_session() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::sessions("0.001 USDC / call")).await;
    let account = DEV_ACCOUNTS[PAYER].address;
    let first = knowing(&chain, own.path(), Scheme::Session);
    for _ in 0..4 {
        assert_eq!(buy(&first, get(&house)).await, 1_000);
    }
    let known = first.book().channels().remove(0);
    drop(first);
    let before = chain.balance(account).await;

    // What was charged since is not known, and the server's word for it is believed: nothing is deposited again.
    let lost = directory();
    let second = knowing(&chain, lost.path(), Scheme::Session);
    assert_eq!(buy(&second, get(&house)).await, 1_000);
    assert_eq!(buy(&second, get(&house)).await, 1_000);
    let found = second.book().channels();
    assert_eq!((found.len(), found[0].channel, found[0].charged.units(), found[0].deposit), (1, known.channel, 6_000, known.deposit));
    assert_eq!(chain.balance(account).await, before);
    // It was counted as spent, once.
    let spent = second.book().spent(found[0].asset, millstream_types::Timestamp::from_millis(0)).total;
    assert_eq!(spent.units(), 6_000);
    assert_eq!(second.refund(known.channel, None).await.expect("closed").units(), known.deposit.units() - 6_000);
    drop(second);

    // An id that was used is passed over.
    let lost = directory();
    let third = knowing(&chain, lost.path(), Scheme::Session);
    assert_eq!(buy(&third, get(&house)).await, 1_000);
    let next = third.book().channels().remove(0);
    assert_ne!(next.channel, known.channel);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_request_may_cost_is_not_believed_of_a_found_session_which_is_left_by_the_chain() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let house = House::start(&chain, provider.path(), &upstream, &Plan::sessions("0.001 USDC / call")).await;
    let account = DEV_ACCOUNTS[PAYER].address;
    let start = chain.balance(account).await;
    let first = knowing(&chain, own.path(), Scheme::Session);
    for _ in 0..5 {
        buy(&first, get(&house)).await;
    }
    let known = first.book().channels().remove(0);
    drop(first);

    let (lost, id) = (directory(), known.channel);
    let careful = payer_with(&chain, lost.path(), |options| {
        options.schemes = vec![Scheme::Session];
        options.rpcs.insert(chain.rpc.chain(), chain.rpc.clone());
        let asset =
            Asset { id: known.asset, symbol: "USDC".to_owned(), decimals: 6, domain: Some(("USD Coin".to_owned(), "2".to_owned())) };
        options.limits = SpendLimits::default().allow(asset, AssetLimits { request_max: units(3_000), ..AssetLimits::default_of(6) });
    });
    let refused = careful.execute(get(&house)).await.expect_err("it says that more was signed than is believed");
    assert!(matches!(&refused, HttpPayError::NotTaken { reason, .. } if reason.contains("before the book was lost")), "{refused}");
    // Asked for, waited for, taken: the server has settled what it was owed meanwhile.
    let submitter = chain.submitter(PAYER);
    let Withdrawal::Waiting { ready_at } = careful.withdraw(id, &submitter).await.expect("asked for") else { panic!("too early") };
    assert_eq!(careful.withdraw(id, &submitter).await.expect("asked for before"), Withdrawal::Waiting { ready_at });
    let refused = careful.execute(get(&house)).await.map(drop);
    // Another session is opened for the next request.
    refused.unwrap_or_else(|error| panic!("{error}"));
    let states = async || {
        let contract = SessionEscrow::attach(chain.rpc.clone(), known.contract).await.expect("deployed");
        contract.newest_state(id).await.expect("read")
    };
    until("what is owed is settled", async || states().await.settled.units() == 5_000).await;
    chain.advance_secs(901).await;
    let taken = careful.withdraw(id, &submitter).await.expect("taken");
    assert_eq!(taken, Withdrawal::Taken(units(known.deposit.units() - 5_000)));
    assert!(matches!(careful.withdraw(id, &submitter).await, Err(HttpPayError::NothingLeft { .. })));
    let channels = careful.book().channels();
    let (left, next) = if channels[0].channel == id { (&channels[0], &channels[1]) } else { (&channels[1], &channels[0]) };
    assert_eq!((&left.status, left.refunded), (&ChannelStatus::Closed, units(known.deposit.units() - 5_000)));
    assert_eq!(chain.balance(account).await, start - 5_000 - next.deposit.units());
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_found_in_the_logs_and_left_without_their_server() {
    let (chain, upstream, provider, own) = (Chain::start().await, Upstream::start().await, directory(), directory());
    let from = chain.rpc.head_height().await.expect("a height");
    let house = House::start(&chain, provider.path(), &upstream, &Plan::sessions("0.001 USDC / call")).await;
    let account = DEV_ACCOUNTS[PAYER].address;
    let start = chain.balance(account).await;
    let mut deposits = 0;
    for scheme in [Scheme::Batch, Scheme::Session] {
        let payer = knowing(&chain, own.path(), scheme);
        buy(&payer, get(&house)).await;
        deposits = payer.book().channels().iter().map(|channel| channel.deposit.units()).sum();
    }
    // Neither book nor server are there any more.
    house.stop().await;
    let lost = directory();
    let payer = knowing(&chain, lost.path(), Scheme::Batch);
    let recovered = payer.recover(chain.rpc.chain(), from, &[]).await.expect("read");
    assert_eq!((recovered.channels.len(), recovered.foreign.len()), (2, 0));
    assert_eq!(recovered.channels.iter().map(|channel| channel.deposit.units()).sum::<u128>(), deposits);
    assert_eq!(payer.recover(chain.rpc.chain(), from, &[]).await.expect("read"), Recovered::default(), "they are in the book");
    let submitter = chain.submitter(PAYER);
    for channel in &recovered.channels {
        let refused = payer.refund(channel.channel, None).await.expect_err("whose it is, is not known");
        assert!(matches!(refused, HttpPayError::NoServer { .. }), "{refused}");
        assert!(matches!(payer.withdraw(channel.channel, &submitter).await, Ok(Withdrawal::Waiting { .. })));
    }
    // A restart goes on where the contract is.
    drop(payer);
    let payer = knowing(&chain, lost.path(), Scheme::Batch);
    assert!(payer.book().channels().iter().all(|channel| matches!(channel.status, ChannelStatus::Suspended(_))));
    chain.advance_secs(901).await;
    let mut taken = 0;
    for channel in &recovered.channels {
        let Ok(Withdrawal::Taken(amount)) = payer.withdraw(channel.channel, &submitter).await else { panic!("it is time") };
        taken += amount.units();
    }
    // The server was gone before it claimed anything, so all of it comes back.
    assert_eq!((taken, chain.balance(account).await), (deposits, start));
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}
