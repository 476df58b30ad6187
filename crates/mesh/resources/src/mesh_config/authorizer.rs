use std::time::Duration;

use super::provider::{read_path, read_service};
use crate::diagnostic::At;
use crate::host::Host;
use crate::node::Key;
use crate::values::{check_fixed_value, check_header_name};
use crate::view::{Object, Shape, View};

/// A service that AuthorizationPolicies of `CUSTOM` ask: `envoyExtAuthzGrpc` or `envoyExtAuthzHttp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorizer {
    /// Its name.
    pub name: String,
    /// The service that it is reached by.
    pub service: Host,
    /// The service's port.
    pub port: u16,
    /// How long it may take.
    pub timeout: Duration,
    /// `failOpen`: what cannot be asked about is allowed.
    pub fails_open: bool,
    /// `statusOnError`: what clients get otherwise.
    pub status_on_error: Option<u16>,
    /// `includeRequestBodyInCheck`.
    pub body: Option<CheckedBody>,
    /// `clearRouteCache`: what it changes about a request may lead it to another route.
    pub clears_route: bool,
    /// What is special about one of HTTP; else gRPC is spoken.
    pub http: Option<HttpAuthorizer>,
    /// Where it is written.
    pub at: At,
}

/// How much of a body is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedBody {
    /// `maxRequestBytes`.
    pub most: u32,
    /// `allowPartialMessage`.
    pub may_be_cut: bool,
    /// `packAsBytes`.
    pub as_bytes: bool,
}

/// What is special about a service of HTTP. Names of headers may end with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAuthorizer {
    /// `pathPrefix`.
    pub path_prefix: String,
    /// `includeRequestHeadersInCheck`.
    pub told: Vec<String>,
    /// `includeAdditionalHeadersInCheck`.
    pub added: Vec<(String, String)>,
    /// `headersToUpstreamOnAllow`.
    pub upstream: Vec<String>,
    /// `headersToDownstreamOnDeny`.
    pub denied: Vec<String>,
    /// `headersToDownstreamOnAllow`.
    pub allowed: Vec<String>,
}

const GRPC: Shape = Shape {
    known: &[
        "service",
        "port",
        "timeout",
        "failOpen",
        "statusOnError",
        "includeRequestBodyInCheck",
        "clearRouteCache",
    ],
    refused: &[],
};
const HTTP: Shape = Shape {
    known: &[
        "service",
        "port",
        "timeout",
        "failOpen",
        "statusOnError",
        "includeRequestBodyInCheck",
        "pathPrefix",
        "includeRequestHeadersInCheck",
        "includeAdditionalHeadersInCheck",
        "headersToUpstreamOnAllow",
        "headersToDownstreamOnDeny",
        "headersToDownstreamOnAllow",
        "clearRouteCache",
    ],
    refused: &[(
        "includeHeadersInCheck",
        "its newer name is `includeRequestHeadersInCheck`",
    )],
};
/// Istio's, where nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// The most of a body that the proxy keeps.
const MOST_BODY: u32 = 1024 * 1024;

impl Authorizer {
    pub(super) fn read_grpc(name: String, view: &View<'_>) -> Option<Self> {
        Self::read(name, &view.object(&GRPC)?)
    }

    pub(super) fn read_http(name: String, view: &View<'_>) -> Option<Self> {
        let object = view.object(&HTTP)?;
        let texts = |field: &'static str| -> Vec<String> {
            let items = object.items(field);
            items.iter().filter_map(View::some_ascii).collect()
        };
        let path_prefix = object.optional("pathPrefix", read_path)?;
        let added = object.get("includeAdditionalHeadersInCheck");
        let http = HttpAuthorizer {
            path_prefix: path_prefix.unwrap_or_default(),
            told: texts("includeRequestHeadersInCheck"),
            added: added.map(read_added).unwrap_or_default(),
            upstream: texts("headersToUpstreamOnAllow"),
            denied: texts("headersToDownstreamOnDeny"),
            allowed: texts("headersToDownstreamOnAllow"),
        };
        Some(Self {
            http: Some(http),
            ..Self::read(name, &object)?
        })
    }

    fn read(name: String, object: &Object<'_>) -> Option<Self> {
        let (service, port) = read_service(object)?;
        let timeout = object.optional("timeout", View::duration)?;
        let fails_open = object.optional("failOpen", View::bool)?;
        let status_on_error = object.optional("statusOnError", |view| {
            let text = view.some_text()?;
            match text.parse() {
                Ok(status @ 200..600) => Some(status),
                _ => {
                    view.fail(format!(
                        "`{text}` is no status of an answer, such as `\"503\"`"
                    ));
                    None
                }
            }
        })?;
        Some(Self {
            name,
            service,
            port,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            fails_open: fails_open.unwrap_or(false),
            status_on_error,
            body: object.optional("includeRequestBodyInCheck", CheckedBody::read)?,
            clears_route: object
                .optional("clearRouteCache", View::bool)?
                .unwrap_or(false),
            http: None,
            at: At(object.view().at()),
        })
    }
}

/// Headers with fixed values, by name.
fn read_added(view: &View<'_>) -> Vec<(String, String)> {
    let entries = view.entries().into_iter();
    let header = |(key, value): (&Key, View<'_>)| {
        let name = value.checked(key.text.clone(), check_header_name)?;
        Some((name, value.checked(value.text()?, check_fixed_value)?))
    };
    let mut headers: Vec<_> = entries.filter_map(header).collect();
    headers.sort();
    headers
}

impl CheckedBody {
    fn read(view: &View<'_>) -> Option<Self> {
        const BODY: Shape = Shape {
            known: &["maxRequestBytes", "allowPartialMessage", "packAsBytes"],
            refused: &[],
        };
        let object = view.object(&BODY)?;
        let length = object.require("maxRequestBytes")?;
        let most = length.u32()?;
        if !(1..=MOST_BODY).contains(&most) {
            length.fail(format!("must be between 1 and {MOST_BODY}"));
            return None;
        }
        let flag = |name| object.optional(name, View::bool);
        Some(Self {
            most,
            may_be_cut: flag("allowPartialMessage")?.unwrap_or(false),
            as_bytes: flag("packAsBytes")?.unwrap_or(false),
        })
    }
}
