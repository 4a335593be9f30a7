//! `make bench`: how fast a server's binlog gets into a topic, and how long after its commit a row can be read there, with a
//! Kafka broker and with a hub, each a process of its own on this machine.
//!
//! Beside each figure stands what could be had at most, in the same run: records that are ready, sent by librdkafka's plain
//! producer or appended to the hub, and the binlog only read. Prints tables and puts its figures into
//! `target/bench/summary.json`; the figures are medians of runs that take turns.

mod cost;
#[path = "../tests/harness/mod.rs"]
mod harness;
mod native;
mod summary;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use cost::{Cost, cpu, cpu_of};
use harness::{BrokerOptions, HubKeeper, PrivateBroker, PrivateServer, ServerOptions, broker_or_say};
use mysql_async::prelude::Queryable;
use native::mariadb_binlog;
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tandem::change::wire::{self, WireRecord};
use tandem::change::{GtidPosition, Offset, OriginId, Record, TableFilter};
use tandem::observe::Observer;
use tandem::runtime::{Shutdown, SystemClock};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceError, SourceEvent, TransactionStream};
use tandem::tail::{Follower, MemoryFloor, TailError, TailOptions, Tailer};
use tandem::topic::hub::{HubReader, HubWriter};
use tandem::topic::kafka::{KafkaOptions, KafkaReader, KafkaWriter};
use tandem::topic::{TopicReader, TopicWriter};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ROWS: u64 = 500_000;
const ROWS_PER_TRANSACTION: u64 = 50;
const RUNS: usize = 5;
/// Single-row commits whose way is timed.
const COMMITS: u64 = 2_000;
/// Between two of them: 200 a second, more than people at a campus make.
const PACE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);
const HUB_ORIGIN: &str = "laptop-a";

/// What we want to reach, beside what was measured.
const AIMS: [(&str, &str); 4] = [
    ("kafka_publish_rows_per_s", "at least 100 000"),
    ("hub_publish_rows_per_s", "as kafka"),
    ("kafka_added_latency_p99_ms", "below 20"),
    ("hub_added_latency_p99_ms", "below 20"),
];

#[tokio::main]
async fn main() {
    // `cargo test --benches` starts this too, and wants nothing measured.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    // Where there is no Kafka a line says so, and the hub is measured alone.
    let broker =
        broker_or_say(BrokerOptions { settings: vec!["auto.create.topics.enable=true".into()], ..BrokerOptions::default() })
            .await;
    let options = ServerOptions::default().arg("--innodb-buffer-pool-size=256M").arg("--innodb-log-file-size=256M");
    let server = PrivateServer::start(options.arg("--max-binlog-size=1G")).await;
    let mut figures = Vec::new();
    publishing(&server, broker.as_ref(), &mut figures).await;
    latency(&server, broker.as_ref(), &mut figures).await;

    println!("\n{:<34}{:>14}  aim", "figure", "measured");
    for (name, value) in &figures {
        let aim = AIMS.iter().find(|(own, _)| own == name).map_or("", |(_, aim)| aim);
        println!("{name:<34}{value:>14.2}  {aim}");
    }
    summary::merge(&figures);
}

type Figures = Vec<(String, f64)>;

/// What one run took, and seconds of processor time of the broker or hub in it.
struct Run {
    cost: Cost,
    keeper_cpu: f64,
}

async fn publishing(server: &PrivateServer, broker: Option<&PrivateBroker>, figures: &mut Figures) {
    println!("writing {ROWS} rows in transactions of {ROWS_PER_TRANSACTION} …");
    let history = write(server).await;
    let source = History { inner: source(server), from: history.0.clone() };
    let records = ready(&source, &history.1).await;
    let wire: Vec<WireRecord> = records.iter().map(wire::encode).collect();
    let bytes: usize = wire.iter().map(WireRecord::size).sum();
    println!("a record has {} bytes, headers included", bytes / wire.len());

    let mut reading: [Vec<Cost>; 2] = Default::default();
    let mut runs: [Vec<Run>; 4] = Default::default();
    for run in 0..RUNS {
        reading[0].push(mariadb_binlog(server, &history.2, true));
        reading[1].push(read(&source, &history.1).await);
        if let Some(broker) = broker {
            let origin = OriginId::new(&format!("publish-{run}"));
            let keeper = broker.process_id().expect("the broker runs");
            let writer = Box::new(KafkaWriter::new(kafka(broker), origin.clone()));
            runs[0].push(measured(keeper, publish(source.clone(), writer, &origin, &history.1)).await);
            check(&KafkaReader::new(kafka(broker)), &origin).await;
            runs[1].push(measured(keeper, send(broker, &format!("plain-{run}"), &wire)).await);
        }
        let mut hub = hub().await;
        let (keeper, origin) = (hub.process().process_id().expect("the hub runs"), OriginId::new(HUB_ORIGIN));
        let writer = Box::new(HubWriter::new(Arc::new(hub.client()), origin.clone()));
        runs[2].push(measured(keeper, publish(source.clone(), writer, &origin, &history.1)).await);
        check(&HubReader::new(Arc::new(hub.client())), &origin).await;
        let mut hub = self::hub().await;
        let keeper = hub.process().process_id().expect("the hub runs");
        runs[3].push(measured(keeper, append(&hub, &records)).await);
    }

    let million = ROWS as f64 / 1e6;
    println!("\n{:<34}{:>8}{:>12}{:>18}{:>20}", "", "wall s", "rows/s", "CPU s/M rows", "its keeper's CPU s");
    let line = |what: &str, cost: Cost, keeper: Option<f64>| {
        let keeper = keeper.map_or("-".into(), |cpu| format!("{:.1}", cpu / million));
        println!("{what:<34}{:>8.2}{:>12.0}{:>18.1}{keeper:>20}", cost.wall, ROWS as f64 / cost.wall, cost.cpu / million);
    };
    let [raw, decoded] = reading.map(Cost::median);
    line("mariadb-binlog --raw", raw, None);
    line("tandem, to changes", decoded, None);
    let names = ["binlog → kafka", "ready records → kafka (librdkafka)", "binlog → hub", "ready records → hub"];
    for ((name, figure), mut runs) in names.into_iter().zip(["kafka_publish", "", "hub_publish", ""]).zip(runs) {
        if runs.is_empty() {
            continue;
        }
        runs.sort_by(|one, other| one.cost.wall.total_cmp(&other.cost.wall));
        let median = &runs[runs.len() / 2];
        line(name, median.cost, Some(median.keeper_cpu));
        if !figure.is_empty() {
            figures.push((format!("{figure}_rows_per_s"), ROWS as f64 / median.cost.wall));
            figures.push((format!("{figure}_cpu_s_per_m_rows"), median.cost.cpu / million));
            figures.push((format!("{figure}_keeper_cpu_s_per_m_rows"), median.keeper_cpu / million));
        }
    }
}

/// Does it, and tells what it took here and in the process that keeps the topic.
async fn measured(keeper: u32, work: impl Future<Output = ()>) -> Run {
    let (start, own, before) = (Instant::now(), cpu(libc::RUSAGE_SELF), cpu_of(keeper));
    work.await;
    Run { cost: Cost::since(start, own, libc::RUSAGE_SELF), keeper_cpu: cpu_of(keeper) - before }
}

/// From the start of a tailer whose topic is empty until all rows are durable in it.
async fn publish(source: History, writer: Box<dyn TopicWriter>, origin: &OriginId, to: &GtidPosition) {
    let mut tailing = Tailing::start(Arc::new(source), writer, origin);
    let all = tailing.passed.wait_for(|position| position.covers_all(to));
    tokio::time::timeout(PATIENCE, all).await.expect("it is quicker than that").expect("the tailer goes on");
    tailing.end().await.expect("the tailer goes on");
}

/// The records as a tailer publishes them.
async fn ready(source: &History, to: &GtidPosition) -> Vec<Record> {
    let (hub, origin) = (hub().await, OriginId::new(HUB_ORIGIN));
    publish(source.clone(), Box::new(HubWriter::new(Arc::new(hub.client()), origin.clone())), &origin, to).await;
    let records = whole(&HubReader::new(Arc::new(hub.client())), &origin).await;
    assert_eq!(records.len() as u64, ROWS, "every row once");
    records
}

/// All changes in a topic.
async fn whole(reader: &dyn TopicReader, origin: &OriginId) -> Vec<Record> {
    let extent = reader.extent(origin).await.expect("the topic answers");
    let (mut at, mut records) = (extent.first, Vec::new());
    while at < extent.end {
        for (offset, record) in reader.read(origin, at, 4 << 20, PATIENCE).await.expect("the topic can be read") {
            at = offset.next();
            records.extend(record.change().is_some().then_some(record));
        }
    }
    records
}

/// That a figure is one of a topic that holds all rows: heartbeats aside, as many records as rows.
async fn check(reader: &dyn TopicReader, origin: &OriginId) {
    let extent = reader.extent(origin).await.expect("the topic answers");
    let records = extent.end.0 - extent.first.0;
    assert!((ROWS..ROWS + 100).contains(&records), "{records} records of {ROWS} rows");
}

/// The binlog into changes, and nothing more.
async fn read(source: &History, to: &GtidPosition) -> Cost {
    let (start, cpu) = (Instant::now(), cpu(libc::RUSAGE_SELF));
    let (mut rows, mut position) = (0, source.from.clone());
    let mut stream = source.stream(&position).await.expect("the server can be read");
    while !position.covers_all(to) {
        let SourceEvent::Part(part) = stream.next().await.expect("the server can be read") else { continue };
        rows += part.changes.len() as u64;
        if part.last {
            position.advance(part.header.gtid);
        }
    }
    assert_eq!(rows, ROWS);
    Cost::since(start, cpu, libc::RUSAGE_SELF)
}

type PlainProducer = ThreadedProducer<DefaultProducerContext>;

/// librdkafka with the settings that decide about durability and size, and nothing of ours around it.
fn plain_producer(broker: &PrivateBroker) -> PlainProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("acks", "all").set("enable.idempotence", "true");
    config.set("compression.type", "zstd").set("linger.ms", "1").set("queue.buffering.max.messages", "0");
    config.set("queue.buffering.max.kbytes", "2097151").create().expect("the settings are right")
}

fn send_plain(producer: &PlainProducer, topic: &str, record: &WireRecord) {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (key, value) in &record.headers {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    let record = BaseRecord::to(topic).partition(0).key(&record.key).payload(&record.value).headers(headers);
    producer.send(record).map_err(|(error, _)| error).expect("the queue has no end");
}

/// Records that are ready, as quick as librdkafka sends them.
async fn send(broker: &PrivateBroker, topic: &str, records: &[WireRecord]) {
    let producer = plain_producer(broker);
    tokio::task::block_in_place(|| {
        records.iter().for_each(|record| send_plain(&producer, topic, record));
        producer.flush(PATIENCE).expect("the broker answers");
    });
}

/// Records that are ready, as quick as the hub takes them.
async fn append(hub: &HubKeeper, records: &[Record]) {
    let mut writer = HubWriter::new(Arc::new(hub.client()), OriginId::new(HUB_ORIGIN));
    let mut end = writer.resume().await.expect("the hub answers").end;
    // About as many as a tailer sends at once.
    for some in records.chunks(4_000) {
        end = writer.append(end, some).await.expect("the hub answers");
    }
}

async fn latency(server: &PrivateServer, broker: Option<&PrivateBroker>, figures: &mut Figures) {
    println!("\n{COMMITS} commits of one row, 200 a second; until a waiting reader of the topic has the row");
    println!("{:<50}{:>10}{:>10}", "", "p50 ms", "p99 ms");
    let origin = OriginId::new(HUB_ORIGIN);
    if let Some(broker) = broker {
        let topic = (Box::new(KafkaWriter::new(kafka(broker), origin.clone())), Arc::new(KafkaReader::new(kafka(broker))));
        let record = crossings(server, topic.0, topic.1, "kafka", figures).await;
        said("a plain producer to a plain consumer", plain_latency(broker, &wire::encode(&record)).await);
    }
    let hub = hub().await;
    let client = Arc::new(hub.client());
    let (writer, reader) = (Box::new(HubWriter::new(client.clone(), origin.clone())), Arc::new(HubReader::new(client.clone())));
    let record = crossings(server, writer, reader.clone(), "hub", figures).await;
    said("a plain append to the reader", append_latency(HubWriter::new(client, origin), reader, record).await);
}

/// From the return of a commit to a reader of the topic that has the row. A record for the reference.
async fn crossings(
    server: &PrivateServer,
    writer: Box<dyn TopicWriter>,
    reader: Arc<dyn TopicReader>,
    name: &str,
    figures: &mut Figures,
) -> Record {
    let origin = OriginId::new(HUB_ORIGIN);
    server.query("DELETE FROM bench.single").await;
    let mut tailing = Tailing::start(Arc::new(source(server)), writer, &origin);
    tailing.passed.changed().await.expect("the tailer goes on");
    let mut conn = server.conn().await;
    let end = reader.extent(&origin).await.expect("the topic answers").end;
    let seen = watch_rows(reader, origin, end);
    let mut committed = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for id in 0..COMMITS {
        pace.tick().await;
        let insert = format!("INSERT INTO bench.single VALUES {}", row(id));
        conn.query_drop(insert).await.expect("the server answers");
        committed.push(Instant::now());
    }
    conn.disconnect().await.expect("a session can be ended");
    let (seen, record) = tokio::time::timeout(PATIENCE, seen).await.expect("all rows arrive").expect("the reader goes on");
    tailing.end().await.expect("the tailer goes on");
    // A row can be in the topic before its writer is told that it is committed.
    let times = committed.iter().zip(&seen).map(|(committed, seen)| seen.saturating_duration_since(*committed)).collect();
    let (p50, p99) = said(&format!("commit → {name}"), times);
    figures.push((format!("{name}_added_latency_p50_ms"), p50));
    figures.push((format!("{name}_added_latency_p99_ms"), p99));
    record
}

/// When each of the rows was read, and the last of their records.
fn watch_rows(reader: Arc<dyn TopicReader>, origin: OriginId, mut at: Offset) -> JoinHandle<(Vec<Instant>, Record)> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let found = reader.read(&origin, at, 1 << 20, Duration::from_secs(5)).await.expect("the topic can be read");
            let now = Instant::now();
            for (offset, record) in found {
                at = offset.next();
                if record.change().is_some() {
                    seen.push(now);
                }
                if seen.len() as u64 == COMMITS {
                    return (seen, record);
                }
            }
        }
    })
}

/// From a plain producer's call to a plain consumer that has the record.
async fn plain_latency(broker: &PrivateBroker, record: &WireRecord) -> Vec<Duration> {
    let topic = "plain-latency";
    let producer = plain_producer(broker);
    let send = || tokio::task::block_in_place(|| send_plain(&producer, topic, record));
    send();
    tokio::task::block_in_place(|| producer.flush(PATIENCE)).expect("the broker answers");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("group.id", "plain").set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create().expect("the settings are right");
    let mut assignment = rdkafka::TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, rdkafka::Offset::Beginning).expect("a place");
    consumer.assign(&assignment).expect("the place is one");
    consumer.recv().await.expect("the broker answers");
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while (seen.len() as u64) < COMMITS {
            consumer.recv().await.expect("the broker answers");
            seen.push(Instant::now());
        }
        seen
    });
    let mut sent = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..COMMITS {
        pace.tick().await;
        sent.push(Instant::now());
        send();
    }
    let seen = reading.await.expect("all of them arrive");
    seen.iter().zip(&sent).map(|(seen, sent)| seen.duration_since(*sent)).collect()
}

/// From the start of an append to the reader that has the record.
async fn append_latency(mut writer: HubWriter, reader: Arc<HubReader>, record: Record) -> Vec<Duration> {
    let mut end = writer.resume().await.expect("the hub answers").end;
    let seen = watch_rows(reader, record.origin.clone(), end);
    let mut sent = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    for _ in 0..COMMITS {
        pace.tick().await;
        sent.push(Instant::now());
        end = writer.append(end, std::slice::from_ref(&record)).await.expect("the hub answers");
    }
    let (seen, _) = seen.await.expect("all of them arrive");
    seen.iter().zip(&sent).map(|(seen, sent)| seen.duration_since(*sent)).collect()
}

/// Prints a line; returns the median and the 99th of a hundred, in milliseconds.
fn said(what: &str, mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_secs_f64() * 1000.0;
    let (p50, p99) = (at(0.50), at(0.99));
    println!("{what:<50}{p50:>10.2}{p99:>10.2}");
    (p50, p99)
}

/// A tailer that runs, and how far it has come.
struct Tailing {
    passed: watch::Receiver<GtidPosition>,
    running: JoinHandle<Result<(), TailError>>,
    shutdown: Shutdown,
}

impl Tailing {
    fn start(source: Arc<dyn Source>, writer: Box<dyn TopicWriter>, origin: &OriginId) -> Self {
        let (tell, passed) = watch::channel(GtidPosition::start());
        let tailer = Tailer {
            options: TailOptions::new(origin.clone(), TableFilter::everything()),
            source,
            writer,
            follower: Arc::new(Passed(tell)),
            floor: Arc::new(MemoryFloor::default()),
            clock: Arc::new(SystemClock),
            observer: Observer::default(),
            snapshots: None,
            rereads: Arc::default(),
        };
        let shutdown = Shutdown::new();
        Self { passed, running: tokio::spawn(tailer.run(shutdown.clone())), shutdown }
    }

    async fn end(self) -> Result<(), TailError> {
        self.shutdown.cancel();
        self.running.await.expect("the tailer does not panic")
    }
}

struct Passed(watch::Sender<GtidPosition>);

impl Follower for Passed {
    fn resumed(&self, _: Offset) {}
    fn published(&self, _: Offset, _: &[Record]) {}
    fn passed(&self, position: &GtidPosition) {
        self.0.send_replace(position.clone());
    }
}

/// A server whose new readers begin where the rows begin, as a tailer does that was away while they were written.
#[derive(Clone)]
struct History {
    inner: BinlogSource,
    from: GtidPosition,
}

#[async_trait]
impl Source for History {
    async fn position(&self) -> Result<GtidPosition, SourceError> {
        Ok(self.from.clone())
    }

    async fn oldest(&self) -> Result<GtidPosition, SourceError> {
        self.inner.oldest().await
    }

    async fn stream(&self, from: &GtidPosition) -> Result<Box<dyn TransactionStream>, SourceError> {
        self.inner.stream(from).await
    }
}

fn source(server: &PrivateServer) -> BinlogSource {
    BinlogSource::new(BinlogOptions::new(server.account_opts(), 1101, TableFilter::everything()))
}

fn kafka(broker: &PrivateBroker) -> KafkaOptions {
    KafkaOptions::new(vec![broker.address()], "bench")
}

async fn hub() -> HubKeeper {
    HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), HUB_ORIGIN).await
}

/// A booking: about 120 bytes in the binlog.
fn row(id: u64) -> String {
    format!("({id}, {}, 'Gate {}', {}.50, 1, '2026-01-01 10:00:00.123456', 'brings a bag')", id % 1000, id % 40, id % 90)
}

/// Where the rows begin and end, and their binlog file.
async fn write(server: &PrivateServer) -> (GtidPosition, GtidPosition, String) {
    let columns = "(id BIGINT PRIMARY KEY, rider INT NOT NULL, place VARCHAR(80) NOT NULL, fare DECIMAL(8,2) NULL, \
                   state ENUM('requested','completed') NOT NULL, at DATETIME(6) NOT NULL, note VARCHAR(200) NULL)";
    server
        .query(&format!("CREATE DATABASE bench; CREATE TABLE bench.bookings {columns}; CREATE TABLE bench.single {columns}"))
        .await;
    server.query("FLUSH BINARY LOGS").await;
    let position = async || -> GtidPosition {
        server.first::<String>("SELECT @@gtid_binlog_pos").await.expect("a binlog").parse().expect("a position")
    };
    let from = position().await;
    let (file, ..) = server.first::<(String, u64, String, String)>("SHOW MASTER STATUS").await.expect("a binlog");
    server.sql_client(&format!(
        "USE bench;\nDELIMITER //\nBEGIN NOT ATOMIC FOR i IN 0..{} DO \
         EXECUTE IMMEDIATE CONCAT('INSERT INTO bookings SELECT seq, seq % 1000, CONCAT(\\'Gate \\', seq % 40), seq / 100, \
         1 + seq % 2, \\'2026-01-01 10:00:00.123456\\' + INTERVAL seq SECOND, CONCAT(\\'booking number \\', seq, \
         \\' brings a bag and waits at the gate\\') FROM seq_', i * {ROWS_PER_TRANSACTION}, '_to_', \
         (i + 1) * {ROWS_PER_TRANSACTION} - 1); END FOR; END//\n",
        ROWS / ROWS_PER_TRANSACTION - 1
    ));
    let to = position().await;
    server.query("FLUSH BINARY LOGS").await;
    (from, to, file)
}
