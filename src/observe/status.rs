//! What people and programs see of a node: one snapshot. Its JSON is a promise; fields are added, never renamed.

use serde::{Deserialize, Serialize};

use super::cloud::{CloudState, CloudStatus};
use super::{SeedingView, SnapshotView, VerifyView, spoken_time};

/// A node as it is now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub cluster: String,
    pub node: String,
    /// Seconds of the Unix epoch, as all times here.
    pub at_seconds: u64,
    /// Counts since then, unless they say otherwise.
    pub started_seconds: u64,
    pub level: Level,
    /// One sentence for people.
    pub verdict: String,
    pub roles: Vec<RoleStatus>,
    pub links: Vec<LinkStatus>,
    pub tailer: TailerStatus,
    /// The snapshot that is under way.
    #[serde(default)]
    pub snapshot: Option<SnapshotView>,
    /// The rows of another node that this one takes over, while it does.
    #[serde(default)]
    pub seeding: Option<SeedingView>,
    /// The comparison with other nodes that is under way, or the last one.
    #[serde(default)]
    pub verify: Option<VerifyView>,
    pub tables: Vec<TableStatus>,
    /// Conflicts that wait for a person, and changes set aside; `None` until the database was asked.
    pub conflicts_open: Option<u64>,
    pub failed_open: Option<u64>,
    /// The clouds that this node feeds.
    #[serde(default)]
    pub clouds: Vec<CloudStatus>,
    /// Statements of other nodes that define tables and wait.
    #[serde(default)]
    pub schema_open: u64,
}

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything is up to date.
    Good,
    /// It will be by itself: catching up, or somebody is offline. Neutral.
    Working,
    /// A person should look when there is time.
    Attention,
    /// Something stands still until a person acts.
    Stopped,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoleStatus {
    pub name: String,
    /// `waiting` (not started yet, or another process has it), `running`, `offline` (tries again), `paused` (somebody
    /// wants it so, since then), `stopped` (until a person acts), `ended`.
    pub state: String,
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub since_seconds: u64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    pub source: String,
    pub target: String,
    pub state: LinkState,
    pub reason: Option<String>,
    /// Changes known to wait. `None` where this node cannot know.
    pub pending: Option<u64>,
    /// Age of the newest change applied, while others wait; 0 when none does.
    pub lag_seconds: Option<u64>,
    /// Since midnight here, or since the start if that was later.
    pub applied_today: Option<u64>,
    pub conflicts: Option<u64>,
    pub failed: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Nothing was heard yet.
    Starting,
    UpToDate,
    CatchingUp,
    Offline,
    /// The source's clock is too far ahead: its changes are held.
    ClockWrong,
    /// Somebody has paused the role that moves its changes.
    Paused,
    /// The applier has stopped until a person acts.
    Stopped,
    /// The source was removed: all that it had published is applied, and nothing more comes.
    Removed,
}

impl LinkState {
    pub const ALL: [Self; 8] = [
        Self::Starting,
        Self::UpToDate,
        Self::CatchingUp,
        Self::Offline,
        Self::ClockWrong,
        Self::Paused,
        Self::Stopped,
        Self::Removed,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::UpToDate => "up to date",
            Self::CatchingUp => "catching up",
            Self::Offline => "offline",
            Self::ClockWrong => "clock wrong",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        }
    }

    /// For programs: as in the JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::UpToDate => "up_to_date",
            Self::CatchingUp => "catching_up",
            Self::Offline => "offline",
            Self::ClockWrong => "clock_wrong",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        }
    }
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TailerStatus {
    pub connected: bool,
    /// Commit time of the newest transaction read.
    pub last_commit_seconds: Option<u64>,
    pub published: u64,
    /// Changes that a named rule keeps from being published: echo, table, own, ddl.
    pub filtered: std::collections::BTreeMap<String, u64>,
    /// Commit times too far ahead of our clock that were not believed.
    pub clock_not_believed: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TableStatus {
    pub name: String,
    pub published: u64,
    pub applied: u64,
    pub lost_to_newer: u64,
    pub set_aside: u64,
    pub conflicts: u64,
}

impl Status {
    /// How much the whole matters, and the one sentence that says why: the worst thing decides.
    pub(super) fn judge(&mut self) {
        (self.level, self.verdict) = self.verdict();
    }

    fn verdict(&self) -> (Level, String) {
        if let Some(role) = self.roles.iter().find(|role| role.state == "stopped") {
            let reason = role.reason.as_deref().unwrap_or("no reason given");
            return (Level::Stopped, format!("The {} is stopped: {reason}.", role.name));
        }
        let in_state = |state| self.links.iter().filter(move |link| link.state == state);
        if let Some(link) = in_state(LinkState::ClockWrong).next() {
            return (Level::Stopped, format!("The clock of {} is wrong, so its changes wait.", link.source));
        }
        if let Some(cloud) = self.clouds.iter().find(|cloud| cloud.state == CloudState::Paused) {
            let reason = cloud.reason.as_deref().unwrap_or("no reason given");
            return (Level::Stopped, format!("The cloud {} is paused: {reason}.", cloud.name));
        }
        if let open @ 1.. = self.schema_open {
            return (
                Level::Attention,
                format!("{} for a decision.", counted(open, "schema change waits", "schema changes wait")),
            );
        }
        if let Some(open @ 1..) = self.conflicts_open {
            return (Level::Attention, format!("{} for a decision.", counted(open, "conflict waits", "conflicts wait")));
        }
        if let Some(failed @ 1..) = self.failed_open {
            return (
                Level::Attention,
                format!(
                    "{} set aside.",
                    counted(failed, "change could not be applied and was", "changes could not be applied and were")
                ),
            );
        }
        if let Some(cloud) = self.clouds.iter().find(|cloud| cloud.set_aside > 0) {
            let rows = counted(cloud.set_aside, "row", "rows");
            return (Level::Attention, format!("The cloud {} refused {rows}: see `tandem sync --only cloud`.", cloud.name));
        }
        if let Some(role) = self.roles.iter().find(|role| role.state == "paused") {
            let (name, since) = (&role.name, spoken_time(role.since_seconds));
            return (Level::Attention, format!("The {name} is paused since {since}: `tandem resume {name}` lets it go on."));
        }
        if let Some(role) = self.roles.iter().find(|role| role.state == "offline") {
            let reason = role.reason.as_deref().unwrap_or("no reason given");
            return (Level::Working, format!("The {} is offline and tries again: {reason}.", role.name));
        }
        if let Some(link) = in_state(LinkState::Offline).next() {
            let other = if link.source == self.node { &link.target } else { &link.source };
            return (Level::Working, format!("{other} is offline; everything goes on by itself when it is back."));
        }
        if let Some(cloud) = self.clouds.iter().find(|cloud| cloud.state == CloudState::Offline) {
            return (
                Level::Working,
                format!("The cloud {} is offline; everything goes on by itself when it is back.", cloud.name),
            );
        }
        if let Some(seeding) = &self.seeding {
            let left = counted(seeding.tables_left, "table is", "tables are");
            return (Level::Working, format!("This node takes over the rows of {}: {left} left.", seeding.seeder));
        }
        let pending: u64 = self.links.iter().filter_map(|link| link.pending).sum();
        if pending > 0 {
            return (Level::Working, format!("Catching up: {}.", counted(pending, "change waits", "changes wait")));
        }
        let mut waiting = self.roles.iter().filter(|role| role.state == "waiting");
        if let Some((name, reason)) = waiting.clone().find_map(|role| Some((&role.name, role.reason.as_deref()?))) {
            return (Level::Working, format!("The {name} waits: {reason}."));
        }
        if waiting.next().is_some() || in_state(LinkState::Starting).next().is_some() {
            return (Level::Working, "Starting.".into());
        }
        (Level::Good, "Everything is up to date.".into())
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calm() -> Status {
        let link = LinkStatus {
            source: "b".into(),
            target: "a".into(),
            state: LinkState::UpToDate,
            reason: None,
            pending: Some(0),
            lag_seconds: Some(0),
            applied_today: Some(3),
            conflicts: Some(0),
            failed: Some(0),
        };
        let role = RoleStatus { name: "applier".into(), state: "running".into(), reason: None, hint: None, since_seconds: 1 };
        Status {
            version: "0".into(),
            cluster: "campus".into(),
            node: "a".into(),
            at_seconds: 2,
            started_seconds: 1,
            level: Level::Good,
            verdict: String::new(),
            roles: vec![role],
            links: vec![link],
            tailer: TailerStatus::default(),
            snapshot: None,
            seeding: None,
            verify: None,
            tables: Vec::new(),
            conflicts_open: Some(0),
            schema_open: 0,
            failed_open: None,
            clouds: Vec::new(),
        }
    }

    #[test]
    fn the_worst_thing_decides_the_sentence() {
        let mut status = calm();
        let mut check = |change: fn(&mut Status), level: Level, sentence: &str| {
            change(&mut status);
            status.judge();
            assert_eq!((status.level, status.verdict.as_str()), (level, sentence));
        };
        // Each step adds something worse.
        check(|_| {}, Level::Good, "Everything is up to date.");
        check(|status| status.links[0].pending = Some(412), Level::Working, "Catching up: 412 changes wait.");
        check(
            |status| {
                let seeding = SeedingView { seeder: "b".into(), tables: 7, tables_left: 3, rows: 120, removed: 0 };
                status.seeding = Some(seeding);
            },
            Level::Working,
            "This node takes over the rows of b: 3 tables are left.",
        );
        let offline = "b is offline; everything goes on by itself when it is back.";
        check(|status| status.links[0].state = LinkState::Offline, Level::Working, offline);
        check(
            |status| {
                let role = &status.roles[0];
                let paused = RoleStatus { name: "cloud main".into(), state: "paused".into(), ..role.clone() };
                status.roles.push(RoleStatus { since_seconds: 0, ..paused });
            },
            Level::Attention,
            &format!("The cloud main is paused since {}: `tandem resume cloud main` lets it go on.", spoken_time(0)),
        );
        check(|status| status.failed_open = Some(1), Level::Attention, "1 change could not be applied and was set aside.");
        check(|status| status.conflicts_open = Some(2), Level::Attention, "2 conflicts wait for a decision.");
        check(|status| status.schema_open = 1, Level::Attention, "1 schema change waits for a decision.");
        let clock = "The clock of b is wrong, so its changes wait.";
        check(|status| status.links[0].state = LinkState::ClockWrong, Level::Stopped, clock);
        check(
            |status| {
                status.roles[0].state = "stopped".into();
                status.roles[0].reason = Some("the binlog is gone".into());
            },
            Level::Stopped,
            "The applier is stopped: the binlog is gone.",
        );
    }

    #[test]
    fn labels_are_those_of_the_json() {
        for state in LinkState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.label());
        }
    }
}
