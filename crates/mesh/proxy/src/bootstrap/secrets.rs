//! `static_resources.secrets`: certificates and roots that stand in the file, or in files that it names.

use std::fmt;

use envoy_types::pb::envoy::config::core::v3::{self as core, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use serde::Deserialize;

use super::file::Problem;

/// A secret of the bootstrap file.
#[derive(Clone, PartialEq)]
pub struct StaticSecret(pub(crate) tls::Secret);

/// It may have a private key.
impl fmt::Debug for StaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StaticSecret").field(&self.0.name).finish()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secret {
    name: String,
    #[serde(alias = "tlsCertificate")]
    tls_certificate: Option<TlsCertificate>,
    #[serde(alias = "validationContext")]
    validation_context: Option<ValidationContext>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsCertificate {
    #[serde(alias = "certificateChain")]
    certificate_chain: DataSource,
    #[serde(alias = "privateKey")]
    private_key: DataSource,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationContext {
    #[serde(alias = "trustedCa")]
    trusted_ca: DataSource,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DataSource {
    Filename(String),
    #[serde(alias = "inlineString")]
    InlineString(String),
    #[serde(alias = "environmentVariable")]
    EnvironmentVariable(String),
}

impl fmt::Debug for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataSource")
    }
}

impl Secret {
    pub(super) fn check(self, at: &str) -> Result<StaticSecret, Problem> {
        let problem = |message: &str| (at.to_owned(), message.to_owned());
        if self.name.is_empty() {
            return Err(problem("its name must not be empty"));
        }
        let given = match (self.tls_certificate, self.validation_context) {
            (Some(certificate), None) => Type::TlsCertificate(tls::TlsCertificate {
                certificate_chain: Some(certificate.certificate_chain.into_envoy()),
                private_key: Some(certificate.private_key.into_envoy()),
                ..Default::default()
            }),
            (None, Some(context)) => Type::ValidationContext(tls::CertificateValidationContext {
                trusted_ca: Some(context.trusted_ca.into_envoy()),
                ..Default::default()
            }),
            _ => {
                return Err(problem(
                    "one of tls_certificate and validation_context must be given",
                ));
            }
        };
        Ok(StaticSecret(tls::Secret {
            name: self.name,
            r#type: Some(given),
        }))
    }
}

impl DataSource {
    fn into_envoy(self) -> core::DataSource {
        let specifier = match self {
            Self::Filename(path) => Specifier::Filename(path),
            Self::InlineString(text) => Specifier::InlineString(text),
            Self::EnvironmentVariable(name) => Specifier::EnvironmentVariable(name),
        };
        core::DataSource {
            specifier: Some(specifier),
            ..Default::default()
        }
    }
}
