//! Statements that define tables: carried to the other node in their place, never back again, and held where they could lose
//! something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use tandem::change::{Body, Offset, OriginId};
use tandem::observe::SchemaView;
use tandem::topic::TopicReader;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, wait_for};
use crate::quiet::{Quiet, topics};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40), seats INT);
    CREATE TABLE campus.trips (id INT PRIMARY KEY, note VARCHAR(200));";
const A: usize = 0;
const B: usize = 1;
const DEADLINE: Duration = Duration::from_secs(120);

async fn cluster(config: &str) -> Cluster {
    let options =
        ClusterOptions { config: config.into(), ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    Cluster::start(options).await
}

/// What comes to be there, and is waited for.
async fn soon<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_for(what, DEADLINE, async || {
        found = look().await;
        found.is_some()
    })
    .await;
    found.expect("it was waited for")
}

/// Everything in a topic.
async fn records(cluster: &Cluster, site: usize) -> Vec<tandem::change::Record> {
    let (topics, origin) = (topics(cluster), OriginId::new(cluster.nodes[site].name()));
    let mut all = Vec::new();
    let mut next = Offset(0);
    loop {
        let batch = topics.read(&origin, next, 4 << 20, Duration::ZERO).await.unwrap();
        let Some((last, _)) = batch.last() else { return all };
        next = last.next();
        all.extend(batch.into_iter().map(|(_, record)| record));
    }
}

/// The statements that a site published.
async fn published(cluster: &Cluster, site: usize) -> Vec<String> {
    let statement = |record: tandem::change::Record| match record.body {
        Body::Schema(change) => Some(change.statement),
        _ => None,
    };
    records(cluster, site).await.into_iter().filter_map(statement).collect()
}

async fn changes(cluster: &Cluster, site: usize) -> Vec<SchemaView> {
    let options = cluster.nodes[site].options().clone();
    let output = tokio::task::spawn_blocking(move || options.run_once(&["ddl", "list", "--json"])).await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

async fn wait_for_state(cluster: &Cluster, site: usize, object: &str, state: &str) -> SchemaView {
    let found = async || changes(cluster, site).await.into_iter().find(|view| view.object == object && view.state == state);
    soon(&format!("{object} to be {state}"), found).await
}

/// What the server says of a table, but for its counter and for the order of what two nodes added at once.
async fn definition(server: &PrivateServer, table: &str) -> String {
    let row: Option<(String, String)> = server.first(&format!("SHOW CREATE TABLE {table}")).await;
    let text = row.map(|(_, text)| text).unwrap_or_default();
    let text = text.split(' ').filter(|part| !part.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ");
    let mut lines: Vec<&str> = text.lines().map(|line| line.trim().trim_end_matches(',')).collect();
    lines.sort_unstable();
    lines.join("\n")
}

async fn tables(server: &PrivateServer) -> Vec<String> {
    server
        .rows("SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'campus' ORDER BY 1")
        .await
}

/// The same tables with the same definitions, and the same rows.
async fn equal(cluster: &mut Cluster) {
    let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
    let same = async || {
        let names = tables(&one).await;
        if names != tables(&other).await {
            return None;
        }
        for name in names {
            if definition(&one, &name).await != definition(&other, &name).await {
                return None;
            }
        }
        Some(())
    };
    soon("the definitions to be the same", same).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_add_or_widen_go_through_by_themselves_and_never_come_back() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2)").await;
    let on_a = [
        "CREATE TABLE campus.rooms (id INT PRIMARY KEY AUTO_INCREMENT, `odd name` INT DEFAULT 5) COMMENT 'a; b'",
        "ALTER TABLE campus.riders ADD COLUMN email VARCHAR(60) DEFAULT 'none' AFTER name, ADD INDEX (seats)",
        "ALTER TABLE campus.riders MODIFY name VARCHAR(80), MODIFY seats BIGINT COMMENT 'it''s'",
        "/* the app's */ ALTER TABLE campus.trips ADD note2 VARCHAR(20) CHARACTER SET latin1 DEFAULT 'Käse'",
        "CREATE INDEX by_note ON campus.trips (note)",
        "CREATE TABLE campus.copy_of_riders LIKE campus.riders",
        "CREATE TABLE campus.some_riders (PRIMARY KEY (id)) AS SELECT id, name FROM campus.riders",
    ];
    for statement in on_a {
        a.query(statement).await;
    }
    a.query("INSERT INTO campus.riders VALUES (2, 'Bob', 'bob@x', 3)").await;
    a.query("INSERT INTO campus.rooms (id) VALUES (7)").await;
    equal(&mut cluster).await;
    let on_b = [
        "ALTER TABLE campus.rooms ADD (beds INT, size DECIMAL(6,2) DEFAULT 1.5)",
        "CREATE TABLE IF NOT EXISTS campus.riders (id INT)",
        "ALTER TABLE campus.riders ADD COLUMN IF NOT EXISTS phone VARCHAR(20)",
    ];
    for statement in on_b {
        b.query(statement).await;
    }
    b.query("UPDATE campus.rooms SET beds = 2").await;
    equal(&mut cluster).await;
    // What does not concern tables that are synced stays where it is.
    for statement in ["CREATE VIEW campus.v AS SELECT 1", "CREATE TEMPORARY TABLE campus.t (id INT)", "DROP VIEW campus.v"] {
        b.query(statement).await;
    }
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    assert_eq!(published(&cluster, A).await.len(), on_a.len());
    // The server logs nothing of a statement that found all as it is.
    assert_eq!(published(&cluster, B).await.len(), 2, "{:?}", published(&cluster, B).await);
    let first: Option<(String,)> = b.first("SELECT email FROM campus.riders WHERE id = 1").await;
    assert_eq!(first.unwrap().0, "none");
    assert!(changes(&cluster, B).await.iter().all(|view| view.state == "done" && view.remark.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_can_lose_something_waits_and_only_its_table_with_it() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2), (2, 'Bob', 3), (3, 'Cid', 4)").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    a.query("ALTER TABLE campus.riders DROP COLUMN seats").await;
    a.query("UPDATE campus.riders SET name = 'Anna' WHERE id = 1").await;
    a.query("DELETE FROM campus.riders WHERE id = 2").await;
    // A second one behind the first, which would go through by itself.
    a.query("ALTER TABLE campus.riders ADD COLUMN beds INT DEFAULT 1").await;
    a.query("INSERT INTO campus.riders VALUES (4, 'Dan', 9)").await;
    a.query("INSERT INTO campus.trips VALUES (1, 'goes on')").await;
    let trip = async || b.first::<(i64,)>("SELECT id FROM campus.trips").await;
    soon("the other table to go on", trip).await;
    let waiting = wait_for_state(&cluster, B, "campus.riders", "waiting").await;
    assert!(waiting.open, "{waiting:?}");
    let list = cluster.tandem(B, &["ddl", "list"]);
    assert!(list.contains("drops a part of the table") && list.contains("Run it here:   tandem ddl approve"), "{list}");
    let status = soon("the status to tell it", async || {
        let status = cluster.tandem(B, &["status"]);
        status.contains("schema changes wait for a decision").then_some(status)
    });
    assert!(status.await.contains("tandem ddl list"));
    let names: Vec<(i64, String, i64)> = b.rows("SELECT id, name, seats FROM campus.riders ORDER BY id").await;
    assert_eq!(names.len(), 3, "nothing of the table moved: {names:?}");
    // Written here without having seen what waits: the other node leaves out what it has dropped.
    b.query("UPDATE campus.riders SET seats = 7, name = 'Cyd' WHERE id = 3").await;
    cluster.nodes[B].kill9();
    cluster.nodes[B].restart();
    cluster.wait_until_reading().await;
    let arrived = async || a.first::<(String,)>("SELECT name FROM campus.riders WHERE name = 'Cyd'").await;
    soon("the row of an older shape", arrived).await;
    let parked: u64 = changes(&cluster, B).await.iter().map(|view| view.parked).sum();
    assert_eq!(parked, 3);

    let first = changes(&cluster, B).await.into_iter().rev().find(|view| view.open).unwrap();
    let said = cluster.tandem(B, &["ddl", "approve", &first.number.to_string()]);
    assert!(said.contains("runs now"), "{said}");
    equal(&mut cluster).await;
    let rows: Vec<(i64, String, Option<i64>)> = b.rows("SELECT id, name, beds FROM campus.riders ORDER BY id").await;
    let expected = [(1, "Anna", 1), (3, "Cyd", 1), (4, "Dan", 9)];
    assert_eq!(rows, expected.map(|(id, name, beds)| (id, name.to_owned(), Some(beds))));
    assert!(changes(&cluster, B).await.iter().all(|view| view.state == "done" && view.parked == 0));
    assert_eq!(published(&cluster, B).await, Vec::<String>::new());
    assert_eq!(cluster.tandem(B, &["failed", "list"]).lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_skipped_or_fails_says_so_and_the_rows_go_by_their_columns() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2), (2, 'Bob', 3)").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    // Values here that are not what the other side makes of them.
    b.query("INSERT INTO campus.trips VALUES (1, 'the same'), (2, 'the same')").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.cut(B);
    b.query("INSERT INTO campus.trips VALUES (3, 'other'), (4, 'other')").await;
    a.query("DELETE FROM campus.trips WHERE id = 2; ALTER TABLE campus.trips ADD UNIQUE KEY one (note)").await;
    a.query("ALTER TABLE campus.riders ADD COLUMN colour VARCHAR(9) NOT NULL, DROP COLUMN seats").await;
    a.query("INSERT INTO campus.riders VALUES (5, 'Eve', 'red')").await;
    cluster.mend(B);
    let unique = wait_for_state(&cluster, B, "campus.trips", "waiting").await;
    let dropping = wait_for_state(&cluster, B, "campus.riders", "waiting").await;
    cluster.tandem(B, &["ddl", "approve", &unique.number.to_string()]);
    let failed = wait_for_state(&cluster, B, "campus.trips", "failed").await;
    assert!(failed.remark.as_deref().is_some_and(|remark| remark.contains("share a value")), "{failed:?}");
    cluster.tandem(B, &["ddl", "skip", &dropping.number.to_string()]);
    wait_for_state(&cluster, B, "campus.riders", "skipped").await;
    let eve = async || b.first::<(String, Option<i64>)>("SELECT name, seats FROM campus.riders WHERE id = 5").await;
    assert_eq!(soon("the row by the columns that are here", eve).await, ("Eve".to_owned(), None));
    // Mended by hand, and tried once more.
    b.query("DELETE FROM campus.trips WHERE id = 4").await;
    cluster.tandem(B, &["ddl", "approve", &unique.number.to_string()]);
    wait_for_state(&cluster, B, "campus.trips", "done").await;
    assert_eq!(definition(&a, "campus.trips").await, definition(&b, "campus.trips").await);
}

/// A column that was dropped may be left out; one that has another name now may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_to_a_column_before_its_other_name_is_known_is_set_aside_and_not_left_out() {
    let mut cluster = cluster("[ddl]\ndangerous = \"apply\"\n").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2)").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.cut(B);
    a.query("ALTER TABLE campus.riders CHANGE seats places INT, ADD COLUMN more INT").await;
    let told = async || published(&cluster, A).await.len() == 1;
    wait_for("the statement to be published", DEADLINE, told).await;
    b.query("UPDATE campus.riders SET seats = 9 WHERE id = 1").await;
    cluster.mend(B);
    let renamed = async || definition(&b, "campus.riders").await.contains("`places`").then_some(());
    soon("the other name", renamed).await;
    let place: Option<(i64,)> = b.first("SELECT places FROM campus.riders WHERE id = 1").await;
    assert_eq!(place, Some((9,)));
    let failed = soon("the row that cannot be mapped", async || {
        let list = cluster.tandem(A, &["failed", "list"]);
        list.contains("no column `seats` here").then_some(list)
    });
    failed.await;
    let place: Option<(i64,)> = a.first("SELECT places FROM campus.riders WHERE id = 1").await;
    assert_eq!(place, Some((2,)), "nothing was lost in silence: it is listed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_statement_by_hand_on_both_sides_is_no_error() {
    let mut cluster = cluster("[ddl]\ndangerous = \"apply\"\n").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    cluster.cut(B);
    let same = [
        "ALTER TABLE campus.riders ADD COLUMN email VARCHAR(60), ADD KEY by_email (email)",
        "CREATE TABLE campus.rooms (id INT PRIMARY KEY)",
        "CREATE INDEX by_name ON campus.riders (name(20))",
        "ALTER TABLE campus.riders DROP COLUMN seats",
        "RENAME TABLE campus.trips TO campus.journeys",
        "DROP TABLE campus.rooms",
    ];
    for statement in same {
        a.query(statement).await;
        b.query(statement).await;
    }
    // One side did a part more.
    a.query("ALTER TABLE campus.riders ADD COLUMN x INT, ADD COLUMN y INT").await;
    b.query("ALTER TABLE campus.riders ADD COLUMN x INT").await;
    cluster.mend(B);
    a.query("INSERT INTO campus.riders (id, y) VALUES (1, 1)").await;
    equal(&mut cluster).await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    for site in [A, B] {
        let all = changes(&cluster, site).await;
        assert_eq!(all.len(), same.len() + 1, "{all:?}");
        assert!(all.iter().all(|view| view.state == "done"), "{all:?}");
        assert_eq!(published(&cluster, site).await.len(), same.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alters_in_two_phases_and_statements_about_several_tables_are_carried() {
    let mut options = ClusterOptions {
        config: "[ddl]\ndangerous = \"apply\"\n".into(),
        ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)
    };
    options.server = |n| crate::harness::ServerOptions::node(n).arg("--binlog-alter-two-phase=ON");
    let mut cluster = Cluster::start(options).await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2), (2, 'Ann', 3)").await;
    a.query("ALTER TABLE campus.riders ADD COLUMN email VARCHAR(60) DEFAULT 'x'").await;
    let mut conn = a.conn().await;
    assert!(
        conn.query_drop("ALTER TABLE campus.riders ADD UNIQUE KEY (name)").await.is_err(),
        "it is rolled back in its second phase"
    );
    conn.query_drop("SET SESSION sql_mode = 'ANSI_QUOTES'").await.unwrap();
    conn.query_drop("CREATE TABLE campus.\"one\" (\"id\" INT PRIMARY KEY); CREATE TABLE campus.two (id INT PRIMARY KEY)")
        .await
        .unwrap();
    conn.query_drop("CREATE TABLE campus.three (id INT PRIMARY KEY REFERENCES campus.two (id))").await.unwrap();
    conn.query_drop("INSERT INTO campus.one VALUES (1); INSERT INTO campus.two VALUES (2)").await.unwrap();
    conn.query_drop("RENAME TABLE campus.one TO campus.tmp, campus.two TO campus.one, campus.tmp TO campus.two").await.unwrap();
    conn.query_drop("USE campus; ALTER TABLE trips RENAME journeys; DROP TABLE IF EXISTS nothing, three").await.unwrap();
    conn.query_drop("INSERT INTO campus.journeys VALUES (1, 'x')").await.unwrap();
    conn.disconnect().await.unwrap();
    equal(&mut cluster).await;
    let held: Vec<(i64,)> = b.rows("SELECT id FROM campus.one").await;
    assert_eq!(held, [(2,)]);
    b.query("ALTER TABLE campus.riders ADD COLUMN more INT").await;
    b.query("DROP TABLE campus.one, campus.two").await;
    equal(&mut cluster).await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    assert_eq!(published(&cluster, B).await.len(), 2, "{:?}", published(&cluster, B).await);
    assert!(!published(&cluster, A).await.iter().any(|statement| statement.contains("UNIQUE KEY (name)")));
}

/// A column that a SELECT takes through an outer join from one that is NOT NULL has no default, not even NULL. What the server logs of it
/// means DEFAULT NULL, and no statement makes it otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_that_no_statement_can_carry_is_named_where_it_differs() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    let joined = "SELECT r.id, t.id AS trip, t.note FROM riders r LEFT JOIN trips t ON t.id = r.id";
    a.query("INSERT INTO campus.riders VALUES (1, 'Ann', 2)").await;
    a.query(&format!(
        "USE campus; CREATE TABLE joined (PRIMARY KEY (id)) {joined}; CREATE TABLE plain (id INT PRIMARY KEY, n INT)"
    ))
    .await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    let has =
        async |server: &PrivateServer, table: &str| definition(server, table).await.contains("`trip` int(11) DEFAULT NULL");
    assert!(!has(&a, "campus.joined").await && has(&b, "campus.joined").await, "the server has changed: it can be carried now");
    let made = wait_for_state(&cluster, B, "campus.joined", "done").await;
    assert!(
        made.remark.as_deref().is_some_and(|remark| remark.contains("column `trip` has no default at the origin")),
        "{made:?}"
    );
    assert_eq!(wait_for_state(&cluster, B, "campus.plain", "done").await.remark, None);
    // A table that a snapshot finds.
    let mut conn = a.conn().await;
    conn.query_drop(format!("SET SESSION sql_log_bin = 0; USE campus; CREATE TABLE found (PRIMARY KEY (id)) {joined}"))
        .await
        .unwrap();
    conn.disconnect().await.unwrap();
    cluster.tandem(A, &["snapshot", "found"]);
    let made = wait_for_state(&cluster, B, "campus.found", "done").await;
    assert!(made.remark.as_deref().is_some_and(|remark| remark.contains("column `trip`")), "{made:?}");
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    let rows: Vec<(i32, Option<i32>)> = b.rows("SELECT id, trip FROM campus.found").await;
    assert_eq!(rows, [(1, None)]);
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timestamp_column_of_which_nothing_more_is_said_is_as_its_session_has_it() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    b.query("SET GLOBAL explicit_defaults_for_timestamp = OFF").await;
    for (table, setting) in [("of_old", "OFF"), ("of_now", "ON")] {
        a.query(&format!(
            "SET SESSION explicit_defaults_for_timestamp = {setting};
            CREATE TABLE campus.{table} (id INT PRIMARY KEY, changed TIMESTAMP, made TIMESTAMP);
            ALTER TABLE campus.{table} ADD seen TIMESTAMP;
            INSERT INTO campus.{table} (id) VALUES (1)"
        ))
        .await;
    }
    equal(&mut cluster).await;
    let (of_old, of_now) = (definition(&b, "campus.of_old").await, definition(&b, "campus.of_now").await);
    assert!(of_old.contains("`changed` timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE"), "{of_old}");
    assert!(of_now.contains("`changed` timestamp NULL DEFAULT NULL"), "{of_now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_emptied_loses_what_was_there_and_keeps_what_was_written_meanwhile() {
    let mut cluster = cluster("").await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query("INSERT INTO campus.riders SELECT seq, CONCAT('Rider ', seq), 1 FROM campus.seq_1_to_3000").await;
    a.query("CREATE TABLE campus.log (line VARCHAR(20))").await;
    a.query("INSERT INTO campus.log VALUES ('one'), ('one')").await;
    equal(&mut cluster).await;
    cluster.cut(B);
    a.query("TRUNCATE TABLE campus.riders").await;
    a.query("INSERT INTO campus.riders VALUES (1, 'new', 1)").await;
    // Without having seen it, and later: these stay everywhere.
    let later = async || {
        a.first::<(i64,)>("SELECT 1 FROM DUAL WHERE NOW() > (SELECT MAX(CREATE_TIME) + INTERVAL 1 SECOND FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'campus' AND TABLE_NAME = 'riders')").await
    };
    soon("a second to pass", later).await;
    b.query("UPDATE campus.riders SET name = 'stays' WHERE id = 2").await;
    b.query("INSERT INTO campus.riders VALUES (9999, 'comes', 1)").await;
    cluster.mend(B);
    b.query("TRUNCATE campus.log").await;
    equal(&mut cluster).await;
    let rows: Vec<(i64, String)> = b.rows("SELECT id, name FROM campus.riders ORDER BY id").await;
    assert_eq!(rows, [(1, "new".to_owned()), (2, "stays".to_owned()), (9999, "comes".to_owned())]);
    let lines: Vec<(String,)> = a.rows("SELECT line FROM campus.log").await;
    assert!(lines.is_empty(), "{lines:?}");
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    let emptied = |record: &tandem::change::Record| record.change().is_some_and(|change| change.op.word() == "truncate");
    for site in [A, B] {
        assert_eq!(records(&cluster, site).await.iter().filter(|record| emptied(record)).count(), 1);
    }
}

/// Statements of every class from both sides while both write, nodes killed at random moments, also in the middle of a
/// statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_under_load_from_both_sides_with_kills_end_the_same_and_never_loop() {
    let seed = std::env::var("TANDEM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let rounds = if std::env::var_os("TANDEM_PROVE").is_some() { 60 } else { 12 };
    let mut cluster = cluster("[ddl]\ndangerous = \"apply\"\n").await;
    let writing = Arc::new(AtomicBool::new(true));
    let writers: Vec<_> = [A, B]
        .map(|site| {
            let (server, writing) = (cluster.server(site).clone(), writing.clone());
            tokio::spawn(async move {
                let mut dice = Rng::with_seed(seed + site as u64);
                let mut conn = server.conn().await;
                while writing.load(Ordering::Relaxed) {
                    let (id, value) = (dice.u32(1..200), dice.u32(..));
                    let statement = match dice.u8(..4) {
                        0 => format!("DELETE FROM campus.riders WHERE id = {id}"),
                        1 => format!("INSERT INTO campus.trips VALUES ({id}, '{value}') ON DUPLICATE KEY UPDATE note = '{value}'"),
                        _ => format!("INSERT INTO campus.riders (id, name) VALUES ({id}, '{value}') ON DUPLICATE KEY UPDATE name = '{value}'"),
                    };
                    conn.query_drop(statement).await.unwrap();
                }
                conn.disconnect().await.unwrap();
            })
        })
        .into();
    let mut dice = Rng::with_seed(seed);
    let mut statements = [0, 0];
    for round in 0..rounds {
        let site = round % 2;
        let server = cluster.server(site).clone();
        let c = format!("c{round}");
        let each = [
            vec![format!("ALTER TABLE campus.riders ADD COLUMN {c} INT DEFAULT {round}")],
            vec![format!("CREATE TABLE campus.{c} (id INT PRIMARY KEY)"), format!("INSERT INTO campus.{c} VALUES ({round})")],
            vec![
                format!("ALTER TABLE campus.riders ADD {c} INT, ADD INDEX i{c} ({c})"),
                format!("ALTER TABLE campus.riders DROP COLUMN {c}"),
            ],
            vec![format!("CREATE TABLE campus.{c} (id INT PRIMARY KEY)"), format!("RENAME TABLE campus.{c} TO campus.r{c}")],
            vec![format!("CREATE TABLE campus.{c} (id INT PRIMARY KEY)"), format!("DROP TABLE campus.{c}")],
            vec![
                format!("CREATE INDEX i{c} ON campus.trips (note({}))", round + 1),
                format!("DROP INDEX i{c} ON campus.trips"),
            ],
        ];
        for statement in &each[dice.usize(..each.len())] {
            server.query(statement).await;
            statements[site] += usize::from(!statement.starts_with("INSERT"));
        }
        let victim = dice.usize(..2);
        if victim == B || round % 3 == 0 {
            cluster.nodes[victim].kill9();
            cluster.nodes[victim].restart();
        }
    }
    writing.store(false, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    cluster.wait_until_reading().await;
    // Before that, two sides can look alike while a statement and the one that takes it back are on their way.
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    equal(&mut cluster).await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    for site in [A, B] {
        let published = published(&cluster, site).await;
        assert_eq!(published.len(), statements[site], "seed {seed}: {published:#?}");
        let failed = cluster.tandem(site, &["failed", "list"]);
        assert_eq!(failed.lines().count(), 1, "seed {seed}: {failed}");
        let open: Vec<_> = changes(&cluster, site).await.into_iter().filter(|view| view.open).collect();
        assert!(open.is_empty(), "seed {seed}: {open:?}");
    }
}

/// A statement that the server was in the middle of has happened when it is back, or has not, and then it runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_in_the_middle_of_a_statement_ends_with_it_done_once() {
    let mut cluster = cluster("[ddl]\ndangerous = \"apply\"\n").await;
    cluster
        .server(A)
        .query("INSERT INTO campus.riders SELECT seq, CONCAT('Rider ', seq), seq FROM campus.seq_1_to_60000")
        .await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let statements = [
        "ALTER TABLE campus.riders MODIFY seats BIGINT NOT NULL DEFAULT 0, ALGORITHM=COPY",
        "ALTER TABLE campus.riders ADD COLUMN town VARCHAR(20) DEFAULT 'x', ALGORITHM=COPY",
        "CREATE INDEX by_name ON campus.riders (name)",
        "ALTER TABLE campus.riders DROP COLUMN seats, ALGORITHM=COPY",
    ];
    let mut met = 0;
    for (round, statement) in (1..).zip(statements) {
        cluster.server(A).query(statement).await;
        let b = cluster.server(B).clone();
        // The words of the statement, behind the mark of whoever runs it here.
        let running = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '/* tandem%' AND TIME_MS > 20";
        wait_for("the statement to run there", DEADLINE, async || {
            let now = b.first::<u64>(running).await == Some(1);
            met += u64::from(now);
            now || changes(&cluster, B).await.len() == round
        })
        .await;
        drop(b);
        cluster.server_mut(B).kill9();
        cluster.server_mut(B).restart().await;
    }
    assert!(met > 1, "the server was killed in the middle of {met} statements");
    cluster.server(A).query("INSERT INTO campus.riders (id, name) VALUES (100000, 'after all')").await;
    equal(&mut cluster).await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    let all = changes(&cluster, B).await;
    assert_eq!(all.len(), statements.len(), "{all:?}");
    assert!(all.iter().all(|view| view.state == "done"), "{all:?}");
    assert_eq!((published(&cluster, A).await.len(), published(&cluster, B).await.len()), (statements.len(), 0));
}
