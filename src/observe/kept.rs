//! What a node's database keeps for people, as they and their programs see it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A conflict as people and programs see it. Its JSON is a promise; fields are added, never renamed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConflictView {
    pub id: String,
    pub table: String,
    /// Key columns and their values.
    pub key: Map<String, Value>,
    pub kind: String,
    /// Waits for a person to decide.
    pub open: bool,
    pub winner: SideView,
    pub loser: SideView,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SideView {
    pub origin: String,
    /// When it was written, by its hybrid logical clock, in seconds of the Unix epoch.
    pub written_seconds: u64,
    /// The row as this side wanted it. `None` where it deleted the row, or where its image is not known here.
    pub row: Option<Map<String, Value>>,
}

/// A change set aside, as people and programs see it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FailedView {
    /// By which it is retried or discarded: origin and offset.
    #[serde(default)]
    pub id: String,
    pub origin: String,
    pub offset: u64,
    pub table: String,
    pub key: Map<String, Value>,
    pub op: String,
    pub reason: String,
    pub attempts: u32,
    /// What a person does about it.
    #[serde(default)]
    pub remedy: String,
    /// When the change was made at its origin, by its hybrid logical clock, in seconds of the Unix epoch.
    #[serde(default)]
    pub written_seconds: u64,
    /// The row before and after the change, as far as it tells them.
    #[serde(default)]
    pub before: Option<Map<String, Value>>,
    #[serde(default)]
    pub after: Option<Map<String, Value>>,
}

/// Which changes that were set aside are meant.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailedWish {
    pub ids: Vec<String>,
    pub all: bool,
}

/// What became of a change that was tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RetriedView {
    pub id: String,
    /// `applied`, `newer_stands` (a newer write of the row, so it needs nobody any more), `failed` (as before), or `refused`
    /// (nobody could say whether a newer write came since).
    pub outcome: String,
    /// Of the last two.
    pub reason: Option<String>,
}

/// A table of the databases that are synced, as people and programs see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TableView {
    pub name: String,
    pub synced: bool,
    /// Why it is not synced, or what is different about it.
    pub why: Option<String>,
    /// What the server thinks it has: no more than a guess.
    pub rows: Option<u64>,
}

/// What to do about a change that could not be applied, by the reason that is kept with it.
pub fn remedy(reason: &str) -> &'static str {
    // The reasons are sentences of `target`; of each the part that no name of a table or column interrupts.
    const REMEDIES: [(&str, &str); 18] = [
        (
            "no row here is equal",
            "Look at the row on both sides and write it by hand; give the table a primary key, so that this cannot happen again.",
        ),
        ("refers to a row of another table", "Write the missing row here, or find out why it did not arrive; then retry."),
        ("other rows here still refer", "Delete those rows, or keep this one; then retry or discard."),
        ("the unique key", "See which row holds the value, and change or delete one of the two; then retry."),
        ("computed by the server", "The tables differ: run the same ALTER TABLE on all nodes; then retry or discard."),
        ("larger than a row", "The row does not fit the table here: give it the columns that the other node has; then retry."),
        ("must not be NULL", "The tables differ: allow NULL here too, or give the column a default; then retry."),
        ("has no default", "The tables differ: give the column a default here, or add it on the other node; then retry."),
        ("too long for", "The tables differ: make the column as wide here as it is there; then retry."),
        ("out of range for", "The tables differ: give the column the same type on all nodes; then retry."),
        (
            "not text in the character set",
            "Give the column the same character set on all nodes, utf8mb4 where you may choose; then retry.",
        ),
        ("does not fit the type", "The tables differ: give the column the same type on all nodes; then retry."),
        ("no longer in the table", "The tables differ: run the same ALTER TABLE on all nodes; then retry."),
        (
            "does not exist here",
            "Create the table here as it is on the other node, or exclude it on all nodes; then retry or discard.",
        ),
        (
            "refuses it",
            "A check or a trigger here says no: make it the same on all nodes, or mend the row; then retry or discard.",
        ),
        (
            "no transactions and row locks",
            "Make it an InnoDB table on all nodes (ALTER TABLE … ENGINE=InnoDB), or exclude it there; then retry or discard.",
        ),
        (
            "would run again",
            "Let the trigger here do nothing for what arrives (IF @tandem_applying IS NULL THEN … END IF around its body), or drop it; then retry.",
        ),
        ("max_allowed_packet", "Raise max_allowed_packet of this server to that of the other; then retry."),
    ];
    let found = REMEDIES.iter().find(|(part, _)| reason.contains(part));
    found.map_or("Find out with the reason what is different here, mend it, then retry or discard.", |(_, remedy)| remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_remedy_of_its_own() {
        assert!(remedy("campus.riders: the value is too long for column `name` here").contains("as wide here"));
        assert!(remedy("campus.riders: the check `seats` refuses it").contains("check or a trigger"));
        let general = remedy("something new");
        // Every sentence that `target` makes of a row, and that the applier adds to a change that is tried again.
        for reason in [
            "no row here is equal to the row before the change, and without a primary key it cannot be found otherwise",
            "it refers to a row of another table that is not here (constraint `f`)",
            "other rows here still refer to it (constraint `f`)",
            "other rows here still refer to it, and came after it",
            "the unique key `email` is taken by another row",
            "column `name` must not be NULL here",
            "column `name` has no default here, and the change does not hold it",
            "the value is too long for column `name` here",
            "the value is out of range for column `name` here",
            "the value is not text in the character set of column `name` here",
            "the value does not fit the type of one of the columns here",
            "a column of the change is no longer in the table here",
            "column `name` is computed by the server here and cannot be written",
            "the table does not exist here",
            "the check `seats` refuses it",
            "a trigger refuses it",
            "its engine is MyISAM, which has no transactions and row locks",
            "its trigger `loud` would run again for every change that arrives",
            "it is larger than the server's max_allowed_packet",
            "it is larger than a row can be here",
        ] {
            assert_ne!(remedy(&format!("campus.riders: {reason}")), general, "{reason}");
        }
        assert!(remedy("something new").starts_with("Find out"));
    }
}
