//! How a table's rows look in the cloud: resource, id, fields left out, renamed, masked or encrypted, and a window of days. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};

use super::{FileColumn, SealKey};
use crate::change::cloud::{CloudOp, CloudRow, CloudVersion, id_text};
use crate::change::{Change, Image, Op, Shape, TableName, Value, ValueRef, wire};

#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// The table's name in kebab-case where this is not said.
    pub resource: Option<String>,
    /// The column that is the row's id in the cloud; the key where this is not said.
    pub id: Option<String>,
    /// Only rows of the last so many days, by `time`.
    pub days: Option<u32>,
    /// The column that says of which time a row is; always there where `days` is.
    pub time: Option<String>,
    pub omit: BTreeSet<String>,
    /// Column to field.
    pub rename: BTreeMap<String, String>,
    /// Columns whose values become `***`; NULL stays.
    pub mask: BTreeSet<String>,
    /// Columns whose values the cloud cannot read.
    pub encrypt: BTreeSet<String>,
    /// Columns that name files.
    pub files: BTreeMap<String, FileColumn>,
    /// The row goes first, and its files follow it.
    pub files_after: bool,
    /// Always there where something is to be encrypted.
    pub seal: Option<SealKey>,
}

/// Why a change is not sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unsent {
    /// Older than the window of days.
    TooOld,
    /// Nothing tells the row from others.
    NoId,
}

impl Unsent {
    pub fn word(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::NoId => "no_id",
        }
    }
}

const MASKED: &str = "***";

impl Mapping {
    pub fn resource(&self, table: &TableName) -> String {
        self.resource.clone().unwrap_or_else(|| kebab(&table.table))
    }

    /// The field that holds the row's id.
    pub fn id_field(&self, shape: &Shape) -> String {
        let column = self.id.clone().or_else(|| shape.key_names().next().map(|name| name.to_string()));
        let column = column.unwrap_or_else(|| "id".into());
        self.rename.get(&column).cloned().unwrap_or(column)
    }

    /// What beside the primary key tells whether a row is sent, and which one it is in the cloud.
    pub fn telling_columns(&self) -> Vec<&str> {
        self.id.iter().chain(&self.time).map(String::as_str).collect()
    }

    /// The first day that is sent, `2026-11-22`, at this second.
    pub fn first_day(&self, now: u64) -> Option<String> {
        let days = i64::from(self.days?);
        let first = Timestamp::from_second(i64::try_from(now).ok()? - days * 86_400).ok()?;
        Some(first.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string())
    }

    /// What SQL is asked for, so that rows outside the window are not even read.
    pub fn condition(&self, now: u64) -> Option<String> {
        let (first, time) = (self.first_day(now)?, self.time.as_ref()?);
        Some(format!("`{}` >= '{first}' OR `{0}` IS NULL", time.replace('`', "``")))
    }

    /// What the change is to the cloud, oldest first: one row, or two where it moved the row to another id. `key` names the write.
    pub fn rows(&self, change: &Change, version: &CloudVersion, key: &str, now: u64) -> Result<Vec<CloudRow>, Unsent> {
        let resource = self.resource(change.table());
        // A row of a snapshot fills what is missing, and never beats a write, a delete included: its clock is that of no write.
        let hlc = if change.op == Op::Read { 0 } else { version.hlc };
        let version = CloudVersion { hlc, origin: version.origin.clone() };
        let row = |key: String, id: String, op, row| CloudRow {
            key,
            resource: resource.clone(),
            id,
            op,
            version: version.clone(),
            row,
        };
        let was = change.before.as_ref().and_then(|image| self.id_of(&change.shape, image));
        let Some(after) = &change.after else {
            let id = was.ok_or(Unsent::NoId)?;
            return Ok(vec![row(key.into(), id, CloudOp::Delete, Map::new())]);
        };
        let id = self.id_of(&change.shape, after).or_else(|| was.clone()).ok_or(Unsent::NoId)?;
        let mut rows = Vec::new();
        if let Some(was) = was.filter(|was| *was != id) {
            rows.push(row(format!("{key}:moved"), was, CloudOp::Delete, Map::new()));
        }
        if self.is_too_old(&change.shape, after, now) {
            return if rows.is_empty() { Err(Unsent::TooOld) } else { Ok(rows) };
        }
        let moved = !rows.is_empty();
        let op = match change.op {
            // Where an image is not whole, what is not in it has to come from the row that is there.
            Op::Update if moved || after.is_full() => CloudOp::Insert,
            Op::Update => CloudOp::Update,
            _ => CloudOp::Insert,
        };
        let body = self.body(&change.shape, after, &resource, &id);
        rows.push(row(key.into(), id, op, body));
        Ok(rows)
    }

    /// The id of a row that is there, where the row is sent at all: as [`Mapping::rows`] has it, without making anything to be sent.
    pub fn row_id(&self, shape: &Shape, image: &Image, now: u64) -> Result<String, Unsent> {
        let id = self.id_of(shape, image).ok_or(Unsent::NoId)?;
        if self.is_too_old(shape, image, now) { Err(Unsent::TooOld) } else { Ok(id) }
    }

    /// The values of a compound key are joined; a comma within a value is doubled, so that no two keys run together.
    fn id_of(&self, shape: &Shape, image: &Image) -> Option<String> {
        let text = |column: usize| match image.get(column)? {
            ValueRef::Null => None,
            ValueRef::Text(text) => Some(text.to_owned()),
            ValueRef::Bytes(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            value => id_text(&json_of(value.to_value())),
        };
        match &self.id {
            Some(name) => text(shape.column(name)?),
            None if shape.key.is_empty() => None,
            None => {
                let parts: Vec<String> = shape.key.iter().map(|&at| text(usize::from(at))).collect::<Option<_>>()?;
                let single = parts.len() == 1;
                Some(if single {
                    parts.concat()
                } else {
                    parts.iter().map(|part| part.replace(',', ",,")).collect::<Vec<_>>().join(",")
                })
            }
        }
    }

    /// By days alone: a column without time zone cannot tell hours, and at the edge a row more does no harm.
    fn is_too_old(&self, shape: &Shape, image: &Image, now: u64) -> bool {
        let (Some(first), Some(time)) = (self.first_day(now), &self.time) else { return false };
        let value = shape.column(time).and_then(|column| image.get(column));
        // What tells no time is sent: rather one too many than one lost.
        value.and_then(ValueRef::as_text).and_then(|text| text.get(..10)).is_some_and(|day| day < first.as_str())
    }

    fn body(&self, shape: &Shape, image: &Image, resource: &str, id: &str) -> Map<String, Json> {
        let known: Map<String, Json> =
            serde_json::from_str(&wire::image_json(shape, image)).expect("what the wire form wrote is an object");
        let mut body = Map::new();
        for (name, value) in known {
            if self.omit.contains(&name) {
                continue;
            }
            let field = self.rename.get(&name).cloned().unwrap_or_else(|| name.clone());
            let value = match value {
                Json::Null => Json::Null,
                _ if self.mask.contains(&name) => MASKED.into(),
                value if self.encrypt.contains(&name) => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let key = self.seal.as_ref().expect("a mapping that encrypts has a key");
                    key.seal([resource, id, &field], &text).into()
                }
                value => value,
            };
            body.insert(field, value);
        }
        body
    }
}

fn json_of(value: Value) -> Json {
    match value {
        Value::Int(number) => number.into(),
        Value::UInt(number) => number.into(),
        Value::Float(number) => f64::from(number).into(),
        Value::Double(number) => number.into(),
        Value::Null | Value::Text(_) | Value::Bytes(_) => Json::Null,
    }
}

/// `teaching_loads` and `TeachingLoads` are `teaching-loads`.
fn kebab(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut before_lower = false;
    for letter in name.chars() {
        if letter.is_uppercase() && before_lower {
            out.push('-');
        }
        before_lower = letter.is_lowercase() || letter.is_ascii_digit();
        if letter.is_alphanumeric() {
            out.extend(letter.to_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::change::{Checks, Column, ColumnKind};

    fn shape(key: &[u16]) -> Arc<Shape> {
        let columns =
            ["id", "day", "name"].map(|name| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false });
        Arc::new(Shape { table: TableName::new("campus", "stream_recordings"), columns: columns.into(), key: key.to_vec() })
    }

    fn image(id: i64, day: Option<&str>, name: Option<&str>) -> Option<Image> {
        Some(Image::of([Some(Value::Int(id)), day.map(Value::text), name.map(Value::text)]))
    }

    fn change(op: Op, before: Option<Image>, after: Option<Image>) -> Change {
        Change { shape: shape(&[0]), op, before, after, checks: Checks::default() }
    }

    const DAY: u64 = 86_400;

    /// Noon of 2026-11-22.
    const NOON: u64 = 1_795_348_800;

    fn rows(mapping: &Mapping, change: &Change) -> Result<Vec<CloudRow>, Unsent> {
        mapping.rows(change, &CloudVersion { hlc: 5, origin: "a".into() }, "a:1", NOON)
    }

    #[test]
    fn names_are_kebab_case() {
        for (name, expected) in [
            ("teaching_loads", "teaching-loads"),
            ("TeachingLoads", "teaching-loads"),
            ("rooms", "rooms"),
            ("__x__y", "x-y"),
            ("cam2_log", "cam2-log"),
        ] {
            assert_eq!(kebab(name), expected);
        }
    }

    #[test]
    fn fields_are_left_out_renamed_masked_and_encrypted() {
        let seal = SealKey::parse(&"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into()).unwrap();
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let insert = change(Op::Insert, None, image(7, Some("2026-11-01 10:00:00"), Some("Ann")));
        let mapping = Mapping {
            omit: set("day"),
            rename: [("name".to_owned(), "title".to_owned())].into(),
            mask: set("name"),
            ..Mapping::default()
        };
        let sent = rows(&mapping, &insert).unwrap().remove(0);
        assert_eq!((sent.resource.as_str(), sent.id.as_str(), sent.op), ("stream-recordings", "7", CloudOp::Insert));
        assert_eq!(Json::Object(sent.row), json!({"id": 7, "title": "***"}));
        let mapping = Mapping { encrypt: set("name"), seal: Some(seal.clone()), ..Mapping::default() };
        let sent = rows(&mapping, &insert).unwrap().remove(0);
        let sealed = sent.row["name"].as_str().unwrap();
        assert_eq!(seal.open(["stream-recordings", "7", "name"], sealed).as_deref(), Some("Ann"));
    }

    #[test]
    fn what_is_older_than_the_window_is_not_sent_but_its_delete_is() {
        let mapping = Mapping { days: Some(7), time: Some("day".into()), ..Mapping::default() };
        let check = |day: Option<&str>, sent: bool| {
            let outcome = rows(&mapping, &change(Op::Insert, None, image(7, day, None)));
            assert_eq!(outcome.is_ok(), sent, "{day:?}: {outcome:?}");
        };
        check(Some("2026-11-15 00:00:00"), true);
        check(Some("2026-11-14 23:59:59"), false);
        check(Some("0000-00-00"), false);
        check(Some("?"), true);
        check(None, true);
        assert_eq!(mapping.condition(NOON).as_deref(), Some("`day` >= '2026-11-15' OR `day` IS NULL"));
        assert_eq!(mapping.first_day(NOON + 10 * DAY).as_deref(), Some("2026-11-25"));
        let delete = rows(&mapping, &change(Op::Delete, image(7, Some("2001-01-01"), None), None)).unwrap();
        assert_eq!(delete[0].op, CloudOp::Delete);
    }

    #[test]
    fn a_row_that_is_there_has_the_id_under_which_it_is_sent() {
        let mapping = Mapping { days: Some(7), time: Some("day".into()), ..Mapping::default() };
        for (key, day) in
            [(&[0][..], "2026-11-15 00:00:00"), (&[0, 1], "2026-11-15,x"), (&[0], "2001-01-01"), (&[], "2026-11-15")]
        {
            let mut read = change(Op::Read, None, image(7, Some(day), Some("x")));
            read.shape = shape(key);
            let sent = rows(&mapping, &read).map(|mut rows| rows.remove(0).id);
            assert_eq!(mapping.row_id(&read.shape, read.after.as_ref().unwrap(), NOON), sent, "{key:?} {day}");
        }
    }

    #[test]
    fn a_row_that_moved_is_deleted_where_it_was() {
        let moved = change(Op::Update, image(7, None, Some("x")), image(8, None, Some("x")));
        let sent = rows(&Mapping::default(), &moved).unwrap();
        assert_eq!((sent[0].id.as_str(), sent[0].op), ("7", CloudOp::Delete));
        assert_eq!((sent[1].id.as_str(), sent[1].op), ("8", CloudOp::Insert));
        assert_ne!(sent[0].key, sent[1].key);
    }

    #[test]
    fn a_row_of_a_snapshot_is_older_than_every_write() {
        let read = change(Op::Read, None, image(7, None, Some("x")));
        let sent = rows(&Mapping::default(), &read).unwrap().remove(0);
        assert_eq!((sent.op, sent.version.hlc), (CloudOp::Insert, 0));
    }

    #[test]
    fn what_is_unknown_is_not_sent_as_null() {
        let update = change(Op::Update, image(7, None, None), image(7, None, Some("new")));
        let sent = rows(&Mapping::default(), &update).unwrap().remove(0);
        assert_eq!((sent.op, Json::Object(sent.row)), (CloudOp::Update, json!({"id": 7, "name": "new"})));
    }

    #[test]
    fn compound_keys_do_not_run_together_and_rows_without_any_are_not_sent() {
        let id = |key: &[u16], day: &str| {
            let mut change = change(Op::Insert, None, image(7, Some(day), Some("x")));
            change.shape = shape(key);
            rows(&Mapping::default(), &change).map(|rows| rows[0].id.clone())
        };
        assert_eq!(id(&[0, 1], "a"), Ok("7,a".into()));
        assert_eq!(id(&[0, 1], "a,b"), Ok("7,a,,b".into()));
        assert_eq!(id(&[], "a"), Err(Unsent::NoId));
    }
}
