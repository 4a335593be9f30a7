//! What a group of events holds until it is known how it ends: decoded changes up to a limit, and beyond it the events
//! as they came, in a file without a name.
//!
//! Even the last event of a group may take it back: ROLLBACK stands at the end of a transaction that made a temporary
//! table, ROLLBACK TO behind rows that went before, and a prepared XA transaction ends hours later. So nothing of a
//! group is given away before its end, and a large one must wait outside of memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tokio::task::JoinHandle;

use super::event::EventHeader;
use super::tables::InForce;
use crate::change::Change;
use crate::source::Ddl;

/// Bytes that are written to the file, or read from it, at once. Waiting for a thread costs some 20 µs each time, next to
/// about 300 µs for a MiB.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a savepoint was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    pieces: usize,
    changes: usize,
    weight: usize,
    spilled: u64,
}

/// Changes, and the statement that ran after them.
#[derive(Default, Debug)]
pub struct Piece {
    pub changes: Vec<Change>,
    pub ddl: Option<Ddl>,
}

#[derive(Default, Debug)]
pub struct Hold {
    /// Ended by a statement each.
    pieces: Vec<Piece>,
    pub changes: Vec<Change>,
    weight: usize,
    savepoints: Vec<(String, Mark)>,
    spill: Option<Spill>,
    /// The tables of the statement in whose middle the spill begins.
    spill_tables: Option<InForce>,
}

impl Hold {
    pub fn push(&mut self, change: Change) {
        self.weight += change.weight();
        self.changes.push(change);
    }

    pub fn push_statement(&mut self, ddl: Ddl) {
        let changes = std::mem::take(&mut self.changes);
        self.pieces.push(Piece { changes, ddl: Some(ddl) });
    }

    /// Bytes of changes in memory.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// From here on events go to a file in this directory.
    pub fn begin_spill(&mut self, directory: &Path, tables: InForce) -> io::Result<()> {
        self.spill = Some(Spill::create(directory)?);
        self.spill_tables = Some(tables);
        Ok(())
    }

    pub fn spill(&mut self) -> Option<&mut Spill> {
        self.spill.as_mut()
    }

    pub fn savepoint(&mut self, name: String) {
        self.savepoints.retain(|(own, _)| *own != name);
        let mark = Mark {
            pieces: self.pieces.len(),
            changes: self.changes.len(),
            weight: self.weight,
            spilled: self.spill.as_ref().map_or(0, Spill::end),
        };
        self.savepoints.push((name, mark));
    }

    /// Takes back what came after the savepoint; false where there is none of this name.
    pub fn rollback_to(&mut self, name: &str) -> bool {
        let Some(at) = self.savepoints.iter().position(|(own, _)| own == name) else { return false };
        self.savepoints.truncate(at + 1);
        let mark = self.savepoints[at].1;
        if self.pieces.len() > mark.pieces {
            // A statement ended the piece that the savepoint stands in: the changes before it are there.
            self.changes = std::mem::take(&mut self.pieces[mark.pieces].changes);
            self.pieces.truncate(mark.pieces);
        }
        self.changes.truncate(mark.changes);
        self.weight = mark.weight;
        if let Some(spill) = &mut self.spill {
            spill.cut(mark.spilled);
        }
        true
    }

    /// What there is to give away: the pieces in order, then what was spilled.
    pub fn into_parts(mut self) -> (Vec<Piece>, Option<(Spill, InForce)>) {
        if !self.changes.is_empty() {
            self.pieces.push(Piece { changes: self.changes, ddl: None });
        }
        (self.pieces, self.spill.zip(self.spill_tables))
    }
}

/// Events in a file that has no name any more, so that it goes with the process. Only one thread at a time works on it; a
/// call that was dropped while it waited is taken up by the next.
#[derive(Debug)]
pub struct Spill {
    state: State,
    /// Not written yet; it goes to `written`.
    unwritten: Vec<u8>,
    written: u64,
    /// Read and not taken yet, from `taken` on.
    ready: Vec<u8>,
    taken: usize,
    read: u64,
}

#[derive(Debug)]
enum State {
    Idle(File),
    Busy(JoinHandle<(File, io::Result<Done>)>),
    /// A thread died; cannot happen as long as nothing in it panics.
    Lost,
}

#[derive(Debug)]
enum Done {
    Wrote(u64),
    /// What was left, and this many bytes more.
    Read(Vec<u8>, u64),
}

impl Spill {
    fn create(directory: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(directory)?;
        Ok(Self { state: State::Idle(file), unwritten: Vec::new(), written: 0, ready: Vec::new(), taken: 0, read: 0 })
    }

    fn end(&self) -> u64 {
        self.written + self.unwritten.len() as u64
    }

    /// Keeps an event. Call [`Self::settle`] before the next.
    pub fn push(&mut self, header: &EventHeader, body: &[u8]) {
        self.unwritten.extend_from_slice(&header.to_bytes());
        self.unwritten.extend_from_slice(&(body.len() as u64).to_le_bytes());
        self.unwritten.extend_from_slice(body);
    }

    /// Writes out what has gathered, if it is worth it.
    pub async fn settle(&mut self) -> io::Result<()> {
        self.finish().await?;
        if self.unwritten.len() >= CHUNK_BYTES {
            self.write_out();
            self.finish().await?;
        }
        Ok(())
    }

    /// Forgets what came after `end`. The file may keep it; it is written over.
    fn cut(&mut self, end: u64) {
        if end >= self.written {
            self.unwritten.truncate((end - self.written) as usize);
        } else {
            self.unwritten.clear();
            self.written = end;
        }
    }

    /// The next event from the beginning on, with the room it takes for [`Self::advance`]; `None` at the end.
    pub async fn peek(&mut self) -> io::Result<Option<(EventHeader, &[u8], usize)>> {
        const HEAD: usize = EventHeader::LENGTH + 8;
        loop {
            self.finish().await?;
            let ready = &self.ready[self.taken..];
            let wanted = match ready.get(EventHeader::LENGTH..HEAD) {
                Some(length) => HEAD + u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize,
                None => HEAD,
            };
            if ready.len() >= HEAD && ready.len() >= wanted {
                break;
            }
            if !self.unwritten.is_empty() {
                self.write_out();
            } else if self.read == self.written {
                return if ready.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            } else {
                self.read_in(wanted);
            }
        }
        let ready = &self.ready[self.taken..];
        let (head, rest) = ready.split_at(HEAD);
        let header = header_of(head.first_chunk().expect("a header's length"));
        let length = u64::from_le_bytes(head[EventHeader::LENGTH..].try_into().expect("eight bytes")) as usize;
        Ok(Some((header, &rest[..length], HEAD + length)))
    }

    /// The event of the last [`Self::peek`] is dealt with.
    pub fn advance(&mut self, room: usize) {
        self.taken += room;
    }

    fn write_out(&mut self) {
        let (bytes, at) = (std::mem::take(&mut self.unwritten), self.written);
        self.work(move |file| {
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&bytes)?;
            Ok(Done::Wrote(bytes.len() as u64))
        });
    }

    /// Reads a chunk, or as much as is missing of an event.
    fn read_in(&mut self, wanted: usize) {
        let mut bytes = std::mem::take(&mut self.ready);
        bytes.drain(..self.taken);
        self.taken = 0;
        let at = self.read;
        let more = (wanted.saturating_sub(bytes.len()).max(CHUNK_BYTES) as u64).min(self.written - at);
        self.work(move |file| {
            file.seek(SeekFrom::Start(at))?;
            let start = bytes.len();
            bytes.resize(start + more as usize, 0);
            file.read_exact(&mut bytes[start..])?;
            Ok(Done::Read(bytes, more))
        });
    }

    fn work(&mut self, job: impl FnOnce(&mut File) -> io::Result<Done> + Send + 'static) {
        if let State::Idle(mut file) = std::mem::replace(&mut self.state, State::Lost) {
            self.state = State::Busy(tokio::task::spawn_blocking(move || {
                let outcome = job(&mut file);
                (file, outcome)
            }));
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        let State::Busy(handle) = &mut self.state else {
            return match self.state {
                State::Lost => Err(io::Error::other("an earlier write or read did not end")),
                _ => Ok(()),
            };
        };
        let ended = handle.await;
        self.state = State::Lost;
        let (file, outcome) = ended.map_err(io::Error::other)?;
        self.state = State::Idle(file);
        match outcome? {
            Done::Wrote(bytes) => self.written += bytes,
            Done::Read(ready, more) => {
                self.ready = ready;
                self.read += more;
            }
        }
        Ok(())
    }
}

fn header_of(bytes: &[u8; EventHeader::LENGTH]) -> EventHeader {
    let four = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    EventHeader {
        second: four(0),
        kind: bytes[4],
        server_id: four(5),
        size: four(9),
        position: four(13),
        flags: u16::from_le_bytes([bytes[17], bytes[18]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u32) -> EventHeader {
        EventHeader { second: number, kind: 23, server_id: 1, size: 0, position: number, flags: 0 }
    }

    async fn all(spill: &mut Spill) -> Vec<(u32, usize)> {
        let mut seen = Vec::new();
        while let Some((header, body, room)) = spill.peek().await.unwrap() {
            assert!(body.iter().all(|&byte| byte == header.second as u8));
            seen.push((header.second, body.len()));
            spill.advance(room);
        }
        seen
    }

    #[tokio::test]
    async fn spilled_events_come_back_in_order_whatever_their_size() {
        let mut spill = Spill::create(&std::env::temp_dir()).unwrap();
        let sizes = [0, 10, CHUNK_BYTES - 30, 3 * CHUNK_BYTES, 1, 700_000, 700_000, 0];
        for (number, &size) in sizes.iter().enumerate() {
            spill.push(&header(number as u32), &vec![number as u8; size]);
            spill.settle().await.unwrap();
        }
        let expected: Vec<_> = sizes.iter().enumerate().map(|(number, &size)| (number as u32, size)).collect();
        assert_eq!(all(&mut spill).await, expected);
    }

    #[tokio::test]
    async fn what_was_cut_off_is_written_over() {
        let mut spill = Spill::create(&std::env::temp_dir()).unwrap();
        let put = async |spill: &mut Spill, number: u32, size: usize| {
            spill.push(&header(number), &vec![number as u8; size]);
            spill.settle().await.unwrap();
        };
        put(&mut spill, 1, 100).await;
        let early = spill.end();
        put(&mut spill, 2, 2 * CHUNK_BYTES).await;
        let late = spill.end();
        put(&mut spill, 3, 50).await;
        spill.cut(late);
        put(&mut spill, 4, 60).await;
        spill.cut(early);
        put(&mut spill, 5, 70).await;
        assert_eq!(all(&mut spill).await, [(1, 100), (5, 70)]);
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_nothing() {
        let mut spill = Spill::create(&std::env::temp_dir()).unwrap();
        for number in 0..4 {
            spill.push(&header(number), &vec![number as u8; CHUNK_BYTES]);
            // Polled once and dropped: the write goes on by itself.
            assert!(futures_util::FutureExt::now_or_never(spill.settle()).is_none_or(|done| done.is_ok()));
        }
        assert!(futures_util::FutureExt::now_or_never(spill.peek()).is_none());
        assert_eq!(all(&mut spill).await.len(), 4);
    }

    #[test]
    fn a_savepoint_takes_back_what_came_after_it() {
        use crate::change::{Checks, Op, Shape, TableName};
        let shape = std::sync::Arc::new(Shape { table: TableName::new("d", "t"), columns: Vec::new(), key: Vec::new() });
        let change = || Change { shape: shape.clone(), op: Op::Truncate, before: None, after: None, checks: Checks::default() };
        let mut hold = Hold::default();
        hold.push(change());
        let weight = hold.weight();
        hold.savepoint("a".into());
        hold.push(change());
        hold.savepoint("b".into());
        hold.push_statement(Ddl { statement: "CREATE TABLE x".into(), ..Ddl::default() });
        hold.push(change());
        assert!(hold.rollback_to("b"));
        assert_eq!((hold.pieces.len(), hold.changes.len()), (0, 2));
        assert!(hold.rollback_to("a"));
        assert_eq!((hold.changes.len(), hold.weight()), (1, weight));
        assert!(!hold.rollback_to("b"), "it was taken back itself");
        assert!(hold.rollback_to("a"), "it stays usable");
    }
}
