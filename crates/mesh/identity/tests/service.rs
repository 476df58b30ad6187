//! `IstioCertificateService` over gRPC: who gets a certificate, and who does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use periplus_identity::{
    AUDIENCE, Access, Authority, Bearer, CertificateServer, Config, Counts, Credentials, Csr,
    FetchError, Home, Issuer, Lifetimes, Material, Reason, Rotation, ServiceAccount, SpiffeId,
    Taker, TokenKey, fetch, keep, private, tls,
};
use prost::Message;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const HOUR: Duration = Duration::from_secs(3600);
const REVIEWS: &str = "spiffe://cluster.local/ns/default/sa/reviews";

/// As the fact of the interface has it, written down once more.
#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(int64, tag = "3")]
    validity_duration: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Given {
    #[prost(string, repeated, tag = "1")]
    cert_chain: Vec<String>,
}

/// An authority with its server.
struct World {
    directory: TempDir,
    address: SocketAddr,
    secured: SocketAddr,
    authority: watch::Receiver<Arc<Authority>>,
    tokens: Arc<TokenKey>,
    counts: Arc<Counts>,
}

impl World {
    async fn start() -> Self {
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

    fn token(&self, account: &str) -> String {
        self.tokens
            .issue(&bearer(account), AUDIENCE, HOUR, SystemTime::now())
    }

    fn config(&self, token: &str) -> Config {
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

    async fn ask(&self, header: Option<&str>, asked: Asked) -> Result<Vec<String>, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        ask_over(endpoint.connect().await.unwrap(), header, asked).await
    }

    /// Over TLS, with a client certificate of this name if there is one, signed by `authority`.
    async fn ask_as(
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

fn bearer(account: &str) -> Bearer {
    Bearer {
        account: ServiceAccount::new("default", account).unwrap(),
        workload: format!("{account}-v1"),
    }
}

/// A request for these names.
fn csr(names: &[&str]) -> String {
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

fn asked(csr: String) -> Asked {
    Asked {
        csr,
        validity_duration: 0,
    }
}

fn facts(pem: &str) -> periplus_identity::Facts {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    periplus_identity::Facts::read(&der).unwrap()
}

#[tokio::test]
async fn trap_16_and_17_the_leaf_comes_first_and_its_name_from_the_caller() {
    let world = World::start().await;
    let header = format!("Bearer {}", world.token("reviews"));
    for names in [
        &[][..],
        &[REVIEWS],
        &["spiffe://old.local/ns/default/sa/reviews"],
    ] {
        let chain = world.ask(Some(&header), asked(csr(names))).await.unwrap();
        let [leaf, root] = chain.as_slice() else {
            panic!("{chain:?}");
        };
        assert_eq!(facts(leaf).uris, [REVIEWS], "{names:?}");
        assert!(facts(root).is_authority && leaf.ends_with("-----\n"));
    }
    for (seconds, expected) in [(0, HOUR), (-5, HOUR), (60, HOUR / 60), (7200, 2 * HOUR)] {
        let request = Asked {
            csr: csr(&[]),
            validity_duration: seconds,
        };
        let chain = world.ask(Some(&header), request).await.unwrap();
        let left = facts(&chain[0]).not_after.duration_since(SystemTime::now());
        let left = left.unwrap();
        assert!(
            left <= expected && left + Duration::from_secs(20) > expected,
            "{seconds}: {left:?}"
        );
    }
    assert_eq!(world.counts.issued(), 7);
}

#[tokio::test]
async fn others_are_refused_and_counted() {
    let world = World::start().await;
    let now = SystemTime::now();
    let good = world.token("reviews");
    let of = |token: &str| Some(format!("Bearer {token}"));
    let foreign = TokenKey::generate().unwrap();
    let foreign = foreign.issue(&bearer("reviews"), AUDIENCE, HOUR, now);
    let elsewhere = world.tokens.issue(&bearer("reviews"), "vault", HOUR, now);
    let old = world
        .tokens
        .issue(&bearer("reviews"), AUDIENCE, HOUR, now - 2 * HOUR);
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = part(r#"{"alg": "ES256"}"#);
    let payload = part(r#"{"iss": "https://elsewhere.example"}"#);
    let unproven = format!("{header}.{payload}.AAAA");
    let long = Asked {
        csr: csr(&[]),
        validity_duration: 7201,
    };
    let cases = [
        (
            None,
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::NoCredentials,
        ),
        (
            Some("Basic YTpi".to_owned()),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::BadToken,
        ),
        (
            of(&foreign),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::BadToken,
        ),
        (
            of(&elsewhere),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::ForeignAudience,
        ),
        (
            of(&old),
            asked(csr(&[])),
            Code::Unauthenticated,
            Reason::ExpiredToken,
        ),
        // One of an issuer that is known, whose keys have not come yet.
        (
            of(&unproven),
            asked(csr(&[])),
            Code::Unavailable,
            Reason::NoKeys,
        ),
        // The token of one workload in the hands of another.
        (
            of(&world.token("ratings")),
            asked(csr(&[REVIEWS])),
            Code::PermissionDenied,
            Reason::FalseSan,
        ),
        (
            of(&good),
            asked(csr(&["istiod.istio-system.svc"])),
            Code::PermissionDenied,
            Reason::FalseSan,
        ),
        (
            of(&good),
            asked("no request".to_owned()),
            Code::InvalidArgument,
            Reason::MalformedCsr,
        ),
        (
            of(&good),
            asked("a".repeat(20_000)),
            Code::InvalidArgument,
            Reason::TooLarge,
        ),
        (
            of(&good),
            asked("a".repeat(100_000)),
            Code::OutOfRange,
            Reason::TooLarge,
        ),
        (of(&good), long, Code::InvalidArgument, Reason::Lifetime),
    ];
    for (header, request, code, reason) in cases {
        let before = world.counts.refused(reason);
        let error = world.ask(header.as_deref(), request).await.unwrap_err();
        assert_eq!(error.code(), code, "{reason:?}: {error}");
        assert_eq!(world.counts.refused(reason), before + 1, "{reason:?}");
        // What a token is, is told to nobody.
        assert!(!error.message().contains(&good), "{error}");
    }
    assert_eq!(world.counts.issued(), 0);
    assert_eq!(world.counts.requests(), 12);
}

#[tokio::test]
async fn a_certificate_of_the_mesh_is_a_name_too() {
    let world = World::start().await;
    let own = Arc::clone(&world.authority.borrow());
    let now = SystemTime::now();
    let foreign = Material::self_signed("cluster.local", HOUR, now).unwrap();
    let foreign = Authority::new(&foreign).unwrap();
    let reviews = format!("Bearer {}", world.token("reviews"));
    let elsewhere = "spiffe://elsewhere/ns/default/sa/reviews";
    for (shown, header, expected) in [
        (Some((&*own, REVIEWS, now)), None, Ok(())),
        (Some((&*own, REVIEWS, now)), Some(&reviews), Ok(())),
        (None, Some(&reviews), Ok(())),
        (None, None, Err(Reason::NoCredentials)),
        (
            Some((&*own, "spiffe://cluster.local/ns/default/sa/ratings", now)),
            Some(&reviews),
            Err(Reason::Contradiction),
        ),
        (
            Some((&*own, elsewhere, now)),
            None,
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&foreign, REVIEWS, now)),
            None,
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&foreign, REVIEWS, now)),
            Some(&reviews),
            Err(Reason::ForeignCertificate),
        ),
        (
            Some((&*own, REVIEWS, now - 2 * HOUR)),
            None,
            Err(Reason::ExpiredCertificate),
        ),
    ] {
        let before = expected.err().map(|reason| world.counts.refused(reason));
        let outcome = world.ask_as(shown, header.map(String::as_str)).await;
        match expected {
            Ok(()) => assert_eq!(facts(&outcome.unwrap()[0]).uris, [REVIEWS]),
            Err(reason) => {
                assert!(outcome.is_err(), "{reason:?}");
                assert_eq!(Some(world.counts.refused(reason) - 1), before, "{reason:?}");
            }
        }
    }
    assert_eq!(world.counts.issued(), 3);
}

/// What is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Who holds a certificate of somebody else, or an old one, and tries again and again, fills no disk.
#[tokio::test]
async fn refused_client_certificates_are_logged_once_a_second() {
    const EACH: u64 = 12;
    let lines = Lines::default();
    let written = Arc::clone(&lines.0);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::start().await;
    let own = Arc::clone(&world.authority.borrow());
    let now = SystemTime::now();
    let foreign = Material::self_signed("cluster.local", HOUR, now).unwrap();
    let foreign = Authority::new(&foreign).unwrap();
    let began = Instant::now();
    for _ in 0..EACH {
        for shown in [(&foreign, REVIEWS, now), (&*own, REVIEWS, now - 2 * HOUR)] {
            world.ask_as(Some(shown), None).await.unwrap_err();
        }
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    for (reason, why) in [
        (Reason::ForeignCertificate, "UnknownIssuer"),
        (Reason::ExpiredCertificate, "expired"),
    ] {
        assert_eq!(world.counts.refused(reason), EACH);
        let name = format!("reason=\"{}\"", reason.name());
        let found: Vec<_> = text.lines().filter(|line| line.contains(&name)).collect();
        assert!((1..=seconds).contains(&found.len()), "{text}");
        assert!(found[0].contains("refused a client certificate"), "{text}");
        assert!(
            found[0].contains(why) && found[0].contains("in_all=1 "),
            "{text}"
        );
        assert!(found[0].contains("peer=127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn a_workload_gets_its_certificate_with_its_own_key() {
    let world = World::start().await;
    let config = world.config(&world.token("reviews"));
    let one = fetch(&config).await.unwrap();
    let two = fetch(&config).await.unwrap();
    assert_ne!(one.key, two.key, "each certificate has a key of its own");
    assert_eq!(facts(&one.chain).uris, [REVIEWS]);
    let other = Config {
        id: "spiffe://cluster.local/ns/default/sa/ratings"
            .parse::<SpiffeId>()
            .unwrap(),
        ..config
    };
    let error = fetch(&other).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Refused(status) if status.code() == Code::PermissionDenied)
    );
}

#[tokio::test]
async fn certificates_are_renewed_and_failures_are_tried_again() {
    struct Notes(mpsc::UnboundedSender<Result<Credentials, String>>);
    impl Taker for Notes {
        fn renewed(&mut self, credentials: Credentials) {
            self.0.send(Ok(credentials)).unwrap();
        }

        fn failed(&mut self, error: &FetchError) {
            self.0.send(Err(error.to_string())).unwrap();
        }
    }
    let world = World::start().await;
    let good = world.token("reviews");
    let config = Config {
        lifetime: Some(Duration::from_secs(2)),
        ..world.config("stale")
    };
    let (sender, mut notes) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move { keep(&config, &mut Notes(sender)).await });
    let error = notes.recv().await.unwrap().unwrap_err();
    assert!(
        error.contains("the certificate authority refuses"),
        "{error}"
    );
    world.config(&good);
    let mut renewed = Vec::new();
    while renewed.len() < 3 {
        if let Ok(credentials) = notes.recv().await.unwrap() {
            renewed.push(credentials);
        }
    }
    // Certificates end at full seconds.
    assert!(renewed[2].expires > renewed[0].expires);
    assert_ne!(renewed[0].serial, renewed[1].serial);
    task.abort();
}
