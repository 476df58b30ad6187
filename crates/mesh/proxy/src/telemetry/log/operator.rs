//! Command operators: what a format string asks for.

use super::rare::Rare;
use super::time::TimeFormat;
use crate::snapshot::FieldName;

/// A command operator, as Envoy names them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operator {
    StartTime(TimeFormat),
    EmitTime(TimeFormat),
    /// A header, else another one; cut after so many bytes.
    Request(Header),
    Response(Header),
    Trailer(Header),
    /// `%PATH(NQ:…)%`: the path without its query, or with it.
    Path {
        query: bool,
        original: Original,
    },
    GrpcStatus(GrpcForm),
    /// Between two moments: so many nanoseconds for each microsecond, in units of so many.
    Between(Moment, Moment, [u64; 2]),
    Fixed(String),
    Simple(Simple),
    /// What few formats have.
    Rare(Rare),
    /// What nothing here ever has: state of filters.
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) name: FieldName,
    pub(crate) otherwise: Option<FieldName>,
    pub(crate) most: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Original {
    /// What the client asked for, else what the endpoint gets.
    Either,
    Only,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum GrpcForm {
    Camel,
    Snake,
    Number,
}

/// The moments of `%COMMON_DURATION%` that are known here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Moment {
    Begin,
    RequestComplete,
    ConnectBegun,
    Connected,
    Secured,
    RequestBegun,
    RequestSent,
    ResponseBegun,
    End,
}

impl Moment {
    /// Whether the connection to the endpoint tells it.
    pub(super) fn is_of_connection(self) -> bool {
        use Moment::{ConnectBegun, Connected, RequestBegun, RequestSent, Secured};
        matches!(
            self,
            ConnectBegun | Connected | Secured | RequestBegun | RequestSent
        )
    }
}

macro_rules! simple {
    ($($variant:ident = $text:literal,)*) => {
        /// Operators without arguments.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub(crate) enum Simple {
            $($variant,)*
        }

        impl Simple {
            fn of(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

simple! {
    Protocol = "PROTOCOL",
    ResponseCode = "RESPONSE_CODE",
    ResponseFlags = "RESPONSE_FLAGS",
    ResponseFlagsLong = "RESPONSE_FLAGS_LONG",
    ResponseCodeDetails = "RESPONSE_CODE_DETAILS",
    ConnectionTerminationDetails = "CONNECTION_TERMINATION_DETAILS",
    UpstreamTransportFailureReason = "UPSTREAM_TRANSPORT_FAILURE_REASON",
    BytesReceived = "BYTES_RECEIVED",
    BytesSent = "BYTES_SENT",
    Duration = "DURATION",
    RequestDuration = "REQUEST_DURATION",
    ResponseDuration = "RESPONSE_DURATION",
    ResponseTxDuration = "RESPONSE_TX_DURATION",
    UpstreamHost = "UPSTREAM_HOST",
    UpstreamHostName = "UPSTREAM_HOST_NAME",
    UpstreamCluster = "UPSTREAM_CLUSTER",
    UpstreamClusterRaw = "UPSTREAM_CLUSTER_RAW",
    UpstreamLocalAddress = "UPSTREAM_LOCAL_ADDRESS",
    UpstreamLocalIp = "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    UpstreamLocalPort = "UPSTREAM_LOCAL_PORT",
    UpstreamRemoteAddress = "UPSTREAM_REMOTE_ADDRESS",
    UpstreamRemoteIp = "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    UpstreamRemotePort = "UPSTREAM_REMOTE_PORT",
    UpstreamProtocol = "UPSTREAM_PROTOCOL",
    UpstreamRequestAttemptCount = "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    UpstreamPeerUriSan = "UPSTREAM_PEER_URI_SAN",
    UpstreamPeerDnsSan = "UPSTREAM_PEER_DNS_SAN",
    UpstreamPeerSubject = "UPSTREAM_PEER_SUBJECT",
    UpstreamLocalUriSan = "UPSTREAM_LOCAL_URI_SAN",
    DownstreamLocalAddress = "DOWNSTREAM_LOCAL_ADDRESS",
    DownstreamLocalIp = "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    DownstreamLocalPort = "DOWNSTREAM_LOCAL_PORT",
    DownstreamDirectLocalAddress = "DOWNSTREAM_DIRECT_LOCAL_ADDRESS",
    DownstreamRemoteAddress = "DOWNSTREAM_REMOTE_ADDRESS",
    DownstreamRemoteIp = "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamRemotePort = "DOWNSTREAM_REMOTE_PORT",
    DownstreamDirectRemoteAddress = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    DownstreamDirectRemoteIp = "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    DownstreamPeerUriSan = "DOWNSTREAM_PEER_URI_SAN",
    DownstreamPeerDnsSan = "DOWNSTREAM_PEER_DNS_SAN",
    DownstreamPeerSubject = "DOWNSTREAM_PEER_SUBJECT",
    DownstreamPeerSerial = "DOWNSTREAM_PEER_SERIAL",
    DownstreamPeerFingerprint = "DOWNSTREAM_PEER_FINGERPRINT_256",
    DownstreamLocalUriSan = "DOWNSTREAM_LOCAL_URI_SAN",
    DownstreamLocalDnsSan = "DOWNSTREAM_LOCAL_DNS_SAN",
    DownstreamLocalSubject = "DOWNSTREAM_LOCAL_SUBJECT",
    RequestedServerName = "REQUESTED_SERVER_NAME",
    RouteName = "ROUTE_NAME",
    TraceId = "TRACE_ID",
    SpanId = "SPAN_ID",
    StreamId = "STREAM_ID",
    AccessLogType = "ACCESS_LOG_TYPE",
}

/// What never has a value here, since no filter sets any.
const NEVER: [&str; 3] = [
    "FILTER_STATE",
    "UPSTREAM_FILTER_STATE",
    "VIRTUAL_CLUSTER_NAME",
];

impl Operator {
    /// Reads what stands between two percent signs: `NAME`, `NAME(argument)`, `NAME(argument):length`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, argument, most) = split(text)?;
        let none = || match argument {
            None => Ok(()),
            Some(_) => Err(format!("%{name}% takes no argument")),
        };
        let header = || {
            let argument = argument.filter(|text| !text.is_empty());
            let argument =
                argument.ok_or_else(|| format!("%{name}% needs the name of a header"))?;
            Header::parse(argument, most)
        };
        Ok(match name {
            "START_TIME" | "EMIT_TIME" => {
                let format = TimeFormat::parse(argument.unwrap_or_default())?;
                match name {
                    "START_TIME" => Self::StartTime(format),
                    _ => Self::EmitTime(format),
                }
            }
            "REQ" | "REQUEST_HEADER" => Self::Request(header()?),
            "RESP" | "RESPONSE_HEADER" => Self::Response(header()?),
            "TRAILER" | "RESPONSE_TRAILER" => Self::Trailer(header()?),
            "PATH" => path(argument.unwrap_or_default())?,
            "GRPC_STATUS" => Self::GrpcStatus(match argument {
                None | Some("" | "CAMEL_STRING") => GrpcForm::Camel,
                Some("SNAKE_STRING") => GrpcForm::Snake,
                Some("NUMBER") => GrpcForm::Number,
                Some(other) => return Err(format!("%GRPC_STATUS({other})% is not known")),
            }),
            "GRPC_STATUS_NUMBER" => {
                none()?;
                Self::GrpcStatus(GrpcForm::Number)
            }
            "COMMON_DURATION" => between(argument.unwrap_or_default())?,
            "ENVIRONMENT" => {
                let variable = argument.filter(|text| !text.is_empty());
                let variable = variable.ok_or("%ENVIRONMENT% needs the name of a variable")?;
                match std::env::var(variable) {
                    Ok(mut value) => {
                        cut(&mut value, most);
                        Self::Fixed(value)
                    }
                    Err(_) => Self::Nothing,
                }
            }
            "HOSTNAME" => {
                none()?;
                Self::Fixed(hostname())
            }
            _ if NEVER.contains(&name) => Self::Nothing,
            _ => {
                if let Some(rare) = Rare::parse(name, argument, most)? {
                    return Ok(Self::Rare(rare));
                }
                none()?;
                let simple = Simple::of(name);
                Self::Simple(simple.ok_or_else(|| format!("%{name}% is not supported"))?)
            }
        })
    }
}

impl Header {
    fn parse(argument: &str, most: Option<usize>) -> Result<Self, String> {
        let mut names = argument.split('?').map(FieldName::from);
        let name = names.next().unwrap_or_else(|| FieldName::from(""));
        let otherwise = names.next();
        if names.next().is_some() {
            return Err(format!("{argument:?}: there can be one alternative only"));
        }
        Ok(Self {
            name,
            otherwise,
            most,
        })
    }

    /// Both names.
    pub(super) fn names(&self) -> impl Iterator<Item = &FieldName> {
        std::iter::once(&self.name).chain(&self.otherwise)
    }
}

/// Name, argument and length.
fn split(text: &str) -> Result<(&str, Option<&str>, Option<usize>), String> {
    let Some((name, rest)) = text.split_once('(') else {
        return match text.split_once(':') {
            None => Ok((text, None, None)),
            Some((name, _)) => Err(format!("%{name}% takes no length")),
        };
    };
    let (argument, rest) = rest
        .rsplit_once(')')
        .ok_or_else(|| format!("%{text}%: the parenthesis is not closed"))?;
    let most = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(length) => Some(
            length
                .parse()
                .map_err(|_| format!("%{text}%: {length:?} is not a length"))?,
        ),
        None => return Err(format!("%{text}%: {rest:?} after the parenthesis")),
    };
    Ok((name, Some(argument), most))
}

fn path(argument: &str) -> Result<Operator, String> {
    let mut parts = argument.split(':');
    let query = match parts.next().unwrap_or_default() {
        "" | "WQ" => true,
        "NQ" => false,
        other => return Err(format!("%PATH({other})% is not known")),
    };
    let original = match parts.next().unwrap_or_default() {
        "" | "ORIG_OR_PATH" => Original::Either,
        "ORIG" => Original::Only,
        "PATH" => Original::Never,
        other => return Err(format!("%PATH(…:{other})% is not known")),
    };
    Ok(Operator::Path { query, original })
}

fn between(argument: &str) -> Result<Operator, String> {
    let parts: Vec<_> = argument.split(':').collect();
    let (from, to, unit) = match *parts.as_slice() {
        [from, to] => (from, to, "ms"),
        [from, to, unit] => (from, to, unit),
        _ => return Err("%COMMON_DURATION% needs START:END:PRECISION".to_owned()),
    };
    let moment = |name: &str| match name {
        "DS_RX_BEG" => Ok(Moment::Begin),
        "DS_RX_END" => Ok(Moment::RequestComplete),
        "US_CX_BEG" => Ok(Moment::ConnectBegun),
        "US_CX_END" => Ok(Moment::Connected),
        "US_HS_END" => Ok(Moment::Secured),
        "US_TX_BEG" => Ok(Moment::RequestBegun),
        "US_TX_END" => Ok(Moment::RequestSent),
        "US_RX_BEG" | "DS_TX_BEG" => Ok(Moment::ResponseBegun),
        "DS_TX_END" | "US_RX_END" => Ok(Moment::End),
        other => Err(format!("%COMMON_DURATION%: {other} is not supported")),
    };
    let unit = match unit {
        "ms" => [1, 1000],
        "us" => [1, 1],
        "ns" => [1000, 1],
        other => return Err(format!("%COMMON_DURATION%: {other} is not supported")),
    };
    Ok(Operator::Between(moment(from)?, moment(to)?, unit))
}

/// Cuts a text at a boundary of characters.
pub(super) fn cut(text: &mut String, most: Option<usize>) {
    if let Some(most) = most {
        text.truncate(text.floor_char_boundary(most));
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}
