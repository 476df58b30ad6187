//! Whether somebody takes the spans of those who report to a tracing provider: looked at again and again, so that a
//! collector that is gone is told where its provider is named, and not only in what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use periplus_resources::{Address, ExtensionProvider};
use tokio::net::TcpStream;

use crate::index::{Index, Problem, Severity, attribute, code};
use crate::mesh::Mesh;

/// How often collectors are looked at,
const EVERY: Duration = Duration::from_secs(15);
/// and how soon where one does not answer.
const SOON: Duration = Duration::from_secs(2);
/// How soon after something else is configured.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
/// How long one may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// A collector that takes no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Which one, and why.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// Opens a connection to every endpoint of a provider's service: their addresses. A service or port that does not
/// exist has none; that is a problem of its own.
///
/// # Errors
///
/// The first that takes none within the time, or that there is nobody to ask.
pub async fn reach(
    index: &Index,
    provider: &ExtensionProvider,
    timeout: Duration,
) -> Result<Vec<SocketAddr>, Unreached> {
    let Some(service) = index.service(&provider.service) else {
        return Ok(Vec::new());
    };
    let Some(port) = service.port(provider.port) else {
        return Ok(Vec::new());
    };
    let place = format!("{} ({})", service.meta, service.meta.source);
    let mut addresses = Vec::new();
    let mut names = Vec::new();
    for endpoint in &*service.endpoints {
        let port = endpoint.target_port(port);
        match &endpoint.address {
            Address::Ip(ip) => addresses.push(SocketAddr::new(*ip, port)),
            Address::Name(name) => names.push(format!("{name}:{port}")),
        }
    }
    let has_none = service.endpoints.is_empty();
    if has_none {
        names.push(format!("{}:{}", service.host, provider.port));
    }
    for name in names {
        let found = tokio::time::timeout(timeout, tokio::net::lookup_host(&name)).await;
        let why = match found {
            Ok(Ok(found)) => {
                addresses.extend(found);
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        if let Some(why) = why {
            return Err(Unreached {
                reason: match has_none {
                    true => format!(
                        "`{}` has no endpoints, and its name cannot be looked up ({why})",
                        service.host
                    ),
                    false => format!("`{name}` cannot be looked up ({why})"),
                },
                advice: format!("write them into {place}"),
            });
        }
    }
    for address in &addresses {
        let connected = tokio::time::timeout(timeout, TcpStream::connect(address)).await;
        let why = match connected {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        return Err(Unreached {
            reason: format!(
                "the collector of `{}` at {address} does not take connections: {why}",
                provider.name
            ),
            advice: format!("start it (`periplus serve`), or mend port and endpoints of {place}"),
        });
    }
    Ok(addresses)
}

/// What was found out about the collectors, by the names of their providers.
#[derive(Debug, Default)]
pub(crate) struct Collectors(Mutex<BTreeMap<String, Option<Unreached>>>);

impl Collectors {
    /// Whether each takes connections, as far as that was looked at.
    pub(crate) fn known(&self) -> BTreeMap<String, Option<Unreached>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// A problem for each resource that sends spans where nobody takes them.
    pub(crate) fn problems(&self, index: &Index) -> Vec<Problem> {
        let known = self.known();
        let providers = index.tracing_providers().into_iter();
        let lost = providers.filter_map(|provider| {
            let unreached = known.get(&provider.name)?.as_ref()?;
            let message = format!(
                "{}, as seen from the control plane: spans are lost; {}",
                unreached.reason, unreached.advice
            );
            let mut problems = index.problems_of(provider, &message);
            for problem in &mut problems {
                problem.severity = Severity::Warning;
            }
            Some(problems)
        });
        let lost = lost
            .flatten()
            .map(|problem| problem.code(code::TRACING_REFUSED));
        let mut lost = lost.collect();
        attribute(&mut lost, index.telemetry_metas());
        lost
    }

    /// Looks at those of the newest state for ever, and says what is different.
    pub(crate) async fn watch(&self, mesh: Arc<Mesh>) -> std::convert::Infallible {
        // What did not answer the last time: one that is just being started is nobody's trouble.
        let mut silent: BTreeSet<String> = BTreeSet::new();
        loop {
            let state = mesh.state();
            let before = self.known();
            let mut now = BTreeMap::new();
            let mut silent_now = BTreeSet::new();
            for provider in state.index.tracing_providers() {
                let unreached = reach(&state.index, provider, PATIENCE).await.err();
                let name = &provider.name;
                let unreached = match unreached {
                    Some(unreached) => {
                        silent_now.insert(name.clone());
                        Some(unreached).filter(|_| silent.contains(name))
                    }
                    None => None,
                };
                match (before.get(name).and_then(Option::as_ref), &unreached) {
                    (known, Some(lost)) if known != Some(lost) => {
                        tracing::warn!("{}: spans are lost; {}", lost.reason, lost.advice);
                    }
                    (Some(_), None) => {
                        tracing::info!("the collector of `{name}` takes connections again");
                    }
                    _ => {}
                }
                now.insert(name.clone(), unreached);
            }
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
            let looked = Instant::now();
            let every = if silent_now.is_empty() { EVERY } else { SOON };
            silent = silent_now;
            while looked.elapsed() < every && Arc::ptr_eq(&mesh.state(), &state) {
                tokio::time::sleep(AFTER_CHANGE).await;
            }
        }
    }
}
