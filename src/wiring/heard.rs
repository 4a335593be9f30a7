//! What another node answers to a question that this node asked aside: read from its topic, whatever the applier here does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::node::Database;
use super::topics::Topics;
use crate::apply::columns_differ;
use crate::change::ddl::stamp;
use crate::change::wire::{key_of_text, key_text, row_print};
use crate::change::{Note, Offset, OriginId, Prints, Record, RowKey, SchemaChange, TableName, Tables};
use crate::config::{Config, OwnNode};
use crate::runtime::{Disposition, Fault, Stop};
use crate::target::mariadb::MariadbTarget;
use crate::target::{CanonicalKey, Defined, Held, Range, Target};
use crate::topic::TopicReader;

/// How long nothing may be heard until it is said that the node does not answer.
const PATIENCE: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 4 << 20;
const READ_WAIT: Duration = Duration::from_millis(500);
/// Rows of ours that are read at once.
const ROWS_MAX: usize = 20_000;

/// Reads the topic of the node that is asked, from its end on.
pub struct Heard {
    reader: Arc<dyn TopicReader>,
    of: OriginId,
    own: OriginId,
    next: Offset,
}

/// How a table is beside that of the node that was asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Beside {
    pub table: TableName,
    /// Rows that were compared; none where there is a reason.
    pub rows: u64,
    pub differ: u64,
    pub only_there: u64,
    pub only_here: u64,
    /// Why its rows could not be compared.
    pub reason: Option<String>,
    ended: bool,
}

/// Tables that were missing here.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Made {
    /// Each with what could not be carried, where there is something.
    pub made: Vec<(TableName, Option<String>)>,
    pub refused: Vec<(TableName, String)>,
}

impl Heard {
    /// To be made before the question is asked.
    pub async fn from_end(own: &OwnNode, of: &OriginId) -> Result<Self, Stop> {
        let reader = Topics::reach(own.topics.clone())?.reader();
        let next = reader.extent(of).await?.end;
        Ok(Self { reader, of: of.clone(), own: own.name().clone(), next })
    }

    /// The next records of the topic; `None` where it has been silent for too long.
    async fn records(&mut self, since: &Instant) -> Result<Option<Vec<Record>>, Stop> {
        let batch = self.reader.read(&self.of, self.next, READ_BYTES, READ_WAIT).await?;
        if let Some((last, _)) = batch.last() {
            self.next = last.next();
        }
        Ok((since.elapsed() < PATIENCE).then(|| batch.into_iter().map(|(_, record)| record).collect()))
    }

    /// Makes here the tables that the other node has told and that are missing. `None` where it does not answer.
    pub async fn make_tables(&mut self, config: &Config, own: &OwnNode, number: u64) -> Result<Option<Made>, Stop> {
        let began = Instant::now();
        loop {
            let Some(records) = self.records(&began).await? else { return Ok(None) };
            for record in &records {
                match record.note() {
                    Some(Note::Tables(told)) if told.verify.asker == self.own && told.verify.number == number => {
                        return self.make(config, own, record, told).await.map(Some);
                    }
                    _ => {}
                }
            }
        }
    }

    async fn make(&self, config: &Config, own: &OwnNode, record: &Record, told: &Tables) -> Result<Made, Stop> {
        if let Some(reason) = &told.failed {
            return Err(Stop::halt(format!("{} cannot say how its tables are made: {reason}", self.of), "mend it there"));
        }
        let database = Database::new(own, config.tables.clone());
        let target = database.target().await?;
        let mut made = Made::default();
        for told in told.tables.iter().filter(|told| config.tables.captures(&told.name())) {
            let table = told.name();
            if !target.columns(&table).await?.is_empty() {
                continue;
            }
            let Some(change) = SchemaChange::existing(&table, &told.statement) else {
                made.refused.push((table, "it is made in a way that this version does not know".into()));
                continue;
            };
            // Known in our own binlog as what came from elsewhere, so that it is not published as a statement of this node.
            match target.define(&change, &stamp(&self.of, record.gtid), record.commit_second).await? {
                Defined::Done | Defined::AlreadyInPart => made.made.push((table, change.unsaid())),
                Defined::Refused(reason) => made.refused.push((table, format!("it could not be made here: {reason}"))),
            }
        }
        Ok(made)
    }

    /// Compares the rows of these tables with the prints that the other node tells. Both are as they are now: what one has written and the
    /// other not decided about yet differs. `look` sees the tables after each step. `None` where the other node does not answer.
    pub async fn compare(
        &mut self,
        config: &Config,
        own: &OwnNode,
        number: u64,
        tables: &[TableName],
        mut look: impl FnMut(&[Beside]),
    ) -> Result<Option<Vec<Beside>>, Stop> {
        let database = Database::new(own, config.tables.clone());
        let target = database.target().await?;
        let mut all: Vec<Beside> = tables.iter().map(|table| Beside::new(table.clone())).collect();
        let mut since = Instant::now();
        while all.iter().any(|beside| !beside.ended) {
            let Some(records) = self.records(&since).await? else { return Ok(None) };
            for record in &records {
                let Some(Note::Prints(prints)) = record.note() else { continue };
                if prints.verify.asker != self.own || prints.verify.number != number {
                    continue;
                }
                since = Instant::now();
                let name = prints.name();
                if !all.iter().any(|beside| beside.table == name) {
                    all.push(Beside::new(name.clone()));
                }
                let beside = all.iter_mut().find(|beside| beside.table == name).expect("it was just put there");
                beside.take(target, [&self.of, &self.own], prints).await?;
                look(&all);
            }
        }
        Ok(Some(all))
    }
}

impl Beside {
    fn new(table: TableName) -> Self {
        Self { table, rows: 0, differ: 0, only_there: 0, only_here: 0, reason: None, ended: false }
    }

    /// All of it was compared, or nothing could be.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    async fn take(&mut self, target: &MariadbTarget, names: [&OriginId; 2], prints: &Prints) -> Result<(), Stop> {
        self.ended |= prints.ends || prints.failed.is_some();
        if let Some(reason) = &prints.failed {
            self.reason = Some(reason.clone());
            return Ok(());
        }
        let held = match held(target, prints).await {
            Ok(held) => held,
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                (self.reason, self.ended) = (Some(error.to_string()), true);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = columns_differ(target, names, prints, held.first()).await? {
            (self.reason, self.ended) = (Some(reason), true);
            return Ok(());
        }
        let mut here: BTreeMap<String, &Held> = held.iter().map(|held| (key_text(&held.key), held)).collect();
        let mut apart: Vec<(RowKey, bool, bool)> = Vec::new();
        for (text, print) in &prints.rows {
            self.rows += 1;
            let own = here.remove(text);
            let same = own.is_some_and(|own| row_print(&own.key.shape, &own.image, &prints.columns) == *print);
            if let Some(key) = key_of_text(text).filter(|_| !same) {
                apart.push((own.map_or(key, |own| own.key.clone()), true, own.is_some()));
            }
        }
        self.rows += here.len() as u64;
        apart.extend(here.into_values().map(|own| (own.key.clone(), false, true)));
        // A key that is spelled in another way is the same row; of one that changed while it was read nothing is said.
        let keys: Vec<RowKey> = apart.iter().map(|(key, ..)| key.clone()).collect();
        let left_out: Vec<RowKey> = prints.left_out.iter().filter_map(|text| key_of_text(text)).collect();
        let left_out: BTreeSet<CanonicalKey> = target.canonical(&left_out).await?.into_iter().collect();
        let mut rows: BTreeMap<CanonicalKey, (bool, bool)> = BTreeMap::new();
        for (place, (_, there, here)) in target.canonical(&keys).await?.into_iter().zip(apart) {
            let row = rows.entry(place).or_default();
            *row = (row.0 | there, row.1 | here);
        }
        for (_, sides) in rows.into_iter().filter(|(place, _)| !left_out.contains(place)) {
            match sides {
                (true, true) => self.differ += 1,
                (true, false) => self.only_there += 1,
                _ => self.only_here += 1,
            }
        }
        Ok(())
    }
}

/// Our rows between the keys of the prints.
async fn held(target: &MariadbTarget, prints: &Prints) -> Result<Vec<Held>, crate::target::TargetError> {
    let key = |text: &String| key_of_text(text);
    let mut wanted = Range {
        table: prints.name(),
        after: prints.after.as_ref().and_then(key),
        upto: prints.upto.as_ref().and_then(key),
        keys: Vec::new(),
        rows_max: ROWS_MAX,
    };
    let mut all = Vec::new();
    loop {
        let (mut some, _) = target.range(&wanted).await?;
        let ends = some.is_empty();
        if let Some(last) = some.last() {
            wanted.after = Some(last.key.clone());
        }
        all.append(&mut some);
        if ends {
            return Ok(all);
        }
    }
}
