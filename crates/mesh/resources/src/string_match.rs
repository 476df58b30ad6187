use crate::values;
use crate::view::{Shape, View};

/// A condition on a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The text is this.
    Exact(String),
    /// The text begins with this.
    Prefix(String),
    /// The whole text matches this regular expression, in RE2's syntax.
    Regex(String),
}

const STRING_MATCH: Shape = Shape {
    known: &["exact", "prefix", "regex"],
    refused: &[],
};

impl StringMatch {
    /// Reads a condition; `None` when it is empty, which in Istio means "present".
    pub(crate) fn read_or_present(view: &View<'_>) -> Option<Option<Self>> {
        let errors = view.log().count();
        let object = view.object(&STRING_MATCH)?;
        let found = object.present(STRING_MATCH.known);
        if view.log().count() > errors {
            return None;
        }
        match found.as_slice() {
            [] => Some(None),
            [name] => {
                let condition = object.get(name)?;
                let text = condition.some_ascii()?;
                Some(Some(match *name {
                    "exact" => Self::Exact(text),
                    "prefix" => Self::Prefix(text),
                    _ => Self::Regex(check_regex(condition, text)?),
                }))
            }
            _ => {
                object.fail("`exact`, `prefix` and `regex` exclude each other");
                None
            }
        }
    }

    /// Reads a text that is a regular expression.
    pub(crate) fn read_regex(view: &View<'_>) -> Option<Self> {
        check_regex(view, view.some_ascii()?).map(Self::Regex)
    }

    /// Reads a condition that must say something.
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let condition = Self::read_or_present(view)?;
        if condition.is_none() {
            view.fail("expected `exact`, `prefix` or `regex`");
        }
        condition
    }
}

/// A text, if it is a regular expression.
pub(crate) fn check_regex(view: &View<'_>, text: String) -> Option<String> {
    view.checked(text, values::check_regex)
}
