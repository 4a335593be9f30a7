//! The rows that a group locks, with what they held.

use std::collections::BTreeMap;

use super::OverflowError;
use super::decide::Entry;
use super::index::Index;
use super::step::{Step, canonical};
use crate::change::{Change, Offset, RowKey, Version};
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, CanonicalKey, Held, Target, TargetError};

/// The locked rows of a group: what they held, and what the group itself has written since.
pub struct Rows {
    pub held: BTreeMap<CanonicalKey, Option<Held>>,
    noted: BTreeMap<CanonicalKey, Entry>,
    /// See [`Work::won`](super::work::Work::won): what earlier parts of a large transaction have written in place of another node's
    /// write is not in the index before it is committed.
    pub won: BTreeMap<CanonicalKey, Entry>,
}

impl Rows {
    /// Locks the rows of the steps, and others that are known to be needed.
    pub async fn lock(
        transaction: &mut dyn ApplyTransaction,
        steps: &[Step],
        others: &BTreeMap<CanonicalKey, RowKey>,
    ) -> Result<Self, TargetError> {
        // In the order of the canonical keys, so that two appliers or two attempts never wait for each other crosswise.
        let keyed = steps.iter().filter(|step| !step.is_keyless());
        let distinct: BTreeMap<&CanonicalKey, &RowKey> =
            others.iter().chain(keyed.map(|step| (&step.canonical, &step.key))).collect();
        let keys: Vec<RowKey> = distinct.values().map(|key| (*key).clone()).collect();
        let images = match transaction.lock(&keys).await {
            Ok(images) => images,
            // One of the tables cannot be locked (it is missing, or its key is another): lock one by one, and let the
            // write of the unlockable one say what is wrong.
            Err(error) if error.disposition() == Disposition::DeadLetter => {
                let mut images = Vec::with_capacity(keys.len());
                for key in &keys {
                    match transaction.lock(std::slice::from_ref(key)).await {
                        Ok(mut image) => images.push(image.pop().flatten()),
                        Err(error) if error.disposition() == Disposition::DeadLetter => images.push(None),
                        Err(error) => return Err(error),
                    }
                }
                images
            }
            Err(error) => return Err(error),
        };
        let held = distinct.keys().map(|key| (*key).clone()).zip(images).collect();
        Ok(Self { held, noted: BTreeMap::new(), won: BTreeMap::new() })
    }

    /// Rows that were locked later: the holders of unique values.
    pub async fn add(&mut self, target: &dyn Target, held: Vec<Held>) -> Result<(), TargetError> {
        let keys: Vec<RowKey> = held.iter().map(|held| held.key.clone()).collect();
        for (key, held) in canonical(target, &keys).await?.into_iter().zip(held) {
            self.held.entry(key).or_insert(Some(held));
        }
        Ok(())
    }

    /// The same, where their canonical keys are known.
    pub fn add_known(&mut self, held: impl IntoIterator<Item = (CanonicalKey, Option<Held>)>) {
        for (key, held) in held {
            self.held.entry(key).or_insert(held);
        }
    }

    pub fn held(&self, key: &CanonicalKey) -> Option<&Held> {
        self.held.get(key).and_then(Option::as_ref)
    }

    pub fn note(&mut self, key: &CanonicalKey, version: Version, offset: Offset) {
        self.noted.insert(key.clone(), Entry { version, offset });
    }

    /// Whether this group has written the row already.
    pub fn is_noted(&self, key: &CanonicalKey) -> bool {
        self.noted.contains_key(key) || self.won.contains_key(key)
    }

    /// The row's last write: by this group, else as the index knows.
    pub fn entry(&self, key: &CanonicalKey, index: &Index) -> Result<Option<Entry>, OverflowError> {
        match self.noted.get(key).or_else(|| self.won.get(key)) {
            Some(&entry) => Ok(Some(entry)),
            None => index.get(key),
        }
    }
}

/// The rows in the way of a put; none where the table cannot be looked at (the write says why).
pub async fn holders(transaction: &mut dyn ApplyTransaction, change: &Change) -> Result<Vec<Held>, TargetError> {
    match transaction.holders(change).await {
        Err(error) if error.disposition() == Disposition::DeadLetter => Ok(Vec::new()),
        other => other,
    }
}
