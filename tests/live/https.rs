//! A cluster whose hub encrypts with a certificate of its own, which the nodes know by its fingerprint.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions};
use crate::topic_command;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);";

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_over_a_hub_that_is_known_by_its_fingerprint() {
    let options = ClusterOptions { https: true, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    cluster.server(0).query("INSERT INTO campus.riders VALUES (1, 'Ann'), (2, 'Bob')").await;
    cluster.server(1).query("INSERT INTO campus.riders VALUES (3, 'Cem')").await;
    cluster.wait_until_equal(SOON).await.unwrap();
    cluster.server(0).query("UPDATE campus.riders SET name = 'Bea' WHERE id = 2").await;
    cluster.wait_until_equal(SOON).await.unwrap();
    topic_command::lists_and_reads(&cluster);
    topic_command::tails(&cluster).await;

    // The node that keeps the hub says what the others must pin, as the command does.
    let fingerprint = cluster.tandem(0, &["hub", "fingerprint"]).trim().to_owned();
    assert!(fingerprint.starts_with("sha256:"), "{fingerprint}");
    let log = cluster.nodes[0].log_text();
    assert!(log.lines().any(|line| line.contains("hub starts") && line.contains(&fingerprint)), "{log}");

    // Another fingerprint than the hub's: a node is told nothing, and tells nothing.
    let other = format!("sha256:{}", "0".repeat(64));
    let stranger = cluster.nodes[1].options().clone().env("TANDEM__TOPIC__FINGERPRINT", &other);
    let output = stranger.run_once(&["topic", "list"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&fingerprint) && said.contains(&other) && said.contains("nothing was sent"), "{said}");
    // And plain HTTP does not reach it.
    let plain =
        cluster.nodes[0].options().clone().env("TANDEM__TOPIC__URL", format!("http://127.0.0.1:{}", cluster.hub_port()));
    let output = plain.run_once(&["topic", "list"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    cluster.end().await.unwrap();
}
