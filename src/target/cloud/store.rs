//! Where files go: whole, once by what they hold, and in parts where they are large.

use async_trait::async_trait;
use bytes::Bytes;

use super::CloudError;

/// Keeps files, each under its kind and the hash of what it holds.
///
/// Contract:
/// - **Whole or not at all**: a file has its address when all of it is there.
/// - **Once**: what is there already is not sent again and not written over.
/// - **Repeating is harmless**, part by part too: after [`CloudError::Unreachable`] and [`CloudError::Failing`] nobody knows whether it
///   was taken, and the same is sent again.
/// - **Parts are remembered by the caller**: an upload that was begun is finished or aborted, after a restart too. One that the store
///   no longer knows is [`CloudError::NoSuch`]: begin anew.
/// - **Memory**: one part, twice at most.
#[async_trait]
pub trait FileStore: Send + Sync {
    /// Tells this store from others in what a node remembers: what one has, another lacks. Empty for a cloud's own API.
    fn place(&self) -> &str;

    /// Keeps a file, and tells its address. Read part by part, in order.
    async fn put(&self, file: &FileName, content: std::sync::Arc<dyn Content>) -> Result<String, CloudError>;

    /// Begins an upload in parts.
    async fn begin(&self, file: &FileName) -> Result<Begun, CloudError>;

    /// Takes one part, numbered from 0 and sent in order; the answer is a word by which the store knows it again.
    async fn part(&self, file: &FileName, upload: &str, number: u32, bytes: Bytes) -> Result<String, CloudError>;

    /// All parts are there; `tags` are the words that they were answered with. The file's address.
    async fn finish(&self, file: &FileName, upload: &str, tags: &[String]) -> Result<String, CloudError>;

    /// Forgets an upload and all its parts.
    async fn abort(&self, file: &FileName, upload: &str) -> Result<(), CloudError>;
}

/// Keeps objects under names that their writer gives.
#[async_trait]
pub trait Archive: Send + Sync {
    /// Keeps an object, whole or not at all. False where there is one of this name: it stays as it is.
    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, CloudError>;
}

/// A store whose files can be had back.
#[async_trait]
pub trait FileArchive: FileStore {
    /// So many bytes of a file from there on, fewer at its end; `None` where there is no such file.
    async fn read(&self, kind: &str, hash: &str, from: u64, bytes: usize) -> Result<Option<Bytes>, CloudError>;
}

/// A file by what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileName {
    pub kind: String,
    /// For people.
    pub name: String,
    /// BLAKE3 of the bytes, in hexadecimal digits.
    pub hash: String,
    pub size: u64,
    /// Of every part but the last.
    pub part_bytes: u64,
}

impl FileName {
    /// At least one: an empty file has one empty part.
    pub fn parts(&self) -> u32 {
        u32::try_from(self.size.div_ceil(self.part_bytes).max(1)).unwrap_or(u32::MAX)
    }
}

/// How an upload in parts begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// The file is there already, at this address.
    There(String),
    /// Under this name.
    Parts(String),
    /// This store knows no parts: put it whole.
    Whole,
}

/// What a file held at one moment.
#[async_trait]
pub trait Content: Send + Sync {
    /// A part, as it was at that moment, or an error where it is no longer so.
    async fn part(&self, number: u32) -> Result<Bytes, ContentError>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file cannot be read as it was: {reason}")]
pub struct ContentError {
    pub reason: String,
}

impl From<ContentError> for CloudError {
    fn from(error: ContentError) -> Self {
        Self::Refused { place: "this node".into(), reason: error.to_string() }
    }
}
