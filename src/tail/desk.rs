//! What snapshots are asked for, and how far each is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::change::{Ask, GtidPosition, Note, Prints, RowKey, TableName, Tables, VerifyId, wire};
use crate::runtime::{Clock, Stop};

/// Keeps the orders while no process runs.
pub trait SnapshotBook: Send + Sync {
    fn load(&self) -> Result<Vec<SnapshotOrder>, Stop>;

    /// Replaces what was kept before. May fail in silence: then rows are published again that were already.
    fn save(&self, orders: &[SnapshotOrder]);
}

/// Keeps nothing.
pub struct NoBook;

impl SnapshotBook for NoBook {
    fn load(&self) -> Result<Vec<SnapshotOrder>, Stop> {
        Ok(Vec::new())
    }

    fn save(&self, _: &[SnapshotOrder]) {}
}

/// Tables whose existing rows somebody wants published, in the order in which they go.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SnapshotOrder {
    pub id: u64,
    /// SQL; all rows where there is none.
    pub condition: Option<String>,
    /// Seconds of the Unix epoch, as all times here.
    pub asked_seconds: u64,
    pub ended_seconds: Option<u64>,
    pub tables: Vec<TableOrder>,
    /// Why it does not go on now.
    pub waits_for: Option<String>,
    /// Not the rows are published but prints of them, or rows by their keys, for a comparison that some node wants.
    #[serde(default)]
    pub verify: Option<ForVerify>,
    /// Who asked means all its tables, and is still to be told which others are here.
    #[serde(default)]
    pub others: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ForVerify {
    pub id: VerifyId,
    /// Prints are wanted, and not the rows.
    pub prints: bool,
    /// The rows, too.
    #[serde(default)]
    pub rows: bool,
    /// Nothing of any table, but how all of them are made.
    #[serde(default)]
    pub definitions: bool,
}

impl ForVerify {
    pub(super) fn publishes_rows(&self) -> bool {
        self.rows || !self.prints
    }
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableOrder {
    pub database: String,
    pub table: String,
    pub state: TableState,
    /// Rows that were read and dealt with.
    pub rows: u64,
    /// What the server thinks the table has.
    pub rows_expected: u64,
    pub reason: Option<String>,
    /// The key of the last of them, in the form of a change.
    after: Option<String>,
    /// Only these rows.
    #[serde(default)]
    keys: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableState {
    Waiting,
    Running,
    Done,
    /// The rows cannot be read; the other tables go on.
    Failed,
    Cancelled,
}

impl TableState {
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

impl SnapshotOrder {
    pub fn is_open(&self) -> bool {
        self.tables.iter().any(|table| table.state.is_open())
    }
}

/// The rows to be read next.
#[derive(Clone, PartialEq, Debug)]
pub struct Task {
    pub order: u64,
    pub table: TableName,
    pub after: Option<RowKey>,
    pub keys: Vec<RowKey>,
    pub condition: Option<String>,
    pub verify: Option<ForVerify>,
    /// Tables of the order, where others are to be told.
    pub all_but: Option<Vec<TableName>>,
}

impl Task {
    /// It is about how tables are made, and about no rows.
    pub(super) fn lists(&self) -> bool {
        self.verify.as_ref().is_some_and(|verify| verify.definitions)
    }

    /// An answer that tells nothing yet.
    pub(super) fn no_prints(&self, verify: &VerifyId) -> Prints {
        Prints {
            verify: verify.clone(),
            database: self.table.database.to_string(),
            table: self.table.table.to_string(),
            columns: Vec::new(),
            after: self.after.as_ref().map(wire::key_text),
            upto: None,
            keys: self.keys.iter().map(wire::key_text).collect(),
            rows: Vec::new(),
            left_out: Vec::new(),
            ends: false,
            failed: None,
        }
    }
}

/// Orders that are kept after their end, for people.
const ENDED_KEPT: usize = 20;

/// One per node: whoever asks and the tailer meet here.
pub struct SnapshotDesk {
    orders: Mutex<Vec<SnapshotOrder>>,
    wanted: Notify,
    notes: Mutex<Notes>,
    book: Box<dyn SnapshotBook>,
    clock: Arc<dyn Clock>,
}

/// Notes that are not durable yet.
#[derive(Default)]
struct Notes {
    waiting: VecDeque<(Option<GtidPosition>, Note)>,
    /// So many of them are on their way to the topic.
    taken: usize,
}

impl SnapshotDesk {
    pub fn open(book: Box<dyn SnapshotBook>, clock: Arc<dyn Clock>) -> Result<Self, Stop> {
        Ok(Self { orders: Mutex::new(book.load()?), wanted: Notify::new(), notes: Mutex::default(), book, clock })
    }

    /// What would be done if this were asked for: the rows of these tables, each with the rows that it is thought to have, and
    /// others that are refused with a reason.
    pub fn plan(tables: &[(TableName, u64)], refused: &[(TableName, String)], condition: Option<String>) -> SnapshotOrder {
        let table = |name: &TableName, rows_expected: u64, refused: Option<&String>| TableOrder {
            database: name.database.to_string(),
            table: name.table.to_string(),
            state: refused.map_or(TableState::Waiting, |_| TableState::Failed),
            rows: 0,
            rows_expected,
            reason: refused.cloned(),
            after: None,
            keys: Vec::new(),
        };
        let tables = tables.iter().map(|(name, rows)| table(name, *rows, None));
        let tables = tables.chain(refused.iter().map(|(name, reason)| table(name, 0, Some(reason)))).collect();
        SnapshotOrder {
            id: 0,
            condition,
            asked_seconds: 0,
            ended_seconds: None,
            tables,
            waits_for: None,
            verify: None,
            others: false,
        }
    }

    /// Asks for it. Returns the number of the order.
    pub fn ask(&self, tables: &[(TableName, u64)], refused: &[(TableName, String)], condition: Option<String>) -> u64 {
        self.order(Self::plan(tables, refused, condition))
    }

    /// What another node, or this one, wants for a comparison. Asking twice is once.
    pub fn ask_for_verify(&self, ask: &Ask) {
        let definitions = ask.definitions;
        let prints = !definitions && (ask.seed || !ask.publish);
        let verify = ForVerify { id: ask.verify.clone(), prints, rows: ask.seed, definitions };
        if self.held().iter().any(|order| order.verify.as_ref() == Some(&verify)) {
            return;
        }
        let mut names: Vec<_> = ask.tables.iter().map(|table| (table.name(), table.keys.len() as u64)).collect();
        if definitions {
            // One thing to do, and of no table.
            names = vec![(TableName::new("", ""), 0)];
        }
        let mut plan = Self::plan(&names, &[], None);
        plan.verify = Some(verify);
        plan.others = ask.all;
        plan.tables.iter_mut().zip(&ask.tables).for_each(|(order, asked)| order.keys.clone_from(&asked.keys));
        self.order(plan);
    }

    /// Publishes a note as soon as that can be, and perhaps twice.
    pub fn tell(&self, note: Note) {
        self.tell_after(None, note);
    }

    /// Publishes a note once all of the history up to `after` is published, and tells that with it. Notes go in the order in which they
    /// were given; one that asks for all rows takes the place of an earlier one.
    pub fn tell_after(&self, after: Option<GtidPosition>, note: Note) {
        let seeds = |note: &Note| matches!(note, Note::Ask(ask) if ask.seed);
        let mut notes = self.notes();
        if seeds(&note) {
            let mut on_their_way = notes.taken;
            notes.waiting.retain(|(_, waiting)| {
                let is_taken = on_their_way > 0;
                on_their_way -= usize::from(is_taken);
                is_taken || !seeds(waiting)
            });
        }
        notes.waiting.push_back((after, note));
        drop(notes);
        self.wanted.notify_one();
    }

    /// A tailer runs anew: what an earlier one had taken may be in no topic.
    pub(super) fn begin_run(&self) {
        self.notes().taken = 0;
    }

    /// The next note, at this place of the history.
    pub(super) fn next_note(&self, at: &GtidPosition) -> Option<Note> {
        let mut notes = self.notes();
        let (after, note) = notes.waiting.get(notes.taken)?;
        let note = after.as_ref().is_none_or(|after| at.covers_all(after)).then(|| note.clone())?;
        notes.taken += 1;
        Some(note)
    }

    /// The oldest that was taken is durable.
    pub(super) fn note_is_durable(&self) {
        let mut notes = self.notes();
        notes.waiting.pop_front();
        notes.taken = notes.taken.saturating_sub(1);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All notes that wait, taken.
    #[cfg(test)]
    pub fn waiting_notes(&self) -> Vec<Note> {
        self.notes().waiting.drain(..).map(|(_, note)| note).collect()
    }

    fn order(&self, plan: SnapshotOrder) -> u64 {
        let id = self.change(|orders, now| {
            let id = orders.iter().map(|order| order.id).max().unwrap_or_default() + 1;
            orders.push(SnapshotOrder { id, asked_seconds: now, ..plan });
            id
        });
        self.wanted.notify_one();
        id
    }

    /// Ends what is open. False where there is no such open order.
    pub fn cancel(&self, id: u64) -> bool {
        self.change(|orders, _| {
            let Some(order) = orders.iter_mut().find(|order| order.id == id && order.is_open()) else { return false };
            order.tables.iter_mut().filter(|table| table.state.is_open()).for_each(|table| table.state = TableState::Cancelled);
            true
        })
    }

    /// All that is kept, the oldest first.
    pub fn orders(&self) -> Vec<SnapshotOrder> {
        self.held().clone()
    }

    /// What comes next.
    pub(super) fn next(&self) -> Option<Task> {
        let orders = self.held();
        // A question of a moment does not wait for copies that take hours.
        let quick = |order: &&SnapshotOrder| order.verify.as_ref().is_some_and(|verify| verify.definitions);
        let open = || orders.iter().filter(|order| order.is_open());
        let order = open().find(quick).or_else(|| open().next())?;
        let table = order.tables.iter().find(|table| table.state.is_open())?;
        let after = table.after.as_ref().and_then(|text| wire::key_of_text(text));
        let keys = table.keys.iter().filter_map(|text| wire::key_of_text(text)).collect();
        let (condition, verify) = (order.condition.clone(), order.verify.clone());
        let all_but = order.others.then(|| order.tables.iter().map(TableOrder::name).collect());
        Some(Task { order: order.id, table: table.name(), after, keys, condition, verify, all_but })
    }

    /// The task, if it is still wanted.
    pub(super) fn goes_on(&self, task: Task) -> Option<Task> {
        let orders = self.held();
        let table = orders.iter().find(|order| order.id == task.order)?.tables.iter().find(|table| table.name() == task.table);
        table.is_some_and(|table| table.state.is_open()).then_some(task)
    }

    /// Waits until something may be wanted.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(super) fn published(&self, task: &Task, last: Option<RowKey>, rows: u64, ends: bool) {
        self.change_table(task, |order, at| {
            order.waits_for = None;
            order.others &= task.all_but.is_none();
            let table = &mut order.tables[at];
            table.rows += rows;
            table.after = last.map(|key| wire::key_text(&key)).or(table.after.take());
            if table.state.is_open() {
                table.state = if ends { TableState::Done } else { TableState::Running };
            }
        });
        self.wanted.notify_one();
    }

    pub(super) fn failed(&self, task: &Task, stop: &Stop) {
        self.change_table(task, |order, at| {
            (order.tables[at].state, order.tables[at].reason) = (TableState::Failed, Some(stop.to_string()));
        });
        if let Some(verify) = task.verify.as_ref().filter(|verify| verify.prints) {
            self.tell(Note::Prints(Prints { failed: Some(stop.message.clone()), ends: true, ..task.no_prints(&verify.id) }));
        }
        if let Some(verify) = task.verify.as_ref().filter(|verify| verify.definitions) {
            self.tell(Note::Tables(Tables {
                verify: verify.id.clone(),
                tables: Vec::new(),
                failed: Some(stop.message.clone()),
            }));
        }
        self.wanted.notify_one();
    }

    pub(super) fn waits(&self, task: &Task, stop: &Stop) {
        self.change_table(task, |order, _| order.waits_for = Some(stop.message.clone()));
    }

    fn change_table(&self, task: &Task, change: impl FnOnce(&mut SnapshotOrder, usize)) {
        self.change(|orders, _| {
            let order = orders.iter_mut().find(|order| order.id == task.order);
            let at = order.as_ref().and_then(|order| order.tables.iter().position(|table| table.name() == task.table));
            if let (Some(order), Some(at)) = (order, at) {
                change(order, at);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<SnapshotOrder>, u64) -> T) -> T {
        let now = self.clock.now_seconds();
        let mut orders = self.held();
        let answer = change(&mut orders, now);
        orders.iter_mut().filter(|order| !order.is_open()).for_each(|order| {
            order.ended_seconds.get_or_insert(now);
            order.waits_for = None;
        });
        let mut too_many = orders.iter().filter(|order| !order.is_open()).count().saturating_sub(ENDED_KEPT);
        orders.retain(|order| {
            let forgotten = !order.is_open() && too_many > 0;
            too_many -= usize::from(forgotten);
            !forgotten
        });
        self.book.save(&orders);
        answer
    }

    fn held(&self) -> MutexGuard<'_, Vec<SnapshotOrder>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableOrder {
    pub fn name(&self) -> TableName {
        TableName::new(&self.database, &self.table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Column, ColumnKind, Shape, Value};
    use crate::runtime::SystemClock;

    fn key(id: i64) -> RowKey {
        let column = Column { name: "id".into(), kind: ColumnKind::Integer, generated: false };
        let shape = Shape { table: TableName::new("campus", "riders"), columns: vec![column], key: vec![0] };
        RowKey { shape: Arc::new(shape), values: Box::new([Value::Int(id)]) }
    }

    #[derive(Default)]
    struct Memory(Arc<Mutex<Vec<SnapshotOrder>>>);

    impl SnapshotBook for Memory {
        fn load(&self) -> Result<Vec<SnapshotOrder>, Stop> {
            // Through its outside form, as a file would.
            Ok(serde_json::from_str(&serde_json::to_string(&*self.0.lock().unwrap()).unwrap()).unwrap())
        }

        fn save(&self, orders: &[SnapshotOrder]) {
            *self.0.lock().unwrap() = orders.to_vec();
        }
    }

    fn open(kept: &Arc<Mutex<Vec<SnapshotOrder>>>) -> SnapshotDesk {
        SnapshotDesk::open(Box::new(Memory(kept.clone())), Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn a_desk_that_is_opened_again_goes_on_after_the_last_durable_row() {
        let kept = Arc::default();
        let desk = open(&kept);
        let tables = ["riders", "bikes"].map(|table| (TableName::new("campus", table), 10));
        desk.ask(&tables, &[], Some("id > 3".into()));
        let first = desk.next().unwrap();
        assert_eq!((first.table.to_string().as_str(), first.after.is_none()), ("campus.riders", true));
        desk.published(&first, Some(key(7)), 4, false);
        drop(desk);
        let desk = open(&kept);
        let next = desk.next().unwrap();
        assert_eq!((next.after.as_ref(), next.condition.as_deref()), (Some(&key(7)), Some("id > 3")));
        desk.published(&next, None, 0, true);
        let last = desk.next().unwrap();
        assert_eq!(last.table.to_string(), "campus.bikes");
        desk.failed(&last, &Stop::halt("the table does not exist", "make it"));
        assert_eq!(desk.next(), None);
        let order = desk.orders().remove(0);
        assert_eq!((order.tables[0].rows, order.tables[0].state), (4, TableState::Done));
        assert_eq!(order.tables[1].reason.as_deref(), Some("the table does not exist — make it"));
        assert!(order.ended_seconds.is_some());
    }

    #[test]
    fn a_node_that_is_seeded_gets_rows_and_prints_and_asks_twice_for_nothing() {
        let desk = open(&Arc::default());
        let asker = crate::change::OriginId::new("laptop-b");
        let table = crate::change::AskedTable { database: "campus".into(), table: "riders".into(), keys: Vec::new() };
        let check = |number: u64, publish: bool, seed: bool, expected: (bool, bool)| {
            let verify = VerifyId { asker: asker.clone(), number, round: 0 };
            let ask =
                Ask { verify, of: Vec::new(), tables: vec![table.clone()], publish, seed, all: false, definitions: false };
            desk.ask_for_verify(&ask);
            desk.ask_for_verify(&ask);
            let task = desk.next().unwrap();
            let verify = task.verify.as_ref().unwrap();
            assert_eq!((verify.prints, verify.publishes_rows()), expected);
            desk.published(&task, None, 0, true);
            assert_eq!(desk.next(), None, "the same question is asked once");
        };
        check(1, false, false, (true, false));
        check(2, true, false, (false, true));
        check(3, true, true, (true, true));
    }

    #[test]
    fn a_node_that_asks_how_tables_are_made_is_answered_once_and_told_why_not() {
        let desk = open(&Arc::default());
        let verify = VerifyId { asker: crate::change::OriginId::new("laptop-c"), number: 7, round: 0 };
        let (of, tables) = Default::default();
        let ask = Ask { verify: verify.clone(), of, tables, publish: false, seed: false, all: true, definitions: true };
        desk.ask_for_verify(&ask);
        desk.ask_for_verify(&ask);
        let task = desk.next().unwrap();
        assert!(task.lists());
        desk.failed(&task, &Stop::halt("the account may not", "grant it"));
        assert_eq!(desk.next(), None);
        let told = Note::Tables(Tables { verify, tables: Vec::new(), failed: Some("the account may not".into()) });
        assert_eq!(desk.waiting_notes(), [told]);
    }

    #[test]
    fn a_note_waits_for_its_place_in_the_history_and_is_published_again_where_it_may_be_in_no_topic() {
        let desk = open(&Arc::default());
        let settled = |id: &str| Note::Settled { conflict: id.to_owned() };
        let [early, late] = ["0-1-7", "0-1-9"].map(|text| text.parse::<GtidPosition>().unwrap());
        desk.tell_after(Some(late.clone()), settled("a"));
        desk.tell(settled("b"));
        desk.begin_run();
        assert_eq!(desk.next_note(&early), None, "nor the one behind it");
        assert_eq!([desk.next_note(&late), desk.next_note(&late)], [Some(settled("a")), Some(settled("b"))]);
        desk.note_is_durable();
        // The append of the second one failed. This tailer is not yet as far as that one was.
        desk.begin_run();
        assert_eq!(desk.next_note(&early), Some(settled("b")));
        desk.note_is_durable();
        assert_eq!((desk.next_note(&late), desk.waiting_notes()), (None, Vec::new()));
    }

    #[test]
    fn what_is_cancelled_is_not_gone_on_with_and_old_orders_are_forgotten() {
        let desk = open(&Arc::default());
        let tables = [(TableName::new("campus", "riders"), 10)];
        let id = desk.ask(&tables, &[], None);
        let task = desk.next().unwrap();
        assert!(desk.goes_on(task.clone()).is_some());
        assert!(desk.cancel(id) && !desk.cancel(id));
        assert_eq!((desk.next(), desk.goes_on(task.clone())), (None, None));
        desk.published(&task, Some(key(9)), 2, false);
        assert_eq!(desk.orders()[0].tables[0].state, TableState::Cancelled, "what was under way does not revive it");
        for _ in 0..2 * ENDED_KEPT {
            let id = desk.ask(&tables, &[], None);
            desk.cancel(id);
        }
        assert_eq!(desk.orders().len(), ENDED_KEPT);
    }
}
