//! The configuration as it was written: TOML with the line of every value, and the environment laid over it.
//!
//! Nothing is judged here but the form: what a key means is said in `check`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, Faults, Place};
use super::section::BACKSLASHES;

/// Environment variables with this prefix override the file: `TANDEM__TOPIC__URL` is `url` in `[topic]`.
const PREFIX: &str = "TANDEM__";

/// Deeper than any key we know; a file that nests further is refused rather than followed down the stack.
const DEPTH_MAX: usize = 8;

pub type Environment = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i128),
    /// Which no key of ours takes.
    Float,
    Flag(bool),
    List(Vec<Node>),
    Table(Table),
    /// From the environment, which has no types: read as whatever the key wants.
    Loose(String),
    /// A date or time, which no key of ours takes.
    Moment,
}

impl Value {
    /// With its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Loose(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Moment => "a date or time",
        }
    }
}

/// Keys in the order of the file, each with the place where it stands.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<(String, Node)>);

impl Table {
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }
}

/// Reads the text of a file and lays the environment over it.
pub fn parse(file: &Path, text: &str, environment: &Environment) -> Result<Table, Faults> {
    let lines = Lines::of(text);
    let mut table = match DeTable::parse(text) {
        Ok(table) => convert_table(table.into_inner(), &lines, 0).map_err(|place| too_deep(file, place))?,
        Err(error) => {
            let line = error.span().map(|span| lines.line(span.start));
            let place = line.map_or(Place::Nowhere, Place::Line);
            let rule = format!("this is not TOML: {}", error.message().replace('\n', ", "));
            let backslash = line.and_then(|line| text.lines().nth(line - 1)).is_some_and(|line| line.contains('\\'));
            let fix = if backslash { BACKSLASHES } else { "correct this line; texts stand in \"quotes\"" };
            return Err(Faults::one(file, place, rule, fix));
        }
    };
    let mut faults = Vec::new();
    for (name, value) in environment {
        if let Some(path) = name.strip_prefix(PREFIX) {
            lay_over(&mut table, name, path, value, &mut faults);
        }
    }
    if faults.is_empty() { Ok(table) } else { Err(Faults::new(file, faults)) }
}

fn too_deep(file: &Path, place: Place) -> Faults {
    Faults::one(file, place, "sections are nested too deep", format!("at most {DEPTH_MAX} levels can be read"))
}

fn convert_table(table: DeTable<'_>, lines: &Lines, depth: usize) -> Result<Table, Place> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let place = Place::Line(lines.line(key.span().start));
        let value = convert(value, lines, depth + 1).map_err(|_| place.clone())?;
        entries.push((key.into_inner().into_owned(), Node { place, value }));
    }
    Ok(Table(entries))
}

fn convert(value: Spanned<DeValue<'_>>, lines: &Lines, depth: usize) -> Result<Value, Place> {
    let place = Place::Line(lines.line(value.span().start));
    if depth > DEPTH_MAX {
        return Err(place);
    }
    Ok(match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        // What does not fit is out of range for every key; the largest number says so just as well.
        DeValue::Integer(number) => Value::Integer(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)),
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(_) => Value::Moment,
        DeValue::Array(items) => {
            let mut list = Vec::new();
            for item in items {
                let place = Place::Line(lines.line(item.span().start));
                list.push(Node { place, value: convert(item, lines, depth + 1)? });
            }
            Value::List(list)
        }
        DeValue::Table(table) => Value::Table(convert_table(table, lines, depth)?),
    })
}

/// Puts one variable in its place. Names in variables know no case and no dashes, so they are matched against the keys
/// that the file has: `TANDEM__NODES__LAPTOP_A__REPLICA_ID` is `[nodes.laptop-a]`.
fn lay_over(table: &mut Table, variable: &str, path: &str, value: &str, faults: &mut Vec<ConfigFault>) {
    let place = Place::Variable(variable.to_owned());
    let mut refuse = |rule: String, fix: &str| faults.push(ConfigFault { place: place.clone(), rule, fix: fix.to_owned() });
    let parts: Vec<&str> = path.split("__").collect();
    if parts.iter().any(|part| part.is_empty()) || parts.len() > DEPTH_MAX {
        return refuse("it names no setting".into(), "write it as TANDEM__SECTION__KEY, for example TANDEM__TOPIC__URL");
    }
    let mut table = table;
    for (depth, part) in parts.iter().enumerate() {
        let at = match table.0.iter().position(|(key, _)| plain(key) == plain(part)) {
            Some(at) => at,
            None => {
                table.0.push((plain(part), Node { place: place.clone(), value: Value::Table(Table::default()) }));
                table.0.len() - 1
            }
        };
        let node = &mut table.0[at].1;
        if depth + 1 == parts.len() {
            *node = Node { place: place.clone(), value: Value::Loose(value.to_owned()) };
            return;
        }
        match &mut node.value {
            Value::Table(inner) => table = inner,
            _ => return refuse(format!("`{part}` is not a section"), "remove the part after it"),
        }
    }
}

fn plain(key: &str) -> String {
    key.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}

/// Where each line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|&start| start <= byte)
    }
}
