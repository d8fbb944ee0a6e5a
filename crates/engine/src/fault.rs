//! What cannot be.

use millstream_types::{Amount, BookId, ChannelId, CumulativeAmount, EpochId, Hash256};

/// The engine's own invariant broke, or the chain told a story that cannot be: the caller stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A channel's totals are out of order.
    #[error("channel {channel}: settled <= charged <= accepted <= deposit does not hold")]
    Totals {
        /// The channel.
        channel: ChannelId,
    },
    /// The chain speaks of a channel that it never opened.
    #[error("the chain speaks of channel {channel}, which it never opened")]
    UnknownChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// The chain opened a channel twice.
    #[error("the chain opened channel {channel} twice")]
    OpenedTwice {
        /// The channel.
        channel: ChannelId,
    },
    /// A book was settled in a slot that holds no channel.
    #[error("book {book} was settled in slot {slot}, which holds no channel")]
    EmptySlot {
        /// The book.
        book: BookId,
        /// The slot.
        slot: usize,
    },
    /// A channel was moved from a book that it is not in, or into one while it is in a book or closed.
    #[error("the chain moved channel {channel} from or to book {book}, against where it is")]
    Moved {
        /// The channel.
        channel: ChannelId,
        /// The book.
        book: BookId,
    },
    /// A channel was moved into a slot that another holds.
    #[error("a channel was moved into slot {slot} of book {book}, which channel {held_by} holds")]
    SlotTaken {
        /// The book.
        book: BookId,
        /// The slot.
        slot: u16,
        /// Who holds it.
        held_by: ChannelId,
    },
    /// Paid and refunded are not what was deposited.
    #[error("channel {channel} closed with {settled} settled and {refund} refunded of {deposit}")]
    Refund {
        /// The channel.
        channel: ChannelId,
        /// Paid to the provider.
        settled: CumulativeAmount,
        /// Paid back.
        refund: Amount,
        /// What had been deposited.
        deposit: Amount,
    },
    /// An amount overflowed.
    #[error("an amount of channel {channel} overflowed")]
    Overflow {
        /// The channel.
        channel: ChannelId,
    },
    /// The tree of an epoch is not the one that was cut.
    #[error("epoch {epoch} was sealed with another number of frames than it has, or was never cut")]
    Sealed {
        /// The epoch.
        epoch: EpochId,
    },
    /// The chain holds another root for an epoch.
    #[error("epoch {epoch} is anchored with the root {anchored}, which is not ours")]
    Anchored {
        /// The epoch.
        epoch: EpochId,
        /// The root on the chain.
        anchored: Hash256,
    },
}
