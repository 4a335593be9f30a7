//! Wall-clock time through a seam, so that a simulated node can have a wrong one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock. Intervals come from `tokio::time`, which a simulation can move.
pub trait Clock: Send + Sync {
    /// Microseconds of the Unix epoch.
    fn now_micros(&self) -> u64;

    fn now_seconds(&self) -> u64 {
        self.now_micros() / 1_000_000
    }
}

pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
    }
}

/// A clock that stands until it is set: for tests.
#[derive(Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn at_micros(micros: u64) -> Self {
        Self(AtomicU64::new(micros))
    }

    pub fn set_micros(&self, micros: u64) {
        self.0.store(micros, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
