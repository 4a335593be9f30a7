//! How fast rows are written to a MariaDB: groups of rows, each group one commit with its checkpoint.
//!
//!     cargo run --release --example bench_target [ROWS]
//!
//! The server is private, with `sync_binlog=1` and `innodb_flush_log_at_trx_commit=1` as in production. Prints
//! `name number` lines, medians of three runs; and for each the processor time that the server and we took, which a busy
//! machine does not change.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use tandem::change::{Change, Checks, Column, ColumnKind, Hlc, Image, Mark, Offset, Op, OriginId, Shape, TableName, Value};
use tandem::target::mariadb::{MariadbOptions, MariadbTarget};
use tandem::target::{Target, Write};

#[path = "../tests/harness/mod.rs"]
mod harness;

use harness::{PrivateServer, ServerOptions, Sync};

/// Rows of one commit, as the applier groups them.
const GROUP: usize = 500;
const RUNS: usize = 3;

#[tokio::main]
async fn main() {
    let rows: usize = std::env::args().nth(1).map_or(50_000, |rows| rows.parse().expect("a number of rows"));
    let options = ServerOptions { sync: Sync::EachCommit, ..ServerOptions::node(1) };
    let server = PrivateServer::start(options.arg("--innodb-buffer-pool-size=256M").arg("--innodb-log-file-size=96M")).await;
    server.query("CREATE DATABASE campus").await;
    let target = MariadbTarget::connect(MariadbOptions::new(server.url(), Some(server.password().into()))).await;
    let target = target.expect("the server runs");

    for (name, unique) in [("plain", ""), ("unique", ", UNIQUE KEY email (email)")] {
        let mut inserts = Vec::new();
        let mut updates = Vec::new();
        let mut deletes = Vec::new();
        let mut locks = Vec::new();
        for run in 0..RUNS {
            let table = format!("{name}{run}");
            server
                .query(&format!(
                    "CREATE TABLE campus.{table} (id BIGINT PRIMARY KEY, name VARCHAR(50), email VARCHAR(80), age INT,
                     seen DATETIME, balance DECIMAL(10,2){unique})"
                ))
                .await;
            let writes = |op, age| -> Vec<Write> { (0..rows).map(|row| Write::Put(change(&table, row, op, age))).collect() };
            inserts.push(apply(&server, &target, run, &writes(Op::Insert, 1)).await);
            let changed = writes(Op::Update, 2);
            updates.push(apply(&server, &target, run, &changed).await);
            let keys: Vec<_> = changed
                .iter()
                .filter_map(|write| match write {
                    Write::Put(change) | Write::Whole(change) => change.key(),
                    Write::Delete(key) | Write::DeleteAlone(key) => Some(key.clone()),
                })
                .collect();
            let before = Spent::now(&server);
            for group in keys.chunks(GROUP) {
                let mut transaction = target.begin(&mark(run)).await.expect("begin");
                let held = transaction.lock(group).await.expect("lock");
                assert!(held.iter().all(Option::is_some));
                transaction.rollback().await;
            }
            locks.push(before.until_now(&server));
            deletes.push(apply(&server, &target, run, &keys.into_iter().map(Write::Delete).collect::<Vec<_>>()).await);
        }
        for (what, runs) in [("insert", inserts), ("update", updates), ("lock", locks), ("delete", deletes)] {
            let median = |of: fn(&Spent) -> f64| {
                let mut seconds: Vec<f64> = runs.iter().map(of).collect();
                seconds.sort_by(f64::total_cmp);
                seconds[RUNS / 2]
            };
            println!("target_{name}_{what}_rows_per_s {:.0}", rows as f64 / median(|spent| spent.wall));
            println!("target_{name}_{what}_server_cpu_us_per_row {:.1}", median(|spent| spent.server) * 1e6 / rows as f64);
            println!("target_{name}_{what}_own_cpu_us_per_row {:.1}", median(|spent| spent.own) * 1e6 / rows as f64);
        }
    }
}

async fn apply(server: &PrivateServer, target: &MariadbTarget, run: usize, writes: &[Write]) -> Spent {
    let before = Spent::now(server);
    for (number, group) in writes.chunks(GROUP).enumerate() {
        let mut transaction = target.begin(&mark(run * 1_000_000 + number)).await.expect("begin");
        transaction.write(group).await.expect("write");
        transaction.position().await.expect("position");
        transaction.commit().await.expect("commit");
    }
    before.until_now(server)
}

/// Seconds.
struct Spent {
    wall: f64,
    server: f64,
    own: f64,
}

impl Spent {
    fn now(server: &PrivateServer) -> Self {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let cpu = |process: String| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
            // After the name, which ends with the last parenthesis: utime and stime, in hundredths of a second.
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            (fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number")) / 100.0
        };
        let id = server.process_id().expect("it runs");
        Self { wall: START.elapsed().as_secs_f64(), server: cpu(id.to_string()), own: cpu("self".into()) }
    }

    fn until_now(&self, server: &PrivateServer) -> Self {
        let now = Self::now(server);
        Self { wall: now.wall - self.wall, server: now.server - self.server, own: now.own - self.own }
    }
}

fn mark(next: usize) -> Mark {
    let position = format!("2-2-{next}").parse().expect("a GTID");
    Mark { origin: OriginId::new("laptop-b"), next: Offset(next as u64), data: None, position, hlc: Hlc(next as u64) }
}

/// A shape of its own for each change, as the wire form brings it.
fn change(table: &str, row: usize, op: Op, age: i64) -> Change {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false };
    let columns = ["id", "name", "email", "age", "seen", "balance"].map(column).into();
    let shape = Arc::new(Shape { table: TableName::new("campus", table), columns, key: vec![0] });
    let image = |age| {
        Some(Image::of([
            Some(Value::Int(row as i64)),
            Some(Value::text(format!("rider number {row}"))),
            Some(Value::text(format!("rider{row}@campus.example"))),
            Some(Value::Int(age)),
            Some(Value::text("2024-05-06 07:08:09")),
            Some(Value::text("12.50")),
        ]))
    };
    Change { shape, op, before: if op == Op::Update { image(1) } else { None }, after: image(age), checks: Checks::default() }
}
