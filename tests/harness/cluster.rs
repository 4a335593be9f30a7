//! Some sites joined by a hub or a broker: a private MariaDB and a `tandem` each, and networks that can be cut.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    BrokerOptions, CloudServer, Link, Node, NodeOptions, PrivateBroker, PrivateServer, ServerOptions, databases_differ,
    free_port, get_json, wait_until,
};

const READING_WITHIN: Duration = Duration::from_secs(60);
/// How much of a log is shown of each node.
const LAST_WORDS: usize = 8;

/// How the sites are set up.
pub struct ClusterOptions {
    /// The built program.
    pub tandem: PathBuf,
    /// Names of the sites; the first keeps the hub, where there is one.
    pub names: Vec<&'static str>,
    /// The database that is synced, made by `schema` on every site before its node starts.
    pub database: &'static str,
    pub schema: String,
    /// A Kafka broker keeps the topics instead of a hub.
    pub kafka: bool,
    /// The hub encrypts, with a certificate of its own that all sites pin.
    pub https: bool,
    /// Settings of the n-th server, from 1.
    pub server: fn(u32) -> ServerOptions,
    /// All sites feed a cloud that runs beside them: the lines below `[cloud.main.tables]`.
    pub cloud: Option<&'static str>,
    /// More lines for the end of the configuration file.
    pub config: String,
    /// Where everything lies, cleared first. Without it a temporary place is used and removed.
    pub dir: Option<PathBuf>,
    /// Servers and nodes live on after this program ends.
    pub outlives: bool,
}

impl ClusterOptions {
    pub fn new(tandem: impl Into<PathBuf>, database: &'static str, schema: impl Into<String>) -> Self {
        Self {
            tandem: tandem.into(),
            names: vec!["laptop-a", "laptop-b"],
            database,
            schema: schema.into(),
            kafka: false,
            https: false,
            server: ServerOptions::node,
            cloud: None,
            config: String::new(),
            dir: None,
            outlives: false,
        }
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The variable, and what is in it, that leads a node to the topics through this port.
    fn reached(&self, port: u16) -> (&'static str, String) {
        if self.kafka {
            ("TANDEM__TOPIC__BROKERS", format!("127.0.0.1:{port}"))
        } else {
            ("TANDEM__TOPIC__URL", format!("{}://127.0.0.1:{port}", self.scheme()))
        }
    }
}

/// Running sites. Dropping it ends everything.
pub struct Cluster {
    // In this order: nodes end before their servers, and these before their directory goes.
    pub nodes: Vec<Node>,
    pub servers: Vec<Arc<PrivateServer>>,
    /// What all of them feed, where they feed one.
    pub cloud: Option<CloudServer>,
    /// What keeps the topics, where it is no hub.
    pub broker: Option<PrivateBroker>,
    /// The way of each site but the first to the topics.
    links: Vec<Link>,
    web_ports: Vec<u16>,
    hub_port: u16,
    dir: PathBuf,
    options: ClusterOptions,
    _temporary: Option<tempfile::TempDir>,
}

impl Cluster {
    /// Starts the servers side by side, makes the schema on each, then starts the nodes.
    pub async fn start(mut options: ClusterOptions) -> Self {
        let (dir, temporary) = place(options.dir.clone());
        let mut cloud = None;
        if let Some(tables) = options.cloud {
            let server = CloudServer::start(&options.tandem, &dir, options.outlives).await;
            note_process(&dir, server.node.process_id(), "a cloud server");
            options.config.push_str(&server.config(tables));
            cloud = Some(server);
        }
        let mut starting = Vec::new();
        for number in 1..=options.names.len() as u32 {
            let place = dir.join(format!("mariadb-{number}"));
            fs::create_dir_all(&place).unwrap_or_else(|error| panic!("cannot create {}: {error}", place.display()));
            let server = (options.server)(number);
            let server = ServerOptions { dir: Some(place), outlives: options.outlives, ..server };
            starting.push(PrivateServer::start(server));
        }
        let servers: Vec<_> = futures_util::future::join_all(starting).await.into_iter().map(Arc::new).collect();
        for server in &servers {
            note_process(&dir, server.process_id(), "a MariaDB");
            server.sql_client(&options.schema);
        }

        let hub_port = free_port();
        let mut broker = None;
        let mut broker_links = Vec::new();
        if options.kafka {
            let place = dir.join("kafka");
            fs::create_dir_all(&place).unwrap_or_else(|error| panic!("cannot create {}: {error}", place.display()));
            let (linked, outlives) = (options.names.len() - 1, options.outlives);
            let asked = BrokerOptions { linked, outlives, dir: Some(place), ..BrokerOptions::default() };
            let mut started = PrivateBroker::start(asked).await.unwrap_or_else(|reason| panic!("there is no Kafka: {reason}"));
            note_process(&dir, started.process_id(), "a Kafka");
            broker_links = started.take_links();
            broker = Some(started);
        }
        let web_ports: Vec<u16> = servers.iter().map(|_| free_port()).collect();
        let keys: Vec<_> = servers.iter().map(|_| hub_key(&options.tandem, &dir)).collect();
        let file = dir.join("tandem.toml");
        let write = |pin: &str| {
            let topic = match &broker {
                Some(broker) => format!("kind = \"kafka\"\nbrokers = [\"{}\"]\n", broker.address()),
                None => format!(
                    "kind = \"hub\"\nurl = \"{}://127.0.0.1:{hub_port}\"\n{pin}\n[hub]\nnode = \"{}\"\n\
                     listen = \"127.0.0.1:{hub_port}\"\n",
                    options.scheme(),
                    options.names[0]
                ),
            };
            let config = config(&options, &servers, &keys, &topic);
            fs::write(&file, config).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        };
        write("");
        if options.https {
            // As a person does it: the hub's machine makes the certificate, and all sites are told its fingerprint.
            write(&format!("fingerprint = \"{}\"\n", hub_fingerprint(&options.tandem, &dir)));
        }

        let (mut nodes, mut links) = (Vec::new(), Vec::new());
        for (site, name) in options.names.iter().enumerate() {
            let mut node = NodeOptions::new(*name, &options.tandem, &dir)
                .args(["run"])
                .env("TANDEM_CONFIG", "tandem.toml")
                .env("TANDEM_NODE", *name)
                .env("NODE_PASSWORD", servers[site].password())
                .env("NODE_HUB_KEY", &keys[site].0)
                // All sites are one machine here, so each gets a port of its own for its pages.
                .env("TANDEM__WEB__LISTEN", format!("127.0.0.1:{}", web_ports[site]));
            if site > 0 {
                let link = match &broker {
                    Some(_) => broker_links.remove(0),
                    None => Link::to(hub_port).await,
                };
                let (key, value) = options.reached(link.port());
                node = node.env(key, value);
                links.push(link);
            }
            node.outlives = options.outlives;
            let node = Node::start(node);
            note_process(&dir, node.process_id(), "a tandem");
            nodes.push(node);
        }
        let mut cluster =
            Self { nodes, servers, cloud, broker, links, web_ports, hub_port, dir, options, _temporary: temporary };
        cluster.wait_until_reading().await;
        cluster
    }

    /// Waits until every running node reads its binlog. What is written before a node's very first reading is not news: it is
    /// what the sites are expected to have in common.
    pub async fn wait_until_reading(&mut self) {
        let ports: Vec<u16> = (0..self.nodes.len()).map(|site| self.web_ports[site]).collect();
        let read = self.wait("all nodes to read their binlog", READING_WITHIN, async |_| {
            for &port in &ports {
                let connected = status(port).await.is_some_and(|status| status["tailer"]["connected"] == true);
                if !connected {
                    return false;
                }
            }
            true
        });
        read.await.unwrap_or_else(|missed| panic!("{missed}"));
    }

    /// What a node says of itself; `None` while it does not answer.
    pub async fn status(&self, site: usize) -> Option<serde_json::Value> {
        status(self.web_ports[site]).await
    }

    /// Where a site's pages are, and its API.
    pub fn web_port(&self, site: usize) -> u16 {
        self.web_ports[site]
    }

    /// Where the hub listens, past the networks that can be cut.
    pub fn hub_port(&self) -> u16 {
        self.hub_port
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The n-th site's server, from 0.
    pub fn server(&self, site: usize) -> &Arc<PrivateServer> {
        &self.servers[site]
    }

    /// The same, to stop or kill it.
    pub fn server_mut(&mut self, site: usize) -> &mut PrivateServer {
        Arc::get_mut(&mut self.servers[site]).expect("nobody else holds the server")
    }

    /// Cuts a site (not the first) off from the hub, in the middle of whatever is on its way.
    pub fn cut(&self, site: usize) {
        self.links[site - 1].cut();
    }

    pub fn mend(&self, site: usize) {
        self.links[site - 1].mend();
    }

    /// Waits for a fact, and gives up early when a node has ended by itself.
    pub async fn wait(
        &mut self,
        what: &str,
        deadline: Duration,
        mut fact: impl AsyncFnMut(&[Arc<PrivateServer>]) -> bool,
    ) -> Result<Duration, String> {
        let mut ended = None;
        let waited = wait_until(what, deadline, async || {
            ended = self.nodes.iter_mut().find_map(|node| Some((node.name().to_owned(), node.log(), node.ended()?)));
            ended.is_some() || fact(&self.servers).await
        })
        .await;
        match ended {
            Some((name, log, status)) => {
                Err(format!("{name} has ended ({status}) while we waited for {what}; its log is {}", log.display()))
            }
            None => waited.map_err(|missed| format!("{missed}{}", self.last_words())),
        }
    }

    /// The ends of the nodes' logs: their directory is gone when a test has failed.
    fn last_words(&self) -> String {
        let mut words = String::new();
        for node in &self.nodes {
            let text = node.log_text();
            let lines: Vec<&str> = text.lines().rev().take(LAST_WORDS).collect();
            words += &format!("\n{} said last:", node.name());
            words.extend(lines.iter().rev().map(|line| format!("\n    {line}")));
        }
        words
    }

    /// Waits until every table has the same rows on all sites, and tells how long that took, or what differs.
    pub async fn wait_until_equal(&mut self, deadline: Duration) -> Result<Duration, String> {
        let start = Instant::now();
        let database = self.options.database;
        let mut difference = None;
        let waited = self.wait("the databases to be equal", deadline, async |servers| {
            difference = None;
            for other in &servers[1..] {
                difference = databases_differ(&servers[0], other, database).await;
                if difference.is_some() {
                    return false;
                }
            }
            true
        });
        waited.await.map_err(|missed| format!("{missed}\n{}", difference.unwrap_or_default()))?;
        Ok(start.elapsed())
    }

    /// What a `tandem` command says on a site: standard output, then standard error.
    pub fn tandem(&self, site: usize, args: &[&str]) -> String {
        let output = self.nodes[site].options().run_once(args);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Where a site's pages are: `http://127.0.0.1:port/`.
    pub fn status_page(&self, site: usize) -> String {
        format!("http://127.0.0.1:{}/", self.web_ports[site])
    }

    /// Ends everything in order, and tells of a node that did not end cleanly.
    pub async fn end(mut self) -> Result<(), String> {
        for node in self.nodes.iter_mut().filter(|node| node.process_id().is_some()) {
            let status = node.terminate().await;
            if !status.success() {
                return Err(format!("{} did not end cleanly: {status}", node.name()));
            }
        }
        for server in std::mem::take(&mut self.servers) {
            if let Some(mut server) = Arc::into_inner(server) {
                server.stop().await;
            }
        }
        Ok(())
    }

    /// Leaves everything running. The networks that could be cut end with this program, so the nodes behind them are started
    /// again with a direct way to the hub.
    pub async fn leave(mut self) -> Result<(), String> {
        assert!(self.options.outlives, "what is to stay must be started so");
        let mut nodes = std::mem::take(&mut self.nodes).into_iter();
        let first = nodes.next().expect("a cluster has a first site");
        for mut node in nodes {
            let status = node.terminate().await;
            if !status.success() {
                return Err(format!("{} did not end cleanly: {status}", node.name()));
            }
            let (key, value) = match &self.broker {
                Some(broker) => ("TANDEM__TOPIC__BROKERS", broker.address()),
                None => self.options.reached(self.hub_port),
            };
            let node = Node::start(node.options().clone().env(key, value));
            note_process(&self.dir, node.process_id(), "a tandem");
            node.leave();
        }
        first.leave();
        if let Some(cloud) = self.cloud.take() {
            cloud.node.leave();
        }
        if let Some(broker) = self.broker.take() {
            broker.leave();
        }
        for server in std::mem::take(&mut self.servers) {
            Arc::into_inner(server).ok_or("a server is still in use")?.leave();
        }
        Ok(())
    }
}

/// What the node with its pages on this port says of itself, by `GET /api/status` as plain as it gets.
pub async fn status(port: u16) -> Option<serde_json::Value> {
    get_json(port, "/api/status", None).await
}

fn place(dir: Option<PathBuf>) -> (PathBuf, Option<tempfile::TempDir>) {
    let Some(dir) = dir else {
        let temporary = tempfile::Builder::new().prefix("tandem-").tempdir();
        let temporary = temporary.unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"));
        return (temporary.path().to_owned(), Some(temporary));
    };
    if dir.exists() {
        fs::remove_dir_all(&dir).unwrap_or_else(|error| panic!("cannot clear {}: {error}", dir.display()));
    }
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot create {}: {error}", dir.display()));
    (dir, None)
}

/// For scripts/clean-services.sh.
fn note_process(dir: &Path, id: Option<u32>, what: &str) {
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

/// What `tandem hub fingerprint` prints, which makes the certificate.
fn hub_fingerprint(tandem: &Path, dir: &Path) -> String {
    let options = NodeOptions::new("hub fingerprint", tandem, dir).env("TANDEM_CONFIG", "tandem.toml");
    let output = options.run_once(&["hub", "fingerprint"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn config(options: &ClusterOptions, servers: &[Arc<PrivateServer>], keys: &[(String, String)], topic: &str) -> String {
    let mut text = String::from("version = 1\ncluster = \"campus\"\n");
    for (site, name) in options.names.iter().enumerate() {
        text += &format!(
            "\n[nodes.{name}]\ndatabase = \"{}/{}\"\npassword_env = \"NODE_PASSWORD\"\nreplica_id = {}\n\
             hub_key_env = \"NODE_HUB_KEY\"\nhub_key_hash = \"{}\"\n",
            servers[site].url(),
            options.database,
            1101 + site,
            keys[site].1
        );
    }
    text + &format!("\n[topic]\n{topic}\n[tables]\ninclude = [\"{}.*\"]\n{}", options.database, options.config)
}
