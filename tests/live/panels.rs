//! A real Prometheus that scrapes running nodes: every panel has data, and every alert what it listens to.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cluster, ClusterOptions, Running, found_or_say, free_port, get_json, wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);

const SCHEMA: &str = "CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(80) NOT NULL);";

fn shipped(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Title and query of every panel, with Grafana's own variables filled in.
fn panels() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    let dashboards = ["dashboards/tandem.json", "dashboards/node.json"].map(|file| serde_json::from_str(&shipped(file)));
    let dashboards: Vec<Value> = dashboards.into_iter().map(|read| read.expect("it is JSON")).collect();
    for panel in dashboards.iter().flat_map(|dashboard| dashboard["panels"].as_array().expect("panels are a list")) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query is text");
            let query = query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "10s");
            assert!(!query.contains('$'), "what does Grafana put into {query}?");
            queries.push((panel["title"].as_str().expect("a panel has a title").to_owned(), query));
        }
    }
    queries
}

/// Names of metrics in the alerts' conditions.
fn listened_to() -> BTreeSet<String> {
    let rules = shipped("alerts.yml");
    let words = rules.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("tandem_")).map(str::to_owned).collect()
}

fn encoded(query: &str) -> String {
    query
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

async fn ask(port: u16, query: &str) -> Option<Value> {
    get_json(port, &format!("/api/v1/query?query={}", encoded(query)), None).await
}

/// The number of series that a query finds now; `None` where it is refused or nothing answers.
async fn found(port: u16, query: &str) -> Option<usize> {
    Some(ask(port, query).await?["data"]["result"].as_array()?.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_has_data_and_every_alert_what_it_listens_to() {
    let words = "THE PANELS WERE NOT TESTED";
    let Some(program) = found_or_say("prometheus", words, "TANDEM_REQUIRE_PROMETHEUS") else { return };
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA);
    options.cloud = Some("\"campus.riders\" = {}");
    let mut cluster = Cluster::start(options).await;
    cluster.server(0).query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    cluster.server(1).query("INSERT INTO campus.riders VALUES (2, 'Bob')").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    // Once compared, so that there is an age to tell.
    let said = cluster.tandem(0, &["verify"]);
    assert!(said.contains("the same"), "{said}");

    let folder = tempfile::Builder::new().prefix("tandem-prometheus-").tempdir().expect("a temporary directory can be made");
    let port = free_port();
    let target = |site: usize| cluster.status_page(site).trim_start_matches("http://").trim_end_matches('/').to_owned();
    let config = format!(
        "global:\n  scrape_interval: 1s\nrule_files: [alerts.yml]\nscrape_configs:\n  - job_name: tandem\n    static_configs:\n      \
         - targets: [\"{}\"]\n        labels: {{ instance: laptop-a }}\n      - targets: [\"{}\"]\n        labels: {{ instance: laptop-b }}\n",
        target(0),
        target(1),
    );
    for (name, text) in [("prometheus.yml", &config), ("alerts.yml", &shipped("alerts.yml"))] {
        fs::write(folder.path().join(name), text).expect("the folder can be written to");
    }
    let mut command = Command::new(program);
    command
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", &format!("--web.listen-address=127.0.0.1:{port}")])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Running::start("prometheus", command).expect("it was found");
    wait_for("both nodes to be scraped some times", DEADLINE, async || {
        found(port, "count_over_time(up{job=\"tandem\"}[1m]) > 5 and up == 1").await == Some(2)
    })
    .await;

    let mut empty = Vec::new();
    for (title, query) in panels() {
        // Some have data a few scrapes later than others: what counts changes must have seen it twice.
        let there =
            wait_until(&title, Duration::from_secs(15), async || found(port, &query).await.is_some_and(|series| series > 0));
        if there.await.is_err() {
            empty.push(format!("{title}: {query}"));
        }
    }
    assert!(empty.is_empty(), "panels without data:\n{}", empty.join("\n"));
    for metric in listened_to() {
        assert!(
            found(port, &metric).await.is_some_and(|series| series > 0),
            "an alert listens to {metric}, which says nothing"
        );
    }
    let healthy = get_json(port, "/api/v1/rules", None).await.expect("it answers");
    let rules = healthy["data"]["groups"][0]["rules"].as_array().expect("there are rules");
    assert!(rules.len() > 10 && rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
    // What is shown to be found is found: a query for what is nowhere finds nothing.
    assert_eq!(found(port, "tandem_no_such_metric").await, Some(0));
    cluster.end().await.unwrap();
}
