//! The deterministic deployment proxy: a contract at one address on practically every chain, which deploys what it is given by CREATE2.

use alloy::primitives::{B256, Bytes, keccak256};
use alloy::rpc::types::BlockId;
use millstream_types::{Address, Hash256};

use crate::{ChainError, Rpc, convert};

/// The deterministic deployment proxy. Its input is a salt of 32 bytes and creation code; it answers the address, 20 bytes.
pub const CREATE2_PROXY: Address = Address::from_bytes(alloy::hex!("4e59b44847b379578588920ca78fbf26c0b4956c"));

/// Its code. Whoever has it at that address has what this build has checked: it takes the whole input but the salt for creation code, passes
/// its value on, and reverts when nothing was created.
const PROXY_CODE: [u8; 69] = alloy::hex!(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
);

/// The salt of everything that is deployed through the proxy. Nothing of it belongs to anybody, so whoever deploys the same finds it there.
const SALT: B256 = B256::ZERO;

/// What the proxy is sent to deploy something.
pub(super) fn input(creation: &[u8]) -> Bytes {
    [SALT.as_slice(), creation].concat().into()
}

/// Where the proxy deploys something.
pub(super) fn address(creation: &[u8]) -> Address {
    convert::address(convert::evm_address(CREATE2_PROXY).create2(SALT, keccak256(creation)))
}

/// Whether the proxy is there, and is what it should be.
///
/// # Errors
/// [`ChainError::NoCreate2Proxy`], [`ChainError::ForeignCode`]; or the endpoint is unavailable.
pub(super) async fn check(rpc: &Rpc) -> Result<(), ChainError> {
    let code = rpc.code(CREATE2_PROXY, BlockId::latest()).await?;
    if code.is_empty() {
        return Err(ChainError::NoCreate2Proxy { chain: rpc.chain() });
    }
    if code[..] == PROXY_CODE {
        return Ok(());
    }
    Err(ChainError::ForeignCode {
        what: "deterministic deployment proxy".to_owned(),
        address: CREATE2_PROXY,
        expected: Hash256::from_bytes(keccak256(PROXY_CODE).0),
        actual: convert::hash(keccak256(&code)),
    })
}
