//! Single payments: what is offered of them, and the scheme `exact` of x402. A payment is taken whole, so it is offered where the price is known
//! before the delivery, or where the operator says that the ceiling is taken.

use std::sync::Arc;

use http::StatusCode;
use millstream_dialect::DialectError;
use millstream_dialect::x402::{ExactOffer, ExactPayload, PaymentPayload, PaymentRequirements, Reason, TransferMethod};
use millstream_tariff::Tariff;
use millstream_voucher::evm::{EvmSignature, TokenDomain};

use super::once::{OnceSpeech, Paying};
use super::x402::{logical_id, refusal};
use super::{Asked, Intent, Refusal, Terms, now};
use crate::ConfigError;
use crate::config::{ExactSection, transfer_methods};
use crate::problem::Problem;
use crate::tender::{SinglePayment, SingleTransfer};

/// The shortest and the longest that a payment may be good for, in seconds: it has to be sent, and remembered for as long.
const TIMEOUT_SECS_MIN: u64 = 30;
const TIMEOUT_SECS_MAX: u64 = 3_000;
/// What signatures of accounts that do not exist yet end with (ERC-6492).
const COUNTERFACTUAL: [u8; 2] = [0x64, 0x92];
/// x402's word for such a signature, where no factory is allowed.
const FACTORY_NOT_ALLOWED: &str = "eip6492_factory_not_allowed";

/// What is offered of single payments.
pub(super) struct Exact {
    /// At least one.
    methods: Vec<TransferMethod>,
    pub(super) timeout_secs: u64,
    takes_ceiling: bool,
}

impl Exact {
    pub(super) fn new(section: &ExactSection) -> Result<Self, ConfigError> {
        if !(TIMEOUT_SECS_MIN..=TIMEOUT_SECS_MAX).contains(&section.timeout_secs) {
            let reason = format!("it must be {TIMEOUT_SECS_MIN} to {TIMEOUT_SECS_MAX}");
            return Err(ConfigError::value("payment.exact.timeout_secs", reason));
        }
        let methods = transfer_methods("payment.exact.methods", &section.methods)?;
        Ok(Self { methods, timeout_secs: section.timeout_secs, takes_ceiling: section.take_ceiling })
    }

    /// Whether payments are moved by the token itself.
    pub(super) fn is_by_token(&self) -> bool {
        self.methods.contains(&TransferMethod::Eip3009)
    }

    /// Whether single payments are taken for such a price.
    pub(super) fn sells_by(&self, tariff: &Tariff) -> bool {
        self.takes_ceiling || tariff.is_fixed()
    }

    /// Whether this request can be paid by itself.
    pub(super) fn sells(&self, asked: &Asked) -> bool {
        self.sells_by(&asked.tariff) && !asked.ceiling.is_zero()
    }

    /// The offers of x402.
    pub(super) fn offers(&self, terms: &Terms, asked: &Asked) -> Vec<Result<PaymentRequirements, DialectError>> {
        let methods = self.methods.iter().filter(|_| self.sells(asked));
        methods.map(|method| offer(terms, asked, *method).to_requirements(self.timeout_secs)).collect()
    }

    /// Reads a payment of x402. A retry with the same authorisation is the same request; see [`HoldOnce`](crate::port::HoldOnce).
    pub(super) fn read(&self, terms: &Arc<Terms>, payment: &PaymentPayload, asked: &Asked) -> Result<Intent, Box<Refusal>> {
        let is_chosen = |method: &&TransferMethod| {
            let offered = offer(terms, asked, **method).to_requirements(self.timeout_secs);
            self.sells(asked) && offered.is_ok_and(|offered| offered.is_accepted_by(&payment.accepted))
        };
        let first = self.methods.iter().find(is_chosen).ok_or_else(|| refusal(Reason::InvalidPaymentRequirements))?;
        let payload = ExactPayload::from_object(&payment.payload).map_err(|_| refusal(Reason::InvalidPayload))?;
        let moved_by = match &payload {
            ExactPayload::Erc3009(_) => TransferMethod::Eip3009,
            ExactPayload::Permit2(_) => TransferMethod::Permit2,
        };
        // A client may say more in `extra` than was offered, so an offer of one way can look like one of the other (H-5).
        let method = self.methods.iter().filter(is_chosen).find(|method| **method == moved_by).unwrap_or(first);
        let offer = offer(terms, asked, *method);
        payload.check(&offer, now().as_millis() / 1_000).map_err(refusal)?;
        let payer = payload.payer();
        let (transfer, is_verified) = match payload {
            ExactPayload::Erc3009(payment) => {
                let signed = payment.signed();
                refuse_counterfactual(signed.signature())?;
                let is_verified = signed.clone().verify(&token(terms), payer).is_ok();
                (SingleTransfer::Erc3009(signed), is_verified)
            }
            ExactPayload::Permit2(payment) => {
                let (signed, domain) = payment.signed(terms.chain);
                refuse_counterfactual(signed.signature())?;
                let is_verified = signed.clone().verify(&domain, payer).is_ok();
                (SingleTransfer::Permit2(signed), is_verified)
            }
        };
        let logical = logical_id(payment)?;
        let (token, receiver, amount) = (terms.asset, terms.pay_to, asked.ceiling);
        Ok(Intent::Once {
            payment: Box::new(SinglePayment { token, payer, receiver, amount, transfer, is_verified }),
            speech: Box::new(OnceSpeech::new(terms, asked, Paying::X402 { payer, method: offer.method })),
            logical,
        })
    }
}

fn offer(terms: &Terms, asked: &Asked, method: TransferMethod) -> ExactOffer {
    ExactOffer {
        chain: terms.chain,
        amount: asked.ceiling,
        asset: terms.asset,
        pay_to: terms.pay_to,
        method,
        token_domain: Some((terms.asset_name.clone(), terms.asset_version.clone())),
    }
}

/// The domain that payers sign for the token in.
pub(super) fn token(terms: &Terms) -> TokenDomain {
    TokenDomain::new(&terms.asset_name, &terms.asset_version, terms.chain, terms.asset)
}

/// An account that does not exist yet would have to be made first, by whatever the payer says; that is not done here.
fn refuse_counterfactual(signature: &EvmSignature) -> Result<(), Box<Refusal>> {
    if !is_counterfactual(signature) {
        return Ok(());
    }
    let detail = "The payment is refused: the account does not exist yet, and is not made here.";
    let problem = Problem::new(StatusCode::PAYMENT_REQUIRED, "account-not-deployed", detail);
    Err(Box::new(Refusal { problem, reason: Some(FACTORY_NOT_ALLOWED.to_owned()), correction: None }))
}

/// Whether the signature is of an account that does not exist yet: 32 bytes of `6492` at its end.
pub(super) fn is_counterfactual(signature: &EvmSignature) -> bool {
    let bytes = signature.as_bytes();
    bytes.len() > 32 && bytes[bytes.len() - 32..].chunks(2).all(|pair| pair == COUNTERFACTUAL)
}
