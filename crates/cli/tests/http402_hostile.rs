//! Upstreams that fail in every way, and requests that come twice, out of order, or whose answers are lost: nobody pays twice, and nobody pays
//! for what was not delivered.

mod http402;

use http402::payer::Answer;
use http402::{Chain, Gateway, PAYER, Payer, RECEIVER, Upstream, wait_for};
use millstream_testkit::DEV_ACCOUNTS;
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt;

const BUSY: &str = "invalid_batch_settlement_evm_channel_busy";
const MISMATCH: &str = "invalid_batch_settlement_evm_cumulative_amount_mismatch";
const PRICE: u128 = 1_000;

struct House {
    chain: Chain,
    upstream: Upstream,
    gateway: Gateway,
    payer: Payer,
    /// What has to be charged.
    charged: u128,
}

impl House {
    /// With one payment made.
    async fn start() -> Self {
        let (chain, upstream) = (Chain::start().await, Upstream::start().await);
        let gateway = Gateway::start(&chain, &upstream).await;
        let payer = Payer::new(&chain, PAYER, 1, &gateway.url("/call")).await;
        let house = Self { chain, upstream, gateway, payer, charged: PRICE };
        let paid = house.send("/call", &house.payer.deposit_header(PRICE, 100_000, 1)).await;
        assert_eq!((paid.status, paid.charged_total()), (StatusCode::OK, Some(PRICE)), "{paid:?}");
        house
    }

    async fn send(&self, path: &str, header: &str) -> Answer {
        self.payer.send(&self.gateway.url(path), header).await.expect("answered")
    }

    /// The payment for the next request.
    fn next(&self) -> String {
        self.payer.header(self.charged + PRICE)
    }

    /// One more, which has to be paid and delivered, and to come to what was charged before.
    async fn pays(&mut self) {
        let paid = self.send("/call", &self.next()).await;
        self.charged += PRICE;
        assert_eq!((paid.status, paid.charged_total()), (StatusCode::OK, Some(self.charged)), "{paid:?}");
    }

    /// The chain says the same in the end.
    async fn ends(self) {
        let receiver = DEV_ACCOUNTS[RECEIVER].address;
        wait_for("the sweep", async || self.chain.balance(receiver).await >= self.charged).await;
        assert_eq!((self.chain.balance(receiver).await, self.chain.state(self.payer.channel).await.1), (self.charged, self.charged));
        self.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_upstream_costs_nothing() {
    let mut house = House::start().await;
    for (path, status) in [("/dies", StatusCode::BAD_GATEWAY), ("/broken", StatusCode::INTERNAL_SERVER_ERROR)] {
        for _ in 0..3 {
            let failed = house.send(path, &house.next()).await;
            assert_eq!(failed.status, status, "{failed:?}");
            assert!(failed.charged_total().is_none_or(|charged| charged == house.charged), "{failed:?}");
        }
        // The voucher that was signed for it is good for the next request.
        house.pays().await;
    }
    house.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_twice_is_charged_once() {
    let mut house = House::start().await;
    // One after the other: the second finds that its total was charged.
    let header = house.next();
    let first = house.send("/call", &header).await;
    house.charged += PRICE;
    assert_eq!((first.status, first.charged_total()), (StatusCode::OK, Some(house.charged)));
    let asked = house.upstream.count("/call");
    let second = house.send("/call", &header).await;
    assert_ne!(second.status, StatusCode::OK, "{second:?}");
    assert_eq!(house.upstream.count("/call"), asked, "delivered once");

    // At once, ten times: one is taken, whichever.
    let header = house.next();
    let url = house.gateway.url("/call");
    let all: Vec<_> = (0..10)
        .map(|_| {
            let (payer, url, header) = (house.payer.clone(), url.clone(), header.clone());
            tokio::spawn(async move { payer.send(&url, &header).await.expect("answered") })
        })
        .collect();
    let mut paid = 0;
    for answer in all {
        let answer = answer.await.expect("no panic");
        match answer.status {
            StatusCode::OK => paid += 1,
            _ => assert!(answer.reason() == BUSY || answer.reason() == MISMATCH || answer.status == StatusCode::CONFLICT, "{answer:?}"),
        }
    }
    house.charged += PRICE;
    assert_eq!((paid, house.upstream.count("/call")), (1, asked + 1));
    house.pays().await;
    house.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_out_of_order_are_put_right() {
    let mut house = House::start().await;
    let early = house.payer.header(house.charged + 2 * PRICE);
    let answer = house.send("/call", &early).await;
    assert_eq!((answer.status, answer.reason()), (StatusCode::PAYMENT_REQUIRED, MISMATCH));
    assert_eq!(answer.charged_total(), Some(house.charged));
    house.pays().await;
    // Now it is its turn.
    let paid = house.send("/call", &early).await;
    house.charged += PRICE;
    assert_eq!((paid.status, paid.charged_total()), (StatusCode::OK, Some(house.charged)), "{paid:?}");
    // And an old one is not taken again.
    let old = house.payer.header(house.charged);
    assert_eq!(house.send("/call", &old).await.reason(), MISMATCH);
    house.pays().await;
    house.ends().await;
}

/// The client leaves before the answer: what was not delivered is not charged.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_first_byte_pays_nothing() {
    let mut house = House::start().await;
    let mut stream = tokio::net::TcpStream::connect(house.gateway.selling.listen).await.expect("connected");
    let request = format!("GET /held HTTP/1.1\r\nhost: {}\r\npayment-signature: {}\r\n\r\n", house.gateway.selling.listen, house.next());
    stream.write_all(request.as_bytes()).await.expect("sent");
    house.upstream.asked("/held", 1).await;
    drop(stream);
    // The service never answers. The gateway finds out in its own time that nobody waits; until then the channel is busy.
    let mut paid = None;
    wait_for("the channel to be free", async || {
        let answer = house.send("/call", &house.next()).await;
        assert!(answer.status == StatusCode::OK || answer.reason() == BUSY, "{answer:?}");
        paid = answer.charged_total().filter(|_| answer.status == StatusCode::OK);
        paid.is_some()
    })
    .await;
    house.charged += PRICE;
    assert_eq!(paid, Some(house.charged));
    house.ends().await;
}

/// A body that ends in the middle is charged at what was delivered: of a price for the call, that is the call.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_by_the_upstream_is_charged_once() {
    let mut house = House::start().await;
    let request = reqwest::Client::new().get(house.gateway.url("/halved")).header("payment-signature", house.next());
    let cut = request.send().await.expect("a head");
    assert_eq!(cut.status(), StatusCode::OK);
    house.upstream.release(1);
    assert!(cut.bytes().await.is_err(), "the client sees that it is cut");
    let corrected = house.send("/call", &house.payer.header(999_999)).await;
    house.charged += PRICE;
    assert_eq!(corrected.charged_total(), Some(house.charged), "{corrected:?}");
    house.pays().await;
    house.ends().await;
}
