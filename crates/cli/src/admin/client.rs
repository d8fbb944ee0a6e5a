//! The HTTP client of the admin listener.

use std::path::Path;
use std::time::{Duration, Instant};

use millstream_billing::{LineProof, Receipt, Statement};
use millstream_node::BackupManifest;
use millstream_policy::{PolicyOrder, PolicyReply};
use millstream_types::{Address, ChannelId, EscrowChannelId};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode, redirect};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{AdminChannel, AdminRelay, AnyStatus, CancelledJob, CutEpoch, NodeStatus, ReloadedConfig, SettleJob, SettlePlan, SettleRun};
use crate::books::{Journal, Tally};
use crate::error::{CliError, CliResult, Exit, chain_of};
use crate::gateway::{Claimable, Claimed, EscrowStatus};
use crate::ratecard::{CardView, PublishedCard};

/// How long a question may take.
const ASK_DEADLINE: Duration = Duration::from_secs(30);

/// How long a statement may take: thousands of rows, and of signatures.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(300);

/// Payers asked for at once.
const PAYERS_PAGE: usize = 1_000;

/// Channels asked for at once.
const CHANNELS_PAGE: usize = 1_000;

/// How often it is asked whether an epoch's root is known.
const SEAL_POLL: Duration = Duration::from_millis(50);

/// How long a backup may take: the whole database is read, and written where it cannot be linked.
const BACKUP_DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// How long a settlement may take: proofs over all books, and their transactions.
pub const SETTLE_DEADLINE: Duration = Duration::from_secs(3_600);

/// A node's admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    http: reqwest::Client,
    base: String,
}

/// The variable that holds the token which an admin listener asks for.
pub const ADMIN_TOKEN_ENV: &str = "MILLSTREAM_ADMIN_TOKEN";

/// The token, where the environment has one.
fn headers() -> CliResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(token) = std::env::var(ADMIN_TOKEN_ENV).ok().filter(|token| !token.is_empty()) {
        let wrong = |_| CliError::usage("admin_token", format!("{ADMIN_TOKEN_ENV} holds what no header can"));
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(wrong)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// A problem document; other members are ignored.
#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
}

impl Admin {
    /// The listener at `http://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn new(url: &str) -> CliResult<Self> {
        // Neither a proxy nor a redirect may lead away from loopback.
        let http = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).default_headers(headers()?).build();
        let http = http.map_err(|error| CliError::failed("http_client", chain_of(&error)))?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned() })
    }

    /// What a node with a ledger is and does.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn status(&self) -> CliResult<NodeStatus> {
        self.ask(Method::GET, "/status", ASK_DEADLINE).await
    }

    /// What a node is and does, with or without a ledger.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn any_status(&self) -> CliResult<AnyStatus> {
        let status: Value = self.ask(Method::GET, "/status", ASK_DEADLINE).await?;
        let serves_ledger = status.get("ledger").is_some();
        let typed = if serves_ledger {
            serde_json::from_value(status).map(|status| AnyStatus::Ledger(Box::new(status)))
        } else {
            serde_json::from_value(status).map(AnyStatus::NoLedger)
        };
        typed.map_err(|error| unexpected("/status", &error))
    }

    /// All channels.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn channels(&self) -> CliResult<Vec<AdminChannel>> {
        let mut channels: Vec<AdminChannel> = Vec::new();
        loop {
            let after = channels.last().map_or(String::new(), |last| format!("&after={}", last.channel));
            let page: Vec<_> = self.ask(Method::GET, &format!("/channels?limit={CHANNELS_PAGE}{after}"), ASK_DEADLINE).await?;
            let is_last = page.len() < CHANNELS_PAGE;
            channels.extend(page);
            if is_last {
                return Ok(channels);
            }
        }
    }

    /// The deposits that the node relays or relayed in the last day, the newest first.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn relays(&self) -> CliResult<Vec<AdminRelay>> {
        self.ask(Method::GET, "/relays", ASK_DEADLINE).await
    }

    /// The proofs that wait or are being made, the oldest first.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn settle_jobs(&self) -> CliResult<Vec<SettleJob>> {
        self.ask(Method::GET, "/settle/jobs", ASK_DEADLINE).await
    }

    /// Takes a proof under way back: the settlement that waits for it fails, and the next one makes it again.
    ///
    /// # Errors
    /// There is no such proof, or the node does not answer.
    pub async fn cancel_settle_job(&self, id: u64) -> CliResult<CancelledJob> {
        self.ask(Method::DELETE, &format!("/settle/jobs/{id}"), ASK_DEADLINE).await
    }

    /// What a settlement would do now.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn settle_plan(&self) -> CliResult<SettlePlan> {
        self.ask(Method::GET, "/settle/plan", ASK_DEADLINE).await
    }

    /// Settles, and waits until it is mined.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn settle_run(&self) -> CliResult<SettleRun> {
        self.ask(Method::POST, "/settle/run", SETTLE_DEADLINE).await
    }

    /// Cuts the open epoch.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn cut_epoch(&self) -> CliResult<CutEpoch> {
        self.ask(Method::POST, "/epochs/cut", ASK_DEADLINE).await
    }

    /// Cuts the open epoch and waits until its root is known, so that the next settlement anchors it.
    ///
    /// # Errors
    /// As [`Admin::cut_epoch`]; or the root is not known in time.
    pub async fn seal_epoch(&self) -> CliResult<CutEpoch> {
        let cut = self.cut_epoch().await?;
        let Some(epoch) = cut.epoch else { return Ok(cut) };
        let started = Instant::now();
        while started.elapsed() < ASK_DEADLINE {
            let waiting = self.status().await?.unanchored_epochs;
            if waiting.iter().all(|other| other.id != epoch || other.root.is_some()) {
                return Ok(cut);
            }
            tokio::time::sleep(SEAL_POLL).await;
        }
        Err(CliError::unavailable("epoch_not_sealed", format!("epoch {epoch} was cut, but its root is not known yet")))
    }

    /// The proof of one payment of a channel.
    ///
    /// # Errors
    /// The node does not answer, or with a problem: no such line, or its epoch is not sealed.
    pub async fn line_proof(&self, channel: ChannelId, line: u64) -> CliResult<LineProof> {
        self.ask(Method::GET, &format!("/proof?channel={channel}&line={line}"), ASK_DEADLINE).await
    }

    /// The journal: its key and its end.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn journal(&self) -> CliResult<Journal> {
        self.ask(Method::GET, "/books", ASK_DEADLINE).await
    }

    /// The receipt of a charge of HTTP 402, by its number.
    ///
    /// # Errors
    /// The node does not answer, or with a problem: there is no such charge.
    pub async fn charge_receipt(&self, sequence: u64) -> CliResult<Receipt> {
        self.ask(Method::GET, &format!("/books/receipts/charge/{sequence}"), ASK_DEADLINE).await
    }

    /// The receipt of one payment on a channel of the ledger.
    ///
    /// # Errors
    /// The node does not answer, or with a problem: there is no such line, or it is deleted.
    pub async fn line_receipt(&self, channel: ChannelId, line: u64) -> CliResult<Receipt> {
        self.ask(Method::GET, &format!("/books/receipts/line?channel={channel}&line={line}"), ASK_DEADLINE).await
    }

    /// What a payer paid in a period, in milliseconds of Unix time.
    ///
    /// # Errors
    /// The node does not answer, or with a problem: the period has too many rows.
    pub async fn statement(&self, payer: Address, from: Option<u64>, to: Option<u64>) -> CliResult<Statement> {
        let bound = |name: &str, at: Option<u64>| at.map_or(String::new(), |at| format!("&{name}={at}"));
        let path = format!("/books/statement?payer={payer}{}{}", bound("from", from), bound("to", to));
        self.ask(Method::GET, &path, STATEMENT_DEADLINE).await
    }

    /// Everybody who paid.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn payers(&self) -> CliResult<Vec<Address>> {
        let mut payers: Vec<Address> = Vec::new();
        loop {
            let after = payers.last().map_or(String::new(), |last| format!("&after={last}"));
            let page: Vec<Address> =
                self.ask(Method::GET, &format!("/books/payers?limit={PAYERS_PAGE}{after}"), STATEMENT_DEADLINE).await?;
            let is_last = page.len() < PAYERS_PAGE;
            payers.extend(page);
            if is_last {
                return Ok(payers);
            }
        }
    }

    /// What was charged, by day, over all payers.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn tallies_by_day(&self) -> CliResult<Vec<Tally>> {
        self.ask(Method::GET, "/books/tallies?every=day&by=all", ASK_DEADLINE).await
    }

    /// What the rail of a gateway holds.
    ///
    /// # Errors
    /// The gateway does not answer, or with a problem.
    pub async fn escrow_status(&self) -> CliResult<EscrowStatus> {
        self.ask(Method::GET, "/escrow/status", ASK_DEADLINE).await
    }

    /// What a gateway could claim now.
    ///
    /// # Errors
    /// The gateway does not answer, or with a problem.
    pub async fn escrow_claimable(&self) -> CliResult<Claimable> {
        self.ask(Method::GET, "/escrow/claim", ASK_DEADLINE).await
    }

    /// Claims whatever there is, and pays out; answers when it is sent.
    ///
    /// # Errors
    /// The gateway does not answer, or with a problem.
    pub async fn escrow_claim(&self) -> CliResult<Claimed> {
        self.ask(Method::POST, "/escrow/claim", SETTLE_DEADLINE).await
    }

    /// Takes a channel out of quarantine.
    ///
    /// # Errors
    /// It is not known, or the gateway does not answer.
    pub async fn escrow_release(&self, channel: EscrowChannelId) -> CliResult<EscrowChannelId> {
        self.ask(Method::POST, &format!("/escrow/release/{channel}"), ASK_DEADLINE).await
    }

    /// The rate cards in use.
    ///
    /// # Errors
    /// The gateway has none, or does not answer.
    pub async fn ratecards(&self) -> CliResult<Vec<CardView>> {
        self.ask(Method::GET, "/ratecards", ASK_DEADLINE).await
    }

    /// The file of a rate card in use, by `NAME@VERSION`.
    ///
    /// # Errors
    /// It is not in use, or the gateway does not answer.
    pub async fn ratecard(&self, card: &str) -> CliResult<String> {
        self.text(&format!("/ratecards/{card}")).await
    }

    /// Puts a rate card into use.
    ///
    /// # Errors
    /// The gateway refuses it, and sells as before; or does not answer.
    pub async fn publish_ratecard(&self, text: &str) -> CliResult<PublishedCard> {
        let request = self.http.post(format!("{}/ratecards", self.base)).body(text.to_owned());
        self.answer(request, "/ratecards", ASK_DEADLINE).await
    }

    /// Has a backup written to a directory of the node's machine, which must not exist.
    ///
    /// # Errors
    /// The directory exists or cannot be written, another backup is being written, or the node does not answer.
    pub async fn backup(&self, target: &Path) -> CliResult<BackupManifest> {
        let request = self.http.request(Method::POST, format!("{}/backup", self.base)).json(&serde_json::json!({ "target": target }));
        self.answer(request, "/backup", BACKUP_DEADLINE).await
    }

    /// Has the node read its configuration again.
    ///
    /// # Errors
    /// The file is wrong or changes what cannot change: everything is as it was; or the node does not answer.
    pub async fn reload(&self) -> CliResult<ReloadedConfig> {
        self.ask(Method::POST, "/reload", ASK_DEADLINE).await
    }

    /// The node's metrics, in the text form that Prometheus reads.
    ///
    /// # Errors
    /// The node does not answer, or with a problem.
    pub async fn metrics(&self) -> CliResult<String> {
        self.text("/metrics").await
    }

    /// Whether the node takes payments: its core runs, it has read the chain and is not stopping.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn is_ready(&self) -> CliResult<bool> {
        let request = self.http.get(format!("{}/readyz", self.base)).timeout(ASK_DEADLINE);
        Ok(request.send().await.map_err(|error| self.silent(&error))?.status().is_success())
    }

    /// Carries out an order to a gateway's policy.
    ///
    /// # Errors
    /// The gateway has no policy or does not carry it out, or it does not answer.
    pub async fn policy(&self, order: &PolicyOrder) -> CliResult<PolicyReply> {
        self.answer(self.http.post(format!("{}/policy", self.base)).json(order), "/policy", ASK_DEADLINE).await
    }

    async fn text(&self, path: &str) -> CliResult<String> {
        let request = self.http.get(format!("{}{path}", self.base)).timeout(ASK_DEADLINE);
        let response = request.send().await.map_err(|error| self.silent(&error))?;
        let status = response.status();
        if status.is_success() { response.text().await.map_err(|error| self.silent(&error)) } else { Err(problem(status, response).await) }
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, deadline: Duration) -> CliResult<T> {
        self.answer(self.http.request(method, format!("{}{path}", self.base)), path, deadline).await
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder, path: &str, deadline: Duration) -> CliResult<T> {
        let response = request.timeout(deadline).send().await.map_err(|error| self.silent(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(problem(status, response).await);
        }
        let body = response.bytes().await.map_err(|error| self.silent(&error))?;
        serde_json::from_slice(&body).map_err(|error| unexpected(path, &error))
    }

    fn silent(&self, error: &reqwest::Error) -> CliError {
        let message = if error.is_timeout() {
            format!("the admin listener {} did not answer in time", self.base)
        } else {
            format!("the admin listener {} does not answer: {}", self.base, chain_of(error))
        };
        CliError::unavailable("admin_unavailable", message)
            .hint("is the node running? check node.admin_url in the profile against server.admin_listen in the node's configuration")
    }
}

fn unexpected(path: &str, error: &serde_json::Error) -> CliError {
    CliError::failed("admin_answer", format!("the answer of {path} is not what this version expects: {error}"))
        .hint("compare `millstream --version` with the version that `millstream status` prints")
}

/// The error of an answer that is no success.
async fn problem(status: StatusCode, response: Response) -> CliError {
    let exit = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Exit::Unavailable
        }
        status if status.is_client_error() => Exit::Refused,
        _ => Exit::Failed,
    };
    let body = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        // The line is there and will be provable.
        Ok(Problem { code, message }) if code == "epoch_open" => {
            CliError::unavailable(&code, message).hint("`millstream settle run` cuts and anchors it")
        }
        Ok(Problem { code, message }) => CliError::new(exit, code, message),
        Err(_) => CliError::new(exit, "admin_answer", format!("the admin listener answered {status} without a reason")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with `response` and returns its first line.
    async fn one_answer(response: &'static str) -> (Admin, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let admin = Admin::new(&format!("http://{}/", listener.local_addr().expect("bound"))).expect("a client");
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(response.as_bytes()).await.expect("answered");
            String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned()
        });
        (admin, served)
    }

    #[tokio::test]
    async fn an_answer_is_typed() {
        let (admin, served) = one_answer("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"epoch\":7}").await;
        assert_eq!(admin.cut_epoch().await.expect("answered"), CutEpoch { epoch: Some(7) });
        assert_eq!(served.await.expect("served"), "POST /epochs/cut HTTP/1.1");
    }

    #[tokio::test]
    async fn a_node_without_a_ledger_has_a_status_of_its_own() {
        let body = include_str!("../../tests/snapshots/status_bare.json");
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let (admin, _) = one_answer(response.leak()).await;
        let AnyStatus::NoLedger(status) = admin.any_status().await.expect("answered") else { panic!("a ledger from nowhere") };
        assert_eq!((status.chain_id, status.commit), (8_453, 77));
    }

    #[tokio::test]
    async fn a_problem_keeps_its_code_and_its_kind() {
        let refused = "HTTP/1.1 404 Not Found\r\ncontent-length: 41\r\n\r\n{\"code\":\"no_line\",\"message\":\"no such line\"}";
        let refused =
            refused.replace("content-length: 41", &format!("content-length: {}", r#"{"code":"no_line","message":"no such line"}"#.len()));
        let (admin, _) = one_answer(refused.leak()).await;
        let error = admin.line_proof(ChannelId::from_uid(&[1; 31]), 3).await.expect_err("a problem");
        assert_eq!((error.exit, error.code.as_str()), (Exit::Refused, "no_line"));

        let (admin, _) = one_answer("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(admin.settle_plan().await.expect_err("a problem").exit, Exit::Unavailable);

        let (admin, _) = one_answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(admin.status().await.expect_err("no status").code, "admin_answer");
    }

    #[tokio::test]
    async fn a_silent_node_is_unavailable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let error = Admin::new(&url).expect("a client").status().await.expect_err("nobody");
        assert_eq!((error.exit, error.code.as_str()), (Exit::Unavailable, "admin_unavailable"));
    }
}
