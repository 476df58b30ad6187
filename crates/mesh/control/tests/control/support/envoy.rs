//! Real Envoys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::Value;
use envoy_types::pb::google::protobuf::value::Kind;
use periplus_control::Generated;
use prost::Message;
use serde_json::json;
use tokio::process::{Child, Command};

/// Names the binary.
const VARIABLE: &str = "PERIPLUS_ENVOY";

/// The binary, or nothing where a developer has none. CI has to have one.
pub(crate) fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Some(path.into());
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{VARIABLE} is not set: it must name the binary of a real Envoy"
    );
    eprintln!("SKIPPED: set {VARIABLE} to the binary of a real Envoy to run this test");
    None
}

/// One Envoy; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Envoy {
    _process: Child,
    log: PathBuf,
}

impl Envoy {
    /// Starts one that asks `xds` for its configuration.
    pub(crate) fn start(binary: &Path, node: &Node, xds: SocketAddr, directory: &Path) -> Self {
        let name = node.id.split('~').nth(2).expect("a well-formed id");
        let bootstrap = directory.join(format!("{name}.json"));
        std::fs::write(&bootstrap, bootstrap_of(node, xds)).expect("a file");
        let log = directory.join(format!("{name}.log"));
        let output = std::fs::File::create(&log).expect("a file");
        let process = Command::new(binary)
            .arg("-c")
            .arg(&bootstrap)
            .args(["--concurrency", "1", "--disable-hot-restart", "-l", "warn"])
            .args(["--file-flush-interval-msec", "50"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        Self {
            _process: process,
            log,
        }
    }

    /// What it had to say.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Has an Envoy look at a proxy's listeners and clusters without serving them; what it has against them.
pub(crate) fn refusal(
    binary: &Path,
    node: &Node,
    made: &Generated,
    directory: &Path,
) -> Option<String> {
    let bootstrap = Bootstrap {
        static_resources: Some(StaticResources {
            listeners: made.listeners.clone(),
            clusters: made.clusters.clone(),
            ..StaticResources::default()
        }),
        ..Bootstrap::default()
    };
    let file = directory.join("bootstrap.pb");
    std::fs::write(&file, bootstrap.encode_to_vec()).expect("a file");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let output = std::process::Command::new(binary)
        .args(["--mode", "validate", "-l", "warn", "-c"])
        .arg(&file)
        .args(["--config-yaml", &bootstrap_of(node, nowhere)])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then(said)
}

fn bootstrap_of(node: &Node, xds: SocketAddr) -> String {
    let metadata = node.metadata.iter().flat_map(|metadata| &metadata.fields);
    let metadata: serde_json::Map<_, _> = metadata
        .map(|(key, value)| (key.clone(), json_of(value)))
        .collect();
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "node": {"id": node.id, "cluster": node.cluster, "metadata": metadata},
        // Every span is reported at once.
        "layered_runtime": {"layers": [
            {"name": "test", "static_layer": {"tracing.zipkin.min_flush_spans": 1}},
        ]},
        "dynamic_resources": {
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [{
            "name": "xds-grpc",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type":
                        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {
                    "address": xds.ip().to_string(), "port_value": xds.port(),
                }}}},
            ]}]},
        }]},
    })
    .to_string()
}

fn json_of(value: &Value) -> serde_json::Value {
    match &value.kind {
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::StructValue(fields)) => {
            let fields = fields.fields.iter();
            fields
                .map(|(key, value)| (key.clone(), json_of(value)))
                .collect()
        }
        other => panic!("nodes have texts and structures only: {other:?}"),
    }
}
