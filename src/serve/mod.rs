//! SHOWS and takes orders over HTTP.
//!
//! Contract: nothing here decides or waits on the pipeline; it shows what `observe` knows and asks the node through
//! [`Keeper`], [`Orders`], [`FailedOrders`], [`Inspect`], [`Roles`] and [`Setup`]. Without a key only loopback is served, and only under a loopback name; with one, every request but
//! the health checks must bring it, or the cookie of somebody who signed in with it. Forms show that they are from our own pages.
//! Connections, answers and attempts have limits. All values are escaped.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::observe::{
    AgainView, AskWish, AskedView, CloudFile, CloudReport, ConflictView, FailedView, FailedWish, PositionView, RetriedView,
    SchemaView, SnapshotView, SnapshotWish, TableView, VerifyView, VerifyWish, WhereView, WhereWish,
};
use crate::runtime::{Finding, Stop};

mod access;
mod cloud_sync;
mod ddl;
mod error;
mod failed;
mod gate;
pub mod hub;
mod inspect;
mod listener;
mod page;
pub mod receiver;
mod roles;
mod screens;
pub mod tls;
mod trouble;
mod web;

pub use error::ServeError;
pub use web::{Web, WebOptions};

/// Entries that one answer holds at most; the newest come first.
pub const LIST_MAX: usize = 500;

/// What the node's database keeps for people to look at.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// A part of the conflicts, the newest first; with `open_only`, of those that wait for a decision.
    async fn conflicts(&self, part: Part, open_only: bool) -> Result<Vec<ConflictView>, Stop>;

    /// The conflict whose id is this or begins with it, if there is just one.
    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop>;

    /// The change set aside of this id, if there is one.
    async fn failed_one(&self, id: &str) -> Result<Option<FailedView>, Stop>;

    /// A part of the changes set aside, the newest first.
    async fn failed(&self, part: Part) -> Result<Vec<FailedView>, Stop>;

    /// The tables of the databases that are synced, by name, those that are left out too.
    async fn tables(&self) -> Result<Vec<TableView>, Stop>;
}

/// Part of a list: so many entries, after so many that come before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub skip: usize,
    pub at_most: usize,
}

/// What a person decides about a conflict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The row that stands stays.
    Winner,
    /// The row that lost is written again; of it only these columns, where some are named.
    Loser { columns: Vec<String> },
}

/// How this node is set up.
#[async_trait]
pub trait Setup: Send + Sync {
    /// The configuration in force, secrets hidden.
    fn shown(&self) -> String;

    /// Looks everything over, and changes nothing.
    async fn examine(&self) -> Vec<Finding>;
}

/// What people may ask the node to do.
#[async_trait]
pub trait Orders: Send + Sync {
    /// Publish existing rows; or, where only that is wished, say which that would be.
    async fn snapshot(&self, wish: SnapshotWish) -> Result<SnapshotView, Stop>;

    /// The snapshots that are under way and the last that ended, the oldest first.
    async fn snapshots(&self) -> Result<Vec<SnapshotView>, Stop>;

    /// Ends a snapshot; false where none of this number is under way. What is published stays.
    async fn cancel_snapshot(&self, id: u64) -> Result<bool, Stop>;

    /// Decide about a conflict, on all nodes: the winner's row stays, or the loser's is written again as a new write of this node,
    /// whole or some columns of it. `None` where there is no such conflict.
    async fn settle(&self, conflict: &str, decision: &Decision) -> Result<Option<ConflictView>, Stop>;

    /// Compare this node's rows with those of the others, and perhaps have what differs settled.
    async fn verify(&self, wish: VerifyWish) -> Result<VerifyView, Stop>;

    /// The comparison that is under way, or the last one.
    async fn verified(&self) -> Result<Option<VerifyView>, Stop>;

    /// Ends a comparison; false where none is under way.
    async fn cancel_verify(&self) -> Result<bool, Stop>;

    /// Ask one other node about its rows or tables; whoever wants the answer reads its topic.
    async fn ask_other(&self, wish: AskWish) -> Result<AskedView, Stop>;

    /// Other nodes' statements that define tables, the newest first; or only those that wait.
    async fn schema_changes(&self, open_only: bool) -> Result<Vec<SchemaView>, Stop>;

    /// Have one that waits run, or go on without it. `None` where there is none of this number that waits.
    async fn decide_schema(&self, number: u64, run: bool) -> Result<Option<SchemaView>, Stop>;
}

/// What a person or a program asks of a cloud's feeding.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SyncAsked {
    /// Send all that the topics hold, not only what is new.
    pub force: bool,
    /// Only say what would be sent.
    pub dry_run: bool,
    pub tables: Vec<String>,
}

/// From where a role is started anew. Nothing: from where it was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartFrom {
    /// A GTID position for the tailer, an offset for the applier, or `beginning` for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Of which node's topic, for the applier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// Roles that were started anew.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Restarted {
    pub roles: Vec<String>,
    /// What was read or looked at again, where an older place was named.
    pub again: Option<AgainView>,
}

/// The roles of the running node. Each order answers when it is done, with the names of the roles that were meant.
#[async_trait]
pub trait Roles: Send + Sync {
    /// Ends the work of a role until it is resumed, also over a new start of the process.
    async fn pause(&self, role: &str) -> Result<Vec<String>, Stop>;

    async fn resume(&self, role: &str) -> Result<Vec<String>, Stop>;

    /// Ends the work of a role in order and begins it anew. From an older place nothing is published, or applied over a newer write,
    /// a second time.
    async fn restart(&self, role: &str, from: StartFrom) -> Result<Restarted, Stop>;

    /// Lets roles that wait before they try again try now.
    fn hurry(&self);
}

/// Orders about changes that were set aside.
#[async_trait]
pub trait FailedOrders: Send + Sync {
    /// Applies them once more, where no newer write of their rows stands; what became of each.
    async fn retry(&self, wish: FailedWish) -> Result<Vec<RetriedView>, Stop>;

    /// Forgets them; which. Their rows stay as they are here.
    async fn discard(&self, wish: FailedWish) -> Result<Vec<String>, Stop>;
}

/// What people look closer at.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// How far the database, the topics and their application here are.
    async fn position(&self) -> Result<PositionView, Stop>;

    /// What is known of one row.
    async fn where_is(&self, wish: WhereWish) -> Result<WhereView, Stop>;
}

/// The clouds that the node feeds.
#[async_trait]
pub trait Clouds: Send + Sync {
    /// Orders a run now, or joins the one under way that is the same; its number, by which it is asked about.
    fn sync_now(&self, cloud: &str, asked: &SyncAsked) -> Result<u64, SyncRefused>;

    /// What came of the run; does not answer before it has ended.
    async fn report(&self, cloud: &str, run: u64) -> Option<CloudReport>;

    /// What became of files that rows name, in the order of their states.
    fn files(&self, cloud: &str, asked: &FilesAsked) -> Result<Vec<CloudFile>, FilesRefused>;
}

/// Which files somebody wants to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilesAsked {
    /// Those in this state; all where there is none.
    pub state: Option<String>,
    /// Those after this one, the last of the page before.
    pub after: Option<CloudFile>,
    pub at_most: usize,
}

/// Why nothing can be said about files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FilesRefused {
    NoSuchCloud,
    /// The cloud's role does not run, and it alone knows.
    NotRunning,
    /// The node's own disk.
    Ledger(String),
}

/// Why a run cannot be ordered now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncRefused {
    NoSuchCloud,
    /// A run of another kind waits for its turn.
    Another,
}
