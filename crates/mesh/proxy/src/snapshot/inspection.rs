//! `ListenerFilter`: what is found out about a connection before it is served.

use std::time::Duration;

/// What a listener looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// `listener_filters` but for `original_dst`, in their order.
    pub filters: Vec<ListenerFilter>,
    /// `listener_filters_timeout`: how long they may wait for the client's first bytes.
    pub timeout: Option<Duration>,
    /// `continue_on_listener_filters_timeout`: a connection whose time is over is served as what is
    /// known of it, rather than closed.
    pub continue_on_timeout: bool,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            timeout: Some(Duration::from_secs(15)),
            continue_on_timeout: false,
        }
    }
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFilter {
    /// What it does.
    pub kind: FilterKind,
    /// `filter_disabled`: the ports of destinations for which it does nothing.
    pub disabled: Option<PortPredicate>,
}

/// What a listener filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// `tls_inspector`: whether the client begins with TLS, and whom it wants to talk to.
    Tls,
    /// `http_inspector`: whether it begins with HTTP.
    Http,
    /// `proxy_protocol`: takes the header of another proxy, which says who the client is.
    ProxyProtocol {
        /// `allow_requests_without_proxy_protocol`.
        optional: bool,
        /// Not one of `disallowed_versions`.
        v1: bool,
        /// Not one of `disallowed_versions`.
        v2: bool,
    },
}

/// `ListenerFilterChainMatchPredicate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortPredicate {
    /// `any_match`.
    Any,
    /// `destination_port_range`: from the first port to the one before the second.
    Range(u32, u32),
    /// `or_match`.
    Or(Vec<PortPredicate>),
    /// `and_match`.
    And(Vec<PortPredicate>),
    /// `not_match`.
    Not(Box<PortPredicate>),
}

impl PortPredicate {
    /// Whether it holds for a port.
    pub fn holds(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Range(from, to) => (*from..*to).contains(&port.into()),
            Self::Or(all) => all.iter().any(|one| one.holds(port)),
            Self::And(all) => all.iter().all(|one| one.holds(port)),
            Self::Not(one) => !one.holds(port),
        }
    }
}

/// What was found out about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sniffed {
    /// It begins with TLS: its transport protocol is `tls`, else `raw_buffer`.
    pub(crate) is_tls: bool,
    /// The name that the client asks for, in lower case.
    pub(crate) server_name: Option<String>,
    /// The protocols that the client offers, the best first; of plaintext the one that it speaks.
    pub(crate) protocols: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predicates_are_combined() {
        let range = PortPredicate::Range(80, 90);
        let other = PortPredicate::Range(9000, 9001);
        let or = PortPredicate::Or(vec![range.clone(), other.clone()]);
        let and = PortPredicate::And(vec![range.clone(), other]);
        let not = PortPredicate::Not(Box::new(range.clone()));
        for (predicate, port, expected) in [
            (&range, 79, false),
            (&range, 80, true),
            (&range, 89, true),
            (&range, 90, false),
            (&or, 9000, true),
            (&or, 9001, false),
            (&and, 80, false),
            (&not, 80, false),
            (&not, 90, true),
            (&PortPredicate::Any, 1, true),
        ] {
            assert_eq!(predicate.holds(port), expected, "{predicate:?} {port}");
        }
    }
}
