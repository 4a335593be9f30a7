//! The harness keeps its promises.

use std::time::Duration;

use crate::harness::{PrivateServer, ServerOptions, wait_for};

#[tokio::test]
async fn a_server_comes_back_with_its_data_on_the_same_port() {
    let mut server = PrivateServer::node(7).await;
    server.query("CREATE DATABASE campus; CREATE TABLE campus.t (id INT AUTO_INCREMENT PRIMARY KEY, name TEXT)").await;
    assert_eq!(server.sql_client("INSERT INTO campus.t (name) VALUES ('Zoë'); SELECT id, name FROM campus.t"), "7\tZoë\n");

    let port = server.port();
    server.kill9();
    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(server.first::<(u32, String)>("SELECT id, name FROM campus.t").await, Some((7, "Zoë".into())));

    let status = server.stop().await.expect("it was running");
    assert!(status.success(), "{status}");
    server.restart().await;
    assert_eq!(server.first::<u32>("SELECT COUNT(*) FROM campus.t").await, Some(1));
}

#[tokio::test]
async fn a_server_writes_rows_with_metadata_and_its_accounts_stay_out_of_the_binlog() {
    let server = PrivateServer::start(ServerOptions::node(3).arg("--binlog-row-image=MINIMAL")).await;
    let settings = server
        .first::<(String, String, String, u32, u32, String)>(
            "SELECT @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@server_id, @@gtid_domain_id, @@gtid_binlog_pos",
        )
        .await;
    let expected = ("ROW".into(), "MINIMAL".into(), "FULL".into(), 3, 3, String::new());
    assert_eq!(settings, Some(expected), "the last argument wins, and a fresh server has no history");

    let account = mysql_async::Conn::new(server.account_opts()).await.expect("the node's account can log in");
    account.disconnect().await.expect("and leave");
}

#[tokio::test]
async fn a_dropped_server_is_gone_with_its_directory() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let (id, dir) = (server.process_id().expect("it runs"), server.dir().to_owned());
    drop(server);
    assert!(!dir.exists(), "{} is left", dir.display());
    let process = std::path::PathBuf::from(format!("/proc/{id}"));
    wait_for("the process to be gone", Duration::from_secs(5), async || !process.exists()).await;
}
