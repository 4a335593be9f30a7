//! Rows: the shape of a table, the key of a row, and the change from one image to another.

use std::fmt;
use std::sync::Arc;

use super::{Image, TableName, Value, ValueRef};

/// What happened to a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Op {
    Insert,
    Update,
    Delete,
    /// A row that already existed, from a snapshot. It fills what is missing and never beats a write.
    Read,
    Truncate,
}

impl Op {
    /// Debezium's letter.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Insert => "c",
            Self::Update => "u",
            Self::Delete => "d",
            Self::Read => "r",
            Self::Truncate => "t",
        }
    }

    pub fn from_letter(letter: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete, Self::Read, Self::Truncate].into_iter().find(|op| op.letter() == letter)
    }

    /// The word in metrics and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
            Self::Truncate => "truncate",
        }
    }
}

/// What a column holds, as far as a reader of changes must know. `Unknown` where a change came over the wire,
/// which carries names and values only: the target knows its own types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ColumnKind {
    Unknown,
    Integer,
    Decimal,
    Float,
    Double,
    Bit,
    Year,
    Date,
    Time,
    Datetime,
    Timestamp,
    Text,
    Binary,
    Enum,
    Set,
    Json,
    Uuid,
    Inet4,
    Inet6,
    Geometry,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Column {
    pub name: Arc<str>,
    pub kind: ColumnKind,
    /// Computed by the server: in every image, and refused by it when written.
    pub generated: bool,
}

/// Whether the server could have given a column of its own this name: the hash that it keeps for a unique key over long texts, which only
/// its binlog shows. An application may have taken such a name, too.
pub fn is_hash_name(name: &str) -> bool {
    let number = name.strip_prefix("DB_ROW_HASH_").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The table's columns in force for a change, and which of them are its key, in the order of the key.
/// An empty key means that the table has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    pub table: TableName,
    pub columns: Vec<Column>,
    pub key: Vec<u16>,
}

impl Shape {
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }

    /// The column of this name, compared as the server does: without regard to case.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.column(name).or_else(|| self.columns.iter().position(|own| own.name.to_lowercase() == name.to_lowercase()))
    }

    /// False where nothing but the whole row tells it from others.
    pub fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    pub fn key_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.key.iter().map(|&at| &self.columns[usize::from(at)].name)
    }
}

/// The values that identify a row, in the order of the shape's key.
#[derive(Clone, Debug)]
pub struct RowKey {
    pub shape: Arc<Shape>,
    pub values: Box<[Value]>,
}

impl RowKey {
    /// `None` where the table has no key or the image does not hold all of it.
    pub fn of(shape: &Arc<Shape>, image: &Image) -> Option<Self> {
        if shape.key.is_empty() {
            return None;
        }
        let values = shape.key.iter().map(|&at| image.get(usize::from(at)).map(ValueRef::to_value)).collect::<Option<_>>()?;
        Some(Self { shape: shape.clone(), values })
    }

    pub fn table(&self) -> &TableName {
        &self.shape.table
    }
}

impl PartialEq for RowKey {
    /// Equal table, key columns and values. Keys that only the column's collation calls equal are not equal here:
    /// that is the target's knowledge.
    fn eq(&self, other: &Self) -> bool {
        self.table() == other.table()
            && self.values == other.values
            && (Arc::ptr_eq(&self.shape, &other.shape) || self.shape.key_names().eq(other.shape.key_names()))
    }
}

/// Checks that the writing session had switched off, as the row event's flags tell; and whether all of the row is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    pub foreign_keys_off: bool,
    pub unique_off: bool,
    /// The table had columns that the after image does not tell: not even their names come through a topic.
    pub partial: bool,
}

/// One row's insert, update, delete or read; or a truncate, which has no image.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    pub shape: Arc<Shape>,
    pub op: Op,
    pub before: Option<Image>,
    pub after: Option<Image>,
    pub checks: Checks,
}

impl Change {
    pub fn table(&self) -> &TableName {
        &self.shape.table
    }

    /// The row this change is about: where it ends up, or where it was if it is gone.
    pub fn key(&self) -> Option<RowKey> {
        let of = |image: &Option<Image>| image.as_ref().and_then(|image| RowKey::of(&self.shape, image));
        // A partial after image may leave the key out where it did not change.
        of(&self.after).or_else(|| of(&self.before))
    }

    /// The row's earlier key, where this update moved it to another.
    pub fn moved_from(&self) -> Option<RowKey> {
        let before = RowKey::of(&self.shape, self.before.as_ref()?)?;
        let after = RowKey::of(&self.shape, self.after.as_ref()?)?;
        (before != after).then_some(before)
    }

    /// True where the images that its op has tell every column that the server does not compute.
    pub fn is_whole(&self) -> bool {
        let told =
            |image: &Image| self.shape.columns.iter().zip(image.values()).all(|(own, value)| own.generated || value.is_some());
        let whole = |image: &Option<Image>| image.as_ref().is_some_and(told);
        match self.op {
            Op::Insert | Op::Read => whole(&self.after),
            Op::Update => whole(&self.before) && whole(&self.after),
            Op::Delete => whole(&self.before),
            Op::Truncate => true,
        }
    }

    /// Bytes of both images in memory.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + [&self.before, &self.after].into_iter().flatten().map(Image::weight).sum::<usize>()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_whole_where_it_tells_all_that_the_server_does_not_compute() {
        let column = |name: &str, generated| Column { name: name.into(), kind: ColumnKind::Unknown, generated };
        let columns = vec![column("line", false), column("size", false), column("sum", true)];
        let shape = Arc::new(Shape { table: TableName::new("campus", "log"), columns, key: Vec::new() });
        let row = |size: Option<Value>| Some(Image::of([Some(Value::Null), size, None]));
        let (whole, part) = (row(Some(Value::Null)), row(None));
        let check = |op, before: &Option<Image>, after: &Option<Image>, expected| {
            let (before, after) = (before.clone(), after.clone());
            let change = Change { shape: shape.clone(), op, before, after, checks: Checks::default() };
            assert_eq!(change.is_whole(), expected, "{change:?}");
        };
        check(Op::Insert, &None, &whole, true);
        check(Op::Insert, &None, &part, false);
        check(Op::Delete, &whole, &None, true);
        check(Op::Delete, &part, &None, false);
        check(Op::Update, &whole, &whole, true);
        check(Op::Update, &part, &whole, false);
        check(Op::Update, &whole, &part, false);
        check(Op::Update, &None, &whole, false);
    }
}
