//! What became of the newest changes, for people to search: in memory only, and no more than so many.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::change::{Change, Offset, Op, OriginId, TableName, wire};

use super::Fate;

/// Changes remembered. Some 15 MB, and a search through all of them takes a few milliseconds.
pub const ACTIVITY_MAX: usize = 100_000;

/// A key is an id or some words; of a longer one the beginning is remembered.
const KEY_BYTES_MAX: usize = 200;

/// What became of a change on this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Written here, and in the own topic for the others.
    Published,
    /// Written elsewhere, and applied here.
    Applied,
    LostToNewer,
    Duplicate,
    /// It could not be applied.
    SetAside,
    /// It waits behind a statement that defines its table.
    Held,
    /// Read in the own binlog, where this node's applier had written it: not published again.
    Echo,
    /// Written here, of a table that is not synced.
    NotSynced,
}

impl Became {
    pub const ALL: [Self; 8] = [
        Self::Published,
        Self::Applied,
        Self::LostToNewer,
        Self::Duplicate,
        Self::SetAside,
        Self::Held,
        Self::Echo,
        Self::NotSynced,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Applied => "applied",
            Self::LostToNewer => "lost to a newer one",
            Self::Duplicate => "came twice",
            Self::SetAside => "failed",
            Self::Held => "waits for a schema change",
            Self::Echo => "echo",
            Self::NotSynced => "not synced",
        }
    }

    /// For programs: as in the JSON.
    pub fn label(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Applied => "applied",
            Self::LostToNewer => "lost_to_newer",
            Self::Duplicate => "duplicate",
            Self::SetAside => "set_aside",
            Self::Held => "held",
            Self::Echo => "echo",
            Self::NotSynced => "not_synced",
        }
    }
}

impl From<Fate> for Became {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Applied => Self::Applied,
            Fate::LostToNewer => Self::LostToNewer,
            Fate::Duplicate => Self::Duplicate,
            Fate::SetAside => Self::SetAside,
            Fate::Held => Self::Held,
        }
    }
}

/// A change and what became of it, as it is remembered until people ask.
pub struct Followed {
    table: TableName,
    /// As JSON; empty where the table has no key.
    key: Box<str>,
    op: Op,
    became: Became,
    /// Its place in its origin's topic, where it has one.
    offset: Option<Offset>,
    commit_second: u64,
}

impl Followed {
    /// `commit_second` is that of its origin.
    pub fn new(change: &Change, became: Became, offset: Option<Offset>, commit_second: u64) -> Self {
        let mut key = change.key().map(|key| wire::key_json(&key)).unwrap_or_default();
        if key.len() > KEY_BYTES_MAX {
            key.truncate(key.floor_char_boundary(KEY_BYTES_MAX));
            key.push('…');
        }
        Self { table: change.table().clone(), key: key.into(), op: change.op, became, offset, commit_second }
    }
}

/// What people look for. Everything, where nothing is said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ActivitySearch {
    /// Part of the table's full name, small letters or capital ones.
    pub table: String,
    /// Part of the key's JSON; with `whole`, all of it.
    pub key: String,
    /// Table and key are whole: the time line of one row.
    pub whole: bool,
    pub became: Option<Became>,
    /// Only what is older than the change of this number.
    pub before: Option<u64>,
}

/// One change, as people and programs see it. Its JSON is a promise; fields are added, never renamed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ActivityView {
    /// Counted from the start of the process, from 0.
    pub number: u64,
    /// When it was noted here, in seconds of the Unix epoch.
    pub at_seconds: u64,
    /// When it was committed at its origin.
    pub commit_seconds: u64,
    pub table: String,
    /// As JSON, at most some 200 bytes of it; empty where the table has no key.
    pub key: String,
    pub op: String,
    pub origin: String,
    pub offset: Option<u64>,
    pub became: Became,
}

#[derive(Default)]
pub struct Activity {
    entries: VecDeque<(u64, OriginId, Followed)>,
    /// How many came before the oldest that is remembered.
    forgotten: u64,
}

impl Activity {
    pub fn note(&mut self, origin: &OriginId, now_second: u64, followed: impl IntoIterator<Item = Followed>) {
        for followed in followed {
            if self.entries.len() >= ACTIVITY_MAX {
                self.entries.pop_front();
                self.forgotten += 1;
            }
            self.entries.push_back((now_second, origin.clone(), followed));
        }
    }

    /// The newest first, at most so many.
    pub fn search(&self, search: &ActivitySearch, at_most: usize) -> Vec<ActivityView> {
        let wanted = search.table.to_lowercase();
        let mut tables: HashMap<&TableName, bool> = HashMap::new();
        let is_table = |name: &TableName| match search.whole {
            true => name.to_string() == search.table,
            false => name.to_string().to_lowercase().contains(&wanted),
        };
        let is_key = |key: &str| match search.whole {
            true => key == search.key,
            false => key.contains(&search.key),
        };
        let end = search.before.map_or(self.entries.len(), |before| {
            usize::try_from(before.saturating_sub(self.forgotten)).unwrap_or(usize::MAX).min(self.entries.len())
        });
        let newest_first = self.entries.range(..end).enumerate().rev();
        let found = newest_first.filter(|(_, (_, _, entry))| {
            search.became.is_none_or(|became| became == entry.became)
                && is_key(&entry.key)
                && *tables.entry(&entry.table).or_insert_with_key(|name| is_table(name))
        });
        found.take(at_most).map(|(at, (second, origin, entry))| self.view(at, *second, origin, entry)).collect()
    }

    fn view(&self, at: usize, at_seconds: u64, origin: &OriginId, entry: &Followed) -> ActivityView {
        ActivityView {
            number: self.forgotten + at as u64,
            at_seconds,
            commit_seconds: entry.commit_second,
            table: entry.table.to_string(),
            key: entry.key.to_string(),
            op: entry.op.word().into(),
            origin: origin.to_string(),
            offset: entry.offset.map(|offset| offset.0),
            became: entry.became,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::{Checks, Column, ColumnKind, Image, Shape, Value};

    fn change(table: &str, key: &str) -> Change {
        let column = Column { name: "id".into(), kind: ColumnKind::Text, generated: false };
        let shape = Shape { table: TableName::new("campus", table), columns: vec![column], key: vec![0] };
        let after = Some(Image::of(vec![Some(Value::Text(key.into()))]));
        Change { shape: Arc::new(shape), op: Op::Insert, before: None, after, checks: Checks::default() }
    }

    fn noted(changes: impl IntoIterator<Item = (&'static str, String, Became)>) -> Activity {
        let mut activity = Activity::default();
        let followed = changes.into_iter().map(|(table, key, became)| Followed::new(&change(table, &key), became, None, 7));
        activity.note(&OriginId::new("b"), 9, followed);
        activity
    }

    #[test]
    fn changes_are_found_by_table_key_and_fate_the_newest_first() {
        let activity = noted([
            ("riders", "ann".into(), Became::Published),
            ("rides", "ann".into(), Became::Applied),
            ("riders", "anna".into(), Became::Applied),
        ]);
        let check = |search: ActivitySearch, expected: &[u64]| {
            let found: Vec<u64> = activity.search(&search, 10).iter().map(|view| view.number).collect();
            assert_eq!(found, expected, "{search:?}");
        };
        let search = ActivitySearch::default;
        check(search(), &[2, 1, 0]);
        check(ActivitySearch { table: "RIDERS".into(), ..search() }, &[2, 0]);
        check(ActivitySearch { key: "ann".into(), ..search() }, &[2, 1, 0]);
        check(ActivitySearch { became: Some(Became::Applied), ..search() }, &[2, 1]);
        check(ActivitySearch { before: Some(1), ..search() }, &[0]);
        check(ActivitySearch { before: Some(99), ..search() }, &[2, 1, 0]);
        let row = ActivitySearch { table: "campus.riders".into(), key: "{\"id\":\"ann\"}".into(), whole: true, ..search() };
        check(row, &[0]);
        assert_eq!(activity.search(&search(), 1).len(), 1);
    }

    #[test]
    fn memory_is_bounded_and_numbers_go_on() {
        let all = (0..ACTIVITY_MAX + 5).map(|number| ("riders", number.to_string(), Became::Applied));
        let activity = noted(all);
        let oldest = activity.search(&ActivitySearch { before: Some(7), ..ActivitySearch::default() }, 10);
        let keys: Vec<(u64, &str)> = oldest.iter().map(|view| (view.number, view.key.as_str())).collect();
        assert_eq!(keys, [(6, "{\"id\":\"6\"}"), (5, "{\"id\":\"5\"}")]);
        assert!(activity.search(&ActivitySearch { before: Some(3), ..ActivitySearch::default() }, 10).is_empty());
        let long = noted([("riders", "ä".repeat(5_000), Became::Applied)]);
        assert!(long.search(&ActivitySearch::default(), 1)[0].key.len() <= KEY_BYTES_MAX + "…".len());
    }
}
