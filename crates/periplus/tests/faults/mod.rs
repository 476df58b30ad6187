//! Rules, subsets and endpoints that change ten times a second, some files half-written, a rule that proxies refuse, and a
//! control plane that is killed meanwhile: no request is lost, and in the end everybody has the last rules.
//!
//! `PERIPLUS_FAULTS_SECONDS` says for how long (`cargo xtask faults`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::child_with;
use crate::support::{Demo, free_base, get, get_json, patiently};

const EVERY: Duration = Duration::from_millis(100);
/// How many edits there are to a file that is cut short.
const HALF_WRITTEN: u32 = 7;
/// How often the control plane dies; all of it takes so many parts, and one.
const KILLS: u32 = 3;

const NEVER: &str = "a request is lost";

/// Clients must keep a certificate that is nowhere: proxies refuse the cluster, and go on with the one that they have.
const REFUSED: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: refused}
spec:
  host: details
  trafficPolicy:
    tls: {mode: MUTUAL, clientCertificate: /nowhere/cert.pem, privateKey: /nowhere/key.pem, caCertificates: /nowhere/ca.pem}
";

/// A subset that was not there before gets all requests, and every second time another endpoint, which has those of v2.
fn rules(n: u32, port: &str) -> String {
    let version = if n.is_multiple_of(2) { "v1" } else { "v3" };
    let labels = if n.is_multiple_of(4) {
        "nobody"
    } else {
        version
    };
    let subset = n % 5;
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews-churn}}
spec: {{host: reviews, subsets: [{{name: s{subset}, labels: {{version: {version}}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: reviews-churn}}
spec: {{address: 127.0.0.1, ports: {{http: {port}}}, labels: {{app: reviews, version: {labels}}}, serviceAccount: bookinfo-reviews}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews}}
spec: {{hosts: [reviews], http: [{{route: [{{destination: {{host: reviews, subset: s{subset}}}}}]}}]}}
"
    )
}

/// The port of the sidecar of reviews v2.
fn port_of_v2(demo: &Demo) -> String {
    let workloads =
        std::fs::read_to_string(demo.directory().join("config/workloads.yaml")).unwrap();
    let mut documents = workloads.split("---");
    let own = documents
        .find(|text| text.contains("name: reviews-v2"))
        .unwrap();
    let (_, port) = own.rsplit_once("http: ").unwrap();
    port.trim().to_owned()
}

/// How many edits there are.
fn edits() -> u32 {
    let seconds = std::env::var("PERIPLUS_FAULTS_SECONDS").ok();
    let seconds: u32 = seconds.map_or(10, |text| text.parse().unwrap());
    10 * seconds
}

/// Proxies that have refused their clusters.
fn refusers(monitoring: u16) -> usize {
    let page = get(monitoring, "/debug/syncz");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&page.body).unwrap_or_default();
    let refused = rows.iter().filter(|row| {
        let error = row["resources"]["cluster"]["lastError"].as_str();
        error.is_some_and(|error| error.contains("/nowhere/"))
    });
    refused.count()
}

/// Ends the load, also when something else goes wrong.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_restless_and_mortal_control_plane_loses_no_request() {
    let base = free_base();
    let monitoring = base + 6;
    let mut demo = Demo::start(base, &["--no-traffic"]);
    demo.wait_for(&["Ctrl-C stops everything"]);
    let last = demo
        .directory()
        .join("examples/virtual-service-reviews-v3.yaml");
    let last = std::fs::read_to_string(last).unwrap();
    let refused: PathBuf = demo.directory().join("config/refused.yaml");
    let port = port_of_v2(&demo);
    let edits = edits();
    let part = edits / (KILLS + 1);
    let over = AtomicBool::new(false);
    let pages = thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut pages = BTreeMap::<String, usize>::new();
            while !over.load(Ordering::Relaxed) {
                let page = get(base, "/productpage");
                let is_whole = page.status == 200
                    && page.body.contains("Reviewer1")
                    && !page.body.contains("class=\"error\"");
                let what = match is_whole {
                    true => "whole".to_owned(),
                    false => format!("{NEVER}: {} {}", page.head, page.body),
                };
                *pages.entry(what).or_default() += 1;
            }
            pages
        });
        let stop = Stop(&over);
        let begun = Instant::now();
        for n in 0..edits {
            let text = rules(n, &port);
            let is_half = n % HALF_WRITTEN == 0;
            demo.edit(if is_half {
                &text[..text.len() - 30]
            } else {
                &text
            });
            // From then on there are proxies that go by what they had before.
            if n == part + part / 2 {
                std::fs::write(&refused, REFUSED).unwrap();
                patiently("refusals to be seen", || {
                    (refusers(monitoring) > 0).then_some(())
                });
                assert!(
                    !get(monitoring, "/metrics")
                        .body
                        .contains("pilot_total_xds_rejects 0")
                );
            }
            if n > 0 && n % part == 0 && n / part <= KILLS {
                patiently("a control plane", || {
                    (get(monitoring, "/ready").status == 200).then_some(())
                });
                let control = child_with(demo.id(), "periplus\0control");
                kill_process(control, Signal::KILL).unwrap();
            }
            let due = EVERY * (n + 1);
            thread::park_timeout(due.saturating_sub(begun.elapsed()));
        }
        patiently("refusals at the end", || {
            (refusers(monitoring) > 0).then_some(())
        });
        std::fs::remove_file(&refused).unwrap();
        demo.edit(&last);
        patiently("v3 alone", || {
            let mut pages = (0..10).map(|_| get(base, "/productpage").body);
            pages
                .all(|page| page.contains("data-color=\"red\""))
                .then_some(())
        });
        drop(stop);
        load.join().unwrap()
    });
    assert_eq!(pages.keys().collect::<Vec<_>>(), ["whole"], "{pages:?}");
    assert!(pages["whole"] > 100, "{pages:?}");

    let said = demo.log("control");
    assert!(said.contains("the last good content stays"), "{said}");
    patiently("every proxy to have everything", || {
        let page = get_json(monitoring, "/debug/syncz");
        let rows = page.as_array()?;
        let is_settled = |state: &serde_json::Value| state["status"] == "SYNCED";
        let settled = rows.iter().filter(|row| {
            let resources = row["resources"].as_object();
            resources.is_some_and(|types| types.values().all(is_settled))
        });
        (rows.len() == 7 && settled.count() == 7).then_some(())
    });
    let problems = get_json(monitoring, "/debug/config_errors");
    let errors = problems.as_array().unwrap().iter();
    let errors: Vec<_> = errors.filter(|one| one["severity"] == "error").collect();
    assert!(errors.is_empty(), "{errors:?}");
}
