//! The connection of a client: made, watched, made again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use millstream_transport::{ClientEndpoint, Connection};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::events::{Event, Reporter, count};
use crate::state::lock;
use crate::{ClientError, ClientOptions};

/// Makes connections to one node.
pub(crate) struct Connector {
    options: ClientOptions,
    /// One socket for each kind of address, opened when it is needed first.
    endpoints: Mutex<Endpoints>,
}

#[derive(Default)]
struct Endpoints {
    v4: Option<ClientEndpoint>,
    v6: Option<ClientEndpoint>,
}

impl Connector {
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self { options, endpoints: Mutex::default() }
    }

    /// Looks the node up and connects to the first of its addresses that answers.
    ///
    /// # Errors
    /// [`ClientError`], of the last address tried.
    pub(crate) async fn connect(&self) -> Result<Connection, ClientError> {
        let node = &self.options.node;
        let lookup = |source| ClientError::Lookup { host: node.host.clone(), port: node.port, source: Arc::new(source) };
        let addresses: Vec<SocketAddr> = lookup_host((node.host.as_str(), node.port)).await.map_err(lookup)?.collect();
        let mut last = ClientError::NoAddress { host: node.host.clone() };
        for address in addresses {
            match self.endpoint(address)?.connect(address, &node.host, &self.options.trust).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = ClientError::Connect(error),
            }
        }
        Err(last)
    }

    fn endpoint(&self, address: SocketAddr) -> Result<ClientEndpoint, ClientError> {
        let mut endpoints = lock(&self.endpoints);
        let slot = if address.is_ipv4() { &mut endpoints.v4 } else { &mut endpoints.v6 };
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let endpoint = ClientEndpoint::bind_for(address, self.options.transport).map_err(|error| ClientError::Endpoint(Arc::new(error)))?;
        Ok(slot.insert(endpoint).clone())
    }

    /// Closes everything in order, and waits until the node knows or can no longer be told.
    pub(crate) async fn close(&self) {
        let endpoints = {
            let mut endpoints = lock(&self.endpoints);
            [endpoints.v4.take(), endpoints.v6.take()]
        };
        for endpoint in endpoints.into_iter().flatten() {
            endpoint.close();
            endpoint.wait_idle().await;
        }
    }
}

/// Publishes a connection for as long as it lives and then makes the next one, until it is aborted.
pub(crate) async fn keep(
    connector: Arc<Connector>,
    mut connection: Connection,
    published: watch::Sender<Option<Connection>>,
    reporter: Reporter,
) {
    let mut backoff = Backoff::new(connector.options.backoff);
    loop {
        published.send_replace(Some(connection.clone()));
        let reason = connection.closed().await;
        published.send_replace(None);
        tracing::info!(%reason, "the connection to the node is gone");
        reporter.event(&Event::Disconnected { reason });
        connection = loop {
            sleep(backoff.next()).await;
            match connector.connect().await {
                Ok(connection) => break connection,
                Err(error) => {
                    count(&reporter.counters.connects_failed, 1);
                    tracing::debug!(%error, "the node cannot be reached");
                    reporter.event(&Event::ConnectFailed { error });
                }
            }
        };
        backoff.reset();
        count(&reporter.counters.reconnects, 1);
        reporter.event(&Event::Reconnected);
    }
}
