//! What MariaDB's own programs, and its own replication, need for the same.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use mysql_async::prelude::Queryable;

use crate::cost::{Cost, cpu};
use crate::harness::PrivateServer;

/// The server's own reader: copies the file (`raw`), or decodes it into text as nobody reads it.
pub fn mariadb_binlog(server: &PrivateServer, file: &str, raw: bool) -> Cost {
    let copies = tempfile::tempdir().expect("a temporary directory");
    let opts = server.account_opts();
    let mut command = Command::new("mariadb-binlog");
    command
        .args(["--no-defaults", "--read-from-remote-server", "--protocol=tcp", "--host=127.0.0.1"])
        .arg(format!("--port={}", server.port()))
        .arg(format!("--user={}", opts.user().unwrap_or_default()))
        .env("MYSQL_PWD", server.password())
        .stdout(Stdio::null());
    match raw {
        true => command.arg("--raw").arg(format!("--result-file={}/", copies.path().display())),
        false => command.arg("-v"),
    };
    let (start, cpu) = (Instant::now(), cpu(libc::RUSAGE_CHILDREN));
    let status = command.arg(file).status().unwrap_or_else(|error| panic!("cannot run mariadb-binlog: {error}"));
    let cost = Cost::since(start, cpu, libc::RUSAGE_CHILDREN);
    assert!(status.success(), "mariadb-binlog failed: {status}");
    if raw {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let copied = size(&copies.path().join(file));
        assert_eq!(copied, size(&server.data_dir().join(file)), "mariadb-binlog did not copy all");
    }
    cost
}

/// The end of a server's own history.
pub async fn position(server: &PrivateServer) -> String {
    server.first("SELECT @@gtid_binlog_pos").await.expect("a server has a position")
}

/// `replica` is to follow `primary` from a position on, with that many applying threads (0: with the one that reads).
/// What it applies goes into no binlog, as its default is.
pub async fn prepare(primary: &PrivateServer, replica: &PrivateServer, position: &str, threads: u32) {
    let account = primary.admin_opts();
    let mut conn = replica.conn().await;
    let statements = [
        "RESET SLAVE".to_owned(),
        format!("SET GLOBAL gtid_slave_pos = '{position}'"),
        format!("SET GLOBAL slave_parallel_threads = {threads}, GLOBAL slave_parallel_mode = 'optimistic'"),
        format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{}', MASTER_PASSWORD = '{}', \
             MASTER_USE_GTID = slave_pos",
            primary.port(),
            account.user().unwrap_or_default(),
            account.pass().unwrap_or_default()
        ),
    ];
    for statement in statements {
        conn.query_drop(&statement).await.unwrap_or_else(|error| panic!("replication cannot be set up: {error}"));
    }
    conn.disconnect().await.expect("a session can be ended");
}

pub async fn start(replica: &PrivateServer) {
    replica.query("START SLAVE").await;
}

pub async fn stop(replica: &PrivateServer) {
    replica.query("STOP SLAVE").await;
}
