//! The state: tables written in place with an undo list per open transaction, locks, and what each commit will show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{CommittedTransaction, MemoryReference, MemoryTable, fold};
use crate::change::{
    Change, Checks, Column, ColumnKind, Gtid, GtidPosition, Image, Mark, OWN_DATABASE, Offset, Op, OriginId, Rewrite, Shape,
    TableName, Value, own_table,
};
use crate::target::{CanonicalKey, Conflict, DeadLetter, Parked, SchemaEntry, TargetError};

pub(super) type Row = Box<[Value]>;

/// What a transaction can hold for itself until it ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Resource {
    /// A row, or the place where it would be.
    Row(CanonicalKey),
    /// A value of a table's unique column, whoever has it.
    Unique(CanonicalKey),
    Mark(OriginId),
    /// All of a table without a key.
    Table(TableName),
}

pub(super) struct Table {
    pub shape: Arc<Shape>,
    pub unique: Option<(Arc<str>, usize)>,
    pub refers: Option<MemoryReference>,
    rows: BTreeMap<CanonicalKey, Row>,
    /// Value of the unique column to the row that has it.
    holders: BTreeMap<CanonicalKey, CanonicalKey>,
}

impl Table {
    fn unique_value(&self, row: &Row) -> Option<CanonicalKey> {
        let (_, column) = self.unique.as_ref()?;
        self.unique_of(row.get(*column)?)
    }

    /// Any number of rows may have NULL.
    pub fn unique_of(&self, value: &Value) -> Option<CanonicalKey> {
        (!value.is_null()).then(|| CanonicalKey::new(&self.shape.table, [fold::value(value)]))
    }

    /// The keys behind one, in order.
    pub fn keys_after(&self, after: Option<&CanonicalKey>) -> impl Iterator<Item = &CanonicalKey> {
        self.rows.keys().filter(move |key| after.is_none_or(|after| *key > after))
    }

    pub fn row(&self, key: &CanonicalKey) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Where a row lies that equals this one.
    pub fn equal(&self, row: &Row) -> Option<CanonicalKey> {
        self.rows.iter().find(|(_, own)| *own == row).map(|(place, _)| place.clone())
    }

    pub fn holder(&self, unique: &CanonicalKey) -> Option<&CanonicalKey> {
        self.holders.get(unique)
    }

    fn replace(&mut self, key: &CanonicalKey, row: Option<Row>) -> Option<Row> {
        let before = self.rows.remove(key);
        if let Some(value) = before.as_ref().and_then(|row| self.unique_value(row))
            && self.holders.get(&value) == Some(key)
        {
            self.holders.remove(&value);
        }
        if let Some(row) = row {
            if let Some(value) = self.unique_value(&row) {
                self.holders.insert(value, key.clone());
            }
            self.rows.insert(key.clone(), row);
        }
        before
    }
}

/// What people look at.
#[derive(Default)]
pub(super) struct Kept {
    pub conflicts: BTreeMap<String, Conflict>,
    pub dead_letters: Vec<DeadLetter>,
    pub schema: Vec<SchemaEntry>,
    /// Each with the number of the statement that it waits behind.
    pub parked: Vec<(u64, Parked)>,
    /// Statements that were run, with their stamps; each makes its tables another thing.
    pub defined: Vec<(String, crate::change::SchemaChange)>,
}

impl Kept {
    /// In its place, or as the newest.
    pub fn keep_schema(&mut self, entry: &SchemaEntry) -> u64 {
        let same = |own: &&mut SchemaEntry| own.origin == entry.origin && own.offset == entry.offset;
        if let Some(own) = self.schema.iter_mut().find(same) {
            *own = SchemaEntry { number: own.number, ..entry.clone() };
            return own.number;
        }
        let number = self.schema.len() as u64 + 1;
        self.schema.push(SchemaEntry { number, ..entry.clone() });
        number
    }
}

/// An open transaction.
#[derive(Default)]
struct Active {
    undo: Vec<(TableName, CanonicalKey, Option<Row>)>,
    changes: Vec<Change>,
    marks: BTreeMap<OriginId, Mark>,
    /// All others are gone.
    only_these_marks: bool,
    conflicts: Vec<Conflict>,
    dead_letters: Vec<DeadLetter>,
    mended: Vec<(OriginId, Offset)>,
    schema: Vec<SchemaEntry>,
    parked: Vec<(u64, Parked)>,
    unparked: Vec<u64>,
    /// What it emptied by a statement: the history tells that, and not the rows.
    emptied: Option<TableName>,
}

pub(super) struct Database {
    tables: BTreeMap<TableName, Table>,
    pub applied: BTreeMap<OriginId, Mark>,
    pub kept: Kept,
    rewrites: u64,
    /// Who has what, until its transaction ends.
    locks: BTreeMap<Resource, u64>,
    active: BTreeMap<u64, Active>,
    last_id: u64,
    /// Rows ever written to tables without a key: each lies under its number.
    placed: u64,
    sequence: u64,
}

const ACTIVE: &str = "a session's transaction is there until it commits or rolls back";

impl Database {
    pub fn new(tables: impl IntoIterator<Item = MemoryTable>) -> Self {
        let tables = tables.into_iter().map(|MemoryTable { shape, unique, refers }| {
            (shape.table.clone(), Table { shape, unique, refers, rows: BTreeMap::new(), holders: BTreeMap::new() })
        });
        Self {
            tables: tables.collect(),
            applied: BTreeMap::new(),
            kept: Kept::default(),
            rewrites: 0,
            locks: BTreeMap::new(),
            active: BTreeMap::new(),
            last_id: 0,
            placed: 0,
            sequence: 0,
        }
    }

    pub fn start(&mut self) -> u64 {
        self.last_id += 1;
        self.active.insert(self.last_id, Active::default());
        self.last_id
    }

    /// False where another transaction has it.
    pub fn take(&mut self, id: u64, resource: &Resource) -> bool {
        let others = || self.locks.iter().filter(|(_, owner)| **owner != id).map(|(other, _)| other);
        // Who holds a whole table keeps all of its rows, and must wait for whoever has one.
        let overlaps = |other: &Resource| match (resource, other) {
            (Resource::Row(row), Resource::Table(table)) | (Resource::Table(table), Resource::Row(row)) => row.is_of(table),
            _ => false,
        };
        if others().any(overlaps) {
            return false;
        }
        match self.locks.get(resource) {
            Some(&owner) => owner == id,
            None => {
                self.locks.insert(resource.clone(), id);
                true
            }
        }
    }

    /// A place for one row more in a table without a key.
    pub fn new_place(&mut self, name: &TableName) -> CanonicalKey {
        self.placed += 1;
        CanonicalKey::new(name, [self.placed.to_be_bytes()])
    }

    pub fn table(&self, name: &TableName) -> Result<&Table, TargetError> {
        let missing = || TargetError::Unwritable { table: name.clone(), reason: "the table does not exist here".into() };
        self.tables.get(name).ok_or_else(missing)
    }

    /// Writes a row whose locks the transaction holds; no event where nothing changes, as in a binlog. `from` is the
    /// row's earlier key where this moves it.
    pub fn write_row(&mut self, id: u64, name: &TableName, from: Option<&CanonicalKey>, key: &CanonicalKey, row: Option<Row>) {
        let table = self.tables.get_mut(name).expect("the caller looked the table up");
        let mut undo = Vec::new();
        let mut before = None;
        if let Some(from) = from.filter(|&from| from != key) {
            before = table.replace(from, None);
            undo.push((name.clone(), from.clone(), before.clone()));
        }
        let image = |row: &Row| Image::of(row.iter().cloned().map(Some));
        let after = row.as_ref().map(image);
        let here = table.replace(key, row);
        undo.push((name.clone(), key.clone(), here.clone()));
        let before = before.or(here).as_ref().map(image);
        let op = match (&before, &after) {
            (None, None) => None,
            (None, Some(_)) => Some(Op::Insert),
            (Some(_), None) => Some(Op::Delete),
            (Some(before), Some(after)) => (before != after).then_some(Op::Update),
        };
        let change = op.map(|op| Change { shape: table.shape.clone(), op, before, after, checks: Checks::default() });
        let active = self.active(id);
        active.undo.extend(undo);
        active.changes.extend(change);
    }

    /// What a foreign key does to a row: no event tells of it.
    pub fn write_silently(&mut self, id: u64, name: &TableName, key: &CanonicalKey, row: Option<Row>) {
        let table = self.tables.get_mut(name).expect("the caller looked the table up");
        let before = table.replace(key, row);
        self.active(id).undo.push((name.clone(), key.clone(), before));
    }

    pub fn is_referred(&self, parent: &TableName) -> bool {
        self.tables.values().any(|table| table.refers.as_ref().is_some_and(|reference| reference.to == *parent))
    }

    /// The rows that refer to the row of this key, each with its table.
    pub fn referring(&self, parent: &TableName, key: &CanonicalKey) -> Vec<(TableName, CanonicalKey)> {
        let mut found = Vec::new();
        for (name, table) in &self.tables {
            let Some(reference) = table.refers.as_ref().filter(|reference| reference.to == *parent) else { continue };
            let refers = |row: &Row| reference.parent(row).is_some_and(|to| to == *key);
            found.extend(table.rows.iter().filter(|(_, row)| refers(row)).map(|(key, _)| (name.clone(), key.clone())));
        }
        found
    }

    pub fn write_mark(&mut self, id: u64, mark: &Mark) {
        let active = self.active.get_mut(&id).expect(ACTIVE);
        let before = active.marks.get(&mark.origin).or(self.applied.get(&mark.origin)).map(mark_image);
        let op = if before.is_some() { Op::Update } else { Op::Insert };
        let shape = own_shape(own_table::APPLIED, &Mark::COLUMNS);
        let change = Change { shape, op, before, after: Some(mark_image(mark)), checks: Checks::default() };
        active.changes.push(change);
        active.marks.insert(mark.origin.clone(), mark.clone());
    }

    /// These checkpoints and no others.
    pub fn replace_marks(&mut self, id: u64, marks: &[Mark]) {
        let shape = own_shape(own_table::APPLIED, &Mark::COLUMNS);
        let delete = |mark: &Mark| Change {
            shape: shape.clone(),
            op: Op::Delete,
            before: Some(mark_image(mark)),
            after: None,
            checks: Checks::default(),
        };
        let deletes: Vec<Change> = self.applied.values().map(delete).collect();
        let active = self.active(id);
        active.changes.extend(deletes);
        active.only_these_marks = true;
        for mark in marks {
            let after = Some(mark_image(mark));
            active.changes.push(Change {
                shape: shape.clone(),
                op: Op::Insert,
                before: None,
                after,
                checks: Checks::default(),
            });
            active.marks.insert(mark.origin.clone(), mark.clone());
        }
    }

    pub fn note_seeding(&mut self, id: u64, number: u64) {
        self.own_insert(id, "seeding", &["id", "state"], [Value::unsigned(1), Value::unsigned(number)]);
    }

    pub fn write_rewrite(&mut self, id: u64, rewrite: &Rewrite) {
        self.rewrites += 1;
        let number = self.rewrites;
        self.own_insert(
            id,
            own_table::REWRITES,
            &["id", "row_change"],
            [Value::unsigned(number), Value::text(rewrite.to_text())],
        );
    }

    pub fn keep_conflict(&mut self, id: u64, conflict: &Conflict) {
        self.active(id).conflicts.push(conflict.clone());
        self.own_insert(id, own_table::CONFLICTS, &["id"], [Value::text(conflict.id.as_str())]);
    }

    pub fn keep_dead_letter(&mut self, id: u64, letter: &DeadLetter) {
        self.active(id).dead_letters.push(letter.clone());
        let (origin, offset) = (Value::text(letter.origin.as_str()), Value::unsigned(letter.offset.0));
        self.own_insert(id, own_table::DEAD_LETTERS, &["origin", "record_offset"], [origin, offset]);
    }

    pub fn mend(&mut self, id: u64, letters: &[(OriginId, Offset)]) {
        self.active(id).mended.extend_from_slice(letters);
    }

    pub fn keep_schema(&mut self, id: u64, entry: &SchemaEntry) -> u64 {
        self.active(id).schema.push(entry.clone());
        let same = |own: &&SchemaEntry| own.origin == entry.origin && own.offset == entry.offset;
        self.kept.schema.iter().find(same).map_or(self.kept.schema.len() as u64 + 1, |own| own.number)
    }

    pub fn park(&mut self, id: u64, behind: u64, parked: Parked) {
        self.placed += 1;
        let number = self.placed;
        self.active(id).parked.push((behind, Parked { id: number, ..parked }));
    }

    pub fn unpark(&mut self, id: u64, ids: &[u64]) {
        self.active(id).unparked.extend(ids);
    }

    /// Removes all rows of a table that the transaction holds. By a statement of the application the history tells that
    /// alone.
    pub fn empty(&mut self, id: u64, name: &TableName, by_statement: bool) {
        let keys: Vec<CanonicalKey> = self.tables[name].rows.keys().cloned().collect();
        let told = self.active(id).changes.len();
        for key in keys {
            self.write_row(id, name, None, &key, None);
        }
        if by_statement {
            let active = self.active(id);
            active.changes.truncate(told);
            active.emptied = Some(name.clone());
        }
    }

    pub fn commit(
        &mut self,
        id: u64,
        server: u32,
        clock: &dyn Fn() -> u64,
        on_commit: &dyn Fn(CommittedTransaction),
    ) -> Option<Gtid> {
        let active = self.active.remove(&id).expect(ACTIVE);
        if active.only_these_marks {
            self.applied.clear();
        }
        self.applied.extend(active.marks);
        for conflict in active.conflicts {
            // The same conflict met again says nothing new.
            self.kept.conflicts.entry(conflict.id.clone()).or_insert(conflict);
        }
        let place = |letter: &DeadLetter| (letter.origin.clone(), letter.offset);
        // As the primary key of the real table has it: one letter a place, the last telling of it.
        let told: Vec<_> = active.dead_letters.iter().map(place).chain(active.mended).collect();
        self.kept.dead_letters.retain(|letter| !told.contains(&place(letter)));
        self.kept.dead_letters.extend(active.dead_letters);
        for entry in &active.schema {
            self.kept.keep_schema(entry);
        }
        self.kept.parked.retain(|(_, parked)| !active.unparked.contains(&parked.id));
        self.kept.parked.extend(active.parked);
        let mut gtid = None;
        if !active.changes.is_empty() || active.emptied.is_some() {
            self.sequence += 1;
            let committed = Gtid { domain: 0, server, sequence: self.sequence };
            on_commit(CommittedTransaction {
                gtid: committed,
                commit_second: clock(),
                changes: active.changes,
                emptied: active.emptied,
            });
            gtid = Some(committed);
        }
        self.locks.retain(|_, owner| *owner != id);
        gtid
    }

    pub fn roll_back(&mut self, id: u64) {
        let active = self.active.remove(&id).expect(ACTIVE);
        for (table, key, row) in active.undo.into_iter().rev() {
            self.tables.get_mut(&table).expect("tables are never dropped").replace(&key, row);
        }
        self.locks.retain(|_, owner| *owner != id);
    }

    pub fn position(&self, server: u32) -> GtidPosition {
        let last = (self.sequence > 0).then_some(Gtid { domain: 0, server, sequence: self.sequence });
        last.into_iter().collect()
    }

    /// The row without what open transactions did to it: the first undo entry holds what was committed.
    pub fn committed_row(&self, name: &TableName, key: &CanonicalKey) -> Option<Row> {
        let mut undone = self.active.values().flat_map(|active| &active.undo);
        match undone.find(|(table, of, _)| table == name && of == key) {
            Some((_, _, row)) => row.clone(),
            None => self.tables.get(name)?.row(key).cloned(),
        }
    }

    pub fn committed_rows(&self, name: &TableName) -> Vec<Row> {
        let Some(table) = self.tables.get(name) else { return Vec::new() };
        let mut keys: BTreeSet<&CanonicalKey> = table.rows.keys().collect();
        let undone = self.active.values().flat_map(|active| &active.undo);
        keys.extend(undone.filter(|(of, _, _)| of == name).map(|(_, key, _)| key));
        keys.into_iter().filter_map(|key| self.committed_row(name, key)).collect()
    }

    pub fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    fn active(&mut self, id: u64) -> &mut Active {
        self.active.get_mut(&id).expect(ACTIVE)
    }

    fn own_insert<const N: usize>(&mut self, id: u64, table: &str, names: &[&str], values: [Value; N]) {
        let after = Some(Image::of(values.into_iter().map(Some)));
        let shape = own_shape(table, names);
        self.active(id).changes.push(Change { shape, op: Op::Insert, before: None, after, checks: Checks::default() });
    }
}

fn mark_image(mark: &Mark) -> Image {
    Image::of([
        Some(Value::text(mark.origin.as_str())),
        Some(Value::unsigned(mark.next.0)),
        Some(mark.data.map_or(Value::Null, |offset| Value::unsigned(offset.0))),
        Some(Value::text(mark.position.to_string())),
        Some(Value::unsigned(mark.hlc.0)),
    ])
}

/// Our own tables as a tailer meets them. Their first column is the key.
fn own_shape(table: &str, names: &[&str]) -> Arc<Shape> {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Unknown, generated: false };
    let columns = names.iter().map(column).collect();
    Arc::new(Shape { table: TableName::new(OWN_DATABASE, table), columns, key: vec![0] })
}
