//! Files under the hash of what they hold: the same file is kept once, and never half. In a folder, or in a bucket.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::ShelfError;
use crate::target::cloud::{Begun, CloudError, Content, ContentError, FileArchive, FileName};

/// Keeps files in a store. Clones are the same shelf.
#[derive(Clone)]
pub struct FileShelf(Arc<dyn FileArchive>);

/// What became of a file, or of a part of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is here now, or was before; the hash of a file, the word for a part.
    Here(String),
    /// It did not arrive as it was sent.
    Damaged,
    /// There is no such upload.
    NoSuch,
}

/// A file that is to come in parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Coming {
    Here,
    /// Under this name, which holds all that is known of it: a receiver that was restarted goes on.
    Upload(String),
}

/// What arrived in one request.
struct Arrived(Bytes);

#[async_trait]
impl Content for Arrived {
    async fn part(&self, number: u32) -> Result<Bytes, ContentError> {
        Ok(if number == 0 { self.0.clone() } else { Bytes::new() })
    }
}

fn fault(error: CloudError) -> ShelfError {
    ShelfError {
        is_full: matches!(error, CloudError::Quota { .. }),
        reason: error.to_string(),
        remedy: "see that the folder or bucket of the files can be written to and has room, and that its key is good",
    }
}

/// What only a hash looks like, so that none leads elsewhere.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn name(kind: &str, hash: &str, size: u64, part_bytes: u64) -> FileName {
    FileName { kind: kind.into(), name: String::new(), hash: hash.into(), size, part_bytes: part_bytes.max(1) }
}

impl FileShelf {
    pub fn new(store: impl FileArchive + 'static) -> Self {
        Self(Arc::new(store))
    }

    /// Keeps the file. `said` is the hash that the sender knows.
    pub async fn put(&self, kind: &str, bytes: Bytes, said: Option<&str>) -> Result<Kept, ShelfError> {
        let hash = blake3::hash(&bytes).to_hex().to_string();
        if said.is_some_and(|said| said != hash) {
            return Ok(Kept::Damaged);
        }
        let size = bytes.len() as u64;
        self.0.put(&name(kind, &hash, size, size), Arc::new(Arrived(bytes))).await.map_err(fault)?;
        Ok(Kept::Here(hash))
    }

    /// A file of this hash is to come in parts.
    pub async fn begin(&self, kind: &str, hash: &str, size: u64, part_bytes: u64) -> Result<Coming, ShelfError> {
        Ok(match self.0.begin(&name(kind, hash, size, part_bytes)).await.map_err(fault)? {
            Begun::There(_) => Coming::Here,
            Begun::Parts(upload) => Coming::Upload(format!("{hash}.{upload}")),
            Begun::Whole => return Err(ShelfError::new("the store takes no parts")),
        })
    }

    pub async fn part(
        &self,
        kind: &str,
        upload: &str,
        number: u32,
        bytes: Bytes,
        said: Option<&str>,
    ) -> Result<Kept, ShelfError> {
        if said.is_some_and(|said| said != blake3::hash(&bytes).to_hex().as_str()) {
            return Ok(Kept::Damaged);
        }
        let Some((hash, upload)) = known(upload) else { return Ok(Kept::NoSuch) };
        kept(self.0.part(&name(kind, hash, 0, 1), upload, number, bytes).await)
    }

    /// All parts of the upload have come; `tags` are the words that they were answered with.
    pub async fn finish(&self, kind: &str, upload: &str, tags: &[String]) -> Result<Kept, ShelfError> {
        let Some((hash, upload)) = known(upload) else { return Ok(Kept::NoSuch) };
        let finished = self.0.finish(&name(kind, hash, 0, 1), upload, tags).await;
        kept(finished.map(|_| hash.to_owned()))
    }

    pub async fn abort(&self, kind: &str, upload: &str) -> Result<Kept, ShelfError> {
        let Some((hash, upload)) = known(upload) else { return Ok(Kept::NoSuch) };
        let aborted = self.0.abort(&name(kind, hash, 0, 1), upload).await;
        kept(aborted.map(|()| hash.to_owned()))
    }

    /// So many bytes of the file of this hash from there on, fewer at its end.
    pub async fn read(&self, kind: &str, hash: &str, from: u64, bytes: usize) -> Result<Option<Bytes>, ShelfError> {
        if !is_hash(hash) {
            return Ok(None);
        }
        self.0.read(kind, hash, from, bytes).await.map_err(fault)
    }
}

/// The hash and the store's own name in an upload's name.
fn known(upload: &str) -> Option<(&str, &str)> {
    upload.split_once('.').filter(|(hash, _)| is_hash(hash))
}

fn kept(done: Result<String, CloudError>) -> Result<Kept, ShelfError> {
    match done {
        Ok(word) => Ok(Kept::Here(word)),
        Err(CloudError::NoSuch { .. }) => Ok(Kept::NoSuch),
        Err(CloudError::Refused { .. }) => Ok(Kept::Damaged),
        Err(error) => Err(fault(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::target::cloud::{FolderFiles, Pace};

    fn shelf(folder: &std::path::Path) -> FileShelf {
        FileShelf::new(FolderFiles::new(folder, None, Arc::new(Pace::new(None))))
    }

    fn count(folder: &std::path::Path) -> usize {
        fs::read_dir(folder).map_or(0, Iterator::count)
    }

    #[tokio::test]
    async fn a_file_is_kept_once_whole_and_under_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        let picture = || Bytes::from_static(b"picture");
        let Kept::Here(hash) = shelf.put("images", picture(), None).await.unwrap() else { panic!("it is whole") };
        assert_eq!(shelf.put("images", picture(), Some(&hash)).await.unwrap(), Kept::Here(hash.clone()));
        assert_eq!(shelf.put("images", picture(), Some(&"0".repeat(64))).await.unwrap(), Kept::Damaged);
        assert_eq!(
            (count(&folder.path().join("images")), count(&folder.path().join(".parts"))),
            (1, 0),
            "nothing half is left"
        );
        assert_eq!(shelf.read("images", &hash, 2, 9).await.unwrap().as_deref(), Some(&b"cture"[..]));
        assert_eq!(shelf.read("images", "../../etc/passwd", 0, 9).await.unwrap(), None);
    }

    #[tokio::test]
    async fn parts_make_a_file_only_together_and_only_if_they_are_what_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = shelf(folder.path());
        let hash = blake3::hash(b"abcdef").to_hex().to_string();
        let begin = async || match shelf.begin("images", &hash, 6, 4).await.unwrap() {
            Coming::Upload(upload) => upload,
            Coming::Here => panic!("it is not here"),
        };
        let part = async |upload: &str, number, text: &'static str| {
            shelf.part("images", upload, number, text.into(), None).await.unwrap()
        };
        let wrong = begin().await;
        part(&wrong, 0, "abcd").await;
        part(&wrong, 1, "xx").await;
        assert_eq!(shelf.finish("images", &wrong, &[]).await.unwrap(), Kept::Damaged);
        assert_eq!(part(&wrong, 1, "ef").await, Kept::NoSuch, "it has to begin anew");
        let upload = begin().await;
        // Sent twice, because the answer was lost; and from another receiver of the same folder.
        part(&upload, 0, "abcd").await;
        part(&upload, 0, "abcd").await;
        let damaged = shelf.part("images", &upload, 1, "eX".into(), Some(&hash)).await.unwrap();
        assert_eq!(damaged, Kept::Damaged);
        part(&upload, 1, "ef").await;
        assert_eq!(shelf.read("images", &hash, 0, 9).await.unwrap(), None, "not before the end");
        for _ in 0..2 {
            assert_eq!(shelf.finish("images", &upload, &[]).await.unwrap(), Kept::Here(hash.clone()));
        }
        assert_eq!(shelf.read("images", &hash, 0, 9).await.unwrap().as_deref(), Some(&b"abcdef"[..]));
        assert_eq!(shelf.begin("images", &hash, 6, 4).await.unwrap(), Coming::Here);
        for upload in ["", "x", &format!("{hash}.4-../../../x"), &format!("{hash}./etc")] {
            assert_eq!(part(upload, 0, "x").await, Kept::NoSuch, "{upload}");
        }
    }
}
