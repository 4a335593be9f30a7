//! Roles that people pause, resume and start anew, on a real node.

use crate::harness::{HubKeeper, wait_for};
use crate::rig::{ORIGIN, Process, Rig, WITHIN};

async fn said(rig: &Rig<HubKeeper>, process: &Process, args: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| rig.command(process, args));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_tailer_publishes_nothing_over_a_restart_and_all_of_it_when_it_is_resumed() {
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await;
    let mut process = rig.tailer("node").await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;

    let told = said(&rig, &process, &["pause", "tailer"]).await;
    assert!(told.starts_with("laptop-a: the tailer is paused since "), "{told}");
    assert!(!process.connected().await, "it reads nothing any more when the command has answered");
    rig.server.query("INSERT INTO campus.riders VALUES (2, 'Bo')").await;
    let since = process.status().await.unwrap()["roles"][0]["since_seconds"].clone();

    process.node.kill9();
    process.node.restart();
    process.wait_for_role("tailer", "paused").await;
    let status = process.status().await.unwrap();
    assert_eq!(status["roles"][0]["since_seconds"], since, "since it was paused, not since the start");
    assert_eq!((&status["level"], rig.published_ids().await), (&"attention".into(), vec![1]));
    // Nothing is written at rest, and a second process would be no different: the lease is free.
    let lease = format!("SELECT IS_USED_LOCK('tandem.tailer.campus.{ORIGIN}')");
    assert_eq!(rig.server.first::<Option<u64>>(&lease).await.flatten(), None);

    let told = said(&rig, &process, &["resume", "tailer"]).await;
    assert!(told.starts_with("laptop-a: the tailer is running since "), "{told}");
    rig.wait_until_published(2).await;
    assert_eq!(rig.published_ids().await, [1, 2]);

    said(&rig, &process, &["restart", "tailer"]).await;
    wait_for("the tailer to read again", WITHIN, async || process.connected().await).await;
    rig.server.query("INSERT INTO campus.riders VALUES (3, 'Cy')").await;
    rig.wait_until_published(3).await;
    assert_eq!(rig.published_ids().await, [1, 2, 3], "nothing twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_has_stopped_goes_on_without_a_new_process_when_its_cause_is_mended() {
    let rig = Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await;
    let process = rig.tailer("node").await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;
    rig.server.query("CREATE TABLE campus.log (line INT NOT NULL, UNIQUE KEY (line))").await;
    said(&rig, &process, &["restart", "tailer"]).await;
    let why = process.wait_for_role("tailer", "stopped").await;
    assert!(why.contains("campus.log"), "{why}");
    rig.server.query("ALTER TABLE campus.log DROP KEY line, ADD PRIMARY KEY (line)").await;
    said(&rig, &process, &["restart", "tailer"]).await;
    process.wait_for_role("tailer", "running").await;
    rig.server.query("INSERT INTO campus.riders VALUES (2, 'Bo')").await;
    rig.wait_until_published(2).await;
}
