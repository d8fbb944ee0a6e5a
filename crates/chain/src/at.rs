//! A ledger as it was at the end of one block.

use alloy::rpc::types::{BlockId, BlockNumberOrTag, Header};
use alloy::sol_types::SolCall;
use millstream_types::{Address, Amount, BlockNumber, BookId, ChannelId, EpochId, Hash256, Timestamp};

use crate::bindings::{ILedger, IToken};
use crate::ledger::{ChannelRecord, Ledger, QueueBounds, QueuedRequest};
use crate::{ChainError, convert};

/// Reads a ledger at the end of one block, named by its hash: every answer is of the same moment. The endpoint must still have that block's
/// state; nodes that keep no archive have the newest 128 or so.
#[derive(Clone, Debug)]
pub struct LedgerAt {
    ledger: Ledger,
    number: BlockNumber,
    hash: Hash256,
    time: Timestamp,
}

impl Ledger {
    /// This ledger at the end of a block; `None` for the newest one.
    ///
    /// # Errors
    /// [`ChainError::InvalidInput`] for a block that the chain does not have; or the endpoint is unavailable.
    pub async fn at(&self, block: Option<BlockNumber>) -> Result<LedgerAt, ChainError> {
        let header = match block {
            None => self.rpc().newest().await?,
            Some(block) => {
                let found = self.rpc().header(BlockNumberOrTag::Number(block.height())).await?;
                found.ok_or_else(|| ChainError::invalid("block", format!("the chain has no block {}", block.height())))?
            }
        };
        Ok(LedgerAt::new(self.clone(), &header))
    }

    /// The block of the ledger's deployment; `None` when the endpoint has not the state of old blocks, by which it is found.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn deployed_at(&self) -> Result<Option<BlockNumber>, ChainError> {
        // The lowest block with code: there is none below `low`, and some from `high` on.
        let (mut low, mut high) = (0, self.rpc().newest().await?.number);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.rpc().has_code_at(self.address(), BlockId::number(middle)).await {
                Ok(true) => high = middle,
                Ok(false) => low = middle + 1,
                Err(ChainError::TimedOut { operation, after }) => return Err(ChainError::TimedOut { operation, after }),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(BlockNumber::new(high)))
    }
}

impl LedgerAt {
    fn new(ledger: Ledger, header: &Header) -> Self {
        let (number, time) = (BlockNumber::new(header.number), convert::timestamp(header.timestamp));
        Self { ledger, number, hash: convert::hash(header.hash), time }
    }

    /// The block's height.
    #[must_use]
    pub const fn number(&self) -> BlockNumber {
        self.number
    }

    /// The block's hash.
    #[must_use]
    pub const fn hash(&self) -> Hash256 {
        self.hash
    }

    /// The block's time.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    fn block(&self) -> BlockId {
        BlockId::hash(convert::evm_hash(self.hash))
    }

    async fn view<C: SolCall>(&self, operation: &'static str, call: C) -> Result<C::Return, ChainError> {
        self.ledger.rpc().view_at(operation, self.ledger.address(), &call, self.block()).await
    }

    /// The root of a book; of one that was never written, that of the tier's empty book.
    ///
    /// # Errors
    /// `UnknownTier` reverts; or the endpoint is unavailable.
    pub async fn book_root(&self, book: BookId) -> Result<[u8; 32], ChainError> {
        self.view("bookRoot", ILedger::bookRootCall { book: book.to_u32() }).await.map(convert::bytes)
    }

    /// The bounds of the queue.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn queue(&self) -> Result<QueueBounds, ChainError> {
        let head = self.view("queueHead", ILedger::queueHeadCall {}).await?;
        let tail = self.view("queueTail", ILedger::queueTailCall {}).await?;
        Ok(QueueBounds { head, tail })
    }

    /// A request, served or not; `None` for a number that is not used.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn request(&self, index: u64) -> Result<Option<QueuedRequest>, ChainError> {
        let requested_at = self.view("requestedAt", ILedger::requestedAtCall { index }).await?;
        let digest = self.view("requestDigest", ILedger::requestDigestCall { index }).await?;
        Ok(QueuedRequest::of(index, requested_at, digest))
    }

    /// A channel, `None` when it was never opened.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn channel(&self, channel: ChannelId) -> Result<Option<ChannelRecord>, ChainError> {
        self.view("channel", ILedger::channelCall { uid: convert::uid(channel) }).await.map(ChannelRecord::of)
    }

    /// What an account may withdraw, in nanos.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn credit(&self, account: Address) -> Result<Amount, ChainError> {
        let credit = self.view("creditNanos", ILedger::creditNanosCall { account: convert::evm_address(account) }).await?;
        convert::amount("credit", credit)
    }

    /// The account that may settle and register.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn operator(&self) -> Result<Address, ChainError> {
        self.view("operator", ILedger::operatorCall {}).await.map(convert::address)
    }

    /// Whether the ledger is halted, for good (spec L-25).
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn halted(&self) -> Result<bool, ChainError> {
        self.view("halted", ILedger::haltedCall {}).await
    }

    /// The number that the next anchored epoch must have.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn next_epoch(&self) -> Result<EpochId, ChainError> {
        self.view("epochCount", ILedger::epochCountCall {}).await.map(EpochId::new)
    }

    /// The root of an epoch, `None` when it is not anchored.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn epoch_root(&self, epoch: EpochId) -> Result<Option<Hash256>, ChainError> {
        let root = self.view("epochRoot", ILedger::epochRootCall { epoch: epoch.number() }).await?;
        Ok((!root.is_zero()).then(|| convert::hash(root)))
    }

    /// What the ledger has of its token, in base units.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] from 2^128 up; or the endpoint is unavailable.
    pub async fn token_balance(&self) -> Result<u128, ChainError> {
        let (rpc, token) = (self.ledger.rpc(), self.ledger.config().token);
        let call = IToken::balanceOfCall { account: convert::evm_address(self.ledger.address()) };
        convert::u128_of("token balance", rpc.view_at("balanceOf", token, &call, self.block()).await?)
    }
}
