//! The log: on standard error, readable on a terminal or JSON for programs; and its last lines in memory, for those who help.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, registry};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

/// Lines that are remembered, and letters of each: half a megabyte at most.
const LINES_MAX: usize = 1_000;
const LINE_LETTERS_MAX: usize = 500;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Starts the log of this process; once. `filter` is in tracing's form: `info`, `tandem=debug`, ….
pub fn start_log(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| format!("\"{filter}\" is no log filter: {error}"))?;
    let shown = fmt::layer().with_writer(io::stderr).with_target(false);
    let remembered = fmt::layer().with_writer(Recent).with_target(false).with_ansi(false);
    let log = registry().with(filter).with(remembered);
    let started = match format {
        LogFormat::Text => log.with(shown.with_ansi(has_colours())).try_init(),
        LogFormat::Json => log.with(shown.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| format!("the log cannot be started: {error}"))
}

/// A console of Windows shows the codes of colours as letters, unless every program before us left it otherwise.
fn has_colours() -> bool {
    cfg!(unix) && io::stderr().is_terminal()
}

/// The last lines of the log, the oldest first.
pub fn recent_log() -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Remembers what is written to it, a line at a time.
struct Recent;

impl MakeWriter<'_> for Recent {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

impl Write for Recent {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text: String = String::from_utf8_lossy(line).trim_end().chars().take(LINE_LETTERS_MAX).collect();
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_remembered_and_no_more_than_so_many() {
        for number in 0..LINES_MAX + 5 {
            Recent.write_all(format!("line {number} {}\n", "x".repeat(2 * LINE_LETTERS_MAX)).as_bytes()).unwrap();
        }
        let log = recent_log();
        assert_eq!(log.lines().count(), LINES_MAX);
        assert!(log.starts_with("line 5 x") && log.lines().all(|line| line.len() == LINE_LETTERS_MAX));
    }
}
