//! TLS to servers that are not the mesh's: `SIMPLE` and `MUTUAL` of DestinationRules, and BackendTLSPolicies.

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, TlsCertificate, UpstreamTlsContext,
};
use periplus_resources::{Authorities, Credential, Protocol, TlsFiles};

use super::Generated;
use super::credentials::{self, file};
use super::mutual_tls::{names_of, socket};
use crate::index::Index;
use crate::proxy::Proxy;

/// Where Debian and those that come from it keep the system's authorities.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a server is spoken to that has this name, unless its policy says another one.
///
/// # Errors
///
/// Why it cannot be spoken to.
pub(super) fn with_files(
    scope: (&Index, &Proxy),
    files: &TlsFiles,
    (host, protocol): (&str, Protocol),
    made: &mut Generated,
) -> Result<TransportSocket, String> {
    let own_name = [host.to_owned()];
    let names = match files.names.as_slice() {
        [] => &own_name,
        names => names,
    };
    let mut expected = CertificateValidationContext {
        crl: files.revoked.as_deref().and_then(file),
        match_typed_subject_alt_names: names_of(names),
        ..CertificateValidationContext::default()
    };
    let validation = match &files.authorities {
        _ if files.believes_all => None,
        Some(given @ (Authorities::Secret(_) | Authorities::Pem(_))) => {
            Some(credentials::validation(scope, given, expected, made)?)
        }
        given => {
            expected.trusted_ca = match given {
                Some(Authorities::File(path)) => file(path),
                _ => file(SYSTEM_AUTHORITIES),
            };
            Some(ValidationContextType::ValidationContext(expected))
        }
    };
    let mut common = CommonTlsContext {
        validation_context_type: validation,
        ..CommonTlsContext::default()
    };
    match &files.own {
        None => {}
        Some(Credential::Files(certificate, key)) => {
            common.tls_certificates.push(TlsCertificate {
                certificate_chain: file(certificate),
                private_key: file(key),
                ..TlsCertificate::default()
            });
        }
        Some(secret @ Credential::Secret(_)) => {
            let reference = credentials::certificate(scope, secret, made)?;
            common.tls_certificate_sds_secret_configs.push(reference);
        }
    }
    let sni = files.sni.clone().unwrap_or_else(|| host.to_owned());
    Ok(upstream(common, sni, protocol))
}

/// How a server of HTTP is spoken to that the system's authorities vouch for.
pub(super) fn by_system(host: &str) -> TransportSocket {
    let validation = CertificateValidationContext {
        trusted_ca: file(SYSTEM_AUTHORITIES),
        match_typed_subject_alt_names: names_of(&[host.to_owned()]),
        ..CertificateValidationContext::default()
    };
    let common = CommonTlsContext {
        validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
        ..CommonTlsContext::default()
    };
    upstream(common, host.to_owned(), Protocol::Http)
}

fn upstream(common: CommonTlsContext, sni: String, protocol: Protocol) -> TransportSocket {
    let offered = match protocol {
        Protocol::Http2 => vec!["h2".to_owned()],
        Protocol::Http | Protocol::HttpProxy => vec!["http/1.1".to_owned()],
        Protocol::Tls | Protocol::Tcp | Protocol::Detected => Vec::new(),
    };
    socket(&UpstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: offered,
            ..common
        }),
        sni,
        ..UpstreamTlsContext::default()
    })
}
