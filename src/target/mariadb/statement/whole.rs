//! Changes of tables without a key, as SQL: an update or delete names its row by all that it was, and is of one row.
//!
//! Compared is what is stored, not what a collation or a number of digits calls equal: text by its bytes in the column's own
//! character set, a float as the exact double, dates by their digits (some are no dates). What the server computes is left out.

use super::super::literal;
use super::super::schema::Table;
use super::{Destination, destination, has_refused_value, key_literal, mode};
use crate::change::{Change, ColumnKind, Image, Op, ValueRef};
use crate::target::TargetError;

/// Character sets in which text is stored as it is sent.
const AS_SENT: [&str; 4] = ["utf8mb4", "utf8mb3", "utf8", "ascii"];

/// The statement of this one change.
pub(in super::super) fn whole(table: &Table, change: &Change) -> Result<Vec<u8>, TargetError> {
    let unwritable = |reason: String| TargetError::Unwritable { table: table.shape.table.clone(), reason };
    if table.shape.has_key() {
        let names: Vec<&str> = table.shape.key_names().map(|name| &**name).collect();
        return Err(unwritable(format!("it has a primary key here ({}), and had none where it was changed", names.join(", "))));
    }
    if !change.is_whole() {
        return Err(unwritable("it has no primary key, and the change does not hold the whole row".into()));
    }
    let (before, after) = match (change.op, &change.before, &change.after) {
        (Op::Insert, _, Some(after)) => (None, Some(after)),
        (Op::Update, Some(before), Some(after)) => (Some(before), Some(after)),
        (Op::Delete, Some(before), _) => (Some(before), None),
        _ => return Err(unwritable(format!("a {} is not written to a table without a primary key", change.op))),
    };
    let mut columns = Vec::with_capacity(change.shape.columns.len());
    for (from, column) in change.shape.columns.iter().enumerate() {
        match destination(table, column) {
            Destination::Column(to) => columns.push((from, to)),
            Destination::Computed | Destination::Dropped => {}
            Destination::Missing => return Err(unwritable(format!("there is no column `{}` here", column.name))),
        }
    }
    let mut sql = Vec::with_capacity(64 + change.weight() * 2);
    mode(&mut sql, has_refused_value(table, after, &columns));
    let one = One { table, columns };
    match (before, after) {
        (None, Some(after)) => one.insert(&mut sql, after),
        (Some(before), after) => {
            match after {
                Some(after) => one.update(&mut sql, after),
                None => {
                    sql.extend_from_slice(b"DELETE FROM ");
                    literal::table(&mut sql, &table.shape.table);
                }
            }
            one.equals(&mut sql, before);
            sql.extend_from_slice(b" LIMIT 1");
        }
        (None, None) => unreachable!("each op above has one of them"),
    }
    Ok(sql)
}

struct One<'t> {
    table: &'t Table,
    /// Where the change has them, where the table has them.
    columns: Vec<(usize, usize)>,
}

impl One<'_> {
    fn insert(&self, sql: &mut Vec<u8>, after: &Image) {
        sql.extend_from_slice(b"INSERT INTO ");
        literal::table(sql, &self.table.shape.table);
        sql.extend_from_slice(b" (");
        literal::list(sql, &self.columns, |sql, &(_, to)| self.name(sql, to));
        sql.extend_from_slice(b") VALUES (");
        literal::list(sql, &self.columns, |sql, &(from, to)| self.value(sql, to, told(after, from)));
        sql.push(b')');
    }

    fn update(&self, sql: &mut Vec<u8>, after: &Image) {
        sql.extend_from_slice(b"UPDATE ");
        literal::table(sql, &self.table.shape.table);
        sql.extend_from_slice(b" SET ");
        literal::list(sql, &self.columns, |sql, &(from, to)| {
            self.name(sql, to);
            sql.push(b'=');
            self.value(sql, to, told(after, from));
        });
        let touched = self.table.columns.iter().enumerate().filter(|(_, facts)| facts.touched);
        for (at, _) in touched.filter(|(at, _)| !self.columns.iter().any(|(_, to)| to == at)) {
            sql.push(b',');
            self.name(sql, at);
            sql.push(b'=');
            self.name(sql, at);
        }
    }

    fn equals(&self, sql: &mut Vec<u8>, before: &Image) {
        sql.extend_from_slice(b" WHERE ");
        for (number, &(from, to)) in self.columns.iter().enumerate() {
            if number > 0 {
                sql.extend_from_slice(b" AND ");
            }
            self.equal(sql, to, told(before, from));
        }
    }

    /// That the column holds exactly this value.
    fn equal(&self, sql: &mut Vec<u8>, at: usize, value: ValueRef) {
        let kind = self.table.shape.columns[at].kind;
        let mut name = Vec::new();
        self.name(&mut name, at);
        let mut cast = |to: &[u8]| {
            let parts: [&[u8]; 5] = [b"CAST(", &name, b" AS ", to, b")<=>"];
            parts.iter().for_each(|part| sql.extend_from_slice(part));
        };
        match (kind, value) {
            (_, ValueRef::Null) => {}
            // The year 0 as a number would be taken for 2000; a member of an enum goes by its number.
            (ColumnKind::Year | ColumnKind::Enum | ColumnKind::Set, ValueRef::Int(_) | ValueRef::UInt(_)) => {
                sql.extend_from_slice(&name);
                sql.extend_from_slice(b"+0<=>");
                return literal::value(sql, value);
            }
            // In quotes it would be compared as a double.
            (ColumnKind::Decimal, ValueRef::Text(digits)) if is_decimal(digits) => {
                sql.extend_from_slice(&name);
                sql.extend_from_slice(b"<=>");
                return sql.extend_from_slice(digits.as_bytes());
            }
            (
                ColumnKind::Decimal | ColumnKind::Date | ColumnKind::Time | ColumnKind::Datetime | ColumnKind::Timestamp,
                ValueRef::Text(_),
            ) => {
                cast(b"CHAR");
                return literal::value(sql, value);
            }
            (ColumnKind::Text | ColumnKind::Json | ColumnKind::Enum | ColumnKind::Set, ValueRef::Text(text)) => {
                cast(b"BINARY");
                return match self.table.columns[at].charset.as_deref().filter(|charset| !AS_SENT.contains(charset)) {
                    None => literal::value(sql, ValueRef::Bytes(text.as_bytes())),
                    Some(charset) => {
                        sql.extend_from_slice(b"CAST(CONVERT(");
                        literal::value(sql, value);
                        sql.extend_from_slice(format!(" USING {charset}) AS BINARY)").as_bytes());
                    }
                };
            }
            // A comparison by bytes, also where text holds what is no text.
            (ColumnKind::Text | ColumnKind::Json | ColumnKind::Geometry, ValueRef::Bytes(_)) => {
                cast(b"BINARY");
                return literal::value(sql, value);
            }
            _ => {}
        }
        sql.extend_from_slice(&name);
        sql.extend_from_slice(b"<=>");
        self.value(sql, at, value);
    }

    fn name(&self, sql: &mut Vec<u8>, at: usize) {
        literal::identifier(sql, &self.table.shape.columns[at].name);
    }

    fn value(&self, sql: &mut Vec<u8>, at: usize, value: ValueRef) {
        key_literal(sql, self.table.shape.columns[at].kind, value);
    }
}

fn told(image: &Image, at: usize) -> ValueRef<'_> {
    // Only a computed column may be untold, and computed there is not always computed here.
    image.get(at).unwrap_or(ValueRef::Null)
}

/// Digits with a sign and a point at most: it goes into the statement as it is.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole) && plain(fraction)
}
