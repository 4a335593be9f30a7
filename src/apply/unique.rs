//! Secondary unique keys: a row that wins may want a value which another row holds.

use super::engine::Engine;
use super::group::Group;
use super::refer::surprised;
use super::rows::{Rows, holders};
use super::settle::{Trouble, conflict_id, image_of};
use super::step::{Step, canonical};
use super::work::Work;
use super::{ApplyError, Policy};
use crate::change::{Change, Hlc, RowKey, Version};
use crate::target::{ApplyTransaction, Conflict, ConflictKind, Held, Side, Write};

impl Engine<'_> {
    /// Settles the rows that hold a unique value which this change wants. The smaller version loses its row, here and,
    /// by a published delete, everywhere. False where the change itself lost.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    pub async fn clear_unique(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        wanted: &Change,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<bool, ApplyError> {
        let held = holders(transaction, wanted).await?;
        if held.is_empty() {
            return Ok(true);
        }
        let version = group.version(step.at);
        let keys: Vec<RowKey> = held.iter().map(|held| held.key.clone()).collect();
        let holders: Vec<_> = held.into_iter().zip(canonical(self.target, &keys).await?).collect();
        if surprised(holders.iter().map(|(held, key)| (key, &held.key)), rows, trouble, work) {
            return Ok(false);
        }
        // What is not in the index is older than whatever comes.
        let unwritten = Version { hlc: Hlc::default(), node: self.options.cluster.own_rank() };
        let own_next = group.version_of_rewrites(self.options.cluster.own_rank());
        let mut newer = None;
        let mut older = Vec::with_capacity(holders.len());
        for (held, key) in &holders {
            let entry = rows.entry(key, self.index)?;
            if !work.published.contains_key(key) && self.is_stale(entry.as_ref()) {
                // It comes as it is now, with a value of its own.
                if self.may_be_alone(entry.as_ref()) {
                    let arrives = Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) };
                    self.keep_unheard_of(ConflictKind::UniqueTaken, key, held, arrives, work);
                }
                transaction.write(&[Write::DeleteAlone(held.key.clone())]).await.map_err(|failed| failed.error)?;
                rows.held.insert(key.clone(), None);
                continue;
            }
            let own = match entry {
                // It stands by preference, and will be published newer than all of this group.
                _ if work.published.contains_key(key) => own_next,
                entry => entry.map_or(unwritten, |entry| entry.version),
            };
            if own > version {
                newer = Some((held, own));
            } else {
                older.push((held, key, own));
            }
        }
        let side = |version: Version, held: &Held| Side {
            origin: self.options.cluster.name(version.node).clone(),
            hlc: version.hlc,
            row: Some((held.key.clone(), held.image.clone())),
        };
        let incoming = Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) };
        let open = *self.options.policy(wanted.table()) == Policy::Manual;
        if let Some((held, own)) = newer {
            work.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, own),
                kind: ConflictKind::UniqueTaken,
                key: step.key.clone(),
                winner: side(own, held),
                loser: incoming,
                open,
            });
            if self.remove_referring(transaction, group, step, &step.key, trouble, rows, work).await? {
                work.remove(transaction, group.offset(step.at), &step.key, &step.canonical).await?;
            }
            return Ok(false);
        }
        for (held, key, own) in older {
            work.conflicts.push(Conflict {
                id: conflict_id(key, version, own),
                kind: ConflictKind::UniqueTaken,
                key: held.key.clone(),
                winner: incoming.clone(),
                loser: side(own, held),
                open,
            });
            if !self.remove_referring(transaction, group, step, &held.key, trouble, rows, work).await? {
                return Ok(false);
            }
            work.remove(transaction, group.offset(step.at), &held.key, key).await?;
        }
        Ok(true)
    }
}
