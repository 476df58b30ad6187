mod condition;
mod connection;
mod cors;
mod delegate;
mod destination;
mod mirror;
mod policy;

use std::time::Duration;

use crate::diagnostic::At;
use crate::host::Host;
use crate::meta::{ExportTo, check_name};
use crate::view::{Object, Shape, View, first_duplicate};

pub use self::condition::{HttpMatch, claim_path};
use self::connection::Of;
pub use self::connection::{ConnectionMatch, ConnectionRoute};
pub use self::cors::CorsPolicy;
pub use self::delegate::{Delegate, merge_rules};
use self::destination::read_destinations;
pub use self::destination::{Destination, DirectResponse, WeightedDestination};
pub use self::mirror::Mirror;
pub use self::policy::{Abort, Fault, HeaderOperations, Headers, Redirect, Retries, Rewrite};

/// Routing rules of some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The hosts; short names are resolved in the resource's namespace already. Without any, its rules are for others to
    /// delegate to.
    pub hosts: Vec<Host>,
    /// Where the rules hold.
    pub gateways: Vec<GatewayRef>,
    /// The rules for requests; the first that matches wins.
    pub http: Vec<HttpRoute>,
    /// Those for TLS that is passed through, by the name that the client asks for.
    pub tls: Vec<ConnectionRoute>,
    /// Those for other connections.
    pub tcp: Vec<ConnectionRoute>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// By whose rules it is understood.
    pub semantics: Semantics,
}

/// By whose rules routes are understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Semantics {
    /// Rules are asked in the order in which they are written; a destination that there is not is 503.
    #[default]
    Istio,
    /// Of all rules for a host the most specific is asked first; a destination that there is not is 500.
    GatewayApi,
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
    /// The time for the whole exchange; zero is no limit, and so is none.
    pub timeout: Option<Duration>,
    /// When a request is tried again, if it says that.
    pub retries: Option<Retries>,
    /// What is injected before a request is forwarded.
    pub fault: Option<Fault>,
    /// What is made of path and host.
    pub rewrite: Option<Rewrite>,
    /// What is changed about headers.
    pub headers: Headers,
    /// Where copies of requests go.
    pub mirrors: Vec<Mirror>,
    /// Which pages of other origins may read answers.
    pub cors: Option<CorsPolicy>,
    /// Where it is written.
    pub at: At,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forwards to one of these, chosen by weight; those of weight zero are left out already.
    Route(Vec<WeightedDestination>),
    /// Answers.
    Respond(DirectResponse),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Leaves it to the rules of another VirtualService, as long as nobody has put them in its place.
    Delegate(Delegate),
}

const VIRTUAL_SERVICE: Shape = Shape {
    known: &["hosts", "gateways", "http", "tls", "tcp", "exportTo"],
    refused: &[],
};

const HTTP_ROUTE: Shape = Shape {
    known: &[
        "name",
        "match",
        "route",
        "timeout",
        "directResponse",
        "redirect",
        "rewrite",
        "fault",
        "headers",
        "retries",
        "mirror",
        "mirrors",
        "mirrorPercentage",
        "corsPolicy",
        "delegate",
    ],
    refused: &[(
        "mirrorPercent",
        "write `mirrorPercentage: {value: PERCENT}`",
    )],
};

impl VirtualService {
    pub(crate) fn read(view: &View<'_>, namespace: &str) -> Option<Self> {
        let object = view.object(&VIRTUAL_SERVICE)?;
        let gateways = read_gateways(&object, namespace);
        let in_mesh = gateways.is_empty() || gateways.contains(&GatewayRef::Mesh);

        let host_views = object.items("hosts");
        if host_views.is_empty() && !object.present(&["gateways", "tls", "tcp"]).is_empty() {
            object.fail(
                "without `hosts` it is a delegate, which has rules in `http` and nothing else: name the hosts, or leave \
                 out `gateways`, `tls` and `tcp`",
            );
        }
        let mut hosts: Vec<Host> = Vec::new();
        // As they are written, and in full.
        let mut names: Vec<Host> = Vec::new();
        for view in &host_views {
            let Some(host) = view.host() else { continue };
            if host.as_str() == "*" && in_mesh {
                view.fail(
                    "`*` is for gateways only: name the hosts, or list `gateways` without `mesh`",
                );
            }
            names.push(host.clone());
            let host = host.resolve(namespace);
            if hosts.contains(&host) {
                view.fail(format!("host `{host}` is listed twice"));
            }
            hosts.push(host);
        }
        names.extend_from_slice(&hosts);

        let http_views = rules(&object, "http");
        let (tls_views, tcp_views) = (rules(&object, "tls"), rules(&object, "tcp"));
        if object.present(&["http", "tls", "tcp"]).is_empty() {
            // Or one of the others, but most have this one.
            object.require("http");
        }
        let is_delegate = host_views.is_empty();
        let read = |view| HttpRoute::read(view, namespace, is_delegate);
        let http: Vec<_> = http_views.iter().filter_map(read).collect();
        let claim = |rule: &HttpRoute| rule.matches.iter().find_map(HttpMatch::claim).cloned();
        if !is_delegate
            && (gateways.iter()).all(|gateway| *gateway == GatewayRef::Mesh)
            && let Some(claim) = http.iter().find_map(claim)
        {
            object.fail(format!(
                "`{claim}`: only gateways route by what tokens say; list `gateways`, or ask for the claim in an \
                 AuthorizationPolicy by `request.auth.claims[…]`"
            ));
        }
        let tls = |view| ConnectionRoute::read(view, Of::Tls, namespace, &names);
        let tcp = |view| ConnectionRoute::read(view, Of::Tcp, namespace, &names);
        Some(Self {
            http,
            tls: tls_views.iter().filter_map(tls).collect(),
            tcp: tcp_views.iter().filter_map(tcp).collect(),
            hosts,
            gateways: if gateways.is_empty() {
                vec![GatewayRef::Mesh]
            } else {
                gateways
            },
            export_to: ExportTo::read(&object),
            semantics: Semantics::Istio,
        })
    }
}

/// The rules of one kind, which are there if the field is.
fn rules<'a>(object: &Object<'a>, field: &str) -> Vec<View<'a>> {
    let items = object.items(field);
    if object.get(field).is_some() && items.is_empty() {
        object.fail(format!("`{field}` must hold at least one rule"));
    }
    items
}

impl HttpRoute {
    fn read(view: &View<'_>, namespace: &str, is_delegate: bool) -> Option<Self> {
        let object = view.object(&HTTP_ROUTE)?;
        let name = object.optional("name", View::text)?.unwrap_or_default();
        let matches = object.items("match");
        let matches: Vec<_> = matches
            .iter()
            .filter_map(|view| HttpMatch::read(view, namespace))
            .collect();
        let timeout = object.optional("timeout", View::duration)?;
        let retries = object.optional("retries", Retries::read)?;
        let fault = object.optional("fault", Fault::read)?;
        let mut rewrite = object.optional("rewrite", Rewrite::read)?;
        let mut headers = object
            .optional("headers", Headers::read)?
            .unwrap_or_default();
        if let Some(host) = headers.take_host() {
            let rewrite = rewrite.get_or_insert_default();
            if rewrite.authority.replace(host).is_some() {
                object.fail("the host is set twice: in `headers` and in `rewrite`");
                return None;
            }
        }
        let mirrors = mirror::read(&object, namespace)?;
        let cors = object.optional("corsPolicy", CorsPolicy::read)?;
        let actions = object.present(&["route", "directResponse", "redirect", "delegate"]);
        let is_forwarded = matches!(actions.as_slice(), ["route" | "delegate"]);
        if !is_forwarded && (fault.is_some() || rewrite.is_some()) {
            object.fail("`fault` and `rewrite` go with `route` only");
            return None;
        }
        if is_delegate && let Some(view) = object.get("delegate") {
            view.fail(
                "a VirtualService without `hosts` is a delegate itself, and delegates nothing",
            );
            return None;
        }
        let action = match actions.as_slice() {
            ["route"] => Action::Route(read_destinations(object.get("route")?, namespace)?),
            ["directResponse"] => {
                Action::Respond(DirectResponse::read(object.get("directResponse")?)?)
            }
            ["redirect"] => Action::Redirect(Redirect::read(object.get("redirect")?)?),
            ["delegate"] => Action::Delegate(Delegate::read(object.get("delegate")?, namespace)?),
            [] => {
                let what = "the rule does nothing: give it `route`, `directResponse`, `redirect` or `delegate`";
                object.fail(what);
                return None;
            }
            _ => {
                object.fail(
                    "`route`, `directResponse`, `redirect` and `delegate` exclude each other",
                );
                return None;
            }
        };
        Some(Self {
            name,
            matches,
            action,
            timeout,
            retries,
            fault,
            rewrite,
            headers,
            mirrors,
            cors,
            at: At(view.at()),
        })
    }
}

pub(super) fn read_gateways(object: &Object<'_>, namespace: &str) -> Vec<GatewayRef> {
    let items = object.items("gateways");
    let mut gateways = Vec::with_capacity(items.len());
    for item in &items {
        let Some(text) = item.some_text() else {
            continue;
        };
        let (of, name) = match text.split_once('/') {
            None if text == "mesh" => {
                gateways.push(GatewayRef::Mesh);
                continue;
            }
            None => (namespace, text.as_str()),
            Some((".", name)) => (namespace, name),
            Some(parts) => parts,
        };
        // What no resource can be called is ours: the Gateways that stand for those of other kinds, who have rules of
        // their own about who may be attached to them.
        if !check_name(item, of) || !check_name(item, name) {
            continue;
        }
        gateways.push(GatewayRef::Named {
            namespace: of.to_owned(),
            name: name.to_owned(),
            at: At(item.at()),
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
