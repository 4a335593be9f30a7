//! How long after its commit a row can be read on the other side, while both sides write.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use crate::harness::PrivateServer;
use crate::load::Stream;

const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks at the other side. What is measured is too long by half of it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Delays of all commits of both ways, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    pub p50: f64,
    pub p99: f64,
    /// Commits a second that each side really made.
    pub per_second: f64,
}

/// Both servers write a stream, and each is watched for the rows of the other.
pub async fn both_ways(servers: [&PrivateServer; 2], streams: [Stream; 2]) -> Delays {
    // A moment for the connections to be made.
    let start = Instant::now() + Duration::from_millis(200);
    let (committed, seen) =
        tokio::join!(async { tokio::join!(streams[0].write(servers[0], start), streams[1].write(servers[1], start)) }, async {
            tokio::join!(watch(servers[1], &streams[0]), watch(servers[0], &streams[1]))
        });
    let mut delays = Vec::new();
    let mut end = start;
    for (committed, seen) in [(committed.0, seen.0), (committed.1, seen.1)] {
        for (committed, seen) in committed.iter().flatten().zip(seen.iter().flatten()) {
            // A row may be read on the other side before its own writer has its answer.
            delays.push(seen.saturating_duration_since(*committed).as_secs_f64() * 1e3);
            end = end.max(*committed);
        }
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
    Delays { p50: at(0.5), p99: at(0.99), per_second: delays.len() as f64 / 2.0 / (end - start).as_secs_f64() }
}

/// When each row was first seen: per writer, in the order of its ids. The commits of one writer arrive in their order.
async fn watch(server: &PrivateServer, stream: &Stream) -> Vec<Vec<Instant>> {
    let mut conn = server.conn().await;
    let newest = |writer| {
        let first = stream.first_id(writer);
        format!("(SELECT MAX(id) FROM bench.{} WHERE id BETWEEN {first} AND {})", stream.table, first + Stream::SPACING - 1)
    };
    let look = format!("SELECT {}", (0..Stream::WRITERS).map(newest).collect::<Vec<_>>().join(","));
    let share = (stream.commits / Stream::WRITERS) as usize;
    let mut seen: Vec<Vec<Instant>> = vec![Vec::with_capacity(share); Stream::WRITERS as usize];
    let begun = Instant::now();
    while seen.iter().any(|seen| seen.len() < share) {
        assert!(begun.elapsed() < DEADLINE, "the stream did not arrive");
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let newest: (Option<u64>, Option<u64>, Option<u64>, Option<u64>) =
            conn.query_first(&look).await.expect("a look").expect("always one row");
        let now = Instant::now();
        for (writer, newest) in [newest.0, newest.1, newest.2, newest.3].into_iter().enumerate() {
            if let Some(newest) = newest {
                let there = (newest + 1 - stream.first_id(writer as u64)) as usize;
                seen[writer].resize(there, now);
            }
        }
    }
    conn.disconnect().await.expect("a session can be ended");
    seen
}
