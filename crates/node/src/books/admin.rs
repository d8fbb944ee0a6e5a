//! The books on the admin listener.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use millstream_billing::{Receipt, Statement};
use millstream_types::{Address, ChannelId, Hash256, Timestamp};
use serde::{Deserialize, Serialize};

use super::BooksError;
use super::tallies::{By, Length, TallyView};
use crate::admin::{Admin, Problem};

/// Payers in one answer, at most.
const PAYERS_PAGE_MAX: usize = 1_000;

type Shared = State<Arc<Admin>>;

/// Their endpoints.
pub(crate) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/books", get(journal))
        .route("/books/receipts/charge/{sequence}", get(charge))
        .route("/books/receipts/line", get(line))
        .route("/books/statement", get(statement))
        .route("/books/payers", get(payers))
        .route("/books/tallies", get(tallies))
}

impl From<BooksError> for Problem {
    fn from(error: BooksError) -> Self {
        let (status, code) = match &error {
            BooksError::NoCharge { .. } => (StatusCode::NOT_FOUND, "no_such_charge"),
            BooksError::BeforeJournal { .. } => (StatusCode::GONE, "before_journal"),
            BooksError::NoLine { .. } => (StatusCode::NOT_FOUND, "no_such_line"),
            BooksError::Pruned { .. } => (StatusCode::GONE, "epoch_pruned"),
            BooksError::TooManyRows { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "too_many_rows"),
            BooksError::EmptyPeriod => (StatusCode::UNPROCESSABLE_ENTITY, "empty_period"),
            BooksError::Stopped(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
            BooksError::Records(_) => (StatusCode::INTERNAL_SERVER_ERROR, "records"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// `GET /books`.
#[derive(Serialize)]
struct JournalView {
    /// The account of the key that signs receipts and statements.
    key: Address,
    /// Number of the last batch.
    batch: u64,
    /// The link up to and with it.
    link: Hash256,
    /// Charges of HTTP 402 so far.
    charges: u64,
}

async fn journal(State(admin): Shared) -> Result<Json<JournalView>, Problem> {
    let key = admin.books.key();
    let read = move |engine: &millstream_engine::Engine| {
        let (head, charges) = (engine.journal(), engine.escrow_summary().charges);
        JournalView { key, batch: head.number, link: head.link, charges }
    };
    Ok(Json(admin.books.core.query(read).await?))
}

async fn charge(State(admin): Shared, Path(sequence): Path<u64>) -> Result<Json<Receipt>, Problem> {
    Ok(Json(admin.books.charge_receipt(sequence).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineQuery {
    channel: ChannelId,
    line: u64,
}

async fn line(State(admin): Shared, Query(LineQuery { channel, line }): Query<LineQuery>) -> Result<Json<Receipt>, Problem> {
    Ok(Json(admin.books.line_receipt(channel, line).await?))
}

/// A period in milliseconds of Unix time: from its first moment to before the other; all of time without them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementQuery {
    payer: Address,
    from: Option<u64>,
    to: Option<u64>,
}

async fn statement(State(admin): Shared, Query(query): Query<StatementQuery>) -> Result<Json<Statement>, Problem> {
    let (from, to) = period(query.from, query.to);
    Ok(Json(admin.books.statement(query.payer, from, to).await?))
}

fn period(from: Option<u64>, to: Option<u64>) -> (Timestamp, Timestamp) {
    (Timestamp::from_millis(from.unwrap_or_default()), Timestamp::from_millis(to.unwrap_or(u64::MAX)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayersQuery {
    after: Option<Address>,
    limit: Option<usize>,
}

async fn payers(State(admin): Shared, Query(PayersQuery { after, limit }): Query<PayersQuery>) -> Result<Json<Vec<Address>>, Problem> {
    let limit = limit.unwrap_or(PAYERS_PAGE_MAX).min(PAYERS_PAGE_MAX);
    Ok(Json(admin.books.payers(after, limit).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TalliesQuery {
    by: By,
    every: Length,
    from: Option<u64>,
    to: Option<u64>,
}

async fn tallies(State(admin): Shared, Query(query): Query<TalliesQuery>) -> Result<Json<Vec<TallyView>>, Problem> {
    let (from, to) = period(query.from, query.to);
    Ok(Json(admin.books.tallies(query.every, query.by, from, to).await?))
}
