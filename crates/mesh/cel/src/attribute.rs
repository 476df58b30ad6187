//! The attributes of Envoy that expressions may ask for.

use std::fmt;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// True or false.
    Bool,
    /// A number without a fraction.
    Int,
    /// A text.
    Text,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "true or false",
            Self::Int => "a number",
            Self::Text => "a text",
        })
    }
}

/// The headers of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// `request.headers`
    Request,
    /// `response.headers`
    Response,
    /// `response.trailers`
    Trailers,
}

impl Headers {
    pub(crate) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "request.headers" => Self::Request,
            "response.headers" => Self::Response,
            "response.trailers" => Self::Trailers,
            _ => return None,
        })
    }
}

macro_rules! attributes {
    ($($name:ident = $path:literal: $of_type:ident),* $(,)?) => {
        /// An attribute of a request, its response or its connection, called as its variant is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "they are what their names say, and documented by Envoy")]
        pub enum Attribute {
            $($name,)*
        }

        impl Attribute {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What expressions call it.
            pub const fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }

            pub(crate) const fn of_type(self) -> Type {
                match self {
                    $(Self::$name => Type::$of_type,)*
                }
            }
        }
    };
}

attributes! {
    RequestPath = "request.path": Text,
    RequestUrlPath = "request.url_path": Text,
    RequestQuery = "request.query": Text,
    RequestHost = "request.host": Text,
    RequestScheme = "request.scheme": Text,
    RequestMethod = "request.method": Text,
    RequestReferer = "request.referer": Text,
    RequestUserAgent = "request.useragent": Text,
    RequestId = "request.id": Text,
    RequestProtocol = "request.protocol": Text,
    RequestSize = "request.size": Int,
    ResponseCode = "response.code": Int,
    ResponseCodeDetails = "response.code_details": Text,
    ResponseGrpcStatus = "response.grpc_status": Int,
    ResponseSize = "response.size": Int,
    ConnectionMtls = "connection.mtls": Bool,
    ConnectionServerName = "connection.requested_server_name": Text,
    ConnectionPeerUri = "connection.uri_san_peer_certificate": Text,
    ConnectionLocalUri = "connection.uri_san_local_certificate": Text,
    SourceAddress = "source.address": Text,
    SourcePort = "source.port": Int,
    DestinationAddress = "destination.address": Text,
    DestinationPort = "destination.port": Int,
    UpstreamAddress = "upstream.address": Text,
    UpstreamPort = "upstream.port": Int,
    UpstreamFailure = "upstream.transport_failure_reason": Text,
    ClusterName = "xds.cluster_name": Text,
    RouteName = "xds.route_name": Text,
}

impl Attribute {
    pub(crate) fn of(path: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.path() == path)
    }
}
