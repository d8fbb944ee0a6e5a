//! What a payer does on the chain.

use alloy::primitives::U256;
use millstream_types::{Address, Amount, BookId, ChannelId};

use crate::bindings::ILedger;
use crate::{Call, ChainError, Ledger, Submitter, TxReceipt, convert, token};

/// A voucher key as the ledger takes it (spec V-5): three field elements, 32 bytes big-endian each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoucherKeyWitness {
    /// The x-coordinate of the key; identifies it.
    pub x: [u8; 32],
    /// The x-coordinate of a point of which the key is the eightfold.
    pub qx: [u8; 32],
    /// That point's y-coordinate.
    pub qy: [u8; 32],
}

/// A channel to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The key that will sign vouchers.
    pub key: VoucherKeyWitness,
    /// Chosen by the payer; one key may open many channels under different salts.
    pub salt: [u8; 32],
    /// The first deposit, in base units of the token.
    pub deposit_base_units: u128,
}

/// A channel that was opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The channel.
    pub channel: ChannelId,
    /// The deposit in nanos.
    pub deposit: Amount,
    /// The number of the request in the ledger's queue.
    pub request_index: u64,
    /// The transaction.
    pub receipt: TxReceipt,
}

/// A withdrawal that was paid.
#[derive(Clone, Debug)]
pub struct Withdrawal {
    /// What was paid, in base units; the rest of the credit stays (spec L-2).
    pub base_units: u128,
    /// The transaction.
    pub receipt: TxReceipt,
}

/// One slot of a book with its Merkle paths (spec L-3): at each level, bottom up, the whole group of 16 that the value is in.
///
/// Every word is a field element, 32 bytes big-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPath {
    /// The slot.
    pub slot: u16,
    /// The channel in it.
    pub channel: ChannelId,
    /// The x-coordinate of the channel's key.
    pub key_x: [u8; 32],
    /// The deposit as the book has it, in nanos; what was topped up since is not in it.
    pub deposit: u64,
    /// What was settled, in nanos.
    pub settled: u64,
    /// The path in the static tree.
    pub static_path: Vec<[[u8; 32]; 16]>,
    /// The path in the dynamic tree.
    pub dynamic_path: Vec<[[u8; 32]; 16]>,
}

impl SlotPath {
    pub(crate) fn to_abi(&self) -> ILedger::SlotPath {
        let groups = |path: &[[[u8; 32]; 16]]| path.iter().map(|group| group.map(convert::word)).collect();
        ILedger::SlotPath {
            slot: self.slot,
            keyX: convert::word(self.key_x),
            uid: convert::uid(self.channel),
            depositNanos: self.deposit,
            settledNanos: self.settled,
            staticPath: groups(&self.static_path),
            dynamicPath: groups(&self.dynamic_path),
        }
    }
}

/// Money that went back to a payer as credit, without the provider.
#[derive(Clone, Debug)]
pub struct Refund {
    /// The credit, in nanos; to be withdrawn.
    pub amount: Amount,
    /// The transaction.
    pub receipt: TxReceipt,
}

/// A payer, or whoever acts for one, on one ledger.
#[derive(Clone, Debug)]
pub struct Payer {
    ledger: Ledger,
    submitter: Submitter,
}

impl ILedger::VoucherKey {
    pub(crate) const fn from_witness(key: &VoucherKeyWitness) -> Self {
        Self { x: convert::word(key.x), qx: convert::word(key.qx), qy: convert::word(key.qy) }
    }
}

impl Opening {
    /// Reads the ledger's own record of the opening from the transaction.
    pub(crate) fn from_receipt(ledger: &Ledger, receipt: TxReceipt) -> Result<Self, ChainError> {
        let opened = receipt.event::<ILedger::Opened>(ledger.address());
        let opened = opened.ok_or_else(|| ChainError::inconsistent("an opening succeeded without its event"))?;
        Ok(Self {
            channel: convert::channel(opened.uid),
            deposit: Amount::from_nanos(opened.depositNanos),
            request_index: opened.requestIndex,
            receipt,
        })
    }
}

impl Payer {
    /// A payer whose account is that of the submitter.
    #[must_use]
    pub const fn new(ledger: Ledger, submitter: Submitter) -> Self {
        Self { ledger, submitter }
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> Address {
        self.submitter.account()
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the account has of the ledger's token, in base units.
    ///
    /// # Errors
    /// As any read.
    pub async fn balance(&self) -> Result<u128, ChainError> {
        token::token_balance(self.ledger.rpc(), self.ledger.config().token, self.account()).await
    }

    /// Approves the deposit where needed and opens a channel.
    ///
    /// # Errors
    /// Final: `ZeroAmount`, `NotWholeNanos`, `DepositTooSmall`, `DepositTooLarge`, `InvalidKey`, `ChannelExists`, and the token's own; else
    /// as [`Submitter::send`].
    pub async fn open(&self, request: &OpenRequest) -> Result<Opening, ChainError> {
        self.approve(request.deposit_base_units).await?;
        let call = ILedger::openCall {
            key: ILedger::VoucherKey::from_witness(&request.key),
            salt: request.salt.into(),
            baseUnits: U256::from(request.deposit_base_units),
        };
        Opening::from_receipt(&self.ledger, self.send("open", &call).await?)
    }

    /// Approves the deposit where needed and opens a channel for another payer, who gets every refund. The salt of the channel is not that of
    /// the request but one bound to this account (spec L-28), so it cannot take a uid that the payer would open itself.
    ///
    /// # Errors
    /// Final: `InvalidPayer`; else as [`Payer::open`].
    pub async fn open_for(&self, payer: Address, request: &OpenRequest) -> Result<Opening, ChainError> {
        self.approve(request.deposit_base_units).await?;
        let call = ILedger::openForCall {
            payer: convert::evm_address(payer),
            key: ILedger::VoucherKey::from_witness(&request.key),
            salt: request.salt.into(),
            baseUnits: U256::from(request.deposit_base_units),
        };
        Opening::from_receipt(&self.ledger, self.send("openFor", &call).await?)
    }

    /// Approves where needed and raises the deposit of any payer's channel. Returns the channel's whole deposit with the transaction.
    ///
    /// Two equal top-ups at the same time are one transaction; one after the other they are two.
    ///
    /// # Errors
    /// Final: `ZeroAmount`, `NotWholeNanos`, `DepositTooSmall`, `ChannelUnknown`, `ChannelClosing`, `DepositTooLarge`, and the token's own;
    /// else as [`Submitter::send`].
    pub async fn top_up(&self, channel: ChannelId, base_units: u128) -> Result<(Amount, TxReceipt), ChainError> {
        self.approve(base_units).await?;
        let call = ILedger::topUpCall { uid: convert::uid(channel), baseUnits: U256::from(base_units) };
        let receipt = self.send("topUp", &call).await?;
        let event = receipt.event::<ILedger::ToppedUp>(self.ledger.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a top-up succeeded without its event"))?;
        Ok((Amount::from_nanos(event.depositNanos), receipt))
    }

    /// Lets Permit2 pull at least so many base units, where it may not already: once for all deposits signed for it ([`crate::PERMIT2`]).
    ///
    /// # Errors
    /// As [`Submitter::send`].
    pub async fn approve_permit2(&self, base_units: u128) -> Result<Option<TxReceipt>, ChainError> {
        token::approve(&self.submitter, self.ledger.config().token, crate::PERMIT2, base_units).await
    }

    /// Asks for a channel to be closed; only its payer may.
    ///
    /// # Errors
    /// Final: `ChannelUnknown`, `NotPayer`, `ChannelClosing`; else as [`Submitter::send`].
    pub async fn request_close(&self, channel: ChannelId) -> Result<TxReceipt, ChainError> {
        self.send("requestClose", &ILedger::requestCloseCall { uid: convert::uid(channel) }).await
    }

    /// Takes back, as credit, everything deposited in a channel that is in no book although its opening is overdue; only its payer may, or
    /// when the ledger is halted anyone, at any time (spec L-24). `request_index`, `key_x` and `deposit` are those of its opening.
    ///
    /// # Errors
    /// Final: `ChannelUnknown`, `ChannelIncluded`, `ChannelClosing`, `RequestMismatch`, `NotPayer`, `NotOverdue`;
    /// [`ChainError::InvalidInput`] for a deposit of 2^64 nanos or more; else as [`Submitter::send`].
    pub async fn cancel_open(
        &self,
        channel: ChannelId,
        request_index: u64,
        key_x: [u8; 32],
        deposit: Amount,
    ) -> Result<Refund, ChainError> {
        let amount = deposit.to_u64().map_err(|error| ChainError::invalid("deposit", error))?;
        let uid = convert::uid(channel);
        let call = ILedger::cancelOpenCall { uid, requestIndex: request_index, keyX: convert::word(key_x), amountNanos: amount };
        let receipt = self.send("cancelOpen", &call).await?;
        let event = receipt.event::<ILedger::OpenCancelled>(self.ledger.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a cancellation succeeded without its event"))?;
        Ok(Refund { amount: Amount::from_nanos(event.refundNanos), receipt })
    }

    /// Halts the ledger for good, when its oldest request was left unserved for longer than the halt window; anyone may (spec L-25).
    ///
    /// # Errors
    /// Final: `LedgerHalted`, `NotOverdue`; else as [`Submitter::send`].
    pub async fn halt(&self) -> Result<TxReceipt, ChainError> {
        self.send("halt", &ILedger::haltCall {}).await
    }

    /// Takes a channel out of a halted ledger with Merkle paths: what is not settled becomes its payer's credit. Anyone may do this for
    /// anyone (spec L-26).
    ///
    /// # Errors
    /// Final: `NotHalted`, `ChannelUnknown`, `ChannelNotIncluded`, `ChannelClosing`, `UnknownTier`, `RootMismatch`, and those of the book
    /// paths; else as [`Submitter::send`].
    pub async fn leave(&self, book: BookId, path: &SlotPath) -> Result<Refund, ChainError> {
        let receipt = self.send("leave", &ILedger::leaveCall { book: book.to_u32(), path: path.to_abi() }).await?;
        let event = receipt.event::<ILedger::Left>(self.ledger.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a leave succeeded without its event"))?;
        Ok(Refund { amount: Amount::from_nanos(event.refundNanos), receipt })
    }

    /// Pays the whole base units of an account's credit to that account. Anyone may do this for anyone.
    ///
    /// # Errors
    /// Final: `NothingToWithdraw`, and the token's own; else as [`Submitter::send`].
    pub async fn withdraw(&self, account: Address) -> Result<Withdrawal, ChainError> {
        self.withdrawal(self.send("withdraw", &ILedger::withdrawCall { account: convert::evm_address(account) }).await?)
    }

    /// Pays the whole base units of the own credit to another account.
    ///
    /// # Errors
    /// As [`Payer::withdraw`].
    pub async fn withdraw_to(&self, to: Address) -> Result<Withdrawal, ChainError> {
        self.withdrawal(self.send("withdrawTo", &ILedger::withdrawToCall { to: convert::evm_address(to) }).await?)
    }

    fn withdrawal(&self, receipt: TxReceipt) -> Result<Withdrawal, ChainError> {
        let event = receipt.event::<ILedger::Withdrawn>(self.ledger.address());
        let event = event.ok_or_else(|| ChainError::inconsistent("a withdrawal succeeded without its event"))?;
        Ok(Withdrawal { base_units: convert::u128_of("withdrawal", event.baseUnits)?, receipt })
    }

    async fn approve(&self, base_units: u128) -> Result<(), ChainError> {
        token::approve(&self.submitter, self.ledger.config().token, self.ledger.address(), base_units).await.map(drop)
    }

    async fn send(&self, operation: &'static str, call: &impl alloy::sol_types::SolCall) -> Result<TxReceipt, ChainError> {
        self.submitter.send(Call::encode(operation, self.ledger.address(), call)).await
    }
}
