//! The rules that the repository keeps about itself.

use std::fs;

use xtask::{architecture, shell, tidy};

/// Crates without clock, files, sockets or an order that is random.
const PURE: [&str; 8] = ["types", "lanes", "voucher", "billing", "engine", "circuit", "wire", "dialect"];

#[test]
fn no_crate_knows_what_it_must_not() {
    let problems = architecture::problems_of_workspace().expect("cargo metadata works");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_file_names_a_registry_or_a_path_of_one_machine() {
    let problems = tidy::problems_of(&shell::root()).expect("the repository is readable");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_pure_crate_bans_clocks_files_sockets_and_hash_order() {
    let configuration = |name: &str| fs::read_to_string(shell::root().join("crates").join(name).join("clippy.toml")).unwrap_or_default();
    let model = configuration(PURE[0]);
    for ban in ["Instant::now", "SystemTime::now", "std::fs::", "std::net::", "HashMap::iter", "HashSet::iter"] {
        assert!(model.contains(ban), "{ban}");
    }
    for name in PURE {
        assert_eq!(configuration(name), model, "crates/{name}/clippy.toml differs from crates/{}/clippy.toml", PURE[0]);
    }
}
