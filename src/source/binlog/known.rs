//! What information_schema says about a table: what the binlog leaves out.

/// A table as the server describes it now. Whether "now" is also the place of the binlog that is being read, only
/// the reader of the binlog can know; [`Layout`](super::Layout) checks what can be checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownTable {
    /// In order, as information_schema.COLUMNS has them: the implicit row_start and row_end of a system-versioned
    /// table are not among them.
    pub columns: Vec<KnownColumn>,
    /// The names of the key's columns in order of the key; empty where the table has none.
    pub primary_key: Vec<String>,
    /// information_schema.TABLES calls it SYSTEM VERSIONED.
    pub system_versioned: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownColumn {
    pub name: String,
    /// COLUMN_TYPE, for example `int(10) unsigned`.
    pub column_type: String,
    /// CHARACTER_SET_NAME; `None` for what is not text.
    pub character_set: Option<String>,
    /// COLLATION_NAME.
    pub collation: Option<String>,
    /// Computed by the server: VIRTUAL or STORED GENERATED in EXTRA.
    pub generated: bool,
    /// INVISIBLE in EXTRA.
    pub invisible: bool,
    pub system_versioning: Option<SystemVersioning>,
    /// Has the check `json_valid(…)`, which is all that MariaDB's JSON type is.
    pub json: bool,
}

/// Which end of a row's life a column holds: `GENERATED ALWAYS AS ROW START` and `ROW END`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SystemVersioning {
    RowStart,
    RowEnd,
}
