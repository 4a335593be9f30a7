//! What the server's errors mean, in sentences of our own.
//!
//! The server's messages often quote row values, so none of them is passed on where a row is concerned: the code says
//! what happened, and of the text only names are taken that we know to be names.

use mysql_async::{Error, IoError, ServerError};

use super::schema::Table;
use crate::target::TargetError;

/// What was going on, as far as a message needs it.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    /// A row or key of this table.
    Table(&'a Table),
    /// Something of our own, in words that fit after "while".
    Task(&'a str),
}

/// Where the database is, without credentials.
pub(super) fn from_driver(error: &Error, place: &str, about: About<'_>) -> TargetError {
    let unreachable = |reason: String| TargetError::Unreachable { place: place.to_owned(), reason };
    match error {
        Error::Server(error) => from_server(error, place, about),
        Error::Io(IoError::Io(error)) => unreachable(error.to_string()),
        Error::Io(error) => unreachable(error.to_string()),
        // Rows and values can be inside some of these: only their kind is told.
        Error::Driver(mysql_async::DriverError::ConnectionClosed) => unreachable("the connection is closed".into()),
        Error::Driver(_) => unreachable("the server's answer was not understood, so the connection was given up".into()),
        Error::Other(_) => unreachable("the connection broke".into()),
        Error::Url(error) => TargetError::Refused {
            what: format!("the address of the database is not usable: {error}"),
            remedy: "write it as mysql://user@host:3306/database".into(),
        },
    }
}

fn from_server(error: &ServerError, place: &str, about: About<'_>) -> TargetError {
    let busy = |reason: &str| TargetError::Contended { reason: reason.to_owned() };
    let unreachable = |reason: &str| TargetError::Unreachable { place: place.to_owned(), reason: reason.to_owned() };
    match error.code {
        1213 => busy("a deadlock with another transaction"),
        1205 => busy("another transaction kept a row locked for too long"),
        1020 => busy("a row was changed by another transaction since it was read"),
        1317 | 1969 => busy("the statement was interrupted"),
        1021 | 1114 => busy("its disk is full"),
        1040 | 1203 | 1226 => unreachable("it takes no more connections now"),
        1053 | 1077 | 1079 => unreachable("it is shutting down"),
        1158..=1161 | 1927 | 2006 | 2013 => unreachable("the connection was lost"),
        1045 | 1130 | 1698 => TargetError::Refused {
            what: format!("the database at {place} refused to log in (error {})", error.code),
            remedy: login_remedy(&error.message),
        },
        1044 | 1142 | 1143 | 1227 | 1370 | 1410 => denied(error.code, place, about),
        1290 | 1792 | 1836 => TargetError::Refused {
            what: format!("the database at {place} is read-only"),
            remedy: "set read_only=OFF there, or point this node at the server that takes writes".into(),
        },
        code => match about {
            About::Table(table) => of_row(code, &error.message, table),
            About::Task(task) => TargetError::Refused {
                what: format!("the database at {place} failed with error {code} ({}) while {task}", error.state),
                remedy: "look into the server's error log; when it is mended, start this role again".into(),
            },
        },
    }
}

/// The server tells whom it took us for: an account for 'localhost' is not one for '127.0.0.1', although both are this machine.
fn login_remedy(message: &str) -> String {
    let as_seen = between(message, "for user ", " (").filter(|seen| seen.starts_with('\'') && !seen.contains('`'));
    let Some((user, host)) = as_seen.and_then(|seen| seen.split_once('@')) else {
        return "as an administrator make an account for the host that this node comes from (README.md, \"Use it\"); one for 'localhost' \
                is not the same as one for '127.0.0.1' or '%'"
            .into();
    };
    format!(
        "check user and password; as an administrator: SELECT host FROM mysql.user WHERE user = {user} shows which accounts there are; for \
         {host}: ALTER USER {user}@{host} IDENTIFIED BY '…' sets its password; where there is one for 'localhost' only: RENAME USER \
         {user}@'localhost' TO {user}@{host}; the server takes them for different ones"
    )
}

fn denied(code: u16, place: &str, about: About<'_>) -> TargetError {
    let (what, remedy) = match about {
        About::Table(table) => {
            let name = &table.shape.table;
            (
                format!("the account may not write {name} at {place}"),
                format!("as an administrator: GRANT SELECT, INSERT, UPDATE, DELETE ON `{}`.* TO the account", name.database),
            )
        }
        About::Task(task) => (
            format!("the account lacks a privilege at {place} for {task} (error {code})"),
            "as an administrator: GRANT ALL ON tandem.* TO the account; GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO the account"
                .into(),
        ),
    };
    TargetError::Refused { what, remedy }
}

/// A row that this table does not take.
fn of_row(code: u16, message: &str, table: &Table) -> TargetError {
    let column = || match column_in(message, table) {
        Some(name) => format!("column `{name}`"),
        None => "one of the columns".to_owned(),
    };
    let constraint = || match between(message, "CONSTRAINT `", "`") {
        Some(name) => format!(" (constraint `{name}`)"),
        None => String::new(),
    };
    let reason = match code {
        1062 | 1586 => {
            let index = last_quoted(message).unwrap_or("?").to_owned();
            return TargetError::UniqueTaken { table: table.shape.table.clone(), index };
        }
        1452 | 1216 => {
            return TargetError::ParentMissing { table: table.shape.table.clone(), constraint: constraint() };
        }
        1451 | 1217 => format!("other rows here still refer to it{}", constraint()),
        1048 => format!("{} must not be NULL here", column()),
        1364 => format!("{} has no default here, and the change does not hold it", column()),
        1406 => format!("the value is too long for {} here", column()),
        1264 | 1690 => format!("the value is out of range for {} here", column()),
        1366 if message.starts_with("Incorrect string value") => {
            format!("the value is not text in the character set of {} here", column())
        }
        1265 | 1292 | 1366 | 1367 | 1411 | 1416 | 4078 | 4079 => {
            format!("the value does not fit the type of {} here", column())
        }
        1054 => "a column of the change is no longer in the table here".to_owned(),
        1906 | 1907 => format!("{} is computed by the server here and cannot be written", column()),
        1146 | 1049 | 1932 => "the table does not exist here".to_owned(),
        4025 => match between(message, "CONSTRAINT `", "` failed") {
            Some(name) => format!("the check `{name}` refuses it"),
            None => "a check refuses it".to_owned(),
        },
        1644 => "a trigger refuses it".to_owned(),
        1153 => "it is larger than the server's max_allowed_packet".to_owned(),
        1118 | 139 => "it is larger than a row can be here".to_owned(),
        1347 | 1288 | 1471 => "it is a view here, not a table".to_owned(),
        other => format!("the server refuses it with error {other}"),
    };
    TargetError::Unwritable { table: table.shape.table.clone(), reason }
}

/// The column that the message names, if it is one of the table's: anything else might be a value.
fn column_in<'t>(message: &str, table: &'t Table) -> Option<&'t str> {
    // Which form depends on the error: 'c', `c`, or `database`.`table`.`c`.
    let tail = message.split_once("olumn ").or_else(|| message.split_once("Field ")).map(|(_, tail)| tail)?;
    let named = tail.split(" at row").next().unwrap_or(tail);
    table
        .shape
        .columns
        .iter()
        .map(|column| &*column.name)
        .filter(|name| {
            let quoted = [format!("'{name}'"), format!("`{name}`")];
            quoted.iter().any(|quoted| named.starts_with(quoted.as_str()) || named.ends_with(quoted.as_str()))
        })
        .max_by_key(|name| name.len())
}

fn between<'m>(message: &'m str, start: &str, end: &str) -> Option<&'m str> {
    let (_, rest) = message.split_once(start)?;
    rest.split_once(end).map(|(name, _)| name)
}

/// `Duplicate entry 'value' for key 'index'`: the value may hold anything, the index comes last.
fn last_quoted(message: &str) -> Option<&str> {
    let rest = message.trim_end().strip_suffix('\'')?;
    rest.rsplit_once('\'').map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mariadb::schema::testing::table;

    fn check(code: u16, message: &str, expected: &str) {
        let error = ServerError { code, message: message.into(), state: "HY000".into() };
        let table = table("campus", "riders", &["id", "name"]);
        let found = from_driver(&Error::Server(error), "db:3306", About::Table(&table));
        assert_eq!(found.to_string(), expected);
        assert!(!format!("{found:?}").contains("geheim"), "{found:?}");
    }

    #[test]
    fn a_message_names_columns_and_never_values() {
        check(1406, "Data too long for column 'name' at row 3", "campus.riders: the value is too long for column `name` here");
        check(
            1366,
            "Incorrect integer value: 'geheim' for column `campus`.`riders`.`id` at row 1",
            "campus.riders: the value does not fit the type of column `id` here",
        );
        check(
            1292,
            "Incorrect datetime value: 'column geheim' for column `campus`.`riders`.`name` at row 1",
            "campus.riders: the value does not fit the type of column `name` here",
        );
        check(
            1366,
            "Incorrect string value: 'geheim' for column `campus`.`riders`.`name` at row 1",
            "campus.riders: the value is not text in the character set of column `name` here",
        );
        check(1048, "Column 'name' cannot be null", "campus.riders: column `name` must not be NULL here");
        check(1366, "Incorrect value: 'geheim'", "campus.riders: the value does not fit the type of one of the columns here");
    }

    #[test]
    fn a_refused_login_is_told_whom_the_server_took_it_for() {
        let check = |code: u16, message: &str, expected: &str| {
            let error = ServerError { code, message: message.into(), state: "28000".into() };
            let TargetError::Refused { remedy, .. } = from_driver(&Error::Server(error), "db:3306", About::Task("logging in"))
            else {
                panic!("{code}")
            };
            assert!(remedy.contains(expected), "{remedy}");
        };
        let message = "Access denied for user 'tandem'@'127.0.0.1' (using password: YES)";
        check(1045, message, "ALTER USER 'tandem'@'127.0.0.1' IDENTIFIED BY '…'");
        check(1045, message, "RENAME USER 'tandem'@'localhost' TO 'tandem'@'127.0.0.1'");
        check(1130, "Host '10.0.0.9' is not allowed to connect to this MariaDB server", "is not the same as");
    }

    #[test]
    fn a_duplicate_names_its_index() {
        let expected = "campus.riders: the unique key `email` is taken by another row";
        check(1062, "Duplicate entry 'geheim' for key 'email'", expected);
        check(1062, "Duplicate entry 'geheim' for key 'x'' for key 'email'", expected);
    }

    #[test]
    fn a_missing_parent_names_the_constraint() {
        let message = "Cannot add or update a child row: a foreign key constraint fails (`campus`.`riders`, CONSTRAINT \
                       `riders_ibfk_1` FOREIGN KEY (`name`) REFERENCES `towns` (`id`))";
        let expected = "campus.riders: it refers to a row of another table that is not here (constraint `riders_ibfk_1`)";
        check(1452, message, expected);
    }
}
