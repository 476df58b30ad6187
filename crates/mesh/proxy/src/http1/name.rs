//! The field names that the proxy knows.

macro_rules! names {
    ($($(#[$meta:meta])* $variant:ident = $text:literal,)*) => {
        #[expect(clippy::enum_variant_names, reason = "a field's name may end in `name`")]
        /// A field name that the proxy treats in some special way, or [`Name::Other`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub(crate) enum Name {
            $($(#[$meta])* $variant,)*
            /// Any other name.
            Other,
        }

        impl Name {
            /// How many names there are, without [`Name::Other`].
            pub(crate) const COUNT: usize = Name::Other as usize;

            const ALL: [Name; Name::COUNT] = [$(Name::$variant,)*];
            const TEXTS: [&'static str; Name::COUNT] = [$($text,)*];
        }
    };
}

names! {
    Host = "host",
    Connection = "connection",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Te = "te",
    Trailer = "trailer",
    Upgrade = "upgrade",
    KeepAlive = "keep-alive",
    ProxyConnection = "proxy-connection",
    Http2Settings = "http2-settings",
    Expect = "expect",
    Date = "date",
    Server = "server",
    UserAgent = "user-agent",
    ContentType = "content-type",
    XRequestId = "x-request-id",
    XClientTraceId = "x-client-trace-id",
    XForwardedFor = "x-forwarded-for",
    XForwardedProto = "x-forwarded-proto",
    XForwardedClientCert = "x-forwarded-client-cert",
    B3 = "b3",
    XB3TraceId = "x-b3-traceid",
    XB3SpanId = "x-b3-spanid",
    XB3ParentSpanId = "x-b3-parentspanid",
    XB3Sampled = "x-b3-sampled",
    TraceParent = "traceparent",
    TraceState = "tracestate",
    XEnvoyInternal = "x-envoy-internal",
    XEnvoyExternalAddress = "x-envoy-external-address",
    XEnvoyAttemptCount = "x-envoy-attempt-count",
    XEnvoyDecoratorOperation = "x-envoy-decorator-operation",
    XEnvoyDownstreamServiceCluster = "x-envoy-downstream-service-cluster",
    XEnvoyDownstreamServiceNode = "x-envoy-downstream-service-node",
    XEnvoyUpstreamServiceTime = "x-envoy-upstream-service-time",
    XEnvoyOriginalPath = "x-envoy-original-path",
    XEnvoyForceTrace = "x-envoy-force-trace",
    XEnvoyExpectedRqTimeoutMs = "x-envoy-expected-rq-timeout-ms",
    XEnvoyRetryOn = "x-envoy-retry-on",
    XEnvoyRetryGrpcOn = "x-envoy-retry-grpc-on",
    XEnvoyMaxRetries = "x-envoy-max-retries",
    XEnvoyRetriableStatusCodes = "x-envoy-retriable-status-codes",
    XEnvoyRetriableHeaderNames = "x-envoy-retriable-header-names",
    XEnvoyUpstreamAltStatName = "x-envoy-upstream-alt-stat-name",
    XEnvoyUpstreamRqTimeoutMs = "x-envoy-upstream-rq-timeout-ms",
    XEnvoyUpstreamRqPerTryTimeoutMs = "x-envoy-upstream-rq-per-try-timeout-ms",
    XEnvoyUpstreamRqTimeoutAltResponse = "x-envoy-upstream-rq-timeout-alt-response",
    XEnvoyIpTags = "x-envoy-ip-tags",
    XEnvoyOriginalUrl = "x-envoy-original-url",
    XEnvoyHedgeOnPerTryTimeout = "x-envoy-hedge-on-per-try-timeout",
}

impl Name {
    /// Which name this is; case does not matter.
    #[inline]
    pub(crate) fn of(text: &[u8]) -> Self {
        let candidates: &[Name] = match text.len() {
            2 => &[Name::Te, Name::B3],
            4 => &[Name::Host, Name::Date],
            6 => &[Name::Expect, Name::Server],
            7 => &[Name::Upgrade, Name::Trailer],
            _ => return Self::of_longer(text),
        };
        Self::among(candidates, text)
    }

    fn of_longer(text: &[u8]) -> Self {
        let candidates: &[Name] = match (text.len(), text[0] | 0x20) {
            (10, b'c') => &[Name::Connection],
            (10, b'u') => &[Name::UserAgent],
            (10, b'k') => &[Name::KeepAlive],
            (10, b't') => &[Name::TraceState],
            (11, b't') => &[Name::TraceParent],
            (12, b'c') => &[Name::ContentType],
            (14, b'c') => &[Name::ContentLength],
            (14, b'h') => &[Name::Http2Settings],
            (16, b'p') => &[Name::ProxyConnection],
            (17, b't') => &[Name::TransferEncoding],
            (12, b'x') => &[Name::XRequestId, Name::XB3TraceId, Name::XB3Sampled],
            (11, b'x') => &[Name::XB3SpanId],
            (15, b'x') => &[Name::XForwardedFor, Name::XEnvoyIpTags],
            (17, b'x') => &[
                Name::XForwardedProto,
                Name::XClientTraceId,
                Name::XB3ParentSpanId,
            ],
            (23, b'x') if text[2] | 0x20 == b'f' => &[Name::XForwardedClientCert],
            (length, b'x') if text.len() > 8 && text[7] == b'-' => {
                return Self::envoy(length, text);
            }
            _ => return Name::Other,
        };
        Self::among(candidates, text)
    }

    /// One of the `x-envoy-` names.
    fn envoy(length: usize, text: &[u8]) -> Self {
        let first = Name::XEnvoyInternal as usize;
        Self::TEXTS[first..]
            .iter()
            .position(|name| name.len() == length && name.as_bytes().eq_ignore_ascii_case(text))
            .map_or(Name::Other, |at| Self::ALL[first + at])
    }

    #[inline]
    fn among(candidates: &[Name], text: &[u8]) -> Self {
        candidates
            .iter()
            .copied()
            .find(|name| name.as_str().as_bytes().eq_ignore_ascii_case(text))
            .unwrap_or(Name::Other)
    }

    /// The name in lower case; empty for [`Name::Other`].
    pub(crate) fn as_str(self) -> &'static str {
        Self::TEXTS.get(self as usize).copied().unwrap_or("")
    }

    /// Whether it concerns one connection only and is never forwarded as it is (RFC 9110 §7.6.1).
    #[inline]
    pub(crate) fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Name::Connection
                | Name::TransferEncoding
                | Name::Te
                | Name::Upgrade
                | Name::KeepAlive
                | Name::ProxyConnection
                | Name::Http2Settings
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for name in Name::ALL {
            let text = name.as_str();
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            assert_eq!(Name::of(text.to_uppercase().as_bytes()), name, "{text}");
            assert_eq!(Name::of(format!("{text}s").as_bytes()), Name::Other);
            assert_eq!(Name::of(&text.as_bytes()[1..]), Name::Other);
        }
        assert_eq!(Name::of(b"x"), Name::Other);
    }
}
