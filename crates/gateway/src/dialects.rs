//! The dialects of HTTP 402 on one route: what is offered, what a client's headers say, and how it is answered in its own words.

mod act;
mod charge;
mod exact;
mod mpp;
mod once;
mod speech;
mod x402;

use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use millstream_dialect::mpp::{CHARGE, EVM, ProblemKind, SESSION};
use millstream_dialect::x402::{EXACT, PAYMENT_SIGNATURE_ACCEPTED};
use millstream_tariff::{Tariff, Token};
use millstream_types::{Address, Amount, ChainId, Network, Timestamp};
use millstream_voucher::evm::eip55;
use serde_json::{Value, json};

pub(crate) use act::Act;
use exact::Exact;
use mpp::Mpp;
pub(crate) use once::OnceSpeech;
pub(crate) use speech::Speech;
use x402::X402;
pub(crate) use x402::{channel_state, voucher_state};

use crate::body::Body;
use crate::headers::is_payment;
use crate::port::{ChargePort, LogicalId, RequestId, Standing};
use crate::problem::Problem;
use crate::route::Route;
use crate::tender::{SinglePayment, Tender};
use crate::{ConfigError, GatewayConfig};

/// What is offered, whatever the route.
#[derive(Clone)]
pub(crate) struct Dialects(Arc<Terms>);

/// The terms of every offer.
pub(crate) struct Terms {
    pub(crate) token: Token,
    pub(crate) network: Network,
    pub(crate) chain: ChainId,
    pub(crate) asset: Address,
    pub(crate) asset_name: String,
    pub(crate) asset_version: String,
    pub(crate) pay_to: Address,
    pub(crate) offer_secs: u64,
    pub(crate) realm: String,
    x402: Option<X402>,
    exact: Option<Exact>,
    mpp: Option<Mpp>,
}

/// What a client wants, as far as the price goes.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) route: Arc<Route>,
    pub(crate) tariff: Arc<Tariff>,
    pub(crate) ceiling: Amount,
    /// The address that was asked for.
    pub(crate) resource: String,
    pub(crate) request: RequestId,
    /// The answer is to be a stream of events.
    pub(crate) streams: bool,
}

/// What a client's payment headers are about.
pub(crate) enum Intent {
    /// The request is paid.
    Pay { tender: Box<Tender>, speech: Box<Speech>, at_least: Amount, logical: Option<LogicalId> },
    /// The request is paid by itself.
    Once { payment: Box<SinglePayment>, speech: Box<OnceSpeech>, logical: Option<LogicalId> },
    /// The channel is managed, and nothing is delivered.
    Manage(Box<Act>),
}

impl Dialects {
    pub(crate) fn new(config: &GatewayConfig) -> Result<Self, ConfigError> {
        let payment = &config.payment;
        let value = |key: &str, reason: String| ConfigError::value(format!("payment.{key}"), reason);
        let address = |key: &str, text: &str| {
            let parsed = text.parse::<Address>().map_err(|error| value(key, error.to_string()))?;
            if parsed == Address::ZERO { Err(value(key, "it is the zero address".to_owned())) } else { Ok(parsed) }
        };
        let network: Network = payment.network.parse().map_err(|error| value("network", format!("{error}")))?;
        let chain = network.evm_chain().ok_or_else(|| value("network", "only EVM chains (eip155:…) are paid on".to_owned()))?;
        let token = Token::new(&payment.symbol, payment.decimals).map_err(ConfigError::price("payment.symbol"))?;
        if !(1..=86_400).contains(&payment.offer_secs) {
            return Err(value("offer_secs", "it must be 1 to 86400".to_owned()));
        }
        if config.server.name.is_empty()
            || !config.server.name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte))
        {
            return Err(ConfigError::value("server.name", "it must be printable ASCII without quotes and backslashes"));
        }
        let x402 = payment.x402.as_ref().map(|section| X402::new(section, chain, &token, &address)).transpose()?;
        let mpp = payment.mpp.as_ref().map(|section| Mpp::new(section, chain, &token, &address)).transpose()?;
        let exact = payment.exact.as_ref().map(Exact::new).transpose()?;
        let charges = exact.as_ref().is_some_and(Exact::is_by_token);
        if mpp.as_ref().is_some_and(|mpp| !mpp.has_sessions() && !charges) {
            return Err(value("mpp", "it names no escrow for sessions, and there is no [payment.exact] for charges".to_owned()));
        }
        if x402.is_none() && mpp.is_none() && exact.is_none() && config.routes.iter().any(|route| !route.free) {
            return Err(value("x402", "there is none of [payment.x402], [payment.mpp], [payment.exact]: nobody could pay".to_owned()));
        }
        Ok(Self(Arc::new(Terms {
            token,
            network,
            chain,
            asset: address("asset", &payment.asset)?,
            asset_name: payment.asset_name.clone(),
            asset_version: payment.asset_version.clone(),
            pay_to: address("pay_to", &payment.pay_to)?,
            offer_secs: payment.offer_secs,
            realm: config.server.name.clone(),
            x402,
            exact,
            mpp,
        })))
    }

    pub(crate) fn token(&self) -> &Token {
        &self.0.token
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    pub(crate) fn asset(&self) -> Address {
        self.0.asset
    }

    pub(crate) fn pay_to(&self) -> Address {
        self.0.pay_to
    }

    /// Whether single payments are taken: then the port has to take them.
    pub(crate) fn takes_singles(&self) -> bool {
        self.0.exact.is_some()
    }

    /// Whether a price can be paid at all.
    pub(crate) fn can_sell(&self, tariff: &Tariff) -> bool {
        let terms = &self.0;
        terms.x402.is_some() || terms.mpp.as_ref().is_some_and(Mpp::has_sessions) || self.singles(tariff).is_some()
    }

    /// What takes single payments of a price, if anything does.
    fn singles(&self, tariff: &Tariff) -> Option<&Exact> {
        self.0.exact.as_ref().filter(|exact| exact.sells_by(tariff))
    }

    /// The dialects by name, for people.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let terms = &self.0;
        let charges = terms.exact.as_ref().is_some_and(Exact::is_by_token);
        let names = [
            (terms.x402.is_some(), "x402 v2 batch-settlement"),
            (terms.exact.is_some(), "x402 v2 exact"),
            (terms.mpp.as_ref().is_some_and(Mpp::has_sessions), "MPP evm/session"),
            (terms.mpp.is_some() && charges, "MPP evm/charge"),
        ];
        names.into_iter().filter_map(|(spoken, name)| spoken.then_some(name)).collect()
    }

    /// The offers of a route, for listings.
    pub(crate) fn listed(&self, tariff: &Tariff) -> Vec<Value> {
        let terms = &self.0;
        let common = |(intent, method): (&str, &str)| {
            json!({
                "method": method, "intent": intent, "network": terms.network, "currency": eip55(&terms.asset),
                "recipient": eip55(&terms.pay_to), "symbol": terms.token.symbol(), "decimals": terms.token.decimals(),
                "description": tariff.price().to_string(),
            })
        };
        let exact = self.singles(tariff);
        let offers = [
            (terms.x402.is_some(), ("batch-settlement", "x402")),
            (exact.is_some(), (EXACT, "x402")),
            (terms.mpp.as_ref().is_some_and(Mpp::has_sessions), (SESSION, EVM)),
            (terms.mpp.is_some() && exact.is_some_and(Exact::is_by_token), (CHARGE, EVM)),
        ];
        offers.into_iter().filter(|(offered, _)| *offered).map(|(_, offer)| common(offer)).collect()
    }

    /// Reads a client's payment headers. Nothing when there are none; a problem when they do not pay.
    pub(crate) async fn read(
        &self,
        method: &Method,
        headers: &HeaderMap,
        asked: &Asked,
        port: &dyn ChargePort,
    ) -> Result<Option<Intent>, Box<Refusal>> {
        let x402 = PAYMENT_SIGNATURE_ACCEPTED.iter().find_map(|name| headers.get(*name));
        let mut mpp = headers.get_all(AUTHORIZATION).iter().filter(|value| is_payment(value));
        match (x402, mpp.next(), mpp.next()) {
            (None, None, _) => Ok(None),
            (Some(value), None, _) => match x402::read(&self.0, value, asked) {
                Some(read) => read.map(Some),
                None => Err(Refusal::plain(not_spoken("x402"))),
            },
            (None, Some(value), None) => match &self.0.mpp {
                Some(mpp) => mpp.read(&self.0, method, headers, value, asked, port).await.map(Some),
                None => Err(Refusal::plain(not_spoken("MPP"))),
            },
            _ => {
                let detail = "The request has more than one payment: send one.";
                Err(Refusal::plain(Problem::new(StatusCode::BAD_REQUEST, "two-payments", detail)))
            }
        }
    }

    /// A response that says what is wrong, and offers anew when the status is 402.
    pub(crate) fn offer(&self, asked: &Asked, refusal: Option<Refusal>) -> Response<Body> {
        self.0.offer(asked, refusal)
    }
}

fn not_spoken(dialect: &str) -> Problem {
    Problem::of(ProblemKind::MethodUnsupported, format!("{dialect} is not taken here; take one of the offers."))
}

/// Why a payment does not pay.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
    /// x402's word for it.
    reason: Option<String>,
    /// Where the channel stands, for an x402 client to go on from.
    correction: Option<Box<Standing>>,
}

impl Refusal {
    fn plain(problem: Problem) -> Box<Self> {
        Box::new(Self { problem, reason: None, correction: None })
    }
}

impl Terms {
    fn offer(&self, asked: &Asked, refusal: Option<Refusal>) -> Response<Body> {
        let refusal = refusal.unwrap_or_else(|| {
            let detail = format!("This costs {} at most; pay as one of the offers says.", self.token.show(asked.ceiling));
            *Refusal::plain(Problem::of(ProblemKind::PaymentRequired, detail))
        });
        let status = refusal.problem.status();
        let error = refusal.reason.unwrap_or_else(|| refusal.problem.detail().to_owned());
        let mut response = refusal.problem.under(asked.tariff.version()).respond(&asked.request);
        if status == StatusCode::PAYMENT_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            let x402 = x402::required(self, asked, Some(error), refusal.correction.as_deref());
            let mpp = self.mpp.iter().flat_map(|mpp| mpp.offers(self, asked));
            for (name, value) in
                x402.map(|value| ("payment-required", value)).into_iter().chain(mpp.map(|value| ("www-authenticate", value)))
            {
                match value.map(HeaderValue::try_from) {
                    Ok(Ok(value)) => drop(headers.append(name, value)),
                    Ok(Err(error)) => tracing::error!(name, error = %error, "an offer is no header"),
                    Err(error) => tracing::error!(name, error = %error, "an offer cannot be written"),
                }
            }
        }
        response
    }
}

/// Puts a header in that is known to be one.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The moment.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
