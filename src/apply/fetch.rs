//! Reads one origin's topic ahead of the applier, so that applying never waits for the network.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::change::{Offset, OriginId, Record};
use crate::observe::Observer;
use crate::runtime::{Backoff, Disposition, Fault};
use crate::topic::{TopicError, TopicReader};

/// Waits while a topic cannot be reached. Seeded by the place where reading began, so that a simulation can repeat it.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(10);

type Batch = Vec<(Offset, Record)>;

/// How long one read may wait for records. Long enough to be rare, short enough that a proxy between does not cut it.
const LONG_POLL: Duration = Duration::from_secs(20);

/// A task that reads ahead; it ends when this is dropped.
pub struct Fetch {
    batches: mpsc::Receiver<Result<Batch, TopicError>>,
    task: JoinHandle<()>,
}

impl Fetch {
    pub fn start(
        reader: Arc<dyn TopicReader>,
        origin: OriginId,
        from: Offset,
        bytes: usize,
        arrived: Arc<Notify>,
        observer: Observer,
    ) -> Self {
        // One batch waits in the channel while the next is read: with the applier's own buffer that is all the memory.
        let (send, batches) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut next = from;
            let mut backoff = Backoff::seeded(FIRST_WAIT, MOST_WAIT, from.0);
            loop {
                let outcome = match reader.read(&origin, next, bytes, LONG_POLL).await {
                    Ok(batch) => {
                        backoff.reset();
                        observer.link(&origin, true, None);
                        let Some((last, newest)) = batch.last() else { continue };
                        observer.heard(&origin, &newest.seen);
                        assert_eq!(batch[0].0, next, "a topic answers with the offset that was asked for");
                        next = last.next();
                        Ok(batch)
                    }
                    Err(error) if error.disposition() == Disposition::Retry => {
                        observer.link(&origin, false, Some(&error.to_string()));
                        sleep(backoff.next_wait()).await;
                        continue;
                    }
                    Err(error) => Err(error),
                };
                let ended = outcome.is_err();
                let closed = send.send(outcome).await.is_err();
                arrived.notify_one();
                if ended || closed {
                    return;
                }
            }
        });
        Self { batches, task }
    }

    /// What is ready, if anything.
    pub fn take(&mut self) -> Result<Option<Batch>, TopicError> {
        match self.batches.try_recv() {
            Ok(outcome) => outcome.map(Some),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => panic!("the task that reads ahead has ended without telling why"),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
