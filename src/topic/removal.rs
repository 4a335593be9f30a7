//! The end of a topic whose node takes part no longer, and who has still to take all of it.

use std::collections::BTreeMap;

use super::{Extent, TopicError, TopicReader, TopicWriter};
use crate::change::{Offset, OriginId, Record};

/// What came of removing a node.
#[derive(Clone, PartialEq, Debug)]
pub struct Removal {
    /// Records of its topic that count.
    pub end: Offset,
    /// It was removed before; where.
    pub before: Option<OriginId>,
}

/// How often another writer of the topic may be faster: the node itself, that still runs.
const TRIES: usize = 20;

/// Ends the topic of another node. Safe to repeat. `None` where that node publishes all the time.
pub async fn remove(
    reader: &dyn TopicReader,
    mut writer: impl FnMut() -> Box<dyn TopicWriter>,
    node: &OriginId,
    by: &OriginId,
) -> Result<Option<Removal>, TopicError> {
    for _ in 0..TRIES {
        let extent = reader.extent(node).await?;
        if let Some(by) = extent.last.as_ref().and_then(Record::removed_by) {
            return Ok(Some(Removal { end: extent.end, before: Some(by.clone()) }));
        }
        let last = Record::removal(node, extent.last.as_ref(), by);
        match writer().append(extent.end, &[last]).await {
            Ok(end) => return Ok(Some(Removal { end, before: None })),
            // It published something since we looked, which counts.
            Err(TopicError::Fenced { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Of a removed node: those that stay and have not told that they have all of it. Only when there is none of them, nobody needs the
/// topic any more.
pub fn lacking(node: &OriginId, all: &BTreeMap<OriginId, Extent>) -> Vec<OriginId> {
    let end = all.get(node).map_or(Offset(0), |extent| extent.end);
    let last = Offset(end.0.saturating_sub(1));
    let stays = |extent: &Extent| extent.last.as_ref().and_then(Record::removed_by).is_none();
    let has_all = |extent: &Extent| extent.last.as_ref().is_some_and(|told| told.seen.has(node, last));
    let others = all.iter().filter(|(other, extent)| *other != node && stays(extent));
    others.filter(|(_, extent)| !has_all(extent)).map(|(other, _)| other.clone()).collect()
}
