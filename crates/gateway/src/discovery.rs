//! What is offered, for programs and people: `/openapi.json`, `/.well-known/x402`, `/llms.txt`, and `/healthz`.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use millstream_tariff::{Price, Step, Tariff, TariffVersion, Unit};
use serde_json::{Map, Value, json};

use crate::body::{Body, empty, full};
use crate::cards::Cards;
use crate::dialects::{Dialects, now};
use crate::priced::{Listed, Priced, priced};
use crate::route::{Pricing, Route, Routes};
use crate::{GatewayConfig, ServerSection};

/// Seconds for which a listing may be kept.
const MAX_AGE: &str = "public, max-age=300";

/// The listings, made anew when other prices hold.
pub(crate) struct Discovery {
    server: ServerSection,
    made: Mutex<Option<Made>>,
}

/// A listing, and the versions of all routes that it is of.
type Made = (Vec<Option<TariffVersion>>, Arc<Listing>);

/// The listings of some prices. `{base}` stands for the gateway's address, which only a request may tell.
struct Listing {
    openapi: String,
    well_known: String,
    llms: String,
}

/// What is listed: each route with its prices, nothing for a free one and for one whose card does not hold.
struct Offered<'a> {
    server: &'a ServerSection,
    routes: Vec<(&'a Route, Option<Priced>)>,
    dialects: &'a Dialects,
}

const BASE: &str = "{base}";

impl Discovery {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self { server: config.server.clone(), made: Mutex::default() }
    }

    /// The answer, when the request is for one of these.
    pub(crate) fn answer(
        &self,
        request: &Request<Body>,
        base_url: &str,
        routes: &Routes,
        cards: Option<&Arc<Cards>>,
        dialects: &Dialects,
    ) -> Option<Response<Body>> {
        let listing = || self.listing(routes, cards, dialects);
        let (kind, text) = match request.uri().path() {
            "/healthz" => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            "/openapi.json" => ("application/json", listing().openapi.replace(BASE, base_url)),
            "/.well-known/x402" => ("application/json", listing().well_known.replace(BASE, base_url)),
            "/llms.txt" => ("text/plain; charset=utf-8", listing().llms.replace(BASE, base_url)),
            _ => return None,
        };
        let body = match *request.method() {
            Method::GET => full(text),
            Method::HEAD => empty(),
            _ => return None,
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let caching = if request.uri().path() == "/healthz" { "no-store" } else { MAX_AGE };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        Some(response)
    }

    fn listing(&self, routes: &Routes, cards: Option<&Arc<Cards>>, dialects: &Dialects) -> Arc<Listing> {
        let now = now();
        let routes: Vec<_> = routes.iter().map(|route| (route, priced(route, cards, now))).collect();
        let versions: Vec<_> = routes.iter().map(|(_, priced)| priced.as_ref().map(Priced::version)).collect();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, listing)) = made.as_ref().filter(|(of, _)| *of == versions) {
            return Arc::clone(listing);
        }
        let offered = Offered { server: &self.server, routes, dialects };
        let listing =
            Arc::new(Listing { openapi: pretty(&openapi(&offered)), well_known: pretty(&well_known(&offered)), llms: llms(&offered) });
        *made = Some((versions, Arc::clone(&listing)));
        listing
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// OpenAPI 3.1, with MPP's `x-service-info` and `x-payment-info`.
fn openapi(offered: &Offered<'_>) -> Value {
    let Offered { server, routes, dialects } = offered;
    let mut paths = Map::new();
    for (route, priced) in routes {
        let item = paths.entry(openapi_path(route.path())).or_insert_with(|| Value::Object(Map::new()));
        let Some(item) = item.as_object_mut() else { continue };
        for method in methods(route) {
            // An earlier route of the same path has the method already.
            item.entry(method).or_insert_with(|| operation(route, priced.as_ref(), dialects));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": server.name,
            "description": server.description.as_deref().unwrap_or("Services that are paid for with each request, by HTTP 402."),
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{ "url": BASE }],
        "x-service-info": { "name": server.name, "protocols": dialects.names(), "documentation": format!("{BASE}/llms.txt") },
        "paths": paths,
    })
}

fn operation(route: &Route, priced: Option<&Priced>, dialects: &Dialects) -> Value {
    let mut operation = Map::new();
    if let Some(description) = &route.description {
        operation.insert("summary".to_owned(), json!(description));
    }
    let content = route.mime_type.as_ref().map(|kind| json!({ kind: {} }));
    let mut responses = Map::new();
    responses.insert(
        "2XX".to_owned(),
        match content {
            Some(content) => json!({ "description": "What was asked for.", "content": content }),
            None => json!({ "description": "What was asked for." }),
        },
    );
    let listed = priced.map(|priced| priced.listed(route)).unwrap_or_default();
    if let Some(first) = listed.first() {
        responses.insert("402".to_owned(), json!({ "description": "Payment is needed; the headers say how." }));
        let mut info = payment_info(route, first.tariff, dialects);
        if let (Some(info), true) = (info.as_object_mut(), route.card().is_some()) {
            let digest = first.tariff.digest().map(ToString::to_string);
            info.insert("tariffDigest".to_owned(), json!(digest));
            info.insert("entries".to_owned(), listed.iter().map(|listed| entry(route, listed)).collect());
        }
        operation.insert("x-payment-info".to_owned(), info);
    }
    operation.insert("responses".to_owned(), Value::Object(responses));
    if let parameters @ [_, ..] = parameters(route.path()).as_slice() {
        operation.insert("parameters".to_owned(), json!(parameters));
    }
    Value::Object(operation)
}

fn payment_info(route: &Route, tariff: &Tariff, dialects: &Dialects) -> Value {
    let ceiling = tariff.ceiling_up(&route.dearest()).ok();
    json!({
        "price": tariff.price().to_string(),
        "rates": rates(tariff.price()),
        "minimum": tariff.minimum(),
        "maximum": ceiling,
        "tariff": tariff.version().to_string(),
        "offers": dialects.listed(tariff),
    })
}

/// An entry of a card, with the models that it is for; none for all.
fn entry(route: &Route, listed: &Listed<'_>) -> Value {
    let tariff = listed.tariff;
    let tiers = Unit::ALL.into_iter().filter_map(|unit| {
        let steps = tariff.schedule().steps(unit).filter(|steps| steps.len() > 1)?;
        let step = |step: &Step| json!({ "above": step.above.to_string(), "each": { "baseUnits": step.each.down(), "attos": step.each.attos().to_string() } });
        Some(json!({ "unit": unit.as_str(), "steps": steps.iter().map(step).collect::<Vec<_>>() }))
    });
    json!({
        "models": listed.models,
        "price": tariff.price().to_string(),
        "rates": rates(tariff.price()),
        "tiers": tiers.collect::<Vec<_>>(),
        "minimum": tariff.minimum(),
        "maximum": tariff.ceiling_up(&route.dearest()).ok(),
    })
}

fn rates(price: &Price) -> Vec<Value> {
    let rate = |rate: &millstream_tariff::Rate| json!({ "unit": rate.unit().as_str(), "per": rate.per().get().to_string(), "price": rate.written(price.token()) });
    price.rates().iter().map(rate).collect()
}

fn methods(route: &Route) -> Vec<String> {
    let all = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let own = if route.methods.is_empty() { &all[..] } else { &route.methods };
    own.iter().map(|method| method.as_str().to_ascii_lowercase()).collect()
}

/// `/a/*` as OpenAPI has it: a parameter of the path.
fn openapi_path(path: &str) -> String {
    path.strip_suffix('*').map_or_else(|| path.to_owned(), |before| format!("{before}{{rest}}"))
}

fn parameters(path: &str) -> Vec<Value> {
    let path = openapi_path(path);
    let named = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}').map(str::to_owned));
    named.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

/// The resources that x402 clients can ask for a price.
fn well_known(offered: &Offered<'_>) -> Value {
    let paid = offered.routes.iter().filter(|(_, priced)| priced.is_some());
    let resources: Vec<String> = paid.map(|(route, _)| format!("{BASE}{}", route.path())).collect();
    json!({ "version": 1, "x402Version": 2, "resources": resources, "openapi": format!("{BASE}/openapi.json") })
}

/// A page for language models.
fn llms(offered: &Offered<'_>) -> String {
    let Offered { server, routes, dialects } = offered;
    let mut text = format!("# {}\n\n", server.name);
    if let Some(description) = &server.description {
        let _ = writeln!(text, "> {description}\n");
    }
    let _ = writeln!(
        text,
        "Requests are paid for by HTTP 402. Ask without a payment and the answer is a 402 whose headers say what it costs and how to pay ({}).\n\
         Every error says in `charged` what it cost. Prices and paths for programs: {BASE}/openapi.json\n\n## Services\n",
        dialects.names().join(", "),
    );
    for (route, priced) in routes {
        let methods = methods(route).join(", ").to_ascii_uppercase();
        let listed = priced.as_ref().map(|priced| priced.listed(route)).unwrap_or_default();
        let price = |listed: &Listed<'_>| match &listed.models[..] {
            [] => listed.tariff.price().to_string(),
            models => format!("{}: {}", models.join(", "), listed.tariff.price()),
        };
        let prices: Vec<String> = listed.iter().map(price).collect();
        let prices = match (&prices[..], route.pricing()) {
            ([], Pricing::Free) => "free".to_owned(),
            ([], Pricing::Price(_) | Pricing::Card(_)) => "not sold now".to_owned(),
            (prices, _) => prices.join("; "),
        };
        let _ = write!(text, "- `{methods} {}`: {prices}", route.path());
        let _ = match &route.description {
            Some(description) => writeln!(text, ". {description}"),
            None => writeln!(text),
        };
    }
    text
}
