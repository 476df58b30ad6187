//! Whom a peer's certificate makes it.
//!
//! As in Envoy, a name is only asked for by `match_typed_subject_alt_names`: neither the SNI nor the
//! address of an endpoint has to be in its certificate.

use std::sync::Arc;

use aws_lc_rs::digest::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use thiserror::Error as ThisError;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth,
    RevocationOptionsBuilder,
};

use super::certificate::sha256;
use crate::tls::Certificate;
use crate::tls::san::SanMatch;

/// What a peer must show: `CertificateValidationContext` with what it refers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validation {
    /// The roots; without them any certificate is taken.
    pub(crate) trusted: Option<Vec<CertificateDer<'static>>>,
    /// Whom their issuers take back: of each issuer below a root there must be a list then.
    pub(crate) revoked: Option<Revoked>,
    /// One of them must hold, if there is any.
    pub(crate) sans: Vec<SanMatch>,
    /// SHA-256 of the certificate: one of them, if there is any.
    pub(crate) hashes: Vec<[u8; 32]>,
    /// SHA-256 of the public key: one of them, if there is any.
    pub(crate) keys: Vec<[u8; 32]>,
    /// `ACCEPT_UNTRUSTED`: a chain that leads to no root is taken too.
    pub(crate) accepts_untrusted: bool,
    /// The names of the roots are not sent to clients.
    pub(crate) hides_roots: bool,
}

impl Validation {
    /// Whether a peer's certificate must lead to a root.
    pub(super) fn checks_chain(&self) -> bool {
        self.trusted.is_some() && !self.accepts_untrusted
    }

    /// Whether anything is asked of a peer.
    pub(crate) fn asks(&self) -> bool {
        self.trusted.is_some()
            || !self.sans.is_empty()
            || !self.hashes.is_empty()
            || !self.keys.is_empty()
    }
}

/// Lists of revoked certificates: `crl`.
#[derive(Clone, Debug)]
pub(crate) struct Revoked {
    /// At least one.
    pub(crate) lists: Arc<[CertRevocationList<'static>]>,
    /// `only_verify_leaf_cert_crl`: nobody asks whether those between a peer's certificate and a root are revoked.
    pub(crate) only_leaf: bool,
}

/// What a peer's certificate lacks, besides a chain to a root.
#[derive(Clone, Copy, Debug, ThisError)]
pub(crate) enum Mismatch {
    #[error("none of the certificate's subject alternative names is asked for")]
    San,
    #[error("the certificate is none of those that are asked for")]
    Hash,
}

/// Verifies peers, on either side.
#[derive(Debug)]
pub(super) struct Verifier {
    validation: Validation,
    anchors: Vec<TrustAnchor<'static>>,
    root_names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
    /// A client must show a certificate.
    required: bool,
}

impl Verifier {
    /// Fails if one of the roots is no certificate.
    pub(super) fn new(
        validation: Validation,
        algorithms: WebPkiSupportedAlgorithms,
        required: bool,
    ) -> Result<Arc<Self>, webpki::Error> {
        let roots = validation.trusted.as_deref().unwrap_or_default();
        let anchors = roots
            .iter()
            .map(|root| Ok(webpki::anchor_from_trusted_cert(root)?.to_owned()))
            .collect::<Result<Vec<_>, webpki::Error>>()?;
        let root_names = anchors
            .iter()
            .filter(|_| !validation.hides_roots)
            .map(|anchor| DistinguishedName::in_sequence(&anchor.subject))
            .collect();
        Ok(Arc::new(Self {
            validation,
            anchors,
            root_names,
            algorithms,
            required,
        }))
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), Error> {
        let wanted = &self.validation;
        if wanted.checks_chain() {
            let parsed = EndEntityCert::try_from(leaf).map_err(chain_error)?;
            let revoked = wanted.revoked.as_ref();
            let lists: Vec<_> = revoked.iter().flat_map(|one| one.lists.iter()).collect();
            let options = revoked.map(|revoked| {
                let builder = RevocationOptionsBuilder::new(&lists);
                let builder = builder.expect("there is a list");
                builder
                    .with_depth(match revoked.only_leaf {
                        true => RevocationCheckDepth::EndEntity,
                        false => RevocationCheckDepth::Chain,
                    })
                    .with_expiration_policy(ExpirationPolicy::Enforce)
                    .build()
            });
            parsed
                .verify_for_usage(
                    self.algorithms.all,
                    &self.anchors,
                    others,
                    now,
                    usage,
                    options,
                    None,
                )
                .map_err(chain_error)?;
        }
        if !wanted.sans.is_empty() {
            let certificate = Certificate::read(leaf).ok_or(CertificateError::BadEncoding)?;
            if !wanted.sans.iter().any(|san| san.holds(&certificate)) {
                return Err(other(Mismatch::San));
            }
        }
        if wanted.hashes.is_empty() && wanted.keys.is_empty() {
            return Ok(());
        }
        let has = |known: &[[u8; 32]], digest: Digest| {
            known.iter().any(|hash| hash.as_slice() == digest.as_ref())
        };
        let parsed = EndEntityCert::try_from(leaf).map_err(chain_error)?;
        let key = sha256(&parsed.subject_public_key_info());
        if has(&wanted.hashes, sha256(leaf)) || has(&wanted.keys, key) {
            Ok(())
        } else {
            Err(other(Mismatch::Hash))
        }
    }
}

fn other(mismatch: Mismatch) -> Error {
    CertificateError::Other(OtherError(Arc::new(mismatch))).into()
}

/// The error of a chain, in the words that end in an alert of their own.
fn chain_error(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => CertificateError::Expired,
        E::CertNotValidYet { .. } => CertificateError::NotValidYet,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        E::BadDer => CertificateError::BadEncoding,
        error => CertificateError::Other(OtherError(Arc::new(error))),
    }
    .into()
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.root_names
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, others, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, others, KeyUsage::server_auth(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
