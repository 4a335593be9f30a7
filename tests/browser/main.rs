//! The dashboard as a person meets it: a real browser on the pages of running nodes.

#[path = "../harness/mod.rs"]
mod harness;

mod driver;
mod laptops;
mod sign_in;
