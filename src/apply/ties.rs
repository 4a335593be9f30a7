//! What our own rows referred to, where a delete may not know of it.
//!
//! A foreign key acts in silence, and over several tables. So when a delete arrives that was made without knowing of writes of
//! ours, two things may be so elsewhere that are not so here, and nobody else can tell of them:
//!
//! - One of our rows had **left** the deleted row, or one that went with it. Where the delete was made it went along, with all that
//!   refers to it. Our write brings back the row itself; what refers to it we publish anew.
//! - One of our rows **joined** it, and has gone since, or refers to something else, by another foreign key's action. Others may
//!   still have it as we published it, and wait for us to say what becomes of it: we publish what it is now.
//!
//! Where we deleted or wrote that row too, what stood between it and a row of ours may be gone on both sides. Then we tell of each row of
//! ours that is not any more what we published, and that the other did not know.
//!
//! The same where both gave one row another key: the newer one's author publishes what refers to it.
//!
//! See docs/decisions/0011.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ApplyError;
use super::decide::Entry;
use super::engine::Engine;
use super::group::Group;
use super::index::{Index, fingerprint};
use super::local::LocalWrite;
use super::overflow::{Fingerprint, OverflowError};
use super::refer::{Referring, asks, becoming, is_dead_letter, publish_all, surprised};
use super::rows::Rows;
use super::settle::Trouble;
use super::step::{Step, canonical, delete_of};
use super::work::Work;
use crate::change::{Change, Image, Offset, OriginId, RowKey, Shape};
use crate::target::{ApplyTransaction, CanonicalKey, Held, Target, TargetError, Tied};
use crate::topic::{TopicError, TopicReader};

/// Places, each with the records of the own topic that tell of them. Kept as long as the causal index keeps the rows of these
/// records, and rebuilt with it.
#[derive(Default)]
pub struct Ties {
    left: Noted,
    joined: Noted,
}

impl Ties {
    pub fn is_empty(&self) -> bool {
        self.left.by_offset.is_empty() && self.joined.by_offset.is_empty()
    }

    fn note(&mut self, row: Fingerprint, tied: &Tied, offset: Offset) {
        tied.left.iter().for_each(|place| self.left.note(place, offset, row));
        tied.joined.iter().for_each(|place| self.joined.note(place, offset, row));
    }

    /// Forgets what all other nodes have applied: none of them makes a delete any more that does not know of it.
    pub fn forget(&mut self, stable: Offset) {
        self.left.forget(stable);
        self.joined.forget(stable);
    }
}

/// Half of a fingerprint: to take one place for another costs a record that says what all know.
type Place = u64;

#[derive(Default)]
struct Noted {
    by_place: BTreeMap<(Place, Offset), Fingerprint>,
    by_offset: BTreeSet<(Offset, Place)>,
}

impl Noted {
    fn note(&mut self, place: &CanonicalKey, offset: Offset, row: Fingerprint) {
        let place = fingerprint(place) as Place;
        self.by_place.insert((place, offset), row);
        self.by_offset.insert((offset, place));
    }

    /// The records that tell of a place, each with the row that it wrote.
    fn at(&self, place: &CanonicalKey) -> Vec<(Offset, Fingerprint)> {
        let place = fingerprint(place) as Place;
        let at = self.by_place.range((place, Offset(0))..=(place, Offset(u64::MAX)));
        at.map(|((_, offset), row)| (*offset, *row)).collect()
    }

    /// All records, each with the row that it wrote.
    fn all(&self) -> impl Iterator<Item = (Offset, Fingerprint)> {
        self.by_place.iter().map(|((_, offset), row)| (*offset, *row))
    }

    fn forget(&mut self, stable: Offset) {
        while let Some(&(offset, place)) = self.by_offset.first().filter(|(offset, _)| *offset < stable) {
            self.by_offset.pop_first();
            self.by_place.remove(&(place, offset));
        }
    }
}

/// What is to be published because of a delete, all of it locked.
#[derive(Default)]
struct Answer {
    /// Rows that went elsewhere with one of ours which had left.
    follow: Vec<Referring>,
    /// Rows of ours that are not, or not any more, what we published.
    silent: Vec<Silent>,
}

struct Silent {
    key: RowKey,
    canonical: CanonicalKey,
    held: Option<Held>,
}

impl Engine<'_> {
    /// Notes what own writes, each with its row, left and joined.
    pub async fn note_ties(&mut self, writes: &[LocalWrite], rows: &[CanonicalKey]) -> Result<(), ApplyError> {
        let puts = writes.iter().zip(rows).filter_map(|(write, row)| Some((write.offset, row, write.put.as_ref()?)));
        let puts: Vec<(Offset, &CanonicalKey, &Change)> = puts.collect();
        if puts.is_empty() || self.options.ablation.no_ties {
            return Ok(());
        }
        let changes: Vec<&Change> = puts.iter().map(|(_, _, change)| *change).collect();
        for ((offset, row, _), tied) in puts.iter().zip(ties(self.target, &changes).await?) {
            self.ties.note(fingerprint(row), &tied, *offset);
        }
        Ok(())
    }

    async fn answer_to(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        rows: Option<&Rows>,
    ) -> Result<Answer, ApplyError> {
        let mut answer = Answer::default();
        let change = group.change(step.at);
        let Some(becomes) = asks(group, step) else { return Ok(answer) };
        let moves = becomes.is_some();
        let asked = step.deletes() && !self.ties.is_empty();
        if !asked || !transaction.is_referred(change.table(), becomes).await? {
            return Ok(answer);
        }
        // Of two that moved one row to another key, the newer one's author says what refers to it.
        let older = entry_of(&step.canonical, self.index, rows)?.is_none_or(|entry| entry.version < group.version(step.at));
        let (own, own_rank) = (self.options.cluster.own(), self.options.cluster.own_rank());
        let unseen = |(offset, _): &(Offset, Fingerprint)| !group.records[step.at].1.seen.has(own, *offset);
        let mut gone: Vec<(Arc<Shape>, Image)> =
            change.before.iter().map(|image| (change.shape.clone(), image.clone())).collect();
        let mut met: BTreeSet<Fingerprint> = BTreeSet::from([fingerprint(&step.canonical)]);
        for referring in self.referring(transaction, &step.key, becomes, false).await? {
            if !moves {
                gone.push((referring.held.key.shape.clone(), referring.held.image.clone()));
            }
            met.insert(fingerprint(&referring.canonical));
        }
        let mut followed = BTreeSet::new();
        while let Some((shape, image)) = gone.pop() {
            for place in places(self.target, &shape, &image).await? {
                for (offset, _) in self.ties.left.at(&place).into_iter().filter(unseen) {
                    if moves && older || !followed.insert(offset) {
                        continue;
                    }
                    let Some(moved) = change_at(self.reader, own, offset).await? else { continue };
                    let (Some(key), Some(after)) = (moved.key(), moved.after.clone()) else { continue };
                    // What refers to it although it is not here waits for its own author's answer.
                    if stands(transaction, &key).await? {
                        for referring in self.referring(transaction, &key, None, false).await? {
                            if met.insert(fingerprint(&referring.canonical)) {
                                gone.push((referring.held.key.shape.clone(), referring.held.image.clone()));
                                answer.follow.push(referring);
                            }
                        }
                    }
                    gone.push((moved.shape.clone(), after));
                }
                for (offset, row) in self.ties.joined.at(&place).into_iter().filter(unseen) {
                    // What refers to the deleted row as we published it is answered for where the delete is settled.
                    // Most still refer to what they joined, or were written again: the topic is not asked for those.
                    if met.contains(&row) || !self.index.ends_with(row, own_rank, offset)? {
                        continue;
                    }
                    let Some(put) = change_at(self.reader, own, offset).await? else { continue };
                    if let Some(silent) = self.newest_own(transaction, offset, &put, rows).await?
                        && met.insert(row)
                    {
                        answer.silent.push(silent);
                    }
                }
            }
        }
        // We deleted or wrote the row too, and neither knew of the other. What stood between it and a row of ours may be gone with it on
        // both sides, and leads to that row no more: so of all of ours that joined something it is looked which changed in silence.
        let both = entry_of(&step.canonical, self.index, rows)?
            .is_some_and(|entry| entry.version.node == own_rank && unseen(&(entry.offset, 0)));
        if both && !moves {
            let mut wanted = BTreeMap::new();
            for (offset, row) in self.ties.joined.all().filter(unseen) {
                if !met.contains(&row) && self.index.ends_with(row, own_rank, offset)? {
                    wanted.insert(offset, row);
                }
            }
            for (offset, put) in changes_at(self.reader, own, wanted.keys().copied().collect()).await? {
                if let Some(silent) = self.newest_own(transaction, offset, &put, rows).await?
                    && silent.held.as_ref().map(|held| &held.image) != put.after.as_ref()
                    && met.insert(wanted[&offset])
                {
                    answer.silent.push(silent);
                }
            }
        }
        Ok(answer)
    }

    /// The row that a record of ours wrote, locked, where that is still the row's newest write.
    async fn newest_own(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        offset: Offset,
        put: &Change,
        rows: Option<&Rows>,
    ) -> Result<Option<Silent>, ApplyError> {
        let own_rank = self.options.cluster.own_rank();
        let Some(key) = put.key() else { return Ok(None) };
        let canonical = canonical(self.target, std::slice::from_ref(&key)).await?.pop().expect("one key, one answer");
        let newest = entry_of(&canonical, self.index, rows)?
            .is_some_and(|entry| entry.version.node == own_rank && entry.offset == offset);
        if !newest {
            return Ok(None);
        }
        match transaction.lock(std::slice::from_ref(&key)).await {
            Err(error) if is_dead_letter(&error) => Ok(None),
            held => Ok(Some(Silent { key, canonical, held: held?.pop().flatten() })),
        }
    }

    /// Locks what will have to be published, before the position is read.
    pub async fn lock_tied(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        let answer = self.answer_to(transaction, group, step, None).await?;
        rows.add_known(answer.follow.into_iter().map(|referring| (referring.canonical, Some(referring.held))));
        rows.add_known(answer.silent.into_iter().map(|silent| (silent.canonical, silent.held)));
        Ok(())
    }

    /// Publishes it. False where it must be tried again.
    pub async fn answer_for_tied(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        rows: &Rows,
        work: &mut Work,
    ) -> Result<bool, ApplyError> {
        let answer = self.answer_to(transaction, group, step, Some(rows)).await?;
        let follow = answer.follow.iter().map(|referring| (&referring.canonical, &referring.held.key));
        let silent = answer.silent.iter().map(|silent| (&silent.canonical, &silent.key));
        if surprised(follow.chain(silent), rows, trouble, work) {
            return Ok(false);
        }
        publish_all(work, &answer.follow);
        for Silent { key, canonical, held } in &answer.silent {
            if !work.published.contains_key(canonical) {
                let change = held.as_ref().map_or_else(|| delete_of(key), |held| becoming(held, &held.image));
                work.publish(canonical, change);
            }
        }
        Ok(true)
    }

    /// True where one of the deletes has to be answered.
    pub async fn anything_tied(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
    ) -> Result<bool, ApplyError> {
        for step in steps {
            let answer = self.answer_to(transaction, group, step, None).await?;
            if !answer.follow.is_empty() || !answer.silent.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A row's newest write that is known, those of this group included.
fn entry_of(row: &CanonicalKey, index: &Index, rows: Option<&Rows>) -> Result<Option<Entry>, OverflowError> {
    match rows {
        Some(rows) => rows.entry(row, index),
        None => index.get(row),
    }
}

/// The change of a record of our own. `None` where the topic no longer keeps it: who has not seen it by now is seeded anew.
async fn change_at(reader: &dyn TopicReader, own: &OriginId, offset: Offset) -> Result<Option<Change>, TopicError> {
    match reader.read(own, offset, 1, Duration::ZERO).await {
        Ok(records) => Ok(records.into_iter().next().and_then(|(_, record)| record.change().cloned())),
        Err(TopicError::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The changes of some records of our own, many with each answer: over a bad connection many answers never come to an end.
async fn changes_at(
    reader: &dyn TopicReader,
    own: &OriginId,
    mut wanted: BTreeSet<Offset>,
) -> Result<Vec<(Offset, Change)>, TopicError> {
    let mut found = Vec::new();
    while let Some(&first) = wanted.first() {
        let records = match reader.read(own, first, READ_BYTES, Duration::ZERO).await {
            Err(TopicError::Gone { first, .. }) => {
                wanted = wanted.split_off(&first);
                continue;
            }
            records => records?,
        };
        let Some(next) = records.last().map(|(offset, _)| offset.next()) else { break };
        let meant = records.into_iter().filter(|(offset, _)| wanted.contains(offset));
        found.extend(meant.filter_map(|(offset, record)| Some((offset, record.change()?.clone()))));
        wanted = wanted.split_off(&next);
    }
    Ok(found)
}

/// Of the own topic, read at once.
const READ_BYTES: usize = 4 << 20;

/// As [`Target::ties`]; where a table cannot be looked at, each change alone, and those of that table have none.
async fn ties(target: &dyn Target, changes: &[&Change]) -> Result<Vec<Tied>, TargetError> {
    match target.ties(changes).await {
        Err(error) if is_dead_letter(&error) => {}
        other => return other,
    }
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        all.push(match target.ties(std::slice::from_ref(change)).await {
            Err(error) if is_dead_letter(&error) => Tied::default(),
            other => other?.pop().unwrap_or_default(),
        });
    }
    Ok(all)
}

pub(super) async fn stands(transaction: &mut dyn ApplyTransaction, key: &RowKey) -> Result<bool, TargetError> {
    match transaction.lock(std::slice::from_ref(key)).await {
        Err(error) if is_dead_letter(&error) => Ok(false),
        held => Ok(held?.pop().flatten().is_some()),
    }
}

async fn places(target: &dyn Target, shape: &Shape, image: &Image) -> Result<Vec<CanonicalKey>, TargetError> {
    match target.places(shape, image).await {
        Err(error) if is_dead_letter(&error) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_is_forgotten_when_all_have_its_record_and_no_sooner() {
        let place = |name: &str| CanonicalKey(name.as_bytes().into());
        let mut noted = Noted::default();
        for (name, offset) in [("town 1", 3), ("town 1", 3), ("town 2", 3), ("town 1", 5)] {
            noted.note(&place(name), Offset(offset), u128::from(offset));
        }
        let at = |noted: &Noted, name: &str| {
            noted.at(&place(name)).into_iter().map(|(offset, row)| (offset.0, row)).collect::<Vec<_>>()
        };
        assert_eq!(at(&noted, "town 1"), [(3, 3), (5, 5)]);
        assert_eq!(at(&noted, "town 2"), [(3, 3)]);
        noted.forget(Offset(3));
        assert_eq!(at(&noted, "town 1"), [(3, 3), (5, 5)]);
        noted.forget(Offset(4));
        assert_eq!((at(&noted, "town 1"), at(&noted, "town 2")), (vec![(5, 5)], vec![]));
        noted.forget(Offset(6));
        assert!(noted.by_offset.is_empty() && noted.by_place.is_empty());
    }
}
