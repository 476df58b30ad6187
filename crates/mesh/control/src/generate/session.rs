//! Services whose clients stay with the endpoint that had their first request.

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::stateful_session_per_route::Override;
use envoy_types::pb::envoy::extensions::filters::http::stateful_session::v3::{
    StatefulSession, StatefulSessionPerRoute,
};
use envoy_types::pb::envoy::extensions::http::stateful_session::cookie::v3::CookieBasedSessionState;
use envoy_types::pb::envoy::extensions::http::stateful_session::header::v3::HeaderBasedSessionState;
use envoy_types::pb::envoy::r#type::http::v3::Cookie;
use envoy_types::pb::google::protobuf::Any;
use periplus_resources::Host;

use super::proto::any;
use crate::index::{Index, Session};
use crate::proxy::Proxy;

/// The name of the filter.
pub(super) const SESSION: &str = "envoy.filters.http.stateful_session";

/// The filter, which does nothing where no route wants it; none in a mesh without such services.
pub(super) fn filter(index: &Index) -> Option<Any> {
    index
        .has_sessions()
        .then(|| any(&StatefulSession::default()))
}

/// What the routes to a service want of the filter.
pub(super) fn of_service((index, proxy): (&Index, &Proxy), host: &Host) -> Option<Any> {
    let session = index.service_for(proxy, host)?.session()?;
    let (name, config) = match session {
        Session::Cookie { name, path } => {
            // Until the client's own session ends, as in Istio.
            let cookie = Cookie {
                name: name.to_owned(),
                path: path.to_owned(),
                ..Cookie::default()
            };
            let state = CookieBasedSessionState {
                cookie: Some(cookie),
            };
            ("envoy.http.stateful_session.cookie", any(&state))
        }
        Session::Header(name) => {
            let state = HeaderBasedSessionState {
                name: name.to_owned(),
            };
            ("envoy.http.stateful_session.header", any(&state))
        }
    };
    let session = StatefulSession {
        session_state: Some(TypedExtensionConfig {
            name: name.to_owned(),
            typed_config: Some(config),
        }),
        ..StatefulSession::default()
    };
    Some(any(&StatefulSessionPerRoute {
        r#override: Some(Override::StatefulSession(session)),
    }))
}
