//! The apply transaction: two ways to the same end.
//!
//! Where nothing stands against a group it is written straight away and the decision is checked after it, before the
//! commit: the written rows are locked then, so no competing write can be missed. Where something does (a newer or an
//! unseen write, a unique value that is taken, a row that cannot be written), the rows are locked first and settled
//! one by one, with what they held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decide::{Entry, Verdict, decide};
use super::engine::Engine;
use super::group::Group;
use super::rows::{Rows, holders};
use super::step::{Step, canonical, delete_of};
use super::{ApplyError, ApplyOptions, OverflowError, Policy};
use crate::change::{Change, Hlc, Image, NodeRank, Op, Rewrite, RowKey, Version};
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, ConflictKind, DeadLetter, Held, Side, TargetError, Write, WriteError,
};

/// Times that a unique value may turn out to be held by a row that was not locked before the position was read, until
/// the change is treated as one that cannot be written. Each needs a writer who commits in between, so two in a row are
/// rare.
const SURPRISES: u32 = 20;

/// How an attempt ended.
pub enum Attempt {
    Committed(Committed),
    /// Nothing was written: something stands against the group, so settle it row by row.
    Settle,
    /// Nothing was written: the local tailer did not catch up in time.
    TailerBehind,
    /// Nothing was written: these records failed. Try again after a while; past the limit they are set aside.
    Failed(BTreeMap<usize, String>),
}

/// What a commit did, for the index and the observer.
#[derive(Default)]
pub struct Committed {
    /// Per step: what became of it.
    pub fates: Vec<Fate>,
    pub conflicts: Vec<Conflict>,
    pub dead_letters: Vec<DeadLetter>,
    pub waited: Duration,
}

/// Earlier attempts to settle a group.
#[derive(Default)]
pub struct Trouble {
    /// Per record: attempts that failed, and the last reason.
    pub failures: BTreeMap<usize, (u32, String)>,
    /// How often a unique value was taken by a row that we had not locked. From the first time on, holders are looked
    /// for before every write.
    pub surprises: u32,
}

impl Engine<'_> {
    fn verdict(&self, group: &Group, step: &Step, entry: Option<&Entry>) -> Verdict {
        let seen = &group.records[step.at].1.seen;
        decide(group.version(step.at), seen, entry, &self.options.cluster)
    }

    fn undisputed(&self, group: &Group, steps: &[Step]) -> Result<bool, OverflowError> {
        for step in steps {
            if self.verdict(group, step, self.index.get(&step.canonical)?.as_ref()) != (Verdict::Win { conflict: false }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes first and checks before the commit.
    pub async fn straight(&mut self, group: &Group, steps: &[Step]) -> Result<Attempt, ApplyError> {
        if !self.undisputed(group, steps)? {
            return Ok(Attempt::Settle);
        }
        let mut transaction = self.target.begin(&group.mark).await?;
        let attempt = self.straight_in(&mut *transaction, group, steps).await;
        end(transaction, attempt).await
    }

    async fn straight_in(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
    ) -> Result<Attempt, ApplyError> {
        let writes: Vec<Write> = steps.iter().map(|step| step.write.clone()).collect();
        match transaction.write(&writes).await {
            Ok(()) => {}
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => return Ok(Attempt::Settle),
            Err(WriteError { error, .. }) => return Err(error.into()),
        }
        let Some(waited) = self.know_all(transaction).await? else { return Ok(Attempt::TailerBehind) };
        if !self.undisputed(group, steps)? {
            return Ok(Attempt::Settle);
        }
        Ok(Attempt::Committed(Committed { fates: vec![Fate::Applied; steps.len()], waited, ..Committed::default() }))
    }

    /// Locks first and settles row by row.
    pub async fn settle(&mut self, group: &Group, steps: &[Step], trouble: &mut Trouble) -> Result<Attempt, ApplyError> {
        let mut transaction = self.target.begin(&group.mark).await?;
        let attempt = self.settle_in(&mut *transaction, group, steps, trouble).await;
        end(transaction, attempt).await
    }

    async fn settle_in(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
        trouble: &mut Trouble,
    ) -> Result<Attempt, ApplyError> {
        let mut rows = Rows::lock(transaction, steps).await?;
        let mut collides = trouble.surprises > 0;
        for step in steps {
            if let Write::Put(change) = &step.write
                && !trouble.gives_up(step.at, self.options)
            {
                let held = holders(transaction, change).await?;
                collides |= !held.is_empty();
                rows.add(self.target, held).await?;
            }
        }
        let Some(waited) = self.know_all(transaction).await? else { return Ok(Attempt::TailerBehind) };
        let mut work = Work { done: Committed { waited, ..Committed::default() }, ..Work::default() };
        for step in steps {
            let fate = self.settle_step(transaction, group, step, trouble, collides, &mut rows, &mut work).await?;
            work.done.fates.push(fate);
        }
        if work.surprised {
            trouble.surprises += 1;
        }
        if !work.failed.is_empty() || work.surprised {
            return Ok(Attempt::Failed(work.failed));
        }
        for (&at, (attempts, reason)) in trouble.failures.iter().filter(|(at, _)| trouble.gives_up(**at, self.options)) {
            let (offset, record) = &group.records[at];
            work.done.dead_letters.push(DeadLetter {
                origin: group.origin.clone(),
                offset: *offset,
                gtid: record.gtid,
                hlc: record.hlc,
                change: record.change().expect("a group's records hold changes").clone(),
                reason: reason.clone(),
                attempts: *attempts,
            });
        }
        transaction.rewrite(&work.rewrites).await?;
        transaction.keep_conflicts(&work.done.conflicts).await?;
        transaction.keep_dead_letters(&work.done.dead_letters).await?;
        Ok(Attempt::Committed(work.done))
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn settle_step(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        collides: bool,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Fate, ApplyError> {
        if trouble.gives_up(step.at, self.options) {
            return Ok(Fate::SetAside);
        }
        let version = group.version(step.at);
        let record = &group.records[step.at].1;
        let change = record.change().expect("a group's records hold changes");
        let entry = rows.entry(&step.canonical, self.index)?;
        let verdict = self.verdict(group, step, entry.as_ref());
        let policy = self.options.policy(change.table());
        let held = rows.held(&step.canonical);
        let open = *policy == Policy::Manual;
        if work.removed.contains(&step.canonical) {
            // Our tailer will publish that we removed the row, newer than everything in this group: what comes after it
            // in the group has lost already. To write it would leave it here and nowhere else.
            let own = Version { hlc: group.mark.hlc.next(), node: self.options.cluster.own_rank() };
            work.done.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, own),
                kind: ConflictKind::UniqueTaken,
                key: step.key.clone(),
                winner: Side { origin: self.options.cluster.own().clone(), hlc: own.hlc, row: None },
                loser: Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) },
                open,
            });
            return Ok(Fate::LostToNewer);
        }
        let incoming = Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) };
        if let Some(entry) = entry
            && verdict.conflict()
        {
            let standing = Side {
                origin: self.options.cluster.name(entry.version.node).clone(),
                hlc: entry.version.hlc,
                row: held.map(|held| (held.key.clone(), held.image.clone())),
            };
            let kept_here = verdict.wins() && self.keeps_its_own(policy, entry.version.node, group.node);
            let (winner, loser) = if verdict.wins() && !kept_here { (incoming, standing) } else { (standing, incoming) };
            work.done.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, entry.version),
                kind: kind(change.op, held.is_some()),
                key: step.key.clone(),
                winner,
                loser,
                open,
            });
            if kept_here {
                // Once: later changes of the group to this row lose to the same write of ours.
                if work.kept.insert(step.canonical.clone()) {
                    work.rewrites.push(Rewrite { change: held.map_or_else(|| delete_of(&step.key), put_of) });
                }
                return Ok(Fate::LostToNewer);
            }
        }
        if !verdict.wins() {
            return Ok(Fate::LostToNewer);
        }
        if let Write::Put(wanted) = &step.write
            && collides
            && !self.clear_unique(transaction, group, step, wanted, trouble, rows, work).await?
        {
            rows.note(&step.canonical, version);
            return Ok(Fate::LostToNewer);
        }
        match transaction.write(std::slice::from_ref(&step.write)).await {
            Ok(()) => {
                rows.note(&step.canonical, version);
                Ok(Fate::Applied)
            }
            Err(WriteError { error: TargetError::UniqueTaken { .. }, .. }) if trouble.surprises < SURPRISES => {
                work.surprised = true;
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                work.failed.insert(step.at, error.to_string());
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }

    /// Settles the rows that hold a unique value which this change wants. The smaller version loses its row, here and,
    /// by a published delete, everywhere. False where the change itself lost.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn clear_unique(
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
        if holders.iter().any(|(_, key)| !rows.held.contains_key(key)) && trouble.surprises < SURPRISES {
            work.surprised = true;
            return Ok(false);
        }
        // What is not in the index is older than whatever comes.
        let unwritten = Version { hlc: Hlc::default(), node: self.options.cluster.own_rank() };
        let mut newer = None;
        let mut older = Vec::with_capacity(holders.len());
        for (held, key) in &holders {
            let own = rows.entry(key, self.index)?.map_or(unwritten, |entry| entry.version);
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
            work.done.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, own),
                kind: ConflictKind::UniqueTaken,
                key: step.key.clone(),
                winner: side(own, held),
                loser: incoming,
                open,
            });
            work.remove(transaction, step.at, &step.key, &step.canonical).await?;
            return Ok(false);
        }
        for (held, key, own) in older {
            work.done.conflicts.push(Conflict {
                id: conflict_id(key, version, own),
                kind: ConflictKind::UniqueTaken,
                key: held.key.clone(),
                winner: incoming.clone(),
                loser: side(own, held),
                open,
            });
            work.remove(transaction, step.at, &held.key, key).await?;
        }
        Ok(true)
    }

    /// Policy `prefer`: our own write stands although the other is newer, and we publish it again.
    fn keeps_its_own(&self, policy: &Policy, standing: NodeRank, incoming: NodeRank) -> bool {
        let Policy::Prefer(order) = policy else { return false };
        let place = |node| order.iter().position(|name| name == self.options.cluster.name(node)).unwrap_or(order.len());
        standing == self.options.cluster.own_rank() && place(standing) < place(incoming)
    }
}

/// Commits what is to be committed; anything else is rolled back.
async fn end(transaction: Box<dyn ApplyTransaction>, attempt: Result<Attempt, ApplyError>) -> Result<Attempt, ApplyError> {
    if let Ok(Attempt::Committed(_)) = attempt {
        transaction.commit().await?;
    } else {
        transaction.rollback().await;
    }
    attempt
}

impl Trouble {
    /// True where the record has failed as often as it may: it is set aside.
    fn gives_up(&self, at: usize, options: &ApplyOptions) -> bool {
        self.failures.get(&at).is_some_and(|(attempts, _)| *attempts >= options.attempts)
    }

    /// Counts an attempt that these records failed.
    pub fn count(&mut self, failed: BTreeMap<usize, String>) {
        for (at, reason) in failed {
            let failure = self.failures.entry(at).or_default();
            *failure = (failure.0 + 1, reason);
        }
    }
}

/// What one settling has to do besides writing rows.
#[derive(Default)]
struct Work {
    done: Committed,
    rewrites: Vec<Rewrite>,
    /// Rows that were removed to settle a unique value, and will be published as removed.
    removed: BTreeSet<CanonicalKey>,
    /// Rows of ours that stand by preference.
    kept: BTreeSet<CanonicalKey>,
    failed: BTreeMap<usize, String>,
    /// A row that we had not locked holds a unique value: start again, and lock it too.
    surprised: bool,
}

impl Work {
    /// Removes a row here, and has the tailer publish that.
    async fn remove(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        at: usize,
        key: &RowKey,
        canonical: &CanonicalKey,
    ) -> Result<(), ApplyError> {
        match transaction.write(&[Write::Delete(key.clone())]).await {
            Ok(()) => {
                // Once, however many changes of the group the row stands against.
                if self.removed.insert(canonical.clone()) {
                    self.rewrites.push(Rewrite { change: delete_of(key) });
                }
                Ok(())
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                self.failed.insert(at, error.to_string());
                Ok(())
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }
}

fn image_of(step: &Step) -> Option<(RowKey, Image)> {
    match &step.write {
        Write::Put(change) => {
            change.after.clone().map(|image| (RowKey { shape: change.shape.clone(), ..step.key.clone() }, image))
        }
        Write::Delete(_) => None,
    }
}

/// The row as it is held, as a change that publishes it anew.
fn put_of(held: &Held) -> Change {
    Change {
        shape: held.key.shape.clone(),
        op: Op::Update,
        before: None,
        after: Some(held.image.clone()),
        checks: Default::default(),
    }
}

fn kind(op: Op, exists: bool) -> ConflictKind {
    match (op, exists) {
        (Op::Delete, true) => ConflictKind::DeleteOriginDiffers,
        (Op::Delete, false) => ConflictKind::DeleteMissing,
        (Op::Insert, true) => ConflictKind::InsertExists,
        (_, true) => ConflictKind::UpdateOriginDiffers,
        (_, false) => ConflictKind::UpdateMissing,
    }
}

/// The same on every node: made of the row and the two versions, whichever came first here.
fn conflict_id(key: &CanonicalKey, one: Version, other: Version) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (key, one.min(other), one.max(other)).hash(&mut hasher);
    format!("c-{:016x}", hasher.finish())
}
