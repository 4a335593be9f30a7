//! Who takes part: a node is removed, and what it had published counts while nobody waits for it any more.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions, Node, databases_differ, get_text, wait_for};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);";
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const DEADLINE: Duration = Duration::from_secs(120);

/// Rows that the index of a node remembers.
async fn remembered(cluster: &Cluster, site: usize) -> Option<u64> {
    let text = get_text(cluster.web_port(site), "/metrics", None).await?;
    let value = text.lines().find_map(|line| line.strip_prefix("tandem_index_rows "))?;
    value.trim().parse().ok()
}

async fn state(cluster: &Cluster, site: usize, role: &str) -> (String, String) {
    let Some(status) = cluster.status(site).await else { return Default::default() };
    let role = status["roles"].as_array().and_then(|roles| roles.iter().find(|entry| entry["name"] == role).cloned());
    let role = role.unwrap_or_default();
    let text = |key: &str| role[key].as_str().unwrap_or_default().to_owned();
    (text("state"), format!("{} {}", text("reason"), text("hint")))
}

async fn stops(cluster: &Cluster, site: usize, role: &str, words: &str) {
    wait_for(&format!("the {role} to stop: {words}"), DEADLINE, async || {
        let (state, why) = state(cluster, site, role).await;
        state == "stopped" && why.contains(words)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_waited_for_no_longer_and_what_it_had_published_counts() {
    let names = vec!["laptop-a", "laptop-b", "laptop-c"];
    let options = ClusterOptions { names, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    cluster.server(A).query("INSERT INTO campus.riders VALUES (1, 'ann'), (2, 'bob')").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();

    // The one publishes something that only the first has applied when it is lost.
    cluster.cut(B);
    cluster
        .server(C)
        .query("INSERT INTO campus.riders VALUES (3, 'cem'); UPDATE campus.riders SET name = 'bo' WHERE id = 2")
        .await;
    let on = async |cluster: &Cluster, site: usize, sql: &str| cluster.server(site).first::<u64>(sql).await;
    let came = "SELECT COUNT(*) FROM campus.riders WHERE name IN ('cem', 'bo')";
    wait_for("what it wrote", DEADLINE, async || on(&cluster, A, came).await == Some(2)).await;
    cluster.nodes[C].kill9();
    cluster.server(C).query("INSERT INTO campus.riders VALUES (4, 'nobody gets this')").await;
    cluster.server(A).query("INSERT INTO campus.riders SELECT 100 + seq, 'new' FROM campus.seq_1_to_5000").await;
    wait_for("the index to hold them", DEADLINE, async || remembered(&cluster, A).await >= Some(4_000)).await;

    let refused = cluster.tandem(A, &["node", "remove", "laptop-c"]);
    assert!(refused.contains("add --yes"), "{refused}");
    let refused = cluster.tandem(A, &["node", "remove", "laptop-a", "--yes"]);
    assert!(refused.contains("run it on a node that stays"), "{refused}");
    let removed = cluster.tandem(A, &["node", "remove", "laptop-c", "--yes"]);
    assert!(removed.contains("laptop-c is removed"), "{removed}");
    let again = cluster.tandem(A, &["node", "remove", "laptop-c", "--yes"]);
    assert!(again.contains("laptop-c was removed before, by laptop-a"), "{again}");
    let listed = cluster.tandem(A, &["node", "list"]);
    assert!(listed.contains("not all of it is applied on") && listed.contains("laptop-b"), "{listed}");

    // Nobody may forget it before it has all: this one has not.
    let full = std::fs::read_to_string(cluster.dir().join("tandem.toml")).unwrap();
    let (before, rest) = full.split_once("[nodes.laptop-c]").unwrap();
    let without = format!("{before}{}", &rest[rest.find("\n[").unwrap() + 1..]);
    std::fs::write(cluster.dir().join("without.toml"), without).unwrap();
    let too_early = cluster.nodes[B].options().clone().env("TANDEM_CONFIG", "without.toml");
    cluster.nodes[B].terminate().await;
    cluster.mend(B);
    let with_it = std::mem::replace(&mut cluster.nodes[B], Node::start(too_early));
    stops(&cluster, B, "applier", "laptop-c is no longer in [nodes], but").await;
    let found = cluster.tandem(B, &["doctor"]);
    assert!(found.contains("NODES-MEMBERS") && found.contains("put [nodes.laptop-c] back"), "{found}");
    cluster.nodes[B].terminate().await;
    cluster.nodes[B] = with_it;
    cluster.nodes[B].restart();

    wait_for("the two that stay to be equal", DEADLINE, async || {
        databases_differ(cluster.server(A), cluster.server(B), "campus").await.is_none()
    })
    .await;
    for site in [A, B] {
        wait_for("the index to forget", DEADLINE, async || remembered(&cluster, site).await == Some(0)).await;
    }
    assert_eq!(on(&cluster, A, "SELECT COUNT(*) FROM campus.riders").await, Some(5_003));
    wait_for("the list to let it go", DEADLINE, async || {
        cluster.tandem(A, &["node", "list"]).contains("take [nodes.laptop-c] out of the configuration")
    })
    .await;
    let compared = cluster.tandem(A, &["verify"]);
    assert!(compared.contains("All rows are the same."), "{compared}");

    // It comes back, and is told.
    cluster.nodes[C].restart();
    stops(&cluster, C, "tailer", "this node, laptop-c, was removed by laptop-a").await;
    stops(&cluster, C, "applier", "see docs/operations.md, \"Removing a node\"").await;
    cluster.nodes[C].kill9();
    let leaves = |node: &Node| node.options().clone().env("TANDEM_CONFIG", "without.toml");
    for site in [A, B] {
        let options = leaves(&cluster.nodes[site]);
        cluster.nodes[site].terminate().await;
        cluster.nodes[site] = Node::start(options);
    }
    cluster.server(B).query("UPDATE campus.riders SET name = 'after' WHERE id = 3").await;
    wait_for("the two to go on", DEADLINE, async || {
        databases_differ(cluster.server(A), cluster.server(B), "campus").await.is_none()
            && on(&cluster, A, "SELECT COUNT(*) FROM campus.riders WHERE name = 'after'").await == Some(1)
    })
    .await;
    for site in [A, B] {
        wait_for("all to be well", DEADLINE, async || {
            cluster.status(site).await.is_some_and(|status| status["level"] == "good")
        })
        .await;
    }
    cluster.end().await.unwrap();
}
