//! A node that takes part no longer: the end of its topic is taken in its place, and then nobody waits for it.

use std::collections::BTreeMap;

use tokio::sync::Notify;

use super::group::{Group, Waiting};
use super::worker::{Job, Known};
use super::{Applier, ApplyError};
use crate::change::{Mark, NodeRank, Offset, OriginId};
use crate::runtime::Shutdown;
use crate::topic::TopicError;

impl Applier {
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
        known.stability.remove(node);
        self.observer.removed(origin, by);
        self.notes.removed(origin);
    }

    /// A node that is in no configuration any more may go on writing for the others, or has written what is not applied here: both
    /// would be lost here, and nowhere else.
    ///
    /// `known` are those that have a checkpoint here, or that somebody has told to have seen, with what is next of them here.
    pub(super) async fn check_unlisted(&self, known: &BTreeMap<OriginId, Offset>) -> Result<(), ApplyError> {
        for (origin, &next) in known {
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
