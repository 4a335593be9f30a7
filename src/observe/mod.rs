//! One function per fact: the log line and the metric of it, and the status that people see.
//!
//! Rooms say what happened; this room alone decides how it is logged and counted.

use std::sync::Arc;

use crate::change::{OriginId, Record, TableName};

/// Where a node's facts go. Cheap to clone; one per node.
#[derive(Clone, Default)]
pub struct Observer(Arc<Facts>);

#[derive(Default)]
struct Facts {}

/// What became of a change that the applier took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Applied,
    LostToNewer,
    Duplicate,
    SetAside,
}

impl Observer {
    /// Records are durable in the own topic.
    pub fn published(&self, _records: &[Record]) {}
    /// Changes that the tailer read and, by a named rule, does not publish: `echo`, `table`, `own`, `ddl`.
    pub fn filtered(&self, _reason: &'static str, _changes: u64) {}
    /// The tailer read a transaction committed at this second.
    pub fn tailed(&self, _commit_second: u64) {}
    /// A commit time too far ahead of our clock was not believed.
    pub fn clock_not_believed(&self, _ahead_seconds: u64) {}
    /// A change took its way on this node.
    pub fn applied(&self, _origin: &OriginId, _table: &TableName, _op: crate::change::Op, _fate: Fate) {}
    /// A commit of the applier, with the newest commit time it holds and how long it waited for the local tailer.
    pub fn committed(&self, _origin: &OriginId, _commit_second: u64, _wait_seconds: f64) {}
    /// Records of the origin known to wait.
    pub fn pending(&self, _origin: &OriginId, _changes: u64) {}
    pub fn conflict(&self, _table: &TableName, _kind: &'static str, _winner: &OriginId) {}
    pub fn dead_letter(&self, _origin: &OriginId, _table: &TableName, _reason: &str) {}
    /// A record from further in the future than we believe; its origin is held.
    pub fn clock_wrong(&self, _origin: &OriginId, _ahead_seconds: f64) {}
    pub fn index_rows(&self, _memory: u64, _spilled: u64) {}
    pub fn tail_connected(&self, _connected: bool) {}
}
