//! KEEPS, on a node's own disk, what outgrows memory and can be rebuilt (a scratch file, empty at every start), how far
//! the own topic was, what snapshots it was asked for, how far a comparison came, which roles are paused, and how far each cloud is fed.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use crate::apply::{Entry, Fingerprint, Overflow, OverflowError};
use crate::change::{Hlc, NodeRank, Offset, Version};
use crate::runtime::Stop;

mod compared;
mod free;
mod known_ids;
mod ledger;
mod pauses;
mod published;
mod snapshots;
mod stamp;

pub use compared::VerifyFile;
pub use free::free_bytes;
pub use known_ids::IdsFile;
pub use ledger::LedgerFile;
pub use pauses::PauseFile;
pub use published::{PUBLISHED_FILE, PublishedFile};
pub use snapshots::SnapshotFile;
pub use stamp::StampFile;

/// Writes a small file beside the old one, and puts it in its place at once: a process that is killed leaves one or the other.
fn replace_json<T: Serialize + ?Sized>(path: &Path, content: &T) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(&serde_json::to_vec_pretty(content)?)?;
    file.persist(path)?;
    Ok(())
}

fn make_folder(folder: &Path) -> Result<(), Stop> {
    fs::create_dir_all(folder).map_err(|error| {
        Stop::halt(format!("cannot use {}: {error}", folder.display()), "make the state folder writable for this user")
    })
}

/// The causal index's overflow in a SQLite file without any durability: a crash loses nothing that the topics do not hold.
pub struct IndexFile(Connection);

/// Pages in memory, in KiB: what is looked up was spilled because memory is short.
const CACHE_KIB: i32 = 8 << 10;

impl IndexFile {
    /// Begins an empty file in the folder, which is made where it is missing.
    pub fn create(folder: &Path) -> Result<Self, OverflowError> {
        let path = folder.join("index.scratch");
        let reason = |error: &dyn std::fmt::Display| OverflowError { reason: format!("{}: {error}", path.display()) };
        fs::create_dir_all(folder).map_err(|error| reason(&error))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(reason(&error)),
            _ => {}
        }
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            connection.execute_batch(&format!(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE_KIB};
                 PRAGMA locking_mode = EXCLUSIVE;
                 CREATE TABLE entries (row BLOB PRIMARY KEY, hlc INTEGER NOT NULL, node INTEGER NOT NULL, place INTEGER NOT NULL)
                     WITHOUT ROWID;
                 CREATE INDEX by_origin ON entries (node, place);"
            ))?;
            Ok(connection)
        };
        open().map(Self).map_err(|error| reason(&error))
    }
}

fn fault(error: rusqlite::Error) -> OverflowError {
    OverflowError { reason: format!("index.scratch: {error}") }
}

// SQLite's integers are signed: clocks of this era and offsets fit with room to spare.
fn signed(number: u64) -> Result<i64, OverflowError> {
    i64::try_from(number).map_err(|_| OverflowError { reason: format!("index.scratch: {number} is too large for it") })
}

impl Overflow for IndexFile {
    fn put(&mut self, entries: &[(Fingerprint, Entry)]) -> Result<(), OverflowError> {
        let batch = self.0.transaction().map_err(fault)?;
        {
            let mut insert = batch.prepare_cached("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)").map_err(fault)?;
            for (row, Entry { version, offset }) in entries {
                let (hlc, place) = (signed(version.hlc.0)?, signed(offset.0)?);
                insert.execute(params![row.to_be_bytes(), hlc, version.node.0, place]).map_err(fault)?;
            }
        }
        batch.commit().map_err(fault)
    }

    fn get(&self, row: Fingerprint) -> Result<Option<Entry>, OverflowError> {
        let mut select = self.0.prepare_cached("SELECT hlc, node, place FROM entries WHERE row = ?").map_err(fault)?;
        let entry = |row: &rusqlite::Row| {
            let version = Version { hlc: Hlc(row.get::<_, i64>(0)? as u64), node: NodeRank(row.get(1)?) };
            Ok(Entry { version, offset: Offset(row.get::<_, i64>(2)? as u64) })
        };
        select.query_row([row.to_be_bytes()], entry).optional().map_err(fault)
    }

    fn remove(&mut self, row: Fingerprint) -> Result<(), OverflowError> {
        let mut delete = self.0.prepare_cached("DELETE FROM entries WHERE row = ?").map_err(fault)?;
        delete.execute([row.to_be_bytes()]).map(drop).map_err(fault)
    }

    fn forget(&mut self, node: NodeRank, before: Offset) -> Result<u64, OverflowError> {
        let mut delete = self.0.prepare_cached("DELETE FROM entries WHERE node = ? AND place < ?").map_err(fault)?;
        delete.execute(params![node.0, signed(before.0)?]).map(|rows| rows as u64).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hlc: u64, node: u16, offset: u64) -> Entry {
        Entry { version: Version { hlc: Hlc(hlc), node: NodeRank(node) }, offset: Offset(offset) }
    }

    #[test]
    fn entries_come_back_are_replaced_and_forgotten_by_origin() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = IndexFile::create(&folder.path().join("new")).unwrap();
        let far = u128::MAX - 1;
        file.put(&[(1, entry(5, 0, 3)), (far, entry(6, 1, 3)), (2, entry(7, 0, 4))]).unwrap();
        file.put(&[(1, entry(9, 0, 8))]).unwrap();
        assert_eq!(file.get(1).unwrap(), Some(entry(9, 0, 8)));
        assert_eq!(file.get(far).unwrap(), Some(entry(6, 1, 3)));
        assert_eq!(file.forget(NodeRank(0), Offset(8)).unwrap(), 1);
        assert_eq!((file.get(2).unwrap(), file.get(1).unwrap()), (None, Some(entry(9, 0, 8))));
        file.remove(far).unwrap();
        assert_eq!(file.get(far).unwrap(), None);
    }

    #[test]
    fn a_new_file_is_empty_whatever_an_earlier_run_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = IndexFile::create(folder.path()).unwrap();
        file.put(&[(1, entry(5, 0, 3))]).unwrap();
        drop(file);
        assert_eq!(IndexFile::create(folder.path()).unwrap().get(1).unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::write(&taken, "a file").unwrap();
        let error = IndexFile::create(&taken).err().unwrap().to_string();
        assert!(error.contains("taken"), "{error}");
    }
}
