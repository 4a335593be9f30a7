//! The comparison with the other nodes that nobody has to ask for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::snapshots::Desk;
use crate::observe::{Observer, VerifyWish};
use crate::runtime::Clock;
use crate::serve::Orders;
use crate::state::StampFile;

/// Begins a comparison when the last one that began by itself is long enough ago.
pub struct Weekly {
    pub desk: Arc<Desk>,
    pub every: Duration,
    pub stamp: StampFile,
    pub clock: Arc<dyn Clock>,
    pub observer: Observer,
}

const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Weekly {
    pub async fn run(&self) {
        loop {
            if self.is_due() {
                match self.desk.verify(VerifyWish::default()).await {
                    Ok(_) => self.stamp.note(self.clock.now_seconds()),
                    // The database is away, or somebody compares already: another minute will do.
                    Err(stop) => self.observer.verify_put_off(&stop.message),
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The first is due after the node has run for as long: a new node has other things to do.
    fn is_due(&self) -> bool {
        let now = self.clock.now_seconds();
        match self.stamp.read() {
            Some(last) => now.saturating_sub(last) >= self.every.as_secs(),
            None => {
                self.stamp.note(now);
                false
            }
        }
    }
}
