//! The causal index: the last write of every row that some node may not have seen yet.
//!
//! It is built from the topics alone, the own one included, and forgets by causal stability alone: once every other
//! node has told that it applied a write, whatever any of them writes later has a larger version anyway.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::decide::Entry;
use crate::change::{NodeRank, Offset, Version};
use crate::target::CanonicalKey;

/// 128 bits of a row's canonical key. Two rows of one index would have to share all of them to be taken for one: at
/// ten million rows the odds are 1 in 10^24.
type Fingerprint = u128;

fn fingerprint(key: &CanonicalKey) -> Fingerprint {
    // The hasher's keys are fixed, so the same row has the same place on every run.
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        key.0.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

#[derive(Default)]
pub struct Index {
    rows: HashMap<Fingerprint, Entry>,
    /// Per origin the noted writes in order of their offsets: what is forgotten next is in front.
    by_origin: BTreeMap<NodeRank, VecDeque<(Offset, Fingerprint)>>,
}

impl Index {
    pub fn get(&self, key: &CanonicalKey) -> Option<Entry> {
        self.rows.get(&fingerprint(key)).copied()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Notes a write. An older one than the noted is ignored, so noting twice or in another order does not matter.
    pub fn note(&mut self, key: &CanonicalKey, version: Version, offset: Offset) {
        let fingerprint = fingerprint(key);
        let entry = self.rows.entry(fingerprint).or_insert(Entry { version, offset });
        // A transaction that writes a row twice has two records of one version: the later one counts.
        if (version, offset) < (entry.version, entry.offset) {
            return;
        }
        *entry = Entry { version, offset };
        let queue = self.by_origin.entry(version.node).or_default();
        match queue.back() {
            Some(&(last, _)) if last > offset => {
                let place = queue.partition_point(|&(noted, _)| noted <= offset);
                queue.insert(place, (offset, fingerprint));
            }
            Some(&last) if last == (offset, fingerprint) => {}
            _ => queue.push_back((offset, fingerprint)),
        }
    }

    /// Forgets the writes of an origin before `stable`: all other nodes have applied them.
    pub fn forget(&mut self, node: NodeRank, stable: Offset) {
        let Some(queue) = self.by_origin.get_mut(&node) else { return };
        while let Some(&(offset, fingerprint)) = queue.front()
            && offset < stable
        {
            queue.pop_front();
            if self.rows.get(&fingerprint).is_some_and(|entry| entry.version.node == node && entry.offset == offset) {
                self.rows.remove(&fingerprint);
            }
        }
    }

    /// Takes one row out, whoever wrote it. Only the ablation that shows why tombstones are needed does this.
    pub fn remove(&mut self, key: &CanonicalKey) {
        self.rows.remove(&fingerprint(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Hlc;

    fn key(name: &str) -> CanonicalKey {
        CanonicalKey(name.as_bytes().into())
    }

    fn version(hlc: u64, node: u16) -> Version {
        Version { hlc: Hlc(hlc), node: NodeRank(node) }
    }

    #[test]
    fn the_newest_write_stays_in_whatever_order_they_are_noted() {
        let writes = [(version(5, 0), Offset(1)), (version(7, 1), Offset(0)), (version(6, 0), Offset(2))];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut index = Index::default();
            order.into_iter().for_each(|at| index.note(&key("r"), writes[at].0, writes[at].1));
            assert_eq!(index.get(&key("r")), Some(Entry { version: version(7, 1), offset: Offset(0) }));
        }
    }

    #[test]
    fn a_write_is_forgotten_when_all_have_it_and_no_sooner() {
        let mut index = Index::default();
        index.note(&key("r"), version(5, 0), Offset(3));
        index.note(&key("s"), version(6, 0), Offset(4));
        index.forget(NodeRank(0), Offset(3));
        assert_eq!(index.len(), 2);
        index.forget(NodeRank(0), Offset(4));
        assert_eq!((index.get(&key("r")), index.len()), (None, 1));
    }

    #[test]
    fn forgetting_an_overwritten_write_keeps_the_newer_one() {
        let mut index = Index::default();
        index.note(&key("r"), version(5, 0), Offset(3));
        index.note(&key("r"), version(6, 1), Offset(0));
        index.forget(NodeRank(0), Offset(9));
        assert_eq!(index.get(&key("r")).unwrap().version, version(6, 1));
        index.note(&key("r"), version(7, 0), Offset(10));
        index.forget(NodeRank(1), Offset(9));
        assert_eq!(index.get(&key("r")).unwrap().version, version(7, 0));
    }

    #[test]
    fn a_late_note_of_an_early_offset_is_forgotten_in_its_turn() {
        let mut index = Index::default();
        index.note(&key("s"), version(9, 0), Offset(8));
        index.note(&key("r"), version(5, 0), Offset(3));
        index.forget(NodeRank(0), Offset(4));
        assert_eq!((index.get(&key("r")), index.len()), (None, 1));
    }
}
