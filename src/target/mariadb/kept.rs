//! What the node keeps for people, read back: conflicts and dead letters.

use std::collections::BTreeMap;

use mysql_async::Row;
use mysql_async::prelude::FromValue;

use super::MariadbTarget;
use super::literal;
use crate::change::{Change, Checks, Hlc, Image, Offset, Op, OriginId, RowKey, TableName, ValueRef, wire};
use crate::target::TargetError;
use crate::target::keep::{DeadLetter, Side};

/// A conflict as it is kept, with what has become of it.
#[derive(Clone, PartialEq, Debug)]
pub struct KeptConflict {
    pub id: String,
    /// A word of [`ConflictKind`](crate::target::ConflictKind).
    pub kind: String,
    pub table: String,
    /// As JSON, for people.
    pub key: String,
    pub winner: Side,
    pub loser: Side,
    pub open: bool,
    /// UTC, as MariaDB prints it.
    pub noted_at: String,
    pub settled_at: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct KeptDeadLetter {
    pub letter: DeadLetter,
    pub noted_at: String,
}

/// How much is kept of one other origin.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Kept {
    /// All conflicts with it, open or settled.
    pub conflicts: u64,
    pub conflicts_open: u64,
    pub dead_letters: u64,
}

/// The row of one side as text: the key as before image, because the image itself may not hold it.
pub(super) fn row_text(key: &RowKey, image: &Image) -> String {
    let shape = &key.shape;
    let mut before = vec![None; shape.columns.len()];
    for (&at, value) in shape.key.iter().zip(&key.values) {
        before[usize::from(at)] = Some(value.clone());
    }
    let (before, after) = (Some(Image::of(before)), Some(image.clone()));
    wire::encode_change(&Change { shape: shape.clone(), op: Op::Update, before, after, checks: Checks::default() })
}

fn row_of(text: &str) -> Option<(RowKey, Image)> {
    let change = wire::decode_change(text.as_bytes()).ok()?;
    Some((RowKey::of(&change.shape, change.before.as_ref()?)?, change.after?))
}

const CONFLICT: &str = "SELECT id, kind, table_name, row_key, winner_origin, winner_hlc, winner_row, loser_origin, loser_hlc,
    loser_row, state, CAST(noted_at AS CHAR), CAST(settled_at AS CHAR) FROM tandem.conflicts";
const LETTER: &str = "SELECT origin, record_offset, gtid, hlc, row_change, reason, attempts, CAST(noted_at AS CHAR)
    FROM tandem.dead_letters";

/// What a list shows at most; the counts tell how many there are.
const LIST_MAX: usize = 10_000;

impl MariadbTarget {
    /// The newest first, at most `limit` after those that are skipped.
    pub async fn conflicts(&self, open_only: bool, skip: usize, limit: usize) -> Result<Vec<KeptConflict>, TargetError> {
        let only = if open_only { "WHERE state = 'open'" } else { "" };
        let sql = format!("{CONFLICT} {only} ORDER BY noted_at DESC, id LIMIT {skip}, {}", limit.min(LIST_MAX));
        self.read(sql.as_bytes(), "listing the conflicts", conflict).await
    }

    /// The conflict of this id, or the only one whose id begins so.
    pub async fn conflict(&self, id: &str) -> Result<Option<KeptConflict>, TargetError> {
        // Ids are made of these alone; anything else could mean more in a pattern.
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Ok(None);
        }
        let mut sql = format!("{CONFLICT} WHERE id LIKE ").into_bytes();
        literal::value(&mut sql, ValueRef::Text(&format!("{id}%")));
        sql.extend_from_slice(b" ORDER BY id LIMIT 2");
        let mut found = self.read(&sql, "reading a conflict", conflict).await?;
        let exact = found.iter().position(|conflict| conflict.id == id);
        Ok(match (exact, found.len()) {
            (Some(at), _) => Some(found.swap_remove(at)),
            (None, 1) => found.pop(),
            _ => None,
        })
    }

    /// The newest first, at most `limit` after those that are skipped.
    pub async fn dead_letters(&self, skip: usize, limit: usize) -> Result<Vec<KeptDeadLetter>, TargetError> {
        let sql = format!("{LETTER} ORDER BY noted_at DESC, origin, record_offset LIMIT {skip}, {}", limit.min(LIST_MAX));
        self.read(sql.as_bytes(), "listing the dead letters", dead_letter).await
    }

    /// The dead letter of this place.
    pub async fn dead_letter(&self, origin: &OriginId, offset: Offset) -> Result<Option<KeptDeadLetter>, TargetError> {
        let mut sql = format!("{LETTER} WHERE record_offset = {} AND origin = ", offset.0).into_bytes();
        literal::value(&mut sql, ValueRef::Text(origin.as_str()));
        Ok(self.read(&sql, "reading a dead letter", dead_letter).await?.pop())
    }

    /// Ids of the conflicts about a row, and the places of its dead letters; its key in one of these forms.
    pub async fn kept_of(
        &self,
        table: &TableName,
        keys: &[String],
    ) -> Result<(Vec<String>, Vec<(OriginId, Offset)>), TargetError> {
        let mut of = b" WHERE table_name = ".to_vec();
        literal::value(&mut of, ValueRef::Text(&table.to_string()));
        of.extend_from_slice(b" AND row_key IN (");
        literal::list(&mut of, keys, |out, key| literal::value(out, ValueRef::Text(key)));
        of.extend_from_slice(b") ORDER BY noted_at DESC LIMIT 100");
        let conflicts = [b"SELECT id FROM tandem.conflicts", of.as_slice()].concat();
        let letters = [b"SELECT origin, record_offset FROM tandem.dead_letters", of.as_slice()].concat();
        let letter = |row: &mut Row| Some((OriginId::new(&take::<String>(row, 0)?), Offset(take(row, 1)?)));
        Ok((
            self.read(&conflicts, "looking for conflicts of a row", |row| take(row, 0)).await?,
            self.read(&letters, "looking for dead letters of a row", letter).await?,
        ))
    }

    /// What is kept, by the other origin that it has to do with.
    pub async fn kept(&self, own: &OriginId) -> Result<BTreeMap<OriginId, Kept>, TargetError> {
        let mut sql = b"SELECT IF(winner_origin = ".to_vec();
        literal::value(&mut sql, ValueRef::Text(own.as_str()));
        sql.extend_from_slice(
            b", loser_origin, winner_origin), COUNT(*), SUM(state = 'open') + 0e0, 0 FROM tandem.conflicts GROUP BY 1
            UNION ALL SELECT origin, 0, 0e0, COUNT(*) FROM tandem.dead_letters GROUP BY 1",
        );
        let count = |row: &mut Row| {
            let kept =
                Kept { conflicts: take(row, 1)?, conflicts_open: take::<f64>(row, 2)? as u64, dead_letters: take(row, 3)? };
            Some((OriginId::new(&take::<String>(row, 0)?), kept))
        };
        let mut sums: BTreeMap<OriginId, Kept> = BTreeMap::new();
        for (origin, kept) in self.read(&sql, "counting conflicts and dead letters", count).await? {
            let sum = sums.entry(origin).or_default();
            sum.conflicts += kept.conflicts;
            sum.conflicts_open += kept.conflicts_open;
            sum.dead_letters += kept.dead_letters;
        }
        Ok(sums)
    }

    pub(super) async fn read<T>(
        &self,
        sql: &[u8],
        task: &str,
        of: impl Fn(&mut Row) -> Option<T>,
    ) -> Result<Vec<T>, TargetError> {
        let (session, rows) = self.rows(sql, task).await?;
        let read: Option<Vec<T>> = rows.into_iter().map(|mut row| of(&mut row)).collect();
        let read = read.ok_or_else(|| session.not_understood(task));
        self.give_back(session);
        read
    }
}

/// The value of a place, moved out of the row.
pub(super) fn take<T: FromValue>(row: &mut Row, place: usize) -> Option<T> {
    row.take_opt(place)?.ok()
}

fn side(row: &mut Row, first: usize) -> Option<Side> {
    let origin: String = take(row, first)?;
    let image = match take::<Option<String>>(row, first + 2)? {
        Some(text) => Some(row_of(&text)?),
        None => None,
    };
    Some(Side { origin: OriginId::new(&origin), hlc: Hlc(take(row, first + 1)?), row: image })
}

fn conflict(row: &mut Row) -> Option<KeptConflict> {
    Some(KeptConflict {
        id: take(row, 0)?,
        kind: take(row, 1)?,
        table: take(row, 2)?,
        key: take(row, 3)?,
        winner: side(row, 4)?,
        loser: side(row, 7)?,
        open: take::<String>(row, 10)? == "open",
        noted_at: take(row, 11)?,
        settled_at: take(row, 12)?,
    })
}

fn dead_letter(row: &mut Row) -> Option<KeptDeadLetter> {
    let letter = DeadLetter {
        origin: OriginId::new(&take::<String>(row, 0)?),
        offset: Offset(take(row, 1)?),
        gtid: take::<String>(row, 2)?.parse().ok()?,
        hlc: Hlc(take(row, 3)?),
        change: wire::decode_change(take::<String>(row, 4)?.as_bytes()).ok()?,
        reason: take(row, 5)?,
        attempts: take(row, 6)?,
    };
    Some(KeptDeadLetter { letter, noted_at: take(row, 7)? })
}
