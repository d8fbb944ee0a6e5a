//! What a client offers to pay with, whatever dialect it spoke.

use millstream_dialect::{mpp, x402};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{ChannelConfig, EscrowDomain, EscrowVoucher, SessionTerms, SignedEscrowVoucher, VerifiedEscrowVoucher};

/// A voucher on a channel, and what the channel is.
#[derive(Clone, Debug)]
pub struct Tender {
    /// The escrow contract that the channel is in.
    pub escrow: EscrowDomain,
    /// The channel.
    pub channel: EscrowChannelId,
    /// Its terms, where the client has sent them; they give the channel's id, and go with what this route offers.
    pub terms: Option<ChannelTerms>,
    /// The voucher; a deposit alone has none.
    pub voucher: Option<TenderVoucher>,
    /// Which totals the dialect allows.
    pub rule: TotalRule,
    /// A deposit that comes first.
    pub funding: Option<Funding>,
}

/// The terms of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelTerms {
    /// x402 `batch-settlement`.
    X402(ChannelConfig),
    /// MPP `evm/session`.
    Session(SessionTerms),
}

/// A voucher as far as it can be checked without the chain.
#[derive(Clone, Debug)]
pub enum TenderVoucher {
    /// The key's signature is good.
    Verified(VerifiedEscrowVoucher),
    /// The signer may be a contract, and only the chain knows: the port looks, and checks the key's signature or asks the contract.
    ForTheChain(SignedEscrowVoucher),
}

impl TenderVoucher {
    /// What it says.
    #[must_use]
    pub const fn statement(&self) -> &EscrowVoucher {
        match self {
            Self::Verified(voucher) => voucher.statement(),
            Self::ForTheChain(voucher) => voucher.statement(),
        }
    }

    /// The total it is over.
    #[must_use]
    pub const fn cumulative(&self) -> CumulativeAmount {
        self.statement().cumulative
    }
}

/// Which totals the dialect allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TotalRule {
    /// x402: exactly what was charged, and this much more. So one request is under way at a time.
    Exactly {
        /// The price of the request, or zero for a refund.
        above_charged: Amount,
    },
    /// MPP: any total; one that is not above the accepted one changes nothing. What is signed ahead pays for several requests at once.
    Rising,
}

/// A deposit that opens a channel or adds to it.
#[derive(Clone, Debug)]
pub enum Funding {
    /// x402: what the payer has signed for the token or for Permit2.
    X402(x402::Deposit),
    /// MPP: what the payer has signed, and whether it opens a channel.
    Session {
        /// Opens it, or adds to it.
        action: mpp::FundingAction,
        /// What is signed.
        funding: mpp::Funding,
    },
    /// MPP: the payer has sent the transaction itself. The chain says how much it was.
    Sent {
        /// Its hash.
        hash: Hash256,
    },
}

impl Funding {
    /// How much, in base units, where the payer says it.
    #[must_use]
    pub fn amount(&self) -> Option<Amount> {
        match self {
            Self::X402(deposit) => Some(deposit.amount),
            Self::Session { funding, .. } => Some(funding.amount()),
            Self::Sent { .. } => None,
        }
    }
}
