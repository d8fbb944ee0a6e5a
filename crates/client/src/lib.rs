//! The payer's side of `millstream/1`: an agent pays lines on channels, and this crate signs, remembers, sends and checks.
//!
//! ```no_run
//! # async fn example(
//! #     trust: millstream_client::ServerTrust, channel: millstream_types::ChannelId, reference: millstream_types::Reference,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use millstream_client::{Client, ClientOptions, NodeAddress, PayOptions, StateDb};
//! use millstream_types::Amount;
//!
//! let state = StateDb::open("payer.redb".as_ref())?;
//! let node = NodeAddress { host: "node.example".to_owned(), port: 7101 };
//! let client = Client::connect(state, ClientOptions::new(node, trust)).await?;
//! let channel = client.channel(channel, PayOptions::default()).await?;
//! channel.pay(Amount::from_nanos(150), reference).await?;
//! channel.flush().await?; // signed, and durable at the node
//! # Ok(())
//! # }
//! ```
//!
//! It knows no server crate: the node is what speaks `docs/spec/wire.md` at the other end, and is not trusted. Every ack is compared with what was
//! sent, every voucher that the node names is checked, and a node that takes back what it acked is not paid any more.
//!
//! **Invariants.** Nothing is signed above the confirmed deposit or the caller's limit. A frame leaves only when it is on disk ([`StateDb`]),
//! so that a crash can neither lose a signature that the node may have nor lead to a smaller one. After any loss the node gets the same bytes
//! again, and nothing is paid twice.

mod backoff;
mod channel;
mod client;
mod error;
mod events;
pub mod http;
mod link;
mod options;
mod private_file;
mod relay;
mod state;
mod totals;
pub mod wallet;

pub use channel::ChannelHandle;
pub use client::Client;
pub use error::{ChannelError, ClientError, PayError};
pub use events::{Counters, Event, FrameAcked, Observer};
pub use options::{BackoffOptions, ClientOptions, FRAME_LINES, FRAMES_QUEUED_MAX, LINES_PER_CALL_MAX, LINGER, NodeAddress, PayOptions};
pub use relay::{ConfirmedDeposit, RelayError};
pub use state::{ChannelSummary, StateDb, StateError, StoredKey};
pub use totals::{Position, Totals};

pub use millstream_billing::Line;
pub use millstream_transport::{Fingerprint, ServerTrust, TransportOptions};
pub use millstream_wire::RelayStage;
