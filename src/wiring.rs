//! The one file that names concrete sources, topics and targets.

mod capture;
mod cloud;
mod cloud_doctor;
mod doctor;
mod doctor_nodes;
mod doctor_place;
mod failed;
mod heard;
mod hub;
mod inspect;
mod keeper;
mod lease;
mod members;
mod node;
mod reseed;
mod roles;
mod room;
mod snapshots;
mod topics;
mod weekly;

pub use capture::{Authority, Capture, CaptureOptions, Captured, From};
pub use cloud::{CloudServer, ReceiverDatabase, run_cloud_server};
pub use doctor::{Facts, Look, examine, facts};
pub use heard::{Beside, Heard, Made};
pub use hub::{hub_fingerprint, make_key, pinned, run_hub, web_fingerprint};
pub use members::{Member, Removal, members, remove};
pub use node::{Role, run_node};
pub use reseed::{SeedKind, Seeding, Situation, TopicGap, begin_seeding, seeding, situation};
pub use topics::{TopicHeld, TopicView};
