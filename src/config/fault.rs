//! What is wrong with a configuration: every fault with its place, the rule it breaks and what to write instead.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::runtime::{Disposition, Fault};

/// Where a setting comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// Line of the file, from 1.
    Line(usize),
    /// An environment variable that overrides the file.
    Variable(String),
    /// Something that is not there.
    Nowhere,
}

/// One thing that is wrong. Its text never holds the value of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFault {
    pub place: Place,
    /// What is wrong with which key.
    pub rule: String,
    pub fix: String,
}

/// Everything that is wrong with one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: PathBuf,
    list: Vec<ConfigFault>,
}

impl Faults {
    /// In the order of the file; what is missing comes last.
    pub(super) fn new(file: &Path, mut list: Vec<ConfigFault>) -> Self {
        let rank = |fault: &ConfigFault| match &fault.place {
            Place::Line(line) => (0, *line),
            Place::Variable(_) => (1, 0),
            Place::Nowhere => (2, 0),
        };
        list.sort_by_key(rank);
        Self { file: file.to_owned(), list }
    }

    pub(super) fn one(file: &Path, place: Place, rule: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(file, vec![ConfigFault { place, rule: rule.into(), fix: fix.into() }])
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One line per fault.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.list.iter().map(move |ConfigFault { place, rule, fix }| match place {
            Place::Line(line) => format!("{file} line {line}: {rule} — {fix}"),
            Place::Variable(name) => format!("environment variable {name}: {rule} — {fix}"),
            Place::Nowhere => format!("{file}: {rule} — {fix}"),
        })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.lines().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Fault for Faults {
    fn disposition(&self) -> Disposition {
        Disposition::Halt
    }
}
