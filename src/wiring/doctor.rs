//! A node's set-up looked over from end to end, without changing anything.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::node::Database;
use super::topics::Topics;
use super::{doctor_nodes, doctor_place};
use crate::change::{GtidPosition, OriginId, Record};
use crate::config::{Config, OwnNode, TopicAccess};
use crate::runtime::{Disposition, Fault, Finding, Level, Stop};
use crate::serve::Setup;
use crate::source::binlog::Expectations;
pub use crate::target::mariadb::Facts;
use crate::topic::{Extent, kafka};

/// What the doctor is told before it looks.
#[derive(Default)]
pub struct Look {
    /// This very node runs now: its ports are taken by itself.
    pub running: bool,
    /// What `doctor --save` wrote on other nodes.
    pub against: Vec<Facts>,
}

/// Every finding, good ones too, in the order of the data's way. What cannot be looked at is a finding itself.
pub async fn examine(config: &Config, own: &OwnNode, look: Look) -> Vec<Finding> {
    let (reached, extent) = topic(own).await;
    let resume = extent.as_ref().and_then(|extent| extent.last.as_ref());
    let resume = resume.map(|last| GtidPosition::clone(last.read_from.as_ref().unwrap_or(&last.position)));
    let (mut found, facts) = database(config, own, resume).await;
    found.push(reached);
    if let TopicAccess::Kafka(options) = &own.topics {
        let origins: Vec<OriginId> = config.nodes.keys().cloned().collect();
        found.extend(kafka::examine(options.clone(), &origins).await);
    }
    let last = if extent.is_some() { published(config, own).await } else { BTreeMap::new() };
    let with = doctor_nodes::Compared { own: facts.as_ref(), brought: &look.against, last };
    found.extend(doctor_nodes::examine(config, own, with).await);
    found.extend(super::members::examine(config, own).await);
    found.extend(doctor_place::examine(config, own, look.running));
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
        examine(&self.config, &self.own, Look { running: true, against: Vec::new() }).await
    }
}

/// What is found, and the facts to compare with other nodes' where it could be asked.
async fn database(config: &Config, own: &OwnNode, resume: Option<GtidPosition>) -> (Vec<Finding>, Option<Facts>) {
    let database = Database::new(own, config.tables.clone());
    let mut expectations = Expectations {
        nodes: config.nodes.len(),
        number: config.nodes.keys().take_while(|name| *name != own.name()).count() as u32 + 1,
        replica_ids: config.nodes.values().map(|node| node.replica_id).collect(),
        max_offline: config.topic.max_offline,
        databases: BTreeSet::new(),
        resume,
    };
    let target = match database.look().await {
        Ok(target) => target,
        // Nothing else can be asked.
        Err(error) if error.disposition() == Disposition::Retry => {
            let remedy = "start the server, or mend `database` of this node in the configuration";
            return (vec![Finding::fail("DB-LOGIN", error.to_string(), remedy)], None);
        }
        Err(error) => {
            // Another kind of server lets in who knows the password, and takes nothing else from us.
            let foreign = foreign(&database, &expectations).await;
            return (vec![foreign.unwrap_or_else(|| failed("DB-LOGIN", error.into()))], None);
        }
    };
    let mut found = vec![Finding::good("DB-LOGIN", format!("logged in at {}", own.database))];
    let captured = target.captured(&config.tables).await;
    expectations.databases = captured.iter().flatten().map(|table| table.database.to_string()).collect();
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
    // What failed above fails here again, and was told.
    let facts = target.facts(own.name().as_str(), &config.tables).await.ok();
    (found, facts)
}

/// What the server is, where it is none that we read.
async fn foreign(database: &Database, expectations: &Expectations) -> Option<Finding> {
    let found = database.source().ok()?.examine(expectations).await.ok()?;
    found.into_iter().find(|finding| finding.code == "DB-FLAVOUR" && finding.level == Level::Fail)
}

/// What another node's doctor needs to compare its database with this one.
pub async fn facts(config: &Config, own: &OwnNode) -> Result<Facts, Stop> {
    let target = Database::new(own, config.tables.clone()).look().await?;
    Ok(target.facts(own.name().as_str(), &config.tables).await?)
}

/// Whether the topics are reached, and what this node's own holds.
async fn topic(own: &OwnNode) -> (Finding, Option<Extent>) {
    let asked = async {
        let reader = Topics::reach(own.topics.clone())?.reader();
        Ok::<_, Stop>(reader.extent(own.name()).await?)
    };
    let stop = match asked.await {
        Ok(extent) => {
            let published = match extent.end.0 {
                0 => "nothing yet".to_owned(),
                count => format!("{count} records"),
            };
            let found = Finding::good("TOPIC", format!("the topics are reached; this node has published {published}"));
            return (found, Some(extent));
        }
        Err(stop) => stop,
    };
    let found = match stop.disposition {
        // A hub that is kept by this node answers only while the node runs.
        Disposition::Retry if own.keeps_topics => {
            Finding::warn("TOPIC", stop.message, "this node keeps the topics itself: they are there while `tandem run` runs")
        }
        Disposition::Retry => Finding::fail(
            "TOPIC",
            stop.message,
            "start what keeps the topics, or mend its address under [topic]; see also the firewall there",
        ),
        _ => failed("TOPIC", stop),
    };
    (found, None)
}

/// The last record of each other node. One that cannot be read is that node's matter, and shown by its link.
async fn published(config: &Config, own: &OwnNode) -> BTreeMap<OriginId, Record> {
    let mut last = BTreeMap::new();
    let Ok(topics) = Topics::reach(own.topics.clone()) else { return last };
    let reader = topics.reader();
    for name in config.nodes.keys().filter(|name| *name != own.name()) {
        let extent = reader.extent(name).await;
        last.extend(extent.ok().and_then(|extent| extent.last).map(|record| (name.clone(), record)));
    }
    last
}

pub(super) fn failed(code: &'static str, stop: Stop) -> Finding {
    let remedy = stop.hint.unwrap_or_else(|| "see docs/operations.md".into());
    Finding::fail(code, stop.message, remedy)
}
