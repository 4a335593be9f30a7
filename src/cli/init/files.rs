//! The files of one `init`: all of them or none, and none over another unless that is asked for.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::runtime::Stop;

pub struct Files {
    folder: PathBuf,
    files: Vec<NewFile>,
}

struct NewFile {
    path: PathBuf,
    text: String,
    /// Readable by nobody else.
    secret: bool,
    /// For the list of what was written.
    what: String,
}

impl Files {
    pub fn beside(config: &Path) -> Self {
        let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { folder: folder.to_owned(), files: Vec::new() }
    }

    /// Of a name with slashes, as this system writes it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name.split('/').collect::<PathBuf>())
    }

    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<String>, secret: bool, what: impl Into<String>) {
        self.files.push(NewFile { path: path.into(), text: text.into(), secret, what: what.into() });
    }

    /// Writes them all. A file that was replaced keeps nothing of its old readers.
    pub fn write(&self) -> Result<(), Stop> {
        for file in &self.files {
            let refused = |error: std::io::Error| {
                let fix = "choose a folder of your own with --output, or give this user the right to write there";
                Stop::halt(format!("cannot write {}: {error}", file.path.display()), fix)
            };
            if let Some(folder) = file.path.parent() {
                make_folder(folder, file.secret).map_err(refused)?;
            }
            // Made anew, so that a secret never lies in a file that others could read or had opened before.
            match fs::remove_file(&file.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
                _ => {}
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            if file.secret {
                use std::os::unix::fs::OpenOptionsExt as _;
                options.mode(0o600);
            }
            options
                .open(&file.path)
                .and_then(|mut opened| {
                    opened.write_all(file.text.as_bytes())?;
                    opened.sync_all()
                })
                .map_err(refused)?;
        }
        Ok(())
    }

    /// Each file and what it is, for people.
    pub fn list(&self) -> impl Iterator<Item = String> {
        let width = self.files.iter().map(|file| file.path.display().to_string().chars().count()).max().unwrap_or(0);
        self.files.iter().map(move |file| format!("  {:<width$}  {}", file.path.display().to_string(), file.what))
    }
}

/// Refuses where one of these is there already.
pub fn refuse_existing(paths: &[PathBuf]) -> Result<(), Stop> {
    let there: Vec<String> =
        paths.iter().filter(|path| path.symlink_metadata().is_ok()).map(|path| path.display().to_string()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let what = format!("{} {} there already", there.join(", "), if there.len() == 1 { "is" } else { "are" });
    let fix = "write elsewhere with --output, or replace what is there with --force: its keys and passwords end to be valid";
    Err(Stop::halt(what, fix))
}

fn make_folder(folder: &Path, secret: bool) -> std::io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    #[cfg(not(unix))]
    let _ = secret;
    builder.create(folder)
}
