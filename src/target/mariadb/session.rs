//! One connection to the server, set up so that every value arrives as it is.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Opts, OptsBuilder, Row};
use secrecy::ExposeSecret;

use super::MariadbOptions;
use super::fault::{About, from_driver};
use crate::target::TargetError;

/// What a session must have, or it is not used.
///
/// REPEATABLE READ, because only it locks the gap where a missing row would be. Strict, so that what does not fit is an
/// error and not cut off. No `completion_type`, `sql_select_limit` or `sql_safe_updates` of an administrator's taste.
/// Results in the columns' own character sets, so that bytes which are not valid in them are not replaced.
/// No range is turned into a join, or a lock of a few rows would become one of the table.
const REQUIRED: &[&str] = &[
    "SET NAMES utf8mb4",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE",
    "SET SESSION time_zone='+00:00', autocommit=1, completion_type=0, foreign_key_checks=1, unique_checks=1, sql_safe_updates=0,
        sql_select_limit=DEFAULT, sql_auto_is_null=0, max_statement_time=0, in_predicate_conversion_threshold=0,
        character_set_results=NULL, lc_messages='en_US'",
];

/// The sql_mode of our sessions, but for being strict: dates as they are, no number made up for a zero.
pub(super) const MODE: &str = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION";

/// Set in our sessions and in no other, so that a trigger can tell a change that arrives: what it would do for it was done
/// where the change was made, and arrives too.
pub(super) const APPLYING: &str = "@tandem_applying";

/// What is set where the server knows it and the account may: whole row images of our own tables; no copies of our
/// statements in the binlog; NULL stays NULL; no refusal of a row that changed since an earlier read, because we lock.
const WISHED: &[&str] = &[
    "SET SESSION binlog_row_image=FULL",
    "SET SESSION binlog_annotate_row_events=OFF",
    "SET SESSION explicit_defaults_for_timestamp=ON",
    "SET SESSION innodb_snapshot_isolation=OFF",
];

/// What we know of the server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The largest statement it takes.
    pub packet_bytes: usize,
    /// Table names are compared without regard to case.
    pub folds_names: bool,
}

pub(super) struct Session {
    conn: Conn,
    place: Arc<str>,
    limit: Duration,
    server: Server,
    /// Has answered before, so a failure now may mean no more than that the server closed it while it was idle.
    pub used: bool,
}

impl Session {
    pub async fn connect(options: &MariadbOptions) -> Result<Self, TargetError> {
        let about = About::Task("opening a session");
        let opts = Opts::from_url(&options.url).map_err(|error| from_driver(&Error::Url(error), "?", about))?;
        let place: Arc<str> = match opts.socket() {
            Some(socket) => socket.into(),
            None => format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()).into(),
        };
        let opts: Opts = OptsBuilder::from_opts(opts)
            .pass(options.password.as_ref().map(|password| password.expose_secret().to_owned()))
            // So that an update says how many rows it found, changed or not.
            .client_found_rows(true)
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30))
            .wait_timeout(Some(28_800))
            .tcp_keepalive(Some(Duration::from_secs(20)))
            .stmt_cache_size(Some(0))
            .into();
        let late = |limit: Duration| TargetError::Unreachable {
            place: place.to_string(),
            reason: format!("no answer within {} s", limit.as_secs()),
        };
        let conn = match tokio::time::timeout(options.connect_limit, Conn::new(opts)).await {
            Ok(conn) => conn.map_err(|error| from_driver(&error, &place, about))?,
            Err(_) => return Err(late(options.connect_limit)),
        };
        let server = Server { packet_bytes: 1 << 20, folds_names: false };
        let mut session = Self { conn, place: place.clone(), limit: options.statement_limit, server, used: false };
        session.set_up(options).await?;
        Ok(session)
    }

    async fn set_up(&mut self, options: &MariadbOptions) -> Result<(), TargetError> {
        let task = "setting up a session";
        for statement in REQUIRED {
            self.run(statement.as_bytes(), About::Task(task)).await?;
        }
        let mode = format!("SET SESSION sql_mode='STRICT_ALL_TABLES,{MODE}'");
        self.run(mode.as_bytes(), About::Task(task)).await?;
        // At least 1: with 0 even the shortest wait is a failure.
        let wait = options.lock_wait.as_secs().max(1);
        let waits = format!("SET SESSION innodb_lock_wait_timeout={wait}, lock_wait_timeout={wait}");
        self.run(waits.as_bytes(), About::Task(task)).await?;
        for statement in WISHED {
            match self.conn.query_drop(*statement).await {
                Ok(()) | Err(Error::Server(_)) => {}
                Err(error) => return Err(from_driver(&error, &self.place, About::Task(task))),
            }
        }
        let rows = self.rows(b"SELECT VERSION(), @@max_allowed_packet, @@lower_case_table_names, @@sql_log_bin", task).await?;
        let facts: Option<(String, usize, u8, u8)> =
            rows.into_iter().next().and_then(|row| mysql_async::from_row_opt(row).ok());
        let Some((version, packet_bytes, lower_case_table_names, logged)) = facts else {
            return Err(self.not_understood(task));
        };
        if !version.contains("MariaDB") {
            return Err(TargetError::Refused {
                what: format!("the server at {} is not MariaDB: it calls itself {version}", self.place),
                remedy: "point this node at a MariaDB of 10.4 or later".into(),
            });
        }
        if logged == 0 {
            return Err(TargetError::Refused {
                what: format!("sessions of this account at {} do not write the binlog (sql_log_bin=0)", self.place),
                remedy: "remove `SET sql_log_bin=0` from init_connect there".into(),
            });
        }
        self.server = Server { packet_bytes, folds_names: lower_case_table_names != 0 };
        Ok(())
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// One statement without rows: how many rows it found or wrote.
    pub async fn run(&mut self, sql: &[u8], about: About<'_>) -> Result<u64, TargetError> {
        let (affected, outcome) = self.run_each(sql, about).await;
        outcome?;
        Ok(affected.last().copied().unwrap_or(0))
    }

    /// Statements without rows, divided by `;`, in one round trip: what each found or wrote, up to the first that failed.
    pub async fn run_each(&mut self, sql: &[u8], about: About<'_>) -> (Vec<u64>, Result<(), TargetError>) {
        let mut affected = Vec::new();
        let each = async {
            let mut result = self.conn.query_iter(sql).await?;
            affected.push(result.affected_rows());
            while !result.is_empty() {
                while result.next().await?.is_some() {}
                affected.push(result.affected_rows());
            }
            Ok(())
        };
        let outcome = match tokio::time::timeout(self.limit, each).await {
            Ok(outcome) => outcome.map_err(|error: Error| from_driver(&error, &self.place, about)),
            Err(_) => Err(self.late()),
        };
        self.used = true;
        (affected, outcome)
    }

    /// The first row of one statement, or the driver's own error of it; an error here is of the connection.
    pub async fn answer(&mut self, sql: &[u8]) -> Result<Result<Option<Row>, Error>, TargetError> {
        let answered = tokio::time::timeout(self.limit, self.conn.query_first::<Row, _>(sql)).await;
        self.used = true;
        answered.map_err(|_| self.late())
    }

    pub fn place(&self) -> &str {
        &self.place
    }

    /// The rows of one query, as the text protocol has them.
    pub async fn rows(&mut self, sql: &[u8], task: &str) -> Result<Vec<Row>, TargetError> {
        self.rows_about(sql, About::Task(task)).await
    }

    pub async fn rows_about(&mut self, sql: &[u8], about: About<'_>) -> Result<Vec<Row>, TargetError> {
        let outcome = match tokio::time::timeout(self.limit, self.conn.query::<Row, _>(sql)).await {
            Ok(outcome) => outcome.map_err(|error| from_driver(&error, &self.place, about)),
            Err(_) => Err(self.late()),
        };
        self.used = true;
        outcome
    }

    /// Has the first rows of one query taken, until they hold about so many bytes. `Some(false)` where there are more, `None` where
    /// one of them could not be taken: then the rest of the answer is still under way, and the session is of no more use.
    pub async fn rows_until(
        &mut self,
        sql: &[u8],
        bytes_max: usize,
        about: About<'_>,
        mut take: impl FnMut(&Row) -> Option<()>,
    ) -> Result<Option<bool>, TargetError> {
        let read = async {
            let mut result = self.conn.query_iter(sql).await?;
            let mut bytes = 0;
            // One after the other, so that the memory of one is that of the next.
            while let Some(row) = result.next().await? {
                if take(&row).is_none() {
                    return Ok(None);
                }
                bytes += (0..row.len()).map(|at| weight(&row, at)).sum::<usize>();
                if bytes >= bytes_max {
                    return Ok(Some(false));
                }
            }
            Ok(Some(true))
        };
        let outcome = match tokio::time::timeout(self.limit, read).await {
            Ok(outcome) => outcome.map_err(|error| from_driver(&error, &self.place, about)),
            Err(_) => Err(self.late()),
        };
        self.used = true;
        outcome
    }

    /// An error where this is not one statement, and one that the server understands. Does nothing.
    pub async fn check_statement(&mut self, sql: &[u8], about: About<'_>) -> Result<(), TargetError> {
        let checked = async {
            let statement = self.conn.prep(String::from_utf8_lossy(sql).into_owned()).await?;
            self.conn.close(statement).await
        };
        match tokio::time::timeout(self.limit, checked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::Server(error))) => Err(TargetError::Refused {
                what: format!("the server does not understand the condition (error {})", error.code),
                remedy: "write it as after WHERE, with the table's own columns, for example \"id > 1000\"".into(),
            }),
            Ok(Err(error)) => Err(from_driver(&error, &self.place, about)),
            Err(_) => Err(self.late()),
        }
    }

    /// The answer has not the form that we asked for.
    pub fn not_understood(&self, task: &str) -> TargetError {
        TargetError::Refused {
            what: format!("the answer of the database at {} is not understood while {task}", self.place),
            remedy: "check that it is a MariaDB of 10.4 or later".into(),
        }
    }

    fn late(&self) -> TargetError {
        let reason = format!("no answer within {} s", self.limit.as_secs());
        TargetError::Unreachable { place: self.place.to_string(), reason }
    }
}

/// Bytes of one value of an answer.
fn weight(row: &Row, at: usize) -> usize {
    match row.as_ref(at) {
        Some(mysql_async::Value::Bytes(bytes)) => bytes.len() + 16,
        _ => 16,
    }
}
