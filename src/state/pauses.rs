//! Which roles somebody has paused, and since when, in a small file: a pause outlives the process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make_folder, replace_json};
use crate::runtime::{PauseBook, Stop};

/// The name of the file in the node's state folder.
const FILE: &str = "paused.json";

pub struct PauseFile(PathBuf);

impl PauseFile {
    pub fn open(folder: &Path) -> Result<Self, Stop> {
        make_folder(folder)?;
        Ok(Self(folder.join(FILE)))
    }
}

impl PauseBook for PauseFile {
    fn load(&self) -> Result<BTreeMap<String, u64>, Stop> {
        let fault = |error: &dyn std::fmt::Display| {
            Stop::halt(
                format!("cannot read {}: {error}", self.0.display()),
                "delete the file, and pause again what is to stand still",
            )
        };
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fault(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(fault(&error)),
        }
    }

    fn save(&self, paused: &BTreeMap<String, u64>) -> Result<(), Stop> {
        replace_json(&self.0, paused).map_err(|error| {
            Stop::halt(
                format!("cannot write {}: {error}", self.0.display()),
                "make room there, and the folder writable for this user",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_outlive_the_process_and_a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = || PauseFile::open(folder.path()).unwrap();
        assert_eq!(open().load().unwrap().len(), 0);
        open().save(&[("cloud main".to_owned(), 1_800_000_000)].into()).unwrap();
        assert_eq!(open().load().unwrap()["cloud main"], 1_800_000_000);
        fs::write(folder.path().join(FILE), "what?").unwrap();
        let stop = open().load().unwrap_err().to_string();
        assert!(stop.contains("paused.json") && stop.contains("delete the file"), "{stop}");
        let gone = PauseFile(folder.path().join("no such folder").join(FILE));
        assert!(gone.save(&BTreeMap::new()).unwrap_err().message.starts_with("cannot write"));
    }
}
