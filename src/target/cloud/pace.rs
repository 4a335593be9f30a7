//! How fast a cloud may be sent to: so many bytes per second, over a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Shared by all that goes to one cloud.
#[derive(Debug)]
pub struct Pace {
    /// `None`: as fast as it goes.
    bytes_per_second: Option<u64>,
    /// When what was let pass has had its time.
    free_at: Mutex<Instant>,
}

/// What is let pass at once: small enough for a slow line to be smooth.
pub const SLICE_BYTES: usize = 64 << 10;

/// The least speed of a connection over which files are worth sending.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

impl Pace {
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may go.
    pub async fn take(&self, bytes: usize) {
        let Some(per_second) = self.bytes_per_second else { return };
        let begin = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free_at).max(Instant::now());
            *free_at = begin + Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
            begin
        };
        sleep_until(begin).await;
    }

    /// How long sending so many bytes may take before it is given up.
    pub fn patience(&self, bytes: u64) -> Duration {
        let slowest = bytes / BYTES_PER_SECOND_MIN;
        let held_back = self.bytes_per_second.map_or(0, |per_second| bytes / per_second.max(1));
        Duration::from_secs(slowest + held_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_bytes_go_in_a_second_and_no_more() {
        let (pace, begin) = (Pace::new(Some(1_000)), Instant::now());
        for _ in 0..5 {
            pace.take(500).await;
        }
        assert_eq!(begin.elapsed().as_millis(), 2_000, "the fifth begins when the others had their time");
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        pace.take(500).await;
        assert_eq!(begin.elapsed(), Duration::ZERO, "time that was not used is not saved up, and nothing is owed");
        pace.take(1).await;
        assert_eq!(begin.elapsed().as_millis(), 500);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let begin = Instant::now();
        Pace::new(None).take(usize::MAX).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
