//! What the authority has done, and what it has refused.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a request for a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It names nobody.
    NoCredentials,
    /// Its token is none, or was not signed here.
    BadToken,
    /// Its token has expired.
    ExpiredToken,
    /// Its token is for somebody else.
    ForeignAudience,
    /// Its certificate is not of this mesh.
    ForeignCertificate,
    /// Its certificate has expired.
    ExpiredCertificate,
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
    pub const ALL: [Self; 13] = [
        Self::NoCredentials,
        Self::BadToken,
        Self::ExpiredToken,
        Self::ForeignAudience,
        Self::ForeignCertificate,
        Self::ExpiredCertificate,
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
            Self::ExpiredToken => "expired_token",
            Self::ForeignAudience => "foreign_audience",
            Self::ForeignCertificate => "foreign_certificate",
            Self::ExpiredCertificate => "expired_certificate",
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
}

impl Counts {
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn issue(&self) {
        self.issued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
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
