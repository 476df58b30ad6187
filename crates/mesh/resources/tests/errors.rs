//! What a user reads when something is wrong: each case is a whole file, and the golden file shows
//! every complaint about it.

#[path = "errors/gateway_api.rs"]
mod gateway_api;

use periplus_resources::{parse_mesh_config, parse_resources};

/// A VirtualService whose `spec` is given, indented by two.
fn virtual_service(spec: &str) -> String {
    with_spec("VirtualService", "reviews", spec)
}

fn with_spec(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{spec}"
    )
}

#[test]
fn resources() {
    let service = |rest: &str| {
        let spec = format!(
            "  hosts: [reviews.default.svc.cluster.local]\n  \
             ports: [{{number: 9080, name: http, protocol: HTTP}}]\n  resolution: STATIC\n{rest}"
        );
        with_spec("ServiceEntry", "reviews", &spec)
    };
    let rule = |rest: &str| {
        let spec = format!("  hosts: [reviews]\n  http:\n{rest}");
        virtual_service(&spec)
    };
    let destination = "    route: [{destination: {host: reviews}}]\n";
    let cases = [
        // Syntax.
        ("unclosed list", "kind: [Sidecar\nmetadata: {}\n".to_owned()),
        (
            "tab indentation",
            "kind: Sidecar\nmetadata:\n\tname: x\n".to_owned(),
        ),
        ("duplicate key", "kind: Sidecar\nkind: Gateway\n".to_owned()),
        (
            "unclosed quote",
            "kind: \"Sidecar\nmetadata: {}\n".to_owned(),
        ),
        (
            "truncated JSON",
            "{\"kind\": \"Sidecar\", \"metadata\": {".to_owned(),
        ),
        // The envelope.
        ("not a mapping", "- a\n- b\n".to_owned()),
        ("no kind", "apiVersion: networking.istio.io/v1\n".to_owned()),
        (
            "misspelt kind",
            "apiVersion: networking.istio.io/v1\nkind: VirtualServce\n".to_owned(),
        ),
        (
            "unknown kind",
            "apiVersion: apps/v1\nkind: CronJob\nmetadata: {name: x}\n".to_owned(),
        ),
        (
            "a group that is misspelt, and one that is gone",
            "apiVersion: security.istio.oi/v1\nkind: AuthorizationPolicy\nmetadata: {name: x}\n---\n\
             apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: x}\n---\n\
             apiVersion: networking.x-k8s.io/v1alpha1\nkind: Gateway\nmetadata: {name: x}\n"
                .to_owned(),
        ),
        (
            "unknown version",
            "apiVersion: networking.istio.io/v2\nkind: Gateway\nmetadata: {name: x}\nspec: {}\n"
                .to_owned(),
        ),
        (
            "no name",
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {}\nspec: {}\n"
                .to_owned(),
        ),
        (
            "bad name",
            with_spec("Gateway", "My_Gateway", "  servers: []\n"),
        ),
        (
            "no spec",
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\n".to_owned(),
        ),
        // VirtualService.
        (
            "misspelt field",
            rule("  - route:\n    - destination: {host: reviews}\n      wieght: 90\n"),
        ),
        (
            "several errors at once",
            virtual_service("  hosts: [a b]\n  htp: []\n"),
        ),
        ("no rules", virtual_service("  hosts: [reviews]\n")),
        (
            "no hosts",
            virtual_service("  gateways: [a]\n  http: [{route: [{destination: {host: a}}]}]\n"),
        ),
        ("rule without action", rule("  - timeout: 1s\n")),
        (
            "weights of zero",
            rule("  - route:\n    - destination: {host: a}\n    - destination: {host: b}\n"),
        ),
        (
            "negative weight",
            rule("  - route:\n    - destination: {host: a}\n      weight: -1\n"),
        ),
        (
            "weight as fraction",
            rule("  - route: [{destination: {host: a}, weight: 0.5}]\n"),
        ),
        (
            "fault of nothing",
            rule(&format!("  - fault: {{}}\n{destination}")),
        ),
        (
            "delay of nothing",
            rule(&format!(
                "  - fault: {{delay: {{fixedDelay: 0s, percent: 10}}}}\n{destination}"
            )),
        ),
        (
            "abort without status",
            rule(&format!(
                "  - fault: {{abort: {{percentage: {{value: 50}}}}}}\n{destination}"
            )),
        ),
        (
            "abort with unknown status",
            rule(&format!(
                "  - fault: {{abort: {{grpcStatus: UNAVAILABEL}}}}\n{destination}"
            )),
        ),
        (
            "abort of HTTP/2",
            rule(&format!(
                "  - fault: {{abort: {{http2Error: x}}}}\n{destination}"
            )),
        ),
        (
            "fault of a redirect",
            rule("  - fault: {abort: {httpStatus: 500}}\n    redirect: {uri: /x}\n"),
        ),
        (
            "redirect with another code",
            rule("  - redirect: {uri: /x, redirectCode: 304}\n"),
        ),
        (
            "host set twice",
            rule(&format!(
                "  - rewrite: {{authority: a}}\n    headers: {{request: {{set: {{Host: b}}}}}}\n{destination}"
            )),
        ),
        (
            "header without a name",
            rule(&format!(
                "  - headers: {{response: {{add: {{'a b': c}}}}}}\n{destination}"
            )),
        ),
        (
            "mirror",
            rule(&format!(
                "  - mirror: {{host: reviews}}\n    mirrors: [{{destination: {{host: reviews}}}}]\n{destination}"
            )),
        ),
        (
            "share of no mirror",
            rule(&format!(
                "  - mirrorPercentage: {{value: 5}}\n{destination}"
            )),
        ),
        (
            "mirror without a route",
            rule("  - mirror: {host: reviews}\n    redirect: {uri: /x}\n"),
        ),
        (
            "cors",
            rule(&format!(
                "  - corsPolicy: {{allowOrigins: [{{exact: a, prefix: b}}], maxAge: 1.5s, unmatchedPreflights: NEVER}}\n{destination}"
            )),
        ),
        (
            "cors headers",
            rule(&format!(
                "  - corsPolicy: {{allowHeaders: ['x a'], maxAge: 1.5s}}\n{destination}"
            )),
        ),
        (
            "rewrite",
            rule(&format!(
                "  - rewrite: {{uri: /x, uriRegexRewrite: {{match: a, rewrite: b}}}}\n{destination}"
            )),
        ),
        (
            "retries",
            rule(&format!(
                "  - retries: {{attempts: 3, retryOn: 'reset,5xxs'}}\n{destination}"
            )),
        ),
        (
            "bad timeout",
            rule(&format!("  - timeout: 5\n{destination}")),
        ),
        (
            "timeout without unit",
            rule(&format!("  - timeout: '5'\n{destination}")),
        ),
        (
            "regex",
            rule(&format!(
                "  - match: [{{uri: {{regex: '/a(.*'}}}}]\n{destination}"
            )),
        ),
        (
            "header regex",
            rule(&format!(
                "  - match:\n    - headers:\n        end-user: {{regex: '(?!j).*'}}\n{destination}"
            )),
        ),
        (
            "exact and prefix",
            rule(&format!(
                "  - match: [{{uri: {{exact: /a, prefix: /b}}}}]\n{destination}"
            )),
        ),
        (
            "query parameters",
            rule(&format!(
                "  - match: [{{queryParams: {{q: {{exact: x, prefix: y}}}}}}]\n{destination}"
            )),
        ),
        (
            "pseudo header",
            rule(&format!(
                "  - match: [{{headers: {{':path': {{exact: x}}}}}}]\n{destination}"
            )),
        ),
        (
            "relative path",
            rule(&format!(
                "  - match: [{{uri: {{prefix: productpage}}}}]\n{destination}"
            )),
        ),
        (
            "wildcard in the mesh",
            virtual_service("  hosts: ['*']\n  http: [{route: [{destination: {host: a}}]}]\n"),
        ),
        (
            "host twice",
            virtual_service(
                "  hosts: [reviews, reviews.default.svc.cluster.local]\n  \
                 http: [{route: [{destination: {host: a}}]}]\n",
            ),
        ),
        (
            "port out of range",
            rule("  - route: [{destination: {host: a, port: {number: 70000}}}]\n"),
        ),
        (
            "number for text",
            rule("  - name: 7\n    route: [{destination: {host: a}}]\n"),
        ),
        // ServiceEntry and WorkloadEntry.
        (
            "endpoints and selector",
            service("  endpoints: []\n  workloadSelector: {labels: {app: a}}\n"),
        ),
        (
            "endpoints and no resolution",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints: [{address: 10.0.0.1}]\n",
            ),
        ),
        (
            "names to look up, of which there is one, or all",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b, '*']\n  ports: [{number: 80, name: http}]\n  resolution: DYNAMIC_DNS\n",
            ),
        ),
        (
            "names to look up, and what would stand in their place",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: ['*.a.b']\n  ports: [{number: 80, name: http, targetPort: 8080}, {number: 81, name: tcp}, \
                 {number: 82, name: any}]\n  resolution: DYNAMIC_DNS\n  addresses: [10.0.0.1]\n  \
                 endpoints: [{address: us.example.com}]\n",
            ),
        ),
        (
            "a wildcard that is not looked up",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: ['*.a.b']\n  ports: [{number: 80, name: http}]\n  resolution: DNS\n",
            ),
        ),
        (
            "names that nobody looks up, and what is neither a name nor an address",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  ports: [{number: 80, name: http}]\n  resolution: STATIC\n  endpoints:\n  \
                 - {address: us.example.com}\n  - {address: 'unix:///run/a.sock'}\n  - {address: 10.0.0.256}\n  \
                 - {address: '*.example.com'}\n",
            ),
        ),
        (
            "exported to what is no namespace",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  ports: [{number: 80, name: http}]\n  exportTo: ['.', Shop, '~b']\n",
            ),
        ),
        (
            "two endpoints of which one would be used",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  ports: [{number: 80, name: http}]\n  resolution: DNS_ROUND_ROBIN\n  \
                 endpoints: [{address: us.example.com}, {address: eu.example.com}]\n",
            ),
        ),
        (
            "unsupported and misspelt protocols",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  resolution: STATIC\n  ports:\n  \
                 - {number: 80, name: a, protocol: HTTP_PROXY}\n  - {number: 81, name: b, protocol: HTTTP}\n",
            ),
        ),
        (
            "ports twice",
            with_spec(
                "ServiceEntry",
                "a",
                "  hosts: [a.b]\n  resolution: STATIC\n  ports:\n  \
                 - {number: 80, name: http, protocol: HTTP}\n  - {number: 80, name: http, protocol: HTTP}\n",
            ),
        ),
        (
            "endpoint with unknown port",
            service("  endpoints: [{address: 127.0.0.1, ports: {htp: 9080}}]\n"),
        ),
        (
            "workload without address",
            with_spec("WorkloadEntry", "a", "  labels: {app: a}\n"),
        ),
        (
            "workload at a socket",
            with_spec("WorkloadEntry", "a", "  address: unix:///run/reviews.sock\n"),
        ),
        (
            "label as number",
            with_spec(
                "WorkloadEntry",
                "a",
                "  address: 127.0.0.1\n  labels: {version: 1}\n",
            ),
        ),
        // Sidecar.
        (
            "interception",
            with_spec(
                "Sidecar",
                "a",
                "  egress:\n  - {captureMode: NONE, hosts: ['*/*']}\n  - {hosts: ['*/*']}\n",
            ),
        ),
        (
            "sidecar listeners",
            with_spec(
                "Sidecar",
                "a",
                "  ingress:\n  - port: {number: 9080, name: http, protocol: HTTP}\n    \
                 captureMode: IPTABLES\n    defaultEndpoint: 9080\n  egress:\n  \
                 - port: {number: 15001, name: http, protocol: HTTP}\n    captureMode: NONE\n    \
                 hosts: [reviews]\n",
            ),
        ),
        (
            "one port for both",
            with_spec(
                "Sidecar",
                "a",
                "  ingress:\n  - port: {number: 9080, name: http, protocol: HTTP}\n    \
                 captureMode: NONE\n    defaultEndpoint: 127.0.0.1:80\n  egress:\n  \
                 - port: {number: 9080, name: http, protocol: HTTP_PROXY}\n    captureMode: NONE\n    \
                 hosts: ['*/*']\n",
            ),
        ),
        (
            "unknown hosts",
            with_spec(
                "Sidecar",
                "a",
                "  outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}\n",
            ),
        ),
        // DestinationRule.
        (
            "TLS with what does not belong to it",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL, privateKey: a}}\n",
            ),
        ),
        (
            "outlier detection",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {outlierDetection: {consecutive5xxErrors: -1, interval: 0s, maxEjectionPercent: 101}}\n",
            ),
        ),
        (
            "hash of two keys",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}\n",
            ),
        ),
        (
            "localities",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: 'a/*', to: {'b/*': 60}}]}}}\n",
            ),
        ),
        (
            "warmup",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {loadBalancer: {warmup: {duration: 1s, aggression: 0}}}\n",
            ),
        ),
        (
            "subset twice",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  subsets: [{name: v1}, {name: v1}]\n",
            ),
        ),
        (
            "misspelt balancer",
            with_spec(
                "DestinationRule",
                "a",
                "  host: a\n  trafficPolicy: {loadBalancer: {simple: ROUNDROBIN}}\n",
            ),
        ),
        // Rules for connections.
        (
            "a name of another",
            with_spec(
                "VirtualService",
                "a",
                "  hosts: [a.example.com]\n  tls:\n  - match: [{sniHosts: [b.example.com]}]\n    \
                 route: [{destination: {host: a}}]\n",
            ),
        ),
        (
            "TLS without names",
            with_spec(
                "VirtualService",
                "a",
                "  hosts: [a]\n  tls:\n  - route: [{destination: {host: a}}]\n",
            ),
        ),
        (
            "no subnet",
            with_spec(
                "VirtualService",
                "a",
                "  hosts: [a]\n  tcp:\n  - match: [{destinationSubnets: [10.0.0.0/33]}]\n    \
                 route: [{destination: {host: a}}]\n",
            ),
        ),
        (
            "headers of connections",
            with_spec(
                "VirtualService",
                "a",
                "  hosts: [a]\n  tcp:\n  - route:\n    - destination: {host: a}\n      \
                 headers: {request: {remove: [x]}}\n",
            ),
        ),
        // RequestAuthentication.
        (
            "issuers",
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\n\
             spec:\n  jwtRules:\n  - {jwks: '{}'}\n  - {issuer: a}\n  - {issuer: a, jwks: x}\n  \
             - {issuer: a, jwksUri: 'ftp://a/keys'}\n  - {issuer: a, jwksUri: 'http://a:0/'}\n  \
             - {issuer: a, jwks: '{}', jwksUri: 'http://a/'}\n  - {issuer: a, jwksUri: 'http://a/', fromHeaders: [{prefix: x}]}\n  \
             - {issuer: 'https://'}\n  - {issuer: 'https://a/?b'}\n"
                .to_owned(),
        ),
        // Gateway.
        (
            "no servers",
            with_spec("Gateway", "a", "  selector: {istio: ingressgateway}\n"),
        ),
        (
            "TLS at the gateway",
            with_spec(
                "Gateway",
                "a",
                "  servers:\n  - port: {number: 443, name: https, protocol: HTTPS}\n    \
                 tls: {mode: AUTO_PASSTHROUGH}\n    hosts: ['*']\n",
            ),
        ),
        (
            "TLS that nobody passes through",
            with_spec(
                "Gateway",
                "a",
                "  servers:\n  - port: {number: 443, name: tls, protocol: TLS}\n    hosts: ['*']\n",
            ),
        ),
        (
            "HTTP that is passed through",
            with_spec(
                "Gateway",
                "a",
                "  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    \
                 tls: {mode: PASSTHROUGH}\n    hosts: ['*']\n",
            ),
        ),
    ];
    let mut report = String::new();
    for (title, text) in cases {
        let parsed = parse_resources("mesh.yaml", &text);
        assert!(!parsed.errors.is_empty(), "{title}: no error\n{text}");
        assert_eq!(parsed.resources, [], "{title}");
        write_case(&mut report, title, &text, &parsed.errors);
    }
    insta::assert_snapshot!(report);
}

#[test]
fn mesh_config() {
    let cases = [
        ("unknown field", "extensionProvider: []\n"),
        ("refused field", "trustDomain: example.org\nmeshMTLS: {}\n"),
        (
            "access log",
            "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: '[%START_TIME%]'\n",
        ),
        (
            "unknown hosts",
            "outboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS, tls: {mode: SIMPLE}}\n",
        ),
        (
            "unknown provider",
            "extensionProviders: [{name: zipkin, zipkin: {service: z.b, port: 9411}}]\n\
             defaultProviders: {tracing: [zipkn]}\n",
        ),
        (
            "OTLP over both",
            "extensionProviders: [{name: o, opentelemetry: {service: o.b, port: 4317, http: {path: /v1/traces}, grpc: {}}}]\n",
        ),
        ("empty provider", "extensionProviders: [{name: o}]\n"),
        (
            "two providers in one",
            "extensionProviders: [{name: o, zipkin: {}, opentelemetry: {}}]\n",
        ),
        (
            "two formats in one log",
            "extensionProviders: [{name: o, envoyFileAccessLog: {logFormat: {text: a, labels: {b: c}}}}]\n",
        ),
        (
            "a collector of logs at no port",
            "extensionProviders: [{name: o, envoyOtelAls: {service: o.b, logFormat: {json: {}}}}]\n",
        ),
        (
            "a log that nobody takes",
            "defaultProviders: {accessLogging: [evnoy]}\n",
        ),
        (
            "metrics that nobody takes",
            "defaultProviders: {metrics: [stackdriver]}\n",
        ),
        ("sampling", "defaultConfig: {tracing: {sampling: 101}}\n"),
        (
            "tag without source",
            "defaultConfig: {tracing: {customTags: {team: {}}}}\n",
        ),
        (
            "tag of an impossible header",
            "defaultConfig: {tracing: {customTags: {team: {header: {name: 'a b'}}}}}\n",
        ),
        (
            "context option",
            "extensionProviders: [{name: z, zipkin: {service: z, port: 1, traceContextOption: B3}}]\n",
        ),
        (
            "a quota of nothing",
            "extensionProviders:\n- name: q\n  envoyRateLimitGrpc: {service: q, port: 1, domain: d}\n",
        ),
        (
            "a quota by two actions in one",
            "extensionProviders:\n- name: q\n  envoyRateLimitGrpc:\n    service: q\n    port: 1\n    domain: d\n    limits:\n    - actions: [{remoteAddress: {}, sourceCluster: {}}]\n",
        ),
        (
            "a bucket without tokens",
            "extensionProviders:\n- name: l\n  envoyLocalRateLimit:\n    limits:\n    - tokenBucket: {maxTokens: 0, fillInterval: 1ms}\n    - {port: 0, tokenBucket: {maxTokens: 1}}\n    - actions: []\n",
        ),
        (
            "limits of nothing",
            "extensionProviders: [{name: l, envoyLocalRateLimit: {}}]\n",
        ),
        (
            "two documents",
            "enableTracing: true\n---\nenableTracing: true\n",
        ),
    ];
    let mut report = String::new();
    for (title, text) in cases {
        let errors = parse_mesh_config("mesh-config.yaml", text).unwrap_err();
        write_case(&mut report, title, text, &errors);
    }
    insta::assert_snapshot!(report);
}

fn write_case(
    report: &mut String,
    title: &str,
    text: &str,
    errors: &[periplus_resources::Diagnostic],
) {
    report.push_str(&format!("== {title}\n"));
    let lines = text.lines().count() + 1;
    for error in errors {
        assert!(
            (1..=lines).contains(&(error.position.line as usize)),
            "{error}"
        );
        assert!(!error.message.contains('\n'), "{error}");
        report.push_str(&format!("{error}\n"));
    }
}

#[test]
fn authorization_policies() {
    const GATEWAY: &str = "{group: gateway.networking.k8s.io, kind: Gateway, name: a}";
    let read = |spec: &str, annotations: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: x, annotations: {annotations}}}\nspec: {spec}\n"
        );
        let errors = parse_resources("x.yaml", &text).errors;
        errors.iter().map(ToString::to_string).collect()
    };
    let source = |source: &str| format!("{{rules: [{{from: [{{source: {source}}}]}}]}}");
    let operation = |operation: &str| format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}");
    let when = |when: &str| format!("{{rules: [{{when: [{when}]}}]}}");
    for good in [
        "{}".to_owned(),
        "{rules: [{}]}".to_owned(),
        "{action: CUSTOM, provider: {name: a}, rules: [{}]}".to_owned(),
        format!("{{targetRefs: [{GATEWAY}, {GATEWAY}], rules: [{{}}]}}"),
        format!("{{targetRef: {GATEWAY}}}"),
        "{targetRefs: [], selector: {matchLabels: {app: a}}}".to_owned(),
        source("{principals: ['*'], notNamespaces: [a]}"),
        operation("{paths: ['/a/{*}/{**}', '*x'], ports: ['80']}"),
        when("{key: 'request.auth.claims[a][b]', values: [c]}"),
    ] {
        assert_eq!(read(&good, "{}"), [""; 0], "{good}");
    }
    for (bad, complaint) in [
        (
            "{action: CUSTOM}".to_owned(),
            "spec: `CUSTOM` asks a provider, name it: `provider: {name: …}`",
        ),
        (
            "{action: DENY, provider: {name: a}}".to_owned(),
            "spec.provider: only `action: CUSTOM` asks a provider",
        ),
        (
            "{action: allow}".to_owned(),
            "spec.action: unknown value `allow`, did you mean `ALLOW`?",
        ),
        (
            "{selector: {matchLabels: {app: 'a*'}}}".to_owned(),
            "wildcards are not allowed in selectors",
        ),
        (
            "{targetRefs: [{kind: Service, group: '', name: a}]}".to_owned(),
            "spec.targetRefs[0]: `Service` of group ``: only a `Gateway` of `gateway.networking.k8s.io`",
        ),
        (
            format!("{{targetRefs: [{GATEWAY}], selector: {{matchLabels: {{app: a}}}}}}"),
            "spec: `selector`, `targetRefs` exclude each other",
        ),
        (
            format!(
                "{{targetRefs: [{}{GATEWAY}]}}",
                format!("{GATEWAY}, ").repeat(16)
            ),
            "spec: `targetRefs` has more than 16 items",
        ),
        (
            format!("{{targetRef: {}}}", GATEWAY.replace('}', ", namespace: b}")),
            "spec.targetRef: a policy of namespace `default` is for Gateways of it, not of `b`",
        ),
        (
            source("{}"),
            "spec.rules[0].from[0].source: it must name somebody",
        ),
        (
            source("{principals: [a*b]}"),
            "`a*b`: `*` may stand at the beginning or at the end only",
        ),
        (
            source("{principals: []}"),
            "`principals` is empty, leave it out",
        ),
        (
            source("{ipBlocks: [10.0.0.0/33]}"),
            "`10.0.0.0/33` is no address",
        ),
        (
            source("{trustDomains: [a/ns/b]}"),
            "`a/ns/b` is more than a trust domain",
        ),
        (
            source("{notTrustDomains: [a*b]}"),
            "`a*b`: `*` may stand at the beginning or at the end only",
        ),
        (
            source("{serviceAccounts: [a/b/c]}"),
            "`a/b/c` is no ACCOUNT or NAMESPACE/ACCOUNT",
        ),
        (
            source("{serviceAccounts: [a], namespaces: [b]}"),
            "`serviceAccounts` excludes `principals` and `namespaces`",
        ),
        (operation("{}"), "it must name something"),
        (
            operation("{ports: ['0']}"),
            "`0` is no port from 1 to 65535",
        ),
        (
            operation("{paths: ['/a/{x}']}"),
            "a template has only `{*}` and `{**}`",
        ),
        (
            operation("{paths: ['/a/{**}/b']}"),
            "`{**}` must be the last part",
        ),
        (
            when("{key: request.color, values: [a]}"),
            "unknown key `request.color`",
        ),
        (
            when("{key: source.ip}"),
            "`values` or `notValues` must be given",
        ),
    ] {
        let errors = read(&bad, "{}");
        assert!(
            errors.iter().any(|error| error.contains(complaint)),
            "{bad}: {errors:#?}"
        );
    }
    let errors = read("{}", "{istio.io/dry-run: 'yes'}");
    assert!(
        errors[0].contains("`istio.io/dry-run` is `yes`"),
        "{errors:#?}"
    );
}

#[test]
fn peer_authentications() {
    let read = |spec: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: x}}\nspec: {spec}\n"
        );
        let errors = parse_resources("x.yaml", &text).errors;
        errors.iter().map(ToString::to_string).collect()
    };
    for good in [
        "{}",
        "{mtls: {}}",
        "{mtls: {mode: UNSET}}",
        "{selector: {matchLabels: {app: a}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}}}",
    ] {
        assert_eq!(read(good), [""; 0], "{good}");
    }
    for (bad, complaint) in [
        ("{mtls: {mode: STRICTLY}}", "did you mean `STRICT`?"),
        ("{mtls: STRICT}", "spec.mtls: expected a mapping"),
        (
            "{portLevelMtls: {8080: {mode: STRICT}}}",
            "ports are those of workloads: select them with `selector`",
        ),
        (
            "{selector: {matchLabels: {app: a}}, portLevelMtls: {http: {mode: STRICT}}}",
            "`http` is no port",
        ),
    ] {
        let errors = read(bad);
        assert!(
            errors.len() == 1 && errors[0].contains(complaint),
            "{bad}: {errors:?}"
        );
    }
}

#[test]
fn tls_of_destination_rules() {
    let read = |tls: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: x}}\n\
             spec: {{host: a, trafficPolicy: {{tls: {tls}}}}}\n"
        );
        let errors = parse_resources("x.yaml", &text).errors;
        errors.iter().map(ToString::to_string).collect()
    };
    for good in [
        "{mode: DISABLE}",
        "{mode: ISTIO_MUTUAL}",
        "{mode: ISTIO_MUTUAL, sni: a.b, subjectAltNames: ['spiffe://a/ns/b/sa/c']}",
        "{mode: SIMPLE}",
        "{mode: SIMPLE, caCertificates: /a, sni: b, insecureSkipVerify: true}",
        "{mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c}",
        "{mode: SIMPLE, credentialName: a}",
        "{mode: MUTUAL, credentialName: a, subjectAltNames: [b]}",
    ] {
        assert_eq!(read(good), [""; 0], "{good}");
    }
    for (bad, complaint) in [
        ("{}", "missing field `mode`"),
        ("{mode: MTLS}", "spec.trafficPolicy.tls.mode"),
        (
            "{mode: DISABLE, sni: a}",
            "`sni` has no effect in this `mode`",
        ),
        (
            "{mode: SIMPLE, privateKey: a}",
            "`privateKey` has no effect in this `mode`",
        ),
        (
            "{mode: MUTUAL, clientCertificate: a}",
            "missing field `privateKey`",
        ),
        (
            "{mode: SIMPLE, credentialName: a, caCertificates: /b}",
            "`credentialName` and `caCertificates` exclude each other",
        ),
        (
            "{mode: ISTIO_MUTUAL, credentialName: a}",
            "`credentialName` has no effect in this `mode`",
        ),
        (
            "{mode: SIMPLE, credentialName: other/a}",
            "`other/a` is no name of a Secret",
        ),
    ] {
        let errors = read(bad);
        assert!(
            errors.len() == 1 && errors[0].contains(complaint),
            "{bad}: {errors:?}"
        );
    }
}

/// `servers[].tls` of a Gateway.
#[test]
fn tls_at_gateways() {
    let read = |protocol: &str, tls: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: a}}\nspec:\n  servers:\n  \
             - {{port: {{number: 443, name: a, protocol: {protocol}}}, hosts: ['*'], tls: {tls}}}\n"
        );
        let errors = parse_resources("mesh.yaml", &text).errors;
        errors.iter().map(ToString::to_string).collect()
    };
    for (protocol, good) in [
        ("HTTP", "{httpsRedirect: true}"),
        ("TLS", "{mode: PASSTHROUGH}"),
        ("HTTPS", "{mode: PASSTHROUGH}"),
        ("TLS", "{mode: SIMPLE, credentialName: a}"),
        ("HTTPS", "{mode: ISTIO_MUTUAL}"),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialNames: [a, b], minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3}",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, tlsCertificates: [{serverCertificate: /a, privateKey: /b}]}",
        ),
        (
            "HTTPS",
            "{mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /c}",
        ),
        (
            "HTTPS",
            "{mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertCredentialName: c}",
        ),
        (
            "HTTPS",
            "{mode: OPTIONAL_MUTUAL, credentialName: a, subjectAltNames: [b], verifyCertificateHash: ['00']}",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA]}",
        ),
    ] {
        assert_eq!(read(protocol, good), [""; 0], "{protocol} {good}");
    }
    for (protocol, bad, complaint) in [
        ("HTTPS", "{}", "missing field `mode`"),
        (
            "HTTPS",
            "{mode: AUTO_PASSTHROUGH}",
            "there are no gateways between networks",
        ),
        (
            "HTTPS",
            "{httpsRedirect: true}",
            "a port of TLS needs a `tls.mode`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, httpsRedirect: true}",
            "`tls.httpsRedirect` goes with plain HTTP",
        ),
        (
            "HTTP",
            "{mode: SIMPLE, credentialName: a}",
            "`tls` goes with the protocols `TLS` and `HTTPS`",
        ),
        (
            "TCP",
            "{httpsRedirect: true}",
            "`tls.httpsRedirect` goes with plain HTTP",
        ),
        ("HTTPS", "{mode: SIMPLE}", "this `mode` needs a certificate"),
        (
            "HTTPS",
            "{mode: SIMPLE, serverCertificate: /a}",
            "missing field `privateKey`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, privateKey: /a}",
            "missing field `serverCertificate`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, serverCertificate: /b, privateKey: /c}",
            "expected one of `credentialName`, `serverCertificate`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: kubernetes-gateway://a/b}",
            "is no name of a Secret",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, caCertificates: /b}",
            "`caCertificates` has no effect in this `mode`",
        ),
        (
            "HTTPS",
            "{mode: PASSTHROUGH, credentialName: a}",
            "`credentialName` has no effect in this `mode`",
        ),
        (
            "HTTPS",
            "{mode: MUTUAL, serverCertificate: /a, privateKey: /b}",
            "needs the authorities of clients",
        ),
        (
            "HTTPS",
            "{mode: MUTUAL, credentialName: a, caCertificates: /b}",
            "the Secret holds certificates of authorities too",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, maxProtocolVersion: TLSV1_1}",
            "versions before 1.2 are not spoken",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2}",
            "it is older than `minProtocolVersion`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, cipherSuites: [AES128-SHA]}",
            "none of these is safe enough",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA25]}",
            "did you mean `ECDHE-RSA-AES128-GCM-SHA256`",
        ),
        (
            "HTTPS",
            "{mode: SIMPLE, credentialName: a, caCrl: /b}",
            "`caCrl` has no effect in this `mode`",
        ),
    ] {
        let errors = read(protocol, bad);
        assert!(
            errors.len() == 1 && errors[0].contains(complaint),
            "{protocol} {bad}: {errors:?}"
        );
    }
}

/// What is wrong with a Secret is said without what is in it.
#[test]
fn secrets() {
    let read = |data: &str| {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{data}\n");
        parse_resources("mesh.yaml", &text)
    };
    let good = read("type: Opaque\ndata: {tls.crt: YQ==, tls.key: Yg==, other: '%'}");
    assert_eq!(good.errors, []);
    let shown = format!("{:?}", good.resources);
    assert!(
        shown.contains("certificate: Some((\"a\", (private)))"),
        "{shown}"
    );
    // Istio's older names go first, and plain text before what is encoded.
    let both =
        read("data: {cert: YQ==, key: Yg==, tls.crt: eA==, tls.key: eA==}\nstringData: {cert: c}");
    let shown = format!("{:?}", both.resources);
    assert!(
        shown.contains("certificate: Some((\"c\", (private)))"),
        "{shown}"
    );
    let bad = read("data: {tls.crt: YQ==, tls.key: hidden-key}");
    let errors: Vec<_> = bad.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "mesh.yaml:4:32: data.tls.key: expected a text in PEM that is encoded in Base64; `stringData` takes it as it is"
        ]
    );
}
