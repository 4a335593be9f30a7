//! Mirror mode: inserts, updates and deletes arrive; nothing is sent twice.

use std::collections::BTreeSet;

use tandem::cloud::SyncOrder;

use crate::harness::{FaultyCloud, wait_for};
use crate::rig::{Cloud, SOON, Site, delete, expected, insert, update};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_updates_and_deletes_arrive_and_nothing_is_sent_again() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let watched = FaultyCloud::before(cloud.address, []).await;
    site.write([insert("rooms", 1, "aula"), insert("rooms", 2, "lab"), insert("secrets", 1, "no")]).await;
    let feeding = site.feed(&watched.url());
    wait_for("two rooms", SOON, async || cloud.rows("rooms").await == expected(&[(1, "aula"), (2, "lab")])).await;
    site.write([update("rooms", 1, "aula", "hall"), delete("rooms", 2, "lab"), insert("cameras", 7, "door")]).await;
    wait_for("the change", SOON, async || cloud.rows("rooms").await == expected(&[(1, "hall")])).await;
    wait_for("the camera", SOON, async || cloud.rows("cameras").await == expected(&[(7, "door")])).await;
    assert!(cloud.rows("secrets").await.is_empty(), "a table that is not named is not sent");
    site.wait_until_sent().await;
    feeding.end().await.unwrap();
    // A second process has nothing to send.
    let sent = watched.came().len();
    let feeding = site.feed(&watched.url());
    let ordered = site.control.order(&SyncOrder::default()).ok().unwrap();
    let report = ordered.report().await;
    assert!(report.success && report.summary.synced == 0 && report.synced.is_empty(), "{report:?}");
    assert_eq!(watched.came().len(), sent);
    // Unless it is told to send everything again, which changes nothing.
    let forced = site.control.order(&SyncOrder { force: true, ..SyncOrder::default() }).ok().unwrap().report().await;
    assert_eq!((forced.summary.synced, forced.summary.already), (0, 3), "{forced:?}");
    feeding.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writes_of_a_row_one_is_sent() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let watched = FaultyCloud::before(cloud.address, []).await;
    site.write([insert("rooms", 1, "v0")]).await;
    for version in 0..300 {
        site.write([update("rooms", 1, &format!("v{version}"), &format!("v{}", version + 1))]).await;
    }
    let _feeding = site.feed(&watched.url());
    wait_for("the newest", SOON, async || cloud.rows("rooms").await == expected(&[(1, "v300")])).await;
    site.wait_until_sent().await;
    assert_eq!(watched.came().len(), 1, "{:?}", watched.came());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_says_what_would_go_and_a_choice_of_tables_goes_alone() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    site.write([insert("rooms", 1, "aula"), insert("cameras", 7, "door")]).await;
    let mut options = site.options();
    // Not before somebody orders it.
    options.schedule = tandem::cloud::Schedule::cron("0 0 1 1 *").unwrap();
    let _feeding = site.feed_with(&cloud.url(), options);
    let order = |order: SyncOrder| {
        let control = site.control.clone();
        async move { control.order(&order).ok().unwrap().report().await }
    };
    let dry = order(SyncOrder { dry_run: true, ..SyncOrder::default() }).await;
    assert!(dry.success && dry.dry_run && dry.summary.synced == 2, "{dry:?}");
    assert!(cloud.rows("rooms").await.is_empty());
    let some = order(SyncOrder { tables: BTreeSet::from(["cameras".into()]), ..SyncOrder::default() }).await;
    assert_eq!(some.synced.keys().collect::<Vec<_>>(), ["cameras"]);
    assert!(cloud.rows("rooms").await.is_empty());
    let all = order(SyncOrder::default()).await;
    assert_eq!((all.summary.synced, all.summary.already), (1, 1), "the camera is there already: {all:?}");
    assert_eq!(all.synced["rooms"], ["1"]);
    assert_eq!(cloud.rows("rooms").await, expected(&[(1, "aula")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_arrive_before_children_and_go_after_them() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let watched = FaultyCloud::before(cloud.address, []).await;
    site.write([insert("cameras", 7, "door"), insert("rooms", 1, "aula"), delete("rooms", 3, "x"), delete("cameras", 9, "y")])
        .await;
    let mut options = site.options();
    options.batch_rows = 1;
    let _feeding = site.feed_with(&watched.url(), options);
    wait_for("all four", SOON, async || watched.came().len() == 4).await;
    let order: Vec<String> = watched
        .came()
        .iter()
        .map(|came| {
            let batch: serde_json::Value = serde_json::from_str(&came.body).unwrap();
            let row = &batch["rows"][0];
            format!("{} {}", row["op"].as_str().unwrap(), row["resource"].as_str().unwrap())
        })
        .collect();
    assert_eq!(order, ["insert rooms", "insert cameras", "delete cameras", "delete rooms"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_passed_once_and_cost_no_requests() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let watched = FaultyCloud::before(cloud.address, []).await;
    site.write([insert("rooms", 1, "aula")]).await;
    let feeding = site.feed(&watched.url());
    wait_for("the room", SOON, async || cloud.rows("rooms").await.len() == 1).await;
    for _ in 0..3 {
        let before = site.observer.cloud_status("main").last_success_seconds;
        site.heartbeat().await;
        wait_for("the heartbeat to be passed", SOON, async || site.observer.cloud_status("main").pending == Some(0)).await;
        assert!(site.observer.cloud_status("main").last_success_seconds >= before);
    }
    feeding.end().await.unwrap();
    assert_eq!(watched.came().len(), 1);
}
