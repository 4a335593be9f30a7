//! `tandem doctor` against real servers: nothing to mend where all is well, and each fault by its code with its fix.

use serde_json::Value;

use crate::harness::{Cluster, ClusterOptions, NodeOptions};

const SCHEMA: &str = "CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(40));";

/// Exit code, and the codes of what must be mended.
fn must_mend(options: &NodeOptions) -> (Option<i32>, Vec<String>) {
    let said = options.run_once(&["doctor", "--json"]);
    let found: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
    });
    let fails = found.iter().filter(|finding| finding["level"] == "fail");
    (said.status.code(), fails.map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_finds_what_must_be_mended_and_nothing_where_all_is_well() {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let node = cluster.nodes[0].options().clone();
    assert_eq!(must_mend(&node), (Some(0), Vec::new()));

    let server = cluster.server(0);
    server.query("SET GLOBAL binlog_format=MIXED; SET GLOBAL auto_increment_increment=1").await;
    server.query("CREATE TABLE campus.log (line TEXT); CREATE TABLE campus.flat (id INT PRIMARY KEY) ENGINE=MyISAM").await;
    let expected = ["DB-FORMAT", "DB-AUTOINC", "DB-TABLE"].map(str::to_owned).to_vec();
    assert_eq!(must_mend(&node), (Some(3), expected));
    let said = node.run_once(&["doctor"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("  FAIL  DB-FORMAT     binlog_format is MIXED, so many changes would not be seen\n"), "{text}");
    assert!(text.contains("set binlog_format=ROW, then restart the server"), "{text}");
    assert!(text.contains("ALTER TABLE campus.flat ENGINE=InnoDB"), "{text}");
    assert!(text.contains("  WARN  DB-KEY        campus.log has no primary key"), "{text}");
    assert!(text.contains("on every node: ALTER TABLE campus.log ADD PRIMARY KEY"), "{text}");
    assert!(text.trim_end().ends_with("must be mended"), "{text}");

    let stranger = node.env("NODE_PASSWORD", "no secret of this server");
    let (code, fails) = must_mend(&stranger);
    assert_eq!((code, fails.first().map(String::as_str)), (Some(3), Some("DB-LOGIN")));
    let said = stranger.run_once(&["doctor"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("no secret of this server"), "a password is never printed");
    cluster.end().await.unwrap();
}

/// Everything that is not good, as `level code: what — remedy`.
fn findings(options: &NodeOptions, more: &[&str]) -> Vec<String> {
    let said = options.run_once(&[&["doctor", "--json"], more].concat());
    let found: Vec<Value> = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
    });
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    found
        .iter()
        .filter(|finding| finding["level"] != "good" || finding["code"] == "DB-UNIQUE")
        .map(|finding| {
            let [level, code, what, remedy] = ["level", "code", "what", "remedy"].map(|key| text(finding, key));
            format!("{level} {code}: {what} — {remedy}")
        })
        .collect()
}

/// Breaks one thing, sees that just this is found with its fix, and mends it.
async fn breaks(cluster: &Cluster, breaking: &str, mending: &str, code: &str, words: &[&str]) {
    let (server, node) = (cluster.server(0), cluster.nodes[0].options());
    let before = findings(node, &[]);
    server.query(breaking).await;
    let after: Vec<String> = findings(node, &[]).into_iter().filter(|found| !before.contains(found)).collect();
    let [found] = &*after else { panic!("{code}: {after:?}") };
    assert!(found.contains(&format!("{code}: ")) && words.iter().all(|word| found.contains(word)), "{words:?}: {found}");
    server.query(mending).await;
    assert_eq!(findings(node, &[]), before, "{code} is mended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_each_thing_that_is_broken_and_its_fix() {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "REVOKE DELETE ON *.* FROM tandem@'%'",
            "GRANT DELETE ON *.* TO tandem@'%'",
            "fail DB-WRITE",
            &["the account lacks DELETE", "GRANT DELETE ON `campus`.* TO 'tandem'@'%'"],
        ),
        (
            "REVOKE ALTER, INDEX ON *.* FROM tandem@'%'",
            "GRANT ALTER, INDEX ON *.* TO tandem@'%'",
            "warn DB-DDL",
            &["lacks ALTER, INDEX on campus", "GRANT ALTER, INDEX ON `campus`.* TO 'tandem'@'%'"],
        ),
        (
            "REVOKE BINLOG MONITOR ON *.* FROM tandem@'%'",
            "GRANT BINLOG MONITOR ON *.* TO tandem@'%'",
            "fail DB-GRANTS",
            &["GRANT BINLOG MONITOR ON *.* TO 'tandem'@'%'"],
        ),
        (
            "SET GLOBAL binlog_row_image=MINIMAL",
            "SET GLOBAL binlog_row_image=FULL",
            "warn DB-IMAGE",
            &["binlog_row_image=FULL"],
        ),
        ("SET GLOBAL binlog_row_metadata=NO_LOG", "SET GLOBAL binlog_row_metadata=FULL", "warn DB-METADATA", &["=FULL"]),
        (
            "SET GLOBAL expire_logs_days=2",
            "SET GLOBAL expire_logs_days=0",
            "warn DB-RETENTION",
            &["2.0 days", "expire_logs_days=40"],
        ),
        (
            "SET GLOBAL max_allowed_packet=1048576",
            "SET GLOBAL max_allowed_packet=1073741824",
            "warn DB-PACKET",
            &["is 1048576 bytes", "max_allowed_packet=64M"],
        ),
        ("SET GLOBAL gtid_slave_pos='9-9-1'", "SET GLOBAL gtid_slave_pos=''", "warn DB-REPLICA", &["log_slave_updates=ON"]),
        (
            "SET GLOBAL event_scheduler=ON; CREATE EVENT campus.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM campus.riders",
            "SET GLOBAL event_scheduler=OFF",
            "warn DB-EVENT",
            &["may not see", "SHOW EVENTS"],
        ),
        (
            "SET GLOBAL event_scheduler=ON; GRANT EVENT ON *.* TO tandem@'%'",
            "SET GLOBAL event_scheduler=OFF",
            "warn DB-EVENT",
            &["`campus`.`nightly`", "ALTER EVENT `campus`.`nightly` DISABLE"],
        ),
        (
            "CREATE TABLE campus.years (y INT PRIMARY KEY) PARTITION BY RANGE (y) (PARTITION p VALUES LESS THAN MAXVALUE)",
            "DROP TABLE campus.years",
            "warn DB-PARTITION",
            &["campus.years", "DELETE FROM campus.years"],
        ),
        (
            "ALTER TABLE campus.riders ADD UNIQUE KEY by_name (name)",
            "ALTER TABLE campus.riders DROP KEY by_name",
            "good DB-UNIQUE",
            &["campus.riders", "by_name", "the older row goes"],
        ),
        (
            "CREATE TABLE campus.flat (id INT PRIMARY KEY) ENGINE=Aria",
            "DROP TABLE campus.flat",
            "fail DB-TABLE",
            &["ENGINE=InnoDB"],
        ),
    ];
    // A table that was there stops the tailer when it is dropped; the doctor needs no running node.
    let mut cluster = cluster;
    for node in &mut cluster.nodes {
        node.terminate().await;
    }
    for (breaking, mending, code, words) in cases {
        breaks(&cluster, breaking, mending, code, words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_compares_two_nodes_that_do_not_reach_each_other() {
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    let (a, b) = (cluster.nodes[0].options(), cluster.nodes[1].options());
    assert_eq!(a.run_once(&["doctor", "--save", "a.facts"]).status.code(), Some(0));
    assert_eq!(must_mend(b), (Some(0), Vec::new()));
    let against = ["--against", "a.facts"];
    let well = findings(b, &against);
    assert!(well.iter().all(|found| !found.contains("NODES-")), "{well:?}");

    let server = cluster.server(1);
    server.query("SET GLOBAL auto_increment_offset=1; SET GLOBAL gtid_domain_id=1").await;
    server.query("ALTER TABLE campus.riders MODIFY name VARCHAR(20); CREATE TABLE campus.bikes (id INT PRIMARY KEY)").await;
    let found: Vec<String> = findings(b, &against).into_iter().filter(|found| found.contains("NODES-")).collect();
    let expected = [
        "fail NODES-DOMAIN: gtid_domain_id is 1 here and on laptop-a",
        "fail NODES-AUTOINC: auto_increment_offset is 1 here and on laptop-a, so new rows get the same ids",
        "fail NODES-SCHEMA: campus.bikes is only here",
        "fail NODES-SCHEMA: campus.riders: column `name` is varchar(20) utf8mb4_general_ci here and varchar(40) utf8mb4_general_ci on laptop-a",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    assert_eq!(b.run_once(&["doctor", "--against", "a.facts"]).status.code(), Some(3));

    let said = a.run_once(&["doctor", "--against", "a.facts"]);
    assert!(said.status.code() == Some(2) && String::from_utf8_lossy(&said.stderr).contains("of laptop-a itself"));
    let said = a.run_once(&["doctor", "--against", "tandem.toml"]);
    assert!(said.status.code() == Some(2) && String::from_utf8_lossy(&said.stderr).contains("cannot compare with tandem.toml"));
    cluster.end().await.unwrap();
}
