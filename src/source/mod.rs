//! READS a database: what was committed on a node's own server, in order.
//!
//! Contract of [`Source`] and [`TransactionStream`]:
//! - **Order**: transactions come in binlog order; the changes of one in the order the server wrote them.
//! - **Wholeness**: a small transaction comes as one part; a large one as several, so that memory stays bounded. Every
//!   part carries the same header; exactly the last has `last`. Only committed transactions come: XA at its commit.
//!   A transaction that changes nothing we capture still comes (with no changes), because its GTID moves the position.
//! - **Completeness**: every change of a captured table comes or the stream ends in an error that names it; nothing
//!   is skipped because it is not understood. Changes of Tandem's own tables come too.
//! - **Repetition**: opening a stream again at an earlier position yields the same transactions again, part
//!   boundaries aside.
//! - **One at a time**: a stream is opened when the one before is dropped. A server has one reader for each replica id.
//! - **Errors**: `Retry` means that the stream is dead and a new one may be opened from the last position; `Halt`
//!   means that going on would lose or change data.

use std::sync::Arc;

use async_trait::async_trait;

use crate::change::{BinlogCoordinates, Change, Gtid, GtidPosition, Image, RowKey, SessionSettings, Shape, TableName};

pub mod binlog;
mod error;
pub mod memory;

pub use error::SourceError;

/// A database whose committed changes can be read in order.
#[async_trait]
pub trait Source: Send + Sync {
    /// The end of the server's history now.
    async fn position(&self) -> Result<GtidPosition, SourceError>;

    /// Where the history that the server still has begins.
    async fn oldest(&self) -> Result<GtidPosition, SourceError>;

    /// All that was committed after the position. Fails where the server no longer has it, never skips ahead; and while an
    /// earlier stream lives.
    async fn stream(&self, from: &GtidPosition) -> Result<Box<dyn TransactionStream>, SourceError>;
}

#[async_trait]
pub trait TransactionStream: Send {
    /// The next event; waits for it. Cancel-safe: a call that was dropped has taken nothing.
    async fn next(&mut self) -> Result<SourceEvent, SourceError>;
}

/// A database whose existing rows can be read, some at a time, without keeping anybody from writing.
#[async_trait]
pub trait RowReader: Send + Sync {
    /// The next rows of a table in the order of its primary key, all as they were at one moment of the history.
    async fn chunk(&self, wanted: &ChunkRequest) -> Result<Chunk, SourceError>;

    /// How the captured tables are made, those before others that refer to them.
    async fn listing(&self) -> Result<Listing, SourceError> {
        Ok(Listing::default())
    }
}

/// How tables are made.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listing {
    /// Each with the statement that makes it, without its database.
    pub tables: Vec<(TableName, String)>,
    /// Where the history was when they had been read.
    pub until: GtidPosition,
}

#[derive(Clone, PartialEq, Debug)]
pub struct ChunkRequest {
    pub table: TableName,
    /// Rows after this key; from the first where there is none.
    pub after: Option<RowKey>,
    /// At most so many, and about so many bytes of them (but at least one row).
    pub rows_max: usize,
    pub bytes_max: usize,
    /// Only these rows, where there are any; then `rows_max` says nothing.
    pub keys: Vec<RowKey>,
    /// An SQL condition on the table's columns that the rows meet.
    pub condition: Option<String>,
    /// The names of all tables that are captured are wanted too.
    pub names: bool,
    /// And how the table is made.
    pub definition: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Chunk {
    pub shape: Arc<Shape>,
    pub rows: Vec<Image>,
    /// Where the history was at that moment: nothing that is after it is in the rows, and all before it is.
    pub moment: BinlogCoordinates,
    /// Where the history was when the rows had been read: at that moment or after it.
    pub until: GtidPosition,
    /// The table has no rows after these.
    pub ends: bool,
    /// All tables that are captured, where they were asked for.
    pub names: Vec<TableName>,
    /// The statement that would make the table, without its database, where it was asked for and there is one.
    pub definition: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum SourceEvent {
    Part(TransactionPart),
    /// The server had nothing to send for a while. The connection lives.
    Idle,
}

/// A transaction, or a part of a large one.
#[derive(Clone, PartialEq, Debug)]
pub struct TransactionPart {
    pub header: Arc<TransactionHeader>,
    pub changes: Vec<Change>,
    pub ddl: Option<Ddl>,
    pub last: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct TransactionHeader {
    pub gtid: Gtid,
    /// Header time of the GTID event: the commit, in seconds of the Unix epoch.
    pub commit_second: u64,
    pub server_id: u32,
    /// The GTID event's end, for people.
    pub coordinates: BinlogCoordinates,
    /// Where reading must begin again to see this and later transactions whole, if that is before this one: an XA
    /// transaction prepared there is still open, or is this one.
    pub read_from: Option<Arc<GtidPosition>>,
}

/// A statement that is not rows, as the server logged it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Ddl {
    /// The database in use when it ran; names without a database mean this one.
    pub database: Arc<str>,
    pub statement: Arc<str>,
    pub session: SessionSettings,
    /// The server wrote it, as it shows the table, in place of an application's `CREATE TABLE … SELECT`: the rows follow.
    pub shown: bool,
}
