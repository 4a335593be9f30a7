//! What the server leaves unsaid where it shows how a table is made.

use super::lex::{Kind, Word};
use super::{Statement, Verb, split};

/// Words with which a line begins that is no column. The server puts names that are such words in quotes.
const NO_COLUMN: &[&str] =
    &["PRIMARY", "UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL", "CONSTRAINT", "FOREIGN", "CHECK", "PERIOD"];

impl Statement {
    /// Of a table as the server itself shows it: the columns that may be NULL and have no default.
    ///
    /// An application's `a INT` has the default NULL, and the server always shows that. It makes a column without any in one case: a
    /// `CREATE TABLE … SELECT` that takes it from a column which is NOT NULL and has no default, through an outer join, MIN or MAX. It then
    /// refuses, in a strict session, a row that does not name the column. What it shows of it, and logs, reads as DEFAULT NULL, and no ALTER
    /// makes it otherwise (MariaDB 10.11).
    pub fn without_default(&self) -> Vec<String> {
        let body = &self.words[self.body..];
        let is_list = self.verb == Verb::CreateTable && body.first().is_some_and(|word| word.is_mark("("));
        let mut depth = 0_usize;
        let end = body.iter().position(|word| {
            depth += usize::from(word.is_mark("("));
            depth -= usize::from(word.is_mark(")")).min(depth);
            depth == 0
        });
        let Some(end) = end.filter(|_| is_list) else { return Vec::new() };
        split(&body[1..end]).into_iter().filter_map(column).map(str::to_owned).collect()
    }
}

/// The name of a column that may be NULL and has no default.
fn column(definition: &[Word]) -> Option<&str> {
    let (name, rest) = definition.split_first()?;
    let is_column = name.kind == Kind::Quoted || name.kind == Kind::Plain && !NO_COLUMN.iter().any(|word| name.is(word));
    let mut depth = 0_usize;
    let outside: Vec<&Word> = rest
        .iter()
        .filter(|word| {
            depth += usize::from(word.is_mark("("));
            depth -= usize::from(word.is_mark(")")).min(depth);
            depth == 0
        })
        .collect();
    let says = |keyword: &str| outside.iter().any(|word| word.is(keyword));
    let not_null = outside.windows(2).any(|pair| pair[0].is("NOT") && pair[1].is("NULL"));
    (is_column && !not_null && !["DEFAULT", "GENERATED", "AS", "AUTO_INCREMENT"].iter().any(|word| says(word)))
        .then_some(name.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_may_be_null_and_has_no_default_is_found() {
        let check = |statement: &str, expected: &[&str]| {
            let parsed = Statement::parse(statement, "campus", 0).expect("it is known");
            assert_eq!(parsed.without_default(), expected, "{statement}");
        };
        check("CREATE TABLE `t` (\n  `a` int(10) unsigned NOT NULL,\n  `b` int(10) unsigned\n)", &["b"]);
        check("CREATE OR REPLACE TABLE `d`.`t` (`a``b` timestamp NULL, `c` timestamp NULL DEFAULT NULL)", &["a`b"]);
        check("CREATE TABLE `t` (`a` int(11) DEFAULT NULL COMMENT 'NOT', `b` text COMMENT 'DEFAULT NOT NULL')", &["b"]);
        check("CREATE TABLE `t` (`e` enum('DEFAULT','x,y'), `s` decimal(10,2) NOT NULL)", &["e"]);
        check("CREATE TABLE `t` (`j` longtext CHECK (json_valid(`j`) and `j` is NOT NULL or DEFAULT(`j`) = 1))", &["j"]);
        check("CREATE TABLE `t` (`v` int(11) GENERATED ALWAYS AS (`a` + 1) VIRTUAL, `i` int(11) NOT NULL AUTO_INCREMENT)", &[]);
        check(
            "CREATE TABLE `t` (`key` int(11), PRIMARY KEY (`key`), KEY `k` (`key`), CONSTRAINT `c` CHECK (`key` > 1)) ENGINE=InnoDB",
            &["key"],
        );
        check("CREATE TABLE t (a int(11), KEY k (a))", &["a"]);
        check("CREATE TABLE t LIKE u", &[]);
        check("ALTER TABLE t ADD (b int)", &[]);
    }
}
