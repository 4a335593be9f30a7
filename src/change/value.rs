//! One column's value, as it travels.

/// A value without loss. What has no exact machine type travels as text, in the form MariaDB prints it:
/// decimals, dates and times (zero dates included), enum and set members, json, uuid, inet.
///
/// Text is always UTF-8, whatever the column's character set. Bytes that are not valid in the column's character
/// set stay `Bytes`, and so does everything binary. `UInt` is used only past `i64::MAX`, so that equal numbers
/// are equal values.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

impl Value {
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Self::Text(text.into())
    }

    /// The one form of an unsigned number.
    pub fn unsigned(number: u64) -> Self {
        i64::try_from(number).map_or(Self::UInt(number), Self::Int)
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn as_text(&self) -> Option<&str> {
        self.as_ref().as_text()
    }

    pub fn as_u64(&self) -> Option<u64> {
        self.as_ref().as_u64()
    }

    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Int(*number),
            Self::UInt(number) => ValueRef::UInt(*number),
            Self::Float(number) => ValueRef::Float(*number),
            Self::Double(number) => ValueRef::Double(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Bytes(bytes) => ValueRef::Bytes(bytes),
        }
    }
}

/// A [`Value`] that lies in somebody else's memory: in a row's, in a message's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    Null,
    Int(i64),
    UInt(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl<'a> ValueRef<'a> {
    /// The one form of an unsigned number.
    pub fn unsigned(number: u64) -> Self {
        i64::try_from(number).map_or(Self::UInt(number), Self::Int)
    }

    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Int(number) => Value::Int(number),
            Self::UInt(number) => Value::UInt(number),
            Self::Float(number) => Value::Float(number),
            Self::Double(number) => Value::Double(number),
            Self::Text(text) => Value::Text(text.into()),
            Self::Bytes(bytes) => Value::Bytes(bytes.into()),
        }
    }

    pub fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn as_text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(number).ok(),
            Self::UInt(number) => Some(number),
            _ => None,
        }
    }
}
