//! What a target keeps of other nodes' statements that define tables, and of the changes that wait behind them.

use std::collections::BTreeMap;

use crate::change::{Gtid, Hlc, Offset, OriginId, Record, SchemaChange, Seen};

/// A statement of another node, and what became of it here.
#[derive(Clone, PartialEq, Debug)]
pub struct SchemaEntry {
    /// Its number on this node, in the order in which they came; 0 before it is kept.
    pub number: u64,
    pub origin: OriginId,
    pub offset: Offset,
    pub gtid: Gtid,
    pub hlc: Hlc,
    pub commit_second: u64,
    pub change: SchemaChange,
    pub state: SchemaState,
    /// Why it does not go through by itself, in words that fit after "it".
    pub danger: Option<String>,
    /// Why it failed, or what was found when it ran.
    pub remark: Option<String>,
    /// What the tables were like before it was tried; only until the outcome of that is known.
    pub before: Option<String>,
    /// What each node had seen when it came: what is still needed to decide about the changes behind it.
    pub told: BTreeMap<OriginId, Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SchemaState {
    /// Under way, or cut off in the middle.
    Running,
    /// Until a person decides, or until what it waits for is done.
    Waiting,
    /// A person wants it to run.
    Approved,
    /// A person wants to go on without it.
    Skipping,
    /// It could not be run, and waits for a person.
    Failed,
    /// It has run, and the changes behind it are being applied.
    Draining,
    /// The same, after a person left it out.
    DrainingSkipped,
    Done,
    Skipped,
    /// The configuration says that statements of its class are left out.
    Ignored,
}

impl SchemaState {
    pub const ALL: [Self; 10] = [
        Self::Running,
        Self::Waiting,
        Self::Approved,
        Self::Skipping,
        Self::Failed,
        Self::Draining,
        Self::DrainingSkipped,
        Self::Done,
        Self::Skipped,
        Self::Ignored,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Skipping => "skipping",
            Self::Failed => "failed",
            Self::Draining => "draining",
            Self::DrainingSkipped => "draining_skipped",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Ignored => "ignored",
        }
    }

    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Changes of its tables wait behind it.
    pub fn holds(self) -> bool {
        !matches!(self, Self::Running | Self::Done | Self::Skipped | Self::Ignored)
    }

    /// It is still to be looked at.
    pub fn is_open(self) -> bool {
        !matches!(self, Self::Done | Self::Skipped | Self::Ignored)
    }
}

/// A change that waits behind a statement.
#[derive(Clone, PartialEq, Debug)]
pub struct Parked {
    /// In the order in which they were taken.
    pub id: u64,
    pub offset: Offset,
    pub record: Record,
}

/// How a statement went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Defined {
    Done,
    /// Some of it was so already, and the rest was done.
    AlreadyInPart,
    /// The server refuses it: why, and what could be done.
    Refused(String),
}
