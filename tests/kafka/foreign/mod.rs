//! A reader of Debezium's envelope that we did not write understands what a tailer puts into Kafka: Flink's `debezium-json`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tandem::change::{GtidPosition, Offset, OriginId, Record, TableFilter};
use tandem::observe::Observer;
use tandem::runtime::{Shutdown, SystemClock};
use tandem::source::Source as _;
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::tail::{Follower, MemoryFloor, TailOptions, Tailer};
use tandem::topic::kafka::KafkaWriter;
use tokio::sync::watch;

use super::harness::{BrokerOptions, PrivateBroker, PrivateServer, ServerOptions, broker_or_say, foreign_reader_or_say};
use super::options;

const WITHIN: Duration = Duration::from_secs(60);

/// Every column type that MariaDB has: its name, its type there, the type that Flink reads it as, and what a SELECT says
/// as Flink prints it. What Flink has no type for (years before 1, times of more than a day, or with a fraction) is read as a string.
const COLUMNS: &[(&str, &str, &str, &str)] = &[
    ("id", "INT PRIMARY KEY", "INT", "id"),
    ("tiny", "TINYINT", "TINYINT", "tiny"),
    ("tiny_u", "TINYINT UNSIGNED", "SMALLINT", "tiny_u"),
    ("small", "SMALLINT", "SMALLINT", "small"),
    ("medium", "MEDIUMINT", "INT", "medium"),
    ("int_u", "INT UNSIGNED", "BIGINT", "int_u"),
    ("big", "BIGINT", "BIGINT", "big"),
    ("big_u", "BIGINT UNSIGNED", "DECIMAL(20, 0)", "big_u"),
    ("flag", "BOOLEAN", "INT", "flag"),
    ("bits", "BIT(9)", "INT", "bits + 0"),
    ("price", "DECIMAL(38, 18)", "DECIMAL(38, 18)", "price"),
    ("wide", "DECIMAL(65, 30)", "STRING", "wide"),
    ("ratio", "DOUBLE", "DOUBLE", "ratio"),
    ("score", "FLOAT", "FLOAT", "score"),
    ("born", "YEAR", "INT", "born"),
    ("day", "DATE", "DATE", "`day`"),
    ("clock", "TIME", "TIME", "clock"),
    ("length", "TIME(6)", "STRING", "length"),
    ("at", "DATETIME(6)", "TIMESTAMP(6)", "at"),
    ("zero", "DATETIME", "STRING", "zero"),
    ("stamp", "TIMESTAMP(6)", "TIMESTAMP(6)", "stamp"),
    ("fixed", "CHAR(5) CHARACTER SET latin1", "STRING", "fixed"),
    ("name", "VARCHAR(80) CHARACTER SET utf8mb4", "STRING", "name"),
    ("story", "LONGTEXT CHARACTER SET utf8mb4", "STRING", "story"),
    ("kind", "ENUM('a', 'ж')", "STRING", "kind"),
    ("tags", "SET('x', 'y', 'z')", "STRING", "tags"),
    ("doc", "JSON", "STRING", "doc"),
    ("raw", "BINARY(4)", "BYTES", "HEX(raw)"),
    ("var", "VARBINARY(40)", "BYTES", "HEX(var)"),
    ("photo", "BLOB", "BYTES", "HEX(photo)"),
    ("place", "POINT", "BYTES", "HEX(place)"),
    ("uuid", "UUID", "STRING", "uuid"),
    ("ip", "INET6", "STRING", "ip"),
    ("sum", "INT AS (id + 1) STORED", "INT", "`sum`"),
];

/// What stands before the columns.
const KIND: [(&str, &str, &str, &str); 1] = [("kind of row", "", "", "")];

/// Edge values, in the order of the columns; the last column is computed.
const ROWS: [&str; 2] = [
    "1, -128, 255, -32768, -8388608, 4294967295, -9223372036854775808, 18446744073709551615, TRUE, 511, \
     '-12345678901234567890.123456789012345678', CONCAT(REPEAT('9', 35), '.', REPEAT('9', 30)), 0.30000000000000004, 0.15625, \
     2155, '9999-12-31', '23:59:59', '-838:59:59.000001', '2026-02-28 23:59:59.999999', '0000-00-00 00:00:00', \
     '2026-01-01 00:00:00.000001', 'é', 'a \"quote\" and a \\\\ 😀', REPEAT('long ', 100), 'ж', 'x,z', '{\"a\": [1, null]}', \
     x'00ff0100', x'000a0d', x'ffd8ffe000', POINT(1.5, -2), 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2001:db8::1'",
    "3, 0, 0, 0, 0, 0, 0, 0, FALSE, 0, 0, 0, 0.5, 0.5, 1901, '1970-01-01', '00:00:01', '00:00:00', \
     '1000-01-01 00:00:00.000001', '2026-01-01 10:00:00', '1970-01-02 00:00:00.000001', '', '', '', 'a', '', '[]', '', '', '', \
     POINT(0, 0), '00000000-0000-0000-0000-000000000001', '::1'",
];

struct Passed(watch::Sender<GtidPosition>);

impl Follower for Passed {
    fn resumed(&self, _: Offset) {}
    fn published(&self, _: Offset, _: &[Record]) {}
    fn passed(&self, position: &GtidPosition) {
        self.0.send_replace(position.clone());
    }
}

/// Runs `writes` while a tailer publishes; returns when all of it is in the topic.
async fn tailed(server: &PrivateServer, broker: &PrivateBroker, origin: &OriginId, writes: impl AsyncFnOnce()) {
    let source = BinlogSource::new(BinlogOptions::new(server.account_opts(), 1101, TableFilter::everything()));
    let (tell, mut passed) = watch::channel(GtidPosition::start());
    let tailer = Tailer {
        options: TailOptions::new(origin.clone(), TableFilter::everything()),
        source: Arc::new(source.clone()),
        writer: Box::new(KafkaWriter::new(options(&broker.address(), "foreign"), origin.clone())),
        follower: Arc::new(Passed(tell)),
        floor: Arc::new(MemoryFloor::default()),
        clock: Arc::new(SystemClock),
        observer: Observer::default(),
        snapshots: None,
        rereads: Arc::default(),
    };
    let shutdown = Shutdown::new();
    let publishing = async {
        passed.changed().await.expect("told by a tailer that runs");
        writes().await;
        let end = source.position().await.expect("the server answers");
        passed.wait_for(|position| position.covers_all(&end)).await.expect("told by a tailer that runs");
        shutdown.cancel();
    };
    let (ended, published) = tokio::join!(tailer.run(shutdown.clone()), tokio::time::timeout(WITHIN, publishing));
    ended.expect("the tailer has no reason to stop");
    published.expect("it is quicker than that");
}

/// The values in the topic, one a line, as kcat reads them: what has none is an empty line.
fn values(broker: &PrivateBroker, topic: &str) -> String {
    let broker = broker.address();
    let output = Command::new("kcat")
        .args(["-C", "-b", &broker, "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%s\n"])
        .output()
        .expect("kcat runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("our values are UTF-8")
}

/// What Flink makes of the values: a line per row; or why it gave up.
fn flink(jars: &Path, how: &str, values: &str) -> Result<Vec<String>, String> {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, _, flink, _)| format!("`{name}` {flink}")).collect();
    let mut reader = Command::new("java")
        .args(["-Duser.timezone=UTC", "-cp"])
        .arg(jars.join("*"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/foreign/Reader.java"))
        .args([how, &columns.join(", ")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java runs");
    let mut input = reader.stdin.take().expect("its input is a pipe");
    let values = values.to_owned();
    // From a thread: it may write before it has read all.
    let fed = std::thread::spawn(move || input.write_all(values.as_bytes()));
    let output = reader.wait_with_output().expect("java ends");
    // A reader that gave up leaves the rest.
    let _ = fed.join().expect("no panic");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).expect("it writes UTF-8").lines().map(str::to_owned).collect())
}

/// A row as the server tells it, in the form that the reader prints.
async fn selected(server: &PrivateServer, id: u64) -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(_, _, _, select)| format!("IFNULL(CONCAT({select}), 'NULL')")).collect();
    let row = format!("SELECT CONCAT_WS('\t', {}) FROM campus.every_type WHERE id = {id}", columns.join(", "));
    server.first(&row).await.expect("the row is there")
}

#[tokio::test(flavor = "multi_thread")]
async fn flink_reads_every_column_type_of_a_tailers_records() {
    let Some(broker) = broker_or_say(BrokerOptions::default()).await else { return };
    let Some(jars) = foreign_reader_or_say() else { return };
    let server = PrivateServer::start(ServerOptions::default().arg("--sql-mode=").arg("--default-time-zone=+00:00")).await;
    let columns: Vec<String> = COLUMNS.iter().map(|(name, mariadb, ..)| format!("`{name}` {mariadb}")).collect();
    server.query(&format!("CREATE DATABASE campus; CREATE TABLE campus.every_type ({})", columns.join(", "))).await;
    let mut expected = Vec::new();
    tailed(&server, &broker, &OriginId::new("laptop-a"), async || {
        let names: Vec<String> = COLUMNS[..COLUMNS.len() - 1].iter().map(|(name, ..)| format!("`{name}`")).collect();
        for row in ROWS {
            server.query(&format!("INSERT INTO campus.every_type ({}) VALUES ({row})", names.join(", "))).await;
        }
        // All of it NULL.
        server.query("INSERT INTO campus.every_type (id) VALUES (2)").await;
        for id in [1, 3, 2] {
            expected.push(format!("+I\t{}", selected(&server, id).await));
        }
        expected.push(format!("-U\t{}", selected(&server, 1).await));
        server.query("UPDATE campus.every_type SET name = NULL, photo = x'00', price = 1.5 WHERE id = 1").await;
        expected.push(format!("+U\t{}", selected(&server, 1).await));
        expected.push(format!("-D\t{}", selected(&server, 3).await));
        server.query("DELETE FROM campus.every_type WHERE id = 3").await;
    })
    .await;

    let values = values(&broker, "foreign.laptop-a");
    let is_heartbeat = |line: &&str| line.starts_with(r#"{"op":"heartbeat""#);
    assert!(values.lines().any(|line| is_heartbeat(&line)) && values.lines().any(str::is_empty), "{values}");
    let changes: String = values.lines().filter(|line| !is_heartbeat(line)).map(|line| format!("{line}\n")).collect();
    let read = flink(&jars, "strict", &changes).expect("changes and marks are all it knows");
    for (read, expected) in read.iter().zip(&expected) {
        for ((name, ..), (read, expected)) in KIND.iter().chain(COLUMNS).zip(read.split('\t').zip(expected.split('\t'))) {
            assert_eq!(read, expected, "{name}");
        }
    }
    assert_eq!(read, expected);
    // A heartbeat is no change; so docs/wire-format.md tells to set this.
    assert_eq!(flink(&jars, "lenient", &values).expect("it passes over what it does not know"), expected);
    // That strict is strict, or the above proves nothing.
    let refused = flink(&jars, "strict", &values).expect_err("it does not know heartbeats");
    assert!(refused.contains("heartbeat"), "{refused}");
}
