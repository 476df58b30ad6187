//! A real Envoy traces a request with each of its tracers, unmodified; every API gives the trace back.
//!
//! `PERIPLUS_ENVOY` names the binary. Without it the test fails on CI, and elsewhere says so and passes.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

#[path = "support/apis.rs"]
mod apis;
#[path = "../../mesh/proxy/tests/differential_envoy/envoy.rs"]
mod envoy;
#[path = "support/serve.rs"]
mod harness;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use apis::Everywhere;
use envoy::Envoy;
use harness::Serve;
use serde_json::{Value as Json, json};

/// How long a span may take from a request's end until it is served.
const PATIENCE: Duration = Duration::from_secs(60);

/// The span that calls Envoy, which nobody reports.
const CALLER: &str = "a2fb4a1d1a96d312";

/// A tracer of Envoy's.
struct Tracer {
    name: &'static str,
    /// The port that it reports to, by the name that `serve` prints.
    port: &'static str,
    config: Json,
    /// The caller's id, as this tracer reports it.
    parent: &'static str,
    /// Says which trace the request belongs to.
    context: fn(&str) -> String,
}

fn tracers() -> [Tracer; 4] {
    let b3 =
        |id: &str| format!("x-b3-traceid: {id}\r\nx-b3-spanid: {CALLER}\r\nx-b3-sampled: 1\r\n");
    let w3c = |id: &str| format!("traceparent: 00-{id}-{CALLER}-01\r\n");
    let zipkin = |encoding: &str| {
        json!({
            "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
            "collector_cluster": encoding,
            "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": encoding,
            "trace_id_128bit": true,
            "shared_span_context": false,
        })
    };
    let otlp = |how: Json| {
        let mut config = json!({
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "front",
        });
        let members = config.as_object_mut().unwrap();
        members.extend(how.as_object().unwrap().clone());
        config
    };
    [
        Tracer {
            name: "HTTP_JSON",
            port: "Zipkin",
            config: zipkin("HTTP_JSON"),
            parent: CALLER,
            context: b3,
        },
        Tracer {
            name: "HTTP_PROTO",
            port: "Zipkin",
            config: zipkin("HTTP_PROTO"),
            // Envoy writes ids of spans in the order of the processor's bytes, here and in its own.
            parent: "12d3961a1d4afba2",
            context: b3,
        },
        Tracer {
            name: "otlp_grpc",
            port: "OTLP over gRPC",
            config: otlp(json!({
                "grpc_service": {"envoy_grpc": {"cluster_name": "otlp_grpc"}, "timeout": "5s"},
            })),
            parent: CALLER,
            context: w3c,
        },
        Tracer {
            name: "otlp_http",
            port: "OTLP over HTTP",
            config: otlp(json!({"http_service": {"http_uri": {
                "uri": "http://collector/v1/traces", "cluster": "otlp_http", "timeout": "5s",
            }}})),
            parent: CALLER,
            context: w3c,
        },
    ]
}

fn cluster(name: &str, address: SocketAddr, http2: bool) -> Json {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket(address)}},
        ]}]},
    });
    if http2 {
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    cluster
}

fn socket(address: SocketAddr) -> Json {
    let address = json!({"address": address.ip().to_string(), "port_value": address.port()});
    json!({ "socket_address": address })
}

/// A listener for each tracer, all of which lead to one service.
fn bootstrap(serve: &Serve, tracers: &[Tracer]) -> String {
    let listeners = tracers.iter().map(|tracer| {
        json!({
            "name": tracer.name,
            "address": socket(([127, 0, 0, 1], 0).into()),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": tracer.name,
                    "tracing": {
                        "provider": {"name": "a tracer", "typed_config": tracer.config},
                        "spawn_upstream_span": true,
                    },
                    "route_config": {"virtual_hosts": [{
                        "name": "all", "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "service"}}],
                    }]},
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                    }],
                },
            }]}],
        })
    });
    let collectors = tracers.iter().map(|tracer| {
        let address = serve.addresses[tracer.port];
        cluster(tracer.name, address, tracer.port == "OTLP over gRPC")
    });
    let service = cluster("service", serve.addresses["health"], false);
    json!({
        "node": {"id": "front-1", "cluster": "front"},
        "admin": {"address": socket(([127, 0, 0, 1], 0).into())},
        "static_resources": {
            "listeners": listeners.collect::<Vec<_>>(),
            "clusters": collectors.chain([service]).collect::<Vec<_>>(),
        },
    })
    .to_string()
}

/// The whole answer, if there is one.
fn ask(address: SocketAddr, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn patiently<T>(envoy: &Envoy, what: &str, attempt: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}: {}", envoy.log());
        std::thread::yield_now();
    }
}

/// Where the listener of this tracer is.
fn listener(envoy: &Envoy, name: &str) -> Option<SocketAddr> {
    let answer = ask(envoy.admin()?, "/listeners?format=json", "")?;
    let from = answer.find('{')?;
    let to = answer.rfind('}')?;
    let status: Json = serde_json::from_str(&answer[from..=to]).ok()?;
    let mut listeners = status["listener_statuses"].as_array()?.iter();
    let listener = listeners.find(|listener| listener["name"] == name)?;
    let address = &listener["local_address"]["socket_address"];
    let port = u16::try_from(address["port_value"].as_u64()?).ok()?;
    Some(([127, 0, 0, 1], port).into())
}

#[test]
fn every_tracer_of_envoy_is_read_over_every_api() {
    let Some(binary) = envoy::binary() else {
        return;
    };
    let serve = Serve::start();
    let tracers = tracers();
    let envoy = Envoy::start(&binary, &bootstrap(&serve, &tracers));
    for (number, tracer) in tracers.iter().enumerate() {
        let name = tracer.name;
        let address = patiently(&envoy, name, || listener(&envoy, name));
        let id = format!("463ac35c9f6413ad48485a3953bb612{number}");
        let answer = ask(address, "/status?cart=7", &(tracer.context)(&id)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        patiently(&envoy, "trace", || {
            let answer = serve.request("UI", &format!("GET /api/traces/{id}"), "");
            let (_, body) = answer.split_once("\r\n\r\n")?;
            let trace: Json = serde_json::from_str(body).ok()?;
            (trace["data"][0]["spans"].as_array()?.len() == 2).then_some(())
        });

        let trace = Everywhere::read(&serve, &id, 2);
        trace.agree(name);
        let spans = trace.zipkin.as_array().unwrap();
        let of = |kind: &str| spans.iter().find(|span| span["kind"] == kind).unwrap();
        let (server, client) = (of("SERVER"), of("CLIENT"));
        assert_eq!(server["parentId"], tracer.parent, "{name}");
        assert_eq!(client["parentId"], server["id"], "{name}");
        for span in [server, client] {
            assert_eq!(span["localEndpoint"]["serviceName"], "front", "{name}");
            assert_eq!(span["tags"]["http.status_code"], "200", "{name}: {span:#}");
        }
        let url = "http://shop/status?cart=7";
        assert_eq!(server["tags"]["http.url"], url, "{name}: {server:#}");
        assert_eq!(client["tags"]["upstream_cluster"], "service", "{name}");
    }
    // What Envoy cannot send it only counts.
    let stats = ask(envoy.admin().unwrap(), "/stats?filter=tracing", "").unwrap();
    for line in stats.lines().filter(|line| line.contains("reports_failed")) {
        assert!(line.ends_with(": 0"), "{line}");
    }
}
