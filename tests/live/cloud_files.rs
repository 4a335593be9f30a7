//! What became of the files that rows name, asked of a running node: by the command, by the API and on the page.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{CloudServer, HubKeeper, wait_for};
use crate::rig::{Process, Rig};

const SOON: Duration = Duration::from_secs(90);

fn said(rig: &Rig<HubKeeper>, node: &Process, args: &[&str]) -> String {
    let output = rig.command(node, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn get(node: &Process, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", node.port)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_listed_with_their_fate_and_the_reason() {
    // What else in this process speaks TLS would take the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cloud = CloudServer::start(Path::new(env!("CARGO_BIN_EXE_tandem")), folder.path(), false).await;
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), crate::rig::ORIGIN).await).await;
    rig.write("cloud.key", &cloud.key);
    for (name, bytes) in [("ann.jpg", 3), ("<i>ben.jpg", 1_200)] {
        fs::write(root.path().join(name), vec![7; bytes]).unwrap();
    }
    rig.configure(&format!(
        "\n[cloud.main]\ncontinuous = true\nbatch_age = \"100ms\"\napi = {{ url = \"{}\", key_file = \"cloud.key\" }}\n\
         [cloud.main.tables]\n\"campus.riders\" = {{ files = {{ name = {{ kind = \"photos\", field = \"photo_url\" }} }} }}\n\
         [cloud.main.files]\nroot = \"{}\"\n",
        cloud.url(),
        root.path().display()
    ));
    let node = rig.start("laptop-a", &["tailer", "cloud"]);
    node.wait_for_role("cloud main", "running").await;
    wait_for("the tailer to read", SOON, async || node.connected().await).await;
    assert!(said(&rig, &node, &["files"]).contains("No row that went to main names a file"));
    rig.server
        .query("INSERT INTO campus.riders VALUES (1, 'ann.jpg'), (2, '<i>ben.jpg'), (3, 'gone.jpg'), (4, '../out.jpg')")
        .await;
    wait_for("the rows in the cloud", SOON, async || cloud.get("riders/4").await.is_some()).await;

    let listed: Value = serde_json::from_str(&said(&rig, &node, &["files", "--json"])).unwrap();
    let files = listed["files"].as_array().unwrap();
    let of = |path: &str| files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path} in {listed}"));
    assert_eq!((of("ann.jpg")["state"].as_str(), of("ann.jpg")["size"].as_u64()), (Some("synced"), Some(3)));
    assert_eq!(of("<i>ben.jpg")["state"], "synced");
    assert_eq!((of("gone.jpg")["state"].as_str(), of("gone.jpg")["reason"].is_string()), (Some("missing"), true));
    assert!(["missing", "skipped", "failed"].contains(&of("../out.jpg")["state"].as_str().unwrap()), "{listed}");
    assert_eq!((files.len(), &listed["cloud"], &listed["more"]), (4, &json!("main"), &json!(false)));

    let table = said(&rig, &node, &["files", "--state", "missing"]);
    assert!(table.contains("gone.jpg") && !table.contains("ann.jpg"), "{table}");
    let short = said(&rig, &node, &["files", "--limit", "1"]);
    assert!(short.contains("There are more: --limit 2 shows the next"), "{short}");
    assert!(said(&rig, &node, &["files", "--state", "queued"]).contains("No file for main is queued"));

    // A page at a time, each file once.
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(&node, &format!("/api/cloud-sync/files?limit=3{after}")).await;
        let page: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(status, 200, "{page}");
        seen.extend(page["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        let next: String = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
        after = format!("&after={next}");
    }
    seen.sort();
    assert_eq!(seen, ["../out.jpg", "<i>ben.jpg", "ann.jpg", "gone.jpg"]);
    assert_eq!(get(&node, "/api/cloud-sync/files?cloud=none").await.0, 404);

    let (_, overview) = get(&node, "/cloud").await;
    assert!(overview.contains("/cloud?show=synced") && overview.contains("/cloud?show=missing"), "{overview}");
    let (_, page) = get(&node, "/cloud?show=synced").await;
    assert!(page.contains("ann.jpg") && page.contains("&lt;i&gt;ben.jpg") && !page.contains("<i>ben"), "{page}");
    let (_, page) = get(&node, "/cloud?show=missing").await;
    assert!(page.contains("gone.jpg") && !page.contains("ann.jpg"), "{page}");
}
