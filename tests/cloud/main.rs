//! Feeding a cloud: the real applier and client against the real receiver, with a scripted cloud between them that refuses, lies, is
//! silent, and cuts connections. Exactly one effect per row version, whatever happens.

#[path = "../harness/mod.rs"]
mod harness;

mod archive;
mod buckets;
mod faults;
mod files;
mod mirror;
mod missing;
mod rig;
mod shelf;
mod stores;
