//! Rust text as far as the rules need it: words, paths, and which lines are test code.

/// One file of the project.
pub struct SourceFile {
    /// From the project's root, with `/`.
    pub path: String,
    pub text: String,
    /// The whole file is test code: it lies in `tests/`, or its parent declares it under `#[cfg(test)]`.
    pub test_only: bool,
}

/// What is wrong, and where.
#[derive(PartialEq, Debug)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub rule: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl SourceFile {
    pub fn finding(&self, line: usize, rule: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule: rule.into() }
    }

    /// `src/source/binlog/rows.rs` is `["source", "binlog", "rows"]`; `mod.rs` stands for its folder.
    pub fn module(&self) -> Vec<&str> {
        let Some(inner) = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else {
            return Vec::new();
        };
        let mut module: Vec<&str> = inner.split('/').collect();
        if module.last() == Some(&"mod") {
            module.pop();
        }
        module
    }
}

/// A word or a sign of the program itself: comments and the insides of literals are not among them.
#[derive(Clone, PartialEq, Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
    /// In a block under `#[cfg(test)]` or `#[test]`.
    pub test: bool,
    /// In a test whose clock stands until it is moved (`start_paused`).
    pub paused: bool,
    /// Inline modules (`mod x { … }`) around it.
    pub inline_modules: usize,
}

/// The tokens of a file. Literals become one token `""`.
pub fn tokens(text: &str) -> Vec<Token> {
    scan(text).0
}

/// The comments of a file, with the line each begins on.
pub fn comments(text: &str) -> Vec<(usize, String)> {
    scan(text).1
}

fn scan(text: &str) -> (Vec<Token>, Vec<(usize, String)>) {
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let rest = &chars[at..];
        let token = match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|&c| c == '\n').unwrap_or(rest.len());
                comments.push((line, chars[start..at].iter().collect()));
                None
            }
            ['/', '*', ..] => {
                at += block_comment(rest);
                comments.push((line, chars[start..at].iter().collect()));
                None
            }
            ['r', '"' | '#', ..] | ['b', 'r', '"' | '#', ..] if raw_string(rest).is_some() => {
                at += raw_string(rest).expect("the guard saw one");
                Some("\"\"".into())
            }
            ['"', ..] | ['b' | 'c', '"', ..] => {
                at += string(rest);
                Some("\"\"".into())
            }
            ['\'', '\\', ..] | ['\'', _, '\'', ..] => {
                at += character(rest);
                Some("\"\"".into())
            }
            [':', ':', ..] => {
                at += 2;
                Some("::".into())
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                at += rest.iter().position(|c| !c.is_alphanumeric() && *c != '_').unwrap_or(rest.len());
                Some(chars[start..at].iter().collect())
            }
            [c, ..] => {
                at += 1;
                (!c.is_whitespace()).then(|| c.to_string())
            }
            [] => unreachable!("the loop ends before"),
        };
        if let Some(text) = token {
            tokens.push(Token { text, line, test: false, paused: false, inline_modules: 0 });
        }
        line += chars[start..at].iter().filter(|&&c| c == '\n').count();
    }
    mark_blocks(&mut tokens);
    (tokens, comments)
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] if depth == 1 => return at + 2,
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let open = rest.iter().position(|&c| c == 'r')? + 1;
    let hashes = rest[open..].iter().take_while(|&&c| c == '#').count();
    if rest.get(open + hashes) != Some(&'"') {
        return None; // A raw identifier, or a plain word.
    }
    let body = open + hashes + 1;
    let end = (body..rest.len())
        .find(|&at| rest[at] == '"' && rest.len() - at > hashes && rest[at + 1..=at + hashes].iter().all(|&c| c == '#'));
    Some(end.map_or(rest.len(), |end| end + hashes + 1))
}

fn string(rest: &[char]) -> usize {
    let mut at = rest.iter().position(|&c| c == '"').expect("the caller saw a quote") + 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

fn character(rest: &[char]) -> usize {
    // After a backslash the next sign is never the end.
    let from = if rest[1] == '\\' { 3 } else { 2 };
    (from..rest.len()).find(|&at| rest[at] == '\'').map_or(rest.len(), |at| at + 1)
}

/// Marks test blocks and counts inline modules.
fn mark_blocks(tokens: &mut [Token]) {
    #[derive(Clone, Copy, Default)]
    struct Block {
        test: bool,
        paused: bool,
        module: bool,
    }
    let mut blocks: Vec<Block> = Vec::new();
    // What the attributes and words before the next block say of it.
    let mut ahead = Block::default();
    for at in 0..tokens.len() {
        let word = |n: usize| tokens.get(at + n).map_or("", |token| token.text.as_str());
        match word(0) {
            "#" => {
                let words = attribute(&tokens[at..]);
                ahead.test |= words.contains(&"test") && !words.contains(&"not");
                ahead.paused |= words.contains(&"start_paused");
            }
            "mod" if word(2) == "{" => ahead.module = true,
            "{" => {
                let around = blocks.last().copied().unwrap_or_default();
                blocks.push(Block { test: ahead.test || around.test, paused: ahead.paused || around.paused, ..ahead });
                ahead = Block::default();
            }
            "}" => _ = blocks.pop(),
            // The item under the attribute ended without a block of its own.
            ";" => ahead = Block::default(),
            _ => {}
        }
        let around = blocks.last().copied().unwrap_or_default();
        tokens[at].test = ahead.test || around.test;
        tokens[at].paused = around.paused;
        tokens[at].inline_modules = blocks.iter().filter(|block| block.module).count();
    }
}

/// The words of the attribute that begins here: `#[test]`, `#[tokio::test(start_paused = true)]`, `#[cfg(test)]`.
fn attribute(tokens: &[Token]) -> Vec<&str> {
    if tokens.get(1).is_none_or(|token| token.text != "[") {
        return Vec::new();
    }
    tokens.iter().skip(2).take_while(|token| token.text != "]").map(|token| &*token.text).collect()
}

/// A path that begins with `crate`, `super`, `self` or a name, as written in a `use` or anywhere else.
#[derive(Clone, PartialEq, Debug)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    pub test: bool,
    pub inline_modules: usize,
}

/// All paths of two or more segments; the groups of a `use` are unfolded.
pub fn paths(tokens: &[Token]) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins = is_word(&tokens[at].text) && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        // `<T as Trait>::name` and `::name` are not beginnings we can resolve.
        if begins && (at == 0 || tokens[at - 1].text != "::") {
            at = unfold(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one branch of a `use` tree (or a plain path) and returns where it ended.
fn unfold(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<Path>) -> usize {
    let mut segments = before.to_vec();
    let Some(first) = tokens.get(at) else { return at };
    loop {
        match tokens.get(at).map(|token| token.text.as_str()) {
            Some("{") => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    let start = at;
                    at = unfold(tokens, at, &segments, found);
                    // `as name`, commas, and whatever else stands between branches.
                    if at == start || tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(word) if is_word(word) || word == "*" => {
                segments.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
        if tokens.get(at).is_some_and(|token| token.text == "::") {
            at += 1;
        } else {
            break;
        }
    }
    if segments.len() > 1 {
        let (line, test, inline_modules) = (first.line, first.test, first.inline_modules);
        found.push(Path { segments, line, test, inline_modules });
    }
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names of modules that a file declares under `#[cfg(test)]` and keeps in files of their own.
pub fn test_modules(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|window| window[0].text == "mod" && window[0].test && window[2].text == ";")
        .map(|window| window[1].text.clone())
        .collect()
}
