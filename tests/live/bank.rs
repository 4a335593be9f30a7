//! Rows of two tables that one transaction changes are never seen half changed: money goes from one table to the other on
//! both sides, and whoever reads in one transaction, anywhere and at any time, finds all of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, wait_for};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus;
    CREATE TABLE campus.tills (id INT PRIMARY KEY, balance INT NOT NULL);
    CREATE TABLE campus.purses (id INT PRIMARY KEY, balance INT NOT NULL);";
/// Accounts of each site in each table. A site moves money between its own only, so no transfer can lose to another.
const ACCOUNTS: u32 = 10;
const OPENING: i64 = 1000;
const ALL: i64 = 2 * 2 * ACCOUNTS as i64 * OPENING;
const TRANSFERS: usize = 1500;

fn start() -> String {
    let rows: Vec<String> = (0..2 * ACCOUNTS).map(|id| format!("({id}, {OPENING})")).collect();
    let rows = rows.join(", ");
    format!("BEGIN; INSERT INTO campus.tills VALUES {rows}; INSERT INTO campus.purses VALUES {rows}; COMMIT")
}

/// All the money there is, as one transaction sees it; the tables in an order that leaves time in between.
async fn money(conn: &mut Conn) -> i64 {
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.unwrap();
    let mut sum = 0;
    for table in ["tills", "purses"] {
        let part: Option<Option<i64>> =
            conn.query_first(format!("SELECT CAST(SUM(balance) AS SIGNED) FROM campus.{table}")).await.unwrap();
        sum += part.flatten().unwrap_or_default();
    }
    conn.query_drop("COMMIT").await.unwrap();
    sum
}

fn transfer(dice: &mut Rng, site: u32) -> [String; 2] {
    let (amount, mut account) = (dice.i64(-50..50), || site * ACCOUNTS + dice.u32(..ACCOUNTS));
    let halves = [(account(), amount, "tills"), (account(), -amount, "purses")];
    halves.map(|(id, amount, table)| format!("UPDATE campus.{table} SET balance = balance + {amount} WHERE id = {id}"))
}

/// Moves money until it was moved so often, several times in a transaction now and then.
async fn pay(server: &PrivateServer, site: u32, paid: &AtomicUsize) {
    let mut dice = Rng::with_seed(u64::from(site) + 7);
    let mut conn = server.conn().await;
    while paid.load(Ordering::Relaxed) < TRANSFERS {
        let transfers = [1, 1, 1, 4, 20][dice.usize(..5)];
        let statements: Vec<String> = (0..transfers).flat_map(|_| transfer(&mut dice, site)).collect();
        match conn.query_drop(format!("BEGIN; {}; COMMIT", statements.join("; "))).await {
            Ok(()) => _ = paid.fetch_add(transfers, Ordering::Relaxed),
            // The applier was there first.
            Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {
                conn.query_drop("ROLLBACK").await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    conn.disconnect().await.unwrap();
}

/// Counts the money until all is paid; how often it did.
async fn watch(server: &PrivateServer, paid: &[AtomicUsize; 2]) -> usize {
    let mut conn = server.conn().await;
    let mut looks = 0;
    while paid.iter().any(|paid| paid.load(Ordering::Relaxed) < TRANSFERS) {
        assert_eq!(money(&mut conn).await, ALL, "after {looks} looks a transaction was seen in part");
        looks += 1;
    }
    conn.disconnect().await.unwrap();
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_a_transfer_half_done() {
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let mut quiet = Quiet::new(&cluster);
    cluster.server(0).query(&start()).await;
    quiet.wait(&mut cluster, Duration::from_secs(60)).await;

    let paid = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let [one, other] = [cluster.server(0), cluster.server(1)];
    let ((), (), here, there) =
        tokio::join!(pay(one, 0, &paid[0]), pay(other, 1, &paid[1]), watch(one, &paid), watch(other, &paid));
    assert!(here > 50 && there > 50, "{here} and {there} looks do not prove much");
    quiet.wait(&mut cluster, Duration::from_secs(120)).await;
    cluster.wait_until_equal(Duration::from_secs(30)).await.unwrap();
    let mut conn = cluster.server(1).conn().await;
    assert_eq!(money(&mut conn).await, ALL);

    // Half a transfer by itself is noticed there: so the reader would have told.
    for (half, wanted) in [("balance - 5", ALL - 5), ("balance + 5", ALL)] {
        cluster.server(0).query(&format!("UPDATE campus.tills SET balance = {half} WHERE id = 1")).await;
        wait_for("half a transfer to be seen", Duration::from_secs(60), async || money(&mut conn).await == wanted).await;
    }
    conn.disconnect().await.unwrap();
    cluster.end().await.unwrap();
}
