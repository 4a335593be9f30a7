//! One node and the keeper of its topic: what the tests of the tailer stand on.

use std::fs;
use std::time::Duration;

use tandem::change::{Offset, OriginId, Record};
use tempfile::TempDir;

use crate::harness::{Node, NodeOptions, PrivateServer, ServerOptions, TopicKeeper, free_port, status, wait_for};

pub const ORIGIN: &str = "laptop-a";

/// A busy machine with several such tests at once needs most of it.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A database, the keeper of its topic, and a folder with the configuration of the node between them.
pub struct Rig<K> {
    pub server: PrivateServer,
    pub keeper: K,
    folder: TempDir,
}

/// A process of the node, with its pages on a port of its own.
pub struct Process {
    pub node: Node,
    pub port: u16,
}

impl<K: TopicKeeper> Rig<K> {
    pub async fn new(keeper: K) -> Self {
        Self::over(PrivateServer::start(ServerOptions::node(1)).await, keeper, "").await
    }

    /// Over a server that is there, with more lines for the end of the configuration.
    pub async fn over(server: PrivateServer, keeper: K, more: &str) -> Self {
        server.query("CREATE DATABASE IF NOT EXISTS campus").await;
        server.query("CREATE TABLE IF NOT EXISTS campus.riders (id INT PRIMARY KEY, name VARCHAR(200))").await;
        let folder = tempfile::Builder::new().prefix("tandem-rig-").tempdir().expect("a temporary directory can be made");
        let rig = Self { server, keeper, folder };
        rig.configure(more);
        rig
    }

    /// Writes the configuration, for the server and keeper as they are now.
    pub fn configure(&self, more: &str) {
        let config = format!(
            "version = 1\ncluster = \"campus\"\n\n[nodes.{ORIGIN}]\ndatabase = \"{}/campus\"\n\
             password_env = \"NODE_PASSWORD\"\nreplica_id = 1101\n{}\n{}\n[tables]\ninclude = [\"campus.*\"]\n{more}",
            self.server.url(),
            self.keeper.node_lines(),
            self.keeper.sections(),
        );
        fs::write(self.folder.path().join("tandem.toml"), config).expect("the folder can be written to");
    }

    /// `tandem run ROLES… web`, as a process of its own.
    pub fn start(&self, name: &str, roles: &[&str]) -> Process {
        let port = free_port();
        let mut options = NodeOptions::new(name, env!("CARGO_BIN_EXE_tandem"), self.folder.path())
            .args(["run"])
            .args(roles.iter().copied())
            .args(["web"])
            .env("TANDEM_CONFIG", "tandem.toml")
            .env("NODE_PASSWORD", self.server.password())
            .env("TANDEM__WEB__LISTEN", format!("127.0.0.1:{port}"));
        options.env.extend(self.keeper.env());
        Process { node: Node::start(options), port }
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("the folder can be written to");
    }

    /// What a command says that asks this process.
    pub fn command(&self, process: &Process, args: &[&str]) -> std::process::Output {
        process.node.options().run_once(args)
    }

    pub async fn tailer(&self, name: &str) -> Process {
        let tailer = self.start(name, &["tailer"]);
        tailer.wait_for_role("tailer", "running").await;
        wait_for("the tailer to read", WITHIN, async || tailer.connected().await).await;
        tailer
    }

    /// The whole topic, heartbeats included.
    pub async fn topic(&self) -> Vec<(Offset, Record)> {
        let (reader, origin) = (self.keeper.reader(), OriginId::new(ORIGIN));
        let extent = reader.extent(&origin).await.expect("the topic answers");
        let mut records: Vec<(Offset, Record)> = Vec::new();
        let mut next = extent.first;
        while next < extent.end {
            let batch = reader.read(&origin, next, 8 << 20, Duration::ZERO).await.expect("the topic answers");
            next = batch.last().expect("there is more").0.next();
            records.extend(batch);
        }
        records
    }

    /// The ids of the rows of `campus.riders` that the topic holds, in its order.
    pub async fn published_ids(&self) -> Vec<u64> {
        let records = self.topic().await;
        records.iter().filter_map(|(_, record)| record.change()?.after.as_ref()?.get(0)?.as_u64()).collect()
    }

    pub async fn wait_until_published(&self, id: u64) {
        wait_for(&format!("row {id} in the topic"), WITHIN, async || self.published_ids().await.last() == Some(&id)).await;
    }
}

impl Process {
    /// What it says of itself; `None` while it does not answer.
    pub async fn status(&self) -> Option<serde_json::Value> {
        status(self.port).await
    }

    /// The state of a role, and its reason.
    pub async fn role(&self, name: &str) -> Option<(String, String)> {
        let status = self.status().await?;
        let role = status["roles"].as_array()?.iter().find(|role| role["name"] == name)?.clone();
        let text = |key: &str| role[key].as_str().unwrap_or_default().to_owned();
        Some((text("state"), format!("{} {}", text("reason"), text("hint"))))
    }

    pub async fn wait_for_role(&self, name: &str, state: &str) -> String {
        let mut last = None;
        let what = format!("the {name} of {} to be {state}", self.node.name());
        wait_for(&what, WITHIN, async || {
            last = self.role(name).await;
            last.as_ref().is_some_and(|(now, _)| now == state)
        })
        .await;
        last.expect("it was just looked at").1
    }

    pub async fn connected(&self) -> bool {
        self.status().await.is_some_and(|status| status["tailer"]["connected"] == true)
    }
}
