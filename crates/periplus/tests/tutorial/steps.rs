//! The tutorial's pages: what they apply, in Istio's YAML and in that of Gateway API, and what is to be seen.

/// A page of the tutorial.
pub(super) struct Step {
    pub(super) title: &'static str,
    /// Istio's YAML.
    pub(super) istio: &'static [&'static str],
    /// Gateway API's; none where the tutorial has Istio's for both.
    pub(super) api: Option<&'static [&'static str]>,
    pub(super) seen: &'static [See],
}

/// What is to be seen.
#[derive(Clone, Copy)]
pub(super) enum See {
    /// Who has signed in, the look of the page, and between how many milliseconds it takes.
    Page(Option<&'static str>, &'static str, (u64, u64)),
    /// How the looks are distributed, in percent.
    Shares(&'static [(&'static str, usize)]),
}

/// How long a page takes that nothing holds up, even on a busy machine.
const AT_ONCE: (u64, u64) = (0, 1_900);
const JASON: Option<&str> = Some("jason");

macro_rules! istio {
    ($file:literal) => {
        include_str!(concat!("../../../../samples/bookinfo/networking/", $file))
    };
}
macro_rules! api {
    ($file:literal) => {
        include_str!(concat!("../../../../samples/bookinfo/gateway-api/", $file))
    };
}

pub(super) const STEPS: &[Step] = &[
    Step {
        title: "no rules",
        istio: &[],
        api: None,
        seen: &[See::Shares(&[
            ("no stars", 33),
            ("black stars", 33),
            ("red stars", 33),
        ])],
    },
    Step {
        title: "request routing",
        istio: &[istio!("virtual-service-all-v1.yaml")],
        api: Some(&[api!("route-all-v1.yaml")]),
        seen: &[See::Page(None, "no stars", AT_ONCE)],
    },
    Step {
        title: "routing by user",
        istio: &[istio!("virtual-service-reviews-test-v2.yaml")],
        api: Some(&[TO_V2_FOR_JASON]),
        seen: &[
            See::Page(JASON, "black stars", AT_ONCE),
            See::Page(None, "no stars", AT_ONCE),
        ],
    },
    // Each of the two attempts at reviews ends after 3 s, before the delay does: the planted bug.
    Step {
        title: "a delay",
        istio: &[istio!("virtual-service-ratings-test-delay.yaml")],
        api: None,
        seen: &[
            See::Page(JASON, "reviews unavailable", (5_800, 7_500)),
            See::Page(None, "no stars", AT_ONCE),
        ],
    },
    Step {
        title: "an abort",
        istio: &[istio!("virtual-service-ratings-test-abort.yaml")],
        api: None,
        seen: &[
            See::Page(JASON, "ratings unavailable", AT_ONCE),
            See::Page(None, "no stars", AT_ONCE),
        ],
    },
    Step {
        title: "an abort of details",
        istio: &[istio!("fault-injection-details-v1.yaml")],
        api: None,
        seen: &[See::Page(None, "no stars, details unavailable", AT_ONCE)],
    },
    Step {
        title: "traffic shifting: half",
        istio: &[
            istio!("virtual-service-all-v1.yaml"),
            istio!("virtual-service-reviews-50-v3.yaml"),
        ],
        api: Some(&[DETAILS_AND_RATINGS, api!("route-reviews-50-v3.yaml")]),
        seen: &[See::Shares(&[("no stars", 50), ("red stars", 50)])],
    },
    Step {
        title: "traffic shifting: all",
        istio: &[istio!("virtual-service-reviews-v3.yaml")],
        api: Some(&[api!("route-reviews-v3.yaml")]),
        seen: &[See::Page(None, "red stars", AT_ONCE)],
    },
    Step {
        title: "before the timeout",
        istio: &[REVIEWS_V2, RATINGS_LATE],
        api: Some(&[REVIEWS_V2_BY_API, RATINGS_LATE]),
        seen: &[See::Page(None, "black stars", (2_000, 3_500))],
    },
    // Twice half a second: productpage tries again.
    Step {
        title: "request timeouts",
        istio: &[REVIEWS_V2_IN_TIME],
        api: Some(&[REVIEWS_V2_IN_TIME_BY_API]),
        seen: &[See::Page(None, "reviews unavailable", (1_000, 1_900))],
    },
];

/// What faults were injected into before, without them.
const DETAILS_AND_RATINGS: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: details
spec:
  hosts: [details]
  http:
  - route:
    - destination: {host: details, subset: v1}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: ratings
spec:
  hosts: [ratings]
  http:
  - route:
    - destination: {host: ratings, subset: v1}
";

const TO_V2_FOR_JASON: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: reviews
spec:
  parentRefs:
  - {group: "", kind: Service, name: reviews, port: 9080}
  rules:
  - matches:
    - headers:
      - {name: end-user, value: jason}
    backendRefs:
    - {name: reviews-v2, port: 9080}
  - backendRefs:
    - {name: reviews-v1, port: 9080}
"#;

const REVIEWS_V2: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v2}
";

const REVIEWS_V2_BY_API: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: reviews
spec:
  parentRefs:
  - {group: "", kind: Service, name: reviews, port: 9080}
  rules:
  - backendRefs:
    - {name: reviews-v2, port: 9080}
"#;

const RATINGS_LATE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: ratings
spec:
  hosts: [ratings]
  http:
  - fault:
      delay:
        percentage: {value: 100}
        fixedDelay: 2s
    route:
    - destination: {host: ratings, subset: v1}
";

const REVIEWS_V2_IN_TIME: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews, subset: v2}
    timeout: 0.5s
";

const REVIEWS_V2_IN_TIME_BY_API: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: reviews
spec:
  parentRefs:
  - {group: "", kind: Service, name: reviews, port: 9080}
  rules:
  - backendRefs:
    - {name: reviews-v2, port: 9080}
    timeouts: {request: 500ms}
"#;

pub(super) const ONE_CONNECTION: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: httpbin
spec:
  host: httpbin
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 1}
      http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

pub(super) const ANY_NUMBER_OF_CONNECTIONS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: httpbin
spec:
  host: httpbin
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

pub(super) const MIRRORED: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: httpbin
spec:
  hosts: [httpbin]
  http:
  - route:
    - destination: {host: httpbin, subset: v1}
      weight: 100
    mirror: {host: httpbin, subset: v2}
    mirrorPercentage: {value: 100.0}
";

pub(super) const MIRRORED_BY_API: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: httpbin
spec:
  parentRefs:
  - {group: "", kind: Service, name: httpbin, port: 8000}
  rules:
  - filters:
    - type: RequestMirror
      requestMirror:
        backendRef: {name: httpbin-v2, port: 8000}
    backendRefs:
    - {name: httpbin-v1, port: 8000}
"#;
