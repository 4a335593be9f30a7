//! What a topic keeps: a change with where it came from, when, and what its origin had seen by then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Change, Gtid, GtidPosition, Hlc, Note, Op, OriginId, SchemaChange, TableName};

/// Place of a record in its origin's topic, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    pub fn next(self) -> Self {
        // Saturating, because offsets also come from outside.
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The causal context: per other origin, the offset of the last record with a change that was applied here before.
/// Heartbeats do not count, or they would answer each other for ever.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(pub BTreeMap<OriginId, Offset>);

impl Seen {
    pub fn has(&self, origin: &OriginId, offset: Offset) -> bool {
        self.0.get(origin).is_some_and(|&seen| seen >= offset)
    }

    /// The first offset of the origin that was not seen.
    pub fn end(&self, origin: &OriginId) -> Offset {
        self.0.get(origin).map_or(Offset(0), |seen| seen.next())
    }
}

/// Binlog file and the byte where the event ends. The same event is always at the same place of the same server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BinlogCoordinates {
    pub file: Arc<str>,
    pub position: u64,
}

impl BinlogCoordinates {
    /// True where it lies after the other in a binlog that was not reset in between: files are counted by their endings.
    pub fn is_after(&self, other: &Self) -> bool {
        (self.file_number(), self.position) > (other.file_number(), other.position)
    }

    fn file_number(&self) -> u64 {
        self.file.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }
}

/// One record of an origin's topic.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub origin: OriginId,
    /// The transaction the change belongs to. For a heartbeat and for a row that a snapshot found, the last one passed.
    pub gtid: Gtid,
    /// Place of the record in its transaction, from 0.
    pub row: u64,
    /// Place among the changes of the same table in the transaction, from 0.
    pub table_row: u64,
    pub hlc: Hlc,
    pub seen: Arc<Seen>,
    /// The last record of its transaction.
    pub last: bool,
    /// Everything that is decided once this record is durable: all of the history up to the transaction, and the
    /// transaction itself if this is its last record.
    pub position: Arc<GtidPosition>,
    /// Where reading must begin again, if that is before `position`: an open XA transaction was prepared there.
    pub read_from: Option<Arc<GtidPosition>>,
    /// Commit time of the transaction at its origin, in seconds of the Unix epoch.
    pub commit_second: u64,
    pub server_id: u32,
    pub coordinates: BinlogCoordinates,
    /// Only where the record tells that a transaction is passed, and not in records of older versions.
    pub trace: Option<Arc<Trace>>,
    pub body: Body,
}

/// By what a tailer that starts again finds out whether the binlog is still the one that it read, together with the
/// transaction's commit time and coordinates: a GTID alone is given again by a server that lost the end of its binlog.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    /// The transaction before, in the same domain: reading after it begins with this one. `None` where it was the first.
    pub before: Option<Gtid>,
    /// The last change that the transaction published. Only in heartbeats: other records are that change.
    pub change: Option<ChangePrint>,
}

/// A change by its table and [`wire::print`](super::wire::print).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangePrint {
    pub table: TableName,
    pub print: u64,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Body {
    Change(Change),
    /// Publishes `seen` and the position when nothing else does.
    Heartbeat,
    /// Defines tables anew.
    Schema(Box<SchemaChange>),
    /// Tells other nodes something that is no change.
    Note(Box<Note>),
}

impl Record {
    pub fn change(&self) -> Option<&Change> {
        match &self.body {
            Body::Change(change) => Some(change),
            Body::Heartbeat | Body::Note(_) | Body::Schema(_) => None,
        }
    }

    pub fn note(&self) -> Option<&Note> {
        match &self.body {
            Body::Note(note) => Some(note),
            Body::Heartbeat | Body::Change(_) | Body::Schema(_) => None,
        }
    }

    pub fn schema(&self) -> Option<&SchemaChange> {
        match &self.body {
            Body::Schema(change) => Some(change),
            Body::Heartbeat | Body::Change(_) | Body::Note(_) => None,
        }
    }

    /// Where this record ends its topic, because its node takes part no longer: the node where that was said.
    pub fn removed_by(&self) -> Option<&OriginId> {
        match self.note() {
            Some(Note::Removed { by }) => Some(by),
            _ => None,
        }
    }

    /// True where the origin's history begins anew here: transactions before it tell nothing about those after it.
    pub fn begins_anew(&self) -> bool {
        matches!(self.note(), Some(Note::Anew {}))
    }

    /// The record after which the origin goes on from another position.
    pub fn anew(last: &Self, position: GtidPosition) -> Self {
        let gtid = position.iter().next().unwrap_or_default();
        Self {
            gtid,
            row: 0,
            table_row: 0,
            last: true,
            position: Arc::new(position),
            read_from: None,
            coordinates: BinlogCoordinates::default(),
            trace: None,
            body: Body::Note(Box::new(Note::Anew {})),
            ..last.clone()
        }
    }

    /// The record that ends a topic after the one that is its last by now.
    pub fn removal(origin: &OriginId, last: Option<&Self>, by: &OriginId) -> Self {
        let told = last.cloned().unwrap_or_else(|| Self {
            origin: origin.clone(),
            gtid: Gtid::default(),
            row: 0,
            table_row: 0,
            hlc: Hlc::default(),
            seen: Arc::default(),
            last: true,
            position: Arc::default(),
            read_from: None,
            commit_second: 0,
            server_id: 0,
            coordinates: BinlogCoordinates::default(),
            trace: None,
            body: Body::Heartbeat,
        });
        // Of a transaction that was cut off there is nothing to be known again: it counts as never published.
        let trace = told.trace.filter(|_| told.last && matches!(told.body, Body::Heartbeat | Body::Note(_)));
        let body = Body::Note(Box::new(Note::Removed { by: by.clone() }));
        Self { row: 0, table_row: 0, last: true, trace, body, ..told }
    }

    /// The change, if it is of the transaction that the record names. A row that existed is of none.
    pub fn written(&self) -> Option<&Change> {
        self.change().filter(|change| change.op != Op::Read)
    }

    /// The same, if the binlog holds it as rows.
    pub fn logged_row(&self) -> Option<&Change> {
        self.written().filter(|change| change.op != Op::Truncate)
    }

    pub fn is_heartbeat(&self) -> bool {
        matches!(self.body, Body::Heartbeat)
    }

    /// A row that a snapshot found.
    pub fn is_existing_row(&self) -> bool {
        self.change().is_some_and(|change| change.op == Op::Read)
    }

    /// Bytes in memory, near enough for limits.
    pub fn weight(&self) -> usize {
        let note = |note: &Note| match note {
            Note::Ask(ask) => ask.tables.iter().flat_map(|table| &table.keys).map(String::len).sum(),
            Note::Settled { conflict } => conflict.len(),
            Note::Removed { by } => by.as_str().len(),
            Note::Anew {} => 0,
            Note::Tables(told) => told.tables.iter().map(|table| table.statement.len() + 64).sum(),
            Note::Prints(prints) => prints.rows.iter().map(|(key, print)| key.len() + print.len() + 48).sum::<usize>(),
        };
        size_of::<Self>()
            + self.change().map_or(0, Change::weight)
            + self.schema().map_or(0, SchemaChange::weight)
            + self.note().map_or(0, note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_ordered_by_the_number_of_the_file_first() {
        let at = |file: &str, position| BinlogCoordinates { file: file.into(), position };
        assert!(at("log-bin.000010", 4).is_after(&at("log-bin.000009", 900)));
        assert!(at("log-bin.999999", 4).is_after(&at("log-bin.000010", 4)));
        assert!(at("log-bin.1000000", 4).is_after(&at("log-bin.999999", 4)));
        assert!(at("log.1", 5).is_after(&at("log.1", 4)) && !at("log.1", 4).is_after(&at("log.1", 4)));
    }
}
