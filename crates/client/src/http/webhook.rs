//! Tells somebody that an approval waits. It is told, and decides nothing: who approves says so to this payer.

use std::sync::PoisonError;
use std::time::Duration;

use millstream_policy::Ledger;
use reqwest::Url;
use serde_json::json;

use super::error::HttpPayError;
use super::payer::{Inner, Prepared, is_loopback};

/// Times that it is tried, each after a longer pause.
const TRIES: u32 = 4;
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whether approvals may be told there: it says who is paid how much.
pub(super) fn is_allowed(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

impl Inner {
    /// Tells of an approval that began to wait just now.
    pub(super) fn tell_of(&self, waits: &HttpPayError, prepared: &Prepared) {
        let HttpPayError::NeedsApproval { origin, approval, price, expires_at } = waits else { return };
        let Some(url) = self.options.policy.webhook.as_deref().and_then(|url| url.parse::<Url>().ok()) else { return };
        let found = |ledger: &Ledger| ledger.approvals().find(|waiting| waiting.number == *approval).map(|waiting| waiting.hold.clone());
        let Some(waiting) = self.book.read_policy(found) else { return };
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(*approval) {
            // A request that comes again while it waits.
            return;
        }
        let symbol = self.policy.asset(waiting.asset).map(|rules| rules.symbol.clone());
        let body = json!({
            "type": "approval-needed", "approval": approval, "origin": origin, "method": prepared.method.as_str(), "agent": waiting.subject.agent,
            "payee": waiting.subject.payee, "category": waiting.subject.category, "price": price, "symbol": symbol,
            "chainId": waiting.asset.chain.get(), "token": waiting.asset.token, "expiresAt": expires_at.as_secs_down(),
            "approve": format!("millstream policy approve {approval}"), "deny": format!("millstream policy deny {approval}"),
        });
        let (client, approval) = (self.client.clone(), *approval);
        tokio::spawn(async move {
            let mut pause = Duration::from_millis(500);
            for _ in 0..TRIES {
                match client.post(url.clone()).json(&body).timeout(ANSWER_MAX).send().await {
                    Ok(response) if response.status().is_success() => return,
                    Ok(response) => tracing::warn!(approval, status = %response.status(), "the webhook did not take an approval"),
                    Err(error) => tracing::warn!(approval, error = %error.without_url(), "the webhook is not reached"),
                }
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(4);
            }
        });
    }
}
