//! A fresh data directory in milliseconds: installed once for each server version, then copied.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::harness_dir;

/// Counts up when what the template holds changes.
const TEMPLATE: u32 = 1;

/// The server program, and what it says of its version. Panics, naming the remedy, where there is none.
pub fn mariadbd() -> (PathBuf, String) {
    let program = program("mariadbd", &["/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/opt/mariadb/bin"]);
    let output = Command::new(&program)
        .args(["--no-defaults", "--version"])
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    (program, String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A program on the path, or in the places given, where a user's path often does not lead.
pub fn program(name: &str, places: &[&str]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(places.iter().map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not installed: run `make setup` (nothing was tested)"))
}

/// Copies a freshly installed data directory to `to`, which must not exist.
pub fn fresh_data_dir(to: &Path) {
    let template = template();
    copy_dir(&template, to)
        .unwrap_or_else(|error| panic!("cannot copy the template {} to {}: {error}", template.display(), to.display()));
}

/// Installs the template unless it is there. Safe among threads and processes: the lock is held until it is whole, and
/// it appears under its name only then.
fn template() -> PathBuf {
    let (_, version) = mariadbd();
    let version: String = version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let harness = harness_dir();
    let template = harness.join(format!("template-{TEMPLATE}-{version}"));

    let lock = harness.join("template.lock");
    let lock = File::create(&lock).unwrap_or_else(|error| panic!("cannot create {}: {error}", lock.display()));
    lock.lock().unwrap_or_else(|error| panic!("cannot lock the template: {error}"));
    if template.is_dir() {
        return template;
    }
    let unfinished = harness.join("template-unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).unwrap_or_else(|error| panic!("cannot remove {}: {error}", unfinished.display()));
    }
    install(&unfinished);
    fs::rename(&unfinished, &template).unwrap_or_else(|error| panic!("cannot name {}: {error}", template.display()));
    template
}

fn install(into: &Path) {
    let log = harness_dir().join("template.log");
    let log_file = File::create(&log).unwrap_or_else(|error| panic!("cannot create {}: {error}", log.display()));
    let mut command = Command::new(program("mariadb-install-db", &["/usr/local/bin", "/opt/mariadb/scripts"]));
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", into.display()))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])
        // The default of 96 MB would be copied for every server.
        .arg("--innodb-log-file-size=8M")
        .stdout(log_file.try_clone().expect("a file handle can be copied"))
        .stderr(log_file)
        .stdin(Stdio::null());
    if let Some(user) = user() {
        command.arg(format!("--user={user}"));
    }
    let status = command.status().unwrap_or_else(|error| panic!("cannot run mariadb-install-db: {error}"));
    assert!(status.success(), "mariadb-install-db failed ({status}); its output is in {}", log.display());
}

/// The server refuses to run as root unless told so by name.
pub fn user() -> Option<&'static str> {
    // SAFETY: geteuid cannot fail and touches no memory.
    (unsafe { libc::geteuid() } == 0).then_some("root")
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
