//! What a client tells about itself: events for those who measure, counters for those who look.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_transport::ConnectionLost;
use millstream_types::{ChannelId, EpochId};
use millstream_wire::ErrorCode;

use crate::{ChannelError, ClientError, Totals};

/// Something happened. Called from the tasks that do the work: an observer must be quick and must not block.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame is durable at the node.
    FrameAcked(FrameAcked),
    /// The connection broke. The client connects again.
    Disconnected {
        /// Why.
        reason: ConnectionLost,
    },
    /// An attempt to connect failed. The client tries again.
    ConnectFailed {
        /// Why.
        error: ClientError,
    },
    /// The connection stands again.
    Reconnected,
    /// A channel is attached, for the first time or again.
    Attached {
        /// The channel.
        channel: ChannelId,
        /// What the node has.
        accepted: Totals,
        /// Frames that it does not have and that are sent again.
        resent: usize,
    },
    /// The node had a later voucher of this payer than the state: the state had been lost or was an old copy. The channel goes on from there.
    StateWasBehind {
        /// The channel.
        channel: ChannelId,
        /// The last voucher of the state.
        ours: Totals,
        /// The voucher adopted from the node.
        adopted: Totals,
        /// Frames of the state that the adopted voucher replaces; their payments were never accepted.
        dropped_frames: usize,
    },
    /// The node rejected a message. The client tries again, or a [`Event::Stopped`] follows.
    Rejected {
        /// The channel.
        channel: ChannelId,
        /// Why.
        code: ErrorCode,
    },
    /// A channel is stopped.
    Stopped {
        /// The channel.
        channel: ChannelId,
        /// Why.
        error: ChannelError,
    },
}

/// One frame's way.
#[derive(Clone, Copy, Debug)]
pub struct FrameAcked {
    /// The channel.
    pub channel: ChannelId,
    /// Lines of the frame.
    pub lines: u32,
    /// The totals with the frame.
    pub totals: Totals,
    /// From the signature to the ack; `None` for a frame of an earlier run.
    pub since_signed: Option<Duration>,
    /// From the (last) write to the socket to the ack; `None` when the node had it from an earlier connection.
    pub since_sent: Option<Duration>,
    /// The epoch that it is billed in; `None` when an attach told of it.
    pub epoch: Option<EpochId>,
}

/// Who is told.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counts since the client started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        #[derive(Debug, Default)]
        pub(crate) struct LiveCounters {
            $(pub(crate) $name: AtomicU64,)+
        }

        impl LiveCounters {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters!(
    /// Frames written to a socket, those sent again included.
    frames_sent,
    /// Frames written to a socket again.
    frames_resent,
    /// Frames acked.
    frames_acked,
    /// Lines acked.
    lines_acked,
    /// Connections after the first.
    reconnects,
    /// Attempts to connect that failed.
    connects_failed,
    /// Attaches answered.
    attaches,
    /// Rejects received.
    rejects,
);

/// Where events and counts go.
#[derive(Clone, Default)]
pub(crate) struct Reporter {
    pub(crate) counters: Arc<LiveCounters>,
    observer: Option<Observer>,
}

impl Reporter {
    pub(crate) fn new(observer: Option<Observer>) -> Self {
        Self { counters: Arc::default(), observer }
    }

    pub(crate) fn event(&self, event: &Event) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
