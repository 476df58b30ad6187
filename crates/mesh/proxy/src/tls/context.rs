//! What the TLS connections of a filter chain or a cluster have in common.

use std::fmt;
use std::sync::Arc;

use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::server::{NoClientAuth, ServerSessionMemoryCache};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, NamedGroup, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::verify::{Trusted, Validation, Verifier};
use crate::tls::Certificate;

/// The TLS 1.2 sessions that a server keeps if it gives out no tickets.
const KEPT_SESSIONS: usize = 1024;

/// `TlsParameters` and `alpn_protocols`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// In the order of preference.
    pub(crate) suites: Vec<SupportedCipherSuite>,
    /// In the order of preference; all that there are if it is empty.
    pub(crate) groups: Vec<NamedGroup>,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Parameters {
    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.clone_from(&self.suites);
        if !self.groups.is_empty() {
            let known = aws_lc_rs::ALL_KX_GROUPS;
            let group = |name: &NamedGroup| known.iter().find(|group| group.name() == *name);
            provider.kx_groups = self.groups.iter().filter_map(group).copied().collect();
        }
        Arc::new(provider)
    }
}

/// A private key with its certificates.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) certificate: Arc<Certificate>,
}

/// What of `DownstreamTlsContext` is not common to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    pub(crate) require_client_certificate: bool,
    pub(crate) require_sni: bool,
    pub(crate) tickets: bool,
    pub(crate) sessions: bool,
    pub(crate) prefer_client_suites: bool,
}

/// TLS that is terminated.
pub struct ServerTls {
    /// For clients that offer a protocol of `alpn`.
    config: Arc<ServerConfig>,
    /// For the others: they are served without one, which rustls would refuse.
    without_alpn: Arc<ServerConfig>,
    alpn: Vec<Vec<u8>>,
    pub(crate) require_sni: bool,
    /// Clients' certificates must lead to a root.
    pub(crate) checks_chain: bool,
    pub(crate) identities: Vec<Arc<Certificate>>,
    /// Those that clients' certificates are checked against.
    pub(crate) roots: Vec<Certificate>,
}

/// What of `UpstreamTlsContext` is not common to both sides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientOptions {
    pub(crate) sni: Option<ServerName<'static>>,
    pub(crate) max_sessions: usize,
}

/// TLS that is originated.
pub struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) options: ClientOptions,
    /// Empty: that of the HTTP that is spoken.
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Endpoints' certificates must lead to a root.
    pub(crate) checks_chain: bool,
    pub(crate) identity: Option<Arc<Certificate>>,
    /// Those that endpoints' certificates are checked against.
    pub(crate) roots: Vec<Certificate>,
}

impl ServerTls {
    pub(crate) fn new(
        parameters: &Parameters,
        options: ServerOptions,
        identities: &[Identity],
        validation: Validation,
    ) -> Result<Self, String> {
        let provider = parameters.provider();
        let algorithms = provider.signature_verification_algorithms;
        let roots = roots(&validation);
        let checks_chain = validation.checks_chain();
        let required = options.require_client_certificate || validation.asks_for_an_id();
        let asks = validation.asks() || required;
        let verifier = Verifier::new(validation, algorithms, required)
            .map_err(|error| format!("a root is not usable: {error}"))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&parameters.versions)
            .map_err(|error| error.to_string())?;
        let builder = if asks {
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_client_cert_verifier(Arc::new(NoClientAuth))
        };
        let mut config = builder.with_cert_resolver(Arc::new(Choice(identities.to_vec())));
        config.ignore_client_order = !options.prefer_client_suites;
        if options.tickets {
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        }
        config.session_storage = if options.sessions {
            ServerSessionMemoryCache::new(KEPT_SESSIONS)
        } else {
            Arc::new(NoServerSessionStorage {})
        };
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols.clone_from(&parameters.alpn);
        Ok(Self {
            config: Arc::new(config),
            without_alpn,
            alpn: parameters.alpn.clone(),
            require_sni: options.require_sni,
            checks_chain,
            identities: identities.iter().map(|i| i.certificate.clone()).collect(),
            roots,
        })
    }

    /// What a client that offers these protocols is served with.
    pub(crate) fn config_for(&self, offered: &[Vec<u8>]) -> Arc<ServerConfig> {
        let any = offered.iter().any(|protocol| self.alpn.contains(protocol));
        if any {
            self.config.clone()
        } else {
            self.without_alpn.clone()
        }
    }
}

impl ClientTls {
    pub(crate) fn new(
        parameters: &Parameters,
        options: ClientOptions,
        identity: Option<&Identity>,
        validation: Validation,
    ) -> Result<Self, String> {
        let provider = parameters.provider();
        let algorithms = provider.signature_verification_algorithms;
        let roots = roots(&validation);
        let checks_chain = validation.checks_chain();
        let verifier = Verifier::new(validation, algorithms, false)
            .map_err(|error| format!("a root is not usable: {error}"))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&parameters.versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key.clone()))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = match options.max_sessions {
            0 => Resumption::disabled(),
            most => Resumption::store(Arc::new(ClientSessionMemoryCache::new(most))),
        };
        Ok(Self {
            config: Arc::new(config),
            alpn: parameters.alpn.clone(),
            checks_chain,
            identity: identity.map(|identity| identity.certificate.clone()),
            roots,
            options,
        })
    }
}

fn roots(validation: &Validation) -> Vec<Certificate> {
    let roots = validation.trusted.iter().flat_map(Trusted::all);
    roots.filter_map(Certificate::read).collect()
}

/// The certificates of a server: the first one whose name and key suit the client.
#[derive(Debug)]
struct Choice(Vec<Identity>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let suits = |identity: &&Identity| identity.key.key.choose_scheme(schemes).is_some();
        let named = |identity: &&Identity| {
            let name = hello.server_name().unwrap_or_default();
            let names = &identity.certificate.dns_names;
            names.iter().any(|known| covers(known, name))
        };
        let suiting = || self.0.iter().filter(suits);
        let chosen = suiting().find(named).or_else(|| suiting().next());
        chosen.map(|identity| identity.key.clone())
    }
}

/// Whether a name of a certificate stands for a host.
fn covers(known: &str, host: &str) -> bool {
    let rest = |host: &str| host.find('.').map(|dot| host[dot..].to_owned());
    match known.strip_prefix('*') {
        Some(suffix) => rest(host).is_some_and(|rest| rest.eq_ignore_ascii_case(suffix)),
        None => known.eq_ignore_ascii_case(host),
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("alpn", &self.alpn)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
