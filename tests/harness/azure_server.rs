//! A server that speaks Azure's protocol: azurite, which `make setup` installs below `target/harness` where there is npm.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use ring::hmac;

use super::{Running, folder_or_say, free_port, harness_dir, wait_for};

/// It is written in JavaScript, and reads a lot before it answers.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);

/// With one container, `pictures`, of the account that everybody knows.
pub struct AzureServer {
    _running: Running,
    pub address: SocketAddr,
}

impl AzureServer {
    pub const CONTAINER: &str = "pictures";
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// As its documents tell everybody.
    pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// `None`, said loudly, where it is not installed.
    pub async fn start_or_say() -> Option<Self> {
        let place = harness_dir().join("azure-server/node_modules/azurite");
        let folder = place.to_string_lossy().into_owned();
        folder_or_say(&[&folder], "azurite (from npm)", "AZURE WAS NOT TESTED", "TANDEM_REQUIRE_AZURE")?;
        // The client asks for one, encrypted or not.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let port = free_port();
        let mut command = Command::new("node");
        command.arg(place.join("dist/src/blob/main.js"));
        command.args(["--silent", "--inMemoryPersistence", "--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start("the Azure server", command).unwrap_or_else(|error| panic!("cannot start node: {error}"));
        let server = Self { _running: running, address: ([127, 0, 0, 1], port).into() };
        wait_for("the Azure server", ANSWERS_WITHIN, async || {
            let made = server.ask(Method::PUT, "", "restype=container").await;
            made.is_some_and(|(status, _)| status.is_success() || status == StatusCode::CONFLICT)
        })
        .await;
        Some(server)
    }

    /// Where its blobs are, the account in the path, behind this address.
    pub fn endpoint(root: &str) -> String {
        format!("{root}/{}", Self::ACCOUNT)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of the container; `None` where nobody answers.
    async fn ask(&self, method: Method, rest: &str, query: &str) -> Option<(StatusCode, Vec<u8>)> {
        let container = format!("{}/{}", Self::endpoint(&self.url()), Self::CONTAINER);
        let url = format!("{container}{rest}?{query}&{}", may_do_all());
        let answer = reqwest::Client::new().request(method, url).header("content-length", 0).send().await.ok()?;
        Some((answer.status(), answer.bytes().await.ok()?.to_vec()))
    }

    async fn list(&self, more: &str) -> Vec<String> {
        let (status, body) =
            self.ask(Method::GET, "", &format!("restype=container&comp=list{more}")).await.expect("the server answers");
        assert!(status.is_success(), "{more}: {status}");
        let body = String::from_utf8(body).expect("XML is text");
        body.split("<Name>").skip(1).filter_map(|rest| rest.split_once("</Name>")).map(|(name, _)| name.to_owned()).collect()
    }

    /// Names of all blobs.
    pub async fn keys(&self) -> Vec<String> {
        self.list("").await
    }

    /// Names of blobs of which there are parts only.
    pub async fn unfinished(&self) -> Vec<String> {
        let whole = self.keys().await;
        let mut names = self.list("&include=uncommittedblobs").await;
        names.retain(|name| !whole.contains(name));
        names
    }

    pub async fn object(&self, key: &str) -> Option<Vec<u8>> {
        let (status, body) = self.ask(Method::GET, &format!("/{key}"), "timeout=60").await.expect("the server answers");
        status.is_success().then_some(body)
    }
}

/// A signature of the account that lets who asks do everything, for as long as this project lives.
fn may_do_all() -> String {
    let (version, until) = ("2020-08-04", "2099-01-01T00:00:00Z");
    let signed = format!("{}\nrwdlacup\nb\nsco\n\n{until}\n\nhttps,http\n{version}\n", AzureServer::ACCOUNT);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(AzureServer::KEY).expect("it is base64"));
    let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv={version}&ss=b&srt=sco&sp=rwdlacup&se={until}&spr=https,http&sig={signature}")
}
