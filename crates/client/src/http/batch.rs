//! x402 `batch-settlement`: channels that are paid one request at a time, each by a voucher of exactly what was charged and the price.

use std::sync::Arc;

use http::StatusCode;
use millstream_chain::x402::BatchSettlement;
use millstream_dialect::Object;
use millstream_dialect::x402::{
    BatchOffer, BatchPayload, Deposit, PAYMENT_IDENTIFIER, PAYMENT_RESPONSE_ACCEPTED, PAYMENT_SIGNATURE, PaymentPayload, PaymentRequired,
    PaymentRequirements, Reason, SettleResponse, VERSION, VoucherFields, VoucherState, batch_domain,
};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{ChannelConfig, EscrowDomain, EscrowVoucher};
use reqwest::Response;
use tokio::sync::OwnedMutexGuard;

use super::account::Validity;
use super::asset::{Asset, AssetLimits};
use super::book::{ChannelRecord, ChannelStatus, Draft, EscrowTerms, Outcome, PendingDeposit, RequestRecord};
use super::error::{HttpPayError, Limit, Refusal, Unsigned};
use super::leave::of_the_chain;
use super::now;
use super::offer::{Offers, Quote, Way};
use super::payer::{Inner, Prepared, Verdict, no_offer, payment_id, secs_on, stopped};
use super::problem::Problem;
use super::ticket::Ticket;

/// Deposits that are tried for one request: the one that was signed before, and a fresh one.
const FUNDINGS_MAX: u8 = 2;
/// Seconds that a payment is good for beyond what the server asks.
const SPARE_SECS: u64 = 60;
/// Seconds that clocks may differ.
const CLOCK_SECS: u64 = 60;

/// A channel on its terms.
#[derive(Clone, Copy)]
pub(super) struct BatchChannel {
    pub(super) channel: EscrowChannelId,
    pub(super) config: ChannelConfig,
    pub(super) domain: EscrowDomain,
}

/// What becomes of the deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// One is signed when the channel has too little.
    AsNeeded,
    /// The one that was signed before goes with the voucher.
    Again,
}

/// What a server says of a channel, as far as it is proved.
struct Correction {
    charged: CumulativeAmount,
    proven: Option<CumulativeAmount>,
    balance: Amount,
}

/// The salt of a payee's n-th channel. Zero is what other clients use; from the number an account finds its channels again.
fn salt(lane: u16) -> Hash256 {
    let mut word = [0; 32];
    word[30..].copy_from_slice(&lane.to_be_bytes());
    Hash256::from_bytes(word)
}

/// The `payload` of x402 in its envelope.
pub(super) fn envelope(
    required: &PaymentRequired,
    chosen: &PaymentRequirements,
    payload: Object,
    id: &str,
) -> Result<(String, String), HttpPayError> {
    let mut accepted = chosen.clone();
    // What a correction adds is no part of the offer.
    let kept = |(key, _): &(&String, _)| *key != "channelState" && *key != "voucherState";
    accepted.extra = chosen.extra.fields().iter().filter(kept).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut extensions = Object::default();
    if let Some(offered) = required.extensions.get(PAYMENT_IDENTIFIER) {
        extensions.insert(PAYMENT_IDENTIFIER, offered.clone());
        payment_id(id)?.put_into(&mut extensions);
    }
    let payment = PaymentPayload { x402_version: VERSION, resource: Some(required.resource.clone()), accepted, payload, extensions };
    Ok((PAYMENT_SIGNATURE.to_ascii_lowercase(), payment.to_header().map_err(HttpPayError::Write)?))
}

/// Whether a payment of x402 has a deposit in it.
pub(super) fn brings_deposit(header: &str) -> bool {
    let payload = PaymentPayload::from_header(header).and_then(|payment| BatchPayload::from_object(&payment.payload));
    payload.is_ok_and(|payload| matches!(payload, BatchPayload::Deposit { .. }))
}

impl Inner {
    /// The n-th channel on an offer.
    fn batch_channel(&self, offer: &BatchOffer, lane: u16) -> Result<BatchChannel, Refusal> {
        let domain = batch_domain(offer.chain);
        let config = offer.config(self.account.address(), self.account.address(), salt(lane));
        if !config.delay_in_range() {
            return Err(Refusal::NoWay("its withdrawal delay is one that the contract refuses"));
        }
        let channel = config.channel_id(&domain).map_err(|_| Refusal::NoWay("its withdrawal delay is out of range"))?;
        Ok(BatchChannel { channel, config, domain })
    }

    /// Signs for a request, once it has its turn on a channel.
    pub(super) async fn pay_batch(self: &Arc<Self>, quote: Quote, prepared: &Prepared, id: &str) -> Result<Ticket, HttpPayError> {
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let Way::Batch { offer, .. } = &quote.way else { return Err(refused(Refusal::NoWay("another scheme"))) };
        let (channel, lane) = self.batch_lane(offer).await.map_err(refused)?;
        self.know(&channel, prepared).await?;
        let known = self.book.channel(channel.channel).filter(|record| record.known);
        let before = known.map(|record| record.signed);
        let (record, deposits) = self.sign_batch(&channel, &quote, prepared, id, Plan::AsNeeded, before).await?;
        let mut ticket = Ticket::new(self, record, Some(quote), before);
        ticket.lane = Some(lane);
        ticket.deposits = deposits;
        ticket.fundings = u8::from(deposits);
        Ok(ticket)
    }

    /// The first channel that is idle, another one while fewer than allowed are open, or the turn on the first.
    async fn batch_lane(&self, offer: &BatchOffer) -> Result<(BatchChannel, OwnedMutexGuard<()>), Refusal> {
        let first = self.batch_channel(offer, 0)?;
        for lane in 0..self.options.channels_per_payee.clamp(1, 64) {
            let channel = if lane == 0 { first } else { self.batch_channel(offer, lane)? };
            if let Ok(guard) = self.turn(channel.channel).try_lock_owned() {
                return Ok((channel, guard));
            }
        }
        let guard = self.turn(first.channel).lock_owned().await;
        Ok((first, guard))
    }

    /// Puts a channel into the book that is not there. Where the chain can be asked, what is on it is not deposited again.
    async fn know(&self, channel: &BatchChannel, prepared: &Prepared) -> Result<(), HttpPayError> {
        if let Some(known) = self.book.channel(channel.channel) {
            if known.origin.is_empty() {
                let (origin, url, method) = (prepared.origin(), prepared.url.as_str(), prepared.method.as_str());
                self.book.meet(channel.channel, &origin, url, method).wait().await?;
            }
            return Ok(());
        }
        let terms = EscrowTerms::X402(channel.config);
        let (chain, contract) = (channel.domain.chain(), channel.domain.contract());
        let mut record = ChannelRecord::new(chain, contract, terms, &prepared.origin(), prepared.url.as_str(), prepared.method.as_str());
        if let Some(rpc) = self.options.rpcs.get(&chain) {
            let failed = |error| HttpPayError::Chain(Arc::new(error));
            let contract = BatchSettlement::attach(rpc.clone()).await.map_err(failed)?;
            let state = contract.newest_state(channel.channel).await.map_err(failed)?;
            record = of_the_chain(record, state.balance, state.claimed);
        }
        Ok(self.book.add(channel.channel, record).wait().await?)
    }

    async fn sign_batch(
        &self,
        channel: &BatchChannel,
        quote: &Quote,
        prepared: &Prepared,
        id: &str,
        plan: Plan,
        before: Option<CumulativeAmount>,
    ) -> Result<(RequestRecord, bool), HttpPayError> {
        let Way::Batch { required, chosen, offer } = &quote.way else {
            return Err(no_offer(prepared, quote.name(), Refusal::NoWay("another scheme")));
        };
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (asset, limits) = self.allowed(quote).map_err(refused)?;
        let room = self.book.deposit_room(quote.asset, limits);
        let mut deposits = false;
        let signed = self.book.sign(channel.channel, &self.rules(limits, prepared), now(), Amount::ZERO, |record| {
            let voucher = record.charged.checked_add(quote.price)?;
            let deposit = self
                .batch_funding(channel, record, offer, voucher, asset, limits, room, plan)
                .map_err(|unsigned| unsigned.or_refused(refused))?;
            deposits = deposit.is_some();
            let signed = self.account.voucher(&channel.domain, channel.channel, voucher)?;
            let (channel_config, voucher_fields) = (channel.config.into(), VoucherFields::of(&signed));
            let payload = match &deposit {
                None => BatchPayload::Voucher { channel_config, voucher: voucher_fields },
                Some((_, deposit)) => BatchPayload::Deposit { channel_config, voucher: voucher_fields, deposit: deposit.clone() },
            };
            let header = envelope(required, chosen, payload.to_object().map_err(HttpPayError::Write)?, id)?;
            let request = RequestRecord {
                id: id.to_owned(),
                fingerprint: prepared.fingerprint(),
                origin: prepared.origin(),
                asset: quote.asset,
                payee: quote.payee,
                scheme: quote.scheme(),
                channel: Some(channel.channel),
                price: quote.price,
                signed_before: before.unwrap_or(CumulativeAmount::ZERO),
                voucher,
                header,
                made_at: now(),
                outcome: Outcome::UnderWay,
            };
            Ok(Draft { voucher, deposit: deposit.map(|(pending, _)| pending), request })
        });
        let (record, durable) = signed.map_err(|error| stopped(prepared, &quote.name(), error))?;
        durable.wait().await?;
        Ok((record, deposits))
    }

    /// The deposit that goes with a voucher, if one does.
    #[allow(clippy::too_many_arguments, reason = "one decision, all of whose grounds are at hand")]
    fn batch_funding(
        &self,
        channel: &BatchChannel,
        record: &ChannelRecord,
        offer: &BatchOffer,
        voucher: CumulativeAmount,
        asset: &Asset,
        limits: &AssetLimits,
        room: Amount,
        plan: Plan,
    ) -> Result<Option<(PendingDeposit, Deposit)>, Unsigned> {
        let Ok(shortfall) = voucher.as_amount().checked_sub(record.funded) else { return Ok(None) };
        if shortfall.is_zero() {
            return Ok(None);
        }
        if let Some(pending) = record.pending.as_ref().filter(|pending| pending.amount >= shortfall) {
            return match plan {
                // It may be in the channel already; the server says so by taking the voucher.
                Plan::AsNeeded => Ok(None),
                Plan::Again => {
                    let deposit = serde_json::from_str(&pending.json).map_err(|_| super::book::BookError::Damaged("a deposit"))?;
                    Ok(Some((pending.clone(), deposit)))
                }
            };
        }
        let amount = self.deposit_amount(record, shortfall, offer.amount, offer.extra.min_deposit, limits, room)?;
        let until = offer.max_timeout_secs.saturating_add(SPARE_SECS).min(self.options.signature_secs_max);
        let validity = Validity { after_secs: now().as_secs_down().saturating_sub(CLOCK_SECS), before_secs: secs_on(now(), until) };
        let by_permit = offer.extra.asset_transfer_method == Some(millstream_dialect::x402::TransferMethod::Permit2);
        let domain = asset.token_domain(Some((&offer.extra.name, &offer.extra.version))).filter(|_| !by_permit);
        let deposit = self.account.batch_deposit(&channel.config, &channel.domain, channel.channel, amount, domain.as_ref(), validity)?;
        let json = serde_json::to_string(&deposit).map_err(|_| super::book::BookError::Damaged("a deposit"))?;
        Ok(Some((PendingDeposit { amount, valid_before_secs: validity.before_secs, json }, deposit)))
    }

    /// How much is deposited: the multiple of the price that is set, as far as limits let it; at least what is short and what the server takes.
    pub(super) fn deposit_amount(
        &self,
        record: &ChannelRecord,
        shortfall: Amount,
        price: Amount,
        deposit_min: Option<Amount>,
        limits: &AssetLimits,
        room: Amount,
    ) -> Result<Amount, Refusal> {
        let free = record.free_deposit();
        let cap = limits.channel_deposit_max.checked_sub(free).unwrap_or(Amount::ZERO).min(room);
        let wanted = price.checked_mul(self.options.deposit_multiple.clamp(1, 1_000)).unwrap_or(cap).max(shortfall);
        if shortfall > cap {
            let wanted = free.checked_add(shortfall).unwrap_or(shortfall);
            let limit = if room < shortfall { Limit::Deposits } else { Limit::ChannelDeposit };
            let max = if room < shortfall { limits.deposits_max } else { limits.channel_deposit_max };
            return Err(Refusal::Limit { limit, max, wanted });
        }
        let amount = wanted.min(cap);
        match deposit_min {
            Some(min) if min > cap => Err(Refusal::DepositMin { wanted: min, max: cap }),
            Some(min) => Ok(amount.max(min)),
            None => Ok(amount),
        }
    }

    /// What follows from an answer to a payment on a channel.
    pub(super) async fn judge_batch(
        self: &Arc<Self>,
        ticket: &mut Ticket,
        prepared: &Prepared,
        response: Response,
    ) -> Result<Verdict, HttpPayError> {
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Problem::judge(ticket, response).await;
        }
        let offers = Offers::read(response.headers());
        let reason = offers.reason.clone().or_else(|| settle_reason(&response)).unwrap_or_else(|| "payment required".to_owned());
        drop(response);
        let known = reason.parse::<Reason>().ok();
        if known == Some(Reason::BatchChannelBusy) {
            return Ok(Verdict::Wait);
        }
        let Some(id) = ticket.record.channel else { return Err(self.refuse(ticket, reason)) };
        let Some(record) = self.book.channel(id) else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let EscrowTerms::X402(config) = record.terms else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let channel = BatchChannel { channel: id, config, domain: record.domain() };
        let same = |quote: &&Quote| match &quote.way {
            Way::Batch { offer, .. } => offer.config(config.payer, config.payer_authorizer, config.salt) == config,
            _ => false,
        };
        let Some(quote) = offers.quotes.iter().find(same).cloned() else { return Err(self.refuse(ticket, reason)) };
        self.admit(&quote, prepared, Some(&ticket.record.id)).map_err(|refusal| no_offer(prepared, quote.name(), refusal))?;
        let correction = self.correction(&channel, &quote, ticket, &record)?;
        let base = ticket.record.voucher.as_amount().checked_sub(ticket.record.price)?;
        if let Some(correction) = &correction
            && correction.charged.as_amount() != base
        {
            self.adopt(&channel, correction, ticket, &record).await?;
            return self.resign(ticket, &channel, quote, prepared, Plan::AsNeeded).await;
        }
        if quote.price != ticket.record.price {
            return self.resign(ticket, &channel, quote, prepared, Plan::AsNeeded).await;
        }
        let unfunded = matches!(
            known,
            Some(
                Reason::BatchChannelNotFound
                    | Reason::BatchCumulativeExceedsBalance
                    | Reason::BatchInsufficientBalance
                    | Reason::BatchMissingChannel
                    | Reason::BatchRefundNoBalance
            )
        );
        let refused_deposit = ticket.deposits
            && matches!(known, Some(Reason::BatchDepositSimulationFailed | Reason::BatchDepositTransactionFailed))
            && ticket.resumed;
        if refused_deposit && record.pending.is_some() {
            // It was signed before and is not taken: perhaps because it was.
            let _ = self.book.update(id, |record| {
                if let Some(pending) = record.pending.take() {
                    record.funded = record.funded.checked_add(pending.amount).unwrap_or(record.funded);
                }
            });
            return self.resign(ticket, &channel, quote, prepared, Plan::AsNeeded).await;
        }
        if unfunded && !ticket.deposits && ticket.fundings < FUNDINGS_MAX {
            let balance = correction.map_or(Amount::ZERO, |correction| correction.balance);
            let plan = self.defund(id, balance, &record).await?;
            return self.resign(ticket, &channel, quote, prepared, plan).await;
        }
        Err(self.refuse(ticket, reason))
    }

    /// The channel has less than was believed: a deposit did not come, or was taken out.
    async fn defund(&self, channel: EscrowChannelId, balance: Amount, record: &ChannelRecord) -> Result<Plan, HttpPayError> {
        let ended = record
            .pending
            .as_ref()
            .is_some_and(|pending| pending.valid_before_secs.saturating_add(CLOCK_SECS) < now().as_secs_down());
        let durable = self.book.update(channel, |record| {
            record.funded = record.funded.min(balance);
            if ended && let Some(pending) = record.pending.take() {
                // Nobody can use it any more, and it was not used.
                record.deposited = record.deposited.checked_sub(pending.amount).unwrap_or(Amount::ZERO);
            }
        });
        durable.wait().await?;
        Ok(if record.pending.is_some() && !ended { Plan::Again } else { Plan::AsNeeded })
    }

    /// What the server says of the channel, if it says something, and as far as it is proved.
    fn correction(
        &self,
        channel: &BatchChannel,
        quote: &Quote,
        ticket: &Ticket,
        record: &ChannelRecord,
    ) -> Result<Option<Correction>, HttpPayError> {
        let Way::Batch { offer, .. } = &quote.way else { return Ok(None) };
        let Some(state) = offer.extra.channel_state.as_ref().filter(|state| state.channel_id == channel.channel) else { return Ok(None) };
        let Some(charged) = state.charged_cumulative_amount else { return Ok(None) };
        let mut proven = None;
        if let Some(VoucherState { signed_max_claimable: Some(cumulative), signature: Some(signature) }) = &offer.extra.voucher_state {
            let voucher = EscrowVoucher { channel: channel.channel, cumulative: *cumulative };
            let signed = millstream_voucher::evm::Signed::new(voucher, signature.clone());
            if signed.verify(&channel.domain, channel.config.voucher_signer()).is_err() {
                let claim = HttpPayError::FalseClaim { channel: channel.channel, claimed: charged, bound: record.charged };
                ticket.suspend(channel.channel, "it shows a signature that is not ours");
                return Err(claim);
            }
            proven = Some(*cumulative);
        }
        Ok(Some(Correction { charged, proven, balance: state.balance }))
    }

    /// Goes on from what the server says, if that can be. More than was charged before is believed with our own signature over it; nothing of
    /// this request's own voucher can have been charged while the request is refused.
    async fn adopt(
        &self,
        channel: &BatchChannel,
        correction: &Correction,
        ticket: &Ticket,
        record: &ChannelRecord,
    ) -> Result<(), HttpPayError> {
        let Correction { charged, proven, balance } = *correction;
        if charged > record.charged {
            // A signature of ours that is not in the book: the book is older than it.
            let forgotten = proven.is_some_and(|proven| proven > record.signed);
            let bound = match (ticket.before, proven) {
                (_, None) => record.charged,
                (Some(before), Some(_)) if !forgotten => before.max(record.charged),
                (_, Some(proven)) => proven,
            };
            if charged > bound {
                if charged <= ticket.record.voucher && proven.is_some_and(|proven| charged <= proven) {
                    let own = charged.delta_since(bound).ok();
                    self.book.update(channel.channel, |record| record.charged = charged).wait().await?;
                    return Err(HttpPayError::ChargedNotAnswered { signed: ticket.signed(own) });
                }
                ticket.suspend(channel.channel, "it claims to have charged more than was signed");
                return Err(HttpPayError::FalseClaim { channel: channel.channel, claimed: charged, bound });
            }
        }
        let durable = self.book.update(channel.channel, |record| {
            record.charged = charged;
            record.signed = record.signed.max(proven.unwrap_or(CumulativeAmount::ZERO));
            if !record.known {
                // What is there was deposited by this account, whether or not it is remembered.
                record.funded = record.funded.max(balance);
                record.deposited = record.deposited.max(balance);
            }
            record.known = true;
            if record
                .pending
                .as_ref()
                .is_some_and(|pending| record.funded.checked_add(pending.amount).is_ok_and(|both| balance >= both))
                && let Some(pending) = record.pending.take()
            {
                record.funded = record.funded.checked_add(pending.amount).unwrap_or(record.funded);
            }
        });
        durable.wait().await?;
        Ok(())
    }

    async fn resign(
        &self,
        ticket: &mut Ticket,
        channel: &BatchChannel,
        quote: Quote,
        prepared: &Prepared,
        plan: Plan,
    ) -> Result<Verdict, HttpPayError> {
        let id = ticket.record.id.clone();
        let (record, deposits) = self.sign_batch(channel, &quote, prepared, &id, plan, ticket.before).await?;
        ticket.fundings = ticket.fundings.saturating_add(u8::from(deposits));
        ticket.raise(record.price);
        (ticket.record, ticket.deposits, ticket.resumed, ticket.quote) = (record, deposits, plan == Plan::Again, Some(quote));
        Ok(Verdict::Again)
    }

    /// The server took no payment.
    pub(super) fn refuse(&self, ticket: &mut Ticket, reason: String) -> HttpPayError {
        ticket.not_taken();
        HttpPayError::NotTaken { signed: ticket.signed(None), reason }
    }

    /// Asks a server of x402 for what is left of a channel, or a part of it.
    pub(super) async fn refund(
        self: &Arc<Self>,
        id: EscrowChannelId,
        record: &ChannelRecord,
        config: ChannelConfig,
        amount: Option<Amount>,
    ) -> Result<Amount, HttpPayError> {
        let _lane = self.turn(id).lock_owned().await;
        let prepared = Prepared::for_channel(record)?;
        let channel = BatchChannel { channel: id, config, domain: record.domain() };
        let mut corrected = false;
        loop {
            let response = self.send(&prepared, None).await.map_err(HttpPayError::Unreachable)?;
            let offers = Offers::read(response.headers());
            let same = |quote: &&Quote| match &quote.way {
                Way::Batch { offer, .. } => offer.config(config.payer, config.payer_authorizer, config.salt) == config,
                _ => false,
            };
            let refused = |refusal| no_offer(&prepared, "x402 batch-settlement".to_owned(), refusal);
            let quote =
                offers.quotes.iter().find(same).cloned().ok_or_else(|| refused(Refusal::NoWay("the server offers no such channel")))?;
            let Way::Batch { required, chosen, .. } = &quote.way else { return Err(refused(Refusal::NoWay("another scheme"))) };
            let charged = self.book.channel(id).map_or(record.charged, |record| record.charged);
            // Nothing above what was charged is signed, so there is nothing to write down first.
            let signed = self.account.voucher(&channel.domain, id, charged)?;
            let payload = BatchPayload::Refund { channel_config: config.into(), voucher: VoucherFields::of(&signed), amount };
            let request_id = format!("refund_{}", Hash256::from_bytes(super::account::random_word()?));
            let header = envelope(required, chosen, payload.to_object().map_err(HttpPayError::Write)?, &request_id)?;
            let response = self.send(&prepared, Some(&header)).await.map_err(HttpPayError::Unreachable)?;
            if let Some(settled) = settle_response(&response).filter(|settled| settled.success && response.status().is_success()) {
                let amount = settled.amount.as_deref().and_then(|amount| millstream_types::parse_base_units(amount).ok());
                let free = record.funded.checked_sub(charged.as_amount()).unwrap_or(Amount::ZERO);
                // No server can give back more than is there.
                let refunded = amount.unwrap_or(free).min(free);
                let durable = self.book.update(id, |record| {
                    record.funded = record.funded.checked_sub(refunded).unwrap_or(Amount::ZERO);
                    record.refunded = record.refunded.checked_add(refunded).unwrap_or(record.refunded);
                    if record.funded <= record.charged.as_amount() {
                        record.status = ChannelStatus::Closed;
                    }
                });
                durable.wait().await?;
                return Ok(refunded);
            }
            let offers = Offers::read(response.headers());
            let reason =
                offers.reason.clone().or_else(|| settle_reason(&response)).unwrap_or_else(|| format!("status {}", response.status()));
            let state = RequestRecord {
                id: request_id,
                fingerprint: prepared.fingerprint(),
                origin: record.origin.clone(),
                asset: record.asset(),
                payee: config.receiver,
                scheme: record.terms.scheme(),
                channel: Some(id),
                price: Amount::ZERO,
                signed_before: record.signed,
                voucher: charged,
                header: (String::new(), String::new()),
                made_at: now(),
                outcome: Outcome::NotTaken,
            };
            let ticket = Ticket::new(self, state, None, Some(record.signed).filter(|_| record.known));
            let Some(quote) = offers.quotes.iter().find(same) else {
                return Err(HttpPayError::NotTaken { signed: ticket.signed(None), reason });
            };
            let current = self.book.channel(id).ok_or(HttpPayError::UnknownChannel { channel: id })?;
            match self.correction(&channel, quote, &ticket, &current)? {
                Some(correction) if correction.charged != charged && !corrected => {
                    self.adopt(&channel, &correction, &ticket, &current).await?;
                    corrected = true;
                }
                _ => return Err(HttpPayError::NotTaken { signed: ticket.signed(None), reason }),
            }
        }
    }
}

/// What a response says of a payment, if it does.
pub(super) fn settle_response(response: &Response) -> Option<SettleResponse> {
    let header = PAYMENT_RESPONSE_ACCEPTED.into_iter().find_map(|name| response.headers().get(name))?;
    SettleResponse::from_header(header.to_str().ok()?).ok()
}

pub(super) fn settle_reason(response: &Response) -> Option<String> {
    settle_response(response)?.error_reason
}
