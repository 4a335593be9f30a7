//! Settings: a TOML file, the same on every node, to a [`Config`] that can only be built valid.
//!
//! Contract: [`Config::load`] judges the whole file and the environment over it, and reports every fault together, with
//! its place, the rule and what to write instead; keys it does not know are faults. It opens nothing but the file.
//! Secrets are references until [`Config::own_node`] resolves those of one node; they cannot be printed.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::apply::DdlPolicies;
pub use crate::apply::Policy;
use crate::change::{Cluster, OriginId, TableFilter, TablePattern};
use crate::topic::hub::{ClientOptions, KeyHash, Trust};
use crate::topic::kafka::{self, KafkaOptions};

mod address;
mod broker;
mod check;
mod cloud;
mod cloud_files;
mod draft;
mod fault;
mod raw;
mod secret;
mod section;
mod show;

pub use address::{DatabaseAddress, TopicUrl};
pub use broker::{Broker, Sasl, Tls};
pub use check::{NAME_FIX, is_name};
pub use cloud::{Cloud, CloudAddress, CloudFeed, Origins};
pub use cloud_files::{Account, Bucket, Files, REGION, STORES, Scheme, Store, StoreChoice, StoreUrl, endpoint_of};
pub use draft::{Draft, DraftHub, DraftNode};
pub use fault::{ConfigFault, Faults, Place};
pub use raw::Environment;
pub use secrecy::{ExposeSecret, SecretString};
pub use secret::SecretSource;

/// A configuration file is a page; what is larger is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The cluster as the file describes it, checked. Every node has the same.
#[derive(Clone, Debug)]
pub struct Config {
    pub file: PathBuf,
    /// First part of the topics' names.
    pub cluster: String,
    pub nodes: BTreeMap<OriginId, Node>,
    pub topic: Topic,
    /// Absent where the topics are kept by a hub with a file of its own.
    pub hub: Option<Hub>,
    pub tables: TableFilter,
    pub conflicts: Conflicts,
    pub web: Web,
    /// Where nodes and hub keep files; each node in a folder of its own.
    pub state_folder: PathBuf,
    /// How often a node compares its rows with the others' by itself; `None` for never.
    pub verify_every: Option<Duration>,
    pub limits: Limits,
    /// What the tailer does with statements that take rows away without telling their keys.
    /// What becomes of other nodes' statements that define tables.
    pub ddl: DdlPolicies,
    /// Clouds that nodes feed.
    pub clouds: Vec<Cloud>,
    /// The process's environment, where secrets may lie.
    surroundings: secret::Surroundings,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub database: DatabaseAddress,
    pub password: SecretSource,
    /// How the tailer registers at the server; unique, never a server_id.
    pub replica_id: u32,
    /// Always there where a hub keeps the topics.
    pub hub_key: Option<SecretSource>,
    /// By which the hub knows the node's key without having it.
    pub hub_key_hash: Option<KeyHash>,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub keeper: TopicKeeper,
    /// How long a node may be away: what the topics keep.
    pub max_offline: Duration,
}

#[derive(Clone, Debug)]
pub enum TopicKeeper {
    Hub(HubAddress),
    Kafka(Broker),
}

/// Where the hub is reached.
#[derive(Clone, Debug)]
pub struct HubAddress {
    pub url: TopicUrl,
    /// Unencrypted although other machines are involved: somebody said so by name.
    pub allow_http: bool,
    pub trust: Trust,
}

/// How one node reaches the topics, with its secrets.
#[derive(Clone, Debug)]
pub enum TopicAccess {
    Hub(ClientOptions),
    Kafka(KafkaOptions),
}

/// The keeper of the topics.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The node whose `tandem run` keeps the topics; `None` where `tandem hub` does.
    pub node: Option<OriginId>,
    pub listen: SocketAddr,
    pub data: PathBuf,
    /// Beyond it the oldest records go before their time.
    pub max_bytes: Option<u64>,
    /// Files of a certificate and its key that somebody gave it; without them it makes its own.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// False where something before it ends TLS.
    pub tls: bool,
}

#[derive(Clone, Debug)]
pub struct Conflicts {
    pub default: Policy,
    /// The first pattern that matches decides; full names come before patterns with `*`.
    pub tables: Vec<(TablePattern, Policy)>,
    /// The column of date and time by which rows are told apart that existed on two nodes.
    pub clocks: Vec<(TablePattern, String)>,
}

#[derive(Clone, Debug)]
pub struct Web {
    pub listen: SocketAddr,
    /// Always there where `listen` is open to other machines.
    pub key: Option<SecretSource>,
    /// Over `https`: with the certificate below, or one of its own.
    pub tls: bool,
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How much is held in memory or done at once.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Rows of one apply transaction, which holds whole transactions of the origin.
    pub group_rows: usize,
    pub group_bytes: usize,
    /// Recent rows that the conflict index keeps in memory before it spills to the state folder.
    pub index_rows: usize,
    /// How far ahead of our clock a commit time may be and still be believed.
    pub max_clock_skew: Duration,
    /// Bytes on the disks of the state folder and of the hub's data below which the doctor warns.
    pub disk_free_min: u64,
}

/// One node of the cluster: the one this process runs, with its secrets resolved.
#[derive(Clone, Debug)]
pub struct OwnNode {
    pub cluster: Cluster,
    pub database: DatabaseAddress,
    pub password: SecretString,
    pub replica_id: u32,
    pub topics: TopicAccess,
    /// This node's own folder in the state folder.
    pub state_folder: PathBuf,
    /// Whether `tandem run` of this node keeps the topics too.
    pub keeps_topics: bool,
}

impl OwnNode {
    pub fn name(&self) -> &OriginId {
        self.cluster.own()
    }
}

impl Config {
    /// Reads and checks a file with the process's own environment over it.
    pub fn load(file: &Path) -> Result<Self, Faults> {
        // Variables that are not text cannot be ours: all our keys take text.
        let environment =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self::parse(file, &read_file(file)?, environment.collect())
    }

    /// As `load`, from a text. `file` is for messages, and relative paths start at its folder.
    pub fn parse(file: &Path, text: &str, environment: Environment) -> Result<Self, Faults> {
        let table = raw::parse(file, text, &environment)?;
        check::check(file, &table, environment)
    }

    /// The node this process is, with its secrets. Without a name, the only node that `TANDEM_NODE` or the file leaves.
    pub fn own_node(&self, name: Option<&str>) -> Result<OwnNode, Faults> {
        let (name, node) = self.named(name)?;
        let mut faults = Vec::new();
        let password = self.resolve(&node.password, &format!("nodes.{name}.password"), &mut faults);
        let topics = self.access(name, node, &mut faults);
        let (Some(password), Some(topics)) = (password, topics) else { return Err(Faults::new(&self.file, faults)) };
        Ok(OwnNode {
            cluster: Cluster::new(self.nodes.keys().cloned(), name).expect("a map has each name once, and this one is in it"),
            database: node.database.clone(),
            password,
            replica_id: node.replica_id,
            topics,
            state_folder: self.state_folder.join(name.as_str()),
            keeps_topics: self.hub.as_ref().is_some_and(|hub| hub.node.as_ref() == Some(name)),
        })
    }

    /// How a node reaches the topics, where nothing else of it is needed. A broker asks all nodes for the same.
    pub fn topic_access(&self, name: Option<&str>) -> Result<TopicAccess, Faults> {
        let (name, node) = match (&self.topic.keeper, name) {
            (TopicKeeper::Kafka(_), None) => self.nodes.first_key_value().ok_or_else(|| {
                Faults::one(&self.file, Place::Nowhere, "there is no node", "add [nodes.laptop-a] with its database")
            })?,
            (_, name) => self.named(name)?,
        };
        let mut faults = Vec::new();
        self.access(name, node, &mut faults).ok_or_else(|| Faults::new(&self.file, faults))
    }

    fn named(&self, name: Option<&str>) -> Result<(&OriginId, &Node), Faults> {
        let names = || self.nodes.keys().map(OriginId::as_str).collect::<Vec<_>>().join(", ");
        let refuse = |rule: String, fix: String| Faults::one(&self.file, Place::Nowhere, rule, fix);
        let name = match name {
            Some(name) => OriginId::new(name),
            None if self.nodes.len() == 1 => self.nodes.keys().next().expect("its length is 1").clone(),
            None => {
                let fix = format!("say it with --node or TANDEM_NODE; the file has {}", names());
                return Err(refuse("it is not said which node this is".into(), fix));
            }
        };
        self.nodes.get_key_value(&name).ok_or_else(|| {
            refuse(format!("there is no node \"{name}\""), format!("use one of {}, or add [nodes.{name}]", names()))
        })
    }

    /// `None` after noting the fault.
    fn resolve(&self, source: &SecretSource, key: &str, faults: &mut Vec<ConfigFault>) -> Option<SecretString> {
        let noted = source.resolve(&self.surroundings).map_err(|why| {
            let rule = format!("the secret of `{key}` cannot be had: {}", why.rule);
            faults.push(ConfigFault { place: Place::Nowhere, rule, fix: why.fix });
        });
        noted.ok()
    }

    fn access(&self, name: &OriginId, node: &Node, faults: &mut Vec<ConfigFault>) -> Option<TopicAccess> {
        let broker = match &self.topic.keeper {
            TopicKeeper::Hub(hub) => {
                let source = node.hub_key.as_ref().expect("a node without a key for the hub is refused");
                let key = self.resolve(source, &format!("nodes.{name}.hub_key"), faults)?;
                return Some(TopicAccess::Hub(ClientOptions { url: hub.url.text.clone(), key, trust: hub.trust.clone() }));
            }
            TopicKeeper::Kafka(broker) => broker,
        };
        let mut options = KafkaOptions::new(broker.brokers.clone(), &self.cluster);
        options.replication = broker.replication;
        options.max_offline = self.topic.max_offline;
        options.record_bytes_max = broker.record_bytes_max;
        if let Some(tls) = &broker.tls {
            let key_password = match &tls.key_password {
                Some(source) => Some(self.resolve(source, "topic.key_password", faults)?),
                None => None,
            };
            options.tls = Some(kafka::Tls {
                authority: tls.ca_file.clone(),
                certificate: tls.certificate_file.clone(),
                key: tls.key_file.clone(),
                key_password,
            });
        }
        if let Some(sasl) = &broker.sasl {
            let password = self.resolve(&sasl.password, "topic.sasl.password", faults)?;
            options.sasl = Some(kafka::Sasl { mechanism: sasl.mechanism, username: sasl.username.clone(), password });
        }
        Some(TopicAccess::Kafka(options))
    }

    /// The key that the web pages and the API ask for, if any.
    pub fn web_key(&self) -> Result<Option<SecretString>, Faults> {
        let Some(source) = &self.web.key else { return Ok(None) };
        source.resolve(&self.surroundings).map(Some).map_err(|why| {
            Faults::one(&self.file, Place::Nowhere, format!("the secret of `web.key` cannot be had: {}", why.rule), why.fix)
        })
    }

    /// The password of any node's database, where this machine has it.
    pub fn node_password(&self, name: &OriginId) -> Option<SecretString> {
        self.nodes.get(name)?.password.resolve(&self.surroundings).ok()
    }

    /// Files that hold secrets of this node, whether they are there or not.
    pub fn secret_files(&self, name: &OriginId) -> Vec<PathBuf> {
        let node = self.nodes.get(name);
        let mut sources: Vec<&SecretSource> = node.map(|node| &node.password).into_iter().collect();
        sources.extend(node.and_then(|node| node.hub_key.as_ref()));
        sources.extend(self.web.key.as_ref());
        let mut keys: Vec<&PathBuf> = self.web.certificate.iter().map(|(_, key)| key).collect();
        if let TopicKeeper::Kafka(broker) = &self.topic.keeper {
            sources.extend(broker.sasl.as_ref().map(|sasl| &sasl.password));
            sources.extend(broker.tls.as_ref().and_then(|tls| tls.key_password.as_ref()));
            keys.extend(broker.tls.as_ref().and_then(|tls| tls.key_file.as_ref()));
        }
        let hub = self.hub.as_ref().filter(|hub| hub.node.as_ref() == Some(name));
        keys.extend(hub.and_then(|hub| hub.certificate.as_ref()).map(|(_, key)| key));
        for cloud in self.clouds.iter().filter(|cloud| cloud.nodes.is_empty() || cloud.nodes.contains(name)) {
            sources.push(&cloud.api.key);
            sources.extend(cloud.encrypt_key.as_ref());
            for store in cloud.files.iter().map(|files| &files.store).chain(&cloud.archive) {
                if let Store::Bucket(bucket) = store {
                    sources.push(&bucket.key);
                }
            }
        }
        let files = sources.into_iter().filter_map(|source| match source {
            SecretSource::File(path) => Some(path),
            SecretSource::Variable(_) => None,
        });
        files.chain(keys).cloned().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// What is in force, secrets hidden, in the form of the file.
    pub fn show(&self) -> String {
        show::show(self)
    }
}

fn read_file(file: &Path) -> Result<String, Faults> {
    let fault = |rule: String, fix: &str| Faults::one(file, Place::Nowhere, rule, fix);
    let refused = |error: std::io::Error| {
        let fix = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name it with --config or TANDEM_CONFIG; docs/configuration.md has one to start from"
            }
            _ => "it must be a file that this user may read",
        };
        fault(format!("cannot read the configuration: {error}"), fix)
    };
    let mut bytes = Vec::new();
    std::fs::File::open(file).and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(refused)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(fault("this file is larger than 1 MiB".into(), "name the configuration file with --config"));
    }
    String::from_utf8(bytes).map_err(|_| fault("this file is not UTF-8 text".into(), "save it as UTF-8"))
}

#[cfg(test)]
mod tests;
