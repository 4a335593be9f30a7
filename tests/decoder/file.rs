//! A binlog file taken apart into events: enough to decode one without a server.
//!
//! tests/live/types.rs includes this module and [`replay`](super::replay) by path.
#![allow(dead_code)]

use std::collections::HashMap;

use tandem::change::{Change, TableName};
use tandem::source::binlog::{DecodeError, KnownTable, Layout, RowsKind, TableMap, rows};

pub const TABLE_MAP: u8 = 19;
const FORMAT_DESCRIPTION: u8 = 15;
const HEADER: usize = 19;

#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub kind: u8,
    /// Without header and checksum.
    pub body: Vec<u8>,
}

/// The events of a whole file. Panics where it is none.
pub fn events(file: &[u8]) -> Vec<Event> {
    let mut rest = file.strip_prefix(b"\xfebin").expect("a binlog begins with its magic number");
    let mut checksum = 0;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let kind = rest[4];
        let size = u32::from_le_bytes(rest[9..13].try_into().unwrap()) as usize;
        let (event, next) = rest.split_at(size);
        if kind == FORMAT_DESCRIPTION {
            // Its last five bytes are the algorithm and its own checksum, which is there even if the others have none.
            checksum = if event[size - 5] == 1 { 4 } else { 0 };
        }
        events.push(Event { kind, body: event[HEADER..size - checksum].to_vec() });
        rest = next;
    }
    events
}

/// The changes of all captured tables in order. `known` tells what is known of a table; `None` of it skips the table.
pub fn changes<'a>(
    events: &[Event],
    known: impl Fn(&TableName) -> Option<Option<&'a KnownTable>>,
) -> Result<Vec<Change>, DecodeError> {
    let mut layouts = HashMap::new();
    let mut changes = Vec::new();
    for event in events {
        if event.kind == TABLE_MAP {
            let map = TableMap::parse(&event.body)?;
            let layout = known(&map.table).map(|known| Layout::new(&map, known)).transpose()?;
            layouts.insert(map.table_id, layout);
        } else if let Some(kind) = RowsKind::of(event.kind) {
            let layout = layouts.get(&rows::table_id(&event.body)?).expect("rows follow the table map of their table");
            if let Some(layout) = layout {
                changes.extend(rows::changes(kind, layout, &event.body)?);
            }
        }
    }
    Ok(changes)
}
