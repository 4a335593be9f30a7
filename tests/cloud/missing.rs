//! Missing mode: which rows the cloud has is asked, and only the others are sent; to our receiver, and to a service that somebody
//! else could have written, in another language.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use serde_json::Value as Json;
use tandem::change::TablePattern;
use tandem::cloud::{CloudOptions, Mapping, Mode, Schedule, SyncOrder};
use tandem::observe::CloudReport;

use crate::harness::{FaultyCloud, S3Server, Step};
use crate::rig::{Cloud, KEY, Site, expected};

fn options(site: &Site) -> CloudOptions {
    let mut options = site.options();
    options.mode = Mode::Missing;
    // Not before somebody orders it.
    options.schedule = Schedule::cron("0 0 1 1 *").unwrap();
    options
}

async fn run(site: &Site) -> CloudReport {
    run_as(site, SyncOrder::default()).await
}

async fn run_as(site: &Site, order: SyncOrder) -> CloudReport {
    site.control.order(&order).unwrap().report().await.as_ref().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_cloud_lacks_is_sent() {
    let (cloud, site) = (Cloud::start().await, Site::new());
    let watched = FaultyCloud::before(cloud.address, []).await;
    site.rows.put("rooms", (1..=8).map(|id| (id, "room")));
    site.rows.put("cameras", [(7, "door")]);
    site.rows.put("secrets", [(1, "no")]);
    let _feeding = site.feed_with(&watched.url(), options(&site));
    let dry = run_as(&site, SyncOrder { dry_run: true, ..SyncOrder::default() }).await;
    assert_eq!((dry.summary.synced, cloud.rows("rooms").await.len()), (9, 0), "{dry:?}");
    let first = run(&site).await;
    assert!(first.success && first.summary.synced == 9 && first.synced["cameras"] == ["7"], "{first:?}");
    assert_eq!(cloud.rows("rooms").await, expected(&[1, 2, 3, 4, 5, 6, 7, 8].map(|id| (id, "room"))));
    let posts = |came: Vec<crate::harness::Came>| came.iter().filter(|came| came.what.starts_with("POST")).count();
    assert_eq!(posts(watched.came()), 9);
    let read = site.rows.whole.load(Ordering::Relaxed);
    let second = run(&site).await;
    assert!(second.success && second.summary.synced == 0 && second.summary.already == 9, "{second:?}");
    assert_eq!(site.rows.whole.load(Ordering::Relaxed), read, "a row that the cloud has is not read whole");
    site.rows.put("rooms", [(9, "new")]);
    assert_eq!(run(&site).await.synced["rooms"], ["9"]);
    assert_eq!(posts(watched.came()), 10, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_on_the_way_are_survived_and_bad_rows_do_not_hold_the_others() {
    let (cloud, site) = (Cloud::start().await, Site::new());
    let script = [Step::Answer(500, "", "{}"), Step::Pass, Step::LoseAnswer, Step::Always("poison", 422, r#"{"error":"bad"}"#)];
    let faulty = FaultyCloud::before(cloud.address, script).await;
    site.rows.put("rooms", [(1, "a"), (2, "b"), (3, "poison"), (4, "d")]);
    let _feeding = site.feed_with(&faulty.url(), options(&site));
    let report = run(&site).await;
    assert!(!report.success && report.summary.failed == 1 && report.errors[0].id.as_deref() == Some("3"), "{report:?}");
    assert_eq!(cloud.rows("rooms").await, expected(&[(1, "a"), (2, "b"), (4, "d")]));
    // Mended, it goes with the next run.
    site.rows.put("rooms", [(3, "remedy")]);
    let report = run(&site).await;
    assert_eq!(cloud.rows("rooms").await["3"]["name"], "remedy", "{report:?}");
}

/// The service in Python, with a framework that the S3 server of these tests brings. Ends with its standard input.
struct Foreign {
    child: Child,
    port: u16,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Foreign {
    fn start(more: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cloud/missing_server.py");
        let mut command = Command::new(S3Server::python());
        command.arg(script).arg(KEY).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("Python is needed for this test: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("it prints its port") }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }

    async fn dump(&self) -> Json {
        reqwest::get(format!("http://127.0.0.1:{}/dump", self.port)).await.unwrap().json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_others_wrote_is_fed() {
    for more in [&[][..], &["2"]] {
        let (foreign, site) = (Foreign::start(more), Site::new());
        site.rows.put("rooms", [(1, "a"), (2, "b"), (3, "c"), (4, ""), (5, "e")]);
        site.rows.put("cameras", [(7, "door")]);
        site.rows.put("halls", [(1, "x")]);
        let mut options = options(&site);
        // One that it does not know stands first, and holds nobody up.
        options.tables.insert(0, (TablePattern::parse("campus.halls").unwrap(), Mapping::default()));
        let _feeding = site.feed_with(&foreign.url(), options);
        let first = run(&site).await;
        assert_eq!((first.summary.synced, first.summary.failed), (5, 2), "{first:?}");
        assert!(first.errors[0].error.contains("has no /halls; mend the table's `resource`"), "{first:?}");
        assert!(first.errors[1].error.contains("The name field is required."), "{first:?}");
        let dump = foreign.dump().await;
        assert_eq!(dump["rows"]["rooms"].as_object().unwrap().len(), 4, "{dump}");
        assert_eq!(dump["rows"]["cameras"]["7"]["name"], "door");
        let posts = dump["posts"].as_u64().unwrap();
        site.rows.put("rooms", [(4, "d")]);
        let second = run(&site).await;
        assert_eq!((second.summary.synced, second.summary.already), (1, 5), "{second:?}");
        let dump = foreign.dump().await;
        assert_eq!(dump["posts"].as_u64().unwrap() - posts, 1, "only the mended row: {dump}");
    }
}
