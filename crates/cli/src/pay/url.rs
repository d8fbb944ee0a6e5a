//! `millstream pay URL`: one request, paid for where it has to be.

use std::io::{self, Write};

use clap::Args;
use millstream_client::http::{Asset, HttpPayer, OfferView, Payment, PaymentState};
use millstream_types::{Amount, EscrowChannelId};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use serde::Serialize;

use crate::context::Context;
use crate::error::{CliError, CliResult, Exit};
use crate::output::{Format, View, columns};
use crate::spend::SpendArgs;

/// The request of `pay URL`.
#[derive(Args, Clone, Debug, Default)]
pub struct UrlArgs {
    /// Pay for a request to this address (HTTP 402, x402 or MPP) instead of on a channel of a node
    #[arg(value_name = "URL", conflicts_with_all = ["channel", "amount"])]
    pub url: Option<String>,
    /// The method; GET, or POST with --data
    #[arg(short = 'X', long = "request", value_name = "METHOD", requires = "url")]
    pub method: Option<String>,
    /// A header of the request. May be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "url")]
    pub header: Vec<String>,
    /// The body of the request; @FILE reads it from a file, @- from standard input
    #[arg(short = 'd', long, value_name = "DATA", requires = "url")]
    pub data: Option<String>,
    /// Names the request: repeated under the same key it is paid once
    #[arg(long, value_name = "KEY", requires = "url")]
    pub idempotency_key: Option<String>,
    /// Show what the request would cost, and pay nothing
    #[arg(long, requires = "url")]
    pub dry_run: bool,
    /// Whose money, and how much of it.
    #[command(flatten)]
    pub spend: SpendArgs,
}

/// An offer. The price in base units.
#[derive(Clone, Debug, Serialize)]
struct OfferRow {
    scheme: &'static str,
    price: Amount,
    token: Option<String>,
    shown: Option<String>,
    payee: String,
    /// Why it would not be taken; nothing when it would be.
    refusal: Option<String>,
}

/// All offers; none when nothing has to be paid.
#[derive(Serialize)]
struct OffersView {
    free: bool,
    offers: Vec<OfferRow>,
}

/// What a request cost. Amounts in base units.
#[derive(Clone, Debug, Serialize)]
struct ReceiptView {
    id: String,
    status: u16,
    scheme: &'static str,
    payee: String,
    token: String,
    channel: Option<EscrowChannelId>,
    price: Amount,
    charged: Option<Amount>,
    deposited: Option<Amount>,
    transaction: Option<String>,
    disputed: Option<String>,
}

impl View for OffersView {
    fn table(&self) -> String {
        if self.free {
            return "nothing has to be paid".to_owned();
        }
        let rows = self.offers.iter().map(|offer| {
            let price = offer.shown.clone().unwrap_or_else(|| offer.price.to_string());
            let taken = offer.refusal.as_deref().map_or_else(|| "yes".to_owned(), |refusal| format!("no: {refusal}"));
            vec![offer.scheme.to_owned(), price, offer.payee.clone(), taken]
        });
        columns(&["scheme", "price at most", "payee", "taken"], &[1], rows)
    }
}

impl UrlArgs {
    fn request(&self, url: &str) -> CliResult<Request> {
        let wrong = |what: String| CliError::usage("request", what);
        let url = url.parse().map_err(|error| wrong(format!("{url} is no address: {error}")))?;
        let default = if self.data.is_some() { "POST" } else { "GET" };
        let method = self.method.as_deref().unwrap_or(default);
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong(format!("{method} is no method")))?;
        let mut request = Request::new(method, url);
        for line in &self.header {
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(format!("{line} is no header: expected `name: value`")))?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong(format!("{name} is no name of a header")))?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong(format!("the value of {name} is not one of a header")))?;
            request.headers_mut().append(name, value);
        }
        if let Some(key) = &self.idempotency_key {
            let value = HeaderValue::from_str(key).map_err(|_| wrong(format!("{key} is no key")))?;
            request.headers_mut().insert(HeaderName::from_static("idempotency-key"), value);
        }
        if let Some(data) = &self.data {
            let body = body(data)?;
            if !request.headers().contains_key(CONTENT_TYPE) {
                let kind = if body.starts_with(b"{") || body.starts_with(b"[") { "application/json" } else { "application/octet-stream" };
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }
}

fn body(data: &str) -> CliResult<Vec<u8>> {
    let failed = |what: &str, error: io::Error| CliError::usage("request", format!("cannot read {what}: {error}"));
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => {
            let mut body = Vec::new();
            io::Read::read_to_end(&mut io::stdin().lock(), &mut body).map_err(|error| failed("standard input", error))?;
            Ok(body)
        }
        Some(file) => std::fs::read(file).map_err(|error| failed(file, error)),
    }
}

/// Runs `pay URL`: the body goes to standard output, the receipt to standard error.
///
/// # Errors
/// The request is not paid or not answered; the server's answer is an error.
pub(super) async fn run(context: &Context, args: &UrlArgs, url: &str) -> CliResult<()> {
    let request = args.request(url)?;
    let payer = args.spend.payer(context).await?;
    if args.dry_run {
        let offers = payer.quote(request).await?;
        let rows = offers.iter().flatten().map(row).collect();
        return context.output.show(&OffersView { free: offers.is_none(), offers: rows });
    }
    let mut response = payer.execute(request).await?;
    let status = response.status();
    let payment = response.extensions().get::<Payment>().cloned();
    let mut stdout = io::stdout();
    let copied = loop {
        match response.chunk().await {
            Ok(None) => break Ok(()),
            Ok(Some(piece)) => match stdout.write_all(&piece).and_then(|()| stdout.flush()) {
                Ok(()) => {}
                // Nobody reads on.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(()),
                Err(error) => break Err(CliError::failed("output", format!("cannot write to standard output: {error}"))),
            },
            Err(error) => break Err(CliError::unavailable("answer_broken", format!("the answer broke off: {error}"))),
        }
    };
    drop(response);
    if let Some(payment) = payment {
        receipt(context, &payer, &payment.settled().await, status.as_u16());
    }
    copied?;
    if status.is_success() {
        return Ok(());
    }
    let exit = if status.is_server_error() { Exit::Unavailable } else { Exit::Refused };
    Err(CliError::new(exit, "http_status", format!("the server answered {status}")))
}

fn row(offer: &OfferView) -> OfferRow {
    OfferRow {
        scheme: offer.scheme.name(),
        price: offer.price,
        token: offer.asset.as_ref().map(|asset| asset.id.token.to_string()),
        shown: offer.asset.as_ref().map(|asset| asset.show(offer.price)),
        payee: offer.payee.to_string(),
        refusal: offer.refusal.as_ref().map(ToString::to_string),
    }
}

fn receipt(context: &Context, payer: &HttpPayer, state: &PaymentState, status: u16) {
    let asset: Option<&Asset> = payer.options().limits.of(state.asset).map(|(asset, _)| asset);
    let show = |amount: Amount| asset.map_or_else(|| amount.to_string(), |asset| asset.show(amount));
    let text = if context.output.format() == Format::Json {
        let view = ReceiptView {
            id: state.id.clone(),
            status,
            scheme: state.scheme.name(),
            payee: state.payee.to_string(),
            token: state.asset.token.to_string(),
            channel: state.channel,
            price: state.price,
            charged: state.charged,
            deposited: state.deposited,
            transaction: state.transaction.clone(),
            disputed: state.disputed.clone(),
        };
        serde_json::to_string(&view).unwrap_or_default()
    } else {
        let charged = state.charged.map_or_else(|| format!("at most {}", show(state.price)), show);
        let deposited = state.deposited.map(|amount| format!(", deposited {}", show(amount))).unwrap_or_default();
        let disputed = state.disputed.as_deref().map(|what| format!("; DISPUTED: {what}")).unwrap_or_default();
        format!("paid {charged} by {}{deposited}{disputed}", state.scheme.name())
    };
    // Nobody reads standard error: the book still tells.
    let _ = writeln!(io::stderr(), "{text}");
}
