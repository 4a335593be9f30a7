//! Names of tables, and which of them are captured.

use std::fmt;
use std::sync::Arc;

use super::own::OWN_DATABASE;

/// A table by its full name. Cheap to clone: both parts are shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TableName {
    pub database: Arc<str>,
    pub table: Arc<str>,
}

impl TableName {
    pub fn new(database: &str, table: &str) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    /// Splits `database.table` at its first dot; `None` where a part is empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (database, table) = text.split_once('.')?;
        (!database.is_empty() && !table.is_empty()).then(|| Self::new(database, table))
    }

    /// True for the tables that Tandem keeps for itself on every node.
    pub fn is_own(&self) -> bool {
        &*self.database == OWN_DATABASE
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// One entry of `[tables]`: `database.table`, where `*` stands for any run of characters in either part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TablePattern {
    database: String,
    table: String,
}

impl TablePattern {
    /// `None` where the text is not `database.table`.
    pub fn parse(text: &str) -> Option<Self> {
        let (database, table) = text.split_once('.')?;
        let valid = |part: &str| !part.is_empty() && !part.contains('.');
        (valid(database) && valid(table)).then(|| Self { database: database.into(), table: table.into() })
    }

    pub fn matches(&self, name: &TableName) -> bool {
        glob(self.database.as_bytes(), name.database.as_bytes()) && glob(self.table.as_bytes(), name.table.as_bytes())
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// Linear-time wildcard match: on a mismatch, go back to the last `*` and let it take one byte more.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while taken < text.len() {
        if at < pattern.len() && pattern[at] == b'*' {
            star = Some((at, taken));
            at += 1;
        } else if at < pattern.len() && pattern[at] == text[taken] {
            at += 1;
            taken += 1;
        } else if let Some((star_at, star_taken)) = star {
            at = star_at + 1;
            taken = star_taken + 1;
            star = Some((star_at, taken));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// Which tables are captured: included by some pattern and excluded by none. System databases never are.
#[derive(Clone, Default, Debug)]
pub struct TableFilter {
    pub include: Vec<TablePattern>,
    pub exclude: Vec<TablePattern>,
}

impl TableFilter {
    /// Everything outside the server's own databases and ours.
    pub fn everything() -> Self {
        Self { include: vec![TablePattern { database: "*".into(), table: "*".into() }], exclude: Vec::new() }
    }

    pub fn captures(&self, name: &TableName) -> bool {
        const SYSTEM: [&str; 5] = ["mysql", "information_schema", "performance_schema", "sys", OWN_DATABASE];
        !SYSTEM.contains(&&*name.database)
            && self.include.iter().any(|pattern| pattern.matches(name))
            && !self.exclude.iter().any(|pattern| pattern.matches(name))
    }

    /// True where some table of this database could be captured.
    pub fn captures_database(&self, database: &str) -> bool {
        self.include.iter().any(|pattern| glob(pattern.database.as_bytes(), database.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let pattern = TablePattern::parse(pattern).unwrap();
        assert_eq!(pattern.matches(&TableName::parse(name).unwrap()), expected, "{pattern} on {name}");
    }

    #[test]
    fn patterns_match_by_part() {
        check("campus.*", "campus.riders", true);
        check("campus.*", "campus2.riders", false);
        check("campus.cache_*", "campus.cache_", true);
        check("campus.*_log", "campus.a_log_log", true);
        check("campus.*_log", "campus.log", false);
        check("*.riders", "campus.riders", true);
        check("campus.a*b*c", "campus.axxbyyc", true);
        check("campus.a*b*c", "campus.axxbyy", false);
    }

    #[test]
    fn a_pattern_needs_both_parts() {
        for text in ["riders", ".riders", "campus.", "a.b.c", ""] {
            assert!(TablePattern::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn system_and_own_tables_are_never_captured() {
        let filter = TableFilter::everything();
        assert!(filter.captures(&TableName::new("campus", "riders")));
        assert!(!filter.captures(&TableName::new("mysql", "user")));
        assert!(!filter.captures(&TableName::new("tandem", "applied")));
    }
}
