//! DECIDES how the changes of other origins reach a target: causal last-write-wins.
//!
//! Contract of [`Applier::run`]:
//! - **Order**: the transactions of one origin are applied in its order, whole, several in one commit. A change is
//!   applied after everything that its origin had seen.
//! - **Once**: the checkpoint commits with the rows; a record at or before it is skipped and counted.
//! - **Decision**: after the rows are locked the applier waits until every local write that could compete is in the
//!   index, then the larger version wins ([`decide`]). So all nodes come to the same rows.
//! - **Statements** that define tables take effect in their origin's order. One that can lose something waits for a person, and
//!   what comes to its tables waits behind it, while everything else goes on.
//! - **Existing rows** that a snapshot published fill what is missing and never beat a write.
//! - **Completeness**: every change taken is applied, lost to a newer one (counted), set aside as a dead letter, or
//!   stops the applier.
//! - **Ahead**: while the database writes one group of an origin, the next is taken and its rows are found out; it is decided
//!   and written when the one before is durable.
//! - **Memory**: reading stops while [`ApplyOptions::buffer_bytes`] per origin wait, beside one group that is ready. A transaction that is larger than that is
//!   read again from its topic, part by part, when all of it is there; it is one commit all the same.

mod again;
mod begin;
mod compare;
mod ddl;
mod decide;
mod empty;
mod engine;
mod error;
mod existing;
mod fetch;
mod group;
mod index;
mod keyless;
mod large;
mod leave;
mod local;
mod overflow;
mod refer;
mod rows;
mod seed;
mod settle;
mod stability;
mod step;
mod ties;
#[cfg(test)]
mod twins;
mod unique;
mod work;
mod worker;

pub use again::{AgainDesk, LetterPlace, Looked, Outcome};
pub use begin::{SeedingWish, begin_anew, begin_seeding, seed_kind};
pub use compare::{Compared, Differing, NoNotes, NoteTaker, columns_differ};
pub use ddl::{DdlPolicies, DdlPolicy};
pub use decide::{Entry, Verdict, decide};
pub use error::ApplyError;
pub use index::Index;
pub use local::LocalFeed;
pub use overflow::{Fingerprint, NoOverflow, Overflow, OverflowError};
pub use worker::Applier;

use std::time::Duration;

use crate::change::{Cluster, OriginId, TableName, TablePattern};

/// Who wins a conflict. Every policy decides by version first, the same on all nodes; what differs from that is
/// published as a new write by one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    #[default]
    NewestWins,
    /// The node named first wins; nodes not named come last. The node whose change should have won writes it again.
    Prefer(Vec<OriginId>),
    /// The newest wins for now, and the conflict stays open until somebody decides.
    Manual,
}

#[derive(Clone, Debug)]
pub struct ApplyOptions {
    pub cluster: Cluster,
    pub default_policy: Policy,
    /// The first pattern that matches decides.
    pub policies: Vec<(TablePattern, Policy)>,
    /// Of tables that have one, a column of date and time which tells two rows apart that existed on two nodes: the first
    /// pattern that matches decides.
    pub clocks: Vec<(TablePattern, String)>,
    pub ddl: DdlPolicies,
    /// Changes in one commit. 500 rows a commit reached most of the speed that 5,000 do, with locks held for a tenth.
    pub group_changes: usize,
    pub group_bytes: usize,
    /// Writes that the index keeps in memory; the others go to the overflow.
    pub index_rows: usize,
    /// Records of one origin that may wait in memory.
    pub buffer_bytes: usize,
    /// How long to hold row locks while the tailer catches up; then let go and try again.
    pub tailer_wait: Duration,
    /// A record further ahead of our clock is held.
    pub max_clock_skew: Duration,
    /// Attempts before a change is set aside.
    pub attempts: u32,
    pub retry_wait: Duration,
    /// A checkpoint that only heartbeats moved is written after this many of them.
    pub idle_checkpoint: u64,
    pub ablation: ApplyAblation,
}

impl ApplyOptions {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            default_policy: Policy::default(),
            policies: Vec::new(),
            clocks: Vec::new(),
            ddl: DdlPolicies::default(),
            group_changes: 500,
            group_bytes: 4 << 20,
            index_rows: 1_000_000,
            buffer_bytes: 8 << 20,
            tailer_wait: Duration::from_secs(5),
            max_clock_skew: Duration::from_secs(60),
            attempts: 3,
            retry_wait: Duration::from_millis(200),
            idle_checkpoint: 360,
            ablation: ApplyAblation::default(),
        }
    }

    pub fn policy(&self, table: &TableName) -> &Policy {
        let named = self.policies.iter().find(|(pattern, _)| pattern.matches(table));
        named.map_or(&self.default_policy, |(_, policy)| policy)
    }

    /// The table's clock column.
    pub fn clock(&self, table: &TableName) -> Option<&str> {
        self.clocks.iter().find(|(pattern, _)| pattern.matches(table)).map(|(_, column)| column.as_str())
    }
}

/// Rules of the protocol that a test takes away. Never set in service: no configuration leads here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApplyAblation {
    /// Decide without waiting for the local tailer.
    pub no_wait: bool,
    /// Forget deletes at once: no tombstones.
    pub no_tombstones: bool,
    /// Nobody answers for rows that refer to a deleted one.
    pub no_author: bool,
    /// Nor for what is tied to rows that are gone already.
    pub no_ties: bool,
    /// Forget at once that a table was emptied.
    pub no_emptied: bool,
    /// Look at old changes again without noting first what the topics tell since.
    pub no_look_back: bool,
    /// Of a node that is seeded: take what was never brought up to date for what everybody has.
    pub no_stale: bool,
    /// Ask the seeder before all that this node wrote is published.
    pub no_ask_wait: bool,
    /// Wait for a removed node as before.
    pub no_removal: bool,
    /// Ask nobody whether a node that left the configuration is done with.
    pub no_unlisted: bool,
}
