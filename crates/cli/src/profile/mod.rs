//! The profile: where the chain, the provider's node and the payer's secrets are. One TOML file, `MILLSTREAM_SECTION__KEY` overrides.
//!
//! Every key is optional in the file, because a payer needs no admin address and a provider no payer key; a command that misses one
//! says which. Unknown keys are errors. Secrets are in files of their own, named here, never here themselves.

mod key;
mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millstream_transport::Fingerprint;
use millstream_types::Address;
use serde::{Deserialize, Serialize};

use crate::error::{CliError, CliResult};
use crate::spend::HttpSection;
use millstream_client::http::PolicyConfig;

pub use key::{SecretBytes, read_secret, write_secret};
pub(crate) use load::is_loopback_http;
pub use load::{PROFILE_ENV, default_paths, dev_profile_path, find, load, save};

/// The profile. Relative paths in it are relative to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// `[chain]`: the chain and the ledger.
    pub chain: ChainSection,
    /// `[node]`: the provider's node.
    pub node: NodeSection,
    /// `[payer]`: the payer's key and durable state.
    pub payer: PayerSection,
    /// `[gateway]`: what `millstream gateway` sells with, and where its operator reaches it.
    pub gateway: GatewaySection,
    /// `[http]`: what may be paid for HTTP 402, and with what.
    #[serde(skip_serializing_if = "HttpSection::is_empty")]
    pub http: HttpSection,
    /// `[policy]`: who may spend what, beside the limits of `[http]`.
    #[serde(skip_serializing_if = "is_unset")]
    pub policy: PolicyConfig,
    /// The file this was read from, for messages.
    #[serde(skip)]
    pub path: PathBuf,
}

fn is_unset(policy: &PolicyConfig) -> bool {
    *policy == PolicyConfig::default()
}

/// `[chain]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainSection {
    /// JSON-RPC endpoint of an EVM node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc_url: Option<String>,
    /// The ledger contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Address>,
}

/// `[node]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSection {
    /// `host:port` of the QUIC listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// SHA-256 of the node's certificate, hexadecimal, to pin it; without it the system's authorities vouch for the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_sha256: Option<String>,
    /// `http://127.0.0.1:PORT` of the node's admin listener; loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
}

/// `[payer]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PayerSection {
    /// File with the payer's account key, hexadecimal, readable by its owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The client's durable state: channels, last signed vouchers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_file: Option<PathBuf>,
}

/// `[gateway]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewaySection {
    /// The token that is paid in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<Address>,
    /// Who is paid; the account of the key without this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pay_to: Option<Address>,
    /// File with the key that claims and pays the gas, readable by its owner only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Directory of the gateway's database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// `http://127.0.0.1:PORT` of the gateway's admin listener; loopback only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_url: Option<String>,
}

impl Profile {
    /// JSON-RPC endpoint of the chain.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn rpc_url(&self) -> CliResult<&str> {
        self.chain.rpc_url.as_deref().ok_or_else(|| self.missing("chain", "rpc_url", "the JSON-RPC endpoint of the chain"))
    }

    /// The ledger contract.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn ledger(&self) -> CliResult<Address> {
        self.chain.ledger.ok_or_else(|| self.missing("chain", "ledger", "the address of the ledger contract"))
    }

    /// `host:port` of the node.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn node_address(&self) -> CliResult<&str> {
        self.node.address.as_deref().ok_or_else(|| self.missing("node", "address", "host:port of the provider's node"))
    }

    /// The pinned certificate of the node, if one is.
    #[must_use]
    pub fn node_certificate(&self) -> Option<Fingerprint> {
        // Checked when the profile was read.
        self.node.certificate_sha256.as_deref().and_then(load::fingerprint)
    }

    /// The node's admin listener.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn admin_url(&self) -> CliResult<&str> {
        let what = "http://127.0.0.1:PORT of the node's admin listener";
        self.node.admin_url.as_deref().ok_or_else(|| self.missing("node", "admin_url", what))
    }

    /// File with the payer's account key.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn payer_key_file(&self) -> CliResult<PathBuf> {
        let file = self.payer.key_file.as_deref().ok_or_else(|| self.missing("payer", "key_file", "the file with the payer's key"))?;
        Ok(self.resolve(file))
    }

    /// The client's durable state.
    ///
    /// # Errors
    /// The profile does not name it.
    pub fn payer_state_file(&self) -> CliResult<PathBuf> {
        let what = "the file for the payer's durable state";
        let file = self.payer.state_file.as_deref().ok_or_else(|| self.missing("payer", "state_file", what))?;
        Ok(self.resolve(file))
    }

    /// A file of `[gateway]`, relative to the profile.
    #[must_use]
    pub fn gateway_file(&self, file: Option<&Path>) -> Option<PathBuf> {
        file.map(|file| self.resolve(file))
    }

    /// The TCP address in `gateway.admin_url`.
    ///
    /// # Errors
    /// It names no address and port.
    pub fn gateway_admin_address(&self) -> CliResult<Option<SocketAddr>> {
        let Some(url) = &self.gateway.admin_url else { return Ok(None) };
        let address = url.strip_prefix("http://").and_then(|address| address.trim_end_matches('/').parse().ok());
        let wrong = || CliError::usage("profile_invalid", format!("gateway.admin_url is {url}, expected http://127.0.0.1:PORT"));
        address.map(Some).ok_or_else(wrong)
    }

    pub(crate) fn resolve(&self, file: &Path) -> PathBuf {
        match self.path.parent() {
            Some(directory) if file.is_relative() => directory.join(file),
            Some(_) | None => file.to_owned(),
        }
    }

    fn missing(&self, section: &str, key: &str, what: &str) -> CliError {
        let (upper_section, upper_key) = (section.to_uppercase(), key.to_uppercase());
        CliError::usage("profile_incomplete", format!("the profile {} has no {section}.{key}: {what}", self.path.display()))
            .hint(format!("add `{key} = ...` to [{section}], or set MILLSTREAM_{upper_section}__{upper_key}"))
    }
}
