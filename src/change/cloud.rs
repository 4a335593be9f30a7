//! The language of the cloud API: what a node sends to a cloud service and what it answers. docs/cloud.md is its reference.
//!
//! Both sides of it are here, because the client (`target::cloud`) and the receiver (`receive`, `serve`) must mean the same.

use std::cmp::Ordering;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// What decides between two writes of one row in the cloud: the larger clock, and of equal clocks the larger name, which is the order
/// that the nodes have too.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CloudVersion {
    pub hlc: u64,
    pub origin: String,
}

impl Ord for CloudVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.hlc, &self.origin).cmp(&(other.hlc, &other.origin))
    }
}

impl PartialOrd for CloudVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudOp {
    /// The row is this, whatever was there.
    Insert,
    /// These columns of the row have these values; what is not named stays.
    Update,
    Delete,
}

/// One row's newest write.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CloudRow {
    /// The same for the same write, however often it is sent.
    pub key: String,
    pub resource: String,
    pub id: String,
    pub op: CloudOp,
    pub version: CloudVersion,
    /// Empty for a delete.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub row: Map<String, Value>,
}

impl CloudRow {
    /// Bytes of its JSON, near enough for limits.
    pub fn weight(&self) -> usize {
        let of = |value: &Value| match value {
            Value::String(text) => text.len() + 2,
            Value::Number(_) => 12,
            _ => 5,
        };
        let named = self.row.iter().map(|(name, value)| name.len() + 4 + of(value)).sum::<usize>();
        110 + self.key.len() + self.resource.len() + self.id.len() + self.version.origin.len() + named
    }
}

/// The body of `POST /api/batch`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CloudBatch {
    /// The same for the same rows; also in the header `Idempotency-Key`.
    pub batch: String,
    pub node: String,
    pub rows: Vec<CloudRow>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowResult {
    Applied,
    /// The very same write is there already.
    Duplicate,
    /// A newer write of the row is there.
    Stale,
    /// The cloud does not take this row.
    Refused,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RowAnswer {
    pub result: RowResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RowAnswer {
    pub fn of(result: RowResult) -> Self {
        Self { result, error: None }
    }
}

/// The answer to a batch: one result for each row, in its order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BatchAnswer {
    pub success: bool,
    pub results: Vec<RowAnswer>,
}

/// Ids that a cloud has, and where the next page begins.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct IdPage {
    pub ids: Vec<String>,
    /// To be asked for with `after`; `None` at the end.
    pub next: Option<String>,
}

/// An id as text: numbers and texts are the only ids there are.
pub fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An id where it stands by itself, in a list.
struct PlainId(String);

impl<'de> Deserialize<'de> for PlainId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainIdVisitor).map(Self)
    }
}

struct PlainIdVisitor;

impl Visitor<'_> for PlainIdVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_u64<E>(self, number: u64) -> Result<String, E> {
        Ok(number.to_string())
    }

    fn visit_i64<E>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

impl IdPage {
    /// Reads a page in the form that our own receiver answers with, and many others: `ids`, perhaps `success` and `next`, and nothing else. No
    /// tree of values is made of it, which of a million ids took as long as all else that is done with them. `None` where it has any other
    /// form, or says failure: then [`IdPage::read`] knows more.
    pub fn read_plain(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Plain {
            success: Option<bool>,
            ids: Vec<PlainId>,
            next: Option<PlainId>,
        }
        let plain: Plain = serde_json::from_slice(body).ok()?;
        let ids = || plain.ids.into_iter().map(|PlainId(id)| id).collect();
        (plain.success != Some(false)).then(|| Self { ids: ids(), next: plain.next.map(|PlainId(next)| next) })
    }

    /// Reads what clouds of this kind answer to `GET /api/<resource>`: a list, or an object that holds one under `ids`, `data`, `items` or
    /// the resource's own name; of ids, or of rows with `id_field`. `None` where it is nothing of this.
    pub fn read(answer: &Value, resource: &str, id_field: &str) -> Option<Self> {
        let (list, next) = match answer {
            Value::Array(list) => (list, None),
            Value::Object(object) => {
                let snake = resource.replace('-', "_");
                let list = ["ids", "data", "items", resource, &snake].iter().find_map(|name| object.get(*name)?.as_array())?;
                (list, object.get("next").and_then(id_text))
            }
            _ => return None,
        };
        let id = |entry: &Value| match entry {
            Value::Object(row) => row.get(id_field).or_else(|| row.get("id")).and_then(id_text),
            plain => id_text(plain),
        };
        Some(Self { ids: list.iter().map(id).collect::<Option<_>>()?, next })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_ids_are_read_in_the_forms_that_clouds_have() {
        let check = |answer: Value, ids: &[&str], next: Option<&str>| {
            let page = IdPage::read(&answer, "teaching-loads", "code").unwrap_or_else(|| panic!("{answer}"));
            assert_eq!(
                (page.ids.as_slice(), page.next.as_deref()),
                (ids.iter().map(|id| id.to_string()).collect::<Vec<_>>().as_slice(), next)
            );
        };
        check(json!([1, "b"]), &["1", "b"], None);
        check(json!({"success": true, "ids": [], "next": null}), &[], None);
        check(json!({"ids": ["1"], "next": "1"}), &["1"], Some("1"));
        check(json!({"data": [{"id": 7, "name": "x"}]}), &["7"], None);
        check(json!({"teaching_loads": [{"code": "x", "id": 3}]}), &["x"], None);
        for answer in [json!("no"), json!({"error": "x"}), json!([{"name": "x"}]), json!([null])] {
            assert!(IdPage::read(&answer, "teaching-loads", "code").is_none(), "{answer}");
        }
    }

    #[test]
    fn the_plain_form_is_read_as_the_others_are_and_nothing_else_is_taken_for_it() {
        for text in [
            r#"{"success":true,"ids":["1","b","ä\\n"],"next":"b"}"#,
            r#"{"ids":[1,-2,18446744073709551615,"x"]}"#,
            r#"{"success":null,"ids":[],"next":null}"#,
            r#"{"ids":["a"],"next":7}"#,
        ] {
            let page = IdPage::read(&serde_json::from_str(text).unwrap(), "rooms", "id");
            assert!(page.is_some() && IdPage::read_plain(text.as_bytes()) == page, "{text}");
        }
        for text in [
            r#"{"success":false,"ids":[]}"#,
            r#"{"ids":["1"],"error":"no"}"#,
            r#"{"ids":["1"],"status":"error"}"#,
            r#"{"ids":[1.5]}"#,
            r#"{"ids":[{"id":1}]}"#,
            r#"{"ids":[null]}"#,
            r#"{"data":[1]}"#,
            r#"["1"]"#,
            r#"{"ids":["1"]"#,
            "",
        ] {
            assert_eq!(IdPage::read_plain(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_clock_decides_before_the_name() {
        let version = |hlc, origin: &str| CloudVersion { hlc, origin: origin.into() };
        assert!(version(2, "a") > version(1, "b"));
        assert!(version(1, "b") > version(1, "a"));
    }
}
