//! The canonical form of keys: what the columns' own comparison calls equal gets equal bytes.
//!
//! Numbers, times and bytes are brought to one form here. Text is compared by its collation, which only the server
//! knows: it is asked for the weights, many at a time, and the answers are kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::fault::About;
use super::literal;
use super::read::key_values;
use super::schema::{ColumnFacts, Table};
use super::session::Session;
use crate::change::{Column, ColumnKind, RowKey, TableName, ValueRef};
use crate::target::{CanonicalKey, TargetError};

/// Weights kept, by bytes of texts and weights. They come again and again for hot rows; a scan of a large table only
/// passes through.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// Texts in one question: a SELECT takes 4096 columns and each text may need three.
const ASKED_AT_ONCE: usize = 500;

#[derive(Default)]
pub(super) struct Weights(Mutex<Kept>);

/// Weights by text.
type ByText = HashMap<Box<str>, Box<[u8]>>;

#[derive(Default)]
struct Kept {
    by_collation: HashMap<Arc<str>, ByText>,
    bytes: usize,
}

/// One value of a key: its bytes, or the text whose weights are needed.
enum Part<'k> {
    Ready(Vec<u8>),
    Text { charset: &'k str, collation: &'k str, text: Box<str> },
}

/// A key for which [`Weights::canonical`] is asked.
pub(super) type Wanted<'k> = (&'k Table, &'k RowKey);

impl Weights {
    pub async fn canonical(&self, session: &mut Session, keys: &[Wanted<'_>]) -> Result<Vec<CanonicalKey>, TargetError> {
        let mut parts = Vec::with_capacity(keys.len());
        for (table, key) in keys {
            let other_key = || other_key(table);
            let values = key_values(table, key).ok_or_else(other_key)?;
            let columns = table.key().map(|at| (&table.shape.columns[at], &table.columns[at]));
            parts.push(columns.zip(values).map(|((column, facts), value)| part(column, facts, value)).collect::<Vec<_>>());
        }
        let mut unknown: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
        {
            let kept = self.kept();
            for part in parts.iter().flatten() {
                if let Part::Text { charset, collation, text } = part
                    && kept.weight(collation, text).is_none()
                {
                    unknown.entry((charset, collation)).or_default().push(text);
                }
            }
        }
        let mut fresh: HashMap<(&str, &str), Box<[u8]>> = HashMap::new();
        for ((charset, collation), mut texts) in unknown {
            texts.sort_unstable();
            texts.dedup();
            for some in texts.chunks(ASKED_AT_ONCE) {
                let weights = ask(session, charset, collation, some).await?;
                fresh.extend(some.iter().map(|text| (collation, *text)).zip(weights));
            }
        }
        let folds = session.server().folds_names;
        let mut kept = self.kept();
        let canonical = keys.iter().zip(&parts).map(|((table, _), parts)| {
            let bytes = parts.iter().map(|part| match part {
                Part::Ready(bytes) => &bytes[..],
                Part::Text { collation, text, .. } => fresh
                    .get(&(*collation, &**text))
                    .map(|weight| &weight[..])
                    .or_else(|| kept.weight(collation, text))
                    .unwrap_or(text.as_bytes()),
            });
            let name = &table.shape.table;
            match folds {
                false => CanonicalKey::new(name, bytes),
                true => CanonicalKey::new(&TableName::new(&name.database.to_lowercase(), &name.table.to_lowercase()), bytes),
            }
        });
        let canonical = canonical.collect();
        for ((collation, text), weight) in fresh {
            kept.keep(collation, text, weight);
        }
        Ok(canonical)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn other_key(table: &Table) -> TargetError {
    let names: Vec<&str> = table.shape.key_names().map(|name| &**name).collect();
    let reason = match names.is_empty() {
        true => "the table has no primary key here".to_owned(),
        false => format!("its primary key here is ({}), and not the one of the change", names.join(", ")),
    };
    TargetError::Unwritable { table: table.shape.table.clone(), reason }
}

impl Kept {
    fn weight(&self, collation: &str, text: &str) -> Option<&[u8]> {
        self.by_collation.get(collation)?.get(text).map(|weight| &**weight)
    }

    fn keep(&mut self, collation: &str, text: &str, weight: Box<[u8]>) {
        // Two slots of pointers and lengths, and the table's own.
        self.bytes += text.len() + weight.len() + 48;
        if self.bytes > KEPT_BYTES_MAX {
            self.by_collation.clear();
            self.bytes = text.len() + weight.len() + 48;
        }
        self.by_collation.entry(collation.into()).or_default().insert(text.into(), weight);
    }
}

fn part<'k>(column: &Column, facts: &'k ColumnFacts, value: ValueRef) -> Part<'k> {
    let plain = |value: ValueRef| match value {
        ValueRef::Null => Vec::new(),
        ValueRef::Int(number) => number.to_string().into_bytes(),
        ValueRef::UInt(number) => number.to_string().into_bytes(),
        ValueRef::Float(number) => f64::from(number).to_string().into_bytes(),
        ValueRef::Double(number) => number.to_string().into_bytes(),
        ValueRef::Text(text) => text.as_bytes().to_vec(),
        ValueRef::Bytes(bytes) => bytes.to_vec(),
    };
    match column.kind {
        ColumnKind::Integer | ColumnKind::Bit | ColumnKind::Year | ColumnKind::Decimal => Part::Ready(number(plain(value))),
        ColumnKind::Float | ColumnKind::Double => {
            let double = match value {
                ValueRef::Float(number) => f64::from(number),
                ValueRef::Double(number) => number,
                other => String::from_utf8_lossy(&plain(other)).parse().unwrap_or(f64::NAN),
            };
            // Zero has two signs that compare equal.
            let double = if double == 0.0 { 0.0 } else { double };
            let double = if column.kind == ColumnKind::Float { f64::from(double as f32) } else { double };
            Part::Ready(double.to_be_bytes().to_vec())
        }
        ColumnKind::Date | ColumnKind::Time | ColumnKind::Datetime | ColumnKind::Timestamp => {
            Part::Ready(without_zero_fraction(plain(value)))
        }
        ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6 => Part::Ready(plain(value).to_ascii_lowercase()),
        ColumnKind::Binary if facts.padded => Part::Ready(trimmed(plain(value), 0)),
        ColumnKind::Binary | ColumnKind::Geometry | ColumnKind::Unknown => Part::Ready(plain(value)),
        ColumnKind::Text | ColumnKind::Enum | ColumnKind::Set | ColumnKind::Json => match value {
            // Not valid in its character set: only its own bytes are equal to it.
            ValueRef::Bytes(bytes) => Part::Ready([b"\0not text\0", bytes].concat()),
            // What an enum refused, where it has an empty member too.
            ValueRef::Int(number) => Part::Ready(format!("\0number\0{number}").into_bytes()),
            other => text(facts, plain(other)),
        },
    }
}

fn text<'k>(facts: &'k ColumnFacts, text: Vec<u8>) -> Part<'k> {
    let (charset, collation) = (facts.charset.as_deref(), facts.collation.as_deref());
    let (Some(charset), Some(collation)) = (charset, collation) else { return Part::Ready(text) };
    let pads = !collation.contains("_nopad_");
    if collation.ends_with("_bin") {
        return Part::Ready(if pads { trimmed(text, b' ') } else { text });
    }
    // MariaDB's default: for ASCII its weights are the capital letters, two bytes each.
    if matches!(collation, "utf8mb4_general_ci" | "utf8mb3_general_ci" | "utf8_general_ci") && text.is_ascii() {
        return Part::Ready(trimmed(text, b' ').iter().flat_map(|byte| [0, byte.to_ascii_uppercase()]).collect());
    }
    match String::from_utf8(text) {
        Ok(text) => Part::Text { charset, collation, text: text.into() },
        Err(not_text) => Part::Ready(not_text.into_bytes()),
    }
}

/// `-007.50` as `-7.5`.
fn number(digits: Vec<u8>) -> Vec<u8> {
    let (sign, rest) = match digits.strip_prefix(b"-") {
        Some(rest) => (&b"-"[..], rest),
        None => (&b""[..], digits.strip_prefix(b"+").unwrap_or(&digits)),
    };
    let (whole, fraction) = match rest.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&rest[..dot], &rest[dot + 1..]),
        None => (rest, &b""[..]),
    };
    let leading = whole.iter().take_while(|&&byte| byte == b'0').count();
    let trailing = fraction.iter().rev().take_while(|&&byte| byte == b'0').count();
    let (whole, fraction) = (&whole[leading..], &fraction[..fraction.len() - trailing]);
    match (whole.is_empty(), fraction.is_empty()) {
        (true, true) => b"0".to_vec(),
        (_, true) => [sign, whole].concat(),
        _ => [sign, whole, b".", fraction].concat(),
    }
}

/// `10:00:00.500000` as `10:00:00.5`.
fn without_zero_fraction(mut text: Vec<u8>) -> Vec<u8> {
    if text.contains(&b'.') {
        text = trimmed(text, b'0');
        if text.last() == Some(&b'.') {
            text.pop();
        }
    }
    text
}

fn trimmed(mut bytes: Vec<u8>, end: u8) -> Vec<u8> {
    while bytes.last() == Some(&end) {
        bytes.pop();
    }
    bytes
}

/// Weights from the server, each with the weights of trailing spaces taken off where the collation pads.
async fn ask(session: &mut Session, charset: &str, collation: &str, texts: &[&str]) -> Result<Vec<Box<[u8]>>, TargetError> {
    let task = "asking for the weights of key values";
    // Accents and case have levels of their own, each as long as the text.
    let levels = if ["_as_", "_cs"].iter().any(|mark| collation.contains(mark)) { 3 } else { 1 };
    let mut sql = b"SELECT ".to_vec();
    let all = std::iter::once(&" ").chain(texts).flat_map(|text| (1..=levels).map(move |level| (text, level)));
    literal::list(&mut sql, all, |sql, (text, level)| {
        sql.extend_from_slice(b"WEIGHT_STRING(CONVERT(");
        literal::text(sql, text);
        let tail = match levels {
            1 => format!(" USING {charset}) COLLATE {collation})"),
            _ => format!(" USING {charset}) COLLATE {collation} LEVEL {level})"),
        };
        sql.extend_from_slice(tail.as_bytes());
    });
    let row = session.rows_about(&sql, About::Task(task)).await?.pop().ok_or_else(|| session.not_understood(task))?;
    let mut weights = Vec::with_capacity(row.len());
    for sent in row.unwrap_raw() {
        match sent {
            Some(mysql_async::Value::Bytes(weight)) => weights.push(weight),
            _ => return Err(session.not_understood(task)),
        }
    }
    let (spaces, weights) = weights.split_at(levels.min(weights.len()));
    let pads = !collation.contains("_nopad_");
    let join = |weights: &[Vec<u8>]| {
        let mut joined = Vec::new();
        for (weight, space) in weights.iter().zip(spaces) {
            let mut weight = &weight[..];
            while pads && !space.is_empty() && weight.ends_with(space) {
                weight = &weight[..weight.len() - space.len()];
            }
            joined.extend_from_slice(weight);
            if levels > 1 {
                joined.extend_from_slice(&(weight.len() as u32).to_be_bytes());
            }
        }
        joined.into_boxed_slice()
    };
    Ok(weights.chunks(levels).map(join).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;

    fn check(kind: ColumnKind, one: Value, other: Value, equal: bool) {
        let column = Column { name: "k".into(), kind, generated: false };
        let facts = ColumnFacts {
            charset: Some("utf8mb4".into()),
            collation: Some("utf8mb4_general_ci".into()),
            padded: true,
            ..ColumnFacts::default()
        };
        let bytes = |value: &Value| match part(&column, &facts, value.as_ref()) {
            Part::Ready(bytes) => bytes,
            Part::Text { .. } => panic!("this needs no server"),
        };
        assert_eq!(bytes(&one) == bytes(&other), equal, "{kind:?}: {one:?} and {other:?}");
    }

    #[test]
    fn one_value_has_one_form() {
        let text = |text: &str| Value::text(text);
        check(ColumnKind::Integer, Value::Int(7), text("007"), true);
        check(ColumnKind::Integer, Value::Int(0), text("-0"), true);
        check(ColumnKind::Integer, Value::Int(-7), Value::Int(7), false);
        check(ColumnKind::Decimal, text("10.50"), text("10.5"), true);
        check(ColumnKind::Decimal, text("-0.10"), text("-.1"), true);
        check(ColumnKind::Decimal, text("100"), text("1"), false);
        check(ColumnKind::Datetime, text("2020-01-01 10:00:00.500000"), text("2020-01-01 10:00:00.5"), true);
        check(ColumnKind::Datetime, text("2020-01-01 10:00:00.000"), text("2020-01-01 10:00:00"), true);
        check(ColumnKind::Datetime, text("2020-01-01 10:00:00"), text("2020-01-01 10:00:10"), false);
        check(ColumnKind::Float, Value::Float(1.1), Value::Double(1.1), true);
        check(ColumnKind::Double, Value::Double(0.0), Value::Double(-0.0), true);
        check(ColumnKind::Binary, Value::Bytes(Box::new([1, 0])), Value::Bytes(Box::new([1])), true);
        check(ColumnKind::Uuid, text("A0EE"), text("a0ee"), true);
        check(ColumnKind::Text, text("Ann "), text("aNN"), true);
        check(ColumnKind::Text, text("Ann"), text("Anne"), false);
        check(ColumnKind::Text, text("a"), Value::Bytes(Box::new([b'a', 0xff])), false);
        check(ColumnKind::Enum, Value::Int(0), text(""), false);
        check(ColumnKind::Enum, Value::Int(0), text("0"), false);
    }
}
