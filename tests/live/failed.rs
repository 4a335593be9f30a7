//! Changes that could not be applied: mended, tried again, and never put over a newer write.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions, wait_for};

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (name VARCHAR(40) PRIMARY KEY, note VARCHAR(40) NOT NULL);";
const DEADLINE: Duration = Duration::from_secs(60);

fn said(cluster: &Cluster, args: &[&str], code: i32) -> String {
    let output = tokio::task::block_in_place(|| cluster.nodes[1].options().run_once(args));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    text
}

async fn set_aside(cluster: &Cluster, count: u64) {
    wait_for(&format!("{count} changes set aside"), DEADLINE, async || {
        cluster.server(1).first::<u64>("SELECT COUNT(*) FROM tandem.dead_letters").await == Some(count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_set_aside_is_applied_when_its_cause_is_mended_and_never_over_a_newer_write() {
    // The tables come to differ on purpose.
    let config = "[ddl]\nsafe = \"ignore\"\ndangerous = \"ignore\"\n".into();
    let options = ClusterOptions { config, ..ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA) };
    let mut cluster = Cluster::start(options).await;
    cluster.server(1).query("ALTER TABLE campus.riders MODIFY note VARCHAR(4) NOT NULL").await;
    cluster.server(0).query("INSERT INTO campus.riders VALUES ('ann', 'too long for it')").await;
    set_aside(&cluster, 1).await;
    let listed = said(&cluster, &["failed", "list"], 0);
    assert!(listed.starts_with("The tables differ: make the column as wide here"), "{listed}");
    let id: u64 = cluster.server(1).first("SELECT record_offset FROM tandem.dead_letters").await.unwrap();
    let id = format!("laptop-a:{id}");
    assert!(listed.contains(&id), "{listed}");
    let again = said(&cluster, &["failed", "retry", &id], 1);
    assert_eq!(again, format!("{id}: failed again: campus.riders: the value is too long for column `note` here.\n"));

    // The same row is written here, and that is known to all: nothing but the topics remembers which came first.
    cluster.server(0).query("INSERT INTO campus.riders VALUES ('bob', 'too long as well')").await;
    set_aside(&cluster, 2).await;
    cluster.server(1).query("INSERT INTO campus.riders VALUES ('bob', 'new')").await;
    let everywhere = "SELECT note FROM campus.riders WHERE name = 'bob'";
    wait_for("bob on the other side", DEADLINE, async || {
        cluster.server(0).first::<String>(everywhere).await.as_deref() == Some("new")
    })
    .await;
    wait_for("everybody to have told that", DEADLINE, async || {
        let status = cluster.status(1).await.unwrap_or_default();
        status["links"].as_array().is_some_and(|links| links.iter().all(|link| link["pending"] == 0))
    })
    .await;

    // The row is followed, in whatever spelling its collation takes for the same.
    let followed = said(&cluster, &["where", "riders", "BOB"], 0);
    let first = "campus.riders, row with name bob, is on laptop-b: name bob, note new\n";
    assert!(followed.starts_with(first) && followed.contains("too long as well"), "{followed}");
    assert!(followed.contains("laptop-a, laptop-b") && followed.contains("tandem failed show laptop-a:"), "{followed}");
    assert!(said(&cluster, &["where", "campus.riders", "name=nobody"], 1).contains("is not on laptop-b"));
    let position = said(&cluster, &["position", "--json"], 0);
    let position: serde_json::Value = serde_json::from_str(&position).unwrap();
    assert!(position["database"].is_string() && position["topics"][0]["next"].as_u64() > Some(1), "{position}");

    cluster.server(1).query("ALTER TABLE campus.riders MODIFY note VARCHAR(40) NOT NULL").await;
    let said_all = said(&cluster, &["failed", "retry", "--all"], 0);
    assert!(said_all.contains(&format!("{id}: applied.\n")), "{said_all}");
    assert!(said_all.contains(": not needed any more: a newer write of the row stands.\n"), "{said_all}");
    set_aside(&cluster, 0).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    for server in cluster.servers.clone() {
        assert_eq!(server.first::<String>(everywhere).await.as_deref(), Some("new"));
    }
    assert_eq!(said(&cluster, &["failed", "retry", "--all"], 0), "No change is set aside.\n");

    // What is discarded is forgotten here, and found by a comparison.
    cluster.server(1).query("ALTER TABLE campus.riders MODIFY note VARCHAR(20) NOT NULL CHECK (note <> 'no')").await;
    cluster.server(0).query("INSERT INTO campus.riders VALUES ('eve', 'no')").await;
    set_aside(&cluster, 1).await;
    let discarded = said(&cluster, &["failed", "discard", "--all"], 0);
    assert!(discarded.contains(": discarded.\nTheir rows may differ"), "{discarded}");
    set_aside(&cluster, 0).await;
    assert_eq!(cluster.server(1).first::<u64>("SELECT COUNT(*) FROM campus.riders").await, Some(2), "its row stays as it is");
    cluster.server(0).query("DELETE FROM campus.riders WHERE name = 'eve'").await;
    cluster.end().await.unwrap();
}
