//! A TLS client that says what it is told to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::authority::{Authority, Pair};
use crate::xds_support::PATIENCE;
use crate::xds_support::http::Message;

/// What a client is.
pub(crate) struct Client {
    config: ClientConfig,
    name: ServerName<'static>,
}

impl Client {
    /// A client that trusts an authority, and asks for a server by this name.
    pub(crate) fn of(authority: &Authority, name: &str) -> Self {
        Self::with(authority, name, None, rustls::ALL_VERSIONS)
    }

    /// The same with a certificate of its own.
    pub(crate) fn with(
        authority: &Authority,
        name: &str,
        own: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        Self {
            config: identify(builder, own),
            name: ServerName::try_from(name.to_owned()).expect("a name"),
        }
    }

    /// A client that takes whatever certificate the server has, such as one with a SPIFFE id only.
    pub(crate) fn credulous(name: &str, own: Option<&Pair>, alpn: &[&str]) -> Self {
        Self::credulous_with(name, own, rustls::ALL_VERSIONS).offering(alpn)
    }

    /// The same over these versions.
    pub(crate) fn credulous_with(
        name: &str,
        own: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        Self {
            config: identify(builder, own),
            name: ServerName::try_from(name.to_owned()).expect("a name"),
        }
    }

    pub(crate) fn offering(mut self, alpn: &[&str]) -> Self {
        self.config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(to).await?).await
    }

    pub(crate) async fn connect_over(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        timeout(PATIENCE, connector.connect(self.name.clone(), tcp)).await?
    }

    /// Sends a request and reads until its response is complete, or the server ends the connection,
    /// which it must say.
    pub(crate) async fn exchange(&self, to: SocketAddr, request: &str) -> io::Result<Message> {
        exchange_over(self.connect(to).await?, request).await
    }

    pub(crate) async fn get(&self, to: SocketAddr, path: &str) -> io::Result<Message> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        self.exchange(to, &request).await
    }
}

impl Client {
    /// Sends a request of HTTP/2: the status of the answer.
    pub(crate) async fn get_http2(&self, to: SocketAddr, path: &str) -> io::Result<u16> {
        let stream = self.connect(to).await?;
        let request = http::Request::get(format!("http://test{path}"));
        let request = request.body(()).expect("a request");
        let exchange = async {
            let (mut send, connection) = h2::client::handshake(stream).await?;
            let connection = tokio::spawn(connection);
            let (response, _) = send.send_request(request, true)?;
            let status = response.await?.status().as_u16();
            connection.abort();
            Ok::<_, h2::Error>(status)
        };
        let answered = timeout(PATIENCE, exchange).await?;
        answered.map_err(io::Error::other)
    }
}

/// The same over any stream.
pub(crate) async fn exchange_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<Message> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if timeout(PATIENCE, stream.read_buf(&mut answer)).await?? == 0 {
            return Ok(Message::parse(&String::from_utf8_lossy(&answer)));
        }
        let message = Message::parse(&String::from_utf8_lossy(&answer));
        let length = message.header("content-length").map(str::parse);
        if length == Some(Ok(message.body.len())) {
            return Ok(message);
        }
    }
}

type WithVerifier = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn identify(builder: WithVerifier, own: Option<&Pair>) -> ClientConfig {
    let Some(own) = own else {
        return builder.with_no_client_auth();
    };
    let chain = CertificateDer::pem_slice_iter(own.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
    builder.with_client_auth_cert(chain, key).expect("a pair")
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
