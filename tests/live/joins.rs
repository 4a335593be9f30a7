//! A node that joins with an empty database gets tables and rows by one command; and what a seeding would change is counted before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, tables};
use crate::quiet::{Quiet, topics};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4; USE campus;
    CREATE TABLE towns (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL);
    CREATE TABLE riders (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40) NOT NULL, town INT NULL, state ENUM('b','a') DEFAULT 'a',
        upper_name VARCHAR(40) AS (UPPER(name)) STORED, seen TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3),
        KEY by_name (name), CONSTRAINT lives FOREIGN KEY (town) REFERENCES towns (id) ON DELETE CASCADE);
    CREATE TABLE arrivals (place VARCHAR(20) COLLATE utf8mb4_bin, day DATE, rider INT NOT NULL, note TEXT, UNIQUE (note), PRIMARY KEY (place, day),
        FOREIGN KEY (rider) REFERENCES riders (id)) COMMENT 'it''s';
    CREATE TABLE log (line VARCHAR(40));";
const A: usize = 0;
const C: usize = 2;
const DEADLINE: Duration = Duration::from_secs(240);

async fn exist(server: &PrivateServer, statements: &str) {
    server.query(&format!("SET SESSION sql_log_bin = 0; {statements}")).await;
}

/// The output of `tandem reseed` on a site, in a thread of its own, so that others go on meanwhile; and its exit code.
async fn reseed(cluster: &Cluster, site: usize, more: &[&str]) -> (Option<i32>, String) {
    let options = cluster.nodes[site].options().clone();
    let args: Vec<String> = ["reseed"].iter().chain(more).map(|&arg| arg.to_owned()).collect();
    let run = move || options.run_once(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

/// What the servers say of each table, but for its counter.
async fn definitions(server: &PrivateServer) -> Vec<String> {
    let mut all = Vec::new();
    for table in tables(server, "campus").await {
        let row: Option<(String, String)> = server.first(&format!("SHOW CREATE TABLE campus.`{table}`")).await;
        let text = row.unwrap().1;
        all.push(text.split(' ').filter(|part| !part.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" "));
    }
    all
}

async fn write(server: &PrivateServer, from: u64, ended: &AtomicBool) -> u64 {
    let mut conn = server.conn().await;
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let mut done = 0;
    while !ended.load(Ordering::Relaxed) {
        pace.tick().await;
        let id = from + done;
        let sql = format!(
            "INSERT INTO campus.riders (id, name, town) VALUES ({id}, 'new', 1); UPDATE campus.riders SET name = 'w{id}' WHERE id = {};
             INSERT INTO campus.arrivals VALUES ('gate {from}', '2026-01-01' + INTERVAL {done} DAY, {id}, CONCAT('note ', {id}))",
            1 + id % 3000
        );
        match conn.query_drop(sql).await {
            Ok(()) => {}
            // The applier was there first.
            Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {}
            Err(error) => panic!("{error}"),
        }
        done += 1;
    }
    conn.disconnect().await.unwrap();
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_with_an_empty_database_joins_by_one_command_while_others_write() {
    let names = vec!["laptop-a", "laptop-b", "laptop-c"];
    let options = ClusterOptions { names, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    let [one, other, third] = [A, 1, C].map(|site| cluster.server(site).clone());
    cluster.nodes[C].terminate().await;
    exist(&third, "DROP DATABASE tandem; DROP DATABASE campus; CREATE DATABASE campus CHARACTER SET latin1").await;
    // From before any of them ran, so that no topic tells of it.
    let fill = "USE campus; INSERT INTO towns SELECT seq, CONCAT('town ', seq) FROM seq_1_to_50;
        INSERT INTO riders (id, name, town, seen) SELECT seq, CONCAT('rider ', seq), 1 + seq % 50, '2026-01-01' FROM seq_1_to_3000;
        INSERT INTO arrivals SELECT 'Stop', '2020-01-01' + INTERVAL seq DAY, seq, CONCAT(REPEAT('n', 4000), seq) FROM seq_1_to_2000;
        INSERT INTO log VALUES ('a line')";
    exist(&one, fill).await;
    exist(&other, fill).await;
    cluster.nodes[C].restart();
    cluster.wait_until_reading().await;
    let (code, said) = reseed(&cluster, C, &["--dry-run", "--from", "laptop-a"]).await;
    assert!(code == Some(0) && said.contains("There is no table here: those of laptop-a would be made."), "{said}");
    assert_eq!(tables(&third, "campus").await, Vec::<String>::new(), "it only showed");

    let ended = AtomicBool::new(false);
    let seeding = async {
        let outcome = reseed(&cluster, C, &["--from", "laptop-a"]).await;
        ended.store(true, Ordering::Relaxed);
        outcome
    };
    let ((code, said), one_done, other_done) =
        tokio::join!(seeding, write(&one, 100_000, &ended), write(&other, 200_000, &ended));
    println!("{said}{one_done} and {other_done} transactions meanwhile");
    // The table without a key is made, and its rows are named as what no seeding can bring.
    assert!(code == Some(1) && said.contains("campus.log: not seeded: it has no primary key"), "{said}");
    for table in ["towns", "riders", "arrivals", "log"] {
        assert!(said.contains(&format!("campus.{table}: made as on laptop-a")), "{said}");
    }
    assert_eq!(definitions(&third).await, definitions(&one).await);
    exist(&third, "INSERT INTO campus.log VALUES ('a line')").await;
    // The new one takes part.
    third
        .query("INSERT INTO campus.riders (id, name) VALUES (30000, 'from c'); INSERT INTO campus.log VALUES ('from c')")
        .await;
    one.query("ALTER TABLE campus.towns ADD COLUMN river VARCHAR(20)").await;
    Quiet::new(&cluster).wait(&mut cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let (found, verified) = verify(&cluster, C).await;
    assert_eq!(found, 0, "{verified}");
    // What it made is no statement of its own.
    use tandem::topic::TopicReader as _;
    let own = topics(&cluster)
        .read(&tandem::change::OriginId::new("laptop-c"), tandem::change::Offset(0), 64 << 20, Duration::ZERO)
        .await
        .unwrap();
    assert!(own.iter().all(|(_, record)| record.schema().is_none()));
    cluster.end().await.unwrap();
}

async fn verify(cluster: &Cluster, site: usize) -> (u64, Value) {
    let options = cluster.nodes[site].options().clone();
    let run = move || options.run_once(&["verify", "towns", "riders", "arrivals", "--json"]);
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    (view["differing"].as_u64().unwrap(), view)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_seeding_would_change_is_counted_and_nothing_is_written() {
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let (one, other) = (cluster.server(A).clone(), cluster.server(1).clone());
    one.query(
        "USE campus; INSERT INTO towns SELECT seq, CONCAT('town ', seq) FROM seq_1_to_50;
         INSERT INTO riders (id, name, town) SELECT seq, CONCAT('rider ', seq), 1 + seq % 50 FROM seq_1_to_5000",
    )
    .await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let counts = async |cluster: &Cluster| {
        let (code, said) = reseed(cluster, 1, &["--dry-run", "--json"]).await;
        let view: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!((code, &view["beside"]), (Some(0), &"laptop-a".into()), "{view}");
        let of = |table: &str| {
            let all = view["differences"].as_array().unwrap();
            let one =
                all.iter().find(|one| one["name"] == format!("campus.{table}")).unwrap_or_else(|| panic!("{table}: {view}"));
            let number = |key: &str| one[key].as_u64().unwrap();
            ([number("rows"), number("differ"), number("only_there"), number("only_here")], one["reason"].clone())
        };
        (of("riders"), of("towns"), of("arrivals"), view)
    };
    let (riders, towns, arrivals, _) = counts(&cluster).await;
    assert_eq!(
        (riders, towns, arrivals),
        (([5000, 0, 0, 0], Value::Null), ([50, 0, 0, 0], Value::Null), ([0; 4], Value::Null))
    );

    // Past the binlog, so that nothing else mends it.
    exist(
        &other,
        "USE campus; UPDATE riders SET name = 'RIDER 7' WHERE id = 7; UPDATE riders SET state = NULL, seen = seen WHERE id = 4999;
         DELETE FROM riders WHERE id BETWEEN 2001 AND 2010; INSERT INTO riders (id, name) VALUES (9000, 'x'), (9001, 'y'), (9002, 'z');
         INSERT INTO arrivals VALUES ('Stop', '2026-01-01', 1, NULL); ALTER TABLE towns ADD COLUMN river INT; DROP TABLE log;
         CREATE TABLE own (id INT PRIMARY KEY)",
    )
    .await;
    exist(
        &one,
        "INSERT INTO campus.arrivals VALUES ('stop', '2026-01-01', 1, NULL); CREATE TABLE campus.bikes (id INT PRIMARY KEY)",
    )
    .await;
    let before: Option<u64> = other.first("SELECT COUNT(*) FROM campus.riders").await;
    let (riders, towns, arrivals, view) = counts(&cluster).await;
    assert_eq!(riders, ([5003, 2, 10, 3], Value::Null));
    assert_eq!(arrivals.0, [2, 0, 1, 1], "by its collation another key");
    assert!(towns.1.as_str().is_some_and(|reason| reason.contains("only laptop-b has river")), "{view}");
    let text = view.to_string();
    assert!(text.contains("campus.bikes") && text.contains("only laptop-a has this table"), "{view}");
    let (_, said) = reseed(&cluster, 1, &["--dry-run"]).await;
    let line = said.lines().find(|line| line.contains("campus.riders")).unwrap_or_else(|| panic!("{said}"));
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["campus.riders", "5", "003", "2", "10", "3"], "{said}");
    assert!(said.contains("ONLY ON LAPTOP-A") && said.contains("ONLY HERE"), "{said}");
    assert_eq!(other.first::<u64>("SELECT COUNT(*) FROM campus.riders").await, before, "nothing is written");
    assert_eq!(other.first::<u64>("SELECT COUNT(*) FROM tandem.seeding").await, Some(0), "and nothing is begun");
    for node in &mut cluster.nodes {
        node.terminate().await;
    }
}
