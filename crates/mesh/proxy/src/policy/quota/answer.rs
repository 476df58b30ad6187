//! What the service answers, and what of it is said to the client and to the endpoint.

use std::borrow::Cow;
use std::fmt::Write as _;

use envoy_types::pb::envoy::config::core::v3::HeaderValue;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::rate_limit::Unit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};

use super::Quota;
use crate::exchange::Said;
use crate::http1::edit::is_one_field;
use crate::http1::name::Name;
use crate::snapshot::AppendAction;
use crate::trace::text;

const DAY: u64 = 24 * 3600;

#[derive(Debug)]
pub(super) enum Answered {
    Ok(Box<Response>),
    Over(Box<Response>),
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Response(RateLimitResponse);

impl Answered {
    pub(super) fn of(answer: Result<RateLimitResponse, String>) -> Self {
        match answer {
            Err(reason) => Self::Failed(reason),
            Ok(response) if response.overall_code == Code::OverLimit as i32 => {
                Self::Over(Box::new(Response(response)))
            }
            Ok(response) => Self::Ok(Box::new(Response(response))),
        }
    }

    /// Leaves out what would say how a message is framed, as only the proxy may: how many fields that were.
    pub(super) fn leave_out_framing(&mut self) -> usize {
        let (Self::Ok(response) | Self::Over(response)) = self else {
            return 0;
        };
        let RateLimitResponse {
            request_headers_to_add: request,
            response_headers_to_add: client,
            ..
        } = &mut response.0;
        let before = request.len() + client.len();
        for fields in [&mut *request, &mut *client] {
            fields.retain(|field| !Name::of(field.key.as_bytes()).is_framing());
        }
        before - request.len() - client.len()
    }

    /// For the span of the question.
    pub(super) fn word(&self) -> Option<&'static str> {
        match self {
            Self::Ok(_) => Some("ok"),
            Self::Over(_) => Some("over_limit"),
            Self::Failed(_) => None,
        }
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Ok(_) | Self::Over(_) => None,
        }
    }
}

/// How long a unit is, in seconds.
fn window(unit: i32) -> Option<u64> {
    Some(match Unit::try_from(unit).ok()? {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 3600,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    })
}

impl Response {
    /// The fields that clients get: those of the service, how much is left, and, if the request is one too many,
    /// that it is.
    pub(super) fn said(&self, quota: &Quota, is_over: bool) -> Vec<Said> {
        let mut said: Vec<Said> = fields(&self.0.response_headers_to_add)
            .map(|(name, value)| Said {
                name: Cow::Owned(name),
                value,
                action: AppendAction::Append,
            })
            .collect();
        if quota.tells {
            said.extend(self.left());
        }
        if !is_over {
            return said;
        }
        if quota.marks {
            said.push(Said::new("x-envoy-ratelimited", b"true"));
        }
        said.extend(quota.response.iter().map(|field| Said {
            name: Cow::Owned(field.name.clone()),
            value: field.value.clone().into(),
            action: match field.replaces {
                true => AppendAction::Overwrite,
                false => AppendAction::Append,
            },
        }));
        let is_told = said.iter().any(|said| said.name == "retry-after");
        if quota.tells_when && quota.status == 429 && !is_told {
            let over = self.0.statuses.iter();
            let over = over.filter(|status| status.code == Code::OverLimit as i32);
            let longest = over.filter_map(reset).max();
            said.extend(
                longest
                    .map(|seconds| Said::new("retry-after", seconds.max(1).to_string().as_bytes())),
            );
        }
        said
    }

    /// The limit of which least is left with all limits behind it, what is left, and the seconds until it begins anew.
    fn left(&self) -> Vec<Said> {
        let limited = self.0.statuses.iter();
        let limited = limited.filter_map(|status| Some((status, status.current_limit.as_ref()?)));
        let mut policies = String::new();
        for (_, limit) in limited.clone() {
            if let Some(window) = window(limit.unit) {
                // Writing to a string cannot fail.
                let _ = write!(policies, ", {};w={window}", limit.requests_per_unit);
                if !limit.name.is_empty() {
                    let _ = write!(policies, ";name=\"{}\"", limit.name);
                }
            }
        }
        let least = limited.min_by_key(|(status, _)| status.limit_remaining);
        let Some((status, limit)) = least else {
            return Vec::new();
        };
        let field = |name, value: String| Said {
            action: AppendAction::Append,
            ..Said::new(name, value.as_bytes())
        };
        vec![
            field(
                "x-ratelimit-limit",
                format!("{}{policies}", limit.requests_per_unit),
            ),
            field("x-ratelimit-remaining", status.limit_remaining.to_string()),
            field(
                "x-ratelimit-reset",
                reset(status).unwrap_or_default().to_string(),
            ),
        ]
    }

    /// The fields that the endpoint gets.
    pub(super) fn added(&self) -> Vec<(String, Vec<u8>)> {
        fields(&self.0.request_headers_to_add).collect()
    }

    pub(super) fn body(&self) -> String {
        text(&self.0.raw_body).into_owned()
    }
}

/// The whole seconds until a limit begins anew.
fn reset(status: &DescriptorStatus) -> Option<i64> {
    Some(status.duration_until_reset.as_ref()?.seconds)
}

/// Those that can be fields.
fn fields(values: &[HeaderValue]) -> impl Iterator<Item = (String, Vec<u8>)> {
    values.iter().filter_map(|field| {
        let value = match field.value.is_empty() {
            true => field.raw_value.clone(),
            false => field.value.clone().into_bytes(),
        };
        let name = field.key.to_ascii_lowercase();
        is_one_field(&name, &value).then_some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::RateLimit;
    use envoy_types::pb::google::protobuf::Duration;

    use super::*;

    fn status(
        code: Code,
        left: u32,
        (most, unit, name): (u32, Unit, &str),
        reset: i64,
    ) -> DescriptorStatus {
        DescriptorStatus {
            code: code.into(),
            current_limit: Some(RateLimit {
                name: name.to_owned(),
                requests_per_unit: most,
                unit: unit.into(),
            }),
            limit_remaining: left,
            duration_until_reset: Some(Duration {
                seconds: reset,
                nanos: 0,
            }),
            quota: None,
        }
    }

    fn quota() -> Quota {
        Quota {
            domain: "d".to_owned(),
            cluster: "c".to_owned(),
            host: "h".to_owned(),
            fields: Vec::new(),
            timeout: None,
            rules: Vec::new(),
            stage: 0,
            enabled: 1_000_000,
            enforced: 1_000_000,
            denied_on_failure: 0,
            status: 429,
            status_on_error: 500,
            is_exhausted: false,
            tells: true,
            marks: true,
            tells_when: true,
            response: Vec::new(),
            stat_prefix: String::new(),
        }
    }

    fn texts(said: Vec<Said>) -> Vec<String> {
        let text = |said: Said| format!("{}: {}", said.name, String::from_utf8_lossy(&said.value));
        said.into_iter().map(text).collect()
    }

    #[test]
    fn nobody_but_the_proxy_says_how_messages_are_framed() {
        let named = |names: &[&str]| {
            let field = |name: &&str| HeaderValue {
                key: (*name).to_owned(),
                value: "0".to_owned(),
                ..HeaderValue::default()
            };
            names.iter().map(field).collect::<Vec<_>>()
        };
        let mut answered = Answered::of(Ok(RateLimitResponse {
            request_headers_to_add: named(&["Content-Length", "x-a", "Upgrade"]),
            response_headers_to_add: named(&["transfer-encoding", "x-b"]),
            ..RateLimitResponse::default()
        }));
        assert_eq!(answered.leave_out_framing(), 3);
        let Answered::Ok(response) = answered else {
            panic!("{answered:?}");
        };
        assert_eq!(response.added(), [("x-a".to_owned(), b"0".to_vec())]);
        assert_eq!(texts(response.said(&quota(), false))[0], "x-b: 0");
    }

    #[test]
    fn clients_are_told_how_much_is_left_of_the_scarcest_limit() {
        let response = Response(RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            statuses: vec![
                status(Code::Ok, 900, (1000, Unit::Hour, ""), 1800),
                DescriptorStatus::default(),
                status(Code::OverLimit, 0, (10, Unit::Minute, "per-ip"), 42),
            ],
            response_headers_to_add: vec![
                HeaderValue {
                    key: "X-Plan".to_owned(),
                    value: "free".to_owned(),
                    ..HeaderValue::default()
                },
                HeaderValue {
                    key: "no name".to_owned(),
                    ..HeaderValue::default()
                },
            ],
            ..RateLimitResponse::default()
        });
        let left = [
            "x-plan: free",
            "x-ratelimit-limit: 10, 1000;w=3600, 10;w=60;name=\"per-ip\"",
            "x-ratelimit-remaining: 0",
            "x-ratelimit-reset: 42",
        ];
        assert_eq!(texts(response.said(&quota(), false)), left);
        let over = texts(response.said(&quota(), true));
        assert_eq!(over[..4], left);
        assert_eq!(over[4..], ["x-envoy-ratelimited: true", "retry-after: 42"]);
        let silent = Quota {
            tells: false,
            marks: false,
            tells_when: false,
            ..quota()
        };
        assert_eq!(texts(response.said(&silent, true)), ["x-plan: free"]);
        // Nothing is limited: there is nothing to tell.
        let free = Response(RateLimitResponse {
            statuses: vec![DescriptorStatus::default()],
            ..RateLimitResponse::default()
        });
        assert!(free.said(&quota(), false).is_empty());
    }
}
