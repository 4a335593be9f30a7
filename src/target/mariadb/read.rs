//! Rows as the server sends them in text, read into the same values that the binlog gives.

use std::sync::Arc;

use mysql_async::Row;
use mysql_async::Value as Sent;

use super::literal;
use super::schema::{ColumnFacts, Table};
use crate::change::{ColumnKind, Image, RowKey, Shape, Value, ValueRef};
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

/// The row that [`select_list`] asked for, from the first places of the answer. `None` where the answer is another.
pub(super) fn held(table: &Table, row: Row) -> Option<Held> {
    let mut sent = row.unwrap_raw().into_iter();
    let mut values = Vec::with_capacity(table.columns.len());
    for (column, facts) in table.shape.columns.iter().zip(&table.columns) {
        let first = bytes_of(sent.next()??)?;
        let value = match places(column.kind, facts) {
            1 => first.map_or(Some(Value::Null), |bytes| read(column.kind, bytes)),
            _ if facts.blank => match (first, bytes_of(sent.next()??)?) {
                (Some(_), Some(number)) if number == b"0" => Some(Value::Int(0)),
                (Some(text), Some(_)) => read(column.kind, text),
                (None, None) => Some(Value::Null),
                _ => None,
            },
            _ => match (first, bytes_of(sent.next()??)?) {
                // Half a pair of surrogates goes there and back, but is no UTF-8.
                (Some(text), Some(bytes)) => Some(match String::from_utf8(text) {
                    Ok(text) => Value::text(text),
                    Err(_) => Value::Bytes(bytes.into()),
                }),
                (Some(_), None) => None,
                (None, Some(bytes)) => Some(Value::Bytes(bytes.into())),
                (None, None) => Some(Value::Null),
            },
        };
        values.push(Some(value?));
    }
    let image = Image::of(values);
    Some(Held { key: RowKey::of(&table.shape, &image)?, image })
}

/// Text protocol: everything is NULL or bytes.
fn bytes_of(sent: Sent) -> Option<Option<Vec<u8>>> {
    match sent {
        Sent::NULL => Some(None),
        Sent::Bytes(bytes) => Some(Some(bytes)),
        _ => None,
    }
}

fn read(kind: ColumnKind, bytes: Vec<u8>) -> Option<Value> {
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => Value::text(text),
        Err(not_text) => Value::Bytes(not_text.into_bytes().into()),
    };
    match kind {
        ColumnKind::Integer | ColumnKind::Year => {
            let digits = std::str::from_utf8(&bytes).ok()?;
            digits.parse().map(Value::Int).or_else(|_| digits.parse().map(Value::unsigned)).ok()
        }
        ColumnKind::Bit => {
            let number = (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))?;
            Some(Value::unsigned(number))
        }
        ColumnKind::Float => {
            let exact: f64 = std::str::from_utf8(&bytes).ok()?.parse().ok()?;
            Some(Value::Float(exact as f32))
        }
        ColumnKind::Double => Some(Value::Double(std::str::from_utf8(&bytes).ok()?.parse().ok()?)),
        ColumnKind::Binary | ColumnKind::Geometry => Some(Value::Bytes(bytes.into())),
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
        | ColumnKind::Inet6 => Some(text(bytes)),
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
