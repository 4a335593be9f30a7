//! A receiver as a person starts it: `tandem cloud-server`, and a key to it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Node, NodeOptions, free_port, wait_for};

const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// How it is started.
#[derive(Clone, Debug, Default)]
pub struct CloudServerOptions {
    /// More arguments, and what is in its environment for them.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// It lives on after this program ends.
    pub outlives: bool,
}

pub struct CloudServer {
    pub node: Node,
    pub port: u16,
    pub key: String,
}

impl CloudServer {
    /// With its data in `cloud` below the folder, and the key in the file `cloud.key` there.
    pub async fn start(tandem: &Path, folder: &Path, outlives: bool) -> Self {
        Self::start_with(tandem, folder, CloudServerOptions { outlives, ..CloudServerOptions::default() }).await
    }

    pub async fn start_with(tandem: &Path, folder: &Path, wanted: CloudServerOptions) -> Self {
        let mut options = NodeOptions::new("cloud-server", tandem, folder);
        options.outlives = wanted.outlives;
        options.env = wanted.env;
        let said = String::from_utf8_lossy(&options.run_once(&["cloud-server", "key"]).stdout).into_owned();
        let word = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("`tandem cloud-server key` printed no `{name}`: {said}")).trim().to_owned()
        };
        let (key, hash, port) = (word("key"), word("hash"), free_port());
        let file = folder.join("cloud.key");
        std::fs::write(&file, &key).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        let listen = format!("127.0.0.1:{port}");
        let known = format!("laptops={hash}");
        let args = ["cloud-server", "--listen", &listen, "--data", "cloud", "--key", &known];
        let node = Node::start(options.args(args).args(wanted.args));
        let server = Self { node, port, key };
        wait_for("the cloud server", ANSWERS_WITHIN, async || server.get("sync-status").await.is_some()).await;
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api", self.port)
    }

    /// A configuration that feeds it, all the time. `tables` are lines below `[cloud.main.tables]`.
    pub fn config(&self, tables: &str) -> String {
        let api = format!("api = {{ url = \"{}\", key_file = \"cloud.key\" }}", self.url());
        format!("\n[cloud.main]\ncontinuous = true\nbatch_age = \"100ms\"\n{api}\n[cloud.main.tables]\n{tables}\n")
    }

    /// What it answers to `GET /api/…`; `None` where that is no success.
    pub async fn get(&self, path: &str) -> Option<Value> {
        get_json(self.port, &format!("/api/{path}"), Some(&self.key)).await
    }

    /// The bytes of a file, by the address that the cloud gave it: `/api/files/…`.
    pub async fn fetch(&self, url: &str) -> Option<Vec<u8>> {
        get_bytes(self.port, url, Some(&self.key)).await
    }

    /// How many rows of the resource it has.
    pub async fn rows(&self, resource: &str) -> Option<u64> {
        self.get("sync-status").await?["rows"][resource].as_u64()
    }
}

/// `GET` as plain as it gets; `None` where the answer is no success, or no JSON.
pub async fn get_json(port: u16, path: &str, key: Option<&str>) -> Option<Value> {
    serde_json::from_slice(&get_bytes(port, path, key).await?).ok()
}

/// The same, of something that is text.
pub async fn get_text(port: u16, path: &str, key: Option<&str>) -> Option<String> {
    String::from_utf8(get_bytes(port, path, key).await?).ok()
}

async fn get_bytes(port: u16, path: &str, key: Option<&str>) -> Option<Vec<u8>> {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{key}\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let success = answer.split(|byte| *byte == b' ').nth(1)?.starts_with(b"2");
    success.then(|| answer.split_off(body))
}
