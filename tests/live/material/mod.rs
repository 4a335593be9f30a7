//! MariaDB's own test suite as an application: its statements run on one node, and every table of theirs must come to the other as it
//! is, or be named there with the reason. Nothing may differ in silence.
//!
//! The tables are compared before each `DROP TABLE`, and at the end of each file.

mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::harness::{
    Cluster, ClusterOptions, PrivateServer, TableRows, folder_or_say, get_json, tables, wait_for, wait_until,
};

const A: usize = 0;
const B: usize = 1;
const WITHIN: Duration = Duration::from_secs(300);
/// Where packages put the suite.
const FOLDERS: &[&str] =
    &["/usr/share/mysql/mysql-test/main", "/usr/share/mariadb/mariadb-test/main", "/usr/share/mysql-test/main"];
/// What tells that everything before has come.
const FENCE: &str = "fence";

/// Types, defaults, keys, schema changes, statements of several tables, foreign keys, character sets.
const ORDINARY: &[&str] = &[
    "auto_increment",
    "ctype_latin1",
    "delete",
    "foreign_key",
    "insert",
    "replace",
    "truncate",
    "type_bit",
    "type_decimal",
    "type_enum",
    "type_set",
    "type_uint",
    "type_varchar",
    "update",
];

/// The rest of what says much about types, tables and rows, but for files that update tens of thousands of rows without a key, each of which
/// is found by looking at all: ctype_gbk and ctype_ujis take minutes by themselves.
const MORE: &[&str] = &[
    "alter_table",
    "create",
    "ctype_binary",
    "ctype_collate",
    "ctype_collate_column",
    "ctype_many",
    "ctype_sjis",
    "ctype_ucs",
    "ctype_utf16",
    "ctype_utf32",
    "ctype_utf8",
    "ctype_utf8mb4",
    "default",
    "gis",
    "insert_select",
    "insert_update",
    "key",
    "multi_update",
    "null",
    "strict",
    "type_binary",
    "type_blob",
    "type_char",
    "type_date",
    "type_datetime",
    "type_datetime_hires",
    "type_float",
    "type_hex_hybrid",
    "type_int",
    "type_json",
    "type_nchar",
    "type_newdecimal",
    "type_num",
    "type_ranges",
    "type_temporal_innodb",
    "type_time",
    "type_time_hires",
    "type_timestamp",
    "type_timestamp_hires",
    "type_year",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_statements_of_mariadbs_own_tests_differ_nowhere_in_silence() {
    let prove = std::env::var_os("TANDEM_PROVE").is_some();
    let mut files: Vec<&str> = ORDINARY.iter().chain(prove.then_some(MORE).into_iter().flatten()).copied().collect();
    let only = std::env::var("TANDEM_FILES").unwrap_or_default();
    if !only.is_empty() {
        files = only.split(',').collect();
    }
    let words = "the statements of MariaDB's own tests did not run";
    let Some(folder) = folder_or_say(FOLDERS, "mariadb-test-data", words, "TANDEM_REQUIRE_SUITE") else { return };
    let schema = format!("CREATE DATABASE campus CHARACTER SET latin1; CREATE TABLE campus.{FENCE} (id BIGINT PRIMARY KEY)");
    let config = "[ddl]\nsafe = \"apply\"\ndangerous = \"apply\"\n".to_owned();
    let options = ClusterOptions { config, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", schema) };
    let mut replay =
        Replay { cluster: Cluster::start(options).await, told: BTreeSet::new(), fences: 0, outcome: Outcome::default() };
    let mut report = String::new();
    for (number, file) in files.iter().enumerate() {
        replay.file(&folder, file).await;
        report = replay.outcome.report(number + 1);
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("material.txt");
        std::fs::write(place, &report).expect("the report can be written");
    }
    println!("{report}");
    assert!(replay.outcome.compared > 2 * files.len(), "there is something to compare: {report}");
    assert!(replay.outcome.silent.is_empty(), "these differ, and nobody says why:\n{}", replay.outcome.silent.join("\n"));
    replay.cluster.end().await.unwrap();
}

struct Replay {
    cluster: Cluster,
    /// Remarks of the node that have explained something already.
    told: BTreeSet<String>,
    fences: u64,
    outcome: Outcome,
}

enum Difference {
    /// The default of a column, and nothing else.
    Default(String),
    Other(String),
}

#[derive(Default)]
struct Outcome {
    statements: usize,
    refused_by_the_server: usize,
    compared: usize,
    rows: usize,
    /// Reasons, and the tables that are not the same because of them.
    named: BTreeMap<String, Vec<String>>,
    silent: Vec<String>,
}

impl Replay {
    async fn file(&mut self, folder: &Path, name: &str) {
        let path = folder.join(format!("{name}.test"));
        let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let server = self.cluster.server(A).clone();
        let mut conn = server.conn().await;
        // As the suite's own sessions are.
        conn.query_drop("USE campus; SET NAMES latin1, time_zone = '+03:00', innodb_lock_wait_timeout = 2").await.unwrap();
        for statement in script::statements(&text) {
            self.outcome.statements += 1;
            if let Some(names) = script::dropped(&statement) {
                conn.query_drop("ROLLBACK").await.unwrap();
                self.compare(name, &names).await;
            }
            match conn.query_drop(statement).await {
                Ok(()) => {}
                Err(mysql_async::Error::Server(_)) => self.outcome.refused_by_the_server += 1,
                Err(error) => panic!("{name}: {error}"),
            }
        }
        conn.query_drop("ROLLBACK").await.unwrap();
        let rest: Vec<String> = tables(&server, "campus").await.into_iter().filter(|table| table != FENCE).collect();
        self.compare(name, &rest).await;
        conn.query_drop("UNLOCK TABLES; SET sql_mode = '', foreign_key_checks = 0").await.unwrap();
        self.clear(&mut conn, &rest).await;
        conn.disconnect().await.unwrap();
    }

    /// Leaves nothing to the next file.
    async fn clear(&mut self, conn: &mut Conn, tables: &[String]) {
        let others = "SELECT CONCAT('DROP VIEW campus.`', TABLE_NAME, '`') FROM information_schema.VIEWS WHERE TABLE_SCHEMA = 'campus' \
            UNION ALL SELECT CONCAT('DROP ', ROUTINE_TYPE, ' campus.`', ROUTINE_NAME, '`') FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'campus'";
        let mut drops: Vec<String> = conn.query(others).await.unwrap();
        drops.extend(tables.iter().map(|table| format!("DROP TABLE campus.`{table}`")));
        for drop in drops {
            conn.query_drop(&drop).await.unwrap_or_else(|error| panic!("{drop}: {error}"));
        }
    }

    /// Waits until everything so far has come, and compares these tables.
    async fn compare(&mut self, file: &str, names: &[String]) {
        let (one, other) = (self.cluster.server(A).clone(), self.cluster.server(B).clone());
        let here: BTreeSet<String> = tables(&one, "campus").await.into_iter().collect();
        let names: Vec<&String> = names.iter().filter(|name| here.contains(*name)).collect();
        if names.is_empty() {
            return;
        }
        self.fences += 1;
        one.query(&format!("REPLACE INTO campus.{FENCE} VALUES (1), ({})", self.fences + 1)).await;
        let all = format!("SELECT COUNT(*) FROM campus.{FENCE} WHERE id = {}", self.fences + 1);
        let came = wait_until("all to come", WITHIN, async || other.first::<u64>(&all).await == Some(1)).await;
        if let Err(missed) = came {
            let (a, b) = (self.cluster.status(A).await, self.cluster.status(B).await);
            panic!("{file}: {missed}\n{}\n{}\n{}", a.unwrap_or_default(), b.unwrap_or_default(), self.outcome.report(0));
        }
        let there: BTreeSet<String> = tables(&other, "campus").await.into_iter().collect();
        for name in names {
            self.outcome.compared += 1;
            let difference = match there.contains(name) {
                true => self.difference(&one, &other, name).await,
                false => Some(Difference::Other("it is not there".to_owned())),
            };
            let remarks = self.remarks(name, matches!(difference, Some(Difference::Default(_)))).await;
            let difference = difference.map(|difference| match difference {
                Difference::Default(text) | Difference::Other(text) => text,
            });
            if let Some(difference) = difference {
                let table = format!("{file}: {name}");
                match remarks.last() {
                    Some(reason) => {
                        self.outcome.named.entry(reason.clone()).or_default().push(table);
                        self.go_on().await;
                    }
                    None => {
                        let statements = self.list("/api/schema-changes").await;
                        let last = statements.iter().filter(|one| one["object"] == format!("campus.{name}")).take(3);
                        let last: Vec<String> =
                            last.map(|one| format!("{} {} {}", one["state"], one["statement"], one["remark"])).collect();
                        self.outcome.silent.push(format!("{table}: {difference}\n  last statements: {}", last.join("; ")));
                    }
                }
            }
        }
    }

    async fn difference(&mut self, one: &PrivateServer, other: &PrivateServer, table: &str) -> Option<Difference> {
        let (here, there) = (definition(one, table).await, definition(other, table).await);
        let plain = |definition: &str| definition.replace(" DEFAULT NULL", "");
        let both = || format!("{here}\nthere:\n{there}");
        if plain(&here) != plain(&there) {
            return Some(Difference::Other(both()));
        }
        let rows = TableRows::read(one, "campus", table).await;
        self.outcome.rows += rows.len();
        let differing = rows.difference(&TableRows::read(other, "campus", table).await).map(Difference::Other);
        differing.or_else(|| (here != there).then(|| Difference::Default(both())))
    }

    /// What the nodes say about a table since it was last asked: changes set aside, statements not carried; and, where that is all that
    /// differs, defaults that no statement could carry.
    async fn remarks(&mut self, table: &str, default: bool) -> Vec<String> {
        let table = format!("campus.{table}");
        let mut found = Vec::new();
        let texts = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        for failed in self.list("/api/failed?limit=500").await {
            if texts(&failed, "table") == table && self.told.insert(format!("failed {}", failed["id"])) {
                found.push(texts(&failed, "reason"));
            }
        }
        for change in self.list("/api/schema-changes").await {
            let about = texts(&change, "object") == table || texts(&change, "statement").contains(&table["campus.".len()..]);
            if about && texts(&change, "state") != "done" && self.told.insert(format!("statement {}", change["number"])) {
                found.push(format!("{}: {}", texts(&change, "state"), texts(&change, "remark")));
            }
            // Each explains one table, whether it is asked for or not: there are many of one name.
            let unsaid = texts(&change, "remark").contains("no default at the origin");
            if about && unsaid && self.told.insert(format!("default {}", change["number"])) && default {
                found.push("no default at the origin and DEFAULT NULL here, as on a replica: no statement says so".to_owned());
            }
        }
        found
    }

    /// Leaves out what waits for a person, so that what comes later is not named for the same reason.
    async fn go_on(&self) {
        for change in self.list("/api/schema-changes?open=true").await {
            self.cluster.tandem(B, &["ddl", "skip", &change["number"].to_string()]);
        }
        let none = async || self.list("/api/schema-changes?open=true").await.is_empty();
        wait_for("what waits to be left out", WITHIN, none).await;
    }

    async fn list(&self, path: &str) -> Vec<Value> {
        let answer = get_json(self.cluster.web_port(B), path, None).await;
        answer.and_then(|answer| answer.as_array().cloned()).unwrap_or_else(|| panic!("{path} is no list"))
    }
}

/// What a server says of a table, but for its counter.
async fn definition(server: &PrivateServer, table: &str) -> String {
    let row: Option<(String, String)> = server.first(&format!("SHOW CREATE TABLE campus.`{table}`")).await;
    let text = row.expect("the table is there").1;
    text.split(' ').filter(|part| !part.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ")
}

impl Outcome {
    fn report(&self, files: usize) -> String {
        let mut text = format!(
            "{files} files, {} statements ({} of them refused by the server itself), {} tables compared with {} rows: {} named, {} silent\n",
            self.statements,
            self.refused_by_the_server,
            self.compared,
            self.rows,
            self.named.values().map(Vec::len).sum::<usize>(),
            self.silent.len()
        );
        for (reason, tables) in &self.named {
            let _ = writeln!(text, "{:>4}  {reason} ({})", tables.len(), tables[..tables.len().min(3)].join(", "));
        }
        for silent in &self.silent {
            let _ = writeln!(text, "SILENT {silent}");
        }
        text
    }
}
