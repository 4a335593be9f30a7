//! A role that only one process of a node may have: it waits for the lease, works while it is held, and not a moment longer.

use std::future::Future;

use crate::observe::Observer;
use crate::runtime::{Fault, Shutdown, Stop};
use crate::target::mariadb::{Asked, Lease, MariadbTarget};

/// What the lease is for.
pub struct Seat<'a> {
    pub cluster: &'a str,
    pub node: &'a str,
    pub role: &'static str,
}

impl Seat<'_> {
    /// A name that only this role of this node has on its server, well within the 192 letters that a lock may have.
    pub fn lock(&self) -> String {
        format!("tandem.{}.{}.{}", self.role, self.cluster, self.node)
    }

    /// Waits for the lease, then works. When the lease is lost the work is dropped where it stands, which is safe as a crash
    /// is; to end it in order would go on publishing beside the next holder.
    pub async fn hold<Work>(
        &self,
        target: &MariadbTarget,
        observer: &Observer,
        shutdown: &Shutdown,
        work: Work,
    ) -> Result<(), Stop>
    where
        Work: Future<Output = Result<(), Stop>>,
    {
        let Some(mut lease) = self.wait(target, observer, shutdown).await? else { return Ok(()) };
        tokio::select! {
            biased;
            lost = lease.lost() => {
                let message = format!("the lease of the {} of {} was lost: {lost}", self.role, self.node);
                let hint = "nothing is lost; it goes on when it has the lease again, or another process does";
                Err(Stop { disposition: lost.disposition(), message, hint: Some(hint.into()) })
            }
            outcome = work => {
                lease.give_back().await;
                outcome
            }
        }
    }

    /// `None` at shutdown.
    async fn wait(&self, target: &MariadbTarget, observer: &Observer, shutdown: &Shutdown) -> Result<Option<Lease>, Stop> {
        let lock = self.lock();
        loop {
            let asked = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                // Each question waits at the server for a while, so this does not spin.
                asked = target.ask_for_lease(&lock) => asked?,
            };
            match asked {
                Asked::Held(lease) => {
                    observer.leased(self.role);
                    return Ok(Some(lease));
                }
                Asked::Taken { by } => observer.waits_for_lease(self.role, &by),
            }
        }
    }
}
