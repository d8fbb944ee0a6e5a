//! Single payments in MPP's words: method `evm`, intent `charge`, by what is signed for the token. Its Permit2 is not offered: nothing in the
//! draft tells a payer which account submits, and that account is what is signed. Its sent transactions are not either: they name no offer,
//! so that anyone who sees one could show it.

use std::sync::Arc;

use millstream_dialect::DialectError;
use millstream_dialect::mpp::{CHARGE, ChargeDetails, ChargePayload, ChargeRequest, Credential, CredentialType, OfferTerms, ProblemKind};
use millstream_types::Uint256;

use super::exact::{Exact, is_counterfactual, token};
use super::mpp::{malformed, offered, refusal};
use super::once::{OnceSpeech, Paying};
use super::{Asked, Intent, Refusal, Terms, now};
use crate::port::LogicalId;
use crate::tender::{SinglePayment, SingleTransfer};

impl Exact {
    /// The offer, where there is one. Its `externalId` is the request's name: no two offers have the same id, and so no two payments the same
    /// nonce.
    pub(super) fn charge_offer(&self, terms: &Terms, asked: &Asked) -> Option<Result<OfferTerms, DialectError>> {
        if !self.is_by_token() || !self.sells(asked) {
            return None;
        }
        let request = charge_request(terms, asked, Some(asked.request.as_str().to_owned()));
        Some(offered(terms, asked, CHARGE, &request, self.timeout_secs))
    }

    /// Reads a credential whose offer is ours and has not ended.
    pub(super) fn read_charge(
        &self,
        terms: &Arc<Terms>,
        credential: &Credential,
        asked: &Asked,
        logical: Option<LogicalId>,
    ) -> Result<Intent, Box<Refusal>> {
        let request: ChargeRequest = credential.offer.terms.request().map_err(|error| malformed(&error))?;
        if !self.sells(asked) || request != charge_request(terms, asked, request.external_id.clone()) {
            return Err(refusal(ProblemKind::InvalidOffer, "The credential echoes an offer of something else; take the new one."));
        }
        let payload = ChargePayload::from_object(&credential.payload).map_err(|error| malformed(&error))?;
        payload
            .check(&credential.offer, &request)
            .map_err(|error| refusal(ProblemKind::VerificationFailed, &format!("The payment is not what the offer asks: {error}.")))?;
        let signed = payload
            .signed_transfer()
            .ok_or_else(|| refusal(ProblemKind::VerificationFailed, "Only what is signed for the token is taken here."))?;
        let transfer = *signed.statement();
        let (now, soon) = (Uint256::from(now().as_millis() / 1_000), Uint256::from((now().as_millis() / 1_000).saturating_add(6)));
        if transfer.valid_before < soon {
            return Err(self.expired());
        }
        if transfer.valid_after >= now {
            return Err(refusal(ProblemKind::VerificationFailed, "The authorisation is not good yet."));
        }
        let source = credential.source().map_err(|error| malformed(&error))?;
        if source.is_some_and(|source| source.account != transfer.from || source.chain != terms.chain) {
            return Err(refusal(ProblemKind::VerificationFailed, "The `source` is not who pays."));
        }
        if is_counterfactual(signed.signature()) {
            return Err(refusal(ProblemKind::VerificationFailed, "The account does not exist yet, and is not made here."));
        }
        let is_verified = signed.clone().verify(&token(terms), transfer.from).is_ok();
        let payment = SinglePayment {
            token: terms.asset,
            payer: transfer.from,
            receiver: terms.pay_to,
            amount: asked.ceiling,
            transfer: SingleTransfer::Erc3009(signed),
            is_verified,
        };
        let paying = Paying::Mpp { offer_id: credential.offer.id.clone(), external_id: request.external_id };
        Ok(Intent::Once { payment: Box::new(payment), speech: Box::new(OnceSpeech::new(terms, asked, paying)), logical })
    }

    pub(super) fn expired(&self) -> Box<Refusal> {
        refusal(ProblemKind::PaymentExpired, "The offer or what was signed for it has ended; take the new one.")
    }
}

fn charge_request(terms: &Terms, asked: &Asked, external_id: Option<String>) -> ChargeRequest {
    ChargeRequest {
        amount: asked.ceiling,
        currency: terms.asset,
        recipient: terms.pay_to,
        description: None,
        external_id,
        method_details: ChargeDetails {
            chain_id: terms.chain.get(),
            permit2_address: None,
            credential_types: Some(vec![CredentialType::Authorization]),
            decimals: Some(terms.token.decimals()),
            splits: Vec::new(),
        },
    }
}
