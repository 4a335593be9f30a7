//! Roles that are started at an older place: nothing is published twice.

use crate::harness::HubKeeper;
use crate::rig::{ORIGIN, Rig};

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
