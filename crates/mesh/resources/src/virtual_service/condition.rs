use super::{GatewayRef, read_gateways};
use crate::meta::Labels;
use crate::string_match::StringMatch;
use crate::values::is_token;
use crate::view::{Object, Shape, View};

/// A condition on a request: all its parts must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMatch {
    /// Its name; may be empty.
    pub name: String,
    /// The path.
    pub uri: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The host that is asked for.
    pub authority: Option<StringMatch>,
    /// Headers by lower-case name, or claims of tokens (see [`claim_path`]); `None` is one that is there, whatever its
    /// value.
    pub headers: Vec<(String, Option<StringMatch>)>,
    /// Those that must not be there, or not have such a value.
    pub without_headers: Vec<(String, Option<StringMatch>)>,
    /// Parameters of the query; `None` is one that is there.
    pub query: Vec<(String, Option<StringMatch>)>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// A prefix of the path ends where a segment does, as in Gateway API: `/a` is no prefix of `/ab`.
    pub is_of_whole_segments: bool,
    /// Letters of the path count in either case.
    pub ignores_uri_case: bool,
    /// The port that is asked for.
    pub port: Option<u16>,
    /// The caller's labels.
    pub source_labels: Labels,
    /// The caller's namespace.
    pub source_namespace: Option<String>,
    /// Where the condition can hold; empty is wherever the resource says.
    pub gateways: Vec<GatewayRef>,
}

const MATCH: Shape = Shape {
    known: &[
        "name",
        "uri",
        "method",
        "authority",
        "headers",
        "withoutHeaders",
        "queryParams",
        "scheme",
        "ignoreUriCase",
        "port",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
    ],
    refused: &[("statPrefix", "there are no counters for single routes yet")],
};

impl HttpMatch {
    pub(super) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&MATCH)?;
        let uri = object.optional("uri", read_uri)?;
        let headers = read_headers(&object, "headers")?;
        let mut query = Vec::new();
        if let Some(view) = object.get("queryParams") {
            for (key, value) in view.entries() {
                query.push((key.text.clone(), StringMatch::read_or_present(&value)?));
            }
        }
        let port = object.optional("port", View::port)?;
        Some(Self {
            name: object
                .optional("name", View::some_text)?
                .unwrap_or_default(),
            uri,
            is_of_whole_segments: false,
            method: object.optional("method", StringMatch::read)?,
            authority: object.optional("authority", StringMatch::read)?,
            headers,
            without_headers: read_headers(&object, "withoutHeaders")?,
            query,
            scheme: object.optional("scheme", StringMatch::read)?,
            ignores_uri_case: object
                .optional("ignoreUriCase", View::bool)?
                .unwrap_or(false),
            port,
            source_labels: object
                .get("sourceLabels")
                .map(View::text_map)
                .unwrap_or_default(),
            source_namespace: object.optional("sourceNamespace", View::some_text)?,
            gateways: read_gateways(&object, namespace),
        })
    }

    /// A claim that it asks about, as it is written.
    pub(super) fn claim(&self) -> Option<&String> {
        let names = self.headers.iter().chain(&self.without_headers);
        names
            .map(|(name, _)| name)
            .find(|name| claim_path(name).is_some())
    }
}

/// What conditions on headers begin with that are on what a request's token says.
const CLAIMS: &str = "@request.auth.claims";

/// The path of the claim that a condition is on, if it is not on a header: `@request.auth.claims[a][b]`, or the same
/// with dots.
pub fn claim_path(name: &str) -> Option<Vec<&str>> {
    let begin = name.get(..CLAIMS.len())?;
    let path = &name[CLAIMS.len()..];
    let parts: Vec<_> = match path.strip_prefix('.') {
        Some(path) => path.split('.').collect(),
        None => path
            .strip_prefix('[')?
            .strip_suffix(']')?
            .split("][")
            .collect(),
    };
    let is_one = begin.eq_ignore_ascii_case(CLAIMS) && parts.iter().all(|part| !part.is_empty());
    is_one.then_some(parts)
}

fn read_headers(object: &Object<'_>, field: &str) -> Option<Vec<(String, Option<StringMatch>)>> {
    let mut headers = Vec::new();
    if let Some(view) = object.get(field) {
        for (key, value) in view.entries() {
            let name = read_header_name(&value, &key.text)?;
            headers.push((name, StringMatch::read_or_present(&value)?));
        }
    }
    Some(headers)
}

/// An empty prefix is Istio's way to say "any path".
fn read_uri(view: &View<'_>) -> Option<StringMatch> {
    if view.is_mapping_of("prefix", "") {
        return Some(StringMatch::Prefix("/".into()));
    }
    let uri = StringMatch::read(view)?;
    if let StringMatch::Exact(path) | StringMatch::Prefix(path) = &uri
        && !path.starts_with('/')
    {
        view.fail(format!("`{path}`: a path begins with `/`"));
        return None;
    }
    Some(uri)
}

fn read_header_name(view: &View<'_>, name: &str) -> Option<String> {
    if name.starts_with('@') {
        let Some(path) = claim_path(name) else {
            view.fail(format!(
                "`{name}`: what a token says is asked for as `{CLAIMS}[NAME]`, or `{CLAIMS}[NAME][NAME]` within it"
            ));
            return None;
        };
        return Some(format!("{CLAIMS}[{}]", path.join("][")));
    }
    if let Some(field) = name.strip_prefix(':') {
        view.fail(format!(
            "`:{field}` is no header: use `uri`, `method` or `authority`"
        ));
        return None;
    }
    if !is_token(name) {
        view.fail(format!("`{name}` is no header name"));
        return None;
    }
    Some(name.to_ascii_lowercase())
}
