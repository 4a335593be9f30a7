//! A node that comes back when the topics no longer hold what it has missed, or its binlog is gone, and a third one that joins:
//! seeded by one command, and nothing is lost in silence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use tandem::change::{Offset, OriginId};
use tandem::topic::hub::{Hub as _, HubStore, StoreOptions};

use crate::harness::{Cluster, ClusterOptions, PrivateServer, databases_differ, wait_for};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.towns (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, email VARCHAR(60) UNIQUE, town INT NULL,
        FOREIGN KEY (town) REFERENCES towns (id));
    CREATE TABLE campus.log (line VARCHAR(40));";
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const ROWS: u64 = 12_000;
const DEADLINE: Duration = Duration::from_secs(240);

async fn filled(names: Vec<&'static str>) -> Cluster {
    let options = ClusterOptions { names, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    cluster.server(A).query("INSERT INTO campus.towns SELECT seq, CONCAT('town ', seq) FROM campus.seq_1_to_50").await;
    cluster
        .server(A)
        .query(&format!(
            "INSERT INTO campus.riders SELECT seq, CONCAT('rider ', seq), CONCAT(seq, '@campus'), 1 + seq % 50
             FROM campus.seq_1_to_{ROWS}"
        ))
        .await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster
}

/// What happens on the side that stays: rows change, go and come, and unique values change hands.
const MEANWHILE: &[&str] = &[
    "UPDATE campus.riders SET name = 'meanwhile' WHERE id BETWEEN 10 AND 1500",
    "DELETE FROM campus.riders WHERE id BETWEEN 2000 AND 2300",
    // The other side wrote this row too, perhaps within this second, where its place in the node list would decide.
    "SET STATEMENT timestamp = UNIX_TIMESTAMP() + 2 FOR UPDATE campus.riders SET name = 'a3' WHERE id = 3",
    "UPDATE campus.riders SET email = 'moved@campus' WHERE id = 5000",
    "UPDATE campus.riders SET email = '5000@campus' WHERE id = 4000",
    "UPDATE campus.riders SET town = 1 WHERE town = 50",
    "DELETE FROM campus.towns WHERE id = 50",
    "INSERT INTO campus.riders VALUES (20001, 'new', 'new@campus', 2)",
];

/// As if the records of a node's topic had been kept as long as they are promised, and not longer.
async fn forget(cluster: &mut Cluster, origin: &str) {
    let applied: Option<String> = cluster.server(A).first("SELECT @@gtid_binlog_pos").await;
    let site = cluster.nodes.iter().position(|node| node.name() == origin).unwrap();
    if site == A {
        let end: tandem::change::GtidPosition = applied.unwrap().parse().unwrap();
        let topics = crate::quiet::topics(cluster);
        wait_for("all to be published", DEADLINE, async || {
            use tandem::topic::TopicReader as _;
            let last = topics.extent(&OriginId::new(origin)).await.unwrap().last;
            last.is_some_and(|last| last.position.covers_all(&end))
        })
        .await;
    }
    cluster.nodes[A].terminate().await;
    let store = HubStore::open(&StoreOptions::new(cluster.dir().join("tandem-state").join("hub"))).unwrap();
    let end = store.held(&OriginId::new(origin)).await.unwrap().end;
    let first = store.forget_before(&OriginId::new(origin), end).await.unwrap();
    assert!(first > Offset(ROWS), "the topic of {origin} holds {first}..{end}");
    drop(store);
    cluster.nodes[A].restart();
    answers(cluster, A).await;
}

async fn answers(cluster: &Cluster, site: usize) {
    wait_for("the node to answer", DEADLINE, async || cluster.status(site).await.is_some()).await;
}

async fn stops(cluster: &Cluster, site: usize, role: &str, words: &[&str]) {
    wait_for(&format!("the {role} to stop"), DEADLINE, async || {
        let Some(status) = cluster.status(site).await else { return false };
        let of = status["roles"].as_array().and_then(|roles| roles.iter().find(|entry| entry["name"] == role).cloned());
        let of = of.unwrap_or_default();
        let said = format!("{} {}", of["reason"].as_str().unwrap_or_default(), of["hint"].as_str().unwrap_or_default());
        of["state"] == "stopped" && words.iter().all(|word| said.contains(word))
    })
    .await;
}

/// Runs the command on a site, in a thread of its own, so that others go on meanwhile. It must end well.
async fn reseed(cluster: &Cluster, site: usize, more: &[&str]) -> String {
    let options = cluster.nodes[site].options().clone();
    let args: Vec<String> = ["reseed"].iter().chain(more).map(|&arg| arg.to_owned()).collect();
    let run = move || options.run_once(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A table without a key is named, and its end is 1.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    said
}

/// What people see of it: the status as JSON, the command, the page.
async fn shows_the_seeding(cluster: &Cluster, site: usize) {
    wait_for("the seeding to be told", DEADLINE, async || {
        cluster.status(site).await.is_some_and(|status| status["seeding"]["seeder"] == "laptop-a")
    })
    .await;
    let status = cluster.status(site).await.unwrap();
    let (tables, left) = (status["seeding"]["tables"].as_u64().unwrap(), status["seeding"]["tables_left"].as_u64().unwrap());
    assert!(tables >= 2 && left == tables && status["seeding"]["rows"] == 0, "{status}");
    let said = cluster.tandem(site, &["status"]);
    assert!(said.contains(&format!("seeding from laptop-a: 0 rows so far, {left} of {tables} tables left")), "{said}");
    let page = reqwest::get(cluster.status_page(site)).await.unwrap().text().await.unwrap();
    assert!(page.contains("This node takes over the rows of laptop-a") && page.contains("Tables seeded"), "{page}");
}

async fn count(server: &PrivateServer, what: &str) -> u64 {
    server.first(&format!("SELECT COUNT(*) FROM campus.riders WHERE {what}")).await.unwrap()
}

/// Changes rows that the seeding is about, until it is told to end.
async fn write(server: &PrivateServer, seed: u64, ended: &AtomicBool) -> u64 {
    let mut dice = Rng::with_seed(seed);
    let mut conn = server.conn().await;
    let mut done = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(15));
    while !ended.load(Ordering::Relaxed) {
        pace.tick().await;
        let id = 6_000 + dice.u64(..6_000);
        let sql = match dice.u64(..4) {
            0 => format!("DELETE FROM campus.riders WHERE id = {id}"),
            1 => format!("INSERT INTO campus.riders (id, name) VALUES ({}, 'w{seed}')", 30_000 + done * 2 + seed % 2),
            _ => format!("UPDATE campus.riders SET name = 'w{seed}-{done}' WHERE id = {id}"),
        };
        match conn.query_drop(sql).await {
            Ok(()) => done += 1,
            // The applier was there first.
            Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {}
            Err(error) => panic!("{error}"),
        }
    }
    conn.disconnect().await.unwrap();
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_too_long_is_seeded_and_its_own_writes_are_not_lost() {
    let mut cluster = filled(vec!["laptop-a", "laptop-b"]).await;
    cluster.nodes[B].terminate().await;
    for own in [
        "UPDATE campus.riders SET name = 'b1' WHERE id = 1",
        "DELETE FROM campus.riders WHERE id = 2",
        "UPDATE campus.riders SET name = 'b3' WHERE id = 3",
        "INSERT INTO campus.riders VALUES (9, 'nine', NULL, 1) ON DUPLICATE KEY UPDATE name = 'b9'",
        "INSERT INTO campus.riders VALUES (20009, 'b20009', NULL, 1)",
    ] {
        cluster.server(B).query(own).await;
    }
    for sql in MEANWHILE {
        cluster.server(A).query(sql).await;
    }
    // Statements that it will never hear of.
    cluster.server(A).query("CREATE TABLE campus.bikes (id INT PRIMARY KEY); INSERT INTO campus.bikes VALUES (1)").await;
    cluster.server(A).query("ALTER TABLE campus.towns ADD COLUMN river VARCHAR(20)").await;
    forget(&mut cluster, "laptop-a").await;
    cluster.nodes[B].restart();
    stops(&cluster, B, "applier", &["no longer has offset", "tandem reseed"]).await;
    let shown = reseed(&cluster, B, &["--dry-run"]).await;
    assert!(shown.contains("laptop-a") && shown.contains("campus.log") && !shown.contains("Nothing is missing"), "{shown}");
    assert_eq!(count(cluster.server(B), "name = 'meanwhile'").await, 0, "it only showed");

    let ended = AtomicBool::new(false);
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    let seeding = async {
        let said = reseed(&cluster, B, &["--no-wait"]).await;
        assert!(said.contains("campus.bikes: made as on laptop-a"), "{said}");
        // Nobody tells it the rest of the rows yet, and it shows that it is seeded.
        cluster.tandem(A, &["pause", "tailer"]);
        shows_the_seeding(&cluster, B).await;
        cluster.tandem(A, &["resume", "tailer"]);
        wait_for("some of it", DEADLINE, async || count(&other, "name = 'meanwhile'").await > 0).await;
        cluster.nodes[B].kill9();
        cluster.nodes[B].restart();
        answers(&cluster, B).await;
        let said = reseed(&cluster, B, &[]).await;
        assert!(said.contains("campus.log: not seeded") && said.contains("laptop-b has the"), "{said}");
        assert!(said.contains("campus.towns: not seeded: its columns differ: only laptop-a has river"), "{said}");
        ended.store(true, Ordering::Relaxed);
        said
    };
    let (one_done, other_done, said) = tokio::join!(write(&one, 1, &ended), write(&other, 2, &ended), seeding);
    println!("{said}{one_done} and {other_done} transactions meanwhile");
    // As it says: by hand, and once more. What another node did already is not done again there.
    let by_hand = "ALTER TABLE campus.towns ADD COLUMN river VARCHAR(20)";
    cluster.server(B).query(by_hand).await;
    let said = reseed(&cluster, B, &["--again"]).await;
    assert!(!said.contains("campus.bikes") && !said.contains("campus.towns"), "{said}");
    assert_eq!(cluster.server(B).first::<u64>("SELECT COUNT(*) FROM campus.bikes").await, Some(1));
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();

    for server in [&one, &other] {
        assert_eq!(count(server, "id = 1 AND name = 'b1'").await, 1, "what it wrote while it was away");
        assert_eq!(count(server, "id = 9 AND name = 'b9' OR id = 20009").await, 2);
        assert_eq!(count(server, "id = 2 OR id BETWEEN 2000 AND 2300").await, 0, "what was deleted does not come back");
        assert_eq!(count(server, "id = 3 AND name = 'a3'").await, 1, "the later write stands");
        assert_eq!(count(server, "id = 4000 AND email = '5000@campus' OR id = 5000 AND email = 'moved@campus'").await, 2);
        let set_aside: Vec<(String, String)> = server.rows("SELECT table_name, reason FROM tandem.dead_letters").await;
        assert_eq!(set_aside, []);
    }
    let kept = "SELECT COUNT(*) FROM tandem.conflicts WHERE kind = 'delete_origin_differs' AND winner_row IS NULL
        AND JSON_VALUE(row_key, '$.id') BETWEEN 2000 AND 2300";
    assert_eq!(other.first::<u64>(kept).await, Some(301), "the rows that went are kept");
    let lost = "SELECT COUNT(*) FROM tandem.conflicts WHERE JSON_VALUE(row_key, '$.id') = 3";
    assert_eq!(one.first::<u64>(lost).await, Some(1), "the write that lost is kept");
    assert!(reseed(&cluster, B, &[]).await.contains("Nothing is missing"));
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_binlog_is_gone_keeps_what_may_be_published_nowhere() {
    let mut cluster = filled(vec!["laptop-a", "laptop-b"]).await;
    cluster.nodes[B].terminate().await;
    cluster.server(B).query("UPDATE campus.riders SET name = 'b1' WHERE id = 1").await;
    cluster.server(B).query("INSERT INTO campus.riders VALUES (20009, 'b20009', NULL, 1)").await;
    cluster.server(B).query("RESET MASTER").await;
    cluster.server(B).query("UPDATE campus.riders SET name = 'after' WHERE id = 4").await;
    cluster.server(A).query("UPDATE campus.riders SET name = 'a7' WHERE id = 7").await;
    cluster.nodes[B].restart();
    stops(&cluster, B, "tailer", &["binlog"]).await;
    let output = cluster.nodes[B].options().run_once(&["reseed"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("stop tandem on this node"), "its tailer has the old positions");
    cluster.nodes[B].terminate().await;
    let said = reseed(&cluster, B, &[]).await;
    assert!(said.contains("Start tandem on laptop-b"), "{said}");
    cluster.nodes[B].restart();
    answers(&cluster, B).await;
    reseed(&cluster, B, &[]).await;
    cluster.server(B).query("UPDATE campus.riders SET name = 'b8' WHERE id = 8").await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let (one, other) = (cluster.server(A), cluster.server(B));
    assert_eq!(count(one, "id = 1 AND name = 'rider 1' OR id = 4 AND name = 'rider 4' OR id = 7 AND name = 'a7'").await, 3);
    assert_eq!(count(one, "id = 8 AND name = 'b8'").await, 1, "its history goes on");
    let open: Vec<u64> = other
        .rows("SELECT CAST(JSON_VALUE(row_key, '$.id') AS UNSIGNED) FROM tandem.conflicts WHERE state = 'open' ORDER BY 1")
        .await;
    assert_eq!(open, [1, 4, 7, 20009], "nobody knows of either side's which is newer: each for a person to decide");
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_joins_when_the_topics_no_longer_begin_at_the_beginning() {
    let mut cluster = filled(vec!["laptop-a", "laptop-b", "laptop-c"]).await;
    // It was never there: an empty database, and one row that it alone has.
    cluster.nodes[C].terminate().await;
    cluster
        .server(C)
        .query("DROP DATABASE tandem; SET SESSION sql_log_bin = 0; DELETE FROM campus.riders; DELETE FROM campus.towns")
        .await;
    cluster.server(C).query("INSERT INTO campus.riders VALUES (20003, 'c alone', NULL, NULL)").await;
    for sql in MEANWHILE {
        cluster.server(A).query(sql).await;
    }
    wait_for("the other one to have it", DEADLINE, async || {
        databases_differ(cluster.server(A), cluster.server(B), "campus").await.is_none()
    })
    .await;
    forget(&mut cluster, "laptop-a").await;
    cluster.nodes[C].restart();
    stops(&cluster, C, "applier", &["no longer has offset", "tandem reseed"]).await;
    let ended = AtomicBool::new(false);
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    let seeding = async {
        reseed(&cluster, C, &["--from", "laptop-b"]).await;
        ended.store(true, Ordering::Relaxed);
    };
    let (one_done, other_done, ()) = tokio::join!(write(&one, 1, &ended), write(&other, 2, &ended), seeding);
    println!("{one_done} and {other_done} transactions meanwhile");
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    assert_eq!(count(&one, "id = 20003").await, 1, "what it alone had is everywhere");
    assert_eq!(count(cluster.server(C), "name = 'meanwhile'").await, 1_491);
    cluster.end().await.unwrap();
}
