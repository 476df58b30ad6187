//! The port with TLS: proxies get the configuration of their own workload, and of no other.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Any;
use periplus_control::{CertificateOptions, CertificateSource, ControlPlane, Debounce, Options};
use periplus_identity::{
    AUDIENCE, Authority, Bearer, Config, Credentials, Dialer, Home, Lifetimes, Rotation,
    ServerName, ServiceAccount, TokenKey, Trust, fetch,
};
use periplus_xds::client::{self, Dial, Handler, Rejection, Secure, Stream, StreamError};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::support::{PATIENCE, Plan, set, sidecar};

const HOUR: Duration = Duration::from_secs(3600);

/// What came of a stream: its first response, or its end.
struct Outcome(mpsc::UnboundedSender<Result<(), String>>);

impl Handler for Outcome {
    fn apply(&mut self, _: &str, _: &str, _: Vec<Any>) -> Result<(), Vec<Rejection>> {
        // Nobody waits for more than the first.
        let _ = self.0.send(Ok(()));
        Ok(())
    }

    fn wanted(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn disconnected(&mut self, error: &StreamError) {
        let _ = self.0.send(Err(error.with_causes()));
    }
}

struct Known {
    dialer: Dialer,
    token: Option<String>,
}

impl Dial for Known {
    fn dial(&self) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>> {
        let dialer = self.dialer.clone();
        Box::pin(async move { Ok(Box::new(dialer.connect().await?) as Box<dyn Stream>) })
    }

    fn token(&self) -> Option<String> {
        self.token.clone()
    }
}

struct World {
    directory: tempfile::TempDir,
    secured: String,
    plain: String,
    monitoring: std::net::SocketAddr,
    tokens: TokenKey,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let resources = directory.path().join("config");
        std::fs::create_dir(&resources).expect("a directory");
        for (name, text) in Plan::fixed().files() {
            std::fs::write(resources.join(name), text).expect("a file");
        }
        let identity = directory.path().join("identity");
        let lifetimes = Lifetimes {
            default: HOUR,
            most: HOUR,
        };
        let plane = ControlPlane::load(Options {
            certificates: Some(CertificateOptions {
                directory: identity.clone(),
                source: CertificateSource::Own,
                lifetimes,
                rotation: Rotation::new(HOUR * 20, HOUR),
                issuers: Vec::new(),
            }),
            directories: vec![resources],
            mesh_config: None,
            debounce: Debounce::default(),
        })
        .expect("the directory can be read");
        let listen = || TcpListener::bind("127.0.0.1:0");
        let [plain, secured, monitoring] = [listen(), listen(), listen()];
        let (plain, secured) = (plain.await.expect("a port"), secured.await.expect("a port"));
        let monitoring = monitoring.await.expect("a port");
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        let this = Self {
            plain: address(&plain).to_string(),
            secured: address(&secured).to_string(),
            monitoring: address(&monitoring),
            tokens: TokenKey::load_or_create(&identity.join("token-key.pem")).expect("a key"),
            directory,
        };
        let guarded = plane.guarded_ads().expect("an authority");
        let accepted = plane.secure(secured).expect("an authority");
        let certificates = plane.certificates().expect("an authority");
        let others = tonic::service::Routes::new(certificates);
        tokio::spawn(async move {
            let forever = std::future::pending();
            guarded.serve_with(accepted, others, forever).await
        });
        let ads = plane.ads();
        tokio::spawn(async move { ads.serve(plain, std::future::pending()).await });
        let router = plane.monitoring();
        tokio::spawn(async move { axum::serve(monitoring, router).await });
        tokio::spawn(plane.run());
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn trust(&self) -> Trust {
        Trust {
            roots: self.path("identity/ca/root-cert.pem"),
            server_name: ServerName::try_from("istiod.istio-system.svc").expect("a name"),
        }
    }

    fn token(&self, namespace: &str, account: &str) -> String {
        token(&self.tokens, namespace, account, HOUR)
    }

    /// The certificate of an account, as its proxy gets it on the port with TLS.
    async fn certificate(&self, account: &str) -> Credentials {
        let path = self.path(account);
        periplus_identity::private::write(&path, &self.token("default", account)).expect("a file");
        let id = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let config = Config {
            endpoint: format!("https://{}", self.secured),
            trust: Some(self.trust()),
            token: path,
            id: id.parse().expect("an id"),
            lifetime: None,
        };
        fetch(&config).await.expect("a certificate")
    }

    /// Opens a stream, and says what came of it.
    async fn ask(
        &self,
        own: Option<Credentials>,
        token: Option<String>,
        node: Node,
    ) -> Result<(), String> {
        let known = Known {
            dialer: Dialer {
                address: self.secured.clone(),
                trust: self.trust(),
                own: watch::channel(own.map(Arc::new)).1,
            },
            token,
        };
        let mut config = client::Config::new(format!("https://{}", self.secured), node);
        config.secure = Some(Secure(Arc::new(known)));
        first(config).await
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.monitoring);
        let answer = crate::support::http::get(self.monitoring, &url, &[]).await;
        answer.expect("an answer").body
    }

    async fn page(&self) -> Value {
        let url = format!("http://{}/debug/certificates", self.monitoring);
        let answer = crate::support::http::get(self.monitoring, &url, &[]).await;
        serde_json::from_str(&answer.expect("an answer").body).expect("JSON")
    }

    async fn refused(&self, reason: &str) -> u64 {
        let page = self.page().await;
        page["streamsRefused"][reason].as_u64().expect("a count")
    }
}

async fn first(config: client::Config) -> Result<(), String> {
    let (sender, mut outcomes) = mpsc::unbounded_channel();
    let mut outcome = Outcome(sender);
    let stream = tokio::spawn(async move { client::run(&config, &mut outcome).await });
    let first = timeout(PATIENCE, outcomes.recv()).await.expect("in time");
    stream.abort();
    first.expect("an outcome")
}

fn token(key: &TokenKey, namespace: &str, account: &str, lifetime: Duration) -> String {
    let bearer = Bearer {
        account: ServiceAccount::new(namespace, account).expect("an account"),
        workload: account.to_owned(),
    };
    key.issue(&bearer, AUDIENCE, lifetime, SystemTime::now() - HOUR / 2)
}

/// Another authority.
fn authority(path: &Path) -> Arc<Authority> {
    let home = Home::own(path, "cluster.local", Rotation::default()).expect("an authority");
    Arc::clone(&home.authority().borrow())
}

const REVIEWS: &str = "bookinfo-reviews";
const RATINGS: &str = "bookinfo-ratings";

#[tokio::test]
async fn a_proxy_gets_the_configuration_of_its_own_workload_alone() {
    let world = World::start().await;
    let reviews = || sidecar("reviews", "v1");
    let of = |account: &str| Some(world.token("default", account));
    let own = world.certificate(REVIEWS).await;
    let foreign_key = TokenKey::generate().expect("a key");
    // Its metadata are a lie: what it is called, and where it is, says whose configuration it wants.
    let mut disguised = reviews();
    set(&mut disguised, "SERVICE_ACCOUNT", RATINGS);
    let mut elsewhere = reviews();
    set(&mut elsewhere, "NAMESPACE", "shop");
    let mut renamed = disguised.clone();
    set(&mut renamed, "WORKLOAD_NAME", "nobody");
    let expired = token(&world.tokens, "default", REVIEWS, HOUR / 4);
    let foreign = token(&foreign_key, "default", REVIEWS, HOUR);
    for (what, shown, token, node, expected) in [
        ("its token", None, of(REVIEWS), reviews(), None),
        ("its certificate", Some(own.clone()), None, reviews(), None),
        ("both", Some(own.clone()), of(REVIEWS), reviews(), None),
        ("nothing", None, None, reviews(), Some("no_credentials")),
        (
            "no token",
            None,
            Some("a.b.c".into()),
            reviews(),
            Some("bad_token"),
        ),
        (
            "another mesh's",
            None,
            Some(foreign),
            reviews(),
            Some("bad_token"),
        ),
        (
            "too late",
            None,
            Some(expired),
            reviews(),
            Some("expired_token"),
        ),
        (
            "somebody else's besides",
            Some(own.clone()),
            of(RATINGS),
            reviews(),
            Some("contradiction"),
        ),
        ("stolen", None, of(RATINGS), reviews(), Some("foreign_node")),
        (
            "disguised",
            None,
            of(RATINGS),
            disguised,
            Some("foreign_node"),
        ),
        ("renamed", None, of(RATINGS), renamed, Some("foreign_node")),
        (
            "the certificate of one, the node of another",
            Some(own.clone()),
            None,
            sidecar("ratings", "v1"),
            Some("foreign_node"),
        ),
        (
            "of another namespace",
            None,
            Some(world.token("shop", REVIEWS)),
            reviews(),
            Some("foreign_node"),
        ),
        (
            "in another namespace",
            None,
            of(REVIEWS),
            elsewhere,
            Some("foreign_node"),
        ),
    ] {
        let before = match expected {
            Some(reason) => world.refused(reason).await,
            None => 0,
        };
        let outcome = world.ask(shown, token.clone(), node).await;
        let Some(reason) = expected else {
            assert_eq!(outcome, Ok(()), "{what}");
            continue;
        };
        let error = outcome.expect_err(what);
        let told = token.is_some_and(|token| error.contains(&token));
        assert!(!told, "what a token is, is told to nobody: {error}");
        assert!(world.refused(reason).await > before, "{what}: {error}");
    }
    // A certificate of another authority does not get so far.
    let stranger = authority(&world.path("stranger"));
    let shown = Some(foreign_certificate(&stranger));
    world
        .ask(shown, None, reviews())
        .await
        .expect_err("a stranger");
    let counted = "periplus_certificate_refusals_total{reason=\"foreign_certificate\"} 1";
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !world.metrics().await.lines().any(|line| line == counted) {
        assert!(tokio::time::Instant::now() < deadline, "it is not counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The port without TLS asks nobody.
    let plain = client::Config::new(format!("http://{}", world.plain), reviews());
    assert_eq!(first(plain).await, Ok(()));
    let counted = "periplus_xds_refusals_total{reason=\"no_credentials\"} ";
    assert!(world.metrics().await.contains(counted));
}

/// A certificate with the right name, signed by somebody else.
fn foreign_certificate(authority: &Authority) -> Credentials {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key);
    let request = request.expect("a request").pem().expect("PEM");
    let csr = periplus_identity::Csr::parse(&request).expect("a request");
    let id = format!("spiffe://cluster.local/ns/default/sa/{REVIEWS}");
    let id = id.parse().expect("an id");
    let now = SystemTime::now();
    let issued = authority.sign(&csr, &id, HOUR, now).expect("a certificate");
    let (_, chain) = issued.chain.split_last().expect("a chain");
    Credentials {
        chain: chain.concat(),
        key: key.serialize_pem(),
        roots: String::new(),
        expires: issued.expires,
        serial: String::new(),
    }
}

#[tokio::test]
async fn the_ends_of_all_certificates_are_shown() {
    let world = World::start().await;
    let page = world.page().await;
    let metrics = world.metrics().await;
    assert_eq!(page["replacesItself"], true, "{page:#}");
    for (name, certificate) in [
        ("citadel_server_root_cert", &page["roots"][0]),
        ("citadel_server_cert_chain", &page["authority"]),
        ("periplus_control_cert", &page["serving"]),
    ] {
        assert_eq!(certificate["endsSoon"], false, "{name}: {page:#}");
        let line = format!("{name}_expiry_timestamp {}", certificate["notAfter"]);
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
        let seconds = format!("{name}_expiry_seconds ");
        let mut left = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&seconds));
        let left: u64 = left.next().expect("a line").parse().expect("a number");
        let shown = certificate["secondsLeft"].as_u64().expect("a number");
        assert!(left.abs_diff(shown) < 60, "{name}: {left} {shown}");
    }
    assert_ne!(page["serving"]["serial"], page["authority"]["serial"]);
}
