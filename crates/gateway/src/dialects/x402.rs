//! x402 version 2: what is the same for its schemes; and the scheme `batch-settlement`: cumulative vouchers, each exactly what was charged and
//! the price.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use millstream_dialect::x402::{
    BATCH_SETTLEMENT, BatchExtra, BatchOffer, BatchPayload, ChannelState, EXACT, PaymentId, PaymentPayload, PaymentRequired, Reason,
    Resource, SettleResponse, TransferMethod, VERSION, VoucherState, batch_domain, offer_payment_identifier,
};
use millstream_dialect::{DialectError, Object};
use millstream_tariff::{TariffVersion, Token};
use millstream_types::{Address, Amount, ChainId, Uint256};
use millstream_voucher::evm::{EscrowDomain, EvmSignature, WITHDRAW_DELAY_MAX_SECS, WITHDRAW_DELAY_MIN_SECS};

use super::act::{Act, ActKind};
use super::speech::{Speech, Spoken};
use super::{Asked, Intent, Refusal, Terms};
use crate::ConfigError;
use crate::config::{X402Section, transfer_methods};
use crate::port::{LogicalId, ReleaseKind, Standing};
use crate::problem::Problem;
use crate::tender::{ChannelTerms, Funding, Tender, TenderVoucher, TotalRule};

/// What is offered to clients of x402.
pub(super) struct X402 {
    domain: EscrowDomain,
    receiver_authorizer: Address,
    withdraw_delay_secs: u64,
    deposit_min: Option<Amount>,
    /// How deposits are moved; at least one.
    methods: Vec<TransferMethod>,
}

impl X402 {
    pub(super) fn new(
        section: &X402Section,
        chain: ChainId,
        token: &Token,
        address: &impl Fn(&str, &str) -> Result<Address, ConfigError>,
    ) -> Result<Self, ConfigError> {
        if !(WITHDRAW_DELAY_MIN_SECS..=WITHDRAW_DELAY_MAX_SECS).contains(&section.withdraw_delay_secs) {
            let reason = format!("it must be {WITHDRAW_DELAY_MIN_SECS} to {WITHDRAW_DELAY_MAX_SECS}");
            return Err(ConfigError::value("payment.x402.withdraw_delay_secs", reason));
        }
        let deposit_min = section.deposit_min.as_deref().map(|text| token.parse_amount(text)).transpose();
        Ok(Self {
            domain: batch_domain(chain),
            receiver_authorizer: address("x402.receiver_authorizer", &section.receiver_authorizer)?,
            withdraw_delay_secs: section.withdraw_delay_secs,
            deposit_min: deposit_min.map_err(ConfigError::price("payment.x402.deposit_min"))?,
            methods: transfer_methods("payment.x402.methods", &section.methods)?,
        })
    }

    /// An offer for each way in which a deposit is moved. They are of the same channels.
    fn offers(&self, terms: &Terms, asked: &Asked, correction: Option<&Standing>) -> impl Iterator<Item = BatchOffer> {
        self.methods.iter().map(move |method| self.offer(*method, terms, asked, correction))
    }

    fn offer(&self, method: TransferMethod, terms: &Terms, asked: &Asked, correction: Option<&Standing>) -> BatchOffer {
        BatchOffer {
            chain: terms.chain,
            amount: asked.ceiling,
            asset: terms.asset,
            pay_to: terms.pay_to,
            max_timeout_secs: terms.offer_secs,
            extra: BatchExtra {
                receiver_authorizer: self.receiver_authorizer,
                withdraw_delay: self.withdraw_delay_secs,
                name: terms.asset_name.clone(),
                version: terms.asset_version.clone(),
                // The token's own way is what an offer means that says nothing.
                asset_transfer_method: Some(method).filter(|method| *method != TransferMethod::default()),
                min_deposit: self.deposit_min,
                channel_state: correction.map(channel_state),
                voucher_state: correction.and_then(voucher_state),
                custody: Default::default(),
                more: Object::default(),
            },
        }
    }

    fn read(&self, terms: &Arc<Terms>, payment: &PaymentPayload, asked: &Asked) -> Result<Intent, Box<Refusal>> {
        let is_chosen = |offer: &BatchOffer| offer.to_requirements().is_ok_and(|offered| offered.is_accepted_by(&payment.accepted));
        let chosen: Vec<BatchOffer> = self.offers(terms, asked, None).filter(is_chosen).collect();
        let first = chosen.first().ok_or_else(|| refusal(Reason::InvalidPaymentRequirements))?;
        let payload = BatchPayload::from_object(&payment.payload).map_err(|_| refusal(Reason::BatchVoucherPayload))?;
        // A client may say more in `extra` than was offered, so an offer of one way can look like one of the other (H-5).
        let checked = chosen.iter().skip(1).find_map(|offer| payload.check(offer, &self.domain).ok());
        let channel = payload.check(first, &self.domain).or_else(|reason| checked.ok_or(reason)).map_err(refusal)?;
        let config = payload.config();
        let signed = payload.voucher().signed();
        let voucher = if config.payer_authorizer.is_zero() {
            TenderVoucher::ForTheChain(signed)
        } else {
            let verified = signed.verify(&self.domain, config.payer_authorizer);
            TenderVoucher::Verified(verified.map_err(|_| refusal(Reason::BatchVoucherSignature))?)
        };
        let logical = logical_id(payment)?;
        let speech = Speech::new(terms, asked, Spoken::X402 { payer: config.payer });
        let (above_charged, funding, refund) = match payload {
            BatchPayload::Voucher { .. } => (asked.ceiling, None, None),
            BatchPayload::Deposit { deposit, .. } => (asked.ceiling, Some(Funding::X402(deposit)), None),
            BatchPayload::Refund { amount, .. } => (Amount::ZERO, None, Some(ReleaseKind::Refund { amount })),
        };
        let tender = Box::new(Tender {
            escrow: self.domain,
            channel,
            terms: Some(ChannelTerms::X402(config)),
            voucher: Some(voucher),
            rule: TotalRule::Exactly { above_charged },
            funding,
        });
        Ok(match refund {
            Some(kind) => Intent::Manage(Box::new(Act { tender: *tender, kind: ActKind::Release(kind), speech })),
            None => Intent::Pay { tender, speech: Box::new(speech), at_least: asked.ceiling, logical },
        })
    }
}

/// The value of `PAYMENT-REQUIRED`: channels first, they cost the payer less. Nothing when nothing is offered.
pub(super) fn required(
    terms: &Terms,
    asked: &Asked,
    error: Option<String>,
    correction: Option<&Standing>,
) -> Option<Result<String, DialectError>> {
    let channels = terms.x402.iter().flat_map(|x402| x402.offers(terms, asked, correction));
    let single = terms.exact.iter().flat_map(|exact| exact.offers(terms, asked));
    let offers: Result<Vec<_>, _> = channels.map(|offer| offer.to_requirements()).chain(single).collect();
    let accepts = match offers {
        Ok(offers) if offers.is_empty() => return None,
        Ok(offers) => offers,
        Err(error) => return Some(Err(error)),
    };
    let mut extensions = Object::default();
    offer_payment_identifier(&mut extensions, false);
    let resource = Resource {
        url: asked.resource.clone(),
        description: asked.route.description.clone(),
        mime_type: asked.route.mime_type.clone(),
        more: Object::default(),
    };
    Some(PaymentRequired { x402_version: VERSION, error, resource, accepts, extensions }.to_header())
}

/// Reads `PAYMENT-SIGNATURE`. Nothing when x402 is not spoken here.
pub(super) fn read(terms: &Arc<Terms>, header: &HeaderValue, asked: &Asked) -> Option<Result<Intent, Box<Refusal>>> {
    if terms.x402.is_none() && terms.exact.is_none() {
        return None;
    }
    let payment = match PaymentPayload::from_header(header.to_str().unwrap_or_default()) {
        Ok(payment) => payment,
        Err(DialectError::Version { .. }) => return Some(Err(refusal(Reason::InvalidX402Version))),
        Err(error) => return Some(Err(malformed(&error.to_string()))),
    };
    Some(match (payment.accepted.scheme.as_str(), &terms.x402, &terms.exact) {
        (EXACT, _, Some(exact)) => exact.read(terms, &payment, asked),
        (BATCH_SETTLEMENT, Some(x402), _) => x402.read(terms, &payment, asked),
        _ => Err(refusal(Reason::InvalidPaymentRequirements)),
    })
}

/// The client's own id of the request.
pub(super) fn logical_id(payment: &PaymentPayload) -> Result<Option<LogicalId>, Box<Refusal>> {
    let id = PaymentId::in_extensions(&payment.extensions).map_err(|error| malformed(&error.to_string()))?;
    Ok(id.and_then(|id| LogicalId::new(id.as_str())))
}

pub(super) fn malformed(detail: &str) -> Box<Refusal> {
    Refusal::plain(Problem::new(StatusCode::BAD_REQUEST, "malformed-payment", format!("The payment cannot be read: {detail}.")))
}

/// A refusal in x402's own word.
pub(super) fn refusal(reason: Reason) -> Box<Refusal> {
    let code = code(reason);
    let detail = format!("The payment is refused: {}.", code.replace('-', " "));
    let problem = Problem::new(StatusCode::PAYMENT_REQUIRED, &code, detail);
    Box::new(Refusal { problem, reason: Some(reason.as_str().to_owned()), correction: None })
}

/// Our code for a reason of x402's: its name without the scheme's prefix.
pub(super) fn code(reason: Reason) -> String {
    let text = reason.as_str();
    let text = text.strip_prefix("invalid_batch_settlement_evm_").or(text.strip_prefix("invalid_exact_evm_")).unwrap_or(text);
    text.replace('_', "-")
}

/// The channel as responses and corrective offers have it.
pub(crate) fn channel_state(standing: &Standing) -> ChannelState {
    ChannelState {
        channel_id: standing.channel,
        balance: standing.announced,
        total_claimed: standing.settled,
        withdraw_requested_at: standing.withdraw_requested_at_secs.unwrap_or(0),
        refund_nonce: Uint256::from(standing.refund_nonce),
        charged_cumulative_amount: Some(standing.charged),
    }
}

/// A client believes a corrected total only with its own signature.
pub(crate) fn voucher_state(standing: &Standing) -> Option<VoucherState> {
    let signature = EvmSignature::new(standing.accepted_signature.clone()?).ok()?;
    Some(VoucherState { signed_max_claimable: Some(standing.accepted), signature: Some(signature) })
}

/// The value of `PAYMENT-RESPONSE`.
pub(super) fn settled(
    terms: &Terms,
    payer: &Address,
    moved: Option<(&str, Amount)>,
    charged: Option<Amount>,
    standing: &Standing,
    tariff: Option<&TariffVersion>,
) -> Result<String, DialectError> {
    let extra = millstream_dialect::x402::BatchResponseExtra {
        charged_amount: charged,
        channel_state: Some(channel_state(standing)),
        voucher_state: None,
    };
    let mut extra = Object::of("extra", &extra)?;
    if let Some(tariff) = tariff {
        extra.insert("tariff", tariff.to_string().into());
    }
    let (transaction, amount) = moved.map_or_else(Default::default, |(transaction, amount)| (transaction.to_owned(), amount.to_string()));
    SettleResponse {
        success: true,
        payer: Some(millstream_voucher::evm::eip55(payer)),
        transaction,
        network: terms.network.to_string(),
        amount: Some(amount),
        extra,
        ..SettleResponse::default()
    }
    .to_header()
}
