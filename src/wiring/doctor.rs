//! A node's set-up looked over from end to end, without changing anything.

use std::fs;

use async_trait::async_trait;

use super::node::Database;
use super::topics::Topics;
use crate::config::{Config, OwnNode};
use crate::runtime::{Disposition, Fault, Finding, Stop};
use crate::serve::Setup;
use crate::source::binlog::Expectations;
pub use crate::target::mariadb::Facts;

/// Every finding, good ones too, in the order of the data's way. What cannot be looked at is a finding itself.
pub async fn examine(config: &Config, own: &OwnNode) -> Vec<Finding> {
    let mut found = database(config, own).await;
    found.push(topic(own).await);
    found.extend(super::members::examine(config, own).await);
    found.push(state(own));
    found.extend(super::cloud_doctor::examine(config, own).await);
    found
}

/// How a running node is set up, for its pages.
pub struct NodeSetup {
    pub config: Config,
    pub own: OwnNode,
}

#[async_trait]
impl Setup for NodeSetup {
    fn shown(&self) -> String {
        self.config.show()
    }

    async fn examine(&self) -> Vec<Finding> {
        examine(&self.config, &self.own).await
    }
}

async fn database(config: &Config, own: &OwnNode) -> Vec<Finding> {
    let database = Database::new(own, config.tables.clone());
    let target = match database.look().await {
        Ok(target) => target,
        // Nothing else can be asked.
        Err(error) if error.disposition() == Disposition::Retry => {
            let remedy = "start the server, or mend `database` of this node in the configuration";
            return vec![Finding::fail("DB-LOGIN", error.to_string(), remedy)];
        }
        Err(error) => return vec![failed("DB-LOGIN", error.into())],
    };
    let mut found = vec![Finding::good("DB-LOGIN", format!("logged in at {}", own.database))];
    let captured = target.captured(&config.tables).await;
    let expectations = Expectations {
        nodes: config.nodes.len(),
        replica_ids: config.nodes.values().map(|node| node.replica_id).collect(),
        max_offline: config.topic.max_offline,
        databases: captured.iter().flatten().map(|table| table.database.to_string()).collect(),
    };
    match database.source() {
        Ok(source) => match source.examine(&expectations).await {
            Ok(settings) => found.extend(settings),
            Err(error) => found.push(failed("DB-SETTINGS", error.into())),
        },
        Err(stop) => found.push(failed("DB-SETTINGS", stop)),
    }
    match target.examine(&config.tables).await {
        Ok(tables) => found.extend(tables),
        Err(error) => found.push(failed("DB-TABLE", error.into())),
    }
    match target.advise(&config.tables).await {
        Ok(advice) => found.extend(advice),
        Err(error) => found.push(failed("DB-WRITE", error.into())),
    }
    found
}

/// What another node's doctor needs to compare its database with this one.
pub async fn facts(config: &Config, own: &OwnNode) -> Result<Facts, Stop> {
    let target = Database::new(own, config.tables.clone()).look().await?;
    Ok(target.facts(own.name().as_str(), &config.tables).await?)
}

async fn topic(own: &OwnNode) -> Finding {
    let asked = async {
        let reader = Topics::reach(own.topics.clone())?.reader();
        Ok::<_, Stop>(reader.extent(own.name()).await?)
    };
    match asked.await {
        Ok(extent) if extent.end.0 == 0 => {
            Finding::good("TOPIC", "the topics are reached; this node has published nothing yet")
        }
        Ok(extent) => Finding::good("TOPIC", format!("the topics are reached; this node has published {} records", extent.end)),
        // A hub that is kept by this node answers only while the node runs.
        Err(stop) if own.keeps_topics && stop.disposition == Disposition::Retry => {
            Finding::warn("TOPIC", stop.message, "this node keeps the topics itself: they are there while `tandem run` runs")
        }
        Err(stop) if stop.disposition == Disposition::Retry => Finding::fail(
            "TOPIC",
            stop.message,
            "start what keeps the topics, or mend its address under [topic]; see also the firewall there",
        ),
        Err(stop) => failed("TOPIC", stop),
    }
}

fn state(own: &OwnNode) -> Finding {
    let folder = &own.state_folder;
    let probe = folder.join(".doctor");
    let existed = folder.exists();
    let tried = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    if !existed {
        // It is left as it was found; parents that were made too are empty and harmless.
        let _ = fs::remove_dir(folder);
    }
    match tried {
        Ok(()) => Finding::good("STATE", format!("{} can be written", folder.display())),
        Err(error) => Finding::fail(
            "STATE",
            format!("the state folder {} cannot be written: {error}", folder.display()),
            "give it to the account that runs tandem, or set another `folder` under [state]",
        ),
    }
}

pub(super) fn failed(code: &'static str, stop: Stop) -> Finding {
    let remedy = stop.hint.unwrap_or_else(|| "see docs/operations.md".into());
    Finding::fail(code, stop.message, remedy)
}
