//! Lists of certificates that their authorities have taken back (RFC 5280 §5).

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::authority::AuthorityError;
use crate::certificate::{is_nearly_over, since_1970};

const FILE: &str = "ca-crl.pem";

/// What a list says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// Whose it is, as RFC 2253 writes it.
    pub issuer: String,
    /// When it was made.
    pub this_update: SystemTime,
    /// Until when there must be a newer one: from then on nobody is believed whom this authority has signed.
    pub next_update: SystemTime,
}

impl RevocationList {
    /// Whether less than a fifth of its time is left, or none: it is time to replace it.
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        is_nearly_over(self.this_update, self.next_update, now)
    }

    /// None if it is no list, or one that does not say when the next one comes.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = CertificateRevocationList::from_der(der).ok()?;
        Some(Self {
            issuer: parsed.issuer().to_string(),
            this_update: since_1970(parsed.last_update().timestamp()),
            next_update: since_1970(parsed.next_update()?.timestamp()),
        })
    }
}

/// The lists of `ca-crl.pem`.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(crate) der: Vec<CertificateRevocationListDer<'static>>,
    pub(crate) pem: Arc<str>,
    pub(crate) facts: Vec<RevocationList>,
}

impl Lists {
    /// Those of the file, which has none where it is not there.
    pub(crate) fn parse(pem: &str) -> Result<Self, AuthorityError> {
        let form = |problem: String| AuthorityError::Form {
            file: FILE,
            problem,
        };
        let der = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes());
        let der = der
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| form(format!("it is not valid PEM: {error}")))?;
        if der.is_empty() && !pem.is_empty() {
            let problem = "it has no list of revoked certificates: remove it if there are none";
            return Err(form(problem.into()));
        }
        let facts = der.iter().map(|list| {
            let missing = || form("a list does not say when the next one comes".into());
            RevocationList::read(list).ok_or_else(missing)
        });
        Ok(Self {
            facts: facts.collect::<Result<_, _>>()?,
            pem: pem.into(),
            der,
        })
    }

    /// As certificates are verified with them.
    pub(crate) fn usable(&self) -> Result<Vec<CertRevocationList<'static>>, AuthorityError> {
        let lists = self.der.iter().map(|list| {
            let list = OwnedCertRevocationList::from_der(list);
            list.map(CertRevocationList::from)
        });
        lists
            .collect::<Result<_, _>>()
            .map_err(AuthorityError::Revoked)
    }
}
