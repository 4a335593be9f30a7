//! Files that rows name: once by what they hold, whole or not at all, and never one from outside their root.

use std::fs;
use std::path::Path;

use tandem::cloud::{CloudOptions, FileColumn, FileOptions, FilesWanted, PathTemplate, SyncOrder};

use crate::harness::{FaultyCloud, Step, wait_for};
use crate::rig::{Cloud, KEY, SOON, Site, insert, update};

/// The column `name` of cameras names a picture.
fn options(site: &Site, root: &Path) -> CloudOptions {
    let mut options = site.options();
    options.files = Some(FileOptions { size_max: 1_000, skip: vec!["*.mp4".into()], ..FileOptions::new(root) });
    let column = FileColumn { kind: "images".into(), field: "photo_url".into(), path: None };
    options.tables[1].1.files.insert("name".into(), column);
    options
}

async fn fetch(cloud: &Cloud, url: &str) -> Vec<u8> {
    let answer = reqwest::Client::new().get(format!("http://{}{url}", cloud.address)).bearer_auth(KEY).send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_made_of_columns_names_the_file_of_each_row() {
    let (cloud, mut site, root) = (Cloud::start().await, Site::new(), tempfile::tempdir().unwrap());
    fs::create_dir(root.path().join("doors")).unwrap();
    fs::write(root.path().join("doors/1-front.jpg"), "a picture").unwrap();
    let mut options = options(&site, root.path());
    let path = Some(PathTemplate::parse("doors/{id}-{name}.jpg").unwrap());
    let column = FileColumn { kind: "images".into(), field: "door_url".into(), path };
    options.tables[1].1.files = [("door".to_owned(), column)].into();
    site.write([insert("cameras", 1, "front"), insert("cameras", 2, "../../back")]).await;
    let _feeding = site.feed_with(&cloud.url(), options);
    wait_for("both cameras", SOON, async || cloud.rows("cameras").await.len() == 2).await;
    let rows = cloud.rows("cameras").await;
    let address = rows["1"]["door_url"].as_str().expect("its address is in the row");
    assert_eq!(fetch(&cloud, address).await, b"a picture");
    assert!(rows["2"]["door_url"].is_null(), "what a row says leads nowhere else: {rows:?}");
}

fn uploads(faulty: &FaultyCloud) -> usize {
    faulty.came().iter().filter(|came| came.what.contains("/upload/")).count()
}

async fn url(cloud: &Cloud, id: &str) -> Option<String> {
    cloud.rows("cameras").await.get(id)?["photo_url"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_sent_once_by_what_it_holds_and_its_address_is_in_the_row() {
    let (cloud, mut site, root) = (Cloud::start().await, Site::new(), tempfile::tempdir().unwrap());
    let watched = FaultyCloud::before(cloud.address, []).await;
    fs::create_dir(root.path().join("in")).unwrap();
    fs::write(root.path().join("in/door.jpg"), "a picture").unwrap();
    fs::write(root.path().join("copy.jpg"), "a picture").unwrap();
    site.write([insert("cameras", 1, "in/door.jpg"), insert("cameras", 2, "copy.jpg"), insert("rooms", 1, "in/door.jpg")])
        .await;
    let feeding = site.feed_with(&watched.url(), options(&site, root.path()));
    wait_for("both cameras", SOON, async || cloud.rows("cameras").await.len() == 2).await;
    let address = url(&cloud, "1").await.expect("its address is in the row");
    assert_eq!((fetch(&cloud, &address).await.as_slice(), uploads(&watched)), (&b"a picture"[..], 1));
    assert_eq!(url(&cloud, "2").await, Some(address.clone()), "the same content is not sent again");
    assert!(cloud.rows("rooms").await["1"].get("photo_url").is_none(), "a table that names no files has none");
    // The row changes, its file does not; then the file does.
    site.write([update("cameras", 2, "copy.jpg", "in/door.jpg")]).await;
    wait_for("the update", SOON, async || cloud.rows("cameras").await["2"]["name"] == "in/door.jpg").await;
    assert_eq!(uploads(&watched), 1);
    fs::write(root.path().join("copy.jpg"), "another one").unwrap();
    site.write([update("cameras", 1, "in/door.jpg", "copy.jpg")]).await;
    wait_for("the other picture", SOON, async || cloud.rows("cameras").await["1"]["name"] == "copy.jpg").await;
    let other = url(&cloud, "1").await.unwrap();
    assert_eq!(fetch(&cloud, &other).await, b"another one");
    site.wait_until_sent().await;
    assert_eq!(site.observer.cloud_status("main").files["synced"], 2);
    feeding.end().await.unwrap();
    // The next process knows what was sent.
    let _feeding = site.feed_with(&watched.url(), options(&site, root.path()));
    let sent = uploads(&watched);
    let forced = site.control.order(&SyncOrder { force: true, ..SyncOrder::default() }).unwrap().report().await;
    assert!(forced.success, "{forced:?}");
    assert_eq!(uploads(&watched), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_sent_is_noted_and_its_row_goes_without() {
    let (cloud, mut site, place) = (Cloud::start().await, Site::new(), tempfile::tempdir().unwrap());
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(place.path().join("secret"), "s").unwrap();
    fs::write(root.join("film.mp4"), "film").unwrap();
    fs::write(root.join("large.jpg"), "x".repeat(1_001)).unwrap();
    std::os::unix::fs::symlink(place.path().join("secret"), root.join("link.jpg")).unwrap();
    let names = ["../secret", "/etc/hostname", "link.jpg", "large.jpg", "none.jpg", "film.mp4"];
    site.write(names.iter().enumerate().map(|(id, name)| insert("cameras", id as i64, name))).await;
    let _feeding = site.feed_with(&cloud.url(), options(&site, &root));
    wait_for("all rows", SOON, async || cloud.rows("cameras").await.len() == names.len()).await;
    assert!(cloud.rows("cameras").await.values().all(|row| row["photo_url"].is_null()));
    site.wait_until_sent().await;
    let status = site.observer.cloud_status("main");
    let counts = |state: &str| status.files.get(state).copied().unwrap_or_default();
    assert_eq!((counts("failed"), counts("missing"), counts("skipped"), counts("synced")), (4, 1, 1, 0), "{status:?}");
    let listed = |state: Option<&str>| {
        let wanted = FilesWanted { state: state.map(str::to_owned), after: None, at_most: 100 };
        site.control.files(&wanted).expect("the applier runs").expect("its ledger can be read")
    };
    assert_eq!(
        listed(None).iter().map(|file| file.state.as_str()).collect::<Vec<_>>(),
        ["failed", "failed", "failed", "failed", "missing", "skipped"]
    );
    let links: Vec<_> = listed(Some("failed")).into_iter().filter(|file| file.path == "link.jpg").collect();
    assert!(links.len() == 1 && links[0].reason.as_deref().unwrap().contains("outside the root"), "{links:?}");
    let run = status.last_run.unwrap();
    // A film that is left out on purpose is no failure.
    assert_eq!((run.success, run.summary.failed, run.errors.len()), (false, 5, 5), "{run:?}");
    let said: Vec<&str> = run.errors.iter().map(|problem| problem.error.as_str()).collect();
    assert_eq!(said.iter().filter(|error| error.contains("outside the root")).count(), 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_is_done_again_and_one_that_is_refused_is_noted() {
    let (cloud, mut site, root) = (Cloud::start().await, Site::new(), tempfile::tempdir().unwrap());
    let script = [
        Step::Answer(500, "", "{}"),
        Step::CutRequest,
        Step::LoseAnswer,
        Step::CutAnswer,
        Step::Always("virus", 422, r#"{"error":"a virus"}"#),
    ];
    let faulty = FaultyCloud::before(cloud.address, script).await;
    fs::write(root.path().join("a.jpg"), "picture").unwrap();
    fs::write(root.path().join("b.jpg"), "virus").unwrap();
    site.write([insert("cameras", 1, "a.jpg")]).await;
    let _feeding = site.feed_with(&faulty.url(), options(&site, root.path()));
    wait_for("the camera", SOON, async || cloud.rows("cameras").await.len() == 1).await;
    assert_eq!(fetch(&cloud, &url(&cloud, "1").await.unwrap()).await, b"picture");
    site.write([insert("cameras", 2, "b.jpg")]).await;
    wait_for("the second camera", SOON, async || cloud.rows("cameras").await.len() == 2).await;
    site.wait_until_sent().await;
    let run = site.observer.cloud_status("main").last_run.unwrap();
    assert!(!run.success && run.errors[0].error.contains("a virus"), "{run:?}");
    assert_eq!(url(&cloud, "2").await, None);
}
