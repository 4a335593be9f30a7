//! The newest write of each row that waits, and the order and the batches in which they go. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Order, Rank};
use crate::change::TableName;
use crate::change::cloud::{CloudOp, CloudRow};

/// Rows that wait for the cloud, one write each.
#[derive(Default)]
pub struct Newest {
    order: Order,
    rows: HashMap<(String, String), (Rank, CloudRow)>,
    bytes: usize,
}

impl Newest {
    /// Of tables in this order.
    pub fn of(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    /// Of a table that this entry of the configuration covers.
    pub fn rank(&self, place: usize, table: &TableName) -> Rank {
        Rank { place, depth: self.order.depth(table) }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a write of a table with this rank.
    pub fn note(&mut self, rank: Rank, row: CloudRow) {
        let name = (row.resource.clone(), row.id.clone());
        let Some((_, held)) = self.rows.get_mut(&name) else {
            self.bytes += row.weight();
            self.rows.insert(name, (rank, row));
            return;
        };
        self.bytes -= held.weight();
        if row.version > held.version {
            let older = std::mem::replace(held, row);
            merge(held, older);
        } else if held.version > row.version {
            merge(held, row);
        }
        // Equal versions of one row are the same write.
        self.bytes += held.weight();
    }

    /// All of them: what is written in the order of the tables, then what is deleted, in the opposite order. Within a table the
    /// oldest first. Each with its table's place in the order.
    pub fn into_rows(self) -> Vec<(usize, CloudRow)> {
        let mut rows: Vec<(Rank, CloudRow)> = self.rows.into_values().collect();
        rows.sort_by_cached_key(|(rank, row)| {
            // Of the two only one tells apart rows that are both deleted or both written.
            let (written, deleted) = match row.op {
                CloudOp::Delete => (None, Some(Reverse(*rank))),
                CloudOp::Insert | CloudOp::Update => (Some(*rank), None),
            };
            (deleted.is_some(), written, deleted, row.version.clone(), row.resource.clone(), row.id.clone())
        });
        rows.into_iter().map(|(rank, row)| (rank.place, row)).collect()
    }
}

/// Lays the newer write over the older one: what the newer does not tell stays as the older had it.
fn merge(newer: &mut CloudRow, older: CloudRow) {
    if newer.op != CloudOp::Update || older.op == CloudOp::Delete {
        return;
    }
    let told = std::mem::replace(&mut newer.row, older.row);
    newer.row.extend(told);
    newer.op = older.op;
}

/// In batches of at most so many rows and about so many bytes, each of one row at least.
pub fn batches(rows: Vec<CloudRow>, rows_max: usize, bytes_max: usize) -> Vec<Vec<CloudRow>> {
    let mut batches: Vec<Vec<CloudRow>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let weight = row.weight();
        match batches.last_mut().filter(|batch| batch.len() < rows_max && bytes + weight <= bytes_max) {
            Some(batch) => {
                bytes += weight;
                batch.push(row);
            }
            None => {
                bytes = weight;
                batches.push(vec![row]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::change::cloud::CloudVersion;

    fn write(resource: &str, id: u64, op: CloudOp, hlc: u64, row: Value) -> CloudRow {
        let Value::Object(row) = row else { panic!("rows are objects") };
        let version = CloudVersion { hlc, origin: "a".into() };
        CloudRow { key: format!("a:{hlc}"), resource: resource.into(), id: id.to_string(), op, version, row }
    }

    fn rank(place: usize) -> Rank {
        Rank { place, depth: 0 }
    }

    fn check(writes: Vec<CloudRow>, op: CloudOp, row: Value) {
        for order in [writes.clone(), writes.into_iter().rev().collect()] {
            let mut newest = Newest::default();
            order.into_iter().for_each(|write| newest.note(rank(0), write));
            let rows = newest.into_rows();
            assert_eq!((rows.len(), rows[0].1.op, Value::Object(rows[0].1.row.clone())), (1, op, row.clone()));
        }
    }

    #[test]
    fn of_the_writes_of_a_row_the_newest_is_left_whatever_came_first() {
        let insert = || write("rooms", 1, CloudOp::Insert, 1, json!({"id": 1, "name": "a", "size": 4}));
        let part = || write("rooms", 1, CloudOp::Update, 2, json!({"id": 1, "name": "b"}));
        let delete = || write("rooms", 1, CloudOp::Delete, 3, json!({}));
        let again = || write("rooms", 1, CloudOp::Insert, 4, json!({"id": 1}));
        check(vec![insert(), part()], CloudOp::Insert, json!({"id": 1, "name": "b", "size": 4}));
        check(
            vec![part(), write("rooms", 1, CloudOp::Update, 3, json!({"size": 5}))],
            CloudOp::Update,
            json!({"id": 1, "name": "b", "size": 5}),
        );
        check(vec![insert(), delete()], CloudOp::Delete, json!({}));
        check(vec![delete(), again()], CloudOp::Insert, json!({"id": 1}));
        check(vec![insert(), insert()], CloudOp::Insert, json!({"id": 1, "name": "a", "size": 4}));
    }

    #[test]
    fn parents_go_first_and_deletes_last_in_the_opposite_order() {
        let mut newest = Newest::default();
        newest.note(rank(1), write("cameras", 1, CloudOp::Insert, 1, json!({})));
        newest.note(rank(0), write("rooms", 2, CloudOp::Delete, 2, json!({})));
        newest.note(rank(0), write("rooms", 1, CloudOp::Insert, 9, json!({})));
        newest.note(rank(1), write("cameras", 2, CloudOp::Delete, 8, json!({})));
        let order: Vec<_> = newest.into_rows().into_iter().map(|(_, row)| (row.op, row.resource)).collect();
        let expected = [
            (CloudOp::Insert, "rooms"),
            (CloudOp::Insert, "cameras"),
            (CloudOp::Delete, "cameras"),
            (CloudOp::Delete, "rooms"),
        ];
        assert_eq!(order, expected.map(|(op, resource)| (op, resource.to_owned())));
    }

    #[test]
    fn within_one_entry_foreign_keys_order_the_tables() {
        let mut newest = Newest::default();
        let rank = |place, depth| Rank { place, depth };
        newest.note(rank(0, 2), write("logs", 1, CloudOp::Insert, 1, json!({})));
        newest.note(rank(0, 0), write("rooms", 1, CloudOp::Insert, 3, json!({})));
        newest.note(rank(0, 1), write("cameras", 1, CloudOp::Insert, 2, json!({})));
        newest.note(rank(0, 0), write("rooms", 2, CloudOp::Delete, 4, json!({})));
        newest.note(rank(0, 1), write("cameras", 2, CloudOp::Delete, 5, json!({})));
        // The order that somebody gave goes before.
        newest.note(rank(1, 0), write("last", 1, CloudOp::Insert, 1, json!({})));
        let order: Vec<_> = newest.into_rows().into_iter().map(|(_, row)| row.resource).collect();
        assert_eq!(order, ["rooms", "cameras", "logs", "last", "cameras", "rooms"]);
    }

    #[test]
    fn batches_keep_to_rows_and_bytes() {
        let rows = |count: u64| (0..count).map(|id| write("rooms", id, CloudOp::Insert, id, json!({}))).collect::<Vec<_>>();
        let sizes = |batches: Vec<Vec<CloudRow>>| batches.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(batches(rows(7), 3, usize::MAX)), [3, 3, 1]);
        let weight = rows(1)[0].weight();
        assert_eq!(sizes(batches(rows(5), 100, weight * 2)), [2, 2, 1]);
        assert_eq!(sizes(batches(rows(2), 100, 1)), [1, 1], "one row goes, however large");
        assert!(batches(Vec::new(), 3, 3).is_empty());
    }

    #[test]
    fn the_weight_is_of_what_is_held() {
        let mut newest = Newest::default();
        let long = write("rooms", 1, CloudOp::Insert, 1, json!({"name": "x".repeat(1000)}));
        newest.note(rank(0), long.clone());
        assert_eq!(newest.bytes(), long.weight());
        newest.note(
            rank(0),
            CloudRow { row: Map::new(), op: CloudOp::Delete, ..write("rooms", 1, CloudOp::Delete, 2, json!({})) },
        );
        assert!(newest.bytes() < 400 && newest.len() == 1);
    }
}
