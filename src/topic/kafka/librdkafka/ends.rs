//! Where a topic begins and ends for us, and where one of our offsets lies in Kafka's.
//!
//! Kafka's offset less ours grows along a topic: by one for each mark, and for each record that came too late. Every
//! record that counts tells both, so any of them says within which bounds another lies.

use super::Place;
use super::cursor::{Cursor, Found, Span, Step, What};
use crate::change::{Offset, OriginId, Record};
use crate::topic::{TopicError, readable};

/// What a topic holds.
pub struct Ends {
    pub span: Span,
    /// The last that counts, be it a record or a mark; `None` where nothing was ever kept.
    pub anchor: Option<Place>,
    /// Our offset after the last record.
    pub end: Offset,
    pub last: Option<Record>,
}

impl Ends {
    /// Kafka's offset after the last that counts: where the next one may lie, or something that does not count.
    pub fn after(&self) -> i64 {
        self.anchor.map_or(0, |anchor| anchor.at + 1)
    }
}

/// Retention may take away what is being looked at; more often than this it will not.
const LOOKS: usize = 5;

/// Looks at the topic's end; `None` where there is no topic. Leaves the cursor anywhere.
pub async fn look(cursor: &mut Cursor, origin: &OriginId) -> Result<Option<Ends>, TopicError> {
    for _ in 0..LOOKS {
        let Some(span) = cursor.span().await? else { return Ok(None) };
        if let Some(ends) = look_back(cursor, origin, span).await? {
            return match ends.anchor {
                None if span.low > 0 => Err(TopicError::Emptied { origin: origin.clone() }),
                _ => Ok(Some(ends)),
            };
        }
    }
    Err(moving(origin))
}

/// Reads ever longer parts of the topic's end until one holds a record. `None` where its beginning moved meanwhile.
async fn look_back(cursor: &mut Cursor, origin: &OriginId, span: Span) -> Result<Option<Ends>, TopicError> {
    let mut back = 1;
    loop {
        let from = span.low.max(span.high.saturating_sub(back));
        let mut ends = Ends { span, anchor: None, end: Offset(0), last: None };
        cursor.go_to(from)?;
        while cursor.next < span.high {
            let found = match cursor.step_soon().await? {
                Step::Found(found) => found,
                Step::End => break,
                Step::OutOfRange => return Ok(None),
            };
            if found.at >= span.high {
                break;
            }
            match found.what {
                What::Record(offset, record) => {
                    ends.anchor = Some(Place { offset, at: found.at });
                    ends.end = offset.next();
                    ends.last = Some(readable(origin, offset, record)?);
                }
                What::Mark(end) => {
                    ends.anchor = Some(Place { offset: end, at: found.at });
                    ends.end = end;
                }
                What::Nothing => {}
            }
        }
        if ends.last.is_some() || from == span.low {
            return Ok(Some(ends));
        }
        back = back.saturating_mul(8);
    }
}

/// The oldest of our offsets that is kept.
pub async fn first(cursor: &mut Cursor, ends: &Ends, origin: &OriginId) -> Result<Offset, TopicError> {
    if ends.span.low == 0 {
        return Ok(Offset(0));
    }
    match next_that_counts(cursor, ends.span.low, ends.span.high).await? {
        Some((place, _)) => Ok(place.offset),
        None => Err(moving(origin)),
    }
}

/// Sends the cursor to one of our offsets, which must lie between `first` and `end`, the end included.
pub async fn find(cursor: &mut Cursor, ends: &Ends, origin: &OriginId, wanted: Offset) -> Result<(), TopicError> {
    let Some(mut above) = ends.anchor.filter(|_| wanted < ends.end) else { return cursor.go_to(ends.after()) };
    // It lies in low..=high. Ours are never ahead of Kafka's.
    let (mut low, mut high) = (ends.span.low.max(clamp(wanted.0)), above.at);
    let mut guess = at_most(above, wanted);
    let mut tries = 0;
    while low <= high {
        guess = guess.clamp(low, high);
        tries += 1;
        let found = next_that_counts(cursor, guess, ends.span.high).await?;
        match found {
            Some((place, true)) if place.offset == wanted => return cursor.go_to(place.at),
            Some((place, is_record)) if place.offset < wanted || (place.offset == wanted && !is_record) => {
                low = place.at + 1;
                guess = place.at.saturating_add(clamp(wanted.0 - place.offset.0)).max(low);
            }
            Some((place, _)) => {
                high = guess - 1;
                above = place;
                guess = at_most(above, wanted);
            }
            None => {
                high = guess - 1;
                guess = high;
            }
        }
        // Guesses from what was found are right at once, but for topics with many marks: there halving is quicker.
        if tries % 3 == 0 {
            guess = low + (high - low) / 2;
        }
    }
    Err(TopicError::Damaged { reason: format!("topic of {origin}: offset {wanted} lies between others and is not there") })
}

/// The farthest that the wanted offset may lie, where a later one lies here.
fn at_most(above: Place, wanted: Offset) -> i64 {
    above.at.saturating_sub(clamp(above.offset.0.saturating_sub(wanted.0)))
}

fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The first that counts in `from..high`, and whether it is a record.
async fn next_that_counts(cursor: &mut Cursor, from: i64, high: i64) -> Result<Option<(Place, bool)>, TopicError> {
    cursor.go_to(from)?;
    while cursor.next < high {
        match cursor.step_soon().await? {
            Step::Found(Found { at, .. }) if at >= high => break,
            Step::Found(Found { at, what: What::Record(offset, _), .. }) => return Ok(Some((Place { offset, at }, true))),
            Step::Found(Found { at, what: What::Mark(offset), .. }) => return Ok(Some((Place { offset, at }, false))),
            Step::Found(_) => {}
            Step::End | Step::OutOfRange => break,
        }
    }
    Ok(None)
}

fn moving(origin: &OriginId) -> TopicError {
    TopicError::Store { reason: format!("the beginning of the topic of {origin} moves faster than it can be looked at") }
}
