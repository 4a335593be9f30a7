//! `tandem topic`, whoever keeps the topics: the same for a hub and for a broker.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::harness::{Cluster, wait_for};
use crate::tail_command::{code, interrupt};

/// In a cluster of laptop-a and laptop-b whose first inserted rider 1 and changed rider 2.
pub fn lists_and_reads(cluster: &Cluster) {
    let list = cluster.tandem(0, &["topic", "list"]);
    assert!(list.lines().any(|line| line.starts_with("laptop-b ")), "{list}");
    let json: Json = serde_json::from_str(&cluster.tandem(1, &["topic", "list", "--json"])).expect("JSON");
    let end = json[0]["end"].as_u64().expect("an end");
    assert!(end >= 3, "{json}");
    let all = cluster.tandem(0, &["topic", "read", "laptop-a", "--from", "0", "--limit", "1000"]);
    assert!(all.contains("insert   campus.riders  id 1") && all.contains("update   campus.riders  id 2"), "{all}");
    let last = cluster.tandem(0, &["topic", "read", "laptop-a", "--limit", "3", "--json"]);
    let last: Vec<Json> = last.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(last.len(), 3, "{last:?}");
    assert_eq!(last[2]["offset"].as_u64().map(|offset| offset + 1 >= end), Some(true), "{last:?}");
    let nobody = cluster.tandem(0, &["topic", "read", "laptop-c"]);
    assert_eq!(nobody.trim(), "error: there is no node \"laptop-c\" — use one of laptop-a, laptop-b");
}

/// Records are shown as they come, on another site than the one that publishes them, until somebody ends it.
pub async fn tails(cluster: &Cluster) {
    let mut tail = cluster.nodes[1].options().command(&["topic", "tail", "laptop-a", "--json"]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tandem runs");
    let lines = BufReader::new(tail.stdout.take().expect("its output is a pipe")).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let record: Json = serde_json::from_str(&line).expect("a line of JSON");
            // Heartbeats are records too.
            if !record["change"].is_null() && tell.send(record).is_err() {
                return;
            }
        }
    });
    // It begins at the end; when it has begun only its first line tells.
    let (mut id, mut first) = (500_000, None);
    wait_for("the first record", Duration::from_secs(60), async || {
        id += 1;
        cluster.server(0).query(&format!("INSERT INTO campus.riders (id, name) VALUES ({id}, 'Eve')")).await;
        first = told.try_recv().ok();
        first.is_some()
    })
    .await;
    let mut next = first.expect("it was just received");
    assert_eq!((&next["change"]["op"], &next["change"]["after"]["name"]), (&"c".into(), &"Eve".into()), "{next}");
    // Then each as it comes.
    loop {
        let shown = next["change"]["after"]["id"].as_u64().expect("an id");
        if shown == id {
            break;
        }
        next = told.recv_timeout(Duration::from_secs(60)).expect("the records after it");
        assert_eq!(next["change"]["after"]["id"], shown + 1, "{next}");
    }
    interrupt(&tail);
    assert_eq!(code(&mut tail).await, Some(130), "as a program that was interrupted");
}
