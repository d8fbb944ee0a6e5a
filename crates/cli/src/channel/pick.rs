//! Naming a channel on the command line: its whole id, or enough of its first digits.

use std::fmt;
use std::str::FromStr;

use millstream_types::ChannelId;

use crate::error::{CliError, CliResult};

/// Hexadecimal digits of an id that tables show.
const SHOWN_DIGITS: usize = 12;

/// The first digits of a channel id, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPick(String);

impl FromStr for ChannelPick {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").unwrap_or(text).to_lowercase();
        let hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if hexadecimal && (1..=64).contains(&digits.len()) {
            Ok(Self(digits))
        } else {
            Err("expected the 64 hexadecimal digits of a channel id, or the first of them".to_owned())
        }
    }
}

impl fmt::Display for ChannelPick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", self.0)
    }
}

impl ChannelPick {
    /// The channel when all its digits are given.
    #[must_use]
    pub fn whole(&self) -> Option<ChannelId> {
        self.0.parse().ok()
    }

    /// The one channel of `known` that begins with these digits.
    ///
    /// # Errors
    /// None or several do.
    pub fn among(&self, known: impl IntoIterator<Item = ChannelId>) -> CliResult<ChannelId> {
        let mut matching = known.into_iter().filter(|channel| channel.to_string()[2..].starts_with(&self.0));
        match (matching.next(), matching.next()) {
            (Some(channel), None) => Ok(channel),
            (None, _) => {
                Err(CliError::usage("channel_unknown", format!("no channel begins with {self}")).hint("see `millstream channel list`"))
            }
            (Some(_), Some(_)) => {
                Err(CliError::usage("channel_ambiguous", format!("several channels begin with {self}")).hint("give more digits"))
            }
        }
    }
}

/// The digits of an id that tables show; commands take them back.
#[must_use]
pub fn shown(channel: ChannelId) -> String {
    channel.to_string().chars().take(2 + SHOWN_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8, last: u8) -> ChannelId {
        let mut uid = [0; 31];
        (uid[0], uid[30]) = (first, last);
        ChannelId::from_uid(&uid)
    }

    #[test]
    fn a_channel_is_found_by_its_first_digits() {
        let known = [id(0xab, 1), id(0xab, 2), id(0xcd, 3)];
        let pick = |text: &str| text.parse::<ChannelPick>().expect(text).among(known).map_err(|error| error.code);
        assert_eq!(pick("0x00cd"), Ok(id(0xcd, 3)));
        assert_eq!(pick("00CD"), Ok(id(0xcd, 3)));
        assert_eq!(pick("0x00ab"), Err("channel_ambiguous".to_owned()));
        assert_eq!(pick("0x01"), Err("channel_unknown".to_owned()));
        assert_eq!(pick(&id(0xab, 2).to_string()), Ok(id(0xab, 2)));
        assert_eq!(shown(id(0xab, 1)), "0x00ab00000000");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "0x", "xyz", &"0".repeat(65)] {
            assert!(text.parse::<ChannelPick>().is_err(), "{text}");
        }
    }
}
