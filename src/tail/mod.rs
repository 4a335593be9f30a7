//! DECIDES what is published: turns the transactions of a node's own binlog into the records of its own topic.
//!
//! Contract of [`Tailer::run`]:
//! - **Order**: records are published in commit order; those of one transaction are neighbours, and the last says so.
//! - **Completeness**: every change read is published, filtered by a named rule (`echo`, `table`, `own`, `ddl`), or
//!   stops the tailer with a reason.
//! - **Once**: where to go on is read from the last record of the own topic and from nothing else. An append whose
//!   outcome is unknown ends the run; the next run asks the topic again. So a record is published exactly once,
//!   whatever dies in between.
//! - **Versions** are a pure function of the binlog and the last published record ([`Sequencer`]).
//! - **History**: that the binlog is still the one that was read, and the topic still holds what was published, is checked
//!   at every start; if not, the run ends in a halt that says which and why.
//! - **Reading again** from an older place ([`RereadDesk`]) publishes nothing twice: what the last record's position covers is passed over.
//! - **Existing rows** ([`Snapshots`]) are published between transactions, each as it is at that place of the history.
//! - **Memory**: at most [`TailOptions::buffer_bytes`] of records wait, and two chunks of existing rows; then the binlog is not
//!   read further.

mod desk;
mod error;
mod floor;
mod reread;
mod sequence;
mod snapshot;
mod witness;
mod worker;

pub use desk::{ForVerify, NoBook, SnapshotBook, SnapshotDesk, SnapshotOrder, TableOrder, TableState};
pub use error::TailError;
pub use floor::{Floor, MemoryFloor};
pub use reread::{Reread, RereadDesk, RereadFrom};
pub use sequence::Sequencer;
pub use snapshot::Snapshots;
pub use worker::{Tailer, begin_topic, lost_history};

use std::time::Duration;

use crate::change::{GtidPosition, Offset, OriginId, Record, TableFilter};

/// What a tailer must be told.
#[derive(Clone, Debug)]
pub struct TailOptions {
    pub origin: OriginId,
    pub filter: TableFilter,
    /// A commit time further ahead of our own clock is not believed.
    pub max_clock_skew: Duration,
    /// A heartbeat this long after `seen` moved, if nothing else told it.
    pub heartbeat_seen: Duration,
    /// A heartbeat at least this often.
    pub heartbeat_idle: Duration,
    /// Records that may wait for the topic, in bytes of memory.
    pub buffer_bytes: usize,
    /// Records in one append. More per append stops paying at about 4 MB; less keeps the first ones from waiting.
    pub append_bytes: usize,
    /// Switches that take one rule of the protocol away, so that tests can show that the checkers notice.
    pub ablation: TailAblation,
}

impl TailOptions {
    pub fn new(origin: OriginId, filter: TableFilter) -> Self {
        Self {
            origin,
            filter,
            max_clock_skew: Duration::from_secs(60),
            heartbeat_seen: Duration::from_secs(1),
            heartbeat_idle: Duration::from_secs(10),
            buffer_bytes: 16 << 20,
            append_bytes: 4 << 20,
            ablation: TailAblation::default(),
        }
    }
}

/// Rules of the protocol that a test takes away. Never set in service: no configuration leads here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TailAblation {
    /// Do not merge the clock of what our applier wrote.
    pub no_clock_merge: bool,
    /// Do not publish what an apply transaction had to settle by itself.
    pub no_resolution: bool,
    /// Believe that the binlog is the one that was read before.
    pub no_history_check: bool,
    /// Publish echoes.
    pub no_echo_filter: bool,
    /// Publish the rows of a snapshot whatever changed while they were read.
    pub no_snapshot_window: bool,
    /// Publish again what is read again.
    pub no_passing_over: bool,
}

/// Learns what the tailer made durable. The applier of the same node follows it: it must know every local write before
/// it decides.
pub trait Follower: Send + Sync {
    /// The own topic ends here. Comes first in every run of the tailer: the topic may keep more than was told, because
    /// an append whose answer was lost is kept all the same.
    fn resumed(&self, end: Offset);

    /// These records are durable at `first` and after.
    fn published(&self, first: Offset, records: &[Record]);

    /// Everything of the node's own history up to here is published or filtered. Comes after `published`.
    fn passed(&self, position: &GtidPosition);
}
