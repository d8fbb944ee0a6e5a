//! A payer of MPP sessions, by hand: it keeps its own books, and checks what it is told against them.

use millstream_chain::session_escrow::{SessionEscrow, SessionPayer as ChainPayer, SessionPhase, session_escrow_address};
use millstream_dialect::mpp::FundingWitness;
use millstream_dialect::mpp::{
    Credential, Funding, FundingAction, MergedDeposit, NeedVoucher, Offer, Permit2Funding, Problem, ProblemKind, Receipt, SessionEvent,
    SessionPayload, SessionReceipt, SessionRequest,
};
use millstream_dialect::x402::{Erc3009Fields, PermittedFields};
use millstream_testkit::DEV_ACCOUNTS;
use millstream_types::{Address, ChainId, EscrowChannelId, Hash256, Uint256};
use millstream_voucher::evm::{
    EscrowDomain, EscrowScheme, EscrowVoucher, EvmSecretKey, PERMIT2, Permit2Domain, Permit2Transfer, SessionTerms, SignedEscrowVoucher,
    TokenDomain, TokenPermissions, TransferAuthorization, TransferKind, TransferWitness, top_up_nonce,
};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::json;

use super::{Chain, OPERATOR, secret, total, units};

const FAR: u64 = 4_000_000_000;

/// A payer and its channel.
pub struct SessionPayer {
    pub key: EvmSecretKey,
    pub terms: SessionTerms,
    pub channel: EscrowChannelId,
    pub domain: EscrowDomain,
    pub client: Client,
    token: TokenDomain,
    top_ups: u8,
}

/// An answer of the gateway, read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: String,
    pub receipt: Option<SessionReceipt>,
    pub problem: Option<Problem>,
    /// Of a refusal.
    pub offers: usize,
    /// What this request cost, by the receipt.
    pub charged: Option<u128>,
}

impl Answer {
    pub fn kind(&self) -> Option<ProblemKind> {
        self.problem.as_ref().and_then(Problem::kind)
    }

    pub fn receipt(&self) -> &SessionReceipt {
        self.receipt.as_ref().unwrap_or_else(|| panic!("a receipt: {self:?}"))
    }

    /// What is spent and accepted, by the receipt.
    pub fn totals(&self) -> (u128, u128) {
        let receipt = self.receipt();
        (receipt.spent.units(), receipt.accepted_cumulative.units())
    }

    /// A member of the problem.
    pub fn member(&self, name: &str) -> Option<String> {
        let value = self.problem.as_ref()?.more.get(name)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }
}

impl SessionPayer {
    pub fn new(chain: &Chain, account: usize, salt: u8) -> Self {
        let key = secret(account);
        let domain = EscrowDomain::new(EscrowScheme::EvmSession, ChainId::new(31_337), session_escrow_address().expect("an address"));
        let terms = SessionTerms {
            payer: key.account(),
            payee: DEV_ACCOUNTS[OPERATOR].address,
            token: chain.token.token(),
            salt: Hash256::from_bytes([salt; 32]),
            authorized_signer: Address::ZERO,
        };
        let channel = terms.channel_id(&domain);
        Self { key, terms, channel, domain, client: Client::new(), token: chain.token, top_ups: 0 }
    }

    pub fn voucher(&self, cumulative: u128) -> SignedEscrowVoucher {
        let voucher = EscrowVoucher { channel: self.channel, cumulative: total(cumulative) };
        self.key.sign(voucher, &self.domain).expect("128 bits").signed().clone()
    }

    fn erc3009(&self, amount: u128, nonce: Hash256) -> Funding {
        let fields = Erc3009Fields {
            from: self.terms.payer,
            to: self.domain.contract(),
            value: units(amount),
            valid_after: Uint256::ZERO,
            valid_before: Uint256::from(FAR),
            nonce,
        };
        let Erc3009Fields { from, to, value, valid_after, valid_before, nonce } = fields;
        let transfer = TransferAuthorization { kind: TransferKind::Receive, from, to, value, valid_after, valid_before, nonce };
        let signature = self.key.sign(transfer, &self.token).expect("in range").signature().clone();
        Funding::Authorization { authorization: fields, signature }
    }

    fn permit2(&self, amount: u128, nonce: u64, witness: FundingWitness) -> Funding {
        let (nonce, deadline) = (Uint256::from(nonce), Uint256::from(FAR));
        let of = match witness {
            FundingWitness::Open { payee, salt, authorized_signer } => TransferWitness::ChannelOpen { payee, salt, authorized_signer },
            FundingWitness::TopUp { channel_id } => TransferWitness::ChannelTopUp { channel: channel_id },
        };
        let permitted = vec![TokenPermissions { token: self.terms.token, amount: units(amount) }];
        let transfer = Permit2Transfer { permitted, spender: self.domain.contract(), nonce, deadline, witness: of };
        let domain = Permit2Domain::new(ChainId::new(31_337), PERMIT2);
        let signature = self.key.sign(transfer, &domain).expect("in range").signature().clone();
        let permitted = PermittedFields { token: self.terms.token, amount: units(amount) };
        let authorization = Permit2Funding { from: self.terms.payer, permitted, nonce, deadline, witness };
        Funding::Permit2 { authorization, signature }
    }

    /// Opens the channel by what is signed for the token.
    pub fn opening(&self, cumulative: u128, deposit: u128) -> SessionPayload {
        let SessionTerms { salt, authorized_signer, .. } = self.terms;
        let funding = self.erc3009(deposit, self.terms.open_nonce());
        SessionPayload::Open { voucher: self.voucher(cumulative), salt, authorized_signer, funding }
    }

    /// Opens the channel by Permit2.
    pub fn opening_by_permit2(&self, cumulative: u128, deposit: u128) -> SessionPayload {
        let SessionTerms { payee, salt, authorized_signer, .. } = self.terms;
        let funding = self.permit2(deposit, 1, FundingWitness::Open { payee, salt, authorized_signer });
        SessionPayload::Open { voucher: self.voucher(cumulative), salt, authorized_signer, funding }
    }

    /// Names a channel that the payer has opened itself.
    pub fn opened(&self, cumulative: u128, hash: Hash256) -> SessionPayload {
        let SessionTerms { salt, authorized_signer, .. } = self.terms;
        SessionPayload::OpenSent { voucher: self.voucher(cumulative), hash, salt, authorized_signer }
    }

    fn top_up_funding(&mut self, additional: u128) -> (Hash256, Funding) {
        self.top_ups += 1;
        let salt = Hash256::from_bytes([self.top_ups; 32]);
        let nonce = top_up_nonce(&self.channel, units(additional), &self.terms.payer, &salt);
        (salt, self.erc3009(additional, nonce))
    }

    pub fn topping_up(&mut self, additional: u128) -> SessionPayload {
        let (salt, funding) = self.top_up_funding(additional);
        SessionPayload::TopUp { channel: self.channel, additional: units(additional), salt: Some(salt), funding }
    }

    /// A voucher, and the deposit that it needs, in one.
    pub fn topping_up_with_voucher(&mut self, cumulative: u128, additional: u128) -> SessionPayload {
        let (salt, funding) = self.top_up_funding(additional);
        let deposit = MergedDeposit { action: FundingAction::TopUp { salt: Some(salt) }, funding };
        SessionPayload::Voucher { voucher: self.voucher(cumulative), deposit: Some(deposit) }
    }

    pub fn paying(&self, cumulative: u128) -> SessionPayload {
        SessionPayload::Voucher { voucher: self.voucher(cumulative), deposit: None }
    }

    pub fn closing(&self, cumulative: u128) -> SessionPayload {
        SessionPayload::Close { voucher: self.voucher(cumulative) }
    }

    /// The session's offer of an address.
    pub async fn offer(&self, url: &str) -> Offer {
        let response = self.client.get(url).send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
        offers(&response).into_iter().next().expect("an offer of sessions")
    }

    pub fn credential(&self, offer: &Offer, payload: &SessionPayload) -> String {
        let source = Some(format!("did:pkh:eip155:31337:{}", self.terms.payer));
        let credential = Credential { offer: offer.clone(), source, payload: payload.to_object().expect("written") };
        credential.to_header().expect("written")
    }

    /// A request of the resource with a payload.
    pub async fn send(&self, url: &str, payload: &SessionPayload) -> Answer {
        let offer = self.offer(url).await;
        self.send_with(Method::GET, url, &offer, payload, None).await
    }

    /// A voucher or deposit alone.
    pub async fn head(&self, url: &str, payload: &SessionPayload) -> Answer {
        let offer = self.offer(url).await;
        self.send_with(Method::HEAD, url, &offer, payload, None).await
    }

    pub async fn send_with(&self, method: Method, url: &str, offer: &Offer, payload: &SessionPayload, key: Option<&str>) -> Answer {
        let mut request = self.client.request(method, url).header("authorization", self.credential(offer, payload));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        read(request.send().await.expect("answered")).await
    }

    /// A stream of events, as it comes.
    pub async fn stream(&self, url: &str, payload: &SessionPayload) -> Stream {
        let offer = self.offer(url).await;
        let request = self.client.get(url).header("accept", "text/event-stream");
        let response = request.header("authorization", self.credential(&offer, payload)).send().await.expect("answered");
        assert_eq!(response.status(), StatusCode::OK, "{:?}", response.text().await);
        Stream { response, rest: String::new() }
    }

    /// The payer's own transactions.
    pub async fn on_chain(&self, chain: &Chain, account: usize) -> ChainPayer {
        ChainPayer::new(contract(chain).await, chain.submitter(account))
    }

    /// Deposit and settled total of the channel in the newest block, and whether it is closed.
    pub async fn state(&self, chain: &Chain) -> (u128, u128, bool) {
        let state = contract(chain).await.newest_state(self.channel).await.expect("read");
        (state.deposit.units(), state.settled.units(), state.phase == SessionPhase::Closed)
    }
}

pub async fn contract(chain: &Chain) -> SessionEscrow {
    SessionEscrow::attach(chain.rpc.clone(), session_escrow_address().expect("an address")).await.expect("deployed")
}

/// A stream of events under way.
pub struct Stream {
    response: Response,
    rest: String,
}

/// An event of a stream.
#[derive(Debug)]
pub enum Event {
    /// The resource's own.
    Data(String),
    NeedVoucher(NeedVoucher),
    Receipt(Receipt),
}

impl Stream {
    /// The next event; nothing at the end, whichever it is.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.rest.find("\n\n") {
                let event: String = self.rest.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned);
                let data = field("data:").expect("data");
                let ours = field("event:").map(|name| SessionEvent::from_stream(&name, &data).expect("ours"));
                return Some(match ours.flatten() {
                    Some(SessionEvent::NeedVoucher(need)) => Event::NeedVoucher(need),
                    Some(SessionEvent::Receipt(receipt)) => Event::Receipt(receipt),
                    None => Event::Data(data),
                });
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.rest.push_str(std::str::from_utf8(&bytes).expect("text")),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The next event, which asks for a voucher.
    pub async fn needs(&mut self) -> NeedVoucher {
        match self.next().await {
            Some(Event::NeedVoucher(need)) => need,
            other => panic!("expected a wish for a voucher, not {other:?}"),
        }
    }

    /// So many events of the resource.
    pub async fn data(&mut self, count: usize) {
        for number in 0..count {
            let event = self.next().await;
            assert!(matches!(event, Some(Event::Data(_))), "event {number}: {event:?}");
        }
    }

    /// The receipt at the end.
    pub async fn receipt(&mut self) -> SessionReceipt {
        let receipt = match self.next().await {
            Some(Event::Receipt(receipt)) => receipt,
            other => panic!("expected a receipt, not {other:?}"),
        };
        assert!(self.next().await.is_none(), "the receipt is the last event");
        receipt.session().expect("a session's")
    }
}

/// So many tokens, one an event, in a stream that OpenAI's clients would read.
pub fn tokens(count: usize) -> String {
    let event = |number: usize| format!("data: {}\n\n", json!({ "choices": [{ "delta": { "content": format!("w{number} ") } }] }));
    (0..count).map(event).collect::<String>() + "data: [DONE]\n\n"
}

fn offers(response: &Response) -> Vec<Offer> {
    let values = response.headers().get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
    let offers = Offer::from_headers(values).into_iter().flatten();
    offers
        .filter(|offer| offer.terms.intent == "session")
        .inspect(|offer| drop(offer.terms.request::<SessionRequest>().expect("a session's")))
        .collect()
}

async fn read(response: Response) -> Answer {
    let (status, offers) = (response.status(), offers(&response).len());
    let header = response.headers().get("payment-receipt").map(|value| value.to_str().expect("text").to_owned());
    let receipt = header.map(|text| Receipt::from_header(&text).expect("a receipt"));
    let charged = receipt.as_ref().and_then(|receipt| receipt.more.get("charged")?.as_str()?.parse().ok());
    let is_problem = response.headers().get("content-type").is_some_and(|kind| kind == "application/problem+json");
    let body = response.text().await.expect("a body");
    // The answer to a HEAD has the problem's head only.
    let problem = (is_problem && !body.is_empty()).then(|| Problem::from_json(body.as_bytes()).expect("a problem"));
    Answer { status, body, receipt: receipt.map(|receipt| receipt.session().expect("a session's")), problem, offers, charged }
}
