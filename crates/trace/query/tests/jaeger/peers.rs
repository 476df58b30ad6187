//! Programs that nobody here wrote: gRPC's Python client, which knows our services by reflection
//! only, and a tester that believes our `OpenAPI` document.

use std::env;
use std::ffi::OsString;
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

use crate::support::{BOOKINFO_ID, Server};

/// `None`, and a notice, where it is not prepared; in CI it must be.
fn python() -> Option<OsString> {
    let python = env::var_os("PERIPLUS_PEERS_PYTHON");
    assert!(
        python.is_some() || env::var_os("CI").is_none(),
        "PERIPLUS_PEERS_PYTHON is not set; run the tests with: cargo xtask test"
    );
    if python.is_none() {
        eprintln!("not asked by real clients: run the tests with: cargo xtask test");
    }
    python
}

async fn run(mut command: Command) -> Output {
    let run = move || command.stdin(Stdio::null()).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

const REFLECT: &str = r#"
import base64, json, sys
import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

channel = grpc.insecure_channel(sys.argv[1])
database = ProtoReflectionDescriptorDatabase(channel)
pool = DescriptorPool(database)

def call(service, method, request):
    described = pool.FindServiceByName(service).methods_by_name[method]
    asked = message_factory.GetMessageClass(described.input_type)
    answer = message_factory.GetMessageClass(described.output_type)
    kind = channel.unary_stream if described.server_streaming else channel.unary_unary
    ask = kind('/%s/%s' % (service, method), asked.SerializeToString, answer.FromString)
    given = ask(json_format.ParseDict(request, asked()), timeout=20)
    as_json = lambda message: json_format.MessageToDict(message, preserving_proto_field_name=True)
    if described.server_streaming:
        return [as_json(message) for message in given]
    return as_json(given)

v2, v3 = 'jaeger.api_v2.QueryService', 'jaeger.api_v3.QueryService'
window = {'start_time_min': '2026-11-22T07:29:00Z', 'start_time_max': '2026-11-22T07:30:00Z'}
trace_id = sys.argv[2]
json.dump({
    'services': sorted(database.get_services()),
    'names': [call(service, 'GetServices', {}) for service in (v2, v3)],
    'trace_v2': call(v2, 'GetTrace', {'trace_id': base64.b64encode(bytes.fromhex(trace_id)).decode()}),
    'trace_v3': call(v3, 'GetTrace', {'trace_id': trace_id}),
    'found_v2': call(v2, 'FindTraces', {'query': dict(window, tags={'http.status_code': '200'}, search_depth=5)}),
    'filtered': call(v3, 'FindTraceSummaries', {'query': dict(window, filter={
        'op': 'eq', 'args': [{'field': {'name': 'service', 'level': 'resource'}},
                             {'scalar': {'value': 'ratings.default'}}]})}),
    'health': call('grpc.health.v1.Health', 'Check', {'service': v2}),
}, sys.stdout)
"#;

#[tokio::test]
async fn grpcio_knows_the_services_by_reflection() {
    let Some(python) = python() else { return };
    let server = Server::with_bookinfo().await;
    let mut command = Command::new(python);
    let address = server.grpc.to_string();
    command.args(["-c", REFLECT, &address, BOOKINFO_ID]);
    let output = run(command).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        said["services"],
        json!([
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "jaeger.api_v2.QueryService",
            "jaeger.api_v3.QueryService",
        ])
    );
    assert_eq!(said["health"], json!({"status": "SERVING"}));
    for names in said["names"].as_array().unwrap() {
        assert_eq!(names["services"].as_array().unwrap().len(), 5);
    }
    let spans = |key: &str| -> Vec<Json> {
        let chunks = said[key].as_array().unwrap().iter();
        let spans = chunks.flat_map(|chunk| chunk["spans"].as_array().unwrap());
        spans.cloned().collect()
    };
    for key in ["trace_v2", "found_v2"] {
        assert_eq!(spans(key).len(), 9, "{key}");
        for span in spans(key) {
            assert!(span["process"]["service_name"].is_string(), "{span}");
            assert!(
                span["start_time"]
                    .as_str()
                    .unwrap()
                    .starts_with("2026-11-22T07:29:18.")
            );
        }
    }
    let groups = said["trace_v3"].as_array().unwrap().iter();
    let groups = groups.flat_map(|data| data["resource_spans"].as_array().unwrap());
    let spans = groups.flat_map(|group| group["scope_spans"].as_array().unwrap());
    let spans: usize = spans
        .map(|scope| scope["spans"].as_array().unwrap().len())
        .sum();
    assert_eq!(spans, 9);
    let summary = &said["filtered"][0]["summaries"][0];
    assert_eq!(summary["trace_id"], BOOKINFO_ID);
    assert_eq!(summary["span_count"], 9);
}

#[tokio::test]
async fn schemathesis_finds_the_document_true() {
    let Some(python) = python() else { return };
    let server = Server::with_bookinfo().await;
    let document = format!("http://{}/api/periplus/v1/openapi.json", server.address);
    let mut command = Command::new(python);
    // It leaves files where it runs.
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    command.args(["-m", "schemathesis.cli", "run", &document]);
    // The stream of the live tail does not end.
    command.args(["--exclude-path", "/live"]);
    // Those are not the query service's: they are tried where they are served.
    command.args(["--exclude-path-regex", "^(/api)?/sampling"]);
    // A query line has a grammar that no schema says: what fits the schema may be refused.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    // The same questions every time, and not too many.
    command.args(["--max-examples", "20", "--generation-deterministic"]);
    command.args(["--phases", "coverage,fuzzing"]);
    command.args(["--suppress-health-check", "all", "--no-color"]);
    let output = run(command).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("Operations"), "{said}");
}
