//! Work that somebody asked a node for, as people and programs see it. Its JSON is a promise; fields are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RoleStatus;

/// Existing rows that somebody asked to be published, and how far that is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SnapshotView {
    pub id: u64,
    /// SQL that the rows meet; all rows where there is none.
    pub condition: Option<String>,
    /// Seconds of the Unix epoch, as all times here.
    pub asked_seconds: u64,
    pub ended_seconds: Option<u64>,
    /// Why it does not go on now.
    pub waits_for: Option<String>,
    /// In the order in which they go.
    pub tables: Vec<SnapshotTableView>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SnapshotTableView {
    pub name: String,
    /// `waiting`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// Rows read and dealt with.
    pub rows: u64,
    /// What the server thinks the table has: no more than a guess.
    pub rows_expected: u64,
    pub reason: Option<String>,
}

impl SnapshotView {
    pub fn is_open(&self) -> bool {
        self.ended_seconds.is_none()
    }

    /// Rows done, and rows expected of all tables (where more were found, those).
    pub fn rows(&self) -> (u64, u64) {
        let expected =
            |table: &SnapshotTableView| if table.state == "done" { table.rows } else { table.rows_expected.max(table.rows) };
        (self.tables.iter().map(|table| table.rows).sum(), self.tables.iter().map(expected).sum())
    }

    /// The tables that could not be read.
    pub fn failed(&self) -> impl Iterator<Item = &SnapshotTableView> {
        self.tables.iter().filter(|table| table.state == "failed")
    }
}

/// What somebody asks for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotWish {
    /// Tables as `campus.riders`, `riders` where the name alone says which, or with `*`; all that are synced where empty.
    #[serde(default)]
    pub tables: Vec<String>,
    /// SQL that the rows meet.
    #[serde(default)]
    pub condition: Option<String>,
    /// Only say what would be read.
    #[serde(default)]
    pub dry_run: bool,
}

/// A question to one other node, whose answer comes in its topic.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskWish {
    /// The node that is asked.
    pub of: String,
    /// Prints of all rows of these tables are wanted, as `campus.riders`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Or how its tables are made.
    #[serde(default)]
    pub definitions: bool,
}

/// A question that is asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AskedView {
    /// By which the answer is known.
    pub number: u64,
}

/// A comparison of this node's rows with those of the others.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerifyView {
    pub number: u64,
    pub asked_seconds: u64,
    pub ended_seconds: Option<u64>,
    /// What differs is published by both sides, so that it is settled as the first start of a pair is.
    pub repair: bool,
    /// What differs is looked at again: the number of that look, from 1. 0 while all rows are compared.
    pub look: u32,
    /// Not of single tables, but of all that are here, and of those that only the others have.
    #[serde(default)]
    pub all: bool,
    /// One for each other node and table.
    pub parts: Vec<VerifyPartView>,
    /// What differs, as far as it is known: for good once the comparison has ended. At most so many as [`DIFFERENCES_MAX`].
    pub differences: Vec<DifferenceView>,
    pub differing: u64,
}

/// Differing rows that are named; all are counted.
pub const DIFFERENCES_MAX: usize = 1_000;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VerifyPartView {
    pub node: String,
    pub table: String,
    /// `waiting`, `running`, `done` or `failed`.
    pub state: String,
    pub rows: u64,
    /// What this node's server thinks the table has.
    pub rows_expected: u64,
    /// Rows that somebody had just written.
    pub passed_by: u64,
    pub reason: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DifferenceView {
    pub node: String,
    pub table: String,
    pub key: Map<String, Value>,
    /// `differs`, `missing_here` or `missing_there`.
    pub kind: String,
    pub columns: Vec<String>,
}

impl VerifyView {
    pub fn is_open(&self) -> bool {
        self.ended_seconds.is_none()
    }

    pub fn rows(&self) -> (u64, u64) {
        let expected = |part: &VerifyPartView| if part.state == "done" { part.rows } else { part.rows_expected.max(part.rows) };
        (self.parts.iter().map(|part| part.rows).sum(), self.parts.iter().map(expected).sum())
    }

    /// The tables that could not be compared with a node.
    pub fn failed(&self) -> impl Iterator<Item = &VerifyPartView> {
        self.parts.iter().filter(|part| part.state == "failed")
    }

    /// One sentence for people.
    pub fn verdict(&self) -> String {
        let failed = self.failed().count();
        match (self.is_open(), self.differing, failed) {
            (true, ..) => "Comparing.".into(),
            (_, 0, 0) => "All rows are the same.".into(),
            (_, 0, failed) => format!("{failed} of {} comparisons could not be made.", self.parts.len()),
            (_, 1, 0) => "1 row differs.".into(),
            (_, differing, 0) => format!("{differing} rows differ."),
            (_, differing, failed) => format!("{differing} rows differ, and {failed} comparisons could not be made."),
        }
    }
}

/// What somebody asks for.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyWish {
    #[serde(default)]
    pub tables: Vec<String>,
    #[serde(default)]
    pub repair: bool,
}

/// Rows of another node that this one takes over, and how far that is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeedingView {
    pub seeder: String,
    /// Tables that it is about, and those whose end has not come yet.
    pub tables: u64,
    pub tables_left: u64,
    /// Rows of the seeder that were taken or found to be the same, and rows here that it no longer has.
    pub rows: u64,
    pub removed: u64,
}

/// Another node's statement that defines tables, and what became of it here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaView {
    pub number: u64,
    pub origin: String,
    /// When it ran there.
    pub committed_seconds: u64,
    /// What it is about.
    pub object: String,
    pub statement: String,
    /// `waiting`, `done`, `failed`, …
    pub state: String,
    pub open: bool,
    /// Why it does not go through by itself, in words that fit after "it".
    pub danger: Option<String>,
    /// Why it failed, or what was found when it ran.
    pub remark: Option<String>,
    /// Changes that wait behind it.
    pub parked: u64,
}

/// What came of an order that starts a role at an older place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AgainView {
    /// False while it still goes on; the log tells its end.
    pub done: bool,
    /// A sentence.
    pub told: String,
    /// The same in numbers, by their names; empty while it still goes on.
    pub counts: BTreeMap<String, u64>,
}

/// A role that was ordered something, as it is then.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OrderedRole {
    #[serde(flatten)]
    pub role: RoleStatus,
    /// What was read or looked at again, where an older place was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<AgainView>,
}
