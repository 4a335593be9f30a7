//! Transactions that are too large for the applier's memory: applied whole, part by part, conflicts among their rows too.

use std::time::Duration;

use crate::capture_memory::peak_mb;
use crate::harness::{Cluster, ClusterOptions};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, email VARCHAR(40) UNIQUE, note VARCHAR(1200) NOT NULL);";
/// Far more than the eight megabytes that may wait in memory.
const ROWS: u64 = 100_000;
const DEADLINE: Duration = Duration::from_secs(180);
const A: usize = 0;
const B: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_larger_than_memory_is_applied_whole_with_its_conflicts() {
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    cluster.cut(B);
    // Neither side knows of the other's rows: some have the same key, one the same e-mail.
    one.query(&format!(
        "INSERT INTO campus.riders SELECT seq, CONCAT(seq, '@a'), REPEAT('a', 1000) FROM campus.seq_1_to_{ROWS}"
    ))
    .await;
    other.query("INSERT INTO campus.riders SELECT seq, CONCAT(seq, '@b'), 'b' FROM campus.seq_1_to_99000_step_9000").await;
    other.query("INSERT INTO campus.riders VALUES (999999, '70000@a', 'b')").await;
    cluster.mend(B);
    cluster.wait_until_equal(DEADLINE).await.unwrap();

    let rows: Option<u64> = other.first("SELECT COUNT(*) FROM campus.riders").await;
    assert_eq!(rows, Some(ROWS), "all but one of the two that want an e-mail");
    for (server, name) in [(&one, "laptop-a"), (&other, "laptop-b")] {
        let set_aside: Option<u64> = server.first("SELECT COUNT(*) FROM tandem.dead_letters").await;
        assert_eq!(set_aside, Some(0), "on {name}");
    }
    let kinds: Vec<(String, u64)> = other.rows("SELECT kind, COUNT(*) FROM tandem.conflicts GROUP BY kind ORDER BY kind").await;
    let count = |kind: &str| kinds.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
    let keys: Vec<(String, String, String)> =
        other.rows("SELECT kind, row_key, winner_origin FROM tandem.conflicts ORDER BY id LIMIT 20").await;
    assert_eq!(count("insert_exists"), 11, "{kinds:?} {keys:?}");
    assert!(count("unique_taken") >= 1, "{kinds:?} {keys:?}");
    // 100,000 records are some 170 megabytes; what the page of activity remembers of as many changes is some 20, and the allocator
    // keeps some 30 for what comes next.
    let peak = peak_mb(cluster.nodes[B].process_id().expect("the node runs"));
    assert!(peak < 150, "the applying node took {peak} MB");
    println!("the applying node took {peak} MB at most");
    cluster.end().await.unwrap();
}
