//! The two laptops: a private MariaDB and a `tandem` each, joined by the hub that the first one keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Link, Node, NodeOptions, PrivateServer, ServerOptions, Sync, TableRows, free_port, tables, wait_until};

pub const A: usize = 0;
pub const B: usize = 1;
pub const NAMES: [&str; 2] = ["laptop-a", "laptop-b"];

/// Generous: a busy machine is slow, and a demo that gives up early shows nothing.
const DEADLINE: Duration = Duration::from_secs(30);

pub struct Laptops {
    pub servers: [Arc<PrivateServer>; 2],
    pub nodes: [Node; 2],
    /// The way from laptop-b to the hub.
    network: Link,
    web_ports: [u16; 2],
    hub_port: u16,
    pub dir: PathBuf,
    keep: bool,
}

impl Laptops {
    /// Two servers with the schema, side by side; then the nodes.
    pub async fn start(tandem: &Path, dir: PathBuf, schema: &str, keep: bool) -> Self {
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap_or_else(|error| panic!("cannot clear {}: {error}", dir.display()));
        }
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot create {}: {error}", dir.display()));
        let server = |number: u32| {
            let place = dir.join(format!("mariadb-{}", NAMES[number as usize - 1]));
            fs::create_dir_all(&place).unwrap_or_else(|error| panic!("cannot create {}: {error}", place.display()));
            PrivateServer::start(ServerOptions {
                sync: Sync::EachCommit,
                dir: Some(place),
                outlives: keep,
                ..ServerOptions::node(number)
            })
        };
        let (one, other) = tokio::join!(server(1), server(2));
        let servers = [Arc::new(one), Arc::new(other)];
        for server in &servers {
            note_process(&dir, server.process_id(), "a MariaDB");
            server.sql_client(schema);
        }

        let (hub_port, web_ports) = (free_port(), [free_port(), free_port()]);
        let network = Link::to(hub_port).await;
        let keys = [hub_key(tandem, &dir), hub_key(tandem, &dir)];
        let config = config(&servers, &keys, hub_port);
        let file = dir.join("tandem.toml");
        fs::write(&file, config).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));

        let options = |laptop: usize| {
            // Both run on one machine here, so each gets a port of its own for its pages.
            NodeOptions::new(NAMES[laptop], tandem, &dir)
                .args(["run"])
                .env("TANDEM_CONFIG", "tandem.toml")
                .env("TANDEM_NODE", NAMES[laptop])
                .env("DEMO_PASSWORD", servers[laptop].password())
                .env("DEMO_HUB_KEY", &keys[laptop].0)
                .env("TANDEM__WEB__LISTEN", format!("127.0.0.1:{}", web_ports[laptop]))
        };
        let first = options(A);
        let mut second = options(B).env("TANDEM__TOPIC__URL", format!("http://127.0.0.1:{}", network.port()));
        let nodes = [first, second.clone()].map(|options| Node::start(NodeOptions { outlives: keep, ..options }));
        second.env.pop();
        for node in &nodes {
            note_process(&dir, node.process_id(), "a tandem");
        }
        Self { servers, nodes, network, web_ports, hub_port, dir, keep }
    }

    /// Waits for a fact, and gives up early when a node has ended.
    pub async fn wait(
        &mut self,
        what: &str,
        mut fact: impl AsyncFnMut(&[Arc<PrivateServer>; 2]) -> bool,
    ) -> Result<Duration, String> {
        let mut ended = None;
        let waited = wait_until(what, DEADLINE, async || {
            ended = self.nodes.iter_mut().find_map(|node| Some((node.name().to_owned(), node.ended()?)));
            ended.is_some() || fact(&self.servers).await
        })
        .await;
        match (waited, ended) {
            (_, Some((name, status))) => Err(format!("{name} has ended ({status}) while we waited for {what}")),
            (waited, None) => waited,
        }
    }

    /// Waits until every table has the same rows on both.
    pub async fn wait_until_equal(&mut self) -> Result<Duration, String> {
        let start = Instant::now();
        self.wait("both databases to be equal", async |[one, other]| {
            crate::harness::databases_differ(one, other, "campus").await.is_none()
        })
        .await?;
        Ok(start.elapsed())
    }

    /// Runs a statement on one laptop with the ordinary client, and measures from its commit until `look` finds a row on
    /// the other one.
    pub async fn cross(&mut self, from: usize, statement: &str, look: &str) -> Result<Duration, String> {
        let writer = self.servers[from].clone();
        let sql = format!("USE campus; {statement}; SELECT CAST(SYSDATE(6) AS CHAR);");
        let client = tokio::task::spawn_blocking(move || writer.sql_client(&sql));
        let mut conn = self.servers[1 - from].conn().await;
        let mut seen = None;
        self.wait(&format!("the row on {}", NAMES[1 - from]), async |_| {
            seen = conn.query_first::<String, _>(look).await.unwrap_or_else(|error| panic!("{error} in: {look}"));
            seen.is_some()
        })
        .await?;
        let committed = client.await.map_err(|error| format!("the client failed: {error}"))?;
        let delay = between(&mut conn, committed.trim(), &seen.expect("it was waited for")).await;
        conn.disconnect().await.map_err(|error| format!("a session did not end: {error}"))?;
        Ok(delay)
    }

    /// Cuts laptop-b off from the hub, in the middle of whatever is on its way.
    pub fn cut(&self) {
        self.network.cut();
    }

    pub fn mend(&self) {
        self.network.mend();
    }

    /// What a `tandem` command says on a laptop.
    pub fn tandem(&self, laptop: usize, args: &[&str]) -> String {
        let output = self.nodes[laptop].options().run_once(args);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub fn status_page(&self, laptop: usize) -> String {
        format!("http://127.0.0.1:{}/", self.web_ports[laptop])
    }

    /// Both sides of every table.
    pub async fn proof(&self) -> Vec<[TableRows; 2]> {
        let mut proof = Vec::new();
        for table in tables(&self.servers[A], "campus").await {
            let (one, other) = tokio::join!(
                TableRows::read(&self.servers[A], "campus", &table),
                TableRows::read(&self.servers[B], "campus", &table)
            );
            proof.push([one, other]);
        }
        proof
    }

    /// Ends everything in order; the exit of the nodes is part of the demo.
    pub async fn end(mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            let status = node.terminate().await;
            if !status.success() {
                return Err(format!("{} did not end cleanly: {status}", node.name()));
            }
        }
        for server in self.servers {
            if let Some(mut server) = Arc::into_inner(server) {
                server.stop().await;
            }
        }
        Ok(())
    }

    /// Leaves everything running. The network that could be cut ends with this program, so laptop-b is started again with a
    /// direct way to the hub.
    pub async fn leave(mut self) -> Result<(), String> {
        assert!(self.keep, "what is to stay must be started so");
        let [first, mut second] = self.nodes;
        let status = second.terminate().await;
        if !status.success() {
            return Err(format!("laptop-b did not end cleanly: {status}"));
        }
        let direct = second.options().clone().env("TANDEM__TOPIC__URL", format!("http://127.0.0.1:{}", self.hub_port));
        let second = Node::start(direct);
        note_process(&self.dir, second.process_id(), "a tandem");
        first.leave();
        second.leave();
        for server in self.servers {
            if let Some(server) = Arc::into_inner(server) {
                server.leave();
            }
        }
        Ok(())
    }
}

/// For `make clean-services`.
fn note_process(dir: &Path, id: Option<u32>, what: &str) {
    use std::io::Write;
    let file = fs::File::options().create(true).append(true).open(dir.join("processes"));
    let written = file.and_then(|mut file| writeln!(file, "{} {what}", id.expect("it was just started")));
    written.unwrap_or_else(|error| panic!("cannot note a process: {error}"));
}

/// A key for the hub and its hash, as `tandem hub key` prints them.
fn hub_key(tandem: &Path, dir: &Path) -> (String, String) {
    let output = NodeOptions::new("hub key", tandem, dir).run_once(&["hub", "key"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("`tandem hub key` printed no `{name}`: {text}")).trim().to_owned()
    };
    (word("key "), word("hub_key_hash "))
}

fn config(servers: &[Arc<PrivateServer>; 2], keys: &[(String, String); 2], hub_port: u16) -> String {
    let mut text = String::from("version = 1\ncluster = \"campus\"\n");
    for laptop in [A, B] {
        text += &format!(
            "\n[nodes.{}]\ndatabase = \"{}/campus\"\npassword_env = \"DEMO_PASSWORD\"\nreplica_id = {}\n\
             hub_key_env = \"DEMO_HUB_KEY\"\nhub_key_hash = \"{}\"\n",
            NAMES[laptop],
            servers[laptop].url(),
            1101 + laptop,
            keys[laptop].1
        );
    }
    text + &format!(
        "\n[topic]\nkind = \"hub\"\nurl = \"http://127.0.0.1:{hub_port}\"\n\n\
         [hub]\nnode = \"{}\"\nlisten = \"127.0.0.1:{hub_port}\"\n\n\
         [tables]\ninclude = [\"campus.*\"]\n",
        NAMES[A]
    )
}

/// Both times come from this machine's one clock.
async fn between(conn: &mut Conn, earlier: &str, later: &str) -> Duration {
    let sql = format!("SELECT TIMESTAMPDIFF(MICROSECOND, '{earlier}', '{later}')");
    let micros: Option<i64> = conn.query_first(&sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
    Duration::from_micros(micros.and_then(|micros| u64::try_from(micros).ok()).unwrap_or_default())
}
