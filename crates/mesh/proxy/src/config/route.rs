//! `RouteConfiguration`: virtual hosts and what their routes do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::RoutingPriority;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterNotFoundResponseCode, ClusterSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier;

use super::check::{At, Refused, duration, flag, ignored, nothing_else, timeout};
use super::edits::{Level, take_edits};
use super::mirror::take_mirrors;
use super::{filters, hash_policy, limits, matcher, retry, rewrite, subset, tracing, upgrade};
use crate::snapshot::{
    Conditions, Decorator, Edits, Forward, GrpcTimeouts, LimitRule, Mirror, PathMatch, PerFilters,
    Redirect, Route, RouteAction, RouteLimits, RouteTable, VirtualHost, WeightedCluster, overlay,
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_MAX_BODY_BYTES: u32 = 4096;

/// What the routes of a virtual host take over from what is around them.
struct Around {
    max_body: u32,
    /// `most_specific_header_mutations_wins`.
    specific_wins: bool,
    table: Level,
    host: Level,
    /// What is wanted of filters.
    filters: PerFilters,
    /// The virtual host's.
    retry: Option<pb::RetryPolicy>,
    /// Those of all routes, and those of the virtual host.
    mirrors: [Vec<Mirror>; 2],
    /// The virtual host's.
    limits: Arc<[LimitRule]>,
}

impl Around {
    /// All levels in the order in which they apply.
    fn edits(&self, route: &Level) -> Option<Box<Edits>> {
        let mut levels = [route, &self.host, &self.table];
        if self.specific_wins {
            levels.reverse();
        }
        Level::join(&levels)
    }
}

pub(crate) fn compile(
    mut config: pb::RouteConfiguration,
    at: &At<'_>,
) -> Result<RouteTable, Refused> {
    let max_body = config.max_direct_response_body_size_bytes.take();
    let max_body = max_body.map_or(DEFAULT_MAX_BODY_BYTES, |value| value.value);
    let mut table = RouteTable {
        name: std::mem::take(&mut config.name),
        ignore_port: std::mem::take(&mut config.ignore_port_in_host_matching),
        ..RouteTable::default()
    };
    let hosts = std::mem::take(&mut config.virtual_hosts);
    let per_filter = std::mem::take(&mut config.typed_per_filter_config);
    table.filters = filters::per_filter(per_filter, &at.field("typed_per_filter_config"))?;
    let mut around = Around {
        max_body,
        specific_wins: std::mem::take(&mut config.most_specific_header_mutations_wins),
        table: take_edits!(config, at)?,
        host: Level::default(),
        filters: PerFilters::default(),
        retry: None,
        mirrors: [take_mirrors!(config, at), Vec::new()],
        limits: Arc::default(),
    };
    ignored!(config: validate_clusters, metadata);
    nothing_else(&config, at)?;

    let at_hosts = &at.field("virtual_hosts");
    let mut names = HashSet::new();
    for (index, mut host) in hosts.into_iter().enumerate() {
        let at = &at_hosts.index(index);
        if !names.insert(host.name.clone()) {
            let reason = format!("there is another virtual host {:?}", host.name);
            return Err(at.field("name").refuse(reason));
        }
        let domains = std::mem::take(&mut host.domains);
        if domains.is_empty() {
            return Err(at.field("domains").refuse("there must be at least one"));
        }
        for (number, domain) in domains.iter().enumerate() {
            add_domain(
                &mut table,
                domain,
                index,
                &at.field("domains").index(number),
            )?;
        }
        around.host = take_edits!(host, at)?;
        around.retry = host.retry_policy.take();
        let limits = std::mem::take(&mut host.rate_limits);
        around.limits = limits::compile(limits, &at.field("rate_limits"))?.into();
        around.mirrors[1] = take_mirrors!(host, at);
        around.filters.clone_from(&table.filters);
        let per_filter = std::mem::take(&mut host.typed_per_filter_config);
        let per_filter = filters::per_filter(per_filter, &at.field("typed_per_filter_config"))?;
        overlay(&mut around.filters, &per_filter);
        table.virtual_hosts.push(virtual_host(host, &around, at)?);
    }
    // Of several patterns that match, the longest wins.
    table
        .suffixes
        .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
    table
        .prefixes
        .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    Ok(table)
}

fn add_domain(
    table: &mut RouteTable,
    domain: &str,
    host: usize,
    at: &At<'_>,
) -> Result<(), Refused> {
    let domain = domain.to_ascii_lowercase();
    let taken = || {
        at.refuse(format!(
            "{domain:?} belongs to another virtual host already"
        ))
    };
    let unique = |list: &[(String, usize)], text: &str| {
        if list.iter().any(|(other, _)| other == text) {
            Err(taken())
        } else {
            Ok(())
        }
    };
    match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
        (Some(""), _) => {
            if table.any.replace(host).is_some() {
                return Err(taken());
            }
        }
        (Some(suffix), _) => {
            unique(&table.suffixes, suffix)?;
            table.suffixes.push((suffix.to_owned(), host));
        }
        (None, Some(prefix)) => {
            unique(&table.prefixes, prefix)?;
            table.prefixes.push((prefix.to_owned(), host));
        }
        (None, None) if domain.is_empty() => return Err(at.refuse("it must not be empty")),
        (None, None) => {
            if table.exact.insert(domain.clone(), host).is_some() {
                return Err(taken());
            }
        }
    }
    Ok(())
}

fn virtual_host(
    mut host: pb::VirtualHost,
    around: &Around,
    at: &At<'_>,
) -> Result<VirtualHost, Refused> {
    let mut routes = to_https(&mut host, at)?;
    let at_routes = &at.field("routes");
    for (index, one) in std::mem::take(&mut host.routes).into_iter().enumerate() {
        routes.push(Arc::new(route(one, around, &at_routes.index(index))?));
    }
    let compiled = VirtualHost {
        name: std::mem::take(&mut host.name),
        include_request_attempt_count: std::mem::take(&mut host.include_request_attempt_count),
        include_attempt_count_in_response: std::mem::take(
            &mut host.include_attempt_count_in_response,
        ),
        routes,
    };
    ignored!(host: metadata, virtual_clusters, per_request_buffer_limit_bytes, request_body_buffer_limit);
    nothing_else(&host, at)?;
    Ok(compiled)
}

/// The routes in front of all others that send clients to `https`, if they have to use it. No client is an internal one:
/// as in Envoy, none is where `internal_address_config` names nobody.
fn to_https(host: &mut pb::VirtualHost, at: &At<'_>) -> Result<Vec<Arc<Route>>, Refused> {
    match TlsRequirementType::try_from(std::mem::take(&mut host.require_tls)) {
        Ok(TlsRequirementType::None) => return Ok(Vec::new()),
        Ok(TlsRequirementType::All | TlsRequirementType::ExternalOnly) => {}
        Err(_) => return Err(at.field("require_tls").refuse("is not known")),
    }
    let route = |path| Route {
        name: String::new(),
        path,
        headers: Vec::new(),
        conditions: Some(Box::new(Conditions {
            came_by_http: true,
            ..Conditions::default()
        })),
        action: RouteAction::Redirect(Redirect {
            status: 301,
            scheme: Some("https".to_owned()),
            keeps_host: true,
            ..Redirect::default()
        }),
        edits: None,
        filters: None,
        decorator: None,
        tracing: None,
    };
    let paths = [PathMatch::Prefix(String::new()), PathMatch::Connect];
    Ok(paths.map(|path| Arc::new(route(path))).into())
}

fn route(mut route: pb::Route, around: &Around, at: &At<'_>) -> Result<Route, Refused> {
    let Some(condition) = route.r#match.take() else {
        return Err(at.field("match").refuse("it must be given"));
    };
    let (path, headers, conditions) = matcher::compile(condition, &at.field("match"))?;
    let decorator = route.decorator.take().map(|decorator| Decorator {
        operation: decorator.operation,
        propagate: flag(decorator.propagate, true),
    });
    let tracing = match route.tracing.take() {
        Some(tracing) => Some(tracing::compile_route(tracing, &at.field("tracing"))?),
        None => None,
    };
    let action = match route.action.take() {
        Some(Action::Route(action)) => {
            RouteAction::Forward(forward(action, around, &at.field("route"))?)
        }
        Some(Action::DirectResponse(response)) => {
            respond(response, around.max_body, &at.field("direct_response"))?
        }
        Some(Action::Redirect(action)) => {
            RouteAction::Redirect(rewrite::redirect(action, &at.field("redirect"))?)
        }
        Some(Action::FilterAction(_)) => {
            return Err(at.field("filter_action").refuse("is not supported"));
        }
        Some(Action::NonForwardingAction(_)) => {
            return Err(at.field("non_forwarding_action").refuse("is not supported"));
        }
        None => return Err(at.refuse("its action must be given")),
    };
    let level = take_edits!(route, at)?;
    let per_filter = std::mem::take(&mut route.typed_per_filter_config);
    let mut wanted = around.filters.clone();
    let own = filters::per_filter(per_filter, &at.field("typed_per_filter_config"))?;
    overlay(&mut wanted, &own);
    let compiled = Route {
        name: std::mem::take(&mut route.name),
        path,
        headers,
        conditions,
        action,
        edits: around.edits(&level),
        filters: (!wanted.is_empty()).then(|| Box::new(wanted)),
        decorator,
        tracing,
    };
    ignored!(route: metadata, stat_prefix, per_request_buffer_limit_bytes, request_body_buffer_limit);
    nothing_else(&route, at)?;
    Ok(compiled)
}

fn forward(mut action: pb::RouteAction, around: &Around, at: &At<'_>) -> Result<Forward, Refused> {
    let clusters = match action.cluster_specifier.take() {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => {
            vec![WeightedCluster::new(name, 1)]
        }
        Some(ClusterSpecifier::Cluster(_)) => {
            return Err(at.field("cluster").refuse("it must not be empty"));
        }
        Some(ClusterSpecifier::WeightedClusters(list)) => {
            weighted(list, &at.field("weighted_clusters"))?
        }
        Some(ClusterSpecifier::ClusterHeader(_)) => {
            return Err(at.field("cluster_header").refuse("is not supported"));
        }
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => {
            return Err(at
                .field("cluster_specifier_plugin")
                .refuse("is not supported"));
        }
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            return Err(at
                .field("inline_cluster_specifier_plugin")
                .refuse("is not supported"));
        }
        None => return Err(at.refuse("one of cluster and weighted_clusters must be given")),
    };
    let labels = subset::labels(action.metadata_match.take());
    let clusters: Vec<_> = clusters
        .into_iter()
        .map(|cluster| cluster.with(&labels))
        .collect();
    let total_weight = total_weight(&clusters, &at.field("weighted_clusters"))?;
    let timeout = timeout(
        action.timeout.take(),
        Some(DEFAULT_TIMEOUT),
        &at.field("timeout"),
    )?;

    // As in Envoy, the longest time of the stream stands in place of that for the response.
    let timeout = timeout.filter(|_| action.max_stream_duration.is_none());
    let code = std::mem::take(&mut action.cluster_not_found_response_code);
    let missing_status = match ClusterNotFoundResponseCode::try_from(code) {
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => None,
        Ok(ClusterNotFoundResponseCode::NotFound) => Some(404),
        Ok(ClusterNotFoundResponseCode::InternalServerError) => Some(500),
        Err(_) => {
            let at = at.field("cluster_not_found_response_code");
            return Err(at.refuse("is not known"));
        }
    };
    let policy = action.retry_policy.take().or_else(|| around.retry.clone());
    let retry = match policy {
        Some(policy) => retry::compile(policy, &at.field("retry_policy"))?,
        None => None,
    };
    let (max_stream_duration, grpc) = grpc_timeouts(&mut action, at)?;
    let idle_timeout = duration(action.idle_timeout.take(), &at.field("idle_timeout"))?;
    let policies = std::mem::take(&mut action.hash_policy);
    let hash_policies = hash_policy::compile(policies, &at.field("hash_policy"))?;
    let is_high_priority = match RoutingPriority::try_from(std::mem::take(&mut action.priority)) {
        Ok(priority) => priority == RoutingPriority::High,
        Err(_) => return Err(at.field("priority").refuse("is not known")),
    };
    let upgrades = std::mem::take(&mut action.upgrade_configs);
    let upgrades = upgrade::of_route(upgrades, &at.field("upgrade_configs"))?;
    let rewrite = rewrite::of_action(&mut action, at)?;
    let [of_table, of_host] = &around.mirrors;
    let own = take_mirrors!(action, at);
    let mut levels = [&own, of_host, of_table].into_iter();
    let mirrors = levels
        .find(|level| !level.is_empty())
        .unwrap_or(&own)
        .clone();
    let own = std::mem::take(&mut action.rate_limits);
    let limits = RouteLimits {
        own: limits::compile(own, &at.field("rate_limits"))?,
        of_host: around.limits.clone(),
        includes_host: flag(action.include_vh_rate_limits.take(), false),
    };
    let is_limited = !limits.own.is_empty() || !limits.of_host.is_empty();
    nothing_else(&action, at)?;
    Ok(Forward {
        clusters,
        total_weight,
        missing_status,
        timeout,
        idle_timeout,
        max_stream_duration,
        grpc,
        hash_policies,
        is_high_priority,
        upgrades,
        rewrite,
        mirrors,
        limits: is_limited.then(|| Box::new(limits)),
        retry,
    })
}

/// The longest time of a stream; and what is made of the `grpc-timeout` header, in its older and its newer form.
fn grpc_timeouts(
    action: &mut pb::RouteAction,
    at: &At<'_>,
) -> Result<(Option<Duration>, GrpcTimeouts), Refused> {
    let mut timeouts = GrpcTimeouts {
        max: duration(
            action.max_grpc_timeout.take(),
            &at.field("max_grpc_timeout"),
        )?,
        ..GrpcTimeouts::default()
    };
    let offset = action.grpc_timeout_offset.take();
    timeouts.offset = duration(offset, &at.field("grpc_timeout_offset"))?.unwrap_or_default();
    let Some(mut limits) = action.max_stream_duration.take() else {
        return Ok((None, timeouts));
    };
    let at = &at.field("max_stream_duration");
    let limit = limits.max_stream_duration.take();
    let limit = duration(limit, &at.field("max_stream_duration"))?;
    let max = limits.grpc_timeout_header_max.take();
    timeouts.stream_max = duration(max, &at.field("grpc_timeout_header_max"))?;
    timeouts.max = None;
    let offset = limits.grpc_timeout_header_offset.take();
    let offset = duration(offset, &at.field("grpc_timeout_header_offset"))?;
    timeouts.stream_offset = offset.unwrap_or_default();
    nothing_else(&limits, at)?;
    Ok((limit, timeouts))
}

/// The sum of the weights, which must be one.
pub(super) fn total_weight(clusters: &[WeightedCluster], at: &At<'_>) -> Result<u32, Refused> {
    let total = clusters
        .iter()
        .try_fold(0_u32, |sum, cluster| sum.checked_add(cluster.weight));
    match total {
        Some(0) => Err(at.refuse("the weights add up to 0")),
        Some(total) => Ok(total),
        None => Err(at.refuse(format!("the weights add up to more than {}", u32::MAX))),
    }
}

fn weighted(mut list: pb::WeightedCluster, at: &At<'_>) -> Result<Vec<WeightedCluster>, Refused> {
    let at_clusters = &at.field("clusters");
    let clusters = std::mem::take(&mut list.clusters)
        .into_iter()
        .enumerate()
        .map(|(index, mut cluster): (usize, ClusterWeight)| {
            let at = &at_clusters.index(index);
            let name = std::mem::take(&mut cluster.name);
            if name.is_empty() {
                return Err(at.field("name").refuse("it must not be empty"));
            }
            let weight = cluster.weight.take().map_or(0, |weight| weight.value);
            let labels = subset::labels(cluster.metadata_match.take());
            let edits = Level::join(&[&take_edits!(cluster, at)?]);
            let host = match cluster.host_rewrite_specifier.take() {
                None => None,
                Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                    let at = at.field("host_rewrite_literal");
                    Some(rewrite::authority(host, &at)?)
                }
            };
            let per_filter = std::mem::take(&mut cluster.typed_per_filter_config);
            let wanted = filters::per_filter(per_filter, &at.field("typed_per_filter_config"))?;
            nothing_else(&cluster, at)?;
            Ok(WeightedCluster {
                name,
                weight,
                labels,
                edits,
                host,
                filters: (!wanted.is_empty()).then(|| Box::new(wanted)),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Envoy takes the sum of the weights, whatever this says.
    ignored!(list: total_weight);
    nothing_else(&list, at)?;
    Ok(clusters)
}

fn respond(
    mut response: pb::DirectResponseAction,
    max_body: u32,
    at: &At<'_>,
) -> Result<RouteAction, Refused> {
    let status = match u16::try_from(std::mem::take(&mut response.status)) {
        Ok(status) if (200..600).contains(&status) => status,
        _ => return Err(at.field("status").refuse("it must be 200 to 599")),
    };
    let at_body = at.field("body");
    let body = match response.body.take().unwrap_or_default().specifier {
        None => String::new(),
        Some(Specifier::InlineString(text)) => text,
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes)
            .map_err(|_| at_body.field("inline_bytes").refuse("it must be UTF-8"))?,
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) => {
            return Err(at_body.refuse("only inline_string and inline_bytes are supported"));
        }
    };
    if body.len() > max_body as usize {
        return Err(at_body.refuse(format!("it is longer than {max_body} bytes")));
    }
    nothing_else(&response, at)?;
    Ok(RouteAction::Respond { status, body })
}
