use std::time::Duration;

use crate::diagnostic::At;
use crate::host::Host;
use crate::meta::{ExportTo, Labels};
use crate::string_match::StringMatch;
use crate::view::{Object, Shape, View, first_duplicate};

/// Routing rules of some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The hosts; short names are resolved in the resource's namespace already.
    pub hosts: Vec<Host>,
    /// Where the rules hold.
    pub gateways: Vec<GatewayRef>,
    /// The rules; the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Who sees it.
    pub export_to: ExportTo,
}

/// Where routing rules hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayRef {
    /// `mesh`: in all sidecars.
    Mesh,
    /// At a gateway.
    Named {
        /// The Gateway's namespace.
        namespace: String,
        /// The Gateway's name.
        name: String,
        /// Where it is named.
        at: At,
    },
}

/// A rule for HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRoute {
    /// Its name; may be empty.
    pub name: String,
    /// The conditions: one must hold, none is always true.
    pub matches: Vec<HttpMatch>,
    /// What to do.
    pub action: Action,
    /// The time for the whole exchange; `None` is no limit.
    pub timeout: Option<Duration>,
    /// Where it is written.
    pub at: At,
}

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
    /// The port that is asked for.
    pub port: Option<u16>,
    /// The caller's labels.
    pub source_labels: Labels,
    /// The caller's namespace.
    pub source_namespace: Option<String>,
    /// Where the condition can hold; empty is wherever the resource says.
    pub gateways: Vec<GatewayRef>,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forwards to one of these, chosen by weight; those of weight zero are left out already.
    Route(Vec<WeightedDestination>),
    /// Answers.
    Respond(DirectResponse),
}

/// An answer that no workload gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    /// The status code.
    pub status: u16,
    /// The body; may be empty.
    pub body: String,
}

/// A destination and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedDestination {
    /// The destination.
    pub destination: Destination,
    /// Its share of the sum of all weights.
    pub weight: u32,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The service; a short name is resolved already.
    pub host: Host,
    /// The subset of its workloads; empty is all.
    pub subset: String,
    /// The service's port; may be left out when it has only one.
    pub port: Option<u16>,
    /// Where it is written.
    pub at: At,
}

const VIRTUAL_SERVICE: Shape = Shape {
    known: &["hosts", "gateways", "http", "exportTo"],
    refused: &[
        ("tls", "TLS is not routed by its server name yet"),
        ("tcp", "TCP is not routed yet"),
    ],
};

const HTTP_ROUTE: Shape = Shape {
    known: &[
        "name",
        "match",
        "route",
        "timeout",
        "directResponse",
        "retries",
    ],
    refused: &[
        ("redirect", "redirects are not supported yet"),
        ("rewrite", "paths and authorities are not rewritten yet"),
        ("delegate", "put the delegate's rules here"),
        ("fault", "there is no fault injection yet"),
        ("mirror", "requests are not mirrored yet"),
        ("mirrors", "requests are not mirrored yet"),
        ("mirrorPercent", "requests are not mirrored yet"),
        ("mirror_percent", "requests are not mirrored yet"),
        ("mirrorPercentage", "requests are not mirrored yet"),
        ("corsPolicy", "there is no CORS support yet"),
        ("headers", "headers are not edited yet"),
    ],
};

const MATCH: Shape = Shape {
    known: &[
        "name",
        "uri",
        "method",
        "authority",
        "headers",
        "port",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
    ],
    refused: &[
        ("scheme", "the scheme is always http, remove it"),
        ("queryParams", "the query is not matched yet"),
        ("withoutHeaders", "absent headers are not matched yet"),
        ("ignoreUriCase", "paths are matched with their case"),
        ("statPrefix", "there are no counters for single routes yet"),
    ],
};

const WEIGHTED: Shape = Shape {
    known: &["destination", "weight"],
    refused: &[("headers", "headers are not edited yet")],
};

const DESTINATION: Shape = Shape {
    known: &["host", "subset", "port"],
    refused: &[],
};

impl VirtualService {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&VIRTUAL_SERVICE)?;
        let gateways = read_gateways(&object, namespace);
        let in_mesh = gateways.is_empty() || gateways.contains(&GatewayRef::Mesh);

        let host_views = object.require("hosts").map(View::items).unwrap_or_default();
        if object.get("hosts").is_some() && host_views.is_empty() {
            object.fail("`hosts` must name at least one host");
        }
        let mut hosts: Vec<Host> = Vec::new();
        for view in &host_views {
            let Some(host) = view.host() else { continue };
            if host.as_str() == "*" && in_mesh {
                view.fail(
                    "`*` is for gateways only: name the hosts, or list `gateways` without `mesh`",
                );
            }
            let host = host.resolve(namespace);
            if hosts.contains(&host) {
                view.fail(format!("host `{host}` is listed twice"));
            }
            hosts.push(host);
        }

        let http_views = object.require("http").map(View::items).unwrap_or_default();
        if object.get("http").is_some() && http_views.is_empty() {
            object.fail("`http` must hold at least one rule");
        }
        let read = |view| HttpRoute::read(view, namespace);
        Some(Self {
            hosts,
            http: http_views.iter().filter_map(read).collect(),
            gateways: if gateways.is_empty() {
                vec![GatewayRef::Mesh]
            } else {
                gateways
            },
            export_to: ExportTo::read(&object),
        })
    }
}

impl HttpRoute {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&HTTP_ROUTE)?;
        let name = match object.get("name") {
            Some(name) => name.text()?,
            None => String::new(),
        };
        let matches = object.items("match");
        let matches: Vec<_> = matches
            .iter()
            .filter_map(|view| HttpMatch::read(view, namespace))
            .collect();
        let timeout = match object.get("timeout") {
            Some(timeout) => timeout.duration().filter(|timeout| !timeout.is_zero()),
            None => None,
        };
        if let Some(retries) = object.get("retries") {
            read_retries(retries);
        }
        let action = match object.present(&["route", "directResponse"]).as_slice() {
            ["route"] => Action::Route(read_destinations(object.get("route")?, namespace)?),
            ["directResponse"] => {
                Action::Respond(DirectResponse::read(object.get("directResponse")?)?)
            }
            [] => {
                object.fail("the rule does nothing: give it `route` or `directResponse`");
                return None;
            }
            _ => {
                object.fail("`route` and `directResponse` exclude each other");
                return None;
            }
        };
        Some(Self {
            name,
            matches,
            action,
            timeout,
            at: At(view.at()),
        })
    }
}

impl HttpMatch {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&MATCH)?;
        let condition = |name| object.get(name).map(StringMatch::read);
        let text = |name| object.get(name).map(View::some_text);
        let uri = match object.get("uri") {
            Some(uri) => Some(read_uri(uri)?),
            None => None,
        };
        let mut headers = Vec::new();
        if let Some(view) = object.get("headers") {
            for (key, value) in view.entries() {
                let name = read_header_name(&value, &key.text)?;
                headers.push((name, StringMatch::read_or_present(&value)?));
            }
        }
        let port = match object.get("port") {
            Some(port) => Some(port.port()?),
            None => None,
        };
        Some(Self {
            name: text("name").unwrap_or_else(|| Some(String::new()))?,
            uri,
            method: condition("method").transpose_option()?,
            authority: condition("authority").transpose_option()?,
            headers,
            port,
            source_labels: object
                .get("sourceLabels")
                .map(View::text_map)
                .unwrap_or_default(),
            source_namespace: text("sourceNamespace").transpose_option()?,
            gateways: read_gateways(&object, namespace),
        })
    }
}

/// `Option<Option<T>>` where the outer one says "written" and the inner one "valid".
trait TransposeOption<T> {
    /// `None` when it is written and invalid.
    fn transpose_option(self) -> Option<Option<T>>;
}

impl<T> TransposeOption<T> for Option<Option<T>> {
    fn transpose_option(self) -> Option<Option<T>> {
        match self {
            Some(Some(value)) => Some(Some(value)),
            Some(None) => None,
            None => Some(None),
        }
    }
}

impl DirectResponse {
    /// Envoy's own limit for inline bodies.
    const MAX_BODY: usize = 4096;

    fn read(view: &View<'_>) -> Option<Self> {
        const RESPONSE: Shape = Shape {
            known: &["status", "body"],
            refused: &[],
        };
        const BODY: Shape = Shape {
            known: &["string"],
            refused: &[("bytes", "write the body as `string`")],
        };
        let object = view.object(&RESPONSE)?;
        let status = object.require("status")?.number(200, 599)?;
        let body = match object.get("body") {
            Some(body) => {
                let object = body.object(&BODY)?;
                let text = object.require("string")?.text()?;
                if text.len() > Self::MAX_BODY {
                    body.fail(format!("the body is longer than {} bytes", Self::MAX_BODY));
                    return None;
                }
                text
            }
            None => String::new(),
        };
        Some(Self {
            status: u16::try_from(status).ok()?,
            body,
        })
    }
}

impl Destination {
    fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        const PORT: Shape = Shape {
            known: &["number"],
            refused: &[],
        };
        let object = view.object(&DESTINATION)?;
        let host = object.require("host")?;
        let name = host.host()?;
        if name.is_wildcard() {
            host.fail("a destination is one service, not a wildcard");
            return None;
        }
        let subset = match object.get("subset") {
            Some(subset) => subset.some_text()?,
            None => String::new(),
        };
        let port = match object.get("port") {
            Some(port) => Some(port.object(&PORT)?.require("number")?.port()?),
            None => None,
        };
        Some(Self {
            host: name.resolve(namespace),
            subset,
            port,
            at: At(view.at()),
        })
    }
}

fn read_destinations(view: &View<'_>, namespace: &str) -> Option<Vec<WeightedDestination>> {
    let items = view.items();
    let mut destinations = Vec::with_capacity(items.len());
    for item in &items {
        let object = item.object(&WEIGHTED)?;
        let destination = Destination::read(object.require("destination")?, namespace)?;
        let weight = match object.get("weight") {
            Some(weight) => weight.u32()?,
            None => 0,
        };
        destinations.push(WeightedDestination {
            destination,
            weight,
        });
    }
    match destinations.as_mut_slice() {
        [] => {
            view.fail("`route` must hold at least one destination");
            return None;
        }
        // A single destination gets everything, whatever its weight.
        [only] => only.weight = only.weight.max(1),
        _ => {
            let total: u64 = destinations.iter().map(|d| u64::from(d.weight)).sum();
            if total == 0 {
                view.fail("the weights add up to 0: give each destination its `weight`");
                return None;
            }
            if total > u64::from(u32::MAX) {
                view.fail(format!(
                    "the weights add up to {total}, the limit is {}",
                    u32::MAX
                ));
                return None;
            }
            destinations.retain(|destination| destination.weight > 0);
        }
    }
    Some(destinations)
}

/// Retries are off, which users may also say.
fn read_retries(view: &View<'_>) {
    const RETRIES: Shape = Shape {
        known: &["attempts"],
        refused: &[
            ("perTryTimeout", "requests are not retried yet"),
            ("retryOn", "requests are not retried yet"),
            ("retryRemoteLocalities", "requests are not retried yet"),
            ("retryIgnorePreviousHosts", "requests are not retried yet"),
            ("backoff", "requests are not retried yet"),
        ],
    };
    let Some(object) = view.object(&RETRIES) else {
        return;
    };
    if let Some(attempts) = object.require("attempts")
        && attempts
            .number(0, 1 << 16)
            .is_some_and(|attempts| attempts > 0)
    {
        attempts.fail("requests are not retried yet: write 0, or leave `retries` out");
    }
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
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.starts_with("@request.auth") {
        view.fail("claims of JSON web tokens are not matched yet");
        return None;
    }
    if let Some(field) = name.strip_prefix(':') {
        view.fail(format!(
            "`:{field}` is no header: use `uri`, `method` or `authority`"
        ));
        return None;
    }
    if name.is_empty() || !name.bytes().all(token) {
        view.fail(format!("`{name}` is no header name"));
        return None;
    }
    Some(name.to_ascii_lowercase())
}

fn read_gateways(object: &Object<'_>, namespace: &str) -> Vec<GatewayRef> {
    let items = object.items("gateways");
    let mut gateways = Vec::with_capacity(items.len());
    for item in &items {
        let Some(text) = item.some_text() else {
            continue;
        };
        gateways.push(match text.split_once('/') {
            None if text == "mesh" => GatewayRef::Mesh,
            None => GatewayRef::Named {
                namespace: namespace.to_owned(),
                name: text,
                at: At(item.at()),
            },
            Some((".", name)) => GatewayRef::Named {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                at: At(item.at()),
            },
            Some((namespace, name)) => GatewayRef::Named {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                at: At(item.at()),
            },
        });
    }
    let key = |gateway: &GatewayRef| match gateway {
        GatewayRef::Mesh => None,
        GatewayRef::Named {
            namespace, name, ..
        } => Some((namespace.clone(), name.clone())),
    };
    if first_duplicate(&gateways, key).is_some() {
        object.fail("a gateway is listed twice");
    }
    gateways
}
