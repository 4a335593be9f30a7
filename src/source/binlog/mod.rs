//! Reads a MariaDB server through its binlog.
//!
//! The upper half reads as a replica would: [`BinlogSource`] opens a `session` (a connection that is sent events), whose
//! `transaction`s are gathered from events and given away when their end is known. What the binlog does not tell about a
//! table, `schema` finds out.
//!
//! The lower half is pure: bytes of one event in, [`Change`](crate::change::Change)s out. A table map event becomes a
//! [`TableMap`]; joined with what information_schema says ([`KnownTable`]) it becomes a [`Layout`], which is ready to
//! decode; [`Rows`] walks the rows of one event with it. Bytes come from outside: every one is bounds-checked, and
//! whatever does not add up is a [`DecodeError`], never a panic and never a guess.

// Reading as a replica does, from the outside in.
mod server;

mod connection;
mod examine;
mod preflight;

mod session;

mod transaction;

mod event;
mod hold;
mod schema;
mod statement;
mod tables;

// Decoding, which knows no connection.
mod bytes;
mod table_map;

mod ascii;
mod charset;
mod column;
mod compression;
mod decimal;
mod error;
mod known;
mod layout;
pub mod rows;
mod temporal;

pub use compression::decompress;
pub use error::DecodeError;
pub use examine::Expectations;
pub use known::{KnownColumn, KnownTable, SystemVersioning};
pub use layout::Layout;
pub use preflight::ServerSettings;
pub use rows::RowsKind;
pub use server::{BinlogOptions, BinlogSource};
pub use table_map::{MapColumn, TableMap};
