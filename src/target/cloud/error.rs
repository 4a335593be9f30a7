//! What a cloud's answers mean to who sent something, by what is to be done next.

use std::time::Duration;

use crate::runtime::{Disposition, Fault};

#[derive(Debug, Clone, thiserror::Error)]
pub enum CloudError {
    /// No answer, half an answer, or one of somebody else (a login page of a hotel). Whether it was taken is unknown.
    #[error("cannot reach the cloud at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    /// The cloud has a fault of its own. Whether it was taken is unknown.
    #[error("the cloud at {place} has a fault: {reason}")]
    Failing { place: String, reason: String },
    /// Nothing may be sent before this time has passed.
    #[error("the cloud at {place} asks us to wait: {reason}")]
    Busy { place: String, reason: String, wait: Option<Duration> },
    #[error("the cloud at {place} does not accept the key of {key}: {reason}")]
    Denied { place: String, key: String, reason: String },
    #[error("the cloud at {place} has no room left: {reason}")]
    Quota { place: String, reason: String },
    /// There is nothing at this address of the API.
    #[error("the cloud at {place} has no {path}")]
    NoSuch { place: String, path: String },
    /// What was sent is larger than the cloud takes.
    #[error("the cloud at {place} takes no request of {bytes} bytes")]
    TooLarge { place: String, bytes: usize },
    /// The cloud has another state of it: a row that is there already, or a newer one.
    #[error("the cloud at {place} has another state of it: {reason}")]
    Conflict { place: String, reason: String },
    /// What was sent is wrong to the cloud; sending the same again will hardly help.
    #[error("the cloud at {place} refused it: {reason}")]
    Refused { place: String, reason: String },
    #[error("the address of the cloud cannot be used: {reason}")]
    Address { reason: String },
}

impl Fault for CloudError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } | Self::Failing { .. } | Self::Busy { .. } => Disposition::Retry,
            // Keys are changed and room is made on running systems; it is shown all the while, and nothing is lost.
            Self::Denied { .. } | Self::Quota { .. } => Disposition::Retry,
            Self::NoSuch { .. } | Self::Address { .. } => Disposition::Halt,
            Self::TooLarge { .. } | Self::Refused { .. } | Self::Conflict { .. } => Disposition::DeadLetter,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } | Self::Failing { .. } | Self::Busy { .. } => {
                "nothing is lost; it goes on by itself when the cloud is back".into()
            }
            Self::Denied { key, .. } => format!("put a key that the cloud accepts into {key}, then restart this node"),
            Self::Quota { .. } => "make room in the cloud, or send less: fewer days, fewer files".into(),
            Self::NoSuch { path, .. } if path.ends_with("/batch") => {
                "this cloud does not know batches: write mode = \"missing\" under this [cloud]".into()
            }
            Self::NoSuch { .. } => {
                "mend `url` of the cloud's api, or the table's `resource` in the configuration; see docs/cloud.md, \"when something is wrong\"".into()
            }
            Self::TooLarge { .. } => "leave a large column out with `omit`, or raise the cloud's limit".into(),
            Self::Conflict { .. } | Self::Refused { .. } => "mend the row or its mapping, then `tandem sync --only cloud` tries it again".into(),
            Self::Address { .. } => "write it as \"https://cloud.example/api\"".into(),
        })
    }
}
