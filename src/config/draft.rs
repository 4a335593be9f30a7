//! A configuration as `tandem init` writes it: a few answers in, a commented file out.
//!
//! Nothing is judged here: whoever writes the text reads it with [`super::Config::parse`] first.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What differs between clusters. All else keeps its default.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    pub cluster: String,
    /// In the order in which their servers are numbered.
    pub nodes: Vec<DraftNode>,
    pub hub: DraftHub,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftNode {
    pub name: String,
    /// `mysql://user@host:port/schema`
    pub database: String,
    pub replica_id: u32,
    pub hub_key_hash: String,
}

/// The hub, which one of the nodes keeps.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftHub {
    pub node: String,
    pub url: String,
    pub listen: String,
    /// Of the hub's own certificate.
    pub fingerprint: Option<String>,
}

impl Draft {
    /// Where a node's secrets are, beside the configuration file.
    pub fn password_file(node: &str) -> String {
        format!("secrets/{node}.password")
    }

    pub fn hub_key_file(node: &str) -> String {
        format!("secrets/{node}.hub-key")
    }

    /// The file. It holds no secret.
    pub fn text(&self) -> String {
        let mut text = format!(
            "# Tandem's configuration, written by `tandem init`: the same on every node. Which node a process is, it learns from\n\
             # --node or TANDEM_NODE. Check it after a change:  tandem config check\n\
             # docs/configuration.md explains every key.\n\n\
             version = 1\n\
             cluster = {}\n",
            quoted(&self.cluster)
        );
        for node in &self.nodes {
            let _ = write!(
                text,
                "\n# Names stay: a renamed node is another one. The secrets are files on its own machine, beside this file.\n\
                 [nodes.{name}]\n\
                 database = {database}\n\
                 password_file = {password}\n\
                 replica_id = {replica}   # a number that no server_id and no other node has\n\
                 hub_key_file = {key}\n\
                 hub_key_hash = {hash}\n",
                name = node.name,
                database = quoted(&node.database),
                password = quoted(&Self::password_file(&node.name)),
                replica = node.replica_id,
                key = quoted(&Self::hub_key_file(&node.name)),
                hash = quoted(&node.hub_key_hash),
            );
        }
        let _ = write!(text, "\n[topic]\nkind = \"hub\"\nurl = {}   # where all nodes reach the hub\n", quoted(&self.hub.url));
        if let Some(fingerprint) = &self.hub.fingerprint {
            let _ =
                writeln!(text, "# The hub's own certificate: no other is believed. `tandem hub fingerprint` prints it there.");
            let _ = writeln!(text, "fingerprint = {}", quoted(fingerprint));
        }
        let _ = write!(
            text,
            "# max_offline = \"30d\"   # how long a node may be away; older records are dropped\n\n\
             [hub]\n\
             node = {}   # its `tandem run` keeps the topics\n\
             listen = {}\n\n\
             [tables]\n\
             include = {}\n\
             exclude = {}   # sessions, caches and logs belong here\n\n\
             [conflicts]\n\
             # default = \"newest_wins\"   # newest_wins | prefer | manual\n",
            quoted(&self.hub.node),
            quoted(&self.hub.listen),
            list(&self.include),
            list(&self.exclude),
        );
        text
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn draft() -> Draft {
        let node = |name: &str, number: u32| DraftNode {
            name: name.into(),
            database: "mysql://tandem@127.0.0.1:3306/campus".into(),
            replica_id: 1100 + number,
            hub_key_hash: format!("blake3:{}", number.to_string().repeat(64)),
        };
        Draft {
            cluster: "campus".into(),
            nodes: vec![node("laptop-a", 1), node("laptop-b", 2)],
            hub: DraftHub {
                node: "laptop-a".into(),
                url: "https://192.168.1.101:7421".into(),
                listen: "0.0.0.0:7421".into(),
                fingerprint: Some(format!("sha256:{}", "ab".repeat(32))),
            },
            include: vec!["campus.*".into()],
            exclude: vec!["campus.sessions".into()],
        }
    }

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        let config = Config::parse(Path::new("tandem.toml"), &draft().text(), Default::default());
        let config = config.unwrap_or_else(|faults| panic!("{:?}", faults.lines().collect::<Vec<_>>()));
        assert_eq!(config.cluster, "campus");
        assert_eq!(config.nodes.len(), 2);
        assert_eq!(config.hub.as_ref().and_then(|hub| hub.node.as_ref()).map(|name| name.as_str()), Some("laptop-a"));
        assert_eq!(config.tables.exclude.len(), 1);
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        let strange = "a\"b\\c\nd\u{7f}é";
        let text = format!("x = {}", quoted(strange));
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["x"].as_str(), Some(strange));
        let mut bad = draft();
        bad.cluster = "c\"\nversion = 2".into();
        assert!(Config::parse(Path::new("t"), &bad.text(), Default::default()).is_err());
    }
}
