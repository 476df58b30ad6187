//! Metrics in Prometheus' text format, under istiod's names.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use periplus_identity::{CertificateServer, Facts, Reason, Standing};

use crate::index::{Index, Severity};
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
        let version = escaped(version);
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
    let known = monitoring.collectors.known();
    if !known.is_empty() {
        head(
            &mut text,
            "periplus_tracing_provider_reachable",
            "gauge",
            "Whether the collectors of tracing providers take connections from the control plane",
        );
    }
    for (provider, unreached) in known {
        let provider = escaped(&provider);
        line(
            &mut text,
            &format!("periplus_tracing_provider_reachable{{provider=\"{provider}\"}}"),
            u8::from(unreached.is_none()),
        );
    }
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
    let of_requests = monitoring.issuers.standings().into_iter();
    let of_requests = of_requests.map(|(issuer, standing)| ("requests", issuer, standing));
    let of_workloads = monitoring.authority.iter();
    let of_workloads = of_workloads.flat_map(|overseen| overseen.server.issuers());
    let of_workloads =
        of_workloads.map(|issuer| ("workloads", issuer.name().to_owned(), issuer.standing()));
    issuers(&mut text, of_requests.chain(of_workloads));
    secrets(&mut text, index);
    if let Some(overseen) = &monitoring.authority {
        authority(&mut text, &overseen.server);
        let name = "periplus_xds_refusals_total";
        let help = "Streams of proxies that were refused on the port with TLS, by reason";
        head(&mut text, name, "counter", help);
        for (reason, count) in overseen.refusals.counts() {
            line(&mut text, &format!("{name}{{reason=\"{reason}\"}}"), count);
        }
    }
    text
}

/// Whether issuers give the keys of their tokens: those of requests, and those of workloads.
fn issuers<'a>(text: &mut String, standings: impl Iterator<Item = (&'a str, String, Standing)>) {
    let all: Vec<_> = standings
        .map(|(of, issuer, standing)| {
            let issuer = escaped(&issuer);
            (format!("{{issuer=\"{issuer}\",of=\"{of}\"}}"), standing)
        })
        .collect();
    if all.is_empty() {
        return;
    }
    let name = "periplus_issuer_reachable";
    let help = "Whether an issuer of tokens gave its keys when it was asked last";
    head(text, name, "gauge", help);
    for (labels, standing) in &all {
        line(
            text,
            &format!("{name}{labels}"),
            u8::from(standing.trouble.is_none()),
        );
    }
    let name = "periplus_issuer_keys_timestamp";
    let help =
        "When an issuer of tokens gave its keys last, in seconds since 1970; 0 if it never did";
    head(text, name, "gauge", help);
    for (labels, standing) in &all {
        line(
            text,
            &format!("{name}{labels}"),
            standing.since.map_or(0, seconds),
        );
    }
}

/// The ends of what is in Secrets.
fn secrets(text: &mut String, index: &Index) {
    let mut parts = index.secrets().parts().peekable();
    if parts.peek().is_none() {
        return;
    }
    let name = "periplus_secret_expiry_timestamp";
    let help = "When a certificate in a Secret ends, its last authority, or its list of revoked certificates, in seconds \
                since 1970";
    head(text, name, "gauge", help);
    for (meta, _, part) in parts {
        let (namespace, secret, key) = (escaped(&meta.namespace), escaped(&meta.name), part.key);
        let labels = format!("{{namespace=\"{namespace}\",secret=\"{secret}\",key=\"{key}\"}}");
        line(text, &format!("{name}{labels}"), seconds(part.until));
    }
}

/// Since 1970.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// Those of the certificate authority: istiod's, and refusals by their reasons.
fn authority(text: &mut String, server: &CertificateServer) {
    let (authority, counts) = (server.authority(), server.counts());
    let ends = |facts: &Facts| seconds(facts.not_after);
    let now = seconds(SystemTime::now());
    let roots = authority.root_facts().iter().map(ends).min();
    let chain = authority.between_facts().iter().chain([authority.facts()]);
    let chain = chain.map(ends).min();
    let serving = counts.serving().as_ref().map(ends);
    let lists = authority.revocation_lists().iter();
    let lists = lists.map(|list| seconds(list.next_update)).min();
    for (name, what, end) in [
        ("citadel_server_root_cert", "the first of the roots", roots),
        (
            "citadel_server_cert_chain",
            "the certificate that signs, or the first of those between it and a root,",
            chain,
        ),
        (
            "periplus_control_cert",
            "the control plane's own certificate on its port with TLS",
            serving,
        ),
        (
            "periplus_revocation_list",
            "the first of the authority's lists of revoked certificates, which is its next update,",
            lists,
        ),
    ] {
        let Some(end) = end else { continue };
        let name = format!("{name}_expiry_timestamp");
        let help = format!("When {what} ends, in seconds since 1970");
        head(text, &name, "gauge", &help);
        line(text, &name, end);
        let name = name.replace("timestamp", "seconds");
        let help = format!("Seconds until {what} ends");
        head(text, &name, "gauge", &help);
        line(text, &name, end.saturating_sub(now));
    }
    let refused = |reasons: &[Reason]| reasons.iter().map(|it| counts.refused(*it)).sum();
    for (name, help, value) in [
        (
            "citadel_server_csr_count",
            "Requests for certificates",
            counts.requests(),
        ),
        (
            "citadel_server_success_cert_issuance_count",
            "Certificates that were issued",
            counts.issued(),
        ),
        (
            "citadel_server_authentication_failure_count",
            "Requests for certificates of unknown senders",
            refused(&[
                Reason::NoCredentials,
                Reason::BadToken,
                Reason::NoKeys,
                Reason::ExpiredToken,
                Reason::ForeignAudience,
                Reason::ForeignCertificate,
                Reason::ExpiredCertificate,
                Reason::RevokedCertificate,
                Reason::Contradiction,
            ]),
        ),
        (
            "citadel_server_csr_parsing_err_count",
            "Requests for certificates that could not be read",
            refused(&[Reason::MalformedCsr, Reason::TooLarge]),
        ),
    ] {
        head(text, name, "counter", help);
        line(text, name, value);
    }
    let name = "periplus_certificate_refusals_total";
    head(
        text,
        name,
        "counter",
        "Certificates that were refused, by reason",
    );
    for reason in Reason::ALL {
        let series = format!("{name}{{reason=\"{}\"}}", reason.name());
        line(text, &series, counts.refused(reason));
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn line(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{name} {value}");
}
