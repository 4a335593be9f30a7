//! The hub: topics in a store of our own, for sites that have no broker.
//!
//! One node, or a server, keeps the topics of all nodes ([`HubStore`]) and serves them over HTTP (`serve::hub`); the
//! others reach them with [`HubClient`], the node that keeps them goes to the store directly. Both are a [`Hub`], and
//! [`HubWriter`] and [`HubReader`] make the room's two traits of either.
//!
//! A hub moves [`Block`]s: it checks what comes in once, and keeps and serves it as the same bytes.

use std::time::Duration;

use async_trait::async_trait;

use super::TopicError;
use crate::change::{Offset, OriginId};

mod access;
mod block;
mod client;
mod fingerprint;
mod key;
pub mod protocol;
mod store;
mod trust;

pub use access::{HubReader, HubWriter, is_removal};
pub use block::{BLOCK_BYTES, Block, BlockError, RECORD_BYTES_LIMIT};
pub use client::{ClientOptions, HubClient};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use key::{KeyHash, KeyHashError, make_key};
pub use store::{HubStore, StoreOptions};
pub use trust::{OtherCertificate, Trust, pinned};

/// Where the topics are kept: in this process or behind HTTP. The contract is the room's, with blocks for records.
#[async_trait]
pub trait Hub: Send + Sync {
    /// Takes the origin's topic over: appends of earlier generations are refused from now on.
    async fn resume(&self, origin: &OriginId) -> Result<Resumed, TopicError>;

    /// Keeps the blocks, which follow each other from the topic's end on, all or none.
    async fn append(&self, origin: &OriginId, generation: Option<u64>, blocks: Vec<Block>) -> Result<Offset, TopicError>;

    /// Whole blocks, of which the first holds `from`: as many as fit into `bytes_max` unpacked, but at least one.
    async fn read(&self, origin: &OriginId, from: Offset, bytes_max: usize, wait: Duration) -> Result<Vec<Block>, TopicError>;

    async fn held(&self, origin: &OriginId) -> Result<Held, TopicError>;
}

/// What a topic holds: `first..end`, and the block with its last record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Held {
    pub first: Offset,
    pub end: Offset,
    pub last: Option<Block>,
}

/// What a writer that took over has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resumed {
    pub held: Held,
    pub generation: u64,
    /// The most bytes that one record may have here.
    pub record_bytes_max: usize,
}

/// Bytes of blocks in one append. A hub takes this much and one full block more, or one block of any one record: what
/// is larger is sent in parts. Small enough to hold some of them in memory for several nodes at once.
pub const APPEND_BYTES: usize = 8 << 20;
