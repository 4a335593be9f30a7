//! Forgets what is older than promised, or too much, oldest first, in steps so small that no append waits for long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::file::StoreFile;
use super::{StoreOptions, Topics};
use crate::change::Offset;
use crate::runtime::Clock;

/// Blocks in one step: at most 16 MB of pages go to the list of free ones, which took some milliseconds here.
const STEP_BLOCKS: u32 = 64;

/// A look at all topics costs a few lookups, so not after each commit.
const EVERY: Duration = Duration::from_secs(1);

pub struct Retention {
    max_offline_seconds: u64,
    max_bytes: Option<u64>,
    clock: Arc<dyn Clock>,
    looked: Option<Instant>,
}

impl Retention {
    pub fn new(options: &StoreOptions) -> Self {
        Self {
            max_offline_seconds: options.max_offline.as_secs(),
            max_bytes: options.max_bytes,
            clock: options.clock.clone(),
            looked: None,
        }
    }

    /// `Some` where something was forgotten and there may be more. The last block of a topic always stays: its writer
    /// resumes from it, however long it was away.
    pub fn step(&mut self, file: &StoreFile, topics: &mut Topics) -> rusqlite::Result<Option<()>> {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return Ok(None);
        }
        let horizon = self.clock.now_seconds().saturating_sub(self.max_offline_seconds);
        let over = match self.max_bytes {
            Some(limit) => file.used_bytes()? > limit,
            None => false,
        };
        let mut oldest = None;
        for (origin, topic) in topics.iter() {
            if let Some((_, second)) = file.oldest(topic.id)?
                && oldest.as_ref().is_none_or(|(_, least)| second < *least)
            {
                oldest = Some((origin.clone(), second));
            }
        }
        let due = oldest.filter(|(_, second)| over || *second < horizon);
        let Some((origin, second)) = due else {
            self.looked = Some(Instant::now());
            return Ok(None);
        };
        let topic = topics.get_mut(&origin).expect("the topic was just looked at");
        // Over the limit in bytes, everything of the oldest second goes, at most one step of it.
        let horizon = if over { horizon.max(second + 1) } else { horizon };
        topic.first = file.forget(topic.id, Offset(0), horizon, STEP_BLOCKS)?;
        Ok(Some(()))
    }
}
