//! SHOWS and takes orders over HTTP.
//!
//! Contract: nothing here decides or waits on the pipeline; it shows what `observe` knows and asks the node through
//! [`Keeper`]. Without a key only loopback is served, and only under a loopback name; with one, every request but the health
//! checks must bring it. Connections and answers have limits. All values are escaped.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::runtime::Stop;

mod access;
mod error;
pub mod hub;
mod listener;
mod page;
mod web;

pub use error::ServeError;
pub use web::{Web, WebOptions};

/// Entries that one answer holds at most; the newest come first.
pub const LIST_MAX: usize = 500;

/// What the node's database keeps for people to look at.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// The newest conflicts first, at most so many.
    async fn conflicts(&self, at_most: usize) -> Result<Vec<ConflictView>, Stop>;

    /// The conflict whose id is this or begins with it, if there is just one.
    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop>;

    /// The newest changes set aside first, at most so many.
    async fn failed(&self, at_most: usize) -> Result<Vec<FailedView>, Stop>;
}

/// A conflict as people and programs see it. Its JSON is a promise; fields are added, never renamed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConflictView {
    pub id: String,
    pub table: String,
    /// Key columns and their values.
    pub key: Map<String, Value>,
    pub kind: String,
    /// Waits for a person to decide.
    pub open: bool,
    pub winner: SideView,
    pub loser: SideView,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SideView {
    pub origin: String,
    /// When it was written, by its hybrid logical clock, in seconds of the Unix epoch.
    pub written_seconds: u64,
    /// The row as this side wanted it. `None` where it deleted the row, or where its image is not known here.
    pub row: Option<Map<String, Value>>,
}

/// A change set aside, as people and programs see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FailedView {
    pub origin: String,
    pub offset: u64,
    pub table: String,
    pub key: Map<String, Value>,
    pub op: String,
    pub reason: String,
    pub attempts: u32,
}
