//! Permit2: a transfer of any token, signed for the contract that tokens are approved to, with a witness that says what it is for.

use millstream_types::{Address, Amount, ChainId, EscrowChannelId, Hash256, Uint256};

use super::charge::{PAYMENT_WITNESS_TYPE, PaymentWitness};
use super::domain::Permit2Domain;
use super::eip712::{self, Encoder};
use super::signed::{EvmError, Statement};

/// Permit2's address, the same on almost every chain.
pub const PERMIT2: Address = Address::from_bytes([
    0x00, 0x00, 0x00, 0x00, 0x00, 0x22, 0xd4, 0x73, 0x03, 0x0f, 0x11, 0x6d, 0xde, 0xe9, 0xf6, 0xb4, 0x3a, 0xc7, 0x8b, 0xa3,
]);

const TOKEN_PERMISSIONS_TYPE: &str = "TokenPermissions(address token,uint256 amount)";

/// A token and the most that may be taken of it, in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenPermissions {
    /// The token.
    pub token: Address,
    /// The most that may be taken.
    pub amount: Amount,
}

/// What a transfer is for: the part of the signature that the spender checks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TransferWitness {
    /// x402 `exact`, through its proxy: `Witness(address to,uint256 validAfter)`.
    X402Exact {
        /// Who is paid.
        to: Address,
        /// Unix seconds from which it is good.
        valid_after: Uint256,
    },
    /// x402 `upto`, through its proxy: `Witness(address to,address facilitator,uint256 validAfter)`.
    X402Upto {
        /// Who is paid.
        to: Address,
        /// Who alone may settle it.
        facilitator: Address,
        /// Unix seconds from which it is good.
        valid_after: Uint256,
    },
    /// A deposit of x402 `batch-settlement`: `DepositWitness(bytes32 channelId)`.
    X402Deposit {
        /// The channel it goes to.
        channel: EscrowChannelId,
    },
    /// The opening of an MPP `evm/session` channel: `ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)`.
    ChannelOpen {
        /// Who is paid by the channel.
        payee: Address,
        /// The channel's salt.
        salt: Hash256,
        /// Who signs vouchers; zero for the payer.
        authorized_signer: Address,
    },
    /// A top-up of an MPP `evm/session` channel: `ChannelTopUpWitness(bytes32 channelId)`.
    ChannelTopUp {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// An MPP `evm/charge`.
    Payment(PaymentWitness),
}

/// A `PermitWitnessTransferFrom` of one token, or a `PermitBatchWitnessTransferFrom` of several transfers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permit2Transfer {
    /// What may be taken: one entry makes the single form, any other number the batch form (spec E-9).
    pub permitted: Vec<TokenPermissions>,
    /// The contract that calls Permit2; it alone can use the signature.
    pub spender: Address,
    /// Any value that the payer has not used yet.
    pub nonce: Uint256,
    /// Unix seconds: good until then, inclusive.
    pub deadline: Uint256,
    /// What it is for.
    pub witness: TransferWitness,
}

impl TransferWitness {
    /// Name and type of the witness.
    const fn type_strings(&self) -> (&'static str, &'static str) {
        match self {
            Self::X402Exact { .. } => ("Witness", "Witness(address to,uint256 validAfter)"),
            Self::X402Upto { .. } => ("Witness", "Witness(address to,address facilitator,uint256 validAfter)"),
            Self::X402Deposit { .. } => ("DepositWitness", "DepositWitness(bytes32 channelId)"),
            Self::ChannelOpen { .. } => ("ChannelOpenWitness", "ChannelOpenWitness(address payee,bytes32 salt,address authorizedSigner)"),
            Self::ChannelTopUp { .. } => ("ChannelTopUpWitness", "ChannelTopUpWitness(bytes32 channelId)"),
            Self::Payment(_) => ("PaymentWitness", PAYMENT_WITNESS_TYPE),
        }
    }

    /// The struct hash: what the spender hands to Permit2.
    #[must_use]
    pub fn struct_hash(&self) -> Hash256 {
        let encoder = Encoder::of(self.type_strings().1);
        match self {
            Self::X402Exact { to, valid_after } => encoder.address(to).uint(*valid_after).finish(),
            Self::X402Upto { to, facilitator, valid_after } => encoder.address(to).address(facilitator).uint(*valid_after).finish(),
            Self::X402Deposit { channel } | Self::ChannelTopUp { channel } => encoder.channel(channel).finish(),
            Self::ChannelOpen { payee, salt, authorized_signer } => encoder.address(payee).hash(salt).address(authorized_signer).finish(),
            Self::Payment(witness) => encoder.hash(&witness.offer_hash).text(&witness.external_id).finish(),
        }
    }

    /// The `witnessTypeString` that the spender hands to Permit2: what follows the fixed members of the type.
    #[must_use]
    pub fn type_suffix(&self) -> String {
        let (name, witness) = self.type_strings();
        // EIP-712 wants the types that are used in the order of their names.
        let (first, second) = if name < "TokenPermissions" { (witness, TOKEN_PERMISSIONS_TYPE) } else { (TOKEN_PERMISSIONS_TYPE, witness) };
        format!("{name} witness){first}{second}")
    }
}

impl Permit2Transfer {
    fn struct_hash(&self) -> Hash256 {
        let permissions =
            |permitted: &TokenPermissions| Encoder::of(TOKEN_PERMISSIONS_TYPE).address(&permitted.token).amount(permitted.amount).finish();
        let (head, permitted) = match self.permitted.as_slice() {
            [one] => ("PermitWitnessTransferFrom(TokenPermissions permitted,", permissions(one)),
            many => {
                let hashes = many.iter().fold(Encoder::bare(), |array, entry| array.hash(&permissions(entry))).finish();
                ("PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,", hashes)
            }
        };
        let type_string = format!("{head}address spender,uint256 nonce,uint256 deadline,{}", self.witness.type_suffix());
        Encoder::of(&type_string)
            .hash(&permitted)
            .address(&self.spender)
            .uint(self.nonce)
            .uint(self.deadline)
            .hash(&self.witness.struct_hash())
            .finish()
    }
}

impl Statement for Permit2Transfer {
    type Domain = Permit2Domain;

    fn digest(&self, domain: &Permit2Domain) -> Result<Hash256, EvmError> {
        Ok(eip712::digest(domain.separator(), &self.struct_hash()))
    }

    fn chain(domain: &Permit2Domain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &Permit2Domain) -> Hash256 {
        *domain.separator()
    }
}
