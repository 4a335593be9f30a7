//! The dashboard of a node that has much to show: 10,000 conflicts, 100,000 changes, and writes that go on meanwhile.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, ClusterOptions, wait_for};

const DEADLINE: Duration = Duration::from_secs(180);

const SCHEMA: &str = "CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(80) NOT NULL);";

/// Of a build for tests on a machine that does other things too; a person waits for a page this long without noticing much.
const QUICK: Duration = Duration::from_secs(1);

/// The median of some requests, and the last answer.
async fn timed(client: &reqwest::Client, url: &str) -> (Duration, String) {
    let (mut times, mut body) = (Vec::new(), String::new());
    for _ in 0..9 {
        let began = Instant::now();
        let answer = client.get(url).send().await.expect("the node answers");
        assert_eq!(answer.status(), 200, "{url}");
        body = answer.text().await.expect("the answer is text");
        times.push(began.elapsed());
    }
    times.sort();
    (times[times.len() / 2], body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_conflicts_and_a_hundred_thousand_changes_do_not_make_the_pages_slow() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = Cluster::start(ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA)).await;
    // One conflict as it comes about, and as many like it as a bad year brings.
    cluster.cut(1);
    cluster.server(0).query("SET timestamp = UNIX_TIMESTAMP() - 30; INSERT INTO campus.riders VALUES (0, 'a')").await;
    cluster.server(1).query("INSERT INTO campus.riders VALUES (0, 'b')").await;
    cluster.mend(1);
    let (one, server) = ("SELECT COUNT(*) FROM tandem.conflicts", cluster.server(0).clone());
    wait_for("the conflict", DEADLINE, async || server.first::<u64>(one).await == Some(1)).await;
    let columns: Vec<String> = server
        .rows("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'tandem' AND TABLE_NAME = 'conflicts'")
        .await;
    let copied: Vec<String> = columns.iter().map(|name| format!("`{name}`")).collect();
    let values: Vec<String> =
        copied.iter().map(|name| if name == "`id`" { "CONCAT('c-copy', seq)".into() } else { name.clone() }).collect();
    let (copied, values) = (copied.join(", "), values.join(", "));
    let copies = format!("INSERT INTO tandem.conflicts ({copied}) SELECT {values} FROM tandem.conflicts, tandem.seq_1_to_9999");
    server.query(&copies).await;
    server.query("INSERT INTO campus.riders SELECT seq, CONCAT('rider ', seq) FROM campus.seq_1_to_100000").await;

    let page = cluster.status_page(0);
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client can be made");
    let published = async || {
        let status = cluster.status(0).await?;
        status["tailer"]["published"].as_u64()
    };
    wait_for("all rows in the topic", DEADLINE, async || published().await >= Some(100_001)).await;

    // Somebody goes on writing.
    let writing = tokio::spawn({
        let server = server.clone();
        async move {
            for id in 200_000.. {
                server.query(&format!("INSERT INTO campus.riders VALUES ({id}, 'more')")).await;
            }
        }
    });
    let mut said = String::new();
    for path in [
        "api/status",
        "",
        "conflicts?show=all",
        "conflicts?show=all&page=399",
        "activity",
        "activity?table=riders&key=%3A77777%7D",
        "activity?table=nowhere",
        "tables",
    ] {
        let (took, body) = timed(&client, &format!("{page}{path}")).await;
        said += &format!("/{path}: {} ms, {} KiB\n", took.as_millis(), body.len() / 1024);
        assert!(took < QUICK, "{said}");
        assert!(body.len() < 200 << 10, "{said}");
        match path {
            "conflicts?show=all&page=399" => assert!(!body.contains("Older") && body.contains("Newer"), "the last page"),
            "activity?table=riders&key=%3A77777%7D" => assert!(body.contains("id <code>77777</code>"), "{body}"),
            "activity?table=nowhere" => assert!(body.contains("Nothing was found"), "{body}"),
            _ => {}
        }
    }
    writing.abort();
    println!("{said}");
    drop(writing);
    drop(server);
    cluster.end().await.unwrap();
}
