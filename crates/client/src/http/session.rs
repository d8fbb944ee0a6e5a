//! MPP `evm/session`: channels that many requests draw on at once, by vouchers that only rise, also in the middle of a stream.

use std::sync::Arc;

use http::{Method, StatusCode};
use millstream_chain::session_escrow::{SessionEscrow, SessionPhase};
use millstream_dialect::mpp::{Credential, Funding, NeedVoucher, Offer, ProblemKind, SessionPayload, SessionRequest, Source};
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId, Hash256};
use millstream_voucher::evm::{EscrowDomain, SessionTerms};
use reqwest::Response;
use tokio::sync::{mpsc, watch};

use super::account::{Validity, random_word};
use super::book::{BookError, ChannelRecord, ChannelStatus, Draft, EscrowTerms, Outcome, PendingDeposit, RequestRecord, key_of};
use super::error::{HttpPayError, Refusal, Unsigned};
use super::leave::of_the_chain;
use super::limits::Asked;
use super::offer::{Offers, Quote, Way, credential_header};
use super::payer::{Inner, Prepared, Verdict, no_offer, secs_on, stopped};
use super::problem::Problem;
use super::ticket::{PaymentState, Ticket};
use super::{Asset, AssetLimits, now};

/// Deposits that are tried for one request: the one that was signed before, and a fresh one.
const FUNDINGS_MAX: u8 = 2;
/// Seconds that clocks may differ.
const CLOCK_SECS: u64 = 60;
/// Ids of sessions that the chain is asked about at once.
const SALTS_LOOKED_AT: u64 = 32;

/// A channel on its terms.
#[derive(Clone, Copy)]
struct SessionChannel {
    channel: EscrowChannelId,
    terms: SessionTerms,
    domain: EscrowDomain,
}

/// What goes with a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// An opening is signed when there is no channel yet.
    AsNeeded,
    /// The opening that was signed before goes again.
    Again,
}

/// The salt of the n-th session on equal terms: an id is never used again, so each has another.
pub(super) fn salt(number: u64) -> Hash256 {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    Hash256::from_bytes(word)
}

fn parts(quote: &Quote) -> Option<(&Offer, &SessionRequest)> {
    match &quote.way {
        Way::Session { offer, request } => Some((offer, request)),
        Way::Batch { .. } | Way::Exact { .. } | Way::Charge { .. } => None,
    }
}

/// The total of the next voucher: what is needed, and no step smaller than the server takes.
fn step(signed: CumulativeAmount, needed: CumulativeAmount, min_delta: Option<Amount>) -> Result<CumulativeAmount, HttpPayError> {
    if needed <= signed {
        return Ok(signed);
    }
    let least = signed.checked_add(min_delta.unwrap_or(Amount::ZERO))?;
    Ok(needed.max(least))
}

impl Inner {
    /// The session that is paid on, or the one that is opened, with what is known of it so far. Where the chain can be asked, one that is there
    /// and not in the book is gone on with, and an id that was used is passed over.
    async fn session_of(&self, request: &SessionRequest, prepared: &Prepared) -> Result<(SessionChannel, ChannelRecord), HttpPayError> {
        let domain = request.domain();
        let own = |salt, signer| request.terms(self.account.address(), salt, signer);
        let fits = |record: &ChannelRecord| match record.terms {
            EscrowTerms::Session(terms) => {
                record.chain == domain.chain() && record.contract == domain.contract() && terms == own(terms.salt, terms.authorized_signer)
            }
            EscrowTerms::X402(_) => false,
        };
        let of = |terms: SessionTerms| {
            let (origin, url, method) = (prepared.origin(), prepared.url.as_str(), prepared.method.as_str());
            let record = ChannelRecord::new(domain.chain(), domain.contract(), EscrowTerms::Session(terms), &origin, url, method);
            (SessionChannel { channel: terms.channel_id(&domain), terms, domain }, ChannelRecord { known: true, ..record })
        };
        let (open, mut number) = self.book.sessions(&prepared.origin(), fits);
        if let Some(terms) = open {
            return Ok(of(terms));
        }
        let numbered = |number| own(salt(number), millstream_types::Address::ZERO);
        let Some(rpc) = self.options.rpcs.get(&domain.chain()) else { return Ok(of(numbered(number))) };
        let failed = |error| HttpPayError::Chain(Arc::new(error));
        let contract = SessionEscrow::attach(rpc.clone(), domain.contract()).await.map_err(failed)?;
        loop {
            let some: Vec<SessionTerms> = (number..number.saturating_add(SALTS_LOOKED_AT)).map(numbered).collect();
            let ids: Vec<EscrowChannelId> = some.iter().map(|terms| terms.channel_id(&domain)).collect();
            for (terms, state) in some.into_iter().zip(contract.newest_states(&ids).await.map_err(failed)?) {
                match state.phase {
                    SessionPhase::Absent => return Ok(of(terms)),
                    SessionPhase::Open => {
                        let (channel, record) = of(terms);
                        return Ok((channel, of_the_chain(record, state.deposit, state.settled)));
                    }
                    SessionPhase::Closing { .. } | SessionPhase::Closed => {}
                }
            }
            number = number.saturating_add(SALTS_LOOKED_AT);
        }
    }

    /// The most that can have been spent of a session. Of one that was found on the chain it is not known what was signed: the server's word is
    /// believed as far as one request may cost (P-34).
    pub(super) fn spendable(&self, record: &ChannelRecord) -> CumulativeAmount {
        let limits = self.options.limits.of(record.asset()).filter(|_| !record.known);
        let more = limits.map_or(Amount::ZERO, |(_, limits)| limits.request_max);
        record.signed.checked_add(more).unwrap_or(record.signed)
    }

    pub(super) async fn pay_session(self: &Arc<Self>, quote: Quote, prepared: &Prepared, id: &str) -> Result<Ticket, HttpPayError> {
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (_, request) = parts(&quote).ok_or_else(|| refused(Refusal::NoWay("another scheme")))?;
        let (channel, record) = self.session_of(request, prepared).await?;
        let turn = self.turn(channel.channel).lock_owned().await;
        match self.book.channel(channel.channel) {
            None => self.book.add(channel.channel, record).wait().await?,
            Some(known) if known.origin.is_empty() => {
                self.book.meet(channel.channel, &record.origin, &record.url, &record.method).wait().await?;
            }
            Some(_) => {}
        }
        let (record, deposits) = self.sign_session(&channel, &quote, prepared, id, Plan::AsNeeded, None).await?;
        let before = Some(record.signed_before);
        let mut ticket = Ticket::new(self, record, Some(quote), before);
        (ticket.deposits, ticket.fundings) = (deposits, u8::from(deposits));
        // Others wait for the opening, and for nothing else.
        ticket.funding = Some(turn).filter(|_| deposits);
        Ok(ticket)
    }

    /// Signs a voucher for a request, while the channel's turn is held. `at_least` is a total that the server asks for.
    async fn sign_session(
        self: &Arc<Self>,
        channel: &SessionChannel,
        quote: &Quote,
        prepared: &Prepared,
        id: &str,
        plan: Plan,
        at_least: Option<CumulativeAmount>,
    ) -> Result<(RequestRecord, bool), HttpPayError> {
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (offer, request) = parts(quote).ok_or_else(|| refused(Refusal::NoWay("another scheme")))?;
        let (asset, limits) = self.allowed(quote).map_err(refused)?;
        let key = key_of(id);
        self.takes_off(channel.channel, key, quote.price);
        let needed = |record: &ChannelRecord| -> Result<CumulativeAmount, HttpPayError> {
            let needed = record.charged.checked_add(self.in_flight_of(channel.channel))?;
            step(record.signed, needed.max(at_least.unwrap_or(needed)), request.method_details.min_voucher_delta)
        };
        let result = async {
            let current = self.book.channel(channel.channel).ok_or(HttpPayError::UnknownChannel { channel: channel.channel })?;
            let total = needed(&current)?;
            if !current.funded.is_zero() && total.as_amount() > current.funded {
                self.top_up(channel, quote, prepared, total).await?;
            }
            let room = self.book.deposit_room(quote.asset, limits);
            let mut deposits = false;
            let signed = self.book.sign(channel.channel, &self.rules(limits, prepared), now(), Amount::ZERO, |record| {
                let voucher = needed(record)?;
                let opening = if record.funded.is_zero() {
                    self.opening(channel, record, request, voucher, asset, limits, room, plan)
                        .map_err(|unsigned| unsigned.or_refused(refused))?
                } else {
                    None
                };
                deposits = opening.is_some();
                let signed = self.account.voucher(&channel.domain, channel.channel, voucher)?;
                let payload = match &opening {
                    None => SessionPayload::Voucher { voucher: signed, deposit: None },
                    Some((_, funding)) => SessionPayload::Open {
                        voucher: signed,
                        salt: channel.terms.salt,
                        authorized_signer: channel.terms.authorized_signer,
                        funding: funding.clone(),
                    },
                };
                let request = RequestRecord {
                    id: id.to_owned(),
                    fingerprint: prepared.fingerprint(),
                    origin: prepared.origin(),
                    asset: quote.asset,
                    payee: quote.payee,
                    scheme: quote.scheme(),
                    channel: Some(channel.channel),
                    price: quote.price,
                    signed_before: record.signed,
                    voucher,
                    header: self.credential(offer, quote, &payload)?,
                    made_at: now(),
                    outcome: Outcome::UnderWay,
                };
                Ok(Draft { voucher, deposit: opening.map(|(pending, _)| pending), request })
            });
            let (record, durable) = signed.map_err(|error| stopped(prepared, &quote.name(), error))?;
            durable.wait().await?;
            Ok((record, deposits))
        };
        let result = result.await;
        if result.is_err() {
            // Nothing is under way.
            self.lands(channel.channel, key, true);
        }
        result
    }

    fn credential(&self, offer: &Offer, quote: &Quote, payload: &SessionPayload) -> Result<(String, String), HttpPayError> {
        let credential = Credential {
            offer: offer.clone(),
            source: Some(Source { chain: quote.asset.chain, account: self.account.address() }.to_string()),
            payload: payload.to_object().map_err(HttpPayError::Write)?,
        };
        Ok((credential_header(offer).to_owned(), credential.to_header().map_err(HttpPayError::Write)?))
    }

    fn validity(&self) -> Validity {
        Validity {
            after_secs: now().as_secs_down().saturating_sub(CLOCK_SECS),
            before_secs: secs_on(now(), self.options.signature_secs_max),
        }
    }

    /// The deposit that opens a channel.
    #[allow(clippy::too_many_arguments, reason = "one decision, all of whose grounds are at hand")]
    fn opening(
        &self,
        channel: &SessionChannel,
        record: &ChannelRecord,
        request: &SessionRequest,
        voucher: CumulativeAmount,
        asset: &Asset,
        limits: &AssetLimits,
        room: Amount,
        plan: Plan,
    ) -> Result<Option<(PendingDeposit, Funding)>, Unsigned> {
        if let Some(pending) = &record.pending {
            return match plan {
                Plan::AsNeeded => Ok(None),
                Plan::Again => {
                    let (_, funding) = signed_before(pending)?;
                    Ok(Some((pending.clone(), funding)))
                }
            };
        }
        let amount = self.session_deposit(record, request, voucher.as_amount(), limits, room)?;
        let validity = self.validity();
        let domain = token_domain(asset, request);
        let salt = channel.terms.salt;
        let funding =
            self.account
                .session_funding(request, channel.channel, Some(&channel.terms), &salt, (amount, validity), domain.as_ref())?;
        Ok(Some((pending(amount, validity, &salt, &funding)?, funding)))
    }

    /// What is deposited: what the server suggests, or the multiple of the price, within the limits.
    fn session_deposit(
        &self,
        record: &ChannelRecord,
        request: &SessionRequest,
        shortfall: Amount,
        limits: &AssetLimits,
        room: Amount,
    ) -> Result<Amount, Refusal> {
        let amount = self.deposit_amount(record, shortfall, request.amount, None, limits, room)?;
        let cap = limits.channel_deposit_max.checked_sub(record.free_deposit()).unwrap_or(Amount::ZERO).min(room);
        Ok(request.suggested_deposit.map_or(amount, |suggested| suggested.min(cap).max(amount)))
    }

    /// Adds to the deposit of a channel, while its turn is held.
    async fn top_up(
        self: &Arc<Self>,
        channel: &SessionChannel,
        quote: &Quote,
        prepared: &Prepared,
        total: CumulativeAmount,
    ) -> Result<(), HttpPayError> {
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (offer, request) = parts(quote).ok_or_else(|| refused(Refusal::NoWay("another scheme")))?;
        let (asset, limits) = self.allowed(quote).map_err(refused)?;
        let record = self.book.channel(channel.channel).ok_or(HttpPayError::UnknownChannel { channel: channel.channel })?;
        let ended = |pending: &&PendingDeposit| pending.valid_before_secs.saturating_add(CLOCK_SECS) < now().as_secs_down();
        let (deposit, salt, funding) = match record.pending.as_ref().filter(|pending| !ended(pending)) {
            Some(pending) => {
                let (salt, funding) = signed_before(pending).map_err(HttpPayError::from)?;
                (pending.clone(), salt, funding)
            }
            None => {
                let shortfall = total.as_amount().checked_sub(record.funded)?;
                let room = self.book.deposit_room(quote.asset, limits);
                let amount = self.session_deposit(&record, request, shortfall, limits, room).map_err(refused)?;
                let (validity, salt) = (self.validity(), Hash256::from_bytes(random_word()?));
                let domain = token_domain(asset, request);
                let funding = self.account.session_funding(request, channel.channel, None, &salt, (amount, validity), domain.as_ref())?;
                (pending(amount, validity, &salt, &funding)?, salt, funding)
            }
        };
        let durable =
            self.book.deposit(channel.channel, limits, deposit.clone()).map_err(|error| stopped(prepared, &quote.name(), error))?;
        durable.wait().await?;
        let payload = SessionPayload::TopUp { channel: channel.channel, additional: deposit.amount, salt: Some(salt), funding };
        let header = self.credential(offer, quote, &payload)?;
        let response = self.send(&prepared.bare(Method::HEAD), Some(&header)).await.map_err(HttpPayError::Unreachable)?;
        if !response.status().is_success() {
            let refusal = Refusal::NoWay("the server did not take the deposit");
            tracing::debug!(status = %response.status(), "a top-up was not taken");
            return Err(refused(refusal));
        }
        self.funded(channel.channel, &deposit).wait().await?;
        Ok(())
    }

    /// A deposit is in the channel.
    fn funded(&self, channel: EscrowChannelId, deposit: &PendingDeposit) -> super::book::Durable {
        self.book.update(channel, |record| {
            if record.pending.take_if(|pending| pending == deposit).is_some() {
                record.funded = record.funded.checked_add(deposit.amount).unwrap_or(record.funded);
            }
        })
    }

    /// What follows from an answer to a payment on a session.
    pub(super) async fn judge_session(
        self: &Arc<Self>,
        ticket: &mut Ticket,
        prepared: &Prepared,
        response: Response,
    ) -> Result<Verdict, HttpPayError> {
        let Some(id) = ticket.record.channel else { return Ok(Verdict::Answer(response)) };
        let status = response.status();
        if status.is_success() {
            // A voucher above what was there is taken because the deposit is.
            let record = self.book.channel(id);
            if let Some(pending) = record.and_then(|record| record.pending.filter(|_| ticket.record.voucher.as_amount() > record.funded)) {
                self.funded(id, &pending).wait().await?;
            }
            return Ok(Verdict::Answer(response));
        }
        let judged = [StatusCode::PAYMENT_REQUIRED, StatusCode::GONE, StatusCode::BAD_REQUEST];
        if !judged.contains(&status) {
            return Problem::judge(ticket, response).await;
        }
        let offers = Offers::read(response.headers());
        let lost = |source| HttpPayError::Unanswered { signed: ticket.signed(None), source };
        let (problem, response) = Problem::read(response).await.map_err(lost)?;
        let problem = match problem {
            Some(problem) => problem,
            None if status == StatusCode::PAYMENT_REQUIRED => Problem::default(),
            // A 400 of the resource's own.
            None => return Ok(Verdict::Answer(response)),
        };
        if problem.kind.is_none() && status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Verdict::Answer(response));
        }
        drop(response);
        let Some(record) = self.book.channel(id) else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let EscrowTerms::Session(terms) = record.terms else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let channel = SessionChannel { channel: id, terms, domain: record.domain() };
        let same = |quote: &&Quote| {
            parts(quote).is_some_and(|(_, request)| {
                request.domain() == channel.domain && request.terms(terms.payer, terms.salt, terms.authorized_signer) == terms
            })
        };
        let fresh = offers.quotes.iter().find(same).cloned();
        let Some(quote) = fresh.or_else(|| ticket.quote.clone()) else { return Err(self.refuse(ticket, problem.detail)) };
        self.admit(&quote, prepared, Some(&ticket.record.id)).map_err(|refusal| no_offer(prepared, quote.name(), refusal))?;
        let tried = ticket.fundings;
        match problem.kind {
            Some(ProblemKind::ChannelNotFound | ProblemKind::AmountExceedsDeposit)
                if record.pending.is_some() && !ticket.deposits && tried < FUNDINGS_MAX =>
            {
                self.resign_session(ticket, &channel, quote, prepared, Plan::Again, None).await
            }
            Some(ProblemKind::ChannelFinalized) if tried < FUNDINGS_MAX => {
                self.book.update(id, |record| record.status = ChannelStatus::Closed).wait().await?;
                let request = ticket.record.id.clone();
                ticket.not_taken();
                ticket.funding = None;
                let mut next = self.pay_session(quote, prepared, &request).await?;
                next.fundings = FUNDINGS_MAX;
                *ticket = next;
                Ok(Verdict::Again)
            }
            Some(ProblemKind::InsufficientBalance | ProblemKind::PaymentInsufficient) if !ticket.renewed => {
                // Requests whose cost was never told may have been charged; more than those can account for is not.
                let believed = self.spendable(&record).delta_since(record.signed)?;
                let bound = record.charged.checked_add(self.in_flight_of(id))?.checked_add(record.unresolved)?.checked_add(believed)?;
                match problem.required {
                    Some(required) if required > record.signed && required <= bound => {
                        ticket.renewed = true;
                        self.resign_session(ticket, &channel, quote, prepared, Plan::AsNeeded, Some(required)).await
                    }
                    Some(required) if required > bound && !record.known => {
                        let reason = format!(
                            "it says that {required} has to be signed for, and what was signed before the book was lost is not known: of that, \
                             {bound} is believed. Leave the session by the chain"
                        );
                        Err(self.refuse(ticket, reason))
                    }
                    _ => Err(self.refuse(ticket, problem.detail)),
                }
            }
            Some(ProblemKind::PaymentExpired | ProblemKind::InvalidOffer | ProblemKind::OfferNotFound) if !ticket.renewed => {
                ticket.renewed = true;
                let plan = if ticket.deposits { Plan::Again } else { Plan::AsNeeded };
                self.resign_session(ticket, &channel, quote, prepared, plan, None).await
            }
            _ => {
                let reason = if problem.detail.is_empty() { "payment required".to_owned() } else { problem.detail };
                Err(self.refuse(ticket, reason))
            }
        }
    }

    async fn resign_session(
        self: &Arc<Self>,
        ticket: &mut Ticket,
        channel: &SessionChannel,
        quote: Quote,
        prepared: &Prepared,
        plan: Plan,
        at_least: Option<CumulativeAmount>,
    ) -> Result<Verdict, HttpPayError> {
        let turn = match ticket.funding.take() {
            Some(turn) => turn,
            None => self.turn(channel.channel).lock_owned().await,
        };
        let id = ticket.record.id.clone();
        let (record, deposits) = self.sign_session(channel, &quote, prepared, &id, plan, at_least).await?;
        ticket.fundings = ticket.fundings.saturating_add(u8::from(deposits));
        ticket.funding = Some(turn).filter(|_| deposits);
        ticket.raise(record.price);
        (ticket.record, ticket.deposits, ticket.quote) = (record, deposits, Some(quote));
        Ok(Verdict::Again)
    }

    /// Answers a call for a voucher in the middle of a stream, within what the request may cost.
    async fn answer_call(self: &Arc<Self>, call: &Calls, need: &NeedVoucher) -> Result<(), HttpPayError> {
        let Calls { quote, prepared, record, state, .. } = call;
        let refused = |refusal| no_offer(prepared, quote.name(), refusal);
        let (offer, request) = parts(quote).ok_or_else(|| refused(Refusal::NoWay("another scheme")))?;
        let (_, limits) = self.allowed(quote).map_err(refused)?;
        let id = need.channel_id;
        if record.channel != Some(id) {
            return Err(HttpPayError::UnknownChannel { channel: id });
        }
        let _turn = self.turn(id).lock_owned().await;
        let current = self.book.channel(id).ok_or(HttpPayError::UnknownChannel { channel: id })?;
        let EscrowTerms::Session(terms) = current.terms else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let channel = SessionChannel { channel: id, terms, domain: current.domain() };
        let total = step(current.signed, need.required_cumulative, request.method_details.min_voucher_delta)?;
        let more = total.delta_since(current.signed)?;
        let price = self.held(id, key_of(&record.id)).unwrap_or(record.price).checked_add(more)?;
        // Before a deposit is made for it.
        let asked = Asked { adds: more, price, ..Asked::of(record) };
        self.book.admits(&self.rules(limits, prepared), &asked, now(), true).map_err(refused)?;
        if total.as_amount() > current.funded && current.pending.is_none() {
            self.top_up(&channel, quote, prepared, total).await?;
        }
        let mut header = (String::new(), String::new());
        let signed = self.book.sign(id, &self.rules(limits, prepared), now(), Amount::ZERO, |_| {
            let signed = self.account.voucher(&channel.domain, id, total)?;
            header = self.credential(offer, quote, &SessionPayload::Voucher { voucher: signed, deposit: None })?;
            // The request keeps the payment that it was begun with.
            Ok(Draft { voucher: total, deposit: None, request: RequestRecord { price, ..record.clone() } })
        });
        let (_, durable) = signed.map_err(|error| stopped(prepared, &quote.name(), error))?;
        durable.wait().await?;
        self.takes_off(id, key_of(&record.id), price);
        state.send_modify(|state| state.price = price);
        let response = self.send(prepared, Some(&header)).await.map_err(HttpPayError::Unreachable)?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(refused(Refusal::NoWay("the server did not take the voucher that it asked for")))
    }

    /// Closes a session: the last voucher is over what was charged, the rest comes back.
    pub(super) async fn close(self: &Arc<Self>, id: EscrowChannelId, record: &ChannelRecord) -> Result<Amount, HttpPayError> {
        let EscrowTerms::Session(terms) = record.terms else { return Err(HttpPayError::UnknownChannel { channel: id }) };
        let _turn = self.turn(id).lock_owned().await;
        let prepared = Prepared::for_channel(record)?;
        let response = self.send(&prepared, None).await.map_err(HttpPayError::Unreachable)?;
        let offers = Offers::read(response.headers());
        let same = |quote: &&Quote| {
            parts(quote).is_some_and(|(_, request)| {
                request.domain() == record.domain() && request.terms(terms.payer, terms.salt, terms.authorized_signer) == terms
            })
        };
        let refused = |refusal| no_offer(&prepared, "mpp session".to_owned(), refusal);
        let quote = offers.quotes.iter().find(same).ok_or_else(|| refused(Refusal::NoWay("the server offers no such session")))?;
        let (offer, _) = parts(quote).ok_or_else(|| refused(Refusal::NoWay("another scheme")))?;
        let current = self.book.channel(id).ok_or(HttpPayError::UnknownChannel { channel: id })?;
        // What a server was believed to have charged may be more than is known to be signed.
        self.book.update(id, |record| record.signed = record.signed.max(record.charged)).wait().await?;
        let voucher = self.account.voucher(&record.domain(), id, current.charged)?;
        let header = self.credential(offer, quote, &SessionPayload::Close { voucher })?;
        let response = self.send(&prepared.bare(Method::HEAD), Some(&header)).await.map_err(HttpPayError::Unreachable)?;
        if !response.status().is_success() {
            return Err(refused(Refusal::NoWay("the server did not close the session")));
        }
        let refunded = current.funded.checked_sub(current.charged.as_amount()).unwrap_or(Amount::ZERO);
        let durable = self.book.update(id, |record| {
            record.status = ChannelStatus::Closed;
            record.refunded = record.refunded.checked_add(refunded).unwrap_or(record.refunded);
            record.funded = record.funded.checked_sub(refunded).unwrap_or(Amount::ZERO);
        });
        durable.wait().await?;
        Ok(refunded)
    }
}

/// What calls for vouchers are answered with.
struct Calls {
    quote: Quote,
    prepared: Prepared,
    record: RequestRecord,
    state: watch::Sender<PaymentState>,
}

/// Answers the calls for vouchers of one stream, in order, until it ends.
pub(super) fn answer_calls(payer: &Arc<Inner>, prepared: &Prepared, ticket: &Ticket) -> Option<mpsc::UnboundedSender<NeedVoucher>> {
    let call = Calls {
        quote: ticket.quote.clone()?,
        prepared: prepared.bare(Method::HEAD),
        record: ticket.record.clone(),
        state: ticket.sender(),
    };
    let (sender, mut needs) = mpsc::unbounded_channel::<NeedVoucher>();
    let payer = Arc::clone(payer);
    tokio::spawn(async move {
        while let Some(need) = needs.recv().await {
            if let Err(error) = payer.answer_call(&call, &need).await {
                // The server waits for a while and breaks off; what it delivered is paid.
                tracing::warn!(id = call.record.id, error = %error, "a call for a voucher is not answered");
            }
        }
    });
    Some(sender)
}

/// A channel's deposit as the book keeps it.
fn pending(amount: Amount, validity: Validity, salt: &Hash256, funding: &Funding) -> Result<PendingDeposit, BookError> {
    let json = serde_json::to_string(&(salt, funding)).map_err(|_| BookError::Damaged("a deposit"))?;
    Ok(PendingDeposit { amount, valid_before_secs: validity.before_secs, json })
}

fn signed_before(pending: &PendingDeposit) -> Result<(Hash256, Funding), BookError> {
    serde_json::from_str(&pending.json).map_err(|_| BookError::Damaged("a deposit"))
}

/// The token's own domain where the server takes transfers by signature; otherwise Permit2 is used.
fn token_domain(asset: &Asset, request: &SessionRequest) -> Option<millstream_voucher::evm::TokenDomain> {
    let takes = request.takes(millstream_dialect::mpp::CredentialType::Authorization);
    asset.token_domain(None).filter(|_| takes)
}
