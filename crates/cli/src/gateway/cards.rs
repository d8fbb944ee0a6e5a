//! Rate cards on the admin listener of a running gateway: what is in use, and what is put into use without a restart.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use millstream_gateway::cards::{CARD_BYTES_MAX, Cards, PublishError};
use millstream_node::{Endpoint, Problem};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::error::chain_of;
use crate::ratecard::{CardView, PublishedCard, now, published};

/// `POST /ratecards/reload`: how many cards were new in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reloaded {
    new: usize,
}

type Shared = State<Arc<Cards>>;

/// The endpoints, described.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("GET", "/ratecards", "The rate cards in use, and what is to come"),
    Endpoint::new("POST", "/ratecards", "Take a signed rate card, the body's TOML, into the directory"),
    Endpoint::new("POST", "/ratecards/reload", "Read the directory of rate cards again"),
    Endpoint::new("GET", "/ratecards/{card}", "One rate card, as it was signed"),
];

/// The endpoints.
pub(super) fn routes(cards: Arc<Cards>) -> Router {
    Router::new()
        .route("/ratecards", get(list).post(publish))
        .route("/ratecards/reload", post(reload))
        .route("/ratecards/{card}", get(show))
        .layer(DefaultBodyLimit::max(CARD_BYTES_MAX))
        .with_state(cards)
}

async fn list(State(cards): Shared) -> Json<Vec<CardView>> {
    Json(CardView::all(&cards.set(), now()))
}

async fn show(State(cards): Shared, Path(card): Path<String>) -> Result<Response, Problem> {
    let unknown = || Problem::new(StatusCode::NOT_FOUND, "no_such_ratecard", format!("there is no rate card {card} in use"));
    let (name, version) = card.rsplit_once('@').ok_or_else(unknown)?;
    let set = cards.set();
    let signed = version.parse().ok().and_then(|version| set.named(name, version)).ok_or_else(unknown)?;
    Ok(([(header::CONTENT_TYPE, "application/toml")], signed.text().to_owned()).into_response())
}

async fn publish(State(cards): Shared, text: String) -> Result<Json<PublishedCard>, Problem> {
    // It is written and synced.
    let done = tokio::task::spawn_blocking(move || match cards.publish(&text, now()) {
        Ok(done) => Ok(published(&cards, &done)),
        Err(error) => Err(problem(&error)),
    });
    let done = done.await.map_err(anyhow::Error::from)??;
    if done.is_new {
        info!(card = done.card.card, digest = %done.card.digest, valid_from = done.card.valid_from, "a rate card was published");
    }
    Ok(Json(done))
}

async fn reload(State(cards): Shared) -> Result<Json<Reloaded>, Problem> {
    let done = tokio::task::spawn_blocking(move || cards.reload(now()).map_err(|error| problem(&error)));
    let new = done.await.map_err(anyhow::Error::from)??;
    info!(new, "the rate cards were read again");
    Ok(Json(Reloaded { new }))
}

/// Whatever it is, what was in use still is.
fn problem(error: &PublishError) -> Problem {
    let (status, code) = match error {
        PublishError::File(_) => (StatusCode::UNPROCESSABLE_ENTITY, "ratecard_wrong"),
        PublishError::Signer { .. } => (StatusCode::FORBIDDEN, "ratecard_signer"),
        PublishError::Terms { .. } | PublishError::NotUsable { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "ratecard_unusable"),
        PublishError::OtherContent { .. } | PublishError::NotNewer { .. } | PublishError::TooMany => {
            (StatusCode::CONFLICT, "ratecard_conflict")
        }
        PublishError::Retroactive { .. } => (StatusCode::CONFLICT, "ratecard_retroactive"),
        PublishError::Misnamed { .. } => (StatusCode::CONFLICT, "ratecard_file"),
        PublishError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "ratecard_storage"),
    };
    let message = chain_of(error);
    warn!(reason = message, "a rate card was refused; prices stay as they are");
    Problem::new(status, code, message)
}
