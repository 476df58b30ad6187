//! A client of TLS that takes any certificate, and tells which one it was.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

/// A certificate that vouches for itself, and its key.
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
    certificate: CertificateDer<'static>,
    private: Vec<u8>,
}

impl Pair {
    pub(crate) fn of(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            certificate: made.cert.der().clone(),
            private: made.signing_key.serialize_der(),
        }
    }

    pub(crate) fn shows(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificate == *certificate
    }
}

/// How a client speaks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner<'a> {
    pub(crate) shows: Option<&'a Pair>,
    /// The only version that it has.
    pub(crate) version: Option<&'static SupportedProtocolVersion>,
    pub(crate) offers: &'static [&'static str],
}

/// A connection whose handshake is done.
pub(crate) struct Connection {
    reader: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    name: String,
}

impl Connection {
    /// Connects to a port of this machine; none if the other side does not want to.
    pub(crate) fn open(port: u16, name: &str, manner: Manner<'_>) -> Option<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let versions = match &manner.version {
            Some(version) => std::slice::from_ref(version),
            None => rustls::ALL_VERSIONS,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(algorithms)));
        let mut config = match manner.shows {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.private.clone()).unwrap();
                let chain = vec![pair.certificate.clone()];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let offers = manner.offers.iter();
        config.alpn_protocols = offers.map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let patience = Some(Duration::from_secs(30));
        stream.set_read_timeout(patience).unwrap();
        let server = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), server).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).ok()?;
        }
        Some(Self {
            reader: BufReader::new(stream),
            name: name.to_owned(),
        })
    }

    fn connection(&self) -> &ClientConnection {
        &self.reader.get_ref().conn
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let shown = self.connection().peer_certificates().unwrap();
        shown[0].clone().into_owned()
    }

    /// The protocol that was agreed upon.
    pub(crate) fn agreed(&self) -> Option<String> {
        let agreed = self.connection().alpn_protocol()?;
        Some(String::from_utf8_lossy(agreed).into_owned())
    }

    /// The status and the body of an answer to one more request; none if the connection is closed.
    pub(crate) fn get(&mut self, path: &str) -> Option<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.name);
        self.reader.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.reader
                .read_line(&mut line)
                .ok()
                .filter(|read| *read > 0)?;
            let line = line.trim_end().to_ascii_lowercase();
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
            }
            if let Some(("content-length", value)) = line.split_once(": ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).ok()?;
        Some((status?, String::from_utf8(body).unwrap()))
    }

    /// What is heard of a server that speaks other bytes, until it closes.
    pub(crate) fn hear(mut self) -> String {
        let mut heard = Vec::new();
        let _ = self.reader.get_mut().write_all(b"hello");
        let _ = self.reader.read_to_end(&mut heard);
        String::from_utf8(heard).unwrap()
    }
}

/// Believes anybody.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
