//! Reads records back from their outside form. Everything here comes from outside: errors, never panics.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::{BinaryColumns, FORMAT, WireRecord, header};
use crate::change::{
    BinlogCoordinates, Body, Change, Checks, Column, ColumnKind, GtidPosition, Hlc, Image, Op, OriginId, Record, Seen, Shape,
    TableName, Value,
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

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow, default)]
    before: Option<Members<'a>>,
    #[serde(borrow, default)]
    after: Option<Members<'a>>,
    #[serde(borrow, default)]
    source: Source<'a>,
    #[serde(default)]
    transaction: Option<TransactionOrder>,
}

#[derive(Deserialize, Default)]
struct Source<'a> {
    #[serde(default)]
    ts_ms: u64,
    #[serde(default)]
    server_id: u32,
    #[serde(borrow, default)]
    db: Cow<'a, str>,
    #[serde(borrow, default)]
    table: Cow<'a, str>,
    #[serde(borrow, default)]
    file: Cow<'a, str>,
    #[serde(default)]
    pos: u64,
}

#[derive(Deserialize)]
struct TransactionOrder {
    #[serde(default)]
    data_collection_order: u64,
}

#[derive(Deserialize)]
struct Key<'a> {
    #[serde(borrow, default)]
    key: Option<Members<'a>>,
}

#[derive(Deserialize)]
struct LooseChange<'a> {
    #[serde(borrow)]
    db: Cow<'a, str>,
    #[serde(borrow)]
    table: Cow<'a, str>,
    #[serde(borrow, default)]
    key: Option<Members<'a>>,
    #[serde(borrow)]
    op: Cow<'a, str>,
    #[serde(borrow)]
    before: Option<Members<'a>>,
    #[serde(borrow)]
    after: Option<Members<'a>>,
    #[serde(borrow)]
    base64: BinaryColumns<'a>,
    #[serde(borrow)]
    checks: Cow<'a, str>,
}

/// A JSON object of columns, in its order.
struct Members<'a>(Vec<(Cow<'a, str>, Value)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of columns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value::<Scalar>()?.0));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A member's name, borrowed from the input where it holds no escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct Scalar(Value);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, a string or null")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Int(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::unsigned(number))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Double(number))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
                Ok(Value::Int(truth.into()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.into()))
            }
            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text.into()))
            }
        }
        deserializer.deserialize_any(ScalarVisitor).map(Scalar)
    }
}

/// A record from its outside form. Columns have the kind [`ColumnKind::Unknown`].
pub fn decode(wire: &WireRecord) -> Result<Record, WireError> {
    let format = text(wire, header::FORMAT)?;
    if format != FORMAT {
        return Err(WireError::Format { found: format.to_owned() });
    }
    let envelope: Envelope = serde_json::from_slice(&wire.value).map_err(json_fault("value"))?;
    let source = &envelope.source;
    let coordinates = BinlogCoordinates { file: Arc::from(&*source.file), position: source.pos };
    let (commit_second, server_id) = (source.ts_ms / 1000, source.server_id);
    let mut table_row = 0;
    let body = if envelope.op == "heartbeat" {
        Body::Heartbeat
    } else {
        table_row = envelope.transaction.as_ref().map_or(0, |order| order.data_collection_order.saturating_sub(1));
        let key: Key = serde_json::from_slice(&wire.key).map_err(json_fault("key"))?;
        let table = TableName::new(&source.db, &source.table);
        let base64 = match wire.header(header::BASE64) {
            Some(json) => serde_json::from_slice(json).map_err(|_| WireError::Header { name: header::BASE64 })?,
            None => BinaryColumns::default(),
        };
        let checks = match wire.header(header::CHECKS) {
            Some(_) => text(wire, header::CHECKS)?,
            None => "",
        };
        let mut change = assemble(table, &envelope.op, key.key, envelope.before, envelope.after, &base64, checks)?;
        let generated = names(wire, header::GENERATED)?;
        if !generated.is_empty() {
            let shape = Arc::get_mut(&mut change.shape).expect("the shape was just made");
            shape.columns.iter_mut().for_each(|column| column.generated = generated.iter().any(|name| **name == *column.name));
        }
        Body::Change(change)
    };
    Ok(Record {
        origin: OriginId::new(text(wire, header::ORIGIN)?),
        gtid: parsed(wire, header::GTID)?,
        row: parsed(wire, header::ROW)?,
        table_row,
        hlc: Hlc(parsed(wire, header::HLC)?),
        seen: Arc::new(
            serde_json::from_str::<Seen>(text(wire, header::SEEN)?).map_err(|_| WireError::Header { name: header::SEEN })?,
        ),
        last: match text(wire, header::LAST)? {
            "1" => true,
            "0" => false,
            _ => return Err(WireError::Header { name: header::LAST }),
        },
        position: Arc::new(parsed::<GtidPosition>(wire, header::POSITION)?),
        read_from: match wire.header(header::READ_FROM) {
            Some(_) => Some(Arc::new(parsed(wire, header::READ_FROM)?)),
            None => None,
        },
        commit_second,
        server_id,
        coordinates,
        body,
    })
}

/// The reverse of [`super::encode_change`].
pub fn decode_change(json: &[u8]) -> Result<Change, WireError> {
    let loose: LooseChange = serde_json::from_slice(json).map_err(json_fault("change"))?;
    let table = TableName::new(&loose.db, &loose.table);
    assemble(table, &loose.op, loose.key, loose.before, loose.after, &loose.base64, &loose.checks)
}

fn text<'a>(wire: &'a WireRecord, name: &'static str) -> Result<&'a str, WireError> {
    wire.header(name).and_then(|value| std::str::from_utf8(value).ok()).ok_or(WireError::Header { name })
}

fn parsed<T: FromStr>(wire: &WireRecord, name: &'static str) -> Result<T, WireError> {
    text(wire, name)?.parse().map_err(|_| WireError::Header { name })
}

fn names<'a>(wire: &'a WireRecord, name: &'static str) -> Result<Vec<Cow<'a, str>>, WireError> {
    match wire.header(name) {
        Some(json) => serde_json::from_slice(json).map_err(|_| WireError::Header { name }),
        None => Ok(Vec::new()),
    }
}

fn assemble(
    table: TableName,
    op: &str,
    key: Option<Members>,
    before: Option<Members>,
    after: Option<Members>,
    base64: &BinaryColumns,
    checks: &str,
) -> Result<Change, WireError> {
    if table.database.is_empty() || table.table.is_empty() {
        return Err(WireError::Table);
    }
    let op = Op::from_letter(op).ok_or_else(|| WireError::Op { op: op.to_owned() })?;
    let mut columns: Vec<Column> = Vec::new();
    for (name, _) in [&after, &before].into_iter().flatten().flat_map(|members| &members.0) {
        if !columns.iter().any(|column| *column.name == **name) {
            if columns.len() == COLUMNS_MAX {
                return Err(WireError::Columns);
            }
            columns.push(Column { name: Arc::from(&**name), kind: ColumnKind::Unknown, generated: false });
        }
    }
    let mut key_columns = Vec::new();
    for (name, _) in key.iter().flat_map(|members| &members.0) {
        // The key is part of an image, or we could not find the row.
        let at = columns.iter().position(|column| *column.name == **name);
        key_columns.push(at.ok_or_else(|| WireError::Key { column: name.clone().into_owned() })? as u16);
    }
    let shape = Arc::new(Shape { table, columns, key: key_columns });
    let image = |members: Option<Members>, binary| members.map(|members| fill(&shape, members, binary)).transpose();
    let (before, after) = (image(before, &base64.before)?, image(after, &base64.after)?);
    let checks = Checks { foreign_keys_off: checks.contains("foreign-keys-off"), unique_off: checks.contains("unique-off") };
    Ok(Change { shape, op, before, after, checks })
}

fn fill(shape: &Shape, members: Members, base64: &[Cow<str>]) -> Result<Image, WireError> {
    let mut values = vec![None; shape.columns.len()];
    for (name, mut value) in members.0 {
        if base64.contains(&name)
            && let Value::Text(text) = &value
        {
            let bytes = STANDARD.decode(&**text).map_err(|_| WireError::Base64 { column: name.clone().into_owned() })?;
            value = Value::Bytes(bytes.into());
        }
        let at = shape.column(&name).expect("the shape was made of these names");
        values[at] = Some(value);
    }
    Ok(Image(values.into()))
}
