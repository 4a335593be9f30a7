//! A node that is broken in one way after the other, and mended by what the doctor prints: the statements are run, the lines
//! are given to the server, and it is started again.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::harness::{Cluster, ClusterOptions, NodeOptions, ServerOptions, Sync, free_port, wait_until};

/// What another node published last comes with its next record; a busy machine needs some of this.
const WITHIN: Duration = Duration::from_secs(25);

/// The node that is looked over; the other one keeps the hub and goes on running.
const SITE: usize = 1;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40));";

/// One way to be broken.
pub struct Row {
    pub code: &'static str,
    pub level: &'static str,
    pub breaks: &'static [Do],
    /// What the finding and its fix say.
    pub words: &'static [&'static str],
    pub fix: Fix,
    /// What is left to be taken away after it, so that the next row begins clean.
    pub after: &'static [Do],
}

pub enum Fix {
    /// Done as it is printed, with these letters in place of those that stand for what only a person knows.
    Printed(&'static [(&'static str, &'static str)]),
    /// The one of several printed statements that begins so.
    Statement(&'static str, &'static [(&'static str, &'static str)]),
    /// Not to be done by a program: why, and what a person would do.
    ByHand(&'static str, &'static [Do]),
}

pub enum Do {
    /// As an administrator of this node's server.
    Sql(&'static str),
    /// The same on the other node's.
    There(&'static str),
    Both(&'static str),
    /// The server is started anew with these arguments after its own.
    Args(&'static [&'static str]),
    /// The server is started anew as it was.
    NoArgs,
    /// `NAME=value` in the environment of the command; `{port}` is a port where nobody listens, `{dir}` the folder.
    Env(&'static [(&'static str, &'static str)]),
    NoEnv,
    /// A file beside the configuration, with its rights.
    File(&'static str, &'static str, u32),
    /// Somebody else listens where this node's pages are to be.
    TakePort,
    LeavePort,
    /// Another history than the one that was read, one that begins too late, and the one that was.
    ForgetHistory,
    PurgeHistory,
    GiveHistoryBack,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub level: String,
    pub code: String,
    pub what: String,
    pub remedy: String,
}

pub struct Bench {
    cluster: Cluster,
    env: Vec<(String, String)>,
    held: Option<TcpListener>,
    /// The server's own arguments, and its history before it was taken.
    args: Vec<String>,
    history: Option<String>,
    free: u16,
    /// More arguments of `doctor`.
    asked: Vec<String>,
}

/// A server to which nothing has to be said.
fn server(number: u32) -> ServerOptions {
    let options = ServerOptions { sync: Sync::EachCommit, ..ServerOptions::node(number) };
    options.arg("--gtid-strict-mode=ON")
}

impl Bench {
    pub async fn start() -> Self {
        let options = ClusterOptions {
            server,
            cloud: Some("\"campus.riders\" = {}"),
            ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)
        };
        let mut cluster = Cluster::start(options).await;
        // Both have something in their topics, as nodes that have worked for a while.
        for (site, id) in [(0, 1), (SITE, 2)] {
            cluster.server(site).query(&format!("INSERT INTO campus.riders VALUES ({id}, 'rider {id}')")).await;
        }
        cluster.wait_until_equal(WITHIN).await.expect("two nodes that are well");
        cluster.nodes[SITE].terminate().await;
        let key = cluster.dir().join("cloud.key");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let args = cluster.server(SITE).options().args.clone();
        Self { cluster, env: Vec::new(), held: None, args, history: None, free: free_port(), asked: Vec::new() }
    }

    fn options(&self) -> NodeOptions {
        let mut options = self.cluster.nodes[SITE].options().clone();
        options.env.extend(self.env.iter().cloned());
        options
    }

    /// All that is not good, and what is good and has advice all the same.
    pub fn findings(&self) -> Vec<Found> {
        let args: Vec<&str> = ["doctor", "--json"].into_iter().chain(self.asked.iter().map(String::as_str)).collect();
        let said = self.options().run_once(&args);
        found(&said.stdout, &said.stderr).into_iter().filter(|found| found.level != "good").collect()
    }

    fn told(&self, code: &str) -> Vec<Found> {
        let args: Vec<&str> = ["doctor", "--json"].into_iter().chain(self.asked.iter().map(String::as_str)).collect();
        let said = self.options().run_once(&args);
        found(&said.stdout, &said.stderr).into_iter().filter(|found| found.code == code).collect()
    }

    /// Breaks, looks, mends, looks; or what went otherwise.
    pub async fn try_out(&mut self, row: &Row) -> Result<(), String> {
        self.act(row.breaks).await?;
        let mut last = Vec::new();
        let mut hit = None;
        let what = format!("{} with {:?}", row.code, row.words);
        let seen = wait_until(&what, WITHIN, async || {
            last = self.told(row.code);
            let says = |found: &Found| row.words.iter().all(|word| found.what.contains(word) || found.remedy.contains(word));
            hit = last.iter().find(|found| found.level == row.level && says(found)).cloned();
            hit.is_some()
        });
        seen.await.map_err(|missed| format!("{missed}: {last:?}"))?;
        let hit = hit.expect("it was just found");
        match &row.fix {
            Fix::ByHand(why, steps) => {
                assert!(!why.is_empty(), "{}: why is it not done as printed?", row.code);
                self.act(steps).await?;
            }
            Fix::Printed(words) => self.apply(&filled(&hit.remedy, words)).await?,
            Fix::Statement(start, words) => {
                let remedy = filled(&hit.remedy, words);
                let at = remedy.find(start).ok_or_else(|| format!("no `{start}` in: {remedy}"))?;
                let statement = remedy[at..].split("; ").next().unwrap_or_default();
                let statement = statement.split(" sets ").next().unwrap_or_default();
                self.sql(SITE, statement).await?;
            }
        }
        let what = format!("{} to be mended", row.code);
        let mended = wait_until(&what, WITHIN, async || {
            last = self.told(row.code);
            last.retain(|found| found.level != "good");
            last.is_empty()
        });
        mended.await.map_err(|missed| format!("{missed} by `{}`: {last:?}", hit.remedy))?;
        self.act(row.after).await?;
        self.env.clear();
        self.asked.clear();
        match &*self.findings() {
            [] => Ok(()),
            left => Err(format!("after {} this is left: {left:?}", row.code)),
        }
    }

    /// After a row that went otherwise, so that the next one says something of its own.
    pub async fn reset(&mut self, row: &Row) {
        (self.held, self.history) = (None, None);
        self.env.clear();
        self.asked.clear();
        // Some of it may not be there.
        let _ = self.act(row.after).await;
        self.act(&[Do::NoArgs]).await.expect("a server that starts");
    }

    async fn act(&mut self, steps: &[Do]) -> Result<(), String> {
        for step in steps {
            match step {
                Do::Sql(sql) => self.sql(SITE, sql).await?,
                Do::There(sql) => self.sql(0, sql).await?,
                Do::Both(sql) => self.both(sql).await?,
                Do::Args(args) => {
                    let args = self.args.iter().cloned().chain(args.iter().map(|arg| arg.to_string())).collect();
                    self.cluster.server_mut(SITE).restart_as(args).await;
                }
                Do::NoArgs => {
                    let args = self.args.clone();
                    self.cluster.server_mut(SITE).restart_as(args).await;
                }
                Do::Env(pairs) => {
                    let dir = self.cluster.dir().display().to_string();
                    let value = |text: &str| text.replace("{port}", &self.free.to_string()).replace("{dir}", &dir);
                    let pairs: Vec<_> = pairs.iter().map(|(name, text)| (name.to_string(), value(text))).collect();
                    self.env.extend(pairs);
                }
                Do::NoEnv => self.env.clear(),
                Do::File(name, text, rights) => {
                    let file = self.cluster.dir().join(name);
                    fs::write(&file, text).expect("the folder can be written to");
                    fs::set_permissions(file, fs::Permissions::from_mode(*rights)).expect("it is ours");
                }
                Do::TakePort => {
                    let port = self.cluster.web_port(SITE);
                    self.held = Some(TcpListener::bind(("127.0.0.1", port)).expect("the node that had it has ended"));
                }
                Do::LeavePort => self.held = None,
                Do::ForgetHistory => {
                    self.remember().await;
                    self.cluster.server(SITE).query("RESET MASTER").await;
                }
                Do::PurgeHistory => {
                    self.remember().await;
                    let server = self.cluster.server(SITE);
                    server.query("RESET MASTER; SET GLOBAL gtid_binlog_state='2-2-1000000'; FLUSH BINARY LOGS").await;
                    let logs: Vec<(String, u64)> = server.rows("SHOW BINARY LOGS").await;
                    let newest = &logs.last().expect("there is always one").0;
                    server.query(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
                }
                Do::GiveHistoryBack => {
                    let history = self.history.take().expect("it was taken before");
                    let sql = format!("RESET MASTER; SET GLOBAL gtid_binlog_state='{history}'");
                    self.cluster.server(SITE).query(&sql).await;
                }
            }
        }
        Ok(())
    }

    /// How far the node has published: a binlog that begins there lacks nothing.
    async fn remember(&mut self) {
        let good = self.told("DB-POSITION");
        let what = good.first().map(|found| found.what.clone()).unwrap_or_default();
        let position = between(&what, "all after ", ", up to");
        self.history = Some(position.unwrap_or_else(|| panic!("no position in: {what}")).to_owned());
    }

    async fn both(&self, sql: &str) -> Result<(), String> {
        for site in [0, SITE] {
            self.sql(site, sql).await?;
        }
        Ok(())
    }

    /// As an administrator of a site's server. What is said on the other one is not carried over here: this node does not run.
    async fn sql(&self, site: usize, sql: &str) -> Result<(), String> {
        let failed = |error: mysql_async::Error| format!("{error} in: {sql}");
        let mut conn = self.cluster.server(site).conn().await;
        conn.query_iter(sql).await.map_err(failed)?.drop_result().await.map_err(failed)?;
        conn.disconnect().await.map_err(failed)
    }

    /// Does what the doctor says: a program that takes it by its word.
    async fn apply(&mut self, remedy: &str) -> Result<(), String> {
        let until = |text: &str| {
            text.split([';', '\n']).next().unwrap_or_default().split(", or ").next().unwrap_or_default().to_owned()
        };
        if let Some(lines) = between(remedy, " set ", ", then restart the server") {
            let mut args = self.cluster.server(SITE).options().args.clone();
            args.extend(lines.split(" and ").map(|line| format!("--{}", line.trim())));
            self.cluster.server_mut(SITE).restart_as(args).await;
            return Ok(());
        }
        if let Some(names) = between(remedy, "remove ", " from the server's configuration, then restart") {
            let names: Vec<String> = names.split(" and ").map(|name| format!("--{}", name.replace('_', "-"))).collect();
            let args = self.cluster.server(SITE).options().args.iter();
            let args = args.filter(|arg| !names.iter().any(|name| arg.starts_with(name.as_str()))).cloned().collect();
            self.cluster.server_mut(SITE).restart_as(args).await;
            return Ok(());
        }
        if let Some((_, sql)) = remedy.split_once("as an administrator: ") {
            self.sql(SITE, &until(sql)).await?;
            return Ok(());
        }
        if let Some(excluded) = between(remedy, "exclude = [", "] under [tables]").filter(|_| !remedy.contains("ALTER TABLE")) {
            self.env.push(("TANDEM__TABLES__EXCLUDE".into(), excluded.replace('"', "")));
            return Ok(());
        }
        for start in ["on every node: ", "on all nodes but one: ", "make it the primary key: "] {
            if let Some(sql) = remedy.strip_prefix(start) {
                self.both(&until(sql)).await?;
                return Ok(());
            }
        }
        if remedy.starts_with("ALTER TABLE ") {
            self.both(&until(remedy)).await?;
            return Ok(());
        }
        if remedy.starts_with("chmod ") {
            let done = Command::new("sh").args(["-c", remedy]).current_dir(self.cluster.dir()).status();
            assert!(done.expect("there is a shell").success(), "{remedy}");
            return Ok(());
        }
        if let Some((setting, section)) = between(remedy, "set ", "]").and_then(|line| line.split_once(" under [")) {
            let (key, value) = setting.split_once(" = ").unwrap_or_else(|| panic!("no key and value: {remedy}"));
            let name = format!("TANDEM__{}__{}", section.to_uppercase(), key.to_uppercase());
            self.env.push((name, value.to_owned()));
            return Ok(());
        }
        if let Some((there, here)) = remedy.split_once("; then here: ") {
            let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).skip(1).collect() };
            let there = words(there.strip_prefix("there: ").expect("it says where"));
            let args: Vec<&str> = there.iter().map(String::as_str).collect();
            let said = self.cluster.nodes[0].options().run_once(&args);
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            self.asked = words(here).split_off(1);
            return Ok(());
        }
        Err(format!("nobody can do this as it is printed: {remedy}"))
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}

fn filled(remedy: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(remedy.to_owned(), |text, (from, to)| text.replace(from, to))
}

pub fn found(stdout: &[u8], stderr: &[u8]) -> Vec<Found> {
    let found: Vec<Value> = serde_json::from_slice(stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr)));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let read = |finding: &Value| {
        let [level, code, what, remedy] = ["level", "code", "what", "remedy"].map(|key| text(finding, key));
        Found { level, code, what, remedy }
    };
    found.iter().map(read).collect()
}
