//! A node that takes part no longer: the end of its topic is taken in its place, and then nobody waits for it.

use std::collections::BTreeMap;

use tokio::sync::Notify;

use super::engine::{Tries, read_kept};
use super::group::{Group, Waiting};
use super::worker::{Job, Known};
use super::{Applier, ApplyError};
use crate::change::{Cluster, Mark, NodeRank, Offset, OriginId};
use crate::runtime::Shutdown;
use crate::topic::TopicError;

impl Applier {
    /// The nodes of this run: those of the configuration, and each that has left it while changes may still come here that had not seen
    /// its last writes. These have to be known until then.
    ///
    /// A node leaves the configuration when all others have told that they have all of it; what they had told before that may lie here
    /// unread.
    pub(super) async fn counted(&self) -> Result<Cluster, ApplyError> {
        let cluster = &self.options.cluster;
        let marks = self.target.checkpoints().await?;
        let mut nodes: Vec<OriginId> = cluster.ranks().map(|node| cluster.name(node).clone()).collect();
        for (origin, mark) in marks.iter().filter(|(origin, _)| cluster.rank(origin).is_none()) {
            let extent = match self.reader.extent(origin).await {
                Err(TopicError::Emptied { .. }) => continue,
                other => other?,
            };
            let Some(last) = extent.last else { continue };
            // Of any other it is said later what is wrong.
            if last.removed_by().is_some() && mark.next >= extent.end && self.may_be_unseen(origin, extent.end, &marks).await? {
                nodes.push(origin.clone());
            }
        }
        Ok(Cluster::new(nodes, cluster.own()).expect("who left the configuration is none of its nodes"))
    }

    /// Whether another node has told that it has all of a removed one, in a record that is not taken here.
    async fn may_be_unseen(
        &self,
        origin: &OriginId,
        end: Offset,
        marks: &BTreeMap<OriginId, Mark>,
    ) -> Result<bool, ApplyError> {
        let Some(last) = end.0.checked_sub(1).map(Offset) else { return Ok(false) };
        for node in self.options.cluster.others() {
            let other = self.options.cluster.name(node);
            let extent = self.reader.extent(other).await?;
            // One that never tells it came later.
            if !extent.last.is_some_and(|told| told.seen.has(origin, last)) {
                continue;
            }
            let next = marks.get(other).map_or(Offset(0), |mark| mark.next);
            let taken = match next.0.checked_sub(1).map(Offset).filter(|&taken| taken >= extent.first) {
                Some(taken) => read_kept(&*self.reader, other, taken, 1, Tries::Many).await?,
                None => Vec::new(),
            };
            if !taken.first().is_some_and(|(_, told)| told.seen.has(origin, last)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The origin writes nothing more. The checkpoint says at once that its topic is taken to the end, so that this holds when the
    /// topic is gone. False at shutdown.
    pub(super) async fn take_removal(
        &self,
        known: &mut Known,
        waiting: &Waiting,
        mark: &Mark,
        by: &OriginId,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let group = Group::empty(waiting.node, mark.clone());
        let committed = self.commit(known, &Notify::new(), &Job::Group(&group, &[]), &waiting.origin, shutdown).await?;
        if committed.is_some() {
            self.removed(known, waiting.node, by);
        }
        Ok(committed.is_some())
    }

    pub(super) fn removed(&self, known: &mut Known, node: NodeRank, by: &OriginId) {
        let origin = self.options.cluster.name(node);
        if !self.options.ablation.no_removal {
            known.stability.remove(node);
        }
        self.observer.removed(origin, by);
        self.notes.removed(origin);
    }

    /// A node that is in no configuration any more may go on writing for the others, or has written what is not applied here: both
    /// would be lost here, and nowhere else.
    ///
    /// `known` are those that have a checkpoint here, or that somebody has told to have seen, with what is next of them here.
    pub(super) async fn check_unlisted(&self, known: &BTreeMap<OriginId, Offset>) -> Result<(), ApplyError> {
        for (origin, &next) in known.iter().filter(|_| !self.options.ablation.no_unlisted) {
            let extent = match self.reader.extent(origin).await {
                Err(TopicError::Emptied { .. }) => continue,
                other => other?,
            };
            let why = match extent.last {
                // Its topic was deleted, or never was.
                None => continue,
                Some(last) if last.removed_by().is_none() => {
                    "its topic was not closed, so the other nodes may still take from it".into()
                }
                Some(_) if next < extent.end => {
                    format!("{} records of its topic are not applied here", extent.end.0 - next.0)
                }
                Some(_) => continue,
            };
            return Err(ApplyError::Unlisted { origin: origin.clone(), why });
        }
        Ok(())
    }
}
