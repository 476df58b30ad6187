//! Whom a peer's certificate makes it.
//!
//! As in Envoy, a name is only asked for by `match_typed_subject_alt_names`: neither the SNI nor the
//! address of an endpoint has to be in its certificate.

use std::collections::HashMap;
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
use super::der::is_for_a_leaf;
use crate::tls::Certificate;
use crate::tls::san::SanMatch;

/// What a peer must show: `CertificateValidationContext` with what it refers to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validation {
    /// The roots; without them any certificate is taken.
    pub(crate) trusted: Option<Trusted>,
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

/// The roots that peers' certificates must lead to.
#[derive(Clone, Debug)]
pub(crate) enum Trusted {
    /// One of them: `trusted_ca`.
    Any(Vec<CertificateDer<'static>>),
    /// One of those of the trust domain of the SPIFFE id that the certificate shows: none may sign ids of another.
    OfDomain(Vec<(String, Vec<CertificateDer<'static>>)>),
}

impl Trusted {
    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let (any, domains) = match self {
            Self::Any(roots) => (roots.as_slice(), &[][..]),
            Self::OfDomain(domains) => (&[][..], domains.as_slice()),
        };
        any.iter()
            .chain(domains.iter().flat_map(|(_, roots)| roots))
    }
}

impl Validation {
    /// Whether a peer must show a certificate wherever one may be asked for: it is asked whose id it is.
    pub(crate) fn asks_for_an_id(&self) -> bool {
        matches!(self.trusted, Some(Trusted::OfDomain(_)))
    }

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
    #[error("the certificate is no SPIFFE id's, or its key may sign others")]
    NoId,
    #[error("the certificate's trust domain has no roots here")]
    TrustDomain,
}

/// Verifies peers, on either side.
#[derive(Debug)]
pub(super) struct Verifier {
    validation: Validation,
    anchors: Anchors,
    root_names: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
    /// A client must show a certificate.
    required: bool,
}

/// The roots as they are used.
#[derive(Debug)]
enum Anchors {
    Any(Vec<TrustAnchor<'static>>),
    OfDomain(HashMap<String, Vec<TrustAnchor<'static>>>),
}

impl Anchors {
    fn of(trusted: Option<&Trusted>) -> Result<Self, webpki::Error> {
        let usable = |roots: &[CertificateDer<'static>]| {
            let roots = roots.iter();
            roots
                .map(|root| Ok(webpki::anchor_from_trusted_cert(root)?.to_owned()))
                .collect::<Result<Vec<_>, webpki::Error>>()
        };
        Ok(match trusted {
            None => Self::Any(Vec::new()),
            Some(Trusted::Any(roots)) => Self::Any(usable(roots)?),
            Some(Trusted::OfDomain(domains)) => {
                let domains = domains.iter();
                let usable = domains.map(|(domain, roots)| Ok((domain.clone(), usable(roots)?)));
                Self::OfDomain(usable.collect::<Result<_, webpki::Error>>()?)
            }
        })
    }

    fn all(&self) -> impl Iterator<Item = &TrustAnchor<'static>> {
        let (any, domains) = match self {
            Self::Any(anchors) => (anchors.as_slice(), None),
            Self::OfDomain(domains) => (&[][..], Some(domains)),
        };
        any.iter()
            .chain(domains.into_iter().flat_map(|all| all.values().flatten()))
    }

    /// Those that a certificate may lead to.
    fn for_leaf(&self, leaf: &CertificateDer<'_>) -> Result<&[TrustAnchor<'static>], Error> {
        let domains = match self {
            Self::Any(anchors) => return Ok(anchors),
            Self::OfDomain(domains) => domains,
        };
        let certificate = Certificate::read(leaf).ok_or(CertificateError::BadEncoding)?;
        // With a second one somebody could show an id of another domain (X509-SVID §2, §4.3, §5.2).
        let [id] = &*certificate.uris else {
            return Err(other(Mismatch::NoId));
        };
        let rest = id
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'));
        let Some((domain, _)) = rest.filter(|_| is_for_a_leaf(leaf)) else {
            return Err(other(Mismatch::NoId));
        };
        let anchors = domains.get(domain).map(Vec::as_slice);
        anchors.ok_or_else(|| other(Mismatch::TrustDomain))
    }
}

impl Verifier {
    /// Fails if one of the roots is no certificate.
    pub(super) fn new(
        validation: Validation,
        algorithms: WebPkiSupportedAlgorithms,
        required: bool,
    ) -> Result<Arc<Self>, webpki::Error> {
        let anchors = Anchors::of(validation.trusted.as_ref())?;
        let root_names = anchors
            .all()
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
            let anchors = self.anchors.for_leaf(leaf)?;
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
                    anchors,
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
    use rustls::crypto::aws_lc_rs;

    use super::*;

    struct Root(Issuer<'static, KeyPair>, CertificateDer<'static>);

    impl Root {
        fn new() -> Self {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            let own = params.self_signed(&key).expect("a certificate");
            Self(Issuer::new(params, key), own.der().clone())
        }

        fn issue(&self, uris: &[&str], usages: &[KeyUsagePurpose]) -> CertificateDer<'static> {
            let mut params = CertificateParams::default();
            let uris = uris.iter();
            let uris = uris.map(|uri| SanType::URI((*uri).try_into().expect("a URI")));
            params.subject_alt_names = uris.collect();
            params.key_usages = usages.to_vec();
            let key = KeyPair::generate().expect("a key");
            let made = params.signed_by(&key, &self.0).expect("a certificate");
            made.der().clone()
        }
    }

    #[test]
    fn a_root_signs_ids_of_its_own_trust_domain_only() {
        let (one, other) = (Root::new(), Root::new());
        let domains = [("one.example", &one), ("other.example", &other)];
        let domains = domains.map(|(name, root)| (name.to_owned(), vec![root.1.clone()]));
        let validation = Validation {
            trusted: Some(Trusted::OfDomain(domains.into())),
            ..Validation::default()
        };
        assert!(validation.asks_for_an_id() && validation.checks_chain());
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let verifier = Verifier::new(validation, algorithms, true).expect("usable roots");
        let sign = [KeyUsagePurpose::DigitalSignature];
        let more = [sign[0], KeyUsagePurpose::CrlSign];
        let (own, foreign) = ("spiffe://one.example/a", "spiffe://other.example/a");
        for (root, uris, usages, expected) in [
            (&one, &[own][..], &sign[..], ""),
            (&other, &[foreign], &sign, ""),
            (&other, &[own], &sign, "BadSignature"),
            (&one, &[foreign], &sign, "BadSignature"),
            // The first one would choose the roots, and the second one could be believed.
            (&one, &[own, foreign], &sign, "NoId"),
            (&one, &[], &sign, "NoId"),
            (&one, &["https://one.example/a"], &sign, "NoId"),
            (&one, &["spiffe://one.example"], &sign, "NoId"),
            (&one, &["spiffe://ONE.example/a"], &sign, "TrustDomain"),
            (&one, &["spiffe://one.example.com/a"], &sign, "TrustDomain"),
            (&one, &[own], &more, "NoId"),
            (&one, &[own], &[], "NoId"),
        ] {
            let leaf = root.issue(uris, usages);
            let found = verifier.verify(&leaf, &[], KeyUsage::client_auth(), UnixTime::now());
            let found = found.err().map(|error| format!("{error:?}"));
            let said = found.unwrap_or_default();
            assert_eq!(said.is_empty(), expected.is_empty(), "{uris:?}: {said}");
            assert!(said.contains(expected), "{uris:?}: {said}");
        }
    }
}
