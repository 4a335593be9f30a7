//! Reading the binlog again from an older place, because somebody asks for it.
//!
//! It is safe by design. Where the tailer is comes from the last record of its topic and from nothing else: whatever that position
//! covers is in the topic already, or was filtered, and is passed over here, however often it is read. Clock and `seen` stay as they
//! are. A later place is refused, for what lies between would never be published.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::TailError;
use crate::change::{Gtid, GtidPosition};
use crate::runtime::{Disposition, Fault, Stop};
use crate::source::{Source, SourceError};

/// From where somebody wants the binlog read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RereadFrom {
    /// Where what the server still has begins.
    Beginning,
    /// After this position. A domain that it does not name goes on where it is.
    After(GtidPosition),
}

/// What was read once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reread {
    pub from: GtidPosition,
    /// Where the tailer was.
    pub upto: GtidPosition,
    /// Transactions between the two. None of them is published a second time.
    pub transactions: u64,
    /// Changes of captured tables, and of Tandem's own, in them.
    pub changes: u64,
}

struct Order {
    from: RereadFrom,
    answer: oneshot::Sender<Result<Reread, Stop>>,
}

/// Where whoever asks and the tailer meet. One per node. The next run of the tailer takes what was asked for, and only that one.
#[derive(Default)]
pub struct RereadDesk(Mutex<Option<Order>>);

impl RereadDesk {
    /// Asks it of the tailer's next run. What is received is an error where it is refused, or the run ends before it is done.
    pub fn ask(&self, from: RereadFrom) -> oneshot::Receiver<Result<Reread, Stop>> {
        let (answer, told) = oneshot::channel();
        *self.order() = Some(Order { from, answer });
        told
    }

    /// Takes back what no run has taken.
    pub fn withdraw(&self) {
        *self.order() = None;
    }

    /// What was asked for, if the place can be read from. Who asked learns it where it cannot.
    pub(super) async fn take(&self, source: &dyn Source, at: Option<&GtidPosition>) -> Result<Option<Rereading>, TailError> {
        let Some(Order { from, answer }) = self.order().take() else { return Ok(None) };
        match place(&from, source, at).await {
            Ok(from) => {
                let upto = at.expect("a place is older than something").clone();
                let (told, reached) = (Reread { from: from.clone(), upto, transactions: 0, changes: 0 }, from);
                Ok(Some(Rereading { told, reached, answer }))
            }
            Err(Refusal::Refused(stop)) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(stop));
                Ok(None)
            }
            Err(Refusal::Fault(error)) => {
                // The next attempt is asked the same.
                *self.order() = Some(Order { from, answer });
                Err(error.into())
            }
        }
    }

    fn order(&self) -> std::sync::MutexGuard<'_, Option<Order>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Refusal {
    Refused(Stop),
    Fault(SourceError),
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::Fault(error)
    }
}

/// The whole position to read from, where the tailer is `at` this one; `None` before it has published anything.
async fn place(from: &RereadFrom, source: &dyn Source, at: Option<&GtidPosition>) -> Result<GtidPosition, Refusal> {
    let refused = |message: String, hint: &str| Err(Refusal::Refused(Stop::halt(message, hint)));
    let Some(at) = at else {
        let hint = "for rows that were there before: tandem snapshot";
        return refused("this node has published nothing yet, and its history begins now".into(), hint);
    };
    let oldest = source.oldest().await?;
    let from = match from {
        RereadFrom::Beginning => oldest.clone(),
        RereadFrom::After(named) => {
            let mut whole = at.clone();
            whole.retain(|gtid| named.in_domain(gtid.domain).is_none());
            named.iter().for_each(|gtid| whole.advance(gtid));
            whole
        }
    };
    if !at.covers_all(&from) {
        return refused(
            format!("the position {from} is after {at}, up to where the binlog is published: what lies between would be lost"),
            "name an older place, or leave out --from: the tailer goes on where it was",
        );
    }
    if !from.covers_all(&oldest) {
        return refused(
            format!("the server no longer has its binlog after {from}: what is still there begins at {}", shown(&oldest)),
            "--from beginning reads all that is still there; where the tailer itself is refused for that reason: tandem reseed",
        );
    }
    Ok(from)
}

fn shown(position: &GtidPosition) -> String {
    if position.is_start() { "its beginning".into() } else { position.to_string() }
}

/// Reading again that is under way.
pub struct Rereading {
    told: Reread,
    /// All of it up to here has come again.
    reached: GtidPosition,
    answer: oneshot::Sender<Result<Reread, Stop>>,
}

impl Rereading {
    pub fn from(&self) -> &GtidPosition {
        &self.told.from
    }

    /// A part of a transaction that is published already came once more.
    pub fn pass_over(&mut self, gtid: Gtid, changes: usize, last: bool) {
        self.told.changes += changes as u64;
        if last {
            self.told.transactions += 1;
            self.reached.advance(gtid);
        }
    }

    /// Everything up to where the tailer was has come again.
    pub fn is_done(&self) -> bool {
        self.reached.covers_all(&self.told.upto)
    }

    /// Tells whoever asked.
    pub fn end(self) -> Reread {
        let _ = self.answer.send(Ok(self.told.clone()));
        self.told
    }

    /// It cannot be read again. That says nothing about going on where the tailer was.
    pub fn give_up(self, error: &TailError) {
        let hint = error.hint().unwrap_or_default();
        let message = format!("the binlog cannot be read again from there: {error}; the tailer goes on where it was");
        let _ = self.answer.send(Err(Stop::halt(message, hint)));
    }
}

/// Whether this error is about what is read again, and not about the server or the connection.
pub fn is_about_the_past(error: &TailError) -> bool {
    error.disposition() != Disposition::Retry
}

/// The earlier of two positions in every domain. A domain that one of them does not name is read from its beginning.
pub fn earlier(one: &GtidPosition, other: &GtidPosition) -> Arc<GtidPosition> {
    let both = one.iter().filter_map(|gtid| Some((gtid, other.in_domain(gtid.domain)?)));
    Arc::new(both.map(|(one, other)| if one.sequence <= other.sequence { one } else { other }).collect())
}

#[cfg(test)]
mod tests;
