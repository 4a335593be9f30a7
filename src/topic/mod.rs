//! KEEPS changes in order: one topic per origin, the durable middle between tailers and appliers.
//!
//! Contract of [`TopicWriter`] and [`TopicReader`], held by one suite for every implementation (`topic::contract`):
//! - **Order**: offsets of one origin grow by one from 0; records are read in the order they were appended.
//! - **Durability**: when `append` answers, the records survive the loss of the process (and of the machine, as far as
//!   the store's own durability goes) that answered.
//! - **One writer**: an append names the offset it expects to get. If another writer was faster, or took over by
//!   [`TopicWriter::resume`], nothing is kept and the answer is [`TopicError::Fenced`]. If the topic ends before that
//!   offset, it lost history: [`TopicError::PastEnd`].
//! - **No gaps**: an append that answers is kept whole. One that fails, or whose call is dropped, may be kept whole, in
//!   a first part, or not at all, and that may be decided only later: `resume` ends the uncertainty.
//! - **History**: reading before what is kept, or past the end by more than nothing, is an error
//!   ([`TopicError::Gone`], [`TopicError::PastEnd`]), never a skip.
//! - Reading is safe to repeat, and never changes anything.

use std::cmp::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use crate::change::wire::{WireError, header};
use crate::change::{Offset, OriginId, Record};
use crate::runtime::{Disposition, Fault};

pub mod contract;
pub mod hub;
pub mod kafka;
pub mod memory;
mod removal;

pub use removal::{Removal, lacking, remove};

/// Appends to the topic of one origin.
#[async_trait]
pub trait TopicWriter: Send {
    /// Makes this the topic's only writer and tells what it holds: whatever was sent before, by this writer or an
    /// earlier one, is kept by now or never. To be called before the first append, and after each that failed.
    async fn resume(&mut self) -> Result<Extent, TopicError>;

    /// Keeps the records at `expected` and after, in order; returns the offset after the last of them.
    async fn append(&mut self, expected: Offset, records: &[Record]) -> Result<Offset, TopicError>;
}

/// Reads any origin's topic.
#[async_trait]
pub trait TopicReader: Send + Sync {
    /// Records from the offset on, at most about `bytes_max` (but at least one, if there is one). Waits up to `wait`
    /// for the first, then answers with none.
    async fn read(
        &self,
        origin: &OriginId,
        from: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<(Offset, Record)>, TopicError>;

    /// What the topic holds: `first..end`, and its last record. An origin that never published is empty.
    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError>;
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Extent {
    /// The oldest offset still kept.
    pub first: Offset,
    /// The offset that the next append gets.
    pub end: Offset,
    pub last: Option<Record>,
}

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error("cannot reach the topic at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("another writer took over the topic of {origin}: it ends at {actual}, our next offset was {expected}")]
    Fenced { origin: OriginId, expected: Offset, actual: Offset },
    #[error("the topic of {origin} no longer has offset {wanted}: the oldest kept is {first}")]
    Gone { origin: OriginId, wanted: Offset, first: Offset },
    #[error("the topic of {origin} ends at {end}, before offset {wanted} that was read or written earlier")]
    PastEnd { origin: OriginId, wanted: Offset, end: Offset },
    #[error("the topic of {origin} has another record before offset {next} than the one that was applied here")]
    Replaced { origin: OriginId, next: Offset },
    #[error("a record of {origin} has {size} bytes, the topic takes at most {limit}")]
    TooLarge { origin: OriginId, size: usize, limit: usize },
    /// Somebody answers, and does not show that it is the right one.
    #[error("{place} is not known to be the right one: {reason}")]
    Untrusted { place: String, reason: String },
    #[error("{place} refused us: {reason}")]
    Denied { place: String, reason: String },
    #[error("the record of {origin} at offset {offset} cannot be read")]
    Unreadable {
        origin: OriginId,
        offset: Offset,
        #[source]
        source: WireError,
    },
    /// Retention took all of it away, so nobody can say how far it went.
    #[error("the topic of {origin} holds nothing any more of what was in it")]
    Emptied { origin: OriginId },
    #[error("the topic {topic} cannot be used: {reason}")]
    Unsuited { topic: String, reason: String, remedy: String },
    #[error("the topic's store failed: {reason}")]
    Store { reason: String },
    #[error("the topic's store is damaged: {reason}")]
    Damaged { reason: String },
}

impl Fault for TopicError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } => Disposition::Retry,
            // A laptop in another network meets other machines at the same address, and comes home again.
            Self::Untrusted { .. } => Disposition::Retry,
            // Keys are changed on running systems; the next attempt may be let in. It is shown all the while.
            Self::Denied { .. } => Disposition::Retry,
            Self::Store { .. } => Disposition::Retry,
            Self::Fenced { .. }
            | Self::Gone { .. }
            | Self::PastEnd { .. }
            | Self::Replaced { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. }
            | Self::Emptied { .. }
            | Self::Unsuited { .. }
            | Self::Damaged { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => "nothing is lost; it goes on by itself when the topic is back".into(),
            Self::Fenced { origin, .. } => format!("stop the other tandem process that runs as {origin}"),
            Self::Gone { .. } => {
                "this node was away longer than the topic keeps history: `tandem reseed` has it take over the rows of another"
                    .into()
            }
            Self::PastEnd { .. } | Self::Replaced { .. } => {
                "the topic was restored from an older copy or replaced; see docs/operations.md, \"topic rolled back\"".into()
            }
            Self::TooLarge { .. } => {
                "raise the topic's message size: with Kafka, record_bytes_max under [topic] and max.message.bytes of the topic"
                    .into()
            }
            Self::Untrusted { .. } => {
                "nothing was sent. If the hub was set up anew, compare `tandem hub fingerprint` there and change \
                 `fingerprint` (or `ca`) under [topic]; if not, somebody may be answering in its place"
                    .into()
            }
            Self::Denied { .. } => "check this node's key or login, and what it may do".into(),
            Self::Unreadable { .. } => "run the same version of tandem on all nodes".into(),
            Self::Emptied { .. } => {
                "its node was away longer than the topic keeps history: delete the topic; then take it out of [nodes], or \
                 `tandem reseed` there"
                    .into()
            }
            Self::Unsuited { remedy, .. } => remedy.clone(),
            Self::Store { .. } => "check the disk of the node that keeps the topics".into(),
            Self::Damaged { .. } => {
                "put back what keeps the topics from a copy, or begin with empty topics and seed the nodes again".into()
            }
        })
    }
}

/// What an append must hold to be kept: it begins where the topic ends.
fn check_append(origin: &OriginId, expected: Offset, end: Offset) -> Result<(), TopicError> {
    match expected.cmp(&end) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(TopicError::Fenced { origin: origin.clone(), expected, actual: end }),
        Ordering::Greater => Err(TopicError::PastEnd { origin: origin.clone(), wanted: expected, end }),
    }
}

/// What a read must hold to be answered: it begins in the topic or where it ends.
fn check_read(origin: &OriginId, wanted: Offset, first: Offset, end: Offset) -> Result<(), TopicError> {
    if wanted < first {
        return Err(TopicError::Gone { origin: origin.clone(), wanted, first });
    }
    if wanted > end {
        return Err(TopicError::PastEnd { origin: origin.clone(), wanted, end });
    }
    Ok(())
}

/// A record that was read from the origin's topic, which must say so itself.
fn readable(origin: &OriginId, offset: Offset, record: Result<Record, WireError>) -> Result<Record, TopicError> {
    let fault = |source| TopicError::Unreadable { origin: origin.clone(), offset, source };
    let record = record.map_err(fault)?;
    if record.origin != *origin {
        return Err(fault(WireError::Header { name: header::ORIGIN }));
    }
    Ok(record)
}
