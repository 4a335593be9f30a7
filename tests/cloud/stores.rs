//! Files in stores beside the API: a folder, and an S3 server of somebody else. Large ones in parts; what is begun and not finished
//! leaves nothing behind.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tandem::cloud::{CloudOptions, FileColumn, FileOptions};
use tandem::target::cloud::{BucketKind, BucketOptions, FileStore, FolderFiles, ObjectFiles, Pace};

use crate::harness::{FaultyCloud, S3Server, Step, wait_for};
use crate::rig::{Cloud, Feeding, SOON, Site, api, delete, insert, update};

/// The least that S3 takes as a part.
pub const PART: usize = 5 << 20;

pub struct Uploading {
    pub cloud: Cloud,
    pub site: Site,
    root: tempfile::TempDir,
}

impl Uploading {
    pub async fn new() -> Self {
        Self { cloud: Cloud::start().await, site: Site::new(), root: tempfile::tempdir().unwrap() }
    }

    /// The column `name` of cameras names a picture.
    pub fn options(&self, part_bytes: usize) -> CloudOptions {
        let mut options = self.site.options();
        let files = FileOptions { size_max: 1 << 30, part_bytes: part_bytes as u64, ..FileOptions::new(self.root.path()) };
        options.files = Some(files);
        let column = FileColumn { kind: "images".into(), field: "photo_url".into(), path: None };
        options.tables[1].1.files.insert("name".into(), column);
        options
    }

    pub fn feed(&self, files: impl FileStore + 'static, part_bytes: usize) -> Feeding {
        self.site.feed_to(api(&self.cloud.url(), Pace::new(None)), Arc::new(files), self.options(part_bytes))
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    pub async fn url(&self, id: &str) -> Option<String> {
        self.cloud.rows("cameras").await.get(id)?["photo_url"].as_str().map(str::to_owned)
    }

    pub async fn wait_for_camera(&self, id: &str) {
        wait_for("the camera", SOON, async || self.cloud.rows("cameras").await.contains_key(id)).await;
    }
}

/// Bytes that no two parts have in common.
pub fn picture(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| seed ^ (at as u8) ^ ((at / 251) as u8) ^ ((at / PART) as u8)).collect()
}

fn key_of(content: &[u8]) -> String {
    format!("campus/images/{}", blake3::hash(content).to_hex())
}

fn bucket(endpoint: &str) -> ObjectFiles {
    let options = BucketOptions {
        kind: BucketKind::S3 { region: "us-east-1".into(), key_id: "tester".into(), key: "not a key".into() },
        bucket: S3Server::BUCKET.into(),
        prefix: "campus".into(),
        endpoint: Some(endpoint.into()),
        public: Some("https://files.example".into()),
        key_name: "the environment variable STORE_KEY".into(),
        authority: None,
        within: Duration::from_secs(20),
    };
    ObjectFiles::new(options, PART as u64, Arc::new(Pace::new(None))).unwrap()
}

fn folder(place: &Path) -> FolderFiles {
    FolderFiles::new(place, None, Arc::new(Pace::new(None)))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_takes_files_whole_and_in_parts_and_each_once() {
    let (mut test, place) = (Uploading::new().await, tempfile::tempdir().unwrap());
    let (small, large) = (picture(1, 900), picture(2, 2_500));
    fs::write(test.path("small.jpg"), &small).unwrap();
    fs::write(test.path("large.jpg"), &large).unwrap();
    fs::write(test.path("copy.jpg"), &large).unwrap();
    let cameras = ["small.jpg", "large.jpg", "copy.jpg"];
    test.site.write(cameras.iter().enumerate().map(|(id, name)| insert("cameras", id as i64, name))).await;
    let _feeding = test.feed(folder(place.path()), 1_000);
    test.wait_for_camera("2").await;
    for (id, content) in [("0", &small), ("1", &large), ("2", &large)] {
        let url = test.url(id).await.unwrap();
        assert_eq!(&fs::read(url.strip_prefix("file://").unwrap()).unwrap(), content);
    }
    assert_eq!((names(&place.path().join("images")).len(), names(&place.path().join(".parts"))), (2, vec![]));
    test.site.wait_until_sent().await;
    assert_eq!(test.site.observer.cloud_status("main").files["synced"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_gets_files_whole_and_in_parts_whatever_happens_on_the_way() {
    let (mut test, server) = (Uploading::new().await, S3Server::start().await);
    let small_one = [Step::Answer(503, "retry-after: 1", ""), Step::Pass, Step::LoseAnswer, Step::Pass];
    // Is it there, begin, three parts, finish. That the store has finished it is found out by asking whether it is there.
    let begin = [Step::Answer(500, "", ""), Step::Pass, Step::Pass];
    let parts = [Step::CutRequest, Step::Pass, Step::LoseAnswer, Step::Pass, Step::Pass];
    let script = small_one.into_iter().chain(begin).chain(parts).chain([Step::LoseAnswer]);
    let faulty = FaultyCloud::before(server.address, script).await;
    let (small, large) = (picture(1, 900), picture(2, 2 * PART + 77));
    fs::write(test.path("small.jpg"), &small).unwrap();
    fs::write(test.path("large.jpg"), &large).unwrap();
    test.site.write([insert("cameras", 1, "small.jpg"), insert("cameras", 2, "large.jpg")]).await;
    let _feeding = test.feed(bucket(&faulty.root()), PART);
    test.wait_for_camera("2").await;
    assert!(faulty.is_done());
    assert_eq!(test.url("1").await.unwrap(), format!("https://files.example/images/{}", blake3::hash(&small).to_hex()));
    assert!(server.object(&key_of(&small)).await.as_ref() == Some(&small), "the small one is another");
    assert!(server.object(&key_of(&large)).await == Some(large.clone()), "the parts are not the file");
    assert_eq!((server.keys().await.len(), server.unfinished().await), (2, vec![]));
    // Another node has the same file: it is asked about, and not sent.
    let mut other = Uploading::new().await;
    fs::write(other.path("again.jpg"), &large).unwrap();
    other.site.write([insert("cameras", 9, "again.jpg")]).await;
    let before = faulty.came().len();
    let _other = other.feed(bucket(&faulty.root()), PART);
    other.wait_for_camera("9").await;
    let asked: Vec<String> = faulty.came()[before..].iter().map(|came| came.what.clone()).collect();
    assert!(asked.len() == 1 && asked[0].starts_with("HEAD"), "{asked:?}");
}

/// A feeding that was killed between the first part and the second.
async fn killed_between_parts(test: &mut Uploading, server: &S3Server, content: &[u8]) {
    let holding = FaultyCloud::before(server.address, [Step::Pass, Step::Pass, Step::Pass, Step::Hold]).await;
    fs::write(test.path("film.jpg"), content).unwrap();
    test.site.write([insert("cameras", 1, "film.jpg")]).await;
    let feeding = test.feed(bucket(&holding.root()), PART);
    wait_for("the second part to come", SOON, async || holding.came().len() == 4).await;
    assert_eq!(test.site.observer.cloud_status("main").files["uploading"], 1);
    drop(feeding);
    assert_eq!(server.unfinished().await, [key_of(content)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_was_cut_goes_on_after_the_restart() {
    let (mut test, server) = (Uploading::new().await, S3Server::start().await);
    let content = picture(3, 3 * PART);
    killed_between_parts(&mut test, &server, &content).await;
    let watched = FaultyCloud::before(server.address, []).await;
    let _feeding = test.feed(bucket(&watched.root()), PART);
    test.wait_for_camera("1").await;
    assert!(server.object(&key_of(&content)).await == Some(content), "the parts are not the file");
    assert_eq!(server.unfinished().await, Vec::<String>::new());
    let parts = watched.came().iter().filter(|came| came.what.starts_with("PUT")).count();
    assert_eq!(parts, 2, "the first part is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_upload_that_was_cut_and_is_wanted_no_more_nothing_is_left() {
    let (mut test, server) = (Uploading::new().await, S3Server::start().await);
    let content = picture(4, 2 * PART);
    killed_between_parts(&mut test, &server, &content).await;
    fs::remove_file(test.path("film.jpg")).unwrap();
    let _feeding = test.feed(bucket(&server.url()), PART);
    test.wait_for_camera("1").await;
    test.site.wait_until_sent().await;
    assert_eq!((server.unfinished().await, server.keys().await), (vec![], vec![]));
    assert_eq!(test.site.observer.cloud_status("main").files["missing"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_full_is_said_to_be_and_gets_its_file_when_there_is_room() {
    let (mut test, server) = (Uploading::new().await, S3Server::start().await);
    let full = "<Error><Code>QuotaExceeded</Code><Message>for laptop-a</Message></Error>";
    let faulty = FaultyCloud::before(server.address, [Step::Pass, Step::Answer(403, "", full)]).await;
    let content = picture(9, 900);
    fs::write(test.path("small.jpg"), &content).unwrap();
    test.site.write([insert("cameras", 1, "small.jpg")]).await;
    let mut options = test.options(PART);
    options.pause = Duration::from_secs(1);
    let api = api(&test.cloud.url(), Pace::new(None));
    let _feeding = test.site.feed_to(api, Arc::new(bucket(&faulty.root())), options);
    let status = || test.site.observer.cloud_status("main");
    wait_for("the pause", SOON, async || status().state == tandem::observe::CloudState::Paused).await;
    let reason = status().reason.unwrap();
    assert!(reason.contains("has no room left") && reason.contains("QuotaExceeded"), "{reason}");
    test.wait_for_camera("1").await;
    assert_eq!(server.keys().await, [key_of(&content)]);
}

/// The checks of what is left have to be able to fail: here the node's disk is lost with what it remembered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_upload_that_nobody_remembers_the_parts_are_left_and_that_is_seen() {
    let (mut test, server) = (Uploading::new().await, S3Server::start().await);
    let content = picture(8, 2 * PART);
    killed_between_parts(&mut test, &server, &content).await;
    test.site.forget();
    let _feeding = test.feed(bucket(&server.url()), PART);
    test.wait_for_camera("1").await;
    test.site.wait_until_sent().await;
    assert!(server.object(&key_of(&content)).await == Some(content.clone()), "the parts are not the file");
    assert_eq!(server.unfinished().await, [key_of(&content)], "an upload was left, and the check does not see it");
}

/// What somebody does to a file while it is sent, and what of it has to be in the store then.
struct Meddling {
    what: &'static str,
    change: fn(&Path, &Path),
    /// Of what it was.
    expected: fn(&[u8]) -> Vec<u8>,
}

const MEDDLINGS: [Meddling; 4] = [
    Meddling {
        what: "rewritten",
        change: |path, _| fs::write(path, picture(7, 3 * PART)).unwrap(),
        expected: |_| picture(7, 3 * PART),
    },
    Meddling {
        what: "cut short",
        change: |path, _| fs::File::options().write(true).open(path).unwrap().set_len(2 * PART as u64 + 1).unwrap(),
        expected: |before| before[..2 * PART + 1].to_vec(),
    },
    // It was opened before, and is sent as it was.
    Meddling { what: "deleted", change: |path, _| fs::remove_file(path).unwrap(), expected: |before| before.to_vec() },
    Meddling {
        what: "replaced by a link",
        change: |path, secret| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(secret, path).unwrap();
        },
        expected: |before| before.to_vec(),
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_changed_while_it_is_sent_arrives_as_it_was_at_one_moment() {
    let (server, outside) = (S3Server::start().await, tempfile::NamedTempFile::new().unwrap());
    outside.as_file().write_all(b"a secret").unwrap();
    for (seed, Meddling { what, change, expected }) in MEDDLINGS.into_iter().enumerate() {
        let mut test = Uploading::new().await;
        // Is it there, begin, the first part: held, so that the change comes before the others are read.
        let holding = FaultyCloud::before(server.address, [Step::Pass, Step::Pass, Step::Hold]).await;
        let content = picture(10 + seed as u8, 3 * PART);
        fs::write(test.path("film.jpg"), &content).unwrap();
        test.site.write([insert("cameras", 1, "film.jpg")]).await;
        let _feeding = test.feed(bucket(&holding.root()), PART);
        wait_for("the first part to come", SOON, async || holding.came().len() == 3).await;
        change(&test.path("film.jpg"), outside.path());
        holding.release();
        test.wait_for_camera("1").await;
        let expected = expected(&content);
        let url = test.url("1").await.unwrap_or_else(|| panic!("{what}: it was not sent"));
        assert!(url.ends_with(&blake3::hash(&expected).to_hex().to_string()), "{what}: {url}");
        assert!(server.object(&key_of(&expected)).await == Some(expected), "{what}: another content");
        assert_eq!(server.unfinished().await, Vec::<String>::new(), "{what}");
    }
    assert_eq!(server.object(&key_of(b"a secret")).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_takes_parts_and_a_cut_upload_goes_on() {
    let mut test = Uploading::new().await;
    // Begin, the first part, and the second: held until the crash.
    let holding = FaultyCloud::before(test.cloud.address, [Step::Pass, Step::LoseAnswer, Step::Pass, Step::Hold]).await;
    let content = picture(5, 3_500);
    fs::write(test.path("film.jpg"), &content).unwrap();
    test.site.write([insert("cameras", 1, "film.jpg")]).await;
    let feeding = test.site.feed_with(&holding.url(), test.options(1_000));
    wait_for("the second part to come", SOON, async || holding.came().len() == 4).await;
    drop(feeding);
    let parts = test.cloud.files().join(".parts");
    assert_eq!(names(&parts).len(), 1);
    let script = [Step::Pass, Step::Pass, Step::CutRequest, Step::Pass, Step::LoseAnswer, Step::CutAnswer];
    let faulty = FaultyCloud::before(test.cloud.address, script).await;
    let _feeding = test.site.feed_with(&faulty.url(), test.options(1_000));
    test.wait_for_camera("1").await;
    let came = faulty.came();
    let sent: Vec<&str> = came.iter().filter_map(|came| came.what.strip_prefix("PUT ")?.rsplit('/').next()).collect();
    assert_eq!(sent, ["1", "2", "3", "3"], "the first part is not sent again");
    let hash = blake3::hash(&content).to_hex().to_string();
    assert_eq!(test.url("1").await.unwrap(), format!("/api/files/images/{hash}"));
    assert!(fs::read(test.cloud.files().join("images").join(&hash)).unwrap() == content, "the parts are not the file");
    assert_eq!(names(&parts), Vec::<String>::new());
    let url = format!("http://{}/api/files/images/{hash}", test.cloud.address);
    let back = reqwest::Client::new().get(url).bearer_auth(crate::rig::KEY).send().await.unwrap().bytes().await.unwrap();
    assert!(back == content, "what comes back is another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_cloud_that_knows_no_parts_a_large_file_goes_whole() {
    let mut test = Uploading::new().await;
    let faulty = FaultyCloud::before(test.cloud.address, [Step::Answer(404, "", "{}"), Step::CutRequest]).await;
    let content = picture(6, 200_000);
    fs::write(test.path("film.jpg"), &content).unwrap();
    test.site.write([insert("cameras", 1, "film.jpg")]).await;
    let _feeding = test.site.feed_with(&faulty.url(), test.options(70_000));
    test.wait_for_camera("1").await;
    let hash = blake3::hash(&content).to_hex().to_string();
    assert!(fs::read(test.cloud.files().join("images").join(&hash)).unwrap() == content, "it is another");
    let came: Vec<String> = faulty.came().into_iter().map(|came| came.what).collect();
    assert_eq!(came[..3], ["POST /api/upload/images/parts", "POST /api/upload/images", "POST /api/upload/images"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_followed_by_a_pause_in_which_the_next_one_is_seen_to_wait() {
    let (mut test, place) = (Uploading::new().await, tempfile::tempdir().unwrap());
    for (name, seed) in [("a.jpg", 1), ("b.jpg", 2), ("c.jpg", 3)] {
        fs::write(test.path(name), picture(seed, 2_000)).unwrap();
    }
    test.site.write([insert("cameras", 1, "a.jpg"), insert("cameras", 2, "b.jpg"), insert("cameras", 3, "c.jpg")]).await;
    let mut options = test.options(1_000);
    options.files.as_mut().unwrap().pause = Duration::from_secs(3_600);
    let api = api(&test.cloud.url(), Pace::new(None));
    let feeding = test.site.feed_to(api, Arc::new(folder(place.path())), options);
    let counts = || test.site.observer.cloud_status("main").files;
    wait_for("its state", SOON, async || counts().contains_key("synced")).await;
    let expected = [("queued".to_owned(), 2), ("synced".to_owned(), 1)];
    assert_eq!(counts(), expected.into(), "the others wait for their turn");
    assert_eq!(names(&place.path().join("images")).len(), 1);
    assert!(test.cloud.rows("cameras").await.is_empty(), "its row waits for the end of the pause");
    feeding.end().await.unwrap();
    // The third is named no more before its turn came: nothing waits for it for ever.
    test.site.write([update("cameras", 3, "c.jpg", "")]).await;
    let _feeding = test.feed(folder(place.path()), 1_000);
    test.wait_for_camera("3").await;
    test.site.wait_until_sent().await;
    assert_eq!(test.site.observer.cloud_status("main").files, [("synced".to_owned(), 2)].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_follows_its_row_goes_after_it_and_its_address_comes_then() {
    let (mut test, place) = (Uploading::new().await, tempfile::tempdir().unwrap());
    fs::write(test.path("film.jpg"), picture(1, 2_000)).unwrap();
    let mut options = test.options(1_000);
    options.tables[1].1.files_after = true;
    // The rows, and the address, which is held until the crash; then the rows once more, twice.
    let held = FaultyCloud::before(test.cloud.address, [Step::Pass, Step::Hold, Step::LoseAnswer]).await;
    let feed = |site: &Site| {
        let (api, files) = (api(&held.url(), Pace::new(None)), folder(place.path()));
        site.feed_to(api, Arc::new(files), options.clone())
    };
    test.site.write([insert("cameras", 1, "film.jpg"), insert("cameras", 2, "none.jpg"), insert("rooms", 1, "a")]).await;
    let feeding = feed(&test.site);
    wait_for("the address to come", SOON, async || held.came().len() == 2).await;
    let row = test.cloud.rows("cameras").await["1"].clone();
    assert!(row["photo_url"].is_null() && row["name"] == "film.jpg", "the row did not wait for its film: {row}");
    assert_eq!(names(&place.path().join("images")).len(), 1, "the film goes before its address is told");
    // Killed before the cloud had the address: the next run tells it.
    drop(feeding);
    let _feeding = feed(&test.site);
    let address = format!("file://{}/images/{}", place.path().display(), blake3::hash(&picture(1, 2_000)).to_hex());
    wait_for("the address", SOON, async || test.url("1").await.as_ref() == Some(&address)).await;
    test.site.wait_until_sent().await;
    let run = test.site.observer.cloud_status("main").last_run.unwrap();
    assert_eq!((run.summary.synced + run.summary.already, run.errors.len()), (3, 1), "an address is no row: {run:?}");
    assert!(test.url("2").await.is_none() && run.errors[0].error.contains("missing"), "{run:?}");
    // Every other write of the row is newer than its address, and has it from the start.
    test.site.write([update("cameras", 1, "film.jpg", "film.jpg")]).await;
    test.site.wait_until_sent().await;
    let last = held.came().into_iter().rev().find(|came| came.body.contains("\"op\":\"insert\"")).unwrap();
    assert!(last.body.contains(&address), "the address is known by now: {}", last.body);
    test.site.write([delete("cameras", 1, "film.jpg")]).await;
    wait_for("the delete", SOON, async || !test.cloud.rows("cameras").await.contains_key("1")).await;
}
