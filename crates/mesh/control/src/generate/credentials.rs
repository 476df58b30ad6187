//! Certificates that proxies get over SDS: those of Secrets, and those in files of their own machines.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SdsSecretConfig, Secret, TlsCertificate,
};
use periplus_resources::{Authorities, Credential, SecretRef};

use super::Generated;
use super::proto::{ads, duration};
use crate::index::{AUTHORITIES, Index};
use crate::names;
use crate::proxy::{Proxy, Role};

/// How long a listener or cluster waits for a secret at first: what it needs comes with it, unless it is a file that is
/// not there, which is not to hold up all others.
const SECRETS: Duration = Duration::from_secs(5);
const FILES: Duration = Duration::from_secs(1);

/// Refers to a certificate, which is added to what the proxy gets.
///
/// # Errors
///
/// Why there is none.
pub(super) fn certificate(
    scope: (&Index, &Proxy),
    credential: &Credential,
    made: &mut Generated,
) -> Result<SdsSecretConfig, String> {
    let found = find_certificate(scope, credential, made);
    made.missing_secrets += u64::from(found.is_err());
    found
}

fn find_certificate(
    (index, proxy): (&Index, &Proxy),
    credential: &Credential,
    made: &mut Generated,
) -> Result<SdsSecretConfig, String> {
    let (name, certificate_chain, private_key) = match credential {
        Credential::Files(certificate, key) => {
            let name = names::secret_of_files(certificate, key);
            (name, file(certificate), file(key))
        }
        Credential::Secret(secret) => {
            let namespace = namespace(proxy, secret)?;
            let found = index.secrets().certificate(namespace, &secret.name)?;
            let (certificate, key) = (text(&found.0), text(found.1.expose()));
            (secret_name(secret), certificate, key)
        }
    };
    let certificate = TlsCertificate {
        certificate_chain,
        private_key,
        ..TlsCertificate::default()
    };
    Ok(add(name, Type::TlsCertificate(certificate), made))
}

/// What peers are checked by: authorities, and what is `expected` besides.
///
/// # Errors
///
/// Why there are no authorities.
pub(super) fn validation(
    scope: (&Index, &Proxy),
    authorities: &Authorities,
    expected: CertificateValidationContext,
    made: &mut Generated,
) -> Result<ValidationContextType, String> {
    let found = find_authorities(scope, authorities, expected, made);
    made.missing_secrets += u64::from(found.is_err());
    found
}

fn find_authorities(
    (index, proxy): (&Index, &Proxy),
    authorities: &Authorities,
    mut expected: CertificateValidationContext,
    made: &mut Generated,
) -> Result<ValidationContextType, String> {
    let (name, trusted_ca, crl) = match authorities {
        Authorities::Pem(pem) => {
            expected.trusted_ca = text(pem);
            return Ok(ValidationContextType::ValidationContext(expected));
        }
        Authorities::File(path) => (names::secret_of_authorities(path), file(path), None),
        Authorities::Secret(secret) => {
            let namespace = namespace(proxy, secret)?;
            let (pem, revoked) = index.secrets().authorities(namespace, &secret.name)?;
            let name = format!("{}{AUTHORITIES}", secret_name(secret));
            (name, text(pem), revoked.and_then(text))
        }
    };
    let validation = CertificateValidationContext {
        trusted_ca,
        crl,
        ..CertificateValidationContext::default()
    };
    let reference = add(name, Type::ValidationContext(validation), made);
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(expected),
        validation_context_sds_secret_config: Some(reference),
        ..CombinedCertificateValidationContext::default()
    };
    Ok(ValidationContextType::CombinedValidationContext(combined))
}

/// A file of the proxy's machine.
pub(super) fn file(path: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    })
}

fn text(text: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineString(text.to_owned())),
        ..DataSource::default()
    })
}

/// Where a proxy may have the Secret from: its own namespace, unless a ReferenceGrant has said another one.
fn namespace<'a>(proxy: &'a Proxy, secret: &'a SecretRef) -> Result<&'a str, String> {
    match (proxy.role, &secret.namespace) {
        (Role::Router, Some(namespace)) => Ok(namespace),
        (Role::Router, None) => Ok(&proxy.namespace),
        (Role::Sidecar, _) => Err(format!(
            "Secrets such as {} are for gateways: name files of the workload's machine for sidecars",
            secret.name
        )),
    }
}

fn secret_name(secret: &SecretRef) -> String {
    names::secret(secret.namespace.as_deref(), &secret.name)
}

fn add(name: String, content: Type, made: &mut Generated) -> SdsSecretConfig {
    let of_files = name.starts_with(names::OF_FILES);
    let mut source = ads();
    if let Some(source) = &mut source {
        source.initial_fetch_timeout = duration(if of_files { FILES } else { SECRETS });
    }
    if !made.secrets.iter().any(|known| known.name == name) {
        made.secrets.push(Secret {
            name: name.clone(),
            r#type: Some(content),
        });
    }
    SdsSecretConfig {
        name,
        sds_config: source,
    }
}
