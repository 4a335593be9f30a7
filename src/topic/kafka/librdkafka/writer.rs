//! Appends to one origin's topic in a broker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::client::Broker;
use super::cursor::Cursor;
use super::ends::{self, Ends};
use super::producer::Sender;
use super::settings::Settings;
use super::{KafkaOptions, Place};
use crate::change::{Offset, OriginId, Record};
use crate::runtime::Backoff;
use crate::topic::{Extent, TopicError, TopicWriter, check_append};

/// Others can be faster this often in a row before we say that the topic has no rest. Each time, something of somebody
/// else landed between two questions that are milliseconds apart.
const TRIES: usize = 20;

/// Looks for a topic that was just made: some ten seconds in all.
const APPEARS: usize = 30;

pub struct KafkaWriter {
    broker: Arc<Broker>,
    origin: OriginId,
    /// As the topic itself says; looked up once.
    record_bytes_max: Option<usize>,
    session: Option<Session>,
}

/// From one look at the topic's end to the next failure.
struct Session {
    sender: Sender,
    cursor: Cursor,
    /// Where the next record belongs.
    next: Place,
    /// Kafka's offset of the last that counts, as far as we know; -1 where there is none.
    last_at: i64,
}

impl KafkaWriter {
    pub fn new(options: KafkaOptions, origin: OriginId) -> Self {
        Self { broker: Broker::new(options), origin, record_bytes_max: None, session: None }
    }

    /// Looks at the topic's end, and makes the topic where it does not exist.
    async fn open(&mut self) -> Result<(Session, Ends), TopicError> {
        let topic = self.broker.topic(&self.origin);
        let mut cursor = Cursor::new(self.broker.clone(), topic.clone())?;
        let ends = match ends::look(&mut cursor, &self.origin).await? {
            Some(ends) => ends,
            None => {
                Settings::new(self.broker.clone())?.create(&topic).await?;
                self.appearing(&mut cursor).await?
            }
        };
        if self.record_bytes_max.is_none() && self.broker.options.looks_at_settings {
            self.record_bytes_max = Some(Settings::new(self.broker.clone())?.check(&topic).await?);
        }
        let sender = Sender::new(self.broker.clone(), self.origin.clone(), self.limit())?;
        let session = Session { sender, cursor, next: after(&ends), last_at: last_at(&ends) };
        Ok((session, ends))
    }

    fn limit(&self) -> usize {
        self.record_bytes_max.unwrap_or(self.broker.options.record_bytes_max)
    }

    /// A new topic is not known to every broker at once.
    async fn appearing(&self, cursor: &mut Cursor) -> Result<Ends, TopicError> {
        let mut backoff = Backoff::seeded(Duration::from_millis(10), Duration::from_millis(500), 0);
        for _ in 0..APPEARS {
            sleep(backoff.next_wait()).await;
            if let Some(ends) = ends::look(cursor, &self.origin).await? {
                return Ok(ends);
            }
        }
        Err(self.restless("does not appear although it was created"))
    }

    fn restless(&self, what: &str) -> TopicError {
        TopicError::Store { reason: format!("the topic {} {what}", self.broker.topic(&self.origin)) }
    }
}

fn after(ends: &Ends) -> Place {
    Place { offset: ends.end, at: ends.span.high }
}

fn last_at(ends: &Ends) -> i64 {
    ends.anchor.map_or(-1, |anchor| anchor.at)
}

#[async_trait]
impl TopicWriter for KafkaWriter {
    async fn resume(&mut self) -> Result<Extent, TopicError> {
        // What the earlier session had under way is fenced below, like that of anybody else.
        self.session = None;
        let (mut session, mut ends) = self.open().await?;
        for _ in 0..TRIES {
            let mark = after(&ends);
            let landed = session.sender.mark(mark).await?;
            if landed.kept == 1 {
                let first = ends::first(&mut session.cursor, &ends, &self.origin).await?;
                session.cursor.rest();
                session.next = Place { offset: mark.offset, at: mark.at + 1 };
                session.last_at = mark.at;
                self.session = Some(session);
                return Ok(Extent { first, end: ends.end, last: ends.last });
            }
            // Somebody's records came between the look and the mark. They may count: look again.
            let topic = ends::look(&mut session.cursor, &self.origin).await?;
            ends = topic.ok_or_else(|| self.restless("was deleted"))?;
        }
        Err(self.restless("has another writer that does not pause; is this node started twice?"))
    }

    async fn append(&mut self, expected: Offset, records: &[Record]) -> Result<Offset, TopicError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let (mut session, _) = self.open().await?;
                session.cursor.rest();
                session
            }
        };
        check_append(&self.origin, expected, session.next.offset)?;
        let limit = self.limit();
        if let Some(size) = session.sender.too_large(records, limit) {
            self.session = Some(session);
            return Err(TopicError::TooLarge { origin: self.origin.clone(), size, limit });
        }
        let mut rest = records;
        for _ in 0..TRIES {
            // Any failure here leaves the session behind: what is under way is known again after the next look.
            let landed = session.sender.send(session.next, rest, limit).await?;
            let belonged = session.next.plus(landed.kept).at;
            if landed.kept > 0 {
                session.last_at = belonged - 1;
            }
            session.next = session.next.plus(landed.kept);
            rest = &rest[landed.kept..];
            let Some(elsewhere) = landed.elsewhere else {
                let end = session.next.offset;
                self.session = Some(session);
                return Ok(end);
            };
            // Before its place: the topic lost its end. Behind it: something came in between, which may count or not.
            let found = ends::look(&mut session.cursor, &self.origin).await?;
            let found = found.ok_or_else(|| self.restless("was deleted"))?;
            session.cursor.rest();
            if elsewhere < belonged {
                return Err(TopicError::PastEnd { origin: self.origin.clone(), wanted: session.next.offset, end: found.end });
            }
            if last_at(&found) != session.last_at {
                return Err(TopicError::Fenced { origin: self.origin.clone(), expected, actual: found.end });
            }
            session.next.at = found.span.high;
        }
        Err(self.restless("has another writer that does not pause; is this node started twice?"))
    }
}
