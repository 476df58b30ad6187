//! TLS on both sides of the proxy: contexts that the configuration makes, and connections on them.

mod certificate;
mod context;
mod der;
mod handshake;
mod layer;
mod san;
mod session;
mod verify;

pub(crate) use self::certificate::{Certificate, fingerprint, fingerprint_1, rfc3339};
pub(crate) use self::context::{ClientOptions, Identity, Parameters, ServerOptions};
pub use self::context::{ClientTls, ServerTls};
#[cfg(test)]
pub(crate) use self::handshake::Agreed;
pub(crate) use self::handshake::{Secured, check_resumed, reason};
pub(crate) use self::layer::TlsLayer;
pub(crate) use self::san::{SanKind, SanMatch};
pub(crate) use self::verify::{Revoked, Trusted, Validation};
