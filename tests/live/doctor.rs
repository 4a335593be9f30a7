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
    server.query("CREATE TABLE campus.log (line TEXT)").await;
    let expected = ["DB-FORMAT", "DB-AUTOINC", "DB-TABLE"].map(str::to_owned).to_vec();
    assert_eq!(must_mend(&node), (Some(3), expected));
    let said = node.run_once(&["doctor"]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("  FAIL  DB-FORMAT     binlog_format is MIXED, so many changes would not be seen\n"), "{text}");
    assert!(text.contains("set binlog_format=ROW, then restart the server"), "{text}");
    assert!(text.contains("ALTER TABLE campus.log ADD PRIMARY KEY"), "{text}");
    assert!(text.trim_end().ends_with("must be mended"), "{text}");

    let stranger = node.env("NODE_PASSWORD", "no secret of this server");
    let (code, fails) = must_mend(&stranger);
    assert_eq!((code, fails.first().map(String::as_str)), (Some(3), Some("DB-LOGIN")));
    let said = stranger.run_once(&["doctor"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("no secret of this server"), "a password is never printed");
    cluster.end().await.unwrap();
}
