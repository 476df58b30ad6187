//! The demo's mesh, and what is applied to it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway_api::backend::{self, Identity, Speaks};
use crate::secure_gateway::client::Pair;
use crate::secure_gateway::world::secret;
use crate::support::{Answer, Demo, free_base, get_with, patiently, request};

/// Whose YAML is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    Istio,
    GatewayApi,
}

pub(super) struct World {
    pub(super) rules: Rules,
    demo: Demo,
    base: u16,
    /// By kind and name, as a cluster has them.
    applied: BTreeMap<(String, String), String>,
}

impl World {
    /// Starts the demo, with Envoys in place of our proxies if they are named.
    pub(super) fn start(rules: Rules, envoy: Option<&str>) -> Self {
        let base = free_base();
        let proxy = envoy.map(|path| format!("envoy={path}"));
        let mut flags = vec!["--no-traffic"];
        flags.extend(proxy.iter().flat_map(|proxy| ["--proxy", proxy]));
        let mut demo = Demo::start(base, &flags);
        demo.wait_for(&["Ctrl-C stops everything"]);
        let mut world = Self {
            rules,
            demo,
            base,
            applied: BTreeMap::new(),
        };
        world.apply(&httpbin());
        if rules == Rules::GatewayApi {
            let config = world.demo.directory().join("config");
            std::fs::remove_file(config.join("bookinfo-gateway.yaml")).unwrap();
            world.apply(&versions());
            world.apply(&world.ingress());
            let gateway =
                include_str!("../../../../samples/bookinfo/gateway-api/bookinfo-gateway.yaml");
            world.apply(&gateway.replace(CLASS, &format!("{CLASS}{ADDRESS}")));
        }
        patiently("the way in", || {
            (get_with(world.entry(), "/productpage", &[]).status == 200).then_some(())
        });
        world
    }

    /// As `kubectl apply`: what has the kind and the name of something goes in its place.
    pub(super) fn apply(&mut self, text: &str) {
        let documents = text.split("---\n").map(str::trim);
        for document in documents.filter(|document| !document.is_empty()) {
            let line = |start: &str| {
                let mut lines = document.lines();
                let found = lines.find_map(|line| line.strip_prefix(start));
                let found = found.unwrap_or_else(|| panic!("no {start} in {document}"));
                found.trim().to_owned()
            };
            let key = (line("kind:"), line("  name:"));
            self.applied.insert(key, document.to_owned());
        }
        let documents: Vec<_> = self.applied.values().map(String::as_str).collect();
        self.demo.edit(&documents.join("\n---\n"));
    }

    /// Where users come in.
    fn entry(&self) -> u16 {
        match self.rules {
            Rules::Istio => self.base,
            Rules::GatewayApi => self.base + 14,
        }
    }

    /// Where they come in by TLS.
    pub(super) fn secure_port(&self) -> u16 {
        self.base + 15
    }

    /// A cookie.
    pub(super) fn sign_in(&self, user: &str) -> String {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = format!("username={user}&passwd=");
        let answer = request(self.entry(), "POST", "/login", &form, &body);
        let cookie = answer.header("set-cookie").expect("a cookie");
        cookie.split(';').next().unwrap_or_default().to_owned()
    }

    /// What the page looks like, and how long it took.
    pub(super) fn page(&self, cookie: Option<&str>) -> (String, Duration) {
        let begun = Instant::now();
        let headers: Vec<_> = cookie
            .map(|cookie| ("cookie", cookie))
            .into_iter()
            .collect();
        let answer = get_with(self.entry(), "/productpage", &headers);
        let time = begun.elapsed();
        let has = |text: &str| answer.body.contains(text);
        let mut look = match () {
            () if answer.status != 200 => return (format!("status {}", answer.status), time),
            () if has("Error fetching product reviews")
                && has("Sorry, product reviews are currently unavailable for this book.") =>
            {
                "reviews unavailable"
            }
            () if has("Ratings service is currently unavailable") => "ratings unavailable",
            () if has("data-color=\"black\"") => "black stars",
            () if has("data-color=\"red\"") => "red stars",
            () => "no stars",
        }
        .to_owned();
        if has("Error fetching product details") {
            look += ", details unavailable";
        }
        (look, time)
    }

    /// Has the gateway listen with a certificate, which is this one.
    pub(super) fn let_in_by_tls(&mut self) -> Pair {
        let pair = Pair::of("bookinfo.test");
        let data = [("tls.crt", pair.chain.as_str()), ("tls.key", &pair.key)];
        // The Secret is in the namespace of the gateway's proxy, or of the Gateway.
        let (place, text) = match self.rules {
            Rules::Istio => (
                "istio-system",
                SECURE.replace("PORT", &self.secure_port().to_string()),
            ),
            Rules::GatewayApi => ("default", SECURE_BY_API.to_owned()),
        };
        let secret = secret(&format!("{place}/bookinfo-credential"), &data);
        self.apply(&secret);
        self.apply(&text);
        pair
    }

    /// A call as the application of productpage makes it.
    pub(super) fn call_httpbin(&self, path: &str) -> Answer {
        call_httpbin(self.base + 12, path)
    }

    pub(super) fn call_httpbin_at_once(&self, calls: usize) -> Vec<Answer> {
        let outbound = self.base + 12;
        let call = move || call_httpbin(outbound, "/slow");
        let calls: Vec<_> = (0..calls).map(|_| thread::spawn(call)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    }

    /// The gateway's own service, whose ports lead to free ones.
    fn ingress(&self) -> String {
        format!(
            "apiVersion: v1
kind: Service
metadata:
  name: ingress
  namespace: istio-system
spec:
  selector: {{app: istio-ingressgateway}}
  ports:
  - {{name: http, port: 80, targetPort: {}}}
  - {{name: https, port: 443, targetPort: {}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: ingress
  namespace: istio-system
spec: {{address: 127.0.0.1, labels: {{app: istio-ingressgateway}}}}
",
            self.entry(),
            self.secure_port()
        )
    }
}

const CLASS: &str = "gatewayClassName: istio\n";
const ADDRESS: &str =
    "  addresses: [{type: Hostname, value: ingress.istio-system.svc.cluster.local}]\n";

const SECURE: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: bookinfo-secure
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: PORT, name: https, protocol: HTTPS}
    hosts: [bookinfo.test]
    tls: {mode: SIMPLE, credentialName: bookinfo-credential}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: bookinfo-secure
spec:
  hosts: [bookinfo.test]
  gateways: [bookinfo-secure]
  http:
  - match: [{uri: {exact: /productpage}}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
";

const SECURE_BY_API: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: bookinfo-gateway
spec:
  gatewayClassName: istio
  addresses: [{type: Hostname, value: ingress.istio-system.svc.cluster.local}]
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - name: https
    port: 443
    protocol: HTTPS
    hostname: bookinfo.test
    tls: {certificateRefs: [{name: bookinfo-credential}]}
";

fn call_httpbin(outbound: u16, path: &str) -> Answer {
    let url = format!("http://httpbin:8000{path}");
    request(outbound, "GET", &url, &[("x-wait", "300")], "")
}

/// The sample of other pages: two versions, of which nobody knows yet.
fn httpbin() -> String {
    let secure = Identity::new().config;
    let [v1, v2] =
        ["httpbin-v1", "httpbin-v2"].map(|name| backend::start(name, Speaks::Http, &secure));
    let service = |name: &str, endpoints: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {name}
spec:
  hosts: [{name}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8000, name: http, protocol: HTTP}}]
  endpoints:
{endpoints}---
"
        )
    };
    let endpoint = |version: &str, port: u16| {
        format!(
            "  - {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{version: {version}}}}}\n"
        )
    };
    let [v1, v2] = [endpoint("v1", v1), endpoint("v2", v2)];
    [
        service("httpbin", &format!("{v1}{v2}")),
        service("httpbin-v1", &v1),
        service("httpbin-v2", &v2),
    ]
    .concat()
}

/// A service for each version, as Gateway API's routes need them.
fn versions() -> String {
    let service = |(app, version): (&str, &str)| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {app}-{version}
spec:
  hosts: [{app}-{version}.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: {app}, version: {version}}}}}
---
"
        )
    };
    let all = [
        ("productpage", "v1"),
        ("details", "v1"),
        ("ratings", "v1"),
        ("reviews", "v1"),
        ("reviews", "v2"),
        ("reviews", "v3"),
    ];
    all.map(service).concat()
}
