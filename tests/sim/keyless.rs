//! A table without a key, where each node inserts, updates and deletes rows of its own: so much converges, and every row must
//! be there exactly as often as its author has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use tandem::change::{Change, Column, ColumnKind, Image, Mark, Op, Shape, TableName, Value};
use tandem::target::memory::LocalWrite;

use crate::oracle::Site;

pub fn log() -> Arc<Shape> {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false };
    let columns = vec![column("author"), column("line")];
    Arc::new(Shape { table: TableName::new("campus", "log"), columns, key: Vec::new() })
}

type Row = Vec<Value>;

/// The rows that one node has made and not yet deleted.
pub struct OwnRows {
    author: i64,
    dice: Rng,
    rows: Vec<Row>,
}

impl OwnRows {
    pub fn new(seed: u64, node: usize) -> Self {
        Self { author: node as i64, dice: Rng::with_seed(seed ^ (node as u64 + 1) << 48), rows: Vec::new() }
    }

    /// Adds to a transaction what it does to such rows; gives the rows as they are if it is committed.
    pub fn next(&mut self, keyless: bool, writes: &mut Vec<LocalWrite>) -> Vec<Row> {
        let mut rows = self.rows.clone();
        for _ in 0..if keyless { self.dice.usize(..4) } else { 0 } {
            let table = log().table.clone();
            // So few that many are equal.
            let row = vec![Value::Int(self.author), Value::Int(self.dice.i64(0..3))];
            let at = self.dice.usize(..rows.len() + 2);
            let op = if at < rows.len() { self.dice.u64(..2) } else { 2 };
            writes.push(match op {
                0 => LocalWrite::Delete { table, key: rows.swap_remove(at) },
                1 => LocalWrite::Update { table, key: std::mem::replace(&mut rows[at], row.clone()), row },
                _ => {
                    rows.push(row.clone());
                    LocalWrite::Insert { table, row }
                }
            });
        }
        rows
    }

    pub fn committed(&mut self, rows: Vec<Row>) {
        self.rows = rows;
    }
}

/// Every site's rows must be those that all nodes' own binlogs leave. Tells how many changes of rows there were, and how many
/// rows equal another in the end.
pub fn check(sites: &[Site], logs: &[Vec<Image>]) -> Result<(usize, usize), String> {
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    let mut changed = 0;
    let is_apply = |changes: &[Change]| changes.first().is_some_and(|change| Mark::read(change).is_some());
    let own = sites.iter().flat_map(|site| &site.binlog).filter(|(_, changes)| !is_apply(changes));
    for change in own.flat_map(|(_, changes)| changes).filter(|change| *change.table() == log().table) {
        changed += usize::from(change.op != Op::Insert);
        for (image, more) in [(&change.before, -1), (&change.after, 1)] {
            if let Some(image) = image {
                *expected.entry(format!("{image:?}")).or_default() += more;
            }
        }
    }
    expected.retain(|_, count| *count != 0);
    for (site, rows) in sites.iter().zip(logs) {
        let mut held: BTreeMap<String, i64> = BTreeMap::new();
        rows.iter().for_each(|row| *held.entry(format!("{row:?}")).or_default() += 1);
        if held != expected {
            return Err(format!("{} holds the rows without a key {held:?}, and all wrote {expected:?}", site.origin));
        }
    }
    let equal = expected.values().map(|count| (*count - 1) as usize).sum();
    Ok((changed, equal))
}
