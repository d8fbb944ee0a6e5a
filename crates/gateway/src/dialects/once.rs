//! How a client that pays by itself is answered, in the words of the dialect it spoke.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use millstream_dialect::mpp::{EVM, ProblemKind, Receipt, moment_text};
use millstream_dialect::x402::{Reason, SettleResponse, TransferMethod};
use millstream_dialect::{DialectError, Object};
use millstream_types::Address;
use millstream_voucher::evm::eip55;

use super::x402::code;
use super::{Asked, Refusal, Terms, insert, now};
use crate::body::Body;
use crate::port::{Collected, PortError, Rejection, RequestId, Uncollectable};
use crate::problem::Problem;

/// Milliseconds after which a client whose request is under way may come back.
const BUSY_MILLIS: u64 = 500;

/// One client's dialect, for one request that is paid by itself.
#[derive(Clone)]
pub(crate) struct OnceSpeech {
    terms: Arc<Terms>,
    asked: Asked,
    paying: Paying,
}

/// What the client spoke.
#[derive(Clone)]
pub(super) enum Paying {
    X402 { payer: Address, method: TransferMethod },
    Mpp { offer_id: String, external_id: Option<String> },
}

impl OnceSpeech {
    pub(super) fn new(terms: &Arc<Terms>, asked: &Asked, paying: Paying) -> Self {
        Self { terms: Arc::clone(terms), asked: asked.clone(), paying }
    }

    /// The receipt. MPP gives one for what the chain has only; x402's names the transaction, and says when it is still on its way.
    pub(crate) fn collected(&self, headers: &mut HeaderMap, collected: &Collected) {
        match &self.paying {
            Paying::X402 { payer, .. } => self.put(headers, "payment-response", self.settled(payer, collected, true)),
            Paying::Mpp { offer_id, external_id } => {
                if let Some(transaction) = collected.transaction.as_ref().filter(|_| collected.is_mined) {
                    let receipt = self.receipt(offer_id, external_id.as_deref(), transaction, collected);
                    self.put(headers, "payment-receipt", receipt);
                }
            }
        }
    }

    /// The authorisation was collected before, for the same request.
    pub(crate) fn already_collected(&self, collected: &Collected, request: &RequestId) -> Response<Body> {
        let detail = "This payment was taken before, for the same request; its answer is not kept. Pay anew for a new request.";
        let problem = Problem::new(StatusCode::CONFLICT, "already-charged", detail);
        let mut response = problem.charged(collected.amount).by_transaction(collected.transaction.as_deref()).respond(request);
        // MPP has receipts on success only.
        if let Paying::X402 { payer, .. } = &self.paying {
            self.put(response.headers_mut(), "payment-response", self.settled(payer, collected, false));
        }
        response
    }

    /// What the port would not do. Nothing was taken.
    pub(crate) fn refused(&self, error: &PortError, request: &RequestId) -> Response<Body> {
        match error {
            PortError::Rejected(rejection) => {
                let mut response = self.terms.offer(&self.asked, Some(self.rejection(rejection)));
                if let (Paying::X402 { payer, method }, Rejection::Uncollectable { why: Uncollectable::Transaction, .. }) =
                    (&self.paying, rejection)
                {
                    self.put(response.headers_mut(), "payment-response", self.unsettled(payer, rejection, *method));
                }
                response
            }
            PortError::Unavailable { retry_after_millis } => {
                let detail = "The payment cannot be collected now; nothing was charged, try again.";
                let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger-unavailable", detail);
                problem.retryable(*retry_after_millis).respond(request)
            }
            PortError::Fault { reason } => {
                tracing::error!(request = request.as_str(), reason, "the ledger failed");
                let detail = "The ledger failed; whether the payment was taken, the chain says.";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail).respond(request)
            }
        }
    }

    fn rejection(&self, rejection: &Rejection) -> Refusal {
        let detail = format!("{rejection}; nothing was charged.");
        let plain = |problem| Refusal { problem, reason: None, correction: None };
        match rejection {
            Rejection::IdConflict => return plain(Problem::new(StatusCode::CONFLICT, "id-conflict", detail)),
            Rejection::IdInFlight => {
                return plain(Problem::new(StatusCode::CONFLICT, "id-in-flight", detail).retryable(BUSY_MILLIS));
            }
            Rejection::PayerInDefault => return plain(Problem::new(StatusCode::FORBIDDEN, "payer-in-default", detail)),
            Rejection::NeedsApproval { .. } => return plain(Problem::needs_approval(detail)),
            Rejection::Policy { rule } => return plain(Problem::new(StatusCode::FORBIDDEN, "policy", detail).by_policy(rule)),
            _ => {}
        }
        match &self.paying {
            Paying::X402 { method, .. } => {
                let reason = reason(rejection, *method);
                let problem = Problem::new(StatusCode::PAYMENT_REQUIRED, &code(reason), detail);
                Refusal { problem, reason: Some(reason.as_str().to_owned()), correction: None }
            }
            Paying::Mpp { .. } => {
                let kind = match rejection {
                    Rejection::AuthorizationTimes => ProblemKind::PaymentExpired,
                    Rejection::Uncollectable { why: Uncollectable::Balance, .. } => ProblemKind::PaymentInsufficient,
                    _ => ProblemKind::VerificationFailed,
                };
                plain(Problem::of(kind, detail))
            }
        }
    }

    /// `is_now`: it was taken for this request, so the prices are those that it has asked for.
    fn settled(&self, payer: &Address, collected: &Collected, is_now: bool) -> Result<String, DialectError> {
        let mut extra = Object::default();
        if is_now {
            extra.insert("tariff", self.asked.tariff.version().to_string().into());
        }
        if !collected.is_mined {
            extra.insert("pending", true.into());
        }
        SettleResponse {
            success: true,
            payer: Some(eip55(payer)),
            transaction: collected.transaction.clone().unwrap_or_default(),
            network: self.terms.network.to_string(),
            amount: Some(collected.amount.to_string()),
            extra,
            ..SettleResponse::default()
        }
        .to_header()
    }

    fn unsettled(&self, payer: &Address, rejection: &Rejection, method: TransferMethod) -> Result<String, DialectError> {
        SettleResponse {
            success: false,
            error_reason: Some(reason(rejection, method).as_str().to_owned()),
            error_message: Some(rejection.to_string()),
            payer: Some(eip55(payer)),
            network: self.terms.network.to_string(),
            ..SettleResponse::default()
        }
        .to_header()
    }

    fn receipt(&self, offer_id: &str, external_id: Option<&str>, transaction: &str, collected: &Collected) -> Result<String, DialectError> {
        let mut more = Object::default();
        more.insert("intent", millstream_dialect::mpp::CHARGE.into());
        more.insert("challengeId", offer_id.into());
        more.insert("chainId", self.terms.chain.get().into());
        if let Some(external_id) = external_id {
            more.insert("externalId", external_id.into());
        }
        more.insert("charged", collected.amount.to_string().into());
        more.insert("receipt", collected.receipt.clone().into());
        more.insert("tariff", self.asked.tariff.version().to_string().into());
        let receipt = Receipt {
            status: "success".to_owned(),
            method: EVM.to_owned(),
            timestamp: moment_text("timestamp", now())?,
            reference: transaction.to_owned(),
            more,
        };
        receipt.to_header()
    }

    /// What was made here can be written: if not, it is our mistake, and no reason to withhold what was paid for.
    fn put(&self, headers: &mut HeaderMap, name: &'static str, text: Result<String, DialectError>) {
        match text {
            Ok(text) => insert(headers, name, &text),
            Err(error) => tracing::error!(request = self.asked.request.as_str(), error = %error, "a receipt cannot be written"),
        }
    }
}

/// x402's word for a rejection.
fn reason(rejection: &Rejection, method: TransferMethod) -> Reason {
    let by_token = method == TransferMethod::Eip3009;
    let pick = |token, permit2| if by_token { token } else { permit2 };
    match rejection {
        Rejection::AuthorizationUsed => pick(Reason::ExactNonceAlreadyUsed, Reason::Permit2InvalidNonce),
        Rejection::AuthorizationTimes => pick(Reason::ExactPayloadAuthorizationValidBefore, Reason::Permit2DeadlineExpired),
        Rejection::BadSignature => pick(Reason::ExactSignature, Reason::InvalidPermit2Signature),
        Rejection::Uncollectable { why, .. } => match why {
            Uncollectable::Balance => pick(Reason::ExactInsufficientBalance, Reason::Permit2InsufficientBalance),
            Uncollectable::Allowance => Reason::Permit2AllowanceRequired,
            Uncollectable::NoContract => pick(Reason::ExactEip3009NotSupported, Reason::Permit2ProxyNotDeployed),
            Uncollectable::Simulation => pick(Reason::ExactTransactionSimulationFailed, Reason::Permit2SimulationFailed),
            Uncollectable::Transaction => Reason::ExactTransactionFailed,
        },
        _ => Reason::UnexpectedVerifyError,
    }
}
