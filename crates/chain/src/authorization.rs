//! Opening a channel without coins for gas: the payer signs an EIP-3009 authorization, anyone relays it.

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::SolStruct;
use millstream_types::{Address, Amount, Hash256, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bindings::{ILedger, ReceiveWithAuthorization};
use crate::{Call, ChainError, ChainKey, Ledger, OpenRequest, Opening, Submitter, VoucherKeyWitness, convert, token};

/// What a payer signed, for a relayer to submit. A relayer can neither redirect it nor alter it: its nonce is a hash over ledger and channel.
///
/// JSON: flat, in camel case; 32-byte words, the account and the signature in hexadecimal, the deposit a decimal string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Document", into = "Document")]
pub struct OpenAuthorization {
    /// Whose money and channel it is.
    pub payer: Address,
    /// The channel.
    pub request: OpenRequest,
    /// Not valid at or before this second.
    pub valid_after_secs: u64,
    /// Not valid at or after this second.
    pub valid_before_secs: u64,
    /// `r ‖ s ‖ v` of an account, or what a contract account takes.
    pub signature: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    payer: Address,
    key_x: Hash256,
    key_qx: Hash256,
    key_qy: Hash256,
    salt: Hash256,
    deposit_base_units: Amount,
    valid_after_secs: u64,
    valid_before_secs: u64,
    signature: Bytes,
}

impl From<Document> for OpenAuthorization {
    fn from(document: Document) -> Self {
        let [x, qx, qy, salt] = [document.key_x, document.key_qx, document.key_qy, document.salt].map(|word| *word.as_bytes());
        let request = OpenRequest { key: VoucherKeyWitness { x, qx, qy }, salt, deposit_base_units: document.deposit_base_units.units() };
        let Document { payer, valid_after_secs, valid_before_secs, signature, .. } = document;
        Self { payer, request, valid_after_secs, valid_before_secs, signature: signature.to_vec() }
    }
}

impl From<OpenAuthorization> for Document {
    fn from(authorization: OpenAuthorization) -> Self {
        let OpenAuthorization { payer, request, valid_after_secs, valid_before_secs, signature } = authorization;
        let [key_x, key_qx, key_qy, salt] = [request.key.x, request.key.qx, request.key.qy, request.salt].map(Hash256::from_bytes);
        let deposit_base_units = Amount::from_units(request.deposit_base_units);
        Self { payer, key_x, key_qx, key_qy, salt, deposit_base_units, valid_after_secs, valid_before_secs, signature: signature.into() }
    }
}

impl OpenAuthorization {
    /// Signs the opening of a channel. Valid from before the chain's first second until `valid_before`, rounded down to a second.
    ///
    /// # Errors
    /// [`ChainError::Unrepresentable`] when the token does not sign in the domain that it names; or the endpoint is unavailable.
    pub async fn sign(ledger: &Ledger, key: &ChainKey, request: OpenRequest, valid_before: Timestamp) -> Result<Self, ChainError> {
        let domain = token::signing_domain(ledger.rpc(), ledger.config().token).await?;
        let payer = key.address();
        let (valid_after_secs, valid_before_secs) = (0, valid_before.as_secs_down());
        let message = ReceiveWithAuthorization {
            from: convert::evm_address(payer),
            to: convert::evm_address(ledger.address()),
            value: U256::from(request.deposit_base_units),
            validAfter: U256::from(valid_after_secs),
            validBefore: U256::from(valid_before_secs),
            nonce: ledger.open_authorization_nonce(payer, request.key.x, request.salt).await?.into(),
        };
        let signature = key.sign_digest(message.eip712_signing_hash(&domain))?.to_vec();
        Ok(Self { payer, request, valid_after_secs, valid_before_secs, signature })
    }

    /// Submits it. The submitter's account pays the gas and nothing else.
    ///
    /// # Errors
    /// Final: the token refuses a signature, a validity or a nonce that was used; else as [`crate::Payer::open`].
    pub async fn relay(&self, ledger: &Ledger, submitter: &Submitter) -> Result<Opening, ChainError> {
        let call = ILedger::openWithAuthorizationCall {
            payer: convert::evm_address(self.payer),
            key: ILedger::VoucherKey::from_witness(&self.request.key),
            salt: self.request.salt.into(),
            baseUnits: U256::from(self.request.deposit_base_units),
            validAfter: U256::from(self.valid_after_secs),
            validBefore: U256::from(self.valid_before_secs),
            signature: self.signature.clone().into(),
        };
        let receipt = submitter.send(Call::encode("openWithAuthorization", ledger.address(), &call)).await?;
        Opening::from_receipt(ledger, receipt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_read_back_and_nothing_else_is_taken() {
        let key = VoucherKeyWitness { x: [1; 32], qx: [2; 32], qy: [3; 32] };
        let request = OpenRequest { key, salt: [4; 32], deposit_base_units: u128::MAX };
        let payer = Address::from_bytes([5; 20]);
        let signed = OpenAuthorization { payer, request, valid_after_secs: 0, valid_before_secs: 9, signature: vec![6; 65] };
        let json = serde_json::to_value(&signed).expect("written");
        assert_eq!(json["depositBaseUnits"], u128::MAX.to_string());
        assert_eq!(serde_json::from_value::<OpenAuthorization>(json.clone()).expect("read"), signed);
        let mut more = json;
        more["recipient"] = "0x00".into();
        assert!(serde_json::from_value::<OpenAuthorization>(more).is_err());
    }
}
