//! What nodes tell each other beside changes: who wants to compare rows, what rows are like, and what a person decided.

use serde::{Deserialize, Serialize};

use super::{OriginId, TableName};

/// One note, in the topic of the node that tells it. A node that does not know a note passes it by.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Note {
    Ask(Ask),
    Prints(Prints),
    Tables(Tables),
    /// Somebody has decided about a conflict, which other nodes keep under the same id.
    Settled {
        conflict: String,
    },
    /// The node whose topic this is takes part no longer. The last record of the topic, written in the node's place by the one
    /// where a person said so: all before it counts, and nothing after it.
    Removed {
        by: OriginId,
    },
    /// The history of the node begins anew at the position of this record: what it was read from before is gone or another one.
    Anew {},
}

/// A comparison: the node that wants it, its number there, and which of its rounds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct VerifyId {
    pub asker: OriginId,
    pub number: u64,
    pub round: u32,
}

/// Asks other nodes for their rows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ask {
    pub verify: VerifyId,
    /// The nodes that are meant.
    pub of: Vec<OriginId>,
    pub tables: Vec<AskedTable>,
    /// Not prints of the rows are wanted but the rows, as a snapshot publishes them.
    pub publish: bool,
    /// Both, run by run: who asks makes its rows the same.
    #[serde(default)]
    pub seed: bool,
    /// These are all the tables that who asks has: others that are captured there are wanted by name.
    #[serde(default)]
    pub all: bool,
    /// No rows at all are wanted, but how the tables are made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub definitions: bool,
}

/// How the captured tables of a node are made, those before others that refer to them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Tables {
    pub verify: VerifyId,
    pub tables: Vec<TableTold>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableTold {
    pub database: String,
    pub table: String,
    /// As the server shows it, without the database.
    pub statement: String,
}

impl TableTold {
    pub fn name(&self) -> TableName {
        TableName::new(&self.database, &self.table)
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AskedTable {
    pub database: String,
    pub table: String,
    /// Only these rows, as [`wire::key_text`](super::wire::key_text) writes keys; all where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

impl AskedTable {
    pub fn name(&self) -> TableName {
        TableName::new(&self.database, &self.table)
    }
}

/// Prints of a table's rows as they are at this place of the history: of all from one key to another, or of some.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Prints {
    pub verify: VerifyId,
    pub database: String,
    pub table: String,
    /// The columns that are in the prints, in their order.
    pub columns: Vec<String>,
    /// Rows after this key, up to the other one: to the table's end where there is none.
    pub after: Option<String>,
    pub upto: Option<String>,
    /// Only of these rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Key and print of each row.
    pub rows: Vec<(String, String)>,
    /// Keys of rows that changed while they were read: nothing is said of them.
    pub left_out: Vec<String>,
    /// The table has no more.
    pub ends: bool,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Prints {
    pub fn name(&self) -> TableName {
        TableName::new(&self.database, &self.table)
    }
}
