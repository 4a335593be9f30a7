//! Reads a MariaDB server through its binlog.
//!
//! The lower half is pure: bytes of one event in, [`Change`](crate::change::Change)s out. A table map event becomes a
//! [`TableMap`]; joined with what information_schema says ([`KnownTable`]) it becomes a [`Layout`], which is ready to
//! decode; [`Rows`] walks the rows of one event with it. Bytes come from outside: every one is bounds-checked, and
//! whatever does not add up is a [`DecodeError`], never a panic and never a guess.

mod ascii;
mod bytes;
mod charset;
mod column;
mod compression;
mod decimal;
mod error;
mod known;
mod layout;
pub mod rows;
mod table_map;
mod temporal;

pub use compression::decompress;
pub use error::DecodeError;
pub use known::{KnownColumn, KnownTable, SystemVersioning};
pub use layout::Layout;
pub use rows::{Rows, RowsKind};
pub use table_map::{MapColumn, TableMap};
