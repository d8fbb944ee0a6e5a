//! Putting the x402 contracts on a development chain.

use alloy::primitives::Bytes;
use alloy::providers::Provider;
use alloy::sol_types::SolValue;
use millstream_types::Address;

use super::{BATCH_SETTLEMENT, ERC3009_DEPOSIT_COLLECTOR, EXACT_PERMIT2_PROXY, PERMIT2_DEPOSIT_COLLECTOR};
use crate::artifacts::Artifact;
use crate::{ChainError, PERMIT2, Rpc, convert, place_development_permit2};

/// Puts implementations of ours of the x402 contracts at their canonical addresses, and of Permit2 at its own ([`PERMIT2`]), where a
/// development chain (anvil) has nothing there. What is there stays. Returns whether anything was put.
///
/// # Errors
/// [`ChainError::InvalidInput`] on every chain but 31337 and 1337; [`ChainError::Refused`] by a node that lets nobody set code; or the
/// endpoint is unavailable.
pub async fn place_development_x402(rpc: &Rpc) -> Result<bool, ChainError> {
    // It checks the chain, too.
    let mut placed = place_development_permit2(rpc).await?;
    let (settlement, permit2) = (convert::evm_address(BATCH_SETTLEMENT), convert::evm_address(PERMIT2));
    // Their constructors keep the addresses of the others in the code and nothing else, so what they leave is right at any address.
    let contracts = [
        (BATCH_SETTLEMENT, Artifact::X402BatchSettlement, Vec::new()),
        (ERC3009_DEPOSIT_COLLECTOR, Artifact::Erc3009DepositCollector, settlement.abi_encode()),
        (PERMIT2_DEPOSIT_COLLECTOR, Artifact::Permit2DepositCollector, (settlement, permit2).abi_encode_params()),
        (EXACT_PERMIT2_PROXY, Artifact::X402ExactPermit2Proxy, permit2.abi_encode()),
    ];
    for (at, artifact, arguments) in contracts {
        placed |= place(rpc, at, artifact, &arguments).await?;
    }
    Ok(placed)
}

async fn place(rpc: &Rpc, at: Address, artifact: Artifact, arguments: &[u8]) -> Result<bool, ChainError> {
    if rpc.has_code(at).await? {
        return Ok(false);
    }
    let mut creation = artifact.creation_code()?;
    creation.extend_from_slice(arguments);
    let created: Option<Bytes> = rpc.created_code(creation).await?;
    let code = created.ok_or_else(|| ChainError::inconsistent(format!("the creation of {artifact:?} reverts")))?;
    let set = rpc.provider().raw_request::<_, ()>("anvil_setCode".into(), (convert::evm_address(at), code));
    rpc.ask("anvil_setCode", set).await?;
    Ok(true)
}
