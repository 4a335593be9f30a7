//! Secrets: where they come from, and how to have them without being able to print them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::raw::Environment;
use crate::runtime::Stop;

/// Passwords and keys are short; a larger file is not one.
const SECRET_BYTES_MAX: u64 = 4096;

/// The environment as a place of secrets: none of it can be printed.
pub(super) type Surroundings = BTreeMap<String, SecretString>;

pub(super) fn surroundings(environment: Environment) -> Surroundings {
    environment.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect()
}

/// A reference to a secret. Safe to print: it is only a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretSource {
    Variable(String),
    File(PathBuf),
}

/// Why a secret cannot be had.
pub(super) struct SecretMissing {
    pub rule: String,
    pub fix: String,
}

impl SecretSource {
    pub(super) fn resolve(&self, environment: &Surroundings) -> Result<SecretString, SecretMissing> {
        let missing = |rule: String, fix: String| Err(SecretMissing { rule, fix });
        match self {
            Self::Variable(name) => match environment.get(name) {
                Some(secret) if !secret.expose_secret().is_empty() => Ok(secret.clone()),
                Some(_) => missing(format!("the environment variable {name} is empty"), "put the secret in it".into()),
                None => {
                    let fix = "set it for this process, for example in the service's environment file".into();
                    missing(format!("the environment variable {name} is not set"), fix)
                }
            },
            Self::File(path) => {
                let mut bytes = Vec::new();
                let read = std::fs::File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes));
                let place = path.display();
                if let Err(error) = read {
                    return missing(
                        format!("cannot read {place}: {error}"),
                        "write the secret there, readable by this user only".into(),
                    );
                }
                if bytes.len() as u64 > SECRET_BYTES_MAX {
                    return missing(
                        format!("{place} is too large for a secret"),
                        "the file must hold nothing but the secret".into(),
                    );
                }
                let Ok(text) = String::from_utf8(bytes) else {
                    return missing(format!("{place} is not UTF-8 text"), "the file must hold nothing but the secret".into());
                };
                // Editors and `echo` end a file with a line break that is no part of the secret, and some on Windows begin it
                // with a mark of what it is written in.
                let secret = text.strip_prefix('\u{feff}').unwrap_or(&text);
                let secret = secret.strip_suffix('\n').unwrap_or(secret);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                if secret.is_empty() {
                    return missing(format!("{place} is empty"), "write the secret there".into());
                }
                Ok(SecretString::from(secret))
            }
        }
    }
}

impl SecretSource {
    /// The secret, from this process's environment or the file: for commands that need no configuration.
    pub fn read(&self) -> Result<SecretString, Stop> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let environment = surroundings(environment.collect());
        self.resolve(&environment).map_err(|missing| Stop::halt(missing.rule, missing.fix))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}
