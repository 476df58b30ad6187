//! Real Envoys take everything that is made for Bookinfo's sidecars and gateway, and route by it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::envoy::{Envoy, binary};
use crate::support::http::{Answer, Request, get, serve};
use crate::support::plane::Plane;
use crate::support::{
    MESH_CONFIG, Plan, Ports, WORKLOADS, gateway, networking, sidecar, wait_until,
};

const RULES: &str = "reviews.yaml";

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn bind() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// The mesh: a control plane, an Envoy for each workload and the gateway, and plain applications.
struct Mesh {
    plane: Plane,
    plan: Plan,
    envoys: Vec<Envoy>,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Mesh {
    async fn start(binary: &std::path::Path) -> Self {
        // All ports are taken at once, so that they differ; those of the Envoys are then let go.
        let mut held = Vec::new();
        let mut free = async || {
            let (listener, port) = bind().await;
            held.push(listener);
            port
        };
        let mut workloads = Vec::new();
        for (service, version) in WORKLOADS {
            let (listener, application) = bind().await;
            serve(listener, move |request| {
                (200, describe(service, version, &request))
            });
            workloads.push(Ports {
                inbound: free().await,
                outbound: free().await,
                application,
            });
        }
        let (collector, collector_port) = bind().await;
        let plan = Plan {
            workloads,
            gateway: free().await,
            collector: collector_port,
        };
        drop(held);

        let spans: Arc<Mutex<Vec<Value>>> = Arc::default();
        let received = Arc::clone(&spans);
        serve(collector, move |request| {
            let reported: Vec<Value> = serde_json::from_slice(&request.body).expect("spans");
            let mut spans = received.lock().unwrap_or_else(PoisonError::into_inner);
            spans.extend(reported);
            (202, String::new())
        });

        let mut files = plan.files();
        files.push(("gateway.yaml", networking("bookinfo-gateway.yaml")));
        files.push(("subsets.yaml", networking("destination-rule-all.yaml")));
        let plane = Plane::start(&files, MESH_CONFIG).await;
        let nodes = WORKLOADS.map(|(service, version)| sidecar(service, version));
        let nodes = nodes.into_iter().chain([gateway()]);
        let directory = plane.directory.path();
        let envoys = nodes
            .map(|node| Envoy::start(binary, &node, plane.xds, directory))
            .collect();
        Self {
            plane,
            plan,
            envoys,
            spans,
        }
    }

    /// Waits until all Envoys have acknowledged all that there is for them.
    async fn wait_for_acknowledgements(&self) {
        let look = || {
            let proxies = self.plane.ads.proxies();
            let mut open = Vec::new();
            for proxy in &proxies {
                for (type_url, state) in &proxy.types {
                    if let Some(error) = &state.last_error {
                        panic!("{} refused {type_url}: {}", proxy.node.id, error.message);
                    }
                    if state.acked_nonce.is_empty() || state.acked_nonce != state.sent_nonce {
                        open.push(format!("{} {type_url}", proxy.node.id));
                    }
                }
                if proxy.types.len() < 4 {
                    open.push(format!("{} has {} types", proxy.node.id, proxy.types.len()));
                }
            }
            match (proxies.len(), open.is_empty()) {
                (7, true) => Ok(()),
                (connected, _) => {
                    let logs: String = self.envoys.iter().map(Envoy::log).collect();
                    Err((connected, open, logs))
                }
            }
        };
        wait_until("all Envoys to acknowledge everything", look).await;
    }

    /// The outbound listener of productpage's sidecar.
    fn productpage(&self) -> SocketAddr {
        local(self.plan.workloads[0].outbound)
    }

    fn gateway(&self) -> SocketAddr {
        local(self.plan.gateway)
    }

    /// Calls reviews as productpage does, and says which version has answered.
    async fn reviews(&self, headers: &[(&str, &str)]) -> String {
        ask(self.productpage(), "http://reviews:9080/reviews/0", headers).await
    }

    /// How often each version answers.
    async fn share(&self, calls: usize) -> BTreeMap<String, usize> {
        let mut share = BTreeMap::new();
        for _ in 0..calls {
            *share.entry(self.reviews(&[]).await).or_default() += 1;
        }
        share
    }

    /// Puts rules in place and waits until all sidecars run on them.
    async fn apply(&self, rules: &str) {
        let before = self.plane.ads.counters().pushes;
        self.plane.replace(RULES, rules);
        wait_until("six pushes", || {
            let pushes = self.plane.ads.counters().pushes - before;
            if pushes >= 6 { Ok(()) } else { Err(pushes) }
        })
        .await;
        self.wait_for_acknowledgements().await;
    }
}

fn describe(service: &str, version: &str, request: &Request) -> String {
    let mut text = format!("{service} {version} {}\n", request.path);
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\n");
    }
    text
}

async fn ask(proxy: SocketAddr, url: &str, headers: &[(&str, &str)]) -> String {
    let answer = get(proxy, url, headers).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut words = answer.body.split(' ').skip(1);
    words.next().expect("the version").to_owned()
}

/// Calls reviews over and over, as jason or not, until it is told to stop; gives the number of calls.
/// Any call that fails is a panic.
fn keep_calling(proxy: SocketAddr, stop: watch::Receiver<bool>) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut calls = 0;
        while !*stop.borrow() {
            let headers: &[(&str, &str)] = match calls % 2 {
                0 => &[],
                _ => &[("end-user", "jason")],
            };
            ask(proxy, "http://reviews:9080/reviews/0", headers).await;
            calls += 1;
        }
        calls
    })
}

#[tokio::test]
async fn bookinfo() {
    let Some(binary) = binary() else { return };
    let mesh = Mesh::start(&binary).await;
    mesh.wait_for_acknowledgements().await;
    routes_by_host_and_path(&mesh).await;
    reports_spans(&mesh).await;
    follows_rules_without_losing_a_request(&mesh).await;
    takes_every_kind_of_rule(&mesh).await;
    allows_hop_by_hop(&mesh).await;
    assert_eq!(mesh.plane.ads.counters().nacks, 0);
}

async fn routes_by_host_and_path(mesh: &Mesh) {
    let proxy = mesh.productpage();
    for (url, service) in [
        ("http://details:9080/details/0", "details"),
        ("http://details/details/0", "details"),
        ("http://ratings.default:9080/", "ratings"),
        ("http://ratings.default.svc.cluster.local:9080/", "ratings"),
        ("http://RATINGS.default.svc.cluster.local/", "ratings"),
    ] {
        let answer = get(proxy, url, &[]).await.expect("an answer");
        assert_eq!(answer.status, 200, "{url}: {answer:?}");
        assert!(answer.body.starts_with(service), "{url}: {answer:?}");
        // What the application gets: the attempt, and the context for its own calls.
        for header in [
            "x-envoy-attempt-count: 1",
            "x-b3-traceid: ",
            "x-request-id: ",
            "traceparent: ",
        ] {
            assert!(answer.body.contains(header), "{header}\n{}", answer.body);
        }
    }
    for url in ["http://elsewhere.example:9080/", "http://reviews:9081/"] {
        let answer = get(proxy, url, &[]).await.expect("an answer");
        assert_eq!(answer.status, 502, "{url}: {answer:?}");
    }

    let at_gateway = async |path: &str| -> Answer {
        let url = format!("http://bookinfo.example{path}");
        get(mesh.gateway(), &url, &[]).await.expect("an answer")
    };
    for path in [
        "/productpage",
        "/productpage?u=normal",
        "/static/a.css",
        "/api/v1/products/0",
    ] {
        let answer = at_gateway(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(answer.body.starts_with("productpage v1"), "{answer:?}");
        assert_eq!(answer.header("server"), Some("istio-envoy"));
    }
    for path in ["/", "/productpage/", "/Productpage", "/api/v2"] {
        assert_eq!(at_gateway(path).await.status, 404, "{path}");
    }
}

/// The three spans of a request at the gateway: its own two, and productpage's.
async fn reports_spans(mesh: &Mesh) {
    let trace = "463ac35c9f6413ad48485a3953bb6124";
    let headers = [
        ("x-b3-traceid", trace),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
        ("x-b3-sampled", "1"),
    ];
    let url = "http://bookinfo.example/productpage";
    get(mesh.gateway(), url, &headers).await.expect("an answer");
    let spans = wait_until("three spans", || {
        let spans = mesh.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = spans.iter().filter(|span| span["traceId"] == trace);
        let ours: Vec<_> = ours.cloned().collect();
        if ours.len() == 3 { Ok(ours) } else { Err(ours) }
    })
    .await;
    let field = |span: &Value, name: &str| span[name].as_str().unwrap_or_default().to_owned();
    let mut lines: Vec<_> = spans
        .iter()
        .map(|span| {
            let service = field(&span["localEndpoint"], "serviceName");
            format!("{service} {} {}", field(span, "kind"), field(span, "name"))
        })
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "istio-ingressgateway.istio-system CLIENT router outbound|9080||productpage.default.svc.cluster.local; egress",
            "istio-ingressgateway.istio-system SERVER productpage.default.svc.cluster.local:9080/productpage",
            "productpage.default SERVER productpage.default.svc.cluster.local:9080/productpage",
        ]
    );
    for span in &spans {
        assert_eq!(span["tags"]["istio.mesh_id"], "cluster.local", "{span}");
    }
}

async fn follows_rules_without_losing_a_request(mesh: &Mesh) {
    // Without rules all versions take turns.
    let share = mesh.share(60).await;
    assert_eq!(share.len(), 3, "{share:?}");

    let (stop, stopped) = watch::channel(false);
    let callers: Vec<_> = (0..2)
        .map(|_| keep_calling(mesh.productpage(), stopped.clone()))
        .collect();

    mesh.apply(&networking("virtual-service-reviews-90-10.yaml"))
        .await;
    let share = mesh.share(300).await;
    let v1 = share.get("v1").copied().unwrap_or_default();
    let v2 = share.get("v2").copied().unwrap_or_default();
    assert_eq!(v1 + v2, 300, "{share:?}");
    // Five standard deviations off 30.
    assert!((5..=56).contains(&v2), "{share:?}");

    mesh.apply(&networking("virtual-service-reviews-test-v2.yaml"))
        .await;
    for _ in 0..20 {
        assert_eq!(mesh.reviews(&[("end-user", "jason")]).await, "v2");
        assert_eq!(mesh.reviews(&[("end-user", "jasons")]).await, "v1");
        assert_eq!(mesh.reviews(&[]).await, "v1");
    }

    stop.send_replace(true);
    for caller in callers {
        let calls = caller.await.expect("no call has failed");
        assert!(calls > 20, "{calls}");
    }
}

async fn takes_every_kind_of_rule(mesh: &Mesh) {
    let rules = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: canary
    match:
    - name: beta
      uri: {regex: '/reviews/[0-9]+'}
      method: {exact: GET}
      authority: {prefix: reviews}
      headers: {x-beta: {}, cookie: {regex: '.*user=jason.*'}, x-mode: {prefix: fast}}
    route:
    - {destination: {host: reviews, subset: v2}, weight: 1}
    - {destination: {host: reviews, subset: v3, port: {number: 9080}}, weight: 1}
    timeout: 5s
  - match: [{uri: {exact: /closed}}]
    directResponse: {status: 418, body: {string: closed}}
  - match: [{uri: {prefix: /nowhere}}]
    route: [{destination: {host: nowhere.example.org}}]
  - match: [{uri: {prefix: /faulty}, withoutHeaders: {x-well: {exact: '1'}}, queryParams: {a: {exact: b}}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 10ms}, abort: {percentage: {value: 100}, httpStatus: 555}}
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {prefix: /copied}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop.example'}], allowMethods: [GET], maxAge: 1h}
    mirrors: [{destination: {host: details}}, {destination: {host: reviews, subset: v2}, percentage: {value: 50}}]
    route: [{destination: {host: reviews, subset: v1}}]
  - match: [{uri: {prefix: /moved}}]
    redirect: {uri: /there, redirectCode: 302}
  - match: [{uri: {prefix: /ANY}, ignoreUriCase: true, scheme: {exact: http}}]
    rewrite: {uri: /some, authority: other}
    headers: {request: {set: {x-a: '1'}, remove: [x-b]}, response: {add: {x-c: '2'}}}
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx,409', backoff: 10ms}
    route: [{destination: {host: reviews, subset: v1}}]
  - route: [{destination: {host: reviews, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: everywhere-else}
spec:
  hosts: ['*.example.org', example.org]
  http: [{route: [{destination: {host: details}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details-limits, namespace: default}
spec:
  host: '*.default.svc.cluster.local'
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    connectionPool:
      tcp: {maxConnections: 10, connectTimeout: 1s, maxConnectionDuration: 1h}
      http: {http1MaxPendingRequests: 10, http2MaxRequests: 10, maxRetries: 5, maxRequestsPerConnection: 100, idleTimeout: 1m}
    outlierDetection: {consecutive5xxErrors: 100, interval: 1s, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 100}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: details-alike, namespace: default}
spec:
  host: details
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 64}}}
    retryBudget: {percent: 50, minRetryConcurrency: 1}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: errors, namespace: default}
spec:
  selector: {matchLabels: {app: productpage}}
  accessLogging: [{match: {mode: CLIENT}, providers: [{name: errors}], filter: {expression: 'response.code >= 400'}}]
";
    mesh.apply(rules).await;
    let jason = [
        ("x-beta", ""),
        ("cookie", "a=b; user=jason"),
        ("x-mode", "fastest"),
    ];
    for _ in 0..10 {
        assert_eq!(mesh.reviews(&[]).await, "v1");
        assert_eq!(mesh.reviews(&jason[..2]).await, "v1");
        assert_ne!(mesh.reviews(&jason).await, "v1");
    }
    for (url, status, body) in [
        ("http://reviews:9080/closed", 418, "closed"),
        ("http://reviews:9080/nowhere", 503, ""),
        ("http://reviews:9080/faulty?a=b", 555, "fault filter abort"),
        ("http://reviews:9080/faulty", 200, ""),
        ("http://reviews:9080/copied", 200, "reviews v1"),
        ("http://reviews:9080/moved", 302, ""),
        ("http://reviews:9080/any", 200, ""),
        ("http://a.b.example.org/", 200, "details"),
        ("http://example.org:80/", 200, "details"),
    ] {
        let answer = get(mesh.productpage(), url, &[]).await.expect("an answer");
        assert_eq!(answer.status, status, "{url}: {answer:?}");
        assert!(answer.body.starts_with(body), "{url}: {answer:?}");
    }
    let expected = [
        json!({"status": 418, "path": "/closed"}),
        json!({"status": 503, "path": "/nowhere"}),
        json!({"status": 555, "path": "/faulty?a=b"}),
    ];
    wait_until("the lines of what went wrong", || {
        let log = mesh.envoys[0].log();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> = lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        if lines == expected { Ok(()) } else { Err(log) }
    })
    .await;
}

/// Nothing is allowed, then one hop after the other.
async fn allows_hop_by_hop(mesh: &Mesh) {
    let policy = |name: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: default}}\nspec: {spec}\n---\n"
        )
    };
    let viewer = |app: &str, when: &str| {
        let spec = format!(
            "{{selector: {{matchLabels: {{app: {app}}}}}, action: ALLOW, \
             rules: [{{to: [{{operation: {{methods: [GET]}}}}]{when}}}]}}"
        );
        policy(&format!("{app}-viewer"), &spec)
    };
    let status = async |service: &str, headers: &[(&str, &str)]| {
        let url = format!("http://{service}:9080/{service}/0");
        let answer = get(mesh.productpage(), &url, headers).await;
        let answer = answer.expect("an answer");
        let denied = answer.body == "RBAC: access denied";
        assert_eq!(denied, answer.status == 403, "{answer:?}");
        answer.status
    };
    let at_gateway = async || {
        let url = "http://bookinfo.example/productpage";
        get(mesh.gateway(), url, &[])
            .await
            .expect("an answer")
            .status
    };
    let robot = [("end-user", "jason"), ("user-agent", "robot/1")];
    let jason = &robot[..1];
    // An Envoy acknowledges a listener before it serves by it.
    let until = async |rules: &str, expected: [u16; 5]| {
        mesh.plane.replace(RULES, rules);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let now = [
                at_gateway().await,
                status("details", &[]).await,
                status("details", jason).await,
                status("details", &robot).await,
                status("ratings", jason).await,
            ];
            if now == expected {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{now:?}, not {expected:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let mut rules = policy("allow-nothing", "{}");
    until(&rules, [403; 5]).await;
    rules += &viewer("productpage", "");
    until(&rules, [200, 403, 403, 403, 403]).await;
    let when = ", when: [{key: 'request.headers[end-user]', values: [jason]}]";
    rules += &viewer("details", when);
    until(&rules, [200, 403, 200, 200, 403]).await;
    let robots = "{action: DENY, rules: [{when: [{key: 'request.headers[user-agent]', values: ['robot*']}]}]}";
    rules += &policy("no-robots", robots);
    until(&rules, [200, 403, 200, 403, 403]).await;
    // Nobody has signed the token that the robot shows from now on.
    rules += "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
              metadata: {name: tokens, namespace: default}\nspec:\n  \
              selector: {matchLabels: {app: details}}\n  \
              jwtRules: [{issuer: me, fromHeaders: [{name: user-agent, prefix: 'robot/'}], \
              jwks: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'}]\n";
    until(&rules, [200, 403, 200, 401, 403]).await;
}
