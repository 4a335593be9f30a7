//! Where a simulation puts its hand in: before every step of the database, to delay it, refuse it, or let it happen and
//! then report a failure.

use async_trait::async_trait;

use crate::target::{TargetError, Write};

/// What is about to happen.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    Checkpoints,
    Canonical,
    Begin,
    Lock,
    Holders,
    Referrers,
    Position,
    /// One row. An `Unwritable` here is a row that the database cannot take; the transaction goes on.
    Write(&'a Write),
    Rewrite,
    Keep,
    /// A statement that defines tables.
    Define,
    Commit,
    /// One row of the application's own transaction.
    LocalRow,
    LocalCommit,
}

#[derive(Debug)]
pub enum Verdict {
    Go,
    /// It does not happen.
    Refuse(TargetError),
    /// It happens, and the caller is told that it failed. After anything but a commit the transaction is rolled back
    /// where the error says `Retry`.
    DoThenFail(TargetError),
}

impl Verdict {
    pub(super) fn refused(&self) -> Result<(), TargetError> {
        match self {
            Self::Refuse(error) => Err(error.clone()),
            Self::Go | Self::DoThenFail(_) => Ok(()),
        }
    }

    pub(super) fn failed(self) -> Result<(), TargetError> {
        match self {
            Self::DoThenFail(error) => Err(error),
            Self::Go | Self::Refuse(_) => Ok(()),
        }
    }
}

/// Awaited before each step, so it may take its time.
#[async_trait]
pub trait Faults: Send + Sync {
    async fn before(&self, step: Step<'_>) -> Verdict;
}

/// Everything works, at once.
pub struct NoFaults;

#[async_trait]
impl Faults for NoFaults {
    async fn before(&self, _step: Step<'_>) -> Verdict {
        Verdict::Go
    }
}
