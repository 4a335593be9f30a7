//! Reads one section key by key: each read names the key and the form it wants, and whatever is left over is unknown.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::fault::{ConfigFault, Place};
use super::raw::{Node, Table, Value};

/// A value with the place to name if it turns out wrong.
#[derive(Clone, Debug)]
pub struct Spot<T> {
    pub value: T,
    pub place: Place,
}

/// Collects faults while the rest is read on, so that all are reported together.
#[derive(Default)]
pub struct Complaints(RefCell<Vec<ConfigFault>>);

impl Complaints {
    pub fn add(&self, place: &Place, rule: impl Into<String>, fix: impl Into<String>) {
        self.0.borrow_mut().push(ConfigFault { place: place.clone(), rule: rule.into(), fix: fix.into() });
    }

    pub fn into_list(self) -> Vec<ConfigFault> {
        self.0.into_inner()
    }
}

/// What to write where a backslash was none.
pub const BACKSLASHES: &str =
    "in \"quotes\" a backslash begins an escape: write paths with / or in single quotes, as in 'C:\\tandem\\state'";

pub struct Section<'a> {
    /// As in the file: `nodes.laptop-a`; empty at the top.
    path: String,
    table: Option<&'a Table>,
    pub place: Place,
    known: Vec<&'static str>,
    complaints: &'a Complaints,
}

impl<'a> Section<'a> {
    pub fn top(table: &'a Table, complaints: &'a Complaints) -> Self {
        Self { path: String::new(), table: Some(table), place: Place::Nowhere, known: Vec::new(), complaints }
    }

    pub fn of(path: String, node: &'a Node, complaints: &'a Complaints) -> Self {
        let table = match &node.value {
            Value::Table(table) => Some(table),
            other => {
                let fix = format!("write it as [{path}] with its keys below");
                complaints.add(&node.place, format!("`{path}` must be a section, not {}", other.kind()), fix);
                None
            }
        };
        Self { path, table, place: node.place.clone(), known: Vec::new(), complaints }
    }

    /// The section of this name; absent is the same as empty.
    pub fn section(&mut self, name: &'static str) -> Section<'a> {
        let path = self.full(name);
        match self.take(name) {
            Some(node) => Section::of(path, node, self.complaints),
            None => Section { path, table: None, place: self.place.clone(), known: Vec::new(), complaints: self.complaints },
        }
    }

    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// True where the key is written, be its value right or wrong.
    pub fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.get(name).is_some())
    }

    /// All entries, where the names are the user's own.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.table.into_iter().flat_map(|table| table.0.iter().map(|(name, node)| (name.as_str(), node)))
    }

    /// How messages name a key of this section.
    pub fn full(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A fault of the value at `place`.
    pub fn refuse(&self, place: &Place, name: &str, rule: &str, fix: impl Into<String>) {
        self.complaints.add(place, format!("`{}` {rule}", self.full(name)), fix);
    }

    /// A key that must be there and is not. `example` is a whole line to copy.
    pub fn missing(&self, name: &str, example: &str) {
        let fix = if self.path.is_empty() {
            format!("add `{example}` at the top")
        } else {
            format!("add `{example}` under [{}]", self.path)
        };
        self.complaints.add(&self.place, format!("`{}` is missing", self.full(name)), fix);
    }

    pub fn text(&mut self, name: &'static str) -> Option<Spot<String>> {
        let node = self.take(name)?;
        let value = match &node.value {
            // `"C:\tandem"` is a tab and "andem": no error for TOML, and another folder than was meant.
            Value::Text(text) | Value::Loose(text) if text.trim().contains(char::is_control) => {
                self.refuse(&node.place, name, "holds a tab, a line break or another letter that nobody sees", BACKSLASHES);
                return None;
            }
            Value::Text(text) | Value::Loose(text) if !text.trim().is_empty() => text.clone(),
            Value::Text(_) | Value::Loose(_) => {
                self.refuse(&node.place, name, "is empty", "write a value, or remove the line");
                return None;
            }
            other => return self.wrong(name, node, other, "a text", "put it in \"quotes\""),
        };
        Some(Spot { value, place: node.place.clone() })
    }

    pub fn flag(&mut self, name: &'static str) -> Option<Spot<bool>> {
        let node = self.take(name)?;
        let value = match &node.value {
            Value::Flag(flag) => *flag,
            Value::Loose(text) if text.eq_ignore_ascii_case("true") => true,
            Value::Loose(text) if text.eq_ignore_ascii_case("false") => false,
            other => return self.wrong(name, node, other, "true or false", "write true or false, without quotes"),
        };
        Some(Spot { value, place: node.place.clone() })
    }

    pub fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<Spot<u64>> {
        let node = self.take(name)?;
        let number = match &node.value {
            Value::Integer(number) => Some(*number),
            Value::Loose(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        let Some(number) = number else {
            return self.wrong(name, node, &node.value, "a whole number", "write digits, without quotes");
        };
        match u64::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(value) => Some(Spot { value, place: node.place.clone() }),
            None => {
                let rule = format!("must be from {} to {}", range.start(), range.end());
                self.refuse(&node.place, name, &rule, "choose a number in this range");
                None
            }
        }
    }

    /// `"30d"`, `"90s"`, `"250ms"`.
    pub fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let spot = self.text(name)?;
        let value = parse_duration(&spot.value);
        match value {
            Some(value) if range.contains(&value) => Some(value),
            Some(_) => {
                let rule = format!("must be from {} to {}", show_duration(*range.start()), show_duration(*range.end()));
                self.refuse(&spot.place, name, &rule, "choose a time in this range");
                None
            }
            None => {
                let rule = format!("is not a length of time: \"{}\"", spot.value);
                self.refuse(&spot.place, name, &rule, "write a whole number with ms, s, m, h or d, for example \"30d\"");
                None
            }
        }
    }

    /// `"8MiB"`, `"512KiB"`, or a plain number of bytes.
    pub fn bytes(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let node = self.take(name)?;
        let value = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) | Value::Loose(text) => parse_bytes(text),
            _ => None,
        };
        let Some(value) = value else {
            self.refuse(&node.place, name, "is not a size", "write a whole number with KiB, MiB or GiB, for example \"8MiB\"");
            return None;
        };
        if range.contains(&value) {
            return Some(value);
        }
        let rule = format!("must be from {} to {}", show_bytes(*range.start()), show_bytes(*range.end()));
        self.refuse(&node.place, name, &rule, "choose a size in this range");
        None
    }

    /// A list of texts. `None` where the key is absent or is not a list at all.
    pub fn texts(&mut self, name: &'static str) -> Option<Spot<Vec<Spot<String>>>> {
        let node = self.take(name)?;
        let mut value = Vec::new();
        match &node.value {
            Value::List(items) => {
                for item in items {
                    match &item.value {
                        Value::Text(text) => value.push(Spot { value: text.clone(), place: item.place.clone() }),
                        other => {
                            let rule = format!("must be a list of texts, but holds {}", other.kind());
                            self.refuse(&item.place, name, &rule, "put each entry in \"quotes\"");
                        }
                    }
                }
            }
            Value::Loose(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                value.extend(items.map(|item| Spot { value: item.to_owned(), place: node.place.clone() }));
            }
            other => return self.wrong(name, node, other, "a list", "write it in [brackets], each entry in \"quotes\""),
        }
        Some(Spot { value, place: node.place.clone() })
    }

    /// Refuses every key that nobody asked for.
    pub fn finish(self) {
        for (name, node) in self.entries().filter(|(name, _)| !self.known.contains(name)) {
            let fix = match nearest(name, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let what = if matches!(node.value, Value::Table(_)) { "section" } else { "key" };
            self.complaints.add(&node.place, format!("unknown {what} `{}`", self.full(name)), fix);
        }
    }

    fn take(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table?.get(name)
    }

    fn wrong<T>(&self, name: &str, node: &Node, found: &Value, wanted: &str, fix: &str) -> Option<T> {
        self.refuse(&node.place, name, &format!("must be {wanted}, not {}", found.kind()), fix);
        None
    }
}

/// The known name that was probably meant: the one with the fewest letters to change, if they are few.
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let limit = (name.chars().count() / 3).max(1);
    let best = known.iter().map(|&candidate| (distance(name, candidate), candidate)).min_by_key(|(letters, _)| *letters)?;
    (best.0 <= limit).then_some(best.1)
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().take(64).collect(), two.chars().collect());
    let mut rows = vec![vec![0usize; two.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=two.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != two[j - 1]);
                let swapped = if i > 1 && j > 1 && one[i - 1] == two[j - 2] && one[i - 2] == two[j - 1] {
                    rows[i - 2][j - 2] + 1
                } else {
                    usize::MAX
                };
                replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swapped)
            };
        }
    }
    rows[one.len()][two.len()]
}

pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let each: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "KB" | "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(each)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

/// The shortest exact way to write it.
pub fn show_duration(length: Duration) -> String {
    let millis = length.as_millis();
    for (each, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= each && millis.is_multiple_of(each) {
            return format!("{}{unit}", millis / each);
        }
    }
    format!("{millis}ms")
}

pub fn show_bytes(bytes: u64) -> String {
    for (each, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= each && bytes.is_multiple_of(each) {
            return format!("{}{unit}", bytes / each);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_only_when_it_is_near() {
        let known = ["url", "max_offline", "key_env", "kind"];
        assert_eq!(nearest("max_ofline", &known), Some("max_offline"));
        assert_eq!(nearest("key_evn", &known), Some("key_env"));
        assert_eq!(nearest("ulr", &known), Some("url"));
        assert_eq!(nearest("retention", &known), None);
    }

    #[test]
    fn times_and_sizes_read_back_as_written() {
        for text in ["30d", "90m", "250ms", "61s", "5h"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["8MiB", "512KiB", "2GiB", "7B"] {
            assert_eq!(show_bytes(parse_bytes(text).unwrap()), text);
        }
        for text in ["", "d", "30", "-1s", "1.5h", "3 weeks", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_none(), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "18446744073709551615GiB", "4 Mb"] {
            assert!(parse_bytes(text).is_none(), "{text}");
        }
    }
}
