//! The hub as a process of its own: killed, cut off, and asked again.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tandem::change::{Offset, OriginId, Record};
use tandem::runtime::{Disposition, Fault as _};
use tandem::topic::contract::record;
use tandem::topic::hub::{ClientOptions, HubClient, HubReader, HubWriter, KeyHash};
use tandem::topic::{TopicReader as _, TopicWriter as _};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::{Link, Node, NodeOptions, free_port, wait_for};

const ORIGIN: &str = "laptop-a";
const KEY: &str = "the key of laptop-a";

/// `tandem hub` in a folder, reached through a network that can be cut.
struct Hub {
    node: Node,
    link: Link,
    _folder: TempDir,
}

impl Hub {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        fs::write(folder.path().join("tandem.toml"), config(port)).unwrap();
        let node = Node::start(options(folder.path()));
        let hub = Self { node, link: Link::to(port).await, _folder: folder };
        let reader = HubReader::new(hub.client());
        wait_for("the hub", Duration::from_secs(20), async || reader.extent(&OriginId::new(ORIGIN)).await.is_ok()).await;
        hub
    }

    fn client(&self) -> Arc<HubClient> {
        let url = format!("http://127.0.0.1:{}", self.link.port());
        Arc::new(HubClient::new(ClientOptions { url, key: KEY.into(), trust: Default::default() }).unwrap())
    }
}

fn options(folder: &Path) -> NodeOptions {
    NodeOptions::new("hub", env!("CARGO_BIN_EXE_tandem"), folder)
        .args(["hub"])
        .env("NODE_PASSWORD", "x")
        .env("NODE_HUB_KEY", KEY)
}

fn config(port: u16) -> String {
    format!(
        "version = 1\ncluster = \"campus\"\n\n[nodes.{ORIGIN}]\ndatabase = \"mysql://tandem@127.0.0.1:3306/campus\"\n\
         password_env = \"NODE_PASSWORD\"\nreplica_id = 1101\nhub_key_env = \"NODE_HUB_KEY\"\nhub_key_hash = \"{}\"\n\n\
         [topic]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{port}\"\n\n[hub]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [tables]\ninclude = [\"campus.*\"]\n",
        KeyHash::of(&KEY.into())
    )
}

/// Appends records until told to end, whatever happens to the hub meanwhile; each record's number is the offset it is
/// to get. Returns the end that was answered last, and how many appends failed.
async fn write(client: Arc<HubClient>, done: watch::Sender<u64>, ending: watch::Receiver<bool>) -> (Offset, u64) {
    let origin = OriginId::new(ORIGIN);
    let mut writer = HubWriter::new(client, origin.clone());
    let mut random = fastrand::Rng::with_seed(1);
    let mut end = Offset(0);
    let (mut resumed, mut failed) = (false, 0);
    loop {
        if !resumed {
            match writer.resume().await {
                Ok(extent) => {
                    assert!(extent.end >= end, "the hub answered up to {end} and has only {}", extent.end);
                    (end, resumed) = (extent.end, true);
                }
                Err(error) => assert_eq!(error.disposition(), Disposition::Retry, "{error}"),
            }
            continue;
        }
        if *ending.borrow() {
            return (end, failed);
        }
        let records: Vec<Record> = (end.0..end.0 + random.u64(1..100)).map(|number| record(&origin, number)).collect();
        match writer.append(end, &records).await {
            Ok(after) => {
                end = after;
                done.send_replace(end.0);
            }
            Err(error) => {
                assert_eq!(error.disposition(), Disposition::Retry, "{error}");
                (resumed, failed) = (false, failed + 1);
            }
        }
    }
}

/// Every record once and in order: each is at the offset that is its number.
async fn check(hub: &Hub, end: Offset) {
    let (reader, origin) = (HubReader::new(hub.client()), OriginId::new(ORIGIN));
    assert_eq!(reader.extent(&origin).await.unwrap().end, end);
    let mut at = 0;
    while at < end.0 {
        for (offset, found) in reader.read(&origin, Offset(at), 4 << 20, Duration::ZERO).await.unwrap() {
            assert_eq!((offset.0, found.row), (at, at));
            at += 1;
        }
    }
}

/// Disturbs the hub `times` times while it is written to, each time at another moment of an append.
async fn disturbed(times: u64, mut disturb: impl AsyncFnMut(&mut Hub)) {
    let mut hub = Hub::start().await;
    let (done, mut progress) = watch::channel(0);
    let (end, ending) = watch::channel(false);
    let writing = tokio::spawn(write(hub.client(), done, ending));
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..times {
        // After some appends, and then somewhere within the next one.
        let before = *progress.borrow_and_update();
        let goal = before + random.u64(1..300);
        progress.wait_for(|end| *end >= goal).await.expect("the writer goes on");
        for _ in 0..random.u32(0..200) {
            tokio::task::yield_now().await;
        }
        disturb(&mut hub).await;
    }
    let before = *progress.borrow();
    progress.wait_for(|end| *end > before).await.expect("the writer goes on after the last of it");
    end.send_replace(true);
    let (end, failed) = writing.await.unwrap();
    // Some strike between two appends; most do not.
    assert!(failed > times / 2, "{failed} appends met one of {times} disturbances");
    check(&hub, end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_killed_again_and_again_loses_nothing_it_answered_for() {
    disturbed(10, async |hub| {
        hub.node.kill9();
        hub.node.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_cut_in_the_middle_of_appends_leaves_every_record_once() {
    disturbed(15, async |hub| {
        hub.link.cut();
        let reader = HubReader::new(hub.client());
        wait_for("the cut", Duration::from_secs(20), async || reader.extent(&OriginId::new(ORIGIN)).await.is_err()).await;
        hub.link.mend();
    })
    .await;
}
