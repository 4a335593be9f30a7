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
            Self::NoKey { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Target(error) => error.hint(),
            Self::Topic(error) => error.hint(),
            Self::Overflow(_) => Some("make room on its disk, or name another folder under [state]".into()),
            Self::NoKey { .. } => Some("add a primary key on every node, or exclude the table under [tables]".into()),
        }
    }
}
