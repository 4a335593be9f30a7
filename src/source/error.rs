//! What can go wrong while reading a database, by what somebody does about it.

use crate::runtime::{Disposition, Fault};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot reach the database at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{what}")]
    Refused { what: String, remedy: String },
}

impl Fault for SourceError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } => Disposition::Retry,
            Self::Refused { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("nothing is lost; it goes on by itself when the database is back".into()),
            Self::Refused { remedy, .. } => Some(remedy.clone()),
        }
    }
}
