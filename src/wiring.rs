//! The one file that names concrete sources, topics and targets.

mod hub;

pub use hub::{make_key, run_hub};
