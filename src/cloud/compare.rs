//! Sends what a cloud does not have: asks which rows it has, looks up the database's own by their keys alone, and reads and sends the
//! others.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::sender::Sender;
use super::worker::would_be_sent;
use super::{CloudApplier, CloudFault, LocalRows, Mapping, Order, Outlines, Progress, Rank, Unsent};
use crate::change::cloud::{CloudRow, CloudVersion, IdPage};
use crate::change::{Change, Checks, Op, RowKey, TableName};
use crate::observe::{CloudProblem, CloudReport};
use crate::runtime::Shutdown;
use crate::source::{Chunk, ChunkRequest, SourceError};
use crate::target::cloud::{CloudError, IdQuestion};

/// Ids in one answer.
const IDS_AT_ONCE: usize = 10_000;

/// Rows of the database that are looked up at once; two of these are in memory.
const OUTLINES_AT_ONCE: usize = 10_000;

/// Rows that are read whole at once. Each is asked for by its key, in one statement.
const ROWS_AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 16 << 20;

impl CloudApplier {
    /// All tables in their order. What is wrong with one table is noted, and the others go on.
    pub(super) async fn compare(
        &self,
        wanted: &impl Fn(&TableName) -> bool,
        dry_run: bool,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<(), CloudFault> {
        let order = Order::of(&self.rows.references().await?);
        let mut tables: Vec<(Rank, TableName)> = Vec::new();
        for table in self.rows.tables().await? {
            if let Some((place, _)) = self.options.table(&table).filter(|_| wanted(&table)) {
                tables.push((Rank { place, depth: order.depth(&table) }, table));
            }
        }
        tables.sort();
        for (_, table) in tables {
            let (_, mapping) = self.options.table(&table).expect("it was just found");
            let reason = match self.compare_table(&table, dry_run, report, shutdown).await {
                Ok(()) => continue,
                Err(CloudFault::Cloud(error @ CloudError::NoSuch { .. })) => {
                    format!("{error}; mend the table's `resource` or take it out of [cloud.{}.tables]", self.options.name)
                }
                Err(CloudFault::Source(error @ SourceError::Unsuited { .. })) => error.to_string(),
                Err(fault) => return Err(fault),
            };
            let error = format!("{table}: {reason}");
            report.problem(CloudProblem { resource: Some(mapping.resource(&table)), id: None, error });
        }
        Ok(())
    }

    async fn compare_table(
        &self,
        table: &TableName,
        dry_run: bool,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<(), CloudFault> {
        let (place, mapping) = self.options.table(table).expect("it was just found");
        let now = self.clock.now_seconds();
        let columns: Vec<String> = mapping.telling_columns().into_iter().map(str::to_owned).collect();
        let mut asked = ChunkRequest {
            table: table.clone(),
            after: None,
            rows_max: OUTLINES_AT_ONCE,
            bytes_max: BYTES_AT_ONCE,
            keys: Vec::new(),
            condition: mapping.condition(now),
            names: false,
            definition: false,
        };
        let mut chunk = outlines(&self.rows, &asked, &columns).await?;
        self.learn(&self.sender(shutdown), &mapping.resource(table), &mapping.id_field(&chunk.shape), mapping.days).await?;
        loop {
            asked.after = chunk.rows.last().and_then(|row| RowKey::of(&chunk.shape, row)).filter(|_| !chunk.ends);
            let is_last = asked.after.is_none();
            // The next ones are read while these are looked up.
            let mut ahead = JoinSet::new();
            if !is_last {
                let (rows, asked, columns) = (Arc::clone(&self.rows), asked.clone(), columns.clone());
                ahead.spawn(async move { outlines(&rows, &asked, &columns).await });
            }
            let lacking = self.lacking(mapping, &chunk, now, report)?;
            for keys in lacking.chunks(ROWS_AT_ONCE) {
                let asked = ChunkRequest { after: None, keys: keys.to_vec(), rows_max: keys.len(), ..asked.clone() };
                self.send_lacking(place, asked, now, dry_run, report, shutdown).await?;
            }
            chunk = match ahead.join_next().await {
                Some(read) => read.map_err(|_| CloudFault::Ended)??,
                None => return Ok(()),
            };
        }
    }

    /// Reads rows whole, and sends them.
    async fn send_lacking(
        &self,
        place: usize,
        mut asked: ChunkRequest,
        now: u64,
        dry_run: bool,
        report: &mut CloudReport,
        shutdown: &Shutdown,
    ) -> Result<(), CloudFault> {
        let (_, mapping) = &self.options.tables[place];
        loop {
            let chunk = self.rows.chunk(&asked).await?;
            asked.after = chunk.rows.last().and_then(|row| RowKey::of(&chunk.shape, row)).filter(|_| !chunk.ends);
            let rows = self.as_sent(mapping, &chunk, now, report);
            if dry_run {
                rows.iter().for_each(|row| would_be_sent(row, report));
            } else {
                let rows = rows.into_iter().map(|row| (place, row)).collect();
                // A cloud of this kind takes a row once, with all that it has: files go before their rows.
                let attached = self.attach(rows, report, shutdown).await?;
                let sent = self.sender(shutdown).send(attached.rows, report).await?;
                self.ledger().keep(&Progress { aside: sent.aside, settled: sent.settled, ..Progress::default() })?;
            }
            if asked.after.is_none() {
                return Ok(());
            }
        }
    }

    /// Asks for all ids of the resource, page by page.
    async fn learn(&self, sender: &Sender<'_>, resource: &str, id_field: &str, days: Option<u32>) -> Result<(), CloudFault> {
        self.known().clear()?;
        let ask = |after: Option<String>| async move {
            sender.ids(&IdQuestion { resource, id_field, days, after: after.as_deref(), limit: IDS_AT_ONCE }).await
        };
        let (mut after, mut page) = (None, ask(None).await?);
        loop {
            let IdPage { ids, next } = page;
            // A cloud that does not know pages answers with all; one that stands still is not followed for ever.
            if next.is_none() || next == after || ids.is_empty() {
                return Ok(self.known().put(&ids)?);
            }
            after = next.clone();
            // The cloud makes the next page while this one is put away.
            let (asked, put) = tokio::join!(ask(next), async { self.known().put(&ids) });
            put?;
            page = asked?;
        }
    }

    /// The keys of the rows that the cloud does not have; the others are counted.
    fn lacking(
        &self,
        mapping: &Mapping,
        chunk: &Outlines,
        now: u64,
        report: &mut CloudReport,
    ) -> Result<Vec<RowKey>, CloudFault> {
        let known = self.known();
        let resource = mapping.resource(&chunk.shape.table);
        let (mut lacking, mut already) = (Vec::new(), 0);
        for image in &chunk.rows {
            match mapping.row_id(&chunk.shape, image, now) {
                Ok(id) if known.has(&id)? => already += 1,
                Ok(_) => lacking.extend(RowKey::of(&chunk.shape, image)),
                Err(unsent) => left_out(unsent, &chunk.shape.table, &resource, report),
            }
        }
        report.summary.already += already;
        report.count(&resource).already += already;
        Ok(lacking)
    }

    /// Rows as the cloud is to have them.
    fn as_sent(&self, mapping: &Mapping, chunk: &Chunk, now: u64, report: &mut CloudReport) -> Vec<CloudRow> {
        let version = CloudVersion { hlc: 0, origin: self.options.node.to_string() };
        let resource = mapping.resource(&chunk.shape.table);
        let mut rows = Vec::new();
        for image in &chunk.rows {
            let (shape, after, checks) = (chunk.shape.clone(), Some(image.clone()), Checks::default());
            let change = Change { shape, op: Op::Read, before: None, after, checks };
            match mapping.rows(&change, &version, "", now) {
                Ok(sent) => rows.extend(sent),
                // It was none of these when it was looked up a moment ago.
                Err(unsent) => left_out(unsent, &chunk.shape.table, &resource, report),
            }
        }
        for row in &mut rows {
            row.key = format!("{}:{}:{}", self.options.node, row.resource, row.id);
        }
        rows
    }
}

async fn outlines(rows: &Arc<dyn LocalRows>, asked: &ChunkRequest, columns: &[String]) -> Result<Outlines, SourceError> {
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    rows.outlines(asked, &columns).await
}

fn left_out(unsent: Unsent, table: &TableName, resource: &str, report: &mut CloudReport) {
    report.count(resource).left_out += 1;
    if unsent == Unsent::NoId {
        let error = format!("{table}: a row without an id; name a column with `id`");
        report.problem(CloudProblem { resource: Some(resource.to_owned()), id: None, error });
    }
}
