//! What a file holds at one moment: read once for its hashes, and again to be sent, with each part compared.
//!
//! So a file may be rewritten, cut short, removed or replaced by a link at any time: what arrives is what it held when it was read
//! first, or it does not arrive. Never more than a part of it is in memory.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;

use super::files::NotTaken;
use crate::target::cloud::{Content, ContentError};

/// Read at once while a file's hashes are made.
const PIECE_BYTES: usize = 256 << 10;

/// A file as it was at one moment. Clones are of the same moment.
#[derive(Clone)]
pub struct Survey {
    file: Arc<Mutex<File>>,
    pub size: u64,
    /// When it was changed last, in nanoseconds of the Unix epoch.
    pub changed: u64,
    /// BLAKE3 of the whole, in hexadecimal digits.
    pub hash: String,
    parts: Arc<[blake3::Hash]>,
    part_bytes: u64,
    turned_out_changed: Arc<AtomicBool>,
}

pub fn changed(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

pub fn unreadable(error: io::Error) -> NotTaken {
    match error.kind() {
        io::ErrorKind::NotFound => NotTaken("missing", "there is no such file".into()),
        _ => NotTaken("failed", format!("it cannot be read: {error}")),
    }
}

impl Survey {
    /// Reads the file at `place`, which somebody has found to be below the root. `Ok(None)` where it changed meanwhile: try again.
    pub fn of(place: &Path, size_max: u64, part_bytes: u64) -> Result<Option<Self>, NotTaken> {
        let mut file = File::open(place).map_err(unreadable)?;
        let before = file.metadata().map_err(unreadable)?;
        if !before.is_file() {
            return Err(NotTaken("failed", "it is no ordinary file".into()));
        }
        if before.len() > size_max {
            return Err(NotTaken("failed", format!("it has {} bytes, and at most {size_max} are sent", before.len())));
        }
        // A link may have taken the file's place before it was opened.
        let path_is_its_own = place.canonicalize().is_ok_and(|real| real == place);
        if !path_is_its_own || !same_file(&before, &fs::metadata(place).map_err(unreadable)?) {
            return Ok(None);
        }
        let (mut whole, mut parts, mut size) = (blake3::Hasher::new(), Vec::new(), 0);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let (mut part, mut left) = (blake3::Hasher::new(), part_bytes);
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                let read = file.read(&mut piece[..wanted]).map_err(unreadable)?;
                if read == 0 {
                    break;
                }
                whole.update(&piece[..read]);
                part.update(&piece[..read]);
                left -= read as u64;
            }
            size += part_bytes - left;
            if left < part_bytes || parts.is_empty() {
                parts.push(part.finalize());
            }
            // One that grows while it is read is not read for ever.
            if left > 0 || size > before.len() {
                break;
            }
        }
        // Of the name, not of what was opened: it may have been replaced.
        let after = fs::metadata(place).map_err(unreadable)?;
        if !same_file(&before, &after) || (before.len(), changed(&before)) != (size, changed(&after)) || after.len() != size {
            return Ok(None);
        }
        let hash = whole.finalize().to_hex().to_string();
        Ok(Some(Self {
            file: Arc::new(Mutex::new(file)),
            size,
            changed: changed(&before),
            hash,
            parts: parts.into(),
            part_bytes,
            turned_out_changed: Arc::default(),
        }))
    }

    /// True where a part was no longer what it had been.
    pub fn turned_out_changed(&self) -> bool {
        self.turned_out_changed.load(Ordering::Relaxed)
    }

    fn read(&self, number: u32) -> io::Result<Bytes> {
        let begin = u64::from(number) * self.part_bytes;
        let length = self.size.saturating_sub(begin).min(self.part_bytes);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The same thing on the disk, whatever its name is now.
#[cfg(unix)]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Where files have no numbers, size and time are what tells.
#[cfg(not(unix))]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    other.is_file() && one.len() == other.len() && changed(one) == changed(other)
}

#[async_trait]
impl Content for Survey {
    async fn part(&self, number: u32) -> Result<Bytes, ContentError> {
        let survey = self.clone();
        // A slow disk must not keep other tasks waiting, and hashing takes a moment too.
        let read = tokio::task::spawn_blocking(move || {
            let bytes = survey.read(number)?;
            let expected = survey.parts.get(number as usize);
            let same = expected.is_some_and(|expected| *expected == blake3::hash(&bytes));
            if same { Ok(bytes) } else { Err(io::Error::other("it changed while it was sent")) }
        });
        read.await.map_err(io::Error::other).flatten().map_err(|error| {
            self.turned_out_changed.store(true, Ordering::Relaxed);
            ContentError { reason: error.to_string() }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn survey(place: &Path) -> Survey {
        Survey::of(place, 100, 4).ok().flatten().expect("nobody changes it")
    }

    #[tokio::test]
    async fn parts_together_are_the_file_as_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap().join("a");
        for text in ["", "abc", "abcd", "abcde", "abcdefghij"] {
            fs::write(&place, text).unwrap();
            let survey = survey(&place);
            assert_eq!(survey.hash, blake3::hash(text.as_bytes()).to_hex().to_string());
            let mut read = Vec::new();
            for number in 0..survey.parts.len() {
                read.extend_from_slice(&survey.part(number as u32).await.unwrap());
            }
            assert_eq!((read.as_slice(), survey.size), (text.as_bytes(), text.len() as u64));
            assert_eq!(survey.parts.len(), text.len().div_ceil(4).max(1));
        }
    }

    #[tokio::test]
    async fn what_changes_after_it_was_read_is_noticed_and_never_sent() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap().join("a");
        let check = async |change: &dyn Fn(), sends: bool| {
            fs::write(&place, "abcdefgh").unwrap();
            let survey = survey(&place);
            assert_eq!(survey.part(0).await.unwrap().as_ref(), b"abcd");
            change();
            let second = survey.part(1).await;
            assert_eq!((second.is_ok(), survey.turned_out_changed()), (sends, !sends));
            second.ok()
        };
        check(&|| fs::write(&place, "abcdEFGH").unwrap(), false).await;
        check(&|| File::options().write(true).open(&place).unwrap().set_len(6).unwrap(), false).await;
        check(&|| File::options().append(true).open(&place).unwrap().write_all(b"more").unwrap(), true).await;
        // What was removed or replaced is still read as it was: its name is another's now.
        let kept = check(&|| fs::remove_file(&place).unwrap(), true).await;
        assert_eq!(kept.as_deref(), Some(&b"efgh"[..]));
        #[cfg(unix)]
        check(
            &|| {
                fs::remove_file(&place).unwrap();
                std::os::unix::fs::symlink("/etc/hostname", &place).unwrap();
            },
            true,
        )
        .await;
        #[cfg(unix)]
        assert!(Survey::of(&place, 100, 4).ok().unwrap().is_none(), "a link took its place after it was found");
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let refused = |place: &Path| Survey::of(place, 10, 4).err().expect("it is not taken");
        fs::write(folder.join("a"), "0123456789x").unwrap();
        assert!(refused(&folder.join("a")).1.contains("11 bytes"));
        assert!(refused(&folder).1.contains("no ordinary file"));
        assert_eq!(refused(&folder.join("none")).0, "missing");
    }
}
