//! How fast a backlog is applied that was written, and published, while the other side was away.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use crate::cost::cpu_of;
use crate::harness::{Cluster, PrivateServer, wait_for};
use crate::load::Backlog;
use crate::native;

const DEADLINE: Duration = Duration::from_secs(300);
const HERE: usize = 0;
const THERE: usize = 1;

/// One drain.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// From the first look at which rows were there to the last row: how long starting takes is not in it.
    pub rows_per_s: f64,
    /// From the start of the replica to the last row.
    pub wall: f64,
    /// Processor time of the server that is written, and of the node that writes it, in microseconds a change. Of a drain by
    /// the server itself the first tells all.
    pub server_cpu_us: f64,
    pub node_cpu_us: f64,
}

/// The drain of the median rate.
pub fn median(mut drains: Vec<Drain>) -> Drain {
    drains.sort_by(|one, other| one.rows_per_s.total_cmp(&other.rows_per_s));
    drains[drains.len() / 2]
}

/// Writes the backlog here while the node there is stopped; returns when it is published. Gives the position before it.
pub async fn prepare(cluster: &mut Cluster, backlog: &Backlog) -> String {
    cluster.nodes[THERE].terminate().await;
    let before = native::position(&cluster.servers[HERE]).await;
    let published = published(cluster).await;
    // Only how it is applied is measured.
    durable(&cluster.servers[HERE], false).await;
    backlog.write(&cluster.servers[HERE]).await;
    durable(&cluster.servers[HERE], true).await;
    let all = published + backlog.changes() + 1;
    wait_for("the backlog to be published", DEADLINE, async || self::published(cluster).await >= all).await;
    before
}

async fn published(cluster: &Cluster) -> u64 {
    let status = cluster.status(HERE).await;
    status.and_then(|status| status["tailer"]["published"].as_u64()).unwrap_or_default()
}

/// Every commit is on the disk before it is answered, or the disk is asked once a second.
pub async fn durable(server: &PrivateServer, each_commit: bool) {
    let (binlog, innodb) = if each_commit { (1, 1) } else { (0, 2) };
    server.query(&format!("SET GLOBAL sync_binlog = {binlog}, GLOBAL innodb_flush_log_at_trx_commit = {innodb}")).await;
}

/// Starts the node there, with the backlog waiting.
pub async fn by_tandem(cluster: &mut Cluster, backlog: &Backlog) -> Drain {
    let server = cluster.servers[THERE].clone();
    let start = Instant::now();
    cluster.nodes[THERE].restart();
    let node = cluster.nodes[THERE].process_id();
    let drain = watch(&server, backlog, start, node).await;
    cluster.wait_until_reading().await;
    drain
}

/// Removes the backlog there again, and has MariaDB's own replication bring the same transactions. The node there must be
/// stopped.
pub async fn by_native(cluster: &Cluster, backlog: &Backlog, before: &str, threads: u32) -> Drain {
    let server = &cluster.servers[THERE];
    server.query(&format!("SET sql_log_bin = 0; TRUNCATE bench.{}", backlog.table)).await;
    native::prepare(&cluster.servers[HERE], server, before, threads).await;
    let start = Instant::now();
    native::start(server).await;
    let drain = watch(server, backlog, start, None).await;
    native::stop(server).await;
    drain
}

async fn watch(server: &PrivateServer, backlog: &Backlog, start: Instant, node: Option<u32>) -> Drain {
    let database = server.process_id().expect("the server runs");
    let cpu = || (cpu_of(database), node.map_or(0.0, cpu_of));
    let mut conn = server.conn().await;
    let look =
        format!("SELECT MAX(id) FROM bench.{} WHERE id BETWEEN {} AND {}", backlog.table, backlog.first, backlog.last_id());
    let before = cpu();
    let mut first: Option<(Instant, u64)> = None;
    let mut last = None;
    wait_for("the backlog to be applied", DEADLINE, async || {
        last = conn.query_first::<Option<u64>, _>(&look).await.expect("a look").flatten();
        if let (None, Some(id)) = (first, last) {
            first = Some((Instant::now(), id + 1 - backlog.first));
        }
        last == Some(backlog.last_id())
    })
    .await;
    let (end, after) = (Instant::now(), cpu());
    let rows: u64 = conn
        .query_first(format!("SELECT COUNT(*) FROM bench.{} WHERE id >= {}", backlog.table, backlog.first))
        .await
        .expect("a look")
        .expect("a count is one row");
    assert_eq!(rows, backlog.rows + 1, "all of the backlog is there");
    conn.disconnect().await.expect("a session can be ended");
    let (seen_at, there) = first.expect("the last row was seen");
    let changes = backlog.changes() as f64;
    Drain {
        rows_per_s: (changes + 1.0 - there as f64) / (end - seen_at).as_secs_f64(),
        wall: (end - start).as_secs_f64(),
        server_cpu_us: (after.0 - before.0) * 1e6 / changes,
        node_cpu_us: (after.1 - before.1) * 1e6 / changes,
    }
}
