//! Which known column is which column of the table map.

use std::sync::Arc;

use super::super::charset::{Charset, name_of_collation};
use super::super::error::DecodeError;
use super::super::known::{ColumnType, KnownColumn};
use super::super::table_map::{MapColumn, TableMap, type_code};
use crate::change::TableName;

/// A column of the map, and of what is known where that is surely the same column.
pub(super) struct Pair<'a> {
    pub(super) table: &'a TableName,
    pub(super) name: Arc<str>,
    pub(super) map: &'a MapColumn,
    pub(super) known: Option<&'a KnownColumn>,
    pub(super) known_type: Option<ColumnType<'a>>,
}

/// The first `count` columns of the map: what comes behind them is the server's own.
pub(super) fn pair<'a>(
    map: &'a TableMap,
    count: usize,
    is_known: bool,
    known: &'a [KnownColumn],
) -> Result<Vec<Pair<'a>>, DecodeError> {
    let columns = &map.columns[..count];
    let unknown = |what: String| DecodeError::ShapeUnknown { table: map.table.clone(), what };
    if map.has_names() {
        let find = |map: &MapColumn| known.iter().find(|known| map.name.as_deref() == Some(&known.name));
        return Ok(columns
            .iter()
            .map(|own| {
                let name = own.name.clone().expect("every column of this map has a name");
                // One of the same name that became something else since says nothing about this one.
                let agreed = find(own).and_then(|known| Some((known, ColumnType::parse(&known.column_type)?)));
                let agreed = agreed.filter(|(known, known_type)| disagreement(own, known, known_type).is_none());
                let (known, known_type) = agreed.unzip();
                Pair { table: &map.table, name, map: own, known, known_type }
            })
            .collect());
    }
    if !is_known {
        return Err(unknown("the binlog has no names for its columns, and the server does not have the table".into()));
    }
    if known.len() != columns.len() {
        let (own, known) = (columns.len(), known.len());
        return Err(unknown(format!("its rows in the binlog have {own} columns without names, the table has {known}")));
    }
    let mut pairs = Vec::with_capacity(known.len());
    for (own, known) in columns.iter().zip(known) {
        let name = Arc::from(&*known.name);
        let known_type = ColumnType::parse(&known.column_type)
            .ok_or_else(|| unknown(format!("column `{name}` has the type {}, which we do not know", known.column_type)))?;
        if let Some(what) = disagreement(own, known, &known_type) {
            return Err(unknown(format!(
                "column `{name}` is {} in the table, but has {what} in the binlog, which has no names",
                known.column_type
            )));
        }
        pairs.push(Pair { table: &map.table, name, map: own, known: Some(known), known_type: Some(known_type) });
    }
    Ok(pairs)
}

/// What the map has otherwise than the known column; `None` where both can be the same column.
fn disagreement(map: &MapColumn, known: &KnownColumn, known_type: &ColumnType) -> Option<&'static str> {
    use type_code::*;
    let charset = known.character_set.as_deref().unwrap_or("binary");
    let width = |charset: &str| Charset::by_name(charset).map_or(1, |own| u64::from(own.width_max(charset)));
    // Bytes that a length in characters takes at most.
    let parameter = u64::from(map.parameter);
    let room = |extra: u64| known_type.first.is_some_and(|length| u64::from(length) * width(charset) + extra == parameter);
    let digits = |digits: u16| known_type.first.unwrap_or(0) == u32::from(digits);
    let base = known_type.base;
    let same = match map.type_code {
        TINY => base == "tinyint",
        SHORT => base == "smallint",
        INT24 => base == "mediumint",
        LONG => base == "int",
        LONGLONG => base == "bigint",
        FLOAT => base == "float",
        DOUBLE => base == "double",
        YEAR => base == "year",
        DATE | NEWDATE => base == "date",
        // The old format does not tell its digits.
        TIME => base == "time",
        DATETIME => base == "datetime",
        TIMESTAMP => base == "timestamp",
        TIME2 => base == "time" && digits(map.parameter),
        DATETIME2 => base == "datetime" && digits(map.parameter),
        TIMESTAMP2 => base == "timestamp" && digits(map.parameter),
        NEWDECIMAL => {
            base == "decimal" && digits(map.parameter & 0xff) && known_type.second == Some((map.parameter >> 8).into())
        }
        BIT => base == "bit" && digits((map.parameter >> 8) * 8 + (map.parameter & 0xff)),
        ENUM => base == "enum" && map.parameter == if known_type.members.len() > 255 { 2 } else { 1 },
        SET => base == "set" && map.parameter == set_width(known_type.members.len()),
        STRING => match base {
            "char" | "binary" => room(0),
            "uuid" | "inet6" => map.parameter == 16,
            "inet4" => map.parameter == 4,
            _ => false,
        },
        VARCHAR | VAR_STRING => match base {
            "varchar" | "varbinary" => room(0),
            "vector" => known_type.first.is_some_and(|dimensions| u64::from(dimensions) * 4 == parameter),
            _ => false,
        },
        VARCHAR_COMPRESSED => matches!(base, "varchar" | "varbinary") && room(1),
        BLOB | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB_COMPRESSED => match base {
            "tinyblob" | "tinytext" => map.parameter == 1,
            "blob" | "text" => map.parameter == 2,
            "mediumblob" | "mediumtext" => map.parameter == 3,
            "longblob" | "longtext" => map.parameter == 4,
            _ => false,
        },
        GEOMETRY => matches!(
            base,
            "geometry"
                | "point"
                | "linestring"
                | "polygon"
                | "multipoint"
                | "multilinestring"
                | "multipolygon"
                | "geometrycollection"
        ),
        _ => false,
    };
    if !same {
        return Some("another type");
    }
    let is_integer = matches!(map.type_code, TINY | SHORT | INT24 | LONG | LONGLONG);
    if is_integer && map.unsigned.is_some_and(|unsigned| unsigned != known_type.unsigned) {
        return Some("another sign");
    }
    let same_charset = |id| name_of_collation(id).is_none_or(|own| own == canonical(charset));
    if map.collation.is_some_and(|id| !same_charset(id)) {
        return Some("another character set");
    }
    None
}

/// Servers before 10.6 call it utf8.
fn canonical(charset: &str) -> &str {
    if charset == "utf8" { "utf8mb3" } else { charset }
}

/// Bytes that a SET of so many members takes.
fn set_width(members: usize) -> u16 {
    match members.div_ceil(8) as u16 {
        width @ 0..=4 => width,
        _ => 8,
    }
}
