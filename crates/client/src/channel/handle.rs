//! What an agent pays with.

use std::sync::{Arc, Mutex};

use millstream_billing::Line;
use millstream_types::{Amount, ChannelId, Reference};
use tokio::task::JoinSet;

use super::{Channel, Taken, linger};
use crate::state::lock;
use crate::{ChannelError, PayError, Position, Totals};

/// Pays on one channel. A clone is the same channel; when the last one is dropped, what is signed and not acked stays in the state and goes out
/// when the channel is attached again. Lines that are not signed by then are dropped: [`flush`](Self::flush) first. A channel that is only
/// dropped is free for another attach a moment later; one that was [closed](Self::close), at once.
#[derive(Clone)]
pub struct ChannelHandle {
    channel: Arc<Channel>,
    /// The tasks of the channel, which end with the last handle.
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl core::fmt::Debug for ChannelHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ChannelHandle").field("channel", &self.channel.id).finish_non_exhaustive()
    }
}

impl ChannelHandle {
    pub(crate) fn new(channel: Arc<Channel>, link: impl Future<Output = ()> + Send + 'static) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(link);
        if !channel.options.linger.is_zero() {
            tasks.spawn(linger::run(Arc::clone(&channel)));
        }
        Self { channel, tasks: Arc::new(Mutex::new(tasks)) }
    }

    /// The channel.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.channel.id
    }

    /// Pays one line: nanos, and the payer's own name for the payment. See [`ChannelHandle::pay_lines`].
    ///
    /// # Errors
    /// [`PayError`]; then nothing was taken.
    pub async fn pay(&self, amount: Amount, reference: Reference) -> Result<Totals, PayError> {
        self.pay_lines(&[Line { amount, reference, digest: None }]).await
    }

    /// Pays lines, at most [`LINES_PER_CALL_MAX`](crate::LINES_PER_CALL_MAX): all of them or none. Returns the totals with them, which
    /// [`acked`](Self::acked) can wait for.
    ///
    /// It waits while too many frames are on their way. Lines are signed when their frame is full or has waited long enough. Losing the wait
    /// takes no line.
    ///
    /// # Errors
    /// [`PayError`]; then nothing was taken.
    pub async fn pay_lines(&self, lines: &[Line]) -> Result<Totals, PayError> {
        if let Taken::All(totals) = self.channel.take(lines)? {
            return Ok(totals);
        }
        let mut status = self.channel.status.subscribe();
        loop {
            status.mark_unchanged();
            if let Taken::All(totals) = self.channel.take(lines)? {
                return Ok(totals);
            }
            if status.changed().await.is_err() {
                return Err(PayError::Stopped(ChannelError::Closed));
            }
        }
    }

    /// Signs what is pending and waits until all that was taken is durable at the node. It waits through lost connections.
    ///
    /// # Errors
    /// Why the channel is stopped.
    pub async fn flush(&self) -> Result<Totals, ChannelError> {
        let signed = self.channel.seal(None)?;
        self.acked(signed).await
    }

    /// Waits until `totals` are durable at the node; returns how far it has come by then.
    ///
    /// # Errors
    /// Why the channel is stopped.
    pub async fn acked(&self, totals: Totals) -> Result<Totals, ChannelError> {
        let mut status = self.channel.status.subscribe();
        loop {
            {
                let status = status.borrow_and_update();
                if status.acked.lines_total >= totals.lines_total {
                    return Ok(status.acked);
                }
                if let Some(error) = &status.stopped {
                    return Err(error.clone());
                }
            }
            if status.changed().await.is_err() {
                return Err(ChannelError::Closed);
            }
        }
    }

    /// Where the channel stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.channel.position()
    }

    /// Why the channel is stopped, if it is.
    #[must_use]
    pub fn stopped(&self) -> Option<ChannelError> {
        self.channel.status.borrow().stopped.clone()
    }

    /// Attaches again: learns a deposit that was topped up, and brings a channel back that was stopped for a reason since removed. It waits
    /// through lost connections.
    ///
    /// # Errors
    /// Why the channel is still stopped.
    pub async fn refresh(&self) -> Result<Position, ChannelError> {
        let mut status = self.channel.status.subscribe();
        let before = {
            let status = status.borrow_and_update();
            if let Some(error) = status.stopped.as_ref().filter(|error| !error.is_recoverable()) {
                return Err(error.clone());
            }
            status.attaches
        };
        self.channel.ask_refresh();
        loop {
            if status.changed().await.is_err() {
                return Err(ChannelError::Closed);
            }
            let status = status.borrow_and_update();
            if status.attaches > before && status.stopped.is_none() {
                break;
            }
            if let Some(error) = &status.stopped {
                return Err(error.clone());
            }
        }
        Ok(self.position())
    }

    /// Flushes, records in the state how far the node has come, and gives the channel up. Other handles of it stop working.
    ///
    /// # Errors
    /// Why the channel was stopped before all was acked; it is given up all the same.
    pub async fn close(self) -> Result<Totals, ChannelError> {
        let flushed = self.flush().await;
        if let Some(recorded) = self.channel.give_up()
            && let Ok(Err(error)) = recorded.await
        {
            tracing::warn!(%error, "how far the node had come is not recorded; the next attach tells again");
        }
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.shutdown().await;
        flushed
    }

    /// Waits until the node has answered the first attach.
    pub(crate) async fn ready(&self) -> Result<(), ChannelError> {
        let mut status = self.channel.status.subscribe();
        loop {
            {
                let status = status.borrow_and_update();
                if let Some(error) = &status.stopped {
                    return Err(error.clone());
                }
                if status.attaches > 0 {
                    return Ok(());
                }
            }
            if status.changed().await.is_err() {
                return Err(ChannelError::Closed);
            }
        }
    }
}
