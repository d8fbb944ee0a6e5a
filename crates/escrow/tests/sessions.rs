//! MPP `evm/session` from the client's header to the chain: real gateway, node, contract and chain.

mod support;

use std::time::Duration;

use millstream_dialect::mpp::ProblemKind;
use millstream_escrow::EscrowSection;
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, EscrowChannelId};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher};
use reqwest::{Method, StatusCode};

use support::session::{SessionPayer, contract, tokens};
use support::{Chain, House, OPERATOR, PAYER, Plan, Upstream, total, until};

const GRACE_SECS: u64 = 900;
const CALLS: &str = "0.001 USDC / call";
const TOKENS: &str = "0.00001 USDC / output_token";

struct World {
    chain: Chain,
    upstream: Upstream,
    directory: tempfile::TempDir,
}

async fn world() -> World {
    World { chain: Chain::start().await, upstream: Upstream::start().await, directory: tempfile::tempdir().expect("a directory") }
}

impl World {
    async fn house(&self, plan: &Plan) -> House {
        House::start(&self.chain, self.directory.path(), &self.upstream, plan).await
    }

    /// Of the payer, the provider and the escrow.
    async fn balances(&self, payer: &SessionPayer) -> [u128; 3] {
        let provider = DEV_ACCOUNTS[OPERATOR].address;
        let [payer, escrow] = [payer.terms.payer, payer.domain.contract()];
        [self.chain.balance(payer).await, self.chain.balance(provider).await, self.chain.balance(escrow).await]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_opened_paid_from_topped_up_and_closed() {
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (mut payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    let before = world.balances(&payer).await;

    // A voucher on a channel that nobody knows.
    let answer = payer.send(&url, &payer.paying(1_000)).await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::GONE, Some(ProblemKind::ChannelNotFound)), "{answer:?}");
    // More than the deposit will be: no gas is spent.
    let answer = payer.send(&url, &payer.opening(3_001, 3_000)).await;
    assert_eq!((answer.status, payer.state(&world.chain).await.0), (StatusCode::PAYMENT_REQUIRED, 0), "{answer:?}");
    // Opened and paid in one request.
    let answer = payer.send(&url, &payer.opening(1_000, 3_000)).await;
    assert_eq!((answer.status, answer.body.as_str(), answer.totals()), (StatusCode::OK, "ok", (1_000, 1_000)), "{answer:?}");
    assert!(answer.receipt().tx_hash.is_some());
    assert_eq!(payer.state(&world.chain).await, (3_000, 0, false));
    // The same opening once more is there already; its voucher pays for nothing new.
    let answer = payer.send(&url, &payer.opening(1_000, 3_000)).await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::InsufficientBalance)), "{answer:?}");
    assert_eq!(answer.member("requiredCumulative").as_deref(), Some("2000"), "{answer:?}");
    assert_eq!(answer.offers, 1);

    // Vouchers alone; signed ahead, one is enough for two requests.
    assert_eq!(payer.send(&url, &payer.paying(3_000)).await.totals(), (2_000, 3_000));
    assert_eq!(payer.send(&url, &payer.paying(3_000)).await.totals(), (3_000, 3_000));
    let answer = payer.send(&url, &payer.paying(4_000)).await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::AmountExceedsDeposit)), "{answer:?}");
    // Topped up alone, and together with a voucher.
    let top_up = payer.topping_up(1_000);
    let answer = payer.send(&url, &top_up).await;
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (3_000, 3_000)), "{answer:?}");
    assert!(answer.receipt().tx_hash.is_some() && answer.charged.is_none());
    let top_up = payer.topping_up_with_voucher(5_500, 1_500);
    let answer = payer.send(&url, &top_up).await;
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (4_000, 5_500)), "{answer:?}");
    assert_eq!(payer.state(&world.chain).await, (5_500, 0, false));

    // A close is over exactly what was charged.
    for wrong in [5_500, 3_999, 0] {
        let answer = payer.send(&url, &payer.closing(wrong)).await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::VerificationFailed)), "{answer:?}");
        assert_eq!(answer.member("requiredCumulative").as_deref(), Some("4000"), "{answer:?}");
    }
    let answer = payer.send(&url, &payer.closing(4_000)).await;
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (4_000, 5_500)), "{answer:?}");
    assert!(answer.receipt().tx_hash.is_some());
    assert_eq!(payer.state(&world.chain).await, (5_500, 4_000, true));
    assert_eq!(world.balances(&payer).await, [before[0] - 4_000, before[1] + 4_000, before[2]]);

    for payload in [payer.paying(5_500), payer.closing(4_000), payer.opening(1_000, 3_000)] {
        let answer = payer.send(&url, &payload).await;
        assert_eq!((answer.status, answer.kind()), (StatusCode::GONE, Some(ProblemKind::ChannelFinalized)), "{answer:?}");
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_run_at_once_on_one_session() {
    const REQUESTS: usize = 40;
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    assert_eq!(payer.head(&url, &payer.opening(30_000, 100_000)).await.status, StatusCode::OK);
    // Thirty are paid for by what is signed, whichever they are.
    let offer = payer.offer(&url).await;
    let payload = payer.paying(30_000);
    let requests = (0..REQUESTS).map(|_| payer.send_with(Method::GET, &url, &offer, &payload, None));
    let answers = futures(requests).await;
    let paid = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(paid, 30);
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::OK) {
        assert_eq!(answer.kind(), Some(ProblemKind::InsufficientBalance), "{answer:?}");
    }
    let mut spent: Vec<u128> = answers.iter().filter_map(|answer| Some(answer.receipt.as_ref()?.spent.units())).collect();
    spent.sort_unstable();
    assert_eq!(spent, (1..=30).map(|number| number * 1_000).collect::<Vec<u128>>(), "each charge is counted once");

    // The same request by its own name is charged once.
    let payload = payer.paying(32_000);
    let once = futures((0..5).map(|_| payer.send_with(Method::GET, &url, &offer, &payload, Some("order-7")))).await;
    let paid: Vec<_> = once.iter().filter(|answer| answer.status == StatusCode::OK).collect();
    assert_eq!(paid.len(), 1, "{once:?}");
    let again = payer.send_with(Method::GET, &url, &offer, &payload, Some("order-7")).await;
    assert_eq!((again.status, again.charged), (StatusCode::CONFLICT, Some(1_000)), "{again:?}");
    let other = payer.send_with(Method::GET, &house.url("/other"), &offer, &payload, Some("order-7")).await;
    assert_eq!(other.status, StatusCode::CONFLICT, "{other:?}");
    assert_eq!(payer.send(&url, &payer.closing(31_000)).await.status, StatusCode::OK);
    assert_eq!(payer.state(&world.chain).await, (100_000, 31_000, true));
    house.stop().await;
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in pending.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_asks_for_vouchers_and_waits_for_a_top_up() {
    let world = world().await;
    let house = world.house(&Plan::sessions(TOKENS)).await;
    let (mut payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/chat"));
    let before = world.balances(&payer).await;
    assert_eq!(payer.head(&url, &payer.opening(0, 60)).await.status, StatusCode::OK);
    world.upstream.then(Some(&tokens(10)));
    // Each token is 10; what is signed pays for two.
    let mut stream = payer.stream(&url, &payer.paying(20)).await;
    stream.data(2).await;
    let need = stream.needs().await;
    assert_eq!((need.required_cumulative, need.accepted_cumulative, need.deposit.units()), (total(30), total(20), 60));
    assert!(!need.needs_top_up());
    // Too little, and then enough for three more.
    let answer = payer.head(&url, &payer.paying(25)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(payer.head(&url, &payer.paying(60)).await.status, StatusCode::OK);
    stream.data(4).await;
    let need = stream.needs().await;
    assert_eq!((need.required_cumulative, need.deposit.units()), (total(70), 60));
    assert!(need.needs_top_up());
    // The deposit first; then the voucher, all of it on other connections.
    assert_eq!(payer.head(&url, &payer.paying(70)).await.status, StatusCode::PAYMENT_REQUIRED);
    let top_up = payer.topping_up(40);
    assert_eq!(payer.head(&url, &top_up).await.status, StatusCode::OK);
    assert_eq!(payer.head(&url, &payer.paying(100)).await.status, StatusCode::OK);
    // Four tokens, and the end.
    stream.data(5).await;
    let receipt = stream.receipt().await;
    assert_eq!((receipt.spent, receipt.accepted_cumulative), (total(100), total(100)));
    assert_eq!(payer.send(&url, &payer.closing(100)).await.status, StatusCode::OK);
    assert_eq!(payer.state(&world.chain).await, (100, 100, true));
    assert_eq!(world.balances(&payer).await, [before[0] - 100, before[1] + 100, before[2]]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_waits_for_what_is_delivered_and_lets_nothing_new_begin() {
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    assert_eq!(payer.head(&url, &payer.opening(5_000, 5_000)).await.status, StatusCode::OK);
    world.upstream.close();
    let offer = payer.offer(&url).await;
    let (paying, closing) = (payer.paying(5_000), payer.closing(1_000));
    let work = async {
        let delivered = payer.send_with(Method::GET, &url, &offer, &paying, None);
        let close = async {
            world.upstream.arrival().await;
            // Of two, one is under way, and the other is told so at once.
            let mut first = Box::pin(payer.send_with(Method::GET, &url, &offer, &closing, None));
            let mut second = Box::pin(payer.send_with(Method::GET, &url, &offer, &closing, None));
            let (busy, under_way) = tokio::select! {
                busy = &mut first => (busy, second),
                busy = &mut second => (busy, first),
            };
            assert_eq!((busy.status, busy.kind()), (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::VerificationFailed)), "{busy:?}");
            // Nothing is taken once a close has begun.
            let answer = payer.send_with(Method::GET, &url, &offer, &paying, None).await;
            assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED, "{answer:?}");
            world.upstream.open();
            under_way.await
        };
        tokio::join!(delivered, close)
    };
    let (delivered, closed) = tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time");
    assert_eq!((delivered.status, closed.status, closed.totals().0), (StatusCode::OK, StatusCode::OK, 1_000), "{closed:?}");
    assert_eq!(payer.state(&world.chain).await, (5_000, 1_000, true));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_payer_has_sent_itself_counts_when_the_chain_has_it() {
    let world = world().await;
    let house = world.house(&Plan { confirmations: 2, ..Plan::sessions(CALLS) }).await;
    let (payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    let own = payer.on_chain(&world.chain, PAYER).await;
    let receipt = own.open(&payer.terms, support::units(2_000)).await.expect("opened");
    let (sent, mined) = (payer.opened(1_000, receipt.transaction), async {
        // One more block makes it deep enough.
        world.chain.mine(1).await;
    });
    let (answer, ()) = tokio::join!(payer.send(&url, &sent), mined);
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (1_000, 1_000)), "{answer:?}");
    assert_eq!(answer.receipt().tx_hash, Some(receipt.transaction));
    // A transaction that has nothing to do with it.
    let other = SessionPayer::new(&world.chain, PAYER, 2);
    let answer = other.send(&url, &other.opened(1_000, receipt.transaction)).await;
    assert_eq!((answer.status, answer.kind()), (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::VerificationFailed)), "{answer:?}");
    // By Permit2, through the gateway.
    own.approve_permit2(payer.terms.token, support::units(10_000)).await.expect("approved");
    let by_permit2 = other.opening_by_permit2(1_000, 1_500);
    let confirm = async {
        until("it is mined", async || other.state(&world.chain).await.0 == 1_500).await;
        world.chain.mine(1).await;
    };
    let (answer, ()) = tokio::join!(other.send(&url, &by_permit2), confirm);
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (1_000, 1_000)), "{answer:?}");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_payer_are_apart_and_foreign_vouchers_pay_for_nothing() {
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (first, second) = (SessionPayer::new(&world.chain, PAYER, 1), SessionPayer::new(&world.chain, PAYER, 2));
    let url = house.url("/thing");
    assert_eq!(first.send(&url, &first.opening(2_000, 2_000)).await.totals(), (1_000, 2_000));
    assert_eq!(second.send(&url, &second.opening(1_000, 1_000)).await.totals(), (1_000, 1_000));

    let refused = async |payload| {
        let answer = first.send(&url, &payload).await;
        (answer.status, answer.kind())
    };
    let invalid = (StatusCode::PAYMENT_REQUIRED, Some(ProblemKind::InvalidSignature));
    // Another escrow's domain, another channel's voucher, and another's signature, each under this channel's name.
    let statement = EscrowVoucher { channel: first.channel, cumulative: total(2_000) };
    let elsewhere = EscrowDomain::new(EscrowScheme::EvmSession, first.domain.chain(), Address::from_bytes([7; 20]));
    let signatures = [
        first.key.sign(statement, &elsewhere).expect("128 bits"),
        first.key.sign(EscrowVoucher { channel: second.channel, ..statement }, &first.domain).expect("128 bits"),
        support::secret(PAYER + 1).sign(statement, &first.domain).expect("128 bits"),
    ];
    for signature in signatures {
        let voucher = millstream_voucher::evm::Signed::new(statement, signature.signature().clone());
        let payload = millstream_dialect::mpp::SessionPayload::Voucher { voucher: voucher.clone(), deposit: None };
        assert_eq!(refused(payload).await, invalid);
        assert_eq!(refused(millstream_dialect::mpp::SessionPayload::Close { voucher }).await, invalid);
    }
    // What is signed ahead on one pays for nothing on the other.
    assert_eq!(second.send(&url, &second.paying(1_000)).await.kind(), Some(ProblemKind::InsufficientBalance));
    assert_eq!(first.send(&url, &first.closing(1_000)).await.status, StatusCode::OK);
    assert_eq!(second.send(&url, &second.closing(1_000)).await.status, StatusCode::OK);
    assert_eq!((first.state(&world.chain).await, second.state(&world.chain).await), ((2_000, 1_000, true), (1_000, 1_000, true)));
    assert_ne!(first.channel, EscrowChannelId::from_bytes([0; 32]));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_by_a_crash_at_any_step() {
    let world = world().await;
    let plan = Plan::sessions(CALLS);
    let payer = SessionPayer::new(&world.chain, PAYER, 1);
    let before = world.balances(&payer).await;
    // After the opening, after a voucher, after a charge, while a request is delivered, and after the close.
    let house = world.house(&plan).await;
    assert_eq!(payer.head(&house.url("/thing"), &payer.opening(0, 10_000)).await.status, StatusCode::OK);
    house.crash().await;
    let house = world.house(&plan).await;
    assert_eq!(payer.head(&house.url("/thing"), &payer.paying(4_000)).await.totals(), (0, 4_000));
    house.crash().await;
    let house = world.house(&plan).await;
    assert_eq!(payer.send(&house.url("/thing"), &payer.paying(0)).await.totals(), (1_000, 4_000));
    house.crash().await;
    let house = world.house(&plan).await;
    let url = house.url("/thing");
    let offer = payer.offer(&url).await;
    world.upstream.close();
    let payload = payer.paying(4_000);
    let credential = payer.credential(&offer, &payload);
    let client = payer.client.clone();
    let cut = tokio::spawn(async move { client.get(&url).header("authorization", credential).send().await.is_ok() });
    world.upstream.arrival().await;
    house.crash().await;
    cut.abort();
    world.upstream.open();
    // Nothing of it had been delivered.
    let house = world.house(&plan).await;
    assert_eq!(payer.head(&house.url("/thing"), &payer.paying(4_000)).await.totals(), (1_000, 4_000));
    assert_eq!(payer.send(&house.url("/thing"), &payer.closing(1_000)).await.status, StatusCode::OK);
    house.crash().await;
    let house = world.house(&plan).await;
    let answer = payer.send(&house.url("/thing"), &payer.closing(1_000)).await;
    assert_eq!(answer.status, StatusCode::GONE, "{answer:?}");
    assert_eq!(payer.state(&world.chain).await, (10_000, 1_000, true));
    assert_eq!(world.balances(&payer).await, [before[0] - 1_000, before[1] + 1_000, before[2]]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_that_asks_for_the_close_is_served_no_more() {
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    assert_eq!(payer.send(&url, &payer.opening(2_000, 10_000)).await.totals(), (1_000, 2_000));
    let own = payer.on_chain(&world.chain, PAYER).await;
    own.request_close(payer.channel).await.expect("asked");
    until("the request is seen", async || payer.head(&url, &payer.paying(2_000)).await.status == StatusCode::GONE).await;
    assert_eq!(payer.send(&url, &payer.paying(3_000)).await.kind(), Some(ProblemKind::ChannelFinalized));
    // Both sides agree: then nobody has to wait.
    let answer = payer.send(&url, &payer.closing(1_000)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(payer.state(&world.chain).await, (10_000, 1_000, true));
    assert_eq!(contract(&world.chain).await.grace_secs(), GRACE_SECS);
    house.stop().await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn what_a_leaving_payer_owes_is_settled_before_it_can_leave() {
    let world = world().await;
    let house = world.house(&Plan::sessions(CALLS)).await;
    let (payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    let before = world.balances(&payer).await;
    assert_eq!(payer.send(&url, &payer.opening(1_000, 10_000)).await.totals(), (1_000, 1_000));
    // Signed far ahead; then one over exactly what was charged.
    assert_eq!(payer.send(&url, &payer.paying(7_500)).await.totals(), (2_000, 7_500));
    assert_eq!(payer.head(&url, &payer.paying(2_000)).await.totals(), (2_000, 7_500));
    let own = payer.on_chain(&world.chain, PAYER).await;
    own.request_close(payer.channel).await.expect("asked");
    until("it is settled", async || payer.state(&world.chain).await == (10_000, 2_000, false)).await;
    world.chain.advance_secs(GRACE_SECS + 1).await;
    world.chain.mine(1).await;
    let (_, refunded) = own.withdraw(payer.channel).await.expect("left");
    assert_eq!(refunded, support::units(8_000));
    assert_eq!(payer.state(&world.chain).await, (10_000, 2_000, true));
    assert_eq!(world.balances(&payer).await, [before[0] - 2_000, before[1] + 2_000, before[2]]);
    until("the close is seen", async || payer.send(&url, &payer.closing(2_000)).await.status == StatusCode::GONE).await;
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_is_sent_serves_at_once_up_to_the_limit() {
    let world = world().await;
    let plan = Plan::sessions(CALLS);
    let escrow = EscrowSection { deposit_wait_secs: 2, optimistic_channel_max: 2_000, optimistic_total_max: 9_000, ..plan.escrow };
    let house = world.house(&Plan { escrow, ..plan }).await;
    let (mut payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    let automine = async |on: bool| world.chain.call("evm_setAutomine", serde_json::json!([on])).await;
    automine(false).await;
    // A voucher over all that it will deposit is beyond what is trusted; one for the request is not.
    let answer = payer.send(&url, &payer.opening(1_000, 5_000)).await;
    assert_eq!((answer.status, answer.totals()), (StatusCode::OK, (1_000, 1_000)), "{answer:?}");
    assert_eq!(payer.state(&world.chain).await, (0, 0, false));
    assert_eq!(payer.send(&url, &payer.paying(2_000)).await.totals(), (2_000, 2_000));
    assert_eq!(payer.send(&url, &payer.paying(5_000)).await.status, StatusCode::SERVICE_UNAVAILABLE);
    automine(true).await;
    world.chain.mine(1).await;
    assert_eq!(payer.send(&url, &payer.paying(5_000)).await.totals(), (3_000, 5_000));
    // A top-up alone serves nothing, so it waits to be confirmed.
    automine(false).await;
    let top_up = payer.topping_up(2_000);
    assert_eq!(payer.send(&url, &top_up).await.status, StatusCode::SERVICE_UNAVAILABLE);
    automine(true).await;
    world.chain.mine(1).await;
    let answer = payer.send(&url, &payer.closing(3_000)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(payer.state(&world.chain).await, (7_000, 3_000, true));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_alone_need_nothing_of_x402() {
    let (chain, upstream) = (Chain::of(false, true).await, Upstream::start().await);
    let world = World { chain, upstream, directory: tempfile::tempdir().expect("a directory") };
    let plan = Plan { x402: false, sections: "[payment.exact]".to_owned(), ..Plan::sessions(CALLS) };
    let house = world.house(&plan).await;
    assert_eq!((house.rail.escrow(), house.rail.session_escrow().is_some()), (None, true));
    let (mut payer, url) = (SessionPayer::new(&world.chain, PAYER, 1), house.url("/thing"));
    let before = world.balances(&payer).await;
    assert_eq!(payer.send(&url, &payer.opening(1_000, 3_000)).await.totals(), (1_000, 1_000));
    let top_up = payer.topping_up(1_000);
    assert_eq!(payer.send(&url, &top_up).await.status, StatusCode::OK);
    // What x402 alone has is refused in words.
    let foreign = support::Payer::new(&world.chain, PAYER);
    let refused = foreign.client.get(&url).send().await.expect("answered");
    let offers = refused.headers().get("payment-required").map(|value| value.to_str().expect("text").to_owned());
    let offered = offers.map(|text| millstream_dialect::x402::PaymentRequired::from_header(&text).expect("offers").accepts);
    assert!(offered.is_none_or(|offered| offered.iter().all(|offer| offer.scheme == "exact")));
    house.crash().await;

    let house = world.house(&plan).await;
    let url = house.url("/thing");
    assert_eq!(payer.send(&url, &payer.paying(2_000)).await.totals(), (2_000, 2_000));
    let answer = payer.send(&url, &payer.closing(2_000)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(world.balances(&payer).await, [before[0] - 2_000, before[1] + 2_000, before[2]]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn x402_alone_needs_no_escrow_of_sessions() {
    let (chain, upstream) = (Chain::of(true, false).await, Upstream::start().await);
    let world = World { chain, upstream, directory: tempfile::tempdir().expect("a directory") };
    let house = world.house(&Plan::default()).await;
    assert_eq!((house.rail.escrow().is_some(), house.rail.session_escrow()), (true, None));
    let (mut payer, url) = (support::Payer::new(&world.chain, PAYER), house.url("/thing"));
    assert_eq!(payer.pay(&url, Some(3_000)).await.status, StatusCode::OK);
    assert_eq!(payer.refund(&url, None).await.status, StatusCode::OK);
    assert_eq!(world.chain.state(payer.channel).await, (1_000, 1_000));
    house.stop().await;
}
