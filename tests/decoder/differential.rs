//! Our decoder and that of the crate mysql_cdc on the same events, where that one is right.
//!
//! Its integers have no sign and its times no microseconds; those are compared as far as it goes. It refuses negative
//! times and text that is no UTF-8, and knows neither compressed columns nor compressed events: such events are left out.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use mysql_cdc::binlog_reader::BinlogReader;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_cdc::events::row_events::mysql_value::{DateTime, MySqlValue, Time};
use mysql_cdc::events::row_events::row_data::RowData;
use tandem::change::{ColumnKind, Image, ValueRef};
use tandem::source::binlog::{KnownTable, Layout, RowsKind, TableMap, rows};

use crate::file::TABLE_MAP;
use crate::golden::Golden;

/// Values compared by the name of their type there.
#[derive(Default)]
struct Comparison {
    compared: HashMap<&'static str, usize>,
    /// What the number of a member stands for, by table, column and number.
    members: HashMap<(String, usize, u64), String>,
}

#[test]
fn another_decoder_reads_the_same_values() {
    let mut comparison = Comparison::default();
    for golden in Golden::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{}.binlog", golden.name));
        let mut reader = BinlogReader::new(File::open(path).expect("it is there")).expect("it is a binlog");
        let known = golden.known();
        let mut table: Option<(&KnownTable, Layout)> = None;
        for event in &golden.events {
            let theirs = reader.read_event();
            if event.kind == TABLE_MAP {
                let map = TableMap::parse(&event.body).expect("a golden event is whole");
                // Of a versioned table we tell changes of the current rows only.
                let known = known.get(&*map.table.table).filter(|_| !map.table.table.starts_with("versioned"));
                table = known.map(|known| (*known, Layout::new(&map, Some(known)).expect("both agree")));
            }
            let (Some(kind), Some((known, layout)), Ok((_, theirs))) = (RowsKind::of(event.kind), &table, theirs) else {
                continue;
            };
            let ours: Vec<_> = rows::changes(kind, layout, &event.body).expect("it is whole").collect();
            let mut images = ours.iter().flat_map(|change| [&change.before, &change.after]).flatten();
            let theirs: Vec<&RowData> = match &theirs {
                BinlogEvent::WriteRowsEvent(event) => event.rows.iter().collect(),
                BinlogEvent::DeleteRowsEvent(event) => event.rows.iter().collect(),
                BinlogEvent::UpdateRowsEvent(event) => {
                    event.rows.iter().flat_map(|row| [&row.before_update, &row.after_update]).collect()
                }
                // Compressed events are unknown to it.
                _ => continue,
            };
            for row in theirs {
                comparison.rows(known, layout, images.next().expect("as many rows"), row);
            }
            assert_eq!(images.next(), None, "as many rows");
        }
    }
    let types = [
        "tiny", "small", "medium", "int", "big", "float", "double", "decimal", "string", "bit", "enum", "set", "blob", "year",
        "date",
    ];
    for name in types.into_iter().chain(["time", "datetime", "timestamp"]) {
        let count = comparison.compared.get(name).copied().unwrap_or_default();
        assert!(count >= 90, "{name} was compared {count} times");
    }
}

impl Comparison {
    fn rows(&mut self, known: &KnownTable, layout: &Layout, ours: &Image, theirs: &RowData) {
        let shape = layout.shape();
        assert_eq!(theirs.cells.len(), shape.columns.len() + known.hash_keys);
        for (at, column) in shape.columns.iter().enumerate() {
            let place = || format!("{} column {}", shape.table, column.name);
            let known = known.columns.iter().find(|known| *known.name == *column.name);
            let utf8 = known.and_then(|known| known.character_set.as_deref()).is_some_and(|name| name.starts_with("utf8"));
            match (ours.get(at), &theirs.cells[at]) {
                // It has one word for NULL and for what the image does not have.
                (None | Some(ValueRef::Null), None) => {}
                (Some(ours), Some(theirs)) => {
                    if let Some((name, same)) = self.same(&place(), at, column.kind, utf8, ours, theirs) {
                        assert!(same, "{}: {ours:?} and {theirs:?}", place());
                        *self.compared.entry(name).or_default() += 1;
                    }
                }
                (ours, theirs) => panic!("{}: {ours:?} and {theirs:?}", place()),
            }
        }
    }

    /// The type's name there, and whether both are the same; `None` where they cannot be compared.
    fn same(
        &mut self,
        place: &str,
        at: usize,
        kind: ColumnKind,
        utf8: bool,
        ours: ValueRef,
        theirs: &MySqlValue,
    ) -> Option<(&'static str, bool)> {
        let integer = || match ours {
            ValueRef::Int(number) => number as u64,
            ValueRef::UInt(number) => number,
            other => panic!("{place}: {other:?} is no integer"),
        };
        let text = || match ours {
            // Beside an empty member only its number tells that a value was refused.
            ValueRef::Int(0) if kind == ColumnKind::Enum => "",
            _ => ours.as_text().unwrap_or_else(|| panic!("{place}: {ours:?} is no text")),
        };
        let bytes = || match ours {
            ValueRef::Text(text) if utf8 => Some(text.as_bytes()),
            ValueRef::Bytes(bytes) => Some(bytes),
            _ => None,
        };
        Some(match theirs {
            MySqlValue::TinyInt(number) => ("tiny", integer() as u8 == *number),
            MySqlValue::SmallInt(number) => ("small", integer() as u16 == *number),
            MySqlValue::MediumInt(number) => ("medium", integer() as u32 & 0xff_ffff == *number),
            MySqlValue::Int(number) => ("int", integer() as u32 == *number),
            MySqlValue::BigInt(number) => ("big", integer() == *number),
            MySqlValue::Float(number) => ("float", ours == ValueRef::Float(*number)),
            MySqlValue::Double(number) => ("double", ours == ValueRef::Double(*number)),
            MySqlValue::Decimal(number) => ("decimal", text() == number),
            MySqlValue::Year(year) => ("year", integer() == if *year == 1900 { 0 } else { u64::from(*year) }),
            MySqlValue::Date(date) => ("date", text() == format!("{:04}-{:02}-{:02}", date.year, date.month, date.day)),
            MySqlValue::Time(time) => ("time", milliseconds(text()) == time_text(time)),
            MySqlValue::DateTime(moment) => ("datetime", milliseconds(text()) == datetime_text(moment)),
            MySqlValue::Timestamp(moment) => ("timestamp", epoch_milliseconds(text()) == *moment),
            MySqlValue::Bit(bits) => {
                let number = bits.iter().fold(0, |number, bit| number << 1 | u64::from(*bit));
                ("bit", integer() == number)
            }
            MySqlValue::Enum(number) => ("enum", self.member(place, at, u64::from(*number), text())),
            MySqlValue::Set(bits) => ("set", self.member(place, at, *bits, text())),
            MySqlValue::Blob(blob) => ("blob", bytes()? == blob),
            // The server leaves trailing zeros out, and only we know to put them back.
            MySqlValue::String(string) if kind == ColumnKind::Binary => {
                let own = bytes()?;
                ("string", own.starts_with(string.as_bytes()) && own[string.len()..].iter().all(|&byte| byte == 0))
            }
            MySqlValue::String(string) if utf8 => ("string", text() == string),
            MySqlValue::String(_) => return None,
        })
    }

    /// It tells the number, we the member: the same number is always the same member.
    fn member(&mut self, place: &str, at: usize, number: u64, text: &str) -> bool {
        self.members.entry((place.to_owned(), at, number)).or_insert_with(|| text.to_owned()) == text
    }
}

fn time_text(time: &Time) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", time.hour, time.minute, time.second, time.millis)
}

fn datetime_text(moment: &DateTime) -> String {
    let DateTime { year, month, day, hour, minute, second, millis } = moment;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// With a fraction of three digits.
fn milliseconds(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{:0<3}", fraction.get(..3).unwrap_or(fraction))
}

fn epoch_milliseconds(text: &str) -> u64 {
    if text.starts_with("0000") {
        return 0;
    }
    let text = format!("{}Z", milliseconds(text).replace(' ', "T"));
    u64::try_from(text.parse::<jiff::Timestamp>().expect("it is a time").as_millisecond()).expect("after 1970")
}
