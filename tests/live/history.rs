//! Histories that break: each way in which a binlog or a topic can stop being what it was, twenty times with another state,
//! and never in silence. `cargo test --test live history -- --nocapture` prints the counts.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tandem::apply::{Applier, ApplyError, ApplyOptions, LocalFeed, NoNotes};
use tandem::change::{Cluster, GtidPosition, Offset, OriginId, Record, TableFilter, TablePattern};
use tandem::observe::Observer;
use tandem::runtime::{Clock, Disposition, Fault as _, Shutdown, SystemClock};
use tandem::source::Source as _;
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::state::{IndexFile, PublishedFile};
use tandem::tail::{Follower, TailError, TailOptions, Tailer};
use tandem::target::Target as _;
use tandem::target::mariadb::{MariadbOptions, MariadbTarget};
use tandem::topic::TopicReader as _;
use tandem::topic::hub::{HubReader, HubStore, HubWriter, StoreOptions};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::harness::{HubKeeper, PrivateServer, ServerOptions, wait_for};
use crate::rig::{ORIGIN, Rig, WITHIN};

const ROUNDS: u64 = 20;

/// What became of a tailer that was started after the break.
enum Outcome {
    Halted(TailError),
    /// It read to the end of the binlog as if nothing had been.
    Silent,
}

/// A topic of its own in a store of its own, and the tailer's memory of it.
struct Round {
    random: fastrand::Rng,
    folder: TempDir,
    store: Option<HubStore>,
    /// The last record before the break is a heartbeat.
    heartbeat_last: bool,
    no_history_check: bool,
}

struct Passed(watch::Sender<GtidPosition>);

impl Follower for Passed {
    fn resumed(&self, _: Offset) {}

    fn published(&self, _: Offset, _: &[Record]) {}

    fn passed(&self, position: &GtidPosition) {
        self.0.send_replace(position.clone());
    }
}

fn origin() -> OriginId {
    OriginId::new(ORIGIN)
}

fn filter() -> TableFilter {
    let pattern = |text: &str| TablePattern::parse(text).unwrap();
    TableFilter { include: vec![pattern("campus.*")], exclude: vec![pattern("campus.log")] }
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let folder = tempfile::Builder::new().prefix("tandem-history-").tempdir().unwrap();
        let store = Some(HubStore::open(&StoreOptions::new(folder.path().join("hub"))).unwrap());
        Self { heartbeat_last: random.bool(), random, folder, store, no_history_check: false }
    }

    fn store(&self) -> HubStore {
        self.store.clone().expect("only a test that replaces it takes it")
    }

    fn source(&self, server: &PrivateServer) -> BinlogSource {
        let mut options = BinlogOptions::new(server.account_opts(), 1101, filter());
        options.heartbeat = Duration::from_millis(50);
        options.hold_dir = self.folder.path().to_owned();
        BinlogSource::new(options)
    }

    /// Tails until everything that the server has is passed, or until it stops by itself.
    async fn tail(&self, server: &PrivateServer) -> Outcome {
        let end = self.source(server).position().await.expect("the server answers");
        let (told, mut passed) = watch::channel(GtidPosition::start());
        let mut options = TailOptions::new(origin(), filter());
        options.ablation.no_history_check = self.no_history_check;
        if self.heartbeat_last {
            options.heartbeat_idle = Duration::from_millis(1);
        }
        let floor = PublishedFile::open(self.folder.path()).expect("a temporary folder can be written to");
        let tailer = Tailer {
            options,
            source: Arc::new(self.source(server)),
            writer: Box::new(HubWriter::new(Arc::new(self.store()), origin())),
            follower: Arc::new(Passed(told)),
            floor: Arc::new(floor),
            clock: Arc::new(SystemClock),
            observer: Observer::default(),
            snapshots: None,
            rereads: Arc::default(),
        };
        let shutdown = Shutdown::new();
        let running = tokio::spawn(tailer.run(shutdown.clone()));
        // Ends too when the tailer has, because it drops the other end.
        let all = tokio::time::timeout(WITHIN, passed.wait_for(|position| !end.is_start() && position.covers_all(&end)));
        let all = all.await.expect("the tailer reads to the end or stops").is_ok();
        if all && self.heartbeat_last {
            let reader = HubReader::new(Arc::new(self.store()));
            wait_for("a heartbeat", WITHIN, async || {
                let last = reader.extent(&origin()).await.unwrap().last;
                running.is_finished() || last.is_some_and(|last| last.is_heartbeat() && last.position.covers_all(&end))
            })
            .await;
        }
        shutdown.cancel();
        match running.await.unwrap() {
            Ok(()) => Outcome::Silent,
            Err(error) => {
                assert_eq!(error.disposition(), Disposition::Halt, "{error}");
                Outcome::Halted(error)
            }
        }
    }

    /// Some transactions, the last of them of a random kind. `salt` makes rows of the same size different.
    async fn write(&mut self, server: &PrivateServer, transactions: u64, salt: char) {
        let mut sql = String::new();
        for n in 0..transactions {
            let name: String = std::iter::repeat_n(salt, self.random.usize(1..60)).collect();
            let id = self.random.u64(1..1_000_000);
            // What publishes nothing is told by the next heartbeat; before that it was not promised to anybody.
            let quiet = self.heartbeat_last && n + 1 == transactions;
            sql += &match if quiet { self.random.u8(0..5) } else { 0 } {
                0..=2 => format!("REPLACE INTO campus.riders VALUES ({id}, '{name}');"),
                3 => format!("REPLACE INTO campus.log VALUES ({id}, '{name}');"),
                _ => format!("ALTER TABLE campus.riders COMMENT '{name}';"),
            };
        }
        if transactions > 0 {
            server.query(&sql).await;
        }
    }

    fn end(&self) -> impl Future<Output = Offset> {
        let reader = HubReader::new(Arc::new(self.store()));
        async move { reader.extent(&origin()).await.unwrap().end }
    }
}

async fn prepared(options: ServerOptions) -> PrivateServer {
    let server = PrivateServer::start(options).await;
    schema(&server).await;
    server
}

async fn schema(server: &PrivateServer) {
    server
        .query(
            "CREATE DATABASE IF NOT EXISTS campus; CREATE TABLE IF NOT EXISTS campus.riders (id INT PRIMARY KEY, name \
             VARCHAR(200)); CREATE TABLE IF NOT EXISTS campus.log (id INT PRIMARY KEY, name VARCHAR(200))",
        )
        .await;
}

/// Until the server's clock shows another second: the binlog knows no finer time.
async fn next_second(server: &PrivateServer) {
    let second = async || server.first::<u64>("SELECT UNIX_TIMESTAMP()").await.unwrap();
    let begun = second().await;
    wait_for("the next second", WITHIN, async || second().await > begun).await;
}

/// One kind of break, [`ROUNDS`] times: publishes something, breaks the history, and counts who noticed.
async fn broken(
    what: &str,
    server: &mut PrivateServer,
    expected: &[&str],
    mut break_it: impl AsyncFnMut(&mut Round, &mut PrivateServer),
) {
    let mut silent = 0;
    for seed in 0..ROUNDS {
        let mut round = Round::new(seed);
        // A new topic begins now; something must be passed before it can be known again.
        assert!(matches!(round.tail(server).await, Outcome::Silent));
        let transactions = round.random.u64(1..20);
        round.write(server, transactions, 'a').await;
        assert!(matches!(round.tail(server).await, Outcome::Silent), "{what}, seed {seed}: an unbroken history goes on");
        break_it(&mut round, server).await;
        let before = round.end().await;
        match round.tail(server).await {
            Outcome::Silent => {
                silent += 1;
                eprintln!("{what}: silent with seed {seed}");
            }
            Outcome::Halted(error) => {
                let said = format!("{error} — {}", error.hint().unwrap_or_default());
                assert!(expected.iter().any(|part| said.contains(part)), "{what}, seed {seed}: {said}");
                assert!(error.hint().is_some(), "{what}, seed {seed}: {said}");
                assert_eq!(round.end().await, before, "{what}, seed {seed}: nothing is published of another history");
            }
        }
    }
    eprintln!("{what}: {ROUNDS} times, {silent} silent");
    assert_eq!(silent, 0, "{what}");
}

const REPLACED: &str = "is not the one that was published";
const NOT_THERE: &str = "is not in the server's binlog";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_binlog_is_never_passed_over() {
    let mut server = prepared(ServerOptions::node(1)).await;
    broken("binlog purged", &mut server, &["no longer has its binlog after"], async |round, server| {
        for _ in 0..round.random.u64(1..4) {
            let transactions = round.random.u64(1..5);
            round.write(server, transactions, 'b').await;
            server.query("FLUSH BINARY LOGS").await;
        }
        let transactions = round.random.u64(0..5);
        round.write(server, transactions, 'c').await;
        let newest: String = server.rows::<(String, u64)>("SHOW BINARY LOGS").await.pop().unwrap().0;
        // The server keeps a file until its storage engines no longer need it.
        wait_for("the purge", WITHIN, async || {
            server.query(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
            server.rows::<(String, u64)>("SHOW BINARY LOGS").await.len() == 1
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_binlog_is_never_taken_for_the_old_one() {
    let mut server = prepared(ServerOptions::node(1)).await;
    broken("RESET MASTER", &mut server, &[REPLACED, NOT_THERE], async |round, server| {
        let before = server.first::<String>("SELECT @@gtid_binlog_pos").await.unwrap();
        let sequence: u64 = before.rsplit('-').next().unwrap().parse().unwrap();
        next_second(server).await;
        server.query("RESET MASTER").await;
        // Shorter than before, as long, and longer: the last two give the same GTIDs again.
        let transactions = match round.random.u8(0..4) {
            0 => round.random.u64(0..=sequence),
            1 => sequence,
            _ => sequence + round.random.u64(1..20),
        };
        round.write(server, transactions, 'b').await;
    })
    .await;
}

/// Puts the end of the binlog back to where it was some transactions ago, as the loss of power does without sync_binlog.
async fn lose_the_end(round: &mut Round, server: &mut PrivateServer) {
    let logs: Vec<(String, u64)> = server.rows("SHOW BINARY LOGS").await;
    let (newest, _) = logs.last().unwrap().clone();
    // Ends of transactions: what stands before a GTID event.
    let events: Vec<(String, u64, String, u32, u64, String)> = server.rows(&format!("SHOW BINLOG EVENTS IN '{newest}'")).await;
    let begins: Vec<u64> = events.iter().filter(|event| event.2 == "Gtid").map(|event| event.1).collect();
    let lost = round.random.usize(1..=begins.len().min(6));
    let at = begins[begins.len() - lost];
    next_second(server).await;
    server.kill9();
    let file = fs::File::options().write(true).open(server.data_dir().join(&newest)).unwrap();
    file.set_len(at).unwrap();
    drop(file);
    server.restart().await;
    let transactions = lost as u64 + round.random.u64(0..6);
    round.write(server, transactions, 'b').await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gtid_that_is_given_again_after_a_crash_is_noticed() {
    let mut server = prepared(ServerOptions::node(1)).await;
    broken("GTID given again after a crash", &mut server, &[REPLACED, NOT_THERE], lose_the_end).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_check_a_gtid_given_again_goes_unnoticed() {
    let mut server = prepared(ServerOptions::node(1)).await;
    let mut silent = 0;
    for seed in 0..3 {
        let mut round = Round::new(seed);
        round.no_history_check = true;
        assert!(matches!(round.tail(&server).await, Outcome::Silent));
        round.write(&server, 10, 'a').await;
        assert!(matches!(round.tail(&server).await, Outcome::Silent));
        lose_the_end(&mut round, &mut server).await;
        silent += u64::from(matches!(round.tail(&server).await, Outcome::Silent));
    }
    assert_eq!(silent, 3, "the counts above prove nothing if nothing can be counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_behind_the_same_address_is_noticed() {
    // As on two laptops set up from one image: the same server id, the same domain, the same schema.
    let (mut one, two) = tokio::join!(prepared(ServerOptions::node(1)), prepared(ServerOptions::node(1)));
    let mut other = Some(two);
    broken("another server", &mut one, &[REPLACED, NOT_THERE], async |round, server| {
        let mut two = other.take().expect("it is put back");
        let sequence = async |server: &PrivateServer| {
            let position = server.first::<String>("SELECT @@gtid_binlog_pos").await.unwrap();
            position.rsplit('-').next().unwrap().parse::<u64>().unwrap()
        };
        next_second(server).await;
        let (here, there) = (sequence(server).await, sequence(&two).await);
        // Behind, at the same place, or ahead.
        let goal = here + round.random.u64(0..10);
        let transactions = goal.saturating_sub(there + 2 * u64::from(round.random.bool()));
        round.write(&two, transactions, 'b').await;
        std::mem::swap(server, &mut two);
        other = Some(two);
    })
    .await;
}

/// Copies the hub's folder, which nobody uses meanwhile.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_put_back_from_an_older_copy_is_noticed() {
    let mut server = prepared(ServerOptions::node(1)).await;
    broken("topic rolled back", &mut server, &["before offset", "topic rolled back"], async |round, server| {
        let hub = round.folder.path().join("hub");
        round.store = None;
        // Either a copy from before some of it, or nothing at all.
        let copied = round.random.u8(0..4) > 0;
        let kept = round.folder.path().join("copy");
        if copied {
            copy(&hub, &kept);
        }
        round.store = Some(HubStore::open(&StoreOptions::new(&hub)).unwrap());
        // One that certainly publishes something.
        round.write(server, 3, 'b').await;
        assert!(matches!(round.tail(server).await, Outcome::Silent));
        round.store = None;
        fs::remove_dir_all(&hub).unwrap();
        if copied {
            copy(&kept, &hub);
        }
        round.store = Some(HubStore::open(&StoreOptions::new(&hub)).unwrap());
        let transactions = round.random.u64(0..30);
        round.write(server, transactions, 'c').await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_idled_for_as_long_as_its_binlog_is_kept_goes_on() {
    let server = prepared(ServerOptions::node(1)).await;
    let mut round = Round { heartbeat_last: true, ..Round::new(1) };
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    round.write(&server, 5, 'a').await;
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    server.query("FLUSH BINARY LOGS").await;
    let newest: String = server.rows::<(String, u64)>("SHOW BINARY LOGS").await.pop().unwrap().0;
    wait_for("the purge", WITHIN, async || {
        server.query(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
        server.rows::<(String, u64)>("SHOW BINARY LOGS").await.len() == 1
    })
    .await;
    // Nothing that was not published is gone, so there is nothing to stop for.
    round.write(&server, 2, 'b').await;
    if let Outcome::Halted(error) = round.tail(&server).await {
        panic!("{error}");
    }
}

/// Without names in the binlog, the columns that the row published last had are not known once its table is altered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_can_no_longer_be_read_is_not_compared_and_the_tailer_goes_on_after_it() {
    let server = prepared(ServerOptions { binlog_row_metadata: "NO_LOG", ..ServerOptions::node(1) }).await;
    let round = Round { heartbeat_last: false, ..Round::new(1) };
    next_second(&server).await;
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    server.query("INSERT INTO campus.riders VALUES (1, 'a')").await;
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    let before = round.end().await;
    next_second(&server).await;
    server.query("ALTER TABLE campus.riders ADD COLUMN n INT").await;
    next_second(&server).await;
    server.query("INSERT INTO campus.riders VALUES (2, 'b', 2)").await;
    if let Outcome::Halted(error) = round.tail(&server).await {
        panic!("{error}");
    }
    let reader = HubReader::new(Arc::new(round.store()));
    let records = reader.read(&origin(), before, 1 << 20, Duration::ZERO).await.unwrap();
    let changes: Vec<_> = records.iter().filter_map(|(_, record)| record.change()).collect();
    assert_eq!(changes.len(), 1, "what came after it, and not the row itself once more");
    assert_eq!(changes[0].after.as_ref().unwrap().values().len(), 3);
}

/// The clock of a hub that has moved on for as long as its records are kept.
struct Later(std::sync::atomic::AtomicU64);

impl Clock for Later {
    fn now_micros(&self) -> u64 {
        SystemClock.now_micros() + self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// An applier of another node, which stops by itself or when it has applied everything.
async fn apply(round: &Round, server: &PrivateServer) -> Result<(), ApplyError> {
    let other = OriginId::new("laptop-b");
    let cluster = Cluster::new([origin(), other.clone()], &other).unwrap();
    let url = format!("{}/campus", server.url());
    let target = MariadbTarget::connect(MariadbOptions::new(url, Some(server.password().into()))).await.unwrap();
    let reader = HubReader::new(Arc::new(round.store()));
    let end = reader.extent(&origin()).await.unwrap().end;
    let folder = round.folder.path().join("state");
    let local = Arc::new(LocalFeed::default());
    // Nothing is written there by others, and no tailer is needed to know that.
    local.passed(&"2-2-18446744073709551615".parse().unwrap());
    let mut options = ApplyOptions::new(cluster);
    options.idle_checkpoint = 0;
    let applier = Applier {
        options,
        target: Arc::new(target.clone()),
        reader: Arc::new(reader),
        local,
        overflow: Arc::new(move || Ok(Box::new(IndexFile::create(&folder)?))),
        clock: Arc::new(SystemClock),
        observer: Observer::default(),
        notes: Arc::new(NoNotes),
        again: Arc::default(),
    };
    let shutdown = Shutdown::new();
    let running = tokio::spawn(applier.run(shutdown.clone()));
    wait_for("everything to be applied, or a stop", WITHIN, async || {
        let applied = target.checkpoints().await.unwrap().get(&origin()).is_some_and(|mark| mark.next >= end);
        applied || running.is_finished()
    })
    .await;
    shutdown.cancel();
    running.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_no_longer_kept_stop_who_had_not_applied_them() {
    let (one, two) = tokio::join!(prepared(ServerOptions::node(1)), prepared(ServerOptions::node(2)));
    let mut silent = 0;
    for seed in 0..ROUNDS {
        let mut round = Round { heartbeat_last: false, ..Round::new(seed) };
        let clock = Arc::new(Later(0.into()));
        let hub = StoreOptions { clock: clock.clone(), ..StoreOptions::new(round.folder.path().join("hub")) };
        round.store = None;
        round.store = Some(HubStore::open(&hub).unwrap());
        two.query("DROP DATABASE IF EXISTS tandem").await;
        assert!(matches!(round.tail(&one).await, Outcome::Silent));
        for part in 0..round.random.u64(1..4) {
            let transactions = round.random.u64(1..10);
            round.write(&one, transactions, char::from(b'a' + part as u8)).await;
            assert!(matches!(round.tail(&one).await, Outcome::Silent));
        }
        apply(&round, &two).await.expect("nothing is missing yet");
        let applied = round.end().await;
        // The node is away; meanwhile more is written, and all but the last of it is older than what is kept.
        for _ in 0..round.random.u64(2..5) {
            let transactions = round.random.u64(1..10);
            round.write(&one, transactions, 'x').await;
            assert!(matches!(round.tail(&one).await, Outcome::Silent));
        }
        clock.0.store(31 * 86_400 * 1_000_000, std::sync::atomic::Ordering::Relaxed);
        let reader = HubReader::new(Arc::new(round.store()));
        wait_for("retention", WITHIN, async || reader.extent(&origin()).await.unwrap().first > applied).await;
        match apply(&round, &two).await {
            Ok(()) => silent += 1,
            Err(error) => {
                let said = format!("{error} — {}", error.hint().unwrap_or_default());
                assert_eq!(error.disposition(), Disposition::Halt, "seed {seed}: {said}");
                assert!(said.contains("no longer has offset") && said.contains("tandem reseed"), "seed {seed}: {said}");
            }
        }
    }
    eprintln!("offset gone: {ROUNDS} times, {silent} silent");
    assert_eq!(silent, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_time_from_the_future_is_not_believed_and_the_clock_goes_on_by_one() {
    let server = prepared(ServerOptions::node(1)).await;
    let round = Round { heartbeat_last: false, ..Round::new(0) };
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    server.query("INSERT INTO campus.riders VALUES (1, 'now')").await;
    server.query("SET timestamp = UNIX_TIMESTAMP() + 86400 * 365; INSERT INTO campus.riders VALUES (2, 'in a year')").await;
    server.query("SET timestamp = UNIX_TIMESTAMP() + 30; INSERT INTO campus.riders VALUES (3, 'in half a minute')").await;
    server.query("SET timestamp = 1; INSERT INTO campus.riders VALUES (4, 'long ago')").await;
    server.query("INSERT INTO campus.riders VALUES (5, 'now again')").await;
    assert!(matches!(round.tail(&server).await, Outcome::Silent));
    let reader = HubReader::new(Arc::new(round.store()));
    let records = reader.read(&origin(), Offset(0), 1 << 20, Duration::ZERO).await.unwrap();
    let rows: Vec<&Record> = records.iter().map(|(_, record)| record).filter(|record| record.change().is_some()).collect();
    let now = SystemClock.now_micros();
    assert_eq!(rows.len(), 5);
    let hlc: Vec<u64> = rows.iter().map(|record| record.hlc.0).collect();
    assert!(rows[1].commit_second > now / 1_000_000 + 86_400 * 364, "the binlog does say so");
    assert_eq!(hlc[1], hlc[0] + 1, "not believed");
    assert_eq!(hlc[2], rows[2].commit_second * 1_000_000, "within the limit it is");
    assert_eq!((hlc[3], hlc[4]), (hlc[2] + 1, hlc[2] + 2), "and it never goes back");
    assert!(hlc[4] < now + 60_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_shows_a_broken_history_with_its_remedy_and_stays_stopped() {
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await;
    let mut tailer = rig.tailer("tailer").await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;
    assert!(tailer.node.terminate().await.success());
    next_second(&rig.server).await;
    rig.server.query("RESET MASTER").await;
    for id in 2..20 {
        rig.server.query(&format!("INSERT INTO campus.riders VALUES ({id}, 'Bob')")).await;
    }
    tailer.node.restart();
    let why = tailer.wait_for_role("tailer", "stopped").await;
    assert!(why.contains(REPLACED) && why.contains("docs/operations.md, \"binlog replaced\""), "{why}");
    let status = tailer.status().await.unwrap();
    assert_eq!(status["level"], "stopped");
    assert!(tailer.node.log_text().contains("role stopped until somebody acts"));
    assert_eq!(rig.published_ids().await, [1]);
}
