//! What an operator decides about escrows, and what follows from what is sold.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_engine::escrow::{EscrowConfig, OptimisticLimit};
use millstream_types::{Address, Amount};
use serde::{Deserialize, Serialize};

use crate::claimer::ClaimSection;

/// What a reservation may outlive the longest delivery by: captures are tried again for a while.
const DELIVERY_SLACK_SECS: u64 = 30;

/// The shortest time without news of the chain after which payments may be refused: less would refuse them for a slow endpoint.
const STALE_AFTER_SECS_MIN: u64 = 10;
/// The longest.
const STALE_AFTER_SECS_MAX: u64 = 600;

/// `[escrow]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EscrowSection {
    /// Seconds that a claim takes from being sent to being beyond doubt, on a bad day. Payments that a withdrawal could overtake are not taken.
    pub claim_margin_secs: u64,
    /// Seconds that a request waits for its deposit to be confirmed before it is told to come back. The deposit goes on.
    pub deposit_wait_secs: u64,
    /// Seconds between two looks at all channels, whatever the logs say.
    pub full_look_secs: u64,
    /// Seconds that an answer waits for its single payment to be in a block. After that it leaves, and the payment is followed on.
    pub settle_wait_secs: u64,
    /// Base units that may rest on deposits which are sent and not confirmed, on one channel; nothing unless both limits are above zero.
    pub optimistic_channel_max: u64,
    /// And on all channels of an escrow together: the most that the provider loses by it.
    pub optimistic_total_max: u64,
    /// When what was charged is claimed and swept, and what that may cost.
    pub claim: ClaimSection,
}

impl Default for EscrowSection {
    fn default() -> Self {
        Self {
            claim_margin_secs: 180,
            deposit_wait_secs: 120,
            full_look_secs: 300,
            settle_wait_secs: 30,
            optimistic_channel_max: 0,
            optimistic_total_max: 0,
            claim: ClaimSection::default(),
        }
    }
}

impl EscrowSection {
    /// Whether anything may rest on a deposit that is not confirmed.
    pub(crate) const fn trusts_sent(&self) -> bool {
        self.optimistic_channel_max > 0 && self.optimistic_total_max > 0
    }
}

/// What the rail is started with.
#[derive(Clone, Debug)]
pub struct RailConfig {
    /// What the operator sets.
    pub escrow: EscrowSection,
    /// The token that is paid in.
    pub token: Address,
    /// The account that is paid.
    pub receiver: Address,
    /// x402's channels, when they are offered.
    pub x402: Option<ChannelsConfig>,
    /// MPP sessions, when they are offered. The account that is paid is then the operator's own: the escrow pays who settles.
    pub sessions: Option<SessionsConfig>,
    /// Other people's accounts, whose vouchers a facilitator keeps: of x402's channels.
    pub custody: BTreeSet<Address>,
    /// Seconds that the longest delivery takes: until its first byte, and from there to its end.
    pub delivery_secs_max: u64,
    /// Nanos of the token that a whole coin of the chain is worth, by which the gas of claims is weighed; 0 does not weigh it.
    pub coin_nanos: u64,
    /// Depth at which a block counts: 1 is the newest block.
    pub confirmations: u64,
    /// Between two reads of the chain.
    pub poll_interval: Duration,
}

/// x402's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelsConfig {
    /// Seconds between a payer's request to withdraw and the withdrawal, as the offers say.
    pub withdraw_delay_secs: u64,
}

/// The escrow of MPP sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionsConfig {
    /// The contract that the offers name.
    pub contract: Address,
    /// Base units that a voucher has to add, at least, as the offers say.
    pub voucher_delta_min: Amount,
}

/// Why the settings cannot be served safely.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RailConfigError {
    /// A payer could withdraw what it was delivered for.
    #[error(
        "a payer can withdraw after {delay} s, but a delivery may take {delivery} s, its claim {margin} s (escrow.claim_margin_secs), and \
         the chain may be unknown for {stale} s: raise payment.x402.withdraw_delay_secs, or lower timeouts.total_secs"
    )]
    DelayTooShort {
        /// The withdraw delay.
        delay: u64,
        /// What a reservation may last.
        delivery: u64,
        /// What a claim takes.
        margin: u64,
        /// How old the view of the chain may be, at least.
        stale: u64,
    },
    /// The same of a session, whose grace period is its escrow's.
    #[error(
        "a payer can leave a session after {grace} s, but a delivery may take {delivery} s, its settlement {margin} s \
         (escrow.claim_margin_secs), and the chain may be unknown for {stale} s: lower timeouts.total_secs, or sell such routes by x402 alone \
         (leave [payment.mpp] out)"
    )]
    GraceTooShort {
        /// The grace period.
        grace: u64,
        /// What a reservation may last.
        delivery: u64,
        /// What a settlement takes.
        margin: u64,
        /// How old the view of the chain may be, at least.
        stale: u64,
    },
}

impl RailConfig {
    /// What the engine has to be told before it starts.
    ///
    /// # Errors
    /// [`RailConfigError::DelayTooShort`].
    pub fn engine(&self) -> Result<EscrowConfig, RailConfigError> {
        let (delivery, margin) = (self.reservation_secs_max(), self.escrow.claim_margin_secs);
        self.slack_secs()?;
        Ok(EscrowConfig {
            reservation_millis_max: delivery.saturating_mul(1_000),
            claim_margin_millis: margin.saturating_mul(1_000),
            ..EscrowConfig::default()
        })
    }

    /// After how long without news of the chain no payments are taken: a payer could have begun to leave meanwhile. `grace_secs` is what the
    /// escrow of sessions gives, when they are served.
    ///
    /// # Errors
    /// [`RailConfigError`].
    pub fn stale_after(&self, grace_secs: Option<u64>) -> Result<Duration, RailConfigError> {
        let mut slack = self.slack_secs()?;
        if let Some(grace) = grace_secs {
            let (delivery, margin, stale) = (self.reservation_secs_max(), self.escrow.claim_margin_secs, 2 * STALE_AFTER_SECS_MIN);
            let left = grace.saturating_sub(delivery).saturating_sub(margin);
            if left < stale {
                return Err(RailConfigError::GraceTooShort { grace, delivery, margin, stale });
            }
            slack = slack.min(left);
        }
        Ok(Duration::from_secs((slack / 2).clamp(STALE_AFTER_SECS_MIN, STALE_AFTER_SECS_MAX)))
    }

    pub(crate) fn optimistic(&self) -> OptimisticLimit {
        OptimisticLimit {
            channel_max: Amount::from_units(self.escrow.optimistic_channel_max.into()),
            total_max: Amount::from_units(self.escrow.optimistic_total_max.into()),
        }
    }

    fn reservation_secs_max(&self) -> u64 {
        self.delivery_secs_max.saturating_add(DELIVERY_SLACK_SECS)
    }

    /// What the withdraw delay leaves for learning of a withdrawal: from there on deliveries under way have to end, and their claim to be
    /// mined.
    fn slack_secs(&self) -> Result<u64, RailConfigError> {
        let (delivery, margin) = (self.reservation_secs_max(), self.escrow.claim_margin_secs);
        // Without such channels there is no delay to keep within.
        let delay = self.x402.map_or(u64::MAX, |x402| x402.withdraw_delay_secs);
        let slack = delay.saturating_sub(delivery).saturating_sub(margin);
        if slack < 2 * STALE_AFTER_SECS_MIN {
            let stale = 2 * STALE_AFTER_SECS_MIN;
            return Err(RailConfigError::DelayTooShort { delay, delivery, margin, stale });
        }
        Ok(slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(x402: Option<u64>, delivery_secs_max: u64, claim_margin_secs: u64) -> RailConfig {
        RailConfig {
            escrow: EscrowSection { claim_margin_secs, ..EscrowSection::default() },
            token: Address::ZERO,
            receiver: Address::ZERO,
            x402: x402.map(|withdraw_delay_secs| ChannelsConfig { withdraw_delay_secs }),
            sessions: None,
            custody: BTreeSet::new(),
            delivery_secs_max,
            coin_nanos: 0,
            confirmations: 1,
            poll_interval: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_delivery_and_its_claim_fit_the_withdraw_delay() {
        let check = |delay: u64, delivery: u64, margin: u64, stale: Option<u64>| {
            let config = config(Some(delay), delivery, margin);
            let engine = config.engine().ok().map(|engine| engine.reservation_millis_max + engine.claim_margin_millis);
            assert_eq!(config.stale_after(None).ok().map(|stale| stale.as_secs()), stale, "{delay} {delivery} {margin}");
            assert_eq!(engine, stale.map(|_| (delivery + 30 + margin) * 1_000));
        };
        check(900, 660, 180, Some(15));
        check(900, 670, 180, Some(10));
        check(900, 671, 180, None);
        check(900, 60, 180, Some(315));
        check(86_400, 660, 180, Some(600));
        check(900, u64::MAX, 180, None);
    }

    #[test]
    fn a_delivery_and_its_settlement_fit_the_grace_period() {
        let check = |x402: Option<u64>, grace: u64, delivery: u64, stale: Option<u64>| {
            let config = config(x402, delivery, EscrowSection::default().claim_margin_secs);
            assert_eq!(config.stale_after(Some(grace)).ok().map(|stale| stale.as_secs()), stale, "{x402:?} {grace} {delivery}");
        };
        check(Some(86_400), 900, 660, Some(15));
        check(Some(86_400), 900, 671, None);
        check(Some(86_400), 600, 60, Some(165));
        check(Some(86_400), 86_400, 660, Some(600));
        // Sessions alone.
        check(None, 900, 660, Some(15));
        check(None, 86_400, 660, Some(600));
    }

    /// The shortest delay there is, and the grace of the escrow of sessions, with the gateway's own timeouts: a third of it is left.
    #[test]
    fn defaults_leave_room_within_fifteen_minutes() {
        let gateway = r#"
            [payment]
            network = "eip155:31337"
            asset = "0x00000000000000000000000000000000000000d4"
            symbol = "USDC"
            decimals = 6
            asset_name = "USD Coin"
            asset_version = "2"
            pay_to = "0x00000000000000000000000000000000000000a1"
            [payment.x402]
            receiver_authorizer = "0x00000000000000000000000000000000000000a1"
            [[route]]
            path = "/*"
            upstream = "http://127.0.0.1:1"
            price = "1 USDC / call"
        "#;
        let gateway = millstream_gateway::GatewayConfig::parse(gateway).expect("sound");
        let token = millstream_tariff::Token::new("USDC", 6).expect("a token");
        let longest = millstream_gateway::Routes::new(&gateway, &token, true).expect("sound").delivery_secs_max();
        let margin = EscrowSection::default().claim_margin_secs;
        let stale = config(Some(900), longest, margin).stale_after(Some(900)).expect("fits").as_secs();
        assert!(stale >= 150, "{longest} s of delivery leave {stale} s");
        // Twice as long a delivery starts, too.
        config(Some(900), longest + 300, margin).stale_after(Some(900)).expect("fits");
    }
}
