//! One run: nodes that write, are cut off, crash, and must come to the same rows in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tandem::apply::{Entry, Fingerprint, LocalFeed, Overflow, OverflowError, Policy};
use tandem::change::{
    Cluster, Column, ColumnKind, GtidPosition, Hlc, NodeRank, Offset, OriginId, Record, Shape, TableName, Value,
};
use tandem::observe::Observer;
use tandem::runtime::Clock;
use tandem::source::TransactionHeader;
use tandem::source::memory::{MemoryBinlog, MemoryTransaction};
use tandem::tail::{Follower, MemoryFloor, NoBook, SnapshotDesk};
use tandem::target::memory::{
    CommittedTransaction, LocalWrite, MemoryOptions, MemoryReference, MemoryTable, MemoryTarget, OnDelete,
};
use tandem::target::{Conflict, ConflictKind, SeedKind, Side};
use tandem::topic::memory::{MemoryTopics, SeededWeather};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::emptied;
use crate::existing::{self, MemoryBook};
use crate::keyless::{self, OwnRows};
use crate::met::Met;
use crate::oracle::{self, Kept, Site};
use crate::process::Process;
use crate::reference::{CHILD_COLUMNS, CHILDREN, Reference, check_with};
use crate::trouble::Trouble;

/// The rule that is taken away, if any.
#[derive(Clone, Copy, Default, Debug)]
pub struct Without {
    pub wait: bool,
    pub clock_merge: bool,
    pub tombstones: bool,
    pub resolution: bool,
    pub echo_filter: bool,
    pub author: bool,
    pub snapshot_window: bool,
    pub ties: bool,
    pub emptied: bool,
    pub stale: bool,
    pub ask_wait: bool,
    pub removal: bool,
    pub unlisted: bool,
    /// Of what kind a seeding is: it is done as for a node that was only away.
    pub kind: bool,
    /// The beginning of the topic of a node that is seeded before it ever ran.
    pub begin: bool,
}

/// What a seed decides before anything runs.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub without: Without,
    pub nodes: usize,
    pub rows: u64,
    /// Rows collide in a secondary unique column.
    pub unique: bool,
    pub writing: Duration,
    pub clock_offsets: Vec<i64>,
    pub crashes: bool,
    /// Everything that can be delayed is, by up to this.
    pub delay: Duration,
    /// Probability that one step fails.
    pub loss: f64,
    pub group_changes: usize,
    pub part_changes: usize,
    pub append_bytes: usize,
    pub policy: Policy,
    pub index_rows: usize,
    /// So small that many transactions are too large for memory.
    pub buffer_bytes: usize,
    /// Tables that refer to each other in a row: what the foreign key of the second, the third, … does.
    pub refers: &'static [OnDelete],
    /// A table without a key is written, too: see [`keyless`](crate::keyless).
    pub keyless: bool,
    /// Nodes have rows before their topics begin, and publish what they have now and then: see [`existing`](crate::existing).
    pub snapshots: bool,
    /// Now and then somebody empties the table by a statement.
    pub truncates: bool,
    /// One node has missed too much, and takes over the rows of another: see [`seeded`](crate::seeded).
    pub seeds: Option<SeedKind>,
    /// One node is removed: see [`leaving`](crate::leaving).
    pub removes: bool,
}

impl Scenario {
    pub fn of(seed: u64, without: Without) -> Self {
        let mut dice = Rng::with_seed(seed ^ 0x5bd1);
        let nodes = [2, 2, 3, 4][dice.usize(..4)];
        let scenario = Self {
            seed,
            without,
            nodes,
            rows: [1, 2, 5][dice.usize(..3)],
            unique: seed % 2 == 1,
            writing: Duration::from_secs([4, 15, 40][dice.usize(..3)]),
            clock_offsets: (0..nodes).map(|_| [0, 0, -30, 29, 3][dice.usize(..5)]).collect(),
            crashes: dice.f64() < 0.7,
            delay: Duration::from_millis([1, 20, 300][dice.usize(..3)]),
            loss: [0.0, 0.01, 0.05][dice.usize(..3)],
            group_changes: [1, 3, 500][dice.usize(..3)],
            part_changes: [1, 2, usize::MAX][dice.usize(..3)],
            append_bytes: [1, 600, 4 << 20][dice.usize(..3)],
            policy: [Policy::NewestWins, Policy::Prefer(vec![OriginId::new("node-1")]), Policy::Manual]
                [dice.usize(..6).saturating_sub(3)]
            .clone(),
            index_rows: [2, 1000][dice.usize(..2)],
            buffer_bytes: [1, 2000, 8 << 20][dice.usize(..3)],
            refers: &[],
            keyless: false,
            snapshots: false,
            truncates: false,
            seeds: None,
            removes: false,
        };
        // With the longest delays, reading record by record takes hours of virtual time and shows nothing more.
        let slow = scenario.delay > Duration::from_millis(20) && scenario.buffer_bytes == 1;
        if slow { Self { buffer_bytes: 2000, ..scenario } } else { scenario }
    }
}

impl Scenario {
    /// Nodes ask each other for rows.
    pub fn asks(&self) -> bool {
        self.snapshots || self.seeds.is_some() || self.removes
    }
}

/// The trace of a run, equal for equal seeds.
#[derive(PartialEq, Debug)]
pub struct Run {
    pub met: Met,
    pub topics: Vec<Vec<Record>>,
}

/// A node, as far as it outlives its process.
pub struct Node {
    pub origin: OriginId,
    pub database: MemoryTarget,
    pub commits: Arc<Mutex<Vec<CommittedTransaction>>>,
    pub binlog: MemoryBinlog,
    pub floor: Arc<MemoryFloor>,
    pub weather: Arc<SeededWeather>,
    pub clock: Arc<OffsetClock>,
    /// One for all its lives: to make one takes longer than many a life.
    pub observer: Observer,
    /// Who takes part, by its configuration.
    pub file: Mutex<Vec<OriginId>>,
    /// The orders that outlive a process, and the desk of the one that runs, or the last one.
    pub book: MemoryBook,
    pub desk: Mutex<Arc<SnapshotDesk>>,
    /// Roles that stopped for a reason that is expected, and that somebody has to see to.
    pub stopped: Mutex<Vec<&'static str>>,
    /// The rows that were there before its topic began: payload, and the row's name.
    pub existed: Mutex<BTreeMap<String, String>>,
}

impl Node {
    /// As a process that starts reads its configuration.
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.file.lock().unwrap().clone(), &self.origin).expect("no node leaves itself out")
    }

    /// The desk of a process that starts.
    pub fn open_desk(&self) -> Arc<SnapshotDesk> {
        let desk = SnapshotDesk::open(Box::new(self.book.clone()), self.clock.clone()).expect("a book in memory can be read");
        let desk = Arc::new(desk);
        *self.desk.lock().unwrap() = desk.clone();
        desk
    }
}

pub struct World {
    pub scenario: Scenario,
    pub cluster: Vec<OriginId>,
    pub nodes: Vec<Node>,
    pub topics: MemoryTopics,
    pub table: TableName,
    /// Of all tables, the one that refers to no other first.
    pub shapes: Vec<Arc<Shape>>,
    /// What retention took from the front of the topics, for checkers.
    pub gone: Mutex<BTreeMap<OriginId, Vec<Record>>>,
    /// Per seeding that was begun: where the topics ended by then.
    pub skipped: Mutex<Vec<(u64, BTreeMap<OriginId, Offset>)>>,
    /// Reasons for which a role stopped for good: none may.
    pub halts: Mutex<Vec<String>>,
    pub met: Mutex<Met>,
}

/// Wall clock of a node: virtual time, wrong by some seconds.
pub struct OffsetClock {
    start: Instant,
    offset_seconds: i64,
}

impl Clock for OffsetClock {
    fn now_micros(&self) -> u64 {
        let now = 1_700_000_000_000_000 + self.start.elapsed().as_micros() as i64 + self.offset_seconds * 1_000_000;
        now as u64
    }
}

/// Where the index spills: a file, in service.
#[derive(Default)]
pub struct Drawer(BTreeMap<Fingerprint, Entry>);

impl Overflow for Drawer {
    fn put(&mut self, entries: &[(Fingerprint, Entry)]) -> Result<(), OverflowError> {
        self.0.extend(entries.iter().copied());
        Ok(())
    }

    fn get(&self, row: Fingerprint) -> Result<Option<Entry>, OverflowError> {
        Ok(self.0.get(&row).copied())
    }

    fn remove(&mut self, row: Fingerprint) -> Result<(), OverflowError> {
        self.0.remove(&row);
        Ok(())
    }

    fn forget(&mut self, node: NodeRank, before: Offset) -> Result<u64, OverflowError> {
        let held = self.0.len();
        self.0.retain(|_, entry| entry.version.node != node || entry.offset >= before);
        Ok((held - self.0.len()) as u64)
    }
}

pub struct Feed(pub Arc<LocalFeed>);

impl Follower for Feed {
    fn resumed(&self, end: Offset) {
        self.0.resumed(end);
    }

    fn published(&self, first: Offset, records: &[Record]) {
        self.0.published(first, records);
    }

    fn passed(&self, position: &GtidPosition) {
        self.0.passed(position);
    }
}

/// Runs a scenario to its end and checks it.
pub fn run(scenario: &Scenario) -> Result<Run, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new(scenario.clone()));
        let lived = world.live().await;
        let sites: Vec<Site> = world.nodes.iter().map(|node| world.site(node)).collect();
        oracle::tell_stories(&sites);
        lived?;
        world.count_conflicts();
        if let Some(letter) = world.nodes.iter().flat_map(|node| node.database.dead_letters()).next() {
            return Err(format!("a change of {} was set aside: {}", letter.origin, letter.reason));
        }
        let references: Vec<Reference> = world.references().collect();
        world.asks_tell_what_was_skipped()?;
        check_with(&sites, &references)?;
        let logs: Vec<_> = world.nodes.iter().map(|node| node.database.rows(&keyless::log().table)).collect();
        let (changed, equal) = keyless::check(&sites, &logs)?;
        let topics: Vec<Vec<Record>> = world.nodes.iter().map(|node| world.history(&node.origin)).collect();
        let mut met = *world.met.lock().unwrap();
        (met.keyless_changed, met.keyless_equal) = (changed, equal);
        met.forgotten = world.gone.lock().unwrap().values().map(Vec::len).sum();
        met.unpublished = sites.iter().map(|site| oracle::Unpublished::of(site).gtids.len()).sum();
        met.nobodys = topics.iter().map(|topic| oracle::nobodys(topic).len()).sum();
        met.existing_rows = topics.iter().flatten().filter(|record| record.is_existing_row()).count();
        if scenario.buffer_bytes == 1 {
            met.large = topics.iter().flatten().filter(|record| record.last && record.row > 0).count();
        }
        Ok(Run { met, topics })
    })
}

fn shape(name: &str, columns: &[&str]) -> Arc<Shape> {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Unknown, generated: false };
    let table = TableName::new("campus", name);
    Arc::new(Shape { table, columns: columns.iter().map(column).collect(), key: vec![0] })
}

/// The table that all refer to: a row has a name, a payload that no other write has, and a seat.
pub fn riders() -> Arc<Shape> {
    shape("riders", &["name", "payload", "seat"])
}

const REFERENCE: [ConflictKind; 2] = [ConflictKind::StillReferred, ConflictKind::ParentDeleted];

impl World {
    fn new(scenario: Scenario) -> Self {
        let cluster: Vec<_> = (0..scenario.nodes).map(|number| OriginId::new(&format!("node-{number}"))).collect();
        let children = CHILDREN.iter().take(scenario.refers.len()).map(|name| shape(name, &CHILD_COLUMNS));
        let shapes: Vec<_> = std::iter::once(riders()).chain(children).collect();
        let table = shapes[0].table.clone();
        let unique = scenario.unique.then(|| ("seat".into(), 2));
        let start = Instant::now();
        let node = |number: usize| {
            let seed = scenario.seed.wrapping_mul(31).wrapping_add(number as u64);
            let clock = Arc::new(OffsetClock { start, offset_seconds: scenario.clock_offsets[number] });
            let binlog = MemoryBinlog::default();
            let commits: Arc<Mutex<Vec<CommittedTransaction>>> = Arc::default();
            let on_commit = {
                let (binlog, commits) = (binlog.clone(), commits.clone());
                Arc::new(move |commit: CommittedTransaction| {
                    let header = TransactionHeader {
                        gtid: commit.gtid,
                        commit_second: commit.commit_second,
                        server_id: commit.gtid.server,
                        coordinates: existing::coordinates(commit.gtid.sequence),
                        read_from: None,
                    };
                    let ddl = emptied::statement(&commit);
                    binlog.append(MemoryTransaction { header, changes: commit.changes.clone(), ddl });
                    commits.lock().unwrap().push(commit);
                })
            };
            let database_clock = clock.clone();
            let options = MemoryOptions {
                server_id: number as u32 + 1,
                clock: Arc::new(move || database_clock.now_seconds()),
                on_commit,
                faults: Arc::new(Trouble::new(seed ^ 0xdb, &scenario)),
                lock_wait: Duration::from_secs(1),
            };
            let mut tables = vec![MemoryTable { shape: shapes[0].clone(), unique: unique.clone(), refers: None }];
            tables.extend(shapes.windows(2).zip(scenario.refers).map(|(pair, &on_delete)| MemoryTable {
                shape: pair[1].clone(),
                unique: None,
                refers: Some(MemoryReference { column: 2, to: pair[0].table.clone(), on_delete }),
            }));
            tables.extend(scenario.keyless.then(|| MemoryTable { shape: keyless::log(), unique: None, refers: None }));
            Node {
                origin: cluster[number].clone(),
                floor: Arc::default(),
                database: MemoryTarget::new(tables, options),
                commits,
                binlog,
                weather: Arc::new(SeededWeather::new(seed ^ 0x77, scenario.delay, scenario.loss)),
                existed: Mutex::default(),
                file: Mutex::new(cluster.clone()),
                desk: Mutex::new(Arc::new(SnapshotDesk::open(Box::new(NoBook), clock.clone()).unwrap())),
                book: MemoryBook::default(),
                stopped: Mutex::default(),
                observer: Observer::default(),
                clock,
            }
        };
        let nodes = (0..scenario.nodes).map(node).collect();
        let (halts, met, gone, skipped) = Default::default();
        Self { scenario, cluster, nodes, topics: MemoryTopics::new(), gone, skipped, table, shapes, halts, met }
    }

    fn references(&self) -> impl Iterator<Item = Reference> {
        self.shapes.windows(2).zip(self.scenario.refers).map(|(pair, &on_delete)| Reference {
            column: "parent",
            from: pair[1].table.to_string(),
            to: pair[0].table.to_string(),
            on_delete,
        })
    }

    /// The evidence of one node.
    fn site(&self, node: &Node) -> Site {
        let rows = self.shapes.iter().flat_map(|shape| {
            let rows = node.database.rows(&shape.table).into_iter();
            rows.map(|row| (oracle::row_name(shape, &row), oracle::columns(shape, &row)))
        });
        let rows = rows.collect();
        let conflicts = node.database.conflicts();
        let image = |conflict: &Conflict, side: &Side, lost: bool| {
            let (key, image) = side.row.as_ref()?;
            let unique = conflict.kind == ConflictKind::UniqueTaken;
            Some(Kept { payload: oracle::image_payload(&key.shape, image)?, open: conflict.open, unique, lost })
        };
        let both = |conflict: &Conflict| {
            [(&conflict.winner, false), (&conflict.loser, true)].map(|(side, lost)| image(conflict, side, lost))
        };
        let kept = conflicts.iter().flat_map(both).flatten().collect();
        Site {
            origin: node.origin.clone(),
            binlog: node.commits.lock().unwrap().iter().map(|commit| (commit.gtid, emptied::told(commit))).collect(),
            topic: self.history(&node.origin),
            rows,
            losers: conflicts.into_iter().map(|conflict| (conflict.loser.origin, conflict.loser.hlc)).collect(),
            existed: node.existed.lock().unwrap().clone(),
            kept,
        }
    }

    /// All that was ever in a topic.
    pub fn history(&self, origin: &OriginId) -> Vec<Record> {
        let gone = self.gone.lock().unwrap().get(origin).cloned().unwrap_or_default();
        gone.into_iter().chain(self.topics.records(origin)).collect()
    }

    fn count_conflicts(&self) {
        let mut met = self.met.lock().unwrap();
        for conflict in self.nodes.iter().flat_map(|node| node.database.conflicts()) {
            met.conflicts += 1;
            met.reference_conflicts += usize::from(REFERENCE.contains(&conflict.kind));
            met.unique_conflicts += usize::from(conflict.kind == ConflictKind::UniqueTaken);
            if [&conflict.winner, &conflict.loser].iter().all(|side| side.hlc == Hlc::default()) {
                let unique = conflict.kind == ConflictKind::UniqueTaken;
                met.existing_conflicts += usize::from(!unique);
                met.existing_unique_conflicts += usize::from(unique);
            }
        }
    }

    async fn live(self: &Arc<Self>) -> Result<(), String> {
        if self.scenario.snapshots {
            self.exist(0..self.nodes.len()).await?;
        }
        if self.scenario.seeds == Some(SeedKind::New) {
            self.exist(self.apart()..self.apart() + 1).await?;
        }
        let stop_writing = Instant::now() + self.scenario.writing;
        let writers: Vec<_> = (0..self.nodes.len()).map(|at| tokio::spawn(self.clone().write(at, stop_writing))).collect();
        let keeper = |at: usize| match at == self.apart() {
            true if self.scenario.seeds.is_some() => tokio::spawn(self.clone().keep_seeded(at, stop_writing)),
            true if self.scenario.removes => tokio::spawn(self.clone().keep_leaving(at, stop_writing)),
            _ if self.scenario.removes => tokio::spawn(self.clone().keep_staying(at, stop_writing)),
            _ => tokio::spawn(self.clone().keep(at, stop_writing)),
        };
        let keepers: Vec<_> = (0..self.nodes.len()).map(keeper).collect();
        for writer in writers {
            writer.await.map_err(|error| error.to_string())?;
        }
        if self.scenario.snapshots {
            self.nodes.iter().for_each(|node| self.ask(node));
        }
        let give_up = Instant::now() + Duration::from_secs(1200);
        loop {
            sleep(Duration::from_secs(4)).await;
            if let Some(halt) = self.halts.lock().unwrap().first() {
                return Err(format!("a role stopped: {halt}"));
            }
            if let Some(keeper) = keepers.iter().find(|keeper| keeper.is_finished()) {
                return Err(format!("a node ended by itself: {}", keeper.is_finished()));
            }
            if self.undone().is_empty() {
                break;
            }
            if Instant::now() > give_up {
                return Err(format!(
                    "twenty minutes after the last write the nodes are still not done: {}",
                    self.undone().join("; ")
                ));
            }
        }
        self.stays_quiet().await?;
        keepers.iter().for_each(JoinHandle::abort);
        Ok(())
    }

    /// The application of one node.
    async fn write(self: Arc<Self>, at: usize, until: Instant) {
        let mut dice = Rng::with_seed(self.scenario.seed ^ (at as u64 + 1) << 32);
        let mut number = 0;
        let mut own = OwnRows::new(self.scenario.seed, at);
        // What is there before a node's topic begins is existing data, which a snapshot publishes.
        while self.topics.end(&self.nodes[at].origin) == Offset(0) {
            sleep(Duration::from_millis(100)).await;
        }
        while Instant::now() < until {
            sleep(Duration::from_millis(dice.u64(..900))).await;
            if self.scenario.snapshots && dice.u64(..12) == 0 {
                self.ask(&self.nodes[at]);
            }
            let mut row = |dice: &mut Rng| {
                number += 1;
                // One row may be spelled in several ways: rule 14.
                let name = ["rider", "Rider", "RIDER "][dice.usize(..3)]
                    .replace("er", &format!("er{}", dice.u64(..self.scenario.rows)));
                let seat = if self.scenario.unique && dice.f64() < 0.9 { Value::Int(dice.i64(0..4)) } else { Value::Null };
                vec![Value::text(name), Value::Int((at as i64 + 1) * 1_000_000 + number), seat]
            };
            let table = || self.table.clone();
            if self.scenario.truncates && dice.u64(..8) == 0 {
                let emptied = self.nodes[at].database.local_write(&[LocalWrite::Truncate { table: table() }]).await;
                self.met.lock().unwrap().emptied += usize::from(emptied.is_ok());
                continue;
            }
            let mut writes = Vec::new();
            for _ in 0..if dice.f64() < 0.3 { 3 } else { 1 } {
                if !self.scenario.refers.is_empty() && dice.bool() {
                    let row = row(&mut dice);
                    writes.push(self.write_of_a_child(at, &mut dice, row[1].clone()));
                    continue;
                }
                let row = row(&mut dice);
                let other = vec![Value::text(format!("rider{}", dice.u64(..self.scenario.rows)))];
                writes.push(match dice.u64(..10) {
                    0 | 1 => LocalWrite::Delete { table: table(), key: other },
                    2 => LocalWrite::Update { table: table(), key: other, row },
                    _ => LocalWrite::Put { table: table(), row },
                });
            }
            let now = own.next(self.scenario.keyless, &mut writes);
            // Refused for a taken value or for a lock: the application would tell its user.
            if let Ok(Some(_)) = self.nodes[at].database.local_write(&writes).await {
                own.committed(now);
                self.met.lock().unwrap().writes += 1;
            }
        }
    }

    /// Runs a node's process, kills it now and then, and takes its network away.
    async fn keep(self: Arc<Self>, at: usize, until: Instant) {
        let mut dice = Rng::with_seed(self.scenario.seed ^ (at as u64 + 1) << 40);
        loop {
            let process = Process::start(&self, at, dice.u64(..));
            let left = until.saturating_duration_since(Instant::now());
            if !self.scenario.crashes || left.is_zero() {
                self.nodes[at].weather.set_offline(false);
                // Until the world ends; a panic of a role is passed on.
                process.ended().await;
                return;
            }
            sleep(left.mul_f64(dice.f64())).await;
            if dice.f64() < 0.3 {
                self.nodes[at].weather.set_offline(true);
                sleep(Duration::from_millis(dice.u64(..8000))).await;
                self.nodes[at].weather.set_offline(false);
            }
            self.met.lock().unwrap().crashes += 1;
            drop(process);
            sleep(Duration::from_millis(dice.u64(..2000))).await;
        }
    }
}
