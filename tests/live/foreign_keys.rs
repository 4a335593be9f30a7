//! Foreign keys on real servers: rows and the rows that refer to them are written and deleted on both sides at once. In the end
//! both are equal, and no row refers to one that is not there.

use std::time::Duration;

use fastrand::Rng;
use mysql_async::Error;
use mysql_async::prelude::Queryable;
use tandem::change::{GtidPosition, OriginId};

use crate::harness::{Cluster, ClusterOptions, PrivateServer};
use crate::oracle::story;
use crate::quiet::Quiet;
use crate::two_way::evidence;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.towns (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, code VARCHAR(10) UNIQUE);
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, town INT, CONSTRAINT lives_in FOREIGN KEY (town)
        REFERENCES campus.towns (id) ON DELETE RESTRICT ON UPDATE RESTRICT);
    CREATE TABLE campus.bikes (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, town INT, CONSTRAINT stands_in FOREIGN KEY (town)
        REFERENCES campus.towns (id) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE campus.notes (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, town INT, CONSTRAINT tells_of FOREIGN KEY (town)
        REFERENCES campus.towns (id) ON DELETE SET NULL ON UPDATE CASCADE);";
const CHILDREN: [&str; 3] = ["riders", "bikes", "notes"];
const DEADLINE: Duration = Duration::from_secs(120);
const A: usize = 0;
const B: usize = 1;

async fn start() -> (Cluster, Quiet) {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let quiet = Quiet::new(&cluster);
    (cluster, quiet)
}

/// Equal, whole, and nothing set aside.
async fn check(cluster: &mut Cluster, quiet: &mut Quiet, what: &str) {
    quiet.wait(cluster, DEADLINE).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap_or_else(|fault| panic!("{what}: {fault}"));
    for server in &cluster.servers {
        for child in CHILDREN {
            let dangling: Vec<i32> = server
                .rows(&format!(
                    "SELECT c.id FROM campus.{child} c LEFT JOIN campus.towns t ON t.id = c.town WHERE c.town IS NOT NULL AND t.id IS NULL"
                ))
                .await;
            assert!(dangling.is_empty(), "{what}: {dangling:?} of {child} refer to towns that are not there");
        }
        let reasons: Vec<String> = server.rows("SELECT reason FROM tandem.dead_letters").await;
        assert!(reasons.is_empty(), "{what}: changes were set aside: {reasons:?}");
    }
}

/// While neither side sees the other: what each does. Then what both hold.
async fn apart(cluster: &mut Cluster, quiet: &mut Quiet, on_a: &str, on_b: &str) {
    cluster.cut(B);
    cluster.server(A).query(on_a).await;
    cluster.server(B).query(on_b).await;
    cluster.mend(B);
    check(cluster, quiet, &format!("{on_a} against {on_b}")).await;
}

async fn holds(cluster: &Cluster, table: &str, id: u32) -> bool {
    let sql = format!("SELECT COUNT(*) FROM campus.{table} WHERE id = {id}");
    cluster.server(A).first::<u64>(&sql).await == Some(1)
}

async fn kinds(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for server in &cluster.servers {
        all.append(&mut server.rows::<String>("SELECT DISTINCT kind FROM tandem.conflicts").await);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_deleted_here_while_a_child_comes_there() {
    let (mut cluster, mut quiet) = start().await;
    cluster
        .server(A)
        .query("INSERT INTO campus.towns VALUES (1, 'one', 'o'), (2, 'two', 't'), (3, 'three', 'h'), (4, 'four', 'f')")
        .await;
    cluster.server(A).query("INSERT INTO campus.bikes VALUES (20, 'known', 2), (21, 'known', 2)").await;
    cluster.server(A).query("INSERT INTO campus.notes VALUES (30, 'known', 3)").await;
    check(&mut cluster, &mut quiet, "before").await;

    // RESTRICT: the parent comes back, on whichever side it was deleted.
    let child = "INSERT INTO campus.riders VALUES (10, 'new', 1)";
    apart(&mut cluster, &mut quiet, "DELETE FROM campus.towns WHERE id = 1", child).await;
    assert!(holds(&cluster, "towns", 1).await && holds(&cluster, "riders", 10).await);
    let child = "INSERT INTO campus.riders VALUES (14, 'new', 4)";
    apart(&mut cluster, &mut quiet, child, "DELETE FROM campus.towns WHERE id = 4").await;
    assert!(holds(&cluster, "towns", 4).await && holds(&cluster, "riders", 14).await);
    assert!(kinds(&cluster).await.contains(&"still_referred".to_owned()));

    // CASCADE: what was known goes in silence, what was written without knowing goes and is kept as a conflict.
    let child = "INSERT INTO campus.bikes VALUES (22, 'new', 2); UPDATE campus.bikes SET name = 'changed' WHERE id = 21";
    apart(&mut cluster, &mut quiet, "DELETE FROM campus.towns WHERE id = 2", child).await;
    for id in 20..23 {
        assert!(!holds(&cluster, "bikes", id).await, "{id}");
    }
    let kept: Option<u64> = cluster
        .server(B)
        .first("SELECT COUNT(*) FROM tandem.conflicts WHERE kind = 'parent_deleted' AND loser_row IS NOT NULL")
        .await;
    assert_eq!(kept, Some(2));

    // SET NULL.
    let child = "INSERT INTO campus.notes VALUES (31, 'new', 3); UPDATE campus.notes SET name = 'changed' WHERE id = 30";
    apart(&mut cluster, &mut quiet, "DELETE FROM campus.towns WHERE id = 3", child).await;
    let notes: Vec<(i32, String, Option<i32>)> = cluster.server(A).rows("SELECT * FROM campus.notes ORDER BY id").await;
    assert_eq!(notes, [(30, "changed".into(), None), (31, "new".into(), None)]);
    cluster.end().await.unwrap();
}

/// Somebody dropped the parents' table with foreign keys off. Nobody can say then whether a row has its parent, and nothing stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_still_referred_to_stays_where_its_own_parents_table_is_missing() {
    let (mut cluster, mut quiet) = start().await;
    for server in &cluster.servers {
        server
            .query(
                "SET sql_log_bin = 0; CREATE TABLE campus.bags (id INT PRIMARY KEY, rider INT, FOREIGN KEY (rider) REFERENCES \
                 campus.riders (id) ON DELETE RESTRICT)",
            )
            .await;
    }
    cluster
        .server(A)
        .query("INSERT INTO campus.towns VALUES (1, 'one', 'o'); INSERT INTO campus.riders VALUES (10, 'known', 1)")
        .await;
    check(&mut cluster, &mut quiet, "before").await;
    for server in &cluster.servers {
        server.query("SET sql_log_bin = 0; SET foreign_key_checks = 0; DROP TABLE campus.towns").await;
    }
    cluster.cut(B);
    cluster.server(A).query("DELETE FROM campus.riders WHERE id = 10").await;
    cluster.server(B).query("INSERT INTO campus.bags VALUES (70, 10)").await;
    cluster.mend(B);
    quiet.wait(&mut cluster, DEADLINE).await;
    for server in &cluster.servers {
        let held = "SELECT (SELECT COUNT(*) FROM campus.riders), (SELECT COUNT(*) FROM campus.bags)";
        assert_eq!(server.rows::<(u64, u64)>(held).await, [(1, 1)], "the row that the new one refers to stays");
        assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM tandem.dead_letters").await, Some(0));
    }
    assert_eq!(kinds(&cluster).await, ["still_referred"]);
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_changes_there_keeps_the_children_that_went_with_it_here() {
    let (mut cluster, mut quiet) = start().await;
    cluster.server(A).query("INSERT INTO campus.towns VALUES (1, 'one', 'o'), (5, 'five', 'v')").await;
    cluster.server(A).query("INSERT INTO campus.bikes VALUES (20, 'known', 1)").await;
    cluster.server(A).query("INSERT INTO campus.notes VALUES (30, 'known', 1)").await;
    check(&mut cluster, &mut quiet, "before").await;
    // The update is the later one: the second is all that both have.
    cluster.cut(B);
    cluster.server(A).query("SET timestamp = UNIX_TIMESTAMP() - 30; DELETE FROM campus.towns WHERE id = 1").await;
    cluster.server(B).query("UPDATE campus.towns SET name = 'changed' WHERE id = 1").await;
    cluster.mend(B);
    check(&mut cluster, &mut quiet, "a newer update").await;
    assert!(holds(&cluster, "towns", 1).await && holds(&cluster, "bikes", 20).await);
    let notes: Vec<(i32, Option<i32>)> = cluster.server(A).rows("SELECT id, town FROM campus.notes").await;
    assert_eq!(notes, [(30, Some(1))]);

    // A key that changes takes along what refers to it.
    let moved = "UPDATE campus.towns SET id = 7 WHERE id = 1";
    apart(&mut cluster, &mut quiet, moved, "INSERT INTO campus.bikes VALUES (21, 'new', 1)").await;
    let bikes: Vec<(i32, i32)> = cluster.server(A).rows("SELECT id, town FROM campus.bikes ORDER BY id").await;
    assert_eq!(bikes, [(20, 7), (21, 7)]);
    let moved = "UPDATE campus.towns SET id = 8 WHERE id = 5";
    apart(&mut cluster, &mut quiet, moved, "INSERT INTO campus.riders VALUES (10, 'new', 5)").await;
    assert!(holds(&cluster, "riders", 10).await && holds(&cluster, "towns", 5).await);
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_loses_its_unique_value_goes_with_what_refers_to_it() {
    let (mut cluster, mut quiet) = start().await;
    let on_a = "INSERT INTO campus.towns VALUES (1, 'a', 'same'); INSERT INTO campus.riders VALUES (10, 'a', 1);
        INSERT INTO campus.bikes VALUES (20, 'a', 1); INSERT INTO campus.notes VALUES (30, 'a', 1)";
    let on_b = "INSERT INTO campus.towns VALUES (2, 'b', 'same'); INSERT INTO campus.riders VALUES (11, 'b', 2)";
    apart(&mut cluster, &mut quiet, on_a, on_b).await;
    let towns: Option<u64> = cluster.server(A).first("SELECT COUNT(*) FROM campus.towns").await;
    assert_eq!(towns, Some(1));
    assert!(kinds(&cluster).await.contains(&"unique_taken".to_owned()));
    cluster.end().await.unwrap();
}

/// One statement of an application.
fn statement(dice: &mut Rng, payload: &str) -> String {
    let town = dice.u32(1..7);
    let (child, id) = (CHILDREN[dice.usize(..3)], dice.u32(1..9));
    match dice.u32(..12) {
        0..2 => format!("INSERT INTO campus.towns VALUES ({town}, '{payload}', NULL)"),
        2 => format!("INSERT INTO campus.towns VALUES ({town}, '{payload}', 'code {}')", dice.u32(..4)),
        3 => format!("UPDATE campus.towns SET name = '{payload}' WHERE id = {town}"),
        4..6 => format!("DELETE FROM campus.towns WHERE id = {town}"),
        6 => format!("UPDATE campus.towns SET id = {} WHERE id = {town}", dice.u32(1..7)),
        7..10 => format!(
            "INSERT INTO campus.{child} VALUES ({id}, '{payload}', {town}) ON DUPLICATE KEY UPDATE name = VALUES(name), town = VALUES(town)"
        ),
        10 => format!("UPDATE campus.{child} SET name = '{payload}' WHERE id = {id}"),
        _ => format!("DELETE FROM campus.{child} WHERE id = {id}"),
    }
}

async fn write(server: &PrivateServer, dice: &mut Rng, transactions: usize, name: &str) {
    let mut conn = server.conn().await;
    conn.query_drop("SET innodb_lock_wait_timeout = 5").await.unwrap();
    for number in 0..transactions {
        conn.query_drop("START TRANSACTION").await.unwrap();
        let mut end = "COMMIT";
        for _ in 0..[1, 1, 3][dice.usize(..3)] {
            match conn.query_drop(statement(dice, &format!("{name}{number}"))).await {
                Ok(()) => {}
                // Taken, still referred to, no such parent, in the way: the application would tell its user.
                Err(Error::Server(error)) if [1062, 1205, 1213, 1451, 1452, 1761, 1762].contains(&error.code) => {
                    end = "ROLLBACK";
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        conn.query_drop(end).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

async fn position(server: &PrivateServer) -> GtidPosition {
    server.first::<String>("SELECT @@gtid_binlog_pos").await.unwrap().parse().unwrap()
}

/// What both sides committed since, and all that they published: for people who look for the cause of a difference.
async fn tell(cluster: &Cluster, since: &[GtidPosition; 2]) {
    let topics = crate::quiet::topics(cluster);
    for (site, start) in since.iter().enumerate() {
        let origin = OriginId::new(cluster.nodes[site].name());
        eprintln!("{}", story(&evidence(cluster.server(site), &origin, start, &topics).await));
    }
}

/// Rounds of an ordinary run, each with a seed of its own; `TANDEM_REFERENCE_SEEDS` says how many.
const ROUNDS: u64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parents_and_children_written_at_random_on_both_sides_end_equal_and_whole() {
    let rounds = std::env::var("TANDEM_REFERENCE_SEEDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    let (mut cluster, mut quiet) = start().await;
    for seed in 0..rounds {
        let seed = std::env::var("TANDEM_REFERENCE_SEED").map_or(seed, |text| text.parse().expect("a number"));
        let mut dice = Rng::with_seed(seed);
        let apart = dice.bool();
        if apart {
            cluster.cut(B);
        }
        let killed = dice.bool().then(|| dice.usize(..2));
        let (mut dice_a, mut dice_b) = (dice.fork(), dice.fork());
        let (one, other) = (cluster.server(A).clone(), cluster.server(B).clone());
        let most = dice.usize(1..60);
        let kill = async {
            if let Some(site) = killed {
                cluster.nodes[site].kill9();
                cluster.nodes[site].restart();
            }
        };
        let before = [position(&one).await, position(&other).await];
        tokio::join!(write(&one, &mut dice_a, most, "a"), write(&other, &mut dice_b, most, "b"), kill);
        if apart {
            cluster.mend(B);
        }
        quiet.wait(&mut cluster, DEADLINE).await;
        if cluster.wait_until_equal(DEADLINE).await.is_err() {
            tell(&cluster, &before).await;
        }
        check(&mut cluster, &mut quiet, &format!("seed {seed}")).await;
    }
    let kinds = kinds(&cluster).await;
    assert!(["still_referred", "parent_deleted"].iter().all(|kind| kinds.iter().any(|met| met == kind)), "{kinds:?}");
    cluster.end().await.unwrap();
}
