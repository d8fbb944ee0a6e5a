//! A request as the chain takes it.

use millstream_chain::{DepositPurpose, OpenRequest, RelayedDeposit, SignedDeposit, VoucherKeyWitness};
use millstream_types::ChannelId;
use millstream_voucher::ChannelTerms;
use millstream_wire::{Relay, RelayPurpose, RelayWay};

/// The deposit of a request.
pub(super) fn deposit_of(relay: &Relay) -> RelayedDeposit {
    let base_units = relay.base_units.units();
    let purpose = match relay.purpose {
        RelayPurpose::Open { key_x: x, key_qx: qx, key_qy: qy, salt } => {
            DepositPurpose::Open(OpenRequest { key: VoucherKeyWitness { x, qx, qy }, salt, deposit_base_units: base_units })
        }
        RelayPurpose::TopUp { channel, salt } => DepositPurpose::TopUp { channel, base_units, salt },
    };
    let signature = relay.signature.clone();
    let signed = match relay.way {
        RelayWay::Authorization { valid_after_secs, valid_before_secs } => {
            SignedDeposit::Authorization { valid_after_secs, valid_before_secs, signature }
        }
        RelayWay::Permit { deadline_secs, permit } => SignedDeposit::Permit { deadline_secs, permit, consent: signature },
        RelayWay::Permit2 { nonce, deadline_secs } => SignedDeposit::Permit2 { nonce, deadline_secs, signature },
    };
    RelayedDeposit { funder: relay.funder, purpose, signed }
}

/// The channel that a request is for.
pub(super) fn channel_of(relay: &Relay) -> ChannelId {
    match relay.purpose {
        RelayPurpose::Open { key_x, salt, .. } => ChannelTerms { ledger: relay.ledger, payer: relay.funder, key_x, salt }.uid(),
        RelayPurpose::TopUp { channel, .. } => channel,
    }
}
