//! The JSON of a record as serde reads it: strings borrowed where they hold no escape, columns in their order.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::BinaryColumns;
use crate::change::{Note, SchemaChange, ValueRef};

#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    #[serde(borrow, default)]
    pub before: Option<Members<'a>>,
    #[serde(borrow, default)]
    pub after: Option<Members<'a>>,
    #[serde(borrow, default)]
    pub source: Source<'a>,
    #[serde(default)]
    pub transaction: Option<TransactionOrder>,
}

#[derive(Deserialize)]
pub struct SchemaEnvelope {
    pub ddl: Box<SchemaChange>,
}

#[derive(Deserialize)]
pub struct NoteEnvelope {
    pub note: Box<Note>,
}

#[derive(Deserialize, Default)]
pub struct Source<'a> {
    #[serde(default)]
    pub ts_ms: u64,
    #[serde(default)]
    pub server_id: u32,
    #[serde(borrow, default)]
    pub db: Cow<'a, str>,
    #[serde(borrow, default)]
    pub table: Cow<'a, str>,
    #[serde(borrow, default)]
    pub file: Cow<'a, str>,
    #[serde(default)]
    pub pos: u64,
}

#[derive(Deserialize)]
pub struct TransactionOrder {
    #[serde(default)]
    pub data_collection_order: u64,
}

#[derive(Deserialize)]
pub struct Key<'a> {
    #[serde(borrow, default)]
    pub key: Option<Names<'a>>,
}

#[derive(Deserialize)]
pub struct LooseChange<'a> {
    #[serde(borrow)]
    pub db: Cow<'a, str>,
    #[serde(borrow)]
    pub table: Cow<'a, str>,
    #[serde(borrow, default)]
    pub key: Option<Names<'a>>,
    #[serde(borrow)]
    pub op: Cow<'a, str>,
    #[serde(borrow)]
    pub before: Option<Members<'a>>,
    #[serde(borrow)]
    pub after: Option<Members<'a>>,
    #[serde(borrow)]
    pub base64: BinaryColumns<'a>,
    #[serde(borrow)]
    pub checks: Cow<'a, str>,
}

/// A JSON object of columns, in its order.
pub struct Members<'a>(pub Vec<(Cow<'a, str>, Scalar<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of columns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(16));
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The names of a JSON object's members, in its order.
pub struct Names<'a>(pub Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of columns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::with_capacity(2);
                while let Some(Name(name)) = map.next_key()? {
                    map.next_value::<IgnoredAny>()?;
                    names.push(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(NamesVisitor)
    }
}

/// A member's name, borrowed from the input where it holds no escape.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// One value; its text is borrowed from the input where it holds no escape.
pub enum Scalar<'a> {
    /// Anything but text.
    Plain(ValueRef<'a>),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, a string or null")
            }
            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Plain(ValueRef::Null))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Plain(ValueRef::Int(number)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Plain(ValueRef::unsigned(number)))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Plain(ValueRef::Double(number)))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Plain(ValueRef::Int(truth.into())))
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.into())))
            }
            fn visit_string<E>(self, text: String) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
