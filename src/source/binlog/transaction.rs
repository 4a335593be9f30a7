//! From events to transactions: groups are gathered, held until their end is known, and given away in parts.
//!
//! A group is what stands under one GTID. It ends by XID, by a logged COMMIT (engines without XA), by XA PREPARE, by a
//! logged ROLLBACK, or, where its GTID says so, with its only statement. What was prepared waits for its XA COMMIT.

use std::path::PathBuf;
use std::sync::Arc;

use super::charset::Charset;
use super::error::DecodeError;
use super::event::{Event, EventHeader, GtidEvent, Query, kind, kind_name};
use super::hold::{Hold, Piece, Spill};
use super::rows::{self, RowsKind};
use super::schema::{Moment, Schema};
use super::session::{RawEvent, Session};
use super::statement::Statement;
use super::table_map::TableMap;
use super::tables::{MapOutcome, Mapped, Tables};
use crate::change::{BinlogCoordinates, Change, Gtid, GtidPosition, TableName, Value};
use crate::source::{Ddl, SourceError, SourceEvent, TransactionHeader, TransactionPart, TransactionStream};

/// Changes of prepared XA transactions that may stay in memory; beyond it they wait in files.
const PREPARED_BYTES_MAX: usize = 16 << 20;

pub struct Transactions {
    session: Session,
    tables: Tables,
    schema: Schema,
    limits: Limits,
    /// Up to and with the last transaction that was given away.
    position: GtidPosition,
    file: Arc<str>,
    /// Arrived, and not dealt with yet: a call that was dropped leaves it here.
    event: Option<RawEvent>,
    group: Option<Group>,
    /// The server logs with a statement what a TIMESTAMP column is like of which nothing more is said.
    tells_timestamps: bool,
    /// In the order they were prepared.
    prepared: Vec<Prepared>,
    giving: Option<Giving>,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Changes in one part, in bytes of memory; beyond it a group waits in a file.
    pub part_bytes: usize,
    /// Where that file is.
    pub hold_dir: PathBuf,
}

/// The group that is being read.
struct Group {
    gtid: Gtid,
    header: Arc<TransactionHeader>,
    standalone: bool,
    alter_without_effect: bool,
    prepares: Option<Box<[u8]>>,
    completes: Option<Box<[u8]>>,
    hold: Hold,
}

/// An XA transaction between its PREPARE and its end.
struct Prepared {
    xid: Box<[u8]>,
    /// Everything that was given away before it.
    before: Arc<GtidPosition>,
    hold: Hold,
}

/// A group whose end is known.
struct Giving {
    header: Arc<TransactionHeader>,
    pieces: std::vec::IntoIter<Piece>,
    spill: Option<Spill>,
    /// Read back from the spill, not enough for a part yet.
    changes: Vec<Change>,
    weight: usize,
}

enum End {
    Commit,
    Rollback,
    Prepare,
}

impl Transactions {
    pub fn new(session: Session, tables: Tables, schema: Schema, limits: Limits, from: GtidPosition) -> Self {
        Self {
            session,
            tables,
            schema,
            limits,
            position: from,
            file: Arc::from(""),
            event: None,
            group: None,
            tells_timestamps: false,
            prepared: Vec::new(),
            giving: None,
        }
    }

    /// Waits for the first event, which is where the server says whether it has the position.
    pub async fn begin(mut self) -> Result<Self, SourceError> {
        self.event = Some(self.session.next().await?);
        Ok(self)
    }

    /// Deals with the event in hand. It stays in hand until nothing is to be waited for any more.
    async fn take_event(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        let Some(header) = self.event.as_ref().map(|event| event.header) else { return Ok(None) };
        if header.kind == kind::TABLE_MAP {
            self.know_table(&header).await?;
        }
        let Some(event) = self.event.take() else { return Ok(None) };
        let parsed = Event::parse(&header, event.body()).map_err(|error| self.undecodable(&header, error))?;
        match parsed {
            Event::Rows(kind) => self.rows(&header, kind, event.body())?,
            Event::TableMap => self.table_map(&header, event.body())?,
            Event::Xid => self.end(End::Commit)?,
            Event::XaPrepare => self.end(End::Prepare)?,
            Event::Gtid(gtid) => self.begin_group(&header, gtid)?,
            Event::Query(query) => self.query(&header, query, event.body())?,
            Event::Heartbeat => return Ok(Some(SourceEvent::Idle)),
            Event::Rotate { file } => self.file = Arc::from(&*file),
            // A server that crashed while it wrote a group leaves its beginning at the end of a file.
            Event::Format { tells_timestamps } => (self.group, self.tells_timestamps) = (None, tells_timestamps),
            Event::LoadStatement => {
                let Some(group) = &self.group else { return Err(self.outside(&header)) };
                return Err(SourceError::StatementLogged { gtid: group.gtid, verb: "LOAD DATA" });
            }
            Event::Incident { message } => {
                let after = self.position.to_string();
                return Err(SourceError::Incident { after, message: message.into_owned() });
            }
            Event::Unknown => {
                return Err(SourceError::UnknownEvent { at: self.place(&header), event: kind_name(header.kind) });
            }
            Event::Other => {}
        }
        Ok(None)
    }

    fn begin_group(&mut self, event: &EventHeader, gtid: GtidEvent<'_>) -> Result<(), SourceError> {
        if let Some(open) = &self.group {
            let reason = format!("{} has no end that we know, and the next transaction begins", open.gtid);
            return Err(SourceError::Corrupt { at: self.place(event), reason });
        }
        let xid = gtid.xid.map(Box::from);
        let id = Gtid { domain: gtid.domain, server: event.server_id, sequence: gtid.sequence };
        let read_from = match self.prepared.first() {
            Some(oldest) => Some(oldest.before.clone()),
            None => gtid.prepares_xa().then(|| Arc::new(self.position.clone())),
        };
        let header = TransactionHeader {
            gtid: id,
            commit_second: event.second.into(),
            server_id: event.server_id,
            coordinates: BinlogCoordinates { file: self.file.clone(), position: event.position.into() },
            read_from,
        };
        self.group = Some(Group {
            gtid: id,
            header: Arc::new(header),
            standalone: gtid.is_standalone(),
            alter_without_effect: gtid.is_alter_without_effect(),
            prepares: xid.clone().filter(|_| gtid.prepares_xa()),
            completes: xid.filter(|_| gtid.completes_xa()),
            hold: Hold::default(),
        });
        self.tables.end_statement();
        Ok(())
    }

    /// Finds out what must be known of a table before its rows can be read: the only wait before an event is dealt with.
    async fn know_table(&mut self, header: &EventHeader) -> Result<(), SourceError> {
        let Some(event) = self.event.as_ref() else { return Ok(()) };
        let Some(group) = self.group.as_ref() else { return Err(self.outside(header)) };
        let outcome = self.tables.map(event.body());
        let outcome = outcome.map_err(|error| undecodable(&group.header, &self.file, header, error))?;
        let MapOutcome::Unknown(map) = outcome else { return Ok(()) };
        let learned = learn(&mut self.tables, &mut self.schema, &self.position, &group.header, &map, event.body()).await;
        learned.map_err(|error| error.at(&group.header, &self.file, header))
    }

    fn table_map(&mut self, header: &EventHeader, body: &[u8]) -> Result<(), SourceError> {
        let captured = rows::table_id(body).ok().and_then(|id| self.tables.get(id));
        if let Some(Mapped::Captured(_)) = captured
            && let Some(spill) = self.group.as_mut().and_then(|group| group.hold.spill())
        {
            spill.push(header, body);
        }
        Ok(())
    }

    fn rows(&mut self, header: &EventHeader, kind: RowsKind, body: &[u8]) -> Result<(), SourceError> {
        let Some(group) = self.group.as_mut() else { return Err(self.outside(header)) };
        if let Some(spill) = group.hold.spill() {
            // Its last rows event may be one of a filtered table, so this is needed for the end of the statement too.
            spill.push(header, body);
        } else {
            let decoded = decode(&self.tables, kind, body, |change| group.hold.push(change));
            decoded.map_err(|error| self.undecodable(header, error))?;
        }
        if rows::ends_statement(body) {
            self.tables.end_statement();
        }
        self.limit_memory()
    }

    /// Sends the group to a file from here on, where it has become too large.
    fn limit_memory(&mut self) -> Result<(), SourceError> {
        let held: usize = self.prepared.iter().map(|prepared| prepared.hold.weight()).sum();
        let Some(group) = self.group.as_mut() else { return Ok(()) };
        let most = match group.prepares {
            Some(_) => self.limits.part_bytes.min(PREPARED_BYTES_MAX.saturating_sub(held)),
            None => self.limits.part_bytes,
        };
        if group.hold.weight() > most && group.hold.spill().is_none() {
            let directory = &self.limits.hold_dir;
            group.hold.begin_spill(directory, self.tables.in_force()).map_err(|error| self.hold_fault(&error))?;
        }
        Ok(())
    }

    fn query(&mut self, header: &EventHeader, query: Query<'_>, body: &[u8]) -> Result<(), SourceError> {
        let Some(group) = self.group.as_mut() else { return Err(self.outside(header)) };
        match query.statement() {
            Statement::Commit => self.end(End::Commit),
            Statement::Rollback => self.end(End::Rollback),
            Statement::XaCommit => self.end(End::Commit),
            Statement::XaRollback => self.end(End::Rollback),
            Statement::Begin | Statement::XaFrame => Ok(()),
            Statement::Savepoint(name) => {
                group.hold.savepoint(name);
                Ok(())
            }
            Statement::RollbackTo(name) => {
                if group.hold.rollback_to(&name) {
                    return Ok(());
                }
                let at = self.place(header);
                Err(SourceError::Corrupt { at, reason: "it goes back to a savepoint that was not set".into() })
            }
            Statement::Dml(verb) => Err(SourceError::StatementLogged { gtid: group.gtid, verb }),
            Statement::Ddl => {
                if !group.alter_without_effect {
                    let gtid = group.gtid;
                    let ended = u64::from(header.second) + u64::from(query.seconds);
                    match group.hold.spill() {
                        Some(spill) => spill.push(header, body),
                        None => group.hold.push_statement(ddl(&query, !group.standalone, self.tells_timestamps)),
                    }
                    self.tables.forget(&query.text);
                    if let Some(table) = self.schema.forget(&query.text, gtid, ended) {
                        let reason = "rows before this statement were read with the columns that it gave the table".to_owned();
                        return Err(SourceError::ShapeUncertain { table, gtid, reason });
                    }
                }
                if self.group.as_ref().is_some_and(|group| group.standalone) { self.end(End::Commit) } else { Ok(()) }
            }
        }
    }

    /// The group's end is known: give it away, keep it prepared, or drop what it holds.
    fn end(&mut self, end: End) -> Result<(), SourceError> {
        let Some(mut group) = self.group.take() else { return Ok(()) };
        self.tables.end_statement();
        let mut hold = std::mem::take(&mut group.hold);
        if let Some(xid) = group.prepares.take() {
            let before = group.header.read_from.clone().filter(|_| self.prepared.is_empty());
            let before = before.unwrap_or_else(|| Arc::new(self.position.clone()));
            let hold = std::mem::take(&mut hold);
            self.prepared.push(Prepared { xid, before, hold });
        } else if let Some(xid) = group.completes.take() {
            match (self.prepared.iter().position(|prepared| prepared.xid == xid), &end) {
                (Some(at), _) => hold = self.prepared.remove(at).hold,
                (None, End::Commit) => {
                    return Err(SourceError::PreparedBefore { gtid: group.gtid, xid: xid_text(&xid) });
                }
                (None, _) => {}
            }
        }
        if matches!(end, End::Rollback) {
            // Only rows of transactional tables stand in such a group: others are logged in groups of their own.
            hold = Hold::default();
        }
        let (pieces, spill) = hold.into_parts();
        let spill = spill.map(|(spill, tables)| {
            self.tables.resume(tables);
            spill
        });
        self.giving = Some(Giving { header: group.header, pieces: pieces.into_iter(), spill, changes: Vec::new(), weight: 0 });
        Ok(())
    }

    /// The next part of the group that is being given away.
    async fn give(&mut self) -> Result<Option<TransactionPart>, SourceError> {
        let Some(giving) = self.giving.as_mut() else { return Ok(None) };
        let header = giving.header.clone();
        if let Some(Piece { changes, ddl }) = giving.pieces.next() {
            let last = giving.pieces.len() == 0 && giving.spill.is_none();
            return Ok(Some(self.given(TransactionPart { header, changes, ddl, last })));
        }
        let Some(spill) = giving.spill.as_mut() else {
            return Ok(Some(self.given(TransactionPart { header, changes: Vec::new(), ddl: None, last: true })));
        };
        // One event of the spill at a time; a dropped call repeats at most the look at it.
        loop {
            let Some((event, body, room)) = spill.peek().await.map_err(|error| hold_fault(&self.limits, &error))? else {
                break;
            };
            let parsed = Event::parse(&event, body);
            let mut statement = None;
            let done = match parsed {
                Ok(Event::TableMap) => match self.tables.map(body) {
                    Ok(MapOutcome::Ready) => Ok(()),
                    // Forgotten since it was first read: there are too many other tables.
                    Ok(MapOutcome::Unknown(map)) => {
                        let learned = learn(&mut self.tables, &mut self.schema, &self.position, &header, &map, body).await;
                        learned.map_err(|error| error.at(&header, &self.file, &event))?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Ok(Event::Rows(kind)) => {
                    let weight = &mut giving.weight;
                    let changes = &mut giving.changes;
                    let decoded = decode(&self.tables, kind, body, |change| {
                        *weight += change.weight();
                        changes.push(change);
                    });
                    if rows::ends_statement(body) {
                        self.tables.end_statement();
                    }
                    decoded
                }
                Ok(Event::Query(query)) => {
                    // What has rows behind it is not by itself.
                    statement = Some(ddl(&query, true, self.tells_timestamps));
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            done.map_err(|error| undecodable(&header, &self.file, &event, error))?;
            spill.advance(room);
            if giving.weight > self.limits.part_bytes || statement.is_some() {
                giving.weight = 0;
                let changes = std::mem::take(&mut giving.changes);
                return Ok(Some(TransactionPart { header, changes, ddl: statement, last: false }));
            }
        }
        let changes = std::mem::take(&mut giving.changes);
        Ok(Some(self.given(TransactionPart { header, changes, ddl: None, last: true })))
    }

    /// The last step of [`Self::give`]: no wait comes after it.
    fn given(&mut self, part: TransactionPart) -> TransactionPart {
        if part.last {
            self.position.advance(part.header.gtid);
            self.giving = None;
        }
        part
    }

    fn outside(&self, header: &EventHeader) -> SourceError {
        let reason = format!("{} stands outside of any GTID", kind_name(header.kind));
        SourceError::Corrupt { at: self.place(header), reason }
    }

    fn place(&self, header: &EventHeader) -> String {
        let after = || format!("after {}", self.position);
        let gtid = self.group.as_ref().map_or_else(after, |group| group.gtid.to_string());
        format!("{gtid} ({}:{})", self.file, header.position)
    }

    fn undecodable(&self, header: &EventHeader, source: DecodeError) -> SourceError {
        SourceError::Undecodable { at: self.place(header), source }
    }

    fn hold_fault(&self, error: &std::io::Error) -> SourceError {
        hold_fault(&self.limits, error)
    }
}

#[async_trait::async_trait]
impl TransactionStream for Transactions {
    async fn next(&mut self) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(part) = self.give().await? {
                return Ok(SourceEvent::Part(part));
            }
            if let Some(spill) = self.group.as_mut().and_then(|group| group.hold.spill()) {
                spill.settle().await.map_err(|error| hold_fault(&self.limits, &error))?;
            }
            if self.event.is_none() {
                self.event = Some(self.session.next().await?);
            }
            if let Some(idle) = self.take_event().await? {
                return Ok(idle);
            }
        }
    }
}

/// Why a table's rows cannot be read; where, the caller knows.
enum Unlearned {
    Asking(SourceError),
    Uncertain(TableName),
    Layout(DecodeError),
}

impl Unlearned {
    fn at(self, header: &TransactionHeader, file: &str, event: &EventHeader) -> SourceError {
        match self {
            Self::Asking(error) => error,
            Self::Layout(error) => undecodable(header, file, event, error),
            Self::Uncertain(table) => {
                let reason = "the table was altered later, and the binlog does not name the columns".to_owned();
                SourceError::ShapeUncertain { table, gtid: header.gtid, reason }
            }
        }
    }
}

/// Asks what is known of the table at this transaction, and makes its layout.
async fn learn(
    tables: &mut Tables,
    schema: &mut Schema,
    position: &GtidPosition,
    header: &TransactionHeader,
    map: &TableMap,
    body: &[u8],
) -> Result<(), Unlearned> {
    let mut reached = position.clone();
    reached.advance(header.gtid);
    // Where the binlog names the columns, what the server says now cannot be taken for another column.
    let must_be_certain = !map.has_names();
    let moment = Moment { position: &reached, commit_second: header.commit_second, must_be_certain };
    let answer = schema.ask(&map.table, &moment).await.map_err(Unlearned::Asking)?;
    if must_be_certain && !answer.certain {
        return Err(Unlearned::Uncertain(map.table.clone()));
    }
    tables.learn(body, map, answer.known.as_deref()).map_err(Unlearned::Layout)
}

/// The changes of a rows event, if its table is captured.
fn decode(tables: &Tables, kind: RowsKind, body: &[u8], put: impl FnMut(Change)) -> Result<(), DecodeError> {
    /// Ends a statement that had no rows; it belongs to no table.
    const DUMMY_ID: u64 = 0xffff_ffff_ffff;
    let table_id = rows::table_id(body)?;
    match tables.get(table_id) {
        Some(Mapped::Captured(layout)) => {
            rows::changes(kind, layout, body)?.for_each(put);
            Ok(())
        }
        Some(Mapped::Filtered) => Ok(()),
        None if table_id == DUMMY_ID => Ok(()),
        None => Err(DecodeError::Malformed { place: "a rows event".into(), what: "no table map event came before it" }),
    }
}

fn ddl(query: &Query<'_>, shown: bool, tells_timestamps: bool) -> Ddl {
    let settings = &query.settings;
    let charset = settings.client_collation.and_then(|collation| Charset::by_collation(collation.into()));
    let statement = match charset.map(|charset| charset.value(&query.text)) {
        Some(Value::Text(text)) => text.into(),
        _ => String::from_utf8_lossy(&query.text).into(),
    };
    let mut session = settings.session.clone();
    session.explicit_timestamps = session.explicit_timestamps.filter(|_| tells_timestamps);
    Ddl { database: Arc::from(&*query.database), statement, session, shown }
}

fn undecodable(header: &TransactionHeader, file: &str, event: &EventHeader, source: DecodeError) -> SourceError {
    SourceError::Undecodable { at: format!("{} ({file}:{})", header.gtid, event.position), source }
}

fn hold_fault(limits: &Limits, error: &std::io::Error) -> SourceError {
    SourceError::CannotHold { directory: limits.hold_dir.display().to_string(), reason: error.to_string() }
}

/// `X'7831',X'',1`, as XA statements have it: format, lengths of both parts, both parts.
fn xid_text(xid: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match xid {
        [f0, f1, f2, f3, global, _, names @ ..] if names.len() >= usize::from(*global) => {
            let (global, branch) = names.split_at(usize::from(*global));
            format!("X'{}',X'{}',{}", hex(global), hex(branch), u32::from_le_bytes([*f0, *f1, *f2, *f3]))
        }
        _ => format!("X'{}'", hex(xid)),
    }
}
