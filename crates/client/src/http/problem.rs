//! What servers say in `application/problem+json`, where it is about the payment.

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use millstream_dialect::mpp::{self, ProblemKind};
use millstream_types::{Amount, CumulativeAmount, parse_base_units};
use reqwest::Response;

use super::error::HttpPayError;
use super::payer::{Verdict, rebuilt};
use super::ticket::Ticket;

/// Bytes of a problem that are read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// A problem, as far as it is about a payment.
#[derive(Clone, Debug, Default)]
pub(super) struct Problem {
    pub(super) kind: Option<ProblemKind>,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) charged: Option<Amount>,
    pub(super) required: Option<CumulativeAmount>,
}

impl Problem {
    /// Reads a response's problem, if it has one, and gives the response back as it was.
    pub(super) async fn read(response: Response) -> Result<(Option<Self>, Response), reqwest::Error> {
        let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
        let short = response.content_length().is_none_or(|length| length <= PROBLEM_BYTES_MAX as u64);
        if !kind.is_some_and(|kind| kind.starts_with(b"application/problem+json")) || !short {
            return Ok((None, response));
        }
        let url = response.url().clone();
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let bytes = match Limited::new(body, PROBLEM_BYTES_MAX).collect().await {
            Ok(collected) => collected.to_bytes(),
            // A problem that long or broken is none that is understood.
            Err(_) => Bytes::new(),
        };
        let problem = mpp::Problem::from_json(&bytes).ok().map(|problem| Self::of(&problem));
        Ok((problem, rebuilt(url, http::Response::from_parts(parts, reqwest::Body::from(bytes)))))
    }

    fn of(problem: &mpp::Problem) -> Self {
        let text = |member: &str| problem.more.get(member).and_then(|value| value.as_str());
        let amount = |member: &str| text(member).and_then(|text| parse_base_units(text).ok());
        Self {
            kind: problem.kind(),
            code: text("code").unwrap_or_default().to_owned(),
            detail: problem.detail.clone().or_else(|| problem.title.clone()).unwrap_or_else(|| problem.type_uri.clone()),
            charged: amount("charged"),
            required: amount("requiredCumulative").map(|amount| CumulativeAmount::from_units(amount.units())),
        }
    }

    /// An answer that is no 402: whether it is about the payment's id, or the server's load.
    pub(super) async fn judge(ticket: &mut Ticket, response: Response) -> Result<Verdict, HttpPayError> {
        if response.status() != StatusCode::CONFLICT && response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return Ok(Verdict::Answer(response));
        }
        let status = response.status();
        let (problem, response) =
            Self::read(response).await.map_err(|source| HttpPayError::Unanswered { signed: ticket.signed(None), source })?;
        let Some(problem) = problem else { return Ok(Verdict::Answer(response)) };
        match problem.code.as_str() {
            "already-charged" if status == StatusCode::CONFLICT => {
                super::body::receipts(response.headers(), ticket);
                Err(HttpPayError::ChargedNotAnswered { signed: ticket.signed(problem.charged) })
            }
            "id-in-flight" if status == StatusCode::CONFLICT => Ok(Verdict::Wait),
            "approval-needed" | "ledger-unavailable" | "overloaded" if problem.charged.is_some_and(Amount::is_zero) => Ok(Verdict::Wait),
            _ => Ok(Verdict::Answer(response)),
        }
    }
}
