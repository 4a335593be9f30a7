//! What people decide about conflicts that are kept.

use super::fault::About;
use super::own_tables;
use super::transaction::MariadbTransaction;
use super::{KeptConflict, MariadbTarget};
use crate::change::{Change, Checks, Offset, Op, OriginId};
use crate::target::{ApplyTransaction, ConflictKind, TargetError, Write};

/// Kinds of conflicts of which one side was a delete, so that its row is none.
const DELETES: [&str; 3] =
    [ConflictKind::DeleteOriginDiffers.word(), ConflictKind::DeleteMissing.word(), ConflictKind::UpdateMissing.word()];

impl MariadbTarget {
    /// The conflict waits for nobody any more.
    pub(super) async fn settle_kept(&self, id: &str) -> Result<(), TargetError> {
        let mut sql = Vec::new();
        own_tables::settle(&mut sql, id);
        self.run_own(&sql, "settling a conflict").await
    }

    /// One statement about our own tables, that may be run twice.
    async fn run_own(&self, sql: &[u8], task: &str) -> Result<(), TargetError> {
        let mut session = self.0.session().await?;
        let was_idle = session.used;
        match session.run(sql, About::Task(task)).await {
            // The server closes connections that were idle for long.
            Err(TargetError::Unreachable { .. }) if was_idle => {
                session = self.0.fresh().await?;
                session.run(sql, About::Task(task)).await?;
            }
            other => _ = other?,
        }
        self.give_back(session);
        Ok(())
    }

    /// Forgets dead letters, by origin and offset. Nothing else is changed.
    pub async fn discard(&self, letters: &[(OriginId, Offset)]) -> Result<(), TargetError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut sql = Vec::new();
        own_tables::delete_dead_letters(&mut sql, letters);
        self.run_own(&sql, "discarding dead letters").await
    }

    /// Writes the row as the loser wanted it, as an ordinary write of this node, and settles the conflict with it.
    pub async fn put_back(&self, kept: &KeptConflict) -> Result<(), TargetError> {
        let write = match &kept.loser.row {
            Some((key, image)) => Write::Put(Change {
                shape: key.shape.clone(),
                op: Op::Update,
                before: None,
                after: Some(image.clone()),
                checks: Checks::default(),
            }),
            // It had deleted the row: that of the winner goes.
            None if DELETES.contains(&kept.kind.as_str()) => match &kept.winner.row {
                Some((key, _)) => Write::Delete(key.clone()),
                None => return self.settle_kept(&kept.id).await,
            },
            None => {
                return Err(TargetError::Refused {
                    what: format!("what the loser of {} had written is not known on this node", kept.id),
                    remedy: "keep the winner, or put it back on the node where it was written".into(),
                });
            }
        };
        let mut transaction: Box<dyn ApplyTransaction> =
            Box::new(MariadbTransaction::begin_own(self.0.clone(), &kept.id).await?);
        match transaction.write(&[write]).await {
            Ok(()) => transaction.commit().await,
            Err(failed) => {
                transaction.rollback().await;
                Err(failed.error)
            }
        }
    }
}
