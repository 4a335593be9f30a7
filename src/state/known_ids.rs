//! Which ids a cloud has, in a scratch file: a million of them are not held in memory.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::cloud::{KnownIds, LedgerError};

/// Without any durability, and empty at every start.
pub struct IdsFile(Connection);

/// Pages in memory, in KiB.
const CACHE_KIB: i32 = 16 << 10;

fn fault(error: rusqlite::Error) -> LedgerError {
    LedgerError { reason: error.to_string() }
}

impl IdsFile {
    /// Begins `cloud-NAME.scratch` in the folder, which is made where it is missing.
    pub fn create(folder: &Path, cloud: &str) -> Result<Self, LedgerError> {
        let path = folder.join(format!("cloud-{cloud}.scratch"));
        let reason = |error: &dyn std::fmt::Display| LedgerError { reason: format!("{}: {error}", path.display()) };
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
                 CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID;"
            ))?;
            Ok(connection)
        };
        open().map(Self).map_err(|error| reason(&error))
    }
}

impl KnownIds for IdsFile {
    fn clear(&mut self) -> Result<(), LedgerError> {
        self.0.execute("DELETE FROM ids", []).map(drop).map_err(fault)
    }

    fn put(&mut self, ids: &[String]) -> Result<(), LedgerError> {
        let batch = self.0.transaction().map_err(fault)?;
        {
            let mut insert = batch.prepare_cached("INSERT OR IGNORE INTO ids VALUES (?)").map_err(fault)?;
            for id in ids {
                insert.execute([id]).map_err(fault)?;
            }
        }
        batch.commit().map_err(fault)
    }

    fn has(&self, id: &str) -> Result<bool, LedgerError> {
        let mut select = self.0.prepare_cached("SELECT 1 FROM ids WHERE id = ?").map_err(fault)?;
        Ok(select.query_row([id], |_| Ok(())).optional().map_err(fault)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_until_they_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut ids = IdsFile::create(folder.path(), "main").unwrap();
        ids.put(&["1".into(), "b".into(), "1".into()]).unwrap();
        assert!(ids.has("1").unwrap() && ids.has("b").unwrap() && !ids.has("2").unwrap());
        ids.clear().unwrap();
        assert!(!ids.has("1").unwrap());
        ids.put(&["2".into()]).unwrap();
        drop(ids);
        assert!(!IdsFile::create(folder.path(), "main").unwrap().has("2").unwrap(), "a new file is empty");
    }
}
