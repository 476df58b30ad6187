//! `transport_socket` of the control plane's cluster: TLS, with the roots that it is believed by.

use std::path::PathBuf;

use periplus_identity::Trust;
use serde::Deserialize;

use super::file::{Problem, problem};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransportSocket {
    name: String,
    #[serde(alias = "typedConfig")]
    typed_config: UpstreamTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamTls {
    #[serde(rename = "@type")]
    type_url: String,
    #[serde(default)]
    sni: String,
    #[serde(alias = "commonTlsContext")]
    common_tls_context: CommonTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommonTls {
    #[serde(alias = "validationContext")]
    validation_context: Validation,
    /// It is that of gRPC in any case.
    #[serde(default, alias = "alpnProtocols", rename = "alpn_protocols")]
    _alpn_protocols: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Validation {
    #[serde(alias = "trustedCa")]
    trusted_ca: File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    filename: PathBuf,
}

const AT: &str = "static_resources.clusters[0].transport_socket";
const NAME: &str = "envoy.transport_sockets.tls";
const TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

impl TransportSocket {
    /// How the control plane on this host is known.
    pub(super) fn check(&self, host: &str) -> Result<Trust, Problem> {
        let at = |field: &str| format!("{AT}.{field}");
        if self.name != NAME {
            let message = format!("{:?} is not supported, write {NAME}", self.name);
            return Err(problem(&at("name"), message));
        }
        let tls = &self.typed_config;
        if tls.type_url != TYPE {
            let message = format!("{:?} is not supported, write {TYPE}", tls.type_url);
            return Err(problem(&at("typed_config.@type"), message));
        }
        let name = match tls.sni.as_str() {
            "" => host,
            sni => sni,
        };
        let server_name = name.to_owned().try_into().map_err(|_| {
            problem(
                &at("typed_config.sni"),
                format!("{name:?} is no name of a server"),
            )
        })?;
        Ok(Trust {
            roots: tls
                .common_tls_context
                .validation_context
                .trusted_ca
                .filename
                .clone(),
            server_name,
        })
    }
}
