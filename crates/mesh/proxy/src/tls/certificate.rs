//! What a certificate says, as the proxy shows it to others.

use rustls::pki_types::{CertificateDer, UnixTime};

use super::der::{self, hex};

/// A certificate of this proxy or of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) der: CertificateDer<'static>,
    /// As RFC 2253 writes it.
    pub(crate) subject: String,
    /// The same of who has signed it.
    pub(crate) issuer: String,
    /// In hexadecimal digits.
    pub(crate) serial: String,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
    /// The URIs among its subject alternative names.
    pub(crate) uris: Vec<String>,
    /// The DNS names among them.
    pub(crate) dns_names: Vec<String>,
}

impl Certificate {
    /// Reads a certificate; none if it is none.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let fields = der::certificate(der)?;
        // A certificate without extensions has no such names.
        let parsed = webpki::EndEntityCert::try_from(der).ok();
        let (uris, dns_names) = parsed.map_or_else(Default::default, |parsed| {
            let uris = parsed.valid_uri_names().map(str::to_owned).collect();
            let dns_names = parsed.valid_dns_names().map(str::to_owned).collect();
            (uris, dns_names)
        });
        Some(Self {
            subject: fields.subject,
            issuer: fields.issuer,
            serial: fields.serial,
            not_before: fields.not_before,
            not_after: fields.not_after,
            uris,
            dns_names,
            der: der.clone().into_owned(),
        })
    }

    /// SHA-256 of the certificate in hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.der)
    }

    /// Whole days until it expires; none are left once it has.
    pub(crate) fn days_left(&self, now: UnixTime) -> u64 {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        u64::try_from(self.not_after.saturating_sub(now)).unwrap_or(0) / 86_400
    }
}

/// SHA-256 of a certificate in hexadecimal digits.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    hex(sha256(der).as_ref())
}

/// SHA-1 of a certificate in hexadecimal digits, for logs that are compared with others.
pub(crate) fn fingerprint_1(der: &[u8]) -> String {
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    hex(aws_lc_rs::digest::digest(sha1, der).as_ref())
}

/// A moment as RFC 3339 writes it.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = der::date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
}
