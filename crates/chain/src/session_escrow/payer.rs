//! What a payer sends itself, where nobody relays for it.

use millstream_types::{Address, Amount, EscrowChannelId};
use millstream_voucher::evm::SessionTerms;

use super::bindings::ISessionEscrow;
use super::contract::SessionEscrow;
use super::operator::withdraw_credit;
use crate::{Call, ChainError, Submitter, TxReceipt, convert, token};

/// A payer's account on one escrow.
#[derive(Clone, Debug)]
pub struct SessionPayer {
    contract: SessionEscrow,
    submitter: Submitter,
}

impl SessionPayer {
    /// Acts by the account of the submitter.
    #[must_use]
    pub const fn new(contract: SessionEscrow, submitter: Submitter) -> Self {
        Self { contract, submitter }
    }

    /// The escrow.
    #[must_use]
    pub const fn contract(&self) -> &SessionEscrow {
        &self.contract
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.submitter.account()
    }

    /// Approves the deposit where needed, and opens a channel.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] when the terms name another payer. Final: `InvalidPayee`, `ZeroDeposit`, `ChannelAlreadyExists`,
    /// `ShortTransfer`, and the token's own; else as [`Submitter::send`].
    pub async fn open(&self, terms: &SessionTerms, deposit: Amount) -> Result<TxReceipt, ChainError> {
        if terms.payer != self.account() {
            return Err(ChainError::invalid("payer", format!("it is {}, not this account", terms.payer)));
        }
        self.approve(terms.token, deposit).await?;
        let call = ISessionEscrow::openCall {
            payee: convert::evm_address(terms.payee),
            token: convert::evm_address(terms.token),
            deposit: deposit.units(),
            salt: convert::evm_hash(terms.salt),
            authorizedSigner: convert::evm_address(terms.authorized_signer),
        };
        self.send("session open", &call).await
    }

    /// Approves the deposit where needed, and adds it to a channel of this account's in that token; takes back a requested close.
    ///
    /// Two equal top-ups at the same time are one transaction; one after the other they are two.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `NotPayer`, `ZeroDeposit`, `DepositOverflow`, `ShortTransfer`, and the token's own; else
    /// as [`Submitter::send`].
    pub async fn top_up(&self, channel: EscrowChannelId, token: Address, additional: Amount) -> Result<TxReceipt, ChainError> {
        self.approve(token, additional).await?;
        let call = ISessionEscrow::topUpCall { channelId: (*channel.as_bytes()).into(), additionalDeposit: additional.units() };
        self.send("session topUp", &call).await
    }

    /// Lets Permit2 pull at least so many base units of a token, where it may not already: once for all deposits signed for it
    /// ([`crate::PERMIT2`]).
    ///
    /// # Errors
    /// As [`Submitter::send`].
    pub async fn approve_permit2(&self, token: Address, amount: Amount) -> Result<Option<TxReceipt>, ChainError> {
        token::approve(&self.submitter, token, crate::PERMIT2, amount.units()).await
    }

    /// Asks for the close: after the grace period ([`SessionEscrow::grace_secs`]) the rest can be withdrawn. Asking again changes nothing.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `NotPayer`; else as [`Submitter::send`].
    pub async fn request_close(&self, channel: EscrowChannelId) -> Result<TxReceipt, ChainError> {
        self.send("session requestClose", &ISessionEscrow::requestCloseCall { channelId: (*channel.as_bytes()).into() }).await
    }

    /// Closes the channel after the grace period and takes what was not settled. Returns how much that is.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `NotPayer`, `CloseNotReady`; else as [`Submitter::send`].
    pub async fn withdraw(&self, channel: EscrowChannelId) -> Result<(TxReceipt, Amount), ChainError> {
        let receipt = self.send("session withdraw", &ISessionEscrow::withdrawCall { channelId: (*channel.as_bytes()).into() }).await?;
        let event = receipt.event::<ISessionEscrow::ChannelClosed>(self.contract.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a withdrawal succeeded without its event"))?;
        let amount = convert::amount("refund", event.refundedToPayer)?;
        Ok((receipt, amount))
    }

    /// Sends what the escrow owes this account in a token, because the token refused it (E-28), to an account.
    ///
    /// # Errors
    /// Final: `NothingToWithdraw`, or the token refuses again; else as [`Submitter::send`].
    pub async fn withdraw_credit(&self, token: Address, to: Address) -> Result<(TxReceipt, Amount), ChainError> {
        withdraw_credit(&self.contract, &self.submitter, token, to).await
    }

    async fn approve(&self, token: Address, amount: Amount) -> Result<(), ChainError> {
        token::approve(&self.submitter, token, self.contract.address(), amount.units()).await.map(drop)
    }

    async fn send(&self, operation: &'static str, call: &impl alloy::sol_types::SolCall) -> Result<TxReceipt, ChainError> {
        self.submitter.send(Call::encode(operation, self.contract.address(), call)).await
    }
}
