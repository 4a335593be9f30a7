//! What can be wrong with an event, by what somebody does about it.

use crate::change::TableName;
use crate::runtime::{Disposition, Fault};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes contradict themselves: a damaged binlog, or a form of event that we do not know.
    #[error("{place} is not as expected: {what}")]
    Malformed { place: String, what: &'static str },
    /// How the table looked at this place of the binlog is not known for certain.
    #[error("{table}: {what}")]
    ShapeUnknown { table: TableName, what: String },
    /// We know what it is, and that we cannot read it.
    #[error("{table} column `{column}`: {what}")]
    Unsupported { table: TableName, column: String, what: String },
    #[error("{what} would take {size} bytes, the limit is {limit}")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
}

impl Fault for DecodeError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Malformed { .. } | Self::ShapeUnknown { .. } | Self::Unsupported { .. } | Self::TooLarge { .. } => {
                Disposition::Halt
            }
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Malformed { .. } => {
                "check the binlog there with `mariadb-binlog --verify-binlog-checksum`; if it reads well, \
                                       report this as a bug with the event"
                    .into()
            }
            Self::ShapeUnknown { table, .. } => format!(
                "set binlog_row_metadata=FULL on the server (MariaDB 10.5 and later); to go on past this place, take a new \
                 snapshot of {table}"
            ),
            Self::Unsupported { table, .. } => {
                format!("change the column with ALTER TABLE, or exclude {table} under [tables], then take a new snapshot of it")
            }
            Self::TooLarge { .. } => "report this: the server itself should not have been able to write such an event".into(),
        })
    }
}

/// What is wrong with some bytes, before anybody has said where they stand. Small, because it is in the result of
/// every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub &'static str);

impl Malformed {
    pub(super) const SHORT: Self = Self("it ends too early");

    pub(super) fn at(self, place: impl Into<String>) -> DecodeError {
        DecodeError::Malformed { place: place.into(), what: self.0 }
    }
}
