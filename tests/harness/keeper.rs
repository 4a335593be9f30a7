//! Who keeps the topics in a test of one node: a hub or a broker, as a process that can be killed, reached through a network
//! that can be cut. A test over [`TopicKeeper`] holds for every kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tandem::change::OriginId;
use tandem::topic::TopicReader;
use tandem::topic::hub::{ClientOptions, HubClient, HubReader, KeyHash};
use tandem::topic::kafka::{KafkaOptions, KafkaReader};
use tempfile::TempDir;

use super::{BrokerOptions, Link, Node, NodeOptions, PrivateBroker, broker_or_say, free_port, wait_for};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A keeper of topics. A new kind implements this and calls the same tests.
#[allow(async_fn_in_trait)]
pub trait TopicKeeper {
    /// For messages.
    fn kind(&self) -> &'static str;

    /// Lines for the node's own section of the configuration.
    fn node_lines(&self) -> String;

    /// Sections of the configuration that say how the topics are reached, over the network that can be cut.
    fn sections(&self) -> String;

    /// The node's environment.
    fn env(&self) -> Vec<(String, String)>;

    /// Reads the topics, past the network that can be cut.
    fn reader(&self) -> Arc<dyn TopicReader>;

    /// SIGKILL, and gone when this returns.
    fn kill9(&mut self);

    /// Starts it again, and waits until it answers.
    async fn restart(&mut self);

    /// The network between the node and the keeper.
    fn link(&self) -> &Link;
}

const KEY: &str = "the key of the one node";

/// `tandem hub` in a folder of its own.
pub struct HubKeeper {
    node: Node,
    link: Link,
    port: u16,
    origin: String,
    folder: TempDir,
}

impl HubKeeper {
    /// Keeps the topic of one node.
    pub async fn start(tandem: impl Into<PathBuf>, origin: &str) -> Self {
        Self::start_with(tandem, origin, "").await
    }

    /// The same with more lines under `[hub]`.
    pub async fn start_with(tandem: impl Into<PathBuf>, origin: &str, lines: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("tandem-hub-").tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let config = format!(
            "version = 1\ncluster = \"campus\"\n\n[nodes.{origin}]\ndatabase = \"mysql://tandem@127.0.0.1:3306/campus\"\n\
             password_env = \"NODE_PASSWORD\"\nreplica_id = 1101\n{}\n\
             [topic]\nurl = \"http://127.0.0.1:{port}\"\n\n[hub]\nlisten = \"127.0.0.1:{port}\"\n{lines}\n\
             [tables]\ninclude = [\"campus.*\"]\n",
            node_lines()
        );
        fs::write(folder.path().join("tandem.toml"), config).expect("the folder can be written to");
        let options = NodeOptions::new("hub", tandem, folder.path()).args(["hub"]).env("TANDEM_CONFIG", "tandem.toml");
        let node = Node::start(options);
        let keeper = Self { node, link: Link::to(port).await, port, origin: origin.to_owned(), folder };
        keeper.ready().await;
        keeper
    }

    async fn ready(&self) {
        let origin = OriginId::new(&self.origin);
        let reader = self.reader();
        wait_for("the hub", READY_WITHIN, async || reader.extent(&origin).await.is_ok()).await;
    }

    /// Where its records are, for tests that put back an older copy while it is stopped.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("tandem-state").join("hub")
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        self.node.terminate().await;
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Reads and writes, past the network that can be cut.
    pub fn client(&self) -> HubClient {
        let url = format!("http://127.0.0.1:{}", self.port);
        let options = ClientOptions { url, key: KEY.into(), trust: Default::default() };
        HubClient::new(options).expect("the address is one")
    }

    /// Its process and log.
    pub fn process(&mut self) -> &mut Node {
        &mut self.node
    }
}

fn node_lines() -> String {
    format!("hub_key_env = \"NODE_HUB_KEY\"\nhub_key_hash = \"{}\"\n", KeyHash::of(&KEY.into()))
}

impl TopicKeeper for HubKeeper {
    fn kind(&self) -> &'static str {
        "hub"
    }

    fn node_lines(&self) -> String {
        node_lines()
    }

    fn sections(&self) -> String {
        format!("[topic]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{}\"\n", self.link.port())
    }

    fn env(&self) -> Vec<(String, String)> {
        vec![("NODE_HUB_KEY".into(), KEY.into())]
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(HubReader::new(Arc::new(self.client())))
    }

    fn kill9(&mut self) {
        self.node.kill9();
    }

    async fn restart(&mut self) {
        self.node.restart();
        self.ready().await;
    }

    fn link(&self) -> &Link {
        &self.link
    }
}

/// A Kafka broker in a folder of its own.
pub struct KafkaKeeper {
    broker: PrivateBroker,
    link: Link,
    origin: OriginId,
}

impl KafkaKeeper {
    /// Keeps the topic of one node; `None`, said loudly, where there is no Kafka to test with.
    pub async fn start(origin: &str) -> Option<Self> {
        let mut broker = broker_or_say(BrokerOptions { linked: 1, ..BrokerOptions::default() }).await?;
        let link = broker.take_links().pop().expect("one was asked for");
        Some(Self { broker, link, origin: OriginId::new(origin) })
    }
}

impl TopicKeeper for KafkaKeeper {
    fn kind(&self) -> &'static str {
        "kafka"
    }

    fn node_lines(&self) -> String {
        String::new()
    }

    fn sections(&self) -> String {
        format!("[topic]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:{}\"]\n", self.link.port())
    }

    fn env(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn reader(&self) -> Arc<dyn TopicReader> {
        Arc::new(KafkaReader::new(KafkaOptions::new(vec![self.broker.address()], "campus")))
    }

    fn kill9(&mut self) {
        self.broker.kill9();
    }

    async fn restart(&mut self) {
        self.broker.start_again().await;
        // It takes connections some time before it answers.
        let reader = self.reader();
        wait_for("the broker", READY_WITHIN, async || reader.extent(&self.origin).await.is_ok()).await;
    }

    fn link(&self) -> &Link {
        &self.link
    }
}
