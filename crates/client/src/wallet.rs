//! What a payer does on the chain: open, top up, close, withdraw; and voucher keys that need no storing.

#![allow(clippy::result_large_err, reason = "an error of the chain is large, and rare beside what it costs to get one")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::U256;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolStruct, eip712_domain};
use millstream_chain::{
    ChainError, ChainKey, ChannelRecord, DepositPurpose, DepositWay, Indexer, IndexerOptions, Ledger, LedgerEvent, OpenAuthorization,
    OpenRequest, Payer, Poll, RelayedDeposit, Submitter, SubmitterOptions, TxReceipt, VoucherKeyWitness, Withdrawal,
};
use millstream_types::{Address, Amount, BlockNumber, ChannelId, LedgerId, Timestamp};
use millstream_voucher::{ChannelTerms, KeyError, SecretKey};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::{StateDb, StateError, StoredKey};

alloy::sol! {
    /// What a wallet signs to derive a voucher key (spec V-11).
    struct VoucherKey {
        string purpose;
        uint256 chainId;
        address ledger;
        uint256 index;
    }
}

/// Shown by the wallet that signs (spec V-11).
const PURPOSE: &str = "Sign payment vouchers. Never sign this for a site you do not trust.";

/// Why the wallet did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalletError {
    /// The chain refused or is not available.
    #[error("the chain did not take it")]
    Chain(#[from] ChainError),
    /// The state cannot be written, so nothing was sent: a key that is not kept must not hold money.
    #[error("the state did not take the channel")]
    State(#[from] StateError),
    /// The secret is no secp256k1 key.
    #[error("the account's secret is not a secp256k1 key")]
    AccountKey,
    /// The account's key does not sign.
    #[error("the account's key does not sign: {detail}")]
    Sign {
        /// What the library says.
        detail: String,
    },
    /// The derived or generated voucher key is unusable, which happens once in 2^251 times.
    #[error("the voucher key is unusable: try another index")]
    VoucherKey(#[source] KeyError),
    /// The token has neither authorizations nor permits, and Permit2 may not pull so much of the account's tokens.
    #[error("the token has no way to deposit without coins for gas: allow Permit2 to pull it first, which takes a transaction")]
    NoWay,
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Randomness,
    /// The ledger opened another channel than the terms say.
    #[error("the ledger opened channel {actual}, the terms are of {expected}")]
    AnotherChannel {
        /// By the terms.
        expected: ChannelId,
        /// By the ledger.
        actual: ChannelId,
    },
}

/// Where the key of a new channel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// Random, kept in the state file. Losing the file loses the channel's key; the deposit still comes back by a requested close.
    Generated,
    /// Derived from the account's key under this index (spec V-11), so nothing secret is stored and it can be found again. The channel's salt
    /// is the index, 32 bytes big-endian.
    Derived(u64),
}

/// A channel that was prepared: in the state, and perhaps not yet on the chain.
#[derive(Clone, Debug)]
pub struct PreparedChannel {
    /// The channel's id.
    pub channel: ChannelId,
    /// What the id is made of.
    pub terms: ChannelTerms,
    /// The key that signs its vouchers.
    pub key: SecretKey,
}

impl PreparedChannel {
    fn request(&self, deposit_base_units: u128) -> OpenRequest {
        let witness = self.key.witness();
        let key = VoucherKeyWitness { x: self.terms.key_x, qx: witness.x, qy: witness.y };
        OpenRequest { key, salt: self.terms.salt, deposit_base_units }
    }
}

/// A channel of this account, found on the chain.
#[derive(Clone, Debug)]
pub struct FoundChannel {
    /// The channel.
    pub channel: ChannelId,
    /// What its id is made of; its key is this payer's business.
    pub terms: ChannelTerms,
    /// What the ledger says of it now.
    pub record: ChannelRecord,
}

/// An account on one ledger.
pub struct Wallet {
    ledger: Ledger,
    payer: Payer,
    key: ChainKey,
    signer: PrivateKeySigner,
}

impl core::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wallet").field("account", &self.key.address()).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Wallet {
    /// A wallet for the account of a 32-byte secp256k1 secret. Make one for each account and process.
    ///
    /// # Errors
    /// [`WalletError::AccountKey`].
    pub fn new(ledger: Ledger, secret: &[u8; 32], options: SubmitterOptions) -> Result<Self, WalletError> {
        let signer = PrivateKeySigner::from_slice(secret).map_err(|_| WalletError::AccountKey)?;
        let key = ChainKey::from_bytes(secret).map_err(|_| WalletError::AccountKey)?;
        let payer = Payer::new(ledger.clone(), Submitter::new(ledger.rpc().clone(), key.clone(), options));
        Ok(Self { ledger, payer, key, signer })
    }

    /// The account.
    #[must_use]
    pub const fn account(&self) -> Address {
        self.key.address()
    }

    /// The ledger.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the account has of the ledger's token, in base units.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn balance(&self) -> Result<u128, WalletError> {
        Ok(self.payer.balance().await?)
    }

    /// The voucher key that belongs to an index of this account on this ledger (spec V-11); the same each time.
    ///
    /// # Errors
    /// [`WalletError::Sign`] or [`WalletError::VoucherKey`].
    pub fn voucher_key(&self, index: u64) -> Result<SecretKey, WalletError> {
        derive_voucher_key(&self.signer, self.ledger.id(), index)
    }

    /// Chooses key and salt of a new channel and puts them in the state, before anything is sent: what holds money has a key that is kept.
    ///
    /// # Errors
    /// [`WalletError`]; nothing was sent.
    pub fn prepare(&self, state: &StateDb, choice: KeyChoice) -> Result<PreparedChannel, WalletError> {
        let (key, salt) = match choice {
            KeyChoice::Derived(index) => (self.voucher_key(index)?, salt_of(index)),
            KeyChoice::Generated => {
                let mut entropy = Zeroizing::new([0; 64]);
                let mut salt = [0; 32];
                getrandom::fill(entropy.as_mut()).and_then(|()| getrandom::fill(&mut salt)).map_err(|_| WalletError::Randomness)?;
                (SecretKey::from_entropy(&entropy).map_err(WalletError::VoucherKey)?, salt)
            }
        };
        let terms = ChannelTerms { ledger: self.ledger.id(), payer: self.account(), key_x: key.public_key().x(), salt };
        let stored = match choice {
            KeyChoice::Derived(_) => StoredKey::Supplied,
            KeyChoice::Generated => StoredKey::Stored(key.clone()),
        };
        let channel = state.add_channel(&terms, &stored)?;
        Ok(PreparedChannel { channel, terms, key })
    }

    /// Approves the deposit where needed, opens the channel, and waits for the submitter's confirmations. Returns the deposit in nanos. The
    /// node accepts frames once the opening is at its own depth: attaching waits for that.
    ///
    /// # Errors
    /// [`WalletError::Chain`]; a refusal by the contract is final.
    pub async fn open(&self, channel: &PreparedChannel, deposit_base_units: u128) -> Result<Amount, WalletError> {
        let opening = self.payer.open(&channel.request(deposit_base_units)).await?;
        if opening.channel != channel.channel {
            return Err(WalletError::AnotherChannel { expected: channel.channel, actual: opening.channel });
        }
        Ok(opening.deposit)
    }

    /// Signs an authorization with which anyone can open the channel and pay the gas (EIP-3009). Nothing is sent.
    ///
    /// # Errors
    /// [`WalletError::Chain`], also when the token has no such authorizations.
    pub async fn authorize_open(
        &self,
        channel: &PreparedChannel,
        deposit_base_units: u128,
        valid_before: Timestamp,
    ) -> Result<OpenAuthorization, WalletError> {
        let request = channel.request(deposit_base_units);
        Ok(OpenAuthorization::sign(&self.ledger, &self.key, request, valid_before).await?)
    }

    /// Signs the opening of a channel for anyone to submit, such as the node ([`Client::relay`](crate::Client::relay)), in the way that is
    /// named or the best that works now. Nothing is sent. Valid for so long.
    ///
    /// # Errors
    /// [`WalletError::NoWay`]; [`WalletError::Chain`], also when the contracts would refuse it.
    pub async fn sign_open(
        &self,
        channel: &PreparedChannel,
        deposit_base_units: u128,
        way: Option<DepositWay>,
        valid_for: Duration,
    ) -> Result<RelayedDeposit, WalletError> {
        self.sign_deposit(DepositPurpose::Open(channel.request(deposit_base_units)), way, valid_for).await
    }

    /// As [`Wallet::sign_open`], for a larger deposit of any channel. Each signature is for a top-up of its own.
    ///
    /// # Errors
    /// As [`Wallet::sign_open`].
    pub async fn sign_top_up(
        &self,
        channel: ChannelId,
        base_units: u128,
        way: Option<DepositWay>,
        valid_for: Duration,
    ) -> Result<RelayedDeposit, WalletError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| WalletError::Randomness)?;
        self.sign_deposit(DepositPurpose::TopUp { channel, base_units, salt }, way, valid_for).await
    }

    /// Signs in each way that the token seems to have until one works on the chain as it is.
    async fn sign_deposit(
        &self,
        purpose: DepositPurpose,
        way: Option<DepositWay>,
        valid_for: Duration,
    ) -> Result<RelayedDeposit, WalletError> {
        let ledger = &self.ledger;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let here = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        // The chain judges by its own clock, and a relayer by its own.
        let now = here.max(ledger.rpc().head_time().await?);
        let until = now.plus_millis(u64::try_from(valid_for.as_millis()).unwrap_or(u64::MAX));
        let mut failure = None;
        for candidate in DepositWay::ALL {
            let is_wanted = match way {
                Some(way) => way == candidate,
                None => candidate.is_open(ledger, self.account(), purpose.base_units()).await?,
            };
            if !is_wanted {
                continue;
            }
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).map_err(|_| WalletError::Randomness)?;
            let signed = RelayedDeposit::sign(ledger, &self.key, candidate, purpose, nonce, until).await?;
            match signed.simulate(ledger).await {
                Ok(()) => return Ok(signed),
                Err(error) if error.is_retryable() => return Err(error.into()),
                // What the first says is what is missing: the others are for want of it.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.map_or(WalletError::NoWay, WalletError::Chain))
    }

    /// Waits until the ledger has the channel, as after an authorization was handed to a relayer, looking every `interval`. Returns what it
    /// says of it. It waits for ever: bound it where that is too long.
    ///
    /// # Errors
    /// [`WalletError::Chain`] when the ledger cannot be read.
    pub async fn wait_opened(&self, channel: ChannelId, interval: Duration) -> Result<ChannelRecord, WalletError> {
        loop {
            if let Some(record) = self.ledger.channel(channel).await? {
                return Ok(record);
            }
            sleep(interval).await;
        }
    }

    /// Raises a channel's deposit and waits for the submitter's confirmations. Returns the whole deposit, in nanos. Then
    /// [`refresh`](crate::ChannelHandle::refresh) the channel, so that it may be spent.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn top_up(&self, channel: ChannelId, base_units: u128) -> Result<Amount, WalletError> {
        Ok(self.payer.top_up(channel, base_units).await?.0)
    }

    /// Asks the ledger to close a channel. The provider settles what it was paid within the response window; the rest becomes this account's
    /// credit.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn request_close(&self, channel: ChannelId) -> Result<TxReceipt, WalletError> {
        Ok(self.payer.request_close(channel).await?)
    }

    /// This account's credit at the ledger, in nanos: what closed channels gave back.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn credit(&self) -> Result<Amount, WalletError> {
        Ok(self.ledger.credit(self.account()).await?)
    }

    /// Pays the whole base units of the credit to this account.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn withdraw(&self) -> Result<Withdrawal, WalletError> {
        Ok(self.payer.withdraw(self.account()).await?)
    }

    /// Every channel that this account opened on the ledger since a block, with what the ledger says of it now: what is left to find when
    /// the state is lost. `deployed` is the block of the ledger's deployment, or any before it.
    ///
    /// # Errors
    /// [`WalletError::Chain`].
    pub async fn find_channels(&self, deployed: BlockNumber) -> Result<Vec<FoundChannel>, WalletError> {
        let indexer = Indexer::new(self.ledger.clone(), IndexerOptions::default());
        let mut cursor = indexer.start(deployed).await?;
        let mut found = Vec::new();
        loop {
            match indexer.poll(&cursor).await? {
                Poll::Idle(_) => return Ok(found),
                Poll::Batch(batch) => {
                    for event in batch.events {
                        found.extend(self.opened_here(event.event).await?);
                    }
                    cursor = batch.cursor;
                }
                Poll::Reorg(_) => {
                    cursor = indexer.start(deployed).await?;
                    found.clear();
                }
            }
        }
    }

    async fn opened_here(&self, event: LedgerEvent) -> Result<Option<FoundChannel>, WalletError> {
        let LedgerEvent::Opened { channel, payer, key_x, salt, .. } = event else {
            return Ok(None);
        };
        if payer != self.account() {
            return Ok(None);
        }
        let terms = ChannelTerms { ledger: self.ledger.id(), payer, key_x, salt };
        let record = self.ledger.channel(channel).await?;
        Ok(record.map(|record| FoundChannel { channel, terms, record }))
    }
}

/// The salt of the channel with a derived key.
fn salt_of(index: u64) -> [u8; 32] {
    U256::from(index).to_be_bytes()
}

/// The voucher key of an account, a ledger and an index (spec V-11).
fn derive_voucher_key(signer: &PrivateKeySigner, ledger: LedgerId, index: u64) -> Result<SecretKey, WalletError> {
    let message = VoucherKey {
        purpose: PURPOSE.to_owned(),
        chainId: U256::from(ledger.chain.get()),
        ledger: (*ledger.contract.as_bytes()).into(),
        index: U256::from(index),
    };
    let domain = eip712_domain! { name: "Millstream", version: "1", };
    let signature = signer
        .sign_hash_sync(&message.eip712_signing_hash(&domain))
        .map_err(|error| WalletError::Sign { detail: error.to_string() })?;
    let bytes = Zeroizing::new(signature.as_bytes());
    SecretKey::from_wallet_signature(&bytes).map_err(WalletError::VoucherKey)
}

#[cfg(test)]
mod tests {
    use millstream_types::ChainId;

    use super::*;

    #[test]
    fn a_derived_key_depends_on_account_ledger_and_index_and_on_nothing_else() {
        let signer = |byte: u8| PrivateKeySigner::from_slice(&[byte; 32]).expect("a key");
        let ledger = |chain, byte| LedgerId { chain: ChainId::new(chain), contract: Address::from_bytes([byte; 20]) };
        let key = |signer: &PrivateKeySigner, ledger, index| derive_voucher_key(signer, ledger, index).expect("derives").public_key().x();
        let first = key(&signer(1), ledger(1, 1), 0);
        assert_eq!(key(&signer(1), ledger(1, 1), 0), first);
        let others = [
            key(&signer(2), ledger(1, 1), 0),
            key(&signer(1), ledger(2, 1), 0),
            key(&signer(1), ledger(1, 2), 0),
            key(&signer(1), ledger(1, 1), 1),
        ];
        assert!(others.iter().all(|other| *other != first));
        assert_eq!(salt_of(258)[29..], [0, 1, 2]);
    }

    /// `keccak256` of the type string in V-11: a wallet shows and hashes exactly this.
    #[test]
    fn the_typed_data_is_that_of_the_specification() {
        assert_eq!(VoucherKey::eip712_root_type(), "VoucherKey(string purpose,uint256 chainId,address ledger,uint256 index)");
        let domain = eip712_domain! { name: "Millstream", version: "1", };
        assert_eq!(domain.encode_type(), "EIP712Domain(string name,string version)");
    }
}
