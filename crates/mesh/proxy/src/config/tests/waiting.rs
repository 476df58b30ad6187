//! What waits for what, and what stays until then.

use super::*;

#[test]
fn listeners_wait_for_routes_and_for_the_first_clusters() {
    let now = Instant::now();
    let mut store = Store::default();
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("r")))],
        now,
    );
    assert_eq!(store.wanted(ROUTE), ["r"]);
    take(&mut store, ROUTE, &[pack_any(routes("r", "c"))], now);
    assert!(
        store.advance(now).is_none(),
        "the clusters have not arrived"
    );
    assert!(!store.is_complete());

    take(&mut store, CLUSTER, &[pack_any(eds_cluster("c"))], now);
    assert_eq!(store.wanted(ENDPOINT), ["c"]);
    assert!(
        store.advance(now).is_none(),
        "the endpoints have not arrived"
    );

    take(&mut store, ENDPOINT, &[pack_any(assignment("c", &[]))], now);
    let snapshot = store.advance(now).expect("everything is there");
    assert_eq!((snapshot.listeners.len(), snapshot.clusters.len()), (1, 1));
    assert!(store.is_complete());
    assert!(store.advance(now).is_none(), "nothing has changed");
}

#[test]
fn nobody_waits_for_longer_than_the_fetch_timeout() {
    let now = Instant::now();
    let mut store = Store::default();
    take(&mut store, CLUSTER, &[pack_any(eds_cluster("c"))], now);
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("r")))],
        now,
    );
    let deadline = store.next_deadline().expect("something waits");
    assert_eq!(deadline, now + Duration::from_secs(15));
    assert!(store.advance(deadline - Duration::from_millis(1)).is_none());
    let snapshot = store.advance(deadline).expect("used as it is");
    assert!(snapshot.clusters["c"].endpoints.is_empty());
    assert!(manager_of(&snapshot.listeners[0]).routes.is_none());
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn the_former_form_stays_until_the_new_one_is_ready() {
    let now = Instant::now();
    let (mut store, first) = ready(now);
    take(
        &mut store,
        LISTENER,
        &[pack_any(listener_with("l", 80, manager("other")))],
        now,
    );
    assert_eq!(store.wanted(ROUTE), ["other", "r"]);
    assert!(store.advance(now).is_none());
    take(&mut store, ROUTE, &[pack_any(routes("other", "c"))], now);
    let second = store.advance(now).expect("ready");
    let table = |snapshot: &Snapshot| {
        manager_of(&snapshot.listeners[0])
            .routes
            .as_ref()
            .expect("routes")
            .name
            .clone()
    };
    assert_eq!(
        (table(&first), table(&second)),
        ("r".to_owned(), "other".to_owned())
    );
    assert_eq!(store.wanted(ROUTE), ["other"]);
    assert!(std::sync::Arc::ptr_eq(
        &first.clusters["c"],
        &second.clusters["c"]
    ));

    let mut elsewhere = eds_cluster("c");
    elsewhere
        .eds_cluster_config
        .as_mut()
        .expect("eds")
        .service_name = "elsewhere".to_owned();
    take(&mut store, CLUSTER, &[pack_any(elsewhere)], now);
    assert!(store.advance(now).is_none());
    take(
        &mut store,
        ENDPOINT,
        &[pack_any(assignment("elsewhere", &[("10.0.0.2", 2)]))],
        now,
    );
    let third = store.advance(now).expect("ready");
    assert_eq!(third.clusters["c"].endpoints[0].address.port(), 2);
    assert!(std::sync::Arc::ptr_eq(
        &second.listeners[0],
        &third.listeners[0]
    ));
}

#[test]
fn a_refused_resource_keeps_its_last_good_form_and_the_others_move_on() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let mut bad = listener_with("l", 81, manager("r"));
    bad.enable_mptcp = true;
    let good = listener_with("m", 82, manager("r"));
    let outcome = store.apply(
        LISTENER,
        "v2",
        (&[pack_any(bad.clone()), pack_any(good)], Extent::Whole),
        now,
    );
    assert_eq!(outcome.expect_err("refused").len(), 1);
    let snapshot = store.advance(now).expect("the good one is new");
    let ports: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|l| l.address.port())
        .collect();
    assert_eq!(ports, [80, 82]);

    // The same bad form is refused again, and what is gone from the response is gone.
    assert!(
        store
            .apply(LISTENER, "v3", (&[pack_any(bad)], Extent::Whole), now)
            .is_err()
    );
    assert_eq!(store.advance(now).expect("m is gone").listeners.len(), 1);
}

#[test]
fn two_listeners_at_one_address_and_two_of_one_name_are_refused() {
    let one = pack_any(listener_with("one", 80, manager("r")));
    let two = pack_any(listener_with("two", 80, manager("r")));
    assert_eq!(
        refused(LISTENER, &[one.clone(), two]),
        "listener \"two\": address: 127.0.0.1:80 belongs to listener \"one\" already"
    );
    assert_eq!(
        refused(LISTENER, &[one.clone(), one]),
        "listener \"one\": its name must be unique and not empty"
    );
}

#[test]
fn names_are_resolved_and_keep_their_addresses_when_resolving_fails() {
    let now = Instant::now();
    let mut store = Store::default();
    take(
        &mut store,
        CLUSTER,
        &[pack_any(dns_cluster(DiscoveryType::StrictDns))],
        now,
    );
    assert!(store.advance(now).is_none(), "not resolved yet");
    let lookup: Lookup = store.lookups().into_iter().next().expect("a name");
    assert_eq!(
        (lookup.name.as_str(), lookup.all_addresses),
        ("zipkin.local", true)
    );
    let address = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    store.resolved(lookup.clone(), vec![address(1), address(2)]);
    let snapshot = store.advance(now).expect("resolved");
    let ports: Vec<_> = snapshot.clusters["dns"]
        .endpoints
        .iter()
        .map(|e| e.address.port())
        .collect();
    assert_eq!(ports, [9411, 9411]);
    store.resolved(lookup.clone(), Vec::new());
    assert!(store.advance(now).is_none(), "the addresses stay");
    store.resolved(lookup, vec![address(3)]);
    let snapshot = store.advance(now).expect("new addresses");
    assert_eq!(
        snapshot.clusters["dns"].endpoints[0].address.ip(),
        address(3)
    );
}

#[test]
fn unhealthy_endpoints_are_used_only_in_panic() {
    let usable = |unhealthy: usize, threshold: Option<f64>| {
        let mut all = assignment("c", &[("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)]);
        for endpoint in &mut all.endpoints[0].lb_endpoints[..unhealthy] {
            endpoint.health_status = core::HealthStatus::Unhealthy as i32;
        }
        let mut cluster = eds_cluster("c");
        cluster.common_lb_config = threshold.map(|value| cluster::cluster::CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value }),
            ..Default::default()
        });
        let now = Instant::now();
        let mut store = Store::default();
        take(&mut store, CLUSTER, &[pack_any(cluster)], now);
        take(&mut store, ENDPOINT, &[pack_any(all)], now);
        let snapshot = store.advance(now).expect("a snapshot");
        let plan = snapshot.clusters["c"].members().plan();
        plan.in_use().len()
    };
    assert_eq!(usable(0, None), 3);
    assert_eq!(usable(1, None), 2);
    assert_eq!(
        usable(2, None),
        3,
        "a third is healthy, less than the half that is needed"
    );
    assert_eq!(usable(2, Some(0.0)), 1);
    assert_eq!(usable(3, Some(0.0)), 0);
}

/// Where a request of listener `l` goes.
fn destination(snapshot: &Snapshot) -> &str {
    let manager = manager_of(&snapshot.listeners[0]);
    let table = manager.routes.as_ref().expect("routes");
    let RouteAction::Forward(forward) = &table.virtual_hosts[0].routes[0].action else {
        panic!("not forwarded");
    };
    &forward.clusters[0].name
}

#[test]
fn routes_wait_for_the_clusters_that_they_lead_to() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let clusters = [eds_cluster("c"), eds_cluster("d")].map(pack_any);
    take(&mut store, CLUSTER, &clusters, now);
    take(&mut store, ROUTE, &[pack_any(routes("r", "d"))], now);
    assert!(store.advance(now).is_none(), "d has no endpoints yet");
    take(
        &mut store,
        ENDPOINT,
        &[pack_any(assignment("d", &[("10.0.0.2", 1)]))],
        now,
    );
    let snapshot = store.advance(now).expect("both at once");
    assert_eq!(destination(&snapshot), "d");
    // A cluster that nobody knows is not waited for, and one that does not come not for ever.
    take(&mut store, ROUTE, &[pack_any(routes("r", "unknown"))], now);
    let snapshot = store.advance(now).expect("new routes");
    assert_eq!(destination(&snapshot), "unknown");
    let clusters = ["c", "d", "e"].map(|name| pack_any(eds_cluster(name)));
    take(&mut store, CLUSTER, &clusters, now);
    take(&mut store, ROUTE, &[pack_any(routes("r", "e"))], now);
    assert!(store.advance(now).is_none());
    let later = store.next_deadline().expect("a deadline");
    let snapshot = store.advance(later).expect("it has waited long enough");
    assert_eq!(destination(&snapshot), "e");
}

#[test]
fn changes_take_away_what_they_name() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let mut change = |type_url: &str, resources: &[Any], removed: &[&str]| {
        let removed: Vec<String> = removed.iter().map(|name| (*name).to_owned()).collect();
        let extent = Extent::Changes(&removed);
        let taken = store.apply(type_url, "v2", (resources, extent), now);
        taken.expect("accepted");
        store.advance(now)
    };
    let other = cluster::Cluster {
        name: "d".to_owned(),
        ..Default::default()
    };
    let snapshot = change(CLUSTER, &[pack_any(other)], &[]).expect("a second one");
    assert_eq!(snapshot.clusters.len(), 2);
    assert!(
        change(ENDPOINT, &[], &["c"]).is_none(),
        "endpoints stay with their cluster"
    );
    assert!(
        change(ROUTE, &[], &["r"]).is_none(),
        "routes with their listener"
    );
    let snapshot = change(CLUSTER, &[], &["c", "nobody"]).expect("one less");
    assert_eq!(snapshot.clusters.keys().collect::<Vec<_>>(), ["d"]);
    let snapshot = change(LISTENER, &[], &["l"]).expect("none");
    assert!(snapshot.listeners.is_empty());
}

#[test]
fn what_is_subscribed_to_is_held_until_it_is_let_go() {
    let now = Instant::now();
    let (mut store, _) = ready(now);
    let listener = |routes: &str| [pack_any(listener_with("l", 80, manager(routes)))];
    let is_routed = |snapshot: Snapshot| manager_of(&snapshot.listeners[0]).routes.is_some();

    // Its routes never come, so that it is used without them: the clock says so, not the control plane.
    take(&mut store, LISTENER, &listener("other"), now);
    let now = store.next_deadline().expect("it waits for routes");
    assert!(!is_routed(store.advance(now).expect("used as it is")));
    take(&mut store, LISTENER, &listener("r"), now);
    assert!(is_routed(store.advance(now).expect("they are still there")));

    take(&mut store, LISTENER, &listener("other"), now);
    let now = store.next_deadline().expect("it waits again");
    assert!(store.advance(now).is_some());
    store.forget_unused();
    take(&mut store, LISTENER, &listener("r"), now);
    assert!(store.advance(now).is_none(), "they are asked for anew");
}
