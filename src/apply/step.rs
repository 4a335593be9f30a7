//! What a group does to single rows, in order.

use super::ApplyError;
use super::group::Group;
use crate::change::{Change, Image, Op, RowKey};
use crate::runtime::{Disposition, Fault};
use crate::target::{CanonicalKey, Target, TargetError, Write};

/// One row written. A change that moves a row to another key has two.
pub struct Step {
    /// The record in the group.
    pub at: usize,
    /// Without values where the table has no key.
    pub key: RowKey,
    /// Of a row without a key: of this one write, so that nothing is ever known of it.
    pub canonical: CanonicalKey,
    pub write: Write,
}

impl Step {
    /// A row that existed at its origin: it fills what is missing, and is no write.
    pub fn is_existing_row(&self) -> bool {
        matches!(&self.write, Write::Put(change) if change.op == Op::Read)
    }

    pub fn deletes(&self) -> bool {
        matches!(self.write, Write::Delete(_) | Write::DeleteAlone(_))
    }

    /// A row without a key: nothing to lock it by, and no earlier write to decide against.
    pub fn is_keyless(&self) -> bool {
        matches!(self.write, Write::Whole(_))
    }
}

/// The steps of a group, in the order in which its origin made them.
pub async fn steps(group: &Group, target: &dyn Target) -> Result<Vec<Step>, ApplyError> {
    let mut parts: Vec<(usize, RowKey, Write)> = Vec::with_capacity(group.records.len());
    for (at, (_, record)) in group.records.iter().enumerate() {
        let change = record.change().expect("a group's records hold changes");
        if !change.shape.has_key() && matches!(change.op, Op::Insert | Op::Update | Op::Delete) {
            let key = RowKey { shape: change.shape.clone(), values: Box::default() };
            parts.push((at, key, Write::Whole(change.clone())));
            continue;
        }
        let no_key = || ApplyError::NoKey { origin: group.origin.clone(), table: change.table().clone() };
        if change.op == Op::Truncate {
            // Taken by itself: see `empty`.
            continue;
        }
        let key = change.key().ok_or_else(no_key)?;
        match change.op {
            Op::Insert | Op::Update => {
                if let Some(left) = change.moved_from() {
                    parts.push((at, left.clone(), Write::Delete(left)));
                }
                parts.push((at, key, Write::Put(change.clone())));
            }
            // Its origin had switched foreign keys off.
            Op::Delete if change.checks.foreign_keys_off => parts.push((at, key.clone(), Write::DeleteAlone(key))),
            Op::Delete => parts.push((at, key.clone(), Write::Delete(key))),
            Op::Read => parts.push((at, key, Write::Put(change.clone()))),
            Op::Truncate => unreachable!("it was passed by above"),
        }
    }
    let keys: Vec<RowKey> = parts.iter().filter(|(_, key, _)| key.shape.has_key()).map(|(_, key, _)| key.clone()).collect();
    let mut canonical = canonical(target, &keys).await?.into_iter();
    let step = |(at, key, write): (usize, RowKey, Write)| {
        let canonical = match key.shape.has_key() {
            true => canonical.next().expect("one key, one answer"),
            false => CanonicalKey(format!("{} without a key, at {}", key.table(), group.offset(at)).into_bytes().into()),
        };
        Step { at, key, canonical, write }
    };
    let mut steps: Vec<Step> = parts.into_iter().map(step).collect();
    // A key that only changed its spelling ('a' to 'A') is the same row: to delete it first would lose what the change
    // does not tell.
    let stays = |pair: &[Step]| pair[0].at == pair[1].at && pair[0].canonical == pair[1].canonical;
    let respelled: Vec<usize> = steps.windows(2).enumerate().filter(|(_, pair)| stays(pair)).map(|(at, _)| at).collect();
    for at in respelled.into_iter().rev() {
        steps.remove(at);
    }
    Ok(steps)
}

/// Canonical keys; where the target does not know a table or cannot take a value as its key, the key as it was told.
/// Such a change is set aside when it is written, and must not keep the others from being decided.
pub async fn canonical(target: &dyn Target, keys: &[RowKey]) -> Result<Vec<CanonicalKey>, TargetError> {
    match target.canonical(keys).await {
        Err(error) if error.disposition() == Disposition::DeadLetter => {}
        other => return other,
    }
    let mut out = Vec::with_capacity(keys.len());
    for key in keys {
        match target.canonical(std::slice::from_ref(key)).await {
            Ok(mut one) => out.push(one.pop().expect("one key, one answer")),
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                let told = format!("{} {}", key.table(), crate::change::wire::key_json(key));
                out.push(CanonicalKey(told.into_bytes().into()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(out)
}

/// The delete of a row, as a change that tells its key alone.
pub fn delete_of(key: &RowKey) -> Change {
    let mut before = vec![None; key.shape.columns.len()];
    for (&at, value) in key.shape.key.iter().zip(&key.values) {
        before[usize::from(at)] = Some(value.clone());
    }
    Change {
        shape: key.shape.clone(),
        op: Op::Delete,
        before: Some(Image::of(before)),
        after: None,
        checks: Default::default(),
    }
}
