//! The right to be the only process that does something to this database, such as tailing it: a `GET_LOCK` on a
//! connection of its own.
//!
//! The server takes the lock away when that connection ends, whichever end it ends at: when our process is killed, and when
//! the connection alone is. The first lets another process go on at once; of the second we must know at once, so a
//! question is always under way on it, and its end is ours.

use std::time::Duration;

use super::fault::About;
use super::session::Session;
use super::{MariadbOptions, MariadbTarget};
use crate::target::TargetError;

/// How long one question takes. While it is under way the server does not look whether we still live, so another
/// process waits this much longer after ours was killed.
const LOOK: Duration = Duration::from_secs(1);

/// A question that takes this much longer than it should was lost with its connection. Short stalls of a busy machine
/// are no loss: the lock is the server's to take away, and it has not.
const SILENCE: Duration = Duration::from_secs(10);

const TASK: &str = "holding a lease";

/// A lease that is held. Dropping it gives it back as soon as the server notices.
pub struct Lease {
    session: Session,
    /// As an SQL text.
    name: String,
}

/// The answer to asking for a lease.
pub enum Asked {
    Held(Lease),
    /// Somebody else has it: as much of who as the server tells.
    Taken {
        by: String,
    },
}

impl MariadbTarget {
    /// Asks for the lease of this name, and waits for it up to a second.
    pub async fn ask_for_lease(&self, name: &str) -> Result<Asked, TargetError> {
        let options = MariadbOptions { statement_limit: LOOK + SILENCE, ..self.0.options.clone() };
        let mut session = Session::connect(&options).await?;
        let name = format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"));
        let got = answer(&mut session, &format!("SELECT GET_LOCK({name}, {})", LOOK.as_secs())).await?;
        if got == Some(1) {
            return Ok(Asked::Held(Lease { session, name }));
        }
        let holder =
            format!("SELECT ID, COALESCE(HOST, '') FROM information_schema.PROCESSLIST WHERE ID = IS_USED_LOCK({name})");
        let rows = session.rows(holder.as_bytes(), TASK).await?;
        let holder: Option<(u64, String)> = rows.into_iter().next().and_then(|row| mysql_async::from_row_opt(row).ok());
        let by = match holder {
            Some((id, host)) if !host.is_empty() => format!("connection {id} from {host}"),
            Some((id, _)) => format!("connection {id}"),
            // Another account's connection, or it was given back just now.
            None => "a connection that this account may not see".into(),
        };
        Ok(Asked::Taken { by })
    }
}

impl Lease {
    /// Ends when the lease is lost, with the reason; never while it is held.
    pub async fn lost(&mut self) -> TargetError {
        let sql = format!(
            "SELECT IS_USED_LOCK({}) <=> CONNECTION_ID() FROM (SELECT SLEEP({})) AS a_while",
            self.name,
            LOOK.as_secs()
        );
        loop {
            match answer(&mut self.session, &sql).await {
                Ok(Some(1)) => {}
                // Only the question was ended, by an administrator; the next one tells.
                Err(TargetError::Contended { .. }) => {}
                Ok(_) => return TargetError::Contended { reason: "the server gave its lock to somebody else".into() },
                Err(error) => return error,
            }
        }
    }

    /// So that the next one need not wait until the server notices that we are gone.
    pub async fn give_back(mut self) {
        let sql = format!("SELECT RELEASE_LOCK({})", self.name);
        // If this fails, the end of the connection does the same.
        let _ = self.session.run(sql.as_bytes(), About::Task(TASK)).await;
    }
}

async fn answer(session: &mut Session, sql: &str) -> Result<Option<u8>, TargetError> {
    let rows = session.rows(sql.as_bytes(), TASK).await?;
    let row = rows.into_iter().next().ok_or_else(|| session.not_understood(TASK))?;
    mysql_async::from_row_opt::<Option<u8>>(row).map_err(|_| session.not_understood(TASK))
}
