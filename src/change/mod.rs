//! The language every room speaks: what a change is, when it happened, and how it looks on the wire.
//!
//! No I/O, no async, no clock: everything here is a value or a pure function of values.

pub mod cloud;
pub mod ddl;
mod gtid;
mod image;
mod note;
mod own;
mod record;
mod row;
mod table;
mod value;
mod version;
pub mod wire;

pub use ddl::{SchemaChange, SessionSettings};
pub use gtid::{Gtid, GtidParseError, GtidPosition};
pub use image::{Image, RowBuffer};
pub use note::{Ask, AskedTable, Note, Prints, TableTold, Tables, VerifyId};
pub use own::{Mark, MarkError, OWN_DATABASE, Rewrite, own_table};
pub use record::{BinlogCoordinates, Body, ChangePrint, Offset, Record, Seen, Trace};
pub use row::{Change, Checks, Column, ColumnKind, Op, RowKey, Shape, is_hash_name};
pub use table::{TableFilter, TableName, TablePattern};
pub use value::{Value, ValueRef};
pub use version::{Cluster, Hlc, NodeRank, OriginId, Version};
