//! xDS messages in a readable form: no defaults, and what is packed into `Any` is unpacked.

use std::collections::BTreeMap;
use std::fmt::Debug;

use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::trace::v3::tracing::http::ConfigType;
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::JwtAuthentication;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::google::protobuf::Any;
use periplus_control::Generated;
use prost::{Message, Name};

pub(crate) fn all(generated: &Generated) -> String {
    let mut text = String::new();
    for listener in &generated.listeners {
        text += &format!("== LDS {}\n{}", listener.name, render_listener(listener));
    }
    for routes in &generated.routes {
        text += &format!("== RDS {}\n{}", routes.name, plain(routes));
    }
    for cluster in &generated.clusters {
        text += &format!("== CDS {}\n{}", cluster.name, plain(cluster));
    }
    for endpoints in &generated.endpoints {
        text += &format!("== EDS {}\n{}", endpoints.cluster_name, plain(endpoints));
    }
    for note in generated.told() {
        text += &format!("== note: {note}\n");
    }
    text
}

/// The listener, its connection manager, and the tracer's configuration.
pub(crate) fn render_listener(listener: &Listener) -> String {
    let mut listener = listener.clone();
    let mut text = String::new();
    let chains = listener.filter_chains.iter_mut();
    for chain in chains.chain(&mut listener.default_filter_chain) {
        for filter in chain.filters.drain(..) {
            let Some(filter::ConfigType::TypedConfig(any)) = filter.config_type else {
                panic!("{}: no configuration", filter.name)
            };
            if any.type_url == TcpProxy::type_url() {
                text += &format!("-- filter {} of {:?}\n", filter.name, chain.name);
                text += &plain(&unpack::<TcpProxy>(&any));
                continue;
            }
            let mut manager: HttpConnectionManager = unpack(&any);
            text += &format!("-- filter {}\n", filter.name);
            let tracer = manager
                .tracing
                .as_mut()
                .and_then(|tracing| tracing.provider.take());
            for filter in manager.http_filters.drain(..) {
                let Some(http_filter::ConfigType::TypedConfig(any)) = filter.config_type else {
                    panic!("{}: no configuration", filter.name)
                };
                text += &format!("http filter {}: {}\n", filter.name, any.type_url);
                match &any.type_url {
                    url if *url == Rbac::type_url() => text += &render_rbac(unpack(&any)),
                    url if *url == JwtAuthentication::type_url() => {
                        text += &render_tokens(unpack(&any));
                    }
                    _ => assert!(any.value.is_empty()),
                }
            }
            text += &plain(&manager);
            if let Some(tracer) = tracer {
                let Some(ConfigType::TypedConfig(any)) = tracer.config_type else {
                    panic!("{}: no configuration", tracer.name)
                };
                text += &format!("-- tracer {}\n", tracer.name);
                text += &match tracer.name.as_str() {
                    "envoy.tracers.zipkin" => plain(&unpack::<ZipkinConfig>(&any)),
                    _ => plain(&unpack::<OpenTelemetryConfig>(&any)),
                };
            }
        }
    }
    plain(&listener) + &text
}

/// The issuers in the order of their names.
fn render_tokens(mut filter: JwtAuthentication) -> String {
    let providers: BTreeMap<_, _> = std::mem::take(&mut filter.providers).into_iter().collect();
    let mut text = plain(&filter);
    for (name, provider) in providers {
        text += &format!("provider {name}\n{}", plain(&provider));
    }
    text
}

/// The policies in the order of their names.
fn render_rbac(mut filter: Rbac) -> String {
    let rules = [
        ("rules", filter.rules.take()),
        ("shadow rules", filter.shadow_rules.take()),
    ];
    let mut text = plain(&filter);
    for (kind, rules) in rules {
        let Some(rules) = rules else { continue };
        text += &format!("-- {kind}: {:?}\n", rules.action());
        let policies: BTreeMap<_, _> = rules.policies.into_iter().collect();
        for (name, policy) in policies {
            text += &format!("policy {name}\n{}", plain(&policy));
        }
    }
    text
}

pub(crate) fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(any.value.as_slice()).expect("it was encoded a moment ago")
}

fn plain(message: &impl Debug) -> String {
    const DEFAULTS: [&str; 11] = [
        ": None,",
        ": [],",
        ": {},",
        ": \"\",",
        ": 0,",
        ": false,",
        ": Default,",
        ": Auto,",
        ": Unknown,",
        ": ServiceUnavailable,",
        ": PassThroughInternalRedirect,",
    ];
    let mut lines: Vec<String> = Vec::new();
    // How many `Some(` and other wrappers are open: what they hold goes on their own line.
    let mut wrapped = 0;
    let mut joins = false;
    for line in format!("{message:#?}").lines() {
        if DEFAULTS.iter().any(|default| line.ends_with(default)) {
            continue;
        }
        let body = line.trim_start();
        if body == ")," || body == ")" {
            wrapped -= 1;
            continue;
        }
        let depth = (line.len() - body.len()) / 4 - wrapped;
        let opens = body.ends_with('(');
        wrapped += usize::from(opens);
        let body = body.strip_suffix("Some(").unwrap_or(body);
        match lines.last_mut() {
            Some(last) if joins => last.push_str(body),
            _ => lines.push("  ".repeat(depth) + body),
        }
        joins = opens;
        fold(&mut lines);
    }
    lines.join("\n") + "\n"
}

/// Puts a message of at most one plain field on one line.
fn fold(lines: &mut Vec<String>) {
    let is_end = |line: &String| matches!(line.trim(), "}" | "},");
    if let [.., open, end] = lines.as_mut_slice()
        && is_end(end)
        && open.ends_with('{')
    {
        *open += end.trim();
        lines.pop();
    } else if let [.., open, field, end] = lines.as_mut_slice()
        && is_end(end)
        && open.ends_with('{')
        && field.len() + open.len() < 110
        && field.ends_with(',')
        && !is_end(field)
    {
        let field = field.trim().trim_end_matches(',');
        *open = format!("{open} {field} {}", end.trim());
        lines.truncate(lines.len() - 2);
    }
}

/// Who gets a request: a line for each virtual host and each route.
pub(crate) fn routing(generated: &Generated) -> String {
    let mut text = String::new();
    for routes in &generated.routes {
        text += &format!("{}\n", routes.name);
        for host in &routes.virtual_hosts {
            text += &format!("  {}: {}\n", host.name, host.domains.join(" "));
            for route in &host.routes {
                let conditions = route.r#match.as_ref().expect("a match");
                let path = match conditions.path_specifier.as_ref().expect("a path") {
                    PathSpecifier::Prefix(prefix) => format!("{prefix}*"),
                    PathSpecifier::Path(path) => path.clone(),
                    PathSpecifier::SafeRegex(matcher) => format!("~{}", matcher.regex),
                    other => panic!("{other:?}"),
                };
                let headers = conditions.headers.len();
                let decorator = route.decorator.as_ref();
                let operation = decorator.map_or("-", |decorator| &decorator.operation);
                let target = target_of(route.action.as_ref().expect("an action"));
                let name = &route.name;
                text += &format!("    {path} +{headers} -> {target} ({name}, {operation})\n");
            }
        }
    }
    text
}

fn target_of(action: &Action) -> String {
    match action {
        Action::Route(action) => match action.cluster_specifier.as_ref().expect("a cluster") {
            ClusterSpecifier::Cluster(name) => name.clone(),
            ClusterSpecifier::WeightedClusters(weighted) => {
                let parts = weighted.clusters.iter().map(|cluster| {
                    let weight = cluster.weight.map_or(0, |weight| weight.value);
                    format!("{weight} {}", cluster.name)
                });
                parts.collect::<Vec<_>>().join(" + ")
            }
            other => panic!("{other:?}"),
        },
        Action::DirectResponse(response) => format!("status {}", response.status),
        other => panic!("{other:?}"),
    }
}
