//! What lies between a node and the topics: delays, cuts, and answers that never arrive.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::topic::TopicError;

/// Where a real topic would wait for the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Point {
    /// Before an append reaches the topic: after an error here, nothing is kept.
    Append,
    /// After an append is kept, before the writer knows: after an error here, the outcome is unknown to the writer.
    Appended,
    /// Before a question reaches the topic.
    Read,
    /// Before the answer reaches the reader.
    Answer,
}

/// The network of one node. A wait here is a slow network; an error is what the node gets.
#[async_trait]
pub trait Weather: Send + Sync {
    async fn pass(&self, point: Point) -> Result<(), TopicError>;

    /// How many of an append's records are kept before it is cut. A broker that takes records one by one can do that.
    fn keeps(&self, records: usize) -> usize {
        records
    }
}

/// Everything arrives at once.
pub struct FairWeather;

#[async_trait]
impl Weather for FairWeather {
    async fn pass(&self, _: Point) -> Result<(), TopicError> {
        Ok(())
    }
}

/// Delays and losses by chance, the same for the same seed, and a switch for being offline.
pub struct SeededWeather {
    random: Mutex<fastrand::Rng>,
    delay_max: Duration,
    loss: f64,
    offline: AtomicBool,
}

impl SeededWeather {
    /// Each pass takes up to `delay_max`, and is lost with the probability `loss`.
    pub fn new(seed: u64, delay_max: Duration, loss: f64) -> Self {
        Self { random: Mutex::new(fastrand::Rng::with_seed(seed)), delay_max, loss, offline: AtomicBool::new(false) }
    }

    pub fn set_offline(&self, offline: bool) {
        self.offline.store(offline, Ordering::Relaxed);
    }

    fn draw(&self) -> (Duration, bool) {
        let mut random = self.random.lock().expect("nothing panics while it holds the random numbers");
        (self.delay_max.mul_f64(random.f64()), random.f64() < self.loss)
    }
}

#[async_trait]
impl Weather for SeededWeather {
    async fn pass(&self, point: Point) -> Result<(), TopicError> {
        let (delay, lost) = self.draw();
        tokio::time::sleep(delay).await;
        // Looked at after the delay: the cable is pulled while the message is under way.
        if lost || self.offline.load(Ordering::Relaxed) {
            return Err(TopicError::Unreachable { place: "memory".into(), reason: format!("lost at {point:?}") });
        }
        Ok(())
    }

    fn keeps(&self, records: usize) -> usize {
        let mut random = self.random.lock().expect("nothing panics while it holds the random numbers");
        if random.f64() < self.loss { random.usize(0..=records) } else { records }
    }
}
