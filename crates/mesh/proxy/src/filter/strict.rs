//! `strict_check_headers` of the router: what filters say in headers that are Envoy's own must be valid. What clients
//! say in them is removed before, as they are outside.

use crate::call::Call;
use crate::exchange::Exchange;
use crate::flags::Flag;
use crate::reply::Reply;
use crate::snapshot::RetryOn;
use crate::trace::text;

impl Call {
    /// The answer to a request that would go on with a value that is not valid.
    #[cold]
    pub(super) fn check_strictly(
        &self,
        exchange: &mut Exchange,
        names: &[String],
    ) -> Option<Reply<'static>> {
        // As in Envoy, only what goes to a cluster.
        exchange.cluster.as_ref()?;
        let head = self.buffer.head();
        let (name, value) = names.iter().find_map(|name| {
            let value = self.request.fields.all_by_text(name, head).next()?;
            (!is_valid(name, &text(value))).then_some((name, text(value)))
        })?;
        exchange.flags.set(Flag::IH);
        let details = format!("request_headers_failed_strict_check{{{name}}}");
        exchange.rare().details = Some(details.into());
        Some(Reply::new(
            400,
            format!("invalid header '{name}' with value '{value}'"),
        ))
    }
}

/// Whether a header may have this value.
fn is_valid(name: &str, value: &str) -> bool {
    let reasons = || RetryOn::parse(value).ok();
    match name {
        "x-envoy-retry-on" => reasons().is_some_and(|reasons| !reasons.has(RetryOn::OF_GRPC)),
        "x-envoy-retry-grpc-on" => reasons().is_some_and(|reasons| reasons.is_of_grpc()),
        _ => value.trim_ascii().parse::<u64>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_valid_is_so_with_envoy() {
        for (name, value, expected) in [
            ("x-envoy-upstream-rq-timeout-ms", "100", true),
            ("x-envoy-upstream-rq-timeout-ms", "10.0", false),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "-1", false),
            ("x-envoy-max-retries", " 2", true),
            ("x-envoy-max-retries", "", false),
            ("x-envoy-max-retries", "18446744073709551616", false),
            ("x-envoy-retry-on", "5xx,retriable-4xx , reset", true),
            ("x-envoy-retry-on", "5xx,cancelled", false),
            ("x-envoy-retry-on", "sometimes", false),
            ("x-envoy-retry-on", "", true),
            (
                "x-envoy-retry-grpc-on",
                "cancelled,internal , unavailable",
                true,
            ),
            ("x-envoy-retry-grpc-on", "5xx,cancelled", false),
        ] {
            assert_eq!(is_valid(name, value), expected, "{name}: {value:?}");
        }
    }
}
