//! One function per fact: the log line and the metric of it, and the status that people see.
//!
//! Rooms say what happened; this room alone decides how it is logged and counted. Text of log lines is lower case and
//! constant, values are fields; nothing above DEBUG is logged per row or batch, and repetitions are thinned out. No function
//! here fails or waits, and none is given row values, save the keys of rows: these go to the [`activity`] that people look at,
//! and into no log line and no metric.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{debug, error, info, warn};

use crate::change::{Change, Cluster, Offset, Op, OriginId, Record, Seen, TableName};
use crate::runtime::{Clock, RoleState, RoleWatch, Stop, SystemClock};

mod activity;
mod asked;
mod board;
mod cloud;
mod kept;
mod log;
mod metrics;
mod outgoing;
mod places;
mod status;
mod throttle;
mod words;

pub use activity::{ACTIVITY_MAX, ActivitySearch, ActivityView, Became, Followed};
pub use asked::{
    AgainView, AskWish, AskedView, DIFFERENCES_MAX, DifferenceView, OrderedRole, SchemaView, SeedingView, SnapshotTableView,
    SnapshotView, SnapshotWish, VerifyPartView, VerifyView, VerifyWish,
};
pub use cloud::{CloudCounts, CloudFile, CloudOutcome, CloudProblem, CloudReport, CloudState, CloudStatus, CloudSummary};
pub use kept::{ConflictView, FailedView, FailedWish, RetriedView, SideView, TableView, remedy};
pub use log::{LogFormat, recent_log, start_log};
pub use places::{PositionView, SearchedView, TopicPlaceView, VersionView, WhereView, WhereWish};
pub use status::{Level, LinkState, LinkStatus, RoleStatus, Status, TableStatus, TailerStatus};
pub use words::{spoken_count, spoken_duration, spoken_time};

use activity::Activity;
use board::{Board, Role, TABLES_MAX};
use metrics::Metrics;
use throttle::Throttle;

/// Where a node's facts go. Cheap to clone; one per node.
#[derive(Clone)]
pub struct Observer(Arc<Facts>);

struct Facts {
    identity: Identity,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    throttle: Throttle,
    board: Mutex<Board>,
    /// Apart from the board, because a search takes longer than a count.
    activity: Mutex<Activity>,
}

struct Identity {
    cluster: String,
    node: OriginId,
    others: Vec<OriginId>,
    started_second: u64,
}

/// What became of a change that the applier took.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    Applied,
    LostToNewer,
    Duplicate,
    SetAside,
    /// Waits behind a statement that defines its table.
    Held,
}

impl Fate {
    pub const ALL: [Self; 5] = [Self::Applied, Self::LostToNewer, Self::Duplicate, Self::SetAside, Self::Held];

    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::LostToNewer => "lost_to_newer",
            Self::Duplicate => "duplicate",
            Self::SetAside => "set_aside",
            Self::Held => "held",
        }
    }
}

/// The rules by which the tailer keeps a change to itself.
const FILTER_REASONS: [&str; 4] = ["echo", "table", "own", "ddl"];

/// What a node's database keeps for people to look at, of one origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeptCount {
    /// All kept, open or settled.
    pub conflicts: u64,
    pub conflicts_open: u64,
    pub dead_letters: u64,
}

impl Default for Observer {
    /// Of a node by itself, for rooms that are tried alone.
    fn default() -> Self {
        let node = OriginId::new("node");
        let cluster = Cluster::new([node.clone()], &node).expect("the one node is in it once");
        Self::new("tandem", &cluster, &[], Arc::new(SystemClock))
    }
}

impl Observer {
    /// `roles` are those that this process will run: they are shown as waiting until they start.
    pub fn new(cluster_name: &str, cluster: &Cluster, roles: &[&str], clock: Arc<dyn Clock>) -> Self {
        let started_second = clock.now_seconds();
        let others: Vec<OriginId> = cluster.others().map(|rank| cluster.name(rank).clone()).collect();
        let other_names: Vec<&str> = others.iter().map(OriginId::as_str).collect();
        let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), cluster.own().as_str(), &other_names, roles, started_second);
        let mut board = Board::default();
        board.roles.extend(roles.iter().map(|&role| (role.into(), Role::new(started_second))));
        others.iter().for_each(|origin| {
            board.link(origin);
        });
        board.tailer.filtered.extend(FILTER_REASONS.map(|reason| (reason.to_owned(), 0)));
        let identity = Identity { cluster: cluster_name.to_owned(), node: cluster.own().clone(), others, started_second };
        Self(Arc::new(Facts {
            identity,
            clock,
            metrics,
            throttle: Throttle::default(),
            board: Mutex::new(board),
            activity: Mutex::default(),
        }))
    }

    /// The node as it is now.
    pub fn status(&self) -> Status {
        self.board().picture(&self.0.identity, self.now())
    }

    /// All metrics in Prometheus's text form.
    pub fn metrics_text(&self) -> String {
        let status = self.status();
        let metrics = &self.0.metrics;
        let own = self.0.identity.node.as_str();
        for link in status.links.iter().filter(|link| link.target == own) {
            for state in LinkState::ALL {
                let labels = [link.source.as_str(), own, state.label()];
                metrics.link_state.with_label_values(&labels).set(i64::from(state == link.state));
            }
            // Where nothing was ever applied there is no age to tell; the pending changes tell it.
            metrics.lag_seconds.with_label_values(&[&link.source]).set(link.lag_seconds.unwrap_or(0) as i64);
        }
        metrics.text()
    }

    /// The tables that are synced, as they were found: their metrics begin at 0.
    pub fn synced_tables(&self, tables: &[TableName], conflict_kinds: &[&str]) {
        let Identity { node, others, .. } = &self.0.identity;
        let others: Vec<&str> = others.iter().map(OriginId::as_str).collect();
        let mut board = self.board();
        for table in tables.iter().take(TABLES_MAX) {
            board.table(table);
            self.0.metrics.begin_table(&table.to_string(), node.as_str(), &others, conflict_kinds);
        }
        debug!(tables = tables.len(), "tables to sync found");
    }

    // ---- the tailer ----

    /// Records are durable in the own topic, at `first` and after.
    pub fn published(&self, first: Offset, records: &[Record]) {
        self.0.metrics.topic_appended.inc_by(records.len() as u64);
        let mut board = self.board();
        for (at, record) in records.iter().enumerate() {
            let Some(change) = record.change() else { continue };
            board.outgoing.note(Offset(first.0 + at as u64));
            let counts = board.table(change.table());
            counts.published += 1;
            self.0.metrics.tailer_changes.with_label_values(&[counts.name.as_str(), change.op.word()]).inc();
            board.tailer.published += 1;
        }
        drop(board);
        let followed = records.iter().enumerate().filter_map(|(at, record)| {
            let offset = Offset(first.0 + at as u64);
            Some(Followed::new(record.change()?, Became::Published, Some(offset), record.commit_second))
        });
        self.note(&self.0.identity.node, followed.collect());
        debug!(records = records.len(), "published");
    }

    /// Changes that the tailer read and, by a named rule, does not publish: `echo`, `table`, `own`, `ddl`.
    pub fn filtered(&self, reason: &'static str, changes: u64) {
        self.0.metrics.tailer_filtered.with_label_values(&[reason]).inc_by(changes);
        *self.board().tailer.filtered.entry(reason.to_owned()).or_default() += changes;
    }

    /// A change that the tailer read and does not publish: an echo, or of a table that is not synced.
    pub fn not_published(&self, change: &Change, became: Became, commit_second: u64) {
        let reason = if became == Became::Echo { "echo" } else { "table" };
        self.filtered(reason, 1);
        self.note(&self.0.identity.node, vec![Followed::new(change, became, None, commit_second)]);
    }

    /// The tailer read a transaction committed at this second.
    pub fn tailed(&self, commit_second: u64) {
        self.0.metrics.tailer_last_event.set(commit_second as i64);
        self.board().tailer.last_commit_seconds = Some(commit_second);
    }

    /// A commit time too far ahead of our clock was not believed.
    pub fn clock_not_believed(&self, ahead_seconds: u64) {
        self.0.metrics.tailer_clock_not_believed.inc();
        self.board().tailer.clock_not_believed += 1;
        if let Some(repeated) = self.pass("clock_not_believed", "") {
            warn!(ahead_seconds, repeated, "commit time ahead of this machine's clock, not believed");
        }
    }

    /// The server no longer has what would show that its binlog is the one that was read before.
    pub fn history_not_compared(&self, reason: &str) {
        info!(reason, "binlog not compared with what was published last, goes on after it");
    }

    /// What is published already was read once more, because somebody asked for it.
    pub fn read_again(&self, from: &str, transactions: u64, changes: u64) {
        info!(from, transactions, changes, "binlog read again from an older place, what is published was passed over");
    }

    pub fn tail_connected(&self, connected: bool) {
        let before = std::mem::replace(&mut self.board().tailer.connected, connected);
        self.0.metrics.tailer_connected.set(i64::from(connected));
        match (before, connected) {
            (false, true) => info!("tailer connected"),
            (true, false) => {
                self.0.metrics.tailer_reconnects.inc();
                info!("tailer disconnected");
            }
            _ => {}
        }
    }

    /// The seeding of this node that is under way, if there is one. Of how many tables is what it began with, as far as this process
    /// has seen.
    pub fn seeding(&self, now: Option<SeedingView>) {
        let mut board = self.board();
        let before = board.seeding.as_ref().filter(|before| now.as_ref().is_some_and(|now| now.seeder == before.seeder));
        let tables = before.map_or(0, |before| before.tables);
        board.seeding = now.map(|now| SeedingView { tables: now.tables.max(tables), ..now });
    }

    /// Rows of a snapshot were dealt with.
    pub fn snapshot_rows(&self, rows: u64) {
        self.0.metrics.snapshot_rows.inc_by(rows);
    }

    /// All snapshots that are kept, the oldest first.
    pub fn snapshots(&self, snapshots: Vec<SnapshotView>) {
        let open = snapshots.into_iter().find(SnapshotView::is_open);
        let left =
            |view: &SnapshotView| view.tables.iter().filter(|table| matches!(&*table.state, "waiting" | "running")).count();
        self.0.metrics.snapshot_tables_open.set(open.as_ref().map_or(0, |view| left(view) as i64));
        let before = std::mem::replace(&mut self.board().snapshot, open.clone());
        match (before, open) {
            (None, Some(view)) => info!(snapshot = view.id, tables = view.tables.len(), "snapshot begins"),
            (Some(view), None) => info!(snapshot = view.id, "snapshot ends"),
            _ => {}
        }
    }

    /// The comparison with other nodes that is under way, or the last one.
    pub fn verify(&self, view: VerifyView) {
        let ended = view.ended_seconds;
        let metrics = &self.0.metrics;
        metrics.verify_mismatched.set(view.differing as i64);
        metrics.verify_ended.set(ended.unwrap_or_default() as i64);
        if let Some(VerifyView { number, differing, .. }) = Some(&view).filter(|view| !view.is_open()) {
            let failed = view.failed().count();
            info!(verify = number, differing, failed, "comparison ends");
        }
        self.board().verify = Some(view);
    }

    /// A comparison that begins by itself could not begin now.
    pub fn verify_put_off(&self, reason: &str) {
        if let Some(repeated) = self.pass("verify_put_off", "") {
            info!(reason, repeated, "comparison put off");
        }
    }

    // ---- the applier ----

    /// Something new of this origin was read, so the node lives; and this is what it has seen.
    pub fn heard(&self, origin: &OriginId, seen: &Seen) {
        let now = self.now();
        self.board().link(origin).heard_second = Some(now);
        self.told(origin, seen);
    }

    /// Changes took their way on this node.
    pub fn applied(&self, origin: &OriginId, table: &TableName, op: Op, fate: Fate, changes: u64) {
        let now = self.now();
        let mut board = self.board();
        board.count_applied(origin, table, fate, changes, now);
        let table = &board.table(table).name;
        self.0.metrics.applied_changes.with_label_values(&[origin.as_str(), table, op.word(), fate.label()]).inc_by(changes);
    }

    /// What became of each change, of those that were just counted.
    pub fn followed(&self, origin: &OriginId, followed: Vec<Followed>) {
        self.note(origin, followed);
    }

    /// What became of the newest changes: those that are looked for, the newest first, at most so many.
    pub fn activity(&self, search: &ActivitySearch, at_most: usize) -> Vec<ActivityView> {
        self.0.activity.lock().unwrap_or_else(PoisonError::into_inner).search(search, at_most)
    }

    /// A commit of the applier, with the newest commit time it holds and how long it waited for the local tailer.
    pub fn committed(&self, origin: &OriginId, commit_second: u64, wait_seconds: f64) {
        let now_micros = self.0.clock.now_micros();
        let delay_seconds = (now_micros as f64 / 1e6 - commit_second as f64).max(0.0);
        let source = &[origin.as_str()];
        self.0.metrics.apply_commits.with_label_values(source).inc();
        self.0.metrics.delay_seconds.with_label_values(source).observe(delay_seconds);
        self.0.metrics.apply_wait_seconds.with_label_values(source).observe(wait_seconds);
        self.0.metrics.clock_skew_seconds.with_label_values(source).set(0.0);
        let mut board = self.board();
        let link = board.link(origin);
        link.applied_second = Some(link.applied_second.map_or(commit_second, |before| before.max(commit_second)));
        link.heard_second = Some(now_micros / 1_000_000);
        link.clock_ahead = None;
        debug!(%origin, delay_seconds, wait_seconds, "applied");
    }

    /// Changes of the origin known to wait.
    pub fn pending(&self, origin: &OriginId, changes: u64) {
        self.0.metrics.pending_changes.with_label_values(&[origin.as_str()]).set(changes as i64);
        self.board().link(origin).pending = changes;
    }

    /// The own topic was read from here on, and holds changes at these offsets.
    pub fn own_topic_read(&self, from: Offset, changes: impl IntoIterator<Item = Offset>) {
        let mut board = self.board();
        board.outgoing.known_from(from);
        changes.into_iter().for_each(|offset| board.outgoing.note(offset));
    }

    /// Another node tells what it has seen.
    pub fn told(&self, origin: &OriginId, seen: &Seen) {
        let Identity { node, others, .. } = &self.0.identity;
        self.board().outgoing.tell(origin, seen, node, others);
    }

    /// All rows that the seeder has of a table are here; or they are not, and why.
    pub fn table_seeded(&self, table: &TableName, seeder: &OriginId, failed: Option<&str>) {
        match failed {
            None => info!(%table, %seeder, "table has the rows of the other node"),
            Some(reason) => warn!(%table, %seeder, reason, "table could not be made like that of the other node"),
        }
    }

    /// Another node takes part no longer, and all that it had published is taken.
    pub fn removed(&self, origin: &OriginId, by: &OriginId) {
        let before = {
            let mut board = self.board();
            board.outgoing.remove(origin);
            board.link(origin).removed_by.replace(by.clone())
        };
        if before.is_none() {
            info!(%origin, %by, "node was removed, and all that it published is applied");
        }
    }

    /// Records that the checkpoint already covered.
    pub fn duplicates(&self, origin: &OriginId, records: u64) {
        if records > 0 {
            info!(%origin, records, "records that the checkpoint already covers were skipped");
        }
    }

    /// The applier let go of its locks because the local tailer was behind.
    pub fn waits_for_tailer(&self, origin: &OriginId) {
        self.0.metrics.apply_released.with_label_values(&[origin.as_str(), "tailer_behind"]).inc();
        if let Some(repeated) = self.pass("waits_for_tailer", origin.as_str()) {
            warn!(%origin, repeated, "applier waits for the local tailer");
        }
    }

    /// The applier lost a race for locks and tries again.
    pub fn contended(&self, origin: &OriginId) {
        self.0.metrics.apply_released.with_label_values(&[origin.as_str(), "contended"]).inc();
        if let Some(repeated) = self.pass("contended", origin.as_str()) {
            info!(%origin, repeated, "rows locked by somebody else, tried again");
        }
    }

    /// Whether the origin's topic can be read.
    pub fn link(&self, origin: &OriginId, reachable: bool, reason: Option<&str>) {
        self.0.metrics.topic_reachable.with_label_values(&[origin.as_str()]).set(i64::from(reachable));
        let before = {
            let mut board = self.board();
            let link = board.link(origin);
            link.reason = reason.map(str::to_owned);
            link.reachable.replace(reachable)
        };
        match (before, reachable) {
            (Some(true), true) | (Some(false), false) => {}
            (_, true) => info!(%origin, "topic can be read"),
            (_, false) => info!(%origin, reason, "topic cannot be read, tries again"),
        }
    }

    pub fn conflicts(&self, table: &TableName, kind: &'static str, winner: &OriginId, count: u64) {
        let table = {
            let mut board = self.board();
            let counts = board.table(table);
            counts.conflicts += count;
            counts.name.clone()
        };
        self.0.metrics.conflicts.with_label_values(&[table.as_str(), kind, winner.as_str()]).inc_by(count);
        if let Some(repeated) = self.pass("conflict", &table) {
            warn!(%table, kind, %winner, count, repeated, "conflict settled, both sides kept");
        }
    }

    pub fn dead_letters(&self, origin: &OriginId, table: &TableName, reason: &str, count: u64) {
        let table = self.board().table(table).name.clone();
        self.0.metrics.dead_letters.with_label_values(&[origin.as_str(), &table]).inc_by(count);
        if let Some(repeated) = self.pass("dead_letter", &table) {
            error!(%origin, %table, reason, count, repeated, "change set aside");
        }
    }

    /// A change that was set aside was tried once more.
    pub fn tried_again(&self, origin: &OriginId, table: &TableName, outcome: &'static str) {
        info!(%origin, %table, outcome, "change that was set aside tried again");
    }

    /// The changes of an origin from an older place on were looked at again.
    pub fn looked_again(&self, origin: &OriginId, changes: u64, put_right: u64, not_looked_at: u64) {
        info!(%origin, changes, put_right, not_looked_at, "changes looked at again from an older place");
    }

    /// A record from further in the future than we believe; its origin is held.
    pub fn clock_wrong(&self, origin: &OriginId, ahead_seconds: f64) {
        self.0.metrics.clock_skew_seconds.with_label_values(&[origin.as_str()]).set(ahead_seconds);
        self.board().link(origin).clock_ahead = Some(ahead_seconds);
        if let Some(repeated) = self.pass("clock_wrong", origin.as_str()) {
            error!(%origin, ahead_seconds, repeated, "clock of the node is wrong, its changes are held");
        }
    }

    /// What became of another node's statement that defines tables.
    pub fn schema_change(&self, origin: &OriginId, object: &str, state: &str, remark: Option<&str>) {
        self.0.metrics.schema_changes.with_label_values(&[state]).inc();
        let remark = remark.unwrap_or_default();
        match state {
            "done" | "skipped" | "ignored" => info!(%origin, object, state, remark, "schema change"),
            _ => warn!(%origin, object, state, remark, "a schema change waits: see `tandem ddl list`"),
        }
    }

    /// Values of columns that are no longer here.
    pub fn left_out(&self, table: &TableName, values: u64) {
        let name = self.board().table(table).name.clone();
        self.0.metrics.left_out.with_label_values(&[&name]).inc_by(values);
        if let Some(repeated) = self.pass("left_out", &name) {
            warn!(table = name, values, repeated, "values of columns that are no longer here were left out");
        }
    }

    /// Statements of other nodes that wait, and the changes behind them.
    pub fn schema_waits(&self, statements: u64, changes: u64) {
        self.0.metrics.schema_changes_open.set(statements as i64);
        self.0.metrics.parked_changes.set(changes as i64);
        self.board().schema_open = statements;
    }

    pub fn index_rows(&self, memory: u64, spilled: u64) {
        self.0.metrics.index_rows.set(memory as i64);
        self.0.metrics.index_spilled_rows.set(spilled as i64);
    }

    /// How long the server keeps binlogs (`None`: for ever), and how old what is not published yet may be at most, in seconds.
    pub fn binlog_kept(&self, retention: Option<f64>, waits: f64) {
        let kept = retention.unwrap_or(0.0);
        self.0.metrics.binlog_retention.set(kept);
        // What is past its time is not gone for sure, and may go at any moment.
        self.0.metrics.binlog_headroom.set((kept - waits).max(0.0));
    }

    pub fn disk_free(&self, bytes: u64) {
        self.0.metrics.state_disk_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    // ---- the node ----

    /// Another process of this node has the role; this one waits to take it over.
    pub fn waits_for_lease(&self, role: &str, holder: &str) {
        let now = self.now();
        let reason = format!("another tandem process has this role of {} ({holder})", self.0.identity.node);
        self.0.metrics.role_up.with_label_values(&[role]).set(0);
        let before = {
            let mut board = self.board();
            let record = board.roles.entry(role.into()).or_insert_with(|| Role::new(now));
            record.waits_for.replace(reason)
        };
        if before.is_none() {
            info!(role, holder, "role waits: another tandem process has its lease");
        }
    }

    /// This process is the only one with the role.
    pub fn leased(&self, role: &str) {
        let now = self.now();
        self.0.metrics.role_up.with_label_values(&[role]).set(1);
        let before = {
            let mut board = self.board();
            let record = board.roles.entry(role.into()).or_insert_with(|| Role::new(now));
            record.waits_for.take()
        };
        match before {
            Some(_) => info!(role, "role taken over: its lease is free"),
            None => debug!(role, "role has its lease"),
        }
    }

    /// What the database keeps for people to look at, by the origin it came from, as it was counted just now.
    pub fn kept(&self, counts: impl IntoIterator<Item = (OriginId, KeptCount)>) {
        let counts: std::collections::BTreeMap<_, _> = counts.into_iter().collect();
        let sum = |count: fn(&KeptCount) -> u64| counts.values().map(count).sum::<u64>() as i64;
        self.0.metrics.conflicts_open.set(sum(|count| count.conflicts_open));
        self.0.metrics.dead_letters_open.set(sum(|count| count.dead_letters));
        self.board().kept = Some(counts);
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // A panic elsewhere must not take the status away that would show it.
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, origin: &OriginId, followed: Vec<Followed>) {
        let now = self.now();
        self.0.activity.lock().unwrap_or_else(PoisonError::into_inner).note(origin, now, followed);
    }

    fn now(&self) -> u64 {
        self.0.clock.now_seconds()
    }

    fn pass(&self, what: &'static str, about: &str) -> Option<u64> {
        self.0.throttle.pass(what, about, self.now())
    }
}

/// A hub serves, by itself or in a node. With the fingerprint that the nodes pin, where it encrypts.
pub fn hub_starts(listen: &std::net::SocketAddr, data: &std::path::Path, fingerprint: Option<&str>) {
    info!(%listen, data = %data.display(), fingerprint, "hub starts");
}

/// A receiver serves, with the fingerprint of its certificate where it encrypts.
pub fn receiver_starts(listen: &std::net::SocketAddr, rows: &str, files: &str, fingerprint: Option<&str>) {
    info!(%listen, rows, files, fingerprint, "cloud server starts");
}

impl RoleWatch for Observer {
    fn role_changed(&self, role: &str, state: RoleState, why: Option<&Stop>) {
        let now = self.now();
        self.0.metrics.role_up.with_label_values(&[role]).set(i64::from(state == RoleState::Running));
        self.0.metrics.role_stopped.with_label_values(&[role]).set(i64::from(state == RoleState::Halted));
        let is_paused = matches!(state, RoleState::Paused { .. });
        self.0.metrics.role_paused.with_label_values(&[role]).set(i64::from(is_paused));
        let before = {
            let mut board = self.board();
            let record = board.roles.entry(role.into()).or_insert_with(|| Role::new(now));
            let before = record.state;
            record.change(state, why, now);
            before
        };
        let reason = why.map(|stop| stop.message.as_str()).unwrap_or_default();
        let hint = why.and_then(|stop| stop.hint.as_deref()).unwrap_or_default();
        match state {
            RoleState::Running if before == Some(RoleState::Retrying) => debug!(role, "role tries again"),
            RoleState::Running => info!(role, "role started"),
            RoleState::Paused { since_second } => info!(role, since_second, "role is paused until somebody resumes it"),
            RoleState::Ended => info!(role, "role ended"),
            RoleState::Halted => error!(role, reason, hint, "role stopped until somebody acts"),
            RoleState::Retrying => {
                if let Some(repeated) = self.pass("retrying", &format!("{role}: {reason}")) {
                    warn!(role, reason, repeated, "role failed, tries again");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
