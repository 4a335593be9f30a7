//! What people decide about conflicts that are kept.

use super::fault::About;
use super::own_tables;
use super::transaction::MariadbTransaction;
use super::{KeptConflict, MariadbTarget};
use crate::change::{Change, Checks, Image, Offset, Op, OriginId, Shape};
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

    /// Writes the row as the loser wanted it, as an ordinary write of this node, and settles the conflict with it. Where columns are
    /// named, only these are written: the others stay as they are now.
    pub async fn put_back(&self, kept: &KeptConflict, columns: &[String]) -> Result<(), TargetError> {
        let write = match &kept.loser.row {
            Some((key, image)) if !columns.is_empty() => {
                if kept.winner.row.is_none() {
                    return Err(TargetError::Refused {
                        what: format!("the row of {} was deleted, so there is none whose columns could be mixed", kept.id),
                        remedy: "put it back whole, or keep the delete".into(),
                    });
                }
                Write::Put(Change {
                    shape: key.shape.clone(),
                    op: Op::Update,
                    before: None,
                    after: Some(only(&kept.id, &key.shape, image, columns)?),
                    checks: Checks::default(),
                })
            }
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

/// The key, and these columns of a row; the others are not known, and so not written.
fn only(id: &str, shape: &Shape, image: &Image, columns: &[String]) -> Result<Image, TargetError> {
    let at = |name: &str| shape.columns.iter().position(|column| &*column.name == name);
    let known = |name: &&String| at(name).is_some_and(|at| image.get(at).is_some());
    if let Some(unknown) = columns.iter().find(|name| !known(name)) {
        return Err(TargetError::Refused {
            what: format!("the row that lost in {} has no column `{unknown}`", id),
            remedy: "name columns that `tandem conflicts show` lists with a value on that side".into(),
        });
    }
    let wanted = |at: usize| {
        shape.key.iter().any(|&key| usize::from(key) == at) || columns.iter().any(|name| **name == *shape.columns[at].name)
    };
    Ok(Image::of(image.values().enumerate().map(|(at, value)| value.filter(|_| wanted(at)).map(|value| value.to_value()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Value;
    use crate::target::mariadb::schema::testing::table;

    #[test]
    fn of_a_row_only_the_key_and_what_is_named_is_written() {
        let shape = table("campus", "riders", &["id", "name", "seats", "phone"]).shape.clone();
        let image = Image::of([Some(Value::Int(7)), Some(Value::text("Ada")), Some(Value::Int(2)), None]);
        let found = only("c-1", &shape, &image, &["seats".into()]).unwrap();
        assert_eq!(found, Image::of([Some(Value::Int(7)), None, Some(Value::Int(2)), None]));
        for unknown in ["phone", "colour"] {
            assert!(only("c-1", &shape, &image, &[unknown.into()]).is_err(), "{unknown} is not known");
        }
    }
}
