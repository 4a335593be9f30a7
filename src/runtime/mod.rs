//! What every room needs of the world around it: time, randomness, shutdown, backoff, and what to do after a fault.

mod backoff;
mod clock;
mod fault;
mod finding;
mod supervise;
mod switch;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SystemClock};
pub use fault::{Disposition, Fault, Stop};
pub use finding::{Finding, Level};
pub use supervise::{RoleState, RoleWatch, Supervisor};
pub use switch::{PauseBook, Switches};
pub use tokio_util::sync::CancellationToken as Shutdown;
