//! How far a cloud is fed, in a small SQLite file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::change::cloud::CloudRow;
use crate::change::{Offset, OriginId};
use crate::cloud::{
    Aside, FileLedger, FileState, FilesWanted, Ledger, LedgerError, Pending, Progress, UploadLedger, Window, WindowLedger,
};
use crate::observe::{CloudFile, CloudReport};

/// How many files are in each state, kept by the file itself: each file that goes asks for it, and of a million files counting takes as
/// long as sending a small one. What an older ledger knows is counted once.
const FILE_COUNTS: &str = "BEGIN IMMEDIATE;
    CREATE TABLE file_counts (state TEXT PRIMARY KEY, files INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO file_counts SELECT state, count(*) FROM files GROUP BY state;
    CREATE TRIGGER files_come AFTER INSERT ON files BEGIN
        INSERT INTO file_counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET files = files + 1;
    END;
    CREATE TRIGGER files_go AFTER DELETE ON files BEGIN
        UPDATE file_counts SET files = files - 1 WHERE state = old.state;
    END;
    CREATE TRIGGER files_change AFTER UPDATE OF state ON files WHEN new.state <> old.state BEGIN
        UPDATE file_counts SET files = files - 1 WHERE state = old.state;
        INSERT INTO file_counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET files = files + 1;
    END;
    COMMIT;";

/// The ledger of one cloud. Held by one process at a time: the file is locked while it is open.
pub struct LedgerFile(Connection);

impl LedgerFile {
    /// Opens `cloud-NAME.ledger` in the folder, which is made where it is missing.
    pub fn open(folder: &Path, cloud: &str) -> Result<Self, LedgerError> {
        let path = folder.join(format!("cloud-{cloud}.ledger"));
        let reason = |error: &dyn std::fmt::Display| LedgerError { reason: format!("{}: {error}", path.display()) };
        fs::create_dir_all(folder).map_err(|error| reason(&error))?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            // Exclusive, so that a second process finds it locked; full, because a checkpoint is a promise.
            connection.execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
                 BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS checkpoints (origin TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS window (origin TEXT PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS aside (resource TEXT NOT NULL, id TEXT NOT NULL, row TEXT NOT NULL,
                     reason TEXT NOT NULL, attempts INTEGER NOT NULL, PRIMARY KEY (resource, id)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS files (kind TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, size INTEGER NOT NULL,
                     changed INTEGER NOT NULL, hash TEXT NOT NULL, url TEXT, reason TEXT, PRIMARY KEY (kind, path)) WITHOUT ROWID;
                 CREATE INDEX IF NOT EXISTS files_by_hash ON files (kind, hash);
                 CREATE INDEX IF NOT EXISTS files_by_state ON files (state, kind, path);
                 CREATE TABLE IF NOT EXISTS uploads (scope TEXT NOT NULL, hash TEXT NOT NULL, kind TEXT NOT NULL,
                     part_bytes INTEGER NOT NULL, upload TEXT NOT NULL, tags TEXT NOT NULL, PRIMARY KEY (scope, hash)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS runs (one INTEGER PRIMARY KEY CHECK (one = 1), report TEXT NOT NULL);
                 COMMIT;",
            )?;
            if !connection.table_exists(None, "file_counts")? {
                connection.execute_batch(FILE_COUNTS)?;
            }
            Ok(connection)
        };
        open().map(Self).map_err(|error| reason(&error))
    }
}

fn fault(error: impl std::fmt::Display) -> LedgerError {
    LedgerError { reason: error.to_string() }
}

impl FileLedger for LedgerFile {
    fn file(&self, kind: &str, path: &str) -> Result<Option<FileState>, LedgerError> {
        let sql = "SELECT state, size, changed, hash, url, reason FROM files WHERE kind = ? AND path = ?";
        let mut select = self.0.prepare_cached(sql).map_err(fault)?;
        let state = select.query_row([kind, path], |row| {
            let (size, changed) = (row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64);
            Ok(FileState { state: row.get(0)?, size, changed, hash: row.get(3)?, url: row.get(4)?, reason: row.get(5)? })
        });
        state.optional().map_err(fault)
    }

    fn url_of(&self, kind: &str, hash: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT url FROM files WHERE kind = ? AND hash = ? AND url IS NOT NULL LIMIT 1";
        let mut select = self.0.prepare_cached(sql).map_err(fault)?;
        select.query_row([kind, hash], |row| row.get(0)).optional().map_err(fault)
    }

    fn keep_file(&mut self, kind: &str, path: &str, file: &FileState) -> Result<(), LedgerError> {
        // Not "or replace", which takes rows away without a word to what counts them.
        let sql = "INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (kind, path) DO UPDATE SET
            state = ?3, size = ?4, changed = ?5, hash = ?6, url = ?7, reason = ?8";
        let (size, changed) = (file.size as i64, file.changed as i64);
        let values = params![kind, path, file.state, size, changed, file.hash, file.url, file.reason];
        self.0.execute(sql, values).map(drop).map_err(fault)
    }

    fn queue_files(&mut self, files: &[(String, String)]) -> Result<(), LedgerError> {
        let batch = self.0.transaction().map_err(fault)?;
        {
            let sql = "INSERT INTO files VALUES (?, ?, 'queued', 0, 0, '', NULL, NULL)
                ON CONFLICT (kind, path) DO UPDATE SET state = 'queued', reason = NULL WHERE url IS NULL";
            let mut put = batch.prepare_cached(sql).map_err(fault)?;
            for (kind, path) in files {
                put.execute([kind, path]).map_err(fault)?;
            }
        }
        batch.commit().map_err(fault)
    }

    fn forget_queued(&mut self) -> Result<(), LedgerError> {
        let sql = "DELETE FROM files WHERE state IN ('queued', 'uploading') AND url IS NULL";
        self.0.execute(sql, []).map(drop).map_err(fault)
    }

    fn file_counts(&self) -> Result<BTreeMap<String, u64>, LedgerError> {
        let mut select = self.0.prepare_cached("SELECT state, files FROM file_counts WHERE files > 0").map_err(fault)?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)));
        rows.map_err(fault)?.collect::<rusqlite::Result<_>>().map_err(fault)
    }

    fn files(&self, wanted: &FilesWanted) -> Result<Vec<CloudFile>, LedgerError> {
        // In the order of the index, so that a page is as quick to find as the first one.
        let sql = "SELECT state, kind, path, size, hash, url, reason FROM files
            WHERE (state, kind, path) > (?1, ?2, ?3) AND (?4 IS NULL OR state = ?4) ORDER BY state, kind, path LIMIT ?5";
        let (mut state, mut kind, mut path) = (String::new(), String::new(), String::new());
        if let Some(after) = &wanted.after {
            (state, kind, path) = (after.state.clone(), after.scope.clone(), after.path.clone());
        } else if let Some(wanted) = &wanted.state {
            state.clone_from(wanted);
        }
        let mut select = self.0.prepare_cached(sql).map_err(fault)?;
        let at_most = i64::try_from(wanted.at_most).unwrap_or(i64::MAX);
        let rows = select.query_map(params![state, kind, path, wanted.state, at_most], |row| {
            let (state, scope, path, hash): (_, _, _, String) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(4)?);
            let (size, url, reason) = (row.get::<_, i64>(3)? as u64, row.get(5)?, row.get(6)?);
            Ok(CloudFile { state, scope, path, size, hash: Some(hash).filter(|hash| !hash.is_empty()), url, reason })
        });
        rows.map_err(fault)?.collect::<rusqlite::Result<_>>().map_err(fault)
    }
}

/// An upload in the order of the columns.
fn pending(row: &Row<'_>) -> rusqlite::Result<Pending> {
    let tags: String = row.get(5)?;
    let tags = if tags.is_empty() { Vec::new() } else { tags.split('\n').map(str::to_owned).collect() };
    let part_bytes = row.get::<_, i64>(3)? as u64;
    Ok(Pending { scope: row.get(0)?, hash: row.get(1)?, kind: row.get(2)?, part_bytes, upload: row.get(4)?, tags })
}

const UPLOADS: &str = "SELECT scope, hash, kind, part_bytes, upload, tags FROM uploads";

impl UploadLedger for LedgerFile {
    fn pending(&self, scope: &str, hash: &str) -> Result<Option<Pending>, LedgerError> {
        let mut select = self.0.prepare_cached(&format!("{UPLOADS} WHERE scope = ? AND hash = ?")).map_err(fault)?;
        select.query_row([scope, hash], pending).optional().map_err(fault)
    }

    fn all_pending(&self) -> Result<Vec<Pending>, LedgerError> {
        let mut select = self.0.prepare_cached(UPLOADS).map_err(fault)?;
        let rows = select.query_map([], pending).map_err(fault)?;
        rows.collect::<rusqlite::Result<_>>().map_err(fault)
    }

    fn keep_pending(&mut self, kept: &Pending) -> Result<(), LedgerError> {
        // Words of stores are no lines; one that were could not be told from two.
        if kept.tags.iter().any(|tag| tag.is_empty() || tag.contains('\n')) {
            return Err(LedgerError { reason: "a store answered a part with no word".into() });
        }
        let sql = "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?)";
        let values = params![kept.scope, kept.hash, kept.kind, kept.part_bytes as i64, kept.upload, kept.tags.join("\n")];
        self.0.execute(sql, values).map(drop).map_err(fault)
    }

    fn forget_pending(&mut self, scope: &str, hash: &str) -> Result<(), LedgerError> {
        let sql = "DELETE FROM uploads WHERE scope = ? AND hash = ?";
        self.0.execute(sql, [scope, hash]).map(drop).map_err(fault)
    }
}

impl WindowLedger for LedgerFile {
    fn window(&self) -> Result<Window, LedgerError> {
        let mut select = self.0.prepare_cached("SELECT origin, first, next FROM window").map_err(fault)?;
        let rows = select.query_map([], |row| {
            let offset = |at| Ok::<_, rusqlite::Error>(Offset(row.get::<_, i64>(at)? as u64));
            Ok((OriginId::new(&row.get::<_, String>(0)?), offset(1)?..offset(2)?))
        });
        rows.map_err(fault)?.collect::<rusqlite::Result<_>>().map_err(fault)
    }

    fn keep_window(&mut self, window: &Window) -> Result<(), LedgerError> {
        let batch = self.0.transaction().map_err(fault)?;
        batch.execute("DELETE FROM window", []).map_err(fault)?;
        for (origin, offsets) in window {
            let values = params![origin.as_str(), offsets.start.0 as i64, offsets.end.0 as i64];
            batch.execute("INSERT INTO window VALUES (?, ?, ?)", values).map_err(fault)?;
        }
        batch.commit().map_err(fault)
    }
}

impl Ledger for LedgerFile {
    fn checkpoints(&self) -> Result<BTreeMap<OriginId, Offset>, LedgerError> {
        let mut select = self.0.prepare_cached("SELECT origin, next FROM checkpoints").map_err(fault)?;
        let rows =
            select.query_map([], |row| Ok((OriginId::new(&row.get::<_, String>(0)?), Offset(row.get::<_, i64>(1)? as u64))));
        rows.map_err(fault)?.collect::<rusqlite::Result<_>>().map_err(fault)
    }

    fn keep(&mut self, progress: &Progress) -> Result<(), LedgerError> {
        let before = self.checkpoints()?;
        let batch = self.0.transaction().map_err(fault)?;
        {
            if !progress.next.is_empty() {
                batch.execute("DELETE FROM window", []).map_err(fault)?;
            }
            let mut put = batch.prepare_cached("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)").map_err(fault)?;
            for (origin, next) in &progress.next {
                let held = before.get(origin).copied().unwrap_or_default();
                assert!(*next >= held, "the checkpoint of {origin} would move back from {held} to {next}");
                put.execute(params![origin.as_str(), i64::try_from(next.0).map_err(fault)?]).map_err(fault)?;
            }
            let mut settle = batch.prepare_cached("DELETE FROM aside WHERE resource = ? AND id = ?").map_err(fault)?;
            for (resource, id) in &progress.settled {
                settle.execute([resource, id]).map_err(fault)?;
            }
            let mut put = batch.prepare_cached("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)").map_err(fault)?;
            for Aside { row, reason, attempts } in &progress.aside {
                let text = serde_json::to_string(row).map_err(fault)?;
                put.execute(params![row.resource, row.id, text, reason, attempts]).map_err(fault)?;
            }
        }
        batch.commit().map_err(fault)
    }

    fn aside(&self, at_most: usize) -> Result<Vec<Aside>, LedgerError> {
        let mut select =
            self.0.prepare_cached("SELECT row, reason, attempts FROM aside ORDER BY resource, id LIMIT ?").map_err(fault)?;
        let mut rows = select.query([i64::try_from(at_most).unwrap_or(i64::MAX)]).map_err(fault)?;
        let mut aside = Vec::new();
        while let Some(row) = rows.next().map_err(fault)? {
            let text: String = row.get(0).map_err(fault)?;
            let sent: CloudRow = serde_json::from_str(&text).map_err(fault)?;
            let (reason, attempts) = (row.get(1).map_err(fault)?, row.get(2).map_err(fault)?);
            aside.push(Aside { row: sent, reason, attempts });
        }
        Ok(aside)
    }

    fn aside_count(&self) -> Result<u64, LedgerError> {
        let count: i64 = self.0.query_row("SELECT count(*) FROM aside", [], |row| row.get(0)).map_err(fault)?;
        Ok(count as u64)
    }

    fn last_run(&self) -> Result<Option<CloudReport>, LedgerError> {
        let select = self.0.query_row("SELECT report FROM runs", [], |row| row.get::<_, String>(0)).optional();
        select.map_err(fault)?.map(|text| serde_json::from_str(&text).map_err(fault)).transpose()
    }

    fn keep_run(&mut self, report: &CloudReport) -> Result<(), LedgerError> {
        let text = serde_json::to_string(report).map_err(fault)?;
        self.0.execute("INSERT OR REPLACE INTO runs VALUES (1, ?)", [text]).map(drop).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::cloud::{CloudOp, CloudVersion};

    fn aside(id: &str) -> Aside {
        let version = CloudVersion { hlc: 1, origin: "a".into() };
        let (key, resource, id) = ("a:1".into(), "rooms".into(), id.into());
        let row = CloudRow { key, resource, id, op: CloudOp::Delete, version, row: Default::default() };
        Aside { row, reason: "no".into(), attempts: 3 }
    }

    fn at(next: u64) -> Progress {
        Progress { next: [(OriginId::new("a"), Offset(next))].into(), ..Progress::default() }
    }

    #[test]
    fn what_was_kept_is_known_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        ledger.keep(&Progress { aside: vec![aside("1"), aside("2")], ..at(7) }).unwrap();
        ledger.keep(&Progress { settled: vec![("rooms".into(), "1".into())], ..at(9) }).unwrap();
        let report = CloudReport { cloud: "main".into(), success: true, ..CloudReport::default() };
        ledger.keep_run(&report).unwrap();
        drop(ledger);
        let ledger = LedgerFile::open(folder.path(), "main").unwrap();
        assert_eq!(ledger.checkpoints().unwrap(), at(9).next);
        assert_eq!((ledger.aside(9).unwrap(), ledger.aside_count().unwrap()), (vec![aside("2")], 1));
        assert_eq!(ledger.last_run().unwrap(), Some(report));
    }

    #[test]
    fn uploads_that_were_begun_are_known_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        let (scope, kind, hash, upload) = ("s3://b/images".into(), "images".into(), "ab".into(), "u 1".into());
        let mut begun = Pending { scope, kind, hash, part_bytes: 8, upload, tags: Vec::new() };
        ledger.keep_pending(&begun).unwrap();
        assert_eq!(ledger.pending("s3://b/images", "ab").unwrap().as_ref(), Some(&begun));
        begun.tags = vec!["\"e1\"".into(), "\"e2\"".into()];
        ledger.keep_pending(&begun).unwrap();
        drop(ledger);
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        assert_eq!((ledger.pending("images", "ab").unwrap(), ledger.all_pending().unwrap()), (None, vec![begun]));
        ledger.forget_pending("s3://b/images", "ab").unwrap();
        assert_eq!(ledger.all_pending().unwrap(), []);
    }

    #[test]
    fn files_wait_unless_they_were_sent_and_nothing_waits_for_a_process_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        let state = |state: &str, url: Option<&str>| FileState {
            state: state.into(),
            url: url.map(str::to_owned),
            reason: url.is_none().then(|| "no".into()),
            ..FileState::default()
        };
        ledger.keep_file("images", "sent", &state("synced", Some("u"))).unwrap();
        ledger.keep_file("images", "failed", &state("failed", None)).unwrap();
        ledger.keep_file("images", "under way", &state("uploading", None)).unwrap();
        let named = ["sent", "failed", "new"].map(|path| ("images".to_owned(), path.to_owned()));
        ledger.queue_files(&named).unwrap();
        let counts =
            |of: &[(&str, u64)]| of.iter().map(|(state, count)| (state.to_string(), *count)).collect::<BTreeMap<_, _>>();
        assert_eq!(ledger.file_counts().unwrap(), counts(&[("queued", 2), ("synced", 1), ("uploading", 1)]));
        assert_eq!(ledger.file("images", "failed").unwrap().unwrap().reason, None);
        ledger.forget_queued().unwrap();
        assert_eq!(ledger.file_counts().unwrap(), counts(&[("synced", 1)]));
    }

    #[test]
    fn files_are_listed_page_by_page_and_counted_whatever_becomes_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        let keep = |ledger: &mut LedgerFile, path: &str, state: &str| {
            let reason = (state == "failed").then(|| "no".to_owned());
            ledger.keep_file("images", path, &FileState { state: state.into(), reason, ..FileState::default() }).unwrap();
        };
        for number in 0..7 {
            keep(&mut ledger, &format!("{number}.jpg"), ["synced", "failed", "missing"][number % 3]);
        }
        let told = |ledger: &LedgerFile, state: Option<&str>, at_most| {
            let (mut wanted, mut pages) = (FilesWanted { state: state.map(str::to_owned), at_most, after: None }, Vec::new());
            loop {
                let page = ledger.files(&wanted).unwrap();
                wanted.after = page.last().cloned();
                if page.is_empty() {
                    return pages;
                }
                pages.push(page.into_iter().map(|file| format!("{} {}", file.state, file.path)).collect::<Vec<_>>().join(", "));
            }
        };
        assert_eq!(told(&ledger, Some("failed"), 9), ["failed 1.jpg, failed 4.jpg"]);
        let all = ["failed 1.jpg, failed 4.jpg, missing 2.jpg", "missing 5.jpg, synced 0.jpg, synced 3.jpg", "synced 6.jpg"];
        assert_eq!(told(&ledger, None, 3), all);
        keep(&mut ledger, "1.jpg", "synced");
        keep(&mut ledger, "1.jpg", "synced");
        keep(&mut ledger, "4.jpg", "missing");
        let counted = |ledger: &LedgerFile| {
            let mut select = ledger.0.prepare("SELECT state, count(*) FROM files GROUP BY state").unwrap();
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))).unwrap();
            rows.collect::<rusqlite::Result<BTreeMap<String, u64>>>().unwrap()
        };
        assert_eq!(ledger.file_counts().unwrap(), [("missing".to_owned(), 3), ("synced".to_owned(), 4)].into());
        assert_eq!(ledger.file_counts().unwrap(), counted(&ledger));
        // An older ledger kept no counts.
        let older = "DROP TRIGGER files_come; DROP TRIGGER files_go; DROP TRIGGER files_change; DROP TABLE file_counts";
        ledger.0.execute_batch(older).unwrap();
        drop(ledger);
        let ledger = LedgerFile::open(folder.path(), "main").unwrap();
        assert_eq!(ledger.file_counts().unwrap(), counted(&ledger));
    }

    #[test]
    fn a_window_is_known_until_a_checkpoint_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        let window: Window = [(OriginId::new("a"), Offset(3)..Offset(9))].into();
        ledger.keep_window(&window).unwrap();
        drop(ledger);
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        ledger.keep(&Progress::default()).unwrap();
        assert_eq!(ledger.window().unwrap(), window);
        ledger.keep(&at(9)).unwrap();
        assert_eq!(ledger.window().unwrap(), Window::new());
    }

    #[test]
    fn a_second_process_finds_it_taken() {
        let folder = tempfile::tempdir().unwrap();
        let _first = LedgerFile::open(folder.path(), "main").unwrap();
        let error = LedgerFile::open(folder.path(), "main").err().expect("it is taken").to_string();
        assert!(error.contains("locked"), "{error}");
        LedgerFile::open(folder.path(), "other").unwrap();
    }

    #[test]
    #[should_panic(expected = "would move back")]
    fn a_checkpoint_never_moves_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = LedgerFile::open(folder.path(), "main").unwrap();
        ledger.keep(&at(7)).unwrap();
        let _ = ledger.keep(&at(6));
    }
}
