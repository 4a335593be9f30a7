//! Live tests: real code against real servers, each private to its test. `make live`; a missing server fails loudly.

#[path = "../decoder/file.rs"]
mod binlog_file;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../oracle/mod.rs"]
mod oracle;
#[path = "../decoder/replay.rs"]
mod replay;

mod backpressure;
mod bank;
mod capture;
mod capture_errors;
mod capture_memory;
mod cloud;
mod cloud_files;
mod cloud_killed;
mod conflicts;
mod ddl;
mod doctor;
mod failed;
mod foreign_keys;
mod hidden;
mod history;
mod https;
mod hub;
mod init;
mod joins;
mod kafka;
mod keyless;
mod large;
mod lease;
mod material;
mod members;
mod older_place;
mod pages;
mod panels;
mod quiet;
mod reseed;
mod rig;
mod roles;
mod secrets;
mod servers;
mod snapshot;
mod soak;
mod tail_command;
mod target;
mod topic_command;
mod triggers;
mod two_way;
mod type_matrix;
mod types;
mod verify;
