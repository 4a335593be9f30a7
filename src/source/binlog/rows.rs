//! The rows of one rows event, one change after the other.

use std::borrow::Cow;

use super::bytes::{Bytes, Checked};
use super::column::ColumnReader;
use super::compression::decompress;
use super::error::{DecodeError, Malformed};
use super::layout::Layout;
use crate::change::{Change, Checks, Image, Op, Value};

/// Which rows event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowsKind {
    /// Insert, update or delete.
    pub op: Op,
    /// Version 2, which has a field of extra data.
    extra_data: bool,
    compressed: bool,
}

impl RowsKind {
    /// By the event's type; `None` where it is not a rows event.
    pub fn of(event_type: u8) -> Option<Self> {
        let (first, extra_data, compressed) = match event_type {
            23..=25 => (23, false, false),
            30..=32 => (30, true, false),
            166..=168 => (166, false, true),
            169..=171 => (169, true, true),
            _ => return None,
        };
        let op = [Op::Insert, Op::Update, Op::Delete][usize::from(event_type - first)];
        Some(Self { op, extra_data, compressed })
    }
}

/// The table the rows are of: the id of an earlier table map event of the same statement.
pub fn table_id(body: &[u8]) -> Result<u64, DecodeError> {
    Bytes::new(body).little(6).map_err(|fault| fault.at("a rows event"))
}

/// True for the last rows event of a statement: the table maps before it are void after it.
pub fn ends_statement(body: &[u8]) -> bool {
    body.get(6).is_some_and(|flags| flags & 1 == 1)
}

/// The changes of one rows event. After an error it has ended.
///
/// A system-versioned table keeps its past rows among the current ones, and the binlog tells both: an update also
/// inserts the row as it was, and a delete is an update of the row's end of life. The changes given here are those of
/// the current rows, so that another node makes a history of its own: the first gives one update, the second a delete,
/// and what concerns past rows only gives nothing.
#[derive(Debug)]
pub struct Rows<'a> {
    layout: &'a Layout,
    op: Op,
    checks: Checks,
    before: Present,
    after: Present,
    /// The rows, after the event's head; decompressed where they were compressed.
    rows: Cow<'a, [u8]>,
    /// How far they are read; at the end after an error.
    at: usize,
}

/// Which columns an image has.
#[derive(Debug, Default)]
struct Present {
    /// In order; every column where `full`.
    columns: Vec<u16>,
    full: bool,
}

impl<'a> Rows<'a> {
    /// `body` is the event without its header of 19 bytes and without its checksum, compressed or not.
    pub fn new(kind: RowsKind, layout: &'a Layout, body: &'a [u8]) -> Result<Self, DecodeError> {
        let head = parse_head(kind, layout, body).map_err(|fault| place(layout, fault))?;
        let rows = if kind.compressed { Cow::Owned(decompress(head.rows)?) } else { Cow::Borrowed(head.rows) };
        let Head { checks, before, after, .. } = head;
        Ok(Self { layout, op: kind.op, checks, before, after, rows, at: 0 })
    }

    fn read(&mut self) -> Result<Change, DecodeError> {
        let mut bytes = Bytes::new(&self.rows[self.at..]);
        let mut image = |present: &Present| read_image(self.layout, present, &mut bytes);
        let before = if self.op == Op::Insert { None } else { Some(image(&self.before)?) };
        let after = if self.op == Op::Delete { None } else { Some(image(&self.after)?) };
        let at = self.rows.len() - bytes.len();
        if at == self.at {
            // It would never end.
            return Err(place(self.layout, Malformed("a row takes no bytes")));
        }
        self.at = at;
        Ok(Change { shape: self.layout.shape().clone(), op: self.op, before, after, checks: self.checks })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Change, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.rows.len() {
            let change = self.read();
            if change.is_err() {
                self.at = self.rows.len();
            }
            match (change, self.layout.row_end) {
                (Ok(change), Some(row_end)) => {
                    if let Some(current) = of_current_rows(change, row_end) {
                        return Some(Ok(current));
                    }
                }
                (change, _) => return Some(change),
            }
        }
        None
    }
}

struct Head<'a> {
    checks: Checks,
    before: Present,
    after: Present,
    rows: &'a [u8],
}

fn parse_head<'a>(kind: RowsKind, layout: &Layout, body: &'a [u8]) -> Checked<Head<'a>> {
    const NO_FOREIGN_KEY_CHECKS: u16 = 0x2;
    const RELAXED_UNIQUE_CHECKS: u16 = 0x4;
    let mut bytes = Bytes::new(body);
    bytes.take(6)?; // the table's id, by which the caller found the layout
    let flags = bytes.u16()?;
    if kind.extra_data {
        let length = bytes.u16()?; // its own two bytes included
        bytes.take(length.checked_sub(2).ok_or(Malformed("its extra data has no length"))?.into())?;
    }
    if bytes.packed()? != layout.readers.len() as u64 {
        return Err(Malformed("it has another number of columns than its table map"));
    }
    let first = Present::parse(&mut bytes, layout.readers.len())?;
    let (before, after) = match kind.op {
        Op::Update => (first, Present::parse(&mut bytes, layout.readers.len())?),
        Op::Delete => (first, Present::default()),
        Op::Insert | Op::Read | Op::Truncate => (Present::default(), first),
    };
    let checks =
        Checks { foreign_keys_off: flags & NO_FOREIGN_KEY_CHECKS != 0, unique_off: flags & RELAXED_UNIQUE_CHECKS != 0 };
    Ok(Head { checks, before, after, rows: bytes.rest() })
}

impl Present {
    fn parse(bytes: &mut Bytes, count: usize) -> Checked<Self> {
        let bits = bytes.take(count.div_ceil(8))?;
        let columns: Vec<_> = (0..count as u16).filter(|&at| bit(bits, at.into())).collect();
        Ok(Self { full: columns.len() == count, columns })
    }
}

#[inline]
fn bit(bits: &[u8], at: usize) -> bool {
    bits[at / 8] >> (at % 8) & 1 == 1
}

fn read_image(layout: &Layout, present: &Present, bytes: &mut Bytes) -> Result<Image, DecodeError> {
    let nulls = bytes.take(present.columns.len().div_ceil(8)).map_err(|fault| place(layout, fault))?;
    let mut values: Box<[_]> = layout.readers.iter().map(|_| None).collect();
    let mut read = |number: usize, column: usize, place: &mut Option<Value>, reader: &ColumnReader| {
        if bit(nulls, number) {
            *place = Some(Value::Null);
            return Ok(());
        }
        reader.read(bytes, place).map_err(|fault| place_of_column(layout, column, fault))
    };
    if present.full {
        for (column, (place, reader)) in values.iter_mut().zip(&layout.readers).enumerate() {
            read(column, column, place, reader)?;
        }
    } else {
        for (number, &column) in present.columns.iter().enumerate() {
            let column = usize::from(column);
            read(number, column, &mut values[column], &layout.readers[column])?;
        }
    }
    Ok(Image(values))
}

#[cold]
fn place(layout: &Layout, fault: Malformed) -> DecodeError {
    fault.at(format!("a rows event of {}", layout.shape().table))
}

#[cold]
fn place_of_column(layout: &Layout, column: usize, fault: Malformed) -> DecodeError {
    let shape = layout.shape();
    fault.at(format!("a rows event of {}, column `{}`,", shape.table, shape.columns[column].name))
}

/// What a change means for the current rows of a system-versioned table; `None` where it is about past ones only.
fn of_current_rows(mut change: Change, row_end: usize) -> Option<Change> {
    let is_past = |image: &Option<Image>| image.as_ref().and_then(|image| image.get(row_end)).is_some_and(ended);
    let (before, after) = (is_past(&change.before), is_past(&change.after));
    match change.op {
        _ if before => None,
        Op::Insert if after => None,
        Op::Update if after => {
            change.op = Op::Delete;
            change.after = None;
            Some(change)
        }
        _ => Some(change),
    }
}

/// A row is current while its end is the last moment that a TIMESTAMP can hold (it became a later one in MariaDB 11.5).
fn ended(row_end: &Value) -> bool {
    const NEVER: [&str; 2] = ["2038-01-19 03:14:07.999999", "2106-02-07 06:28:15.999999"];
    match row_end {
        Value::Text(text) => !NEVER.contains(&&**text),
        Value::UInt(transaction) => *transaction != u64::MAX,
        _ => true,
    }
}
