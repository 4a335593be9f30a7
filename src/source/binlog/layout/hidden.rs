//! Columns that the server adds for itself: a unique key over what is too long for an index is an index over a hash, which stands in
//! a column that nobody sees but the binlog. The hashes come last, behind all that a table shows, and are named `DB_ROW_HASH_1` and so
//! on, past what names there are already. An application may have given such a name to a column of its own.

use super::super::known::{KnownColumn, KnownTable};
use super::super::table_map::{MapColumn, TableMap, type_code};
use crate::change::is_hash_name;

/// The last columns of a table map that are not the application's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Hidden {
    pub(super) count: usize,
    /// What the server says of the table accounts for each of them. Where it does not, the table was altered since: an application's
    /// own column of such a name may be gone by now.
    pub(super) surely: bool,
}

impl Hidden {
    /// Columns that are passed over.
    pub(super) fn passed_over(self) -> usize {
        if self.surely { self.count } else { 0 }
    }

    /// Columns that may be an application's.
    pub(super) fn in_doubt(self) -> usize {
        self.count - self.passed_over()
    }
}

pub(super) fn hidden(map: &TableMap, table: Option<&KnownTable>, known: &[KnownColumn]) -> Hidden {
    let keys = table.map_or(0, |table| table.hash_keys);
    if !map.has_names() {
        let count = map.columns.len().saturating_sub(known.len());
        let hashes = map.columns.iter().rev().take(count).all(is_number);
        return if count == keys && hashes { Hidden { count, surely: true } } else { Hidden::default() };
    }
    let name = |column: &MapColumn| column.name.clone().unwrap_or_default();
    let is_hash = |column: &&MapColumn| {
        is_number(column) && is_hash_name(&name(column)) && !known.iter().any(|known| *known.name == *name(column))
    };
    let count = map.columns.iter().rev().take_while(is_hash).count();
    let shown = &map.columns[..map.columns.len() - count];
    let same = shown.len() == known.len() && shown.iter().zip(known).all(|(own, known)| *name(own) == *known.name);
    Hidden { count, surely: count == keys && same }
}

/// What a hash is kept as.
fn is_number(column: &MapColumn) -> bool {
    column.type_code == type_code::LONGLONG && column.unsigned != Some(false)
}
