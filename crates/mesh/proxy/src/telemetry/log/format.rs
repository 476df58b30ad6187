//! Format strings: text with command operators between percent signs.

use super::entry::Entry;
use super::json::Json;
use super::operator::{Operator, Simple};
use super::rare::Rare;
use super::record::Record;
use super::value::Kind;

/// Envoy's default.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// The layout of what is written of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    Text(Template),
    Json(Json),
    /// No line, but a record of OpenTelemetry's.
    Record(Record),
}

/// A text with operators.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
    /// What has no value is left out, rather than shown as `-`.
    omits: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Operator(Operator),
}

impl Format {
    /// Envoy's.
    pub(crate) fn default_text() -> Result<Self, String> {
        Ok(Self::Text(Template::parse(DEFAULT, false)?))
    }

    /// Appends the line, or the record, of an entry.
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(template) => {
                template.append(entry, out);
            }
            Self::Json(json) => json.append(entry, out),
            Self::Record(record) => record.append(entry, out),
        }
    }

    fn any(&self, wanted: fn(&Operator) -> bool) -> bool {
        match self {
            Self::Text(template) => template.any(wanted),
            Self::Json(json) => json.any(wanted),
            Self::Record(record) => record.any(wanted),
        }
    }

    pub(super) fn needs_sent_head(&self) -> bool {
        self.any(Operator::needs_sent_head)
    }

    pub(super) fn needs_own_headers(&self) -> bool {
        self.any(Operator::needs_own_headers)
    }

    pub(super) fn needs_response(&self) -> bool {
        self.any(Operator::needs_response)
    }

    pub(super) fn needs_upstream_local(&self) -> bool {
        self.any(Operator::needs_upstream_local)
    }

    pub(super) fn needs_birth(&self) -> bool {
        self.any(Operator::needs_birth)
    }

    pub(super) fn needs_upstream_head(&self) -> bool {
        self.any(|operator| matches!(operator, Operator::Rare(rare) if rare.needs_upstream_head()))
    }

    /// Whether it tells what rules have decided.
    pub(crate) fn tells_decisions(&self) -> bool {
        self.any(Operator::tells_decisions)
    }
}

/// Whether a proxy may write this header into a request.
pub(super) fn is_written_by_proxies(name: &str) -> bool {
    let prefixes = ["x-forwarded-", "x-b3-", "x-envoy-"];
    let names = ["b3", "traceparent", "tracestate", "grpc-timeout"];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

impl Operator {
    fn needs_sent_head(&self) -> bool {
        match self {
            Self::Request(header) => header.names().any(|name| is_written_by_proxies(name)),
            Self::Rare(rare) => rare.needs_sent_head(),
            _ => false,
        }
    }

    /// Whether these are others than those that only the edge, or a route that changes the head, writes.
    fn needs_own_headers(&self) -> bool {
        const AS_RECEIVED: [&str; 2] = ["x-forwarded-for", "x-envoy-original-path"];
        let is_own = |name: &str| is_written_by_proxies(name) && !AS_RECEIVED.contains(&name);
        match self {
            Self::Request(header) => header.names().any(|name| is_own(name)),
            Self::Rare(rare) => rare.needs_sent_head(),
            _ => false,
        }
    }

    fn needs_response(&self) -> bool {
        match self {
            Self::Response(_) | Self::Trailer(_) => true,
            Self::Rare(rare) => rare.needs_response(),
            _ => false,
        }
    }

    fn needs_upstream_local(&self) -> bool {
        use Simple::{UpstreamLocalAddress, UpstreamLocalIp, UpstreamLocalPort};
        matches!(
            self,
            Self::Simple(UpstreamLocalAddress | UpstreamLocalIp | UpstreamLocalPort)
        )
    }

    fn needs_birth(&self) -> bool {
        match self {
            Self::Between(from, to, _) => from.is_of_connection() || to.is_of_connection(),
            Self::Rare(Rare::Known(known)) => known.needs_birth(),
            _ => false,
        }
    }

    fn tells_decisions(&self) -> bool {
        matches!(self, Self::Rare(rare) if rare.tells_decisions())
    }
}

/// A template of this operator alone, without a value nothing.
impl From<Operator> for Template {
    fn from(operator: Operator) -> Self {
        Self {
            pieces: vec![Piece::Operator(operator)],
            omits: true,
        }
    }
}

impl Template {
    /// Reads a format string; `%%` is a percent sign.
    pub(crate) fn parse(text: &str, omits: bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let end = end_of_operator(after)
                .ok_or_else(|| format!("an operator is not closed: {:?}", &rest[at..]))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Operator(Operator::parse(&after[..end])?));
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces, omits })
    }

    /// Appends it with the values of an entry. A template of one operator says what that is.
    #[inline(always)]
    pub(super) fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Kind {
        if let [Piece::Operator(operator)] = &*self.pieces {
            let kind = operator.append(entry, out);
            if kind == Kind::Absent && !self.omits {
                out.push(b'-');
            }
            return kind;
        }
        self.append_all(entry, out);
        Kind::Text
    }

    fn append_all(&self, entry: &Entry<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Operator(operator) => {
                    if operator.append(entry, out) == Kind::Absent && !self.omits {
                        out.push(b'-');
                    }
                }
            }
        }
    }

    /// Its text for an entry.
    pub(crate) fn text(&self, entry: &Entry<'_>) -> String {
        let mut out = Vec::new();
        self.append(entry, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether it tells of headers that the proxy itself writes into requests.
    pub(crate) fn needs_sent_head(&self) -> bool {
        self.any(Operator::needs_sent_head)
    }

    /// Whether it tells of the response's headers or trailers.
    pub(crate) fn needs_response(&self) -> bool {
        self.any(Operator::needs_response)
    }

    /// Whether it tells of the proxy's own address on the way to the endpoint.
    pub(crate) fn needs_upstream_local(&self) -> bool {
        self.any(Operator::needs_upstream_local)
    }

    /// Whether it tells how the connection to the endpoint came to be.
    pub(crate) fn needs_birth(&self) -> bool {
        self.any(Operator::needs_birth)
    }

    /// Whether it tells what rules have decided.
    pub(crate) fn tells_decisions(&self) -> bool {
        self.any(Operator::tells_decisions)
    }

    /// The operator that it is, if it is nothing else.
    pub(super) fn into_operator(mut self) -> Result<Operator, Self> {
        match (self.pieces.pop(), self.pieces.is_empty()) {
            (Some(Piece::Operator(operator)), true) => Ok(operator),
            (last, _) => {
                self.pieces.extend(last);
                Err(self)
            }
        }
    }

    pub(super) fn any(&self, wanted: impl Fn(&Operator) -> bool) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Text(_) => false,
            Piece::Operator(operator) => wanted(operator),
        })
    }
}

/// Where an operator's closing percent sign is: those within parentheses are its argument's.
fn end_of_operator(text: &str) -> Option<usize> {
    let name = text.find(['(', '%'])?;
    if text[name..].starts_with('%') {
        return Some(name);
    }
    let closed = name + text[name..].find(')')?;
    Some(closed + text[closed..].find('%')?)
}
