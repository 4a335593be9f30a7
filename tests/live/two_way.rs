//! Real databases, written to on all sides at random, with nodes and servers killed, networks cut and clocks an hour apart: in
//! the end all are equal and every write is accounted for. An ordinary run is small; `make prove` writes 51,000 transactions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, Row};
use tandem::change::{Change, Gtid, GtidPosition, Offset, OriginId, Record, TableFilter, TablePattern, Value, wire};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceEvent};
use tandem::topic::TopicReader;
use tandem::topic::hub::HubReader;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, wait_for};
use crate::oracle::{self, Columns, Site};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, payload VARCHAR(40) NOT NULL, email VARCHAR(40) UNIQUE, seen DATETIME(3));
    CREATE TABLE campus.bookings (rider INT, day DATE, payload VARCHAR(40) NOT NULL, price DECIMAL(10,2), PRIMARY KEY (rider, day));
    CREATE TABLE campus.notes (name VARCHAR(20) PRIMARY KEY, payload VARCHAR(40) NOT NULL, body TEXT);
    CREATE TABLE campus.stops (id INT PRIMARY KEY, payload VARCHAR(40) NOT NULL, rider INT,
        CONSTRAINT asked_by FOREIGN KEY (rider) REFERENCES campus.riders (id));";

/// What happens, and meanwhile. Which site it happens to is drawn.
struct Plan {
    sites: Vec<&'static str>,
    /// Of each site.
    transactions: usize,
    /// SIGKILL for a node's process.
    kills: usize,
    /// SIGKILL for a server.
    crashes: usize,
    /// A site other than the hub's loses its network.
    cuts: usize,
    /// How far the clocks of a site's commits are off, in seconds.
    clocks: Vec<i64>,
    seed: u64,
}

/// A thing that happens.
#[derive(Clone, Copy)]
enum Event {
    Kill,
    Crash,
    Cut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_databases_converge_through_kills_and_cuts_and_every_write_is_accounted_for() {
    let sites = vec!["laptop-a", "laptop-b"];
    run(Plan { sites, transactions: 6_000, kills: 8, crashes: 0, cuts: 4, clocks: vec![0, 0], seed: 20 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_databases_converge_though_their_servers_are_killed_and_their_clocks_are_an_hour_apart() {
    let sites = vec!["laptop-a", "laptop-b", "laptop-c"];
    let plan = Plan { sites, transactions: 2_000, kills: 4, crashes: 4, cuts: 2, clocks: vec![0, 3600, -3600], seed: 21 };
    run(if std::env::var_os("TANDEM_PROVE").is_some() {
        Plan { transactions: 17_000, kills: 30, crashes: 30, cuts: 10, ..plan }
    } else {
        plan
    })
    .await;
}

async fn run(plan: Plan) {
    let mut cluster = Cluster::start(ClusterOptions {
        names: plan.sites.clone(),
        // The clocks are wrong, and known to be.
        config: "\n[limits]\nmax_clock_skew = \"3h\"\n".into(),
        ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)
    })
    .await;
    let topics = crate::quiet::topics(&cluster);
    let origins: Vec<OriginId> = plan.sites.iter().map(|name| OriginId::new(name)).collect();
    // What is there before a topic begins is existing data, which a snapshot publishes.
    let mut starts = Vec::new();
    for origin in &origins {
        let first = cluster.wait("the topics to begin", Duration::from_secs(30), async |_| {
            topics.extent(origin).await.is_ok_and(|extent| extent.end > Offset(0))
        });
        first.await.unwrap();
        let begin = topics.read(origin, Offset(0), 1, Duration::ZERO).await.unwrap();
        starts.push((*begin[0].1.position).clone());
    }

    let committed: Vec<Arc<AtomicUsize>> = origins.iter().map(|_| Arc::default()).collect();
    let writers: Vec<_> = (0..origins.len())
        .map(|site| {
            let clock = plan.clocks[site];
            let writer = Writer { opts: cluster.server(site).admin_opts(), site, clock, committed: committed[site].clone() };
            writer.write(plan.transactions, plan.seed)
        })
        .collect();
    tokio::join!(futures_util::future::join_all(writers), disturb(&mut cluster, &plan, &committed));
    let mut quiet = Quiet::new(&cluster);
    quiet.wait(&mut cluster, Duration::from_secs(600)).await;
    cluster.wait_until_equal(Duration::from_secs(60)).await.unwrap();

    let mut sites = Vec::new();
    for (site, origin) in origins.iter().enumerate() {
        sites.push(evidence(cluster.server(site), origin, &starts[site], &topics).await);
    }
    oracle::tell_stories(&sites);
    oracle::check(&sites).unwrap();
    let written: usize = sites.iter().map(|site| site.topic.iter().filter(|record| !record.is_heartbeat()).count()).sum();
    let losers: usize = sites.iter().map(|site| site.losers.len()).sum();
    let transactions: usize = committed.iter().map(|committed| committed.load(Ordering::Relaxed)).sum();
    eprintln!("{transactions} transactions, {written} rows published, {losers} losers kept");
    assert!(written > transactions && losers > 100, "{written} rows and {losers} losers do not prove much");
    for (site, origin) in origins.iter().enumerate() {
        let set_aside: Option<u64> = cluster.server(site).first("SELECT COUNT(*) FROM tandem.dead_letters").await;
        assert_eq!(set_aside, Some(0), "changes were set aside on {origin}");
        let alone = "SELECT COUNT(*) FROM campus.stops s LEFT JOIN campus.riders r ON r.id = s.rider
            WHERE s.rider IS NOT NULL AND r.id IS NULL";
        let alone: Option<u64> = cluster.server(site).first(alone).await;
        assert_eq!(alone, Some(0), "stops on {origin} refer to riders that are not there");
    }
    // Idle afterwards: nobody answers an answer.
    let before = published(&topics, &origins).await;
    let told = async |topics: &HubReader| {
        for (origin, site) in origins.iter().zip(&sites) {
            if topics.extent(origin).await.unwrap().end.0 < site.topic.len() as u64 + 2 {
                return false;
            }
        }
        true
    };
    wait_for("two heartbeats of each site", Duration::from_secs(120), async || told(&topics).await).await;
    assert_eq!(published(&topics, &origins).await, before, "changes were published although nobody wrote");
    cluster.end().await.unwrap();
}

/// Records with changes in all topics.
async fn published(topics: &HubReader, origins: &[OriginId]) -> usize {
    let mut changes = 0;
    for origin in origins {
        let mut next = Offset(0);
        loop {
            let batch = topics.read(origin, next, 8 << 20, Duration::ZERO).await.unwrap();
            let Some((last, _)) = batch.last() else { break };
            next = last.next();
            changes += batch.iter().filter(|(_, record)| !record.is_heartbeat()).count();
        }
    }
    changes
}

/// What happens, spread over the writing.
async fn disturb(cluster: &mut Cluster, plan: &Plan, committed: &[Arc<AtomicUsize>]) {
    let mut dice = Rng::with_seed(plan.seed);
    let mut events = [vec![Event::Kill; plan.kills], vec![Event::Crash; plan.crashes], vec![Event::Cut; plan.cuts]].concat();
    dice.shuffle(&mut events);
    let count = events.len();
    for (number, event) in events.into_iter().enumerate() {
        let due = plan.transactions * (number + 1) / (count + 2);
        let here = dice.usize(..plan.sites.len());
        let away = dice.usize(1..plan.sites.len());
        // Its own writers stand still while a server is down.
        let watched = if matches!(event, Event::Crash) { (here + 1) % plan.sites.len() } else { here };
        let reached = async || committed[watched].load(Ordering::Relaxed) >= due;
        wait_for("the writers to get on", Duration::from_secs(300), reached).await;
        // While something is down, the others go on for this many transactions.
        let until = committed[watched].load(Ordering::Relaxed) + dice.usize(1..plan.transactions / count / 2);
        let until = until.min(plan.transactions);
        let on = async || committed[watched].load(Ordering::Relaxed) >= until;
        match event {
            Event::Kill => cluster.nodes[here].kill9(),
            Event::Crash => cluster.server_mut(here).kill9(),
            Event::Cut => cluster.cut(away),
        }
        wait_for("the writers to get on", Duration::from_secs(300), on).await;
        match event {
            Event::Kill => cluster.nodes[here].restart(),
            Event::Crash => cluster.server_mut(here).restart().await,
            Event::Cut => cluster.mend(away),
        }
    }
}

/// The application of one site.
struct Writer {
    opts: Opts,
    site: usize,
    clock: i64,
    committed: Arc<AtomicUsize>,
}

/// How a transaction ended that was not committed.
enum Missed {
    /// A value that is taken, a deadlock with the applier: the application would tell its user.
    Refused,
    /// The server is gone; whether it committed, nobody knows.
    Lost,
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) if [1062, 1205, 1213, 1451, 1452].contains(&error.code) => Self::Refused,
            // It is going down or coming up.
            Error::Server(error) if [1053, 1927].contains(&error.code) => Self::Lost,
            Error::Io(_) | Error::Driver(_) => Self::Lost,
            error => panic!("{error}"),
        }
    }
}

impl Writer {
    /// Transactions at random, until so many are committed.
    async fn write(self, transactions: usize, seed: u64) {
        let mut dice = Rng::with_seed(seed ^ (self.site as u64 + 1) << 32);
        let mut conn = self.connect().await;
        let mut number = 0;
        while self.committed.load(Ordering::Relaxed) < transactions {
            match self.transaction(&mut conn, &mut dice, &mut number).await {
                Ok(changed) => _ = self.committed.fetch_add(usize::from(changed), Ordering::Relaxed),
                Err(Missed::Refused) if conn.query_drop("ROLLBACK").await.is_ok() => {}
                Err(_) => conn = self.connect().await,
            }
        }
        conn.disconnect().await.unwrap();
    }

    async fn connect(&self) -> Conn {
        let mut conn = None;
        wait_for("the server to come back", Duration::from_secs(120), async || {
            conn = Conn::new(self.opts.clone()).await.ok();
            conn.is_some()
        })
        .await;
        let mut conn = conn.expect("it was waited for");
        // Lost again at once: the first transaction will tell.
        let _ = conn.query_drop("SET innodb_lock_wait_timeout = 5").await;
        conn
    }

    /// True where it changed something.
    async fn transaction(&self, conn: &mut Conn, dice: &mut Rng, number: &mut u64) -> Result<bool, Missed> {
        if self.clock != 0 {
            conn.query_drop("SET timestamp = DEFAULT").await?;
            conn.query_drop(format!("SET timestamp = UNIX_TIMESTAMP() + {}", self.clock)).await?;
        }
        conn.query_drop("START TRANSACTION").await?;
        let mut changed = 0;
        for _ in 0..[1, 1, 2, 4][dice.usize(..4)] {
            *number += 1;
            let payload = format!("{}-{number}", ["a", "b", "c"][self.site]);
            conn.query_drop(statement(dice, &payload)).await?;
            changed += conn.affected_rows();
        }
        conn.query_drop("COMMIT").await?;
        Ok(changed > 0)
    }
}

fn statement(dice: &mut Rng, payload: &str) -> String {
    let rider = dice.u32(1..1500);
    let email = match dice.u32(..4) {
        0 => "NULL".to_owned(),
        _ => format!("'rider{}@campus'", dice.u32(1..3000)),
    };
    let day = format!("2026-0{}-1{}", dice.u32(1..4), dice.u32(..9));
    // One row may be spelled in several ways.
    let name = [format!("note {rider}"), format!("Note {rider}"), format!("NOTE {rider} ")][dice.usize(..3)].clone();
    match dice.u32(..17) {
        14 => format!(
            "INSERT INTO campus.stops VALUES ({}, '{payload}', {rider}) ON DUPLICATE KEY UPDATE payload = VALUES(payload), rider = {rider}",
            dice.u32(..500)
        ),
        15 => format!("UPDATE campus.stops SET payload = '{payload}', rider = NULL WHERE id = {}", dice.u32(..500)),
        16 => format!("DELETE FROM campus.stops WHERE id = {}", dice.u32(..500)),
        0..3 => format!("INSERT INTO campus.riders VALUES ({rider}, '{payload}', {email}, NOW(3))"),
        3..5 => format!("UPDATE campus.riders SET payload = '{payload}', email = {email} WHERE id = {rider}"),
        5 => format!("DELETE FROM campus.riders WHERE id = {rider}"),
        6 => format!("UPDATE campus.riders SET id = {}, payload = '{payload}' WHERE id = {rider}", dice.u32(1..1500)),
        7..9 => format!(
            "INSERT INTO campus.bookings VALUES ({rider}, '{day}', '{payload}', {}.50) ON DUPLICATE KEY UPDATE payload = VALUES(payload)",
            dice.u32(..90)
        ),
        9 => format!("DELETE FROM campus.bookings WHERE rider = {rider} AND day = '{day}'"),
        10 => format!(
            "UPDATE campus.bookings SET price = price + 1, payload = '{payload}' WHERE rider = {rider} AND day = '{day}'"
        ),
        11 => format!("REPLACE INTO campus.notes VALUES ('{name}', '{payload}', REPEAT('ä', {}))", dice.u32(..400)),
        12 => format!("UPDATE campus.notes SET name = '{name}', payload = '{payload}' WHERE name = '{name}'"),
        _ => format!("DELETE FROM campus.notes WHERE name = '{name}'"),
    }
}

/// What one site kept, read by the project's own reader, whose truth other tests prove.
pub async fn evidence(server: &PrivateServer, origin: &OriginId, start: &GtidPosition, topics: &HubReader) -> Site {
    let (binlog, end) = binlog(server, start).await;
    // The tailer has told of everything when its position covers the end.
    let told = async || topics.extent(origin).await.unwrap().last.is_some_and(|last| last.position.covers_all(&end));
    wait_for("the topic to cover the binlog", Duration::from_secs(60), told).await;
    let mut topic: Vec<Record> = Vec::new();
    loop {
        let from = Offset(topic.len() as u64);
        let batch = topics.read(origin, from, 8 << 20, Duration::ZERO).await.unwrap();
        if batch.is_empty() {
            break;
        }
        topic.extend(batch.into_iter().map(|(_, record)| record));
    }
    let losers: Vec<(String, u64)> = server.rows("SELECT loser_origin, loser_hlc FROM tandem.conflicts").await;
    let losers = losers.into_iter().map(|(origin, hlc)| (OriginId::new(&origin), tandem::change::Hlc(hlc))).collect();
    Site {
        origin: origin.clone(),
        rows: rows(server, &binlog).await,
        binlog,
        topic,
        losers,
        existed: Default::default(),
        kept: Vec::new(),
    }
}

/// Everything that the server committed after the position.
async fn binlog(server: &PrivateServer, start: &GtidPosition) -> (Vec<(Gtid, Vec<Change>)>, GtidPosition) {
    let filter = TableFilter { include: vec![TablePattern::parse("campus.*").unwrap()], exclude: Vec::new() };
    let source = BinlogSource::new(BinlogOptions::new(server.account_opts(), 77, filter));
    let end = source.position().await.unwrap();
    let mut stream = source.stream(start).await.unwrap();
    let (mut read, mut position, mut open) = (Vec::new(), start.clone(), Vec::new());
    while !position.covers_all(&end) {
        let SourceEvent::Part(part) = stream.next().await.unwrap() else { continue };
        open.extend(part.changes);
        if part.last {
            position.advance(part.header.gtid);
            // Both ways of a change must be the same: by way of the wire, as the topic has it.
            let by_wire = |change: Change| wire::decode_change(wire::encode_change(&change).as_bytes()).unwrap();
            read.push((part.header.gtid, std::mem::take(&mut open).into_iter().map(by_wire).collect()));
        }
    }
    (read, end)
}

/// The rows as they are, read with SELECT; the names of rows come from the changes that made them.
async fn rows(server: &PrivateServer, binlog: &[(Gtid, Vec<Change>)]) -> BTreeMap<String, Columns> {
    let mut shapes = BTreeMap::new();
    for change in binlog.iter().flat_map(|(_, changes)| changes).filter(|change| !change.table().is_own()) {
        shapes.entry(change.table().clone()).or_insert_with(|| change.shape.clone());
    }
    let mut rows = BTreeMap::new();
    let mut conn = server.conn().await;
    for (table, shape) in shapes {
        let names: Vec<String> = shape.columns.iter().map(|column| column.name.to_string()).collect();
        let texts: Vec<String> = names.iter().map(|name| format!("CAST({name} AS CHAR)")).collect();
        let read: Vec<Row> = conn.query(format!("SELECT {} FROM {table}", texts.join(", "))).await.unwrap();
        for row in read {
            let values = (0..names.len()).map(|at| {
                let text: Option<String> = row.get(at).unwrap();
                Some(text.map_or(Value::Null, |text| match (&*names[at], text.parse()) {
                    ("id" | "rider", Ok(number)) => Value::Int(number),
                    _ => Value::text(text),
                }))
            });
            let image = tandem::change::Image::of(values);
            rows.insert(oracle::row_name(&shape, &image), oracle::columns(&shape, &image));
        }
    }
    conn.disconnect().await.unwrap();
    rows
}
