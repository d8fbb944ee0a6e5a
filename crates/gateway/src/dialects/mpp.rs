//! MPP, method `evm`: what is the same for its intents; and the intent `session`: rising vouchers, that may be signed ahead.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderMap;
use http::{HeaderValue, Method, StatusCode};
use millstream_dialect::DialectError;
use millstream_dialect::mpp::{
    BindingKey, CHARGE, Credential, CredentialType, EVM, FundingAction, IDEMPOTENCY_KEY, IdempotencyKey, OfferTerms, ProblemKind, SESSION,
    SessionDetails, SessionPayload, SessionRequest, moment_text,
};
use millstream_tariff::Token;
use millstream_types::{Address, Amount, ChainId, EscrowChannelId, Hash256};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, SessionTerms, SignedEscrowVoucher, Signer};
use serde::Serialize;

use super::act::{Act, ActKind};
use super::speech::{Speech, Spoken};
use super::{Asked, Intent, Refusal, Terms, now};
use crate::ConfigError;
use crate::config::MppSection;
use crate::port::{ChargePort, LogicalId, PortError, ReleaseKind};
use crate::problem::Problem;
use crate::tender::{ChannelTerms, Funding, Tender, TenderVoucher, TotalRule};

/// What is offered to clients of MPP.
pub(super) struct Mpp {
    /// The escrow of sessions, where they are offered.
    domain: Option<EscrowDomain>,
    key: BindingKey,
    deposit_suggested: Option<Amount>,
    voucher_delta_min: Option<Amount>,
    pub(super) voucher_wait: Duration,
}

impl Mpp {
    pub(super) fn new(
        section: &MppSection,
        chain: ChainId,
        token: &Token,
        address: &impl Fn(&str, &str) -> Result<Address, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let amount = |key: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| token.parse_amount(text))
                .transpose()
                .map_err(ConfigError::price(format!("payment.mpp.{key}")))
        };
        if !(1..=3_600).contains(&section.voucher_wait_secs) {
            return Err(ConfigError::value("payment.mpp.voucher_wait_secs", "it must be 1 to 3600"));
        }
        let key = BindingKey::new(&secret(&section.secret_file)?);
        let escrow = section.escrow.as_deref().map(|escrow| address("mpp.escrow", escrow)).transpose()?;
        Ok(Self {
            domain: escrow.map(|escrow| EscrowDomain::new(EscrowScheme::EvmSession, chain, escrow)),
            key: key.map_err(|error| ConfigError::value("payment.mpp.secret_file", error.to_string()))?,
            deposit_suggested: amount("deposit_suggested", &section.deposit_suggested)?,
            voucher_delta_min: amount("voucher_delta_min", &section.voucher_delta_min)?,
            voucher_wait: Duration::from_secs(section.voucher_wait_secs),
        })
    }

    /// Whether sessions are offered.
    pub(super) const fn has_sessions(&self) -> bool {
        self.domain.is_some()
    }

    /// The values of `WWW-Authenticate`: sessions first, they cost the payer less.
    pub(super) fn offers(&self, terms: &Terms, asked: &Asked) -> Vec<Result<String, DialectError>> {
        let session = self.domain.as_ref().map(|domain| self.session_offer(domain, terms, asked));
        let charge = terms.exact.as_ref().and_then(|exact| exact.charge_offer(terms, asked));
        let bound = |offer: Result<OfferTerms, DialectError>| offer.and_then(|offer| self.key.bind(offer).to_header());
        session.into_iter().chain(charge).map(bound).collect()
    }

    /// The amount is the most that this request costs: prices that add up over several units, and those finer than a base unit, are no price
    /// for one unit.
    fn session_offer(&self, domain: &EscrowDomain, terms: &Terms, asked: &Asked) -> Result<OfferTerms, DialectError> {
        let request = SessionRequest {
            amount: asked.ceiling,
            unit_type: Some("request".to_owned()),
            suggested_deposit: self.deposit_suggested,
            currency: terms.asset,
            recipient: terms.pay_to,
            description: None,
            external_id: None,
            method_details: SessionDetails {
                chain_id: terms.chain.get(),
                escrow_contract: domain.contract(),
                channel_id: None,
                min_voucher_delta: self.voucher_delta_min,
                fee_payer: None,
                credential_types: Some(vec![CredentialType::Permit2, CredentialType::Authorization, CredentialType::Hash]),
                permit2_contract: None,
            },
        };
        offered(terms, asked, SESSION, &request, terms.offer_secs)
    }

    pub(super) async fn read(
        &self,
        terms: &Arc<Terms>,
        method: &Method,
        headers: &HeaderMap,
        header: &HeaderValue,
        asked: &Asked,
        port: &dyn ChargePort,
    ) -> Result<Intent, Box<Refusal>> {
        let credential = Credential::from_header(header.to_str().unwrap_or_default()).map_err(|error| malformed(&error))?;
        let credential = credential.ok_or_else(|| refusal(ProblemKind::MalformedCredential, "The credential cannot be read."))?;
        let expired = self.check_echo(&credential, terms)?;
        let domain = match (credential.offer.terms.intent.as_str(), &self.domain, &terms.exact) {
            (SESSION, Some(domain), _) => domain,
            (CHARGE, _, Some(exact)) if expired => return Err(exact.expired()),
            (CHARGE, _, Some(_)) if method == Method::HEAD => {
                return Err(refusal(ProblemKind::MethodUnsupported, "A charge pays for a request, and HEAD asks for nothing."));
            }
            (CHARGE, _, Some(exact)) => return exact.read_charge(terms, &credential, asked, idempotency_key(headers)?),
            _ => return Err(refusal(ProblemKind::MethodUnsupported, "This intent is not taken here; take one of the offers.")),
        };
        let payload = SessionPayload::from_object(&credential.payload).map_err(|error| malformed(&error))?;
        let opens = matches!(payload, SessionPayload::OpenSent { .. } | SessionPayload::Open { .. });
        if expired && opens {
            return Err(refusal(ProblemKind::PaymentExpired, "The offer has expired; take the new one."));
        }
        // What is signed, what is deposited before, and on which terms a channel is opened.
        let (channel, voucher, funding, channel_terms, closes) = match payload {
            SessionPayload::OpenSent { voucher, hash, salt, authorized_signer } => (
                voucher.statement().channel,
                Some(voucher),
                Some(Funding::Sent { hash }),
                Some(opened(terms, &credential, salt, authorized_signer, None)?),
                false,
            ),
            SessionPayload::Open { voucher, salt, authorized_signer, funding } => {
                let action = FundingAction::Open { salt, authorized_signer };
                let terms = opened(terms, &credential, salt, authorized_signer, Some(funding.from()))?;
                (voucher.statement().channel, Some(voucher), Some(Funding::Session { action, funding }), Some(terms), false)
            }
            SessionPayload::TopUpSent { channel, hash, .. } => (channel, None, Some(Funding::Sent { hash }), None, false),
            SessionPayload::TopUp { channel, salt, funding, .. } => {
                let action = FundingAction::TopUp { salt };
                (channel, None, Some(Funding::Session { action, funding }), None, false)
            }
            SessionPayload::Voucher { voucher, deposit } => {
                let terms = match deposit.as_ref().map(|deposit| (&deposit.action, deposit.funding.from())) {
                    Some((FundingAction::Open { salt, authorized_signer }, from)) => {
                        Some(opened(terms, &credential, *salt, *authorized_signer, Some(from))?)
                    }
                    Some((FundingAction::TopUp { .. }, _)) | None => None,
                };
                let funding = deposit.map(|deposit| Funding::Session { action: deposit.action, funding: deposit.funding });
                (voucher.statement().channel, Some(voucher), funding, terms, false)
            }
            SessionPayload::Close { voucher } => (voucher.statement().channel, Some(voucher), None, None, true),
        };
        if channel_terms.is_some_and(|terms| terms.channel_id(domain) != channel) {
            return Err(refusal(ProblemKind::VerificationFailed, "The channelId is not that of the terms it is opened with."));
        }
        if let Some(Funding::Session { action, funding }) = &funding {
            // The offer is ours, so its request is what was offered.
            let request: SessionRequest = credential.offer.terms.request().map_err(|error| malformed(&error))?;
            funding
                .check(&request, &channel, action)
                .map_err(|error| refusal(ProblemKind::VerificationFailed, &format!("The deposit does not fit: {error}.")))?;
        }
        let voucher = match voucher {
            Some(voucher) => Some(checked(domain, voucher, channel, channel_terms.as_ref(), port).await?),
            None => None,
        };
        let pays = voucher.is_some();
        let speech = Speech::new(terms, asked, Spoken::Mpp { offer_id: credential.offer.id, channel });
        let tender =
            Tender { escrow: *domain, channel, terms: channel_terms.map(ChannelTerms::Session), voucher, rule: TotalRule::Rising, funding };
        let manage = |tender, kind| Ok(Intent::Manage(Box::new(Act { tender, kind, speech: speech.clone() })));
        if closes {
            return manage(tender, ActKind::Release(ReleaseKind::Close));
        }
        // A HEAD of the resource is a voucher and no request.
        if method == Method::HEAD || !pays {
            return manage(tender, ActKind::Accept);
        }
        // Of a stream, only its beginning must be paid for when it begins.
        let streams = asked.streams && !asked.tariff.is_fixed();
        let least = asked.tariff.minimum().max(Amount::from_units(1));
        let at_least = if streams { least.min(asked.ceiling) } else { asked.ceiling };
        Ok(Intent::Pay { tender: Box::new(tender), speech: Box::new(speech), at_least, logical: idempotency_key(headers)? })
    }

    /// Whether the echoed offer has expired. It must be ours in any case.
    fn check_echo(&self, credential: &Credential, terms: &Terms) -> Result<bool, Box<Refusal>> {
        let offer = &credential.offer.terms;
        if offer.method != EVM {
            return Err(refusal(ProblemKind::MethodUnsupported, "Only method evm is taken here."));
        }
        if !self.key.is_ours(&credential.offer) || offer.realm != terms.realm {
            return Err(refusal(ProblemKind::InvalidOffer, "The credential echoes an offer that was not made here; take the new one."));
        }
        let expires = offer.expires().map_err(|error| malformed(&error))?;
        Ok(expires.is_some_and(|expires| expires < now()))
    }
}

/// Checks the voucher's signature, as far as that goes without the chain.
async fn checked(
    domain: &EscrowDomain,
    voucher: SignedEscrowVoucher,
    channel: EscrowChannelId,
    opened: Option<&SessionTerms>,
    port: &dyn ChargePort,
) -> Result<TenderVoucher, Box<Refusal>> {
    let bad = || refusal(ProblemKind::InvalidSignature, "The voucher's signature is not the signer's.");
    if let Some(opened) = opened {
        // Nobody has looked yet whether the signer of a new channel is a contract.
        let verified = voucher.clone().verify(domain, opened.voucher_signer());
        return Ok(verified.map_or(TenderVoucher::ForTheChain(voucher), TenderVoucher::Verified));
    }
    let standing = port.standing(channel).await.map_err(|error| unavailable(&error))?;
    let standing = standing.ok_or_else(|| refusal(ProblemKind::ChannelNotFound, "The channel is not known here."))?;
    match standing.signer {
        Signer::Contract(_) => Ok(TenderVoucher::ForTheChain(voucher)),
        Signer::Key(account) => voucher.verify(domain, account).map(TenderVoucher::Verified).map_err(|_| bad()),
    }
}

/// An offer of ours that ends in so many seconds. Its id will say that it was made here, so none has to be remembered.
pub(super) fn offered<T: Serialize>(
    terms: &Terms,
    asked: &Asked,
    intent: &str,
    request: &T,
    secs: u64,
) -> Result<OfferTerms, DialectError> {
    let mut offer = OfferTerms::new(&terms.realm, EVM, intent, request)?;
    offer.expires = Some(moment_text("expires", now().plus_millis(secs.saturating_mul(1_000)))?);
    offer.description = Some(asked.tariff.price().to_string());
    Ok(offer)
}

/// The terms of a channel that is opened. Who pays is said by the credential, or by what is signed for the deposit.
fn opened(
    terms: &Terms,
    credential: &Credential,
    salt: Hash256,
    authorized_signer: Address,
    from: Option<Address>,
) -> Result<SessionTerms, Box<Refusal>> {
    let bad = |detail: &str| refusal(ProblemKind::MalformedCredential, detail);
    let source = credential.source().map_err(|error| malformed(&error))?;
    if source.is_some_and(|source| source.chain != terms.chain) {
        return Err(bad("`source` is an account of another chain than the offer's."));
    }
    let payer = match (source.map(|source| source.account), from) {
        (Some(source), Some(from)) if source != from => return Err(bad("`source` is not who has signed the deposit.")),
        (Some(payer), _) | (None, Some(payer)) => payer,
        (None, None) => return Err(bad("An opening says who pays: `source` is a did:pkh on the offer's chain.")),
    };
    Ok(SessionTerms { payer, payee: terms.pay_to, token: terms.asset, salt, authorized_signer })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<LogicalId>, Box<Refusal>> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = IdempotencyKey::new(key.to_str().unwrap_or_default()).map_err(|error| malformed(&error))?;
    Ok(LogicalId::new(key.as_str()))
}

pub(super) fn malformed(error: &DialectError) -> Box<Refusal> {
    refusal(ProblemKind::MalformedCredential, &format!("The credential cannot be read: {error}."))
}

pub(super) fn refusal(kind: ProblemKind, detail: &str) -> Box<Refusal> {
    Refusal::plain(Problem::of(kind, detail))
}

fn unavailable(error: &PortError) -> Box<Refusal> {
    let millis = match error {
        PortError::Unavailable { retry_after_millis } => *retry_after_millis,
        PortError::Rejected(_) | PortError::Fault { .. } => 1_000,
    };
    let detail = "The ledger cannot be read now; nothing was charged, try again.";
    Refusal::plain(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ledger-unavailable", detail).retryable(millis))
}

/// The secret of offers: 32 bytes of hexadecimal, for its owner alone.
fn secret(path: &Path) -> Result<[u8; 32], ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let place = "payment.mpp.secret_file";
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(read)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(ConfigError::value(place, format!("{} can be read by others: set its mode to 600", path.display())));
        }
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    let secret = text.trim().parse::<Hash256>().map_err(|error| ConfigError::value(place, error.to_string()))?;
    Ok(*secret.as_bytes())
}
