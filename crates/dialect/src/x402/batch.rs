//! `batch-settlement` on EVM chains: its offers, the payer's payloads, the server's commands to a facilitator, and channel states.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Network, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, ClaimBatch, ClaimEntry, ERC3009_DEPOSIT_COLLECTOR, EscrowDomain, EscrowScheme, EscrowVoucher, EvmSignature, PERMIT2,
    PERMIT2_DEPOSIT_COLLECTOR, Permit2Domain, Permit2Transfer, Refund, Signed, SignedEscrowVoucher, TokenPermissions,
    TransferAuthorization, TransferKind, TransferWitness, X402_BATCH_SETTLEMENT, deposit_nonce, eip55,
};
use serde::{Deserialize, Serialize};

use super::envelope::PaymentRequirements;
use super::exact::TransferMethod;
use crate::fields::{Text, optional, text};
use crate::limits::CLAIMS_MAX;
use crate::{DialectError, Object};

/// The scheme's name.
pub const BATCH_SETTLEMENT: &str = "batch-settlement";

const PAYLOAD: &str = "payload";

/// The terms of a channel as they travel; the fields are those of [`ChannelConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFields {
    #[serde(with = "text")]
    payer: Address,
    #[serde(with = "text")]
    payer_authorizer: Address,
    #[serde(with = "text")]
    receiver: Address,
    #[serde(with = "text")]
    receiver_authorizer: Address,
    #[serde(with = "text")]
    token: Address,
    withdraw_delay: u64,
    #[serde(with = "text")]
    salt: Hash256,
}

/// A voucher as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoucherFields {
    /// The channel.
    #[serde(with = "text")]
    pub channel_id: EscrowChannelId,
    /// What may be taken in total.
    #[serde(with = "text")]
    pub max_claimable_amount: CumulativeAmount,
    /// The payer's, or its authorizer's.
    #[serde(with = "text")]
    pub signature: EvmSignature,
}

/// A deposit by ERC-3009.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erc3009Deposit {
    /// Unix seconds.
    pub valid_after: Uint256,
    /// Unix seconds.
    pub valid_before: Uint256,
    /// What the nonce is made from, with the channel's id. A number, which clients write as 32 bytes of hexadecimal.
    #[serde(with = "text")]
    pub salt: Hash256,
    /// The payer's.
    #[serde(with = "text")]
    pub signature: EvmSignature,
}

/// A token and an amount, as Permit2 has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermittedFields {
    /// The token.
    #[serde(with = "text")]
    pub token: Address,
    /// The most that may be taken.
    #[serde(with = "text")]
    pub amount: Amount,
}

/// The witness of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DepositWitness {
    /// The channel it goes to.
    #[serde(with = "text")]
    pub channel_id: EscrowChannelId,
}

/// A deposit by Permit2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Deposit {
    /// Who pays.
    #[serde(with = "text")]
    pub from: Address,
    /// What is deposited.
    pub permitted: PermittedFields,
    /// The collector.
    #[serde(with = "text")]
    pub spender: Address,
    /// Any value that the payer has not used.
    pub nonce: Uint256,
    /// Unix seconds.
    pub deadline: Uint256,
    /// The channel.
    pub witness: DepositWitness,
    /// The payer's.
    #[serde(with = "text")]
    pub signature: EvmSignature,
}

/// How the deposit is pulled: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepositAuthorization {
    /// By the token.
    #[serde(rename = "erc3009Authorization")]
    Erc3009(Erc3009Deposit),
    /// By Permit2.
    #[serde(rename = "permit2Authorization")]
    Permit2(Permit2Deposit),
}

/// A deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deposit {
    /// What is deposited.
    #[serde(with = "text")]
    pub amount: Amount,
    /// The payer's permission.
    pub authorization: DepositAuthorization,
}

/// What a payer sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum BatchPayload {
    /// Fund the channel, and pay at once.
    Deposit {
        /// The channel's terms.
        channel_config: ConfigFields,
        /// The first voucher.
        voucher: VoucherFields,
        /// The funds.
        deposit: Deposit,
    },
    /// Pay.
    Voucher {
        /// The channel's terms.
        channel_config: ConfigFields,
        /// The voucher.
        voucher: VoucherFields,
    },
    /// Ask for what is left; nothing is bought.
    Refund {
        /// The channel's terms.
        channel_config: ConfigFields,
        /// A voucher of exactly what was charged.
        voucher: VoucherFields,
        /// How much of it; all when absent.
        #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
    },
}

/// The voucher of a row of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedVoucher {
    /// The channel's terms.
    pub channel: ConfigFields,
    /// What the voucher allows in total.
    #[serde(with = "text")]
    pub max_claimable_amount: CumulativeAmount,
}

/// A row of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The voucher.
    pub voucher: ClaimedVoucher,
    /// Its signature.
    #[serde(with = "text")]
    pub signature: EvmSignature,
    /// What is taken in total.
    #[serde(with = "text")]
    pub total_claimed: CumulativeAmount,
}

/// A refund as a server hands it to its facilitator: the payer's, and what the chain needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefundSettlement {
    /// The channel's terms.
    pub channel_config: ConfigFields,
    /// The payer's voucher.
    pub voucher: VoucherFields,
    /// What is refunded.
    #[serde(with = "text")]
    pub amount: Amount,
    /// The channel's refund nonce on the chain.
    pub refund_nonce: Uint256,
    /// What is claimed before.
    pub claims: Vec<Claim>,
    /// The receiver authorizer's over the refund; absent when the facilitator is the authorizer.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub refund_authorizer_signature: Option<EvmSignature>,
    /// The receiver authorizer's over the claims; absent when the facilitator is the authorizer.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub claim_authorizer_signature: Option<EvmSignature>,
}

/// What a server tells its facilitator to do by `/settle`, besides a payer's deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum BatchCommand {
    /// Take what vouchers allow.
    Claim {
        /// The rows, in the order of the transaction.
        claims: Vec<Claim>,
        /// The receiver authorizer's over them; absent when the facilitator is the authorizer.
        #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
        claim_authorizer_signature: Option<EvmSignature>,
    },
    /// Pay the receiver what was claimed.
    Settle {
        /// The receiver.
        #[serde(with = "text")]
        receiver: Address,
        /// The token.
        #[serde(with = "text")]
        token: Address,
    },
    /// Refund a payer.
    Refund(RefundSettlement),
}

/// A channel as the chain and the server have it: in corrective 402s and in responses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelState {
    /// The channel.
    #[serde(with = "text")]
    pub channel_id: EscrowChannelId,
    /// Deposits less withdrawals and refunds.
    #[serde(with = "text")]
    pub balance: Amount,
    /// What was claimed in total.
    #[serde(with = "text")]
    pub total_claimed: CumulativeAmount,
    /// Unix seconds of the pending withdrawal; 0 when there is none.
    pub withdraw_requested_at: u64,
    /// The channel's refund nonce.
    pub refund_nonce: Uint256,
    /// What was charged in total; the facilitator of a self-managed server does not know it.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub charged_cumulative_amount: Option<CumulativeAmount>,
}

/// The best voucher that a server holds: a payer believes a corrective 402 only if the signature is its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VoucherState {
    /// What it allows in total.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub signed_max_claimable: Option<CumulativeAmount>,
    /// Its signature.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<EvmSignature>,
}

/// `extra` of an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchExtra {
    /// Who authorises claims and refunds.
    #[serde(with = "text")]
    pub receiver_authorizer: Address,
    /// Seconds that a withdrawal waits.
    pub withdraw_delay: u64,
    /// The name in the token's domain.
    pub name: String,
    /// The version in the token's domain.
    pub version: String,
    /// How deposits are pulled; by ERC-3009 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset_transfer_method: Option<TransferMethod>,
    /// The least deposit that is taken.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub min_deposit: Option<Amount>,
    /// Only in a corrective 402.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// Only in a corrective 402.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
    /// Custody draft 1.1: see [`custody`](super::custody).
    #[serde(flatten)]
    pub custody: super::custody::CustodyExtra,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub more: Object,
}

/// `extra` of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponseExtra {
    /// What this request cost; absent for a refund.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub charged_amount: Option<Amount>,
    /// The channel afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_state: Option<ChannelState>,
    /// The best voucher, where a payment was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher_state: Option<VoucherState>,
}

/// An offer of the scheme, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchOffer {
    /// The chain.
    pub chain: ChainId,
    /// The most that one request costs, in base units.
    pub amount: Amount,
    /// The token.
    pub asset: Address,
    /// The receiver of the channel.
    pub pay_to: Address,
    /// Seconds that the payment has to be good for.
    pub max_timeout_secs: u64,
    /// The rest.
    pub extra: BatchExtra,
}

impl From<ConfigFields> for ChannelConfig {
    fn from(fields: ConfigFields) -> Self {
        Self {
            payer: fields.payer,
            payer_authorizer: fields.payer_authorizer,
            receiver: fields.receiver,
            receiver_authorizer: fields.receiver_authorizer,
            token: fields.token,
            withdraw_delay_secs: fields.withdraw_delay,
            salt: fields.salt,
        }
    }
}

impl From<ChannelConfig> for ConfigFields {
    fn from(config: ChannelConfig) -> Self {
        Self {
            payer: config.payer,
            payer_authorizer: config.payer_authorizer,
            receiver: config.receiver,
            receiver_authorizer: config.receiver_authorizer,
            token: config.token,
            withdraw_delay: config.withdraw_delay_secs,
            salt: config.salt,
        }
    }
}

impl VoucherFields {
    /// The voucher, to be checked.
    #[must_use]
    pub fn signed(&self) -> SignedEscrowVoucher {
        let voucher = EscrowVoucher { channel: self.channel_id, cumulative: self.max_claimable_amount };
        Signed::new(voucher, self.signature.clone())
    }

    /// A voucher as it travels.
    #[must_use]
    pub fn of(voucher: &SignedEscrowVoucher) -> Self {
        Self {
            channel_id: voucher.statement().channel,
            max_claimable_amount: voucher.statement().cumulative,
            signature: voucher.signature().clone(),
        }
    }
}

/// The domain of the scheme's contract on a chain.
#[must_use]
pub fn batch_domain(chain: ChainId) -> EscrowDomain {
    EscrowDomain::new(EscrowScheme::X402Batch, chain, X402_BATCH_SETTLEMENT)
}

impl Erc3009Deposit {
    /// The transfer that was signed, for the token's domain: the collector is paid, and the nonce follows from the channel.
    #[must_use]
    pub fn signed(&self, payer: Address, channel: &EscrowChannelId, amount: Amount) -> Signed<TransferAuthorization> {
        let salt = Uint256::from_be_bytes(*self.salt.as_bytes());
        let transfer = TransferAuthorization {
            kind: TransferKind::Receive,
            from: payer,
            to: ERC3009_DEPOSIT_COLLECTOR,
            value: amount,
            valid_after: self.valid_after,
            valid_before: self.valid_before,
            nonce: deposit_nonce(channel, salt),
        };
        Signed::new(transfer, self.signature.clone())
    }
}

impl Permit2Deposit {
    /// The transfer that was signed, and its domain. What it says is the payer's; compare it with the channel's terms first
    /// ([`BatchPayload::check`]).
    #[must_use]
    pub fn signed(&self, chain: ChainId) -> (Signed<Permit2Transfer>, Permit2Domain) {
        let transfer = Permit2Transfer {
            permitted: vec![TokenPermissions { token: self.permitted.token, amount: self.permitted.amount }],
            spender: self.spender,
            nonce: self.nonce,
            deadline: self.deadline,
            witness: TransferWitness::X402Deposit { channel: self.witness.channel_id },
        };
        (Signed::new(transfer, self.signature.clone()), Permit2Domain::new(chain, PERMIT2))
    }
}

impl BatchPayload {
    /// From a payment's `payload`.
    ///
    /// # Errors
    /// [`DialectError::Shape`].
    pub fn from_object(payload: &Object) -> Result<Self, DialectError> {
        payload.read(PAYLOAD)
    }

    /// A payment's `payload`.
    ///
    /// # Errors
    /// Never for a payload that was made by hand or read.
    pub fn to_object(&self) -> Result<Object, DialectError> {
        Object::of(PAYLOAD, self)
    }

    /// The channel's terms.
    #[must_use]
    pub fn config(&self) -> ChannelConfig {
        match self {
            Self::Deposit { channel_config, .. } | Self::Voucher { channel_config, .. } | Self::Refund { channel_config, .. } => {
                (*channel_config).into()
            }
        }
    }

    /// The voucher.
    #[must_use]
    pub const fn voucher(&self) -> &VoucherFields {
        match self {
            Self::Deposit { voucher, .. } | Self::Voucher { voucher, .. } | Self::Refund { voucher, .. } => voucher,
        }
    }

    /// Whether the payload is one for this offer, as far as bytes tell (H-7): the first reason why not, in the order of the scheme's rules.
    /// Signatures, balances and totals come after.
    ///
    /// # Errors
    /// The [`Reason`](super::Reason) to answer with.
    pub fn check(&self, offer: &BatchOffer, domain: &EscrowDomain) -> Result<EscrowChannelId, super::Reason> {
        use super::Reason;
        let config = self.config();
        let id = config.channel_id(domain).map_err(|_| Reason::BatchWithdrawDelayOutOfRange)?;
        if id != self.voucher().channel_id {
            return Err(Reason::BatchChannelIdMismatch);
        }
        let checks = [
            (config.token == offer.asset, Reason::BatchTokenMismatch),
            (config.receiver == offer.pay_to, Reason::BatchReceiverMismatch),
            (config.receiver_authorizer == offer.extra.receiver_authorizer, Reason::BatchReceiverAuthorizerMismatch),
            (config.withdraw_delay_secs == offer.extra.withdraw_delay, Reason::BatchWithdrawDelayMismatch),
            (config.delay_in_range(), Reason::BatchWithdrawDelayOutOfRange),
        ];
        if let Some((_, reason)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(reason);
        }
        if let Self::Deposit { deposit, .. } = self {
            deposit.check(offer, &config, &id)?;
        }
        Ok(id)
    }
}

impl Deposit {
    fn check(&self, offer: &BatchOffer, config: &ChannelConfig, id: &EscrowChannelId) -> Result<(), super::Reason> {
        use super::Reason;
        if offer.extra.min_deposit.is_some_and(|least| self.amount < least) {
            return Err(Reason::BatchDepositBelowMinDeposit);
        }
        let method = offer.extra.asset_transfer_method.unwrap_or_default();
        let permit = match (method, &self.authorization) {
            (TransferMethod::Eip3009, DepositAuthorization::Erc3009(_)) => return Ok(()),
            (TransferMethod::Eip3009, DepositAuthorization::Permit2(_)) => return Err(Reason::BatchErc3009AuthorizationRequired),
            (TransferMethod::Permit2, DepositAuthorization::Erc3009(_)) => return Err(Reason::BatchPermit2AuthorizationRequired),
            (TransferMethod::Permit2, DepositAuthorization::Permit2(permit)) => permit,
        };
        let checks = [
            (permit.spender == PERMIT2_DEPOSIT_COLLECTOR, Reason::BatchPermit2InvalidSpender),
            (permit.permitted.amount == self.amount, Reason::BatchPermit2AmountMismatch),
            (permit.permitted.token == config.token, Reason::BatchTokenMismatch),
            (permit.witness.channel_id == *id, Reason::BatchChannelIdMismatch),
            (permit.from == config.payer, Reason::BatchPermit2InvalidSignature),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, reason)| Err(reason))
    }
}

impl BatchCommand {
    /// From the `payload` of a request to settle.
    ///
    /// # Errors
    /// [`DialectError::Shape`], or [`DialectError::Count`] with no row or more than [`CLAIMS_MAX`].
    pub fn from_object(payload: &Object) -> Result<Self, DialectError> {
        let command: Self = payload.read(PAYLOAD)?;
        let (count, min) = match &command {
            Self::Claim { claims, .. } => (claims.len(), 1),
            Self::Refund(refund) => (refund.claims.len(), 0),
            Self::Settle { .. } => return Ok(command),
        };
        if count < min || count > CLAIMS_MAX {
            return Err(DialectError::Count { part: "claims", count, min, max: CLAIMS_MAX });
        }
        Ok(command)
    }

    /// The `payload` of a request to settle.
    ///
    /// # Errors
    /// Never for a command that was made by hand or read.
    pub fn to_object(&self) -> Result<Object, DialectError> {
        Object::of(PAYLOAD, self)
    }
}

impl Claim {
    /// The voucher, to be checked.
    ///
    /// # Errors
    /// [`DialectError::Evm`] when the terms have no id.
    pub fn signed(&self, domain: &EscrowDomain) -> Result<SignedEscrowVoucher, DialectError> {
        let channel = self.channel(domain)?;
        Ok(Signed::new(EscrowVoucher { channel, cumulative: self.voucher.max_claimable_amount }, self.signature.clone()))
    }

    /// The channel.
    ///
    /// # Errors
    /// [`DialectError::Evm`] when the terms have no id.
    pub fn channel(&self, domain: &EscrowDomain) -> Result<EscrowChannelId, DialectError> {
        let config = ChannelConfig::from(self.voucher.channel);
        config.channel_id(domain).map_err(|source| DialectError::Evm { field: "withdrawDelay", source })
    }

    /// What a receiver authorizer signs for these rows.
    ///
    /// # Errors
    /// [`DialectError::Evm`] when the terms of one have no id.
    pub fn batch(claims: &[Self], domain: &EscrowDomain) -> Result<ClaimBatch, DialectError> {
        let entry = |claim: &Self| {
            Ok(ClaimEntry {
                channel: claim.channel(domain)?,
                max_claimable: claim.voucher.max_claimable_amount,
                total_claimed: claim.total_claimed,
            })
        };
        Ok(ClaimBatch { claims: claims.iter().map(entry).collect::<Result<_, DialectError>>()? })
    }
}

impl RefundSettlement {
    /// What a receiver authorizer signs for the refund.
    #[must_use]
    pub const fn refund(&self) -> Refund {
        Refund { channel: self.voucher.channel_id, nonce: self.refund_nonce, amount: self.amount }
    }
}

impl BatchOffer {
    /// From an offer of this scheme.
    ///
    /// # Errors
    /// [`DialectError`]: it is of another scheme or family of chains, or a field is not what it has to be.
    pub fn from_requirements(offer: &PaymentRequirements) -> Result<Self, DialectError> {
        if offer.scheme != BATCH_SETTLEMENT {
            return Err(DialectError::field("scheme", "expected batch-settlement"));
        }
        let address = |field, text: &str| Address::read(text).map_err(|_| DialectError::field(field, "expected an address"));
        Ok(Self {
            chain: offer.network()?.evm_chain().ok_or(DialectError::field("network", "expected an EVM chain"))?,
            amount: offer.amount()?,
            asset: address("asset", &offer.asset)?,
            pay_to: address("payTo", &offer.pay_to)?,
            max_timeout_secs: offer.max_timeout_seconds,
            extra: offer.extra.read("extra")?,
        })
    }

    /// The offer as it travels.
    ///
    /// # Errors
    /// Never for an offer that was made by hand or read.
    pub fn to_requirements(&self) -> Result<PaymentRequirements, DialectError> {
        Ok(PaymentRequirements {
            scheme: BATCH_SETTLEMENT.to_owned(),
            network: Network::evm(self.chain).to_string(),
            amount: self.amount.to_string(),
            asset: eip55(&self.asset),
            pay_to: eip55(&self.pay_to),
            max_timeout_seconds: self.max_timeout_secs,
            extra: Object::of("extra", &self.extra)?,
            more: Object::default(),
        })
    }

    /// The channel that a payer opens on this offer.
    #[must_use]
    pub const fn config(&self, payer: Address, payer_authorizer: Address, salt: Hash256) -> ChannelConfig {
        ChannelConfig {
            payer,
            payer_authorizer,
            receiver: self.pay_to,
            receiver_authorizer: self.extra.receiver_authorizer,
            token: self.asset,
            withdraw_delay_secs: self.extra.withdraw_delay,
            salt,
        }
    }
}
