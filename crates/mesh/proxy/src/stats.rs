//! Counters and gauges, by Envoy's names: one set per worker, summed when somebody asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::istio::SeriesList;

/// A number that one thread writes and others read: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        let now = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(now, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Only for gauges.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Only for gauges.
    #[inline]
    pub(crate) fn decrement(&self) {
        self.add(u64::MAX);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A group of counts under one prefix.
pub(crate) trait Group: Default + Send + Sync {
    /// Shows each count with its name.
    fn visit(&self, show: &mut dyn FnMut(&'static str, u64));
}

macro_rules! group {
    ($(#[$meta:meta])* $type:ident { $($field:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $type {
            $(pub(crate) $field: Count,)*
        }

        impl Group for $type {
            fn visit(&self, show: &mut dyn FnMut(&'static str, u64)) {
                $(show($text, self.$field.get());)*
            }
        }
    };
}

group! {
    /// `http.PREFIX.…`
    HttpStats {
        cx_total = "downstream_cx_total",
        cx_active = "downstream_cx_active",
        cx_http1_total = "downstream_cx_http1_total",
        cx_http2_total = "downstream_cx_http2_total",
        cx_overflow = "downstream_cx_overflow",
        cx_idle_timeout = "downstream_cx_idle_timeout",
        cx_protocol_error = "downstream_cx_protocol_error",
        cx_upgrades_total = "downstream_cx_upgrades_total",
        cx_upgrades_active = "downstream_cx_upgrades_active",
        cx_overload_disable_keepalive = "downstream_cx_overload_disable_keepalive",
        cx_destroy_remote_active_rq = "downstream_cx_destroy_remote_active_rq",
        rq_total = "downstream_rq_total",
        rq_http2_total = "downstream_rq_http2_total",
        rq_active = "downstream_rq_active",
        rq_completed = "downstream_rq_completed",
        rq_1xx = "downstream_rq_1xx",
        rq_2xx = "downstream_rq_2xx",
        rq_3xx = "downstream_rq_3xx",
        rq_4xx = "downstream_rq_4xx",
        rq_5xx = "downstream_rq_5xx",
        rq_idle_timeout = "downstream_rq_idle_timeout",
        rq_header_timeout = "downstream_rq_header_timeout",
        rq_timeout = "downstream_rq_timeout",
        rq_too_large = "downstream_rq_too_large",
        rq_overload_close = "downstream_rq_overload_close",
        rq_rx_reset = "downstream_rq_rx_reset",
        rq_max_duration_reached = "downstream_rq_max_duration_reached",
        rq_upgrade_refused = "downstream_rq_ws_on_non_ws_route",
        rq_too_many_premature_resets = "downstream_rq_too_many_premature_resets",
        no_route = "no_route",
        no_cluster = "no_cluster",
        rq_direct_response = "rq_direct_response",
        random_sampling = "tracing.random_sampling",
        service_forced = "tracing.service_forced",
        client_enabled = "tracing.client_enabled",
        not_traceable = "tracing.not_traceable",
    }
}

group! {
    /// `http.PREFIX.fault.…`
    FaultStats {
        delays_injected = "fault.delays_injected",
        aborts_injected = "fault.aborts_injected",
        overflow = "fault.faults_overflow",
        active = "fault.active_faults",
    }
}

group! {
    /// `http.PREFIX.cors.…`
    CorsStats {
        origin_valid = "cors.origin_valid",
        origin_invalid = "cors.origin_invalid",
    }
}

group! {
    /// `PREFIX.http_local_rate_limit.…`
    LimitStats {
        enabled = "http_local_rate_limit.enabled",
        enforced = "http_local_rate_limit.enforced",
        rate_limited = "http_local_rate_limit.rate_limited",
        ok = "http_local_rate_limit.ok",
    }
}

group! {
    /// `local_rate_limit.PREFIX.…`
    ConnectionLimitStats {
        rate_limited = "rate_limited",
    }
}

group! {
    /// `cluster.NAME.…`
    ClusterStats {
        cx_total = "upstream_cx_total",
        cx_active = "upstream_cx_active",
        cx_http1_total = "upstream_cx_http1_total",
        cx_http2_total = "upstream_cx_http2_total",
        cx_connect_fail = "upstream_cx_connect_fail",
        cx_connect_timeout = "upstream_cx_connect_timeout",
        cx_overflow = "upstream_cx_overflow",
        cx_idle_timeout = "upstream_cx_idle_timeout",
        cx_protocol_error = "upstream_cx_protocol_error",
        cx_stale = "upstream_cx_stale",
        rq_total = "upstream_rq_total",
        rq_active = "upstream_rq_active",
        rq_completed = "upstream_rq_completed",
        rq_2xx = "upstream_rq_2xx",
        rq_3xx = "upstream_rq_3xx",
        rq_4xx = "upstream_rq_4xx",
        rq_5xx = "upstream_rq_5xx",
        rq_timeout = "upstream_rq_timeout",
        rq_pending_total = "upstream_rq_pending_total",
        rq_pending_active = "upstream_rq_pending_active",
        rq_pending_overflow = "upstream_rq_pending_overflow",
        rq_pending_failure_eject = "upstream_rq_pending_failure_eject",
        rq_rx_reset = "upstream_rq_rx_reset",
        rq_tx_reset = "upstream_rq_tx_reset",
        rq_stale_retry = "upstream_rq_stale_retry",
        rq_retry = "upstream_rq_retry",
        rq_retry_success = "upstream_rq_retry_success",
        rq_retry_limit_exceeded = "upstream_rq_retry_limit_exceeded",
        rq_retry_overflow = "upstream_rq_retry_overflow",
        rq_retry_backoff_exponential = "upstream_rq_retry_backoff_exponential",
        rq_retry_backoff_ratelimited = "upstream_rq_retry_backoff_ratelimited",
        rq_per_try_timeout = "upstream_rq_per_try_timeout",
        rq_per_try_idle_timeout = "upstream_rq_per_try_idle_timeout",
        retry_abandoned = "retry_or_shadow_abandoned",
        cx_none_healthy = "upstream_cx_none_healthy",
        cx_connect_attempts_exceeded = "upstream_cx_connect_attempts_exceeded",
        cx_rx_bytes = "upstream_cx_rx_bytes_total",
        cx_tx_bytes = "upstream_cx_tx_bytes_total",
        cx_max_requests = "upstream_cx_max_requests",
        cx_max_duration_reached = "upstream_cx_max_duration_reached",
        cx_pool_overflow = "upstream_cx_pool_overflow",
        secrets_not_ready = "client_ssl_socket_factory.upstream_context_secrets_not_ready",
        lb_healthy_panic = "lb_healthy_panic",
        lb_subsets_selected = "lb_subsets_selected",
        lb_subsets_fallback = "lb_subsets_fallback",
        rq_dropped = "upstream_rq_drop_overload",
    }
}

group! {
    /// `cluster.NAME.health_check.…` and `cluster.NAME.outlier_detection.…`, counted for all workers.
    HealthStats {
        check_attempt = "health_check.attempt",
        check_success = "health_check.success",
        check_failure = "health_check.failure",
        check_network_failure = "health_check.network_failure",
        check_verify_cluster = "health_check.verify_cluster",
        check_healthy = "health_check.healthy",
        check_degraded = "health_check.degraded",
        ejections_active = "outlier_detection.ejections_active",
        ejections_overflow = "outlier_detection.ejections_overflow",
        ejections_enforced_total = "outlier_detection.ejections_enforced_total",
        enforced_consecutive_5xx = "outlier_detection.ejections_enforced_consecutive_5xx",
        detected_consecutive_5xx = "outlier_detection.ejections_detected_consecutive_5xx",
        enforced_gateway = "outlier_detection.ejections_enforced_consecutive_gateway_failure",
        detected_gateway = "outlier_detection.ejections_detected_consecutive_gateway_failure",
        enforced_local = "outlier_detection.ejections_enforced_consecutive_local_origin_failure",
        detected_local = "outlier_detection.ejections_detected_consecutive_local_origin_failure",
        enforced_success_rate = "outlier_detection.ejections_enforced_success_rate",
        detected_success_rate = "outlier_detection.ejections_detected_success_rate",
        enforced_local_success_rate = "outlier_detection.ejections_enforced_local_origin_success_rate",
        detected_local_success_rate = "outlier_detection.ejections_detected_local_origin_success_rate",
        enforced_failure_percentage = "outlier_detection.ejections_enforced_failure_percentage",
        detected_failure_percentage = "outlier_detection.ejections_detected_failure_percentage",
        enforced_local_failure_percentage = "outlier_detection.ejections_enforced_local_origin_failure_percentage",
        detected_local_failure_percentage = "outlier_detection.ejections_detected_local_origin_failure_percentage",
    }
}

group! {
    /// `tcp.PREFIX.…`
    TcpStats {
        cx_total = "downstream_cx_total",
        cx_no_route = "downstream_cx_no_route",
        cx_rx_bytes = "downstream_cx_rx_bytes_total",
        cx_tx_bytes = "downstream_cx_tx_bytes_total",
        idle_timeout = "idle_timeout",
        max_duration = "max_downstream_connection_duration",
    }
}

group! {
    /// `listener.NAME.…`
    ListenerStats {
        cx_total = "downstream_cx_total",
        cx_active = "downstream_cx_active",
        cx_global_overflow = "downstream_global_cx_overflow",
        cx_overload_reject = "downstream_cx_overload_reject",
        accept_error = "accept_error",
        no_filter_chain_match = "no_filter_chain_match",
        pre_cx_active = "downstream_pre_cx_active",
        pre_cx_timeout = "downstream_pre_cx_timeout",
        filter_remote_close = "downstream_listener_filter_remote_close",
        filter_error = "downstream_listener_filter_error",
        handshake_timeout = "downstream_cx_transport_socket_connect_timeout",
        secrets_not_ready = "server_ssl_socket_factory.downstream_context_secrets_not_ready",
    }
}

group! {
    /// `listener.NAME.ssl.…` and `cluster.NAME.ssl.…`
    TlsStats {
        handshake = "ssl.handshake",
        connection_error = "ssl.connection_error",
        session_reused = "ssl.session_reused",
        no_certificate = "ssl.no_certificate",
        fail_verify_no_cert = "ssl.fail_verify_no_cert",
        fail_verify_error = "ssl.fail_verify_error",
        fail_verify_san = "ssl.fail_verify_san",
        fail_verify_cert_hash = "ssl.fail_verify_cert_hash",
        version_1_2 = "ssl.versions.TLSv1.2",
        version_1_3 = "ssl.versions.TLSv1.3",
    }
}

group! {
    /// `tls_inspector.…`
    TlsInspectorStats {
        tls_found = "tls_found",
        tls_not_found = "tls_not_found",
        sni_found = "sni_found",
        sni_not_found = "sni_not_found",
        alpn_found = "alpn_found",
        alpn_not_found = "alpn_not_found",
        connection_closed = "connection_closed",
    }
}

group! {
    /// `http_inspector.…`
    HttpInspectorStats {
        http10_found = "http10_found",
        http11_found = "http11_found",
        http2_found = "http2_found",
        http_not_found = "http_not_found",
        read_error = "read_error",
    }
}

group! {
    /// `proxy_proto.…`
    ProxyProtocolStats {
        not_found_allowed = "not_found_allowed",
        not_found_disallowed = "not_found_disallowed",
        v1_found = "versions.v1.found",
        v1_disallowed = "versions.v1.disallowed",
        v1_error = "versions.v1.error",
        v2_found = "versions.v2.found",
        v2_disallowed = "versions.v2.disallowed",
        v2_error = "versions.v2.error",
    }
}

group! {
    /// `….rbac.…`
    EnforcedStats {
        allowed = "allowed",
        denied = "denied",
    }
}

group! {
    /// `….rbac.…`, of rules that are not enforced.
    ShadowStats {
        shadow_allowed = "shadow_allowed",
        shadow_denied = "shadow_denied",
    }
}

group! {
    /// `http.PREFIX.jwt_authn.…`
    JwtStats {
        allowed = "allowed",
        denied = "denied",
        preflights = "cors_preflight_bypassed",
        fetch_success = "jwks_fetch_success",
        fetch_failed = "jwks_fetch_failed",
        cache_hit = "jwt_cache_hit",
        cache_miss = "jwt_cache_miss",
    }
}

group! {
    /// `tracing.zipkin.…` and `tracing.opentelemetry.…`
    TracerStats {
        spans_sent = "spans_sent",
        spans_dropped = "spans_dropped",
        timer_flushed = "timer_flushed",
        reports_sent = "reports_sent",
        reports_dropped = "reports_dropped",
        reports_failed = "reports_failed",
        reports_skipped_no_cluster = "reports_skipped_no_cluster",
    }
}

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
    tracers: Groups<TracerStats>,
    listeners_tls: Groups<TlsStats>,
    clusters_tls: Groups<TlsStats>,
    tls_inspector: Groups<TlsInspectorStats>,
    http_inspector: Groups<HttpInspectorStats>,
    proxy_protocol: Groups<ProxyProtocolStats>,
    /// Istio's standard metrics.
    pub(crate) istio: Arc<SeriesList>,
    enforced: Groups<EnforcedStats>,
    shadow: Groups<ShadowStats>,
    jwt: Groups<JwtStats>,
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

    /// The counts of a tracer: `zipkin` or `opentelemetry`.
    pub(crate) fn tracer(&self, kind: &str) -> Arc<TracerStats> {
        self.tracers.get(kind)
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

    /// Forgets what nobody counts any more.
    pub(crate) fn prune(&self) {
        self.http.prune();
        self.faults.prune();
        self.cors.prune();
        self.limits.prune();
        self.connection_limits.prune();
        self.tcp.prune();
        self.clusters.prune();
        self.listeners.prune();
        self.listeners_tls.prune();
        self.clusters_tls.prune();
        self.enforced.prune();
        self.shadow.prune();
        self.jwt.prune();
    }

    /// Adds all counts to `sums`.
    pub(crate) fn add_to(&self, sums: &mut BTreeMap<String, u64>) {
        self.http.add_to("http", sums);
        self.faults.add_to("http", sums);
        self.cors.add_to("http", sums);
        self.limits.add_whole_names_to(sums);
        self.connection_limits.add_to("local_rate_limit", sums);
        self.tcp.add_to("tcp", sums);
        self.clusters.add_to("cluster", sums);
        self.listeners.add_to("listener", sums);
        self.tracers.add_to("tracing", sums);
        self.listeners_tls.add_to("listener", sums);
        self.clusters_tls.add_to("cluster", sums);
        self.tls_inspector.add_to("tls_inspector", sums);
        self.http_inspector.add_to("http_inspector", sums);
        self.proxy_protocol.add_to("proxy_proto", sums);
        if self.istio.is_used() {
            *sums.entry("istio.series_overflow".to_owned()).or_default() += self.istio.overflow();
        }
        self.jwt.add_to("http", sums);
        self.enforced.add_whole_names_to(sums);
        self.shadow.add_whole_names_to(sums);
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

    fn add_to(&self, prefix: &str, sums: &mut BTreeMap<String, u64>) {
        self.add_named(sums, |name, count| match name {
            "" => format!("{prefix}.{count}"),
            name => format!("{prefix}.{name}.{count}"),
        });
    }

    /// For groups that are named by everything before the count.
    fn add_whole_names_to(&self, sums: &mut BTreeMap<String, u64>) {
        self.add_named(sums, |name, count| format!("{name}.{count}"));
    }

    fn add_named(&self, sums: &mut BTreeMap<String, u64>, key: impl Fn(&str, &str) -> String) {
        for (name, group) in &*self.lock() {
            group.visit(&mut |count, value| {
                let sum = sums.entry(key(name, count)).or_default();
                *sum = sum.wrapping_add(value);
            });
        }
    }
}
