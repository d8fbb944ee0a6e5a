//! Where channels stand, for whoever asks: from the durable engine, and what of the chain the engine does not keep.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_engine::escrow::{EscrowAnswer, EscrowRejection, EscrowSnapshot, EscrowTotals};
use millstream_gateway::port::{PortError, Standing};
use millstream_node::{Payments, Stopped};
use millstream_types::{CumulativeAmount, EscrowChannelId, Timestamp};
use millstream_voucher::evm::{Evidence, Signer};
use tokio::sync::watch;

use crate::lock::lock;

/// Milliseconds after which whoever met a node that cannot answer now may come back.
pub(crate) const RETRY_AFTER_MILLIS: u64 = 1_000;

/// What the contract says of a channel and the engine does not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnChain {
    pub(crate) withdraw_requested_at_secs: Option<u64>,
    pub(crate) refund_nonce: u64,
}

/// When the engine last knew everything of an escrow that was deep enough, by this machine's clock; 0 for never.
pub(crate) type View = Arc<AtomicU64>;

/// Shared by the desk and the followers.
pub(crate) struct Board {
    pub(crate) payments: Payments,
    stale_after_millis: u64,
    /// One for each escrow that is followed.
    views: Mutex<Vec<View>>,
    on_chain: RwLock<HashMap<EscrowChannelId, OnChain>>,
    watched: Mutex<HashMap<EscrowChannelId, watch::Sender<Standing>>>,
    /// Entries of `watched`, so that a payment that nobody watches takes no lock.
    watched_count: AtomicU64,
}

/// Milliseconds since the Unix epoch, by this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) const fn unavailable() -> PortError {
    PortError::Unavailable { retry_after_millis: RETRY_AFTER_MILLIS }
}

/// Nobody knows whether it was applied; asked again after the restart, it has the outcome that it had.
pub(crate) fn stopped(_: Stopped) -> PortError {
    unavailable()
}

pub(crate) fn fault(reason: impl ToString) -> PortError {
    PortError::Fault { reason: reason.to_string() }
}

impl Board {
    pub(crate) fn new(payments: Payments, stale_after: Duration) -> Self {
        Self {
            payments,
            stale_after_millis: u64::try_from(stale_after.as_millis()).unwrap_or(u64::MAX),
            views: Mutex::default(),
            on_chain: RwLock::default(),
            watched: Mutex::default(),
            watched_count: AtomicU64::new(0),
        }
    }

    /// The view of one more escrow: whoever follows it says in it when there was nothing new on the chain.
    pub(crate) fn view(&self) -> View {
        let view = View::default();
        lock(&self.views).push(Arc::clone(&view));
        view
    }

    /// Milliseconds since the chain was last known, of the escrow of which it is known least.
    pub(crate) fn view_age_millis(&self) -> u64 {
        let views = lock(&self.views);
        let oldest = views.iter().map(|view| view.load(Ordering::Relaxed)).min().unwrap_or(0);
        if oldest == 0 { u64::MAX } else { now().millis_since(Timestamp::from_millis(oldest)) }
    }

    /// # Errors
    /// The chain is not known well enough to take a payment: a withdrawal may have begun.
    pub(crate) fn require_current(&self) -> Result<(), PortError> {
        if self.view_age_millis() <= self.stale_after_millis { Ok(()) } else { Err(unavailable()) }
    }

    pub(crate) fn on_chain(&self, channel: &EscrowChannelId) -> OnChain {
        let known = self.on_chain.read().unwrap_or_else(PoisonError::into_inner);
        known.get(channel).copied().unwrap_or_default()
    }

    pub(crate) fn seen(&self, states: impl IntoIterator<Item = (EscrowChannelId, OnChain)>) {
        self.on_chain.write().unwrap_or_else(PoisonError::into_inner).extend(states);
    }

    /// A channel as the engine has it.
    pub(crate) async fn snapshot(&self, channel: EscrowChannelId) -> Result<Option<Box<EscrowSnapshot>>, PortError> {
        match self.payments.channel(channel).await.map_err(stopped)? {
            EscrowAnswer::Channel(snapshot) => Ok(Some(snapshot)),
            EscrowAnswer::Rejected { rejection: EscrowRejection::UnknownChannel, .. } => Ok(None),
            other => Err(fault(format!("a channel was asked for, and answered {other:?}"))),
        }
    }

    pub(crate) async fn standing(&self, channel: EscrowChannelId) -> Result<Option<Standing>, PortError> {
        Ok(self.snapshot(channel).await?.map(|snapshot| self.standing_of(&snapshot)))
    }

    /// A channel's standing.
    ///
    /// What is accepted is what the best voucher says: a withdrawal or refund takes back the rest of an authorisation, but a payer believes a
    /// total only by its signature.
    pub(crate) fn standing_of(&self, snapshot: &EscrowSnapshot) -> Standing {
        let terms = &snapshot.terms;
        let best = snapshot.voucher.as_ref();
        let signer = match best.map(|voucher| voucher.evidence()) {
            Some(Evidence::Contract { .. }) => Signer::Contract(terms.signer),
            Some(Evidence::Key) | None => Signer::Key(terms.signer),
        };
        let accepted = best.map_or(snapshot.totals.accepted, |voucher| voucher.statement().cumulative.max(snapshot.totals.accepted));
        let signature =
            best.filter(|voucher| voucher.statement().cumulative == accepted).map(|voucher| voucher.signature().as_bytes().to_vec());
        let channel = terms.channel;
        self.standing_with(
            Standing { accepted_signature: signature, payer: terms.payer, signer, ..nothing(channel) },
            snapshot.totals,
            accepted,
        )
    }

    /// A standing from what does not change, and totals.
    pub(crate) fn standing_with(&self, base: Standing, totals: EscrowTotals, accepted: CumulativeAmount) -> Standing {
        let OnChain { withdraw_requested_at_secs, refund_nonce } = self.on_chain(&base.channel);
        Standing {
            deposit: totals.deposit,
            announced: totals.announced,
            accepted,
            charged: totals.charged,
            reserved: totals.reserved,
            settled: totals.settled,
            withdraw_requested_at_secs,
            refund_nonce,
            ..base
        }
    }

    /// Whoever waits for a channel.
    pub(crate) async fn watch(&self, channel: EscrowChannelId) -> Result<Option<watch::Receiver<Standing>>, PortError> {
        let Some(standing) = self.standing(channel).await? else { return Ok(None) };
        let receiver = {
            let mut watched = self.watched();
            watched.retain(|_, sender| sender.receiver_count() > 0);
            let receiver = watched.entry(channel).or_insert_with(|| watch::Sender::new(standing)).subscribe();
            self.watched_count.store(u64::try_from(watched.len()).unwrap_or(u64::MAX), Ordering::Release);
            receiver
        };
        // What happened between the look and the entry was told to nobody.
        self.refresh(&[channel]).await?;
        Ok(Some(receiver))
    }

    /// Tells whoever waits.
    pub(crate) fn tell(&self, standing: &Standing) {
        if self.watched_count.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(sender) = self.watched().get(&standing.channel) {
            sender.send_if_modified(|told| {
                let is_new = told != standing;
                told.clone_from(standing);
                is_new
            });
        }
    }

    /// Looks at channels again for whoever waits for them.
    pub(crate) async fn refresh(&self, channels: &[EscrowChannelId]) -> Result<(), PortError> {
        if self.watched_count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        for channel in channels {
            let is_watched = self.watched().contains_key(channel);
            if is_watched && let Some(standing) = self.standing(*channel).await? {
                self.tell(&standing);
            }
        }
        Ok(())
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<EscrowChannelId, watch::Sender<Standing>>> {
        lock(&self.watched)
    }
}

/// A channel of which nothing is known.
pub(crate) fn nothing(channel: EscrowChannelId) -> Standing {
    Standing {
        channel,
        payer: millstream_types::Address::ZERO,
        signer: Signer::Key(millstream_types::Address::ZERO),
        deposit: millstream_types::Amount::ZERO,
        announced: millstream_types::Amount::ZERO,
        accepted: CumulativeAmount::ZERO,
        accepted_signature: None,
        charged: CumulativeAmount::ZERO,
        reserved: millstream_types::Amount::ZERO,
        settled: CumulativeAmount::ZERO,
        withdraw_requested_at_secs: None,
        refund_nonce: 0,
    }
}
