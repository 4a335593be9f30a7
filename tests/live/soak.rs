//! The big proof: whatever is killed or cut while rows are written, the topic holds every row once and in commit order.
//!
//! Over any [`TopicKeeper`]: another kind of topic adds its lines at the end. An ordinary run is small; `make soak` writes
//! 100,000 rows and kills the tailer 200 times.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use tandem::change::OriginId;
use tokio::sync::watch;

use crate::harness::{HubKeeper, KafkaKeeper, TopicKeeper, wait_for};
use crate::rig::{ORIGIN, Process, Rig, WITHIN};

/// How much is written, and how often something is done to it meanwhile.
#[derive(Clone, Copy)]
struct Size {
    rows: u64,
    times: u64,
}

impl Size {
    /// Much more where `make soak` asks for it.
    fn of(ordinary: Size, full: Size) -> Self {
        if is_full() { full } else { ordinary }
    }
}

fn is_full() -> bool {
    std::env::var_os("TANDEM_SOAK").is_some()
}

/// Writes rows 1, 2, 3, … in transactions of 1 to 100, as far as it is allowed to.
async fn write(
    mut conn: mysql_async::Conn,
    mut allowed: watch::Receiver<u64>,
    written: watch::Sender<u64>,
    rows: u64,
    seed: u64,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = 1;
    while next <= rows {
        allowed.wait_for(|allowed| *allowed >= next).await.expect("the test goes on until all is written");
        let count = random.u64(1..=100).min(rows + 1 - next);
        let mut statements = vec!["BEGIN".to_owned()];
        let end = next + count;
        while next < end {
            let some = random.u64(1..=50).min(end - next);
            let values: Vec<String> = (next..next + some).map(|id| format!("({id}, 'row {id}')")).collect();
            statements.push(format!("INSERT INTO campus.riders VALUES {}", values.join(",")));
            next += some;
        }
        statements.push("COMMIT".into());
        conn.query_drop(statements.join(";")).await.expect("the database is not what is disturbed");
        written.send_replace(next - 1);
    }
    conn.disconnect().await.expect("a session can be ended");
}

/// Every row once, in commit order, and every transaction whole.
async fn check<K: TopicKeeper>(rig: &Rig<K>, rows: u64) {
    let (mut next, mut row, mut open) = (1, 0, None);
    for (offset, record) in rig.topic().await {
        let Some(change) = record.change() else {
            assert_eq!(open, None, "a heartbeat at {offset} in the middle of a transaction");
            continue;
        };
        let id = change.after.as_ref().and_then(|after| after.get(0)?.as_u64());
        assert_eq!(id, Some(next), "at offset {offset}");
        assert!(open.is_none_or(|gtid| gtid == record.gtid), "{} ends without its last record", record.gtid);
        assert_eq!(record.row, row, "at offset {offset}");
        (open, row) = if record.last { (None, 0) } else { (Some(record.gtid), row + 1) };
        next += 1;
    }
    assert_eq!(next - 1, rows);
}

/// Writes all rows while `disturb` is called `times` times, each time at another moment; then checks the topic.
async fn disturbed<K: TopicKeeper>(
    what: &str,
    keeper: K,
    size: Size,
    mut disturb: impl AsyncFnMut(&mut Rig<K>, &mut Process, &mut fastrand::Rng),
) {
    let began = Instant::now();
    let mut rig = Rig::new(keeper).await;
    let mut process = rig.tailer("tailer").await;
    let Size { rows, times } = size;
    let (allow, allowed) = watch::channel(0);
    let (told, mut written) = watch::channel(0);
    let writing = tokio::spawn(write(rig.server.conn().await, allowed, told, rows, 1));
    let mut random = fastrand::Rng::with_seed(2);
    for time in 0..times {
        let (reader, origin) = (rig.keeper.reader(), OriginId::new(ORIGIN));
        let end = reader.extent(&origin).await.expect("the keeper answers").end.0;
        let before = *written.borrow();
        // The rows are spread over all of it, so that each time something is on its way.
        allow.send_replace(rows * (time + 1) / times);
        if random.u8(0..4) > 0 {
            // In the middle of publishing: when some of these rows are in the topic.
            let goal = end + random.u64(1..=(rows / times).max(2) / 2);
            wait_for("some rows in the topic", WITHIN, async || {
                reader.extent(&origin).await.is_ok_and(|now| now.end.0 >= goal)
            })
            .await;
        } else {
            // At any moment of its start, or of its waiting.
            written.wait_for(|written| *written >= (before + 1).min(rows)).await.expect("the writer goes on");
        }
        for _ in 0..random.u32(0..3_000) {
            tokio::task::yield_now().await;
        }
        disturb(&mut rig, &mut process, &mut random).await;
    }
    allow.send_replace(rows);
    writing.await.expect("everything is written");
    let (reader, origin) = (rig.keeper.reader(), OriginId::new(ORIGIN));
    wait_for("the last row in the topic", 5 * WITHIN, async || {
        let last = reader.extent(&origin).await.ok().and_then(|extent| extent.last);
        let position = rig.server.first::<String>("SELECT @@gtid_binlog_pos").await.expect("the server answers");
        last.is_some_and(|last| last.position.covers_all(&position.parse().expect("it is a position")))
    })
    .await;
    check(&rig, rows).await;
    let seconds = began.elapsed().as_secs();
    eprintln!(
        "{}: {what} {times} times while {rows} rows were written: each once and in order ({seconds} s)",
        rig.keeper.kind()
    );
}

async fn tailer_killed<K: TopicKeeper>(keeper: K) {
    let size = Size::of(Size { rows: 4_000, times: 8 }, Size { rows: 100_000, times: 200 });
    disturbed("tailer killed", keeper, size, async |_, process, _| {
        process.node.kill9();
        process.node.restart();
    })
    .await;
}

async fn keeper_killed<K: TopicKeeper>(keeper: K) {
    let size = Size::of(Size { rows: 4_000, times: 2 }, Size { rows: 100_000, times: 25 });
    disturbed("keeper of the topic killed", keeper, size, async |rig, _, _| {
        rig.keeper.kill9();
        rig.keeper.restart().await;
    })
    .await;
}

async fn connection_cut<K: TopicKeeper>(keeper: K) {
    let size = Size::of(Size { rows: 4_000, times: 4 }, Size { rows: 100_000, times: 25 });
    disturbed("connection cut", keeper, size, async |rig, process, random| {
        let link = rig.keeper.link();
        let before = link.turned_away();
        link.cut();
        // Until it is noticed, so that it was cut for the tailer and not between two of its requests.
        wait_for("the cut to be noticed", WITHIN, async || link.turned_away() > before).await;
        if is_full() && random.u8(0..5) == 0 {
            // A client of a broker tries for some time by itself; here until the tailer knows of it.
            wait_for("the tailer to give its append up", WITHIN, async || !process.connected().await).await;
        }
        link.mend();
    })
    .await;
}

/// Most of the rows are written while the topic is away; in full size it is away for a minute.
async fn keeper_away<K: TopicKeeper>(keeper: K) {
    let size = Size::of(Size { rows: 4_000, times: 1 }, Size { rows: 100_000, times: 1 });
    disturbed("keeper of the topic away", keeper, size, async |rig, _, _| {
        rig.keeper.kill9();
        let since = Instant::now();
        let all = format!("SELECT COUNT(*) >= {} FROM campus.riders", size.rows);
        wait_for("all rows to be written", 5 * WITHIN, async || rig.server.first::<bool>(&all).await == Some(true)).await;
        let away = Duration::from_secs(if is_full() { 60 } else { 0 });
        wait_for("a minute to pass", 2 * WITHIN, async || since.elapsed() >= away).await;
        rig.keeper.restart().await;
    })
    .await;
}

mod hub {
    use super::*;

    async fn keeper() -> HubKeeper {
        HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_whenever_the_tailer_is_killed() {
        tailer_killed(keeper().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_whenever_the_hub_is_killed() {
        keeper_killed(keeper().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_wherever_an_append_is_cut() {
        connection_cut(keeper().await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_after_the_hub_was_away() {
        keeper_away(keeper().await).await;
    }
}

mod kafka {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_whenever_the_tailer_is_killed() {
        let Some(keeper) = KafkaKeeper::start(ORIGIN).await else { return };
        tailer_killed(keeper).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_whenever_the_broker_is_killed() {
        let Some(keeper) = KafkaKeeper::start(ORIGIN).await else { return };
        keeper_killed(keeper).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_wherever_an_append_is_cut() {
        let Some(keeper) = KafkaKeeper::start(ORIGIN).await else { return };
        connection_cut(keeper).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_row_once_after_the_broker_was_away() {
        let Some(keeper) = KafkaKeeper::start(ORIGIN).await else { return };
        keeper_away(keeper).await;
    }
}
