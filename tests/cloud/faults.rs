//! What a cloud may answer, and what follows: each failure of the list in docs/cloud.md.

use std::time::Duration;

use tandem::cloud::SyncOrder;
use tandem::observe::CloudState;
use tandem::serve::tls::TlsIdentity;

use crate::harness::{FaultyCloud, Step, wait_for};
use crate::rig::{Cloud, SOON, Site, api_over_tls, expected, insert, update};

/// Ten rows through a cloud with this script: all of them arrive once, as they are.
async fn survives(script: Vec<Step>) -> (FaultyCloud, Site) {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let faulty = FaultyCloud::before(cloud.address, script).await;
    let rows: Vec<(i64, String)> = (1..=10).map(|id| (id, format!("room {id}"))).collect();
    site.write(rows.iter().map(|(id, name)| insert("rooms", *id, name))).await;
    site.write([update("rooms", 3, "room 3", "the third")]).await;
    let feeding = site.feed(&faulty.url());
    let mut wanted: Vec<(i64, &str)> = rows.iter().map(|(id, name)| (*id, name.as_str())).collect();
    wanted[2].1 = "the third";
    wait_for("all rows to arrive", SOON, async || faulty.is_done() && cloud.rows("rooms").await == expected(&wanted)).await;
    site.wait_until_sent().await;
    let status = site.observer.cloud_status("main");
    assert_eq!(status.set_aside, 0, "{status:?}");
    feeding.end().await.unwrap();
    (faulty, site)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_on_the_way_every_row_has_one_effect() {
    survives(vec![Step::Answer(500, "", "{}"), Step::Answer(502, "", "<html>bad gateway</html>")]).await;
    survives(vec![Step::CutRequest, Step::LoseAnswer, Step::CutAnswer]).await;
    survives(vec![Step::Silence, Step::Answer(408, "", "")]).await;
    survives(vec![Step::Answer(200, "", "<html>log in to the hotel's network</html>")]).await;
    survives(vec![Step::Answer(200, "", r#"{"success":true,"results":[]}"#), Step::Answer(302, "location: /login", "")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_before_the_cloud_says() {
    // A time is one of the clock of who says it, which here is decades behind.
    let time = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:39 GMT";
    for (status, until) in [(429, "Retry-After: 2"), (503, "Retry-After: 2"), (429, time)] {
        let (faulty, _site) = survives(vec![Step::Answer(status, until, r#"{"error":"slow down"}"#)]).await;
        let came = faulty.came();
        let waited = came[1].at - came[0].at;
        assert!(waited >= Duration::from_secs(2), "{status} {until}: sent again after {waited:?}");
        assert_eq!(came[0].body, came[1].body, "the same batch, with the same key");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_too_large_is_split() {
    let (faulty, _site) = survives(vec![Step::Answer(413, "", "{}"), Step::Answer(413, "", "{}")]).await;
    let sizes: Vec<usize> = faulty.came().iter().map(|came| came.body.matches("\"op\"").count()).collect();
    assert_eq!(sizes, [10, 5, 2, 3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_in_conflict_is_settled_row_by_row() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let faulty = FaultyCloud::before(cloud.address, [Step::Always("older", 409, r#"{"error":"newer here"}"#)]).await;
    site.write([insert("rooms", 1, "a"), insert("rooms", 2, "older"), insert("rooms", 3, "c")]).await;
    let _feeding = site.feed(&faulty.url());
    wait_for("the others", SOON, async || cloud.rows("rooms").await == expected(&[(1, "a"), (3, "c")])).await;
    site.wait_until_sent().await;
    let run = site.observer.cloud_status("main").last_run.unwrap();
    assert!(run.success && run.summary.already == 1, "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_cloud_refuses_is_set_aside_after_three_attempts_and_the_others_go_on() {
    for (status, body) in
        [(422, r#"{"error":"bad name"}"#), (400, r#"{"message":"bad name"}"#), (200, r#"{"success":false,"error":"bad name"}"#)]
    {
        let (cloud, mut site) = (Cloud::start().await, Site::new());
        let faulty = FaultyCloud::before(cloud.address, [Step::Always("poison", status, body)]).await;
        site.write([insert("rooms", 1, "a"), insert("rooms", 2, "poison"), insert("rooms", 3, "c")]).await;
        let feeding = site.feed(&faulty.url());
        wait_for("the others", SOON, async || cloud.rows("rooms").await == expected(&[(1, "a"), (3, "c")])).await;
        site.wait_until_sent().await;
        let status = site.observer.cloud_status("main");
        let run = status.last_run.unwrap();
        assert_eq!((status.set_aside, run.success, run.summary.failed), (1, false, 1), "{run:?}");
        assert!(run.errors[0].error.contains("bad name"), "{run:?}");
        let alone = faulty
            .came()
            .iter()
            .filter(|came| came.body.contains("poison") && came.body.matches("\"op\"").count() == 1)
            .count();
        assert_eq!(alone, 3);
        // A later version of the row goes its way, and what was set aside of it is settled.
        site.write([update("rooms", 2, "poison", "remedy")]).await;
        wait_for("the mended row", SOON, async || cloud.rows("rooms").await.len() == 3).await;
        wait_for("nothing to be set aside", SOON, async || site.observer.cloud_status("main").set_aside == 0).await;
        feeding.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_is_tried_again_when_somebody_orders_it() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let no = Step::Answer(422, "", "{}");
    let faulty = FaultyCloud::before(cloud.address, [no.clone(), no.clone(), no]).await;
    site.write([insert("rooms", 1, "a")]).await;
    let _feeding = site.feed(&faulty.url());
    wait_for("the row to be set aside", SOON, async || site.observer.cloud_status("main").set_aside == 1).await;
    let report = site.control.order(&SyncOrder::default()).ok().unwrap().report().await;
    assert!(report.success && report.summary.synced == 1, "{report:?}");
    assert_eq!(site.observer.cloud_status("main").set_aside, 0);
    assert_eq!(cloud.rows("rooms").await, expected(&[(1, "a")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_and_a_full_cloud_pause_and_say_what_to_do() {
    for (status, body, said) in [
        (401, r#"{"error":"who are you"}"#, "does not accept the key of the environment variable CLOUD_KEY"),
        (403, "{}", "does not accept the key of the environment variable CLOUD_KEY"),
        (507, "{}", "has no room left"),
        (403, r#"{"error":"quota exceeded"}"#, "quota exceeded"),
    ] {
        let (cloud, mut site) = (Cloud::start().await, Site::new());
        let faulty = FaultyCloud::before(cloud.address, [Step::Answer(status, "", body)]).await;
        site.write([insert("rooms", 1, "a")]).await;
        let mut options = site.options();
        options.pause = Duration::from_secs(1);
        let feeding = site.feed_with(&faulty.url(), options);
        wait_for("the pause", SOON, async || site.observer.cloud_status("main").state == CloudState::Paused).await;
        let reason = site.observer.cloud_status("main").reason.unwrap();
        assert!(reason.contains(said) && !reason.contains(crate::rig::KEY), "{reason}");
        assert_eq!(site.observer.status().level, tandem::observe::Level::Stopped);
        // It goes on by itself once the cloud does.
        wait_for("the row", SOON, async || cloud.rows("rooms").await.len() == 1).await;
        let came = faulty.came();
        assert!(came[1].at - came[0].at >= Duration::from_secs(1), "nothing was sent during the pause");
        feeding.end().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_that_knows_no_batches_is_named() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let faulty = FaultyCloud::before(cloud.address, [Step::Answer(404, "", "{}")]).await;
    site.write([insert("rooms", 1, "a")]).await;
    let stop = site.feed(&faulty.url()).stopped().await.to_string();
    assert!(stop.contains("has no /batch"), "{stop}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_sends_again_what_was_not_remembered_and_changes_nothing() {
    let (cloud, mut site) = (Cloud::start().await, Site::new());
    let faulty = FaultyCloud::before(cloud.address, [Step::LoseAnswer, Step::Silence]).await;
    site.write((1..=50).map(|id| insert("rooms", id, "a"))).await;
    let feeding = site.feed(&faulty.url());
    wait_for("the second attempt", SOON, async || faulty.is_done()).await;
    // The cloud has the rows, the node was never told, and dies.
    drop(feeding);
    assert_eq!(cloud.rows("rooms").await.len(), 50);
    wait_for("the ledger to be free", SOON, async || tandem::state::LedgerFile::open(site.folder.path(), "main").is_ok()).await;
    site.write([update("rooms", 1, "a", "b")]).await;
    let _feeding = site.feed(&faulty.url());
    wait_for("the update", SOON, async || cloud.rows("rooms").await["1"]["name"] == "b").await;
    site.wait_until_sent().await;
    let run = site.observer.cloud_status("main").last_run.unwrap();
    assert_eq!((run.summary.synced, run.summary.already), (1, 49), "{run:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_asks_to_wait_and_is_obeyed() {
    let cloud = Cloud::with(|options| options.requests_per_second = 2).await;
    let mut site = Site::new();
    site.write((1..=6).map(|id| insert("rooms", id, "a"))).await;
    let mut options = site.options();
    options.batch_rows = 1;
    let _feeding = site.feed_with(&cloud.url(), options);
    wait_for("all rows", SOON, async || cloud.rows("rooms").await.len() == 6).await;
    let busy = site.observer.metrics_text();
    let line = busy.lines().find(|line| line.starts_with("tandem_cloud_batches_total") && line.contains("busy")).unwrap();
    assert!(!line.ends_with(" 0"), "{line}");
}

/// A receiver whose own certificate is for this name.
async fn encrypted(name: &str) -> (Cloud, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let identity = TlsIdentity::OwnNamed { folder: folder.path().join("tls"), names: vec![name.into()] };
    (Cloud::with(|options| options.tls = Some(identity)).await, folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_with_its_own_certificate_is_known_by_it_and_by_its_name() {
    let feed = |site: &Site, cloud: &Cloud, authority: &std::path::Path| {
        let url = format!("https://localhost:{}/api", cloud.address.port());
        let api = api_over_tls(&url, authority);
        site.feed_to(api.clone(), api, site.options())
    };
    let (cloud, folder) = encrypted("localhost").await;
    let (elsewhere, other_folder) = encrypted("cloud.example").await;
    let own = folder.path().join("tls/certificate.pem");
    let mut site = Site::new();
    site.write([insert("rooms", 1, "a")]).await;
    // Of another, and of the right one under another name: nothing is sent.
    let other = other_folder.path().join("tls/certificate.pem");
    for (cloud, authority) in [(&cloud, &other), (&elsewhere, &other)] {
        let feeding = feed(&site, cloud, authority);
        wait_for("the refusal", SOON, async || site.observer.cloud_status("main").state == CloudState::Offline).await;
        let reason = site.observer.cloud_status("main").reason.unwrap();
        assert!(reason.contains("certificate"), "{reason}");
        assert!(cloud.rows("rooms").await.is_empty());
        feeding.end().await.unwrap();
    }
    let _feeding = feed(&site, &cloud, &own);
    wait_for("the row", SOON, async || cloud.rows("rooms").await == expected(&[(1, "a")])).await;
}
