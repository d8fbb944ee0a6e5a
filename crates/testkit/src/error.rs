//! Why a development chain could not be had.

use std::path::PathBuf;
use std::time::Duration;

/// Why anvil could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// No binary was found in any of the places.
    #[error(
        "anvil was not found. Looked at: {}. Install it with `npm --prefix contracts ci` in the repository, or install Foundry \
         (https://getfoundry.sh), or name the binary in MILLSTREAM_ANVIL",
        .searched.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound {
        /// The places looked at, in order.
        searched: Vec<PathBuf>,
    },
    /// `MILLSTREAM_ANVIL` names something that is not a file.
    #[error("MILLSTREAM_ANVIL names {}, which is not a file", .path.display())]
    NotAFile {
        /// The value of the variable.
        path: PathBuf,
    },
    /// The operating system refused to start the binary.
    #[error("could not start {}", .binary.display())]
    Start {
        /// The binary.
        binary: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The process ended before it answered.
    #[error("{} ended before it listened. Its last output:\n{output}", .binary.display())]
    Exited {
        /// The binary.
        binary: PathBuf,
        /// The last lines it wrote.
        output: String,
    },
    /// The process did not answer in time.
    #[error("{} did not answer within {waited:?}. Its last output:\n{output}", .binary.display())]
    Silent {
        /// The binary.
        binary: PathBuf,
        /// How long it had.
        waited: Duration,
        /// The last lines it wrote.
        output: String,
    },
    /// The connection to a running anvil failed.
    #[error("anvil did not answer {method}")]
    Connection {
        /// The JSON-RPC method.
        method: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Anvil answered with something that is no JSON-RPC response.
    #[error("anvil's answer to {method} is not JSON-RPC: {detail}")]
    Malformed {
        /// The JSON-RPC method.
        method: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Anvil refused the call.
    #[error("anvil refused {method}: {message}")]
    Refused {
        /// The JSON-RPC method.
        method: String,
        /// Anvil's message.
        message: String,
    },
}
