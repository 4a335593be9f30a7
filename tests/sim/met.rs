//! What runs met, so that it can be checked that they met it.

use std::ops::AddAssign;

/// What a run met: that it did is checked, too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Met {
    pub writes: usize,
    pub conflicts: usize,
    pub unique_conflicts: usize,
    pub reference_conflicts: usize,
    pub crashes: usize,
    pub restarts: usize,
    /// Transactions that no applier can keep in memory.
    pub large: usize,
    /// Rows without a key: updates and deletes of them, and those in the end that equal another.
    pub keyless_changed: usize,
    pub keyless_equal: usize,
    /// Rows that snapshots published, and conflicts between two that existed: of one key, or over one unique value.
    pub existing_rows: usize,
    pub existing_conflicts: usize,
    pub existing_unique_conflicts: usize,
    /// Statements that emptied a table.
    pub emptied: usize,
    /// Seedings that were begun, and commands that were cut off.
    pub seedings: usize,
    pub cut_off: usize,
    /// Records that retention took; transactions that were published nowhere; and those that were cut off in a topic for good.
    pub forgotten: usize,
    pub unpublished: usize,
    pub nobodys: usize,
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.conflicts += other.conflicts;
        self.unique_conflicts += other.unique_conflicts;
        self.reference_conflicts += other.reference_conflicts;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.large += other.large;
        self.keyless_changed += other.keyless_changed;
        self.keyless_equal += other.keyless_equal;
        self.existing_rows += other.existing_rows;
        self.existing_conflicts += other.existing_conflicts;
        self.existing_unique_conflicts += other.existing_unique_conflicts;
        self.emptied += other.emptied;
        self.seedings += other.seedings;
        self.cut_off += other.cut_off;
        self.forgotten += other.forgotten;
        self.unpublished += other.unpublished;
        self.nobodys += other.nobodys;
    }
}
