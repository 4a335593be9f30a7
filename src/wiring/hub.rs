//! The keeper of the topics, put together from the configuration.

use crate::config::{Config, Hub};
use crate::observe;
use crate::runtime::{Shutdown, Stop};
use crate::serve::hub::{HubOptions, serve_hub};

pub use crate::topic::hub::make_key;

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
    observe::hub_starts(&hub.listen, &hub.data);
    Ok(serve_hub(hub_options(config, hub), shutdown).await?)
}

/// What the hub must be told; for a node that keeps the topics too.
pub fn hub_options(config: &Config, hub: &Hub) -> HubOptions {
    let keys = config.nodes.iter().filter_map(|(name, node)| Some((name.clone(), node.hub_key_hash?)));
    let mut options = HubOptions::new(&hub.data, hub.listen, keys.collect());
    options.store.max_offline = config.topic.max_offline;
    options.store.max_bytes = hub.max_bytes;
    options
}
