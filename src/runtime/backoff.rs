//! How long to wait before the next attempt.

use std::time::Duration;

/// Doubles from `first` to `most`, each wait shortened by up to half at random, so that nodes which lost the same
/// broker do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self::seeded(first, most, fastrand::u64(..))
    }

    /// The same waits for the same seed.
    pub fn seeded(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, attempts: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// For a connection to a server or a broker: from 100 ms to 10 s.
    pub fn connection() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// Waits since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: start again from `first`.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    pub fn next_wait(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(self.most).mul_f64(1.0 - self.random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_again_after_a_success() {
        let mut backoff = Backoff::seeded(Duration::from_millis(100), Duration::from_secs(10), 7);
        for attempt in 0..40 {
            let full = Duration::from_millis(100).saturating_mul(1 << attempt.min(20)).min(Duration::from_secs(10));
            let wait = backoff.next_wait();
            assert!(wait <= full && wait * 2 >= full, "attempt {attempt}: {wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
