//! The whole way with real programs: MariaDB, `tandem run`, and `tandem cloud-server` as the cloud.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{CloudServer, HubKeeper, wait_for};
use crate::rig::Rig;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_database_are_in_the_cloud_and_follow_it() {
    let folder = tempfile::tempdir().unwrap();
    // What else in this process speaks TLS would take the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cloud = CloudServer::start(Path::new(env!("CARGO_BIN_EXE_tandem")), folder.path(), false).await;
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), crate::rig::ORIGIN).await).await;
    let lines = cloud.config("\"campus.riders\" = { mask = [\"phone\"] }");
    rig.configure(&lines);
    rig.write("cloud.key", &cloud.key);
    rig.server.query("ALTER TABLE campus.riders ADD phone VARCHAR(20)").await;
    let node = rig.start("laptop-a", &["tailer", "cloud"]);
    node.wait_for_role("cloud main", "running").await;
    wait_for("the tailer to read", SOON, async || node.connected().await).await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann', '555-1'), (2, 'Bob', NULL)").await;
    wait_for("two riders", SOON, async || {
        cloud.get("riders").await.is_some_and(|page| page["ids"] == serde_json::json!(["1", "2"]))
    })
    .await;
    assert_eq!(cloud.get("riders/1").await.unwrap(), serde_json::json!({"id": 1, "name": "Ann", "phone": "***"}));
    rig.server.query("UPDATE campus.riders SET name = 'Anna' WHERE id = 1").await;
    rig.server.query("DELETE FROM campus.riders WHERE id = 2").await;
    wait_for("the update", SOON, async || cloud.get("riders/1").await.is_some_and(|row| row["name"] == "Anna")).await;
    wait_for("the delete", SOON, async || cloud.get("riders/2").await.is_none()).await;

    // What people ask, and what they are answered.
    let output = rig.command(&node, &["sync", "--only", "cloud", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((&report["success"], &report["summary"]["synced"]), (&Value::Bool(true), &Value::from(0)), "{report}");
    let output = rig.command(&node, &["sync", "--only", "cloud"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("up to date"), "{output:?}");
    let output = rig.command(&node, &["status"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("main (cloud)"), "{output:?}");
    let status: Value =
        reqwest::get(format!("http://127.0.0.1:{}/api/cloud-sync/status", node.port)).await.unwrap().json().await.unwrap();
    assert_eq!((status["status"].as_str(), status["last_sync"].is_u64()), (Some("idle"), true), "{status}");
    let page = reqwest::get(format!("http://127.0.0.1:{}/", node.port)).await.unwrap().text().await.unwrap();
    assert!(page.contains("Sync now") && page.contains("main"), "{page}");
    let log = node.node.log_text();
    assert!(!log.contains(&cloud.key), "a key is in the log");

    // With another key the node pauses and says whose key it is.
    rig.write("cloud.key", "not the key");
    drop(node);
    let node = rig.start("laptop-a", &["tailer", "cloud"]);
    rig.server.query("INSERT INTO campus.riders VALUES (3, 'Cem', NULL)").await;
    wait_for("the pause", SOON, async || node.status().await.is_some_and(|status| status["clouds"][0]["state"] == "paused"))
        .await;
    let output = rig.command(&node, &["sync"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("cloud.key") && !said.contains("not the key"), "{said}");
    rig.write("cloud.key", &cloud.key);
    drop(node);
    let _node = rig.start("laptop-a", &["tailer", "cloud"]);
    wait_for("the third rider", SOON, async || cloud.get("riders/3").await.is_some()).await;
}
