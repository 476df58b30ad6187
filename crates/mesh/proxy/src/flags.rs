//! Envoy's response flags.

use std::borrow::Cow;
use std::fmt;

/// Why an exchange did not go as it should (Envoy's `response_flags`).
#[expect(
    clippy::upper_case_acronyms,
    reason = "these are Envoy's own short names"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flag {
    /// No healthy upstream.
    UH,
    /// Upstream connection failure.
    UF,
    /// Upstream overflow: a circuit breaker.
    UO,
    /// No route found.
    NR,
    /// No cluster found.
    NC,
    /// Downstream connection termination.
    DC,
    /// Downstream remote reset.
    DR,
    /// Upstream remote reset.
    UR,
    /// Upstream request timeout.
    UT,
    /// Upstream connection termination.
    UC,
    /// Upstream protocol error.
    UPE,
    /// Downstream protocol error.
    DPE,
    /// Stream idle timeout.
    SI,
    /// Upstream retry limit exceeded.
    URX,
    /// Downstream connection duration.
    DT,
    /// Drop overload: the control plane wants a share of the requests refused.
    DO,
    /// Unconditional drop overload: it wants all of them refused.
    UDO,
    /// Delay injected: a fault filter has delayed the request.
    DI,
    /// Fault injected: a fault filter has refused it.
    FI,
    /// Overload manager: memory ran short.
    OM,
    /// Rate limited.
    RL,
    /// Rate limit service error.
    RLSE,
    /// Unauthorized by an external service.
    UAEX,
    /// Upstream max stream duration reached.
    UMSDR,
    /// Failed local health check: the proxy has said that it is not to get requests.
    LH,
    /// Invalid Envoy request headers: a filter has set one to what is not valid.
    IH,
    /// DNS resolution failed: the host that the request asks for has no address.
    DF,
}

impl Flag {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UH => "UH",
            Self::UF => "UF",
            Self::UO => "UO",
            Self::NR => "NR",
            Self::NC => "NC",
            Self::DC => "DC",
            Self::DR => "DR",
            Self::UR => "UR",
            Self::UT => "UT",
            Self::UC => "UC",
            Self::UPE => "UPE",
            Self::DPE => "DPE",
            Self::SI => "SI",
            Self::URX => "URX",
            Self::DT => "DT",
            Self::DO => "DO",
            Self::UDO => "UDO",
            Self::DI => "DI",
            Self::FI => "FI",
            Self::OM => "OM",
            Self::RL => "RL",
            Self::RLSE => "RLSE",
            Self::UAEX => "UAEX",
            Self::UMSDR => "UMSDR",
            Self::LH => "LH",
            Self::IH => "IH",
            Self::DF => "DF",
        }
    }

    /// Envoy's long name.
    const fn long(self) -> &'static str {
        match self {
            Self::UH => "NoHealthyUpstream",
            Self::UF => "UpstreamConnectionFailure",
            Self::UO => "UpstreamOverflow",
            Self::NR => "NoRouteFound",
            Self::NC => "NoClusterFound",
            Self::DC => "DownstreamConnectionTermination",
            Self::DR => "DownstreamRemoteReset",
            Self::UR => "UpstreamRemoteReset",
            Self::UT => "UpstreamRequestTimeout",
            Self::UC => "UpstreamConnectionTermination",
            Self::UPE => "UpstreamProtocolError",
            Self::DPE => "DownstreamProtocolError",
            Self::SI => "StreamIdleTimeout",
            Self::URX => "UpstreamRetryLimitExceeded",
            Self::DT => "DurationTimeout",
            Self::DO => "DropOverload",
            Self::UDO => "UnconditionalDropOverload",
            Self::DI => "DelayInjected",
            Self::FI => "FaultInjected",
            Self::OM => "OverloadManagerTerminated",
            Self::RL => "RateLimited",
            Self::RLSE => "RateLimitServiceError",
            Self::UAEX => "UnauthorizedExternalService",
            Self::UMSDR => "UpstreamMaxStreamDurationReached",
            Self::LH => "FailedLocalHealthCheck",
            Self::IH => "InvalidEnvoyRequestHeaders",
            Self::DF => "DnsResolutionFailed",
        }
    }

    /// What it means.
    const fn words(self) -> &'static str {
        match self {
            Self::UH => "no healthy endpoint in the cluster",
            Self::UF => "no connection to the endpoint",
            Self::UO => "a circuit breaker is open",
            Self::NR => "no route, or no filter chain, for the request",
            Self::NC => "the route's cluster is not there",
            Self::DC => "the client has gone",
            Self::DR => "the client has reset the stream",
            Self::UR => "the endpoint has reset the stream",
            Self::UT => "the endpoint has not answered in time",
            Self::UC => "the endpoint has closed the connection",
            Self::UPE => "the endpoint has broken its protocol",
            Self::DPE => "the client has broken its protocol",
            Self::SI => "nothing has moved for too long",
            Self::URX => "all retries, or attempts to connect, are used up",
            Self::DT => "the connection has lasted for too long",
            Self::DO => "the control plane has a share of the requests refused",
            Self::UDO => "the control plane has all requests refused",
            Self::DI => "a fault filter has delayed the request",
            Self::FI => "a fault filter has answered the request",
            Self::OM => "memory runs short, and the stream holds much of it",
            Self::RL => "there were too many requests",
            Self::RLSE => "nobody has said whether there were too many requests",
            Self::UAEX => "an authorizer has refused the request",
            Self::UMSDR => "the time that the cluster gives to an attempt has passed",
            Self::LH => "the proxy is not healthy, or is not to get requests",
            Self::IH => "a filter has set a header of Envoy's to what is not valid",
            Self::DF => "the host has no address",
        }
    }

    const ALL: [Self; 27] = [
        Self::UH,
        Self::UF,
        Self::UO,
        Self::NR,
        Self::NC,
        Self::DC,
        Self::DR,
        Self::UR,
        Self::UT,
        Self::UC,
        Self::UPE,
        Self::DPE,
        Self::SI,
        Self::URX,
        Self::DT,
        Self::DO,
        Self::UDO,
        Self::DI,
        Self::FI,
        Self::OM,
        Self::RL,
        Self::RLSE,
        Self::UAEX,
        Self::UMSDR,
        Self::LH,
        Self::IH,
        Self::DF,
    ];

    /// The flag of a short name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.as_str() == name)
    }
}

/// The flags of an exchange, in the order in which they were set; an exchange has at most four.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags([Option<Flag>; 4]);

impl Flags {
    /// Sets a flag.
    pub(crate) fn set(&mut self, flag: Flag) {
        if self.has(flag) {
            return;
        }
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(flag);
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0[0].is_none()
    }

    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0.contains(&Some(flag))
    }

    /// Whether a cluster has refused before any endpoint was chosen.
    pub(crate) fn is_of_cluster(self) -> bool {
        let refusals = [Flag::UH, Flag::UO, Flag::DO, Flag::UDO];
        refusals.into_iter().any(|flag| self.has(flag))
    }

    /// Their long names, comma-joined.
    pub(crate) fn long(self) -> impl fmt::Display {
        fmt::from_fn(move |f| self.join(f, ",", Flag::long))
    }

    /// What they mean; none if there is none.
    pub(crate) fn words(self) -> Option<Cow<'static, str>> {
        match self.0 {
            [None, ..] => None,
            [Some(flag), None, ..] => Some(flag.words().into()),
            [Some(_), Some(_), ..] => {
                let all = fmt::from_fn(|f| self.join(f, "; ", Flag::words));
                Some(all.to_string().into())
            }
        }
    }

    fn join(
        self,
        f: &mut fmt::Formatter<'_>,
        comma: &str,
        name: fn(Flag) -> &'static str,
    ) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, flag) in self.0.into_iter().flatten().enumerate() {
            let comma = if index > 0 { comma } else { "" };
            write!(f, "{comma}{}", name(flag))?;
        }
        Ok(())
    }

    /// The text of the `response_flags` tag where no memory is needed: none or one flag.
    pub(crate) fn as_static(self) -> Option<&'static str> {
        match self.0 {
            [None, ..] => Some("-"),
            [Some(flag), None, ..] => Some(flag.as_str()),
            [Some(_), Some(_), ..] => None,
        }
    }
}

/// Comma-joined short flags, `-` if there is none.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.join(f, ",", Flag::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_joined_in_the_order_in_which_they_were_set() {
        let mut flags = Flags::default();
        assert_eq!(flags.to_string(), "-");
        flags.set(Flag::UT);
        flags.set(Flag::UT);
        assert_eq!(flags.to_string(), "UT");
        flags.set(Flag::DC);
        assert_eq!(flags.to_string(), "UT,DC");
        assert_eq!(flags.as_static(), None);
        flags.set(Flag::UF);
        assert_eq!(flags.to_string(), "UT,DC,UF");
    }
}
