//! Tandem's own tables on every node, as far as they speak in the binlog: the mark of an apply transaction, and the
//! rows that an apply transaction asks the tailer to publish.
//!
//! The target writes these rows and the tailer reads them back from the binlog; this file is their one definition.

use super::{Change, GtidPosition, Hlc, Image, Offset, Op, OriginId, TableName, ValueRef, wire};

/// The database that holds our own tables on every node. Never captured.
pub const OWN_DATABASE: &str = "tandem";

/// Names of our own tables.
pub mod own_table {
    /// One row per origin: how far it is applied here. Its row event marks an apply transaction.
    pub const APPLIED: &str = "applied";
    /// Rows that an apply transaction had to change by its own decision; the tailer publishes them.
    pub const REWRITES: &str = "resolutions";
    pub const CONFLICTS: &str = "conflicts";
    pub const DEAD_LETTERS: &str = "dead_letters";
}

/// The row of `tandem.applied`: the checkpoint of one origin on this node, written first in every apply transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    pub origin: OriginId,
    /// The next offset to read.
    pub next: Offset,
    /// The last applied record that holds a change; `None` before the first.
    pub data: Option<Offset>,
    /// The origin's history that is applied here.
    pub position: GtidPosition,
    /// The origin's clock at the last applied record.
    pub hlc: Hlc,
}

/// The names of `tandem.applied`'s columns, in order.
impl Mark {
    pub const COLUMNS: [&str; 5] = ["origin", "next_offset", "data_offset", "position", "hlc"];
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of {table} in the binlog has no usable column `{column}`")]
pub struct MarkError {
    pub table: String,
    pub column: &'static str,
}

fn is(table: &TableName, name: &str) -> bool {
    table.is_own() && &*table.table == name
}

impl Mark {
    /// The mark that this change writes; `None` where the change is about something else.
    pub fn read(change: &Change) -> Option<Result<Self, MarkError>> {
        if !is(change.table(), own_table::APPLIED) || !matches!(change.op, Op::Insert | Op::Update) {
            return None;
        }
        let image = change.after.as_ref()?;
        Some(Self::from_image(change, image))
    }

    fn from_image(change: &Change, image: &Image) -> Result<Self, MarkError> {
        let fault = |column| MarkError { table: change.table().to_string(), column };
        let get = |column| change.shape.column(column).and_then(|at| image.get(at)).ok_or_else(|| fault(column));
        let number = |column| get(column)?.as_u64().ok_or_else(|| fault(column));
        let text = |column| get(column)?.as_text().ok_or_else(|| fault(column));
        let data = match get("data_offset")? {
            ValueRef::Null => None,
            value => Some(Offset(value.as_u64().ok_or_else(|| fault("data_offset"))?)),
        };
        Ok(Self {
            origin: OriginId::new(text("origin")?),
            next: Offset(number("next_offset")?),
            data,
            position: text("position")?.parse().map_err(|_| fault("position"))?,
            hlc: Hlc(number("hlc")?),
        })
    }
}

/// A row of `tandem.resolutions`: our tailer publishes the row as a change of our own, newer than everything the
/// apply transaction knew, so that every node comes to the same outcome.
#[derive(Clone, PartialEq, Debug)]
pub struct Rewrite {
    /// What becomes of the row, with images of named columns: a delete with its key as before image, or an update
    /// with its full after image.
    pub change: Change,
}

impl Rewrite {
    pub const COLUMNS: [&str; 1] = ["row_change"];

    /// The rewrite that this change asks for; `None` where the change is about something else.
    pub fn read(change: &Change) -> Option<Result<Self, MarkError>> {
        if !is(change.table(), own_table::REWRITES) || change.op != Op::Insert {
            return None;
        }
        let text = change.shape.column("row_change").and_then(|at| change.after.as_ref()?.get(at)?.as_text());
        let fault = || MarkError { table: change.table().to_string(), column: "row_change" };
        Some(text.ok_or_else(fault).and_then(|text| {
            let change = wire::decode_change(text.as_bytes()).map_err(|_| fault())?;
            Ok(Self { change })
        }))
    }

    /// The text of its one column.
    pub fn to_text(&self) -> String {
        wire::encode_change(&self.change)
    }
}
