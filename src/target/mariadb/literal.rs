//! Values and names as SQL text.
//!
//! Statements carry their values as literals, because only so do many rows fit one statement and several statements one
//! round trip. The session's character set is utf8mb4, in which no byte of a multi-byte character looks like a quote or
//! a backslash, so escaping byte by byte is safe for anything.

use crate::change::{TableName, ValueRef};

pub(super) fn identifier(out: &mut Vec<u8>, name: &str) {
    out.push(b'`');
    for &byte in name.as_bytes() {
        if byte == b'`' {
            out.push(b'`');
        }
        out.push(byte);
    }
    out.push(b'`');
}

pub(super) fn table(out: &mut Vec<u8>, name: &TableName) {
    identifier(out, &name.database);
    out.push(b'.');
    identifier(out, &name.table);
}

pub(super) fn value(out: &mut Vec<u8>, value: ValueRef) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"NULL"),
        ValueRef::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        ValueRef::UInt(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        // As the exact double: the shortest text of a float, read as a double, can round to its neighbour.
        ValueRef::Float(number) => double(out, f64::from(number)),
        ValueRef::Double(number) => double(out, number),
        ValueRef::Text(text) => quoted(out, text.as_bytes()),
        ValueRef::Bytes(bytes) => {
            out.extend_from_slice(b"_binary");
            quoted(out, bytes);
        }
    }
}

/// In quotes, because `1.5` would be a DECIMAL and a bare `-0e0` loses its sign.
fn double(out: &mut Vec<u8>, number: f64) {
    out.push(b'\'');
    out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes());
    out.push(b'\'');
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    quoted(out, text.as_bytes());
}

fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'\'');
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escaped = match byte {
            b'\'' | b'\\' => byte,
            0 => b'0',
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(&[b'\\', escaped]);
        copied = at + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'\'');
}

/// A list with commas between.
pub(super) fn list<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;

    fn check(given: Value, expected: &[u8]) {
        let mut out = Vec::new();
        value(&mut out, given.as_ref());
        assert_eq!(out, expected, "{given:?}");
    }

    #[test]
    fn nothing_leaves_its_quotes() {
        check(Value::text("it's \\ a \0"), b"'it\\'s \\\\ a \\0'");
        check(Value::text("Zo\u{eb} \u{1f600}"), "'Zo\u{eb} \u{1f600}'".as_bytes());
        check(Value::Bytes(Box::new([0xff, b'\'', 0])), b"_binary'\xff\\'\\0'");
        let mut out = Vec::new();
        identifier(&mut out, "a`b");
        assert_eq!(out, b"`a``b`");
    }

    #[test]
    fn numbers_are_exact() {
        check(Value::Int(i64::MIN), b"-9223372036854775808");
        check(Value::UInt(u64::MAX), b"18446744073709551615");
        check(Value::Double(-0.0), b"'-0.0'");
        check(Value::Float(1.1), b"'1.100000023841858'");
        check(Value::Double(1e300), b"'1e300'");
    }
}
