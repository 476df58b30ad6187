//! Which headers an application copies from the request it serves to the requests it makes for
//! it.
//!
//! This is all that tracing asks of an application: sidecars see requests come in and go out, but
//! only the application knows which outgoing request was made for which incoming one.

use std::fmt;

use http::HeaderMap;

use crate::Environment;

/// What ties requests into one trace.
const CONTEXT: [&str; 15] = [
    // Every application should forward this one: proxies log it and sample by it.
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "sw8",
];

/// Who asks; routing rules may look at it.
const CALLER: [&str; 4] = ["user-agent", "cookie", "authorization", "jwt"];

/// The user who is signed in. The product page sets it, everyone behind it forwards it.
pub(crate) const END_USER: &str = "end-user";

/// The forwarding habit of one service.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    context: bool,
}

impl Forward {
    /// `BOOKINFO_DROP_HEADERS` makes the service forget the context, as real applications do:
    /// its traces then fall apart.
    pub(crate) fn from(environment: &Environment) -> Self {
        Self {
            context: !environment.flag("BOOKINFO_DROP_HEADERS"),
        }
    }

    /// The headers for a request made for the one with `received`.
    pub(crate) fn copy(&self, received: &HeaderMap) -> HeaderMap {
        let context = if self.context { &CONTEXT[..] } else { &[] };
        let mut headers = HeaderMap::with_capacity(CONTEXT.len() + CALLER.len() + 1);
        for name in context.iter().chain(&CALLER).chain([&END_USER]) {
            for value in received.get_all(*name) {
                headers.append(*name, value.clone());
            }
        }
        headers
    }
}

/// The context that a request came with, as a log shows it: `name="value"`, separated by spaces.
pub(crate) struct Context<'a>(pub(crate) &'a HeaderMap);

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in CONTEXT {
            for value in self.0.get_all(name) {
                write!(f, "{separator}{name}={value:?}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}
