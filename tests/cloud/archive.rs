//! Rows that are sent are kept as objects: each write once, whatever is killed, lost or sent again.

use std::collections::BTreeSet;
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

/// Writes that are in more than one place.
fn twice(objects: &[(String, Vec<CloudRow>)]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    keys(objects).into_iter().filter(|key| !seen.insert(key.clone())).collect()
}

/// A site whose first four rows are archived, and whose process was killed before the cloud had them; then more was written.
async fn killed_after_the_archive(cloud: &Cloud, place: &Path) -> Site {
    let mut site = Site::new();
    site.archive = Some(Arc::new(FolderFiles::new(place, None, Arc::new(Pace::new(None)))));
    let holding = FaultyCloud::before(cloud.address, [Step::Hold]).await;
    site.write((1..=4).map(|id| insert("rooms", id, "a"))).await;
    let feeding = site.feed(&holding.url());
    wait_for("the batch", SOON, async || !holding.came().is_empty()).await;
    drop(feeding);
    let before = objects(place);
    assert_eq!((before.len(), before[0].1.len(), cloud.rows("rooms").await.len()), (1, 4, 0));
    site.write([update("rooms", 1, "a", "b"), insert("rooms", 5, "a")]).await;
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_archived_once_although_runs_are_killed_and_more_comes_meanwhile() {
    let (cloud, place) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let site = killed_after_the_archive(&cloud, place.path()).await;
    let before = objects(place.path());
    // What was interrupted goes exactly as far as it went, although there is more now.
    let faulty = FaultyCloud::before(cloud.address, [Step::LoseAnswer, Step::Answer(503, "retry-after: 1", "{}")]).await;
    let feeding = site.feed(&faulty.url());
    site.wait_until_sent().await;
    assert_eq!(cloud.rows("rooms").await, expected(&[(1, "b"), (2, "a"), (3, "a"), (4, "a"), (5, "a")]));
    let after = objects(place.path());
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    assert_eq!((keys(&after).len(), twice(&after)), (6, BTreeSet::new()));
    // Everything again sends what the topic holds, and archives nothing twice.
    let forced = site.control.order(&SyncOrder { force: true, ..SyncOrder::default() }).unwrap().report().await;
    assert!(forced.success, "{forced:?}");
    assert_eq!(keys(&objects(place.path())).len(), 6);
    feeding.end().await.unwrap();
}

/// The check of what is archived twice has to be able to fail: here the node's disk is lost with what it remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_window_that_nobody_remembers_rows_are_archived_twice_and_that_is_seen() {
    let (cloud, place) = (Cloud::start().await, tempfile::tempdir().unwrap());
    let mut site = killed_after_the_archive(&cloud, place.path()).await;
    site.forget();
    let _feeding = site.feed(&cloud.url());
    site.wait_until_sent().await;
    assert_eq!(cloud.rows("rooms").await.len(), 5, "the cloud has each once all the same");
    assert_eq!(twice(&objects(place.path())).len(), 3, "rows are archived twice, and the check does not see it");
}
