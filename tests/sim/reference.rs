//! What must hold in the end where a foreign key stands between two tables, beside all that [`oracle`](crate::oracle) asks.

use tandem::change::Value;

use crate::oracle::{Columns, History, Outcome, Site, all_but_content, check, losers_are_kept, newest};

/// A foreign key: rows with this column refer to rows of another table by their name.
pub struct Reference {
    pub column: &'static str,
    pub to: String,
    /// It cascades or sets NULL, which no binlog tells.
    pub silent: bool,
}

/// The oracle's check where a foreign key stands: no row may refer to one that is not there. Where the foreign key acts in silence, the
/// newest write that was published is not all: then every row must be the same on all sites, and must be its newest write, unless
/// what it refers to was deleted.
pub fn check_with(sites: &[Site], reference: &Reference) -> Outcome {
    if reference.silent {
        let history = History::of(sites);
        all_but_content(sites, &history)?;
        losers_are_kept(sites, &history)?;
        equal_but_for_what_followed(sites, &history, reference)?;
    } else {
        check(sites)?;
    }
    for site in sites {
        for (row, columns) in &site.rows {
            let Some(parent) = parent(columns, reference) else { continue };
            if !site.rows.contains_key(&parent) {
                return Err(format!("{}: {row} refers to {parent}, which is not there", site.origin));
            }
        }
    }
    Ok(())
}

/// The name of the row that a row refers to.
fn parent(columns: &Columns, reference: &Reference) -> Option<String> {
    match columns.get(reference.column)? {
        Value::Text(text) => Some(format!("{} {}", reference.to, text.trim_end().to_lowercase())),
        _ => None,
    }
}

fn equal_but_for_what_followed(sites: &[Site], history: &History, reference: &Reference) -> Outcome {
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
    for (row, writes) in &history.rows {
        let newest = newest(writes).after.as_ref();
        let held = rows.get(row);
        if held == newest {
            continue;
        }
        let deleted =
            |parent: &String| history.rows.get(parent).is_some_and(|writes| writes.iter().any(|write| write.after.is_none()));
        let followed = newest.is_some_and(|columns| {
            let freed = held.is_none_or(|held| {
                let same = |(name, value): (&String, &Value)| name == reference.column || columns.get(name) == Some(value);
                held.iter().all(same) && held.get(reference.column) == Some(&Value::Null)
            });
            parent(columns, reference).is_some_and(|parent| deleted(&parent)) && freed
        });
        if !followed {
            return Err(format!("{row} is {held:?}, newest is {newest:?}"));
        }
    }
    Ok(())
}
