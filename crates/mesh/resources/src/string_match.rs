use crate::view::{Shape, View};

/// A condition on a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringMatch {
    /// The text is this.
    Exact(String),
    /// The text begins with this.
    Prefix(String),
}

const STRING_MATCH: Shape = Shape {
    known: &["exact", "prefix"],
    refused: &[(
        "regex",
        "regular expressions are not matched yet, use `exact` or `prefix`",
    )],
};

impl StringMatch {
    /// Reads a condition; `None` when it is empty, which in Istio means "present".
    pub(crate) fn read_or_present(view: &View<'_>) -> Option<Option<Self>> {
        let errors = view.log().len();
        let object = view.object(&STRING_MATCH)?;
        let found = object.present(STRING_MATCH.known);
        if view.log().len() > errors {
            return None;
        }
        let text = |name| object.get(name).and_then(View::some_ascii);
        match found.as_slice() {
            [] => Some(None),
            ["exact"] => Some(Some(Self::Exact(text("exact")?))),
            ["prefix"] => Some(Some(Self::Prefix(text("prefix")?))),
            _ => {
                object.fail("`exact` and `prefix` exclude each other");
                None
            }
        }
    }

    /// Reads a condition that must say something.
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        let condition = Self::read_or_present(view)?;
        if condition.is_none() {
            view.fail("expected `exact` or `prefix`");
        }
        condition
    }

    /// The text.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    /// Whether `text` fulfils it.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}
