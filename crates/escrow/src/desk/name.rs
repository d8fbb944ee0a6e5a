//! Names and notes: what a request is called in the engine, and what is kept of its delivery.

use millstream_billing::{Delivery, Evidence, TokenSource, Units};
use millstream_engine::escrow::{METER_BYTES_MAX, Meter, RequestId as EngineRequestId};
use millstream_gateway::meter::UsageSource;
use millstream_gateway::port::{Capture, LogicalId, ReservationId};
use millstream_tariff::TariffVersion;
use millstream_types::{EscrowChannelId, Hash256};
use sha2::{Digest, Sha256};

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
pub(crate) struct MeterHead(Evidence);

impl MeterHead {
    pub(crate) fn new(tariff: &TariffVersion, route: &str) -> Self {
        Self(Evidence { card: tariff.name().to_owned(), route: route.to_owned(), delivery: None })
    }

    /// Of a delivery under way: how much is in the mark itself.
    pub(crate) fn marked(&self, price_version: u32) -> Meter {
        Meter { price_version, units: self.0.encode().into() }
    }

    /// Of one that ended.
    pub(crate) fn captured(&self, price_version: u32, capture: &Capture) -> Meter {
        let tokens = match capture.source {
            UsageSource::Reported => TokenSource::Reported,
            UsageSource::Counted => TokenSource::Counted,
            UsageSource::Nothing => TokenSource::Nothing,
        };
        let usage = &capture.usage;
        let units = Units {
            calls: usage.calls,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cached_tokens: usage.cached_tokens,
            millis: usage.millis,
            bytes: usage.bytes,
            images: usage.images,
        };
        let delivered_sha256 = Hash256::from_bytes(capture.delivered_sha256);
        let delivery = Delivery { is_whole: capture.complete, tokens, delivered_sha256, units };
        let bytes = Evidence { delivery: Some(delivery), ..self.0.clone() }.encode();
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
        let read = Evidence::decode(&meter.units).expect("its own bytes");
        assert_eq!((read.card, read.route.len()), ("t".repeat(64), 255));
        let delivery = read.delivery.expect("it ended");
        assert_eq!((delivery.is_whole, delivery.tokens, delivery.units.images), (true, TokenSource::Counted, u64::MAX));
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
