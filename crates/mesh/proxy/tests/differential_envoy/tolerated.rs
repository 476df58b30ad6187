//! The differences that are meant. Each is explained under its name in `docs/differences-from-envoy.md`.

/// On which side a line is that the other side lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Envoy,
    Ours,
}

/// A difference that is meant.
pub(crate) struct Tolerated {
    /// The heading in the document.
    pub(crate) name: &'static str,
    /// Whether a line of a case, on one side only, is an instance of it.
    pub(crate) covers: fn(case: &str, side: Side, line: &str) -> bool,
}

pub(crate) const TOLERATED: &[Tolerated] = &[
    Tolerated {
        name: "Context that nobody reads",
        covers: |_, side, line| {
            side == Side::Ours && line.contains(" tag periplus.context.ignored: ")
        },
    },
    Tolerated {
        name: "The tracer's name",
        covers: |_, _, line| line.contains(" resource telemetry.sdk.") || line.contains(" scope: "),
    },
    Tolerated {
        name: "The words of a refusal",
        covers: |case, _, line| {
            case.starts_with("http-")
                && (line.starts_with("response body: ")
                    || line.starts_with("response header content-length: ")
                    || line.starts_with("response header content-type: ")
                    || line.contains("tag response_size: "))
        },
    },
    Tolerated {
        name: "Logs of what is refused",
        covers: |case, side, line| {
            let told = |of: &str, parts: &[&str]| {
                let has = |part: &&str| line.starts_with(&format!("log {part}: "));
                case.starts_with(of) && parts.iter().any(has)
            };
            let is_refused =
                case.starts_with("http-no-host@") || case.starts_with("http-fragment@");
            is_refused && side == Side::Envoy && line.starts_with("log ")
                || told("http-empty-host@", &["REQ(:AUTHORITY)"])
                || told(
                    "http-bad-chunk@",
                    &[
                        "BYTES_SENT",
                        "UPSTREAM_HOSTS_ATTEMPTED",
                        "UPSTREAM_PROTOCOL",
                    ],
                )
                || told(
                    "http-upgrade-not-allowed@",
                    &["RESPONSE_CODE_DETAILS", "UPSTREAM_CLUSTER"],
                )
        },
    },
    Tolerated {
        name: "Reason phrases",
        covers: |case, _, line| {
            let lines = [
                "response line: HTTP/1.1 418 ",
                "response line: HTTP/1.1 413 ",
            ];
            let cases = ["direct-response@", "rule-buffered-many@"];
            cases.iter().any(|known| case.starts_with(known))
                && lines.iter().any(|known| line.starts_with(known))
        },
    },
    Tolerated {
        name: "Fields that the response's connection header names",
        covers: |case, side, line| {
            (case.starts_with("response-headers@")
                || case.starts_with("h2-response-headers@")
                || case.ends_with("retry-headers@rules"))
                && side == Side::Envoy
                && line == "response header x-hop: 1"
        },
    },
    Tolerated {
        name: "Requests without a body",
        covers: |case, side, line| {
            case.contains("cors-")
                && side == Side::Envoy
                && line == "upstream 0 header content-length: 0"
        },
    },
    Tolerated {
        name: "Copies of requests",
        covers: |case, side, line| {
            let protocol = match side {
                Side::Envoy => "HTTP/1.1",
                Side::Ours => "HTTP/2",
            };
            (case.contains("mirror-kept@") || case.contains("mirror-post-h2@"))
                && line.ends_with(&format!(" CLIENT tag http.protocol: {protocol}"))
        },
    },
    Tolerated {
        name: "Trailers",
        covers: |case, side, line| {
            case.starts_with("http-trailers@")
                && side == Side::Ours
                && line == "upstream 0 trailer: x-trailer: 1"
        },
    },
    Tolerated {
        name: "Upgrades that are refused",
        covers: |case, side, line| {
            case.starts_with("http-upgrade-not-allowed@")
                && side == Side::Ours
                && line.starts_with("span 0 ")
        },
    },
    Tolerated {
        name: "A pooled connection that dies",
        covers: |case, side, line| {
            case.starts_with("reset@") && side == Side::Ours && line.starts_with("upstream 1 ")
        },
    },
    Tolerated {
        name: "Streams that were not worked on",
        covers: |case, side, line| {
            case.contains("-to-h2-refuse@") && side == Side::Ours && line.starts_with("upstream 1 ")
        },
    },
    Tolerated {
        name: "Attempts on spans",
        covers: |case, side, line| {
            case.contains("retry-")
                && side == Side::Ours
                && (line.contains(" tag retry.reason: ")
                    || line.contains(" tag retry.back_off_us: "))
        },
    },
    Tolerated {
        name: "Span ids of fewer than 16 digits in b3",
        covers: |case, _, line| {
            case.starts_with("b3-single-short@")
                && (line.starts_with("span 0 ") || line.starts_with("upstream 0 header b3: "))
        },
    },
];

/// Cases that end in another way: the heading in the document, the case, the status from Envoy and ours.
pub(crate) const OTHER_ENDS: &[(&str, &str, u16, u16)] = &[
    ("HTTP/1.0", "http-http-1.0@outbound", 426, 200),
    ("Other versions", "http-http-2.0@outbound", 426, 505),
    ("Two host fields", "http-two-hosts@outbound", 200, 400),
    ("Folded lines", "http-folded@outbound", 200, 400),
    ("Bare line feeds", "http-bare-lf@outbound", 200, 400),
    ("Chunked twice", "http-chunked-twice@outbound", 501, 400),
    ("Unknown methods", "http-own-method@outbound", 400, 200),
    (
        "Bodies that are waited for",
        "rule-h2-buffered-many@rules",
        200,
        413,
    ),
    ("Expectations", "http-expect-continue@outbound", 100, 200),
    ("Expectations", "http-expect-other@outbound", 200, 417),
];
