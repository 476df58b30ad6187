//! Headers by which the mesh says how a request is to be forwarded: where they are checked, what makes no sense is
//! refused, though nothing here goes by it.

use crate::call::Call;
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::reply::Reply;
use crate::snapshot::RetryOn;
use crate::trace::text;

/// The headers that can be checked (`strict_check_headers`).
pub(crate) const CHECKED: [&str; 5] = [
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-max-retries",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
];

impl Call {
    /// An answer to a request in which one of these headers makes no sense.
    pub(super) fn check_strictly(
        &self,
        exchange: &mut Exchange,
        names: &[&'static str],
    ) -> Option<Reply<'static>> {
        // Clients outside of the mesh say nothing by them, and without a cluster nothing is forwarded.
        if self.view.manager.use_remote_address || exchange.cluster.is_none() {
            return None;
        }
        let head = self.buffer.head();
        let (name, value) = names.iter().find_map(|name| {
            let value = self.request.fields.all_by_text(name, head).next()?;
            let value = text(value);
            (!makes_sense(name, &value)).then_some((name, value))
        })?;
        exchange.flags.set(Flag::IH);
        let body = format!("invalid header '{name}' with value '{value}'");
        exchange.rare().details =
            Some(format!("request_headers_failed_strict_check{{{name}}}").into());
        Some(Reply::new(400, body))
    }
}

fn makes_sense(name: &str, value: &str) -> bool {
    match name {
        "x-envoy-retry-on" => RetryOn::parse(value).is_ok_and(|on| !on.is_of_grpc()),
        "x-envoy-retry-grpc-on" => RetryOn::parse(value).is_ok_and(|on| !on.is_of_http()),
        _ => value.trim().parse::<u64>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_sense() {
        let [timeout, per_try, retries, on, grpc] = CHECKED;
        for (name, value, expected) in [
            (timeout, "100", true),
            (timeout, "-1", false),
            (per_try, "1s", false),
            (retries, "3", true),
            (retries, "", false),
            (on, "5xx, reset", true),
            (on, "5xx,sometimes", false),
            (on, "unavailable", false),
            (on, "", true),
            (grpc, "unavailable,internal", true),
            (grpc, "5xx", false),
        ] {
            assert_eq!(makes_sense(name, value), expected, "{name}: {value}");
        }
    }
}
