//! Tables without any key on two real servers: rows by all that they hold, equal ones among them; what cannot be found is kept.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);
    CREATE TABLE campus.log (line VARCHAR(40), size FLOAT, rate DOUBLE, price DECIMAL(20,4), data JSON, raw VARBINARY(10), at TIMESTAMP(3) NULL,
        day DATE, kind ENUM('a','b'), flags BIT(9), name VARCHAR(20) CHARACTER SET latin1, place GEOMETRY, grown YEAR, fixed BINARY(4),
        address INET6, longer INT AS (CHAR_LENGTH(line)) VIRTUAL, kept INT AS (CHAR_LENGTH(name)) STORED,
        changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP);";
const FULL: &str = "INSERT INTO campus.log (line, size, rate, price, data, raw, at, day, kind, flags, name, place, grown, fixed, address) VALUES
    ('full', 1.1, 0.1e0+0.2e0, -12345678901234.5678, '{\"a\": 1.0}', x'00FF27', '2024-03-31 02:30:00.123', '2024-02-29', 'b', b'100000001',
     'Zo\u{eb}', ST_GeomFromText('POINT(1 2)'), 2024, x'0100', '2001:db8::1')";
const DEADLINE: Duration = Duration::from_secs(60);
const A: usize = 0;
const B: usize = 1;

async fn start() -> (Cluster, Quiet) {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let quiet = Quiet::new(&cluster);
    (cluster, quiet)
}

async fn equal(cluster: &mut Cluster, quiet: &mut Quiet) {
    quiet.wait(cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    for server in &cluster.servers {
        assert_eq!(server.rows::<String>("SELECT reason FROM tandem.dead_letters").await, [""; 0]);
    }
}

async fn lines(cluster: &Cluster, site: usize) -> Vec<Option<String>> {
    cluster.server(site).rows("SELECT line FROM campus.log ORDER BY BINARY line").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_rows_and_values_of_many_types_are_carried_one_by_one() {
    let (mut cluster, mut quiet) = start().await;
    // Three of each, NULL in every column of one.
    for _ in 0..3 {
        cluster.server(A).query(FULL).await;
        cluster.server(A).query("INSERT INTO campus.log (line) VALUES (NULL), ('a'), ('A'), ('a ')").await;
    }
    equal(&mut cluster, &mut quiet).await;
    assert_eq!(lines(&cluster, B).await.len(), 15);

    // One of the equal ones, on the other side; rows that only compare equal are left alone.
    let b = cluster.server(B);
    b.query("DELETE FROM campus.log WHERE line = 'full' LIMIT 1").await;
    b.query("SET sql_mode = ''; UPDATE campus.log SET kind = 'none' WHERE line = 'a' LIMIT 1").await;
    b.query("UPDATE campus.log SET size = 2.2, raw = NULL, name = 'Ana' WHERE line = 'full' LIMIT 1").await;
    b.query("DELETE FROM campus.log WHERE BINARY line = 'A'; DELETE FROM campus.log WHERE line IS NULL LIMIT 2").await;
    equal(&mut cluster, &mut quiet).await;
    let left: Vec<Option<String>> = lines(&cluster, A).await;
    let count = |line: Option<&str>| left.iter().filter(|left| left.as_deref() == line).count();
    let counts = [None, Some("A"), Some("a"), Some("a "), Some("full")].map(count);
    assert_eq!(counts, [1, 0, 3, 3, 2], "{left:?}");

    // A session that logs as little as it can logs the whole row here; and in one transaction, each after the one before.
    cluster
        .server(A)
        .query(
            "SET SESSION binlog_row_image=MINIMAL; UPDATE campus.log SET size = 3 WHERE line = 'a' LIMIT 1; BEGIN;
             INSERT INTO campus.log (line) VALUES ('x'); UPDATE campus.log SET line = 'y' WHERE line = 'x';
             INSERT INTO campus.riders VALUES (1, 'ann'); INSERT INTO campus.log (line) VALUES ('x');
             UPDATE campus.log SET line = 'z' WHERE line = 'y'; DELETE FROM campus.log WHERE line = 'x'; COMMIT",
        )
        .await;
    equal(&mut cluster, &mut quiet).await;
    assert!(lines(&cluster, B).await.contains(&Some("z".to_owned())));
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_twice_by_a_node_that_is_killed() {
    let (mut cluster, mut quiet) = start().await;
    for round in 0..5 {
        for number in 0..40 {
            let rows = "('equal', 1.1), ('equal', 1.1)";
            let sql = format!("INSERT INTO campus.log (line, size) VALUES {rows}, ('{round} {number}', 0.3)");
            cluster.server(A).query(&sql).await;
        }
        cluster.server(A).query("DELETE FROM campus.log WHERE line = 'equal' LIMIT 30").await;
        cluster.nodes[B].kill9();
        cluster.nodes[B].restart();
    }
    cluster.wait_until_reading().await;
    equal(&mut cluster, &mut quiet).await;
    let equal: Option<u64> = cluster.server(B).first("SELECT COUNT(*) FROM campus.log WHERE line = 'equal'").await;
    assert_eq!(equal, Some(5 * (80 - 30)));
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_sides_changed_at_once_is_kept_on_both_and_shown() {
    let (mut cluster, mut quiet) = start().await;
    cluster.server(A).query("INSERT INTO campus.log (line, size) VALUES ('both', 1.1), ('gone', 1.1), ('other', 1.1)").await;
    equal(&mut cluster, &mut quiet).await;
    cluster.cut(B);
    for (site, name) in [(A, "a"), (B, "b")] {
        let update = format!("UPDATE campus.log SET line = 'by {name}' WHERE line = 'both'");
        cluster.server(site).query(&format!("{update}; DELETE FROM campus.log WHERE line = 'gone'")).await;
    }
    let others = "INSERT INTO campus.riders VALUES (1, 'ann'); UPDATE campus.log SET line = 'a too' WHERE line = 'other'";
    cluster.server(A).query(others).await;
    cluster.mend(B);
    quiet.wait(&mut cluster, DEADLINE).await;

    let rows = |of: &str| vec![Some("a too".to_owned()), Some(format!("by {of}"))];
    assert_eq!(lines(&cluster, A).await, rows("a"));
    assert_eq!(lines(&cluster, B).await, rows("b"));
    for site in [A, B] {
        let riders: Option<String> = cluster.server(site).first("SELECT name FROM campus.riders").await;
        assert_eq!(riders.as_deref(), Some("ann"), "the others go on");
        let kept: Vec<(String, u32)> = cluster.server(site).rows("SELECT reason, attempts FROM tandem.dead_letters").await;
        assert_eq!(kept.len(), 2, "{kept:?}");
        for (reason, attempts) in kept {
            assert!(reason.contains("campus.log: no row here is equal to the row before the change"), "{reason}");
            assert_eq!(attempts, 1);
        }
        let said = cluster.tandem(site, &["failed", "list"]);
        assert!(said.contains("both") && said.contains("gone") && said.contains("campus.log"), "{said}");
    }
    cluster.end().await.unwrap();
}
