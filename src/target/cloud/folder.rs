//! Files in a folder: of this machine, or mounted from another.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;

use super::pace::Pace;
use super::{Archive, Begun, CloudError, Content, FileArchive, FileName, FileStore};

/// Keeps files as `<kind>/<hash>`. Parts gather in `.parts`, out of sight of who reads the folder.
#[derive(Debug)]
pub struct FolderFiles {
    root: PathBuf,
    place: String,
    /// What addresses begin with.
    public: String,
    pace: Arc<Pace>,
}

const PARTS: &str = ".parts";

impl FolderFiles {
    /// Addresses begin with `public`, or with `file://` and the folder.
    pub fn new(root: impl Into<PathBuf>, public: Option<String>, pace: Arc<Pace>) -> Self {
        let root = root.into();
        let place = format!("file://{}", root.display());
        let public = public.unwrap_or_else(|| place.clone()).trim_end_matches('/').to_owned();
        Self { root, place, public, pace }
    }

    /// Removes parts that nobody has added to for so long: of senders that never came back. `now` is in seconds of the Unix epoch.
    pub fn sweep(&self, now: u64, older_than: Duration) -> Result<(), CloudError> {
        let entries = match fs::read_dir(self.root.join(PARTS)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.fault(&error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| self.fault(&error))?;
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).map_err(|error| self.fault(&error))?;
            let changed = changed.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs());
            if now.saturating_sub(changed) > older_than.as_secs() {
                fs::remove_file(entry.path()).map_err(|error| self.fault(&error))?;
            }
        }
        Ok(())
    }

    fn url(&self, file: &FileName) -> String {
        format!("{}/{}/{}", self.public, file.kind, file.hash)
    }

    fn kept(&self, file: &FileName) -> PathBuf {
        self.root.join(&file.kind).join(&file.hash)
    }

    /// An upload's name says how large its parts are, so that each has its place, sent twice or not.
    fn gathering(&self, file: &FileName, upload: &str) -> Result<(PathBuf, u64), CloudError> {
        let unknown = || CloudError::NoSuch { place: self.place.clone(), path: format!("upload of {}", file.kind) };
        let (part_bytes, rest) = upload.split_once('-').ok_or_else(unknown)?;
        if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        Ok((self.root.join(PARTS).join(upload), part_bytes.parse().map_err(|_| unknown())?))
    }

    /// Waiting for the disk must not keep other tasks waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, CloudError> {
        let ended = |_| io::Error::other("the process ends");
        let done = tokio::task::spawn_blocking(work).await.map_err(ended).and_then(|done| done);
        done.map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &io::Error) -> CloudError {
        let place = self.place.clone();
        match error.kind() {
            io::ErrorKind::NotFound => CloudError::NoSuch { place, path: "such upload or folder".into() },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CloudError::Quota { place, reason: error.to_string() },
            io::ErrorKind::PermissionDenied => {
                CloudError::Denied { place, key: "the user of this process".into(), reason: error.to_string() }
            }
            io::ErrorKind::InvalidData => CloudError::Refused { place, reason: error.to_string() },
            _ => CloudError::Failing { place, reason: error.to_string() },
        }
    }
}

/// The folder and its entry for the file are on the disk, not the file alone.
fn persist(file: tempfile::NamedTempFile, place: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(place)?;
    sync_folder(place)
}

fn sync_folder(place: &Path) -> io::Result<()> {
    let folder = place.parent().expect("a file lies in a folder");
    // Not everywhere can a folder be opened; where it cannot, nothing is to be done.
    File::open(folder).map_or(Ok(()), |folder| folder.sync_all())
}

#[async_trait]
impl Archive for FolderFiles {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<bool, CloudError> {
        let (place, gathering) = (self.root.join(key), self.root.join(PARTS));
        self.pace.take(bytes.len()).await;
        self.blocking(move || {
            fs::create_dir_all(place.parent().expect("a file lies in a folder"))?;
            fs::create_dir_all(&gathering)?;
            let mut file = tempfile::NamedTempFile::new_in(&gathering)?;
            file.write_all(&bytes)?;
            file.as_file().sync_all()?;
            match file.persist_noclobber(&place) {
                Ok(_) => sync_folder(&place).map(|()| true),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.error),
            }
        })
        .await
    }
}

#[async_trait]
impl FileArchive for FolderFiles {
    async fn read(&self, kind: &str, hash: &str, from: u64, bytes: usize) -> Result<Option<Bytes>, CloudError> {
        // Nothing but a hash is a name here, so none leads elsewhere.
        if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let path = self.root.join(kind).join(hash);
        self.blocking(move || {
            let mut file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            file.seek(SeekFrom::Start(from))?;
            let mut read = Vec::with_capacity(bytes);
            file.take(bytes as u64).read_to_end(&mut read)?;
            Ok(Some(read.into()))
        })
        .await
    }
}

#[async_trait]
impl FileStore for FolderFiles {
    fn place(&self) -> &str {
        &self.place
    }

    async fn put(&self, file: &FileName, content: Arc<dyn Content>) -> Result<String, CloudError> {
        let (place, url) = (self.kept(file), self.url(file));
        if place.is_file() {
            return Ok(url);
        }
        let folder = self.root.join(PARTS);
        let kept_in = self.root.join(&file.kind);
        let mut gathered = self
            .blocking(move || {
                fs::create_dir_all(&kept_in)?;
                fs::create_dir_all(&folder)?;
                tempfile::NamedTempFile::new_in(&folder)
            })
            .await?;
        for number in 0..file.parts() {
            let bytes = content.part(number).await?;
            self.pace.take(bytes.len()).await;
            gathered = self.blocking(move || gathered.write_all(&bytes).map(|()| gathered)).await?;
        }
        self.blocking(move || persist(gathered, &place)).await?;
        Ok(url)
    }

    async fn begin(&self, file: &FileName) -> Result<Begun, CloudError> {
        if self.kept(file).is_file() {
            return Ok(Begun::There(self.url(file)));
        }
        let (folder, kept_in) = (self.root.join(PARTS), self.root.join(&file.kind));
        let prefix = format!("{}-", file.part_bytes);
        let upload = self
            .blocking(move || {
                fs::create_dir_all(&kept_in)?;
                fs::create_dir_all(&folder)?;
                let begun = tempfile::Builder::new().prefix(&prefix).rand_bytes(16).tempfile_in(&folder)?;
                let (_, path) = begun.keep()?;
                sync_folder(&path)?;
                path.file_name().and_then(|name| name.to_str()).map(str::to_owned).ok_or(io::Error::other("a name is text"))
            })
            .await?;
        Ok(Begun::Parts(upload))
    }

    async fn part(&self, file: &FileName, upload: &str, number: u32, bytes: Bytes) -> Result<String, CloudError> {
        let (path, part_bytes) = self.gathering(file, upload)?;
        self.pace.take(bytes.len()).await;
        self.blocking(move || {
            let mut gathering = OpenOptions::new().write(true).open(&path)?;
            gathering.seek(SeekFrom::Start(part_bytes.saturating_mul(number.into())))?;
            gathering.write_all(&bytes)?;
            gathering.sync_data()
        })
        .await?;
        Ok(number.to_string())
    }

    async fn finish(&self, file: &FileName, upload: &str, _tags: &[String]) -> Result<String, CloudError> {
        let (path, _) = self.gathering(file, upload)?;
        let (place, url, hash) = (self.kept(file), self.url(file), file.hash.clone());
        if place.is_file() && !path.is_file() {
            // The answer to the first time was lost.
            return Ok(url);
        }
        self.blocking(move || {
            let mut whole = blake3::Hasher::new();
            whole.update_reader(File::open(&path)?)?;
            if whole.finalize().to_hex().as_str() != hash {
                fs::remove_file(&path)?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the parts together have another hash than was said"));
            }
            fs::rename(&path, &place)?;
            sync_folder(&place)
        })
        .await?;
        Ok(url)
    }

    async fn abort(&self, file: &FileName, upload: &str) -> Result<(), CloudError> {
        let (path, _) = self.gathering(file, upload)?;
        self.blocking(move || fs::remove_file(path)).await
    }
}
