//! HTTP filters: what is done with a request before it is forwarded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::HeaderMatch;

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
}

/// What a route wants of filters, by their names.
pub type PerFilters = HashMap<String, PerFilter>;

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
