//! Triggers fire where the application writes, and nowhere else.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions};
use crate::quiet::Quiet;

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, writes INT NOT NULL DEFAULT 0,
        upper_name VARCHAR(40) AS (UPPER(name)) STORED, length INT AS (CHAR_LENGTH(name)) VIRTUAL);
    CREATE TABLE campus.log (id BIGINT AUTO_INCREMENT PRIMARY KEY, rider INT NOT NULL, what VARCHAR(10) NOT NULL);
    DELIMITER //
    CREATE TRIGGER campus.counted BEFORE UPDATE ON campus.riders FOR EACH ROW
        BEGIN IF @tandem_applying IS NULL THEN SET NEW.writes = OLD.writes + 1; END IF; END//
    CREATE TRIGGER campus.added AFTER INSERT ON campus.riders FOR EACH ROW
        BEGIN IF @tandem_applying IS NULL THEN INSERT INTO campus.log (rider, what) VALUES (NEW.id, 'added'); END IF; END//
    CREATE TRIGGER campus.gone AFTER DELETE ON campus.riders FOR EACH ROW
        BEGIN IF @tandem_applying IS NULL THEN INSERT INTO campus.log (rider, what) VALUES (OLD.id, 'gone'); END IF; END//
    DELIMITER ;";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_trigger_fires_once_and_computed_columns_are_computed_on_each_side() {
    let mut cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let mut quiet = Quiet::new(&cluster);
    cluster.server(0).query("INSERT INTO campus.riders (id, name) SELECT seq, CONCAT('a', seq) FROM campus.seq_1_to_50").await;
    cluster
        .server(1)
        .query("INSERT INTO campus.riders (id, name) SELECT seq, CONCAT('b', seq) FROM campus.seq_101_to_150")
        .await;
    quiet.wait(&mut cluster, Duration::from_secs(60)).await;
    // Each side changes what the other made.
    cluster.server(1).query("UPDATE campus.riders SET name = CONCAT(name, ' changed') WHERE id <= 50").await;
    cluster.server(0).query("DELETE FROM campus.riders WHERE id > 140").await;
    quiet.wait(&mut cluster, Duration::from_secs(60)).await;
    cluster.wait_until_equal(Duration::from_secs(60)).await.unwrap();
    for server in &cluster.servers {
        let logged: Vec<(String, u64)> = server.rows("SELECT what, COUNT(*) FROM campus.log GROUP BY what ORDER BY what").await;
        assert_eq!(logged, [("added".into(), 100), ("gone".into(), 10)]);
        let writes: Vec<(i32, u64)> =
            server.rows("SELECT writes, COUNT(*) FROM campus.riders GROUP BY writes ORDER BY writes").await;
        assert_eq!(writes, [(0, 40), (1, 50)]);
        let row: Option<(String, i32)> = server.first("SELECT upper_name, length FROM campus.riders WHERE id = 7").await;
        assert_eq!(row, Some(("A7 CHANGED".into(), 10)));
        assert_eq!(server.first::<u64>("SELECT COUNT(*) FROM tandem.dead_letters").await, Some(0));
    }

    // One that does not ask is named, with what to do.
    let counts = "CREATE TRIGGER campus.unasked AFTER UPDATE ON campus.log FOR EACH ROW SET @any = 1";
    cluster.server(0).query(counts).await;
    let said = cluster.tandem(0, &["doctor"]);
    assert!(said.contains("campus.log: its trigger `unasked` would run again"), "{said}");
    assert!(said.contains("IF @tandem_applying IS NULL THEN"), "{said}");
    assert!(!said.contains("`counted`"), "{said}");

    // And one that comes while the node runs is not run for what arrives: the change is set aside.
    cluster.server(0).query("CREATE TABLE campus.late (id INT PRIMARY KEY)").await;
    quiet.wait(&mut cluster, Duration::from_secs(60)).await;
    let loud = "CREATE TRIGGER campus.loud AFTER INSERT ON campus.late FOR EACH ROW SET @loud = 1";
    cluster.server(1).query(loud).await;
    cluster.server(0).query("INSERT INTO campus.late VALUES (1)").await;
    quiet.wait(&mut cluster, Duration::from_secs(60)).await;
    let reason: Option<String> = cluster.server(1).first("SELECT reason FROM tandem.dead_letters").await;
    assert!(reason.as_deref().is_some_and(|reason| reason.contains("its trigger `loud` would run again")), "{reason:?}");
    assert_eq!(cluster.server(1).first::<u64>("SELECT COUNT(*) FROM campus.late").await, Some(0));
    cluster.end().await.unwrap();
}
