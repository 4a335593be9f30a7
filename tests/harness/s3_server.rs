//! An S3 server of somebody else: moto, which `make setup` installs below `target/harness`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{Running, free_port, harness_dir, wait_for};

/// It is written in Python, and reads a lot before it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);

/// Whose signature it is does not matter to this server, but not to everybody does it show objects.
const SOMEBODY: &str =
    "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";

/// With one bucket, `pictures`. Takes any key.
pub struct S3Server {
    _running: Running,
    pub address: SocketAddr,
}

impl S3Server {
    pub const BUCKET: &str = "pictures";

    /// A Python that has its packages, Flask among them.
    pub fn python() -> PathBuf {
        let installed = harness_dir().join("s3-server/installed.txt").is_file();
        assert!(installed, "there is no S3 server in {}: `make setup` installs it", harness_dir().join("s3-server").display());
        harness_dir().join("s3-server/bin/python")
    }

    pub async fn start() -> Self {
        let python = Self::python();
        // The client asks for one, encrypted or not.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = free_port();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start("the S3 server", command).unwrap_or_else(|error| panic!("cannot start Python: {error}"));
        let server = Self { _running: running, address: ([127, 0, 0, 1], port).into() };
        wait_for("the S3 server", ANSWERS_WITHIN, async || server.ask(Method::PUT, "").await.is_some()).await;
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of the bucket; `None` where nobody answers.
    async fn ask(&self, method: Method, rest: &str) -> Option<(StatusCode, Vec<u8>)> {
        let url = format!("{}/{}{rest}", self.url(), Self::BUCKET);
        let answer = reqwest::Client::new().request(method, url).header("authorization", SOMEBODY).send().await.ok()?;
        Some((answer.status(), answer.bytes().await.ok()?.to_vec()))
    }

    async fn list(&self, rest: &str, element: &str) -> Vec<String> {
        let (status, body) = self.ask(Method::GET, rest).await.expect("the S3 server answers");
        assert!(status.is_success(), "{rest}: {status}");
        let body = String::from_utf8(body).expect("XML is text");
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let found = body.split(&open).skip(1).filter_map(|rest| rest.split_once(&close));
        found.map(|(text, _)| text.to_owned()).collect()
    }

    /// Keys of all objects.
    pub async fn keys(&self) -> Vec<String> {
        self.list("?list-type=2", "Key").await
    }

    /// Keys of uploads in parts that were begun, and neither finished nor aborted.
    pub async fn unfinished(&self) -> Vec<String> {
        self.list("?uploads", "Key").await
    }

    pub async fn object(&self, key: &str) -> Option<Vec<u8>> {
        let (status, body) = self.ask(Method::GET, &format!("/{key}")).await.expect("the S3 server answers");
        status.is_success().then_some(body)
    }
}
