//! Who takes part, as the topics tell it, and how a node is removed.
//!
//! The configuration says whose topics there are; a node is removed by the last record of its own topic, which every other node
//! takes in its place. So all agree on what of it counts, whichever file was changed first.

use std::collections::BTreeMap;

use super::node::Database;
use super::topics::Topics;
use crate::change::{Offset, OriginId, Record};
use crate::config::{Config, OwnNode};
use crate::runtime::{Finding, Stop};
use crate::target::Target;
pub use crate::topic::Removal;
use crate::topic::{self, Extent, lacking};

/// A node of the configuration.
pub struct Member {
    pub name: OriginId,
    /// What its topic holds: `first..end`.
    pub first: Offset,
    pub end: Offset,
    /// Seconds of the Unix epoch; `None` where it has published nothing.
    pub last_commit_seconds: Option<u64>,
    /// Where it was said that it takes part no longer.
    pub removed_by: Option<OriginId>,
    /// Of a removed node: those that have not told that they have all of it.
    pub lacking: Vec<OriginId>,
}

impl Member {
    /// Removed, and nobody needs its topic any more.
    pub fn can_leave(&self) -> bool {
        self.removed_by.is_some() && self.lacking.is_empty()
    }
}

/// All nodes of the configuration, by name.
pub async fn members(own: &OwnNode) -> Result<Vec<Member>, Stop> {
    let reader = Topics::reach(own.topics.clone())?.reader();
    let mut extents: BTreeMap<OriginId, Extent> = BTreeMap::new();
    for rank in own.cluster.ranks() {
        let name = own.cluster.name(rank);
        extents.insert(name.clone(), reader.extent(name).await?);
    }
    Ok(extents.iter().map(|(name, extent)| member(name, extent, &extents)).collect())
}

fn member(name: &OriginId, extent: &Extent, all: &BTreeMap<OriginId, Extent>) -> Member {
    let removed_by = extent.last.as_ref().and_then(Record::removed_by).cloned();
    let lacking = if removed_by.is_some() { lacking(name, all) } else { Vec::new() };
    Member {
        name: name.clone(),
        first: extent.first,
        end: extent.end,
        last_commit_seconds: extent.last.as_ref().map(|last| last.commit_second).filter(|&second| second > 0),
        removed_by,
        lacking,
    }
}

/// Ends the topic of another node. Safe to repeat.
pub async fn remove(own: &OwnNode, node: &OriginId) -> Result<Removal, Stop> {
    let topics = Topics::reach(own.topics.clone())?;
    let removal = topic::remove(&*topics.reader(), || topics.writer(node.clone()), node, own.name()).await?;
    removal.ok_or_else(|| {
        Stop::halt(format!("{node} publishes all the time, so its topic cannot be ended"), "stop tandem there, then try again")
    })
}

/// Where the configuration and the topics do not agree on who takes part.
pub(super) async fn examine(config: &Config, own: &OwnNode) -> Vec<Finding> {
    // What cannot be reached is a finding elsewhere.
    let Ok(members) = members(own).await else { return Vec::new() };
    let mut found: Vec<Finding> = members.iter().filter_map(|member| finding(member, own.name())).collect();
    let database = Database::new(own, config.tables.clone());
    let marks = match database.look().await {
        Ok(target) => target.checkpoints().await.unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    };
    let Ok(topics) = Topics::reach(own.topics.clone()) else { return found };
    let reader = topics.reader();
    let mut known: BTreeMap<OriginId, Offset> = marks.into_iter().map(|(origin, mark)| (origin, mark.next)).collect();
    for name in config.nodes.keys() {
        let told = reader.extent(name).await.ok().and_then(|extent| extent.last);
        told.iter().flat_map(|last| last.seen.0.keys()).for_each(|origin| _ = known.entry(origin.clone()).or_default());
    }
    for (origin, next) in known.iter().filter(|(origin, _)| !config.nodes.contains_key(*origin)) {
        if let Ok(extent) = reader.extent(origin).await {
            found.extend(unlisted(origin, *next, &extent));
        }
    }
    found
}

const CODE: &str = "NODES-MEMBERS";

fn finding(member: &Member, own: &OriginId) -> Option<Finding> {
    let (name, by) = (&member.name, member.removed_by.as_ref()?);
    if name == own {
        let remedy = "to take part again it needs another name: see docs/operations.md, \"Removing a node\"";
        return Some(Finding::fail(CODE, format!("this node was removed by {by}"), remedy));
    }
    if member.can_leave() {
        let remedy = format!("take [nodes.{name}] out of the configuration of every node, and start them anew");
        return Some(Finding::warn(
            CODE,
            format!("{name} was removed by {by}, and all nodes have what it had published"),
            remedy,
        ));
    }
    let lacking: Vec<&str> = member.lacking.iter().map(OriginId::as_str).collect();
    let what = format!("{name} was removed by {by}, and not all of it is applied yet on {}", lacking.join(", "));
    Some(Finding::warn(CODE, what, format!("leave [nodes.{name}] in the configuration until `tandem node list` says so")))
}

fn unlisted(origin: &OriginId, next: Offset, extent: &Extent) -> Option<Finding> {
    let removed = extent.last.as_ref()?.removed_by().is_some();
    if removed && next >= extent.end {
        return None;
    }
    let what = match removed {
        false => format!("{origin} is in no [nodes], but its topic is open"),
        true => format!("{origin} is in no [nodes], but {} of its records are not applied here", extent.end.0 - next.0),
    };
    let remedy = format!(
        "put [nodes.{origin}] back; to be rid of it, `tandem node remove {origin}`, and take it out when `tandem node list` says so"
    );
    Some(Finding::fail(CODE, what, remedy))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::Seen;

    fn extent(name: &str, end: u64, seen: &[(&str, u64)], removed_by: Option<&str>) -> (OriginId, Extent) {
        let origin = OriginId::new(name);
        let by = OriginId::new(removed_by.unwrap_or("nobody"));
        let mut last = Record::removal(&origin, None, &by);
        last.seen = Arc::new(Seen(seen.iter().map(|(node, offset)| (OriginId::new(node), Offset(*offset))).collect()));
        if removed_by.is_none() {
            last.body = crate::change::Body::Heartbeat;
        }
        (origin, Extent { first: Offset(0), end: Offset(end), last: Some(last) })
    }

    #[test]
    fn a_removed_node_can_leave_when_all_that_stay_have_all_of_it() {
        let check = |told: u64, expected: &[&str]| {
            let all: BTreeMap<_, _> = [
                extent("a", 5, &[("c", told)], None),
                extent("b", 5, &[("c", 8)], None),
                extent("c", 9, &[], Some("a")),
                extent("d", 3, &[], Some("b")),
            ]
            .into();
            let c = member(&OriginId::new("c"), &all[&OriginId::new("c")], &all);
            assert_eq!(c.lacking, expected.iter().map(|name| OriginId::new(name)).collect::<Vec<_>>());
            assert_eq!(c.can_leave(), expected.is_empty());
            let a = member(&OriginId::new("a"), &all[&OriginId::new("a")], &all);
            assert!(a.removed_by.is_none() && a.lacking.is_empty() && !a.can_leave());
        };
        check(7, &["a"]);
        check(8, &[]);
    }
}
