//! What the payee's side sends: deposits that payers signed, settlements of many vouchers, closes.

use alloy::primitives::{Bytes, U256};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{EvmSignature, SessionTerms, top_up_nonce};

use super::bindings::ISessionEscrow;
use super::contract::SessionEscrow;
use crate::{Call, ChainError, IntentId, Revert, Submitter, TxReceipt, convert};

/// Rows of one settlement, at most: some 350 bytes and 35,000 gas each of a key's, up to 550,000 gas of a contract signer's.
pub const SETTLE_ROWS_MAX: usize = 100;

/// How a payer lets the escrow pull a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFunding {
    /// ERC-3009, to the escrow; the nonce follows from what the deposit is for (E-24).
    Erc3009 {
        /// Not valid at or before this second.
        valid_after: Uint256,
        /// Not valid at or after this second.
        valid_before: Uint256,
        /// For the token.
        signature: EvmSignature,
    },
    /// Permit2, with what the deposit is for as the witness.
    Permit2 {
        /// One that the payer did not use before.
        nonce: Uint256,
        /// The last second at which it is valid.
        deadline: Uint256,
        /// For Permit2.
        signature: EvmSignature,
    },
}

/// A channel to open by what its payer signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOpening {
    /// The channel's terms.
    pub terms: SessionTerms,
    /// The first deposit.
    pub deposit: Amount,
    /// What the payer signed.
    pub funding: SessionFunding,
}

/// A deposit to add by what somebody signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTopUp {
    /// The channel.
    pub channel: EscrowChannelId,
    /// Whose money it is. Only the payer's own takes back a requested close (E-27).
    pub from: Address,
    /// How much.
    pub additional: Amount,
    /// What the nonce of ERC-3009 is made from; Permit2 looks at none.
    pub salt: Hash256,
    /// What was signed.
    pub funding: SessionFunding,
}

/// A voucher to settle or close with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoucherRow {
    /// The channel.
    pub channel: EscrowChannelId,
    /// The total that it is over. All of it is paid: the escrow knows no part of a voucher.
    pub cumulative: CumulativeAmount,
    /// The signer's.
    pub signature: EvmSignature,
}

/// A voucher that the contract refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVoucher {
    /// Its place in the list.
    pub row: usize,
    /// The contract's reason; of a row that a mined settlement passed over, the selector of its error.
    pub revert: Revert,
}

/// What a settlement paid of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRow {
    /// The channel.
    pub channel: EscrowChannelId,
    /// What is settled of it in total now.
    pub total: CumulativeAmount,
    /// What this settlement added.
    pub paid: Amount,
}

/// What a settlement of many came to.
#[derive(Clone, Debug)]
pub struct SettledMany {
    /// The transaction.
    pub receipt: TxReceipt,
    /// The channels that were paid from, in the order of the rows.
    pub settled: Vec<SettledRow>,
    /// The rows that were passed over.
    pub skipped: Vec<BadVoucher>,
}

/// What a close came to.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The transaction.
    pub receipt: TxReceipt,
    /// Everything that was ever settled of the channel.
    pub settled: CumulativeAmount,
    /// What went back to the payer.
    pub refunded: Amount,
}

/// A payee's signature for this account to settle or close with ([`SettleAuthorization`](millstream_voucher::evm::SettleAuthorization),
/// [`CloseAuthorization`](millstream_voucher::evm::CloseAuthorization)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayeeAuthorization {
    /// One that the payee did not use on the channel before.
    pub nonce: Uint256,
    /// The last second at which it is valid.
    pub deadline: Uint256,
    /// The payee's.
    pub signature: EvmSignature,
}

/// An account that acts on channels of the escrow: as their payee, or by what payer and payee signed.
#[derive(Clone, Debug)]
pub struct SessionOperator {
    contract: SessionEscrow,
    submitter: Submitter,
}

impl SessionOperator {
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

    /// The account: what channels have to name as their payee, for settlements and closes without another's signature.
    #[must_use]
    pub fn account(&self) -> Address {
        self.submitter.account()
    }

    /// The lane that it sends on.
    #[must_use]
    pub const fn submitter(&self) -> &Submitter {
        &self.submitter
    }

    /// Opens a channel by what its payer signed. `intent` identifies the work to the caller.
    ///
    /// # Errors
    /// Final: `InvalidPayer`, `InvalidPayee`, `ZeroDeposit`, `ChannelAlreadyExists`, `ShortTransfer`, the token's or Permit2's own; else as
    /// [`Submitter::send`].
    pub async fn open(&self, intent: IntentId, opening: &SessionOpening) -> Result<TxReceipt, ChainError> {
        self.submitter.send(self.open_call(opening).with_intent(intent)).await
    }

    /// Whether the opening would be taken now.
    ///
    /// # Errors
    /// As [`Self::open`]; nothing is sent.
    pub async fn try_open(&self, opening: &SessionOpening) -> Result<(), ChainError> {
        self.submitter.simulate(&self.open_call(opening)).await.map(drop)
    }

    /// Adds a deposit by what somebody signed.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `ZeroDeposit`, `DepositOverflow`, `ShortTransfer`, the token's or Permit2's own; else as
    /// [`Submitter::send`].
    pub async fn top_up(&self, intent: IntentId, top_up: &SessionTopUp) -> Result<TxReceipt, ChainError> {
        self.submitter.send(self.top_up_call(top_up).with_intent(intent)).await
    }

    /// Whether the top-up would be taken now.
    ///
    /// # Errors
    /// As [`Self::top_up`]; nothing is sent.
    pub async fn try_top_up(&self, top_up: &SessionTopUp) -> Result<(), ChainError> {
        self.submitter.simulate(&self.top_up_call(top_up)).await.map(drop)
    }

    /// Tells the vouchers that would be settled now from the others, each by itself. A settlement of many passes over the latter of its own
    /// accord; this is for knowing before.
    ///
    /// # Errors
    /// What is no revert: then nothing is known of any row.
    pub async fn bad_vouchers(&self, rows: &[VoucherRow]) -> Result<Vec<BadVoucher>, ChainError> {
        let mut bad = Vec::new();
        for (row, voucher) in rows.iter().enumerate() {
            match self.submitter.simulate(&self.settle_call(voucher)).await {
                Ok(_) => {}
                Err(ChainError::Reverted { revert, .. }) => bad.push(BadVoucher { row, revert }),
                Err(error) => return Err(error),
            }
        }
        Ok(bad)
    }

    /// As the payee: is paid what the voucher adds. The channel stays open.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `NotPayee`, `AmountNotIncreasing`, `AmountExceedsDeposit`, `InvalidSignature`; else as
    /// [`Submitter::send`].
    pub async fn settle(&self, intent: IntentId, voucher: &VoucherRow) -> Result<(TxReceipt, SettledRow), ChainError> {
        self.settled_one(self.submitter.send(self.settle_call(voucher).with_intent(intent)).await?)
    }

    /// As the payee of many channels in one token: is paid the sum of what the vouchers add. A row that [`Self::settle`] would refuse is
    /// passed over and stops no other; at most [`SETTLE_ROWS_MAX`] rows, each of another channel.
    ///
    /// # Errors
    /// Final: `EmptyBatch`; else as [`Submitter::send`].
    pub async fn settle_many(&self, intent: IntentId, token: Address, rows: &[VoucherRow]) -> Result<SettledMany, ChainError> {
        let call = self.settle_many_call(token, rows);
        self.settled_many(self.submitter.send(call.with_intent(intent)).await?)
    }

    /// The call of [`Self::settle_many`].
    #[must_use]
    pub fn settle_many_call(&self, token: Address, rows: &[VoucherRow]) -> Call {
        let row = |row: &VoucherRow| ISessionEscrow::Settlement {
            channelId: (*row.channel.as_bytes()).into(),
            cumulativeAmount: row.cumulative.units(),
            signature: bytes(&row.signature),
        };
        let call = ISessionEscrow::settleManyCall { token: convert::evm_address(token), rows: rows.iter().map(row).collect() };
        Call::encode("session settleMany", self.contract.address(), &call)
    }

    /// What the transaction of [`Self::settle_many_call`] came to.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] from 2^128 up.
    pub fn settled_many(&self, receipt: TxReceipt) -> Result<SettledMany, ChainError> {
        let settled = receipt.events::<ISessionEscrow::Settled>(self.contract.address()).map(|event| settled(&event));
        let settled = settled.collect::<Result<_, ChainError>>()?;
        let skipped = receipt.events::<ISessionEscrow::SettlementSkipped>(self.contract.address());
        let skipped = skipped.map(|event| {
            let row = usize::try_from(event.row).map_err(|_| ChainError::unrepresentable("skipped row", event.row))?;
            Ok(BadVoucher { row, revert: Revert::of_selector(event.reason.0) })
        });
        let skipped = skipped.collect::<Result<_, ChainError>>()?;
        Ok(SettledMany { receipt, settled, skipped })
    }

    /// As [`Self::settle`], for another payee, who signed for it.
    ///
    /// # Errors
    /// As [`Self::settle`]; also `AuthorizationExpired`, `NonceAlreadyUsed`.
    pub async fn settle_signed(
        &self,
        intent: IntentId,
        voucher: &VoucherRow,
        payee: &PayeeAuthorization,
    ) -> Result<(TxReceipt, SettledRow), ChainError> {
        let call = ISessionEscrow::settleWithAuthorizationCall {
            channelId: (*voucher.channel.as_bytes()).into(),
            cumulativeAmount: voucher.cumulative.units(),
            nonce: word(payee.nonce),
            deadline: word(payee.deadline),
            payeeSignature: bytes(&payee.signature),
            voucherSignature: bytes(&voucher.signature),
        };
        let call = Call::encode("session settle", self.contract.address(), &call);
        self.settled_one(self.submitter.send(call.with_intent(intent)).await?)
    }

    /// As the payee: settles a last voucher, closes the channel for ever and refunds the rest to the payer. Without a voucher, or with one
    /// that is not above what was settled, whatever else was signed is forfeited.
    ///
    /// # Errors
    /// Final: `ChannelNotFound`, `ChannelFinalized`, `NotPayee`, `AmountExceedsDeposit`, `InvalidSignature`; else as [`Submitter::send`].
    pub async fn close(&self, intent: IntentId, channel: EscrowChannelId, voucher: Option<&VoucherRow>) -> Result<Closed, ChainError> {
        let call = self.close_call(channel, voucher)?;
        self.closed(channel, self.submitter.send(call.with_intent(intent)).await?)
    }

    /// Whether the close would be taken now.
    ///
    /// # Errors
    /// As [`Self::close`]; nothing is sent.
    pub async fn try_close(&self, channel: EscrowChannelId, voucher: Option<&VoucherRow>) -> Result<(), ChainError> {
        self.submitter.simulate(&self.close_call(channel, voucher)?).await.map(drop)
    }

    /// As [`Self::close`], for another payee, who signed for it; over zero, when there is no voucher.
    ///
    /// # Errors
    /// As [`Self::close`]; also `AuthorizationExpired`, `NonceAlreadyUsed`.
    pub async fn close_signed(
        &self,
        intent: IntentId,
        channel: EscrowChannelId,
        voucher: Option<&VoucherRow>,
        payee: &PayeeAuthorization,
    ) -> Result<Closed, ChainError> {
        let (cumulative, signature) = last(channel, voucher)?;
        let call = ISessionEscrow::closeWithAuthorizationCall {
            channelId: (*channel.as_bytes()).into(),
            cumulativeAmount: cumulative.units(),
            nonce: word(payee.nonce),
            deadline: word(payee.deadline),
            payeeSignature: bytes(&payee.signature),
            voucherSignature: signature,
        };
        let call = Call::encode("session close", self.contract.address(), &call);
        self.closed(channel, self.submitter.send(call.with_intent(intent)).await?)
    }

    /// Sends what the escrow owes this account in a token, because the token refused it (E-28), to an account.
    ///
    /// # Errors
    /// Final: `NothingToWithdraw`, or the token refuses again; else as [`Submitter::send`].
    pub async fn withdraw_credit(&self, token: Address, to: Address) -> Result<(TxReceipt, Amount), ChainError> {
        withdraw_credit(&self.contract, &self.submitter, token, to).await
    }

    /// The call of [`Self::open`].
    #[must_use]
    pub fn open_call(&self, opening: &SessionOpening) -> Call {
        let SessionOpening { terms, deposit, funding } = opening;
        let (payee, token) = (convert::evm_address(terms.payee), convert::evm_address(terms.token));
        let (from, signer) = (convert::evm_address(terms.payer), convert::evm_address(terms.authorized_signer));
        let (deposit, salt) = (deposit.units(), convert::evm_hash(terms.salt));
        let escrow = self.contract.address();
        match funding {
            SessionFunding::Erc3009 { valid_after, valid_before, signature } => Call::encode(
                "session open",
                escrow,
                &ISessionEscrow::openWithAuthorizationCall {
                    payee,
                    token,
                    deposit,
                    salt,
                    authorizedSigner: signer,
                    from,
                    validAfter: word(*valid_after),
                    validBefore: word(*valid_before),
                    nonce: convert::evm_hash(terms.open_nonce()),
                    signature: bytes(signature),
                },
            ),
            SessionFunding::Permit2 { nonce, deadline, signature } => Call::encode(
                "session open",
                escrow,
                &ISessionEscrow::openWithPermit2Call {
                    payee,
                    token,
                    deposit,
                    salt,
                    authorizedSigner: signer,
                    from,
                    nonce: word(*nonce),
                    deadline: word(*deadline),
                    signature: bytes(signature),
                },
            ),
        }
    }

    /// The call of [`Self::top_up`].
    #[must_use]
    pub fn top_up_call(&self, top_up: &SessionTopUp) -> Call {
        let SessionTopUp { channel, from, additional, salt, funding } = top_up;
        let (id, payer, escrow) = ((*channel.as_bytes()).into(), convert::evm_address(*from), self.contract.address());
        match funding {
            SessionFunding::Erc3009 { valid_after, valid_before, signature } => Call::encode(
                "session topUp",
                escrow,
                &ISessionEscrow::topUpWithAuthorizationCall {
                    channelId: id,
                    additionalDeposit: additional.units(),
                    from: payer,
                    topUpSalt: convert::evm_hash(*salt),
                    validAfter: word(*valid_after),
                    validBefore: word(*valid_before),
                    nonce: convert::evm_hash(top_up_nonce(channel, *additional, from, salt)),
                    signature: bytes(signature),
                },
            ),
            SessionFunding::Permit2 { nonce, deadline, signature } => Call::encode(
                "session topUp",
                escrow,
                &ISessionEscrow::topUpWithPermit2Call {
                    channelId: id,
                    additionalDeposit: additional.units(),
                    from: payer,
                    nonce: word(*nonce),
                    deadline: word(*deadline),
                    signature: bytes(signature),
                },
            ),
        }
    }

    /// The call of [`Self::settle`].
    #[must_use]
    pub fn settle_call(&self, voucher: &VoucherRow) -> Call {
        let call = ISessionEscrow::settleCall {
            channelId: (*voucher.channel.as_bytes()).into(),
            cumulativeAmount: voucher.cumulative.units(),
            signature: bytes(&voucher.signature),
        };
        Call::encode("session settle", self.contract.address(), &call)
    }

    /// The call of [`Self::close`].
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] when the voucher is of another channel.
    pub fn close_call(&self, channel: EscrowChannelId, voucher: Option<&VoucherRow>) -> Result<Call, ChainError> {
        let (cumulative, signature) = last(channel, voucher)?;
        let call = ISessionEscrow::closeCall { channelId: (*channel.as_bytes()).into(), cumulativeAmount: cumulative.units(), signature };
        Ok(Call::encode("session close", self.contract.address(), &call))
    }

    fn settled_one(&self, receipt: TxReceipt) -> Result<(TxReceipt, SettledRow), ChainError> {
        let event = receipt.event::<ISessionEscrow::Settled>(self.contract.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a settlement succeeded without its event"))?;
        let row = settled(&event)?;
        Ok((receipt, row))
    }

    /// What the transaction of [`Self::close_call`] came to.
    ///
    /// # Errors
    /// [`ChainError::Inconsistent`] when it closed another channel, or none.
    pub fn closed(&self, channel: EscrowChannelId, receipt: TxReceipt) -> Result<Closed, ChainError> {
        let mut events = receipt.events::<ISessionEscrow::ChannelClosed>(self.contract.address());
        let event = events.find(|event| event.channelId.0 == *channel.as_bytes());
        let event = event.ok_or_else(|| ChainError::inconsistent("a close succeeded without its event"))?;
        let settled = CumulativeAmount::from_units(convert::u128_of("settled", event.settledToPayee)?);
        let refunded = convert::amount("refund", event.refundedToPayer)?;
        drop(events);
        Ok(Closed { receipt, settled, refunded })
    }
}

/// Sends a credit of the submitter's account to an account.
pub(super) async fn withdraw_credit(
    contract: &SessionEscrow,
    submitter: &Submitter,
    token: Address,
    to: Address,
) -> Result<(TxReceipt, Amount), ChainError> {
    let call = ISessionEscrow::withdrawCreditCall { token: convert::evm_address(token), to: convert::evm_address(to) };
    let receipt = submitter.send(Call::encode("session withdrawCredit", contract.address(), &call)).await?;
    let event = receipt.event::<ISessionEscrow::CreditWithdrawn>(contract.address());
    let event = event.ok_or_else(|| ChainError::inconsistent("a withdrawal of a credit succeeded without its event"))?;
    let amount = convert::amount("credit", event.amount)?;
    Ok((receipt, amount))
}

/// What a close is over, and the signature for it.
fn last(channel: EscrowChannelId, voucher: Option<&VoucherRow>) -> Result<(CumulativeAmount, Bytes), ChainError> {
    match voucher {
        None => Ok((CumulativeAmount::ZERO, Bytes::new())),
        Some(voucher) if voucher.channel == channel => Ok((voucher.cumulative, bytes(&voucher.signature))),
        Some(voucher) => Err(ChainError::invalid("voucher", format!("it is for channel {}, not {channel}", voucher.channel))),
    }
}

fn settled(event: &ISessionEscrow::Settled) -> Result<SettledRow, ChainError> {
    Ok(SettledRow {
        channel: EscrowChannelId::from_bytes(event.channelId.0),
        total: CumulativeAmount::from_units(convert::u128_of("settled", event.newSettled)?),
        paid: convert::amount("settled", event.deltaPaid)?,
    })
}

fn word(value: Uint256) -> U256 {
    U256::from_be_bytes(value.to_be_bytes())
}

fn bytes(signature: &EvmSignature) -> Bytes {
    Bytes::copy_from_slice(signature.as_bytes())
}
