//! Secrets are planted wherever a node can have one, and nothing that it says, shows, writes or logs holds any of them.
//!
//! The routes are those of docs/node-api.yaml and the screens those that the pages lead to, so that a new one is looked at by itself.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Cluster, ClusterOptions, Node, NodeOptions, get_json, wait_for};

const SCHEMA: &str = "CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(80));";

const WITHIN: Duration = Duration::from_secs(90);

const PASSWORD: &str = "planted-password-of-the-database";
const WEB_KEY: &str = "planted-key-of-the-pages-and-long-enough";
const ENCRYPT_KEY: &str = "cGxhbnRlZCBrZXkgdGhhdCBlbmNyeXB0cyB2YWx1ZXM=";
const WRONG_KEY: &str = "planted-key-that-is-wrong";
/// No secret, but a row: it may be shown to who signs in, and is in no log, metric, finding or bundle.
const ROW: &str = "planted-name-of-a-rider";

/// What was said, and where.
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Places that hold one of these, as it is or in base64.
    fn places(&self, planted: &[String]) -> BTreeSet<String> {
        let forms: Vec<String> = planted.iter().flat_map(|word| [word.clone(), STANDARD.encode(word)]).collect();
        let holds = |text: &str| forms.iter().position(|form| text.contains(form.as_str()));
        let hit = |(place, text): &(String, String)| holds(text).map(|form| format!("{place}: {}", planted[form / 2]));
        self.0.iter().filter_map(hit).collect()
    }
}

/// Each path with its method, and something in place of its parameters.
fn routes() -> Vec<(String, String)> {
    let description = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/node-api.yaml");
    let text = fs::read_to_string(description).expect("the description is there");
    let (mut path, mut routes) = (String::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("  /") {
            path = format!("/{}", name.trim_end_matches(':'));
            for (parameter, value) in [("{id}", "1"), ("{number}", "1"), ("{role}", "web"), ("{name}", "main")] {
                path = path.replace(parameter, value);
            }
        } else if let Some(method) = ["get", "post", "put", "delete"].iter().find(|method| line == format!("    {method}:")) {
            routes.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(routes.len() > 25 && routes.iter().all(|(_, path)| !path.contains('{')), "{routes:?}");
    routes
}

async fn ask(client: &reqwest::Client, method: &str, url: &str, key: Option<&str>) -> (u16, String) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let mut request = client.request(method.clone(), url).timeout(WITHIN);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    if method != reqwest::Method::GET {
        request = request.header("Content-Type", "application/json").body("{}");
    }
    let answer = request.send().await.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    let (code, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
    (code, headers + &answer.text().await.expect("answers are text"))
}

/// Every page that a page leads to, from the first on.
async fn pages(client: &reqwest::Client, base: &str, said: &mut Said) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec!["/".to_owned(), "/settings?doctor=1".to_owned(), "/login".to_owned()]);
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let (code, text) = ask(client, "GET", &format!("{base}{path}"), Some(WEB_KEY)).await;
        assert_eq!(code, 200, "{path}");
        let links = text.split("href=\"/").skip(1).filter_map(|rest| rest.split('"').next());
        let links = links.map(|link| format!("/{}", link.split('#').next().unwrap_or_default().replace("&amp;", "&")));
        open.extend(links.filter(|link| seen.len() < 200 && !link.starts_with("//")));
        said.add(format!("page {path}"), text);
    }
    seen
}

/// A file of secrets that only its owner may read.
fn keep(file: &Path, text: &str) {
    fs::write(file, text).expect("the folder can be written to");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

/// The first node, with a secret of each kind from a file or the environment, logging all there is.
fn planted(cluster: &Cluster) -> NodeOptions {
    let file = cluster.dir().join("tandem.toml");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let text = text
        .replacen("password_env = \"NODE_PASSWORD\"", "password_file = \"laptop-a.password\"", 1)
        .replace("\"campus.riders\" = {}", "\"campus.riders\" = { encrypt = [\"name\"] }")
        .replace("[cloud.main]\n", "[cloud.main]\nencrypt_key_env = \"ENCRYPT_KEY\"\n");
    fs::write(cluster.dir().join("planted.toml"), text + "\n[web]\nkey_env = \"WEB_KEY\"\n")
        .expect("the folder can be written to");
    keep(&cluster.dir().join("laptop-a.password"), PASSWORD);
    let mut options = cluster.nodes[0].options().clone();
    options.name = "planted".into();
    options
        .env("TANDEM_CONFIG", "planted.toml")
        .env("WEB_KEY", WEB_KEY)
        .env("ENCRYPT_KEY", ENCRYPT_KEY)
        .env("TANDEM_LOG", "trace")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_secrets_are_in_nothing_that_a_node_says() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut cluster = Cluster::start(ClusterOptions {
        https: true,
        cloud: Some("\"campus.riders\" = {}"),
        ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)
    })
    .await;
    for node in &mut cluster.nodes {
        node.terminate().await;
    }
    let options = planted(&cluster);
    cluster.server(0).query(&format!("ALTER USER tandem@'%' IDENTIFIED BY '{PASSWORD}'")).await;
    let hub_key = options.env.iter().find(|(name, _)| name == "NODE_HUB_KEY").expect("it has one").1.clone();
    let cloud_key = cluster.cloud.as_ref().expect("it feeds one").key.clone();
    let certificate_key = fs::read_dir(cluster.dir().join("tandem-state/hub/tls")).expect("the hub encrypts");
    let certificate_key = certificate_key.map(|entry| fs::read_to_string(entry.expect("a file").path()).unwrap_or_default());
    let certificate_key =
        certificate_key.filter(|text| text.contains("PRIVATE KEY")).find_map(|text| text.lines().nth(1).map(str::to_owned));
    let certificate_key = certificate_key.expect("a certificate has a key");
    let mut secrets = [PASSWORD, WEB_KEY, ENCRYPT_KEY, WRONG_KEY].map(str::to_owned).to_vec();
    secrets.extend([hub_key, cloud_key, certificate_key]);

    let mut said = Said(Vec::new());
    let (port, base) = (cluster.web_port(0), format!("http://127.0.0.1:{}", cluster.web_port(0)));
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    for format in ["text", "json"] {
        let mut options = options.clone().args(["--log-format", format]);
        options.name = format!("planted-{format}");
        let mut node = Node::start(options.clone());
        // That the secrets are in use: it logs in, reads, and lets in who has the key.
        let what = format!("the node with planted secrets to feed its cloud ({format})");
        wait_for(&what, WITHIN, async || {
            let status = get_json(port, "/api/status", Some(WEB_KEY)).await.unwrap_or_default();
            status["tailer"]["connected"] == true && status["clouds"][0]["state"] == "idle"
        })
        .await;
        let id = if format == "text" { 1 } else { 2 };
        cluster.server(0).query(&format!("INSERT INTO campus.riders VALUES ({id}, '{ROW}')")).await;
        let cloud = cluster.cloud.as_ref().expect("it feeds one");
        wait_for("the row in the cloud", WITHIN, async || cloud.rows("riders").await == Some(id)).await;

        for (method, path) in routes() {
            let (code, text) = ask(&client, &method, &format!("{base}{path}"), Some(WEB_KEY)).await;
            assert!(code != 401 && code < 500, "{method} {path}: {code} {text}");
            said.add(format!("{method} {path}"), text);
        }
        let seen = pages(&client, &base, &mut said).await;
        assert!(
            ["/activity", "/conflicts", "/failed", "/tables", "/cloud", "/settings"].iter().all(|page| seen.contains(*page)),
            "{seen:?}"
        );
        let bundle = format!("{format}.tar.gz");
        for args in [
            &["config", "show"][..],
            &["config", "check"],
            &["doctor"],
            &["doctor", "--json"],
            &["doctor", "--save", "planted.facts"],
            &["status", "--json"],
            &["position", "--json"],
            &["where", "riders", "1"],
            &["sync", "--only", "cloud", "--json"],
            &["bundle", "--output", &bundle],
        ] {
            let options = options.clone();
            let args: Vec<String> = args.iter().map(|arg| arg.to_string()).collect();
            let ran = tokio::task::spawn_blocking(move || {
                let words: Vec<&str> = args.iter().map(String::as_str).collect();
                (format!("tandem {}", words.join(" ")), options.run_once(&words))
            });
            let (name, output) = ran.await.expect("a command ends");
            let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.code().is_some_and(|code| code != 2), "{name}: {text}");
            said.add(name, text);
        }
        // Last: after twenty wrong keys none is looked at for a while, the right one neither.
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let sign_in = client.post(format!("{base}/login")).header(form.0, form.1).body(format!("key={WRONG_KEY}&to=%2F"));
        let sign_in = sign_in.send().await;
        said.add("POST /login", sign_in.expect("it answers").text().await.expect("text"));

        for ((method, path), key) in routes().into_iter().flat_map(|route| [(route.clone(), None), (route, Some(WRONG_KEY))]) {
            let (code, text) = ask(&client, &method, &format!("{base}{path}"), key).await;
            assert!(path == "/healthz" || path == "/readyz" || code == 401 || code == 429, "{method} {path}: {code}");
            said.add(format!("{method} {path} without the right key"), text);
        }
        let packed = fs::read(cluster.dir().join(&bundle)).expect("it was packed");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("it is whole");
        said.add("what the bundle holds", String::from_utf8_lossy(&unpacked));
        said.add("the facts", fs::read_to_string(cluster.dir().join("planted.facts")).expect("they were written"));
        node.terminate().await;
        assert!(node.log_text().len() > 10_000, "it logged at trace");
        said.add(format!("the log ({format})"), node.log_text());
    }

    // Refused settings that hold a secret where none belongs.
    for (name, value) in [
        ("TANDEM__NODES__LAPTOP_A__DATABASE", format!("mysql://tandem:{PASSWORD}@127.0.0.1/campus")),
        ("TANDEM__NODES__LAPTOP_A__DATABASE", format!("mysql://tandem@127.0.0.1/campus?password={PASSWORD}")),
        ("TANDEM__NODES__LAPTOP_A__HUB_KEY_ENV", format!("{PASSWORD} !")),
        ("TANDEM__TOPIC__URL", format!("https://me:{PASSWORD}@127.0.0.1:7421")),
        ("TANDEM__TOPIC__URL", format!("https://127.0.0.1:7421/?key={PASSWORD}")),
        ("TANDEM__CLOUD__MAIN__API__URL", format!("https://me:{PASSWORD}@127.0.0.1/api")),
        ("TANDEM__CLOUD__MAIN__API__URL", format!("https://127.0.0.1/api?key={PASSWORD}")),
        ("TANDEM__CLOUD__MAIN__API__KEY_ENV", format!("{PASSWORD} !")),
    ] {
        let output = options.clone().env(name, value).run_once(&["config", "check"]);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        said.add(format!("config check with {name}"), text);
    }
    // A password that the server refuses, and a key that the hub does.
    for (name, wrong) in [("NODE_HUB_KEY", WRONG_KEY), ("TANDEM__NODES__LAPTOP_A__PASSWORD_FILE", "wrong.password")] {
        keep(&cluster.dir().join("wrong.password"), WRONG_KEY);
        let output = options.clone().env(name, wrong).run_once(&["doctor"]);
        said.add(format!("doctor with another {name}"), String::from_utf8_lossy(&output.stdout));
    }

    let leaks = said.places(&secrets);
    assert!(leaks.is_empty(), "{leaks:#?}");
    let shows_rows =
        |place: &str| place.starts_with("page ") || place.starts_with("tandem where") || place.contains("/api/conflicts");
    said.0.retain(|(place, _)| !shows_rows(place));
    let rows = said.places(&[ROW.to_owned()]);
    assert!(rows.is_empty(), "{rows:#?}");
    // And it would have been found: as it is, and in base64.
    said.add("a leak", format!("password={PASSWORD}"));
    said.add("another", STANDARD.encode(WEB_KEY));
    assert_eq!(said.places(&secrets).len(), 2);
}
