//! What a logged statement is to a reader of rows: an end of the group, a savepoint, a DDL statement, or DML that should
//! have been rows. Not a grammar: the first words, behind comments.

/// A statement, by what it means for the group it stands in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Statement {
    Begin,
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    /// XA START and XA END, which only frame the rows.
    XaFrame,
    XaCommit,
    XaRollback,
    /// Rows were changed, and the binlog has no row events of it. Holds the verb.
    Dml(&'static str),
    /// Everything else: it defines, grants, or maintains.
    Ddl,
}

impl Statement {
    pub fn of(text: &[u8]) -> Self {
        // Nearly all statements of groups with rows are these exact bytes, made by the server.
        if text == b"COMMIT" {
            return Self::Commit;
        }
        let mut rest = behind_settings(text);
        let first = word(&mut rest);
        let is = |word: &[u8], expected: &str| word.eq_ignore_ascii_case(expected.as_bytes());
        if is(first, "BEGIN") {
            Self::Begin
        } else if is(first, "COMMIT") {
            Self::Commit
        } else if is(first, "ROLLBACK") {
            match name_after(&mut rest, "TO") {
                Some(name) => Self::RollbackTo(name),
                None => Self::Rollback,
            }
        } else if is(first, "SAVEPOINT") {
            Self::Savepoint(name(rest))
        } else if is(first, "XA") {
            let second = word(&mut rest);
            if is(second, "COMMIT") {
                Self::XaCommit
            } else if is(second, "ROLLBACK") {
                Self::XaRollback
            } else {
                Self::XaFrame
            }
        } else {
            const DML: [&str; 9] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "SELECT", "WITH", "CALL", "DO"];
            match DML.into_iter().find(|verb| is(first, verb)) {
                Some(verb) => Self::Dml(verb),
                None => Self::Ddl,
            }
        }
    }
}

/// True where the statement could be about the table: its name stands there, be it quoted or not. Says yes too often
/// rather than too rarely.
pub fn mentions(statement: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    // The names in the statement are in the client's character set, and a quote in a name is doubled.
    let plain = statement.is_ascii() && name.is_ascii() && !statement.windows(2).any(|pair| pair == b"``" || pair == b"\"\"");
    if !plain || name.is_empty() {
        return true;
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
    let bounded = name.iter().all(|&byte| is_name(byte));
    statement.windows(name.len()).enumerate().any(|(at, window)| {
        window.eq_ignore_ascii_case(name)
            && (!bounded
                || (!at.checked_sub(1).is_some_and(|before| is_name(statement[before]))
                    && !statement.get(at + name.len()).is_some_and(|&after| is_name(after))))
    })
}

/// True where the statement is about a database as a whole: all its tables are then other tables.
pub fn is_about_database(statement: &[u8]) -> bool {
    let mut rest = behind_settings(statement);
    word(&mut rest);
    let mut object = word(&mut rest);
    if object.eq_ignore_ascii_case(b"OR") {
        word(&mut rest);
        object = word(&mut rest);
    }
    object.eq_ignore_ascii_case(b"DATABASE") || object.eq_ignore_ascii_case(b"SCHEMA")
}

/// Passes over `SET STATEMENT sql_mode='', … FOR`, which the server logs with the statement.
fn behind_settings(text: &[u8]) -> &[u8] {
    let mut rest = text;
    if !word(&mut rest).eq_ignore_ascii_case(b"SET") || !word(&mut rest).eq_ignore_ascii_case(b"STATEMENT") {
        return text;
    }
    loop {
        let start = skip(rest);
        let Some(&first) = start.first() else { return text };
        rest = start;
        if matches!(first, b'\'' | b'"' | b'`') {
            rest = behind_quotes(start);
        } else if word(&mut rest).is_empty() {
            rest = &start[1..];
        } else if start[..start.len() - rest.len()].eq_ignore_ascii_case(b"FOR") {
            return rest;
        }
    }
}

/// Behind the text in quotes that begins here. What is not closed ends with the statement.
fn behind_quotes(text: &[u8]) -> &[u8] {
    let quote = text[0];
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    text.get(at + 1..).unwrap_or_default()
}

/// The name after `expected` and perhaps `SAVEPOINT`.
fn name_after(rest: &mut &[u8], expected: &str) -> Option<String> {
    if !word(rest).eq_ignore_ascii_case(expected.as_bytes()) {
        return None;
    }
    let mut behind = *rest;
    let quoted = skip(rest).first().is_some_and(|&byte| byte == b'`' || byte == b'"');
    if !quoted && word(&mut behind).eq_ignore_ascii_case(b"SAVEPOINT") && !skip(behind).is_empty() {
        *rest = behind;
    }
    Some(name(rest))
}

/// A savepoint's name, for comparing: without its quotes and in lower case, as the server compares them.
fn name(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(skip(text)).trim().to_lowercase();
    match text.strip_prefix('`').and_then(|inner| inner.strip_suffix('`')) {
        Some(inner) => inner.replace("``", "`"),
        None => text,
    }
}

/// Takes the next word: letters only. Empty at anything else.
fn word<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let start = skip(text);
    let length = start.iter().position(|byte| !byte.is_ascii_alphabetic() && *byte != b'_').unwrap_or(start.len());
    let (word, rest) = start.split_at(length);
    *text = rest;
    word
}

/// Passes over white space and comments. The inside of an executable comment (`/*!50000 …`) is not a comment, and a
/// bracket may stand before SELECT.
fn skip(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let digits = |text: &[u8]| text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        if let Some(inside) = text.strip_prefix(b"/*!").or_else(|| text.strip_prefix(b"/*M!")) {
            text = &inside[digits(inside)..];
        } else if let Some(inside) = text.strip_prefix(b"/*") {
            text = inside.windows(2).position(|pair| pair == b"*/").map_or(&[], |end| &inside[end + 2..]);
        } else if text.starts_with(b"#") || text.starts_with(b"-- ") || text.starts_with(b"--\n") || text.starts_with(b"--\t") {
            text = text.iter().position(|&byte| byte == b'\n').map_or(&[], |end| &text[end + 1..]);
        } else if let Some(inside) = text.strip_prefix(b"*/").or_else(|| text.strip_prefix(b"(")) {
            text = inside;
        } else {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Statement) {
        assert_eq!(Statement::of(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn statements_are_told_by_their_first_words() {
        check("COMMIT", Statement::Commit);
        check("BEGIN", Statement::Begin);
        check("ROLLBACK", Statement::Rollback);
        check("SAVEPOINT `Sp`", Statement::Savepoint("sp".into()));
        check("ROLLBACK TO `sp`", Statement::RollbackTo("sp".into()));
        check("ROLLBACK TO SAVEPOINT a1", Statement::RollbackTo("a1".into()));
        check("ROLLBACK TO `savepoint`", Statement::RollbackTo("savepoint".into()));
        check("ROLLBACK TO savepoint", Statement::RollbackTo("savepoint".into()));
        check("XA START X'7831',X'',1", Statement::XaFrame);
        check("XA END X'7831',X'',1", Statement::XaFrame);
        check("XA COMMIT X'7831',X'',1", Statement::XaCommit);
        check("XA ROLLBACK X'7831',X'',1", Statement::XaRollback);
        check("ALTER TABLE t ADD c INT", Statement::Ddl);
        check("CREATE TABLE updates (id INT)", Statement::Ddl);
        check("TRUNCATE t", Statement::Ddl);
        check("", Statement::Ddl);
    }

    #[test]
    fn dml_is_found_behind_comments() {
        check("insert into t values (1)", Statement::Dml("INSERT"));
        check("  /* app */ -- why\n # x\n UPDATE t SET a=1", Statement::Dml("UPDATE"));
        check("/*!50000 DELETE */ FROM t", Statement::Dml("DELETE"));
        check("/*M!100100 REPLACE INTO t VALUES (1) */", Statement::Dml("REPLACE"));
        check("(SELECT `d`.`f`())", Statement::Dml("SELECT"));
        check("WITH x AS (SELECT 1) SELECT * FROM x", Statement::Dml("WITH"));
        check("/* never closed", Statement::Ddl);
        check("inserts", Statement::Ddl);
    }

    #[test]
    fn a_statement_is_what_stands_behind_its_settings() {
        check("SET STATEMENT sql_mode='' FOR ALTER TABLE t ADD c INT", Statement::Ddl);
        check("set statement max_statement_time=1, sql_mode='it\\'s FOR' for UPDATE t SET a=1", Statement::Dml("UPDATE"));
        check("SET STATEMENT sql_mode='never closed FOR UPDATE t", Statement::Ddl);
        assert!(is_about_database(b"SET STATEMENT sql_mode='' FOR DROP DATABASE d"));
    }

    #[test]
    fn a_table_is_mentioned_by_whole_names() {
        let check =
            |statement: &str, expected: bool| assert_eq!(mentions(statement.as_bytes(), "users"), expected, "{statement}");
        check("ALTER TABLE users ADD c INT", true);
        check("alter table d.`USERS` add c int", true);
        check("RENAME TABLE a TO users", true);
        check("ALTER TABLE users_log ADD c INT", false);
        check("ALTER TABLE all_users ADD c INT", false);
        check("ALTER TABLE `odd``name` ADD c INT", true);
        check("ALTER TABLE zoë ADD c INT", true);
        assert!(mentions(b"ALTER TABLE `a-b` ADD c INT", "a-b"));
    }

    #[test]
    fn statements_about_databases_are_known() {
        let check =
            |statement: &str, expected: bool| assert_eq!(is_about_database(statement.as_bytes()), expected, "{statement}");
        check("DROP DATABASE IF EXISTS d", true);
        check("create or replace schema d", true);
        check("ALTER TABLE t ADD c INT", false);
    }
}
