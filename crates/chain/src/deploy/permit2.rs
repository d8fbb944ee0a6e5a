//! Permit2, where a development chain lacks it.

use alloy::network::TransactionBuilder;
use alloy::primitives::Bytes;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use millstream_types::Address;

use crate::artifacts::Artifact;
use crate::{ChainError, Rpc, convert};

/// Permit2, at one address on every chain that has it.
pub const PERMIT2: Address = Address::from_bytes([
    0x00, 0x00, 0x00, 0x00, 0x00, 0x22, 0xd4, 0x73, 0x03, 0x0f, 0x11, 0x6d, 0xde, 0xe9, 0xf6, 0xb4, 0x3a, 0xc7, 0x8b, 0xa3,
]);

/// Puts an implementation of ours of the part of Permit2 that ledgers use at [`PERMIT2`], where a development chain (anvil) has nothing there.
/// Returns whether it had to.
///
/// # Errors
/// [`ChainError::InvalidInput`] on every chain but 31337 and 1337; [`ChainError::Refused`] by a node that lets nobody set code; or the
/// endpoint is unavailable.
pub async fn place_development_permit2(rpc: &Rpc) -> Result<bool, ChainError> {
    if !rpc.chain().is_development() {
        return Err(ChainError::invalid("chain", format!("{} is no development chain", rpc.chain())));
    }
    if rpc.has_code(PERMIT2).await? {
        return Ok(false);
    }
    // Running creation code without creating anything returns the code that would be there. It keeps nothing in it, so it works anywhere.
    let creation = TransactionRequest::default().with_deploy_code(Artifact::DevPermit2.creation_code()?);
    let code: Bytes = rpc.ask("eth_call", rpc.provider().call(creation)).await?;
    let set = rpc.provider().raw_request::<_, ()>("anvil_setCode".into(), (convert::evm_address(PERMIT2), code));
    rpc.ask("anvil_setCode", set).await?;
    Ok(true)
}
