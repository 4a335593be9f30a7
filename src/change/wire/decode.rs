//! Reads records back from their outside form. Everything here comes from outside: errors, never panics.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use serde::Deserialize;

use super::json::{Envelope, Key, LooseChange, Members, Names, NoteEnvelope, Scalar, SchemaEnvelope};
use super::{BinaryColumns, FORMAT, WireRecord, header};
use crate::change::{
    BinlogCoordinates, Body, Change, ChangePrint, Checks, Column, ColumnKind, GtidPosition, Hlc, Image, Op, OriginId, Record,
    RowBuffer, RowKey, Seen, Shape, TableName, Trace, ValueRef,
};

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the record's format is {found}, this version reads {FORMAT}")]
    Format { found: String },
    #[error("the record's header {name} is missing or not readable")]
    Header { name: &'static str },
    #[error("the record's {part} is not the JSON we expect: line {line}, column {column}")]
    Json { part: &'static str, line: usize, column: usize },
    #[error("the record's value of column `{column}` is not base64")]
    Base64 { column: String },
    #[error("the record's op `{op}` is not known")]
    Op { op: String },
    #[error("the record names no table")]
    Table,
    #[error("the record's key names column `{column}`, which is in none of its images")]
    Key { column: String },
    #[error("the record has more than {COLUMNS_MAX} columns")]
    Columns,
}

/// MariaDB's own limit of a table. Finding a column is a walk, so an endless list would also be an endless wait.
const COLUMNS_MAX: usize = 4096;

/// serde_json's own message may quote the value, so only the place is kept.
fn json_fault(part: &'static str) -> impl Fn(serde_json::Error) -> WireError {
    move |error| WireError::Json { part, line: error.line(), column: error.column() }
}

/// Text is checked as a whole: to check each of some fifty names and values by itself took a tenth of the time of applying.
/// What is no text is read byte by byte, to say where.
fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    }
}

/// A record from its outside form. Columns have the kind [`ColumnKind::Unknown`].
pub fn decode(wire: &WireRecord) -> Result<Record, WireError> {
    let headers = wire.headers.iter().map(|(name, value)| (&**name, &**value));
    Decoder::default().decode(&wire.key, &wire.value, headers)
}

/// The reverse of [`super::key_text`].
pub fn key_of_text(text: &str) -> Option<RowKey> {
    decode_change(text.as_bytes()).ok()?.key()
}

/// The reverse of [`super::encode_change`].
pub fn decode_change(json: &[u8]) -> Result<Change, WireError> {
    let loose: LooseChange = serde_json::from_slice(json).map_err(json_fault("change"))?;
    let table = (&*loose.db, &*loose.table);
    Decoder::default().change(table, &loose.op, loose.key, loose.before, loose.after, &loose.base64, &loose.checks, b"")
}

/// Decodes records one after the other, and shares between them what is the same in each: names, shapes, positions.
/// That is most of what a record is made of, and none of it is asked for twice.
#[derive(Default)]
pub struct Decoder {
    origin: Option<OriginId>,
    file: Option<Arc<str>>,
    seen: Option<(Box<[u8]>, Arc<Seen>)>,
    position: Option<(Box<[u8]>, Arc<GtidPosition>)>,
    /// With the header that names its generated columns.
    shape: Option<(Box<[u8]>, Arc<Shape>)>,
}

impl Decoder {
    pub fn decode<'a>(
        &mut self,
        key: &[u8],
        value: &[u8],
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Record, WireError> {
        let headers = Headers::of(headers);
        let format = headers.text(header::FORMAT)?;
        if format != FORMAT {
            return Err(WireError::Format { found: format.to_owned() });
        }
        let envelope: Envelope = json(value).map_err(json_fault("value"))?;
        let source = envelope.source;
        let mut table_row = 0;
        let body = if envelope.op == "heartbeat" {
            Body::Heartbeat
        } else if envelope.op == "note" {
            let envelope: NoteEnvelope = json(value).map_err(json_fault("value"))?;
            Body::Note(envelope.note)
        } else if envelope.op == "ddl" {
            let envelope: SchemaEnvelope = json(value).map_err(json_fault("value"))?;
            Body::Schema(envelope.ddl)
        } else {
            table_row = envelope.transaction.map_or(0, |order| order.data_collection_order.saturating_sub(1));
            let key: Key = json(key).map_err(json_fault("key"))?;
            let base64 = match headers.get(header::BASE64) {
                Some(json) => serde_json::from_slice(json).map_err(|_| WireError::Header { name: header::BASE64 })?,
                None => BinaryColumns::default(),
            };
            let checks = headers.get(header::CHECKS).map(|_| headers.text(header::CHECKS)).transpose()?.unwrap_or_default();
            let generated = headers.get(header::GENERATED).unwrap_or_default();
            let table = (&*source.db, &*source.table);
            let (before, after) = (envelope.before, envelope.after);
            Body::Change(self.change(table, &envelope.op, key.key, before, after, &base64, checks, generated)?)
        };
        Ok(Record {
            origin: self.origin(headers.text(header::ORIGIN)?),
            gtid: headers.parsed(header::GTID)?,
            row: headers.parsed(header::ROW)?,
            table_row,
            hlc: Hlc(headers.parsed(header::HLC)?),
            seen: self.seen(&headers)?,
            last: match headers.text(header::LAST)? {
                "1" => true,
                "0" => false,
                _ => return Err(WireError::Header { name: header::LAST }),
            },
            position: self.position(&headers)?,
            read_from: match headers.get(header::READ_FROM) {
                Some(_) => Some(Arc::new(headers.parsed(header::READ_FROM)?)),
                None => None,
            },
            commit_second: source.ts_ms / 1000,
            server_id: source.server_id,
            coordinates: BinlogCoordinates { file: self.file(&source.file), position: source.pos },
            trace: trace(&headers)?,
            body,
        })
    }

    fn origin(&mut self, name: &str) -> OriginId {
        match &self.origin {
            Some(origin) if origin.as_str() == name => origin.clone(),
            _ => self.origin.insert(OriginId::new(name)).clone(),
        }
    }

    fn file(&mut self, name: &str) -> Arc<str> {
        match &self.file {
            Some(file) if **file == *name => file.clone(),
            _ => self.file.insert(Arc::from(name)).clone(),
        }
    }

    fn seen(&mut self, headers: &Headers) -> Result<Arc<Seen>, WireError> {
        let fault = WireError::Header { name: header::SEEN };
        let json = headers.get(header::SEEN).ok_or(WireError::Header { name: header::SEEN })?;
        shared(&mut self.seen, json, |json| serde_json::from_slice(json).map_err(|_| fault))
    }

    fn position(&mut self, headers: &Headers) -> Result<Arc<GtidPosition>, WireError> {
        let text = headers.text(header::POSITION)?;
        let fault = WireError::Header { name: header::POSITION };
        shared(&mut self.position, text.as_bytes(), |_| text.parse().map_err(|_| fault))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a change, as the two forms of it have them")]
    fn change(
        &mut self,
        table: (&str, &str),
        op: &str,
        key: Option<Names>,
        before: Option<Members>,
        after: Option<Members>,
        base64: &BinaryColumns,
        checks: &str,
        generated: &[u8],
    ) -> Result<Change, WireError> {
        let op = Op::from_letter(op).ok_or_else(|| WireError::Op { op: op.to_owned() })?;
        let key = key.map_or(Vec::new(), |key| key.0);
        let known = self.shape.as_ref().filter(|(own, shape)| **own == *generated && fits(shape, table, &key, &before, &after));
        let shape = match known {
            Some((_, shape)) => shape.clone(),
            None => {
                let shape = Arc::new(make_shape(table, &key, &before, &after, generated)?);
                self.shape.insert((generated.into(), shape)).1.clone()
            }
        };
        let image = |members: Option<Members>, binary| members.map(|members| fill(&shape, members, binary)).transpose();
        let (before, after) = (image(before, &base64.before)?, image(after, &base64.after)?);
        let checks = Checks {
            foreign_keys_off: checks.contains("foreign-keys-off"),
            unique_off: checks.contains("unique-off"),
            partial: checks.contains("partial"),
        };
        Ok(Change { shape, op, before, after, checks })
    }
}

fn trace(headers: &Headers) -> Result<Option<Arc<Trace>>, WireError> {
    let Some(before) = headers.get(header::BEFORE) else { return Ok(None) };
    let before = if before.is_empty() { None } else { Some(headers.parsed(header::BEFORE)?) };
    let change = match headers.get(header::CHANGE_PRINT) {
        None => None,
        Some(json) => {
            let fault = || WireError::Header { name: header::CHANGE_PRINT };
            let (database, table, print): (String, String, String) = serde_json::from_slice(json).map_err(|_| fault())?;
            let print = u64::from_str_radix(&print, 16).map_err(|_| fault())?;
            Some(ChangePrint { table: TableName::new(&database, &table), print })
        }
    };
    Ok(Some(Arc::new(Trace { before, change })))
}

/// The value of these bytes: the last one, where they are the same.
fn shared<T>(
    kept: &mut Option<(Box<[u8]>, Arc<T>)>,
    bytes: &[u8],
    read: impl FnOnce(&[u8]) -> Result<T, WireError>,
) -> Result<Arc<T>, WireError> {
    match kept {
        Some((own, value)) if **own == *bytes => Ok(value.clone()),
        _ => Ok(kept.insert((bytes.into(), Arc::new(read(bytes)?))).1.clone()),
    }
}

/// Our headers among those of a record; the first of a name counts.
struct Headers<'a>([Option<&'a [u8]>; header::ALL.len()]);

impl<'a> Headers<'a> {
    fn of(all: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut own = [None; header::ALL.len()];
        for (name, value) in all {
            if let Some(at) = header::ALL.iter().position(|known| *known == name) {
                own[at].get_or_insert(value);
            }
        }
        Self(own)
    }

    fn get(&self, name: &'static str) -> Option<&'a [u8]> {
        self.0[header::ALL.iter().position(|known| *known == name)?]
    }

    fn text(&self, name: &'static str) -> Result<&'a str, WireError> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok()).ok_or(WireError::Header { name })
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, WireError> {
        self.text(name)?.parse().map_err(|_| WireError::Header { name })
    }
}

/// True where a shape made of these parts would be this one. Only full images are looked at: those of most records.
fn fits(
    shape: &Shape,
    (database, table): (&str, &str),
    key: &[Cow<str>],
    before: &Option<Members>,
    after: &Option<Members>,
) -> bool {
    let full = |members: &Members| {
        members.0.len() == shape.columns.len()
            && members.0.iter().zip(&shape.columns).all(|((name, _), column)| **name == *column.name)
    };
    let mut images = before.iter().chain(after).peekable();
    *shape.table.database == *database
        && *shape.table.table == *table
        && images.peek().is_some()
        && images.all(full)
        && shape.key_names().map(|name| &**name).eq(key.iter().map(|name| &**name))
}

fn make_shape(
    (database, table): (&str, &str),
    key: &[Cow<str>],
    before: &Option<Members>,
    after: &Option<Members>,
    generated: &[u8],
) -> Result<Shape, WireError> {
    if database.is_empty() || table.is_empty() {
        return Err(WireError::Table);
    }
    let generated: Vec<Cow<str>> = match generated {
        [] => Vec::new(),
        json => serde_json::from_slice(json).map_err(|_| WireError::Header { name: header::GENERATED })?,
    };
    let mut columns: Vec<Column> = Vec::new();
    for (name, _) in [after, before].into_iter().flatten().flat_map(|members| &members.0) {
        if !columns.iter().any(|column| *column.name == **name) {
            if columns.len() == COLUMNS_MAX {
                return Err(WireError::Columns);
            }
            let generated = generated.contains(name);
            columns.push(Column { name: Arc::from(&**name), kind: ColumnKind::Unknown, generated });
        }
    }
    let mut key_columns = Vec::new();
    for name in key {
        // The key is part of an image, or we could not find the row.
        let at = columns.iter().position(|column| *column.name == **name);
        key_columns.push(at.ok_or_else(|| WireError::Key { column: name.clone().into_owned() })? as u16);
    }
    Ok(Shape { table: TableName::new(database, table), columns, key: key_columns })
}

fn fill(shape: &Shape, members: Members, base64: &[Cow<str>]) -> Result<Image, WireError> {
    let full = members.0.len() == shape.columns.len()
        && members.0.iter().zip(&shape.columns).all(|((name, _), column)| **name == *column.name);
    let text_bytes = members.0.iter().map(|(_, value)| if let Scalar::Text(text) = value { text.len() } else { 0 }).sum();
    let mut row = RowBuffer::with_room(shape.columns.len(), text_bytes);
    if full {
        members.0.iter().try_for_each(|(name, value)| put(&mut row, name, value, base64))?;
    } else {
        // Of two members with one name the last counts.
        let mut told = vec![None; shape.columns.len()];
        for (name, value) in &members.0 {
            told[shape.column(name).expect("the shape was made of these names")] = Some((name, value));
        }
        for told in told {
            match told {
                Some((name, value)) => put(&mut row, name, value, base64)?,
                None => row.push_unknown(),
            }
        }
    }
    Ok(row.into_images(shape.columns.len()).next().unwrap_or_else(|| Image::of([])))
}

fn put(row: &mut RowBuffer, name: &str, value: &Scalar, base64: &[Cow<str>]) -> Result<(), WireError> {
    match value {
        Scalar::Text(text) if base64.iter().any(|binary| *binary == name) => {
            let bytes = STANDARD.decode(&**text).map_err(|_| WireError::Base64 { column: name.to_owned() })?;
            row.push(ValueRef::Bytes(&bytes));
        }
        Scalar::Text(text) => row.push(ValueRef::Text(text)),
        Scalar::Plain(value) => row.push(*value),
    }
    Ok(())
}
