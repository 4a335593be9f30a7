//! `make bench`: how long a commit takes to the other side, and how many rows a second go across, beside MariaDB's own
//! replication on the same servers in the same run.
//!
//! Prints a table and writes `target/bench/summary.json`, flat: name to number. Not a test: nothing here fails for being slow.

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Cluster, ClusterOptions, PrivateServer, ServerOptions, Sync, harness_dir, wait_for};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Single-row commits whose way is timed, one after the other, in each direction.
const CROSSINGS: u64 = 300;
/// Rows of one stream, and of one of its transactions.
const STREAM_ROWS: u64 = 60_000;
const TRANSACTION_ROWS: u64 = 50;
/// Transactions of one row in a stream.
const SINGLES: u64 = 10_000;
/// Connections that write a stream: a server groups their commits into fewer flushes.
const WRITERS: u64 = 4;
/// Streams of each kind; the median counts.
const REPEATS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(300);

const A: usize = 0;
const B: usize = 1;

/// Rows of about 120 bytes, as a booking has them. A table for each of the two that are compared.
const SCHEMA: &str = "CREATE DATABASE bench; USE bench; \
    CREATE TABLE tandem (id BIGINT PRIMARY KEY, rider INT NOT NULL, place VARCHAR(80) NOT NULL, fare DECIMAL(8,2) NULL, \
    state ENUM('requested','completed') NOT NULL, at DATETIME(6) NOT NULL, note VARCHAR(200) NULL, KEY at (at)); \
    CREATE TABLE native LIKE tandem;";

#[tokio::main]
async fn main() {
    // `cargo test --benches` starts this too, and wants nothing measured.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let local = tokio::task::LocalSet::new();
    local.run_until(measure()).await;
}

async fn measure() {
    let cluster = Cluster::start(ClusterOptions {
        server: |number| {
            let server = ServerOptions { sync: Sync::EachCommit, ..ServerOptions::node(number) };
            server.arg("--innodb-buffer-pool-size=256M").arg("--innodb-log-file-size=256M").arg("--max-binlog-size=1G")
        },
        ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "bench", SCHEMA)
    });
    let mut cluster = cluster.await;
    let mut results = Results::default();
    let (one, other) = (cluster.servers[A].clone(), cluster.servers[B].clone());
    cross(&one, &other, "tandem", 0).await; // Until the first row is across, starting is measured.

    println!("Tandem …");
    run(&mut results, "tandem", &one, &other).await;
    cluster.nodes[B].terminate().await;
    write(&one, "tandem", Stream::bulk(90)).await;
    let start = Instant::now();
    cluster.nodes[B].restart();
    seen(&other, "tandem", 90).await;
    results.put("tandem_catch_up_rows_per_s", STREAM_ROWS as f64 / start.elapsed().as_secs_f64());
    for (site, name) in [(A, "tandem_memory_peak_hub_mb"), (B, "tandem_memory_peak_mb")] {
        results.put(name, cluster.nodes[site].process_id().and_then(memory_peak_mb).unwrap_or_default());
    }
    for node in &mut cluster.nodes {
        node.terminate().await;
    }

    println!("MariaDB's own replication …");
    replicate(&one, &other).await;
    replicate(&other, &one).await;
    run(&mut results, "native", &one, &other).await;
    other.query("STOP SLAVE").await;
    write(&one, "native", Stream::bulk(90)).await;
    let start = Instant::now();
    other.query("START SLAVE").await;
    seen(&other, "native", 90).await;
    results.put("native_catch_up_rows_per_s", STREAM_ROWS as f64 / start.elapsed().as_secs_f64());

    results.print();
    results.save();
    drop((one, other));
    cluster.end().await.expect("everything ends cleanly");
}

/// All that is measured of either.
async fn run(results: &mut Results, who: &str, one: &Arc<PrivateServer>, other: &Arc<PrivateServer>) {
    let mut delays = Vec::new();
    for n in 0..CROSSINGS {
        delays.push(cross(one, other, who, 1 + 2 * n).await);
        delays.push(cross(other, one, who, 2 + 2 * n).await);
    }
    delays.sort();
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    results.put(format!("{who}_commit_to_visible_p50_ms"), at(0.5));
    results.put(format!("{who}_commit_to_visible_p99_ms"), at(0.99));

    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..REPEATS as u64 {
        let streams =
            [Stream::bulk(10 + round), Stream::singles(20 + round), Stream::bulk(30 + round), Stream::bulk(40 + round)];
        for (name, stream) in [("one_way_rows_per_s", streams[0]), ("one_row_transactions_per_s", streams[1])] {
            let start = Instant::now();
            write(one, who, stream).await;
            seen(other, who, stream.number).await;
            rates.entry(name).or_default().push(stream.rows as f64 / start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        tokio::join!(write(one, who, streams[2]), write(other, who, streams[3]));
        tokio::join!(seen(other, who, streams[2].number), seen(one, who, streams[3].number));
        rates.entry("both_ways_rows_per_s").or_default().push(2.0 * STREAM_ROWS as f64 / start.elapsed().as_secs_f64());
    }
    for (name, mut rates) in rates {
        rates.sort_by(f64::total_cmp);
        results.put(format!("{who}_{name}"), rates[rates.len() / 2]);
    }
}

/// Commits one row here, and looks there without pause until it is visible.
async fn cross(from: &PrivateServer, to: &PrivateServer, table: &str, number: u64) -> Duration {
    let (mut here, mut there) = (from.conn().await, to.conn().await);
    let id = 1_000_000_000 + number;
    let look = format!("SELECT id FROM bench.{table} WHERE id = {id}");
    here.query_drop(format!("INSERT INTO bench.{table} {}", values(id, 1))).await.expect("an insert");
    let committed = Instant::now();
    while there.query_first::<u64, _>(&look).await.expect("a look").is_none() {
        assert!(committed.elapsed() < DEADLINE, "the row {id} did not arrive");
        tokio::task::yield_now().await;
    }
    let took = committed.elapsed();
    for conn in [here, there] {
        conn.disconnect().await.expect("a session can be ended");
    }
    took
}

#[derive(Clone, Copy)]
struct Stream {
    /// Tells its rows apart from those of others.
    number: u64,
    rows: u64,
    transaction_rows: u64,
}

impl Stream {
    fn bulk(number: u64) -> Self {
        Self { number, rows: STREAM_ROWS, transaction_rows: TRANSACTION_ROWS }
    }

    fn singles(number: u64) -> Self {
        Self { number, rows: SINGLES, transaction_rows: 1 }
    }
}

fn first_id(stream: u64) -> u64 {
    stream * 10_000_000
}

/// Writes a stream with several connections, then the row that says it is complete.
async fn write(server: &PrivateServer, table: &str, stream: Stream) {
    let share = stream.rows / WRITERS;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let conn = server.conn().await;
        writers.push(write_share(conn, table, first_id(stream.number) + writer * share, share, stream.transaction_rows));
    }
    futures_util::future::join_all(writers).await;
    server.query(&format!("INSERT INTO bench.{table} {}", values(first_id(stream.number) + stream.rows, 1))).await;
}

async fn write_share(mut conn: Conn, table: &str, first: u64, rows: u64, transaction_rows: u64) {
    for at in (0..rows).step_by(transaction_rows as usize) {
        let sql = format!("INSERT INTO bench.{table} {}", values(first + at, transaction_rows.min(rows - at)));
        conn.query_drop(sql).await.expect("an insert");
    }
    conn.disconnect().await.expect("a session can be ended");
}

fn values(first: u64, rows: u64) -> String {
    let row = |id: u64| {
        let (rider, cents) = (id % 5_000, id % 2_000);
        format!(
            "({id}, {rider}, 'Engineering Block C', {cents}.25, 'completed', '2026-02-03 10:20:30.123456', 'two suitcases, please')"
        )
    };
    format!("VALUES {}", (first..first + rows).map(row).collect::<Vec<_>>().join(","))
}

/// Waits for the last row of a stream. Both sides apply in the order of commits, so all others are there then.
async fn seen(server: &PrivateServer, table: &str, stream: u64) {
    let mut conn = server.conn().await;
    let rows = if (20..30).contains(&stream) { SINGLES } else { STREAM_ROWS };
    let look = format!("SELECT id FROM bench.{table} WHERE id = {}", first_id(stream) + rows);
    wait_for("the end of a stream", DEADLINE, async || conn.query_first::<u64, _>(&look).await.expect("a look").is_some())
        .await;
    conn.disconnect().await.expect("a session can be ended");
}

/// `replica` follows `primary` with MariaDB's own replication from now on.
async fn replicate(primary: &PrivateServer, replica: &PrivateServer) {
    let position: String = primary.first("SELECT @@gtid_binlog_pos").await.expect("a server has a position");
    let account = primary.admin_opts();
    let mut conn = replica.conn().await;
    let statements = [
        format!("SET GLOBAL gtid_slave_pos = '{position}'"),
        format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{}', MASTER_PASSWORD = '{}', \
             MASTER_USE_GTID = slave_pos",
            primary.port(),
            account.user().unwrap_or_default(),
            account.pass().unwrap_or_default()
        ),
        "START SLAVE".to_owned(),
    ];
    for statement in statements {
        conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("replication cannot be set up: {error}"));
    }
    conn.disconnect().await.expect("a session can be ended");
}

/// The most memory the process ever held, as the kernel counts it.
fn memory_peak_mb(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kilobytes| kilobytes / 1024.0)
}

#[derive(Default)]
struct Results(BTreeMap<String, f64>);

impl Results {
    fn put(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), (value * 1000.0).round() / 1000.0);
    }

    fn print(&self) {
        println!("\n{:34} {:>12} {:>12}", "", "tandem", "native");
        for (name, value) in &self.0 {
            let Some(what) = name.strip_prefix("tandem_") else { continue };
            let native = self.0.get(&format!("native_{what}")).map_or("-".into(), |value| format!("{value:.1}"));
            println!("{what:34} {value:>12.1} {native:>12}");
        }
    }

    /// Adds to what other benches have written.
    fn save(&self) {
        let folder = harness_dir().with_file_name("bench");
        std::fs::create_dir_all(&folder).expect("the target folder can be written");
        let file = folder.join("summary.json");
        let mut all: BTreeMap<String, f64> =
            std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        all.extend(self.0.clone());
        std::fs::write(&file, serde_json::to_vec_pretty(&all).expect("numbers are JSON"))
            .expect("the target folder can be written");
        println!("\n{}", file.display());
    }
}
