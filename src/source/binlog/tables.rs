//! The tables that rows events speak of: from table map events to layouts, each made once.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::DecodeError;
use super::known::KnownTable;
use super::layout::Layout;
use super::statement;
use super::table_map::TableMap;
use crate::change::TableFilter;

/// Distinct table map events that are remembered. A layout takes a few KB; a server with more tables than this in use
/// makes some of them twice.
const REMEMBERED_MAX: usize = 10_000;

/// Where the rest of a table map event begins: before it stand the table's id, which a server gives anew each time it
/// opens the table, and flags.
const AFTER_ID: usize = 8;

pub struct Tables {
    filter: TableFilter,
    /// By the bytes of the table map event after the id: the same bytes are the same table with the same columns, until
    /// a statement changes what the bytes do not tell.
    remembered: HashMap<Box<[u8]>, Mapped>,
    /// Of the statement that is being read.
    in_force: Vec<(u64, Mapped)>,
}

/// The tables of a statement.
#[derive(Debug)]
pub struct InForce(Vec<(u64, Mapped)>);

#[derive(Clone, Debug)]
pub enum Mapped {
    /// No rows of this table are wanted.
    Filtered,
    Captured(Arc<Layout>),
}

/// What a table map event needs before rows of its table can be read.
pub enum MapOutcome {
    Ready,
    /// A table seen for the first time: find out what is known of it, then [`Tables::learn`].
    Unknown(TableMap),
}

impl Tables {
    pub fn new(filter: TableFilter) -> Self {
        Self { filter, remembered: HashMap::new(), in_force: Vec::new() }
    }

    /// A table map event. Of the same id only the last counts.
    pub fn map(&mut self, body: &[u8]) -> Result<MapOutcome, DecodeError> {
        let table_id = super::rows::table_id(body)?;
        if let Some(mapped) = body.get(AFTER_ID..).and_then(|rest| self.remembered.get(rest)) {
            let mapped = mapped.clone();
            self.put_in_force(table_id, mapped);
            return Ok(MapOutcome::Ready);
        }
        let map = TableMap::parse(body)?;
        if self.filter.captures(&map.table) || map.table.is_own() {
            return Ok(MapOutcome::Unknown(map));
        }
        self.remember(body, Mapped::Filtered);
        self.put_in_force(table_id, Mapped::Filtered);
        Ok(MapOutcome::Ready)
    }

    /// What was missing for a table map event.
    pub fn learn(&mut self, body: &[u8], map: &TableMap, known: Option<&KnownTable>) -> Result<(), DecodeError> {
        let layout = Layout::new(map, known)?;
        let mapped = Mapped::Captured(Arc::new(layout));
        self.remember(body, mapped.clone());
        self.put_in_force(map.table_id, mapped);
        Ok(())
    }

    /// The table of a rows event; `None` where the event's statement did not map it.
    pub fn get(&self, table_id: u64) -> Option<&Mapped> {
        self.in_force.iter().find(|(id, _)| *id == table_id).map(|(_, mapped)| mapped)
    }

    /// The tables of the statement that is being read, to go on with it later.
    pub fn in_force(&self) -> InForce {
        InForce(self.in_force.clone())
    }

    pub fn resume(&mut self, in_force: InForce) {
        self.in_force = in_force.0;
    }

    /// The last rows event of a statement has passed: its table maps are void.
    pub fn end_statement(&mut self) {
        self.in_force.clear();
    }

    /// A statement may have changed tables: what it mentions must be found out anew.
    pub fn forget(&mut self, text: &[u8]) {
        let whole_database = statement::is_about_database(text);
        self.remembered.retain(|_, mapped| match mapped {
            Mapped::Filtered => true,
            Mapped::Captured(layout) => !whole_database && !statement::mentions(text, &layout.shape().table.table),
        });
    }

    fn put_in_force(&mut self, table_id: u64, mapped: Mapped) {
        match self.in_force.iter_mut().find(|(id, _)| *id == table_id) {
            Some(entry) => entry.1 = mapped,
            None => self.in_force.push((table_id, mapped)),
        }
    }

    fn remember(&mut self, body: &[u8], mapped: Mapped) {
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        if let Some(rest) = body.get(AFTER_ID..) {
            self.remembered.insert(rest.into(), mapped);
        }
    }
}
