//! Judging `exact` payments: one transfer, signed by its payer for the token or for Permit2.

use millstream_chain::x402::{EXACT_PERMIT2_PROXY, ExactPermit2, ExactTransfer};
use millstream_chain::{Call, ChainError, PERMIT2, token_allowance, token_balance, token_titles};
use millstream_dialect::x402::{EXACT, Erc3009Payment, ExactOffer, ExactPayload, ExactWitness, FacilitatorRequest, Permit2Payment, Reason};
use millstream_types::{Address, Uint256};

use super::judge::VALIDITY_SECS;
use super::record::{Kind, Subject, WorkId};
use super::{Refusal, Shared, nothing};

/// A payment as it was read: what it is about, and what makes it the same one.
pub(super) struct ReadExact {
    pub(super) offer: ExactOffer,
    pub(super) payload: ExactPayload,
    pub(super) subject: Subject,
    pub(super) id: WorkId,
}

impl Shared {
    /// Reads a payment of this scheme.
    pub(super) fn read_exact(&self, request: &FacilitatorRequest) -> Result<ReadExact, Refusal> {
        let (requirements, accepted) = (&request.payment_requirements, &request.payment_payload.accepted);
        if !self.terms.section.exact {
            return Err(Reason::UnsupportedScheme.into());
        }
        if requirements.scheme != EXACT || accepted.scheme != EXACT {
            return Err(Reason::ExactScheme.into());
        }
        if requirements.network != accepted.network || requirements.network != self.terms.network {
            return Err(Refusal::new(Reason::ExactNetworkMismatch, format!("{} is served", self.terms.network)));
        }
        let payload = ExactPayload::from_object(&request.payment_payload.payload)
            .map_err(|error| Refusal::new(Reason::UnsupportedPayloadType, error.to_string()))?;
        let offer = ExactOffer::from_requirements(requirements)
            .map_err(|error| Refusal::new(Reason::InvalidPaymentRequirements, error.to_string()))?;
        let least = self.served(&offer.asset, Reason::InvalidPaymentRequirements)?.exact_min;
        if offer.amount < least {
            let message = format!("gas is spent on payments of {least} and more");
            return Err(Refusal::new(Reason::InvalidPaymentRequirements, message));
        }
        let (payer, receiver, nonce, signature) = match &payload {
            ExactPayload::Erc3009(payment) => {
                let fields = &payment.authorization;
                (fields.from, fields.to, *fields.nonce.as_bytes(), &payment.signature)
            }
            ExactPayload::Permit2(payment) => {
                let fields = &payment.permit2_authorization;
                (fields.from, fields.witness.to, fields.nonce.to_be_bytes(), &payment.signature)
            }
        };
        let subject = Subject { channel: nothing(), payer, receiver, token: offer.asset, amount: offer.amount };
        let way = [u8::from(matches!(payload, ExactPayload::Permit2(_)))];
        let parts: [&[u8]; 7] = [
            &way,
            offer.asset.as_bytes(),
            payer.as_bytes(),
            receiver.as_bytes(),
            &offer.amount.units().to_be_bytes(),
            &nonce,
            signature.as_bytes(),
        ];
        let id = WorkId::of(Kind::Exact, &parts);
        Ok(ReadExact { offer, payload, subject, id })
    }

    /// Judges a payment, and gives the call that settles it.
    pub(super) async fn judge_exact(&self, read: &ReadExact) -> Result<Call, Refusal> {
        match &read.payload {
            ExactPayload::Erc3009(payment) => self.judge_exact_transfer(&read.offer, payment).await,
            ExactPayload::Permit2(payment) => self.judge_exact_permit2(&read.offer, payment).await,
        }
    }

    async fn judge_exact_transfer(&self, offer: &ExactOffer, payment: &Erc3009Payment) -> Result<Call, Refusal> {
        let fields = &payment.authorization;
        let Some(domain) = offer.token() else { return Err(Reason::ExactMissingEip712Domain.into()) };
        self.refuse_counterfactual(fields.from, payment.signature.as_bytes(), Reason::Eip6492FactoryNotAllowed).await?;
        if !self.is_signed(payment.signed(), &domain, fields.from).await.map_err(unread)? {
            return Err(Reason::ExactSignature.into());
        }
        let time = self.time_secs().await.map_err(unread)?;
        let checks = [
            (fields.to == offer.pay_to, Reason::ExactRecipientMismatch),
            (fields.valid_before >= Uint256::from(time.saturating_add(VALIDITY_SECS)), Reason::ExactPayloadAuthorizationValidBefore),
            (fields.valid_after <= Uint256::from(time), Reason::ExactPayloadAuthorizationValidAfter),
            (fields.value == offer.amount, Reason::ExactPayloadAuthorizationValueMismatch),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(reason.into());
        }
        let transfer = ExactTransfer {
            token: offer.asset,
            from: fields.from,
            to: fields.to,
            amount: fields.value,
            valid_after: fields.valid_after,
            valid_before: fields.valid_before,
            nonce: fields.nonce,
            signature: payment.signature.clone(),
        };
        match transfer.call(self.submitter()).await {
            Ok(call) => Ok(call),
            Err(ChainError::Reverted { revert, .. }) => {
                let reason = self.why_not(offer, &transfer).await.map_err(unread)?;
                Err(Refusal::new(reason, revert.to_string()))
            }
            Err(error) => Err(refused(&error, Reason::ExactTransactionSimulationFailed)),
        }
    }

    /// What is likely wrong with a transfer that the token does not take.
    async fn why_not(&self, offer: &ExactOffer, transfer: &ExactTransfer) -> Result<Reason, ChainError> {
        match transfer.is_used(self.rpc()).await {
            Ok(false) => {}
            Ok(true) => return Ok(Reason::ExactNonceAlreadyUsed),
            Err(error) if error.is_retryable() => return Err(error),
            Err(_) => return Ok(Reason::ExactEip3009NotSupported),
        }
        let (name, version) = token_titles(self.rpc(), offer.asset).await?;
        let said = offer.token_domain.as_ref();
        let differs = |title: Option<String>, said: Option<&String>| title.zip(said).is_some_and(|(title, said)| title != *said);
        if differs(name, said.map(|(name, _)| name)) {
            return Ok(Reason::ExactTokenNameMismatch);
        }
        if differs(version, said.map(|(_, version)| version)) {
            return Ok(Reason::ExactTokenVersionMismatch);
        }
        let funds = token_balance(self.rpc(), offer.asset, transfer.from).await?;
        Ok(if funds < transfer.amount.units() { Reason::ExactInsufficientBalance } else { Reason::ExactTransactionSimulationFailed })
    }

    async fn judge_exact_permit2(&self, offer: &ExactOffer, payment: &Permit2Payment<ExactWitness>) -> Result<Call, Refusal> {
        let fields = &payment.permit2_authorization;
        let time = self.time_secs().await.map_err(unread)?;
        let checks = [
            (fields.spender == EXACT_PERMIT2_PROXY, Reason::InvalidPermit2Spender),
            (fields.witness.to == offer.pay_to, Reason::InvalidPermit2RecipientMismatch),
            (fields.deadline >= Uint256::from(time.saturating_add(VALIDITY_SECS)), Reason::Permit2DeadlineExpired),
            (fields.witness.valid_after <= Uint256::from(time), Reason::Permit2NotYetValid),
            (fields.permitted.amount == offer.amount, Reason::Permit2AmountMismatch),
            (fields.permitted.token == offer.asset, Reason::Permit2TokenMismatch),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(reason.into());
        }
        let (signed, domain) = payment.signed(offer.chain);
        if !self.is_signed(signed, &domain, fields.from).await.map_err(unread)? {
            return Err(Reason::InvalidPermit2Signature.into());
        }
        let call = ExactPermit2 {
            token: offer.asset,
            from: fields.from,
            to: fields.witness.to,
            amount: offer.amount,
            nonce: fields.nonce,
            deadline: fields.deadline,
            valid_after: fields.witness.valid_after,
            signature: payment.signature.clone(),
        }
        .call();
        match self.submitter().simulate(&call).await {
            Ok(_) => Ok(call),
            Err(ChainError::Reverted { revert, .. }) => {
                let reason = self.why_not_permit2(offer, fields.from, revert.name()).await.map_err(unread)?;
                Err(Refusal::new(reason, revert.to_string()))
            }
            Err(error) => Err(refused(&error, Reason::Permit2SimulationFailed)),
        }
    }

    async fn why_not_permit2(&self, offer: &ExactOffer, payer: Address, said: Option<&str>) -> Result<Reason, ChainError> {
        if !self.rpc().is_contract(EXACT_PERMIT2_PROXY).await? {
            return Ok(Reason::Permit2ProxyNotDeployed);
        }
        if said == Some("InvalidNonce") {
            return Ok(Reason::Permit2InvalidNonce);
        }
        if token_balance(self.rpc(), offer.asset, payer).await? < offer.amount.units() {
            return Ok(Reason::Permit2InsufficientBalance);
        }
        if token_allowance(self.rpc(), offer.asset, payer, PERMIT2).await? < offer.amount.units() {
            return Ok(Reason::Permit2AllowanceRequired);
        }
        Ok(Reason::Permit2SimulationFailed)
    }
}

/// The chain could not be read.
#[allow(clippy::needless_pass_by_value, reason = "it stands at the end of calls")]
fn unread(error: ChainError) -> Refusal {
    Refusal::new(Reason::UnexpectedVerifyError, error.to_string())
}

fn refused(error: &ChainError, reason: Reason) -> Refusal {
    let reason = if error.is_retryable() { Reason::UnexpectedVerifyError } else { reason };
    Refusal::new(reason, error.to_string())
}
