//! Metrics in Prometheus' text format, under istiod's names.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use crate::index::Severity;
use crate::monitoring::Monitoring;
use crate::sync_status::istio_version;

pub(crate) fn render(monitoring: &Monitoring) -> String {
    let state = monitoring.mesh.state();
    let proxies = monitoring.ads.proxies();
    let counters = monitoring.ads.counters();
    let index = &state.index;
    let errors = state
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error);

    let mut by_version: BTreeMap<&str, usize> = BTreeMap::new();
    for proxy in &proxies {
        *by_version.entry(istio_version(proxy)).or_default() += 1;
    }
    let mut text = String::new();
    head(
        &mut text,
        "pilot_xds",
        "gauge",
        "Proxies that are connected, by version",
    );
    for (version, count) in by_version {
        let version = version
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        line(
            &mut text,
            &format!("pilot_xds{{version=\"{version}\"}}"),
            count,
        );
    }
    let version = env!("CARGO_PKG_VERSION");
    head(
        &mut text,
        "pilot_info",
        "gauge",
        "The version of this control plane",
    );
    line(
        &mut text,
        &format!("pilot_info{{version=\"{version}\"}}"),
        1,
    );

    let mut gauge = |name, help, value: usize| {
        head(&mut text, name, "gauge", help);
        line(&mut text, name, value);
    };
    gauge(
        "pilot_services",
        "Services in the mesh",
        index.services().count(),
    );
    gauge(
        "pilot_virt_services",
        "VirtualServices in the mesh",
        index.virtual_services().len(),
    );
    gauge(
        "pilot_total_rejected_configs",
        "Complaints about files and resources that have no effect",
        errors.count(),
    );
    let uptime = monitoring.started.elapsed().as_secs();
    head(
        &mut text,
        "istiod_uptime_seconds",
        "gauge",
        "Seconds since the start",
    );
    line(&mut text, "istiod_uptime_seconds", uptime);

    let mut counter = |name, help, value: u64| {
        head(&mut text, name, "counter", help);
        line(&mut text, name, value);
    };
    counter(
        "pilot_xds_pushes",
        "Responses that were sent to proxies",
        counters.pushes,
    );
    counter(
        "pilot_total_xds_rejects",
        "Responses that proxies refused",
        counters.nacks,
    );
    counter(
        "pilot_xds_expired_nonce",
        "Requests that answered an outdated response",
        counters.stale_nonces,
    );
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{name} {value}");
}
