//! Rows that were there before the nodes: published by one command while both sides write, and the same everywhere in the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, wait_for};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.towns (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, seats INT NOT NULL, email VARCHAR(60) UNIQUE,
        town INT NULL, updated_at DATETIME(3) NOT NULL, upper_name VARCHAR(40) AS (UPPER(name)) STORED,
        FOREIGN KEY (town) REFERENCES towns (id));
    CREATE TABLE campus.log (line VARCHAR(40));";
const A: usize = 0;
const B: usize = 1;
/// Of the full size, too, in a program that is not optimised.
const DEADLINE: Duration = Duration::from_secs(1_200);
/// Every so many rows are on both sides, and every so many of those differ.
const COMMON: u64 = 10;
const DIFFERS: u64 = 100;

/// `TANDEM_PROVE` asks for the full size.
fn rows() -> u64 {
    if std::env::var_os("TANDEM_PROVE").is_some() { 1_000_000 } else { 20_000 }
}

fn options(schema: &str) -> ClusterOptions {
    let config = "[conflicts.tables]\n\"campus.riders\" = { clock = \"updated_at\" }\n".to_owned();
    ClusterOptions { config, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", schema) }
}

/// As if it had been there before there was a binlog.
async fn exist(server: &PrivateServer, statements: &[String]) {
    let mut conn = server.conn().await;
    conn.query_drop("SET SESSION sql_log_bin = 0").await.unwrap();
    for statement in statements {
        conn.query_drop(statement).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

/// Changes rows at random, some of which may not be there yet on this side, until it is told to end. The pace is that of about
/// a hundred transactions a second.
async fn write(server: &PrivateServer, seed: u64, rows: u64, ended: &AtomicBool) -> u64 {
    let mut dice = Rng::with_seed(seed);
    let mut conn = server.conn().await;
    let mut done = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    while !ended.load(Ordering::Relaxed) {
        pace.tick().await;
        let id = 1 + dice.u64(..rows);
        let sql = match dice.u64(..4) {
            0 => format!("DELETE FROM campus.riders WHERE id = {id}"),
            1 => format!(
                "INSERT INTO campus.riders (id, name, seats, updated_at) VALUES ({}, 'new', {seed}, NOW(3))",
                2 * rows + done * 2 + seed % 2
            ),
            _ => format!("UPDATE campus.riders SET name = 'w{seed}-{done}', updated_at = NOW(3) WHERE id = {id}"),
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

/// Both sides have rows, some the same, some not, and write all the time; the node that publishes is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_filled_sides_become_equal_while_both_write_and_a_node_is_killed() {
    let rows = rows();
    let mut cluster = Cluster::start(options(SCHEMA)).await;
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    let riders = |name: &str, second: u32, of: &str| {
        format!(
            "INSERT INTO campus.riders (id, name, seats, email, town, updated_at)
             SELECT seq, '{name}', 1, CONCAT(seq, '@campus'), 1 + seq % 50, '2026-01-01 00:00:{second:02}' FROM {of}"
        )
    };
    let towns = "INSERT INTO campus.towns SELECT seq, CONCAT('town ', seq) FROM campus.seq_1_to_50".to_owned();
    let common = format!("campus.seq_{COMMON}_to_{rows}_step_{COMMON}");
    let differs = format!("UPDATE campus.riders SET name = 'older', updated_at = '2025-12-31' WHERE id % {DIFFERS} = 0");
    exist(&one, &[towns, riders("there", 5, &format!("campus.seq_1_to_{rows}"))]).await;
    let few = "INSERT INTO campus.towns SELECT seq, CONCAT('town ', seq) FROM campus.seq_1_to_50".to_owned();
    exist(&other, &[few, riders("there", 5, &common), differs]).await;

    let ended = AtomicBool::new(false);
    let kills = async {
        let ask = |cluster: &Cluster, site: usize| cluster.tandem(site, &["snapshot", "riders", "towns", "--no-wait"]);
        for site in [A, B] {
            ask(&cluster, site);
        }
        for share in [20, 50, 80] {
            let port = cluster.web_port(A);
            wait_for("some rows of the snapshot", DEADLINE, async || {
                progress(port).await.is_none_or(|done| done >= rows * share / 100)
            })
            .await;
            cluster.nodes[A].kill9();
            cluster.nodes[A].restart();
            let port = cluster.web_port(A);
            wait_for("the node to answer", DEADLINE, async || crate::harness::status(port).await.is_some()).await;
        }
        for site in [A, B] {
            let port = cluster.web_port(site);
            wait_for("the snapshot's end", DEADLINE, async || progress(port).await.is_none()).await;
        }
        ended.store(true, Ordering::Relaxed);
    };
    let (one_done, other_done, ()) = tokio::join!(write(&one, 1, rows, &ended), write(&other, 2, rows, &ended), kills);
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    println!("{rows} rows, {one_done} and {other_done} transactions meanwhile");

    let older: Option<u64> = one.first("SELECT COUNT(*) FROM campus.riders WHERE name = 'older'").await;
    assert_eq!(older, Some(0), "the clock column decides");
    let kept: BTreeMap<String, u64> =
        other.rows("SELECT kind, COUNT(*) FROM tandem.conflicts GROUP BY kind").await.into_iter().collect();
    // Some of those that differed were written meanwhile.
    let differed = kept.get("insert_exists").copied().unwrap_or_default();
    assert!(differed > rows / DIFFERS / 2 && differed <= rows / DIFFERS, "{kept:?}");
    for server in [&one, &other] {
        let set_aside: Vec<(String, String)> = server.rows("SELECT table_name, reason FROM tandem.dead_letters").await;
        assert_eq!(set_aside, []);
    }
    let listed = cluster.tandem(A, &["snapshot", "--list"]);
    assert!(listed.contains("ended") && listed.contains("done"), "{listed}");
    cluster.end().await.unwrap();
}

/// Rows that the node's open snapshot has done; `None` where none is open.
async fn progress(port: u16) -> Option<u64> {
    let status = crate::harness::status(port).await;
    // A node that does not answer has not ended anything.
    let Some(status) = status else { return Some(0) };
    Some(status["snapshot"].as_object()?["tables"].as_array()?.iter().filter_map(|table| table["rows"].as_u64()).sum())
}

/// Keys of every kind, in chunks: what is read after the last key of a chunk is neither twice there nor left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_every_kind_of_key_are_copied_whole_and_others_are_named() {
    let tables = [
        (
            "two_texts",
            "a VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci, b VARCHAR(20), v INT, PRIMARY KEY (a, b)",
            "CONCAT(IF(seq % 2, 'ä', 'Z'), seq DIV 7), CONCAT('k ', seq % 7), seq",
        ),
        ("decimals", "a DECIMAL(20,6) PRIMARY KEY, v DOUBLE", "(CAST(seq AS SIGNED) - 1500) / 7, seq / 3"),
        (
            "moments",
            "a DATETIME(6), b DATE, v FLOAT, PRIMARY KEY (a, b)",
            "'2026-01-01' + INTERVAL seq DIV 3 MICROSECOND, '1000-01-01' + INTERVAL seq % 3 DAY, seq / 3",
        ),
        ("bytes", "a BINARY(8) PRIMARY KEY, v BLOB", "UNHEX(LPAD(HEX(seq * 7919), 16, '0')), REPEAT(CHAR(seq % 256), 20)"),
        (
            "words",
            // In an order that is not that of their letters.
            "a ENUM('z','','x','y'), b BIGINT UNSIGNED, v JSON, PRIMARY KEY (a, b)",
            "1 + seq % 4, 18446744073709551615 - seq, JSON_OBJECT('n', seq)",
        ),
        ("choices", "a SET('d','c','b','a'), b INT, v INT, PRIMARY KEY (a, b)", "seq % 16, seq, seq"),
        ("floats", "a FLOAT PRIMARY KEY, v BIT(9)", "seq / 3, seq % 512"),
    ];
    let schema: String = tables.iter().map(|(name, columns, _)| format!("CREATE TABLE campus.{name} ({columns});")).collect();
    let schema = format!("CREATE DATABASE campus CHARACTER SET utf8mb4; {schema} CREATE TABLE campus.log (line VARCHAR(40));");
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", &*schema)).await;
    let one = cluster.server(A).clone();
    // More than the first chunk takes.
    let rows = tables.map(|(name, _, values)| format!("INSERT INTO campus.{name} SELECT {values} FROM campus.seq_1_to_5000"));
    exist(&one, &rows).await;
    exist(&one, &["INSERT INTO campus.log VALUES ('a line')".into()]).await;

    let planned = cluster.tandem(A, &["snapshot", "--dry-run"]);
    assert!(planned.contains("campus.log") && planned.contains("no primary key"), "{planned}");
    let part = cluster.tandem(A, &["snapshot", "decimals", "--where", "a < 0 -- the first"]);
    assert_eq!(part, "laptop-a published 1 499 rows of 1 of 1 tables.\n");
    let other = cluster.server(B).clone();
    wait_for("the part to arrive", DEADLINE, async || {
        other.first::<u64>("SELECT COUNT(*) FROM campus.decimals").await == Some(1_499)
    })
    .await;
    for wrong in ["nothing = 3", "1); DROP TABLE campus.floats; --"] {
        let refused = cluster.nodes[A].options().run_once(&["snapshot", "floats", "--where", wrong]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && said.contains("does not understand the condition"), "{said}");
    }
    let all = cluster.nodes[A].options().run_once(&["snapshot"]);
    let said = String::from_utf8_lossy(&all.stdout).into_owned();
    assert_eq!(all.status.code(), Some(1), "{said}");
    assert!(
        said.ends_with("laptop-a published 35 000 rows of 7 of 8 tables.\n") && said.contains("campus.log: it has no"),
        "{said}"
    );
    exist(&other, &["INSERT INTO campus.log VALUES ('a line')".into()]).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let conflicts: Option<u64> = other.first("SELECT COUNT(*) FROM tandem.conflicts").await;
    assert_eq!(conflicts, Some(0));
    cluster.end().await.unwrap();
}

/// Where the other side has an empty database, it gets the tables before their rows, once, and does not send them back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_side_gets_the_tables_and_their_rows() {
    let mut cluster = Cluster::start(options(SCHEMA)).await;
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    exist(&other, &["DROP TABLE campus.riders".into(), "DROP TABLE campus.towns".into()]).await;
    let rows = [
        "INSERT INTO campus.towns SELECT seq, CONCAT('town ', seq) FROM campus.seq_1_to_20",
        "INSERT INTO campus.riders (id, name, seats, town, updated_at)
            SELECT seq, CONCAT('rider ', seq), 1, 1 + seq % 20, NOW(3) FROM campus.seq_1_to_3000",
    ];
    exist(&one, &rows.map(str::to_owned)).await;
    for _ in 0..2 {
        let all = cluster.nodes[A].options().run_once(&["snapshot"]);
        let said = String::from_utf8_lossy(&all.stdout).into_owned();
        assert!(said.contains("published 3 020 rows of 2 of 3 tables."), "{said}");
    }
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let definition = "SHOW CREATE TABLE campus.riders";
    let [made, model]: [Vec<(String, String)>; 2] = [other.rows(definition).await, one.rows(definition).await];
    assert_eq!(made, model);
    // What is there already is not made once more, and not a reason to ask anybody.
    let kept: Vec<(String, u64)> = other.rows("SELECT state, COUNT(*) FROM tandem.schema_changes GROUP BY state").await;
    assert_eq!(kept, [("done".to_owned(), 2)]);
    let kept: Option<u64> = one.first("SELECT COUNT(*) FROM tandem.schema_changes").await;
    assert_eq!(kept, Some(0), "it does not come back");
    other.query("INSERT INTO campus.riders (id, name, seats, town, updated_at) VALUES (9000, 'b', 1, 3, NOW(3))").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.end().await.unwrap();
}
