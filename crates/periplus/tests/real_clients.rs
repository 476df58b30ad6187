//! Real tracing clients, unmodified, send a trace each to `periplus serve`; every API gives it back as
//! its projection says. The clients are installed by `cargo xtask peers`.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/apis.rs"]
mod apis;
#[path = "support/serve.rs"]
mod harness;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use apis::Everywhere;
use harness::Serve;
use periplus_model::{Attribute, Batch, SpanKind, StatusCode, Value};
use serde_json::{Value as Json, json};

/// How long a trace may take from a client's end until it is served: a datagram is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run of a client.
struct Case {
    /// The script in `tests/clients`, and its first argument if it takes one.
    script: &'static str,
    mode: &'static str,
    /// The port that it sends to, by the name that `serve` prints.
    port: &'static str,
    /// Its last argument, if it takes one.
    compression: &'static str,
    family: Family,
}

/// What a client can say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Family {
    /// OpenTelemetry over OTLP: all that the model has.
    Otlp,
    /// OpenTelemetry for Python over Jaeger's formats: lists become text, an event's name the field
    /// `message`, and the resource is repeated on each span.
    OtelPython,
    /// OpenTelemetry for Node over Jaeger's formats: besides, every number becomes a double.
    OtelNode,
    /// Jaeger's own client for Python: OpenTracing's tags and logs.
    JaegerPython,
    /// Jaeger's own client for Node, whose trace ids have 64 bits.
    JaegerNode,
}

impl Family {
    const fn is_opentelemetry(self) -> bool {
        !matches!(self, Self::JaegerPython | Self::JaegerNode)
    }

    /// Whether it says which library made a span, as OpenTelemetry has it today.
    const fn has_scope(self) -> bool {
        matches!(self, Self::Otlp | Self::OtelPython)
    }

    /// A whole number as a tag.
    fn number(self, number: i64) -> (&'static str, Json) {
        match self {
            Self::OtelNode | Self::JaegerNode => ("float64", json!(number as f64)),
            _ if number > 1 << 53 => ("int64", json!(number.to_string())),
            _ => ("int64", json!(number)),
        }
    }

    /// The list `a`, `b` as a tag.
    fn list(self) -> Option<&'static str> {
        match self {
            Self::Otlp => Some(r#"["a","b"]"#),
            Self::OtelPython => Some("('a', 'b')"),
            Self::OtelNode => Some("a,b"),
            Self::JaegerPython | Self::JaegerNode => None,
        }
    }
}

const fn case(
    script: &'static str,
    mode: &'static str,
    port: &'static str,
    compression: &'static str,
    family: Family,
) -> Case {
    Case {
        script,
        mode,
        port,
        compression,
        family,
    }
}

const GRPC: &str = "OTLP over gRPC";
const HTTP: &str = "OTLP over HTTP";
const JAEGER_GRPC: &str = "Jaeger over gRPC";
const JAEGER_HTTP: &str = "Jaeger over HTTP";
const COMPACT: &str = "Jaeger UDP, compact";
const BINARY: &str = "Jaeger UDP, binary";

#[test]
fn opentelemetry_for_python() {
    let otlp =
        |mode, port, compression| case("python/otel.py", mode, port, compression, Family::Otlp);
    run(
        "python",
        &[
            otlp("otlp-grpc", GRPC, "none"),
            otlp("otlp-grpc", GRPC, "gzip"),
            otlp("otlp-protobuf", HTTP, "none"),
            otlp("otlp-protobuf", HTTP, "gzip"),
            otlp("otlp-protobuf", HTTP, "deflate"),
            otlp("otlp-json", HTTP, "none"),
            otlp("otlp-json", HTTP, "gzip"),
            otlp("otlp-json", HTTP, "deflate"),
        ],
    );
}

#[test]
fn jaeger_clients_for_python() {
    let otel = |mode, port| case("python/otel.py", mode, port, "", Family::OtelPython);
    run(
        "python-old",
        &[
            otel("jaeger-udp", COMPACT),
            otel("jaeger-http", JAEGER_HTTP),
            otel("jaeger-grpc", JAEGER_GRPC),
            case(
                "python/jaeger_native.py",
                "",
                COMPACT,
                "",
                Family::JaegerPython,
            ),
        ],
    );
}

#[test]
fn clients_for_node() {
    let otel =
        |mode, port, compression, family| case("node/otel.cjs", mode, port, compression, family);
    run(
        "node",
        &[
            otel("otlp-grpc", GRPC, "none", Family::Otlp),
            otel("otlp-grpc", GRPC, "gzip", Family::Otlp),
            otel("otlp-json", HTTP, "none", Family::Otlp),
            otel("otlp-json", HTTP, "gzip", Family::Otlp),
            otel("otlp-protobuf", HTTP, "none", Family::Otlp),
            otel("otlp-protobuf", HTTP, "gzip", Family::Otlp),
            otel("jaeger-udp", BINARY, "", Family::OtelNode),
            otel("jaeger-http", JAEGER_HTTP, "", Family::OtelNode),
            case("node/jaeger.cjs", "udp", BINARY, "", Family::JaegerNode),
            case(
                "node/jaeger.cjs",
                "http",
                JAEGER_HTTP,
                "",
                Family::JaegerNode,
            ),
        ],
    );
}

/// Runs the cases with what is installed in this environment.
fn run(environment: &str, cases: &[Case]) {
    let Some(clients) = clients() else {
        return;
    };
    let serve = Serve::start();
    for case in cases {
        let name = format!("{} {} {}", case.script, case.mode, case.compression);
        println!("{name}");
        let id = send(&clients.join(environment), &serve, case);
        arrived(&serve, &id);
        let trace = Everywhere::read(&serve, &id, 2);
        trace.agree(&name);
        check_jaeger(&name, case, &trace.jaeger);
        check_own(&name, case, &trace.own);
        check_zipkin(&name, case, &trace.zipkin);
        check_otlp(&name, case, &trace.v3_grpc);
    }
}

/// Where the clients are installed; `None`, and a notice, where they are not. In CI they must be.
fn clients() -> Option<PathBuf> {
    let clients = env::var_os("PERIPLUS_CLIENTS").map(PathBuf::from);
    assert!(
        clients.is_some() || env::var_os("CI").is_none(),
        "PERIPLUS_CLIENTS is not set; run the tests with: cargo xtask test"
    );
    if clients.is_none() {
        eprintln!("not tried with real clients: run the tests with: cargo xtask test");
    }
    clients
}

/// Runs a client to its end; the id of the trace that it sent.
fn send(environment: &Path, serve: &Serve, case: &Case) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(case.script);
    let mut command = if case.script.starts_with("node/") {
        let mut node = Command::new("node");
        node.env("NODE_PATH", environment.join("node_modules"));
        node
    } else {
        let mut python = Command::new(environment.join("bin/python"));
        // The generated code of the Jaeger exporter is older than protobuf's fast implementation.
        python.env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
        python
    };
    let address = serve.addresses[case.port].to_string();
    let arguments = [case.mode, &address, case.compression];
    command.arg(&script);
    command.args(arguments.iter().filter(|argument| !argument.is_empty()));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", case.script);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until both spans of the trace are there.
fn arrived(serve: &Serve, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = serve.request("UI", &format!("GET /api/traces/{id}"), "");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let trace: Json = serde_json::from_str(body).unwrap();
        if trace["data"][0]["spans"].as_array().map(Vec::len) == Some(2) {
            return;
        }
        assert!(Instant::now() < deadline, "{id} has not arrived: {answer}");
        std::thread::yield_now();
    }
}

/// Tags by key, each with its type.
fn tags_of(list: &Json) -> BTreeMap<String, (String, Json)> {
    let list = list.as_array().unwrap().iter();
    list.map(|tag| {
        let text = |name: &str| tag[name].as_str().unwrap().to_owned();
        (text("key"), (text("type"), tag["value"].clone()))
    })
    .collect()
}

fn expected(list: &[(&str, &str, Json)]) -> BTreeMap<String, (String, Json)> {
    list.iter()
        .map(|(key, kind, value)| ((*key).to_owned(), ((*kind).to_owned(), value.clone())))
        .collect()
}

/// JavaScript has no integers beyond 2^53, so its clients send a small one.
fn int(case: &Case) -> i64 {
    match case.script.starts_with("python/") {
        true => (1 << 53) + 1,
        false => 7,
    }
}

fn check_jaeger(name: &str, case: &Case, trace: &Json) {
    let spans = trace["spans"].as_array().unwrap();
    let of = |operation: &str| {
        let span = spans.iter().find(|it| it["operationName"] == operation);
        span.unwrap_or_else(|| panic!("{name}: no {operation} in {trace:#}"))
    };
    let (server, client) = (of("GET /cart"), of("GET /prices"));
    for span in spans {
        let process = &trace["processes"][span["processID"].as_str().unwrap()];
        assert_eq!(process["serviceName"], "cart service", "{name}");
        let tags = tags_of(&process["tags"]);
        match case.family {
            Family::Otlp => assert_eq!(tags["host.name"].1, "h1", "{name}"),
            Family::JaegerPython | Family::JaegerNode => {
                assert_eq!(tags["zone"].1, "z1", "{name}");
                let version = &tags["opencensus.exporterversion"].1;
                let version = version.as_str().unwrap();
                assert!(version.starts_with("Jaeger-"), "{name}: {version}");
            }
            Family::OtelPython | Family::OtelNode => {}
        }
        assert!(span["startTime"].as_u64() > Some(1_700_000_000_000_000));
    }

    assert_eq!(server["references"], json!([]), "{name}");
    let mut references = vec![json!({
        "refType": "CHILD_OF", "traceID": trace["traceID"], "spanID": server["spanID"],
    })];
    if case.family.is_opentelemetry() {
        references.push(json!({
            "refType": "FOLLOWS_FROM", "traceID": "0000000000000001", "spanID": "0000000000000002",
        }));
    }
    assert_eq!(client["references"], json!(references), "{name}");

    let (number, value) = case.family.number(int(case));
    let mut tags = expected(&[
        ("text", "string", json!("grüße")),
        ("int", number, value),
        ("double", "float64", json!(0.5)),
        ("bool", "bool", json!(true)),
        ("span.kind", "string", json!("server")),
    ]);
    let mut failed = expected(&[
        ("span.kind", "string", json!("client")),
        ("error", "bool", json!(true)),
        ("otel.status_code", "string", json!("ERROR")),
    ]);
    let mut on_both = BTreeMap::new();
    if case.family.has_scope() {
        on_both.extend(expected(&[
            ("otel.scope.name", "string", json!("shop.lib")),
            ("otel.scope.version", "string", json!("1.2")),
        ]));
    }
    match case.family {
        Family::Otlp => {}
        Family::OtelPython | Family::OtelNode => on_both.extend(expected(&[
            ("otel.library.name", "string", json!("shop.lib")),
            ("otel.library.version", "string", json!("1.2")),
            ("service.name", "string", json!("cart service")),
            ("host.name", "string", json!("h1")),
        ])),
        Family::JaegerPython | Family::JaegerNode => tags.extend(expected(&[
            ("sampler.type", "string", json!("const")),
            ("sampler.param", "bool", json!(true)),
        ])),
    }
    if case.family.is_opentelemetry() {
        let why = json!("timed out");
        failed.extend(expected(&[("otel.status_description", "string", why)]));
    }
    if let Some(list) = case.family.list() {
        tags.extend(expected(&[("list", "string", json!(list))]));
    }
    tags.extend(on_both.clone());
    failed.extend(on_both);
    assert_eq!(tags_of(&server["tags"]), tags, "{name}");
    assert_eq!(tags_of(&client["tags"]), failed, "{name}");

    let [log] = &server["logs"].as_array().unwrap()[..] else {
        panic!("{name}: {server:#}");
    };
    let event = match case.family {
        Family::OtelPython => "message",
        _ => "event",
    };
    let (number, two) = case.family.number(2);
    let fields = expected(&[
        (event, "string", json!("cache miss")),
        ("key", "string", json!("cart-7")),
        ("attempt", number, two),
    ]);
    assert_eq!(tags_of(&log["fields"]), fields, "{name}");
    assert_eq!(client["logs"], json!([]), "{name}");
}

fn check_own(name: &str, case: &Case, spans: &Json) {
    let [server, client] = &spans.as_array().unwrap()[..] else {
        panic!("{name}: {spans:#}");
    };
    assert_eq!(server["operation"], "GET /cart", "{name}");
    assert_eq!(server["kind"], "server", "{name}");
    assert_eq!(server["service"], "cart service", "{name}");
    assert_eq!(server["parentSpanId"], Json::Null, "{name}");
    assert_eq!(server["status"]["code"], "unset", "{name}");
    if case.family != Family::OtelPython {
        assert_eq!(server["events"][0]["name"], "cache miss", "{name}");
    }
    assert_eq!(client["operation"], "GET /prices", "{name}");
    assert_eq!(client["kind"], "client", "{name}");
    assert_eq!(client["parentSpanId"], server["spanId"], "{name}");
    assert_eq!(client["status"]["code"], "error", "{name}");
    let list = tags_of(&server["attributes"]).remove("list");
    let expected = match case.family {
        Family::Otlp => Some(("array".to_owned(), json!(["a", "b"]))),
        family => family.list().map(|text| ("string".to_owned(), json!(text))),
    };
    assert_eq!(list, expected, "{name}");
    if case.family.has_scope() {
        assert_eq!(server["scope"]["name"], "shop.lib", "{name}");
    }
    if case.family.is_opentelemetry() {
        assert_eq!(client["status"]["message"], "timed out", "{name}");
        assert_eq!(client["links"][0]["spanId"], "0000000000000002", "{name}");
    }
}

/// Zipkin's shape has texts only.
fn check_zipkin(name: &str, case: &Case, spans: &Json) {
    let of = |kind: &str| {
        let mut spans = spans.as_array().unwrap().iter();
        let span = spans.find(|span| span["kind"] == kind);
        span.unwrap_or_else(|| panic!("{name}: no {kind} in {spans:#?}"))
    };
    let (server, client) = (of("SERVER"), of("CLIENT"));
    let number = int(case).to_string();
    let mut tags = vec![
        ("text", "grüße"),
        ("int", &number),
        ("double", "0.5"),
        ("bool", "true"),
    ];
    tags.extend(match case.family {
        Family::Otlp => Some(("list", r#"["a","b"]"#)),
        family => family.list().map(|list| ("list", list)),
    });
    if case.family.has_scope() {
        tags.push(("otel.scope.name", "shop.lib"));
        tags.push(("otel.scope.version", "1.2"));
    }
    if case.family.is_opentelemetry() {
        tags.push(("host.name", "h1"));
    }
    for (key, value) in tags {
        assert_eq!(server["tags"][key], value, "{name}: {key} in {server:#}");
    }
    // The name, the attributes, and how many were dropped, as a collector writes them.
    let attempt = match case.family {
        Family::OtelNode | Family::JaegerNode => "2.0",
        _ => "2",
    };
    let attributes = format!(r#""key":"cart-7","attempt":{attempt}"#);
    let annotation = match case.family {
        Family::OtelPython => format!(r#"|{{{attributes},"message":"cache miss"}}|0"#),
        _ => format!("cache miss|{{{attributes}}}|0"),
    };
    assert_eq!(server["annotations"][0]["value"], annotation, "{name}");
    assert_eq!(client["tags"]["otel.status_code"], "ERROR", "{name}");
    if case.family.is_opentelemetry() {
        // Jaeger's references say what they are.
        let attributes = match case.family {
            Family::Otlp => "{}",
            _ => r#"{"opentracing.ref_type":"follows_from"}"#,
        };
        let link = format!("00000000000000000000000000000001|0000000000000002||{attributes}|0");
        assert_eq!(client["tags"]["otlp.link.0"], link, "{name}: {client:#}");
        let why = &client["tags"]["otel.status_description"];
        assert_eq!(why, "timed out", "{name}: {client:#}");
    }
}

/// `api_v3` has all that the model has.
fn check_otlp(name: &str, case: &Case, batch: &Batch) {
    let spans = (batch.groups.iter()).flat_map(|group| group.spans.iter().map(move |s| (group, s)));
    let of = |kind: SpanKind| {
        let mut spans = spans.clone();
        let span = spans.find(|(_, span)| span.kind == kind);
        span.unwrap_or_else(|| panic!("{name}: no {kind:?} in {batch:#?}"))
    };
    let ((group, server), (_, client)) = (of(SpanKind::Server), of(SpanKind::Client));
    assert_eq!(group.resource.service_name(), "cart service", "{name}");
    let floats = matches!(case.family, Family::OtelNode | Family::JaegerNode);
    let number = |number: i64| match floats {
        true => Value::Double(number as f64),
        false => Value::Int(number),
    };
    let mut attributes = vec![
        ("text", Value::from("grüße")),
        ("int", number(int(case))),
        ("double", Value::Double(0.5)),
        ("bool", Value::Bool(true)),
    ];
    attributes.extend(match case.family {
        Family::Otlp => {
            let list = ["a", "b"].map(Value::from);
            Some(("list", Value::Array(list.to_vec())))
        }
        family => family.list().map(|list| ("list", Value::from(list))),
    });
    for (key, value) in attributes {
        assert_eq!(server.attribute(key), Some(&value), "{name}: {key}");
    }
    let [event] = &server.events[..] else {
        panic!("{name}: {server:#?}");
    };
    if case.family != Family::OtelPython {
        assert_eq!(event.name, "cache miss", "{name}");
    }
    let attempt = Attribute::new("attempt", number(2));
    assert!(event.attributes.contains(&attempt), "{name}: {event:#?}");
    assert_eq!(client.parent_span_id, Some(server.span_id), "{name}");
    assert_eq!(client.status.code, StatusCode::Error, "{name}");
    if case.family.has_scope() {
        let scope = (&*group.scope.name, &*group.scope.version);
        assert_eq!(scope, ("shop.lib", "1.2"), "{name}");
    }
    if case.family.is_opentelemetry() {
        assert_eq!(client.status.message, "timed out", "{name}");
        assert_eq!(client.links[0].span_id.as_u64(), 2, "{name}");
    }
}
