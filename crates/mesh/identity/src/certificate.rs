//! What certificates say about themselves.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// As much of a certificate as matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// In hexadecimal digits.
    pub serial: String,
    /// As RFC 2253 writes it.
    pub subject: String,
    /// When it begins to hold.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// The URIs among its names.
    pub uris: Vec<String>,
    /// It may sign others.
    pub is_authority: bool,
    pub(crate) key: Vec<u8>,
}

impl Facts {
    /// Whether less than a fifth of its time is left, or none: it is time to replace it.
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        is_nearly_over(self.not_before, self.not_after, now)
    }

    /// Reads a certificate in DER; none if it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = parsed.subject_alternative_name().ok()?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        Some(Self {
            serial: parsed
                .raw_serial()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            subject: parsed.subject().to_string(),
            not_before: since_1970(parsed.validity().not_before.timestamp()),
            not_after: since_1970(parsed.validity().not_after.timestamp()),
            uris: names.iter().filter_map(uri).collect(),
            is_authority: parsed.is_ca(),
            key: parsed.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// Whether less than a fifth is left of a time that something holds.
pub fn is_nearly_over(from: SystemTime, until: SystemTime, now: SystemTime) -> bool {
    let all = until.duration_since(from).unwrap_or_default();
    let left = until.duration_since(now).unwrap_or_default();
    left < all / 5
}

/// What was before 1970 is as if it had been then.
pub(crate) fn since_1970(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
