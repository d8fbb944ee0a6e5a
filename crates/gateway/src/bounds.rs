//! What a request can come to at most, read from the request.

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use millstream_tariff::{Tariff, Unit, Usage};
use serde_json::{Map, Value};

use crate::route::{Limits, Route};

/// Tokens that a chat template adds around a request's text, beyond those its JSON has characters for.
const TEMPLATE_TOKENS: u64 = 64;

/// A request asks for more than the route allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {asked}, and this route allows {allowed} at most")]
pub(crate) struct TooMuch {
    pub(crate) field: &'static str,
    pub(crate) asked: u64,
    pub(crate) allowed: u64,
}

impl Route {
    /// The most that the request can be answered with. It depends on the request, the route and its price alone, so it is the same for the
    /// request that asks for the price and for the one that pays it.
    ///
    /// `fields` are those of its body, of which so many bytes were read.
    pub(crate) fn bound(&self, tariff: &Tariff, fields: Option<&Fields>, body_bytes: usize) -> Result<Usage, TooMuch> {
        let limits = &self.limits;
        let named = |names: &[&'static str]| {
            let named = names.iter().filter_map(|name| Some((*name, fields?.get(*name)?.as_u64()?)));
            named.max_by_key(|(_, value)| *value)
        };
        let within = |found: Option<(&'static str, u64)>, default: u64, allowed: u64| match found {
            Some((field, asked)) if asked > allowed => Err(TooMuch { field, asked, allowed }),
            Some((_, asked)) => Ok(asked),
            None => Ok(default.min(allowed)),
        };
        let choices = named(&["n", "best_of"]).map_or(1, |(_, n)| n).max(1);
        let tokens = within(
            named(&["max_completion_tokens", "max_output_tokens", "max_tokens"]),
            limits.output_tokens_max,
            limits.output_tokens_max,
        )?;
        let bytes = u64::try_from(body_bytes).unwrap_or(u64::MAX);
        Ok(Usage {
            images: within(named(&["n"]), 1, limits.images_max)
                .or_else(|too_much| if tariff.price().counts(Unit::Image) { Err(too_much) } else { Ok(0) })?,
            // One for each byte is more than any tokeniser makes of text.
            input_tokens: limits.input_tokens_max.unwrap_or_else(|| bytes.saturating_add(TEMPLATE_TOKENS)),
            output_tokens: tokens.saturating_mul(choices),
            ..self.fixed_bound()
        })
    }

    /// The most that any request on the route can be answered with.
    pub(crate) fn dearest(&self) -> Usage {
        let Limits { request_bytes_max, output_tokens_max, input_tokens_max, images_max, .. } = self.limits;
        Usage {
            images: images_max,
            input_tokens: input_tokens_max.unwrap_or_else(|| request_bytes_max.saturating_add(TEMPLATE_TOKENS)),
            output_tokens: output_tokens_max,
            ..self.fixed_bound()
        }
    }

    /// Whether the client asks for a stream of events.
    pub(crate) fn streams(&self, headers: &HeaderMap, fields: Option<&Fields>) -> bool {
        let accepts = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/event-stream"));
        headers.get_all(http::header::ACCEPT).iter().any(accepts)
            || fields.is_some_and(|fields| fields.get("stream") == Some(&Value::Bool(true)))
    }

    /// What does not depend on the request.
    fn fixed_bound(&self) -> Usage {
        Usage { calls: 1, millis: self.timeouts.total_millis(), bytes: self.limits.response_bytes_max, ..Usage::default() }
    }
}

/// The members of a request's JSON.
pub(crate) type Fields = Map<String, Value>;

/// The model that a request names.
pub(crate) fn model(fields: &Fields) -> Option<&str> {
    fields.get("model")?.as_str()
}

/// What a request's body says, if that is a JSON object.
pub(crate) fn json_fields(headers: &HeaderMap, body: &[u8]) -> Option<Fields> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
    if !content_type.to_ascii_lowercase().contains("json") {
        return None;
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// The body with `stream_options.include_usage`, when it asks for a stream and does not say. `None` leaves it as it is.
pub(crate) fn asking_for_usage(mut fields: Fields) -> Option<Vec<u8>> {
    if fields.get("stream") != Some(&Value::Bool(true)) {
        return None;
    }
    let options = fields.entry("stream_options").or_insert_with(|| Value::Object(Map::new())).as_object_mut()?;
    if options.contains_key("include_usage") {
        return None;
    }
    options.insert("include_usage".to_owned(), Value::Bool(true));
    serde_json::to_vec(&fields).ok()
}
