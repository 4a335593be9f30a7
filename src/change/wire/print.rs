//! A number for what a change says: the same for a change as it was read and as it came back from a topic.
//!
//! Over the wire form, because only that is the same on both sides: kinds of columns do not travel, and of a partial image only
//! the known columns do, in whatever order. Meant to tell an accident; somebody who wants two changes to look the same can
//! have that.

use super::encode::write_value;
use crate::change::{Change, Image, Shape, ValueRef, is_hash_name};

/// FNV-1a of 64 bits: small, the same everywhere and for ever, which a hash of the standard library does not promise.
struct Fnv(u64);

impl Fnv {
    fn put(&mut self, bytes: &[u8]) {
        // The length first, so that two texts cannot flow into each other.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// Whether two values are the same, of which one or both came back from a topic.
pub fn same_value(one: ValueRef, other: ValueRef) -> bool {
    let (mut text, mut other_text) = (Vec::new(), Vec::new());
    put_value(&mut text, one);
    put_value(&mut other_text, other);
    // Bytes travel as base64, and are not the text that looks so.
    text == other_text && matches!(one, ValueRef::Bytes(_)) == matches!(other, ValueRef::Bytes(_))
}

pub fn print(change: &Change) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.put(change.table().database.as_bytes());
    hash.put(change.table().table.as_bytes());
    hash.put(change.op.letter().as_bytes());
    for image in [&change.before, &change.after] {
        put_image(&mut hash, &change.shape, image.as_ref());
    }
    hash.0
}

/// Letters of a print that tell the whole row, and after them those of each column.
const ROW_LETTERS: usize = 16;
const COLUMN_LETTERS: usize = 4;

/// What a row says in these columns, as letters: the same wherever it was read. A column that is unknown here tells so.
pub fn row_print(shape: &Shape, image: &Image, columns: &[String]) -> String {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    let (mut row, mut each, mut text) = (Fnv(START), String::new(), Vec::new());
    for name in columns {
        text.clear();
        match shape.find(name).and_then(|at| image.get(at)) {
            Some(value) => {
                text.push(if matches!(value, ValueRef::Bytes(_)) { b'b' } else { b'v' });
                put_value(&mut text, value);
            }
            None => text.push(b'?'),
        }
        row.put(&text);
        let mut column = Fnv(START);
        column.put(&text);
        // Folded, because the last bits of a short text depend on little.
        each += &format!("{:04x}", (column.0 ^ column.0 >> 16 ^ column.0 >> 32 ^ column.0 >> 48) as u16);
    }
    format!("{:016x}{each}", row.0)
}

/// The columns in which two prints of the same columns differ.
pub fn changed_columns(one: &str, other: &str, columns: &[String]) -> Vec<String> {
    let of = |print: &str, at: usize| {
        let start = ROW_LETTERS + at * COLUMN_LETTERS;
        print.get(start..start + COLUMN_LETTERS).map(str::to_owned)
    };
    (0..columns.len()).filter(|&at| of(one, at) != of(other, at)).map(|at| columns[at].clone()).collect()
}

fn put_image(hash: &mut Fnv, shape: &Shape, image: Option<&Image>) {
    let Some(image) = image else { return hash.put(b"none") };
    // What only the binlog shows is told or not by what the server says of the table now, and that may be another thing next time.
    let columns = shape.columns.iter().zip(image.values()).filter(|(column, _)| !is_hash_name(&column.name));
    let mut known: Vec<_> = columns.filter_map(|(column, value)| Some((&*column.name, value?))).collect();
    known.sort_by_key(|(name, _)| *name);
    hash.put(&(known.len() as u64).to_le_bytes());
    let mut text = Vec::new();
    for (name, value) in known {
        hash.put(name.as_bytes());
        text.clear();
        put_value(&mut text, value);
        hash.put(&text);
    }
}

fn put_value(text: &mut Vec<u8>, value: ValueRef) {
    match value {
        // It comes back as a double of the same digits, of which large and small ones are written in another form.
        ValueRef::Float(number) => match ryu::Buffer::new().format(number).parse() {
            Ok(number) => write_value(text, ValueRef::Double(number)),
            Err(_) => write_value(text, value),
        },
        value => write_value(text, value),
    }
}
