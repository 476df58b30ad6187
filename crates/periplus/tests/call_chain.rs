//! The main job: the call chain of a Bookinfo request, made by real sidecars, read from Jaeger's
//! API; rules changed while requests run; headers that an application drops.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod authorization;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::{Demo, free_base, get, get_json, get_with, patiently};

const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

#[test]
fn each_hop_has_a_client_and_a_server_span_inside_its_parent() {
    let base = free_base();
    let filter = "warn,periplus_bookinfo=debug";
    let mut demo = Demo::start_logging(base, &["--no-traffic"], filter);
    demo.wait_for(&["Ctrl-C stops everything"]);
    demo.apply("virtual-service-reviews-v3.yaml");
    patiently("v3 only", || {
        (colours(base, 10) == [0, 0, 10]).then_some(())
    });

    let trace = get_with(
        base,
        "/productpage",
        &[
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", "a2fb4a1d1a96d312"),
            ("x-b3-sampled", "1"),
            ("x-b3-flags", "1"),
            ("x-ot-span-context", "opaque"),
        ],
    );
    assert_eq!(trace.status, 200);
    let spans = Spans::wait_for(base + 1, TRACE, 9);

    let page = "productpage.default.svc.cluster.local:9080/productpage";
    let details = "details.default.svc.cluster.local:9080/*";
    let reviews = "reviews.default.svc.cluster.local:9080/*";
    let ratings = "ratings.default.svc.cluster.local:9080/*";
    let to_page = "router outbound|9080||productpage.default.svc.cluster.local; egress";
    let gateway = "istio-ingressgateway.istio-system";
    assert_eq!(
        spans.chain(),
        [
            (0, "server", gateway, page),
            (1, "client", gateway, to_page),
            (2, "server", "productpage.default", page),
            (3, "client", "productpage.default", details),
            (4, "server", "details.default", details),
            (3, "client", "productpage.default", reviews),
            (4, "server", "reviews.default", reviews),
            (5, "client", "reviews.default", ratings),
            (6, "server", "ratings.default", ratings),
        ]
    );
    spans.assert_nested();
    let ids: BTreeSet<String> = spans.tag_values("guid:x-request-id");
    assert_eq!(
        ids.len(),
        1,
        "one request id goes through all hops: {ids:?}"
    );
    // What each application received. The calls of productpage and reviews were made with what these
    // forwarded: that is how the applications behind them got it.
    let request_id = ids.first().unwrap();
    for (workload, service) in [
        ("productpage-v1", "productpage.default"),
        ("details-v1", "details.default"),
        ("reviews-v3", "reviews.default"),
        ("ratings-v1", "ratings.default"),
    ] {
        let span = spans.server(service);
        let log = demo.log(workload);
        let received: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("received context") && line.contains(TRACE))
            .collect();
        let [received] = received[..] else {
            panic!("{workload} got one request of the trace: {received:?}");
        };
        for (name, value) in [
            ("x-request-id", request_id.as_str()),
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", span["spanID"].as_str().unwrap()),
            ("x-b3-parentspanid", parent(span).unwrap()),
            ("x-b3-sampled", "1"),
            ("x-b3-flags", "1"),
            ("x-ot-span-context", "opaque"),
        ] {
            assert!(
                received.contains(&format!("{name}=\"{value}\"")),
                "{workload} gets {name}: {value}, but: {received}"
            );
        }
    }

    let found = get_json(
        base + 1,
        "/api/traces?service=productpage.default&limit=100",
    );
    let found = found["data"].as_array().unwrap();
    assert!(
        found.iter().any(|trace| trace["traceID"] == TRACE),
        "the search finds it"
    );
    let services = get_json(base + 1, "/api/services");
    for service in ["details.default", "ratings.default", "reviews.default"] {
        assert!(
            services["data"]
                .as_array()
                .unwrap()
                .iter()
                .any(|name| name == service)
        );
    }
}

#[test]
fn rules_change_while_requests_run_and_none_is_lost() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);

    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut statuses = BTreeMap::<u16, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                let page = get(base, "/productpage");
                // A page without reviews is a lost request, though its status is 200.
                let whole = page.body.contains("Reviewer1");
                *statuses
                    .entry(if whole { page.status } else { 0 })
                    .or_default() += 1;
            }
            statuses
        })
    };

    demo.apply("virtual-service-all-v1.yaml");
    patiently("v1 only", || {
        (colours(base, 10) == [10, 0, 0]).then_some(())
    });

    demo.apply("virtual-service-reviews-90-10.yaml");
    let [none, black, red] = patiently("some of v2", || {
        let seen = colours(base, 100);
        (seen[1] > 0).then_some(seen)
    });
    assert!(
        none > black && red == 0,
        "90 to 10, and nothing of v3: {none} {black} {red}"
    );

    demo.apply("virtual-service-reviews-test-v2.yaml");
    let jason = login(base, "jason");
    patiently("jason sees v2", || {
        let page = get_with(base, "/productpage", &[("cookie", &jason)]);
        page.body.contains("data-color=\"black\"").then_some(())
    });
    patiently("others see v1", || {
        (colours(base, 20) == [20, 0, 0]).then_some(())
    });

    // A typo: the error is named, and what was good goes on.
    demo.edit(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {name: reviews}\nspec: {hots: [reviews]}\n",
    );
    patiently("the typo in the control plane's log", || {
        let log = demo.log("control");
        (log.contains("routes.yaml:4") && log.contains("hots")).then_some(())
    });
    let page = get_with(base, "/productpage", &[("cookie", &jason)]);
    assert!(
        page.body.contains("data-color=\"black\""),
        "the last good rules stay"
    );

    stop.store(true, Ordering::Relaxed);
    let statuses = load.join().unwrap();
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200], "{statuses:?}");
    assert!(statuses[&200] > 50, "{statuses:?}");
}

#[test]
fn an_application_that_drops_headers_splits_the_trace_and_breaks_nothing() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--no-traffic", "--drop-headers", "reviews"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    demo.apply("virtual-service-reviews-v3.yaml");
    patiently("v3 only", || {
        (colours(base, 10) == [0, 0, 10]).then_some(())
    });
    let page = get_with(
        base,
        "/productpage",
        &[("x-b3-traceid", TRACE), ("x-b3-spanid", "a2fb4a1d1a96d312")],
    );
    assert_eq!(page.status, 200);
    let spans = Spans::wait_for(base + 1, TRACE, 7);
    assert!(
        !spans
            .chain()
            .iter()
            .any(|(_, _, service, _)| *service == "ratings.default")
    );
    // The call that reviews made without context is a trace of its own: client and server.
    patiently("the other half", || {
        let found = get_json(base + 1, "/api/traces?service=ratings.default&limit=100");
        let found = found["data"].as_array().unwrap().clone();
        found
            .iter()
            .any(|trace| trace["spans"].as_array().unwrap().len() == 2)
            .then_some(())
    });
}

/// Certificates hold for six seconds here, so that each of seven proxies gets another one every three.
#[test]
fn identities_are_on_every_span_and_rotate_under_load_and_plaintext_is_refused() {
    let base = free_base();
    let mut demo = Demo::start(base, &["--no-traffic", "--certificate-lifetime", "6s"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let inbound_of_reviews = base + 10 + 2 * 10 + 1;
    let plaintext = || get(inbound_of_reviews, "/reviews/0").status;
    assert_eq!(plaintext(), 200, "PERMISSIVE takes both");
    demo.apply("mtls-strict.yaml");
    patiently("STRICT", || (plaintext() == 0).then_some(()));

    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut pages = 0;
            while !stop.load(Ordering::Relaxed) {
                let page = get(base, "/productpage");
                assert_eq!(page.status, 200, "page {pages}");
                assert!(!page.body.contains("Error fetching"), "page {pages}");
                pages += 1;
            }
            pages
        })
    };
    let renewed = |admin: u16| -> u64 {
        let stats = get(admin, "/stats").body;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("identity.renewed: "));
        line.unwrap().parse().unwrap()
    };
    let admins: Vec<u16> = (0..6).map(|i| base + 10 + i * 10 + 3).collect();
    let admins = || admins.iter().copied().chain([base + 7]);
    let began: Vec<u64> = admins().map(renewed).collect();
    patiently("two more certificates for each proxy", || {
        let renewed = admins().map(renewed).zip(&began);
        let mut more = renewed.map(|(now, began)| now - began);
        more.all(|more| more >= 2).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().unwrap() > 10);
    assert_eq!(plaintext(), 0);

    let example = |name: &str| {
        let path = demo.directory().join("examples").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let strict = example("mtls-strict.yaml");
    let v3 = example("virtual-service-reviews-v3.yaml");
    demo.edit(&format!("{strict}\n---\n{v3}"));
    patiently("v3 only", || {
        (colours(base, 10) == [0, 0, 10]).then_some(())
    });
    let traced = get_with(
        base,
        "/productpage",
        &[("x-b3-traceid", TRACE), ("x-b3-spanid", "a2fb4a1d1a96d312")],
    );
    assert_eq!(traced.status, 200);
    let inbounds = (0..6).map(|i| base + 10 + i * 10 + 1);
    for inbound in inbounds {
        assert_eq!(get(inbound, "/").status, 0, "{inbound} is STRICT still");
    }
    let spans = Spans::wait_for(base + 1, TRACE, 9);
    let id = |namespace: &str, account: &str| {
        format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
    };
    let gateway = id("istio-system", "istio-ingressgateway-service-account");
    let [page, details, reviews, ratings] = ["productpage", "details", "reviews", "ratings"]
        .map(|it| id("default", &format!("bookinfo-{it}")));
    let mut shown: Vec<(&str, &str)> = spans
        .spans
        .iter()
        .filter_map(|span| {
            Some((
                tag(span, "source_principal")?,
                tag(span, "destination_principal")?,
            ))
        })
        .collect();
    shown.sort_unstable();
    // Each call has a client and a server span; that of the gateway's own client names whom it was passed to.
    let calls = [
        (&page, &details, 2),
        (&page, &reviews, 2),
        (&reviews, &ratings, 2),
        (&gateway, &page, 3),
    ];
    let mut expected: Vec<(&str, &str)> = calls
        .iter()
        .flat_map(|(from, to, spans)| vec![(from.as_str(), to.as_str()); *spans])
        .collect();
    expected.sort_unstable();
    assert_eq!(shown, expected);

    authorization::follow(&demo, base);
}

/// How many of so many pages have no stars, black ones, red ones.
fn colours(base: u16, pages: usize) -> [usize; 3] {
    let mut seen = [0; 3];
    for _ in 0..pages {
        let body = get(base, "/productpage").body;
        let colour = match () {
            () if body.contains("data-color=\"black\"") => 1,
            () if body.contains("data-color=\"red\"") => 2,
            () => 0,
        };
        seen[colour] += 1;
    }
    seen
}

fn login(base: u16, user: &str) -> String {
    let answer = support::request(
        base,
        "POST",
        "/login",
        &[("content-type", "application/x-www-form-urlencoded")],
        &format!("username={user}&passwd="),
    );
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// The spans of one trace, in Jaeger's JSON.
struct Spans {
    spans: Vec<Value>,
    processes: Value,
}

impl Spans {
    fn wait_for(ui: u16, trace: &str, spans: usize) -> Self {
        patiently("the whole trace", || {
            let found = get_json(ui, &format!("/api/traces/{trace}"));
            let data = &found["data"][0];
            let list = data["spans"].as_array()?;
            (list.len() >= spans).then(|| Self {
                spans: list.clone(),
                processes: data["processes"].clone(),
            })
        })
    }

    /// Depth, kind, service and operation, depth first, children by start time.
    fn chain(&self) -> Vec<(usize, &str, &str, &str)> {
        let mut chain = Vec::new();
        let known: BTreeSet<&str> = self
            .spans
            .iter()
            .map(|s| s["spanID"].as_str().unwrap())
            .collect();
        let roots = self
            .spans
            .iter()
            .filter(|s| !parent(s).is_some_and(|id| known.contains(id)));
        for root in roots {
            self.descend(root, 0, &mut chain);
        }
        chain
    }

    fn descend<'a>(
        &'a self,
        span: &'a Value,
        depth: usize,
        to: &mut Vec<(usize, &'a str, &'a str, &'a str)>,
    ) {
        let name = span["operationName"].as_str().unwrap();
        let kind = tag(span, "span.kind").unwrap();
        to.push((depth, kind, self.service(span), name));
        let id = span["spanID"].as_str().unwrap();
        let mut children: Vec<&Value> = self
            .spans
            .iter()
            .filter(|child| parent(child) == Some(id))
            .collect();
        children.sort_by_key(|child| child["startTime"].as_u64().unwrap());
        for child in children {
            self.descend(child, depth + 1, to);
        }
    }

    fn service(&self, span: &Value) -> &str {
        let process = span["processID"].as_str().unwrap();
        self.processes[process]["serviceName"].as_str().unwrap()
    }

    /// The server span of a service that was called once.
    fn server(&self, service: &str) -> &Value {
        let is_it = |span: &&Value| {
            self.service(span) == service && tag(span, "span.kind") == Some("server")
        };
        self.spans.iter().find(is_it).unwrap()
    }

    fn assert_nested(&self) {
        for span in &self.spans {
            let Some(parent) =
                parent(span).and_then(|id| self.spans.iter().find(|other| other["spanID"] == id))
            else {
                continue;
            };
            let ends = |s: &Value| {
                let start = s["startTime"].as_u64().unwrap();
                (start, start + s["duration"].as_u64().unwrap())
            };
            let ((from, to), (first, last)) = (ends(span), ends(parent));
            assert!(
                first <= from && to <= last,
                "{span:#} is outside of {parent:#}"
            );
            assert!(
                span["warnings"].is_null(),
                "nothing had to be mended: {span:#}"
            );
        }
    }

    fn tag_values(&self, key: &str) -> BTreeSet<String> {
        self.spans
            .iter()
            .filter_map(|span| tag(span, key))
            .map(str::to_owned)
            .collect()
    }
}

fn parent(span: &Value) -> Option<&str> {
    span["references"][0]["spanID"].as_str()
}

fn tag<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let tags = span["tags"].as_array()?;
    tags.iter().find(|tag| tag["key"] == key)?["value"].as_str()
}
