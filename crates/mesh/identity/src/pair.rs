//! Whether a certificate and a key, or the certificates of authorities, can be used.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use webpki::OwnedCertRevocationList;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::certificate::Facts;
use crate::revocation::RevocationList;

/// Why they cannot be used. None of the key is told.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PairError {
    /// There is no certificate.
    #[error("it has no certificate in PEM")]
    NoCertificate,
    /// Something is none.
    #[error("its certificate {0} is not one")]
    Certificate(usize),
    /// There is no key.
    #[error("it has no private key in PEM")]
    Key,
    /// They are not a pair.
    #[error("its key cannot be used with its certificate")]
    Pair(#[source] rustls::Error),
    /// It is of a kind that not all proxies have.
    #[error(
        "its key is neither RSA of 2048 bits or more, nor of the curves P-256, P-384 or P-521: proxies refuse it"
    )]
    Kind,
    /// There is no list of revoked certificates, or one is none.
    #[error("it has no list of revoked certificates in PEM that can be read")]
    List,
    /// One cannot vouch for anybody.
    #[error("its certificate {0} is none of an authority")]
    Authority(usize),
}

/// Checks a chain of certificates in PEM, and the key of the first; what the first says.
///
/// # Errors
///
/// When they cannot be used.
pub fn check_pair(chain: &str, key: &str) -> Result<Facts, PairError> {
    let (chain, mut facts) = read(chain)?;
    if !chain.first().is_some_and(|first| is_common(first)) {
        return Err(PairError::Kind);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| PairError::Key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    CertifiedKey::from_der(chain, key, &provider).map_err(PairError::Pair)?;
    Ok(facts.swap_remove(0))
}

impl Facts {
    /// What certificates in PEM say about themselves.
    ///
    /// # Errors
    ///
    /// When there are none, or something is none.
    pub fn of_pem(pem: &str) -> Result<Vec<Self>, PairError> {
        read(pem).map(|(_, facts)| facts)
    }
}

/// Checks certificates of authorities in PEM; what they say.
///
/// # Errors
///
/// When they cannot be used.
pub fn check_authorities(pem: &str) -> Result<Vec<Facts>, PairError> {
    let (certificates, facts) = read(pem)?;
    for (at, certificate) in certificates.iter().enumerate() {
        webpki::anchor_from_trusted_cert(certificate).map_err(|_| PairError::Authority(at + 1))?;
    }
    Ok(facts)
}

/// Checks lists of revoked certificates in PEM, and has what they say; not whether they are those of the authorities that
/// they are used with.
///
/// # Errors
///
/// When they cannot be used.
pub fn check_revocation_lists(pem: &str) -> Result<Vec<RevocationList>, PairError> {
    let usable = |list: Result<CertificateRevocationListDer<'_>, _>| {
        let list = list.ok()?;
        OwnedCertRevocationList::from_der(&list).ok()?;
        RevocationList::read(&list)
    };
    let lists = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).map(usable);
    let lists = lists.collect::<Option<Vec<_>>>();
    lists
        .filter(|lists| !lists.is_empty())
        .ok_or(PairError::List)
}

/// Whether both Envoy and rustls speak TLS with such a key.
fn is_common(certificate: &[u8]) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => key.key_size() >= 2048,
        // The coordinates of P-521 are of whole bytes.
        Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384 | 528),
        _ => false,
    }
}

/// At least one certificate.
fn read(pem: &str) -> Result<(Vec<CertificateDer<'static>>, Vec<Facts>), PairError> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate();
    let mut certificates = Vec::new();
    let mut facts = Vec::new();
    for (at, one) in found {
        let one = one.map_err(|_| PairError::Certificate(at + 1))?;
        facts.push(Facts::read(&one).ok_or(PairError::Certificate(at + 1))?);
        certificates.push(one);
    }
    match certificates.is_empty() {
        true => Err(PairError::NoCertificate),
        false => Ok((certificates, facts)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_is_told_apart() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        };
        let ((chain, key), (other, _)) = (made("a.test"), made("b.test"));
        check_pair(&chain, &key).unwrap();
        check_pair(&format!("{chain}{other}"), &key).unwrap();
        check_authorities(&format!("{chain}{other}")).unwrap();
        let broken = chain.replacen("MII", "AAA", 1);
        for (chain, key, expected) in [
            ("", key.as_str(), "it has no certificate in PEM"),
            ("x", &key, "it has no certificate in PEM"),
            (&broken, &key, "its certificate 1 is not one"),
            (&chain, "", "it has no private key in PEM"),
            (&chain, &chain, "it has no private key in PEM"),
            (&other, &key, "its key cannot be used with its certificate"),
        ] {
            let error = check_pair(chain, key).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
