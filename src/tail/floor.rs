//! How far the topic was once: only to notice when it is shorter than that.

use std::sync::Mutex;

use crate::change::Offset;

/// Remembers, outside of the topic, where it ended when we last knew. Where to go on is read from the topic alone; this
/// says only that a topic which ends earlier has lost records that others may have read.
pub trait Floor: Send + Sync {
    /// The topic did not end before this offset.
    fn end(&self) -> Offset;

    /// The topic ends here now. Must not fail and should be quick: to forget it weakens a check, and no more.
    fn raise(&self, end: Offset);
}

/// For as long as the process lives.
#[derive(Default)]
pub struct MemoryFloor(Mutex<Offset>);

impl Floor for MemoryFloor {
    fn end(&self) -> Offset {
        *self.0.lock().expect("nothing panics while it holds the floor")
    }

    fn raise(&self, end: Offset) {
        let mut floor = self.0.lock().expect("nothing panics while it holds the floor");
        *floor = end.max(*floor);
    }
}
