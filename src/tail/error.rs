//! Why a tailer stops.

use crate::change::{Gtid, MarkError, OriginId, TableName};
use crate::runtime::{Disposition, Fault, Stop};
use crate::source::SourceError;
use crate::topic::TopicError;

#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("transaction {gtid}: {source}")]
    Mark { gtid: Gtid, source: MarkError },
    #[error("transaction {gtid} wrote tandem.applied after other rows, which no applier does")]
    MarkNotFirst { gtid: Gtid },
    #[error(
        "table {table} has no primary key, and transaction {gtid} tells only a part of its row, which then cannot be found again"
    )]
    NotWhole { table: TableName, gtid: Gtid },
    #[error("transaction {gtid} comes after position {position} in the binlog, but its sequence number does not")]
    Backwards { gtid: Gtid, position: String },
    #[error("transaction {gtid} is published in part, and its row {row} is another one in the binlog now")]
    NotWhatWasPublished { gtid: Gtid, row: u64 },
    #[error("this node, {origin}, was removed by {by}: the others take nothing from it any more")]
    Removed { origin: OriginId, by: OriginId },
    #[error("transaction {gtid} in the binlog is not the one that was published: {how}")]
    Replaced { gtid: Gtid, how: String },
}

impl Fault for TailError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Source(error) => error.disposition(),
            // A second tailer took over. If it lives we will take over in turn, and no record is published twice
            // because each reads the last record first; the lease decides which of them works.
            Self::Topic(TopicError::Fenced { .. }) => Disposition::Retry,
            Self::Topic(error) => error.disposition(),
            Self::Mark { .. }
            | Self::MarkNotFirst { .. }
            | Self::NotWhole { .. }
            | Self::Backwards { .. }
            | Self::NotWhatWasPublished { .. }
            | Self::Removed { .. }
            | Self::Replaced { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Source(error) => error.hint(),
            Self::Topic(error) => error.hint(),
            Self::Mark { .. } => Some("leave the tables of the database `tandem` to tandem; restore their columns".into()),
            Self::MarkNotFirst { .. } => Some("do not write to tandem.applied by hand together with other tables".into()),
            Self::NotWhole { .. } => {
                Some("set binlog_row_image=FULL, give the table a primary key, or exclude it under [tables]".into())
            }
            Self::Backwards { .. } => {
                Some("set gtid_strict_mode=ON on the server; see docs/operations.md, \"binlog replaced\"".into())
            }
            Self::Removed { .. } => {
                Some("to take part again it needs another name: see docs/operations.md, \"Removing a node\"".into())
            }
            Self::Replaced { .. } => Some(
                "the binlog was reset or restored, a crash lost its end, or another server answers at this address; see \
                 docs/operations.md, \"binlog replaced\""
                    .into(),
            ),
            Self::NotWhatWasPublished { .. } => {
                Some("were [tables] changed, or the binlog replaced? see docs/operations.md, \"binlog replaced\"".into())
            }
        }
    }
}

impl TailError {
    /// The same, for a supervisor.
    pub fn into_stop(self) -> Stop {
        Stop::from(self)
    }
}
