//! Why the feeding of a cloud stops.

use crate::runtime::{Disposition, Fault};
use crate::source::SourceError;
use crate::target::cloud::CloudError;
use crate::topic::TopicError;

/// The node's own disk failed, or another process has the file.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the cloud's ledger cannot be used: {reason}")]
pub struct LedgerError {
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CloudFault {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The process ends while something waits to be sent; it is sent after the next start.
    #[error("the node ends")]
    Ended,
}

impl Fault for CloudFault {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Topic(error) => error.disposition(),
            Self::Source(error) => error.disposition(),
            // One row's failure is settled where it is sent; what comes here stops the whole.
            Self::Cloud(error) if error.disposition() == Disposition::DeadLetter => Disposition::Halt,
            Self::Cloud(error) => error.disposition(),
            Self::Ledger(_) | Self::Ended => Disposition::Retry,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Topic(TopicError::Gone { .. }) => {
                Some("what happened meanwhile is no longer in the topic; see docs/cloud.md, \"when something is wrong\"".into())
            }
            Self::Topic(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Cloud(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Ended => None,
        }
    }
}

impl Fault for LedgerError {
    fn disposition(&self) -> Disposition {
        Disposition::Retry
    }

    fn hint(&self) -> Option<String> {
        Some("make the state folder writable, free its disk, and run one process per node".into())
    }
}
