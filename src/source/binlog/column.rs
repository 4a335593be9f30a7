//! How to read the values of one column.

use super::ascii::Ascii;
use super::bytes::{Bytes, Checked};
use super::charset::Charset;
use super::compression::decompress_column;
use super::decimal::Decimal;
use super::error::Malformed;
use super::temporal;
use crate::change::{RowBuffer, Value, ValueRef};

/// One arm per form of bytes, chosen once per table: the rows' loop only matches.
#[derive(Clone, Debug)]
pub(super) enum ColumnReader {
    I8,
    U8,
    I16,
    U16,
    I24,
    U24,
    I32,
    U32,
    I64,
    U64,
    Float,
    Double,
    Decimal(Decimal),
    /// Bits in so many bytes, big end first.
    Bit(u8),
    Year,
    Date,
    /// Digits of the fraction.
    Time(u8),
    Datetime(u8),
    Timestamp(u8),
    OldTime,
    OldDatetime,
    OldTimestamp,
    /// A length of so many bytes, then that many bytes.
    Text(u8, Charset),
    /// The same, compressed.
    CompressedText(u8, Charset),
    /// A length of one byte (of two where the column is longer than 255), and bytes without the trailing zeros that
    /// make up the column's whole length.
    Binary(u16),
    Uuid,
    Inet4,
    Inet6,
    /// The member's number from 1 in so many bytes; 0 is the empty text that stands for a refused value.
    Enum(u8, Box<[Value]>),
    /// A bit per member in so many bytes.
    Set(u8, Box<Members>),
}

/// The members of a SET.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// In UTF-8, or in the column's own character set where some member is not text.
    pub(super) members: Box<[Box<[u8]>]>,
    pub(super) comma: Box<[u8]>,
    pub(super) charset: Charset,
}

impl ColumnReader {
    /// Takes one value off the bytes and puts it behind the others. NULLs never come here: they are bits of the row's head.
    #[inline]
    pub(super) fn read(&self, bytes: &mut Bytes, row: &mut RowBuffer) -> Checked<()> {
        match self {
            Self::I8 => row.push(ValueRef::Int(i8::from_le_bytes(bytes.array()?).into())),
            Self::U8 => row.push(ValueRef::Int(u8::from_le_bytes(bytes.array()?).into())),
            Self::I16 => row.push(ValueRef::Int(i16::from_le_bytes(bytes.array()?).into())),
            Self::U16 => row.push(ValueRef::Int(u16::from_le_bytes(bytes.array()?).into())),
            Self::I24 => {
                let [low, middle, high] = bytes.array()?;
                row.push(ValueRef::Int((i32::from_le_bytes([0, low, middle, high]) >> 8).into()));
            }
            Self::U24 => {
                let [low, middle, high] = bytes.array()?;
                row.push(ValueRef::Int(u32::from_le_bytes([low, middle, high, 0]).into()));
            }
            Self::I32 => row.push(ValueRef::Int(i32::from_le_bytes(bytes.array()?).into())),
            Self::U32 => row.push(ValueRef::Int(u32::from_le_bytes(bytes.array()?).into())),
            Self::I64 => row.push(ValueRef::Int(i64::from_le_bytes(bytes.array()?))),
            Self::U64 => row.push(ValueRef::unsigned(u64::from_le_bytes(bytes.array()?))),
            Self::Float => row.push(ValueRef::Float(f32::from_le_bytes(bytes.array()?))),
            Self::Double => row.push(ValueRef::Double(f64::from_le_bytes(bytes.array()?))),
            Self::Bit(width) => row.push(ValueRef::unsigned(bytes.big((*width).into())?)),
            Self::Year => match bytes.u8()? {
                0 => row.push(ValueRef::Int(0)),
                since => row.push(ValueRef::Int(1900 + i64::from(since))),
            },
            Self::Decimal(decimal) => decimal.read(bytes)?.put(row),
            Self::Date => temporal::date(bytes)?.put(row),
            Self::Time(digits) => temporal::time(bytes, *digits)?.put(row),
            Self::Datetime(digits) => temporal::datetime(bytes, *digits)?.put(row),
            Self::Timestamp(digits) => temporal::timestamp(bytes, *digits)?.put(row),
            Self::OldTime => temporal::old_time(bytes)?.put(row),
            Self::OldDatetime => temporal::old_datetime(bytes)?.put(row),
            Self::OldTimestamp => temporal::old_timestamp(bytes)?.put(row),
            Self::Text(prefix, charset) => charset.put(prefixed(bytes, *prefix)?, row),
            Self::CompressedText(prefix, charset) => {
                charset.put(&decompress_column(prefixed(bytes, *prefix)?)?, row);
            }
            Self::Binary(length) => {
                let own = prefixed(bytes, if *length > 255 { 2 } else { 1 })?;
                if own.len() > (*length).into() {
                    return Err(TOO_LONG);
                }
                row.push_padded(own, (*length).into());
            }
            Self::Uuid => uuid(padded(bytes)?).put(row),
            Self::Inet4 => inet4(padded(bytes)?).put(row),
            Self::Inet6 => inet6(padded(bytes)?).put(row),
            Self::Enum(width, members) => match bytes.little((*width).into())? {
                // A value that was refused is shown as an empty text, too; only its number tells it from an empty member.
                0 if members.iter().any(|member| *member == Value::text("")) => row.push(ValueRef::Int(0)),
                0 => row.push(ValueRef::Text("")),
                number => {
                    let member = usize::try_from(number - 1).ok().and_then(|at| members.get(at));
                    row.push(member.ok_or(Malformed("it has a number that is no member's"))?.as_ref());
                }
            },
            Self::Set(width, members) => members.put(bytes.little((*width).into())?, row)?,
        }
        Ok(())
    }
}

const TOO_LONG: Malformed = Malformed("it is longer than the column");

#[inline]
fn prefixed<'a>(bytes: &mut Bytes<'a>, prefix: u8) -> Checked<&'a [u8]> {
    let length = match prefix {
        1 => bytes.u8()?.into(),
        2 => bytes.u16()?.into(),
        _ => bytes.little(prefix.into())? as usize,
    };
    bytes.take(length)
}

/// The bytes of a fixed length, with the trailing zeros that the server left out.
fn padded<const N: usize>(bytes: &mut Bytes) -> Checked<[u8; N]> {
    let own = prefixed(bytes, 1)?;
    let mut padded = [0; N];
    padded.get_mut(..own.len()).ok_or(TOO_LONG)?.copy_from_slice(own);
    Ok(padded)
}

fn uuid(bytes: [u8; 16]) -> Ascii<36> {
    let mut text = Ascii::<36>::new();
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push(b'-');
        }
        text.hex(byte);
    }
    text
}

fn inet4(bytes: [u8; 4]) -> Ascii<15> {
    let mut text = Ascii::<15>::new();
    push_dotted(&mut text, bytes);
    text
}

fn push_dotted<const N: usize>(text: &mut Ascii<N>, bytes: [u8; 4]) {
    for (at, octet) in bytes.into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        text.number(octet.into());
    }
}

/// As MariaDB prints it, which is not RFC 5952 to the letter: the first longest run of zeros is left out even if it is
/// a single one, and `::1.2.3.4` keeps its dots.
fn inet6(bytes: [u8; 16]) -> Ascii<45> {
    let (words, _) = bytes.as_chunks::<2>();
    let word = |at: usize| u16::from_be_bytes(words[at]);
    let zeros = |from: usize| (from..8).take_while(|&at| word(at) == 0).count();
    let (mut gap, mut gap_length) = (8, 0);
    for from in 0..8 {
        if zeros(from) > gap_length {
            (gap, gap_length) = (from, zeros(from));
        }
    }
    let dotted = gap == 0 && (gap_length == 6 || gap_length == 5 && word(5) == 0xffff);
    let mut text = Ascii::<45>::new();
    let mut at = 0;
    while at < 8 {
        if at == gap {
            text.extend(if at == 0 { "::" } else { ":" });
            at += gap_length;
        } else if at == 6 && dotted {
            push_dotted(&mut text, [bytes[12], bytes[13], bytes[14], bytes[15]]);
            break;
        } else {
            text.hex_number(word(at));
            at += 1;
            if at < 8 {
                text.push(b':');
            }
        }
    }
    text
}

impl Members {
    fn put(&self, bits: u64, row: &mut RowBuffer) -> Checked<()> {
        if self.members.len() < 64 && bits >> self.members.len() != 0 {
            return Err(Malformed("it has a bit that is no member's"));
        }
        // A lax session makes sets with more members than bits, where some are there twice: those have no bit of their own.
        let with_bit = || self.members.iter().enumerate().take(64);
        let chosen = || with_bit().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, member)| member);
        let mut joined = Vec::with_capacity(chosen().map(|member| member.len() + self.comma.len()).sum());
        for member in chosen() {
            // Like the server: an empty member at the front is not seen.
            if !joined.is_empty() {
                joined.extend_from_slice(&self.comma);
            }
            joined.extend_from_slice(member);
        }
        self.charset.put(&joined, row);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &ColumnReader, bytes: &mut Bytes) -> Checked<Value> {
        let mut row = RowBuffer::default();
        reader.read(bytes, &mut row)?;
        let image = row.into_images(1).next().expect("it was read");
        Ok(image.get(0).expect("it was said").to_value())
    }

    fn check(reader: ColumnReader, bytes: &[u8], expected: Value) {
        let mut rest = Bytes::new(bytes);
        assert_eq!(read(&reader, &mut rest), Ok(expected), "{reader:?}");
        assert!(rest.is_empty(), "{reader:?}");
        if !bytes.is_empty() {
            assert_eq!(read(&reader, &mut Bytes::new(&bytes[..bytes.len() - 1])), Err(Malformed::SHORT), "{reader:?} cut");
        }
    }

    #[test]
    fn integers_at_their_ends() {
        use ColumnReader::*;
        check(I8, &[0x80], Value::Int(-128));
        check(U8, &[0xff], Value::Int(255));
        check(I16, &[0, 0x80], Value::Int(-32_768));
        check(U16, &[0xff, 0xff], Value::Int(65_535));
        check(I24, &[0, 0, 0x80], Value::Int(-8_388_608));
        check(I24, &[0xff, 0xff, 0x7f], Value::Int(8_388_607));
        check(I24, &[0xff, 0xff, 0xff], Value::Int(-1));
        check(U24, &[0xff, 0xff, 0xff], Value::Int(16_777_215));
        check(I32, &[0, 0, 0, 0x80], Value::Int(i32::MIN.into()));
        check(U32, &[0xff; 4], Value::Int(u32::MAX.into()));
        check(I64, &[0xff; 8], Value::Int(-1));
        check(U64, &[0xff; 8], Value::UInt(u64::MAX));
        check(U64, &[1, 0, 0, 0, 0, 0, 0, 0], Value::Int(1));
        check(Bit(8), &[0x80, 0, 0, 0, 0, 0, 0, 1], Value::UInt(0x8000_0000_0000_0001));
        check(Bit(2), &[1, 2], Value::Int(0x0102));
    }

    #[test]
    fn years_begin_with_zero_and_1901() {
        check(ColumnReader::Year, &[0], Value::Int(0));
        check(ColumnReader::Year, &[1], Value::Int(1901));
        check(ColumnReader::Year, &[255], Value::Int(2155));
    }

    #[test]
    fn binary_is_padded_to_its_length() {
        check(ColumnReader::Binary(4), &[2, 1, 2], Value::Bytes([1, 2, 0, 0].into()));
        check(ColumnReader::Binary(3), &[0], Value::Bytes([0, 0, 0].into()));
        assert_eq!(read(&ColumnReader::Binary(1), &mut Bytes::new(&[2, 1, 2])), Err(TOO_LONG));
        assert_eq!(read(&ColumnReader::Uuid, &mut Bytes::new(&[17; 18])), Err(TOO_LONG));
    }

    #[test]
    fn addresses_are_printed_as_the_server_prints_them() {
        let six = |words: [u16; 8]| {
            let bytes: Vec<u8> = std::iter::once(16).chain(words.into_iter().flat_map(u16::to_be_bytes)).collect();
            read(&ColumnReader::Inet6, &mut Bytes::new(&bytes)).unwrap()
        };
        let check_six = |words, expected| assert_eq!(six(words), Value::text(expected));
        check_six([0; 8], "::");
        check_six([0, 0, 0, 0, 0, 0, 0, 1], "::1");
        check_six([0, 0, 0, 0, 0, 0, 0x102, 0x304], "::1.2.3.4");
        check_six([0, 0, 0, 0, 0, 0xffff, 0x102, 0x304], "::ffff:1.2.3.4");
        check_six([0x2001, 0xdb8, 0, 0, 1, 0, 0, 1], "2001:db8::1:0:0:1");
        check_six([1, 0, 2, 3, 4, 5, 6, 7], "1::2:3:4:5:6:7");
        check_six([1, 2, 3, 4, 5, 6, 7, 0], "1:2:3:4:5:6:7::");
        check_six([0xffff; 8], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        check(ColumnReader::Inet4, &[4, 192, 168, 0, 1], Value::text("192.168.0.1"));
        check(ColumnReader::Inet4, &[1, 10], Value::text("10.0.0.0"));
        check(ColumnReader::Uuid, &[2, 0x12, 0xab], Value::text("12ab0000-0000-0000-0000-000000000000"));
    }

    #[test]
    fn enums_and_sets_are_their_members() {
        let members = || ["x", "y"].map(Value::text).into();
        check(ColumnReader::Enum(1, members()), &[0], Value::text(""));
        check(ColumnReader::Enum(2, members()), &[2, 0], Value::text("y"));
        assert!(read(&ColumnReader::Enum(1, members()), &mut Bytes::new(&[3])).is_err());
        let blank = || ["x", ""].map(Value::text).into();
        check(ColumnReader::Enum(1, blank()), &[0], Value::Int(0));
        check(ColumnReader::Enum(1, blank()), &[2], Value::text(""));
        let set = |count: usize| {
            let members = (0..count).map(|at| at.to_string().into_bytes().into()).collect();
            ColumnReader::Set(8, Box::new(Members { members, comma: b",".as_slice().into(), charset: Charset::Utf8mb4 }))
        };
        check(set(3), &[0; 8], Value::text(""));
        check(set(3), &[5, 0, 0, 0, 0, 0, 0, 0], Value::text("0,2"));
        check(set(64), &[1, 0, 0, 0, 0, 0, 0, 0x80], Value::text("0,63"));
        assert!(read(&set(3), &mut Bytes::new(&[8, 0, 0, 0, 0, 0, 0, 0])).is_err());
    }

    #[test]
    fn compressed_columns_have_three_forms() {
        let text = ColumnReader::CompressedText(1, Charset::Utf8mb4);
        check(text.clone(), &[0], Value::text(""));
        check(text.clone(), &[3, 0, b'a', b'b'], Value::text("ab"));
        assert!(read(&text, &mut Bytes::new(&[2, 0x90, 1])).is_err());
        assert!(read(&text, &mut Bytes::new(&[4, 0x84, 0xff, 0xff, 0xff])).is_err());
    }
}
