//! What a client offers to pay with, whatever dialect it spoke.

use millstream_dialect::{mpp, x402};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    ChannelConfig, EscrowDomain, EscrowVoucher, Permit2Transfer, SessionTerms, Signed, SignedEscrowVoucher, TransferAuthorization,
    VerifiedEscrowVoucher,
};

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

/// A payment of one request, checked against what the route offers as far as that goes without the chain.
#[derive(Clone, Debug)]
pub struct SinglePayment {
    /// The token.
    pub token: Address,
    /// Who pays.
    pub payer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// What is paid, in base units.
    pub amount: Amount,
    /// What the payer has signed.
    pub transfer: SingleTransfer,
    /// Whether the signature was found to be of the payer's key. If not, the payer may be a contract, and only the chain can say.
    pub is_verified: bool,
}

/// What moves a single payment. Anybody can send it, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SingleTransfer {
    /// By the token itself.
    Erc3009(Signed<TransferAuthorization>),
    /// By Permit2, through x402's proxy for exact payments.
    Permit2(Signed<Permit2Transfer>),
}

impl SinglePayment {
    /// The Unix second from which the chain does not take it any more.
    #[must_use]
    pub fn ends_at_secs(&self) -> Uint256 {
        match &self.transfer {
            SingleTransfer::Erc3009(signed) => signed.statement().valid_before,
            // The deadline itself is still good; the second is given away.
            SingleTransfer::Permit2(signed) => signed.statement().deadline,
        }
    }
}
