//! The public powers-of-tau files that are trusted, by their hashes.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::curve::Blake2bHash;

/// A public powers-of-tau file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPowers {
    /// Its name.
    pub file: String,
    /// The logarithm of its number of powers.
    pub power: u32,
    /// BLAKE2b-512 of the whole file.
    pub blake2b: Blake2bHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    powers: Vec<Pin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    file: String,
    power: u32,
    blake2b: String,
}

/// The pinned files, in ascending order of their powers: those of `powers.toml`.
///
/// # Panics
/// When `powers.toml`, which is part of this crate, is not well formed.
#[must_use]
pub fn powers_pins() -> &'static [PinnedPowers] {
    static PINS: LazyLock<Vec<PinnedPowers>> = LazyLock::new(|| {
        let pins: Pins = toml::from_str(include_str!("../powers.toml")).expect("tested");
        let pin = |Pin { file, power, blake2b }: Pin| PinnedPowers { file, power, blake2b: blake2b.parse().expect("tested") };
        pins.powers.into_iter().map(pin).collect()
    });
    &PINS
}

#[cfg(test)]
mod tests {
    use super::powers_pins;

    #[test]
    fn the_table_is_well_formed() {
        let pins = powers_pins();
        assert!(pins.iter().zip(8..).all(|(pin, power)| pin.power == power));
        assert_eq!(pins.last().map(|pin| pin.power), Some(28));
        let names = pins.iter().take(20).all(|pin| pin.file == format!("powersOfTau28_hez_final_{:02}.ptau", pin.power));
        assert!(names);
        let mut hashes: Vec<_> = pins.iter().map(|pin| pin.blake2b.to_string()).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), pins.len());
    }
}
