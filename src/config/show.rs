//! What is in force, in the form of the file: defaults filled in, secrets as the names they are.

use std::fmt::Write;

use crate::apply::Policy;
use crate::change::TablePattern;
use crate::topic::hub::Trust;

use super::section::{show_bytes, show_duration};
use super::{Broker, Config, Conflicts, OriginId, SecretSource, TopicKeeper};

pub fn show(config: &Config) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line("version = 1".into());
    line(format!("cluster = {}", quote(&config.cluster)));
    for (name, node) in &config.nodes {
        line(format!("\n[nodes.{name}]"));
        line(format!("database = {}", quote(&node.database.to_string())));
        line(secret("password", &node.password));
        line(format!("replica_id = {}", node.replica_id));
        if let Some(key) = &node.hub_key {
            line(secret("hub_key", key));
        }
        if let Some(hash) = node.hub_key_hash {
            line(format!("hub_key_hash = {}", quote(&hash.to_string())));
        }
    }
    line("\n[topic]".into());
    match &config.topic.keeper {
        TopicKeeper::Hub(hub) => {
            line("kind = \"hub\"".into());
            line(format!("url = {}", quote(&hub.url.text)));
            line(format!("allow_http = {}", hub.allow_http));
            match &hub.trust {
                Trust::System => {}
                Trust::Authority(file) => line(format!("ca = {}", quote(&file.display().to_string()))),
                Trust::Pinned(fingerprint) => line(format!("fingerprint = {}", quote(&fingerprint.to_string()))),
            }
        }
        TopicKeeper::Kafka(kafka) => broker(kafka).into_iter().for_each(&mut line),
    }
    line(format!("max_offline = {}", quote(&show_duration(config.topic.max_offline))));
    if let Some(hub) = &config.hub {
        line("\n[hub]".into());
        if let Some(node) = &hub.node {
            line(format!("node = {}", quote(node.as_str())));
        }
        line(format!("listen = {}", quote(&hub.listen.to_string())));
        line(format!("data = {}", quote(&hub.data.display().to_string())));
        if let Some((certificate, key)) = &hub.certificate {
            line(format!("certificate = {}", quote(&certificate.display().to_string())));
            line(format!("certificate_key = {}", quote(&key.display().to_string())));
        }
        line(format!("tls = {}", hub.tls));
        if let Some(bytes) = hub.max_bytes {
            line(format!("max_bytes = {}", quote(&show_bytes(bytes))));
        }
    }
    line("\n[tables]".into());
    line(format!("include = {}", list(config.tables.include.iter().map(ToString::to_string))));
    line(format!("exclude = {}", list(config.tables.exclude.iter().map(ToString::to_string))));
    line("\n[conflicts]".into());
    line(policy("default", &config.conflicts.default).join("\n"));
    let Conflicts { tables, clocks, .. } = &config.conflicts;
    if !tables.is_empty() || !clocks.is_empty() {
        line("[conflicts.tables]".into());
    }
    let named = |of: &TablePattern| clocks.iter().find(|(pattern, _)| pattern == of).map(|(_, column)| column);
    for (pattern, table_policy) in tables {
        let mut parts = policy("policy", table_policy);
        parts.extend(named(pattern).map(|column| format!("clock = {}", quote(column))));
        line(format!("{} = {{ {} }}", quote(&pattern.to_string()), parts.join(", ")));
    }
    for (pattern, column) in clocks.iter().filter(|(pattern, _)| !tables.iter().any(|(own, _)| own == pattern)) {
        line(format!("{} = {{ clock = {} }}", quote(&pattern.to_string()), quote(column)));
    }
    line("\n[web]".into());
    line(format!("listen = {}", quote(&config.web.listen.to_string())));
    if let Some(key) = &config.web.key {
        line(secret("key", key));
    }
    if let Some((certificate, key)) = &config.web.certificate {
        line(format!("certificate = {}", quote(&certificate.display().to_string())));
        line(format!("certificate_key = {}", quote(&key.display().to_string())));
    }
    line(format!("tls = {}", config.web.tls));
    line("\n[state]".into());
    line(format!("folder = {}", quote(&config.state_folder.display().to_string())));
    line("\n[verify]".into());
    match config.verify_every {
        Some(every) => line(format!("every = {}", quote(&show_duration(every)))),
        None => line("scheduled = false".into()),
    }
    line("\n[ddl]".into());
    for (class, policy) in [("safe", config.ddl.safe), ("dangerous", config.ddl.dangerous)] {
        line(format!("{class} = {}", quote(policy.word())));
    }
    line("\n[limits]".into());
    line(format!("group_rows = {}", config.limits.group_rows));
    line(format!("group_bytes = {}", quote(&show_bytes(config.limits.group_bytes as u64))));
    line(format!("index_rows = {}", config.limits.index_rows));
    line(format!("max_clock_skew = {}", quote(&show_duration(config.limits.max_clock_skew))));
    line(format!("disk_free_min = {}", quote(&show_bytes(config.limits.disk_free_min))));
    config.clouds.iter().flat_map(|cloud| super::cloud::show(cloud, quote, secret)).for_each(line);
    out
}

fn broker(broker: &Broker) -> Vec<String> {
    let mut lines = vec!["kind = \"kafka\"".to_owned(), format!("brokers = {}", list(broker.brokers.iter().cloned()))];
    lines.push(format!("tls = {}", broker.tls.is_some()));
    if let Some(tls) = &broker.tls {
        let files = [("ca_file", &tls.ca_file), ("certificate_file", &tls.certificate_file), ("key_file", &tls.key_file)];
        for (key, file) in files {
            lines.extend(file.as_ref().map(|file| format!("{key} = {}", quote(&file.display().to_string()))));
        }
        lines.extend(tls.key_password.as_ref().map(|source| secret("key_password", source)));
    }
    lines.push(format!("allow_plaintext = {}", broker.allow_plaintext));
    if let Some(sasl) = &broker.sasl {
        let (mechanism, username) = (quote(sasl.mechanism.name()), quote(&sasl.username));
        let password = secret("password", &sasl.password);
        lines.push(format!("sasl = {{ mechanism = {mechanism}, username = {username}, {password} }}"));
    }
    lines.extend(broker.replication.map(|copies| format!("replication = {copies}")));
    lines.push(format!("record_bytes_max = {}", quote(&show_bytes(broker.record_bytes_max as u64))));
    lines
}

fn secret(key: &str, source: &SecretSource) -> String {
    match source {
        SecretSource::Variable(name) => format!("{key}_env = {}", quote(name)),
        SecretSource::File(path) => format!("{key}_file = {}", quote(&path.display().to_string())),
    }
}

fn policy(key: &str, policy: &Policy) -> Vec<String> {
    match policy {
        Policy::NewestWins => vec![format!("{key} = \"newest_wins\"")],
        Policy::Manual => vec![format!("{key} = \"manual\"")],
        Policy::Prefer(nodes) => {
            let nodes = list(nodes.iter().map(OriginId::to_string));
            vec![format!("{key} = \"prefer\""), format!("prefer = {nodes}")]
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|item| quote(&item)).collect::<Vec<_>>().join(", "))
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
