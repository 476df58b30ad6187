//! What proxies do not take is refused where it is read: one resource alone, with a reason.

use periplus_control::Index;
use periplus_proxy::explain::Explainer;
use periplus_resources::{MeshConfig, parse_mesh_config, parse_resources};

use crate::connections::sidecar;
use crate::generate::made;
use crate::semantics::resource;
use crate::support::gateway;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {clusterIP: 10.96.0.8, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other}
spec: {hosts: [other], http: [{match: [{uri: {exact: /known}}], route: [{destination: {host: other}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{hosts: ['*'], port: {number: 80, name: http, protocol: HTTP}}]}
";

/// Where a value may stand, as `ODD`.
const RULES: [&str; 17] = [
    "headers: {request: {set: {x-a: ODD}}}, ROUTE",
    "headers: {response: {add: {x-a: ODD}}}, ROUTE",
    "headers: {request: {set: {ODD: a}}}, ROUTE",
    "headers: {request: {set: {host: ODD}}}, ROUTE",
    "headers: {request: {add: {ODD: a}}}, ROUTE",
    "headers: {request: {remove: [ODD]}}, ROUTE",
    "headers: {response: {set: {ODD: a}}}, ROUTE",
    "match: [{headers: {x-a: {regex: ODD}}}], ROUTE",
    "rewrite: {uriRegexRewrite: {match: ODD, rewrite: /}}, ROUTE",
    "rewrite: {uriRegexRewrite: {match: '/(a)', rewrite: ODD}}, ROUTE",
    "rewrite: {uri: ODD}, ROUTE",
    "rewrite: {authority: ODD}, ROUTE",
    "redirect: {uri: ODD}",
    "redirect: {authority: ODD}",
    "redirect: {scheme: ODD}",
    "retries: {retryOn: ODD}, ROUTE",
    "corsPolicy: {allowOrigins: [{regex: ODD}]}, ROUTE",
];
const POLICIES: [(&str, &str); 12] = [
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {paths: [ODD]}}]}]}",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {hosts: [ODD]}}]}]}",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {principals: [ODD]}}]}]}",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {namespaces: [ODD]}}]}]}",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: ODD, values: [a]}]}]}",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: 'request.headers[x]', values: [ODD]}]}]}",
    ),
    (
        "RequestAuthentication",
        "{jwtRules: [{issuer: me, jwks: ODD}]}",
    ),
    (
        "RequestAuthentication",
        "{jwtRules: [{issuer: me, jwksUri: ODD}]}",
    ),
    (
        "RequestAuthentication",
        "{jwtRules: [{issuer: me, jwksUri: 'https://keys', outputPayloadToHeader: ODD}]}",
    ),
    (
        "RequestAuthentication",
        "{jwtRules: [{issuer: me, jwksUri: 'https://keys', fromHeaders: [{name: ODD}]}]}",
    ),
    (
        "RequestAuthentication",
        "{jwtRules: [{issuer: me, jwksUri: 'https://keys', outputClaimToHeaders: [{header: ODD, claim: a}]}]}",
    ),
    (
        "DestinationRule",
        "{host: web, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: ODD, ttl: 1s}}}}}",
    ),
];

const ODD: [&str; 46] = [
    "a",
    "a b",
    "/a b",
    "50%",
    "%%",
    "%START_TIME%",
    "%REQ(x)%",
    "%REQ%",
    "%REQ(x",
    "%PROTOCOL(x)%",
    "%UPSTREAM_HOST:3%",
    "host",
    "Host",
    "connection",
    "te",
    "Upgrade",
    "keep-alive",
    "content-length",
    "transfer-encoding",
    "proxy-connection",
    "http2-settings",
    "(",
    "a)(b",
    r"\w{36}",
    r"\w{900}",
    r"\pL{900}",
    r"(a{900}){900}",
    r"\3",
    r"\1",
    r"\",
    "http://x",
    "http://x/y",
    "https://keys:1/a b",
    "x:99999",
    "[::1]:80",
    "700",
    "503",
    "5xx,",
    "/a{*}",
    "a/{*}",
    "/a b/{*}",
    "/a/{*}/{**}",
    "request.auth.claims[a][]",
    "request.headers[:x]",
    r#"{"keys":[]}"#,
    r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn rule(rule: &str) -> String {
    let rule = rule.replace("ROUTE", "route: [{destination: {host: web}}]");
    let spec = format!("{{hosts: [web], gateways: [mesh, edge], http: [{{{rule}}}]}}");
    resource("VirtualService", "odd", &spec)
}

/// What a proxy says against the configuration that is made of resources, besides those that are there always.
fn refusals(text: &str, mesh: &MeshConfig) -> Vec<String> {
    let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}{text}"));
    let index = Index::certified(&parsed.resources, mesh.clone());
    let mut refused = Vec::new();
    for node in [sidecar("client"), gateway()] {
        let made = made(&index, &node);
        let routes = format!("{:?}", made.routes);
        assert!(routes.contains("/known") || routes.contains("10.96.0.8") || node == gateway());
        if let Err(rejections) = Explainer::new(made.packed()) {
            refused.extend(rejections.iter().map(|one| format!("{one:?}")));
        }
    }
    refused
}

/// Whatever a value is, either its resource is refused, or a proxy takes what is made of it.
#[test]
fn what_is_taken_here_is_taken_by_proxies() {
    let mesh = MeshConfig::default();
    let rules = RULES.iter().map(|one| rule(one));
    let policies = POLICIES
        .iter()
        .map(|(kind, spec)| resource(kind, "odd", spec));
    for template in rules.chain(policies) {
        let mut taken = 0;
        for odd in ODD {
            let text = template.replace("ODD", &quoted(odd));
            let parsed = parse_resources("odd.yaml", &text);
            if !parsed.errors.is_empty() {
                assert_eq!(parsed.resources.len(), 0, "{text}");
                continue;
            }
            taken += 1;
            assert_eq!(refusals(&text, &mesh), Vec::<String>::new(), "{text}");
        }
        assert!(
            taken > 0 || template.contains("jwks") || template.contains("key:"),
            "{template}"
        );
    }
}

/// Each of these is refused alone, with its field and the reason.
#[test]
fn what_proxies_do_not_take_is_refused_with_a_reason() {
    let many = "{destination: {host: web}},".repeat(17);
    let mirrors = format!("mirrors: [{many}], ROUTE");
    for (odd, reason) in [
        (
            "headers: {request: {set: {x-a: '50%'}}}, ROUTE",
            "write `%%`",
        ),
        (
            "headers: {request: {add: {x-a: '%START_TIME%'}}}, ROUTE",
            "`%START_TIME%` is not supported",
        ),
        (
            "headers: {request: {add: {host: a}}}, ROUTE",
            "says where a request goes",
        ),
        (
            "headers: {response: {set: {host: a}}}, ROUTE",
            "says where a request goes",
        ),
        (
            "headers: {response: {set: {TE: a}}}, ROUTE",
            "`te` is about one connection",
        ),
        (
            "rewrite: {uriRegexRewrite: {match: '(', rewrite: a}}, ROUTE",
            "is no regular expression",
        ),
        (
            r"rewrite: {uriRegexRewrite: {match: '(a)', rewrite: '\3'}}, ROUTE",
            "has no group 3",
        ),
        ("rewrite: {authority: 'http://x'}, ROUTE", "is no `HOST`"),
        ("rewrite: {uri: '/a b'}, ROUTE", "no blanks"),
        ("redirect: {uri: '/a b'}", "no blanks"),
        (
            "retries: {retryOn: '700'}, ROUTE",
            "is no reason for a retry",
        ),
        (
            r"match: [{uri: {regex: '\pL{900}'}}], ROUTE",
            "takes more memory",
        ),
        (&mirrors, "at most 16"),
    ] {
        is_refused_alone(&rule(odd), reason);
    }
    let modulus = "q".repeat(171);
    let short = format!(
        r#"{{jwtRules: [{{issuer: me, jwks: '{{"keys":[{{"kty":"RSA","n":"{modulus}","e":"AQAB"}}]}}'}}]}}"#
    );
    for (kind, spec, reason) in [
        (
            "RequestAuthentication",
            r#"{jwtRules: [{issuer: me, jwks: '{"keys":[]}'}]}"#,
            "none of its keys",
        ),
        ("RequestAuthentication", &short, "none of its keys"),
        (
            "RequestAuthentication",
            "{jwtRules: [{issuer: me, jwksUri: 'https://k', fromHeaders: [{name: host}]}]}",
            "says where",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{to: [{operation: {paths: ['/a{*}']}}]}]}",
            "where a segment begins",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{to: [{operation: {paths: ['a/{*}']}}]}]}",
            "begins with `/`",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{to: [{operation: {paths: ['/a b/{*}']}}]}]}",
            "no path has ` `",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{when: [{key: 'request.auth.claims[a][]', values: [a]}]}]}",
            "between two brackets",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{when: [{key: 'request.headers[:x]', values: [a]}]}]}",
            "no header name",
        ),
    ] {
        is_refused_alone(&resource(kind, "odd", spec), reason);
    }
    let filter = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: odd}\n\
                  spec: {parentRefs: [{group: '', kind: Service, name: web}], rules: [{filters: [{type: \
                  RequestHeaderModifier, requestHeaderModifier: {add: [{name: NAME, value: VALUE}]}}], \
                  backendRefs: [{name: web, port: 80}]}]}\n";
    for (name, value, reason) in [
        ("x-a", "'50%'", "write `%%`"),
        ("connection", "a", "about one connection"),
        ("host", "a", "says where"),
    ] {
        let text = filter.replace("NAME", name).replace("VALUE", value);
        is_refused_alone(&text, reason);
    }
}

/// The rules of the others are there all the same.
fn is_refused_alone(text: &str, reason: &str) {
    let parsed = parse_resources("mesh.yaml", &format!("{SERVICES}{text}"));
    let mut errors = parsed.errors.iter();
    let error = errors.find(|error| error.to_string().contains(reason));
    let error = error.unwrap_or_else(|| panic!("{text}: {:?}", parsed.errors));
    assert!(!error.field.is_empty(), "{error}");
    let index = Index::certified(&parsed.resources, MeshConfig::default());
    let made = made(&index, &sidecar("client"));
    assert!(format!("{:?}", made.routes).contains("/known"), "{text}");
    assert!(Explainer::new(made.packed()).is_ok(), "{text}");
}

/// The same of the mesh configuration, which says what services are told that are asked about requests.
#[test]
fn headers_that_providers_are_told_are_such_as_proxies_take() {
    let custom = "{action: CUSTOM, provider: {name: asked}, rules: [{}]}";
    let policy = resource("AuthorizationPolicy", "asked", custom);
    for (name, value, is_taken) in [
        ("x-a", "a b", true),
        ("x-a", "50%", false),
        ("x a", "b", false),
    ] {
        let text = format!(
            "extensionProviders: [{{name: asked, envoyExtAuthzHttp: {{service: web.default.svc.cluster.local, \
             port: 80, includeAdditionalHeadersInCheck: {{{}: {}}}}}}}]",
            quoted(name),
            quoted(value)
        );
        match parse_mesh_config("mesh-config.yaml", &text) {
            Ok(mesh) => {
                assert!(is_taken, "{text}");
                assert_eq!(refusals(&policy, &mesh), Vec::<String>::new());
            }
            Err(errors) => assert!(!is_taken, "{errors:?}"),
        }
    }
}
