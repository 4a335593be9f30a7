//! Foreign keys: what refers to a row that goes, and who answers for it.
//!
//! A cascade is in nobody's binlog, so each node does it again: rows whose last write the delete had seen follow it, and
//! nothing is published. For a row that was written without knowing of the delete its author answers, the node that wrote
//! it: it publishes what becomes of it, or, where the foreign key forbids the delete, the deleted row. Every other node
//! leaves such a row as the topics have it, and the author's record comes. So what a row is depends on the topics alone.
//! Where a delete loses to a write of the row itself, that write's author publishes the rows that went with it elsewhere.
//! See docs/decisions/0011.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::ApplyError;
use super::decide::Entry;
use super::engine::Engine;
use super::group::Group;
use super::rows::Rows;
use super::settle::{Trouble, conflict_id, image_of};
use super::step::{Step, canonical, delete_of};
use super::ties::stands;
use super::work::Work;
use crate::change::{Change, Checks, Cluster, Image, NodeRank, Op, RowKey, Seen, Version};
use crate::runtime::{Disposition, Fault};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, ConflictKind, Follows, Held, Side, TargetError, Write, WriteError,
};
use crate::topic::TopicError;

/// A row that refers, directly or over others, to one that goes.
pub struct Referring {
    pub held: Held,
    pub canonical: CanonicalKey,
    follows: Follows,
    /// The one that it refers to, by its place in the list; `None` for the row that all this is about.
    of: Option<usize>,
}

/// What has been done about the rows that refer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cleared {
    /// There were none.
    Free,
    /// They follow, or their authors will say: the row is written without a look at foreign keys.
    Alone,
    /// Our decision stands against the delete: nothing is to be written.
    Stays,
    /// Nothing can be done now; the work says why.
    Not,
}

/// Who says what becomes of a row that refers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    /// The delete had seen it.
    Known,
    /// We wrote it, and the delete had not seen that.
    Own,
    /// Another wrote it, and it refers to one whose delete we publish: that has seen it.
    Under,
    Another,
}

/// The deletes by which a row is gone: what one of them had seen is known to have gone with it.
#[derive(Default)]
pub struct Deleters {
    /// One is ours and to be published: it will have seen all that is here.
    to_come: bool,
    /// Records of nodes, and what they had seen.
    records: Vec<(NodeRank, Arc<Seen>)>,
}

impl Deleters {
    fn step(group: &Group, step: &Step) -> Self {
        Self { to_come: false, records: vec![(group.node, group.records[step.at].1.seen.clone())] }
    }

    fn knew(&self, write: &Entry, cluster: &Cluster) -> bool {
        let node = write.version.node;
        let knew = |(deleter, seen): &(NodeRank, Arc<Seen>)| *deleter == node || seen.has(cluster.name(node), write.offset);
        self.to_come || self.records.iter().any(knew)
    }
}

impl Engine<'_> {
    /// All rows that would have to follow, nearest first, locked. `through` goes on behind rows that would forbid it.
    pub async fn referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        key: &RowKey,
        becomes: Option<&Change>,
        through: bool,
    ) -> Result<Vec<Referring>, ApplyError> {
        let mut found: Vec<Referring> = Vec::new();
        let mut met: BTreeSet<CanonicalKey> = BTreeSet::new();
        let mut next = None;
        loop {
            let (key, becomes) = match next {
                None => (key.clone(), becomes),
                Some(at) => {
                    let referring: &Referring = &found[at];
                    (referring.held.key.clone(), None)
                }
            };
            let goes_on = next.is_none_or(|at: usize| match found[at].follows {
                Follows::Goes => true,
                Follows::Blocks => through,
                Follows::Becomes(_) => false,
            });
            if goes_on {
                let referrers = match transaction.referrers(&key, becomes).await {
                    Err(error) if is_dead_letter(&error) => Vec::new(),
                    other => other?,
                };
                let keys: Vec<RowKey> = referrers.iter().map(|referrer| referrer.held.key.clone()).collect();
                if !keys.is_empty() {
                    for (referrer, canonical) in referrers.into_iter().zip(canonical(self.target, &keys).await?) {
                        if met.insert(canonical.clone()) {
                            found.push(Referring { held: referrer.held, canonical, follows: referrer.follows, of: next });
                        }
                    }
                }
            }
            let after = next.map_or(0, |at| at + 1);
            if after == found.len() {
                return Ok(found);
            }
            next = Some(after);
        }
    }

    /// True where a row would, or might, have to follow one of the steps.
    pub async fn anything_refers(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        steps: &[Step],
    ) -> Result<bool, ApplyError> {
        // Earlier steps may let rows of another table refer to the row of a later one.
        let several = steps.windows(2).any(|pair| pair[0].key.table() != pair[1].key.table());
        for step in steps {
            let Some(becomes) = asks(group, step) else { continue };
            if transaction.is_referred(step.key.table(), becomes).await?
                && (several || !transaction.referrers(&step.key, becomes).await?.is_empty())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Locks what refers to a row, before the position is read.
    pub async fn lock_referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        key: &RowKey,
        becomes: Option<&Change>,
        through: bool,
        rows: &mut Rows,
    ) -> Result<(), ApplyError> {
        let found = self.referring(transaction, key, becomes, through).await?;
        rows.add_known(found.into_iter().map(|referring| (referring.canonical, Some(referring.held))));
        Ok(())
    }

    /// Settles what refers to the row of a step that has won and takes it away, or gives it another key.
    pub async fn clear_referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Cleared, ApplyError> {
        match asks(group, step) {
            Some(becomes) => {
                self.clear_of(transaction, group, step, becomes, &Deleters::step(group, step), trouble, rows, work).await
            }
            None => Ok(Cleared::Free),
        }
    }

    /// Whether rows here would have to follow the step. Of a change that comes late nobody knows any more whether it had
    /// seen them.
    pub async fn is_referred(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
    ) -> Result<bool, ApplyError> {
        let Some(becomes) = asks(group, step) else { return Ok(false) };
        Ok(!self.referring(transaction, &step.key, becomes, true).await?.is_empty())
    }

    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn clear_of(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        becomes: Option<&Change>,
        deleters: &Deleters,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<Cleared, ApplyError> {
        let found = self.referring(transaction, &step.key, becomes, false).await?;
        if found.is_empty() {
            return Ok(Cleared::Free);
        }
        if surprised(keys(&found), rows, trouble, work) {
            return Ok(Cleared::Not);
        }
        let mut authors: Vec<Option<Author>> = Vec::with_capacity(found.len());
        for referring in &found {
            let of = referring.of.map(|of| authors[of]);
            authors.push(match of {
                // What refers to a row that is left as it is is left, too.
                Some(None | Some(Author::Another)) => None,
                None | Some(Some(Author::Known)) => Some(self.author(deleters, referring, rows, work)?),
                Some(Some(Author::Own | Author::Under)) => Some(match self.author(deleters, referring, rows, work)? {
                    Author::Another => Author::Under,
                    // The delete that came knew it elsewhere, or it would have been forbidden; ours it does forbid.
                    Author::Known if referring.follows == Follows::Blocks => Author::Under,
                    author => author,
                }),
            });
        }
        let ours = |(referring, author): (&Referring, &Option<Author>)| {
            referring.follows == Follows::Blocks && matches!(author, Some(Author::Own | Author::Under))
        };
        if let Some(at) = found.iter().zip(&authors).position(ours) {
            return self.stays(transaction, group, step, &found, at, trouble, rows, work).await;
        }
        for (referring, author) in found.iter().zip(authors).rev() {
            match author {
                // One that forbids it had gone there in silence, and will come again or go here too.
                Some(Author::Known) if referring.follows == Follows::Blocks => {}
                Some(Author::Known) => follow(transaction, referring).await?,
                Some(Author::Under) => {
                    work.conflicts.push(self.followed(group, step, referring, rows)?);
                    follow(transaction, referring).await?;
                }
                Some(Author::Own) => {
                    work.conflicts.push(self.followed(group, step, referring, rows)?);
                    follow(transaction, referring).await?;
                    work.publish(&referring.canonical, followed_by(referring));
                }
                Some(Author::Another) | None => {}
            }
        }
        Ok(Cleared::Alone)
    }

    /// A change that lost against the winner (`None`: a write of ours that is to be published): where the row stands by a write
    /// of ours, so do those that refer to it. Where a delete of it won, what the change itself has brought about follows that, as
    /// where these were made: what a delete that lost took along, and what an ON UPDATE CASCADE of it let refer to the row, which
    /// nobody will answer for. All else that refers to the row has been asked about already, or has an author who answers.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    pub async fn lost_referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        winner: Option<Entry>,
        trouble: &Trouble,
        rows: &mut Rows,
        work: &mut Work,
    ) -> Result<(), ApplyError> {
        if group.change(step.at).checks.foreign_keys_off {
            return Ok(());
        }
        let stands = transaction.lock(std::slice::from_ref(&step.key)).await?.pop().flatten().is_some();
        let ours = winner.is_none_or(|winner| winner.version.node == self.options.cluster.own_rank());
        match (stands, ours) {
            (true, true) => self.keep_referring(transaction, group, step, trouble, rows, work).await,
            (true, false) => Ok(()),
            (false, _) => {
                let deletes = group.change(step.at).op == Op::Delete;
                if winner.is_some() && !deletes && !self.arrives(group, step).await? {
                    return Ok(());
                }
                let mut deleters = self.deleters(winner).await?;
                if deletes {
                    deleters.records.append(&mut Deleters::step(group, step).records);
                }
                self.clear_of(transaction, group, step, None, &deleters, trouble, rows, work).await.map(drop)
            }
        }
    }

    /// True where the change gave the row this key in place of another.
    async fn arrives(&mut self, group: &Group, step: &Step) -> Result<bool, ApplyError> {
        let Some(left) = group.change(step.at).moved_from() else { return Ok(false) };
        Ok(canonical(self.target, &[left]).await?.first() != Some(&step.canonical))
    }

    /// The delete that won. What its topic no longer keeps all have seen, or are seeded anew.
    async fn deleters(&mut self, winner: Option<Entry>) -> Result<Deleters, ApplyError> {
        let to_come = Deleters { to_come: true, records: Vec::new() };
        let Some(Entry { version, offset }) = winner else { return Ok(to_come) };
        match self.reader.read(self.options.cluster.name(version.node), offset, 1, Duration::ZERO).await {
            Ok(records) => Ok(match records.first() {
                Some((_, record)) => Deleters { to_come: false, records: vec![(version.node, record.seen.clone())] },
                None => to_come,
            }),
            Err(TopicError::Gone { .. }) => Ok(to_come),
            Err(error) => Err(error.into()),
        }
    }

    /// A row of ours stands although it was deleted elsewhere, and took others with it there: they are published, too.
    pub async fn keep_referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        rows: &Rows,
        work: &mut Work,
    ) -> Result<(), ApplyError> {
        let Some(becomes) = asks(group, step) else { return Ok(()) };
        let found = self.referring(transaction, &step.key, becomes, false).await?;
        if !surprised(keys(&found), rows, trouble, work) {
            publish_all(work, &found);
        }
        Ok(())
    }

    /// Takes a row's referrers away before the row itself is removed by our own decision, as its deletion by an application
    /// would; those that would forbid that are removed like it. False where it must be tried again.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    pub async fn remove_referring(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        key: &RowKey,
        trouble: &Trouble,
        rows: &Rows,
        work: &mut Work,
    ) -> Result<bool, ApplyError> {
        let found = self.referring(transaction, key, None, true).await?;
        if surprised(keys(&found), rows, trouble, work) {
            return Ok(false);
        }
        for referring in found.iter().rev() {
            match &referring.follows {
                Follows::Goes | Follows::Becomes(_) => {
                    follow(transaction, referring).await?;
                    if referring.follows == Follows::Goes {
                        work.went_along.insert(referring.canonical.clone(), referring.held.key.clone());
                    }
                }
                Follows::Blocks => {
                    work.conflicts.push(self.followed(group, step, referring, rows)?);
                    write(transaction, Write::DeleteAlone(referring.held.key.clone())).await?;
                    work.publish(&referring.canonical, delete_of(&referring.held.key));
                }
            }
        }
        Ok(true)
    }

    /// A row may have come to refer, in the same commit, to one that was removed by our decision. The delete which we publish will
    /// have seen that, so nobody else answers for it: it follows, or is removed, too, where it would have forbidden the removal.
    pub async fn remove_late(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        trouble: &Trouble,
        rows: &Rows,
        work: &mut Work,
    ) -> Result<(), ApplyError> {
        let mut gone: Vec<RowKey> = work.gone.values().cloned().collect();
        for (canonical, key) in &work.went_along {
            // It may have come back, and others to it.
            if !work.gone.contains_key(canonical) && !stands(transaction, key).await? {
                gone.push(key.clone());
            }
        }
        for key in gone {
            let found = self.referring(transaction, &key, None, true).await?;
            if surprised(keys(&found), rows, trouble, work) {
                return Ok(());
            }
            for referring in found.iter().rev() {
                work.conflicts.push(self.followed(group, step, referring, rows)?);
                follow(transaction, referring).await?;
                if referring.follows == Follows::Blocks || work.published.contains_key(&referring.canonical) {
                    work.publish(&referring.canonical, followed_by(referring));
                }
            }
        }
        Ok(())
    }

    fn author(&self, deleters: &Deleters, referring: &Referring, rows: &Rows, work: &Work) -> Result<Author, ApplyError> {
        if work.published.contains_key(&referring.canonical) {
            return Ok(Author::Own);
        }
        let cluster = &self.options.cluster;
        Ok(match rows.entry(&referring.canonical, self.index)? {
            None => Author::Known,
            Some(write) if deleters.knew(&write, cluster) => Author::Known,
            Some(write) if write.version.node == cluster.own_rank() && !self.options.ablation.no_author => Author::Own,
            Some(_) => Author::Another,
        })
    }

    /// The row stays because of a row of ours: it is published anew, with all that went with it elsewhere. Where it refers itself to
    /// one that is gone, nobody would take it away any more: it goes by our decision, and what refers to it.
    #[expect(clippy::too_many_arguments, reason = "one step of a loop, with all that the loop carries")]
    async fn stays(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        found: &[Referring],
        because: usize,
        trouble: &Trouble,
        rows: &Rows,
        work: &mut Work,
    ) -> Result<Cleared, ApplyError> {
        // As it is now: earlier changes of the group may have written it.
        let held = transaction.lock(std::slice::from_ref(&step.key)).await?.pop().flatten();
        let Some(held) = held else { return Ok(Cleared::Alone) };
        let lacks_parent = match transaction.lacks_parent(&held).await {
            // Of a table that is not here at all nobody can say: the row stays.
            Err(error) if is_dead_letter(&error) => false,
            other => other?,
        };
        if lacks_parent {
            if !self.remove_referring(transaction, group, step, &step.key, trouble, rows, work).await? {
                return Ok(Cleared::Not);
            }
            work.remove(transaction, group.offset(step.at), &step.key, &step.canonical).await?;
            return Ok(Cleared::Stays);
        }
        let version = group.version(step.at);
        let entry = rows.entry(&found[because].canonical, self.index)?;
        let own = entry.map_or(group.version_of_rewrites(self.options.cluster.own_rank()), |entry| entry.version);
        work.conflicts.push(Conflict {
            id: conflict_id(&step.canonical, version, own),
            kind: ConflictKind::StillReferred,
            key: step.key.clone(),
            winner: Side {
                origin: self.options.cluster.own().clone(),
                hlc: own.hlc,
                row: Some((held.key.clone(), held.image.clone())),
            },
            loser: Side { origin: group.origin.clone(), hlc: version.hlc, row: image_of(step) },
            open: false,
        });
        work.publish(&step.canonical, becoming(&held, &held.image));
        publish_all(work, found);
        Ok(Cleared::Stays)
    }

    /// A row that another node's delete takes with it, or that goes because the one which it refers to had to.
    fn followed(&self, group: &Group, step: &Step, referring: &Referring, rows: &Rows) -> Result<Conflict, ApplyError> {
        let version = group.version(step.at);
        let entry = rows.entry(&referring.canonical, self.index)?;
        let own = self.options.cluster.own_rank();
        let standing = entry.map_or(Version { hlc: Default::default(), node: own }, |entry| entry.version);
        let held = &referring.held;
        Ok(Conflict {
            id: conflict_id(&referring.canonical, version, standing),
            kind: ConflictKind::ParentDeleted,
            key: held.key.clone(),
            winner: Side { origin: group.origin.clone(), hlc: version.hlc, row: None },
            loser: Side {
                origin: self.options.cluster.name(standing.node).clone(),
                hlc: standing.hlc,
                row: Some((held.key.clone(), held.image.clone())),
            },
            open: false,
        })
    }
}

/// What the row of a step becomes, where rows may refer to what it was: `None` inside where it goes. `None` where nothing has
/// to be asked: the row is new, or its origin had switched foreign keys off.
pub fn asks<'g>(group: &'g Group, step: &Step) -> Option<Option<&'g Change>> {
    let change = group.change(step.at);
    // Its foreign keys are left to the server.
    if step.is_keyless() {
        return None;
    }
    // Of a change that moves its row the first step asks; a key that is only spelled in another way stays what it was.
    let asked = matches!(step.write, Write::Put(_)) && change.moved_from().is_some();
    if change.checks.foreign_keys_off || matches!(change.op, Op::Insert | Op::Read) || asked {
        return None;
    }
    Some((change.op != Op::Delete).then_some(change))
}

pub fn is_dead_letter(error: &TargetError) -> bool {
    error.disposition() == Disposition::DeadLetter
}

fn keys(found: &[Referring]) -> impl Iterator<Item = (&CanonicalKey, &RowKey)> {
    found.iter().map(|referring| (&referring.canonical, &referring.held.key))
}

/// True where one of them was not locked before the position was read: the attempt is to be made again, with a lock of those.
pub fn surprised<'k>(
    found: impl IntoIterator<Item = (&'k CanonicalKey, &'k RowKey)>,
    rows: &Rows,
    trouble: &Trouble,
    work: &mut Work,
) -> bool {
    if !trouble.patient() {
        return false;
    }
    let missed = found.into_iter().filter(|(canonical, _)| !rows.held.contains_key(*canonical));
    let missed: Vec<_> = missed.map(|(canonical, key)| (canonical.clone(), key.clone())).collect();
    let surprised = !missed.is_empty();
    work.surprised |= surprised;
    work.missed.extend(missed);
    surprised
}

/// Does to a row what its foreign key says.
async fn follow(transaction: &mut dyn ApplyTransaction, referring: &Referring) -> Result<(), ApplyError> {
    let held = &referring.held;
    match &referring.follows {
        Follows::Goes | Follows::Blocks => write(transaction, Write::DeleteAlone(held.key.clone())).await,
        Follows::Becomes(image) => {
            let change = becoming(held, image);
            if let Some(left) = change.moved_from() {
                write(transaction, Write::DeleteAlone(left)).await?;
            }
            let checks = Checks { foreign_keys_off: true, ..Checks::default() };
            write(transaction, Write::Put(Change { checks, ..change })).await
        }
    }
}

/// What becomes of a row that follows, as a change to be published.
fn followed_by(referring: &Referring) -> Change {
    match &referring.follows {
        Follows::Becomes(image) => becoming(&referring.held, image),
        Follows::Goes | Follows::Blocks => delete_of(&referring.held.key),
    }
}

async fn write(transaction: &mut dyn ApplyTransaction, write: Write) -> Result<(), ApplyError> {
    transaction.write(std::slice::from_ref(&write)).await.map_err(|WriteError { error, .. }| error.into())
}

pub fn becoming(held: &Held, image: &Image) -> Change {
    Change {
        shape: held.key.shape.clone(),
        op: Op::Update,
        before: Some(held.image.clone()),
        after: Some(image.clone()),
        checks: Default::default(),
    }
}

/// Rows that went or were changed elsewhere, as they stand here.
pub fn publish_all(work: &mut Work, found: &[Referring]) {
    for referring in found.iter().filter(|referring| referring.follows != Follows::Blocks) {
        if !work.published.contains_key(&referring.canonical) {
            work.publish(&referring.canonical, becoming(&referring.held, &referring.held.image));
        }
    }
}

/// The row that a delete was about is gone by then: what refers to it may stay.
pub fn alone(write: &Write) -> Write {
    match write {
        Write::Delete(key) => Write::DeleteAlone(key.clone()),
        Write::Put(change) => {
            let checks = Checks { foreign_keys_off: true, ..change.checks };
            Write::Put(Change { checks, ..change.clone() })
        }
        Write::DeleteAlone(_) | Write::Whole(_) => write.clone(),
    }
}

#[cfg(test)]
mod tests;
