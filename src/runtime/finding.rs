//! What somebody who looks a set-up over finds: good, could be better, must be mended.

use serde::Serialize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Good,
    /// It works, but less well or less safely than it could.
    Warn,
    /// It does not work, or changes would be lost.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    pub level: Level,
    /// Short and stable, such as `DB-FORMAT`: to search for, and for programs.
    pub code: &'static str,
    /// A sentence without a full stop. Never a secret, never a row.
    pub what: String,
    /// The exact fix; absent where nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    pub fn good(code: &'static str, what: impl Into<String>) -> Self {
        Self { level: Level::Good, code, what: what.into(), remedy: None }
    }

    pub fn warn(code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, code, what: what.into(), remedy: Some(remedy.into()) }
    }

    pub fn fail(code: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, code, what: what.into(), remedy: Some(remedy.into()) }
    }
}
