//! Signs a frame that is not full when it has waited long enough.

use std::sync::Arc;

use tokio::time::sleep;

use super::Channel;

/// Runs until it is aborted or the channel stops for good.
pub(super) async fn run(channel: Arc<Channel>) {
    loop {
        channel.begun.notified().await;
        let generation = channel.generation();
        sleep(channel.options.linger).await;
        // A failure has stopped the channel, and whoever pays or flushes learns it there.
        if let Err(error) = channel.seal(Some(generation))
            && !error.is_recoverable()
        {
            return;
        }
    }
}
