//! One node, put together: database, topics, and the roles that work between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mysql_async::{Opts, OptsBuilder};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::cloud::{CloudOrders, Feeds};
use super::doctor::NodeSetup;
use super::failed::FailedDesk;
use super::hub::{hub_options, web_identity};
use super::inspect::Inspector;
use super::keeper::DatabaseKeeper;
use super::lease::Seat;
use super::roles::RoleOrders;
use super::room::Room;
use super::snapshots::{Book, DatabaseRows, Desk};
use super::topics::Topics;
use super::weekly::Weekly;
use crate::apply::{AgainDesk, Applier, ApplyOptions, LocalFeed, Policy};
use crate::change::{GtidPosition, Offset, Record, TableFilter};
use crate::config::{self, Config, OwnNode};
use crate::observe::{self, KeptCount, Observer, SeedingView};
use crate::runtime::{Clock, Shutdown, Stop, Supervisor, Switches, SystemClock};
use crate::serve::hub::HubServer;
use crate::serve::{Web, WebOptions};
use crate::source::Source;
use crate::source::binlog::{BinlogOptions, BinlogSource};
use crate::state::{IndexFile, PauseFile, PublishedFile, SnapshotFile, StampFile, VerifyFile};
use crate::tail::{Follower, RereadDesk, SnapshotDesk, Snapshots, TailOptions, Tailer};
use crate::target::mariadb::{Kept, MariadbOptions, MariadbTarget, TableFault};
use crate::target::{ConflictKind, Seeding, Target as _, TargetError};
use crate::topic::hub::HubStore;
use crate::verify::VerifyDesk;

/// What a node can do. All of them by default; `hub` where the configuration says that this node keeps the topics.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Hub,
    Tailer,
    Applier,
    /// Feeds the clouds that the configuration names.
    Cloud,
    Web,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Hub, Self::Tailer, Self::Applier, Self::Cloud, Self::Web];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Tailer => "tailer",
            Self::Applier => "applier",
            Self::Cloud => "cloud",
            Self::Web => "web",
        }
    }
}

/// Roles end within this time after a signal: an apply transaction that waits for locks is the longest of them.
const GRACE: Duration = Duration::from_secs(8);

/// Runs a node until shutdown, or until every role has stopped for good.
pub async fn run_node(config: &Config, own: OwnNode, roles: &[Role], shutdown: Shutdown) -> Result<(), Stop> {
    let roles: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| roles.is_empty() || roles.contains(role))
        .filter(|role| *role != Role::Hub || own.keeps_topics)
        .collect();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let feeds = if roles.contains(&Role::Cloud) { Feeds::new(config, &own)? } else { Feeds::default() };
    let names: Vec<&str> =
        roles.iter().filter(|role| **role != Role::Cloud).map(|role| role.name()).chain(feeds.roles()).collect();
    let observer = Observer::new(&config.cluster, &own.cluster, &names, clock.clone());
    observer.clouds(&feeds.names());
    let mut keeps = None;
    let topics = match config.hub.as_ref().filter(|_| roles.contains(&Role::Hub)) {
        Some(settings) => {
            let options = hub_options(config, settings);
            let store = options.store.clone();
            let cut_off = |_| Stop::halt("opening the topics was cut off", "start tandem again");
            let store = tokio::task::spawn_blocking(move || HubStore::open(&store)).await.map_err(cut_off)??;
            keeps = Some((options, store.clone()));
            Topics::Hub(Arc::new(store))
        }
        None => Topics::reach(own.topics.clone())?,
    };
    let book = Book { file: SnapshotFile::open(&own.state_folder)?, observer: observer.clone() };
    let desk = Arc::new(SnapshotDesk::open(Box::new(book), clock.clone())?);
    let compared = Box::new(VerifyFile::open(&own.state_folder)?);
    let verify = VerifyDesk::open(own.cluster.clone(), desk.clone(), clock.clone(), observer.clone(), compared)?;
    let switches = Switches::open(Box::new(PauseFile::open(&own.state_folder)?), clock.clone())?;
    let node = Arc::new(Node {
        switches: switches.clone(),
        setup: Arc::new(NodeSetup { config: config.clone(), own: own.clone() }),
        cluster: config.cluster.clone(),
        folders: std::iter::once(own.state_folder.clone())
            .chain(config.hub.iter().filter(|_| own.keeps_topics).map(|hub| hub.data.clone()))
            .collect(),
        tables: config.tables.clone(),
        database: Arc::new(Database::new(&own, config.tables.clone())),
        apply: apply_options(config, &own),
        verify_every: config.verify_every,
        verify: Arc::new(verify),
        desk,
        own,
        topics,
        local: Arc::default(),
        again: Arc::default(),
        rereads: Arc::default(),
        clock,
        observer: observer.clone(),
    });
    let mut supervisor = Supervisor::new(Arc::new(observer), shutdown).with_switches(switches);
    if let Some((options, store)) = keeps {
        supervisor.role(Role::Hub.name(), move |shutdown| {
            let (options, store) = (options.clone(), store.clone());
            async move {
                let server = HubServer::over(store, options.listen, options.keys, options.tls.as_ref()).await?;
                let fingerprint = server.fingerprint().map(|fingerprint| fingerprint.to_string());
                observe::hub_starts(&server.address(), &options.store.folder, fingerprint.as_deref());
                Ok(server.run(shutdown).await?)
            }
        });
    }
    if roles.contains(&Role::Tailer) {
        let node = node.clone();
        supervisor.role(Role::Tailer.name(), move |shutdown| node.clone().tail(shutdown));
    } else if roles.contains(&Role::Applier) {
        // The tailer of this node runs elsewhere: what it published is learned from the own topic.
        let node = node.clone();
        supervisor.role("own topic", move |shutdown| node.clone().follow(shutdown));
    }
    if roles.contains(&Role::Applier) {
        let node = node.clone();
        supervisor.role(Role::Applier.name(), move |shutdown| node.clone().apply(shutdown));
    }
    let orders = feeds.orders();
    let rows = Arc::new(DatabaseRows { database: node.database.clone(), tables: node.tables.clone() });
    feeds.start(&mut supervisor, &node.topics, &rows, &node.clock, &node.observer);
    if roles.contains(&Role::Web) {
        let options = WebOptions { listen: config.web.listen, key: config.web_key()?, tls: web_identity(config) };
        supervisor.role(Role::Web.name(), move |shutdown| node.clone().show(options.clone(), orders.clone(), shutdown));
    }
    supervisor.run(GRACE).await
}

/// How often conflicts and dead letters are counted, and looked how far a seeding is.
const COUNT_EVERY: Duration = Duration::from_secs(3);

fn seeding_view(seeding: Seeding) -> SeedingView {
    let left = seeding.tables.len() as u64;
    SeedingView {
        seeder: seeding.seeder.to_string(),
        tables: left,
        tables_left: left,
        rows: seeding.rows,
        removed: seeding.removed,
    }
}

fn kept_count(kept: Kept) -> KeptCount {
    KeptCount { conflicts: kept.conflicts, conflicts_open: kept.conflicts_open, dead_letters: kept.dead_letters }
}

struct Node {
    switches: Switches,
    setup: Arc<NodeSetup>,
    cluster: String,
    own: OwnNode,
    /// Where this node keeps something.
    folders: Vec<PathBuf>,
    tables: TableFilter,
    database: Arc<Database>,
    apply: ApplyOptions,
    verify_every: Option<Duration>,
    desk: Arc<SnapshotDesk>,
    verify: Arc<VerifyDesk>,
    topics: Topics,
    local: Arc<LocalFeed>,
    again: Arc<AgainDesk>,
    rereads: Arc<RereadDesk>,
    clock: Arc<dyn Clock>,
    observer: Observer,
}

impl Node {
    /// Of the processes that run as this node, only one tails.
    async fn tail(self: Arc<Self>, shutdown: Shutdown) -> Result<(), Stop> {
        self.seat(Role::Tailer).hold(self.database.target().await?, &self.observer, &shutdown, self.tail_alone(&shutdown)).await
    }

    async fn apply(self: Arc<Self>, shutdown: Shutdown) -> Result<(), Stop> {
        self.seat(Role::Applier)
            .hold(self.database.target().await?, &self.observer, &shutdown, self.apply_alone(&shutdown))
            .await
    }

    fn seat(&self, role: Role) -> Seat<'_> {
        Seat { cluster: &self.cluster, node: self.own.name().as_str(), role: role.name() }
    }

    async fn tail_alone(&self, shutdown: &Shutdown) -> Result<(), Stop> {
        self.usable().await?;
        let source = self.database.source()?;
        source.preflight().await?;
        let source: Arc<dyn Source> = Arc::new(source);
        let mut options = TailOptions::new(self.own.name().clone(), self.tables.clone());
        options.max_clock_skew = self.apply.max_clock_skew;
        let tailer = Tailer {
            options,
            source,
            writer: self.topics.writer(self.own.name().clone()),
            follower: Arc::new(Feed(self.local.clone())),
            floor: Arc::new(PublishedFile::open(&self.own.state_folder)?),
            clock: self.clock.clone(),
            observer: self.observer.clone(),
            snapshots: Some(Snapshots {
                reader: Arc::new(DatabaseRows { database: self.database.clone(), tables: self.tables.clone() }),
                desk: self.desk.clone(),
            }),
            rereads: self.rereads.clone(),
        };
        Ok(tailer.run(shutdown.clone()).await?)
    }

    async fn apply_alone(&self, shutdown: &Shutdown) -> Result<(), Stop> {
        let target = self.usable().await?;
        let folder = self.own.state_folder.clone();
        let applier = Applier {
            options: self.apply.clone(),
            target: Arc::new(target),
            reader: self.topics.reader(),
            local: self.local.clone(),
            overflow: Arc::new(move || Ok(Box::new(IndexFile::create(&folder)?))),
            clock: self.clock.clone(),
            observer: self.observer.clone(),
            notes: self.verify.clone(),
            again: self.again.clone(),
        };
        Ok(applier.run(shutdown.clone()).await?)
    }

    /// The database, looked at before any work starts.
    async fn usable(&self) -> Result<MariadbTarget, Stop> {
        let target = self.database.usable().await?;
        let kinds = ConflictKind::ALL.map(ConflictKind::word);
        self.observer.synced_tables(&target.captured(&self.tables).await?, &kinds);
        Ok(target)
    }

    /// Serves the pages and the API, and counts what waits for people.
    async fn show(self: Arc<Self>, options: WebOptions, orders: CloudOrders, shutdown: Shutdown) -> Result<(), Stop> {
        let keeper = Arc::new(DatabaseKeeper { database: self.database.clone(), tables: self.tables.clone() });
        let desk = Arc::new(Desk {
            desk: self.desk.clone(),
            verify: self.verify.clone(),
            database: self.database.clone(),
            tables: self.tables.clone(),
        });
        let web = Web::bind(options, self.observer.clone(), keeper, desk.clone()).await?;
        let roles = RoleOrders { switches: self.switches.clone(), rereads: self.rereads.clone(), again: self.again.clone() };
        let failed = FailedDesk { database: self.database.clone(), again: self.again.clone() };
        let web = web.with_clouds(Arc::new(orders)).with_roles(Arc::new(roles)).with_failed(Arc::new(failed));
        let inspector = Inspector {
            database: self.database.clone(),
            topics: self.topics.clone(),
            tables: self.tables.clone(),
            own: self.own.name().clone(),
            nodes: self.own.cluster.ranks().map(|rank| self.own.cluster.name(rank).clone()).collect(),
        };
        let web = web.with_setup(self.setup.clone()).with_inspect(Arc::new(inspector));
        let weekly = async {
            let Some(every) = self.verify_every else { return std::future::pending().await };
            let (stamp, clock) = (StampFile::new(&self.own.state_folder, "verified"), self.clock.clone());
            Weekly { desk: desk.clone(), every, stamp, clock, observer: self.observer.clone() }.run().await
        };
        let counting = async {
            loop {
                // An unreachable database is shown by the roles that need it; the last counts stay meanwhile.
                if let Ok(target) = self.database.target().await
                    && let Ok(kept) = target.kept(self.own.name()).await
                {
                    self.observer.kept(kept.into_iter().map(|(origin, kept)| (origin, kept_count(kept))));
                    for (table, values) in target.take_left_out() {
                        self.observer.left_out(&table, values);
                    }
                    if let Ok(seeding) = target.seeding().await {
                        self.observer.seeding(seeding.filter(Seeding::is_open).map(seeding_view));
                    }
                    if let Ok((statements, changes)) = target.schema_counts().await {
                        self.observer.schema_waits(statements, changes);
                    }
                }
                sleep(COUNT_EVERY).await;
            }
        };
        let room = Room {
            database: self.database.clone(),
            topics: self.topics.clone(),
            own: self.own.name().clone(),
            folders: self.folders.clone(),
            clock: self.clock.clone(),
            observer: self.observer.clone(),
        };
        tokio::select! {
            served = web.run(shutdown) => Ok(served?),
            never = room.watch() => match never {},
            () = counting => Ok(()),
            () = weekly => Ok(()),
        }
    }

    /// Feeds the applier from the own topic instead of from a tailer in this process.
    async fn follow(self: Arc<Self>, shutdown: Shutdown) -> Result<(), Stop> {
        const BYTES: usize = 4 << 20;
        const WAIT: Duration = Duration::from_secs(20);
        let reader = self.topics.reader();
        let extent = reader.extent(self.own.name()).await?;
        self.local.resumed(extent.end);
        if let Some(last) = &extent.last {
            self.local.passed(&last.position);
        }
        let mut next = extent.end;
        loop {
            let batch = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                batch = reader.read(self.own.name(), next, BYTES, WAIT) => batch?,
            };
            let Some((first, _)) = batch.first() else { continue };
            let first = *first;
            next = Offset(first.0 + batch.len() as u64);
            let records: Vec<Record> = batch.into_iter().map(|(_, record)| record).collect();
            self.local.published(first, &records);
            if let Some(record) = records.iter().rfind(|record| record.last) {
                self.local.passed(&record.position);
            }
        }
    }
}

/// The node's own database, reached when it is needed first.
pub struct Database {
    url: String,
    place: String,
    own: OwnNode,
    tables: TableFilter,
    target: OnceCell<MariadbTarget>,
}

impl Database {
    pub fn new(own: &OwnNode, tables: TableFilter) -> Self {
        let place = format!("{}:{}", own.database.host, own.database.port);
        Self { url: own.database.to_string(), place, own: own.clone(), tables, target: OnceCell::new() }
    }

    fn options(&self) -> MariadbOptions {
        MariadbOptions::new(self.url.clone(), Some(self.own.password.clone()))
    }

    /// The database, looked at without making anything there.
    pub async fn look(&self) -> Result<MariadbTarget, TargetError> {
        MariadbTarget::look(self.options()).await
    }

    /// Where it is, without credentials.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub async fn target(&self) -> Result<&MariadbTarget, TargetError> {
        let connect = || MariadbTarget::connect(self.options());
        self.target.get_or_try_init(connect).await
    }

    /// The database, where every captured table can be synced; else a halt that names all that cannot.
    async fn usable(&self) -> Result<MariadbTarget, Stop> {
        let target = self.target().await?;
        let faults = target.table_faults(&self.tables).await?;
        match &*faults {
            [] => Ok(target.clone()),
            faults => Err(tables_refused(faults)),
        }
    }

    pub fn source(&self) -> Result<BinlogSource, Stop> {
        self.source_as(self.own.replica_id)
    }

    /// Registered under another number than the tailer's, so that neither is thrown out for the other.
    pub fn source_as(&self, replica_id: u32) -> Result<BinlogSource, Stop> {
        let bad = |_| Stop::halt(format!("`{}` is not an address of a database", self.url), "mend `database` of this node");
        let opts = OptsBuilder::from_opts(Opts::from_url(&self.url).map_err(bad)?);
        let opts = opts.pass(Some(self.own.password.expose_secret()));
        let mut options = BinlogOptions::new(opts.into(), replica_id, self.tables.clone());
        options.hold_dir = self.own.state_folder.clone();
        Ok(BinlogSource::new(options))
    }
}

/// Lines in one message: a schema may have hundreds of tables.
const FAULTS_SHOWN: usize = 10;

fn tables_refused(faults: &[TableFault]) -> Stop {
    let line = |fault: &TableFault| format!("{}: {} ({})", fault.table, fault.reason, fault.remedy);
    let mut lines: Vec<String> = faults.iter().take(FAULTS_SHOWN).map(line).collect();
    if faults.len() > FAULTS_SHOWN {
        lines.push(format!("and {} more", faults.len() - FAULTS_SHOWN));
    }
    let tables = if faults.len() == 1 { "a table" } else { "tables" };
    Stop::halt(format!("{tables} that cannot be synced: {}", lines.join("; ")), "mend or exclude them, then restart")
}

fn apply_options(config: &Config, own: &OwnNode) -> ApplyOptions {
    let mut options = ApplyOptions::new(own.cluster.clone());
    options.default_policy = policy(&config.conflicts.default);
    options.policies = config.conflicts.tables.iter().map(|(tables, own)| (tables.clone(), policy(own))).collect();
    options.clocks = config.conflicts.clocks.clone();
    options.ddl = config.ddl;
    options.group_changes = config.limits.group_rows;
    options.group_bytes = config.limits.group_bytes;
    options.index_rows = config.limits.index_rows;
    options.max_clock_skew = config.limits.max_clock_skew;
    options
}

fn policy(policy: &config::Policy) -> Policy {
    match policy {
        config::Policy::NewestWins => Policy::NewestWins,
        config::Policy::Prefer(nodes) => Policy::Prefer(nodes.clone()),
        config::Policy::Manual => Policy::Manual,
    }
}

/// Tells the applier what the tailer of the same process made durable. The two rooms do not know each other.
struct Feed(Arc<LocalFeed>);

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
