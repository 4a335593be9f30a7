//! Words of a statement, with what they are and where they stand. Comments are passed over, except that the inside of an
//! executable comment (`/*!40005 … */`, `/*M! … */`) counts.

use std::ops::Range;

/// What stands in a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A keyword, a name without quotes, or a number.
    Plain,
    /// A name in quotes.
    Quoted,
    /// A text.
    Text,
    /// One mark, such as a bracket or a comma.
    Mark,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    pub kind: Kind,
    /// Without its quotes.
    pub text: String,
    /// Bytes of the statement.
    pub at: Range<usize>,
}

impl Word {
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Plain && self.text.eq_ignore_ascii_case(keyword)
    }

    pub fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    pub fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Plain | Kind::Quoted)
    }
}

/// `"` begins a name and not a text.
pub const ANSI_QUOTES: u64 = 1 << 2;
/// A backslash in a text stands for itself.
pub const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// The words of a statement that ran in this sql_mode. What is not closed ends with the statement.
pub fn words(statement: &str, sql_mode: u64) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(c) = statement[at..].chars().next() {
        let rest = &statement[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if let Some(inside) = rest.strip_prefix("/*!").or_else(|| rest.strip_prefix("/*M!")) {
            let version = inside.bytes().take_while(u8::is_ascii_digit).count();
            at = statement.len() - inside.len() + version;
        } else if rest.starts_with("*/") {
            at += 2;
        } else if rest.starts_with("/*") {
            at = rest.find("*/").map_or(statement.len(), |end| at + end + 2);
        } else if c == '#' || (rest.starts_with("--") && rest[2..].chars().next().is_none_or(char::is_whitespace)) {
            at = rest.find('\n').map_or(statement.len(), |end| at + end);
        } else if matches!(c, '`' | '"' | '\'') {
            let is_name = c == '`' || (c == '"' && sql_mode & ANSI_QUOTES != 0);
            let escapes = !is_name && sql_mode & NO_BACKSLASH_ESCAPES == 0;
            let (text, length) = quoted(rest, c, escapes);
            words.push(Word { kind: if is_name { Kind::Quoted } else { Kind::Text }, text, at: at..at + length });
            at += length;
        } else if is_plain(c) {
            let length = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
            words.push(Word { kind: Kind::Plain, text: rest[..length].to_owned(), at: at..at + length });
            at += length;
        } else {
            words.push(Word { kind: Kind::Mark, text: c.to_string(), at: at..at + c.len_utf8() });
            at += c.len_utf8();
        }
    }
    words
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// What is between the quotes at the beginning, and the bytes of it all. A doubled quote stands for itself.
fn quoted(text: &str, quote: char, escapes: bool) -> (String, usize) {
    let mut inside = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = letters.next() {
        if c == '\\' && escapes {
            if let Some((_, escaped)) = letters.next() {
                inside.push(escaped);
            }
        } else if c != quote {
            inside.push(c);
        } else if letters.next_if(|(_, next)| *next == quote).is_some() {
            inside.push(quote);
        } else {
            return (inside, at + quote.len_utf8());
        }
    }
    (inside, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, sql_mode: u64, expected: &[(Kind, &str)]) {
        let words = words(statement, sql_mode);
        let found: Vec<_> = words.iter().map(|word| (word.kind, word.text.as_str())).collect();
        assert_eq!(found, expected, "{statement}");
        for word in &words {
            assert!(statement.get(word.at.clone()).is_some_and(|part| !part.is_empty()), "{statement}");
        }
    }

    #[test]
    fn words_are_told_from_names_and_texts() {
        use Kind::*;
        check("DROP `a``b`.x", 0, &[(Plain, "DROP"), (Quoted, "a`b"), (Mark, "."), (Plain, "x")]);
        check("\"n\" 'it''s' 'a\\'b'", 0, &[(Text, "n"), (Text, "it's"), (Text, "a'b")]);
        check("\"n\"", ANSI_QUOTES, &[(Quoted, "n")]);
        check("'a\\' b", NO_BACKSLASH_ESCAPES, &[(Text, "a\\"), (Plain, "b")]);
        check("a-- b\n c # d\n e /* f */ g", 0, &[(Plain, "a"), (Plain, "c"), (Plain, "e"), (Plain, "g")]);
        check("a--b", 0, &[(Plain, "a"), (Mark, "-"), (Mark, "-"), (Plain, "b")]);
        check("DROP /*!40005 TEMPORARY */ TABLE", 0, &[(Plain, "DROP"), (Plain, "TEMPORARY"), (Plain, "TABLE")]);
        check("/*M!100100 x*/y", 0, &[(Plain, "x"), (Plain, "y")]);
        check("zoë /* never closed", 0, &[(Plain, "zoë")]);
        check("'never closed", 0, &[(Text, "never closed")]);
        check("`", 0, &[(Quoted, "")]);
        check("", 0, &[]);
    }
}
