//! Accepting connections and streams.

use std::sync::Arc;

use millstream_transport::{CHANNELS_AT_FIRST, Connection, ServerEndpoint};
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::core::stopped;
use crate::session::{Session, Shared};

/// Accepts payers until the node stops; returns when every session has ended.
pub(crate) async fn run(shared: Arc<Shared>, endpoint: ServerEndpoint, connections_max: usize) {
    let mut stopping = shared.stopping.clone();
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => continue,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        if connections.len() >= connections_max {
            debug!(from = %incoming.remote_address(), "connection refused: the node has its maximum");
            incoming.refuse();
            continue;
        }
        // Under load a payer first shows that it is where it says, so that invented addresses take no places.
        if connections.len() >= connections_max / 4 && !incoming.is_validated() {
            incoming.ask_to_validate();
            continue;
        }
        let shared = Arc::clone(&shared);
        let from = incoming.remote_address();
        // Apart, because a task keeps the room of everything that it ever held.
        let handshake = Box::pin(incoming.handshake());
        connections.spawn(async move {
            match handshake.await {
                Ok(connection) => serve(shared, connection).await,
                Err(error) => debug!(%from, %error, "handshake failed"),
            }
        });
    }
    while connections.join_next().await.is_some() {}
    info!("all sessions ended");
}

async fn serve(shared: Arc<Shared>, connection: Connection) {
    let from = connection.remote_address();
    let mut stopping = shared.stopping.clone();
    let channels_max = shared.channels_per_connection_max;
    let mut sessions = JoinSet::new();
    let mut allowed = CHANNELS_AT_FIRST;
    shared.metrics.connections.inc();
    debug!(%from, "connection opened");
    let lost = loop {
        let stream = tokio::select! {
            biased;
            () = stopped(&mut stopping) => break None,
            Some(_) = sessions.join_next() => continue,
            stream = connection.accept_channel() => stream,
        };
        match stream {
            Ok(stream) => {
                // Room for as many again, before the payer has to wait for it.
                if sessions.len().saturating_mul(2) >= allowed as usize && allowed < channels_max {
                    allowed = allowed.saturating_mul(2).min(channels_max);
                    connection.allow_channels(allowed);
                }
                let (session, metrics) =
                    (Session::new(Arc::clone(&shared), stream, connection.remote_address().ip()), Arc::clone(&shared.metrics));
                sessions.spawn(async move {
                    metrics.streams.inc();
                    if let Err(error) = session.run().await {
                        debug!(%from, error = ?error, "stream ended");
                    }
                    metrics.streams.dec();
                });
            }
            Err(lost) => break Some(lost),
        }
    };
    while sessions.join_next().await.is_some() {}
    shared.metrics.connections.dec();
    match lost {
        Some(lost) => debug!(%from, %lost, "connection ended"),
        None => connection.close(Some(millstream_wire::ErrorCode::ShuttingDown), "the node is stopping"),
    }
}
