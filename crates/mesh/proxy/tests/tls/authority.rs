//! Certificates for the tests.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A private key with its certificates, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// What is asked for.
pub(crate) struct Wish<'a> {
    pub(crate) dns: &'a [&'a str],
    pub(crate) uri: Option<&'a str>,
    /// What the key is for; nothing is said if it is empty.
    pub(crate) usages: &'a [KeyUsagePurpose],
    /// Until when, from now; it may be over.
    pub(crate) expires: Result<Duration, Duration>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn issue(&self, wish: &Wish<'_>) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("test");
        let dns = wish
            .dns
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().expect("a name")));
        let uri = wish
            .uri
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().expect("a URI")));
        params.subject_alt_names = dns.chain(uri).collect();
        params.key_usages = wish.usages.to_vec();
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::from_secs(7200);
        params.not_after = match wish.expires {
            Ok(left) => now + left,
            Err(ago) => now - ago,
        };
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// For a server of this name.
    pub(crate) fn server(&self, name: &str) -> Pair {
        self.issue(&Wish {
            dns: &[name],
            ..Wish::default()
        })
    }

    /// For a workload of the mesh, until then.
    pub(crate) fn short_lived(&self, id: &str, left: Duration) -> Pair {
        self.issue(&Wish {
            uri: Some(id),
            expires: Ok(left),
            ..Wish::default()
        })
    }

    /// For a workload of the mesh.
    pub(crate) fn workload(&self, id: &str) -> Pair {
        self.issue(&Wish {
            uri: Some(id),
            ..Wish::default()
        })
    }
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Self {
            dns: &[],
            uri: None,
            usages: &[],
            expires: Ok(Duration::from_secs(90 * 60)),
        }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
