//! The form of a record outside the process: Debezium's envelope in JSON, our own metadata in headers.
//!
//! What JSON cannot say is in the headers: `tandem-base64` names the columns whose strings are bytes. Columns the
//! source did not tell are absent, never null. See docs/wire-format.md.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

mod decode;
mod encode;
mod json;
mod print;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, WireError, decode, decode_change, key_of_text};
pub use encode::{Encoded, Encoder, change_json, encode, encode_change, image_json, key_json, key_text};
pub use print::{changed_columns, print, row_print, same_value};

/// A record as bytes, in the terms of Kafka: key, value, headers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WireRecord {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl WireRecord {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    pub fn size(&self) -> usize {
        self.key.len() + self.value.len() + self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// A record as one text, for our own tables.
pub fn record_text(record: &super::Record) -> String {
    let wire = encode(record);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<(&str, String)> = wire.headers.iter().map(|(name, value)| (&**name, text(value))).collect();
    // All that we write is text.
    serde_json::to_string(&(text(&wire.key), text(&wire.value), headers)).expect("texts are JSON")
}

/// The reverse of [`record_text`].
pub fn record_of_text(text: &str) -> Option<super::Record> {
    let (key, value, headers): (String, String, Vec<(String, String)>) = serde_json::from_str(text).ok()?;
    let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    decode(&WireRecord { key: key.into_bytes(), value: value.into_bytes(), headers }).ok()
}

/// The version of this format; a reader refuses any other.
pub const FORMAT: &str = "1";

/// The columns of each image whose strings are bytes in base64. Per image: a column of text may hold bytes that are
/// not valid in its character set in one of them only.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug, Default)]
struct BinaryColumns<'a> {
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<Cow<'a, str>>,
}

/// Header names.
pub mod header {
    pub const FORMAT: &str = "tandem-v";
    pub const ORIGIN: &str = "tandem-origin";
    pub const GTID: &str = "tandem-gtid";
    pub const ROW: &str = "tandem-row";
    pub const HLC: &str = "tandem-hlc";
    pub const SEEN: &str = "tandem-seen";
    pub const LAST: &str = "tandem-last";
    pub const POSITION: &str = "tandem-position";
    pub const READ_FROM: &str = "tandem-read-from";
    pub const BEFORE: &str = "tandem-before";
    pub const CHANGE_PRINT: &str = "tandem-change-print";
    pub const BASE64: &str = "tandem-base64";
    pub const CHECKS: &str = "tandem-checks";
    pub const GENERATED: &str = "tandem-generated";

    /// All of them.
    pub(super) const ALL: [&str; 14] =
        [FORMAT, ORIGIN, GTID, ROW, HLC, SEEN, LAST, POSITION, READ_FROM, BEFORE, CHANGE_PRINT, BASE64, CHECKS, GENERATED];
}
