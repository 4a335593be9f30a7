//! A topic that does not take records stops the reading of the binlog, and memory stays bounded.

use crate::harness::{HubKeeper, TopicKeeper as _, wait_for};
use crate::rig::{ORIGIN, Rig, WITHIN};

/// Much more than the tailer may hold: its own buffer is 16 MB.
const ROWS: u64 = 30_000;
const ROW_BYTES: u64 = 4_000;

/// A line of /proc/PID/status in bytes: `VmRSS` now, `VmHWM` at its highest.
fn memory(process: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let found = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let kib: u64 = found.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).expect("Linux tells it in KiB");
    kib * 1024
}

fn signal(process: u32, signal: i32) {
    // SAFETY: kill has no memory effects, and the process is ours.
    assert_eq!(unsafe { libc::kill(process as i32, signal) }, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_stands_still_stops_the_reading_with_bounded_memory_and_all_flows_when_it_is_back() {
    let mut rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await;
    rig.server.query("CREATE TABLE campus.notes (id INT PRIMARY KEY, note VARCHAR(4000))").await;
    let tailer = rig.tailer("tailer").await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;
    let process = tailer.node.process_id().expect("it runs");
    let calm = memory(process, "VmRSS");

    // Not dead: it holds the connection and takes nothing, which is the harder case.
    let hub = rig.keeper.process().process_id().expect("it runs");
    signal(hub, libc::SIGSTOP);
    for part in 0..ROWS / 1_000 {
        let (first, last) = (part * 1_000 + 1, (part + 1) * 1_000);
        let sql = format!(
            "USE campus; INSERT INTO campus.notes SELECT seq, REPEAT(CHAR(97 + seq % 26), {ROW_BYTES}) FROM seq_{first}_to_{last}"
        );
        rig.server.query(&sql).await;
    }
    // The server waits for us: it has sent what the network holds, and its reader takes no more.
    let waits =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump' AND STATE = 'Writing to net'";
    let mut looks = 0;
    wait_for("the server to be kept waiting", WITHIN, async || {
        looks = if rig.server.first::<u64>(waits).await == Some(1) { looks + 1 } else { 0 };
        looks == 20
    })
    .await;
    let full = memory(process, "VmRSS");
    signal(hub, libc::SIGCONT);

    let reader = rig.keeper.reader();
    let origin = tandem::change::OriginId::new(ORIGIN);
    wait_for("everything in the topic", 3 * WITHIN, async || {
        let last = reader.extent(&origin).await.ok().and_then(|extent| extent.last);
        let position = rig.server.first::<String>("SELECT @@gtid_binlog_pos").await.expect("the server answers");
        last.is_some_and(|last| last.position.covers_all(&position.parse().expect("it is a position")))
    })
    .await;
    let mut ids = Vec::new();
    for (_, record) in rig.topic().await {
        let Some(change) = record.change().filter(|change| &*change.table().table == "notes") else { continue };
        ids.extend(change.after.as_ref().and_then(|after| after.get(0)?.as_u64()));
    }
    assert!(ids.into_iter().eq(1..=ROWS), "each row once and in order");
    let highest = memory(process, "VmHWM");
    let mib = |bytes: u64| bytes >> 20;
    eprintln!(
        "backpressure: {} MiB waited; the tailer's memory was {} MiB before, {} MiB while the topic stood still, {} MiB at most",
        mib(ROWS * ROW_BYTES),
        mib(calm),
        mib(full),
        mib(highest)
    );
    // Less than half of what waited: its buffer, what is being encoded and sent, a part of a transaction, and the allocator's share.
    assert!(full - calm < ROWS * ROW_BYTES / 2, "{} MiB more than before", mib(full - calm));
    assert!(highest - calm < ROWS * ROW_BYTES * 3 / 4, "{} MiB more than before at its highest", mib(highest - calm));
}
