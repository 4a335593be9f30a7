//! Writes records as JSON by hand: this runs once per captured row, and the names are known ahead.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{BinaryColumns, FORMAT, WireRecord, header};
use crate::change::{Body, Change, Checks, Gtid, GtidPosition, Image, Op, Record, RowKey, Seen, Shape, ValueRef};

/// A record in its outside form.
pub fn encode(record: &Record) -> WireRecord {
    let mut encoder = Encoder::default();
    let encoded = encoder.encode(record);
    WireRecord {
        key: encoded.key.to_vec(),
        value: encoded.value.to_vec(),
        headers: encoded.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
    }
}

/// Encodes records one after the other in the same memory, and what they share only once.
#[derive(Default)]
pub struct Encoder {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Headers,
    seen: Option<(Arc<Seen>, Vec<u8>)>,
    position: Option<(Arc<GtidPosition>, Vec<u8>)>,
}

/// The values of headers behind each other, and where each begins.
#[derive(Default)]
struct Headers {
    bytes: Vec<u8>,
    starts: Vec<(&'static str, usize)>,
}

/// A record in its outside form, in the encoder's memory.
pub struct Encoded<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    headers: &'a Headers,
}

impl<'a> Encoded<'a> {
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let Headers { bytes, starts } = self.headers;
        starts.iter().enumerate().map(move |(at, &(name, start))| {
            let end = starts.get(at + 1).map_or(bytes.len(), |&(_, end)| end);
            (name, &bytes[start..end])
        })
    }
}

impl Headers {
    fn put(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.starts.push((name, self.bytes.len()));
        &mut self.bytes
    }
}

impl Encoder {
    pub fn encode(&mut self, record: &Record) -> Encoded<'_> {
        let Self { key, value, headers, .. } = self;
        key.clear();
        value.clear();
        headers.bytes.clear();
        headers.starts.clear();
        headers.put(header::FORMAT).extend_from_slice(FORMAT.as_bytes());
        headers.put(header::ORIGIN).extend_from_slice(record.origin.as_str().as_bytes());
        write_gtid(headers.put(header::GTID), record.gtid);
        write_number(headers.put(header::ROW), record.row);
        write_number(headers.put(header::HLC), record.hlc.0);
        let seen = shared(&mut self.seen, &record.seen, |seen| serde_json::to_vec(seen).expect("names and numbers are JSON"));
        headers.put(header::SEEN).extend_from_slice(seen);
        headers.put(header::LAST).push(if record.last { b'1' } else { b'0' });
        let position = shared(&mut self.position, &record.position, |position| position.to_string().into_bytes());
        headers.put(header::POSITION).extend_from_slice(position);
        if let Some(read_from) = &record.read_from {
            headers.put(header::READ_FROM).extend_from_slice(read_from.to_string().as_bytes());
        }
        if let Some(trace) = &record.trace {
            let before = headers.put(header::BEFORE);
            if let Some(gtid) = trace.before {
                write_gtid(before, gtid);
            }
            if let Some(change) = &trace.change {
                let parts = (&*change.table.database, &*change.table.table, format!("{:016x}", change.print));
                serde_json::to_writer(headers.put(header::CHANGE_PRINT), &parts).expect("a list of names is JSON");
            }
        }
        match &record.body {
            Body::Change(change) => {
                write_key(key, change);
                write_envelope(value, record, change);
                write_change_headers(headers, change);
            }
            Body::Heartbeat => {
                key.extend_from_slice(br#"{"heartbeat":"#);
                write_string(key, record.origin.as_str());
                key.push(b'}');
                value.extend_from_slice(br#"{"op":"heartbeat","source":"#);
                write_source(value, record, None);
                value.extend_from_slice(br#","ts_ms":"#);
                write_number(value, record.commit_second.saturating_mul(1000));
                value.push(b'}');
            }
            Body::Schema(change) => {
                key.extend_from_slice(br#"{"ddl":"#);
                write_string(key, record.origin.as_str());
                key.push(b'}');
                value.extend_from_slice(br#"{"op":"ddl","ddl":"#);
                serde_json::to_writer(&mut *value, change).expect("texts and numbers are JSON");
                value.extend_from_slice(br#","source":"#);
                write_source(value, record, None);
                value.extend_from_slice(br#","ts_ms":"#);
                write_number(value, record.commit_second.saturating_mul(1000));
                value.push(b'}');
            }
            Body::Note(note) => {
                key.extend_from_slice(br#"{"note":"#);
                write_string(key, record.origin.as_str());
                key.push(b'}');
                value.extend_from_slice(br#"{"op":"note","note":"#);
                serde_json::to_writer(&mut *value, note).expect("texts and numbers are JSON");
                value.extend_from_slice(br#","source":"#);
                write_source(value, record, None);
                value.extend_from_slice(br#","ts_ms":"#);
                write_number(value, record.commit_second.saturating_mul(1000));
                value.push(b'}');
            }
        }
        Encoded { key: &self.key, value: &self.value, headers: &self.headers }
    }
}

/// The bytes of a value that following records hold too: the same one, not only an equal one.
fn shared<'a, T>(kept: &'a mut Option<(Arc<T>, Vec<u8>)>, value: &Arc<T>, write: impl Fn(&T) -> Vec<u8>) -> &'a [u8] {
    if kept.as_ref().is_none_or(|(own, _)| !Arc::ptr_eq(own, value)) {
        *kept = Some((value.clone(), write(value)));
    }
    kept.as_ref().map_or(&[], |(_, bytes)| bytes)
}

fn write_change_headers(headers: &mut Headers, change: &Change) {
    let binary = BinaryColumns::of(change);
    if binary != BinaryColumns::default() {
        serde_json::to_writer(headers.put(header::BASE64), &binary).expect("lists of names are JSON");
    }
    if change.shape.columns.iter().any(|column| column.generated) {
        let generated: Vec<&str> =
            change.shape.columns.iter().filter(|column| column.generated).map(|column| &*column.name).collect();
        serde_json::to_writer(headers.put(header::GENERATED), &generated).expect("a list of names is JSON");
    }
    if let Some(checks) = checks_text(change) {
        headers.put(header::CHECKS).extend_from_slice(checks.as_bytes());
    }
}

/// Only the change, self-contained: for our own tables, where images are kept to be published or put back later.
pub fn encode_change(change: &Change) -> String {
    let mut out = Vec::with_capacity(256);
    // Both parts of the name by themselves: a database may have a dot in its name.
    out.extend_from_slice(br#"{"db":"#);
    write_string(&mut out, &change.table().database);
    out.extend_from_slice(br#","table":"#);
    write_string(&mut out, &change.table().table);
    write_key_columns(&mut out, change);
    out.extend_from_slice(br#","before":"#);
    write_image(&mut out, &change.shape, change.before.as_ref());
    out.extend_from_slice(br#","after":"#);
    write_image(&mut out, &change.shape, change.after.as_ref());
    out.extend_from_slice(br#","op":""#);
    out.extend_from_slice(change.op.letter().as_bytes());
    out.extend_from_slice(br#"","base64":"#);
    out.extend_from_slice(&serde_json::to_vec(&BinaryColumns::of(change)).expect("lists of names are JSON"));
    out.extend_from_slice(br#","checks":"#);
    write_string(&mut out, &checks_text(change).unwrap_or_default());
    out.push(b'}');
    String::from_utf8(out).expect("JSON that we wrote is UTF-8")
}

/// The Debezium envelope of one change as a line of JSON (without a line end), appended to `out`.
pub fn change_json(out: &mut Vec<u8>, record: &Record, change: &Change) {
    write_envelope(out, record, change);
}

/// A row's key for people and for our own tables: `{"id":7}`.
pub fn key_json(key: &RowKey) -> String {
    let mut out = Vec::with_capacity(32);
    write_object(&mut out, key.shape.key_names().zip(&key.values).map(|(name, value)| (&**name, value.as_ref())));
    String::from_utf8(out).expect("JSON that we wrote is UTF-8")
}

/// A key as text that this program reads back, whatever its values are: a change that tells nothing else.
pub fn key_text(key: &RowKey) -> String {
    let mut before = vec![None; key.shape.columns.len()];
    for (&at, value) in key.shape.key.iter().zip(&key.values) {
        before[usize::from(at)] = Some(value.clone());
    }
    let (shape, before) = (key.shape.clone(), Some(Image::of(before)));
    encode_change(&Change { shape, op: Op::Delete, before, after: None, checks: Checks::default() })
}

/// A row's known columns for people: `{"id":7,"name":"Ada"}`.
pub fn image_json(shape: &Shape, image: &Image) -> String {
    let mut out = Vec::with_capacity(128);
    write_image(&mut out, shape, Some(image));
    String::from_utf8(out).expect("JSON that we wrote is UTF-8")
}

fn checks_text(change: &Change) -> Option<String> {
    let Checks { foreign_keys_off, unique_off, partial } = change.checks;
    let partial = partial || change.after.as_ref().is_some_and(|after| !after.is_full());
    if !foreign_keys_off && !unique_off && !partial {
        return None;
    }
    let words = [(foreign_keys_off, "foreign-keys-off"), (unique_off, "unique-off"), (partial, "partial")];
    Some(words.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect::<Vec<_>>().join(","))
}

impl<'a> BinaryColumns<'a> {
    fn of(change: &'a Change) -> Self {
        let names = |image: &'a Option<Image>| {
            let columns = change.shape.columns.iter().zip(image.iter().flat_map(Image::values));
            columns
                .filter(|(_, value)| matches!(value, Some(ValueRef::Bytes(_))))
                .map(|(column, _)| Cow::Borrowed(&*column.name))
                .collect()
        };
        Self { before: names(&change.before), after: names(&change.after) }
    }
}

fn write_key(out: &mut Vec<u8>, change: &Change) {
    out.extend_from_slice(br#"{"table":"#);
    let table = change.table();
    write_joined(out, &table.database, &table.table);
    write_key_columns(out, change);
    out.push(b'}');
}

/// `,"key":{"id":7}` where the change has a key: what [`Change::key`] gives, without a copy of it.
fn write_key_columns(out: &mut Vec<u8>, change: &Change) {
    let shape = &change.shape;
    let whole = |image: &&Image| shape.key.iter().all(|&at| image.get(usize::from(at)).is_some());
    let Some(image) = change.after.iter().chain(&change.before).find(whole).filter(|_| !shape.key.is_empty()) else { return };
    out.extend_from_slice(br#","key":"#);
    write_object(out, shape.key_names().zip(&shape.key).filter_map(|(name, &at)| Some((&**name, image.get(usize::from(at))?))));
}

fn write_envelope(out: &mut Vec<u8>, record: &Record, change: &Change) {
    out.extend_from_slice(br#"{"before":"#);
    write_image(out, &change.shape, change.before.as_ref());
    out.extend_from_slice(br#","after":"#);
    write_image(out, &change.shape, change.after.as_ref());
    out.extend_from_slice(br#","source":"#);
    write_source(out, record, Some(change));
    out.extend_from_slice(br#","transaction":{"id":""#);
    write_gtid(out, record.gtid);
    out.extend_from_slice(br#"","total_order":"#);
    write_number(out, record.row.saturating_add(1));
    out.extend_from_slice(br#","data_collection_order":"#);
    write_number(out, record.table_row.saturating_add(1));
    out.extend_from_slice(br#"},"op":""#);
    out.extend_from_slice(change.op.letter().as_bytes());
    out.extend_from_slice(br#"","ts_ms":"#);
    write_number(out, record.commit_second.saturating_mul(1000));
    out.push(b'}');
}

fn write_source(out: &mut Vec<u8>, record: &Record, change: Option<&Change>) {
    out.extend_from_slice(
        concat!(r#"{"version":""#, env!("CARGO_PKG_VERSION"), r#"","connector":"tandem","name":"#).as_bytes(),
    );
    write_string(out, record.origin.as_str());
    out.extend_from_slice(br#","ts_ms":"#);
    write_number(out, record.commit_second.saturating_mul(1000));
    if let Some(change) = change {
        out.extend_from_slice(br#","db":"#);
        write_string(out, &change.table().database);
        out.extend_from_slice(br#","table":"#);
        write_string(out, &change.table().table);
    }
    out.extend_from_slice(br#","server_id":"#);
    write_number(out, u64::from(record.server_id));
    out.extend_from_slice(br#","gtid":""#);
    write_gtid(out, record.gtid);
    out.extend_from_slice(br#"","file":"#);
    write_string(out, &record.coordinates.file);
    out.extend_from_slice(br#","pos":"#);
    write_number(out, record.coordinates.position);
    out.extend_from_slice(br#","row":"#);
    write_number(out, record.row);
    out.push(b'}');
}

fn write_gtid(out: &mut Vec<u8>, gtid: Gtid) {
    write_number(out, u64::from(gtid.domain));
    out.push(b'-');
    write_number(out, u64::from(gtid.server));
    out.push(b'-');
    write_number(out, gtid.sequence);
}

fn write_image(out: &mut Vec<u8>, shape: &Shape, image: Option<&Image>) {
    let Some(image) = image else {
        out.extend_from_slice(b"null");
        return;
    };
    let known = shape.columns.iter().zip(image.values()).filter_map(|(column, value)| Some((&*column.name, value?)));
    write_object(out, known);
}

fn write_object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, ValueRef<'a>)>) {
    out.push(b'{');
    for (number, (name, value)) in members.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        write_value(out, value);
    }
    out.push(b'}');
}

/// One value as JSON.
pub(super) fn write_value(out: &mut Vec<u8>, value: ValueRef) {
    match value {
        ValueRef::Null => out.extend_from_slice(b"null"),
        ValueRef::Int(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        ValueRef::UInt(number) => write_number(out, number),
        // MariaDB holds no NaN and no infinity.
        ValueRef::Float(number) => out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes()),
        ValueRef::Double(number) => out.extend_from_slice(ryu::Buffer::new().format(number).as_bytes()),
        ValueRef::Text(text) => write_string(out, text),
        ValueRef::Bytes(bytes) => {
            out.push(b'"');
            let start = out.len();
            let room = base64::encoded_len(bytes.len(), true).expect("a row fits in memory");
            out.resize(start + room, 0);
            STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room was measured");
            out.push(b'"');
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text);
    out.push(b'"');
}

fn write_joined(out: &mut Vec<u8>, database: &str, table: &str) {
    out.push(b'"');
    write_escaped(out, database);
    out.push(b'.');
    write_escaped(out, table);
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let (plain, more) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((&byte, after)) = more.split_first() else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = after;
    }
}

/// How many bytes come before the first that must be escaped. Eight at once: byte by byte this was a seventh of the
/// time of printing changes.
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH_BITS: u64 = ONES << 7;
    // Marks the bytes below the limit. The lowest mark is right; a borrow may leave wrong ones above it.
    let below = |eight: u64, limit: u64| eight.wrapping_sub(ONES * limit) & !eight & HIGH_BITS;
    let (eights, rest) = bytes.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        let eight = u64::from_le_bytes(*eight);
        let quote = eight ^ (ONES * u64::from(b'"'));
        let backslash = eight ^ (ONES * u64::from(b'\\'));
        let marks = below(eight, 0x20) | below(quote, 1) | below(backslash, 1);
        if marks != 0 {
            return number * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
    eights.len() * 8 + plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_escaped_is_at_every_place() {
        for length in 0..20 {
            for place in 0..=length {
                for special in ["\"", "\\", "\n", "\u{1f}", "\0", "\u{7f}", "é", "\u{1f600}", " ", "!\"#"] {
                    let text = format!("{}{special}{}", "x".repeat(place), "[".repeat(length - place));
                    let mut out = vec![b'"'];
                    write_escaped(&mut out, &text);
                    out.push(b'"');
                    assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
                }
            }
        }
    }
}
