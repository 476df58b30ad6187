//! HTTP filters: what is done with a request before it is forwarded.

use std::collections::HashMap;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use super::{HeaderMatch, NameCache, RateLimit, Session, ValueMatch};
use crate::policy::Rbac;
use crate::policy::authz::{Authz, CheckSettings};
use crate::policy::jwt::Jwt;
use crate::policy::quota::Quota;

/// A filter of a connection manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpFilter {
    /// Its name, by which routes refer to it.
    pub name: String,
    /// It is off, unless a route turns it on.
    pub disabled: bool,
    /// What it does.
    pub filter: Filter,
}

/// What a filter does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Delays and refuses requests on purpose.
    Fault(Arc<Fault>),
    /// Answers pages of other origins.
    Cors(Arc<Cors>),
    /// Refuses what is too much.
    Limit(Arc<RateLimit>),
    /// Decides by rules.
    Rbac(Arc<Rbac>),
    /// Checks tokens.
    Jwt(Arc<Jwt>, Required),
    /// Asks a service.
    Authz(Arc<Authz>),
    /// Asks a service that counts.
    Quota(Arc<Quota>),
    /// Sends the requests of a session to one endpoint.
    Session(Arc<Session>),
    /// Waits for the whole body, of so many bytes at the most.
    Buffer(u32),
    /// Looks up the hosts of requests that go to clusters of such hosts.
    Names(Arc<NameCache>),
    /// Answers who asks how the proxy is.
    Health(Arc<HealthFilter>),
    /// Forgets what the client says in these headers, which are for filters to set,
    Forget(Arc<[String]>),
    /// and refuses what is not valid in them: the router's `strict_check_headers`.
    Strict(Arc<[String]>),
}

/// `HealthCheck`: which requests ask how the proxy is, and what they are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthFilter {
    /// `pass_through_mode`: the application is asked, unless the proxy itself is not to get requests.
    pub passes: bool,
    /// All must hold.
    pub headers: Vec<HeaderMatch>,
    /// `cluster_min_healthy_percentages`: so many endpoints of a million must be healthy.
    pub least_healthy: Vec<(String, u64)>,
}

/// Which tokens a request must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Required {
    /// What the rules of the filter say.
    ByRules,
    /// What this entry of its `requirement_map` says.
    Entry(Arc<str>),
    /// None.
    Nothing,
}

/// What a route wants of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PerFilter {
    /// It is off.
    Off,
    /// It is on, with the configuration of the connection manager.
    On,
    /// It is on, with this configuration.
    Own(Filter),
    /// The filter of tokens is on, with this.
    Requirement(Required),
    /// The filter that asks a service is on, with this besides.
    Check(Arc<CheckSettings>),
}

impl PerFilter {
    /// What a filter becomes by this; nothing if it is off. The configuration of another kind of filter is none
    /// of its.
    pub(crate) fn apply(&self, filter: &HttpFilter) -> Option<Filter> {
        let (own, is_on) = match (self, &filter.filter) {
            (Self::Off, _) => return None,
            (Self::On, same) => (same.clone(), true),
            (Self::Own(own), same) if discriminant(own) == discriminant(same) => {
                (own.clone(), true)
            }
            (Self::Requirement(required), Filter::Jwt(jwt, _)) => {
                (Filter::Jwt(jwt.clone(), required.clone()), true)
            }
            (Self::Check(settings), Filter::Authz(authz)) => {
                (Filter::Authz(Arc::new(settings.apply(authz))), true)
            }
            (Self::Own(_) | Self::Requirement(_) | Self::Check(_), same) => (same.clone(), false),
        };
        (is_on || !filter.disabled).then_some(own)
    }
}

/// What a route wants of filters, by their names.
pub type PerFilters = HashMap<String, PerFilter>;

/// Puts what a more specific level wants in place of what this one does; what CORS policies leave open is still
/// that of the level below.
pub(crate) fn overlay(filters: &mut PerFilters, over: &PerFilters) {
    for (name, wanted) in over {
        let wanted = match (wanted, filters.get(name)) {
            (PerFilter::Own(Filter::Cors(own)), Some(PerFilter::Own(Filter::Cors(below)))) => {
                PerFilter::Own(Filter::Cors(Arc::new(own.over(below))))
            }
            (PerFilter::Check(own), Some(PerFilter::Check(below))) => {
                PerFilter::Check(Arc::new(own.over(below)))
            }
            _ => wanted.clone(),
        };
        filters.insert(name.clone(), wanted);
    }
}

/// `CorsPolicy`: which pages of other origins may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// It holds for so many of a million requests; `None` is all of them.
    pub enabled: Option<u32>,
    /// For so many, if it does not hold, origins are counted all the same.
    pub shadow: Option<u32>,
    /// The origins; none if this is said elsewhere.
    pub origins: Vec<ValueMatch>,
    /// `access-control-allow-methods`; empty if this is said elsewhere.
    pub methods: String,
    /// `access-control-allow-headers`, the same.
    pub headers: String,
    /// `access-control-expose-headers`, the same.
    pub exposed: String,
    /// `access-control-max-age`, the same.
    pub max_age: String,
    /// `access-control-allow-credentials`.
    pub credentials: Option<bool>,
    /// `access-control-allow-private-network`.
    pub private_network: Option<bool>,
    /// Preflights of other origins go on to the endpoint; by default they do.
    pub forwards_others: Option<bool>,
}

impl Cors {
    /// The same with what a less specific level says about what this one leaves open.
    fn over(&self, below: &Self) -> Self {
        let text = |own: &String, other: &String| if own.is_empty() { other } else { own }.clone();
        let origins = match &*self.origins {
            [] => &below.origins,
            _ => &self.origins,
        };
        Self {
            enabled: self.enabled,
            shadow: self.shadow,
            origins: origins.clone(),
            methods: text(&self.methods, &below.methods),
            headers: text(&self.headers, &below.headers),
            exposed: text(&self.exposed, &below.exposed),
            max_age: text(&self.max_age, &below.max_age),
            credentials: self.credentials.or(below.credentials),
            private_network: self.private_network.or(below.private_network),
            forwards_others: self.forwards_others.or(below.forwards_others),
        }
    }

    /// Whether an origin is one of those that it allows.
    pub(crate) fn allows(&self, origin: &[u8]) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|allowed| allowed.matches(b"*") || allowed.matches(origin))
    }
}

/// `HTTPFault`: delays and refuses requests on purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Only requests to this cluster, if it is said.
    pub cluster: Option<String>,
    /// Only requests with these headers.
    pub headers: Vec<HeaderMatch>,
    /// The delay.
    pub delay: Option<FaultDelay>,
    /// The refusal, after the delay.
    pub abort: Option<FaultAbort>,
    /// `max_active_faults`: the most requests that are delayed or refused at the same time.
    pub max_active: Option<u32>,
}

/// A share of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of a million.
    pub per_million: u32,
    /// How much of a million is one of the numerator.
    pub unit: u32,
}

/// `FaultDelay`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultDelay {
    /// Of so many requests.
    pub share: Share,
    /// How long; `None` as `x-envoy-fault-delay-request` says, in ms.
    pub time: Option<Duration>,
}

/// `FaultAbort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultAbort {
    /// Of so many requests.
    pub share: Share,
    /// The answer.
    pub answer: AbortAnswer,
    /// The body of the answer.
    pub body: String,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortAnswer {
    /// With a status of HTTP.
    Http(u16),
    /// With a status of gRPC.
    Grpc(u8),
    /// As `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says.
    Header,
}
