//! What the receiver's side sends: deposits that payers signed, claims of many channels, sweeps, refunds.

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::{SolCall, SolValue};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Uint256};
use millstream_voucher::evm::{ChannelConfig, EvmSignature, deposit_nonce};

use super::bindings::IX402BatchSettlement;
use super::contract::{BatchSettlement, config};
use super::{ERC3009_DEPOSIT_COLLECTOR, PERMIT2_DEPOSIT_COLLECTOR};
use crate::{Call, ChainError, IntentId, Revert, Submitter, TxReceipt, convert, used};

/// Rows of one claim, at most: 482 bytes and some 24,000 gas each.
pub const CLAIM_ROWS_MAX: usize = 100;

/// A voucher to claim with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRow {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Its terms.
    pub config: ChannelConfig,
    /// What the voucher allows in total.
    pub ceiling: CumulativeAmount,
    /// The payer's signature.
    pub signature: EvmSignature,
    /// What is taken in total: what was charged, never more than the voucher allows.
    pub total: CumulativeAmount,
}

/// A row that the contract refuses: by itself, so no other is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadClaim {
    /// Its place in the list.
    pub row: usize,
    /// The contract's reason.
    pub revert: Revert,
}

/// Rows, told apart by simulation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// The places of those that the contract takes, ascending.
    pub good: Vec<usize>,
    /// The others, ascending.
    pub bad: Vec<BadClaim>,
}

/// What a claim came to.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The transaction.
    pub receipt: TxReceipt,
    /// The channels that were claimed from and what is claimed of each in total now. A row whose total was reached before has no entry.
    pub totals: Vec<(EscrowChannelId, CumulativeAmount)>,
}

/// What a sweep came to.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The transaction.
    pub receipt: TxReceipt,
    /// What the receiver got.
    pub amount: Amount,
}

/// How a payer lets the contract pull a deposit; the amount is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DepositAuthorization {
    /// ERC-3009, to the collector, with the nonce that channel and salt give.
    Erc3009 {
        /// Not valid at or before this second.
        valid_after: Uint256,
        /// Not valid at or after this second.
        valid_before: Uint256,
        /// Tells equal deposits apart.
        salt: Uint256,
        /// For the token.
        signature: EvmSignature,
    },
    /// Permit2, with the channel as the witness.
    Permit2 {
        /// One that the payer did not use before.
        nonce: Uint256,
        /// The last second at which it is valid.
        deadline: Uint256,
        /// For Permit2.
        signature: EvmSignature,
        /// An EIP-2612 permit for Permit2 as the collector takes it; empty where an allowance stands.
        permit: Vec<u8>,
    },
}

/// The account that acts on channels of the contract, for others or as their receiver authorizer.
#[derive(Clone, Debug)]
pub struct BatchOperator {
    contract: BatchSettlement,
    submitter: Submitter,
}

impl BatchOperator {
    /// Acts by the account of the submitter.
    #[must_use]
    pub const fn new(contract: BatchSettlement, submitter: Submitter) -> Self {
        Self { contract, submitter }
    }

    /// The contract.
    #[must_use]
    pub const fn contract(&self) -> &BatchSettlement {
        &self.contract
    }

    /// The account: what channels have to name as their receiver authorizer, for claims and refunds without another's signature.
    #[must_use]
    pub fn account(&self) -> Address {
        self.submitter.account()
    }

    /// The account's lane.
    #[must_use]
    pub const fn submitter(&self) -> &Submitter {
        &self.submitter
    }

    /// Submits a deposit that a payer signed. `intent` identifies the work to the caller.
    ///
    /// # Errors
    /// Final: `InvalidChannel`, `WithdrawDelayOutOfRange`, `DepositCollectionFailed`, the token's or Permit2's own; else as
    /// [`Submitter::send`].
    pub async fn deposit(
        &self,
        intent: IntentId,
        terms: &ChannelConfig,
        amount: Amount,
        authorization: &DepositAuthorization,
    ) -> Result<TxReceipt, ChainError> {
        self.submitter.send(self.deposit_call(terms, amount, authorization)?.with_intent(intent)).await
    }

    /// Whether the deposit would be taken now.
    ///
    /// # Errors
    /// As [`Self::deposit`]; nothing is sent.
    pub async fn try_deposit(&self, terms: &ChannelConfig, amount: Amount, authorization: &DepositAuthorization) -> Result<(), ChainError> {
        self.submitter.simulate(&self.deposit_call(terms, amount, authorization)?).await.map(|_| ())
    }

    /// Whether the payer's permission was used: the deposit is there, or the payer took the permission back.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn is_deposit_used(
        &self,
        channel: EscrowChannelId,
        terms: &ChannelConfig,
        authorization: &DepositAuthorization,
    ) -> Result<bool, ChainError> {
        let rpc = self.contract.rpc();
        match authorization {
            DepositAuthorization::Erc3009 { salt, .. } => {
                used::is_authorization_used(rpc, terms.token, terms.payer, deposit_nonce(&channel, *salt)).await
            }
            DepositAuthorization::Permit2 { nonce, .. } => used::is_permit2_nonce_used(rpc, terms.payer, *nonce).await,
        }
    }

    /// The deposit as a call: to be judged, kept and sent.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`]: the withdraw delay does not fit.
    pub fn deposit_call(&self, terms: &ChannelConfig, amount: Amount, authorization: &DepositAuthorization) -> Result<Call, ChainError> {
        let word = |value: Uint256| U256::from_be_bytes(value.to_be_bytes());
        let bytes = |signature: &EvmSignature| Bytes::copy_from_slice(signature.as_bytes());
        let (collector, data) = match authorization {
            DepositAuthorization::Erc3009 { valid_after, valid_before, salt, signature } => {
                let data = (word(*valid_after), word(*valid_before), word(*salt), bytes(signature)).abi_encode_params();
                (ERC3009_DEPOSIT_COLLECTOR, data)
            }
            DepositAuthorization::Permit2 { nonce, deadline, signature, permit } => {
                let data = (word(*nonce), word(*deadline), bytes(signature), Bytes::copy_from_slice(permit)).abi_encode_params();
                (PERMIT2_DEPOSIT_COLLECTOR, data)
            }
        };
        let call = IX402BatchSettlement::depositCall {
            config: config(terms)?,
            amount: amount.units(),
            collector: convert::evm_address(collector),
            collectorData: data.into(),
        };
        Ok(Call::encode("x402 deposit", self.contract.address(), &call))
    }

    /// Tells the rows that the contract takes from those that would spoil a batch, by simulation: of a batch that reverts each half is tried.
    /// Each row is of another channel.
    ///
    /// # Errors
    /// What is no revert: then nothing is known of any row.
    pub async fn sort_out(&self, rows: &[ClaimRow]) -> Result<Sorted, ChainError> {
        let mut sorted = Sorted::default();
        // The last one is looked at next, so what comes first is pushed last.
        let mut open: Vec<_> = (0..rows.len()).step_by(CLAIM_ROWS_MAX).map(|from| from..rows.len().min(from + CLAIM_ROWS_MAX)).collect();
        open.reverse();
        while let Some(range) = open.pop() {
            let some = rows.get(range.clone()).unwrap_or_default();
            match self.submitter.simulate(&self.claim_call(some)?).await {
                Ok(_) => sorted.good.extend(range),
                Err(ChainError::Reverted { revert, .. }) if range.len() == 1 => sorted.bad.push(BadClaim { row: range.start, revert }),
                Err(ChainError::Reverted { .. }) => {
                    let middle = range.start + range.len() / 2;
                    open.extend([middle..range.end, range.start..middle]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sorted)
    }

    /// Claims from channels that name this account as receiver or receiver authorizer; at most [`CLAIM_ROWS_MAX`] rows. Moves no token.
    ///
    /// # Errors
    /// Final, for all rows together: `NotAuthorizedToClaim`, `InvalidSignature`, `ClaimExceedsCeiling`, `ClaimExceedsBalance`; else as
    /// [`Submitter::send`].
    pub async fn claim(&self, intent: IntentId, rows: &[ClaimRow]) -> Result<Claimed, ChainError> {
        let receipt = self.submitter.send(self.claim_call(rows)?.with_intent(intent)).await?;
        Ok(self.claimed(receipt))
    }

    /// Claims from channels of another receiver authorizer, who signed the batch.
    ///
    /// # Errors
    /// As [`Self::claim`]; `InvalidSignature` also of the authorizer's.
    pub async fn claim_signed(&self, intent: IntentId, rows: &[ClaimRow], signature: &EvmSignature) -> Result<Claimed, ChainError> {
        let signature = Bytes::copy_from_slice(signature.as_bytes());
        let call = IX402BatchSettlement::claimWithSignatureCall { voucherClaims: voucher_claims(rows)?, authorizerSignature: signature };
        let call = Call::encode("x402 claim", self.contract.address(), &call);
        let receipt = self.submitter.send(call.with_intent(intent)).await?;
        Ok(self.claimed(receipt))
    }

    /// The call that claims rows from channels that name this account, for who sends and follows it by itself.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for a withdraw delay that does not fit 40 bits.
    pub fn claim_call(&self, rows: &[ClaimRow]) -> Result<Call, ChainError> {
        let call = IX402BatchSettlement::claimCall { voucherClaims: voucher_claims(rows)? };
        Ok(Call::encode("x402 claim", self.contract.address(), &call))
    }

    fn claimed(&self, receipt: TxReceipt) -> Claimed {
        let events = receipt.events::<IX402BatchSettlement::Claimed>(self.contract.address());
        let total = |event: IX402BatchSettlement::Claimed| {
            (EscrowChannelId::from_bytes(event.channelId.0), CumulativeAmount::from_units(event.newTotalClaimed))
        };
        Claimed { totals: events.map(total).collect(), receipt }
    }

    /// Sends a receiver what was claimed of a token for it and not swept yet; nothing is sent when there is nothing.
    ///
    /// What a claim brought is there once its transaction is confirmed, so it comes after that.
    ///
    /// # Errors
    /// Final: the token refuses; else as [`Submitter::send`].
    pub async fn sweep(&self, intent: IntentId, receiver: Address, token: Address) -> Result<Option<Sweep>, ChainError> {
        if self.contract.receiver(receiver, token).await?.due().is_zero() {
            return Ok(None);
        }
        let receipt = self.submitter.send(self.sweep_call(receiver, token).with_intent(intent)).await?;
        Ok(Some(self.swept(receipt)))
    }

    /// The call that sweeps, for who sends and follows it by itself.
    #[must_use]
    pub fn sweep_call(&self, receiver: Address, token: Address) -> Call {
        let call = IX402BatchSettlement::settleCall { receiver: convert::evm_address(receiver), token: convert::evm_address(token) };
        Call::encode("x402 settle", self.contract.address(), &call)
    }

    /// What a sweep came to whose transaction was confirmed.
    #[must_use]
    pub fn swept(&self, receipt: TxReceipt) -> Sweep {
        let event = receipt.event::<IX402BatchSettlement::Settled>(self.contract.address());
        // Somebody else may have swept meanwhile: then there is no event, and nothing was moved by this one.
        let amount = event.map_or(Amount::ZERO, |event| Amount::from_units(event.amount));
        Sweep { receipt, amount }
    }

    /// Gives back to the payer up to `amount` of what nobody claimed, from a channel that names this account; before it, and in the same
    /// transaction, claims what is given. What was refunded is what the contract's event says, nothing without one.
    ///
    /// # Errors
    /// Final: `NotAuthorizedToRefund`, `ZeroRefund`, and those of [`Self::claim`]; else as [`Submitter::send`].
    pub async fn refund(
        &self,
        intent: IntentId,
        terms: &ChannelConfig,
        amount: Amount,
        claim: Option<&ClaimRow>,
    ) -> Result<(TxReceipt, Amount), ChainError> {
        let receipt = self.submitter.send(self.refund_call(terms, amount, claim)?.with_intent(intent)).await?;
        let refunded = self.refunded(&receipt);
        Ok((receipt, refunded))
    }

    /// As [`Self::refund`], for another receiver authorizer, who signed this refund with this nonce, and the batch with this one claim.
    ///
    /// # Errors
    /// As [`Self::refund`]; `InvalidRefundNonce`, `InvalidSignature`.
    pub async fn refund_signed(
        &self,
        intent: IntentId,
        terms: &ChannelConfig,
        amount: Amount,
        nonce: Uint256,
        signature: &EvmSignature,
        claim: Option<(&ClaimRow, &EvmSignature)>,
    ) -> Result<(TxReceipt, Amount), ChainError> {
        let refund = IX402BatchSettlement::refundWithSignatureCall {
            config: config(terms)?,
            amount: amount.units(),
            nonce: U256::from_be_bytes(nonce.to_be_bytes()),
            receiverAuthorizerSignature: Bytes::copy_from_slice(signature.as_bytes()),
        };
        let Some((row, signature)) = claim else { return self.send_all(intent, vec![refund.abi_encode()]).await };
        let claim = IX402BatchSettlement::claimWithSignatureCall {
            voucherClaims: voucher_claims(core::slice::from_ref(row))?,
            authorizerSignature: Bytes::copy_from_slice(signature.as_bytes()),
        };
        self.send_all(intent, vec![claim.abi_encode(), refund.abi_encode()]).await
    }

    /// [`Self::refund`] as a call, to be kept and sent. What it paid back is what [`Self::refunded`] says.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`]: the withdraw delay does not fit.
    pub fn refund_call(&self, terms: &ChannelConfig, amount: Amount, claim: Option<&ClaimRow>) -> Result<Call, ChainError> {
        let mut calls = Vec::new();
        if let Some(row) = claim {
            calls.push(IX402BatchSettlement::claimCall { voucherClaims: voucher_claims(core::slice::from_ref(row))? }.abi_encode());
        }
        calls.push(IX402BatchSettlement::refundCall { config: config(terms)?, amount: amount.units() }.abi_encode());
        Ok(self.multicall(calls))
    }

    /// What a transaction with one refund paid back: nothing when nothing was left.
    #[must_use]
    pub fn refunded(&self, receipt: &TxReceipt) -> Amount {
        let event = receipt.event::<IX402BatchSettlement::Refunded>(self.contract.address());
        event.map_or(Amount::ZERO, |event| Amount::from_units(event.amount))
    }

    fn multicall(&self, calls: Vec<Vec<u8>>) -> Call {
        let call = IX402BatchSettlement::multicallCall { data: calls.into_iter().map(Bytes::from).collect() };
        Call::encode("x402 refund", self.contract.address(), &call)
    }

    async fn send_all(&self, intent: IntentId, calls: Vec<Vec<u8>>) -> Result<(TxReceipt, Amount), ChainError> {
        let receipt = self.submitter.send(self.multicall(calls).with_intent(intent)).await?;
        let refunded = self.refunded(&receipt);
        Ok((receipt, refunded))
    }

    /// As the payer: begins to take back up to `amount`, which the receiver has the withdraw delay to claim from.
    ///
    /// # Errors
    /// Final: `WithdrawalAlreadyPending`, `NothingToWithdraw`, `WithdrawAmountExceedsAvailable`; else as [`Submitter::send`].
    pub async fn begin_withdrawal(&self, terms: &ChannelConfig, amount: Amount) -> Result<TxReceipt, ChainError> {
        let call = IX402BatchSettlement::initiateWithdrawCall { config: config(terms)?, amount: amount.units() };
        self.submitter.send(Call::encode("x402 initiateWithdraw", self.contract.address(), &call)).await
    }

    /// As the payer: takes back what is left, once the withdraw delay has passed. Returns how much that is.
    ///
    /// # Errors
    /// Final: `WithdrawalNotPending`, `WithdrawDelayNotElapsed`; else as [`Submitter::send`].
    pub async fn finish_withdrawal(&self, terms: &ChannelConfig) -> Result<(TxReceipt, Amount), ChainError> {
        let call = IX402BatchSettlement::finalizeWithdrawCall { config: config(terms)? };
        let receipt = self.submitter.send(Call::encode("x402 finalizeWithdraw", self.contract.address(), &call)).await?;
        // Where all of it was claimed meanwhile, nothing is moved and nothing said.
        let event = receipt.event::<IX402BatchSettlement::WithdrawFinalized>(self.contract.address());
        let amount = event.map_or(Amount::ZERO, |event| Amount::from_units(event.amount));
        Ok((receipt, amount))
    }
}

pub(super) fn voucher_claims(rows: &[ClaimRow]) -> Result<Vec<IX402BatchSettlement::VoucherClaim>, ChainError> {
    let claim = |row: &ClaimRow| {
        Ok(IX402BatchSettlement::VoucherClaim {
            voucher: IX402BatchSettlement::Voucher { channel: config(&row.config)?, maxClaimableAmount: row.ceiling.units() },
            signature: Bytes::copy_from_slice(row.signature.as_bytes()),
            totalClaimed: row.total.units(),
        })
    };
    rows.iter().map(claim).collect()
}
