//! Routes that say how their requests are traced, in place of the connection manager.

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::tracing::v3::CustomTag;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag::{Header, Literal, Type};
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;

use crate::cases::{Case, get};
use crate::xds_support::resources::{a_route, path_prefix, to_cluster};

const TRACED: &str = "x-b3-traceid: 463ac35c9f6413ad48485a3953bb6124\nx-b3-spanid: a2fb4a1d1a96d312\nx-b3-sampled: 1\n";

pub(crate) fn routes() -> Vec<route::Route> {
    let none = || Some(FractionalPercent::default());
    let tag = |name: &str, value| CustomTag {
        tag: name.to_owned(),
        r#type: Some(value),
    };
    let literal = |value: &str| {
        Type::Literal(Literal {
            value: value.to_owned(),
        })
    };
    let header = Type::RequestHeader(Header {
        name: "x-tag".to_owned(),
        default_value: "default".to_owned(),
    });
    let tags = vec![
        tag("of-route", literal("one")),
        tag("component", literal("route")),
        tag("upstream_cluster", literal("own")),
        tag("from-header", header),
        tag(
            "formatted",
            Type::Value("%ROUTE_NAME% %RESPONSE_CODE%".to_owned()),
        ),
    ];
    let all = [
        (
            "/trace/never",
            route::Tracing {
                random_sampling: none(),
                ..Default::default()
            },
        ),
        (
            "/trace/nothing-at-all",
            route::Tracing {
                overall_sampling: none(),
                ..Default::default()
            },
        ),
        (
            "/trace/not-for-clients",
            route::Tracing {
                client_sampling: none(),
                random_sampling: none(),
                ..Default::default()
            },
        ),
        (
            "/trace/tags",
            route::Tracing {
                custom_tags: tags,
                ..Default::default()
            },
        ),
    ];
    let made = all.map(|(path, tracing)| route::Route {
        name: path.replace('/', "-"),
        tracing: Some(tracing),
        ..a_route(path_prefix(path), to_cluster("origin"))
    });
    made.to_vec()
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for route in routes() {
        let name = route.name;
        let path = name.replacen("-trace-", "/trace/", 1);
        for (sent, fields) in [
            ("", ""),
            ("-continued", TRACED),
            ("-client", "x-client-trace-id: 7\n"),
            ("-tagged", "x-tag: sent\n"),
        ] {
            for listener in ["rules", "rules_gateway"] {
                let name = format!("route{name}{sent}@{listener}");
                cases.push(Case {
                    request: get(&path, fields).replace("CASE", &name),
                    name,
                    listener,
                    http2: false,
                    copies: 0,
                });
            }
        }
    }
    cases
}
