//! Foreign keys between the tables: what the application writes to those that refer to others, and what must hold in the end, beside
//! all that [`oracle`](crate::oracle) asks.

use std::collections::BTreeSet;

use fastrand::Rng;
use tandem::change::Value;
use tandem::target::memory::{LocalWrite, OnDelete};

use crate::oracle::{Columns, History, Outcome, Site, all_but_content, check, losers_are_kept, newest};
use crate::world::World;

/// Of a table whose rows refer to those of another.
pub const CHILD_COLUMNS: [&str; 3] = ["name", "payload", "parent"];
/// What refers to riders, and what refers to that.
pub const CHILDREN: [&str; 2] = ["bikes", "lamps"];

impl World {
    /// The application writes or deletes a row that refers to another.
    pub fn write_of_a_child(&self, at: usize, dice: &mut Rng, payload: Value) -> LocalWrite {
        let level = if self.scenario.refers.len() > 1 { dice.usize(..self.scenario.refers.len()) } else { 0 };
        let (child, parent) = (CHILDREN[level].trim_end_matches('s'), ["rider", "bike"][level]);
        let parents = if level > 0 { (self.scenario.rows / 2 + 1) * self.nodes.len() as u64 } else { self.scenario.rows };
        let middle = level + 1 < self.scenario.refers.len();
        let name = |dice: &mut Rng, at: usize| match (dice.u64(..self.scenario.rows + 1), middle) {
            (number, false) => Value::text(format!("{child}{number}")),
            // What stands between two foreign keys is written by one node, and deleted by all: see decision 11.
            (number, true) => Value::text(format!("{child}{}", number / 2 * self.nodes.len() as u64 + at as u64)),
        };
        let of = match dice.u64(..5) {
            0 => Value::Null,
            _ => Value::text(format!("{parent}{}", dice.u64(..parents))),
        };
        let (table, key) = (self.shapes[level + 1].table.clone(), vec![name(dice, at)]);
        match dice.u64(..6) {
            0 if middle => LocalWrite::Delete { table, key: vec![name(dice, dice.clone().usize(..self.nodes.len()))] },
            0 => LocalWrite::Delete { table, key },
            1 => LocalWrite::Update { table, key, row: vec![name(dice, at), payload, of] },
            _ => LocalWrite::Put { table, row: vec![key[0].clone(), payload, of] },
        }
    }
}

/// A foreign key: rows with this column refer to rows of another table by their name.
pub struct Reference {
    pub column: &'static str,
    pub from: String,
    pub to: String,
    pub on_delete: OnDelete,
}

impl Reference {
    /// The name of the row that a row of the table refers to.
    fn parent(&self, row: &str, columns: &Columns) -> Option<String> {
        let own = row.strip_prefix(&*self.from).is_some_and(|rest| rest.starts_with(' '));
        match columns.get(self.column)? {
            Value::Text(text) if own => Some(format!("{} {}", self.to, text.trim_end().to_lowercase())),
            _ => None,
        }
    }
}

/// The oracle's check where foreign keys stand: no row may refer to one that is not there. Where a foreign key acts in silence, the
/// newest write that was published is not all: then every row must be the same on all sites, and must be its newest write, unless
/// what it refers to was deleted.
pub fn check_with(sites: &[Site], references: &[Reference]) -> Outcome {
    if references.iter().any(|reference| reference.on_delete != OnDelete::Restrict) {
        let history = History::of(sites);
        all_but_content(sites, &history)?;
        losers_are_kept(sites, &history)?;
        equal_but_for_what_followed(sites, &history, references)?;
    } else {
        check(sites)?;
    }
    for site in sites {
        for (row, columns) in &site.rows {
            for parent in references.iter().filter_map(|reference| reference.parent(row, columns)) {
                if !site.rows.contains_key(&parent) {
                    return Err(format!("{}: {row} refers to {parent}, which is not there", site.origin));
                }
            }
        }
    }
    Ok(())
}

fn equal_but_for_what_followed(sites: &[Site], history: &History, references: &[Reference]) -> Outcome {
    for pair in sites.windows(2) {
        let [one, other] = pair else { continue };
        let row = one.rows.keys().chain(other.rows.keys()).find(|row| one.rows.get(*row) != other.rows.get(*row));
        if let Some(row) = row {
            let [here, there] = [one, other].map(|site| site.rows.get(row));
            return Err(format!("{row} is {here:?} on {} and {there:?} on {}", one.origin, other.origin));
        }
    }
    let rows = &sites[0].rows;
    if let Some(row) = rows.keys().find(|row| !history.rows.contains_key(*row)) {
        return Err(format!("{row} is there, and nobody wrote it"));
    }
    let gone = gone_at_times(history, references);
    for (row, writes) in &history.rows {
        let newest = newest(writes).after.as_ref();
        let held = rows.get(row);
        if held == newest {
            continue;
        }
        let followed = newest.is_some_and(|columns| {
            references.iter().any(|reference| {
                let freed = held.is_none_or(|held| {
                    let same = |(name, value): (&String, &Value)| name == reference.column || columns.get(name) == Some(value);
                    held.iter().all(same) && held.get(reference.column) == Some(&Value::Null)
                });
                reference.parent(row, columns).is_some_and(|parent| gone.contains(&parent)) && freed
            })
        });
        if !followed {
            return Err(format!("{row} is {held:?}, newest is {newest:?}"));
        }
    }
    Ok(())
}

/// Rows that somebody deleted, or that may have gone with one that was.
fn gone_at_times(history: &History, references: &[Reference]) -> BTreeSet<String> {
    let deleted = history.rows.iter().filter(|(_, writes)| writes.iter().any(|write| write.after.is_none()));
    let mut gone: BTreeSet<String> = deleted.map(|(row, _)| row.clone()).collect();
    // Each table refers to an earlier one, so one round is enough.
    for reference in references.iter().filter(|reference| reference.on_delete == OnDelete::Cascade) {
        let went = |(row, writes): &(&String, &Vec<_>)| {
            let mut afters = writes.iter().filter_map(|write: &crate::oracle::RowWrite| write.after.as_ref());
            afters.any(|columns| reference.parent(row, columns).is_some_and(|parent| gone.contains(&parent)))
        };
        let more: Vec<String> = history.rows.iter().filter(went).map(|(row, _)| row.clone()).collect();
        gone.extend(more);
    }
    gone
}
