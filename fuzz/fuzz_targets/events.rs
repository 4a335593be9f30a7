//! A table map event of any bytes: read, and joined with nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::source::binlog::{Layout, TableMap, decompress};

fuzz_target!(|body: &[u8]| {
    if let Ok(map) = TableMap::parse(body) {
        let _ = Layout::new(&map, None);
    }
    let _ = decompress(body);
});
