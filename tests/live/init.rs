//! `tandem init` on two laptops: with nothing but what it wrote, two servers are set up, and rows cross in both directions.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::harness::{Node, NodeOptions, PrivateServer, ServerOptions, free_port, status, wait_for};

const WITHIN: Duration = Duration::from_secs(60);
const NAMES: [&str; 2] = ["laptop-a", "laptop-b"];

/// The lines under `[mysqld]` as arguments for mariadbd.
fn arguments(settings: &str) -> Vec<String> {
    let lines = settings.lines().filter(|line| !line.starts_with(['#', '[']));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| format!("--{}={}", key.trim(), value.trim())).collect()
}

/// A server as it comes, without anything that Tandem needs, and the application's table.
async fn bare_server() -> PrivateServer {
    let options = ServerOptions { log_bin: false, grants: Vec::new(), ..ServerOptions::default() };
    let server = PrivateServer::start(options).await;
    server.query("DROP USER IF EXISTS tandem@'%'; CREATE DATABASE my_campus").await;
    server.query("CREATE TABLE my_campus.riders (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40))").await;
    server
}

fn tandem(folder: &Path, name: &str, web: u16) -> NodeOptions {
    NodeOptions::new(name, env!("CARGO_BIN_EXE_tandem"), folder)
        .args(["run", "--node", name])
        .env("TANDEM__WEB__LISTEN", format!("127.0.0.1:{web}"))
}

fn said(options: &NodeOptions, args: &[&str]) -> String {
    let output = options.run_once(args);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "tandem {args:?}: {text}");
    text
}

/// What the person does that was told to: the lines for MariaDB, the account, and a look by the doctor.
async fn set_up(server: &mut PrivateServer, node: &NodeOptions) {
    let read = |file: String| fs::read_to_string(node.dir.join(file)).expect("init wrote it");
    let settings = arguments(&read(format!("{}.mariadb.cnf", node.name)));
    assert!(settings.len() > 10, "{settings:?}");
    server.restart_with(&settings.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // The harness makes an account of this name at each start, with no rights; the SQL must set it right.
    server.query("DROP USER IF EXISTS tandem@'%'").await;
    server.sql_client(&read(format!("{}.account.sql", node.name)));
    said(node, &["config", "check", "--node", &node.name]);
    let found = node.run_once(&["doctor", "--node", &node.name]);
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    let bad: Vec<&str> = found.lines().filter(|line| line.contains("FAIL") && !line.contains("TOPIC")).collect();
    assert!(bad.is_empty() && found.contains("ok    DB-GRANTS"), "{found}");
    let warned: Vec<&str> = found.lines().filter(|line| line.contains("WARN") && !line.contains("TOPIC")).collect();
    assert!(warned.is_empty(), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_laptops_that_init_set_up_keep_each_other_the_same() {
    let mut servers = [bare_server().await, bare_server().await];
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let webs = [free_port(), free_port()];
    let nodes: Vec<NodeOptions> = (0..2).map(|site| tandem(folders[site].path(), NAMES[site], webs[site])).collect();
    let database = |server: &PrivateServer| format!("mysql://tandem@127.0.0.1:{}/my_campus", server.port());

    let hub = format!("127.0.0.1:{}", free_port());
    let of_a = database(&servers[0]);
    said(&nodes[0], &["init", "--node", "laptop-a", "--peer", "laptop-b", "--database", &of_a, "--hub", &hub]);
    let invitation = folders[0].path().join("laptop-b.invitation");
    let of_b = database(&servers[1]);
    said(&nodes[1], &["init", "--join", invitation.to_str().unwrap(), "--database", &of_b]);

    for (server, node) in servers.iter_mut().zip(&nodes) {
        set_up(server, node).await;
    }
    let mut running: Vec<Node> = nodes.iter().map(|node| Node::start(node.clone())).collect();
    for &web in &webs {
        let reading = async || status(web).await.is_some_and(|status| status["tailer"]["connected"] == true);
        wait_for("the node to read its binlog", WITHIN, reading).await;
    }
    let servers = servers.map(Arc::new);
    for (server, name) in servers.iter().zip(["ann", "bob"]) {
        server.query(&format!("INSERT INTO my_campus.riders (name) VALUES ('{name}')")).await;
    }
    let rows = "SELECT id, name FROM my_campus.riders ORDER BY id";
    for server in &servers {
        let both = async || server.rows::<(u32, String)>(rows).await == [(1, "ann".to_owned()), (2, "bob".to_owned())];
        wait_for("both rows on both laptops", WITHIN, both).await;
    }
    for (node, options) in running.iter().zip(&nodes) {
        let found = options.run_once(&["doctor", "--node", node.name()]);
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(found.status.success() && text.contains("everything is as it should be"), "{text}");
    }
    for node in &mut running {
        assert!(node.terminate().await.success(), "{}", node.log_text());
    }
}
