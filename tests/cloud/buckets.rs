//! The object stores that are not S3: Azure Blob Storage, as azurite speaks it, and the XML protocol of Google Cloud Storage. That is the one
//! of S3 but for its key, its versions and its conditions; moto takes it, and stands in for a server of Google's that could be installed:
//! those there are do not take what is written by this protocol.

use std::fs;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::json;
use tandem::target::cloud::{BucketKind, BucketOptions, ObjectFiles, Pace};

use crate::harness::{AzureServer, FaultyCloud, S3Server, Step, wait_for};
use crate::rig::{SOON, insert};
use crate::stores::{PART, Uploading, picture};

/// Of the same store, at this address.
#[derive(Clone, Copy)]
enum Kind {
    Azure,
    Google,
}

impl Kind {
    fn files(self, root: &str) -> ObjectFiles {
        let (kind, endpoint) = match self {
            Self::Azure => {
                let kind = BucketKind::Azure { account: AzureServer::ACCOUNT.into(), key: AzureServer::KEY.into() };
                (kind, AzureServer::endpoint(root))
            }
            Self::Google => (BucketKind::Gcs { key: service_account().into() }, root.to_owned()),
        };
        let options = BucketOptions {
            kind,
            bucket: "pictures".into(),
            prefix: "campus".into(),
            endpoint: Some(endpoint),
            public: None,
            key_name: "the environment variable STORE_KEY".into(),
            authority: None,
            within: Duration::from_secs(20),
        };
        ObjectFiles::new(options, PART as u64, Arc::new(Pace::new(None))).unwrap()
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Azure => "az",
            Self::Google => "gs",
        }
    }
}

/// The JSON of a service account that nobody has. Requests are signed with its key, and no service is asked for tokens.
fn service_account() -> String {
    static KEY: OnceLock<String> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let made = Command::new("openssl").args(["genpkey", "-quiet", "-algorithm", "RSA"]).output();
        let made = made.unwrap_or_else(|error| panic!("openssl is needed for this test: {error}"));
        String::from_utf8(made.stdout).expect("PEM is text")
    });
    json!({ "private_key": key, "private_key_id": "1", "client_email": "laptop-a@campus.example" }).to_string()
}

/// What tests look at from outside.
enum Store {
    Azure(AzureServer),
    Google(S3Server),
}

impl Store {
    fn kind(&self) -> Kind {
        match self {
            Self::Azure(_) => Kind::Azure,
            Self::Google(_) => Kind::Google,
        }
    }

    fn address(&self) -> std::net::SocketAddr {
        match self {
            Self::Azure(server) => server.address,
            Self::Google(server) => server.address,
        }
    }

    async fn object(&self, key: &str) -> Option<Vec<u8>> {
        match self {
            Self::Azure(server) => server.object(key).await,
            Self::Google(server) => server.object(key).await,
        }
    }

    async fn keys(&self) -> Vec<String> {
        match self {
            Self::Azure(server) => server.keys().await,
            Self::Google(server) => server.keys().await,
        }
    }

    async fn unfinished(&self) -> Vec<String> {
        match self {
            Self::Azure(server) => server.unfinished().await,
            Self::Google(server) => server.unfinished().await,
        }
    }
}

fn key_of(content: &[u8]) -> String {
    format!("campus/images/{}", blake3::hash(content).to_hex())
}

/// Whole and in parts, through failures; once, whoever has it; and on after a crash in the middle.
async fn takes_files_whatever_happens(store: Store) {
    let kind = store.kind();
    let (mut test, small, large) = (Uploading::new().await, picture(1, 900), picture(2, 2 * PART + 77));
    fs::write(test.path("small.jpg"), &small).unwrap();
    fs::write(test.path("large.jpg"), &large).unwrap();
    test.site.write([insert("cameras", 1, "small.jpg"), insert("cameras", 2, "large.jpg")]).await;
    let small_one = [Step::Answer(503, "retry-after: 1", ""), Step::Pass, Step::LoseAnswer];
    let faulty = FaultyCloud::before(store.address(), small_one).await;
    let feeding = test.feed(kind.files(&faulty.root()), PART);
    test.wait_for_camera("2").await;
    assert!(faulty.is_done());
    let url = |content: &[u8]| format!("{}://pictures/{}", kind.scheme(), key_of(content));
    assert_eq!((test.url("1").await, test.url("2").await), (Some(url(&small)), Some(url(&large))));
    assert!(store.object(&key_of(&small)).await.as_ref() == Some(&small), "the small one is another");
    assert!(store.object(&key_of(&large)).await.as_ref() == Some(&large), "the parts are not the file");
    assert_eq!((store.keys().await.len(), store.unfinished().await), (2, vec![]));
    feeding.end().await.unwrap();
    // Another node has the same file: it is asked about, and not sent.
    let mut other = Uploading::new().await;
    fs::write(other.path("again.jpg"), &large).unwrap();
    other.site.write([insert("cameras", 9, "again.jpg")]).await;
    let watched = FaultyCloud::before(store.address(), []).await;
    let feeding = other.feed(kind.files(&watched.root()), PART);
    other.wait_for_camera("9").await;
    let asked: Vec<String> = watched.came().iter().map(|came| came.what.clone()).collect();
    assert!(asked.len() == 1 && asked[0].starts_with("HEAD"), "{asked:?}");
    feeding.end().await.unwrap();

    let parts = |came: &FaultyCloud| came.came().iter().filter(|came| came.what.starts_with("PUT")).count();
    let film = picture(3, 3 * PART);
    fs::write(other.path("film.jpg"), &film).unwrap();
    other.site.write([insert("cameras", 10, "film.jpg")]).await;
    // Is it there, begin where that is a request, and the first part; what comes then is held until the crash.
    let before = if matches!(kind, Kind::Azure) { 2 } else { 3 };
    let script: Vec<Step> = std::iter::repeat_n(Step::Pass, before).chain([Step::Hold]).collect();
    let holding = FaultyCloud::before(store.address(), script).await;
    let feeding = other.feed(kind.files(&holding.root()), PART);
    wait_for("the second part to come", SOON, async || parts(&holding) == 2).await;
    drop(feeding);
    assert_eq!(store.unfinished().await, [key_of(&film)], "it was in the middle");
    let watched = FaultyCloud::before(store.address(), []).await;
    let _feeding = other.feed(kind.files(&watched.root()), PART);
    other.wait_for_camera("10").await;
    assert!(store.object(&key_of(&film)).await == Some(film), "the parts are not the film");
    assert_eq!((store.keys().await.len(), store.unfinished().await), (3, vec![]));
    // Azure's list of parts is written by a PUT as well.
    let sent = if matches!(kind, Kind::Azure) { 3 } else { 2 };
    assert_eq!(parts(&watched), sent, "the first part is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_gets_files_whole_and_in_parts_whatever_happens_on_the_way() {
    if let Some(server) = AzureServer::start_or_say().await {
        takes_files_whatever_happens(Store::Azure(server)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_googles_protocol_gets_files_whole_and_in_parts_whatever_happens_on_the_way() {
    takes_files_whatever_happens(Store::Google(S3Server::start().await)).await;
}

/// Nobody can take parts back from Azure: what was begun and is wanted no more is invisible, and gone after a week. Nothing of it is a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_upload_to_azure_that_is_wanted_no_more_nothing_can_be_seen() {
    let Some(server) = AzureServer::start_or_say().await else { return };
    let (mut test, film) = (Uploading::new().await, picture(4, 2 * PART));
    fs::write(test.path("film.jpg"), &film).unwrap();
    test.site.write([insert("cameras", 1, "film.jpg")]).await;
    let holding = FaultyCloud::before(server.address, [Step::Pass, Step::Pass, Step::Hold]).await;
    let feeding = test.feed(Kind::Azure.files(&holding.root()), PART);
    wait_for("the second part to come", SOON, async || holding.came().len() == 3).await;
    drop(feeding);
    fs::remove_file(test.path("film.jpg")).unwrap();
    let _feeding = test.feed(Kind::Azure.files(&server.url()), PART);
    test.wait_for_camera("1").await;
    test.site.wait_until_sent().await;
    assert_eq!((server.keys().await, server.object(&key_of(&film)).await), (vec![], None));
    assert_eq!(test.site.observer.cloud_status("main").files["missing"], 1);
}
