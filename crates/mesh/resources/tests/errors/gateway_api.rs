//! What is refused of Gateway API's resources, by name and with the reason.

use periplus_resources::parse_resources;

fn errors(kind: &str, spec: &str) -> Vec<String> {
    let api = match kind {
        "Ingress" => "networking.k8s.io",
        "VirtualService" => "networking.istio.io",
        _ => "gateway.networking.k8s.io",
    };
    let text = format!("apiVersion: {api}/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
    let errors = parse_resources("x.yaml", &text).errors;
    errors.iter().map(ToString::to_string).collect()
}

/// The resource's spec, and what is said about it; nothing if it is good.
const CASES: &[(&str, &str, &str)] = &[
    (
        "GatewayClass",
        "{controllerName: istio.io/gateway-controller, description: x}",
        "",
    ),
    (
        "GatewayClass",
        "{}",
        "spec.controllerName: missing field `controllerName`",
    ),
    (
        "GatewayClass",
        "{controllerName: a.b/c, parametersRef: {}}",
        "`parametersRef` is not supported: classes have no parameters here",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP, hostnme: a.b}]}",
        "x.yaml:4:81: spec.listeners[0].hostnme: unknown field `hostnme`, did you mean `hostname`?",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: []}",
        "at least one listener",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, infrastructure: {}, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "`infrastructure` is not supported: nothing is deployed here",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}]}",
        "two listeners have the name `a`",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]}",
        "listener `b` has the port, the protocol and the hostname of another one",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP, hostname: '*'}]}",
        "`*` is no hostname here",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 443, protocol: HTTPS}]}",
        "missing field `tls`",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 443, protocol: TLS, tls: {}}]}",
        "`mode: Terminate` needs `certificateRefs`",
    ),
    (
        "Gateway",
        "{gatewayClassName: istio, listeners: [{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}]}",
        "`from: Selector` needs a `selector`",
    ),
    ("HTTPRoute", "{}", ""),
    (
        "HTTPRoute",
        "{rules: []}",
        "`rules` must hold at least one rule",
    ),
    (
        "HTTPRoute",
        "{rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: a.b, port: 80}]}]}",
        "",
    ),
    (
        "HTTPRoute",
        "{rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, namespace: a, name: a.b, port: 80}]}]}",
        "`namespace` does not go with `kind: Hostname`",
    ),
    // Envoy refuses all routes that come with one of these.
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: /a?b}}]}]}",
        "`/a?b`: a path has no `?`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {type: Exact, value: '/a#b'}}]}]}",
        "`/a#b`: a path has no `#`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: /a%2fb}}]}]}",
        "a path has no `%2f`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: /a/..}}]}]}",
        "a path does not end in `/..`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: '/a%2'}}]}]}",
        "`%` stands before two hexadecimal digits",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: '/a b'}}]}]}",
        "a path has no ` `",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: '/~a/%41;b=1,2:@'}}]}]}",
        "",
    ),
    (
        "HTTPRoute",
        r#"{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: "b\nc"}]}}]}]}"#,
        "the value of a header has no line breaks",
    ),
    (
        "Ingress",
        "{rules: [{http: {paths: [{path: /a?b, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
        "rules[0].http.paths[0].path: `/a?b`: a path has no `?`",
    ),
    (
        "Ingress",
        "{rules: [{http: {paths: [{path: '/a#b/*', pathType: ImplementationSpecific, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
        "a path has no `#`",
    ),
    (
        "Ingress",
        "{rules: [{http: {paths: [{path: 'a/*', pathType: ImplementationSpecific, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
        "`a`: a path begins with `/`",
    ),
    (
        "Ingress",
        "{rules: [{http: {paths: [{path: '*', pathType: ImplementationSpecific, backend: {service: {name: a, port: {number: 80}}}}]}}]}",
        "",
    ),
    (
        "VirtualService",
        r#"{hosts: [a.b], http: [{headers: {request: {set: {a: "b\nc"}}}, route: [{destination: {host: a.b}}]}]}"#,
        "the value of a header has no line breaks",
    ),
    // What stands for listeners has names that no resource has: their `allowedRoutes` tell who is attached.
    (
        "VirtualService",
        "{hosts: [a.b], gateways: [infra/shop~http], http: [{route: [{destination: {host: a.b}}]}]}",
        "spec.gateways[0]: `shop~http` is no valid name",
    ),
    (
        "VirtualService",
        "{hosts: [a.b], gateways: [/~ingress], http: [{route: [{destination: {host: a.b}}]}]}",
        "spec.gateways[0]: `` is no valid name",
    ),
    (
        "VirtualService",
        "{hosts: [a.b], gateways: [shop~http], http: [{route: [{destination: {host: a.b}}]}]}",
        "`shop~http` is no valid name",
    ),
    (
        "VirtualService",
        "{hosts: [a.b], gateways: [a], http: [{match: [{gateways: [./a~b]}], route: [{destination: {host: a.b}}]}]}",
        "`a~b` is no valid name",
    ),
    (
        "VirtualService",
        "{hosts: [a.b], gateways: [mesh, a, ./b, c/d], http: [{route: [{destination: {host: a.b}}]}]}",
        "",
    ),
    ("HTTPRoute", "{parentRefs: [{kind: Service, name: a}]}", ""),
    (
        "HTTPRoute",
        "{parentRefs: [{kind: ListenerSet, name: a}]}",
        "`ListenerSet` of group `gateway.networking.k8s.io` cannot be a parent here",
    ),
    (
        "HTTPRoute",
        "{parentRefs: [{group: '', kind: Service, name: a, sectionName: b}]}",
        "`sectionName` names listeners of a Gateway",
    ),
    (
        "HTTPRoute",
        "{parentRefs: [{name: a}, {name: a}]}",
        "a parent is listed twice",
    ),
    (
        "HTTPRoute",
        "{hostnames: [10.0.0.1]}",
        "`10.0.0.1` is no hostname here",
    ),
    (
        "HTTPRoute",
        "{useDefaultGateways: All}",
        "`useDefaultGateways` is not supported",
    ),
    (
        "HTTPRoute",
        "{rules: [{backendRefs: [{name: a}]}]}",
        "missing field `port`, which a Service needs",
    ),
    (
        "HTTPRoute",
        "{rules: [{backendRefs: [{name: a, port: 80, weight: 1000001}]}]}",
        "from 0 to 1000000",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: a}}]}]}",
        "a path begins with `/`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {value: /a//b}}]}]}",
        "a path has no `//`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {type: Prefix, value: /a}}]}]}",
        "unknown value `Prefix`",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {type: RegularExpression, value: '/(a'}}]}]}",
        "`/(a` is no regular expression",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{method: get}]}]}",
        "unknown value `get`, did you mean `GET`?",
    ),
    (
        "HTTPRoute",
        "{rules: [{sessionPersistence: {}}]}",
        "`sessionPersistence` is not supported",
    ),
    (
        "HTTPRoute",
        "{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}",
        "`backendRequest` must not be longer than `request`",
    ),
    (
        "HTTPRoute",
        "{rules: [{retry: {codes: [200]}}]}",
        "from 400 to 599",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: ExtensionRef, extensionRef: {}}]}]}",
        "`extensionRef` is not supported: there are no filters of other kinds",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: Rewrite}]}]}",
        "filter `Rewrite` is not supported",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: URLRewrite, requestRedirect: {}}]}]}",
        "`requestRedirect` does not go with `type: URLRewrite`",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: CORS, cors: {}}, {type: CORS, cors: {}}]}]}",
        "filter `CORS` may be given once only",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: CORS, cors: {allowCredentials: true, exposeHeaders: ['*']}}]}]}",
        "`*` in `exposeHeaders` means nothing to a browser that sends credentials",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: CORS, cors: {allowOrigins: [example.com]}}]}]}",
        "`example.com` is no origin",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: a, port: 80}]}]}",
        "`RequestRedirect` answers the request itself",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {}}, {type: URLRewrite, urlRewrite: {}}]}]}",
        "`RequestRedirect` and `URLRewrite` exclude each other",
    ),
    (
        "HTTPRoute",
        "{rules: [{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}]}",
        "`ReplacePrefixMatch` needs exactly one match",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}]}",
        "expected 301, 302, 303, 307 or 308",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}}]}]}",
        "`percent` and `fraction` exclude each other",
    ),
    (
        "HTTPRoute",
        "{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Host]}}]}]}",
        "`Host` says where a request goes: it can be `set` for requests only",
    ),
    (
        "HTTPRoute",
        "{rules: [{backendRefs: [{name: a, port: 80, filters: [{type: RequestMirror, requestMirror: {}}]}]}]}",
        "filter `RequestMirror` is not supported here",
    ),
    (
        "GRPCRoute",
        "{rules: [{matches: [{method: {service: a.B, method: C}}]}]}",
        "",
    ),
    (
        "GRPCRoute",
        "{rules: [{matches: [{method: {}}]}]}",
        "expected `service`, `method` or both",
    ),
    (
        "GRPCRoute",
        "{rules: [{matches: [{method: {service: a/b}}]}]}",
        "`a/b` is no name of a service of gRPC",
    ),
    (
        "GRPCRoute",
        "{rules: [{timeouts: {}}]}",
        "unknown field `timeouts`",
    ),
    (
        "GRPCRoute",
        "{rules: [{filters: [{type: URLRewrite, urlRewrite: {}}]}]}",
        "filter `URLRewrite` is not supported here",
    ),
    (
        "TLSRoute",
        "{hostnames: [a.b], rules: [{backendRefs: [{name: a, port: 443}]}]}",
        "",
    ),
    (
        "TLSRoute",
        "{rules: [{backendRefs: [{name: a, port: 443}]}]}",
        "`hostnames` must name at least one host",
    ),
    (
        "TCPRoute",
        "{rules: [{backendRefs: [{name: a, port: 443}]}]}",
        "",
    ),
    (
        "TCPRoute",
        "{hostnames: [a.b], rules: [{backendRefs: [{name: a, port: 443}]}]}",
        "unknown field `hostnames`",
    ),
    (
        "TCPRoute",
        "{rules: [{}, {}]}",
        "`rules` must hold exactly one rule",
    ),
    (
        "UDPRoute",
        "{}",
        "kind `UDPRoute` is not supported, did you mean `",
    ),
    (
        "ReferenceGrant",
        "{from: [{group: '', kind: A, namespace: b}], to: [{group: '', kind: Service}]}",
        "",
    ),
    ("ReferenceGrant", "{from: []}", "missing field `to`"),
];

#[test]
fn gateway_api() {
    for (kind, spec, complaint) in CASES {
        let found = errors(kind, spec);
        match *complaint {
            "" => assert_eq!(found, [""; 0], "{kind} {spec}"),
            complaint => assert!(
                found.len() == 1 && found[0].contains(complaint),
                "{kind} {spec}: {found:?}"
            ),
        }
    }
}
