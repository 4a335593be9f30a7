//! Where the causal index puts what outgrows memory.
//!
//! Contract: a scratch space of one run, empty at its start; what it holds is rebuilt from the topics, so it need not
//! survive anything. A row is held at most once.

use super::decide::Entry;
use crate::change::{NodeRank, Offset};

/// 128 bits of a row's canonical key.
pub type Fingerprint = u128;

/// Holds index entries outside of memory.
pub trait Overflow: Send {
    /// Takes these entries; a row that is held already is replaced.
    fn put(&mut self, entries: &[(Fingerprint, Entry)]) -> Result<(), OverflowError>;

    fn get(&self, row: Fingerprint) -> Result<Option<Entry>, OverflowError>;

    fn remove(&mut self, row: Fingerprint) -> Result<(), OverflowError>;

    /// Removes the writes of an origin before the offset; returns how many there were.
    fn forget(&mut self, node: NodeRank, before: Offset) -> Result<u64, OverflowError>;
}

#[derive(Debug, thiserror::Error)]
#[error("the state folder cannot be used: {reason}")]
pub struct OverflowError {
    /// What failed, and where.
    pub reason: String,
}

/// Room where there is no limit: nothing ever comes here.
pub struct NoOverflow;

impl Overflow for NoOverflow {
    fn put(&mut self, entries: &[(Fingerprint, Entry)]) -> Result<(), OverflowError> {
        Err(OverflowError { reason: format!("there is none, and {} rows were to go there", entries.len()) })
    }

    fn get(&self, _row: Fingerprint) -> Result<Option<Entry>, OverflowError> {
        Ok(None)
    }

    fn remove(&mut self, _row: Fingerprint) -> Result<(), OverflowError> {
        Ok(())
    }

    fn forget(&mut self, _node: NodeRank, _before: Offset) -> Result<u64, OverflowError> {
        Ok(0)
    }
}
