//! Names what a statement does to which table. Not a grammar: the verb, the kind of object, and the names after it.

use crate::change::{TableFilter, TableName};
use crate::source::Ddl;

/// What to do with statements that change or remove rows without row events (truncate, drop, rename).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DdlPolicy {
    /// The tailer stops: going on would leave the rows on the other nodes in silence.
    #[default]
    Stop,
    /// Go on; the operator ran the same statement elsewhere.
    Ignore,
}

/// A statement that takes rows away from a captured table without telling their keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dangerous {
    pub statement: &'static str,
    pub object: String,
}

/// Whether the statement is dangerous for a captured table.
pub fn dangerous(ddl: &Ddl, filter: &TableFilter) -> Option<Dangerous> {
    let words = tokens(&ddl.statement);
    let mut words = words.iter().map(String::as_str).peekable();
    let mut next_is = |expected: &str| words.next_if(|word| word.eq_ignore_ascii_case(expected)).is_some();
    let (statement, is_database) = if next_is("truncate") {
        next_is("table");
        ("TRUNCATE", false)
    } else if next_is("drop") {
        if next_is("temporary") {
            return None;
        }
        if next_is("database") || next_is("schema") {
            ("DROP DATABASE", true)
        } else if next_is("table") || next_is("tables") {
            ("DROP TABLE", false)
        } else {
            return None;
        }
    } else if next_is("rename") {
        if !next_is("table") && !next_is("tables") {
            return None;
        }
        ("RENAME TABLE", false)
    } else {
        return None;
    };
    if next_is("if") {
        next_is("exists");
    }
    let rest: Vec<&str> = words.collect();
    if is_database {
        let name = rest.first()?;
        return filter.captures_database(name).then(|| Dangerous { statement, object: (*name).to_owned() });
    }
    names(&rest, &ddl.database)
        .into_iter()
        .find(|name| filter.captures(name))
        .map(|name| Dangerous { statement, object: name.to_string() })
}

/// All `[database.]table` names in a list separated by commas; what stands between names (TO, WAIT 5, CASCADE) is
/// skipped because no captured table is called so at that place.
fn names(words: &[&str], database: &str) -> Vec<TableName> {
    let mut names = Vec::new();
    for part in words.split(|word| *word == "," || word.eq_ignore_ascii_case("to")) {
        match part {
            [database, ".", table, ..] => names.push(TableName::new(database, table)),
            [table, ..] => names.push(TableName::new(database, table)),
            [] => {}
        }
    }
    names
}

/// Words, quoted names (without their quotes) and the marks between them; comments are dropped, except that the inside
/// of an executable comment (`/*!40005 … */`, `/*M! … */`) counts.
fn tokens(statement: &str) -> Vec<String> {
    let text: Vec<char> = statement.chars().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    let starts = |at: usize, mark: &str| mark.chars().enumerate().all(|(n, c)| text.get(at + n) == Some(&c));
    while at < text.len() {
        let c = text[at];
        if c.is_whitespace() {
            at += 1;
        } else if starts(at, "/*!") || starts(at, "/*M!") {
            at += if starts(at, "/*!") { 3 } else { 4 };
            while text.get(at).is_some_and(char::is_ascii_digit) {
                at += 1;
            }
        } else if starts(at, "*/") {
            at += 2;
        } else if starts(at, "/*") {
            while at < text.len() && !starts(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if c == '#' || (starts(at, "--") && text.get(at + 2).is_none_or(|c| c.is_whitespace())) {
            while at < text.len() && text[at] != '\n' {
                at += 1;
            }
        } else if c == '`' || c == '"' || c == '\'' {
            let mut name = String::new();
            at += 1;
            while at < text.len() {
                if text[at] == c {
                    // A doubled quote stands for itself.
                    if text.get(at + 1) != Some(&c) {
                        break;
                    }
                    at += 1;
                }
                name.push(text[at]);
                at += 1;
            }
            at += 1;
            out.push(name);
        } else if c.is_alphanumeric() || c == '_' || c == '$' {
            let start = at;
            while at < text.len() && (text[at].is_alphanumeric() || text[at] == '_' || text[at] == '$') {
                at += 1;
            }
            out.push(text[start..at].iter().collect());
        } else {
            out.push(c.to_string());
            at += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::TablePattern;

    fn check(statement: &str, expected: Option<(&'static str, &str)>) {
        let filter = TableFilter {
            include: vec![TablePattern::parse("campus.*").unwrap()],
            exclude: vec![TablePattern::parse("campus.log").unwrap()],
        };
        let ddl = Ddl { database: "campus".into(), statement: statement.into() };
        let expected = expected.map(|(statement, object)| Dangerous { statement, object: object.to_owned() });
        assert_eq!(dangerous(&ddl, &filter), expected, "{statement}");
    }

    #[test]
    fn statements_that_take_rows_away_are_named() {
        check("TRUNCATE riders", Some(("TRUNCATE", "campus.riders")));
        check("truncate table `riders`", Some(("TRUNCATE", "campus.riders")));
        check("TRUNCATE TABLE other.riders", None);
        check("TRUNCATE TABLE log", None);
        check("DROP TABLE `campus`.`riders` /* generated by server */", Some(("DROP TABLE", "campus.riders")));
        check("DROP TABLE IF EXISTS other.x, drivers", Some(("DROP TABLE", "campus.drivers")));
        check("DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `riders`", None);
        check("/* why */ DROP -- because\n TABLE riders", Some(("DROP TABLE", "campus.riders")));
        check("DROP DATABASE IF EXISTS campus", Some(("DROP DATABASE", "campus")));
        check("drop schema other", None);
        check("RENAME TABLE other.a TO other.b, riders TO old_riders", Some(("RENAME TABLE", "campus.riders")));
        check("RENAME TABLE other.a TO campus.a", Some(("RENAME TABLE", "campus.a")));
        check("DROP INDEX i ON riders", None);
        check("DROP VIEW v", None);
        check("CREATE TABLE riders (id INT)", None);
        check("ALTER TABLE riders ADD x INT", None);
        check("TRUNCATE `odd``name`", Some(("TRUNCATE", "campus.odd`name")));
        check("", None);
        check("DROP TABLE", None);
        check("/* never closed", None);
    }
}
