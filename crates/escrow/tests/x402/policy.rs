//! A provider's policy in front of its customers: budgets that outlive the process, approvals, and the red button.

use millstream_policy::{PolicyOrder, PolicyReply, PolicyView};
use reqwest::StatusCode;

use crate::support::{Chain, House, PAYER, Payer, Plan, Upstream};

async fn order(house: &House, order: PolicyOrder) -> PolicyReply {
    house.node.payments().policy(order).await.expect("runs").expect("a policy").expect("carried out")
}

async fn shown(house: &House) -> PolicyView {
    match order(house, PolicyOrder::Show).await {
        PolicyReply::Policy(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn plan(rules: &str) -> Plan {
    Plan { sections: format!("[policy]\n{rules}"), ..Plan::default() }
}

/// G-10, R-13: what was charged counts, what was not delivered does not, and a crash loses neither.
#[tokio::test(flavor = "multi_thread")]
async fn a_customer_stays_within_its_budget_whatever_happens_to_the_process() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let plan = plan("[[policy.budget]]\nname = 'customer'\nmax = '0.002 USDC'\nwindow = 'total'\nper = ['agent']\n");
    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    assert_eq!(payer.pay(&url, Some(9_000)).await.status, StatusCode::OK);
    // The upstream fails: nothing was delivered, and nothing is spent.
    upstream.then(None);
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::BAD_GATEWAY);
    house.crash().await;

    let house = House::start(&chain, directory.path(), &upstream, &plan).await;
    let url = house.url("/thing");
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::OK);
    let paid = payer.pay(&url, None).await;
    assert_eq!(paid.status, StatusCode::FORBIDDEN, "{paid:?}");
    let customer = shown(&house).await.counters.into_iter().find(|row| row.rule == "customer").expect("spent");
    assert_eq!((customer.spent.units(), customer.held.units(), payer.charged), (2_000, 0, 2_000));
    house.stop().await;
}

/// G-22 to G-24: the same payment, sent again, goes on once it is approved; G-36: a pause stops everything at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_waits_goes_on_by_the_same_voucher() {
    let (chain, upstream, directory) = (Chain::start().await, Upstream::start().await, tempfile::tempdir().expect("a directory"));
    let house = House::start(&chain, directory.path(), &upstream, &plan("approval_above = ['0.0005 USDC']\n")).await;
    let (mut payer, url) = (Payer::new(&chain, PAYER), house.url("/thing"));
    let paid = payer.pay(&url, Some(9_000)).await;
    assert_eq!(paid.status, StatusCode::SERVICE_UNAVAILABLE, "{paid:?}");
    let view = shown(&house).await;
    let [waiting] = view.approvals.as_slice() else { panic!("{view:?}") };
    assert_eq!((waiting.state.as_str(), waiting.price.units()), ("waiting", 1_000));
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::SERVICE_UNAVAILABLE);
    order(&house, PolicyOrder::Approve { number: waiting.approval }).await;
    let paid = payer.pay(&url, None).await;
    assert_eq!((paid.status, paid.charged()), (StatusCode::OK, 1_000), "{paid:?}");

    order(&house, PolicyOrder::Pause { scope: "all".to_owned(), why: "maintenance".to_owned() }).await;
    assert_eq!(payer.pay(&url, None).await.status, StatusCode::FORBIDDEN);
    let PolicyReply::Decisions(rows) = order(&house, PolicyOrder::Decisions { count: 1 }).await else { panic!("rows") };
    assert_eq!(rows[0].reason.as_ref().map(|reason| reason.text.as_str()), Some("all is paused: maintenance"));
    house.stop().await;
}
