//! The admin API, described: one table of endpoints, from which `GET /openapi.json` is made. Tests compare it with the routes that there are.

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::access::Scope;

/// An endpoint of the admin listener.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path, with `{places}`.
    pub path: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// Names in the query, and what they are.
    pub query: &'static [(&'static str, &'static str)],
    /// Members of the JSON body, and what they are.
    pub body: &'static [(&'static str, &'static str)],
}

impl Endpoint {
    /// One without query and body.
    #[must_use]
    pub const fn new(method: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self { method, path, summary, query: &[], body: &[] }
    }

    fn scope(&self) -> Scope {
        self.method.parse::<Method>().map_or(Scope::Operate, |method| Scope::of(&method))
    }
}

const PERIOD_FROM: &str = "the period's first millisecond of Unix time; all that came before without it";
const PERIOD_TO: &str = "the millisecond behind the period; without it there is no end";

/// Those of every node.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("GET", "/livez", "Whether the core ticks"),
    Endpoint::new("GET", "/readyz", "Whether payments are taken, or why not"),
    Endpoint::new("GET", "/metrics", "Metrics in the text form of OpenMetrics"),
    Endpoint::new("GET", "/status", "What the node is and does"),
    Endpoint::new("GET", "/openapi.json", "This description"),
    Endpoint {
        body: &[("target", "an absolute path on the node's machine that is not there yet")],
        ..Endpoint::new("POST", "/backup", "Write a backup of the database while the node runs")
    },
    Endpoint::new("POST", "/reload", "Read the configuration again, and take it whole or not at all"),
    Endpoint::new("GET", "/books", "Where the journal is, and whose key signs it"),
    Endpoint::new("GET", "/books/receipts/charge/{sequence}", "The receipt of one charge of HTTP 402"),
    Endpoint {
        query: &[("channel", "the channel that paid"), ("line", "the payment's number on it, from 0")],
        ..Endpoint::new("GET", "/books/receipts/line", "The receipt of one payment on a channel of the ledger")
    },
    Endpoint {
        query: &[("payer", "the payer's account"), ("from", PERIOD_FROM), ("to", PERIOD_TO)],
        ..Endpoint::new("GET", "/books/statement", "The statement of a payer for a period")
    },
    Endpoint {
        query: &[("after", "an account: the page begins behind it"), ("limit", "payers, 1000 at most")],
        ..Endpoint::new("GET", "/books/payers", "A page of the payers that have a statement")
    },
    Endpoint {
        query: &[("by", "what the sums are for"), ("every", "hour or day"), ("from", PERIOD_FROM), ("to", PERIOD_TO)],
        ..Endpoint::new("GET", "/books/tallies", "Sums by hour or day")
    },
];

/// Those of a node with a ledger.
pub(crate) const LEDGER_ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        query: &[("after", "a channel id: the page begins behind it"), ("limit", "channels, 10000 at most")],
        ..Endpoint::new("GET", "/channels", "A page of channels, in the order of their ids")
    },
    Endpoint::new("GET", "/settle/plan", "What a settlement would do now"),
    Endpoint::new("POST", "/settle/run", "Settle, and answer when it is mined"),
    Endpoint::new("GET", "/settle/jobs", "Proofs that wait or are being made"),
    Endpoint::new("DELETE", "/settle/jobs/{id}", "Take a proof back"),
    Endpoint::new("POST", "/epochs/cut", "Cut the open epoch"),
    Endpoint::new("GET", "/relays", "Deposits that are relayed, or were in the last day"),
    Endpoint {
        query: &[("channel", "the channel that paid"), ("line", "the payment's number on it, from 0")],
        ..Endpoint::new("GET", "/proof", "The proof of one payment")
    },
];

/// The description of these endpoints, in OpenAPI 3.1.
pub(crate) fn document<'a>(endpoints: impl Iterator<Item = &'a Endpoint>, needs_token: bool) -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints {
        let of_path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        of_path[endpoint.method.to_lowercase()] = operation(endpoint, needs_token);
    }
    let problem = json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": { "type": "string", "description": "A stable word for programs" },
            "message": { "type": "string", "description": "A sentence for people" },
        },
    });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Millstream admin API", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": { "Problem": problem },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(endpoint: &Endpoint, needs_token: bool) -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let places = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let places = places.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let query = endpoint
        .query
        .iter()
        .map(|(name, what)| json!({ "name": name, "in": "query", "description": what, "schema": text(what) }));
    let parameters: Vec<Value> = places.chain(query).collect();
    let failed = json!({
        "description": "A problem",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    let mut operation = json!({
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": { "200": { "description": "The answer" }, "default": failed },
        "x-scope": endpoint.scope().name(),
    });
    if !endpoint.body.is_empty() {
        let members: Map<String, Value> = endpoint.body.iter().map(|(name, what)| ((*name).to_owned(), text(what))).collect();
        let required: Vec<_> = endpoint.body.iter().map(|(name, _)| name).collect();
        let schema = json!({ "type": "object", "properties": members, "required": required });
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    if needs_token {
        operation["security"] = json!([{ "token": [endpoint.scope().name()] }]);
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The routes that the router is made of, read from its source.
    fn routes(source: &str) -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        for line in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, handlers) = line.split_once('"').expect("a path");
            for method in ["get", "post", "delete"] {
                if handlers.contains(&format!("{method}(")) {
                    routes.insert((method.to_uppercase(), path.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn the_table_has_every_route_and_no_other() {
        let table = ENDPOINTS.iter().chain(LEDGER_ENDPOINTS).map(|endpoint| (endpoint.method.to_owned(), endpoint.path.to_owned()));
        let mut routed = routes(include_str!("admin.rs"));
        routed.append(&mut routes(include_str!("books/admin.rs")));
        assert_eq!(table.collect::<BTreeSet<_>>(), routed);
    }

    #[test]
    fn a_description_names_places_queries_bodies_and_scopes() {
        let document = document(ENDPOINTS.iter().chain(LEDGER_ENDPOINTS), true);
        assert_eq!(document["paths"]["/settle/jobs/{id}"]["delete"]["parameters"][0]["name"], "id");
        assert_eq!(document["paths"]["/proof"]["get"]["parameters"].as_array().expect("a list").len(), 2);
        assert_eq!(document["paths"]["/backup"]["post"]["x-scope"], "operate");
        assert!(document["paths"]["/backup"]["post"]["requestBody"].is_object());
        assert_eq!(document["paths"]["/status"]["get"]["security"][0]["token"][0], "read");
    }
}
