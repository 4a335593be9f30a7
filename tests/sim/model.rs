//! The program beside the model that its protocol was designed with (`tests/model/causal_lww.py`): the real tailers and appliers live
//! through what happened in runs of the model, in the same order, and must come to the same records and the same rows.
//!
//! The model says what commits on which database after what; everything else (when a tailer publishes, when a heartbeat goes out,
//! what is in memory, what is read again after a crash) is the program's own, and must not matter. So every version,
//! every causal context and every decision is compared with an implementation that shares nothing with this one, also where a
//! rule of the protocol is taken away from both.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use tandem::apply::{Applier, ApplyOptions, LocalFeed, NoNotes};
use tandem::change::{Cluster, Hlc, Image, Offset, OriginId, Record, Shape, TableFilter, Value};
use tandem::observe::Observer;
use tandem::runtime::{Clock, Shutdown};
use tandem::source::TransactionHeader;
use tandem::source::memory::{MemoryBinlog, MemorySource, MemoryTransaction};
use tandem::tail::{MemoryFloor, TailOptions, Tailer};
use tandem::target::memory::{CommittedTransaction, LocalWrite, MemoryOptions, MemoryTable, MemoryTarget, NoFaults};
use tandem::topic::memory::{FairWeather, MemoryReader, MemoryTopics};
use tandem::topic::{Extent, TopicError, TopicReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::existing::coordinates;
use crate::oracle::{self, Site};
use crate::world::{Drawer, Feed, riders};

/// Added to the model's times, which begin near 0: a server's do not.
const EPOCH: u64 = 1_700_000_000_000_000;
/// Of virtual time, for one thing to happen.
const PATIENCE: Duration = Duration::from_secs(600);
/// Of it, between two looks.
const BETWEEN: Duration = Duration::from_millis(20);

/// One run of the model: see `tests/model/trace.py`.
#[derive(Deserialize)]
struct Trace {
    seed: u64,
    nodes: usize,
    unique: bool,
    /// Seconds by which each node's clock is wrong.
    offsets: Vec<i64>,
    events: Vec<Event>,
    topics: Vec<Vec<Published>>,
    tables: Vec<BTreeMap<u64, i64>>,
    /// What the model's own checks say of it.
    fault: Option<String>,
}

/// A row and its value; none where it is deleted.
type RowValue = (u64, Option<i64>);

/// A transaction of a topic: its clock, how many transactions of each other node it had seen, and its rows.
#[derive(Deserialize, PartialEq, Debug)]
struct Published(u64, BTreeMap<usize, usize>, Vec<RowValue>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Event {
    Write(WriteWord, usize, u64, Vec<RowValue>),
    Tail(TailWord, usize, usize),
    Apply(ApplyWord, usize, usize, usize, u64),
    Crash(CrashWord, usize),
}

macro_rules! word {
    ($name:ident, $word:literal) => {
        #[derive(Deserialize)]
        enum $name {
            #[serde(rename = $word)]
            Word,
        }
    };
}
word!(WriteWord, "write");
word!(TailWord, "tail");
word!(ApplyWord, "apply");
word!(CrashWord, "crash");

/// Runs the model.
fn traces(seeds: Range<u64>, without: Option<&str>) -> Vec<Trace> {
    let tracer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/trace.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(tracer).args([seeds.start.to_string(), seeds.end.to_string()]).args(without);
    let output = python.output().unwrap_or_else(|error| panic!("python3 is needed for this test: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("a line of the trace is as its tracer says")).collect()
}

/// The model's clock, wrong by some seconds: it moves only with what happens.
struct ModelClock {
    now: Arc<AtomicU64>,
    offset_seconds: i64,
}

impl Clock for ModelClock {
    fn now_micros(&self) -> u64 {
        (EPOCH + self.now.load(Ordering::Relaxed)).saturating_add_signed(self.offset_seconds * 1_000_000)
    }
}

/// Lets an applier read each topic only as far as the model had it applied.
struct Gate {
    reader: MemoryReader,
    own: OriginId,
    open_to: watch::Receiver<BTreeMap<OriginId, Offset>>,
}

#[async_trait]
impl TopicReader for Gate {
    async fn read(
        &self,
        origin: &OriginId,
        from: Offset,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Vec<(Offset, Record)>, TopicError> {
        if *origin == self.own {
            return self.reader.read(origin, from, bytes_max, wait).await;
        }
        let mut open_to = self.open_to.clone();
        let is_open = |open_to: &BTreeMap<OriginId, Offset>| open_to.get(origin).is_some_and(|&end| from < end);
        let Ok(Ok(open_to)) = timeout(wait, open_to.wait_for(is_open)).await.map(|open| open.map(|open| open[origin])) else {
            return Ok(Vec::new());
        };
        let mut records = self.reader.read(origin, from, bytes_max, wait).await?;
        records.retain(|(offset, _)| *offset < open_to);
        Ok(records)
    }

    async fn extent(&self, origin: &OriginId) -> Result<Extent, TopicError> {
        self.reader.extent(origin).await
    }
}

struct Node {
    origin: OriginId,
    database: MemoryTarget,
    commits: Arc<Mutex<Vec<CommittedTransaction>>>,
    /// Committed, and held back from its tailer.
    unread: Arc<Mutex<VecDeque<MemoryTransaction>>>,
    binlog: MemoryBinlog,
    floor: Arc<MemoryFloor>,
    clock: Arc<ModelClock>,
    gate: watch::Sender<BTreeMap<OriginId, Offset>>,
    observer: Observer,
    roles: Vec<JoinHandle<()>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.roles.iter().for_each(JoinHandle::abort);
    }
}

struct World<'a> {
    trace: &'a Trace,
    without: Option<&'a str>,
    cluster: Vec<OriginId>,
    shape: Arc<Shape>,
    topics: MemoryTopics,
    /// Of each topic, as far as it was looked at: what follows, and where its transactions end.
    known: Vec<(Offset, Vec<Offset>)>,
    now: Arc<AtomicU64>,
    nodes: Vec<Node>,
}

impl<'a> World<'a> {
    fn new(trace: &'a Trace, without: Option<&'a str>) -> Self {
        let cluster: Vec<_> = (0..trace.nodes).map(|number| OriginId::new(&format!("node-{number}"))).collect();
        let held = without == Some("no_wait");
        let (shape, now) = (riders(), Arc::new(AtomicU64::new(100_000_000)));
        let node = |number: usize| {
            let clock = Arc::new(ModelClock { now: now.clone(), offset_seconds: trace.offsets[number] });
            let commits: Arc<Mutex<Vec<CommittedTransaction>>> = Arc::default();
            let unread: Arc<Mutex<VecDeque<MemoryTransaction>>> = Arc::default();
            let binlog = MemoryBinlog::default();
            let on_commit = {
                let (commits, unread, binlog) = (commits.clone(), unread.clone(), binlog.clone());
                Arc::new(move |commit: CommittedTransaction| {
                    let header = TransactionHeader {
                        gtid: commit.gtid,
                        commit_second: commit.commit_second,
                        server_id: commit.gtid.server,
                        coordinates: coordinates(commit.gtid.sequence),
                        read_from: None,
                    };
                    let transaction = MemoryTransaction { header, changes: commit.changes.clone(), ddl: None };
                    match held {
                        true => unread.lock().unwrap().push_back(transaction),
                        false => binlog.append(transaction),
                    }
                    commits.lock().unwrap().push(commit);
                })
            };
            let seconds = clock.clone();
            let options = MemoryOptions {
                server_id: number as u32 + 1,
                clock: Arc::new(move || seconds.now_seconds()),
                on_commit,
                faults: Arc::new(NoFaults),
                lock_wait: Duration::from_secs(1),
            };
            let unique = trace.unique.then(|| ("seat".into(), 2));
            Node {
                origin: cluster[number].clone(),
                database: MemoryTarget::new([MemoryTable { shape: shape.clone(), unique, refers: None }], options),
                commits,
                unread,
                binlog,
                floor: Arc::default(),
                clock,
                gate: watch::Sender::default(),
                observer: Observer::default(),
                roles: Vec::new(),
            }
        };
        let nodes = (0..trace.nodes).map(node).collect();
        let known = vec![Default::default(); trace.nodes];
        Self { trace, without, cluster, shape, topics: MemoryTopics::new(), known, now, nodes }
    }

    fn is_without(&self, word: &str) -> bool {
        self.without == Some(word)
    }

    /// Kills the node's process, if there is one, and starts another.
    fn start(&mut self, at: usize) {
        let local = Arc::new(LocalFeed::default());
        let mut tailing = TailOptions::new(self.cluster[at].clone(), TableFilter::everything());
        tailing.ablation.no_clock_merge = self.is_without("no_clock_merge");
        tailing.ablation.no_resolution = self.is_without("no_resolution");
        let mut applying = ApplyOptions::new(Cluster::new(self.cluster.clone(), &self.cluster[at]).unwrap());
        applying.ablation.no_wait = self.is_without("no_wait");
        // The model knows no heartbeat that moves a clock; and it believes every clock, which may be a minute apart from another.
        applying.idle_checkpoint = u64::MAX;
        applying.max_clock_skew = Duration::from_secs(600);
        applying.index_rows = [2, 1000][at % 2];
        let node = &mut self.nodes[at];
        node.roles.drain(..).for_each(|role| role.abort());
        let tailer = Tailer {
            options: tailing,
            source: Arc::new(MemorySource::new(node.binlog.clone())),
            writer: Box::new(self.topics.writer(node.origin.clone(), Arc::new(FairWeather))),
            follower: Arc::new(Feed(local.clone())),
            floor: node.floor.clone(),
            clock: node.clock.clone(),
            observer: node.observer.clone(),
            snapshots: None,
            rereads: Arc::default(),
        };
        let reader = self.topics.reader(Arc::new(FairWeather));
        let applier = Applier {
            options: applying,
            target: Arc::new(node.database.clone()),
            reader: Arc::new(Gate { reader, own: node.origin.clone(), open_to: node.gate.subscribe() }),
            local,
            overflow: Arc::new(|| Ok(Box::new(Drawer::default()))),
            clock: node.clock.clone(),
            observer: node.observer.clone(),
            notes: Arc::new(NoNotes),
            again: Arc::default(),
        };
        let ended = |role: &str, outcome: String| panic!("the {role} ended: {outcome}");
        node.roles = vec![
            tokio::spawn(async move { ended("tailer", format!("{:?}", tailer.run(Shutdown::new()).await)) }),
            tokio::spawn(async move { ended("applier", format!("{:?}", applier.run(Shutdown::new()).await)) }),
        ];
    }

    async fn live(&mut self) -> Result<(), String> {
        for at in 0..self.nodes.len() {
            self.start(at);
        }
        for at in 0..self.nodes.len() {
            let begun = |world: &Self| world.topics.end(&world.cluster[at]) > Offset(0);
            self.until("the topics to begin", begun).await?;
        }
        for (number, event) in self.trace.events.iter().enumerate() {
            self.happen(number, event).await.map_err(|fault| format!("event {number}: {fault}"))?;
        }
        for (at, published) in self.trace.topics.iter().enumerate().filter(|(_, published)| !published.is_empty()) {
            self.published(at, published.len() - 1).await?;
        }
        Ok(())
    }

    async fn happen(&mut self, number: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Write(_, at, time, rows) => {
                self.now.store(*time, Ordering::Relaxed);
                let table = || self.shape.table.clone();
                let name = |row: &u64| Value::text(format!("rider{row}"));
                let write = |(row, value): &RowValue| match value {
                    Some(value) => {
                        let payload = Value::Int((number * 100) as i64 + *row as i64);
                        LocalWrite::Put { table: table(), row: vec![name(row), payload, Value::Int(*value)] }
                    }
                    None => LocalWrite::Delete { table: table(), key: vec![name(row)] },
                };
                let writes: Vec<_> = rows.iter().map(write).collect();
                let outcome = self.nodes[*at].database.local_write(&writes).await;
                match outcome {
                    Ok(Some(_)) => Ok(()),
                    other => Err(format!("the model's node {at} wrote {rows:?}, here it is {other:?}")),
                }
            }
            // Where appliers wait for their tailer it may read when it likes.
            Event::Tail(..) if !self.is_without("no_wait") => Ok(()),
            Event::Tail(_, at, count) => {
                let node = &self.nodes[*at];
                while node.binlog.transactions().len() < *count {
                    let next = node.unread.lock().unwrap().pop_front().ok_or("there is nothing left to read")?;
                    node.binlog.append(next);
                }
                let end = node.binlog.position();
                let reader = self.topics.reader(Arc::new(FairWeather));
                for _ in 0..PATIENCE.as_millis() / BETWEEN.as_millis() {
                    let extent = reader.extent(&self.cluster[*at]).await.map_err(|error| error.to_string())?;
                    if extent.last.is_some_and(|last| last.position.covers_all(&end)) {
                        return Ok(());
                    }
                    sleep(BETWEEN).await;
                }
                Err("waited in vain for the tailer to tell how far it is".into())
            }
            Event::Apply(_, at, origin, number, time) => {
                let (last, open_to) = self.published(*origin, *number).await?;
                self.now.store(*time, Ordering::Relaxed);
                let name = self.cluster[*origin].clone();
                self.nodes[*at].gate.send_modify(|gate| _ = gate.insert(name.clone(), open_to));
                let applied = |world: &Self| {
                    let marks = world.nodes[*at].database.marks();
                    marks.get(&name).is_some_and(|mark| mark.data >= Some(last))
                };
                self.until("it to be applied", applied).await
            }
            Event::Crash(_, at) => {
                self.start(*at);
                Ok(())
            }
        }
    }

    async fn until(&self, what: &str, fact: impl Fn(&Self) -> bool) -> Result<(), String> {
        let begun = tokio::time::Instant::now();
        while !fact(self) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("waited in vain for {what}"));
            }
            sleep(BETWEEN).await;
        }
        Ok(())
    }

    /// The last record of a topic's transaction of this number, once it is published, and how far to read for it: with the heartbeats
    /// that follow, where they are known to.
    async fn published(&mut self, at: usize, number: usize) -> Result<(Offset, Offset), String> {
        for _ in 0..PATIENCE.as_millis() / BETWEEN.as_millis() {
            let (end, ends) = &mut self.known[at];
            let reader = self.topics.reader(Arc::new(FairWeather));
            let more =
                reader.read(&self.cluster[at], *end, usize::MAX, Duration::ZERO).await.map_err(|error| error.to_string())?;
            for (offset, record) in more {
                *end = offset.next();
                ends.extend((record.change().is_some() && record.last).then_some(offset));
            }
            match ends.get(number) {
                Some(last) if number + 1 == ends.len() => return Ok((*last, *end)),
                Some(last) => return Ok((*last, last.next())),
                None => sleep(BETWEEN).await,
            }
        }
        Err(format!("waited in vain for transaction {number} of node {at}"))
    }

    /// Where each transaction of a topic ends.
    fn ends(&self, at: usize) -> Vec<Offset> {
        let records = self.topics.records(&self.cluster[at]);
        let ends = records.iter().enumerate().filter(|(_, record)| record.change().is_some() && record.last);
        ends.map(|(offset, _)| Offset(offset as u64)).collect()
    }

    /// What a topic holds, as the model tells it.
    fn topic(&self, at: usize) -> Vec<Published> {
        let ends: Vec<Vec<Offset>> = (0..self.nodes.len()).map(|at| self.ends(at)).collect();
        let mut published = Vec::new();
        let mut rows = Vec::new();
        for record in self.topics.records(&self.cluster[at]) {
            let Some(change) = record.change() else { continue };
            let image = change.after.as_ref().or(change.before.as_ref()).expect("a change has an image");
            rows.push((number_of(&self.shape, image), change.after.as_ref().map(|image| seat(&self.shape, image))));
            if record.last {
                let seen = |(other, ends): (usize, &Vec<Offset>)| {
                    let end = record.seen.end(&self.cluster[other]);
                    (other, ends.iter().filter(|&&last| last < end).count())
                };
                let seen = ends.iter().enumerate().filter(|(other, _)| *other != at).map(seen).collect();
                let Hlc(clock) = record.hlc;
                published.push(Published(clock - EPOCH, seen, std::mem::take(&mut rows)));
            }
        }
        published
    }

    fn site(&self, node: &Node) -> Site {
        let rows = node.database.rows(&self.shape.table);
        Site {
            origin: node.origin.clone(),
            binlog: node.commits.lock().unwrap().iter().map(|commit| (commit.gtid, commit.changes.clone())).collect(),
            topic: self.topics.records(&node.origin),
            rows: rows.iter().map(|row| (oracle::row_name(&self.shape, row), oracle::columns(&self.shape, row))).collect(),
            losers: node.database.conflicts().into_iter().map(|one| (one.loser.origin, one.loser.hlc)).collect(),
            existed: Default::default(),
            kept: Vec::new(),
        }
    }

    /// The differences to the model, and what the checkers say of this run.
    fn compare(&self) -> Result<oracle::Outcome, String> {
        for (at, wanted) in self.trace.topics.iter().enumerate() {
            let published = self.topic(at);
            if let Some(number) = (0..wanted.len().max(published.len())).find(|&n| wanted.get(n) != published.get(n)) {
                let [model, here] = [wanted.get(number), published.get(number)];
                return Err(format!("transaction {number} of node {at}: in the model {model:?}, here {here:?}"));
            }
        }
        for (at, wanted) in self.trace.tables.iter().enumerate() {
            let rows = self.nodes[at].database.rows(&self.shape.table);
            let row = |image: &Image| (number_of(&self.shape, image), seat(&self.shape, image));
            let held: BTreeMap<u64, i64> = rows.iter().map(row).collect();
            if held != *wanted {
                return Err(format!("the rows of node {at}: in the model {wanted:?}, here {held:?}"));
            }
        }
        let sites: Vec<Site> = self.nodes.iter().map(|node| self.site(node)).collect();
        Ok(oracle::check(&sites))
    }
}

fn number_of(shape: &Shape, image: &Image) -> u64 {
    let name = oracle::row_name(shape, image);
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().expect("a row's name ends in its number")
}

fn seat(shape: &Shape, image: &Image) -> i64 {
    match oracle::columns(shape, image).get("seat") {
        Some(Value::Int(seat)) => *seat,
        other => panic!("a seat is a number, not {other:?}"),
    }
}

/// Lives through a run of the model: the differences to it, and what the checkers say.
fn live(trace: &Trace, without: Option<&str>) -> Result<oracle::Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(trace, without);
        world.live().await?;
        world.compare()
    })
}

/// Gives how many of these runs of the model have a fault.
fn same_as_the_model(seeds: Range<u64>, without: Option<&str>) -> usize {
    let traces = traces(seeds, without);
    for trace in &traces {
        let place = format!("seed {} {}", trace.seed, without.unwrap_or_default());
        let checked = live(trace, without).unwrap_or_else(|fault| panic!("{place}: {fault}"));
        match &trace.fault {
            None if matches!(without, None | Some("no_forget" | "no_crash")) => {
                checked.unwrap_or_else(|fault| panic!("{place}: the model finds no fault, the checkers say: {fault}"));
            }
            None => {}
            Some(fault) => assert!(checked.is_err(), "{place}: the model says: {fault}; the checkers find nothing"),
        }
    }
    traces.iter().filter(|trace| trace.fault.is_some()).count()
}

/// Of the ordinary run; more by `TANDEM_SIM_SEEDS`.
const RUNS: u64 = 40;

#[test]
fn the_program_does_what_the_model_does() {
    assert_eq!(same_as_the_model(crate::seeds(RUNS), None), 0);
}

/// Forgetting, and crashes, must not be seen in what is published and in the rows.
#[test]
fn the_program_does_what_the_model_does_that_never_forgets_or_never_crashes() {
    for word in ["no_forget", "no_crash"] {
        assert_eq!(same_as_the_model(crate::seeds(RUNS / 2), Some(word)), 0, "{word}");
    }
}

#[test]
fn where_a_rule_is_taken_from_both_the_checkers_see_what_the_model_sees() {
    for word in ["no_wait", "no_clock_merge", "no_resolution"] {
        let faults = same_as_the_model(0..RUNS * 3 / 4, Some(word));
        assert!(faults > 2, "{word}: {faults}");
    }
}

/// The comparison is only worth something if it sees one clock that is one microsecond off, one causal context, one row.
#[test]
fn a_difference_to_the_model_is_seen() {
    let sound = || traces(2..3, None).remove(0);
    assert_eq!(live(&sound(), None), Ok(Ok(())));
    let mut clock = sound();
    clock.topics[1].last_mut().unwrap().0 += 1;
    let mut seen = sound();
    *seen.topics[0].last_mut().unwrap().1.get_mut(&1).unwrap() -= 1;
    let mut row = sound();
    let held = row.tables[0].values_mut().next().unwrap();
    *held += 1;
    for (what, trace) in [("transaction", clock), ("transaction", seen), ("the rows of node 0", row)] {
        let fault = live(&trace, None).unwrap_err();
        assert!(fault.starts_with(what), "{fault}");
    }
    // Here a rule is taken from one of both only.
    let collides = traces(5..6, Some("no_clock_merge")).remove(0);
    assert!(live(&collides, None).unwrap_err().contains("in the model"));
}
