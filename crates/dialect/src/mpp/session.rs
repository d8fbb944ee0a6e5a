//! The `session` intent on EVM chains: a channel, and vouchers against it.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    EscrowDomain, EscrowScheme, EscrowVoucher, EvmSignature, PERMIT2, Permit2Domain, Permit2Transfer, SessionTerms, Signed,
    SignedEscrowVoucher, TokenPermissions, TransferAuthorization, TransferKind, TransferWitness, top_up_nonce,
};
use serde::{Deserialize, Serialize};

use crate::fields::{optional, text};
use crate::x402::{Erc3009Fields, PermittedFields};
use crate::{DialectError, Object};

/// The intent's name.
pub const SESSION: &str = "session";

const PAYLOAD: &str = "payload";

/// How a payment or a deposit is proved. Ordered lists of them say what a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialType {
    /// A signature for Permit2.
    Permit2,
    /// A signature for the token (ERC-3009).
    Authorization,
    /// A signed transaction; `charge` only.
    Transaction,
    /// The hash of a transaction that the payer has sent.
    Hash,
}

/// `request` of an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionRequest {
    /// The price of one unit.
    #[serde(with = "text")]
    pub amount: Amount,
    /// The unit: `llm_token`, `byte`, `request`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_type: Option<String>,
    /// A deposit that the server finds sensible.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub suggested_deposit: Option<Amount>,
    /// The token.
    #[serde(with = "text")]
    pub currency: Address,
    /// The payee of the channel.
    #[serde(with = "text")]
    pub recipient: Address,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The provider's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What the method adds.
    pub method_details: SessionDetails,
}

/// What the method adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionDetails {
    /// The chain.
    pub chain_id: u64,
    /// The escrow.
    #[serde(with = "text")]
    pub escrow_contract: Address,
    /// A channel to go on with.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<EscrowChannelId>,
    /// The least that a voucher has to add; any, when absent.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub min_voucher_delta: Option<Amount>,
    /// Whether the server pays the gas of deposits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fee_payer: Option<bool>,
    /// What deposits may be proved with, the preferred first; `hash` alone, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_types: Option<Vec<CredentialType>>,
    /// Permit2, where it is not at its usual address.
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    pub permit2_contract: Option<Address>,
}

/// What a deposit by Permit2 is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FundingWitness {
    /// An opening.
    #[serde(rename_all = "camelCase")]
    Open {
        /// The channel's payee.
        #[serde(with = "text")]
        payee: Address,
        /// The channel's salt.
        #[serde(with = "text")]
        salt: Hash256,
        /// Who signs vouchers; zero for the payer.
        #[serde(with = "text")]
        authorized_signer: Address,
    },
    /// A top-up.
    #[serde(rename_all = "camelCase")]
    TopUp {
        /// The channel.
        #[serde(with = "text")]
        channel_id: EscrowChannelId,
    },
}

/// A deposit by Permit2 as it travels. The spender is the escrow, and is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2Funding {
    /// Who pays.
    #[serde(with = "text")]
    pub from: Address,
    /// What is deposited.
    pub permitted: PermittedFields,
    /// Any value that the payer has not used.
    pub nonce: Uint256,
    /// Unix seconds.
    pub deadline: Uint256,
    /// What it is for.
    pub witness: FundingWitness,
}

/// A deposit that the server submits, told apart by `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Funding {
    /// By the token; `to` is the escrow, and the nonce follows from the channel.
    Authorization {
        /// What is signed.
        authorization: Erc3009Fields,
        /// The payer's.
        #[serde(with = "text")]
        signature: EvmSignature,
    },
    /// By Permit2.
    Permit2 {
        /// What is signed.
        authorization: Permit2Funding,
        /// The payer's.
        #[serde(with = "text")]
        signature: EvmSignature,
    },
}

/// What a deposit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FundingAction {
    /// Opens the channel.
    Open {
        /// The channel's salt.
        salt: Hash256,
        /// Who signs vouchers; zero for the payer.
        authorized_signer: Address,
    },
    /// Adds to it.
    TopUp {
        /// What the ERC-3009 nonce is made from; Permit2 needs none.
        salt: Option<Hash256>,
    },
}

/// A deposit that comes with a voucher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedDeposit {
    /// What it does.
    pub action: FundingAction,
    /// What is submitted.
    pub funding: Funding,
}

/// `payload` of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionPayload {
    /// The payer has opened the channel: with the transaction and a first voucher. The credential's source says who paid.
    OpenSent {
        /// The first voucher.
        voucher: SignedEscrowVoucher,
        /// The transaction.
        hash: Hash256,
        /// The channel's salt.
        salt: Hash256,
        /// Who signs vouchers; zero for the payer.
        authorized_signer: Address,
    },
    /// The server opens the channel.
    Open {
        /// The first voucher.
        voucher: SignedEscrowVoucher,
        /// The channel's salt.
        salt: Hash256,
        /// Who signs vouchers; zero for the payer.
        authorized_signer: Address,
        /// What is submitted.
        funding: Funding,
    },
    /// The payer has topped up.
    TopUpSent {
        /// The channel.
        channel: EscrowChannelId,
        /// The transaction.
        hash: Hash256,
        /// What was added.
        additional: Amount,
    },
    /// The server tops up.
    TopUp {
        /// The channel.
        channel: EscrowChannelId,
        /// What is added; equal to what the funding says.
        additional: Amount,
        /// What the ERC-3009 nonce is made from; Permit2 needs none.
        salt: Option<Hash256>,
        /// What is submitted.
        funding: Funding,
    },
    /// A voucher, after a deposit if there is one.
    Voucher {
        /// The voucher.
        voucher: SignedEscrowVoucher,
        /// A deposit that is made first.
        deposit: Option<MergedDeposit>,
    },
    /// The last voucher; the channel is closed with it.
    Close {
        /// The voucher.
        voucher: SignedEscrowVoucher,
    },
}

/// The payload as it travels: every field that any action has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    action: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    channel_id: Option<EscrowChannelId>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorization: Option<Object>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    signature: Option<EvmSignature>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    cumulative_amount: Option<CumulativeAmount>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    voucher_signature: Option<EvmSignature>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    additional_deposit: Option<Amount>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    authorized_signer: Option<Address>,
    #[serde(with = "optional", default, skip_serializing_if = "Option::is_none")]
    salt: Option<Hash256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deposit: Option<Box<Wire>>,
}

fn present<T>(field: &'static str, value: Option<T>) -> Result<T, DialectError> {
    value.ok_or(DialectError::field(field, "is missing"))
}

impl Wire {
    fn funding(&mut self) -> Result<Funding, DialectError> {
        let signature = present("signature", self.signature.take())?;
        let authorization = present("authorization", self.authorization.take())?;
        match self.kind.as_deref() {
            Some("authorization") => Ok(Funding::Authorization { authorization: authorization.read("authorization")?, signature }),
            Some("permit2") => Ok(Funding::Permit2 { authorization: authorization.read("authorization")?, signature }),
            Some(_) | None => Err(DialectError::field("type", "expected authorization or permit2")),
        }
    }

    fn set_funding(&mut self, funding: &Funding) -> Result<(), DialectError> {
        let (kind, authorization, signature) = match funding {
            Funding::Authorization { authorization, signature } => ("authorization", Object::of(PAYLOAD, authorization)?, signature),
            Funding::Permit2 { authorization, signature } => ("permit2", Object::of(PAYLOAD, authorization)?, signature),
        };
        self.kind = Some(kind.to_owned());
        self.authorization = Some(authorization);
        self.signature = Some(signature.clone());
        Ok(())
    }

    fn voucher(&mut self, signature: Option<EvmSignature>) -> Result<SignedEscrowVoucher, DialectError> {
        let channel = present("channelId", self.channel_id)?;
        let cumulative = present("cumulativeAmount", self.cumulative_amount)?;
        Ok(Signed::new(EscrowVoucher { channel, cumulative }, present("signature", signature)?))
    }

    fn set_voucher(&mut self, voucher: &SignedEscrowVoucher) {
        self.channel_id = Some(voucher.statement().channel);
        self.cumulative_amount = Some(voucher.statement().cumulative);
    }

    fn is_sent(&self) -> bool {
        self.kind.as_deref() == Some("hash")
    }

    fn merged(mut self) -> Result<MergedDeposit, DialectError> {
        let funding = self.funding()?;
        let action = match self.action.as_str() {
            "open" => FundingAction::Open {
                salt: present("salt", self.salt)?,
                authorized_signer: self.authorized_signer.unwrap_or(Address::ZERO),
            },
            "topUp" => FundingAction::TopUp { salt: funding.salt_needed(self.salt)? },
            _ => return Err(DialectError::field("deposit.action", "expected open or topUp")),
        };
        Ok(MergedDeposit { action, funding })
    }
}

/// The zero address is the payer, which the wire says by leaving it out.
fn named(signer: Address) -> Option<Address> {
    (!signer.is_zero()).then_some(signer)
}

impl Funding {
    fn salt_needed(&self, salt: Option<Hash256>) -> Result<Option<Hash256>, DialectError> {
        match self {
            Self::Authorization { .. } => present("salt", salt).map(Some),
            Self::Permit2 { .. } => Ok(salt),
        }
    }

    /// Who pays.
    #[must_use]
    pub const fn from(&self) -> Address {
        match self {
            Self::Authorization { authorization, .. } => authorization.from,
            Self::Permit2 { authorization, .. } => authorization.from,
        }
    }

    /// What is deposited.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        match self {
            Self::Authorization { authorization, .. } => authorization.value,
            Self::Permit2 { authorization, .. } => authorization.permitted.amount,
        }
    }

    /// Whether the deposit says what the channel and the offer say (H-33). Signatures and moments come after.
    ///
    /// # Errors
    /// [`DialectError::Field`], with the first field that does not fit.
    pub fn check(&self, request: &SessionRequest, channel: &EscrowChannelId, action: &FundingAction) -> Result<(), DialectError> {
        let opening = match action {
            FundingAction::Open { salt, authorized_signer } => Some(request.terms(self.from(), *salt, *authorized_signer)),
            FundingAction::TopUp { .. } => None,
        };
        if opening.is_some_and(|terms| terms.channel_id(&request.domain()) != *channel) {
            return Err(DialectError::field("channelId", "does not follow from the channel's terms"));
        }
        let checks = match self {
            Self::Authorization { authorization, .. } => {
                let nonce = match (opening, action) {
                    (Some(terms), _) => Some(terms.open_nonce()),
                    (None, FundingAction::TopUp { salt: Some(salt) }) => {
                        Some(top_up_nonce(channel, authorization.value, &authorization.from, salt))
                    }
                    (None, _) => None,
                };
                [
                    (authorization.to == request.method_details.escrow_contract, "to", "is not the escrow"),
                    (Some(authorization.nonce) == nonce, "nonce", "does not follow from the channel's terms"),
                ]
            }
            Self::Permit2 { authorization, .. } => {
                let witness = match (opening, action) {
                    (Some(terms), _) => {
                        FundingWitness::Open { payee: terms.payee, salt: terms.salt, authorized_signer: terms.authorized_signer }
                    }
                    (None, _) => FundingWitness::TopUp { channel_id: *channel },
                };
                [
                    (authorization.permitted.token == request.currency, "token", "is not the offer's currency"),
                    (authorization.witness == witness, "witness", "is not the channel's"),
                ]
            }
        };
        let failed = checks.into_iter().find(|(holds, ..)| !holds);
        failed.map_or(Ok(()), |(_, field, reason)| Err(DialectError::field(field, reason)))
    }

    /// The transfer of the token that was signed, for the token's domain.
    #[must_use]
    pub fn signed_transfer(&self) -> Option<Signed<TransferAuthorization>> {
        let Self::Authorization { authorization, signature } = self else {
            return None;
        };
        let transfer = TransferAuthorization {
            kind: TransferKind::Receive,
            from: authorization.from,
            to: authorization.to,
            value: authorization.value,
            valid_after: authorization.valid_after,
            valid_before: authorization.valid_before,
            nonce: authorization.nonce,
        };
        Some(Signed::new(transfer, signature.clone()))
    }

    /// The transfer of Permit2 that was signed, and its domain.
    #[must_use]
    pub fn signed_permit(&self, request: &SessionRequest) -> Option<(Signed<Permit2Transfer>, Permit2Domain)> {
        let Self::Permit2 { authorization, signature } = self else {
            return None;
        };
        let details = &request.method_details;
        let witness = match authorization.witness {
            FundingWitness::Open { payee, salt, authorized_signer } => TransferWitness::ChannelOpen { payee, salt, authorized_signer },
            FundingWitness::TopUp { channel_id } => TransferWitness::ChannelTopUp { channel: channel_id },
        };
        let transfer = Permit2Transfer {
            permitted: vec![TokenPermissions { token: authorization.permitted.token, amount: authorization.permitted.amount }],
            spender: details.escrow_contract,
            nonce: authorization.nonce,
            deadline: authorization.deadline,
            witness,
        };
        let domain = Permit2Domain::new(ChainId::new(details.chain_id), details.permit2_contract.unwrap_or(PERMIT2));
        Some((Signed::new(transfer, signature.clone()), domain))
    }
}

impl SessionRequest {
    /// The domain of vouchers.
    #[must_use]
    pub fn domain(&self) -> EscrowDomain {
        let details = &self.method_details;
        EscrowDomain::new(EscrowScheme::EvmSession, ChainId::new(details.chain_id), details.escrow_contract)
    }

    /// The channel that a payer opens on this offer.
    #[must_use]
    pub const fn terms(&self, payer: Address, salt: Hash256, authorized_signer: Address) -> SessionTerms {
        SessionTerms { payer, payee: self.recipient, token: self.currency, salt, authorized_signer }
    }

    /// Whether the offer takes a way to prove a deposit.
    #[must_use]
    pub fn takes(&self, kind: CredentialType) -> bool {
        match &self.method_details.credential_types {
            Some(types) => types.contains(&kind),
            None => kind == CredentialType::Hash,
        }
    }
}

impl SessionPayload {
    /// From a credential's `payload`.
    ///
    /// # Errors
    /// [`DialectError::Shape`] or [`DialectError::Field`].
    pub fn from_object(payload: &Object) -> Result<Self, DialectError> {
        let mut wire: Wire = payload.read(PAYLOAD)?;
        match wire.action.as_str() {
            "open" => {
                let salt = present("salt", wire.salt)?;
                let authorized_signer = wire.authorized_signer.unwrap_or(Address::ZERO);
                if wire.is_sent() {
                    let signature = wire.signature.take();
                    let voucher = wire.voucher(signature)?;
                    return Ok(Self::OpenSent { voucher, hash: present("hash", wire.hash)?, salt, authorized_signer });
                }
                let signature = Some(present("voucherSignature", wire.voucher_signature.take())?);
                let voucher = wire.voucher(signature)?;
                Ok(Self::Open { voucher, salt, authorized_signer, funding: wire.funding()? })
            }
            "topUp" => {
                let channel = present("channelId", wire.channel_id)?;
                let additional = present("additionalDeposit", wire.additional_deposit)?;
                if wire.is_sent() {
                    return Ok(Self::TopUpSent { channel, hash: present("hash", wire.hash)?, additional });
                }
                let funding = wire.funding()?;
                if funding.amount() != additional {
                    return Err(DialectError::field("additionalDeposit", "is not what was signed"));
                }
                Ok(Self::TopUp { channel, additional, salt: funding.salt_needed(wire.salt)?, funding })
            }
            "voucher" => {
                let signature = wire.signature.take();
                let voucher = wire.voucher(signature)?;
                Ok(Self::Voucher { voucher, deposit: wire.deposit.map(|deposit| deposit.merged()).transpose()? })
            }
            "close" => {
                let signature = wire.signature.take();
                Ok(Self::Close { voucher: wire.voucher(signature)? })
            }
            _ => Err(DialectError::field("action", "expected open, topUp, voucher or close")),
        }
    }

    /// A credential's `payload`.
    ///
    /// # Errors
    /// Never for a payload that was made by hand or read.
    pub fn to_object(&self) -> Result<Object, DialectError> {
        let mut wire = Wire::default();
        match self {
            Self::OpenSent { voucher, hash, salt, authorized_signer } => {
                "open".clone_into(&mut wire.action);
                wire.kind = Some("hash".to_owned());
                wire.set_voucher(voucher);
                wire.signature = Some(voucher.signature().clone());
                (wire.hash, wire.salt, wire.authorized_signer) = (Some(*hash), Some(*salt), named(*authorized_signer));
            }
            Self::Open { voucher, salt, authorized_signer, funding } => {
                "open".clone_into(&mut wire.action);
                wire.set_voucher(voucher);
                wire.voucher_signature = Some(voucher.signature().clone());
                (wire.salt, wire.authorized_signer) = (Some(*salt), named(*authorized_signer));
                wire.set_funding(funding)?;
            }
            Self::TopUpSent { channel, hash, additional } => {
                "topUp".clone_into(&mut wire.action);
                wire.kind = Some("hash".to_owned());
                (wire.channel_id, wire.hash, wire.additional_deposit) = (Some(*channel), Some(*hash), Some(*additional));
            }
            Self::TopUp { channel, additional, salt, funding } => {
                "topUp".clone_into(&mut wire.action);
                (wire.channel_id, wire.additional_deposit, wire.salt) = (Some(*channel), Some(*additional), *salt);
                wire.set_funding(funding)?;
            }
            Self::Voucher { voucher, deposit } => {
                "voucher".clone_into(&mut wire.action);
                wire.set_voucher(voucher);
                wire.signature = Some(voucher.signature().clone());
                wire.deposit = deposit.as_ref().map(MergedDeposit::to_wire).transpose()?;
            }
            Self::Close { voucher } => {
                "close".clone_into(&mut wire.action);
                wire.set_voucher(voucher);
                wire.signature = Some(voucher.signature().clone());
            }
        }
        Object::of(PAYLOAD, &wire)
    }
}

impl MergedDeposit {
    fn to_wire(&self) -> Result<Box<Wire>, DialectError> {
        let mut wire = Wire::default();
        match &self.action {
            FundingAction::Open { salt, authorized_signer } => {
                "open".clone_into(&mut wire.action);
                (wire.salt, wire.authorized_signer) = (Some(*salt), named(*authorized_signer));
            }
            FundingAction::TopUp { salt } => {
                "topUp".clone_into(&mut wire.action);
                wire.salt = *salt;
            }
        }
        wire.set_funding(&self.funding)?;
        Ok(Box::new(wire))
    }
}
