//! `make bench`: how fast the changes of one node get into another's database, beside MariaDB's own replication on the same
//! servers, in the same run, of the very same transactions.
//!
//! - Drains: a backlog is written and published while the other side is away; then it is applied, by tandem, and, removed
//!   again, by the server's own replication with one thread and with several. Turns, and the median of each counts.
//! - Delay: both sides write at a pace, and each is watched for the rows of the other; over a hub, and over Kafka.
//! - Rows that were there before, carried over and compared, beside MariaDB's dump.
//! - Memory of the nodes in all this.
//!
//! Prints tables and puts its figures into `target/bench/summary.json`. Not a test: nothing here fails for being slow. Names of
//! parts after `--` measure these alone: `cargo bench --bench apply -- single bulk absence existing delay kafka`.

mod cost;
mod drain;
mod existing;
#[path = "../tests/harness/mod.rs"]
mod harness;
mod load;
mod native;
mod summary;
mod visible;

use cost::{peak_rss_mb, rss_mb};
use drain::{Drain, durable};
use harness::{Cluster, ClusterOptions, ServerOptions, Sync, kafka_or_say};
use load::{Backlog, Stream};
use visible::Delays;

/// Rounds of the drains that are compared.
const ROUNDS: u64 = 3;
const SINGLES: u64 = 20_000;
const BULK_ROWS: u64 = 200_000;
const BULK_TRANSACTION_ROWS: u64 = 1_000;
/// Rows of the long absence; each is changed once, too.
const ABSENCE_ROWS: u64 = 500_000;
const ABSENCE_TRANSACTION_ROWS: u64 = 50;
/// Applying threads of the server's own replication, where it has several.
const THREADS: u32 = 4;
/// Commits of one side in a measurement of the delay, and in a second.
const COMMITS: u64 = 5_000;
const PER_SECOND: u64 = 500;

const HERE: usize = 0;
const THERE: usize = 1;

/// Whether a part is asked for: all are where none is named.
fn asked(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

/// What we want to reach.
const AIMS: [(&str, &str); 9] = [
    ("apply_single_vs_native_serial", "at least 5"),
    ("apply_single_vs_native_parallel", "above 1"),
    ("apply_bulk_vs_native", "at least 1"),
    ("catch_up_1m_s", "as native"),
    ("visible_p99_ms_hub", "below 50"),
    ("visible_p99_ms_kafka", "below 50"),
    ("snapshot_vs_dump", "at least 1"),
    ("node_idle_rss_mb", "below 64"),
    ("node_peak_rss_mb", "below 256"),
];

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
    let mut figures = Figures::default();
    let mut memory = Memory::default();

    let mut cluster = start(false).await;
    memory.idle(&cluster);
    drains(&mut cluster, &mut memory, &mut figures).await;
    if asked("existing") {
        let existing::Times { snapshot, dump, verify } = existing::measure(&cluster).await;
        memory.look(&cluster);
        println!(
            "1 M existing rows: tandem snapshot {snapshot:.1} s, mariadb-dump | mariadb {dump:.1} s; tandem verify {verify:.1} s"
        );
        figures.put("snapshot_rows_per_s", existing::ROWS as f64 / snapshot);
        figures.put("snapshot_vs_dump", dump / snapshot);
        figures.put("verify_rows_per_s", existing::ROWS as f64 / verify);
    }
    if asked("delay") {
        delays(&mut cluster, "hub", &mut memory, &mut figures).await;
        for node in &mut cluster.nodes {
            node.terminate().await;
        }
        native_delays(&cluster, &mut figures).await;
    }
    cluster.end().await.expect("everything ends cleanly");

    if asked("kafka") && kafka_or_say() {
        let mut cluster = start(true).await;
        memory.idle(&cluster);
        delays(&mut cluster, "kafka", &mut memory, &mut figures).await;
        cluster.end().await.expect("everything ends cleanly");
    }
    figures.put("node_idle_rss_mb", memory.idle);
    figures.put("node_peak_rss_mb", memory.peak);
    figures.print();
    summary::merge(&figures.0);
}

async fn start(kafka: bool) -> Cluster {
    let options = ClusterOptions::new(
        env!("CARGO_BIN_EXE_tandem"),
        "bench",
        load::schema(&["single", "bulk", "absence", "stream", "native_stream", "existing"]),
    );
    let server = |number| {
        let server = ServerOptions { sync: Sync::EachCommit, ..ServerOptions::node(number) };
        server.arg("--innodb-buffer-pool-size=256M").arg("--innodb-log-file-size=256M").arg("--max-binlog-size=1G")
    };
    Cluster::start(ClusterOptions { kafka, server, ..options }).await
}

async fn drains(cluster: &mut Cluster, memory: &mut Memory, figures: &mut Figures) {
    let single = Backlog { table: "single", first: 1, rows: SINGLES, transaction_rows: 1, updated: false };
    let bulk = Backlog { table: "bulk", first: 1, rows: BULK_ROWS, transaction_rows: BULK_TRANSACTION_ROWS, updated: false };
    let absence =
        Backlog { table: "absence", first: 1, rows: ABSENCE_ROWS, transaction_rows: ABSENCE_TRANSACTION_ROWS, updated: true };
    println!("\n{:<46}{:>10}{:>9}{:>13}{:>13}", "", "rows/s", "wall s", "server µs", "node µs");
    let threads = format!("native, {THREADS} threads");
    for (what, backlog, rounds, each_commit) in [
        ("transactions of 1 row", single, ROUNDS, true),
        ("transactions of 1,000 rows", bulk, ROUNDS, true),
        ("1 row, disk asked once a second", single, 1, false),
        ("1,000 rows, disk asked once a second", bulk, 1, false),
        ("1 M changes, transactions of 50 rows", absence, 1, true),
    ] {
        if !asked(backlog.table) {
            continue;
        }
        let mut of: [Vec<Drain>; 3] = Default::default();
        for round in 0..rounds {
            let first = 1 + (round + if each_commit { 0 } else { ROUNDS }) * 100_000_000;
            let backlog = Backlog { first, ..backlog };
            let before = drain::prepare(cluster, &backlog).await;
            durable(&cluster.servers[THERE], each_commit).await;
            of[0].push(drain::by_tandem(cluster, &backlog).await);
            memory.look(cluster);
            cluster.nodes[THERE].terminate().await;
            of[1].push(drain::by_native(cluster, &backlog, &before, 0).await);
            of[2].push(drain::by_native(cluster, &backlog, &before, THREADS).await);
            cluster.nodes[THERE].restart();
            cluster.wait_until_reading().await;
        }
        durable(&cluster.servers[THERE], true).await;
        let [tandem, serial, parallel] = of.map(drain::median);
        for (who, drain) in [("tandem", tandem), ("native", serial), (&*threads, parallel)] {
            let Drain { rows_per_s, wall, server_cpu_us, node_cpu_us } = drain;
            let what = format!("{what}: {who}");
            println!("{what:<46}{rows_per_s:>10.0}{wall:>9.2}{server_cpu_us:>13.1}{node_cpu_us:>13.1}");
        }
        let against = |other: Drain| tandem.rows_per_s / other.rows_per_s;
        match (backlog.table, each_commit) {
            ("single", true) => {
                figures.put("apply_single_rows_per_s", tandem.rows_per_s);
                figures.put("apply_single_vs_native_serial", against(serial));
                figures.put("apply_single_vs_native_parallel", against(parallel));
            }
            ("bulk", true) => {
                figures.put("apply_bulk_rows_per_s", tandem.rows_per_s);
                figures.put("apply_bulk_vs_native", against(serial));
                figures.put("apply_bulk_vs_native_parallel", against(parallel));
            }
            ("single", false) => {
                figures.put("apply_single_relaxed_vs_native_serial", against(serial));
                figures.put("apply_single_relaxed_vs_native_parallel", against(parallel));
            }
            ("bulk", false) => figures.put("apply_bulk_relaxed_vs_native", against(serial)),
            _ => {
                figures.put("catch_up_1m_s", tandem.wall);
                figures.put("native_catch_up_1m_s", serial.wall);
                figures.put("native_parallel_catch_up_1m_s", parallel.wall);
            }
        }
    }
}

fn streams(table: &'static str) -> [Stream; 2] {
    [HERE, THERE].map(|site| Stream { table, first: 1 + site as u64 * 1_000_000_000, commits: COMMITS, per_second: PER_SECOND })
}

async fn delays(cluster: &mut Cluster, topics: &str, memory: &mut Memory, figures: &mut Figures) {
    let delays = visible::both_ways([&cluster.servers[HERE], &cluster.servers[THERE]], streams("stream")).await;
    memory.look(cluster);
    told(&format!("over {topics}"), &delays);
    figures.put(format!("visible_p50_ms_{topics}"), delays.p50);
    figures.put(format!("visible_p99_ms_{topics}"), delays.p99);
}

/// The same load with MariaDB's own replication both ways; the nodes have ended.
async fn native_delays(cluster: &Cluster, figures: &mut Figures) {
    let [here, there] = [HERE, THERE].map(|site| &cluster.servers[site]);
    for (primary, replica) in [(here, there), (there, here)] {
        native::prepare(primary, replica, &native::position(primary).await, 0).await;
        native::start(replica).await;
    }
    let delays = visible::both_ways([here, there], streams("native_stream")).await;
    told("by the server's own replication", &delays);
    figures.put("native_visible_p50_ms", delays.p50);
    figures.put("native_visible_p99_ms", delays.p99);
}

fn told(how: &str, delays: &Delays) {
    let Delays { p50, p99, per_second } = delays;
    println!("commit to visible {how}, {per_second:.0} commits/s on each side: p50 {p50:.1} ms, p99 {p99:.1} ms");
}

/// Of both nodes, the one that keeps the hub included.
#[derive(Default)]
struct Memory {
    idle: f64,
    peak: f64,
}

impl Memory {
    fn idle(&mut self, cluster: &Cluster) {
        self.idle = Self::of(cluster, rss_mb).fold(self.idle, f64::max);
    }

    /// Before a node ends: what comes after it is another process.
    fn look(&mut self, cluster: &Cluster) {
        self.peak = Self::of(cluster, peak_rss_mb).fold(self.peak, f64::max);
    }

    fn of(cluster: &Cluster, memory: fn(&str) -> f64) -> impl Iterator<Item = f64> {
        cluster.nodes.iter().filter_map(|node| node.process_id()).map(move |id| memory(&id.to_string()))
    }
}

#[derive(Default)]
struct Figures(Vec<(String, f64)>);

impl Figures {
    fn put(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }

    fn print(&self) {
        println!("\n{:<42}{:>14}  aim", "figure", "measured");
        for (name, value) in &self.0 {
            let aim = AIMS.iter().find(|(own, _)| own == name).map_or("", |(_, aim)| aim);
            println!("{name:<42}{value:>14.2}  {aim}");
        }
    }
}
