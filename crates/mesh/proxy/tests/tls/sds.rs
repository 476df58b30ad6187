//! Secrets from a server of their own, as SPIRE's agent is one, over TCP and over a socket of Unix.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{ApiConfigSource, ConfigSource, GrpcService, Node};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource as DeltaResource,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::rpc::Status as Refusal;
use periplus_proxy::Options;
use periplus_xds::Resource;
use periplus_xds::type_url::{CLUSTER, SECRET};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::authority::{Authority, Pair};
use crate::client::Client;
use crate::rotation::shows;
use crate::world::{
    NODE, TRUE, Told, World, certificate_secret, inline_context, mesh_context, originating,
    root_secret, secret_of, terminating,
};
use crate::xds_support::http::{Origin, get};
use crate::xds_support::{ControlPlane, PATIENCE, eventually, free_address};

const ID: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// What the server has; counts up with each change.
type Secrets = (u64, BTreeMap<String, Resource>);

/// The server.
#[derive(Clone)]
struct Spire {
    secrets: watch::Receiver<Secrets>,
    /// What it was asked first: who asks, and for what; and how it was refused.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Spire {
    fn note(&self, what: String) {
        self.asked.lock().expect("lock").push(what);
    }

    /// Notes who asks, and how it was refused.
    fn hear(&self, node: Option<Node>, error: Option<Refusal>) {
        if let Some(node) = node {
            self.note(format!("{} asks", node.id));
        }
        if let Some(error) = error {
            self.note(error.message);
        }
    }

    fn notes(&self) -> Vec<String> {
        self.asked.lock().expect("lock").clone()
    }

    async fn serve(self, at: Where) {
        let server = tonic::transport::Server::builder()
            .add_service(SecretDiscoveryServiceServer::new(self));
        let served = match at {
            Where::Tcp(address) => {
                let listener = TcpListener::bind(address).await.expect("a port");
                server
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
            }
            Where::Pipe(path) => {
                let listener = UnixListener::bind(path).expect("a socket");
                server
                    .serve_with_incoming(UnixListenerStream::new(listener))
                    .await
            }
        };
        served.expect("it serves");
    }
}

#[derive(Clone)]
enum Where {
    Tcp(SocketAddr),
    Pipe(PathBuf),
}

#[tonic::async_trait]
impl SecretDiscoveryService for Spire {
    type DeltaSecretsStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (outgoing, responses) = mpsc::channel(1);
        let (mut requests, this) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            let mut secrets = this.secrets.clone();
            let mut names = Vec::new();
            loop {
                tokio::select! {
                    request = requests.message() => {
                        let Ok(Some(request)) = request else { return };
                        this.hear(request.node, request.error_detail);
                        if request.resource_names == names {
                            continue;
                        }
                        names = request.resource_names;
                        this.note(names.join(", "));
                    }
                    changed = secrets.changed() => if changed.is_err() { return },
                }
                let (version, all) = secrets.borrow_and_update().clone();
                let wanted = names.iter().filter_map(|name| all.get(name));
                let response = DiscoveryResponse {
                    version_info: version.to_string(),
                    resources: wanted.map(|secret| secret.body().clone()).collect(),
                    type_url: SECRET.to_owned(),
                    nonce: version.to_string(),
                    ..Default::default()
                };
                if outgoing.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let (outgoing, responses) = mpsc::channel(1);
        let (mut requests, this) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            let mut secrets = this.secrets.clone();
            let mut names = Vec::new();
            loop {
                tokio::select! {
                    request = requests.message() => {
                        let Ok(Some(request)) = request else { return };
                        this.hear(request.node, request.error_detail);
                        if request.resource_names_subscribe.is_empty() {
                            continue;
                        }
                        names.extend(request.resource_names_subscribe);
                        this.note(names.join(", "));
                    }
                    changed = secrets.changed() => if changed.is_err() { return },
                }
                let (version, all) = secrets.borrow_and_update().clone();
                let wanted = names.iter().filter_map(|name| all.get(name));
                let resource = |secret: &Resource| DeltaResource {
                    name: secret.name().to_owned(),
                    version: version.to_string(),
                    resource: Some(secret.body().clone()),
                    ..Default::default()
                };
                let response = DeltaDiscoveryResponse {
                    resources: wanted.map(resource).collect(),
                    type_url: SECRET.to_owned(),
                    nonce: version.to_string(),
                    ..Default::default()
                };
                if outgoing.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("a stream is asked for"))
    }
}

/// A secret of this name, from a cluster of the bootstrap file.
fn from(cluster: &str, api_type: ApiType, name: &str) -> tls::SdsSecretConfig {
    let target = TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
        cluster_name: cluster.to_owned(),
        ..Default::default()
    });
    let api = ApiConfigSource {
        api_type: api_type as i32,
        grpc_services: vec![GrpcService {
            target_specifier: Some(target),
            ..Default::default()
        }],
        ..Default::default()
    };
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(api)),
            // It waits for ever.
            initial_fetch_timeout: Some(protobuf::Duration::default()),
            ..Default::default()
        }),
    }
}

/// Istio's context, with everything from that cluster.
fn context_from(cluster: &str, api_type: ApiType) -> tls::CommonTlsContext {
    let mut context = mesh_context(&[ID]);
    context.tls_certificate_sds_secret_configs = vec![from(cluster, api_type, "default")];
    if let Some(ValidationContextType::CombinedValidationContext(combined)) =
        &mut context.validation_context_type
    {
        combined.validation_context_sds_secret_config = Some(from(cluster, api_type, "ROOTCA"));
    }
    context
}

fn identity(authority: &Authority, pair: &Pair) -> BTreeMap<String, Resource> {
    [
        certificate_secret("default", pair),
        root_secret("ROOTCA", authority),
    ]
    .map(|secret| (secret.name().to_owned(), secret))
    .into()
}

/// The proxy's bootstrap file has the server as a cluster.
fn with_server(file: &mut Value, at: &Where) {
    let clusters = file["static_resources"]["clusters"].as_array_mut();
    let clusters = clusters.expect("clusters");
    let mut server = clusters[0].clone();
    server["name"] = json!("spire");
    let address = match at {
        Where::Tcp(at) => json!({"socket_address": {"address": at.ip(), "port_value": at.port()}}),
        Where::Pipe(path) => json!({"pipe": {"path": path}}),
    };
    server["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = address;
    clusters.push(server);
}

#[tokio::test]
async fn secrets_come_from_a_server_of_their_own() {
    let directory = tempfile::tempdir().expect("a directory");
    for (at, api_type) in [
        (Where::Tcp(free_address().await), ApiType::Grpc),
        (
            Where::Pipe(directory.path().join("one")),
            ApiType::DeltaGrpc,
        ),
    ] {
        let [authority, other] = ["root", "other"].map(Authority::new);
        let origin = Origin::start("app").await;
        let (out, inbound, over_ads) = (
            free_address().await,
            free_address().await,
            free_address().await,
        );
        // Secrets of the same names come over ADS: another identity, of a listener that asks there.
        let at_ads = other.workload("spiffe://elsewhere/ns/a/sa/b");
        let told = Told::default()
            .cluster("app", origin.address, |_| ())
            .cluster("reviews", inbound, |cluster| {
                cluster.transport_socket = originating(context_from("spire", api_type), |_| ());
            })
            .http("out", out, "reviews", |_, _| ())
            .http("in", inbound, "app", |listener, _| {
                let context = context_from("spire", api_type);
                listener.filter_chains[0].transport_socket =
                    terminating(context, |tls| tls.require_client_certificate = TRUE);
            })
            .http("ads", over_ads, "app", |listener, _| {
                listener.filter_chains[0].transport_socket = terminating(mesh_context(&[]), |_| ());
            })
            .identity(&other, &at_ads);
        let plane = ControlPlane::start().await;
        plane.worlds.set(NODE, told.snapshot());
        let edit = |file: &mut Value| with_server(file, &at);
        let world = World::edited(plane, Options::default(), edit).await;

        // Nobody is there: what needs the secrets waits, and that can be seen.
        world.wait_stat("cluster_manager.warming_clusters", 1).await;
        world.wait_stat("sds.spire.connected_state", 0).await;
        let deadline = Instant::now() + PATIENCE;
        let server = loop {
            let dump = world.page("/config_dump").await;
            let dump: Value = serde_json::from_str(&dump).expect("JSON");
            let servers = &dump["control_plane"]["secret_servers"];
            if servers[0]["error"].is_string() {
                break servers[0].clone();
            }
            assert!(Instant::now() < deadline, "{servers}");
            sleep(std::time::Duration::from_millis(5)).await;
        };
        assert_eq!(server["cluster"], "spire");
        assert!(get(out, "/").await.is_err(), "no listener is open yet");

        let first = authority.workload(ID);
        let secrets = watch::Sender::new((1, identity(&authority, &first)));
        let spire = Spire {
            secrets: secrets.subscribe(),
            asked: Arc::default(),
        };
        let serving = tokio::spawn(spire.clone().serve(at));
        tokio::time::timeout(PATIENCE, world.agent.ready())
            .await
            .expect("ready");
        assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
        assert_eq!(world.stat("sds.spire.connected_state").await, 1);
        assert_eq!(
            spire.notes(),
            [format!("{NODE} asks"), "ROOTCA, default".to_owned()]
        );
        let client = Client::credulous("x", Some(&first), &[]);
        shows(&client, inbound, &first.chain).await;
        shows(&client, over_ads, &at_ads.chain).await;

        // A new certificate is used; one that is none is refused by its name, and nothing is lost.
        let second = authority.workload(ID);
        secrets.send_replace((2, identity(&authority, &second)));
        shows(&client, inbound, &second.chain).await;
        let mut bad = identity(&authority, &second);
        let none = tls::secret::Type::TlsCertificate(tls::TlsCertificate::default());
        bad.insert("default".to_owned(), secret_of("default", none));
        secrets.send_replace((3, bad));
        eventually("a refusal", || {
            let notes = spire.notes();
            let refusal = notes.get(2)?;
            assert!(
                refusal.starts_with("secret \"default\": tls_certificate."),
                "{refusal}"
            );
            Some(())
        })
        .await;
        assert_eq!(get(out, "/").await.expect("an answer").status(), 200);
        serving.abort();
    }
}

#[tokio::test]
async fn a_server_that_the_bootstrap_file_does_not_have_is_refused_by_name() {
    let authority = Authority::new("root");
    let at = free_address().await;
    let told = Told::default().cluster("c", at, |cluster| {
        let mut context = inline_context(&authority.server("x"));
        context.validation_context_type =
            Some(ValidationContextType::ValidationContextSdsSecretConfig(
                from("nobody", ApiType::Grpc, "ROOTCA"),
            ));
        cluster.transport_socket = originating(context, |_| ());
    });
    let world = World::begin(&told, json!([])).await;
    let message = world.refusal(CLUSTER).await;
    let expected = "cluster \"c\": transport_socket.common_tls_context.validation_context_sds_secret_config.sds_config\
                    .api_config_source.grpc_services: the bootstrap file has no cluster \"nobody\"";
    assert!(message.contains(expected), "{message}");
}
