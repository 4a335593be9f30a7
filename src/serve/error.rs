//! What can go wrong while serving, by what somebody does about it.

use std::net::SocketAddr;

use super::hub::HubError;
use crate::runtime::{Disposition, Fault};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {listen}")]
    Listen {
        listen: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{listen} is open to other machines, and there is no key")]
    Open { listen: SocketAddr },
    #[error(transparent)]
    Certificate(Box<HubError>),
    #[error("the system has no random numbers to give")]
    NoChance,
}

impl Fault for ServeError {
    fn disposition(&self) -> Disposition {
        match self {
            // The port may be free again when another process ends.
            Self::Listen { .. } => Disposition::Retry,
            Self::Open { .. } => Disposition::Halt,
            Self::Certificate(error) => error.disposition(),
            Self::NoChance => Disposition::Retry,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Certificate(error) => return error.hint(),
            Self::Listen { .. } => "is another tandem running here? Choose another `listen`, or stop it".into(),
            Self::NoChance => "see the system's own log".into(),
            Self::Open { .. } => "add key_env or key_file under [web], or listen on 127.0.0.1".into(),
        })
    }
}
