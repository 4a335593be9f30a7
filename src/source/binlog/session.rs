//! One reading session: a connection that registered as a replica and is sent the binlog from a position on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, Error, Opts};

use super::connection;
use super::event::{EventHeader, kind};
use crate::change::GtidPosition;
use crate::source::SourceError;

/// How we ask for the binlog.
pub struct Request<'a> {
    pub opts: &'a Opts,
    pub place: &'a str,
    pub from: &'a GtidPosition,
    pub replica_id: u32,
    /// The server sends a heartbeat when it had nothing else to send for this long.
    pub heartbeat: Duration,
}

/// Heartbeats that may be missing before the connection counts as dead.
const HEARTBEATS_MISSED_MAX: u32 = 5;

/// But a server that is only slow (a disk that wakes up, a checkpoint) gets this long.
const SILENCE_MIN: Duration = Duration::from_secs(10);

pub struct Session {
    stream: BinlogStream,
    opts: Opts,
    place: String,
    from: GtidPosition,
    silence_max: Duration,
}

/// An event whose checksum was right.
pub struct RawEvent {
    pub header: EventHeader,
    event: mysql_async::binlog::events::Event,
}

impl RawEvent {
    /// Without header and checksum.
    pub fn body(&self) -> &[u8] {
        self.event.data()
    }
}

impl Session {
    /// Registers and asks for the binlog. Whether the server has it, the first event or error tells.
    pub async fn open(mut conn: Conn, request: &Request<'_>) -> Result<Self, SourceError> {
        let Request { opts, place, from, replica_id, heartbeat } = request;
        let fault = |error| connection::fault(place, opts, error);
        // 4 is the highest there is: GTIDs, no BEGIN events. In strict mode the server refuses a position that it knows
        // only by a later one, instead of going on there. Checksums: the driver asks for those of the file.
        let set = format!(
            "SET @mariadb_slave_capability = 4, @slave_connect_state = '{from}', @slave_gtid_strict_mode = 1, \
             @slave_gtid_ignore_duplicates = 0, @master_heartbeat_period = {}",
            heartbeat.as_nanos()
        );
        conn.query_drop(set).await.map_err(fault)?;
        let stream = conn.get_binlog_stream(BinlogStreamRequest::new(*replica_id)).await.map_err(fault)?;
        let silence_max = (*heartbeat * HEARTBEATS_MISSED_MAX).max(SILENCE_MIN);
        Ok(Self { stream, opts: Opts::clone(opts), place: place.to_string(), from: GtidPosition::clone(from), silence_max })
    }

    /// The next event; waits for it. Cancel-safe: what has arrived of an event stays in the stream.
    pub async fn next(&mut self) -> Result<RawEvent, SourceError> {
        // Most often it is there already; a timer for each event would cost more than reading it.
        let mut polled = futures_util::FutureExt::now_or_never(std::future::poll_fn(|context| self.poll(context)));
        if polled.is_none() {
            let silence_max = self.silence_max;
            let wait = std::future::poll_fn(|context| self.poll(context));
            polled = Some(match tokio::time::timeout(silence_max, wait).await {
                Ok(event) => event,
                Err(_) => {
                    let reason = format!("not even a heartbeat within {} s", silence_max.as_secs());
                    return Err(SourceError::Lost { place: self.place.clone(), reason });
                }
            });
        }
        polled.expect("one of the two has set it")
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<RawEvent, SourceError>> {
        // The driver trusts an event's own length and would panic where it lies; that must not take the process along.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.stream).poll_next(context)));
        let Ok(polled) = polled else {
            let reason = "an event has another length than it says".into();
            return Poll::Ready(Err(SourceError::Corrupt { at: self.place.clone(), reason }));
        };
        polled.map(|event| match event {
            Some(Ok(event)) => self.check(event),
            Some(Err(error)) => Err(self.fault(error)),
            None => Err(SourceError::Lost { place: self.place.clone(), reason: "the server ended the stream".into() }),
        })
    }

    /// The header in our form, and the checksum verified where the event has one.
    fn check(&self, event: mysql_async::binlog::events::Event) -> Result<RawEvent, SourceError> {
        let outside = event.header();
        let header = EventHeader {
            second: outside.timestamp(),
            kind: outside.event_type_raw(),
            server_id: outside.server_id(),
            size: outside.event_size(),
            position: outside.log_pos(),
            flags: outside.flags_raw(),
        };
        // What the server makes up on the fly is not from a file; a heartbeat tells nothing that could be wrong.
        let made_up = header.flags & EventHeader::FLAG_ARTIFICIAL != 0 || header.kind == kind::HEARTBEAT;
        if let Some(expected) = event.checksum().filter(|_| !made_up)
            && let Some(found) = checksum(&header, &event)
            && found != u32::from_le_bytes(expected)
        {
            return Err(SourceError::Corrupt {
                at: format!("byte {} of its file", header.position),
                reason: format!("the checksum of an event of type {} is wrong", header.kind),
            });
        }
        Ok(RawEvent { header, event })
    }

    fn fault(&self, error: Error) -> SourceError {
        match error {
            Error::Server(error) if error.code == CANNOT_READ_BINLOG => self.cannot_read(error.message),
            error => connection::fault(&self.place, &self.opts, error),
        }
    }

    /// One number of error for all that can be wrong with a position or a binlog; only its text tells.
    fn cannot_read(&self, message: String) -> SourceError {
        let wanted = self.from.clone();
        if message.contains("have been purged") || message.contains("Could not find GTID state") {
            SourceError::Purged { wanted, oldest: GtidPosition::start() }
        } else if message.contains("is not in the master's binlog") || message.contains("is missing the GTID") {
            SourceError::NotInHistory { wanted, reason: message }
        } else {
            SourceError::Corrupt { at: self.place.clone(), reason: message }
        }
    }
}

/// ER_MASTER_FATAL_ERROR_READING_BINLOG
const CANNOT_READ_BINLOG: u16 = 1236;

/// CRC32 of the event, as far as its file has them. The driver has cut it off, and off the format description also the
/// byte that names the algorithm.
fn checksum(header: &EventHeader, event: &mysql_async::binlog::events::Event) -> Option<u32> {
    let algorithm = event.footer().get_checksum_alg().ok().flatten()? as u8;
    if algorithm == 0 {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&EventHeader { flags: header.flags & !EventHeader::FLAG_IN_USE, ..*header }.to_bytes());
    hasher.update(event.data());
    if header.kind == kind::FORMAT_DESCRIPTION {
        hasher.update(&[algorithm]);
    }
    Some(hasher.finalize())
}
