//! What the contract does not say: retention, damage, and the folder's one owner.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::runtime::ManualClock;
use crate::topic::contract::record;
use crate::topic::hub::block::seal;
use crate::topic::hub::{Hub, HubReader, HubWriter};
use crate::topic::{TopicReader, TopicWriter};

const DAY: u64 = 24 * 3600;

fn open(folder: &TempDir) -> HubStore {
    HubStore::open(&StoreOptions::new(folder.path())).unwrap()
}

/// Appends a block of `count` records.
async fn append(store: &HubStore, origin: &str, count: u64) -> Offset {
    let origin = OriginId::new(origin);
    let end = store.held(&origin).await.unwrap().end;
    let records: Vec<_> = (end.0..end.0 + count).map(|number| record(&origin, number)).collect();
    HubWriter::new(Arc::new(store.clone()), origin).append(end, &records).await.unwrap()
}

/// Appends one record of about that size, which no compression makes smaller.
async fn append_bytes(store: &HubStore, origin: &str, bytes: u64) {
    let origin = OriginId::new(origin);
    let end = store.held(&origin).await.unwrap().end;
    let mut random = fastrand::Rng::with_seed(end.0);
    let mut record = record(&origin, end.0);
    record.coordinates.file = (0..bytes).map(|_| random.alphanumeric()).collect::<String>().into();
    HubWriter::new(Arc::new(store.clone()), origin).append(end, &[record]).await.unwrap();
}

/// Waits for the writing thread to come there.
async fn until(store: &HubStore, reached: impl Fn(&HubStore) -> bool) {
    let waiting = async {
        loop {
            let mut changed = std::pin::pin!(store.0.shared.changed.notified());
            changed.as_mut().enable();
            if reached(store) {
                return;
            }
            changed.await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the store comes there");
}

fn first(store: &HubStore, origin: &str) -> u64 {
    store.0.shared.topic(&OriginId::new(origin)).first.0
}

#[tokio::test]
async fn what_is_older_than_promised_is_forgotten_but_for_each_topics_last_block() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at_micros(0));
    let set_day = |day: u64| clock.set_micros(day * DAY * 1_000_000);
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::new(folder.path()) };
    let store = HubStore::open(&options).unwrap();
    for day in [100, 110, 120] {
        set_day(day);
        append(&store, "a", 10).await;
    }
    set_day(101);
    for _ in 0..2 {
        append(&store, "quiet", 10).await;
    }
    assert_eq!((first(&store, "a"), first(&store, "quiet")), (0, 0));
    set_day(141);
    until(&store, |store| (first(store, "a"), first(store, "quiet")) == (20, 10)).await;
    set_day(1000);
    append(&store, "a", 10).await;
    until(&store, |store| first(store, "a") == 30).await;
    let quiet = store.held(&OriginId::new("quiet")).await.unwrap();
    assert_eq!((quiet.first, quiet.end), (Offset(10), Offset(20)), "its writer could not resume without it");
    drop(store);
    let store = HubStore::open(&options).unwrap();
    assert_eq!(store.held(&OriginId::new("quiet")).await.unwrap(), quiet);
}

#[tokio::test]
async fn past_its_limit_in_bytes_the_oldest_goes_and_the_file_stops_growing() {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at_micros(DAY * 1_000_000));
    let limit = 256 << 10;
    let options = StoreOptions { max_bytes: Some(limit), clock: clock.clone(), ..StoreOptions::new(folder.path()) };
    let store = HubStore::open(&options).unwrap();
    let file = folder.path().join("topics.db");
    for round in 1..=5 {
        let before = first(&store, "a") + first(&store, "b");
        // Together they are more than the limit in each round.
        for second in 0..10 {
            clock.set_micros((DAY + 10 * round + second) * 1_000_000);
            for origin in ["a", "b"] {
                append_bytes(&store, origin, 20_000).await;
            }
        }
        until(&store, |store| first(store, "a") + first(store, "b") > before).await;
    }
    let (a, b) = (first(&store, "a"), first(&store, "b"));
    assert!(a.abs_diff(b) <= 1, "both origins lose their oldest alike: {a} and {b}");
    drop(store);
    let size = fs::metadata(file).unwrap().len();
    // All of it would be twice that.
    assert!(size < 4 * limit, "{size} bytes");
}

#[tokio::test]
async fn appends_are_answered_while_much_is_forgotten() {
    const BLOCKS: u64 = 2_000;
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::at_micros(DAY * 1_000_000));
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::new(folder.path()) };
    let store = HubStore::open(&options).unwrap();
    let origin = OriginId::new("old");
    let block = |number| seal(Offset(number), &[record(&origin, number)], 1 << 20).unwrap_or_else(|_| panic!("it is small"));
    let blocks = (0..BLOCKS).flat_map(block).collect();
    store.append(&origin, None, blocks).await.unwrap();
    // All of it is too old at once, and forgetting it takes many steps.
    clock.set_micros(100 * DAY * 1_000_000);
    let mut amidst = 0;
    while first(&store, "old") < BLOCKS - 1 {
        append(&store, "new", 1).await;
        let forgotten = first(&store, "old");
        amidst += u64::from(forgotten > 0 && forgotten < BLOCKS - 1);
    }
    assert!(amidst > 0, "no append was answered between the first record that was forgotten and the last");
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let error = HubStore::open(&StoreOptions::new(folder.path())).err().unwrap();
    assert!(error.to_string().contains("another process keeps the topics"), "{error}");
    drop(store);
    open(&folder);
}

#[tokio::test]
async fn generations_go_on_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let origin = OriginId::new("a");
    let before = open(&folder).resume(&origin).await.unwrap().generation;
    let store = open(&folder);
    let blocks = crate::topic::hub::block::seal(Offset(0), &[record(&origin, 0)], 1 << 20).unwrap();
    assert_eq!(store.append(&origin, Some(before), blocks.clone()).await.unwrap(), Offset(1), "nobody took over");
    assert!(store.resume(&origin).await.unwrap().generation > before);
    assert!(matches!(store.append(&origin, Some(before), blocks).await, Err(TopicError::Fenced { .. })));
}

#[tokio::test]
async fn blocks_with_a_gap_between_them_are_refused_whole() {
    let folder = TempDir::new().unwrap();
    let (store, origin) = (open(&folder), OriginId::new("a"));
    let seal = |at| crate::topic::hub::block::seal(Offset(at), &[record(&origin, at)], 1 << 20).unwrap();
    let blocks = [seal(0), seal(2)].concat();
    assert!(matches!(store.append(&origin, None, blocks).await, Err(TopicError::Store { .. })));
    assert_eq!(store.held(&origin).await.unwrap(), Held::default());
}

#[tokio::test]
async fn after_a_failed_commit_the_store_goes_on_from_what_the_file_holds() {
    let folder = TempDir::new().unwrap();
    let (store, origin) = (open(&folder), OriginId::new("a"));
    append(&store, "a", 3).await;
    let other = rusqlite::Connection::open(folder.path().join("topics.db")).unwrap();
    other.execute_batch("ALTER TABLE blocks RENAME TO elsewhere").unwrap();
    let mut writer = HubWriter::new(Arc::new(store.clone()), origin.clone());
    let more = [record(&origin, 3)];
    for _ in 0..2 {
        assert!(matches!(writer.append(Offset(3), &more).await, Err(TopicError::Store { .. })));
    }
    other.execute_batch("ALTER TABLE elsewhere RENAME TO blocks").unwrap();
    assert_eq!(writer.append(Offset(3), &more).await.unwrap(), Offset(4));
}

#[tokio::test]
async fn a_damaged_block_is_named_and_never_given_out() {
    let folder = TempDir::new().unwrap();
    let (store, origin) = (open(&folder), OriginId::new("a"));
    for _ in 0..3 {
        append(&store, "a", 1).await;
    }
    drop(store);
    let other = rusqlite::Connection::open(folder.path().join("topics.db")).unwrap();
    let sealed: Vec<u8> = other.query_row("SELECT sealed FROM blocks WHERE place = 1", [], |row| row.get(0)).unwrap();
    let mut broken = sealed.clone();
    broken[60] ^= 1;
    other.execute("UPDATE blocks SET sealed = ? WHERE place = 1", [&broken]).unwrap();
    let store = open(&folder);
    let reader = HubReader::new(Arc::new(store.clone()));
    for from in [0, 1] {
        match reader.read(&origin, Offset(from), 1 << 20, Duration::ZERO).await {
            Err(TopicError::Damaged { reason }) => assert!(reason.contains("offset 1"), "{reason}"),
            other => panic!("a damaged block was read as {other:?}"),
        }
    }
    assert_eq!(reader.read(&origin, Offset(2), 1 << 20, Duration::ZERO).await.unwrap().len(), 1);
    drop((store, reader));
    other.execute("DELETE FROM blocks WHERE place = 1", []).unwrap();
    let reader = HubReader::new(Arc::new(open(&folder)));
    for from in [0, 1] {
        let outcome = reader.read(&origin, Offset(from), 1 << 20, Duration::ZERO).await;
        assert!(matches!(outcome, Err(TopicError::Damaged { .. })), "a missing block from {from}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_damaged_or_foreign_file_is_not_opened() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    for _ in 0..300 {
        append(&store, "a", 1).await;
    }
    drop(store);
    let path = folder.path().join("topics.db");
    let good = fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = HubStore::open(&StoreOptions::new(folder.path())).err();
        assert!(matches!(error, Some(TopicError::Damaged { .. })), "{error:?}");
    };
    damaged(b"no database at all, but long enough to look at");
    damaged(&good[..good.len() / 2]);
    let mut torn = good.clone();
    torn[8192 * 3..8192 * 4].fill(0x55);
    damaged(&torn);
    fs::write(&path, &good).unwrap();
    open(&folder);
    fs::remove_file(&path).unwrap();
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE somebody (elses INTEGER)").unwrap();
    drop(foreign);
    let error = HubStore::open(&StoreOptions::new(folder.path())).err().unwrap();
    assert!(error.to_string().contains("not made by this version"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_origins_append_at_once_and_nothing_is_mixed() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let origins: Vec<String> = (0..20).map(|number| format!("node-{number}")).collect();
    let appending = origins.iter().map(|origin| {
        let (store, origin) = (store.clone(), origin.clone());
        tokio::spawn(async move {
            for _ in 0..20 {
                append(&store, &origin, 3).await;
            }
        })
    });
    futures_util::future::try_join_all(appending).await.unwrap();
    let reader = HubReader::new(Arc::new(store));
    for origin in origins.iter().map(|origin| OriginId::new(origin)) {
        let found = reader.read(&origin, Offset(0), 1 << 20, Duration::ZERO).await.unwrap();
        let expected: Vec<_> = (0..60).map(|number| (Offset(number), record(&origin, number))).collect();
        assert_eq!(found, expected);
    }
}
