//! What the authority has done, and what it has refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::certificate::Facts;

/// Why a request for a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It names nobody.
    NoCredentials,
    /// Its token is none, or was not signed here.
    BadToken,
    /// The keys that its token is signed with are not here.
    NoKeys,
    /// Its token has expired.
    ExpiredToken,
    /// Its token is for somebody else.
    ForeignAudience,
    /// Its certificate is not of this mesh.
    ForeignCertificate,
    /// Its certificate has expired.
    ExpiredCertificate,
    /// Its certificate was taken back.
    RevokedCertificate,
    /// Its token and its certificate name two workloads.
    Contradiction,
    /// It asks for the name of somebody else.
    FalseSan,
    /// It cannot be read.
    MalformedCsr,
    /// It is too large.
    TooLarge,
    /// It asks for too long a time.
    Lifetime,
    /// There are too many at once.
    Overloaded,
    /// The authority could not sign.
    Failed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoCredentials,
        Self::BadToken,
        Self::NoKeys,
        Self::ExpiredToken,
        Self::ForeignAudience,
        Self::ForeignCertificate,
        Self::ExpiredCertificate,
        Self::RevokedCertificate,
        Self::Contradiction,
        Self::FalseSan,
        Self::MalformedCsr,
        Self::TooLarge,
        Self::Lifetime,
        Self::Overloaded,
        Self::Failed,
    ];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::BadToken => "bad_token",
            Self::NoKeys => "no_keys",
            Self::ExpiredToken => "expired_token",
            Self::ForeignAudience => "foreign_audience",
            Self::ForeignCertificate => "foreign_certificate",
            Self::ExpiredCertificate => "expired_certificate",
            Self::RevokedCertificate => "revoked_certificate",
            Self::Contradiction => "contradiction",
            Self::FalseSan => "false_san",
            Self::MalformedCsr => "malformed_csr",
            Self::TooLarge => "too_large",
            Self::Lifetime => "lifetime",
            Self::Overloaded => "overloaded",
            Self::Failed => "failed",
        }
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Counts {
    requests: AtomicU64,
    issued: AtomicU64,
    refused: [AtomicU64; Reason::ALL.len()],
    /// When each reason was logged last, in seconds.
    logged: [AtomicU64; Reason::ALL.len()],
    serving: Mutex<Option<Facts>>,
}

impl Counts {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn issue(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal. Whether it is to be logged: once a second for each reason.
    #[must_use]
    pub(crate) fn refuse(&self, reason: Reason, now: SystemTime) -> bool {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        self.logged[reason as usize].swap(second, Ordering::Relaxed) != second
    }

    pub(crate) fn serve_with(&self, certificate: Option<Facts>) {
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = certificate;
    }

    /// The certificate of the server itself, on its port with TLS; none if it has no such port.
    pub fn serving(&self) -> Option<Facts> {
        let serving = self.serving.lock();
        serving.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests for certificates.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Certificates of workloads.
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Refusals for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_reason_is_logged_once_a_second_and_counted_always() {
        let counts = Counts::default();
        let at = |ms| UNIX_EPOCH + Duration::from_secs(1000) + Duration::from_millis(ms);
        for (ms, reason, logged) in [
            (0, Reason::BadToken, true),
            (1, Reason::BadToken, false),
            (999, Reason::BadToken, false),
            (999, Reason::Lifetime, true),
            (1000, Reason::BadToken, true),
            (1999, Reason::BadToken, false),
        ] {
            assert_eq!(counts.refuse(reason, at(ms)), logged, "{ms} {reason:?}");
        }
        assert_eq!(counts.refused(Reason::BadToken), 5);
    }
}
