//! Whether what an account signed for a deposit was used.

use alloy::primitives::U256;
use alloy::sol;
use millstream_types::{Address, Hash256, Uint256};

use crate::{ChainError, PERMIT2, Rpc, convert};

sol! {
    interface IUsed {
        /// ERC-3009.
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        /// Permit2.
        function nonceBitmap(address owner, uint256 word) external view returns (uint256);
    }
}

/// Whether the token took this nonce from the account, for a transfer or because the account took it back.
///
/// # Errors
/// The endpoint is unavailable.
pub(crate) async fn is_authorization_used(rpc: &Rpc, token: Address, account: Address, nonce: Hash256) -> Result<bool, ChainError> {
    let call = IUsed::authorizationStateCall { authorizer: convert::evm_address(account), nonce: convert::evm_hash(nonce) };
    rpc.view("authorizationState", token, &call).await
}

/// Whether Permit2 took this nonce from the account.
///
/// # Errors
/// The endpoint is unavailable.
pub(crate) async fn is_permit2_nonce_used(rpc: &Rpc, account: Address, nonce: Uint256) -> Result<bool, ChainError> {
    // A bit for each number: the last byte names it in its word.
    let number = U256::from_be_bytes(nonce.to_be_bytes());
    let call = IUsed::nonceBitmapCall { owner: convert::evm_address(account), word: number >> 8 };
    let word: U256 = rpc.view("nonceBitmap", PERMIT2, &call).await?;
    Ok(word.bit(usize::from(number.byte(0))))
}
