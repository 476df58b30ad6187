//! What a handshake has shown, and why it failed.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, CipherSuite, CommonState, Error, HandshakeKind, ProtocolVersion};

use super::verify::Mismatch;
use crate::stats::TlsStats;
use crate::tls::Certificate;

/// What is known of a TLS connection once it stands.
#[derive(Debug)]
pub(crate) struct Secured {
    /// The peer's certificate, if it has shown one.
    pub(crate) peer: Option<Certificate>,
    /// The certificates that it has shown besides.
    pub(crate) peer_issuers: Vec<CertificateDer<'static>>,
    /// This proxy's own, if it has one.
    pub(crate) own: Option<Arc<Certificate>>,
    /// The name that the client asked for.
    pub(crate) server_name: Option<String>,
    /// What both have agreed on, if that is known.
    pub(crate) agreed: Option<Agreed>,
}

/// The version and the cipher of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) version: ProtocolVersion,
    pub(crate) cipher: CipherSuite,
}

impl Agreed {
    /// As OpenSSL and Envoy write it.
    pub(crate) fn version_name(self) -> Option<&'static str> {
        Some(match self.version {
            ProtocolVersion::TLSv1_2 => "TLSv1.2",
            ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => return None,
        })
    }

    /// As OpenSSL and Envoy write it.
    pub(crate) fn cipher_name(self) -> Option<&'static str> {
        Some(match self.cipher {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
            CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "ECDHE-ECDSA-CHACHA20-POLY1305"
            }
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                "ECDHE-RSA-CHACHA20-POLY1305"
            }
            _ => return None,
        })
    }
}

impl Secured {
    /// What the state of a connection says after its handshake.
    pub(crate) fn of(
        state: &CommonState,
        own: Option<Arc<Certificate>>,
        server_name: Option<String>,
    ) -> Self {
        let chain = state.peer_certificates().unwrap_or_default();
        Self {
            peer: chain.first().and_then(Certificate::read),
            peer_issuers: chain.iter().skip(1).cloned().collect(),
            own,
            server_name,
            agreed: state
                .protocol_version()
                .zip(state.negotiated_cipher_suite())
                .map(|(version, cipher)| Agreed {
                    version,
                    cipher: cipher.suite(),
                }),
        }
    }

    /// The SPIFFE id of the peer.
    pub(crate) fn peer_id(&self) -> Option<&str> {
        spiffe_id(self.peer.as_ref()?)
    }

    /// The SPIFFE id of this proxy.
    pub(crate) fn own_id(&self) -> Option<&str> {
        spiffe_id(self.own.as_deref()?)
    }
}

fn spiffe_id(certificate: &Certificate) -> Option<&str> {
    let mut uris = certificate.uris.iter();
    let id = uris.find(|uri| uri.starts_with("spiffe://"));
    id.map(String::as_str)
}

/// Refuses a session that was resumed on certificates which have expired since it began: a handshake that
/// resumes looks at none. What else may have changed, such as roots, begins a context without sessions.
pub(crate) fn check_resumed(state: &CommonState) -> io::Result<()> {
    if state.handshake_kind() != Some(HandshakeKind::Resumed) {
        return Ok(());
    }
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    let has_expired = |der| Certificate::read(der).is_none_or(|read| read.not_after < now);
    let mut chain = state.peer_certificates().unwrap_or_default().iter();
    if chain.any(has_expired) {
        let expired = Error::InvalidCertificate(CertificateError::Expired);
        return Err(io::Error::new(io::ErrorKind::InvalidData, expired));
    }
    Ok(())
}

impl TlsStats {
    /// Counts a handshake that went well.
    pub(crate) fn count_handshake(&self, state: &CommonState) {
        self.handshake.increment();
        if state.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.session_reused.increment();
        }
        if state.peer_certificates().is_none() {
            self.no_certificate.increment();
        }
        match state.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => self.version_1_2.increment(),
            Some(rustls::ProtocolVersion::TLSv1_3) => self.version_1_3.increment(),
            _ => {}
        }
    }

    /// Counts a handshake that failed, under Envoy's name for the reason.
    pub(crate) fn count_failure(&self, error: &io::Error) {
        let Some(error) = tls_error(error) else {
            self.connection_error.increment();
            return;
        };
        match error {
            Error::NoCertificatesPresented => self.fail_verify_no_cert.increment(),
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Mismatch>() {
                    Some(Mismatch::San) => self.fail_verify_san.increment(),
                    Some(Mismatch::Hash) => self.fail_verify_cert_hash.increment(),
                    Some(Mismatch::NoId | Mismatch::TrustDomain) | None => {
                        self.fail_verify_error.increment();
                    }
                }
            }
            Error::InvalidCertificate(_) => self.fail_verify_error.increment(),
            _ => self.connection_error.increment(),
        }
    }
}

/// The error of the TLS protocol, if it is one.
fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Why a handshake failed, for spans and logs; none if it is not about TLS.
pub(crate) fn reason(error: &io::Error) -> Option<String> {
    tls_error(error).map(|error| match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("invalid peer certificate: {}", other.0)
        }
        error => error.to_string(),
    })
}
