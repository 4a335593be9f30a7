//! What MariaDB's own programs need for the same.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

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
