//! The keys of `[topic]` where a Kafka broker keeps the topics.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::SecretSource;
use super::address::split_port;
use super::check::secret_or_none;
use super::section::{Section, Spot};
use crate::topic::kafka::{Mechanism, RECORD_BYTES_LIMIT};

/// How brokers are reached, secrets not yet resolved.
#[derive(Clone, Debug)]
pub struct Broker {
    /// `host:port`, at least one.
    pub brokers: Vec<String>,
    pub tls: Option<Tls>,
    /// Unencrypted although other machines are involved: somebody said so by name.
    pub allow_plaintext: bool,
    pub sasl: Option<Sasl>,
    pub replication: Option<u16>,
    pub record_bytes_max: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Tls {
    pub ca_file: Option<PathBuf>,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub key_password: Option<SecretSource>,
}

#[derive(Clone, Debug)]
pub struct Sasl {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: SecretSource,
}

/// Kafka's own port.
const PORT: u16 = 9092;

/// Reads all keys that only a broker has; the section is finished by who began it.
pub fn broker(section: &mut Section, folder: &Path) -> Option<Broker> {
    let example = "brokers = [\"broker.campus.lan:9092\"]";
    let given = section.texts("brokers");
    if given.is_none() && !section.has("brokers") {
        section.missing("brokers", example);
    }
    let list = given.as_ref().map_or(&[][..], |given| &given.value);
    if let Some(given) = given.as_ref().filter(|given| given.value.is_empty()) {
        section.refuse(&given.place, "brokers", "names no broker", format!("write {example}"));
    }
    let brokers: Vec<(String, String)> = list.iter().filter_map(|spot| address(section, spot)).collect();
    let encrypted = section.flag("tls");
    let files = tls_files(section, folder);
    let tls = match (encrypted.as_ref().map(|spot| spot.value), files) {
        (Some(true), files) => Some(files.unwrap_or_default()),
        (_, Some(_)) => {
            let place = encrypted.map_or(section.place.clone(), |spot| spot.place);
            section.refuse(&place, "tls", "is not true, but there are files for it", "write tls = true");
            None
        }
        (_, None) => None,
    };
    let allow_plaintext = section.flag("allow_plaintext").is_some_and(|spot| spot.value);
    if let Some(given) = given.as_ref().filter(|_| tls.is_none() && !allow_plaintext)
        && brokers.iter().any(|(host, _)| !is_loopback(host))
    {
        let fix = "write tls = true, or allow_plaintext = true under [topic] where the network itself is encrypted";
        section.refuse(&given.place, "brokers", "would be sent rows unencrypted", fix);
    }
    let sasl = sasl(section.section("sasl"), folder);
    let replication = section.number("replication", 1..=32).map(|spot| spot.value as u16);
    let record_bytes_max = section.bytes("record_bytes_max", 1 << 20..=RECORD_BYTES_LIMIT as u64).unwrap_or(64 << 20) as usize;
    let brokers: Vec<String> = brokers.into_iter().map(|(_, address)| address).collect();
    (!brokers.is_empty()).then_some(())?;
    Some(Broker { brokers, tls, allow_plaintext, sasl: sasl.ok()?, replication, record_bytes_max })
}

/// The host, and the whole with its port.
fn address(section: &Section, spot: &Spot<String>) -> Option<(String, String)> {
    let refuse = |rule: &str| section.refuse(&spot.place, "brokers", rule, "write each as \"host:9092\"");
    if spot.value.contains(['/', '@']) {
        // What stands before an @ may be a password, so it is not repeated.
        refuse("holds something else than a host and a port");
        return None;
    }
    match split_port(&spot.value) {
        Some((host, port)) => {
            let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            Some((host.to_owned(), format!("{shown}:{}", port.unwrap_or(PORT))))
        }
        None => {
            refuse(&format!("holds \"{}\", which is no host and port", spot.value));
            None
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `None` where none is named.
fn tls_files(section: &mut Section, folder: &Path) -> Option<Tls> {
    let mut file = |name: &'static str| section.text(name).map(|spot| folder.join(spot.value));
    let (ca_file, certificate_file, key_file) = (file("ca_file"), file("certificate_file"), file("key_file"));
    let key_password = secret_or_none(section, folder, ["key_password_env", "key_password_file"]);
    if certificate_file.is_some() != key_file.is_some() {
        let (there, missing) =
            if key_file.is_some() { ("key_file", "certificate_file") } else { ("certificate_file", "key_file") };
        section.refuse(&section.place, there, &format!("stands without `{missing}`"), "name both, or neither");
    }
    let any = ca_file.is_some() || certificate_file.is_some() || key_file.is_some() || key_password.is_some();
    any.then_some(Tls { ca_file, certificate_file, key_file, key_password })
}

fn sasl(mut section: Section, folder: &Path) -> Result<Option<Sasl>, ()> {
    if !section.is_present() {
        return Ok(None);
    }
    let names = Mechanism::ALL.map(Mechanism::name).join(", ");
    let mechanism = section.text("mechanism");
    if mechanism.is_none() && !section.has("mechanism") {
        section.missing("mechanism", "mechanism = \"SCRAM-SHA-256\"");
    }
    let mechanism = mechanism.and_then(|spot| {
        let found = Mechanism::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&spot.value));
        if found.is_none() {
            section.refuse(&spot.place, "mechanism", &format!("cannot be \"{}\"", spot.value), format!("use one of {names}"));
        }
        found
    });
    let username = section.text("username");
    if username.is_none() && !section.has("username") {
        section.missing("username", "username = \"tandem\"");
    }
    let password = secret_or_none(&mut section, folder, ["password_env", "password_file"]);
    if password.is_none() && !section.has("password_env") && !section.has("password_file") {
        section.missing("password_env", "password_env = \"KAFKA_PASSWORD\"");
    }
    section.finish();
    match (mechanism, username, password) {
        (Some(mechanism), Some(username), Some(password)) => Ok(Some(Sasl { mechanism, username: username.value, password })),
        _ => Err(()),
    }
}
