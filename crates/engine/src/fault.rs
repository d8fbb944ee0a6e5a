//! What cannot be.

use millstream_types::{Amount, BookId, ChannelId, CumulativeAmount, EpochId, EscrowChannelId, Hash256};

use crate::escrow::EscrowId;

/// The engine's own invariant broke, or the chain told a story that cannot be: the caller stops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A channel's totals are out of order.
    #[error("channel {channel}: settled <= charged <= accepted <= deposit does not hold")]
    Totals {
        /// The channel.
        channel: ChannelId,
    },
    /// The journal or the tallies cannot take what is to be booked.
    #[error("the journal or the tallies cannot take what is to be booked: a number does not fit")]
    Journal,
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
    /// The totals of a channel on an escrow are out of order.
    #[error("escrow channel {channel}: charged + reserved <= accepted, or settled <= charged, or accepted <= deposit does not hold")]
    EscrowTotals {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// What the engine knows of escrows does not fit together.
    #[error("a reservation, a channel or a number of an escrow is missing")]
    EscrowTables,
    /// The chain speaks of an escrow that is not served.
    #[error("the chain speaks of the escrow {escrow}, which is not served")]
    UnknownEscrow {
        /// The escrow.
        escrow: EscrowId,
    },
    /// The chain speaks of a channel that it never opened.
    #[error("the chain speaks of the escrow channel {channel}, which it never opened")]
    UnknownEscrowChannel {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// The chain tells other terms of a channel than before.
    #[error("the chain tells other terms of the escrow channel {channel} than before")]
    EscrowTerms {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// What was claimed, or is deposited, fell where it cannot.
    #[error("the chain claimed less of the escrow channel {channel} than before, or paid back more than its deposit")]
    EscrowFell {
        /// The channel.
        channel: EscrowChannelId,
    },
    /// What was claimed or paid out does not fit.
    #[error("what was claimed or paid out on the escrow {escrow} does not fit")]
    EscrowSweep {
        /// The escrow.
        escrow: EscrowId,
    },
}
