//! Writes as SQL: which form a write takes, which neighbours share a statement, and the statement.
//!
//! - A whole row of a table without a second unique key is an upsert by `ON DUPLICATE KEY UPDATE`, many rows each. A
//!   second unique key that came to be a moment ago cannot send it to the wrong row: the assignment to the key makes
//!   the statement fail where the row that was found is not the row of this key.
//! - Where there is a second unique key, new rows are plain inserts, which fail on any collision; the others are
//!   updates by primary key, and inserts where there was nothing to update, as all are where a key is a hash. Never REPLACE.
//! - A row that existed at its origin is a plain insert, which fails where there is one already.
//! - An image that does not hold the whole row is an update by primary key, and nothing else.

use std::sync::Arc;

use super::canonical::other_key;
use super::literal;
use super::read::key_values;
use super::schema::Table;
use super::session::MODE;
use crate::change::{Change, Checks, Column, ColumnKind, Image, Op, RowKey, Shape, ValueRef};
use crate::target::{TargetError, Write};

#[cfg(test)]
mod tests;
mod whole;

pub(super) use whole::whole;

/// Rows in one statement. Few enough that a group has several: the next one's text is made while the server is at the
/// first, and what the server spends on a statement by itself is little beside that many rows.
const ROWS_MAX: usize = 250;
/// Bytes of one statement, but for a single large row: it is held in memory here and by the server.
const BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Upsert,
    Insert,
    /// An insert that fails where the row stands already.
    Fill,
    /// `or_insert`: where there is no such row, it is known well enough to be inserted.
    Update {
        or_insert: bool,
    },
    Delete,
}

/// Columns of a change that the table does not have, and is not known to have had.
pub(super) fn missing(table: &Table, shape: &Shape) -> Vec<Arc<str>> {
    let missing = |column: &&Column| destination(table, column) == Destination::Missing;
    shape.columns.iter().filter(missing).map(|column| column.name.clone()).collect()
}

/// How the columns of a change lie in the table.
struct Mapping {
    shape: Arc<Shape>,
    to: Vec<Destination>,
    /// For each column of the table's key, where the change has it.
    key: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Destination {
    Column(usize),
    /// Computed by the server here, or there and unknown here.
    Computed,
    /// No longer here.
    Dropped,
    Missing,
}

/// Neighbouring writes that share a form, a table and columns.
pub(super) struct Run<'w> {
    pub table: Arc<Table>,
    pub form: Form,
    pub checks: Checks,
    /// A row has an enum's refused value, which a strict session would not write.
    lax: bool,
    /// Place of the first among all writes.
    pub first: usize,
    mapping: Option<Arc<Mapping>>,
    /// Columns that are written: where the change has them, where the table has them.
    columns: Vec<(usize, usize)>,
    rows: Vec<Row<'w>>,
    weight: usize,
}

struct Row<'w> {
    key: Vec<ValueRef<'w>>,
    after: Option<&'w Image>,
}

impl<'w> Run<'w> {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Values that it leaves out, because their columns are no longer here.
    pub fn left_out(&self) -> u64 {
        let Some(mapping) = &self.mapping else { return 0 };
        let dropped = mapping.to.iter().filter(|to| **to == Destination::Dropped).count();
        (dropped * self.rows.len()) as u64
    }

    /// A run of this write alone. `like` is the run before it, from which the mapping is taken where it fits.
    pub fn new(table: Arc<Table>, first: usize, write: &'w Write, like: Option<&Run<'w>>) -> Result<Self, TargetError> {
        match write {
            Write::Delete(key) | Write::DeleteAlone(key) => {
                let key = delete_key(&table, key)?;
                let row = Row { key, after: None };
                let checks =
                    Checks { foreign_keys_off: matches!(write, Write::DeleteAlone(_)), unique_off: false, partial: false };
                let weight = 0;
                Ok(Self {
                    table,
                    form: Form::Delete,
                    checks,
                    lax: false,
                    first,
                    mapping: None,
                    columns: Vec::new(),
                    rows: vec![row],
                    weight,
                })
            }
            Write::Put(change) => {
                let known = like.and_then(|run| run.mapping_for(&table, &change.shape));
                let mapping = match known {
                    Some(mapping) => mapping,
                    None => Arc::new(Mapping::new(&table, &change.shape)?),
                };
                let (columns, row) = put(&table, &mapping, change)?;
                let form = form(&table, change, &columns);
                let weight = row.after.map_or(0, Image::weight);
                let checks = Checks { unique_off: false, partial: false, ..change.checks };
                let lax = has_refused_value(&table, row.after, &columns);
                Ok(Self { table, form, checks, lax, first, mapping: Some(mapping), columns, rows: vec![row], weight })
            }
            Write::Whole(_) => unreachable!("rows without a key are written by themselves, in no run"),
        }
    }

    /// Takes the next run's rows in, if they can share its statement; else gives it back.
    pub fn join(&mut self, mut next: Run<'w>) -> Option<Run<'w>> {
        let same_mapping = match (&self.mapping, &next.mapping) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        };
        let fits = Arc::ptr_eq(&self.table, &next.table)
            && self.form == next.form
            && self.checks == next.checks
            && self.lax == next.lax
            && same_mapping
            && self.columns == next.columns
            && self.rows.len() + next.rows.len() <= ROWS_MAX
            && self.weight + next.weight <= BYTES_MAX;
        if !fits {
            return Some(next);
        }
        self.rows.append(&mut next.rows);
        self.weight += next.weight;
        None
    }

    fn mapping_for(&self, table: &Arc<Table>, shape: &Arc<Shape>) -> Option<Arc<Mapping>> {
        let mapping = self.mapping.as_ref()?;
        // Over the wire every change brings a shape of its own, as a rule the same one.
        let alike = || mapping.shape.key == shape.key && mapping.shape.columns == shape.columns;
        (Arc::ptr_eq(&self.table, table) && (Arc::ptr_eq(&mapping.shape, shape) || alike())).then(|| mapping.clone())
    }

    /// All rows in one statement; `None` for updates, which are one a row.
    pub fn statement(&self) -> Option<Vec<u8>> {
        match self.form {
            Form::Upsert => Some(self.upsert()),
            Form::Insert | Form::Fill => Some(self.insert(0..self.rows.len())),
            Form::Delete => Some(self.delete()),
            Form::Update { .. } => None,
        }
    }

    /// Plain inserts of these rows.
    pub fn insert(&self, rows: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut sql = Vec::with_capacity(64 + self.weight * 2);
        mode(&mut sql, self.lax);
        sql.extend_from_slice(b"INSERT INTO ");
        literal::table(&mut sql, &self.table.shape.table);
        sql.extend_from_slice(b" (");
        literal::list(&mut sql, &self.columns, |sql, &(_, to)| self.name(sql, to));
        sql.extend_from_slice(b") VALUES ");
        literal::list(&mut sql, rows, |sql, at| {
            let after = self.after(at);
            sql.push(b'(');
            literal::list(sql, &self.columns, |sql, &(from, to)| self.value(sql, to, after, from));
            sql.push(b')');
        });
        sql
    }

    fn upsert(&self) -> Vec<u8> {
        let mut sql = self.insert(0..self.rows.len());
        sql.extend_from_slice(b" ON DUPLICATE KEY UPDATE ");
        let key: Vec<usize> = self.table.key().collect();
        // NULL is refused: every column of a primary key is NOT NULL.
        let guarded = key[0];
        self.name(&mut sql, guarded);
        sql.extend_from_slice(b"=IF(");
        for (number, &at) in key.iter().enumerate() {
            if number > 0 {
                sql.extend_from_slice(b" AND ");
            }
            self.name(&mut sql, at);
            sql.extend_from_slice(b"=VALUES(");
            self.name(&mut sql, at);
            sql.push(b')');
        }
        sql.extend_from_slice(b",VALUES(");
        self.name(&mut sql, guarded);
        sql.extend_from_slice(b"),NULL)");
        for &(_, to) in self.columns.iter().filter(|&&(_, to)| to != guarded) {
            sql.push(b',');
            self.name(&mut sql, to);
            sql.extend_from_slice(b"=VALUES(");
            self.name(&mut sql, to);
            sql.push(b')');
        }
        self.untouched(&mut sql);
        sql
    }

    /// One update by primary key for each of these rows, divided by `;`.
    pub fn updates(&self, rows: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut sql = Vec::with_capacity(64 + self.weight * 2);
        for at in rows {
            let row = &self.rows[at];
            if !sql.is_empty() {
                sql.push(b';');
            }
            let after = self.after(at);
            mode(&mut sql, self.lax);
            sql.extend_from_slice(b"UPDATE ");
            literal::table(&mut sql, &self.table.shape.table);
            sql.extend_from_slice(b" SET ");
            let mut any = false;
            // The key stays as it is, unless its text differs in what the collation does not see.
            let key: Vec<usize> = self.table.key().filter(|&at| !self.is_text(at)).collect();
            for &(from, to) in self.columns.iter().filter(|(_, to)| !key.contains(to)) {
                if std::mem::replace(&mut any, true) {
                    sql.push(b',');
                }
                self.name(&mut sql, to);
                sql.push(b'=');
                self.value(&mut sql, to, after, from);
            }
            if !any {
                let first = self.table.key().next().expect("a table without a key takes no writes");
                self.name(&mut sql, first);
                sql.push(b'=');
                self.name(&mut sql, first);
            }
            self.untouched(&mut sql);
            sql.extend_from_slice(b" WHERE ");
            for (number, (at, value)) in self.table.key().zip(&row.key).enumerate() {
                if number > 0 {
                    sql.extend_from_slice(b" AND ");
                }
                self.name(&mut sql, at);
                sql.push(b'=');
                key_literal(&mut sql, self.table.shape.columns[at].kind, *value);
            }
        }
        sql
    }

    /// Ordered and with a limit, because that keeps the server to a look-up of each key where it would read, and lock,
    /// all of a small table.
    fn delete(&self) -> Vec<u8> {
        let mut sql = b"DELETE FROM ".to_vec();
        literal::table(&mut sql, &self.table.shape.table);
        sql.extend_from_slice(b" WHERE ");
        keys_in(&mut sql, &self.table, self.rows.iter().map(|row| &row.key[..]));
        sql.extend_from_slice(b" ORDER BY ");
        let key: Vec<usize> = self.table.key().collect();
        literal::list(&mut sql, key, |sql, at| self.name(sql, at));
        sql.extend_from_slice(format!(" LIMIT {}", self.rows.len()).as_bytes());
        sql
    }

    /// Columns that the server would set to the present time by itself stay as they are.
    fn untouched(&self, sql: &mut Vec<u8>) {
        for (at, _) in self.table.columns.iter().enumerate().filter(|(_, facts)| facts.touched) {
            if !self.columns.iter().any(|&(_, to)| to == at) {
                sql.push(b',');
                self.name(sql, at);
                sql.push(b'=');
                self.name(sql, at);
            }
        }
    }

    fn name(&self, sql: &mut Vec<u8>, at: usize) {
        literal::identifier(sql, &self.table.shape.columns[at].name);
    }

    fn value(&self, sql: &mut Vec<u8>, to: usize, after: &Image, from: usize) {
        let value = after.get(from).expect("a run has the columns that each of its images holds");
        key_literal(sql, self.table.shape.columns[to].kind, value);
    }

    fn after(&self, row: usize) -> &'w Image {
        self.rows[row].after.expect("every put has an after image")
    }

    fn is_text(&self, at: usize) -> bool {
        matches!(self.table.shape.columns[at].kind, ColumnKind::Text | ColumnKind::Enum | ColumnKind::Set)
    }
}

impl Mapping {
    fn new(table: &Table, shape: &Arc<Shape>) -> Result<Self, TargetError> {
        let to: Vec<Destination> = shape.columns.iter().map(|column| destination(table, column)).collect();
        // A key may hold a computed column: it is found by its name, not by where it is written.
        let key = table.key().map(|at| {
            let own = &table.shape.columns[at].name;
            shape.key.iter().map(|&at| usize::from(at)).find(|&at| table.column(&shape.columns[at].name) == table.column(own))
        });
        let key: Option<Vec<usize>> = key.collect();
        match key {
            Some(key) if !key.is_empty() && key.len() == shape.key.len() => Ok(Self { shape: shape.clone(), to, key }),
            _ => Err(other_key(table)),
        }
    }
}

fn destination(table: &Table, column: &Column) -> Destination {
    match table.column(&column.name) {
        Some(at) if table.shape.columns[at].generated => Destination::Computed,
        Some(at) => Destination::Column(at),
        None if column.generated => Destination::Computed,
        None if table.dropped.contains(&column.name) => Destination::Dropped,
        None => Destination::Missing,
    }
}

fn delete_key<'w>(table: &Table, key: &'w RowKey) -> Result<Vec<ValueRef<'w>>, TargetError> {
    key_values(table, key).ok_or_else(|| other_key(table))
}

fn put<'w>(table: &Table, mapping: &Mapping, change: &'w Change) -> Result<(Vec<(usize, usize)>, Row<'w>), TargetError> {
    let unwritable = |reason: String| TargetError::Unwritable { table: table.shape.table.clone(), reason };
    let after = change.after.as_ref().ok_or_else(|| unwritable("the change has no after image".into()))?;
    let mut columns = Vec::with_capacity(mapping.to.len());
    for (from, to) in mapping.to.iter().enumerate().filter(|(from, _)| after.get(*from).is_some()) {
        match to {
            Destination::Column(to) => columns.push((from, *to)),
            Destination::Computed | Destination::Dropped => {}
            Destination::Missing => {
                return Err(unwritable(format!("there is no column `{}` here", change.shape.columns[from].name)));
            }
        }
    }
    let value = |at: usize| after.get(at).or_else(|| change.before.as_ref()?.get(at));
    let key: Option<Vec<ValueRef>> = mapping.key.iter().map(|&at| value(at)).collect();
    let key = key.ok_or_else(|| unwritable("the change does not hold the whole primary key".into()))?;
    Ok((columns, Row { key, after: Some(after) }))
}

/// Only a lax statement writes an enum's refused value. Its other values were let in somewhere by a column of the same
/// type; where the column here is a narrower one, they are cut to it as that session would have.
fn mode(sql: &mut Vec<u8>, lax: bool) {
    if lax {
        sql.extend_from_slice(b"SET STATEMENT sql_mode='");
        sql.extend_from_slice(MODE.as_bytes());
        sql.extend_from_slice(b"' FOR ");
    }
}

/// An empty text for an enum that has no such member is what a lax session leaves of a value that the column refuses; where it has
/// one, the number 0 is.
fn has_refused_value(table: &Table, after: Option<&Image>, columns: &[(usize, usize)]) -> bool {
    let blank = |&(from, to): &(usize, usize)| match after.and_then(|after| after.get(from)) {
        Some(ValueRef::Text("")) => table.columns[to].without_blank,
        Some(ValueRef::Int(0)) => table.shape.columns[to].kind == ColumnKind::Enum,
        _ => false,
    };
    columns.iter().any(blank)
}

fn form(table: &Table, change: &Change, columns: &[(usize, usize)]) -> Form {
    let inserted = matches!(change.op, Op::Insert | Op::Read);
    // An inserted row tells all that is not a default. Of any other, what it does not tell would be invented; unless all that its
    // table had is told, and the columns came to be here since: they have their defaults.
    let whole = match inserted {
        true => change.after.as_ref().is_some_and(Image::is_full),
        false => {
            let told = |at: usize| columns.iter().any(|&(_, to)| to == at);
            let all_here = || table.shape.columns.iter().enumerate().all(|(at, column)| column.generated || told(at));
            let all_there = !change.checks.partial && change.after.as_ref().is_some_and(Image::is_full);
            all_there || all_here()
        }
    };
    match (whole, table.unique.is_empty(), inserted) {
        _ if change.op == Op::Read => Form::Fill,
        (false, ..) => Form::Update { or_insert: false },
        (true, true, _) => Form::Upsert,
        // Of a row that is there the server says that it has its own unique value already, and not that it has its key.
        (true, false, true) if !table.is_hashed() => Form::Insert,
        (true, false, _) => Form::Update { or_insert: true },
    }
}

/// `key IN (…)` over the table's primary key.
pub(super) fn keys_in<'k, K: AsRef<[ValueRef<'k>]>>(sql: &mut Vec<u8>, table: &Table, keys: impl IntoIterator<Item = K>) {
    let columns: Vec<usize> = table.key().collect();
    let (open, close): (&[u8], &[u8]) = if columns.len() > 1 { (b"(", b")") } else { (b"", b"") };
    sql.extend_from_slice(open);
    literal::list(sql, &columns, |sql, &at| literal::identifier(sql, &table.shape.columns[at].name));
    sql.extend_from_slice(close);
    sql.extend_from_slice(b" IN (");
    literal::list(sql, keys, |sql, key| {
        sql.extend_from_slice(open);
        literal::list(sql, columns.iter().zip(key.as_ref()), |sql, (&at, &value)| {
            let column = table.shape.columns[at].kind;
            match (table.columns[at].charset.as_deref(), value) {
                // In a list of rows the server compares texts of two character sets by their bytes, and finds nothing.
                (Some(charset), ValueRef::Text(_)) if columns.len() > 1 && charset != "utf8mb4" => {
                    sql.extend_from_slice(b"CONVERT(");
                    key_literal(sql, column, value);
                    sql.extend_from_slice(b" USING ");
                    sql.extend_from_slice(charset.as_bytes());
                    sql.push(b')');
                }
                _ => key_literal(sql, column, value),
            }
        });
        sql.extend_from_slice(close);
    });
    sql.push(b')');
}

/// A value for a column of this kind. A float came over the wire as a double: compared as one it would be another.
pub(super) fn key_literal(sql: &mut Vec<u8>, kind: ColumnKind, value: ValueRef) {
    match (kind, value) {
        (ColumnKind::Float, ValueRef::Double(number)) => literal::value(sql, ValueRef::Float(number as f32)),
        _ => literal::value(sql, value),
    }
}
