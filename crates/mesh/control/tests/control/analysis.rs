//! What `analyze` finds: mistakes that users make, each with its code, and nothing in what is right.

use std::collections::BTreeSet;

use periplus_control::{Described, Problem, Severity};
use periplus_resources::parse_mesh_config;

use crate::support::{MESH_CONFIG, Plan, networking};

/// Bookinfo with its gateway and subsets, and this besides.
fn problems(more: &str, mesh: &str) -> Vec<Problem> {
    let mut described = Described::default();
    for (name, text) in Plan::fixed().files() {
        described.add(name, &text);
    }
    for name in ["destination-rule-all.yaml", "bookinfo-gateway.yaml"] {
        described.add(name, &networking(name));
    }
    described.add("more.yaml", more);
    described.mesh = parse_mesh_config("mesh.yaml", mesh).expect("a good mesh configuration");
    described.analyse().1
}

/// Their codes, and what they say.
fn analysed(more: &str, mesh: &str) -> Vec<String> {
    let line = |problem: &Problem| format!("{} {problem}", problem.code.id);
    problems(more, mesh).iter().map(line).collect()
}

/// A resource in one line.
fn resource(kind: &str, name: &str, spec: &str) -> String {
    let group = match kind {
        "Telemetry" => "telemetry.istio.io",
        "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication" => {
            "security.istio.io"
        }
        _ => "networking.istio.io",
    };
    format!("apiVersion: {group}/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn rule(name: &str, spec: &str) -> String {
    resource("VirtualService", name, spec)
}

fn kubernetes(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: shop}}\nspec: {spec}\n---\n")
}

const TO_REVIEWS: &str = "route: [{destination: {host: reviews}}]";

#[test]
fn each_mistake_is_found_with_its_code() {
    let with = |text: &str| text.replace("TO_REVIEWS", TO_REVIEWS);
    let of_reviews = |http: &str| {
        rule(
            "mine",
            &with(&format!("{{hosts: [reviews], http: [{http}]}}")),
        )
    };
    let two = |kind: &str, spec: &str| resource(kind, "one", spec) + &resource(kind, "two", spec);
    let rich = resource(
        "ServiceEntry",
        "rich",
        "{hosts: [rich.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http}, {number: 81, \
         name: http-b}], endpoints: [{address: 127.0.0.9}]}",
    );
    let outside = "{hosts: [db.example], resolution: DNS, ports: [{number: 3306, name: tcp}]}";
    let ports = |ports: &str| kubernetes(&format!("{{ports: [{ports}]}}"));
    let gateway = |name: &str, hosts: &str, port: u16| {
        let spec = format!(
            "{{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, \
             hosts: [{hosts}]}}]}}"
        );
        resource("Gateway", name, &spec)
    };
    let annotated = |annotation: &str| {
        of_reviews("{TO_REVIEWS}").replace(
            "name: mine",
            &format!("name: mine, annotations: {{{annotation}}}"),
        )
    };
    let cases: Vec<(&str, String, &[&str])> = vec![
        (
            "a host that nobody serves",
            of_reviews("{route: [{destination: {host: reviws}}]}"),
            &["IST0101"],
        ),
        (
            "a subset that nobody defines",
            of_reviews("{route: [{destination: {host: reviews, subset: v9}}]}"),
            &["IST0101"],
        ),
        (
            "a port that the service does not have",
            of_reviews("{route: [{destination: {host: reviews, port: {number: 80}}}]}"),
            &["IST0101"],
        ),
        (
            "a mirror that is not there",
            of_reviews("{TO_REVIEWS, mirror: {host: nobody}}"),
            &["IST0101"],
        ),
        (
            "a gateway that is not there",
            rule(
                "mine",
                &with("{hosts: [a.example], gateways: [missing], http: [{TO_REVIEWS}]}"),
            ),
            &["IST0101"],
        ),
        (
            "a gateway of a match that is not there",
            of_reviews("{match: [{gateways: [missing]}], TO_REVIEWS}, {TO_REVIEWS}"),
            &["IST0101"],
        ),
        (
            "a provider of traces that is not there",
            resource(
                "Telemetry",
                "mine",
                "{tracing: [{providers: [{name: periplu}]}]}",
            ),
            &["IST0101"],
        ),
        (
            "a provider of logs that is not there",
            resource(
                "Telemetry",
                "mine",
                "{accessLogging: [{providers: [{name: file}]}]}",
            ),
            &["IST0101"],
        ),
        (
            "a provider that asks nobody",
            resource(
                "AuthorizationPolicy",
                "mine",
                "{action: CUSTOM, provider: {name: opa}, rules: [{}]}",
            ),
            &["IST0101"],
        ),
        (
            "keys from a host that is not there",
            resource(
                "RequestAuthentication",
                "mine",
                "{jwtRules: [{issuer: me, jwksUri: 'http://keys.example/jwks'}]}",
            ),
            &["IST0101"],
        ),
        (
            "an unknown field",
            rule("mine", &with("{hosts: [reviews], https: [{TO_REVIEWS}]}")),
            &["IST0106"],
        ),
        (
            "no hosts",
            rule("mine", &with("{gateways: [a], http: [{TO_REVIEWS}]}")),
            &["IST0106"],
        ),
        ("what is no YAML", "kind: [".into(), &["IST0106"]),
        (
            "a kind that nobody knows",
            resource("VirtualServce", "mine", "{}"),
            &["IST0106"],
        ),
        (
            "an annotation that nobody knows",
            annotated("istio.io/dry-rn: 'true'"),
            &["IST0108"],
        ),
        (
            "two VirtualServices of one host",
            two(
                "VirtualService",
                &with("{hosts: [reviews], http: [{TO_REVIEWS}]}"),
            ),
            &["IST0109"],
        ),
        (
            "two Sidecars of one workload",
            resource(
                "Sidecar",
                "mine",
                "{workloadSelector: {labels: {app: details}}, egress: [{hosts: ['*/*']}]}",
            ),
            &["IST0110"],
        ),
        (
            "two Sidecars for all",
            two("Sidecar", "{egress: [{hosts: ['*/*']}]}"),
            &["IST0111"],
        ),
        (
            "several ports and none chosen",
            rich.clone() + &of_reviews("{route: [{destination: {host: rich}}]}"),
            &["IST0112"],
        ),
        (
            "a port whose name says nothing",
            ports("{port: 80, name: web}"),
            &["IST0118"],
        ),
        ("a port without a name", ports("{port: 80}"), &["IST0118"]),
        (
            "a selector that selects nobody",
            resource(
                "AuthorizationPolicy",
                "mine",
                "{selector: {matchLabels: {app: reviws}}, rules: [{}]}",
            ),
            &["IST0127"],
        ),
        (
            "a Telemetry that selects nobody",
            resource(
                "Telemetry",
                "mine",
                "{selector: {matchLabels: {app: x}}, tracing: [{randomSamplingPercentage: 1}]}",
            ),
            &["IST0127"],
        ),
        (
            "TLS that believes anybody",
            resource(
                "DestinationRule",
                "mine",
                "{host: rich, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true}}}",
            ) + &rich,
            &["IST0128"],
        ),
        (
            "a rule behind one for everything",
            of_reviews("{TO_REVIEWS}, {match: [{uri: {prefix: /a}}], TO_REVIEWS}"),
            &["IST0130"],
        ),
        (
            "a rule twice",
            of_reviews(
                "{match: [{uri: {exact: /a}}], TO_REVIEWS}, {match: [{uri: {exact: /a}}], TO_REVIEWS}, {TO_REVIEWS}",
            ),
            &["IST0130"],
        ),
        (
            "a rule behind a wider one",
            of_reviews(
                "{match: [{uri: {prefix: /a}}], TO_REVIEWS}, {match: [{uri: {prefix: /a/b}, headers: {x: {exact: y}}}], TO_REVIEWS}",
            ),
            &["IST0130"],
        ),
        (
            "a match of two behind a wider one",
            of_reviews(
                "{match: [{uri: {prefix: /a}}], TO_REVIEWS}, {match: [{uri: {prefix: /a/b}}, {uri: {prefix: /c}}], TO_REVIEWS}",
            ),
            &["IST0131"],
        ),
        (
            "a host that no gateway serves",
            gateway("narrow", "a.example", 8081)
                + &rule(
                    "mine",
                    &with("{hosts: [b.example], gateways: [narrow], http: [{TO_REVIEWS}]}"),
                ),
            &["IST0162", "IST0132"],
        ),
        (
            "TCP without addresses",
            resource("ServiceEntry", "mine", outside),
            &["IST0134"],
        ),
        (
            "two Gateways for one host",
            gateway("mine", "'*'", 8080),
            &["IST0145"],
        ),
        (
            "a name outside whose port says nothing",
            kubernetes(
                "{type: ExternalName, externalName: a.example, ports: [{port: 80, name: web}]}",
            ),
            &["IST0150"],
        ),
        (
            "two Telemetries of one workload",
            two(
                "Telemetry",
                "{selector: {matchLabels: {app: reviews}}, tracing: [{randomSamplingPercentage: 1}]}",
            ),
            &["IST0159"],
        ),
        (
            "two Telemetries for all",
            two("Telemetry", "{tracing: [{randomSamplingPercentage: 1}]}"),
            &["IST0160"],
        ),
        (
            "access logs that go nowhere",
            resource("Telemetry", "mine", "{accessLogging: [{filter: {expression: response.code >= 400}}]}"),
            &["IST0157"],
        ),
        (
            "a Gateway on a port that its Service lacks",
            gateway("mine", "a.example", 8443),
            &["IST0162"],
        ),
        (
            "two PeerAuthentications for all",
            two("PeerAuthentication", "{mtls: {mode: STRICT}}"),
            &["IST0167"],
        ),
        (
            "a Secret without a certificate",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: shop}\nstringData: {tls.crt: a, tls.key: b}\n---\n".to_owned()
                + &resource(
                    "Gateway",
                    "mine",
                    "{selector: {shop: none}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: shop}}]}",
                ),
            &["PER0001", "IST0161"],
        ),
        (
            "a route of Gateway API to nobody",
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: mine}\nspec: {parentRefs: [{name: nobody}], rules: [{backendRefs: [{name: reviews, port: 9080}]}]}\n---\n".to_owned(),
            &["IST0171"],
        ),
        (
            "a server that is believed unseen, at one port",
            resource(
                "DestinationRule",
                "mine",
                "{host: details, trafficPolicy: {portLevelSettings: [{port: {number: 9080}, tls: {mode: SIMPLE, insecureSkipVerify: true}}]}}",
            ),
            &["IST0129"],
        ),
        (
            "a subset without workloads",
            of_reviews("{route: [{destination: {host: details, subset: v2}}]}"),
            &["IST0173"],
        ),
        (
            "a DestinationRule of nobody",
            resource("DestinationRule", "mine", "{host: review}"),
            &["IST0174"],
        ),
        (
            "one name twice",
            rule("mine", &with("{hosts: [reviews], http: [{TO_REVIEWS}]}")).repeat(2),
            &["PER0101"],
        ),
        (
            "one host twice",
            resource(
                "ServiceEntry",
                "mine",
                "{hosts: [reviews.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http}]}",
            ),
            &["PER0102"],
        ),
        (
            "a service of nobody",
            resource(
                "ServiceEntry",
                "mine",
                "{hosts: [x.default.svc.cluster.local], resolution: STATIC, ports: [{number: 80, name: http}], workloadSelector: {labels: {app: x}}}",
            ),
            &["PER0103"],
        ),
        (
            "a Deployment",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n".into(),
            &["PER0104"],
        ),
        (
            "an EnvoyFilter, a WasmPlugin, and what is no part of a mesh, in a List",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.istio.io/v1alpha3\n  kind: EnvoyFilter\n  metadata: {name: x}\n  spec: {anything: [1]}\n- apiVersion: extensions.istio.io/v1alpha1\n  kind: WasmPlugin\n  metadata: {name: x}\n- apiVersion: apps/v1\n  kind: StatefulSet\n  metadata: {name: x}\n- apiVersion: rbac.authorization.k8s.io/v1\n  kind: ClusterRole\n  metadata: {name: 'system:x'}\n".into(),
            &["PER0104"; 4],
        ),
        (
            "sampling of nothing",
            resource(
                "Telemetry",
                "mine",
                "{tracing: [{randomSamplingPercentage: 0}]}",
            ),
            &["PER0203"],
        ),
    ];
    for (name, text, expected) in &cases {
        let found = analysed(text, MESH_CONFIG);
        let codes: Vec<_> = found
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(codes, *expected, "{name}: {found:#?}");
    }
}

/// What `istioctl install` writes as the ConfigMap `istio`.
#[test]
fn the_mesh_configuration_of_a_stock_istio_is_taken() {
    const STOCK: &str = "accessLogFile: /dev/stdout
defaultConfig:
  discoveryAddress: istiod.istio-system.svc:15012
  proxyMetadata: {}
  terminationDrainDuration: 5s
  tracing: {}
defaultProviders: {metrics: [prometheus]}
enablePrometheusMerge: true
extensionProviders:
- {name: otel, envoyOtelAls: {service: opentelemetry-collector.observability.svc.cluster.local, port: 4317}}
- {name: skywalking, skywalking: {service: tracing.istio-system.svc.cluster.local, port: 11800}}
ingressControllerMode: STRICT
ingressSelector: ingressgateway
rootNamespace: istio-system
trustDomain: cluster.local
";
    let found = problems("", STOCK);
    assert!(
        found.iter().all(|one| one.code.id == "PER0104"),
        "{found:#?}"
    );
    let lines: Vec<_> = found
        .iter()
        .map(|one| one.diagnostic.position.line)
        .collect();
    assert_eq!(lines, [3, 4, 5, 8, 11, 12, 13], "{found:#?}");
}

#[test]
fn a_policy_behind_another_is_a_warning_as_in_istio() {
    let permissive = |name| resource("PeerAuthentication", name, "{mtls: {mode: PERMISSIVE}}");
    let found = problems(&(permissive("one") + &permissive("two")), MESH_CONFIG);
    let [problem] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(
        (problem.code.id, problem.severity),
        ("IST0167", Severity::Warning)
    );
}

#[test]
fn mistakes_about_traces_that_others_pass_over_in_silence() {
    let provider = |name: &str, kind: &str| format!("{{name: {name}, {kind}}}");
    let zipkin = "zipkin: {service: zipkin.istio-system.svc.cluster.local, port: 9411}";
    let with = |providers: &[String], rest: &str| {
        format!("extensionProviders: [{}]\n{rest}", providers.join(", "))
    };
    let traced = resource(
        "Telemetry",
        "mine",
        "{tracing: [{randomSamplingPercentage: 10}]}",
    );
    let otel = "opentelemetry: {service: zipkin.istio-system.svc.cluster.local, port: 9411, http: {path: /v1/traces, timeout: 1s}}";
    let b3 = zipkin.replace("port: 9411", "port: 9411, traceContextOption: USE_B3");
    for (name, text, mesh, expected) in [
        (
            "nobody names a provider (istio/istio#38920)",
            traced,
            with(&[provider("z", zipkin)], ""),
            "PER0202",
        ),
        (
            "the collector is not in the mesh (istio/istio#54436)",
            String::new(),
            with(
                &[provider(
                    "z",
                    &zipkin.replace("zipkin.istio", "zipkn.istio"),
                )],
                "defaultProviders: {tracing: [z]}",
            ),
            "PER0201",
        ),
        (
            "the collector has another port",
            String::new(),
            with(
                &[provider("z", &zipkin.replace("9411", "9412"))],
                "defaultProviders: {tracing: [z]}",
            ),
            "PER0201",
        ),
        (
            "the provider has another name (istio/istio#56180)",
            resource(
                "Telemetry",
                "mine",
                "{tracing: [{providers: [{name: zipkin}]}]}",
            ),
            with(&[provider("z", zipkin)], ""),
            "IST0101",
        ),
        (
            "some pass on B3 and others W3C (istio/istio#55172)",
            resource("Telemetry", "mine", "{tracing: [{providers: [{name: o}]}]}"),
            with(
                &[provider("z", &b3), provider("o", otel)],
                "defaultProviders: {tracing: [z]}",
            ),
            "PER0204",
        ),
    ] {
        let found = analysed(&text, &mesh);
        let codes: Vec<_> = found
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(codes, [expected], "{name}: {found:#?}");
    }
}

#[test]
fn a_resource_may_keep_what_is_found_about_it_to_itself() {
    let text = rule(
        "mine",
        "{hosts: [reviews], http: [{route: [{destination: {host: reviws}}]}]}",
    );
    let annotated = |codes: &str| {
        let annotation =
            format!("name: mine, annotations: {{galley.istio.io/analyze-suppress: '{codes}'}}");
        text.replace("name: mine", &annotation)
    };
    for (codes, expected) in [("IST0102", 1), ("IST0102, IST0101", 0), ("*", 0)] {
        let found = analysed(&annotated(codes), MESH_CONFIG);
        assert_eq!(found.len(), expected, "{codes}: {found:#?}");
    }
}

/// They need workloads that Istio's own Bookinfo does not have before one adds them.
const FOR_OTHERS: [&str; 4] = [
    "virtual-service-details-v2.yaml",
    "virtual-service-ratings-db.yaml",
    "virtual-service-ratings-mysql-vm.yaml",
    "virtual-service-ratings-mysql.yaml",
];

#[test]
fn nothing_is_found_in_the_stock_samples() {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../samples/bookinfo/networking"
    );
    let files = std::fs::read_dir(directory).expect("the samples");
    let names = files.map(|file| {
        file.expect("a file")
            .file_name()
            .into_string()
            .expect("a name")
    });
    let mut names: BTreeSet<String> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for always in ["destination-rule-all.yaml", "bookinfo-gateway.yaml"] {
        assert!(names.remove(always), "{always}");
    }
    // The same resource as one of those that are always there.
    assert!(names.remove("destination-rule-reviews.yaml"));
    assert_eq!(analysed("", MESH_CONFIG), [""; 0]);
    for name in names {
        let found = analysed(&networking(&name), MESH_CONFIG);
        let codes: BTreeSet<_> = found
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let expected: &[&str] = match name.as_str() {
            name if FOR_OTHERS.contains(&name) => &["IST0173"],
            // The tutorial's rule after the one that aborts everything.
            "fault-injection-details-v1.yaml" => &["IST0130"],
            _ => &[],
        };
        assert_eq!(
            codes.into_iter().collect::<Vec<_>>(),
            expected,
            "{name}: {found:#?}"
        );
    }
}
