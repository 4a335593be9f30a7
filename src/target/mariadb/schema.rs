//! What the server says of a table: its columns, its key, its other unique keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mysql_async::Row;
use tokio::time::Instant;

use super::literal;
use super::references::{ForeignKey, References};
use super::session::{APPLYING, Session};
use crate::change::{Column, ColumnKind, Shape, TableName};
use crate::target::TargetError;

/// A table as it is here.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub shape: Arc<Shape>,
    /// In the shape's order.
    pub columns: Vec<ColumnFacts>,
    /// Every unique key but the primary one.
    pub unique: Vec<UniqueKey>,
    /// Every index that rows can be found by, with its columns, unique or not.
    pub indexes: Vec<(String, Vec<usize>)>,
    /// The foreign keys by which rows refer to this table's.
    pub referred: Vec<ForeignKey>,
    /// Those by which its own rows refer to others.
    pub refers: Vec<(TableName, ForeignKey)>,
    /// The columns as a SELECT list that loses nothing.
    pub select: Vec<u8>,
    /// Columns of changes that are no longer here: what they hold is left out.
    pub dropped: Vec<Arc<str>>,
    /// Why nothing that arrives may be written to it.
    pub unfit: Option<String>,
}

/// What a column's kind does not say.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnFacts {
    pub charset: Option<String>,
    pub collation: Option<String>,
    /// BINARY(n): always n bytes, padded with zeros.
    pub padded: bool,
    /// Set by the server to the time of an update that does not mention it.
    pub touched: bool,
    /// Of ENUM and SET, in the order by which the server compares and sorts them.
    pub members: Vec<String>,
    /// ENUM with an empty member: a value that a lax session was refused looks the same, and only its number tells.
    pub blank: bool,
    /// ENUM without one: an empty text in it is such a value, and only a lax session writes it.
    pub without_blank: bool,
    /// Character set of which every byte is a character, or in which the server sends as it stores: read as one value.
    pub plain: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct UniqueKey {
    pub name: String,
    pub columns: Vec<usize>,
    /// Some column counts with its first characters only.
    pub prefix: bool,
    /// Over more than an index holds: the server keeps a hash, by which it finds a value that is taken, and nobody else can. To look for
    /// who holds one is to read the whole table.
    pub hashed: bool,
}

impl Table {
    /// Where the column is, by the server's rule: names are compared without regard to case.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.shape.column(name).or_else(|| {
            let same = |column: &Column| column.name.to_lowercase() == name.to_lowercase();
            self.shape.columns.iter().position(same)
        })
    }

    /// Refuses a write of what arrives.
    pub fn writable(&self) -> Result<(), TargetError> {
        match &self.unfit {
            None => Ok(()),
            Some(reason) => Err(TargetError::Unwritable { table: self.shape.table.clone(), reason: reason.clone() }),
        }
    }

    /// Whether the server looks at some unique key before it looks at the primary key.
    pub fn is_hashed(&self) -> bool {
        self.unique.iter().any(|key| key.hashed)
    }

    pub fn key(&self) -> impl Iterator<Item = usize> {
        self.shape.key.iter().map(|&at| usize::from(at))
    }
}

/// How long a description is believed. A change of a column shows in an error at once and is looked up again; a new
/// unique key shows in nothing, but does no harm either (see `statement`).
const BELIEVED: Duration = Duration::from_secs(10);
/// How long a table is looked through for who holds a value, once one was taken that only a hash finds: until a transaction is committed
/// that looked and found nobody, at most this. Long enough for a large transaction to come to the same place again.
const LOOKED_THROUGH: Duration = Duration::from_secs(3600);
/// Tables described at a time; more than anybody has, so that a flood of names cannot fill the memory.
const TABLES_MAX: usize = 20_000;

#[derive(Default)]
pub(super) struct Schemas {
    tables: Mutex<HashMap<TableName, (Instant, Arc<Table>)>>,
    /// When a unique value of the table was last found to be taken.
    taken: Mutex<HashMap<TableName, Instant>>,
    references: References,
}

impl Schemas {
    /// The table as it is now, or was a moment ago.
    pub async fn table(&self, session: &mut Session, name: &TableName) -> Result<Arc<Table>, TargetError> {
        if let Some((at, table)) = self.known().get(name)
            && at.elapsed() < BELIEVED
        {
            return Ok(table.clone());
        }
        let table = Arc::new(load(session, name, &self.references).await?);
        let mut known = self.known();
        if known.len() >= TABLES_MAX {
            known.clear();
        }
        known.insert(name.clone(), (Instant::now(), table.clone()));
        Ok(table)
    }

    /// Remembers of a table which columns of changes are no longer here.
    pub fn note_dropped(&self, table: &Table, dropped: Vec<Arc<str>>) -> Arc<Table> {
        let table = Arc::new(Table { dropped, ..table.clone() });
        self.known().insert(table.shape.table.clone(), (Instant::now(), table.clone()));
        table
    }

    /// A write failed because a unique value is taken.
    pub fn note_taken(&self, name: &TableName) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, at| at.elapsed() < LOOKED_THROUGH);
        taken.insert(name.clone(), Instant::now());
    }

    /// Whether that happened lately.
    pub fn is_taken_lately(&self, name: &TableName) -> bool {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(name).is_some_and(|at| at.elapsed() < LOOKED_THROUGH)
    }

    /// All that failed for it is written.
    pub fn forget_taken(&self, name: &TableName) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub fn forget(&self, name: &TableName) {
        self.known().remove(name);
        self.references.forget();
    }

    pub fn forget_all(&self) {
        self.known().clear();
        self.references.forget();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<TableName, (Instant, Arc<Table>)>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(session: &mut Session, name: &TableName, references: &References) -> Result<Table, TargetError> {
    let task = "reading the columns of a table";
    let folded = session.server().folds_names;
    let mut sql = b"SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, COLUMN_TYPE
        FROM information_schema.COLUMNS WHERE "
        .to_vec();
    where_is(&mut sql, name, folded);
    sql.extend_from_slice(b" ORDER BY ORDINAL_POSITION");
    let mut columns = Vec::new();
    let mut facts = Vec::new();
    for row in session.rows(&sql, task).await? {
        let (column, own) = column(row).ok_or_else(|| session.not_understood(task))?;
        columns.push(column);
        facts.push(own);
    }
    if columns.is_empty() {
        return Err(TargetError::Unwritable { table: name.clone(), reason: "the table does not exist here".into() });
    }
    let unfit = unfit(session, name, folded).await?;
    let mut sql =
        b"SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE, INDEX_TYPE = 'HASH' FROM information_schema.STATISTICS WHERE "
            .to_vec();
    where_is(&mut sql, name, folded);
    sql.extend_from_slice(b" ORDER BY INDEX_NAME, SEQ_IN_INDEX");
    let (mut unique, mut indexes) = (Vec::<UniqueKey>::new(), Vec::<(String, Vec<usize>)>::new());
    for row in session.rows(&sql, task).await? {
        let (index, column, part, repeats, hashed): (String, String, Option<u64>, bool, bool) =
            mysql_async::from_row_opt(row).map_err(|_| session.not_understood(task))?;
        let at = columns.iter().position(|own| *own.name == *column).ok_or_else(|| session.not_understood(task))?;
        if !hashed {
            if indexes.last().is_none_or(|(last, _)| *last != index) {
                indexes.push((index.clone(), Vec::new()));
            }
            indexes.last_mut().expect("one was just pushed if there was none").1.push(at);
        }
        if repeats {
            continue;
        }
        if unique.last().is_none_or(|last| last.name != index) {
            unique.push(UniqueKey { name: index, columns: Vec::new(), prefix: false, hashed });
        }
        let key = unique.last_mut().expect("one was just pushed if there was none");
        key.columns.push(at);
        key.prefix |= part.is_some();
    }
    let primary = unique.iter().position(|key| key.name == "PRIMARY").map(|at| unique.remove(at));
    let key = primary.into_iter().flat_map(|key| key.columns).map(|at| at as u16).collect();
    let shape = Arc::new(Shape { table: name.clone(), columns, key });
    let select = super::read::select_list(&shape, &facts);
    let (referred, refers) = references.of(session, name).await?;
    Ok(Table { shape, columns: facts, unique, indexes, referred, refers, select, dropped: Vec::new(), unfit })
}

/// Why what arrives cannot be kept in the table as it is; this may have come to be since the node started and looked at its tables. The
/// binlog has a write to a table without transactions by itself, without the mark by which it is known as ours: it would go back to
/// where it came from. What a trigger did at the origin comes as changes of its own, and would be done twice.
async fn unfit(session: &mut Session, name: &TableName, folded: bool) -> Result<Option<String>, TargetError> {
    let task = "reading what kind of table it is";
    let mut sql = b"SELECT TABLE_TYPE, COALESCE(ENGINE, 'unknown') FROM information_schema.TABLES WHERE ".to_vec();
    where_is(&mut sql, name, folded);
    let Some(row) = session.rows(&sql, task).await?.pop() else {
        return Ok(Some("the table does not exist here".into()));
    };
    let (kind, engine): (String, String) = mysql_async::from_row_opt(row).map_err(|_| session.not_understood(task))?;
    match (kind.as_str(), engine.as_str()) {
        ("SEQUENCE", _) => return Ok(Some("it is a sequence, and each node must give numbers of its own".into())),
        ("VIEW" | "SYSTEM VIEW", _) => return Ok(Some("it is a view here".into())),
        (_, "InnoDB") => {}
        (_, engine) => return Ok(Some(format!("its engine is {engine}, which has no transactions and row locks"))),
    }
    let unguarded = "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE LOCATE";
    let mut sql = format!("{unguarded}('{APPLYING}', ACTION_STATEMENT) = 0 AND ").into_bytes();
    where_named(&mut sql, ["EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE"], name, folded);
    let Some(row) = session.rows(&sql, task).await?.pop() else { return Ok(None) };
    let trigger: String = mysql_async::from_row_opt(row).map_err(|_| session.not_understood(task))?;
    Ok(Some(format!("its trigger `{trigger}` would run again for every change that arrives")))
}

/// Where names keep their case the server compares them exactly, because it looks for the table's own file.
fn where_is(sql: &mut Vec<u8>, name: &TableName, folded: bool) {
    where_named(sql, ["TABLE_SCHEMA", "TABLE_NAME"], name, folded);
}

/// The same, of these columns.
fn where_named(sql: &mut Vec<u8>, columns: [&str; 2], name: &TableName, folded: bool) {
    let mut equals = |column: &str, text: &str| {
        sql.extend_from_slice(column.as_bytes());
        sql.extend_from_slice(b" = ");
        match folded {
            true => literal::text(sql, &text.to_lowercase()),
            false => literal::text(sql, text),
        }
    };
    let [database, table] = columns;
    equals(database, &name.database);
    equals(&format!(" AND {table}"), &name.table);
}

fn column(row: Row) -> Option<(Column, ColumnFacts)> {
    type Sent = (String, String, Option<String>, Option<String>, String, String);
    let (name, data_type, charset, collation, extra, column_type): Sent = mysql_async::from_row_opt(row).ok()?;
    let kind = kind(&data_type, charset.is_some());
    let members = if matches!(kind, ColumnKind::Enum | ColumnKind::Set) { members(&column_type) } else { Vec::new() };
    let extra = extra.to_lowercase();
    let plain = charset.as_deref().is_none_or(|charset| PLAIN.contains(&charset));
    let facts = ColumnFacts {
        padded: data_type.eq_ignore_ascii_case("binary"),
        touched: extra.contains("on update"),
        blank: kind == ColumnKind::Enum && members.iter().any(String::is_empty),
        without_blank: kind == ColumnKind::Enum && !members.iter().any(String::is_empty),
        members,
        charset,
        collation,
        plain,
    };
    Some((Column { name: name.into(), kind, generated: extra.contains("generated") }, facts))
}

/// Those of `enum('a','it''s','')`. A quote in a member is written twice; a backslash stands before what a text would have it before.
fn members(column_type: &str) -> Vec<String> {
    let mut members = Vec::new();
    let mut letters = column_type.chars().peekable();
    while letters.any(|letter| letter == '\'') {
        let mut member = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '\'' if letters.next_if_eq(&'\'').is_none() => break,
                '\\' => member.extend(letters.next().map(|escaped| match escaped {
                    'n' => '\n',
                    'r' => '\r',
                    '0' => '\0',
                    other => other,
                })),
                letter => member.push(letter),
            }
        }
        members.push(member);
    }
    members
}

/// Sent as stored and checked here (utf8), or every byte is a character (latin1).
const PLAIN: [&str; 5] = ["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1"];

fn kind(data_type: &str, is_text: bool) -> ColumnKind {
    match data_type.to_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => ColumnKind::Integer,
        "decimal" | "numeric" => ColumnKind::Decimal,
        "float" => ColumnKind::Float,
        "double" | "real" => ColumnKind::Double,
        "bit" => ColumnKind::Bit,
        "year" => ColumnKind::Year,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time,
        "datetime" => ColumnKind::Datetime,
        "timestamp" => ColumnKind::Timestamp,
        "enum" => ColumnKind::Enum,
        "set" => ColumnKind::Set,
        "json" => ColumnKind::Json,
        "uuid" => ColumnKind::Uuid,
        "inet4" => ColumnKind::Inet4,
        "inet6" => ColumnKind::Inet6,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
        | "geometrycollection" => ColumnKind::Geometry,
        _ if is_text => ColumnKind::Text,
        _ => ColumnKind::Binary,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn members_are_told_from_quotes_in_members() {
        let check = |column_type, expected: &[&str]| assert_eq!(super::members(column_type), expected, "{column_type}");
        check("enum('a','')", &["a", ""]);
        check("enum('','a')", &["", "a"]);
        check("enum('a','','b')", &["a", "", "b"]);
        check("enum('a','b''c')", &["a", "b'c"]);
        check("enum('''')", &["'"]);
        check("enum('a'',''b')", &["a','b"]);
        check("enum('a'''',','''')", &["a'',", "'"]);
        check("set('(',')')", &["(", ")"]);
        check("enum('a\\\\b','c\\nd')", &["a\\b", "c\nd"]);
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A table of integer columns, the first of which is its key.
    pub fn table(database: &str, name: &str, columns: &[&str]) -> Table {
        let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Integer, generated: false };
        let shape =
            Shape { table: TableName::new(database, name), columns: columns.iter().map(column).collect(), key: vec![0] };
        let facts: Vec<_> = columns.iter().map(|_| ColumnFacts { plain: true, ..ColumnFacts::default() }).collect();
        let select = crate::target::mariadb::read::select_list(&shape, &facts);
        Table {
            shape: Arc::new(shape),
            columns: facts,
            unique: Vec::new(),
            indexes: Vec::new(),
            referred: Vec::new(),
            refers: Vec::new(),
            select,
            dropped: Vec::new(),
            unfit: None,
        }
    }
}
