//! The agent of a stock Envoy: it has a workload's certificate, and gives it over SDS on a socket that nobody else
//! may open, as Istio's agent does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message as _, Name as _};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::client::{Config, Credentials, FetchError, Taker, keep};

/// The name of a workload's own certificate, as Istio's.
pub const OWN: &str = "default";
/// The name of the roots, as Istio's.
pub const ROOTS: &str = "ROOTCA";
/// Envoy opens a stream for each secret of each context.
const MAX_STREAMS: usize = 4096;
const MAX_NAMES: usize = 16;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

impl Credentials {
    /// As Envoy's secrets, under Istio's names.
    pub fn secrets(&self) -> [Secret; 2] {
        let inline = |text: &str| {
            Some(DataSource {
                specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
                ..DataSource::default()
            })
        };
        [
            Secret {
                name: OWN.to_owned(),
                r#type: Some(Type::TlsCertificate(TlsCertificate {
                    certificate_chain: inline(&self.chain),
                    private_key: inline(&self.key),
                    ..TlsCertificate::default()
                })),
            },
            Secret {
                name: ROOTS.to_owned(),
                r#type: Some(Type::ValidationContext(CertificateValidationContext {
                    trusted_ca: inline(&self.roots),
                    ..CertificateValidationContext::default()
                })),
            },
        ]
    }
}

/// Serves a workload's certificate at a socket for ever, and keeps it valid. Ends only when the socket cannot be
/// used.
pub async fn serve(socket: &Path, config: &Config) -> io::Result<()> {
    // One of a former run, whose agent is gone.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(socket, open)?;
    let current = watch::Sender::new(None);
    let service = Sds {
        current: current.subscribe(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
    };
    let service = SecretDiscoveryServiceServer::new(service);
    let serving = tonic::transport::Server::builder()
        .add_service(service.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let mut holder = Holder {
        socket: socket.to_owned(),
        current,
    };
    tokio::select! {
        served = serving => served.map_err(io::Error::other),
        never = keep(config, &mut holder) => match never {},
    }
}

/// Holds the newest certificate.
struct Holder {
    socket: PathBuf,
    current: watch::Sender<Option<Arc<Credentials>>>,
}

impl Taker for Holder {
    fn renewed(&mut self, credentials: Credentials) {
        tracing::info!(serial = %credentials.serial, socket = %self.socket.display(), "has a new certificate");
        self.current.send_replace(Some(Arc::new(credentials)));
    }

    fn failed(&mut self, error: &FetchError) {
        tracing::warn!(error = %error.with_causes(), "no new certificate, trying again");
    }
}

struct Sds {
    current: watch::Receiver<Option<Arc<Credentials>>>,
    streams: Arc<Semaphore>,
}

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type StreamSecretsStream = ReceiverStream<Result<DiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit
            .map_err(|_| Status::resource_exhausted(format!("{MAX_STREAMS} streams are open")))?;
        let (outgoing, responses) = mpsc::channel(1);
        let current = self.current.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(status) = follow(request.into_inner(), current, &outgoing).await {
                // An error means that nobody is there to be told.
                let _ = outgoing.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("set api_type to GRPC"))
    }

    async fn fetch_secrets(
        &self,
        _: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("set api_type to GRPC"))
    }
}

/// One stream, in the state-of-the-world form of the xDS protocol.
async fn follow(
    mut requests: Streaming<DiscoveryRequest>,
    mut current: watch::Receiver<Option<Arc<Credentials>>>,
    outgoing: &mpsc::Sender<Result<DiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let mut names: Vec<String> = Vec::new();
    let mut nonce = 0_u64;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Some(request) = request? else {
                    return Ok(());
                };
                if let Some(error) = request.error_detail {
                    tracing::warn!(error = %error.message, "Envoy refuses its certificate");
                    continue;
                }
                if request.resource_names.len() > MAX_NAMES {
                    return Err(Status::resource_exhausted("too many names"));
                }
                if request.resource_names == names {
                    // It has taken what it was sent.
                    continue;
                }
                names = request.resource_names;
            }
            changed = current.changed() => if changed.is_err() {
                return Ok(());
            }
        }
        let credentials = current.borrow_and_update().clone();
        let Some(credentials) = credentials.filter(|_| !names.is_empty()) else {
            continue;
        };
        nonce += 1;
        let secrets = credentials.secrets();
        let wanted = secrets.iter().filter(|secret| names.contains(&secret.name));
        let response = DiscoveryResponse {
            version_info: credentials.serial.clone(),
            resources: wanted
                .map(|secret| Any {
                    type_url: Secret::type_url(),
                    value: secret.encode_to_vec(),
                })
                .collect(),
            type_url: Secret::type_url(),
            nonce: nonce.to_string(),
            ..DiscoveryResponse::default()
        };
        if outgoing.send(Ok(response)).await.is_err() {
            return Ok(());
        }
    }
}
