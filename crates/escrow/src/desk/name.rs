//! Names and notes: what a request is called in the engine, and what is kept of its delivery.

use bytes::Bytes;
use millstream_engine::escrow::{METER_BYTES_MAX, Meter, RequestId as EngineRequestId};
use millstream_gateway::meter::UsageSource;
use millstream_gateway::port::{Capture, LogicalId, ReservationId};
use millstream_tariff::TariffVersion;
use millstream_types::EscrowChannelId;
use sha2::{Digest, Sha256};

/// Version of what is kept of a delivery.
const METER_VERSION: u8 = 1;
/// Bytes of a route's path that are kept, at most.
const ROUTE_BYTES_MAX: usize = 255;

/// The engine's name for a request: a hash over the channel and the client's id, or the gateway's where the client has none.
pub(crate) fn request_id(channel: &EscrowChannelId, logical: Option<&LogicalId>, request: &str) -> EngineRequestId {
    let (kind, id) = logical.map_or((b"gateway".as_slice(), request), |logical| (b"logical".as_slice(), logical.as_str()));
    let mut hash = Sha256::new();
    hash.update(b"millstream/request/");
    hash.update(kind);
    hash.update(channel.as_bytes());
    hash.update(id);
    EngineRequestId::from_bytes(hash.finalize().into())
}

/// A reservation's number: the first half of its request's name.
pub(crate) fn reservation_id(request: &EngineRequestId) -> ReservationId {
    let half = request.as_bytes().first_chunk().copied().unwrap_or_default();
    ReservationId(u128::from_be_bytes(half))
}

/// The receipt of a charge, from its durable number: the same however often it is asked for.
pub(crate) fn receipt(sequence: u64) -> String {
    format!("rcp_{sequence:016x}")
}

/// What of a delivery is known before it begins.
#[derive(Clone, Debug)]
pub(crate) struct MeterHead(Bytes);

impl MeterHead {
    pub(crate) fn new(tariff: &TariffVersion, route: &str) -> Self {
        let mut bytes = vec![METER_VERSION];
        let route = route.as_bytes();
        for text in [tariff.name().as_bytes(), route.get(..ROUTE_BYTES_MAX).unwrap_or(route)] {
            bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(text.get(..usize::from(u8::MAX)).unwrap_or(text));
        }
        Self(bytes.into())
    }

    /// Of a delivery under way: how much is in the mark itself.
    pub(crate) fn marked(&self, price_version: u32) -> Meter {
        Meter { price_version, units: self.0.clone() }
    }

    /// Of one that ended: `head ‖ flags u8 ‖ SHA-256 of the delivered bytes ‖ calls, input, output, cached tokens, milliseconds, bytes, images`,
    /// each u64 big-endian; flags: 1 whole, 2 tokens as the upstream reported them, 4 as they were counted.
    pub(crate) fn captured(&self, price_version: u32, capture: &Capture) -> Meter {
        let mut bytes = Vec::with_capacity(self.0.len().saturating_add(89));
        bytes.extend_from_slice(&self.0);
        let source = match capture.source {
            UsageSource::Reported => 2,
            UsageSource::Counted => 4,
            UsageSource::Nothing => 0,
        };
        bytes.push(source | u8::from(capture.complete));
        bytes.extend_from_slice(&capture.delivered_sha256);
        let usage = &capture.usage;
        for quantity in [usage.calls, usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.millis, usage.bytes, usage.images]
        {
            bytes.extend_from_slice(&quantity.to_be_bytes());
        }
        debug_assert!(bytes.len() <= METER_BYTES_MAX);
        Meter { price_version, units: bytes.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_delivery_fits_whatever_it_is() {
        let tariff = TariffVersion::new(&"t".repeat(64), 7).expect("a name");
        let capture = Capture {
            cost: millstream_tariff::Cost::ZERO,
            usage: millstream_tariff::Usage { calls: 1, images: u64::MAX, ..Default::default() },
            source: UsageSource::Counted,
            delivered_sha256: [9; 32],
            complete: true,
        };
        let meter = MeterHead::new(&tariff, &"/x".repeat(1_000)).captured(7, &capture);
        assert_eq!((meter.price_version, meter.units.len()), (7, 1 + 65 + 256 + 1 + 32 + 56));
        assert_eq!(meter.units[1 + 65 + 256], 5);
        assert!(meter.units.len() <= METER_BYTES_MAX);
    }

    #[test]
    fn ids_of_clients_and_of_the_gateway_do_not_meet_nor_those_of_channels() {
        let channel = |byte| EscrowChannelId::from_bytes([byte; 32]);
        let gateway = "req_1";
        let logical = LogicalId::new(gateway).expect("visible");
        let ids = [
            request_id(&channel(1), None, gateway),
            request_id(&channel(1), Some(&logical), gateway),
            request_id(&channel(2), None, gateway),
            request_id(&channel(2), Some(&logical), gateway),
        ];
        let all: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(all.len(), ids.len());
        assert_eq!(request_id(&channel(1), Some(&logical), "req_2"), ids[1]);
    }
}
