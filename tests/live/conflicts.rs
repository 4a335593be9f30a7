//! Each way in which two writes of a row can meet, on two real servers that do not see each other meanwhile.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions, wait_for};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (name VARCHAR(40) PRIMARY KEY, note VARCHAR(40) NOT NULL, seat INT UNIQUE);";
const DEADLINE: Duration = Duration::from_secs(60);
/// The earlier of two writes.
const BEFORE: &str = "SET timestamp = UNIX_TIMESTAMP() - 30;";

async fn start(config: &str) -> (Cluster, Quiet) {
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA);
    options.config = config.into();
    let cluster = Cluster::start(options).await;
    let quiet = Quiet::new(&cluster);
    (cluster, quiet)
}

/// What both hold after each did its own.
async fn apart(cluster: &mut Cluster, quiet: &mut Quiet, on_a: &str, on_b: &str) -> Vec<(String, String, Option<i32>)> {
    quiet.wait(cluster, DEADLINE).await;
    cluster.cut(1);
    cluster.server(0).query(on_a).await;
    cluster.server(1).query(on_b).await;
    cluster.mend(1);
    quiet.wait(cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.server(0).rows("SELECT name, note, seat FROM campus.riders ORDER BY name").await
}

fn row(name: &str, note: &str, seat: Option<i32>) -> (String, String, Option<i32>) {
    (name.into(), note.into(), seat)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_of_a_delete_and_an_update_stands_on_whichever_side() {
    let (mut cluster, mut quiet) = start("").await;
    let (insert, delete) = ("INSERT INTO campus.riders VALUES ('ann', 'first', 1)", "DELETE FROM campus.riders");
    let update = "UPDATE campus.riders SET note = 'changed'";
    for (number, (on_a, on_b, stands)) in [(delete, update, true), (update, delete, false)]
        .into_iter()
        .flat_map(|(one, other, stands)| [(one, other, stands), (other, one, stands)])
        .enumerate()
    {
        cluster.server(0).query(&format!("DELETE FROM campus.riders; {insert}")).await;
        // The first named of each pair is the earlier one.
        let (on_a, on_b) = match number % 2 {
            0 => (format!("{BEFORE}{on_a}"), on_b.to_owned()),
            _ => (on_a.to_owned(), format!("{BEFORE}{on_b}")),
        };
        let rows = apart(&mut cluster, &mut quiet, &on_a, &on_b).await;
        let expected = if stands { vec![row("ann", "changed", Some(1))] } else { Vec::new() };
        assert_eq!(rows, expected, "{on_a} against {on_b}");
    }
    let kept: Option<u64> = cluster.server(0).first("SELECT COUNT(*) FROM tandem.conflicts").await;
    assert!(kept >= Some(4), "{kept:?}");
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_keys_moved_keys_and_swapped_values_end_the_same() {
    let (mut cluster, mut quiet) = start("").await;
    // The same key, as the collation has it.
    let one = format!("{BEFORE}INSERT INTO campus.riders VALUES ('ann', 'a', NULL)");
    let rows = apart(&mut cluster, &mut quiet, &one, "INSERT INTO campus.riders VALUES ('ANN ', 'b', NULL)").await;
    assert_eq!(rows, [row("ANN ", "b", None)]);
    // A key that moves while the row is changed.
    let one = format!("{BEFORE}UPDATE campus.riders SET name = 'bob', note = 'moved'");
    let rows = apart(&mut cluster, &mut quiet, &one, "UPDATE campus.riders SET note = 'changed'").await;
    assert_eq!(rows, [row("ANN ", "changed", None), row("bob", "moved", None)]);
    // Two rows swap their unique values in one transaction, while another takes one of them.
    let swap = format!("{BEFORE}BEGIN; UPDATE campus.riders SET seat = NULL WHERE name = 'ann'; UPDATE campus.riders SET seat = 1 WHERE name = 'bob';
        UPDATE campus.riders SET seat = 2 WHERE name = 'ann'; COMMIT");
    let seats = "UPDATE campus.riders SET seat = 1 WHERE name = 'ann'; UPDATE campus.riders SET seat = 2 WHERE name = 'bob'";
    cluster.server(0).query(seats).await;
    let rows = apart(&mut cluster, &mut quiet, "UPDATE campus.riders SET seat = NULL WHERE name = 'bob'", "DO 0").await;
    assert_eq!(rows, [row("ANN ", "changed", Some(1)), row("bob", "moved", None)]);
    let rows = apart(&mut cluster, &mut quiet, &swap, "INSERT INTO campus.riders VALUES ('eve', 'new', 2)").await;
    let held: Vec<Option<i32>> = rows.iter().map(|(_, _, seat)| *seat).collect();
    assert!(held == [Some(1), Some(2)] && rows.iter().any(|(name, ..)| name == "eve"), "{rows:?}");
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_policy_manual_the_newest_stands_and_the_conflict_stays_open() {
    let (mut cluster, mut quiet) = start("\n[conflicts]\ndefault = \"manual\"\n").await;
    let one = format!("{BEFORE}INSERT INTO campus.riders VALUES ('ann', 'a', NULL)");
    let rows = apart(&mut cluster, &mut quiet, &one, "INSERT INTO campus.riders VALUES ('ann', 'b', NULL)").await;
    assert_eq!(rows, [row("ann", "b", None)]);
    for server in &cluster.servers {
        assert_eq!(server.rows::<String>("SELECT state FROM tandem.conflicts").await, ["open"]);
    }
    // Somebody decides on one side, and it is decided on both.
    let id: String = cluster.server(0).first("SELECT id FROM tandem.conflicts").await.unwrap();
    let said = cluster.tandem(0, &["conflicts", "settle", &id[..6], "--keep", "loser"]);
    assert_eq!(said, format!("{id}: campus.riders, row with name ann: the row that lost is written again.\n"));
    let settled = "SELECT COUNT(*) FROM tandem.conflicts WHERE state = 'settled' AND settled_at IS NOT NULL";
    for server in cluster.servers.clone() {
        wait_for("the decision", DEADLINE, async || server.first::<u64>(settled).await == Some(1)).await;
    }
    quiet.wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    for server in &cluster.servers {
        let note: Option<String> = server.first("SELECT note FROM campus.riders").await;
        assert_eq!(note.as_deref(), Some("a"), "the row that lost stands now");
    }

    // What had deleted the row deletes it; and a winner that is kept stays.
    let one = format!("{BEFORE}DELETE FROM campus.riders");
    let rows = apart(&mut cluster, &mut quiet, &one, "UPDATE campus.riders SET note = 'c'").await;
    assert_eq!(rows, [row("ann", "c", None)]);
    let open = "SELECT id FROM tandem.conflicts WHERE state = 'open'";
    let id: String = cluster.server(1).first(open).await.unwrap();
    cluster.tandem(1, &["conflicts", "settle", &id, "--keep", "loser"]);
    for server in cluster.servers.clone() {
        wait_for("the row to go", DEADLINE, async || {
            server.first::<u64>("SELECT COUNT(*) FROM campus.riders").await == Some(0)
        })
        .await;
    }
    quiet.wait(&mut cluster, DEADLINE).await;
    let two = format!("{BEFORE}INSERT INTO campus.riders VALUES ('ann', 'd', NULL)");
    apart(&mut cluster, &mut quiet, &two, "INSERT INTO campus.riders VALUES ('ann', 'e', NULL)").await;
    let id: String = cluster.server(0).first(open).await.unwrap();
    cluster.tandem(0, &["conflicts", "settle", &id, "--keep", "winner"]);
    for server in cluster.servers.clone() {
        wait_for("the decision", DEADLINE, async || server.first::<String>(open).await.is_none()).await;
    }
    assert_eq!(cluster.server(0).first::<String>("SELECT note FROM campus.riders").await.as_deref(), Some("e"));

    // Of the row that lost one column is taken; the other stays as the winner wrote it.
    let one = format!("{BEFORE}UPDATE campus.riders SET note = 'f', seat = 5");
    let rows = apart(&mut cluster, &mut quiet, &one, "UPDATE campus.riders SET note = 'g', seat = 6").await;
    assert_eq!(rows, [row("ann", "g", Some(6))]);
    let id: String = cluster.server(0).first(open).await.unwrap();
    let said = cluster.tandem(0, &["conflicts", "settle", &id, "--keep", "loser", "--column", "colour"]);
    assert!(said.contains("has no column `colour`"), "{said}");
    let said = cluster.tandem(0, &["conflicts", "settle", &id, "--keep", "loser", "--column", "seat"]);
    assert_eq!(said, format!("{id}: campus.riders, row with name ann: seat of the row that lost is written again.\n"));
    for server in cluster.servers.clone() {
        wait_for("the seat", DEADLINE, async || {
            let rows: Vec<(String, String, Option<i32>)> = server.rows("SELECT name, note, seat FROM campus.riders").await;
            rows == [row("ann", "g", Some(5))]
        })
        .await;
        wait_for("the decision", DEADLINE, async || server.first::<String>(open).await.is_none()).await;
    }
    cluster.end().await.unwrap();
}
