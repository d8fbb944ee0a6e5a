//! Reading one ledger.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::aliases::{U40, U216};
use alloy::rpc::types::BlockId;
use alloy::sol_types::SolCall;
use millstream_types::{Address, Amount, AssetUnit, BlockNumber, BookId, ChainId, ChannelId, EpochId, Hash256, LedgerId, Tier, Timestamp};

use crate::bindings::{ILedger, IToken, IVerifier};
use crate::relay::TokenDomain;
use crate::{ChainError, Rpc, convert, token};

/// More tiers than an eight-bit index can name (spec L-4).
const TIERS_MAX: u64 = 256;

/// A ledger contract and the endpoint to reach it by. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    rpc: Rpc,
    address: Address,
    config: Arc<LedgerConfig>,
}

/// What never changes about a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Whom settlements pay.
    pub provider: Address,
    /// The token.
    pub token: Address,
    /// The token's base unit against the nano (spec L-1).
    pub unit: AssetUnit,
    /// Seconds from a request until it is overdue (spec L-6).
    pub response_window_secs: u64,
    /// Seconds from a request until its being unserved lets anyone halt the ledger (spec L-25).
    pub halt_window_secs: u64,
    /// The contract that computes roots from the paths of a leave (spec L-26).
    pub book_paths: Address,
    /// What an opening or a top-up must deposit at least; zero for no minimum (spec L-7).
    pub deposit_min: Amount,
    /// The sizes of book, by tier index (spec L-4).
    pub tiers: Vec<TierConfig>,
}

/// One size of book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierConfig {
    /// Slots of a book, N.
    pub slots: u16,
    /// The root of a book of N empty slots: a field element, 32 bytes.
    pub empty_root: [u8; 32],
    /// The verifier of `settle-N`.
    pub settle_verifier: Address,
    /// The verifier of `register-N`.
    pub register_verifier: Address,
    /// The hash of the key of `settle-N`; equal to the prover's key id.
    pub settle_key: Hash256,
    /// The hash of the key of `register-N`.
    pub register_key: Hash256,
}

/// A channel as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Who opened it and gets refunds.
    pub payer: Address,
    /// Everything deposited, in nanos, included in a book or not.
    pub deposit: Amount,
    /// Whether it is, or was, in a book.
    pub included: bool,
    /// Whether its close was requested.
    pub close_requested: bool,
    /// Whether it was closed.
    pub closed: bool,
}

/// The queue of requests: those from `head` to `tail` (exclusive) wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// The oldest request that is not served.
    pub head: u64,
    /// The number the next request will get.
    pub tail: u64,
}

/// A queued or served request as the ledger keeps it (spec L-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueuedRequest {
    /// Its number.
    pub index: u64,
    /// The time of its block.
    pub requested_at: Timestamp,
    /// The upper 216 bits of its digest, big-endian.
    pub digest: [u8; 27],
}

impl ChannelRecord {
    /// `None` for a uid that was never opened: all zeros.
    pub(crate) fn of(found: ILedger::Channel) -> Option<Self> {
        (!found.payer.is_zero()).then(|| Self {
            payer: convert::address(found.payer),
            deposit: Amount::from_nanos(found.depositNanos),
            included: found.included,
            close_requested: found.closeRequested,
            closed: found.closed,
        })
    }
}

impl QueuedRequest {
    /// `None` for a number that is not used: no request was made at the beginning of time.
    pub(crate) fn of(index: u64, requested_at: U40, digest: U216) -> Option<Self> {
        let requested_at = requested_at.to::<u64>();
        (requested_at != 0).then(|| Self { index, requested_at: convert::timestamp(requested_at), digest: digest.to_be_bytes::<27>() })
    }
}

impl Ledger {
    /// Reads the parts of a ledger that never change.
    ///
    /// # Errors
    /// [`ChainError::NoContract`]; [`ChainError::Unrepresentable`] for a contract that is no ledger of ours; or the endpoint is unavailable.
    pub async fn attach(rpc: Rpc, address: Address) -> Result<Self, ChainError> {
        if !rpc.has_code(address).await? {
            return Err(ChainError::NoContract { address, chain: rpc.chain() });
        }
        let provider = rpc.view("PROVIDER", address, &ILedger::PROVIDERCall {}).await?;
        let token = convert::address(rpc.view("TOKEN", address, &ILedger::TOKENCall {}).await?);
        let window = rpc.view("RESPONSE_WINDOW", address, &ILedger::RESPONSE_WINDOWCall {}).await?;
        let halt_window = rpc.view("HALT_WINDOW", address, &ILedger::HALT_WINDOWCall {}).await?;
        let book_paths = rpc.view("BOOK_PATHS", address, &ILedger::BOOK_PATHSCall {}).await?;
        let deposit_min = rpc.view("DEPOSIT_MIN_NANOS", address, &ILedger::DEPOSIT_MIN_NANOSCall {}).await?;
        let decimals = rpc.view("decimals", token, &IToken::decimalsCall {}).await?;
        let unit = AssetUnit::new(decimals).map_err(|error| ChainError::unrepresentable("token decimals", error))?;
        let tiers = read_tiers(&rpc, address).await?;
        let config = LedgerConfig {
            provider: convert::address(provider),
            token,
            unit,
            response_window_secs: window.to::<u64>(),
            halt_window_secs: halt_window.to::<u64>(),
            book_paths: convert::address(book_paths),
            deposit_min: Amount::from_nanos(deposit_min),
            tiers,
        };
        Ok(Self { rpc, address, config: Arc::new(config) })
    }

    /// The contract.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Chain and contract.
    #[must_use]
    pub const fn id(&self) -> LedgerId {
        LedgerId { chain: self.rpc.chain(), contract: self.address }
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.rpc.chain()
    }

    /// What never changes.
    #[must_use]
    pub fn config(&self) -> &LedgerConfig {
        &self.config
    }

    /// The tier of a book, `None` when the ledger has no such tier.
    #[must_use]
    pub fn tier(&self, tier: Tier) -> Option<&TierConfig> {
        self.config.tiers.get(usize::from(tier.index()))
    }

    /// The slots of a book of a tier.
    pub(crate) fn slots(&self, tier: Tier) -> Option<u16> {
        self.tier(tier).map(|tier| tier.slots)
    }

    /// The endpoint.
    #[must_use]
    pub const fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    async fn view<C: SolCall>(&self, operation: &'static str, call: C) -> Result<C::Return, ChainError> {
        self.rpc.view(operation, self.address, &call).await
    }

    /// The account that may settle and register.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn operator(&self) -> Result<Address, ChainError> {
        self.view("operator", ILedger::operatorCall {}).await.map(convert::address)
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

    /// Whether the ledger is halted, for good (spec L-25).
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn halted(&self) -> Result<bool, ChainError> {
        self.view("halted", ILedger::haltedCall {}).await
    }

    /// The root of a book; of one that was never written, that of the tier's empty book.
    ///
    /// # Errors
    /// `UnknownTier` reverts; or the endpoint is unavailable.
    pub async fn book_root(&self, book: BookId) -> Result<[u8; 32], ChainError> {
        self.view("bookRoot", ILedger::bookRootCall { book: book.to_u32() }).await.map(convert::bytes)
    }

    /// The bounds of the queue, both of one block.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn queue(&self) -> Result<QueueBounds, ChainError> {
        let at = BlockId::hash(self.rpc.newest().await?.hash);
        let head = self.rpc.view_at("queueHead", self.address, &ILedger::queueHeadCall {}, at).await?;
        let tail = self.rpc.view_at("queueTail", self.address, &ILedger::queueTailCall {}, at).await?;
        Ok(QueueBounds { head, tail })
    }

    /// The tail of the queue at a block whose state the endpoint still has; 0 before the ledger's deployment.
    pub(crate) async fn queue_tail_at(&self, block: BlockNumber) -> Result<u64, ChainError> {
        match self.rpc.view_at("queueTail", self.address, &ILedger::queueTailCall {}, BlockId::number(block.height())).await {
            // A call where there is no contract yet returns nothing.
            Err(ChainError::Unrepresentable { .. }) => Ok(0),
            tail => tail,
        }
    }

    /// A request, served or not; `None` for a number that is not used yet.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn request(&self, index: u64) -> Result<Option<QueuedRequest>, ChainError> {
        let requested_at = self.view("requestedAt", ILedger::requestedAtCall { index }).await?;
        let digest = self.view("requestDigest", ILedger::requestDigestCall { index }).await?;
        Ok(QueuedRequest::of(index, requested_at, digest))
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

    /// The id that a channel of this payer, key and salt has on this ledger (spec V-1).
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn channel_id(&self, payer: Address, key_x: [u8; 32], salt: [u8; 32]) -> Result<ChannelId, ChainError> {
        let call = ILedger::channelUidCall { payer: convert::evm_address(payer), keyX: convert::word(key_x), salt: salt.into() };
        self.view("channelUid", call).await.map(convert::channel)
    }

    /// The nonce that an EIP-3009 authorization for opening that channel must carry.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn open_authorization_nonce(&self, payer: Address, key_x: [u8; 32], salt: [u8; 32]) -> Result<[u8; 32], ChainError> {
        let call =
            ILedger::openAuthorizationNonceCall { payer: convert::evm_address(payer), keyX: convert::word(key_x), salt: salt.into() };
        self.view("openAuthorizationNonce", call).await.map(Into::into)
    }

    /// The EIP-712 domain of the token, checked against what the token itself computes.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the token does not sign in the domain that it names, or has none; or the endpoint is unavailable.
    pub async fn token_domain(&self) -> Result<TokenDomain, ChainError> {
        token::signing_domain(&self.rpc, self.config.token).await.map(TokenDomain)
    }

    /// The nonce that an EIP-3009 authorization for topping up that channel must carry.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn top_up_authorization_nonce(&self, channel: ChannelId, salt: [u8; 32]) -> Result<[u8; 32], ChainError> {
        let call = ILedger::topUpAuthorizationNonceCall { uid: convert::uid(channel), salt: salt.into() };
        self.view("topUpAuthorizationNonce", call).await.map(Into::into)
    }
}

async fn read_tiers(rpc: &Rpc, ledger: Address) -> Result<Vec<TierConfig>, ChainError> {
    let count = rpc.view("tierCount", ledger, &ILedger::tierCountCall {}).await?;
    let count = u64::try_from(count).ok().filter(|count| *count <= TIERS_MAX);
    let count = count.ok_or_else(|| ChainError::unrepresentable("tier count", "more than 256"))?;
    let mut tiers = Vec::new();
    // A count of 256 at most ends with the index 255.
    for index in (0..=u8::MAX).take_while(|index| u64::from(*index) < count) {
        let tier = rpc.view("tier", ledger, &ILedger::tierCall { index }).await?;
        let key_hash =
            async |verifier| rpc.view("keyHash", convert::address(verifier), &IVerifier::keyHashCall {}).await.map(convert::hash);
        tiers.push(TierConfig {
            slots: tier.slots,
            empty_root: convert::bytes(tier.emptyRoot),
            settle_verifier: convert::address(tier.settleVerifier),
            register_verifier: convert::address(tier.registerVerifier),
            settle_key: key_hash(tier.settleVerifier).await?,
            register_key: key_hash(tier.registerVerifier).await?,
        });
    }
    Ok(tiers)
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({} by {:?})", self.address, self.rpc)
    }
}
