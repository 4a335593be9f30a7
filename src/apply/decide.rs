//! Which of two writes of one row wins. Pure, and the same on every node.

use crate::change::{Cluster, Offset, Seen, Version};

/// The last write of a row that this node knows of, a delete included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub version: Version,
    /// The record's place in its origin's topic.
    pub offset: Offset,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The change is the newest write of the row.
    Win { conflict: bool },
    /// A newer write of the row stands.
    Lose { conflict: bool },
}

impl Verdict {
    pub fn wins(self) -> bool {
        matches!(self, Self::Win { .. })
    }

    /// Neither write had seen the other.
    pub fn conflict(self) -> bool {
        match self {
            Self::Win { conflict } | Self::Lose { conflict } => conflict,
        }
    }
}

/// Decides about a change of `version` whose origin had `seen` what it says, against the row's last write.
///
/// A change that had seen the entry always has the larger version, because its origin merged the entry's clock. That
/// an entry had seen a change which only comes now cannot be: the change would have been applied before it. So a
/// change that loses to another origin is always a conflict.
pub fn decide(version: Version, seen: &Seen, entry: Option<&Entry>, cluster: &Cluster) -> Verdict {
    match entry {
        None => Verdict::Win { conflict: false },
        Some(entry) if entry.version.node == version.node => {
            if version >= entry.version {
                Verdict::Win { conflict: false }
            } else {
                Verdict::Lose { conflict: false }
            }
        }
        Some(entry) if version > entry.version => {
            Verdict::Win { conflict: !seen.has(cluster.name(entry.version.node), entry.offset) }
        }
        Some(_) => Verdict::Lose { conflict: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Hlc, NodeRank, OriginId};

    fn check(change: (u64, u16), seen_a: Option<u64>, entry: Option<(u64, u16, u64)>, expected: Verdict) {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let version = |hlc, node| Version { hlc: Hlc(hlc), node: NodeRank(node) };
        let seen = Seen(seen_a.map(|offset| (names[0].clone(), Offset(offset))).into_iter().collect());
        let entry = entry.map(|(hlc, node, offset)| Entry { version: version(hlc, node), offset: Offset(offset) });
        assert_eq!(decide(version(change.0, change.1), &seen, entry.as_ref(), &cluster), expected);
    }

    #[test]
    fn the_larger_version_wins_and_unseen_writes_are_conflicts() {
        use Verdict::*;
        check((5, 1), None, None, Win { conflict: false });
        check((5, 1), None, Some((4, 0, 7)), Win { conflict: true });
        check((5, 1), Some(6), Some((4, 0, 7)), Win { conflict: true });
        check((5, 1), Some(7), Some((4, 0, 7)), Win { conflict: false });
        check((5, 1), None, Some((5, 0, 7)), Win { conflict: true });
        check((5, 0), None, Some((5, 1, 7)), Lose { conflict: true });
        check((5, 1), None, Some((6, 0, 7)), Lose { conflict: true });
        check((5, 1), None, Some((5, 1, 7)), Win { conflict: false });
        check((5, 1), None, Some((6, 1, 7)), Lose { conflict: false });
    }
}
