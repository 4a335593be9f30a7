//! Two nodes over a Kafka broker that goes away and comes back; and what others read in its topics.

use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::Value as Json;

use crate::harness::{Cluster, ClusterOptions, kafka_or_say, status};
use crate::topic_command;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, balance DECIMAL(10,2), photo BLOB);";

const SOON: Duration = Duration::from_secs(90);

async fn write(cluster: &Cluster, site: usize, statement: &str) {
    cluster.server(site).conn().await.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_over_a_broker_that_is_killed_and_started_again() {
    if !kafka_or_say() {
        return;
    }
    let options = ClusterOptions { kafka: true, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    write(&cluster, 0, "INSERT INTO campus.riders VALUES (1, 'Ann', 12.50, x'00ff'), (2, 'Bob', NULL, NULL)").await;
    cluster.wait_until_equal(SOON).await.unwrap();
    write(&cluster, 1, "UPDATE campus.riders SET balance = 10 WHERE id = 1").await;
    cluster.wait_until_equal(SOON).await.unwrap();

    // The broker is gone in the middle of things: both go on, nobody ends, and all of it arrives later.
    cluster.broker.as_mut().unwrap().kill9();
    for number in 10..60 {
        let site = number % 2;
        write(&cluster, site, &format!("INSERT INTO campus.riders VALUES ({number}, 'rider {number}', {number}, NULL)")).await;
    }
    write(&cluster, 0, "UPDATE campus.riders SET name = 'Bob of a' WHERE id = 2").await;
    write(&cluster, 1, "DELETE FROM campus.riders WHERE id = 1").await;
    // Both say so, and neither has ended: the wait looks at that too.
    let pages: Vec<u16> = (0..2).map(|site| cluster.web_port(site)).collect();
    let offline = cluster.wait("both nodes to say that the topics are away", SOON, async |_| {
        for &page in &pages {
            if status(page).await.is_none_or(|status| status["links"][0]["state"] != "offline") {
                return false;
            }
        }
        true
    });
    offline.await.unwrap();
    cluster.broker.as_mut().unwrap().start_again().await;
    cluster.wait_until_equal(SOON).await.unwrap();
    let rows: Option<u64> = cluster.server(1).first("SELECT COUNT(*) FROM campus.riders").await;
    assert_eq!(rows, Some(51));
    kcat_reads_our_records(&cluster);
    topic_command::lists_and_reads(&cluster);
    topic_command::tails(&cluster).await;
    cluster.end().await.unwrap();
}

/// kcat, which knows nothing of us, reads both topics from their beginning: keys, Debezium's envelope, our headers.
fn kcat_reads_our_records(cluster: &Cluster) {
    let broker = cluster.broker.as_ref().unwrap().address();
    let mut inserted = 0;
    for origin in ["laptop-a", "laptop-b"] {
        let arguments = ["-C", "-b", &broker, "-t", &format!("campus.{origin}"), "-o", "beginning", "-e", "-q", "-J"];
        let output = Command::new("kcat").args(arguments).output().expect("kcat runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("kcat writes UTF-8");
        let mut marks = 0;
        for line in text.lines() {
            let record: Json = serde_json::from_str(line).expect("a line of JSON");
            let header = |name: &str| {
                let headers = record["headers"].as_array().expect("every record of ours has headers");
                let at = headers.iter().position(|header| header == name);
                at.map(|at| headers[at + 1].as_str().expect("text").to_owned())
            };
            assert_eq!(header("tandem-origin").as_deref(), Some(origin));
            let place = header("tandem-place").expect("every record says where it lies");
            assert!(place.ends_with(&format!("@{}", record["offset"])), "{place} lies at {}", record["offset"]);
            let Some(value) = record["payload"].as_str() else {
                marks += 1;
                continue;
            };
            let value: Json = serde_json::from_str(value).expect("the value is JSON");
            if value["op"] == "heartbeat" {
                continue;
            }
            let key: Json = serde_json::from_str(record["key"].as_str().expect("a change has a key")).expect("JSON");
            assert_eq!(key["table"], "campus.riders");
            let image = if value["op"] == "d" { &value["before"] } else { &value["after"] };
            assert_eq!(key["key"]["id"], image["id"], "{value}");
            assert_eq!(value["source"]["name"], origin);
            inserted += usize::from(value["op"] == "c");
            if value["after"]["name"] == "Ann" && value["op"] == "c" {
                assert_eq!(value["after"]["balance"], "12.50");
                assert_eq!(value["after"]["photo"], "AP8=");
                assert_eq!(header("tandem-base64").as_deref(), Some(r#"{"after":["photo"]}"#));
            }
        }
        assert!(marks >= 1, "the tailer of {origin} left a mark when it began");
    }
    assert_eq!(inserted, 52, "each insert is in one topic, once");
}
