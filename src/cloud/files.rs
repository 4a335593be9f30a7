//! Files that rows name: found below their root, sent once by what they hold, their address put into the row.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde_json::Value as Json;

use super::sender::Sender;
use super::{CloudApplier, CloudFault, LedgerError};
use crate::change::cloud::{CloudOp, CloudRow};
use crate::observe::{CloudProblem, CloudReport};
use crate::runtime::Shutdown;
use crate::target::cloud::{CloudError, Upload};

/// Where files lie, and which of them are sent.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Paths in columns begin here; nothing outside it is ever read.
    pub root: PathBuf,
    /// Larger ones are not sent. They are held in memory while they are.
    pub size_max: u64,
    /// Names that are not sent, with `*` for any letters; the row is.
    pub skip: Vec<String>,
}

/// A column that names a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileColumn {
    /// `POST /api/upload/<kind>`.
    pub kind: String,
    /// The field of the row that gets the file's address.
    pub field: String,
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileState {
    /// `synced`, `missing`, `skipped`, `failed`.
    pub state: String,
    pub size: u64,
    /// When it was changed last, in nanoseconds of the Unix epoch.
    pub changed: u64,
    pub hash: String,
    pub url: Option<String>,
    pub reason: Option<String>,
}

/// KEEPS what became of files. Part of the ledger.
pub trait FileLedger {
    fn file(&self, kind: &str, path: &str) -> Result<Option<FileState>, LedgerError>;

    /// The address of what has this hash, if it was sent before under any name.
    fn url_of(&self, kind: &str, hash: &str) -> Result<Option<String>, LedgerError>;

    fn keep_file(&mut self, kind: &str, path: &str, state: &FileState) -> Result<(), LedgerError>;

    /// How many files are in each state.
    fn file_counts(&self) -> Result<BTreeMap<String, u64>, LedgerError>;
}

/// A file as it was at one moment.
struct Taken {
    bytes: Vec<u8>,
    hash: String,
    size: u64,
    changed: u64,
}

/// Why a file is not taken, by the state that says so.
#[derive(Debug, PartialEq, Eq)]
struct NotTaken(&'static str, String);

impl CloudApplier {
    /// Sends the files that these rows name, and puts their addresses into the rows. A file that cannot be sent is noted, and its
    /// row goes without it.
    pub(super) async fn attach(
        &self,
        rows: Vec<(usize, CloudRow)>,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<Vec<CloudRow>, CloudFault> {
        let mut whole = Vec::with_capacity(rows.len());
        for (place, mut row) in rows {
            let (_, mapping) = &self.options.tables[place];
            if let Some(options) = self.options.files.as_ref().filter(|_| row.op != CloudOp::Delete) {
                for (column, file) in &mapping.files {
                    let named = mapping.rename.get(column).unwrap_or(column);
                    let path = match row.row.get(named) {
                        Some(Json::String(path)) if !path.is_empty() => path.clone(),
                        // An update that does not tell the column leaves the address as it is.
                        None => continue,
                        Some(_) => {
                            row.row.insert(file.field.clone(), Json::Null);
                            continue;
                        }
                    };
                    let state = self.send_file(options, file, &path, shutdown).await?;
                    if let Some(reason) = state.reason.filter(|_| state.state != "skipped") {
                        let (resource, id) = (Some(row.resource.clone()), Some(row.id.clone()));
                        report.problem(CloudProblem {
                            resource,
                            id,
                            error: format!("the file of `{column}` is {}: {reason}", state.state),
                        });
                    }
                    row.row.insert(file.field.clone(), state.url.map_or(Json::Null, Json::String));
                }
            }
            whole.push(row);
        }
        Ok(whole)
    }

    async fn send_file(
        &self,
        options: &FileOptions,
        column: &FileColumn,
        path: &str,
        shutdown: &Shutdown,
    ) -> Result<FileState, CloudFault> {
        let kind = &column.kind;
        let before = self.ledger().file(kind, path)?;
        let place = match place(options, path) {
            Ok(place) => place,
            Err(NotTaken(state, reason)) => return self.note_file(kind, path, not_sent(state, reason)),
        };
        if let (Some(before), Ok(now)) = (before.filter(|before| before.url.is_some()), fs::metadata(&place))
            && (now.len(), changed(&now)) == (before.size, before.changed)
        {
            return Ok(before);
        }
        let size_max = options.size_max;
        // A slow disk must not keep other tasks waiting.
        let taken = tokio::task::spawn_blocking(move || take(&place, size_max)).await.map_err(|_| CloudFault::Ended)?;
        let Taken { bytes, hash, size, changed } = match taken {
            Ok(taken) => taken,
            Err(NotTaken(state, reason)) => return self.note_file(kind, path, not_sent(state, reason)),
        };
        let known = self.ledger().url_of(kind, &hash)?;
        let url = match known {
            Some(url) => Ok(url),
            None => {
                let name = path.rsplit('/').next().unwrap_or(path).to_owned();
                let upload = Upload { kind: kind.clone(), name, hash: hash.clone(), bytes: bytes.into() };
                self.upload(&self.sender(shutdown), &upload).await?
            }
        };
        let state = match url {
            Ok(url) => FileState { state: "synced".into(), size, changed, hash, url: Some(url), reason: None },
            Err(reason) => not_sent("failed", reason),
        };
        self.note_file(kind, path, state)
    }

    /// The file's address, or why the cloud does not take it.
    async fn upload(&self, sender: &Sender<'_>, upload: &Upload) -> Result<Result<String, String>, CloudFault> {
        match sender.upload(upload).await {
            Ok(url) => Ok(Ok(url)),
            Err(CloudFault::Cloud(
                error @ (CloudError::Refused { .. }
                | CloudError::TooLarge { .. }
                | CloudError::Conflict { .. }
                | CloudError::NoSuch { .. }),
            )) => Ok(Err(error.to_string())),
            Err(fault) => Err(fault),
        }
    }

    fn note_file(&self, kind: &str, path: &str, state: FileState) -> Result<FileState, CloudFault> {
        let mut ledger = self.ledger();
        ledger.keep_file(kind, path, &state)?;
        self.observer.cloud_files(&self.options.name, ledger.file_counts()?);
        Ok(state)
    }
}

fn not_sent(state: &str, reason: String) -> FileState {
    FileState { state: state.into(), reason: Some(reason), ..FileState::default() }
}

/// Where the file is: below the root, whatever the path says and whatever links there are.
fn place(options: &FileOptions, path: &str) -> Result<PathBuf, NotTaken> {
    let refused = |why: &str| NotTaken("failed", why.to_owned());
    let relative = Path::new(path);
    // Backslashes and drives mean something on other systems than this one.
    let ordinary = relative.components().all(|part| matches!(part, Component::Normal(_))) && !path.contains(['\\', ':', '\0']);
    if !ordinary {
        return Err(refused("its path leads outside the root, which is refused"));
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    if options.skip.iter().any(|pattern| matches(pattern, name)) {
        return Err(NotTaken("skipped", "its name is among those that are not sent".into()));
    }
    let root = options.root.canonicalize().map_err(|error| NotTaken("failed", format!("the root cannot be read: {error}")))?;
    let whole = root.join(relative).canonicalize().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => NotTaken("missing", "there is no such file".into()),
        _ => NotTaken("failed", format!("it cannot be read: {error}")),
    })?;
    if whole.starts_with(&root) { Ok(whole) } else { Err(refused("a link leads outside the root, which is refused")) }
}

/// `*` stands for any letters; case does not matter, as in names of files it often does not.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

fn changed(metadata: &Metadata) -> u64 {
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

/// Attempts to read a file that somebody writes meanwhile.
const READS: u32 = 3;

/// Reads the file as it is at one moment: again where it changed while it was read.
fn take(place: &Path, size_max: u64) -> Result<Taken, NotTaken> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => NotTaken("missing", "there is no such file".into()),
        _ => NotTaken("failed", format!("it cannot be read: {error}")),
    };
    for _ in 0..READS {
        let mut file = File::open(place).map_err(unreadable)?;
        let before = file.metadata().map_err(unreadable)?;
        if !before.is_file() {
            return Err(NotTaken("failed", "it is no ordinary file".into()));
        }
        if before.len() > size_max {
            return Err(NotTaken("failed", format!("it has {} bytes, and at most {size_max} are sent", before.len())));
        }
        let mut bytes = Vec::with_capacity(before.len() as usize);
        (&mut file).take(size_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        // Of the name, not of what was opened: it may have been replaced.
        let after = fs::metadata(place).map_err(unreadable)?;
        if (before.len(), changed(&before)) == (after.len(), changed(&after)) && bytes.len() as u64 == before.len() {
            let hash = blake3::hash(&bytes).to_hex().to_string();
            return Ok(Taken { size: before.len(), changed: changed(&before), hash, bytes });
        }
    }
    Err(NotTaken("failed", "it changes while it is read; it is tried again with its row's next version".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(root: &Path) -> FileOptions {
        FileOptions { root: root.into(), size_max: 10, skip: vec!["*.mp4".into(), "tmp*x*".into()] }
    }

    #[test]
    fn nothing_outside_the_root_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("in")).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        fs::write(root.join("in/a.jpg"), "a").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("secret"), root.join("link")).unwrap();
            std::os::unix::fs::symlink(root.join("in/a.jpg"), root.join("good")).unwrap();
            assert_eq!(place(&options(&root), "link").unwrap_err().0, "failed");
            assert!(place(&options(&root), "good").is_ok());
        }
        assert!(place(&options(&root), "in/a.jpg").is_ok());
        for path in ["../secret", "in/../../secret", "/etc/passwd", "in\\..\\..\\secret", "C:/x", "./../secret", "a\0b"] {
            let NotTaken(state, reason) = place(&options(&root), path).unwrap_err();
            assert!(state == "failed" && reason.contains("outside the root"), "{path}: {state} {reason}");
        }
        assert_eq!(place(&options(&root), "in/none.jpg").unwrap_err().0, "missing");
        assert_eq!(place(&options(&root), "in/film.MP4").unwrap_err().0, "skipped");
    }

    #[test]
    fn a_file_is_taken_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "0123456789").unwrap();
        let taken = take(&file, 10).ok().unwrap();
        assert_eq!(
            (taken.bytes.as_slice(), taken.hash),
            (&b"0123456789"[..], blake3::hash(b"0123456789").to_hex().to_string())
        );
        fs::write(&file, "0123456789x").unwrap();
        assert!(take(&file, 10).err().unwrap().1.contains("11 bytes"));
        assert!(take(folder.path(), 10).err().unwrap().1.contains("no ordinary file"));
        fs::remove_file(&file).unwrap();
        assert_eq!(take(&file, 10).err().unwrap().0, "missing");
    }

    #[test]
    fn patterns_of_names_match_whole_names() {
        for (pattern, name, expected) in [
            ("*.mp4", "a.mp4", true),
            ("*.mp4", "a.mp4.jpg", false),
            ("tmp*x*", "tmp1x2", true),
            ("tmp*x*", "tmp12", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
