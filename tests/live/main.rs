//! Live tests: real code against real servers, each private to its test. `make live`; a missing server fails loudly.

#[path = "../harness/mod.rs"]
mod harness;

mod capture;
mod servers;
mod target;
