//! How far everything is, and where one row is, as people and programs see it. Their JSON is a promise; fields are added,
//! never renamed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How far this node is in every history that matters to it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PositionView {
    pub node: String,
    /// The end of the own database's binlog, as GTIDs; `None` where the database is away.
    pub database: Option<String>,
    pub topics: Vec<TopicPlaceView>,
}

/// A topic, and how far this node has come with it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TopicPlaceView {
    pub origin: String,
    /// The oldest offset that is kept, and the one after the last.
    pub first: u64,
    pub end: u64,
    /// Of another node's topic: the next offset to be applied here. Heartbeats move ahead of it.
    pub next: Option<u64>,
    /// Of the own topic: how far it tells the binlog; of another: how far its origin's binlog is applied here. GTIDs.
    pub position: Option<String>,
    /// The clock of its last record, in seconds of the Unix epoch.
    pub clock_seconds: Option<u64>,
}

/// Which row somebody looks for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhereWish {
    /// As `campus.riders`, or `riders` where the name alone says which.
    pub table: String,
    /// The values of the key's columns, in their order; or `column=value` each.
    pub key: Vec<String>,
}

/// What is known of one row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WhereView {
    pub table: String,
    pub key: Map<String, Value>,
    /// The row as it is in this node's database.
    pub present: Option<Map<String, Value>>,
    /// The newest first: the first one stands, where it is applied here.
    pub versions: Vec<VersionView>,
    /// Ids.
    pub conflicts: Vec<String>,
    pub failed: Vec<String>,
    /// From where on each topic was looked through. Further back is looked for when that is not the beginning.
    pub searched: Vec<SearchedView>,
}

/// One write of the row, as a topic has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VersionView {
    pub origin: String,
    pub offset: u64,
    pub gtid: String,
    pub op: String,
    /// By the hybrid logical clock: microseconds, and seconds for people.
    pub clock: u64,
    pub written_seconds: u64,
    /// `applied` (written here, or taken from its topic) or `waits`.
    pub here: String,
    /// The nodes that have told that they have it.
    pub known_by: Vec<String>,
    /// The row as it was written; `None` for a delete.
    pub row: Option<Map<String, Value>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SearchedView {
    pub origin: String,
    pub from: u64,
    pub first: u64,
    pub end: u64,
}
