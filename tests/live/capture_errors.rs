//! What a reader is told when a server cannot be read: what, where, and what to do. Every sentence by its situation.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Opts, OptsBuilder, SslOpts};
use tandem::change::{Image, TableFilter, Value};
use tandem::runtime::{Disposition, Fault};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceError, SourceEvent, TransactionPart, TransactionStream};

use crate::capture::{WITHIN, read_all, read_from, read_to, source, source_with, story};
use crate::harness::{PrivateServer, ServerOptions, free_port};

async fn refused(source: &BinlogSource, from: &str) -> SourceError {
    match source.stream(&from.parse().unwrap()).await {
        Ok(_) => panic!("the server can be read"),
        Err(error) => error,
    }
}

async fn part(stream: &mut dyn TransactionStream) -> Result<TransactionPart, SourceError> {
    loop {
        if let SourceEvent::Part(part) = tokio::time::timeout(WITHIN, stream.next()).await.expect("something comes")? {
            return Ok(part);
        }
    }
}

fn says(error: &SourceError, disposition: Disposition, parts: &[&str]) {
    let text = format!("{error} — {}", error.hint().expect("every error has a hint"));
    assert_eq!(error.disposition(), disposition, "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[tokio::test]
async fn a_server_that_would_hide_changes_is_refused() {
    let check = async |options: ServerOptions, parts: &[&str]| {
        let server = PrivateServer::start(options).await;
        says(&refused(&source(&server), "").await, Disposition::Halt, parts);
        says(&source(&server).preflight().await.unwrap_err(), Disposition::Halt, parts);
    };
    check(ServerOptions { log_bin: false, ..ServerOptions::default() }, &["writes no binlog", "log_bin=binlog"]).await;
    check(
        ServerOptions { binlog_format: "MIXED", ..ServerOptions::default() },
        &["binlog_format", "MIXED", "binlog_format=ROW"],
    )
    .await;
}

#[tokio::test]
async fn an_account_without_the_grant_is_told_which() {
    let grants = vec!["SELECT ON *.*".to_owned()];
    let server = PrivateServer::start(ServerOptions { grants, ..ServerOptions::default() }).await;
    let error = refused(&source(&server), "").await;
    says(
        &error,
        Disposition::Halt,
        &["'tandem'@'%'", "may not read the binlog", "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO"],
    );
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let opts: Opts = OptsBuilder::from_opts(server.account_opts()).pass(Some("hunter2-wrong")).into();
    let error = refused(&source_with(&server, |options| options.connection = opts), "").await;
    says(&error, Disposition::Halt, &["refused to log in 'tandem'@'%'", "Access denied", "check user and password"]);
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_host_that_is_not_there_is_tried_again() {
    let opts: Opts = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(free_port()).user(Some("tandem")).into();
    let source = BinlogSource::new(BinlogOptions::new(opts, 1101, TableFilter::everything()));
    says(&refused(&source, "").await, Disposition::Retry, &["cannot reach the database at 127.0.0.1:", "goes on by itself"]);
    assert!(matches!(source.position().await, Err(SourceError::Unreachable { .. })));
}

#[tokio::test]
async fn a_purged_position_tells_what_is_still_there() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server
        .query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS")
        .await;
    server.query("INSERT INTO d.t VALUES (2); FLUSH BINARY LOGS; INSERT INTO d.t VALUES (3)").await;
    // The server keeps a file until its storage engines no longer need it.
    let deadline = tokio::time::Instant::now() + WITHIN;
    while server.first::<(String, u64)>("SHOW BINARY LOGS").await.unwrap().0 != "binlog.000003" {
        assert!(tokio::time::Instant::now() < deadline, "the server does not purge");
        server.query("PURGE BINARY LOGS TO 'binlog.000003'").await;
    }
    let source = source(&server);
    for from in ["", "0-1-2"] {
        let error = refused(&source, from).await;
        says(&error, Disposition::Halt, &["no longer has its binlog after", "begins at 0-1-4", "run `tandem reseed`"]);
    }
    assert_eq!(source.oldest().await.unwrap().to_string(), "0-1-4");
    assert_eq!(story(&read_from(&source, "0-1-4").await.unwrap()), ["c t 3", "-"]);
}

#[tokio::test]
async fn a_position_that_the_server_does_not_know_is_refused() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    server.query("SET gtid_seq_no = 10; INSERT INTO d.t VALUES (1)").await;
    let check = |error: SourceError, from| {
        says(&error, Disposition::Halt, &[from, "is not in the server's binlog", "restored from an older copy"]);
    };
    for from in ["0-1-99", "0-7-2", "5-1-1"] {
        check(refused(&source(&server), from).await, from);
    }
    // One that lies where the server has none: it notices only when it passes the place.
    check(read_from(&source(&server), "0-1-5").await.unwrap_err(), "0-1-5");
}

#[tokio::test]
async fn a_second_reader_with_the_same_replica_id_is_refused_and_the_first_goes_on() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    let first = source(&server);
    let mut stream = first.stream(&first.position().await.unwrap()).await.unwrap();
    let error = refused(&source(&server), "").await;
    says(&error, Disposition::Retry, &["another reader", "1101", "another program reads with this id"]);

    server.query("INSERT INTO d.t VALUES (1)").await;
    let end = first.position().await.unwrap();
    let parts = read_to(&mut *stream, "0-1-2".parse().unwrap(), &end).await.unwrap();
    assert_eq!(story(&parts), ["c t 1", "-"]);

    drop(stream);
    assert_eq!(story(&read_from(&source(&server), "0-1-2").await.unwrap()), ["c t 1", "-"], "the id is free again");
    let own_id = source_with(&server, |options| options.replica_id = server.options().server_id);
    says(&refused(&own_id, "").await, Disposition::Halt, &["has the server_id", "another replica_id"]);
}

#[tokio::test]
async fn rows_changed_by_a_logged_statement_stop_the_stream() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT); INSERT INTO d.t VALUES (1, 'seen')").await;
    server.query("SET binlog_format = STATEMENT; /* app */ INSERT INTO d.t VALUES (2, 'secret value')").await;
    let error = read_from(&source(&server), "0-1-2").await.unwrap_err();
    says(&error, Disposition::Halt, &["0-1-4", "logged INSERT statement", "binlog_format=ROW"]);
    assert!(!error.to_string().contains("secret"));
}

/// The server logs them so whatever binlog_format says (decision 8).
#[tokio::test]
async fn a_table_versioned_by_transaction_number_stops_the_stream() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server
        .query(
            "CREATE DATABASE d; CREATE TABLE d.v (id INT PRIMARY KEY, a INT, s BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
             e BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING",
        )
        .await;
    server.query("INSERT INTO d.v (id, a) VALUES (1, 2); UPDATE d.v SET a = 3; DELETE FROM d.v").await;
    for (from, verb) in [("0-1-2", "INSERT"), ("0-1-3", "UPDATE"), ("0-1-4", "DELETE")] {
        let error = read_from(&source(&server), from).await.unwrap_err();
        let what = format!("by a logged {verb} statement");
        says(&error, Disposition::Halt, &[&what, "versioned by transaction number", "version it by time"]);
    }
}

#[tokio::test]
async fn an_event_that_was_damaged_on_the_disk_stops_the_stream() {
    let mut server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v TEXT); INSERT INTO d.t VALUES (1, 'good')").await;
    server.query("INSERT INTO d.t VALUES (2, 'hereabouts')").await;
    server.stop().await;
    let file = server.data_dir().join("binlog.000001");
    let mut bytes = std::fs::read(&file).unwrap();
    // The statement stands in its own event before the rows; the last of both is the row.
    let at = bytes.windows(10).rposition(|bytes| bytes == b"hereabouts").expect("the row is in the file");
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    server.restart().await;
    let source = source(&server);
    let mut stream = source.stream(&"0-1-2".parse().unwrap()).await.unwrap();
    assert_eq!(story(&[part(&mut *stream).await.unwrap()]), ["c t 1,good", "-"]);
    let error = part(&mut *stream).await.unwrap_err();
    says(&error, Disposition::Halt, &["the checksum of an event of type 23 is wrong", "check the server's disk"]);
}

/// A statement that changed rows and could not be logged: here because it was larger than the server lets it be.
#[tokio::test]
async fn a_gap_that_the_server_reports_stops_the_stream() {
    let limits = ["--binlog-stmt-cache-size=4096", "--max-binlog-stmt-cache-size=4096"].map(String::from);
    let server = PrivateServer::start(ServerOptions { args: limits.to_vec(), ..ServerOptions::default() }).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.m (id INT, v CHAR(100)) ENGINE=MyISAM").await;
    let mut conn = server.conn().await;
    conn.query_drop("USE d").await.unwrap();
    let refused = conn.query_drop("INSERT INTO m SELECT seq, REPEAT('x', 100) FROM seq_1_to_1000").await.unwrap_err();
    assert!(refused.to_string().contains("max_binlog_stmt_cache_size"), "{refused}");
    conn.disconnect().await.unwrap();
    server.query("INSERT INTO d.m VALUES (2000, 'after')").await;
    let error = read_from(&source(&server), "0-1-2").await.unwrap_err();
    says(&error, Disposition::Halt, &["binlog has a gap after 0-1-2", "take a new snapshot"]);
}

#[tokio::test]
async fn rows_of_a_table_that_is_gone_stop_the_stream_where_the_binlog_names_no_columns() {
    let server = PrivateServer::start(ServerOptions { binlog_row_metadata: "NO_LOG", ..ServerOptions::default() }).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); DROP TABLE d.t").await;
    let error = read_from(&source(&server), "0-1-2").await.unwrap_err();
    says(&error, Disposition::Halt, &["the columns that d.t had at 0-1-3", "binlog_row_metadata=FULL"]);
}

#[tokio::test]
async fn rows_from_before_an_alter_stop_the_stream_where_the_binlog_names_no_columns() {
    let server = PrivateServer::start(ServerOptions { binlog_row_metadata: "NO_LOG", ..ServerOptions::default() }).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT)").await;
    server.query("INSERT INTO d.t VALUES (1, 2, 3)").await;
    assert_eq!(story(&read_from(&source(&server), "0-1-2").await.unwrap()), ["c t 1,2,3", "-"]);

    server.query("ALTER TABLE d.t CHANGE a c INT, CHANGE b a INT").await;
    server.query("INSERT INTO d.t VALUES (2, 3, 4)").await;
    let error = read_from(&source(&server), "0-1-2").await.unwrap_err();
    says(&error, Disposition::Halt, &["d.t", "binlog_row_metadata=FULL"]);
    // After the ALTER all is certain again.
    let parts = read_from(&source(&server), "0-1-4").await.unwrap();
    assert_eq!(story(&parts), ["c t 2,3,4", "-"]);
    assert_eq!(&*parts[0].changes[0].shape.columns[1].name, "c");
}

/// The table's time and the rows' do not tell which was first.
#[tokio::test]
async fn rows_of_the_second_in_which_their_table_was_made_are_read_from_the_historys_end_on() {
    let server = PrivateServer::start(ServerOptions { binlog_row_metadata: "NO_LOG", ..ServerOptions::default() }).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT); CREATE TABLE d.u LIKE d.t").await;
    let source = source(&server);
    let mut stream = source.stream(&source.position().await.unwrap()).await.unwrap();
    let made = "SELECT UNIX_TIMESTAMP(MIN(CREATE_TIME)) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'";
    server.query(&format!("SET timestamp = ({made}); INSERT INTO d.t VALUES (1, 2); INSERT INTO d.u VALUES (3, 4)")).await;
    let parts = [part(&mut *stream).await.unwrap(), part(&mut *stream).await.unwrap()];
    assert_eq!(story(&parts), ["c t 1,2", "-", "c u 3,4", "-"]);
}

#[tokio::test]
async fn rows_from_before_an_alter_are_read_where_the_binlog_names_columns() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT)").await;
    server.query("INSERT INTO d.t VALUES (1, 2, 3); ALTER TABLE d.t CHANGE a c INT, CHANGE b a INT; INSERT INTO d.t VALUES (2, 3, 4)").await;
    server.query("DROP TABLE d.t").await;
    let parts = read_all(&server).await;
    let names =
        |part: usize| parts[part].changes[0].shape.columns.iter().map(|column| column.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(2), names(4)), (vec!["id".into(), "a".into(), "b".into()], vec!["id".into(), "c".into(), "a".into()]));
}

#[tokio::test]
async fn a_partial_row_image_leaves_unknown_columns_out() {
    let server = PrivateServer::start(ServerOptions { binlog_row_image: "MINIMAL", ..ServerOptions::default() }).await;
    server
        .query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, a INT, b INT); INSERT INTO d.t VALUES (1, 2, NULL)")
        .await;
    server.query("UPDATE d.t SET b = 5").await;
    let parts = read_from(&source(&server), "0-1-3").await.unwrap();
    let update = &parts[0].changes[0];
    assert_eq!(update.before, Some(Image::of([Some(Value::Int(1)), None, None])));
    assert_eq!(update.after, Some(Image::of([None, None, Some(Value::Int(5))])));
    let notes = source(&server).preflight().await.unwrap().notes();
    assert!(notes.len() == 1 && notes[0].contains("binlog_row_image is MINIMAL"), "{notes:?}");
}

#[tokio::test]
async fn a_lost_server_is_told_and_reading_goes_on_from_the_last_position() {
    let mut server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)").await;
    let source = source(&server);
    let end = source.position().await.unwrap();
    let mut stream = source.stream(&"0-1-2".parse().unwrap()).await.unwrap();
    assert_eq!(read_to(&mut *stream, "0-1-2".parse().unwrap(), &end).await.unwrap().len(), 1);
    server.kill9();
    let error = loop {
        match tokio::time::timeout(WITHIN, stream.next()).await.expect("the loss is noticed") {
            Ok(SourceEvent::Idle) => {}
            Ok(SourceEvent::Part(part)) => panic!("{part:?}"),
            Err(error) => break error,
        }
    };
    says(&error, Disposition::Retry, &["was lost", "nothing is lost"]);
    says(&refused(&source, "0-1-3").await, Disposition::Retry, &["cannot reach the database"]);
    server.restart().await;
    server.query("INSERT INTO d.t VALUES (2)").await;
    assert_eq!(story(&read_from(&source, "0-1-3").await.unwrap()), ["c t 2", "-"]);
}

#[tokio::test]
async fn a_connection_that_is_killed_by_the_server_is_told() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let source = source(&server);
    let mut stream = source.stream(&source.position().await.unwrap()).await.unwrap();
    let id: u64 = server.first("SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump'").await.unwrap();
    server.query(&format!("KILL {id}")).await;
    let error = loop {
        match tokio::time::timeout(WITHIN, stream.next()).await.expect("the loss is noticed") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.disposition(), Disposition::Retry, "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let source = source(&server);
    let mut stream = source.stream(&source.position().await.unwrap()).await.unwrap();
    let process = server.process_id().unwrap() as i32;
    // SAFETY: kill has no memory effects, and the process is ours.
    assert_eq!(unsafe { libc::kill(process, libc::SIGSTOP) }, 0);
    let error = loop {
        match tokio::time::timeout(WITHIN, stream.next()).await.expect("silence is noticed") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(unsafe { libc::kill(process, libc::SIGCONT) }, 0);
    says(&error, Disposition::Retry, &["was lost", "not even a heartbeat within 10 s"]);
}

/// A certificate authority, and certificates it signed, made with openssl.
struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let own = Self { dir: tempfile::tempdir().unwrap() };
        for ca in ["ca", "other"] {
            own.openssl(&format!("req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN={ca} -keyout {ca}.key -out {ca}.pem"));
        }
        let signing = "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ncertificate=ca.pem\n\
                       private_key=ca.key\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n";
        std::fs::write(own.dir.path().join("ca.cnf"), signing).unwrap();
        own
    }

    fn openssl(&self, command: &str) {
        let output = std::process::Command::new("openssl").args(command.split(' ')).current_dir(self.dir.path()).output();
        let output = output.unwrap_or_else(|error| panic!("cannot run openssl: {error}"));
        assert!(output.status.success(), "openssl {command}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Arguments for a server with a certificate of this name, valid between these times.
    fn server(&self, name: &str, validity: &str) -> Vec<String> {
        let dir = self.dir.path();
        std::fs::write(dir.join("san.cnf"), format!("subjectAltName=DNS:{name},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"))
            .unwrap();
        self.openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout server.key -out server.csr"));
        std::fs::write(dir.join("index"), "").unwrap();
        self.openssl(&format!("ca -batch -config ca.cnf -in server.csr -extfile san.cnf {validity} -out server.pem"));
        // The server may run as another user than we do.
        for file in ["server.key", "server.pem", "ca.pem"] {
            std::fs::set_permissions(dir.join(file), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        }
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = |file: &str| dir.join(file).display().to_string();
        vec![
            format!("--ssl-cert={}", path("server.pem")),
            format!("--ssl-key={}", path("server.key")),
            format!("--ssl-ca={}", path("ca.pem")),
        ]
    }
}

#[tokio::test]
async fn tls_is_good_only_with_the_right_authority_name_and_time() {
    let certificates = Certificates::new();
    let connect = async |server: &PrivateServer, ca: &str, host: Option<&str>| {
        let mut tls =
            SslOpts::default().with_root_certs(vec![certificates.dir.path().join(ca).into()]).with_disable_built_in_roots(true);
        if let Some(host) = host {
            tls = tls.with_danger_tls_hostname_override(Some(host.to_owned()));
        }
        let opts: Opts = OptsBuilder::from_opts(server.account_opts()).ssl_opts(Some(tls)).into();
        source_with(server, |options| options.connection = opts).stream(&"".parse().unwrap()).await
    };
    let args = certificates.server("db.lan", "-days 30");
    let server = PrivateServer::start(ServerOptions { args, ..ServerOptions::default() }).await;
    server.query("CREATE DATABASE d").await;
    let mut stream = connect(&server, "ca.pem", Some("db.lan")).await.expect("a good certificate");
    assert!(matches!(stream.next().await.unwrap(), SourceEvent::Part(part) if part.ddl.is_some()));
    let encrypted: Vec<(String, String)> = server.rows("SHOW GLOBAL STATUS LIKE 'Ssl_finished_accepts'").await;
    assert_ne!(encrypted[0].1, "0", "the session was encrypted");
    drop(stream);

    let refused = async |server: &PrivateServer, ca: &str, host: Option<&str>, what: &str| {
        let error = connect(server, ca, host).await.err().unwrap_or_else(|| panic!("{what} was accepted"));
        says(&error, Disposition::Halt, &["no secure connection", what, "check the server's certificate"]);
    };
    refused(&server, "other.pem", Some("db.lan"), "UnknownIssuer").await;
    refused(&server, "ca.pem", Some("wrong.lan"), "not valid for name").await;
    drop(server);

    let args = certificates.server("db.lan", "-startdate 20200101000000Z -enddate 20200201000000Z");
    let expired = PrivateServer::start(ServerOptions { args, ..ServerOptions::default() }).await;
    refused(&expired, "ca.pem", Some("db.lan"), "expired").await;
    drop(expired);

    let plain = PrivateServer::start(ServerOptions::default().arg("--skip-ssl")).await;
    refused(&plain, "ca.pem", None, "does not offer TLS").await;
}

#[tokio::test]
async fn heartbeats_are_as_frequent_as_asked() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let source = source_with(&server, |options| options.heartbeat = Duration::from_millis(50));
    let mut stream = source.stream(&source.position().await.unwrap()).await.unwrap();
    for _ in 0..5 {
        let event = tokio::time::timeout(Duration::from_secs(5), stream.next()).await.expect("a heartbeat").unwrap();
        assert_eq!(event, SourceEvent::Idle);
    }
}
