//! Rows that are sent are kept as objects: each write once, whatever is killed, lost or sent again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tandem::change::cloud::CloudRow;
use tandem::cloud::SyncOrder;
use tandem::target::cloud::{FolderFiles, Pace};

use crate::harness::{FaultyCloud, Step, wait_for};
use crate::rig::{Cloud, SOON, Site, expected, insert, update};

/// All objects in the order of their names, each with its rows.
fn objects(folder: &Path) -> Vec<(String, Vec<CloudRow>)> {
    let place = folder.join("rows/laptop-a/laptop-a");
    let mut names: Vec<String> =
        fs::read_dir(&place).into_iter().flatten().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let rows = |name: &String| {
        let text = zstd::stream::decode_all(fs::File::open(place.join(name)).unwrap()).unwrap();
        serde_json::Deserializer::from_slice(&text).into_iter().map(Result::unwrap).collect()
    };
    names.iter().map(|name| (name.clone(), rows(name))).collect()
}

fn keys(objects: &[(String, Vec<CloudRow>)]) -> Vec<String> {
    objects.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.key.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_archived_once_although_runs_are_killed_and_more_comes_meanwhile() {
    let (cloud, mut site, place) = (Cloud::start().await, Site::new(), tempfile::tempdir().unwrap());
    site.archive = Some(Arc::new(FolderFiles::new(place.path(), None, Arc::new(Pace::new(None)))));
    // The first batch is archived, and never reaches the cloud before the crash.
    let holding = FaultyCloud::before(cloud.address, [Step::Hold]).await;
    site.write((1..=4).map(|id| insert("rooms", id, "a"))).await;
    let feeding = site.feed(&holding.url());
    wait_for("the batch", SOON, async || !holding.came().is_empty()).await;
    drop(feeding);
    let before = objects(place.path());
    assert_eq!((before.len(), before[0].1.len(), cloud.rows("rooms").await.len()), (1, 4, 0));
    // More comes before it runs again: what was interrupted goes exactly as far as it went.
    site.write([update("rooms", 1, "a", "b"), insert("rooms", 5, "a")]).await;
    let faulty = FaultyCloud::before(cloud.address, [Step::LoseAnswer, Step::Answer(503, "retry-after: 1", "{}")]).await;
    let feeding = site.feed(&faulty.url());
    site.wait_until_sent().await;
    assert_eq!(cloud.rows("rooms").await, expected(&[(1, "b"), (2, "a"), (3, "a"), (4, "a"), (5, "a")]));
    let after = objects(place.path());
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    let mut all = keys(&after);
    assert_eq!(all.len(), 6, "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "a write is in two objects: {all:?}");
    // Everything again sends what the topic holds, and archives nothing twice.
    let forced = site.control.order(&SyncOrder { force: true, ..SyncOrder::default() }).unwrap().report().await;
    assert!(forced.success, "{forced:?}");
    assert_eq!(keys(&objects(place.path())).len(), 6);
    feeding.end().await.unwrap();
}
