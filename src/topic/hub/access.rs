//! The room's two traits over a hub, wherever it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::block::{self, RecordSlice, TooLarge};
use super::{APPEND_BYTES, Block, BlockError, Held, Hub, RECORD_BYTES_LIMIT};
use crate::change::wire::Decoder;
use crate::change::{Offset, OriginId, Record};
use crate::topic::{Extent, TopicError, TopicReader, TopicWriter, readable};

/// Appends to one origin's topic in a hub.
pub struct HubWriter {
    hub: Arc<dyn Hub>,
    origin: OriginId,
    generation: Option<u64>,
    record_bytes_max: usize,
}

impl HubWriter {
    pub fn new(hub: Arc<dyn Hub>, origin: OriginId) -> Self {
        // Until `resume` tells the hub's own limit, the hub itself is what refuses.
        Self { hub, origin, generation: None, record_bytes_max: RECORD_BYTES_LIMIT }
    }
}

#[async_trait]
impl TopicWriter for HubWriter {
    async fn resume(&mut self) -> Result<Extent, TopicError> {
        let resumed = self.hub.resume(&self.origin).await?;
        self.generation = Some(resumed.generation);
        self.record_bytes_max = resumed.record_bytes_max;
        extent(&self.origin, resumed.held)
    }

    async fn append(&mut self, expected: Offset, records: &[Record]) -> Result<Offset, TopicError> {
        let limit = self.record_bytes_max;
        let blocks = block::seal(expected, records, limit).map_err(|TooLarge { size }| TopicError::TooLarge {
            origin: self.origin.clone(),
            size,
            limit,
        })?;
        let mut end = expected;
        for part in parts(blocks) {
            end = self.hub.append(&self.origin, self.generation, part).await?;
        }
        Ok(end)
    }
}

/// Whether these blocks are nothing but the record by which `by` ends the origin's topic: the one record that a node may append
/// to the topic of another.
pub fn is_removal(origin: &OriginId, by: &OriginId, blocks: &[Block]) -> bool {
    let [block] = blocks else { return false };
    let one = block.end() == block.first.next();
    one && last_record(origin, block).is_ok_and(|record| record.removed_by() == Some(by))
}

/// Blocks in appends that a hub takes.
fn parts(blocks: Vec<Block>) -> Vec<Vec<Block>> {
    let mut parts: Vec<Vec<Block>> = Vec::new();
    let mut bytes = 0;
    for block in blocks {
        bytes += block.unpacked as usize;
        match parts.last_mut().filter(|_| bytes <= APPEND_BYTES) {
            Some(part) => part.push(block),
            None => {
                bytes = block.unpacked as usize;
                parts.push(vec![block]);
            }
        }
    }
    parts
}

/// Reads every origin's topic in a hub.
#[derive(Clone)]
pub struct HubReader {
    hub: Arc<dyn Hub>,
}

impl HubReader {
    pub fn new(hub: Arc<dyn Hub>) -> Self {
        Self { hub }
    }
}

#[async_trait]
impl TopicReader for HubReader {
    async fn read(
        &self,
        origin: &OriginId,
        from: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<(Offset, Record)>, TopicError> {
        let blocks = self.hub.read(origin, from, bytes_max, wait).await?;
        let mut decoder = Decoder::default();
        let mut records = Vec::new();
        let mut bytes = 0;
        for block in &blocks {
            for record in block.unpack().map_err(|error| damaged(origin, block, error))?.records() {
                let (offset, record) = record.map_err(|error| damaged(origin, block, error))?;
                if offset < from {
                    continue;
                }
                bytes += record.size;
                // Only the first block can be larger than what was asked for.
                if !records.is_empty() && bytes > bytes_max {
                    return Ok(records);
                }
                records.push((offset, decode(&mut decoder, origin, offset, &record)?));
            }
        }
        Ok(records)
    }

    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError> {
        extent(origin, self.hub.held(origin).await?)
    }
}

fn extent(origin: &OriginId, held: Held) -> Result<Extent, TopicError> {
    let last = held.last.as_ref().map(|block| last_record(origin, block)).transpose()?;
    Ok(Extent { first: held.first, end: held.end, last })
}

fn last_record(origin: &OriginId, block: &Block) -> Result<Record, TopicError> {
    let fault = |error| damaged(origin, block, error);
    let unpacked = block.unpack().map_err(fault)?;
    let last = unpacked.records().last().unwrap_or(Err(BlockError::Records));
    let (offset, record) = last.map_err(fault)?;
    decode(&mut Decoder::default(), origin, offset, &record)
}

fn decode(decoder: &mut Decoder, origin: &OriginId, offset: Offset, record: &RecordSlice<'_>) -> Result<Record, TopicError> {
    readable(origin, offset, decoder.decode(record.key, record.value, record.headers()))
}

fn damaged(origin: &OriginId, block: &Block, error: BlockError) -> TopicError {
    TopicError::Damaged { reason: format!("topic of {origin}, offset {}: {error}", block.first) }
}
