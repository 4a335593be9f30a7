//! The small parts that pages are written with. Every value goes through [`esc`].

use std::fmt;

use serde_json::{Map, Value};

use crate::observe::{Level, LinkState, spoken_count, spoken_duration};

/// Writes into a page.
macro_rules! put {
    ($out:expr, $($text:tt)*) => {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt($out, format_args!($($text)*));
    };
}
pub(super) use put;

/// A long value is shown by its beginning; the API has the whole.
const VALUE_LETTERS_MAX: usize = 200;

/// Text as HTML, in elements and in quoted attributes.
pub struct Escaped<'a>(&'a str);

pub fn esc(text: &str) -> Escaped<'_> {
    Escaped(text)
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// Text as a part of an address: everything but letters, digits and a few signs is written by its number.
pub fn url_part(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A key of some columns: `id 7`, `bus 3, seat 12`.
pub fn row_inline(row: &Map<String, Value>) -> String {
    if row.is_empty() {
        return "<span class=soft>without a key</span>".into();
    }
    let columns: Vec<String> = row.iter().map(|(name, value)| format!("{} {}", esc(name), value_html(value))).collect();
    columns.join(", ")
}

/// As [`row_inline`], of a key as JSON, of which only the beginning may be left.
pub fn key_inline(json: &str) -> String {
    match serde_json::from_str::<Map<String, Value>>(json) {
        Ok(row) => row_inline(&row),
        Err(_) if json.is_empty() => row_inline(&Map::new()),
        Err(_) => format!("<code>{}</code>", esc(json)),
    }
}

pub fn value_html(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let end = text.char_indices().nth(VALUE_LETTERS_MAX).map(|(at, _)| at);
    let class = if value.is_null() { " class=soft" } else { "" };
    format!("<code{class}>{}{}</code>", esc(&text[..end.unwrap_or(text.len())]), if end.is_some() { "…" } else { "" })
}

/// A reason and what to do about it, below the thing that they are about.
pub fn why(reason: Option<&str>, hint: Option<&str>) -> String {
    let texts: Vec<String> = [reason, hint].into_iter().flatten().map(|text| esc(text).to_string()).collect();
    if texts.is_empty() { String::new() } else { format!("<div class=why>{}</div>", texts.join("<br>")) }
}

/// A number, or a dash where it is not known.
pub fn count(number: Option<u64>) -> String {
    number.map_or_else(|| "–".into(), spoken_count)
}

pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", spoken_count(number), if number == 1 { one } else { many })
}

/// `4 min ago`, `in 48 s`.
pub fn when(second: u64, now: u64) -> String {
    match second.checked_sub(now) {
        None => format!("{} ago", spoken_duration(now - second)),
        Some(0) => "now".into(),
        Some(left) => format!("in {}", spoken_duration(left)),
    }
}

pub fn level_class(level: Level) -> &'static str {
    match level {
        Level::Good => "good",
        Level::Working => "working",
        Level::Attention => "attention",
        Level::Stopped => "stopped",
    }
}

pub fn link_class(state: LinkState) -> &'static str {
    match state {
        LinkState::UpToDate => "good",
        // Offline is what this program is made for: neutral.
        LinkState::Starting | LinkState::CatchingUp | LinkState::Offline | LinkState::Removed => "working",
        LinkState::Paused => "attention",
        LinkState::ClockWrong | LinkState::Stopped => "stopped",
    }
}

pub fn role_class(state: &str) -> &'static str {
    match state {
        "running" => "good",
        "stopped" => "stopped",
        "paused" => "attention",
        _ => "working",
    }
}

/// Links to the pages of a list before and after this one.
pub fn pager(out: &mut String, newer: Option<String>, older: Option<String>) {
    if newer.is_none() && older.is_none() {
        return;
    }
    out.push_str("<nav class=pager aria-label=\"Pages of this list\">");
    if let Some(newer) = newer {
        put!(out, "<a href=\"{}\" rel=prev>← Newer</a>", esc(&newer));
    }
    if let Some(older) = older {
        put!(out, "<a href=\"{}\" rel=next>Older →</a>", esc(&older));
    }
    out.push_str("</nav>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_be_markup() {
        assert_eq!(esc("<a href='x' title=\"y\">&").to_string(), "&lt;a href=&#39;x&#39; title=&quot;y&quot;&gt;&amp;");
        assert_eq!(esc("ä & ö").to_string(), "ä &amp; ö");
        assert_eq!(value_html(&"<b>".into()), "<code>&lt;b&gt;</code>");
        assert_eq!(url_part("{\"id\":\"a&b\"}"), "%7B%22id%22%3A%22a%26b%22%7D");
    }

    #[test]
    fn long_values_and_keys_are_shown_by_their_beginning() {
        let long = value_html(&"ä".repeat(300).into());
        assert_eq!(long, format!("<code>{}…</code>", "ä".repeat(VALUE_LETTERS_MAX)));
        assert_eq!(key_inline("{\"id\":7}"), "id <code>7</code>");
        assert_eq!(key_inline("{\"id\":\"aaa…"), "<code>{&quot;id&quot;:&quot;aaa…</code>");
        assert_eq!(key_inline(""), "<span class=soft>without a key</span>");
    }

    #[test]
    fn times_are_said_from_now() {
        for (second, expected) in [(100, "now"), (40, "1 min ago"), (148, "in 48 s")] {
            assert_eq!(when(second, 100), expected);
        }
    }
}
