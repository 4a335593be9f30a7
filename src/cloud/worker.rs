//! The loop: wait until it is time, read what is new, send the newest of it, remember how far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::files::Attached;
use super::newest::Newest;
use super::sender::{Sender, Sent};
use super::{
    CloudControl, CloudFault, CloudOptions, KnownIds, Ledger, LocalRows, Mode, Order, Progress, SharedLedger, SyncOrder, Window,
};
use crate::change::cloud::{CloudRow, CloudVersion};
use crate::change::{Offset, Op, OriginId, Record, TableName};
use crate::observe::{CloudProblem, CloudReport, CloudState, Observer};
use crate::runtime::{Clock, Shutdown};
use crate::target::cloud::{Archive, Cloud, FileStore};
use crate::topic::TopicReader;

/// Bytes of records in one read.
const READ_BYTES: usize = 4 << 20;

/// How long one read may wait for something new, where the cloud is fed all the time.
const LONG_POLL: Duration = Duration::from_secs(20);

/// How often what waits is counted between two runs.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Rows set aside that one order tries again.
const AGAIN_MAX: usize = 10_000;

/// How long the order of the tables is believed: the database opens every table to tell its foreign keys.
const ORDER_BELIEVED: Duration = Duration::from_secs(60);

/// Records without anything for the cloud before the checkpoint is written all the same: heartbeats are no reason to write to a disk.
const IDLE_CHECKPOINT: u64 = 360;

/// Feeds one cloud.
pub struct CloudApplier {
    pub options: CloudOptions,
    pub cloud: Arc<dyn Cloud>,
    /// Where files that rows name go: the cloud's own API, or a store beside it.
    pub files: Arc<dyn FileStore>,
    /// Rows that are sent are kept as objects too.
    pub archive: Option<Arc<dyn Archive>>,
    pub reader: Arc<dyn TopicReader>,
    /// Written from one task only; who looks at files reads it now and then.
    pub ledger: SharedLedger,
    /// The database's own rows, for [`Mode::Missing`].
    pub rows: Arc<dyn LocalRows>,
    pub known: Mutex<Box<dyn KnownIds>>,
    pub control: Arc<CloudControl>,
    pub clock: Arc<dyn Clock>,
    pub observer: Observer,
}

/// How far the topics were read and all of it is settled: may be further than the ledger says, by heartbeats.
type Passed = BTreeMap<OriginId, Offset>;

/// What the foreign keys were, and when.
type Foreign = Option<(Instant, Order)>;

/// Where a run is in the topics.
struct Places {
    next: BTreeMap<OriginId, Offset>,
    ends: BTreeMap<OriginId, Offset>,
    order: Order,
}

impl Places {
    fn pending(&self) -> u64 {
        self.ends.iter().map(|(origin, end)| end.0.saturating_sub(self.next[origin].0)).sum()
    }
}

impl CloudApplier {
    /// Until shutdown, or until something stops it.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), CloudFault> {
        let name = self.options.name.clone();
        self.control.attach(&self.ledger);
        let ran = self.ledger().last_run()?;
        let (mut passed, mut foreign) = (Passed::new(), None);
        let mut last = ran.as_ref().map(|report| report.started_seconds);
        self.observer.cloud_resumes(&name, ran);
        self.observer.cloud_interval(&name, self.options.schedule.interval(self.clock.now_seconds()));
        let aside = self.ledger().aside_count()?;
        self.observer.cloud_aside(&name, aside);
        let files = {
            let mut ledger = self.ledger();
            ledger.forget_queued()?;
            ledger.file_counts()?
        };
        self.observer.cloud_files(&name, files);
        loop {
            let order = match self.wait(last, &passed, &shutdown).await {
                Ok(order) => order,
                Err(CloudFault::Ended) => return Ok(()),
                Err(fault) => return Err(fault),
            };
            last = Some(self.clock.now_seconds());
            let ran = self.run_once(order.as_ref(), &mut passed, &mut foreign, &shutdown).await;
            if order.is_some() {
                self.control.ended(ran.as_ref().ok());
            }
            match ran {
                Ok(_) => {}
                Err(CloudFault::Ended) => return Ok(()),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Waits for the next run, or for an order.
    async fn wait(&self, last: Option<u64>, passed: &Passed, shutdown: &Shutdown) -> Result<Option<SyncOrder>, CloudFault> {
        let name = &self.options.name;
        let next = self.options.schedule.next(last, self.clock.now_seconds());
        self.observer.cloud_next_run(name, next);
        loop {
            if let Some(order) = self.control.take() {
                return Ok(Some(order));
            }
            let now = self.clock.now_seconds();
            if next.is_some_and(|next| next <= now) {
                return Ok(None);
            }
            if self.options.mode == Mode::Missing {
                self.observer.cloud_state(name, CloudState::Idle, None);
                let due = next.map_or(COUNT_EVERY, |next| Duration::from_secs(next - now)).min(COUNT_EVERY);
                tokio::select! {
                    () = sleep(due) => continue,
                    () = self.control.ordered() => continue,
                    () = shutdown.cancelled() => return Err(CloudFault::Ended),
                }
            }
            let places = self.places(passed).await?;
            self.observer.cloud_pending(name, places.pending());
            if next.is_none() && places.pending() > 0 {
                // Others may come, to go with it.
                tokio::select! {
                    () = sleep(self.options.batch_age) => return Ok(None),
                    () = self.control.ordered() => continue,
                    () = shutdown.cancelled() => return Err(CloudFault::Ended),
                }
            }
            self.observer.cloud_state(name, CloudState::Idle, None);
            tokio::select! {
                () = self.until_due(next, now, &places) => {}
                () = self.control.ordered() => {}
                () = shutdown.cancelled() => return Err(CloudFault::Ended),
            }
        }
    }

    /// Until the run is due, it is worth counting again, or something new is in a topic.
    async fn until_due(&self, next: Option<u64>, now: u64, places: &Places) {
        let Some(next) = next else {
            let news = places.ends.iter().map(|(origin, end)| {
                // A fault of the topic is met again, and told, by who reads it next.
                Box::pin(async move {
                    if self.reader.read(origin, *end, 1, LONG_POLL).await.is_err() {
                        sleep(COUNT_EVERY).await;
                    }
                })
            });
            futures_util::future::select_all(news).await;
            return;
        };
        sleep(Duration::from_secs(next - now).min(COUNT_EVERY)).await;
    }

    async fn places(&self, passed: &Passed) -> Result<Places, CloudFault> {
        let kept = self.ledger().checkpoints()?;
        let mut places = Places { next: BTreeMap::new(), ends: BTreeMap::new(), order: Order::default() };
        for origin in &self.options.origins {
            let extent = self.reader.extent(origin).await?;
            let next = match passed.get(origin).max(kept.get(origin)) {
                Some(next) if *next > extent.end => {
                    let (origin, wanted, end) = (origin.clone(), *next, extent.end);
                    return Err(crate::topic::TopicError::PastEnd { origin, wanted, end }.into());
                }
                Some(next) => *next,
                None => extent.first,
            };
            places.next.insert(origin.clone(), next);
            places.ends.insert(origin.clone(), extent.end);
        }
        Ok(places)
    }

    /// Sends everything that is in the topics when it begins.
    async fn run_once(
        &self,
        order: Option<&SyncOrder>,
        passed: &mut Passed,
        foreign: &mut Foreign,
        shutdown: &Shutdown,
    ) -> Result<CloudReport, CloudFault> {
        let name = self.options.name.clone();
        let dry_run = order.is_some_and(|order| order.dry_run);
        let only = order.map(|order| &order.tables).filter(|tables| !tables.is_empty());
        let wanted =
            |table: &TableName| only.is_none_or(|only| only.contains(&table.to_string()) || only.contains(&*table.table));
        let mut report =
            CloudReport { cloud: name.clone(), dry_run, started_seconds: self.clock.now_seconds(), ..CloudReport::default() };
        if self.options.mode == Mode::Missing {
            self.observer.cloud_state(&name, CloudState::Syncing, None);
            self.compare(&wanted, dry_run, &mut report, shutdown).await?;
            if !dry_run {
                self.abort_leftovers(shutdown).await?;
            }
            return self.conclude(report, true);
        }
        let mut places = self.places(passed).await?;
        // A choice of tables, or everything again, would be other objects with the same rows.
        let regular = only.is_none() && !order.is_some_and(|order| order.force || order.dry_run);
        if places.pending() > 0 {
            if foreign.as_ref().is_none_or(|(at, _)| at.elapsed() > ORDER_BELIEVED) {
                *foreign = Some((Instant::now(), Order::of(&self.rows.references().await?)));
            }
            places.order = foreign.as_ref().map(|(_, order)| order.clone()).unwrap_or_default();
        }
        if order.is_some_and(|order| order.force) {
            for (origin, next) in &mut places.next {
                *next = self.reader.extent(origin).await?.first;
            }
        }
        self.observer.cloud_pending(&name, places.pending());
        self.observer.cloud_state(&name, CloudState::Syncing, None);
        if order.is_some() && !dry_run {
            self.send_aside(&mut report, &wanted, shutdown).await?;
        }
        let mut interrupted = if regular { self.ledger().window()? } else { Window::new() };
        while places.pending() > 0 {
            let mut window = std::mem::take(&mut interrupted);
            let begin = places.next.clone();
            let newest = self.gather(&mut places, &window, &wanted, &mut report).await?;
            if window.is_empty() {
                window = begin.into_iter().map(|(origin, begin)| (origin.clone(), begin..places.next[&origin])).collect();
            }
            let rows = newest.into_rows();
            if dry_run {
                rows.iter().for_each(|(_, row)| would_be_sent(row, &mut report));
                continue;
            }
            let attached = self.attach(rows, &mut report, shutdown).await?;
            if regular {
                self.archive(&window, &attached.rows, shutdown).await?;
            }
            let sent = self.send_all(attached, &mut report, shutdown).await?;
            if only.is_some() {
                // What was sent of some tables only is sent again with the others: the checkpoint is of all of them.
                self.ledger().keep(&Progress { next: BTreeMap::new(), aside: sent.aside, settled: sent.settled })?;
            } else {
                self.keep(&places, sent)?;
                passed.clone_from(&places.next);
            }
            self.observer.cloud_pending(&name, places.pending());
        }
        if !dry_run {
            self.abort_leftovers(shutdown).await?;
        }
        let worth = order.is_some() || self.options.schedule.interval(report.started_seconds).is_some();
        self.conclude(report, worth)
    }

    /// Sends rows, and then the files that follow theirs.
    async fn send_all(&self, attached: Attached, report: &mut CloudReport, shutdown: &Shutdown) -> Result<Sent, CloudFault> {
        let Attached { rows, mut followed } = attached;
        let mut sent = self.sender(shutdown).send(rows, report).await?;
        if followed.is_empty() {
            return Ok(sent);
        }
        // Where the row was refused, an address alone would be half a row.
        let aside: BTreeSet<(&str, &str)> =
            sent.aside.iter().map(|aside| (aside.row.resource.as_str(), aside.row.id.as_str())).collect();
        followed.retain(|(_, row)| !aside.contains(&(row.resource.as_str(), row.id.as_str())));
        let addresses = self.follow(followed, report, shutdown).await?;
        // They are no rows more than those that were counted.
        let mut uncounted = CloudReport::default();
        let told = self.sender(shutdown).send(addresses, &mut uncounted).await?;
        uncounted.errors.into_iter().for_each(|problem| report.problem(problem));
        sent.aside.extend(told.aside);
        Ok(sent)
    }

    /// Tells and keeps what came of a run.
    fn conclude(&self, mut report: CloudReport, worth: bool) -> Result<CloudReport, CloudFault> {
        let name = self.options.name.clone();
        report.success = report.summary.failed == 0;
        report.finished_seconds = self.clock.now_seconds();
        let aside = self.ledger().aside_count()?;
        self.observer.cloud_aside(&name, aside);
        if worth || report.summary.synced + report.summary.already + report.summary.failed > 0 {
            if !report.dry_run {
                self.ledger().keep_run(&report)?;
            }
            self.observer.cloud_ran(&name, report.clone());
        } else {
            self.observer.cloud_is_current(&name);
        }
        self.observer.cloud_state(&name, CloudState::Idle, None);
        Ok(report)
    }

    /// Makes durable how far it is, where something was said by the cloud; heartbeats alone are rarely a reason to write to a disk.
    fn keep(&self, places: &Places, sent: Sent) -> Result<(), CloudFault> {
        let mut ledger = self.ledger();
        let kept = ledger.checkpoints()?;
        // A run that sends everything again is behind what was sent before, for a while.
        let ahead = places.next.iter().filter(|(origin, next)| kept.get(*origin).is_none_or(|kept| *next > kept));
        let next: BTreeMap<OriginId, Offset> = ahead.map(|(origin, next)| (origin.clone(), *next)).collect();
        let quiet = sent.settled.is_empty() && sent.aside.is_empty();
        let moved =
            |(origin, next): (&OriginId, &Offset)| kept.get(origin).is_none_or(|kept| next.0 - kept.0 >= IDLE_CHECKPOINT);
        if !quiet || next.iter().any(moved) {
            ledger.keep(&Progress { next, aside: sent.aside, settled: sent.settled })?;
        }
        Ok(())
    }

    /// Tries rows again that the cloud refused: somebody ordered a run, perhaps because it was mended.
    async fn send_aside(
        &self,
        report: &mut CloudReport,
        wanted: &impl Fn(&TableName) -> bool,
        shutdown: &Shutdown,
    ) -> Result<(), CloudFault> {
        // What is kept has its resource, not its table; with a choice of tables it is left alone.
        if !wanted(&TableName::new("", "")) {
            return Ok(());
        }
        let aside = self.ledger().aside(AGAIN_MAX)?;
        let rows: Vec<_> = aside.into_iter().map(|aside| aside.row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let sent = self.sender(shutdown).send(rows, report).await?;
        Ok(self.ledger().keep(&Progress { next: BTreeMap::new(), aside: sent.aside, settled: sent.settled })?)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Box<dyn Ledger>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Box<dyn KnownIds>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sender<'a>(&'a self, shutdown: &'a Shutdown) -> Sender<'a> {
        Sender { options: &self.options, cloud: &*self.cloud, observer: &self.observer, shutdown }
    }

    /// Reads on until the window is full or everything is read; or exactly as far as one goes that was interrupted.
    async fn gather(
        &self,
        places: &mut Places,
        interrupted: &Window,
        wanted: &impl Fn(&TableName) -> bool,
        report: &mut CloudReport,
    ) -> Result<Newest, CloudFault> {
        let now = self.clock.now_seconds();
        let mut newest = Newest::of(places.order.clone());
        for (origin, end) in &places.ends {
            let next = places.next.get_mut(origin).expect("both have all origins");
            let until = interrupted.get(origin).map(|offsets| offsets.end);
            let is_full =
                |newest: &Newest| newest.len() >= self.options.window_rows || newest.bytes() >= self.options.window_bytes;
            while *next < until.unwrap_or(*end) && (until.is_some() || !is_full(&newest)) {
                let batch = self.reader.read(origin, *next, READ_BYTES, Duration::ZERO).await?;
                let Some((last, _)) = batch.last() else {
                    let (origin, wanted) = (origin.clone(), *end);
                    return Err(crate::topic::TopicError::PastEnd { origin, wanted, end: *next }.into());
                };
                let last = until.map_or(*last, |until| (*last).min(Offset(until.0 - 1)));
                for (offset, record) in batch.iter().filter(|(offset, _)| *offset <= last) {
                    self.note(&mut newest, *offset, record, wanted, now, report);
                }
                *next = last.next();
            }
        }
        // More may have come since; the next run begins after it.
        for (origin, next) in &places.next {
            let end = places.ends.get_mut(origin).expect("both have all origins");
            *end = (*end).max(*next);
        }
        Ok(newest)
    }

    fn note(
        &self,
        newest: &mut Newest,
        offset: Offset,
        record: &Record,
        wanted: &impl Fn(&TableName) -> bool,
        now: u64,
        report: &mut CloudReport,
    ) {
        let Some(change) = record.change() else { return };
        let Some((place, mapping)) = self.options.table(change.table()).filter(|_| wanted(change.table())) else { return };
        let version = CloudVersion { hlc: record.hlc.0, origin: record.origin.to_string() };
        match mapping.rows(change, &version, &format!("{}:{offset}", record.origin), now) {
            Ok(rows) => {
                let rank = newest.rank(place, change.table());
                rows.into_iter().for_each(|row| newest.note(rank, row));
            }
            Err(unsent) => {
                let resource = mapping.resource(change.table());
                report.count(&resource).left_out += 1;
                if unsent == super::Unsent::NoId {
                    let table = change.table();
                    let error = match change.op {
                        Op::Truncate => format!(
                            "{table} was emptied by TRUNCATE, which tells no ids: the cloud keeps its rows; remove them there"
                        ),
                        _ => format!("{table}: a change without the row's id; name a column with `id`"),
                    };
                    report.problem(CloudProblem { resource: Some(resource), id: None, error });
                }
            }
        }
    }
}

/// Of a run that sends nothing.
pub(super) fn would_be_sent(row: &CloudRow, report: &mut CloudReport) {
    report.summary.synced += 1;
    report.count(&row.resource).written += 1;
    report.synced_id(&row.resource, &row.id);
}
