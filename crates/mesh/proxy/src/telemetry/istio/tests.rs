//! Labels, limits and the exchange of metadata.

use std::sync::Arc;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};

use super::*;
use crate::snapshot::{Cluster, ServiceName};

fn text(value: &str) -> Value {
    Value {
        kind: Some(Kind::StringValue(value.to_owned())),
    }
}

pub(super) fn node(workload: &str) -> Peer {
    let labels = Struct {
        fields: [("app", workload), ("version", "v1")]
            .map(|(key, value)| (key.to_owned(), text(value)))
            .into(),
    };
    let mut fields = std::collections::HashMap::from([
        ("NAMESPACE".to_owned(), text("default")),
        ("WORKLOAD_NAME".to_owned(), text(workload)),
        ("CLUSTER_ID".to_owned(), text("Kubernetes")),
    ]);
    let kind = Some(Kind::StructValue(labels));
    fields.insert("LABELS".to_owned(), Value { kind });
    let id = format!("sidecar~10.0.0.1~{workload}-0.default~default.svc.cluster.local");
    Peer::of_node(&id, Some(&Struct { fields })).expect("Istio's metadata")
}

fn metrics(list: &Arc<SeriesList>) -> Metrics {
    metrics_for(list, None)
}

fn metrics_for(list: &Arc<SeriesList>, expiry: Option<Duration>) -> Metrics {
    let own = node("productpage");
    Metrics::new(Some(&own), "id", (list.clone(), expiry), |_| None).expect("metadata")
}

#[test]
fn histograms_may_have_other_bounds() {
    let list = Arc::<SeriesList>::default();
    let own = node("productpage");
    let other = Arc::new(Bounds::new(vec![0.5, 5.0, 7.0]));
    let metrics = Metrics::new(Some(&own), "id", (list.clone(), None), |metric| {
        (metric == Metric::Duration).then(|| other.clone())
    });
    let metrics = metrics.expect("metadata");
    for millis in [0, 5, 6, 7, 8] {
        metrics.observe(&Observation {
            millis,
            ..seen(200)
        });
    }
    let mut page = String::new();
    // As of two workers.
    exposition([&*list, &*list].into_iter(), &mut page);
    let of = |metric: &str| -> Vec<(String, String)> {
        let lines = page.lines().filter(|line| line.starts_with(metric));
        let bound = |line: &str| {
            let (_, rest) = line.split_once("le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.to_owned(), count.to_owned()))
        };
        lines.filter_map(bound).collect()
    };
    let expected = [("0.5", "2"), ("5", "4"), ("7", "8"), ("+Inf", "10")];
    let expected = expected.map(|(bound, count)| (bound.to_owned(), count.to_owned()));
    assert_eq!(of("istio_request_duration_milliseconds_bucket"), expected);
    assert!(page.contains("istio_request_duration_milliseconds_sum"));
    assert_eq!(of("istio_request_bytes_bucket").len(), 20);
}

#[test]
fn what_others_say_of_a_peer_holds_until_it_speaks() {
    let cell = PeerCell::default();
    let said: Arc<str> = "reviews-v1;default;reviews;v1;c2".into();
    cell.suppose(Some(&said));
    let told = cell.get().expect("what is said");
    assert_eq!((&*told.workload, &*told.cluster), ("reviews-v1", "c2"));
    assert_eq!((&*told.app, &*told.canonical_revision), ("", "v1"));
    // Newer things are said, and nothing.
    let newer: Arc<str> = "reviews-v2;default;reviews;v2;c2".into();
    cell.suppose(Some(&newer));
    assert_eq!(cell.get().expect("what is said").workload, "reviews-v2");
    cell.suppose(None);
    assert_eq!(cell.get(), None);
    // What makes no sense is nothing.
    cell.suppose(Some(&"a;b;c".into()));
    assert_eq!(cell.get(), None);
    cell.suppose(Some(&said));
    cell.learn(node("details").text());
    cell.suppose(Some(&newer));
    assert_eq!(cell.get().expect("what it said").workload, "details");
    let again = PeerCell::default();
    again.take_over(&cell);
    assert_eq!(again.get(), cell.get());
}

fn cluster(name: &str) -> Service<'static> {
    of_cluster(name, None)
}

fn of_cluster(name: &str, service: Option<ServiceName>) -> Service<'static> {
    let cluster = Cluster {
        name: name.to_owned(),
        service,
        ..Cluster::default()
    };
    let named = Named::of(&cluster).expect("what is known of it");
    Service::named(Box::leak(Box::new(named)))
}

fn seen(status: u16) -> Observation<'static> {
    Observation {
        direction: Direction::Outbound,
        peer: None,
        service: cluster("outbound|9080|v1|reviews.default.svc.cluster.local"),
        peer_principal: None,
        own_principal: None,
        status,
        grpc: None,
        protocol: Protocol::Http,
        flags: Flags::default(),
        millis: 7,
        request_bytes: 200,
        response_bytes: 1000,
        messages: [0, 0],
        custom: None,
        now: 1,
    }
}

fn lines(list: &SeriesList, begin: &str) -> Vec<String> {
    let mut out = String::new();
    exposition([list].into_iter(), &mut out);
    let lines = out.lines().filter(|line| line.starts_with(begin));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_labels_are_those_of_istio() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    let told = PeerCell::default();
    told.learn(node("reviews").text());
    metrics.observe(&Observation {
        peer: told.get(),
        ..seen(200)
    });
    metrics.observe(&Observation {
        direction: Direction::Inbound,
        service: Service::called("productpage:9080"),
        peer_principal: Some("spiffe://cluster.local/ns/istio-system/sa/gateway"),
        own_principal: Some("spiffe://cluster.local/ns/default/sa/productpage"),
        ..seen(503)
    });
    assert_eq!(
        lines(&list, "istio_requests_total"),
        [
            "istio_requests_total{reporter=\"destination\",source_workload=\"unknown\",\
             source_canonical_service=\"unknown\",source_canonical_revision=\"latest\",\
             source_workload_namespace=\"istio-system\",\
             source_principal=\"spiffe://cluster.local/ns/istio-system/sa/gateway\",\
             source_app=\"unknown\",source_version=\"unknown\",source_cluster=\"unknown\",\
             destination_workload=\"productpage\",destination_canonical_service=\"productpage\",\
             destination_canonical_revision=\"v1\",destination_workload_namespace=\"default\",\
             destination_principal=\"spiffe://cluster.local/ns/default/sa/productpage\",\
             destination_app=\"productpage\",destination_version=\"v1\",\
             destination_cluster=\"Kubernetes\",destination_service=\"productpage:9080\",\
             destination_service_name=\"productpage:9080\",destination_service_namespace=\"default\",\
             request_protocol=\"http\",response_code=\"503\",grpc_response_status=\"\",\
             response_flags=\"-\",connection_security_policy=\"mutual_tls\"} 1",
            "istio_requests_total{reporter=\"source\",source_workload=\"productpage\",\
             source_canonical_service=\"productpage\",source_canonical_revision=\"v1\",\
             source_workload_namespace=\"default\",source_principal=\"unknown\",\
             source_app=\"productpage\",source_version=\"v1\",source_cluster=\"Kubernetes\",\
             destination_workload=\"reviews\",destination_canonical_service=\"reviews\",\
             destination_canonical_revision=\"v1\",destination_workload_namespace=\"default\",\
             destination_principal=\"unknown\",destination_app=\"reviews\",\
             destination_version=\"v1\",destination_cluster=\"Kubernetes\",\
             destination_service=\"reviews.default.svc.cluster.local\",\
             destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
             request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",\
             response_flags=\"-\",connection_security_policy=\"unknown\"} 1",
        ]
    );
}

#[test]
fn who_serves_what_has_no_name_is_known_where_it_is_served() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    for direction in [Direction::Inbound, Direction::Outbound] {
        metrics.observe(&Observation {
            direction,
            service: Service::default(),
            ..seen(404)
        });
    }
    let told = lines(&list, "istio_requests_total");
    for (line, service) in told.iter().zip(["productpage", "unknown"]) {
        let expected =
            format!("destination_service=\"{service}\",destination_service_name=\"{service}\"");
        assert!(line.contains(&expected), "{line}");
    }
    assert_eq!(told.len(), 2);
}

#[test]
fn histograms_have_the_bounds_of_envoy() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    for millis in [0, 1, 5, 6, 3_600_000, 3_600_001] {
        metrics.observe(&Observation {
            millis,
            ..seen(200)
        });
    }
    let counts: Vec<_> = lines(&list, "istio_request_duration_milliseconds_bucket")
        .iter()
        .map(|line| {
            let (_, bound) = line.split_once(",le=\"").expect("a bound");
            bound.replace("\"}", "")
        })
        .collect();
    assert_eq!(counts[..4], ["0.5 1", "1 2", "5 3", "10 4"]);
    assert_eq!(counts[18..], ["3600000 5", "+Inf 6"]);
    let sum = lines(&list, "istio_request_duration_milliseconds_sum");
    assert!(sum[0].ends_with("} 7200013"), "{sum:?}");
}

#[test]
fn more_series_than_there_may_be_are_counted_together() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    let of = |number: usize| format!("outbound|80||s{number}.default.svc.cluster.local");
    let names: Vec<_> = (0..MOST_SERIES + 5).map(of).collect();
    let observe = |name: &str, now: Micros| {
        metrics.observe(&Observation {
            service: cluster(name),
            now,
            ..seen(200)
        });
    };
    for name in &names {
        observe(name, 1);
    }
    assert_eq!(lines(&list, "istio_requests_total").len(), MOST_SERIES + 1);
    assert_eq!(list.overflow(), 5);
    let rest = lines(&list, "istio_requests_total{reporter=\"source\",overflow");
    assert_eq!(
        rest,
        ["istio_requests_total{reporter=\"source\",overflow=\"true\"} 5"]
    );
    // Those that nobody has used for a while make room.
    observe(&names[0], IDLE);
    observe("outbound|80||new.default.svc.cluster.local", IDLE + 2);
    let left = lines(&list, "istio_requests_total");
    assert_eq!(left.len(), 3, "the rest stays: {left:?}");
}

#[test]
fn peers_of_any_length_have_labels_of_some_length() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    let cell = PeerCell::default();
    cell.learn(node(&"x".repeat(600)).text());
    metrics.observe(&Observation {
        peer: cell.get(),
        ..seen(200)
    });
    let line = lines(&list, "istio_requests_total{").remove(0);
    let expected = format!("destination_workload=\"{}\",", "x".repeat(256));
    assert!(line.contains(&expected), "{line}");
    // Its workload, its canonical service and its application.
    assert_eq!(list.cut(), 3);
}

#[test]
fn what_one_worker_gives_up_is_told_as_long_as_another_has_it() {
    let lists = [(); 2].map(|()| Arc::<SeriesList>::default());
    let workers = lists.each_ref().map(metrics);
    let told = || {
        let mut out = String::new();
        exposition(lists.iter().map(|list| &**list), &mut out);
        let of_reviews = |line: &&str| line.contains("service_name=\"reviews\"");
        let value = |name: &str| {
            let line = out
                .lines()
                .filter(of_reviews)
                .find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        };
        [
            value("istio_requests_total{"),
            value("istio_request_bytes_sum{"),
            value("istio_request_bytes_count{"),
            value("istio_tcp_connections_opened_total{"),
        ]
    };
    let tcp = || Observation {
        protocol: Protocol::Tcp,
        ..seen(0)
    };
    for worker in &workers {
        worker.observe(&seen(200));
        worker.of_connection(&tcp()).opened.increment();
    }
    let both = [Some(2), Some(400), Some(2), Some(2)];
    assert_eq!(told(), both);
    // One of them has no more room: what it has not used for a while goes.
    for number in 0..=MOST_SERIES {
        let name = format!("outbound|80||s{number}.default.svc.cluster.local");
        let other = |seen| Observation {
            service: cluster(&name),
            now: IDLE + 2,
            ..seen
        };
        workers[0].observe(&other(seen(200)));
        // It may look for idle ones again.
        workers[0].refreshed.set(0);
        workers[0].of_connection(&other(tcp()));
    }
    assert_eq!(workers[0].series.borrow().len(), MOST_SERIES);
    assert_eq!((told(), told()), (both, both));
    workers[1].observe(&seen(200));
    assert_eq!(told(), [Some(3), Some(600), Some(3), Some(2)]);
    // It comes back to who has given it up.
    workers[0].refreshed.set(0);
    workers[0].observe(&Observation {
        now: 3 * IDLE,
        ..seen(200)
    });
    assert_eq!(told(), [Some(4), Some(800), Some(4), Some(2)]);
    assert_eq!(lists.each_ref().map(|list| list.forgotten()), [0, 0]);
}

#[test]
fn series_that_nobody_adds_to_go_when_they_are_told_to() {
    let longest = Duration::from_secs(60);
    let lists = [(); 2].map(|()| Arc::<SeriesList>::default());
    let workers = lists
        .each_ref()
        .map(|list| metrics_for(list, Some(longest)));
    let told = || {
        let mut out = String::new();
        exposition(lists.iter().map(|list| &**list), &mut out);
        let lines = out.lines();
        let lines = lines.filter(|line| {
            line.starts_with("istio_requests_total{")
                || line.starts_with("istio_tcp_connections_opened_total{")
        });
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .collect::<Vec<_>>()
    };
    let tcp = Observation {
        protocol: Protocol::Tcp,
        ..seen(0)
    };
    let open = workers[0].of_connection(&tcp);
    open.opened.increment();
    for (worker, now) in workers.iter().zip([1, 30_000_000]) {
        worker.observe(&Observation { now, ..seen(200) });
    }
    assert_eq!(told(), [1, 2]);
    let sweep = |now| workers.iter().for_each(|worker| worker.sweep(now));
    // One has nothing to say of it any more, and what it has said counts.
    sweep(70_000_000);
    assert_eq!(told(), [1, 2]);
    sweep(100_000_000);
    assert_eq!(told(), [1], "the connection is still there");
    drop(open);
    sweep(140_000_000);
    assert_eq!(told(), [1], "it has just ended");
    sweep(200_000_000);
    assert_eq!(told(), [0; 0]);
}

#[test]
fn what_is_no_metadata_is_passed_over() {
    let cell = PeerCell::default();
    for header in [&b"?"[..], b"AAAA", &[b'A'; 10_000]] {
        cell.learn(header);
        assert!(cell.get().is_none_or(|peer| peer.workload.is_empty()));
    }
    cell.learn(node("reviews").text());
    assert_eq!(cell.get().expect("known").workload, "reviews");
    cell.learn(b"?");
    assert_eq!(cell.get().expect("known").workload, "reviews");
    assert!(Peer::of_node("id", Some(&Struct::default())).is_none());
}

#[test]
fn ever_new_hosts_and_peers_take_no_more_room_than_there_is() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    let mut text = String::with_capacity(64);
    let count = 100_000;
    for number in 0..count {
        use std::fmt::Write as _;
        text.clear();
        write!(text, "host-{number}.example").expect("a String");
        metrics.observe(&Observation {
            service: Service::called(&text),
            peer_principal: Some(&text),
            // Half a minute goes by: not long enough for a series to be given up.
            now: 1 + number * 300,
            ..seen(200)
        });
    }
    let total: u64 = lines(&list, "istio_requests_total{")
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(lines(&list, "istio_requests_total{").len(), MOST_SERIES + 1);
    assert_eq!(total, count);
    assert_eq!(list.overflow(), count - MOST_SERIES as u64);
    assert_eq!(metrics.series.borrow().len(), MOST_SERIES);
}

#[test]
fn hosts_of_any_length_make_no_page_of_any_length() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    for number in 0..MOST_SERIES {
        let host = format!("{number}.{}", "ä".repeat(25_000));
        metrics.observe(&Observation {
            service: Service::called(&host),
            ..seen(404)
        });
        // What differs only where it is cut is the same.
        metrics.observe(&Observation {
            service: Service::called(&format!("{host}.")),
            ..seen(404)
        });
    }
    let mut out = String::new();
    exposition([&*list].into_iter(), &mut out);
    // A histogram more than there may be, with its labels.
    assert!(out.len() < 64 * 1024 * 1024 + 100_000, "{}", out.len());
    let told = |begin: &str| out.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!(told("istio_requests_total{"), MOST_SERIES);
    let longest = out.lines().map(str::len).max();
    assert!(longest < Some(2_000), "{longest:?}");
    let left_out = out
        .lines()
        .find_map(|line| line.strip_prefix("periplus_istio_series_left_out "));
    let left_out: usize = left_out.expect("a count").parse().expect("a number");
    let histograms = told("istio_request_duration_milliseconds_sum")
        + told("istio_request_bytes_sum")
        + told("istio_response_bytes_sum");
    assert_eq!(histograms + left_out, 3 * MOST_SERIES);
    assert!(left_out > 0);
    // The service and its name.
    assert_eq!((list.overflow(), list.cut()), (0, 2 * MOST_SERIES as u64));
}

#[test]
fn who_says_nothing_is_nobody_else() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    let cell = PeerCell::default();
    cell.learn(node("reviews").text());
    for peer in [None, cell.get(), None, cell.get()] {
        metrics.observe(&Observation { peer, ..seen(200) });
    }
    let series = lines(&list, "istio_requests_total{");
    assert_eq!(series.len(), 2, "{series:?}");
    for (line, workload) in series.iter().zip(["reviews", "unknown"]) {
        assert!(
            line.contains(&format!("destination_workload=\"{workload}\"")),
            "{line}"
        );
        assert!(line.ends_with("} 2"), "{line}");
    }
}

/// The three labels that name the service.
fn service_labels(list: &SeriesList) -> Vec<String> {
    let lines = lines(list, "istio_requests_total{");
    let of_line = |line: &String| {
        let from = line.find("destination_service=").expect("it is named");
        let to = line.find(",request_protocol").expect("it comes next");
        line[from..to]
            .replace("destination_service", "")
            .replace('"', "")
    };
    lines.iter().map(of_line).collect()
}

#[test]
fn services_are_called_what_their_clusters_say_else_what_routes_and_clients_do() {
    let named = |host, name, namespace| Some(ServiceName::new(host, name, namespace));
    let by_route = |route| Service::of(None, route, b"away.example:80");
    let passed = |name| Service::of_both(cluster(name), "away.example");
    for (service, direction, expected) in [
        // What the metadata say goes before the name of the cluster, and before what the client says.
        (
            of_cluster(
                "outbound|443||api.example.com",
                named("api.example.com", "api.example.com", "shop"),
            ),
            Direction::Outbound,
            "=api.example.com,_name=api.example.com,_namespace=shop",
        ),
        (
            of_cluster(
                "inbound|9080||",
                named("reviews.default.svc.cluster.local", "reviews", "elsewhere"),
            ),
            Direction::Inbound,
            "=reviews.default.svc.cluster.local,_name=reviews,_namespace=default",
        ),
        (
            cluster("outbound|9080|v1|reviews.shop.svc.cluster.local"),
            Direction::Outbound,
            "=reviews.shop.svc.cluster.local,_name=reviews,_namespace=shop",
        ),
        (
            passed("PassthroughCluster"),
            Direction::Outbound,
            "=away.example,_name=PassthroughCluster,_namespace=unknown",
        ),
        (
            cluster("PassthroughCluster"),
            Direction::Outbound,
            "=unknown,_name=PassthroughCluster,_namespace=unknown",
        ),
        (
            passed("InboundPassthroughCluster"),
            Direction::Inbound,
            "=away.example,_name=InboundPassthroughCluster,_namespace=default",
        ),
        (
            by_route("block_all"),
            Direction::Outbound,
            "=away.example:80,_name=BlackHoleCluster,_namespace=unknown",
        ),
        (
            by_route("allow_any"),
            Direction::Outbound,
            "=away.example:80,_name=PassthroughCluster,_namespace=unknown",
        ),
        (
            by_route("some_name"),
            Direction::Outbound,
            "=away.example:80,_name=away.example:80,_namespace=unknown",
        ),
        (
            Service::default(),
            Direction::Inbound,
            "=productpage,_name=productpage,_namespace=default",
        ),
    ] {
        let list = Arc::<SeriesList>::default();
        metrics(&list).observe(&Observation {
            service,
            direction,
            ..seen(200)
        });
        assert_eq!(service_labels(&list), [expected]);
    }
}

#[test]
fn services_that_are_called_otherwise_are_counted_apart() {
    let list = Arc::<SeriesList>::default();
    let metrics = metrics(&list);
    for service in [
        Service::of(None, "block_all", b"a"),
        Service::of(None, "allow_any", b"a"),
        Service::of(None, "", b"a"),
        Service::of(None, "", b"b"),
        Service::of_both(cluster("PassthroughCluster"), "a"),
        Service::of_both(cluster("PassthroughCluster"), "b"),
        Service::of_both(cluster("BlackHoleCluster"), "a"),
    ] {
        for _ in 0..2 {
            metrics.observe(&Observation {
                service,
                ..seen(200)
            });
        }
    }
    let all = lines(&list, "istio_requests_total{");
    assert_eq!(all.len(), 5, "{all:#?}");
    // They are called the same whether the route or the cluster says so.
    assert_eq!(all.iter().filter(|line| line.ends_with(" 4")).count(), 2);
}
