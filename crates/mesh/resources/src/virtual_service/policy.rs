use std::time::Duration;

use crate::string_match::check_regex;
use crate::values::{check_changed_header, check_substitution};
use crate::view::{Object, Shape, View};

/// What is changed about the headers of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    /// Names and values that replace what is there.
    pub set: Vec<(String, String)>,
    /// Names and values that are added to what is there.
    pub add: Vec<(String, String)>,
    /// Names of what goes.
    pub remove: Vec<String>,
}

/// What is changed about headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Of requests.
    pub request: HeaderOperations,
    /// Of responses.
    pub response: HeaderOperations,
}

impl HeaderOperations {
    fn of_requests(view: &View<'_>) -> Option<Self> {
        Self::read(view, true)
    }

    fn of_responses(view: &View<'_>) -> Option<Self> {
        Self::read(view, false)
    }

    fn read(view: &View<'_>, may_set_host: bool) -> Option<Self> {
        const OPERATIONS: Shape = Shape {
            known: &["set", "add", "remove"],
            refused: &[],
        };
        let object = view.object(&OPERATIONS)?;
        let fields = |name: &str| -> Vec<(String, String)> {
            let entries = object.get(name).map(View::entries).unwrap_or_default();
            let field = |(key, value): (&crate::node::Key, View<'_>)| {
                let key = key.text.to_ascii_lowercase();
                if may_set_host && name == "set" && key == "host" {
                    return Some((key, value.authority()?));
                }
                let key = value.checked(key, check_changed_header)?;
                Some((key, value.header_value()?))
            };
            entries.into_iter().filter_map(field).collect()
        };
        Some(Self {
            set: fields("set"),
            add: fields("add"),
            remove: object
                .items("remove")
                .iter()
                .filter_map(View::changed_header)
                .collect(),
        })
    }

    /// Takes what is set for `host`: that is no header, but where the request goes.
    fn take_host(&mut self) -> Option<String> {
        let at = self.set.iter().position(|(name, _)| name == "host")?;
        let (_, host) = self.set.remove(at);
        // It may have been written in capitals too.
        self.set.retain(|(name, _)| name != "host");
        Some(host)
    }
}

impl Headers {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const HEADERS: Shape = Shape {
            known: &["request", "response"],
            refused: &[],
        };
        let object = view.object(&HEADERS)?;
        let headers = Self {
            request: object
                .optional("request", HeaderOperations::of_requests)?
                .unwrap_or_default(),
            response: object
                .optional("response", HeaderOperations::of_responses)?
                .unwrap_or_default(),
        };
        Some(headers)
    }

    /// Takes the host that requests are to have.
    pub(crate) fn take_host(&mut self) -> Option<String> {
        self.request.take_host()
    }
}

/// `HTTPRewrite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// In place of the path's prefix, or of the path, that has matched.
    pub uri: Option<String>,
    /// An expression, and what becomes of it.
    pub regex: Option<(String, String)>,
    /// In place of the host.
    pub authority: Option<String>,
}

impl Rewrite {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const REWRITE: Shape = Shape {
            known: &["uri", "authority", "uriRegexRewrite"],
            refused: &[],
        };
        const REGEX: Shape = Shape {
            known: &["match", "rewrite"],
            refused: &[],
        };
        let object = view.object(&REWRITE)?;
        let regex = match object.get("uriRegexRewrite") {
            Some(view) => {
                let object = view.object(&REGEX)?;
                let matched = object.require("match")?;
                let pattern = check_regex(matched, matched.some_ascii()?)?;
                let by = object.require("rewrite")?;
                let text = by.text()?;
                if let Err(reason) = check_substitution(&pattern, &text) {
                    by.fail(reason);
                    return None;
                }
                Some((pattern, text))
            }
            None => None,
        };
        let rewrite = Self {
            uri: object.optional("uri", View::some_graphic)?,
            authority: object.optional("authority", View::authority)?,
            regex,
        };
        if rewrite.uri.is_some() && rewrite.regex.is_some() {
            object.fail("`uri` and `uriRegexRewrite` exclude each other");
            return None;
        }
        if rewrite == Self::default() {
            object.fail(
                "the rewrite changes nothing: give it `uri`, `authority` or `uriRegexRewrite`",
            );
            return None;
        }
        Some(rewrite)
    }
}

/// `HTTPRedirect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The path.
    pub uri: Option<String>,
    /// In place of the path's prefix that has matched.
    pub prefix: Option<String>,
    /// The host.
    pub authority: Option<String>,
    /// The scheme.
    pub scheme: Option<String>,
    /// An expression, and what becomes of it, in place of a path.
    pub regex: Option<(String, String)>,
    /// The port.
    pub port: Option<u16>,
    /// The port is that of the listener, and is written: `FROM_REQUEST_PORT`.
    pub keeps_port: bool,
    /// Without a port it is that of the scheme, else that of the listener; and not that of the request.
    pub derives_port: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Redirect {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const REDIRECT: Shape = Shape {
            known: &[
                "uri",
                "prefixRewrite",
                "authority",
                "port",
                "derivePort",
                "scheme",
                "redirectCode",
            ],
            refused: &[],
        };
        let object = view.object(&REDIRECT)?;
        let status = match object.get("redirectCode") {
            Some(code) => {
                let status = code.number(300, 399)?;
                if !matches!(status, 301..=303 | 307 | 308) {
                    code.fail("expected 301, 302, 303, 307 or 308");
                    return None;
                }
                u16::try_from(status).ok()?
            }
            None => 301,
        };
        for (one, other) in [("uri", "prefixRewrite"), ("port", "derivePort")] {
            if object.present(&[one, other]).len() > 1 {
                object.fail(format!("`{one}` and `{other}` exclude each other"));
                return None;
            }
        }
        let ports = [
            ("FROM_PROTOCOL_DEFAULT", false),
            ("FROM_REQUEST_PORT", true),
        ];
        let keeps_port = object.optional("derivePort", |view| view.choice(&ports))?;
        Some(Self {
            uri: object.optional("uri", View::some_graphic)?,
            prefix: object.optional("prefixRewrite", View::some_graphic)?,
            keeps_port: keeps_port.unwrap_or(false),
            authority: object.optional("authority", View::some_graphic)?,
            scheme: object.optional("scheme", View::some_graphic)?,
            regex: None,
            port: object.optional("port", View::port)?,
            derives_port: false,
            status,
        })
    }
}

/// `HTTPRetry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many more attempts there are at most.
    pub attempts: u32,
    /// The time for one attempt.
    pub per_try_timeout: Option<Duration>,
    /// Reasons by Envoy's names and status codes, separated by commas.
    pub on: Option<String>,
    /// The shortest back-off.
    pub back_off: Option<Duration>,
    /// Whether an endpoint that has had the request is avoided.
    pub ignores_previous_hosts: bool,
    /// Whether localities that have had the request are avoided too, after two attempts.
    pub goes_elsewhere: bool,
}

impl Default for Retries {
    /// What Istio does where nothing is said.
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: None,
            back_off: None,
            ignores_previous_hosts: true,
            goes_elsewhere: false,
        }
    }
}

impl Retries {
    pub(crate) fn read(view: &View<'_>) -> Option<Self> {
        const RETRIES: Shape = Shape {
            known: &[
                "attempts",
                "perTryTimeout",
                "retryOn",
                "retryIgnorePreviousHosts",
                "backoff",
                "retryRemoteLocalities",
            ],
            refused: &[],
        };
        let object = view.object(&RETRIES)?;
        let unset = Self::default();
        let attempts = object.optional("attempts", |view| view.number(0, 1 << 16))?;
        let on = object.optional("retryOn", View::some_ascii)?;
        if let (Some(list), Some(view)) = (&on, object.get("retryOn"))
            && let Some(unknown) = list.split(',').map(str::trim).find(|name| !is_reason(name))
        {
            view.fail(format!("`{unknown}` is no reason for a retry"));
            return None;
        }
        Some(Self {
            attempts: attempts.map_or(unset.attempts, |attempts| attempts as u32),
            per_try_timeout: object.optional("perTryTimeout", View::duration)?,
            on,
            back_off: object.optional("backoff", View::duration)?,
            ignores_previous_hosts: object
                .optional("retryIgnorePreviousHosts", View::bool)?
                .unwrap_or(unset.ignores_previous_hosts),
            goes_elsewhere: object
                .optional("retryRemoteLocalities", View::bool)?
                .unwrap_or(unset.goes_elsewhere),
        })
    }
}

/// Envoy's names, and status codes.
fn is_reason(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "5xx",
        "gateway-error",
        "connect-failure",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "reset",
        "retriable-headers",
        "envoy-ratelimited",
        "cancelled",
        "deadline-exceeded",
        "resource-exhausted",
        "unavailable",
        "internal",
        "reset-before-request",
    ];
    let is_code = |code: u16| (100..600).contains(&code);
    let is_status = |name: &str| name.len() == 3 && name.parse().is_ok_and(is_code);
    NAMES.contains(&name) || is_status(name)
}

/// `HTTPFaultInjection`; shares are of a million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// How long, for which share of the requests.
    pub delay: Option<(Duration, u32)>,
    /// With which answer, for which share.
    pub abort: Option<(Abort, u32)>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With a status of HTTP.
    Http(u16),
    /// With a status of gRPC.
    Grpc(u8),
}

/// gRPC's names of its codes, in the order of their numbers.
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Fault {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const FAULT: Shape = Shape {
            known: &["delay", "abort"],
            refused: &[],
        };
        const DELAY: Shape = Shape {
            known: &["percentage", "percent", "fixedDelay"],
            refused: &[("exponentialDelay", "write a `fixedDelay`")],
        };
        const ABORT: Shape = Shape {
            known: &["percentage", "httpStatus", "grpcStatus"],
            refused: &[("http2Error", "write an `httpStatus`")],
        };
        let object = view.object(&FAULT)?;
        let delay = match object.get("delay") {
            Some(view) => {
                let object = view.object(&DELAY)?;
                let fixed = object.require("fixedDelay")?;
                let time = fixed.duration()?;
                if time < Duration::from_millis(1) {
                    fixed.fail("must be at least 1ms");
                    return None;
                }
                Some((time, share(&object)?))
            }
            None => None,
        };
        let abort = match object.get("abort") {
            Some(view) => {
                let object = view.object(&ABORT)?;
                let share = share(&object)?;
                Some((Abort::read(&object)?, share))
            }
            None => None,
        };
        if delay.is_none() && abort.is_none() {
            object.fail("the fault is none: give it `delay` or `abort`");
            return None;
        }
        Some(Self { delay, abort })
    }
}

impl Abort {
    fn read(object: &Object<'_>) -> Option<Self> {
        match object.present(&["httpStatus", "grpcStatus"]).as_slice() {
            ["httpStatus"] => {
                let status = object.get("httpStatus")?.number(200, 599)?;
                u16::try_from(status).ok().map(Self::Http)
            }
            ["grpcStatus"] => {
                let view = object.get("grpcStatus")?;
                let name = view.some_text()?;
                let code = GRPC_CODES.iter().position(|known| *known == name);
                if code.is_none() {
                    view.fail(format!("`{name}` is no status of gRPC"));
                }
                code.and_then(|code| u8::try_from(code).ok())
                    .map(Self::Grpc)
            }
            _ => {
                object.fail("expected one of `httpStatus` and `grpcStatus`");
                None
            }
        }
    }
}

/// `Percent`, of a million.
pub(super) fn percentage(view: &View<'_>) -> Option<u32> {
    const PERCENTAGE: Shape = Shape {
        known: &["value"],
        refused: &[],
    };
    let object = view.object(&PERCENTAGE)?;
    let percent = object.optional("value", View::percent)?.unwrap_or(0.0);
    Some((percent * 10_000.0).round() as u32)
}

/// A share, of a million; nothing is no request at all, as in Istio.
fn share(object: &Object<'_>) -> Option<u32> {
    if let Some(view) = object.get("percentage") {
        return percentage(view);
    }
    let whole = object.optional("percent", |view| view.number(0, 100))?;
    Some(whole.map_or(0, |percent| percent as u32 * 10_000))
}
