//! `tandem tail`: the one-minute trial, as a person or a pipe runs it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PrivateServer, ServerOptions, wait_until};

pub fn tail(server: &PrivateServer, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    command
        .arg("tail")
        .arg(format!("--database={}", server.url()))
        .args(["--password-env", "TAIL_PASSWORD"])
        .args(args)
        .env("TAIL_PASSWORD", server.password())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn interrupt(child: &Child) {
    // SAFETY: kill has no memory effects, and the child is ours.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
}

/// Its exit code, which must come soon.
pub async fn code(child: &mut Child) -> Option<i32> {
    let mut status = None;
    let ended = wait_until("tail to end", Duration::from_secs(20), async || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    })
    .await;
    if let Err(missed) = ended {
        let _ = child.kill();
        panic!("{missed}");
    }
    status.and_then(|status| status.code())
}

#[tokio::test]
async fn changes_are_lines_of_json_from_the_start_and_as_they_come() {
    let server = PrivateServer::start(ServerOptions::node(3)).await;
    server.query("CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name TEXT); CREATE TABLE campus.log (id INT)").await;
    server
        .query("BEGIN; INSERT INTO campus.riders VALUES (1, 'Zoë'), (2, NULL); INSERT INTO campus.log VALUES (9); COMMIT")
        .await;
    let mut child = tail(&server, &["--from", "start", "--tables", "campus.riders"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let (first, second) = (next(), next());
    assert_eq!(first["op"], "c");
    assert_eq!(first["after"], serde_json::json!({"id": 1, "name": "Zoë"}));
    assert_eq!(second["after"], serde_json::json!({"id": 2, "name": null}));
    assert_eq!(first["source"]["table"], "riders");
    assert_eq!(first["source"]["gtid"], "3-3-4");
    assert_eq!(
        (&second["transaction"]["total_order"], &second["transaction"]["data_collection_order"]),
        (&2.into(), &2.into())
    );

    // The reader is at the end now: the next line comes when the row does.
    server.query("UPDATE campus.riders SET name = 'Zoé' WHERE id = 1").await;
    let update = next();
    assert_eq!((update["before"]["name"].as_str(), update["after"]["name"].as_str()), (Some("Zoë"), Some("Zoé")));

    interrupt(&child);
    assert_eq!(code(&mut child).await, Some(130));
    assert!(lines.next().is_none(), "nothing but whole lines");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

/// Both ends of a new terminal: ours, and the one to give to a program.
fn terminal() -> (std::fs::File, std::fs::File) {
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize { ws_row: 25, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are to what is meant, or null where nothing is asked for; both descriptors are new and ours.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null(), &size), 0);
        (OwnedFd::from_raw_fd(ours).into(), OwnedFd::from_raw_fd(theirs).into())
    }
}

#[tokio::test]
async fn progress_is_told_on_a_terminal_while_the_lines_go_elsewhere() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2), (3)").await;
    let (mut ours, theirs) = terminal();
    let mut child = tail(&server, &["--from", "start"]).stderr(theirs).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.by_ref().take(3).filter_map(Result::ok).filter(|line| line.starts_with('{')).count(), 3);
    // The end of a terminal is an error to who still reads it; what it showed is all that counts.
    let shown = std::thread::spawn(move || {
        let (mut shown, mut buffer) = (String::new(), [0; 4096]);
        while !shown.contains("3 changes, up to 0-1-3") {
            match ours.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => shown.push_str(&String::from_utf8_lossy(&buffer[..read])),
            }
        }
        shown
    });
    interrupt(&child);
    assert_eq!(code(&mut child).await, Some(130));
    let shown = shown.join().unwrap();
    assert!(shown.contains("3 changes, up to 0-1-3"), "{shown:?}");
    assert!(shown.contains("/s, at "), "while it runs: {shown:?}");
}

#[tokio::test]
async fn a_closed_pipe_is_a_good_end() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(200))").await;
    server.sql_client("USE d; INSERT INTO t SELECT seq, REPEAT('x', 200) FROM seq_1_to_20000");
    let mut child = tail(&server, &["--from", "0-1-2"]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"before\":null"), "{first}");
    assert_eq!(code(&mut child).await, Some(0));
}

#[tokio::test]
async fn a_lost_server_is_waited_for_and_no_change_comes_twice() {
    let mut server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)").await;
    let mut child = tail(&server, &["--from", "start"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["after"]["id"].as_u64();
    assert_eq!(next(), Some(1));
    server.kill9();
    server.restart().await;
    server.query("INSERT INTO d.t VALUES (2)").await;
    assert_eq!(next(), Some(2));
    interrupt(&child);
    assert_eq!(code(&mut child).await, Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the connection to the database at 127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_read_is_one_line_and_exit_code_2() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let check = |command: &mut Command, expected: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && said.starts_with("error: "), "`{expected}` is not in: {said}");
        assert!(!said.contains("hunter2") && output.stdout.is_empty(), "{said}");
    };
    check(tail(&server, &[]).env("TAIL_PASSWORD", "hunter2"), "refused to log in 'tandem'@'%'");
    check(tail(&server, &[]).env_remove("TAIL_PASSWORD"), "the environment variable TAIL_PASSWORD is not set");
    check(&mut tail(&server, &["--from", "0-1-99"]), "the position 0-1-99 is not in the server's binlog");
    check(&mut tail(&server, &["--from", "never"]), "`never` is not a GTID");
    check(&mut tail(&server, &["--tables", "riders"]), "database.table");
    let mut with_password = Command::new(env!("CARGO_BIN_EXE_tandem"));
    check(with_password.args(["tail", "--database", "mysql://tandem:hunter2@127.0.0.1/d"]), "must not hold the password");
    check(&mut tail(&server, &["--tls"]), "no secure connection");
}
