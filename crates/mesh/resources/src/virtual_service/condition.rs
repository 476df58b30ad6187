use super::{GatewayRef, read_gateways};
use crate::meta::Labels;
use crate::string_match::StringMatch;
use crate::view::{Object, Shape, View, is_token};

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
    /// Headers by lower-case name; `None` is a header that is there, whatever its value.
    pub headers: Vec<(String, Option<StringMatch>)>,
    /// Headers by lower-case name that must not be there, or not have such a value.
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
    if name.starts_with("@request.auth") {
        view.fail(
            "a route is chosen before tokens are read: match the claim in an AuthorizationPolicy by \
             `request.auth.claims[…]`, or the header that `outputClaimToHeaders` makes of it behind the gateway",
        );
        return None;
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
