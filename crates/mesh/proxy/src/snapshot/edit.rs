//! What a route changes about the heads that pass: fields, paths, hosts; and where it redirects to.

use super::Replacement;

/// The changes of one level of the configuration (a weighted cluster, a route, its virtual host, all
/// routes), for one direction: first fields are removed, then values are worked out, then added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// The names to remove, in lower case.
    pub remove: Vec<String>,
    /// The fields to add.
    pub add: Vec<Addition>,
}

/// `HeaderValueOption`: a field to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: Format,
    /// What happens if it is there already.
    pub action: AppendAction,
    /// `keep_empty_value`: it is added even if its value turns out to be empty.
    pub keeps_empty: bool,
}

/// `HeaderAppendAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAction {
    /// Add it, whether or not it is there.
    Append,
    /// Add it if it is not there.
    AddIfAbsent,
    /// Replace it, or add it.
    Overwrite,
    /// Replace it, if it is there.
    OverwriteIfExists,
}

/// A format string, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format(pub Vec<Part>);

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Fixed text; what does not change while the proxy runs is resolved to it.
    Text(String),
    /// A command, and the most bytes of its value that are taken.
    Command(Command, Option<usize>),
}

/// A command of a format string: what it stands for. Without a value it is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `%REQ(X?Y)%`: a field of the request, or another one.
    Request(String, Option<String>),
    /// `%RESP(X?Y)%`: a field of the response.
    Response(String, Option<String>),
    /// `%DOWNSTREAM_REMOTE_ADDRESS%` and what is left of it without one of its parts.
    Remote(AddressPart),
    /// `%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%`: the peer of the connection.
    DirectRemote(AddressPart),
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`: where the client connected to.
    Local(AddressPart),
    /// `%UPSTREAM_HOST%`, `%UPSTREAM_REMOTE_ADDRESS%`: the endpoint.
    Upstream(AddressPart),
    /// `%UPSTREAM_CLUSTER%`.
    Cluster,
    /// `%PROTOCOL%`: what the client speaks.
    Protocol,
    /// `%ROUTE_NAME%`.
    RouteName,
    /// `%RESPONSE_CODE%`.
    Status,
    /// `%RESPONSE_FLAGS%`.
    Flags,
    /// `%DOWNSTREAM_PEER_URI_SAN%`.
    PeerUriSan,
    /// `%DOWNSTREAM_LOCAL_URI_SAN%`.
    LocalUriSan,
}

/// Which part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressPart {
    /// `ip:port`.
    Whole,
    /// The IP address.
    Ip,
    /// The port.
    Port,
}

/// The changes of a route in both directions, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Of requests.
    pub request: Vec<FieldEdits>,
    /// Of responses.
    pub response: Vec<FieldEdits>,
}

impl Edits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// What a route makes of the path and the host of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path.
    pub path: Option<PathRewrite>,
    /// The host.
    pub host: Option<HostRewrite>,
    /// `append_x_forwarded_host`.
    pub appends_forwarded_host: bool,
}

/// What is made of a path; its query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// `prefix_rewrite`: the matched prefix, or the matched path, becomes this.
    Matched(String),
    /// `regex_rewrite`.
    Regex(Replacement),
}

/// What is made of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// `host_rewrite_literal`.
    Literal(String),
    /// `host_rewrite_header`: the value of a field, if it is there.
    Header(String),
    /// `host_rewrite_path_regex`, of the path without its query.
    PathRegex(Replacement),
    /// `auto_host_rewrite`: the host name of the endpoint, if it has one.
    Endpoint,
}

/// `RedirectAction`.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status code.
    pub status: u16,
    /// The scheme, if it changes.
    pub scheme: Option<String>,
    /// The host, if it changes.
    pub host: Option<String>,
    /// The port, if it is said.
    pub port: Option<u16>,
    /// `path_redirect`: the path, perhaps with a query.
    pub path: Option<String>,
    /// What else is made of the path.
    pub rewrite: Option<PathRewrite>,
    /// `strip_query`.
    pub strips_query: bool,
    /// A host that does not change keeps its port, whatever the scheme becomes.
    pub keeps_host: bool,
}
