//! A receiver that keeps its rows in a MariaDB and its files in a bucket: the contract of every shelf, and the built program on both.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use mysql_async::{Opts, OptsBuilder};
use tandem::receive::contract::{self, Subject};
use tandem::receive::{MariadbShelf, Shelf};
use tandem::runtime::{Fault as _, ManualClock};

use crate::harness::{CloudServer, CloudServerOptions, NodeOptions, PrivateServer, S3Server, ServerOptions, wait_for};
use crate::rig::{SOON, delete, expected_json, insert, update};
use crate::stores::{PART, Uploading, picture};

const SCHEMA: &str = "receiver";

/// A server whose account may do what docs/cloud.md says and nothing else.
async fn database() -> PrivateServer {
    let grants = vec![format!("CREATE, SELECT, INSERT, UPDATE ON {SCHEMA}.*")];
    let server = PrivateServer::start(ServerOptions { log_bin: false, grants, ..ServerOptions::default() }).await;
    server.query(&format!("CREATE DATABASE {SCHEMA}")).await;
    server
}

fn opts(server: &PrivateServer) -> Opts {
    OptsBuilder::from_opts(server.account_opts()).db_name(Some(SCHEMA)).into()
}

struct InMariadb {
    server: PrivateServer,
    clock: Arc<ManualClock>,
    shelf: MariadbShelf,
    /// A receiver beside it, on the same rows.
    other: MariadbShelf,
    asked: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl Subject for InMariadb {
    /// By turns that of the one receiver and of the other: what one keeps, the other has.
    fn shelf(&self) -> Arc<dyn Shelf> {
        let number = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::new(if number.is_multiple_of(2) { self.shelf.clone() } else { self.other.clone() })
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    async fn reopen(&mut self) {
        // The harness is not made to be sent between threads.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                self.server.restart().await;
                self.shelf = MariadbShelf::open(opts(&self.server), self.clock.clone()).await.unwrap();
            });
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_holds_the_contract_of_a_shelf_also_for_two_receivers_at_once() {
    let server = database().await;
    let clock = Arc::new(ManualClock::at_micros(1_000_000_000));
    let open = async || MariadbShelf::open(opts(&server), clock.clone()).await.unwrap();
    let (shelf, other) = (open().await, open().await);
    contract::hold(&mut InMariadb { server, clock, shelf, other, asked: Default::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_larger_than_a_statement_may_be_is_refused_by_itself() {
    let server = database().await;
    server.query("SET GLOBAL max_allowed_packet = 1048576").await;
    let shelf = MariadbShelf::open(opts(&server), Arc::new(ManualClock::default())).await.unwrap();
    let row = |id: &str, length: usize| {
        let row = serde_json::Map::from_iter([("text".to_owned(), "x".repeat(length).into())]);
        let version = tandem::change::cloud::CloudVersion { hlc: 1, origin: "a".into() };
        let (key, resource, op) = ("a:1".into(), "rooms".into(), tandem::change::cloud::CloudOp::Insert);
        tandem::change::cloud::CloudRow { key, resource, id: id.into(), op, version, row }
    };
    // Together they are more than one statement may be; the last one is so by itself.
    let answers = shelf.put(vec![row("1", 700_000), row("2", 700_000), row("3", 1_100_000)]).await.unwrap();
    let said: Vec<bool> = answers.iter().map(|answer| answer.error.is_none()).collect();
    assert_eq!(said, [true, true, false], "{answers:?}");
    assert!(answers[2].error.as_ref().unwrap().contains("max_allowed_packet"));
    assert_eq!(shelf.held().await.unwrap().rows, [("rooms".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_database_is_said_without_its_password() {
    let server = database().await;
    let open = async |opts: OptsBuilder| {
        let opened = MariadbShelf::open(opts.into(), Arc::new(ManualClock::default())).await;
        opened.err().expect("it cannot be opened")
    };
    let own = || OptsBuilder::from_opts(opts(&server));
    for (opts, word) in [(own().pass(Some("a wrong one")), "Access denied"), (own().db_name(Some("mysql")), "denied")] {
        let error = open(opts).await;
        let said = format!("{error} {}", error.hint().unwrap());
        assert!(said.contains(word) && said.contains("127.0.0.1") && !said.contains("a wrong one"), "{said}");
    }
    // The rows of others are not overwritten by a table of the same name that is another.
    server.query(&format!("CREATE TABLE {SCHEMA}.cloud_rows (id INT)")).await;
    let shelf = MariadbShelf::open(opts(&server), Arc::new(ManualClock::default())).await.unwrap();
    assert!(shelf.row("rooms".into(), "1".into()).await.unwrap_err().reason.contains("1054"));
}

/// The program with its rows in a MariaDB and its files in a bucket of somebody else's.
async fn receiver(database: &PrivateServer, store: &S3Server, folder: &Path) -> CloudServer {
    let (url, place) = (format!("{}/{SCHEMA}", database.url()), format!("s3://{}/receiver", S3Server::BUCKET));
    let args = ["--database", &url, "--password-env", "DATABASE_PASSWORD", "--files", &place]
        .into_iter()
        .chain(["--files-key-id-env", "STORE_ID", "--files-key-env", "STORE_KEY", "--files-endpoint", &store.url()])
        .map(str::to_owned)
        .collect();
    let env = [("DATABASE_PASSWORD", database.password()), ("STORE_ID", "tester"), ("STORE_KEY", "not a key")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let options = CloudServerOptions { args, env, ..CloudServerOptions::default() };
    CloudServer::start_with(Path::new(env!("CARGO_BIN_EXE_tandem")), folder, options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_keeps_rows_in_a_mariadb_and_files_in_a_bucket() {
    let (database, store, folder) = (database().await, S3Server::start().await, tempfile::tempdir().unwrap());
    let cloud = receiver(&database, &store, folder.path()).await;
    let mut test = Uploading::new().await;
    let (small, large) = (picture(1, 900), picture(2, 2 * PART + 77));
    std::fs::write(test.path("small.jpg"), &small).unwrap();
    std::fs::write(test.path("large.jpg"), &large).unwrap();
    test.site.write([insert("rooms", 1, "a"), insert("rooms", 2, "b"), insert("cameras", 1, "small.jpg")]).await;
    test.site.write([insert("cameras", 2, "large.jpg"), update("rooms", 1, "a", "c"), delete("rooms", 2, "b")]).await;
    let api = crate::rig::api_with(&cloud.url(), &cloud.key);
    let feeding = test.site.feed_to(api.clone(), api, test.options(PART));
    wait_for("both cameras", SOON, async || cloud.rows("cameras").await == Some(2)).await;
    test.site.wait_until_sent().await;
    assert_eq!(cloud.get("rooms/1").await, Some(expected_json(1, "c")));
    assert_eq!((cloud.get("rooms/2").await, cloud.rows("rooms").await), (None, Some(1)));
    for (id, content) in [("1", &small), ("2", &large)] {
        let url = cloud.get(&format!("cameras/{id}")).await.unwrap()["photo_url"].as_str().unwrap().to_owned();
        let hash = blake3::hash(content).to_hex().to_string();
        assert_eq!(url, format!("/api/files/images/{hash}"));
        assert!(store.object(&format!("receiver/images/{hash}")).await.as_ref() == Some(content), "{id}: it is another");
        let back = format!("http://127.0.0.1:{}{url}", cloud.port);
        let back = reqwest::Client::new().get(back).bearer_auth(&cloud.key).send().await.unwrap().bytes().await.unwrap();
        assert!(back == *content, "{id}: what comes back is another");
    }
    assert_eq!((store.keys().await.len(), store.unfinished().await), (2, vec![]));
    let told: Vec<String> = database
        .rows(&format!(
            "SELECT JSON_VALUE(body, '$.name') FROM {SCHEMA}.cloud_rows WHERE resource = 'rooms' AND body IS NOT NULL"
        ))
        .await;
    assert_eq!(told, ["c"], "people can ask the database");
    feeding.end().await.unwrap();
    assert!(!folder.path().join("cloud/rows.sqlite").exists() && !folder.path().join("cloud/files").exists());
    let log = cloud.node.log_text();
    assert!(log.contains("cloud server starts") && !log.contains(database.password()) && !log.contains("not a key"), "{log}");
}

#[test]
fn what_is_missing_for_a_store_is_said_with_the_flag_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = NodeOptions::new("asked", env!("CARGO_BIN_EXE_tandem"), folder.path()).env("KEY", "k");
    let key = format!("laptops=blake3:{}", "0".repeat(64));
    let cases: [(&[&str], &str); 9] = [
        (&["--listen", "0.0.0.0:0", "--tls"], "add --name HOST"),
        (&["--files", "s3://"], "names no bucket"),
        (&["--files", "ftp://pictures"], "cannot begin with"),
        (&["--files", "s3://pictures"], "--files-key-env"),
        (&["--files", "s3://pictures", "--files-key-env", "KEY"], "--files-key-id-env"),
        (&["--files", "az://pictures", "--files-key-env", "KEY"], "--files-account"),
        (&["--files", "gs://pictures", "--files-key-env", "NOT_SET"], "NOT_SET is not set"),
        (
            &["--files", "gs://pictures", "--files-key-env", "KEY", "--files-endpoint", "http://10.0.0.1:9000"],
            "--files-allow-http",
        ),
        (&["--database", "mysql://u:secret@localhost/receiver"], "--password-env or --password-file"),
    ];
    for (args, expected) in cases {
        let output = options.run_once(&[&["cloud-server", "--key", &key], args].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected) && !said.contains("secret"), "{args:?}: {said}");
    }
}
