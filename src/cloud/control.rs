//! Orders to sync now, and what came of them: one run at a time, and who asks for the same joins it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use super::{FilesWanted, Ledger, LedgerError};
use crate::observe::{CloudFile, CloudReport};

/// What is to be done now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncOrder {
    /// Send all that the topics hold, not only what is new since the last time.
    pub force: bool,
    /// Send nothing; say what would be sent.
    pub dry_run: bool,
    /// Only these tables, `database.table` or `table`; all where it is empty.
    pub tables: BTreeSet<String>,
}

/// Another order waits already, under this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined(pub u64);

/// A ledger, and who holds it for a moment.
pub type SharedLedger = Arc<Mutex<Box<dyn Ledger>>>;

/// Between who orders and the applier. Of one cloud.
#[derive(Debug, Default)]
pub struct CloudControl {
    state: Mutex<State>,
    /// Of the applier that runs. It goes with the applier, or the next one would find its file taken.
    ledger: Mutex<Weak<Mutex<Box<dyn Ledger>>>>,
    ordered: Notify,
    finished: watch::Sender<Option<(u64, Arc<CloudReport>)>>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers are given in the order of ordering.
    given: u64,
    wanted: Option<(u64, SyncOrder)>,
    running: Option<(u64, SyncOrder)>,
}

impl CloudControl {
    /// Orders a run, or joins one that is the same. An order of another kind waits for no other: then the answer is its number, to
    /// be waited for first.
    pub fn order(&self, order: &SyncOrder) -> Result<Ordered<'_>, Joined> {
        let mut state = self.state();
        let finished = self.finished.subscribe();
        let number = match (&state.running, &state.wanted) {
            (Some((number, running)), _) if running == order => *number,
            (_, Some((number, wanted))) if wanted == order => *number,
            (_, Some((number, _))) => return Err(Joined(*number)),
            (_, None) => {
                state.given += 1;
                let number = state.given;
                state.wanted = Some((number, order.clone()));
                self.ordered.notify_one();
                number
            }
        };
        drop(state);
        Ok(Ordered { number, finished, _control: self })
    }

    /// What became of files that rows name. `None` while no applier runs: nobody else reads its ledger.
    pub fn files(&self, wanted: &FilesWanted) -> Option<Result<Vec<CloudFile>, LedgerError>> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner).upgrade()?;
        let files = ledger.lock().unwrap_or_else(PoisonError::into_inner).files(wanted);
        Some(files)
    }

    /// An applier runs from now on, with this ledger.
    pub(super) fn attach(&self, ledger: &SharedLedger) {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(ledger);
    }

    /// The order that waits, which is under way from now on.
    pub(super) fn take(&self) -> Option<SyncOrder> {
        let mut state = self.state();
        let (number, order) = state.wanted.take()?;
        state.running = Some((number, order.clone()));
        Some(order)
    }

    /// The run of this number, which was ordered before.
    pub fn run(&self, number: u64) -> Ordered<'_> {
        let finished = self.finished.subscribe();
        Ordered { number, finished, _control: self }
    }

    /// Something is ordered, or was since the last time this answered.
    pub(super) async fn ordered(&self) {
        self.ordered.notified().await;
    }

    /// The run under way has ended. One that was cut short is ordered again.
    pub(super) fn ended(&self, report: Option<&CloudReport>) {
        let mut state = self.state();
        let Some((number, order)) = state.running.take() else { return };
        match report {
            Some(report) => {
                let report = Arc::new(report.clone());
                self.finished.send_replace(Some((number, report)));
            }
            None if state.wanted.is_none() => {
                state.wanted = Some((number, order));
                self.ordered.notify_one();
            }
            // Who waits for the number of the earlier one is told by the later one.
            None => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run to wait for.
#[derive(Debug)]
pub struct Ordered<'a> {
    number: u64,
    finished: watch::Receiver<Option<(u64, Arc<CloudReport>)>>,
    _control: &'a CloudControl,
}

impl Ordered<'_> {
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What came of it. Ends only with the run: what must not wait for ever limits it itself.
    pub async fn report(mut self) -> Arc<CloudReport> {
        let number = self.number;
        let done = |last: &Option<(u64, Arc<CloudReport>)>| last.as_ref().is_some_and(|(last, _)| *last >= number);
        let last = self.finished.wait_for(done).await.expect("the control lives as long as this");
        last.as_ref().expect("it was waited for").1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_order_joins_the_run_and_another_is_told_to_wait() {
        let control = CloudControl::default();
        let (plain, forced) = (SyncOrder::default(), SyncOrder { force: true, ..SyncOrder::default() });
        let first = control.order(&plain).ok().unwrap();
        let second = control.order(&plain).ok().unwrap();
        assert_eq!(control.order(&forced).err(), Some(Joined(1)));
        assert_eq!(control.take(), Some(plain.clone()));
        let third = control.order(&plain).ok().unwrap();
        let other = control.order(&forced).expect("it waits for the one that runs");
        control.ended(Some(&CloudReport { cloud: "one".into(), ..CloudReport::default() }));
        for joined in [first, second, third] {
            assert_eq!(joined.report().await.cloud, "one");
        }
        assert_eq!(control.take(), Some(forced));
        control.ended(None);
        assert!(control.take().is_some(), "what was cut short is done again");
        control.ended(Some(&CloudReport { cloud: "two".into(), ..CloudReport::default() }));
        assert_eq!(other.report().await.cloud, "two");
    }
}
