//! TLS and mTLS on every port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::client::{Client, Identity, patiently};
use crate::harness::{Serve, command};
use crate::spans;

/// An authority that signs what it is asked to.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than that of what it signs, which would look self-signed.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for this machine.
    pub(crate) fn sign(&self) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        params.subject_alt_names.push(address);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// The server's files.
pub(crate) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl Files {
    pub(crate) fn write(dir: &Path, authority: &Authority) -> Self {
        let files = Self {
            certificate: dir.join("server.crt"),
            key: dir.join("server.key"),
            authorities: dir.join("ca.crt"),
        };
        fs::write(&files.authorities, &authority.pem).unwrap();
        files.replace(&authority.sign());
        files
    }

    fn replace(&self, identity: &Identity) {
        fs::write(&self.key, &identity.key).unwrap();
        fs::write(&self.certificate, &identity.certificate).unwrap();
    }

    pub(crate) fn flags(&self) -> [&str; 4] {
        let [certificate, key] = [&self.certificate, &self.key];
        [
            "--tls-cert",
            certificate.to_str().unwrap(),
            "--tls-key",
            key.to_str().unwrap(),
        ]
    }

    pub(crate) fn authorities(&self) -> &str {
        self.authorities.to_str().unwrap()
    }
}

/// What each port answers over HTTP.
const HTTP: [(&str, &str, u16); 7] = [
    ("UI", "/api/services", 200),
    ("OTLP over HTTP", "/", 404),
    ("Zipkin", "/api/v2/services", 200),
    ("Jaeger over HTTP", "/api/sampling?service=a", 200),
    ("health", "/status", 200),
    ("own metrics", "/metrics", 200),
    ("sampling over HTTP", "/sampling?service=a", 200),
];

/// And over gRPC.
fn calls() -> [(&'static str, &'static str, Vec<u8>); 5] {
    let service = spans::bytes(1, b"a");
    let strategy = "/jaeger.api_v2.SamplingManager/GetSamplingStrategy";
    [
        (
            "OTLP over gRPC",
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            spans::otlp(1, "a"),
        ),
        (
            "Jaeger over gRPC",
            "/jaeger.api_v2.CollectorService/PostSpans",
            spans::jaeger(2, "a"),
        ),
        (
            "Zipkin",
            "/zipkin.proto3.SpanService/Report",
            spans::zipkin_proto(3, "a"),
        ),
        (
            "Jaeger query, gRPC",
            "/jaeger.api_v2.QueryService/GetServices",
            Vec::new(),
        ),
        ("sampling over gRPC", strategy, service),
    ]
}

/// Asks every port; whether each answers as it should, or none does.
async fn every_port(serve: &Serve, client: &Client, answers: bool) {
    for (port, path, status) in HTTP {
        let url = format!("{}{path}", serve.addresses[port]);
        let answer = client.send(Method::GET, &url, &[], "").await;
        match answers {
            true => assert_eq!(answer.unwrap().status, status, "{port}"),
            false => assert!(answer.is_err(), "{port}: {answer:?}"),
        }
    }
    for (port, path, message) in calls() {
        let url = format!("{}{path}", serve.addresses[port]);
        let call = client.try_call(&url, &[], &message).await;
        match answers {
            true => assert_eq!(call.unwrap().code, 0, "{port}"),
            false => assert!(call.is_err(), "{port}: {call:?}"),
        }
    }
}

#[tokio::test]
async fn every_port_speaks_tls_and_nothing_else() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let serve = Serve::start_with(&[&["--memory"][..], &files.flags()].concat());
    every_port(&serve, &Client::trusting(&authority.pem, None), true).await;
    every_port(
        &serve,
        &Client::trusting(&Authority::new().pem, None),
        false,
    )
    .await;
    every_port(&serve, &Client::plain(), false).await;
}

#[tokio::test]
async fn with_authorities_every_port_wants_a_certificate() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let clients = ["--tls-client-ca", files.authorities()];
    let serve = Serve::start_with(&[&["--memory"][..], &files.flags(), &clients].concat());
    let (own, foreign) = (authority.sign(), Authority::new().sign());
    every_port(&serve, &Client::trusting(&authority.pem, Some(&own)), true).await;
    every_port(&serve, &Client::trusting(&authority.pem, None), false).await;
    every_port(
        &serve,
        &Client::trusting(&authority.pem, Some(&foreign)),
        false,
    )
    .await;
}

#[tokio::test]
async fn ports_can_be_excepted() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let except = ["--memory", "--tls-except", "health,metrics,otlp/grpc"];
    let serve = Serve::start_with(&[&except[..], &files.flags()].concat());
    let (plain, secure) = (Client::plain(), Client::trusting(&authority.pem, None));
    for (port, path) in [("health", "/status"), ("own metrics", "/metrics")] {
        let url = format!("{}{path}", serve.addresses[port]);
        assert_eq!(plain.get(&url, &[]).await.status, 200);
    }
    let [(port, path, message), ..] = calls();
    let url = format!("{}{path}", serve.addresses[port]);
    assert_eq!(plain.call(&url, &[], &message).await.code, 0);
    let url = format!("{}/api/services", serve.addresses["UI"]);
    assert_eq!(secure.get(&url, &[]).await.status, 200);
    assert!(plain.send(Method::GET, &url, &[], "").await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_used_and_connections_stay() {
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let serve = Serve::start_with(&[&["--memory"][..], &files.flags()].concat());
    let [(port, path, message), ..] = calls();
    let url = format!("{}{path}", serve.addresses[port]);
    // It keeps its connection: a new one would need the new authority.
    let old = Client::trusting(&authority.pem, None);
    assert_eq!(old.call(&url, &[], &message).await.code, 0);

    let next = Authority::new();
    files.replace(&next.sign());
    patiently("the new certificate", async || {
        let client = Client::trusting(&next.pem, None);
        client.try_call(&url, &[], &message).await.ok()
    })
    .await;
    assert_eq!(old.call(&url, &[], &message).await.code, 0);
    let stranger = Client::trusting(&authority.pem, None);
    assert!(stranger.try_call(&url, &[], &message).await.is_err());
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::write(dir.path(), &Authority::new());
    let other = Authority::new().sign();
    for (break_it, expected) in [
        (
            Box::new(|| fs::write(&files.key, &other.key).unwrap()) as Box<dyn Fn()>,
            "server.crt cannot be used with the key",
        ),
        (
            Box::new(|| fs::write(&files.key, "nothing").unwrap()),
            "no private key in",
        ),
        (
            Box::new(|| fs::remove_file(&files.certificate).unwrap()),
            "cannot read certificate from",
        ),
    ] {
        break_it();
        let output = command(&[&["--memory"][..], &files.flags()].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            error.contains("cannot turn TLS on") && error.contains(expected),
            "{error}"
        );
        assert!(!error.contains("PRIVATE KEY-----"), "{error}");
    }
    let alone = command(&["--memory", "--tls-cert", "x"]).output().unwrap();
    let error = String::from_utf8(alone.stderr).unwrap();
    assert!(error.contains("--tls-key"), "{error}");
}

/// Clients that others have made: gRPC's for Python, and curl.
#[test]
fn real_clients_speak_tls_and_mtls() {
    let Some(python) = python() else { return };
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = Files::write(dir.path(), &authority);
    let clients = ["--tls-client-ca", files.authorities()];
    let serve = Serve::start_with(&[&["--memory"][..], &files.flags(), &clients].concat());
    let own = authority.sign();
    let (certificate, key) = (dir.path().join("client.crt"), dir.path().join("client.key"));
    fs::write(&certificate, own.certificate).unwrap();
    fs::write(&key, own.key).unwrap();

    for (port, path, message) in calls() {
        let message = message
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let address = serve.addresses[port].to_string();
        for (certificates, expected) in [(true, "OK"), (false, "UNAVAILABLE")] {
            let mut command = Command::new(&python);
            command.args(["tests/clients/python/tls.py", &address, path, &message]);
            command.arg(files.authorities());
            if certificates {
                command.args([&certificate, &key]);
            }
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said.trim(), expected, "{port}: {output:?}");
        }
    }
    for (port, path, status) in HTTP {
        let url = format!("https://{}{path}", serve.addresses[port]);
        for version in ["--http1.1", "--http2"] {
            let mut curl = Command::new("curl");
            let format = "%{http_code} %{http_version}";
            curl.args(["-s", "-o", "/dev/null", "-w", format, version, "--cacert"]);
            curl.arg(files.authorities());
            curl.arg("--cert")
                .arg(&certificate)
                .arg("--key")
                .arg(&key)
                .arg(&url);
            let output = curl.output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            let version = if version == "--http2" { "2" } else { "1.1" };
            assert_eq!(said, format!("{status} {version}"), "{port}");
        }
    }
}

/// `None`, and a notice, where it is not prepared; in CI it must be.
pub(crate) fn python() -> Option<PathBuf> {
    let python = std::env::var_os("PERIPLUS_PEERS_PYTHON");
    assert!(
        python.is_some() || std::env::var_os("CI").is_none(),
        "PERIPLUS_PEERS_PYTHON is not set; run the tests with: cargo xtask test"
    );
    if python.is_none() {
        eprintln!("left out: PERIPLUS_PEERS_PYTHON is not set; run: cargo xtask test");
    }
    python.map(PathBuf::from)
}
