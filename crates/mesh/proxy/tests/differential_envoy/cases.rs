//! The requests. `CASE` stands for the name of the case: it marks the URL, which is on the spans.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A request to a listener.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) listener: &'static str,
    pub(crate) request: String,
    /// The client speaks HTTP/2.
    pub(crate) http2: bool,
    /// So many copies of it arrive besides.
    pub(crate) copies: usize,
}

const TRACE_ID: &str = "463ac35c9f6413ad48485a3953bb6124";
const SPAN_ID: &str = "a2fb4a1d1a96d312";
const PARENT_ID: &str = "0020000000000001";
const REQUEST_ID: &str = "3ab5d2b6-7a2c-9d1e-8b3f-0123456789ab";

pub(crate) fn get(path: &str, headers: &str) -> String {
    let headers = headers.replace('\n', "\r\n");
    format!("GET {path}?case=CASE. HTTP/1.1\r\nhost: test\r\n{headers}connection: close\r\n\r\n")
}

pub(crate) fn all() -> Vec<Case> {
    let b3 = |sampled: &str| {
        format!("x-b3-traceid: {TRACE_ID}\nx-b3-spanid: {SPAN_ID}\nx-b3-sampled: {sampled}\n")
    };
    let mut cases: Vec<(String, &'static str, String)> = Vec::new();
    let mut add = |name: &str, listeners: &[&'static str], request: String| {
        for listener in listeners {
            cases.push((format!("{name}@{listener}"), listener, request.clone()));
        }
    };
    let zipkin = ["outbound", "inbound", "gateway"];
    let both = [
        "outbound",
        "inbound",
        "gateway",
        "otlp_outbound",
        "otlp_inbound",
        "otlp_gateway",
    ];
    let everywhere = super::world::LISTENERS;

    // What happens to a request.
    add("plain", &everywhere, get("/ok", ""));
    let post = "POST /ok?case=CASE. HTTP/1.1\r\nhost: test\r\ncontent-type: text/plain\r\n";
    add(
        "post",
        &both,
        format!("{post}content-length: 5\r\nconnection: close\r\n\r\nhello"),
    );
    let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    add(
        "post-chunked",
        &both,
        format!("{post}transfer-encoding: chunked\r\nconnection: close\r\n\r\n{chunks}"),
    );
    add(
        "head",
        &zipkin,
        "HEAD /ok?case=CASE. HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".to_owned(),
    );
    add("chunked-response", &zipkin, get("/chunked", ""));
    add("no-route", &both, get("/nothing", ""));
    add("direct-response", &both, get("/direct", ""));
    add("header-match", &both, get("/ok", "end-user: jason\n"));
    add(
        "header-no-match",
        &["outbound"],
        get("/ok", "end-user: other\n"),
    );
    add("weighted", &zipkin, get("/weighted", ""));
    for status in ["204", "304", "404", "500", "503"] {
        add(
            &format!("status-{status}"),
            &both,
            get(&format!("/status/{status}"), ""),
        );
    }
    add("refused", &both, get("/refused", ""));
    add("no-endpoints", &both, get("/empty", ""));
    add("no-cluster", &both, get("/missing", ""));
    add("reset", &both, get("/reset", ""));
    add("cut-body", &both, get("/cut", ""));
    add("timeout", &both, get("/slow", ""));
    add("not-http", &zipkin, get("/garbage", ""));
    add("response-headers", &both, get("/headers", ""));
    add(
        "request-headers",
        &zipkin,
        get(
            "/ok",
            "x-custom: a\nx-custom: b\nte: trailers\nkeep-alive: 5\nx-hop: 1\nuser-agent: test/1\nx-empty:\n",
        ),
    );
    add(
        "envoy-headers",
        &["outbound", "gateway"],
        get(
            "/ok",
            "x-envoy-internal: true\nx-envoy-downstream-service-cluster: caller\nx-envoy-upstream-rq-timeout-ms: 1000\nx-envoy-expected-rq-timeout-ms: 77\nx-envoy-force-trace: 1\n",
        ),
    );
    add(
        "absolute-form",
        &["outbound"],
        "GET http://other.local/ok?case=CASE. HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
            .to_owned(),
    );

    // Whom to believe.
    add(
        "forwarded-for",
        &["outbound", "gateway", "edge"],
        get("/ok", "x-forwarded-for: 10.1.2.3\n"),
    );
    add(
        "forwarded-proto",
        &["outbound", "gateway"],
        get("/ok", "x-forwarded-proto: https\n"),
    );
    add(
        "client-cert",
        &["inbound", "gateway"],
        get("/ok", "x-forwarded-client-cert: By=x\n"),
    );

    // B3 in all shapes.
    add("b3", &both, get("/ok", &b3("1")));
    add(
        "b3@",
        &["shared", "w3c", "unsampled", "untraced"],
        get("/ok", &b3("1")),
    );
    add("b3-unsampled", &both, get("/ok", &b3("0")));
    add(
        "b3-parent",
        &["outbound", "inbound", "gateway", "shared"],
        get(
            "/ok",
            &format!("{}x-b3-parentspanid: {PARENT_ID}\n", b3("1")),
        ),
    );
    add(
        "b3-64",
        &["outbound", "inbound", "shared"],
        get(
            "/ok",
            &format!(
                "x-b3-traceid: {}\nx-b3-spanid: {SPAN_ID}\nx-b3-sampled: 1\n",
                &TRACE_ID[16..]
            ),
        ),
    );
    add(
        "b3-undecided",
        &["outbound", "inbound", "unsampled"],
        get(
            "/ok",
            &format!("x-b3-traceid: {TRACE_ID}\nx-b3-spanid: {SPAN_ID}\n"),
        ),
    );
    add(
        "b3-debug",
        &["outbound", "inbound", "unsampled"],
        get(
            "/ok",
            &format!("x-b3-traceid: {TRACE_ID}\nx-b3-spanid: {SPAN_ID}\nx-b3-flags: 1\n"),
        ),
    );
    add(
        "b3-sampled-only",
        &["outbound", "unsampled"],
        get("/ok", "x-b3-sampled: 1\n"),
    );
    add(
        "b3-not-sampled-only",
        &["outbound", "inbound"],
        get("/ok", "x-b3-sampled: 0\n"),
    );
    for (name, value) in [
        ("full", format!("{TRACE_ID}-{SPAN_ID}-1-{PARENT_ID}")),
        ("sampled", format!("{TRACE_ID}-{SPAN_ID}-1")),
        ("undecided", format!("{TRACE_ID}-{SPAN_ID}")),
        ("debug", format!("{TRACE_ID}-{SPAN_ID}-d")),
        ("denied", "0".to_owned()),
        ("accepted", "1".to_owned()),
        ("64", format!("{}-{SPAN_ID}-1", &TRACE_ID[16..])),
        ("malformed", "not-a-context".to_owned()),
        ("short", format!("{TRACE_ID}-{}", &SPAN_ID[1..])),
    ] {
        add(
            &format!("b3-single-{name}"),
            &["outbound", "inbound"],
            get("/ok", &format!("b3: {value}\n")),
        );
    }
    for (name, trace, span) in [
        ("no-hex", "xyz", SPAN_ID),
        ("empty", "", SPAN_ID),
        ("too-long", "463ac35c9f6413ad48485a3953bb612400", SPAN_ID),
        ("bad-span", TRACE_ID, "zzz"),
        ("zero", "00000000000000000000000000000000", SPAN_ID),
        ("upper", "463AC35C9F6413AD48485A3953BB6124", SPAN_ID),
    ] {
        let headers = format!("x-b3-traceid: {trace}\nx-b3-spanid: {span}\nx-b3-sampled: 1\n");
        add(
            &format!("b3-{name}"),
            &["outbound", "inbound"],
            get("/ok", &headers),
        );
    }

    // W3C.
    let traceparent = format!("traceparent: 00-{TRACE_ID}-{SPAN_ID}-01\n");
    let state = "tracestate: a=1,b=2\n";
    add("w3c", &both, get("/ok", &format!("{traceparent}{state}")));
    add(
        "w3c@",
        &["w3c"],
        get("/ok", &format!("{traceparent}{state}")),
    );
    add(
        "w3c-unsampled",
        &["otlp_outbound", "otlp_inbound", "w3c"],
        get("/ok", &format!("traceparent: 00-{TRACE_ID}-{SPAN_ID}-00\n")),
    );
    for (name, headers) in [
        ("none", String::new()),
        ("sampled", traceparent),
        (
            "unsampled",
            format!("traceparent: 00-{TRACE_ID}-{SPAN_ID}-00\n"),
        ),
    ] {
        add(
            &format!("sampler-{name}"),
            &["otlp_always", "otlp_never"],
            get("/ok", &headers),
        );
    }
    add(
        "w3c-and-b3",
        &["outbound", "w3c", "otlp_outbound"],
        get(
            "/ok",
            &format!(
                "{}traceparent: 00-11111111111111111111111111111111-2222222222222222-01\n",
                b3("1")
            ),
        ),
    );
    for (name, value) in [
        ("malformed", "00-xyz".to_owned()),
        ("version", format!("ff-{TRACE_ID}-{SPAN_ID}-01")),
        ("zero", format!("00-{}-{SPAN_ID}-01", "0".repeat(32))),
        ("future", format!("01-{TRACE_ID}-{SPAN_ID}-01-more")),
    ] {
        add(
            &format!("w3c-{name}"),
            &["w3c", "otlp_outbound", "otlp_inbound"],
            get("/ok", &format!("traceparent: {value}\n")),
        );
    }

    // The request id, and what else decides.
    let with_id = |id: &str| format!("x-request-id: {id}\n");
    add(
        "request-id",
        &["outbound", "inbound", "gateway", "edge", "untraced"],
        get("/ok", &with_id(REQUEST_ID)),
    );
    add(
        "request-id-not-uuid",
        &["outbound", "gateway", "edge"],
        get("/ok", &with_id("my-id")),
    );
    add("request-id-empty", &["outbound"], get("/ok", &with_id("")));
    for (name, id) in [
        ("no-trace", "3ab5d2b6-7a2c-4d1e-8b3f-0123456789ab"),
        ("sampled", "3ab5d2b6-7a2c-9d1e-8b3f-0123456789ab"),
        ("forced", "3ab5d2b6-7a2c-ad1e-8b3f-0123456789ab"),
        ("client", "3ab5d2b6-7a2c-bd1e-8b3f-0123456789ab"),
    ] {
        add(
            &format!("reason-{name}"),
            &["outbound", "inbound", "unsampled"],
            get("/ok", &with_id(id)),
        );
    }
    add(
        "client-trace-id",
        &["outbound", "inbound", "gateway", "unsampled"],
        get("/ok", "x-client-trace-id: abc\n"),
    );
    add(
        "force-trace",
        &["outbound", "unsampled", "gateway"],
        get("/ok", "x-envoy-force-trace: true\n"),
    );
    add(
        "span-context",
        &["outbound", "inbound"],
        get("/ok", "x-ot-span-context: abc\n"),
    );

    // Names of spans.
    add("decorated", &both, get("/decorated", ""));
    add("decorated-private", &both, get("/private", ""));
    add(
        "decorated-by-caller",
        &both,
        get("/decorated", "x-envoy-decorator-operation: from-caller\n"),
    );
    add("decorated-by-upstream", &both, get("/operation", ""));
    add(
        "undecorated-by-caller",
        &["inbound", "outbound"],
        get("/ok", "x-envoy-decorator-operation: from-caller\n"),
    );

    // Tags.
    add(
        "custom-tags",
        &["tags"],
        get(
            "/ok/with/a/path/that/is/too/long/for/its/tag",
            "x-tag: from the header\nx-method: REPLACED\n",
        ),
    );
    add(
        "user-agent",
        &["inbound", "otlp_inbound"],
        get(
            "/ok",
            "user-agent: \"quoted\"\\\nx-envoy-downstream-service-cluster: caller\n",
        ),
    );

    // HTTP itself.
    let raw = |head: &str, rest: &str| {
        format!(
            "{}\r\nconnection: close\r\n\r\n{rest}",
            head.replace('\n', "\r\n")
        )
    };
    let line = "GET /ok?case=CASE. HTTP/1.1";
    let post = "POST /ok?case=CASE. HTTP/1.1\nhost: test";
    let long = "x".repeat(70 * 1024);
    let many: String = (0..120).map(|number| format!("\nx-{number}: 1")).collect();
    for (name, request) in [
        (
            "http-1.0",
            raw("GET /ok?case=CASE. HTTP/1.0\nhost: test", ""),
        ),
        (
            "http-2.0",
            raw("GET /ok?case=CASE. HTTP/2.0\nhost: test", ""),
        ),
        ("no-host", raw(line, "")),
        ("empty-host", raw(&format!("{line}\nhost:"), "")),
        ("two-hosts", raw(&format!("{line}\nhost: a\nhost: b"), "")),
        (
            "host-with-port",
            raw(&format!("{line}\nhost: test:8080"), ""),
        ),
        ("host-in-capitals", raw(&format!("{line}\nHOST: TEST"), "")),
        (
            "length-and-chunked",
            raw(
                &format!("{post}\ncontent-length: 5\ntransfer-encoding: chunked"),
                "0\r\n\r\n",
            ),
        ),
        (
            "two-lengths",
            raw(
                &format!("{post}\ncontent-length: 5\ncontent-length: 6"),
                "hello!",
            ),
        ),
        (
            "same-lengths",
            raw(
                &format!("{post}\ncontent-length: 5\ncontent-length: 5"),
                "hello",
            ),
        ),
        (
            "bad-length",
            raw(&format!("{post}\ncontent-length: -5"), "hello"),
        ),
        (
            "plus-length",
            raw(&format!("{post}\ncontent-length: +5"), "hello"),
        ),
        (
            "unknown-coding",
            raw(&format!("{post}\ntransfer-encoding: gzip"), "hello"),
        ),
        (
            "chunked-twice",
            raw(
                &format!("{post}\ntransfer-encoding: chunked, chunked"),
                "0\r\n\r\n",
            ),
        ),
        (
            "bad-chunk",
            raw(
                &format!("{post}\ntransfer-encoding: chunked"),
                "zz\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "chunk-extension",
            raw(
                &format!("{post}\ntransfer-encoding: chunked"),
                "5;a=b\r\nhello\r\n0\r\n\r\n",
            ),
        ),
        (
            "trailers",
            raw(
                &format!("{post}\ntransfer-encoding: chunked"),
                "5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n",
            ),
        ),
        (
            "folded",
            raw(&format!("{line}\nhost: test\nx-folded: a\n b"), ""),
        ),
        (
            "space-before-colon",
            raw(&format!("{line}\nhost: test\nx-space : a"), ""),
        ),
        ("no-colon", raw(&format!("{line}\nhost: test\nnothing"), "")),
        (
            "nul-in-value",
            raw(&format!("{line}\nhost: test\nx-nul: a\0b"), ""),
        ),
        (
            "bare-lf",
            format!("{line}\nhost: test\nconnection: close\n\n"),
        ),
        (
            "long-field",
            raw(&format!("{line}\nhost: test\nx-long: {long}"), ""),
        ),
        ("many-fields", raw(&format!("{line}\nhost: test{many}"), "")),
        ("bad-line", raw("GET", "")),
        (
            "bad-method",
            raw("G{T /ok?case=CASE. HTTP/1.1\nhost: test", ""),
        ),
        (
            "own-method",
            raw("BREW /ok?case=CASE. HTTP/1.1\nhost: test", ""),
        ),
        (
            "delete",
            raw("DELETE /ok?case=CASE. HTTP/1.1\nhost: test", ""),
        ),
        ("options", raw("OPTIONS * HTTP/1.1\nhost: test", "")),
        (
            "connect",
            raw("CONNECT test:80 HTTP/1.1\nhost: test:80", ""),
        ),
        (
            "upgrade",
            raw(&format!("{line}\nhost: test\nupgrade: websocket"), ""),
        ),
        (
            "upgrade-not-allowed",
            raw(
                &format!("{line}\nhost: test\nconnection: upgrade\nupgrade: websocket"),
                "",
            ),
        ),
        (
            "fragment",
            raw("GET /ok?case=CASE.#part HTTP/1.1\nhost: test", ""),
        ),
        (
            "space-in-path",
            raw("GET /ok?case=CASE. x HTTP/1.1\nhost: test", ""),
        ),
        (
            "dots",
            raw("GET /status/../ok?case=CASE. HTTP/1.1\nhost: test", ""),
        ),
        (
            "encoded",
            raw("GET /ok/%2e%2E/%41?case=CASE. HTTP/1.1\nhost: test", ""),
        ),
        (
            "expect-continue",
            raw(
                &format!("{post}\nexpect: 100-continue\ncontent-length: 5"),
                "hello",
            ),
        ),
        (
            "expect-other",
            raw(
                &format!("{post}\nexpect: 200-ok\ncontent-length: 5"),
                "hello",
            ),
        ),
        (
            "get-with-body",
            raw(&format!("{line}\nhost: test\ncontent-length: 5"), "hello"),
        ),
        (
            "two-requests",
            format!(
                "{line}\r\nhost: test\r\n\r\n{}",
                raw(&format!("{line}\nhost: test"), "")
            ),
        ),
    ] {
        add(&format!("http-{name}"), &["outbound"], request);
    }

    let http1 = cases.into_iter().map(|(name, listener, request)| Case {
        request: with_own_trace(&request, &name).replace("CASE", &name),
        name,
        listener,
        http2: false,
        copies: 0,
    });
    http1.chain(over_bridges()).collect()
}

/// HTTP/2 on one side or both, and gRPC.
fn over_bridges() -> Vec<Case> {
    let listeners = [
        "outbound",
        "inbound",
        "gateway",
        "otlp_outbound",
        "otlp_inbound",
        "otlp_gateway",
    ];
    let mut cases = Vec::new();
    let mut add = |name: &str, http2: bool, request: &str| {
        for listener in listeners {
            let side = if http2 { "h2" } else { "h1" };
            let name = format!("{side}-{name}@{listener}");
            cases.push(Case {
                request: with_own_trace(request, &name).replace("CASE", &name),
                name,
                listener,
                http2,
                copies: 0,
            });
        }
    };
    let b3 = format!("x-b3-traceid: {TRACE_ID}\nx-b3-spanid: {SPAN_ID}\nx-b3-sampled: 1\n");
    // To an origin of HTTP/1.1.
    for (name, path) in [
        ("plain", "/ok"),
        ("chunked-response", "/chunked"),
        ("no-route", "/nothing"),
        ("direct-response", "/direct"),
        ("response-headers", "/headers"),
        ("refused", "/refused"),
        ("no-endpoints", "/empty"),
        ("no-cluster", "/missing"),
        ("timeout", "/slow"),
        ("cut-body", "/cut"),
        ("not-http", "/garbage"),
        ("status-204", "/status/204"),
        ("status-304", "/status/304"),
        ("status-503", "/status/503"),
    ] {
        add(name, true, &get(path, ""));
    }
    add("context", true, &get("/ok", &b3));
    for http2 in [false, true] {
        let host = "host: test\r\nconnection: close\r\n";
        let post = format!("HTTP/1.1\r\n{host}content-length: 5\r\n\r\nhello");
        add("post", http2, &format!("POST /ok?case=CASE. {post}"));
        // To an origin of HTTP/2.
        for path in [
            "ok",
            "empty",
            "length",
            "trailers",
            "reset",
            "refuse",
            "cut",
            "slow",
            "status/204",
            "status/304",
            "status/404",
            "status/500",
        ] {
            let name = format!("to-h2-{}", path.replace('/', "-"));
            add(&name, http2, &get(&format!("/h2/{path}"), ""));
        }
        add(
            "to-h2-post",
            http2,
            &format!("POST /h2/ok?case=CASE. {post}"),
        );
        add("to-h2-context", http2, &get("/h2/ok", &b3));
        let head = format!("HEAD /h2/length?case=CASE. HTTP/1.1\r\n{host}\r\n");
        add("to-h2-head", http2, &head);
        // gRPC.
        let call = |path: &str, fields: &str| {
            let fields = fields.replace('\n', "\r\n");
            format!(
                "POST {path}?case=CASE. HTTP/1.1\r\n{host}content-type: application/grpc\r\n\
                 te: trailers\r\n{fields}content-length: 7\r\n\r\n\0\0\0\0\x02hi"
            )
        };
        for code in ["0", "2", "7", "8", "14"] {
            add(
                &format!("grpc-{code}"),
                http2,
                &call(&format!("/grpc/{code}"), ""),
            );
            let only = call(&format!("/grpc/only/{code}"), "grpc-timeout: 3S\n");
            add(&format!("grpc-only-{code}"), http2, &only);
        }
        for (name, path) in [
            ("no-route", "/nothing"),
            ("direct-response", "/direct"),
            ("refused", "/refused"),
            ("no-endpoints", "/empty"),
            ("no-cluster", "/missing"),
        ] {
            // Whether a body has come before the answer is chance, so there is none.
            let call =
                call(path, "").replace("length: 7\r\n\r\n\0\0\0\0\x02hi", "length: 0\r\n\r\n");
            add(&format!("grpc-{name}"), http2, &call);
        }
        for (name, timeout) in [
            ("limit", "grpc-timeout: 100m\n"),
            ("limit-cut", "grpc-timeout: 10S\n"),
            ("limit-none", ""),
        ] {
            add(
                &format!("grpc-{name}"),
                http2,
                &call("/grpc-limit/slow", timeout),
            );
        }
        let stream = call("/grpc-stream/slow", "grpc-timeout: 100m\n");
        add("grpc-stream-limit", http2, &stream);
        let passed = call("/grpc-limit/0", "grpc-timeout: 10S\n");
        add("grpc-limit-told", http2, &passed);
    }
    cases
}

/// Replaces the trace id, so that no two cases are of one trace.
fn with_own_trace(request: &str, name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let own = format!("{:016x}", hasher.finish() | 1 << 60);
    let (high, low) = TRACE_ID.split_at(16);
    request
        .replace(low, &own)
        .replace(high, &own.chars().rev().collect::<String>())
        .replace(&low.to_uppercase(), &own.to_uppercase())
}
