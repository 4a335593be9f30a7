//! What can go wrong while writing to a database, by what somebody does about it.

use crate::change::TableName;
use crate::runtime::{Disposition, Fault};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    #[error("cannot reach the database at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    /// A deadlock, a lock time-out, a full disk: it may go well the next time.
    #[error("the database could not do it now: {reason}")]
    Contended { reason: String },
    /// A unique key other than the primary key is taken by another row. Settled by the applier.
    #[error("{table}: the unique key `{index}` is taken by another row")]
    UniqueTaken { table: TableName, index: String },
    /// The row refers to one that is not here. The applier may write it all the same, with foreign keys off.
    #[error("{table}: it refers to a row of another table that is not here{constraint}")]
    ParentMissing { table: TableName, constraint: String },
    /// A table without a key has no row like the one that was updated or deleted.
    #[error(
        "{table}: no row here is equal to the row before the change, and without a primary key it cannot be found otherwise"
    )]
    RowMissing { table: TableName },
    /// This row cannot be written here: constraint, missing table or column, too long, out of range.
    #[error("{table}: {reason}")]
    Unwritable { table: TableName, reason: String },
    #[error("{what}")]
    Refused { what: String, remedy: String },
}

impl Fault for TargetError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } | Self::Contended { .. } => Disposition::Retry,
            Self::UniqueTaken { .. } | Self::ParentMissing { .. } | Self::RowMissing { .. } | Self::Unwritable { .. } => {
                Disposition::DeadLetter
            }
            Self::Refused { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("nothing is lost; it goes on by itself when the database is back".into()),
            Self::Contended { .. } => None,
            Self::UniqueTaken { .. } | Self::ParentMissing { .. } | Self::RowMissing { .. } | Self::Unwritable { .. } => {
                Some("see `tandem failed list`".into())
            }
            Self::Refused { remedy, .. } => Some(remedy.clone()),
        }
    }
}
