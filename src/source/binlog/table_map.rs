//! The table map event: which table the following rows are of, and its columns as the binlog tells them.
//!
//! Types and their parameters are always there; names, signs, character sets, members and the primary key only as
//! `binlog_row_metadata` says (NO_LOG: none of them, MINIMAL: signs and character sets, FULL: all).

use std::sync::Arc;

use super::bytes::{Bytes, Checked};
use super::error::{DecodeError, Malformed};
use crate::change::TableName;

/// The server's type numbers, as table maps have them.
pub(super) mod type_code {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const MEDIUM_BLOB: u8 = 250;
    pub const LONG_BLOB: u8 = 251;
    pub const BLOB: u8 = 252;
    pub const VAR_STRING: u8 = 253;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// Fields of the optional metadata.
mod field {
    pub const SIGNEDNESS: u8 = 1;
    pub const DEFAULT_CHARSET: u8 = 2;
    pub const COLUMN_CHARSET: u8 = 3;
    pub const COLUMN_NAME: u8 = 4;
    pub const SET_STR_VALUE: u8 = 5;
    pub const ENUM_STR_VALUE: u8 = 6;
    pub const SIMPLE_PRIMARY_KEY: u8 = 8;
    pub const PRIMARY_KEY_WITH_PREFIX: u8 = 9;
    pub const ENUM_AND_SET_DEFAULT_CHARSET: u8 = 10;
    pub const ENUM_AND_SET_COLUMN_CHARSET: u8 = 11;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableMap {
    pub table_id: u64,
    pub table: TableName,
    pub columns: Vec<MapColumn>,
    /// Places of the primary key's columns, in order of the key. Empty where the event names none: the table has
    /// none, or the metadata is not FULL.
    pub primary_key: Vec<u16>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapColumn {
    /// For CHAR, ENUM and SET, which all come as STRING, the real one.
    pub type_code: u8,
    /// What the type needs to be read: bytes of length, precision and scale (low byte first), bits, fraction digits.
    pub parameter: u16,
    pub nullable: bool,
    pub name: Option<Arc<str>>,
    /// For numbers only.
    pub unsigned: Option<bool>,
    /// Id of the collation, for what has characters or bytes, members included.
    pub collation: Option<u32>,
    /// The members of ENUM and SET, in the column's character set.
    pub members: Option<Vec<Box<[u8]>>>,
}

impl MapColumn {
    /// Numbers have a bit in the list of signs, and so has YEAR.
    fn has_sign(&self) -> bool {
        use type_code::*;
        matches!(self.type_code, TINY | SHORT | LONG | LONGLONG | INT24 | FLOAT | DOUBLE | YEAR | NEWDECIMAL)
    }

    /// What is made of characters or bytes has an entry in the list of character sets, and so has GEOMETRY; ENUM and
    /// SET have a list of their own.
    fn has_characters(&self) -> bool {
        use type_code::*;
        matches!(
            self.type_code,
            STRING
                | VAR_STRING
                | VARCHAR
                | VARCHAR_COMPRESSED
                | TINY_BLOB
                | MEDIUM_BLOB
                | LONG_BLOB
                | BLOB
                | BLOB_COMPRESSED
                | GEOMETRY
        )
    }

    fn has_members(&self) -> bool {
        matches!(self.type_code, type_code::ENUM | type_code::SET)
    }
}

impl TableMap {
    /// Reads the body of a table map event: without its header of 19 bytes and without its checksum.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut bytes = Bytes::new(body);
        let (table_id, table) = parse_table(&mut bytes).map_err(|fault| fault.at("a table map event"))?;
        let place = |fault: Malformed| fault.at(format!("the table map event of {table}"));
        let mut columns = parse_columns(&mut bytes).map_err(place)?;
        let primary_key = parse_metadata(&mut bytes, &mut columns).map_err(place)?;
        Ok(Self { table_id, table, columns, primary_key })
    }

    /// True where every column has its name: `binlog_row_metadata=FULL`.
    pub fn has_names(&self) -> bool {
        self.columns.iter().all(|column| column.name.is_some())
    }
}

fn parse_table(bytes: &mut Bytes) -> Checked<(u64, TableName)> {
    let table_id = bytes.little(6)?;
    bytes.take(2)?; // flags: none that matters here
    let mut name = || {
        let length = bytes.u8()?;
        let name = bytes.take(length.into())?;
        bytes.u8()?; // its terminating zero
        std::str::from_utf8(name).map_err(|_| Malformed("a name is not UTF-8"))
    };
    let (database, table) = (name()?, name()?);
    Ok((table_id, TableName::new(database, table)))
}

fn parse_columns(bytes: &mut Bytes) -> Checked<Vec<MapColumn>> {
    /// The server's own limit.
    const COLUMNS_MAX: u64 = 4096;
    let count = bytes.packed()?;
    if count > COLUMNS_MAX {
        return Err(Malformed("it has more columns than a table can have"));
    }
    let count = count as usize;
    let types = bytes.take(count)?;
    let mut parameters = Bytes::new(bytes.packed_bytes()?);
    let nullable = bytes.take(count.div_ceil(8))?;
    let mut columns = Vec::with_capacity(count);
    for (at, &type_code) in types.iter().enumerate() {
        let (type_code, parameter) = parse_parameter(type_code, &mut parameters)?;
        columns.push(MapColumn {
            type_code,
            parameter,
            nullable: nullable[at / 8] >> (at % 8) & 1 == 1,
            name: None,
            unsigned: None,
            collation: None,
            members: None,
        });
    }
    if !parameters.is_empty() {
        return Err(Malformed("its column parameters are more than its columns"));
    }
    Ok(columns)
}

/// The real type and its parameter.
fn parse_parameter(type_code: u8, parameters: &mut Bytes) -> Checked<(u8, u16)> {
    use type_code::*;
    Ok(match type_code {
        TINY | SHORT | LONG | LONGLONG | INT24 | DATE | NEWDATE | TIME | DATETIME | TIMESTAMP | YEAR => (type_code, 0),
        FLOAT | DOUBLE | TIME2 | DATETIME2 | TIMESTAMP2 | TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB | BLOB_COMPRESSED
        | GEOMETRY => (type_code, parameters.u8()?.into()),
        VARCHAR | VARCHAR_COMPRESSED | VAR_STRING | BIT | NEWDECIMAL => (type_code, parameters.u16()?),
        STRING | ENUM | SET => {
            let [real, length] = parameters.array()?;
            if matches!(real, ENUM | SET) {
                (real, length.into())
            } else {
                // A length over 255 hides its upper two bits, inverted, in the type.
                let upper = u16::from((real & 0x30) ^ 0x30) << 4;
                (real | 0x30, upper | u16::from(length))
            }
        }
        _ => return Err(Malformed("it has a column of a type that we do not know")),
    })
}

/// Reads the fields that are there into the columns; gives the primary key.
fn parse_metadata(bytes: &mut Bytes, columns: &mut [MapColumn]) -> Checked<Vec<u16>> {
    let mut primary_key = Vec::new();
    while !bytes.is_empty() {
        let kind = bytes.u8()?;
        let mut value = Bytes::new(bytes.packed_bytes()?);
        match kind {
            field::SIGNEDNESS => {
                for (number, column) in columns.iter_mut().filter(|column| column.has_sign()).enumerate() {
                    let byte = *value.rest().get(number / 8).ok_or(Malformed::SHORT)?;
                    column.unsigned = Some(byte << (number % 8) & 0x80 != 0);
                }
            }
            field::DEFAULT_CHARSET => default_collation(&mut value, columns, MapColumn::has_characters)?,
            field::COLUMN_CHARSET => each_collation(&mut value, columns, MapColumn::has_characters)?,
            field::ENUM_AND_SET_DEFAULT_CHARSET => default_collation(&mut value, columns, MapColumn::has_members)?,
            field::ENUM_AND_SET_COLUMN_CHARSET => each_collation(&mut value, columns, MapColumn::has_members)?,
            field::COLUMN_NAME => {
                for column in columns.iter_mut() {
                    let name = std::str::from_utf8(value.packed_bytes()?).map_err(|_| Malformed("a name is not UTF-8"))?;
                    column.name = Some(name.into());
                }
                no_more(&value)?;
            }
            field::SET_STR_VALUE => members(&mut value, columns, type_code::SET)?,
            field::ENUM_STR_VALUE => members(&mut value, columns, type_code::ENUM)?,
            field::SIMPLE_PRIMARY_KEY | field::PRIMARY_KEY_WITH_PREFIX => {
                primary_key.clear();
                while !value.is_empty() {
                    primary_key.push(place(&mut value, columns.len())?);
                    if kind == field::PRIMARY_KEY_WITH_PREFIX {
                        value.packed()?; // characters of the prefix, 0 for the whole column
                    }
                }
            }
            // Others, among them the types of geometries, do not matter for reading.
            _ => {}
        }
    }
    Ok(primary_key)
}

fn place(value: &mut Bytes, count: usize) -> Checked<u16> {
    let at = value.packed()?;
    if at >= count as u64 {
        return Err(Malformed("its metadata speaks of a column that it does not have"));
    }
    Ok(at as u16)
}

fn no_more(value: &Bytes) -> Checked<()> {
    if value.is_empty() { Ok(()) } else { Err(Malformed("its metadata speaks of columns that it does not have")) }
}

fn collation(value: &mut Bytes) -> Checked<u32> {
    u32::try_from(value.packed()?).map_err(|_| Malformed("a collation's id is too large"))
}

/// One collation for all such columns, then exceptions: the column's place among them, and its collation.
fn default_collation(value: &mut Bytes, columns: &mut [MapColumn], which: fn(&MapColumn) -> bool) -> Checked<()> {
    let default = collation(value)?;
    let mut own: Vec<_> = columns.iter_mut().filter(|column| which(column)).collect();
    own.iter_mut().for_each(|column| column.collation = Some(default));
    while !value.is_empty() {
        let at = place(value, own.len())?;
        own[usize::from(at)].collation = Some(collation(value)?);
    }
    Ok(())
}

fn each_collation(value: &mut Bytes, columns: &mut [MapColumn], which: fn(&MapColumn) -> bool) -> Checked<()> {
    for column in columns.iter_mut().filter(|column| which(column)) {
        column.collation = Some(collation(value)?);
    }
    no_more(value)
}

fn members(value: &mut Bytes, columns: &mut [MapColumn], type_code: u8) -> Checked<()> {
    for column in columns.iter_mut().filter(|column| column.type_code == type_code) {
        let count = value.packed()?;
        // Each takes at least its length byte, so this bounds the memory too.
        if count > value.len() as u64 {
            return Err(Malformed::SHORT);
        }
        let members = (0..count).map(|_| value.packed_bytes().map(Box::from)).collect::<Checked<_>>()?;
        column.members = Some(members);
    }
    no_more(value)
}
