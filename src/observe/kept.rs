//! What a node's database keeps for people, as they and their programs see it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A conflict as people and programs see it. Its JSON is a promise; fields are added, never renamed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConflictView {
    pub id: String,
    pub table: String,
    /// Key columns and their values.
    pub key: Map<String, Value>,
    pub kind: String,
    /// Waits for a person to decide.
    pub open: bool,
    pub winner: SideView,
    pub loser: SideView,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SideView {
    pub origin: String,
    /// When it was written, by its hybrid logical clock, in seconds of the Unix epoch.
    pub written_seconds: u64,
    /// The row as this side wanted it. `None` where it deleted the row, or where its image is not known here.
    pub row: Option<Map<String, Value>>,
}

/// A change set aside, as people and programs see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FailedView {
    pub origin: String,
    pub offset: u64,
    pub table: String,
    pub key: Map<String, Value>,
    pub op: String,
    pub reason: String,
    pub attempts: u32,
}
