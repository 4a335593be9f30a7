//! What this database calls equal: text without regard to case and trailing spaces, as MariaDB's default collations do.

use crate::change::{TableName, Value};
use crate::target::CanonicalKey;

pub(super) fn key(table: &TableName, values: &[Value]) -> CanonicalKey {
    CanonicalKey::new(table, values.iter().map(value))
}

pub(super) fn value(value: &Value) -> Box<[u8]> {
    let tagged = |tag: u8, bytes: &[u8]| std::iter::once(tag).chain(bytes.iter().copied()).collect();
    match value {
        Value::Null => tagged(0, &[]),
        Value::Int(number) => tagged(1, &number.to_be_bytes()),
        Value::UInt(number) => tagged(2, &number.to_be_bytes()),
        Value::Float(number) => tagged(3, &number.to_be_bytes()),
        Value::Double(number) => tagged(4, &number.to_be_bytes()),
        Value::Text(text) => tagged(5, text.trim_end_matches(' ').to_lowercase().as_bytes()),
        Value::Bytes(bytes) => tagged(6, bytes),
    }
}
