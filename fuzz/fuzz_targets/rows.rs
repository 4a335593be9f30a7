//! A table map event and a rows event, both of any bytes. The first byte is the type of the rows event, the next two the
//! length of the table map's body, low byte first; the rows' body is the rest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::source::binlog::{Layout, RowsKind, TableMap, rows};

fuzz_target!(|input: &[u8]| {
    let [kind, low, high, rest @ ..] = input else { return };
    let Some(kind) = RowsKind::of(*kind) else { return };
    let Some((map, body)) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high]))) else { return };
    let Ok(map) = TableMap::parse(map) else { return };
    let Ok(layout) = Layout::new(&map, None) else { return };
    if let Ok(changes) = rows::changes(kind, &layout, body) {
        for change in changes {
            std::hint::black_box(change.weight());
        }
    }
});
