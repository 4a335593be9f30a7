//! The apply transaction: two ways to the same end.
//!
//! Where nothing stands against a group it is written straight away and the decision is checked after it, before the
//! commit: the written rows are locked then, so no competing write can be missed. Where something does (a newer or an
//! unseen write, a unique value that is taken, a row that cannot be written), the rows are locked first and settled
//! one by one, with what they held.

use std::collections::BTreeMap;

use super::decide::{Entry, Verdict, decide};
use super::engine::Engine;
use super::existing::agree;
use super::group::Group;
use super::refer::{Cleared, alone, asks};
use super::rows::{Rows, holders};
use super::step::{Step, delete_of};
use super::work::{Tally, Work};
use super::{ApplyError, ApplyOptions, OverflowError, Policy};
use crate::change::{Change, Hlc, Image, NodeRank, Offset, Op, RowKey, Version};
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, ConflictKind, DeadLetter, Held, Side, TargetError, Write, WriteError,
};

/// Times that a unique value may turn out to be held by a row that was not locked before the position was read, until
/// the change is treated as one that cannot be written. Each needs a writer who commits in between, so two in a row are
/// rare.
const SURPRISES: u32 = 20;

/// How an attempt ended. But for the first, nothing was written.
pub enum Attempt {
    Committed(Tally),
    /// Something stands against the group: settle it row by row.
    Settle,
    /// The local tailer did not catch up in time.
    TailerBehind,
    /// A unique value was taken by a row that was not locked: try again at once, and lock it.
    Surprised,
    /// Some records failed: try again after a while; past the limit they are set aside.
    Failed,
}

/// How the settling of some rows ended, within its transaction.
pub enum Settled {
    /// What became of each step. Nothing is to be committed if the work holds failures.
    Done(Vec<Fate>),
    TailerBehind,
}

/// Earlier attempts to apply the same records.
#[derive(Default)]
pub struct Trouble {
    /// Per record: attempts that failed, and the last reason.
    failures: BTreeMap<Offset, (u32, String)>,
    /// How often a unique value was taken by a row that we had not locked. From the first time on, holders are looked
    /// for before every write.
    surprises: u32,
    /// Rows that turned out to be needed, and are locked with those of the group from then on. Each attempt would come to them
    /// again only after what the group itself has written.
    missed: BTreeMap<CanonicalKey, RowKey>,
}

impl Trouble {
    /// The attempts and the last reason of a record that has failed as often as it may: it is set aside.
    pub fn gives_up(&self, record: Offset, options: &ApplyOptions) -> Option<(u32, &str)> {
        let (attempts, reason) = self.failures.get(&record)?;
        (*attempts >= options.attempts).then_some((*attempts, reason))
    }

    pub fn failed(&self, record: Offset) -> bool {
        self.failures.contains_key(&record)
    }

    pub fn missed(&self) -> &BTreeMap<CanonicalKey, RowKey> {
        &self.missed
    }

    pub fn patient(&self) -> bool {
        self.surprises < SURPRISES
    }

    /// Counts what went wrong in an attempt. `None` where nothing did, and it can be committed.
    pub fn count(&mut self, work: &mut Work) -> Option<Attempt> {
        if work.surprised {
            self.surprises += 1;
            self.missed.append(&mut work.missed);
        }
        let failed = !work.failed.is_empty();
        for (record, reason) in std::mem::take(&mut work.failed) {
            let failure = self.failures.entry(record).or_default();
            *failure = (failure.0 + 1, reason);
        }
        match (failed, work.surprised) {
            (true, _) => Some(Attempt::Failed),
            (false, true) => Some(Attempt::Surprised),
            (false, false) => None,
        }
    }
}

impl Engine<'_> {
    fn verdict(&self, group: &Group, step: &Step, entry: Option<&Entry>) -> Verdict {
        let seen = &group.records[step.at].1.seen;
        decide(group.version(step.at), seen, entry, &self.options.cluster)
    }

    pub fn undisputed(&self, group: &Group, steps: &[Step]) -> Result<bool, OverflowError> {
        for step in steps.iter().filter(|step| !step.is_keyless()) {
            let entry = self.index.get(&step.canonical)?;
            let blind = entry.is_none() && self.is_blind(group, step);
            if blind
                || self.is_unheard_of(entry.as_ref())
                || self.verdict(group, step, entry.as_ref()) != (Verdict::Win { conflict: false })
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether its author may not have seen a write of the row that is in what a topic no longer keeps: it comes back after that. Not
    /// where this node is seeded: what stands here is no newer one than what comes, and is never told to others.
    fn may_have_missed(&self, group: &Group, step: &Step) -> bool {
        self.missed_up_to(group, step).is_some()
    }

    /// Whether that may have been a newer one.
    fn is_blind(&self, group: &Group, step: &Step) -> bool {
        self.missed_up_to(group, step).is_some_and(|clock| group.records[step.at].1.hlc <= clock)
    }

    /// The clock up to which there may be such writes.
    fn missed_up_to(&self, group: &Group, step: &Step) -> Option<Hlc> {
        if self.seed.is_some() {
            return None;
        }
        let seen = &group.records[step.at].1.seen;
        let missed = |node: NodeRank| {
            let (first, clock) = self.purged.get(usize::from(node.0)).copied().flatten()?;
            (seen.end(self.options.cluster.name(node)) < first).then_some(clock)
        };
        self.options.cluster.ranks().filter(|&node| node != group.node).filter_map(missed).max()
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
        if self.anything_refers(transaction, group, steps).await? {
            return Ok(Attempt::Settle);
        }
        let mut tally = Tally::default();
        group.park(transaction, &mut tally).await?;
        let writes: Vec<Write> = steps.iter().map(|step| step.write.clone()).collect();
        self.busy.notify_one();
        match transaction.write(&writes).await {
            Ok(()) => {}
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => return Ok(Attempt::Settle),
            Err(WriteError { error, .. }) => return Err(error.into()),
        }
        let Some(waited) = self.know_all(transaction).await? else { return Ok(Attempt::TailerBehind) };
        if !self.undisputed(group, steps)? || self.anything_tied(transaction, group, steps).await? {
            return Ok(Attempt::Settle);
        }
        tally.waited = waited;
        tally.count(group, steps, &vec![Fate::Applied; steps.len()]);
        Ok(Attempt::Committed(tally))
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
        let mut work = Work::default();
        group.park(transaction, &mut work.tally).await?;
        let fates = match self.settle_rows(transaction, group, steps, trouble, &mut work).await? {
            Settled::Done(fates) => fates,
            Settled::TailerBehind => return Ok(Attempt::TailerBehind),
        };
        if let Some(again) = trouble.count(&mut work) {
            return Ok(again);
        }
        if group.again && !fates.contains(&Fate::SetAside) {
            work.mended = group.records.iter().map(|(offset, _)| (group.origin.clone(), *offset)).collect();
        }
        work.keep(transaction).await?;
        work.tally.count(group, steps, &fates);
        Ok(Attempt::Committed(work.tally))
    }

    /// Settles some rows of a transaction: all of a group, or a part of one that is too large for memory.
    pub async fn settle_rows(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
        trouble: &Trouble,
        work: &mut Work,
    ) -> Result<Settled, ApplyError> {
        let mut rows = Rows::lock(transaction, steps, trouble.missed()).await?;
        rows.won = std::mem::take(&mut work.won);
        let mut collides = trouble.surprises > 0;
        for step in steps {
            if let Write::Put(change) = &step.write
                && trouble.gives_up(group.offset(step.at), self.options).is_none()
                && !(step.is_existing_row() && rows.held(&step.canonical).is_some_and(|held| agree(change, held)))
            {
                let held = holders(transaction, change).await?;
                collides |= !held.is_empty();
                for held in &held {
                    self.lock_referring(transaction, &held.key, None, true, &mut rows).await?;
                }
                rows.add(self.target, held).await?;
            }
        }
        for step in steps {
            if let Some(becomes) = asks(group, step) {
                self.lock_referring(transaction, &step.key, becomes, false, &mut rows).await?;
                self.lock_tied(transaction, group, step, &mut rows).await?;
            }
            if collides && !step.is_keyless() {
                self.lock_referring(transaction, &step.key, None, true, &mut rows).await?;
            }
        }
        let Some(waited) = self.know_all(transaction).await? else { return Ok(Settled::TailerBehind) };
        work.tally.waited += waited;
        let mut fates = Vec::with_capacity(steps.len());
        for step in steps {
            fates.push(self.settle_step(transaction, group, step, trouble, collides, &mut rows, work).await?);
        }
        if let Some(last) = steps.last() {
            self.remove_late(transaction, group, last, trouble, &rows, work).await?;
        }
        work.won = rows.won;
        Ok(Settled::Done(fates))
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
        let at = group.offset(step.at);
        if let Some((attempts, reason)) = trouble.gives_up(at, self.options) {
            if work.dead_letters.last().is_none_or(|letter| letter.offset != at) {
                work.dead_letters.push(dead_letter(group, step.at, attempts, reason));
            }
            return Ok(Fate::SetAside);
        }
        if step.is_keyless() {
            return self.settle_keyless(transaction, group, step, work).await;
        }
        if step.is_existing_row() {
            return self.settle_existing(transaction, group, step, trouble, rows, work).await;
        }
        if !self.answer_for_tied(transaction, group, step, trouble, rows, work).await? {
            return Ok(Fate::SetAside);
        }
        let version = group.version(step.at);
        let change = group.change(step.at);
        let policy = self.options.policy(change.table());
        let held = rows.held(&step.canonical);
        let open = *policy == Policy::Manual;
        let incoming = Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) };
        if work.published.contains_key(&step.canonical) {
            let own = group.version_of_rewrites(self.options.cluster.own_rank());
            work.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, own),
                kind: kind(change.op, held.is_some()),
                key: step.key.clone(),
                winner: Side { origin: self.options.cluster.own().clone(), hlc: own.hlc, row: None },
                loser: incoming,
                open,
            });
            self.lost_referring(transaction, group, step, None, trouble, rows, work).await?;
            return Ok(Fate::LostToNewer);
        }
        let entry = rows.entry(&step.canonical, self.index)?;
        if entry.is_none() && !step.is_existing_row() && self.is_blind(group, step) && !knew(change, held) {
            // Nobody can say any more which write is the newer one: the row that stands goes to all, the other is kept.
            let own = group.version_of_rewrites(self.options.cluster.own_rank());
            let row = held.map(|held| (held.key.clone(), held.image.clone()));
            work.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, own),
                kind: kind(change.op, held.is_some()),
                key: step.key.clone(),
                winner: Side { origin: self.options.cluster.own().clone(), hlc: own.hlc, row },
                loser: incoming,
                open,
            });
            work.publish(&step.canonical, held.map_or_else(|| delete_of(&step.key), put_of));
            self.lost_referring(transaction, group, step, None, trouble, rows, work).await?;
            return Ok(Fate::LostToNewer);
        }
        if let Some(held) = held.filter(|held| entry.is_none() && !knew_whole(change, held))
            && self.may_have_missed(group, step)
        {
            // The change is the newer one, but what it replaces was no longer in the index, so that it is kept by its image alone.
            let own = self.options.cluster.own_rank();
            let stood = Version { hlc: Hlc::default(), node: own };
            work.conflicts.push(Conflict {
                id: conflict_id(&step.canonical, version, stood),
                kind: kind(change.op, true),
                key: step.key.clone(),
                winner: incoming.clone(),
                loser: Side {
                    origin: self.options.cluster.own().clone(),
                    hlc: Hlc::default(),
                    row: Some((held.key.clone(), held.image.clone())),
                },
                open,
            });
        }
        let verdict = self.verdict(group, step, entry.as_ref());
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
            // Both may have written the same, and then nobody lost anything; nor where a row stands against the emptying of its table.
            let lost_to_row = match verdict.wins() {
                true => !kept_here && self.index.is_emptied(&step.canonical, &entry),
                false => group.empties,
            };
            if !lost_to_row && !held.is_some_and(|held| agree(change, held)) {
                work.conflicts.push(Conflict {
                    id: conflict_id(&step.canonical, version, entry.version),
                    kind: kind(change.op, held.is_some()),
                    key: step.key.clone(),
                    winner,
                    loser,
                    open,
                });
            }
            if kept_here {
                work.publish(&step.canonical, held.map_or_else(|| delete_of(&step.key), put_of));
                self.lost_referring(transaction, group, step, None, trouble, rows, work).await?;
                return Ok(Fate::LostToNewer);
            }
        }
        if !verdict.wins() {
            if verdict.conflict() {
                self.lost_referring(transaction, group, step, entry, trouble, rows, work).await?;
            }
            return Ok(Fate::LostToNewer);
        }
        if let Some(held) = held.filter(|held| self.is_unheard_of(entry.as_ref()) && !knew_whole(change, held)) {
            let arrives = Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) };
            self.keep_unheard_of(kind(change.op, true), &step.canonical, held, arrives, work);
        }
        if verdict.conflict() {
            rows.won.insert(step.canonical.clone(), Entry { version, offset: at });
        }
        if group.again && self.is_referred(transaction, group, step).await? {
            work.failed.insert(at, format!("{}: other rows here still refer to it, and came after it", change.table()));
            return Ok(Fate::SetAside);
        }
        let cleared = self.clear_referring(transaction, group, step, trouble, rows, work).await?;
        match cleared {
            Cleared::Free | Cleared::Alone => {}
            Cleared::Stays => return Ok(Fate::LostToNewer),
            Cleared::Not => return Ok(Fate::SetAside),
        }
        if let Write::Put(wanted) = &step.write
            && collides
            && !self.clear_unique(transaction, group, step, wanted, trouble, rows, work).await?
        {
            rows.note(&step.canonical, version, at);
            return Ok(Fate::LostToNewer);
        }
        let write = if cleared == Cleared::Alone { alone(&step.write) } else { step.write.clone() };
        let written = match transaction.write(std::slice::from_ref(&write)).await {
            // It was there where this change was made. Who deleted it since will hear of this change, and its author of the
            // delete: see `refer`.
            Err(WriteError { error: TargetError::ParentMissing { .. }, .. }) if !group.again => {
                transaction.write(&[alone(&write)]).await
            }
            other => other,
        };
        match written {
            Ok(()) => {
                rows.note(&step.canonical, version, at);
                Ok(Fate::Applied)
            }
            Err(WriteError { error: TargetError::UniqueTaken { .. }, .. }) if trouble.patient() => {
                work.surprised = true;
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                work.failed.insert(at, error.to_string());
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }

    /// Policy `prefer`: our own write stands although the other is newer, and we publish it again.
    fn keeps_its_own(&self, policy: &Policy, standing: NodeRank, incoming: NodeRank) -> bool {
        let Policy::Prefer(order) = policy else { return false };
        let place = |node| order.iter().position(|name| name == self.options.cluster.name(node)).unwrap_or(order.len());
        standing == self.options.cluster.own_rank() && place(standing) < place(incoming)
    }
}

/// Commits what is to be committed; anything else is rolled back.
pub async fn end(transaction: Box<dyn ApplyTransaction>, attempt: Result<Attempt, ApplyError>) -> Result<Attempt, ApplyError> {
    if let Ok(Attempt::Committed(_)) = attempt {
        transaction.commit().await?;
    } else {
        transaction.rollback().await;
    }
    attempt
}

pub fn image_of(step: &Step) -> Option<(RowKey, Image)> {
    match &step.write {
        Write::Put(change) => {
            change.after.clone().map(|image| (RowKey { shape: change.shape.clone(), ..step.key.clone() }, image))
        }
        Write::Delete(_) | Write::DeleteAlone(_) | Write::Whole(_) => None,
    }
}

/// Whether the row stands here as the change's author had it before, or as the change wants it.
fn knew(change: &Change, held: Option<&Held>) -> bool {
    let Some(held) = held else { return matches!(change.op, Op::Insert | Op::Delete) };
    let as_before = change
        .before
        .as_ref()
        .is_some_and(|before| agree(&Change { after: Some(before.clone()), before: None, ..change.clone() }, held));
    as_before || change.after.is_some() && agree(change, held)
}

/// The same, of each column that the row has here: nothing of it is lost that the change's author had not seen.
fn knew_whole(change: &Change, held: &Held) -> bool {
    let told_all =
        change.before.as_ref().is_some_and(Image::is_full) && change.shape.columns.len() >= held.key.shape.columns.len();
    change.after.is_some() && agree(change, held) || told_all && knew(change, Some(held))
}

/// The row as it is held, as a change that publishes it anew.
pub fn put_of(held: &Held) -> Change {
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
pub fn conflict_id(key: &CanonicalKey, one: Version, other: Version) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (key, one.min(other), one.max(other)).hash(&mut hasher);
    format!("c-{:016x}", hasher.finish())
}

pub fn dead_letter(group: &Group, at: usize, attempts: u32, reason: &str) -> DeadLetter {
    let (offset, record) = &group.records[at];
    DeadLetter {
        origin: group.origin.clone(),
        offset: *offset,
        gtid: record.gtid,
        hlc: record.hlc,
        change: group.change(at).clone(),
        reason: reason.to_owned(),
        attempts,
    }
}
