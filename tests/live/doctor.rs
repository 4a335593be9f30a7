//! `tandem doctor` against real servers: nothing to mend where all is well, and each fault by its code with its fix.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Cluster, ClusterOptions, NodeOptions};

mod bench;
#[cfg(feature = "kafka")]
mod kafka;
mod rows;

use bench::Bench;

const SCHEMA: &str = "CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40));";

/// Exit code, and the codes of what must be mended.
fn must_mend(options: &NodeOptions) -> (Option<i32>, Vec<String>) {
    let said = options.run_once(&["doctor", "--json"]);
    let found: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
    });
    let fails = found.iter().filter(|finding| finding["level"] == "fail");
    (said.status.code(), fails.map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_must_be_mended_and_nothing_where_all_is_well() {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let node = cluster.nodes[0].options().clone();
    assert_eq!(must_mend(&node), (Some(0), Vec::new()));

    let server = cluster.server(0);
    server.query("SET GLOBAL binlog_format=MIXED; SET GLOBAL auto_increment_increment=1").await;
    server.query("CREATE TABLE campus.log (line TEXT); CREATE TABLE campus.flat (id INT PRIMARY KEY) ENGINE=MyISAM").await;
    let expected = ["DB-FORMAT", "DB-AUTOINC", "DB-TABLE", "NODES-AUTOINC"].map(str::to_owned).to_vec();
    assert_eq!(must_mend(&node), (Some(3), expected));
    let said = node.run_once(&["doctor"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("  FAIL  DB-FORMAT     binlog_format is MIXED, so many changes would not be seen\n"), "{text}");
    assert!(text.contains("set binlog_format=ROW, then restart the server"), "{text}");
    assert!(text.contains("ALTER TABLE campus.flat ENGINE=InnoDB"), "{text}");
    assert!(text.contains("  WARN  DB-KEY        campus.log has no primary key"), "{text}");
    assert!(text.contains("on every node: ALTER TABLE campus.log ADD PRIMARY KEY"), "{text}");
    assert!(text.trim_end().ends_with("must be mended"), "{text}");

    let stranger = node.env("NODE_PASSWORD", "no secret of this server");
    let (code, fails) = must_mend(&stranger);
    assert_eq!((code, fails.first().map(String::as_str)), (Some(3), Some("DB-LOGIN")));
    let said = stranger.run_once(&["doctor"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("no secret of this server"), "a password is never printed");
    cluster.end().await.unwrap();
}

/// Everything that is not good, as `level code: what — remedy`.
fn findings(options: &NodeOptions, more: &[&str]) -> Vec<String> {
    let said = options.run_once(&[&["doctor", "--json"], more].concat());
    let found: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
    });
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    found
        .iter()
        .filter(|finding| finding["level"] != "good" || finding["code"] == "DB-UNIQUE")
        .map(|finding| {
            let [level, code, what, remedy] = ["level", "code", "what", "remedy"].map(|key| text(finding, key));
            format!("{level} {code}: {what} — {remedy}")
        })
        .collect()
}

/// Every code that a finding of the program's sources can have.
fn codes_of_the_sources() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("the sources are there").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let program = text.split("#[cfg(test)]").next().unwrap_or_default();
                if program.contains("Finding") {
                    codes.extend(program.split('"').filter(|literal| is_code(literal)).map(str::to_owned));
                }
            }
        }
    }
    codes
}

/// Two words or more in capitals, or one of the few that are one word.
fn is_code(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase());
    let areas = ["CLOUD", "DB", "NODES", "PORT", "SECRET", "STATE", "TOPIC", "WEB"];
    text.split('-').all(word) && areas.contains(&text.split('-').next().unwrap_or_default()) && text != "DB"
}

#[test]
fn each_code_that_the_doctor_knows_is_broken_and_mended_here_and_is_in_the_handbook() {
    let codes = codes_of_the_sources();
    assert!(codes.len() > 40 && codes.contains("DB-FORMAT") && codes.contains("TOPIC-SIZE"), "they are not found: {codes:?}");
    let tried = rows::ROWS.iter().chain(rows::BROKER).map(|row| row.code.to_owned());
    let tried: BTreeSet<String> = tried.chain(rows::ELSEWHERE.iter().map(|(code, _)| code.to_string())).collect();
    let untried: Vec<&String> = codes.difference(&tried).collect();
    assert!(untried.is_empty(), "no row of the tables breaks {untried:?}");
    let unknown: Vec<&String> = tried.difference(&codes).collect();
    assert!(unknown.is_empty(), "nothing finds {unknown:?} any more");
    let handbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let handbook = fs::read_to_string(handbook).expect("the handbook is there");
    let words: BTreeSet<&str> = handbook.split(|letter: char| !letter.is_ascii_uppercase() && letter != '-').collect();
    let silent: Vec<&String> = codes.iter().filter(|code| !words.contains(code.as_str())).collect();
    assert!(silent.is_empty(), "docs/operations.md says nothing of {silent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_is_broken_found_with_its_fix_mended_as_printed_and_clean_again() {
    let mut bench = Bench::start().await;
    assert_eq!(bench.findings(), [], "nothing is to be mended before anything is broken");
    let mut otherwise = Vec::new();
    for row in rows::ROWS {
        if let Err(what) = bench.try_out(row).await {
            otherwise.push(format!("{} {:?}: {what}", row.code, row.words));
            bench.reset(row).await;
        }
    }
    assert!(otherwise.is_empty(), "{} of {} rows:\n{}", otherwise.len(), rows::ROWS.len(), otherwise.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_compares_two_nodes_that_do_not_reach_each_other() {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let (a, b) = (cluster.nodes[0].options(), cluster.nodes[1].options());
    assert_eq!(a.run_once(&["doctor", "--save", "a.facts"]).status.code(), Some(0));
    assert_eq!(must_mend(b), (Some(0), Vec::new()));
    let against = ["--against", "a.facts"];
    let well = findings(b, &against);
    assert!(well.iter().all(|found| !found.contains("NODES-")), "{well:?}");

    let server = cluster.server(1);
    server.query("SET GLOBAL auto_increment_offset=1; SET GLOBAL gtid_domain_id=1").await;
    server.query("ALTER TABLE campus.riders MODIFY name VARCHAR(20); CREATE TABLE campus.bikes (id INT PRIMARY KEY)").await;
    let found: Vec<String> = findings(b, &against).into_iter().filter(|found| found.contains("NODES-")).collect();
    let expected = [
        "fail NODES-DOMAIN: gtid_domain_id is 1 here and on laptop-a",
        "fail NODES-AUTOINC: auto_increment_offset is 1 here and on laptop-a, so new rows get the same ids",
        "fail NODES-SCHEMA: campus.bikes is only here",
        "fail NODES-SCHEMA: campus.riders: column `name` is varchar(20) utf8mb4_general_ci here and varchar(40) utf8mb4_general_ci on laptop-a",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    assert_eq!(b.run_once(&["doctor", "--against", "a.facts"]).status.code(), Some(3));

    let said = a.run_once(&["doctor", "--against", "a.facts"]);
    assert!(said.status.code() == Some(2) && String::from_utf8_lossy(&said.stderr).contains("of laptop-a itself"));
    let said = a.run_once(&["doctor", "--against", "tandem.toml"]);
    assert!(said.status.code() == Some(2) && String::from_utf8_lossy(&said.stderr).contains("cannot compare with tandem.toml"));
    cluster.end().await.unwrap();
}
