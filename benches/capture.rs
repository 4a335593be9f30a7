//! `make bench`: how fast a server's binlog is read, beside `mariadb-binlog`, on the same server, in the same run; and how
//! much memory one huge transaction takes.
//!
//! Prints a table and puts its figures into `target/bench/summary.json`. The runs of all readers take turns, so that a
//! machine that is busy for a while slows all of them; the figures are medians. Processor time tells more than the
//! clock where other programs run.

mod cost;
#[path = "../tests/harness/mod.rs"]
mod harness;
mod native;
mod summary;

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use cost::{Cost, cpu, peak_rss_mb};
use harness::{PrivateServer, ServerOptions};
use native::mariadb_binlog;
use tandem::change::{Body, GtidPosition, Hlc, OriginId, Record, Seen, TableFilter, wire};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceEvent};

const BULK_ROWS: u64 = 1_000_000;
const BULK_ROWS_PER_TRANSACTION: u64 = 10_000;
const SMALL_TRANSACTIONS: u64 = 250_000;
/// In one transaction.
const HUGE_ROWS: u64 = 10_000_000;
const RUNS: usize = 5;

/// What we want to reach, beside what was measured.
const AIMS: [(&str, &str); 7] = [
    ("decode_bulk_wall_vs_raw", "at most 0.8"),
    ("decode_small_wall_vs_raw", "at most 0.8"),
    ("decode_bulk_rows_per_s", "at least 1 000 000"),
    ("decode_bulk_rows_per_cpu_s", "at least 1 000 000"),
    ("json_rows_per_s", "at least 400 000"),
    ("json_rows_per_cpu_s", "at least 400 000"),
    ("tail_10m_peak_rss_mb", "below 256"),
];

/// One core, as a tailer has it.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    // `cargo test --benches` starts this too, and wants nothing measured.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let options = ServerOptions::default().arg("--innodb-buffer-pool-size=256M").arg("--innodb-log-file-size=256M");
    let server = PrivateServer::start(options.arg("--max-binlog-size=1G")).await;
    println!("writing {BULK_ROWS} rows in bulk and {SMALL_TRANSACTIONS} one-row transactions …");
    let bulk = write_bulk(&server).await;
    let small = write_small(&server).await;

    let mut figures = Vec::new();
    println!("\n{:<34}{:>10}{:>10}{:>14}{:>10}", "reading over loopback", "wall s", "CPU s", "rows/s", "of --raw");
    for (name, history) in [("bulk", &bulk), ("small", &small)] {
        let mut runs: [Vec<Cost>; 4] = Default::default();
        for _ in 0..RUNS {
            runs[0].push(mariadb_binlog(&server, &history.file, true));
            runs[1].push(read(&server, history, None).await);
            runs[2].push(read(&server, history, Some(&mut Vec::new())).await);
            runs[3].push(mariadb_binlog(&server, &history.file, false));
        }
        let [raw, decoded, json, verbose] = runs.map(Cost::median);
        for (what, cost) in [
            ("mariadb-binlog --raw", &raw),
            ("tandem, to changes", &decoded),
            ("tandem, to JSON lines", &json),
            ("mariadb-binlog -v", &verbose),
        ] {
            let rate = history.rows as f64 / cost.wall;
            let share = cost.wall / raw.wall;
            println!("{:<34}{:>10.2}{:>10.2}{rate:>14.0}{share:>10.2}", format!("{name}: {what}"), cost.wall, cost.cpu);
        }
        let mut put = |figure: &str, value: f64| figures.push((figure.replace("NAME", name), value));
        put("decode_NAME_wall_vs_raw", decoded.wall / raw.wall);
        put("decode_NAME_cpu_vs_raw", decoded.cpu / raw.cpu);
        put("decode_NAME_wall_vs_verbose", decoded.wall / verbose.wall);
        put("decode_NAME_rows_per_s", history.rows as f64 / decoded.wall);
        put("decode_NAME_rows_per_cpu_s", history.rows as f64 / decoded.cpu);
        if name == "bulk" {
            put("json_rows_per_s", history.rows as f64 / json.wall);
            put("json_rows_per_cpu_s", history.rows as f64 / json.cpu);
        }
    }
    figures.push(("decode_peak_rss_mb".into(), peak_rss_mb("self")));

    println!("\nwriting {HUGE_ROWS} rows in one transaction …");
    let huge = write_huge(&server).await;
    let (cost, peak) = tail(&server, &huge);
    figures.push(("tail_10m_peak_rss_mb".into(), peak));
    figures.push(("tail_10m_rows_per_s".into(), HUGE_ROWS as f64 / cost));

    println!("\n{:<34}{:>14}  aim", "figure", "measured");
    for (name, value) in &figures {
        let aim = AIMS.iter().find(|(own, _)| own == name).map_or("", |(_, aim)| aim);
        println!("{name:<34}{value:>14.2}  {aim}");
    }
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
            "USE bench;\nDELIMITER //\nBEGIN NOT ATOMIC FOR i IN 1..{SMALL_TRANSACTIONS} DO \
             INSERT INTO small VALUES (i, CONCAT('rider number ', i), NOW(), i / 100); END FOR; END//\n"
        ));
    })
    .await
}

async fn write_huge(server: &PrivateServer) -> History {
    server.query("CREATE TABLE bench.huge (id INT PRIMARY KEY, v VARCHAR(40))").await;
    history(server, HUGE_ROWS, async || {
        server.sql_client(&format!(
            "USE bench; INSERT INTO huge SELECT seq, CONCAT('rider number ', seq) FROM seq_1_to_{HUGE_ROWS}"
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
async fn read(server: &PrivateServer, history: &History, mut json: Option<&mut Vec<u8>>) -> Cost {
    let source = BinlogSource::new(BinlogOptions::new(server.account_opts(), 1101, TableFilter::everything()));
    let origin = OriginId::new("bench");
    let (mut rows, mut position) = (0, history.from.clone());
    let mut written = 0;
    let (start, cpu) = (Instant::now(), cpu(libc::RUSAGE_SELF));
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
                trace: None,
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
    let cost = Cost::since(start, cpu, libc::RUSAGE_SELF);
    assert_eq!(rows, history.rows, "not all rows came");
    std::hint::black_box(written);
    cost
}

/// The program itself, its lines going through a pipe: seconds until the last has come, and the most memory it had.
fn tail(server: &PrivateServer, history: &History) -> (f64, f64) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["tail", "--database", &server.url(), "--password-env", "TAIL_PASSWORD", "--from", &history.from.to_string()])
        .env("TAIL_PASSWORD", server.password())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run tandem: {error}"));
    let mut out = child.stdout.take().expect("standard output is a pipe");
    let (mut lines, mut buffer) = (0, vec![0; 256 << 10]);
    while lines < history.rows {
        let read = out.read(&mut buffer).expect("a pipe can be read");
        assert_ne!(read, 0, "tail ended after {lines} changes");
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
    let wall = start.elapsed().as_secs_f64();
    let peak = peak_rss_mb(&child.id().to_string());
    // It ends by itself when nobody reads it any more; but nothing more comes, so it would not notice.
    child.kill().and_then(|()| child.wait()).expect("a child of ours");
    (wall, peak)
}
