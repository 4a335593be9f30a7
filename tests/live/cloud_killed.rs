//! A node that is killed, as by a power cut, in the middle of a large file: its next run finishes the file, and nothing of the first
//! attempt is left behind. The built program, against an S3 server of somebody else, the receiver, and a folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{CloudServer, FaultyCloud, HubKeeper, S3Server, Step, wait_for};
use crate::rig::{Process, Rig};

const SOON: Duration = Duration::from_secs(120);

/// The program sends files in parts of so many bytes; this one has three.
const PART_BYTES: usize = 8 << 20;
const FILM_BYTES: usize = 2 * PART_BYTES + 12_345;

/// A node, a cloud for its rows, and a film that a row names.
struct Scene {
    rig: Rig<HubKeeper>,
    cloud: CloudServer,
    root: TempDir,
    film: Vec<u8>,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        // What else in this process speaks TLS would take the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tandem = Path::new(env!("CARGO_BIN_EXE_tandem"));
        let cloud = CloudServer::start(tandem, folder.path(), false).await;
        let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), crate::rig::ORIGIN).await).await;
        let film: Vec<u8> = (0..FILM_BYTES).map(|at| (at ^ (at / 251) ^ (at / PART_BYTES)) as u8).collect();
        fs::write(root.path().join("film.mp4"), &film).unwrap();
        for (name, text) in [("cloud.key", cloud.key.as_str()), ("store.id", "tester"), ("store.key", "not a key")] {
            rig.write(name, text);
        }
        Self { rig, cloud, root, film, folder }
    }

    fn hash(&self) -> String {
        blake3::hash(&self.film).to_hex().to_string()
    }

    /// The cloud at this address; `store` is where files go, if not there.
    fn configure(&self, url: &str, store: &str, more: &str) {
        let root = self.root.path().display();
        self.rig.configure(&format!(
            "\n[cloud.main]\ncontinuous = true\nbatch_age = \"100ms\"\napi = {{ url = \"{url}\", key_file = \"cloud.key\" }}\n{more}\n\
             [cloud.main.tables]\n\"campus.riders\" = {{ files = {{ name = {{ kind = \"films\", field = \"film_url\" }} }} }}\n\
             [cloud.main.files]\nroot = \"{root}\"\nsize_max = \"1GiB\"\n{store}\n"
        ));
    }

    /// The node, with the row of the film written.
    async fn begin(&self) -> Process {
        let node = self.rig.start("laptop-a", &["tailer", "cloud"]);
        node.wait_for_role("cloud main", "running").await;
        wait_for("the tailer to read", SOON, async || node.connected().await).await;
        self.rig.server.query("INSERT INTO campus.riders VALUES (1, 'film.mp4')").await;
        node
    }

    /// The address in the film's row, when the row is in the cloud.
    async fn url(&self) -> String {
        wait_for("the row of the film", SOON, async || self.cloud.get("riders/1").await.is_some()).await;
        let row = self.cloud.get("riders/1").await.unwrap_or_default();
        row["film_url"].as_str().unwrap_or_else(|| panic!("the row came without its film: {row}")).to_owned()
    }
}

fn s3_store(endpoint: &str) -> String {
    let bucket = S3Server::BUCKET;
    format!(
        "store = {{ url = \"s3://{bucket}/campus\", key_id_file = \"store.id\", key_file = \"store.key\", endpoint = \"{endpoint}\" }}"
    )
}

fn parts(came: &FaultyCloud) -> Vec<String> {
    came.came().into_iter().filter_map(|came| came.what.strip_prefix("PUT ").map(str::to_owned)).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_s3_the_next_run_finishes_the_upload_and_no_part_is_left() {
    let (scene, store) = (Scene::new().await, S3Server::start().await);
    // Is it there, begin, the first part; the second is held until the node is gone.
    let holding = FaultyCloud::before(store.address, [Step::Pass, Step::Pass, Step::Pass, Step::Hold]).await;
    scene.configure(&scene.cloud.url(), &s3_store(&holding.root()), "");
    let mut node = scene.begin().await;
    wait_for("the second part to come", SOON, async || parts(&holding).len() == 2).await;
    node.node.kill9();
    let key = format!("campus/films/{}", scene.hash());
    assert_eq!((store.unfinished().await, store.keys().await), (vec![key.clone()], vec![]), "it was in the middle");
    let watched = FaultyCloud::before(store.address, []).await;
    scene.configure(&scene.cloud.url(), &s3_store(&watched.root()), "");
    node.node.restart();
    assert_eq!(scene.url().await, format!("s3://{}/{key}", S3Server::BUCKET));
    assert!(store.object(&key).await == Some(scene.film.clone()), "the object is not the film");
    assert_eq!((store.unfinished().await, store.keys().await), (vec![], vec![key]));
    assert_eq!(parts(&watched).len(), 2, "what the store has is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_the_receiver_the_next_run_finishes_the_upload_and_no_part_is_left() {
    let scene = Scene::new().await;
    let receiver = ([127, 0, 0, 1], scene.cloud.port).into();
    // Begin, the first part; the second is held until the node is gone.
    let holding = FaultyCloud::before(receiver, [Step::Pass, Step::Pass, Step::Hold]).await;
    scene.configure(&holding.url(), "", "");
    let mut node = scene.begin().await;
    wait_for("the second part to come", SOON, async || parts(&holding).len() == 2).await;
    node.node.kill9();
    let kept = scene.folder.path().join("cloud/files");
    assert_eq!((names(&kept.join(".parts")).len(), names(&kept.join("films")).len()), (1, 0), "it was in the middle");
    let watched = FaultyCloud::before(receiver, []).await;
    scene.configure(&watched.url(), "", "");
    node.node.restart();
    let hash = scene.hash();
    assert_eq!(scene.url().await, format!("/api/files/films/{hash}"));
    assert!(fs::read(kept.join("films").join(&hash)).unwrap() == scene.film, "the file is not the film");
    assert_eq!((names(&kept.join(".parts")), names(&kept.join("films"))), (vec![], vec![hash]));
    assert_eq!(parts(&watched).len(), 2, "what the receiver has is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_folder_the_next_run_finishes_the_upload_and_no_part_is_left() {
    let (scene, place) = (Scene::new().await, tempfile::tempdir().unwrap());
    let store = format!("store = {{ url = \"{}\" }}", place.path().display());
    // So slow that the second part waits for minutes.
    scene.configure(&scene.cloud.url(), &store, "bytes_per_second = \"64KiB\"");
    let mut node = scene.begin().await;
    let gathering = place.path().join(".parts");
    let arrived = || names(&gathering).iter().any(|name| fs::metadata(gathering.join(name)).is_ok_and(|file| file.len() > 0));
    wait_for("the first part to be there", SOON, async || arrived()).await;
    node.node.kill9();
    assert_eq!((names(&gathering).len(), names(&place.path().join("films")).len()), (1, 0), "it was in the middle");
    scene.configure(&scene.cloud.url(), &store, "");
    node.node.restart();
    let hash = scene.hash();
    assert_eq!(scene.url().await, format!("file://{}/films/{hash}", place.path().display()));
    assert!(fs::read(place.path().join("films").join(&hash)).unwrap() == scene.film, "the file is not the film");
    assert_eq!((names(&gathering), names(&place.path().join("films"))), (vec![], vec![hash]));
}
