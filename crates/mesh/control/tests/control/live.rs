//! Files that change while proxies are connected.

use std::pin::Pin;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use periplus_control::{Change, ControlPlane, Look, Proxy, Source};
use periplus_resources::{MeshConfig, Resource, parse_resources};
use serde_json::Value;
use tokio::sync::watch;

use crate::support::observer::{Observer, Seen};
use crate::support::plane::Plane;
use crate::support::{MESH_CONFIG, Plan, gateway, networking, sidecar};

const RULES: &str = "reviews.yaml";

/// Bookinfo with its subsets, and everything of reviews to v1.
async fn bookinfo() -> Plane {
    let mut files = Plan::fixed().files();
    files.push(("gateway.yaml", networking("bookinfo-gateway.yaml")));
    files.push(("subsets.yaml", networking("destination-rule-all.yaml")));
    files.push((RULES, networking("virtual-service-reviews-90-10.yaml")));
    Plane::start(&files, MESH_CONFIG).await
}

/// The weights of the reviews' clusters in the first route, such as `v1 90, v2 10`.
fn weights(seen: &Seen) -> String {
    let Some(routes) = seen.routes.get("http_proxy") else {
        return String::new();
    };
    let mut hosts = routes.virtual_hosts.iter();
    let host = hosts.find(|host| host.name.starts_with("reviews."));
    let action = host.and_then(|host| host.routes.first()?.action.as_ref());
    let subset = |name: &str| name.split('|').nth(2).unwrap_or_default().to_owned();
    match action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => subset(name),
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                let parts = weighted.clusters.iter().map(|cluster| {
                    let weight = cluster.weight.map_or(0, |weight| weight.value);
                    format!("{} {weight}", subset(&cluster.name))
                });
                parts.collect::<Vec<_>>().join(", ")
            }
            other => panic!("{other:?}"),
        },
        _ => String::new(),
    }
}

fn is_complete(seen: &Seen) -> bool {
    let eds = seen
        .clusters
        .values()
        .filter(|cluster| cluster.eds_cluster_config.is_some());
    !seen.listeners.is_empty() && !seen.routes.is_empty() && eds.count() == seen.endpoints.len()
}

#[tokio::test]
async fn edits_reach_the_proxies() {
    let plane = bookinfo().await;
    assert_eq!(plane.problems(), [""; 0]);
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    let edge = Observer::connect(&plane, gateway());
    let first = productpage.wait_for("the first state", is_complete).await;
    edge.wait_for("the first state", is_complete).await;
    assert_eq!(weights(&first), "v1 90, v2 10");

    plane.replace(RULES, &networking("virtual-service-reviews-80-20.yaml"));
    let second = productpage
        .wait_for("a renamed file", |seen| weights(seen) == "v1 80, v2 20")
        .await;
    // Only routes were sent, and only to the proxy that they concern.
    for name in ["CDS", "EDS", "LDS"] {
        assert_eq!(first.pushes.get(name), second.pushes.get(name), "{name}");
    }
    assert_eq!(edge.seen().pushes.get("RDS"), Some(&1));

    let rules = plane.path(RULES);
    plane.overwrite(&rules, &networking("virtual-service-reviews-v3.yaml"));
    productpage
        .wait_for("an overwritten file", |seen| weights(seen) == "v3")
        .await;

    // A comment is no change.
    let text = format!(
        "# a comment\n{}",
        networking("virtual-service-reviews-v3.yaml")
    );
    plane.overwrite(&rules, &text);
    plane.replace("more.yaml", &networking("virtual-service-details-v2.yaml"));
    let details = |seen: &Seen| {
        let hosts = seen
            .routes
            .get("http_proxy")
            .map(|routes| routes.virtual_hosts.clone());
        hosts.is_some_and(|hosts| format!("{hosts:?}").contains("|v2|details"))
    };
    let before = productpage.wait_for("a new file", details).await.pushes;
    assert_eq!(before.get("RDS"), Some(&4));

    std::fs::remove_file(plane.path("more.yaml")).expect("the file is there");
    productpage
        .wait_for("a removed file", |seen| !details(seen))
        .await;
}

#[tokio::test]
async fn a_bad_file_leaves_the_last_good_content() {
    let plane = bookinfo().await;
    let unrelated = plane.problems();
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    let first = productpage.wait_for("the first state", is_complete).await;

    let good = networking("virtual-service-reviews-80-20.yaml");
    let typo = good.replace("weight: 20", "wieght: 20");
    let rules = plane.path(RULES);
    plane.overwrite(&rules, &typo);
    plane
        .wait_for_problems(|problems| problems.len() > unrelated.len())
        .await;
    let errors = plane.problems();
    assert_eq!(
        errors[0],
        "reviews.yaml:17:7: spec.http[0].route[1].wieght: unknown field `wieght`, did you mean `weight`?"
    );
    assert_eq!(errors[1..], unrelated);
    let (status, body) = plane.get("/debug/config_errors").await;
    let mut rows: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    // Nobody takes spans here, which is told once that has been looked at.
    rows.retain(|row| row["code"] != "PER0206");
    assert_eq!((status, rows.len()), (200, errors.len()));
    assert_eq!(rows[0]["severity"], "error");
    assert_eq!(rows[0]["file"], "reviews.yaml");
    assert_eq!(rows[0]["line"], 17);
    assert_eq!(rows[0]["field"], "spec.http[0].route[1].wieght");
    assert_eq!(rows[0]["resource"], "VirtualService default/reviews");
    let held = rows.iter().map(|row| row["lastGood"] == true);
    assert_eq!(held.filter(|it| *it).count(), 1, "{rows:?}");
    assert_eq!(rows[0]["lastGood"], true);
    let (_, page) = plane.get("/debug/files").await;
    let page: Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(
        page["lastGood"],
        serde_json::json!(["VirtualService default/reviews"])
    );
    let metric = "periplus_config_last_good";
    assert_eq!(plane.metric(metric).await, 1.0);

    // The complaint follows its line.
    plane.overwrite(&rules, &format!("# a comment\n{typo}"));
    plane
        .wait_for_problem("reviews.yaml:18:7: spec.http[0].route[1].wieght")
        .await;

    // Half-written, not text at all, and empty: all of it is worse, and none of it counts.
    plane.overwrite(&rules, &good[..good.len() - 9]);
    plane
        .wait_for_problems(|problems| problems.len() == 1 && !problems[0].contains("wieght"))
        .await;
    std::fs::write(&rules, b"\xff\xfe").expect("a file");
    plane.wait_for_problem("not UTF-8").await;
    plane.overwrite(&rules, "");
    plane.wait_for_problem("the file is empty").await;

    // Other files still take effect.
    plane.replace("more.yaml", &networking("virtual-service-details-v2.yaml"));
    let seen = productpage
        .wait_for("another file", |seen| {
            format!("{:?}", seen.routes).contains("|v2|details")
        })
        .await;
    assert_eq!(weights(&seen), weights(&first));

    plane.overwrite(&rules, &good);
    productpage
        .wait_for("the correction", |seen| weights(seen) == "v1 80, v2 20")
        .await;
    plane
        .wait_for_problems(|problems| problems.iter().all(|p| !p.starts_with("reviews.yaml")))
        .await;
    assert_eq!(plane.metric(metric).await, 0.0);

    // What else a file says takes effect; what it no longer says goes once all of it is right.
    let ratings = networking("virtual-service-ratings-test-abort.yaml");
    let has_ratings = |seen: &Seen| format!("{:?}", seen.routes).contains("jason");
    plane.overwrite(&rules, &format!("{ratings}\n---\n{typo}"));
    let seen = productpage.wait_for("another document", has_ratings).await;
    assert_eq!(weights(&seen), "v1 80, v2 20");
    plane.overwrite(&rules, &typo);
    plane
        .wait_for_problem("VirtualService default/ratings is no longer in the file and holds")
        .await;
    assert!(has_ratings(&productpage.seen()));
    assert_eq!(plane.metric(metric).await, 2.0);
    plane.overwrite(&rules, &good);
    productpage
        .wait_for("what is gone to go", |seen| !has_ratings(seen))
        .await;
}

/// As Kubernetes mounts a ConfigMap: files lead through a link to a directory that is replaced.
#[tokio::test]
async fn links_are_followed() {
    let plane = Plane::start(&Plan::fixed().files(), MESH_CONFIG).await;
    let outside = plane.directory.path();
    for (version, file) in [
        ("1", "virtual-service-reviews-v3.yaml"),
        ("2", "virtual-service-reviews-50-v3.yaml"),
    ] {
        let directory = plane.path(&format!("..{version}"));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::write(directory.join(RULES), networking(file)).expect("a file");
    }
    std::os::unix::fs::symlink("..1", plane.path("..data")).expect("a link");
    std::os::unix::fs::symlink(format!("..data/{RULES}"), plane.path(RULES)).expect("a link");
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    productpage
        .wait_for("the link's target", |seen| weights(seen) == "v3")
        .await;

    std::os::unix::fs::symlink("..2", outside.join("next")).expect("a link");
    std::fs::rename(outside.join("next"), plane.path("..data")).expect("a link");
    productpage
        .wait_for("the link's next target", |seen| {
            weights(seen) == "v1 50, v3 50"
        })
        .await;
}

#[tokio::test]
async fn the_mesh_configuration_is_followed_too() {
    let plane = bookinfo().await;
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    let traces = |seen: &Seen| {
        let mut listeners = seen.listeners.values();
        listeners.all(|l| crate::support::render::render_listener(l).contains("-- tracer"))
    };
    let first = productpage.wait_for("the first state", is_complete).await;
    assert!(traces(&first));

    plane.overwrite(&plane.mesh_config, "enableTracin: false\n");
    plane
        .wait_for_problem("mesh-config.yaml:1:1: enableTracin: unknown field")
        .await;
    assert!(traces(&productpage.seen()));

    plane.overwrite(&plane.mesh_config, "enableTracing: false\n");
    productpage
        .wait_for("no tracing", |seen| is_complete(seen) && !traces(seen))
        .await;
}

#[tokio::test]
async fn operators_see_who_is_in_sync() {
    let plane = bookinfo().await;
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    let lost = Observer::connect(&plane, sidecar("lost", "v1"));
    productpage.wait_for("the first state", is_complete).await;
    lost.wait_for("the collector's cluster", |seen| seen.endpoints.len() == 1)
        .await;
    let in_sync = || {
        let proxies = plane.ads.proxies();
        let states = proxies.iter().flat_map(|proxy| proxy.types.values());
        let open = states
            .filter(|state| state.sent_nonce != state.acked_nonce)
            .count();
        if proxies.len() == 2 && open == 0 {
            Ok(())
        } else {
            Err(open)
        }
    };
    crate::support::wait_until("acknowledgements", in_sync).await;

    let (status, body) = plane.get("/debug/syncz").await;
    let rows: Vec<Value> = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, rows.len()), (200, 2));
    let row = &rows[1];
    assert_eq!(row["proxy"], "productpage-v1.default");
    assert_eq!(row["proxy_type"], "sidecar");
    assert_eq!(row["cluster_id"], "local");
    for name in ["cluster", "listener", "route", "endpoint"] {
        assert_eq!(row[format!("{name}_sent")], row[format!("{name}_acked")]);
        assert_eq!(row["resources"][name]["status"], "SYNCED", "{name}");
    }
    let note = rows[0]["notes"][0].as_str().expect("a note");
    assert!(
        note.starts_with("no Sidecar in namespace default"),
        "{note}"
    );

    let (_, metrics) = plane.get("/metrics").await;
    for line in [
        "pilot_xds{version=\"unknown\"} 2",
        "pilot_services 6",
        "pilot_virt_services 2",
        "pilot_total_xds_rejects 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
    assert_eq!(plane.get("/ready").await.0, 200);
    let (_, version) = plane.get("/version").await;
    let version: Value = serde_json::from_str(&version).expect("JSON");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

/// A file that never comes to rest is taken all the same, after the longest wait.
#[tokio::test]
async fn a_restless_file_is_taken_in_the_end() {
    let plane = bookinfo().await;
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    productpage.wait_for("the first state", is_complete).await;
    let rules = plane.path(RULES);
    let good = networking("virtual-service-reviews-v3.yaml");
    let writer = tokio::spawn(async move {
        for n in 0.. {
            std::fs::write(&rules, format!("# {n}\n{good}")).expect("a file");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    productpage
        .wait_for("the file", |seen| weights(seen) == "v3")
        .await;
    writer.abort();
}

/// At the start nobody knows what a policy that cannot be read would deny; later its last good content is known.
#[tokio::test]
async fn policies_that_cannot_be_read_at_the_start_deny_everything() {
    const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: reviews}
spec: {action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]}
";
    let broken = POLICY.replace("methods", "method");
    let mut files = Plan::fixed().files();
    files.push(("policy.yaml", broken.clone()));
    files.push(("other.yaml", "kind: Nothing\n".to_owned()));
    let plane = Plane::start(&files, MESH_CONFIG).await;
    let applying = |service: &str| -> Vec<String> {
        let proxy = Proxy::from_node(&sidecar(service, "v1")).expect("a good node");
        let state = plane.mesh.state();
        let policies = state.index.authorization_policies(&proxy);
        policies
            .map(|entry| format!("{} {:?}", entry.meta.name, entry.spec.action))
            .collect()
    };
    let closed = ["not-loaded-policy-yaml Deny"];
    assert_eq!(applying("reviews"), closed);
    assert_eq!(applying("ratings"), closed);
    let said = plane.problems().join("\n");
    assert!(
        said.contains("policy.yaml:1:1: its policies could not be read since the start"),
        "{said}"
    );
    assert!(said.contains("unknown field `method`"), "{said}");
    assert_eq!(said.matches("are denied until").count(), 1, "{said}");
    // Wrong in another way: still nobody knows.
    plane.replace("policy.yaml", &broken.replace("GET", "PUT, ["));
    plane
        .wait_for_problems(|problems| !problems.iter().any(|one| one.contains("`method`")))
        .await;
    assert_eq!(applying("reviews"), closed);
    assert!(plane.problems().join("\n").contains("are denied until"));
    // Right, and wrong again: what it said stays.
    plane.replace("policy.yaml", POLICY);
    plane
        .wait_for_problems(|problems| problems.len() == 1)
        .await;
    assert_eq!(applying("reviews"), ["reviews Allow"]);
    plane.replace("policy.yaml", &broken);
    plane.wait_for_problem("unknown field `method`").await;
    assert_eq!(applying("reviews"), ["reviews Allow"]);
    // One that comes later cannot be taken for the newest of what was there.
    plane.replace("later.yaml", &broken.replace("reviews", "ratings"));
    plane
        .wait_for_problem("later.yaml:1:1: it may hold policies")
        .await;
    assert_eq!(applying("ratings"), ["reviews Allow"]);
    let (_, body) = plane.get("/debug/files").await;
    let page: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(page["denyingAll"], serde_json::json!([]));
}

/// A source that says what a test tells it.
struct Told {
    news: watch::Receiver<Vec<Resource>>,
    now: Vec<Resource>,
    mesh: MeshConfig,
}

impl Source for Told {
    fn changed(&mut self) -> Pin<Box<dyn Future<Output = Instant> + Send + '_>> {
        Box::pin(async {
            match self.news.changed().await {
                Ok(()) => Instant::now(),
                Err(_) => std::future::pending().await,
            }
        })
    }

    fn look(&mut self) -> Look {
        let news = self.news.borrow_and_update().clone();
        let change = Change::between("a test".into(), &self.now, &news);
        self.now = news;
        Look {
            is_other: true,
            changes: vec![change],
        }
    }

    fn resources(&self) -> Box<dyn Iterator<Item = &Resource> + '_> {
        Box::new(self.now.iter())
    }

    fn mesh_config(&self) -> &MeshConfig {
        &self.mesh
    }
}

/// Files are one source of several.
#[tokio::test]
async fn resources_come_from_any_source() {
    let read = |rules: &str| {
        let files = Plan::fixed().files().into_iter().map(|(_, text)| text);
        let subsets = networking("destination-rule-all.yaml");
        let texts = files.chain([subsets, networking(rules)]);
        let parsed = texts.map(|text| parse_resources("a test", &text));
        parsed.flat_map(|one| one.resources).collect::<Vec<_>>()
    };
    let first = read("virtual-service-reviews-90-10.yaml");
    let (tell, news) = watch::channel(first.clone());
    let source = Told {
        news,
        now: first,
        mesh: MeshConfig::default(),
    };
    let plane = ControlPlane::over(source, None).expect("no authority is asked for");
    let directory = tempfile::tempdir().expect("a directory");
    let nowhere = directory.path().join("mesh-config.yaml");
    let plane = Plane::serve(plane, (directory, nowhere)).await;
    let productpage = Observer::connect(&plane, sidecar("productpage", "v1"));
    let is_first = |seen: &Seen| weights(seen) == "v1 90, v2 10";
    productpage.wait_for("what there was", is_first).await;
    tell.send_replace(read("virtual-service-reviews-v3.yaml"));
    productpage
        .wait_for("what has come", |seen| weights(seen) == "v3")
        .await;
    let updates = "pilot_inbound_updates{type=\"config\"}";
    assert_eq!(plane.metric(updates).await, 1.0);
}
