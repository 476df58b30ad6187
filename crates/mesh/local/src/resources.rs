//! The mesh as YAML, in Istio's vocabulary.
//!
//! These files are read by people at least as much as by the control plane: so they are written
//! the way a person would.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::mesh::{DOMAIN, Mesh, SYSTEM, Workload};

const API: &str = "networking.istio.io/v1";

pub(crate) fn services(mesh: &Mesh) -> String {
    let namespace = &mesh.namespace;
    let services: BTreeMap<&str, u16> = mesh
        .workloads
        .iter()
        .map(|workload| (workload.app.as_str(), workload.service_port))
        .collect();
    let mut text = String::from("# The services: what callers call, and which workloads answer.\n");
    for (index, (app, port)) in services.into_iter().enumerate() {
        separate(&mut text, index);
        push(
            &mut text,
            format_args!(
                "apiVersion: {API}
kind: ServiceEntry
metadata:
  name: {app}
  namespace: {namespace}
spec:
  hosts:
  - {app}.{namespace}.svc.{DOMAIN}
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: {port}
    name: http
    protocol: HTTP
  workloadSelector:
    labels:
      app: {app}
"
            ),
        );
    }
    text
}

pub(crate) fn workloads(mesh: &Mesh) -> String {
    let namespace = &mesh.namespace;
    let mut text = String::from(
        "# The workloads. The port is that of the workload's sidecar, which hands requests on to\n\
         # the application (see sidecars.yaml).\n",
    );
    for (index, workload) in mesh.workloads.iter().enumerate() {
        separate(&mut text, index);
        let inbound = mesh.ports.workloads[&workload.name].inbound;
        push(
            &mut text,
            format_args!(
                "apiVersion: {API}
kind: WorkloadEntry
metadata:
  name: {name}
  namespace: {namespace}
spec:
  address: 127.0.0.1
  labels:
{labels}  serviceAccount: {account}
  ports:
    http: {inbound}
",
                name = workload.name,
                labels = labels(workload, "    "),
                account = workload.service_account,
            ),
        );
    }
    text
}

pub(crate) fn sidecars(mesh: &Mesh) -> String {
    let namespace = &mesh.namespace;
    let mut text = String::from(
        "# Where each sidecar listens: `ingress` for requests to its application, `egress` for\n\
         # requests of its application (its `http_proxy`).\n",
    );
    for (index, workload) in mesh.workloads.iter().enumerate() {
        separate(&mut text, index);
        let ports = mesh.ports.workloads[&workload.name];
        push(
            &mut text,
            format_args!(
                "apiVersion: {API}
kind: Sidecar
metadata:
  name: {name}
  namespace: {namespace}
spec:
  workloadSelector:
    labels:
{labels}  ingress:
  - port:
      number: {inbound}
      protocol: HTTP
      name: http
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{application}
  egress:
  - port:
      number: {outbound}
      protocol: HTTP_PROXY
      name: http-proxy
    bind: 127.0.0.1
    captureMode: NONE
    hosts:
    - \"*/*\"
",
                name = workload.name,
                labels = labels(workload, "      "),
                inbound = ports.inbound,
                application = ports.app,
                outbound = ports.outbound,
            ),
        );
    }
    text
}

pub(crate) fn trace_backend(mesh: &Mesh) -> String {
    let mut text = String::from("# Where the proxies report their spans.\n");
    let port = mesh.ports.backend.zipkin;
    push(
        &mut text,
        format_args!(
            "apiVersion: {API}
kind: ServiceEntry
metadata:
  name: zipkin
  namespace: {SYSTEM}
spec:
  hosts:
  - zipkin.{SYSTEM}.svc.{DOMAIN}
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - number: {port}
    name: http
    protocol: HTTP
  endpoints:
  - address: 127.0.0.1
"
        ),
    );
    text
}

pub(crate) fn mesh_config(mesh: &Mesh) -> String {
    let mut text = String::from("# Istio's MeshConfig.\n");
    let port = mesh.ports.backend.zipkin;
    push(
        &mut text,
        format_args!(
            "extensionProviders:
- name: periplus
  zipkin:
    service: zipkin.{SYSTEM}.svc.{DOMAIN}
    port: {port}
defaultProviders:
  tracing:
  - periplus
defaultConfig:
  tracing:
    sampling: 100
"
        ),
    );
    text
}

/// The labels of a workload, one in a line. Numbers are quoted: to YAML they would be no text.
fn labels(workload: &Workload, indent: &str) -> String {
    let line = |(name, value): (&str, String)| match value.parse::<f64>() {
        Ok(_) => format!("{indent}{name}: \"{value}\"\n"),
        Err(_) => format!("{indent}{name}: {value}\n"),
    };
    workload.labels().into_iter().map(line).collect()
}

fn separate(text: &mut String, index: usize) {
    if index > 0 {
        text.push_str("---\n");
    }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("writing to a string cannot fail");
}
