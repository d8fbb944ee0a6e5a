//! Which crate may know which: the rules of the design, checked over `cargo metadata`.
//!
//! Only normal dependencies count; tests may use what they like.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::shell;

const OURS: &str = "millstream-";

/// No async, no I/O, no clock.
const PURE: &[&str] = &["types", "lanes", "voucher", "billing", "policy", "tariff", "engine", "circuit", "wire", "dialect"];
/// Each knows one outside thing, and none of the others.
const ADAPTERS: &[&str] = &["store", "transport", "chain", "prover", "keystore"];
const APPLICATIONS: &[&str] = &["node", "gateway", "escrow", "client", "load", "recovery", "ceremony", "cli"];
/// Nobody builds upon these.
const DEVELOPMENT: &[&str] = &["testkit", "xtask", "benches", "proptests"];

/// What a pure crate must not reach, by whatever way.
const IMPURE: &[&str] = &["tokio", "quinn", "rocksdb", "alloy", "axum", "reqwest"];
/// What the payer's side must not reach: it runs without a server.
const SERVER: &[&str] = &["node", "gateway", "escrow", "store", "engine", "prover"];
/// What the load generator must not reach: it meets a node on the wire, as any payer does.
const BEHIND_THE_WIRE: &[&str] = &["node", "gateway", "escrow", "store", "engine", "chain"];
/// What leaving and auditing must not reach: they work without the provider, and without anything that it keeps.
const PROVIDERS: &[&str] = &["node", "gateway", "escrow", "store", "transport", "engine"];
/// What the gateway must not reach: money is behind its port, whoever keeps it.
const BEHIND_THE_PORT: &[&str] = &["node", "escrow", "store", "engine", "chain", "prover"];
/// What the ceremony must not reach: it makes keys from files alone, wherever its participants are.
const ONLINE: &[&str] = &["node", "gateway", "escrow", "client", "load", "store", "transport", "chain", "engine"];
/// Who must not reach the ceremony: whoever uses keys knows nothing of making them.
const KEY_USERS: &[&str] = &["node", "gateway", "escrow", "client", "load"];
/// Crates of ours that may use `anyhow`; the others have errors of their own.
const ANYHOW: &[&str] = &["node", "escrow", "cli", "xtask"];

/// The only crates of ours that these may depend on directly.
const DIRECT: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("lanes", &[]),
    ("voucher", &["types", "lanes"]),
    ("billing", &["types", "lanes"]),
    ("policy", &["types"]),
    ("tariff", &["types"]),
    ("wire", &["types", "voucher", "billing"]),
    ("dialect", &["types", "voucher"]),
    ("xtask", &[]),
];

/// The only crates of ours, besides those for development, that may depend directly on these.
const KNOWN_BY: &[(&str, &[&str])] = &[("dialect", &["gateway", "client", "escrow"])];

/// Normal dependencies by name: the members of the workspace, and everything they reach.
#[derive(Debug, Default)]
pub struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// The graph of resolved normal dependencies.
    ///
    /// # Errors
    /// The metadata has no resolved dependencies.
    pub fn of(metadata: &Metadata) -> Result<Self> {
        let resolve = metadata.resolve.as_ref().context("cargo metadata without dependencies")?;
        let names: BTreeMap<_, _> = metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
        let name = |id| names.get(id).cloned().with_context(|| format!("unknown package {id}"));
        let mut graph = Self::default();
        for id in &metadata.workspace_members {
            graph.members.insert(short(&name(id)?).to_owned());
        }
        for node in &resolve.nodes {
            // Versions of one name are one node here: a ban is on the name.
            let from = short(&name(&node.id)?).to_owned();
            for dependency in &node.deps {
                if dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal) {
                    graph.edges.entry(from.clone()).or_default().insert(short(&name(&dependency.pkg)?).to_owned());
                }
            }
        }
        Ok(graph)
    }

    fn direct(&self, name: &str) -> impl Iterator<Item = &str> {
        self.edges.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The way from one crate to another, both included, if there is one.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for next in self.direct(at) {
                if next == from || came_from.contains_key(next) {
                    continue;
                }
                came_from.insert(next, at);
                if next == to {
                    let mut way = vec![to.to_owned()];
                    let mut at = to;
                    while let Some(before) = came_from.get(at) {
                        way.push((*before).to_owned());
                        at = before;
                    }
                    way.reverse();
                    return Some(way);
                }
                open.push(next);
            }
        }
        None
    }
}

/// The crate's folder: its name without our prefix.
fn short(name: &str) -> &str {
    name.strip_prefix(OURS).unwrap_or(name)
}

/// Every broken rule, in words.
#[must_use]
pub fn problems(graph: &Graph) -> Vec<String> {
    let mut problems = Vec::new();
    let mut forbid = |from: &str, to: &str, reason: &str| {
        if let Some(way) = graph.members.contains(from).then(|| graph.way(from, to)).flatten() {
            problems.push(format!("{reason}: {}", way.join(" -> ")));
        }
    };
    let above_pure = [ADAPTERS, APPLICATIONS].concat();
    for pure in PURE {
        IMPURE.iter().for_each(|crate_| forbid(pure, crate_, "a pure crate reaches the outside"));
        above_pure.iter().for_each(|crate_| forbid(pure, crate_, "a pure crate reaches upwards"));
    }
    for adapter in ADAPTERS {
        let others = ADAPTERS.iter().filter(|other| *other != adapter);
        others.for_each(|other| forbid(adapter, other, "an adapter knows another"));
        APPLICATIONS.iter().for_each(|crate_| forbid(adapter, crate_, "an adapter reaches upwards"));
    }
    SERVER.iter().for_each(|crate_| forbid("client", crate_, "the client needs the server"));
    BEHIND_THE_WIRE.iter().for_each(|crate_| forbid("load", crate_, "the load generator knows what it measures"));
    PROVIDERS.iter().for_each(|crate_| forbid("recovery", crate_, "what is done from the chain alone needs the provider"));
    BEHIND_THE_PORT.iter().for_each(|crate_| forbid("gateway", crate_, "the gateway knows who keeps the money"));
    ONLINE.iter().for_each(|crate_| forbid("ceremony", crate_, "the ceremony knows more than files"));
    KEY_USERS.iter().for_each(|user| forbid(user, "ceremony", "a user of keys knows how they are made"));
    // `millstream dev` starts a development chain, so the one binary may know the testkit; no library may.
    for crate_ in [PURE, ADAPTERS, APPLICATIONS].concat().into_iter().filter(|crate_| *crate_ != "cli") {
        DEVELOPMENT.iter().for_each(|tool| forbid(crate_, tool, "a library uses a development crate"));
    }
    problems.extend(graph.members.iter().flat_map(|member| direct_problems(graph, member)));
    problems
}

/// Rules about what stands in a crate's own manifest.
fn direct_problems(graph: &Graph, member: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if ![PURE, ADAPTERS, APPLICATIONS, DEVELOPMENT].iter().any(|group| group.contains(&member)) {
        problems.push(format!("the crate {member} is in no group: say in the architecture rules what it may know"));
    }
    if let Some((_, allowed)) = DIRECT.iter().find(|(name, _)| *name == member) {
        let ours = graph.direct(member).filter(|name| graph.members.contains(*name) && !allowed.contains(name));
        problems.extend(ours.map(|name| format!("a crate of its level may not know the other: {member} -> {name}")));
    }
    for (known, users) in
        KNOWN_BY.iter().filter(|(known, users)| !users.contains(&member) && !DEVELOPMENT.contains(&member) && member != *known)
    {
        if graph.direct(member).any(|name| name == *known) {
            problems.push(format!("only {} speak it: {member} -> {known}", users.join(", ")));
        }
    }
    if graph.direct(member).any(|name| name == "anyhow") && !ANYHOW.contains(&member) {
        problems.push(format!("errors of a library are typed: {member} -> anyhow"));
    }
    problems
}

/// The broken rules of this workspace.
///
/// # Errors
/// `cargo metadata` fails.
pub fn problems_of_workspace() -> Result<Vec<String>> {
    let cargo = shell::cargo();
    let mut command = MetadataCommand::new();
    command.cargo_path(cargo.get_program()).current_dir(shell::root());
    // Of this platform only: those are the packages that a build has fetched.
    command.other_options(["--filter-platform".to_owned(), host()?]);
    Ok(problems(&Graph::of(&command.exec()?)?))
}

fn host() -> Result<String> {
    let output = std::process::Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say its host")
}

#[cfg(test)]
mod tests {
    use super::{Graph, problems};

    /// A graph from lines `from -> to`; every name on a left side is a member.
    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.edges.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            if !to.is_empty() && !["serde", "hyper"].contains(from) {
                graph.members.insert((*from).to_owned());
            }
        }
        graph
    }

    #[test]
    fn each_rule_finds_its_breach_and_nothing_else() {
        let sound = [
            ("voucher", "types"),
            ("wire", "billing"),
            ("store", "rocksdb"),
            ("node", "store"),
            ("node", "anyhow"),
            ("client", "chain"),
            ("cli", "testkit"),
            ("ceremony", "prover"),
            ("cli", "ceremony"),
        ];
        assert_eq!(problems(&graph(&sound)), Vec::<String>::new());
        for (edges, expected) in [
            (
                &[("engine", "serde"), ("serde", "hyper"), ("hyper", "tokio")][..],
                "a pure crate reaches the outside: engine -> serde -> hyper -> tokio",
            ),
            (&[("engine", "store")], "a pure crate reaches upwards: engine -> store"),
            (&[("chain", "prover")], "an adapter knows another: chain -> prover"),
            (&[("prover", "node")], "an adapter reaches upwards: prover -> node"),
            (&[("client", "engine")], "the client needs the server: client -> engine"),
            (&[("load", "store")], "the load generator knows what it measures: load -> store"),
            (&[("recovery", "engine")], "what is done from the chain alone needs the provider: recovery -> engine"),
            (&[("gateway", "engine")], "the gateway knows who keeps the money: gateway -> engine"),
            (&[("ceremony", "chain")], "the ceremony knows more than files: ceremony -> chain"),
            (&[("node", "ceremony")], "a user of keys knows how they are made: node -> ceremony"),
            (&[("prover", "ceremony")], "an adapter reaches upwards: prover -> ceremony"),
            (&[("node", "testkit")], "a library uses a development crate: node -> testkit"),
            (&[("chain", "anyhow")], "errors of a library are typed: chain -> anyhow"),
            (&[("voucher", "types"), ("billing", "voucher")], "a crate of its level may not know the other: billing -> voucher"),
            (&[("voucher", "types"), ("recovery", "dialect")], "only gateway, client, escrow speak it: recovery -> dialect"),
            (&[("ledgerd", "types")], "the crate ledgerd is in no group: say in the architecture rules what it may know"),
        ] {
            assert_eq!(problems(&graph(edges)), [expected]);
        }
    }
}
