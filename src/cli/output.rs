//! What a command prints: lines, JSON, and tables of aligned columns without rules, which other programs can cut up too.

use std::fmt::Display;
use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::runtime::Stop;

/// A long value is shown by its beginning; `--json` has the whole.
const VALUE_LETTERS_MAX: usize = 60;

/// A table with its heads; `right` names the columns with numbers.
pub fn table<const N: usize>(heads: [&str; N], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// One line per row, without blanks at the ends.
pub fn print(table: &Table) {
    table.lines().for_each(|text| line(text.trim_end()));
}

/// Prints a line. Where the reader has gone (`tandem status | head`), our work is done too.
pub fn line(text: impl Display) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints it in the stable form for programs.
pub fn json<T: Serialize>(value: &T) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value);
    line(text.map_err(|error| Stop::halt(format!("cannot write JSON: {error}"), "report this"))?);
    Ok(())
}

/// Text of a database on a terminal: nothing in it may move the cursor or change a colour.
pub fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

pub fn value(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut short: String = text.chars().take(VALUE_LETTERS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    plain(&short)
}

/// `id 7` or `room 3, day 2026-11-22`.
pub fn key(key: &Map<String, Value>) -> String {
    key.iter().map(|(name, part)| format!("{} {}", plain(name), value(part))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_cannot_command_the_terminal() {
        assert_eq!(value(&json!("\u{1b}[2Jx\n")), "\u{fffd}[2Jx\u{fffd}");
        assert_eq!(value(&json!(null)), "null");
        assert_eq!(value(&json!("x".repeat(100))).chars().count(), VALUE_LETTERS_MAX + 1);
        assert_eq!(key(json!({"room": 3, "day": "2026-11-22"}).as_object().unwrap()), "day 2026-11-22, room 3");
    }
}
