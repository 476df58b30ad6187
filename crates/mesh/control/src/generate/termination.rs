//! TLS that ends at a gateway.

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context::TrustChainVerification;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, TlsParameters,
};
use periplus_resources::{
    ClientCheck, Credential, ServerIdentity, Strictness, Termination, TlsVersion,
};

use super::mutual_tls::{self, names_of};
use super::proto::boolean;
use super::{Generated, credentials};
use crate::index::Index;
use crate::proxy::Proxy;

/// What is spoken within TLS that carries requests.
const OFFERED_FOR_HTTP: [&str; 2] = ["h2", "http/1.1"];

/// How a server of a gateway speaks TLS.
///
/// # Errors
///
/// Why it cannot, so that nobody is let in.
pub(super) fn socket(
    (index, proxy): (&Index, &Proxy),
    termination: &Termination,
    is_http: bool,
    made: &mut Generated,
) -> Result<TransportSocket, String> {
    let scope = (index, proxy);
    let certificates = match &termination.identity {
        ServerIdentity::Mesh if !index.has_authority() => {
            return Err(
                "`ISTIO_MUTUAL` needs certificates of the mesh: start the control plane with \
                        --identity-dir"
                    .to_owned(),
            );
        }
        ServerIdentity::Mesh => return Ok(mutual_tls::server(scope, is_http)),
        ServerIdentity::Own(certificates) => certificates,
    };
    let clients = termination.clients.as_ref();
    let validation = clients.map(|clients| {
        let expected = expected(clients);
        credentials::validation(scope, &clients.authorities, expected, made)
    });
    let validation = validation.transpose()?;
    let mut missing = Vec::new();
    let mut one = |credential: &Credential| {
        let found = credentials::certificate(scope, credential, made);
        found.map_err(|reason| missing.push(reason)).ok()
    };
    let references: Vec<_> = certificates.iter().filter_map(&mut one).collect();
    if references.is_empty() {
        let none = || "it has no certificate".to_owned();
        return Err(missing.into_iter().next().unwrap_or_else(none));
    }
    made.notes.append(&mut missing);
    let strictness = clients.map(|clients| clients.strictness);
    let offered: &[&str] = if is_http { &OFFERED_FOR_HTTP } else { &[] };
    Ok(mutual_tls::socket(&DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(parameters(termination)),
            alpn_protocols: offered.iter().map(|name| (*name).to_owned()).collect(),
            tls_certificate_sds_secret_configs: references,
            validation_context_type: validation,
            ..CommonTlsContext::default()
        }),
        require_client_certificate: boolean(strictness == Some(Strictness::Required)),
        ..DownstreamTlsContext::default()
    }))
}

fn expected(clients: &ClientCheck) -> CertificateValidationContext {
    CertificateValidationContext {
        crl: clients.revoked.as_deref().and_then(credentials::file),
        match_typed_subject_alt_names: names_of(&clients.names),
        verify_certificate_spki: clients.keys.clone(),
        verify_certificate_hash: clients.hashes.clone(),
        trust_chain_verification: match clients.strictness {
            Strictness::Required | Strictness::Optional => TrustChainVerification::VerifyTrustChain,
            Strictness::Ignored => TrustChainVerification::AcceptUntrusted,
        }
        .into(),
        ..CertificateValidationContext::default()
    }
}

fn parameters(termination: &Termination) -> TlsParameters {
    let version = |version: Option<TlsVersion>| match version {
        None => TlsProtocol::TlsAuto,
        Some(TlsVersion::V1_0) => TlsProtocol::TlSv10,
        Some(TlsVersion::V1_1) => TlsProtocol::TlSv11,
        Some(TlsVersion::V1_2) => TlsProtocol::TlSv12,
        Some(TlsVersion::V1_3) => TlsProtocol::TlSv13,
    };
    let (least, most) = termination.versions;
    TlsParameters {
        // As in Istio, where nobody says otherwise.
        tls_minimum_protocol_version: version(least.or(Some(TlsVersion::V1_2))).into(),
        tls_maximum_protocol_version: version(most).into(),
        cipher_suites: termination.cipher_suites.clone(),
        ..TlsParameters::default()
    }
}
