//! The RocksDB store as its users see it.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use millstream_store::{
    Backend, Batch, CommitSeq, Durability, Head, KeyRange, Read, RocksStore, SchemaVersion, StoreError, StoreOptions, Table,
    accept_database_head,
};

fn options() -> StoreOptions {
    StoreOptions::new(SchemaVersion(1))
}

fn open(dir: &Path) -> RocksStore {
    RocksStore::open(dir, &options()).expect("opens")
}

fn refusal(dir: &Path, options: &StoreOptions) -> StoreError {
    RocksStore::open(dir, options).err().expect("is refused")
}

fn put(store: &mut RocksStore, table: Table, key: &[u8], value: &[u8]) -> CommitSeq {
    let mut batch = Batch::new();
    batch.put(table, key, value);
    store.commit(&batch).expect("commits")
}

#[test]
fn every_table_round_trips_across_a_restart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path());
    assert_eq!(store.head(), Head::EMPTY);
    let mut batch = Batch::with_capacity_bytes(1 << 20);
    for table in Table::ALL {
        batch.put(table, table.name().as_bytes(), &vec![table.number(); 5000]);
    }
    let seq = store.commit(&batch).expect("commits");
    assert_eq!((seq.as_u64(), store.durability()), (1, Durability::Durable(seq)));
    let head = store.head();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.head(), head);
    for table in Table::ALL {
        let value = store.get(table, table.name().as_bytes()).expect("reads").expect("is there");
        assert_eq!(value, vec![table.number(); 5000]);
        assert_eq!(store.get(table, b"absent").expect("reads"), None);
    }
}

#[test]
fn later_records_of_a_batch_win_and_scans_are_in_byte_order() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path());
    let mut batch = Batch::new();
    for (key, value) in [(b"b", b"old"), (b"a", b"1st"), (b"b", b"new"), (b"d", b"4th"), (b"c", b"3rd")] {
        batch.put(Table::Epochs, key, value);
    }
    batch.delete(Table::Epochs, b"d");
    batch.delete(Table::Epochs, b"never there");
    store.commit(&batch).expect("commits");

    let expected: Vec<(Vec<u8>, Vec<u8>)> = vec![(b"a".into(), b"1st".into()), (b"b".into(), b"new".into()), (b"c".into(), b"3rd".into())];
    let reader = store.reader();
    assert_eq!(reader.collect(Table::Epochs, &KeyRange::all()).expect("scans"), expected);
    assert_eq!(reader.collect(Table::Epochs, &KeyRange::between(b"b", b"c")).expect("scans"), expected[1..2]);
    assert_eq!(reader.collect(Table::Epochs, &KeyRange::starting_at(b"b")).expect("scans"), expected[1..]);
    assert_eq!(reader.collect(Table::Epochs, &KeyRange::with_prefix(b"c")).expect("scans"), expected[2..]);
    assert_eq!(reader.collect(Table::Epochs, &KeyRange::between(b"c", b"a")).expect("scans"), []);
    let mut seen = 0;
    let stopped = reader.scan(Table::Epochs, &KeyRange::all(), &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert!(stopped.is_ok() && seen == 1);
}

#[test]
fn numbers_and_the_chain_move_by_one_batch_at_a_time() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path());
    let mut parents = vec![store.head()];
    for number in 1..=5u8 {
        assert_eq!(put(&mut store, Table::Channels, &[number], b"state").as_u64(), u64::from(number));
        let head = store.head();
        assert_eq!(Some(head.parent), parents.last().map(|parent| parent.chain));
        parents.push(head);
    }
    assert_eq!(store.commit(&Batch::new()).expect("nothing to write").as_u64(), 5);
    assert_eq!(Some(&store.head()), parents.last());
}

#[test]
fn a_refused_batch_changes_nothing_and_does_not_poison() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path());
    let mut batch = Batch::new();
    batch.put(Table::Channels, b"good", b"1");
    batch.put(Table::Meta, b"store/schema", b"forged");
    assert!(matches!(store.commit(&batch), Err(StoreError::ReservedKey)));
    assert_eq!((store.head(), store.get(Table::Channels, b"good").expect("reads")), (Head::EMPTY, None));
    assert_eq!(put(&mut store, Table::Channels, b"good", b"1").as_u64(), 1);
}

#[test]
fn flushed_frames_are_read_back_from_blob_files() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small = StoreOptions { frames_buffer_bytes: 128 << 10, log_bytes_max: 1 << 20, ..options() };
    let mut store = RocksStore::open(dir.path(), &small).expect("opens");
    let frame = |number: u32| vec![u8::try_from(number % 251).expect("fits"); 6000];
    for number in 0..200u32 {
        put(&mut store, Table::Frames, &number.to_be_bytes(), &frame(number));
    }
    drop(store);
    let store = RocksStore::open(dir.path(), &small).expect("opens");
    let blobs = fs::read_dir(dir.path().join("db")).expect("lists").filter_map(Result::ok);
    assert!(blobs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "blob")).count() > 0);
    for number in 0..200u32 {
        assert_eq!(store.get(Table::Frames, &number.to_be_bytes()).expect("reads"), Some(frame(number)));
    }
}

#[test]
fn a_deleted_range_is_gone_with_its_files_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let small = StoreOptions { frames_buffer_bytes: 128 << 10, log_bytes_max: 1 << 20, ..options() };
    let mut store = RocksStore::open(dir.path(), &small).expect("opens");
    let key = |epoch: u64, index: u32| [&epoch.to_be_bytes()[..], &index.to_be_bytes()].concat();
    let value = |epoch: u64, index: u32, bytes: usize| vec![u8::try_from(epoch * 31 + u64::from(index) % 31).expect("fits"); bytes];
    // Large and small values, in epochs that do not end where files do.
    let sizes = [(Table::Frames, 6_000), (Table::Leaves, 900)];
    let mut batch = Batch::new();
    for epoch in 0..5 {
        for index in 0..130 {
            batch.clear();
            for (table, bytes) in sizes {
                batch.put(table, &key(epoch, index), &value(epoch, index, bytes));
            }
            store.commit(&batch).expect("commits");
        }
    }
    let used = || -> u64 {
        let files = fs::read_dir(dir.path().join("db")).expect("lists").filter_map(Result::ok);
        let data = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "blob" || extension == "sst"));
        data.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    store.compact().expect("compacts");
    let full = used();
    let check = |store: &RocksStore, kept: std::ops::Range<u64>| {
        for (table, bytes) in sizes {
            let records = store.collect(table, &KeyRange::all()).expect("scans");
            let expected = kept.clone().flat_map(|epoch| (0..130).map(move |index| (key(epoch, index), value(epoch, index, bytes))));
            assert!(records.iter().cloned().eq(expected), "{table:?} {kept:?}: {} records", records.len());
        }
    };
    for through in 0..3u64 {
        let range = KeyRange::between(&[0; 8], &(through + 1).to_be_bytes());
        batch.clear();
        for (table, _) in sizes {
            batch.delete_range(table, &range);
        }
        store.commit(&batch).expect("commits");
        check(&store, through + 1..5);
        for (table, _) in sizes {
            store.reader().reclaim(table, &range).expect("reclaims");
        }
        check(&store, through + 1..5);
    }
    drop(store);
    let mut store = RocksStore::open(dir.path(), &small).expect("opens");
    check(&store, 3..5);
    store.compact().expect("compacts");
    check(&store, 3..5);
    assert!(used() < full * 3 / 5, "{} of {full} bytes are left", used());
    // A key at the end of a range stays, whatever was reclaimed.
    put(&mut store, Table::Index, &[7], b"at the end");
    put(&mut store, Table::Index, &[6, 255], b"before it");
    batch.clear();
    batch.delete_range(Table::Index, &KeyRange::between(&[0], &[7]));
    store.commit(&batch).expect("commits");
    store.compact().expect("compacts");
    store.reclaim(Table::Index, &KeyRange::between(&[0], &[7])).expect("reclaims");
    assert_eq!(store.collect(Table::Index, &KeyRange::all()).expect("scans"), [(vec![7], b"at the end".to_vec())]);
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = open(dir.path());
    let reader = store.reader();
    let refused = refusal(dir.path(), &options());
    assert!(matches!(&refused, StoreError::Locked { holder: Some(pid), .. } if *pid == std::process::id()), "{refused}");
    drop(store);
    assert!(matches!(refusal(dir.path(), &options()), StoreError::Locked { .. }), "a reader keeps the store open");
    drop(reader);
    open(dir.path());
}

#[test]
fn other_schema_versions_are_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(RocksStore::open(dir.path(), &StoreOptions::new(SchemaVersion(4))).expect("opens"));
    let open_as = |version| refusal(dir.path(), &StoreOptions::new(SchemaVersion(version)));
    assert!(matches!(open_as(5), StoreError::SchemaTooOld { found: 4, expected: 5, .. }));
    assert!(matches!(open_as(3), StoreError::SchemaTooNew { found: 4, expected: 3, .. }));
    RocksStore::open(dir.path(), &StoreOptions::new(SchemaVersion(4))).expect("opens still");
}

#[test]
fn tables_of_a_newer_build_are_refused_and_missing_ones_are_added() {
    let dir = tempfile::tempdir().expect("temporary directory");
    drop(open(dir.path()));
    let db = dir.path().join("db");
    let names: Vec<_> = std::iter::once("default").chain(Table::ALL.map(Table::name)).collect();
    let mut raw = rocksdb::DB::open_cf(&rocksdb::Options::default(), &db, &names).expect("opens");
    raw.drop_cf(Table::Chain.name()).expect("drops");
    drop(raw);
    assert_eq!(put(&mut open(dir.path()), Table::Chain, b"k", b"v").as_u64(), 1);

    let mut raw = rocksdb::DB::open_cf(&rocksdb::Options::default(), &db, &names).expect("opens");
    raw.create_cf("tariffs", &rocksdb::Options::default()).expect("creates");
    drop(raw);
    assert!(matches!(refusal(dir.path(), &options()), StoreError::UnknownTable { name } if name == "tariffs"));
}

#[test]
fn a_checkpoint_opens_as_a_store_of_its_own() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (live, backup) = (dir.path().join("live"), dir.path().join("backup"));
    let mut store = open(&live);
    put(&mut store, Table::Channels, b"before", b"1");
    put(&mut store, Table::Frames, b"frame", &[7; 9000]);
    let at_backup = store.head();
    assert_eq!(store.rocks_reader().checkpoint(&backup).expect("backs up"), at_backup);
    put(&mut store, Table::Channels, b"after", b"2");
    assert!(matches!(store.rocks_reader().checkpoint(&backup), Err(StoreError::Target { .. })));

    let mut restored = open(&backup);
    assert_eq!(restored.head(), at_backup);
    assert_eq!(restored.get(Table::Frames, b"frame").expect("reads"), Some(vec![7; 9000]));
    assert_eq!(restored.get(Table::Channels, b"after").expect("reads"), None);
    assert_eq!(put(&mut restored, Table::Channels, b"own way", b"3").as_u64(), 3);
    assert_eq!(store.get(Table::Channels, b"own way").expect("reads"), None);
}

#[test]
fn checkpoints_hold_what_was_acknowledged_while_commits_go_on() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(&dir.path().join("live"));
    let reader = store.rocks_reader();
    put(&mut store, Table::Channels, b"first", b"1");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..300u32 {
                put(&mut store, Table::Channels, &number.to_be_bytes(), b"state");
            }
        });
        for round in 0..3 {
            let (Durability::Durable(acknowledged) | Durability::InFlight(acknowledged)) = reader.durability() else { panic!("lost") };
            let target = dir.path().join(format!("backup-{round}"));
            let head = reader.checkpoint(&target).expect("backs up");
            assert!(head.seq.as_u64() + 1 >= acknowledged.as_u64());
            assert_eq!(open(&target).head(), head);
        }
        writer.join().expect("writes");
    });
}

#[test]
fn a_database_without_its_acknowledged_head_is_refused_until_accepted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = open(dir.path());
    put(&mut store, Table::Channels, b"k", b"v");
    let head = store.head();
    drop(store);
    let file = dir.path().join("head");
    fs::write(&file, [0; 8192]).expect("damages");
    assert!(matches!(refusal(dir.path(), &options()), StoreError::HeadUnreadable { .. }));
    fs::remove_file(&file).expect("removes");
    assert!(matches!(refusal(dir.path(), &options()), StoreError::HeadUnreadable { .. }));

    assert_eq!(accept_database_head(dir.path(), &options()).expect("accepts"), head);
    assert_eq!(open(dir.path()).head(), head);
}

#[test]
fn a_missing_or_foreign_database_is_refused() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    put(&mut open(&one), Table::Channels, b"k", b"1");
    put(&mut open(&two), Table::Channels, b"k", b"2");
    fs::copy(one.join("head"), two.join("head")).expect("copies");
    assert!(matches!(refusal(&two, &options()), StoreError::Diverged { .. }));
    fs::remove_dir_all(one.join("db")).expect("removes");
    assert!(matches!(refusal(&one, &options()), StoreError::AcknowledgedLost { .. }));
    assert!(!one.join("db").exists(), "a refused store is left as it was");
}
