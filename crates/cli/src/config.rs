//! `millstream config show`: what a configuration comes to, and where each value is from.
//!
//! A configuration is laid in layers, the later over the earlier: defaults, a profile or a file, `MILLSTREAM_SECTION__KEY` variables, flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::{Args, Subcommand};
use millstream_node::NodeConfig;
use serde::Serialize;
use toml::{Table, Value};

use crate::context::Context;
use crate::database::running;
use crate::error::{CliError, CliResult};
use crate::gateway::{RunArgs, Settings};
use crate::output::{View, columns};

/// `config`.
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// Show every value of a node's or a gateway's configuration, and with --origin where it is from
    Show(Box<ShowArgs>),
    /// Have a running node or gateway read its file again; a file that is wrong, or changes what cannot change, changes nothing
    Reload(ReloadArgs),
}

/// `config reload`.
#[derive(Args, Clone, Debug)]
pub struct ReloadArgs {
    /// The admin listener of the node or gateway; the profile's without this
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

/// `config show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Show where each value is from: default, profile, file, variable or flag
    #[arg(long)]
    pub origin: bool,
    /// Show endpoints whole, with the keys that they may hold
    #[arg(long)]
    pub secrets: bool,
    /// What would be run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    Profile,
    File,
    /// The variable.
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Profile => f.write_str("profile"),
            Self::File => f.write_str("file"),
            Self::Environment(name) => write!(f, "variable {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One layer of a configuration.
pub(crate) struct Layer {
    pub(crate) origin: Origin,
    pub(crate) table: Table,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    key: String,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rows(Vec<Row>);

impl View for Rows {
    fn table(&self) -> String {
        let has_origin = self.0.iter().any(|row| row.origin.is_some());
        let header: &[&str] = if has_origin { &["key", "value", "from"] } else { &["key", "value"] };
        let rows = self.0.iter().map(|row| {
            let origin = row.origin.as_ref().map(ToString::to_string);
            [Some(row.key.clone()), Some(row.value.to_string()), origin].into_iter().flatten().collect()
        });
        columns(header, &[], rows)
    }
}

/// The keys that are others now.
#[derive(Serialize)]
#[serde(transparent)]
struct Changed(crate::admin::ReloadedConfig);

impl View for Changed {
    fn table(&self) -> String {
        if self.0.changed.is_empty() { "nothing changed".to_owned() } else { format!("changed: {}", self.0.changed.join(", ")) }
    }
}

/// Runs the command.
///
/// # Errors
/// The configuration cannot be read, or is wrong.
pub async fn run(context: &Context, command: &ConfigCommand) -> CliResult<()> {
    match command {
        ConfigCommand::Show(args) => show(context, args),
        ConfigCommand::Reload(args) => context.output.show(&Changed(running(context, args.admin.as_deref())?.reload().await?)),
    }
}

fn show(context: &Context, args: &ShowArgs) -> CliResult<()> {
    let (effective, layers) = match &args.run.config {
        Some(path) if !Settings::is_gateways(&read(path)?) => of_node(path)?,
        _ => {
            let layers = Settings::layers(context, &args.run)?;
            (Settings::read(context, &args.run)?.effective()?, layers)
        }
    };
    context.output.show(&Rows(rows(&effective, &layers, args)))
}

fn read(path: &Path) -> CliResult<Table> {
    let wrong = |what: String| CliError::usage("config", format!("cannot read {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    text.parse().map_err(|error: toml::de::Error| wrong(error.to_string().trim().to_owned()))
}

fn of_node(path: &Path) -> CliResult<(Table, Vec<Layer>)> {
    let wrong = |what: String| CliError::usage("node_config", what);
    let config = NodeConfig::load(path).map_err(|error| wrong(format!("{error:#}")))?;
    let effective = Table::try_from(&config).map_err(|error| wrong(error.to_string()))?;
    let mut layers = vec![Layer { origin: Origin::File, table: read(path)? }];
    layers.extend(environment(&millstream_node::SECTIONS, std::env::vars())?);
    Ok((effective, layers))
}

/// A layer for each variable of these sections.
pub(crate) fn environment(sections: &[&str], variables: impl Iterator<Item = (String, String)>) -> CliResult<Vec<Layer>> {
    let mut layers = Vec::new();
    for (name, value) in variables {
        let mut table = Table::new();
        let laid = millstream_node::lay_over(&mut table, sections, std::iter::once((name.clone(), value)));
        laid.map_err(|error| CliError::usage("config", format!("{error:#}")))?;
        if !table.is_empty() {
            layers.push(Layer { origin: Origin::Environment(name), table });
        }
    }
    Ok(layers)
}

fn rows(effective: &Table, layers: &[Layer], args: &ShowArgs) -> Vec<Row> {
    let mut values = BTreeMap::new();
    flatten(effective, "", &mut values);
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            let mut keys = BTreeMap::new();
            flatten(&layer.table, "", &mut keys);
            (&layer.origin, keys)
        })
        .collect();
    let origin = |key: &str| {
        let last = layers.iter().rev().find(|(_, keys)| keys.contains_key(key));
        last.map_or(Origin::Default, |(origin, _)| (*origin).clone())
    };
    let row = |(key, value): (String, &Value)| Row { origin: args.origin.then(|| origin(&key)), value: shown(value, args.secrets), key };
    values.into_iter().map(row).collect()
}

/// Every value by its dotted key; elements of arrays of tables are numbered from 1.
fn flatten<'a>(table: &'a Table, path: &str, all: &mut BTreeMap<String, &'a Value>) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(table) => flatten(table, &path, all),
            Value::Array(elements) if elements.iter().any(Value::is_table) => {
                for (number, table) in elements.iter().filter_map(Value::as_table).enumerate() {
                    flatten(table, &format!("{path}[{}]", number.saturating_add(1)), all);
                }
            }
            value => drop(all.insert(path, value)),
        }
    }
}

/// A value as it is shown. An address of the web may hold a key in its path, its query or before the host: that is left out.
fn shown(value: &Value, secrets: bool) -> serde_json::Value {
    let json = serde_json::to_value(value).unwrap_or_default();
    let Some(text) = json.as_str().filter(|_| !secrets) else { return json };
    let Some(url) = reqwest::Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme())) else { return json };
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.path() == "/";
    if is_bare {
        return json;
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}/***", url.scheme(), url.host_str().unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect("TOML")
    }

    #[test]
    fn each_value_has_the_last_layer_that_names_it() {
        let effective = table("[a]\nx = 1\ny = 2\nz = 3\nw = 4\n[a.b]\nc = true\n[[r]]\np = 'q'");
        let variables = [("MILLSTREAM_A__Y", "2"), ("MILLSTREAM_A__B__C", "true"), ("MILLSTREAM_OTHER__K", "9")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut layers = vec![Layer { origin: Origin::File, table: table("[a]\nx = 1\ny = 0\n[[r]]\np = 'q'") }];
        layers.extend(environment(&["A"], variables.into_iter()).expect("variables"));
        layers.push(Layer { origin: Origin::Flag, table: table("[a]\nz = 3") });
        let args = ShowArgs { origin: true, secrets: false, run: RunArgs::default() };
        let rows = rows(&effective, &layers, &args);
        let shown: Vec<_> = rows.iter().map(|row| (row.key.as_str(), row.origin.as_ref().expect("asked").to_string())).collect();
        let expected = [
            ("a.b.c", "variable MILLSTREAM_A__B__C"),
            ("a.w", "default"),
            ("a.x", "file"),
            ("a.y", "variable MILLSTREAM_A__Y"),
            ("a.z", "flag"),
            ("r[1].p", "file"),
        ];
        assert_eq!(shown, expected.map(|(key, origin)| (key, origin.to_owned())));
    }

    #[test]
    fn endpoints_are_shown_without_what_may_be_a_key() {
        for (text, expected) in [
            ("https://rpc.example/v2/abcdef", "https://rpc.example/***"),
            ("https://user:pass@rpc.example", "https://rpc.example/***"),
            ("http://127.0.0.1:8545?key=1", "http://127.0.0.1:8545/***"),
            ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
            ("/v1/models", "/v1/models"),
        ] {
            assert_eq!(shown(&Value::String(text.to_owned()), false), expected, "{text}");
            assert_eq!(shown(&Value::String(text.to_owned()), true), text);
        }
    }
}
