//! The keeper of the topics, put together from the configuration.

use crate::config::{Config, Hub, TopicKeeper};
use crate::observe;
use crate::runtime::{Shutdown, Stop};
use crate::serve::hub::{HubOptions, serve_hub};
use crate::serve::tls::TlsIdentity;

use crate::topic::hub::Fingerprint;
pub use crate::topic::hub::{make_key, pinned};

/// Keeps the topics by itself, without a node, until shutdown.
pub async fn run_hub(config: &Config, shutdown: Shutdown) -> Result<(), Stop> {
    let Some(hub) = &config.hub else {
        let message = format!("{} has no [hub], so it is not said where the topics are kept", config.file.display());
        return Err(Stop::halt(message, "add [hub] with listen = \"0.0.0.0:7421\""));
    };
    if let Some(node) = &hub.node {
        let message = format!("the topics are kept by {node}, whose `tandem run` does it: [hub] node says so");
        return Err(Stop::halt(message, "run that node, or remove `node` under [hub]"));
    }
    let options = hub_options(config, hub);
    let fingerprint = options.tls.as_ref().map(TlsIdentity::load).transpose()?.map(|tls| tls.fingerprint.to_string());
    observe::hub_starts(&hub.listen, &hub.data, fingerprint.as_deref());
    Ok(serve_hub(options, shutdown).await?)
}

/// What the hub must be told; for a node that keeps the topics too.
pub fn hub_options(config: &Config, hub: &Hub) -> HubOptions {
    let keys = config.nodes.iter().filter_map(|(name, node)| Some((name.clone(), node.hub_key_hash?)));
    let mut options = HubOptions::new(&hub.data, hub.listen, keys.collect());
    options.store.max_offline = config.topic.max_offline;
    options.store.max_bytes = hub.max_bytes;
    options.tls = identity(config, hub);
    options
}

/// The hub encrypts where nodes are told to come with `https`, unless something before it does.
fn identity(config: &Config, hub: &Hub) -> Option<TlsIdentity> {
    let encrypted = matches!(&config.topic.keeper, TopicKeeper::Hub(address) if address.url.encrypted);
    let own = || TlsIdentity::Own { folder: hub.data.join("tls") };
    let given =
        |(certificate, key): &(_, _)| TlsIdentity::Given { certificate: Clone::clone(certificate), key: Clone::clone(key) };
    (encrypted && hub.tls).then(|| hub.certificate.as_ref().map_or_else(own, given))
}

/// The certificate of the dashboard and the API, where they encrypt. All nodes of one state folder show the same.
pub fn web_identity(config: &Config) -> Option<TlsIdentity> {
    let own = || TlsIdentity::Own { folder: config.state_folder.join("web-tls") };
    let given =
        |(certificate, key): &(_, _)| TlsIdentity::Given { certificate: Clone::clone(certificate), key: Clone::clone(key) };
    config.web.tls.then(|| config.web.certificate.as_ref().map_or_else(own, given))
}

/// By what a command on this machine knows the running node's pages, where they encrypt: the certificate itself, whoever signed it.
pub fn web_fingerprint(config: &Config) -> Result<Option<Fingerprint>, Stop> {
    Ok(web_identity(config).map(|identity| identity.fingerprint()).transpose()?)
}

/// The fingerprint of the hub's certificate, which is made where it is missing.
pub fn hub_fingerprint(config: &Config) -> Result<String, Stop> {
    let Some(identity) = config.hub.as_ref().and_then(|hub| identity(config, hub)) else {
        let message = "this configuration has no hub that encrypts";
        return Err(Stop::halt(message, "add [hub], and write https:// in `url` under [topic]"));
    };
    Ok(identity.load()?.fingerprint.to_string())
}
