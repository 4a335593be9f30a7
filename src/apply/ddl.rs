//! Statements of other nodes that define tables: run in their place, or held, with what comes to their tables behind them.
//!
//! A statement that waits does not stop its origin: changes of other tables go on, and those of its tables are parked in the
//! transaction that moves the checkpoint past them. When it has run (or a person left it out) they are decided and applied in
//! the order in which they came. Until then the index forgets nothing that was not stable when the oldest of them came, or a
//! parked change could beat a write that is newer.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::empty::Emptied;
use super::group::Group;
use super::step::{Step, steps};
use super::work::Tally;
use super::worker::{Job, Known, State};
use super::{Applier, ApplyError};
use crate::change::ddl::{Class, stamp};
use crate::change::{Change, Mark, Offset, Op, OriginId, Record, SchemaChange, TableName};
use crate::observe::Fate;
use crate::runtime::{Backoff, Shutdown};
use crate::target::{ApplyTransaction, DeadLetter, Defined, Parked, SchemaEntry, SchemaState, TargetError};

/// What becomes of statements of one class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DdlPolicy {
    Apply,
    /// They wait until a person decides.
    Ask,
    /// They are left out; rows go on by the names of their columns.
    Ignore,
}

impl DdlPolicy {
    pub const ALL: [Self; 3] = [Self::Apply, Self::Ask, Self::Ignore];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Ask => "ask",
            Self::Ignore => "ignore",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DdlPolicies {
    /// Of statements that add or widen.
    pub safe: DdlPolicy,
    /// Of those that can lose something, or refuse what other nodes write.
    pub dangerous: DdlPolicy,
}

impl Default for DdlPolicies {
    fn default() -> Self {
        Self { safe: DdlPolicy::Apply, dangerous: DdlPolicy::Ask }
    }
}

impl DdlPolicies {
    fn of(self, danger: Option<&str>) -> DdlPolicy {
        if danger.is_some() { self.dangerous } else { self.safe }
    }
}

/// How often it is looked for decisions of people.
const LOOK: Duration = Duration::from_secs(1);

/// The statements that wait, in the order in which they came.
#[derive(Default)]
pub struct Holds {
    entries: Vec<SchemaEntry>,
    looked: Option<Instant>,
    /// The topics no longer hold all that came since the oldest of them.
    pub incomplete: bool,
}

impl Holds {
    pub fn new(entries: Vec<SchemaEntry>) -> Self {
        let entries = entries.into_iter().filter(|entry| entry.state.holds()).collect();
        Self { entries, looked: None, incomplete: false }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn oldest(&self) -> Option<&SchemaEntry> {
        self.entries.first()
    }

    /// The number of the last statement that changes of the table wait behind.
    pub fn behind(&self, table: &TableName) -> Option<u64> {
        self.entries.iter().rev().find(|entry| entry.change.touches(table)).map(|entry| entry.number)
    }

    fn meets(&self, change: &SchemaChange) -> bool {
        self.entries.iter().any(|entry| entry.change.meets(change))
    }

    /// Takes what has to wait out of the steps of a group.
    pub fn hold_back(&self, group: &mut Group, steps: &mut Vec<Step>) {
        if self.entries.is_empty() {
            return;
        }
        let behind = |change: &Change| self.behind(change.table());
        group.parked = (0..group.records.len()).filter_map(|at| behind(group.change(at)).map(|number| (number, at))).collect();
        steps.retain(|step| group.parked.binary_search_by_key(&step.at, |(_, at)| *at).is_err());
    }
}

impl Group {
    /// Keeps what waits, and takes away what waited until now.
    pub async fn park(&self, transaction: &mut dyn ApplyTransaction, tally: &mut Tally) -> Result<(), TargetError> {
        if !self.parked.is_empty() {
            let record = |&(behind, at): &(u64, usize)| (behind, self.records[at].0, &self.records[at].1);
            let records: Vec<(u64, Offset, &Record)> = self.parked.iter().map(record).collect();
            transaction.park(&records).await?;
            for &(_, at) in &self.parked {
                let (offset, record) = &self.records[at];
                tally.count_one(self.change(at), *offset, record.commit_second, Fate::Held);
            }
        }
        if !self.unparked.is_empty() {
            transaction.unpark(&self.unparked).await?;
        }
        Ok(())
    }
}

impl Applier {
    /// Takes a statement out of its topic. False at shutdown.
    pub(super) async fn take_schema(
        &self,
        known: &mut Known,
        (offset, record): (Offset, &Record),
        mark: &Mark,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let Some(change) = record.schema() else { return Ok(true) };
        let begun = self.target.schema_entries().await?;
        let begun = begun.into_iter().find(|entry| entry.origin == record.origin && entry.offset == offset);
        // One that was cut off after it was made goes the ordinary way to its end.
        if begun.is_none() && change.existing && self.is_made(change).await? {
            let mut patience = Patience::new(offset);
            while unless_contended(self.pass(mark).await)?.is_none() {
                if !patience.wait(shutdown).await {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut entry = begun.unwrap_or_else(|| SchemaEntry {
            number: 0,
            origin: record.origin.clone(),
            offset,
            gtid: record.gtid,
            hlc: record.hlc,
            commit_second: record.commit_second,
            change: change.clone(),
            state: SchemaState::Running,
            danger: None,
            remark: None,
            before: None,
            told: known.stability.all_told(),
        });
        // Once it was begun its tables may be half-way to what it makes of them.
        if entry.before.is_none() {
            entry.danger = self.danger(change).await?;
        }
        match self.options.ddl.of(entry.danger.as_deref()) {
            DdlPolicy::Ignore => entry.state = SchemaState::Ignored,
            DdlPolicy::Apply if !known.holds.meets(change) => {
                if !self.define(&mut entry, shutdown).await? {
                    return Ok(false);
                }
            }
            DdlPolicy::Apply | DdlPolicy::Ask => entry.state = SchemaState::Waiting,
        }
        let mut patience = Patience::new(offset);
        entry.number = loop {
            if let Some(number) = unless_contended(self.keep_with(mark, &entry).await)? {
                break number;
            }
            if !patience.wait(shutdown).await {
                return Ok(false);
            }
        };
        self.observer.schema_change(&entry.origin, &entry.change.object(), entry.state.word(), entry.remark.as_deref());
        if entry.state.holds() {
            known.holds.entries.push(entry);
            known.stability.freeze(true);
        }
        Ok(true)
    }

    /// Whether the table is here that it would make.
    async fn is_made(&self, change: &SchemaChange) -> Result<bool, ApplyError> {
        let Some(named) = change.tables.first() else { return Ok(false) };
        Ok(!self.target.columns(&named.name()).await?.is_empty())
    }

    async fn pass(&self, mark: &Mark) -> Result<(), TargetError> {
        self.target.begin(mark).await?.commit().await
    }

    /// Why the statement does not go through by itself.
    async fn danger(&self, change: &SchemaChange) -> Result<Option<String>, ApplyError> {
        let Some(statement) = change.parse() else {
            return Ok(Some("is of a kind that this version does not know".into()));
        };
        let columns = match statement.tables.first() {
            Some(table) => self.target.columns(table).await?,
            None => Vec::new(),
        };
        let now = |_: &TableName, name: &str| {
            columns.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, now)| now.clone())
        };
        Ok(match statement.class(&now) {
            Class::Safe => None,
            Class::Dangerous(why) => Some(why.to_owned()),
        })
    }

    /// Runs it, unless it was cut off after it had run. False at shutdown.
    async fn define(&self, entry: &mut SchemaEntry, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        if !self.own_tailer_has_read(&entry.origin, shutdown).await? {
            return Ok(false);
        }
        let stamp = stamp(&entry.origin, entry.gtid);
        let mut patience = Patience::new(entry.offset);
        let outcome = loop {
            if let Some(outcome) = unless_contended(self.define_once(entry, &stamp).await)? {
                break outcome;
            }
            // Most often a long transaction that holds the table: people should see what it waits for.
            self.observer.contended(&entry.origin);
            if !patience.wait(shutdown).await {
                return Ok(false);
            }
        };
        entry.before = None;
        if let Some((table, columns)) = entry.change.renamed_columns() {
            self.target.forget_columns(&table, &columns).await?;
        }
        (entry.state, entry.remark) = match outcome {
            Defined::Done => (SchemaState::Done, entry.change.unsaid()),
            Defined::AlreadyInPart => {
                let remarks = ["a part of it was so already".to_owned()].into_iter().chain(entry.change.unsaid());
                (SchemaState::Done, Some(remarks.collect::<Vec<_>>().join("; ")))
            }
            Defined::Refused(reason) => (SchemaState::Failed, Some(reason)),
        };
        Ok(true)
    }

    /// Waits for the own tailer. Where the binlog names no columns, rows that it reads after their table was altered can no longer be
    /// told apart, and it stops. Not for ever: one that is stopped or cut off must not hold the other nodes' statements. False at shutdown.
    async fn own_tailer_has_read(&self, origin: &OriginId, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let position = self.target.position().await?;
        tokio::select! {
            read = self.local.wait(&position, self.options.tailer_wait) => {
                if !read {
                    self.observer.waits_for_tailer(origin);
                }
                Ok(true)
            }
            () = shutdown.cancelled() => Ok(false),
        }
    }

    /// Looks now and then at what people decided, and lets go what need not wait. True where something moved.
    pub(super) async fn release(&self, state: &mut State, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let holds = &mut state.known.holds;
        if holds.is_empty() || holds.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(false);
        }
        holds.looked = Some(Instant::now());
        let entries = self.target.schema_entries().await?;
        holds.entries = entries.into_iter().filter(|entry| entry.state.holds()).collect();
        let mut moved = false;
        for entry in holds.entries.clone() {
            let earlier = state.known.holds.entries.iter().take_while(|other| other.number < entry.number);
            if earlier.into_iter().any(|other| other.change.meets(&entry.change)) {
                continue;
            }
            let policy = self.options.ddl.of(entry.danger.as_deref());
            let moves = match entry.state {
                SchemaState::Waiting => policy == DdlPolicy::Apply,
                SchemaState::Approved | SchemaState::Skipping | SchemaState::Draining | SchemaState::DrainingSkipped => true,
                _ => false,
            };
            if moves {
                if !self.let_go(state, entry, shutdown).await? {
                    return Ok(false);
                }
                moved = true;
            }
        }
        if state.known.holds.is_empty() {
            state.known.stability.freeze(false);
        }
        Ok(moved)
    }

    /// Runs a statement that waited, or leaves it out, and applies what waited behind it. False at shutdown.
    async fn let_go(&self, state: &mut State, mut entry: SchemaEntry, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        entry.state = match entry.state {
            SchemaState::Skipping | SchemaState::DrainingSkipped => SchemaState::DrainingSkipped,
            SchemaState::Draining => SchemaState::Draining,
            _ => {
                if !self.define(&mut entry, shutdown).await? {
                    return Ok(false);
                }
                if entry.state == SchemaState::Done { SchemaState::Draining } else { entry.state }
            }
        };
        if !self.keep(&entry, shutdown).await? {
            return Ok(false);
        }
        if entry.state == SchemaState::Failed {
            self.observer.schema_change(&entry.origin, &entry.change.object(), entry.state.word(), entry.remark.as_deref());
            return Ok(true);
        }
        loop {
            let parked = self.target.parked(entry.number, self.options.group_changes.max(1)).await?;
            if parked.is_empty() {
                break;
            }
            for some in parked.chunk_by(together) {
                if !self.unpark(state, some, shutdown).await? {
                    return Ok(false);
                }
            }
        }
        entry.state = if entry.state == SchemaState::DrainingSkipped { SchemaState::Skipped } else { SchemaState::Done };
        if !self.keep(&entry, shutdown).await? {
            return Ok(false);
        }
        self.observer.schema_change(&entry.origin, &entry.change.object(), entry.state.word(), entry.remark.as_deref());
        state.known.holds.entries.retain(|other| other.number != entry.number);
        Ok(true)
    }

    async fn define_once(&self, entry: &mut SchemaEntry, stamp: &str) -> Result<Defined, TargetError> {
        let now = self.target.table_prints(&entry.change).await?;
        if entry.before.as_deref().is_some_and(|before| all_differ(before, &now)) {
            return Ok(Defined::Done);
        }
        entry.before = Some(now);
        entry.number = self.target.keep_schema(entry).await?;
        self.target.define(&entry.change, stamp, entry.commit_second).await
    }

    async fn keep_with(&self, mark: &Mark, entry: &SchemaEntry) -> Result<u64, TargetError> {
        let mut transaction = self.target.begin(mark).await?;
        let number = transaction.keep_schema(entry).await?;
        transaction.commit().await?;
        Ok(number)
    }

    /// False at shutdown.
    async fn keep(&self, entry: &SchemaEntry, shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let mut patience = Patience::new(entry.offset);
        while unless_contended(self.target.keep_schema(entry).await)?.is_none() {
            if !patience.wait(shutdown).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Applies changes that waited, of one origin, with the checkpoint as it is.
    async fn unpark(&self, state: &mut State, some: &[Parked], shutdown: &Shutdown) -> Result<bool, ApplyError> {
        let Some(first) = some.first() else { return Ok(true) };
        let origin = first.record.origin.clone();
        let Some((node, mark)) = state.durable_mark(&origin) else {
            // Its node has left the cluster, and no place among the versions is its own.
            return self.give_up(state.any_mark(), some, "its node is no longer in the cluster", shutdown).await;
        };
        if state.known.holds.incomplete {
            let reason = "it waited longer than the topics keep what came meanwhile, so it cannot be decided any more";
            return self.give_up(Some(mark), some, reason, shutdown).await;
        }
        let busy = tokio::sync::Notify::new();
        if empties(&first.record) {
            let emptied = Emptied {
                node,
                origin: origin.clone(),
                offset: first.offset,
                record: first.record.clone(),
                mark,
                unparked: Some(first.id),
            };
            if self.commit(&mut state.known, &busy, &Job::Empty(&emptied), &origin, shutdown).await?.is_none() {
                return Ok(false);
            }
            self.engine(&mut state.known, &busy).remember_emptied(&emptied);
            return Ok(true);
        }
        let group = Group {
            node,
            origin: origin.clone(),
            records: some.iter().map(|parked| (parked.offset, parked.record.clone())).collect(),
            duplicates: 0,
            mark,
            seen: some[some.len() - 1].record.seen.clone(),
            parked: Vec::new(),
            unparked: some.iter().map(|parked| parked.id).collect(),
            again: false,
            empties: false,
        };
        let steps = steps(&group, &*self.target).await?;
        if self.commit(&mut state.known, &busy, &Job::Group(&group, &steps), &origin, shutdown).await?.is_none() {
            return Ok(false);
        }
        self.engine(&mut state.known, &busy).remember(&group, &steps)?;
        Ok(true)
    }

    /// Sets changes aside that waited and cannot be decided.
    async fn give_up(
        &self,
        mark: Option<Mark>,
        some: &[Parked],
        reason: &str,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let letter = |parked: &Parked| {
            Some(DeadLetter {
                origin: parked.record.origin.clone(),
                offset: parked.offset,
                gtid: parked.record.gtid,
                hlc: parked.record.hlc,
                change: parked.record.change()?.clone(),
                reason: reason.to_owned(),
                attempts: 0,
            })
        };
        let letters: Vec<DeadLetter> = some.iter().filter_map(letter).collect();
        let ids: Vec<u64> = some.iter().map(|parked| parked.id).collect();
        let Some(mark) = mark else { return Ok(false) };
        let mut patience = Patience::new(mark.next);
        while unless_contended(self.set_aside(&mark, &letters, &ids).await)?.is_none() {
            if !patience.wait(shutdown).await {
                return Ok(false);
            }
        }
        for letter in &letters {
            self.observer.dead_letters(&letter.origin, letter.change.table(), &letter.reason, 1);
        }
        Ok(true)
    }

    async fn set_aside(&self, mark: &Mark, letters: &[DeadLetter], parked: &[u64]) -> Result<(), TargetError> {
        let mut transaction = self.target.begin(mark).await?;
        transaction.keep_dead_letters(letters).await?;
        transaction.unpark(parked).await?;
        transaction.commit().await
    }
}

/// Waits between attempts while somebody else is in the way.
struct Patience(Backoff);

impl Patience {
    fn new(seed: Offset) -> Self {
        Self(Backoff::seeded(Duration::from_millis(20), Duration::from_secs(2), seed.0))
    }

    /// False at shutdown.
    async fn wait(&mut self, shutdown: &Shutdown) -> bool {
        // Ends early at shutdown; a time-out is the ordinary end of the wait.
        let _ = timeout(self.0.next_wait(), shutdown.cancelled()).await;
        !shutdown.is_cancelled()
    }
}

/// `None` where somebody else was in the way, and nothing happened.
fn unless_contended<T>(outcome: Result<T, TargetError>) -> Result<Option<T>, ApplyError> {
    match outcome {
        Err(TargetError::Contended { .. }) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}

pub(super) fn empties(record: &Record) -> bool {
    record.change().is_some_and(|change| change.op == Op::Truncate)
}

/// Whether two changes that waited can be in one commit.
fn together(one: &Parked, other: &Parked) -> bool {
    one.record.origin == other.record.origin && !empties(&one.record) && !empties(&other.record)
}

/// Every table of the statement is another thing than it was.
fn all_differ(before: &str, now: &str) -> bool {
    before.split(' ').zip(now.split(' ')).all(|(before, now)| before != now)
}

impl State {
    /// The durable checkpoint of an origin.
    fn durable_mark(&self, origin: &OriginId) -> Option<(crate::change::NodeRank, Mark)> {
        let at = self.waiting.iter().position(|waiting| waiting.origin == *origin)?;
        Some((self.waiting[at].node, self.durable[at].clone()))
    }

    fn any_mark(&self) -> Option<Mark> {
        self.durable.first().cloned()
    }
}

#[cfg(test)]
mod tests;
