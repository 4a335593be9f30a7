//! How fast a server's binlog is read: beside `mariadb-binlog`, on the same server, in the same run.
//!
//! Prints a table and puts its figures into `target/bench/summary.json`. The runs of all readers take turns, so that a
//! machine that is busy for a while slows all of them; the figures are medians.

#[path = "../tests/harness/mod.rs"]
mod harness;
mod summary;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{PrivateServer, ServerOptions};
use tandem::change::{Body, GtidPosition, Hlc, OriginId, Record, Seen, TableFilter, wire};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceEvent};

const BULK_ROWS: u64 = 1_000_000;
const BULK_ROWS_PER_TRANSACTION: u64 = 10_000;
const SMALL_TRANSACTIONS: u64 = 250_000;
const RUNS: usize = 5;

/// One core, as a tailer has it.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    println!("writing {BULK_ROWS} rows in bulk and {SMALL_TRANSACTIONS} one-row transactions …");
    let bulk = write_bulk(&server).await;
    let small = write_small(&server).await;

    let mut figures = Vec::new();
    println!("\n{:<34}{:>10}{:>14}{:>10}", "reading over loopback", "wall s", "rows/s", "of --raw");
    for (name, history) in [("bulk", &bulk), ("small", &small)] {
        let mut runs: [Vec<Duration>; 4] = Default::default();
        for _ in 0..RUNS {
            runs[0].push(mariadb_binlog(&server, history, true));
            runs[1].push(read(&server, history, None).await);
            runs[2].push(read(&server, history, Some(&mut Vec::new())).await);
            runs[3].push(mariadb_binlog(&server, history, false));
        }
        let [raw, decoded, json, verbose] = runs.map(median);
        let row = |what: &str, wall: Duration| {
            let (wall, share) = (wall.as_secs_f64(), wall.as_secs_f64() / raw.as_secs_f64());
            println!("{:<34}{wall:>10.2}{:>14.0}{share:>10.2}", format!("{name}: {what}"), history.rows as f64 / wall);
            share
        };
        row("mariadb-binlog --raw", raw);
        figures.push((format!("decode_{name}_wall_vs_raw"), row("tandem, to changes", decoded)));
        row("tandem, to JSON lines", json);
        row("mariadb-binlog -v", verbose);
        if name == "bulk" {
            figures.push(("decode_bulk_rows_per_s".into(), history.rows as f64 / decoded.as_secs_f64()));
            figures.push(("json_rows_per_s".into(), history.rows as f64 / json.as_secs_f64()));
        }
    }
    let peak = peak_rss_mb();
    println!("\npeak memory of the reader: {peak:.0} MB");
    figures.push(("decode_peak_rss_mb".into(), peak));
    summary::merge(&figures);
}

/// A part of the server's history, in a binlog file of its own.
struct History {
    from: GtidPosition,
    to: GtidPosition,
    file: String,
    rows: u64,
}

async fn write_bulk(server: &PrivateServer) -> History {
    server
        .query(
            "CREATE DATABASE bench; CREATE TABLE bench.bulk (id INT PRIMARY KEY, rider INT UNSIGNED NOT NULL, driver BIGINT, \
             price DECIMAL(10,2), note VARCHAR(200), email VARCHAR(100), state ENUM('new','done','gone'), at DATETIME(6), \
             day DATE, score DOUBLE, photo VARBINARY(100))",
        )
        .await;
    history(server, BULK_ROWS, async || {
        for start in (0..BULK_ROWS).step_by(BULK_ROWS_PER_TRANSACTION as usize) {
            let end = start + BULK_ROWS_PER_TRANSACTION - 1;
            server.sql_client(&format!(
                "USE bench; INSERT INTO bulk SELECT seq, seq % 1000, seq * 7, seq / 100, REPEAT('note ', 25), \
                 CONCAT('rider', seq, '@campus.example'), 1 + seq % 3, '2026-01-01 10:00:00.123456' + INTERVAL seq SECOND, \
                 '2026-01-01' + INTERVAL seq % 365 DAY, seq / 7, REPEAT(CHAR(seq % 256 USING binary), 80) \
                 FROM seq_{start}_to_{end}"
            ));
        }
    })
    .await
}

async fn write_small(server: &PrivateServer) -> History {
    server.query("CREATE TABLE bench.small (id INT PRIMARY KEY, name VARCHAR(60), at DATETIME, price DECIMAL(10,2))").await;
    history(server, SMALL_TRANSACTIONS, async || {
        server.sql_client(&format!(
            "USE bench; DELIMITER //\nBEGIN NOT ATOMIC FOR i IN 1..{SMALL_TRANSACTIONS} DO \
             INSERT INTO small VALUES (i, CONCAT('rider number ', i), NOW(), i / 100); END FOR; END//\n"
        ));
    })
    .await
}

async fn history(server: &PrivateServer, rows: u64, write: impl AsyncFnOnce()) -> History {
    server.query("FLUSH BINARY LOGS").await;
    let position = async || -> GtidPosition {
        server.first::<String>("SELECT @@gtid_binlog_pos").await.expect("a binlog").parse().expect("a position")
    };
    let from = position().await;
    let (file, ..) = server.first::<(String, u64, String, String)>("SHOW MASTER STATUS").await.expect("a binlog");
    write().await;
    let to = position().await;
    server.query("FLUSH BINARY LOGS").await;
    History { from, to, file, rows }
}

/// Reads the history into changes, and those into lines of JSON where a buffer is given.
async fn read(server: &PrivateServer, history: &History, mut json: Option<&mut Vec<u8>>) -> Duration {
    let source = BinlogSource::new(BinlogOptions::new(server.account_opts(), 1101, TableFilter::everything()));
    let origin = OriginId::new("bench");
    let (mut rows, mut position) = (0, history.from.clone());
    let mut written = 0;
    let start = Instant::now();
    let mut stream = source.stream(&history.from).await.expect("the server can be read");
    while !position.covers_all(&history.to) {
        let SourceEvent::Part(part) = stream.next().await.expect("the server can be read") else { continue };
        if let Some(lines) = &mut json {
            let header = &part.header;
            let mut record = Record {
                origin: origin.clone(),
                gtid: header.gtid,
                row: 0,
                table_row: 0,
                hlc: Hlc::default(),
                seen: Arc::new(Seen::default()),
                last: part.last,
                position: Arc::new(GtidPosition::start()),
                read_from: None,
                commit_second: header.commit_second,
                server_id: header.server_id,
                coordinates: header.coordinates.clone(),
                body: Body::Heartbeat,
            };
            for change in &part.changes {
                wire::change_json(lines, &record, change);
                lines.push(b'\n');
                record.row += 1;
            }
            if lines.len() > 1 << 16 {
                written += std::hint::black_box(&lines).len();
                lines.clear();
            }
        }
        rows += part.changes.len() as u64;
        if part.last {
            position.advance(part.header.gtid);
        }
        std::hint::black_box(part);
    }
    let wall = start.elapsed();
    assert_eq!(rows, history.rows, "not all rows came");
    std::hint::black_box(written);
    wall
}

/// The server's own reader: copies the file (`raw`), or decodes it into text as nobody reads it.
fn mariadb_binlog(server: &PrivateServer, history: &History, raw: bool) -> Duration {
    let copies = tempfile::tempdir().expect("a temporary directory");
    let opts = server.account_opts();
    let mut command = Command::new("mariadb-binlog");
    command
        .args(["--no-defaults", "--read-from-remote-server", "--protocol=tcp", "--host=127.0.0.1"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--user={}", opts.user().unwrap_or_default()))
        .env("MYSQL_PWD", server.password())
        .stdout(Stdio::null());
    match raw {
        true => command.arg("--raw").arg(format!("--result-file={}/", copies.path().display())),
        false => command.arg("-v"),
    };
    let start = Instant::now();
    let status = command.arg(&history.file).status().unwrap_or_else(|error| panic!("cannot run mariadb-binlog: {error}"));
    let wall = start.elapsed();
    assert!(status.success(), "mariadb-binlog failed: {status}");
    if raw {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let copied = size(&copies.path().join(&history.file));
        assert_eq!(copied, size(&server.data_dir().join(&history.file)), "mariadb-binlog did not copy all");
    }
    wall
}

fn median(mut walls: Vec<Duration>) -> Duration {
    walls.sort();
    walls[walls.len() / 2]
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb: f64 = peak.and_then(|peak| peak.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN);
    kb / 1024.0
}
