//! What snapshots the node was asked for and how far they are, in a small file: so that one goes on after a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make_folder, replace_json};
use crate::runtime::Stop;
use crate::tail::{SnapshotBook, SnapshotOrder};

/// The name of the file in the node's state folder.
const FILE: &str = "snapshots.json";

pub struct SnapshotFile(PathBuf);

impl SnapshotFile {
    pub fn open(folder: &Path) -> Result<Self, Stop> {
        make_folder(folder)?;
        Ok(Self(folder.join(FILE)))
    }
}

impl SnapshotBook for SnapshotFile {
    fn load(&self) -> Result<Vec<SnapshotOrder>, Stop> {
        let remedy = "delete the file: snapshots that were under way must be asked for again";
        let fault = |error: &dyn std::fmt::Display| Stop::halt(format!("cannot read {}: {error}", self.0.display()), remedy);
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fault(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(fault(&error)),
        }
    }

    fn save(&self, orders: &[SnapshotOrder]) {
        // A full disk costs rows that are published twice, which changes nothing.
        let _ = replace_json(&self.0, orders);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::TableName;
    use crate::runtime::SystemClock;
    use crate::tail::SnapshotDesk;

    #[test]
    fn orders_outlive_the_process_and_a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = || SnapshotDesk::open(Box::new(SnapshotFile::open(folder.path()).unwrap()), Arc::new(SystemClock));
        open().unwrap().ask(&[(TableName::new("campus", "riders"), 7)], &[], None);
        assert_eq!(open().unwrap().orders()[0].tables[0].rows_expected, 7);
        fs::write(folder.path().join(FILE), "what?").unwrap();
        let stop = open().err().expect("this is no list of orders");
        assert!(stop.to_string().contains("snapshots.json") && stop.to_string().contains("delete the file"), "{stop}");
    }
}
