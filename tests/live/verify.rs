//! Proof that two sides are equal, and what it says where somebody made them differ.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use mysql_async::prelude::Queryable;
use tandem::observe::VerifyView;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, wait_for};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40), weight FLOAT, height DOUBLE, born DATE, photo BLOB,
        upper_name VARCHAR(40) AS (UPPER(name)) STORED);
    CREATE TABLE campus.codes (code VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY, tag VARCHAR(20) COLLATE utf8mb4_bin);
    CREATE TABLE campus.log (line VARCHAR(40));";
const A: usize = 0;
const B: usize = 1;
const ROWS: u64 = 6_000;
const DEADLINE: Duration = Duration::from_secs(180);

async fn filled(config: &str) -> Cluster {
    let options =
        ClusterOptions { config: config.into(), ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    cluster
        .server(A)
        .query(&format!(
            "INSERT INTO campus.riders (id, name, weight, height, born, photo) SELECT seq, CONCAT('Rider ', seq), seq / 7,
             seq / 13, '2000-01-01' + INTERVAL seq DAY, UNHEX(HEX(seq)) FROM campus.seq_1_to_{ROWS}"
        ))
        .await;
    cluster.server(A).query("UPDATE campus.riders SET born = '0000-00-00' WHERE id = 9").await;
    cluster.server(A).query("INSERT INTO campus.codes SELECT CONCAT('Käse ', seq), 'x' FROM campus.seq_1_to_500").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster
}

/// What somebody does on one side behind everybody's back.
async fn sabotage(server: &PrivateServer, statements: &[&str]) {
    let mut conn = server.conn().await;
    conn.query_drop("SET SESSION sql_log_bin = 0, sql_mode = ''").await.unwrap();
    for statement in statements {
        conn.query_drop(*statement).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

/// The exit code of `tandem verify` on a site, and what it found. In a thread of its own, so that others go on meanwhile.
async fn verify(cluster: &Cluster, site: usize, more: &[&str]) -> (Option<i32>, VerifyView) {
    let (options, more) = (cluster.nodes[site].options().clone(), more.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
    let run = move || {
        let args = ["verify", "riders", "codes", "--json"].into_iter().chain(more.iter().map(String::as_str));
        options.run_once(&args.collect::<Vec<_>>())
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let view = serde_json::from_str(&text);
    let view = view.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), view)
}

/// Table, key, kind and columns of each difference.
fn found(view: &VerifyView) -> Vec<String> {
    let line = |row: &tandem::observe::DifferenceView| {
        let key: Vec<String> = row.key.values().map(ToString::to_string).collect();
        format!("{} {} {} {}", row.table, key.join(","), row.kind, row.columns.join(","))
    };
    let mut lines: Vec<String> = view.differences.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_difference_is_found_and_nothing_else_and_repair_mends_it() {
    let mut cluster = filled("[conflicts]\nprefer = [\"laptop-a\"]\ndefault = \"prefer\"\n").await;
    let other = cluster.server(B).clone();
    let (code, view) = verify(&cluster, A, &[]).await;
    assert_eq!((code, view.differing, view.rows().0), (Some(0), 0, ROWS + 500), "{:?}", view.parts);
    let keyless = cluster.tandem(A, &["verify"]);
    assert!(keyless.contains("campus.log") && keyless.contains("1 of 3 comparisons could not be made."), "{keyless}");

    // The last bit of a float and of a double, letters that the collation calls equal, a NULL, an empty text in place of a
    // NULL, a date, bytes, a row that is gone, one that is too many, and a key that is spelled in another way.
    sabotage(
        &other,
        &[
            "UPDATE campus.riders SET weight = 14.285715 WHERE id = 100",
            "UPDATE campus.riders SET height = 15.384615384615387 WHERE id = 200",
            "UPDATE campus.riders SET name = 'RIDER 300' WHERE id = 300",
            "UPDATE campus.riders SET name = NULL WHERE id = 400",
            "UPDATE campus.riders SET born = '0000-00-01' WHERE id = 9",
            "UPDATE campus.riders SET photo = CONCAT(photo, x'00') WHERE id = 500",
            "DELETE FROM campus.riders WHERE id = 600",
            "INSERT INTO campus.riders (id, name) VALUES (99999, 'one more')",
            "UPDATE campus.codes SET code = 'KÄSE 7' WHERE code = 'Käse 7'",
        ],
    )
    .await;
    let expected = [
        "campus.codes \"Käse 7\" differs code",
        "campus.riders 100 differs weight",
        "campus.riders 200 differs height",
        "campus.riders 300 differs name",
        "campus.riders 400 differs name",
        "campus.riders 500 differs photo",
        "campus.riders 600 missing_there ",
        "campus.riders 9 differs born",
        "campus.riders 99999 missing_here ",
    ];
    let (code, view) = verify(&cluster, A, &[]).await;
    assert_eq!((code, found(&view)), (Some(1), expected.map(str::to_owned).to_vec()));
    // From the other side it is the same, the other way round.
    let (code, view) = verify(&cluster, B, &["--dry-run"]).await;
    assert_eq!((code, view.differing), (Some(1), expected.len() as u64));
    assert!(found(&view).contains(&"campus.riders 600 missing_here ".to_owned()), "{:?}", found(&view));

    let said = cluster.tandem(A, &["verify", "riders", "codes", "--repair"]);
    assert!(said.ends_with("\nAll rows are the same.\n"), "{said}");
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let rows: Option<(u64, u64)> =
        other.first("SELECT COUNT(*), CAST(SUM(id = 600 OR id = 99999) AS UNSIGNED) FROM campus.riders").await;
    assert_eq!(rows, Some((ROWS + 1, 2)), "no row is lost");
    let name: Option<String> = other.first("SELECT name FROM campus.riders WHERE id = 400").await;
    assert_eq!(name.as_deref(), Some("Rider 400"), "the preferred node's row stands");
    let kept: Option<u64> = cluster.server(A).first("SELECT COUNT(*) FROM tandem.conflicts WHERE kind = 'insert_exists'").await;
    assert_eq!(kept, Some(7), "what was replaced is kept");
    cluster.end().await.unwrap();
}

/// Nobody stops writing for it, and nothing that is only on its way is taken for a difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_on_both_sides_are_no_differences() {
    let mut cluster = filled("").await;
    let ended = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    let write = async |site: usize| {
        let mut dice = Rng::with_seed(site as u64);
        let mut conn = cluster.server(site).conn().await;
        let mut pace = tokio::time::interval(Duration::from_millis(4));
        while !ended.load(Ordering::Relaxed) {
            pace.tick().await;
            let id = 1 + dice.u64(..ROWS);
            let sql = match dice.u64(..3) {
                0 => format!("DELETE FROM campus.riders WHERE id = {id}"),
                1 => format!("REPLACE INTO campus.riders (id, name) VALUES ({id}, 'again')"),
                _ => format!("UPDATE campus.riders SET name = '{}' WHERE id = {id}", dice.u64(..)),
            };
            match conn.query_drop(sql).await {
                Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                // The applier was there first.
                Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {}
                Err(error) => panic!("{error}"),
            }
        }
        conn.disconnect().await.unwrap();
    };
    let looks = async {
        let mut seen = 0;
        for round in 0..8 {
            let before = done.load(Ordering::Relaxed);
            let (code, view) = verify(&cluster, round % 2, &[]).await;
            assert_eq!((code, found(&view)), (Some(0), Vec::new()), "look {round}");
            seen += view.parts.iter().map(|part| part.passed_by).sum::<u64>();
            let during = done.load(Ordering::Relaxed) - before;
            assert!(during > 20, "only {during} writes meanwhile: it is they that this is about");
        }
        ended.store(true, Ordering::Relaxed);
        seen
    };
    let (seen, ..) = tokio::join!(looks, write(A), write(B));
    println!("{} writes meanwhile, {seen} rows passed by", done.load(Ordering::Relaxed));
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.end().await.unwrap();
}

/// Nobody asks, and a week after the last time it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_that_is_due_begins_by_itself() {
    let mut cluster = filled("").await;
    let stamp = cluster.dir().join("tandem-state").join("laptop-a").join("verified");
    let port = cluster.web_port(A);
    wait_for("the first start to be noted", DEADLINE, async || stamp.exists()).await;
    assert!(
        crate::harness::status(port).await.is_some_and(|status| status["verify"].is_null()),
        "a new node has other things to do"
    );
    cluster.nodes[A].terminate().await;
    // As if it had been noted long ago.
    std::fs::write(&stamp, "1\n").unwrap();
    cluster.nodes[A].restart();
    wait_for("the comparison", DEADLINE, async || {
        crate::harness::status(port).await.is_some_and(|status| status["verify"]["ended_seconds"].is_u64())
    })
    .await;
    let status = crate::harness::status(port).await.unwrap();
    assert_eq!(status["verify"]["differing"], 0);
    let noted: u64 = std::fs::read_to_string(&stamp).unwrap().trim().parse().unwrap();
    assert!(noted > 1_700_000_000, "the next is due in a week");
    cluster.end().await.unwrap();
}

/// A whole table that is on one side only, and a column: rows alone would not show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_or_a_column_that_only_one_side_has_is_named_from_either_side() {
    let mut cluster = filled("").await;
    let definitions = [
        "CREATE TABLE campus.extra (id INT PRIMARY KEY)",
        "ALTER TABLE campus.riders ADD COLUMN phone VARCHAR(20)",
        "CREATE TABLE campus.notes (line VARCHAR(20))",
    ];
    sabotage(cluster.server(A), &definitions).await;
    sabotage(cluster.server(B), &["DROP TABLE campus.codes"]).await;
    let looks = |site: usize| {
        let output = cluster.nodes[site].options().run_once(&["verify", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        let view: VerifyView = serde_json::from_slice(&output.stdout).unwrap();
        let failed = view.parts.iter().filter_map(|part| Some((part.table.clone(), part.reason.clone()?)));
        failed.collect::<std::collections::BTreeMap<_, _>>()
    };
    let from_b = tokio::task::block_in_place(|| looks(B));
    for table in ["campus.extra", "campus.codes", "campus.notes"] {
        assert_eq!(from_b.get(table).map(String::as_str), Some("only laptop-a has this table"), "{from_b:?}");
    }
    assert_eq!(from_b["campus.riders"], "its columns differ: only laptop-a has phone");
    assert!(from_b["campus.log"].contains("no primary key"), "{from_b:?}");
    assert_eq!(from_b.len(), 5);
    let from_a = tokio::task::block_in_place(|| looks(A));
    assert_eq!(from_a["campus.riders"], "its columns differ: only laptop-a has phone");
    for table in ["campus.extra", "campus.codes"] {
        assert!(from_a[table].contains("does not exist"), "{from_a:?}");
    }
    assert_eq!(from_a.len(), 5, "{from_a:?}");
    // Of one that was named nobody is told more.
    let named = tokio::task::block_in_place(|| cluster.nodes[B].options().run_once(&["verify", "riders", "--json"]));
    let view: VerifyView = serde_json::from_slice(&named.stdout).unwrap();
    assert_eq!(view.parts.iter().map(|part| part.table.as_str()).collect::<Vec<_>>(), ["campus.riders"]);
    for node in &mut cluster.nodes {
        node.terminate().await;
    }
}

/// A SELECT shows both as an empty text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_an_enum_refused_is_not_taken_for_its_empty_member() {
    let schema = "CREATE DATABASE campus CHARACTER SET utf8mb4;
        CREATE TABLE campus.riders (id INT PRIMARY KEY, e ENUM('a',''), f ENUM('','ä') CHARACTER SET latin1, g ENUM('x') NOT NULL);
        CREATE TABLE campus.codes (id INT PRIMARY KEY)";
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", schema)).await;
    let [one, other] = [A, B].map(|site| cluster.server(site).clone());
    let rows = "SET SESSION sql_mode = ''; INSERT INTO campus.riders VALUES (1, 'no', 'no', 'no'), (2, '', '', 'x'), (3, NULL, 'ä', 'x'), (4, 'a', NULL, '')";
    sabotage(&one, &rows.split("; ").collect::<Vec<_>>()).await;
    cluster.tandem(A, &["snapshot"]);
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let numbers: Vec<(u8, u8, u8)> = other.rows("SELECT e + 0, f + 0, g + 0 FROM campus.riders WHERE id < 3 ORDER BY id").await;
    assert_eq!(numbers, [(0, 0, 0), (2, 1, 1)], "the rows are as they were");
    let (code, view) = verify(&cluster, A, &[]).await;
    assert_eq!((code, view.differing), (Some(0), 0), "{:?}", view.differences);
    sabotage(&other, &["UPDATE campus.riders SET e = '' WHERE id = 1", "UPDATE campus.riders SET f = 0 WHERE id = 2"]).await;
    let (code, view) = verify(&cluster, A, &[]).await;
    let expected = ["campus.riders 1 differs e", "campus.riders 2 differs f"];
    assert_eq!((code, found(&view)), (Some(1), expected.map(str::to_owned).to_vec()));
    cluster.tandem(A, &["verify", "--repair"]);
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster.end().await.unwrap();
}
