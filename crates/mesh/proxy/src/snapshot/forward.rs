//! Where a route forwards its requests to.

use std::time::Duration;

use super::{
    Edits, GrpcTimeouts, Labels, PerFilters, Replacement, RetryPolicy, Rewrite, RouteLimits,
};

/// `RouteAction` of Envoy: where to, and within which time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forward {
    /// Clusters and their weights; one cluster is a list of one.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of all weights; never zero.
    pub total_weight: u32,
    /// `cluster_not_found_response_code`: the answer where the cluster is missing; `None` is 503.
    pub missing_status: Option<u16>,
    /// `timeout` of the whole exchange; `None` is no limit (`0s`). Envoy's default is 15 s.
    pub timeout: Option<Duration>,
    /// `idle_timeout`: in place of the connection manager's `stream_idle_timeout`; zero is no limit.
    pub idle_timeout: Option<Duration>,
    /// `max_stream_duration`: in place of the connection manager's; zero is no limit.
    pub max_stream_duration: Option<Duration>,
    /// What the `grpc-timeout` header of a gRPC request changes.
    pub grpc: GrpcTimeouts,
    /// `hash_policy`: what clusters with consistent hashing choose by.
    pub hash_policies: Vec<HashPolicy>,
    /// `priority: HIGH`: the other set of circuit breakers.
    pub is_high_priority: bool,
    /// `upgrade_configs`: goes before that of the connection manager.
    pub upgrades: Vec<Upgrade>,
    /// What is made of path and host.
    pub rewrite: Option<Box<Rewrite>>,
    /// `request_mirror_policies`: where copies of requests go; those of the virtual host or of all routes if the
    /// route has none.
    pub mirrors: Vec<Mirror>,
    /// `rate_limits`, if there are some.
    pub limits: Option<Box<RouteLimits>>,
    /// When a request is tried again; that of the virtual host if the route has none.
    pub retry: Option<Box<RetryPolicy>>,
}

/// `UpgradeConfig`: whether requests may ask for a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// `upgrade_type`: a value of the `Upgrade` header, in whatever case, or `CONNECT`.
    pub protocol: String,
    /// `enabled`.
    pub is_enabled: bool,
    /// `connect_config`, of routes only: the tunnel ends here, and its bytes go to the endpoint.
    pub is_terminated: bool,
}

impl Upgrade {
    /// What is said about a protocol.
    pub(crate) fn find<'u>(upgrades: &'u [Self], protocol: &[u8]) -> Option<&'u Self> {
        let is_it = |one: &&Self| one.protocol.as_bytes().eq_ignore_ascii_case(protocol);
        upgrades.iter().find(is_it)
    }
}

impl Forward {
    /// How long the first attempt may take.
    pub(crate) fn first_timeout(&self) -> Option<Duration> {
        let per_try = self.retry.as_ref().and_then(|retry| retry.per_try_timeout);
        let per_try = per_try.filter(|time| self.timeout.is_none_or(|all| *time < all));
        per_try.or(self.timeout)
    }

    /// To one cluster, without a time limit.
    pub fn to(cluster: impl Into<String>) -> Self {
        Self {
            clusters: vec![WeightedCluster::new(cluster, 1)],
            total_weight: 1,
            ..Self::default()
        }
    }
}

/// `RequestMirrorPolicy`: a copy of a request, whose answer nobody waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// The cluster. If it is missing, no copies are sent.
    pub cluster: String,
    /// Of so many of a million requests; `None` is all of them.
    pub per_million: Option<u32>,
    /// `trace_sampled`: false leaves it without a span, whatever the request has.
    pub is_traced: bool,
    /// What becomes of the host.
    pub host: MirrorHost,
}

/// The host of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MirrorHost {
    /// That of the request with `-shadow` behind its name.
    #[default]
    Suffixed,
    /// That of the request (`disable_shadow_host_suffix_append`).
    Kept,
    /// `host_rewrite_literal`.
    Literal(String),
}

/// One choice of a `WeightedCluster`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightedCluster {
    /// The cluster's name. It may be missing from the snapshot: 503, `NC`.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// `metadata_match`, that of the route included: the subset of the cluster.
    pub labels: Labels,
    /// What is changed about heads, before the changes of the route.
    pub edits: Option<Box<Edits>>,
    /// `host_rewrite_literal`.
    pub host: Option<String>,
    /// What is wanted of filters, before what the route wants.
    pub filters: Option<Box<PerFilters>>,
}

impl WeightedCluster {
    /// All of a cluster.
    pub fn new(name: impl Into<String>, weight: u32) -> Self {
        Self {
            name: name.into(),
            weight,
            ..Self::default()
        }
    }
}

impl WeightedCluster {
    /// The same, with the labels of the route where it has none of its own.
    pub(crate) fn with(mut self, labels: &Labels) -> Self {
        for (name, value) in labels {
            if self.labels.iter().all(|(known, _)| known != name) {
                self.labels.push((name.clone(), value.clone()));
            }
        }
        self.labels.sort_unstable();
        self
    }
}

/// Chooses by weight: an index into `clusters`.
pub(crate) fn choose(clusters: &[WeightedCluster], total_weight: u32, random: u64) -> usize {
    let mut at = (random % u64::from(total_weight.max(1))) as u32;
    for (index, choice) in clusters.iter().enumerate() {
        match at.checked_sub(choice.weight) {
            Some(rest) => at = rest,
            None => return index,
        }
    }
    0
}

/// `HashPolicy`: a part of a request that decides about its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashPolicy {
    /// The part.
    pub source: HashSource,
    /// Whether the policies after this one count only if the request has not got this part.
    pub is_terminal: bool,
}

/// A part of a request, or of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// A header, by its name in lower case.
    Header(String),
    /// The same, with parts of its value replaced.
    RewrittenHeader(String, Replacement),
    /// A cookie; without a time to live, a client that has none gets none.
    Cookie(Cookie),
    /// The address of the client, without its port.
    SourceIp,
    /// A parameter of the query.
    QueryParameter(String),
}

/// A cookie that clients get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// For how long it is to live; zero is until the client's session ends.
    pub ttl: Option<Duration>,
    /// Its path; empty is none.
    pub path: String,
    /// More attributes of it: names and values, which may be empty.
    pub attributes: Vec<(String, String)>,
}

impl Cookie {
    /// Appends the line that sets it.
    pub(crate) fn append_line(&self, value: &str, line: &mut String) {
        line.push_str(&format!("set-cookie: {}=\"{value}\"", self.name));
        if let Some(ttl) = self.ttl.filter(|ttl| !ttl.is_zero()) {
            line.push_str("; Max-Age=");
            line.push_str(itoa::Buffer::new().format(ttl.as_secs()));
        }
        if !self.path.is_empty() {
            line.push_str("; Path=");
            line.push_str(&self.path);
        }
        for (name, value) in &self.attributes {
            line.push_str("; ");
            line.push_str(name);
            if !value.is_empty() {
                line.push('=');
                line.push_str(value);
            }
        }
        line.push_str("; HttpOnly\r\n");
    }
}
