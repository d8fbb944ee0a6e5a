//! Calls for others: what a facilitator sends for servers and payers, by signatures of theirs or of the receiver authorizer's. Each call is built
//! first, so that it can be judged, kept and sent under one nonce; what came of it is read from its receipt.

use alloy::primitives::{Bytes, U256, keccak256};
use alloy::sol_types::{SolCall, SolStruct};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Uint256};
use millstream_voucher::evm::{ChannelConfig, ClaimBatch, ClaimEntry, EscrowDomain, EvmError, EvmSignature, Refund, Statement};

use super::EXACT_PERMIT2_PROXY;
use super::bindings::{IX402BatchSettlement, IX402ExactPermit2Proxy};
use super::claims::{BatchOperator, ClaimRow, voucher_claims};
use super::contract::config;
use crate::{Call, ChainError, TxReceipt, convert};

/// The statements of the receiver's authorizer, with the names that are part of what is signed.
mod typed {
    alloy::sol! {
        struct ClaimEntry {
            bytes32 channelId;
            uint128 maxClaimableAmount;
            uint128 totalClaimed;
        }
        struct ClaimBatch {
            ClaimEntry[] claims;
        }
        struct Refund {
            bytes32 channelId;
            uint256 nonce;
            uint128 amount;
        }
    }
}

alloy::sol! {
    /// What a token says when it moves.
    event Transfer(address indexed from, address indexed to, uint256 value);
}

/// An `exact` payment by Permit2 that its payer signed; anyone may submit it, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactPermit2 {
    /// The token.
    pub token: Address,
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// How much.
    pub amount: Amount,
    /// One that the payer did not use before.
    pub nonce: Uint256,
    /// The last second at which it is valid.
    pub deadline: Uint256,
    /// The first second at which it is valid.
    pub valid_after: Uint256,
    /// For Permit2.
    pub signature: EvmSignature,
}

impl BatchOperator {
    /// A claim of rows that share a receiver authorizer, who signed them.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`]: a withdraw delay does not fit.
    pub fn claim_signed_call(&self, rows: &[ClaimRow], signature: &EvmSignature) -> Result<Call, ChainError> {
        Ok(Call::encode("x402 claim", self.contract().address(), &signed_claim(rows, signature)?))
    }

    /// A refund that the receiver authorizer signed, after claims that it signed, all or nothing.
    ///
    /// # Errors
    /// As [`Self::claim_signed_call`].
    pub fn refund_signed_call(
        &self,
        terms: &ChannelConfig,
        refund: &Refund,
        signature: &EvmSignature,
        claims: Option<(&[ClaimRow], &EvmSignature)>,
    ) -> Result<Call, ChainError> {
        let refund = IX402BatchSettlement::refundWithSignatureCall {
            config: config(terms)?,
            amount: refund.amount.units(),
            nonce: U256::from_be_bytes(refund.nonce.to_be_bytes()),
            receiverAuthorizerSignature: Bytes::copy_from_slice(signature.as_bytes()),
        };
        let Some((rows, signature)) = claims else { return Ok(Call::encode("x402 refund", self.contract().address(), &refund)) };
        let calls = [signed_claim(rows, signature)?.abi_encode(), refund.abi_encode()];
        let call = IX402BatchSettlement::multicallCall { data: calls.map(Bytes::from).to_vec() };
        Ok(Call::encode("x402 refund", self.contract().address(), &call))
    }

    /// This account's signature over claims of channels whose receiver authorizer it is.
    ///
    /// # Errors
    /// [`ChainError::Internal`]; or a remote signer refuses or is unavailable.
    pub async fn sign_claims(&self, batch: &ClaimBatch) -> Result<EvmSignature, ChainError> {
        let row = |claim: &ClaimEntry| typed::ClaimEntry {
            channelId: claim.channel.as_bytes().into(),
            maxClaimableAmount: claim.max_claimable.units(),
            totalClaimed: claim.total_claimed.units(),
        };
        self.sign(batch, &typed::ClaimBatch { claims: batch.claims.iter().map(row).collect() }).await
    }

    /// This account's signature over a refund of a channel whose receiver authorizer it is.
    ///
    /// # Errors
    /// As [`BatchOperator::sign_claims`].
    pub async fn sign_refund(&self, refund: &Refund) -> Result<EvmSignature, ChainError> {
        let message = typed::Refund {
            channelId: refund.channel.as_bytes().into(),
            nonce: U256::from_be_bytes(refund.nonce.to_be_bytes()),
            amount: refund.amount.units(),
        };
        self.sign(refund, &message).await
    }

    /// `message` is the statement in the form that can be shown to whoever signs; that both are the same is checked first.
    async fn sign<T: Statement<Domain = EscrowDomain>>(&self, statement: &T, message: &impl SolStruct) -> Result<EvmSignature, ChainError> {
        let internal = |error: EvmError| ChainError::Internal { detail: error.to_string() };
        let domain = self.contract().domain();
        let digest = statement.digest(domain).map_err(internal)?;
        let mut bytes = [0; 66];
        bytes[..2].copy_from_slice(&[0x19, 0x01]);
        bytes[2..34].copy_from_slice(domain.separator().as_bytes());
        bytes[34..].copy_from_slice(message.eip712_hash_struct().as_slice());
        if keccak256(bytes) != convert::evm_hash(digest) {
            return Err(ChainError::Internal { detail: "a statement and what is signed of it differ".to_owned() });
        }
        let signature = self.submitter().key().sign_message(&bytes).await?;
        EvmSignature::new(signature.as_bytes()).map_err(internal)
    }

    /// What a transaction put into a channel: nothing when it did not.
    #[must_use]
    pub fn deposited_by(&self, receipt: &TxReceipt, channel: EscrowChannelId) -> Option<Amount> {
        let mut events = receipt.events::<IX402BatchSettlement::Deposited>(self.contract().address());
        events.find(|event| event.channelId.0 == *channel.as_bytes()).map(|event| Amount::from_units(event.amount))
    }

    /// The channels that a transaction claimed from, and what is claimed of each in total now.
    #[must_use]
    pub fn claimed_by(&self, receipt: &TxReceipt) -> Vec<(EscrowChannelId, CumulativeAmount)> {
        let events = receipt.events::<IX402BatchSettlement::Claimed>(self.contract().address());
        let total = |event: IX402BatchSettlement::Claimed| {
            (EscrowChannelId::from_bytes(event.channelId.0), CumulativeAmount::from_units(event.newTotalClaimed))
        };
        events.map(total).collect()
    }

    /// What a transaction paid a receiver of a token: zero when another had swept before.
    #[must_use]
    pub fn swept_by(&self, receipt: &TxReceipt, receiver: Address, token: Address) -> Amount {
        let (receiver, token) = (convert::evm_address(receiver), convert::evm_address(token));
        let mut events = receipt.events::<IX402BatchSettlement::Settled>(self.contract().address());
        let event = events.find(|event| event.receiver == receiver && event.token == token);
        event.map_or(Amount::ZERO, |event| Amount::from_units(event.amount))
    }

    /// What a transaction gave back of a channel: zero when nothing was left.
    #[must_use]
    pub fn refunded_by(&self, receipt: &TxReceipt, channel: EscrowChannelId) -> Amount {
        let mut events = receipt.events::<IX402BatchSettlement::Refunded>(self.contract().address());
        let event = events.find(|event| event.channelId.0 == *channel.as_bytes());
        event.map_or(Amount::ZERO, |event| Amount::from_units(event.amount))
    }
}

impl ExactPermit2 {
    /// The call of the proxy.
    #[must_use]
    pub fn call(&self) -> Call {
        let word = |value: Uint256| U256::from_be_bytes(value.to_be_bytes());
        let call = IX402ExactPermit2Proxy::settleCall {
            permit: IX402ExactPermit2Proxy::PermitTransferFrom {
                permitted: IX402ExactPermit2Proxy::TokenPermissions {
                    token: convert::evm_address(self.token),
                    amount: U256::from(self.amount.units()),
                },
                nonce: word(self.nonce),
                deadline: word(self.deadline),
            },
            owner: convert::evm_address(self.from),
            witness: IX402ExactPermit2Proxy::Witness { to: convert::evm_address(self.to), validAfter: word(self.valid_after) },
            signature: Bytes::copy_from_slice(self.signature.as_bytes()),
        };
        Call::encode("exact transfer", EXACT_PERMIT2_PROXY, &call)
    }
}

impl TxReceipt {
    /// Whether the transaction moved exactly this much of a token between these accounts, by the token's own word.
    #[must_use]
    pub fn moved(&self, token: Address, from: Address, to: Address, amount: Amount) -> bool {
        let (from, to) = (convert::evm_address(from), convert::evm_address(to));
        self.events::<Transfer>(token)
            .any(|event| event.from == from && event.to == to && event.value == U256::from(amount.units()))
    }
}

fn signed_claim(rows: &[ClaimRow], signature: &EvmSignature) -> Result<IX402BatchSettlement::claimWithSignatureCall, ChainError> {
    Ok(IX402BatchSettlement::claimWithSignatureCall {
        voucherClaims: voucher_claims(rows)?,
        authorizerSignature: Bytes::copy_from_slice(signature.as_bytes()),
    })
}
