//! What is known of the clouds that a node feeds: state, last run, errors. Their JSON is a promise; fields are added, never renamed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use super::Observer;

/// A cloud as it is now.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CloudStatus {
    pub name: String,
    pub state: CloudState,
    /// Why it is in this state, and what to do; where there is something to say.
    pub reason: Option<String>,
    /// Records of the topics that are not sent yet.
    pub pending: Option<u64>,
    /// Rows that the cloud refused.
    pub set_aside: u64,
    /// Of the run under way: rows sent so far.
    pub sending: u64,
    /// Seconds of the Unix epoch, as all times here.
    pub last_success_seconds: Option<u64>,
    /// `None` where it is fed all the time, or the next run is not known yet.
    pub next_run_seconds: Option<u64>,
    pub last_run: Option<CloudReport>,
    /// Files that rows name, by what became of them: `synced`, `missing`, `skipped`, `failed`.
    #[serde(default)]
    pub files: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudState {
    #[default]
    Starting,
    /// Everything is sent, or the next run is awaited.
    Idle,
    Syncing,
    /// The cloud cannot be reached or has a fault: tries again.
    Offline,
    /// The cloud accepts nothing before a person acts; asked again now and then.
    Paused,
}

impl CloudState {
    pub const ALL: [Self; 5] = [Self::Starting, Self::Idle, Self::Syncing, Self::Offline, Self::Paused];

    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Syncing => "syncing",
            Self::Offline => "offline",
            Self::Paused => "paused",
        }
    }
}

/// A file that rows name, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CloudFile {
    /// `queued`, `uploading`, `synced`, `missing`, `skipped`, `failed`.
    pub state: String,
    /// The kind, and before it the store where files do not go through the cloud's API.
    pub scope: String,
    /// As the rows name it.
    pub path: String,
    /// Bytes; 0 where it was not read.
    pub size: u64,
    /// BLAKE3 of what it held when it was read last, in hexadecimal digits.
    pub hash: Option<String>,
    pub url: Option<String>,
    /// Why it is in this state, where something is wrong.
    pub reason: Option<String>,
}

/// What one run did.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CloudReport {
    /// True where nothing failed.
    pub success: bool,
    pub cloud: String,
    /// Nothing was sent: what would have been.
    #[serde(default)]
    pub dry_run: bool,
    pub started_seconds: u64,
    pub finished_seconds: u64,
    /// By resource, ids of rows that the cloud has because of this run; at most [`CloudReport::IDS_MAX`] of each.
    pub synced: BTreeMap<String, Vec<String>>,
    pub summary: CloudSummary,
    /// At most [`CloudReport::ERRORS_MAX`]; `summary.failed` counts them all.
    pub errors: Vec<CloudProblem>,
}

impl CloudReport {
    /// A list that a page and a person can hold; the counts are whole.
    pub const IDS_MAX: usize = 1_000;
    pub const ERRORS_MAX: usize = 100;

    pub fn count(&mut self, resource: &str) -> &mut CloudCounts {
        if !self.summary.tables.contains_key(resource) {
            self.summary.tables.insert(resource.to_owned(), CloudCounts::default());
        }
        self.summary.tables.get_mut(resource).expect("it was just put there")
    }

    pub fn synced_id(&mut self, resource: &str, id: &str) {
        let ids = match self.synced.get_mut(resource) {
            Some(ids) => ids,
            None => self.synced.entry(resource.to_owned()).or_default(),
        };
        if ids.len() < Self::IDS_MAX {
            ids.push(id.to_owned());
        }
    }

    pub fn problem(&mut self, problem: CloudProblem) {
        self.summary.failed += 1;
        if let Some(resource) = &problem.resource {
            self.count(resource).failed += 1;
        }
        if self.errors.len() < Self::ERRORS_MAX {
            self.errors.push(problem);
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CloudSummary {
    /// Rows that the cloud took.
    pub synced: u64,
    /// Rows that the cloud had already, or had newer.
    pub already: u64,
    pub failed: u64,
    pub tables: BTreeMap<String, CloudCounts>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CloudCounts {
    pub written: u64,
    pub deleted: u64,
    pub already: u64,
    pub failed: u64,
    /// Left out by a named rule: outside the window of days, or without an id.
    pub left_out: u64,
}

/// One thing that went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloudProblem {
    pub resource: Option<String>,
    pub id: Option<String>,
    pub error: String,
}

/// What became of a request to the cloud.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloudOutcome {
    Taken,
    Refused,
    Busy,
    Failed,
    Denied,
}

impl CloudOutcome {
    pub const ALL: [Self; 5] = [Self::Taken, Self::Refused, Self::Busy, Self::Failed, Self::Denied];

    pub fn label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Denied => "denied",
        }
    }
}

impl Observer {
    /// The clouds that this process feeds: shown, and their metrics begin at 0.
    pub fn clouds(&self, names: &[&str]) {
        let mut board = self.board();
        for name in names {
            board.clouds.insert((*name).to_owned(), CloudStatus { name: (*name).to_owned(), ..CloudStatus::default() });
            self.0.metrics.begin_cloud(name);
        }
    }

    pub fn cloud_status(&self, name: &str) -> CloudStatus {
        self.board().clouds.get(name).cloned().unwrap_or_default()
    }

    pub fn cloud_state(&self, name: &str, state: CloudState, reason: Option<&str>) {
        let before = self.change_cloud(name, |status| {
            let before = (status.state, status.reason.take());
            status.state = state;
            status.reason = reason.map(str::to_owned);
            before
        });
        for other in CloudState::ALL {
            self.0.metrics.cloud_state.with_label_values(&[name, other.label()]).set(i64::from(other == state));
        }
        if before == (state, reason.map(str::to_owned)) {
            return;
        }
        match state {
            CloudState::Starting | CloudState::Idle | CloudState::Syncing => {
                debug!(cloud = name, state = state.label(), "cloud")
            }
            CloudState::Offline => {
                if let Some(repeated) = self.pass("cloud_offline", name) {
                    info!(cloud = name, reason, repeated, "cloud cannot be fed, tries again");
                }
            }
            CloudState::Paused => {
                if let Some(repeated) = self.pass("cloud_paused", name) {
                    error!(cloud = name, reason, repeated, "cloud accepts nothing, paused until somebody acts");
                }
            }
        }
    }

    /// A request was answered, or was not.
    pub fn cloud_batch(&self, name: &str, outcome: CloudOutcome, rows: u64) {
        self.0.metrics.cloud_batches.with_label_values(&[name, outcome.label()]).inc();
        debug!(cloud = name, outcome = outcome.label(), rows, "batch");
    }

    /// The cloud said of so many rows what became of them.
    pub fn cloud_rows(&self, name: &str, rows: u64, bytes: u64) {
        self.0.metrics.cloud_uploaded_bytes.with_label_values(&[name, "rows"]).inc_by(bytes);
        self.change_cloud(name, |status| status.sending += rows);
    }

    /// The cloud took a file.
    pub fn cloud_file_sent(&self, name: &str, bytes: u64) {
        self.0.metrics.cloud_uploaded_bytes.with_label_values(&[name, "files"]).inc_by(bytes);
    }

    /// Rows that were sent are in the archive too, as an object of so many bytes.
    pub fn cloud_archived(&self, name: &str, bytes: u64) {
        self.0.metrics.cloud_uploaded_bytes.with_label_values(&[name, "archive"]).inc_by(bytes);
        debug!(cloud = name, bytes, "archived");
    }

    /// Files that rows name, by what became of them.
    pub fn cloud_files(&self, name: &str, counts: BTreeMap<String, u64>) {
        let not_there = counts
            .iter()
            .filter(|(state, _)| matches!(state.as_str(), "missing" | "failed"))
            .map(|(_, count)| count)
            .sum::<u64>();
        self.0.metrics.cloud_files_pending.with_label_values(&[name]).set(not_there as i64);
        self.change_cloud(name, |status| status.files = counts);
    }

    pub fn cloud_pending(&self, name: &str, records: u64) {
        self.0.metrics.cloud_pending.with_label_values(&[name]).set(records as i64);
        self.change_cloud(name, |status| status.pending = Some(records));
    }

    /// Rows that the cloud refused, all that wait for a person.
    pub fn cloud_aside(&self, name: &str, rows: u64) {
        self.0.metrics.cloud_set_aside.with_label_values(&[name]).set(rows as i64);
        let before = self.change_cloud(name, |status| std::mem::replace(&mut status.set_aside, rows));
        if rows > before {
            warn!(cloud = name, rows, "rows that the cloud refused are set aside");
        }
    }

    pub fn cloud_next_run(&self, name: &str, second: Option<u64>) {
        self.change_cloud(name, |status| status.next_run_seconds = second);
    }

    /// From one run of the schedule to the next; `None` where it is fed all the time.
    pub fn cloud_interval(&self, name: &str, interval: Option<Duration>) {
        let seconds = interval.map_or(0, |interval| interval.as_secs());
        self.0.metrics.cloud_interval.with_label_values(&[name]).set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    /// What an earlier process left.
    pub fn cloud_resumes(&self, name: &str, last: Option<CloudReport>) {
        if let Some(last) = last {
            self.cloud_run_kept(name, last);
        }
    }

    /// A run has ended; it is said where it did something.
    pub fn cloud_ran(&self, name: &str, report: CloudReport) {
        let (synced, failed) = (report.summary.synced, report.summary.failed);
        if synced + failed > 0 {
            info!(cloud = name, synced, already = report.summary.already, failed, dry_run = report.dry_run, "cloud synced");
        }
        self.cloud_run_kept(name, report);
    }

    /// Nothing was to be sent: the cloud is up to date as of now.
    pub fn cloud_is_current(&self, name: &str) {
        let now = self.now();
        self.0.metrics.cloud_last_success.with_label_values(&[name]).set(now as i64);
        self.change_cloud(name, |status| status.last_success_seconds = Some(now));
    }

    fn cloud_run_kept(&self, name: &str, report: CloudReport) {
        if report.success && !report.dry_run {
            self.0.metrics.cloud_last_success.with_label_values(&[name]).set(report.finished_seconds as i64);
        }
        self.change_cloud(name, |status| {
            status.sending = 0;
            if report.success && !report.dry_run {
                status.last_success_seconds = Some(report.finished_seconds);
            }
            status.last_run = Some(report);
        });
    }

    fn change_cloud<T>(&self, name: &str, change: impl FnOnce(&mut CloudStatus) -> T) -> T {
        let mut board = self.board();
        let fresh = || CloudStatus { name: name.to_owned(), ..CloudStatus::default() };
        change(board.clouds.entry(name.to_owned()).or_insert_with(fresh))
    }
}
