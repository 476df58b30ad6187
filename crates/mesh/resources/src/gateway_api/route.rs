use std::time::Duration;

use super::gateway::read_hostname;
use super::{BackendRef, Filters, ParentRef, grpc_route, http_route, items_up_to};
use crate::diagnostic::At;
use crate::host::Host;
use crate::kind::Kind;
use crate::meta::Meta;
use crate::view::{Object, Shape, View, first_duplicate};
use crate::virtual_service::{HttpMatch, Retries};

/// HTTPRoute, GRPCRoute, TLSRoute or TCPRoute: which of them, its resource's kind says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What it is attached to.
    pub parents: Vec<ParentRef>,
    /// The hosts that it is for; none are those of the listeners. Of a TLSRoute, what clients ask for by TLS.
    pub hostnames: Vec<Host>,
    /// What it does.
    pub rules: Rules,
}

/// The rules of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Those for requests.
    Requests(Vec<RequestRule>),
    /// Where connections go.
    Connections(Vec<BackendRef>),
}

/// A rule for requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRule {
    /// Its name; may be empty.
    pub name: String,
    /// The conditions, at least one: one of them must hold.
    pub matches: Vec<HttpMatch>,
    /// What is done.
    pub filters: Filters,
    /// Where requests go.
    pub backends: Vec<BackendRef>,
    /// `timeouts.request`; none is no limit.
    pub timeout: Option<Duration>,
    /// `timeouts.backendRequest`: the time for one attempt.
    pub backend_timeout: Option<Duration>,
    /// When a request is tried again, if it says that.
    pub retries: Option<Retries>,
    /// Where it is written.
    pub at: At,
}

const REQUESTS: Shape = Shape {
    known: &["parentRefs", "hostnames", "rules"],
    refused: &[("useDefaultGateways", "name the Gateway in `parentRefs`")],
};

impl Route {
    pub(crate) fn read(view: &View<'_>, meta: &Meta) -> Option<Self> {
        const CONNECTIONS: Shape = Shape {
            known: &["parentRefs", "rules"],
            refused: REQUESTS.refused,
        };
        let namespace = meta.namespace.as_str();
        let object = view.object(match meta.kind {
            Kind::TcpRoute => &CONNECTIONS,
            _ => &REQUESTS,
        })?;
        let parents = read_parents(&object, namespace)?;
        let hostnames = items_up_to(&object, "hostnames", 16);
        let hostnames: Vec<_> = hostnames.iter().filter_map(read_hostname).collect();
        let rules = match meta.kind {
            Kind::HttpRoute => Rules::Requests(http_route::read_rules(&object, namespace)?),
            Kind::GrpcRoute => Rules::Requests(grpc_route::read_rules(&object, namespace)?),
            kind => {
                if kind == Kind::TlsRoute && hostnames.is_empty() {
                    object.fail("`hostnames` must name at least one host");
                }
                Rules::Connections(read_connections(&object, namespace)?)
            }
        };
        Some(Self {
            parents,
            hostnames,
            rules,
        })
    }
}

fn read_parents(object: &Object<'_>, namespace: &str) -> Option<Vec<ParentRef>> {
    let items = items_up_to(object, "parentRefs", 32);
    let parents: Vec<_> = items
        .iter()
        .map(|view| ParentRef::read(view, namespace))
        .collect::<Option<_>>()?;
    let place = |one: &ParentRef| ParentRef {
        at: At::default(),
        ..one.clone()
    };
    if first_duplicate(&parents, place).is_some() {
        object.fail("a parent is listed twice: give each another `sectionName` or `port`");
    }
    Some(parents)
}

/// The one rule that routes of connections have.
fn read_connections(object: &Object<'_>, namespace: &str) -> Option<Vec<BackendRef>> {
    const RULE: Shape = Shape {
        known: &["name", "backendRefs"],
        refused: &[],
    };
    let rules = object.require("rules")?.items();
    let [rule] = rules.as_slice() else {
        object.fail("`rules` must hold exactly one rule");
        return None;
    };
    let rule = rule.object(&RULE)?;
    rule.require("backendRefs")?;
    let backends = read_backends(&rule, namespace)?;
    if backends.is_empty() {
        rule.fail("`backendRefs` must name at least one backend");
    }
    for backend in &backends {
        if backend.authority.is_some() || backend.headers != crate::Headers::default() {
            rule.fail("connections have no headers: `filters` are for requests");
        }
    }
    Some(backends)
}

pub(super) fn read_backends(object: &Object<'_>, namespace: &str) -> Option<Vec<BackendRef>> {
    let items = items_up_to(object, "backendRefs", 16);
    let read = |view: &View<'_>| BackendRef::read(view, namespace);
    items.iter().map(read).collect()
}
