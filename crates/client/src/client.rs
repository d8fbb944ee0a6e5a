//! A payer's connection to one node.

use std::sync::Arc;

use millstream_transport::Connection;
use millstream_types::ChannelId;
use millstream_voucher::SecretKey;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::channel::Channel;
use crate::events::{Counters, Observer, Reporter};
use crate::link::{self, Connector};
use crate::{BackoffOptions, ChannelHandle, ClientError, ClientOptions, PayOptions, StateDb};

/// Pays to one node over one connection, which is made again whenever it breaks. A clone is the same client; when the last one is dropped the
/// connection is closed, and channels still held stop.
///
/// One connection carries as many channels as the node allows on one. More need more clients; they may share one [`StateDb`].
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    state: StateDb,
    options: ClientOptions,
    connector: Arc<Connector>,
    connections: watch::Receiver<Option<Connection>>,
    reporter: Reporter,
    keeper: AbortHandle,
    // Ends the connection when dropped.
    _tasks: JoinSet<()>,
}

impl core::fmt::Debug for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").field("node", &self.inner.options.node).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a node. Only this first attempt fails to the caller; later ones are repeated.
    ///
    /// # Errors
    /// [`ClientError::Lookup`], [`ClientError::NoAddress`], [`ClientError::Endpoint`] or [`ClientError::Connect`].
    pub async fn connect(state: StateDb, options: ClientOptions) -> Result<Self, ClientError> {
        Self::start(state, options, None).await
    }

    /// As [`Client::connect`], telling `observer` of everything that happens. It is called from the tasks that do the work, so it has to be
    /// quick and must not block.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_observed(state: StateDb, options: ClientOptions, observer: Observer) -> Result<Self, ClientError> {
        Self::start(state, options, Some(observer)).await
    }

    async fn start(state: StateDb, options: ClientOptions, observer: Option<Observer>) -> Result<Self, ClientError> {
        let connector = Arc::new(Connector::new(options.clone()));
        let connection = connector.connect().await?;
        let reporter = Reporter::new(observer);
        let (published, connections) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let keeper = tasks.spawn(link::keep(Arc::clone(&connector), connection, published, reporter.clone()));
        Ok(Self { inner: Arc::new(Inner { state, options, connector, connections, reporter, keeper, _tasks: tasks }) })
    }

    /// Attaches a channel whose key is in the state, and waits until the node has answered. It waits through lost connections and through
    /// rejects that time removes, such as a channel that is not confirmed yet.
    ///
    /// # Errors
    /// [`ClientError::State`], [`ClientError::Setting`] or [`ClientError::Channel`].
    pub async fn channel(&self, channel: ChannelId, options: PayOptions) -> Result<ChannelHandle, ClientError> {
        self.attach(channel, None, options).await
    }

    /// As [`Client::channel`], for a channel whose key is kept elsewhere.
    ///
    /// # Errors
    /// As [`Client::channel`].
    pub async fn channel_with_key(&self, channel: ChannelId, key: SecretKey, options: PayOptions) -> Result<ChannelHandle, ClientError> {
        self.attach(channel, Some(key), options).await
    }

    async fn attach(&self, channel: ChannelId, key: Option<SecretKey>, options: PayOptions) -> Result<ChannelHandle, ClientError> {
        options.check()?;
        let Inner { state, connections, reporter, options: client, .. } = &*self.inner;
        let loaded = state.take(channel, key)?;
        let channel = Arc::new(Channel::new(loaded, options, state.writes(), reporter.clone())?);
        let link = link::run(Arc::clone(&channel), connections.clone(), client.backoff, reporter.clone());
        let handle = ChannelHandle::new(channel, link);
        handle.ready().await.map_err(ClientError::Channel)?;
        Ok(handle)
    }

    /// The pauses between its attempts.
    pub(crate) fn backoff(&self) -> BackoffOptions {
        self.inner.options.backoff
    }

    /// The state this client writes to.
    #[must_use]
    pub fn state(&self) -> &StateDb {
        &self.inner.state
    }

    /// Counts since the client started.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner.reporter.counters.read()
    }

    /// The connection that is up now, if one is.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        self.inner.connections.borrow().clone()
    }

    /// The connection as it comes and goes: `None` while there is none.
    #[must_use]
    pub fn connection_watch(&self) -> watch::Receiver<Option<Connection>> {
        self.inner.connections.clone()
    }

    /// Closes the connection in order, for every clone. Close the channels first: those still held stop, and what is signed and not acked by now
    /// goes out when they are attached again.
    pub async fn close(self) {
        // First, or it would connect again.
        self.inner.keeper.abort();
        self.inner.connector.close().await;
    }
}
