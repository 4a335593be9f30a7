//! The harness keeps its promises.

use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::harness::{Link, PrivateServer, ServerOptions, TableRows, databases_differ, wait_for};

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

#[tokio::test]
async fn a_difference_is_seen_in_any_type_and_equal_rows_have_one_digest() {
    let (one, other) = tokio::join!(PrivateServer::node(1), PrivateServer::node(2));
    let schema = "CREATE DATABASE campus; CREATE TABLE campus.t (id INT PRIMARY KEY, name VARCHAR(20), raw VARBINARY(9), \
                  price DECIMAL(8,2), ratio FLOAT, at TIMESTAMP(6) NULL, state ENUM('a','b'), bits BIT(9))";
    let row = "(1, 'é ', x'00ff', 1.50, 0.1, '2026-01-02 03:04:05.678901', 'b', b'101')";
    for server in [&one, &other] {
        server
            .query(&format!("{schema}; INSERT INTO campus.t VALUES {row}, (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"))
            .await;
    }
    assert_eq!(databases_differ(&one, &other, "campus").await, None);
    let digest = TableRows::read(&one, "campus", "t").await.digest();
    assert_eq!(digest, TableRows::read(&other, "campus", "t").await.digest());

    let changes = [
        "name = 'é'",
        "name = 'É '",
        "raw = x'00ff00'",
        "price = 1.51",
        "ratio = 0.10000001",
        "at = '2026-01-02 03:04:05.678902'",
        "state = 'a'",
        "bits = 4",
        "name = NULL",
    ];
    for change in changes {
        other.query(&format!("UPDATE campus.t SET {change} WHERE id = 1")).await;
        let difference = databases_differ(&one, &other, "campus").await;
        assert!(difference.is_some_and(|text| text.starts_with("campus.t: 2 rows differ")), "{change} was not seen");
        assert_ne!(digest, TableRows::read(&other, "campus", "t").await.digest(), "{change}");
        other.query(&format!("REPLACE INTO campus.t VALUES {row}")).await;
        assert_eq!(databases_differ(&one, &other, "campus").await, None, "{change} was not put back");
    }
    other.query("DELETE FROM campus.t WHERE id = 2").await;
    assert!(databases_differ(&one, &other, "campus").await.is_some());
}

#[tokio::test]
async fn a_cut_link_carries_nothing_until_it_is_mended() {
    let server = PrivateServer::node(1).await;
    let link = Link::to(server.port()).await;
    let through = mysql_async::OptsBuilder::from_opts(server.admin_opts()).tcp_port(link.port());
    let mut conn = mysql_async::Conn::new(through.clone()).await.expect("the link is up");
    link.cut();
    conn.ping().await.expect_err("the connection was cut");
    mysql_async::Conn::new(through.clone()).await.expect_err("the link is down");
    link.mend();
    let conn = mysql_async::Conn::new(through).await.expect("the link is up again");
    conn.disconnect().await.expect("a session can be ended");
}
