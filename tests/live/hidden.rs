//! A unique key over what is too long for an index: the server keeps a hash of it in a column that only the binlog shows. Rows of such
//! tables go both ways, their values collide and are settled, and an application's own column of such a name is its own.
//!
//! The first site's binlog names columns, the second's does not.

use std::time::Duration;

use fastrand::Rng;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, ServerOptions};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.pages (id INT PRIMARY KEY, url TEXT UNIQUE, body BLOB, n INT NOT NULL, title VARCHAR(3000), UNIQUE (body, n));
    CREATE TABLE campus.odd (id INT PRIMARY KEY, t TEXT UNIQUE, DB_ROW_HASH_1 BIGINT UNSIGNED);
    CREATE TABLE campus.named (id INT PRIMARY KEY, DB_ROW_HASH_1 BIGINT UNSIGNED);
    CREATE TABLE campus.words (t MEDIUMTEXT NOT NULL UNIQUE, n INT);";
const DEADLINE: Duration = Duration::from_secs(120);
const A: usize = 0;
const B: usize = 1;

fn server(number: u32) -> ServerOptions {
    let binlog_row_metadata = if number == 2 { "NO_LOG" } else { "FULL" };
    ServerOptions { binlog_row_metadata, ..ServerOptions::node(number) }
}

async fn start(schema: &str, config: &str) -> (Cluster, Quiet) {
    let options =
        ClusterOptions { server, config: config.into(), ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", schema) };
    let cluster = Cluster::start(options).await;
    let quiet = Quiet::new(&cluster);
    (cluster, quiet)
}

async fn nothing_is_set_aside(cluster: &Cluster) {
    for server in &cluster.servers {
        let set_aside: Vec<(String, String)> = server.rows("SELECT table_name, reason FROM tandem.dead_letters").await;
        assert_eq!(set_aside, []);
    }
}

async fn equal(cluster: &mut Cluster, quiet: &mut Quiet) {
    quiet.wait(cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    nothing_is_set_aside(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_tables_with_a_hidden_column_go_both_ways() {
    let (mut cluster, mut quiet) = start(SCHEMA, "").await;
    for (site, first) in [(A, 1), (B, 101)] {
        let server = cluster.server(site).clone();
        server
            .query(&format!(
                "USE campus; INSERT INTO pages SELECT seq, CONCAT(REPEAT('u', 4000), seq), IF(seq % 3, CONCAT('b', seq), NULL), seq, 't'
                     FROM seq_{first}_to_{};
                 INSERT INTO odd VALUES ({first}, 'a{first}', {first}), ({first} + 1, NULL, 18446744073709551615), ({first} + 2, 'c{first}', NULL);
                 INSERT INTO named VALUES ({first}, 5), ({first} + 1, NULL);
                 INSERT INTO words VALUES ('w{first}', 1), ('v{first}', 2), ('u{first}', 3);
                 UPDATE pages SET url = NULL WHERE id = {first}; UPDATE pages SET n = n + 1, body = NULL WHERE id = {first} + 1;
                 UPDATE pages SET url = 'short' WHERE id = {first} + 2 AND id < 100; DELETE FROM pages WHERE id = {first} + 3;
                 UPDATE odd SET DB_ROW_HASH_1 = 7 WHERE id = {first} + 2; UPDATE words SET n = 9 WHERE t = 'v{first}';
                 DELETE FROM words WHERE t = 'u{first}'",
                first + 49
            ))
            .await;
    }
    equal(&mut cluster, &mut quiet).await;
    for server in &cluster.servers {
        let odd: Vec<(i32, Option<u64>)> =
            server.rows("SELECT id, DB_ROW_HASH_1 FROM campus.odd WHERE id > 100 ORDER BY id").await;
        assert_eq!(odd, [(101, Some(101)), (102, Some(u64::MAX)), (103, Some(7))]);
        assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.pages").await, Some(98));
        assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.words").await, Some(4));
    }
    // What is changed where it was not made.
    cluster
        .server(A)
        .query("UPDATE campus.pages SET title = 'a' WHERE id > 100; DELETE FROM campus.pages WHERE id > 140")
        .await;
    cluster
        .server(B)
        .query("UPDATE campus.pages SET url = CONCAT('b', id) WHERE id < 100; UPDATE campus.words SET n = n + 1")
        .await;
    equal(&mut cluster, &mut quiet).await;
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_collide_in_a_key_over_long_texts_are_settled_the_same() {
    let (mut cluster, mut quiet) = start(SCHEMA, "").await;
    let one = "INSERT INTO campus.pages VALUES (1, CONCAT(REPEAT('x', 4000), 'é'), 'b', 1, 'earlier')";
    let other = "INSERT INTO campus.pages VALUES (2, CONCAT(REPEAT('X', 4000), 'É'), 'c', 2, 'later')";
    cluster.cut(B);
    cluster.server(A).query(&format!("SET timestamp = UNIX_TIMESTAMP() - 30; {one}")).await;
    cluster.server(B).query(other).await;
    cluster.mend(B);
    equal(&mut cluster, &mut quiet).await;
    let stands: Vec<(i32, String)> = cluster.server(A).rows("SELECT id, title FROM campus.pages").await;
    assert_eq!(stands, [(2, "later".to_owned())]);
    let kept = "SELECT COUNT(*) FROM tandem.conflicts WHERE kind = 'unique_taken' AND INSTR(loser_row, 'earlier') > 0";
    assert_eq!(cluster.server(A).first::<u64>(kept).await, Some(1));

    // Both sides write at random what only one row can hold, without seeing each other.
    let mut dice = Rng::with_seed(13);
    for round in 0..6 {
        quiet.wait(&mut cluster, DEADLINE).await;
        cluster.cut(B);
        for site in [A, B] {
            write(cluster.server(site), &mut dice, round).await;
        }
        cluster.mend(B);
        equal(&mut cluster, &mut quiet).await;
    }
    let settled: Option<u64> =
        cluster.server(A).first("SELECT COUNT(*) FROM tandem.conflicts WHERE kind = 'unique_taken'").await;
    assert!(settled > Some(5), "{settled:?}");
    cluster.end().await.unwrap();
}

async fn write(server: &PrivateServer, dice: &mut Rng, round: u32) {
    let mut sql = "USE campus;".to_owned();
    for _ in 0..25 {
        let (id, value, n) = (dice.u32(1..30), dice.u32(1..12), dice.u32(1..4));
        let url = format!("CONCAT(REPEAT('u', 4000), {value})");
        sql.push_str(&match dice.u32(0..5) {
            0 => format!("DELETE FROM pages WHERE id = {id};"),
            1 => format!("UPDATE IGNORE pages SET url = {url}, title = '{round}' WHERE id = {id};"),
            2 => format!("UPDATE IGNORE pages SET body = 'b{value}', n = {n} WHERE id = {id};"),
            _ => format!("INSERT IGNORE INTO pages VALUES ({id}, {url}, 'b{value}', {n}, 'new {round}');"),
        });
    }
    server.query(&sql).await;
}

/// The server says what a table is like now; its rows are older. An application's own column may have had such a name then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_from_before_a_statement_keep_what_was_an_applications_own() {
    let (mut cluster, mut quiet) = start(SCHEMA, "[ddl]\nsafe = \"apply\"\ndangerous = \"apply\"\n").await;
    cluster
        .server(A)
        .query("INSERT INTO campus.named VALUES (1, 1); INSERT INTO campus.pages VALUES (1, 'a', 'a', 1, 'a')")
        .await;
    equal(&mut cluster, &mut quiet).await;
    cluster.nodes[A].terminate().await;
    cluster
        .server(A)
        .query(
            "USE campus; INSERT INTO named VALUES (2, 18446744073709551615); UPDATE named SET DB_ROW_HASH_1 = 6 WHERE id = 1;
             ALTER TABLE named RENAME COLUMN DB_ROW_HASH_1 TO kept;
             INSERT INTO pages VALUES (2, 'b', 'b', 2, 'b'); UPDATE pages SET url = 'c' WHERE id = 1;
             ALTER TABLE pages ADD COLUMN more INT;
             INSERT INTO pages VALUES (3, 'd', 'd', 3, 'd', 4);
             INSERT INTO odd VALUES (1, 'a', 5); ALTER TABLE odd DROP INDEX t; INSERT INTO odd VALUES (2, 'a', 6);
             CREATE TABLE short (id INT PRIMARY KEY, t TEXT UNIQUE); INSERT INTO short VALUES (1, 'a'); RENAME TABLE short TO lasting;
             INSERT INTO lasting VALUES (2, 'b')",
        )
        .await;
    cluster.nodes[A].restart();
    cluster.wait_until_reading().await;
    equal(&mut cluster, &mut quiet).await;
    let other = cluster.server(B);
    assert_eq!(other.rows::<(i32, u64)>("SELECT id, kept FROM campus.named ORDER BY id").await, [(1, 6), (2, u64::MAX)]);
    assert_eq!(other.rows::<(i32, u64)>("SELECT id, DB_ROW_HASH_1 FROM campus.odd ORDER BY id").await, [(1, 5), (2, 6)]);
    assert_eq!(other.first::<u64>("SELECT COUNT(*) FROM campus.lasting").await, Some(2));
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn such_tables_are_copied_compared_and_repaired() {
    let (mut cluster, mut quiet) = start(SCHEMA, "").await;
    let before = |sql: &str| format!("SET SESSION sql_log_bin = 0; USE campus; {sql}");
    let fill = "INSERT INTO pages SELECT seq, CONCAT(REPEAT('u', 4000), seq), CONCAT('b', seq), 1, 't' FROM seq_1_to_300;
        INSERT INTO odd VALUES (1, 'a', 5)";
    cluster.server(A).query(&before(fill)).await;
    // Of the same value, but of another key; a row that is the same; and one that differs.
    let other = "INSERT INTO pages VALUES (900, CONCAT(REPEAT('U', 4000), 7), 'own', 9, 'b'),
        (8, CONCAT(REPEAT('u', 4000), 8), 'b8', 1, 't'), (9, CONCAT(REPEAT('u', 4000), 9), 'b9', 1, 'differs')";
    cluster.server(B).query(&before(other)).await;
    cluster.tandem(A, &["snapshot", "pages", "odd"]);
    cluster.tandem(B, &["snapshot", "pages", "odd"]);
    equal(&mut cluster, &mut quiet).await;
    let count: Option<u64> = cluster.server(B).first("SELECT COUNT(*) FROM campus.pages WHERE id <= 300 OR id = 900").await;
    assert_eq!(count, Some(300), "two rows wanted one value");
    cluster.tandem(A, &["verify", "pages", "odd"]);

    cluster.server(B).query(&before("UPDATE pages SET url = 'x' WHERE id = 20; UPDATE odd SET DB_ROW_HASH_1 = 6")).await;
    let verify = |more: &[&str]| {
        let args: Vec<&str> = ["verify", "pages", "odd"].iter().chain(more).copied().collect();
        let output = tokio::task::block_in_place(|| cluster.nodes[A].options().run_once(&args));
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = verify(&[]);
    assert!(code == Some(1) && said.contains("url") && said.contains("DB_ROW_HASH_1"), "{said}");
    let (code, said) = verify(&["--repair"]);
    assert_eq!(code, Some(0), "{said}");
    equal(&mut cluster, &mut quiet).await;
    cluster.end().await.unwrap();
}
