//! Of several processes of one node, one tails: the others wait, say why, and take over.

use crate::harness::{HubKeeper, wait_for};
use crate::rig::{ORIGIN, Rig, WITHIN};

async fn rig() -> Rig<HubKeeper> {
    Rig::new(HubKeeper::start(env!("CARGO_BIN_EXE_tandem"), ORIGIN).await).await
}

/// The connection of the server that holds the lease of a role.
async fn holder(rig: &Rig<HubKeeper>, role: &str) -> Option<u64> {
    let sql = format!("SELECT IS_USED_LOCK('tandem.{role}.campus.{ORIGIN}')");
    rig.server.first::<Option<u64>>(&sql).await.flatten()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_tailer_waits_says_why_and_takes_over_when_the_first_is_killed() {
    let rig = rig().await;
    let mut first = rig.tailer("first").await;
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;

    let mut second = rig.start("second", &["tailer"]);
    let why = second.wait_for_role("tailer", "waiting").await;
    wait_for("the reason", WITHIN, async || second.role("tailer").await.is_some_and(|(_, why)| why.len() > 2)).await;
    let why = second.role("tailer").await.map_or(why, |(_, why)| why);
    assert!(why.contains("another tandem process has this role of laptop-a (connection "), "{why}");
    assert!(second.node.log_text().contains("role waits: another tandem process has its lease"), "the log says it too");
    assert!(!second.connected().await, "who waits reads nothing");
    let verdict = second.status().await.unwrap()["verdict"].as_str().unwrap().to_owned();
    assert!(verdict.starts_with("The tailer waits: another tandem process"), "{verdict}");

    rig.server.query("INSERT INTO campus.riders VALUES (2, 'Bo')").await;
    rig.wait_until_published(2).await;
    first.node.kill9();
    rig.server.query("INSERT INTO campus.riders VALUES (3, 'Cy')").await;
    second.wait_for_role("tailer", "running").await;
    rig.wait_until_published(3).await;
    assert_eq!(rig.published_ids().await, [1, 2, 3]);

    // And back: an orderly end gives the lease away at once.
    first.node.restart();
    first.wait_for_role("tailer", "waiting").await;
    assert!(second.node.terminate().await.success());
    rig.server.query("INSERT INTO campus.riders VALUES (4, 'Di')").await;
    rig.wait_until_published(4).await;
    assert_eq!(rig.published_ids().await, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tailer_that_loses_only_its_lease_stops_publishing_and_another_goes_on() {
    let rig = rig().await;
    let first = rig.tailer("first").await;
    let lease = holder(&rig, "tailer").await.expect("a tailer that works holds the lease");
    let second = rig.start("second", &["tailer"]);
    second.wait_for_role("tailer", "waiting").await;
    wait_for("the second to have asked", WITHIN, async || second.node.log_text().contains("role waits")).await;

    // Nothing else of the first is touched: it could go on reading and publishing.
    rig.server.query(&format!("KILL {lease}")).await;
    wait_for("the second to hold the lease", WITHIN, async || {
        holder(&rig, "tailer").await.is_some_and(|now| now != lease) && second.connected().await
    })
    .await;
    wait_for("the first to have stopped", WITHIN, async || !first.connected().await).await;
    let log = first.node.log_text();
    assert!(log.contains("the lease of the tailer of laptop-a was lost"), "{log}");
    first.wait_for_role("tailer", "waiting").await;

    for id in 1..=20 {
        rig.server.query(&format!("INSERT INTO campus.riders VALUES ({id}, 'x')")).await;
    }
    rig.wait_until_published(20).await;
    assert_eq!(rig.published_ids().await, (1..=20).collect::<Vec<u64>>());
    let published = async |process: &crate::rig::Process| process.status().await.unwrap()["tailer"]["published"].as_u64();
    assert_eq!((published(&first).await, published(&second).await), (Some(0), Some(20)), "only the holder published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_an_administrator_ends_is_no_loss() {
    let rig = rig().await;
    let first = rig.tailer("first").await;
    let lease = holder(&rig, "tailer").await.expect("a tailer that works holds the lease");
    for _ in 0..20 {
        rig.server.query(&format!("KILL QUERY {lease}")).await;
    }
    rig.server.query("INSERT INTO campus.riders VALUES (1, 'Ann')").await;
    rig.wait_until_published(1).await;
    assert_eq!(holder(&rig, "tailer").await, Some(lease), "it is the same connection still");
    let log = first.node.log_text();
    assert!(!log.contains("was lost"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applier_has_a_lease_of_its_own() {
    let rig = rig().await;
    let tailer = rig.tailer("tailer").await;
    let applier = rig.start("applier", &["applier"]);
    applier.wait_for_role("applier", "running").await;
    wait_for("both leases", WITHIN, async || holder(&rig, "applier").await.is_some()).await;
    assert_ne!(holder(&rig, "applier").await, holder(&rig, "tailer").await);
    assert!(tailer.connected().await);
    let second = rig.start("second", &["applier"]);
    second.wait_for_role("applier", "waiting").await;
    wait_for("the second to have asked", WITHIN, async || second.node.log_text().contains("role waits")).await;
}
