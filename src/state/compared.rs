//! The last comparison with the other nodes, as far as it came, in a small file: so that it goes on after a restart, and its outcome
//! stays to be seen.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{make_folder, replace_json};
use crate::observe::VerifyView;
use crate::runtime::Stop;
use crate::verify::VerifyBook;

/// The name of the file in the node's state folder.
const FILE: &str = "verify.json";

pub struct VerifyFile(PathBuf);

impl VerifyFile {
    pub fn open(folder: &Path) -> Result<Self, Stop> {
        make_folder(folder)?;
        Ok(Self(folder.join(FILE)))
    }
}

impl VerifyBook for VerifyFile {
    fn load(&self) -> Result<Option<VerifyView>, Stop> {
        let remedy = "delete the file: a comparison that was under way must be asked for again";
        let fault = |error: &dyn std::fmt::Display| Stop::halt(format!("cannot read {}: {error}", self.0.display()), remedy);
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| fault(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&error)),
        }
    }

    fn save(&self, view: &VerifyView) {
        // A full disk costs tables that are compared twice, which changes nothing.
        let _ = replace_json(&self.0, view);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_outlives_the_process_and_a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let open = || VerifyFile::open(folder.path()).unwrap();
        assert_eq!(open().load().unwrap(), None);
        let view = VerifyView {
            number: 7,
            asked_seconds: 1,
            ended_seconds: None,
            repair: true,
            look: 0,
            all: true,
            parts: Vec::new(),
            differences: Vec::new(),
            differing: 0,
        };
        open().save(&view);
        assert_eq!(open().load().unwrap(), Some(view));
        fs::write(folder.path().join(FILE), "what?").unwrap();
        let stop = open().load().expect_err("this is no comparison");
        assert!(stop.to_string().contains("verify.json") && stop.to_string().contains("delete the file"), "{stop}");
    }
}
