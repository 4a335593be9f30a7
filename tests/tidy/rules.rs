//! One function a rule, from files to findings. Each is shown a bad sample below, because a checker that never failed
//! proves nothing.

use std::collections::BTreeSet;

use super::code::{Finding, Path, SourceFile, comments, paths, tokens};
use super::{ANY, Room};

/// Which rooms a room imports, and how deep.
pub fn imports(files: &[SourceFile], rooms: &[Room]) -> Vec<Finding> {
    let names: BTreeSet<&str> = rooms.iter().map(|room| room.name).collect();
    let mut findings = Vec::new();
    for file in files {
        let Some(room) = room_of(file, rooms) else { continue };
        if room.all == ANY {
            continue;
        }
        for path in paths(&tokens(&file.text)) {
            let Some(full) = from_the_crate(file, &path) else { continue };
            let Some(other) = full.first().filter(|other| names.contains(other.as_str())) else { continue };
            if other == room.name || has(room.all, other) {
                continue;
            }
            let test = file.test_only || path.test;
            if !has(room.roots, other) {
                findings.push(file.finding(path.line, format!("`{}` may not import `{other}`", room.name)));
            } else if let Some(inner) = full.get(1)
                && is_module(files, other, inner)
                && !has(room.roots, &format!("{other}::{inner}"))
                // Unit tests of the middle run over the memory twins.
                && !(test && inner == "memory")
            {
                findings.push(file.finding(
                    path.line,
                    format!("`{}` may import the root of `{other}` only, not its inside `{inner}`", room.name),
                ));
            }
        }
    }
    findings
}

/// Every file in `src` belongs to a room of the table, save the two that open the program.
pub fn known_rooms(files: &[SourceFile], rooms: &[Room]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| file.path.starts_with("src/") && !["src/lib.rs", "src/main.rs"].contains(&&*file.path))
        .filter(|file| room_of(file, rooms).is_none())
        .map(|file| file.finding(1, "belongs to no room of the table in tests/tidy.rs"))
        .collect()
}

/// Which outside crates a room uses.
pub fn crates(files: &[SourceFile], rooms: &[Room], everywhere: &[&str], dependencies: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let Some(room) = room_of(file, rooms) else { continue };
        if file.test_only {
            continue;
        }
        for path in paths(&tokens(&file.text)) {
            let name = path.segments[0].as_str();
            let outside = dependencies.iter().any(|dependency| dependency == name);
            if outside && !path.test && !everywhere.contains(&name) && !has(room.crates, name) {
                findings.push(file.finding(path.line, format!("`{}` may not use the crate `{name}`", room.name)));
            }
        }
    }
    findings
}

/// A newcomer reads the first line of a file first.
pub fn module_docs(files: &[SourceFile]) -> Vec<Finding> {
    let without = files.iter().filter(|file| !file.text.starts_with("//!"));
    without.map(|file| file.finding(1, "begins without a `//!` line that says its idea")).collect()
}

/// Past the limit a file says `//! Long because …` near its top.
pub fn long_files(files: &[SourceFile], limit: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let lines = file.text.lines().count();
        let says_why = file.text.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains("Long because"));
        if lines > limit && !says_why {
            findings.push(file.finding(
                lines,
                format!("has {lines} lines: look for its second idea, or say `//! Long because …` at the top"),
            ));
        }
    }
    findings
}

/// Stubs, notes to oneself, tests that do not run.
pub fn unfinished(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        let tokens = tokens(&file.text);
        for pair in tokens.windows(3) {
            let stub = ["todo", "unimplemented", "dbg"].contains(&&*pair[0].text) && pair[1].text == "!";
            if stub && pair[2].text != "=" {
                findings.push(file.finding(pair[0].line, format!("`{}!` is not finished work", pair[0].text)));
            }
            if pair[0].text == "#" && pair[1].text == "[" && pair[2].text == "ignore" {
                findings.push(file.finding(pair[0].line, "a test that is ignored tests nothing"));
            }
        }
        for (line, comment) in comments(&file.text) {
            let note = ["TODO", "FIXME", "XXX", "HACK"].iter().find(|note| {
                let mut words = comment.split(|c: char| !c.is_alphanumeric() && c != '`' && c != '"');
                words.any(|word| word == **note)
            });
            if let Some(note) = note {
                findings.push(file.finding(line, format!("a `{note}` belongs to the list of issues")));
            }
        }
    }
    findings
}

/// Outside tests an `unwrap` is a panic without its reason; `expect` states the invariant.
pub fn unwraps(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.test_only && file.path.starts_with("src/")) {
        for pair in tokens(&file.text).windows(3) {
            if pair[0].text == "." && pair[1].text == "unwrap" && pair[2].text == "(" && !pair[1].test {
                findings
                    .push(file.finding(pair[1].line, "`unwrap()` outside tests: return an error, or `expect` the invariant"));
            }
        }
    }
    findings
}

/// Tests wait for a fact or move the clock; they never hope that a time was long enough.
pub fn sleeps(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path != "tests/harness/wait.rs") {
        let tokens = tokens(&file.text);
        for (at, token) in tokens.iter().enumerate() {
            let called = tokens.get(at + 1).is_some_and(|next| next.text == "(");
            let path = |n: usize| at.checked_sub(n).map_or("", |at| &*tokens[at].text);
            let blocking = token.text == "sleep" && path(1) == "::" && path(2) == "thread";
            let in_test = file.test_only || token.test || file.path.starts_with("examples/");
            // Where the clock stands, a sleep moves it and takes no time.
            let moves_the_clock = token.paused || file.path.starts_with("tests/sim/");
            if blocking || (token.text == "sleep" && called && in_test && !moves_the_clock) {
                findings.push(file.finding(token.line, "sleeps: wait for a fact (`wait_for`), or move the clock"));
            }
        }
    }
    findings
}

/// The wall clock, the process's clock and randomness are asked for in `runtime` alone, so that a simulation owns them.
pub fn clocks(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && !file.path.starts_with("src/runtime/")) {
        for path in paths(&tokens(&file.text)).iter().filter(|path| !file.test_only && !path.test) {
            let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
            match segments[..] {
                ["std", "time", "SystemTime" | "Instant", ..] | ["SystemTime", "now"] => {
                    findings.push(file.finding(path.line, "asks a clock of its own: use `runtime::Clock` or tokio's Instant"))
                }
                ["fastrand", "Rng"] | ["fastrand", "Rng", "with_seed"] => {}
                ["fastrand", ..] => {
                    findings.push(file.finding(path.line, "draws chance of its own: only with a given seed, or in `runtime`"))
                }
                _ => {}
            }
        }
    }
    findings
}

/// Names of the crates that the program itself depends on, as they are written in code.
pub fn dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("cargo has read it before us");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    dependencies.keys().map(|name| name.replace('-', "_")).collect()
}

/// Dependencies that the table of outside crates does not name.
pub fn reasons(dependencies: &[String], architecture: &str) -> Vec<String> {
    let table = architecture.split("## Outside crates").nth(1).unwrap_or_default();
    let named: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split('|').next())
        .flat_map(|cell| cell.split(','))
        .map(|name| name.trim().trim_matches('`').replace('-', "_"))
        .collect();
    dependencies.iter().filter(|name| !named.contains(*name)).cloned().collect()
}

/// Relative links to files that do not exist.
pub fn broken_links(document: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") && !exists(target) {
                let rule = format!("links to `{target}`, which does not exist");
                findings.push(Finding { path: document.to_owned(), line: index + 1, rule });
            }
        }
    }
    findings
}

fn room_of<'r>(file: &SourceFile, rooms: &'r [Room]) -> Option<&'r Room> {
    let module = file.module();
    rooms.iter().find(|room| module.first() == Some(&room.name))
}

fn has(list: &str, name: &str) -> bool {
    list == ANY || list.split(' ').any(|entry| entry == name)
}

fn is_module(files: &[SourceFile], room: &str, name: &str) -> bool {
    let (file, folder) = (format!("src/{room}/{name}.rs"), format!("src/{room}/{name}/"));
    files.iter().any(|other| other.path == file || other.path.starts_with(&folder))
}

/// The path from the crate's root, where it leads through `crate`, or through so many `super` that it leaves the room.
fn from_the_crate(file: &SourceFile, path: &Path) -> Option<Vec<String>> {
    match path.segments[0].as_str() {
        "crate" | "tandem" => Some(path.segments[1..].to_vec()),
        "super" => {
            let ups = path.segments.iter().take_while(|segment| *segment == "super").count();
            let depth = file.module().len() + path.inline_modules;
            // Fewer leave us within the room.
            (ups >= depth).then(|| path.segments[ups..].to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), text: text.into(), test_only: path.starts_with("tests/") }
    }

    const ROOMS: &[Room] = &[
        Room { name: "change", all: "", roots: "", crates: "serde_json" },
        Room { name: "source", all: "change", roots: "", crates: "mysql_async" },
        Room { name: "tail", all: "change", roots: "source", crates: "" },
        Room { name: "wiring", all: ANY, roots: "", crates: "" },
    ];

    #[track_caller]
    fn check_imports(path: &str, text: &str, expected: &[(usize, &str)]) {
        let neighbours = [file("src/source/binlog/mod.rs", "//! x"), file("src/source/memory.rs", "//! x")];
        let mut files = vec![file(path, text)];
        files.extend(neighbours);
        let found = imports(&files, ROOMS);
        let found: Vec<(usize, &str)> = found.iter().map(|finding| (finding.line, finding.rule.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn an_import_against_the_table_is_found_wherever_it_stands() {
        let edge = "`source` may not import `tail`";
        check_imports("src/source/x.rs", "//! x\nuse crate::tail::Worker;", &[(2, edge)]);
        check_imports("src/source/x.rs", "use crate::{change::Gtid,\n tail::{Worker, Options}};", &[(2, edge), (2, edge)]);
        check_imports("src/source/x.rs", "fn f() -> crate::tail::Worker { panic!() }", &[(1, edge)]);
        check_imports("src/source/binlog/rows.rs", "use super::super::super::tail::Worker;", &[(1, edge)]);
        check_imports("src/source/x.rs", "mod inner { use super::super::super::tail::Worker; }", &[(1, edge)]);
        check_imports("src/source/x.rs", "#[cfg(test)] mod tests { use crate::tail::Worker; }", &[(1, edge)]);
        check_imports("src/change/x.rs", "use crate::source as s;", &[(1, "`change` may not import `source`")]);
    }

    #[test]
    fn an_import_that_the_table_allows_is_not_found() {
        check_imports("src/source/x.rs", "use crate::change::Gtid;\nuse super::binlog::Event;\nuse std::io;", &[]);
        check_imports("src/source/binlog/rows.rs", "use super::super::memory::Twin;", &[]);
        check_imports("src/source/x.rs", "// use crate::tail::Worker;\nconst A: &str = \"crate::tail::Worker\";", &[]);
        check_imports("src/wiring.rs", "use crate::source::binlog::Session;", &[]);
        check_imports("src/tail/x.rs", "use crate::source::{Source, SourceEvent};", &[]);
    }

    #[test]
    fn the_inside_of_a_room_is_closed_to_who_may_see_its_root() {
        let inside = "`tail` may import the root of `source` only, not its inside `binlog`";
        check_imports("src/tail/x.rs", "use crate::source::binlog::Session;", &[(1, inside)]);
        check_imports("src/tail/x.rs", "use crate::source::{Source, binlog::Session};", &[(1, inside)]);
        let memory = "`tail` may import the root of `source` only, not its inside `memory`";
        check_imports("src/tail/x.rs", "use crate::source::memory::Twin;", &[(1, memory)]);
        check_imports("src/tail/x.rs", "#[cfg(test)]\nmod tests { use crate::source::memory::Twin; }", &[]);
    }

    #[test]
    fn a_file_without_a_room_is_found() {
        let files = [file("src/helpers/mod.rs", "//! x"), file("src/tail/mod.rs", "//! x"), file("src/lib.rs", "//! x")];
        let found = known_rooms(&files, ROOMS);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "src/helpers/mod.rs");
    }

    #[test]
    fn a_crate_in_a_foreign_room_is_found() {
        let dependencies = dependencies("[dependencies]\nmysql_async = \"1\"\nserde_json = \"1\"\nfutures-util = \"1\"\n");
        let found = |path: &str, text: &str| crates(&[file(path, text)], ROOMS, &["futures_util"], &dependencies).len();
        assert_eq!(found("src/tail/x.rs", "use mysql_async::Conn;"), 1);
        assert_eq!(found("src/tail/x.rs", "fn f() { let _ = serde_json::json!({}); }"), 1);
        assert_eq!(found("src/source/x.rs", "use mysql_async::{Conn, prelude::*};"), 0);
        assert_eq!(found("src/tail/x.rs", "use futures_util::StreamExt; use std::io;"), 0);
        assert_eq!(found("src/tail/x.rs", "#[cfg(test)] mod tests { use serde_json::json; }"), 0);
    }

    #[test]
    fn a_file_without_its_idea_is_found() {
        assert_eq!(module_docs(&[file("src/a.rs", "use std::io;\n")]).len(), 1);
        assert_eq!(module_docs(&[file("src/a.rs", "//! An idea.\n")]), []);
    }

    #[test]
    fn a_long_file_without_a_reason_is_found() {
        let long = format!("//! A.\n{}", "\n".repeat(20));
        assert_eq!(long_files(&[file("src/a.rs", &long)], 10).len(), 1);
        let with_reason = format!("//! A.\n//! Long because it is one table.\n{}", "\n".repeat(20));
        assert_eq!(long_files(&[file("src/a.rs", &with_reason)], 10), []);
        assert_eq!(long_files(&[file("src/a.rs", &long)], 21), []);
    }

    #[test]
    fn unfinished_work_is_found() {
        let found = |text: &str| unfinished(&[file("src/a.rs", text)]).len();
        assert_eq!(found("fn f() { todo!() }"), 1);
        assert_eq!(found("fn f() { unimplemented!(\"later\") }"), 1);
        assert_eq!(found("#[test]\n#[ignore = \"slow\"]\nfn f() {}"), 1);
        assert_eq!(found("// TODO: more\nfn f() {}"), 1);
        assert_eq!(found("fn f() { let todo = 1; g(todo); print(\"todo!()\"); } // not todo!() either"), 0);
    }

    #[test]
    fn an_unwrap_outside_tests_is_found() {
        let found = |path: &str, text: &str| unwraps(&[file(path, text)]).len();
        assert_eq!(found("src/a.rs", "fn f() { g().unwrap(); }"), 1);
        assert_eq!(found("src/a.rs", "fn f() { g().unwrap_or(1); h().expect(\"why\"); }"), 0);
        assert_eq!(found("src/a.rs", "#[cfg(test)]\nmod tests { fn f() { g().unwrap(); } }"), 0);
        assert_eq!(found("src/a.rs", "#[cfg(test)]\nmod tests { fn f() {} }\nfn f() { g().unwrap(); }"), 1);
        assert_eq!(found("src/a.rs", "#[cfg(not(test))]\nmod real { fn f() { g().unwrap(); } }"), 1);
    }

    #[test]
    fn a_sleep_is_found() {
        let found = |path: &str, text: &str| sleeps(&[file(path, text)]).len();
        assert_eq!(found("tests/live/a.rs", "async fn f() { tokio::time::sleep(d).await }"), 1);
        assert_eq!(found("src/a.rs", "#[tokio::test]\nasync fn f() { sleep(d).await }"), 1);
        assert_eq!(found("src/a.rs", "fn f() { std::thread::sleep(d) }"), 1);
        assert_eq!(found("src/a.rs", "async fn f() { tokio::time::sleep(d).await }"), 0);
        assert_eq!(found("src/a.rs", "#[tokio::test(start_paused = true)]\nasync fn f() { sleep(d).await }"), 0);
        assert_eq!(found("src/a.rs", "#[tokio::test(start_paused = true)]\nasync fn f() {}\n#[test]\nfn g() { sleep(d); }"), 1);
    }

    #[test]
    fn a_clock_of_ones_own_is_found() {
        let found = |path: &str, text: &str| clocks(&[file(path, text)]).len();
        assert_eq!(found("src/tail/a.rs", "use std::time::{Duration, SystemTime};"), 1);
        assert_eq!(found("src/tail/a.rs", "fn f() { std::time::Instant::now(); }"), 1);
        assert_eq!(found("src/tail/a.rs", "use std::time::Duration; use tokio::time::Instant;"), 0);
        assert_eq!(found("src/runtime/clock.rs", "use std::time::SystemTime;"), 0);
        assert_eq!(found("src/tail/a.rs", "fn f() -> u64 { fastrand::u64(..) }"), 1);
        assert_eq!(found("src/tail/a.rs", "fn f() { fastrand::Rng::with_seed(7); }"), 0);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let dependencies = dependencies("[dependencies]\ntoml = \"1\"\ntokio-util = \"1\"\nleft-pad = \"1\"\n");
        let architecture = "## Outside crates\n| crate | why |\n| --- | --- |\n| `toml` | a |\n| tokio, `tokio-util` | b |\n";
        assert_eq!(reasons(&dependencies, architecture), ["left_pad"]);
    }

    #[test]
    fn a_broken_link_is_found() {
        let exists = |target: &str| target == "docs/there.md";
        let text = "[a](docs/there.md#part) [b](https://example.org)\n[c](docs/gone.md) [d](#here)";
        let found = broken_links("README.md", text, exists);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].rule.as_str()), (2, "links to `docs/gone.md`, which does not exist"));
    }

    #[test]
    fn literals_and_comments_are_not_code() {
        let words: Vec<String> = tokens("let a = r#\"x \" y\"#; /* b /* c */ d */ 'e' '\\'' b\"f\" <'g> // h\n\"i\\\"j\" k::l")
            .into_iter()
            .map(|t| t.text)
            .collect();
        let expected = ["let", "a", "=", "\"\"", ";", "\"\"", "\"\"", "\"\"", "<", "'", "g", ">", "\"\"", "k", "::", "l"];
        assert_eq!(words, expected);
    }
}
