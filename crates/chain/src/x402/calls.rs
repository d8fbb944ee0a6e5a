//! Calls for others: what a facilitator sends for servers and payers, by signatures of theirs or of the receiver authorizer's. Each call is built
//! first, so that it can be judged, kept and sent under one nonce; what came of it is read from its receipt.

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::SolCall;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Uint256};
use millstream_voucher::evm::{ChannelConfig, ClaimBatch, EvmSignature, Refund, Statement};

use super::EXACT_PERMIT2_PROXY;
use super::bindings::{IX402BatchSettlement, IX402ExactPermit2Proxy};
use super::claims::{BatchOperator, ClaimRow, voucher_claims};
use super::contract::config;
use crate::{Call, ChainError, TxReceipt, convert};

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
    /// [`ChainError::Internal`].
    pub fn sign_claims(&self, batch: &ClaimBatch) -> Result<EvmSignature, ChainError> {
        self.sign(batch)
    }

    /// This account's signature over a refund of a channel whose receiver authorizer it is.
    ///
    /// # Errors
    /// [`ChainError::Internal`].
    pub fn sign_refund(&self, refund: &Refund) -> Result<EvmSignature, ChainError> {
        self.sign(refund)
    }

    fn sign<T: Statement<Domain = millstream_voucher::evm::EscrowDomain>>(&self, statement: &T) -> Result<EvmSignature, ChainError> {
        let internal = |error: millstream_voucher::evm::EvmError| ChainError::Internal { detail: error.to_string() };
        let digest = statement.digest(self.contract().domain()).map_err(internal)?;
        let signature = self.submitter().key().sign_digest(convert::evm_hash(digest))?;
        EvmSignature::new(signature).map_err(internal)
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
