//! How many of our own changes each other node has yet to apply: what the own topic holds, less what they tell they have
//! seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::change::{Offset, OriginId, Seen};

/// Runs of neighbouring changes remembered. Heartbeats part them; beyond this many the oldest are joined, which counts the
/// heartbeats between them too.
const RUNS_MAX: usize = 4_096;

#[derive(Default)]
pub struct Outgoing {
    /// Every change of ours at or after this is known here. `None` before the own topic was read.
    known_from: Option<Offset>,
    /// Offsets that hold changes: start to end, which is no part of it.
    runs: BTreeMap<u64, u64>,
    /// Per other node, the first offset of ours that it has not told to have seen.
    told: BTreeMap<OriginId, Offset>,
    /// Nodes that take part no longer.
    removed: BTreeSet<OriginId>,
}

impl Outgoing {
    /// All changes from here on are noted, or will be.
    pub fn known_from(&mut self, from: Offset) {
        let known = self.known_from.get_or_insert(from);
        *known = from.min(*known);
    }

    /// The own topic holds a change here. Noting it twice is once.
    pub fn note(&mut self, offset: Offset) {
        let Offset(at) = offset;
        let (mut start, mut end) = (at, at + 1);
        if let Some((&before, &until)) = self.runs.range(..=at).next_back()
            && until >= at
        {
            (start, end) = (before, until.max(end));
        }
        if let Some(until) = self.runs.remove(&end) {
            end = until;
        }
        self.runs.insert(start, end);
        if self.runs.len() > RUNS_MAX
            && let Some((first, _)) = self.runs.pop_first()
            && let Some((_, until)) = self.runs.pop_first()
        {
            self.runs.insert(first, until);
        }
    }

    /// The node tells what it has seen; of us too. `others` are all that must tell before anything is forgotten.
    pub fn tell(&mut self, node: &OriginId, seen: &Seen, own: &OriginId, others: &[OriginId]) {
        let end = seen.end(own);
        let told = self.told.entry(node.clone()).or_insert(end);
        *told = end.max(*told);
        let counted = others.iter().filter(|other| !self.removed.contains(*other));
        let Some(all) = counted.map(|other| self.told.get(other).copied()).min().flatten() else { return };
        while let Some(run) = self.runs.first_entry().filter(|run| *run.get() <= all.0) {
            run.remove();
        }
    }

    /// Nothing of ours is to come to this node any more.
    pub fn remove(&mut self, node: &OriginId) {
        self.removed.insert(node.clone());
    }

    /// The others of which it is known, with their changes to come.
    pub fn pending(&self) -> impl Iterator<Item = (&OriginId, u64)> {
        let known_from = self.known_from;
        let known = self
            .told
            .iter()
            .filter(move |(node, end)| known_from.is_some_and(|from| from <= **end) && !self.removed.contains(*node));
        known.map(|(node, end)| (node, self.runs.iter().map(|(&start, &until)| until.saturating_sub(start.max(end.0))).sum()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(offset: u64) -> Seen {
        Seen(BTreeMap::from([(OriginId::new("a"), Offset(offset))]))
    }

    struct Three {
        outgoing: Outgoing,
        others: [OriginId; 2],
    }

    impl Three {
        fn new() -> Self {
            Self { outgoing: Outgoing::default(), others: ["b", "c"].map(OriginId::new) }
        }

        fn tell(&mut self, node: usize, seen: &Seen) {
            self.outgoing.tell(&self.others[node], seen, &OriginId::new("a"), &self.others);
        }

        #[track_caller]
        fn check(&self, expected: &[(&str, u64)]) {
            let pending: Vec<(&str, u64)> = self.outgoing.pending().map(|(node, count)| (node.as_str(), count)).collect();
            assert_eq!(pending, expected);
        }
    }

    #[test]
    fn changes_count_and_heartbeats_between_them_do_not() {
        let mut nodes = Three::new();
        [4, 5, 9, 10, 11].map(Offset).into_iter().for_each(|offset| nodes.outgoing.note(offset));
        nodes.tell(0, &seen(4));
        nodes.check(&[]);
        nodes.outgoing.known_from(Offset(4));
        nodes.check(&[("b", 4)]);
        nodes.tell(1, &seen(10));
        nodes.check(&[("b", 4), ("c", 1)]);
        nodes.tell(0, &seen(2));
        nodes.check(&[("b", 4), ("c", 1)]);
        nodes.tell(0, &seen(11));
        nodes.tell(1, &seen(11));
        nodes.check(&[("b", 0), ("c", 0)]);
        assert!(nodes.outgoing.runs.is_empty(), "what all have seen is forgotten");
    }

    #[test]
    fn a_node_whose_place_is_before_what_is_known_is_not_guessed_at() {
        let mut nodes = Three::new();
        nodes.outgoing.known_from(Offset(50));
        nodes.outgoing.note(Offset(60));
        nodes.tell(0, &seen(48));
        nodes.tell(1, &seen(49));
        nodes.check(&[("c", 1)]);
    }

    #[test]
    fn offsets_may_come_twice_and_out_of_order() {
        let mut nodes = Three::new();
        nodes.outgoing.known_from(Offset(0));
        nodes.tell(0, &Seen::default());
        for offset in [7, 5, 6, 6, 5, 0, 8, 2, 1] {
            nodes.outgoing.note(Offset(offset));
        }
        nodes.check(&[("b", 7)]);
        assert_eq!(nodes.outgoing.runs, BTreeMap::from([(0, 3), (5, 9)]));
    }

    #[test]
    fn endless_heartbeats_between_changes_cost_bounded_memory() {
        let mut nodes = Three::new();
        nodes.outgoing.known_from(Offset(0));
        nodes.tell(0, &Seen::default());
        (0..10_000).for_each(|number| nodes.outgoing.note(Offset(2 * number)));
        assert_eq!(nodes.outgoing.runs.len(), RUNS_MAX);
        let (_, pending) = nodes.outgoing.pending().next().unwrap();
        assert!((10_000..20_000).contains(&pending), "{pending}");
    }
}
