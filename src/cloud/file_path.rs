//! Where a file lies that no column names by itself: a path made of columns, `faculties/{id}.jpg`. Pure.

use serde_json::Value as Json;

/// A path with columns in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathTemplate(Vec<Piece>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Column(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathTemplateError {
    #[error("has a brace that is not closed, or was not opened")]
    Brace,
    #[error("names no column, so every row would have the same file")]
    NoColumn,
}

impl PathTemplate {
    pub fn parse(text: &str) -> Result<Self, PathTemplateError> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            let (column, left) =
                after.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(PathTemplateError::Brace)?;
            if column.is_empty() || column.contains('{') {
                return Err(PathTemplateError::Brace);
            }
            pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
            pieces.push(Piece::Column(column.to_owned()));
            rest = left;
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
        let template = Self(pieces);
        if template.columns().next().is_none() { Err(PathTemplateError::NoColumn) } else { Ok(template) }
    }

    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Column(column) => Some(column.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The path of a row, by what it tells of a column. `None` where it does not tell all of them; empty where one is NULL or empty: there
    /// is no file then.
    pub fn of<'r>(&self, told: impl Fn(&str) -> Option<&'r Json>) -> Option<String> {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Column(column) => match told(column)? {
                    Json::Null => return Some(String::new()),
                    Json::String(text) if text.is_empty() => return Some(String::new()),
                    Json::String(text) => path.push_str(text),
                    other => path.push_str(&other.to_string()),
                },
            }
        }
        Some(path)
    }

    /// As it was written.
    pub fn text(&self) -> String {
        let of = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Column(column) => format!("{{{column}}}"),
        };
        self.0.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_in_braces_and_a_row_tells_all_of_them_or_nothing() {
        let template = PathTemplate::parse("faces/{year}/{code}.jpg").unwrap();
        assert_eq!(
            (template.columns().collect::<Vec<_>>(), template.text()),
            (vec!["year", "code"], "faces/{year}/{code}.jpg".into())
        );
        for (row, expected) in [
            (json!({"year": 2026, "code": "b-7", "other": 1}), Some("faces/2026/b-7.jpg")),
            (json!({"year": 2026}), None),
            (json!({"year": 2026, "code": null}), Some("")),
            (json!({"year": "", "code": "b"}), Some("")),
        ] {
            assert_eq!(template.of(|column| row.get(column)).as_deref(), expected, "{row}");
        }
        assert_eq!(PathTemplate::parse("{photo}").unwrap().text(), "{photo}");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, expected) in [
            ("faces/all.jpg", PathTemplateError::NoColumn),
            ("", PathTemplateError::NoColumn),
            ("faces/{id", PathTemplateError::Brace),
            ("faces/id}", PathTemplateError::Brace),
            ("faces/{}.jpg", PathTemplateError::Brace),
            ("{{id}}", PathTemplateError::Brace),
        ] {
            assert_eq!(PathTemplate::parse(text), Err(expected), "{text}");
        }
    }
}
