//! What good files become.

use periplus_resources::{JwksSource, Parsed, Protocol, Spec, parse_mesh_config, parse_resources};
use proptest::prelude::*;

fn parse(file: &str, text: &str) -> Parsed {
    let parsed = parse_resources(file, text);
    assert_eq!(parsed.errors, [], "{file}");
    parsed
}

/// Istio's own files of the Bookinfo sample are taken as they are.
#[test]
fn bookinfo_networking() {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../samples/bookinfo/networking"
    );
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 15);
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parsed = parse(name, &std::fs::read_to_string(path).unwrap());
        assert!(!parsed.resources.is_empty(), "{name}");
        if [
            "bookinfo-gateway.yaml",
            "virtual-service-reviews-test-v2.yaml",
        ]
        .contains(&name)
        {
            insta::assert_debug_snapshot!(name, parsed.resources);
        }
    }
}

/// Kinds of others have names of ours.
#[test]
fn kinds_of_other_groups_are_somebody_elses() {
    for (version, kind) in [
        ("serving.knative.dev/v1", "Service"),
        ("networking.internal.knative.dev/v1alpha1", "Ingress"),
        ("policy.linkerd.io/v1beta3", "HTTPRoute"),
        ("gateway.solo.io/v1", "VirtualService"),
    ] {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{template: {{spec: {{containers: []}}}}}}\n"
        );
        let parsed = parse("foreign.yaml", &text);
        assert_eq!(
            parsed.resources[0].spec,
            Spec::Other(kind.to_owned()),
            "{version}"
        );
    }
}

/// As Istio compares them: with the `hosts` as they are written; and a client that asks for a short name asks for that.
#[test]
fn server_names_are_among_the_hosts() {
    let full = "reviews.default.svc.cluster.local";
    for (hosts, name) in [
        ("reviews", "reviews"),
        ("reviews", full),
        (full, full),
        ("'*.example.com'", "a.example.com"),
    ] {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  \
             hosts: [{hosts}]\n  tls: [{{match: [{{sniHosts: [{name}]}}], route: [{{destination: {{host: reviews}}}}]}}]\n"
        );
        let parsed = parse("mesh.yaml", &text);
        let Spec::VirtualService(rule) = &parsed.resources[0].spec else {
            panic!("{parsed:?}");
        };
        let found = &rule.tls[0].matches[0].sni_hosts;
        assert_eq!(found[0].as_str(), name, "{hosts}");
    }
    // In full it is not among what is short, as in Istio.
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [{full}]\n  \
         tls: [{{match: [{{sniHosts: [reviews]}}], route: [{{destination: {{host: reviews}}}}]}}]\n"
    );
    let errors = parse_resources("mesh.yaml", &text).errors;
    assert!(
        errors[0]
            .to_string()
            .contains("`reviews` is not among the `hosts`"),
        "{errors:?}"
    );
}

#[test]
fn policies_for_a_gateway() {
    for (kind, group) in [
        ("AuthorizationPolicy", "security.istio.io"),
        ("RequestAuthentication", "security.istio.io"),
        ("Telemetry", "telemetry.istio.io"),
    ] {
        let text = format!(
            "apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  targetRefs: [{{group: \
             gateway.networking.k8s.io, kind: Gateway, name: edge}}]\n"
        );
        let parsed = parse("mesh.yaml", &text);
        let targets = match &parsed.resources[0].spec {
            Spec::AuthorizationPolicy(policy) => &policy.targets,
            Spec::RequestAuthentication(policy) => &policy.targets,
            Spec::Telemetry(telemetry) => &telemetry.targets,
            other => panic!("{other:?}"),
        };
        let names: Vec<_> = targets.iter().map(|target| &*target.name).collect();
        assert_eq!(names, ["edge"], "{kind}");
    }
}

/// A key of tokens may be a secret.
#[test]
fn keys_of_tokens_are_not_shown() {
    let secret = "c2VjcmV0".repeat(6);
    for (keys, is_read) in [
        (
            format!(r#"{{"keys": [{{"kty": "oct", "k": "{secret}"}}]}}"#),
            true,
        ),
        // No hash is as short as that, and no JSON ends like this.
        (
            format!(r#"{{"keys": [{{"kty": "oct", "alg": "HS512", "k": "{secret}"}}]}}"#),
            false,
        ),
        (
            format!(r#"{{"keys": [{{"kty": "oct", "k": "{secret}"}}"#),
            false,
        ),
        (format!(r#"{{"keys": "{secret}"}}"#), false),
    ] {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a}}\nspec: \
             {{jwtRules: [{{issuer: me, jwks: '{keys}'}}]}}\n"
        );
        let parsed = parse_resources("mesh.yaml", &text);
        assert_eq!(parsed.errors.is_empty(), is_read, "{keys}");
        assert_eq!(parsed.resources.len(), usize::from(is_read), "{keys}");
        let shown = format!("{parsed:?}");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
}

/// Without keys an issuer is asked for them, if that is possible.
#[test]
fn issuers_that_are_asked_for_their_keys() {
    for (issuer, timeout, seconds) in [
        ("https://accounts.google.com", "", 5),
        ("http://127.0.0.1:8080/realms/a", "timeout: 2s, ", 2),
    ] {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: a}}\nspec: \
             {{jwtRules: [{{{timeout}issuer: '{issuer}'}}]}}\n"
        );
        let parsed = parse("mesh.yaml", &text);
        let Spec::RequestAuthentication(rules) = &parsed.resources[0].spec else {
            panic!("{parsed:?}");
        };
        let timeout = std::time::Duration::from_secs(seconds);
        assert_eq!(
            rules.rules[0].keys,
            JwksSource::Discovered { timeout },
            "{issuer}"
        );
    }
}

/// Istio's order: what is said, the name, ports whose servers speak first, and else one has to look.
#[test]
fn protocols() {
    use Protocol::{Detected, Http, Http2, Tcp, Tls};
    let cases = [
        ("8080", "http", "", Http),
        ("8080", "http-web", "", Http),
        ("8080", "web", "HTTP", Http),
        ("8080", "grpc-web-api", "", Http2),
        ("8080", "grpc", "", Http2),
        ("8080", "http2-a", "", Http2),
        ("8080", "tcp-a", "GRPC-Web", Http2),
        ("8080", "https", "", Tls),
        ("8080", "tls-a", "", Tls),
        ("8080", "x", "https", Tls),
        ("8080", "tcp", "", Tcp),
        ("8080", "mysql-db", "", Tcp),
        ("8080", "mongo", "", Tcp),
        ("8080", "redis", "", Tcp),
        ("8080", "web", "", Detected),
        ("3306", "db", "", Tcp),
        ("3306", "http-db", "", Http),
        ("27017", "db", "", Tcp),
    ];
    for (number, name, protocol, expected) in cases {
        let said = match protocol {
            "" => String::new(),
            said => format!(", protocol: {said}"),
        };
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  \
             hosts: [a.example]\n  resolution: STATIC\n  \
             ports: [{{number: {number}, name: {name}{said}}}]\n"
        );
        let parsed = parse("mesh.yaml", &text);
        let Spec::ServiceEntry(service) = &parsed.resources[0].spec else {
            panic!("{parsed:?}");
        };
        assert_eq!(
            service.ports[0].protocol, expected,
            "{number} {name} {protocol}"
        );
    }
}

#[test]
fn local_mesh() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: reviews
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: 9080
    name: http
    protocol: HTTP
  workloadSelector:
    labels:
      app: reviews
---
apiVersion: networking.istio.io/v1beta1
kind: WorkloadEntry
metadata:
  name: reviews-v1
  labels: {team: shop, app: overridden}
spec:
  address: 127.0.0.1
  labels: {app: reviews, version: v1}
  serviceAccount: bookinfo-reviews
  ports: {http: 19081}
---
apiVersion: networking.istio.io/v1alpha3
kind: Sidecar
metadata: {name: reviews-v1}
spec:
  workloadSelector: {labels: {app: reviews, version: v1}}
  ingress:
  - port: {number: 19081, name: http, protocol: HTTP}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:29081
  egress:
  - port: {number: 39081, name: http-proxy, protocol: HTTP_PROXY}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ["*/*"]
---
{
	"apiVersion": "networking.istio.io/v1",
	"kind": "DestinationRule",
	"metadata": {"name": "reviews", "annotations": {"a": "b"}, "creationTimestamp": null},
	"spec": {
		"host": "reviews",
		"trafficPolicy": {
			"loadBalancer": {"simple": "ROUND_ROBIN"},
			"connectionPool": {
				"tcp": {"maxConnections": 1, "connectTimeout": "250ms"},
				"http": {"http1MaxPendingRequests": "2", "http2MaxRequests": 3}
			}
		},
		"subsets": [{"name": "v1", "labels": {"version": "v1"}}]
	}
}
"#;
    insta::assert_debug_snapshot!(parse("mesh.yaml", text).resources);
}

#[test]
fn virtual_service_with_everything() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews, "*.Example.org"]
  gateways: [mesh, front, ops/edge]
  export_to: [".", other]
  http:
  - name: canary
    match:
    - name: jason
      uri: {prefix: ""}
      method: {exact: GET}
      authority: {prefix: reviews}
      headers: {End-User: {exact: jason}, x-beta: {}, cookie: {regex: '^(.*;)?user=.*$'}}
      port: 9080
      sourceLabels: {app: productpage}
      sourceNamespace: shop
      gateways: [mesh]
    route:
    - destination: {host: reviews, subset: v2, port: {number: 9080}}
      weight: 90
    - destination: {host: reviews.other.svc.cluster.local}
      weight: 10
    - destination: {host: unused}
      weight: 0
    timeout: 1m30s
  - directResponse: {status: 503, body: {string: closed}}
    retries: {attempts: 0}
  - match:
    - queryParams: {q: {exact: x}, flag: {}}
      withoutHeaders: {x-old: {}, end-user: {exact: jason}}
      scheme: {exact: https}
      ignoreUriCase: true
    route:
    - destination: {host: reviews}
      headers: {request: {remove: [x-a]}}
    rewrite: {uri: /v2}
    headers:
      request: {set: {Host: other, x-b: "1"}, add: {x-c: "2"}}
      response: {remove: [server]}
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "5xx,409", backoff: 10ms}
    fault:
      delay: {percentage: {value: 0.1}, fixedDelay: 7s}
      abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}
  - redirect: {uri: /there, authority: other, scheme: https, port: 8443, redirectCode: 308}
"#;
    insta::assert_debug_snapshot!(parse("reviews.yaml", text).resources);
}

#[test]
fn mesh_config() {
    let text = r#"
extensionProviders:
- name: periplus
  zipkin: {service: istio-system/zipkin.istio-system.svc.cluster.local, port: 9411}
- name: otlp
  opentelemetry:
    service: collector.istio-system.svc.cluster.local
    port: 4318
    maxTagLength: 128
    http: {path: /v1/traces, timeout: 10s}
defaultProviders:
  tracing: [periplus]
defaultConfig:
  tracing:
    sampling: 12.5
    customTags:
      team: {literal: {value: shop}}
      zone: {environment: {name: ZONE, defaultValue: a}}
      user: {header: {name: End-User}}
connectTimeout: 2s
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
"#;
    insta::assert_debug_snapshot!(parse_mesh_config("mesh-config.yaml", text).unwrap());
    assert_eq!(
        parse_mesh_config("empty.yaml", "# nothing\n").unwrap(),
        periplus_resources::MeshConfig::default()
    );
}

#[test]
fn comments_and_empty_documents_are_no_resources() {
    for text in ["", "# nothing\n", "---\n---\n# x\n---\n"] {
        assert_eq!(parse("empty.yaml", text).resources, [], "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = parse_resources("x.yaml", &text);
        let _ = parse_mesh_config("x.yaml", &text);
    }

    /// Half-written and damaged files: cut off anywhere, with one byte replaced.
    #[test]
    fn damaged_files_are_read_or_refused(cut in 0usize..2000, at in 0usize..2000, byte in 1u8..128) {
        let text = include_str!("../../../../samples/bookinfo/networking/destination-rule-all.yaml");
        let mut bytes = text.as_bytes()[..cut.min(text.len())].to_vec();
        if let Some(damaged) = bytes.get_mut(at) {
            *damaged = byte;
        }
        let parsed = parse_resources("x.yaml", &String::from_utf8_lossy(&bytes));
        for error in parsed.errors {
            prop_assert!(error.position.line >= 1 && error.position.column >= 1);
        }
    }
}
