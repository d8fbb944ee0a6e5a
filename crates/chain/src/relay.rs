//! Deposits without coins for gas: a funder signs, anyone relays (spec L-28).

use core::fmt;

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address as EvmAddress, B256, Bytes, Signature, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, TransactionRequest};
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue};
use millstream_types::{Address, Amount, ChannelId, Hash256, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bindings::{ILedger, IToken, OpenConsent, Permit, ReceiveWithAuthorization, TopUpConsent, permit2_open, permit2_top_up};
use crate::{Call, ChainError, ChainKey, Ledger, OpenRequest, Opening, PERMIT2, Submitter, TxReceipt, VoucherKeyWitness, convert, token};

/// What the nonce of an authorization is the hash of (spec L-28).
const OPEN_NONCE_TYPE: &str = "MillstreamOpen(uint256 chainId,address ledger,uint256 uid)";
const TOP_UP_NONCE_TYPE: &str = "MillstreamTopUp(uint256 chainId,address ledger,uint256 uid,bytes32 salt)";

/// A deposit that its funder signed, for anyone to submit. A relayer can neither redirect nor alter it: what is signed binds chain, ledger,
/// channel and amount.
///
/// JSON: `{"funder", "purpose": {"open" | "topUp"}, "signed": {"authorization" | "permit" | "permit2"}}` in camel case; 32-byte words,
/// accounts, uids and signatures in hexadecimal, amounts as decimal strings; unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Document", into = "Document")]
pub struct RelayedDeposit {
    /// Whose money it is. The payer of the channel when opening.
    pub funder: Address,
    /// What for.
    pub purpose: DepositPurpose,
    /// What the funder signed.
    pub signed: SignedDeposit,
}

/// What a deposit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepositPurpose {
    /// A new channel of the funder's.
    Open(OpenRequest),
    /// A larger deposit of any payer's channel.
    TopUp {
        /// The channel.
        channel: ChannelId,
        /// How much, in base units of the token.
        base_units: u128,
        /// Tells equal top-ups apart: one signature serves once for each salt. Not looked at by Permit2, which has its own nonces.
        salt: [u8; 32],
    },
}

/// The signatures under a deposit: `r ‖ s ‖ v` of an account, or what a contract account takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedDeposit {
    /// An EIP-3009 authorization to receive.
    Authorization {
        /// Not valid at or before this second.
        valid_after_secs: u64,
        /// Not valid at or after this second.
        valid_before_secs: u64,
        /// For the token.
        signature: Vec<u8>,
    },
    /// An EIP-2612 permit, and the consent to what it is used for.
    Permit {
        /// The last second at which both are valid.
        deadline_secs: u64,
        /// For the token, 65 bytes. All zeros where an allowance stands: the ledger passes over a permit that fails.
        permit: [u8; 65],
        /// For the ledger.
        consent: Vec<u8>,
    },
    /// A Permit2 transfer with the channel as its witness.
    Permit2 {
        /// One that the funder did not use before.
        nonce: [u8; 32],
        /// The last second at which it is valid.
        deadline_secs: u64,
        /// For Permit2.
        signature: Vec<u8>,
    },
}

/// How a deposit is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DepositWay {
    /// EIP-3009.
    Authorization,
    /// EIP-2612, and a consent.
    Permit,
    /// Permit2, which must have an allowance.
    Permit2,
}

/// The EIP-712 domain of a ledger's token, as the token itself confirmed it.
#[derive(Clone, Debug)]
pub struct TokenDomain(pub(crate) Eip712Domain);

/// What became of a relayed deposit.
#[derive(Clone, Debug)]
pub enum Relayed {
    /// A channel was opened.
    Opened(Opening),
    /// A deposit was raised.
    ToppedUp {
        /// The channel's whole deposit, in nanos.
        deposit: Amount,
        /// The transaction.
        receipt: TxReceipt,
    },
}

impl SignedDeposit {
    /// How it is signed.
    #[must_use]
    pub const fn way(&self) -> DepositWay {
        match self {
            Self::Authorization { .. } => DepositWay::Authorization,
            Self::Permit { .. } => DepositWay::Permit,
            Self::Permit2 { .. } => DepositWay::Permit2,
        }
    }
}

impl Relayed {
    /// The transaction.
    #[must_use]
    pub const fn receipt(&self) -> &TxReceipt {
        match self {
            Self::Opened(Opening { receipt, .. }) | Self::ToppedUp { receipt, .. } => receipt,
        }
    }

    /// The channel's whole deposit after it, in nanos.
    #[must_use]
    pub const fn deposit(&self) -> Amount {
        match self {
            Self::Opened(Opening { deposit, .. }) | Self::ToppedUp { deposit, .. } => *deposit,
        }
    }
}

impl DepositPurpose {
    /// How much, in base units of the token.
    #[must_use]
    pub const fn base_units(&self) -> u128 {
        match self {
            Self::Open(request) => request.deposit_base_units,
            Self::TopUp { base_units, .. } => *base_units,
        }
    }

    /// The channel.
    async fn channel(&self, ledger: &Ledger, funder: Address) -> Result<ChannelId, ChainError> {
        match self {
            Self::Open(request) => ledger.channel_id(funder, request.key.x, request.salt).await,
            Self::TopUp { channel, .. } => Ok(*channel),
        }
    }
}

impl DepositWay {
    /// Every way, the best first: an authorization and a permit need nothing before, and an authorization leaves no allowance behind.
    pub const ALL: [Self; 3] = [Self::Authorization, Self::Permit, Self::Permit2];

    /// The word for it: in JSON, on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Permit => "permit",
            Self::Permit2 => "permit2",
        }
    }

    /// Whether the token has this way, as far as its views tell; for Permit2, whether it may pull so much of the funder's.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn is_open(self, ledger: &Ledger, funder: Address, base_units: u128) -> Result<bool, ChainError> {
        let (rpc, token, owner) = (ledger.rpc(), ledger.config().token, convert::evm_address(funder));
        match self {
            Self::Authorization => {
                let call = IToken::authorizationStateCall { authorizer: owner, nonce: B256::ZERO };
                let state = answered(rpc.view("authorizationState", token, &call).await)?;
                Ok(state.is_some() && answered(token::signing_domain(rpc, token).await)?.is_some())
            }
            Self::Permit => {
                let nonces = answered(rpc.view("nonces", token, &IToken::noncesCall { owner }).await)?;
                Ok(nonces.is_some() && answered(token::signing_domain(rpc, token).await)?.is_some())
            }
            Self::Permit2 => {
                let call = IToken::allowanceCall { owner, spender: convert::evm_address(PERMIT2) };
                let allowed = answered(rpc.view("allowance", token, &call).await)?;
                Ok(allowed.is_some_and(|allowed| allowed >= U256::from(base_units)) && rpc.has_code(PERMIT2).await?)
            }
        }
    }
}

impl fmt::Display for DepositWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a contract answered; `None` when it has no such view.
fn answered<T>(answer: Result<T, ChainError>) -> Result<Option<T>, ChainError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_retryable() => Err(error),
        Err(_) => Ok(None),
    }
}

impl RelayedDeposit {
    /// Signs a deposit in a way, valid until `until`, rounded down to a second. `nonce` is used by Permit2 alone, and must be one that the
    /// funder did not use before.
    ///
    /// # Errors
    /// As [`RelayedDeposit::authorize`], [`RelayedDeposit::permit`] and [`RelayedDeposit::permit2`].
    pub async fn sign(
        ledger: &Ledger,
        key: &ChainKey,
        way: DepositWay,
        purpose: DepositPurpose,
        nonce: [u8; 32],
        until: Timestamp,
    ) -> Result<Self, ChainError> {
        match way {
            DepositWay::Authorization => Self::authorize(ledger, key, purpose, until).await,
            DepositWay::Permit => Self::permit(ledger, key, purpose, until).await,
            DepositWay::Permit2 => Self::permit2(ledger, key, purpose, nonce, until).await,
        }
    }

    /// Signs an EIP-3009 authorization. Valid from before the chain's first second until `valid_before`, rounded down to a second.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the token does not sign in the domain that it names; or the endpoint is unavailable.
    pub async fn authorize(ledger: &Ledger, key: &ChainKey, purpose: DepositPurpose, valid_before: Timestamp) -> Result<Self, ChainError> {
        let signature = Vec::new();
        let signed = SignedDeposit::Authorization { valid_after_secs: 0, valid_before_secs: valid_before.as_secs_down(), signature };
        let domain = ledger.token_domain().await?;
        Self { funder: key.address(), purpose, signed }.signed_with(ledger, key, Some(&domain)).await
    }

    /// Signs an EIP-2612 permit for the ledger and the consent to this deposit. Valid until `deadline`, rounded down to a second. The permit
    /// is for the next permit nonce of the funder.
    ///
    /// # Errors
    /// As [`RelayedDeposit::authorize`].
    pub async fn permit(ledger: &Ledger, key: &ChainKey, purpose: DepositPurpose, deadline: Timestamp) -> Result<Self, ChainError> {
        let token = ledger.config().token;
        let TokenDomain(domain) = ledger.token_domain().await?;
        let owner = convert::evm_address(key.address());
        let deadline_secs = deadline.as_secs_down();
        let (value, seconds) = (U256::from(purpose.base_units()), U256::from(deadline_secs));
        let nonce = ledger.rpc().view("nonces", token, &IToken::noncesCall { owner }).await?;
        let permit = Permit { owner, spender: convert::evm_address(ledger.address()), value, nonce, deadline: seconds };
        let permit = key.sign_digest(permit.eip712_signing_hash(&domain))?;
        let signed = SignedDeposit::Permit { deadline_secs, permit, consent: Vec::new() };
        Self { funder: key.address(), purpose, signed }.signed_with(ledger, key, None).await
    }

    /// Signs a Permit2 transfer to the ledger with the channel as its witness. Valid until `deadline`, rounded down to a second. Permit2 must
    /// be allowed to pull the funder's tokens ([`crate::Payer::approve_permit2`]); `nonce` must be one that it did not use before.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn permit2(
        ledger: &Ledger,
        key: &ChainKey,
        purpose: DepositPurpose,
        nonce: [u8; 32],
        deadline: Timestamp,
    ) -> Result<Self, ChainError> {
        let signed = SignedDeposit::Permit2 { nonce, deadline_secs: deadline.as_secs_down(), signature: Vec::new() };
        Self { funder: key.address(), purpose, signed }.signed_with(ledger, key, None).await
    }

    async fn signed_with(mut self, ledger: &Ledger, key: &ChainKey, domain: Option<&TokenDomain>) -> Result<Self, ChainError> {
        let channel = self.purpose.channel(ledger, self.funder).await?;
        let digest = self.digest(ledger, channel, domain).ok_or_else(|| ChainError::unrepresentable("token signing domain", "none"))?;
        let signed = key.sign_digest(digest)?.to_vec();
        match &mut self.signed {
            SignedDeposit::Authorization { signature, .. }
            | SignedDeposit::Permit { consent: signature, .. }
            | SignedDeposit::Permit2 { signature, .. } => *signature = signed,
        }
        Ok(self)
    }

    /// Whether the signature is by the funder's own key; `None` when that cannot be said, for want of the token's domain. What is not may
    /// still be taken by a contract account: only the chain can tell. `channel` is the one that the deposit is for. Nothing is asked.
    ///
    /// The permit inside of a [`SignedDeposit::Permit`] is not looked at: the ledger passes over one that fails.
    #[must_use]
    pub fn is_by_funders_key(&self, ledger: &Ledger, channel: ChannelId, domain: Option<&TokenDomain>) -> Option<bool> {
        let digest = self.digest(ledger, channel, domain)?;
        let signature = match &self.signed {
            SignedDeposit::Authorization { signature, .. }
            | SignedDeposit::Permit { consent: signature, .. }
            | SignedDeposit::Permit2 { signature, .. } => signature,
        };
        let signer = Signature::from_raw(signature).and_then(|signature| signature.recover_address_from_prehash(&digest));
        Some(signature.len() == 65 && signer.is_ok_and(|signer| convert::address(signer) == self.funder))
    }

    /// The first second at which the deposit can be mined, and the last; by the chain's clock.
    #[must_use]
    pub const fn validity_secs(&self) -> (u64, u64) {
        match &self.signed {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, .. } => {
                (valid_after_secs.saturating_add(1), valid_before_secs.saturating_sub(1))
            }
            SignedDeposit::Permit { deadline_secs, .. } | SignedDeposit::Permit2 { deadline_secs, .. } => (0, *deadline_secs),
        }
    }

    /// What the funder signs; for a permit, the consent. `None` when the token's domain is needed and not given.
    fn digest(&self, ledger: &Ledger, channel: ChannelId, domain: Option<&TokenDomain>) -> Option<B256> {
        let (funder, contract) = (convert::evm_address(self.funder), contract_of(ledger));
        let (uid, amount) = (convert::uid(channel), U256::from(self.purpose.base_units()));
        let chain = U256::from(ledger.chain().get());
        Some(match &self.signed {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, .. } => {
                let nonce = match &self.purpose {
                    DepositPurpose::Open(_) => keccak256((keccak256(OPEN_NONCE_TYPE), chain, contract, U256::from(uid)).abi_encode()),
                    DepositPurpose::TopUp { salt, .. } => {
                        keccak256((keccak256(TOP_UP_NONCE_TYPE), chain, contract, U256::from(uid), B256::from(*salt)).abi_encode())
                    }
                };
                let message = ReceiveWithAuthorization {
                    from: funder,
                    to: contract,
                    value: amount,
                    validAfter: U256::from(*valid_after_secs),
                    validBefore: U256::from(*valid_before_secs),
                    nonce,
                };
                message.eip712_signing_hash(&domain?.0)
            }
            SignedDeposit::Permit { deadline_secs, .. } => {
                let (domain, deadline) = (consent_domain(ledger), U256::from(*deadline_secs));
                match &self.purpose {
                    DepositPurpose::Open(_) => OpenConsent { payer: funder, uid, baseUnits: amount, deadline }.eip712_signing_hash(&domain),
                    DepositPurpose::TopUp { salt, .. } => {
                        TopUpConsent { from: funder, uid, baseUnits: amount, salt: salt.into(), deadline }.eip712_signing_hash(&domain)
                    }
                }
            }
            SignedDeposit::Permit2 { nonce, deadline_secs, .. } => {
                let domain = Eip712Domain::new(Some("Permit2".into()), None, Some(chain), Some(convert::evm_address(PERMIT2)), None);
                let (token, nonce) = (convert::evm_address(ledger.config().token), convert::word(*nonce));
                let (spender, deadline) = (contract, U256::from(*deadline_secs));
                match &self.purpose {
                    DepositPurpose::Open(_) => permit2_open::PermitWitnessTransferFrom {
                        permitted: permit2_open::TokenPermissions { token, amount },
                        spender,
                        nonce,
                        deadline,
                        witness: permit2_open::MillstreamOpen { uid },
                    }
                    .eip712_signing_hash(&domain),
                    DepositPurpose::TopUp { .. } => permit2_top_up::PermitWitnessTransferFrom {
                        permitted: permit2_top_up::TokenPermissions { token, amount },
                        spender,
                        nonce,
                        deadline,
                        witness: permit2_top_up::MillstreamTopUp { uid },
                    }
                    .eip712_signing_hash(&domain),
                }
            }
        })
    }

    /// Runs it on the newest block, as whoever relays it would. Nothing is sent.
    ///
    /// # Errors
    /// As [`RelayedDeposit::relay`].
    pub async fn simulate(&self, ledger: &Ledger) -> Result<(), ChainError> {
        let call = self.call(ledger.address());
        let request = TransactionRequest::default().with_to(contract_of(ledger)).with_input(call.data);
        ledger.rpc().ask(call.operation, ledger.rpc().provider().call(request).block(BlockId::latest())).await.map(drop)
    }

    /// Submits it. The submitter's account pays the gas and nothing else.
    ///
    /// # Errors
    /// Final: what [`crate::Payer::open`] and [`crate::Payer::top_up`] answer, `ConsentInvalid`, `ConsentExpired`, `ConsentUsed`, and what
    /// the token or Permit2 say of a signature, a validity or a nonce; else as [`Submitter::send`].
    pub async fn relay(&self, ledger: &Ledger, submitter: &Submitter) -> Result<Relayed, ChainError> {
        let receipt = submitter.send(self.call(ledger.address())).await?;
        self.outcome(ledger, receipt)
    }

    /// What became of it, from the receipt of its [`RelayedDeposit::call`].
    ///
    /// # Errors
    /// [`ChainError::Inconsistent`] for another receipt.
    pub fn outcome(&self, ledger: &Ledger, receipt: TxReceipt) -> Result<Relayed, ChainError> {
        match self.purpose {
            DepositPurpose::Open(_) => Opening::from_receipt(ledger, receipt).map(Relayed::Opened),
            DepositPurpose::TopUp { .. } => {
                let event = receipt.event::<ILedger::ToppedUp>(ledger.address());
                let event = event.ok_or_else(|| ChainError::inconsistent("a top-up succeeded without its event"))?;
                Ok(Relayed::ToppedUp { deposit: Amount::from_nanos(event.depositNanos), receipt })
            }
        }
    }

    /// The call that makes the deposit, by anyone.
    #[must_use]
    pub fn call(&self, ledger: Address) -> Call {
        let from = convert::evm_address(self.funder);
        let amount = U256::from(self.purpose.base_units());
        match &self.purpose {
            DepositPurpose::Open(request) => self.open_call(ledger, from, amount, request),
            DepositPurpose::TopUp { channel, salt, .. } => self.top_up_call(ledger, from, amount, *channel, *salt),
        }
    }

    fn open_call(&self, ledger: Address, payer: EvmAddress, amount: U256, request: &OpenRequest) -> Call {
        let (key, salt) = (ILedger::VoucherKey::from_witness(&request.key), B256::from(request.salt));
        match &self.signed {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature } => {
                let call = ILedger::openWithAuthorizationCall {
                    payer,
                    key,
                    salt,
                    baseUnits: amount,
                    validAfter: U256::from(*valid_after_secs),
                    validBefore: U256::from(*valid_before_secs),
                    signature: signature.clone().into(),
                };
                Call::encode("openWithAuthorization", ledger, &call)
            }
            SignedDeposit::Permit { deadline_secs, permit, consent } => {
                let call = ILedger::openWithPermitCall {
                    payer,
                    key,
                    salt,
                    baseUnits: amount,
                    deadline: U256::from(*deadline_secs),
                    permit: permit_signature(permit),
                    consent: consent.clone().into(),
                };
                Call::encode("openWithPermit", ledger, &call)
            }
            SignedDeposit::Permit2 { nonce, deadline_secs, signature } => {
                let call = ILedger::openWithPermit2Call {
                    payer,
                    key,
                    salt,
                    baseUnits: amount,
                    nonce: convert::word(*nonce),
                    deadline: U256::from(*deadline_secs),
                    signature: signature.clone().into(),
                };
                Call::encode("openWithPermit2", ledger, &call)
            }
        }
    }

    fn top_up_call(&self, ledger: Address, from: EvmAddress, amount: U256, channel: ChannelId, salt: [u8; 32]) -> Call {
        let (uid, salt) = (convert::uid(channel), B256::from(salt));
        match &self.signed {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature } => {
                let call = ILedger::topUpWithAuthorizationCall {
                    from,
                    uid,
                    baseUnits: amount,
                    salt,
                    validAfter: U256::from(*valid_after_secs),
                    validBefore: U256::from(*valid_before_secs),
                    signature: signature.clone().into(),
                };
                Call::encode("topUpWithAuthorization", ledger, &call)
            }
            SignedDeposit::Permit { deadline_secs, permit, consent } => {
                let call = ILedger::topUpWithPermitCall {
                    from,
                    uid,
                    baseUnits: amount,
                    salt,
                    deadline: U256::from(*deadline_secs),
                    permit: permit_signature(permit),
                    consent: consent.clone().into(),
                };
                Call::encode("topUpWithPermit", ledger, &call)
            }
            SignedDeposit::Permit2 { nonce, deadline_secs, signature } => {
                let call = ILedger::topUpWithPermit2Call {
                    from,
                    uid,
                    baseUnits: amount,
                    nonce: convert::word(*nonce),
                    deadline: U256::from(*deadline_secs),
                    signature: signature.clone().into(),
                };
                Call::encode("topUpWithPermit2", ledger, &call)
            }
        }
    }
}

/// The domain of consents (spec L-28).
fn consent_domain(ledger: &Ledger) -> Eip712Domain {
    let chain = U256::from(ledger.chain().get());
    let contract = convert::evm_address(ledger.address());
    Eip712Domain::new(Some("Millstream Ledger".into()), Some("1".into()), Some(chain), Some(contract), None)
}

fn contract_of(ledger: &Ledger) -> EvmAddress {
    convert::evm_address(ledger.address())
}

fn permit_signature(bytes: &[u8; 65]) -> ILedger::PermitSignature {
    let word = |from: usize| B256::from_slice(&bytes[from..from + 32]);
    ILedger::PermitSignature { v: bytes[64], r: word(0), s: word(32) }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    funder: Address,
    purpose: PurposeDocument,
    signed: SignedDocument,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum PurposeDocument {
    Open { key_x: Hash256, key_qx: Hash256, key_qy: Hash256, salt: Hash256, deposit_base_units: Amount },
    TopUp { channel: ChannelId, base_units: Amount, salt: Hash256 },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum SignedDocument {
    Authorization { valid_after_secs: u64, valid_before_secs: u64, signature: Bytes },
    Permit { deadline_secs: u64, permit: alloy::primitives::FixedBytes<65>, consent: Bytes },
    Permit2 { nonce: Hash256, deadline_secs: u64, signature: Bytes },
}

impl From<Document> for RelayedDeposit {
    fn from(document: Document) -> Self {
        let purpose = match document.purpose {
            PurposeDocument::Open { key_x, key_qx, key_qy, salt, deposit_base_units } => {
                let [x, qx, qy, salt] = [key_x, key_qx, key_qy, salt].map(|word| *word.as_bytes());
                let key = VoucherKeyWitness { x, qx, qy };
                DepositPurpose::Open(OpenRequest { key, salt, deposit_base_units: deposit_base_units.units() })
            }
            PurposeDocument::TopUp { channel, base_units, salt } => {
                DepositPurpose::TopUp { channel, base_units: base_units.units(), salt: *salt.as_bytes() }
            }
        };
        let signed = match document.signed {
            SignedDocument::Authorization { valid_after_secs, valid_before_secs, signature } => {
                SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature: signature.to_vec() }
            }
            SignedDocument::Permit { deadline_secs, permit, consent } => {
                SignedDeposit::Permit { deadline_secs, permit: permit.0, consent: consent.to_vec() }
            }
            SignedDocument::Permit2 { nonce, deadline_secs, signature } => {
                SignedDeposit::Permit2 { nonce: *nonce.as_bytes(), deadline_secs, signature: signature.to_vec() }
            }
        };
        Self { funder: document.funder, purpose, signed }
    }
}

impl From<RelayedDeposit> for Document {
    fn from(deposit: RelayedDeposit) -> Self {
        let purpose = match deposit.purpose {
            DepositPurpose::Open(request) => {
                let words = [request.key.x, request.key.qx, request.key.qy, request.salt];
                let [key_x, key_qx, key_qy, salt] = words.map(Hash256::from_bytes);
                PurposeDocument::Open { key_x, key_qx, key_qy, salt, deposit_base_units: Amount::from_units(request.deposit_base_units) }
            }
            DepositPurpose::TopUp { channel, base_units, salt } => {
                PurposeDocument::TopUp { channel, base_units: Amount::from_units(base_units), salt: Hash256::from_bytes(salt) }
            }
        };
        let signed = match deposit.signed {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature } => {
                SignedDocument::Authorization { valid_after_secs, valid_before_secs, signature: signature.into() }
            }
            SignedDeposit::Permit { deadline_secs, permit, consent } => {
                SignedDocument::Permit { deadline_secs, permit: permit.into(), consent: consent.into() }
            }
            SignedDeposit::Permit2 { nonce, deadline_secs, signature } => {
                SignedDocument::Permit2 { nonce: Hash256::from_bytes(nonce), deadline_secs, signature: signature.into() }
            }
        };
        Self { funder: deposit.funder, purpose, signed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_read_back_and_nothing_else_is_taken() {
        let key = VoucherKeyWitness { x: [1; 32], qx: [2; 32], qy: [3; 32] };
        let open = DepositPurpose::Open(OpenRequest { key, salt: [4; 32], deposit_base_units: u128::MAX });
        let top_up = DepositPurpose::TopUp { channel: ChannelId::from_uid(&[5; 31]), base_units: 7, salt: [6; 32] };
        let signatures = [
            SignedDeposit::Authorization { valid_after_secs: 0, valid_before_secs: 9, signature: vec![6; 65] },
            SignedDeposit::Permit { deadline_secs: 9, permit: [7; 65], consent: vec![8; 3] },
            SignedDeposit::Permit2 { nonce: [9; 32], deadline_secs: 9, signature: vec![] },
        ];
        for purpose in [open, top_up] {
            for signed in signatures.clone() {
                let deposit = RelayedDeposit { funder: Address::from_bytes([5; 20]), purpose, signed };
                let json = serde_json::to_value(&deposit).expect("written");
                assert_eq!(serde_json::from_value::<RelayedDeposit>(json.clone()).expect("read"), deposit);
                for place in ["", "purpose", "signed"] {
                    let mut more = json.clone();
                    let inner = if place.is_empty() { &mut more } else { &mut more[place] };
                    let inner =
                        if place.is_empty() { inner } else { inner.as_object_mut().and_then(|o| o.values_mut().next()).expect("one") };
                    inner["recipient"] = "0x00".into();
                    assert!(serde_json::from_value::<RelayedDeposit>(more).is_err(), "{place}");
                }
            }
        }
    }
}
