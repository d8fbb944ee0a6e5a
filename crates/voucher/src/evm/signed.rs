//! `Signed → Verified`, for everything that is signed on EVM chains.

use core::fmt;

use millstream_types::{Address, BlockNumber, ChainId, Hash256};

use super::signature::{CONTRACT_SIGNATURE_BYTES_MAX, EvmSignature, KEY_SIGNATURE_BYTES, KeySignature};

/// What ERC-1271's `isValidSignature` returns for a signature of the contract's.
pub const ERC1271_MAGIC: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];

/// Why something signed is not good. Checks are made in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvmError {
    /// A secret key is neither zero nor at least the order of the curve.
    #[error("the secret key is zero or not below the order of the curve")]
    SecretRange,
    /// Not hexadecimal after `0x`, or half a byte.
    #[error("expected a signature as hexadecimal after 0x")]
    SignatureText,
    /// More bytes than any wallet needs.
    #[error("the signature has {bytes} bytes, more than {CONTRACT_SIGNATURE_BYTES_MAX}")]
    SignatureTooLong {
        /// Bytes it has.
        bytes: usize,
    },
    /// An amount has more bits than its type.
    #[error("the amount does not fit the {bits} bits of its type")]
    AmountWidth {
        /// Bits of the type.
        bits: u32,
    },
    /// A time has more bits than its type.
    #[error("{secs} seconds do not fit the 40 bits of their type")]
    DelayWidth {
        /// The refused time.
        secs: u64,
    },
    /// A key's signature has 65 bytes; the 64 of EIP-2098 are not accepted.
    #[error("the signature of a key has {KEY_SIGNATURE_BYTES} bytes, not {bytes}")]
    SignatureLength {
        /// Bytes it has.
        bytes: usize,
    },
    /// `v` is 27 or 28: contracts accept nothing else.
    #[error("the last byte of the signature is {v}, not 27 or 28")]
    RecoveryByte {
        /// What it is.
        v: u8,
    },
    /// `s` is in the upper half: the same signature in another form (EIP-2).
    #[error("the signature's s is in the upper half of the order")]
    HighS,
    /// `r` or `s` is zero or not below the order of the curve.
    #[error("the signature's r or s is not in the range of the curve")]
    SignatureRange,
    /// No public key gives this signature.
    #[error("no key gives this signature")]
    Unrecoverable,
    /// Somebody else signed, or something else was signed.
    #[error("the signature is {recovered}'s for this statement, not {expected}'s")]
    WrongSigner {
        /// Whose it must be.
        expected: Address,
        /// Whose it is, if this is what was signed.
        recovered: Address,
    },
    /// The answer is to another question.
    #[error("the answer of a contract is not to this question")]
    OtherQuestion,
    /// The contract says that it did not sign.
    #[error("the contract {account} does not accept the signature (block {at})")]
    ContractRefuses {
        /// The contract.
        account: Address,
        /// The block it was asked at.
        at: u64,
    },
}

/// Something that is signed: a struct of EIP-712.
pub trait Statement {
    /// What it is signed for: a contract on a chain.
    type Domain;

    /// What is signed.
    ///
    /// # Errors
    /// [`EvmError::AmountWidth`] when an amount does not fit its type; such a statement has no digest.
    fn digest(&self, domain: &Self::Domain) -> Result<Hash256, EvmError>;

    /// The chain of the domain.
    fn chain(domain: &Self::Domain) -> ChainId;

    /// The separator of the domain.
    fn separator(domain: &Self::Domain) -> Hash256;
}

/// Who has to have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signer {
    /// The key of this account: an authorizer, or an account without code.
    Key(Address),
    /// An account with code, which is asked by ERC-1271, an EIP-7702 account included: where there is code the escrow contracts ask it
    /// and do not look for a key. Whether there is code, the caller reads from the chain.
    Contract(Address),
}

/// How it is known that a signature is the signer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// From the bytes alone: true for ever.
    Key,
    /// A contract said so at this block. It may say otherwise later, so what is worth much is asked again before it is relied upon.
    Contract {
        /// The block whose state was asked.
        at: BlockNumber,
    },
}

/// A statement with a signature that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    statement: T,
    signature: EvmSignature,
}

/// A statement whose signature was checked, or made, for one domain and signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    signed: Signed<T>,
    separator: Hash256,
    signer: Address,
    evidence: Evidence,
}

/// What a check comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked<T> {
    /// The signature is the signer's.
    Verified(Verified<T>),
    /// Only the chain can say.
    Ask(ContractQuestion<T>),
}

/// A signature that only a contract can judge: `isValidSignature(digest, signature)` of [`account`](Self::account) on
/// [`chain`](Self::chain).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractQuestion<T> {
    signed: Signed<T>,
    chain: ChainId,
    separator: Hash256,
    account: Address,
    digest: Hash256,
}

/// What a contract said, as whoever reads the chain read it. This crate cannot check that it was read: making one is the claim that it
/// was, by a call of `isValidSignature` with exactly this digest and signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractAnswer {
    /// The chain that was asked.
    pub chain: ChainId,
    /// The contract that was asked.
    pub account: Address,
    /// The digest it was asked about.
    pub digest: Hash256,
    /// The signature it was asked about.
    pub signature: EvmSignature,
    /// The block whose state was asked.
    pub at: BlockNumber,
    /// The first four bytes of what the call returned; nothing when it reverted, returned less than a word, or there is no code.
    pub returned: Option<[u8; 4]>,
}

impl Signer {
    /// The account.
    #[must_use]
    pub const fn account(&self) -> Address {
        match self {
            Self::Key(account) | Self::Contract(account) => *account,
        }
    }
}

impl<T: Statement> Signed<T> {
    /// A statement and the signature that came with it.
    #[must_use]
    pub const fn new(statement: T, signature: EvmSignature) -> Self {
        Self { statement, signature }
    }

    /// What is said.
    #[must_use]
    pub const fn statement(&self) -> &T {
        &self.statement
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &EvmSignature {
        &self.signature
    }

    /// Checks the signature: a key's here, for a contract's there is a question.
    ///
    /// # Errors
    /// [`EvmError`], in the order of its variants.
    pub fn check(self, domain: &T::Domain, signer: Signer) -> Result<Checked<T>, EvmError> {
        match signer {
            Signer::Key(account) => self.verify(domain, account).map(Checked::Verified),
            Signer::Contract(account) => {
                let digest = self.statement.digest(domain)?;
                let (chain, separator) = (T::chain(domain), T::separator(domain));
                Ok(Checked::Ask(ContractQuestion { signed: self, chain, separator, account, digest }))
            }
        }
    }

    /// Checks that the signature is of this account's key.
    ///
    /// # Errors
    /// [`EvmError`], in the order of its variants.
    pub fn verify(self, domain: &T::Domain, account: Address) -> Result<Verified<T>, EvmError> {
        let digest = self.statement.digest(domain)?;
        let recovered = self.signature.to_key_signature()?.signer_of(&digest)?;
        if recovered != account {
            return Err(EvmError::WrongSigner { expected: account, recovered });
        }
        Ok(Verified { signed: self, separator: T::separator(domain), signer: account, evidence: Evidence::Key })
    }
}

impl<T> ContractQuestion<T> {
    /// The chain to ask.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The contract to ask.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.account
    }

    /// The first argument.
    #[must_use]
    pub const fn digest(&self) -> &Hash256 {
        &self.digest
    }

    /// The second argument.
    #[must_use]
    pub const fn signature(&self) -> &EvmSignature {
        &self.signed.signature
    }

    /// What is said, not verified.
    #[must_use]
    pub const fn statement(&self) -> &T {
        &self.signed.statement
    }

    /// Verified, if the contract says so.
    ///
    /// # Errors
    /// [`EvmError::OtherQuestion`] or [`EvmError::ContractRefuses`].
    pub fn answered(self, answer: &ContractAnswer) -> Result<Verified<T>, EvmError> {
        let same = answer.chain == self.chain
            && answer.account == self.account
            && answer.digest == self.digest
            && answer.signature == self.signed.signature;
        if !same {
            return Err(EvmError::OtherQuestion);
        }
        if answer.returned != Some(ERC1271_MAGIC) {
            return Err(EvmError::ContractRefuses { account: self.account, at: answer.at.height() });
        }
        let evidence = Evidence::Contract { at: answer.at };
        Ok(Verified { signed: self.signed, separator: self.separator, signer: self.account, evidence })
    }
}

impl<T> Verified<T> {
    /// Takes a statement as verified without checking it: for records that this node verified before it stored them, and for nothing else.
    #[must_use]
    pub const fn assume_verified(signed: Signed<T>, separator: Hash256, signer: Address, evidence: Evidence) -> Self {
        Self { signed, separator, signer, evidence }
    }

    pub(super) fn by_key(statement: T, signature: KeySignature, separator: Hash256, signer: Address) -> Self {
        Self { signed: Signed { statement, signature: signature.into() }, separator, signer, evidence: Evidence::Key }
    }

    /// What is said.
    #[must_use]
    pub const fn statement(&self) -> &T {
        &self.signed.statement
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &EvmSignature {
        &self.signed.signature
    }

    /// The statement as it goes over the wire.
    #[must_use]
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// The separator of the domain it was verified for: compare it with the one of the channel's escrow.
    #[must_use]
    pub const fn separator(&self) -> &Hash256 {
        &self.separator
    }

    /// Who signed.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// How that is known.
    #[must_use]
    pub const fn evidence(&self) -> Evidence {
        self.evidence
    }
}

impl<T> From<Verified<T>> for Signed<T> {
    fn from(verified: Verified<T>) -> Self {
        verified.signed
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("a key's signature"),
            Self::Contract { at } => write!(f, "a contract's word at block {}", at.height()),
        }
    }
}
