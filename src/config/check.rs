//! What each key means and which values it may have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::apply::{DdlPolicies, DdlPolicy, Policy};
use crate::change::{OriginId, TableFilter, TablePattern};
use crate::topic::hub::{KeyHash, Trust};
use crate::topic::kafka;

use super::broker::broker;
use super::cloud::clouds;
use super::fault::{Faults, Place};
use super::raw::{Environment, Table, Value};
use super::secret::surroundings;
use super::section::{Complaints, Section, Spot};
use super::{
    Config, Conflicts, DatabaseAddress, Hub, HubAddress, Limits, Node, SecretSource, Topic, TopicKeeper, TopicUrl, Web,
};

/// The only version of the file there is.
const VERSION: u64 = 1;

const DAY: Duration = Duration::from_secs(86_400);

pub fn check(file: &Path, table: &Table, environment: Environment) -> Result<Config, Faults> {
    // Made absolute, so that what `config show` prints means the same from anywhere.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = whole.parent().unwrap_or(Path::new("")).to_owned();
    let complaints = Complaints::default();
    let mut top = Section::top(table, &complaints);

    match top.number("version", 0..=u64::MAX) {
        Some(spot) if spot.value != VERSION => {
            top.refuse(
                &spot.place,
                "version",
                &format!("is {}, which this tandem does not know", spot.value),
                "write version = 1",
            );
        }
        Some(_) => {}
        None if !top.has("version") => top.missing("version", "version = 1"),
        None => {}
    }
    let cluster = cluster(&mut top);
    let topics = top.section("topic");
    let kind = Kind::of(&topics);
    let nodes = nodes(top.section("nodes"), kind, &folder, &complaints);
    let topic = topic(topics, kind, &folder);
    let state_folder = state_folder(top.section("state"), &folder);
    let hub = hub(top.section("hub"), kind, &nodes, &folder, &state_folder, &complaints);
    let tables = tables(top.section("tables"));
    let conflicts = conflicts(top.section("conflicts"), &nodes, &complaints);
    let web = web(top.section("web"), &folder);
    let limits = limits(top.section("limits"));
    let verify_every = verify_every(top.section("verify"));
    let ddl = ddl(top.section("ddl"));
    let clouds = clouds(top.section("cloud"), &nodes, &folder, &complaints);
    top.finish();

    let faults = complaints.into_list();
    match (cluster, topic, hub, web) {
        (Some(cluster), Some(topic), Ok(hub), Some(web)) if faults.is_empty() => Ok(Config {
            file: file.to_owned(),
            cluster,
            nodes: nodes.into_iter().filter_map(|(name, node)| Some((name, node?))).collect(),
            topic,
            hub,
            tables,
            conflicts,
            web,
            state_folder,
            verify_every,
            limits,
            ddl,
            clouds,
            surroundings: surroundings(environment),
        }),
        _ => Err(Faults::new(file, faults)),
    }
}

/// Names stand in topics, URLs, folders and metrics, so they keep to what all of these take.
pub fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

pub const NAME_FIX: &str = "use 1 to 63 letters a-z, digits, - and _";

fn cluster(top: &mut Section) -> Option<String> {
    let Some(spot) = top.text("cluster") else {
        if !top.has("cluster") {
            top.missing("cluster", "cluster = \"campus\"");
        }
        return None;
    };
    if is_name(&spot.value) {
        return Some(spot.value);
    }
    top.refuse(&spot.place, "cluster", &format!("cannot be \"{}\"", spot.value), NAME_FIX);
    None
}

/// `None` for a node that is there but at fault, so that others may still name it.
type Nodes = BTreeMap<OriginId, Option<Node>>;

fn nodes(section: Section, kind: Kind, folder: &Path, complaints: &Complaints) -> Nodes {
    let mut nodes = Nodes::new();
    let mut replica_ids: BTreeMap<u32, String> = BTreeMap::new();
    let mut hashes: Vec<(KeyHash, String)> = Vec::new();
    for (name, raw) in section.entries() {
        let mut section = Section::of(section.full(name), raw, complaints);
        if !is_name(name) {
            complaints.add(&raw.place, format!("a node cannot be called \"{name}\""), NAME_FIX);
        }
        // Folders and variables of some systems know no difference between cases.
        if let Some(other) = nodes.keys().find(|other| other.as_str().eq_ignore_ascii_case(name)) {
            complaints.add(
                &raw.place,
                format!("\"{name}\" and \"{other}\" differ in case only"),
                "give one of them another name",
            );
        }
        let node = section.is_present().then(|| node(&mut section, kind, folder)).flatten();
        if let Some((node, replica_id)) = &node {
            if let Some(other) = replica_ids.insert(node.replica_id, name.to_owned()) {
                let rule = format!("is {}, as for {other}", node.replica_id);
                section.refuse(replica_id, "replica_id", &rule, "give every node a number of its own");
            }
            if let Some(hash) = node.hub_key_hash {
                match hashes.iter().find(|(known, _)| known.matches(&hash)) {
                    Some((_, other)) => {
                        let rule = format!("is the same as for {other}");
                        section.refuse(&raw.place, "hub_key_hash", &rule, "give every node a key of its own: `tandem hub key`");
                    }
                    None => hashes.push((hash, name.to_owned())),
                }
            }
        }
        section.finish();
        nodes.insert(OriginId::new(name), node.map(|(node, _)| node));
    }
    if nodes.is_empty() {
        complaints.add(&section.place, "there is no node", "add a section [nodes.laptop-a] for each laptop or site");
    }
    nodes
}

fn node(section: &mut Section, kind: Kind, folder: &Path) -> Option<(Node, Place)> {
    let database = required(section, "database", "database = \"mysql://tandem@127.0.0.1:3306/campus\"").and_then(|spot| {
        DatabaseAddress::parse(&spot.value).map_err(|(rule, fix)| section.refuse(&spot.place, "database", &rule, fix)).ok()
    });
    let password = secret(section, folder, ["password_env", "password_file"], "password_env = \"TANDEM_PASSWORD\"");
    // The server takes 32 bits; 0 would mean "not a replica".
    let replica_id = section.number("replica_id", 1..=u64::from(u32::MAX));
    if replica_id.is_none() && !section.has("replica_id") {
        section.missing("replica_id", "replica_id = 1101");
    }
    let names = ["hub_key_env", "hub_key_file"];
    let hub_key = match kind {
        Kind::Hub => secret(section, folder, names, "hub_key_env = \"TANDEM_HUB_KEY\"").map(Some),
        // A file may keep it for the day when it goes back to the hub.
        Kind::Kafka => Some(secret_or_none(section, folder, names)),
    };
    let hash = section.text("hub_key_hash");
    let hub_key_hash = hash.as_ref().and_then(|spot| spot.value.parse::<KeyHash>().ok());
    if let (Some(spot), None) = (&hash, hub_key_hash) {
        let fix = "`tandem hub key` makes a key and its hash";
        section.refuse(&spot.place, "hub_key_hash", "must be blake3: and 64 hexadecimal digits", fix);
        return None;
    }
    let replica_id = replica_id?;
    let node =
        Node { database: database?, password: password?, replica_id: replica_id.value as u32, hub_key: hub_key?, hub_key_hash };
    Some((node, replica_id.place))
}

/// Who keeps the topics: the hub where nothing is said, or what is said is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hub,
    Kafka,
}

impl Kind {
    fn of(topic: &Section) -> Self {
        let said = topic.entries().find(|(name, _)| *name == "kind").map(|(_, node)| &node.value);
        match said {
            Some(Value::Text(kind) | Value::Loose(kind)) if kind == "kafka" => Self::Kafka,
            _ => Self::Hub,
        }
    }
}

fn topic(mut section: Section, kind: Kind, folder: &Path) -> Option<Topic> {
    if let Some(spot) = section.text("kind")
        && let Some((rule, fix)) = refused_kind(&spot.value, kafka::BUILT_IN)
    {
        section.refuse(&spot.place, "kind", &rule, fix);
    }
    let keeper = match kind {
        Kind::Hub => hub_address(&mut section, folder).map(TopicKeeper::Hub),
        Kind::Kafka => broker(&mut section, folder).map(TopicKeeper::Kafka),
    };
    let max_offline = section.duration("max_offline", DAY / 24..=DAY * 3650).unwrap_or(DAY * 30);
    section.finish();
    Some(Topic { keeper: keeper?, max_offline })
}

/// Why nothing of this kind can keep the topics, and what to do.
pub(super) fn refused_kind(kind: &str, kafka_built_in: bool) -> Option<(String, &'static str)> {
    match kind {
        "hub" => None,
        "kafka" if kafka_built_in => None,
        "kafka" => Some((
            "is \"kafka\", and this program was built without the Kafka client".into(),
            "build it with the client (cargo build --features kafka), or write kind = \"hub\" and have a hub keep the topics",
        )),
        other => Some((format!("cannot be \"{other}\""), "use kind = \"hub\" or kind = \"kafka\"")),
    }
}

fn hub_address(section: &mut Section, folder: &Path) -> Option<HubAddress> {
    let allow_http = section.flag("allow_http").is_some_and(|spot| spot.value);
    let url = required(section, "url", "url = \"https://192.168.1.101:7421\"").and_then(|spot| {
        let url = TopicUrl::parse(&spot.value).map_err(|(rule, fix)| section.refuse(&spot.place, "url", &rule, fix)).ok()?;
        if !url.encrypted && !url.is_loopback() && !allow_http {
            let fix = "use https://, or write allow_http = true under [topic] where the network itself is encrypted";
            section.refuse(&spot.place, "url", "would send keys and rows unencrypted", fix);
        }
        Some(url)
    });
    let trust = trust(section, folder);
    Some(HubAddress { url: url?, allow_http, trust })
}

fn trust(section: &mut Section, folder: &Path) -> Trust {
    let ca = section.text("ca").map(|spot| folder.join(spot.value));
    let Some(spot) = section.text("fingerprint") else { return ca.map_or(Trust::System, Trust::Authority) };
    if ca.is_some() {
        section.refuse(&spot.place, "fingerprint", "and `ca` are both given", "keep the one by which the hub is to be known");
    }
    match spot.value.parse() {
        Ok(fingerprint) => Trust::Pinned(fingerprint),
        Err(_) => {
            let fix = "write what `tandem hub fingerprint` prints on the hub's machine";
            section.refuse(&spot.place, "fingerprint", "must be sha256: and 64 hexadecimal digits", fix);
            Trust::System
        }
    }
}

fn hub(
    mut section: Section,
    kind: Kind,
    nodes: &Nodes,
    folder: &Path,
    state: &Path,
    complaints: &Complaints,
) -> Result<Option<Hub>, ()> {
    if !section.is_present() {
        return Ok(None);
    }
    if kind == Kind::Kafka {
        let fix = "remove [hub], or write kind = \"hub\" under [topic]";
        complaints.add(&section.place, "there is a [hub], but the topics are kept by Kafka", fix);
        return Err(());
    }
    let node = section.text("node").and_then(|spot| known_node(&section, "node", &spot, nodes));
    let listen = listen(&mut section);
    if listen.is_none() && !section.has("listen") {
        section.missing("listen", "listen = \"0.0.0.0:7421\"");
    }
    let data = section.text("data").map_or_else(|| state.join("hub"), |spot| folder.join(spot.value));
    // Less would not hold what one node may append at once.
    let max_bytes = section.bytes("max_bytes", 256 << 20..=1 << 50);
    let certificate = certificate(&mut section, folder, ["certificate = \"hub.pem\"", "certificate_key = \"hub.key\""]);
    let tls = section.flag("tls").is_none_or(|spot| spot.value);
    for (name, node) in nodes {
        if node.as_ref().is_some_and(|node| node.hub_key_hash.is_none()) {
            let fix = "add hub_key_hash = \"blake3:…\"; `tandem hub key` makes a key and its hash";
            complaints.add(
                &section.place,
                format!("the hub could not know {name}: `nodes.{name}.hub_key_hash` is missing"),
                fix,
            );
        }
    }
    section.finish();
    let listen = listen.ok_or(())?.value;
    Ok(Some(Hub { node, listen, data, max_bytes, certificate, tls }))
}

fn state_folder(mut section: Section, folder: &Path) -> PathBuf {
    let given = section.text("folder");
    section.finish();
    given.map_or_else(|| folder.join("tandem-state"), |spot| folder.join(spot.value))
}

fn tables(mut section: Section) -> TableFilter {
    let include = patterns(&mut section, "include");
    if include.is_none() {
        section.missing("include", "include = [\"campus.*\"]");
    }
    let exclude = patterns(&mut section, "exclude").unwrap_or_default();
    section.finish();
    TableFilter { include: include.unwrap_or_default(), exclude }
}

fn patterns(section: &mut Section, name: &'static str) -> Option<Vec<TablePattern>> {
    let list = section.texts(name)?;
    if name == "include" && list.value.is_empty() {
        section.refuse(&list.place, name, "is empty, so no table would be synced", "name tables, for example [\"campus.*\"]");
    }
    Some(list.value.iter().filter_map(|spot| pattern(section, name, spot)).collect())
}

pub(super) fn pattern(section: &Section, name: &str, spot: &Spot<String>) -> Option<TablePattern> {
    let pattern = TablePattern::parse(&spot.value);
    if pattern.is_none() {
        let rule = format!("holds \"{}\", which is not database.table", spot.value);
        section.refuse(&spot.place, name, &rule, "write both parts; * stands for any letters, for example \"campus.*\"");
    }
    pattern
}

fn conflicts(mut section: Section, nodes: &Nodes, complaints: &Complaints) -> Conflicts {
    let prefer = section.texts("prefer");
    let default = section.text("default");
    let default = policy(&section, "default", default, prefer, nodes).unwrap_or(Policy::NewestWins);
    let inner = section.section("tables");
    let (mut tables, mut clocks) = (Vec::new(), Vec::new());
    for (name, raw) in inner.entries() {
        let spot = Spot { value: name.to_owned(), place: raw.place.clone() };
        let pattern = pattern(&section, "tables", &spot);
        let mut entry = Section::of(inner.full(name), raw, complaints);
        let prefer = entry.texts("prefer");
        let word = entry.text("policy");
        let clock = entry.text("clock").map(|spot| spot.value);
        clocks.extend(pattern.clone().zip(clock.clone()));
        if clock.is_none() && word.is_none() && prefer.is_none() && matches!(raw.value, Value::Table(_)) && !entry.has("policy")
        {
            entry.missing("policy", "policy = \"manual\"");
        }
        let policy = policy(&entry, "policy", word, prefer, nodes);
        entry.finish();
        tables.extend(pattern.zip(policy));
    }
    section.finish();
    // A full name says more than a pattern, wherever it stands; patterns decide in the order of the file.
    tables.sort_by_key(|(pattern, _)| pattern.to_string().contains('*'));
    clocks.sort_by_key(|(pattern, _)| pattern.to_string().contains('*'));
    Conflicts { default, tables, clocks }
}

fn policy(
    section: &Section,
    key: &str,
    word: Option<Spot<String>>,
    prefer: Option<Spot<Vec<Spot<String>>>>,
    nodes: &Nodes,
) -> Option<Policy> {
    let fix = "use newest_wins, prefer or manual";
    let list = prefer.as_ref().map(|list| {
        let known = list.value.iter().filter_map(|spot| known_node(section, "prefer", spot, nodes));
        known.collect::<Vec<_>>()
    });
    match (word.as_ref().map(|spot| (spot.value.as_str(), &spot.place)), list) {
        (Some(("prefer", _)) | None, Some(nodes)) if !nodes.is_empty() => Some(Policy::Prefer(nodes)),
        (Some(("prefer", place)), _) => {
            section.refuse(place, key, "is \"prefer\" without a node to prefer", "add prefer = [\"laptop-a\"]");
            None
        }
        (Some(("newest_wins", _)), None) => Some(Policy::NewestWins),
        (Some(("manual", _)), None) => Some(Policy::Manual),
        (Some((word @ ("newest_wins" | "manual"), place)), Some(_)) => {
            section.refuse(place, key, &format!("is \"{word}\", which takes no `prefer`"), "remove one of the two");
            None
        }
        (Some((word, place)), _) => {
            section.refuse(place, key, &format!("cannot be \"{word}\""), fix);
            None
        }
        (None, Some(_)) => {
            let place = prefer.map_or(Place::Nowhere, |list| list.place);
            section.refuse(&place, "prefer", "names no node", "name the nodes to prefer, the first before the next");
            None
        }
        (None, None) => None,
    }
}

/// Both files of a certificate, or neither; where one is missing, the line that an example has for it.
fn certificate(section: &mut Section, folder: &Path, examples: [&str; 2]) -> Option<(PathBuf, PathBuf)> {
    match (section.text("certificate"), section.text("certificate_key")) {
        (Some(certificate), Some(key)) => Some((folder.join(certificate.value), folder.join(key.value))),
        (Some(_), None) => {
            section.missing("certificate_key", examples[1]);
            None
        }
        (None, Some(_)) => {
            section.missing("certificate", examples[0]);
            None
        }
        (None, None) => None,
    }
}

fn web(mut section: Section, folder: &Path) -> Option<Web> {
    let key = secret_or_none(&mut section, folder, ["key_env", "key_file"]);
    let spot = listen(&mut section);
    if spot.is_none() && section.has("listen") {
        section.finish();
        return None;
    }
    let listen = spot.as_ref().map_or(SocketAddr::from(([127, 0, 0, 1], 7420)), |spot| spot.value);
    if let Some(spot) = spot.filter(|spot| !spot.value.ip().is_loopback() && key.is_none()) {
        let fix = "add key_env or key_file under [web], or listen on 127.0.0.1";
        section.refuse(&spot.place, "listen", "is open to other machines, which needs a key", fix);
    }
    let certificate = certificate(&mut section, folder, ["certificate = \"web.pem\"", "certificate_key = \"web.key\""]);
    let tls = section.flag("tls").map_or(certificate.is_some(), |spot| spot.value);
    section.finish();
    Some(Web { listen, key, tls, certificate })
}

fn limits(mut section: Section) -> Limits {
    let limits = Limits {
        group_rows: section.number("group_rows", 1..=100_000).map_or(500, |spot| spot.value) as usize,
        group_bytes: section.bytes("group_bytes", 4 << 10..=1 << 30).unwrap_or(8 << 20) as usize,
        index_rows: section.number("index_rows", 1_000..=1_000_000_000).map_or(1_000_000, |spot| spot.value) as usize,
        max_clock_skew: section.duration("max_clock_skew", Duration::from_secs(1)..=DAY).unwrap_or(Duration::from_secs(60)),
        disk_free_min: section.bytes("disk_free_min", 0..=u64::MAX).unwrap_or(1 << 30),
    };
    section.finish();
    limits
}

/// How often rows are compared by themselves; `None` for never.
fn verify_every(mut section: Section) -> Option<Duration> {
    let every = section.duration("every", Duration::from_secs(3600)..=DAY * 366).unwrap_or(DAY * 7);
    let scheduled = section.flag("scheduled").is_none_or(|spot| spot.value);
    section.finish();
    scheduled.then_some(every)
}

/// What becomes of other nodes' statements that define tables.
fn ddl(mut section: Section) -> DdlPolicies {
    let standard = DdlPolicies::default();
    let mut policy = |key, otherwise| match section.text(key) {
        None => otherwise,
        Some(spot) => DdlPolicy::ALL.into_iter().find(|policy| policy.word() == spot.value).unwrap_or_else(|| {
            section.refuse(&spot.place, key, &format!("cannot be \"{}\"", spot.value), "use apply, ask or ignore");
            otherwise
        }),
    };
    let policies = DdlPolicies { safe: policy("safe", standard.safe), dangerous: policy("dangerous", standard.dangerous) };
    section.finish();
    policies
}

pub(super) fn required(section: &mut Section, name: &'static str, example: &str) -> Option<Spot<String>> {
    let spot = section.text(name);
    if spot.is_none() && !section.has(name) {
        section.missing(name, example);
    }
    spot
}

fn listen(section: &mut Section) -> Option<Spot<SocketAddr>> {
    let spot = section.text("listen")?;
    match spot.value.parse() {
        Ok(value) => Some(Spot { value, place: spot.place }),
        Err(_) => {
            let rule = format!("is not an address and port: \"{}\"", spot.value);
            section.refuse(&spot.place, "listen", &rule, "write it like \"127.0.0.1:7420\"");
            None
        }
    }
}

pub(super) fn known_node(section: &Section, key: &str, spot: &Spot<String>, nodes: &Nodes) -> Option<OriginId> {
    let name = OriginId::new(&spot.value);
    if nodes.contains_key(&name) {
        return Some(name);
    }
    let names: Vec<&str> = nodes.keys().map(OriginId::as_str).collect();
    let rule = format!("names \"{name}\", which is no node");
    section.refuse(&spot.place, key, &rule, format!("use one of {}", names.join(", ")));
    None
}

pub(super) fn secret(section: &mut Section, folder: &Path, names: [&'static str; 2], example: &str) -> Option<SecretSource> {
    let source = secret_or_none(section, folder, names);
    if source.is_none() && !names.iter().any(|name| section.has(name)) {
        section.missing(names[0], example);
    }
    source
}

pub(super) fn secret_or_none(
    section: &mut Section,
    folder: &Path,
    [variable, file]: [&'static str; 2],
) -> Option<SecretSource> {
    match (section.text(variable), section.text(file)) {
        (Some(_), Some(second)) => {
            section.refuse(&second.place, file, &format!("stands beside `{variable}`"), "remove one of the two");
            None
        }
        (Some(spot), None) => {
            let is_variable = spot.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_variable {
                // The value may be the secret itself, so it is not repeated.
                let fix = "write the name of the variable that holds the secret, not the secret";
                section.refuse(&spot.place, variable, "is not the name of an environment variable", fix);
            }
            is_variable.then(|| SecretSource::Variable(spot.value.clone()))
        }
        (None, Some(spot)) => Some(SecretSource::File(folder.join(spot.value))),
        (None, None) => None,
    }
}
