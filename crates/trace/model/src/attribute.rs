/// One attribute: a key and a typed value.
///
/// Attributes are kept as a list in the order of arrival: OTLP says that keys are unique, senders
/// do not always agree, and what arrived is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The key, as it arrived.
    pub key: String,
    /// The value.
    pub value: Value,
}

impl Attribute {
    /// An attribute from anything that turns into a key and a value.
    pub fn new(key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// A typed value: OTLP's `AnyValue`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// An `AnyValue` with nothing set.
    #[default]
    Empty,
    /// Text.
    String(String),
    /// True or false.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Raw bytes.
    Bytes(Vec<u8>),
    /// An ordered list of values, of any types.
    Array(Vec<Value>),
    /// A nested key-value list.
    Map(Vec<Attribute>),
}

impl Value {
    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::String(v.to_owned())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::String(v)
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}

impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Double(v)
    }
}
