//! A control plane in this process, which tells ours and Envoy the same: listeners, clusters, and TLS
//! with certificates of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3::{self as core, data_source::Specifier};
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::config::trace::v3 as trace;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{BoolValue, Duration, UInt32Value};
use envoy_types::util::pack_any;
use periplus_xds::server::{AdsServer, Generation, Limits, NodeRefused, Source};
use periplus_xds::type_url::{CLUSTER, LISTENER};
use periplus_xds::{Resource, ResourceSet, Snapshot};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What each node is told.
#[derive(Debug)]
struct Worlds {
    by_node: BTreeMap<String, Arc<Snapshot>>,
    changes: watch::Sender<Generation>,
}

impl Source for Worlds {
    fn snapshot(&self, node: &core::Node) -> Result<Arc<Snapshot>, NodeRefused> {
        self.by_node
            .get(&node.id)
            .cloned()
            .ok_or_else(|| NodeRefused {
                node: node.id.clone(),
                reason: "it takes no part in the benchmark".to_owned(),
            })
    }

    fn subscribe(&self) -> watch::Receiver<Generation> {
        self.changes.subscribe()
    }
}

/// Serves these until the process ends: where.
pub(crate) fn serve(by_node: BTreeMap<String, Snapshot>) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let worlds = Arc::new(Worlds {
        by_node: by_node
            .into_iter()
            .map(|(node, world)| (node, Arc::new(world)))
            .collect(),
        changes: watch::Sender::new(Generation::default()),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let server = AdsServer::new(worlds, Limits::default());
            if let Ok(listener) = TcpListener::from_std(listener) {
                // It ends with the process; the proxies notice if it does not begin.
                let _ = server.serve(listener, std::future::pending()).await;
            }
        });
    });
    Ok(address)
}

/// A configuration.
pub(crate) fn world(listeners: &[listener::Listener], clusters: &[cluster::Cluster]) -> Snapshot {
    let listeners = listeners.iter().map(|it| Resource::new(&it.name, it));
    let clusters = clusters.iter().map(|it| Resource::new(&it.name, it));
    Snapshot::default()
        .with(LISTENER, listeners.collect::<ResourceSet>())
        .with(CLUSTER, clusters.collect::<ResourceSet>())
}

fn socket(address: SocketAddr) -> core::Address {
    let port = core::socket_address::PortSpecifier::PortValue(address.port().into());
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(port),
            ..Default::default()
        })),
    }
}

/// A cluster of one endpoint.
pub(crate) fn cluster(name: &str, to: SocketAddr) -> cluster::Cluster {
    let endpoint = endpoint::Endpoint {
        address: Some(socket(to)),
        ..Default::default()
    };
    let endpoint = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let most = Some(UInt32Value { value: 100_000 });
    cluster::Cluster {
        name: name.to_owned(),
        connect_timeout: Some(Duration {
            seconds: 1,
            nanos: 0,
        }),
        load_assignment: Some(endpoint::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![endpoint::LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..Default::default()
            }],
            ..Default::default()
        }),
        circuit_breakers: Some(cluster::CircuitBreakers {
            thresholds: vec![cluster::circuit_breakers::Thresholds {
                max_connections: most,
                max_pending_requests: most,
                max_requests: most,
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn listener_of(
    name: &str,
    at: SocketAddr,
    direction: core::TrafficDirection,
    filter: listener::Filter,
) -> listener::Listener {
    listener::Listener {
        name: name.to_owned(),
        address: Some(socket(at)),
        traffic_direction: direction as i32,
        filter_chains: vec![listener::FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A listener whose bytes go to a cluster.
pub(crate) fn relay(at: SocketAddr, to: &str) -> listener::Listener {
    let proxy = tcp::TcpProxy {
        stat_prefix: "bench".to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(to.to_owned())),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(proxy))),
    };
    listener_of("l", at, core::TrafficDirection::Outbound, filter)
}

/// A listener whose requests go to a cluster, each with a span for the cluster `sink`.
pub(crate) fn http(
    at: SocketAddr,
    direction: core::TrafficDirection,
    to: &str,
) -> listener::Listener {
    let hosts = vec![host("v", "*", vec![forward(prefix("/"), to)])];
    let mut manager = manager(hosts);
    manager.tracing = Some(tracing());
    http_of(at, direction, manager)
}

/// A listener with this manager.
pub(crate) fn http_of(
    at: SocketAddr,
    direction: core::TrafficDirection,
    manager: hcm::HttpConnectionManager,
) -> listener::Listener {
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(pack_any(manager))),
    };
    listener_of("l", at, direction, filter)
}

/// Every request has a span for the cluster `sink`, as Zipkin JSON.
pub(crate) fn tracing() -> hcm::http_connection_manager::Tracing {
    let all = Some(Percent { value: 100.0 });
    let zipkin = trace::ZipkinConfig {
        collector_cluster: "sink".to_owned(),
        collector_endpoint: "/api/v2/spans".to_owned(),
        collector_endpoint_version: trace::zipkin_config::CollectorEndpointVersion::HttpJson as i32,
        trace_id_128bit: true,
        shared_span_context: Some(BoolValue { value: false }),
        ..Default::default()
    };
    hcm::http_connection_manager::Tracing {
        client_sampling: all,
        random_sampling: all,
        overall_sampling: all,
        provider: Some(trace::tracing::Http {
            name: "envoy.tracers.zipkin".to_owned(),
            config_type: Some(trace::tracing::http::ConfigType::TypedConfig(pack_any(
                zipkin,
            ))),
        }),
        ..Default::default()
    }
}

/// Paths that begin so.
pub(crate) fn prefix(prefix: &str) -> route::RouteMatch {
    let path = route::route_match::PathSpecifier::Prefix(prefix.to_owned());
    route::RouteMatch {
        path_specifier: Some(path),
        ..Default::default()
    }
}

/// A route to a cluster.
pub(crate) fn forward(of: route::RouteMatch, to: &str) -> route::Route {
    let to = route::route_action::ClusterSpecifier::Cluster(to.to_owned());
    route::Route {
        r#match: Some(of),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(to),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// A virtual host of one domain.
pub(crate) fn host(name: &str, domain: &str, routes: Vec<route::Route>) -> route::VirtualHost {
    route::VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes,
        ..Default::default()
    }
}

/// A manager with nothing but the router.
pub(crate) fn manager(virtual_hosts: Vec<route::VirtualHost>) -> hcm::HttpConnectionManager {
    let routes = route::RouteConfiguration {
        name: "r".to_owned(),
        virtual_hosts,
        ..Default::default()
    };
    let router = hcm::http_filter::ConfigType::TypedConfig(pack_any(Router::default()));
    hcm::HttpConnectionManager {
        stat_prefix: "bench".to_owned(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            routes,
        )),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(router),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// For a certificate of this subject. Envoy takes one whose subject is its issuer for a self-signed one.
fn params_of(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = params_of("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            root,
        })
    }

    /// What a workload needs for mutual TLS.
    fn identity(&self, workload: &str) -> anyhow::Result<tls::CommonTlsContext> {
        let mut params = params_of(workload);
        let id = format!("spiffe://cluster.local/ns/default/sa/{workload}");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let inline = |text: String| {
            Some(core::DataSource {
                specifier: Some(Specifier::InlineString(text)),
                ..Default::default()
            })
        };
        let roots = tls::CertificateValidationContext {
            trusted_ca: inline(self.root.clone()),
            ..Default::default()
        };
        Ok(tls::CommonTlsContext {
            tls_certificates: vec![tls::TlsCertificate {
                certificate_chain: inline(certificate),
                private_key: inline(key.serialize_pem()),
                ..Default::default()
            }],
            validation_context_type: Some(
                tls::common_tls_context::ValidationContextType::ValidationContext(roots),
            ),
            ..Default::default()
        })
    }

    /// Has a cluster spoken to over mutual TLS.
    pub(crate) fn secure_cluster(&self, cluster: &mut cluster::Cluster) -> anyhow::Result<()> {
        let context = tls::UpstreamTlsContext {
            common_tls_context: Some(self.identity("client")?),
            ..Default::default()
        };
        cluster.transport_socket = Some(core::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(
                context,
            ))),
        });
        Ok(())
    }

    /// Has a listener speak mutual TLS only.
    pub(crate) fn secure_listener(&self, listener: &mut listener::Listener) -> anyhow::Result<()> {
        let context = tls::DownstreamTlsContext {
            common_tls_context: Some(self.identity("server")?),
            require_client_certificate: Some(BoolValue { value: true }),
            ..Default::default()
        };
        let chain = listener
            .filter_chains
            .first_mut()
            .context("no filter chain")?;
        chain.transport_socket = Some(core::TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack_any(
                context,
            ))),
        });
        Ok(())
    }
}
