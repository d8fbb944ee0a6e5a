//! What is offered, for programs and people: `/openapi.json`, `/.well-known/x402`, `/llms.txt`, and `/healthz`.

use std::fmt::Write;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use millstream_tariff::{Price, Tariff};
use serde_json::{Map, Value, json};

use crate::GatewayConfig;
use crate::body::{Body, empty, full};
use crate::dialects::Dialects;
use crate::route::{Route, Routes};

/// Seconds for which a listing may be kept.
const MAX_AGE: &str = "public, max-age=300";

/// The listings, made once. `{base}` stands for the gateway's address, which only a request may tell.
pub(crate) struct Discovery {
    openapi: String,
    well_known: String,
    llms: String,
}

const BASE: &str = "{base}";

impl Discovery {
    pub(crate) fn new(config: &GatewayConfig, routes: &Routes, dialects: &Dialects) -> Self {
        Self {
            openapi: pretty(&openapi(config, routes, dialects)),
            well_known: pretty(&well_known(routes)),
            llms: llms(config, routes, dialects),
        }
    }

    /// The answer, when the request is for one of these.
    pub(crate) fn answer(&self, request: &Request<Body>, base_url: &str) -> Option<Response<Body>> {
        let (kind, text) = match request.uri().path() {
            "/healthz" => ("text/plain; charset=utf-8", "ok\n".to_owned()),
            "/openapi.json" => ("application/json", self.openapi.replace(BASE, base_url)),
            "/.well-known/x402" => ("application/json", self.well_known.replace(BASE, base_url)),
            "/llms.txt" => ("text/plain; charset=utf-8", self.llms.replace(BASE, base_url)),
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
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// OpenAPI 3.1, with MPP's `x-service-info` and `x-payment-info`.
fn openapi(config: &GatewayConfig, routes: &Routes, dialects: &Dialects) -> Value {
    let mut paths = Map::new();
    for route in routes.iter() {
        let item = paths.entry(openapi_path(route.path())).or_insert_with(|| Value::Object(Map::new()));
        let Some(item) = item.as_object_mut() else { continue };
        for method in methods(route) {
            // An earlier route of the same path has the method already.
            item.entry(method).or_insert_with(|| operation(route, dialects));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": config.server.name,
            "description": config.server.description.as_deref().unwrap_or("Services that are paid for with each request, by HTTP 402."),
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{ "url": BASE }],
        "x-service-info": { "name": config.server.name, "protocols": dialects.names(), "documentation": format!("{BASE}/llms.txt") },
        "paths": paths,
    })
}

fn operation(route: &Route, dialects: &Dialects) -> Value {
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
    if let Some(tariff) = route.tariff() {
        responses.insert("402".to_owned(), json!({ "description": "Payment is needed; the headers say how." }));
        operation.insert("x-payment-info".to_owned(), payment_info(route, tariff, dialects));
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
fn well_known(routes: &Routes) -> Value {
    let paid = routes.iter().filter(|route| route.tariff().is_some());
    let resources: Vec<String> = paid.map(|route| format!("{BASE}{}", route.path())).collect();
    json!({ "version": 1, "x402Version": 2, "resources": resources, "openapi": format!("{BASE}/openapi.json") })
}

/// A page for language models.
fn llms(config: &GatewayConfig, routes: &Routes, dialects: &Dialects) -> String {
    let mut text = format!("# {}\n\n", config.server.name);
    if let Some(description) = &config.server.description {
        let _ = writeln!(text, "> {description}\n");
    }
    let _ = writeln!(
        text,
        "Requests are paid for by HTTP 402. Ask without a payment and the answer is a 402 whose headers say what it costs and how to pay ({}).\n\
         Every error says in `charged` what it cost. Prices and paths for programs: {BASE}/openapi.json\n\n## Services\n",
        dialects.names().join(", "),
    );
    for route in routes.iter() {
        let methods = methods(route).join(", ").to_ascii_uppercase();
        let price = route.tariff().map_or_else(|| "free".to_owned(), |tariff| tariff.price().to_string());
        let _ = write!(text, "- `{methods} {}`: {price}", route.path());
        let _ = match &route.description {
            Some(description) => writeln!(text, ". {description}"),
            None => writeln!(text),
        };
    }
    text
}
