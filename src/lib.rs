//! Tandem keeps the MariaDB databases of two or more sites the same, in both directions.
//!
//! Data flows `source → tail → topic → apply → target`; every arrow carries [`change`]s. The modules below are the
//! rooms of ARCHITECTURE.md, in the order data flows; `tests/tidy.rs` holds them to what each may import.

pub mod change;
pub mod runtime;

pub mod observe;

pub mod source;

pub mod tail;

pub mod topic;

pub mod apply;

pub mod target;

pub mod cloud;

pub mod receive;

pub mod verify;

pub mod state;

pub mod serve;

pub mod config;

pub mod wiring;

pub mod cli;
