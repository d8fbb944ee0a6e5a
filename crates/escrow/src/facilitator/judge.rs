//! Judging payments of `batch-settlement`: formats, terms, signatures, what the chain has and what it would do. Nothing is spent.
//!
//! The order of the checks is the scheme's, and the published facilitator's where the text leaves it open: a payment that is wrong twice is refused
//! for the same reason everywhere.

use std::collections::BTreeSet;

use millstream_chain::x402::{ChannelState, ClaimRow, DepositAuthorization};
use millstream_chain::{ChainError, PERMIT2, ask_contract, token_allowance, token_balance};
use millstream_dialect::x402::{
    self, BATCH_SETTLEMENT, BatchOffer, BatchPayload, Claim, Deposit, FacilitatorRequest, PaymentRequirements, Reason, TransferMethod,
    VoucherFields,
};
use millstream_dialect::{DialectError, Object};
use millstream_types::{Address, Amount, EscrowChannelId, Uint256};
use millstream_voucher::evm::{ChannelConfig, Checked, Permit2Domain, Signed, Signer, Statement, TokenDomain};
use serde_json::json;

use super::{Refusal, Shared, now};

/// Seconds that something signed has to be valid for, still, so that it can be mined.
pub(super) const VALIDITY_SECS: u64 = 6;
/// What a signature of an account that is not there yet ends with (ERC-6492), as often as it takes for 32 bytes.
const ERC6492_MAGIC: [u8; 2] = [0x64, 0x92];

/// What a payer's payload was found to be.
pub(super) struct Judged {
    pub(super) payer: Address,
    pub(super) state: ChannelState,
}

/// A deposit that was judged.
pub(super) struct JudgedDeposit {
    pub(super) judged: Judged,
    pub(super) terms: ChannelConfig,
    pub(super) amount: Amount,
    pub(super) authorization: DepositAuthorization,
}

impl Shared {
    /// Whether a request is of this scheme, chain and token; gives the offer as far as facilitators read it.
    pub(super) fn batch_offer(&self, request: &FacilitatorRequest, terms: Option<&ChannelConfig>) -> Result<BatchOffer, Refusal> {
        self.batch_envelope(request)?;
        let requirements = &request.payment_requirements;
        let Some(authorizer) = requirements.extra.get("receiverAuthorizer") else {
            return Err(Refusal::new(Reason::BatchReceiverAuthorizerMismatch, "the requirements name no receiverAuthorizer"));
        };
        if authorizer.as_str().and_then(|text| text.parse().ok()) == Some(Address::ZERO) {
            return Err(Refusal::new(Reason::BatchReceiverAuthorizerMismatch, "the receiverAuthorizer is zero"));
        }
        let mut offer = BatchOffer::from_requirements(&completed(requirements, terms)).map_err(|error| requirement(&error))?;
        // What a server announces is between it and the payer; the least that gas is spent on is ours.
        offer.extra.min_deposit = None;
        self.served(&offer.asset, Reason::BatchTokenMismatch)?;
        Ok(offer)
    }

    /// Whether a request is of this scheme and chain.
    pub(super) fn batch_envelope(&self, request: &FacilitatorRequest) -> Result<(), Refusal> {
        let (requirements, accepted) = (&request.payment_requirements, &request.payment_payload.accepted);
        if requirements.scheme != BATCH_SETTLEMENT || accepted.scheme != BATCH_SETTLEMENT {
            return Err(Reason::BatchScheme.into());
        }
        if requirements.network != accepted.network || requirements.network != self.terms.network {
            let message = format!("{} is served", self.terms.network);
            return Err(Refusal::new(Reason::BatchNetworkMismatch, message));
        }
        Ok(())
    }

    pub(super) fn served(&self, asset: &Address, reason: Reason) -> Result<super::AssetTerms, Refusal> {
        self.terms.assets.get(asset).copied().ok_or_else(|| Refusal::new(reason, format!("the token {asset} is not served")))
    }

    /// Judges a deposit with its first voucher.
    pub(super) async fn judge_deposit(
        &self,
        offer: &BatchOffer,
        payload: &BatchPayload,
        deposit: &Deposit,
        simulate: bool,
    ) -> Result<JudgedDeposit, Refusal> {
        let mut offer = offer.clone();
        // Who names no method means the one that was signed.
        offer.extra.asset_transfer_method.get_or_insert(match &deposit.authorization {
            x402::DepositAuthorization::Erc3009(_) => TransferMethod::Eip3009,
            x402::DepositAuthorization::Permit2(_) => TransferMethod::Permit2,
        });
        let id = payload.check(&offer, self.operator.contract().domain())?;
        let terms = payload.config();
        let least = self.served(&offer.asset, Reason::BatchTokenMismatch)?.deposit_min;
        if deposit.amount.is_zero() || deposit.amount < least {
            return Err(Refusal::new(Reason::BatchDepositBelowMinDeposit, format!("gas is spent on deposits of {least} and more")));
        }
        let authorization = self.judge_authorization(&offer, &terms, &id, deposit).await?;
        self.judge_voucher(&terms, payload.voucher()).await?;
        let state = self.state(id).await?;
        let funds = token_balance(self.rpc(), terms.token, terms.payer).await.map_err(unread)?;
        if funds < deposit.amount.units() {
            return Err(Refusal::new(Reason::BatchInsufficientBalance, format!("the payer has {funds} of {}", deposit.amount)));
        }
        let balance = self.counted(&terms, &state).await?.checked_add(deposit.amount).map_err(|_| Reason::BatchCumulativeExceedsBalance)?;
        let ceiling = payload.voucher().max_claimable_amount;
        if ceiling.as_amount() > balance {
            return Err(Reason::BatchCumulativeExceedsBalance.into());
        }
        if ceiling <= state.claimed {
            return Err(Reason::BatchCumulativeBelowClaimed.into());
        }
        if simulate {
            let tried = self.operator.try_deposit(&terms, deposit.amount, &authorization).await;
            tried.map_err(|error| simulated(&error, Reason::BatchDepositSimulationFailed))?;
        }
        let judged = Judged { payer: terms.payer, state };
        Ok(JudgedDeposit { judged, terms, amount: deposit.amount, authorization })
    }

    /// The permission to pull the deposit: times, then signature, then allowance.
    async fn judge_authorization(
        &self,
        offer: &BatchOffer,
        terms: &ChannelConfig,
        id: &EscrowChannelId,
        deposit: &Deposit,
    ) -> Result<DepositAuthorization, Refusal> {
        let time = self.time_secs().await.map_err(unread)?;
        match &deposit.authorization {
            x402::DepositAuthorization::Erc3009(authorization) => {
                if offer.extra.name.is_empty() || offer.extra.version.is_empty() {
                    return Err(Reason::BatchMissingEip712Domain.into());
                }
                if authorization.valid_before < Uint256::from(time.saturating_add(VALIDITY_SECS)) {
                    return Err(Reason::BatchPayloadAuthorizationValidBefore.into());
                }
                if authorization.valid_after > Uint256::from(time) {
                    return Err(Reason::BatchPayloadAuthorizationValidAfter.into());
                }
                self.refuse_counterfactual(terms.payer, authorization.signature.as_bytes(), Reason::BatchEip6492FactoryNotAllowed)
                    .await?;
                let domain = TokenDomain::new(&offer.extra.name, &offer.extra.version, offer.chain, offer.asset);
                let signed = authorization.signed(terms.payer, id, deposit.amount);
                if !self.is_signed(signed, &domain, terms.payer).await.map_err(unread)? {
                    return Err(Reason::BatchReceiveAuthorizationSignature.into());
                }
                Ok(DepositAuthorization::Erc3009 {
                    valid_after: authorization.valid_after,
                    valid_before: authorization.valid_before,
                    salt: Uint256::from_be_bytes(*authorization.salt.as_bytes()),
                    signature: authorization.signature.clone(),
                })
            }
            x402::DepositAuthorization::Permit2(permit) => {
                if permit.deadline < Uint256::from(time.saturating_add(VALIDITY_SECS)) {
                    return Err(Reason::BatchPermit2DeadlineExpired.into());
                }
                let (signed, domain): (_, Permit2Domain) = permit.signed(offer.chain);
                if !self.is_signed(signed, &domain, terms.payer).await.map_err(unread)? {
                    return Err(Reason::BatchPermit2InvalidSignature.into());
                }
                let allowed = token_allowance(self.rpc(), terms.token, terms.payer, PERMIT2).await.map_err(unread)?;
                if allowed < deposit.amount.units() {
                    return Err(Reason::BatchPermit2AllowanceRequired.into());
                }
                Ok(DepositAuthorization::Permit2 {
                    nonce: permit.nonce,
                    deadline: permit.deadline,
                    signature: permit.signature.clone(),
                    permit: Vec::new(),
                })
            }
        }
    }

    /// Judges a voucher on a channel that is funded; a refund's may be of exactly what is claimed.
    pub(super) async fn judge_spending(&self, offer: &BatchOffer, payload: &BatchPayload) -> Result<Judged, Refusal> {
        let id = payload.check(offer, self.operator.contract().domain())?;
        let terms = payload.config();
        self.judge_voucher(&terms, payload.voucher()).await?;
        let state = self.state(id).await?;
        if state.balance.is_zero() {
            return Err(Reason::BatchChannelNotFound.into());
        }
        let ceiling = payload.voucher().max_claimable_amount;
        if ceiling.as_amount() > self.counted(&terms, &state).await? {
            return Err(Reason::BatchCumulativeExceedsBalance.into());
        }
        let is_refund = matches!(payload, BatchPayload::Refund { .. });
        if ceiling < state.claimed || (ceiling == state.claimed && !is_refund) {
            return Err(Reason::BatchCumulativeBelowClaimed.into());
        }
        Ok(Judged { payer: terms.payer, state })
    }

    /// The voucher's signature. An authorizer's is a key's, whatever stands at its address: the contract calls no code then (E-5).
    pub(super) async fn judge_voucher(&self, terms: &ChannelConfig, voucher: &VoucherFields) -> Result<(), Refusal> {
        let (domain, signed) = (self.operator.contract().domain(), voucher.signed());
        let good = if terms.payer_authorizer == Address::ZERO {
            self.is_signed(signed, domain, terms.payer).await.map_err(unread)?
        } else {
            signed.verify(domain, terms.payer_authorizer).is_ok()
        };
        if good { Ok(()) } else { Err(Reason::BatchVoucherSignature.into()) }
    }

    /// Whether an account signed: its key, or what its code says where it has some.
    pub(super) async fn is_signed<T: Statement>(
        &self,
        signed: Signed<T>,
        domain: &T::Domain,
        account: Address,
    ) -> Result<bool, ChainError> {
        let signer = if self.rpc().is_contract(account).await? { Signer::Contract(account) } else { Signer::Key(account) };
        match signed.check(domain, signer) {
            Ok(Checked::Verified(_)) => Ok(true),
            Ok(Checked::Ask(question)) => {
                let answer = ask_contract(self.rpc(), account, *question.digest(), question.signature()).await?;
                Ok(question.answered(&answer).is_ok())
            }
            Err(_) => Ok(false),
        }
    }

    /// Accounts that have to be made first are not served: that is gas without a bound.
    pub(super) async fn refuse_counterfactual(&self, account: Address, signature: &[u8], reason: Reason) -> Result<(), Refusal> {
        let is_wrapped = signature.len() > 32 && signature.rchunks(2).take(16).all(|pair| pair == ERC6492_MAGIC);
        if is_wrapped && !self.rpc().is_contract(account).await.map_err(unread)? {
            return Err(Refusal::new(reason, "accounts are not deployed for their payers here"));
        }
        Ok(())
    }

    /// The channel: what is deep enough of its balance, and the newest of everything that lowers what can be claimed.
    pub(super) async fn state(&self, channel: EscrowChannelId) -> Result<ChannelState, Refusal> {
        let newest = self.operator.contract().newest_state(channel).await.map_err(unread)?;
        let deep = self.reader.look(&BTreeSet::from([channel])).await.map_err(unread)?;
        let deep = deep.states.first().map_or(Amount::ZERO, |state| state.balance);
        Ok(ChannelState { balance: newest.balance.min(deep), ..newest })
    }

    /// What of a channel's balance can be relied upon: a withdrawal that may be final before a claim is mined does not count any more.
    pub(super) async fn counted(&self, terms: &ChannelConfig, state: &ChannelState) -> Result<Amount, Refusal> {
        let Some(withdrawal) = state.withdrawal else { return Ok(state.balance) };
        let soon = self.time_secs().await.map_err(unread)?.saturating_add(self.terms.section.withdrawal_margin_secs);
        let final_at = withdrawal.initiated_at.as_secs_down().saturating_add(terms.withdraw_delay_secs);
        let counted = if soon < final_at { Ok(state.balance) } else { state.balance.checked_sub(withdrawal.amount) };
        Ok(counted.unwrap_or(Amount::ZERO))
    }

    /// The time by the later of both clocks, in seconds: what ends by either has ended.
    pub(super) async fn time_secs(&self) -> Result<u64, ChainError> {
        Ok(now().max(self.rpc().head_time().await?).as_secs_down())
    }

    /// Rows of a claim: of one receiver, so that it is known whose budget the gas is, and of tokens that are served.
    pub(super) fn rows(&self, claims: &[Claim], reason: Reason) -> Result<Vec<ClaimRow>, Refusal> {
        let domain = self.operator.contract().domain();
        let row = |claim: &Claim| {
            let config = ChannelConfig::from(claim.voucher.channel);
            let channel = claim.channel(domain).map_err(|_| Refusal::from(Reason::BatchWithdrawDelayOutOfRange))?;
            self.served(&config.token, Reason::BatchTokenMismatch)?;
            Ok(ClaimRow {
                channel,
                config,
                ceiling: claim.voucher.max_claimable_amount,
                signature: claim.signature.clone(),
                total: claim.total_claimed,
            })
        };
        let rows = claims.iter().map(row).collect::<Result<Vec<_>, Refusal>>()?;
        if rows.len() > millstream_chain::x402::CLAIM_ROWS_MAX {
            let message = format!("a transaction takes {} rows", millstream_chain::x402::CLAIM_ROWS_MAX);
            return Err(Refusal::new(reason, message));
        }
        let receivers: BTreeSet<Address> = rows.iter().map(|row| row.config.receiver).collect();
        if receivers.len() > 1 {
            return Err(Refusal::new(Reason::BatchReceiverMismatch, "the rows are of several receivers"));
        }
        let channels: BTreeSet<EscrowChannelId> = rows.iter().map(|row| row.channel).collect();
        if channels.len() < rows.len() {
            return Err(Refusal::new(reason, "a channel comes twice"));
        }
        Ok(rows)
    }
}

/// The requirements with what some servers leave out and nothing here depends on.
fn completed(requirements: &PaymentRequirements, terms: Option<&ChannelConfig>) -> PaymentRequirements {
    let mut completed = requirements.clone();
    for title in ["name", "version"] {
        if completed.extra.get(title).is_none() {
            completed.extra.insert(title, json!(""));
        }
    }
    if let Some(terms) = terms.filter(|_| completed.extra.get("withdrawDelay").is_none()) {
        completed.extra.insert("withdrawDelay", json!(terms.withdraw_delay_secs));
    }
    completed
}

fn requirement(error: &DialectError) -> Refusal {
    Refusal::new(Reason::InvalidPaymentRequirements, error.to_string())
}

/// What a payload that is of no known shape is refused for: by what it says it is.
pub(super) fn misshapen(payload: &Object, error: &DialectError) -> Refusal {
    let reason = match payload.get("type").and_then(|kind| kind.as_str()) {
        Some("deposit") => Reason::BatchDepositPayload,
        Some("voucher") => Reason::BatchVoucherPayload,
        Some("refund") => Reason::BatchRefundPayload,
        Some("claim") => Reason::BatchClaimPayload,
        Some("settle") => Reason::BatchSettlePayload,
        _ => Reason::BatchPayloadType,
    };
    Refusal::new(reason, error.to_string())
}

/// The chain could not be read.
#[allow(clippy::needless_pass_by_value, reason = "it stands at the end of calls")]
pub(super) fn unread(error: ChainError) -> Refusal {
    Refusal::new(Reason::BatchRpcReadFailed, error.to_string())
}

/// What a simulation said: no, or nothing.
pub(super) fn simulated(error: &ChainError, reason: Reason) -> Refusal {
    match error {
        ChainError::Reverted { revert, .. } => Refusal::new(reason, revert.to_string()),
        error if error.is_retryable() => Refusal::new(Reason::BatchRpcReadFailed, error.to_string()),
        error => Refusal::new(reason, error.to_string()),
    }
}
