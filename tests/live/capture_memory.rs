//! A transaction far larger than memory may be: it passes `tandem tail` whole, and the process stays small.

use std::io::Read;

use crate::harness::{PrivateServer, ServerOptions};
use crate::tail_command::{code, interrupt, tail};

const ROWS: u64 = 1_000_000;

/// Most that the process ever had in memory. It was 44 MB; with the changes of the whole transaction at once it was
/// 505 MB.
const PEAK_MB_MAX: u64 = 100;

/// VmHWM of a process that still runs, in MB.
pub fn peak_mb(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    let kb: u64 = peak.trim().trim_end_matches("kB").trim().parse().expect("a number of kB");
    kb >> 10
}

#[tokio::test]
async fn one_transaction_of_a_million_rows_passes_in_bounded_memory() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(40))").await;
    server.sql_client(&format!("USE d; INSERT INTO t SELECT seq, CONCAT('rider number ', seq) FROM seq_1_to_{ROWS}"));
    let mut child = tail(&server, &["--from", "0-1-2"]).spawn().expect("the program can be run");
    let mut out = child.stdout.take().expect("standard output is a pipe");
    let (mut lines, mut last, mut buffer) = (0, Vec::new(), vec![0; 256 << 10]);
    while lines < ROWS {
        let read = out.read(&mut buffer).expect("a pipe can be read");
        assert_ne!(read, 0, "tail ended after {lines} changes");
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
        last.extend_from_slice(&buffer[..read]);
        last.drain(..last.len().saturating_sub(4096));
    }
    let peak = peak_mb(child.id());
    interrupt(&child);
    assert_eq!(code(&mut child).await, Some(130));

    let text = String::from_utf8(last).expect("JSON is text");
    let last = serde_json::from_str::<serde_json::Value>(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["after"], serde_json::json!({"id": ROWS, "v": format!("rider number {ROWS}")}));
    assert_eq!(last["transaction"]["total_order"], ROWS);
    println!("{ROWS} rows in one transaction: {peak} MB at most");
    assert!(peak < PEAK_MB_MAX, "it took {peak} MB");
}
