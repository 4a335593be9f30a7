//! `tandem tail`: what a database's binlog holds, one line of JSON per change. Needs no topic and no configuration.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncWriteExt;

use super::{INTERRUPTED, Outcome};
use crate::change::{Change, Record, TableFilter, TableName, TablePattern, wire};
use crate::config::{DatabaseAddress, SecretSource};
use crate::runtime::Stop;
use crate::wiring::{Authority, Capture, CaptureOptions, Captured, From};

/// Print the changes of a database as they are committed, without a topic.
#[derive(Args)]
pub struct TailArgs {
    /// The server and the account, and perhaps a schema: mysql://user@host:3306/schema.
    #[arg(long, env = "TANDEM_DATABASE", value_name = "URL")]
    database: String,
    /// The environment variable that holds the password.
    #[arg(long, value_name = "NAME", conflicts_with = "password_file")]
    password_env: Option<String>,
    /// The file that holds the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Encrypt the connection; the server's certificate must be good.
    #[arg(long)]
    tls: bool,
    /// The authority that signed the server's certificate, as a PEM file. Implies --tls.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Where to begin: `start` (the oldest that the server has), `now`, or after a GTID position such as 0-1-270.
    #[arg(long, default_value = "now", value_name = "POSITION", value_parser = parse_from)]
    from: From,
    /// Only these tables, separated by commas; `*` stands for any letters: campus.*,shop.orders.
    #[arg(long, value_delimiter = ',', value_name = "TABLES", value_parser = parse_table)]
    tables: Vec<TablePattern>,
    /// How to print a change.
    #[arg(long, value_enum, default_value = "json")]
    format: Format,
    /// The id to register with; no replica of the server may have the same.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    replica_id: Option<u32>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Debezium's envelope, one line each.
    Json,
}

fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "start" => Ok(From::Start),
        "now" => Ok(From::Now),
        position => position.parse().map(From::After).map_err(|error| format!("{error}, or `start` or `now`")),
    }
}

fn parse_table(text: &str) -> Result<TablePattern, String> {
    TablePattern::parse(text.trim()).ok_or_else(|| "write it as database.table, for example campus.*".into())
}

pub async fn run(args: TailArgs) -> Outcome {
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut capture = tokio::select! {
        opened = Capture::open(args.options()?) => opened?,
        _ = &mut interrupt => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let mut lines = match args.format {
        Format::Json => Lines::new(),
    };
    for note in capture.notes().await? {
        lines.say(&format!("note: {note}"));
    }
    let outcome = tokio::select! {
        outcome = print(&mut capture, &mut lines) => outcome,
        _ = &mut interrupt => Ok(End::Interrupted),
    };
    let shown = lines.finish(&capture).await;
    match (outcome?, shown) {
        (End::Interrupted, Ok(())) => Ok(ExitCode::from(INTERRUPTED)),
        // Whoever read us has enough (`tandem tail | head`).
        (End::ReaderGone, _) | (End::Interrupted, Err(_)) => Ok(ExitCode::SUCCESS),
    }
}

enum End {
    Interrupted,
    ReaderGone,
}

/// Takes changes and prints them, for ever. What has arrived is printed together; nothing waits while more is to come.
async fn print(capture: &mut Capture, lines: &mut Lines) -> Result<End, Stop> {
    loop {
        let ready = futures_util::FutureExt::now_or_never(capture.next());
        let captured = match ready {
            Some(captured) => captured?,
            None => {
                if lines.flush().await.is_err() {
                    return Ok(End::ReaderGone);
                }
                capture.next().await?
            }
        };
        match captured {
            Captured::Changes { record, changes } => lines.put(*record, &changes),
            Captured::Idle => {}
            Captured::Lost(stop) => lines.say(&format!("{stop}")),
        }
        lines.progress(capture);
        if lines.is_full() && lines.flush().await.is_err() {
            return Ok(End::ReaderGone);
        }
    }
}

impl TailArgs {
    fn options(&self) -> Result<CaptureOptions, Stop> {
        // Without a schema: all of the server.
        let database = DatabaseAddress::parse(&self.database)
            .or_else(|wrong| DatabaseAddress::parse(&format!("{}/*", self.database.trim_end_matches('/'))).map_err(|_| wrong))
            .map_err(|(rule, fix)| Stop::halt(format!("`--database` {rule}"), fix))?;
        let secret = match (&self.password_env, &self.password_file) {
            (Some(name), _) => Some(SecretSource::Variable(name.clone())),
            (None, Some(file)) => Some(SecretSource::File(file.clone())),
            (None, None) => None,
        };
        let include = match (&*self.tables, TablePattern::parse(&format!("{}.*", database.schema))) {
            ([], Some(all)) => vec![all],
            (named, _) => named.to_vec(),
        };
        let tls = match &self.tls_ca {
            Some(file) => Some(Authority::File(file.clone())),
            None => self.tls.then_some(Authority::Known),
        };
        // Above what people give to their servers, and different for each process of a machine.
        let replica_id = self.replica_id.unwrap_or_else(|| 3_000_000_000 + std::process::id() % 1_000_000_000);
        Ok(CaptureOptions {
            database,
            password: secret.map(|secret| secret.read()).transpose()?,
            tls,
            replica_id,
            tables: TableFilter { include, exclude: Vec::new() },
            from: self.from.clone(),
        })
    }
}

/// Lines that wait to be written, and how many were.
struct Lines {
    buffer: Vec<u8>,
    written: usize,
    out: tokio::io::Stdout,
    changes: u64,
    /// Places of the changes of each table in the transaction that is being printed.
    table_rows: BTreeMap<TableName, u64>,
    progress: Option<ProgressBar>,
}

/// Written at once: larger pieces were not faster.
const BUFFER_BYTES: usize = 256 << 10;

/// What is left after an interrupt is given this long to go out.
const LAST_FLUSH: Duration = Duration::from_secs(1);

impl Lines {
    fn new() -> Self {
        // With both on one terminal the lines themselves are the progress.
        let watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
        let progress = watched.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {human_pos} changes, {per_sec}, {msg}").expect("a good template"),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let buffer = Vec::with_capacity(BUFFER_BYTES * 2);
        Self { buffer, written: 0, out: tokio::io::stdout(), changes: 0, table_rows: BTreeMap::new(), progress }
    }

    fn put(&mut self, mut record: Record, changes: &[Change]) {
        if record.row == 0 {
            self.table_rows.clear();
        }
        for change in changes {
            // The sender's row counts all changes of the transaction, those of our own tables included.
            if !change.table().is_own() {
                record.table_row = match self.table_rows.get_mut(change.table()) {
                    Some(rows) => {
                        *rows += 1;
                        *rows
                    }
                    None => {
                        self.table_rows.insert(change.table().clone(), 0);
                        0
                    }
                };
                wire::change_json(&mut self.buffer, &record, change);
                self.buffer.push(b'\n');
                self.changes += 1;
            }
            record.row += 1;
        }
    }

    fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            // An interrupt may drop this call; what has gone out by then must not go out again.
            while self.written < self.buffer.len() {
                self.written += self.out.write(&self.buffer[self.written..]).await?;
            }
            self.out.flush().await?;
            self.buffer.clear();
            self.written = 0;
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        match &self.progress {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn progress(&self, capture: &Capture) {
        if let Some(bar) = &self.progress {
            bar.set_position(self.changes);
            bar.set_message(format!("at {}", capture.position()));
        }
    }

    async fn finish(&mut self, capture: &Capture) -> io::Result<()> {
        let flushed = tokio::time::timeout(LAST_FLUSH, self.flush()).await;
        if let Some(bar) = &self.progress {
            bar.finish_and_clear();
            eprintln!("{} changes, up to {}", self.changes, capture.position());
        }
        flushed.unwrap_or_else(|late| Err(late.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_words_or_gtids() {
        assert_eq!(parse_from("start"), Ok(From::Start));
        assert_eq!(parse_from("now"), Ok(From::Now));
        assert_eq!(parse_from("0-1-5,1-1-2"), Ok(From::After("0-1-5,1-1-2".parse().unwrap())));
        assert!(parse_from("yesterday").unwrap_err().contains("or `start` or `now`"));
    }

    #[test]
    fn a_table_needs_its_database() {
        assert!(parse_table("riders").is_err());
        assert_eq!(parse_table(" campus.* ").unwrap().to_string(), "campus.*");
    }
}
