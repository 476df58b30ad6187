//! A mesh with mutual TLS and policies: a client's sidecar, a gateway, a server with a sidecar and one without.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use periplus_identity::{AUDIENCE, Bearer, ServiceAccount, TokenKey};
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rotation::world::Proxy;
use crate::support::{Program, free_base, get, patiently};

const ISSUER: &str = "https://periplus.istio-system.svc";

/// Where requests enter the mesh: who asks, and the port.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) from: &'static str,
    pub(super) port: u16,
    pub(super) is_gateway: bool,
    pub(super) hosts: &'static [&'static str],
}

pub(super) struct World {
    _programs: Vec<Program>,
    directory: TempDir,
    pub(super) entries: [Entry; 3],
    /// What answers at the address of an endpoint.
    pub(super) origins: [(u16, u16); 2],
    pub(super) text: String,
    /// Tokens that hold, of two accounts; and one that nobody has signed.
    pub(super) tokens: [String; 3],
}

impl World {
    pub(super) fn start() -> Self {
        let base = free_base();
        let [xds, monitoring, secured, outbound, inbound, edge, api] =
            [0, 1, 2, 3, 4, 5, 6].map(|n| base + n);
        let admins = [base + 10, base + 11, base + 12];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let (config, identity) = (path.join("config"), path.join("identity"));
        std::fs::create_dir(&config).unwrap();
        std::fs::create_dir(&identity).unwrap();
        let key = TokenKey::load_or_create(&identity.join("token-key.pem")).unwrap();
        let issue = |account: &str| {
            let bearer = Bearer {
                account: ServiceAccount::new("default", account).unwrap(),
                workload: String::new(),
            };
            let hour = Duration::from_secs(3600);
            key.issue(&bearer, AUDIENCE, hour, SystemTime::now())
        };
        let (ada, bob) = (issue("ada"), issue("bob"));
        let (signed, _) = ada.rsplit_once('.').unwrap();
        let (_, other) = bob.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{other}");
        let (behind, beside) = (origin(), origin());
        let keys = keys(&identity.join("token-key.pem"));
        let text = resources([outbound, inbound, edge, api], [behind, beside], &keys);
        std::fs::write(config.join("mesh.yaml"), &text).unwrap();
        let mut control = Program::start(&[
            "control",
            "--dir",
            config.to_str().unwrap(),
            "--xds-port",
            &xds.to_string(),
            "--tls-port",
            &secured.to_string(),
            "--monitoring-port",
            &monitoring.to_string(),
            "--identity-dir",
            identity.to_str().unwrap(),
        ]);
        control.wait_for(&["control plane is ready"]);
        let mut programs = vec![control];
        for (account, role, labels, admin) in [
            (
                "store",
                "sidecar",
                json!({"app": "store", "version": "v1"}),
                admins[0],
            ),
            ("shop", "sidecar", json!({"app": "shop"}), admins[1]),
            (
                "edge",
                "router",
                json!({"istio": "edge", "gateway.networking.k8s.io/gateway-name": "api"}),
                admins[2],
            ),
        ] {
            let proxy = Proxy {
                directory: path,
                account,
                token_of: account,
                secured,
                admin,
                role,
                labels,
            };
            programs.push(proxy.start(None));
        }
        for admin in admins {
            patiently("a proxy", || {
                (get(admin, "/ready").status == 200).then_some(())
            });
        }
        let entry = |from, port, hosts| Entry {
            from,
            port,
            is_gateway: port != outbound,
            hosts,
        };
        Self {
            _programs: programs,
            directory,
            entries: [
                entry("shop-v1", outbound, &IN_MESH),
                entry(
                    "edge",
                    edge,
                    &[
                        "store.example",
                        "store.example",
                        "STORE.example",
                        "store.example",
                        "nobody.example",
                    ],
                ),
                entry(
                    "api",
                    api,
                    &[
                        "books.example",
                        "books.example",
                        "BOOKS.example",
                        "books.example",
                        "a.books.example",
                    ],
                ),
            ],
            origins: [(inbound, behind), (beside, beside)],
            text,
            tokens: [ada, bob, forged],
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

const IN_MESH: [&str; 9] = [
    "store",
    "store:80",
    "store.default",
    "STORE",
    "store.default.svc.cluster.local",
    "books",
    "books.default",
    "nobody.example",
    "store:81",
];

/// The rule of a VirtualService, on one line; the answer tells its name.
fn rule(name: &str, condition: &str, action: &str) -> String {
    let told = format!("headers: {{response: {{set: {{x-rule: {name}}}}}}}");
    format!("  - {{{condition}{action}, {told}}}\n")
}

/// The same of an HTTPRoute.
fn route(name: &str, condition: &str, backends: &str) -> String {
    let told = format!(
        "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]"
    );
    format!("  - {{{condition}backendRefs: [{backends}], {told}}}\n")
}

fn to(subset: &str) -> String {
    format!("route: [{{destination: {{host: store, subset: {subset}}}}}]")
}

fn rules() -> String {
    let uri = |kind: &str, path: &str| format!("match: [{{uri: {{{kind}: {path}}}}}], ");
    [
        rule(
            "rule-exact",
            "match: [{uri: {exact: /exact}, method: {exact: POST}}], ",
            &to("v2"),
        ),
        rule(
            "rule-jason",
            "match: [{headers: {end-user: {exact: jason}}, uri: {prefix: /a}}, {queryParams: {beta: {exact: 'yes'}}}], ",
            &to("v2"),
        ),
        rule("rule-regex", &uri("regex", "'/re/[0-9]+'"), &to("v1")),
        rule(
            "rule-tea",
            "match: [{uri: {prefix: /re}, withoutHeaders: {x-canary: {}}}], ",
            "directResponse: {status: 418, body: {string: tea}}",
        ),
        rule(
            "rule-old",
            &uri("prefix", "/old"),
            "redirect: {uri: /a, redirectCode: 302}",
        ),
        rule("rule-nobody", &uri("exact", "/nobody"), &to("v3")),
        rule("rule-missing", &uri("exact", "/missing"), &to("v4")),
        rule(
            "rule-shared",
            &uri("prefix", "/shared"),
            "route: [{destination: {host: store, subset: v1}, weight: 50}, {destination: {host: store, subset: v2}, weight: 50}]",
        ),
        rule(
            "rule-canary",
            "match: [{headers: {x-canary: {prefix: t}}}], ",
            &to("v2"),
        ),
        rule(
            "rule-rest",
            "match: [{uri: {prefix: /}, method: {exact: GET}}, {uri: {prefix: /secure}}, {uri: {prefix: /admin}}], ",
            &to("v1"),
        ),
    ]
    .concat()
}

fn routes(of: &str) -> String {
    let prefix = |path: &str| format!("matches: [{{path: {{type: PathPrefix, value: {path}}}}}], ");
    [
        route(&format!("rule-{of}-rest"), "", "{name: one, port: 80}"),
        route(&format!("rule-{of}-a"), &prefix("/a"), "{name: two, port: 80}"),
        route(
            &format!("rule-{of}-jason"),
            "matches: [{headers: [{name: end-user, value: jason}]}, {path: {type: Exact, value: /exact}}], ",
            "{name: two, port: 80}",
        ),
        route(
            &format!("rule-{of}-shared"),
            &prefix("/shared"),
            "{name: one, port: 80, weight: 1}, {name: two, port: 80, weight: 3}",
        ),
        route(&format!("rule-{of}-nobody"), &prefix("/nobody"), "{name: gone, port: 80}"),
    ]
    .concat()
}

fn service(name: &str, labels: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{{labels}}}}}
"
    )
}

fn workload(name: &str, labels: &str, account: &str, port: u16) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: 127.0.0.1, labels: {{{labels}}}, serviceAccount: {account}, ports: {{http: {port}}}}}
"
    )
}

fn policy(name: &str, action: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: store, version: v1}}}}
  action: {action}
  rules: [{rules}]
"
    )
}

fn resources(
    [outbound, inbound, edge, api]: [u16; 4],
    [behind, beside]: [u16; 2],
    keys: &Value,
) -> String {
    let (rules, of_mesh, of_gateway) = (rules(), routes("mesh"), routes("edge"));
    let parts = [
        service("store", "app: store"),
        service("books", "app: store"),
        service("one", "app: store, version: v1"),
        service("two", "app: store, version: v2"),
        workload("store-v1", "app: store, version: v1", "store", inbound),
        workload(
            "store-v2",
            "app: store, version: v2, security.istio.io/tlsMode: disabled",
            "store",
            beside,
        ),
        workload("shop-v1", "app: shop", "shop", 1),
        workload(
            "edge-v1",
            "istio: edge, gateway.networking.k8s.io/gateway-name: api",
            "edge",
            edge,
        ),
        // Whoever is refused by one of them could pass all others.
        policy(
            "no-writers",
            "DENY",
            "{to: [{operation: {methods: [DELETE]}}]}, {when: [{key: 'request.headers[x-canary]', values: ['no']}]}",
        ),
        policy(
            "callers",
            "ALLOW",
            "{from: [{source: {principals: [cluster.local/ns/default/sa/shop]}}], to: [{operation: {notPaths: [/b, /secure*, /admin*]}}]}, \
             {from: [{source: {principals: [cluster.local/ns/default/sa/edge]}}], to: [{operation: {paths: [/, /a*, /shared*, /re*]}}]}",
        ),
        policy(
            "owners",
            "ALLOW",
            &format!(
                "{{from: [{{source: {{requestPrincipals: ['{ISSUER}/*']}}}}], to: [{{operation: {{paths: [/secure*]}}}}]}}, \
                 {{to: [{{operation: {{paths: [/admin*]}}}}], when: [{{key: 'request.auth.claims[sub]', values: ['system:serviceaccount:default:ada']}}]}}"
            ),
        ),
    ];
    format!(
        "{}---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: strict}}
spec: {{selector: {{matchLabels: {{app: store, version: v1}}}}, mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{app: store, version: v1}}}}
  jwtRules: [{{issuer: '{ISSUER}', jwks: '{keys}'}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: shop}}
spec:
  workloadSelector: {{labels: {{app: shop}}}}
  egress:
  - port: {{number: {outbound}, protocol: HTTP_PROXY, name: http-proxy}}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/*']
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: store}}
spec:
  workloadSelector: {{labels: {{app: store, version: v1}}}}
  ingress:
  - port: {{number: {inbound}, protocol: HTTP, name: http}}
    bind: 127.0.0.1
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:{behind}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: edge}}
  servers: [{{port: {{number: {edge}, name: http, protocol: HTTP}}, hosts: ['*.example']}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: api}}
spec:
  gatewayClassName: istio
  listeners: [{{name: http, port: {api}, protocol: HTTP}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: store}}
spec:
  host: store
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
  - {{name: v3, labels: {{version: v3}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: store}}
spec:
  hosts: [store, store.example]
  gateways: [mesh, edge]
  http:
{rules}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: books}}
spec:
  parentRefs: [{{group: networking.istio.io, kind: ServiceEntry, name: books}}]
  rules:
{of_mesh}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: books-outside}}
spec:
  parentRefs: [{{name: api}}]
  hostnames: [books.example]
  rules:
{of_gateway}",
        parts.concat().trim_start_matches("---\n"),
    )
}

/// The public half of the key of tokens, as a JSON Web Key Set.
fn keys(file: &Path) -> Value {
    let pem = std::fs::read_to_string(file).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    // An uncompressed point: 4, x, y.
    let point = key.der_bytes();
    let text = |bytes| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..]));
    json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
}

/// A server that answers with its port.
fn origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                loop {
                    // A connection that has ended ends this.
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    head.clear();
                    let body = port.to_string();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}
