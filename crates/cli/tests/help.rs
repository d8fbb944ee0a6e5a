//! The help of every command is as it was, a file each: a change is seen in review. `RENEW_SNAPSHOTS=1` writes them anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::Command;
use millstream_cli::examples;

fn snapshots() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/help")
}

/// What `--help` prints for a command and for all below it, by the command's name.
fn helps(command: &Command, words: &[&str], all: &mut BTreeMap<String, String>) {
    let asked = examples::command().try_get_matches_from(words.iter().chain(&["--help"])).expect_err("help is no success");
    assert!(examples::is_answer(&asked), "{words:?}: {asked}");
    let help = asked.to_string();
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    all.insert(format!("{}.txt", words.join("-")), format!("{}\n", lines.join("\n")));
    for sub in command.get_subcommands() {
        helps(sub, &[words, &[sub.get_name()]].concat(), all);
    }
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut actual = BTreeMap::new();
    helps(&examples::command(), &["millstream"], &mut actual);
    let directory = snapshots();
    if std::env::var_os("RENEW_SNAPSHOTS").is_some() {
        // What is left over is of a command that is gone.
        if directory.exists() {
            std::fs::remove_dir_all(&directory).expect("the snapshots are ours");
        }
        std::fs::create_dir_all(&directory).expect("a directory");
        for (file, help) in &actual {
            std::fs::write(directory.join(file), help).expect("written");
        }
    }
    let files = std::fs::read_dir(&directory).expect("the snapshots").map(|entry| entry.expect("an entry").path());
    let committed: BTreeMap<String, String> = files
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    let renew = "if it is meant to be: RENEW_SNAPSHOTS=1 cargo test -p millstream-cli --test help";
    for (file, help) in &actual {
        let expected = committed.get(file).unwrap_or_else(|| panic!("{file} is not there; {renew}"));
        assert_eq!(help, expected, "{file} differs; {renew}");
        assert!(help.contains("\nExample:\n  millstream") || help.contains("\nExamples:\n  millstream"), "{file} has no example");
    }
    for file in committed.keys() {
        assert!(actual.contains_key(file), "{file} is of no command; {renew}");
    }
}

#[test]
fn the_process_prints_what_is_documented() {
    let ask = |words: &[&str]| {
        let output = Process::new(env!("CARGO_BIN_EXE_millstream")).args(words).output().expect("it runs");
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let help = std::fs::read_to_string(snapshots().join("millstream-gateway-claim.txt")).expect("committed");
    let printed: Vec<String> = ask(&["gateway", "claim", "--help"]).lines().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(printed.join("\n").trim_end(), help.trim_end());

    for (shell, word) in [("bash", "complete "), ("zsh", "#compdef millstream"), ("fish", "complete -c millstream")] {
        let script = ask(&["completions", shell]);
        assert!(script.contains(word) && script.contains("gateway"), "{shell}: {script}");
    }
    let page = ask(&["man", "gateway", "claim"]);
    assert!(page.contains(".TH millstream-gateway-claim 1") && page.contains("millstream gateway claim"), "{page}");
    let unknown = Process::new(env!("CARGO_BIN_EXE_millstream")).args(["man", "nothing"]).output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(2));

    let directory = tempfile::tempdir().expect("a directory");
    let written = ask(&["man", "--directory", &directory.path().display().to_string()]);
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    let pages = written["pages"].as_array().expect("pages");
    assert!(pages.len() > 40 && pages.iter().all(|page| directory.path().join(page.as_str().expect("a name")).exists()), "{written}");
}
