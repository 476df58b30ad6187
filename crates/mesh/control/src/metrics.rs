//! Metrics in Prometheus' text format, under istiod's names.

mod authority;
mod ends;
mod page;

use std::collections::{BTreeMap, HashSet};

use periplus_resources::Resolution;
use periplus_xds::server::Measures;

use self::page::Page;
use crate::generate::Conflict;
use crate::index::{Index, SHARED_MESH_HOST, Severity};
use crate::mesh::State;
use crate::monitoring::Monitoring;
use crate::proxy::is_subset;
use crate::sync_status::istio_version;

pub(crate) fn render(monitoring: &Monitoring) -> String {
    let state = monitoring.mesh.state();
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.gauges(
        ("pilot_info", "version"),
        "The version of this control plane",
        [(version, 1)],
    );
    let help = "The version of this control plane, as Istio's dashboards ask for it";
    page.head("istio_build", "gauge", help);
    let series = format!("istio_build{{component=\"pilot\",tag=\"{version}\"}}");
    page.line(&series, 1);
    page.gauge(
        "istiod_uptime_seconds",
        "Seconds since the start",
        monitoring.started.elapsed().as_secs(),
    );
    of_state(&mut page, &state);
    of_changes(&mut page, monitoring);
    of_streams(&mut page, monitoring);
    of_types(&mut page, &monitoring.ads.measures());
    of_what_is_missing(&mut page, monitoring);
    let known = monitoring.collectors.known();
    if !known.is_empty() {
        let known = known.iter();
        page.gauges(
            ("periplus_tracing_provider_reachable", "provider"),
            "Whether the collectors of tracing providers take connections from the control plane",
            known.map(|(provider, unreached)| (provider.as_str(), u8::from(unreached.is_none()))),
        );
    }
    let of_requests = monitoring.issuers.standings().into_iter();
    let of_requests = of_requests.map(|(issuer, standing)| ("requests", issuer, standing));
    let of_workloads = monitoring.authority.iter();
    let of_workloads = of_workloads.flat_map(|overseen| overseen.server.issuers());
    let of_workloads =
        of_workloads.map(|issuer| ("workloads", issuer.name().to_owned(), issuer.standing()));
    ends::of_issuers(&mut page, of_requests.chain(of_workloads));
    ends::of_secrets(&mut page, &state.index);
    if let Some(overseen) = &monitoring.authority {
        authority::render(&mut page, &overseen.server);
        page.counters(
            ("periplus_xds_refusals_total", "reason"),
            "Streams of proxies that were refused on the port with TLS, by reason",
            overseen.refusals.counts(),
        );
    }
    page.into_text()
}

/// What there is, and what is wrong with it.
fn of_state(page: &mut Page, state: &State) {
    let index = &state.index;
    let problems = state.problems.iter();
    let errors = problems.filter(|problem| problem.severity == Severity::Error);
    let problems = state.problems.iter();
    let shared = problems.filter(|problem| problem.code == SHARED_MESH_HOST);
    let pods = index.pods().iter();
    for (name, help, value) in [
        (
            "pilot_services",
            "Services in the mesh",
            index.services().count(),
        ),
        (
            "pilot_virt_services",
            "VirtualServices in the mesh",
            index.virtual_services().len(),
        ),
        (
            "pilot_total_rejected_configs",
            "Complaints about files and resources that have no effect",
            errors.count(),
        ),
        (
            "periplus_config_last_good",
            "Resources that hold in their last good form, because their documents are wrong now",
            state.last_good.len(),
        ),
        (
            "pilot_vservice_dup_domain",
            "Hosts that more than one VirtualService routes in sidecars",
            shared.count(),
        ),
        (
            "pilot_destrule_subsets",
            "Subsets that more than one DestinationRule of a namespace defines for a host",
            repeated_subsets(index),
        ),
        (
            "pilot_eds_no_instances",
            "Ports of services that nobody serves",
            unserved_ports(index),
        ),
        (
            "pilot_dns_cluster_without_endpoints",
            "Clusters of subsets whose endpoints would be looked up by DNS, and that have none",
            subsets_without_names(index),
        ),
        (
            "pilot_endpoint_not_ready",
            "Endpoints and pods that are not ready",
            index.unready(),
        ),
        (
            "pilot_no_ip",
            "Pods without an address",
            pods.filter(|pod| pod.spec.address.is_none()).count(),
        ),
    ] {
        page.gauge(name, help, value);
    }
}

fn repeated_subsets(index: &Index) -> usize {
    let mut seen = HashSet::new();
    let rules = index.destination_rules().iter();
    let subsets = rules.flat_map(|rule| {
        let place = (&rule.meta.namespace, &rule.spec.host);
        let subsets = rule.spec.subsets.iter();
        subsets.map(move |subset| (place, &subset.name))
    });
    subsets.filter(|subset| !seen.insert(*subset)).count()
}

fn unserved_ports(index: &Index) -> usize {
    let services = index.services().filter(|service| {
        service.spec.resolution == Resolution::Static && service.endpoints.is_empty()
    });
    services.map(|service| service.ports().len()).sum()
}

fn subsets_without_names(index: &Index) -> usize {
    let services = index.services().filter(|service| service.has_names());
    let without = services.map(|service| {
        let rules = index.connection_rules((&service.meta.namespace, None), service);
        let is_in = |labels| {
            let mut endpoints = service.endpoints.iter();
            endpoints.any(|endpoint| is_subset(labels, &endpoint.labels))
        };
        let empty = rules.subsets.iter().filter(|one| !is_in(&one.labels));
        empty.count() * service.ports().len()
    });
    without.sum()
}

/// What has changed so far.
fn of_changes(page: &mut Page, monitoring: &Monitoring) {
    let books = monitoring.books.read();
    page.counters(
        ("pilot_inbound_updates", "type"),
        "Resources that were added, changed or removed, by what they are about",
        books.updates.iter().map(|(kind, count)| (*kind, *count)),
    );
    page.counters(
        ("pilot_push_triggers", "type"),
        "States that were published, by what had changed",
        books.triggers.iter().map(|(kind, count)| (*kind, *count)),
    );
    page.counter(
        "provider_lookup_cluster_failures",
        "Providers of tracing whose service or port did not exist when a state was published",
        books.lost_providers,
    );
    page.histogram(
        "pilot_debounce_time",
        "Seconds from the first sign of a change until the files were read",
        &books.debounce,
    );
    page.histogram(
        "pilot_pushcontext_init_seconds",
        "Seconds that it took to make an index of the resources",
        &books.index,
    );
}

/// Who is connected, and how it goes with all of them together.
fn of_streams(page: &mut Page, monitoring: &Monitoring) {
    let proxies = monitoring.ads.proxies();
    let mut by_version: BTreeMap<&str, usize> = BTreeMap::new();
    for proxy in &proxies {
        *by_version.entry(istio_version(proxy)).or_default() += 1;
    }
    page.gauges(
        ("pilot_xds", "version"),
        "Proxies that are connected, by version",
        by_version,
    );
    let counters = monitoring.ads.counters();
    for (name, help, value) in [
        (
            "pilot_total_xds_rejects",
            "Responses that proxies refused",
            counters.nacks,
        ),
        (
            "pilot_xds_expired_nonce",
            "Requests that answered an outdated response",
            counters.stale_nonces,
        ),
        (
            "pilot_xds_write_timeout",
            "Streams that were ended because their proxies took nothing of what they were sent",
            counters.write_timeouts,
        ),
        (
            "periplus_xds_streams_total",
            "Streams of proxies that were opened",
            counters.streams,
        ),
        (
            "periplus_xds_streams_refused_total",
            "Streams that were refused, by a limit or on the port with TLS",
            counters.streams_refused,
        ),
        (
            "periplus_xds_clusters_let_go_total",
            "Clusters that proxies lost though the routes that they keep may name them",
            counters.clusters_let_go,
        ),
    ] {
        page.counter(name, help, value);
    }
    let cache = monitoring.mesh.cache();
    page.counters(
        ("xds_cache_reads", "type"),
        "Proxies that connected, by whether what they get was made already for others like them",
        [("hit", cache.hits), ("miss", cache.misses)],
    );
    page.gauge(
        "xds_cache_size",
        "For how many different proxies resources are kept",
        cache.size,
    );
}

/// What proxies do not get.
fn of_what_is_missing(page: &mut Page, monitoring: &Monitoring) {
    let conflicts = monitoring.mesh.conflicts();
    for (kind, name, help) in [
        (
            Conflict::Inbound,
            "pilot_conflict_inbound_listener",
            "Services that say another protocol of a workload's port than the one that counts",
        ),
        (
            Conflict::TcpOverTcp,
            "pilot_conflict_outbound_listener_tcp_over_current_tcp",
            "Ports of TCP without a listener, because another service has it",
        ),
        (
            Conflict::TcpOverHttp,
            "pilot_conflict_outbound_listener_tcp_over_current_http",
            "Ports of TCP without a listener, because services of HTTP share it",
        ),
    ] {
        page.gauge(name, help, conflicts.get(&kind).copied().unwrap_or(0));
    }
    page.counter(
        "pilot_sds_certificate_errors_total",
        "Certificates and authorities that proxies were to have, and that are not there",
        monitoring.mesh.missing_secrets(),
    );
}

/// How it goes with pushes.
fn of_types(page: &mut Page, measures: &Measures) {
    page.histogram(
        "pilot_proxy_convergence_time",
        "Seconds from the first sign of a change until a proxy that it concerns was sent all of it",
        &measures.convergence,
    );
    page.histogram(
        "pilot_proxy_queue_time",
        "Seconds from a new state until the stream of a proxy looked at it",
        &measures.queue,
    );
    page.histogram(
        "pilot_xds_send_time",
        "Seconds that responses waited until their proxies took them",
        &measures.send,
    );
    let types = || {
        measures
            .types
            .iter()
            .map(|(name, of_type)| (*name, of_type))
    };
    page.counters(
        ("pilot_xds_pushes", "type"),
        "Responses that were sent to proxies",
        types().map(|(name, it)| (name, it.pushes)),
    );
    for name in ["cds", "eds", "lds", "rds", "sds"] {
        let rejects = measures.types.get(name).map_or(0, |it| it.rejects);
        let help = format!("Responses of {} that proxies refused", name.to_uppercase());
        page.counter(&format!("pilot_xds_{name}_reject"), &help, rejects);
    }
    page.histograms(
        "pilot_xds_push_time",
        "Seconds that it took to find out what to send and to make a response of it",
        types().map(|(name, it)| (name, &it.push)),
    );
    page.histograms(
        "pilot_xds_config_size_bytes",
        "Sizes of responses",
        types().map(|(name, it)| (name, &it.size)),
    );
}
