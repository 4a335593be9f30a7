//! What a node knows about itself from one moment to the next; a [`Status`] is a picture of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::change::{OriginId, TableName};
use crate::runtime::{RoleState, Stop};

use super::cloud::CloudStatus;
use super::outgoing::Outgoing;
use super::status::{Level, LinkState, LinkStatus, RoleStatus, Status, TableStatus, TailerStatus};
use super::{Fate, Identity, KeptCount, SeedingView, SnapshotView, VerifyView};

/// A node that speaks at least every ten seconds (its heartbeats) and was not heard for this long is offline.
const SILENT_SECONDS: u64 = 35;

/// A role that failed and has worked again for this long is well.
const SETTLED_SECONDS: u64 = 5;

/// Tables that are counted one by one; what comes beyond is counted together, so that a flood of temporary tables
/// cannot fill memory or metrics.
pub const TABLES_MAX: usize = 1_000;

/// The name under which tables beyond the limit are counted.
pub const OTHER_TABLES: &str = "(other tables)";

#[derive(Default)]
pub struct Board {
    pub roles: BTreeMap<Arc<str>, Role>,
    pub links: BTreeMap<OriginId, Link>,
    pub outgoing: Outgoing,
    pub tailer: TailerStatus,
    /// The snapshot that is under way.
    pub snapshot: Option<SnapshotView>,
    /// The seeding of this node that is under way.
    pub seeding: Option<SeedingView>,
    pub verify: Option<VerifyView>,
    pub tables: BTreeMap<TableName, TableStatus>,
    pub other_tables: TableStatus,
    pub kept: Option<BTreeMap<OriginId, KeptCount>>,
    pub clouds: BTreeMap<String, CloudStatus>,
    /// Statements of other nodes that wait.
    pub schema_open: u64,
    day_ends: u64,
}

pub struct Role {
    /// `None` before its first start.
    pub state: Option<RoleState>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub since_second: u64,
    /// It runs, and does nothing before somebody else is done; who that is.
    pub waits_for: Option<String>,
}

#[derive(Default)]
pub struct Link {
    pub reachable: Option<bool>,
    pub reason: Option<String>,
    pub pending: u64,
    /// Commit time of the newest change applied.
    pub applied_second: Option<u64>,
    pub heard_second: Option<u64>,
    pub clock_ahead: Option<f64>,
    pub applied_today: u64,
    /// It takes part no longer; where a person said so.
    pub removed_by: Option<OriginId>,
}

impl Role {
    /// A role that was not started yet.
    pub fn new(second: u64) -> Self {
        Self { state: None, reason: None, hint: None, since_second: second, waits_for: None }
    }

    pub fn change(&mut self, state: RoleState, why: Option<&Stop>, now_second: u64) {
        let since_second = match state {
            RoleState::Paused { since_second } => since_second,
            _ => now_second,
        };
        let tries_again = self.state == Some(RoleState::Retrying) && state == RoleState::Running;
        if !tries_again {
            self.reason = why.map(|stop| stop.message.clone());
            self.hint = why.and_then(|stop| stop.hint.clone());
        }
        self.state = Some(state);
        self.since_second = since_second;
        self.waits_for = None;
    }

    /// What people see. A role that tries again shows as offline until it has worked for a while, or it would flicker
    /// with every attempt.
    fn shown(&self, now_second: u64) -> Shown {
        match self.state {
            None => Shown::Waiting,
            Some(RoleState::Running) if self.waits_for.is_some() => Shown::Waiting,
            Some(RoleState::Running) if self.reason.is_none() => Shown::Running,
            Some(RoleState::Running) if now_second.saturating_sub(self.since_second) >= SETTLED_SECONDS => Shown::Running,
            Some(RoleState::Running | RoleState::Retrying) => Shown::Offline,
            Some(RoleState::Paused { .. }) => Shown::Paused,
            Some(RoleState::Halted) => Shown::Stopped,
            Some(RoleState::Ended) => Shown::Ended,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Waiting,
    Running,
    Offline,
    Paused,
    Stopped,
    Ended,
}

impl Shown {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Offline => "offline",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
        }
    }
}

impl Board {
    pub fn link(&mut self, origin: &OriginId) -> &mut Link {
        self.links.entry(origin.clone()).or_default()
    }

    /// The counts of a table, or of all tables beyond the limit.
    pub fn table(&mut self, table: &TableName) -> &mut TableStatus {
        if self.tables.len() >= TABLES_MAX && !self.tables.contains_key(table) {
            self.other_tables.name = OTHER_TABLES.into();
            return &mut self.other_tables;
        }
        let fresh = || TableStatus { name: table.to_string(), ..TableStatus::default() };
        self.tables.entry(table.clone()).or_insert_with(fresh)
    }

    pub fn count_applied(&mut self, origin: &OriginId, table: &TableName, fate: Fate, changes: u64, now_second: u64) {
        if now_second >= self.day_ends {
            self.day_ends = end_of_day(now_second);
            self.links.values_mut().for_each(|link| link.applied_today = 0);
        }
        let counts = self.table(table);
        match fate {
            Fate::Applied => counts.applied += changes,
            Fate::LostToNewer => counts.lost_to_newer += changes,
            Fate::SetAside => counts.set_aside += changes,
            Fate::Duplicate | Fate::Held => {}
        }
        if fate == Fate::Applied {
            self.link(origin).applied_today += changes;
        }
    }

    pub fn picture(&self, identity: &Identity, now_second: u64) -> Status {
        let own = &identity.node;
        let mut links: Vec<_> = self.links.iter().map(|(origin, link)| self.incoming(own, origin, link, now_second)).collect();
        links.extend(self.outgoing.pending().map(|(peer, pending)| self.outgoing_link(own, peer, pending, now_second)));
        let kept = |count: fn(&KeptCount) -> u64| self.kept.as_ref().map(|kept| kept.values().map(count).sum());
        let roles = self.roles.iter().map(|(name, role)| {
            let shown = role.shown(now_second);
            let told = |text: &Option<String>| text.clone().filter(|_| shown != Shown::Running);
            RoleStatus {
                name: name.to_string(),
                state: shown.word().into(),
                reason: role.waits_for.clone().or_else(|| told(&role.reason)),
                hint: told(&role.hint),
                since_seconds: role.since_second,
            }
        });
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: identity.cluster.clone(),
            node: own.to_string(),
            at_seconds: now_second,
            started_seconds: identity.started_second,
            level: Level::Good,
            verdict: String::new(),
            roles: roles.collect(),
            links,
            tailer: self.tailer.clone(),
            snapshot: self.snapshot.clone(),
            seeding: self.seeding.clone(),
            verify: self.verify.clone(),
            tables: self
                .tables
                .values()
                .chain((!self.other_tables.name.is_empty()).then_some(&self.other_tables))
                .cloned()
                .collect(),
            conflicts_open: kept(|count| count.conflicts_open),
            failed_open: kept(|count| count.dead_letters),
            clouds: self.clouds.values().cloned().collect(),
            schema_open: self.schema_open,
        };
        status.judge();
        status
    }

    fn incoming(&self, own: &OriginId, origin: &OriginId, link: &Link, now_second: u64) -> LinkStatus {
        let (state, reason) = self.link_state(origin, link, now_second);
        let lag = match (link.pending, link.applied_second) {
            (0, _) => Some(0),
            (_, Some(applied)) => Some(now_second.saturating_sub(applied)),
            (_, None) => None,
        };
        let kept = self.kept.as_ref().map(|kept| kept.get(origin).copied().unwrap_or_default());
        // The day may have ended without a change since.
        let applied_today = if now_second >= self.day_ends { 0 } else { link.applied_today };
        LinkStatus {
            source: origin.to_string(),
            target: own.to_string(),
            state,
            reason,
            pending: Some(link.pending),
            lag_seconds: lag,
            applied_today: Some(applied_today),
            conflicts: kept.map(|kept| kept.conflicts),
            failed: kept.map(|kept| kept.dead_letters),
        }
    }

    fn link_state(&self, origin: &OriginId, link: &Link, now_second: u64) -> (LinkState, Option<String>) {
        let applier = self.roles.iter().find(|(name, _)| serves(name, origin)).map(|(_, role)| role);
        let applier_state = applier.map(|role| role.shown(now_second));
        let applier_reason = || applier.and_then(|role| role.reason.clone());
        if applier_state == Some(Shown::Stopped) {
            return (LinkState::Stopped, applier_reason());
        }
        if applier_state == Some(Shown::Paused) {
            return (LinkState::Paused, None);
        }
        if let Some(by) = &link.removed_by {
            return (
                LinkState::Removed,
                Some(format!("removed by {by}; `tandem node list` says when it can leave the configuration")),
            );
        }
        if let Some(ahead) = link.clock_ahead {
            return (LinkState::ClockWrong, Some(format!("its clock is {ahead:.0} s ahead of this machine's")));
        }
        if applier_state == Some(Shown::Offline) {
            return (LinkState::Offline, applier_reason());
        }
        if link.reachable == Some(false) {
            return (LinkState::Offline, link.reason.clone());
        }
        if link.pending > 0 {
            return (LinkState::CatchingUp, None);
        }
        match (link.reachable, link.heard_second) {
            (_, Some(heard)) if now_second.saturating_sub(heard) > SILENT_SECONDS => {
                (LinkState::Offline, Some(format!("nothing heard from {origin} for {} s", now_second - heard)))
            }
            (None, None) => (LinkState::Starting, None),
            _ => (LinkState::UpToDate, None),
        }
    }

    fn outgoing_link(&self, own: &OriginId, peer: &OriginId, pending: u64, now_second: u64) -> LinkStatus {
        let incoming = self.links.get(peer).map(|link| self.link_state(peer, link, now_second).0);
        let tailer = self.roles.get("tailer").map(|role| role.shown(now_second));
        let (state, pending) = match (tailer, incoming) {
            // What was written meanwhile waits in the binlog, where it is not counted.
            (Some(Shown::Stopped), _) => (LinkState::Stopped, None),
            (Some(Shown::Paused), _) => (LinkState::Paused, None),
            (Some(Shown::Offline), _) => (LinkState::Offline, None),
            _ if pending == 0 => (LinkState::UpToDate, Some(0)),
            (_, Some(LinkState::Offline)) => (LinkState::Offline, Some(pending)),
            _ => (LinkState::CatchingUp, Some(pending)),
        };
        LinkStatus {
            source: own.to_string(),
            target: peer.to_string(),
            state,
            reason: None,
            pending,
            lag_seconds: pending.filter(|&pending| pending == 0),
            applied_today: None,
            conflicts: None,
            failed: None,
        }
    }
}

/// True for the role that applies this origin's changes: `applier`, or `applier laptop-b`.
fn serves(role: &str, origin: &OriginId) -> bool {
    let Some(rest) = role.strip_prefix("applier") else { return false };
    rest.is_empty() || rest.trim_start() == origin.as_str()
}

/// The second at which the local day ends. Without a usable time zone, that of UTC.
fn end_of_day(now_second: u64) -> u64 {
    let next_midnight = || {
        let now = Timestamp::from_second(i64::try_from(now_second).ok()?).ok()?.to_zoned(TimeZone::system());
        let midnight = now.tomorrow().ok()?.start_of_day().ok()?;
        u64::try_from(midnight.timestamp().as_second()).ok()
    };
    next_midnight().filter(|&end| end > now_second).unwrap_or_else(|| (now_second / 86_400 + 1) * 86_400)
}
