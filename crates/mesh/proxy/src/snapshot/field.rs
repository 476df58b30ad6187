//! Names of fields that are looked up in each request.

use std::fmt;
use std::ops::Deref;

use crate::http1::name::Name;

/// The name of a header in lower case, and what it stands for in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName {
    text: Box<str>,
    pub(crate) of_request: RequestField,
}

/// What of a request a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestField {
    Method,
    Path,
    /// The line `host` too.
    Authority,
    Scheme,
    Line(Name),
}

impl RequestField {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            ":method" => Self::Method,
            ":path" => Self::Path,
            ":authority" | "host" => Self::Authority,
            ":scheme" => Self::Scheme,
            _ => Self::Line(Name::of(name.as_bytes())),
        }
    }
}

impl From<&str> for FieldName {
    fn from(name: &str) -> Self {
        let text = name.to_ascii_lowercase().into_boxed_str();
        let of_request = RequestField::of(&text);
        Self { text, of_request }
    }
}

impl Deref for FieldName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
