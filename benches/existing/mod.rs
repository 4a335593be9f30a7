//! A million rows that were there before: carried over by `tandem snapshot`, and by `mariadb-dump | mariadb`; then compared.

use std::process::Command;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use crate::harness::{Cluster, PrivateServer, wait_for};
use crate::load;

const TABLE: &str = "existing";
pub const ROWS: u64 = 1_000_000;
const STATEMENT_ROWS: u64 = 2_000;
const WITHIN: Duration = Duration::from_secs(1_800);

/// Seconds of each.
pub struct Times {
    pub snapshot: f64,
    pub dump: f64,
    pub verify: f64,
}

/// The rows are on the first site alone, and in no binlog.
pub async fn measure(cluster: &Cluster) -> Times {
    let (here, there) = (cluster.server(0).clone(), cluster.server(1).clone());
    let mut conn = here.conn().await;
    conn.query_drop("SET SESSION sql_log_bin = 0").await.expect("the account may");
    for first in (1..=ROWS).step_by(STATEMENT_ROWS as usize) {
        let sql = format!("INSERT INTO bench.{TABLE} {}", load::values(first, STATEMENT_ROWS));
        conn.query_drop(sql).await.expect("rows can be written");
    }
    conn.disconnect().await.expect("a session can be ended");

    there.query("CREATE DATABASE copied").await;
    let dump = Instant::now();
    let from = here.client_command().replacen("mariadb", "mariadb-dump --no-defaults --single-transaction", 1);
    let into = there.client_command().replacen("mariadb", "mariadb --no-defaults", 1);
    let piped = format!("set -o pipefail; {from} bench {TABLE} | {into} copied");
    let status = Command::new("bash").args(["-c", &piped]).status().unwrap_or_else(|error| panic!("cannot run bash: {error}"));
    assert!(status.success(), "mariadb-dump | mariadb ended with {status}");
    let dump = dump.elapsed().as_secs_f64();
    there.query("DROP DATABASE copied").await;

    let snapshot = Instant::now();
    let said = cluster.tandem(0, &["snapshot", TABLE]);
    assert!(said.contains("1 000 000 rows"), "{said}");
    wait_for("all rows there", WITHIN, async || count(&there).await == ROWS).await;
    let snapshot = snapshot.elapsed().as_secs_f64();

    let verify = Instant::now();
    let said = cluster.tandem(0, &["verify", TABLE]);
    assert!(said.ends_with("All rows are the same.\n"), "{said}");
    Times { snapshot, dump, verify: verify.elapsed().as_secs_f64() }
}

/// By the last id first, because to count a million rows takes the server from its work.
async fn count(server: &PrivateServer) -> u64 {
    let last: Option<u64> = server.first(&format!("SELECT 1 FROM bench.{TABLE} WHERE id = {ROWS}")).await;
    if last.is_none() {
        return 0;
    }
    server.first(&format!("SELECT COUNT(*) FROM bench.{TABLE}")).await.unwrap_or_default()
}
