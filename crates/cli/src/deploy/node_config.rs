//! From a manifest to the configuration of a node.

use std::path::Path;

use toml::{Table, Value};

use super::manifest::Manifest;
use super::plan::KeySource;
use crate::document::write_private;
use crate::error::{CliError, CliResult};

/// The least that a node needs, as `docs/operating/node.md` has it: the chain's part from the manifest, the rest to be looked over.
///
/// # Errors
/// A number does not fit TOML's 64 bits.
pub fn text(manifest: &Manifest, rpc_url: &str) -> CliResult<String> {
    let integer = |value: u64| {
        let fits = i64::try_from(value).map(Value::Integer);
        fits.map_err(|_| CliError::failed("node_config", format!("{value} does not fit a configuration file")))
    };
    let string = |text: &str| Value::String(text.to_owned());
    let server = [("data_dir", "millstream-data"), ("listen", "0.0.0.0:4433"), ("admin_listen", "127.0.0.1:9100")];
    let server: Table = server.into_iter().map(|(key, value)| (key.to_owned(), string(value))).collect();
    let chain = [
        ("rpc_url", string(rpc_url)),
        ("chain_id", integer(manifest.chain_id)?),
        ("ledger", string(&manifest.ledger.address.to_string())),
        ("start_block", integer(manifest.ledger.start_block)?),
        ("operator_key_file", string("operator.key")),
    ];
    let chain: Table = chain.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let sections = Table::from_iter([("server".to_owned(), Value::Table(server)), ("chain".to_owned(), Value::Table(chain))]);
    let body = toml::to_string(&sections).map_err(|error| CliError::failed("node_config", error.to_string()))?;
    let keys = match manifest.keys {
        KeySource::Production => "# Production keys: their files belong into chain.keys_dir.\n",
        KeySource::InsecureDevelopment => "# Insecure development keys: anyone can forge proofs with them.\n",
    };
    Ok(format!(
        "# Made from the manifest of ledger {}.\n# Look over [server]; chain.operator_key_file is to hold the key of {}.\n{keys}{body}",
        manifest.ledger.address, manifest.ledger.first_operator
    ))
}

/// Writes it to a new file that only its owner can read: the URL of an endpoint can hold a key.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn write(manifest: &Manifest, rpc_url: &str, path: &Path) -> CliResult<()> {
    let text = text(manifest, rpc_url)?;
    write_private(path, &text).map_err(|error| CliError::failed("node_config", format!("cannot write {}: {error}", path.display())))
}
