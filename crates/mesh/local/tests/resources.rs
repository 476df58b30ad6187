//! The generated resources, to the letter: they are what `docs/local-mesh.md` promises.

use std::collections::BTreeMap;

use periplus_local::{Mesh, PortPlan, Workload};

fn mesh() -> Mesh {
    let workload = |app: &str, version: &str| Workload {
        name: format!("{app}-{version}"),
        app: app.to_owned(),
        version: version.to_owned(),
        service_account: format!("bookinfo-{app}"),
        service_port: 9080,
        instance: None,
        annotations: BTreeMap::new(),
    };
    let workloads = vec![
        workload("productpage", "v1"),
        workload("reviews", "v1"),
        workload("reviews", "v2"),
    ];
    let names = workloads.iter().map(|workload| workload.name.as_str());
    Mesh {
        namespace: "default".to_owned(),
        ports: PortPlan::new(None, names).expect("default ports exist"),
        workloads,
    }
}

#[test]
fn resources() {
    for (name, text) in mesh().resources() {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn mesh_config() {
    insta::assert_snapshot!("mesh-config.yaml", mesh().mesh_config());
}

#[test]
fn the_control_plane_understands_them() {
    let mesh = mesh();
    let mut kinds = Vec::new();
    for (name, text) in mesh.resources() {
        let parsed = periplus_resources::parse_resources(name, &text);
        assert_eq!(parsed.errors, []);
        kinds.extend(
            parsed
                .resources
                .iter()
                .map(|resource| resource.meta.to_string()),
        );
    }
    assert_eq!(kinds.len(), 2 + 3 + 3 + 1, "{kinds:?}");
    let config = periplus_resources::parse_mesh_config("mesh", &mesh.mesh_config());
    let config = config.expect("a valid configuration");
    assert!(config.tracing_provider().is_some());
}

#[test]
fn several_of_one_version_are_told_apart() {
    let mut mesh = mesh();
    mesh.workloads.truncate(2);
    for (workload, number) in mesh.workloads.iter_mut().zip(0..) {
        workload.app = "reviews".to_owned();
        workload.instance = Some(number);
    }
    let labels = &mesh.sidecar(&mesh.workloads[1]).metadata["LABELS"];
    let expected = serde_json::json!({"app": "reviews", "version": "v1", "instance": "1"});
    assert_eq!(*labels, expected);
    for (name, text) in mesh.resources() {
        let parsed = periplus_resources::parse_resources(name, &text);
        assert_eq!(parsed.errors, [], "{text}");
        let expected = usize::from(["workloads.yaml", "sidecars.yaml"].contains(&name));
        assert_eq!(text.matches("instance: \"1\"").count(), expected, "{text}");
    }
}

#[test]
fn nodes() {
    let mesh = mesh();
    let sidecar = mesh.sidecar(&mesh.workloads[1]);
    assert_eq!(
        sidecar.id,
        "sidecar~127.0.0.1~reviews-v1.default~default.svc.cluster.local"
    );
    assert_eq!(sidecar.cluster, "reviews.default");
    assert_eq!(sidecar.metadata["LABELS"]["version"], "v1");
    assert_eq!(sidecar.metadata["SERVICE_ACCOUNT"], "bookinfo-reviews");
    let gateway = mesh.gateway();
    assert_eq!(
        gateway.id,
        "router~127.0.0.1~istio-ingressgateway.istio-system~istio-system.svc.cluster.local"
    );
    assert_eq!(gateway.cluster, "istio-ingressgateway.istio-system");
    assert_eq!(gateway.metadata["LABELS"]["istio"], "ingressgateway");
}
