//! Asking contract accounts whether they signed (ERC-1271).

use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::{BlockId, TransactionRequest};
use alloy::sol_types::SolCall;
use millstream_types::{Address, BlockNumber, Hash256};
use millstream_voucher::evm::{ContractAnswer, EvmSignature};

use crate::{ChainError, Rpc, convert};

alloy::sol! {
    /// ERC-1271.
    interface IContractSigner {
        function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4);
    }
}

/// Asks `isValidSignature(digest, signature)` of an account in the newest block. An account without code, one that reverts and one that
/// answers something else have not signed.
///
/// # Errors
/// The endpoint is unavailable: then it is not known.
pub async fn ask_contract(rpc: &Rpc, account: Address, digest: Hash256, signature: &EvmSignature) -> Result<ContractAnswer, ChainError> {
    let newest = rpc.newest().await?;
    let call = IContractSigner::isValidSignatureCall { hash: convert::evm_hash(digest), signature: signature.as_bytes().to_vec().into() };
    let request = TransactionRequest::default().with_to(convert::evm_address(account)).with_input(call.abi_encode());
    let answer = rpc.ask("isValidSignature", rpc.provider().call(request).block(BlockId::hash(newest.hash))).await;
    let returned = match answer {
        Ok(bytes) if bytes.len() >= 32 => bytes.first_chunk().copied(),
        Ok(_) | Err(ChainError::Reverted { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(ContractAnswer { chain: rpc.chain(), account, digest, signature: signature.clone(), at: BlockNumber::new(newest.number), returned })
}
