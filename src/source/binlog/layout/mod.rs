//! How to read the rows of one table: the table map joined with what is known of the table.
//!
//! The binlog's own word comes first; information_schema fills in what it leaves out, and only where both describe
//! the same column. Where the binlog has names, columns are matched by name, so that rows from before an ALTER stay
//! readable; where it has none, both must agree column by column.

use std::sync::Arc;

mod hidden;
mod pair;
mod reader;

use super::column::ColumnReader;
use super::error::DecodeError;
use super::known::{KnownColumn, KnownTable, SystemVersioning};
use super::table_map::TableMap;
use crate::change::{Column, Shape};
use hidden::hidden;
use pair::pair;

/// Ready to decode rows. Made once per table map event; where the same event comes again (equal bytes after the
/// table id) and the known table is the same, the same layout serves.
#[derive(Clone, Debug)]
pub struct Layout {
    shape: Arc<Shape>,
    pub(super) readers: Box<[ColumnReader]>,
    /// Columns behind these that are the server's own, and are passed over.
    pub(super) hidden: usize,
    /// The column that says until when the row was current, in a system-versioned table.
    pub(super) row_end: Option<usize>,
}

impl Layout {
    /// Joins the two and checks that they agree: a disagreement that matters is an error, never a wrong pairing.
    ///
    /// Without a known table this works only where the map tells everything: FULL metadata, and no column that could
    /// be a UUID or INET, which look like BINARY there.
    pub fn new(map: &TableMap, known: Option<&KnownTable>) -> Result<Self, DecodeError> {
        let known_columns = known.map(with_row_ends).unwrap_or_default();
        let hidden = hidden(map, known, &known_columns);
        let paired = pair(map, map.columns.len() - hidden.passed_over(), known.is_some(), &known_columns)?;
        let mut columns = Vec::with_capacity(paired.len());
        let mut readers = Vec::with_capacity(paired.len());
        let mut row_end = None;
        for (at, pair) in paired.iter().enumerate() {
            let (reader, kind) = pair.reader()?;
            let versioning = pair.known.and_then(|known| known.system_versioning);
            if versioning == Some(SystemVersioning::RowEnd) {
                row_end = Some(at);
            }
            // One that may be the server's own goes as a computed one: it is written where the table has a column of that name at this
            // place of its history, and nowhere else.
            let in_doubt = at >= paired.len() - hidden.in_doubt();
            let generated = in_doubt || versioning.is_some() || pair.known.is_some_and(|known| known.generated);
            columns.push(Column { name: pair.name.clone(), kind, generated });
            readers.push(reader);
        }
        let key = key(map, known, &columns, row_end);
        let shape = Arc::new(Shape { table: map.table.clone(), columns, key });
        Ok(Self { shape, readers: readers.into(), hidden: hidden.passed_over(), row_end })
    }

    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
}

/// The known columns, with the two that a table `WITH SYSTEM VERSIONING` has and information_schema does not show:
/// they come last, also after an ALTER that adds a column.
fn with_row_ends(known: &KnownTable) -> Vec<KnownColumn> {
    let mut columns = known.columns.clone();
    if known.system_versioned && !columns.iter().any(|column| column.system_versioning.is_some()) {
        for (name, end) in [("row_start", SystemVersioning::RowStart), ("row_end", SystemVersioning::RowEnd)] {
            columns.push(KnownColumn {
                name: name.into(),
                column_type: "timestamp(6)".into(),
                system_versioning: Some(end),
                ..KnownColumn::default()
            });
        }
    }
    columns
}

/// The primary key as the binlog names it; where it names nothing, as information_schema does, which tells what the table is like now and not
/// what it was like then: a key may have been added since. The server adds a row's end of life to the
/// key of a system-versioned table; the row is the same one without it.
fn key(map: &TableMap, known: Option<&KnownTable>, columns: &[Column], row_end: Option<usize>) -> Vec<u16> {
    let place = |name: &String| columns.iter().position(|column| *column.name == **name).map(|at| at as u16);
    let known = || known.and_then(|known| known.primary_key.iter().map(place).collect::<Option<Vec<_>>>()).unwrap_or_default();
    let mut key = if map.primary_key.is_empty() && !map.has_names() { known() } else { map.primary_key.clone() };
    key.retain(|&at| Some(usize::from(at)) != row_end);
    key
}
