//! What a simulated database and its binlog do to those who use them.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tandem::source::SourceError;
use tandem::source::memory::{Pause, PausePoint};
use tandem::target::TargetError;
use tandem::target::memory::{Faults, Step, Verdict};
use tokio::time::sleep;

use crate::world::Scenario;

/// Delays and failures of a database and its binlog.
pub struct Trouble {
    random: Mutex<Rng>,
    delay: Duration,
    loss: f64,
}

impl Trouble {
    pub fn new(seed: u64, scenario: &Scenario) -> Self {
        Self { random: Mutex::new(Rng::with_seed(seed)), delay: scenario.delay, loss: scenario.loss }
    }

    async fn pass(&self) -> f64 {
        let (delay, fate) = {
            let mut random = self.random.lock().unwrap();
            // Mostly quick, sometimes slow: races need both.
            let share = random.f64() * random.f64();
            (self.delay.mul_f64(share), random.f64())
        };
        sleep(delay).await;
        fate
    }
}

#[async_trait]
impl Faults for Trouble {
    async fn before(&self, step: Step<'_>) -> Verdict {
        let fate = self.pass().await;
        let unreachable = || TargetError::Unreachable { place: "memory".into(), reason: "cut".into() };
        match step {
            Step::Commit if fate < self.loss => Verdict::DoThenFail(unreachable()),
            Step::LocalRow | Step::LocalCommit => Verdict::Go,
            _ if fate < self.loss / 4.0 => Verdict::Refuse(unreachable()),
            _ if fate < self.loss / 2.0 => Verdict::Refuse(TargetError::Contended { reason: "deadlock".into() }),
            _ => Verdict::Go,
        }
    }
}

#[async_trait]
impl Pause for Trouble {
    async fn at(&self, _point: PausePoint) -> Result<(), SourceError> {
        if self.pass().await < self.loss / 4.0 {
            return Err(SourceError::Unreachable { place: "memory".into(), reason: "cut".into() });
        }
        Ok(())
    }
}
