//! Real crashes of a real store: a process killed while writing, a log cut short, a disk that is full.
//!
//! The writing process is this test binary again, told by the environment to run [`writer`] only.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use millstream_store::{Backend, Batch, KeyRange, Read, RocksStore, SchemaVersion, StoreError, StoreOptions, Table, accept_database_head};

const WRITER_DIR: &str = "MILLSTREAM_STORE_TEST_WRITER_DIR";
const WRITER_LOG_BYTES: &str = "MILLSTREAM_STORE_TEST_WRITER_LOG_BYTES";

fn options() -> StoreOptions {
    // Small memory tables, so that flushes and log changes happen within the test, and logs are written over.
    let log_bytes = std::env::var(WRITER_LOG_BYTES).map_or(1 << 20, |bytes| bytes.parse().expect("a number"));
    StoreOptions { frames_buffer_bytes: 256 << 10, channels_buffer_bytes: 128 << 10, log_bytes, ..StoreOptions::new(SchemaVersion(1)) }
}

/// Batch `number` overwrites one channel and adds two frames, the values derived from the number.
fn fill(batch: &mut Batch, number: u64) {
    batch.clear();
    batch.put(Table::Channels, &(number % 7).to_be_bytes(), &number.to_be_bytes());
    for half in 0..2u8 {
        let key = [&number.to_be_bytes()[..], &[half]].concat();
        batch.put(Table::Frames, &key, &number.to_be_bytes().repeat(400));
    }
}

/// Checks that exactly batches 1 to `last` are there, each whole.
fn check_contents(store: &RocksStore, last: u64) {
    let frames = store.collect(Table::Frames, &KeyRange::all()).expect("scans");
    let expected: Vec<_> = (1..=last)
        .flat_map(|number| [0, 1].map(|half| ([&number.to_be_bytes()[..], &[half]].concat(), number.to_be_bytes().repeat(400))))
        .collect();
    assert!(frames == expected, "{} frames, batch {last}", frames.len());
    for channel in 0..7u64 {
        let newest = (1..=last).rev().find(|number| number % 7 == channel);
        let found = store.get(Table::Channels, &channel.to_be_bytes()).expect("reads");
        assert_eq!(found, newest.map(|number| number.to_be_bytes().to_vec()));
    }
}

/// Not a test by itself: the process that the tests kill. Commits until it fails, printing each acknowledged number.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(WRITER_DIR) else { return };
    let mut store = RocksStore::open(Path::new(&dir), &options()).expect("opens");
    let mut batch = Batch::new();
    let mut number = store.head().seq.as_u64();
    loop {
        number += 1;
        fill(&mut batch, number);
        match store.commit(&batch) {
            Ok(seq) => println!("acknowledged {seq}"),
            Err(error) => {
                println!("failed {error}");
                break;
            }
        }
    }
    assert!(matches!(store.commit(&batch), Err(StoreError::Lost { last }) if last.as_u64() + 1 == number));
    assert!(matches!(store.get(Table::Channels, b"any"), Err(StoreError::Lost { .. })));
    println!("refuses");
}

fn spawn_writer(dir: &Path, through: &mut Command) -> Child {
    let child = through.env(WRITER_DIR, dir).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    child.expect("the test binary starts")
}

fn this_test_binary() -> PathBuf {
    std::env::current_exe().expect("has a path")
}

/// Lets a writer acknowledge at least `commits` batches, kills it, and says the last number that it got out.
fn write_and_kill(dir: &Path, commits: usize) -> u64 {
    let mut child = spawn_writer(dir, Command::new(this_test_binary()).args(["--exact", "writer", "--nocapture"]));
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut acknowledged = lines.map_while(Result::ok).filter_map(|line| line.split_once("acknowledged ")?.1.parse::<u64>().ok());
    let mut last = acknowledged.nth(commits - 1).expect("commits");
    child.kill().expect("is killed");
    for number in acknowledged {
        last = number;
    }
    child.wait().expect("is reaped");
    last
}

/// The log file that was written last.
fn newest_log(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir.join("db")).expect("lists").map(|entry| entry.expect("entry").path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().expect("there is a log")
}

fn truncate(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).expect("truncates");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for round in 1..=6 {
        let acknowledged = write_and_kill(dir.path(), round * 40);
        let store = RocksStore::open(dir.path(), &options()).expect("opens");
        let recovered = store.head().seq.as_u64();
        // The batch that was under way may have become durable without being acknowledged.
        assert!((acknowledged..=acknowledged + 1).contains(&recovered), "acknowledged {acknowledged}, recovered {recovered}");
        check_contents(&store, recovered);
    }
}

#[test]
fn a_log_cut_below_the_acknowledged_head_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = RocksStore::open(dir.path(), &options()).expect("opens");
    let mut batch = Batch::new();
    for number in 1..=10 {
        fill(&mut batch, number);
        store.commit(&batch).expect("commits");
    }
    drop(store);
    let log = newest_log(dir.path());
    let whole = fs::read(&log).expect("reads");
    truncate(&log, whole.len() as u64 * 6 / 10);
    let cut = fs::read(&log).expect("reads");

    for _ in 0..2 {
        let refused = RocksStore::open(dir.path(), &options()).err().expect("is refused");
        assert!(matches!(&refused, StoreError::AcknowledgedLost { acknowledged, .. } if acknowledged.as_u64() == 10), "{refused}");
    }
    assert_eq!((newest_log(dir.path()), fs::read(&log).expect("reads")), (log.clone(), cut));

    fs::write(&log, &whole).expect("restores");
    check_contents(&RocksStore::open(dir.path(), &options()).expect("opens again"), 10);
}

#[test]
fn a_flipped_bit_in_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = RocksStore::open(dir.path(), &options()).expect("opens");
    let mut batch = Batch::new();
    for number in 1..=10 {
        fill(&mut batch, number);
        store.commit(&batch).expect("commits");
    }
    drop(store);
    let log = newest_log(dir.path());
    let mut bytes = fs::read(&log).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("writes");
    assert!(matches!(RocksStore::open(dir.path(), &options()), Err(StoreError::AcknowledgedLost { .. })));

    let kept = accept_database_head(dir.path(), &options()).expect("the operator accepts the loss");
    assert!(kept.seq.as_u64() < 10);
    check_contents(&RocksStore::open(dir.path(), &options()).expect("opens"), kept.seq.as_u64());
}

#[test]
fn a_torn_tail_that_nobody_was_told_about_is_dropped() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = RocksStore::open(dir.path(), &options()).expect("opens");
    let mut batch = Batch::new();
    for number in 1..=4 {
        fill(&mut batch, number);
        store.commit(&batch).expect("commits");
    }
    let acknowledged = fs::read(dir.path().join("head")).expect("reads");
    fill(&mut batch, 5);
    store.commit(&batch).expect("commits");
    drop(store);
    // As after a crash in the middle of writing batch 5: half of it in the log, and the head still at 4.
    let log = newest_log(dir.path());
    let bytes = fs::metadata(&log).expect("is there").len();
    truncate(&log, bytes - 3000);
    fs::write(dir.path().join("head"), acknowledged).expect("writes");
    check_contents(&RocksStore::open(dir.path(), &options()).expect("opens"), 4);
}

#[test]
fn a_disk_that_refuses_a_write_loses_the_store_and_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Files may not grow past 192 KiB (the file of options has some 7 for each table), and growing one fails as on a full disk instead of killing the process.
    let limited = "trap '' XFSZ; ulimit -f 192; exec \"$0\" --exact writer --nocapture";
    // Logs that are made ready could not even be made.
    let mut through = Command::new("bash");
    through.args(["-c", limited]).arg(this_test_binary()).env(WRITER_LOG_BYTES, "0");
    let child = spawn_writer(dir.path(), &mut through);
    let output = child.wait_with_output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("failed batch") && text.contains("refuses"), "{text}");

    let acknowledged =
        text.lines().filter_map(|line| line.split_once("acknowledged ")?.1.parse::<u64>().ok()).next_back().expect("commits");
    let store = RocksStore::open(dir.path(), &options()).expect("opens");
    let recovered = store.head().seq.as_u64();
    assert!((acknowledged..=acknowledged + 1).contains(&recovered), "acknowledged {acknowledged}, recovered {recovered}");
    check_contents(&store, recovered);
}
