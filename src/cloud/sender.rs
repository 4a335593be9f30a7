//! Sends rows until the cloud has said of each what became of it, whatever it answers meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::newest::batches;
use super::{Aside, CloudFault, CloudOptions, Mode};
use crate::change::cloud::{BatchAnswer, CloudBatch, CloudOp, CloudRow, IdPage, RowAnswer, RowResult};
use crate::observe::{CloudOutcome, CloudProblem, CloudReport, CloudState, Observer};
use crate::runtime::{Backoff, Disposition, Fault, Shutdown};
use crate::target::cloud::{Cloud, CloudError, IdQuestion};

/// Waits while the cloud cannot be reached or has a fault.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const MOST_WAIT: Duration = Duration::from_secs(60);

pub struct Sender<'a> {
    pub options: &'a CloudOptions,
    pub cloud: &'a dyn Cloud,
    pub observer: &'a Observer,
    pub shutdown: &'a Shutdown,
}

/// What the cloud said of the rows of one call.
#[derive(Default)]
pub struct Sent {
    pub aside: Vec<Aside>,
    pub settled: Vec<(String, String)>,
}

/// Rows that go together, and how often they were refused.
struct Waiting {
    rows: Vec<CloudRow>,
    attempts: u32,
    not_before: Instant,
}

impl Sender<'_> {
    /// Sends the rows in their order. A row that is refused goes on alone, after the others.
    pub async fn send(&self, rows: Vec<CloudRow>, report: &mut CloudReport) -> Result<Sent, CloudFault> {
        let mut sent = Sent::default();
        let rows_max = if self.options.mode == Mode::Mirror { self.options.batch_rows } else { 1 };
        let mut queue: VecDeque<Waiting> = batches(rows, rows_max, self.options.batch_bytes)
            .into_iter()
            .map(|rows| Waiting { rows, attempts: 0, not_before: Instant::now() })
            .collect();
        let mut backoff = Backoff::new(FIRST_WAIT, MOST_WAIT);
        while let Some(next) = queue.pop_front() {
            self.wait(next.not_before).await?;
            let batch = self.batch(next.rows);
            let pushed = tokio::select! {
                pushed = self.push(&batch) => pushed,
                () = self.shutdown.cancelled() => return Err(CloudFault::Ended),
            };
            let count = batch.rows.len() as u64;
            let again = |rows, not_before| Waiting { rows, attempts: next.attempts, not_before };
            let error = match pushed {
                Ok(answer) => {
                    backoff.reset();
                    self.observer.cloud_state(&self.options.name, CloudState::Syncing, None);
                    self.observer.cloud_batch(&self.options.name, CloudOutcome::Taken, count);
                    let bytes = batch.rows.iter().map(CloudRow::weight).sum::<usize>();
                    self.observer.cloud_rows(&self.options.name, count, bytes as u64);
                    for (row, answer) in batch.rows.into_iter().zip(answer.results) {
                        match answer.result {
                            RowResult::Refused => {
                                let reason = answer.error.unwrap_or_else(|| "the cloud gave no reason".into());
                                self.refused(row, next.attempts, reason, &mut queue, &mut sent, report);
                            }
                            result => settle(row, result, &mut sent, report),
                        }
                    }
                    continue;
                }
                Err(error) => error,
            };
            match error {
                CloudError::Unreachable { .. }
                | CloudError::Failing { .. }
                | CloudError::Busy { .. }
                | CloudError::Denied { .. }
                | CloudError::Quota { .. } => {
                    // At the front, so nothing else is sent before either.
                    queue.push_front(again(batch.rows, self.not_before(&error, count, &mut backoff)));
                }
                CloudError::NoSuch { .. } | CloudError::Address { .. } => return Err(error.into()),
                CloudError::TooLarge { .. } | CloudError::Conflict { .. } | CloudError::Refused { .. } => {
                    self.observer.cloud_batch(&self.options.name, CloudOutcome::Refused, count);
                    let mut rows = batch.rows;
                    if rows.len() > 1 {
                        // Which of them it is, halves tell; the others go on.
                        let second = rows.split_off(rows.len() / 2);
                        queue.push_front(again(second, Instant::now()));
                        queue.push_front(again(rows, Instant::now()));
                        continue;
                    }
                    let row = rows.pop().expect("a batch has a row");
                    match error {
                        // Its version is the newer one.
                        CloudError::Conflict { .. } => settle(row, RowResult::Stale, &mut sent, report),
                        // It does not become smaller.
                        CloudError::TooLarge { .. } => {
                            self.set_aside(row, next.attempts + 1, error.to_string(), &mut sent, report)
                        }
                        _ => self.refused(row, next.attempts, error.to_string(), &mut queue, &mut sent, report),
                    }
                }
            }
        }
        Ok(sent)
    }

    /// When the same may be sent again, after an answer that is about the cloud and not about what was sent. It is told and counted.
    fn not_before(&self, error: &CloudError, rows: u64, backoff: &mut Backoff) -> Instant {
        let (outcome, state, wait) = match error {
            CloudError::Busy { wait, .. } => {
                let wait = wait.map_or_else(|| backoff.next_wait(), |wait| wait.max(FIRST_WAIT));
                (CloudOutcome::Busy, CloudState::Offline, wait)
            }
            CloudError::Denied { .. } | CloudError::Quota { .. } => {
                (CloudOutcome::Denied, CloudState::Paused, self.options.pause)
            }
            _ => (CloudOutcome::Failed, CloudState::Offline, backoff.next_wait()),
        };
        let hint = error.hint().filter(|_| state == CloudState::Paused);
        let why = hint.map_or_else(|| error.to_string(), |hint| format!("{error} — {hint}"));
        self.observer.cloud_batch(&self.options.name, outcome, rows);
        self.observer.cloud_state(&self.options.name, state, Some(&why));
        Instant::now() + wait
    }

    /// A page of ids.
    pub async fn ids(&self, question: &IdQuestion<'_>) -> Result<IdPage, CloudFault> {
        self.until_taken(|| false, || self.cloud.ids(question)).await
    }

    /// Asks until there is an answer, or something is wrong that waiting does not mend, or `enough` says that there is no point.
    pub async fn until_taken<T, F>(&self, enough: impl Fn() -> bool, mut ask: impl FnMut() -> F) -> Result<T, CloudFault>
    where
        F: Future<Output = Result<T, CloudError>> + Send,
    {
        let mut backoff = Backoff::new(FIRST_WAIT, MOST_WAIT);
        loop {
            let asked = tokio::select! {
                asked = ask() => asked,
                () = self.shutdown.cancelled() => return Err(CloudFault::Ended),
            };
            let error = match asked {
                Ok(answer) => {
                    self.observer.cloud_state(&self.options.name, CloudState::Syncing, None);
                    return Ok(answer);
                }
                Err(error) if error.disposition() == Disposition::Retry && !enough() => error,
                Err(error) => return Err(error.into()),
            };
            self.wait(self.not_before(&error, 0, &mut backoff)).await?;
        }
    }

    /// In the way that the cloud understands.
    async fn push(&self, batch: &CloudBatch) -> Result<BatchAnswer, CloudError> {
        if self.options.mode == Mode::Mirror {
            return self.cloud.push(batch).await;
        }
        let [row] = batch.rows.as_slice() else { panic!("a cloud without batches is sent one row at a time") };
        let created = self.cloud.create(row).await?;
        let result = if created { RowResult::Applied } else { RowResult::Duplicate };
        Ok(BatchAnswer { success: true, results: vec![RowAnswer::of(result)] })
    }

    fn refused(
        &self,
        row: CloudRow,
        attempts: u32,
        reason: String,
        queue: &mut VecDeque<Waiting>,
        sent: &mut Sent,
        report: &mut CloudReport,
    ) {
        let attempts = attempts + 1;
        if attempts >= self.options.attempts {
            return self.set_aside(row, attempts, reason, sent, report);
        }
        queue.push_back(Waiting { rows: vec![row], attempts, not_before: Instant::now() + self.options.retry_wait });
    }

    fn set_aside(&self, row: CloudRow, attempts: u32, reason: String, sent: &mut Sent, report: &mut CloudReport) {
        let (resource, id) = (Some(row.resource.clone()), Some(row.id.clone()));
        report.problem(CloudProblem { resource, id, error: reason.clone() });
        sent.aside.push(Aside { row, reason, attempts });
    }

    fn batch(&self, rows: Vec<CloudRow>) -> CloudBatch {
        let mut hash = blake3::Hasher::new();
        for row in &rows {
            for part in [&row.resource, &row.id, &row.key] {
                hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
        }
        CloudBatch { batch: hash.finalize().to_hex()[..32].to_owned(), node: self.options.node.to_string(), rows }
    }

    async fn wait(&self, until: Instant) -> Result<(), CloudFault> {
        tokio::select! {
            () = sleep_until(until) => Ok(()),
            () = self.shutdown.cancelled() => Err(CloudFault::Ended),
        }
    }
}

fn settle(row: CloudRow, result: RowResult, sent: &mut Sent, report: &mut CloudReport) {
    if result == RowResult::Applied {
        report.summary.synced += 1;
        report.synced_id(&row.resource, &row.id);
        let counts = report.count(&row.resource);
        match row.op {
            CloudOp::Delete => counts.deleted += 1,
            CloudOp::Insert | CloudOp::Update => counts.written += 1,
        }
    } else {
        report.summary.already += 1;
        report.count(&row.resource).already += 1;
    }
    sent.settled.push((row.resource, row.id));
}
