//! Errors as `application/problem+json` (RFC 9457). Each says how much was charged.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use millstream_dialect::mpp::ProblemKind;
use millstream_tariff::TariffVersion;
use millstream_types::{Amount, CumulativeAmount, EscrowChannelId};
use serde::Serialize;

use crate::body::{Body, full};
use crate::port::RequestId;

/// Our own types of problems; `docs/operating/gateway.md` describes them.
const TYPES: &str = "urn:millstream:problem:";

/// When a client that waits for an approval asks again.
const APPROVAL_MILLIS: u64 = 2_000;

/// What went wrong, for the client.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    status: StatusCode,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    code: String,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    charged: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_id: Option<EscrowChannelId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_cumulative: Option<CumulativeAmount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_cumulative: Option<CumulativeAmount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tariff: Option<String>,
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem that cost nothing. `code` is kebab-case, `detail` one sentence that says what to do.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{TYPES}{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status,
            detail: detail.into(),
            instance: None,
            code: code.to_owned(),
            retryable: false,
            retry_after_ms: None,
            charged: Amount::ZERO,
            channel_id: None,
            required_cumulative: None,
            accepted_cumulative: None,
            policy: None,
            transaction: None,
            tariff: None,
        }
    }

    /// A problem that MPP has named, that cost nothing. Its code is the last part of the name.
    pub(crate) fn of(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::PAYMENT_REQUIRED);
        Self { kind: kind.uri(), title: kind.title(), ..Self::new(status, Self::code_of(kind), detail) }
    }

    /// Our code for a problem of MPP's: the last part of its name, which has no word of ours in it.
    pub(crate) fn code_of(kind: ProblemKind) -> &'static str {
        match kind {
            ProblemKind::InvalidOffer => "invalid-offer",
            ProblemKind::OfferNotFound => "offer-not-found",
            kind => kind.slug().rsplit('/').next().unwrap_or_default(),
        }
    }

    pub(crate) fn retryable(mut self, after_millis: u64) -> Self {
        self.retryable = true;
        self.retry_after_ms = Some(after_millis);
        self
    }

    pub(crate) fn charged(mut self, amount: Amount) -> Self {
        self.charged = amount;
        self
    }

    pub(crate) fn on_channel(mut self, channel: EscrowChannelId) -> Self {
        self.channel_id = Some(channel);
        self
    }

    pub(crate) fn totals(mut self, required: Option<CumulativeAmount>, accepted: CumulativeAmount) -> Self {
        (self.required_cumulative, self.accepted_cumulative) = (required, Some(accepted));
        self
    }

    pub(crate) fn by_policy(mut self, rule: &str) -> Self {
        self.policy = Some(rule.to_owned());
        self
    }

    /// The payment is good, and waits for the provider: sent again as it is, it goes on.
    pub(crate) fn needs_approval(detail: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "approval-needed", detail).retryable(APPROVAL_MILLIS)
    }

    pub(crate) fn by_transaction(mut self, transaction: Option<&str>) -> Self {
        self.transaction = transaction.map(str::to_owned);
        self
    }

    pub(crate) fn under(mut self, tariff: &TariffVersion) -> Self {
        self.tariff = Some(tariff.to_string());
        self
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The response.
    pub(crate) fn respond(mut self, request: &RequestId) -> Response<Body> {
        self.instance = Some(request.as_str().to_owned());
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(full(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(millis) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
        }
        response
    }
}
