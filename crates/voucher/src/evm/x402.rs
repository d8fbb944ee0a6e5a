//! x402 `batch-settlement`: channel identity, refunds, batches of claims, deposits; and the addresses of x402's contracts.

use millstream_types::{Address, Amount, ChainId, CumulativeAmount, EscrowChannelId, Hash256, Uint256};

use super::domain::EscrowDomain;
use super::eip712::{self, Encoder};
use super::signed::{EvmError, Statement};

/// `x402BatchSettlement`, the same on every chain; its public clients know no other.
pub const X402_BATCH_SETTLEMENT: Address = Address::from_bytes(hex20(b"4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"));
/// Where deposits by ERC-3009 go through.
pub const ERC3009_DEPOSIT_COLLECTOR: Address = Address::from_bytes(hex20(b"4020806089470a89826cB9fB1f4059150b550004"));
/// Where deposits by Permit2 go through.
pub const PERMIT2_DEPOSIT_COLLECTOR: Address = Address::from_bytes(hex20(b"4020425FAf3B746C082C2f942b4E5159887B0005"));
/// The spender of an `exact` payment by Permit2.
pub const X402_EXACT_PERMIT2_PROXY: Address = Address::from_bytes(hex20(b"402085c248EeA27D92E8b30b2C58ed07f9E20001"));
/// The spender of an `upto` payment, as the published clients have it; the scheme's specification prints an older address.
pub const X402_UPTO_PERMIT2_PROXY: Address = Address::from_bytes(hex20(b"4020A4f3b7b90ccA423B9fabCc0CE57C6C240002"));

/// Seconds that a channel's withdrawal waits at least: the contract refuses less.
pub const WITHDRAW_DELAY_MIN_SECS: u64 = 900;
/// Seconds that a channel's withdrawal waits at most: the contract refuses more.
pub const WITHDRAW_DELAY_MAX_SECS: u64 = 2_592_000;

/// Random bytes at the start of a salt that names a refund authorizer.
pub const REFUND_AUTHORIZER_ENTROPY_BYTES: usize = 12;

const CONFIG_TYPE: &str = "ChannelConfig(address payer,address payerAuthorizer,address receiver,address receiverAuthorizer,address token,\
                           uint40 withdrawDelay,bytes32 salt)";
const REFUND_TYPE: &str = "Refund(bytes32 channelId,uint256 nonce,uint128 amount)";
const CLAIM_ENTRY_TYPE: &str = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";
const CLAIM_BATCH_TYPE: &str =
    "ClaimBatch(ClaimEntry[] claims)ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)";

/// The terms of a channel. They are fixed, and go with every call; the contract keeps only their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelConfig {
    /// Who pays, and is refunded.
    pub payer: Address,
    /// Whose key signs vouchers; zero for the payer, who may then be a contract.
    pub payer_authorizer: Address,
    /// Who is paid.
    pub receiver: Address,
    /// Who authorises claims and refunds that others submit.
    pub receiver_authorizer: Address,
    /// The token.
    pub token: Address,
    /// Seconds that a withdrawal waits, below 2^40; the contract accepts [`WITHDRAW_DELAY_MIN_SECS`] to [`WITHDRAW_DELAY_MAX_SECS`].
    pub withdraw_delay_secs: u64,
    /// Makes channels with equal terms distinct. Custody draft 1.1 may pack a refund authorizer into it.
    pub salt: Hash256,
}

/// A receiver authorizer's statement: so much goes back to the payer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refund {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The channel's refund nonce on the chain.
    pub nonce: Uint256,
    /// What is refunded at most, in base units.
    pub amount: Amount,
}

/// A row of a [`ClaimBatch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimEntry {
    /// The channel.
    pub channel: EscrowChannelId,
    /// What the voucher allows in total.
    pub max_claimable: CumulativeAmount,
    /// What is taken in total: never more.
    pub total_claimed: CumulativeAmount,
}

/// A receiver authorizer's statement: these totals are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClaimBatch {
    /// The rows, in the order of the call.
    pub claims: Vec<ClaimEntry>,
}

impl ChannelConfig {
    /// The channel's id: the whole EIP-712 digest of the terms (spec E-4), so it binds the contract and the chain.
    ///
    /// # Errors
    /// [`EvmError::DelayWidth`] from 2^40 seconds up.
    pub fn channel_id(&self, escrow: &EscrowDomain) -> Result<EscrowChannelId, EvmError> {
        if self.withdraw_delay_secs >> 40 != 0 {
            return Err(EvmError::DelayWidth { secs: self.withdraw_delay_secs });
        }
        let config = Encoder::of(CONFIG_TYPE)
            .address(&self.payer)
            .address(&self.payer_authorizer)
            .address(&self.receiver)
            .address(&self.receiver_authorizer)
            .address(&self.token)
            .uint(self.withdraw_delay_secs.into())
            .hash(&self.salt)
            .finish();
        Ok(EscrowChannelId::from_bytes(*eip712::digest(escrow.separator(), &config).as_bytes()))
    }

    /// Whose signature vouchers carry: the authorizer's, by its key alone, or the payer's, who may be a contract.
    #[must_use]
    pub fn voucher_signer(&self) -> Address {
        if self.payer_authorizer.is_zero() { self.payer } else { self.payer_authorizer }
    }

    /// Whether the contract accepts the delay.
    #[must_use]
    pub const fn delay_in_range(&self) -> bool {
        WITHDRAW_DELAY_MIN_SECS <= self.withdraw_delay_secs && self.withdraw_delay_secs <= WITHDRAW_DELAY_MAX_SECS
    }
}

/// The refund authorizer that a salt names: its last 20 bytes, after 12 of entropy (custody draft 1.1).
#[must_use]
pub fn packed_refund_authorizer(salt: &Hash256) -> Address {
    let mut address = [0; 20];
    address.copy_from_slice(&salt.as_bytes()[REFUND_AUTHORIZER_ENTROPY_BYTES..]);
    Address::from_bytes(address)
}

/// The ERC-3009 nonce of a deposit: `keccak256(abi.encode(channelId, salt))`; the collector accepts no other.
#[must_use]
pub fn deposit_nonce(channel: &EscrowChannelId, salt: Uint256) -> Hash256 {
    Encoder::bare().channel(channel).uint(salt).finish()
}

impl Statement for Refund {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        let refund = Encoder::of(REFUND_TYPE).channel(&self.channel).uint(self.nonce).amount(self.amount).finish();
        Ok(eip712::digest(domain.separator(), &refund))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}

impl Statement for ClaimBatch {
    type Domain = EscrowDomain;

    fn digest(&self, domain: &EscrowDomain) -> Result<Hash256, EvmError> {
        let rows = self.claims.iter().fold(Encoder::bare(), |rows, claim| {
            let row = Encoder::of(CLAIM_ENTRY_TYPE)
                .channel(&claim.channel)
                .cumulative(claim.max_claimable)
                .cumulative(claim.total_claimed)
                .finish();
            rows.hash(&row)
        });
        let batch = Encoder::of(CLAIM_BATCH_TYPE).hash(&rows.finish()).finish();
        Ok(eip712::digest(domain.separator(), &batch))
    }

    fn chain(domain: &EscrowDomain) -> ChainId {
        domain.chain()
    }

    fn separator(domain: &EscrowDomain) -> Hash256 {
        *domain.separator()
    }
}

/// The bytes of 40 hexadecimal digits; what is none does not compile.
const fn hex20(digits: &[u8; 40]) -> [u8; 20] {
    const fn nibble(digit: u8) -> u8 {
        match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => panic!("not a hexadecimal digit"),
        }
    }
    let mut bytes = [0; 20];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = nibble(digits[2 * at]) << 4 | nibble(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}
