//! The field names that the proxy knows.

use http::HeaderName;

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

            #[cfg(test)]
            const ALL: [Name; Name::COUNT] = [$(Name::$variant,)*];
            const TEXTS: [&'static str; Name::COUNT] = [$($text,)*];
        }

        /// The names as the codec of HTTP/2 has them.
        static HEADERS: [HeaderName; Name::COUNT] = [$(HeaderName::from_static($text),)*];
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
    GrpcTimeout = "grpc-timeout",
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
    XEnvoyPeerMetadata = "x-envoy-peer-metadata",
    XEnvoyPeerMetadataId = "x-envoy-peer-metadata-id",
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
    /// Which name this is; case does not matter. `text` must be a token.
    #[inline]
    pub(crate) fn of(text: &[u8]) -> Self {
        let Some(first) = text.first() else {
            return Name::Other;
        };
        let candidates: &[Name] = match (text.len(), first | 0x20) {
            (2, b't') => &[Name::Te],
            (2, b'b') => &[Name::B3],
            (4, b'h') => &[Name::Host],
            (4, b'd') => &[Name::Date],
            (6, b'e') => &[Name::Expect],
            (6, b's') => &[Name::Server],
            (7, b'u') => &[Name::Upgrade],
            (7, b't') => &[Name::Trailer],
            (10, b'c') => &[Name::Connection],
            (10, b'u') => &[Name::UserAgent],
            (10, b'k') => &[Name::KeepAlive],
            (10, b't') => &[Name::TraceState],
            (11, b't') => &[Name::TraceParent],
            (11, b'x') => &[Name::XB3SpanId],
            (12, b'c') => &[Name::ContentType],
            (12, b'g') => &[Name::GrpcTimeout],
            (12, b'x') => &[Name::XRequestId, Name::XB3TraceId, Name::XB3Sampled],
            (14, b'c') => &[Name::ContentLength],
            (14, b'h') => &[Name::Http2Settings],
            (15, b'x') => &[Name::XForwardedFor, Name::XEnvoyIpTags],
            (16, b'p') => &[Name::ProxyConnection],
            (17, b't') => &[Name::TransferEncoding],
            (17, b'x') => &[
                Name::XForwardedProto,
                Name::XClientTraceId,
                Name::XB3ParentSpanId,
            ],
            (23, b'x') if text[2] | 0x20 == b'f' => &[Name::XForwardedClientCert],
            (16.., b'x') if text[7] == b'-' => Self::of_envoy(text.len()),
            _ => return Name::Other,
        };
        candidates
            .iter()
            .copied()
            .find(|name| is_token(text, name.as_str().as_bytes()))
            .unwrap_or(Name::Other)
    }

    /// Those of the `x-envoy-` names that have this length.
    fn of_envoy(length: usize) -> &'static [Name] {
        match length {
            16 => &[Name::XEnvoyInternal, Name::XEnvoyRetryOn],
            19 => &[Name::XEnvoyForceTrace, Name::XEnvoyMaxRetries],
            20 => &[Name::XEnvoyOriginalUrl],
            21 => &[
                Name::XEnvoyAttemptCount,
                Name::XEnvoyPeerMetadata,
                Name::XEnvoyOriginalPath,
                Name::XEnvoyRetryGrpcOn,
            ],
            24 => &[Name::XEnvoyExternalAddress, Name::XEnvoyPeerMetadataId],
            27 => &[Name::XEnvoyDecoratorOperation],
            29 => &[Name::XEnvoyUpstreamServiceTime],
            30 => &[
                Name::XEnvoyExpectedRqTimeoutMs,
                Name::XEnvoyRetriableStatusCodes,
                Name::XEnvoyRetriableHeaderNames,
                Name::XEnvoyUpstreamAltStatName,
                Name::XEnvoyUpstreamRqTimeoutMs,
            ],
            31 => &[Name::XEnvoyDownstreamServiceNode],
            32 => &[Name::XEnvoyHedgeOnPerTryTimeout],
            34 => &[Name::XEnvoyDownstreamServiceCluster],
            38 => &[Name::XEnvoyUpstreamRqPerTryTimeoutMs],
            40 => &[Name::XEnvoyUpstreamRqTimeoutAltResponse],
            _ => &[],
        }
    }

    /// The name in lower case; empty for [`Name::Other`].
    pub(crate) fn as_str(self) -> &'static str {
        Self::TEXTS.get(self as usize).copied().unwrap_or("")
    }

    /// The name as the codec of HTTP/2 has it, which needs no memory; none for [`Name::Other`].
    pub(crate) fn header(self) -> Option<&'static HeaderName> {
        HEADERS.get(self as usize)
    }

    /// Whether its value is another one in each request.
    pub(crate) fn is_unique(self) -> bool {
        matches!(
            self,
            Name::XRequestId
                | Name::B3
                | Name::XB3TraceId
                | Name::XB3SpanId
                | Name::XB3ParentSpanId
                | Name::TraceParent
        )
    }

    /// Whether it says how a message is framed or what becomes of its connection, which is not for anybody to say who
    /// changes a head on its way.
    pub(crate) fn is_framing(self) -> bool {
        matches!(self, Name::ContentLength | Name::Trailer) || self.is_hop_by_hop()
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

/// Whether a token is this name in lower case, of the same length; a word at a time.
///
/// Setting bit 5 turns capitals into small letters and leaves digits and the hyphen alone; what else
/// it would turn into these is no character of a token.
#[inline]
fn is_token(text: &[u8], name: &[u8]) -> bool {
    const BIT_5: u64 = 0x2020_2020_2020_2020;
    let same = |a: &[u8; 8], b: &[u8; 8]| u64::from_le_bytes(*a) | BIT_5 == u64::from_le_bytes(*b);
    match (text.last_chunk(), name.last_chunk()) {
        // The last word overlaps the one before it.
        (Some(text_last), Some(name_last)) => {
            let mut words = text.as_chunks().0.iter().zip(name.as_chunks().0);
            same(text_last, name_last) && words.all(|(a, b)| same(a, b))
        }
        _ => text.iter().zip(name).all(|(a, b)| a | 0x20 == *b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_any_case() {
        for name in Name::ALL {
            let text = name.as_str();
            assert_eq!(name.header().expect("one").as_str(), text);
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
            assert_eq!(Name::of(text.to_uppercase().as_bytes()), name, "{text}");
            assert_eq!(Name::of(format!("{text}s").as_bytes()), Name::Other);
            assert_eq!(Name::of(&text.as_bytes()[1..]), Name::Other);
            for i in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[i] = if other[i] == b'z' { b'y' } else { b'z' };
                assert_eq!(Name::of(&other), Name::Other, "{text} at {i}");
            }
        }
        assert_eq!(Name::of(b"x"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }
}
