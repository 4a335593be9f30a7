//! Rows of another node beside ours, at one place of its history: what it told of them against what is here.
//!
//! When its prints are taken all that it had told before is applied here, and it tells what it had seen of everybody else. So a
//! row may differ for one reason only: somebody's write that it had not seen. Those are in the index, and are passed by. What
//! a foreign key did in silence is in no index; so who asked looks once more at what differs, a while later.

use std::collections::{BTreeMap, BTreeSet};

use super::ApplyError;
use super::engine::Engine;
use super::step::canonical;
use crate::change::wire::{changed_columns, key_of_text, key_text, row_print};
use crate::change::{Ask, GtidPosition, OriginId, Prints, RowKey, Seen};
use crate::runtime::{Disposition, Fault};
use crate::target::{Held, Range, Target};

/// Hears what other nodes tell beside changes.
pub trait NoteTaker: Send + Sync {
    /// We are asked for something. May come again after a restart.
    fn asked(&self, ask: &Ask);

    /// Whether these prints are still of use.
    fn wants(&self, from: &OriginId, prints: &Prints) -> bool;

    /// Ask another node for this, once all of the own history up to `after` is published.
    fn ask(&self, _ask: &Ask, _after: Option<&GtidPosition>) {}

    /// We are asked for something, and cannot tell it now.
    fn refuse(&self, _ask: &Ask, _why: &str) {}

    /// The node takes part no longer. Comes at each start, too.
    fn removed(&self, _node: &OriginId) {}

    /// What came of the prints that we asked for. May come again after a restart.
    fn compared(&self, from: &OriginId, prints: &Prints, compared: Compared);
}

/// Passes all by.
pub struct NoNotes;

impl NoteTaker for NoNotes {
    fn asked(&self, _: &Ask) {}

    fn wants(&self, _: &OriginId, _: &Prints) -> bool {
        false
    }

    fn compared(&self, _: &OriginId, _: &Prints, _: Compared) {}
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Compared {
    /// Rows that were compared.
    pub rows: u64,
    /// Rows that somebody had just written.
    pub passed_by: u64,
    pub differing: Vec<Differing>,
    /// There are more rows here than could be looked at.
    pub more: bool,
    /// Why nothing could be compared.
    pub failed: Option<String>,
    /// That was for the moment: our tailer has to catch up first.
    pub behind: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Differing {
    pub key: RowKey,
    /// False where the row is missing there, or here.
    pub there: bool,
    pub here: bool,
    /// The columns that differ, where it is on both sides.
    pub columns: Vec<String>,
}

/// Rows of ours that are read for one record of prints. Where there are more, the table is far from equal anyhow.
const ROWS_MAX: usize = 20_000;

impl Engine<'_> {
    /// Compares the rows of the prints with ours. `seen` is what their node had seen.
    pub async fn compare(&mut self, from: &OriginId, seen: &Seen, prints: &Prints) -> Result<Compared, ApplyError> {
        if let Some(reason) = &prints.failed {
            return Ok(Compared { failed: Some(reason.clone()), ..Compared::default() });
        }
        let key = |text: &String| key_of_text(text);
        let wanted = Range {
            table: prints.name(),
            after: prints.after.as_ref().and_then(key),
            upto: prints.upto.as_ref().and_then(key),
            keys: prints.keys.iter().filter_map(key).collect(),
            rows_max: ROWS_MAX,
        };
        let (held, until) = match self.target.range(&wanted).await {
            Ok(read) => read,
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                return Ok(Compared { failed: Some(error.to_string()), ..Compared::default() });
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(reason) = columns_differ(self.target, [from, self.options.cluster.own()], prints, held.first()).await? {
            return Ok(Compared { failed: Some(reason), ..Compared::default() });
        }
        // All that we wrote ourselves before the rows were read must be known, or it would be taken for a difference.
        if !self.local.wait(&until, self.options.tailer_wait).await {
            let reason = "this node's tailer is behind".to_owned();
            return Ok(Compared { failed: Some(reason), behind: true, ..Compared::default() });
        }
        self.absorb().await?;

        let mut here: BTreeMap<String, &Held> = held.iter().map(|held| (key_text(&held.key), held)).collect();
        let mut compared = Compared { more: held.len() >= ROWS_MAX, ..Compared::default() };
        let mut differing: Vec<(RowKey, Option<&str>, Option<&Held>)> = Vec::new();
        for (text, print) in &prints.rows {
            compared.rows += 1;
            let own = here.remove(text);
            let same = own.is_some_and(|own| row_print(&own.key.shape, &own.image, &prints.columns) == *print);
            if let Some(key) = key_of_text(text).filter(|_| !same) {
                differing.push((own.map_or(key, |own| own.key.clone()), Some(print), own));
            }
        }
        compared.rows += here.len() as u64;
        differing.extend(here.into_values().map(|own| (own.key.clone(), None, Some(own))));
        let left_out: Vec<RowKey> = prints.left_out.iter().filter_map(key).collect();
        let left_out: BTreeSet<_> = canonical(self.target, &left_out).await?.into_iter().collect();
        let keys: Vec<RowKey> = differing.iter().map(|(key, ..)| key.clone()).collect();
        let mut joined: BTreeMap<_, (RowKey, Option<&str>, Option<&Held>)> = BTreeMap::new();
        for (place, (key, print, own)) in canonical(self.target, &keys).await?.into_iter().zip(differing) {
            let entry = self.index.get(&place)?;
            let unseen = entry.is_some_and(|entry| {
                let writer = self.options.cluster.name(entry.version.node);
                writer != from && !seen.has(writer, entry.offset)
            });
            if unseen || left_out.contains(&place) {
                compared.passed_by += 1;
                continue;
            }
            // A key that is spelled differently on both sides is one row all the same.
            let row = joined.entry(place).or_insert((key, None, None));
            (row.1, row.2) = (row.1.or(print), row.2.or(own));
            if let Some(own) = own {
                row.0 = own.key.clone();
            }
        }
        let difference = |(key, print, own): (RowKey, Option<&str>, Option<&Held>)| {
            let columns = match (print, own) {
                (Some(print), Some(own)) => {
                    changed_columns(print, &row_print(&own.key.shape, &own.image, &prints.columns), &prints.columns)
                }
                _ => Vec::new(),
            };
            Differing { key, there: print.is_some(), here: own.is_some(), columns }
        };
        compared.differing = joined.into_values().map(difference).collect();
        Ok(compared)
    }
}

/// Why the rows cannot be the same: the tables have other columns. What is only here is not seen where no row is.
pub async fn columns_differ(
    target: &dyn Target,
    [from, own]: [&OriginId; 2],
    prints: &Prints,
    held: Option<&Held>,
) -> Result<Option<String>, ApplyError> {
    if prints.columns.is_empty() {
        return Ok(None);
    }
    let there: BTreeSet<String> = prints.columns.iter().map(|name| name.to_lowercase()).collect();
    let here: BTreeSet<String> = match held {
        Some(held) => {
            let columns = held.key.shape.columns.iter().filter(|column| !column.generated);
            columns.map(|column| column.name.to_lowercase()).collect()
        }
        None => {
            let columns = target.columns(&prints.name()).await?;
            columns.into_iter().map(|(name, _)| name.to_lowercase()).filter(|name| there.contains(name)).collect()
        }
    };
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>, place: &str| {
        let names: Vec<&str> = one.difference(other).map(String::as_str).collect();
        (!names.is_empty()).then(|| format!("only {place} has {}", names.join(", ")))
    };
    let told = [only(&there, &here, from.as_str()), only(&here, &there, own.as_str())];
    let told: Vec<String> = told.into_iter().flatten().collect();
    Ok((!told.is_empty()).then(|| format!("its columns differ: {}", told.join("; "))))
}
