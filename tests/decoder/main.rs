//! The decoder of the binlog against bytes that real servers wrote (tests/golden), and against another reader of them.

mod differential;
mod file;
mod golden;
mod layouts;
mod mutated;
mod replay;
