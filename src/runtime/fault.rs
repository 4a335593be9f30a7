//! What to do after a failure. Every room's error says it of each of its variants.

use std::fmt;

/// What to do after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The world may mend itself (a connection, a deadlock): try again, for ever, with backoff.
    Retry,
    /// This one change cannot be taken: set it aside with its reason, and let the others go on.
    DeadLetter,
    /// Going on could lose or change data: stop this role, with the reason and the remedy.
    Halt,
}

/// An error that somebody has to decide about.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    fn disposition(&self) -> Disposition;

    /// What an operator can do now.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Why a role ended: a fault of some room with all that its owner knew, without its type.
#[derive(Debug)]
pub struct Stop {
    pub disposition: Disposition,
    /// What and where, with its causes.
    pub message: String,
    pub hint: Option<String>,
}

impl Stop {
    pub fn halt(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { disposition: Disposition::Halt, message: message.into(), hint: Some(hint.into()) }
    }
}

impl<F: Fault> From<F> for Stop {
    fn from(fault: F) -> Self {
        let mut message = fault.to_string();
        let mut cause = std::error::Error::source(&fault);
        while let Some(error) = cause {
            message = format!("{message}: {error}");
            cause = error.source();
        }
        Self { disposition: fault.disposition(), message, hint: fault.hint() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " — {hint}"),
            None => Ok(()),
        }
    }
}
