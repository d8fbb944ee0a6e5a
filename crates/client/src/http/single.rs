//! Single payments: x402 `exact` and MPP `charge`. One transfer, signed once; a request that failed is sent again with the same signature, and
//! never with another.

use std::sync::Arc;

use http::StatusCode;
use millstream_dialect::mpp::{Credential, Source};
use millstream_types::CumulativeAmount;
use reqwest::Response;

use super::account::Validity;
use super::batch::{envelope, settle_reason, settle_response};
use super::book::{Outcome, RequestRecord};
use super::error::HttpPayError;
use super::offer::{Offers, Quote, Way, credential_header};
use super::payer::{Inner, Prepared, Verdict, no_offer, secs_on, stopped};
use super::problem::Problem;
use super::ticket::Ticket;
use super::{Refusal, now};

/// Seconds that clocks may differ.
const CLOCK_SECS: u64 = 60;

impl Inner {
    pub(super) async fn pay_single(self: &Arc<Self>, quote: Quote, prepared: &Prepared, id: &str) -> Result<Ticket, HttpPayError> {
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (asset, limits) = self.allowed(&quote).map_err(refused)?;
        let at = now();
        let validity = |secs: u64| Validity {
            after_secs: at.as_secs_down().saturating_sub(CLOCK_SECS),
            before_secs: secs_on(at, secs.min(self.options.signature_secs_max)),
        };
        let header = match &quote.way {
            Way::Exact { required, chosen, offer, timeout_secs } => {
                let offered = offer.token_domain.as_ref().map(|(name, version)| (name.as_str(), version.as_str()));
                let payload = self.account.exact(offer, asset.token_domain(offered).as_ref(), validity(*timeout_secs))?;
                envelope(required, chosen, payload.to_object().map_err(HttpPayError::Write)?, id)?
            }
            Way::Charge { offer, request } => {
                let token = asset.token_domain(None).ok_or_else(|| refused(Refusal::NoWay("the token's domain is not known")))?;
                let ends = offer.terms.expires().ok().flatten();
                let left = ends.map_or(self.options.signature_secs_max, |end| end.millis_since(at).div_ceil(1_000));
                let payload = self.account.charge(offer, request, &token, validity(left))?;
                let credential = Credential {
                    offer: (**offer).clone(),
                    source: Some(Source { chain: quote.asset.chain, account: self.account.address() }.to_string()),
                    payload: payload.to_object().map_err(HttpPayError::Write)?,
                };
                (credential_header(offer).to_owned(), credential.to_header().map_err(HttpPayError::Write)?)
            }
            Way::Batch { .. } | Way::Session { .. } => return Err(refused(Refusal::NoWay("another scheme"))),
        };
        let record = RequestRecord {
            id: id.to_owned(),
            fingerprint: prepared.fingerprint(),
            origin: prepared.origin(),
            asset: quote.asset,
            payee: quote.payee,
            scheme: quote.scheme(),
            channel: None,
            price: quote.price,
            signed_before: CumulativeAmount::ZERO,
            voucher: CumulativeAmount::ZERO,
            header,
            made_at: at,
            outcome: Outcome::UnderWay,
        };
        let durable = self
            .book
            .sign_single(&record, &self.rules(limits, prepared), at)
            .map_err(|error| stopped(prepared, &quote.name(), error))?;
        durable.wait().await?;
        Ok(Ticket::new(self, record, Some(quote), None))
    }

    /// A second 402 is no reason to sign again: nothing proves that the first transfer will not be taken.
    pub(super) async fn judge_single(&self, ticket: &mut Ticket, response: Response) -> Result<Verdict, HttpPayError> {
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Problem::judge(ticket, response).await;
        }
        let settled = settle_response(&response);
        let reason = Offers::read(response.headers()).reason.or_else(|| settle_reason(&response));
        if settled.is_some_and(|settled| settled.success) {
            let price = ticket.record.price;
            return Err(HttpPayError::ChargedNotAnswered { signed: ticket.signed(Some(price)) });
        }
        let (problem, _) =
            Problem::read(response).await.map_err(|source| HttpPayError::Unanswered { signed: ticket.signed(None), source })?;
        let reason = reason.or_else(|| problem.map(|problem| problem.detail)).unwrap_or_else(|| "payment required".to_owned());
        Err(self.refuse(ticket, reason))
    }
}
