//! Existing rows, some at a time, each time as of one moment of the server's history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mysql_async::Row;

use super::MariadbTarget;
use super::fault::About;
use super::literal;
use super::read::{key_values, read_row, select_list};
use super::schema::{ColumnFacts, Table};
use super::session::Session;
use super::statement::{key_literal, keys_in};
use crate::change::{
    BinlogCoordinates, ColumnKind, GtidPosition, Image, RowBuffer, RowKey, Shape, TableFilter, TableName, ValueRef,
};
use crate::target::{Held, Range, TargetError};

/// Which rows are wanted next.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub table: &'a TableName,
    /// Rows after this key, in the order of the primary key.
    pub after: Option<&'a RowKey>,
    /// And up to this one.
    pub upto: Option<&'a RowKey>,
    /// Only these rows, where there are any.
    pub keys: &'a [RowKey],
    /// At most so many, and about so many bytes, but at least one.
    pub rows_max: usize,
    pub bytes_max: usize,
    /// An SQL condition of somebody who may read the table anyhow.
    pub condition: Option<&'a str>,
}

/// Rows of one table, whole, in the order of its primary key.
#[derive(Clone, Debug)]
pub struct Rows {
    pub shape: Arc<Shape>,
    pub rows: Vec<Image>,
    /// The server's binlog at the moment of which the rows are.
    pub moment: BinlogCoordinates,
    /// The server's history when the rows had been read.
    pub until: GtidPosition,
    /// There are no rows after these.
    pub ends: bool,
}

/// Of rows of one table some columns, in the order of its primary key.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The table's, with these columns alone.
    pub shape: Arc<Shape>,
    pub rows: Vec<Image>,
    /// There are no rows after these.
    pub ends: bool,
}

/// What a table is thought to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSize {
    pub table: TableName,
    pub rows: u64,
    /// False where its rows can only be told apart by all they hold.
    pub has_key: bool,
}

/// Bytes of a range that is read at once: beyond it, the rest of the range is not looked at.
const RANGE_BYTES: usize = 64 << 20;

const TASK: &str = "reading existing rows";

impl MariadbTarget {
    /// Reads the next rows. No lock is taken, and nobody waits.
    pub async fn existing_rows(&self, wanted: Wanted<'_>) -> Result<Rows, TargetError> {
        let session = self.0.session().await?;
        let was_idle = session.used;
        match self.rows_in(session, wanted).await {
            // The server closes connections that were idle for long.
            Err(TargetError::Unreachable { .. }) if was_idle => self.rows_in(self.0.fresh().await?, wanted).await,
            other => other,
        }
    }

    async fn rows_in(&self, mut session: Session, wanted: Wanted<'_>) -> Result<Rows, TargetError> {
        if wanted.after.is_none() && wanted.keys.is_empty() {
            // A column that came a moment ago, past the binlog perhaps, is to be in a copy and a comparison.
            self.0.schemas.forget(wanted.table);
        }
        let table = self.0.schemas.table(&mut session, wanted.table).await?;
        with_key(&table)?;
        let sql = select(&table, wanted)?;
        if wanted.condition.is_some() {
            session.check_statement(&sql, About::Task("checking the condition")).await?;
        }
        session.run(b"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", About::Task(TASK)).await?;
        let moment = moment(&mut session).await?;
        let (rows, all) = images(&mut session, &sql, wanted, &table).await?;
        let until = if all {
            session.run(b"COMMIT", About::Task(TASK)).await?;
            let until = position(&mut session).await?;
            self.give_back(session);
            until
        } else {
            // The rest of the answer is still under way on that connection, which is closed with it.
            drop(session);
            let mut session = self.0.session().await?;
            let until = position(&mut session).await?;
            self.give_back(session);
            until
        };
        let ends = all && rows.len() < wanted.rows_max;
        Ok(Rows { shape: table.shape.clone(), rows, moment, until, ends })
    }

    /// Of the next rows only their key and these columns, as far as the table has them; at no moment in particular.
    pub async fn existing_columns(&self, wanted: Wanted<'_>, columns: &[&str]) -> Result<Columns, TargetError> {
        let session = self.0.session().await?;
        let was_idle = session.used;
        match self.columns_in(session, wanted, columns).await {
            Err(TargetError::Unreachable { .. }) if was_idle => self.columns_in(self.0.fresh().await?, wanted, columns).await,
            other => other,
        }
    }

    async fn columns_in(&self, mut session: Session, wanted: Wanted<'_>, columns: &[&str]) -> Result<Columns, TargetError> {
        let table = self.0.schemas.table(&mut session, wanted.table).await?;
        with_key(&table)?;
        let table = only(&table, columns);
        let sql = select(&table, wanted)?;
        if wanted.condition.is_some() {
            session.check_statement(&sql, About::Task("checking the condition")).await?;
        }
        let (rows, all) = images(&mut session, &sql, wanted, &table).await?;
        if all {
            self.give_back(session);
        }
        let ends = all && rows.len() < wanted.rows_max;
        Ok(Columns { shape: table.shape.clone(), rows, ends })
    }

    /// Rows of a range, and the history that they hold all of.
    pub(super) async fn rows_of(&self, wanted: &Range) -> Result<(Vec<Held>, GtidPosition), TargetError> {
        let rows = self.existing_rows(Wanted {
            table: &wanted.table,
            after: wanted.after.as_ref(),
            upto: wanted.upto.as_ref(),
            keys: &wanted.keys,
            rows_max: wanted.rows_max,
            bytes_max: RANGE_BYTES,
            condition: None,
        });
        let rows = rows.await?;
        let held = |image: Image| RowKey::of(&rows.shape, &image).map(|key| Held { key, image });
        Ok((rows.rows.into_iter().filter_map(held).collect(), rows.until))
    }

    /// How far the server's own history is.
    pub async fn history_end(&self) -> Result<GtidPosition, TargetError> {
        let mut session = self.0.session().await?;
        let position = position(&mut session).await?;
        self.give_back(session);
        Ok(position)
    }

    /// The tables of the databases of which some could be captured, by name: those that are not, too.
    pub async fn all_tables(&self, filter: &TableFilter) -> Result<Vec<TableName>, TargetError> {
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')
            AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys') ORDER BY 1, 2";
        let names = self.typed(sql).await?.into_iter().map(|(db, table): (String, String)| TableName::new(&db, &table));
        Ok(names.filter(|name| !name.is_own() && filter.captures_database(&name.database)).collect())
    }

    /// The captured tables, those before others that refer to them, each with the rows that the server thinks it has.
    pub async fn sizes(&self, filter: &TableFilter) -> Result<Vec<TableSize>, TargetError> {
        let captured: BTreeSet<TableName> = self.captured(filter).await?.into_iter().collect();
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(TABLE_ROWS, 0) FROM information_schema.TABLES
            WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')";
        let rows: BTreeMap<TableName, u64> = self
            .typed(sql)
            .await?
            .into_iter()
            .map(|(db, table, rows): (String, String, u64)| (TableName::new(&db, &table), rows))
            .collect();
        let keyed: BTreeSet<TableName> = self
            .typed("SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.STATISTICS WHERE INDEX_NAME = 'PRIMARY'")
            .await?
            .into_iter()
            .map(|(db, table): (String, String)| TableName::new(&db, &table))
            .collect();
        let refers = "SELECT TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME
            FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL";
        let mut parents: BTreeMap<TableName, BTreeSet<TableName>> = BTreeMap::new();
        for (db, table, to_db, to) in self.typed::<(String, String, String, String)>(refers).await? {
            parents.entry(TableName::new(&db, &table)).or_default().insert(TableName::new(&to_db, &to));
        }
        let size = |table: TableName| TableSize {
            rows: rows.get(&table).copied().unwrap_or_default(),
            has_key: keyed.contains(&table),
            table,
        };
        Ok(parents_first(&captured, &parents).into_iter().map(size).collect())
    }
}

/// The rows of a [`select`], and whether these are all: as many as hold the bytes that are wanted at most.
async fn images(
    session: &mut Session,
    sql: &[u8],
    wanted: Wanted<'_>,
    table: &Table,
) -> Result<(Vec<Image>, bool), TargetError> {
    let mut rows = RowBuffer::default();
    let all = session.rows_until(sql, wanted.bytes_max, About::Table(table), |row| read_row(table, row, &mut rows)).await?;
    let all = all.ok_or_else(|| session.not_understood(TASK))?;
    Ok((rows.into_images(table.columns.len()).collect(), all))
}

fn with_key(table: &Table) -> Result<(), TargetError> {
    if table.shape.has_key() {
        return Ok(());
    }
    let reason = "it has no primary key, so its rows cannot be read some at a time".into();
    Err(TargetError::Unwritable { table: table.shape.table.clone(), reason })
}

/// The table as if it had its key and these columns only.
fn only(table: &Table, columns: &[&str]) -> Table {
    let named: BTreeSet<usize> = columns.iter().filter_map(|name| table.column(name)).chain(table.key()).collect();
    let place = |column: usize| named.iter().position(|at| *at == column).expect("all of the key is named");
    let shape = Shape {
        table: table.shape.table.clone(),
        columns: named.iter().map(|&at| table.shape.columns[at].clone()).collect(),
        key: table.key().map(|at| place(at) as u16).collect(),
    };
    let facts: Vec<ColumnFacts> = named.iter().map(|&at| table.columns[at].clone()).collect();
    Table {
        select: select_list(&shape, &facts),
        shape: Arc::new(shape),
        columns: facts,
        unique: Vec::new(),
        indexes: Vec::new(),
        referred: Vec::new(),
        refers: Vec::new(),
        dropped: Vec::new(),
        unfit: table.unfit.clone(),
    }
}

/// By names, but each after those that it refers to; where they refer to each other in a circle, one of them begins.
fn parents_first(tables: &BTreeSet<TableName>, parents: &BTreeMap<TableName, BTreeSet<TableName>>) -> Vec<TableName> {
    let mut left: Vec<&TableName> = tables.iter().collect();
    let mut order: Vec<TableName> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |table: &TableName| {
            let of = parents.get(table).into_iter().flatten();
            of.into_iter().any(|parent| parent != table && tables.contains(parent) && !order.contains(parent))
        };
        let at = left.iter().position(|table| !waits(table)).unwrap_or(0);
        order.push(left.remove(at).clone());
    }
    order
}

/// `SELECT … WHERE key > after AND (condition) ORDER BY key LIMIT n`.
fn select(table: &Table, wanted: Wanted<'_>) -> Result<Vec<u8>, TargetError> {
    let mut sql = b"SELECT ".to_vec();
    sql.extend_from_slice(&table.select);
    sql.extend_from_slice(b" FROM ");
    literal::table(&mut sql, &table.shape.table);
    sql.extend_from_slice(b" FORCE INDEX (PRIMARY) WHERE ");
    let values = |key| key_values(table, key).ok_or_else(|| super::canonical::other_key(table));
    match wanted.after {
        None => sql.push(b'1'),
        Some(key) => beyond(&mut sql, table, &values(key)?, b">", b">"),
    }
    if let Some(key) = wanted.upto {
        sql.extend_from_slice(b" AND ");
        beyond(&mut sql, table, &values(key)?, b"<", b"<=");
    }
    if !wanted.keys.is_empty() {
        sql.extend_from_slice(b" AND ");
        keys_in(&mut sql, table, wanted.keys.iter().map(values).collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(condition) = wanted.condition {
        // On a line of its own, so that a comment at its end ends there.
        sql.extend_from_slice(b" AND (");
        sql.extend_from_slice(condition.as_bytes());
        sql.extend_from_slice(b"\n)");
    }
    sql.extend_from_slice(b" ORDER BY ");
    let key: Vec<usize> = table.key().collect();
    literal::list(&mut sql, key, |sql, at| literal::identifier(sql, &table.shape.columns[at].name));
    sql.extend_from_slice(format!(" LIMIT {}", wanted.rows_max).as_bytes());
    Ok(sql)
}

/// `(a > 1 OR a = 1 AND (b > 2))`: of this form the server makes a range of the index, of `(a, b) > (1, 2)` it does not.
///
/// ENUM and SET are sorted by their numbers, and compared with a text as texts: what comes before or after a member is named.
pub(super) fn beyond(sql: &mut Vec<u8>, table: &Table, values: &[ValueRef], operator: &[u8], last: &[u8]) {
    let key: Vec<usize> = table.key().collect();
    let compare = |sql: &mut Vec<u8>, number: usize, operator: &[u8]| {
        let column = &table.shape.columns[key[number]];
        if matches!(column.kind, ColumnKind::Enum | ColumnKind::Set) && operator != b"=" {
            return by_number(sql, &column.name, column.kind, &table.columns[key[number]].members, values[number], operator);
        }
        literal::identifier(sql, &column.name);
        sql.extend_from_slice(operator);
        key_literal(sql, column.kind, values[number]);
    };
    for number in 0..values.len() {
        sql.push(b'(');
        compare(sql, number, if number + 1 < values.len() { operator } else { last });
        if number + 1 < values.len() {
            sql.extend_from_slice(b" OR ");
            compare(sql, number, b"=");
            sql.extend_from_slice(b" AND ");
        }
    }
    sql.extend(std::iter::repeat_n(b')', values.len()));
}

/// A comparison of an ENUM or SET by its number.
fn by_number(sql: &mut Vec<u8>, name: &str, kind: ColumnKind, members: &[String], value: ValueRef, operator: &[u8]) {
    let place = |text: &str| members.iter().position(|member| member == text);
    let bits =
        |text: &str| text.split(',').filter_map(place).fold(0_u64, |bits, at| bits | 1_u64.checked_shl(at as u32).unwrap_or(0));
    let number = match (value, kind) {
        (ValueRef::Text(text), ColumnKind::Set) => bits(text),
        // Refused by the column: 0.
        (ValueRef::Text(text), _) => place(text).map_or(0, |at| at as u64 + 1),
        (other, _) => other.as_u64().unwrap_or(0),
    };
    let numbered = |sql: &mut Vec<u8>| {
        literal::identifier(sql, name);
        sql.extend_from_slice(b"+0");
        sql.extend_from_slice(operator);
        sql.extend_from_slice(number.to_string().as_bytes());
    };
    // Named members are ranges of the index, numbers are none.
    let after =
        usize::try_from(number).ok().and_then(|at| members.get(at..)).filter(|_| kind == ColumnKind::Enum && operator == b">");
    match after {
        Some([]) => sql.push(b'0'),
        Some(after) => {
            literal::identifier(sql, name);
            sql.extend_from_slice(b" IN (");
            literal::list(sql, after, |sql, member| literal::text(sql, member));
            // A refused value looks like an empty member.
            sql.extend_from_slice(b") AND ");
            numbered(sql);
        }
        None => numbered(sql),
    }
}

/// Where the binlog was at the moment that the transaction sees.
async fn moment(session: &mut Session) -> Result<BinlogCoordinates, TargetError> {
    let rows = session.rows(b"SHOW STATUS LIKE 'Binlog\\_snapshot\\_%'", TASK).await?;
    let told: Result<BTreeMap<String, String>, _> = rows
        .into_iter()
        .map(|row: Row| mysql_async::from_row_opt(row).map(|(name, value): (String, String)| (name.to_lowercase(), value)))
        .collect();
    let told = told.map_err(|_| session.not_understood(TASK))?;
    let position = told.get("binlog_snapshot_position").and_then(|position| position.parse().ok());
    match (told.get("binlog_snapshot_file"), position) {
        (Some(file), Some(position)) if !file.is_empty() => Ok(BinlogCoordinates { file: file.as_str().into(), position }),
        _ => Err(TargetError::Refused {
            what: "the server does not tell where its binlog is, so existing rows cannot be put in their place".into(),
            remedy: "switch the binlog on (log_bin), and restart the server".into(),
        }),
    }
}

async fn position(session: &mut Session) -> Result<GtidPosition, TargetError> {
    let row = session.rows(b"SELECT @@GLOBAL.gtid_binlog_pos", TASK).await?.into_iter().next();
    let text: Option<String> = row.and_then(|row| mysql_async::from_row_opt::<(String,)>(row).ok()).map(|(text,)| text);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| session.not_understood(TASK))
}

#[cfg(test)]
mod tests {
    use super::super::schema::testing::table;
    use super::*;
    use crate::change::Value;

    #[test]
    fn the_rows_after_a_key_are_a_range_of_the_index() {
        let mut riders = table("campus", "riders", &["id", "day", "name"]);
        Arc::make_mut(&mut riders.shape).key = vec![1, 0];
        let key = RowKey { shape: riders.shape.clone(), values: Box::new([Value::Int(4), Value::Int(7)]) };
        let name = riders.shape.table.clone();
        let wanted = Wanted {
            table: &name,
            after: Some(&key),
            upto: None,
            keys: &[],
            rows_max: 50,
            bytes_max: 1,
            condition: Some("id < 9 -- or so"),
        };
        let sql = String::from_utf8(select(&riders, wanted).unwrap()).unwrap();
        assert_eq!(
            sql,
            "SELECT `id`,`day`,`name` FROM `campus`.`riders` FORCE INDEX (PRIMARY) WHERE (`day`>4 OR `day`=4 AND (`id`>7)) \
             AND (id < 9 -- or so\n) ORDER BY `day`,`id` LIMIT 50"
        );
    }

    /// `'x' > 'z'` is false for texts, and true for members that stand in this order.
    #[test]
    fn members_of_enums_and_sets_come_in_their_own_order() {
        let mut words = table("campus", "words", &["state", "tags"]);
        let shape = Arc::make_mut(&mut words.shape);
        shape.key = vec![0, 1];
        (shape.columns[0].kind, shape.columns[1].kind) = (ColumnKind::Enum, ColumnKind::Set);
        words.columns[0].members = ["z", "", "x"].map(str::to_owned).into();
        words.columns[1].members = ["d", "c", "b"].map(str::to_owned).into();
        let check = |values: [Value; 2], operator: &[u8], last: &[u8], expected: &str| {
            let mut sql = Vec::new();
            beyond(&mut sql, &words, &values.each_ref().map(Value::as_ref), operator, last);
            assert_eq!(String::from_utf8(sql).unwrap(), expected);
        };
        let text = Value::text;
        let after = "(`state` IN ('','x') AND `state`+0>1 OR `state`='z' AND (`tags`+0>5))";
        check([text("z"), text("d,b")], b">", b">", after);
        check([text("x"), text("")], b">", b">", "(0 OR `state`='x' AND (`tags`+0>0))");
        check(
            [Value::Int(0), text("c")],
            b">",
            b">",
            "(`state` IN ('z','','x') AND `state`+0>0 OR `state`=0 AND (`tags`+0>2))",
        );
        check([text("x"), text("c")], b"<", b"<=", "(`state`+0<3 OR `state`='x' AND (`tags`+0<=2))");
    }

    #[test]
    fn only_the_key_and_what_is_asked_for_is_read() {
        let mut riders = table("campus", "riders", &["id", "day", "name", "photo"]);
        Arc::make_mut(&mut riders.shape).key = vec![2, 0];
        let (name, few) = (riders.shape.table.clone(), only(&riders, &["photo", "id", "none"]));
        let wanted = Wanted { table: &name, after: None, upto: None, keys: &[], rows_max: 9, bytes_max: 1, condition: None };
        let sql = String::from_utf8(select(&few, wanted).unwrap()).unwrap();
        assert_eq!(
            sql,
            "SELECT `id`,`name`,`photo` FROM `campus`.`riders` FORCE INDEX (PRIMARY) WHERE 1 ORDER BY `name`,`id` LIMIT 9"
        );
        assert_eq!(few.shape.key_names().map(|name| name.to_string()).collect::<Vec<_>>(), ["name", "id"]);
    }

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let name = |table: &str| TableName::new("campus", table);
        let tables: BTreeSet<_> = ["bookings", "drivers", "loop_a", "loop_b", "riders", "towns"].map(name).into();
        let refers = |from: &str, to: &[&str]| (name(from), to.iter().map(|to| name(to)).collect::<BTreeSet<_>>());
        let parents = BTreeMap::from([
            refers("bookings", &["riders", "drivers"]),
            refers("riders", &["towns", "riders", "elsewhere"]),
            refers("loop_a", &["loop_b"]),
            refers("loop_b", &["loop_a"]),
        ]);
        let order: Vec<String> = parents_first(&tables, &parents).iter().map(|table| table.table.to_string()).collect();
        assert_eq!(order, ["drivers", "towns", "riders", "bookings", "loop_a", "loop_b"]);
    }
}
