//! Rows as the server sends them in text, read into the same values that the binlog gives.

use std::sync::Arc;

use mysql_async::Row;
use mysql_async::Value as Sent;

use super::literal;
use super::schema::{ColumnFacts, Table};
use crate::change::{ColumnKind, RowBuffer, RowKey, Shape, Value, ValueRef};
use crate::target::Held;

/// The columns as a SELECT list. A column of text in a character set that is neither plain nor sent as stored takes two
/// places: its text where turning it into UTF-8 and back gives the same bytes, else NULL; and its bytes. So does an enum with an empty
/// member: its text, and its number, which is 0 where a value was refused.
pub(super) fn select_list(shape: &Shape, facts: &[ColumnFacts]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    literal::list(&mut out, shape.columns.iter().zip(facts), |out, (column, facts)| {
        let mut name = Vec::with_capacity(column.name.len() + 2);
        literal::identifier(&mut name, &column.name);
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        match (column.kind, facts.charset.as_deref()) {
            // The text of a float is cut to six digits.
            (ColumnKind::Float, _) => put(&[b"CAST(", &name, b" AS DOUBLE)"]),
            (ColumnKind::Enum, Some(_)) if facts.blank => put(&[b"CONVERT(", &name, b" USING utf8mb4), ", &name, b"+0"]),
            (ColumnKind::Enum, None) if facts.blank => put(&[&name, b", ", &name, b"+0"]),
            (ColumnKind::Enum | ColumnKind::Set, Some(_)) => put(&[b"CONVERT(", &name, b" USING utf8mb4)"]),
            (_, Some("utf8mb4" | "utf8mb3" | "utf8" | "ascii")) => put(&[&name]),
            (ColumnKind::Text, Some(_)) if facts.plain => put(&[b"CONVERT(", &name, b" USING utf8mb4)"]),
            (ColumnKind::Text, Some(charset)) => {
                let utf8: Vec<u8> = [b"CONVERT(", &name[..], b" USING utf8mb4)"].concat();
                let bytes: Vec<u8> = [b"CAST(", &name[..], b" AS BINARY)"].concat();
                let back: Vec<u8> = [b"CAST(CONVERT(", &utf8[..], b" USING ", charset.as_bytes(), b") AS BINARY)"].concat();
                put(&[b"IF(", &back, b" = ", &bytes, b", ", &utf8, b", NULL), ", &bytes]);
            }
            _ => put(&[&name]),
        }
    });
    out
}

/// How many places of the answer [`select_list`] took for the column.
fn places(kind: ColumnKind, facts: &ColumnFacts) -> usize {
    if kind == ColumnKind::Text && !facts.plain || facts.blank { 2 } else { 1 }
}

/// The row that [`select_list`] asked for, from the first places of the answer, put behind those that are in `rows`. `None` where the
/// answer is another: then part of it may be in them.
pub(super) fn read_row(table: &Table, row: &Row, rows: &mut RowBuffer) -> Option<()> {
    let mut at = 0;
    for (column, facts) in table.shape.columns.iter().zip(&table.columns) {
        let first = bytes_at(row, at)?;
        let places = places(column.kind, facts);
        let value = match places {
            1 => first.map_or(Some(ValueRef::Null), |bytes| read(column.kind, bytes))?,
            _ if facts.blank => match (first, bytes_at(row, at + 1)?) {
                (Some(_), Some(b"0")) => ValueRef::Int(0),
                (Some(text), Some(_)) => read(column.kind, text)?,
                (None, None) => ValueRef::Null,
                _ => return None,
            },
            _ => match (first, bytes_at(row, at + 1)?) {
                // Half a pair of surrogates goes there and back, but is no UTF-8.
                (Some(text), Some(bytes)) => std::str::from_utf8(text).map_or(ValueRef::Bytes(bytes), ValueRef::Text),
                (Some(_), None) => return None,
                (None, Some(bytes)) => ValueRef::Bytes(bytes),
                (None, None) => ValueRef::Null,
            },
        };
        rows.push(value);
        at += places;
    }
    Some(())
}

/// The rows that [`select_list`] asked for. `None` where the answer is another.
pub(super) fn held(table: &Table, sent: &[Row]) -> Option<Vec<Held>> {
    let mut rows = RowBuffer::default();
    sent.iter().try_for_each(|row| read_row(table, row, &mut rows))?;
    let images = rows.into_images(table.columns.len());
    images.map(|image| Some(Held { key: RowKey::of(&table.shape, &image)?, image })).collect()
}

/// Text protocol: everything is NULL or bytes.
fn bytes_at(row: &Row, at: usize) -> Option<Option<&[u8]>> {
    match row.as_ref(at)? {
        Sent::NULL => Some(None),
        Sent::Bytes(bytes) => Some(Some(bytes)),
        _ => None,
    }
}

fn read(kind: ColumnKind, bytes: &[u8]) -> Option<ValueRef<'_>> {
    match kind {
        ColumnKind::Integer | ColumnKind::Year => {
            let digits = std::str::from_utf8(bytes).ok()?;
            digits.parse().map(ValueRef::Int).or_else(|_| digits.parse().map(ValueRef::unsigned)).ok()
        }
        ColumnKind::Bit => {
            let number = (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))?;
            Some(ValueRef::unsigned(number))
        }
        ColumnKind::Float => {
            let exact: f64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
            Some(ValueRef::Float(exact as f32))
        }
        ColumnKind::Double => Some(ValueRef::Double(std::str::from_utf8(bytes).ok()?.parse().ok()?)),
        ColumnKind::Binary | ColumnKind::Geometry => Some(ValueRef::Bytes(bytes)),
        ColumnKind::Unknown
        | ColumnKind::Decimal
        | ColumnKind::Date
        | ColumnKind::Time
        | ColumnKind::Datetime
        | ColumnKind::Timestamp
        | ColumnKind::Text
        | ColumnKind::Enum
        | ColumnKind::Set
        | ColumnKind::Json
        | ColumnKind::Uuid
        | ColumnKind::Inet4
        | ColumnKind::Inet6 => Some(std::str::from_utf8(bytes).map_or(ValueRef::Bytes(bytes), ValueRef::Text)),
    }
}

/// The key's values in the order of the table's own key; `None` where the change has another key than the table.
pub(super) fn key_values<'k>(table: &Table, key: &'k RowKey) -> Option<Vec<ValueRef<'k>>> {
    if Arc::ptr_eq(&table.shape, &key.shape) {
        return Some(key.values.iter().map(Value::as_ref).collect());
    }
    if key.values.len() != table.shape.key.len() || table.shape.key.is_empty() {
        return None;
    }
    let mut values = vec![None; key.values.len()];
    for (name, value) in key.shape.key_names().zip(&key.values) {
        let column = table.column(name)?;
        let place = table.key().position(|at| at == column)?;
        values[place] = Some(value.as_ref());
    }
    values.into_iter().collect()
}
