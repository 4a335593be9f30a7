//! Files in a folder, each under the hash of what it holds: the same file is kept once, and never half.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;

use super::ShelfError;

/// Keeps files below a folder: `<kind>/<hash>`.
#[derive(Clone, Debug)]
pub struct FileShelf(PathBuf);

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is here now, or was before; its hash.
    Here(String),
    /// It did not arrive as it was sent.
    Damaged,
}

fn fault(error: impl std::fmt::Display) -> ShelfError {
    ShelfError { reason: error.to_string() }
}

impl FileShelf {
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Keeps the file. It has its name only when all of it is on the disk. `said` is the hash that the sender knows.
    pub async fn put(&self, kind: String, bytes: Bytes, said: Option<String>) -> Result<Kept, ShelfError> {
        let folder = self.0.join(kind);
        let kept = tokio::task::spawn_blocking(move || {
            let hash = blake3::hash(&bytes).to_hex().to_string();
            if said.is_some_and(|said| said != hash) {
                return Ok(Kept::Damaged);
            }
            let place = folder.join(&hash);
            if place.is_file() {
                return Ok(Kept::Here(hash));
            }
            fs::create_dir_all(&folder).map_err(fault)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(fault)?;
            file.write_all(&bytes).map_err(fault)?;
            file.as_file().sync_all().map_err(fault)?;
            file.persist(&place).map_err(fault)?;
            Ok(Kept::Here(hash))
        });
        kept.await.map_err(|_| ShelfError { reason: "the process ends".into() })?
    }

    /// The file of this hash.
    pub async fn get(&self, kind: &str, hash: &str) -> Result<Option<Bytes>, ShelfError> {
        // Nothing but a hash is a name here, so none leads elsewhere.
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        match tokio::fs::read(self.0.join(kind).join(hash)).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_kept_once_whole_and_under_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = FileShelf::new(folder.path());
        let put = |said: Option<String>| shelf.put("images".into(), Bytes::from_static(b"picture"), said);
        let Kept::Here(hash) = put(None).await.unwrap() else { panic!("it is whole") };
        assert_eq!(put(Some(hash.clone())).await.unwrap(), Kept::Here(hash.clone()));
        assert_eq!(put(Some("0".repeat(64))).await.unwrap(), Kept::Damaged);
        assert_eq!(fs::read_dir(folder.path().join("images")).unwrap().count(), 1, "nothing half is left");
        assert_eq!(shelf.get("images", &hash).await.unwrap().as_deref(), Some(&b"picture"[..]));
        assert_eq!(shelf.get("images", "../../etc/passwd").await.unwrap(), None);
    }
}
