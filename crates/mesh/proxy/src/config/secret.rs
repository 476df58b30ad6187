//! `Secret`: a certificate with its key, or what to expect of a peer.
//!
//! What is kept is where things are, so that files can be read again; [`CertificateSpec::load`] and
//! [`ValidationSpec::load`] make of it what rustls works with.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::Value;
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::check::{At, Refused, decode, ignored, nothing_else};
use super::data::{self, Data};
use super::matcher;
use crate::tls::{Certificate, Identity, Revoked, SanKind, SanMatch, Trusted, Validation};

/// A checked secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum SecretSpec {
    Certificate(CertificateSpec),
    Validation(ValidationSpec),
}

/// `TlsCertificate`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CertificateSpec {
    chain: Data,
    key: Data,
}

/// `CertificateValidationContext`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ValidationSpec {
    trusted_ca: Option<Data>,
    /// Roots by trust domain: `SPIFFECertValidatorConfig`.
    domains: Vec<(String, Data)>,
    /// `crl`, and whether it is asked about a peer's own certificate only.
    revoked: Option<(Data, bool)>,
    sans: Vec<SanMatch>,
    hashes: Vec<[u8; 32]>,
    keys: Vec<[u8; 32]>,
    accepts_untrusted: bool,
    hides_roots: bool,
}

/// A secret by its name; it must be usable as it is.
pub(super) fn compile(secret: pb::Secret) -> Result<SecretSpec, Refused> {
    let at = &At::ROOT;
    match secret.r#type {
        Some(Type::TlsCertificate(given)) => {
            certificate(given, &at.field("tls_certificate")).map(SecretSpec::Certificate)
        }
        Some(Type::ValidationContext(given)) => {
            validation(given, &at.field("validation_context")).map(SecretSpec::Validation)
        }
        Some(Type::SessionTicketKeys(_)) => Err(at
            .field("session_ticket_keys")
            .refuse("is not supported, the proxy makes its own")),
        Some(Type::GenericSecret(_)) => Err(at.field("generic_secret").refuse("is not supported")),
        None => Err(at.refuse("its type must be given")),
    }
}

pub(super) fn certificate(
    mut given: pb::TlsCertificate,
    at: &At<'_>,
) -> Result<CertificateSpec, Refused> {
    let chain = data::compile(
        given.certificate_chain.take(),
        &at.field("certificate_chain"),
    )?;
    let key = data::compile(given.private_key.take(), &at.field("private_key"))?;
    ignored!(given: watched_directory);
    nothing_else(&given, at)?;
    let spec = CertificateSpec { chain, key };
    spec.load(at)?;
    Ok(spec)
}

pub(super) fn validation(
    mut given: pb::CertificateValidationContext,
    at: &At<'_>,
) -> Result<ValidationSpec, Refused> {
    let trusted_ca = match given.trusted_ca.take() {
        Some(source) => Some(data::compile(Some(source), &at.field("trusted_ca"))?),
        None => None,
    };
    let only_leaf = std::mem::take(&mut given.only_verify_leaf_cert_crl);
    let revoked = match given.crl.take() {
        Some(source) => Some((data::compile(Some(source), &at.field("crl"))?, only_leaf)),
        None => None,
    };
    let mut sans = Vec::new();
    let at_sans = &at.field("match_typed_subject_alt_names");
    for (index, san) in std::mem::take(&mut given.match_typed_subject_alt_names)
        .into_iter()
        .enumerate()
    {
        sans.push(typed_san(san, &at_sans.index(index))?);
    }
    let at_sans = &at.field("match_subject_alt_names");
    for (index, value) in std::mem::take(&mut given.match_subject_alt_names)
        .into_iter()
        .enumerate()
    {
        sans.push(SanMatch {
            kind: SanKind::Any,
            value: matcher::string(value, &at_sans.index(index))?,
        });
    }
    let at_chain = at.field("trust_chain_verification");
    let verification = std::mem::take(&mut given.trust_chain_verification);
    let accepts_untrusted = match TrustChainVerification::try_from(verification) {
        Ok(TrustChainVerification::VerifyTrustChain) => false,
        Ok(TrustChainVerification::AcceptUntrusted) => true,
        Err(_) => return Err(at_chain.refuse("is not known")),
    };
    let domains = match given.custom_validator_config.take() {
        Some(config) => domains(config, &at.field("custom_validator_config"))?,
        None => Vec::new(),
    };
    if !domains.is_empty() {
        // Only ids count, and only by the roots of their domains.
        if trusted_ca.is_some() || revoked.is_some() || accepts_untrusted {
            let reason = "says all about whom to trust: leave trusted_ca, crl and trust_chain_verification out";
            return Err(at.field("custom_validator_config").refuse(reason));
        }
    }
    let spec = ValidationSpec {
        trusted_ca,
        domains,
        revoked,
        sans,
        hashes: digests(
            std::mem::take(&mut given.verify_certificate_hash),
            &at.field("verify_certificate_hash"),
            from_hex,
        )?,
        keys: digests(
            std::mem::take(&mut given.verify_certificate_spki),
            &at.field("verify_certificate_spki"),
            |text| BASE64_STANDARD.decode(text).ok(),
        )?,
        accepts_untrusted,
        hides_roots: std::mem::take(&mut given.suppress_client_ca_list),
    };
    ignored!(given: watched_directory);
    nothing_else(&given, at)?;
    spec.load(at)?;
    Ok(spec)
}

/// The roots of each trust domain.
fn domains(mut config: TypedExtensionConfig, at: &At<'_>) -> Result<Vec<(String, Data)>, Refused> {
    let at_config = &at.field("typed_config");
    let packed = config.typed_config.take().unwrap_or_default();
    let mut given: pb::SpiffeCertValidatorConfig = decode(&packed, at_config)?;
    let at_domains = &at_config.field("trust_domains");
    let mut domains: Vec<(String, Data)> = Vec::new();
    for (index, mut domain) in std::mem::take(&mut given.trust_domains)
        .into_iter()
        .enumerate()
    {
        let at = &at_domains.index(index);
        let name = std::mem::take(&mut domain.name);
        if name.is_empty() || name.contains('/') {
            return Err(at
                .field("name")
                .refuse("it must be a trust domain, such as cluster.local"));
        }
        if domains.iter().any(|(known, _)| *known == name) {
            return Err(at.field("name").refuse(format!("{name:?} is there twice")));
        }
        let bundle = data::compile(domain.trust_bundle.take(), &at.field("trust_bundle"))?;
        nothing_else(&domain, at)?;
        domains.push((name, bundle));
    }
    if domains.is_empty() {
        return Err(at_domains.refuse("there must be one"));
    }
    nothing_else(&given, at_config)?;
    Ok(domains)
}

/// Roots in PEM that can be used.
fn roots(pem: &[u8], at: &At<'_>) -> Result<Vec<CertificateDer<'static>>, Refused> {
    let roots = certificates(pem).map_err(|error| at.refuse(error))?;
    for root in &roots {
        webpki::anchor_from_trusted_cert(root)
            .map_err(|error| at.refuse(format!("a root is not usable: {error}")))?;
    }
    Ok(roots)
}

fn typed_san(mut san: pb::SubjectAltNameMatcher, at: &At<'_>) -> Result<SanMatch, Refused> {
    let at_type = at.field("san_type");
    let kind = match SanType::try_from(std::mem::take(&mut san.san_type)) {
        Ok(SanType::Dns) => SanKind::Dns,
        Ok(SanType::Uri) => SanKind::Uri,
        Ok(other) => {
            let reason = format!("{} is not supported", other.as_str_name());
            return Err(at_type.refuse(reason));
        }
        Err(_) => return Err(at_type.refuse("is not known")),
    };
    let at_matcher = at.field("matcher");
    let value = match san.matcher.take() {
        Some(value) => matcher::string(value, &at_matcher)?,
        None => return Err(at_matcher.refuse("it must be given")),
    };
    nothing_else(&san, at)?;
    Ok(SanMatch { kind, value })
}

fn digests(
    texts: Vec<String>,
    at: &At<'_>,
    decode: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Vec<[u8; 32]>, Refused> {
    let digest = |(index, text): (usize, String)| {
        let bytes = decode(&text).and_then(|bytes| bytes.try_into().ok());
        let reason = format!("{text:?} is no SHA-256");
        bytes.ok_or_else(|| at.index(index).refuse(reason))
    };
    texts.into_iter().enumerate().map(digest).collect()
}

/// With or without colons, as Envoy takes it.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    digits.chunks(2).map(pair).collect()
}

impl SecretSpec {
    /// The files that it is in.
    pub(super) fn files(&self) -> Vec<&String> {
        match self {
            Self::Certificate(certificate) => certificate.files().collect(),
            Self::Validation(validation) => validation.files().collect(),
        }
    }
}

impl CertificateSpec {
    /// Reads the key and its certificates, and whether they belong together.
    pub(crate) fn load(&self, at: &At<'_>) -> Result<Identity, Refused> {
        let at_chain = at.field("certificate_chain");
        let chain = self
            .chain
            .load()
            .and_then(|pem| certificates(&pem))
            .map_err(|error| at_chain.refuse(error))?;
        let certificate = chain.first().and_then(Certificate::read);
        let Some(certificate) = certificate else {
            return Err(at_chain.refuse("its first certificate is not one"));
        };
        let at_key = at.field("private_key");
        let pem = self.key.load().map_err(|error| at_key.refuse(error))?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|error| at_key.refuse(format!("it is no private key in PEM: {error}")))?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| at_key.refuse(error.to_string()))?;
        Ok(Identity {
            key: Arc::new(key),
            certificate: Arc::new(certificate),
        })
    }

    /// What others may see of it.
    pub(crate) fn public(&self) -> Value {
        self.chain.public()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        [&self.chain, &self.key].into_iter().filter_map(Data::file)
    }
}

impl ValidationSpec {
    /// Reads the roots.
    pub(crate) fn load(&self, at: &At<'_>) -> Result<Validation, Refused> {
        let mut trusted = match &self.trusted_ca {
            None => None,
            Some(data) => {
                let at = &at.field("trusted_ca");
                let pem = data.load().map_err(|error| at.refuse(error))?;
                Some(Trusted::Any(roots(&pem, at)?))
            }
        };
        if !self.domains.is_empty() {
            let at = &at.field("custom_validator_config");
            let of_domain = |(name, data): &(String, Data)| {
                let at = &at.field(name);
                let pem = data.load().map_err(|error| at.refuse(error))?;
                if CertificateRevocationListDer::from_pem_slice(&pem).is_ok() {
                    let reason =
                        "a list of revoked certificates in it is not supported: take it out";
                    return Err(at.refuse(reason));
                }
                Ok((name.clone(), roots(&pem, at)?))
            };
            let domains = self.domains.iter().map(of_domain);
            trusted = Some(Trusted::OfDomain(domains.collect::<Result<_, Refused>>()?));
        }
        let revoked = match &self.revoked {
            None => None,
            Some((data, only_leaf)) => {
                let lists = data.load().and_then(|pem| revocation_lists(&pem));
                Some(Revoked {
                    lists: lists.map_err(|error| at.field("crl").refuse(error))?.into(),
                    only_leaf: *only_leaf,
                })
            }
        };
        Ok(Validation {
            trusted,
            revoked,
            sans: self.sans.clone(),
            hashes: self.hashes.clone(),
            keys: self.keys.clone(),
            accepts_untrusted: self.accepts_untrusted,
            hides_roots: self.hides_roots,
        })
    }

    /// The roots, or where they are.
    pub(crate) fn public(&self) -> Option<Value> {
        self.trusted_ca.as_ref().map(Data::public)
    }

    /// The roots of each trust domain, or where they are.
    pub(crate) fn public_domains(&self) -> Vec<(&str, Value)> {
        let domains = self.domains.iter();
        domains
            .map(|(name, data)| (name.as_str(), data.public()))
            .collect()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        let revoked = self.revoked.iter().map(|(data, _)| data);
        let domains = self.domains.iter().map(|(_, data)| data);
        let all = self.trusted_ca.iter().chain(revoked).chain(domains);
        all.filter_map(Data::file)
    }
}

/// At least one list of revoked certificates in PEM.
fn revocation_lists(pem: &[u8]) -> Result<Vec<CertRevocationList<'static>>, String> {
    let list = |der: Result<CertificateRevocationListDer<'_>, _>| {
        let der = der.map_err(|error| format!("it is not valid PEM: {error}"))?;
        let list = OwnedCertRevocationList::from_der(&der);
        let list = list.map_err(|error| format!("a list is not usable: {error}"))?;
        Ok(list.into())
    };
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).map(list);
    match lists.collect::<Result<Vec<_>, String>>() {
        Ok(lists) if lists.is_empty() => {
            Err("it has no list of revoked certificates in PEM".to_owned())
        }
        other => other,
    }
}

/// At least one certificate in PEM.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err("it has no certificate in PEM".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("it is not valid PEM: {error}")),
    }
}
