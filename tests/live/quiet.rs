//! When is all done? When every server's history is published, and everything published is applied everywhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tandem::change::{GtidPosition, Offset, OriginId};
use tandem::topic::hub::{ClientOptions, HubClient, HubReader};
use tandem::topic::{TopicError, TopicReader};

use crate::harness::Cluster;

/// Reads a cluster's topics at the hub, as its first site would.
pub fn topics(cluster: &Cluster) -> HubReader {
    let environment: BTreeMap<_, _> = cluster.nodes[0].options().env.iter().cloned().collect();
    let config = std::fs::read_to_string(cluster.dir().join("tandem.toml")).unwrap();
    let url = config.lines().find_map(|line| line.strip_prefix("url = ")).unwrap().trim_matches('"').to_owned();
    let key = SecretString::from(environment["NODE_HUB_KEY"].clone());
    HubReader::new(Arc::new(HubClient::new(ClientOptions { url, key, trust: Default::default() }).unwrap()))
}

/// How far each topic was looked at.
pub struct Quiet {
    topics: HubReader,
    sites: Vec<Seen>,
}

struct Seen {
    origin: OriginId,
    next: Offset,
    /// The last record with a change.
    data: Option<Offset>,
    position: GtidPosition,
}

impl Quiet {
    pub fn new(cluster: &Cluster) -> Self {
        let seen =
            |name: &str| Seen { origin: OriginId::new(name), next: Offset(0), data: None, position: GtidPosition::start() };
        Self { topics: topics(cluster), sites: cluster.nodes.iter().map(|node| seen(node.name())).collect() }
    }

    pub async fn wait(&mut self, cluster: &mut Cluster, deadline: Duration) {
        let waited = cluster.wait("all to be published and applied", deadline, async |servers| {
            for (site, seen) in self.sites.iter_mut().enumerate() {
                loop {
                    let batch = match self.topics.read(&seen.origin, seen.next, 4 << 20, Duration::ZERO).await {
                        Ok(batch) => batch,
                        // What is no longer kept was published.
                        Err(TopicError::Gone { first, .. }) => {
                            seen.next = first;
                            continue;
                        }
                        Err(_) => return false,
                    };
                    let Some((last, record)) = batch.last() else { break };
                    seen.next = last.next();
                    seen.position = (*record.position).clone();
                    let data = batch.iter().rfind(|(_, record)| record.change().is_some() || record.schema().is_some());
                    seen.data = data.map(|(offset, _)| *offset).or(seen.data);
                }
                let end: Option<String> = servers[site].first("SELECT @@gtid_binlog_pos").await;
                if !seen.position.covers_all(&end.unwrap().parse().unwrap()) {
                    return false;
                }
                for (_, server) in servers.iter().enumerate().filter(|(other, _)| *other != site) {
                    let applied = format!("SELECT data_offset FROM tandem.applied WHERE origin = '{}'", seen.origin);
                    let applied: Option<Option<u64>> = server.first(&applied).await;
                    if seen.data > applied.flatten().map(Offset) {
                        return false;
                    }
                }
            }
            true
        });
        waited.await.unwrap_or_else(|missed| panic!("{missed}"));
    }
}
