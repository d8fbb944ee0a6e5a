//! Backups of a node that is paid meanwhile, and what becomes of them: checked, restored, started on, and found out when they are altered.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Net;
use millstream_cli::admin::Admin;
use millstream_cli::dev::NodeProcess;
use millstream_store::{Backend, Batch, KeyRange, Read, RocksStore, SchemaVersion, StoreOptions, Table};
use serde_json::Value;

/// The version of the records that this build writes.
const SCHEMA: SchemaVersion = SchemaVersion(2);

fn run(net: &Net, arguments: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(arguments)
        .current_dir(net.directory.path())
        .stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let status = output.status.code().expect("a status");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let text = if stdout.is_empty() { String::from_utf8(output.stderr).expect("text") } else { stdout };
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {text}")))
}

fn done(net: &Net, arguments: &[&str]) -> Value {
    let (status, answer) = run(net, arguments);
    assert_eq!(status, 0, "{arguments:?}: {answer}");
    answer
}

fn refused(net: &Net, arguments: &[&str], word: &str) {
    let (status, answer) = run(net, arguments);
    assert!(status != 0 && answer.to_string().contains(word), "{arguments:?}: {status} {answer}");
}

/// Starts the node's binary with its own configuration on another data directory, and gives back what it says of its channels.
async fn status_on(net: &Net, data_dir: &Path) -> Value {
    let config = std::fs::read_to_string(net.dev.info().node_config).expect("the configuration");
    let mut config: toml::Table = config.parse().expect("TOML");
    config["server"]["data_dir"] = data_dir.display().to_string().into();
    // The node that was backed up has the ports.
    for key in ["listen", "admin_listen"] {
        config["server"][key] = "127.0.0.1:0".into();
    }
    let path = net.directory.path().join("restored.toml");
    std::fs::write(&path, toml::to_string(&config).expect("TOML")).expect("written");
    let binary = Path::new(env!("CARGO_BIN_EXE_millstream"));
    let mut node = NodeProcess::start(binary, &path, &net.directory.path().join("restored.log")).expect("it starts");
    let admin = Admin::new(&format!("http://{}", node.listening().admin_listen)).expect("an address");
    let status = admin.status().await.expect("it answers");
    node.stop().expect("it stops");
    serde_json::to_value(status.channels).expect("JSON")
}

/// Changes the last byte of the first value of a table, as a faulty disk would not, and a hostile hand could.
fn alter(data_dir: &Path, table: Table) {
    let mut store = RocksStore::open(&data_dir.join("db"), &StoreOptions { log_bytes: 0, ..StoreOptions::new(SCHEMA) }).expect("opens");
    let (key, mut value) = store.collect(table, &KeyRange::all()).expect("reads").into_iter().next().expect("a record");
    *value.last_mut().expect("a byte") ^= 1;
    let mut batch = Batch::new();
    batch.put(table, &key, &value);
    store.commit(&batch).expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_node_under_load_is_whole_and_a_changed_one_is_found_out() {
    let mut net = Net::start().await;
    let place = |name: &str| net.directory.path().join(name).display().to_string();
    let (live, still) = (place("live"), place("still"));
    let replay = ["--quiet", "--json", "replay", "--channels", "8", "--sign-every", "64", "--payments", "400000"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .arg("--profile")
        .arg(net.dev.info().profile)
        .args(replay)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut replaying = command.spawn().expect("it starts");
    net.wait_for("payments to flow", async || net.admin.status().await.expect("status").channels.lines > 60_000).await;

    // Everything that was acknowledged before it began is in it, and it holds together.
    let before = net.admin.status().await.expect("status").channels.lines;
    let written = done(&net, &["backup", &live]);
    assert!(written["commit"].as_u64().expect("a number") > 0, "{written}");
    refused(&net, &["backup", &live], "exists already");
    let checked = done(&net, &["db", "check", &live]);
    assert_eq!((&checked["problems_total"], &checked["channels"]), (&0.into(), &8.into()), "{checked}");
    let restored = place("from-live");
    done(&net, &["restore", &live, &restored]);
    refused(&net, &["restore", &live, &restored], "has a database already");
    let channels = status_on(&net, Path::new(&restored)).await;
    assert!(channels["lines"].as_u64().expect("a number") >= before, "{channels} after {before}");

    // One of a node that stands has all of it; while it runs, its database is its own.
    assert!(replaying.wait().expect("the replay ends").success());
    let data_dir: PathBuf = net.directory.path().join("node");
    let data_dir_text = data_dir.display().to_string();
    refused(&net, &["backup", &still, "--data-dir", &data_dir_text], "in use");
    refused(&net, &["db", "check", &data_dir_text], "in use");
    let end = serde_json::to_value(net.admin.status().await.expect("status").channels).expect("JSON");
    net.dev.node.stop().expect("it stops");
    done(&net, &["backup", &still, "--data-dir", &data_dir_text]);
    let whole = place("from-still");
    done(&net, &["restore", &still, &whole]);
    let checked = done(&net, &["db", "check", &whole]);
    assert_eq!(checked["problems_total"], 0, "{checked}");
    assert!(checked["frames"].as_u64().expect("a number") >= 6_250, "{checked}");
    assert_eq!(status_on(&net, Path::new(&whole)).await, end);

    // A changed voucher, frame or leaf is found and named.
    for (table, word) in [(Table::Channels, "channel 0x"), (Table::Frames, "frame 0"), (Table::Leaves, "epoch 0")] {
        let altered = place(&format!("altered-{}", table.name()));
        done(&net, &["restore", &still, &altered]);
        alter(Path::new(&altered), table);
        let (status, report) = run(&net, &["db", "check", &altered]);
        assert_eq!(status, 5, "{}: {report}", table.name());
        let problems = report["problems"].as_array().expect("a list");
        assert!(
            problems.iter().any(|problem| problem.as_str().is_some_and(|problem| problem.contains(word))),
            "{}: {report}",
            table.name()
        );
    }

    // A backup that lost a file, or a part of one, is refused, and nothing is left of it.
    let (manifest, target) = (Path::new(&still).join("backup.json"), place("from-damaged"));
    let manifest: Value = serde_json::from_str(&std::fs::read_to_string(manifest).expect("the manifest")).expect("JSON");
    let largest = manifest["files"].as_object().expect("files").iter().max_by_key(|(_, bytes)| bytes.as_u64()).expect("a file").0;
    let largest = Path::new(&still).join(largest);
    let bytes = std::fs::read(&largest).expect("read");
    std::fs::write(&largest, &bytes[..bytes.len() - 1]).expect("written");
    refused(&net, &["restore", &still, &target], "the backup is damaged");
    std::fs::remove_file(&largest).expect("ours");
    refused(&net, &["restore", &still, &target], "is missing");
    assert!(!Path::new(&target).exists());
}
