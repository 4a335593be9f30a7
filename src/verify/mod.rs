//! COMPARES this node's rows with those of the others, and has what differs settled.
//!
//! Every other node is asked for prints of its rows, which come in its topic, each at its place of the history; the applier
//! compares them with the rows here when it has come to that place ([`apply::compare`](crate::apply::NoteTaker)). Both sides
//! may be written to all the while. What differs is asked for again, up to [`LOOKS`] times in all, because what a foreign key
//! does in silence may still be on its way. To repair, both sides publish the rows in question as a snapshot does, and they
//! are settled by the same rules.
//!
//! Contract of [`VerifyDesk`]: one comparison at a time; after a restart it goes on with the tables that were not done; what it finds
//! is counted in full and named up to a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::apply::{Compared, Differing, NoteTaker};
use crate::change::{Ask, AskedTable, Cluster, GtidPosition, Note, OriginId, Prints, TableName, Tables, VerifyId, wire};
use crate::observe::{DIFFERENCES_MAX, DifferenceView, Observer, VerifyPartView, VerifyView};
use crate::runtime::{Clock, Stop};
use crate::tail::SnapshotDesk;

mod kept;

pub use kept::{Unkept, VerifyBook};

/// How often a row is looked at before it is said to differ.
pub const LOOKS: u32 = 3;
/// The round in which rows are published, and not compared.
const REPAIR: u32 = 1_000;
/// The round of a question whose answer this node does not hear.
const ASIDE: u32 = 3_000;
/// Differing rows of one table and node that are looked at again; where there are more, the first look counts.
const AGAIN_MAX: usize = 5_000;

/// Whoever asks, the applier and the tailer meet here.
pub struct VerifyDesk {
    cluster: Cluster,
    snapshots: Arc<SnapshotDesk>,
    clock: Arc<dyn Clock>,
    observer: Observer,
    book: Box<dyn VerifyBook>,
    /// The last one of an earlier process.
    earlier: Option<VerifyView>,
    run: Mutex<Option<Run>>,
    /// Nodes that take part no longer.
    removed: Mutex<BTreeSet<OriginId>>,
}

/// One comparison.
struct Run {
    number: u64,
    /// What it is called in questions and answers: another name in each process, for what an earlier one asked is not waited for.
    asking: u64,
    asked_seconds: u64,
    ended_seconds: Option<u64>,
    repair: bool,
    round: u32,
    parts: BTreeMap<(OriginId, TableName), Part>,
    /// Of every table that is here, and of what the others have beside them.
    all: bool,
    /// What the book has of it: parts that are done, and whether all is.
    noted: Option<(usize, bool)>,
}

/// One table beside that of one node.
#[derive(Default)]
struct Part {
    rows_expected: u64,
    rows: u64,
    passed_by: u64,
    begun: bool,
    done: bool,
    failed: Option<String>,
    /// What differs by the last look, and how many more than are kept.
    differing: Vec<Differing>,
    more: u64,
    /// Where the prints began that were compared in this round: they may come again.
    compared: BTreeSet<Option<String>>,
}

impl VerifyDesk {
    /// Goes on with what the book has.
    pub fn open(
        cluster: Cluster,
        snapshots: Arc<SnapshotDesk>,
        clock: Arc<dyn Clock>,
        observer: Observer,
        book: Box<dyn VerifyBook>,
    ) -> Result<Self, Stop> {
        let kept = book.load()?;
        let (run, removed) = Default::default();
        let mut desk = Self { cluster, snapshots, clock, observer, book, earlier: None, run, removed };
        match kept {
            Some(view) if view.ended_seconds.is_none() => desk.go_on_with(&view),
            ended => {
                ended.iter().for_each(|view| desk.observer.verify(view.clone()));
                desk.earlier = ended;
            }
        }
        Ok(desk)
    }

    /// Begins to compare these tables, each with the rows that it is thought to have; others are refused with a reason. Where these are
    /// `all` tables of this node, the others tell which they have beside them.
    pub fn begin(
        &self,
        tables: &[(TableName, u64)],
        refused: &[(TableName, String)],
        repair: bool,
        all: bool,
    ) -> Result<VerifyView, Stop> {
        let mut others: Vec<OriginId> = self.cluster.others().map(|rank| self.cluster.name(rank).clone()).collect();
        others.retain(|node| !self.removed.lock().unwrap_or_else(PoisonError::into_inner).contains(node));
        let mut run = self.run();
        if run.as_ref().is_some_and(|run| run.ended_seconds.is_none()) {
            let hint = "see it with `tandem verify --list`, or end it with `tandem verify --cancel`";
            return Err(Stop::halt("a comparison is under way already", hint));
        }
        let part = |rows_expected: u64| Part { rows_expected, ..Part::default() };
        let parts =
            others.iter().flat_map(|node| tables.iter().map(|(table, rows)| ((node.clone(), table.clone()), part(*rows))));
        let without = |reason: &String| Part { done: true, failed: Some(reason.clone()), ..Part::default() };
        let refused =
            others.iter().flat_map(|node| refused.iter().map(|(table, why)| ((node.clone(), table.clone()), without(why))));
        let mut begun = Run {
            number: self.name(),
            asking: self.name(),
            asked_seconds: self.clock.now_seconds(),
            ended_seconds: None,
            repair,
            round: 0,
            parts: parts.chain(refused).collect(),
            all,
            noted: None,
        };
        let all = |table: &TableName| AskedTable {
            database: table.database.to_string(),
            table: table.table.to_string(),
            keys: Vec::new(),
        };
        let asked = tables.iter().map(|(table, _)| all(table)).collect();
        if begun.parts.values().all(|part| part.done) {
            begun.ended_seconds = Some(begun.asked_seconds);
        } else {
            self.tell(&begun, 0, others, asked, false);
        }
        let view = self.show(&mut begun);
        *run = Some(begun);
        Ok(view)
    }

    /// Asks one other node for prints of all rows of these tables, or how its tables are made, for somebody who reads its topic. Nothing here
    /// hears the answer. The number by which it is known.
    pub fn ask_one(&self, of: &OriginId, tables: &[TableName], definitions: bool) -> Result<u64, Stop> {
        let mut others = self.cluster.others().map(|rank| self.cluster.name(rank));
        if !others.any(|name| name == of) {
            return Err(Stop::halt(format!("there is no other node \"{of}\""), "use a name of the configuration's [nodes]"));
        }
        let number = self.name();
        let verify = VerifyId { asker: self.cluster.own().clone(), number, round: ASIDE };
        let tables = tables.iter().map(|table| asked(table, Vec::new())).collect();
        let of = vec![of.clone()];
        self.snapshots.tell(Note::Ask(Ask { verify, of, tables, publish: false, seed: false, all: true, definitions }));
        Ok(number)
    }

    /// Ends what is under way; false where nothing is. The other nodes go on for a while, and nobody listens.
    pub fn cancel(&self) -> bool {
        let mut run = self.run();
        let Some(open) = run.as_mut().filter(|run| run.ended_seconds.is_none()) else { return false };
        for part in open.parts.values_mut().filter(|part| !part.done) {
            (part.done, part.failed) = (true, Some("ended early".into()));
        }
        open.ended_seconds = Some(self.clock.now_seconds());
        self.show(open);
        true
    }

    /// The comparison that is under way, or the last one.
    pub fn view(&self) -> Option<VerifyView> {
        self.run().as_ref().map(Run::view).or_else(|| self.earlier.clone())
    }

    /// Grows from one process to the next.
    fn name(&self) -> u64 {
        self.clock.now_micros() / 1_000
    }

    fn show(&self, run: &mut Run) -> VerifyView {
        let view = run.view();
        let noted = (run.parts.values().filter(|part| part.done).count(), run.ended_seconds.is_some());
        if run.noted.replace(noted) != Some(noted) {
            self.book.save(&view);
        }
        self.observer.verify(view.clone());
        view
    }

    fn tell(&self, run: &Run, round: u32, of: Vec<OriginId>, tables: Vec<AskedTable>, publish: bool) {
        let verify = VerifyId { asker: self.cluster.own().clone(), number: run.asking, round };
        self.snapshots.tell(Note::Ask(Ask {
            verify,
            of,
            tables,
            publish,
            seed: false,
            all: run.all && round == 0,
            definitions: false,
        }));
    }

    fn go_on(&self, run: &mut Run) {
        if run.ended_seconds.is_some() || run.parts.values().any(|part| !part.done) {
            return;
        }
        if run.round + 1 < LOOKS {
            run.round += 1;
            let again = run.look_again();
            let asked = !again.is_empty();
            for (node, tables) in again {
                self.tell(run, run.round, vec![node], tables, false);
            }
            if asked {
                return;
            }
        }
        run.ended_seconds = Some(self.clock.now_seconds());
        if run.repair {
            self.repair(run);
        }
    }

    /// Both sides publish what differs, and it is settled as two rows are that existed.
    fn repair(&self, run: &Run) {
        let mut own: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
        let mut theirs: BTreeMap<&OriginId, Vec<AskedTable>> = BTreeMap::new();
        for ((node, table), part) in &run.parts {
            let keys = |wanted: fn(&Differing) -> bool| -> Vec<String> {
                part.differing.iter().filter(|row| wanted(row)).map(|row| wire::key_text(&row.key)).collect()
            };
            own.entry(table.clone()).or_default().extend(keys(|row| row.here));
            let there = keys(|row| row.there);
            if !there.is_empty() {
                theirs.entry(node).or_default().push(asked(table, there));
            }
        }
        for (node, tables) in theirs {
            self.tell(run, REPAIR, vec![node.clone()], tables, true);
        }
        let tables: Vec<AskedTable> =
            own.iter().filter(|(_, keys)| !keys.is_empty()).map(|(table, keys)| asked(table, keys.clone())).collect();
        let verify = VerifyId { asker: self.cluster.own().clone(), number: run.asking, round: REPAIR };
        self.snapshots.ask_for_verify(&Ask {
            verify,
            of: Vec::new(),
            tables,
            publish: true,
            seed: false,
            all: false,
            definitions: false,
        });
    }

    fn run(&self) -> MutexGuard<'_, Option<Run>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn asked(table: &TableName, keys: Vec<String>) -> AskedTable {
    AskedTable { database: table.database.to_string(), table: table.table.to_string(), keys }
}

impl NoteTaker for VerifyDesk {
    fn asked(&self, ask: &Ask) {
        self.snapshots.ask_for_verify(ask);
    }

    fn wants(&self, from: &OriginId, prints: &Prints) -> bool {
        let run = self.run();
        let Some(open) = run.as_ref().filter(|run| run.ended_seconds.is_none()) else { return false };
        let same = (open.asking, open.round) == (prints.verify.number, prints.verify.round);
        match open.parts.get(&(from.clone(), prints.name())) {
            Some(part) => same && !part.done && !part.compared.contains(&prints.after),
            None => same && open.all && prints.failed.is_some(),
        }
    }

    fn ask(&self, ask: &Ask, after: Option<&GtidPosition>) {
        self.snapshots.tell_after(after.cloned(), Note::Ask(ask.clone()));
    }

    fn refuse(&self, ask: &Ask, why: &str) {
        if ask.definitions {
            self.snapshots.tell(Note::Tables(Tables {
                verify: ask.verify.clone(),
                tables: Vec::new(),
                failed: Some(why.to_owned()),
            }));
        }
        for table in ask.tables.iter().filter(|_| !ask.publish) {
            self.snapshots.tell(Note::Prints(Prints {
                verify: ask.verify.clone(),
                database: table.database.clone(),
                table: table.table.clone(),
                columns: Vec::new(),
                after: None,
                upto: None,
                keys: table.keys.clone(),
                rows: Vec::new(),
                left_out: Vec::new(),
                ends: true,
                failed: Some(why.to_owned()),
            }));
        }
    }

    fn removed(&self, node: &OriginId) {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
        let mut run = self.run();
        let Some(open) = run.as_mut().filter(|run| run.ended_seconds.is_none()) else { return };
        for (_, part) in open.parts.iter_mut().filter(|((of, _), part)| of == node && !part.done) {
            (part.done, part.failed) = (true, Some("the node was removed".into()));
        }
        self.go_on(open);
        self.show(open);
    }

    fn compared(&self, from: &OriginId, prints: &Prints, compared: Compared) {
        let mut run = self.run();
        let Some(open) = run.as_mut().filter(|run| run.asking == prints.verify.number && run.round == prints.verify.round)
        else {
            return;
        };
        let first_look = open.round == 0;
        let place = (from.clone(), prints.name());
        // A table that only the other node has is not among those that were asked about.
        let part = match open.all && prints.failed.is_some() {
            true => open.parts.entry(place).or_default(),
            false => match open.parts.get_mut(&place) {
                Some(part) => part,
                None => return,
            },
        };
        if !part.compared.insert(prints.after.clone()) {
            return;
        }
        part.begun = true;
        if first_look {
            part.rows += compared.rows;
            part.passed_by += compared.passed_by;
        }
        let room = AGAIN_MAX.saturating_sub(part.differing.len());
        part.more += compared.differing.len().saturating_sub(room) as u64;
        part.differing.extend(compared.differing.into_iter().take(room));
        if compared.more {
            part.failed = Some("there are many more rows here than there".into());
        }
        if let Some(reason) = compared.failed {
            part.failed = Some(reason);
        }
        part.done = prints.ends || part.failed.is_some();
        self.go_on(open);
        self.show(open);
    }
}

impl Run {
    /// The rows that are to be looked at again; their parts begin anew. One question for each node, because by its round it is
    /// known again.
    fn look_again(&mut self) -> BTreeMap<OriginId, Vec<AskedTable>> {
        let mut again: BTreeMap<OriginId, Vec<AskedTable>> = BTreeMap::new();
        for ((node, table), part) in &mut self.parts {
            if part.differing.is_empty() || part.more > 0 || part.failed.is_some() {
                continue;
            }
            let keys = part.differing.drain(..).map(|row| wire::key_text(&row.key)).collect();
            part.done = false;
            part.compared.clear();
            again.entry(node.clone()).or_default().push(asked(table, keys));
        }
        again
    }

    fn view(&self) -> VerifyView {
        let part = |((node, table), part): (&(OriginId, TableName), &Part)| VerifyPartView {
            node: node.to_string(),
            table: table.to_string(),
            state: match (&part.failed, part.done, part.begun) {
                (Some(_), ..) => "failed",
                (None, true, _) => "done",
                (None, false, true) => "running",
                (None, false, false) => "waiting",
            }
            .into(),
            rows: part.rows,
            rows_expected: part.rows_expected,
            passed_by: part.passed_by,
            reason: part.failed.clone(),
        };
        let all = || self.parts.iter().flat_map(|(of, part)| part.differing.iter().map(move |row| (of, row)));
        let difference = |((node, table), row): (&(OriginId, TableName), &Differing)| DifferenceView {
            node: node.to_string(),
            table: table.to_string(),
            key: serde_json::from_str(&wire::key_json(&row.key)).unwrap_or_default(),
            kind: match (row.here, row.there) {
                (true, true) => "differs",
                (false, _) => "missing_here",
                (true, false) => "missing_there",
            }
            .into(),
            columns: row.columns.clone(),
        };
        VerifyView {
            number: self.number,
            asked_seconds: self.asked_seconds,
            ended_seconds: self.ended_seconds,
            repair: self.repair,
            look: self.round,
            all: self.all,
            parts: self.parts.iter().map(part).collect(),
            differences: all().take(DIFFERENCES_MAX).map(difference).collect(),
            differing: all().count() as u64 + self.parts.values().map(|part| part.more).sum::<u64>(),
        }
    }
}

#[cfg(test)]
mod tests;
