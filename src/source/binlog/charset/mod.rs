//! Character sets: bytes of a column to UTF-8, with the meaning MariaDB gives them.
//!
//! The mapping is MariaDB's own, and not that of a general crate, because the text is written into a column of the
//! same character set on another node and must become the same bytes there. Where a code has no character, or shares
//! one with another code (`\` in sjis, the doubles of cp932), the whole value stays bytes.

use std::sync::OnceLock;

use crate::change::{RowBuffer, Value, ValueRef};

mod single_byte;
mod table;

use single_byte::SINGLE_BYTE;
use table::Table;

#[derive(Clone, Copy, Debug)]
pub(super) enum Charset {
    Binary,
    Ascii,
    Utf8mb3,
    Utf8mb4,
    Ucs2,
    Utf16,
    Utf16le,
    Utf32,
    Table(&'static Table),
}

static SINGLE: [OnceLock<Table>; SINGLE_BYTE.len()] = [const { OnceLock::new() }; SINGLE_BYTE.len()];

/// Name, its table as a file has it, and as it is read at the first use.
type MultiByte = (&'static str, &'static str, OnceLock<Table>);

static MULTI: [MultiByte; 8] = [
    ("big5", include_str!("tables/big5.txt"), OnceLock::new()),
    ("cp932", include_str!("tables/cp932.txt"), OnceLock::new()),
    ("eucjpms", include_str!("tables/eucjpms.txt"), OnceLock::new()),
    ("euckr", include_str!("tables/euckr.txt"), OnceLock::new()),
    ("gb2312", include_str!("tables/gb2312.txt"), OnceLock::new()),
    ("gbk", include_str!("tables/gbk.txt"), OnceLock::new()),
    ("sjis", include_str!("tables/sjis.txt"), OnceLock::new()),
    ("ujis", include_str!("tables/ujis.txt"), OnceLock::new()),
];

impl Charset {
    /// By the server's name; `None` where we do not know it.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "binary" => Self::Binary,
            "ascii" => Self::Ascii,
            "utf8" | "utf8mb3" => Self::Utf8mb3,
            "utf8mb4" => Self::Utf8mb4,
            "ucs2" => Self::Ucs2,
            "utf16" => Self::Utf16,
            "utf16le" => Self::Utf16le,
            "utf32" => Self::Utf32,
            _ => {
                let single = SINGLE_BYTE.iter().zip(&SINGLE).find(|((own, ..), _)| *own == name);
                let single = single.map(|(&(_, high, low), table)| table.get_or_init(|| Table::single_byte(high, low)));
                let multi = || MULTI.iter().find(|(own, ..)| *own == name);
                Self::Table(single.or_else(|| multi().map(|(_, text, table)| table.get_or_init(|| Table::multi_byte(text))))?)
            }
        })
    }

    /// Of a collation's id; `None` where we do not know it.
    pub(super) fn by_collation(id: u32) -> Option<Self> {
        Self::by_name(name_of_collation(id)?)
    }

    /// Bytes of the longest character, as the server counts when it makes room for a column.
    pub(super) fn width_max(self, name: &str) -> u32 {
        match self {
            Self::Binary | Self::Ascii => 1,
            Self::Ucs2 => 2,
            Self::Utf8mb3 => 3,
            Self::Utf8mb4 | Self::Utf16 | Self::Utf16le | Self::Utf32 => 4,
            Self::Table(_) if matches!(name, "ujis" | "eucjpms") => 3,
            Self::Table(_) if MULTI.iter().any(|(own, ..)| *own == name) => 2,
            Self::Table(_) => 1,
        }
    }

    /// What stands between the members of a SET.
    pub(super) fn comma(self) -> &'static [u8] {
        match self {
            Self::Ucs2 | Self::Utf16 => b"\0,",
            Self::Utf16le => b",\0",
            Self::Utf32 => b"\0\0\0,",
            Self::Binary | Self::Ascii | Self::Utf8mb3 | Self::Utf8mb4 | Self::Table(_) => b",",
        }
    }

    /// Text where every character is valid and comes back as the same bytes, else the bytes.
    #[inline]
    pub(super) fn put(self, bytes: &[u8], row: &mut RowBuffer) {
        let decoded: Option<String> = match self {
            Self::Binary => return row.push(ValueRef::Bytes(bytes)),
            Self::Utf8mb4 => return row.push(utf8(bytes)),
            // No character of three bytes begins with F0 or more.
            Self::Utf8mb3 if bytes.iter().any(|&byte| byte >= 0xf0) => return row.push(ValueRef::Bytes(bytes)),
            Self::Utf8mb3 => return row.push(utf8(bytes)),
            Self::Ascii if bytes.is_ascii() => return row.push(utf8(bytes)),
            Self::Ascii => return row.push(ValueRef::Bytes(bytes)),
            Self::Table(table) if table.holds_ascii() && bytes.is_ascii() => return row.push(utf8(bytes)),
            Self::Table(table) => table.decode(bytes),
            Self::Ucs2 => {
                units::<2>(bytes).and_then(|units| units.map(|unit| char::from_u32(u16::from_be_bytes(unit).into())).collect())
            }
            Self::Utf16 => utf16(bytes, u16::from_be_bytes),
            Self::Utf16le => utf16(bytes, u16::from_le_bytes),
            Self::Utf32 => {
                units::<4>(bytes).and_then(|units| units.map(|unit| char::from_u32(u32::from_be_bytes(unit))).collect())
            }
        };
        row.push(decoded.as_deref().map_or(ValueRef::Bytes(bytes), ValueRef::Text));
    }

    /// The same, as a value by itself.
    pub(super) fn value(self, bytes: &[u8]) -> Value {
        let mut row = RowBuffer::default();
        self.put(bytes, &mut row);
        let image = row.into_images(1).next().expect("one value was put");
        image.get(0).map_or(Value::Null, ValueRef::to_value)
    }
}

#[inline]
fn utf8(bytes: &[u8]) -> ValueRef<'_> {
    std::str::from_utf8(bytes).map_or(ValueRef::Bytes(bytes), ValueRef::Text)
}

/// The bytes in units of N; `None` where some are left over.
fn units<const N: usize>(bytes: &[u8]) -> Option<impl Iterator<Item = [u8; N]>> {
    let (units, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| units.iter().copied())
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    char::decode_utf16(units::<2>(bytes)?.map(unit)).collect::<Result<_, _>>().ok()
}

/// The character set of each collation number. The NOPAD twin of a collation has its number plus 1024; those of
/// UCA 14.0.0 (MariaDB 10.10) lie in blocks of 256; 255 to 323 are MySQL 8's, all of utf8mb4.
pub(super) fn name_of_collation(id: u32) -> Option<&'static str> {
    Some(match id {
        2048..=2303 => "utf8mb3",
        2304..=2559 => "utf8mb4",
        2560..=2815 => "ucs2",
        2816..=3071 => "utf16",
        3072..=3327 => "utf32",
        1025..=1279 => return name_of_collation(id - 1024),
        1 | 84 => "big5",
        2 | 9 | 21 | 27 | 77 => "latin2",
        3 | 69 => "dec8",
        4 | 80 => "cp850",
        5 | 8 | 15 | 31 | 47..=49 | 94 => "latin1",
        6 | 72 => "hp8",
        7 | 74 => "koi8r",
        10 | 82 => "swe7",
        11 | 65 => "ascii",
        12 | 91 => "ujis",
        13 | 88 => "sjis",
        14 | 23 | 50..=52 => "cp1251",
        16 | 71 => "hebrew",
        18 | 89 => "tis620",
        19 | 85 => "euckr",
        20 | 41 | 42 | 79 => "latin7",
        22 | 75 => "koi8u",
        24 | 86 => "gb2312",
        25 | 70 => "greek",
        26 | 34 | 44 | 66 | 99 => "cp1250",
        28 | 87 => "gbk",
        29 | 58 | 59 => "cp1257",
        30 | 78 => "latin5",
        32 | 64 => "armscii8",
        33 | 76 | 83 | 192..=215 | 223 | 254 | 576..=578 => "utf8mb3",
        35 | 90 | 128..=151 | 159 | 640..=642 => "ucs2",
        36 | 68 => "cp866",
        37 | 73 => "keybcs2",
        38 | 43 => "macce",
        39 | 53 => "macroman",
        40 | 81 => "cp852",
        45 | 46 | 224..=247 | 255..=323 | 608..=610 => "utf8mb4",
        54 | 55 | 101..=124 | 672..=674 => "utf16",
        56 | 62 => "utf16le",
        57 | 67 => "cp1256",
        60 | 61 | 160..=183 | 736..=738 => "utf32",
        63 => "binary",
        92 | 93 => "geostd8",
        95 | 96 => "cp932",
        97 | 98 => "eucjpms",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, bytes: &[u8], expected: Option<&str>) {
        let value = Charset::by_name(name).unwrap().value(bytes);
        let expected = expected.map_or_else(|| Value::Bytes(bytes.into()), Value::text);
        assert_eq!(value, expected, "{name} {bytes:02x?}");
    }

    #[test]
    fn text_is_text_in_every_kind_of_character_set() {
        check("latin1", b"caf\xe9 \x80 \x81", Some("café € \u{81}"));
        check("koi8r", b"\xf0\xd2\xc9\xd7\xc5\xd4", Some("Привет"));
        check("swe7", b"[\\]", Some("ÄÖÅ"));
        check("utf8mb4", "😀é".as_bytes(), Some("😀é"));
        check("utf8mb3", "é€".as_bytes(), Some("é€"));
        check("ucs2", b"\0a\x20\xac", Some("a€"));
        check("utf16", b"\0a\xd8\x3d\xde\x00", Some("a😀"));
        check("utf16le", b"a\0\x3d\xd8\x00\xde", Some("a😀"));
        check("utf32", b"\0\x01\xf6\x00", Some("😀"));
        check("gbk", b"a\xc4\xe3\xba\xc3", Some("a你好"));
        check("big5", b"\xa7\x41\xa6\x6e", Some("你好"));
        check("sjis", b"\xb1\x82\xa0\x81\x5f", Some("ｱあ\\"));
        check("sjis", b"\x8f\xa0?", Some("匠?"));
        check("cp932", b"\xb1\x82\xa0\\", Some("ｱあ\\"));
        check("ujis", b"\x8e\xb1\xa4\xa2\x8f\xb0\xa1", Some("ｱあ丂"));
        check("eucjpms", b"\xa4\xa2\x8f\xb0\xa1", Some("あ丂"));
        check("euckr", b"\xb0\xa1\x81\x41", Some("가갂"));
        for (name, ..) in SINGLE_BYTE {
            check(name, b"", Some(""));
        }
    }

    #[test]
    fn what_is_not_valid_stays_bytes() {
        check("ascii", b"\x80", None);
        check("cp1251", b"a\x98", None);
        check("utf8mb4", b"\xed\xa0\x80", None);
        check("utf8mb4", b"\xc0\x80", None);
        check("utf8mb3", "😀".as_bytes(), None);
        check("ucs2", b"\xd8\x3d\xde\x00", None);
        check("ucs2", b"\0", None);
        check("utf16", b"\xd8\x3d", None);
        check("utf32", b"\0\x11\0\0", None);
        check("utf32", b"\0\0\0", None);
        check("gbk", b"\xc4", None);
        check("ujis", b"\x8f\xb0", None);
        check("ujis", b"\x8f", None);
        check("binary", b"a", None);
    }

    #[test]
    fn two_codes_of_one_character_stay_bytes() {
        check("sjis", b"a\\", None);
        check("armscii8", b"\xa4", None);
        check("cp932", b"\x87\x90", None);
    }

    #[test]
    fn every_collation_number_of_the_server_is_known() {
        let check = |id, expected| assert_eq!(name_of_collation(id), expected, "{id}");
        check(8, Some("latin1"));
        check(1032, Some("latin1"));
        check(1270, Some("utf8mb4"));
        check(2488, Some("utf8mb4"));
        check(3271, Some("utf32"));
        check(63, Some("binary"));
        check(0, None);
        check(1024, None);
        check(4000, None);
        for id in (0..4000).filter_map(name_of_collation) {
            assert!(Charset::by_name(id).is_some(), "{id}");
        }
    }
}
