//! A port that forgets: for tests of the gateway alone. What keeps money is durable; this is not.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_gateway::port::{
    Accepted, Capture, Charge, ChargePort, Funded, LogicalId, PortError, PortFuture, Rejection, Release, ReleaseKind, Released,
    ReservationId, Reserve, Reserved, Standing, VoidReason,
};
use millstream_gateway::tender::{ChannelTerms, Tender, TenderVoucher, TotalRule};
use millstream_tariff::{Carry, Cost};
use millstream_types::{Address, Amount, CumulativeAmount, EscrowChannelId};
use millstream_voucher::evm::Signer;
use tokio::sync::watch;

/// What happened, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Reserved(u128),
    Extended(u128),
    Marked(Cost),
    Captured { amount: u128, complete: bool, usage: millstream_tariff::Usage },
    Voided(VoidReason),
}

struct Channel {
    standing: watch::Sender<Standing>,
    carry: Carry,
}

struct Hold {
    channel: EscrowChannelId,
    amount: Amount,
    marked: Cost,
    logical: Option<(LogicalId, [u8; 32])>,
}

#[derive(Default)]
struct State {
    channels: BTreeMap<EscrowChannelId, Channel>,
    holds: BTreeMap<ReservationId, Hold>,
    charged: BTreeMap<(EscrowChannelId, LogicalId), ([u8; 32], Option<Charge>)>,
    events: Vec<Event>,
    numbers: u128,
    unavailable: u32,
}

#[derive(Default)]
pub struct MemoryPort {
    state: Mutex<State>,
}

impl MemoryPort {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A channel with a deposit, as a chain would tell of it.
    pub fn open(&self, channel: EscrowChannelId, payer: Address, signer: Signer, deposit: u128) {
        let deposit = Amount::from_units(deposit);
        let standing = Standing { deposit, announced: deposit, ..nothing(channel, payer, signer) };
        let channel_state = Channel { standing: watch::Sender::new(standing), carry: Carry::ZERO };
        self.lock().channels.insert(channel, channel_state);
    }

    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    pub fn charged(&self, channel: EscrowChannelId) -> u128 {
        self.lock().channels[&channel].standing.borrow().charged.units()
    }

    pub fn reserved(&self, channel: EscrowChannelId) -> u128 {
        self.lock().channels[&channel].standing.borrow().reserved.units()
    }

    /// The next so many calls that write fail.
    pub fn fail_next(&self, calls: u32) {
        self.lock().unavailable = calls;
    }

    /// Resolves when the channel holds nothing any more.
    pub async fn idle(&self, channel: EscrowChannelId) {
        let mut watch = self.lock().channels[&channel].standing.subscribe();
        watch.wait_for(|standing| standing.reserved.is_zero()).await.expect("open");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }

    fn done<T: Send + 'static>(result: Result<T, PortError>) -> PortFuture<'static, T> {
        Box::pin(async move { result })
    }
}

fn nothing(channel: EscrowChannelId, payer: Address, signer: Signer) -> Standing {
    Standing {
        channel,
        payer,
        signer,
        deposit: Amount::ZERO,
        announced: Amount::ZERO,
        accepted: CumulativeAmount::ZERO,
        accepted_signature: None,
        charged: CumulativeAmount::ZERO,
        reserved: Amount::ZERO,
        settled: CumulativeAmount::ZERO,
        withdraw_requested_at_secs: None,
        refund_nonce: 0,
    }
}

impl State {
    fn available(&mut self) -> Result<(), PortError> {
        if self.unavailable > 0 {
            self.unavailable -= 1;
            return Err(PortError::Unavailable { retry_after_millis: 5 });
        }
        Ok(())
    }

    fn fund(&mut self, tender: &Tender) -> Option<Funded> {
        let amount = tender.funding.as_ref()?.amount()?;
        if let Entry::Vacant(vacant) = self.channels.entry(tender.channel) {
            let (payer, signer) = match tender.terms? {
                ChannelTerms::X402(config) => (config.payer, Signer::Key(config.voucher_signer())),
                ChannelTerms::Session(terms) => (terms.payer, Signer::Key(terms.voucher_signer())),
            };
            vacant.insert(Channel { standing: watch::Sender::new(nothing(tender.channel, payer, signer)), carry: Carry::ZERO });
        }
        self.channels[&tender.channel].standing.send_modify(|standing| {
            standing.deposit = standing.deposit.checked_add(amount).expect("small");
            standing.announced = standing.deposit;
        });
        Some(Funded { transaction: format!("0x{}", "ab".repeat(32)), amount })
    }

    fn take(&mut self, tender: &Tender) -> Result<Option<Funded>, PortError> {
        let funded = self.fund(tender);
        let channel = self.channels.get(&tender.channel).ok_or(Rejection::UnknownChannel)?;
        let standing = channel.standing.borrow().clone();
        let Some(voucher) = &tender.voucher else { return Ok(funded) };
        let cumulative = voucher.cumulative();
        if cumulative.units() > standing.deposit.units() {
            return Err(Rejection::AboveDeposit(Box::new(standing)).into());
        }
        match tender.rule {
            TotalRule::Exactly { above_charged } => {
                if !standing.reserved.is_zero() {
                    return Err(Rejection::ChannelBusy(Box::new(standing)).into());
                }
                let expected = standing.charged.checked_add(above_charged).expect("small");
                if cumulative != expected {
                    return Err(Rejection::TotalMismatch { expected, found: cumulative, standing: Box::new(standing) }.into());
                }
            }
            TotalRule::Rising => {}
        }
        let TenderVoucher::Verified(voucher) = voucher else { return Err(Rejection::BadSignature.into()) };
        channel.standing.send_modify(|standing| {
            if cumulative > standing.accepted {
                standing.accepted = cumulative;
                standing.accepted_signature = Some(voucher.signature().as_bytes().to_vec());
            }
        });
        Ok(funded)
    }

    fn reserve(&mut self, reserve: &Reserve) -> Result<Reserved, PortError> {
        self.available()?;
        if let Some(logical) = &reserve.logical {
            match self.charged.get(&(reserve.tender.channel, logical.clone())) {
                Some((fingerprint, _)) if *fingerprint != reserve.fingerprint => return Err(Rejection::IdConflict.into()),
                Some((_, Some(charge))) => return Ok(Reserved::AlreadyCharged(charge.clone())),
                Some((_, None)) => return Err(Rejection::IdInFlight.into()),
                None => {}
            }
        }
        let funded = self.take(&reserve.tender)?;
        let channel = &self.channels[&reserve.tender.channel];
        let before = channel.standing.borrow().clone();
        let available = before.available();
        if available < reserve.at_least {
            let missing = reserve.at_least.checked_sub(available).expect("less");
            let required = before.accepted.checked_add(missing).expect("small");
            return Err(Rejection::Insufficient { required, standing: Box::new(before) }.into());
        }
        let amount = available.min(reserve.ceiling);
        channel.standing.send_modify(|standing| standing.reserved = standing.reserved.checked_add(amount).expect("small"));
        let standing = channel.standing.borrow().clone();
        self.numbers += 1;
        let reservation = ReservationId(self.numbers);
        let logical = reserve.logical.clone().map(|logical| (logical, reserve.fingerprint));
        if let Some((logical, fingerprint)) = &logical {
            self.charged.insert((reserve.tender.channel, logical.clone()), (*fingerprint, None));
        }
        self.holds.insert(reservation, Hold { channel: reserve.tender.channel, amount, marked: Cost::ZERO, logical });
        self.events.push(Event::Reserved(amount.units()));
        Ok(Reserved::Held { reservation, amount, standing, funded })
    }

    fn end(&mut self, reservation: ReservationId) -> Result<Hold, PortError> {
        self.holds.remove(&reservation).ok_or_else(|| PortError::Fault { reason: "no such reservation".into() })
    }
}

impl ChargePort for MemoryPort {
    fn standing(&self, channel: EscrowChannelId) -> PortFuture<'_, Option<Standing>> {
        Self::done(Ok(self.lock().channels.get(&channel).map(|channel| channel.standing.borrow().clone())))
    }

    fn watch(&self, channel: EscrowChannelId) -> PortFuture<'_, watch::Receiver<Standing>> {
        Self::done(self.lock().channels.get(&channel).map(|channel| channel.standing.subscribe()).ok_or(Rejection::UnknownChannel.into()))
    }

    fn reserve(&self, reserve: Reserve) -> PortFuture<'_, Reserved> {
        Self::done(self.lock().reserve(&reserve))
    }

    fn accept(&self, tender: Tender) -> PortFuture<'_, Accepted> {
        let mut state = self.lock();
        let accepted = state.available().and_then(|()| state.take(&tender)).map(|funded| {
            let standing = state.channels[&tender.channel].standing.borrow().clone();
            Accepted { standing, funded }
        });
        Self::done(accepted)
    }

    fn extend(&self, reservation: ReservationId, at_most: Amount) -> PortFuture<'_, Amount> {
        let mut state = self.lock();
        let State { channels, holds, events, .. } = &mut *state;
        let hold = holds.get_mut(&reservation).expect("held");
        let channel = &channels[&hold.channel];
        let available = channel.standing.borrow().available();
        let more = at_most.checked_sub(hold.amount).unwrap_or(Amount::ZERO).min(available);
        if !more.is_zero() {
            hold.amount = hold.amount.checked_add(more).expect("small");
            channel.standing.send_modify(|standing| standing.reserved = standing.reserved.checked_add(more).expect("small"));
            events.push(Event::Extended(hold.amount.units()));
        }
        Self::done(Ok(hold.amount))
    }

    fn mark(&self, reservation: ReservationId, delivered: Cost) -> PortFuture<'_, ()> {
        let mut state = self.lock();
        let result = state.available();
        if result.is_ok() {
            let hold = state.holds.get_mut(&reservation).expect("held");
            assert!(delivered >= hold.marked && delivered.up().expect("small") <= hold.amount, "delivered beyond what is held");
            hold.marked = delivered;
            state.events.push(Event::Marked(delivered));
        }
        Self::done(result)
    }

    fn capture(&self, reservation: ReservationId, capture: Capture) -> PortFuture<'_, Charge> {
        let mut state = self.lock();
        if let Err(error) = state.available() {
            return Self::done(Err(error));
        }
        let hold = match state.end(reservation) {
            Ok(hold) => hold,
            Err(error) => return Self::done(Err(error)),
        };
        let channel = state.channels.get_mut(&hold.channel).expect("open");
        let (amount, carry) = channel.carry.charge_up(capture.cost).expect("small");
        assert!(amount <= hold.amount, "charged beyond what is held");
        channel.carry = carry;
        channel.standing.send_modify(|standing| {
            standing.reserved = standing.reserved.checked_sub(hold.amount).expect("held");
            standing.charged = standing.charged.checked_add(amount).expect("small");
        });
        let standing = channel.standing.borrow().clone();
        let charge = Charge { amount, standing, receipt: format!("rcp_{}", reservation.0) };
        if let Some((logical, fingerprint)) = hold.logical {
            state.charged.insert((hold.channel, logical), (fingerprint, Some(charge.clone())));
        }
        state.events.push(Event::Captured { amount: amount.units(), complete: capture.complete, usage: capture.usage });
        Self::done(Ok(charge))
    }

    fn void(&self, reservation: ReservationId, reason: VoidReason) -> PortFuture<'_, ()> {
        let mut state = self.lock();
        let result = state.end(reservation).map(|hold| {
            if let Some((logical, _)) = hold.logical {
                state.charged.remove(&(hold.channel, logical));
            }
            // First the event, so that whoever waits for the channel to be idle sees it.
            state.events.push(Event::Voided(reason));
            state.channels[&hold.channel]
                .standing
                .send_modify(|standing| standing.reserved = standing.reserved.checked_sub(hold.amount).expect("held"));
        });
        Self::done(result)
    }

    fn release(&self, release: Release) -> PortFuture<'_, Released> {
        let mut state = self.lock();
        if let Err(error) = state.take(&release.tender) {
            return Self::done(Err(error));
        }
        let channel = &state.channels[&release.tender.channel];
        let standing = channel.standing.borrow().clone();
        let free = standing.deposit.checked_sub(standing.charged.as_amount()).expect("covered");
        let amount = match release.kind {
            ReleaseKind::Refund { amount } => amount.unwrap_or(free).min(free),
            ReleaseKind::Close => free,
        };
        channel.standing.send_modify(|standing| {
            standing.deposit = standing.deposit.checked_sub(amount).expect("free");
            standing.announced = standing.deposit;
        });
        let standing = channel.standing.borrow().clone();
        Self::done(Ok(Released { transaction: format!("0x{}", "cd".repeat(32)), amount, standing }))
    }
}
