//! What a target keeps for people to look at: conflicts and dead letters.

use crate::change::{Change, Gtid, Hlc, Image, Offset, OriginId, RowKey};

/// How the row on the target differed from what the change expected. After PostgreSQL's names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConflictKind {
    InsertExists,
    UpdateOriginDiffers,
    UpdateMissing,
    DeleteOriginDiffers,
    DeleteMissing,
    /// Another row holds a unique value that this change wants.
    UniqueTaken,
    /// A row was to go while another node let a row refer to it: it stays, and is published anew.
    StillReferred,
    /// The row refers to one that another node deleted: its foreign key says that it follows.
    ParentDeleted,
}

impl ConflictKind {
    pub const ALL: [Self; 8] = [
        Self::InsertExists,
        Self::UpdateOriginDiffers,
        Self::UpdateMissing,
        Self::DeleteOriginDiffers,
        Self::DeleteMissing,
        Self::UniqueTaken,
        Self::StillReferred,
        Self::ParentDeleted,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::InsertExists => "insert_exists",
            Self::UpdateOriginDiffers => "update_origin_differs",
            Self::UpdateMissing => "update_missing",
            Self::DeleteOriginDiffers => "delete_origin_differs",
            Self::DeleteMissing => "delete_missing",
            Self::UniqueTaken => "unique_taken",
            Self::StillReferred => "still_referred",
            Self::ParentDeleted => "parent_deleted",
        }
    }
}

/// Two writes of one row, neither of which had seen the other; or two rows that want one unique value.
#[derive(Clone, PartialEq, Debug)]
pub struct Conflict {
    /// The same on every node that meets this conflict: made of the row and both versions.
    pub id: String,
    pub kind: ConflictKind,
    pub key: RowKey,
    pub winner: Side,
    pub loser: Side,
    /// Waits for a person to decide (policy `manual`).
    pub open: bool,
}

/// One side of a conflict.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    pub origin: OriginId,
    pub hlc: Hlc,
    /// The row as this side wanted it; `None` where it deleted the row, or where its image is not known here.
    pub row: Option<(RowKey, Image)>,
}

/// A change that could not be applied, set aside so that the rest goes on.
#[derive(Clone, PartialEq, Debug)]
pub struct DeadLetter {
    pub origin: OriginId,
    pub offset: Offset,
    pub gtid: Gtid,
    pub hlc: Hlc,
    pub change: Change,
    /// Without row values.
    pub reason: String,
    pub attempts: u32,
}
