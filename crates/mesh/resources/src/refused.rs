use crate::diagnostic::Position;
use crate::kind::Kind;
use crate::view::View;

/// The group of all kinds that say who may do what, for those whose names are misspelt, and the kinds.
const MARKS: [&str; 4] = [
    "security.istio.io",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
];

/// Whether a text that cannot be read may say who may do what.
pub fn may_hold_policies(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// A document that is wrong, as far as it says what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its kind, if it is a known one.
    pub kind: Option<Kind>,
    /// Its namespace; `default` when it does not say.
    pub namespace: String,
    /// Its name.
    pub name: Option<String>,
    /// Where it begins.
    pub at: Position,
    /// It may say who may do what.
    pub may_be_policy: bool,
}

impl Refused {
    pub(crate) fn of(view: &View<'_>) -> Self {
        let text = |of: Option<&View<'_>>, name| {
            let field = of?.loose(name).filter(View::is_text)?;
            field.text()
        };
        let version = text(Some(view), "apiVersion").unwrap_or_default();
        let kind = text(Some(view), "kind").and_then(|kind| Kind::of(&kind, &version));
        let metadata = view.loose("metadata");
        let namespace = text(metadata.as_ref(), "namespace");
        Self {
            kind,
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name: text(metadata.as_ref(), "name"),
            at: view.at(),
            may_be_policy: view.mentions(&may_hold_policies),
        }
    }
}
