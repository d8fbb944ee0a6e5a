//! How a client is answered, in the words of the dialect it spoke.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use millstream_dialect::DialectError;
use millstream_dialect::mpp::{NeedVoucher, ProblemKind, Receipt, SessionEvent, SessionReceipt, moment_text};
use millstream_dialect::x402::Reason;
use millstream_tariff::TariffVersion;
use millstream_types::{Address, Amount, EscrowChannelId};

use super::x402::{code, settled};
use super::{Asked, Refusal, Terms, insert, now};
use crate::body::Body;
use crate::port::{Accepted, Charge, Funded, PortError, Rejection, Released, RequestId, Standing};
use crate::problem::Problem;

/// Milliseconds after which a client whose channel or id is busy may come back.
const BUSY_MILLIS: u64 = 500;
/// What the comment begins with that a stream ends with that was paid for by x402.
const X402_COMMENT: &str = "x402-settlement";

/// One client's dialect, for one request.
#[derive(Clone)]
pub(crate) struct Speech {
    terms: Arc<Terms>,
    asked: Asked,
    spoken: Spoken,
    funded: Option<Funded>,
}

/// What the client spoke.
#[derive(Clone)]
pub(super) enum Spoken {
    X402 { payer: Address },
    Mpp { offer_id: String, channel: EscrowChannelId },
}

impl Speech {
    pub(super) fn new(terms: &Arc<Terms>, asked: &Asked, spoken: Spoken) -> Self {
        Self { terms: Arc::clone(terms), asked: asked.clone(), spoken, funded: None }
    }

    /// A deposit was made on the way: the receipt says so.
    pub(crate) fn note_funded(&mut self, funded: Option<Funded>) {
        self.funded = funded;
    }

    /// The header that the receipt is in.
    pub(crate) const fn receipt_header(&self) -> &'static str {
        match self.spoken {
            Spoken::X402 { .. } => "payment-response",
            Spoken::Mpp { .. } => "payment-receipt",
        }
    }

    /// How long a stream waits for the next voucher, where vouchers come during streams.
    pub(crate) fn waits_for_vouchers(&self) -> Option<Duration> {
        match self.spoken {
            Spoken::X402 { .. } => None,
            Spoken::Mpp { .. } => self.terms.mpp.as_ref().map(|mpp| mpp.voucher_wait),
        }
    }

    /// The receipt of a charge of this request, as a header or trailer. It names the prices that it was made under.
    pub(crate) fn charged(&self, headers: &mut HeaderMap, charge: &Charge) {
        self.put_charge(headers, charge, Some(self.asked.tariff.version()));
    }

    fn put_charge(&self, headers: &mut HeaderMap, charge: &Charge, tariff: Option<&TariffVersion>) {
        let receipt = match &self.spoken {
            Spoken::X402 { payer } => settled(&self.terms, payer, self.deposited(), Some(charge.amount), &charge.standing, tariff),
            Spoken::Mpp { offer_id, channel } => {
                self.charge_receipt(offer_id, channel, charge, tariff).and_then(|receipt| receipt.to_header())
            }
        };
        self.put(headers, receipt);
    }

    /// The answer of an upstream that is not charged.
    pub(crate) fn not_charged(&self, headers: &mut HeaderMap, standing: &Standing) {
        // MPP has receipts for payments only; an x402 client must know that its next voucher begins where the last one did.
        if let Spoken::X402 { payer } = &self.spoken {
            self.put(headers, settled(&self.terms, payer, self.deposited(), Some(Amount::ZERO), standing, None));
        }
    }

    /// The receipt at the end of a stream of events.
    pub(crate) fn receipt_event(&self, charge: &Charge) -> Option<Bytes> {
        let tariff = Some(self.asked.tariff.version());
        let event = match &self.spoken {
            // The header's own text, as a comment: x402 has no event of its own yet, and clients of x402 hand whatever event comes to a program
            // that knows nothing of it.
            Spoken::X402 { payer } => settled(&self.terms, payer, self.deposited(), Some(charge.amount), &charge.standing, tariff)
                .map(|text| format!(": {X402_COMMENT} {text}\n\n")),
            Spoken::Mpp { offer_id, channel } => {
                self.charge_receipt(offer_id, channel, charge, tariff).and_then(|receipt| SessionEvent::Receipt(receipt).to_stream())
            }
        };
        self.logged(event).map(Bytes::from)
    }

    /// The event that asks for a voucher over `missing` more than is there.
    pub(crate) fn need_voucher_event(&self, standing: &Standing, missing: Amount) -> Option<Bytes> {
        let Spoken::Mpp { channel, .. } = &self.spoken else { return None };
        // What is signed and still free was taken already.
        let still = missing.checked_sub(standing.available()).unwrap_or(missing);
        let need = NeedVoucher {
            channel_id: *channel,
            required_cumulative: standing.accepted.checked_add(still).ok()?,
            accepted_cumulative: standing.accepted,
            deposit: standing.announced,
        };
        self.logged(SessionEvent::NeedVoucher(need).to_stream()).map(Bytes::from)
    }

    /// A voucher or a deposit was taken, and nothing delivered.
    pub(super) fn accepted(&self, headers: &mut HeaderMap, accepted: &Accepted) {
        let funded = accepted.funded.as_ref();
        let receipt = match &self.spoken {
            Spoken::X402 { payer } => settled(&self.terms, payer, funded.map(moved), Some(Amount::ZERO), &accepted.standing, None),
            Spoken::Mpp { offer_id, channel } => {
                let transaction = funded.map(|funded| funded.transaction.as_str());
                self.session_receipt(offer_id, channel, &accepted.standing, transaction).and_then(|receipt| receipt.to_header())
            }
        };
        self.put(headers, receipt);
    }

    /// A deposit was given back.
    pub(super) fn released(&self, headers: &mut HeaderMap, released: &Released) {
        let receipt = match &self.spoken {
            Spoken::X402 { payer } => {
                settled(&self.terms, payer, Some((released.transaction.as_str(), released.amount)), None, &released.standing, None)
            }
            Spoken::Mpp { offer_id, channel } => self
                .session_receipt(offer_id, channel, &released.standing, Some(&released.transaction))
                .and_then(|receipt| receipt.to_header()),
        };
        self.put(headers, receipt);
    }

    /// The request with this id was charged before.
    pub(crate) fn already_charged(&self, charge: &Charge, request: &RequestId) -> Response<Body> {
        let detail = "This request was charged before, under the same id; its answer is not kept. Use a new id for a new request.";
        let problem =
            Problem::new(StatusCode::CONFLICT, "already-charged", detail).charged(charge.amount).on_channel(charge.standing.channel);
        let mut response = problem.respond(request);
        // The prices of that time need not be those of now.
        self.put_charge(response.headers_mut(), charge, None);
        response
    }

    /// What the port would not do.
    pub(crate) fn refused(&self, error: &PortError, request: &RequestId) -> Response<Body> {
        match error {
            PortError::Rejected(rejection) => self.terms.offer(&self.asked, Some(self.rejection(rejection))),
            PortError::Unavailable { retry_after_millis } => {
                let detail = "The ledger cannot commit now; nothing was charged, try again.";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger-unavailable", detail);
                problem.retryable(*retry_after_millis).respond(request)
            }
            PortError::Fault { reason } => {
                tracing::error!(request = request.as_str(), reason, "the ledger failed");
                let detail = "The ledger failed; what this request cost is on the channel's statement.";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail).respond(request)
            }
        }
    }

    fn rejection(&self, rejection: &Rejection) -> Refusal {
        // MPP's kind of problem, x402's reason, and where the channel stands.
        let (kind, reason, standing) = match rejection {
            Rejection::UnknownChannel => (Some(ProblemKind::ChannelNotFound), Some(Reason::BatchChannelNotFound), None),
            Rejection::ChannelClosed | Rejection::ChannelClosing => {
                (Some(ProblemKind::ChannelFinalized), Some(Reason::BatchMissingChannel), None)
            }
            Rejection::ChannelBusy(standing) => (Some(ProblemKind::VerificationFailed), Some(Reason::BatchChannelBusy), Some(standing)),
            Rejection::TotalMismatch { standing, .. } => {
                (Some(ProblemKind::VerificationFailed), Some(Reason::BatchCumulativeAmountMismatch), Some(standing))
            }
            Rejection::BelowSettled(standing) => {
                (Some(ProblemKind::VerificationFailed), Some(Reason::BatchCumulativeBelowClaimed), Some(standing))
            }
            Rejection::DeltaTooSmall { .. } => (Some(ProblemKind::DeltaTooSmall), Some(Reason::BatchCumulativeAmountMismatch), None),
            Rejection::AboveDeposit(standing) => {
                (Some(ProblemKind::AmountExceedsDeposit), Some(Reason::BatchCumulativeExceedsBalance), Some(standing))
            }
            Rejection::Insufficient { standing, .. } => {
                (Some(ProblemKind::InsufficientBalance), Some(Reason::BatchInsufficientBalance), Some(standing))
            }
            Rejection::BadSignature => (Some(ProblemKind::InvalidSignature), Some(Reason::BatchVoucherSignature), None),
            Rejection::DepositRefused { reason } => {
                let known = reason.parse().unwrap_or(Reason::BatchDepositSimulationFailed);
                (Some(ProblemKind::VerificationFailed), Some(known), None)
            }
            Rejection::Reverted { .. } => (Some(ProblemKind::TransactionReverted), Some(Reason::BatchDepositTransactionFailed), None),
            Rejection::IdConflict | Rejection::IdInFlight | Rejection::Policy { .. } | Rejection::NeedsApproval { .. } => {
                (None, None, None)
            }
            // Of single payments only.
            Rejection::AuthorizationUsed | Rejection::AuthorizationTimes | Rejection::Uncollectable { .. } | Rejection::PayerInDefault => {
                (Some(ProblemKind::VerificationFailed), None, None)
            }
        };
        let detail = format!("{rejection}; nothing was charged.");
        let mut problem = match (kind, &self.spoken) {
            (Some(kind), Spoken::Mpp { .. }) => Problem::of(kind, detail),
            // x402 has one status for everything that a payment can be refused for.
            (Some(kind), Spoken::X402 { .. }) => {
                let code = reason.map_or_else(|| Problem::code_of(kind).to_owned(), code);
                Problem::new(StatusCode::PAYMENT_REQUIRED, &code, detail)
            }
            (None, _) => match rejection {
                Rejection::IdConflict => Problem::new(StatusCode::CONFLICT, "id-conflict", detail),
                Rejection::IdInFlight => Problem::new(StatusCode::CONFLICT, "id-in-flight", detail),
                Rejection::Policy { rule } => Problem::new(StatusCode::FORBIDDEN, "policy", detail).by_policy(rule),
                Rejection::NeedsApproval { .. } => Problem::needs_approval(detail),
                _ => Problem::new(StatusCode::PAYMENT_REQUIRED, "verification-failed", detail),
            },
        };
        if matches!(rejection, Rejection::ChannelBusy(_) | Rejection::IdInFlight) {
            problem = problem.retryable(BUSY_MILLIS);
        }
        if let Some(standing) = standing {
            let required = match rejection {
                Rejection::Insufficient { required, .. } => Some(*required),
                Rejection::TotalMismatch { expected, .. } => Some(*expected),
                _ => None,
            };
            problem = problem.on_channel(standing.channel).totals(required, standing.accepted);
        }
        Refusal { problem, reason: reason.map(|reason| reason.as_str().to_owned()), correction: standing.cloned() }
    }

    fn deposited(&self) -> Option<(&str, Amount)> {
        self.funded.as_ref().map(moved)
    }

    /// MPP's receipt of a charge: the session's, with what this request cost and the node's own receipt.
    fn charge_receipt(
        &self,
        offer_id: &str,
        channel: &EscrowChannelId,
        charge: &Charge,
        tariff: Option<&TariffVersion>,
    ) -> Result<Receipt, DialectError> {
        let transaction = self.funded.as_ref().map(|funded| funded.transaction.as_str());
        let mut receipt = self.session_receipt(offer_id, channel, &charge.standing, transaction)?;
        receipt.more.insert("charged", charge.amount.to_string().into());
        receipt.more.insert("receipt", charge.receipt.clone().into());
        if let Some(tariff) = tariff {
            receipt.more.insert("tariff", tariff.to_string().into());
        }
        Ok(receipt)
    }

    fn session_receipt(
        &self,
        offer_id: &str,
        channel: &EscrowChannelId,
        standing: &Standing,
        transaction: Option<&str>,
    ) -> Result<Receipt, DialectError> {
        let receipt = SessionReceipt {
            timestamp: moment_text("timestamp", now())?,
            challenge_id: offer_id.to_owned(),
            channel_id: *channel,
            accepted_cumulative: standing.accepted,
            spent: standing.charged,
            chain_id: self.terms.chain.get(),
            units: None,
            tx_hash: transaction.and_then(|transaction| transaction.parse().ok()),
            confirmations: None,
        };
        receipt.to_receipt()
    }

    fn put(&self, headers: &mut HeaderMap, receipt: Result<String, DialectError>) {
        if let Some(receipt) = self.logged(receipt) {
            insert(headers, self.receipt_header(), &receipt);
        }
    }

    /// What was made here can be written: if not, it is our mistake, and no reason to withhold what was paid for.
    fn logged<T>(&self, written: Result<T, DialectError>) -> Option<T> {
        written
            .inspect_err(|error| tracing::error!(request = self.asked.request.as_str(), error = %error, "a receipt cannot be written"))
            .ok()
    }
}

fn moved(funded: &Funded) -> (&str, Amount) {
    (funded.transaction.as_str(), funded.amount)
}
