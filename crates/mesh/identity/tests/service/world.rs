//! An authority with its server, and those who ask it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use periplus_identity::{
    AUDIENCE, Access, Authority, Bearer, CertificateServer, Config, Counts, Csr, Home, Issuer,
    Lifetimes, Rotation, ServiceAccount, TokenKey, private, tls,
};
use prost::Message;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// As the fact of the interface has it, written down once more.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Asked {
    #[prost(string, tag = "1")]
    pub(crate) csr: String,
    #[prost(int64, tag = "3")]
    pub(crate) validity_duration: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Given {
    #[prost(string, repeated, tag = "1")]
    cert_chain: Vec<String>,
}

/// An authority with its server.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) secured: SocketAddr,
    pub(crate) authority: watch::Receiver<Arc<Authority>>,
    pub(crate) tokens: Arc<TokenKey>,
    pub(crate) counts: Arc<Counts>,
}

impl World {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::own(
            &directory.path().join("ca"),
            "cluster.local",
            Rotation::default(),
        );
        let tokens = Arc::new(TokenKey::generate().unwrap());
        let authority = home.unwrap().authority();
        let issuer = Issuer::read(r#"{"issuer": "https://elsewhere.example"}"#).unwrap();
        let server = CertificateServer::new(
            authority.clone(),
            Access {
                trust_domain: "cluster.local".to_owned(),
                aliases: vec!["old.local".to_owned()],
                tokens: Arc::clone(&tokens),
                issuers: vec![Arc::new(issuer)],
                lifetimes: Lifetimes {
                    default: HOUR,
                    most: 2 * HOUR,
                },
            },
        );
        let counts = server.counts();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let secured = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let secured_address = secured.local_addr().unwrap();
        let names = vec!["istiod.istio-system.svc".to_owned()];
        let accepted = tls::accept(secured, authority.clone(), names, Arc::clone(&counts));
        let serving = Server::builder()
            .add_service(server.clone())
            .serve_with_incoming(accepted);
        tokio::spawn(serving);
        let serving = Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(serving);
        Self {
            directory,
            address,
            secured: secured_address,
            authority,
            tokens,
            counts,
        }
    }

    pub(crate) fn token(&self, account: &str) -> String {
        self.tokens
            .issue(&bearer(account), AUDIENCE, HOUR, SystemTime::now())
    }

    pub(crate) fn config(&self, token: &str) -> Config {
        let path: PathBuf = self.directory.path().join("token");
        private::write(&path, token).unwrap();
        Config {
            endpoint: format!("http://{}", self.address),
            trust: None,
            token: path,
            id: REVIEWS.parse().unwrap(),
            lifetime: None,
        }
    }

    pub(crate) async fn ask(
        &self,
        header: Option<&str>,
        asked: Asked,
    ) -> Result<Vec<String>, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        ask_over(endpoint.connect().await.unwrap(), header, asked).await
    }

    /// Over TLS, with a client certificate of this name if there is one, signed by `authority`.
    pub(crate) async fn ask_as(
        &self,
        shown: Option<(&Authority, &str, SystemTime)>,
        header: Option<&str>,
    ) -> Result<Vec<String>, String> {
        let mut roots = RootCertStore::empty();
        let of_server = self.authority.borrow().roots().to_owned();
        for root in CertificateDer::pem_slice_iter(of_server.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((authority, id, now)) => {
                let key = KeyPair::generate().unwrap();
                let params = CertificateParams::default();
                let csr = params.serialize_request(&key).unwrap().pem().unwrap();
                let csr = Csr::parse(&csr).unwrap();
                let issued = authority
                    .sign(&csr, &id.parse().unwrap(), HOUR, now)
                    .unwrap();
                let leaf = CertificateDer::from_pem_slice(issued.chain[0].as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![leaf], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = Secured {
            address: self.secured,
            config: Arc::new(config),
        };
        let endpoint = Endpoint::from_static("http://istiod.istio-system.svc");
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| error.to_string())?;
        let reply = ask_over(channel, header, asked(csr(&[]))).await;
        reply.map_err(|status| format!("{:?}: {status}", status.code()))
    }
}

/// Connects over TLS.
#[derive(Clone)]
struct Secured {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl tower_service::Service<http::Uri> for Secured {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { address, config } = self.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            let name = "istiod.istio-system.svc".try_into().unwrap();
            let stream = TlsConnector::from(config).connect(name, tcp).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn ask_over(
    channel: Channel,
    header: Option<&str>,
    asked: Asked,
) -> Result<Vec<String>, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(asked);
    if let Some(header) = header {
        let value = header.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let path = http::uri::PathAndQuery::from_static(
        "/istio.v1.auth.IstioCertificateService/CreateCertificate",
    );
    let codec = ProstCodec::<Asked, Given>::default();
    let reply = grpc.unary(request, path, codec).await?;
    Ok(reply.into_inner().cert_chain)
}

pub(crate) fn bearer(account: &str) -> Bearer {
    Bearer {
        account: ServiceAccount::new("default", account).unwrap(),
        workload: format!("{account}-v1"),
    }
}

/// A request for these names.
pub(crate) fn csr(names: &[&str]) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = |name: &&str| match name.contains("://") {
        true => SanType::URI((*name).try_into().unwrap()),
        false => SanType::DnsName((*name).try_into().unwrap()),
    };
    params.subject_alt_names = names.iter().map(name).collect();
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

pub(crate) fn asked(csr: String) -> Asked {
    Asked {
        csr,
        validity_duration: 0,
    }
}

pub(crate) fn facts(pem: &str) -> periplus_identity::Facts {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    periplus_identity::Facts::read(&der).unwrap()
}
