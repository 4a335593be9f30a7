//! Files that rows name: found below their root, sent once by what they hold, their address put into the row.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::content::{Survey, changed, unreadable};
use super::upload::Transferred;
use super::{CloudApplier, CloudFault, LedgerError, Mapping, PathTemplate};
use crate::change::cloud::{CloudOp, CloudRow};
use crate::observe::{CloudFile, CloudProblem, CloudReport};
use crate::runtime::Shutdown;
use crate::target::cloud::FileName;

/// Where files lie, and which of them are sent.
#[derive(Clone, Debug)]
pub struct FileOptions {
    /// Paths in columns begin here; nothing outside it is ever read.
    pub root: PathBuf,
    /// Larger ones are not sent.
    pub size_max: u64,
    /// Names that are not sent, with `*` for any letters; the row is.
    pub skip: Vec<String>,
    /// Larger ones are sent in parts of this size, one of which is in memory at a time.
    pub part_bytes: u64,
    /// After each file that was sent in parts, so that others can use the line too.
    pub pause: Duration,
}

impl FileOptions {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        // S3 takes no parts below 5 MiB, and at most 10,000 of them: 8 MiB go up to 80 GB.
        Self { root: root.into(), size_max: 10 << 20, skip: Vec::new(), part_bytes: 8 << 20, pause: Duration::ZERO }
    }
}

/// A column that names a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileColumn {
    /// `POST /api/upload/<kind>`.
    pub kind: String,
    /// The field of the row that gets the file's address.
    pub field: String,
    /// How the path is made of columns; the column holds it where this is not said.
    pub path: Option<PathTemplate>,
}

/// What became of a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FileState {
    /// `queued`, `uploading`, `synced`, `missing`, `skipped`, `failed`.
    pub state: String,
    pub size: u64,
    /// When it was changed last, in nanoseconds of the Unix epoch.
    pub changed: u64,
    pub hash: String,
    pub url: Option<String>,
    pub reason: Option<String>,
}

/// KEEPS what became of files. Part of the ledger. `scope` is the kind, and the store where files do not go through the cloud's API.
pub trait FileLedger {
    fn file(&self, scope: &str, path: &str) -> Result<Option<FileState>, LedgerError>;

    /// The address of what has this hash, if it was sent before under any name.
    fn url_of(&self, scope: &str, hash: &str) -> Result<Option<String>, LedgerError>;

    fn keep_file(&mut self, scope: &str, path: &str, state: &FileState) -> Result<(), LedgerError>;

    /// Notes files that wait for their turn, by scope and path. What is known of one that was sent stays as it is.
    fn queue_files(&mut self, files: &[(String, String)]) -> Result<(), LedgerError>;

    /// Forgets what waited, or was under way, in a process that is no more.
    fn forget_queued(&mut self) -> Result<(), LedgerError>;

    /// How many files are in each state. Asked for with every file, so it must not count them.
    fn file_counts(&self) -> Result<BTreeMap<String, u64>, LedgerError>;

    /// What became of them, one by one, in the order of state, scope and path.
    fn files(&self, wanted: &FilesWanted) -> Result<Vec<CloudFile>, LedgerError>;
}

/// Which files somebody wants to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FilesWanted {
    /// Those in this state; all where there is none.
    pub state: Option<String>,
    /// Those after this one, the last of the page before.
    pub after: Option<CloudFile>,
    pub at_most: usize,
}

/// After the name of a write and of its node, where it only tells the addresses of files that followed. Names of nodes have no such
/// letter, and all that they have is larger.
const FOLLOWS: &str = "+files";

/// Why a file is not taken, by the state that says so.
#[derive(Debug, PartialEq, Eq)]
pub struct NotTaken(pub &'static str, pub String);

/// Rows that are ready to be sent.
#[derive(Default)]
pub struct Attached {
    pub rows: Vec<CloudRow>,
    /// Those of them whose files follow, each with its table's place in the order.
    pub followed: Vec<(usize, CloudRow)>,
}

/// The path that the row has for this column, where it tells one: `None` leaves the address as it is, an empty one takes it away.
fn path<'r>(row: &'r CloudRow, mapping: &Mapping, column: &str, file: &FileColumn) -> Option<Cow<'r, str>> {
    let told = |column: &str| row.row.get(mapping.rename.get(column).map_or(column, String::as_str));
    if let Some(template) = &file.path {
        return template.of(told).map(Cow::Owned);
    }
    match told(column)? {
        Json::String(path) => Some(Cow::Borrowed(path)),
        _ => Some(Cow::Borrowed("")),
    }
}

impl CloudApplier {
    /// Sends the files that these rows name, and puts their addresses into the rows. A file that cannot be sent is noted, and its
    /// row goes without it. Files that follow their rows are sent by [`CloudApplier::follow`].
    pub(super) async fn attach(
        &self,
        rows: Vec<(usize, CloudRow)>,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<Attached, CloudFault> {
        let mut attached = Attached { rows: Vec::with_capacity(rows.len()), followed: Vec::new() };
        self.queue(&rows)?;
        for (place, mut row) in rows {
            let (_, mapping) = &self.options.tables[place];
            if self.options.files.is_some() && row.op != CloudOp::Delete {
                let mut follows = false;
                for (column, file) in &mapping.files {
                    let Some(path) = path(&row, mapping, column, file).map(Cow::into_owned) else { continue };
                    let url = match path.as_str() {
                        "" => None,
                        path if mapping.files_after => {
                            follows = true;
                            self.ledger().file(&self.scope(&file.kind), path)?.and_then(|known| known.url)
                        }
                        path => self.send_named(&row, column, file, path, report, shutdown).await?,
                    };
                    row.row.insert(file.field.clone(), url.map_or(Json::Null, Json::String));
                }
                if follows {
                    attached.followed.push((place, row.clone()));
                }
            }
            attached.rows.push(row);
        }
        Ok(attached)
    }

    /// Sends the files of rows that the cloud has by now. What comes back tells their addresses, and is to be sent as well: each is
    /// newer than its row and older than every other write, by a name that is larger than the node's and smaller than any other's.
    pub(super) async fn follow(
        &self,
        rows: Vec<(usize, CloudRow)>,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<Vec<CloudRow>, CloudFault> {
        let mut addresses = Vec::with_capacity(rows.len());
        for (place, mut row) in rows {
            let (_, mapping) = &self.options.tables[place];
            let mut told = Map::new();
            for (column, file) in &mapping.files {
                let Some(path) = path(&row, mapping, column, file).filter(|path| !path.is_empty()) else { continue };
                let url = self.send_named(&row, column, file, &path, report, shutdown).await?;
                told.insert(file.field.clone(), url.map_or(Json::Null, Json::String));
            }
            row.key.push_str(FOLLOWS);
            row.version.origin.push_str(FOLLOWS);
            addresses.push(CloudRow { op: CloudOp::Update, row: told, ..row });
        }
        Ok(addresses)
    }

    /// Notes what these rows name and is not sent yet, so that people see what there is to do.
    fn queue(&self, rows: &[(usize, CloudRow)]) -> Result<(), CloudFault> {
        if self.options.files.is_none() {
            return Ok(());
        }
        let mut waiting = Vec::new();
        for (place, row) in rows.iter().filter(|(_, row)| row.op != CloudOp::Delete) {
            let (_, mapping) = &self.options.tables[*place];
            for (column, file) in &mapping.files {
                let path = path(row, mapping, column, file).filter(|path| !path.is_empty());
                waiting.extend(path.map(|path| (self.scope(&file.kind), path.into_owned())));
            }
        }
        if !waiting.is_empty() {
            let mut ledger = self.ledger();
            ledger.queue_files(&waiting)?;
            self.observer.cloud_files(&self.options.name, ledger.file_counts()?);
        }
        Ok(())
    }

    /// Sends a file that a row names: its address, where it has one then. What is wrong with it is noted in the report.
    async fn send_named(
        &self,
        row: &CloudRow,
        column: &str,
        file: &FileColumn,
        path: &str,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<Option<String>, CloudFault> {
        let options = self.options.files.as_ref().expect("rows name files only where files are sent");
        let state = self.send_file(options, file, path, shutdown).await?;
        if let Some(reason) = state.reason.filter(|_| state.state != "skipped") {
            let error = format!("the file of `{column}` is {}: {reason}", state.state);
            report.problem(CloudProblem { resource: Some(row.resource.clone()), id: Some(row.id.clone()), error });
        }
        Ok(state.url)
    }

    async fn send_file(
        &self,
        options: &FileOptions,
        column: &FileColumn,
        path: &str,
        shutdown: &Shutdown,
    ) -> Result<FileState, CloudFault> {
        let scope = self.scope(&column.kind);
        let before = self.ledger().file(&scope, path)?.filter(|before| before.url.is_some());
        for _ in 0..READS {
            let place = match place(options, path) {
                Ok(place) => place,
                Err(NotTaken(state, reason)) => return self.note_file(&scope, path, not_sent(state, reason)),
            };
            if let (Some(before), Ok(now)) = (&before, fs::metadata(&place))
                && (now.len(), changed(&now)) == (before.size, before.changed)
            {
                return Ok(before.clone());
            }
            let (size_max, part_bytes) = (options.size_max, options.part_bytes);
            // A slow disk must not keep other tasks waiting.
            let survey = tokio::task::spawn_blocking(move || Survey::of(&place, size_max, part_bytes));
            let content = match survey.await.map_err(|_| CloudFault::Ended)? {
                Ok(Some(content)) => content,
                Ok(None) => continue,
                Err(NotTaken(state, reason)) => return self.note_file(&scope, path, not_sent(state, reason)),
            };
            let (kind, name) = (column.kind.clone(), path.rsplit('/').next().unwrap_or(path).to_owned());
            let file = FileName { kind, name, hash: content.hash.clone(), size: content.size, part_bytes };
            let state = FileState {
                state: "uploading".into(),
                size: content.size,
                changed: content.changed,
                hash: content.hash.clone(),
                url: None,
                reason: None,
            };
            let known = self.ledger().url_of(&scope, &file.hash)?;
            if let Some(url) = known {
                return self.note_file(&scope, path, FileState { state: "synced".into(), url: Some(url), ..state });
            }
            let large = file.parts() > 1;
            if large {
                self.note_file(&scope, path, state.clone())?;
            }
            let state = match self.transfer(&scope, &file, &content, shutdown).await? {
                Transferred::There(url) => FileState { state: "synced".into(), url: Some(url), ..state },
                Transferred::Refused(reason) => not_sent("failed", reason),
                Transferred::Changed => continue,
            };
            let state = self.note_file(&scope, path, state)?;
            if large {
                tokio::select! {
                    () = tokio::time::sleep(options.pause) => {}
                    () = shutdown.cancelled() => return Err(CloudFault::Ended),
                }
            }
            return Ok(state);
        }
        let reason = "it changes while it is read or sent; it is tried again with its row's next version";
        self.note_file(&scope, path, not_sent("failed", reason.into()))
    }

    fn note_file(&self, scope: &str, path: &str, state: FileState) -> Result<FileState, CloudFault> {
        let mut ledger = self.ledger();
        ledger.keep_file(scope, path, &state)?;
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
    let whole = root.join(relative).canonicalize().map_err(unreadable)?;
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

/// Attempts at a file that somebody writes meanwhile.
const READS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(root: &Path) -> FileOptions {
        FileOptions { size_max: 10, skip: vec!["*.mp4".into(), "tmp*x*".into()], ..FileOptions::new(root) }
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
