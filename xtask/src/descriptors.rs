//! What Envoy's messages are made of, for the admin pages of the proxy that show them as JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::peers::{self, Need, PYTHON};
use crate::shell::{command, run};

/// The file that the proxy is built with.
const TARGET: &str = "crates/mesh/proxy/data/envoy-descriptors.binpb";
/// The packages whose types the proxy reads; what they refer to is added.
const PACKAGES: &[&str] = &[
    "config/accesslog/v3",
    "config/cluster/v3",
    "config/core/v3",
    "config/endpoint/v3",
    "config/listener/v3",
    "config/ratelimit/v3",
    "config/rbac/v3",
    "config/route/v3",
    "config/trace/v3",
    "extensions/access_loggers/file/v3",
    "extensions/access_loggers/filters/cel/v3",
    "extensions/access_loggers/open_telemetry/v3",
    "extensions/access_loggers/stream/v3",
    "extensions/clusters/dynamic_forward_proxy/v3",
    "extensions/common/dynamic_forward_proxy/v3",
    "extensions/filters/common/fault/v3",
    "extensions/filters/http/buffer/v3",
    "extensions/filters/http/cors/v3",
    "extensions/filters/http/dynamic_forward_proxy/v3",
    "extensions/filters/http/ext_authz/v3",
    "extensions/filters/http/fault/v3",
    "extensions/filters/http/grpc_stats/v3",
    "extensions/filters/http/health_check/v3",
    "extensions/filters/http/jwt_authn/v3",
    "extensions/filters/http/local_ratelimit/v3",
    "extensions/filters/http/lua/v3",
    "extensions/filters/http/ratelimit/v3",
    "extensions/filters/http/rbac/v3",
    "extensions/filters/http/router/v3",
    "extensions/filters/http/stateful_session/v3",
    "extensions/filters/listener/http_inspector/v3",
    "extensions/filters/listener/local_ratelimit/v3",
    "extensions/filters/listener/original_dst/v3",
    "extensions/filters/listener/original_src/v3",
    "extensions/filters/listener/proxy_protocol/v3",
    "extensions/filters/listener/tls_inspector/v3",
    "extensions/filters/network/ext_authz/v3",
    "extensions/filters/network/http_connection_manager/v3",
    "extensions/filters/network/local_ratelimit/v3",
    "extensions/filters/network/rbac/v3",
    "extensions/filters/network/sni_dynamic_forward_proxy/v3",
    "extensions/filters/network/tcp_proxy/v3",
    "extensions/http/stateful_session/cookie/v3",
    "extensions/http/stateful_session/header/v3",
    "extensions/load_balancing_policies/common/v3",
    "extensions/load_balancing_policies/least_request/v3",
    "extensions/load_balancing_policies/maglev/v3",
    "extensions/load_balancing_policies/pick_first/v3",
    "extensions/load_balancing_policies/random/v3",
    "extensions/load_balancing_policies/ring_hash/v3",
    "extensions/load_balancing_policies/round_robin/v3",
    "extensions/load_balancing_policies/subset/v3",
    "extensions/load_balancing_policies/wrr_locality/v3",
    "extensions/network/dns_resolver/cares/v3",
    "extensions/path/match/uri_template/v3",
    "extensions/request_id/uuid/v3",
    "extensions/retry/host/previous_hosts/v3",
    "extensions/retry/priority/previous_priorities/v3",
    "extensions/tracers/opentelemetry/resource_detectors/v3",
    "extensions/tracers/opentelemetry/samplers/v3",
    "extensions/transport_sockets/proxy_protocol/v3",
    "extensions/transport_sockets/raw_buffer/v3",
    "extensions/transport_sockets/tls/v3",
    "extensions/upstreams/http/v3",
    "type/matcher/v3",
    "type/tracing/v3",
    "type/v3",
];
/// Where the files of a crate's checkout are that others include.
const ROOTS: &[&str] = &[
    "data-plane-api",
    "googleapis",
    "protoc-gen-validate",
    "xds",
    "cel-spec/proto",
    "client_model",
    "opentelemetry-proto",
];

/// Makes the file anew from the files that come with the crate of Envoy's types, which the proxy reads them by.
pub(crate) fn make() -> anyhow::Result<()> {
    peers::install(&[Need::GrpcioTools])?;
    let proto = sources()?;
    let envoy = proto.join("data-plane-api/envoy");
    let mut files = Vec::new();
    for package in PACKAGES {
        let directory = envoy.join(package);
        let found = fs::read_dir(&directory)
            .with_context(|| format!("there is no {}", directory.display()))?;
        for file in found {
            let file = file?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                files.push(file);
            }
        }
    }
    files.sort();
    let mut protoc = command(PYTHON);
    protoc.args(["-m", "grpc_tools.protoc", "--include_imports"]);
    protoc.arg(format!("--descriptor_set_out={TARGET}"));
    for root in ROOTS {
        protoc.arg("-I").arg(proto.join(root));
    }
    run(protoc.args(files))
}

/// The folder `proto` of the crate `envoy-types`.
fn sources() -> anyhow::Result<PathBuf> {
    const FIND: &str = "
import json, os, sys
packages = json.load(sys.stdin)['packages']
[manifest] = [p['manifest_path'] for p in packages if p['name'] == 'envoy-types']
print(os.path.dirname(manifest))
";
    let mut metadata = command("cargo metadata --format-version 1 --locked")
        .stdout(Stdio::piped())
        .spawn()?;
    let packages = metadata.stdout.take().context("no standard output")?;
    let found = command(PYTHON)
        .args(["-c", FIND])
        .stdin(packages)
        .output()?;
    ensure!(metadata.wait()?.success(), "cargo metadata failed");
    ensure!(found.status.success(), "there is no crate envoy-types");
    let directory = String::from_utf8(found.stdout)?;
    Ok(Path::new(directory.trim()).join("proto"))
}
