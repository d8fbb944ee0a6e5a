//! One payment on its way: what was signed, and what comes back for it.

use std::sync::Arc;

use millstream_dialect::mpp::Receipt;
use millstream_dialect::x402::{BatchResponseExtra, SettleResponse};
use millstream_policy::Ended;
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId, Hash256};
use tokio::sync::{OwnedMutexGuard, watch};

use super::asset::AssetId;
use super::book::{ChannelStatus, Outcome, RequestRecord, Scheme, key_of};
use super::error::Signed;
use super::now;
use super::offer::Quote;
use super::payer::Inner;

/// A payment as it stands. Amounts in base units of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentState {
    /// The request's id.
    pub id: String,
    /// How it is paid.
    pub scheme: Scheme,
    /// The token.
    pub asset: AssetId,
    /// Who is paid.
    pub payee: Address,
    /// The channel; none for a single payment.
    pub channel: Option<EscrowChannelId>,
    /// What was signed for the request, its streams included: it cannot cost more.
    pub price: Amount,
    /// What it cost, once the server has said so.
    pub charged: Option<Amount>,
    /// A deposit that was made on the way.
    pub deposited: Option<Amount>,
    /// The transaction that the server names, if it names one.
    pub transaction: Option<String>,
    /// What is wrong with the server's receipt, if something is. The channel is not paid any more then.
    pub disputed: Option<String>,
    /// Whether nothing more will be learned here.
    pub complete: bool,
}

/// The payment of an answer: in the answer's extensions. What a stream costs is known at its end.
#[derive(Clone, Debug)]
pub struct Payment(watch::Receiver<PaymentState>);

impl Payment {
    /// As it stands.
    #[must_use]
    pub fn state(&self) -> PaymentState {
        self.0.borrow().clone()
    }

    /// As it stands when the answer's body has been read to its end, or dropped.
    pub async fn settled(&self) -> PaymentState {
        let mut watch = self.0.clone();
        match watch.wait_for(|state| state.complete).await {
            Ok(state) => state.clone(),
            // Whoever would have said more is gone.
            Err(_) => self.state(),
        }
    }
}

/// A payment on its way. Dropped without a receipt, its cost stays unknown.
pub(super) struct Ticket {
    pub(super) payer: Arc<Inner>,
    pub(super) record: RequestRecord,
    pub(super) quote: Option<Quote>,
    /// The channel's turn, where only one request may be under way.
    pub(super) lane: Option<OwnedMutexGuard<()>>,
    /// The first opening or top-up of a session that others wait for.
    pub(super) funding: Option<OwnedMutexGuard<()>>,
    /// What was signed on the channel before this request had anything signed; nothing where that is not known.
    pub(super) before: Option<CumulativeAmount>,
    /// Deposits that were tried for this request.
    pub(super) fundings: u8,
    /// Whether it was signed anew for a fresh offer or a total that the server asked for: once is enough.
    pub(super) renewed: bool,
    /// Whether the payment that was sent last has a deposit in it.
    pub(super) deposits: bool,
    /// Whether that deposit was sent before, with another request or by another process: what became of it is not known.
    pub(super) resumed: bool,
    /// How it ends, for the policy's breaker of errors.
    pub(super) ended: Ended,
    state: watch::Sender<PaymentState>,
    told: bool,
}

impl Ticket {
    pub(super) fn new(payer: &Arc<Inner>, record: RequestRecord, quote: Option<Quote>, before: Option<CumulativeAmount>) -> Self {
        let state = PaymentState {
            id: record.id.clone(),
            scheme: record.scheme,
            asset: record.asset,
            payee: record.payee,
            channel: record.channel,
            price: record.price,
            charged: None,
            deposited: None,
            transaction: None,
            disputed: None,
            complete: false,
        };
        Self {
            payer: Arc::clone(payer),
            record,
            quote,
            lane: None,
            funding: None,
            before,
            fundings: 0,
            renewed: false,
            deposits: false,
            resumed: false,
            ended: Ended::Unknown,
            state: watch::Sender::new(state),
            told: false,
        }
    }

    pub(super) fn key(&self) -> Hash256 {
        key_of(&self.record.id)
    }

    pub(super) fn payment(&self) -> Payment {
        Payment(self.state.subscribe())
    }

    pub(super) fn sender(&self) -> watch::Sender<PaymentState> {
        self.state.clone()
    }

    pub(super) const fn is_told(&self) -> bool {
        self.told
    }

    /// For errors.
    pub(super) fn signed(&self, charged: Option<Amount>) -> Box<Signed> {
        Box::new(Signed {
            id: self.record.id.clone(),
            asset: self.record.asset,
            channel: self.record.channel,
            price: self.record.price,
            charged,
        })
    }

    /// More was signed for the same request.
    pub(super) fn raise(&mut self, price: Amount) {
        self.record.price = price;
        self.state.send_modify(|state| state.price = price);
    }

    /// A receipt of x402: header, trailer or event. What cannot be read says nothing.
    pub(super) fn receipt_x402(&mut self, text: &str) {
        if self.told {
            return;
        }
        match SettleResponse::from_header(text.trim()) {
            Ok(response) if response.success => match self.record.scheme {
                Scheme::Batch => self.batch_receipt(&response),
                Scheme::Exact => {
                    let transaction = Some(response.transaction.clone()).filter(|hash| !hash.is_empty());
                    self.tell(Some(self.record.price), transaction, None);
                }
                Scheme::Session | Scheme::Charge => {}
            },
            Ok(_) => {}
            Err(error) => tracing::debug!(id = self.record.id, error = %error, "a receipt cannot be read"),
        }
    }

    /// A receipt of MPP: header, trailer or event.
    pub(super) fn receipt_mpp(&mut self, receipt: &Receipt) {
        if self.told {
            return;
        }
        match self.record.scheme {
            Scheme::Session => self.session_receipt(receipt),
            Scheme::Charge => self.tell(Some(self.record.price), Some(receipt.reference.clone()), None),
            Scheme::Batch | Scheme::Exact => {}
        }
    }

    fn batch_receipt(&mut self, response: &SettleResponse) {
        let (Some(channel), Ok(extra)) = (self.record.channel, response.extra.read::<BatchResponseExtra>("extra")) else { return };
        // Each voucher is exactly what was charged and the price.
        let base = self.record.voucher.delta_since(CumulativeAmount::ZERO).and_then(|voucher| voucher.checked_sub(self.record.price));
        let Ok(base) = base else { return };
        let base = CumulativeAmount::from_units(base.units());
        let state = extra.channel_state.as_ref();
        let told = state.and_then(|state| state.charged_cumulative_amount);
        let by_amount = extra.charged_amount.and_then(|charged| base.checked_add(charged).ok());
        let Some(total) = told.or(by_amount) else { return };
        let foreign = state.is_some_and(|state| state.channel_id != channel);
        let wrong = foreign
            || total < base
            || total > self.record.voucher
            || extra.charged_amount.is_some_and(|charged| charged > self.record.price)
            || by_amount.is_some_and(|expected| expected != total);
        let transaction = Some(response.transaction.clone()).filter(|hash| !hash.is_empty());
        if wrong {
            let reason = format!("its receipt says {total} after {base} and a price of {}", self.record.price);
            self.suspend(channel, &reason);
            self.tell(None, transaction, Some(reason));
            return;
        }
        let charged = total.delta_since(base).ok();
        let (deposits, voucher) = (self.deposits, self.record.voucher);
        let deposited = self.payer.book.channel(channel).and_then(|record| record.pending).filter(|_| deposits);
        let _ = self.payer.book.update(channel, |record| {
            record.charged = total;
            record.known = true;
            // A voucher above what was there is taken because the deposit is.
            if (deposits || voucher.as_amount() > record.funded)
                && let Some(pending) = record.pending.take()
            {
                record.funded = record.funded.checked_add(pending.amount).unwrap_or(record.funded);
            }
        });
        if let Some(pending) = deposited {
            self.state.send_modify(|state| state.deposited = Some(pending.amount));
        }
        self.tell(charged, transaction, None);
    }

    fn session_receipt(&mut self, receipt: &Receipt) {
        let Some(channel) = self.record.channel else { return };
        let session = match receipt.session() {
            Ok(session) => session,
            Err(error) => {
                tracing::debug!(id = self.record.id, error = %error, "a receipt cannot be read");
                return;
            }
        };
        let Some(record) = self.payer.book.channel(channel) else { return };
        if session.channel_id != channel || session.spent > self.payer.spendable(&record) {
            let reason = format!("its receipt says that {} was spent of {} signed", session.spent, record.signed);
            self.suspend(channel, &reason);
            self.tell(None, None, Some(reason));
            return;
        }
        let own = receipt
            .more
            .get("charged")
            .and_then(|value| value.as_str())
            .and_then(|text| millstream_types::parse_base_units(text).ok());
        let price = self.payer.held(channel, self.key()).unwrap_or(self.record.price);
        let alone = self.payer.in_flight_of(channel) == price;
        let moved = session.spent.delta_since(record.charged).ok().filter(|_| alone);
        let charged = own.or(moved).filter(|charged| *charged <= price);
        let _ = self.payer.book.update(channel, |record| {
            record.charged = record.charged.max(session.spent);
            record.known = true;
            if alone {
                // Nothing else is under way, so the server has said all there is to say.
                record.unresolved = Amount::ZERO;
            }
        });
        self.tell(charged, session.tx_hash.map(|hash| hash.to_string()), None);
    }

    pub(super) fn suspend(&self, channel: EscrowChannelId, reason: &str) {
        tracing::warn!(channel = %channel, reason, "a channel is not paid any more");
        let _ = self.payer.book.update(channel, |record| record.status = ChannelStatus::Suspended(reason.to_owned()));
    }

    fn tell(&mut self, charged: Option<Amount>, transaction: Option<String>, disputed: Option<String>) {
        self.told = true;
        let _ = self.payer.book.finish(self.key(), charged.map_or(Outcome::Untold, Outcome::Charged));
        self.state.send_modify(|state| {
            state.charged = charged.or(state.charged);
            state.transaction = transaction.or(state.transaction.take());
            state.disputed = disputed;
        });
    }

    /// The server did not take it.
    pub(super) fn not_taken(&mut self) {
        (self.told, self.ended) = (true, Ended::Failed);
        let _ = self.payer.book.finish(self.key(), Outcome::NotTaken);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let key = self.key();
        if self.record.scheme == Scheme::Session
            && let Some(channel) = self.record.channel
        {
            self.payer.lands(channel, key, self.told);
        }
        if !self.told {
            let _ = self.payer.book.finish(key, Outcome::Untold);
        }
        self.payer.book.end(&self.payer.policy, key, now(), self.ended);
        self.state.send_modify(|state| state.complete = true);
    }
}
