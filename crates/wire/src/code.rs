//! Error codes: explicit, append-only numbers, the same in rejects, stream resets and connection closes.

use core::fmt;

/// The close code of a connection that ends in order; not an error, so not an [`ErrorCode`].
pub const CLOSE_ORDERLY: u16 = 0;

/// What is wrong with a message. `docs/errors/` has a page for each; a number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// Does not parse; closes the stream.
    Malformed = 1,
    /// Over the length limit; closes the stream.
    Oversized = 2,
    /// The node speaks other versions.
    UnsupportedVersion = 3,
    /// The node's ledger is on another chain.
    WrongChain = 4,
    /// The node serves another ledger.
    WrongLedger = 5,
    /// No such channel at the confirmation depth.
    UnknownChannel = 6,
    /// The frame names another channel than the attached one.
    WrongChannel = 7,
    /// The signature of the voucher, or under the deposit, does not hold.
    BadSignature = 8,
    /// The voucher's totals are not above the accepted ones.
    StaleTotal = 9,
    /// The head does not follow from the accepted head and these lines.
    BrokenBillHead = 10,
    /// `lines total` is not the accepted one plus the count.
    LinesMismatch = 11,
    /// The cumulative amount is not the accepted one plus the lines.
    AmountMismatch = 12,
    /// The cumulative amount is above the confirmed deposit.
    DepositExceeded = 13,
    /// A close was requested or done.
    ChannelClosing = 14,
    /// A reorganisation took back what this channel relied on, or the chain settled more than the node accepted.
    ChannelFrozen = 15,
    /// A frame before an attach.
    NotAttached = 16,
    /// The node sheds load; the frame was not looked at.
    Overloaded = 17,
    /// The node is stopping.
    ShuttingDown = 18,
    /// This connection has its maximum of channels.
    TooManyChannels = 19,
    /// This node relays no deposits.
    RelayDisabled = 20,
    /// What was signed for a deposit is not valid yet, or not for long enough.
    RelayExpiring = 21,
    /// The deposit is too small for the gas that relaying it takes.
    RelayDepositTooSmall = 22,
    /// Relaying the deposit takes more gas than the node pays for one.
    RelayTooCostly = 23,
    /// Gas costs more at the moment than the node pays.
    RelayGasPrice = 24,
    /// The node has spent what it spends on relaying.
    RelayBudgetSpent = 25,
    /// The funder or the payer's address has had its share of relaying.
    RelayQuotaSpent = 26,
    /// Another deposit of the funder's is being relayed.
    RelayBusy = 27,
    /// The contracts refuse the deposit; nothing was sent.
    RelayReverts = 28,
    /// The deposit's transaction was mined and reverted.
    RelayReverted = 29,
}

/// Whether the same message can succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Never: the message or the payer's state is wrong.
    No,
    /// Later, without anyone doing anything, here or at another node of the ledger.
    Later,
    /// After the payer raised the channel's deposit.
    AfterTopUp,
}

impl ErrorCode {
    /// Every code, in the order of the numbers.
    pub const ALL: [Self; 29] = [
        Self::Malformed,
        Self::Oversized,
        Self::UnsupportedVersion,
        Self::WrongChain,
        Self::WrongLedger,
        Self::UnknownChannel,
        Self::WrongChannel,
        Self::BadSignature,
        Self::StaleTotal,
        Self::BrokenBillHead,
        Self::LinesMismatch,
        Self::AmountMismatch,
        Self::DepositExceeded,
        Self::ChannelClosing,
        Self::ChannelFrozen,
        Self::NotAttached,
        Self::Overloaded,
        Self::ShuttingDown,
        Self::TooManyChannels,
        Self::RelayDisabled,
        Self::RelayExpiring,
        Self::RelayDepositTooSmall,
        Self::RelayTooCostly,
        Self::RelayGasPrice,
        Self::RelayBudgetSpent,
        Self::RelayQuotaSpent,
        Self::RelayBusy,
        Self::RelayReverts,
        Self::RelayReverted,
    ];

    /// The one with the highest number.
    pub const LAST: Self = Self::RelayReverted;

    /// The stable number.
    #[must_use]
    #[allow(clippy::as_conversions, reason = "the discriminant is the number, and fits")]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of a number; none for 0 and for numbers that no version has assigned.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The name in specifications, logs and page titles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::UnsupportedVersion => "unsupported_version",
            Self::WrongChain => "wrong_chain",
            Self::WrongLedger => "wrong_ledger",
            Self::UnknownChannel => "unknown_channel",
            Self::WrongChannel => "wrong_channel",
            Self::BadSignature => "bad_signature",
            Self::StaleTotal => "stale_total",
            Self::BrokenBillHead => "broken_bill_head",
            Self::LinesMismatch => "lines_mismatch",
            Self::AmountMismatch => "amount_mismatch",
            Self::DepositExceeded => "deposit_exceeded",
            Self::ChannelClosing => "channel_closing",
            Self::ChannelFrozen => "channel_frozen",
            Self::NotAttached => "not_attached",
            Self::Overloaded => "overloaded",
            Self::ShuttingDown => "shutting_down",
            Self::TooManyChannels => "too_many_channels",
            Self::RelayDisabled => "relay_disabled",
            Self::RelayExpiring => "relay_expiring",
            Self::RelayDepositTooSmall => "relay_deposit_too_small",
            Self::RelayTooCostly => "relay_too_costly",
            Self::RelayGasPrice => "relay_gas_price",
            Self::RelayBudgetSpent => "relay_budget_spent",
            Self::RelayQuotaSpent => "relay_quota_spent",
            Self::RelayBusy => "relay_busy",
            Self::RelayReverts => "relay_reverts",
            Self::RelayReverted => "relay_reverted",
        }
    }

    /// What has to happen before the same message can succeed.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::UnknownChannel
            | Self::ChannelFrozen
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::RelayGasPrice
            | Self::RelayBudgetSpent
            | Self::RelayQuotaSpent
            | Self::RelayBusy => Retry::Later,
            Self::DepositExceeded => Retry::AfterTopUp,
            Self::Malformed
            | Self::Oversized
            | Self::UnsupportedVersion
            | Self::WrongChain
            | Self::WrongLedger
            | Self::WrongChannel
            | Self::BadSignature
            | Self::StaleTotal
            | Self::BrokenBillHead
            | Self::LinesMismatch
            | Self::AmountMismatch
            | Self::ChannelClosing
            | Self::NotAttached
            | Self::TooManyChannels
            | Self::RelayDisabled
            | Self::RelayExpiring
            | Self::RelayDepositTooSmall
            | Self::RelayTooCostly
            | Self::RelayReverts
            | Self::RelayReverted => Retry::No,
        }
    }

    /// Whether sending the same message again later can succeed without anyone doing anything.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self.retry() {
            Retry::Later => true,
            Retry::No | Retry::AfterTopUp => false,
        }
    }

    /// Whether this closes the stream (W-2) instead of being answered by a reject (W-3).
    #[must_use]
    pub const fn closes_stream(self) -> bool {
        matches!(self, Self::Malformed | Self::Oversized)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_one_to_the_last_without_a_gap() {
        let numbers: Vec<u16> = ErrorCode::ALL.into_iter().map(ErrorCode::number).collect();
        assert_eq!(numbers, (1..=29).collect::<Vec<u16>>());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number()), Some(code));
        }
        assert_eq!(ErrorCode::ALL.last(), Some(&ErrorCode::LAST));
        assert_eq!(ErrorCode::from_number(CLOSE_ORDERLY), None);
        assert_eq!(ErrorCode::from_number(30), None);
    }

    #[test]
    fn only_what_passes_by_itself_is_retryable() {
        let retryable: Vec<u16> = ErrorCode::ALL.into_iter().filter(|code| code.is_retryable()).map(ErrorCode::number).collect();
        assert_eq!(retryable, [6, 15, 17, 18, 24, 25, 26, 27]);
        assert_eq!(ErrorCode::DepositExceeded.retry(), Retry::AfterTopUp);
    }
}
