//! KEEPS what nodes send to a cloud: the small service behind `tandem cloud-server`.
//!
//! Contract of [`Shelf`]:
//! - **Versions**: of the writes of one row the one with the larger version stands, in whatever order they come. A delete leaves its
//!   version behind, so that an older write does not bring the row back.
//! - **Once**: the same write sent again changes nothing and is answered [`RowResult::Duplicate`].
//! - **Whole**: the rows of one call become durable together, before it answers; or none does.
//! - An update of a row that is not there keeps what it tells; what is older and comes later does not add to it.
//! - **Letter by letter**: ids that differ in anything are different rows, and are in the order of their bytes.
//!
//! One suite holds every shelf to it: `receive::contract`.

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::change::cloud::{CloudRow, IdPage, RowAnswer};
use crate::runtime::{Disposition, Fault};

pub mod contract;
mod decide;
mod files;
mod mariadb;
mod sqlite;

pub use files::{Coming, FileShelf, Kept, is_hash};
pub use mariadb::MariadbShelf;
pub use sqlite::SqliteShelf;

/// Where a receiver keeps rows.
#[async_trait]
pub trait Shelf: Send + Sync {
    /// Takes writes; one answer for each, in their order.
    async fn put(&self, rows: Vec<CloudRow>) -> Result<Vec<RowAnswer>, ShelfError>;

    /// Takes a row that has no version: kept where there is none of this id, be it deleted or not. False where there is.
    async fn create(&self, resource: String, id: String, row: Map<String, Value>) -> Result<bool, ShelfError>;

    /// Ids of rows that are there, in the order of their bytes, after one of them; with `since`, of those that first came at or after that second.
    async fn ids(
        &self,
        resource: String,
        since: Option<u64>,
        after: Option<String>,
        limit: usize,
    ) -> Result<IdPage, ShelfError>;

    /// A row that is there.
    async fn row(&self, resource: String, id: String) -> Result<Option<Map<String, Value>>, ShelfError>;

    async fn held(&self) -> Result<Held, ShelfError>;
}

/// What a receiver holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Rows by resource, without the deleted.
    pub rows: Vec<(String, u64)>,
    /// When something came last, in seconds of the Unix epoch.
    pub last_second: Option<u64>,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("the receiver's rows cannot be kept: {reason}")]
pub struct ShelfError {
    pub reason: String,
    pub remedy: &'static str,
    /// There is no room left: who sends is told that, and not that something broke.
    pub is_full: bool,
}

impl ShelfError {
    /// Of what the receiver keeps on its own disk.
    pub fn new(reason: impl Into<String>) -> Self {
        let remedy = "see that the data folder can be written to, its disk has room, and no other process has it";
        Self { reason: reason.into(), remedy, is_full: false }
    }
}

impl Fault for ShelfError {
    fn disposition(&self) -> Disposition {
        Disposition::Retry
    }

    fn hint(&self) -> Option<String> {
        Some(self.remedy.into())
    }
}
