//! Work that somebody asked a node for, as people and programs see it. Its JSON is a promise; fields are added, never renamed.

use serde::{Deserialize, Serialize};

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
