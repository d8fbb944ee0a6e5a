//! Orders to a policy: show, explain, pause, approve. The process that has the book carries them out; others hand them to it by a socket beside
//! the book, which its owner alone can open.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_policy::{OrderError, PolicyOrder, PolicyReply};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::book::{BookError, key_of};
use super::now;
use super::payer::HttpPayer;

/// Bytes of one order.
const ORDER_BYTES_MAX: u64 = 64 * 1024;
/// How long the other side has for an order or its answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Orders that are carried out at a time.
const ORDERS_MAX: usize = 16;

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The policy does not carry it out.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The book failed.
    #[error("the book of payments failed")]
    Book(#[from] BookError),
    /// The process that has the book is not reached.
    #[error("the process that has the book does not answer by {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process that has the book does not carry it out.
    #[error("{0}")]
    Refused(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Ok(PolicyReply),
    Error(String),
}

/// The socket of the process that has a book.
#[must_use]
pub fn socket_of(book: &Path) -> PathBuf {
    let mut name = book.as_os_str().to_owned();
    name.push(".sock");
    PathBuf::from(name)
}

impl HttpPayer {
    /// Carries out an order. What is answered is durable.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn order(&self, order: PolicyOrder) -> Result<PolicyReply, ControlError> {
        let inner = &self.inner;
        let (reply, durable) = inner.book.order(|ledger| ledger.carry_out(&inner.policy, now(), order, |of| Some(key_of(of))))?;
        durable.wait().await?;
        // Whoever waits looks whether it was its approval.
        inner.decided.notify_waiters();
        Ok(reply)
    }
}

/// Takes orders for a payer's policy by a socket beside its book, until the future is dropped.
///
/// # Errors
/// [`ControlError::Socket`]: the socket cannot be made.
pub async fn serve_orders(payer: HttpPayer) -> Result<(), ControlError> {
    let path = socket_of(payer.book().path());
    let failed = |source: io::Error| ControlError::Socket { path: path.clone(), source };
    // Made under another name and moved when nobody else can open it. One that is there is of a process that is gone: the book is ours.
    let mut made = path.as_os_str().to_owned();
    made.push(".new");
    let made = PathBuf::from(made);
    match std::fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&made).map_err(failed)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&made, &path).map_err(failed)?;
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(ORDERS_MAX));
    loop {
        let Ok(permit) = std::sync::Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) => {
                let payer = payer.clone();
                tokio::spawn(async move {
                    if let Ok(Err(error)) = tokio::time::timeout(ANSWER_MAX, answer(&payer, stream)).await {
                        tracing::debug!(error = %error, "an order broke off");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "an order could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(payer: &HttpPayer, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(ORDER_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<PolicyOrder>(&line) {
        Ok(order) => payer.order(order).await.map_or_else(|error| Answer::Error(chain_of(&error)), Answer::Ok),
        Err(error) => Answer::Error(format!("the order cannot be read: {error}")),
    };
    let mut text = serde_json::to_string(&answer).map_err(io::Error::other)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await
}

fn chain_of(error: &ControlError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Hands an order to the process that has a book.
///
/// # Errors
/// [`ControlError::Socket`] when none answers, [`ControlError::Refused`] when it does not carry it out.
pub async fn send_order(book: &Path, order: &PolicyOrder) -> Result<PolicyReply, ControlError> {
    let path = socket_of(book);
    let failed = |source: io::Error| ControlError::Socket { path: path.clone(), source };
    let asked = async {
        let mut stream = UnixStream::connect(&path).await?;
        let mut text = serde_json::to_string(order).map_err(io::Error::other)?;
        text.push('\n');
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        serde_json::from_str::<Answer>(&answer).map_err(io::Error::other)
    };
    match tokio::time::timeout(ANSWER_MAX, asked).await {
        Ok(Ok(Answer::Ok(reply))) => Ok(reply),
        Ok(Ok(Answer::Error(message))) => Err(ControlError::Refused(message)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}
