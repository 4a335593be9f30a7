//! Which reader a column needs.

use super::super::charset::Charset;
use super::super::column::{ColumnReader, Members};
use super::super::decimal::Decimal;
use super::super::error::{DecodeError, Malformed};
use super::super::table_map::type_code;
use super::super::temporal::DIGITS_MAX;
use super::pair::Pair;
use crate::change::{ColumnKind, Value};

type MemberBytes = Vec<Box<[u8]>>;
type Chosen = Result<(ColumnReader, ColumnKind), DecodeError>;

impl Pair<'_> {
    fn unknown(&self, what: &str) -> DecodeError {
        DecodeError::ShapeUnknown { table: self.table.clone(), what: format!("column `{}` {what}", self.name) }
    }

    fn unsupported(&self, what: impl Into<String>) -> DecodeError {
        DecodeError::Unsupported { table: self.table.clone(), column: self.name.to_string(), what: what.into() }
    }

    fn malformed(&self, what: &'static str) -> DecodeError {
        Malformed(what).at(format!("the table map event of {}, column `{}`,", self.table, self.name))
    }

    pub(super) fn reader(&self) -> Chosen {
        use type_code::*;
        let parameter = self.map.parameter;
        let low = (parameter & 0xff) as u8;
        Ok(match self.map.type_code {
            TINY | SHORT | INT24 | LONG | LONGLONG => (self.integer()?, ColumnKind::Integer),
            FLOAT => (ColumnReader::Float, ColumnKind::Float),
            DOUBLE => (ColumnReader::Double, ColumnKind::Double),
            NEWDECIMAL => {
                let decimal = Decimal::new(low, (parameter >> 8) as u8);
                let decimal = decimal.ok_or_else(|| self.malformed("no decimal has so many digits"))?;
                (ColumnReader::Decimal(decimal), ColumnKind::Decimal)
            }
            BIT => {
                let bits = (parameter >> 8) * 8 + u16::from(low);
                if !(1..=64).contains(&bits) {
                    return Err(self.malformed("it has more bits than 64"));
                }
                (ColumnReader::Bit(bits.div_ceil(8) as u8), ColumnKind::Bit)
            }
            YEAR => (ColumnReader::Year, ColumnKind::Year),
            DATE | NEWDATE => (ColumnReader::Date, ColumnKind::Date),
            TIME2 => (ColumnReader::Time(self.fraction_digits()?), ColumnKind::Time),
            DATETIME2 => (ColumnReader::Datetime(self.fraction_digits()?), ColumnKind::Datetime),
            TIMESTAMP2 => (ColumnReader::Timestamp(self.fraction_digits()?), ColumnKind::Timestamp),
            TIME => (self.without_fraction(ColumnReader::OldTime)?, ColumnKind::Time),
            DATETIME => (self.without_fraction(ColumnReader::OldDatetime)?, ColumnKind::Datetime),
            TIMESTAMP => (self.without_fraction(ColumnReader::OldTimestamp)?, ColumnKind::Timestamp),
            STRING => self.fixed()?,
            VARCHAR | VAR_STRING => self.characters(if parameter > 255 { 2 } else { 1 }, ColumnReader::Text)?,
            VARCHAR_COMPRESSED => self.characters(if parameter > 255 { 2 } else { 1 }, ColumnReader::CompressedText)?,
            TINY_BLOB | MEDIUM_BLOB | LONG_BLOB | BLOB => self.characters(self.blob_prefix()?, ColumnReader::Text)?,
            BLOB_COMPRESSED => self.characters(self.blob_prefix()?, ColumnReader::CompressedText)?,
            GEOMETRY => (ColumnReader::Text(self.blob_prefix()?, Charset::Binary), ColumnKind::Geometry),
            ENUM => {
                let width = self.width(&[1, 2])?;
                let (members, charset) = self.members()?;
                (ColumnReader::Enum(width, members.iter().map(|member| charset.value(member)).collect()), ColumnKind::Enum)
            }
            SET => {
                let width = self.width(&[1, 2, 3, 4, 8])?;
                let (members, charset) = self.members()?;
                (ColumnReader::Set(width, Box::new(Members::new(members, charset))), ColumnKind::Set)
            }
            _ => return Err(self.malformed("it has a type that we do not know")),
        })
    }

    fn integer(&self) -> Result<ColumnReader, DecodeError> {
        use ColumnReader::*;
        let known = || self.known_type.as_ref().map(|known| known.unsigned);
        let unsigned = self.map.unsigned.or_else(known).ok_or_else(|| self.unknown("may be signed or not"))?;
        Ok(match (self.map.type_code, unsigned) {
            (type_code::TINY, false) => I8,
            (type_code::TINY, true) => U8,
            (type_code::SHORT, false) => I16,
            (type_code::SHORT, true) => U16,
            (type_code::INT24, false) => I24,
            (type_code::INT24, true) => U24,
            (type_code::LONG, false) => I32,
            (type_code::LONG, true) => U32,
            (_, false) => I64,
            (_, true) => U64,
        })
    }

    fn fraction_digits(&self) -> Result<u8, DecodeError> {
        let digits = u8::try_from(self.map.parameter).ok().filter(|&digits| digits <= DIGITS_MAX);
        digits.ok_or_else(|| self.malformed("a second has no so small parts"))
    }

    /// The old temporal format writes a fraction in the row, but does not say so in the table map.
    fn without_fraction(&self, reader: ColumnReader) -> Result<ColumnReader, DecodeError> {
        match &self.known_type {
            None => Err(self.unknown("has the old temporal format and may have a fraction, which only the table itself tells")),
            Some(known) if known.first.unwrap_or(0) > 0 => Err(self.unsupported(
                "it has a fraction in the old temporal format, which the binlog does not describe; ALTER TABLE … FORCE with \
                 mysql56_temporal_format=ON brings it to the new one",
            )),
            Some(_) => Ok(reader),
        }
    }

    /// CHAR, BINARY, and the types that look like BINARY in the binlog.
    fn fixed(&self) -> Chosen {
        let length = self.map.parameter;
        let charset = self.charset()?;
        if !matches!(charset, Charset::Binary) {
            return Ok((ColumnReader::Text(if length > 255 { 2 } else { 1 }, charset), ColumnKind::Text));
        }
        Ok(match self.known_type.as_ref().map(|known| known.base) {
            Some("uuid") => (ColumnReader::Uuid, ColumnKind::Uuid),
            Some("inet4") => (ColumnReader::Inet4, ColumnKind::Inet4),
            Some("inet6") => (ColumnReader::Inet6, ColumnKind::Inet6),
            None if matches!(length, 4 | 16) => {
                return Err(self.unknown("may be a BINARY, a UUID or an INET, which only the table itself tells"));
            }
            _ => (ColumnReader::Binary(length), ColumnKind::Binary),
        })
    }

    fn characters(&self, prefix: u8, reader: fn(u8, Charset) -> ColumnReader) -> Chosen {
        let charset = self.charset()?;
        let kind = match charset {
            Charset::Binary => ColumnKind::Binary,
            _ if self.known.is_some_and(|known| known.json) => ColumnKind::Json,
            _ => ColumnKind::Text,
        };
        Ok((reader(prefix, charset), kind))
    }

    fn blob_prefix(&self) -> Result<u8, DecodeError> {
        self.width(&[1, 2, 3, 4])
    }

    fn width(&self, allowed: &[u8]) -> Result<u8, DecodeError> {
        let width = u8::try_from(self.map.parameter).ok().filter(|width| allowed.contains(width));
        width.ok_or_else(|| self.malformed("its width is none that such a column has"))
    }

    fn charset(&self) -> Result<Charset, DecodeError> {
        let known = || {
            let known = self.known.ok_or_else(|| self.unknown("has no character set in the binlog, and none is known"))?;
            let name = known.character_set.as_deref().unwrap_or("binary");
            Charset::by_name(name).ok_or_else(|| self.unsupported(format!("its character set {name} is not one we know")))
        };
        match self.map.collation {
            None => known(),
            Some(id) => match (Charset::by_collation(id), self.known) {
                (Some(charset), _) => Ok(charset),
                (None, Some(_)) => known(),
                (None, None) => Err(self.unsupported(format!("its collation, number {id}, is not one we know"))),
            },
        }
    }

    /// The members of ENUM and SET, and the character set they are in here.
    fn members(&self) -> Result<(MemberBytes, Charset), DecodeError> {
        let charset = self.charset()?;
        if let Some(members) = &self.map.members {
            return Ok((members.clone(), charset));
        }
        let known = self.known_type.as_ref().ok_or_else(|| self.unknown("has no members in the binlog, and none are known"))?;
        let has_more = matches!(charset, Charset::Utf8mb4 | Charset::Utf16 | Charset::Utf16le | Charset::Utf32);
        if has_more && known.members.iter().any(|member| member.contains('?')) {
            return Err(self.unknown(
                "has a member with a question mark, and the server also shows a question mark for what does not fit in utf8mb3",
            ));
        }
        Ok((known.members.iter().map(|member| member.as_bytes().into()).collect(), Charset::Utf8mb4))
    }
}

impl Members {
    /// As UTF-8 where every member is text in its character set, else as they are.
    fn new(members: MemberBytes, charset: Charset) -> Self {
        let text = |member: &[u8]| match charset.value(member) {
            Value::Text(text) => Some(text.into_boxed_bytes()),
            _ => None,
        };
        match members.iter().map(|member| text(member)).collect::<Option<Box<[_]>>>() {
            Some(members) => Self { members, comma: b",".as_slice().into(), charset: Charset::Utf8mb4 },
            None => Self { members: members.into(), comma: charset.comma().into(), charset: Charset::Binary },
        }
    }
}
