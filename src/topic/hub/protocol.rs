//! What a hub and its clients say to each other over HTTP.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /v1/topics/{origin}/writer` | takes the topic over: [`Holding`] in headers, the last block as body |
//! | `POST /v1/topics/{origin}/blocks?generation=G`, blocks as body | appends: [`Appended`] |
//! | `GET /v1/topics/{origin}/blocks?from=N&bytes_max=N&wait_ms=N` | blocks as body, none after the wait |
//! | `GET /v1/topics/{origin}` | [`Holding`] in headers, the last block as body |
//! | `GET /v1/topics` | the topics that there are: [`Listed`] |
//!
//! Every request carries `Authorization: Bearer KEY`. A body of blocks is, per block, its first offset (u64) and the
//! length of its sealed form (u32), little-endian, then the sealed form. Whatever is not kept or not given is a
//! [`Refusal`] in JSON, with the HTTP status of its kind.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{APPEND_BYTES, BLOCK_BYTES, Block, BlockError};
use crate::change::{Offset, OriginId};
use crate::topic::TopicError;

pub mod header {
    pub const FIRST: &str = "tandem-first";
    pub const END: &str = "tandem-end";
    pub const GENERATION: &str = "tandem-generation";
    pub const RECORD_BYTES_MAX: &str = "tandem-record-bytes-max";
}

/// Longest wait of a long-poll, so that nothing between the two ends thinks the connection dead. Clients ask again.
pub const WAIT_MS_MAX: u64 = 25_000;

/// The slowest network on which a body still passes before either end gives up: a phone's hotspot at its worst.
pub const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;

/// Bytes of a body of blocks where one record may have `record_bytes_max`: one block that holds such a record, or as
/// many as an append takes. Random bytes do not get smaller when packed, but hardly larger either.
pub fn body_bytes_max(record_bytes_max: usize) -> usize {
    record_bytes_max.max(APPEND_BYTES) + 2 * BLOCK_BYTES
}

#[derive(Deserialize, Debug, Clone, Copy)]
pub struct AppendQuery {
    pub generation: Option<u64>,
}

#[derive(Deserialize, Debug, Clone, Copy)]
pub struct ReadQuery {
    pub from: Offset,
    pub bytes_max: u64,
    pub wait_ms: u64,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy)]
pub struct Appended {
    pub end: Offset,
}

#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct Listed {
    pub topics: Vec<ListedTopic>,
}

#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct ListedTopic {
    pub origin: OriginId,
    pub first: Offset,
    pub end: Offset,
}

/// Why a hub did not do what it was asked.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum Refusal {
    /// 401: no key, or one that no node has.
    UnknownKey,
    /// 403: the key is that of another node.
    NotYours { node: OriginId },
    /// 409: another writer was faster or took over.
    Fenced { expected: Offset, actual: Offset },
    /// 410: retention was faster.
    Gone { wanted: Offset, first: Offset },
    /// 413: a record is over the limit.
    TooLarge { size: usize, limit: usize },
    /// 416: the topic ends before.
    PastEnd { wanted: Offset, end: Offset },
    /// 400: the request is not one of this protocol.
    BadRequest { reason: String },
    /// 503: the store cannot do it now.
    Store { reason: String },
    /// 500: the store is damaged.
    Damaged { reason: String },
}

impl Refusal {
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest { .. } => 400,
            Self::UnknownKey => 401,
            Self::NotYours { .. } => 403,
            Self::Fenced { .. } => 409,
            Self::Gone { .. } => 410,
            Self::TooLarge { .. } => 413,
            Self::PastEnd { .. } => 416,
            Self::Damaged { .. } => 500,
            Self::Store { .. } => 503,
        }
    }

    /// What the asker makes of it. `place` is where it asked.
    pub fn into_error(self, place: &str, origin: &OriginId) -> TopicError {
        let (place, origin) = (place.to_owned(), origin.clone());
        match self {
            Self::UnknownKey => TopicError::Denied { place, reason: "it knows no node with this key".into() },
            Self::NotYours { node } => TopicError::Denied {
                place,
                reason: format!("the key is that of {node}, which may not write to the topic of {origin}"),
            },
            Self::Fenced { expected, actual } => TopicError::Fenced { origin, expected, actual },
            Self::Gone { wanted, first } => TopicError::Gone { origin, wanted, first },
            Self::TooLarge { size, limit } => TopicError::TooLarge { origin, size, limit },
            Self::PastEnd { wanted, end } => TopicError::PastEnd { origin, wanted, end },
            Self::BadRequest { reason } => TopicError::Denied {
                place,
                reason: format!("it does not understand us ({reason}); run the same version of tandem"),
            },
            Self::Store { reason } => TopicError::Store { reason },
            Self::Damaged { reason } => TopicError::Damaged { reason },
        }
    }
}

impl From<TopicError> for Refusal {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Fenced { expected, actual, .. } => Self::Fenced { expected, actual },
            TopicError::Gone { wanted, first, .. } => Self::Gone { wanted, first },
            TopicError::PastEnd { wanted, end, .. } => Self::PastEnd { wanted, end },
            TopicError::TooLarge { size, limit, .. } => Self::TooLarge { size, limit },
            TopicError::Damaged { reason } => Self::Damaged { reason },
            error @ (TopicError::Unreachable { .. }
            | TopicError::Denied { .. }
            | TopicError::Untrusted { .. }
            | TopicError::Replaced { .. }
            | TopicError::Unreadable { .. }
            | TopicError::Emptied { .. }
            | TopicError::Unsuited { .. }
            | TopicError::Store { .. }) => Self::Store { reason: error.to_string() },
        }
    }
}

/// Blocks as a body.
pub fn write_blocks(blocks: &[Block]) -> Bytes {
    let bytes = blocks.iter().map(|block| 12 + block.sealed().len()).sum();
    let mut body = BytesMut::with_capacity(bytes);
    for block in blocks {
        body.put_u64_le(block.first.0);
        body.put_u32_le(u32::try_from(block.sealed().len()).expect("a block is far below 4 GB: its records are limited"));
        body.put_slice(block.sealed());
    }
    body.freeze()
}

/// Blocks from a body, their checksums checked. They share its memory.
pub fn read_blocks(mut body: Bytes) -> Result<Vec<Block>, BlockError> {
    let mut blocks = Vec::new();
    while body.has_remaining() {
        let first = Offset(body.try_get_u64_le().map_err(|_| BlockError::Length)?);
        let length = body.try_get_u32_le().map_err(|_| BlockError::Length)? as usize;
        if length > body.len() {
            return Err(BlockError::Length);
        }
        blocks.push(Block::from_sealed(first, body.split_to(length))?);
    }
    Ok(blocks)
}
