//! Requests for certificates (PKCS #10, RFC 2986): what a workload asks with, and what is believed of it.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey, PublicKeyData as _,
    SanType,
};
use thiserror::Error;

use crate::spiffe::SpiffeId;

/// A longer request is none.
pub const MAX_CSR_BYTES: usize = 16 * 1024;
/// A modulus of 2048 bits, with what goes around it in DER.
const MIN_RSA_BYTES: usize = 256 + 9;
const MAX_RSA_BYTES: usize = 1024 + 16;
/// More names need not be looked at.
const MAX_NAMES: usize = 16;

/// What is believed of a request: whoever sent it has the key. Its names are only compared with who they are.
#[derive(Debug)]
pub struct Csr {
    pub(crate) key: PublicKey,
    /// The URIs and DNS names that it asks for.
    pub(crate) names: Vec<String>,
}

/// Why a request is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CsrError {
    /// It is too long.
    #[error("the request for a certificate has {0} bytes, more than {MAX_CSR_BYTES}")]
    TooLarge(usize),
    /// It cannot be read, or is not signed with its own key.
    #[error("the request for a certificate is not usable: {0}")]
    Malformed(String),
    /// Its key is too weak, or of a kind that is not known.
    #[error(
        "the key of the request is not supported: use ECDSA P-256 or P-384, Ed25519, or RSA with 2048 to \
         8192 bits"
    )]
    Key,
}

impl Csr {
    /// Reads a request in PEM and checks that it is signed with the key that it shows.
    pub fn parse(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > MAX_CSR_BYTES {
            return Err(CsrError::TooLarge(pem.len()));
        }
        let parsed = CertificateSigningRequestParams::from_pem(pem)
            .map_err(|error| CsrError::Malformed(error.to_string()))?;
        let key = parsed.public_key;
        let length = key.der_bytes().len();
        let algorithm = key.algorithm();
        // The algorithm is that of the signature: a key of another curve would be written down wrong.
        let is_known = if *algorithm == PKCS_ECDSA_P256_SHA256 {
            length == 65
        } else if *algorithm == PKCS_ECDSA_P384_SHA384 {
            length == 97
        } else if *algorithm == PKCS_ED25519 {
            length == 32
        } else {
            (MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&length)
        };
        if !is_known {
            return Err(CsrError::Key);
        }
        let names = parsed.params.subject_alt_names;
        if names.len() > MAX_NAMES {
            return Err(CsrError::Malformed(format!(
                "it asks for {} names",
                names.len()
            )));
        }
        let name = |san: SanType| match san {
            SanType::URI(name) | SanType::DnsName(name) => name.to_string(),
            other => format!("{other:?}"),
        };
        Ok(Self {
            key,
            names: names.into_iter().map(name).collect(),
        })
    }
}

/// A key of a workload, and what it asks the authority with.
pub(crate) struct Asking {
    /// PKCS #8 in PEM: it is not to leave this process.
    pub(crate) key: String,
    /// PKCS #10 in PEM.
    pub(crate) csr: String,
}

impl Asking {
    /// A new key (ECDSA P-256), and a request that says who asks.
    pub(crate) fn new(id: &SpiffeId) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        Ok(Self {
            csr: params.serialize_request(&key)?.pem()?,
            key: key.serialize_pem(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csr(key: &KeyPair) -> String {
        let params = CertificateParams::default();
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn requests_are_read() {
        let id = "spiffe://cluster.local/ns/default/sa/reviews";
        let asking = Asking::new(&id.parse().unwrap()).unwrap();
        assert_eq!(Csr::parse(&asking.csr).unwrap().names, [id]);
        for algorithm in [
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let csr = Csr::parse(&csr(&key)).unwrap();
            assert_eq!(csr.key.algorithm(), algorithm);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let good = csr(&KeyPair::generate().unwrap());
        let body: Vec<&str> = good.lines().collect();
        let mut changed = body.clone();
        let swapped: String = body[2].chars().rev().collect();
        changed[2] = &swapped;
        for text in [
            String::new(),
            "-----BEGIN CERTIFICATE REQUEST-----".to_owned(),
            changed.join("\n"),
            good.replace('M', "A"),
            body[..3].join("\n"),
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".into(),
        ] {
            assert!(
                matches!(Csr::parse(&text), Err(CsrError::Malformed(_))),
                "{text}"
            );
        }
        let large = format!("{good}{}", " ".repeat(MAX_CSR_BYTES));
        assert_eq!(
            Csr::parse(&large).unwrap_err(),
            CsrError::TooLarge(large.len())
        );
    }
}
