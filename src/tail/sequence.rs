//! The decisions of the tailer, without I/O: which changes become records, and with which version and context.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reread::{Rereading, earlier};
use super::witness::Witness;
use super::{TailError, TailOptions};
use crate::change::{
    BinlogCoordinates, Body, Change, ChangePrint, Gtid, GtidPosition, Hlc, Image, Mark, Note, Op, OriginId, Record, Rewrite,
    SchemaChange, Seen, Shape, TableName, Trace, ddl, wire,
};
use crate::observe::{Became, Observer};
use crate::source::{Ddl, TransactionHeader, TransactionPart};

/// Turns transactions into records. Its state is a pure function of the binlog and the last published record, but for
/// the clock guard, which asks what time it is.
pub struct Sequencer {
    options: TailOptions,
    observer: Observer,
    hlc: Hlc,
    seen: Arc<Seen>,
    /// All of the history up to here is decided.
    position: Arc<GtidPosition>,
    read_from: Option<Arc<GtidPosition>>,
    passed: Passed,
    current: Option<Current>,
    /// Reading began before `position`, so old transactions come again.
    replays: bool,
    /// The transaction of which the topic holds only a part.
    partial: Option<Partial>,
    /// The transaction that must come first, and be what it was.
    witness: Option<Witness>,
    /// Somebody wants what is published read once more.
    rereading: Option<Rereading>,
}

/// The last transaction that is decided, for heartbeats to tell of.
#[derive(Default)]
struct Passed {
    gtid: Gtid,
    commit_second: u64,
    server_id: u32,
    coordinates: BinlogCoordinates,
    trace: Option<Arc<Trace>>,
}

/// The transaction that is being read.
struct Current {
    gtid: Gtid,
    kind: Kind,
    /// Set by the first record: transactions that publish nothing do not move the clock.
    hlc: Option<Hlc>,
    row: u64,
    table_rows: BTreeMap<TableName, u64>,
    /// The newest record, kept back until it is known whether it is the last.
    held: Option<Record>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Nothing but changes of our own tables so far.
    Undecided,
    Local,
    /// Our applier's.
    Echo,
}

struct Partial {
    gtid: Gtid,
    hlc: Hlc,
    /// The last row that the topic holds, and what it says.
    row: u64,
    print: Option<u64>,
}

impl Sequencer {
    /// Goes on after the last record of the own topic.
    pub fn resume(options: TailOptions, observer: Observer, last: &Record) -> Self {
        let partial = (!last.last).then(|| Partial {
            gtid: last.gtid,
            hlc: last.hlc,
            row: last.row,
            print: last.change().map(wire::print),
        });
        Self {
            hlc: last.hlc,
            seen: last.seen.clone(),
            position: last.position.clone(),
            read_from: last.read_from.clone(),
            replays: last.read_from.is_some(),
            passed: Passed {
                gtid: last.gtid,
                commit_second: last.commit_second,
                server_id: last.server_id,
                coordinates: last.coordinates.clone(),
                trace: last.trace.as_deref().map(|trace| with_change(trace, last.logged_row())),
            },
            witness: Witness::of(last, &options.filter).filter(|_| !options.ablation.no_history_check),
            partial,
            ..Self::start(options, observer, GtidPosition::start())
        }
    }

    /// Begins a new topic at a position of the binlog.
    pub fn start(options: TailOptions, observer: Observer, position: GtidPosition) -> Self {
        let gtid = position.iter().next().unwrap_or_default();
        Self {
            options,
            observer,
            hlc: Hlc::default(),
            seen: Arc::default(),
            passed: Passed { gtid, ..Passed::default() },
            position: Arc::new(position),
            read_from: None,
            replays: false,
            current: None,
            partial: None,
            witness: None,
            rereading: None,
        }
    }

    /// Where the binlog must be read from.
    pub fn read_from(&self) -> Arc<GtidPosition> {
        // Where reading begins earlier anyhow, what must come again does.
        let earliest = self.read_from.as_ref().or(self.witness.as_ref().map(|witness| &witness.from));
        let earliest = earliest.unwrap_or(&self.position);
        match &self.rereading {
            Some(rereading) => earlier(earliest, rereading.from()),
            None => earliest.clone(),
        }
    }

    /// What is published already comes once more, from an older place on, and is passed over.
    pub fn read_again(&mut self, rereading: Rereading) {
        self.rereading = Some(rereading);
        self.end_reread();
    }

    pub fn is_rereading(&self) -> bool {
        self.rereading.is_some()
    }

    /// Goes on without that. `None` where nothing is read again, or where it cannot be left here: inside a transaction.
    pub fn give_up_reread(&mut self) -> Option<Rereading> {
        self.rereading.take_if(|_| self.current.is_none())
    }

    fn end_reread(&mut self) {
        if let Some(done) = self.rereading.take_if(|rereading| rereading.is_done()) {
            let told = done.end();
            self.observer.read_again(&told.from.to_string(), told.transactions, told.changes);
        }
    }

    /// True until the binlog has shown that it is the one that was read before.
    pub fn is_doubtful(&self) -> bool {
        self.witness.is_some()
    }

    /// Goes on without that, where the server no longer has what would show it.
    pub fn trust(&mut self) {
        self.witness = None;
    }

    /// All of the history up to here is decided.
    pub fn position(&self) -> &Arc<GtidPosition> {
        &self.position
    }

    /// True once a transaction was read to its end, now or before the last record.
    pub fn has_passed(&self) -> bool {
        self.passed.trace.is_some()
    }

    pub fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// True where all that was read is decided: between two transactions of the history that is known to be the right one.
    pub fn is_between(&self) -> bool {
        self.current.is_none() && self.partial.is_none() && !self.is_doubtful()
    }

    /// Whose history it is.
    pub fn origin(&self) -> &OriginId {
        &self.options.origin
    }

    /// Where the last transaction that is decided lies in the binlog; the default before there was one.
    pub fn coordinates(&self) -> &BinlogCoordinates {
        &self.passed.coordinates
    }

    /// A record that only tells `seen` and the position. `None` inside a transaction.
    pub fn heartbeat(&self) -> Option<Record> {
        self.between(Body::Heartbeat)
    }

    /// A record of a row as it is at this place of the history, from a snapshot. `None` inside a transaction.
    pub fn existing_row(&self, shape: &Arc<Shape>, row: Image) -> Option<Record> {
        let (shape, after) = (shape.clone(), Some(row));
        self.between(Body::Change(Change { shape, op: Op::Read, before: None, after, checks: Default::default() }))
    }

    /// A record that tells the other nodes something. `None` inside a transaction.
    pub fn note(&self, note: Note) -> Option<Record> {
        self.between(Body::Note(Box::new(note)))
    }

    /// How a table is made whose rows are published as they are now.
    pub fn existing_table(&self, table: &TableName, definition: &str) -> Option<Record> {
        self.between(Body::Schema(Box::new(SchemaChange::existing(table, definition)?)))
    }

    fn between(&self, body: Body) -> Option<Record> {
        if !self.is_between() {
            return None;
        }
        Some(Record {
            origin: self.options.origin.clone(),
            gtid: self.passed.gtid,
            row: 0,
            table_row: 0,
            hlc: self.hlc,
            seen: self.seen.clone(),
            last: true,
            position: self.position.clone(),
            read_from: self.read_from.clone(),
            commit_second: self.passed.commit_second,
            server_id: self.passed.server_id,
            coordinates: self.passed.coordinates.clone(),
            trace: self.passed.trace.clone(),
            body,
        })
    }

    /// Takes the next part of the binlog and appends the records to be published.
    pub fn take(&mut self, part: TransactionPart, now_seconds: u64, out: &mut Vec<Record>) -> Result<(), TailError> {
        let header = &part.header;
        if let Some(witness) = &mut self.witness {
            if witness.is(header.gtid) {
                if witness.take(&part)? {
                    self.witness = None;
                }
                self.pass_over(&part);
                return Ok(());
            }
            // Only an open XA transaction, or somebody's wish, brings older ones again before it.
            if !(self.replays || self.rereading.is_some()) || !self.position.covers(header.gtid) {
                return Err(witness.missing(header.gtid));
            }
        }
        let told_twice = self.rereading.is_some() && self.options.ablation.no_passing_over;
        if self.position.covers(header.gtid) && !told_twice {
            if self.rereading.is_some() {
                self.pass_over(&part);
                return Ok(());
            }
            // Read again only because an XA transaction that was still open began before it. Otherwise the server
            // counts backwards, and to take the transaction for an old one would lose it.
            return if self.replays {
                Ok(())
            } else {
                Err(TailError::Backwards { gtid: header.gtid, position: self.position.to_string() })
            };
        }
        let current = self.current.get_or_insert_with(|| Current::new(header.gtid));
        assert_eq!(current.gtid, header.gtid, "a source ends one transaction before it begins the next");
        for change in part.changes {
            self.change(header, change, now_seconds, out)?;
        }
        if let Some(ddl) = &part.ddl {
            self.schema(header, ddl, now_seconds, out)?;
        }
        if part.last {
            self.end(header, out)?;
        }
        Ok(())
    }

    /// It is published already, and somebody wants it read once more.
    fn pass_over(&mut self, part: &TransactionPart) {
        if let Some(rereading) = &mut self.rereading {
            rereading.pass_over(part.header.gtid, part.changes.len(), part.last);
            self.end_reread();
        }
    }

    fn change(&mut self, header: &TransactionHeader, change: Change, now: u64, out: &mut Vec<Record>) -> Result<(), TailError> {
        let gtid = header.gtid;
        let current = self.current.as_mut().expect("take began the transaction");
        if let Some(mark) = Mark::read(&change) {
            if current.kind == Kind::Local {
                return Err(TailError::MarkNotFirst { gtid });
            }
            let mark = mark.map_err(|source| TailError::Mark { gtid, source })?;
            current.kind = Kind::Echo;
            self.merge(mark);
            return Ok(());
        }
        if let Some(rewrite) = Rewrite::read(&change) {
            let rewrite = rewrite.map_err(|source| TailError::Mark { gtid, source })?;
            if current.kind == Kind::Echo && !self.options.ablation.no_resolution {
                self.publish(header, Body::Change(rewrite.change), now, out)?;
            }
            return Ok(());
        }
        if change.table().is_own() {
            self.observer.filtered("own", 1);
            return Ok(());
        }
        if current.kind == Kind::Echo && !self.options.ablation.no_echo_filter {
            self.observer.not_published(&change, Became::Echo, header.commit_second);
            return Ok(());
        }
        if current.kind == Kind::Undecided {
            current.kind = Kind::Local;
        }
        if !self.options.filter.captures(change.table()) {
            self.observer.not_published(&change, Became::NotSynced, header.commit_second);
            return Ok(());
        }
        if !change.shape.has_key() && !change.is_whole() {
            return Err(TailError::NotWhole { table: change.table().clone(), gtid });
        }
        self.publish(header, Body::Change(change), now, out)
    }

    /// A statement that is not rows. One that empties a table is a change of its rows.
    fn schema(&mut self, header: &TransactionHeader, ddl: &Ddl, now: u64, out: &mut Vec<Record>) -> Result<(), TailError> {
        let Some(statement) = ddl::Statement::parse(&ddl.statement, &ddl.database, ddl.session.sql_mode) else {
            self.observer.filtered("ddl", 1);
            return Ok(());
        };
        if ddl::is_stamped(&ddl.statement) && !self.options.ablation.no_echo_filter {
            self.observer.filtered("echo", 1);
            return Ok(());
        }
        let Some((tables, whole)) = statement.captured(&self.options.filter) else {
            self.observer.filtered("table", 1);
            return Ok(());
        };
        if statement.verb == ddl::Verb::Truncate {
            let table = tables.into_iter().next().expect("a statement that is captured names something");
            let shape = Arc::new(Shape { table, columns: Vec::new(), key: Vec::new() });
            let change = Change { shape, op: Op::Truncate, before: None, after: None, checks: Default::default() };
            return self.publish(header, Body::Change(change), now, out);
        }
        let change = SchemaChange {
            database: ddl.database.to_string(),
            statement: ddl.statement.to_string(),
            existing: false,
            no_default: if ddl.shown { statement.without_default() } else { Vec::new() },
            session: ddl.session.clone(),
            tables: tables.iter().map(Into::into).collect(),
            whole,
        };
        self.publish(header, Body::Schema(Box::new(change)), now, out)
    }

    /// Our applier brought this origin's changes here: whatever is written from now on has seen them.
    fn merge(&mut self, mark: Mark) {
        if !self.options.ablation.no_clock_merge {
            self.hlc = self.hlc.max(mark.hlc);
        }
        if let Some(data) = mark.data
            && self.seen.0.get(&mark.origin) != Some(&data)
        {
            Arc::make_mut(&mut self.seen).0.insert(mark.origin, data);
        }
    }

    fn publish(&mut self, header: &TransactionHeader, body: Body, now: u64, out: &mut Vec<Record>) -> Result<(), TailError> {
        let current = self.current.as_mut().expect("take began the transaction");
        let hlc = match (current.hlc, &self.partial) {
            (Some(hlc), _) => hlc,
            // Part of this transaction is published already: the rest must have the same version.
            (None, Some(partial)) if partial.gtid == header.gtid => partial.hlc,
            (None, _) => {
                let believed = now + self.options.max_clock_skew.as_secs();
                let committed = if header.commit_second > believed {
                    self.observer.clock_not_believed(header.commit_second - now);
                    Hlc::default()
                } else {
                    Hlc::from_second(header.commit_second)
                };
                self.hlc.next().max(committed)
            }
        };
        current.hlc = Some(hlc);
        self.hlc = self.hlc.max(hlc);
        let mut table_row = 0;
        if let Body::Change(change) = &body {
            let rows = current.table_rows.entry(change.table().clone()).or_default();
            table_row = *rows;
            *rows += 1;
        }
        let record = Record {
            origin: self.options.origin.clone(),
            gtid: header.gtid,
            row: current.row,
            table_row,
            hlc,
            seen: self.seen.clone(),
            last: false,
            position: self.position.clone(),
            read_from: header.read_from.clone(),
            commit_second: header.commit_second,
            server_id: header.server_id,
            coordinates: header.coordinates.clone(),
            trace: None,
            body,
        };
        current.row += 1;
        if let Some(partial) = &self.partial
            && partial.gtid == header.gtid
            && record.row <= partial.row
        {
            if record.row == partial.row && record.change().map(wire::print) != partial.print {
                return Err(TailError::NotWhatWasPublished { gtid: header.gtid, row: record.row });
            }
            return Ok(());
        }
        out.extend(current.held.replace(record));
        Ok(())
    }

    fn end(&mut self, header: &TransactionHeader, out: &mut Vec<Record>) -> Result<(), TailError> {
        let current = self.current.take().expect("take began the transaction");
        let partial = self.partial.take_if(|partial| partial.gtid == header.gtid);
        if let Some(partial) = partial
            && current.held.is_none()
        {
            // The record that the topic holds did not say that it was the last, so there must be one after it.
            return Err(TailError::NotWhatWasPublished { gtid: header.gtid, row: partial.row + 1 });
        }
        let trace = Trace { before: self.position.in_domain(header.gtid.domain), change: None };
        Arc::make_mut(&mut self.position).advance(header.gtid);
        self.read_from = header.read_from.clone();
        self.passed = Passed {
            gtid: header.gtid,
            commit_second: header.commit_second,
            server_id: header.server_id,
            coordinates: header.coordinates.clone(),
            trace: Some(with_change(&trace, current.held.as_ref().and_then(Record::logged_row))),
        };
        if let Some(mut record) = current.held {
            record.last = true;
            record.position = self.position.clone();
            record.trace = Some(Arc::new(trace));
            out.push(record);
        }
        self.observer.tailed(header.commit_second);
        Ok(())
    }
}

/// The trace for a heartbeat: it has to name the change that other records are.
fn with_change(trace: &Trace, change: Option<&Change>) -> Arc<Trace> {
    let print = |change: &Change| ChangePrint { table: change.table().clone(), print: wire::print(change) };
    Arc::new(Trace { before: trace.before, change: change.map(print).or_else(|| trace.change.clone()) })
}

impl Current {
    fn new(gtid: Gtid) -> Self {
        Self { gtid, kind: Kind::Undecided, hlc: None, row: 0, table_rows: BTreeMap::new(), held: None }
    }
}

#[cfg(test)]
mod tests;
