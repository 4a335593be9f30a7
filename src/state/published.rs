//! How far the node's own topic was, in a small file: so that a hub put back from an older copy is noticed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::change::Offset;
use crate::runtime::Stop;
use crate::tail::Floor;

/// The name of the file in the node's state folder. Deleting it says: the topic begins anew, on purpose.
pub const PUBLISHED_FILE: &str = "published";

/// Not synced: it outlives the process, which is what usually dies. After the loss of power it may be older, and then
/// notices less.
pub struct PublishedFile(Mutex<Open>);

struct Open {
    file: File,
    end: Offset,
}

impl PublishedFile {
    pub fn open(folder: &Path) -> Result<Self, Stop> {
        let path = folder.join(PUBLISHED_FILE);
        let fault = |error: io::Error| {
            Stop::halt(format!("cannot use {}: {error}", path.display()), "make the state folder writable for this user")
        };
        fs::create_dir_all(folder).map_err(fault)?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fault)?;
        let mut text = String::new();
        (&mut file).take(64).read_to_string(&mut text).map_err(fault)?;
        let end = match text.trim() {
            "" => Offset(0),
            digits => Offset(digits.parse().map_err(|_| not_a_number(&path))?),
        };
        Ok(Self(Mutex::new(Open { file, end })))
    }
}

fn not_a_number(path: &Path) -> Stop {
    Stop::halt(
        format!("{} does not hold a number", path.display()),
        "if nobody put the topics back to an older state, delete the file; see docs/operations.md, \"topic rolled back\"",
    )
}

impl Floor for PublishedFile {
    fn end(&self) -> Offset {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end
    }

    fn raise(&self, end: Offset) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if end <= open.end {
            return;
        }
        open.end = end;
        // Always as long, so that a shorter number leaves nothing of a longer one. A disk that is full costs a check.
        let line = format!("{:020}\n", end.0);
        let _ = open.file.seek(SeekFrom::Start(0)).and_then(|_| open.file.write_all(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_known_by_the_next_process_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let floor = PublishedFile::open(folder.path()).unwrap();
        assert_eq!(floor.end(), Offset(0));
        floor.raise(Offset(1_000));
        floor.raise(Offset(7));
        drop(floor);
        let floor = PublishedFile::open(folder.path()).unwrap();
        assert_eq!(floor.end(), Offset(1_000));
        fs::write(folder.path().join(PUBLISHED_FILE), "what?").unwrap();
        let stop = PublishedFile::open(folder.path()).err().expect("this is no number");
        assert!(stop.to_string().contains("does not hold a number"), "{stop}");
    }
}
