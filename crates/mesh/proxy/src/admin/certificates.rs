//! `/certs`, and how long the first certificate lasts. Nothing here has a private key.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use serde_json::{Value, json};

use crate::agent::State;
use crate::config::{SecretId, SecretSpec};
use crate::snapshot::{ChainTls, Cluster, Listener, Transport};
use crate::tls::{Certificate, rfc3339};

/// The certificates of a TLS context that is in use.
struct InUse<'a> {
    own: Vec<&'a Certificate>,
    roots: &'a [Certificate],
}

/// Envoy's layout: one entry for each context.
pub(super) fn certs(state: &State) -> Value {
    let now = UnixTime::now();
    let show = |certificate: &Certificate| {
        let uris = certificate.uris.iter().map(|uri| json!({"uri": uri}));
        let names = certificate.dns_names.iter();
        let names = names.map(|name| json!({"dns": name}));
        json!({
            "serial_number": certificate.serial,
            "sha256_fingerprint": certificate.fingerprint(),
            "subject": certificate.subject,
            "subject_alt_names": uris.chain(names).collect::<Vec<_>>(),
            "days_until_expiration": certificate.days_left(now).to_string(),
            "valid_from": rfc3339(certificate.not_before),
            "expiration_time": rfc3339(certificate.not_after),
        })
    };
    let shown: Vec<_> = in_use(state)
        .iter()
        .map(|context| {
            json!({
                "ca_cert": context.roots.iter().map(show).collect::<Vec<_>>(),
                "cert_chain": context.own.iter().map(|own| show(own)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"certificates": shown})
}

/// Whole days until the first certificate that is in use expires; Envoy's value if there is none.
pub(super) fn days_until_first_expires(state: &State) -> u64 {
    let now = UnixTime::now();
    let contexts = in_use(state);
    let certificates = contexts
        .iter()
        .flat_map(|context| context.own.iter().copied().chain(context.roots));
    let days = certificates.map(|certificate| certificate.days_left(now));
    days.min().unwrap_or(u64::from(u32::MAX))
}

/// The secrets, as `/config_dump` shows them.
pub(super) fn secrets(state: &State, version: &str) -> Value {
    let store = &state.store;
    let show = |(SecretId { name, .. }, spec): (&SecretId, &SecretSpec)| {
        let content = match spec {
            SecretSpec::Certificate(certificate) => json!({
                "certificate_chain": certificate.public(),
                "private_key": {"inline_string": "[redacted]"},
            }),
            SecretSpec::Validation(validation) => {
                let domains = validation.public_domains().into_iter();
                let domains: Vec<_> = domains
                    .map(|(name, bundle)| json!({"name": name, "trust_bundle": bundle}))
                    .collect();
                match domains.is_empty() {
                    true => json!({"trusted_ca": validation.public()}),
                    false => json!({"custom_validator_config": {
                        "name": "envoy.tls.cert_validator.spiffe",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
                            "trust_domains": domains,
                        },
                    }}),
                }
            }
        };
        let kind = match spec {
            SecretSpec::Certificate(_) => "tls_certificate",
            SecretSpec::Validation(_) => "validation_context",
        };
        json!({"name": name, "version_info": version, "secret": {"name": name, kind: content}})
    };
    let (fixed, by_sds): (Vec<_>, Vec<_>) = store
        .secrets()
        .all()
        .partition(|(id, _)| store.secrets().is_static(id));
    let missing = store.missing_secrets();
    json!({
        "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        "static_secrets": fixed.into_iter().map(show).collect::<Vec<_>>(),
        "dynamic_active_secrets": by_sds.into_iter().map(show).collect::<Vec<_>>(),
        "dynamic_warming_secrets": missing.iter().map(|id| json!({"name": id.name})).collect::<Vec<_>>(),
    })
}

/// How it stands with the servers of secrets that are asked.
pub(super) fn servers(state: &State) -> Value {
    let servers = state.secret_servers.iter();
    let servers = servers.map(|(server, error)| {
        json!({"cluster": server.cluster, "connected": error.is_none(), "error": error})
    });
    servers.collect()
}

/// The contexts of all listeners and clusters, each once.
fn in_use(state: &State) -> Vec<InUse<'_>> {
    let store = &state.store;
    let listeners = store.listeners().values();
    let listeners = listeners.filter_map(|slot| Some(&*slot.active.as_ref()?.built));
    let clusters = store.clusters().values();
    let clusters = clusters.filter_map(|slot| Some(&*slot.active.as_ref()?.built));
    let mut contexts: Vec<_> = listeners.flat_map(of_listener).collect();
    contexts.extend(clusters.flat_map(of_cluster));
    contexts
}

fn of_listener(listener: &Listener) -> impl Iterator<Item = InUse<'_>> {
    let mut seen = HashSet::new();
    listener.all_chains().filter_map(move |chain| {
        let Some(ChainTls::Ready(tls)) = &chain.tls else {
            return None;
        };
        seen.insert(Arc::as_ptr(tls)).then(|| InUse {
            own: tls.identities.iter().map(Arc::as_ref).collect(),
            roots: &tls.roots,
        })
    })
}

fn of_cluster(cluster: &Cluster) -> impl Iterator<Item = InUse<'_>> {
    let mut seen = HashSet::new();
    let endpoints = cluster.endpoints.iter();
    let transports = endpoints.map(|endpoint| &endpoint.transport);
    let all = transports.chain([&cluster.transport]);
    all.filter_map(move |transport: &Transport| {
        let tls = transport.tls.as_ref()?.ready.as_ref()?;
        seen.insert(Arc::as_ptr(tls)).then(|| InUse {
            own: tls.identity.iter().map(Arc::as_ref).collect(),
            roots: &tls.roots,
        })
    })
}
