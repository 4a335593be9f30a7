//! The rows of one rows event.

use std::borrow::Cow;

use super::bytes::{Bytes, Checked};
use super::column::ColumnReader;
use super::compression::decompress;
use super::error::{DecodeError, Malformed};
use super::layout::Layout;
use crate::change::{Change, Checks, Image, Op, RowBuffer, ValueRef};

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

/// The changes of one rows event.
///
/// A system-versioned table keeps its past rows among the current ones, and the binlog tells both: an update also
/// inserts the row as it was, and a delete is an update of the row's end of life. The changes given here are those of
/// the current rows, so that another node makes a history of its own: the first gives one update, the second a delete,
/// and what concerns past rows only gives nothing.
///
/// `body` is the event without its header of 19 bytes and without its checksum, compressed or not.
pub fn changes<'a>(
    kind: RowsKind,
    layout: &'a Layout,
    body: &[u8],
) -> Result<impl Iterator<Item = Change> + use<'a>, DecodeError> {
    let head = parse_head(kind, layout, body).map_err(|fault| place(layout, fault))?;
    let rows = if kind.compressed { Cow::Owned(decompress(head.rows)?) } else { Cow::Borrowed(head.rows) };
    let mut images = read_rows(kind.op, layout, &head, &rows)?.into_images(layout.readers.len());
    let (op, checks) = (kind.op, head.checks);
    let changes = std::iter::from_fn(move || {
        let first = images.next()?;
        let (before, after) = match op {
            Op::Update => (Some(first), Some(images.next()?)),
            Op::Delete => (Some(first), None),
            Op::Insert | Op::Read | Op::Truncate => (None, Some(first)),
        };
        Some(Change { shape: layout.shape().clone(), op, before, after, checks })
    });
    Ok(changes.filter_map(|change| match layout.row_end {
        Some(row_end) => of_current_rows(change, row_end),
        None => Some(change),
    }))
}

/// The images of all rows, of an update two for each.
fn read_rows(op: Op, layout: &Layout, head: &Head, rows: &[u8]) -> Result<RowBuffer, DecodeError> {
    // Much of a row is text that stays as long as it is.
    let mut buffer = RowBuffer::with_text(rows.len());
    let mut bytes = Bytes::new(rows);
    while !bytes.is_empty() {
        let before = bytes.len();
        if op != Op::Insert {
            read_image(layout, &head.before, &mut bytes, &mut buffer)?;
        }
        if op != Op::Delete {
            read_image(layout, &head.after, &mut bytes, &mut buffer)?;
        }
        let taken = before - bytes.len();
        if taken == 0 {
            // It would never end.
            return Err(place(layout, Malformed("a row takes no bytes")));
        }
        if before == rows.len() {
            buffer.reserve_like(bytes.len() / taken);
        }
    }
    Ok(buffer)
}

/// Which columns an image has.
#[derive(Debug, Default)]
struct Present {
    /// In order; every column where `full`.
    columns: Vec<u16>,
    full: bool,
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
    let columns = layout.readers.len() + layout.hidden;
    if bytes.packed()? != columns as u64 {
        return Err(Malformed("it has another number of columns than its table map"));
    }
    let first = Present::parse(&mut bytes, columns)?;
    let (before, after) = match kind.op {
        Op::Update => (first, Present::parse(&mut bytes, columns)?),
        Op::Delete => (first, Present::default()),
        Op::Insert | Op::Read | Op::Truncate => (Present::default(), first),
    };
    let checks = Checks {
        foreign_keys_off: flags & NO_FOREIGN_KEY_CHECKS != 0,
        unique_off: flags & RELAXED_UNIQUE_CHECKS != 0,
        partial: false,
    };
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

fn read_image(layout: &Layout, present: &Present, bytes: &mut Bytes, row: &mut RowBuffer) -> Result<(), DecodeError> {
    let nulls = bytes.take(present.columns.len().div_ceil(8)).map_err(|fault| place(layout, fault))?;
    let mut read = |number: usize, column: usize, reader: &ColumnReader, row: &mut RowBuffer| {
        if bit(nulls, number) {
            row.push(ValueRef::Null);
            return Ok(());
        }
        reader.read(bytes, row).map_err(|fault| place_of_column(layout, column, fault))
    };
    if present.full {
        for (column, reader) in layout.readers.iter().enumerate() {
            read(column, column, reader, row)?;
        }
        return pass_hidden(layout, nulls, bytes, layout.readers.len()..present.columns.len());
    }
    let mut told = present.columns.iter().map(|&column| usize::from(column)).enumerate().peekable();
    for (column, reader) in layout.readers.iter().enumerate() {
        match told.next_if(|&(_, told)| told == column) {
            Some((number, _)) => read(number, column, reader, row)?,
            None => row.push_unknown(),
        }
    }
    let first = told.next().map_or(present.columns.len(), |(number, _)| number);
    pass_hidden(layout, nulls, bytes, first..present.columns.len())
}

/// Takes the server's own columns off the end of an image: `numbers` are their places among those that the image has.
fn pass_hidden(layout: &Layout, nulls: &[u8], bytes: &mut Bytes, numbers: std::ops::Range<usize>) -> Result<(), DecodeError> {
    /// A hash is kept as a BIGINT.
    const BYTES: usize = 8;
    let there = numbers.filter(|&number| !bit(nulls, number)).count();
    bytes.take(there * BYTES).map(drop).map_err(|fault| place(layout, fault))
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
fn ended(row_end: ValueRef) -> bool {
    const NEVER: [&str; 2] = ["2038-01-19 03:14:07.999999", "2106-02-07 06:28:15.999999"];
    match row_end {
        ValueRef::Text(text) => !NEVER.contains(&text),
        ValueRef::UInt(transaction) => transaction != u64::MAX,
        _ => true,
    }
}
