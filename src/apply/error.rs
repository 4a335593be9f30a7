//! Why an applier stops.

use super::OverflowError;
use crate::change::{OriginId, TableName};
use crate::runtime::{Disposition, Fault};
use crate::target::TargetError;
use crate::topic::TopicError;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Overflow(#[from] OverflowError),
    #[error("this node, {origin}, was removed by {by}: the others no longer count on it")]
    Removed { origin: OriginId, by: OriginId },
    #[error("{origin} is no longer in [nodes], but {why}")]
    Unlisted { origin: OriginId, why: String },
    #[error("this node is being seeded by {seeder}, which is no other node of the configuration")]
    NoSeeder { seeder: OriginId },
    #[error("the oldest records of {origin} were taken from its topic at the moment when they were read")]
    TakenMeanwhile { origin: OriginId },
    #[error("a change of {table} from {origin} does not tell its key")]
    NoKey { origin: OriginId, table: TableName },
}

impl Fault for ApplyError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Target(error) => error.disposition(),
            Self::Topic(error) => error.disposition(),
            // A full disk may be cleared; everything is rebuilt then.
            Self::Overflow(_) => Disposition::Retry,
            // What is already applied here. All is built anew from what is kept.
            Self::TakenMeanwhile { .. } => Disposition::Retry,
            Self::Removed { .. } | Self::Unlisted { .. } | Self::NoSeeder { .. } | Self::NoKey { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Target(error) => error.hint(),
            Self::Topic(error) => error.hint(),
            Self::Overflow(_) => Some("make room on its disk, or name another folder under [state]".into()),
            Self::Removed { .. } => {
                Some("to take part again it needs another name: see docs/operations.md, \"Removing a node\"".into())
            }
            Self::Unlisted { origin, .. } => Some(format!(
                "put [nodes.{origin}] back into the configuration of this node. To be rid of that node: `tandem node remove {origin}`, and \
                 take it out of the file when `tandem node list` says so"
            )),
            Self::NoSeeder { .. } => Some("begin anew with another one: tandem reseed --from NODE --again".into()),
            Self::TakenMeanwhile { .. } => None,
            Self::NoKey { .. } => Some("add a primary key on every node, or exclude the table under [tables]".into()),
        }
    }
}

impl ApplyError {
    /// Of a read of what is applied here already: retention may take it at any moment, and nothing is missing then.
    pub(super) fn of_the_past(error: TopicError) -> Self {
        match error {
            TopicError::Gone { origin, .. } => Self::TakenMeanwhile { origin },
            other => Self::Topic(other),
        }
    }
}
