//! Finding, reading and writing a profile.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use millstream_transport::Fingerprint;
use tracing::warn;

use super::Profile;
use crate::error::{CliError, CliResult};

/// The variable that names the profile, as `--profile` does.
pub const PROFILE_ENV: &str = "MILLSTREAM_PROFILE";

/// The name of a profile that is looked for: in the working directory, and in that of `millstream dev`.
const PROFILE_FILE: &str = "millstream.toml";

/// The profile that `millstream dev` writes: `$XDG_STATE_HOME/millstream/dev/millstream.toml`, by default under `~/.local/state`.
#[must_use]
pub fn dev_profile_path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("millstream/dev").join(PROFILE_FILE))
}

/// The files that are looked for when no profile is named, in order.
#[must_use]
pub fn default_paths() -> Vec<PathBuf> {
    [Some(PathBuf::from(PROFILE_FILE)), dev_profile_path()].into_iter().flatten().collect()
}

/// Reads the named profile, or else the first of [`default_paths`] that is there, with the environment's overrides.
///
/// # Errors
/// There is none, it cannot be read, or it is wrong.
pub fn find(named: Option<&Path>) -> CliResult<Profile> {
    let paths = named.map_or_else(default_paths, |path| vec![path.to_owned()]);
    for path in &paths {
        if named.is_some() || path.exists() {
            return load(path, std::env::vars());
        }
    }
    let looked: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    Err(CliError::usage("profile_missing", format!("no profile found; looked for {}", looked.join(" and ")))
        .hint(format!("start a development ledger with `millstream dev`, or name a profile with --profile FILE or {PROFILE_ENV}")))
}

/// Reads a profile and lays `MILLSTREAM_SECTION__KEY` variables over it.
///
/// # Errors
/// The file cannot be read, a key is unknown, or a value is wrong.
pub fn load(path: &Path, variables: impl Iterator<Item = (String, String)>) -> CliResult<Profile> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let failed = CliError::usage("profile_unreadable", format!("cannot read the profile {}: {error}", path.display()));
        if error.kind() == ErrorKind::NotFound { failed.hint("start `millstream dev`, or check --profile") } else { failed }
    })?;
    let mut profile = parse(&text, variables)
        .map_err(|error| CliError { message: format!("in the profile {}: {}", path.display(), error.message), ..error })?;
    profile.path = path.to_owned();
    Ok(profile)
}

/// Writes a profile; the directory must be there. The file holds no secret.
///
/// # Errors
/// The file cannot be written.
pub fn save(profile: &Profile, path: &Path) -> CliResult<()> {
    let failed = |what: String| CliError::failed("profile_unwritable", format!("cannot write the profile {}: {what}", path.display()));
    let text = toml::to_string(profile).map_err(|error| failed(error.to_string()))?;
    // A reader sees the old file or the new one.
    let partial = path.with_extension("toml.partial");
    std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path)).map_err(|error| failed(error.to_string()))
}

fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> CliResult<Profile> {
    let wrong = |message: String| CliError::usage("profile_invalid", message);
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    for (name, value) in variables {
        let Some((section, key)) = name.strip_prefix("MILLSTREAM_").and_then(|rest| rest.split_once("__")) else { continue };
        let (section, key) = (section.to_lowercase(), key.to_lowercase());
        if !is_key(&section, &key) {
            // The node's configuration is overridden with the same prefix, so this is not an error here.
            warn!(name, "not a key of the profile: ignored");
            continue;
        }
        let entry = table.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let entry = entry.as_table_mut().ok_or_else(|| wrong(format!("{name} overrides what is no section")))?;
        entry.insert(key, toml::Value::String(value));
    }
    let profile: Profile = table.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    check(&profile)?;
    Ok(profile)
}

/// The keys of a profile: all of them strings.
fn is_key(section: &str, key: &str) -> bool {
    matches!(
        (section, key),
        ("chain", "rpc_url" | "ledger")
            | ("node", "address" | "certificate_sha256" | "admin_url")
            | ("payer", "key_file" | "state_file")
            | ("gateway", "asset" | "pay_to" | "key_file" | "data_dir" | "admin_url")
    )
}

fn check(profile: &Profile) -> CliResult<()> {
    let wrong = |message: String| Err(CliError::usage("profile_invalid", message));
    for (key, url) in [("node.admin_url", &profile.node.admin_url), ("gateway.admin_url", &profile.gateway.admin_url)] {
        if let Some(url) = url.as_ref().filter(|url| !is_loopback_http(url)) {
            return wrong(format!("{key} is {url}: admin listeners are on loopback only, so only http:// there is asked"));
        }
    }
    if let Some(text) = &profile.node.certificate_sha256
        && fingerprint(text).is_none()
    {
        return wrong(format!("node.certificate_sha256 is {text:?}, expected 64 hexadecimal digits, with or without colons"));
    }
    match &profile.node.address {
        Some(address) if !is_host_and_port(address) => wrong(format!("node.address is {address}, expected host:port")),
        Some(_) | None => Ok(()),
    }
}

/// A fingerprint with or without `0x`.
pub(super) fn fingerprint(text: &str) -> Option<Fingerprint> {
    text.strip_prefix("0x").unwrap_or(text).parse().ok()
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// Whether an admin listener may be asked there.
pub(crate) fn is_loopback_http(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "http" && loopback && url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: &str = r#"
        [chain]
        rpc_url = "http://127.0.0.1:8545"
        ledger = "0x00000000000000000000000000000000000000aa"
        [node]
        address = "127.0.0.1:4433"
        certificate_sha256 = "0x00000000000000000000000000000000000000000000000000000000000000bb"
        admin_url = "http://127.0.0.1:9100"
        [payer]
        key_file = "payer.key"
        state_file = "/var/lib/payer.redb"
    "#;

    fn parsed(text: &str, variables: &[(&str, &str)]) -> CliResult<Profile> {
        parse(text, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn variables_win_over_the_file() {
        let variables = [
            ("MILLSTREAM_CHAIN__RPC_URL", "http://127.0.0.1:1"),
            ("MILLSTREAM_PROFILE", "elsewhere.toml"),
            ("MILLSTREAM_LIMITS__CONNECTIONS_MAX", "3"),
            ("MILLSTREAM_CHAIN__CONFIRMATIONS", "3"),
        ];
        let profile = parsed(COMPLETE, &variables).expect("complete");
        assert_eq!(profile.rpc_url().expect("set"), "http://127.0.0.1:1");
        assert_eq!(profile.node_address().expect("set"), "127.0.0.1:4433");
        let from_nothing = parsed("", &[("MILLSTREAM_NODE__ADDRESS", "node.example:4433")]).expect("enough");
        assert_eq!(from_nothing.node_address().expect("set"), "node.example:4433");
    }

    #[test]
    fn wrong_profiles_are_refused() {
        let check = |text: &str, says: &str| {
            let error = parsed(text, &[]).expect_err(text);
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert_eq!(error.code, "profile_invalid");
        };
        check("[chain]\nrpc = 'x'", "unknown field `rpc`");
        check("[wallet]\n", "unknown field `wallet`");
        check("[chain]\nledger = '0x12'", "expected 20 bytes of hexadecimal");
        check("[node]\nadmin_url = 'http://10.0.0.1:80'", "loopback");
        check("[node]\nadmin_url = 'https://127.0.0.1:80'", "loopback");
        check("[gateway]\nadmin_url = 'http://10.0.0.1:80'", "gateway.admin_url");
        check("[gateway]\ntoken = '0x12'", "unknown field `token`");
        check("[node]\naddress = 'host'", "expected host:port");
        check("[node]\naddress = 'host:0'", "expected host:port");
        check("[node]\ncertificate_sha256 = 'ab'", "64 hexadecimal digits");
        check("chain = 3", "invalid type");
        check("[chain", "TOML");
    }

    #[test]
    fn a_key_that_is_missing_is_named_with_its_variable() {
        let error = parsed("", &[]).expect("nothing is needed yet").ledger().expect_err("none");
        assert!(error.message.contains("chain.ledger"), "{}", error.message);
        assert!(error.hint.expect("a hint").contains("MILLSTREAM_CHAIN__LEDGER"));
    }

    #[test]
    fn a_profile_is_read_as_it_was_written_and_paths_are_relative_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.toml");
        let written = Profile { path: path.clone(), ..parsed(COMPLETE, &[]).expect("complete") };
        save(&written, &path).expect("written");
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(!text.contains("[http]"), "what nobody set is not written: {text}");
        let read = load(&path, std::iter::empty()).expect("read");
        assert_eq!(read, written);
        assert_eq!(read.payer_key_file().expect("set"), directory.path().join("payer.key"));
        assert_eq!(read.payer_state_file().expect("set"), Path::new("/var/lib/payer.redb"));
    }

    #[test]
    fn a_named_profile_must_be_there() {
        let error = find(Some(Path::new("/nonexistent/profile.toml"))).expect_err("none");
        assert_eq!(error.code, "profile_unreadable");
    }
}
