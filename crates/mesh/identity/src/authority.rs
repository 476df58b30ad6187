//! The certificate authority: a key, its certificate, and the roots that peers believe.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use thiserror::Error;
use time::OffsetDateTime;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder,
    anchor_from_trusted_cert,
};

use crate::certificate::Facts;
use crate::csr::Csr;
use crate::revocation::{Lists, RevocationList};
use crate::spiffe::SpiffeId;

/// Certificates hold from so long ago, for peers whose clocks are late, as Istio's.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(120);
/// More certificates than this are no chain, and no roots.
const MAX_CERTIFICATES: usize = 64;

/// How long certificates of workloads hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// If nothing is asked for: `DEFAULT_WORKLOAD_CERT_TTL` of Istio, 24 hours.
    pub default: Duration,
    /// As long as may be asked for: `MAX_WORKLOAD_CERT_TTL` of Istio, 90 days.
    pub most: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            default: DAY,
            most: DAY * 90,
        }
    }
}

/// The PEM files of an authority, under the names of Istio's `cacerts`.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// `ca-cert.pem`: the certificate that signs.
    pub certificate: String,
    /// `ca-key.pem`.
    pub key: String,
    /// `cert-chain.pem`: that certificate and those between it and a root; empty for a root.
    pub chain: String,
    /// `root-cert.pem`: what peers believe.
    pub roots: String,
    /// `ca-crl.pem`: what of it they believe no more; empty if nothing is looked up.
    pub revoked: String,
}

/// It has a private key.
impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Material")
    }
}

/// Why an authority cannot sign.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// A file is not what it should be.
    #[error("{file}: {problem}")]
    Form {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The parts do not belong together.
    #[error(
        "certificates that ca-key.pem signs are not believed by those who have root-cert.pem: {0}"
    )]
    Chain(webpki::Error),
    /// With the lists nobody would be believed.
    #[error(
        "with ca-crl.pem nobody would be believed, it must have a list of each authority in cert-chain.pem, and none that is \
         past its next update: {0}"
    )]
    Revoked(webpki::Error),
    /// What it signs would have ended before it begins.
    #[error("the certificate of the authority, of serial {0}, has expired")]
    Expired(String),
    /// What was made cannot be used.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// Signs certificates of workloads.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What follows a workload's certificate: those between it and a root.
    between: Vec<String>,
    between_facts: Vec<Facts>,
    roots: String,
    root_facts: Vec<Facts>,
    revoked: Lists,
    facts: Facts,
}

/// A certificate of a workload.
#[derive(Clone, Debug)]
pub struct Issued {
    /// In PEM: that of the workload, those between, and as the last element the roots.
    pub chain: Vec<String>,
    /// When it ends.
    pub expires: SystemTime,
}

impl Authority {
    /// Takes the files of an authority, and tries whether they belong together.
    pub fn new(material: &Material) -> Result<Self, AuthorityError> {
        let form = |file, problem: String| AuthorityError::Form { file, problem };
        let key = KeyPair::from_pem(&material.key)
            .map_err(|error| form("ca-key.pem", format!("it is no private key: {error}")))?;
        let certificates = certificates("ca-cert.pem", &material.certificate)?;
        let [certificate] = certificates.as_slice() else {
            return Err(form("ca-cert.pem", "it must have one certificate".into()));
        };
        let facts = Facts::read(certificate)
            .ok_or_else(|| form("ca-cert.pem", "it is no certificate".into()))?;
        if !facts.is_authority {
            return Err(form("ca-cert.pem", "it is not that of an authority".into()));
        }
        if facts.key != key.der_bytes() {
            return Err(form(
                "ca-key.pem",
                "it is not the key of ca-cert.pem".into(),
            ));
        }
        let roots = self::certificates("root-cert.pem", &material.roots)?;
        let root_facts = roots.iter().map(|root| {
            Facts::read(root).ok_or_else(|| form("root-cert.pem", "it has no certificates".into()))
        });
        let root_facts = root_facts.collect::<Result<Vec<_>, _>>()?;
        let is_root = roots.iter().any(|root| root == certificate);
        let chain = match material.chain.trim() {
            "" if is_root => Vec::new(),
            "" => vec![certificate.clone()],
            _ => self::certificates("cert-chain.pem", &material.chain)?,
        };
        let between = chain.iter().filter(|one| !roots.contains(one));
        let between: Vec<_> = between.cloned().collect();
        let between_facts = between.iter().map(|one| {
            Facts::read(one).ok_or_else(|| form("cert-chain.pem", "it has no certificates".into()))
        });
        let between_facts = between_facts.collect::<Result<Vec<_>, _>>()?;
        let authority = Self {
            revoked: Lists::parse(&material.revoked)?,
            issuer: Issuer::from_ca_cert_der(certificate, key)?,
            between: between.iter().map(pem).collect(),
            between_facts,
            roots: roots.iter().map(pem).collect(),
            root_facts,
            facts,
        };
        authority.try_out(&roots, &between)?;
        Ok(authority)
    }

    /// Signs something and verifies it.
    fn try_out(
        &self,
        roots: &[CertificateDer<'static>],
        between: &[CertificateDer<'static>],
    ) -> Result<(), AuthorityError> {
        let now = SystemTime::now();
        let id: SpiffeId = "spiffe://cluster.local/ns/test/sa/test"
            .parse()
            .expect("it is one");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = self.params(&id, now, now + Duration::from_secs(60))?;
        let made = params.signed_by(&key, &self.issuer)?;
        let anchors = roots.iter().map(anchor_from_trusted_cert);
        let anchors = anchors
            .collect::<Result<Vec<_>, _>>()
            .map_err(AuthorityError::Chain)?;
        let leaf = EndEntityCert::try_from(made.der()).map_err(AuthorityError::Chain)?;
        let verify = |revocation| {
            leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                between,
                UnixTime::now(),
                KeyUsage::client_auth(),
                revocation,
                None,
            )
            .map(|_| ())
        };
        verify(None).map_err(AuthorityError::Chain)?;
        let lists = self.revoked.usable()?;
        let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
        let Ok(revocation) = RevocationOptionsBuilder::new(&lists) else {
            return Ok(());
        };
        let revocation = revocation.with_expiration_policy(ExpirationPolicy::Enforce);
        verify(Some(revocation.build())).map_err(AuthorityError::Revoked)
    }

    /// The lists of certificates that peers are not to believe any more.
    pub fn revoked(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.revoked.der
    }

    /// What each of them says about itself.
    pub fn revocation_lists(&self) -> &[RevocationList] {
        &self.revoked.facts
    }

    /// The same in PEM; empty if there are none.
    pub fn revoked_pem(&self) -> &Arc<str> {
        &self.revoked.pem
    }

    /// What peers believe, in PEM.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// What the certificate that signs says about itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What those between a root and the certificate that signs say about themselves; that one is among them unless it is
    /// a root.
    pub fn between_facts(&self) -> &[Facts] {
        &self.between_facts
    }

    /// What the roots say about themselves.
    pub fn root_facts(&self) -> &[Facts] {
        &self.root_facts
    }

    /// A certificate for the key of a request, with the name of its sender. It never outlives the authority's own.
    pub fn sign(
        &self,
        csr: &Csr,
        id: &SpiffeId,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Issued, AuthorityError> {
        let expires = self.ends(lifetime, now)?;
        let made = self
            .params(id, now, expires)?
            .signed_by(&csr.key, &self.issuer)?;
        Ok(self.issued(&made, expires))
    }

    /// A certificate of a server of the control plane, with its names, for a key that is made here.
    pub(crate) fn serve_as(
        &self,
        names: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(KeyPair, Issued), AuthorityError> {
        let expires = self.ends(lifetime, now)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        dates(&mut params, now, expires)?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let made = params.signed_by(&key, &self.issuer)?;
        let issued = self.issued(&made, expires);
        Ok((key, issued))
    }

    /// When a certificate ends that is made now.
    fn ends(&self, lifetime: Duration, now: SystemTime) -> Result<SystemTime, AuthorityError> {
        let last = self.facts.not_after;
        match last <= now {
            true => Err(AuthorityError::Expired(self.facts.serial.clone())),
            false => Ok((now + lifetime).min(last)),
        }
    }

    fn issued(&self, made: &rcgen::Certificate, expires: SystemTime) -> Issued {
        let mut chain = vec![made.pem()];
        chain.extend(self.between.iter().cloned());
        chain.push(self.roots.clone());
        Issued { chain, expires }
    }

    fn params(
        &self,
        id: &SpiffeId,
        now: SystemTime,
        expires: SystemTime,
    ) -> Result<CertificateParams, AuthorityError> {
        let mut params = CertificateParams::default();
        dates(&mut params, now, expires)?;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

impl Material {
    /// A new root (ECDSA P-256) that signs by itself.
    pub fn self_signed(
        trust_domain: &str,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        dates(&mut params, now, now + lifetime)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, trust_domain);
        // Several roots live side by side while one replaces another: their names tell them apart.
        let name = format!("periplus root {:016x}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            roots: certificate.clone(),
            certificate,
            key: key.serialize_pem(),
            chain: String::new(),
            revoked: String::new(),
        })
    }
}

fn dates(
    params: &mut CertificateParams,
    now: SystemTime,
    expires: SystemTime,
) -> Result<(), AuthorityError> {
    params.not_before = OffsetDateTime::from(now - CLOCK_SKEW);
    params.not_after = OffsetDateTime::from(expires);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // A positive number, of at most 20 octets (RFC 5280 §4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}

fn certificates(
    file: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let form = |problem: String| AuthorityError::Form { file, problem };
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Err(error) => Err(form(format!("it is not valid PEM: {error}"))),
        Ok(read) if read.is_empty() => Err(form("it has no certificate in PEM".into())),
        Ok(read) if read.len() > MAX_CERTIFICATES => Err(form(format!(
            "it has {} certificates, more than {MAX_CERTIFICATES}",
            read.len()
        ))),
        Ok(read) => Ok(read),
    }
}

/// In PEM, with a newline at its end.
fn pem(certificate: &CertificateDer<'static>) -> String {
    use base64::Engine as _;
    let encoded = base64::prelude::BASE64_STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
