//! `[topic]` with a broker.

use super::super::*;
use super::environment;
use crate::topic::kafka::Mechanism;

const KAFKA: &str = r#"version = 1
cluster = "campus"
[nodes.laptop-a]
database = "mysql://tandem@127.0.0.1:3306/campus"
password_env = "PASSWORD_A"
replica_id = 1101

[topic]
kind = "kafka"
brokers = ["broker.lan:9093", "[::1]"]
tls = true
ca_file = "ca.pem"
sasl = { mechanism = "scram-sha-256", username = "tandem", password_env = "KAFKA_PASSWORD" }
replication = 3
record_bytes_max = "8MiB"
max_offline = "10d"

[tables]
include = ["campus.*"]
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::parse(Path::new("/etc/t.toml"), text, environment(variables))
}

/// The faults of the good file with one text replaced, one line each.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    assert!(KAFKA.contains(old), "the good file has no {old}");
    let faults = parse(&KAFKA.replacen(old, new, 1), &[]).expect_err(new);
    assert_eq!(faults.lines().collect::<Vec<_>>(), expected, "{new}");
}

#[test]
fn a_broker_needs_no_key_of_a_hub_and_its_password_cannot_be_printed() {
    let config = parse(KAFKA, &[("PASSWORD_A", "a"), ("KAFKA_PASSWORD", "geheim")]).unwrap();
    let own = config.own_node(None).unwrap();
    let TopicAccess::Kafka(options) = &own.topics else { panic!("it said Kafka: {:?}", own.topics) };
    assert_eq!(options.brokers, ["broker.lan:9093", "[::1]:9092"]);
    assert_eq!((&*options.cluster, options.replication, options.record_bytes_max), ("campus", Some(3), 8 << 20));
    assert_eq!(options.max_offline, Duration::from_secs(10 * 86_400));
    assert_eq!(options.tls.as_ref().unwrap().authority.as_deref(), Some(Path::new("/etc/ca.pem")));
    let sasl = options.sasl.as_ref().unwrap();
    assert_eq!((sasl.mechanism, sasl.password.expose_secret()), (Mechanism::ScramSha256, "geheim"));
    for text in [format!("{config:?}"), format!("{own:?}"), config.show()] {
        assert!(!text.contains("geheim"), "{text}");
    }
    let shown = config.show();
    let again = parse(&shown, &[]).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
    assert_eq!(again.show(), shown);
    let fault = parse(KAFKA, &[("PASSWORD_A", "a")]).unwrap().own_node(None).unwrap_err().to_string();
    assert!(
        fault.contains("`topic.sasl.password` cannot be had: the environment variable KAFKA_PASSWORD is not set"),
        "{fault}"
    );
}

#[test]
fn what_is_wrong_with_a_broker_is_said_together() {
    check(
        "[\"broker.lan:9093\", \"[::1]\"]",
        "[\"tandem:geheim@broker.lan\", \"kafka:x\"]",
        &[
            "/etc/t.toml line 10: `topic.brokers` holds something else than a host and a port — write each as \"host:9092\"",
            "/etc/t.toml line 10: `topic.brokers` holds \"kafka:x\", which is no host and port — write each as \"host:9092\"",
        ],
    );
    check(
        "[\"broker.lan:9093\", \"[::1]\"]",
        "[]",
        &["/etc/t.toml line 10: `topic.brokers` names no broker — write brokers = [\"broker.campus.lan:9092\"]"],
    );
    check(
        "tls = true\nca_file = \"ca.pem\"\n",
        "",
        &[
            "/etc/t.toml line 10: `topic.brokers` would be sent rows unencrypted — write tls = true, or allow_plaintext = true under [topic] \
           where the network itself is encrypted",
        ],
    );
    check(
        "tls = true",
        "tls = false\nallow_plaintext = true",
        &["/etc/t.toml line 11: `topic.tls` is not true, but there are files for it — write tls = true"],
    );
    check(
        "ca_file = \"ca.pem\"",
        "key_file = \"key.pem\"",
        &["/etc/t.toml line 8: `topic.key_file` stands without `certificate_file` — name both, or neither"],
    );
    check(
        "{ mechanism = \"scram-sha-256\", username = \"tandem\", password_env = \"KAFKA_PASSWORD\" }",
        "{ mechanism = \"GSSAPI\", password = \"geheim\" }",
        &[
            "/etc/t.toml line 13: `topic.sasl.mechanism` cannot be \"GSSAPI\" — use one of SCRAM-SHA-256, SCRAM-SHA-512, PLAIN",
            "/etc/t.toml line 13: `topic.sasl.username` is missing — add `username = \"tandem\"` under [topic.sasl]",
            "/etc/t.toml line 13: `topic.sasl.password_env` is missing — add `password_env = \"KAFKA_PASSWORD\"` under [topic.sasl]",
            "/etc/t.toml line 13: unknown key `topic.sasl.password` — known here: mechanism, username, password_env, password_file",
        ],
    );
    check(
        "\"8MiB\"",
        "\"1KiB\"",
        &["/etc/t.toml line 15: `topic.record_bytes_max` must be from 1MiB to 96MiB — choose a size in this range"],
    );
    check(
        "[tables]",
        "[hub]\nlisten = \"0.0.0.0:7421\"\n[tables]",
        &[
            "/etc/t.toml line 18: there is a [hub], but the topics are kept by Kafka — remove [hub], or write kind = \"hub\" under [topic]",
        ],
    );
    check(
        "kind = \"kafka\"",
        "kind = \"kafka\"\nurl = \"https://x\"",
        &[
            "/etc/t.toml line 10: unknown key `topic.url` — known here: kind, brokers, tls, ca_file, certificate_file, key_file, \
         key_password_env, key_password_file, allow_plaintext, sasl, replication, record_bytes_max, max_offline",
        ],
    );
}
