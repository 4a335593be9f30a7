//! Which rows may have gone, or changed, with a row that they referred to.
//!
//! What a foreign key does to the rows that refer (CASCADE, SET NULL) is in no binlog, so no topic tells of it. But it happens only
//! where the row that they refer to goes or takes another key, and the topics tell of that: as a delete, as an update of the key; or,
//! where that row itself went with yet another one, as its insert when it was made anew. So a row written before one of these is not
//! put back: it may be gone by right.

use std::collections::{BTreeSet, HashMap};

use super::super::super::index::fingerprint;
use super::super::super::overflow::Fingerprint;
use super::*;
use crate::change::{Change, Image, Shape};
use crate::target::{Target, TargetError, Tied};

pub const REASON: &str =
    "a row that it refers to went or was made anew since, and what went with it by a foreign key is in no binlog";

/// Places that are kept one by one; about 64 bytes each. Past that every older row counts as one that may have gone.
const PLACES_MAX: usize = 1_000_000;

/// The newest of what happened to the places that rows refer to.
#[derive(Default)]
pub struct Gone {
    places: HashMap<Fingerprint, Version>,
    anywhere: Option<Version>,
    /// No foreign key refers to these tables.
    not_referred: BTreeSet<TableName>,
}

impl Gone {
    pub async fn note(&mut self, target: &dyn Target, node: NodeRank, records: &[(Offset, Record)]) -> Result<(), TargetError> {
        for (_, record) in records {
            let Some(change) = record.logged_row().filter(|change| change.shape.has_key()) else { continue };
            if self.not_referred.contains(change.table()) {
                continue;
            }
            let (mut before, mut after) = (Vec::new(), Vec::new());
            for (image, found) in [(&change.before, &mut before), (&change.after, &mut after)] {
                if let Some(image) = image {
                    *found = places(target, &change.shape, image).await?;
                }
            }
            if before.is_empty() && after.is_empty() {
                // Of values that are not known any place is answered, where there is one at all.
                let unknown = Image::of(vec![None; change.shape.columns.len()]);
                if places(target, &change.shape, &unknown).await?.is_empty() {
                    self.not_referred.insert(change.table().clone());
                }
                continue;
            }
            if before != after {
                let version = Version { hlc: record.hlc, node };
                before.iter().chain(&after).for_each(|place| self.note_place(place, version));
            }
        }
        Ok(())
    }

    fn note_place(&mut self, place: &CanonicalKey, version: Version) {
        let place = fingerprint(place);
        if self.places.len() >= PLACES_MAX && !self.places.contains_key(&place) {
            self.anywhere = self.anywhere.max(Some(version));
            return;
        }
        let newest = self.places.entry(place).or_insert(version);
        *newest = version.max(*newest);
    }

    /// Of each record of the group: whether its row may have gone with another one since.
    pub async fn with(&self, target: &dyn Target, group: &Group) -> Result<Vec<bool>, TargetError> {
        if self.places.is_empty() {
            return Ok(vec![false; group.records.len()]);
        }
        let changes: Vec<&Change> = (0..group.records.len()).map(|at| group.change(at)).collect();
        let tied = ties(target, &changes).await?;
        let may_have = |(at, tied): (usize, &Tied)| {
            let own = Some(group.version(at));
            let newest = tied.joined.iter().filter_map(|place| self.places.get(&fingerprint(place))).copied().max();
            !tied.joined.is_empty() && newest.max(self.anywhere) > own
        };
        Ok(tied.iter().enumerate().map(may_have).collect())
    }
}

/// As [`Target::ties`]; where a table cannot be looked at, each change alone, and those of that table have none.
async fn ties(target: &dyn Target, changes: &[&Change]) -> Result<Vec<Tied>, TargetError> {
    match target.ties(changes).await {
        Err(error) if error.disposition() == Disposition::DeadLetter => {}
        tied => return tied,
    }
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        all.push(match target.ties(&[*change]).await {
            Err(error) if error.disposition() == Disposition::DeadLetter => Tied::default(),
            tied => tied?.pop().unwrap_or_default(),
        });
    }
    Ok(all)
}

async fn places(target: &dyn Target, shape: &Shape, image: &Image) -> Result<Vec<CanonicalKey>, TargetError> {
    match target.places(shape, image).await {
        // There is no such table here, so nothing refers to it.
        Err(error) if error.disposition() == Disposition::DeadLetter => Ok(Vec::new()),
        places => places,
    }
}
