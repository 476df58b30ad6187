//! The groups of counts, by Envoy's names.

use super::{Classes, Codes, Count, Gauge, Group, Histogram, Show, Shown};

macro_rules! group {
    ($(#[$meta:meta])* $type:ident { $($field:ident $(: $kind:ident)? = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $type {
            $(pub(crate) $field: group!(@$($kind)?),)*
        }

        impl Group for $type {
            fn visit(&self, show: Show<'_>) {
                $(self.$field.show($text, show);)*
            }
        }
    };
    (@) => { Count };
    (@gauge) => { Gauge };
    (@histogram) => { Histogram };
    (@codes) => { Codes };
    (@classes) => { Classes };
}

group! {
    /// `http.PREFIX.…`
    HttpStats {
        cx_total = "downstream_cx_total",
        cx_active: gauge = "downstream_cx_active",
        cx_http1_total = "downstream_cx_http1_total",
        cx_http2_total = "downstream_cx_http2_total",
        cx_overflow = "downstream_cx_overflow",
        cx_idle_timeout = "downstream_cx_idle_timeout",
        cx_max_duration_reached = "downstream_cx_max_duration_reached",
        cx_max_requests_reached = "downstream_cx_max_requests_reached",
        cx_protocol_error = "downstream_cx_protocol_error",
        cx_upgrades_total = "downstream_cx_upgrades_total",
        cx_upgrades_active: gauge = "downstream_cx_upgrades_active",
        cx_overload_disable_keepalive = "downstream_cx_overload_disable_keepalive",
        cx_destroy_remote_active_rq = "downstream_cx_destroy_remote_active_rq",
        rq_total = "downstream_rq_total",
        rq_http2_total = "downstream_rq_http2_total",
        rq_active: gauge = "downstream_rq_active",
        rq: classes = "downstream_rq",
        rq_time: histogram = "downstream_rq_time",
        cx_destroy = "downstream_cx_destroy",
        cx_length_ms: histogram = "downstream_cx_length_ms",
        rq_idle_timeout = "downstream_rq_idle_timeout",
        rq_header_timeout = "downstream_rq_header_timeout",
        rq_timeout = "downstream_rq_timeout",
        rq_too_large = "downstream_rq_too_large",
        rq_overload_close = "downstream_rq_overload_close",
        rq_rx_reset = "downstream_rq_rx_reset",
        rq_max_duration_reached = "downstream_rq_max_duration_reached",
        rq_upgrade_refused = "downstream_rq_ws_on_non_ws_route",
        rq_too_many_premature_resets = "downstream_rq_too_many_premature_resets",
        rq_failed_path = "downstream_rq_failed_path_normalization",
        rq_redirected_path = "downstream_rq_redirected_with_normalized_path",
        no_route = "no_route",
        no_cluster = "no_cluster",
        rq_direct_response = "rq_direct_response",
        random_sampling = "tracing.random_sampling",
        service_forced = "tracing.service_forced",
        client_enabled = "tracing.client_enabled",
        not_traceable = "tracing.not_traceable",
        trace_limited = "tracing.rate_limited",
    }
}

group! {
    /// `metadata_exchange.…` and `cluster.NAME.metadata_exchange.…`
    ExchangeStats {
        alpn_found = "metadata_exchange.alpn_protocol_found",
        alpn_not_found = "metadata_exchange.alpn_protocol_not_found",
        head_not_found = "metadata_exchange.initial_header_not_found",
        message_not_found = "metadata_exchange.header_not_found",
        added = "metadata_exchange.metadata_added",
    }
}

group! {
    /// `http.PREFIX.fault.…`
    FaultStats {
        delays_injected = "fault.delays_injected",
        aborts_injected = "fault.aborts_injected",
        overflow = "fault.faults_overflow",
        active: gauge = "fault.active_faults",
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
        cx_active: gauge = "upstream_cx_active",
        cx_http1_total = "upstream_cx_http1_total",
        cx_http2_total = "upstream_cx_http2_total",
        cx_connect_fail = "upstream_cx_connect_fail",
        cx_connect_timeout = "upstream_cx_connect_timeout",
        cx_overflow = "upstream_cx_overflow",
        cx_idle_timeout = "upstream_cx_idle_timeout",
        cx_protocol_error = "upstream_cx_protocol_error",
        cx_stale = "upstream_cx_stale",
        rq_total = "upstream_rq_total",
        rq_active: gauge = "upstream_rq_active",
        rq: codes = "upstream_rq",
        rq_time: histogram = "upstream_rq_time",
        cx_destroy = "upstream_cx_destroy",
        cx_connect_ms: histogram = "upstream_cx_connect_ms",
        cx_length_ms: histogram = "upstream_cx_length_ms",
        rq_timeout = "upstream_rq_timeout",
        rq_pending_total = "upstream_rq_pending_total",
        rq_pending_active: gauge = "upstream_rq_pending_active",
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
        rq_max_duration_reached = "upstream_rq_max_duration_reached",
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
        check_healthy: gauge = "health_check.healthy",
        check_degraded: gauge = "health_check.degraded",
        ejections_active: gauge = "outlier_detection.ejections_active",
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
        cx_active: gauge = "downstream_cx_active",
        cx_destroy = "downstream_cx_destroy",
        cx_length_ms: histogram = "downstream_cx_length_ms",
        cx_global_overflow = "downstream_global_cx_overflow",
        cx_overload_reject = "downstream_cx_overload_reject",
        accept_error = "accept_error",
        no_filter_chain_match = "no_filter_chain_match",
        pre_cx_active: gauge = "downstream_pre_cx_active",
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
    /// `http.PREFIX.ext_authz.…` and `cluster.NAME.ext_authz.…`
    AuthzStats {
        ok = "ok",
        denied = "denied",
        error = "error",
        disabled = "disabled",
        failure_mode_allowed = "failure_mode_allowed",
        invalid = "invalid",
        ignored_dynamic_metadata = "ignored_dynamic_metadata",
        ignored_framing_headers = "ignored_framing_headers",
    }
}

group! {
    /// `ext_authz.PREFIX.…`
    ConnectionAuthzStats {
        total = "total",
        active: gauge = "active",
        ok = "ok",
        denied = "denied",
        error = "error",
        disabled = "disabled",
        failure_mode_allowed = "failure_mode_allowed",
        cx_closed = "cx_closed",
    }
}

group! {
    /// `cluster.NAME.ratelimit.…`
    QuotaStats {
        ok = "ok",
        over_limit = "over_limit",
        error = "error",
        failure_mode_allowed = "failure_mode_allowed",
        ignored_framing_headers = "ignored_framing_headers",
    }
}

group! {
    /// `dns_cache.NAME.…`
    NameStats {
        query_attempt = "dns_query_attempt",
        query_success = "dns_query_success",
        query_failure = "dns_query_failure",
        query_timeout = "dns_query_timeout",
        host_address_changed = "host_address_changed",
        host_added = "host_added",
        host_removed = "host_removed",
        host_overflow = "host_overflow",
        num_hosts: gauge = "num_hosts",
        rq_pending_overflow = "dns_rq_pending_overflow",
    }
}

group! {
    /// `tracing.zipkin.…` and `tracing.opentelemetry.…`; by other names (see [`of_logs`]) also of access loggers.
    ExportStats {
        sent = "spans_sent",
        dropped = "spans_dropped",
        dropped_most_items = "spans_dropped_most_spans",
        dropped_most_bytes = "spans_dropped_most_bytes",
        dropped_shutdown = "spans_dropped_shutdown",
        timer_flushed = "timer_flushed",
        reports_sent = "reports_sent",
        reports_dropped = "reports_dropped",
        reports_failed = "reports_failed",
        reports_skipped_no_cluster = "reports_skipped_no_cluster",
    }
}

/// What a count of [`ExportStats`] is called that is of records of access logs, in
/// `access_logs.open_telemetry_access_log.…`; the first two are Envoy's.
pub(super) fn of_logs(name: &str) -> &str {
    match name {
        "spans_sent" => "logs_written",
        "spans_dropped" => "logs_dropped",
        "spans_dropped_most_spans" => "logs_dropped_most_logs",
        "spans_dropped_most_bytes" => "logs_dropped_most_bytes",
        "spans_dropped_shutdown" => "logs_dropped_shutdown",
        other => other,
    }
}

group! {
    /// `listener.NAME.http.PREFIX.…`
    ListenerHttpStats {
        rq: classes = "downstream_rq",
    }
}
