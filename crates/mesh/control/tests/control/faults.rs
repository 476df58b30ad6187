//! Proxies that refuse what they are sent, or never say what they think of it: nobody else waits for them, and they
//! are seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use envoy_types::pb::google::protobuf::Any;
use periplus_xds::client::{Config, Handler, Rejection, run};
use serde_json::Value;

use crate::support::observer::Observer;
use crate::support::plane::Plane;
use crate::support::{MESH_CONFIG, Plan, networking, sidecar, wait_until};

const RULES: &str = "reviews.yaml";

/// Refuses whatever it gets, and counts it.
pub(crate) struct Refuser(pub(crate) Arc<AtomicUsize>);

impl Handler for Refuser {
    fn apply(&mut self, _: &str, _: &str, _: Vec<Any>) -> Result<(), Vec<Rejection>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(vec![Rejection {
            resource: "cluster \"all\"".into(),
            reason: "not today".into(),
        }])
    }

    fn wanted(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

/// Takes the first thing that it gets in its hands and is never heard of again.
struct Silent;

impl Handler for Silent {
    fn apply(&mut self, _: &str, _: &str, _: Vec<Any>) -> Result<(), Vec<Rejection>> {
        loop {
            std::thread::park();
        }
    }

    fn wanted(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

/// Runs a client in a thread of its own, which ends with the process.
pub(crate) fn connect(plane: &Plane, name: &str, mut handler: impl Handler + 'static) {
    let node = sidecar("productpage", name);
    let config = Config::new(format!("http://{}", plane.xds), node);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async { run(&config, &mut handler).await })
    });
}

#[tokio::test]
async fn trap_15_those_who_refuse_or_never_answer_hold_up_nobody() {
    let mut files = Plan::fixed().files();
    files.push(("subsets.yaml", networking("destination-rule-all.yaml")));
    let plane = Plane::start(&files, MESH_CONFIG).await;
    let refused = Arc::new(AtomicUsize::new(0));
    connect(&plane, "refuses", Refuser(Arc::clone(&refused)));
    connect(&plane, "silent", Silent);
    let good = Observer::connect(&plane, sidecar("productpage", "v1"));
    good.wait_for("the first state", |seen| !seen.routes.is_empty())
        .await;
    // Clusters and listeners: each is refused once, and not sent again as it is.
    let rejects = |count: usize| {
        let refused = Arc::clone(&refused);
        move || match refused.load(Ordering::Relaxed) {
            found if found == count => Ok(()),
            found => Err(found),
        }
    };
    wait_until("two refusals", rejects(2)).await;

    const EDITS: usize = 20;
    let subset = |n: usize| if n.is_multiple_of(2) { "v1" } else { "v3" };
    for n in 0..EDITS {
        let rules = networking("virtual-service-reviews-v3.yaml").replace("v3", subset(n));
        plane.replace(RULES, &rules);
        let cluster = format!("|{}|reviews", subset(n));
        good.wait_for("the edit", |seen| {
            format!("{:?}", seen.routes.get("http_proxy")).contains(&cluster)
        })
        .await;
    }
    // Rules change routes alone, which the refuser has not got as far as to ask for.
    assert_eq!(refused.load(Ordering::Relaxed), 2);

    let (_, body) = plane.get("/debug/syncz").await;
    let rows: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    let row = |name: &str| {
        let name = format!("productpage-{name}.default");
        let found = rows.iter().find(|row| row["proxy"] == name.as_str());
        found.unwrap_or_else(|| panic!("{name} in {body}"))
    };
    let cluster = |name: &str| &row(name)["resources"]["cluster"];
    assert_eq!(cluster("v1")["status"], "SYNCED");
    assert_eq!(cluster("silent")["status"], "STALE");
    assert_eq!(cluster("silent")["lastError"], Value::Null);
    assert_eq!(cluster("refuses")["status"], "ERROR");
    let error = cluster("refuses")["lastError"].as_str().unwrap_or_default();
    assert!(error.contains("not today"), "{error}");
    let (_, metrics) = plane.get("/metrics").await;
    assert!(metrics.contains("pilot_total_xds_rejects 2"), "{metrics}");
}
