//! Why a gateway does not start.

use std::io;
use std::path::PathBuf;

use millstream_tariff::PriceError;

/// What is wrong with a configuration, with the place it stands.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("the configuration is not valid")]
    Toml(#[from] toml::de::Error),
    /// A price, a token or the name of a tariff.
    #[error("{place}: {source}")]
    Price {
        /// The key.
        place: String,
        /// Why.
        source: PriceError,
    },
    /// A rate card, or the directory that they are in.
    #[error("ratecards: {0}")]
    Card(#[from] crate::cards::PublishError),
    /// Any other value that cannot be used.
    #[error("{place}: {reason}")]
    Value {
        /// The key.
        place: String,
        /// Why, and what would do.
        reason: String,
    },
}

impl ConfigError {
    pub(crate) fn value(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value { place: place.into(), reason: reason.into() }
    }

    pub(crate) fn price(place: impl Into<String>) -> impl FnOnce(PriceError) -> Self {
        let place = place.into();
        move |source| Self::Price { place, source }
    }
}

/// Why a gateway stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS for upstreams cannot be set up on this system.
    #[error("TLS for upstreams cannot be set up: {reason}")]
    Tls {
        /// What the TLS library says.
        reason: String,
    },
}
