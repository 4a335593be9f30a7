//! What some tests want and not every machine has: a browser, Prometheus, the test files of MariaDB itself.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Where a program is; or `None`, said loudly with these words, where it is not installed. Panics where the variable insists on it.
pub fn found_or_say(program: &str, words: &str, insists: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    said(found, program, words, insists)
}

/// The first of these folders that is there, in the same way.
pub fn folder_or_say(folders: &[&str], what: &str, words: &str, insists: &str) -> Option<PathBuf> {
    said(folders.iter().map(Path::new).find(|folder| folder.is_dir()).map(Path::to_owned), what, words, insists)
}

fn said(found: Option<PathBuf>, what: &str, words: &str, insists: &str) -> Option<PathBuf> {
    if found.is_none() {
        let insisted = std::env::var_os(insists).is_some_and(|value| value == "1");
        assert!(!insisted, "{insists}=1, and there is no {what}");
        // To the terminal itself: the test runner keeps what a test that passes prints to itself.
        let line = format!("\n#### {words}: there is no {what}. `make setup` installs it. ####\n");
        if let Ok(mut terminal) = fs::OpenOptions::new().append(true).open("/dev/stderr") {
            // A closed terminal hears nothing anyway.
            let _ = terminal.write_all(line.as_bytes());
        }
    }
    found
}
