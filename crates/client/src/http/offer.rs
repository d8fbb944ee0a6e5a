//! What a 402 offers, in either dialect, as quotes that can be compared.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use millstream_dialect::mpp::{CHARGE, ChargeRequest, CredentialHeader, CredentialType, EVM, Offer, SESSION, SessionRequest};
use millstream_dialect::x402::{
    BATCH_SETTLEMENT, BatchOffer, EXACT, ExactOffer, PAYMENT_REQUIRED, PaymentRequired, PaymentRequirements, TransferMethod,
};
use millstream_types::{Address, Amount, ChainId, Timestamp};

use super::asset::{Asset, AssetId};
use super::book::Scheme;
use super::error::Refusal;

/// One way to pay, understood.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) asset: AssetId,
    pub(super) payee: Address,
    /// The most that the request costs; of an MPP session, the price of one unit, which is what it begins with.
    pub(super) price: Amount,
    pub(super) way: Way,
}

/// The offer itself.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Batch { required: Box<PaymentRequired>, chosen: PaymentRequirements, offer: Box<BatchOffer> },
    Exact { required: Box<PaymentRequired>, chosen: PaymentRequirements, offer: Box<ExactOffer>, timeout_secs: u64 },
    Session { offer: Box<Offer>, request: Box<SessionRequest> },
    Charge { offer: Box<Offer>, request: Box<ChargeRequest> },
}

/// An offer that is not understood, and why.
pub(super) type Passed = (String, Refusal);

/// What a 402 says.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) quotes: Vec<Quote>,
    pub(super) passed: Vec<Passed>,
    /// x402's word for what was wrong with a payment.
    pub(super) reason: Option<String>,
}

impl Quote {
    pub(super) const fn scheme(&self) -> Scheme {
        match self.way {
            Way::Batch { .. } => Scheme::Batch,
            Way::Exact { .. } => Scheme::Exact,
            Way::Session { .. } => Scheme::Session,
            Way::Charge { .. } => Scheme::Charge,
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} at {}", self.scheme().name(), self.price)
    }

    /// Whether the token can be moved in a way that both sides know.
    pub(super) fn has_way(&self, asset: &Asset) -> Result<(), Refusal> {
        let own = asset.domain.is_some();
        let no_way = |holds: bool, reason| if holds { Ok(()) } else { Err(Refusal::NoWay(reason)) };
        match &self.way {
            Way::Batch { .. } => Ok(()),
            Way::Exact { offer, .. } => no_way(
                offer.method == TransferMethod::Permit2 || own || offer.token_domain.is_some(),
                "nobody says the name and version in the token's domain",
            ),
            Way::Session { request, .. } => no_way(
                request.takes(CredentialType::Permit2) || (request.takes(CredentialType::Authorization) && own),
                "the server takes no signed deposit that can be made here",
            ),
            Way::Charge { request, .. } => {
                no_way(request.takes(CredentialType::Authorization) && own, "the server takes no signed transfer of this token")
            }
        }
    }

    /// Whether it can still be taken.
    pub(super) fn is_current(&self, now: Timestamp) -> bool {
        match &self.way {
            Way::Batch { .. } | Way::Exact { .. } => true,
            Way::Session { offer, .. } | Way::Charge { offer, .. } => {
                offer.terms.expires().is_ok_and(|end| end.is_none_or(|end| end > now))
            }
        }
    }
}

impl Offers {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut offers = Self::default();
        if let Some(value) = headers.get(PAYMENT_REQUIRED) {
            match PaymentRequired::from_header(value.to_str().unwrap_or_default()) {
                Ok(required) => {
                    offers.reason.clone_from(&required.error);
                    for chosen in &required.accepts {
                        let name = format!("x402 {} on {}", chosen.scheme, chosen.network);
                        offers.put(name, x402(&required, chosen));
                    }
                }
                Err(error) => offers.passed.push((PAYMENT_REQUIRED.to_owned(), error.into())),
            }
        }
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        for offer in Offer::from_headers(values) {
            match offer {
                Ok(offer) => offers.put(format!("MPP {}/{}", offer.terms.method, offer.terms.intent), mpp(offer)),
                Err(error) => offers.passed.push(("WWW-Authenticate".to_owned(), error.into())),
            }
        }
        offers
    }

    fn put(&mut self, name: String, quote: Result<Quote, Refusal>) {
        match quote {
            Ok(quote) => self.quotes.push(quote),
            Err(refusal) => self.passed.push((name, refusal)),
        }
    }
}

fn x402(required: &PaymentRequired, chosen: &PaymentRequirements) -> Result<Quote, Refusal> {
    let boxed = || Box::new(required.clone());
    match chosen.scheme.as_str() {
        BATCH_SETTLEMENT => {
            let offer = Box::new(BatchOffer::from_requirements(chosen)?);
            Ok(Quote {
                asset: AssetId { chain: offer.chain, token: offer.asset },
                payee: offer.pay_to,
                price: offer.amount,
                way: Way::Batch { required: boxed(), chosen: chosen.clone(), offer },
            })
        }
        EXACT => {
            let offer = Box::new(ExactOffer::from_requirements(chosen)?);
            Ok(Quote {
                asset: AssetId { chain: offer.chain, token: offer.asset },
                payee: offer.pay_to,
                price: offer.amount,
                way: Way::Exact { required: boxed(), chosen: chosen.clone(), offer, timeout_secs: chosen.max_timeout_seconds },
            })
        }
        other => Err(Refusal::Unspoken(format!("scheme {other}"))),
    }
}

fn mpp(offer: Offer) -> Result<Quote, Refusal> {
    let terms = &offer.terms;
    match (terms.method.as_str(), terms.intent.as_str()) {
        (EVM, SESSION) => {
            let request: SessionRequest = terms.request()?;
            Ok(Quote {
                asset: AssetId { chain: ChainId::new(request.method_details.chain_id), token: request.currency },
                payee: request.recipient,
                price: request.amount,
                way: Way::Session { offer: Box::new(offer), request: Box::new(request) },
            })
        }
        (EVM, CHARGE) => {
            let request: ChargeRequest = terms.request()?;
            Ok(Quote {
                asset: AssetId { chain: ChainId::new(request.method_details.chain_id), token: request.currency },
                payee: request.recipient,
                price: request.amount,
                way: Way::Charge { offer: Box::new(offer), request: Box::new(request) },
            })
        }
        (method, intent) => Err(Refusal::Unspoken(format!("{method}/{intent}"))),
    }
}

/// The header that an MPP credential goes into.
pub(super) const fn credential_header(offer: &Offer) -> &'static str {
    match offer.terms.header {
        CredentialHeader::Authorization => "authorization",
        CredentialHeader::PaymentAuthorization => "payment-authorization",
    }
}
