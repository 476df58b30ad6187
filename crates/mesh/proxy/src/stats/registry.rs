//! The counts of a worker, by what they are of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::groups::of_logs;
use super::{
    AuthzStats, ClusterStats, ConnectionAuthzStats, ConnectionLimitStats, CorsStats, EnforcedStats,
    ExchangeStats, ExportStats, FaultStats, Group, HttpInspectorStats, HttpStats, JwtStats,
    LimitStats, ListenerHttpStats, ListenerStats, NameStats, ProxyProtocolStats, QuotaStats, Scope,
    ShadowStats, Sums, TcpStats, TlsInspectorStats, TlsStats, Value,
};
use crate::telemetry::istio::SeriesList;

/// Stands between two names; no name has it.
const APART: char = '\0';

/// The counts of one worker.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    http: Groups<HttpStats>,
    faults: Groups<FaultStats>,
    cors: Groups<CorsStats>,
    limits: Groups<LimitStats>,
    connection_limits: Groups<ConnectionLimitStats>,
    tcp: Groups<TcpStats>,
    clusters: Groups<ClusterStats>,
    listeners: Groups<ListenerStats>,
    /// By listener and prefix.
    listeners_http: Groups<ListenerHttpStats>,
    tracers: Groups<ExportStats>,
    /// By `stat_prefix`, which may be empty.
    otel_logs: Groups<ExportStats>,
    listeners_tls: Groups<TlsStats>,
    clusters_tls: Groups<TlsStats>,
    tls_inspector: Groups<TlsInspectorStats>,
    http_inspector: Groups<HttpInspectorStats>,
    proxy_protocol: Groups<ProxyProtocolStats>,
    exchange: Groups<ExchangeStats>,
    clusters_exchange: Groups<ExchangeStats>,
    /// Istio's standard metrics.
    pub(crate) istio: Arc<SeriesList>,
    enforced: Groups<EnforcedStats>,
    shadow: Groups<ShadowStats>,
    jwt: Groups<JwtStats>,
    authz: Groups<AuthzStats>,
    connection_authz: Groups<ConnectionAuthzStats>,
    quotas: Groups<QuotaStats>,
    names: Groups<NameStats>,
}

impl Registry {
    /// The counts of all connection managers with this `stat_prefix`.
    pub(crate) fn http(&self, prefix: &str) -> Arc<HttpStats> {
        self.http.get(prefix)
    }

    /// The counts of the faults that connection managers with this `stat_prefix` inject.
    pub(crate) fn faults(&self, prefix: &str) -> Arc<FaultStats> {
        self.faults.get(prefix)
    }

    /// The counts of origins that connection managers with this `stat_prefix` are asked from.
    pub(crate) fn cors(&self, prefix: &str) -> Arc<CorsStats> {
        self.cors.get(prefix)
    }

    /// The counts of all local rate limits with this `stat_prefix`.
    pub(crate) fn limit(&self, prefix: &str) -> Arc<LimitStats> {
        self.limits.get(prefix)
    }

    /// The counts of all limits of connections with this `stat_prefix`.
    pub(crate) fn connection_limit(&self, prefix: &str) -> Arc<ConnectionLimitStats> {
        self.connection_limits.get(prefix)
    }

    /// The counts of all TCP proxies with this `stat_prefix`.
    pub(crate) fn tcp(&self, prefix: &str) -> Arc<TcpStats> {
        self.tcp.get(prefix)
    }

    /// The counts of a cluster.
    pub(crate) fn cluster(&self, name: &str) -> Arc<ClusterStats> {
        self.clusters.get(name)
    }

    /// The counts of a listener.
    pub(crate) fn listener(&self, name: &str) -> Arc<ListenerStats> {
        self.listeners.get(name)
    }

    /// The counts of the requests of a listener, for connection managers with this `stat_prefix`.
    pub(crate) fn listener_http(&self, name: &str, prefix: &str) -> Arc<ListenerHttpStats> {
        self.listeners_http.get(&format!("{name}{APART}{prefix}"))
    }

    /// The counts of a tracer: `zipkin` or `opentelemetry`.
    pub(crate) fn tracer(&self, kind: &str) -> Arc<ExportStats> {
        self.tracers.get(kind)
    }

    /// The counts of OpenTelemetry's access loggers with this `stat_prefix`.
    pub(crate) fn otel_logs(&self, prefix: &str) -> Arc<ExportStats> {
        self.otel_logs.get(prefix)
    }

    /// The spans, and the records of access logs, that nobody had taken at the end.
    pub(crate) fn left(&self) -> [u64; 2] {
        [&self.tracers, &self.otel_logs].map(|groups| {
            let groups = groups.lock();
            groups.values().map(|one| one.dropped_shutdown.get()).sum()
        })
    }

    /// The counts of the TLS that a listener terminates.
    pub(crate) fn listener_tls(&self, name: &str) -> Arc<TlsStats> {
        self.listeners_tls.get(name)
    }

    /// The counts of the TLS that is spoken to a cluster.
    pub(crate) fn cluster_tls(&self, name: &str) -> Arc<TlsStats> {
        self.clusters_tls.get(name)
    }

    /// The counts of all TLS inspectors.
    pub(crate) fn tls_inspector(&self) -> Arc<TlsInspectorStats> {
        self.tls_inspector.get("")
    }

    /// The counts of all HTTP inspectors.
    pub(crate) fn http_inspector(&self) -> Arc<HttpInspectorStats> {
        self.http_inspector.get("")
    }

    /// The counts of all readers of the PROXY protocol.
    pub(crate) fn proxy_protocol(&self) -> Arc<ProxyProtocolStats> {
        self.proxy_protocol.get("")
    }

    /// The counts of listeners at which both ends of a connection say who they are.
    pub(crate) fn exchange(&self) -> Arc<ExchangeStats> {
        self.exchange.get("")
    }

    /// The same of connections to a cluster.
    pub(crate) fn cluster_exchange(&self, name: &str) -> Arc<ExchangeStats> {
        self.clusters_exchange.get(name)
    }

    /// The counts of rules; `prefix` is all of their names but the last word.
    pub(crate) fn enforced(&self, prefix: &str) -> Arc<EnforcedStats> {
        self.enforced.get(prefix)
    }

    /// The same of rules that are not enforced.
    pub(crate) fn shadow(&self, prefix: &str) -> Arc<ShadowStats> {
        self.shadow.get(prefix)
    }

    /// The counts of a filter of tokens.
    pub(crate) fn jwt(&self, name: &str) -> Arc<JwtStats> {
        self.jwt.get(name)
    }

    /// The counts of questions to an authorizer; `prefix` is all of their names but the last word.
    pub(crate) fn authz(&self, prefix: &str) -> Arc<AuthzStats> {
        self.authz.get(prefix)
    }

    /// The same of questions about connections.
    pub(crate) fn connection_authz(&self, prefix: &str) -> Arc<ConnectionAuthzStats> {
        self.connection_authz.get(prefix)
    }

    /// The counts of requests that a service was asked to count, with this prefix of theirs.
    pub(crate) fn quota(&self, prefix: &str) -> Arc<QuotaStats> {
        self.quotas.get(prefix)
    }

    /// The counts of the cache of names of this name.
    pub(crate) fn names(&self, cache: &str) -> Arc<NameStats> {
        self.names.get(cache)
    }

    /// Forgets what nobody counts any more.
    pub(crate) fn prune(&self) {
        self.http.prune();
        self.faults.prune();
        self.cors.prune();
        self.limits.prune();
        self.connection_limits.prune();
        self.tcp.prune();
        self.otel_logs.prune();
        self.clusters.prune();
        self.listeners.prune();
        self.listeners_http.prune();
        self.listeners_tls.prune();
        self.clusters_tls.prune();
        self.exchange.prune();
        self.clusters_exchange.prune();
        self.enforced.prune();
        self.shadow.prune();
        self.jwt.prune();
        self.authz.prune();
        self.connection_authz.prune();
        self.quotas.prune();
        self.names.prune();
    }

    /// Adds all counts to `sums`.
    pub(crate) fn add_to(&self, sums: &mut Sums) {
        self.http.add_to("http", sums);
        for (prefix, http) in &*self.http.lock() {
            let others = http.rq_http2_total.get();
            let http1 = Value::Counter(http.rq_total.get().wrapping_sub(others));
            sums.add(
                &Scope::of("http", prefix),
                "downstream_rq_http1_total",
                http1,
            );
        }
        self.faults.add_to("http", sums);
        self.cors.add_to("http", sums);
        self.limits.add_whole_names_to(sums);
        self.connection_limits.add_to("local_rate_limit", sums);
        self.tcp.add_to("tcp", sums);
        self.clusters.add_to("cluster", sums);
        self.listeners.add_to("listener", sums);
        self.listeners_http.add_named(sums, |name| {
            let (name, prefix) = name.split_once(APART).unwrap_or((name, ""));
            Scope {
                kind: "listener",
                of: name.to_owned(),
                http: Some(prefix.to_owned()),
            }
        });
        self.tracers.add_to("tracing", sums);
        for (prefix, logs) in &*self.otel_logs.lock() {
            let scope = Scope::of("access_logs.open_telemetry_access_log", prefix);
            logs.visit(&mut |count, value| sums.add(&scope, of_logs(count), value));
        }
        self.listeners_tls.add_to("listener", sums);
        self.clusters_tls.add_to("cluster", sums);
        self.tls_inspector.add_to("tls_inspector", sums);
        self.http_inspector.add_to("http_inspector", sums);
        self.proxy_protocol.add_to("proxy_proto", sums);
        self.exchange.add_to("", sums);
        self.clusters_exchange.add_to("cluster", sums);
        if self.istio.is_used() {
            let overflow = Value::Counter(self.istio.overflow());
            sums.add(&Scope::plain(), "istio.series_overflow", overflow);
            let forgotten = Value::Counter(self.istio.forgotten());
            sums.add(&Scope::plain(), "istio.series_forgotten", forgotten);
            let cut = Value::Counter(self.istio.cut());
            sums.add(&Scope::plain(), "istio.labels_cut", cut);
        }
        self.jwt.add_to("http", sums);
        self.enforced.add_whole_names_to(sums);
        self.shadow.add_whole_names_to(sums);
        self.authz.add_whole_names_to(sums);
        self.connection_authz.add_whole_names_to(sums);
        self.quotas.add_whole_names_to(sums);
        self.names.add_to("dns_cache", sums);
    }
}

#[derive(Debug, Default)]
struct Groups<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T: Group> Groups<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<T>>> {
        // Counts are never left half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, name: &str) -> Arc<T> {
        let mut groups = self.lock();
        if let Some(group) = groups.get(name) {
            return group.clone();
        }
        let group = Arc::<T>::default();
        groups.insert(name.to_owned(), group.clone());
        group
    }

    fn prune(&self) {
        self.lock().retain(|_, group| Arc::strong_count(group) > 1);
    }

    fn add_to(&self, kind: &'static str, sums: &mut Sums) {
        self.add_named(sums, |name| Scope::of(kind, name));
    }

    /// For groups that are named by everything before the count.
    fn add_whole_names_to(&self, sums: &mut Sums) {
        for (prefix, group) in &*self.lock() {
            group.visit(&mut |count, value| {
                let (scope, stat) = Scope::split(&format!("{prefix}.{count}"));
                sums.add(&scope, &stat, value);
            });
        }
    }

    fn add_named(&self, sums: &mut Sums, scope: impl Fn(&str) -> Scope) {
        for (name, group) in &*self.lock() {
            let scope = scope(name);
            group.visit(&mut |count, value| sums.add(&scope, count, value));
        }
    }
}
