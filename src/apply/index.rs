//! The causal index: the last write of every row that some node may not have seen yet.
//!
//! It is built from the topics alone, the own one included, and forgets by causal stability alone: once every other
//! node has told that it applied a write, whatever any of them writes later has a larger version anyway.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::decide::Entry;
use super::overflow::{Fingerprint, NoOverflow, Overflow, OverflowError};
use crate::change::{NodeRank, Offset, TableName, Version};
use crate::target::CanonicalKey;

/// Two rows of one index would have to share all 128 bits to be taken for one: at ten million rows the odds are 1 in 10^24.
pub(super) fn fingerprint(key: &CanonicalKey) -> Fingerprint {
    // The hasher's keys are fixed, so the same row has the same place on every run.
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        key.0.hash(&mut hasher);
        hasher.finish()
    };
    u128::from(half(1)) << 64 | u128::from(half(2))
}

pub struct Index {
    rows: HashMap<Fingerprint, Entry>,
    /// Per origin the noted writes in order of their offsets: what is forgotten next is in front.
    by_origin: BTreeMap<NodeRank, VecDeque<(Offset, Fingerprint)>>,
    /// Writes noted in memory, replaced ones included, that make it spill.
    rows_max: usize,
    overflow: Box<dyn Overflow>,
    spilled: u64,
    /// Nothing is forgotten for now: what was noted is needed whole.
    held: u32,
    /// When tables were emptied, by their names in keys: a write of all of their rows at once.
    emptied: BTreeMap<Box<[u8]>, Vec<Entry>>,
}

impl Default for Index {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX, Box::new(NoOverflow))
    }
}

impl Index {
    /// Keeps about `rows_max` writes in memory and the others in the overflow.
    pub fn new(rows_max: usize, overflow: Box<dyn Overflow>) -> Self {
        Self {
            rows: HashMap::new(),
            by_origin: BTreeMap::new(),
            rows_max,
            overflow,
            spilled: 0,
            held: 0,
            emptied: BTreeMap::new(),
        }
    }

    pub fn get(&self, key: &CanonicalKey) -> Result<Option<Entry>, OverflowError> {
        let row = self.find(fingerprint(key))?;
        if self.emptied.is_empty() {
            return Ok(row);
        }
        let emptied = key.table().and_then(|table| self.emptied.get(table)).into_iter().flatten();
        Ok(emptied.copied().chain(row).max_by_key(|entry| (entry.version, entry.offset)))
    }

    /// Whether this last write of a row is that its table was emptied.
    pub fn is_emptied(&self, key: &CanonicalKey, entry: &Entry) -> bool {
        key.table().and_then(|table| self.emptied.get(table)).is_some_and(|entries| entries.contains(entry))
    }

    /// Notes that a table was emptied.
    pub fn note_emptied(&mut self, table: &TableName, version: Version, offset: Offset) {
        let entries = self.emptied.entry(CanonicalKey::of_table(table).0).or_default();
        let entry = Entry { version, offset };
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }

    /// True where the row's last write is this one of the node.
    pub fn ends_with(&self, row: Fingerprint, node: NodeRank, offset: Offset) -> Result<bool, OverflowError> {
        Ok(self.find(row)?.is_some_and(|entry| entry.version.node == node && entry.offset == offset))
    }

    /// Rows in memory.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.spilled == 0 && self.emptied.is_empty()
    }

    /// Rows in the overflow.
    pub fn spilled(&self) -> u64 {
        self.spilled
    }

    /// Notes a write. An older one than the noted is ignored, so noting twice or in another order does not matter.
    pub fn note(&mut self, key: &CanonicalKey, version: Version, offset: Offset) -> Result<(), OverflowError> {
        let fingerprint = fingerprint(key);
        let noted = self.find(fingerprint)?;
        // A transaction that writes a row twice has two records of one version: the later one counts.
        if noted.is_some_and(|noted| (version, offset) < (noted.version, noted.offset)) {
            return Ok(());
        }
        if self.rows.insert(fingerprint, Entry { version, offset }).is_none() && noted.is_some() {
            // It was in the overflow, and would come back when this one is forgotten.
            self.overflow.remove(fingerprint)?;
            self.spilled -= 1;
        }
        let queue = self.by_origin.entry(version.node).or_default();
        match queue.back() {
            Some(&(last, _)) if last > offset => {
                let place = queue.partition_point(|&(noted, _)| noted <= offset);
                queue.insert(place, (offset, fingerprint));
            }
            Some(&last) if last == (offset, fingerprint) => {}
            _ => queue.push_back((offset, fingerprint)),
        }
        if self.by_origin.values().map(VecDeque::len).sum::<usize>() > self.rows_max {
            self.spill()?;
        }
        Ok(())
    }

    /// Whether to keep what could be forgotten, for as long as earlier writes are looked at once more, or the node is seeded: until each
    /// who wanted that wants it no longer.
    pub fn hold(&mut self, held: bool) {
        self.held = if held { self.held + 1 } else { self.held.saturating_sub(1) };
    }

    /// Forgets the writes of an origin before `stable`: all other nodes have applied them.
    pub fn forget(&mut self, node: NodeRank, stable: Offset) -> Result<(), OverflowError> {
        if self.held > 0 {
            return Ok(());
        }
        self.emptied.retain(|_, entries| {
            entries.retain(|entry| entry.version.node != node || entry.offset >= stable);
            !entries.is_empty()
        });
        if self.spilled > 0 {
            self.spilled -= self.overflow.forget(node, stable)?;
        }
        let Some(queue) = self.by_origin.get_mut(&node) else { return Ok(()) };
        while let Some(&(offset, fingerprint)) = queue.front()
            && offset < stable
        {
            queue.pop_front();
            if self.rows.get(&fingerprint).is_some_and(|entry| entry.version.node == node && entry.offset == offset) {
                self.rows.remove(&fingerprint);
            }
        }
        Ok(())
    }

    /// Takes one row out, whoever wrote it. Only the ablation that shows why tombstones are needed does this.
    pub fn remove(&mut self, key: &CanonicalKey) -> Result<(), OverflowError> {
        let fingerprint = fingerprint(key);
        if self.rows.remove(&fingerprint).is_none() && self.find(fingerprint)?.is_some() {
            self.overflow.remove(fingerprint)?;
            self.spilled -= 1;
        }
        Ok(())
    }

    fn find(&self, row: Fingerprint) -> Result<Option<Entry>, OverflowError> {
        match self.rows.get(&row) {
            Some(entry) => Ok(Some(*entry)),
            None if self.spilled > 0 => self.overflow.get(row),
            None => Ok(None),
        }
    }

    /// Moves all of memory to the overflow at once: one batch there costs a fraction of as many single rows.
    fn spill(&mut self) -> Result<(), OverflowError> {
        let entries: Vec<(Fingerprint, Entry)> = self.rows.drain().collect();
        self.overflow.put(&entries)?;
        self.spilled += entries.len() as u64;
        self.by_origin.clear();
        Ok(())
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

    /// What the file does, in memory.
    #[derive(Default)]
    struct Drawer(BTreeMap<Fingerprint, Entry>);

    impl Overflow for Drawer {
        fn put(&mut self, entries: &[(Fingerprint, Entry)]) -> Result<(), OverflowError> {
            self.0.extend(entries.iter().copied());
            Ok(())
        }

        fn get(&self, row: Fingerprint) -> Result<Option<Entry>, OverflowError> {
            Ok(self.0.get(&row).copied())
        }

        fn remove(&mut self, row: Fingerprint) -> Result<(), OverflowError> {
            self.0.remove(&row);
            Ok(())
        }

        fn forget(&mut self, node: NodeRank, before: Offset) -> Result<u64, OverflowError> {
            let held = self.0.len();
            self.0.retain(|_, entry| entry.version.node != node || entry.offset >= before);
            Ok((held - self.0.len()) as u64)
        }
    }

    #[test]
    fn a_small_memory_knows_the_same_as_a_large_one() {
        let mut dice = fastrand::Rng::with_seed(9);
        let mut large = Index::default();
        let mut small = Index::new(3, Box::new(Drawer::default()));
        let mut spilled = 0;
        for step in 0..4000 {
            let row = key(&format!("row {}", dice.u64(..40)));
            let node = dice.u16(..3);
            if dice.u64(..10) == 0 {
                let stable = Offset(dice.u64(..step + 1));
                large.forget(NodeRank(node), stable).unwrap();
                small.forget(NodeRank(node), stable).unwrap();
            } else {
                let noted = version(dice.u64(..step + 1), node);
                large.note(&row, noted, Offset(step)).unwrap();
                small.note(&row, noted, Offset(step)).unwrap();
            }
            for row in 0..40 {
                let row = key(&format!("row {row}"));
                assert_eq!(large.get(&row).unwrap(), small.get(&row).unwrap(), "step {step}");
            }
            assert_eq!(large.len() as u64, small.len() as u64 + small.spilled());
            spilled += small.spilled();
        }
        assert!(spilled > 1000);
    }

    #[test]
    fn the_newest_write_stays_in_whatever_order_they_are_noted() {
        let writes = [(version(5, 0), Offset(1)), (version(7, 1), Offset(0)), (version(6, 0), Offset(2))];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut index = Index::default();
            order.into_iter().for_each(|at| index.note(&key("r"), writes[at].0, writes[at].1).unwrap());
            assert_eq!(index.get(&key("r")).unwrap(), Some(Entry { version: version(7, 1), offset: Offset(0) }));
        }
    }

    #[test]
    fn a_write_is_forgotten_when_all_have_it_and_no_sooner() {
        let mut index = Index::default();
        index.note(&key("r"), version(5, 0), Offset(3)).unwrap();
        index.note(&key("s"), version(6, 0), Offset(4)).unwrap();
        index.forget(NodeRank(0), Offset(3)).unwrap();
        assert_eq!(index.len(), 2);
        index.forget(NodeRank(0), Offset(4)).unwrap();
        assert_eq!((index.get(&key("r")).unwrap(), index.len()), (None, 1));
    }

    #[test]
    fn forgetting_an_overwritten_write_keeps_the_newer_one() {
        let mut index = Index::default();
        index.note(&key("r"), version(5, 0), Offset(3)).unwrap();
        index.note(&key("r"), version(6, 1), Offset(0)).unwrap();
        index.forget(NodeRank(0), Offset(9)).unwrap();
        assert_eq!(index.get(&key("r")).unwrap().unwrap().version, version(6, 1));
        index.note(&key("r"), version(7, 0), Offset(10)).unwrap();
        index.forget(NodeRank(1), Offset(9)).unwrap();
        assert_eq!(index.get(&key("r")).unwrap().unwrap().version, version(7, 0));
    }

    #[test]
    fn nothing_is_forgotten_while_it_is_held() {
        let mut index = Index::default();
        index.note(&key("r"), version(5, 0), Offset(3)).unwrap();
        index.hold(true);
        index.forget(NodeRank(0), Offset(9)).unwrap();
        assert!(index.get(&key("r")).unwrap().is_some());
        index.hold(false);
        index.forget(NodeRank(0), Offset(9)).unwrap();
        assert_eq!(index.get(&key("r")).unwrap(), None);
    }

    #[test]
    fn a_late_note_of_an_early_offset_is_forgotten_in_its_turn() {
        let mut index = Index::default();
        index.note(&key("s"), version(9, 0), Offset(8)).unwrap();
        index.note(&key("r"), version(5, 0), Offset(3)).unwrap();
        index.forget(NodeRank(0), Offset(4)).unwrap();
        assert_eq!((index.get(&key("r")).unwrap(), index.len()), (None, 1));
    }
}
