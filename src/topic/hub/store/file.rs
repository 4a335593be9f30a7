//! The SQLite file: what is in it, and how it is opened and read.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use tokio::sync::Semaphore;

use super::{TopicState, Topics};
use crate::change::{Offset, OriginId};
use crate::topic::TopicError;
use crate::topic::hub::Block;

/// "tndm": tells our file from any other SQLite file.
const APPLICATION_ID: i64 = 0x746e_646d;
const VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE topics (
        id INTEGER PRIMARY KEY,
        origin TEXT NOT NULL UNIQUE,
        generation INTEGER NOT NULL -- how often a writer took over
    ) STRICT;
    CREATE TABLE blocks (
        place INTEGER PRIMARY KEY,  -- the topic's id in the upper bits, the block's first offset in the lower 48
        second INTEGER NOT NULL,    -- when it was appended, of the Unix epoch
        sealed BLOB NOT NULL
    ) STRICT;
";

/// Bits of an offset in a block's place: one tree for all topics, in which each topic grows at its own end. A million
/// records a second would fill it in nine years.
const OFFSET_BITS: u32 = 48;
pub const TOPICS_MAX: u16 = i16::MAX as u16;

/// Files up to this size are checked whole when they are opened; that takes about a second. Larger ones are checked
/// block by block as they are read.
const CHECKED_WHOLE_BYTES: i64 = 256 << 20;

/// The lowest place of a topic, and the first after its highest.
fn places(id: u16) -> (i64, i64) {
    let first = i64::from(id) << OFFSET_BITS;
    (first, first + (1 << OFFSET_BITS))
}

/// `None` past the highest offset that a place can hold.
pub fn place(id: u16, offset: Offset) -> Option<i64> {
    (offset.0 >> OFFSET_BITS == 0).then(|| places(id).0 | offset.0 as i64)
}

fn offset(place: i64) -> Offset {
    Offset(place as u64 & ((1 << OFFSET_BITS) - 1))
}

/// The file as its one writer has it.
pub struct StoreFile {
    pub connection: Connection,
    path: PathBuf,
    // Dropped last: the next process finds the file closed.
    _lock: FolderLock,
}

/// The lock of the store's folder, held for as long as the store is open.
struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that is just being started has a copy of it until it runs its program.
        // Where this fails, the lock goes with the last copy.
        let _ = self.0.unlock();
    }
}

impl StoreFile {
    pub fn open(folder: &Path) -> Result<Self, TopicError> {
        let fault = |what: &str, error: std::io::Error| TopicError::Store {
            reason: format!("cannot {what} in the hub's folder {}: {error}", folder.display()),
        };
        make_folder(folder).map_err(|error| fault("make files", error))?;
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join("hub.lock"));
        let lock = lock.map_err(|error| fault("open hub.lock", error))?;
        lock.try_lock()
            .map_err(|_| TopicError::Store { reason: format!("another process keeps the topics in {}", folder.display()) })?;
        let path = folder.join("topics.db");
        let connection = open_writer(&path)?;
        Ok(Self { connection, path, _lock: FolderLock(lock) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins with a fresh connection: after a failed commit only the file itself knows what it holds.
    pub fn reconnect(&mut self) -> Result<(), TopicError> {
        // Fails where nothing was begun, which is as good.
        let _ = self.connection.execute_batch("ROLLBACK");
        self.connection = open_writer(&self.path)?;
        Ok(())
    }

    /// Every topic as the file has it.
    pub fn topics(&self) -> Result<Topics, TopicError> {
        let mut statement = self.connection.prepare("SELECT id, origin, generation FROM topics").map_err(store_fault)?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, u16>(0)?, OriginId::new(row.get_ref(1)?.as_str()?), row.get::<_, i64>(2)? as u64))
        });
        let rows: Vec<_> = rows.map_err(store_fault)?.collect::<Result<_, _>>().map_err(store_fault)?;
        rows.into_iter()
            .map(|(id, origin, generation)| {
                let (low, high) = places(id);
                let edge = |order: &str| {
                    let sql = format!(
                        "SELECT place, sealed FROM blocks WHERE place >= ? AND place < ? ORDER BY place {order} LIMIT 1"
                    );
                    let found = self
                        .connection
                        .query_row(&sql, params![low, high], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
                    let found = found.optional().map_err(store_fault)?;
                    found.map(|(place, sealed)| checked(place, sealed.into())).transpose()
                };
                let (first, last) = (edge("ASC")?, edge("DESC")?);
                let end = last.map_or(Offset(0), |block| block.end());
                let first = first.map_or(Offset(0), |block| block.first);
                Ok((origin, TopicState { id, first, end, generation }))
            })
            .collect()
    }

    /// The topic's first block but its last one: its place and the second it was appended.
    pub fn oldest(&self, id: u16) -> rusqlite::Result<Option<(i64, u64)>> {
        let (low, high) = places(id);
        self.connection
            .prepare_cached(
                "SELECT place, second FROM blocks WHERE place >= ?1 AND place < ?2
                 AND place < (SELECT max(place) FROM blocks WHERE place >= ?1 AND place < ?2) ORDER BY place LIMIT 1",
            )?
            .query_row(params![low, high], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))
            .optional()
    }

    /// Deletes at most `most` blocks of the topic, oldest first, that end by `before` or were appended before `second`;
    /// never its last. Returns the first offset that is left.
    pub fn forget(&self, id: u16, before: Offset, second: u64, most: u32) -> rusqlite::Result<Offset> {
        let (low, high) = places(id);
        // A block ends where the next begins.
        let mut following = self.connection.prepare_cached(
            "SELECT place, second, lead(place) OVER (ORDER BY place) FROM
             (SELECT place, second FROM blocks WHERE place >= ? AND place < ? ORDER BY place LIMIT ?)",
        )?;
        let mut rows = following.query(params![low, high, most.saturating_add(1)])?;
        let mut left = None;
        while let Some(row) = rows.next()? {
            let (own, appended, next) = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as u64, row.get::<_, Option<i64>>(2)?);
            left.get_or_insert(own);
            match next {
                Some(next) if offset(next) <= before || appended < second => left = Some(next),
                _ => break,
            }
        }
        let left = left.unwrap_or(low);
        self.connection.prepare_cached("DELETE FROM blocks WHERE place >= ? AND place < ?")?.execute(params![low, left])?;
        Ok(offset(left))
    }

    /// Bytes of the file that are in use.
    pub fn used_bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        Ok((pragma("page_count")?.saturating_sub(pragma("freelist_count")?) * pragma("page_size")?) as u64)
    }
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // What is in the topics is the data of the nodes: for nobody else on the machine.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

fn open_writer(path: &Path) -> Result<Connection, TopicError> {
    let open = || -> rusqlite::Result<(Connection, i64, i64)> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // Only has a meaning for a new file. Blocks are some KB to some tens of KB.
        connection.pragma_update(None, "page_size", 8192)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (id, version, pages, page_size) =
            (number("application_id")?, number("user_version")?, number("page_count")?, number("page_size")?);
        if pages > 0 && pages * page_size <= CHECKED_WHOLE_BYTES {
            let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
            if verdict != "ok" {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
                    Some(verdict),
                ));
            }
        }
        Ok((connection, id, version))
    };
    let (connection, id, version) = open().map_err(store_fault)?;
    let empty: bool =
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(store_fault)?;
    if empty {
        let made =
            format!("BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;");
        connection.execute_batch(&made).map_err(store_fault)?;
    } else if (id, version) != (APPLICATION_ID, VERSION) {
        return Err(TopicError::Store {
            reason: format!(
                "{} was not made by this version of tandem (its version is {version}, ours {VERSION})",
                path.display()
            ),
        });
    }
    Ok(connection)
}

/// A block as it lies in the file.
fn checked(place: i64, sealed: Bytes) -> Result<Block, TopicError> {
    Block::from_sealed(offset(place), sealed)
        .map_err(|error| TopicError::Damaged { reason: format!("block at offset {}: {error}", offset(place)) })
}

/// A failure of SQLite, told apart by what can be done about it.
pub fn store_fault(error: rusqlite::Error) -> TopicError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => TopicError::Damaged { reason: error.to_string() },
        _ => TopicError::Store { reason: error.to_string() },
    }
}

/// Connections that only read, made as they are needed.
pub struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Reader>>>,
    turns: Arc<Semaphore>,
}

/// Reads at the same time. More would only wait for the same disk.
const READERS_MAX: usize = 4;

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Arc::default(), turns: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Runs a question on a thread that may block.
    pub async fn run<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, TopicError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let turn = self.turns.clone().acquire_owned().await.expect("the turns are never closed");
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let lock = || idle.lock().expect("nothing panics while it holds the readers");
            let waiting = lock().pop();
            let reader = waiting.map_or_else(|| Reader::open(&path), Ok)?;
            let answer = question(&reader);
            lock().push(reader);
            answer
        });
        answer.await.map_err(|_| TopicError::Store { reason: "reading was cut off by the end of the process".into() })?
    }
}

pub struct Reader(Connection);

impl Reader {
    fn open(path: &Path) -> Result<Self, TopicError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(store_fault)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(store_fault)?;
        Ok(Self(connection))
    }

    /// Blocks that follow each other, the first of which holds `from`, up to `end`: as many as fit into `bytes_max`,
    /// but at least one. None where the one that held `from` is forgotten.
    pub fn blocks(&self, id: u16, from: Offset, end: Offset, bytes_max: usize) -> Result<Vec<Block>, TopicError> {
        let (low, _) = places(id);
        let (Some(from_place), Some(end_place)) = (place(id, from), place(id, end)) else { return Ok(Vec::new()) };
        let mut statement = self
            .0
            .prepare_cached(
                "SELECT place, sealed FROM blocks WHERE place < ?3
                 AND place >= (SELECT max(place) FROM blocks WHERE place >= ?1 AND place <= ?2) ORDER BY place",
            )
            .map_err(store_fault)?;
        let mut rows = statement.query(params![low, from_place, end_place]).map_err(store_fault)?;
        let mut blocks: Vec<Block> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(store_fault)? {
            let sealed = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(store_fault)?;
            let block = checked(row.get(0).map_err(store_fault)?, Bytes::copy_from_slice(sealed))?;
            bytes += block.unpacked as usize;
            if !blocks.is_empty() && bytes > bytes_max {
                break;
            }
            let due = blocks.last().map_or(block.first, Block::end);
            let holds_from = !blocks.is_empty() || block.end() > from;
            if block.first != due || !holds_from {
                return Err(TopicError::Damaged {
                    reason: format!("offset {} is missing before {}", due.max(from), block.first),
                });
            }
            blocks.push(block);
        }
        Ok(blocks)
    }
}
