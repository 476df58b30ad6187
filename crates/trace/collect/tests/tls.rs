//! TLS and mTLS on a listener, and certificates that change.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use periplus_collect::{
    AllowedOrigins, Collector, Limits, Tls, TlsError, TlsFiles, serve_tls, zipkin,
};
use periplus_store::MemoryStore;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority that signs what it is asked to.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate and its key, in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(files: &TlsFiles, (certificate, key): &(String, String)) {
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
}

fn files(directory: &Path, client_authorities: Option<&Authority>) -> TlsFiles {
    let authorities = directory.join("clients.pem");
    TlsFiles {
        certificate: directory.join("server.pem"),
        key: directory.join("server.key"),
        client_authorities: client_authorities.map(|authority| {
            fs::write(&authorities, &authority.pem).unwrap();
            authorities
        }),
    }
}

async fn start(tls: Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let collector = Collector::new(Arc::new(MemoryStore::default()), Limits::default());
    let router = zipkin::router(collector, AllowedOrigins::default());
    tokio::spawn(serve_tls(listener, router, tls, std::future::pending()));
    address
}

/// Connects and sends a request over HTTP/1.1; the answer's first line.
async fn post(
    address: SocketAddr,
    authority: &Authority,
    own: Option<&(String, String)>,
) -> std::io::Result<String> {
    let mut stream = connect(address, authority, own, &[]).await?;
    let head = "POST /api/v2/spans HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 2\r\n\r\n[]";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

async fn connect(
    address: SocketAddr,
    authority: &Authority,
    own: Option<&(String, String)>,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

const ACCEPTED: &str = "HTTP/1.1 202 Accepted";

#[tokio::test]
async fn a_listener_speaks_tls_and_nothing_else() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = files(directory.path(), None);
    write(&files, &authority.sign("localhost"));
    let address = start(Tls::load(files).unwrap()).await;

    assert_eq!(post(address, &authority, None).await.unwrap(), ACCEPTED);
    for (offered, chosen) in [
        (vec![&b"h2"[..], b"http/1.1"], &b"h2"[..]),
        (vec![&b"http/1.1"[..]], b"http/1.1"),
    ] {
        let stream = connect(address, &authority, None, &offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen));
    }
    // Who does not trust the authority, and who speaks plain HTTP, gets no answer.
    assert!(post(address, &Authority::new(), None).await.is_err());
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET /health HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    assert_eq!(post(address, &authority, None).await.unwrap(), ACCEPTED);
}

#[tokio::test]
async fn clients_need_a_certificate_where_authorities_are_named() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = files(directory.path(), Some(&authority));
    write(&files, &authority.sign("localhost"));
    let address = start(Tls::load(files).unwrap()).await;

    let (own, foreign) = (authority.sign("client"), Authority::new().sign("client"));
    let answer = post(address, &authority, Some(&own)).await;
    assert_eq!(answer.unwrap(), ACCEPTED);
    assert!(post(address, &authority, None).await.is_err());
    assert!(post(address, &authority, Some(&foreign)).await.is_err());
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_bad_one_is_not() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let files = files(directory.path(), None);
    write(&files, &authority.sign("localhost"));
    let tls = Tls::load(files.clone()).unwrap();
    let address = start(tls.clone()).await;
    let shown = async || {
        let stream = connect(address, &authority, None, &[]).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = shown().await;
    assert!(!tls.reload().unwrap());

    write(&files, &authority.sign("localhost"));
    later(&files.certificate, 1);
    assert!(tls.reload().unwrap());
    let second = shown().await;
    assert_ne!(first, second);

    fs::write(&files.key, "no key").unwrap();
    later(&files.key, 2);
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Missing { .. }), "{error}");
    assert!(
        error.to_string().starts_with("no private key in "),
        "{error}"
    );
    assert_eq!(shown().await, second);
}

#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = Tls::load(files(directory.path(), None)).err().unwrap();
    let text = error.to_string();
    assert!(text.starts_with("cannot read certificate from "), "{text}");
    assert!(text.ends_with("server.pem"), "{text}");
}

/// Moves the file's time, which may not have moved since it was written before.
fn later(path: &Path, seconds: u64) {
    let time = SystemTime::now() + Duration::from_secs(seconds);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}
