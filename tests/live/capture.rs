//! Reading the binlog of a real server: every shape a transaction can have, each by its name.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem::change::{GtidPosition, Op, TableFilter, ValueRef};
use tandem::source::binlog::{BinlogOptions, BinlogSource};
use tandem::source::{Source, SourceError, SourceEvent, TransactionPart, TransactionStream};

use crate::harness::{PrivateServer, ServerOptions};

pub const WITHIN: Duration = Duration::from_secs(30);

pub fn source_with(server: &PrivateServer, change: impl FnOnce(&mut BinlogOptions)) -> BinlogSource {
    let mut options = BinlogOptions::new(server.account_opts(), 1101, TableFilter::everything());
    options.heartbeat = Duration::from_millis(200);
    change(&mut options);
    BinlogSource::new(options)
}

pub fn source(server: &PrivateServer) -> BinlogSource {
    source_with(server, |_| {})
}

/// Reads up to and with the end of the server's history as it is now.
pub async fn read_from(source: &BinlogSource, from: &str) -> Result<Vec<TransactionPart>, SourceError> {
    let end = source.position().await?;
    let mut stream = source.stream(&from.parse().unwrap()).await?;
    read_to(&mut *stream, from.parse().unwrap(), &end).await
}

pub async fn read_to(
    stream: &mut dyn TransactionStream,
    mut position: GtidPosition,
    end: &GtidPosition,
) -> Result<Vec<TransactionPart>, SourceError> {
    let mut parts = Vec::new();
    while !position.covers_all(end) {
        let event = tokio::time::timeout(WITHIN, stream.next()).await.expect("the history's end does not come");
        if let SourceEvent::Part(part) = event? {
            if part.last {
                position.advance(part.header.gtid);
            }
            parts.push(part);
        }
    }
    Ok(parts)
}

pub async fn read_all(server: &PrivateServer) -> Vec<TransactionPart> {
    read_from(&source(server), "").await.unwrap()
}

fn shown(value: Option<ValueRef>) -> String {
    match value {
        None => "?".into(),
        Some(ValueRef::Null) => "NULL".into(),
        Some(ValueRef::Int(number)) => number.to_string(),
        Some(ValueRef::UInt(number)) => number.to_string(),
        Some(ValueRef::Text(text)) => text.to_string(),
        Some(other) => format!("{other:?}"),
    }
}

/// `c riders 1,Ann` per change, `ddl …` per statement, and `-` between transactions.
pub fn story(parts: &[TransactionPart]) -> Vec<String> {
    let mut story = Vec::new();
    for part in parts {
        for change in &part.changes {
            let image = change.after.as_ref().or(change.before.as_ref()).unwrap();
            let values: Vec<_> = (0..change.shape.columns.len()).map(|at| shown(image.get(at))).collect();
            story.push(format!("{} {} {}", change.op.letter(), change.table().table, values.join(",")));
        }
        if let Some(ddl) = &part.ddl {
            story.push(format!("ddl {}", ddl.statement));
        }
        if part.last {
            story.push("-".into());
        }
    }
    story
}

/// Runs the statements on a fresh server with tables `t` (InnoDB) and `m` (MyISAM), and tells what came after that.
async fn story_of(sql: &str) -> Vec<String> {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(40)) ENGINE=InnoDB").await;
    server.query("CREATE TABLE d.m (id INT PRIMARY KEY, v VARCHAR(40)) ENGINE=MyISAM").await;
    let source = source(&server);
    let from = source.position().await.unwrap();
    server.sql_client(&format!("USE d; {sql}"));
    story(&read_from(&source, &from.to_string()).await.unwrap())
}

#[tokio::test]
async fn inserts_updates_and_deletes_come_with_their_images() {
    let server = PrivateServer::start(ServerOptions::node(3)).await;
    server.query("CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40), note TEXT)").await;
    server.query("INSERT INTO campus.riders VALUES (1, 'Ann', NULL), (2, 'Zoë', 'x')").await;
    server.query("UPDATE campus.riders SET name = 'Anna' WHERE id = 1; DELETE FROM campus.riders WHERE id = 2").await;
    let parts = read_all(&server).await;
    assert_eq!(
        story(&parts[2..]),
        ["c riders 1,Ann,NULL", "c riders 2,Zoë,x", "-", "u riders 1,Anna,NULL", "-", "d riders 2,Zoë,x", "-"]
    );
    let update = &parts[3].changes[0];
    assert_eq!(update.op, Op::Update);
    assert_eq!(update.before.as_ref().unwrap().get(1), Some(ValueRef::Text("Ann")));
    assert_eq!(update.shape.key, [0]);
    let header = &parts[2].header;
    assert_eq!((header.gtid.domain, header.gtid.server, header.gtid.sequence, header.server_id), (3, 3, 3, 3));
    assert!(header.coordinates.file.starts_with("binlog.") && header.coordinates.position > 4);
    let now: u64 = server.first("SELECT UNIX_TIMESTAMP()").await.unwrap();
    assert!(header.commit_second <= now && header.commit_second + 60 > now);
}

#[tokio::test]
async fn statements_that_define_come_as_ddl_in_their_place() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)").await;
    server.sql_client("USE d; ALTER TABLE t ADD v INT; INSERT INTO t VALUES (2, 3); CREATE TABLE c AS SELECT * FROM t");
    let parts = read_all(&server).await;
    let story = story(&parts);
    assert_eq!(story[0], "ddl CREATE DATABASE d");
    let alter = story.iter().position(|line| line == "ddl ALTER TABLE t ADD v INT").unwrap();
    assert_eq!(story[alter - 2..alter], ["c t 1", "-"]);
    assert_eq!(story[alter + 1..alter + 4], ["-", "c t 2,3", "-"]);
    assert!(story[alter + 4].starts_with("ddl CREATE TABLE `c`"), "{story:?}");
    assert_eq!(story[alter + 5..], ["c c 1,NULL", "c c 2,3", "-"]);
    assert!(parts.iter().any(|part| part.ddl.as_ref().is_some_and(|ddl| &*ddl.database == "d")));
}

#[tokio::test]
async fn an_alter_logged_in_two_halves_comes_once() {
    let sql = "SET SESSION binlog_alter_two_phase=1; ALTER TABLE t ADD c INT; INSERT INTO t VALUES (1, 'a', 2)";
    assert_eq!(story_of(sql).await, ["-", "ddl ALTER TABLE t ADD c INT", "-", "c t 1,a,2", "-"]);
}

#[tokio::test]
async fn groups_without_xid_end_with_their_commit() {
    assert_eq!(story_of("INSERT INTO m VALUES (1, 'a'); DELETE FROM m").await, ["c m 1,a", "-", "d m 1,a", "-"]);
}

#[tokio::test]
async fn several_tables_and_rows_events_make_one_statement() {
    let sql =
        "INSERT INTO t VALUES (1, 'a'); INSERT INTO m VALUES (1, 'b'); UPDATE t JOIN m USING (id) SET t.v = 'x', m.v = 'y'";
    let story = story_of(sql).await;
    assert_eq!(story[4..], ["u m 1,y", "u t 1,x", "-"]);

    let many = story_of("INSERT INTO t SELECT seq, REPEAT('x', 40) FROM seq_1_to_2000").await;
    assert_eq!(many.len(), 2001, "several rows events, one transaction");
}

#[tokio::test]
async fn a_table_mapped_again_in_the_same_transaction_is_read() {
    let sql = "BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b'); DELETE FROM t WHERE id = 1; COMMIT";
    assert_eq!(story_of(sql).await, ["c t 1,a", "c t 2,b", "d t 1,a", "-"]);
}

#[tokio::test]
async fn what_was_rolled_back_to_a_savepoint_does_not_come() {
    let sql = "BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT sp; INSERT INTO t VALUES (2, 'b'); INSERT INTO m VALUES (1, 'm'); \
               ROLLBACK TO sp; INSERT INTO t VALUES (3, 'c'); COMMIT";
    assert_eq!(story_of(sql).await, ["c m 1,m", "-", "c t 1,a", "c t 3,c", "-"]);
}

#[tokio::test]
async fn a_logged_transaction_that_was_rolled_back_does_not_come() {
    let sql =
        "BEGIN; INSERT INTO t VALUES (1, 'a'); CREATE TEMPORARY TABLE x (id INT); ROLLBACK; INSERT INTO t VALUES (2, 'b')";
    let story = story_of(sql).await;
    assert!(!story.contains(&"c t 1,a".to_owned()) && story.contains(&"c t 2,b".to_owned()), "{story:?}");
}

#[tokio::test]
async fn a_trigger_s_rows_come_in_the_transaction_that_fired_it() {
    let sql = "CREATE TABLE log (id INT PRIMARY KEY); CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO log VALUES (NEW.id); \
               INSERT INTO t VALUES (1, 'a')";
    let story = story_of(sql).await;
    let mut rows: Vec<_> = story[story.len() - 3..].to_vec();
    rows.sort();
    assert_eq!(rows, ["-", "c log 1", "c t 1,a"]);
}

#[tokio::test]
async fn xa_rows_come_with_their_commit_and_never_with_their_rollback() {
    let sql = "XA START 'a'; INSERT INTO t VALUES (1, 'a'); XA END 'a'; XA PREPARE 'a'; XA COMMIT 'a'; \
               XA START 'b','x',7; INSERT INTO t VALUES (2, 'b'); XA END 'b','x',7; XA PREPARE 'b','x',7; XA ROLLBACK 'b','x',7; \
               XA START 'c'; INSERT INTO t VALUES (3, 'c'); XA END 'c'; XA COMMIT 'c' ONE PHASE; \
               XA START 'e'; SELECT 1; XA END 'e'; XA PREPARE 'e'; XA COMMIT 'e'";
    let story = story_of(sql).await;
    assert_eq!(story[..7], ["-", "c t 1,a", "-", "-", "-", "c t 3,c", "-"]);
    assert!(story[7..].iter().all(|line| line == "-"), "{story:?}");
}

#[tokio::test]
async fn an_open_xa_transaction_is_where_reading_must_begin_again() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    server.sql_client("XA START 'a'; INSERT INTO d.t VALUES (1); XA END 'a'; XA PREPARE 'a'");
    server.query("INSERT INTO d.t VALUES (2)").await;
    let between = source(&server).position().await.unwrap();
    server.query("XA COMMIT 'a'").await;
    server.query("INSERT INTO d.t VALUES (3)").await;
    let parts = read_all(&server).await;
    let read_from_of = |at: usize| parts[at].header.read_from.as_ref().map(ToString::to_string);
    assert_eq!(story(&parts[2..]), ["-", "c t 2", "-", "c t 1", "-", "c t 3", "-"]);
    assert_eq!([2, 3, 4, 5].map(read_from_of), [Some("0-1-2".into()), Some("0-1-2".into()), Some("0-1-2".into()), None]);

    let again = read_from(&source(&server), "0-1-2").await.unwrap();
    assert_eq!(story(&again), story(&parts[2..]));

    let error = read_from(&source(&server), &between.to_string()).await.unwrap_err();
    assert!(matches!(&error, SourceError::PreparedBefore { xid, .. } if xid == "X'61',X'',1"), "{error}");
}

#[tokio::test]
async fn several_xa_transactions_may_be_open_at_once() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    for (name, id) in [("a", 1), ("b", 2), ("c", 3)] {
        server.sql_client(&format!("XA START '{name}'; INSERT INTO d.t VALUES ({id}); XA END '{name}'; XA PREPARE '{name}'"));
    }
    server.query("XA COMMIT 'b'; XA ROLLBACK 'a'; XA COMMIT 'c'").await;
    // Part limits of nothing send all of it through files.
    for part_bytes in [1 << 20, 0] {
        let source = source_with(&server, |options| options.part_bytes = part_bytes);
        let parts = read_from(&source, "0-1-2").await.unwrap();
        assert_eq!(story(&parts), ["-", "-", "-", "c t 2", "-", "-", "c t 3", "-"]);
        let from: Vec<_> = parts.iter().filter(|part| part.last).map(|part| part.header.read_from.clone().unwrap()).collect();
        assert_eq!(
            from.iter().map(|from| from.to_string()).collect::<Vec<_>>(),
            ["0-1-2", "0-1-2", "0-1-2", "0-1-2", "0-1-2", "0-1-4"]
        );
    }
}

#[tokio::test]
async fn a_large_transaction_comes_in_parts_and_a_large_rollback_does_not() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server
        .query(
            "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(100)); CREATE TABLE d.m (id INT) ENGINE=MyISAM",
        )
        .await;
    server
        .sql_client("USE d; BEGIN; INSERT INTO t SELECT seq, REPEAT('x', 90) FROM seq_1_to_20000; SAVEPOINT s; \
             INSERT INTO t SELECT seq, REPEAT('y', 90) FROM seq_20001_to_40000; INSERT INTO m VALUES (1); ROLLBACK TO s; \
             INSERT INTO t VALUES (50000, 'z'); COMMIT; \
             BEGIN; INSERT INTO t SELECT seq, REPEAT('x', 90) FROM seq_60001_to_80000; CREATE TEMPORARY TABLE x (id INT); ROLLBACK");
    let source = source_with(&server, |options| options.part_bytes = 100_000);
    let parts = read_from(&source, "0-1-3").await.unwrap();
    let rows: Vec<_> = parts.iter().flat_map(|part| &part.changes).filter(|change| &*change.table().table == "t").collect();
    assert_eq!(rows.len(), 20_001);
    let ids: Vec<_> = rows.iter().map(|change| change.after.as_ref().unwrap().get(0).unwrap().as_u64().unwrap()).collect();
    assert!(ids[..20_000].iter().enumerate().all(|(at, &id)| id == at as u64 + 1));
    assert_eq!(ids[20_000], 50_000);
    let large: Vec<_> = parts.iter().filter(|part| part.header.gtid == parts[1].header.gtid).collect();
    assert!(large.len() > 10, "{} parts", large.len());
    assert!(large.iter().rev().skip(1).all(|part| !part.last && !part.changes.is_empty()) && large.last().unwrap().last);
    assert!(large.iter().all(|part| part.changes.iter().map(|change| change.weight()).sum::<usize>() < 200_000));
}

#[tokio::test]
async fn one_event_larger_than_a_packet_comes_whole() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.b (id INT PRIMARY KEY, v LONGBLOB)").await;
    server.query("INSERT INTO d.b VALUES (1, REPEAT('abcdefgh', 5 * 1024 * 1024)), (2, 'x')").await;
    let parts = read_all(&server).await;
    let changes: Vec<_> = parts.iter().flat_map(|part| &part.changes).collect();
    let Some(ValueRef::Bytes(bytes)) = changes[0].after.as_ref().unwrap().get(1) else { panic!("not bytes") };
    assert!(bytes.len() == 40 << 20 && bytes.chunks(8).all(|chunk| chunk == b"abcdefgh"));
    assert_eq!(changes.len(), 2);
}

#[tokio::test]
async fn compressed_events_and_those_without_checksum_are_read() {
    for args in [
        &["--log-bin-compress=1", "--log-bin-compress-min-len=10"][..],
        &["--binlog-checksum=NONE"],
        &["--binlog-annotate-row-events=0"],
    ] {
        let args: Vec<_> = args.iter().map(|arg| arg.to_string()).collect();
        let options = ServerOptions { args: args.clone(), ..ServerOptions::default() };
        let server = PrivateServer::start(options).await;
        server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(1000)) COMMENT 'a statement that is long enough'").await;
        server.sql_client("USE d; INSERT INTO d.t SELECT seq, REPEAT('x', 500) FROM seq_1_to_50; UPDATE d.t SET v = REPEAT('y', 500); DELETE FROM d.t");
        let parts = read_all(&server).await;
        let mut counts = BTreeMap::new();
        for change in parts.iter().flat_map(|part| &part.changes) {
            *counts.entry(change.op.letter()).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([("c", 50), ("u", 50), ("d", 50)]), "{args:?}");
        assert!(parts[1].ddl.as_ref().unwrap().statement.ends_with("'a statement that is long enough'"));
    }
}

#[tokio::test]
async fn reading_goes_on_over_new_files_restarts_and_changed_checksums() {
    let mut server = PrivateServer::start(ServerOptions::default()).await;
    server
        .query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1); FLUSH BINARY LOGS")
        .await;
    server.query("INSERT INTO d.t VALUES (2); SET GLOBAL binlog_checksum=NONE; INSERT INTO d.t VALUES (3)").await;
    server.query("SET GLOBAL binlog_checksum=CRC32; INSERT INTO d.t VALUES (4)").await;
    server.kill9();
    server.restart().await;
    server.query("INSERT INTO d.t VALUES (5)").await;
    let parts = read_all(&server).await;
    assert_eq!(story(&parts[2..]), ["c t 1", "-", "c t 2", "-", "c t 3", "-", "c t 4", "-", "c t 5", "-"]);
    let files: Vec<_> = parts[2..].iter().map(|part| part.header.coordinates.file.to_string()).collect();
    assert_eq!(files, ["binlog.000001", "binlog.000002", "binlog.000003", "binlog.000004", "binlog.000005"]);
}

#[tokio::test]
async fn tables_that_are_not_captured_do_not_come_but_tandem_s_own_do() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); CREATE TABLE d.log (id INT)").await;
    server.query("CREATE DATABASE tandem; CREATE TABLE tandem.applied (id INT PRIMARY KEY)").await;
    server.query("BEGIN; INSERT INTO d.log VALUES (1); INSERT INTO tandem.applied VALUES (7); INSERT INTO d.t VALUES (2); COMMIT; INSERT INTO d.log VALUES (3)").await;
    let only = TableFilter { include: vec![tandem::change::TablePattern::parse("d.t").unwrap()], exclude: vec![] };
    let source = source_with(&server, |options| options.tables = only);
    let story = story(&read_from(&source, "0-1-5").await.unwrap());
    assert_eq!(story, ["c applied 7", "c t 2", "-", "-"]);
}

#[tokio::test]
async fn history_of_several_domains_is_read_from_a_position_in_each() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    server.query("SET gtid_domain_id=5; INSERT INTO d.t VALUES (1); SET gtid_domain_id=9; INSERT INTO d.t VALUES (2); INSERT INTO d.t VALUES (3)").await;
    server.query("SET gtid_domain_id=5; INSERT INTO d.t VALUES (4)").await;
    let parts = read_from(&source(&server), "0-1-2,5-1-1,9-1-1").await.unwrap();
    assert_eq!(story(&parts), ["c t 3", "-", "c t 4", "-"]);
    assert_eq!(source(&server).position().await.unwrap().to_string(), "0-1-2,5-1-2,9-1-2");
}

#[tokio::test]
async fn an_idle_stream_says_so_and_a_dropped_call_takes_nothing() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY)").await;
    let source = source(&server);
    let from = source.position().await.unwrap();
    let mut stream = source.stream(&from).await.unwrap();
    assert_eq!(tokio::time::timeout(WITHIN, stream.next()).await.unwrap().unwrap(), SourceEvent::Idle);
    server.sql_client("USE d; INSERT INTO t SELECT seq FROM seq_1_to_1000; INSERT INTO t VALUES (2000)");
    let end = source.position().await.unwrap();
    let mut position = from;
    let mut rows = 0;
    while !position.covers_all(&end) {
        // Polled once and dropped, again and again.
        tokio::task::yield_now().await;
        if let Some(Ok(SourceEvent::Part(part))) = futures_util::FutureExt::now_or_never(stream.next()) {
            rows += part.changes.len();
            if part.last {
                position.advance(part.header.gtid);
            }
        }
    }
    assert_eq!(rows, 1001);
}
