//! Rows that were there before a node's topic began, and the snapshots that publish them while everybody writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fastrand::Rng;
use tandem::change::{BinlogCoordinates, Image, Shape, TableName, Value};
use tandem::runtime::Stop;
use tandem::source::memory::{Pause, PausePoint};
use tandem::source::{Chunk, ChunkRequest, RowReader, SourceError};
use tandem::tail::{SnapshotBook, SnapshotOrder};
use tandem::target::memory::{LocalWrite, MemoryTarget};

use crate::trouble::Trouble;
use crate::world::{Node, World};

/// Where a transaction lies in the binlog of its node.
pub fn coordinates(sequence: u64) -> BinlogCoordinates {
    BinlogCoordinates { file: "memory.000001".into(), position: sequence }
}

/// Reads the rows of a node's database, as its server would be asked.
pub struct MemoryRows {
    pub database: MemoryTarget,
    pub pause: Arc<Trouble>,
    /// A view of some moment ago: a server shows what it has logged a moment later.
    behind: Mutex<BTreeMap<TableName, (BinlogCoordinates, Vec<Image>)>>,
}

impl MemoryRows {
    pub fn new(database: MemoryTarget, pause: Arc<Trouble>) -> Self {
        Self { database, pause, behind: Mutex::default() }
    }

    /// Rows by their keys, of which there are no more than keys.
    fn of_keys(&self, wanted: &ChunkRequest, shape: Arc<Shape>) -> Chunk {
        let (moment, _) = self.view(&wanted.table);
        let rows = wanted.keys.iter().filter_map(|key| self.database.row(&wanted.table, &key.values)).collect();
        Chunk { shape, rows, moment, until: self.database.end(), ends: true, names: Vec::new(), definition: None }
    }

    fn view(&self, table: &TableName) -> (BinlogCoordinates, Vec<Image>) {
        let last = self.database.end().iter().next();
        (last.map_or_else(BinlogCoordinates::default, |gtid| coordinates(gtid.sequence)), self.database.rows(table))
    }
}

#[async_trait]
impl RowReader for MemoryRows {
    async fn chunk(&self, wanted: &ChunkRequest) -> Result<Chunk, SourceError> {
        self.pause.at(PausePoint::Position).await?;
        let shape = self.database.shape(&wanted.table).expect("the simulation asks for tables that are there");
        let now = self.view(&wanted.table);
        if !wanted.keys.is_empty() {
            return Ok(self.of_keys(wanted, shape));
        }
        // Every other look is at what the one before saw at its end.
        let (moment, rows) = self.behind.lock().unwrap().remove(&wanted.table).unwrap_or(now);
        let rows = self.database.after(&wanted.table, rows, wanted.after.as_ref());
        // Some tables are large: two rows are not the end of them.
        let rows_max = wanted.rows_max.min(2);
        let ends = rows.len() <= rows_max;
        let behind = self.view(&wanted.table);
        // The server goes on while the rows are on their way.
        self.pause.at(PausePoint::Next).await?;
        if moment == behind.0 {
            self.behind.lock().unwrap().insert(wanted.table.clone(), behind);
        }
        Ok(Chunk {
            shape,
            rows: rows.into_iter().take(rows_max).collect(),
            moment,
            until: self.database.end(),
            ends,
            names: Vec::new(),
            definition: None,
        })
    }
}

impl World {
    /// What was there before any tailer began.
    pub async fn exist(&self, nodes: Range<usize>) -> Result<(), String> {
        for at in nodes {
            let node = &self.nodes[at];
            let before = Before::of(self.scenario.seed, at, &self.table, self.scenario.rows, self.scenario.unique);
            node.database.local_write(&before.writes).await.map_err(|error| error.to_string())?;
            node.commits.lock().unwrap().clear();
            *node.existed.lock().unwrap() = before.payloads;
        }
        Ok(())
    }

    /// Somebody asks for all rows of a node.
    pub fn ask(&self, node: &Node) {
        node.desk.lock().unwrap().ask(&[(self.table.clone(), 0)], &[], None);
    }
}

/// What an application wrote before anybody thought of keeping nodes the same: some rows alike on all nodes, some not.
pub struct Before {
    pub writes: Vec<LocalWrite>,
    /// What tells these rows from all that is written later.
    pub payloads: BTreeMap<String, String>,
}

impl Before {
    pub fn of(seed: u64, node: usize, table: &TableName, rows: u64, unique: bool) -> Self {
        let mut dice = Rng::with_seed(seed ^ (node as u64 + 1) << 20);
        let mut before = Self { writes: Vec::new(), payloads: BTreeMap::new() };
        for row in 0..rows + 2 {
            if dice.u64(..4) == 0 {
                continue;
            }
            let alike = dice.u64(..3) == 0;
            let payload = Value::Int(-(1 + row as i64 * 100 + if alike { 0 } else { node as i64 + 1 }));
            // No two of one node alike, and often the same for different rows of two nodes.
            let seat = if unique && !alike { Value::Int((row as i64 + node as i64) % (rows as i64 + 2)) } else { Value::Null };
            before.payloads.insert(format!("{payload:?}"), format!("{table} rider{row}"));
            let row = vec![Value::text(format!("rider{row}")), payload, seat];
            before.writes.push(LocalWrite::Insert { table: table.clone(), row });
        }
        before
    }
}

/// Orders that outlive the process.
#[derive(Clone, Default)]
pub struct MemoryBook(Arc<Mutex<Vec<SnapshotOrder>>>);

impl SnapshotBook for MemoryBook {
    fn load(&self) -> Result<Vec<SnapshotOrder>, Stop> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, orders: &[SnapshotOrder]) {
        *self.0.lock().unwrap() = orders.to_vec();
    }
}
