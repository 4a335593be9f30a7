//! A broker that is set in ways that only show when it is too late: addresses that lead nowhere, topics that forget too soon
//! or take too little.

use std::fs;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::bench::{Found, Row, found};
use super::rows::BROKER;
use crate::harness::{BrokerOptions, NodeOptions, PrivateBroker, PrivateServer, broker_or_say, free_port};

struct Place {
    options: NodeOptions,
    _folder: tempfile::TempDir,
    _server: PrivateServer,
}

impl Place {
    async fn new(broker: &PrivateBroker) -> Self {
        let server = PrivateServer::node(1).await;
        server.query("CREATE DATABASE campus; CREATE TABLE campus.riders (id INT PRIMARY KEY)").await;
        let folder = tempfile::tempdir().expect("a temporary directory can be made");
        let config = format!(
            "version = 1\ncluster = \"campus\"\n[nodes.laptop-a]\ndatabase = \"{}/campus\"\npassword_env = \"NODE_PASSWORD\"\n\
             replica_id = 1101\n[topic]\nkind = \"kafka\"\nbrokers = [\"{}\"]\n[tables]\ninclude = [\"campus.*\"]\n[web]\nlisten = \
             \"127.0.0.1:{}\"\n",
            server.url(),
            broker.address(),
            free_port()
        );
        fs::write(folder.path().join("tandem.toml"), config).expect("the folder can be written to");
        let options =
            NodeOptions::new("doctor", env!("CARGO_BIN_EXE_tandem"), folder.path()).env("NODE_PASSWORD", server.password());
        Self { options, _folder: folder, _server: server }
    }

    async fn findings(&self) -> Vec<Found> {
        let options = self.options.clone();
        let said = tokio::task::spawn_blocking(move || options.run_once(&["doctor", "--json"])).await.expect("it ends");
        let all = found(&said.stdout, &said.stderr).into_iter();
        all.filter(|found| found.level != "good" && found.code.starts_with("TOPIC")).collect()
    }

    async fn finds(&self, row: &Row) -> Found {
        let all = self.findings().await;
        let says = |found: &&Found| row.words.iter().all(|word| found.what.contains(word) || found.remedy.contains(word));
        let hit = all.iter().filter(|found| found.code == row.code && found.level == row.level).find(says);
        hit.unwrap_or_else(|| panic!("{}: {all:?}", row.code)).clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_set_wrongly_is_found_and_mended_as_printed() {
    let [address, retention, size] = BROKER else { panic!("three ways") };
    let elsewhere = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{}", free_port());
    let Some(mut broker) = broker_or_say(BrokerOptions { settings: vec![elsewhere], ..BrokerOptions::default() }).await else {
        return;
    };
    let place = Place::new(&broker).await;
    place.finds(address).await;
    // "let the broker advertise an address that this machine reaches": the one at which it listens.
    broker.restart_with(Vec::new()).await;
    assert_eq!(place.findings().await, []);

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker.address()).create().expect("a client");
    let topic = NewTopic::new("campus.laptop-a", 1, TopicReplication::Fixed(1)).set("retention.ms", "3600000");
    let made = admin.create_topics([&topic.set("max.message.bytes", "1048588")], &AdminOptions::new()).await;
    assert!(made.expect("the broker answers").iter().all(Result::is_ok));
    for row in [retention, size] {
        let remedy = place.finds(row).await.remedy;
        let (_, setting) = remedy.split_once("on the topic campus.laptop-a set ").expect("it says what to set");
        let (name, value) = setting.split(", or").next().and_then(|setting| setting.split_once('=')).expect("a setting");
        // All settings of the topic are given anew each time.
        let mut change = AlterConfig::new(ResourceSpecifier::Topic("campus.laptop-a")).set(name, value);
        if name != "retention.ms" {
            change = change.set("retention.ms", "2592000000");
        } else {
            change = change.set("max.message.bytes", "1048588");
        }
        let changed = admin.alter_configs([&change], &AdminOptions::new()).await.expect("the broker answers");
        assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    }
    assert_eq!(place.findings().await, []);
}
