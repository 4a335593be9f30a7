//! A node with a key, in a browser; and the button that feeds the cloud.

use std::path::Path;

use crate::driver::{Browser, SOON};
use crate::harness::{
    CloudServer, FaultyCloud, Node, NodeOptions, PrivateServer, ServerOptions, Step, free_port, get_json, wait_for,
};

const KEY: &str = "a key that is long enough for a page";

/// A node that feeds a cloud once an hour, and its dashboard asks for a key.
struct Alone {
    // In this order: the node ends before what it uses.
    _node: Node,
    _cloud: CloudServer,
    faulty: FaultyCloud,
    server: PrivateServer,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Alone {
    async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let tandem = Path::new(env!("CARGO_BIN_EXE_tandem"));
        let folder = tempfile::Builder::new().prefix("tandem-browser-").tempdir().expect("a temporary directory can be made");
        let server = PrivateServer::start(ServerOptions::node(1)).await;
        server.query("CREATE DATABASE campus").await;
        server.query("CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(200))").await;
        let cloud = CloudServer::start(tandem, folder.path(), false).await;
        let faulty = FaultyCloud::before(([127, 0, 0, 1], cloud.port).into(), script).await;
        let (port, hub) = (free_port(), free_port());
        let key = NodeOptions::new("hub key", tandem, folder.path()).run_once(&["hub", "key"]);
        let said = String::from_utf8_lossy(&key.stdout).into_owned();
        let word = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).expect("it is printed").trim().to_owned();
        let config = format!(
            "version = 1\ncluster = \"campus\"\n[nodes.laptop-a]\ndatabase = \"{}/campus\"\npassword_env = \"NODE_PASSWORD\"\nreplica_id = 1101\n\
             hub_key_env = \"NODE_HUB_KEY\"\nhub_key_hash = \"{}\"\n[topic]\nurl = \"http://127.0.0.1:{hub}\"\n[hub]\nnode = \"laptop-a\"\n\
             listen = \"127.0.0.1:{hub}\"\n[tables]\ninclude = [\"campus.*\"]\n[web]\nlisten = \"127.0.0.1:{port}\"\nkey_env = \"NODE_WEB_KEY\"\n\
             [cloud.main]\nevery = \"1h\"\napi = {{ url = \"{}\", key_file = \"cloud.key\" }}\n[cloud.main.tables]\n\"campus.riders\" = {{}}\n",
            server.url(),
            word("hub_key_hash "),
            faulty.url(),
        );
        std::fs::write(folder.path().join("tandem.toml"), config).expect("the folder can be written to");
        let node = NodeOptions::new("laptop-a", tandem, folder.path())
            .args(["run"])
            .env("TANDEM_CONFIG", "tandem.toml")
            .env("NODE_PASSWORD", server.password())
            .env("NODE_HUB_KEY", word("key "))
            .env("NODE_WEB_KEY", KEY);
        let alone = Self { _node: Node::start(node), _cloud: cloud, faulty, server, port, _folder: folder };
        wait_for("the node to read", SOON, async || {
            alone.status().await.is_some_and(|status| status["tailer"]["connected"] == true)
        })
        .await;
        alone
    }

    async fn status(&self) -> Option<serde_json::Value> {
        get_json(self.port, "/api/status", Some(KEY)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_paused_let_go_on_and_started_anew_by_its_buttons() {
    let Some(browser) = Browser::start_or_say().await else { return };
    let alone = Alone::start([]).await;
    let page = format!("http://127.0.0.1:{}/", alone.port);
    browser.open(&page).await;
    browser.write("input[name=key]", KEY).await;
    browser.keys("\u{e007}").await;
    browser.reads("#sides", "tailer running").await;

    browser.click("button[name=pause][value=tailer]").await;
    browser.reads(".notice:not([hidden])", "The role is paused until somebody resumes it").await;
    browser.reads("#verdict", "The tailer is paused since").await;
    browser.picture("role-paused").await;
    alone.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    // A table that cannot be synced as it is: the role stops where it is let go on.
    alone.server.query("CREATE TABLE campus.log (line INT NOT NULL, UNIQUE KEY (line))").await;
    assert_eq!(alone.status().await.unwrap()["tailer"]["published"], 0, "it is at rest");

    browser.click("button[name=resume][value=tailer]").await;
    browser.reads(".notice:not([hidden])", "The role goes on.").await;
    browser.reads("#verdict", "The tailer is stopped").await;
    browser.reads("#sides", "Start anew").await;
    browser.picture("role-stopped").await;

    alone.server.query("ALTER TABLE campus.log DROP KEY line, ADD PRIMARY KEY (line)").await;
    browser.click("button[name=restart][value=tailer]").await;
    browser.reads(".notice:not([hidden])", "The role is started anew").await;
    wait_for("what waited to be published", SOON, async || {
        alone.status().await.is_some_and(|status| status["tailer"]["published"].as_u64() >= Some(1))
    })
    .await;
    browser.reads("#sides", "tailer running").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_the_key_comes_in_and_a_second_sync_joins_the_first() {
    let Some(browser) = Browser::start_or_say().await else { return };
    // The cloud answers nothing, so that no run is over before somebody joins it.
    let alone = Alone::start(vec![Step::Silence; 200]).await;
    let page = format!("http://127.0.0.1:{}/", alone.port);
    assert!(alone.status().await.is_some());

    browser.open(&format!("{page}cloud")).await;
    assert_eq!(browser.url().await, format!("{page}login?to=/cloud"));
    browser.picture("login").await;
    browser.write("input[name=key]", "a guess").await;
    browser.click("button").await;
    browser.reads("[role=alert]", "This is not the key.").await;
    browser.picture("login-refused").await;
    browser.open(&format!("{page}api/status")).await;
    let refused = browser.text("body").await.unwrap_or_default();
    assert!(refused.contains("a key is needed"), "{refused}");

    browser.open(&format!("{page}cloud")).await;
    browser.write("input[name=key]", KEY).await;
    // As a person does who never touches the mouse: Enter.
    browser.keys("\u{e007}").await;
    browser.reads("h1", "Cloud").await;
    assert_eq!(browser.url().await, format!("{page}cloud"));
    assert_eq!(browser.script("return document.cookie").await, "", "no script sees the cookie");

    alone.server.query("INSERT INTO campus.riders VALUES (1, 'Ann'), (2, 'Bob')").await;
    wait_for("both riders in the topic", SOON, async || {
        alone.status().await.is_some_and(|status| status["tailer"]["published"] == 2)
    })
    .await;
    browser.picture("cloud").await;
    browser.click("section form button").await;
    let first = browser.reads(".notice:not([hidden])", "is under way").await;
    assert!(!first.contains("joined"), "{first}");
    browser.click("section form button").await;
    let second = browser.reads(".notice:not([hidden])", "you joined it").await;
    assert_eq!(first.split('.').next(), second.split(" already").next(), "the same run");
    browser.picture("cloud-joined").await;
    drop(alone.faulty);

    browser.click(".bar form button").await;
    browser.reads("h1", "laptop-a").await;
    browser.open(&format!("{page}conflicts")).await;
    assert_eq!(browser.url().await, format!("{page}login?to=/conflicts"), "signed out");
}
