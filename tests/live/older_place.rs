//! Roles that are started at an older place: nothing is published twice, nothing newer is lost, and what somebody damaged comes back.

use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::harness::{Cluster, ClusterOptions, HubKeeper, wait_for};
use crate::rig::{ORIGIN, Rig};

const DEADLINE: Duration = Duration::from_secs(120);
const A: usize = 0;
const B: usize = 1;

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tailer_that_reads_the_whole_binlog_again_publishes_nothing_twice() {
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await;
    let process = rig.tailer("node").await;
    let restart = |from: &str| {
        let output = tokio::task::block_in_place(|| rig.command(&process, &["restart", "tailer", "--from", from]));
        (output.status.code(), text(&output))
    };
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;
    let between: String = rig.server.first("SELECT @@gtid_binlog_pos").await.unwrap();
    for id in 2..=5 {
        rig.server.query(&format!("INSERT INTO campus.riders VALUES ({id}, 'Bo')")).await;
    }
    rig.wait_until_published(5).await;

    let (code, told) = restart("beginning");
    assert!(code == Some(0) && told.contains("nothing is published twice"), "{told}");
    let (code, told) = restart(&between);
    assert!(code == Some(0) && told.contains(&format!("again after {between} up to")), "{told}");
    assert!(told.contains(": 4 transactions with 4 changes are published already"), "{told}");

    // What lies between here and there would be lost.
    let (code, told) = restart("77-1-9");
    assert!(code == Some(2) && told.contains("what lies between would be lost"), "{told}");
    rig.server.query("FLUSH BINARY LOGS").await;
    rig.server.query("INSERT INTO campus.riders VALUES (6, 'Cy')").await;
    rig.wait_until_published(6).await;
    let newest: (String, u64, String, String) = rig.server.first("SHOW MASTER STATUS").await.unwrap();
    let newest = newest.0;
    rig.server.query(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    let (code, told) = restart(&between);
    assert!(code == Some(2) && told.contains("what is still there begins at"), "{told}");

    let (code, told) = restart("beginning");
    assert!(code == Some(0) && told.contains("nothing is published twice"), "{told}");
    rig.server.query("INSERT INTO campus.riders VALUES (7, 'Di')").await;
    rig.wait_until_published(7).await;
    assert_eq!(rig.published_ids().await, [1, 2, 3, 4, 5, 6, 7], "each once, in its order");
}

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) UNIQUE, weight FLOAT, born DATETIME(3), photo BLOB);
    CREATE TABLE campus.bookings (id INT PRIMARY KEY, rider INT NOT NULL, status VARCHAR(20) NOT NULL,
        FOREIGN KEY (rider) REFERENCES riders (id) ON DELETE CASCADE);
    CREATE TABLE campus.log (line VARCHAR(40));";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_that_looks_from_the_beginning_again_mends_what_was_damaged_and_no_newer_write() {
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA);
    let mut cluster = Cluster::start(options).await;
    let (a, b) = (cluster.server(A).clone(), cluster.server(B).clone());
    a.query(
        "INSERT INTO campus.riders SELECT seq, CONCAT('Rider ', seq), seq / 7, NOW(3), UNHEX(HEX(seq)) FROM campus.seq_1_to_1200",
    )
    .await;
    a.query("INSERT INTO campus.bookings SELECT seq, seq, 'requested' FROM campus.seq_1_to_300").await;
    a.query("INSERT INTO campus.log VALUES ('one'), ('two')").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    // Newer writes, of both sides, that must stand; a row that is gone; and parents whose newest write comes after their children.
    b.query("UPDATE campus.riders SET name = CONCAT(name, ' of B') WHERE id BETWEEN 1 AND 20").await;
    a.query("DELETE FROM campus.riders WHERE id = 30").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    a.query("UPDATE campus.riders SET weight = 1.5 WHERE id BETWEEN 40 AND 60").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let kept = "SELECT CONCAT((SELECT COUNT(*) FROM tandem.conflicts), ' ', (SELECT COUNT(*) FROM tandem.dead_letters))";
    let before: String = b.first(kept).await.unwrap();
    let published = |status: &serde_json::Value| status["tailer"]["published"].as_u64();
    let published_before = published(&cluster.status(B).await.unwrap());

    let look = async |from: &str| -> serde_json::Value {
        let (options, from) = (cluster.nodes[B].options().clone(), from.to_owned());
        let run = move || options.run_once(&["restart", "applier", "--from", &from, "--origin", "laptop-a", "--json"]);
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let roles: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(roles[0]["again"]["done"], true, "{roles}");
        roles[0]["again"].clone()
    };
    // Nothing is wrong, and nothing is written.
    let told = look("beginning").await;
    assert_eq!((&told["counts"]["put_right"], &told["counts"]["left"]), (&0.into(), &0.into()), "{told}");
    assert!(told["counts"]["as_they_should_be"].as_u64() >= Some(1_400), "{told}");
    assert_eq!(told["counts"]["passed_over"], 2, "the lines of the log: {told}");
    assert_eq!(told["counts"]["in_doubt"], 1, "the booking that went with its rider, which no binlog tells: {told}");

    // Somebody damages rows here, behind everybody's back.
    let mut conn = b.conn().await;
    conn.query_drop("SET SESSION sql_log_bin = 0").await.unwrap();
    for statement in [
        "DELETE FROM campus.riders WHERE id BETWEEN 40 AND 44",
        "UPDATE campus.riders SET name = CONCAT('damaged ', id), photo = NULL WHERE id BETWEEN 100 AND 109",
        "DELETE FROM campus.bookings WHERE id BETWEEN 200 AND 209",
        "INSERT INTO campus.riders (id, name) VALUES (30, 'back by hand')",
    ] {
        conn.query_drop(statement).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let told = look("beginning").await;
    // Five riders and the bookings that went with them, ten riders, ten bookings, and the one that is to be gone.
    assert_eq!(told["counts"]["put_right"], 5 + 5 + 10 + 10 + 1, "{told}");
    assert_eq!((&told["counts"]["left"], &told["counts"]["in_doubt"]), (&0.into(), &1.into()), "{told}");
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    let newer = "SELECT COUNT(*) FROM campus.riders WHERE name LIKE '% of B'";
    for server in [&a, &b] {
        assert_eq!(server.first::<u64>(newer).await, Some(20), "what was written since stands");
        assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM campus.riders").await, Some(1_199));
    }
    assert_eq!(b.first::<String>(kept).await, Some(before), "no conflict and nothing set aside came of it");
    // Its own tailer took all of it for echoes; what comes next is published, and nothing before it.
    b.query("INSERT INTO campus.log VALUES ('three')").await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    wait_for("the line to be published", DEADLINE, async || {
        cluster.status(B).await.is_some_and(|status| published(&status) > published_before)
    })
    .await;
    let status = cluster.status(B).await.unwrap();
    assert_eq!(published(&status), published_before.map(|before| before + 1), "{status}");

    let refused = |from: &str| {
        let args = ["restart", "applier", "--from", from, "--origin", "laptop-a"];
        let output = tokio::task::block_in_place(|| cluster.nodes[B].options().run_once(&args));
        (output.status.code(), text(&output))
    };
    let (code, told) = refused("99999999");
    assert!(code == Some(2) && told.contains("nothing is applied here from offset 99999999 on"), "{told}");
    cluster.end().await.unwrap();
}
