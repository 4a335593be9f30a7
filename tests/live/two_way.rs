//! Two real databases, written to on both sides at random, with nodes killed and networks cut: in the end both are equal
//! and every write is accounted for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use mysql_async::{Error, Row};
use tandem::change::{Change, Gtid, GtidPosition, Offset, OriginId, Record, TableFilter, TablePattern, Value, wire};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceEvent};
use tandem::topic::TopicReader;
use tandem::topic::hub::HubReader;

use crate::harness::{Cluster, ClusterOptions, PrivateServer};
use crate::oracle::{self, Columns, Site};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, payload VARCHAR(40) NOT NULL, email VARCHAR(40) UNIQUE, seen DATETIME(3));
    CREATE TABLE campus.bookings (rider INT, day DATE, payload VARCHAR(40) NOT NULL, price DECIMAL(10,2), PRIMARY KEY (rider, day));
    CREATE TABLE campus.notes (name VARCHAR(20) PRIMARY KEY, payload VARCHAR(40) NOT NULL, body TEXT);";

/// Transactions of each side, and what happens meanwhile.
struct Plan {
    transactions: usize,
    kills: usize,
    cuts: usize,
    seed: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_databases_converge_through_kills_and_cuts_and_every_write_is_accounted_for() {
    run(Plan { transactions: 10_000, kills: 12, cuts: 4, seed: 20 }).await;
}

async fn run(plan: Plan) {
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let topics = crate::quiet::topics(&cluster);
    let origins = [OriginId::new("laptop-a"), OriginId::new("laptop-b")];
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

    let committed: [Arc<AtomicUsize>; 2] = Default::default();
    let writers: Vec<_> = (0..2)
        .map(|site| {
            let (server, committed) = (cluster.server(site).clone(), committed[site].clone());
            tokio::spawn(write(server, site, plan.transactions, plan.seed, committed))
        })
        .collect();
    disturb(&mut cluster, &plan, &committed).await;
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.wait_until_equal(Duration::from_secs(300)).await.unwrap();

    let mut sites = Vec::new();
    for (site, origin) in origins.iter().enumerate() {
        sites.push(evidence(cluster.server(site), origin, &starts[site], &topics).await);
    }
    oracle::check(&sites).unwrap();
    let written: usize = sites.iter().map(|site| site.topic.iter().filter(|record| !record.is_heartbeat()).count()).sum();
    let losers: usize = sites.iter().map(|site| site.losers.len()).sum();
    assert!(written > 2 * plan.transactions && losers > 100, "{written} rows and {losers} losers do not prove much");
    for (site, origin) in origins.iter().enumerate() {
        let set_aside: Option<u64> = cluster.server(site).first("SELECT COUNT(*) FROM tandem.dead_letters").await;
        assert_eq!(set_aside, Some(0), "changes were set aside on {origin}");
    }
    cluster.end().await.unwrap();
}

/// Kills and cuts, spread over the writing.
async fn disturb(cluster: &mut Cluster, plan: &Plan, committed: &[Arc<AtomicUsize>; 2]) {
    let mut dice = Rng::with_seed(plan.seed);
    let events = plan.kills + plan.cuts;
    let mut order: Vec<bool> = (0..events).map(|number| number < plan.kills).collect();
    dice.shuffle(&mut order);
    for (number, kill) in order.into_iter().enumerate() {
        let due = plan.transactions * (number + 1) / (events + 2);
        let here = dice.usize(..2);
        let reached = async || committed[here].load(Ordering::Relaxed) >= due;
        crate::harness::wait_for("the writers to get on", Duration::from_secs(300), reached).await;
        // While something is down, the writers go on for this many transactions.
        let until = committed[here].load(Ordering::Relaxed) + dice.usize(1..plan.transactions / events / 2);
        let until = until.min(plan.transactions);
        let on = async || committed[here].load(Ordering::Relaxed) >= until;
        if kill {
            cluster.nodes[here].kill9();
            crate::harness::wait_for("the writers to get on", Duration::from_secs(300), on).await;
            cluster.nodes[here].restart();
        } else {
            cluster.cut(1);
            crate::harness::wait_for("the writers to get on", Duration::from_secs(300), on).await;
            cluster.mend(1);
        }
    }
}

/// The application of one side: transactions at random, until so many are committed.
async fn write(server: Arc<PrivateServer>, site: usize, transactions: usize, seed: u64, committed: Arc<AtomicUsize>) {
    let mut dice = Rng::with_seed(seed ^ (site as u64 + 1) << 32);
    let mut conn = server.conn().await;
    conn.query_drop("SET innodb_lock_wait_timeout = 5").await.unwrap();
    let mut number = 0;
    let refused = AtomicBool::new(false);
    while committed.load(Ordering::Relaxed) < transactions {
        conn.query_drop("START TRANSACTION").await.unwrap();
        let mut changed = 0;
        refused.store(false, Ordering::Relaxed);
        for _ in 0..[1, 1, 2, 4][dice.usize(..4)] {
            number += 1;
            let payload = format!("{}-{number}", ["a", "b"][site]);
            match conn.query_drop(statement(&mut dice, &payload)).await {
                Ok(()) => changed += conn.affected_rows(),
                // A value that is taken, a deadlock with the applier: the application would tell its user.
                Err(Error::Server(error)) if [1062, 1205, 1213].contains(&error.code) => {
                    refused.store(true, Ordering::Relaxed);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        if refused.load(Ordering::Relaxed) {
            conn.query_drop("ROLLBACK").await.unwrap();
        } else {
            conn.query_drop("COMMIT").await.unwrap();
            committed.fetch_add(usize::from(changed > 0), Ordering::Relaxed);
        }
    }
    conn.disconnect().await.unwrap();
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
    match dice.u32(..14) {
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
async fn evidence(server: &PrivateServer, origin: &OriginId, start: &GtidPosition, topics: &HubReader) -> Site {
    let (binlog, end) = binlog(server, start).await;
    // The tailer has told of everything when its position covers the end.
    let told = async || topics.extent(origin).await.unwrap().last.is_some_and(|last| last.position.covers_all(&end));
    crate::harness::wait_for("the topic to cover the binlog", Duration::from_secs(60), told).await;
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
    Site { origin: origin.clone(), rows: rows(server, &binlog).await, binlog, topic, losers, existed: Default::default() }
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
