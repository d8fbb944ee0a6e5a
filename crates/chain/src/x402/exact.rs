//! One payment, one transfer: x402 `exact` and MPP `charge` by ERC-3009.

use alloy::primitives::{B256, Bytes, U256};
use alloy::sol;
use millstream_types::{Address, Amount, Hash256, Uint256};
use millstream_voucher::evm::EvmSignature;

use crate::{Call, ChainError, IntentId, Rpc, Submitter, TxReceipt, convert};

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
        let word = |value: Uint256| U256::from_be_bytes(value.to_be_bytes());
        let (from, to, value) = (convert::evm_address(self.from), convert::evm_address(self.to), U256::from(self.amount.units()));
        let (valid_after, valid_before) = (word(self.valid_after), word(self.valid_before));
        let nonce = convert::evm_hash(self.nonce);
        let by_bytes = IBytesAuthorization::transferWithAuthorizationCall {
            from,
            to,
            value,
            validAfter: valid_after,
            validBefore: valid_before,
            nonce,
            signature: Bytes::copy_from_slice(self.signature.as_bytes()),
        };
        let by_bytes = Call::encode("exact transfer", self.token, &by_bytes);
        if let Ok(signature) = self.signature.to_key_signature() {
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
            let by_key = Call::encode("exact transfer", self.token, &by_key);
            match submitter.simulate(&by_key).await {
                Ok(_) => return Ok(by_key),
                // Of a token without that function, or of an account with code; the other says why.
                Err(ChainError::Reverted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        submitter.simulate(&by_bytes).await.map(|_| by_bytes)
    }
}
