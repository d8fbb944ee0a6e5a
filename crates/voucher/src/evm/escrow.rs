//! The voucher of escrow contracts: one shape for four kinds of them.

use millstream_types::{ChainId, CumulativeAmount, EscrowChannelId, Hash256};

use super::domain::EscrowDomain;
use super::eip712::{self, Encoder};
use super::signed::{EvmError, Signed, Statement, Verified};

/// A payer's statement: on this channel the provider may take this much in total. The type that is signed is the escrow's:
/// [`EscrowScheme::voucher_type`](super::EscrowScheme::voucher_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EscrowVoucher {
    /// The channel: it binds the parties, the token, the contract and the chain.
    pub channel: EscrowChannelId,
    /// What may be taken in total, in base units of the channel's token. x402 calls it `maxClaimableAmount`.
    pub cumulative: CumulativeAmount,
}

/// A voucher with a signature that nobody has checked yet.
pub type SignedEscrowVoucher = Signed<EscrowVoucher>;

/// A voucher whose signature was checked, or made, for its escrow and signer.
pub type VerifiedEscrowVoucher = Verified<EscrowVoucher>;

impl Statement for EscrowVoucher {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        let bits = domain.scheme().amount_bits();
        // Shifted by all its bits a number is nothing, which `checked_shr` does not say.
        if self.cumulative.units().checked_shr(bits).unwrap_or(0) != 0 {
            return Err(EvmError::AmountWidth { bits });
        }
        let voucher = Encoder::of(domain.scheme().voucher_type()).channel(&self.channel).cumulative(self.cumulative).finish();
        Ok(eip712::digest(domain.separator(), &voucher))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}
