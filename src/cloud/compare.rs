//! Sends what a cloud does not have: asks which rows it has, reads the database's own, and sends the others.

use super::sender::Sender;
use super::worker::would_be_sent;
use super::{CloudApplier, CloudFault, Mapping, Order, Progress, Rank, Unsent};
use crate::change::cloud::{CloudRow, CloudVersion};
use crate::change::{Change, Checks, Op, RowKey, TableName};
use crate::observe::{CloudProblem, CloudReport};
use crate::runtime::Shutdown;
use crate::source::{Chunk, ChunkRequest, SourceError};
use crate::target::cloud::{CloudError, IdQuestion};

/// Ids in one answer.
const IDS_AT_ONCE: usize = 10_000;

/// Rows of the database that are in memory at once.
const ROWS_AT_ONCE: usize = 5_000;
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
        let sender = self.sender(shutdown);
        let (place, mapping) = self.options.table(table).expect("it was just found");
        let now = self.clock.now_seconds();
        let mut asked = ChunkRequest {
            table: table.clone(),
            after: None,
            rows_max: ROWS_AT_ONCE,
            bytes_max: BYTES_AT_ONCE,
            keys: Vec::new(),
            condition: mapping.condition(now),
        };
        let mut chunk = self.rows.chunk(&asked).await?;
        self.learn(&sender, &mapping.resource(table), &mapping.id_field(&chunk.shape), mapping.days).await?;
        loop {
            let rows = self.missing(mapping, &chunk, now, report)?;
            if dry_run {
                rows.iter().for_each(|row| would_be_sent(row, report));
            } else if !rows.is_empty() {
                let rows = rows.into_iter().map(|row| (place, row)).collect();
                let rows = self.attach(rows, report, shutdown).await?;
                let sent = sender.send(rows, report).await?;
                self.ledger().keep(&Progress { aside: sent.aside, settled: sent.settled, ..Progress::default() })?;
            }
            let last = chunk.rows.last().and_then(|row| RowKey::of(&chunk.shape, row));
            if chunk.ends || last.is_none() {
                return Ok(());
            }
            asked.after = last;
            chunk = self.rows.chunk(&asked).await?;
        }
    }

    /// Asks for all ids of the resource, page by page.
    async fn learn(&self, sender: &Sender<'_>, resource: &str, id_field: &str, days: Option<u32>) -> Result<(), CloudFault> {
        self.known().clear()?;
        let mut after: Option<String> = None;
        loop {
            let question = IdQuestion { resource, id_field, days, after: after.as_deref(), limit: IDS_AT_ONCE };
            let page = sender.ids(&question).await?;
            self.known().put(&page.ids)?;
            // A cloud that does not know pages answers with all; one that stands still is not followed for ever.
            match page.next {
                Some(next) if after.as_ref() != Some(&next) && !page.ids.is_empty() => after = Some(next),
                _ => return Ok(()),
            }
        }
    }

    /// The rows that the cloud does not have; the others are counted.
    fn missing(
        &self,
        mapping: &Mapping,
        chunk: &Chunk,
        now: u64,
        report: &mut CloudReport,
    ) -> Result<Vec<CloudRow>, CloudFault> {
        let known = self.known();
        let mut missing = Vec::new();
        let version = CloudVersion { hlc: 0, origin: self.options.node.to_string() };
        let resource = mapping.resource(&chunk.shape.table);
        for image in &chunk.rows {
            let (shape, after, checks) = (chunk.shape.clone(), Some(image.clone()), Checks::default());
            let change = Change { shape, op: Op::Read, before: None, after, checks };
            let rows = match mapping.rows(&change, &version, "", now) {
                Ok(rows) => rows,
                Err(unsent) => {
                    report.count(&resource).left_out += 1;
                    if unsent == Unsent::NoId {
                        let error = format!("{}: a row without an id; name a column with `id`", change.table());
                        report.problem(CloudProblem { resource: Some(resource.clone()), id: None, error });
                    }
                    continue;
                }
            };
            for mut row in rows {
                if known.has(&row.id)? {
                    report.summary.already += 1;
                    report.count(&resource).already += 1;
                } else {
                    row.key = format!("{}:{}:{}", self.options.node, row.resource, row.id);
                    missing.push(row);
                }
            }
        }
        Ok(missing)
    }
}
