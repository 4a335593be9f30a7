//! This node takes over the rows of another one, the seeder, because the topics no longer hold all that it has missed.
//!
//! Its checkpoints stand where the topics ended when that was asked for, and its own clock above all that it skips. From there it
//! applies what comes, by the ordinary rules; and the seeder publishes all of its rows, each true at its place, when it has applied all
//! that this node had published. So a row here is one of three: written since (the index knows it, and it stands); or passed by the
//! seeder's rows, and as it is there; or stale, and still to come. What is stale decides nothing and is never published.
//! After each run of rows the seeder tells which keys it has: what only stands here was deleted while this node was away.

use std::time::Duration;

use tokio::time::timeout;

use super::decide::Entry;
use super::engine::{Engine, Tries, read_kept};
use super::settle::{Attempt, conflict_id, end};
use super::step::canonical;
use super::work::Work;
use super::worker::Known;
use super::{Applier, ApplyError, Policy};
use crate::change::{
    Ask, AskedTable, Cluster, Hlc, Image, Mark, NodeRank, Note, Offset, OriginId, Prints, Record, RowKey, ValueRef, VerifyId,
    Version, wire,
};
use crate::runtime::{Backoff, Shutdown};
use crate::target::{
    ApplyTransaction, CanonicalKey, Conflict, ConflictKind, Held, SeedKind, Seeding, Side, TargetError, Write,
};

/// The seeding that is under way.
pub struct Seed {
    pub state: Seeding,
    pub seeder: NodeRank,
    own: NodeRank,
    /// Per node: writes up to this clock are in the seeder's rows.
    floors: Vec<Hlc>,
    asked: bool,
}

impl Seed {
    pub fn open(state: Option<Seeding>, cluster: &Cluster) -> Result<Option<Self>, ApplyError> {
        let Some(state) = state.filter(Seeding::is_open) else { return Ok(None) };
        let Some(seeder) = cluster.rank(&state.seeder).filter(|rank| *rank != cluster.own_rank()) else {
            return Err(ApplyError::NoSeeder { seeder: state.seeder });
        };
        let floors = cluster.ranks().map(|node| state.floors.get(cluster.name(node)).copied().unwrap_or_default()).collect();
        Ok(Some(Self { state, seeder, own: cluster.own_rank(), floors, asked: false }))
    }

    /// What is written from now on without having seen what was skipped has a clock above this, by any node.
    pub fn least_floor(&self) -> Hlc {
        let others = self.floors.iter().enumerate().filter(|(node, _)| *node != usize::from(self.own.0));
        others.map(|(_, floor)| *floor).min().unwrap_or_default()
    }

    /// Whether a noted write was applied here, or is newer than all that the seeder's rows hold.
    pub fn is_write(&self, entry: &Entry) -> bool {
        entry.version.hlc > self.floors[usize::from(entry.version.node.0)]
    }
}

/// Rows here of which the seeder told none.
#[derive(Clone, Copy)]
enum Untold<'k> {
    /// It has none.
    Absent(&'k [RowKey]),
    /// They changed while it read.
    LeftOut(&'k [RowKey]),
}

impl Engine<'_> {
    /// Whether what stands here was never brought up to date: nothing is known of it that counts.
    pub fn is_stale(&self, entry: Option<&Entry>) -> bool {
        let stale = |seed: &Seed| entry.is_none_or(|entry| !seed.is_write(entry));
        self.seed.is_some_and(stale) && !self.options.ablation.no_stale
    }

    /// Whether a row that stands here may hold what is published nowhere: then it is never replaced unseen.
    pub fn is_unheard_of(&self, entry: Option<&Entry>) -> bool {
        self.seed.is_some_and(|seed| seed.state.kind == SeedKind::HistoryLost) && self.is_stale(entry)
    }

    /// Whether a row that stands here may be here alone, so that it does not come from the seeder once more.
    pub fn may_be_alone(&self, entry: Option<&Entry>) -> bool {
        self.seed.is_some_and(|seed| seed.state.kind != SeedKind::Away) && self.is_stale(entry)
    }

    /// Keeps such a row, which a change of another node is about to replace, for a person to decide.
    pub fn keep_unheard_of(&self, kind: ConflictKind, place: &CanonicalKey, held: &Held, arrives: Side, work: &mut Work) {
        let own = self.options.cluster.own_rank();
        let by = self.options.cluster.rank(&arrives.origin).unwrap_or(own);
        work.conflicts.push(Conflict {
            id: conflict_id(place, Version { hlc: arrives.hlc, node: by }, Version { hlc: Hlc::default(), node: own }),
            kind,
            key: held.key.clone(),
            winner: arrives,
            loser: Side {
                origin: self.options.cluster.own().clone(),
                hlc: Hlc::default(),
                row: Some((held.key.clone(), held.image.clone())),
            },
            open: *self.options.policy(held.key.table()) == Policy::Manual || self.is_unheard_of(None),
        });
    }

    /// Settles rows of which the seeder told none, each in its way.
    async fn settle_untold(&mut self, mark: &Mark, told: &Record, untold: Untold<'_>) -> Result<Attempt, ApplyError> {
        let mut transaction = self.target.begin(mark).await?;
        let attempt = match untold {
            Untold::Absent(keys) => self.remove_absent(&mut *transaction, told, keys).await,
            Untold::LeftOut(keys) => self.keep_left_out(&mut *transaction, told, keys).await,
        };
        end(transaction, attempt).await
    }

    /// Keeps rows that may hold what is published nowhere, and that the seeder left out because they changed while it read: what
    /// replaces them comes when the seeding may have ended.
    async fn keep_left_out(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        told: &Record,
        keys: &[RowKey],
    ) -> Result<Attempt, ApplyError> {
        let held = transaction.lock(keys).await?;
        if self.know_all(transaction).await?.is_none() {
            return Ok(Attempt::TailerBehind);
        }
        let places = canonical(self.target, keys).await?;
        let mut work = Work::default();
        for (place, held) in places.iter().zip(held) {
            let Some(held) = held else { continue };
            if self.is_unheard_of(self.index.get(place)?.as_ref()) {
                // Of its other columns nothing is known yet.
                let is_key = |at: usize| held.key.shape.key.iter().any(|&key| usize::from(key) == at);
                let known = held.image.values().enumerate().map(|(at, value)| value.filter(|_| is_key(at)));
                let row = Image::of(known.map(|value| value.map(ValueRef::to_value)));
                let arrives = Side { origin: told.origin.clone(), hlc: told.hlc, row: Some((held.key.clone(), row)) };
                self.keep_unheard_of(ConflictKind::UpdateOriginDiffers, place, &held, arrives, &mut work);
            }
        }
        work.keep(transaction).await?;
        Ok(Attempt::Committed(work.tally))
    }

    /// Removes rows that the seeder does not have, but for those that somebody wrote without its knowing; their images are kept.
    async fn remove_absent(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        told: &Record,
        keys: &[RowKey],
    ) -> Result<Attempt, ApplyError> {
        let held = transaction.lock(keys).await?;
        if self.know_all(transaction).await?.is_none() {
            return Ok(Attempt::TailerBehind);
        }
        let cluster = &self.options.cluster;
        let places = canonical(self.target, keys).await?;
        let mut work = Work::default();
        for (place, held) in places.iter().zip(held) {
            let Some(held) = held else { continue };
            let unseen = self.index.get(place)?.is_some_and(|entry| {
                let writer = cluster.name(entry.version.node);
                *writer != told.origin && !told.seen.has(writer, entry.offset)
            });
            if unseen {
                continue;
            }
            transaction.write(&[Write::DeleteAlone(held.key.clone())]).await.map_err(|failed| failed.error)?;
            let version = |node| Version { hlc: Hlc::default(), node };
            let seeder = cluster.rank(&told.origin).expect("only nodes of the cluster are read");
            work.conflicts.push(Conflict {
                id: conflict_id(place, version(seeder), version(cluster.own_rank())),
                kind: ConflictKind::DeleteOriginDiffers,
                key: held.key.clone(),
                winner: Side { origin: told.origin.clone(), hlc: told.hlc, row: None },
                loser: Side { origin: cluster.own().clone(), hlc: Hlc::default(), row: Some((held.key, held.image)) },
                open: self.seed.is_some_and(|seed| seed.state.kind == SeedKind::HistoryLost),
            });
        }
        work.keep(transaction).await?;
        Ok(Attempt::Committed(work.tally))
    }
}

impl Known {
    /// An answer of the seeder.
    pub fn seed_prints<'r>(&self, record: &'r Record) -> Option<&'r Prints> {
        let seed = self.seed.as_ref().filter(|seed| seed.state.seeder == record.origin)?;
        match record.note() {
            Some(Note::Prints(prints)) if seed.state.is_answer(&prints.verify) => Some(prints),
            _ => None,
        }
    }
}

impl Applier {
    /// From where on an origin's writes are noted while this node is seeded: each that may be newer than one which is still to come,
    /// whoever has it. That it was skipped here must not be forgotten, or an older one would stand.
    pub(super) async fn seeded_from(
        &self,
        seed: &Seed,
        origin: &OriginId,
        (first, reach): (Offset, Offset),
    ) -> Result<Offset, ApplyError> {
        let floor = seed.least_floor();
        // An origin's clock never goes back.
        let (mut from, mut to) = (first, reach);
        while from < to {
            let middle = Offset(from.0 + (to.0 - from.0) / 2);
            let read = read_kept(&*self.reader, origin, middle, 1, Tries::Many).await?;
            match read.first() {
                Some((_, record)) if record.hlc <= floor => from = middle.next(),
                _ => to = middle,
            }
        }
        Ok(from)
    }

    /// Has the seeder asked, once all that this node wrote before is published. Again at each start: asking twice is once.
    pub(super) async fn ask_for_seed(&self, known: &mut Known, durable: &[Mark]) -> Result<(), ApplyError> {
        let Some(seed) = known.seed.as_mut().filter(|seed| !seed.asked) else { return Ok(()) };
        let Some(mark) = durable.first() else { return Ok(()) };
        let mut transaction = self.target.begin(mark).await?;
        let position = transaction.position().await;
        transaction.rollback().await;
        let after = Some(position?).filter(|_| !self.options.ablation.no_ask_wait);
        self.notes.ask(&seed.state.ask(self.options.cluster.own()), after.as_ref());
        seed.asked = true;
        Ok(())
    }

    /// The seeder has told which rows it has between two keys; the rows themselves came before. False at shutdown.
    pub(super) async fn take_seeded(
        &self,
        known: &mut Known,
        mark: &Mark,
        (offset, record): (Offset, &Record),
        prints: &Prints,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let busy = tokio::sync::Notify::new();
        let mut backoff = Backoff::seeded(Duration::from_millis(5), Duration::from_secs(1), offset.0);
        let mut failed = prints.failed.clone();
        let mut removed = 0;
        while failed.is_none() {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            let compared = self.engine(known, &busy).compare(&record.origin, &record.seen, prints).await?;
            if compared.behind {
                let _ = timeout(backoff.next_wait(), shutdown.cancelled()).await;
                continue;
            }
            failed = compared.failed;
            let only_here: Vec<RowKey> =
                compared.differing.into_iter().filter(|row| row.here && !row.there).map(|row| row.key).collect();
            if known.seed.as_ref().is_some_and(|seed| seed.state.kind == SeedKind::New) {
                self.publish_own(known, offset, prints, &only_here, compared.more);
                break;
            }
            removed += only_here.len() as u64;
            for keys in only_here.chunks(self.options.group_changes.max(1)) {
                if !self.settled_untold(known, mark, record, Untold::Absent(keys), shutdown).await? {
                    return Ok(false);
                }
            }
            // Where there are more than were read at once, what is left comes nearer to the front.
            if !compared.more || only_here.is_empty() {
                break;
            }
        }
        if known.seed.as_ref().is_some_and(|seed| seed.state.kind == SeedKind::HistoryLost) {
            let left_out: Vec<RowKey> = prints.left_out.iter().filter_map(|text| wire::key_of_text(text)).collect();
            for keys in left_out.chunks(self.options.group_changes.max(1)) {
                if !self.settled_untold(known, mark, record, Untold::LeftOut(keys), shutdown).await? {
                    return Ok(false);
                }
            }
        }
        let Some(seed) = &mut known.seed else { return Ok(true) };
        seed.state.rows += prints.rows.len() as u64;
        seed.state.removed += removed;
        if prints.ends || failed.is_some() {
            seed.state.end(&prints.name(), failed.as_deref());
            self.observer.table_seeded(&prints.name(), &seed.state.seeder, failed.as_deref());
        }
        // Before the checkpoint can pass: what is noted here does not come again.
        self.target.keep_seeding(&seed.state).await?;
        if !seed.state.is_open() {
            known.seed = None;
            known.index.hold(false);
        }
        Ok(true)
    }

    async fn settled_untold(
        &self,
        known: &mut Known,
        mark: &Mark,
        record: &Record,
        untold: Untold<'_>,
        shutdown: &Shutdown,
    ) -> Result<bool, ApplyError> {
        let busy = tokio::sync::Notify::new();
        let mut backoff = Backoff::seeded(Duration::from_millis(5), Duration::from_secs(1), mark.next.0);
        while !shutdown.is_cancelled() {
            let mut engine = self.engine(known, &busy);
            engine.absorb().await?;
            match engine.settle_untold(mark, record, untold).await {
                Ok(Attempt::Committed(mut tally)) => {
                    tally.tell(&record.origin, &self.observer);
                    return Ok(true);
                }
                Ok(_) => self.observer.waits_for_tailer(&record.origin),
                Err(ApplyError::Target(TargetError::Contended { .. })) => self.observer.contended(&record.origin),
                Err(error) => return Err(error),
            }
            let _ = timeout(backoff.next_wait(), shutdown.cancelled()).await;
        }
        Ok(false)
    }

    /// Rows that a new node alone has go to the others as rows that were there before.
    fn publish_own(&self, known: &Known, offset: Offset, prints: &Prints, keys: &[RowKey], all: bool) {
        let Some(seed) = known.seed.as_ref().filter(|_| !keys.is_empty()) else { return };
        let keys = if all { Vec::new() } else { keys.iter().map(wire::key_text).collect() };
        // A number of its own for each run of rows, or the second would be taken for the first.
        let verify = VerifyId { asker: self.options.cluster.own().clone(), number: seed.state.number + 1 + offset.0, round: 0 };
        let tables = vec![AskedTable { database: prints.database.clone(), table: prints.table.clone(), keys }];
        self.notes.asked(&Ask { verify, of: Vec::new(), tables, publish: true, seed: false, all: false, definitions: false });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::group::tests::record;
    use super::super::twins::apply_until;
    use super::*;
    use crate::change::{Body, Change, Column, ColumnKind, Op, Shape, TableName, Value};
    use crate::target::Target as _;
    use crate::target::memory::{MemoryOptions, MemoryTable, MemoryTarget};
    use crate::topic::TopicWriter as _;
    use crate::topic::memory::{FairWeather, MemoryTopics};

    fn riders() -> Arc<Shape> {
        let column = |name: &str, kind| Column { name: name.into(), kind, generated: false };
        let columns = vec![column("id", ColumnKind::Integer), column("name", ColumnKind::Text)];
        Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] })
    }

    fn row(id: i64, name: &str) -> Image {
        Image::of([Some(Value::Int(id)), Some(Value::text(name))])
    }

    /// Node b has rows 1 to 3; later it has another row 1, and row 4, and tells it. What node a then has, and how far it is.
    async fn seeded(kind: Option<SeedKind>) -> (Vec<String>, Option<Seeding>) {
        let (shape, [a, b]) = (riders(), ["a", "b"].map(OriginId::new));
        let asked = AskedTable { database: "campus".into(), table: "riders".into(), keys: Vec::new() };
        let seeding = kind.map(|kind| Seeding {
            number: 7,
            seeder: b.clone(),
            kind,
            floors: [(b.clone(), Hlc(3)), (a.clone(), Hlc(3))].into(),
            tables: vec![asked],
            failed: Vec::new(),
            rows: 0,
            removed: 0,
            anew: None,
        });
        let columns = ["id", "name"].map(str::to_owned).to_vec();
        let key = |id| wire::key_text(&RowKey { shape: shape.clone(), values: Box::new([Value::Int(id)]) });
        let there = [(1, "new"), (4, "four")];
        let prints = Prints {
            verify: VerifyId { asker: a.clone(), number: 7, round: 2_000 },
            database: "campus".into(),
            table: "riders".into(),
            rows: there.map(|(id, name)| (key(id), wire::row_print(&shape, &row(id, name), &columns))).to_vec(),
            columns,
            after: None,
            upto: None,
            keys: Vec::new(),
            left_out: Vec::new(),
            ends: true,
            failed: None,
        };
        let with = |sequence, body| Record { body, ..record(sequence, 0, true).1 };
        let change = |op, image| {
            Body::Change(Change { shape: shape.clone(), op, before: None, after: Some(image), checks: Default::default() })
        };
        let target =
            MemoryTarget::new([MemoryTable { shape: shape.clone(), unique: None, refers: None }], MemoryOptions::default());
        let topics = MemoryTopics::new();
        let mut writer = topics.writer(b, Arc::new(FairWeather));
        writer.resume().await.unwrap();
        let before = [1, 2, 3].map(|id| with(id, change(Op::Insert, row(id as i64, "old"))));
        writer.append(Offset(0), &before).await.unwrap();
        apply_until(&target, topics.clone(), &["a", "b"], 3).await.unwrap();
        if let Some(seeding) = &seeding {
            target.keep_seeding(seeding).await.unwrap();
        }
        let mut told = there.map(|(id, name)| with(3, change(Op::Read, row(id, name)))).to_vec();
        told.extend([with(3, Body::Note(Box::new(Note::Prints(prints)))), with(4, Body::Heartbeat)]);
        writer.append(Offset(3), &told).await.unwrap();
        apply_until(&target, topics, &["a", "b"], 7).await.unwrap();
        let shown = |image: Image| {
            let name = image.get(1).and_then(ValueRef::as_text).unwrap_or_default().to_owned();
            format!("{} {name}", image.get(0).and_then(|id| id.as_u64()).unwrap_or_default())
        };
        (target.rows(&shape.table).into_iter().map(shown).collect(), target.seeding().await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_seeded_node_has_the_seeders_rows_and_those_that_nobody_else_could_know() {
        let (rows, state) = seeded(Some(SeedKind::Away)).await;
        assert_eq!(rows, ["1 new", "4 four"]);
        let state = state.unwrap();
        assert_eq!((state.is_open(), state.rows, state.removed), (false, 2, 2));
        let (rows, _) = seeded(Some(SeedKind::New)).await;
        assert_eq!(rows, ["1 new", "2 old", "3 old", "4 four"], "a new node keeps what it alone has");
        let (rows, _) = seeded(None).await;
        assert_eq!(rows, ["1 old", "2 old", "3 old", "4 four"], "by the order of the nodes, where nobody is seeded");
    }

    #[test]
    fn what_is_in_the_seeders_rows_is_no_write_and_what_came_since_is() {
        let names = ["a", "b", "c"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[1]).unwrap();
        let table = AskedTable { database: "campus".into(), table: "riders".into(), keys: Vec::new() };
        let mut state = Seeding {
            number: 7,
            seeder: names[0].clone(),
            kind: SeedKind::Away,
            floors: [(names[0].clone(), Hlc(50)), (names[1].clone(), Hlc(60)), (names[2].clone(), Hlc(60))].into(),
            tables: vec![table.clone()],
            failed: Vec::new(),
            rows: 0,
            removed: 0,
            anew: None,
        };
        let ask = state.ask(&names[1]);
        assert!(state.is_answer(&ask.verify) && !state.is_answer(&VerifyId { number: 8, ..ask.verify.clone() }));
        let seed = Seed::open(Some(state.clone()), &cluster).unwrap().expect("a table is to come");
        let entry = |hlc, node| Entry { version: Version { hlc: Hlc(hlc), node: NodeRank(node) }, offset: Offset(1) };
        for (hlc, node, expected) in [(50, 0, false), (51, 0, true), (60, 1, false), (61, 1, true), (51, 2, false)] {
            assert_eq!(seed.is_write(&entry(hlc, node)), expected, "{hlc} of {node}");
        }
        let error = Seed::open(Some(Seeding { seeder: OriginId::new("d"), ..state.clone() }), &cluster).err();
        assert!(error.is_some_and(|error| error.to_string().contains("seeded by d")));
        state.end(&table.name(), Some("it is not there"));
        assert_eq!(state.failed, [("campus.riders".to_owned(), "it is not there".to_owned())]);
        assert!(Seed::open(Some(state), &cluster).unwrap().is_none(), "it has ended");
    }
}
