//! A browser that a test looks at pages with and presses buttons in: Chromium, without a window, over the WebDriver protocol.
//!
//! As much of the protocol as the tests need. Chromium and its driver come with `make setup`; where they are not there, it is said
//! loudly, and the tests fail where TANDEM_REQUIRE_BROWSER=1 is set.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Running, found_or_say, free_port, wait_for};

/// The name under which the protocol hands elements over.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A machine that builds at the same time starts programs slowly.
const READY_WITHIN: Duration = Duration::from_secs(60);

pub const SOON: Duration = Duration::from_secs(60);

pub struct Browser {
    client: reqwest::Client,
    port: u16,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl Browser {
    /// A browser of its own for this test; or `None`, said loudly, where there is none and nobody insists on it.
    pub async fn start_or_say() -> Option<Self> {
        let found = |program| found_or_say(program, "THE DASHBOARD WAS NOT TESTED IN A BROWSER", "TANDEM_REQUIRE_BROWSER");
        let (program, driver) = (found("chromium")?, found("chromedriver")?);
        // All connections of this process use one implementation of cryptography.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let profile = tempfile::Builder::new().prefix("tandem-browser-").tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let mut command = Command::new(driver);
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The driver puts its own files there, too.
        command.env("TMPDIR", profile.path()).env("HOME", profile.path());
        let driver = Running::start("chromedriver", command).expect("chromedriver was found");
        let client = reqwest::Client::builder().no_proxy().timeout(READY_WITHIN).build().expect("a plain client can be made");
        let mut browser = Self { client, port, session: String::new(), _driver: driver, _profile: profile };
        wait_for("chromedriver", READY_WITHIN, async || browser.is_ready().await).await;
        let args = json!([
            "--headless=new",
            // A container has no sandbox to give, and the pages are our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--force-color-profile=srgb",
            "--hide-scrollbars",
            "--no-proxy-server",
            format!("--user-data-dir={}", browser._profile.path().join("profile").display()),
        ]);
        let options = json!({ "binary": program, "args": args });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "browserName": "chrome", "goog:chromeOptions": options } } });
        let begun = browser.order("POST", "", wanted).await;
        browser.session = begun["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {begun}")).to_owned();
        browser.size(1180, 900).await;
        Some(browser)
    }

    pub async fn open(&self, url: &str) {
        self.order("POST", "/url", json!({ "url": url })).await;
    }

    pub async fn size(&self, width: u32, height: u32) {
        self.order("POST", "/window/rect", json!({ "width": width, "height": height })).await;
    }

    /// As wide as a telephone: windows themselves cannot be that narrow.
    pub async fn telephone(&self) {
        self.metrics(json!({ "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": false })).await;
    }

    pub async fn desk(&self) {
        self.order("POST", "/goog/cdp/execute", json!({ "cmd": "Emulation.clearDeviceMetricsOverride", "params": {} })).await;
    }

    /// The elements for which a person would have to scroll sideways; none where all fits.
    pub async fn too_wide(&self) -> String {
        let script = "if (document.documentElement.scrollWidth <= window.innerWidth) return '';
            const wide = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > window.innerWidth);
            return wide.map(e => e.outerHTML.slice(0, 80)).join(' | ') || 'something';";
        self.script(script).await.as_str().unwrap_or_default().to_owned()
    }

    async fn metrics(&self, metrics: Value) {
        let order = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.order("POST", "/goog/cdp/execute", order).await;
    }

    /// By night, or by day.
    pub async fn dark(&self, dark: bool) {
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        let order = json!({ "cmd": "Emulation.setEmulatedMedia", "params": { "features": scheme } });
        self.order("POST", "/goog/cdp/execute", order).await;
    }

    /// Pages are loaded with scripts, or without.
    pub async fn scripts(&self, on: bool) {
        let order = json!({ "cmd": "Emulation.setScriptExecutionDisabled", "params": { "value": !on } });
        self.order("POST", "/goog/cdp/execute", order).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        self.order("GET", "/url", Value::Null).await.as_str().unwrap_or_default().to_owned()
    }

    /// What a person reads in the first such element; `None` where there is none.
    pub async fn text(&self, selector: &str) -> Option<String> {
        let element = self.find(selector).await?;
        let text = self.try_order("GET", &format!("/element/{element}/text"), Value::Null).await.ok()?;
        text.as_str().map(str::to_owned)
    }

    /// As [`Browser::text`], of what must be there in the end.
    pub async fn reads(&self, selector: &str, part: &str) -> String {
        let mut last = None;
        wait_for(&format!("`{part}` in {selector}"), SOON, async || {
            last = self.text(selector).await;
            last.as_ref().is_some_and(|text| text.contains(part))
        })
        .await;
        last.expect("it was just read")
    }

    pub async fn click(&self, selector: &str) {
        let element = self.find(selector).await.unwrap_or_else(|| panic!("there is no {selector} to press"));
        self.order("POST", &format!("/element/{element}/click"), json!({})).await;
    }

    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await.unwrap_or_else(|| panic!("there is no {selector} to write into"));
        self.order("POST", &format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys, wherever the focus is.
    pub async fn keys(&self, keys: &str) {
        let pressed: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        self.order("POST", "/actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": pressed }] })).await;
    }

    /// What this script returns.
    pub async fn script(&self, script: &str) -> Value {
        self.order("POST", "/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The whole page as a picture, in `target/screenshots`.
    pub async fn picture(&self, name: &str) {
        let folder = screenshots();
        // The window as high as the page, so that all of it is in the picture and nothing else.
        let end =
            "return Math.min(4000, Math.ceil(document.body.lastElementChild.getBoundingClientRect().bottom + window.scrollY))";
        let high = self.script(end).await.as_u64().unwrap_or(900);
        let wide = self.script("return window.innerWidth").await.as_u64().unwrap_or(1180);
        self.metrics(json!({ "width": wide, "height": high, "deviceScaleFactor": 1, "mobile": false })).await;
        let picture = self.order("GET", "/screenshot", Value::Null).await;
        self.desk().await;
        let picture = STANDARD.decode(picture.as_str().unwrap_or_default()).expect("a picture comes as base64");
        let file = folder.join(format!("{name}.png"));
        fs::write(&file, picture).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }

    async fn find(&self, selector: &str) -> Option<String> {
        let how = json!({ "using": "css selector", "value": selector });
        let found = self.try_order("POST", "/element", how).await.ok()?;
        found[ELEMENT].as_str().map(str::to_owned)
    }

    async fn is_ready(&self) -> bool {
        let answer = self.client.get(format!("http://127.0.0.1:{}/status", self.port)).send().await;
        let Ok(answer) = answer else { return false };
        answer.json::<Value>().await.is_ok_and(|status| status["value"]["ready"] == true)
    }

    async fn order(&self, method: &str, path: &str, body: Value) -> Value {
        self.try_order(method, path, body).await.unwrap_or_else(|refused| panic!("{method} {path}: {refused}"))
    }

    async fn try_order(&self, method: &str, path: &str, body: Value) -> Result<Value, Value> {
        let session = if self.session.is_empty() { String::new() } else { format!("/{}", self.session) };
        let url = format!("http://127.0.0.1:{}/session{session}{path}", self.port);
        let request = match method {
            "GET" => self.client.get(url),
            _ => self.client.post(url).json(&body),
        };
        let answer = request.send().await.unwrap_or_else(|error| panic!("the driver of the browser is gone: {error}"));
        let success = answer.status().is_success();
        let body: Value = answer.json().await.unwrap_or_else(|error| panic!("the driver talks another language: {error}"));
        if success { Ok(body["value"].clone()) } else { Err(body["value"].clone()) }
    }
}

impl Drop for Browser {
    /// The driver ends the browser when its session ends; killed, it would leave it behind.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return };
        let order = format!("DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", self.session);
        let answered = stream.set_read_timeout(Some(Duration::from_secs(10))).and_then(|()| stream.write_all(order.as_bytes()));
        if answered.is_ok() {
            // Answered when the browser has ended; where it does not answer, there is nothing more to do here.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    }
}

/// Where pictures of the pages go.
pub fn screenshots() -> PathBuf {
    let folder = crate::harness::harness_dir().parent().expect("it lies in the target folder").join("screenshots");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}
