//! Routes that lead to no service: answers, and what becomes of requests that nobody knows.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::SchemeRewriteSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action as EnvoyAction;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, Route, RouteConfiguration, VirtualHost,
};
use periplus_resources::{DirectResponse, OutboundPolicy};

use super::proto::uint32;
use super::route::{any_request, route_to, virtual_host};
use crate::names;

/// The route of plain HTTP whose requests are sent to HTTPS.
pub(super) fn https_redirect() -> Route {
    let to = RedirectAction {
        scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
        ..RedirectAction::default()
    };
    Route {
        name: "https-redirect".into(),
        r#match: Some(any_request()),
        action: Some(EnvoyAction::Redirect(to)),
        ..Route::default()
    }
}

/// The virtual host for whatever the mesh does not know.
pub(super) fn unknown(policy: OutboundPolicy) -> VirtualHost {
    match policy {
        OutboundPolicy::AllowAny => allow_any("allow_any", names::PASSTHROUGH),
        OutboundPolicy::AllowAnyDynamicDns => {
            allow_any(names::ANY_BY_NAME_ROUTE, names::ANY_BY_NAME)
        }
        OutboundPolicy::RegistryOnly => block_all(),
    }
}

fn allow_any(name: &str, cluster: &str) -> VirtualHost {
    let cluster = ClusterSpecifier::Cluster(cluster.to_owned());
    let route = Route {
        name: name.to_owned(),
        r#match: Some(any_request()),
        action: Some(route_to(cluster, Duration::ZERO)),
        ..Route::default()
    };
    virtual_host(name.to_owned(), vec!["*".into()], vec![route])
}

/// The same, if it may not pass.
pub(super) fn block_all() -> VirtualHost {
    let route = Route {
        name: "block_all".into(),
        r#match: Some(any_request()),
        action: Some(EnvoyAction::DirectResponse(DirectResponseAction {
            status: 502,
            ..DirectResponseAction::default()
        })),
        ..Route::default()
    };
    virtual_host("block_all".into(), vec!["*".into()], vec![route])
}

/// The index puts the rules of delegates in the place of those that name them.
pub(super) const NOT_DELEGATED: DirectResponse = DirectResponse {
    status: 404,
    body: String::new(),
};

/// As in Istio, an answer may be as long as a VirtualService can say, where one is longer than Envoy takes by itself.
pub(super) fn make_room(routes: &mut RouteConfiguration) {
    const OF_ENVOY: usize = 4096;
    let is_long = |route: &Route| {
        let Some(EnvoyAction::DirectResponse(response)) = &route.action else {
            return false;
        };
        let body = response
            .body
            .as_ref()
            .and_then(|body| body.specifier.as_ref());
        matches!(body, Some(Specifier::InlineString(text)) if text.len() > OF_ENVOY)
    };
    let mut all = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
    if all.any(is_long) {
        let most = u32::try_from(DirectResponse::MAX_BODY).unwrap_or(u32::MAX);
        routes.max_direct_response_body_size_bytes = uint32(most);
    }
}

/// An answer in the place of the service's.
pub(super) fn respond(response: &DirectResponse) -> EnvoyAction {
    EnvoyAction::DirectResponse(DirectResponseAction {
        status: u32::from(response.status),
        body: (!response.body.is_empty()).then(|| DataSource {
            specifier: Some(Specifier::InlineString(response.body.clone())),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    })
}
