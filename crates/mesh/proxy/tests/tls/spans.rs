//! Who both sides are stands on the spans, and why they could not speak.

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use envoy_types::pb::google::protobuf::BoolValue;
use envoy_types::util::pack_any;
use serde_json::Value;

use crate::authority::Authority;
use crate::client::Client;
use crate::world::{TRUE, Told, World, mesh_context, originating, terminating};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{PATIENCE, free_address};

const SERVER: &str = "spiffe://cluster.local/ns/default/sa/reviews";
const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/productpage";

fn traced(
    socket: Option<envoy_types::pb::envoy::config::core::v3::TransportSocket>,
) -> impl FnOnce(&mut listener::Listener, HttpConnectionManager) {
    move |listener, mut manager| {
        let zipkin = trace::ZipkinConfig {
            collector_cluster: "zipkin".to_owned(),
            collector_endpoint: "/api/v2/spans".to_owned(),
            collector_endpoint_version: 1,
            shared_span_context: Some(BoolValue { value: false }),
            ..Default::default()
        };
        manager.tracing = Some(Tracing {
            provider: Some(trace::tracing::Http {
                name: "envoy.tracers.zipkin".to_owned(),
                config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
                    zipkin,
                ))),
            }),
            ..Default::default()
        });
        listener.filter_chains[0].filters = vec![listener::Filter {
            name: "hcm".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
        }];
        listener.filter_chains[0].transport_socket = socket;
    }
}

/// The spans that a collector has got and nobody has asked for yet.
struct Spans {
    collector: Origin,
    kept: Vec<Value>,
}

impl Spans {
    /// The tags of the next span of a path.
    async fn tags_of(&mut self, path: &str) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            for report in self.collector.take() {
                let spans: Vec<Value> = serde_json::from_str(&report.body).expect("spans");
                self.kept.extend(spans);
            }
            let is_of_path = |span: &Value| {
                let url = span["tags"]["http.url"].as_str().unwrap_or_default();
                url.ends_with(path)
            };
            if let Some(at) = self.kept.iter().position(is_of_path) {
                return self.kept.swap_remove(at)["tags"].clone();
            }
            let is_late = tokio::time::Instant::now() > deadline;
            assert!(!is_late, "no span of {path}: {:#?}", self.kept);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn both_identities_stand_on_the_span() {
    let authority = Authority::new("root");
    let (origin, collector) = (Origin::start("app").await, Origin::start("zipkin").await);
    let (out, wrong, inbound) = (
        free_address().await,
        free_address().await,
        free_address().await,
    );
    let server = terminating(mesh_context(&["spiffe://cluster.local/"]), |tls| {
        tls.require_client_certificate = TRUE;
    });
    let told = Told::default()
        .cluster("app", origin.address, |_| ())
        .cluster("zipkin", collector.address, |_| ())
        .cluster("reviews", inbound, |cluster| {
            cluster.transport_socket = originating(mesh_context(&[SERVER]), |_| ());
        })
        .cluster("wrong", inbound, |cluster| {
            cluster.transport_socket = originating(mesh_context(&["spiffe://other/"]), |_| ());
        })
        .http("out", out, "reviews", traced(None))
        .http("wrong", wrong, "wrong", traced(None))
        .http("in", inbound, "app", traced(server));
    let _world = World::start(&told.identity(&authority, &authority.workload(SERVER))).await;

    let mut spans = Spans {
        collector,
        kept: Vec::new(),
    };
    let client = Client::credulous("x", Some(&authority.workload(CLIENT)), &[]);
    assert_eq!(
        client
            .get(inbound, "/direct")
            .await
            .expect("an answer")
            .status(),
        200
    );
    let tags = spans.tags_of("/direct").await;
    assert_eq!(tags["source_principal"], CLIENT);
    assert_eq!(tags["destination_principal"], SERVER);
    assert_eq!(tags["http.url"], "https://test/direct");

    // The client's own sidecar knows them from its connection to the endpoint.
    assert_eq!(get(out, "/meshed").await.expect("an answer").status(), 200);
    for _ in 0..2 {
        let tags = spans.tags_of("/meshed").await;
        assert_eq!(tags["source_principal"], SERVER, "{tags}");
        assert_eq!(tags["destination_principal"], SERVER, "{tags}");
    }

    assert_eq!(
        get(wrong, "/refused").await.expect("an answer").status(),
        503
    );
    let tags = spans.tags_of("/refused").await;
    assert_eq!(tags["response_flags"], "UF");
    assert_eq!(
        tags["upstream_transport_failure_reason"],
        "TLS error: invalid peer certificate: none of the certificate's subject alternative names is \
         asked for"
    );
}
