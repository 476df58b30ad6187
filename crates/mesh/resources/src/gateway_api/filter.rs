use super::{BackendRef, cors, items_up_to};
use crate::view::{Object, Shape, View};
use crate::virtual_service::{CorsPolicy, HeaderOperations, Headers};

/// `filters` of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// What is changed about headers.
    pub headers: Headers,
    /// Where the client is sent, in place of a backend.
    pub redirect: Option<Redirection>,
    /// What is made of path and host.
    pub rewrite: Option<UrlRewrite>,
    /// Where copies of requests go.
    pub mirrors: Vec<RequestMirror>,
    /// Which pages of other origins may read answers.
    pub cors: Option<CorsPolicy>,
}

/// `RequestRedirect`. What it does not say is that of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathChange>,
    /// The port; if it does not say, that of the scheme, else that of the listener.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// `URLRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlRewrite {
    /// In place of the host.
    pub hostname: Option<String>,
    /// In place of the path.
    pub path: Option<PathChange>,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// `ReplaceFullPath`: this.
    Full(String),
    /// `ReplacePrefixMatch`: this, in place of the prefix that the rule asks for.
    Prefix(String),
}

/// `RequestMirror`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMirror {
    /// Where to.
    pub backend: BackendRef,
    /// Of so many requests, of a million.
    pub share: u32,
}

/// The kinds of filters: the field that describes each, if routes can have it.
const KINDS: [(&str, &str); 6] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("RequestMirror", "requestMirror"),
    ("CORS", "cors"),
];
/// Those of a GRPCRoute.
const OF_GRPC: [&str; 3] = [KINDS[0].0, KINDS[1].0, KINDS[4].0];
/// Those of a backend.
const OF_BACKENDS: [&str; 2] = [KINDS[0].0, KINDS[1].0];

const FILTER: Shape = Shape {
    known: &[
        "type",
        "requestHeaderModifier",
        "responseHeaderModifier",
        "requestRedirect",
        "urlRewrite",
        "requestMirror",
        "cors",
    ],
    refused: &[
        ("extensionRef", "there are no filters of other kinds"),
        (
            "externalAuth",
            "write an AuthorizationPolicy with `action: CUSTOM`",
        ),
    ],
};

impl Filters {
    /// Those of an HTTPRoute's rule.
    pub(super) fn read(object: &Object<'_>, namespace: &str) -> Option<Self> {
        let all = KINDS.map(|(kind, _)| kind);
        Self::read_of(object, namespace, &all)?.with_host(object)
    }

    /// Those of a GRPCRoute's rule.
    pub(super) fn read_of_grpc(object: &Object<'_>, namespace: &str) -> Option<Self> {
        Self::read_of(object, namespace, &OF_GRPC)?.with_host(object)
    }

    /// The host is no header, but where the request goes.
    fn with_host(mut self, object: &Object<'_>) -> Option<Self> {
        if let Some(host) = self.headers.take_host() {
            let rewrite = self.rewrite.get_or_insert_default();
            if rewrite.hostname.replace(host).is_some() {
                object
                    .fail("the host is set twice: by `RequestHeaderModifier` and by `URLRewrite`");
                return None;
            }
        }
        Some(self)
    }

    /// Those of a backend.
    pub(super) fn read_of_backend(object: &Object<'_>, namespace: &str) -> Option<Headers> {
        Some(Self::read_of(object, namespace, &OF_BACKENDS)?.headers)
    }

    fn read_of(object: &Object<'_>, namespace: &str, allowed: &[&str]) -> Option<Self> {
        let mut filters = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for view in items_up_to(object, "filters", 16) {
            let errors = view.log().count();
            let filter = view.object(&FILTER)?;
            if view.log().count() > errors {
                return None;
            }
            let kind = filter.require("type")?;
            let written = kind.some_text()?;
            let Some((name, field)) = KINDS.iter().find(|(name, _)| *name == written) else {
                kind.fail(format!(
                    "filter `{written}` is not supported; valid: {}",
                    crate::suggest::list(allowed)
                ));
                return None;
            };
            if !allowed.contains(name) {
                kind.fail(format!(
                    "filter `{written}` is not supported here; valid: {}",
                    crate::suggest::list(allowed)
                ));
                return None;
            }
            if *name != "RequestMirror" && seen.contains(name) {
                kind.fail(format!("filter `{name}` may be given once only"));
                return None;
            }
            seen.push(name);
            let others = filter.present(&FILTER.known[1..]);
            if let Some(other) = others.iter().find(|other| *other != field) {
                filter.fail(format!("`{other}` does not go with `type: {name}`"));
                return None;
            }
            filters.add(filter.require(field)?, (name, namespace))?;
        }
        if filters.redirect.is_some() && filters.rewrite.is_some() {
            object.fail("`RequestRedirect` and `URLRewrite` exclude each other");
            return None;
        }
        Some(filters)
    }

    fn add(&mut self, view: &View<'_>, (kind, namespace): (&str, &str)) -> Option<()> {
        match kind {
            "RequestHeaderModifier" => self.headers.request = read_headers(view, true)?,
            "ResponseHeaderModifier" => self.headers.response = read_headers(view, false)?,
            "RequestRedirect" => self.redirect = Some(Redirection::read(view)?),
            "URLRewrite" => self.rewrite = Some(UrlRewrite::read(view)?),
            "RequestMirror" => self.mirrors.push(RequestMirror::read(view, namespace)?),
            _ => self.cors = Some(cors::read(view)?),
        }
        Some(())
    }
}

fn read_headers(view: &View<'_>, of_requests: bool) -> Option<HeaderOperations> {
    const OPERATIONS: Shape = Shape {
        known: &["set", "add", "remove"],
        refused: &[],
    };
    const FIELD: Shape = Shape {
        known: &["name", "value"],
        refused: &[],
    };
    let object = view.object(&OPERATIONS)?;
    let fields = |name: &str| -> Option<Vec<(String, String)>> {
        let is_set = name == "set";
        let field = |view: &View<'_>| {
            let object = view.object(&FIELD)?;
            let (name, value) = (object.require("name")?, object.require("value")?);
            let key = name.some_text()?.to_ascii_lowercase();
            if key == "host" && is_set && of_requests {
                return Some((key, value.authority()?));
            }
            Some((name.changed_header()?, value.header_value()?))
        };
        let items = items_up_to(&object, name, 16);
        items.iter().map(field).collect()
    };
    let operations = HeaderOperations {
        set: fields("set")?,
        add: fields("add")?,
        remove: items_up_to(&object, "remove", 16)
            .iter()
            .map(View::changed_header)
            .collect::<Option<_>>()?,
    };
    Some(operations)
}

impl Redirection {
    fn read(view: &View<'_>) -> Option<Self> {
        const REDIRECT: Shape = Shape {
            known: &["scheme", "hostname", "path", "port", "statusCode"],
            refused: &[],
        };
        let object = view.object(&REDIRECT)?;
        let schemes = [("http", "http"), ("https", "https")];
        let scheme = object.optional("scheme", |view| view.choice(&schemes))?;
        let status = match object.get("statusCode") {
            Some(view) => {
                let code = view.number(300, 399)?;
                if !matches!(code, 301..=303 | 307 | 308) {
                    view.fail("expected 301, 302, 303, 307 or 308");
                    return None;
                }
                code as u16
            }
            None => 302,
        };
        Some(Self {
            scheme: scheme.map(str::to_owned),
            hostname: object.optional("hostname", read_precise)?,
            path: object.optional("path", PathChange::read)?,
            port: object.optional("port", View::port)?,
            status,
        })
    }
}

/// A name without a wildcard.
fn read_precise(view: &View<'_>) -> Option<String> {
    let host = view.host()?;
    if host.is_wildcard() {
        view.fail("requests go to one host, not to a wildcard");
        return None;
    }
    Some(host.to_string())
}

impl UrlRewrite {
    fn read(view: &View<'_>) -> Option<Self> {
        const REWRITE: Shape = Shape {
            known: &["hostname", "path"],
            refused: &[],
        };
        let object = view.object(&REWRITE)?;
        Some(Self {
            hostname: object.optional("hostname", read_precise)?,
            path: object.optional("path", PathChange::read)?,
        })
    }
}

impl PathChange {
    fn read(view: &View<'_>) -> Option<Self> {
        const PATH: Shape = Shape {
            known: &["type", "replaceFullPath", "replacePrefixMatch"],
            refused: &[],
        };
        let object = view.object(&PATH)?;
        let kinds = [("ReplaceFullPath", true), ("ReplacePrefixMatch", false)];
        let is_full = object.require("type")?.choice(&kinds)?;
        let (field, other) = match is_full {
            true => ("replaceFullPath", "replacePrefixMatch"),
            false => ("replacePrefixMatch", "replaceFullPath"),
        };
        if object.get(other).is_some() {
            object.fail(format!("`{other}` does not go with this `type`"));
            return None;
        }
        let value = object.require(field)?;
        let path = value.text()?;
        if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
            value.fail("may hold printable ASCII characters only");
            return None;
        }
        Some(match is_full {
            true => Self::Full(path),
            false => Self::Prefix(path),
        })
    }
}

impl RequestMirror {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const MIRROR: Shape = Shape {
            known: &["backendRef", "percent", "fraction"],
            refused: &[],
        };
        const FRACTION: Shape = Shape {
            known: &["numerator", "denominator"],
            refused: &[],
        };
        let object = view.object(&MIRROR)?;
        let share = match object.present(&["percent", "fraction"]).as_slice() {
            [] => 1_000_000,
            ["percent"] => object.get("percent")?.number(0, 100)? as u32 * 10_000,
            ["fraction"] => {
                let fraction = object.get("fraction")?.object(&FRACTION)?;
                let most = i64::from(i32::MAX);
                let numerator = fraction.require("numerator")?.number(0, most)?;
                let denominator = fraction.optional("denominator", |view| view.number(1, most))?;
                let denominator = denominator.unwrap_or(100);
                if numerator > denominator {
                    fraction.fail("`numerator` must not be greater than `denominator`");
                    return None;
                }
                (numerator * 1_000_000 / denominator) as u32
            }
            _ => {
                object.fail("`percent` and `fraction` exclude each other");
                return None;
            }
        };
        Some(Self {
            backend: BackendRef::read_simple(object.require("backendRef")?, namespace)?,
            share,
        })
    }
}
