//! The one file that names concrete sources, topics and targets.

mod hub;
mod keeper;
mod node;

pub use hub::{make_key, run_hub};
pub use node::{Role, run_node};
