use std::time::Duration;

use crate::string_match::StringMatch;
use crate::values::is_token;
use crate::view::{Object, Shape, View};

/// `CorsPolicy`: which pages of other origins may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsPolicy {
    /// The origins; one must match.
    pub origins: Vec<StringMatch>,
    /// The methods that preflights are told.
    pub methods: Vec<String>,
    /// The request headers that they are told.
    pub headers: Vec<String>,
    /// The response headers that pages may read.
    pub exposed: Vec<String>,
    /// How long a preflight holds.
    pub max_age: Option<Duration>,
    /// Whether requests may carry credentials.
    pub credentials: Option<bool>,
    /// Preflights of other origins are answered, and do not go on to the workload.
    pub stops_others: bool,
}

const CORS_POLICY: Shape = Shape {
    known: &[
        "allowOrigins",
        "allowOrigin",
        "allowMethods",
        "allowHeaders",
        "exposeHeaders",
        "maxAge",
        "allowCredentials",
        "unmatchedPreflights",
    ],
    refused: &[],
};

impl CorsPolicy {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        let object = view.object(&CORS_POLICY)?;
        let mut origins = Vec::new();
        for item in object.items("allowOrigins") {
            origins.push(StringMatch::read(&item)?);
        }
        // The older form is not asked where there is the newer one.
        if object.get("allowOrigins").is_none() {
            for item in object.items("allowOrigin") {
                origins.push(StringMatch::Exact(item.some_ascii()?));
            }
        }
        const FORWARD: (&str, bool) = ("FORWARD", false);
        let stops = [("UNSPECIFIED", false), FORWARD, ("IGNORE", true)];
        let max_age = object.optional("maxAge", View::duration)?;
        if let (Some(time), Some(view)) = (max_age, object.get("maxAge"))
            && time.subsec_nanos() > 0
        {
            view.fail("must be whole seconds");
            return None;
        }
        Some(Self {
            origins,
            methods: tokens(&object, "allowMethods")?,
            headers: tokens(&object, "allowHeaders")?,
            exposed: tokens(&object, "exposeHeaders")?,
            max_age,
            credentials: object.optional("allowCredentials", View::bool)?,
            stops_others: object
                .optional("unmatchedPreflights", |view| view.choice(&stops))?
                .unwrap_or(false),
        })
    }
}

/// Methods, or names of headers; `*` is one too.
fn tokens(object: &Object<'_>, name: &str) -> Option<Vec<String>> {
    let items = object.items(name);
    let token = |view: &View<'_>| {
        let text = view.some_text()?;
        if !is_token(&text) {
            view.fail(format!("`{text}` is neither a method nor a header name"));
            return None;
        }
        Some(text)
    };
    items.iter().map(token).collect()
}
