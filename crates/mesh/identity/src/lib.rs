//! Who workloads are.
//!
//! An [`Authority`] signs certificates with [`SpiffeId`]s, which [`CertificateServer`] gives to whoever says who
//! they are, over Istio's own interface; [`keep`] is the other side of it, in the workload: it makes the key,
//! asks, and renews.

pub mod agent;
mod authority;
mod certificate;
mod client;
mod counts;
mod csr;
mod dial;
mod home;
mod issuer;
pub mod jwt;
mod pair;
pub mod private;
mod proto;
mod revocation;
mod server;
mod spiffe;
mod standing;
pub mod tls;
mod token;

pub use authority::{Authority, AuthorityError, Issued, Lifetimes, Material};
pub use certificate::{Facts, is_nearly_over};
pub use client::{Config, Credentials, FetchError, Taker, fetch, keep};
pub use counts::{Counts, Reason};
pub use csr::{Csr, CsrError, MAX_CSR_BYTES};
pub use dial::{Dialer, Own, Trust};
pub use home::{Home, HomeError, Rotation};
pub use issuer::{Issuer, IssuerError, Published};
pub use pair::{PairError, check_authorities, check_pair, check_revocation_lists};
pub use revocation::RevocationList;
pub use rustls::pki_types::ServerName;
pub use server::{Access, Caller, CertificateServer, PeerId};
pub use spiffe::{DEFAULT_ACCOUNT, NameError, ServiceAccount, SpiffeId, check_trust_domain};
pub use standing::Standing;
pub use token::{AUDIENCE, Bearer, KeyError, TokenError, TokenKey};

/// An error, and what lies behind it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
