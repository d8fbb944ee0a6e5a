//! What the pure checks of receipts and statements leave to whoever knows the curves: signatures.

use millstream_billing::{AccountOf, StatedVoucher};
use millstream_types::{Address, ChainId, Hash256};
use millstream_voucher::evm::{EscrowDomain, EscrowScheme, EscrowVoucher, EvmSignature, KeySignature, Signed};
use millstream_voucher::{PublicKey, Signature, SignedVoucher, VoucherBody};

/// The account whose key made a signature over a digest.
pub(super) fn recover(digest: &Hash256, signature: &[u8]) -> Option<Address> {
    KeySignature::from_bytes(signature.try_into().ok()?).ok()?.signer_of(digest).ok()
}

/// Judges a payer's voucher, of an escrow on this chain or of a ledger.
pub(super) fn voucher(chain: ChainId, of: &AccountOf, voucher: &StatedVoucher) -> Result<(), String> {
    match (of, voucher) {
        (AccountOf::Ledger(channel), StatedVoucher::Ledger { key_x, lines_total, cumulative, bill_head, signature }) => {
            let signature = signature.as_slice().try_into().map_err(|_| "its signature has not 48 bytes".to_owned())?;
            let body = VoucherBody { channel: *channel, lines_total: *lines_total, cumulative: *cumulative, bill_head: *bill_head };
            let key = PublicKey::from_x(key_x.as_bytes()).map_err(|error| error.to_string())?;
            let signed = SignedVoucher::new(body, Signature::from_bytes(signature)).map_err(|error| error.to_string())?;
            signed.verify(&key).map(drop).map_err(|error| error.to_string())
        }
        (AccountOf::Escrow(channel), StatedVoucher::Escrow { domain, contract, signer, cumulative, signature, judged_at }) => {
            let scheme = EscrowScheme::ALL.into_iter().find(|scheme| scheme.domain_name() == domain);
            let scheme = scheme.ok_or_else(|| format!("{domain:?} is no escrow that is known here"))?;
            let statement = EscrowVoucher { channel: *channel, cumulative: *cumulative };
            let signature = EvmSignature::new(signature.clone()).map_err(|error| error.to_string())?;
            let signed = Signed::new(statement, signature).verify(&EscrowDomain::new(scheme, chain, *contract), *signer);
            match (signed, judged_at) {
                (Ok(_), _) => Ok(()),
                (Err(error), None) => Err(error.to_string()),
                (Err(_), Some(block)) => {
                    Err(format!("{signer} is a contract, which said at block {block} that it signed: only the chain can say that"))
                }
            }
        }
        (AccountOf::Ledger(_) | AccountOf::Escrow(_) | AccountOf::Payments(_), _) => {
            Err("it is of another kind than the account".to_owned())
        }
    }
}
