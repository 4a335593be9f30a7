//! Who made a change and when: origins, hybrid logical clocks, and the order in which versions win.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of the node where a change was first made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OriginId(Arc<str>);

impl OriginId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A hybrid logical clock in microseconds of the Unix epoch. It follows the commit second and never stands still.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hlc(pub u64);

impl Hlc {
    pub const SECOND: u64 = 1_000_000;

    pub fn from_second(second: u64) -> Self {
        Self(second.saturating_mul(Self::SECOND))
    }

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node's place in the cluster's list, which is kept in order of names so that it is the same on every node
/// whatever order a file has them in. Settles changes of the same clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeRank(pub u16);

/// What decides between two changes of one row: the larger wins, on every node alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version {
    pub hlc: Hlc,
    pub node: NodeRank,
}

/// The nodes that take part, and which of them we are.
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: Arc<[OriginId]>,
    own: NodeRank,
}

impl Cluster {
    /// `None` where `own` is not among the nodes or a name stands twice.
    pub fn new(nodes: impl IntoIterator<Item = OriginId>, own: &OriginId) -> Option<Self> {
        let mut nodes: Vec<_> = nodes.into_iter().collect();
        nodes.sort();
        let unique = nodes.windows(2).all(|pair| pair[0] != pair[1]) && nodes.len() <= usize::from(u16::MAX);
        let own = nodes.iter().position(|node| node == own)?;
        unique.then(|| Self { nodes: nodes.into(), own: NodeRank(own as u16) })
    }

    pub fn own(&self) -> &OriginId {
        self.name(self.own)
    }

    pub fn own_rank(&self) -> NodeRank {
        self.own
    }

    pub fn name(&self, rank: NodeRank) -> &OriginId {
        &self.nodes[usize::from(rank.0)]
    }

    pub fn rank(&self, origin: &OriginId) -> Option<NodeRank> {
        self.nodes.binary_search(origin).ok().map(|place| NodeRank(place as u16))
    }

    pub fn ranks(&self) -> impl Iterator<Item = NodeRank> + use<> {
        (0..self.nodes.len() as u16).map(NodeRank)
    }

    pub fn others(&self) -> impl Iterator<Item = NodeRank> + use<> {
        let own = self.own;
        self.ranks().filter(move |&rank| rank != own)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_do_not_depend_on_the_order_in_a_file() {
        let names = |list: &[&str]| list.iter().map(|name| OriginId::new(name)).collect::<Vec<_>>();
        let one = Cluster::new(names(&["b", "a", "c"]), &OriginId::new("b")).unwrap();
        let two = Cluster::new(names(&["c", "b", "a"]), &OriginId::new("a")).unwrap();
        for name in names(&["a", "b", "c"]) {
            assert_eq!(one.rank(&name), two.rank(&name));
        }
        assert_eq!(one.others().count(), 2);
        assert!(Cluster::new(names(&["a", "a"]), &OriginId::new("a")).is_none());
        assert!(Cluster::new(names(&["a"]), &OriginId::new("b")).is_none());
    }

    #[test]
    fn the_clock_decides_before_the_node() {
        let version = |hlc, node| Version { hlc: Hlc(hlc), node: NodeRank(node) };
        assert!(version(2, 0) > version(1, 1));
        assert!(version(1, 1) > version(1, 0));
    }
}
