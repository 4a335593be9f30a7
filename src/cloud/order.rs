//! Parents before children: the order of tables that one entry of the configuration covers, by their foreign keys. Pure.

use std::collections::HashMap;

use crate::change::TableName;

/// Where a table stands among those that are sent: first by its entry in the configuration, then by its foreign keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Rank {
    /// The entry that covers it.
    pub place: usize,
    /// How many tables it refers to one after another, at most.
    pub depth: usize,
}

/// How deep each table stands in the foreign keys; one that refers to none is not in it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order(HashMap<TableName, usize>);

impl Order {
    /// `references` are pairs of a table and another that it refers to. Tables that refer to each other in a ring have no order;
    /// they end up beside one another, after what all of them refer to.
    pub fn of(references: &[(TableName, TableName)]) -> Self {
        let mut depths: HashMap<TableName, usize> = HashMap::new();
        let others = || references.iter().filter(|(from, to)| from != to);
        let deepest = others().map(|(from, _)| from).collect::<std::collections::HashSet<_>>().len();
        // A chain has as many links as tables that refer at most, so after that many rounds nothing moves but rings.
        for _ in 0..deepest {
            for (from, to) in others() {
                let above = depths.get(to).copied().unwrap_or(0);
                let depth = depths.entry(from.clone()).or_default();
                *depth = (*depth).max((above + 1).min(deepest));
            }
        }
        Self(depths)
    }

    pub fn depth(&self, table: &TableName) -> usize {
        self.0.get(table).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(references: &[(&str, &str)]) -> Order {
        let table = |name: &str| TableName::new("campus", name);
        Order::of(&references.iter().map(|(from, to)| (table(from), table(to))).collect::<Vec<_>>())
    }

    fn depths<const N: usize>(order: &Order, names: [&str; N]) -> [usize; N] {
        names.map(|name| order.depth(&TableName::new("campus", name)))
    }

    #[test]
    fn a_table_stands_after_all_that_it_refers_to() {
        let order =
            order(&[("logs", "cameras"), ("cameras", "rooms"), ("loads", "rooms"), ("logs", "people"), ("rooms", "rooms")]);
        assert_eq!(depths(&order, ["rooms", "people", "cameras", "loads", "logs", "others"]), [0, 0, 1, 1, 2, 0]);
    }

    #[test]
    fn rings_end_and_stand_after_what_is_above_them() {
        let order = order(&[("a", "b"), ("b", "a"), ("b", "top"), ("below", "a")]);
        let [top, a, b, below] = depths(&order, ["top", "a", "b", "below"]);
        assert!(top < a && top < b && below >= a, "{top} {a} {b} {below}");
    }
}
