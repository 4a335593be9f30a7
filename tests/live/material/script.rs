//! The statements of a test file of MariaDB's own suite, as far as they say something about tables and rows.
//!
//! Such a file is SQL between commands of the program that runs it. The commands are left out, with what depends on them; what is left
//! is run in order, and may fail as it may in the suite.

/// Words that begin a command of the suite's program and not a statement.
const COMMANDS: &[&str] = &[
    "append_file",
    "assert",
    "cat_file",
    "change_user",
    "character_set",
    "chmod",
    "connect",
    "connection",
    "copy_file",
    "dec",
    "delimiter",
    "die",
    "diff_files",
    "dirty_close",
    "disable_abort_on_error",
    "disable_cursor_protocol",
    "disable_info",
    "disable_metadata",
    "disable_parsing",
    "disable_prepare_warnings",
    "disable_ps2_protocol",
    "disable_ps_protocol",
    "disable_query_log",
    "disable_reconnect",
    "disable_result_log",
    "disable_rpl_parse",
    "disable_service_connection",
    "disable_session_track_info",
    "disable_view_protocol",
    "disable_warnings",
    "disconnect",
    "echo",
    "enable_abort_on_error",
    "enable_cursor_protocol",
    "enable_info",
    "enable_metadata",
    "enable_parsing",
    "enable_prepare_warnings",
    "enable_ps2_protocol",
    "enable_ps_protocol",
    "enable_query_log",
    "enable_reconnect",
    "enable_result_log",
    "enable_rpl_parse",
    "enable_service_connection",
    "enable_session_track_info",
    "enable_view_protocol",
    "enable_warnings",
    "error",
    "eval",
    "evalp",
    "exec",
    "exec_in_background",
    "exit",
    "file_exists",
    "horizontal_results",
    "inc",
    "let",
    "list_files",
    "lowercase_result",
    "mkdir",
    "move_file",
    "optimizer_trace",
    "output",
    "perl",
    "ping",
    "query",
    "query_get_value",
    "query_horizontal",
    "query_vertical",
    "real_sleep",
    "reap",
    "remove_file",
    "remove_files_wildcard",
    "replace_column",
    "replace_regex",
    "replace_result",
    "replace_numeric_round",
    "require",
    "reset_connection",
    "result",
    "result_format",
    "rmdir",
    "save_master_pos",
    "send",
    "send_eval",
    "send_quit",
    "send_shutdown",
    "shutdown_server",
    "skip",
    "sleep",
    "sorted_result",
    "source",
    "start_timer",
    "sync_slave_with_master",
    "sync_with_master",
    "system",
    "timer",
    "vertical_results",
    "wait_for_slave_to_stop",
    "write_file",
    "write_line",
    "while",
    "if",
    "end",
    "end_timer",
];

/// Statements that change tables, rows, or the session that does.
const STATEMENTS: &[&str] = &[
    "ALTER",
    "BEGIN",
    "CALL",
    "COMMIT",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DROP",
    "EXECUTE",
    "INSERT",
    "OPTIMIZE",
    "PREPARE",
    "RENAME",
    "REPLACE",
    "ROLLBACK",
    "SAVEPOINT",
    "SET",
    "START",
    "TRUNCATE",
    "UPDATE",
    "WITH",
];

/// Words by which a statement is about more than this database and this session.
const ELSEWHERE: &[&[u8]] = &[
    b"GLOBAL",
    b"DATABASE",
    b"SCHEMA",
    b"USER",
    b"ROLE",
    b"PASSWORD",
    b"SERVER",
    b"SQL_LOG_BIN",
    b"BINLOG_FORMAT",
    b"GTID_",
    b"SERVER_ID",
    b"SLEEP(",
    b"GET_LOCK",
    b"PLUGIN",
    b"MYSQL.",
    b"TEST.",
    b"MYSQLTEST",
    b"TABLESPACE",
    b"DATA DIRECTORY",
    b"INDEX DIRECTORY",
    b"DBUG",
    b"STORAGE_ENGINE",
    b"MAX_STATEMENT_TIME",
    b"INNODB_LOCK_WAIT_TIMEOUT",
    b"SKIP_REPLICATION",
    b"PSEUDO",
    b"EVENT",
    b"AUTOCOMMIT",
];

/// The statements of a file, each as its bytes: some are in no character set that Rust knows.
pub fn statements(file: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut delimiter = b";".to_vec();
    let mut pending: Vec<u8> = Vec::new();
    let mut block: Option<&[u8]> = None;
    for line in file.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let trimmed = line.trim_ascii();
        if let Some(end) = block {
            if trimmed == end {
                block = None;
            }
            continue;
        }
        if pending.is_empty() {
            if trimmed.is_empty() || trimmed.starts_with(b"#") || trimmed.starts_with(b"{") || trimmed.starts_with(b"}") {
                continue;
            }
            let dashed = trimmed.strip_prefix(b"--").map(<[u8]>::trim_ascii);
            let word = first_word(dashed.unwrap_or(trimmed)).to_ascii_lowercase();
            if word == b"delimiter" {
                let rest = dashed.unwrap_or(trimmed)[word.len()..].trim_ascii();
                let rest = rest.strip_suffix(&delimiter[..]).filter(|rest| !rest.is_empty()).unwrap_or(rest);
                delimiter = rest.to_vec();
                continue;
            }
            if word == b"perl" || word == b"write_file" || word == b"append_file" {
                block = Some(b"EOF");
                continue;
            }
            // The whole line is a command, or a condition whose body stands by itself.
            if dashed.is_some() || word == b"if" || word == b"while" {
                continue;
            }
        }
        pending.extend_from_slice(line);
        pending.push(b'\n');
        while let Some(end) = end_of_statement(&pending, &delimiter) {
            let rest = pending.split_off(end + delimiter.len());
            pending.truncate(end);
            let statement = pending.trim_ascii().to_vec();
            pending = rest.trim_ascii_start().to_vec();
            if is_wanted(&statement) {
                all.push(statement);
            }
        }
    }
    all
}

fn first_word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(text.len());
    &text[..end]
}

/// Where the delimiter stands outside of quotes and comments.
fn end_of_statement(text: &[u8], delimiter: &[u8]) -> Option<usize> {
    let mut quote: Option<u8> = None;
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        match quote {
            Some(b'\n') => quote = (byte != b'\n').then_some(b'\n'),
            Some(open) => {
                if byte == b'\\' && open != b'`' {
                    at += 1;
                } else if byte == open {
                    quote = None;
                }
            }
            None if text[at..].starts_with(delimiter) => return Some(at),
            None if byte == b'#' || text[at..].starts_with(b"-- ") => quote = Some(b'\n'),
            None if matches!(byte, b'\'' | b'"' | b'`') => quote = Some(byte),
            None => {}
        }
        at += 1;
    }
    None
}

fn is_wanted(statement: &[u8]) -> bool {
    let word = first_word(statement);
    let is = |words: &[&str]| words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word));
    let upper = statement.to_ascii_uppercase();
    let holds = |part: &[u8]| upper.windows(part.len()).any(|window| window == part);
    // A variable of the suite's program.
    let variable = statement.windows(2).any(|pair| pair[0] == b'$' && (pair[1].is_ascii_alphabetic() || pair[1] == b'_'));
    is(STATEMENTS) && !is(COMMANDS) && !variable && !ELSEWHERE.iter().any(|part| holds(part))
}

/// The tables of a `DROP TABLE`, which are kept by another name, so that they can be compared; `None` for any other statement.
pub fn dropped(statement: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8(statement.to_vec()).ok()?;
    let mut words = text.split_whitespace().peekable();
    let mut take = |word: &str| words.next_if(|next| next.eq_ignore_ascii_case(word)).is_some();
    if !take("DROP") || !(take("TABLE") || take("TABLES")) {
        return None;
    }
    if take("IF") {
        take("EXISTS");
    }
    let names = words.collect::<Vec<_>>().join(" ");
    let names = names.split(',').map(|name| name.trim().trim_matches('`').to_owned());
    Some(names.filter(|name| !name.is_empty()).collect())
}

#[test]
fn statements_are_found_between_the_commands_of_the_suite() {
    let file = b"--source include/have_innodb.inc\n# a comment; with a semicolon\nlet $a= 1;\nCREATE TABLE t1 (a INT COMMENT 'x;y');\n\
        --error ER_DUP\nINSERT INTO t1 VALUES (1),\n # in between;\n (2); insert into t1 values (3);\nif ($a)\n{\n UPDATE t1 SET a=2;\n}\n\
        eval INSERT INTO t1 VALUES ($a);\ndelimiter //;\nCREATE PROCEDURE p() BEGIN DELETE FROM t1; END//\ndelimiter ;//\n\
        SET GLOBAL x=1;\nperl;\nINSERT INTO t1 VALUES (9);\nEOF\nSELECT 1;\nDROP TABLE IF EXISTS t1, `t2`;\n";
    let found: Vec<String> = statements(file).into_iter().map(|one| String::from_utf8(one).unwrap()).collect();
    assert_eq!(
        found,
        [
            "CREATE TABLE t1 (a INT COMMENT 'x;y')",
            "INSERT INTO t1 VALUES (1),\n # in between;\n (2)",
            "insert into t1 values (3)",
            "UPDATE t1 SET a=2",
            "CREATE PROCEDURE p() BEGIN DELETE FROM t1; END",
            "DROP TABLE IF EXISTS t1, `t2`",
        ]
    );
    assert_eq!(dropped(found[5].as_bytes()), Some(vec!["t1".to_owned(), "t2".to_owned()]));
    assert_eq!(dropped(b"DROP VIEW v1"), None);
}
