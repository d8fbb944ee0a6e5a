//! One payment, one transfer: x402 `exact` and MPP `charge` by ERC-3009; and who made a payment, by that or by Permit2.

use alloy::consensus::Transaction as _;
use alloy::primitives::{B256, Bytes, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol;
use alloy::sol_types::{SolCall, SolEvent};
use millstream_types::{Address, Amount, BlockNumber, Hash256, Uint256};
use millstream_voucher::evm::EvmSignature;

use super::EXACT_PERMIT2_PROXY;
use super::bindings::IX402ExactPermit2Proxy;
use super::calls::ExactPermit2;
use crate::{Call, ChainError, IntentId, PERMIT2, Rpc, Submitter, TxReceipt, convert};

sol! {
    /// ERC-3009 with a key's signature.
    interface IKeyAuthorization {
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s
        ) external;
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    }

    /// ERC-3009 with whatever signature an account understands.
    interface IBytesAuthorization {
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature
        ) external;
    }
}

sol! {
    /// What tells of a payment that somebody made.
    interface IUsed {
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event Transfer(address indexed from, address indexed to, uint256 value);
        function nonceBitmap(address owner, uint256 word) external view returns (uint256);
    }
}

/// Blocks of one question for logs: what most endpoints answer.
const LOG_BLOCKS_MAX: u64 = 1_000;

/// The transaction that made a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its hash.
    pub transaction: Hash256,
    /// Its block.
    pub block: BlockNumber,
}

/// A transfer that its payer signed; anyone may submit it, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactTransfer {
    /// The token.
    pub token: Address,
    /// Who pays.
    pub from: Address,
    /// Who is paid.
    pub to: Address,
    /// How much.
    pub amount: Amount,
    /// Not valid at or before this second.
    pub valid_after: Uint256,
    /// Not valid at or after this second.
    pub valid_before: Uint256,
    /// The token takes each only once from a payer.
    pub nonce: Hash256,
    /// The payer's signature.
    pub signature: EvmSignature,
}

impl ExactTransfer {
    /// Whether the token has seen the nonce: the transfer happened, or the payer took it back.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn is_used(&self, rpc: &Rpc) -> Result<bool, ChainError> {
        let (authorizer, nonce) = (convert::evm_address(self.from), convert::evm_hash(self.nonce));
        rpc.view("authorizationState", self.token, &IKeyAuthorization::authorizationStateCall { authorizer, nonce }).await
    }

    /// Whether the token would take it now: nonce, times, balance and signature.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with the token's reason; or the endpoint is unavailable.
    pub async fn simulate(&self, submitter: &Submitter) -> Result<(), ChainError> {
        self.call(submitter).await.map(|_| ())
    }

    /// Submits it, and waits until it is confirmed.
    ///
    /// # Errors
    /// Final: the token's own; else as [`Submitter::send`].
    pub async fn submit(&self, submitter: &Submitter, intent: IntentId) -> Result<TxReceipt, ChainError> {
        let call = self.call(submitter).await?;
        submitter.send(call.with_intent(intent)).await
    }

    /// The call that the token takes, found by simulation: it has one of two, or both. A key's signature goes by the older one first, which every
    /// such token has.
    ///
    /// # Errors
    /// As [`Self::simulate`].
    pub async fn call(&self, submitter: &Submitter) -> Result<Call, ChainError> {
        let mut last = ChainError::Internal { detail: "a transfer has no call".to_owned() };
        for call in self.calls() {
            match submitter.simulate(&call).await {
                Ok(_) => return Ok(call),
                // Of a token without that function, or of an account with code; the other says why.
                Err(error @ ChainError::Reverted { .. }) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// The calls that a token may take it by: a key's signature goes by the older one, which every such token has, and by the newer one.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let word = |value: Uint256| U256::from_be_bytes(value.to_be_bytes());
        let (from, to, value) = (convert::evm_address(self.from), convert::evm_address(self.to), U256::from(self.amount.units()));
        let (valid_after, valid_before) = (word(self.valid_after), word(self.valid_before));
        let nonce = convert::evm_hash(self.nonce);
        let by_key = self.signature.to_key_signature().ok().map(|signature| {
            let bytes = signature.as_bytes();
            let by_key = IKeyAuthorization::transferWithAuthorizationCall {
                from,
                to,
                value,
                validAfter: valid_after,
                validBefore: valid_before,
                nonce,
                v: bytes[64],
                r: B256::from_slice(&bytes[..32]),
                s: B256::from_slice(&bytes[32..64]),
            };
            Call::encode("exact transfer", self.token, &by_key)
        });
        let by_bytes = IBytesAuthorization::transferWithAuthorizationCall {
            from,
            to,
            value,
            validAfter: valid_after,
            validBefore: valid_before,
            nonce,
            signature: Bytes::copy_from_slice(self.signature.as_bytes()),
        };
        by_key.into_iter().chain([Call::encode("exact transfer", self.token, &by_bytes)]).collect()
    }

    /// The transaction that made the payment, whoever sent it, in a block from `from_block` on. Nothing when there is none there: then a used
    /// nonce was used for something else, or taken back.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn made_by(&self, rpc: &Rpc, from_block: u64) -> Result<Option<Made>, ChainError> {
        let filter = Filter::new()
            .address(convert::evm_address(self.token))
            .event_signature(IUsed::AuthorizationUsed::SIGNATURE_HASH)
            .topic1(convert::evm_address(self.from).into_word())
            .topic2(convert::evm_hash(self.nonce));
        let transfer = (self.token, self.from, self.to, self.amount);
        for used in logs(rpc, filter, from_block).await? {
            // Nonces are used for whatever the payer signed; the transfer that comes right after says what it was.
            let Some((made, receipt)) = receipt_of(rpc, &used).await? else { continue };
            let next = used.log_index.and_then(|index| index.checked_add(1));
            if receipt.iter().any(|log| log.log_index == next && is_transfer(log, transfer)) {
                return Ok(Some(made));
            }
        }
        Ok(None)
    }
}

impl ExactPermit2 {
    /// Whether Permit2 has seen the nonce: the transfer happened, or the payer used it for something else.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn is_used(&self, rpc: &Rpc) -> Result<bool, ChainError> {
        // A bit for each number: the last byte names it in its word.
        let number = U256::from_be_bytes(self.nonce.to_be_bytes());
        let call = IUsed::nonceBitmapCall { owner: convert::evm_address(self.from), word: number >> 8 };
        let word: U256 = rpc.view("nonceBitmap", PERMIT2, &call).await?;
        Ok(word.bit(usize::from(number.byte(0))))
    }

    /// The transaction that made the payment, whoever sent it, in a block from `from_block` on. It must have called the proxy itself: the logs
    /// do not name the nonce, so that nothing else proves which payment it was.
    ///
    /// # Errors
    /// The endpoint is unavailable.
    pub async fn made_by(&self, rpc: &Rpc, from_block: u64) -> Result<Option<Made>, ChainError> {
        let filter = Filter::new()
            .address(convert::evm_address(self.token))
            .event_signature(IUsed::Transfer::SIGNATURE_HASH)
            .topic1(convert::evm_address(self.from).into_word())
            .topic2(convert::evm_address(self.to).into_word());
        for log in logs(rpc, filter, from_block).await? {
            if !is_transfer(&log, (self.token, self.from, self.to, self.amount)) {
                continue;
            }
            let Some((made, _)) = receipt_of(rpc, &log).await? else { continue };
            let hash = convert::evm_hash(made.transaction);
            let transaction = rpc.ask("eth_getTransactionByHash", rpc.provider().get_transaction_by_hash(hash)).await?;
            let Some(transaction) = transaction else { continue };
            if transaction.inner.to() == Some(convert::evm_address(EXACT_PERMIT2_PROXY)) && self.is_settled_by(transaction.inner.input()) {
                return Ok(Some(made));
            }
        }
        Ok(None)
    }

    /// Whether a call of the proxy settles this payment. One permit has one signature, but more than one way to write it.
    fn is_settled_by(&self, input: &[u8]) -> bool {
        let word = |value: Uint256| U256::from_be_bytes(value.to_be_bytes());
        let permit = |permit: &IX402ExactPermit2Proxy::PermitTransferFrom, owner| {
            owner == convert::evm_address(self.from) && permit.nonce == word(self.nonce) && permit.deadline == word(self.deadline)
        };
        if let Ok(call) = IX402ExactPermit2Proxy::settleCall::abi_decode(input) {
            return permit(&call.permit, call.owner);
        }
        let call = IX402ExactPermit2Proxy::settleWithPermitCall::abi_decode(input);
        call.is_ok_and(|call| permit(&call.permit, call.owner))
    }
}

type Transfer = (Address, Address, Address, Amount);

fn is_transfer(log: &Log, (token, from, to, amount): Transfer) -> bool {
    let transfer = IUsed::Transfer::decode_log_data(log.data());
    log.address() == convert::evm_address(token)
        && transfer.is_ok_and(|transfer| {
            transfer.from == convert::evm_address(from)
                && transfer.to == convert::evm_address(to)
                && transfer.value == U256::from(amount.units())
        })
}

/// The logs of a filter up to the newest block, a part at a time.
async fn logs(rpc: &Rpc, filter: Filter, from_block: u64) -> Result<Vec<Log>, ChainError> {
    let newest = rpc.newest().await?.number;
    let (mut found, mut from) = (Vec::new(), from_block);
    while from <= newest {
        let to = newest.min(from.saturating_add(LOG_BLOCKS_MAX - 1));
        let part = filter.clone().from_block(from).to_block(to);
        found.extend(rpc.ask("eth_getLogs", rpc.provider().get_logs(&part)).await?);
        from = to.saturating_add(1);
    }
    found.retain(|log| !log.removed);
    Ok(found)
}

/// The transaction that a log is of, and all its logs.
async fn receipt_of(rpc: &Rpc, log: &Log) -> Result<Option<(Made, Vec<Log>)>, ChainError> {
    let Some(hash) = log.transaction_hash else { return Ok(None) };
    let receipt = rpc.ask("eth_getTransactionReceipt", rpc.provider().get_transaction_receipt(hash)).await?;
    let Some(receipt) = receipt.filter(|receipt| receipt.status()) else { return Ok(None) };
    let Some(block) = receipt.block_number else { return Ok(None) };
    let made = Made { transaction: convert::hash(hash), block: convert::block(block) };
    Ok(Some((made, receipt.inner.logs().to_vec())))
}
