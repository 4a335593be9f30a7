//! Rows that existed before the topic began, published between the live changes while those go on.
//!
//! A chunk of rows is read as of one moment of the history, beside the tailer. From before that moment until the tailer has
//! come past it, the keys of all rows of the table that change are noted: what the live changes tell of a row is newer than
//! the chunk, so these rows are left out of it. What remains is true at the place where it is published, and no lock was
//! needed. How far a snapshot is, is kept once its rows are durable; a tailer that died goes on there, and publishes some
//! rows again, which changes nothing.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::desk::{ForVerify, SnapshotDesk, Task};
use super::sequence::Sequencer;
use crate::change::{
    BinlogCoordinates, GtidPosition, Image, Note, OriginId, Prints, Record, RowKey, Shape, TableName, TableTold, Tables,
    VerifyId, wire,
};
use crate::observe::Observer;
use crate::runtime::{Backoff, Disposition, Fault, Stop};
use crate::source::{Chunk, ChunkRequest, Listing, RowReader, SourceError, TransactionPart};

/// Where rows are read, and who knows what is asked for.
#[derive(Clone)]
pub struct Snapshots {
    pub reader: Arc<dyn RowReader>,
    pub desk: Arc<SnapshotDesk>,
}

/// What one chunk takes: long enough that its own cost is little, short enough that nothing waits for it.
const CHUNK_TIME: Duration = Duration::from_millis(500);
const CHUNK_ROWS: std::ops::RangeInclusive<usize> = 100..=20_000;
const FIRST_ROWS: usize = 2_000;
const CHUNK_BYTES: usize = 8 << 20;

/// Chunks read before the first of them is durable.
const AHEAD: usize = 2;

/// Rows of one record of prints.
const PRINT_ROWS: usize = 2_000;

/// Keys noted beside one chunk. Where more change meanwhile, the chunk is read again when that is over.
const CHANGED_MAX: usize = 200_000;

/// The snapshots of one run of the tailer.
pub(super) struct Snapshotting {
    snapshots: Option<Snapshots>,
    window: Option<Window>,
    rows_max: usize,
    not_before: Instant,
    backoff: Backoff,
    /// What is to be kept once so many records of this run are durable.
    progress: VecDeque<(u64, Done)>,
    /// Each note that was taken, as the number of records of this run up to it.
    notes: VecDeque<u64>,
    without_window: bool,
    observer: Observer,
}

/// A chunk, from the moment that it is asked for.
struct Window {
    task: Task,
    began: Instant,
    /// The last transaction that was decided by then.
    opened: BinlogCoordinates,
    /// Keys of the table's rows that changed since, by their JSON.
    changed: HashMap<String, RowKey>,
    /// A statement came by that may have defined the table anew, or emptied it.
    reshaped: bool,
    state: State,
}

enum State {
    Reading(Pin<Box<dyn Future<Output = Result<Read, SourceError>> + Send>>),
    Read(Box<Read>),
}

/// What was asked for.
enum Read {
    Rows(Chunk),
    Tables(Listing),
}

impl Read {
    fn until(&self) -> &GtidPosition {
        match self {
            Self::Rows(chunk) => &chunk.until,
            Self::Tables(listing) => &listing.until,
        }
    }
}

struct Done {
    task: Task,
    last: Option<RowKey>,
    rows: u64,
    ends: bool,
}

impl Snapshotting {
    pub fn new(snapshots: Option<Snapshots>, observer: Observer, without_window: bool) -> Self {
        if let Some(snapshots) = &snapshots {
            snapshots.desk.begin_run();
        }
        Self {
            snapshots,
            observer,
            window: None,
            rows_max: FIRST_ROWS,
            not_before: Instant::now(),
            backoff: Backoff::seeded(Duration::from_millis(100), Duration::from_secs(10), 0),
            progress: VecDeque::new(),
            notes: VecDeque::new(),
            without_window,
        }
    }

    /// Asks for the next rows, if some are wanted and nothing stands in the way.
    pub fn open(&mut self, sequencer: &Sequencer) {
        let Some(snapshots) = &self.snapshots else { return };
        let free = self.window.is_none() && self.progress.len() < AHEAD && Instant::now() >= self.not_before;
        if !free || !sequencer.is_between() {
            return;
        }
        let task = match self.progress.back() {
            None => snapshots.desk.next(),
            // The next rows come after those whose end is not kept yet; the next table when this one is.
            Some((_, done)) if done.ends => None,
            Some((_, done)) => snapshots.desk.goes_on(Task { after: done.last.clone(), all_but: None, ..done.task.clone() }),
        };
        let Some(task) = task else { return };
        let request = ChunkRequest {
            table: task.table.clone(),
            after: task.after.clone(),
            // Prints of rows come back in one record.
            rows_max: if task.verify.is_some() { self.rows_max.min(PRINT_ROWS) } else { self.rows_max },
            bytes_max: CHUNK_BYTES,
            keys: task.keys.clone(),
            condition: task.condition.clone(),
            names: task.all_but.is_some(),
            definition: task.verify.is_none() && task.after.is_none(),
        };
        let reader = snapshots.reader.clone();
        let lists = task.lists();
        let reading = async move {
            match lists {
                true => reader.listing().await.map(Read::Tables),
                false => reader.chunk(&request).await.map(Read::Rows),
            }
        };
        self.window = Some(Window {
            task,
            began: Instant::now(),
            opened: sequencer.coordinates().clone(),
            changed: HashMap::new(),
            reshaped: false,
            state: State::Reading(Box::pin(reading)),
        });
    }

    /// A part of the live history goes by, echoes included.
    pub fn see(&mut self, part: &TransactionPart) {
        let Some(window) = self.window.as_mut().filter(|window| window.changed.len() <= CHANGED_MAX) else { return };
        if part.ddl.is_some() {
            // What the rows are like may be another thing now: they are read again.
            window.reshaped = true;
        }
        for change in part.changes.iter().filter(|change| *change.table() == window.task.table) {
            let keys =
                [&change.before, &change.after].into_iter().flatten().filter_map(|image| RowKey::of(&change.shape, image));
            window.changed.extend(keys.map(|key| (wire::key_json(&key), key)));
        }
    }

    /// Goes on until something is there to be done: rows were read, or are wanted. Cancel-safe.
    pub async fn advance(&mut self) {
        let Some(snapshots) = &self.snapshots else { return std::future::pending().await };
        match &mut self.window {
            Some(Window { state: State::Read(_), .. }) => std::future::pending().await,
            Some(window) => {
                let State::Reading(reading) = &mut window.state else { unreachable!("the other state was matched above") };
                let read = reading.await;
                self.read(read);
            }
            None if !self.progress.is_empty() => std::future::pending().await,
            None if self.not_before > Instant::now() => sleep_until(self.not_before).await,
            None => snapshots.desk.wanted().await,
        }
    }

    fn read(&mut self, read: Result<Read, SourceError>) {
        let (Some(snapshots), Some(window)) = (&self.snapshots, &mut self.window) else { return };
        match read {
            Ok(read) => {
                self.backoff.reset();
                let took = window.began.elapsed().max(Duration::from_millis(1)).as_secs_f64();
                if let Read::Rows(chunk) = &read {
                    let rows = chunk.rows.len().max(1) as f64 * CHUNK_TIME.as_secs_f64() / took;
                    // Never more than twice as many at once: one quick chunk says little.
                    self.rows_max = (rows as usize).min(self.rows_max * 2).clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end());
                }
                window.state = State::Read(Box::new(read));
            }
            Err(error) => {
                let task = window.task.clone();
                let lasts = error.disposition() != Disposition::Retry;
                let stop = Stop::from(error);
                if lasts {
                    snapshots.desk.failed(&task, &stop);
                } else {
                    snapshots.desk.waits(&task, &stop);
                    self.not_before = Instant::now() + self.backoff.next_wait();
                }
                self.window = None;
            }
        }
    }

    /// The rows that have been read, once the live history has come past them: to be published now, after the `decided` records
    /// of this run that come before them.
    pub fn take(&mut self, sequencer: &Sequencer, decided: u64) -> Vec<Record> {
        let past = |read: &Read| sequencer.is_between() && sequencer.position().covers_all(read.until());
        if let Some(snapshots) = &self.snapshots
            && sequencer.is_between()
            && let Some(note) = snapshots.desk.next_note(sequencer.position())
        {
            let records: Vec<Record> = sequencer.note(note).into_iter().collect();
            self.notes.push_back(decided + records.len() as u64);
            return records;
        }
        let due = matches!(&self.window, Some(Window { state: State::Read(read), .. }) if past(read));
        if !due {
            return Vec::new();
        }
        let Some(Window { task, opened, changed, reshaped, state: State::Read(read), .. }) = self.window.take() else {
            return Vec::new();
        };
        let chunk = match *read {
            Read::Rows(chunk) => chunk,
            // A statement came by meanwhile: they are read again.
            Read::Tables(_) if reshaped => return Vec::new(),
            Read::Tables(listing) => return self.tell_tables(sequencer, task, listing, decided),
        };
        // A transaction that had been decided before is not in the rows, because the server shows it a moment after it logs
        // it; or too many rows changed.
        if !self.without_window && (opened.is_after(&chunk.moment) || reshaped || changed.len() > CHANGED_MAX) {
            return Vec::new();
        }
        let last = chunk.rows.last().and_then(|row| RowKey::of(&chunk.shape, row));
        let done = Done { task, last, rows: chunk.rows.len() as u64, ends: chunk.ends };
        let untouched = |row: &Image| {
            self.without_window
                || changed.is_empty()
                || RowKey::of(&chunk.shape, row).is_none_or(|key| !changed.contains_key(&wire::key_json(&key)))
        };
        let rows: Vec<&Image> = chunk.rows.iter().filter(|row| untouched(row)).collect();
        let mut records: Vec<Record> =
            others(sequencer.origin(), &done.task, &chunk.names).filter_map(|note| sequencer.note(note)).collect();
        let made = chunk.definition.as_deref().and_then(|text| sequencer.existing_table(&chunk.shape.table, text));
        records.extend(made);
        if done.task.verify.as_ref().is_none_or(ForVerify::publishes_rows) {
            records.extend(rows.iter().filter_map(|row| sequencer.existing_row(&chunk.shape, (*row).clone())));
        }
        if let Some(verify) = done.task.verify.as_ref().filter(|verify| verify.prints) {
            let note = Note::Prints(prints(&done, &verify.id, &chunk.shape, &rows, changed.values()));
            records.extend(sequencer.note(note));
        }
        self.progress.push_back((decided + records.len() as u64, done));
        records
    }

    fn tell_tables(&mut self, sequencer: &Sequencer, task: Task, listing: Listing, decided: u64) -> Vec<Record> {
        let told = |(name, statement): (TableName, String)| TableTold {
            database: name.database.to_string(),
            table: name.table.to_string(),
            statement,
        };
        let tables = listing.tables.into_iter().map(told).collect();
        let verify = task.verify.as_ref().map(|verify| verify.id.clone());
        let note = verify.map(|verify| Note::Tables(Tables { verify, tables, failed: None }));
        let records: Vec<Record> = note.and_then(|note| sequencer.note(note)).into_iter().collect();
        self.progress.push_back((decided + records.len() as u64, Done { task, last: None, rows: 0, ends: true }));
        records
    }

    /// So many records of this run are durable.
    pub fn keep(&mut self, durable: u64) {
        let Some(snapshots) = &self.snapshots else { return };
        while self.notes.pop_front_if(|at| *at <= durable).is_some() {
            snapshots.desk.note_is_durable();
        }
        while let Some((_, done)) = self.progress.pop_front_if(|(at, _)| *at <= durable) {
            self.observer.snapshot_rows(done.rows);
            snapshots.desk.published(&done.task, done.last, done.rows, done.ends);
        }
    }
}

/// Tells who asked about all its tables which others are here.
fn others<'t>(own: &'t OriginId, task: &'t Task, names: &'t [TableName]) -> impl Iterator<Item = Note> + 't {
    let asked = task.all_but.iter().zip(&task.verify);
    asked.flat_map(move |(asked, verify)| {
        let same = |one: &TableName, other: &TableName| one.to_string().to_lowercase() == other.to_string().to_lowercase();
        let more = names.iter().filter(move |name| !asked.iter().any(|asked| same(asked, name)));
        more.map(move |name| {
            let whole = Task { table: name.clone(), after: None, keys: Vec::new(), ..task.clone() };
            Note::Prints(Prints {
                failed: Some(format!("only {own} has this table")),
                ends: true,
                ..whole.no_prints(&verify.id)
            })
        })
    })
}

/// What the rows of a chunk are like, and of which rows nothing is said.
fn prints<'k>(
    done: &Done,
    verify: &VerifyId,
    shape: &Arc<Shape>,
    rows: &[&Image],
    left_out: impl Iterator<Item = &'k RowKey>,
) -> Prints {
    let columns: Vec<String> =
        shape.columns.iter().filter(|column| !column.generated).map(|column| column.name.to_string()).collect();
    let key = |row: &Image| RowKey::of(shape, row).map(|key| wire::key_text(&key));
    Prints {
        rows: rows.iter().filter_map(|row| Some((key(row)?, wire::row_print(shape, row, &columns)))).collect(),
        left_out: left_out.map(wire::key_text).collect(),
        upto: if done.ends { None } else { done.last.as_ref().map(wire::key_text) },
        ends: done.ends,
        columns,
        ..done.task.no_prints(verify)
    }
}
