//! The tables, one RocksDB column family each.

/// A table. Numbers and names are on disk: append only, never renumbered, never reused.
///
/// A batch that touches fewer tables is cheaper (four column families instead of one cost about 16 % throughput), so what changes on
/// every tick belongs in `Channels`, `Frames` and `Leaves`, with HTTP 402 in `Escrows`, `Charges` and `Outcomes`, and what can wait
/// belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Few small records about the whole node. Keys starting with `store/` are the store's own.
    Meta = 0,
    /// Channel state: small, hot, overwritten on every tick that touches the channel.
    Channels = 1,
    /// Accepted frames: one value a frame, hundreds of bytes to tens of kilobytes, written once, in the order of their keys.
    Frames = 2,
    /// Leaves of the epoch billing trees, in epoch and leaf order.
    Leaves = 3,
    /// Sealed epochs.
    Epochs = 4,
    /// Books of the ledgers and their slots.
    Books = 5,
    /// What was read from and sent to the chain.
    Chain = 6,
    /// Where the frames of a channel are, epoch by epoch; written when an epoch is sealed.
    Index = 7,
    /// Channels on escrow contracts, reservations, single payments and claims: small, hot, overwritten.
    Escrows = 8,
    /// Charges of HTTP 402, in their order: written once, keys only grow.
    Charges = 9,
    /// How requests of HTTP 402 ended: written once under keys that are hashes, deleted a generation at a time.
    Outcomes = 10,
    /// Deposits that the node relays or has relayed, each with what its gas was promised and costs.
    Relays = 11,
    /// What is put on the chain beside what the engine decides: for a facilitator's servers, deposits, refunds; each with the signed versions
    /// of its transaction. The first byte of a key says whose record it is.
    Submissions = 12,
    /// Batches of frames in the journal, under the keys of their leaves: written once, deleted with their epoch.
    Batches = 13,
    /// Batches of charges in the journal, and in which of them a payer has charges: written once, keys grow, for the second payer by payer.
    Accounts = 14,
    /// Sums by hour and day: those of now are overwritten, old ones deleted.
    Tallies = 15,
}

impl Table {
    /// Every table, by number.
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Channels,
        Self::Frames,
        Self::Leaves,
        Self::Epochs,
        Self::Books,
        Self::Chain,
        Self::Index,
        Self::Escrows,
        Self::Charges,
        Self::Outcomes,
        Self::Relays,
        Self::Submissions,
        Self::Batches,
        Self::Accounts,
        Self::Tallies,
    ];

    /// The name of its column family.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Channels => "channels",
            Self::Frames => "frames",
            Self::Leaves => "leaves",
            Self::Epochs => "epochs",
            Self::Books => "books",
            Self::Chain => "chain",
            Self::Index => "index",
            Self::Escrows => "escrows",
            Self::Charges => "charges",
            Self::Outcomes => "outcomes",
            Self::Relays => "relays",
            Self::Submissions => "submissions",
            Self::Batches => "batches",
            Self::Accounts => "accounts",
            Self::Tallies => "tallies",
        }
    }

    /// The number that stands for it in batch bytes.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Meta => 0,
            Self::Channels => 1,
            Self::Frames => 2,
            Self::Leaves => 3,
            Self::Epochs => 4,
            Self::Books => 5,
            Self::Chain => 6,
            Self::Index => 7,
            Self::Escrows => 8,
            Self::Charges => 9,
            Self::Outcomes => 10,
            Self::Relays => 11,
            Self::Submissions => 12,
            Self::Batches => 13,
            Self::Accounts => 14,
            Self::Tallies => 15,
        }
    }

    /// The table with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn numbers_and_names_are_pinned() {
        let listed: Vec<_> = Table::ALL.iter().map(|table| (table.number(), table.name())).collect();
        let pinned = [
            (0, "meta"),
            (1, "channels"),
            (2, "frames"),
            (3, "leaves"),
            (4, "epochs"),
            (5, "books"),
            (6, "chain"),
            (7, "index"),
            (8, "escrows"),
            (9, "charges"),
            (10, "outcomes"),
            (11, "relays"),
            (12, "submissions"),
            (13, "batches"),
            (14, "accounts"),
            (15, "tallies"),
        ];
        assert_eq!(listed, pinned);
        assert!(Table::ALL.iter().all(|table| Table::from_number(table.number()) == Some(*table)));
        assert_eq!(Table::from_number(16), None);
    }
}
