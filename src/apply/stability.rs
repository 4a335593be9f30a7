//! What every node has told of what it applied: how far each origin's writes are known by all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::change::{Cluster, NodeRank, Offset, OriginId, Seen};

/// For each node how far it has applied each origin, as told by its own records, and for ourselves as we know it.
#[derive(Clone)]
pub struct Stability {
    cluster: Cluster,
    /// Per node: the `seen` of the last record of it that we took.
    told: Vec<Arc<Seen>>,
    /// Per origin: the next offset that we take.
    taken: Vec<Offset>,
    /// Per node: it takes part no longer, and all that it published is taken here.
    removed: Vec<bool>,
    /// Changes wait that are still to be decided about: what is told counts when they are.
    frozen: bool,
}

impl Stability {
    pub fn new(cluster: Cluster) -> Self {
        let nodes = cluster.len();
        let (told, taken) = (vec![Arc::default(); nodes], vec![Offset(0); nodes]);
        Self { cluster, told, taken, removed: vec![false; nodes], frozen: false }
    }

    /// The node writes nothing more, and nobody waits for it.
    pub fn remove(&mut self, node: NodeRank) {
        self.removed[usize::from(node.0)] = true;
    }

    /// A record of the node told this.
    pub fn tell(&mut self, node: NodeRank, seen: &Arc<Seen>) {
        if !self.frozen {
            self.told[usize::from(node.0)] = seen.clone();
        }
    }

    /// Nothing that was not stable becomes so, until it is said otherwise.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// What each node told.
    pub fn all_told(&self) -> BTreeMap<OriginId, Seen> {
        self.cluster
            .ranks()
            .map(|node| (self.cluster.name(node).clone(), Seen::clone(&self.told[usize::from(node.0)])))
            .collect()
    }

    /// We took the origin's records up to here. Never moves back.
    pub fn take(&mut self, origin: NodeRank, next: Offset) {
        let taken = &mut self.taken[usize::from(origin.0)];
        *taken = next.max(*taken);
    }

    pub fn taken(&self, origin: NodeRank) -> Offset {
        self.taken[usize::from(origin.0)]
    }

    /// All nodes other than the origin have applied its records before this offset.
    pub fn stable(&self, origin: NodeRank) -> Offset {
        let name = self.cluster.name(origin);
        let reach = |node: NodeRank| {
            if node == self.cluster.own_rank() { self.taken(origin) } else { self.told[usize::from(node.0)].end(name) }
        };
        self.cluster.ranks().filter(|&node| node != origin && self.counts(node)).map(reach).min().unwrap_or(self.taken(origin))
    }

    /// Whether the node may still write without knowing. Of a removed one, what waits to be decided may be.
    fn counts(&self, node: NodeRank) -> bool {
        self.frozen || !self.removed[usize::from(node.0)]
    }

    /// True where everything of other origins that this context saw is taken here too.
    pub fn has_all(&self, seen: &Seen, of: NodeRank) -> bool {
        seen.0.iter().all(|(origin, &offset)| match self.cluster.rank(origin) {
            Some(rank) if rank != of && rank != self.cluster.own_rank() => self.taken(rank) > offset,
            // A node that left the cluster no longer counts; our own writes we know.
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::OriginId;

    #[test]
    fn nobody_waits_for_a_node_that_was_removed_but_what_is_undecided() {
        let names = ["a", "b", "c"].map(OriginId::new);
        let mut stability = Stability::new(Cluster::new(names.clone(), &names[0]).unwrap());
        let [a, b, c] = [0, 1, 2].map(NodeRank);
        stability.tell(b, &Arc::new(Seen([(names[0].clone(), Offset(9))].into())));
        assert_eq!(stability.stable(a), Offset(0), "c has told nothing");
        stability.remove(c);
        assert_eq!(stability.stable(a), Offset(10));
        stability.freeze(true);
        assert_eq!(stability.stable(a), Offset(0), "a change of c may wait, that had not seen it");
        stability.freeze(false);
        assert_eq!(stability.stable(a), Offset(10));
    }

    #[test]
    fn a_write_is_stable_when_the_slowest_node_has_told_it() {
        let names = ["a", "b", "c"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let mut stability = Stability::new(cluster);
        let [a, b, c] = [0, 1, 2].map(NodeRank);
        let seen = |entries: &[(usize, u64)]| {
            Arc::new(Seen(entries.iter().map(|&(at, offset)| (names[at].clone(), Offset(offset))).collect()))
        };
        assert_eq!(stability.stable(a), Offset(0));
        stability.tell(b, &seen(&[(0, 9), (2, 4)]));
        assert_eq!(stability.stable(a), Offset(0), "c has told nothing");
        stability.tell(c, &seen(&[(0, 3)]));
        assert_eq!(stability.stable(a), Offset(4));
        assert_eq!(stability.stable(c), Offset(0), "we took nothing of c");
        stability.take(c, Offset(3));
        assert_eq!(stability.stable(c), Offset(3));
        assert!(!stability.has_all(&seen(&[(2, 3)]), b));
        stability.take(c, Offset(4));
        assert!(stability.has_all(&seen(&[(2, 3), (0, 99), (1, 99)]), b));
    }
}
