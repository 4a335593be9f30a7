//! Measures the hub's store by itself and behind HTTP on loopback: appends, reads, and the way from one to the other.
//!
//! `cargo run --release --example bench_topic [rows]` prints a table and adds its numbers to `target/bench/summary.json`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem::change::{
    BinlogCoordinates, Body, Change, Checks, Column, ColumnKind, Gtid, GtidPosition, Hlc, Image, Offset, Op, OriginId, Record,
    Seen, Shape, TableName, Value,
};
use tandem::runtime::Shutdown;
use tandem::serve::hub::{HubOptions, HubServer};
use tandem::topic::hub::{ClientOptions, Hub, HubClient, HubReader, HubStore, HubWriter, StoreOptions, make_key};
use tandem::topic::{TopicReader as _, TopicWriter as _};

#[path = "../benches/summary/mod.rs"]
mod figures;

type Outcome<T> = Result<T, Box<dyn Error>>;
type Summary = BTreeMap<String, f64>;

/// Appends a second in the measure of latency: a busy laptop, far from what the disk can do.
const PACE: Duration = Duration::from_millis(5);

fn main() -> Outcome<()> {
    let rows = std::env::args().nth(1).map_or(Ok(200_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut summary = Summary::new();
    runtime.block_on(run(rows, &mut summary))?;
    print(&summary);
    figures::merge(&summary.into_iter().collect::<Vec<_>>());
    Ok(())
}

async fn run(rows: u64, summary: &mut Summary) -> Outcome<()> {
    // On the disk that the project is on: a temporary folder may be in memory, where a sync costs nothing.
    let folder = tempfile::Builder::new().prefix("bench-topic").tempdir_in("target")?;
    let store = HubStore::open(&StoreOptions::new(folder.path().join("store")))?;
    measure("store", Arc::new(store.clone()), &OriginId::new("store"), rows, summary).await?;

    let (key, hash) = make_key().ok_or("the system gives no random numbers")?;
    let origin = OriginId::new("http");
    let options = HubOptions::new(folder.path().join("http"), ([127, 0, 0, 1], 0).into(), vec![(origin.clone(), hash)]);
    let server = HubServer::open(options).await?;
    let url = format!("http://{}", server.address());
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(server.run(shutdown.clone()));
    let client = HubClient::new(ClientOptions { url, key, trust: Default::default() })?;
    measure("hub", Arc::new(client), &origin, rows, summary).await?;
    shutdown.cancel();
    Ok(serving.await??)
}

async fn measure(name: &str, hub: Arc<dyn Hub>, origin: &OriginId, rows: u64, summary: &mut Summary) -> Outcome<()> {
    let mut writer = HubWriter::new(hub.clone(), origin.clone());
    let mut end = writer.resume().await?.end;
    let began = end;
    for (batch, rows) in [(500, rows), (50, rows / 4), (1, rows / 100)] {
        let mut times = Vec::new();
        let records: Vec<Record> = (0..batch).map(|number| record(origin, number)).collect();
        let (start, cpu) = (Instant::now(), processor_seconds());
        for _ in 0..rows / batch {
            let own = Instant::now();
            end = writer.append(end, &records).await?;
            times.push(own.elapsed());
        }
        let done = (rows / batch * batch) as f64;
        summary.insert(format!("{name}_append_{batch}_rows_per_s"), done / start.elapsed().as_secs_f64());
        summary.insert(format!("{name}_append_{batch}_cpu_us_per_row"), (processor_seconds() - cpu) * 1e6 / done);
        quantiles(&format!("{name}_append_{batch}"), times, summary);
    }
    read_all(name, &hub, origin, began, end, summary).await?;
    added_latency(name, &hub, origin, summary).await
}

async fn read_all(
    name: &str,
    hub: &Arc<dyn Hub>,
    origin: &OriginId,
    from: Offset,
    end: Offset,
    summary: &mut Summary,
) -> Outcome<()> {
    let reader = HubReader::new(hub.clone());
    let (start, cpu) = (Instant::now(), processor_seconds());
    let mut at = from;
    while at < end {
        at = Offset(at.0 + reader.read(origin, at, 4 << 20, Duration::ZERO).await?.len() as u64);
    }
    let done = (end.0 - from.0) as f64;
    summary.insert(format!("{name}_read_rows_per_s"), done / start.elapsed().as_secs_f64());
    summary.insert(format!("{name}_read_cpu_us_per_row"), (processor_seconds() - cpu) * 1e6 / done);
    Ok(())
}

/// From the start of an append to a waiting reader that has the record.
async fn added_latency(name: &str, hub: &Arc<dyn Hub>, origin: &OriginId, summary: &mut Summary) -> Outcome<()> {
    const COUNT: u64 = 1000;
    let mut writer = HubWriter::new(hub.clone(), origin.clone());
    let mut end = writer.resume().await?.end;
    let (reader, watched) = (HubReader::new(hub.clone()), origin.clone());
    let (mut at, last) = (end, Offset(end.0 + COUNT));
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while at < last {
            let found = reader.read(&watched, at, 1 << 20, Duration::from_secs(10)).await?;
            at = Offset(at.0 + found.len() as u64);
            seen.extend(found.iter().map(|_| Instant::now()));
        }
        Ok::<_, tandem::topic::TopicError>(seen)
    });
    let mut sent = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for number in 0..COUNT {
        pace.tick().await;
        sent.push(Instant::now());
        end = writer.append(end, &[record(origin, number)]).await?;
    }
    let seen = reading.await??;
    let times = seen.iter().zip(&sent).map(|(seen, sent)| seen.duration_since(*sent)).collect();
    quantiles(&format!("{name}_topic_latency"), times, summary);
    Ok(())
}

fn quantiles(name: &str, mut times: Vec<Duration>, summary: &mut Summary) {
    times.sort();
    for (quantile, part) in [("p50", 0.50), ("p99", 0.99)] {
        let at = ((times.len() as f64 * part) as usize).min(times.len() - 1);
        summary.insert(format!("{name}_{quantile}_ms"), times[at].as_secs_f64() * 1000.0);
    }
}

/// An update of a booking: nine columns, of which two change.
fn record(origin: &OriginId, number: u64) -> Record {
    let names = ["id", "rider_id", "driver_id", "pickup", "dropoff", "status", "fare", "note", "updated_at"];
    let columns = names.map(|name| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false });
    let shape = Shape { table: TableName::new("campuslink", "bookings"), columns: columns.into(), key: vec![0] };
    let image = |status: &str, second: u64| {
        let values = [
            Value::unsigned(number),
            Value::unsigned(number * 7 % 1000),
            Value::unsigned(number * 13 % 200),
            Value::text(format!("Gate {}", number % 40)),
            Value::text(format!("Hall {}", number % 60)),
            Value::text(status),
            Value::text(format!("{}.50", number % 90)),
            Value::Null,
            Value::text(format!("2026-01-0{} 10:{:02}:{:02}", 1 + number % 9, number / 60 % 60, second % 60)),
        ];
        Some(Image::of(values.map(Some)))
    };
    let gtid = Gtid { domain: 0, server: 11, sequence: 1000 + number };
    Record {
        origin: origin.clone(),
        gtid,
        row: 0,
        table_row: 0,
        hlc: Hlc(1_790_000_000_000_000 + number),
        seen: Arc::new(Seen([(OriginId::new("laptop-b"), Offset(number / 3))].into())),
        last: true,
        position: Arc::new(GtidPosition::from_iter([gtid])),
        read_from: None,
        commit_second: 1_790_000_000,
        server_id: 11,
        coordinates: BinlogCoordinates { file: "mysqld-bin.000042".into(), position: 4 + number * 300 },
        trace: None,
        body: Body::Change(Change {
            shape: Arc::new(shape),
            op: Op::Update,
            before: image("requested", number),
            after: image("accepted", number + 9),
            checks: Checks::default(),
        }),
    }
}

fn print(summary: &Summary) {
    for (name, value) in summary {
        println!("{name:40} {value:>14.2}");
    }
}

/// Seconds of processor time that this process has used: what a busy machine hardly changes.
fn processor_seconds() -> f64 {
    // SAFETY: the structure is plain numbers, for which zero is a value, and getrusage only writes to it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
