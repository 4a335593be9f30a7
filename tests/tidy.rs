//! The project's rules that a program can check. Part of `make check`; fails with file, line and rule.
//!
//! The first table is the law of the rooms (ARCHITECTURE.md says what each does): change it only together with that file.

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/rules.rs"]
mod rules;

use std::fs;
use std::path::Path;

use code::{Finding, SourceFile, test_modules, tokens};

/// What a room may import of the other rooms, and which outside crates it may use.
///
/// - `all`: any public name of these rooms.
/// - `roots`: of these only what their `mod.rs` declares or re-exports, never a module inside that is not named too.
/// - Crates in [`EVERYWHERE`] are open to every room.
pub struct Room {
    pub name: &'static str,
    pub all: &'static str,
    pub roots: &'static str,
    pub crates: &'static str,
}

#[rustfmt::skip]
pub const ROOMS: &[Room] = &[
    Room { name: "change",  all: "",                       roots: "",             crates: "base64 itoa ryu serde_json" },
    Room { name: "runtime", all: "",                       roots: "",             crates: "tokio tokio_util fastrand" },
    Room { name: "observe", all: "change runtime",         roots: "",             crates: "prometheus tracing tracing_subscriber jiff serde_json" },
    Room { name: "source",  all: "change runtime observe", roots: "",             crates: "tokio mysql_async flate2 crc32fast tempfile" },
    Room { name: "tail",    all: "change runtime observe", roots: "source topic", crates: "tokio" },
    Room { name: "topic",   all: "change runtime observe", roots: "",             crates: "tokio fastrand reqwest rusqlite rdkafka itoa zstd crc32fast base64 blake3 subtle secrecy rustls sha2 serde_json" },
    Room { name: "apply",   all: "change runtime observe", roots: "topic target", crates: "tokio" },
    Room { name: "target",  all: "change runtime observe", roots: "",             crates: "tokio mysql_async serde_json itoa ryu secrecy reqwest rustls object_store blake3 tempfile httpdate" },
    Room { name: "cloud",   all: "change runtime observe", roots: "source topic target target::cloud", crates: "tokio serde_json croner jiff ring blake3 base64 secrecy zstd" },
    Room { name: "state",   all: "change runtime observe", roots: "apply tail cloud verify", crates: "fs4 rusqlite serde_json tempfile" },
    Room { name: "receive", all: "change runtime observe", roots: "target target::cloud", crates: "tokio rusqlite mysql_async serde_json blake3" },
    Room { name: "serve",   all: "change runtime observe", roots: "topic topic::hub receive", crates: "tokio axum rustls tokio_rustls rcgen subtle secrecy serde_json base64 blake3" },
    Room { name: "config",  all: "change runtime",         roots: "source tail topic topic::hub topic::kafka apply target target::cloud cloud serve", crates: "toml secrecy" },
    Room { name: "verify",  all: "change runtime observe", roots: "apply tail",        crates: "serde_json" },
    Room { name: "wiring",  all: ANY,                      roots: "",             crates: "tokio secrecy mysql_async serde_json" },
    Room { name: "cli",     all: "change runtime observe config wiring", roots: "", crates: "tokio clap clap_complete flate2 comfy_table indicatif jiff serde_json reqwest rustls secrecy" },
];

/// Of `all`: every room, and the insides of every room.
pub const ANY: &str = "*";

/// Language-level crates: errors, bytes, futures, derives.
pub const EVERYWHERE: &[&str] = &["async_trait", "bytes", "futures_util", "serde", "thiserror"];

/// Lines of a file before it must say at its top why it is one idea.
pub const LONG: usize = 600;

fn project() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "examples", "benches"] {
        if root.join(folder).is_dir() {
            collect(root, &root.join(folder), &mut files);
        }
    }
    mark_test_files(&mut files);
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display())).path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
            let inner = path.strip_prefix(root).expect("it was found below the root");
            files.push(SourceFile { path: inner.to_string_lossy().replace('\\', "/"), text, test_only: false });
        }
    }
}

/// Files in `tests/` are test code, and so is a module that its parent declares under `#[cfg(test)]`, with all below it.
fn mark_test_files(files: &mut [SourceFile]) {
    let mut test_roots: Vec<String> = vec!["tests/".into()];
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        let folder = match file.path.rsplit_once('/').expect("it begins with src/") {
            (folder, "mod.rs" | "lib.rs" | "main.rs") => folder.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        for name in test_modules(&tokens(&file.text)) {
            test_roots.push(format!("{folder}/{name}.rs"));
            test_roots.push(format!("{folder}/{name}/"));
        }
    }
    for file in files {
        file.test_only = test_roots.iter().any(|root| file.path.starts_with(root.as_str()));
    }
}

fn hold(rule: impl Fn(&[SourceFile]) -> Vec<Finding>) {
    let files = project();
    assert!(files.len() > 20, "only {} files found: the rules would hold for nothing", files.len());
    let findings = rule(&files);
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} against the rules:\n{}", findings.len(), list.join("\n"));
}

#[test]
fn rooms_import_only_what_they_may() {
    hold(|files| rules::imports(files, ROOMS));
}

#[test]
fn every_room_is_in_the_table() {
    hold(|files| rules::known_rooms(files, ROOMS));
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let dependencies = rules::dependencies(include_str!("../Cargo.toml"));
    hold(|files| rules::crates(files, ROOMS, EVERYWHERE, &dependencies));
}

#[test]
fn every_file_begins_with_its_idea() {
    hold(rules::module_docs);
}

#[test]
fn long_files_say_why() {
    hold(|files| rules::long_files(files, LONG));
}

#[test]
fn nothing_is_left_for_later() {
    hold(rules::unfinished);
}

#[test]
fn nothing_panics_on_what_comes_from_outside() {
    hold(rules::unwraps);
}

#[test]
fn tests_wait_for_facts() {
    hold(rules::sleeps);
}

#[test]
fn time_and_chance_come_from_the_runtime() {
    hold(rules::clocks);
}

#[test]
fn every_dependency_has_its_reason() {
    let dependencies = rules::dependencies(include_str!("../Cargo.toml"));
    let findings = rules::reasons(&dependencies, include_str!("../ARCHITECTURE.md"));
    assert!(findings.is_empty(), "not in ARCHITECTURE.md, \"Outside crates\": {findings:?}");
}

#[test]
fn links_in_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for folder in ["", "docs", "docs/decisions", "deploy", "grafana"] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = entry.expect("the folder was opened").path();
            if path.extension().is_some_and(|ending| ending == "md") {
                let text = fs::read_to_string(&path).expect("documents are text");
                let name = path.strip_prefix(root).expect("it lies in the project").to_string_lossy().into_owned();
                let exists = |target: &str| path.parent().expect("a file has a folder").join(target).exists();
                broken.extend(rules::broken_links(&name, &text, exists));
            }
        }
    }
    let list: Vec<String> = broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{}", list.join("\n"));
}
