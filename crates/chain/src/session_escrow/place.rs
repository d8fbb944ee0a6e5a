//! The escrow's address, the same on every chain, and how it gets there.

use alloy::primitives::{B256, keccak256};
use millstream_types::Address;

use crate::artifacts::Artifact;
use crate::{CREATE2_PROXY, Call, ChainError, Submitter, convert};

/// One code, so nothing has to be told apart by a salt.
const SALT: B256 = B256::ZERO;

/// Where the escrow of this build is on every chain on which somebody put it (E-20).
///
/// # Errors
/// [`ChainError::Internal`] when the embedded code is broken.
pub fn session_escrow_address() -> Result<Address, ChainError> {
    let code_hash = keccak256(Artifact::SessionEscrow.creation_code()?);
    Ok(convert::address(convert::evm_address(CREATE2_PROXY).create2(SALT, code_hash)))
}

/// Puts the escrow at [`session_escrow_address`] when it is not there yet; returns that address. Who does it pays the gas and gets no power.
///
/// # Errors
/// [`ChainError::NoContract`] when the chain has no deployment proxy; else as [`Submitter::send`].
pub async fn deploy_session_escrow(submitter: &Submitter) -> Result<Address, ChainError> {
    let (rpc, escrow) = (submitter.rpc(), session_escrow_address()?);
    if rpc.has_code(escrow).await? {
        return Ok(escrow);
    }
    if !rpc.has_code(CREATE2_PROXY).await? {
        return Err(ChainError::NoContract { address: CREATE2_PROXY, chain: rpc.chain() });
    }
    let mut data = SALT.to_vec();
    data.extend_from_slice(&Artifact::SessionEscrow.creation_code()?);
    submitter.send(Call::new("deploy SessionEscrow", CREATE2_PROXY, data)).await?;
    if !rpc.has_code(escrow).await? {
        return Err(ChainError::inconsistent(format!("the proxy left no escrow at {escrow}")));
    }
    Ok(escrow)
}
