//! The client itself, over librdkafka: all that is built with cargo's feature `kafka` alone.

mod client;
mod cursor;
mod ends;
mod look;
mod producer;
mod reader;
mod settings;
mod writer;

pub use look::examine;
pub use reader::KafkaReader;
pub use writer::KafkaWriter;

use super::{KafkaOptions, Place, header};
