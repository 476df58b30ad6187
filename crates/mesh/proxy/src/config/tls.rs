//! `DownstreamTlsContext` and `UpstreamTlsContext`, without the secrets that come from elsewhere.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::TargetSpecifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::{
    OcspStaplePolicy, SessionTicketKeysType,
};
use periplus_xds::istio_peers::PROTOCOL;
use rustls::pki_types::ServerName;

use super::check::{At, Refused, flag, ignored, must_be, nothing_else};
use super::manager::{fetch_timeout_of, over_ads};
use super::secret;
use super::secrets::{Made, Material, SecretId, SecretServer, Secrets, Source};
use super::tls_params;
use crate::tls::{ClientOptions, ClientTls, Parameters, ServerOptions, ServerTls};

/// The sessions that a cluster keeps unless `max_session_keys` says otherwise: Envoy keeps one, which
/// is enough for a cluster of one endpoint.
const DEFAULT_SESSIONS: u32 = 256;
/// The cluster of the agent in Istio's bootstrap files.
const AGENT: &str = "sds-grpc";

/// What both sides have in common.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Context {
    parameters: Parameters,
    pub(crate) material: Material,
    /// How long to wait for the secrets at first; `None` for ever.
    pub(crate) fetch_timeout: Option<Duration>,
}

/// A checked `DownstreamTlsContext`.
#[derive(Debug)]
pub(crate) struct DownstreamTls {
    pub(crate) context: Context,
    options: ServerOptions,
    made: Made<ServerTls>,
}

/// A checked `UpstreamTlsContext`.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    pub(crate) context: Context,
    options: ClientOptions,
    made: Made<ClientTls>,
}

/// A secret by its name: where from is said, the name of a static one, or SDS over ADS.
pub(super) struct Names<'a> {
    /// Whether the bootstrap file has a secret.
    pub(super) is_static: &'a dyn Fn(&str) -> bool,
    /// Whether the proxy gets it for itself.
    pub(super) is_own: &'a dyn Fn(&str) -> bool,
    /// Whether a cluster of the bootstrap file has secrets.
    pub(super) is_server: &'a dyn Fn(&str) -> bool,
}

impl Names<'_> {
    /// Where there is no bootstrap file with secrets.
    #[cfg(test)]
    pub(super) const NONE: Names<'static> = Names {
        is_static: &|_| false,
        is_own: &|_| false,
        is_server: &|_| false,
    };
}

pub(super) fn downstream(
    mut given: pb::DownstreamTlsContext,
    names: &Names<'_>,
    exchanges_peers: bool,
    at: &At<'_>,
) -> Result<DownstreamTls, Refused> {
    let mut common = given.common_tls_context.take().unwrap_or_default();
    if !exchanges_peers {
        // Whoever agrees on it says who it is before anything else.
        common.alpn_protocols.retain(|name| name != PROTOCOL);
    }
    let at_common = &at.field("common_tls_context");
    let context = common_context(common, names, at_common)?;
    if context.material.certificates.is_empty() {
        return Err(at_common.refuse("a certificate must be given"));
    }
    let tickets = match given.session_ticket_keys_type.take() {
        None => true,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disable)) => !disable,
        Some(SessionTicketKeysType::SessionTicketKeys(_)) => {
            return Err(at.field("session_ticket_keys").refuse("is not supported"));
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
            return Err(at
                .field("session_ticket_keys_sds_secret_config")
                .refuse("is not supported"));
        }
    };
    let at_staple = at.field("ocsp_staple_policy");
    match OcspStaplePolicy::try_from(std::mem::take(&mut given.ocsp_staple_policy)) {
        Ok(OcspStaplePolicy::LenientStapling) => {}
        _ => return Err(at_staple.refuse("only LENIENT_STAPLING is supported")),
    }
    let options = ServerOptions {
        require_client_certificate: flag(given.require_client_certificate.take(), false),
        require_sni: flag(given.require_sni.take(), false),
        tickets,
        sessions: !std::mem::take(&mut given.disable_stateful_session_resumption),
        prefer_client_suites: std::mem::take(&mut given.prefer_client_ciphers),
    };
    ignored!(given: full_scan_certs_on_sni_mismatch);
    nothing_else(&given, at)?;
    Ok(DownstreamTls {
        context,
        options,
        made: Made::default(),
    })
}

pub(super) fn upstream(
    mut given: pb::UpstreamTlsContext,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<UpstreamTls, Refused> {
    let common = given.common_tls_context.take().unwrap_or_default();
    let at_common = &at.field("common_tls_context");
    let context = common_context(common, names, at_common)?;
    if context.material.certificates.len() > 1 {
        return Err(at_common.refuse("more than one certificate is not supported"));
    }
    let sni = match std::mem::take(&mut given.sni) {
        unset if unset.is_empty() => None,
        name => match ServerName::try_from(name.clone()) {
            Ok(name @ ServerName::DnsName(_)) => Some(name),
            _ => {
                let reason = format!("{name:?} is not a DNS name");
                return Err(at.field("sni").refuse(reason));
            }
        },
    };
    must_be(
        given.enforce_rsa_key_usage.take(),
        false,
        &at.field("enforce_rsa_key_usage"),
    )?;
    let max_sessions = given.max_session_keys.take();
    let max_sessions = max_sessions.map_or(DEFAULT_SESSIONS, |most| most.value);
    nothing_else(&given, at)?;
    Ok(UpstreamTls {
        context,
        options: ClientOptions {
            sni,
            max_sessions: max_sessions as usize,
        },
        made: Made::default(),
    })
}

fn common_context(
    mut given: pb::CommonTlsContext,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<Context, Refused> {
    let mut fetch_timeout = Some(Duration::ZERO);
    let mut named = |config, at: &At<'_>| named(config, names, &mut fetch_timeout, at);
    let mut material = Material::default();
    let at_given = &at.field("tls_certificates");
    for (index, certificate) in std::mem::take(&mut given.tls_certificates)
        .into_iter()
        .enumerate()
    {
        let certificate = secret::certificate(certificate, &at_given.index(index))?;
        material.certificates.push(Source::Given(certificate));
    }
    let at_named = &at.field("tls_certificate_sds_secret_configs");
    for (index, config) in std::mem::take(&mut given.tls_certificate_sds_secret_configs)
        .into_iter()
        .enumerate()
    {
        let name = named(config, &at_named.index(index))?;
        material.certificates.push(Source::Named(name));
    }
    let at_validation = &at.field("validation_context");
    match given.validation_context_type.take() {
        None => {}
        Some(ValidationContextType::ValidationContext(given)) => {
            let validation = secret::validation(given, at_validation)?;
            material.validation.push(Source::Given(validation));
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let at = at.field("validation_context_sds_secret_config");
            material.validation.push(Source::Named(named(config, &at)?));
        }
        Some(ValidationContextType::CombinedValidationContext(mut combined)) => {
            let at = at.field("combined_validation_context");
            let default = combined.default_validation_context.take();
            let default = default.unwrap_or_default();
            let default = secret::validation(default, &at.field("default_validation_context"))?;
            material.validation.push(Source::Given(default));
            let config = combined.validation_context_sds_secret_config.take();
            let at_config = at.field("validation_context_sds_secret_config");
            let name = named(config.unwrap_or_default(), &at_config)?;
            material.validation.push(Source::Named(name));
            nothing_else(&combined, &at)?;
        }
        Some(_) => return Err(at_validation.refuse("certificate providers are not supported")),
    }
    material.check(at)?;
    let alpn = std::mem::take(&mut given.alpn_protocols);
    let parameters = given.tls_params.take().unwrap_or_default();
    let parameters = tls_params::compile(parameters, alpn, &at.field("tls_params"))?;
    nothing_else(&given, at)?;
    Ok(Context {
        parameters,
        material,
        fetch_timeout,
    })
}

/// A secret, which comes by SDS over ADS unless the bootstrap file has it, or another server.
fn named(
    mut config: pb::SdsSecretConfig,
    names: &Names<'_>,
    fetch_timeout: &mut Option<Duration>,
    at: &At<'_>,
) -> Result<SecretId, Refused> {
    let name = std::mem::take(&mut config.name);
    if name.is_empty() {
        return Err(at.field("name").refuse("it must be given"));
    }
    let mut of_server = None;
    let source = config.sds_config.take();
    let is_own = source.as_ref().is_some_and(is_of_agent) && (names.is_own)(&name);
    match source {
        None if (names.is_static)(&name) => {}
        Some(_) if is_own => *fetch_timeout = None,
        None => {
            let reason = format!("the bootstrap file has no secret {name:?}");
            return Err(at.field("name").refuse(reason));
        }
        source => {
            let at = at.field("sds_config");
            let (server, wait) = match server_of(source.as_ref(), names, &at)? {
                Some(server) => (Some(server), fetch_timeout_of(source, &at)?),
                None => (None, over_ads(source, &at)?),
            };
            of_server = server;
            *fetch_timeout = fetch_timeout.zip(wait).map(|(known, wait)| known.max(wait));
        }
    }
    nothing_else(&config, at)?;
    Ok(SecretId {
        server: of_server,
        name,
    })
}

/// Whether a secret is to come from the agent beside the proxy (`sds-grpc` of Istio's bootstrap files), which here
/// is the proxy itself, unless the bootstrap file has a cluster of this name.
fn is_of_agent(source: &core::ConfigSource) -> bool {
    let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = &source.config_source_specifier else {
        return false;
    };
    let mut clusters = clusters_of(api);
    clusters.len() > 0 && clusters.all(|cluster| cluster == Some(AGENT))
}

fn clusters_of(api: &core::ApiConfigSource) -> impl ExactSizeIterator<Item = Option<&str>> {
    let services = api.grpc_services.iter();
    services.map(|service| match &service.target_specifier {
        Some(TargetSpecifier::EnvoyGrpc(envoy)) => Some(envoy.cluster_name.as_str()),
        _ => None,
    })
}

/// The server of its own that a secret comes from, if it is not the control plane.
fn server_of(
    source: Option<&core::ConfigSource>,
    names: &Names<'_>,
    at: &At<'_>,
) -> Result<Option<SecretServer>, Refused> {
    let specifier = source.and_then(|source| source.config_source_specifier.as_ref());
    let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = specifier else {
        return Ok(None);
    };
    if source.is_some_and(is_of_agent) && !(names.is_server)(AGENT) {
        let reason = "comes from the proxy's agent: start the proxy with --token-file, so that it gets a certificate of \
                      its own, or add the cluster sds-grpc to the bootstrap file";
        return Err(at.refuse(reason));
    }
    let at = &at.field("api_config_source");
    let is_delta = match ApiType::try_from(api.api_type) {
        Ok(ApiType::Grpc) => false,
        Ok(ApiType::DeltaGrpc) => true,
        _ => {
            let reason = "only GRPC and DELTA_GRPC are supported";
            return Err(at.field("api_type").refuse(reason));
        }
    };
    let at = &at.field("grpc_services");
    let cluster = match clusters_of(api).collect::<Vec<_>>().as_slice() {
        [Some(cluster)] => (*cluster).to_owned(),
        _ => return Err(at.refuse("there must be exactly one, with envoy_grpc")),
    };
    if !(names.is_server)(&cluster) {
        let reason = format!("the bootstrap file has no cluster {cluster:?} that speaks HTTP/2");
        return Err(at.refuse(reason));
    }
    Ok(Some(SecretServer { cluster, is_delta }))
}

impl DownstreamTls {
    /// What connections are served with; none while secrets are missing.
    pub(crate) fn make(&self, secrets: &Secrets) -> Option<Arc<ServerTls>> {
        let material = &self.context.material;
        self.made.of(material, secrets, || {
            ServerTls::new(
                &self.context.parameters,
                self.options,
                &material.identities(secrets)?,
                material.expected(secrets)?,
            )
            .map_err(|error| At::ROOT.field("common_tls_context").refuse(error))
        })
    }
}

impl UpstreamTls {
    /// What connections are made with; none while secrets are missing.
    pub(crate) fn make(&self, secrets: &Secrets) -> Option<Arc<ClientTls>> {
        let material = &self.context.material;
        self.made.of(material, secrets, || {
            ClientTls::new(
                &self.context.parameters,
                self.options.clone(),
                material.identities(secrets)?.first(),
                material.expected(secrets)?,
            )
            .map_err(|error| At::ROOT.field("common_tls_context").refuse(error))
        })
    }
}

/// What was made does not count.
impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.context == other.context && self.options == other.options
    }
}
