//! WRITES to a cloud service: rows over its HTTP API; files over the same, into an object store, or into a folder.
//!
//! Contract of [`Cloud`]:
//! - **Answers are believed when they say what was done**, not for their status alone: an answer of 200 whose body says failure, or is no
//!   answer of this API, is an error.
//! - **Repeating is harmless**: rows and batches carry keys by which the cloud knows them again. After [`CloudError::Unreachable`] and
//!   [`CloudError::Failing`] nobody knows whether the cloud took what was sent: send it again.
//! - **No redirects, no proxies of the environment**: a key goes to the address that it belongs to, or nowhere.
//! - Every answer has a limit in bytes and in time.

use async_trait::async_trait;

use crate::change::cloud::{BatchAnswer, CloudBatch, CloudRow, IdPage};

mod api;
mod bucket_client;
mod error;
mod folder;
mod http;
mod objects;
mod pace;
mod store;

pub use api::{ApiOptions, CloudApi};
pub use error::CloudError;
pub use folder::FolderFiles;
pub use objects::{BucketKind, BucketOptions, ObjectFiles};
pub use pace::Pace;
pub use store::{Archive, Begun, Content, ContentError, FileArchive, FileName, FileStore};

/// A cloud service that takes rows.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// `POST /api/batch`: inserts, updates and deletes with their versions. The answer has a result for every row.
    async fn push(&self, batch: &CloudBatch) -> Result<BatchAnswer, CloudError>;

    /// `GET /api/<resource>`: which rows the cloud has, a page at a time where it knows pages.
    async fn ids(&self, question: &IdQuestion<'_>) -> Result<IdPage, CloudError>;

    /// `GET /api/sync-status`: whether it answers, and accepts the key. Changes nothing.
    async fn look(&self) -> Result<(), CloudError>;

    /// `POST /api/<resource>`: one row. False where the cloud says that it had the row already.
    async fn create(&self, row: &CloudRow) -> Result<bool, CloudError>;
}

/// Which ids are asked for.
#[derive(Clone, Copy, Debug)]
pub struct IdQuestion<'a> {
    pub resource: &'a str,
    /// The field that holds the id, where the cloud answers with whole rows.
    pub id_field: &'a str,
    /// Only of the last so many days.
    pub days: Option<u32>,
    /// After this id: the `next` of the page before.
    pub after: Option<&'a str>,
    pub limit: usize,
}
