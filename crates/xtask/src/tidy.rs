//! What no file of the repository may contain: the addresses of package registries and paths of one machine.
//!
//! Lock files and configurations with a download host in them work only where that host does.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that are not part of the repository.
const SKIPPED: &[&str] = &[".git", "target", "node_modules", "out", "cache", "broadcast"];

// Split, so that this file passes its own check.
const HOSTS: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("files.", "pythonhosted.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
];
const MACHINE_PATH: &str = concat!("/wo", "rk/");
const RESOLVED: &str = concat!("\"resolved\": \"", "http");

/// Every breach under `root`, in words.
///
/// # Errors
/// A file cannot be read.
pub fn problems_of(root: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in entries {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if kind.is_dir() && !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                open.push(path);
            } else if kind.is_file() {
                // A file that vanished since the listing was nobody's to check.
                let Ok(bytes) = fs::read(&path) else { continue };
                let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                problems.extend(problems_in(&name, &String::from_utf8_lossy(&bytes)));
            }
        }
    }
    problems.sort();
    Ok(problems)
}

fn problems_in(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut find = |needle: &str, what: &str| {
        if let Some(at) = text.find(needle) {
            let line = text[..at].matches('\n').count() + 1;
            problems.push(format!("{name}:{line}: contains {what}"));
        }
    };
    HOSTS.iter().for_each(|host| find(host, &format!("the package registry {host}")));
    find(MACHINE_PATH, "a path of one machine");
    if name.ends_with("package-lock.json") {
        find(RESOLVED, "a download address; npm leaves it out with omit-lockfile-registry-resolved=true");
    }
    if name.ends_with(".npmrc") {
        find("registry=", "a package registry");
    }
    if name.contains(".cargo/config") {
        find("[source", "a replaced package source");
        find("[registries", "a package registry");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{HOSTS, MACHINE_PATH, RESOLVED, problems_in};

    #[test]
    fn each_ban_finds_its_breach() {
        assert_eq!(problems_in("README.md", "plain text\n"), Vec::<String>::new());
        for (name, text) in [
            ("docs/a.md", format!("see https://{}/x", HOSTS[0])),
            ("src/a.rs", format!("// {MACHINE_PATH}main")),
            ("contracts/package-lock.json", format!("      {RESOLVED}s://host/a.tgz\"")),
            ("contracts/.npmrc", "registry=https://host".to_owned()),
            (".cargo/config.toml", "[source.crates-io]".to_owned()),
        ] {
            assert_eq!(problems_in(name, &text).len(), 1, "{name}");
            assert_eq!(problems_in(name, &format!("one\ntwo\n{text}"))[0].split(':').nth(1), Some("3"), "{name}");
        }
        assert!(problems_in("docs/npm.md", RESOLVED).is_empty(), "only a lock file may not resolve");
    }
}
