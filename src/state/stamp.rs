//! When something was done last, in a small file: so that what is done every week is done every week, however often the node
//! is started.

use std::fs;
use std::path::{Path, PathBuf};

/// One moment, in seconds of the Unix epoch.
pub struct StampFile(PathBuf);

impl StampFile {
    /// The file of this name in the node's state folder. It need not exist.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self(folder.join(name))
    }

    /// `None` where nothing was noted, or cannot be read.
    pub fn read(&self) -> Option<u64> {
        fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    /// A disk that is full costs that it is done again.
    pub fn note(&self, seconds: u64) {
        let _ = fs::write(&self.0, format!("{seconds}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_known_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = StampFile::new(folder.path(), "verified");
        assert_eq!(stamp.read(), None);
        stamp.note(1_800_000_000);
        assert_eq!(StampFile::new(folder.path(), "verified").read(), Some(1_800_000_000));
    }
}
