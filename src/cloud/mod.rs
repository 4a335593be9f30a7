//! DECIDES what of the topics a cloud service is sent, and when.
//!
//! Contract of [`CloudApplier::run`]:
//! - **Newest only**: of the writes of one row that wait together only the newest is sent; partial images are merged into it.
//! - **At least once, one effect**: the checkpoint is written after the cloud has said of every row what became of it. Rows and
//!   batches carry keys and versions, so what is sent again after a crash changes nothing.
//! - **Order**: within what is sent together, parents before children as the configuration orders the tables and foreign keys those
//!   of one entry, and deletes after all else in the opposite order. Between two versions of one row the version decides, not the order.
//! - **Completeness**: every change is sent, merged into a newer one, left out by a named rule (table, window of days), or set
//!   aside with its reason; set aside is durable before the checkpoint passes it.
//! - **Never two at once**: a run that is ordered while another is under way joins it or waits for it.
//! - **Memory**: at most [`CloudOptions::window_rows`] rows and [`CloudOptions::window_bytes`] bytes wait for the cloud, and one part
//!   of a file, however large it is.
//! - **Nothing half**: an upload in parts that was begun is finished or taken back, by the next run if this one is killed.

mod archive;
mod compare;
mod content;
mod control;
mod error;
mod file_path;
mod files;
mod mapping;
mod newest;
mod order;
mod schedule;
mod seal;
mod sender;
mod upload;
mod worker;

pub use archive::{Window, WindowLedger};
pub use control::{CloudControl, Joined, Ordered, SharedLedger, SyncOrder};
pub use error::{CloudFault, LedgerError};
pub use file_path::{PathTemplate, PathTemplateError};
pub use files::{FileColumn, FileLedger, FileOptions, FileState, FilesWanted};
pub use mapping::{Mapping, Unsent};
pub use order::{Order, Rank};
pub use schedule::{Schedule, ScheduleError};
pub use seal::{SealKey, SealKeyError};
pub use upload::{Pending, UploadLedger};
pub use worker::CloudApplier;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::change::cloud::CloudRow;
use crate::change::{Image, Offset, OriginId, Shape, TableName, TablePattern};
use crate::observe::CloudReport;
use crate::source::{ChunkRequest, RowReader, SourceError};

/// What a cloud understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Inserts, updates and deletes with their versions, from the topics.
    #[default]
    Mirror,
    /// Only rows that it does not have yet, one at a time: which it has is asked first, and the rows are read from the database. For
    /// any service of that kind.
    Missing,
}

/// How one cloud is fed.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// Its name in the configuration.
    pub name: String,
    pub node: OriginId,
    /// Whose topics are read.
    pub origins: Vec<OriginId>,
    pub mode: Mode,
    pub schedule: Schedule,
    /// The tables that are sent, in the order in which they are. The first pattern that matches decides.
    pub tables: Vec<(TablePattern, Mapping)>,
    /// `None`: no files are sent.
    pub files: Option<FileOptions>,
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// How long the first row of a batch waits for others, where the cloud is fed continuously.
    pub batch_age: Duration,
    pub window_rows: usize,
    pub window_bytes: usize,
    /// Attempts before a row that the cloud refuses is set aside.
    pub attempts: u32,
    pub retry_wait: Duration,
    /// Between attempts while the cloud does not accept the key or has no room.
    pub pause: Duration,
}

impl CloudOptions {
    pub fn new(name: impl Into<String>, node: OriginId) -> Self {
        Self {
            name: name.into(),
            origins: vec![node.clone()],
            node,
            mode: Mode::default(),
            schedule: Schedule::Continuous,
            tables: Vec::new(),
            files: None,
            // 500 rows of some hundred bytes are what a request of ordinary servers takes.
            batch_rows: 500,
            batch_bytes: 1 << 20,
            batch_age: Duration::from_secs(1),
            window_rows: 10_000,
            window_bytes: 16 << 20,
            attempts: 3,
            retry_wait: Duration::from_secs(1),
            pause: Duration::from_secs(60),
        }
    }

    /// The table's place in the order of sending, and how it is sent; `None` where it is not.
    pub fn table(&self, table: &TableName) -> Option<(usize, &Mapping)> {
        let found = self.tables.iter().enumerate().find(|(_, (pattern, _))| pattern.matches(table));
        found.map(|(place, (_, mapping))| (place, mapping))
    }
}

/// A row that the cloud did not take.
#[derive(Clone, PartialEq, Debug)]
pub struct Aside {
    pub row: CloudRow,
    pub reason: String,
    pub attempts: u32,
}

/// What is durable together after something was sent.
#[derive(Debug, Default)]
pub struct Progress {
    /// Per origin the next offset to read.
    pub next: BTreeMap<OriginId, Offset>,
    pub aside: Vec<Aside>,
    /// Resource and id of rows that the cloud has now: what was set aside of them is settled.
    pub settled: Vec<(String, String)>,
}

/// Of some rows what is needed to look them up, and no more.
#[derive(Clone, PartialEq, Debug)]
pub struct Outlines {
    /// The table's, with these columns alone.
    pub shape: Arc<Shape>,
    /// In the order of the primary key.
    pub rows: Vec<Image>,
    /// The table has no rows after these.
    pub ends: bool,
}

/// The node's own tables and their rows.
#[async_trait]
pub trait LocalRows: RowReader {
    /// Of the next rows, in the order of the primary key, only that key and these columns; those that the table does not have are left out.
    /// Reading whole rows of which the cloud lacks none took most of a run.
    async fn outlines(&self, wanted: &ChunkRequest, columns: &[&str]) -> Result<Outlines, SourceError>;

    /// The tables that are synced, in the order of their names.
    async fn tables(&self) -> Result<Vec<TableName>, SourceError>;

    /// Foreign keys, as pairs of a table and the one that it refers to.
    async fn references(&self) -> Result<Vec<(TableName, TableName)>, SourceError>;
}

/// Which ids of one resource the cloud has, for as long as its rows are compared. There may be more than fit in memory; nothing
/// of it is needed after a crash.
pub trait KnownIds: Send {
    /// Forgets all.
    fn clear(&mut self) -> Result<(), LedgerError>;

    fn put(&mut self, ids: &[String]) -> Result<(), LedgerError>;

    fn has(&self, id: &str) -> Result<bool, LedgerError>;
}

/// KEEPS how far a cloud is fed, on the node's own disk.
///
/// Contract: what a call that answered has kept survives the loss of the process. Only one may be open for a cloud at a time. A
/// checkpoint never moves back.
pub trait Ledger: FileLedger + UploadLedger + WindowLedger + Send {
    fn checkpoints(&self) -> Result<BTreeMap<OriginId, Offset>, LedgerError>;

    fn keep(&mut self, progress: &Progress) -> Result<(), LedgerError>;

    /// Rows that are set aside, at most so many.
    fn aside(&self, at_most: usize) -> Result<Vec<Aside>, LedgerError>;

    fn aside_count(&self) -> Result<u64, LedgerError>;

    /// The last run that was worth keeping: one that sent something, failed, or was ordered.
    fn last_run(&self) -> Result<Option<CloudReport>, LedgerError>;

    fn keep_run(&mut self, report: &CloudReport) -> Result<(), LedgerError>;
}
