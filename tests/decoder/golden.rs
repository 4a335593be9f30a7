//! What the golden binlogs tell is what the server showed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tandem::change::Change;
use tandem::source::binlog::KnownTable;

use crate::file::{Event, changes, events};
use crate::replay::{Table, compare, from_json, replay};

/// One setting of the server: its binlog, and its tables.
pub struct Golden {
    pub name: String,
    pub events: Vec<Event>,
    pub tables: Vec<Table>,
}

impl Golden {
    pub fn read(name: &str) -> Self {
        let file = |extension| Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.{extension}"));
        let bytes = fs::read(file("binlog")).expect("the golden binlog is there");
        let tables = from_json(&fs::read_to_string(file("json")).expect("the golden tables are there"));
        Self { name: name.to_owned(), events: events(&bytes), tables }
    }

    pub fn all() -> Vec<Self> {
        let entries =
            fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")).expect("the golden bytes are there");
        let mut names: Vec<_> =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".binlog")?.to_owned())).collect();
        names.sort();
        names.iter().map(|name| Self::read(name)).collect()
    }

    pub fn known(&self) -> BTreeMap<&str, &KnownTable> {
        self.tables.iter().map(|table| (table.name.as_str(), &table.known)).collect()
    }

    pub fn changes(&self) -> Vec<Change> {
        let known = self.known();
        let changes = changes(&self.events, |table| known.get(&*table.table).map(|known| Some(*known)));
        changes.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

#[test]
fn what_the_binlog_tells_is_what_the_server_showed() {
    let goldens = Golden::all();
    assert!(goldens.len() >= 10);
    for golden in goldens {
        let replayed = replay(&golden.changes());
        let unknown: usize = golden.tables.iter().map(|table| compare(table, replayed.get(&table.name))).sum();
        assert_eq!(unknown > 0, golden.name.contains("minimal"), "{}", golden.name);
    }
}

#[test]
fn every_setting_and_version_tells_the_same_changes() {
    // What one of them tells, the others tell too; a full image has no unknown values.
    let full = replay(&Golden::read("full").changes());
    for name in ["no_metadata_no_checksum", "compressed", "full_11_4", "compressed_11_4"] {
        let other = Golden::read(name);
        assert!(
            other
                .changes()
                .iter()
                .all(|change| [&change.before, &change.after].into_iter().flatten().all(|image| image.is_full()))
        );
        for (table, mut rows) in replay(&other.changes()) {
            if table == "floats" {
                // 11.4 keeps the sign of a zero that is written as `-0e0`; 10.11 does not.
                let zero = rows.get_mut("i:7").expect("the row is there");
                zero.values_mut().filter(|form| *form == "d:-0e0").for_each(|form| *form = "d:0e0".into());
            }
            // These two hold moments of the server's own clock, and one of them is altered.
            if !table.starts_with("versioned") && table != "altered" {
                assert_eq!(rows, full[&table], "{name}: {table}");
            }
        }
    }
}

#[test]
fn partial_images_leave_values_out_instead_of_making_them_null() {
    let golden = Golden::read("minimal_image");
    let changes = golden.changes();
    let partial = changes.iter().filter(|change| change.before.as_ref().is_some_and(|before| !before.is_full())).count();
    assert!(partial > 5);
    let shape = changes.iter().find(|change| &*change.table().table == "shapes").expect("the table is there");
    let after = shape.after.as_ref().expect("an insert has it");
    assert!(after.get(0).is_some() && after.get(1).is_none(), "only the key was given: {after:?}");
}

#[test]
fn switched_off_checks_are_told() {
    let changes = Golden::read("full").changes();
    let unchecked: Vec<_> =
        changes.iter().filter(|change| change.checks.foreign_keys_off || change.checks.unique_off).collect();
    assert_eq!(unchecked.len(), 1);
    assert!(unchecked[0].checks.foreign_keys_off && unchecked[0].checks.unique_off);
}
