//! The payer: a request in, a paid answer out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use millstream_chain::Rpc;
use millstream_dialect::DialectError;
use millstream_dialect::mpp::{IDEMPOTENCY_KEY, IdempotencyKey};
use millstream_dialect::x402::PaymentId;
use millstream_policy::{ConfigError, Ended, Policy, PolicyConfig};
use millstream_types::{Address, Amount, ChainId, EscrowChannelId, Hash256, Timestamp};
use reqwest::{Client, ClientBuilder, Request, Response, ResponseBuilderExt, Url};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::account::PayerAccount;
use super::asset::{Asset, AssetLimits, SpendLimits};
use super::batch::brings_deposit;
use super::body::{PaidBody, receipts};
use super::book::{Admitted, BookError, ChannelRecord, EscrowTerms, Outcome, PaymentBook, Scheme, Stopped, host_of, key_of};
use super::error::{HttpPayError, Refusal};
use super::limits::{Asked, Rules, policy_of};
use super::now;
use super::offer::{Offers, Passed, Quote, Way};
use super::session::answer_calls;
use super::ticket::Ticket;
use super::webhook;

/// Redirects that are followed before anything is paid.
const REDIRECTS_MAX: usize = 5;
/// Rounds of payment and answer for one request: corrections, fresh offers, deposits.
const ROUNDS_MAX: usize = 12;

/// How long a server has for a refund or a close: it waits for its chain.
const CHANNEL_CALL_MAX: Duration = Duration::from_secs(120);

/// Who asks, of several agents that one payer pays for. It does not leave.
const AGENT: &str = "x-millstream-agent";

/// Headers that a payment is in: a request that has one pays by itself.
const OWN_PAYMENT: [&str; 3] = ["payment-signature", "x-payment", "payment-authorization"];

/// Whom a server may be paid for, once it was paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PayeePolicy {
    /// The payees and tokens that it was paid for before, and those that are named here.
    #[default]
    Known,
    /// Anyone.
    Any,
}

/// Settings of a payer.
#[derive(Clone, Debug)]
pub struct HttpPayerOptions {
    /// The tokens that may be paid with, and what may be spent.
    pub limits: SpendLimits,
    /// What else is refused, held or noted: budgets by agent, payee and category, rates, lists, approvals, breakers. The limits above come
    /// first, and hold in any case.
    pub policy: PolicyConfig,
    /// Who spends, in budgets, breakers and sub-budgets. Empty: the account. A request's own `x-millstream-agent` wins, and does not leave.
    pub agent: String,
    /// How long a request waits for its approval by itself. Zero: it fails at once, and goes on when it is asked again.
    pub approval_wait: Duration,
    /// Schemes, the preferred first; one that is not named is not used.
    pub schemes: Vec<Scheme>,
    /// Who may be paid beside those that a host was paid for before.
    pub payees: PayeePolicy,
    /// Payees that any host may be paid for.
    pub payees_allowed: BTreeSet<Address>,
    /// A deposit is this many times the price, where limits and the server's minimum let it. 1 to 1,000.
    pub deposit_multiple: u64,
    /// Seconds for which the signature of a deposit or a transfer is good, at most.
    pub signature_secs_max: u64,
    /// Channels of x402 for one payee: each pays one request at a time. 1 to 64.
    pub channels_per_payee: u16,
    /// Bytes of a request's body that are kept to send it again.
    pub body_bytes_max: usize,
    /// How long a busy channel or id is waited for.
    pub busy_wait: Duration,
    /// How often the same payment is sent again when no answer comes, where that repeats nothing: methods that are safe to repeat, and
    /// requests that came with an id.
    pub resends_max: u32,
    /// Pays over plain HTTP to other machines, too. For tests.
    pub insecure_http: bool,
    /// Endpoints of chains: with one a lost book is made good from the chain, and channels can be left without their server.
    pub rpcs: BTreeMap<ChainId, Rpc>,
}

impl Default for HttpPayerOptions {
    fn default() -> Self {
        Self {
            limits: SpendLimits::standard(),
            policy: PolicyConfig::default(),
            agent: String::new(),
            approval_wait: Duration::ZERO,
            schemes: Scheme::ALL.to_vec(),
            payees: PayeePolicy::Known,
            payees_allowed: BTreeSet::new(),
            deposit_multiple: 10,
            signature_secs_max: 3_600,
            channels_per_payee: 1,
            body_bytes_max: 16 * 1024 * 1024,
            busy_wait: Duration::from_secs(60),
            resends_max: 2,
            insecure_http: false,
            rpcs: BTreeMap::new(),
        }
    }
}

/// Pays for HTTP: it sends requests, and where the answer is 402 it pays within its limits and sends them again. A clone is the same payer.
///
/// Many requests may run at once. On a channel of x402 they take turns; on one of MPP they run together.
#[derive(Clone)]
pub struct HttpPayer {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) account: PayerAccount,
    pub(super) book: PaymentBook,
    pub(super) options: HttpPayerOptions,
    /// Limits and policy, as one.
    pub(super) policy: Policy,
    /// The account, as budgets know it.
    key: String,
    /// Told whenever an approval was decided.
    pub(super) decided: Notify,
    /// Approvals that the webhook was told of, by this process.
    pub(super) told: Mutex<BTreeSet<u64>>,
    /// Turns on channels of x402, and of openings and top-ups of sessions.
    turns: Mutex<BTreeMap<EscrowChannelId, Arc<AsyncMutex<()>>>>,
    /// Ids under way in this process.
    active: Mutex<BTreeSet<Hash256>>,
    /// What requests under way on sessions may cost, by request.
    in_flight: Mutex<BTreeMap<EscrowChannelId, BTreeMap<Hash256, Amount>>>,
}

/// What a server offers for a request, and whether it would be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferView {
    /// How it is paid.
    pub scheme: Scheme,
    /// The token, if it is an allowed one.
    pub asset: Option<Asset>,
    /// The most that the request costs, in base units; of an MPP session the price of one unit.
    pub price: Amount,
    /// Who is paid.
    pub payee: Address,
    /// Why it would not be taken, if it would not.
    pub refusal: Option<Refusal>,
}

/// A request that can be sent more than once.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    timeout: Option<Duration>,
    version: http::Version,
    /// The caller's own id, if it gave one.
    named: bool,
    /// Who asks, if the request says so.
    agent: Option<String>,
}

/// What follows from an answer to a payment.
pub(super) enum Verdict {
    /// It is the answer.
    Answer(Response),
    /// The ticket was signed anew; it is sent.
    Again,
    /// The same bytes are sent again after a pause.
    Wait,
}

impl core::fmt::Debug for HttpPayer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HttpPayer")
            .field("account", &self.inner.account)
            .field("book", &self.inner.book)
            .finish_non_exhaustive()
    }
}

impl HttpPayer {
    /// A payer for an account.
    ///
    /// # Errors
    /// [`HttpPayError::Client`] or [`HttpPayError::Policy`].
    pub fn new(account: PayerAccount, book: PaymentBook, options: HttpPayerOptions) -> Result<Self, HttpPayError> {
        Self::with_client(Client::builder(), account, book, options)
    }

    /// A payer over an HTTP client with settings of one's own. Its redirects are switched off: a payment never follows one to another host,
    /// which a client that follows them by itself would not see to.
    ///
    /// # Errors
    /// [`HttpPayError::Client`] or [`HttpPayError::Policy`].
    pub fn with_client(
        client: ClientBuilder,
        account: PayerAccount,
        book: PaymentBook,
        options: HttpPayerOptions,
    ) -> Result<Self, HttpPayError> {
        let client = client.redirect(reqwest::redirect::Policy::none()).build().map_err(HttpPayError::Client)?;
        let policy = policy_of(&options.limits, &options.policy)?;
        if let Some(url) = &options.policy.webhook
            && !url.parse::<Url>().is_ok_and(|url| webhook::is_allowed(&url))
        {
            let reason = "expected an https address, or an http address of this machine".to_owned();
            return Err(ConfigError::Setting { key: "webhook".to_owned(), reason }.into());
        }
        book.sweep(&policy, now());
        let key = account.address().to_string();
        let inner = Inner {
            client,
            account,
            book,
            options,
            policy,
            key,
            decided: Notify::new(),
            told: Mutex::default(),
            turns: Mutex::default(),
            active: Mutex::default(),
            in_flight: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The account that pays.
    #[must_use]
    pub fn account(&self) -> Address {
        self.inner.account.address()
    }

    /// What is remembered.
    #[must_use]
    pub fn book(&self) -> &PaymentBook {
        &self.inner.book
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &HttpPayerOptions {
        &self.inner.options
    }

    /// Sends a request, and pays for it when it has to be paid for. The answer comes as the server sends it; one that was paid for has a
    /// [`Payment`](super::Payment) in its extensions.
    ///
    /// An `Idempotency-Key` names the request: the same request with the same key is paid by the same signature, also after a crash. Without
    /// one each call is a request of its own.
    ///
    /// # Errors
    /// [`HttpPayError`], which says what was signed. Dropping the future leaves a payment that was sent with its cost unknown: call again with
    /// the same key.
    pub async fn execute(&self, request: Request) -> Result<Response, HttpPayError> {
        let inner = &self.inner;
        let prepared = Prepared::of(request, inner.options.body_bytes_max).await?;
        let id = prepared.id()?;
        let _active = Active::enter(inner, &id)?;
        inner.run(prepared, id).await
    }

    /// Asks what a request would cost, and pays nothing. `None` when the server answers without being paid.
    ///
    /// # Errors
    /// [`HttpPayError`].
    pub async fn quote(&self, request: Request) -> Result<Option<Vec<OfferView>>, HttpPayError> {
        let inner = &self.inner;
        let mut prepared = Prepared::of(request, inner.options.body_bytes_max).await?;
        let response = inner.ask(&mut prepared).await?;
        if response.status() != StatusCode::PAYMENT_REQUIRED {
            return Ok(None);
        }
        let offers = Offers::read(response.headers());
        if offers.quotes.is_empty() {
            return Err(HttpPayError::NoOffer { origin: prepared.origin(), offers: offers.passed });
        }
        let view = |quote: &Quote| OfferView {
            scheme: quote.scheme(),
            asset: inner.options.limits.of(quote.asset).map(|(asset, _)| asset.clone()),
            price: quote.price,
            payee: quote.payee,
            refusal: inner.admit(quote, &prepared, None).err(),
        };
        Ok(Some(offers.quotes.iter().map(view).collect()))
    }
}

impl HttpPayer {
    /// Asks a channel's server for what is left of its deposit: a refund of x402, which can be a part, the close of a session of MPP. Returns
    /// what it gives back. What is given back arrives at the account, by the chain.
    ///
    /// # Errors
    /// [`HttpPayError`]. A server that does not answer is left by the chain: [`HttpPayer::withdraw`].
    pub async fn refund(&self, channel: EscrowChannelId, amount: Option<Amount>) -> Result<Amount, HttpPayError> {
        let record = self.inner.book.channel(channel).ok_or(HttpPayError::UnknownChannel { channel })?;
        if record.url.is_empty() {
            return Err(HttpPayError::NoServer { channel });
        }
        match record.terms {
            EscrowTerms::X402(config) => self.inner.refund(channel, &record, config, amount).await,
            EscrowTerms::Session(_) => self.inner.close(channel, &record).await,
        }
    }
}

impl Inner {
    /// A request with an id from its beginning to its answer's head.
    async fn run(self: &Arc<Self>, mut prepared: Prepared, id: String) -> Result<Response, HttpPayError> {
        let mut ticket = match self.book.request(key_of(&id))? {
            Some(record) if record.fingerprint != prepared.fingerprint() => return Err(HttpPayError::IdConflict { id }),
            // What a server did not take is paid anew, on a channel; a transfer may yet be taken.
            Some(record) if record.outcome == Outcome::NotTaken && record.channel.is_some() => None,
            Some(record) => Some(self.resume(record).await?),
            None => None,
        };
        if ticket.is_none() {
            let response = self.ask(&mut prepared).await?;
            if response.status() != StatusCode::PAYMENT_REQUIRED {
                return Ok(response);
            }
            let offers = Offers::read(response.headers());
            drop(response);
            ticket = Some(match self.take(offers, &prepared, &id).await {
                Err(HttpPayError::NeedsApproval { approval, expires_at, .. }) if self.approved(approval, expires_at).await => {
                    // Offers end; what was approved is held, and paid by a fresh one.
                    let response = self.ask(&mut prepared).await?;
                    if response.status() != StatusCode::PAYMENT_REQUIRED {
                        self.book.end(&self.policy, key_of(&id), now(), Ended::Unknown);
                        return Ok(response);
                    }
                    self.take(Offers::read(response.headers()), &prepared, &id).await?
                }
                taken => taken?,
            });
        }
        let Some(mut ticket) = ticket else { return Err(HttpPayError::NoOffer { origin: prepared.origin(), offers: Vec::new() }) };
        let waits_until = tokio::time::Instant::now().checked_add(self.options.busy_wait);
        let (mut pause, mut resends) = (Duration::from_millis(20), 0);
        let mut rounds = 0;
        loop {
            let response = match self.send(&prepared, Some(&ticket.record.header)).await {
                Ok(response) => response,
                Err(source) => {
                    let repeats = prepared.named || prepared.method.is_idempotent() || source.is_connect();
                    if repeats && resends < self.options.resends_max && !source.is_builder() {
                        resends = resends.saturating_add(1);
                        tokio::time::sleep(pause.saturating_mul(resends)).await;
                        continue;
                    }
                    ticket.ended = Ended::Failed;
                    return Err(HttpPayError::Unanswered { signed: ticket.signed(None), source });
                }
            };
            rounds += 1;
            let verdict = match ticket.record.scheme {
                Scheme::Batch => self.judge_batch(&mut ticket, &prepared, response).await,
                Scheme::Session => self.judge_session(&mut ticket, &prepared, response).await,
                Scheme::Exact | Scheme::Charge => self.judge_single(&mut ticket, response).await,
            };
            let verdict = match verdict {
                // What the server wants now is not given; but something was signed already.
                Err(error @ HttpPayError::NoOffer { .. }) => return Err(self.refuse(&mut ticket, error.to_string())),
                verdict => verdict?,
            };
            match verdict {
                Verdict::Answer(response) => return Ok(self.answer(prepared, ticket, response)),
                _ if rounds >= ROUNDS_MAX && !matches!(verdict, Verdict::Wait) => {
                    ticket.not_taken();
                    return Err(HttpPayError::NotTaken {
                        signed: ticket.signed(None),
                        reason: "the server wanted another payment each time".to_owned(),
                    });
                }
                Verdict::Again => {}
                Verdict::Wait => {
                    if waits_until.is_none_or(|until| tokio::time::Instant::now() >= until) {
                        return Err(HttpPayError::NotTaken { signed: ticket.signed(None), reason: "the channel stays busy".to_owned() });
                    }
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(Duration::from_secs(1));
                }
            }
        }
    }

    /// Sends a request without a payment, following redirects within its origin.
    async fn ask(&self, prepared: &mut Prepared) -> Result<Response, HttpPayError> {
        for _ in 0..REDIRECTS_MAX {
            let response = self.send(prepared, None).await.map_err(HttpPayError::Unreachable)?;
            let safe = prepared.method == Method::GET || prepared.method == Method::HEAD;
            let target = response.status().is_redirection().then(|| response.headers().get(LOCATION)).flatten();
            let target = target.and_then(|target| prepared.url.join(target.to_str().ok()?).ok());
            match target {
                Some(url) if safe && same_host(&prepared.url, &url) => prepared.url = url,
                // Whatever is elsewhere is for the caller to ask.
                Some(_) | None => return Ok(response),
            }
        }
        self.send(prepared, None).await.map_err(HttpPayError::Unreachable)
    }

    pub(super) async fn send(&self, prepared: &Prepared, payment: Option<&(String, String)>) -> Result<Response, reqwest::Error> {
        self.client.execute(prepared.request(payment)).await
    }

    /// Takes the best offer.
    async fn take(self: &Arc<Self>, offers: Offers, prepared: &Prepared, id: &str) -> Result<Ticket, HttpPayError> {
        let Offers { quotes, mut passed, .. } = offers;
        for (admitted, quote) in self.ranked(quotes, prepared, id, &mut passed) {
            let name = quote.name();
            let paid = match admitted {
                Admitted::Now => self.pay(quote, prepared, id).await,
                // Nothing is signed before, and no deposit is made.
                Admitted::Later => match self.hold(&quote, prepared, id) {
                    Ok(()) => {
                        let paid = self.pay(quote, prepared, id).await;
                        if paid.is_err() {
                            self.book.end(&self.policy, key_of(id), now(), Ended::Unknown);
                        }
                        paid
                    }
                    Err(refusal) => Err(no_offer(prepared, name.clone(), refusal)),
                },
            };
            match paid {
                Ok(ticket) => return Ok(ticket),
                Err(HttpPayError::NoOffer { offers, origin }) => {
                    if let Some(waits) = offers.iter().find_map(|(_, refusal)| approval(refusal, &origin)) {
                        self.tell_of(&waits, prepared);
                        return Err(waits);
                    }
                    passed.extend(offers.into_iter().map(|(_, refusal)| (name.clone(), refusal)));
                }
                Err(error) => return Err(error),
            }
        }
        Err(HttpPayError::NoOffer { origin: prepared.origin(), offers: passed })
    }

    /// The quotes that may be taken: those that need no approval first, then the preferred scheme, of one scheme the cheapest.
    fn ranked(&self, quotes: Vec<Quote>, prepared: &Prepared, id: &str, passed: &mut Vec<Passed>) -> Vec<(Admitted, Quote)> {
        let rank = |quote: &Quote| self.options.schemes.iter().position(|scheme| *scheme == quote.scheme());
        let mut taken = Vec::new();
        for quote in quotes {
            match self.admit(&quote, prepared, Some(id)) {
                Ok(admitted) => taken.push((admitted, quote)),
                Err(refusal) => passed.push((quote.name(), refusal)),
            }
        }
        taken.sort_by_key(|(admitted, quote)| (*admitted, rank(quote), quote.price));
        taken
    }

    /// Holds what an offer costs until it is approved; nothing when that happened meanwhile.
    fn hold(&self, quote: &Quote, prepared: &Prepared, id: &str) -> Result<(), Refusal> {
        let (_, limits) = self.allowed(quote)?;
        let origin = prepared.origin();
        self.book.hold(&self.rules(limits, prepared), &asked(quote, prepared, &origin, id), now())
    }

    /// The rules that a request is paid by.
    pub(super) fn rules<'a>(&'a self, limits: &'a AssetLimits, prepared: &'a Prepared) -> Rules<'a> {
        let own = Some(self.options.agent.as_str()).filter(|agent| !agent.is_empty());
        let agent = prepared.agent.as_deref().or(own).unwrap_or(&self.key);
        Rules { policy: &self.policy, limits, agent, key: &self.key }
    }

    /// Waits until an approval is decided, as long as is set; whether it is worth asking again.
    async fn approved(&self, approval: u64, expires_at: Timestamp) -> bool {
        let waits = |ledger: &millstream_policy::Ledger| {
            let found = ledger.approvals().find(|waiting| waiting.number == approval);
            found.is_some_and(|waiting| matches!(waiting.hold.state, millstream_policy::HoldState::Waiting { .. }))
        };
        let longest = self.options.approval_wait.min(Duration::from_millis(expires_at.millis_since(now())));
        let decided = async {
            loop {
                // Before it is looked at, so that nothing that is decided meanwhile is missed.
                let told = self.decided.notified();
                tokio::pin!(told);
                told.as_mut().enable();
                if !self.book.read_policy(waits) {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(longest, decided).await.is_ok()
    }

    /// Whether an offer may be taken: scheme, token, payee, policy, in this order. With the request's id, what the policy refuses is noted.
    pub(super) fn admit(&self, quote: &Quote, prepared: &Prepared, id: Option<&str>) -> Result<Admitted, Refusal> {
        if !self.options.schemes.contains(&quote.scheme()) {
            return Err(Refusal::Unspoken(format!("{} (switched off)", quote.scheme().name())));
        }
        let (asset, limits) = self.allowed(quote)?;
        if !self.options.insecure_http && prepared.url.scheme() != "https" && !is_loopback(&prepared.url) {
            return Err(Refusal::PlainHttp);
        }
        quote.has_way(asset)?;
        if !quote.is_current(now()) {
            return Err(Refusal::Expired);
        }
        if let Way::Session { offer, .. } | Way::Charge { offer, .. } = &quote.way
            && !offer.terms.is_for_body(&prepared.body)
        {
            return Err(Refusal::Unreadable(DialectError::Field { field: "digest", reason: "is of another body" }));
        }
        let origin = prepared.origin();
        self.check_payee(quote, &origin)?;
        let asked = asked(quote, prepared, &origin, id.unwrap_or_default());
        self.book.admits(&self.rules(limits, prepared), &asked, now(), id.is_some())
    }

    pub(super) fn allowed(&self, quote: &Quote) -> Result<(&Asset, &AssetLimits), Refusal> {
        let found = self.options.limits.of(quote.asset);
        found.ok_or(Refusal::UnknownAsset { chain: quote.asset.chain.get(), token: quote.asset.token })
    }

    fn check_payee(&self, quote: &Quote, origin: &str) -> Result<(), Refusal> {
        if self.options.payees == PayeePolicy::Any || self.options.payees_allowed.contains(&quote.payee) {
            return Ok(());
        }
        let known = self.book.payees(origin);
        if known.is_empty() || known.contains(&(quote.asset, quote.payee)) {
            return Ok(());
        }
        if known.iter().any(|(_, payee)| *payee == quote.payee) {
            return Err(Refusal::AnotherAsset);
        }
        Err(Refusal::AnotherPayee { payee: quote.payee })
    }

    /// Signs a payment for an offer that was admitted.
    async fn pay(self: &Arc<Self>, quote: Quote, prepared: &Prepared, id: &str) -> Result<Ticket, HttpPayError> {
        match quote.way {
            Way::Batch { .. } => self.pay_batch(quote, prepared, id).await,
            Way::Session { .. } => self.pay_session(quote, prepared, id).await,
            Way::Exact { .. } | Way::Charge { .. } => self.pay_single(quote, prepared, id).await,
        }
    }

    /// Goes on with a payment that was signed before.
    async fn resume(self: &Arc<Self>, record: super::book::RequestRecord) -> Result<Ticket, HttpPayError> {
        let lane = match (record.scheme, record.channel) {
            (Scheme::Batch, Some(channel)) => Some(self.turn(channel).lock_owned().await),
            _ => None,
        };
        let known = record.channel.and_then(|channel| self.book.channel(channel)).is_some_and(|channel| channel.known);
        let before = Some(record.signed_before).filter(|_| known);
        if let (Scheme::Session, Some(channel)) = (record.scheme, record.channel) {
            self.takes_off(channel, key_of(&record.id), record.price);
        }
        let deposits = record.scheme == Scheme::Batch && brings_deposit(&record.header.1);
        let mut ticket = Ticket::new(self, record, None, before);
        (ticket.lane, ticket.resumed, ticket.deposits) = (lane, true, deposits);
        Ok(ticket)
    }

    fn answer(self: &Arc<Self>, prepared: Prepared, mut ticket: Ticket, response: Response) -> Response {
        let url = response.url().clone();
        let mut response = http::Response::<reqwest::Body>::from(response);
        receipts(response.headers(), &mut ticket);
        ticket.ended = if response.status().is_server_error() { Ended::Failed } else { Ended::Delivered };
        ticket.funding = None;
        response.extensions_mut().insert(ticket.payment());
        let streams = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        if ticket.is_told() && !streams {
            // The next request need not wait for this body.
            ticket.lane = None;
        }
        if streams {
            // What is the payment's own is taken out of it.
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        let calls = (streams && ticket.record.scheme == Scheme::Session).then(|| answer_calls(self, &prepared, &ticket)).flatten();
        rebuilt(url, response.map(|body| reqwest::Body::wrap(PaidBody::new(body, streams, ticket, calls))))
    }

    /// The turn on a channel.
    pub(super) fn turn(&self, channel: EscrowChannelId) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(channel).or_default())
    }

    pub(super) fn takes_off(&self, channel: EscrowChannelId, request: Hash256, amount: Amount) {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.entry(channel).or_default().insert(request, amount);
    }

    /// A request on a session is over; if its cost was not told, it may be anything up to what was held for it.
    pub(super) fn lands(&self, channel: EscrowChannelId, request: Hash256, told: bool) {
        let held = {
            // Not held together with the book, which is locked before this elsewhere.
            let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
            in_flight.get_mut(&channel).and_then(|requests| requests.remove(&request))
        };
        if let Some(held) = held.filter(|_| !told) {
            let _ =
                self.book.update(channel, |record| record.unresolved = record.unresolved.checked_add(held).unwrap_or(record.unresolved));
        }
    }

    /// What one request under way on a session may cost.
    pub(super) fn held(&self, channel: EscrowChannelId, request: Hash256) -> Option<Amount> {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.get(&channel).and_then(|requests| requests.get(&request)).copied()
    }

    /// What all requests under way on a session may cost.
    pub(super) fn in_flight_of(&self, channel: EscrowChannelId) -> Amount {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = in_flight.get(&channel).into_iter().flat_map(BTreeMap::values).copied();
        requests.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap_or(sum))
    }

    fn enter(&self, id: &str) -> bool {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).insert(key_of(id))
    }

    pub(super) fn leave(&self, key: Hash256) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// An id is under way; dropped without having been handed to a ticket, it is free again.
struct Active<'a> {
    inner: &'a Inner,
    key: Hash256,
}

impl<'a> Active<'a> {
    fn enter(inner: &'a Inner, id: &str) -> Result<Self, HttpPayError> {
        if inner.enter(id) { Ok(Self { inner, key: key_of(id) }) } else { Err(HttpPayError::InFlight { id: id.to_owned() }) }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.inner.leave(self.key);
    }
}

/// A response with the address that it came from.
pub(super) fn rebuilt(url: Url, response: http::Response<reqwest::Body>) -> Response {
    let (parts, body) = response.into_parts();
    // A builder with nothing but an address cannot fail.
    let mut built = http::Response::builder().url(url).body(()).unwrap_or_default().map(|()| body);
    (*built.status_mut(), *built.version_mut(), *built.headers_mut()) = (parts.status, parts.version, parts.headers);
    built.extensions_mut().extend(parts.extensions);
    built.into()
}

/// What an offer asks of the policy.
fn asked<'a>(quote: &Quote, prepared: &Prepared, origin: &'a str, id: &str) -> Asked<'a> {
    let (asset, price) = (quote.asset, quote.price);
    Asked { id: key_of(id), host: host_of(origin), payee: quote.payee, asset, fingerprint: prepared.fingerprint(), adds: price, price }
}

/// The error of a request that waits for an approval.
fn approval(refusal: &Refusal, origin: &str) -> Option<HttpPayError> {
    match refusal {
        Refusal::Approval { approval, price, expires_at } => {
            let (approval, price, expires_at) = (*approval, *price, *expires_at);
            Some(HttpPayError::NeedsApproval { origin: origin.to_owned(), approval, price, expires_at })
        }
        _ => None,
    }
}

/// As an error of the request that the offer was for.
pub(super) fn no_offer(prepared: &Prepared, name: String, refusal: Refusal) -> HttpPayError {
    HttpPayError::NoOffer { origin: prepared.origin(), offers: vec![(name, refusal)] }
}

pub(super) fn stopped(prepared: &Prepared, name: &str, stopped: Stopped) -> HttpPayError {
    match stopped {
        Stopped::Refused(refusal) => no_offer(prepared, name.to_owned(), refusal),
        Stopped::Failed(error) => error,
    }
}

fn same_host(from: &Url, to: &Url) -> bool {
    let upgraded = from.scheme() == "http" && to.scheme() == "https";
    from.host_str() == to.host_str() && (from.origin() == to.origin() || upgraded)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

impl Prepared {
    /// Takes a request apart; its body is read into memory, up to a bound, unless it is there already.
    async fn of(mut request: Request, body_bytes_max: usize) -> Result<Self, HttpPayError> {
        for header in OWN_PAYMENT {
            if request.headers().contains_key(header) {
                return Err(HttpPayError::OwnPayment { header });
            }
        }
        let pays = |value: &HeaderValue| value.as_bytes().get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"payment "));
        if request.headers().get_all(AUTHORIZATION).iter().any(pays) {
            return Err(HttpPayError::OwnPayment { header: "authorization" });
        }
        let body = match request.body_mut().take() {
            None => Bytes::new(),
            Some(body) => {
                let too_long = HttpPayError::BodyTooLong { max: body_bytes_max };
                match body.as_bytes() {
                    Some(bytes) if bytes.len() > body_bytes_max => return Err(too_long),
                    Some(bytes) => Bytes::copy_from_slice(bytes),
                    None => match Limited::new(body, body_bytes_max).collect().await {
                        Ok(collected) => collected.to_bytes(),
                        Err(error) if error.is::<LengthLimitError>() => return Err(too_long),
                        Err(error) => match error.downcast::<reqwest::Error>() {
                            Ok(error) => return Err(HttpPayError::Body(*error)),
                            Err(_) => return Err(too_long),
                        },
                    },
                }
            }
        };
        let named = request.headers().contains_key(IDEMPOTENCY_KEY);
        let agent = request.headers_mut().remove(AGENT).and_then(|agent| agent.to_str().ok().map(str::to_owned));
        Ok(Self {
            method: request.method().clone(),
            url: request.url().clone(),
            headers: std::mem::take(request.headers_mut()),
            body,
            timeout: request.timeout().copied(),
            version: request.version(),
            named,
            agent: agent.filter(|agent| !agent.is_empty()),
        })
    }

    /// The request's id: its `Idempotency-Key`, or one of its own.
    fn id(&self) -> Result<String, HttpPayError> {
        match self.headers.get(IDEMPOTENCY_KEY) {
            Some(key) => {
                let key = IdempotencyKey::new(key.to_str().unwrap_or_default()).map_err(HttpPayError::Id)?;
                // One book serves many hosts, and a key means something to one.
                Ok(format!("{} {}", self.origin(), key.as_str()))
            }
            None => {
                let word = super::account::random_word()?;
                Ok(format!("pay_{}", word.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>()))
            }
        }
    }

    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// What tells this request from others: method, address, body.
    pub(super) fn fingerprint(&self) -> Hash256 {
        let head = format!("{} {}\n", self.method, self.url);
        let body = millstream_voucher::evm::keccak256(&self.body);
        millstream_voucher::evm::keccak256(&[head.as_bytes(), body.as_bytes()].concat())
    }

    fn request(&self, payment: Option<&(String, String)>) -> Request {
        let mut request = Request::new(self.method.clone(), self.url.clone());
        *request.headers_mut() = self.headers.clone();
        *request.timeout_mut() = self.timeout;
        *request.version_mut() = self.version;
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        if let Some((name, value)) = payment {
            put(request.headers_mut(), name, value);
            // A receipt may come at the end.
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
        request
    }

    /// The same address without the request: for vouchers, refunds and closes.
    pub(super) fn bare(&self, method: Method) -> Self {
        Self { method, body: Bytes::new(), headers: own_headers(&self.headers), named: true, ..self.clone() }
    }

    /// The address that a channel was opened for.
    pub(super) fn for_channel(record: &ChannelRecord) -> Result<Self, HttpPayError> {
        let method = record.method.parse().map_err(|_| BookError::Damaged("a channel's method"))?;
        let url = record.url.parse().map_err(|_| BookError::Damaged("a channel's address"))?;
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        Ok(Self { method, url, headers, body, timeout: Some(CHANNEL_CALL_MAX), version: http::Version::HTTP_11, named: true, agent: None })
    }
}

/// What a server may know a client by; what is about the request's body or answer is left out.
fn own_headers(headers: &HeaderMap) -> HeaderMap {
    let kept = [AUTHORIZATION, http::header::COOKIE, http::header::USER_AGENT, HeaderName::from_static("x-api-key")];
    headers.iter().filter(|(name, _)| kept.contains(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(mut value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        value.set_sensitive(true);
        if name == AUTHORIZATION && headers.contains_key(AUTHORIZATION) {
            // The application's own stays where it is.
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    }
}

/// The id that a payment of x402 carries: the request's, as far as the extension can write it.
pub(super) fn payment_id(id: &str) -> Result<PaymentId, HttpPayError> {
    PaymentId::new(id).or_else(|_| PaymentId::new(&key_of(id).to_string())).map_err(HttpPayError::Id)
}

/// A moment in Unix seconds, some seconds on.
pub(super) const fn secs_on(now: Timestamp, secs: u64) -> u64 {
    now.as_secs_down().saturating_add(secs)
}
